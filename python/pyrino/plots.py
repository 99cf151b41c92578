"""Pictures: a jet along the flow, ROC curves, scores, embeddings, training. Each returns a matplotlib Figure.

All use matplotlib's object interface: no pyplot, no global setting is touched, and a notebook shows the
figure as it is returned. The colours are those of Okabe and Ito and viridis, safe for the colour-blind.
"""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_flow",
    "embedding_pca",
    "figure_to_data_uri",
    "figure_to_png",
    "figure_to_svg",
    "roc_curves",
    "score_distributions",
    "similarity_matrix",
    "training_curves",
]

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

_BACKGROUND, _SIGNAL = BLUE, VERMILION
_CYCLE = (INK, SKY, VERMILION, GREEN, ORANGE, PURPLE, BLUE)
_SUBJET_CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)

#: Marker area in points^2 of a subjet that carries the whole pT of the jet, and the smallest area drawn.
_FULL_AREA, _LEAST_AREA = 1700.0, 2.0

#: The picture of a jet reaches at most to this times R; what lies beyond is counted in its corner.
_REACH = 1.15

#: A ROC curve is drawn down to the eps_B at which this many background jets pass: 30% error on eps_B.
_LEAST_PASSING = 10


def draw_flow(
    views: Sequence[ArrayLike | Mapping[str, ArrayLike]],
    resolutions: Sequence[Any],
    title: str | None = None,
    *,
    radius: float = 0.8,
    subjet_index: Sequence[ArrayLike | None] | None = None,
) -> Figure:
    """One jet at several resolutions, in the (eta, phi) plane around its axis, one panel a resolution.

    A disc is a subjet or constituent: its area is its share of the jet's pT, its colour the logarithm of its
    pT. Axes, areas and colours are the same in all panels. The axis, pT and mass are those of the sum of the
    view with the most constituents, which are also the grey dots behind the subjets. The circle is the
    clustering radius around the axis.

    Parameters
    ----------
    views : sequence of array_like or mapping
        V arrays (n_v, 4) of px, py, pz, E in GeV, or mappings with these four keys, each (n_v,).
    resolutions : sequence
        V names of the views: a number of subjets, ``"all"`` for the constituents, or anything with a ``str``.
    title : str, optional
        Put above the panels, before pT and mass.
    radius : float
        Clustering radius R.
    subjet_index : sequence of array_like or None, optional
        For each view None, or for each constituent of the view with the most constituents the position of its
        subjet in this view, -1 if it has none (merged with the beam). Such a panel shows the constituents, in
        the colour of their subjet, with a ring around each subjet's axis.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If the numbers of views, resolutions and indices differ, a view is empty or has another shape, a
        momentum is not finite or has pT = 0, R is not positive, or an index names no subjet of its view.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Circle
    from matplotlib.ticker import MaxNLocator

    momenta = [_four_momenta(view, f"views[{v}]") for v, view in enumerate(views)]
    if not momenta or len(momenta) != len(resolutions):
        raise RinoError(f"{len(momenta)} views and {len(resolutions)} resolutions; give one name per view")
    if not (math.isfinite(radius) and radius > 0):
        raise RinoError(f"radius = {radius}; give the clustering radius R > 0, for example 0.8")
    finest = max(momenta, key=len)
    indices = _subjet_indices(subjet_index, momenta, len(finest))
    jet = finest.sum(axis=0)
    jet_pt = math.hypot(jet[0], jet[1])
    if not jet_pt > 1e-9 * float(np.hypot(finest[:, 0], finest[:, 1]).sum()):
        raise RinoError("the constituents' transverse momenta cancel, so the jet has no axis; give one with pT > 0")
    jet_mass = math.sqrt(max(float(jet[3] ** 2 - np.sum(jet[:3] ** 2)), 0.0))
    planes = [_around_axis(p4, jet) for p4 in momenta]
    dots = _around_axis(finest, jet)

    reach = max(float(np.hypot(plane[:, 1], plane[:, 2]).max()) for plane in planes)
    extent = 1.06 * min(max(reach, radius), _REACH * radius)
    hardest = max(float(plane[:, 0].max()) for plane in planes)
    softest = min(float(plane[:, 0].min()) for plane in planes)
    norm = LogNorm(max(min(softest, 0.5 * hardest), 1e-4 * hardest), hardest, clip=True)
    colours = _pt_colours()

    figure, shown, bar_axes = _flow_axes(len(planes))
    for axes, plane, index, resolution in zip(shown, planes, indices, resolutions, strict=True):
        axes.add_patch(Circle((0, 0), radius, facecolor="#fbfbfb", edgecolor="#a8a8a8", linewidth=0.9, zorder=0))
        axes.plot(0, 0, "+", color="#a8a8a8", markersize=6, markeredgewidth=0.8, zorder=1)
        if index is not None:
            _scatter_by_subjet(axes, dots, plane, index, jet_pt)
        else:
            if len(plane) < len(dots):
                axes.scatter(dots[:, 1], dots[:, 2], s=2.5, color="#b9b9b9", linewidths=0, zorder=1)
            share = np.sort(plane[:, 0])[::-1] / jet_pt
            order = np.argsort(-plane[:, 0], kind="stable")
            axes.scatter(
                plane[order, 1],
                plane[order, 2],
                s=_area(share),
                c=plane[order, 0],
                cmap=colours,
                norm=norm,
                alpha=0.9,
                edgecolors="white",
                linewidths=_edge(share),
                zorder=2,
            )
        outside = int(np.sum(np.abs(plane[:, 1:]).max(axis=1) > extent))
        if outside:
            axes.text(
                0.97,
                0.03,
                f"{outside} outside",
                transform=axes.transAxes,
                ha="right",
                fontsize=8,
                color=MUTED,
            )
        axes.set_title(_panel_title(resolution, len(plane)), fontsize=10.5, color=INK)
        axes.set(xlim=(-extent, extent), ylim=(-extent, extent))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10], prune="both"))
        _plain(axes, box=True)
    if any(index is None for index in indices):
        bar = figure.colorbar(ScalarMappable(norm, colours), cax=bar_axes)
        bar.set_label("$p_T$ of subjet or constituent [GeV]", fontsize=9, color=INK)
        bar_axes.tick_params(labelsize=8, colors=MUTED, which="both", length=3)
        bar.outline.set_visible(False)
    else:
        bar_axes.remove()
    numbers = rf"$p_T$ = {jet_pt:.0f} GeV,  $m$ = {jet_mass:.0f} GeV"
    figure.suptitle(f"{title}:  {numbers}" if title else numbers, fontsize=11.5, color=INK)
    _area_legend(figure, rings=any(index is not None for index in indices))
    return figure


def roc_curves(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Background rejection 1/eps_B against signal efficiency, one panel per domain, one line per tagger.

    A curve ends where fewer than 10 background jets pass: beyond, the sample does not know it.

    Parameters
    ----------
    curves : sequence of mapping
        Each with ``name`` (the tagger), ``domain`` (the panel), ``signal_efficiency`` and
        ``background_efficiency`` (equally long, as `pyrino.evaluate.thin_roc` gives them), ``n_background``,
        and optionally ``auc`` for the legend.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If there is no curve, a key is missing or the two efficiencies differ in length.
    """
    _need(curves, ("name", "domain", "signal_efficiency", "background_efficiency", "n_background"), "curves")
    colours = _colours_by_name(curve["name"] for curve in curves)
    domains = list(dict.fromkeys(curve["domain"] for curve in curves))
    figure = _figure(4.6 * len(domains), 3.9)
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    for axes, domain in zip(panels, domains, strict=True):
        for i, curve in enumerate(curves):
            if curve["domain"] != domain:
                continue
            eps_s = np.asarray(curve["signal_efficiency"], dtype=np.float64)
            eps_b = np.asarray(curve["background_efficiency"], dtype=np.float64)
            if eps_s.shape != eps_b.shape or eps_s.ndim != 1:
                raise RinoError(
                    f"curves[{i}]: signal_efficiency has shape {eps_s.shape}, "
                    f"background_efficiency {eps_b.shape}; give two equally long lists"
                )
            known = eps_b * curve["n_background"] >= _LEAST_PASSING
            auc = curve.get("auc")
            label = curve["name"] if auc is None else f"{curve['name']}  (AUC {auc:.3f})"
            axes.plot(eps_s[known], 1 / eps_b[known], color=colours[curve["name"]], linewidth=1.8, label=label)
        axes.set_title(domain, fontsize=10.5, color=INK)
        axes.set(yscale="log", xlim=(0, 1))
        axes.set_ylim(bottom=1)
        axes.set_xlabel(r"signal efficiency  $\varepsilon_S$", fontsize=10, color=INK)
        axes.grid(True, which="major", color="#ececec", linewidth=0.8)
        axes.axvline(0.5, color=FAINT, linewidth=1, zorder=0)
        axes.legend(frameon=False, fontsize=8.5, loc="lower left", labelcolor=INK)
        _plain(axes)
    panels[0].set_ylabel(r"background rejection  $1/\varepsilon_B$", fontsize=10, color=INK)
    return figure


