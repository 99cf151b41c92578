"""The column names that JetClass's ROOT files, JetClass-II and pyrino's own parquet files share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, equal_counts, need
from pyrino.data.labels import from_columns, label_columns

__all__ = ["MOMENTA", "columns_to_read", "make_chunk"]

#: px, py, pz, E of the constituents in GeV.
MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")


def columns_to_read(path: Path, present: Iterable[str], extras: Iterable[str]) -> tuple[list[str], list[str]]:
    """The columns of constituents and those of labels; a `RinoError` names what is missing."""
    present = list(present)
    ragged = list(dict.fromkeys((*MOMENTA, *extras)))
    need(path, ragged, present, "columns")
    return ragged, label_columns(present)


def make_chunk(
    path: Path,
    first_jet: int,
    ragged: Iterable[str],
    labels: Iterable[str],
    constituents_of: Callable[[str], tuple[NDArray[Any], NDArray[Any]]],
    jets_of: Callable[[str], NDArray[Any]],
) -> Chunk:
    """A chunk from columns: `constituents_of(name)` gives (t,) values and (m,) counts, `jets_of(name)` (m,) values."""
    columns = {name: constituents_of(name) for name in ragged}
    counts = equal_counts(path, first_jet, {name: counts for name, (_, counts) in columns.items()})
    px, py, pz, energy = (columns[name][0] for name in MOMENTA)
    extras = {name: values for name, (values, _) in columns.items() if name not in MOMENTA}
    found = from_columns(path, first_jet, {name: np.asarray(jets_of(name)) for name in labels})
    return Chunk((px, py, pz, energy), counts, found, extras)
