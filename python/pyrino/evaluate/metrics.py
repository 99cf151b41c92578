"""Figures of merit of a tagger: accuracy, ROC curve, background rejection, with bootstrap errors.

Everywhere `scores` is (n,) floating point, larger = more signal-like, and `labels` is (n,) with 1 for
signal (top) and 0 for background (QCD). A jet is called signal if its score is at or above the threshold.

`weights` (n,), where given, says how much each jet counts: finite, none negative, each class with some. Efficiencies
are shares of the weight, and resamplings draw jets with their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import check_weights, one_dimensional
from pyrino._weighted import effective_number, quantiles
from pyrino.errors import RinoError
from pyrino.evaluate.checks import check_efficiency, check_resamplings, check_scores, random_numbers
from pyrino.views import _float, _int64

__all__ = [
    "HEADLINE_METRICS",
    "Measurement",
    "RocCurve",
    "accuracy",
    "accuracy_at_median",
    "background_efficiency",
    "bootstrap",
    "combine_seeds",
    "rejection",
    "rejection_name",
    "roc_auc",
    "roc_curve",
    "score_histogram",
    "tagger_metrics",
    "thin_roc",
]

#: Signal efficiencies at which `tagger_metrics` reports the background rejection.
SIGNAL_EFFICIENCIES = (0.3, 0.5, 0.7)

#: What the report's main table shows, in its order.
HEADLINE_METRICS = ("accuracy", "accuracy_at_median", "auc", "rejection_at_0.5")

#: Confidence level of the lower bound on 1/eps_B where no background jet passes.
CONFIDENCE_LEVEL = 0.95


class _MeasurementValues(TypedDict):
    value: float
    error: float | None


class Measurement(_MeasurementValues, total=False):
    """A number with its error, ready for JSON.

    Attributes
    ----------
    value : float
        The number; the mean over the seeds where there are several.
    error : float or None
        Its standard error from the finite test sample (bootstrap), or the spread over folds where the
        function says so; None where there is none (a lower bound).
    lower_bound : bool
        The value is a lower bound at 95% confidence (no background jet passes). Absent means False.
    seed_values : list of float
        One value per training seed, where there are several.
    folds : list of float
        One value per fold, where cross-validated.
    """

    lower_bound: bool
    seed_values: list[float]
    folds: list[float]


class RocCurve(NamedTuple):
    """The ROC curve, one entry per distinct score, thresholds falling.

    Attributes
    ----------
    background_efficiency, signal_efficiency : ndarray
        (m,) float64, share of each class with a score at or above the threshold, both rising from 0 to 1.
    thresholds : ndarray
        (m,) float64; the first is infinite (nothing passes).
    """

    background_efficiency: NDArray[np.float64]
    signal_efficiency: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def accuracy(
    scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5, *, weights: ArrayLike | None = None
) -> float:
    """Share of jets on the right side of a fixed threshold.

    Parameters
    ----------
    scores, labels : array_like
        (n,) scores and 0/1 labels.
    threshold : float
        In the units of the scores; 0.5 for probabilities.
    weights : array_like, optional
        (n,) how much each jet counts.

    Raises
    ------
    RinoError
        If the arrays do not match, hold a NaN, or hold one class only; if a weight is negative or not finite, or those
        of a class are all 0.
    """
    return _accuracy(_checked(scores, labels, weights), _finite(threshold))


def _finite(threshold: float) -> float:
    if not np.isfinite(_float(threshold, "threshold")):
        raise RinoError(f"threshold = {threshold} is not a finite number: give one in the range of the scores")
    return float(threshold)


def accuracy_at_median(scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Accuracy when the half of the jets with the higher scores is called signal.

    The threshold follows the sample, so a tagger that separates well but is shifted as a whole (as after a
    change of domain) is not punished: this shows separation without threshold. It needs no labels, but it
    does need a balanced sample: with a signal share f a perfect tagger reaches 1 - abs(f - 1/2).

    Jets that share the median score are split in proportion, so that exactly half of the sample is called
    signal whatever the ties (scores saturated at 1 included).

    Parameters
    ----------
    scores, labels, weights : array_like
        (n,) scores, 0/1 labels and, if any, how much each jet counts.

    Raises
    ------
    RinoError
        As `accuracy`.
    """
    return _accuracy_at_median(_checked(scores, labels, weights))


