"""The column names that JetClass's ROOT files, JetClass-II and pyrino's own parquet files share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, equal_counts, need
from pyrino.data.labels import from_columns, label_columns
from pyrino.data.source import Source

__all__ = ["GENERATED", "MOMENTA", "Columns", "make_chunk"]

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


def make_chunk(
    source: Source,
    first: int,
    columns: Columns,
    wanted: Iterable[str],
    constituents_of: Callable[[str], tuple[NDArray[Any], NDArray[Any]]],
    jets_of: Callable[[str], NDArray[Any]],
) -> Chunk:
    """A chunk from columns: `constituents_of(name)` gives (t,) values and (m,) counts, `jets_of(name)` (m,) values."""
    wanted = list(dict.fromkeys(name for name in wanted if name not in MOMENTA))
    ragged = [*MOMENTA, *(name for name in wanted if columns.others[name] == "constituent")]
    found = {name: constituents_of(name) for name in ragged}
    counts = equal_counts(source, first, {name: counts for name, (_, counts) in found.items()})
    px, py, pz, energy = (found[name][0] for name in MOMENTA)
    labels = from_columns(source, first, {name: np.asarray(jets_of(name)) for name in columns.labels})
    extras = {name: values for name, (values, _) in found.items() if name not in MOMENTA}
    values = {name: np.asarray(jets_of(name)) for name in wanted if columns.others[name] == "jet"}
    return Chunk((px, py, pz, energy), counts, labels, extras, values)
