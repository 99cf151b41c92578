"""Figures of merit, against scikit-learn and plain NumPy. Scores and labels are drawn at random, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Report, largest_difference, parser
from sklearn import metrics as sklearn_metrics
from threadpoolctl import threadpool_limits

from pyrino import evaluate
from pyrino.bench import interleaved

RESAMPLINGS = 200


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scores", type=int, help="number of jets with a score (default: 100000; quick: 20000)")
    args = options.parse_args()
    n = args.scores or (20_000 if args.quick else 100_000)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, n)
    scores = 1 / (1 + np.exp(-rng.normal(1.5 * labels - 0.75)))
    views = [rng.normal(size=(n // 20, 256)).astype(np.float32) for _ in range(9)]

    pairs: dict[str, tuple[Callable[[], Any], str, Callable[[], Any]]] = {
        "AUC": (
            lambda: evaluate.roc_auc(scores, labels),
            "scikit-learn",
            lambda: sklearn_metrics.roc_auc_score(labels, scores),
        ),
        "ROC curve": (
            lambda: np.stack(evaluate.roc_curve(scores, labels)[:2]),
            "scikit-learn",
            lambda: np.stack(sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)[:2]),
        ),
        f"all figures of a tagger, {RESAMPLINGS} resamplings": (
            lambda: tagger_metrics(scores, labels),
            "scikit-learn and NumPy",
            lambda: plain_tagger_metrics(scores, labels),
        ),
        "similarity along the flow, 9 views": (
            lambda: np.array(list(evaluate.similarity_along_flow(views).values())),
            "NumPy",
            lambda: plain_similarity(views),
        ),
    }
    report = Report("metrics")
    report.document["scores"] = n
    with threadpool_limits(limits=1):
        for name, (ours, other, plain) in pairs.items():
            report.check(name, largest_difference(np.asarray(ours()), np.asarray(plain())), 1e-10)
            times = interleaved({"pyrino": ours, other: plain}, args.repetitions, budget=15.0)
            for side, timing in times.items():
                report.row(f"{name}: {side}", timing)
            report.figure(f"metrics, {name}: to {other}", times[other].seconds / times["pyrino"].seconds)
    report.finish(args.out)


def tagger_metrics(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """Accuracy, AUC and 1/eps_B at eps_S = 0.3, 0.5, 0.7, each with its bootstrap error."""
    found = evaluate.tagger_metrics(scores, labels, seed=3, n=RESAMPLINGS)
    names = ("accuracy", "auc", "rejection_at_0.3", "rejection_at_0.5", "rejection_at_0.7")
    return [float(found[name][part] or 0.0) for name in names for part in ("value", "error")]


def plain_tagger_metrics(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """The same with the jets of each class drawn again, and every figure worked out from the scores each time."""

    def figures(scores: np.ndarray, labels: np.ndarray) -> list[float]:
        background, signal, _ = sklearn_metrics.roc_curve(labels, scores)
        passing = [background_at(efficiency, background, signal) for efficiency in (0.3, 0.5, 0.7)]
        accuracy = sklearn_metrics.accuracy_score(labels, scores >= 0.5)
        return [accuracy, sklearn_metrics.auc(background, signal), *passing]

    rng = np.random.default_rng(3)
    classes = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    resampled = []
    for _ in range(RESAMPLINGS):
        drawn = np.concatenate([rng.choice(jets, jets.size) for jets in classes])
        resampled.append(figures(scores[drawn], labels[drawn]))
    values, errors = np.array(figures(scores, labels)), np.std(resampled, axis=0, ddof=1)
    # The error of 1/eps_B is that of eps_B, to first order.
    errors[2:] /= values[2:] ** 2
    values[2:] = 1 / values[2:]
    return [x for pair in zip(values, errors, strict=True) for x in pair]


def background_at(efficiency: float, background: np.ndarray, signal: np.ndarray) -> float:
    """eps_B where the ROC curve first reaches eps_S."""
    after = int(np.searchsorted(signal, efficiency * (1 - 1e-12)))
    return float(np.interp(efficiency, signal[after - 1 : after + 1], background[after - 1 : after + 1]))


def plain_similarity(views: list[np.ndarray]) -> np.ndarray:
    """Mean cosines of one jet's and of different jets' embeddings, [2, V, V], pair of views by pair of views."""
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (view.astype(np.float64) for view in views)]
    n = len(units[0])
    found = np.empty((2, len(units), len(units)))
    for a, one in enumerate(units):
        for b, other in enumerate(units):
            cosines = one @ other.T
            same = np.trace(cosines)
            found[:, a, b] = same / n, (cosines.sum() - same) / (n * (n - 1))
    return found


if __name__ == "__main__":
    main()
