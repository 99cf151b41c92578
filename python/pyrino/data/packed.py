"""The packed cache: jets of any layout in an Arrow file that is mapped into memory and read without copying.

Record batches of `JETS_PER_BATCH` jets hold the momenta under JetClass's names as lists of float32, further columns
under their own, ``jet_label``, and where every jet is from (``origin_file``, ``origin_entry``). It is plain Arrow IPC
("Feather V2") without compression: pyarrow, pandas, polars and awkward read it. Metadata makes it a cache of ours: what
was packed, at the schema (`KEY`), and checksums of the columns at each record batch (`BATCH_KEY`).
"""

from __future__ import annotations

import datetime
import json
import logging
import mmap
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, Labels, need
from pyrino.data.containers import container_of
from pyrino.data.jetclass import MOMENTA
from pyrino.data.labels import NUMBER
from pyrino.data.layout import Layout, Reader, open_file
from pyrino.data.read import find_files, iterate
from pyrino.data.selection import Selection, Tally
from pyrino.data.source import PathLike, Source
from pyrino.errors import RinoError, RinoWarning
from pyrino.files import whole_file
from pyrino.jets import Origins

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BATCH_KEY", "JETS_PER_BATCH", "KEY", "VERSION", "Packed", "pack"]

_LOG = logging.getLogger("pyrino")

#: Of the format: a reader refuses a later one.
VERSION = 1

#: Jets of a record batch: 12 MB, so that opening one costs nothing beside reading it.
JETS_PER_BATCH = 16384

#: Schema metadata: JSON of what was packed; under the same key with ".checksum" its checksum.
KEY = b"pyrino.pack"

#: Metadata of a record batch: JSON {number, jets, columns: {name: checksum}}, in the last one with `end`; under this
#: key with ".checksum" its checksum.
BATCH_KEY = b"pyrino.batch"

_FILE, _ENTRY = "origin_file", "origin_entry"
_CHECKSUM = b".checksum"
_AGAIN = "pack it again with pyrino pack, or fetch it again if it is a copy"

Array = NDArray[Any]


def pack(
    paths: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    columns: str | Iterable[str] = (),
    overwrite: bool = False,
    progress: bool = True,
    layout: str | None = None,
    on_error: str = "raise",
    **selection: Any,
) -> Tally:
    """Write jets of any layout to one packed cache, which `read_jets` and `open_dataset` read as fast as memory.

    A jet of 44 constituents takes 0.74 kB. Memory stays bounded: no more than some 100,000 jets are held at a time.

    Parameters
    ----------
    paths : path or iterable of paths
        As `read_jets`; packed caches among them keep the origins of their jets.
    out : path
        The file; the suffix is ``.arrow``, so that it is found in a folder. It appears when it is complete.
    columns : str or iterable of str
        Columns beyond momenta and label, of constituents and of jets. Constituents' are float32, if they are integers
        of more than 16 bits these; those of jets keep their precision.
    overwrite : bool
        Replace `out` if it exists.
    progress : bool
        Show the jets so far on standard error.
    layout, on_error
        As `read_jets`.
    **selection
        As `read_jets`: cuts on jets and constituents, a fraction.

    Returns
    -------
    Tally
        What was packed and what was left out; skips are a `RinoWarning`, too.

    Raises
    ------
    RinoError
        As `read_jets`; if `out` exists, is one of the files to read or cannot be written; a column's name is one of the
        format's own; a number does not fit into float32.

    Examples
    --------
    >>> rino.pack("JetClass/train_100M/*.root", "train.arrow", columns=["part_charge", "jet_sdmass"])
    >>> dataset = rino.open_dataset("train.arrow")
    """
    import pyarrow as pa
    from tqdm import tqdm

    chosen = Selection.of(columns=columns, **selection)
    for name in (_FILE, _ENTRY):
        if name in chosen.columns:
            raise RinoError(f"the column {name!r} cannot be packed: the cache has its own; leave it out of columns")
    if Path(out).suffix.lower() not in Packed.suffixes:
        raise RinoError(f"{out} would not be found in a folder: give a name that ends in {Packed.suffixes[0]}")
    sources = find_files(paths)
    for source in sources:
        if source.path is not None and source.path.resolve() == Path(out).resolve():
            raise RinoError(f"{out} is one of the files to pack: choose another name, or leave it out of the paths")
    tally = Tally()
    with whole_file(out, overwrite=overwrite) as partial, pa.OSFile(str(partial), "wb") as file:
        writer = _Writer(file, chosen, _origin_names(sources, layout, on_error))
        with tqdm(desc="packing", unit=" jets", unit_scale=True, disable=not progress) as bar:
            pieces = iterate(sources, chosen, tally, layout=layout, on_error=on_error, most=4 * JETS_PER_BATCH)
            for source, chunk, entries in pieces:
                if len(entries):
                    writer.add(source, chunk, entries)
                    bar.update(len(entries))
        if not writer.jets:
            raise RinoError(f"no jet is left: {tally}; check the files and the selection")
        writer.finish(tally)
    _LOG.info("%s: %s", out, tally)
    if not tally.complete:
        warnings.warn(f"packing left out what is broken: {tally}", RinoWarning, stacklevel=2)
    return tally


