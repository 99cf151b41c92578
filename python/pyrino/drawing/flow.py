"""One jet at several resolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import as_array, to_float64
from pyrino.drawing.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILION, new_figure, plain
from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_flow"]

_SUBJET_CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)

#: Marker area in points^2 of a subjet that carries the whole pT of the jet, and the smallest area drawn.
_FULL_AREA, _LEAST_AREA = 1700.0, 2.0

#: The picture of a jet reaches at most to this times R; what lies beyond is counted in its corner.
_REACH = 1.15


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
        raise RinoError(f"{len(momenta)} views and {len(resolutions)} resolutions: give one name per view")
    if not (math.isfinite(radius) and radius > 0):
        raise RinoError(f"radius = {radius}: give the clustering radius R > 0, for example 0.8")
    finest = max(momenta, key=len)
    indices = _subjet_indices(subjet_index, momenta, len(finest))
    jet = finest.sum(axis=0)
    jet_pt = math.hypot(jet[0], jet[1])
    if not jet_pt > 1e-9 * float(np.hypot(finest[:, 0], finest[:, 1]).sum()):
        raise RinoError("the constituents' transverse momenta cancel, so the jet has no axis: give one with pT > 0")
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
                linewidths=_edge(share).tolist(),
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
        plain(axes, box=True)
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


def _four_momenta(view: ArrayLike | Mapping[str, ArrayLike], name: str) -> NDArray[np.float64]:
    if isinstance(view, Mapping):
        missing = [key for key in ("px", "py", "pz", "E") if key not in view]
        if missing:
            raise RinoError(f"{name} lacks {missing} (it has {sorted(view)}): give px, py, pz and E in GeV")
        view = np.stack([to_float64(view[key], f"{name}[{key!r}]") for key in ("px", "py", "pz", "E")], axis=-1)
    p4 = to_float64(view, name)
    if p4.ndim != 2 or p4.shape[1] != 4 or not p4.size:
        raise RinoError(f"{name} has shape {p4.shape}: give (n, 4) = px, py, pz, E in GeV with n at least 1")
    bad = np.flatnonzero(~np.isfinite(p4).all(axis=1))
    if bad.size:
        raise RinoError(f"{name}[{bad[0]}] = {p4[bad[0]].tolist()} is not finite: leave such constituents out")
    along_beam = np.flatnonzero((p4[:, 0] == 0) & (p4[:, 1] == 0))
    if along_beam.size:
        raise RinoError(f"{name}[{along_beam[0]}] has pT = 0, so no eta and phi: leave such constituents out")
    return p4


def _subjet_indices(
    subjet_index: Sequence[ArrayLike | None] | None, momenta: Sequence[NDArray[np.float64]], n: int
) -> list[NDArray[np.intp] | None]:
    if subjet_index is None:
        return [None] * len(momenta)
    if len(subjet_index) != len(momenta):
        raise RinoError(f"{len(subjet_index)} subjet indices for {len(momenta)} views: give one (or None) per view")
    indices: list[NDArray[np.intp] | None] = []
    for v, entry in enumerate(subjet_index):
        if entry is None:
            indices.append(None)
            continue
        index = as_array(entry, f"subjet_index[{v}]")
        if index.shape != (n,) or index.dtype.kind not in "iu":
            raise RinoError(
                f"subjet_index[{v}] has shape {index.shape} and type {index.dtype}: "
                f"give one integer for each of the {n} constituents"
            )
        wrong = np.flatnonzero((index < -1) | (index >= len(momenta[v])))
        if wrong.size:
            raise RinoError(
                f"subjet_index[{v}][{wrong[0]}] = {index[wrong[0]]} names none of the "
                f"{len(momenta[v])} subjets: give 0 to {len(momenta[v]) - 1}, or -1 for none"
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
        linewidths=_edge(constituents[order, 0] / jet_pt).tolist(),
        zorder=2,
    )
    axes.scatter(
        subjets[:, 1],
        subjets[:, 2],
        s=_area(subjets[:, 0] / jet_pt) + 30,
        facecolors="none",
        edgecolors=palette[:-1].tolist(),
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
    figure = new_figure(width, height, layout="none")
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
