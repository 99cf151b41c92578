"""What evaluation asks of scores, labels and numbers that users give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import as_array, to_float64
from pyrino.errors import RinoError
from pyrino.views import _float, _int64

__all__ = ["check_efficiency", "check_labels", "check_resamplings", "check_scores", "random_numbers"]


def check_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores as float64 and labels as bool, after all checks.

    Raises
    ------
    RinoError
        If the arrays are not one-dimensional and equally long, a score is NaN or infinite, a label is
        neither 0 nor 1, or a class is missing.
    """
    scores = to_float64(scores, "scores")
    if scores.ndim != 1:
        raise RinoError(f"scores have shape {scores.shape}: give one score per jet, shape (n,)")
    labels = check_labels(labels, scores.size, "scores")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise RinoError(
            f"scores[{bad[0]}] = {scores[bad[0]]} is not finite ({bad.size} of {scores.size} are not): "
            "look for NaN in the network's input or a training that diverged"
        )
    return scores, labels


def check_labels(labels: ArrayLike, n: int, beside: str) -> NDArray[np.bool_]:
    """Labels as bool (n,), after checking that they are 0/1, one per row of `beside`, both present.

    Raises
    ------
    RinoError
        If they are not.
    """
    labels = as_array(labels, "labels", "are")
    if labels.shape != (n,):
        raise RinoError(f"labels have shape {labels.shape} beside {n} {beside}: give one label per jet")
    wrong = np.flatnonzero(~np.isin(labels, (0, 1)) if labels.dtype.kind in "fiub" else np.ones(n, dtype=bool))
    if wrong.size:
        raise RinoError(
            f"labels[{wrong[0]}] = {labels[wrong[0]]!s} is neither 0 (background) nor 1 (signal): "
            "map the classes to 0 and 1 first"
        )
    labels = labels.astype(bool)
    n_signal = int(labels.sum())
    if n_signal in (0, n):
        missing = "signal (1)" if n_signal == 0 else "background (0)"
        raise RinoError(f"the {n} labels hold no {missing} jet: give jets of both classes")
    return labels


def random_numbers(seed: int) -> np.random.Generator:
    """NumPy's generator.

    Raises
    ------
    RinoError
        For a seed that it does not take.
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise RinoError(f"seed = {seed!r} is no seed ({error}): give an integer of 0 or more") from error


def check_efficiency(efficiency: float, what: str = "signal_efficiency") -> None:
    """Raise `RinoError` unless it is in (0, 1]."""
    if not 0 < _float(efficiency, what) <= 1:
        usual = 0.5 if what == "signal_efficiency" else 0.01
        raise RinoError(f"{what} = {efficiency} is outside (0, 1]; {usual} is usual")


def check_resamplings(n: int) -> None:
    """Raise `RinoError` unless an error can be told from so many."""
    if _int64(n, "n") < 2:
        raise RinoError(f"n = {n} resamplings give no error: use at least 2, 200 is usual")
