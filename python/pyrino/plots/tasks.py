"""What taggers of several classes and regressions do: confusion matrices, residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import check_weights, to_float64
from pyrino._weighted import quantiles
from pyrino.drawing.style import BLUE, FAINT, INK, MUTED, VERMILION, new_figure, plain
from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion", "regression_residuals"]

#: Bins of the truth, of equally many jets, and the least number of jets of one.
_BINS = 12
_LEAST = 20
#: Share of the residuals that an axis leaves out at either end.
_TAIL = 0.005


def confusion(matrix: ArrayLike, names: Sequence[str]) -> Figure:
    """A confusion matrix: of the jets of each class (row), the share that is called each class (column).

    Parameters
    ----------
    matrix : array_like
        (classes, classes), rows with sum 1, as `pyrino.evaluate.confusion_matrix` gives it.
    names : sequence of str
        Of the classes.

    Raises
    ------
    RinoError
        If there is not one name per row and column.
    """
    shares = to_float64(matrix, "matrix")
    n = len(names)
    if shares.shape != (n, n) or n < 1:
        raise RinoError(f"matrix has shape {shares.shape} for {n} names: give (classes, classes) and a name for each")
    figure = new_figure(1.6 + 0.75 * n, 1.1 + 0.7 * n)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(n, n):
        share = shares[row, column]
        colour = "white" if share > 0.55 else INK
        axes.text(column, row, f"{share:.3f}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(n), names)
    axes.set_yticks(range(n), names)
    axes.set_xlabel("called", fontsize=10, color=INK)
    axes.set_ylabel("is", fontsize=10, color=INK)
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.spines[:].set_visible(False)
    return figure


def regression_residuals(
    targets: Mapping[str, tuple[ArrayLike, ArrayLike]], *, weights: ArrayLike | None = None
) -> Figure:
    """Residuals, predicted - true, of each target: all of them, and their median and central 68% along the truth.

    The line at 0 is a prediction without bias; a median that falls along the truth shows one that is drawn towards the
    mean of what was trained on.

    Parameters
    ----------
    targets : mapping of str to (array_like, array_like)
        Name -> (predicted, true), (n,) each, finite, in one unit.
    weights : array_like, optional
        (n,) how much each jet counts.

    Raises
    ------
    RinoError
        If there is no target, or shapes do not fit.
    """
    if not targets:
        raise RinoError("there is no target to draw: give {name: (predicted, true)}")
    figure = new_figure(8.4, 2.9 * len(targets) + 0.2)
    panels = figure.subplots(len(targets), 2, squeeze=False)
    for (name, pair), (left, right) in zip(targets.items(), panels, strict=True):
        predicted, truth = (
            to_float64(x, f"{what} of {name!r}") for x, what in zip(pair, ("predicted", "true"), strict=True)
        )
        if predicted.ndim != 1 or predicted.shape != truth.shape or not len(truth):
            raise RinoError(f"{name!r} has shapes {predicted.shape} and {truth.shape}: give (n,) of both, one or more")
        w = np.ones(len(truth)) if weights is None else check_weights(weights, len(truth))
        residual = predicted - truth
        low, high = np.quantile(residual, [_TAIL, 1 - _TAIL])
        margin = 0.05 * (high - low) or 0.5
        edges = np.linspace(low - margin, high + margin, 51)
        share = np.histogram(residual, edges, weights=w)[0] / w.sum()
        left.stairs(share, edges, fill=True, color=BLUE, alpha=0.22)
        left.stairs(share, edges, color=BLUE, linewidth=1.4)
        left.axvline(0, color=INK, linewidth=1)
        left.set_xlabel(f"{name}: predicted - true", fontsize=10, color=INK)
        left.set_ylabel("share of jets", fontsize=9.5, color=INK)
        left.set_xlim(edges[0], edges[-1])
        left.set_ylim(bottom=0)
        middle, (low, median, high) = _along(truth, residual, w)
        right.axhline(0, color=FAINT, linewidth=1)
        right.fill_between(middle, low, high, color=VERMILION, alpha=0.22, linewidth=0, label="central 68%")
        right.plot(middle, median, color=VERMILION, linewidth=1.6, marker="o", markersize=3, label="median")
        right.set_xlabel(f"{name}: true", fontsize=10, color=INK)
        right.set_ylabel("predicted - true", fontsize=9.5, color=INK)
        right.legend(frameon=False, fontsize=8.5, labelcolor=INK)
        for axes in (left, right):
            axes.grid(True, axis="y", color="#ececec", linewidth=0.8)
            axes.tick_params(colors=MUTED)
            plain(axes)
    return figure


def _along(
    truth: NDArray[np.float64], residual: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles of bins of the truth with equally many jets, and 16%, 50%, 84% of the residual in each, (3, bins)."""
    order = np.argsort(truth, kind="stable")
    bins = max(1, min(_BINS, len(order) // _LEAST))
    middles, found = [], []
    for part in np.array_split(order, bins):
        if not w[part].any():
            continue
        found.append(quantiles(residual[part], [0.15865, 0.5, 0.84135], w[part]))
        middles.append(np.average(truth[part], weights=w[part]))
    return np.array(middles), np.array(found).T
