"""The page of one evaluation: a tagger of any task on labelled jets."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrino.errors import RinoError
from pyrino.evaluate.evaluation import METRIC_NAMES, Evaluation
from pyrino.files import whole_file
from pyrino.report.entries import installed_versions
from pyrino.report.html import picture, render
from pyrino.report.tables import Cell, Group, Row, Table, format_measurement

__all__ = ["write_evaluation"]

_CAPTIONS = {
    "ROC curve": "The higher the curve, the more background is rejected at the same signal efficiency.",
    "Scores of both classes": "The further apart, the better; a median far from the threshold is a shifted threshold.",
    "Confusion matrix": "Darker off the diagonal: classes that are taken for each other.",
    "Each class against all others": "The higher a curve, the better its class is told from all others together.",
    "Predicted minus true": "Left: all residuals. Right: a median away from 0 is a bias; one that falls along the "
    "truth is drawn towards the mean of the jets that were trained on.",
}


def write_evaluation(
    found: Evaluation,
    folder: str | os.PathLike[str],
    *,
    title: str = "What a tagger does",
    command: str = "",
    about: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write ``evaluation.json`` and a self-contained ``evaluation.html``, whole or not at all.

    Parameters
    ----------
    found
        What `Tagger.evaluate` gave.
    folder
        Made if it does not exist.
    title, command
        Heading of the page; the command that made it, if one did.
    about
        More for the JSON, such as the names of files.
    overwrite
        Replace an evaluation that is there.

    Returns
    -------
    pathlib.Path
        Of ``evaluation.html``.

    Raises
    ------
    RinoError
        If a file is there and `overwrite` is False, or cannot be written.
    """
    folder = Path(folder)
    texts = {
        "evaluation.json": json.dumps({**(about or {}), **found.to_dict()}, indent=1) + "\n",
        "evaluation.html": _page(found, title, command),
    }
    if not overwrite:
        for name in texts:
            if (folder / name).exists():
                raise RinoError(f"{folder / name} exists: give overwrite=True to replace it, or another folder")
    for name, text in texts.items():
        with whole_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return folder / "evaluation.html"


def _page(found: Evaluation, title: str, command: str) -> str:
    metrics = _metrics(found)
    return render(
        "evaluation.html",
        found=found,
        title=title,
        command=command,
        metrics=metrics,
        bounded="(95% CL)" in str(metrics),
        points=_points(found),
        pictures=[picture(figure, name, _CAPTIONS[name]) for name, figure in found.figures().items()],
        versions=installed_versions(),
    )


def _metrics(found: Evaluation) -> Table:
    if found.task == "regression":
        decimals, groups = None, found.metrics
    else:
        decimals, groups = 4, {"": found.metrics}
    rows = {
        heading: [
            Row(_name(name), [Cell(format_measurement(one, None if name.startswith("rejection") else decimals))])
            for name, one in metrics.items()
        ]
        for heading, metrics in groups.items()
    }
    return Table(["value"], [Group(heading, mine) for heading, mine in rows.items()])


def _name(metric: str) -> str:
    return METRIC_NAMES.get(metric) or f"1/ε_B at ε_S = {metric.removeprefix('rejection_at_')}"


def _points(found: Evaluation) -> Table | None:
    if found.at is None:
        return None
    both = (
        ("ε_S", found.at.signal_efficiency, found.at.fixed.signal_efficiency),
        ("ε_B", found.at.background_efficiency, found.at.fixed.background_efficiency),
    )
    rows = [Row(name, [Cell(str(here)), Cell(str(there))]) for name, here, there in both]
    return Table(["on these jets", "where it was fixed"], [Group("", rows)])
