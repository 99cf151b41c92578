"""HDF5 by pandas: the top-tagging landscape's reference data (zenodo 2603256, arXiv:1902.09914)."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, Labels, need, reading, unpadded
from pyrino.data.hdf5 import Hdf5Reader
from pyrino.data.labels import labels_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["LANDSCAPE_CLASSES", "Landscape"]

#: Class number (``is_signal_new``) -> name.
LANDSCAPE_CLASSES = ("QCD", "top")

_LABEL = "is_signal_new"
_COMPONENTS = ("E", "PX", "PY", "PZ")


class Landscape(Layout):
    """What ``DataFrame.to_hdf(key="table", format="table")`` makes of the columns ``E_0 PX_0 PY_0 PZ_0 E_1 ...
    PZ_199`` (GeV, padded with zeros), ``truthE truthPX truthPY truthPZ``, ``ttv`` and ``is_signal_new`` (1 top, 0 QCD).

    pandas stores such a table as one PyTables table whose fields are blocks of columns of one type; the names of a
    block's columns are a pickled list in an attribute. Neither pandas nor PyTables is needed here, and of a pickle
    only lists of strings are accepted: nothing in a file is ever executed.
    """

    name, title, container = "landscape", "top-tagging landscape: HDF5 by pandas", "HDF5"
    suffixes = (".h5", ".hdf5")

    def recognise(self, file: Any) -> bool:
        try:
            return any("E_0" in _places(table) for table in _tables(file))
        except RinoError:
            return True  # the reader says what is wrong

    def reader(self, source: Source, file: Any) -> Reader:
        try:
            places = {table: _places(table) for table in _tables(file)}
        except RinoError as error:
            raise RinoError(f"{source}: {error}") from None
        tables = [table for table, columns in places.items() if "E_0" in columns] or list(places)
        if len(tables) != 1:
            found = ", ".join(table.name for table in tables) or "none"
            raise RinoError(
                f"{source} must have one table of jets written by pandas with format='table'; it has {found}"
            )
        return _Reader(source, file, tables[0], places[tables[0]])


class _Reader(Hdf5Reader):
    def __init__(self, source: Source, file: Any, table: Any, places: dict[str, tuple[str, int]]) -> None:
        super().__init__(source, file, table)
        self._table = table
        self._places = places
        self._constituents = sum(name.startswith("E_") and name[2:].isdecimal() for name in self._places)
        self._momenta = [f"{p}_{i}" for i in range(max(self._constituents, 1)) for p in _COMPONENTS]
        need(source, self._momenta, self._places, "columns")
        self._categories = {name: _categories(table, block) for name, (block, _) in places.items()}
        self.unfit = {name: kind for name, (block, _) in places.items() if (kind := self._unfit(name, block))}
        bad = [name for name in self._momenta if name in self.unfit or self._categories[name] is not None]
        if bad:
            raise RinoError(f"{source}: the column {bad[0]} does not hold numbers: write it as float32 or float64")
        own = {*self._momenta, *self.unfit}
        self.columns = {name: "jet" for name in self._places if name not in own}

    def _unfit(self, name: str, block: str) -> str | None:
        """The type of a column that holds no numbers, though dates are stored as some; None for one that does."""
        categories, said = self._categories[name], _text(self._table.attrs.get(f"{block}_dtype", b""))
        if said.startswith(("datetime", "timedelta")):
            return said
        held = self._table.dtype[block].base if categories is None else categories.dtype
        return None if held.kind in "fiub" else str(held)

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self.source, columns, self.columns, "columns", self.unfit)
        with reading(self.source, "HDF5"):
            rows = self._table[first:last]  # the blocks of a row lie together: one read for all
        block = self._take(rows, self._momenta).reshape(len(rows), self._constituents, 4)
        mask = unpadded(block)
        e, px, py, pz = (block[..., c][mask] for c in range(4))
        labels = self._labels(rows) if _LABEL in self._places else None
        values = {name: self._column(rows, name) for name in columns}
        return Chunk((px, py, pz, e), mask.sum(axis=1), labels, values=values)

    def _take(self, rows: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        """(m, names) from the rows of the table; a view where the columns lie side by side."""
        places = [self._places[name] for name in names]
        blocks = {block: rows[block].reshape(len(rows), _width(rows.dtype[block])) for block, _ in places}
        if len(blocks) > 1:
            return np.stack([blocks[block][:, i] for block, i in places], axis=1)
        (values,) = blocks.values()
        wanted = [i for _, i in places]
        if wanted == list(range(wanted[0], wanted[0] + len(wanted))):
            return values[:, wanted[0] : wanted[0] + len(wanted)]
        return values[:, wanted]

    def _column(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        """(m,) of any type."""
        column, categories = self._take(rows, [name])[:, 0], self._categories[name]
        return column if categories is None else np.append(categories, np.nan)[column]  # -1: missing

    def _labels(self, rows: NDArray[Any]) -> Labels:
        said = self._column(rows, _LABEL)
        return labels_of(
            {_LABEL: said},
            said,
            (said == 0) | (said == 1) if said.dtype.kind in "fiub" else np.zeros(len(said), dtype=bool),
            "it must be 0 (QCD) or 1 (top)",
            meaning="numbers of the top-tagging landscape",
            names=LANDSCAPE_CLASSES,
        )


def _tables(file: Any) -> list[Any]:
    """The tables of data frames, under whatever key."""
    found: list[Any] = []

    def visit(name: str, item: Any) -> None:
        kind = item.attrs.get("pandas_type", b"")
        if _text(kind) == "frame_table":
            table = item.get("table")
            if table is not None and table.dtype.names is not None:
                found.append(table)

    file.visititems(visit)
    return found


def _places(table: Any) -> dict[str, tuple[str, int]]:
    """Column -> (field of the table, place in the field)."""
    places: dict[str, tuple[str, int]] = {}
    for block in table.dtype.names:
        kind = table.attrs.get(f"{block}_kind")
        if block != "index" and kind is not None:
            names, width = _strings(kind), _width(table.dtype[block])
            if len(names) != width:
                raise RinoError(
                    f"the block {block} of {table.name} has {width} columns but {len(names)} names: "
                    "write the file again"
                )
            places.update((name, (block, i)) for i, name in enumerate(names))
    return places


def _categories(table: Any, block: str) -> NDArray[Any] | None:
    """What the numbers of a categorical column stand for; None for any other."""
    if _text(table.attrs.get(f"{block}_meta", b"")) != "category":
        return None
    return table.parent[f"meta/{block}/meta/table"]["values"]


def _width(block: np.dtype[Any]) -> int:
    return int(np.prod(block.shape, dtype=int))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class _ListsOnly(pickle.Unpickler):
    """Refuses whatever names code or data outside the pickle."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise RinoError(f"the column names are a pickle that calls {module}.{name}; do not trust the file")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise RinoError(f"the column names are a pickle that refers to {pid!r}; do not trust the file")


def _strings(kind: Any) -> list[str]:
    data = kind if isinstance(kind, bytes) else str(kind).encode("latin-1")
    names = _ListsOnly(io.BytesIO(data), encoding="latin-1").load()
    if not isinstance(names, list) or not all(isinstance(name, (str, bytes, int)) for name in names):
        raise RinoError("the column names are not a pickled list of strings: write the file with pandas' to_hdf")
    return [_text(name) for name in names]
