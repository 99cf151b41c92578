"""`read_jets`: jets from files, by suffix."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyrino._core import Jets as _CoreJets
from pyrino.data import jetclass_root, jetnet, parquet
from pyrino.data.chunk import Chunk
from pyrino.errors import RinoError
from pyrino.jets import Jets

__all__ = ["LAYOUTS", "find_files", "read_jets"]

#: What reads a file, by its suffix: function(path, extras, rows) -> chunks of at most `rows` jets.
LAYOUTS: dict[str, Callable[[Path, Sequence[str], int], Iterator[Chunk]]] = {
    ".parquet": parquet.iterate,
    ".root": jetclass_root.iterate,
    ".h5": jetnet.iterate,
    ".hdf5": jetnet.iterate,
}

#: Jets read at a time: about 50 MB of JetClass.
_ROWS = 65536

PathLike = str | os.PathLike[str]


def read_jets(
    path: PathLike | Iterable[PathLike],
    *,
    max_jets: int | None = None,
    extras: Iterable[str] = (),
    drop_empty: bool = False,
) -> Jets:
    """Jets from files of the field's layouts, told by suffix.

    ======================  =============================================================================
    ``.parquet``            JetClass's columns: JetClass-II (``jet_label``), `pyrino.generate` (``label_*``)
    ``.root``               JetClass: TTree ``tree``, one-hot ``label_*``
    ``.h5``, ``.hdf5``      JetNet: ``particle_features``, ``jet_features``; label by the file's name
    ======================  =============================================================================

    Parameters
    ----------
    path : path or iterable of paths
        A file, a folder (all its files of these suffixes, by name), a pattern such as ``"data/*.root"`` (by name),
        or several of these, read in the order given.
    max_jets : int, optional
        Stop after so many jets.
    extras : iterable of str
        Further columns of the constituents, such as ``part_charge``, to be read into ``jets.extras``.
    drop_empty : bool
        Leave out jets without constituents, which are an error otherwise.

    Returns
    -------
    Jets
        In the order of the files; momenta in GeV, float64. Labels are JetClass's class numbers
        (`JETCLASS_CLASSES`), the numbers of ``jet_label``, or JetNet's (`JETNET_CLASSES`); None if there are none.

    Raises
    ------
    RinoError
        If a file is absent, damaged, of another kind or without jets; columns are missing; a jet is empty; a
        momentum is not finite or an energy is below it; or labels are missing in, or mean something else in, some of
        several files. The message names the file, and the jet by its row in the file.

    Examples
    --------
    >>> jets = rino.read_jets("JetClass/val_5M/TTBar_*.root", max_jets=10_000, extras=["part_charge"])
    """
    if max_jets is not None and (isinstance(max_jets, bool) or not isinstance(max_jets, (int, np.integer))):
        raise RinoError(f"max_jets = {max_jets!r} is of type {type(max_jets).__name__}; give an integer or None")
    if max_jets is not None and max_jets < 1:
        raise RinoError(f"max_jets = {max_jets}; give 1 or more, or None for all")
    names = [extras] if isinstance(extras, str) else list(extras)
    assembly = _Assembly(drop_empty)
    for file in find_files(path):
        left = None if max_jets is None else max_jets - assembly.jets
        if left is not None and left <= 0:
            break
        rows = _ROWS if left is None else min(_ROWS, left)
        with closing(LAYOUTS[file.suffix.lower()](file, names, rows)) as chunks:
            assembly.add_file(file, chunks, left)
    return assembly.finish()


def find_files(path: PathLike | Iterable[PathLike]) -> list[Path]:
    """The files that a path, folder, pattern or several of these stand for.

    Raises
    ------
    RinoError
        If there is none, or a suffix is not known.
    """
    if isinstance(path, (str, os.PathLike)):
        return _find(path)
    files = [file for part in path for file in _find(part)]
    if not files:
        raise RinoError("the list of paths is empty; give one or more files")
    return files


def _find(path: PathLike) -> list[Path]:
    if not isinstance(path, (str, os.PathLike)):
        raise RinoError(f"a path is of type {type(path).__name__}; give str or pathlib.Path")
    place = Path(os.fsdecode(path)).expanduser()
    known = ", ".join(LAYOUTS)
    if place.is_dir():
        files = sorted(f for f in place.iterdir() if f.suffix.lower() in LAYOUTS and not f.name.startswith("."))
        if not files:
            raise RinoError(f"the folder {place} has no files of the suffixes {known}; name the folder that has")
        return files
    if not place.exists() and glob.has_magic(str(place)):
        files = sorted(Path(found) for found in glob.glob(str(place), recursive=True))
        if not files:
            raise RinoError(f"no file matches the pattern {place}; check the folder and the pattern")
    else:
        files = [place]
    for file in files:
        if not file.exists():
            raise RinoError(f"there is no file {file}; {_nearest(file)}")
        if file.suffix.lower() not in LAYOUTS:
            raise RinoError(f"{file} has the suffix '{file.suffix}'; known are {known}")
        if file.stat().st_size == 0:
            raise RinoError(f"{file} is empty (0 bytes); fetch or write it again")
    return files


def _nearest(file: Path) -> str:
    if not file.parent.is_dir():
        return f"there is no folder {file.parent} either; check the path"
    names = [other.name for other in file.parent.iterdir()]
    close = difflib.get_close_matches(file.name, names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"check the name; {file.parent} has {len(names)} others"


class _Assembly:
    """Chunks on their way to one `Jets`; kept in the files' precision until the end."""

    def __init__(self, drop_empty: bool) -> None:
        self._drop_empty = drop_empty
        self._chunks: list[Chunk] = []
        #: Of each chunk: its file and the rows there of the jets that were kept.
        self._origins: list[tuple[Path, NDArray[np.int64]]] = []
        self.jets = 0

    def add_file(self, file: Path, chunks: Iterator[Chunk], limit: int | None) -> None:
        """Takes a file's chunks until there are `limit` more jets."""
        row = 0
        stop = None if limit is None else self.jets + limit
        for chunk in chunks:
            rows = np.arange(row, row + len(chunk.counts))
            row += len(chunk.counts)
            empty = np.flatnonzero(chunk.counts == 0)
            if empty.size and not self._drop_empty:
                raise RinoError(
                    f"{file}: jet {rows[empty[0]]} has no constituents; leave such jets out with drop_empty=True"
                )
            keep = np.flatnonzero(chunk.counts > 0)
            if stop is not None:
                keep = keep[: stop - self.jets]
            self._add(file, _head(chunk, keep), rows[keep])
            if stop is not None and self.jets >= stop:
                return
        if row == 0:
            raise RinoError(f"{file} has no jets; leave it out")

    def _add(self, file: Path, chunk: Chunk, rows: NDArray[np.int64]) -> None:
        if self._chunks:
            before, (other, _) = self._chunks[0].labels, self._origins[0]
            meanings = [labels and labels.meaning for labels in (before, chunk.labels)]
            if meanings[0] != meanings[1]:
                raise RinoError(
                    f"the labels of {other} are {meanings[0] or 'absent'}, those of {file} {meanings[1] or 'absent'}; "
                    "read such files one by one, set labels with Jets.with_labels, then join them with Jets.concatenate"
                )
        self._chunks.append(chunk)
        self._origins.append((file, rows))
        self.jets += len(rows)

    def finish(self) -> Jets:
        """All jets."""
        if not self.jets:
            raise RinoError("no jet is left: none has constituents; check the files")
        counts = np.concatenate([chunk.counts for chunk in self._chunks])
        offsets = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        labels = None
        if self._chunks[0].labels is not None:
            labels = np.concatenate([chunk.labels.values for chunk in self._chunks if chunk.labels is not None])
        extras = {name: np.concatenate([c.extras[name] for c in self._chunks]) for name in self._chunks[0].extras}
        p4 = np.empty((offsets[-1], 4), order="F")
        first = 0
        self._chunks.reverse()
        while self._chunks:
            # Each chunk goes as soon as it is copied, so that the momenta are not held twice.
            momenta = self._chunks.pop().momenta
            last = first + len(momenta[0])
            with np.errstate(invalid="ignore"):  # a NaN is named below
                for c in range(4):
                    p4[first:last, c] = momenta[c]
            first = last
        try:
            return Jets(p4, offsets, labels, extras)
        except RinoError as error:
            raise self._located(p4, offsets) or error from error

    def _located(self, p4: NDArray[np.float64], offsets: NDArray[np.int64]) -> RinoError | None:
        """The error over the first bad momentum, with the file and the jet's row there."""
        momentum = np.hypot(np.hypot(p4[:, 0], p4[:, 1]), p4[:, 2])
        bad = np.flatnonzero(~np.isfinite(p4).all(axis=1) | (p4[:, 3] < momentum * (1 - _CoreJets.energy_tolerance)))
        if not bad.size:
            return None
        jet = int(np.searchsorted(offsets, bad[0], side="right")) - 1
        ends = np.cumsum([len(rows) for _, rows in self._origins])
        part = int(np.searchsorted(ends, jet, side="right"))
        file, rows = self._origins[part]
        row = rows[jet - (ends[part] - len(rows))]
        px, py, pz, e = p4[bad[0]]
        what = "is not finite" if not np.isfinite(p4[bad[0]]).all() else f"has E below |p| = {momentum[bad[0]]:.9g} GeV"
        return RinoError(
            f"{file}: constituent {bad[0] - offsets[jet]} of jet {row} {what}: (px, py, pz, E) = "
            f"({px:.9g}, {py:.9g}, {pz:.9g}, {e:.9g}) GeV; repair the file or leave the jet out"
        )


def _head(chunk: Chunk, keep: NDArray[np.intp]) -> Chunk:
    """The chunk's jets `keep`, which are all that are not empty up to some jet: their constituents are a prefix."""
    if len(keep) == len(chunk.counts):
        return chunk
    counts = chunk.counts[keep]
    total = int(counts.sum())
    labels = chunk.labels and type(chunk.labels)(chunk.labels.values[keep], chunk.labels.meaning)
    px, py, pz, e = (component[:total] for component in chunk.momenta)
    return Chunk((px, py, pz, e), counts, labels, {name: values[:total] for name, values in chunk.extras.items()})