def roc_curve(scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None) -> RocCurve:
    """The ROC curve at every distinct score.

    Parameters
    ----------
    scores, labels, weights : array_like
        (n,) scores, 0/1 labels and, if any, how much each jet counts.

    Raises
    ------
    RinoError
        As `accuracy`.
    """
    return _checked(scores, labels, weights).curve()


def roc_auc(scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a signal jet scores above a background jet, ties half.

    Parameters
    ----------
    scores, labels, weights : array_like
        (n,) scores, 0/1 labels and, if any, how much each jet counts.

    Raises
    ------
    RinoError
        As `accuracy`.
    """
    return _auc(_checked(scores, labels, weights))


def background_efficiency(
    scores: ArrayLike, labels: ArrayLike, signal_efficiency: float = 0.5, *, weights: ArrayLike | None = None
) -> float:
    """Share of background jets that pass where the given share of signal jets passes.

    Between two points of the ROC curve (that is, inside a group of jets with one score) it is interpolated
    linearly.

    Parameters
    ----------
    scores, labels : array_like
        (n,) scores and 0/1 labels.
    signal_efficiency : float
        eps_S, in (0, 1].
    weights : array_like, optional
        (n,) how much each jet counts.

    Raises
    ------
    RinoError
        As `accuracy`, or if `signal_efficiency` is outside (0, 1].
    """
    counts = _checked(scores, labels, weights)
    check_efficiency(signal_efficiency)
    return _background_efficiency(counts, signal_efficiency)


def rejection(
    scores: ArrayLike, labels: ArrayLike, signal_efficiency: float = 0.5, *, weights: ArrayLike | None = None
) -> float:
    """Background rejection 1/eps_B at a signal efficiency.

    Where no background jet passes, 1/eps_B is not known, only bounded: the value returned is then the lower
    bound at 95% confidence, 1 / (1 - 0.05^(1/n_B)) or about n_B / 3 (the Clopper-Pearson upper limit on
    eps_B for none out of n_B; of weighted jets n_B is their effective number, (sum w)^2 / sum w^2).
    `tagger_metrics` marks such a value; `background_efficiency` is 0 for it.

    Parameters
    ----------
    scores, labels : array_like
        (n,) scores and 0/1 labels.
    signal_efficiency : float
        eps_S, in (0, 1].
    weights : array_like, optional
        (n,) how much each jet counts.

    Raises
    ------
    RinoError
        As `background_efficiency`.
    """
    counts = _checked(scores, labels, weights)
    check_efficiency(signal_efficiency)
    passing = _background_efficiency(counts, signal_efficiency)
    return 1.0 / passing if passing > 0 else _rejection_bound(counts.effective_background)


def bootstrap(
    metric: Callable[..., float],
    scores: ArrayLike,
    labels: ArrayLike,
    n: int = 200,
    seed: int = 0,
    *,
    weights: ArrayLike | None = None,
) -> tuple[float, float]:
    """A metric and its standard error from the finite sample.

    The jets of each class are drawn again with replacement, each class by itself: the numbers of signal and
    background jets are fixed by how the sample was made and do not fluctuate (Efron & Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 6).

    Parameters
    ----------
    metric : callable
        ``metric(scores, labels) -> float``, for example `roc_auc`; called with ``weights=``, too, where there are any.
    scores, labels : array_like
        (m,) scores and 0/1 labels.
    n : int
        Number of resamplings, at least 2.
    seed : int
        Seed of the resampling.
    weights : array_like, optional
        (m,) how much each jet counts; jets of weight 0 are left out.

    Returns
    -------
    value, error : float
        The metric of the sample, and the standard deviation of the metric over the resamplings.

    Raises
    ------
    RinoError
        As `accuracy`, if ``n < 2``, or if the metric is not finite on the sample or a resampling.
    """
    columns = _columns(scores, labels, weights)
    check_resamplings(n)
    if not callable(metric):
        raise RinoError(f"metric is of type {type(metric).__name__}: give a function of scores and labels")

    def value_of(picks: NDArray[np.int64] | slice) -> float:
        some_scores, some_labels, *rest = (column[picks] for column in columns)
        return float(metric(some_scores, some_labels, **({"weights": rest[0]} if rest else {})))

    labels = columns[1]
    value = value_of(slice(None))
    signal, background = np.flatnonzero(labels), np.flatnonzero(~labels)
    rng = random_numbers(seed)
    resampled = np.empty(n)
    for i in range(n):
        resampled[i] = value_of(
            np.concatenate([rng.choice(signal, signal.size), rng.choice(background, background.size)])
        )
    if not (np.isfinite(value) and np.isfinite(resampled).all()):
        raise RinoError(
            f"the metric {getattr(metric, '__name__', metric)!r} is not finite on the sample or on one of "
            f"the {n} resamplings: use one that is defined for every sample with both classes"
        )
    return value, float(resampled.std(ddof=1))


def tagger_metrics(
    scores: ArrayLike,
    labels: ArrayLike,
    seed: int = 0,
    *,
    n: int = 200,
    threshold: float = 0.5,
    signal_efficiencies: Sequence[float] = SIGNAL_EFFICIENCIES,
    weights: ArrayLike | None = None,
) -> dict[str, Measurement]:
    """All figures of merit of one tagger on one sample, with bootstrap errors.

    All metrics share the resamplings of `bootstrap` (each class by itself). The error of 1/eps_B is that of
    eps_B carried over to first order, sigma(eps_B) / eps_B^2: a resampling may hold no passing background
    jet, so 1/eps_B itself has no finite bootstrap variance.

    Parameters
    ----------
    scores, labels : array_like
        (m,) probabilities and 0/1 labels.
    seed : int
        Seed of the resampling.
    n : int
        Number of resamplings, at least 2.
    threshold : float
        Threshold of ``accuracy``.
    signal_efficiencies : sequence of float
        Where to report the rejection, each in (0, 1].
    weights : array_like, optional
        (m,) how much each jet counts; jets of weight 0 are left out.

    Returns
    -------
    dict of str to Measurement
        ``accuracy`` (at the threshold), ``accuracy_at_median``, ``auc`` and ``rejection_at_0.5`` and its
        like (see `rejection_name`). A rejection where no background jet passes is the lower bound at 95%
        confidence with ``lower_bound`` True and no error.

    Raises
    ------
    RinoError
        As `bootstrap` and `background_efficiency`.
    """
    counts = _checked(scores, labels, weights)
    check_resamplings(n)
    threshold = _finite(threshold)
    signal_efficiencies = one_dimensional(signal_efficiencies, "signal_efficiencies").tolist()
    for efficiency in signal_efficiencies:
        check_efficiency(efficiency)

    def evaluate(counts: _Counts) -> list[float]:
        passing = [_background_efficiency(counts, efficiency) for efficiency in signal_efficiencies]
        return [_accuracy(counts, threshold), _accuracy_at_median(counts), _auc(counts), *passing]

    values = evaluate(counts)
    rng = random_numbers(seed)
    errors = np.std([evaluate(counts.resample(rng)) for _ in range(n)], axis=0, ddof=1)
    names = ("accuracy", "accuracy_at_median", "auc")
    metrics: dict[str, Measurement] = {
        name: {"value": value, "error": float(error)} for name, value, error in zip(names, values, errors, strict=False)
    }
    for efficiency, passing, error in zip(signal_efficiencies, values[3:], errors[3:], strict=True):
        metrics[rejection_name(efficiency)] = (
            {"value": 1 / passing, "error": float(error) / passing**2}
            if passing > 0
            else {"value": _rejection_bound(counts.effective_background), "error": None, "lower_bound": True}
        )
    return metrics


def rejection_name(signal_efficiency: float) -> str:
    """Name of the rejection at a signal efficiency in `tagger_metrics`, as ``rejection_at_0.5``."""
    return f"rejection_at_{signal_efficiency:g}"


def combine_seeds(per_seed: Sequence[Mapping[str, Measurement]]) -> dict[str, Measurement]:
    """Mean over training seeds of metrics measured on one and the same test sample.

    Parameters
    ----------
    per_seed : sequence of mapping
        One `tagger_metrics` result per training seed.

    Returns
    -------
    dict of str to Measurement
        Value: mean over the seeds. Error: mean of the bootstrap errors, since the seeds share the test
        jets and averaging does not shrink that error. ``seed_values``: the value of every seed, if there
        is more than one. A mean that contains a lower bound is a lower bound.

    Raises
    ------
    RinoError
        If there is no seed, or the seeds do not hold the same metrics.
    """
    if not isinstance(per_seed, Sequence) or not all(isinstance(metrics, Mapping) for metrics in per_seed):
        raise RinoError(f"per_seed is {type(per_seed).__name__}: give a list of what tagger_metrics returned")
    if not per_seed:
        raise RinoError("combine_seeds got no seed: give the tagger_metrics of at least one training")
    names = list(per_seed[0])
    for i, metrics in enumerate(per_seed):
        if set(metrics) != set(names):
            different = sorted(set(metrics) ^ set(names))
            raise RinoError(f"seed {i} and seed 0 do not hold the same metrics: {different}; evaluate all alike")
    combined: dict[str, Measurement] = {}
    for name in names:
        parts = [metrics[name] for metrics in per_seed]
        values = [part["value"] for part in parts]
        bound = any(part.get("lower_bound", False) for part in parts)
        errors = [part["error"] for part in parts if part["error"] is not None]
        error = None if bound or not errors else float(np.mean(errors))
        combined[name] = {"value": float(np.mean(values)), "error": error}
        if bound:
            combined[name]["lower_bound"] = True
        if len(values) > 1:
            combined[name]["seed_values"] = values
    return combined


def thin_roc(
    scores: ArrayLike, labels: ArrayLike, points: int = 199, *, weights: ArrayLike | None = None
) -> dict[str, Any]:
    """The ROC curve at equally spaced signal efficiencies, small enough for a report.

    Parameters
    ----------
    scores, labels : array_like
        (n,) scores and 0/1 labels.
    points : int
        Number of signal efficiencies, spaced equally between 0 and 1, both ends left out.
    weights : array_like, optional
        (n,) how much each jet counts.

    Returns
    -------
    dict
        ``signal_efficiency`` and ``background_efficiency``, lists of `points` floats, and ``n_background``,
        the number of background jets, of weighted ones the effective number rounded down (which says how small an
        eps_B can be trusted).

    Raises
    ------
    RinoError
        As `accuracy`, or if ``points < 2``.
    """
    counts = _checked(scores, labels, weights)
    if _int64(points, "points") < 2:
        raise RinoError(f"points = {points} makes no curve: give at least 2")
    grid = np.linspace(0, 1, points + 2)[1:-1]
    return {
        "signal_efficiency": [round(float(x), 6) for x in grid],
        "background_efficiency": [_background_efficiency(counts, x) for x in grid],
        "n_background": int(counts.effective_background),
    }


def score_histogram(
    scores: ArrayLike, labels: ArrayLike, bins: int = 40, *, weights: ArrayLike | None = None
) -> dict[str, Any]:
    """Distribution of probabilities, class by class, and its median.

    Parameters
    ----------
    scores, labels : array_like
        (n,) probabilities in [0, 1] and 0/1 labels.
    bins : int
        Number of equal bins between 0 and 1.
    weights : array_like, optional
        (n,) how much each jet counts.

    Returns
    -------
    dict
        ``edges`` (bins + 1), ``signal`` and ``background`` (bins; counts, or sums of weights), ``median`` of all jets
        together (of weighted ones the lowest score up to which half of the weight lies).

    Raises
    ------
    RinoError
        As `accuracy`, if a score is not a probability, or if ``bins < 1``.
    """
    scores, labels, *rest = _columns(scores, labels, weights)
    w = rest[0] if rest else None
    if _int64(bins, "bins") < 1:
        raise RinoError(f"bins = {bins}; a histogram needs at least 1")
    outside = np.flatnonzero((scores < 0) | (scores > 1))
    if outside.size:
        raise RinoError(
            f"scores[{outside[0]}] = {scores[outside[0]]} is not a probability: "
            "give values in [0, 1], for example the sigmoid of the logit"
        )
    edges = np.linspace(0, 1, bins + 1)
    return {
        "edges": edges.tolist(),
        "signal": np.histogram(scores[labels], edges, weights=None if w is None else w[labels])[0].tolist(),
        "background": np.histogram(scores[~labels], edges, weights=None if w is None else w[~labels])[0].tolist(),
        "median": quantiles(scores, [0.5], w)[0],
    }


class _Counts(NamedTuple):
    """Weighted jets per distinct score, scores falling: all that the metrics need to know."""

    scores: NDArray[np.float64]
    """(m,) distinct scores, falling."""
    group: NDArray[np.intp]
    """(n,) position in `scores` of every jet."""
    is_signal: NDArray[np.bool_]
    """(n,) class of every jet."""
    weights: NDArray[np.float64] | None
    """(n,) weight of every jet, above 0; None: 1."""
    signal: NDArray[np.float64]
    """(m,) weight of the signal jets at each distinct score."""
    background: NDArray[np.float64]
    """(m,) that of the background jets."""

    @property
    def effective_background(self) -> float:
        """The number of background jets; of weighted ones (sum w)^2 / sum w^2."""
        if self.weights is None:
            return float(self.is_signal.size - self.is_signal.sum())
        return effective_number(self.weights[~self.is_signal])

    @property
    def total(self) -> float:
        return float(self.signal.sum() + self.background.sum())

    def resample(self, rng: np.random.Generator) -> _Counts:
        """The same sample with each class drawn again with replacement; no sorting needed."""
        drawn = []
        for mask in (self.is_signal, ~self.is_signal):
            groups = self.group[mask]
            picks = rng.integers(0, groups.size, groups.size)
            weights = None if self.weights is None else self.weights[mask][picks]
            drawn.append(np.bincount(groups[picks], weights, self.scores.size))
        return self._replace(signal=drawn[0].astype(np.float64), background=drawn[1].astype(np.float64))

    def efficiencies(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """eps_B and eps_S (m + 1,), from nothing passing to everything passing."""
        eps = (np.concatenate([[0.0], np.cumsum(x)]) for x in (self.background, self.signal))
        background, signal = (x / x[-1] for x in eps)
        return background, signal

    def curve(self) -> RocCurve:
        return RocCurve(*self.efficiencies(), np.concatenate([[np.inf], self.scores]))


def _columns(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None) -> tuple[NDArray[Any], ...]:
    """Scores, labels and, if there are any, weights, after all checks; without the jets of weight 0."""
    scores, labels = check_scores(scores, labels)
    if weights is None:
        return scores, labels
    w = check_weights(weights, len(scores), labels)
    return scores[w > 0], labels[w > 0], w[w > 0]


def _checked(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None) -> _Counts:
    scores, labels, *rest = _columns(scores, labels, weights)
    w = rest[0] if rest else None
    falling, group = np.unique(-scores, return_inverse=True)
    signal, background = (
        np.bincount(group[mask], None if w is None else w[mask], falling.size).astype(np.float64)
        for mask in (labels, ~labels)
    )
    return _Counts(-falling, group, labels, w, signal, background)


def _accuracy(counts: _Counts, threshold: float) -> float:
    called = counts.scores >= threshold
    right = counts.signal[called].sum() + counts.background[~called].sum()
    return float(right / counts.total)


def _accuracy_at_median(counts: _Counts) -> float:
    at_score = counts.signal + counts.background
    half = counts.total / 2
    above = np.concatenate([[0.0], np.cumsum(at_score)])[:-1]
    # The share of each score's jets called signal: 1 above the median, 0 below it, a fraction on it.
    share = np.clip((half - above) / np.where(at_score > 0, at_score, 1), 0, 1)
    return float((share @ counts.signal + (1 - share) @ counts.background) / counts.total)


def _auc(counts: _Counts) -> float:
    # Without weights half-integers below 2^53 all along, so that the area is exact up to the one division.
    pairs = counts.background @ (np.cumsum(counts.signal) - counts.signal / 2)
    return float(pairs / (counts.signal.sum() * counts.background.sum()))


def _background_efficiency(counts: _Counts, signal_efficiency: float) -> float:
    background, signal = counts.efficiencies()
    # The tolerance keeps a point that reaches the efficiency exactly from being missed by rounding.
    after = int(np.searchsorted(signal, signal_efficiency * (1 - 1e-12)))
    below, reached = signal[after - 1], signal[after]
    fraction = min((signal_efficiency - below) / (reached - below), 1.0)
    return float(background[after - 1] + fraction * (background[after] - background[after - 1]))


def _rejection_bound(n_background: float) -> float:
    return float(-1.0 / np.expm1(np.log1p(-CONFIDENCE_LEVEL) / n_background))
