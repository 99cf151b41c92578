"""What embeddings look like: principal components, similarity along the flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pyrino._columns import to_float64
from pyrino.drawing.style import BACKGROUND, GREEN, INK, MUTED, ORANGE, PURPLE, SIGNAL, SKY, need, new_figure, plain
from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["embedding_pca", "similarity_matrix"]


def embedding_pca(groups: Sequence[Mapping[str, Any]], explained: ArrayLike | None = None) -> Figure:
    """Two principal components of the embeddings: the classes in each domain, then the domains in each class.

    Parameters
    ----------
    groups : sequence of mapping
        Each with ``class``, ``domain`` and ``points`` (n, 2); one group per class and domain.
    explained : array_like, optional
        (2,) share of the variance along each component, for the axis labels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If there is no group, a key is missing, or points are empty, of another shape or not finite.
    """
    need(groups, ("class", "domain", "points"), "groups")
    points = []
    for i, group in enumerate(groups):
        xy = to_float64(group["points"], f"groups[{i}]['points']")
        if xy.ndim != 2 or xy.shape[1] != 2 or not xy.size or not np.isfinite(xy).all():
            raise RinoError(f"groups[{i}]['points'] have shape {xy.shape} or are not finite: give finite points (n, 2)")
        points.append(xy)
    classes = list(dict.fromkeys(group["class"] for group in groups))
    domains = list(dict.fromkeys(group["domain"] for group in groups))
    panels = [("domain", domain, "class") for domain in domains]
    if len(domains) > 1:
        panels += [("class", name, "domain") for name in classes]
    class_colours = dict(zip(classes, (BACKGROUND, SIGNAL, GREEN, PURPLE), strict=False))
    domain_colours = dict(zip(domains, (INK, ORANGE, GREEN, SKY), strict=False))
    low, high = np.percentile(np.concatenate(points), [0.2, 99.8], axis=0)
    margin = 0.06 * (high - low) + 1e-9
    figure = new_figure(2.75 * len(panels) + 0.3, 3.1)
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    # One random order for all groups of a panel, so that the group drawn last does not hide the others.
    rng = np.random.default_rng(0)
    for axes, (fixed, value, split) in zip(row, panels, strict=True):
        chosen = [(group[split], xy) for group, xy in zip(groups, points, strict=True) if group[fixed] == value]
        palette = class_colours if split == "class" else domain_colours
        xy = np.concatenate([part for _, part in chosen])
        colour = np.repeat([palette.get(name, MUTED) for name, _ in chosen], [len(part) for _, part in chosen])
        order = rng.permutation(len(xy))
        axes.scatter(*xy[order].T, c=colour[order], s=5, alpha=0.45, linewidths=0, rasterized=True)
        for name, part in chosen:
            axes.plot(
                *np.median(part, axis=0),
                marker="o",
                markersize=8,
                markeredgecolor="white",
                markeredgewidth=1.4,
                color=palette.get(name, MUTED),
                linestyle="none",
                label=name,
            )
        axes.set_title(value, fontsize=10.5, color=INK)
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        axes.legend(frameon=False, fontsize=8.5, loc="best", handletextpad=0.1, labelcolor=INK)
        axes.set_xlabel("component 1", fontsize=9.5, color=INK)
        plain(axes)
    row[0].set_ylabel("component 2", fontsize=9.5, color=INK)
    if explained is not None:
        share = to_float64(explained, "explained")
        for axes in row:
            axes.set_xlabel(f"component 1  ({share[0]:.0%})", fontsize=9.5, color=INK)
        row[0].set_ylabel(f"component 2  ({share[1]:.0%} of the variance)", fontsize=9.5, color=INK)
    return figure


def similarity_matrix(same_jet: ArrayLike, names: Sequence[Any], different_jets: ArrayLike | None = None) -> Figure:
    """Mean cosine similarity between the embeddings at each pair of resolutions.

    Parameters
    ----------
    same_jet : array_like
        (V, V), of one jet at two resolutions, as `pyrino.evaluate.similarity_along_flow` gives it.
    names : sequence
        V names of the resolutions.
    different_jets : array_like, optional
        (V, V), of two different jets, drawn beside it on the same scale.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If a matrix is not V x V for V names, or holds a number that is not finite.
    """
    matrices = [("same jet", same_jet)] + ([] if different_jets is None else [("different jets", different_jets)])
    n = len(names)
    arrays = []
    for title, matrix in matrices:
        array = to_float64(matrix, f"the matrix of the {title}")
        if array.shape != (n, n) or not n or not np.isfinite(array).all():
            raise RinoError(
                f"the matrix of the {title} has shape {array.shape} for {n} resolutions, or is not finite: "
                "give a finite square matrix with one row per name"
            )
        arrays.append((title, array))
    low = min(0.0, *(float(array.min()) for _, array in arrays))
    side = (0.62 if n <= 5 else 0.5) * n + 1.0
    figure = new_figure(side * len(arrays) + 0.9, side + 0.3, layout="compressed")  # keeps room around squares
    row = figure.subplots(1, len(arrays), sharey=True, squeeze=False)[0]
    labels = [str(name) for name in names]
    for axes, (title, array) in zip(row, arrays, strict=True):
        image = axes.imshow(array, cmap="Blues", vmin=low, vmax=1)
        for i, j in np.ndindex(n, n):
            dark = (array[i, j] - low) / (1 - low) > 0.6
            axes.text(
                j,
                i,
                f"{array[i, j]:.2f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else INK,
            )
        axes.set_title(title, fontsize=10.5, color=INK)
        axes.set_xticks(range(n), labels)
        axes.set_yticks(range(n), labels)
        axes.set_xlabel("resolution N", fontsize=9.5, color=INK)
        plain(axes)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    row[0].set_ylabel("resolution N", fontsize=9.5, color=INK)
    bar = figure.colorbar(image, ax=row, shrink=0.8, aspect=22, pad=0.02)
    bar.set_label("mean cosine similarity", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=3)
    bar.outline.set_visible(False)
    return figure
