"""Numbers that a run writes down step by step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.files import whole_file

__all__ = ["HISTORY", "History"]

#: The file's name in a run's folder.
HISTORY = "history.parquet"


class History(Mapping[str, np.ndarray]):
    """Columns of numbers by name, one row per step or epoch: ``history["loss"]`` is an array.

    Saved as parquet, so that pandas, awkward or ROOT's RDataFrame can read it.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []

    @checked
    def append(self, row: Mapping[str, float]) -> None:
        """Add a row."""
        self._rows.append(dict(row))

    @checked
    def truncate(self, rows: int) -> None:
        """Keep the first rows: what a checkpoint already knew."""
        del self._rows[rows:]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names():
            raise KeyError(f"the history has no {name!r}, only {', '.join(self._names())}")
        return np.array([row.get(name, np.nan) for row in self._rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"History({len(self._rows)} rows: {', '.join(self._names())})"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self._rows for name in row))

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history as parquet, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with whole_file(path) as partial, open(partial, "wb") as file:  # pyarrow would take names apart at colons
            pq.write_table(pa.table({name: self[name] for name in self}), file)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote; an absent file is an empty history."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        history = cls()
        if not Path(path).is_file():
            return history
        try:
            with open(path, "rb") as file:
                history._rows = pq.read_table(file).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise RinoError(f"the history {path} cannot be read: {error}: remove it to go on without") from error
        return history
