"""What is taken of a file's jets, and what is said of those that are not."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._columns import below_momentum, counts_kept, exactly_float64, warn_of_mev
from pyrino.data.chunk import Chunk, Labels
from pyrino.data.draw import uniform
from pyrino.data.layout import Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError, readable

__all__ = ["ON_ERROR", "Choice", "Cuts", "Selection", "Tally", "checked_policy"]

#: What to do with a file or a jet that is broken.
ON_ERROR = ("raise", "skip")

Range = tuple[float | None, float | None]
Label = str | int


class Cuts(TypedDict, total=False):
    """Which jets and constituents are taken, by the arguments of `read_jets`, as a dictionary.

    Examples
    --------
    >>> cut = rino.data.Cuts(pt=(500, 1000), eta=(-2, 2))
    >>> jets = rino.read_jets("val/*.root", **cut)
    """

    labelled: bool | None
    pt: Sequence[float | None] | None
    eta: Sequence[float | None] | None
    mass: Sequence[float | None] | None
    label: Label | Iterable[Label] | None
    constituent_pt: float | None
    hardest: int | None
    fraction: float | None
    seed: int | None
    drop_empty: bool | None
    scale: float | None


class Choice(Cuts, total=False):
    """The same with columns."""

    columns: str | Iterable[str] | None


@dataclass(frozen=True)
class Selection:
    """Which jets, constituents and columns are taken; every field is an argument of `read_jets` and `open_dataset`.

    Attributes
    ----------
    columns : tuple of str
        Columns beyond the momenta: those of constituents go to `Jets.extras`, those of jets to `Jets.values`.
    labelled : bool or None
        False leaves labels out, so that files with different labels, or with none, can be mixed. True: a jet without
        one is broken, in a file that has them. None, for what is only passed on: such a jet has `NO_LABEL`.
    pt, eta, mass : (float or None, float or None)
        Ranges of the jet's transverse momentum (GeV), pseudorapidity, mass (GeV): those of the sum of all its
        constituents in the file. The lower end is included, the upper is not; None is open.
    label : tuple of str or int
        Classes to take, by name or number; empty: all.
    constituent_pt : float
        Least transverse momentum of a constituent (GeV).
    hardest : int or None
        So many constituents of highest pT, in descending pT; None: all, in the file's order.
    fraction : float
        Share of the jets, drawn by `seed` for each jet by its file's name and its entry there, so that the same
        jets are taken however they are read.
    seed : int
        Of the draw.
    drop_empty : bool
        Leave out jets that have no constituents in the file, which are an error otherwise.
    scale : float
        What the file's momenta and energies are multiplied with to be in GeV: 1e-3 for MeV. Columns stay as they are.
    """

    columns: tuple[str, ...] = ()
    labelled: bool | None = True
    pt: Range = (None, None)
    eta: Range = (None, None)
    mass: Range = (None, None)
    label: tuple[Label, ...] = ()
    constituent_pt: float = 0.0
    hardest: int | None = None
    fraction: float = 1.0
    seed: int = 0
    drop_empty: bool = False
    scale: float = field(default=1.0, repr=False)  # the text is in fingerprints of streams that had no scale

    @classmethod
    def of(cls, **arguments: Any) -> Selection:
        """A selection from what users say: one name for several, None for what is not wanted.

        Raises
        ------
        RinoError
            For an argument that is not known, or a value outside its range.
        """
        known = {f.name for f in fields(cls)}
        unknown = [name for name in arguments if name not in known]
        if unknown:
            raise RinoError(f"there is no selection by {unknown[0]!r}; known are {', '.join(sorted(known))}")
        values = {name: value for name, value in arguments.items() if value is not None}
        for name, kinds in (("columns", (str,)), ("label", (str, int, np.integer))):
            if name in values:
                values[name] = _several(name, values[name], kinds)
        for name in ("pt", "eta", "mass"):
            if name in values:
                values[name] = _range(name, values[name])
        made = cls(**values)
        for name, low, high in (("constituent_pt", 0.0, math.inf), ("fraction", 0.0, 1.0), ("scale", 0.0, math.inf)):
            value = getattr(made, name)
            if not isinstance(value, (int, float, np.number)) or not low <= value <= high:
                raise RinoError(f"{name} = {value!r}: give a number from {low:g} to {high:g}")
            values[name] = float(value)
        if made.scale == 0.0 or math.isinf(made.scale):
            raise RinoError(f"scale = {made.scale!r}: give what makes GeV of the file's unit: 1e-3 for MeV")
        for name, least in (("hardest", 1), ("seed", 0)):
            value = getattr(made, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least
            ):
                raise RinoError(f"{name} = {value!r}: give an integer of {least} or more")
            values[name] = None if value is None else int(value)
        for name in ("labelled", "drop_empty"):
            value = getattr(made, name)
            if not isinstance(value, (bool, np.bool_)):
                raise RinoError(f"{name} = {value!r}: give True or False")
            values[name] = bool(value)
        return cls(**values)

    def passing_labels(self) -> Selection:
        """The same where labels are passed on and nobody learns from them: jets may have none."""
        return replace(self, labelled=None) if self.labelled else self

    def take(
        self, source: Source, chunk: Chunk, entries: NDArray[np.int64], tally: Tally, on_error: str = "raise"
    ) -> tuple[Chunk, NDArray[np.int64]]:
        """The chunk's jets that are wanted and sound, and their numbers in the file.

        Parameters
        ----------
        source, entries
            Where the chunk is from: its jets' numbers in the file, (m,).
        tally
            Counts what is not taken.
        on_error
            What to do with broken jets.

        Raises
        ------
        RinoError
            For a broken jet, unless it is to be skipped: it names the file, the jet and the constituent.
        """
        tally.entries += len(entries)
        if self.scale != 1.0:
            px, py, pz, e = (_scaled(component, self.scale) for component in chunk.momenta)
            chunk = replace(chunk, momenta=(px, py, pz, e))
        keep = self._sound(source, chunk, entries, tally, on_error)
        look = object()
        if tally.looks.setdefault(str(source), look) is look:  # threads of a stream share it
            with np.errstate(all="ignore"):
                px, py = (_sum_of_jets(component, chunk) for component in chunk.momenta[:2])
                pt = np.where(keep, np.hypot(px, py), 0.0)
            warn_of_mev(pt, "give scale=1e-3 (of a command: --scale 1e-3)", f"{source}: ", entries)
        sound = int(keep.sum())
        if self.fraction < 1.0:
            keep &= _drawn(self.seed, source, chunk, entries) < self.fraction
        if self.label:
            keep &= np.isin(_labels_of(source, chunk).values, self._numbers(source, _labels_of(source, chunk)))
        if any(bounds != (None, None) for bounds in (self.pt, self.eta, self.mass)):
            keep &= self._in_ranges(chunk)
        if self.labelled is False and chunk.labels is not None:
            chunk = _without_labels(chunk)
        constituents = None
        if self.constituent_pt > 0.0:
            constituents = _pt(chunk) >= self.constituent_pt
            keep &= counts_kept(constituents, chunk.offsets) > 0
        tally.cut += sound - int(keep.sum())
        if not keep.all() or constituents is not None:
            chunk, entries = chunk.select(keep, constituents), entries[keep]
        if self.hardest is not None:
            chunk = _hardest(chunk, self.hardest)
        tally.jets += len(entries)
        return chunk, entries

    def _sound(
        self, source: Source, chunk: Chunk, entries: NDArray[np.int64], tally: Tally, on_error: str
    ) -> NDArray[np.bool_]:
        """(m,) false for the jets that are broken or empty."""
        keep = np.ones(len(chunk.counts), dtype=bool)
        empty = chunk.counts == 0
        empty[list(chunk.broken)] = False
        if self.drop_empty:
            tally.cut += int(empty.sum())
            keep &= ~empty
        wrong = set(piece_of(chunk, np.zeros(len(keep), np.int64), str(source)).find_bad().tolist())
        labels = chunk.labels if self.labelled else None
        none = [] if labels is None else np.flatnonzero(labels.values < 0).tolist()
        for jet in sorted(wrong.union(chunk.broken, none)):
            if not keep[jet]:
                continue
            place = f"{source}: jet {entries[jet]}"
            if on_error == "skip" and tally.told:
                reason = place
            elif jet in chunk.broken:
                reason = chunk.broken[jet]
            elif jet in wrong:
                reason = _what_is_wrong(source, chunk, jet, int(entries[jet]))
            elif labels is not None:
                reason = f"{place} {labels.fault(jet)}: leave labels out with labelled=False"
            if on_error == "raise":
                raise RinoError(f"{reason}, or skip such jets with on_error='skip'")
            tally.bad(reason)
            keep[jet] = False
        return keep

    def _numbers(self, source: Source, labels: Labels) -> list[int]:
        numbers = []
        for wanted in self.label:
            if isinstance(wanted, str) and not wanted.isdecimal():
                if wanted not in labels.names:
                    known = ", ".join(labels.names) if labels.names else "numbers only"
                    raise RinoError(
                        f"there is no class {wanted!r} in {source}: its labels are {labels.meaning} ({known})"
                    )
                numbers.append(labels.names.index(wanted))
            else:
                numbers.append(int(wanted))
        return numbers

    def _in_ranges(self, chunk: Chunk) -> NDArray[np.bool_]:
        keep = np.ones(len(chunk.counts), dtype=bool)
        with np.errstate(all="ignore"):  # broken jets, which are not taken, may hold anything
            px, py, pz, e = (_sum_of_jets(component, chunk) for component in chunk.momenta)
            pt2 = px * px + py * py
            values: list[tuple[tuple[float | None, float | None], Callable[[], NDArray[Any]]]] = [
                (self.pt, lambda: np.sqrt(pt2)),
                (self.eta, lambda: np.arcsinh(pz / np.sqrt(pt2))),
                (self.mass, lambda: np.sqrt(np.maximum(e * e - pt2 - pz * pz, 0.0))),
            ]
            for (low, high), value in values:
                if low is not None:
                    keep &= value() >= low
                if high is not None:
                    keep &= value() < high
        return keep


@dataclass
class Tally:
    """What was read and what was left out.

    Attributes
    ----------
    files : int
        Files that were read.
    entries : int
        Jets that were in what was read of them.
    jets : int
        Jets that were taken.
    cut : int
        Jets that the selection left out.
    bad_jets : int
        Broken jets that were skipped.
    skipped : dict
        Files that were skipped, by name, with the reason.
    layouts : dict
        Number of files by the name of their layout.
    examples : list of str
        Why the first few broken jets are.
    without : list of str
        Files that are in order and have no jets, as skims leave them.
    looks : dict
        Files whose unit was looked at: of each the first jets alone, and a warning is given once.
    """

    files: int = 0
    entries: int = 0
    jets: int = 0
    cut: int = 0
    bad_jets: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    looks: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    def add(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        self.files += other.files
        self.entries += other.entries
        self.jets += other.jets
        self.cut += other.cut
        self.bad_jets += other.bad_jets
        self.examples = [*self.examples, *other.examples][:3]
        self.without += other.without
        for name, reason in other.skipped.items():
            self.skip(name, reason)
        for name, number in other.layouts.items():
            self.layouts[name] = self.layouts.get(name, 0) + number

    def bad(self, reason: str) -> None:
        """Count a broken jet; the first few reasons are kept."""
        self.bad_jets += 1
        if not self.told:
            self.examples.append(reason)

    @property
    def told(self) -> bool:
        """Whether there are enough reasons."""
        return len(self.examples) >= 3

    def skip(self, name: str, reason: str) -> None:
        """Count a file that was skipped."""
        self.skipped.setdefault(name, reason)

    @property
    def complete(self) -> bool:
        """Whether nothing broken was skipped."""
        return not self.skipped and not self.bad_jets

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {name}" for name, number in self.layouts.items())
        parts = [f"{_counted(self.jets, 'jet')} of {_counted(self.files, 'file')}" + (f" ({kinds})" if kinds else "")]
        if self.cut:
            parts.append(f"{self.cut} left out by the selection")
        if self.without:
            parts.append(f"{_counted(len(self.without), 'file')} without jets, the first: {self.without[0]}")
        if self.bad_jets:
            parts.append(f"{_counted(self.bad_jets, 'broken jet')} skipped, the first: {self.examples[0]}")
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            parts.append(f"{_counted(len(self.skipped), 'file')} skipped, the first: {name} ({reason})")
        return "; ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def checked_policy(on_error: str) -> str:
    """`on_error`, if it is one of `ON_ERROR`.

    Raises
    ------
    RinoError
        If it is not.
    """
    if on_error not in ON_ERROR:
        raise RinoError(f"on_error = {on_error!r}: choose 'raise' or 'skip'")
    return on_error


def read_piece(reader: Reader, first: int, last: int, columns: Sequence[str]) -> tuple[Chunk, NDArray[np.int64]]:
    """Jets `first` to `last` - 1 of a file, as their stored precision allows, and their numbers.

    Raises
    ------
    RinoError
        As `Reader.read`.
    """
    chunk = reader.read(first, last, columns).not_below_momentum()
    return chunk, np.arange(first, first + len(chunk.counts), dtype=np.int64)


def piece_of(chunk: Chunk, entries: NDArray[np.int64], name: str) -> _core.JetPiece:
    """The chunk as a `JetPool` takes it; nothing is copied that is float32 or float64 already."""
    origins = chunk.origins
    files, file, entry = ([name], np.zeros(len(entries), np.int32), entries) if origins is None else origins
    return _core.JetPiece(
        [_plain(component, f"{name}: a momentum") for component in chunk.momenta],
        chunk.offsets,
        None if chunk.labels is None else chunk.labels.values,
        {key: _plain(column, f"{name}: {key}") for key, column in chunk.extras.items()},
        {key: _plain(column, f"{name}: {key}") for key, column in chunk.values.items()},
        list(files),
        file,
        entry,
    )


def _plain(column: NDArray[Any], name: str) -> NDArray[Any]:
    if column.dtype not in (np.float32, np.float64):
        exact = column.dtype.kind == "b" or (column.dtype.kind in "iuf" and column.dtype.itemsize <= 2)
        if column.dtype.kind in "iu":
            exactly_float64(column, name)
        column = column.astype(np.float32 if exact else np.float64)
    return np.ascontiguousarray(column)


def _several(name: str, value: Any, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    try:
        parts = (value,) if isinstance(value, (str, int, np.integer)) else tuple(value)
    except TypeError:
        parts = (value,)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, kinds):
            raise RinoError(f"{name} = {value!r}: give {' or '.join(k.__name__ for k in kinds[:2])}, one or several")
    return tuple(
        int(part) if isinstance(part, np.integer) else str(part) if isinstance(part, str) else part for part in parts
    )


def _range(name: str, value: Any) -> Range:
    try:
        low, high = value
    except (TypeError, ValueError):
        raise RinoError(f"{name} = {value!r}: give (low, high), with None for an end that is open") from None
    for end in (low, high):
        if end is not None and (not isinstance(end, (int, float, np.number)) or math.isnan(end)):
            raise RinoError(f"{name} = {value!r}: give two numbers, or None for an end that is open")
    if low is not None and high is not None and not low < high:
        raise RinoError(f"{name} = {value!r} takes no jet: give a lower end below the upper one")
    return tuple(None if end is None else float(end) for end in (low, high))  # type: ignore[return-value]


def _without_labels(chunk: Chunk) -> Chunk:
    return Chunk(chunk.momenta, chunk.counts, None, chunk.extras, chunk.values, chunk.origins)


def _labels_of(source: Source, chunk: Chunk) -> Labels:
    if chunk.labels is None:
        raise RinoError(f"{source} has no labels to select by: leave out label=")
    return chunk.labels


def _drawn(seed: int, source: Source, chunk: Chunk, entries: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) numbers in [0, 1) by where each jet was first: a packed cache gives those of its sources."""
    files, file, entry = chunk.origins or ((str(source),), np.zeros(len(entries), np.int32), entries)
    names = np.array([zlib.crc32(readable(Source(name).name).encode()) for name in files], dtype=np.int64)
    return uniform(seed, names[file], entry)


