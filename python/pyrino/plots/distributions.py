"""What jets look like: distributions of their variables, two samples with their ratio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import check_weights, to_float64
from pyrino.drawing.style import BLUE, GREEN, INK, MUTED, PURPLE, SKY, VERMILION, new_figure, plain
from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["binning", "compare_distributions", "distributions"]

Floats = NDArray[np.float64]
Samples = Mapping[str, Mapping[str, ArrayLike]]

_CYCLE = (BLUE, VERMILION, GREEN, PURPLE, SKY)
_BINS = 40

#: Share of the values that an axis leaves out at either end: a few outliers would hide all others.
_TAIL = 0.0005

#: Bins of fewer entries in either sample have no point in the ratio: its error would not be Gaussian.
_LEAST_IN_RATIO = 5


def distributions(
    samples: Samples,
    *,
    labels: Mapping[str, str] | None = None,
    log: Iterable[str] = (),
    title: str | None = None,
    weights: Mapping[str, ArrayLike | None] | None = None,
) -> Figure:
    """One panel per variable: the shapes (unit area) of one sample or several.

    An axis reaches from the 0.05th to the 99.95th percentile of all samples; what is beyond is in the norm. The band
    is the statistical error, sqrt(n) in each bin, sqrt(sum w^2) of weighted jets.

    Parameters
    ----------
    samples : mapping of str to mapping of str to array_like
        Name of the sample -> variable -> values (n,); values that are not finite are left out.
    labels : mapping of str to str, optional
        What the axis of a variable says, with its unit, such as ``"$p_T$ [GeV]"``; default: the variable's name.
    log : iterable of str
        Variables whose densities are drawn on a logarithmic axis.
    title : str, optional
        Above all panels.
    weights : mapping of str to array_like or None, optional
        Name of the sample -> (n,) how much its jets count, none negative; left out or None: 1.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If there is no sample or variable, a variable has no finite value in some sample, or weights are none.
    """
    columns = _columns(samples, weights or {})
    across, down = _grid(len(columns))
    figure = new_figure(3.3 * across, 2.5 * down + 0.6)
    panels = figure.subplots(down, across, squeeze=False)
    for axes in list(panels.flat)[len(columns) :]:
        axes.remove()
    chosen = set(log)
    for axes, (variable, values) in zip(panels.flat, columns.items(), strict=False):
        edges = binning(np.concatenate([x for x, _ in values.values()]))
        _shapes(axes, values, edges, _unit(labels, variable), variable in chosen)
        axes.set_xlabel((labels or {}).get(variable, variable), fontsize=10, color=INK)
    _finish(figure, panels.flat[0], title)
    return figure


def compare_distributions(
    first: tuple[str, Mapping[str, ArrayLike]],
    second: tuple[str, Mapping[str, ArrayLike]],
    *,
    labels: Mapping[str, str] | None = None,
    log: Iterable[str] = (),
    notes: Mapping[str, str] | None = None,
    title: str | None = None,
    weights: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
) -> Figure:
    """Two samples: the shape (unit area) of every variable in both, and below it the ratio, second over first.

    Points of the ratio have the statistical error of the second sample, the band around 1 is that of the first. Bins
    of fewer than 5 jets in either have no point.

    Parameters
    ----------
    first, second : tuple of str and mapping of str to array_like
        Name of the sample; variable -> values (n,). Both have the same variables.
    labels, log, title
        As in `distributions`.
    notes : mapping of str to str, optional
        Above the panel of a variable, for example a distance.
    weights : (array_like or None, array_like or None)
        (n,) of each sample, as in `distributions`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        As `distributions` does; if the variables differ.
    """
    if list(first[1]) != list(second[1]):
        raise RinoError(f"{first[0]!r} has the variables {list(first[1])}, {second[0]!r} {list(second[1])}: give equal")
    names = [first[0], second[0]] if first[0] != second[0] else [f"{first[0]} (1)", f"{second[0]} (2)"]
    samples = {name: dict(sample[1]) for name, sample in zip(names, (first, second), strict=True)}
    columns = _columns(samples, dict(zip(names, weights, strict=True)))
    across, down = _grid(len(columns))
    figure = new_figure(3.3 * across, 3.2 * down + 0.5)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    cells = figure.add_gridspec(down, across)
    chosen = set(log)
    top = None
    for i, (variable, values) in enumerate(columns.items()):
        halves = cells[divmod(i, across)].subgridspec(2, 1, height_ratios=(2.6, 1), hspace=0.0)
        above, below = halves.subplots(sharex=True, squeeze=False)[:, 0]
        top = top or above
        edges = binning(np.concatenate([x for x, _ in values.values()]))
        _shapes(above, values, edges, _unit(labels, variable), variable in chosen)
        _ratio(below, values, edges)
        above.tick_params(labelbottom=False)
        below.set_xlabel((labels or {}).get(variable, variable), fontsize=10, color=INK)
        if notes and variable in notes:
            above.set_title(notes[variable], fontsize=8.5, color=MUTED, loc="right", pad=3)
        if i % across == 0:
            below.set_ylabel("ratio", fontsize=9, color=INK)
    _finish(figure, top, title)
    return figure


def binning(values: ArrayLike, bins: int = _BINS) -> Floats:
    """Edges of equal bins over what 99.9% of the values are in; whole numbers get bins around whole numbers.

    Parameters
    ----------
    values : array_like
        (n,), finite, n at least 1.
    bins : int
        How many at most.

    Returns
    -------
    numpy.ndarray
        (m + 1,) with 1 <= m <= `bins`.
    """
    x = to_float64(values, "values")
    low, high = np.quantile(x, [_TAIL, 1 - _TAIL])
    if np.array_equal(x, np.rint(x)):
        low, high = math.floor(low), math.ceil(high)
        width = math.ceil((high - low + 1) / bins)
        return low - 0.5 + width * np.arange((high - low) // width + 2, dtype=np.float64)
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        margin = 0.5 * max(abs(low), 1.0)
        return np.array([low - margin, high + margin])
    return np.linspace(low, high, bins + 1)


def _columns(
    samples: Samples, weights: Mapping[str, ArrayLike | None]
) -> dict[str, dict[str, tuple[Floats, Floats | None]]]:
    """Variable -> sample -> finite values, and their weights if they have some."""
    if not isinstance(samples, Mapping) or not all(isinstance(sample, Mapping) for sample in samples.values()):
        raise RinoError("samples are not {name: {variable: values}}: give a dict of dicts of arrays (n,)")
    variables = list(dict.fromkeys(variable for sample in samples.values() for variable in sample))
    if not variables:
        raise RinoError("there is nothing to draw: give at least one sample with at least one variable")
    columns: dict[str, dict[str, tuple[Floats, Floats | None]]] = {variable: {} for variable in variables}
    for name, sample in samples.items():
        given = weights.get(name)
        for variable, values in sample.items():
            x = to_float64(values, f"{variable!r} of {name!r}")
            w = None if given is None or x.ndim != 1 else check_weights(given, len(x), what=f"weights of {name!r}")
            finite = np.isfinite(x)
            x, w = x[finite], None if w is None else w[finite]
            if x.ndim != 1 or not x.size or (w is not None and not w.any()):
                raise RinoError(f"{variable!r} of {name!r} has no finite values (n,) that count: leave it out")
            columns[variable][name] = (x, w)
    return columns


def _grid(n: int) -> tuple[int, int]:
    """Columns and rows of n panels."""
    across = n if n <= 3 else 2 if n == 4 else 3 if n <= 9 else 4
    return across, -(-n // across)


def _unit(labels: Mapping[str, str] | None, variable: str) -> str:
    return " [1/GeV]" if "[GeV]" in (labels or {}).get(variable, variable) else ""


def _shapes(
    axes: Axes, values: Mapping[str, tuple[Floats, Floats | None]], edges: Floats, unit: str, log: bool
) -> None:
    widths = np.diff(edges)
    for colour, (name, (x, w)) in zip(_CYCLE * (1 + len(values) // len(_CYCLE)), values.items(), strict=False):
        counts, share, deviation = _histogram(x, w, edges)
        density, error = share / widths, deviation / widths
        lowest = density - error if not log else np.where(counts > 1, density - error, 0.5 * density)
        axes.stairs(density + error, edges, baseline=lowest, fill=True, color=colour, alpha=0.25, linewidth=0)
        axes.stairs(density, edges, color=colour, linewidth=1.5, label=f"{name}  ({len(x)} jets)")
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set(fontsize=8, color=MUTED)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel(f"density{unit}", fontsize=9, color=INK)
    plain(axes)


def _histogram(x: Floats, w: Floats | None, edges: Floats) -> tuple[Floats, Floats, Floats]:
    """Entries of each bin, their share of the whole sample, and its statistical error."""
    counts = np.histogram(x, edges)[0]
    if w is None:
        return counts, counts / len(x), np.sqrt(counts) / len(x)
    sums, squares = (np.histogram(x, edges, weights=y)[0] / w.sum() ** k for k, y in ((1, w), (2, w**2)))
    return counts, sums, np.sqrt(squares)


def _ratio(axes: Axes, values: Mapping[str, tuple[Floats, Floats | None]], edges: Floats) -> None:
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    (a, of_first, first_error), (b, of_second, second_error) = (_histogram(x, w, edges) for x, w in values.values())
    known = np.minimum(a, b) >= _LEAST_IN_RATIO
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(known, of_second / of_first, np.nan)
        band = np.where(a >= _LEAST_IN_RATIO, first_error / of_first, np.nan)
        error = ratio * second_error / of_second
    axes.stairs(1 + band, edges, baseline=1 - band, fill=True, color=_CYCLE[0], alpha=0.25, linewidth=0)
    axes.axhline(1, color=_CYCLE[0], linewidth=1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    axes.errorbar(
        centres, ratio, yerr=error, fmt="o", markersize=2.6, elinewidth=0.9, color=_CYCLE[1], markeredgewidth=0
    )
    away = np.exp(np.abs(np.log(ratio[known & (ratio > 0)])).max(initial=math.log(1.25)))
    if away > 2:
        away = min(1.3 * away, 200.0)
        steps = (2, 5, 10, 20, 50, 100) if away > 3 else (1.5, 2)
        ticks = [tick for step in steps for tick in (1 / step, step) if step < away]
        axes.set(yscale="log", ylim=(1 / away, away))
        axes.set_yticks([1.0, *(ticks if len(ticks) <= 4 else [t for t in ticks if round(math.log10(t), 9) % 1 == 0])])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.2g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(1 - 1.15 * (away - 1), 1 + 1.15 * (away - 1))
    axes.grid(True, axis="y", color="#ececec", linewidth=0.8)
    plain(axes)


def _finish(figure: Figure, axes: Axes | None, title: str | None) -> None:
    if axes is not None:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside upper center",
            ncols=3,
            frameon=False,
            fontsize=9.5,
            labelcolor=INK,
            title=title,
        )
