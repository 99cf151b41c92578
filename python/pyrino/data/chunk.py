"""What every layout's reader yields, and how all of them speak of damaged files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.source import Source
from pyrino.errors import RinoError
from pyrino.jets import Origins

__all__ = ["Chunk", "Labels", "equal_counts", "need", "reading", "unpadded"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Labels:
    """Class numbers of m jets.

    Attributes
    ----------
    values : numpy.ndarray
        (m,) int64.
    meaning : str
        Whose numbers they are: numbers of different meaning are never mixed.
    names : tuple of str
        Name of each number, where they have names.
    """

    values: NDArray[np.int64]
    meaning: str
    names: tuple[str, ...] = ()


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
    """

    momenta: tuple[Array, Array, Array, Array]
    counts: NDArray[np.int64]
    labels: Labels | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    origins: Origins | None = None

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(m + 1,) first constituent of each jet, and t."""
        offsets = np.zeros(len(self.counts) + 1, dtype=np.int64)
        np.cumsum(self.counts, out=offsets[1:])
        return offsets

    def select(self, keep: NDArray[np.bool_], constituents: NDArray[np.bool_] | None = None) -> Chunk:
        """The jets for which `keep` (m,) is true, and of them the constituents for which `constituents` (t,) is."""
        rows = np.repeat(keep, self.counts)
        counts = self.counts
        if constituents is not None:
            rows &= constituents
            before = np.concatenate([[0], np.cumsum(constituents)])
            counts = np.diff(before[self.offsets])
        labels = self.labels and replace(self.labels, values=self.labels.values[keep])
        origins = self.origins and Origins(self.origins.files, self.origins.file[keep], self.origins.entry[keep])
        px, py, pz, e = (component[rows] for component in self.momenta)
        return Chunk(
            (px, py, pz, e),
            counts[keep],
            labels,
            {name: column[rows] for name, column in self.extras.items()},
            {name: column[keep] for name, column in self.values.items()},
            origins,
        )


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
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise RinoError(
            f"{source} cannot be read as {kind} ({reason}); it is truncated, damaged or of another kind: "
            "fetch or write it again"
        ) from error


def need(source: Source, wanted: Iterable[str], present: Iterable[str], what: str) -> None:
    """Raises `RinoError` with what is missing and what the file has, unless all is there."""
    have = list(present)
    missing = [name for name in wanted if name not in have]
    if missing:
        shown = ", ".join(have[:60]) + (", ..." if len(have) > 60 else "")
        raise RinoError(f"{source} lacks the {what} {', '.join(missing)}; it has {shown or 'none'}")


def equal_counts(source: Source, first_jet: int, counts: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """The number of constituents of each jet, which all columns must agree on."""
    (reference, expected), *others = counts.items()
    for name, found in others:
        wrong = np.flatnonzero(found != expected)
        if wrong.size:
            j = wrong[0]
            raise RinoError(
                f"{source}: jet {first_jet + j} has {expected[j]} values of {reference} but {found[j]} of {name}; "
                "the columns of a jet must be equally long"
            )
    return expected.astype(np.int64, copy=False)


def unpadded(block: Array, columns: int = 4) -> NDArray[np.bool_]:
    """(m, M) where [m, M, k], padded with zeros, holds a constituent: any of its first columns is not 0."""
    mask = np.asarray(block[..., 0] != 0)
    for c in range(1, columns):  # several times faster than any() over so short an axis
        mask |= block[..., c] != 0
    return mask
