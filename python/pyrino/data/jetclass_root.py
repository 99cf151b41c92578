"""ROOT: JetClass (zenodo 6619768), a TTree named `tree` with one jagged branch per quantity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, need, reading
from pyrino.data.jetclass import columns_to_read, make_chunk
from pyrino.errors import RinoError

__all__ = ["TREE", "iterate"]

TREE = "tree"


def iterate(path: Path, extras: Sequence[str], rows: int) -> Iterator[Chunk]:
    """The jets of a file, at most `rows` at a time.

    Raises
    ------
    RinoError
        If the file is damaged or foreign, or the tree or branches are missing or of another type.
    """
    import uproot

    with reading(path, "ROOT"), uproot.open(path) as file:
        size, end = path.stat().st_size, file.file.fEND
        if size < end:
            raise RinoError(f"{path} is truncated: it has {size} of {end} bytes; fetch it again")
        need(path, [TREE], file.keys(cycle=False), "TTree")
        tree = file[TREE]
        ragged, labels = columns_to_read(path, tree.keys(), extras)
        first = 0
        for arrays in tree.iterate([*ragged, *labels], step_size=rows, library="ak"):
            jets = _Branches(path, arrays)
            yield make_chunk(path, first, ragged, labels, jets.constituents, jets.scalars)
            first += len(arrays)


class _Branches:
    """Branches of a chunk as arrays."""

    def __init__(self, path: Path, arrays: Any) -> None:
        self._path, self._arrays = path, arrays

    def constituents(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        import awkward as ak

        branch = self._branch(name, 2, "one list of numbers per jet")
        return ak.to_numpy(ak.flatten(branch)), ak.to_numpy(ak.num(branch))

    def scalars(self, name: str) -> NDArray[Any]:
        import awkward as ak

        return ak.to_numpy(self._branch(name, 1, "one number per jet"))

    def _branch(self, name: str, dimensions: int, wanted: str) -> Any:
        branch = self._arrays[name]
        if branch.ndim != dimensions:
            raise RinoError(f"{self._path}: the branch {name} is of type {branch.type}; it must hold {wanted}")
        return branch
