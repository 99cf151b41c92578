"""The column names that JetClass's ROOT files, JetClass-II and pyrino's own parquet files share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyrino._columns import counts_kept, offsets_of
from pyrino.data.chunk import Broken, Chunk, need
from pyrino.data.labels import from_columns, label_columns
from pyrino.data.source import Source

__all__ = ["GENERATED", "MOMENTA", "Columns", "Lists", "make_chunk"]

#: px, py, pz, E of the constituents in GeV.
MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")


#: In the names of lists that are not of the constituents but of what the generator made.
GENERATED = "genpart"


class Columns:
    """What a file has beside the momenta and what of it is labels.

    Parameters
    ----------
    kinds : mapping
        Columns that hold numbers: "constituent" for one list of numbers per jet, "jet" for one number.
    types : mapping
        All columns, or those that hold something else -> what.

    Raises
    ------
    RinoError
        If a momentum is missing.
    """

    def __init__(self, source: Source, kinds: dict[str, str], types: Mapping[str, object]) -> None:
        need(source, MOMENTA, kinds, "columns")
        self.labels = label_columns(name for name, kind in kinds.items() if kind == "jet")
        self.others = {name: kind for name, kind in kinds.items() if name not in MOMENTA}
        self.unfit = {name: str(kind) for name, kind in types.items() if name not in kinds}

    def to_read(self, source: Source, columns: Sequence[str]) -> list[str]:
        """All names that a chunk with these columns needs.

        Raises
        ------
        RinoError
            If the file lacks one, or it holds no numbers.
        """
        need(source, columns, (*MOMENTA, *self.others), "columns", self.unfit)
        return list(dict.fromkeys((*MOMENTA, *columns, *self.labels)))


class Lists(NamedTuple):
    """A column of m jets with one list of numbers each."""

    values: NDArray[Any]
    """(t,) all numbers."""
    counts: NDArray[np.int64]
    """(m,) of each jet."""
    fixed: bool
    """Whether all lists have one length by their type, so that zeros may be padding."""
    missing: NDArray[np.bool_] | None = None
    """(t,) true where there is no number, which is 0 in `values`; None: nowhere."""

    def keep(self, here: NDArray[np.bool_]) -> Lists:
        """The numbers for which `here` (t,) is true."""
        missing = None if self.missing is None else self.missing[here]
        return Lists(self.values[here], counts_kept(here, offsets_of(self.counts)), self.fixed, missing)


def make_chunk(
    source: Source,
    first: int,
    columns: Columns,
    wanted: Iterable[str],
    lists_of: Callable[[str], Lists],
    jets_of: Callable[[str], NDArray[Any]],
    labels_of: Callable[[str], NDArray[Any]],
    broken: Broken,
) -> Chunk:
    """A chunk from columns, of which `lists_of` gives lists, `jets_of` (m,) numbers and `labels_of` (m,) anything.

    `broken` has, when these were called, the jets for which they found no numbers. Constituents of four zeros are
    padding where lists have one length by their type, as they are in arrays of HDF5 and npz; those without any momentum
    are not there.
    """
    wanted = list(dict.fromkeys(name for name in wanted if name not in MOMENTA))
    ragged = [*MOMENTA, *(name for name in wanted if columns.others[name] == "constituent")]
    found = {name: lists_of(name) for name in ragged}
    values = {name: np.asarray(jets_of(name)) for name in wanted if columns.others[name] == "jet"}
    _same_lengths(source, first, {name: found[name] for name in MOMENTA}, broken)
    found = _sound(found, broken)
    found = _present(found)
    _same_lengths(source, first, found, broken)
    for name, lists in found.items():
        if lists.missing is not None:
            jets = np.searchsorted(np.cumsum(lists.counts), np.flatnonzero(lists.missing), side="right")
            for j in np.unique(jets).tolist():
                why = f"{source}: {name} of jet {first + j} has missing values (null): write numbers"
                broken.setdefault(j, why)
    found = _sound(found, broken)
    px, py, pz, energy = (found[name].values for name in MOMENTA)
    labels = from_columns({name: labels_of(name) for name in columns.labels})
    extras = {name: lists.values for name, lists in found.items() if name not in MOMENTA}
    return Chunk((px, py, pz, energy), found[MOMENTA[0]].counts, labels, extras, values, broken=broken)


def _present(found: dict[str, Lists]) -> dict[str, Lists]:
    """The lists without what is padding, or missing in all momenta; some columns may be without it already."""
    momenta = [found[name] for name in MOMENTA]
    missing = [lists.missing for lists in momenta if lists.missing is not None]
    absent = [np.logical_and.reduce(missing)] if len(missing) == len(momenta) else []
    if all(lists.fixed for lists in momenta):
        absent.append(np.logical_and.reduce([lists.values == 0 for lists in momenta]))
    present = ~np.logical_or.reduce(absent) if absent else np.ones(0, dtype=bool)
    if present.all():
        return found
    counts = momenta[0].counts

    def without(lists: Lists) -> Lists:
        alike = lists.counts == counts
        here = np.ones(len(lists.values), dtype=bool)
        here[np.repeat(alike, lists.counts)] = present[np.repeat(alike, counts)]
        return lists.keep(here)

    return {name: without(lists) for name, lists in found.items()}


def _same_lengths(source: Source, first: int, found: dict[str, Lists], broken: Broken) -> None:
    """Adds the jets for which not all columns have equally many numbers to `broken`."""
    (reference, expected), *others = ((name, lists.counts) for name, lists in found.items())
    for name, counts in others:
        for j in np.flatnonzero(counts != expected).tolist():
            why = f"has {expected[j]} values of {reference} but {counts[j]} of {name}"
            broken.setdefault(j, f"{source}: jet {first + j} {why}; the columns of a jet must be equally long")


def _sound(found: dict[str, Lists], broken: Broken) -> dict[str, Lists]:
    """The lists without the numbers of broken jets, of which columns may have differently many."""
    if not broken:
        return found
    sound = np.ones(len(found[MOMENTA[0]].counts), dtype=bool)
    sound[list(broken)] = False
    return {name: lists.keep(np.repeat(sound, lists.counts)) for name, lists in found.items()}
