"""Generated jets in the layouts of public data sets: which files, what is there already, and how they come about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RinoError
from ..files import whole_file
from .files import difference
from .layouts import FileLayout, GeneratedJets, Part

if TYPE_CHECKING:
    from .domains import Domain
    from .unit import Unit

__all__ = ["UNITS_FOLDER", "Request", "request_of", "write_layout"]

#: Beside the files of a layout: the unit files they are made from, and a record of what was written.
UNITS_FOLDER = ".pyrino-units"

#: Raised whenever a writer changes what it writes of the same units.
_REVISION = 1
#: Units whose jets are given to a writer at once: some 50 MB.
_UNITS_AT_ONCE = 10
_SUFFIXES = (".root", ".parquet", ".h5", ".hdf5", ".npz")
_SAME = {".hdf5": ".h5"}


@dataclass(frozen=True)
class _File:
    """One file to write: jets `first` to `last` - 1 of the request, those that `part` selects."""

    path: Path
    part: Part
    first: int
    last: int


@dataclass(frozen=True)
class Request:
    """What is to be written where."""

    layout: FileLayout
    process: str
    folder: Path
    name: str | None
    """Of the one file that was asked for; None: those of the data set."""

    @property
    def units_folder(self) -> Path:
        return self.folder / UNITS_FOLDER

    def files(self, units: Sequence[Unit], jets: int) -> list[_File]:
        """The files of a request for `jets` jets."""
        domain = units[0].domain
        if self.name is not None:
            name = self.name
            return [_File(self.folder / name, Part(lambda _: name), 0, jets)]
        size = self.layout.jets_per_file or jets
        return [
            _File(self.folder / part.name(number), part, first, min(first + size, jets))
            for part in self.layout.parts(self.process, domain)
            for number, first in enumerate(range(0, jets, size))
        ]


def request_of(layout: FileLayout, process: str, out: Path) -> Request:
    """Understand `out`: a folder, or one file where it ends in a suffix of a data set's files.

    Raises
    ------
    RinoError
        If the layout cannot hold the process, or the suffix is not the layout's.
    """
    if process in layout.refused:
        raise RinoError(
            f"jets of the process {process!r} cannot be written as {layout.name}: {layout.refused[process]}: "
            "choose another process or another layout"
        )
    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in _SUFFIXES:
        return Request(layout, process, out, None)
    if _SAME.get(suffix, suffix) != _SAME.get(layout.suffix, layout.suffix):
        raise RinoError(
            f"{out} ends in {suffix}, but files of the layout {layout.name} end in {layout.suffix}: "
            "give such a name, or that of a folder"
        )
    return Request(layout, process, out.parent, out.name)


def write_layout(
    request: Request, units: Sequence[Unit], configuration: dict[str, Any], make_units: Callable[[], list[Path]]
) -> list[Path]:
    """Write the files of a request unless they are there.

    Parameters
    ----------
    request : Request
    units : sequence of Unit
        Of the jets that are asked for.
    configuration : dict
        All that decides the jets.
    make_units : callable
        Generates the units' files, which is called if need be.

    Raises
    ------
    RinoError
        Files of the same names are there that hold something else, or a file cannot be written.
    """
    layout = request.layout
    jets = sum(unit.jets for unit in units)
    wanted = {"layout": layout.name, "revision": _REVISION, **configuration}
    files = request.files(units, jets)
    records = [_Record.read(request.units_folder, file.path) for file in files]
    # All files are looked at before any work is done.
    for file, record in zip(files, records, strict=True):
        found = _stranger(file, record, wanted)
        if found:
            raise RinoError(f"{file.path} exists but {found}; delete it, or choose another output folder or file name")
    stale = [f for f, record in zip(files, records, strict=True) if not (record and record.holds(wanted, f))]
    paths = make_units() if stale else []
    for file in stale:
        record = _Record(wanted, 0, None)
        record.write(request.units_folder, file.path)  # first: an interrupted call knows its own file again
        if file.part.select is None or any(len(piece) for piece in _pieces(layout, units, paths, file)):
            with whole_file(file.path) as partial:
                _written(layout, partial, _pieces(layout, units, paths, file), units[0].domain)
            record.size = file.path.stat().st_size
        record.last = file.last
        record.write(request.units_folder, file.path)
    return [file.path for file in files if file.path.exists()]


def _stranger(file: _File, record: _Record | None, wanted: dict[str, Any]) -> str:
    """Why a file that is there must not be replaced; "" where it may be, or there is none."""
    if not file.path.exists():
        return ""
    if record is None:
        return "was not written by this command"
    if record.wanted != wanted:
        return f"was generated with another configuration ({difference(record.wanted, wanted)})"
    if record.last and record.size != file.path.stat().st_size:
        return "has changed since it was written"
    return ""


def _written(layout: FileLayout, path: Path, pieces: Iterator[GeneratedJets], domain: Domain) -> None:
    try:
        layout.write(path, pieces, domain)
    except (RinoError, OSError, MemoryError):
        raise
    except Exception as error:  # HDF5 and ROOT report a full disk by errors of their own
        raise RinoError(
            f"the layout {layout.name} cannot be written ({type(error).__name__}: {error}); is there room for it?"
        ) from error


@dataclass
class _Record:
    """What was written to a file, kept as JSON in the units' folder.

    Attributes
    ----------
    wanted : dict
        All that decides its content but the number of jets.
    last : int
        It holds the jets up to this one of the request; 0 while unfinished.
    size : int or None
        Bytes; None where no jet belongs there, and there is no file.
    """

    wanted: dict[str, Any]
    last: int
    size: int | None

    @classmethod
    def read(cls, folder: Path, file: Path) -> _Record | None:
        try:
            document = json.loads((folder / f"{file.name}.json").read_text())
            return cls(document["wanted"], document["last"], document["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path, file: Path) -> None:
        with whole_file(folder / f"{file.name}.json") as partial:
            partial.write_text(json.dumps(self.__dict__, indent=1))

    def holds(self, wanted: dict[str, Any], file: _File) -> bool:
        """Whether the file is there as it was written, with the jets that are wanted."""
        size = file.path.stat().st_size if file.path.is_file() else None
        return self.wanted == wanted and self.last >= file.last and self.size == size


def _pieces(layout: FileLayout, units: Sequence[Unit], paths: Sequence[Path], file: _File) -> Iterator[GeneratedJets]:
    """The jets of a file, some units at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = units[0].domain.unit_jets
    tables, begin = [], file.first
    for unit, path in zip(units, paths, strict=True):
        start = unit.index * size
        first, last = max(file.first, start), min(file.last, start + unit.jets)
        if first < last:
            rows = slice((first - start) * layout.showers, (last - start) * layout.showers)
            with open(path, "rb") as whole:
                tables.append(pq.read_table(whole)[rows])
        if tables and (len(tables) == _UNITS_AT_ONCE or last >= file.last):
            jets = GeneratedJets.of(pa.concat_tables(tables), unit.process, begin)
            selected = jets if file.part.select is None else jets.select(file.part.select(jets))
            if len(selected):
                yield selected
            tables, begin = [], last
        if last >= file.last:
            return