def score_distributions(panels: Sequence[Mapping[str, Any]], threshold: float = 0.5) -> Figure:
    """Distributions of the taggers' output, class by class: one row per domain, one column per tagger.

    The threshold is a solid line, the median of all jets a dashed one. Where the two part, the threshold has
    shifted between the domains although the classes may still be separated.

    Parameters
    ----------
    panels : sequence of mapping
        Each with ``name`` (column), ``domain`` (row), ``edges`` (m + 1), ``signal`` and ``background``
        (m counts) and ``median``, as `pyrino.evaluate.score_histogram` gives them.
    threshold : float
        Where the solid line stands.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If there is no panel, a key is missing or the counts do not fit the edges.
    """
    _need(panels, ("name", "domain", "edges", "signal", "background", "median"), "panels")
    names = list(dict.fromkeys(panel["name"] for panel in panels))
    domains = list(dict.fromkeys(panel["domain"] for panel in panels))
    figure = _figure(3.1 * len(names) + 0.3, 2.0 * len(domains) + 0.75)
    grid = figure.subplots(len(domains), len(names), sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for i, panel in enumerate(panels):
        row, column = domains.index(panel["domain"]), names.index(panel["name"])
        axes = grid[row, column]
        axes.set_visible(True)
        edges = np.asarray(panel["edges"], dtype=np.float64)
        for key, colour, label in (
            ("background", _BACKGROUND, "background (QCD)"),
            ("signal", _SIGNAL, "signal (top)"),
        ):
            counts = np.asarray(panel[key], dtype=np.float64)
            if counts.shape != (edges.size - 1,):
                raise RinoError(
                    f"panels[{i}][{key!r}] has shape {counts.shape} for {edges.size} edges; one count per bin"
                )
            share = counts / max(counts.sum(), 1.0)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(share, edges, color=colour, linewidth=1.4, label=label)
        axes.axvline(threshold, color=INK, linewidth=1.0, label=f"threshold {threshold:g}")
        axes.axvline(panel["median"], color=INK, linewidth=1.4, linestyle=(0, (3, 2)), label="median of all jets")
        axes.set(yscale="log", xlim=(edges[0], edges[-1]))
        axes.yaxis.set_major_formatter(_percent)
        if row == 0:
            axes.set_title(panel["name"], fontsize=10.5, color=INK)
        if row == len(domains) - 1:
            axes.set_xlabel("tagger output", fontsize=10, color=INK)
        if column == 0:
            axes.set_ylabel(f"{panel['domain']}\njets per bin", fontsize=9.5, color=INK)
        _plain(axes)
    drawn = next(axes for axes in grid.flat if axes.get_visible())
    handles, labels = drawn.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return figure


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
    _need(groups, ("class", "domain", "points"), "groups")
    points = []
    for i, group in enumerate(groups):
        xy = np.asarray(group["points"], dtype=np.float64)
        if xy.ndim != 2 or xy.shape[1] != 2 or not xy.size or not np.isfinite(xy).all():
            raise RinoError(f"groups[{i}]['points'] have shape {xy.shape} or are not finite; give finite points (n, 2)")
        points.append(xy)
    classes = list(dict.fromkeys(group["class"] for group in groups))
    domains = list(dict.fromkeys(group["domain"] for group in groups))
    panels = [("domain", domain, "class") for domain in domains]
    if len(domains) > 1:
        panels += [("class", name, "domain") for name in classes]
    class_colours = dict(zip(classes, (_BACKGROUND, _SIGNAL, GREEN, PURPLE), strict=False))
    domain_colours = dict(zip(domains, (INK, ORANGE, GREEN, SKY), strict=False))
    low, high = np.percentile(np.concatenate(points), [0.2, 99.8], axis=0)
    margin = 0.06 * (high - low) + 1e-9
    figure = _figure(2.75 * len(panels) + 0.3, 3.1)
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
        _plain(axes)
    row[0].set_ylabel("component 2", fontsize=9.5, color=INK)
    if explained is not None:
        share = np.asarray(explained, dtype=np.float64)
        for axes in row:
            axes.set_xlabel(f"component 1  ({share[0]:.0%})", fontsize=9.5, color=INK)
        row[0].set_ylabel(f"component 2  ({share[1]:.0%} of the variance)", fontsize=9.5, color=INK)
    return figure


def training_curves(
    history: Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]], n_prototypes: int | None = None
) -> Figure:
    """Loss and its parts, teacher entropy against ln K, learning rate, momentum and temperatures.

    Parameters
    ----------
    history : mapping of sequences, or sequence of mappings
        Columns, or one record per step. The abscissa is ``step`` or ``epoch``, else the position. Drawn where
        present: ``loss``, ``dino``, ``koleo``; ``teacher_entropy`` (mean entropy of one jet's assignment),
        ``prototype_entropy`` (entropy of the mean assignment), in nats; ``lr``; ``momentum``;
        ``teacher_temperature``, ``student_temperature``; ``gradient_norm`` (before clipping). More than 200
        values are drawn faintly with their running mean on top.
    n_prototypes : int, optional
        K, for the line at ln K.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If the history is empty, its columns differ in length, or it holds none of the known ones.
    """
    columns = _columns(history)
    names = {
        "loss": "loss",
        "dino": "cross-entropy",
        "koleo": "KoLeo",
        "teacher_entropy": "of one jet's assignment",
        "prototype_entropy": "of the mean assignment",
        "lr": "learning rate",
        "momentum": "momentum",
        "teacher_temperature": "teacher",
        "student_temperature": "student",
        "gradient_norm": "gradient norm",
    }
    panels = [
        ("loss", ("loss", "dino", "koleo")),
        ("teacher entropy [nats]", ("teacher_entropy", "prototype_entropy")),
        ("learning rate", ("lr",)),
        ("teacher momentum", ("momentum",)),
        ("temperature", ("teacher_temperature", "student_temperature")),
        ("gradient norm before clipping", ("gradient_norm",)),
    ]
    panels = [(title, [key for key in keys if key in columns]) for title, keys in panels]
    panels = [(title, keys) for title, keys in panels if keys]
    if not panels:
        raise RinoError(f"the history has only {sorted(columns)}; it needs one of {sorted(names)}")
    abscissa = next((name for name in ("step", "epoch") if name in columns), None)
    n = len(next(iter(columns.values())))
    x = columns[abscissa] if abscissa else np.arange(n, dtype=np.float64)
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = _figure(3.4 * across, 2.5 * down)
    figure.get_layout_engine().set(h_pad=0.1)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    for axes, (title, keys) in zip(grid.flat, panels, strict=False):
        palette = (INK, BLUE, GREEN) if title == "loss" else (BLUE, VERMILION)
        for key, colour in zip(keys, palette, strict=False):
            y = columns[key]
            if n > 200 and key not in ("lr", "momentum") and not key.endswith("temperature"):
                axes.plot(x, y, color=colour, alpha=0.22, linewidth=0.6)
                y = _running_mean(y, n // 50)
            marker = "o" if n == 1 else None
            axes.plot(x, y, color=colour, linewidth=1.6, label=names[key], marker=marker)
        if title.startswith("teacher entropy"):
            if n_prototypes is not None:
                axes.axhline(math.log(n_prototypes), color=INK, linewidth=1, linestyle=(0, (3, 2)), label="ln K")
            axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=10.5, color=INK)
        axes.grid(True, color="#ececec", linewidth=0.8)
        if len(keys) > 1 or len(axes.get_legend_handles_labels()[0]) > 1:
            # Below the line at ln K, right of where the entropy falls.
            place = {"loc": "upper right", "bbox_to_anchor": (1.0, 0.9)} if title.startswith("teacher") else {}
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **place)
        axes.set_xlabel(abscissa or "record", fontsize=9.5, color=INK)
        axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set(fontsize=8, color=MUTED)
        _plain(axes)
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
        array = np.asarray(matrix, dtype=np.float64)
        if array.shape != (n, n) or not n or not np.isfinite(array).all():
            raise RinoError(
                f"the matrix of the {title} has shape {array.shape} for {n} resolutions, or is not finite; "
                "give a finite square matrix with one row per name"
            )
        arrays.append((title, array))
    low = min(0.0, *(float(array.min()) for _, array in arrays))
    side = (0.62 if n <= 5 else 0.5) * n + 1.0
    figure = _figure(side * len(arrays) + 0.9, side + 0.3)
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
        _plain(axes)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    row[0].set_ylabel("resolution N", fontsize=9.5, color=INK)
    bar = figure.colorbar(image, ax=row, shrink=0.8, aspect=22, pad=0.02)
    bar.set_label("mean cosine similarity", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=3)
    bar.outline.set_visible(False)
    return figure


