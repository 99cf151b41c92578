"""Random numbers that are functions of their keys: no state, the same on every machine and with every NumPy.

Those of C++ (include/rino/core/random.hpp), for arrays of keys.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pyrino import _core

__all__ = ["Purpose", "order", "uniform"]


class Purpose(IntEnum):
    """What a stream's random numbers are for, second in their key after the seed; C++ has those from 11 on."""

    PIECES = 1
    JETS = 2
    MIXTURE = 3
    TURNS = 4
    WINDOW = 5
    ASIDE = 6


def uniform(*key: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Numbers in [0, 1), one for each entry of the arrays in `key`; its single numbers hold for all."""
    return (_bits(*key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def order(count: int, *key: int) -> NDArray[np.int64]:
    """A permutation of 0 .. `count` - 1."""
    numbers = np.arange(count)
    # The last bits are the number itself: no two keys are equal, so that the fastest sort of any machine will do.
    shift = np.uint64(max(count - 1, 0).bit_length())
    return np.argsort((_bits(*key, numbers) >> shift << shift) | numbers.astype(np.uint64))


def _bits(*key: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    parts = (np.atleast_1d(part % 2**64 if isinstance(part, int) else part).astype(np.uint64) for part in key)
    return _core.random_bits(np.stack(np.broadcast_arrays(*parts), axis=-1))
