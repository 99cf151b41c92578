"""`pack`: jets of any layout into one packed cache (see `pyrino.data.packed`)."""

from __future__ import annotations

import datetime
import json
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._arguments import checked
from pyrino._columns import offsets_of
from pyrino.bars import progress_bar
from pyrino.data import packed
from pyrino.data.chunk import Chunk
from pyrino.data.containers import container_of
from pyrino.data.jetclass import MOMENTA
from pyrino.data.labels import NUMBER
from pyrino.data.layout import open_file
from pyrino.data.nanoaod import JET
from pyrino.data.packed import (
    BATCH_KEY,
    CHECKSUM,
    ENTRY,
    FILE,
    KEY,
    VERSION,
    Packed,
    PackedReader,
    checksum,
    digest,
    used_names,
)
from pyrino.data.read import find_files, iterate
from pyrino.data.selection import Cuts, Selection, Tally
from pyrino.data.source import PathLike, Source
from pyrino.errors import RinoError, RinoWarning, level_of_caller, readable
from pyrino.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Unpack

__all__ = ["pack"]

_LOG = logging.getLogger("pyrino")

Array = NDArray[Any]


@checked
def pack(
    paths: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    columns: str | Iterable[str] = (),
    overwrite: bool = False,
    progress: bool = True,
    layout: str | None = None,
    on_error: str = "raise",
    **selection: Unpack[Cuts],
) -> Tally:
    """Write jets of any layout to one packed cache, which `read_jets` and `open_dataset` read as fast as memory.

    A jet of 44 constituents takes 0.74 kB. Memory stays bounded: no more than some 100,000 jets are held at a time.

    Parameters
    ----------
    paths : path or iterable of paths
        As `read_jets`; packed caches among them keep the origins of their jets.
    out : path
        The file; the suffix is ``.arrow``, so that it is found in a folder. It appears when it is complete. Bytes of
        the sources' names that are no UTF-8 stand in it as ``\\xe9``.
    columns : str or iterable of str
        Columns beyond momenta and label, of constituents and of jets. Constituents' are float32, if they are integers
        of more than 16 bits these; those of jets keep their precision. Of files with several jets an entry (NanoAOD)
        ``jet_in_event`` is packed, too, so that each jet can be told.
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

    chosen = Selection.of(columns=columns, **selection).passing_labels()
    for name in (FILE, ENTRY):
        if name in chosen.columns:
            raise RinoError(f"the column {name!r} cannot be packed: the cache has its own: leave it out of columns")
    if Path(out).suffix.lower() not in Packed.suffixes:
        raise RinoError(f"{out} would not be found in a folder: give a name that ends in {Packed.suffixes[0]}")
    sources = find_files(paths)
    for source in sources:
        if source.path is not None and source.path.resolve() == Path(out).resolve():
            raise RinoError(f"{out} is one of the files to pack: choose another name, or leave it out of the paths")
    tally = Tally()
    with whole_file(out, overwrite=overwrite) as partial, pa.OSFile(os.fsencode(partial), "wb") as file:
        writer = _Writer(file, chosen, _origin_names(sources, layout, on_error))
        with progress_bar(desc="packing", unit=" jets", unit_scale=True, disable=not progress) as bar:
            how: dict[str, Any] = {
                "layout": layout,
                "on_error": on_error,
                "most": 4 * packed.JETS_PER_BATCH,
                "identified": True,
            }
            pieces = iterate(sources, chosen, tally, **how)
            for source, chunk, entries in pieces:
                if len(entries):
                    writer.add(source, chunk, entries)
                    bar.update(len(entries))
        if not writer.jets:
            raise RinoError(f"no jet is left: {tally}: check the files and the selection")
        writer.finish(tally)
    _LOG.info("%s: %s", out, tally)
    if not tally.complete:
        warnings.warn(f"packing left out what is broken: {tally}", RinoWarning, stacklevel=level_of_caller())
    return tally


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
        self._writer: Any = None
        self.jets = 0

    def add(self, source: Source, chunk: Chunk, entries: NDArray[np.int64]) -> None:
        """Jets of a file, at least one."""
        part = self._part(source, chunk, entries)
        if self._writer is None:
            self._begin(chunk, part)
        self._waiting.append(self._as_before(source, part))
        self._held += len(entries)
        self.jets += len(entries)
        if self._held > packed.JETS_PER_BATCH:  # the last batch waits for `finish`, which marks it
            held = _Part.join(self._waiting)
            cuts = range(0, self._held, packed.JETS_PER_BATCH)
            for first in cuts[:-1]:
                self._write(held.cut(first, first + packed.JETS_PER_BATCH))
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
                f"{source}: a number of the jets {entries[0]} to {entries[-1]} is too large for float32: "
                "repair the file, or leave out the column"
            ) from error
        if chunk.labels is not None:
            labels = np.ascontiguousarray(chunk.labels.values, dtype=np.int64)
            if not np.array_equal(others.get(NUMBER, labels), labels):
                raise RinoError(f"{source}: the column {NUMBER} is not the jets' label: leave it out of columns")
            others[NUMBER] = labels
        files, file, entry = chunk.origins or ((str(source),), np.zeros(len(entries), np.int32), entries)
        used, place, jets = np.unique(file, return_inverse=True, return_counts=True)
        numbers = [self._numbers.setdefault(readable(files[number]), len(self._numbers)) for number in used.tolist()]
        for number, count in zip(numbers, jets.tolist(), strict=True):
            self._jets_of[number] = self._jets_of.get(number, 0) + count
        others |= {FILE: np.asarray(numbers, dtype=np.int32)[place], ENTRY: np.asarray(entry, dtype=np.int64)}
        return _Part(chunk.counts, lists, others)

    def _begin(self, chunk: Chunk, part: _Part) -> None:
        """The columns and their types are those of the first jets."""
        import pyarrow as pa

        labels = chunk.labels
        about = {
            "version": VERSION,
            "pyrino": _core.__version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "units": "GeV",
            "jets_per_batch": packed.JETS_PER_BATCH,
            "constituent_columns": {name: column.dtype.str for name, column in part.lists.items()},
            "jet_columns": {name: column.dtype.str for name, column in part.others.items()},
            "labels": labels and {"meaning": labels.meaning, "names": list(labels.names)},
            "selection": asdict(self._selection),
        }
        self._kinds = {name: column.dtype for name, column in (part.lists | part.others).items()}
        types = {name: pa.from_numpy_dtype(dtype) for name, dtype in self._kinds.items()}
        types |= {name: pa.list_(pa.field("item", types[name], nullable=False)) for name in part.lists}
        types[FILE] = pa.dictionary(pa.int32(), pa.string())
        text = json.dumps(about, default=lambda number: number.item()).encode()  # NumPy's numbers
        fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
        self._schema = pa.schema(fields, metadata={KEY: text, KEY + CHECKSUM: digest(text)})
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._writer = pa.ipc.new_file(self._file, self._schema, options=options)
        self._names = pa.array([], pa.string())

    def _as_before(self, source: Source, part: _Part) -> _Part:
        """The part in the types of the first one."""
        if JET in self._kinds and JET not in part.others:  # one jet an entry
            part.others[JET] = np.zeros(len(part.counts), dtype=self._kinds[JET])
        if JET in part.others and JET not in self._kinds:
            raise RinoError(
                f"{source} has several jets an entry, unlike the files before: name it first, or pack it alone"
            )

        def cast(name: str, column: Array) -> Array:
            if not np.can_cast(column.dtype, self._kinds[name], "safe"):
                raise RinoError(
                    f"{source}: {name} is {column.dtype} and was {self._kinds[name]} in the files before: "
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
        offsets = offsets_of(part.counts).astype(np.int32)
        names = tuple(self._numbers)
        if len(self._names) != len(names):
            self._names = pa.array(names, pa.string())
        arrays, checksums = [], {}
        for field in self._schema:
            if field.name in part.lists:
                values = part.lists[field.name]
                checksums[field.name] = checksum([offsets, values])
                buffers = [None, pa.py_buffer(offsets)]
                array = pa.Array.from_buffers(field.type, jets, buffers, children=[pa.array(values)])
            else:
                values = part.others[field.name]
                checksums[field.name] = checksum([values], used_names(values, names) if field.name == FILE else ())
                array = pa.array(values)
            if field.name == FILE:
                array = pa.DictionaryArray.from_arrays(array, self._names)
            arrays.append(array)
        about = {"number": self._batches, "jets": jets, "columns": checksums}
        text = json.dumps(about if end is None else about | {"end": end}).encode()
        record = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._writer.write_batch(record, custom_metadata={BATCH_KEY: text, BATCH_KEY + CHECKSUM: digest(text)})
        self._batches += 1


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
                names |= dict.fromkeys(reader.files if isinstance(reader, PackedReader) else (str(source),))
        except RinoError:
            if on_error == "raise":
                raise
    return list(map(readable, names))


def _stored(column: Array, real: type[np.floating[Any]]) -> Array:
    """The column in the type that it is written in; `real` is what float64 becomes."""
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind == "b" or (kind in "iuf" and size <= 2) or (kind == "f" and size == 4):
        return np.ascontiguousarray(column, dtype=np.float32)
    if kind == "f":
        return np.ascontiguousarray(column, dtype=real)
    return np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))
