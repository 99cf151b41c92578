"""`Origins`: what `Jets.origins` gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Origins"]


class Origins(NamedTuple):
    """Where n jets came from, to join results with the source.

    Attributes
    ----------
    files : tuple of str
        Names of the files.
    file : numpy.ndarray
        (n,) int32, which of `files` a jet is from.
    entry : numpy.ndarray
        (n,) int64, number of the jet in its file, from 0; of files of events (NanoAOD) that of its event.
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    entry: NDArray[np.int64]

    @property
    def names(self) -> NDArray[np.str_]:
        """(n,) name of each jet's file."""
        return np.asarray(self.files or ("",))[self.file]
