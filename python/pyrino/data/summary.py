"""What files hold, gathered piece by piece in bounded memory; broken files and jets are counted, not refused."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino._columns import below_momentum
from pyrino.data.chunk import Chunk
from pyrino.data.layout import Layout, Reader, open_file
from pyrino.data.read import find_files
from pyrino.data.selection import Selection, Tally, read_piece
from pyrino.data.source import PathLike, Source
from pyrino.errors import RinoError

__all__ = ["Faults", "Moments", "Sample", "Summary", "summarize"]

Floats = NDArray[np.float64]

#: Jets read at a time; a piece of the container itself may be four times as large.
_ROWS = 16384

#: Jets kept for medians and pictures.
_SAMPLE = 100_000


class Moments:
    """Count, mean, standard deviation and range of numbers that come piece by piece (Chan, Golub, LeVeque 1983).

    Attributes
    ----------
    count : int
        Of the finite ones; the others are left out.
    mean, std : float
        NaN if there are none; std is that of the population.
    least, greatest : float
        Infinite if there are none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean, self.least, self.greatest = math.nan, math.inf, -math.inf
        self._squares = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Takes (m,) numbers."""
        x = np.asarray(values, dtype=np.float64)
        x = x[np.isfinite(x)]
        if not x.size:
            return
        mean = float(x.mean())
        total = self.count + x.size
        before = self.mean if self.count else mean
        self._squares += float(np.square(x - mean).sum()) + (mean - before) ** 2 * self.count * x.size / total
        self.mean = before + (mean - before) * x.size / total
        self.count = total
        self.least, self.greatest = min(self.least, float(x.min())), max(self.greatest, float(x.max()))

    @property
    def std(self) -> float:
        """Standard deviation."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan


class Sample:
    """Rows drawn uniformly from all that come by, `size` at most: every row gets a random key, the least stay."""

    def __init__(self, size: int = _SAMPLE, seed: int = 0) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._rows: Floats | None = None
        self.seen = 0

    def add(self, rows: Floats) -> None:
        """Takes (m, k) numbers."""
        keys = self._random.random(len(rows))
        self.seen += len(rows)
        if self._rows is None:
            self._rows = np.empty((0, rows.shape[1]))
        self._keys, self._rows = np.concatenate([self._keys, keys]), np.concatenate([self._rows, rows])
        if len(self._keys) > self._size:
            kept = np.sort(np.argpartition(self._keys, self._size)[: self._size])
            self._keys, self._rows = self._keys[kept], self._rows[kept]

    @property
    def rows(self) -> Floats:
        """(min(size, seen), k) in the order they came."""
        return np.empty((0, 0)) if self._rows is None else self._rows


@dataclass
class Faults:
    """What is wrong with jets.

    Attributes
    ----------
    jets : int
        That have any fault.
    empty : int
        Jets without constituents.
    not_finite : dict
        px, py, pz, E -> constituents for which it is NaN or infinite.
    below_momentum : int
        Constituents with E < |p| by more than `Jets` allows.
    unread : int
        Jets that cannot be read, alone or with the piece of the file that they are in.
    """

    jets: int = 0
    empty: int = 0
    not_finite: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("px", "py", "pz", "E"), 0))
    below_momentum: int = 0
    unread: int = 0

    def add(self, chunk: Chunk) -> None:
        """Counts those of a chunk."""
        if chunk.broken:
            self.unread += len(chunk.broken)
            sound = np.ones(len(chunk.counts), dtype=bool)
            sound[list(chunk.broken)] = False
            chunk = chunk.select(sound)
        finite = np.ones(len(chunk.momenta[0]), dtype=bool)
        for name, component in zip(self.not_finite, chunk.momenta, strict=True):
            good = np.isfinite(component)
            self.not_finite[name] += int(good.size - good.sum())
            finite &= good
        px, py, pz, e = (np.asarray(component, dtype=np.float64) for component in chunk.momenta)
        with np.errstate(all="ignore"):
            momentum = np.hypot(np.hypot(px, py), pz)
            below = finite & below_momentum(e, momentum)
        self.below_momentum += int(below.sum())
        wrong = np.flatnonzero(~finite | below)
        empty = int((chunk.counts == 0).sum())
        self.empty += empty
        self.jets += empty + len(np.unique(np.searchsorted(chunk.offsets, wrong, side="right")))


