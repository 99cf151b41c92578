"""ROOT: JetClass (zenodo 6619768), a TTree or RNTuple named `tree` with one jagged branch per quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Broken, Chunk, need, reading
from pyrino.data.jetclass import GENERATED, MOMENTA, Columns, Lists, make_chunk
from pyrino.data.labels import LABELS, meaning_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.root import Table, table_of, tables_of
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["TREE", "JetClassRoot"]

TREE = "tree"


class JetClassRoot(Layout):
    """A tree with the momenta of the constituents; labels from one-hot ``label_*`` or ``jet_label``."""

    name, title, container, suffixes = "jetclass", "JetClass: ROOT, TTree or RNTuple `tree`", "ROOT", (".root",)

    def recognise(self, file: Any) -> bool:
        return TREE in tables_of(file) and any(name in file[TREE].keys() for name in MOMENTA)

    def reader(self, source: Source, file: Any) -> Reader:
        return _Reader(source, file)


class _Reader(Reader):
    def __init__(self, source: Source, file: Any) -> None:
        need(source, [TREE], tables_of(file), "TTree or RNTuple")
        self._source, self._file, self._table = source, file, table_of(file, TREE)
        for name in MOMENTA:
            if name in self._table.others:
                raise _of_type(source, name, self._table.others[name], "one list of numbers per jet")
        self.entries = self._table.entries
        others = {name: f"array of {length} numbers" for name, length in self._table.lists.items()}
        self._columns = Columns(source, _kinds(self._table), others | self._table.others)
        self.columns, self.unfit = self._columns.others, self._columns.unfit
        self.starts = self._table.starts(MOMENTA)

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        with reading(self._source, "ROOT"):
            names = self._columns.to_read(self._source, columns)
            jets = _Branches(self._source, first, self._table.arrays(names, first, last))
            return make_chunk(
                self._source, first, self._columns, columns, jets.lists, jets.scalars, jets.labels, jets.broken
            )

    def label_meaning(self) -> str | None:
        return meaning_of(self._columns.labels)  # without decompressing a whole piece

    def close(self) -> None:
        self._file.close()


def _kinds(table: Table) -> dict[str, str]:
    """Which columns are of constituents and which of jets.

    Lists of one length are of the constituents where the momenta have that length, too. Labels are there whatever
    they hold: reading them says what is wrong.
    """
    lengths = {None, *(table.lists.get(name) for name in MOMENTA)}
    kinds = {}
    for name, length in table.lists.items():
        if name in MOMENTA or (length in lengths and GENERATED not in name):
            kinds[name] = "constituent"
    labels = [name for name in (*table.lists, *table.others) if name in LABELS]
    return kinds | dict.fromkeys([*table.numbers, *table.optional, *labels], "jet")


def _of_type(source: Source, name: str, kind: object, wanted: str) -> RinoError:
    return RinoError(f"{source}: the branch {name} is of type {kind}; it must hold {wanted}")


class _Branches:
    """Branches of a chunk as arrays; jets for which a number is missing are in `broken`."""

    def __init__(self, source: Source, first: int, arrays: Any) -> None:
        self._source, self._first, self._arrays = source, first, arrays
        self.broken: Broken = {}

    def lists(self, name: str) -> Lists:
        import awkward as ak

        branch = self._arrays[name]
        if branch.ndim != 2:
            raise _of_type(self._source, name, branch.type, "one list of numbers per jet")
        fixed = isinstance(branch.type.content, ak.types.RegularType)
        return Lists(ak.to_numpy(ak.flatten(branch)), ak.to_numpy(ak.num(branch)), fixed)

    def scalars(self, name: str) -> NDArray[Any]:
        values = self._column(name)
        if values.dtype.kind not in "fiub":
            raise _of_type(self._source, name, self._arrays[name].type, "one number per jet")
        for jet in np.flatnonzero(np.ma.getmaskarray(values)).tolist():
            why = f"jet {self._first + jet} has no {name} (null): write a value for every jet"
            self.broken.setdefault(jet, f"{self._source}: {why}")
        return np.ma.filled(values, 0)

    def labels(self, name: str) -> NDArray[Any]:
        values = self._column(name)
        return np.array(values.tolist(), dtype=object) if isinstance(values, np.ma.MaskedArray) else values

    def _column(self, name: str) -> NDArray[Any]:
        """One value per jet of any type, masked where there is none; lists of one by their type are what they hold."""
        import awkward as ak

        branch = self._arrays[name]
        if branch.ndim == 2 and getattr(branch.type.content, "size", None) == 1:
            branch = branch[:, 0]
        if branch.ndim == 1:
            return ak.to_numpy(branch)
        values = np.empty(len(branch), dtype=object)
        values[:] = branch.to_list()
        return values
