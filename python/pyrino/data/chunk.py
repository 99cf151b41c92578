"""What every layout's reader yields, and how all of them speak of damaged files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._columns import counts_kept, half_rounding, not_below_momentum, offsets_of, read_only
from pyrino.data.source import Source
from pyrino.errors import RinoError
from pyrino.jets import Jets, Origins

__all__ = ["NO_LABEL", "Broken", "Chunk", "Labels", "need", "not_negative", "reading", "unpadded"]

Array = NDArray[Any]

_NONE: Mapping[str, str] = MappingProxyType({})


#: In the place of the class number of a jet that has none.
NO_LABEL = -1

#: Jets of a chunk that cannot be used: their place in it -> why, in words with the file and the jet's number there.
Broken = dict[int, str]


@dataclass(frozen=True)
class Labels:
    """Class numbers of m jets.

    Attributes
    ----------
    values : numpy.ndarray
        (m,) int64; `NO_LABEL` for a jet that has none, whatever its file says instead: that is looked at where labels
        are wanted.
    meaning : str
        Whose numbers they are: numbers of different meaning are never mixed.
    names : tuple of str
        Name of each number, where they have names.
    said : mapping
        What the file says of the jets, column -> (m,), for the message about those without; may be empty.
    rule : str
        What it should say.
    """

    values: NDArray[np.int64]
    meaning: str
    names: tuple[str, ...] = ()
    said: Mapping[str, Array] = field(default_factory=dict)
    rule: str = "labels are 0, 1, 2 ..."

    def select(self, keep: NDArray[np.bool_]) -> Labels:
        """Those of the jets for which `keep` (m,) is true."""
        said = {name: column[keep] for name, column in self.said.items()}
        return replace(self, values=self.values[keep], said=said)

    def fault(self, jet: int) -> str:
        """In words, what is wrong with the label of a jet that has none."""
        said = {name: column[jet] for name, column in self.said.items()}
        null = [name for name, value in said.items() if value is None]
        if null:
            return f"has no {null[0]} (null)"
        if len(said) == 1:
            ((name, value),) = said.items()
            return f"has {name} = {value!s}; {self.rule}"
        numbers = {name: getattr(value, "item", lambda value=value: value)() for name, value in said.items()}
        return f"has the labels {numbers}; {self.rule}" if said else f"has no label; {self.rule}"


@dataclass(frozen=True)
class Chunk:
    """m consecutive jets of a file with t constituents, in the file's precision.

    Attributes
    ----------
    momenta : tuple of numpy.ndarray
        px, py, pz, E in GeV, (t,) each.
    counts : numpy.ndarray
        (m,) constituents of each jet, 0 allowed.
    labels : Labels or None
        Of the jets, where the file has them.
    extras : mapping
        The columns asked for that have one value per constituent, (t,) each.
    values : mapping
        The columns asked for that have one value per jet, (m,) each.
    origins : Origins or None
        Where the jets were before they came into this file, for a file that knows (a packed cache); None: they are
        known by this file.
    broken : mapping
        Jets that cannot be used, in the file's words (see `Broken`); what is held of them means nothing.
    """

    momenta: tuple[Array, Array, Array, Array]
    counts: NDArray[np.int64]
    labels: Labels | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    origins: Origins | None = None
    broken: Mapping[int, str] = field(default_factory=dict)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(m + 1,) first constituent of each jet, and t."""
        return offsets_of(self.counts)

    def jets(self) -> Jets:
        """Momenta, as float64 in the order of columns, extras and values; without labels and origins."""
        p4 = np.empty((len(self.momenta[0]), 4), order="F")
        for c, component in enumerate(self.momenta):
            p4[:, c] = component
        jets = Jets._wrap(_core.Jets.from_p4(p4, self.offsets), read_only(p4))
        for name, column in self.extras.items():
            jets = jets.with_extra(name, column)
        for name, column in self.values.items():
            jets = jets.with_value(name, column)
        return jets

    @staticmethod
    def join(chunks: Sequence[Chunk]) -> Chunk:
        """Chunks of one file, with the same columns, one behind the other."""
        first = chunks[0]
        if len(chunks) == 1:
            return first

        def joined(columns: Iterable[Array]) -> Array:
            return np.concatenate(list(columns))

        px, py, pz, e = (joined(chunk.momenta[c] for chunk in chunks) for c in range(4))
        labels = first.labels
        if labels is not None:
            each = cast("list[Labels]", [chunk.labels for chunk in chunks])  # as the first, so all
            names = labels.said if all(some.said.keys() == labels.said.keys() for some in each) else ()
            said = {name: joined(some.said[name] for some in each) for name in names}
            labels = replace(labels, values=joined(some.values for some in each), said=said)
        starts = np.cumsum([0, *(len(chunk.counts) for chunk in chunks)]).tolist()
        broken = {start + jet: why for start, c in zip(starts, chunks, strict=False) for jet, why in c.broken.items()}
        origins = None
        if first.origins is not None:
            places = cast("list[Origins]", [chunk.origins for chunk in chunks])
            files = tuple(dict.fromkeys(name for place in places for name in place.files))
            file = [np.array([files.index(n) for n in place.files], np.int32)[place.file] for place in places]
            origins = Origins(files, np.concatenate(file), joined(place.entry for place in places))
        return Chunk(
            (px, py, pz, e),
            joined(chunk.counts for chunk in chunks),
            labels,
            {name: joined(chunk.extras[name] for chunk in chunks) for name in first.extras},
            {name: joined(chunk.values[name] for chunk in chunks) for name in first.values},
            origins,
            broken,
        )

    def select(self, keep: NDArray[np.bool_], constituents: NDArray[np.bool_] | None = None) -> Chunk:
        """The jets for which `keep` (m,) is true, and of them the constituents for which `constituents` (t,) is."""
        rows = np.repeat(keep, self.counts)
        counts = self.counts
        if constituents is not None:
            rows &= constituents
            counts = counts_kept(constituents, self.offsets)
        labels = self.labels and self.labels.select(keep)
        place = np.cumsum(keep) - 1
        broken = {int(place[jet]): why for jet, why in self.broken.items() if keep[jet]}
        origins = self.origins and Origins(self.origins.files, self.origins.file[keep], self.origins.entry[keep])
        px, py, pz, e = (component[rows] for component in self.momenta)
        return Chunk(
            (px, py, pz, e),
            counts[keep],
            labels,
            {name: column[rows] for name, column in self.extras.items()},
            {name: column[keep] for name, column in self.values.items()},
            origins,
            broken,
        )

    def not_below_momentum(self) -> Chunk:
        """With E not below |p| by the rounding of half precision, where momenta are stored in it."""
        rounding = half_rounding(*(component.dtype for component in self.momenta))
        if not rounding:
            return self
        return replace(self, momenta=(*self.momenta[:3], not_below_momentum(*self.momenta, rounding)))


