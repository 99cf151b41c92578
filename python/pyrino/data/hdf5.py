"""What the readers of HDF5 files share."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyrino.data.layout import Reader
from pyrino.data.source import Source

__all__ = ["Hdf5Reader"]


class Hdf5Reader(Reader):
    """An open file with one row per jet.

    Parameters
    ----------
    source, file
        The file, open.
    rows
        The data set with the most bytes, whose chunks tell where reading is cheap.
    """

    def __init__(self, source: Source, file: Any, rows: Any) -> None:
        self.source, self.file = source, file
        self.entries = len(rows)
        step = rows.chunks[0] if rows.chunks else 1024
        self.starts = np.arange(0, max(self.entries, 1), step, dtype=np.int64)

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()