def figure_to_svg(figure: Figure) -> str:
    """The figure as one SVG document (text as outlines, so it looks the same everywhere)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    return buffer.getvalue().decode()


def figure_to_png(figure: Figure, dpi: float = 150) -> bytes:
    """The figure as a PNG file's bytes, at `dpi` pixels per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def figure_to_data_uri(figure: Figure) -> str:
    """The figure as SVG in a ``data:`` address, for the ``src`` of an image in a self-contained page."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure_to_svg(figure).encode()).decode("ascii")


def _figure(width: float, height: float, layout: str = "constrained") -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    # IPython shows a figure by itself only once pyplot was imported; this shows it without.
    figure._repr_png_ = functools.partial(figure_to_png, figure)
    return figure


def _plain(axes: Axes, *, box: bool = False) -> None:
    """Quiet ticks and frame; the right and upper frame only for a picture in the plane."""
    axes.tick_params(labelsize=8, colors=MUTED, length=3, which="both")
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(FAINT if box else "#a8a8a8")
        spine.set_visible(box or side in ("left", "bottom"))


def _colours_by_name(names: Iterable[str]) -> dict[str, str]:
    distinct = list(dict.fromkeys(names))
    return {name: _CYCLE[i % len(_CYCLE)] for i, name in enumerate(distinct)}


def _need(items: Sequence[Mapping[str, Any]], keys: Sequence[str], what: str) -> None:
    if not len(items):
        raise RinoError(f"{what} is empty; give at least one")
    for i, item in enumerate(items):
        missing = [key for key in keys if key not in item]
        if missing:
            raise RinoError(f"{what}[{i}] lacks {missing} (it has {sorted(item)}); see the docstring for its keys")


def _percent(share: float, _position: int) -> str:
    return f"{100 * share:g}%"


def _columns(
    history: Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]],
) -> dict[str, NDArray[np.float64]]:
    if not len(history):
        raise RinoError("the history is empty; train at least one step")
    if not isinstance(history, Mapping):
        keys = list(dict.fromkeys(key for record in history for key in record))
        history = {key: [record.get(key, math.nan) for record in history] for key in keys}
    columns = {key: np.asarray(values, dtype=np.float64) for key, values in history.items()}
    shapes = {key: column.shape for key, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        raise RinoError(f"the history's columns have shapes {shapes}; give one number per step in each")
    return columns


def _running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Centred mean over `width` entries, over fewer at the ends."""
    kernel = np.ones(2 * (width // 2) + 1)
    known = np.isfinite(values)
    summed = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    number = np.convolve(known.astype(np.float64), kernel, mode="same")
    return np.where(number > 0, summed / np.maximum(number, 1), np.nan)


def _four_momenta(view: ArrayLike | Mapping[str, ArrayLike], name: str) -> NDArray[np.float64]:
    if isinstance(view, Mapping):
        missing = [key for key in ("px", "py", "pz", "E") if key not in view]
        if missing:
            raise RinoError(f"{name} lacks {missing} (it has {sorted(view)}); give px, py, pz and E in GeV")
        view = np.stack([np.asarray(view[key], dtype=np.float64) for key in ("px", "py", "pz", "E")], axis=-1)
    p4 = np.asarray(view, dtype=np.float64)
    if p4.ndim != 2 or p4.shape[1] != 4 or not p4.size:
        raise RinoError(f"{name} has shape {p4.shape}; give (n, 4) = px, py, pz, E in GeV with n at least 1")
    bad = np.flatnonzero(~np.isfinite(p4).all(axis=1))
    if bad.size:
        raise RinoError(f"{name}[{bad[0]}] = {p4[bad[0]].tolist()} is not finite; leave such constituents out")
    along_beam = np.flatnonzero((p4[:, 0] == 0) & (p4[:, 1] == 0))
    if along_beam.size:
        raise RinoError(f"{name}[{along_beam[0]}] has pT = 0, so no eta and phi; leave such constituents out")
    return p4


def _subjet_indices(
    subjet_index: Sequence[ArrayLike | None] | None, momenta: Sequence[NDArray[np.float64]], n: int
) -> list[NDArray[np.intp] | None]:
    if subjet_index is None:
        return [None] * len(momenta)
    if len(subjet_index) != len(momenta):
        raise RinoError(f"{len(subjet_index)} subjet indices for {len(momenta)} views; give one (or None) per view")
    indices: list[NDArray[np.intp] | None] = []
    for v, entry in enumerate(subjet_index):
        if entry is None:
            indices.append(None)
            continue
        index = np.asarray(entry)
        if index.shape != (n,) or index.dtype.kind not in "iu":
            raise RinoError(
                f"subjet_index[{v}] has shape {index.shape} and type {index.dtype}; "
                f"give one integer for each of the {n} constituents"
            )
        wrong = np.flatnonzero((index < -1) | (index >= len(momenta[v])))
        if wrong.size:
            raise RinoError(
                f"subjet_index[{v}][{wrong[0]}] = {index[wrong[0]]} names none of the "
                f"{len(momenta[v])} subjets; give 0 to {len(momenta[v]) - 1}, or -1 for none"
            )
        indices.append(index.astype(np.intp))
    return indices


def _around_axis(p4: NDArray[np.float64], jet: NDArray[np.float64]) -> NDArray[np.float64]:
    """pT in GeV, eta and phi relative to the jet's axis: (n, 3)."""
    pt = np.hypot(p4[:, 0], p4[:, 1])
    jet_pt = math.hypot(jet[0], jet[1])
    deta = np.arcsinh(p4[:, 2] / pt) - math.asinh(jet[2] / jet_pt)
    dphi = np.arctan2(p4[:, 1], p4[:, 0]) - math.atan2(jet[1], jet[0])
    return np.stack([pt, deta, np.remainder(dphi + math.pi, 2 * math.pi) - math.pi], axis=1)


def _area(share: NDArray[np.float64] | float) -> Any:
    return np.maximum(_FULL_AREA * np.asarray(share), _LEAST_AREA)


def _edge(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width of the white edge that parts overlapping discs; it would eat up the small ones."""
    return np.where(_area(share) > 25, 0.6, 0.0)


def _pt_colours() -> Any:
    """Viridis turned round, without its lightest end: hard is dark, soft is still seen on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0.92, 0.0, 256)), name="viridis_on_white")