class Summary:
    """What the files of one layout and one kind of labels hold.

    Attributes
    ----------
    layout : Layout
        Of the files.
    meaning : str
        Whose class numbers the labels are; "" without labels.
    names : tuple of str
        Of the classes.
    files : list of Source
        In the order read.
    size : int
        Bytes of all files; 0 where it is not known.
    entries : int
        Jets in the files.
    seen : int
        Jets that were read; fewer if so many were asked for, or pieces cannot be read.
    taken : int
        Jets of these that are sound and selected; all that follows is of them alone.
    faults : Faults
        Of those read.
    classes : Counter
        Class number -> jets; `NO_LABEL` for those that have none in files with labels.
    numbers : dict of str to Moments
        multiplicity; pt (GeV), eta, mass (GeV) of the sum of a jet's constituents.
    sample : Sample
        The same numbers of some jets.
    columns : dict
        What can be asked for beyond momenta and labels: name -> ("constituent" or "jet", number of files).
    """

    def __init__(self, layout: Layout, meaning: str, names: tuple[str, ...]) -> None:
        self.layout, self.meaning, self.names = layout, meaning, names
        self.files: list[Source] = []
        self.size = self.entries = self.seen = 0
        self.faults = Faults()
        self.classes: Counter[int] = Counter()
        self.numbers = {name: Moments() for name in ("multiplicity", "pt", "eta", "mass")}
        self.sample = Sample()
        self.columns: dict[str, tuple[str, int]] = {}
        self._tally = Tally()

    @property
    def taken(self) -> int:
        """Sound, selected jets."""
        return self._tally.jets

    @property
    def values(self) -> dict[str, Floats]:
        """The sample's numbers by name, (m,) each."""
        return {name: self.sample.rows[:, i] for i, name in enumerate(self.numbers)} if self.taken else {}

    def add_file(self, source: Source, reader: Reader) -> None:
        """Notes a file; its jets come by `add`."""
        self.files.append(source)
        self.entries += reader.entries
        try:
            self.size += source.size
        except RinoError:
            pass  # a server need not tell, or speak to fsspec
        for name, kind in reader.columns.items():
            self.columns[name] = (kind, self.columns.get(name, (kind, 0))[1] + 1)

    def add(self, source: Source, chunk: Chunk, entries: NDArray[np.int64], selection: Selection) -> int:
        """Takes a chunk of a file, its jets' numbers there (m,); gives how many of them were taken."""
        self.seen += len(chunk.counts) - len(chunk.broken)
        self.faults.add(chunk)
        chunk, _ = selection.take(source, chunk, entries, self._tally, "skip")
        if not len(chunk.counts):
            return 0
        jets = chunk.jets()
        rows = np.stack([jets.multiplicity, jets.pt, jets.eta, jets.mass], axis=1, dtype=np.float64)
        for moments, column in zip(self.numbers.values(), rows.T, strict=True):
            moments.add(column)
        self.sample.add(rows)
        if chunk.labels is not None:
            numbers, counts = np.unique(chunk.labels.values, return_counts=True)
            self.classes.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        return len(chunk.counts)


def summarize(
    paths: Iterable[PathLike],
    selection: Selection,
    *,
    layout: str | None = None,
    max_jets: int | None = None,
    progress: Callable[[int], object] = lambda jets: None,
) -> tuple[list[Summary], dict[str, str]]:
    """What files hold: one summary per layout and kind of labels, and what cannot be read, with the reason.

    The memory does not grow with the number of jets: some ten thousand are read at a time. Broken jets and empty ones
    are counted in `Summary.faults` and left out of everything else.

    Parameters
    ----------
    paths
        Files, folders, patterns, URLs.
    selection
        Which jets count.
    layout
        As in `read_jets`.
    max_jets
        Of each path, at most.
    progress
        Called with the number of jets after each piece.

    Raises
    ------
    RinoError
        If there is no file, or the selection has no meaning for the labels.
    """
    if max_jets is not None and max_jets < 1:
        raise RinoError(f"max_jets = {max_jets}: give 1 or more, or None for all")
    selection = selection.passing_labels()
    groups: dict[tuple[str, str, tuple[str, ...]], Summary] = {}
    broken: dict[str, str] = {}
    paths = list(paths)
    find_files(paths)  # of all together, which sees a file that is named twice
    for path in paths:
        left = math.inf if max_jets is None else max_jets
        for source in find_files(path):
            if left > 0:
                left -= _summarize_file(source, selection, layout, left, groups, broken, progress)
    return list(groups.values()), broken


def _summarize_file(
    source: Source,
    selection: Selection,
    layout: str | None,
    left: float,
    groups: dict[tuple[str, str, tuple[str, ...]], Summary],
    broken: dict[str, str],
    progress: Callable[[int], object],
) -> int:
    """Adds one file to the groups; gives the number of jets taken."""
    with ExitStack() as stack:
        try:
            found, reader = stack.enter_context(open_file(source, layout))
        except RinoError as error:
            broken[str(source)] = str(error)
            return 0
        summary: Summary | None = None
        taken = unread = 0
        pieces = deque(reader.spans(_ROWS, 4 * _ROWS) or [(0, 0)])
        while pieces and taken < left:
            first, last = pieces.popleft()
            end = int(min(last, first + left - taken))
            try:
                chunk, entries = read_piece(reader, first, end, ())
            except RinoError as error:
                broken.setdefault(str(source), str(error))
                unread += last - first
                continue
            if end < last:
                pieces.appendleft((end, last))
            if chunk.broken:
                broken.setdefault(str(source), next(iter(chunk.broken.values())))
            if summary is None:
                labels = chunk.labels
                key = (found.name, "", ()) if labels is None else (found.name, labels.meaning, labels.names)
                summary = groups.setdefault(key, Summary(found, *key[1:]))
                summary.add_file(source, reader)
            taken += summary.add(source, chunk, entries, selection)
            progress(end - first)
        if summary is None:
            summary = groups.setdefault((found.name, "", ()), Summary(found, "", ()))
            summary.add_file(source, reader)
        summary.faults.unread += unread
        return taken