class Packed(Layout):
    """`pack`'s files.

    Parameters
    ----------
    verify
        Compare each column of a record batch with its checksum when a reader first reads it. Whoever cannot afford
        this (0.1 us a jet in the first pass) registers ``Packed(verify=False)`` with ``replace=True``.
    """

    name, title, container = "packed", "pyrino's packed cache: Arrow IPC", "Arrow"
    suffixes = (".arrow",)

    def __init__(self, *, verify: bool = True) -> None:
        self.verify = verify

    def recognise(self, file: Any) -> bool:
        return KEY in (file.schema.metadata or {})

    def reader(self, source: Source, file: Any) -> Reader:
        return _Reader(source, file, self.verify)


class _Reader(Reader):
    """Arrays of a chunk lie in the file's mapping, which lives as long as they do."""

    def __init__(self, source: Source, file: Any, verify: bool) -> None:
        import pyarrow as pa

        self._source, self._verify = source, verify
        self._about = _header(source, file.schema)
        extras, values = self._about["constituent_columns"], self._about["jet_columns"]
        self.columns = {name: "constituent" for name in extras if name not in MOMENTA}
        self.columns |= {name: "jet" for name in values if name not in (_FILE, _ENTRY)}
        self._map: mmap.mmap | None = None
        self._given = self._file = file
        #: Where the jets are from.
        self.files: tuple[str, ...] = ()
        self._checked: dict[int, set[str]] = {}
        self._batch: _Batch | None = None
        with self._whole():
            if source.path is not None:
                # A mapping of our own, because its pages are to be given back: see `_Batch`.
                with source.open() as opened:
                    self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                self._file = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
            batches = self._file.num_record_batches
            end = self._load(batches - 1).about.get("end") if batches else None
            if end is None or end["batches"] != batches:
                raise self._damaged("its record batches are not those that were written")
        self.entries = end["jets"]
        self.starts = np.arange(0, self.entries, self._about["jets_per_batch"], dtype=np.int64)

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        wanted = [name for name in dict.fromkeys(columns) if name not in MOMENTA]
        need(self._source, wanted, self.columns, "columns")
        extras = [name for name in wanted if self.columns[name] == "constituent"]
        values = [name for name in wanted if self.columns[name] == "jet"]
        labels = self._about["labels"]
        others = [*values, _FILE, _ENTRY, *([NUMBER] if labels and NUMBER not in values else [])]
        size = self._about["jets_per_batch"]
        begin = min(first // size, len(self.starts) - 1)
        with self._whole():
            parts = [
                self._part(n, max(first - n * size, 0), min(last - n * size, size), (*MOMENTA, *extras), others)
                for n in range(begin, max(-(-last // size), begin + 1))
            ]
            counts, *columns_of = zip(*parts, strict=True) if len(parts) > 1 else ((part,) for part in parts[0])
            joined = [of[0] if len(of) == 1 else np.concatenate(of) for of in (counts, *columns_of)]
        found = dict(zip((*MOMENTA, *extras, *others), joined[1:], strict=True))
        px, py, pz, e = (found[name] for name in MOMENTA)
        return Chunk(
            (px, py, pz, e),
            joined[0],
            Labels(found[NUMBER], labels["meaning"], tuple(labels["names"])) if labels else None,
            {name: found[name] for name in extras},
            {name: found[name] for name in values},
            self._origins(found[_FILE], found[_ENTRY]),
        )

    def label_meaning(self) -> str | None:
        labels = self._about["labels"]
        return labels and labels["meaning"]

    def spans(self, rows: int, most: int) -> list[tuple[int, int]]:
        """As every reader's, but no piece has jets of two record batches: those would be copied."""
        return super().spans(min(rows, self._about["jets_per_batch"]), most)

    def _part(self, number: int, first: int, last: int, lists: Sequence[str], others: Sequence[str]) -> list[Array]:
        """Jets `first` to `last` - 1 of a record batch: their counts, then the columns."""
        batch = self._load(number)
        found = {name: batch.arrays(name) for name in (*lists, *others)}
        if self._verify:
            self._check(batch, found)
        offsets = found[lists[0]][0]
        if any(not np.array_equal(found[name][0], offsets) for name in lists[1:]):
            raise self._damaged(f"the columns of record batch {number} have jets of different lengths")
        counts = np.diff(offsets[first : last + 1]).astype(np.int64)
        begin, end = int(offsets[first]), int(offsets[last])
        if counts.min(initial=0) < 0 or begin < 0 or any(end > len(found[name][1]) for name in lists):
            raise self._damaged(f"record batch {number} has jets that lie outside of it")
        return [
            counts,
            *(found[name][1][begin:end] for name in lists),
            *(found[name][0][first:last] for name in others),
        ]

    def _origins(self, file: NDArray[np.int32], entry: NDArray[np.int64]) -> Origins:
        """Of the files' names those of these jets: neighbours are from a few files, of maybe thousands."""
        if not len(file):
            return Origins((), file, entry)
        low = file.min()
        if low < 0 or file.max() >= len(self.files):
            raise self._damaged("jets are from files that it does not name")
        return Origins(_used(file, self.files), file - low, entry)

    def _load(self, number: int) -> _Batch:
        if self._batch is None or self._batch.number != number:
            self._batch = None
            record, metadata = self._file.get_batch_with_custom_metadata(number)
            text = (metadata or {}).get(BATCH_KEY, b"")
            if _digest(text) != (metadata or {}).get(BATCH_KEY + _CHECKSUM):
                raise self._damaged(f"the checksum of the description of record batch {number} does not fit")
            about = json.loads(text)
            if about["number"] != number or about["jets"] != record.num_rows:
                raise self._damaged(f"record batch {number} is not in its place")
            if not self.files:
                names = record.column(_FILE).dictionary
                names.validate(full=True)  # pyarrow trusts what it reads: damage would end the process
                self.files = tuple(names.to_pylist())
            self._batch = _Batch(number, record, about, self._map)
        return self._batch

    def _check(self, batch: _Batch, found: Mapping[str, list[Array]]) -> None:
        """Every column of a record batch is compared with its checksum once."""
        checked = self._checked.setdefault(batch.number, set())
        for name in found.keys() - checked:
            names = _used(found[name][0], self.files) if name == _FILE else ()
            if _checksum(found[name], names) != batch.about["columns"][name]:
                first = batch.number * self._about["jets_per_batch"]
                raise self._damaged(
                    f"the checksum of {name} in record batch {batch.number} (jets {first} to "
                    f"{first + batch.about['jets'] - 1}) does not fit"
                )
            checked.add(name)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Turns what pyarrow raises over damaged bytes into an error that says what to do."""
        try:
            yield
        except (RinoError, MemoryError):
            raise
        except Exception as error:  # of every kind
            reason = (str(error).strip().splitlines() or [""])[0]
            raise self._damaged(f"{type(error).__name__}: {reason}") from error

    def _damaged(self, what: str) -> RinoError:
        return RinoError(f"{self._source} is damaged: {what}; {_AGAIN}")

    def close(self) -> None:
        # The mapping ends with the last array in it.
        self._batch, self._file, self._map = None, None, None
        if hasattr(self._given, "close"):  # pyarrow's own reader has nothing to close
            self._given.close()


class _Batch:
    """A record batch; its columns as arrays of the file's bytes.

    Pages of a mapping count as this process's memory until they are given back, so that a long stream would seem to
    hold whole files. They are given back when a column's last array goes; the operating system still has them cached.
    """

    def __init__(self, number: int, record: pa.RecordBatch, about: dict[str, Any], mapping: mmap.mmap | None) -> None:
        self.number, self.about = number, about
        self._record, self._mapping = record, mapping
        self._address = 0 if mapping is None else np.frombuffer(mapping, np.uint8, 1).ctypes.data

    def arrays(self, name: str) -> list[Array]:
        """[offsets, values] of a column of lists, [values] of another: all that its bytes say."""
        import pyarrow as pa

        column = self._record.column(name)
        kind, buffers = column.type, column.buffers()
        if pa.types.is_list(kind):
            return [self._array(buffers[1], np.dtype(np.int32)), self._array(buffers[3], _dtype(kind.value_type))]
        if pa.types.is_dictionary(kind):
            return [self._array(buffers[1], np.dtype(np.int32))]
        return [self._array(buffers[1], _dtype(kind))]

    def _array(self, buffer: pa.Buffer, dtype: np.dtype[Any]) -> Array:
        array: Array = np.frombuffer(buffer, dtype)
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            begin = buffer.address - self._address
            if not 0 <= begin <= len(self._mapping) - buffer.size:
                return array  # a copy, as pyarrow makes where bytes lie crookedly
            start = begin // mmap.PAGESIZE * mmap.PAGESIZE
            forget = self._mapping.madvise
            weakref.finalize(array, forget, mmap.MADV_DONTNEED, start, begin + buffer.size - start).atexit = False
        return array


@dataclass(frozen=True)
class _Part:
    """Jets on their way into the file, in the types that it has."""

    counts: NDArray[np.int64]
    lists: dict[str, Array]
    others: dict[str, Array]

    @classmethod
    def join(cls, parts: Sequence[_Part]) -> _Part:
        """Parts one after the other."""
        return cls(
            np.concatenate([part.counts for part in parts]),
            {name: np.concatenate([part.lists[name] for part in parts]) for name in parts[0].lists},
            {name: np.concatenate([part.others[name] for part in parts]) for name in parts[0].others},
        )

    def cut(self, first: int, last: int) -> _Part:
        """Jets `first` to `last` - 1."""
        begin = int(self.counts[:first].sum())
        end = begin + int(self.counts[first:last].sum())
        return _Part(
            self.counts[first:last],
            {name: column[begin:end] for name, column in self.lists.items()},
            {name: column[first:last] for name, column in self.others.items()},
        )


class _Writer:
    """Collects chunks into record batches of equal size."""

    def __init__(self, file: pa.NativeFile, selection: Selection, files: Iterable[str]) -> None:
        self._file, self._selection = file, selection
        # Named before the first jet, because polars takes no names that come later.
        self._numbers = {name: number for number, name in enumerate(files)}
        self._jets_of: dict[int, int] = {}
        self._waiting: list[_Part] = []
        self._held = 0
        self._batches = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        self.jets = 0

    def add(self, source: Source, chunk: Chunk, entries: NDArray[np.int64]) -> None:
        """Jets of a file, at least one."""
        part = self._part(source, chunk, entries)
        if self._writer is None:
            self._begin(chunk, part)
        self._waiting.append(self._as_before(source, part))
        self._held += len(entries)
        self.jets += len(entries)
        if self._held > JETS_PER_BATCH:  # the last batch waits for `finish`, which marks it
            held = _Part.join(self._waiting)
            cuts = range(0, self._held, JETS_PER_BATCH)
            for first in cuts[:-1]:
                self._write(held.cut(first, first + JETS_PER_BATCH))
            # Copied, so that what was written goes.
            self._waiting = [_Part.join([held.cut(cuts[-1], self._held)])]
            self._held -= cuts[-1]

    def finish(self, tally: Tally) -> None:
        """Writes what is left, and what all of it was."""
        end = {
            "jets": self.jets,
            "batches": self._batches + 1,
            "jets_of_files": [self._jets_of.get(number, 0) for number in range(len(self._numbers))],
            "layouts": dict(tally.layouts),
            "left_out": {"cut": tally.cut, "bad_jets": tally.bad_jets, "files": len(tally.skipped)},
        }
        self._write(_Part.join(self._waiting), end)
        self._writer.close()

    def _part(self, source: Source, chunk: Chunk, entries: NDArray[np.int64]) -> _Part:
        try:
            with np.errstate(over="raise"):
                lists = {name: _stored(column, np.float32) for name, column in chunk.extras.items()}
                lists = dict(zip(MOMENTA, (_stored(c, np.float32) for c in chunk.momenta), strict=True)) | lists
                others = {name: _stored(column, np.float64) for name, column in chunk.values.items()}
        except FloatingPointError as error:
            raise RinoError(
                f"{source}: a number of the jets {entries[0]} to {entries[-1]} is too large for float32; "
                "repair the file, or leave out the column"
            ) from error
        if chunk.labels is not None:
            labels = np.ascontiguousarray(chunk.labels.values, dtype=np.int64)
            if not np.array_equal(others.get(NUMBER, labels), labels):
                raise RinoError(f"{source}: the column {NUMBER} is not the jets' label; leave it out of columns")
            others[NUMBER] = labels
        files, file, entry = chunk.origins or ((str(source),), np.zeros(len(entries), np.int32), entries)
        used, place, jets = np.unique(file, return_inverse=True, return_counts=True)
        numbers = [self._numbers.setdefault(files[number], len(self._numbers)) for number in used.tolist()]
        for number, count in zip(numbers, jets.tolist(), strict=True):
            self._jets_of[number] = self._jets_of.get(number, 0) + count
        others |= {_FILE: np.asarray(numbers, dtype=np.int32)[place], _ENTRY: np.asarray(entry, dtype=np.int64)}
        return _Part(chunk.counts, lists, others)

    def _begin(self, chunk: Chunk, part: _Part) -> None:
        """The columns and their types are those of the first jets."""
        import pyarrow as pa

        import pyrino

        labels = chunk.labels
        about = {
            "version": VERSION,
            "pyrino": pyrino.__version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "units": "GeV",
            "jets_per_batch": JETS_PER_BATCH,
            "constituent_columns": {name: column.dtype.str for name, column in part.lists.items()},
            "jet_columns": {name: column.dtype.str for name, column in part.others.items()},
            "labels": labels and {"meaning": labels.meaning, "names": list(labels.names)},
            "selection": asdict(self._selection),
        }
        self._kinds = {name: column.dtype for name, column in (part.lists | part.others).items()}
        types = {name: pa.from_numpy_dtype(dtype) for name, dtype in self._kinds.items()}
        types |= {name: pa.list_(pa.field("item", types[name], nullable=False)) for name in part.lists}
        types[_FILE] = pa.dictionary(pa.int32(), pa.string())
        text = json.dumps(about, default=lambda number: number.item()).encode()  # NumPy's numbers
        fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
        self._schema = pa.schema(fields, metadata={KEY: text, KEY + _CHECKSUM: _digest(text)})
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._writer = pa.ipc.new_file(self._file, self._schema, options=options)
        self._names = pa.array([], pa.string())

    def _as_before(self, source: Source, part: _Part) -> _Part:
        """The part in the types of the first one."""

        def cast(name: str, column: Array) -> Array:
            if not np.can_cast(column.dtype, self._kinds[name], "safe"):
                raise RinoError(
                    f"{source}: {name} is {column.dtype} and was {self._kinds[name]} in the files before; "
                    "pack such files one by one"
                )
            return column.astype(self._kinds[name], copy=False)

        return _Part(
            part.counts,
            {name: cast(name, column) for name, column in part.lists.items()},
            {name: cast(name, column) for name, column in part.others.items()},
        )

    def _write(self, part: _Part, end: Mapping[str, Any] | None = None) -> None:
        import pyarrow as pa

        jets = len(part.counts)
        offsets = np.zeros(jets + 1, dtype=np.int32)
        np.cumsum(part.counts, out=offsets[1:])
        names = tuple(self._numbers)
        if len(self._names) != len(names):
            self._names = pa.array(names, pa.string())
        arrays, checksums = [], {}
        for field in self._schema:
            if field.name in part.lists:
                values = part.lists[field.name]
                checksums[field.name] = _checksum([offsets, values])
                buffers = [None, pa.py_buffer(offsets)]
                array = pa.Array.from_buffers(field.type, jets, buffers, children=[pa.array(values)])
            else:
                values = part.others[field.name]
                checksums[field.name] = _checksum([values], _used(values, names) if field.name == _FILE else ())
                array = pa.array(values)
            if field.name == _FILE:
                array = pa.DictionaryArray.from_arrays(array, self._names)
            arrays.append(array)
        about = {"number": self._batches, "jets": jets, "columns": checksums}
        text = json.dumps(about if end is None else about | {"end": end}).encode()
        record = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._writer.write_batch(record, custom_metadata={BATCH_KEY: text, BATCH_KEY + _CHECKSUM: _digest(text)})
        self._batches += 1


def _header(source: Source, schema: pa.Schema) -> dict[str, Any]:
    """What the schema's metadata says, if it is sound and of a version that is known.

    Raises
    ------
    RinoError
        If it is not.
    """
    metadata = schema.metadata or {}
    if KEY not in metadata:
        raise RinoError(f"{source} is no packed cache: it is Arrow without {KEY.decode()} in its metadata")
    if _digest(metadata[KEY]) != metadata.get(KEY + _CHECKSUM):
        raise RinoError(f"{source} is damaged: the checksum of its description does not fit; {_AGAIN}")
    about = json.loads(metadata[KEY])
    if about["version"] != VERSION:
        raise RinoError(
            f"{source} is a packed cache of version {about['version']}, and this pyrino reads version {VERSION}: "
            "upgrade pyrino, or pack the jets again"
        )
    written = {name: ("list", kind) for name, kind in about["constituent_columns"].items()}
    written |= {name: ("one", kind) for name, kind in about["jet_columns"].items()}
    if {field.name: _kind(field.type) for field in schema} != written or len(schema) != len(written):
        raise RinoError(f"{source} is damaged: its columns are not those of its description; {_AGAIN}")
    return about


def _origin_names(sources: Iterable[Source], layout: str | None, on_error: str) -> list[str]:
    """Of the files and, for packed ones, of those that their jets are from."""
    names: dict[str, None] = {}
    for source in sources:
        try:
            container = container_of(source)
            if container is None or container.name != "Arrow":
                names[str(source)] = None
                continue
            with open_file(source, layout) as (_, reader):
                names |= dict.fromkeys(reader.files if isinstance(reader, _Reader) else (str(source),))
        except RinoError:
            if on_error == "raise":
                raise
    return list(names)


def _stored(column: Array, real: type[np.floating[Any]]) -> Array:
    """The column in the type that it is written in; `real` is what float64 becomes."""
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind == "b" or (kind in "iuf" and size <= 2) or (kind == "f" and size == 4):
        return np.ascontiguousarray(column, dtype=np.float32)
    if kind == "f":
        return np.ascontiguousarray(column, dtype=real)
    return np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))


def _used(file: NDArray[np.int32], names: tuple[str, ...]) -> tuple[str, ...]:
    """Of the names those that numbers from the least to the greatest in `file` stand for."""
    return names[int(file.min()) : int(file.max()) + 1]


def _kind(kind: pa.DataType) -> tuple[str, str]:
    """Whether a column has lists, and NumPy's name of its numbers' type."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return "list", _dtype(kind.value_type).str
    return "one", _dtype(kind.index_type if pa.types.is_dictionary(kind) else kind).str


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    return np.dtype(kind.to_pandas_dtype())


def _digest(data: Any) -> bytes:
    import xxhash

    return xxhash.xxh3_64_hexdigest(data).encode()


def _checksum(arrays: Iterable[Array], names: Sequence[str] = ()) -> str:
    """Of a column's bytes and lengths, and of the names that its numbers stand for."""
    import xxhash

    parts = [(array.nbytes, xxhash.xxh3_64_intdigest(array)) for array in arrays]
    return xxhash.xxh3_64_hexdigest(repr((parts, list(names))).encode())