def _scatter_by_subjet(
    axes: Axes,
    constituents: NDArray[np.float64],
    subjets: NDArray[np.float64],
    index: NDArray[np.intp],
    jet_pt: float,
) -> None:
    palette = np.array([_SUBJET_CYCLE[i % len(_SUBJET_CYCLE)] for i in range(len(subjets))] + ["#9a9a9a"])
    # Neighbours in angle get different colours: the cycle runs around the axis, not down in pT.
    around = np.argsort(np.arctan2(subjets[:, 2], subjets[:, 1]))
    palette[around] = palette[:-1].copy()
    order = np.argsort(-constituents[:, 0], kind="stable")
    axes.scatter(
        constituents[order, 1],
        constituents[order, 2],
        s=_area(constituents[order, 0] / jet_pt),
        c=palette[index[order]],
        alpha=0.85,
        edgecolors="white",
        linewidths=_edge(constituents[order, 0] / jet_pt),
        zorder=2,
    )
    axes.scatter(
        subjets[:, 1],
        subjets[:, 2],
        s=_area(subjets[:, 0] / jet_pt) + 30,
        facecolors="none",
        edgecolors=palette[:-1],
        linewidths=1.3,
        zorder=3,
    )


def _panel_title(resolution: Any, n: int) -> str:
    constituents = f"all {n} constituents" if n > 1 else "the one constituent"
    if isinstance(resolution, (int, np.integer)) and not isinstance(resolution, bool):
        if n == resolution:
            return f"N = {n} subjet{'s' if n > 1 else ''}"
        return f"N = {resolution}: {n} found" if n > resolution else f"N = {resolution}: {constituents}"
    if str(resolution) in ("all", "particles", "particles()"):
        return constituents
    return f"{resolution}: {n} subjet{'s' if n > 1 else ''}"


