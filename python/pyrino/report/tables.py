"""Tables of the page, and numbers as they stand in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pyrino.evaluate.metrics import Measurement
from pyrino.report.verdict import best

__all__ = ["Cell", "Group", "Row", "Table", "format_measurement", "format_seeds", "mark_best"]


class Cell(NamedTuple):
    """One entry of a table: its text, and whether it is measurably the best of its group."""

    text: str
    best: bool = False


class Row(NamedTuple):
    name: str
    cells: list[Cell]


class Group(NamedTuple):
    """Rows that belong together, with a heading."""

    heading: str
    rows: list[Row]


class Table(NamedTuple):
    """A table: the first column names the rows."""

    columns: list[str]
    groups: list[Group]


def mark_best(measurements: Sequence[Measurement | None]) -> list[bool]:
    """`best` where every row of the group has the number, else nobody."""
    present = [measurement for measurement in measurements if measurement is not None]
    return best(present) if len(present) == len(measurements) else [False] * len(measurements)


def format_measurement(measurement: Measurement, decimals: int | None = None) -> str:
    """A number with its errors: value ± test sample, then ± standard deviation between seeds if several.

    Parameters
    ----------
    measurement : Measurement
        The number.
    decimals : int, optional
        Digits after the point; by default what the largest error deserves.
    """
    errors = [] if measurement["error"] is None else [measurement["error"]]
    seeds = measurement.get("seed_values", [])
    if len(seeds) > 1:
        errors.append(float(np.std(seeds, ddof=1)))
    if decimals is None:
        decimals = _decimals(max(errors)) if errors and max(errors) > 0 else 0
    words = [f"{x:.{decimals}f}" for x in (measurement["value"], *errors)]
    if measurement.get("lower_bound", False):
        return f"> {words[0]} (95% CL)"
    return " ± ".join(words)


def format_seeds(values: Sequence[float]) -> str:
    """Mean ± standard deviation between the seeds; one value alone without."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _decimals(error: float) -> int:
    """Digits after the point that show two digits of an error that begins with 1 or 2, else one."""
    exponent = math.floor(math.log10(error))
    leading = error / 10.0**exponent
    return max((1 if leading < 3 else 0) - exponent, 0)
