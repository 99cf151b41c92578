"""How a training went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino._columns import to_float64
from pyrino.drawing.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILION, new_figure, plain
from pyrino.errors import RinoError
from pyrino.methods import About, Chart, Pictures, all_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["training_curves"]


def training_curves(
    history: Mapping[str, Sequence[float] | NDArray[Any]] | Sequence[Mapping[str, float]],
    n_prototypes: int | None = None,
    method: About | None = None,
) -> Figure:
    """Loss and its parts, what the method watches, learning rate and schedules.

    Parameters
    ----------
    history : mapping of sequences, or sequence of mappings
        Columns, or one record per step. The abscissa is ``step`` or ``epoch``, else the position. Drawn where
        present: ``loss``, ``dino``, ``koleo``, ``ibot``, ``gram``; ``teacher_entropy`` (mean entropy of one jet's
        assignment), ``prototype_entropy`` (entropy of the mean assignment), in nats; the same of constituents,
        ``particle_teacher_entropy`` and ``particle_prototype_entropy``; ``lr``; ``momentum``;
        ``teacher_temperature``, ``student_temperature``; ``gradient_norm`` (before clipping). Steps with ``skipped``
        above 0 are marked at the foot of the loss and of the gradient's norm. More than 200 values are drawn faintly
        with their running mean on top.
    n_prototypes : int, optional
        K, for the line at ln K and the scale relative to it.
    method : About, optional
        Whose charts are drawn (`pyrino.methods.about`); None: those of all the library's methods.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If the history is empty, its columns differ in length, or it holds none of the known ones.
    """
    columns = _columns(history)
    charts = _charts(all_pictures() if method is None else [method])
    panels = [(chart, [line for line in chart.lines if line[0] in columns]) for chart in charts]
    panels = [(chart, lines) for chart, lines in panels if lines]
    if not panels:
        known = sorted(name for chart in charts for name, _ in chart.lines)
        raise RinoError(f"the history has only {sorted(columns)}; it needs one of {known}")
    abscissa = next((name for name in ("step", "epoch") if name in columns), None)
    n = len(next(iter(columns.values())))
    x = columns[abscissa] if abscissa else np.arange(n, dtype=np.float64)
    across = min(len(panels), 3 if len(panels) != 4 else 2)
    down = -(-len(panels) // across)
    figure = new_figure(3.4 * across, 2.5 * down)
    figure.set_layout_engine("constrained", h_pad=0.1)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    for axes, (chart, lines) in zip(grid.flat, panels, strict=False):
        first = lines[0][0]
        palette = (INK, BLUE, GREEN, ORANGE, PURPLE) if first == "loss" else (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
        for (key, words), colour in zip(lines, palette, strict=False):
            y = columns[key]
            if n > 200 and not chart.schedule:
                axes.plot(x, y, color=colour, alpha=0.22, linewidth=0.6)
                y = _running_mean(y, n // 50)
            marker = "o" if n == 1 else None
            axes.plot(x, y, color=colour, linewidth=1.6, label=words, marker=marker)
        entropy = chart.prototypes
        if entropy:
            if n_prototypes is not None:
                _draw_ln_k(axes, n_prototypes)
            axes.margins(y=0.08)
            axes.set_ylim(bottom=0)
        if "skipped" in columns and first in ("loss", "gradient_norm"):
            _mark_skipped(axes, x[columns["skipped"] > 0], named=first == "loss")
        axes.set_title(chart.title, fontsize=10.5, color=INK)
        axes.grid(True, color="#ececec", linewidth=0.8)
        entries = len(axes.get_legend_handles_labels()[0])
        if entries > 3 and not entropy:  # room for them above what falls
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.45 * (high - low))
        if entries > 1:
            place = {"loc": "lower left"} if entropy else {"loc": "upper right", "ncols": 1 + (entries > 3)}
            axes.legend(frameon=False, fontsize=8, labelcolor=INK, columnspacing=1.0, handlelength=1.5, **place)
        axes.set_xlabel(abscissa or "record", fontsize=9.5, color=INK)
        axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set(fontsize=8, color=MUTED)
        plain(axes)
    return figure


def _charts(methods: Sequence[About | Pictures]) -> list[Chart]:
    """What is drawn, in order: what every method has, and the charts of these."""
    parts = tuple(dict.fromkeys(part for known in methods for part in known.parts))
    own = list(dict.fromkeys(chart for known in methods for chart in known.charts))
    return [
        Chart("loss", (("loss", "loss"), *parts)),
        *[chart for chart in own if not chart.schedule],
        Chart("learning rate", (("lr", "learning rate"),), schedule=True),
        *[chart for chart in own if chart.schedule],
        Chart("gradient norm before clipping", (("gradient_norm", "gradient norm"),)),
    ]


def _draw_ln_k(axes: Axes, n_prototypes: int) -> None:
    """A line at ln K, and on the right the scale relative to it."""
    ln_k = math.log(n_prototypes)
    axes.axhline(ln_k, color=INK, linewidth=1, linestyle=(0, (3, 2)), label="ln K")
    if ln_k > 0:
        scale = axes.secondary_yaxis(
            "right", functions=(lambda y: np.divide(y, ln_k), lambda share: np.multiply(share, ln_k))
        )
        scale.set_ylabel("of ln K", fontsize=8.5, color=MUTED, labelpad=2)
        scale.tick_params(labelsize=8, colors=MUTED, length=3)
        scale.spines["right"].set_color("#a8a8a8")


def _mark_skipped(axes: Axes, at: NDArray[np.float64], *, named: bool) -> None:
    """Marks at the foot of the picture; with a number where they are named."""
    if at.size:
        axes.plot(
            at,
            np.zeros(at.size),
            color=VERMILION,
            marker="^",
            markersize=5,
            linestyle="none",
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            label=f"{at.size} skipped" if named else None,
        )


def _columns(
    history: Mapping[str, Sequence[float] | NDArray[Any]] | Sequence[Mapping[str, float]],
) -> dict[str, NDArray[np.float64]]:
    if not len(history):
        raise RinoError("the history is empty: train at least one step")
    if not isinstance(history, Mapping):
        keys = list(dict.fromkeys(key for record in history for key in record))
        history = {key: [record.get(key, math.nan) for record in history] for key in keys}
    columns = {key: to_float64(values, f"the history's column {key!r}") for key, values in history.items()}
    shapes = {key: column.shape for key, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        raise RinoError(f"the history's columns have shapes {shapes}: give one number per step in each")
    return columns


def _running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Centred mean over `width` entries, over fewer at the ends."""
    kernel = np.ones(2 * (width // 2) + 1)
    known = np.isfinite(values)
    summed = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    number = np.convolve(known.astype(np.float64), kernel, mode="same")
    return np.where(number > 0, summed / np.maximum(number, 1), np.nan)
