"""Figures of merit of taggers of several classes, and of numbers, with bootstrap errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import as_array, check_weights, to_float64
from pyrino._weighted import mean, quantiles, standard_deviation
from pyrino.errors import RinoError
from pyrino.evaluate.checks import check_resamplings, random_numbers
from pyrino.evaluate.metrics import Measurement, roc_auc

__all__ = ["class_metrics", "confusion_matrix", "regression_metrics"]


def confusion_matrix(
    probabilities: ArrayLike, outputs: ArrayLike, *, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Of the jets of each class (row), the share that is called each class (column), the most probable one.

    Parameters
    ----------
    probabilities
        (n, classes).
    outputs
        (n,) the number of each jet's class, from 0; each is there.
    weights
        (n,) how much each jet counts: finite, none negative, each class with some; None: 1.

    Returns
    -------
    numpy.ndarray
        (classes, classes) float64; rows have the sum 1.

    Raises
    ------
    RinoError
        If shapes do not fit, a number is not finite, a class has no jet, or weights are none.
    """
    p, y, w = _checked(probabilities, outputs, weights)
    return _confusion(p.argmax(axis=1), y, w, p.shape[1])


def class_metrics(
    probabilities: ArrayLike,
    outputs: ArrayLike,
    seed: int = 0,
    *,
    n: int = 200,
    weights: ArrayLike | None = None,
) -> dict[str, Measurement]:
    """Accuracy, mean accuracy of the classes, and macro one-vs-rest AUC, with bootstrap errors.

    Parameters
    ----------
    probabilities, outputs, weights
        As `confusion_matrix` takes them.
    seed
        Of the resampling, which draws the jets of each class again with replacement.
    n
        Number of resamplings, at least 2.

    Returns
    -------
    dict of str to Measurement
        ``accuracy``: share of all jets that are called what they are. ``balanced_accuracy``: the mean of that share
        over the classes. ``macro_auc``: the mean over the classes of the area under the ROC curve of the class's
        probability against all other jets.

    Raises
    ------
    RinoError
        As `confusion_matrix`, or if ``n < 2``.
    """
    p, y, w = _checked(probabilities, outputs, weights)
    check_resamplings(n)
    of_class = [np.flatnonzero(y == c) for c in range(p.shape[1])]

    def evaluate(picks: NDArray[np.int64]) -> list[float]:
        some, labels, v = p[picks], y[picks], None if w is None else w[picks]
        called = some.argmax(axis=1)
        right = np.diag(_confusion(called, labels, v, p.shape[1]))
        areas = [roc_auc(some[:, c], labels == c, weights=v) for c in range(p.shape[1])]
        return [mean((called == labels).astype(np.float64), v), float(right.mean()), float(np.mean(areas))]

    def again(rng: np.random.Generator) -> NDArray[np.int64]:
        return np.concatenate([rng.choice(mine, len(mine)) for mine in of_class])

    names = ("accuracy", "balanced_accuracy", "macro_auc")
    return _measured(names, evaluate, np.arange(len(y)), again, seed, n)


def regression_metrics(
    predicted: ArrayLike, truth: ArrayLike, seed: int = 0, *, n: int = 200, weights: ArrayLike | None = None
) -> dict[str, Measurement]:
    """Bias and resolution of one target, in its units, with bootstrap errors.

    Parameters
    ----------
    predicted, truth
        (m,), two or more.
    seed, n
        Of the resampling of the jets, as `class_metrics` takes them.
    weights
        (m,) how much each jet counts: finite, none negative; None: 1.

    Returns
    -------
    dict of str to Measurement
        Of the residual, predicted - truth: ``bias``, its mean; ``resolution``, its standard deviation;
        ``half_width_68``, half of the central interval that holds 68.27% of it; ``explained``, 1 - the mean of its
        square over the variance of the truth (R^2).

    Raises
    ------
    RinoError
        If shapes do not fit or a number is not finite, weights are none, or if ``n < 2``.
    """
    x, y = to_float64(predicted, "predicted"), to_float64(truth, "truth")
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise RinoError(f"predicted and truth have shapes {x.shape} and {y.shape}: give (m,) of both, two or more")
    for name, values in (("predicted", x), ("truth", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise RinoError(f"{name}[{bad[0]}] = {values[bad[0]]} is not finite: leave such jets out")
    w = None
    if weights is not None:
        w = check_weights(weights, len(x))
        x, y, w = x[w > 0], y[w > 0], w[w > 0]
    check_resamplings(n)

    def evaluate(picks: NDArray[np.int64]) -> list[float]:
        residual, v = x[picks] - y[picks], None if w is None else w[picks]
        low, high = quantiles(residual, [0.15865, 0.84135], v)
        spread = standard_deviation(y[picks], v) ** 2
        explained = 1 - mean(residual**2, v) / spread if spread > 0 else np.nan
        return [mean(residual, v), standard_deviation(residual, v), (high - low) / 2, float(explained)]

    names = ("bias", "resolution", "half_width_68", "explained")
    return _measured(names, evaluate, np.arange(len(x)), lambda rng: rng.integers(0, len(x), len(x)), seed, n)


def _measured(
    names: Sequence[str],
    evaluate: Callable[[NDArray[np.int64]], list[float]],
    everything: NDArray[np.int64],
    again: Callable[[np.random.Generator], NDArray[np.int64]],
    seed: int,
    n: int,
) -> dict[str, Measurement]:
    rng = random_numbers(seed)
    values = evaluate(everything)
    errors = np.std([evaluate(again(rng)) for _ in range(n)], axis=0, ddof=1)
    return {name: {"value": v, "error": float(e)} for name, v, e in zip(names, values, errors, strict=True)}


def _checked(
    probabilities: ArrayLike, outputs: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None]:
    p = to_float64(probabilities, "probabilities")
    y = as_array(outputs, "outputs", "are")
    if p.ndim != 2 or p.shape[1] < 2 or y.shape != p.shape[:1]:
        raise RinoError(
            f"probabilities and outputs have shapes {p.shape} and {y.shape}: give (n, classes) and (n,), two "
            "classes or more"
        )
    bad = np.flatnonzero(~np.isfinite(p).all(axis=1))
    if bad.size:
        raise RinoError(f"the probabilities of jet {bad[0]} are {p[bad[0]].tolist()}: they are to be finite")
    wrong = np.flatnonzero(~np.isin(y, np.arange(p.shape[1])))
    if wrong.size:
        raise RinoError(f"outputs[{wrong[0]}] = {y[wrong[0]]!s} is no class of {p.shape[1]}: they count from 0")
    y = y.astype(np.int64)
    missing = np.setdiff1d(np.arange(p.shape[1]), y)
    if missing.size:
        raise RinoError(f"there is no jet of class {missing[0]}: give jets of all {p.shape[1]} classes")
    if weights is None:
        return p, y, None
    w = check_weights(weights, len(y), y)
    return p[w > 0], y[w > 0], w[w > 0]


def _confusion(
    called: NDArray[np.int64], y: NDArray[np.int64], w: NDArray[np.float64] | None, classes: int
) -> NDArray[np.float64]:
    counts = np.bincount(y * classes + called, w, classes**2).reshape(classes, classes).astype(np.float64)
    return counts / counts.sum(axis=1, keepdims=True)