def _what_is_wrong(source: Source, chunk: Chunk, jet: int, entry: int) -> str:
    """In words, with the place, why a jet that C++ calls bad is; `entry` is its number in the file."""
    begin, end = chunk.offsets[jet], chunk.offsets[jet + 1]
    place = f"{source}: jet {entry}"
    if begin == end:
        return f"{place} has no constituents: leave such jets out with drop_empty=True"
    p4 = np.array([component[begin:end] for component in chunk.momenta], dtype=np.float64).T
    with np.errstate(all="ignore"):
        momentum = np.hypot(np.hypot(p4[:, 0], p4[:, 1]), p4[:, 2])
    finite = np.isfinite(p4).all(axis=1)
    i = int(np.flatnonzero(~finite | below_momentum(p4[:, 3], momentum))[0])
    what = f"has E below |p| = {momentum[i]:.9g} GeV" if finite[i] else "is not finite"
    values = ", ".join(f"{value:.9g}" for value in p4[i])
    return (
        f"{source}: constituent {i} of jet {entry} {what}: (px, py, pz, E) = ({values}) GeV: "
        "repair the file or leave the jet out"
    )


def _scaled(component: NDArray[Any], factor: float) -> NDArray[Any]:
    """(t,) products; not in half precision, which would round momenta again and has nothing above 65504."""
    return np.multiply(component, factor, dtype=np.float32 if component.dtype == np.float32 else np.float64)


