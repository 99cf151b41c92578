"""ROOT: JetClass (zenodo 6619768), a TTree named `tree` with one jagged branch per quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, need, reading
from pyrino.data.jetclass import GENERATED, MOMENTA, Columns, Lists, make_chunk
from pyrino.data.labels import meaning_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["TREE", "JetClassRoot"]

TREE = "tree"


class JetClassRoot(Layout):
    """A tree with the momenta of the constituents; labels from one-hot ``label_*`` or ``jet_label``."""

    name, title, container, suffixes = "jetclass", "JetClass: ROOT, TTree `tree`", "ROOT", (".root",)

    def recognise(self, file: Any) -> bool:
        return TREE in file.keys(cycle=False) and any(name in file[TREE].keys() for name in MOMENTA)

    def reader(self, source: Source, file: Any) -> Reader:
        return _Reader(source, file)


class _Reader(Reader):
    def __init__(self, source: Source, file: Any) -> None:
        need(source, [TREE], file.keys(cycle=False), "TTree")
        self._source, self._file, self._tree = source, file, file[TREE]
        self.entries = self._tree.num_entries
        self._columns = Columns(source, {b.name: kind for b in self._tree.branches if (kind := _kind(b)) is not None})
        self.columns = self._columns.others
        # Where the baskets of all momenta begin at once: elsewhere some would be decompressed twice.
        starts = self._tree.common_entry_offsets(filter_name=list(MOMENTA)) if self.entries else [0]
        self.starts = np.unique(np.asarray(starts[:-1] or [0], dtype=np.int64))

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        with reading(self._source, "ROOT"):
            names = self._columns.to_read(self._source, columns)
            arrays = self._tree.arrays(names, entry_start=first, entry_stop=last, library="ak", how=dict)
            jets = _Branches(self._source, arrays)
            return make_chunk(
                self._source, first, self._columns, columns, jets.lists, jets.scalars, jets.scalars, broken={}
            )

    def label_meaning(self) -> str | None:
        return meaning_of(self._columns.labels)  # without decompressing a whole piece

    def close(self) -> None:
        self._file.close()


def _kind(branch: Any) -> str | None:
    """Whether a branch holds a list of numbers per jet or one, told by its interpretation."""
    import uproot

    found = branch.interpretation
    if isinstance(found, uproot.AsJagged):
        constituents = isinstance(found.content, uproot.AsDtype) and GENERATED not in branch.name
        return "constituent" if constituents else None
    if isinstance(found, uproot.AsDtype) and found.to_dtype.base.kind in "fiub":
        fixed = len(found.inner_shape) == 1 and GENERATED not in branch.name  # arrays of one size: part_px[30]
        return "jet" if found.inner_shape == () else "constituent" if fixed else None
    return None


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
        import awkward as ak

        return ak.to_numpy(self._branch(name, 1, "one number per jet"))

    def _branch(self, name: str, dimensions: int, wanted: str) -> Any:
        branch = self._arrays[name]
        if branch.ndim != dimensions:
            raise RinoError(f"{self._source}: the branch {name} is of type {branch.type}; it must hold {wanted}")
        return branch
