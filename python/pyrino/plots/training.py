"""How a training went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyrino.errors import RinoError
from pyrino.plots.style import BLUE, GREEN, INK, MUTED, VERMILION, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["training_curves"]


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
    figure = new_figure(3.4 * across, 2.5 * down)
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
        plain(axes)
    return figure


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