def _sum_of_jets(component: NDArray[Any], chunk: Chunk) -> NDArray[np.float64]:
    """(m,) sums over the constituents in double precision; 0 for a jet without."""
    full = np.flatnonzero(chunk.counts)
    sums = np.zeros(len(chunk.counts))
    if full.size:
        sums[full] = np.add.reduceat(component, chunk.offsets[:-1][full], dtype=np.float64)
    return sums


def _pt(chunk: Chunk) -> NDArray[np.float64]:
    """(t,) in double precision, as `Jets` has it whatever the file's."""
    with np.errstate(all="ignore"):
        return np.hypot(chunk.momenta[0], chunk.momenta[1], dtype=np.float64)


def _hardest(chunk: Chunk, n: int) -> Chunk:
    jets = np.repeat(np.arange(len(chunk.counts)), chunk.counts)
    order = np.lexsort((-_pt(chunk), jets))
    rank = np.arange(len(jets)) - np.repeat(chunk.offsets[:-1], chunk.counts)
    order = order[rank < n]
    px, py, pz, e = (component[order] for component in chunk.momenta)
    extras = {name: column[order] for name, column in chunk.extras.items()}
    return Chunk((px, py, pz, e), np.minimum(chunk.counts, n), chunk.labels, extras, chunk.values, chunk.origins)