@contextmanager
def reading(source: Source, kind: str) -> Iterator[None]:
    """Turns whatever a library raises over a file's content into a `RinoError` that names the file."""
    try:
        yield
    except (RinoError, MemoryError):
        raise
    except Exception as error:  # over damaged bytes the parsers raise errors of every kind
        if source.path is not None and not source.path.exists():
            raise RinoError(f"{source} has vanished while it was read: put it back, or leave it out") from error
        if isinstance(error, ImportError):
            raise RinoError(f"{source} needs a package that is not there: {error}") from error
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise RinoError(
            f"{source} cannot be read as {kind} ({reason}); it is truncated, damaged or of another kind: "
            "fetch or write it again"
        ) from error


def need(
    source: Source, wanted: Iterable[str], present: Iterable[str], what: str, unfit: Mapping[str, str] = _NONE
) -> None:
    """Raises `RinoError` with what is missing and what the file has, unless all is there.

    `unfit` has what is there and cannot be taken -> its type.
    """
    wanted, have = list(wanted), list(present)
    for name in wanted:
        if name in unfit and name not in have:
            raise RinoError(f"{source}: {name} is of type {unfit[name]}; it must hold numbers, one list or one per jet")
    missing = [name for name in wanted if name not in have]
    if missing:
        shown = ", ".join(have[:60]) + (", ..." if len(have) > 60 else "")
        raise RinoError(f"{source} lacks the {what} {', '.join(missing)}; it has {shown or 'none'}")


def chosen(columns: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """The columns to read of a file, in which "a|b" says: a where the file has it, else b."""
    have = set(present)
    return tuple(next((name for name in column.split("|") if name in have), column) for column in columns)


def not_negative(
    source: Source, first: int, values: NDArray[Any], counts: NDArray[np.int64], what: str = "pT", least: float = 0
) -> Broken:
    """The jets that have a transverse momentum (t,) below 0, which would turn a constituent around.

    Parameters
    ----------
    what, least
        The quantity, and its bound [GeV] where rounding may leave it below 0.
    """
    wrong = np.flatnonzero(values < least)
    ends = np.cumsum(counts)
    broken: Broken = {}
    for row, jet in zip(wrong.tolist(), np.searchsorted(ends, wrong, side="right").tolist(), strict=True):
        i = row - int(ends[jet] - counts[jet])
        why = f"constituent {i} of jet {first + jet} has {what} = {values[row]:g} GeV; it must be {least:g} or more"
        broken.setdefault(jet, f"{source}: {why}")
    return broken


def unpadded(block: Array, columns: int = 4) -> NDArray[np.bool_]:
    """(m, M) where [m, M, k], padded with zeros, holds a constituent: any of its first columns is not 0."""
    mask = np.asarray(block[..., 0] != 0)
    for c in range(1, columns):  # several times faster than any() over so short an axis
        mask |= block[..., c] != 0
    return mask
