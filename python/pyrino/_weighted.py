"""Means, spreads and quantiles of jets that count by their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective_number", "mean", "quantiles", "standard_deviation"]

Floats = NDArray[np.float64]


def mean(x: Floats, w: Floats | None) -> float:
    """sum(w x) / sum(w); w None: all 1."""
    return float(np.mean(x) if w is None else np.average(x, weights=w))


def standard_deviation(x: Floats, w: Floats | None, ddof: int = 0) -> float:
    """sqrt of sum(w (x - mean)^2) / sum(w); `ddof` 1 divides by 1 - 1 / `effective_number`, too."""
    if w is None:
        return float(np.std(x, ddof=ddof))
    variance = np.average((x - mean(x, w)) ** 2, weights=w)
    n = effective_number(w)
    return float(np.sqrt(variance * (n / (n - 1) if ddof and n > 1 else 1.0)))


def quantiles(x: Floats, q: Sequence[float], w: Floats | None) -> list[float]:
    """NumPy's; of weighted jets the lowest values up to which the shares `q` of the weight lie."""
    if w is None:
        return np.quantile(x, q).tolist()
    order = np.argsort(x, kind="stable")
    share = np.cumsum(w[order])
    # The tolerance keeps a share that is reached exactly from being missed by rounding.
    places = np.searchsorted(share, np.asarray(q) * share[-1] * (1 - 1e-12))
    return x[order[np.minimum(places, len(x) - 1)]].tolist()


def effective_number(w: Floats) -> float:
    """(sum w)^2 / sum w^2: so many jets of one weight have means with the same errors (Kish, 1965)."""
    return float(w.sum() ** 2 / (w**2).sum())
