"""Random numbers that are functions of their keys: no state, the same on every machine and with every NumPy.

SplitMix64, for arrays of keys (include/rino/core/random.hpp; Steele, Lea, Flood 2014, doi:10.1145/2714064.2660195).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Purpose", "order", "uniform"]


class Purpose(IntEnum):
    """What a stream's random numbers are for, second in their key after the seed; C++ has those from 11 on."""

    PIECES = 1
    JETS = 2
    MIXTURE = 3
    TURNS = 4
    WINDOW = 5
    ASIDE = 6


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


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
    state = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):  # wraps around by design
        for part in key:
            state = _mix(
                state ^ _mix(np.asarray(part % 2**64 if isinstance(part, int) else part).astype(np.uint64) + _GAMMA)
            )
        return _mix(state + _GAMMA)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
