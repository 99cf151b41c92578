"""Pictures that commands make: files, and histograms of characters for the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pyrino.errors import RinoError
from pyrino.plots.distributions import binning

__all__ = ["block_histogram", "check_picture", "has_blocks", "histograms", "terminal_width"]

_BLOCKS, _LINE = " ▁▂▃▄▅▆▇█", "─"
_PLAIN, _PLAIN_LINE = " .:#", "-"
_HEIGHT = 5
_GAP = 4


def check_picture(path: Path, *, overwrite: bool) -> str:
    """The kind of picture that a file's suffix asks for; known before work starts.

    Raises
    ------
    RinoError
        If matplotlib cannot write it, or the file exists.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    kind = path.suffix.lower().removeprefix(".")
    if kind not in FigureCanvasBase.filetypes:
        known = ", ".join(f".{name}" for name in FigureCanvasBase.filetypes)
        raise RinoError(f"{path} has the suffix {path.suffix!r}: choose from {known}")
    if path.exists() and not overwrite:
        raise RinoError(f"{path} exists: give overwrite=True to replace it, or another name")
    return kind


def terminal_width() -> int:
    """Characters in a line: those of the terminal (or $COLUMNS), between 40 and 120."""
    return min(max(shutil.get_terminal_size().columns, 40), 120)


def has_blocks() -> bool:
    """Whether standard output can write the block characters."""
    try:
        (_BLOCKS + _LINE).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def block_histogram(title: str, values: ArrayLike, width: int, *, blocks: bool, height: int = _HEIGHT) -> list[str]:
    """Lines of a histogram: title and height of the highest bin, the bars, the axis, its ends.

    Parameters
    ----------
    title
        What the numbers are, with their unit.
    values
        (n,), n at least 1, finite.
    width
        Characters in a line.
    blocks
        Whether to use the block characters of Unicode, with eight steps a line; else ASCII, with three.
    height
        Lines of the bars.
    """
    x = np.asarray(values, dtype=np.float64)
    # Few values in many bins are noise: bins are as wide as some characters then.
    each = -(-width // max(10, math.isqrt(4 * len(x))))
    edges = binning(x, width // each)
    counts = np.histogram(x, edges)[0]
    steps = _BLOCKS if blocks else _PLAIN
    levels = np.rint(counts / max(counts.max(), 1) * height * (len(steps) - 1)).astype(np.int64)
    # What is there is seen, however rare.
    levels = np.repeat(np.where(counts > 0, np.maximum(levels, 1), 0), width // len(counts))
    full = len(steps) - 1
    rows = [
        "".join(steps[int(np.clip(level - full * row, 0, full))] for level in levels) for row in reversed(range(height))
    ]
    axis = (_LINE if blocks else _PLAIN_LINE) * len(levels)
    low, high = (f"{edge:.4g}" for edge in (edges[0], edges[-1]))
    if np.array_equal(x, np.rint(x)):
        low, high = f"{edges[0] + 0.5:.0f}", f"{edges[-1] - 0.5:.0f}"
    return [
        f"{title:<{max(len(levels) - 12, 1)}}{f'max {counts.max() / len(x):.1%}':>12}",
        *rows,
        axis,
        low + high.rjust(len(levels) - len(low)),
    ]


def histograms(columns: Mapping[str, ArrayLike], width: int, *, blocks: bool) -> str:
    """Histograms of all columns, two beside each other where the width allows."""
    across = 2 if width >= 64 else 1
    each = (width - _GAP * (across - 1)) // across
    drawn = [block_histogram(title, values, each, blocks=blocks) for title, values in columns.items()]
    lines: list[str] = []
    for i in range(0, len(drawn), across):
        lines += [*_beside(drawn[i : i + across], each), ""]
    return "\n".join(lines[:-1])


def _beside(pictures: Sequence[Sequence[str]], width: int) -> list[str]:
    return [
        (" " * _GAP).join(line.ljust(width) for line in lines).rstrip()
        for lines in zip_longest(*pictures, fillvalue="")
    ]