def _flow_axes(n: int) -> tuple[Figure, list[Axes], Axes]:
    """Square panels in rows of three or four, and a place for the colour bar, laid out in inches."""
    side, across, down, left, right, top, bottom = 2.35, 0.18, 0.36, 0.62, 0.95, 0.66, 0.88
    columns = 3 if n in (5, 6) else min(n, 4)
    rows = -(-n // columns)
    width = left + columns * (side + across) - across + right
    height = top + rows * (side + down) - down + bottom
    figure = _figure(width, height, layout="none")
    shown = []
    for v in range(n):
        row, column = divmod(v, columns)
        x, y = left + column * (side + across), height - top - side - row * (side + down)
        axes = figure.add_axes((x / width, y / height, side / width, side / height))
        lowest = v + columns >= n
        axes.tick_params(labelbottom=lowest, labelleft=column == 0)
        if lowest:
            axes.set_xlabel(r"$\Delta\eta$", fontsize=10, color=INK)
        if column == 0:
            axes.set_ylabel(r"$\Delta\phi$", fontsize=10, color=INK)
        shown.append(axes)
    x, tall = width - right + 0.16, min(height - top - bottom, 1.4 * side)
    middle = (height - top + bottom) / 2
    bar = figure.add_axes((x / width, (middle - tall / 2) / height, 0.11 / width, tall / height))
    return figure, shown, bar


def _area_legend(figure: Figure, *, rings: bool) -> None:
    from matplotlib.lines import Line2D

    discs = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=math.sqrt(float(_area(share))),
            markerfacecolor="#bdbdbd",
            markeredgewidth=0,
            label=f"{share:.0%}",
        )
        for share in (0.01, 0.05, 0.2)
    ]
    words = "area: share of the jet's $p_T$"
    if rings:
        words = f"colour: the constituent's subjet     ring: the subjet     {words}"
    figure.legend(
        handles=[Line2D([], [], linestyle="none", label=words), *discs],
        loc="lower center",
        ncols=len(discs) + 1,
        frameon=False,
        fontsize=9,
        labelcolor=MUTED,
        handletextpad=0.3,
        columnspacing=1.2,
        borderpad=0.1,
    )
