"""The packed cache: jets of any layout in an Arrow file that is mapped into memory and read without copying.

Record batches of `JETS_PER_BATCH` jets hold the momenta under JetClass's names as lists of float32, further columns
under their own, ``jet_label``, and where every jet is from (``origin_file``, ``origin_entry``). It is plain Arrow IPC
("Feather V2") without compression: pyarrow, pandas, polars and awkward read it. Metadata makes it a cache of ours: what
was packed, at the schema (`KEY`), and checksums of the columns at each record batch (`BATCH_KEY`).
"""

from __future__ import annotations

import json
import mmap
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, Labels, need
from pyrino.data.jetclass import MOMENTA
from pyrino.data.labels import NUMBER, labels_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError
from pyrino.jets import Origins

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BATCH_KEY",
    "CHECKSUM",
    "ENTRY",
    "FILE",
    "JETS_PER_BATCH",
    "KEY",
    "VERSION",
    "Packed",
    "PackedReader",
    "checksum",
    "digest",
    "used_names",
]

#: Of the format: a reader refuses a later one.
VERSION = 1

#: Jets of a record batch: 12 MB, so that opening one costs nothing beside reading it.
JETS_PER_BATCH = 16384

#: Schema metadata: JSON of what was packed; under the same key with ".checksum" its checksum.
KEY = b"pyrino.pack"

#: Metadata of a record batch: JSON {number, jets, columns: {name: checksum}}, in the last one with `end`; under this
#: key with ".checksum" its checksum.
BATCH_KEY = b"pyrino.batch"

FILE, ENTRY = "origin_file", "origin_entry"
CHECKSUM = b".checksum"
_AGAIN = "pack it again with pyrino pack, or fetch it again if it is a copy"

Array = NDArray[Any]


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
        return PackedReader(source, file, self.verify)


class PackedReader(Reader):
    """Arrays of a chunk lie in the file's mapping, which lives as long as they do."""

    def __init__(self, source: Source, file: Any, verify: bool) -> None:
        import pyarrow as pa

        self._source, self._verify = source, verify
        self._about = _header(source, file.schema)
        extras, values = self._about["constituent_columns"], self._about["jet_columns"]
        self.columns = {name: "constituent" for name in extras if name not in MOMENTA}
        self.columns |= {name: "jet" for name in values if name not in (FILE, ENTRY)}
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
        others = [*values, FILE, ENTRY, *([NUMBER] if labels and NUMBER not in values else [])]
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
            _labels(found[NUMBER], labels) if labels else None,
            {name: found[name] for name in extras},
            {name: found[name] for name in values},
            self._origins(found[FILE], found[ENTRY]),
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
        return Origins(used_names(file, self.files), file - low, entry)

    def _load(self, number: int) -> _Batch:
        if self._batch is None or self._batch.number != number:
            self._batch = None
            record, metadata = self._file.get_batch_with_custom_metadata(number)
            text = (metadata or {}).get(BATCH_KEY, b"")
            if digest(text) != (metadata or {}).get(BATCH_KEY + CHECKSUM):
                raise self._damaged(f"the checksum of the description of record batch {number} does not fit")
            about = json.loads(text)
            if about["number"] != number or about["jets"] != record.num_rows:
                raise self._damaged(f"record batch {number} is not in its place")
            if not self.files:
                names = record.column(FILE).dictionary
                names.validate(full=True)  # pyarrow trusts what it reads: damage would end the process
                self.files = tuple(names.to_pylist())
            self._batch = _Batch(number, record, about, self._map)
        return self._batch

    def _check(self, batch: _Batch, found: Mapping[str, list[Array]]) -> None:
        """Every column of a record batch is compared with its checksum once."""
        checked = self._checked.setdefault(batch.number, set())
        for name in found.keys() - checked:
            names = used_names(found[name][0], self.files) if name == FILE else ()
            if checksum(found[name], names) != batch.about["columns"][name]:
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
        return RinoError(f"{self._source} is damaged: {what}: {_AGAIN}")

    def close(self) -> None:
        # The mapping ends with the last array in it.
        self._batch, self._file, self._map = None, None, None
        if hasattr(self._given, "close"):  # pyarrow's own reader has nothing to close
            self._given.close()


def _labels(numbers: NDArray[np.int64], about: Mapping[str, Any]) -> Labels:
    rule = "the files that were packed do not tell"
    names = tuple(about["names"])
    return labels_of({NUMBER: numbers}, numbers, numbers >= 0, rule, meaning=about["meaning"], names=names)


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
    if digest(metadata[KEY]) != metadata.get(KEY + CHECKSUM):
        raise RinoError(f"{source} is damaged: the checksum of its description does not fit: {_AGAIN}")
    about = json.loads(metadata[KEY])
    if about["version"] != VERSION:
        raise RinoError(
            f"{source} is a packed cache of version {about['version']}, and this pyrino reads version {VERSION}: "
            "upgrade pyrino, or pack the jets again"
        )
    written = {name: ("list", kind) for name, kind in about["constituent_columns"].items()}
    written |= {name: ("one", kind) for name, kind in about["jet_columns"].items()}
    if {field.name: _kind(field.type) for field in schema} != written or len(schema) != len(written):
        raise RinoError(f"{source} is damaged: its columns are not those of its description: {_AGAIN}")
    return about


def _kind(kind: pa.DataType) -> tuple[str, str]:
    """Whether a column has lists, and NumPy's name of its numbers' type."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return "list", _dtype(kind.value_type).str
    return "one", _dtype(kind.index_type if pa.types.is_dictionary(kind) else kind).str


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    return np.dtype(kind.to_pandas_dtype())


def digest(data: Any) -> bytes:
    import xxhash

    return xxhash.xxh3_64_hexdigest(data).encode()


def checksum(arrays: Iterable[Array], names: Sequence[str] = ()) -> str:
    """Of a column's bytes and lengths, and of the names that its numbers stand for."""
    import xxhash

    parts = [(array.nbytes, xxhash.xxh3_64_intdigest(array.data)) for array in arrays]
    return xxhash.xxh3_64_hexdigest(repr((parts, list(names))).encode())


def used_names(file: NDArray[np.int32], names: tuple[str, ...]) -> tuple[str, ...]:
    """Of the names those that numbers from the least to the greatest in `file` stand for."""
    return names[int(file.min()) : int(file.max()) + 1]
