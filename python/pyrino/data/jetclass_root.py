"""ROOT: JetClass (zenodo 6619768), a TTree or RNTuple named `tree` with one jagged branch per quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, need, reading
from pyrino.data.jetclass import GENERATED, MOMENTA, Columns, Lists, make_chunk
from pyrino.data.labels import NUMBER, meaning_of
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
            jets = _Branches(self._source, self._table.arrays(names, first, last))
            return make_chunk(
                self._source, first, self._columns, columns, jets.lists, jets.scalars, jets.labels, broken={}
            )

    def label_meaning(self) -> str | None:
        return meaning_of(self._columns.labels)  # without decompressing a whole piece

    def close(self) -> None:
        self._file.close()


def _kinds(table: Table) -> dict[str, str]:
    """Which columns are of constituents and which of jets.

    Lists of one length are of the constituents where the momenta have that length, too. The number of the class is
    there whatever it holds: reading it says what is wrong.
    """
    lengths = {None, *(table.lists.get(name) for name in MOMENTA)}
    kinds = {}
    for name, length in table.lists.items():
        if name in MOMENTA or (length in lengths and GENERATED not in name):
            kinds[name] = "constituent"
    return kinds | dict.fromkeys([*table.numbers, *({NUMBER} & table.others.keys())], "jet")


def _of_type(source: Source, name: str, kind: object, wanted: str) -> RinoError:
    return RinoError(f"{source}: the branch {name} is of type {kind}; it must hold {wanted}")


class _Branches:
    """Branches of a chunk as arrays."""

    def __init__(self, source: Source, arrays: Any) -> None:
        self._source, self._arrays = source, arrays

    def lists(self, name: str) -> Lists:
        import awkward as ak

        branch = self._branch(name, 2, "one list of numbers per jet")
        fixed = isinstance(branch.type.content, ak.types.RegularType)
        return Lists(ak.to_numpy(ak.flatten(branch)), ak.to_numpy(ak.num(branch)), fixed)

    def scalars(self, name: str) -> NDArray[Any]:
        values = self.labels(name)
        if values.dtype.kind not in "fiub":
            raise _of_type(self._source, name, "text", "one number per jet")
        return values

    def labels(self, name: str) -> NDArray[Any]:
        import awkward as ak

        return ak.to_numpy(self._branch(name, 1, "one number per jet"))

    def _branch(self, name: str, dimensions: int, wanted: str) -> Any:
        branch = self._arrays[name]
        if branch.ndim != dimensions:
            raise _of_type(self._source, name, branch.type, wanted)
        return branch
