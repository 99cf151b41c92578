"""Tables that set several recipes beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyrino.evaluate.metrics import Measurement
from pyrino.report.schema import STRATEGIES, Change, ComparedRecipe, Transfer
from pyrino.report.tables import Cell, Group, Row, Table, format_measurement, mark_best

__all__ = ["changes_table", "comparison_table", "recipes_table"]

#: Sections of a recipe under the headings of the table of changes.
_PARTS = {
    "networks": ("encoder", "head"),
    "pretraining": ("jets", "views", "loss", "optimizer", "training"),
    "fine-tuning and from scratch": ("finetune", "supervised"),
}


def comparison_table(transfers: Sequence[Transfer]) -> Table:
    """Accuracy and AUC of every recipe on target and source, with the errors of test sample and seeds.

    Parameters
    ----------
    transfers : sequence of Transfer
        One per recipe, from the same source to the same target.
    """
    shown = [(sample, metric) for sample in ("target", "source") for metric in ("accuracy", "auc")]
    where = {"target": transfers[0]["target"], "source": transfers[0]["source"]}
    groups = []
    for strategy, words in STRATEGIES.items():
        tested = [{t["sample"]: t["metrics"] for t in x["taggers"] if t["strategy"] == strategy} for x in transfers]
        if not any(tested):
            continue
        columns = []
        for sample, metric in shown:
            column = [samples[sample][metric] if sample in samples else None for samples in tested]
            columns.append([*zip(column, mark_best(column), strict=True)])
        rows = [
            Row(transfer.get("recipe", ""), [Cell(_cell(found), best) for found, best in cells])
            for transfer, cells in zip(transfers, zip(*columns, strict=True), strict=True)
        ]
        groups.append(Group(words, rows))
    titles = {"accuracy": "accuracy at 0.5", "auc": "AUC"}
    return Table([f"{where[sample]}: {titles[metric]}" for sample, metric in shown], groups)


def _cell(measurement: Measurement | None) -> str:
    return "–" if measurement is None else format_measurement(measurement, 3)


def recipes_table(recipes: Sequence[ComparedRecipe]) -> Table:
    """What each recipe is, one column each."""

    def row(name: str, texts: Sequence[str]) -> Row:
        return Row(name, [Cell(text) for text in texts])

    def encoder(recipe: ComparedRecipe) -> str:
        here, published = recipe["pretraining"]["n_parameters"], recipe["published_parameters"]
        return f"{here:,} parameters" + ("" if here == published else f" (published: {published:,})")

    rows = [
        row("starts from", [f"{r['preset']}: {r['summary']}" for r in recipes]),
        row("its source", [r["source"] for r in recipes]),
        row("views", [r["pretraining"].get("views", "–") for r in recipes]),
        row("losses", [r["losses"] or "–" for r in recipes]),
        row("encoder", [encoder(r) for r in recipes]),
        row("prototypes", [f"{k:,}" if (k := r["pretraining"].get("n_prototypes")) else "–" for r in recipes]),
        row(
            "one pretraining",
            [f"{r['steps']:,} steps of {r['batch_size']} jets, {np.mean(r['seconds']):.0f} s" for r in recipes],
        ),
        row("seeds", [", ".join(map(str, r["seeds"])) for r in recipes]),
    ]
    return Table([recipe["name"] for recipe in recipes], [Group("", rows)])


def changes_table(recipes: Sequence[ComparedRecipe]) -> Table:
    """Where each recipe departs from its published numbers, one column each."""
    meanings = {change["number"]: change["meaning"] for recipe in recipes for change in recipe["changes"]}
    changed = [{change["number"]: change for change in recipe["changes"]} for recipe in recipes]

    def cell(found: Change | None) -> Cell:
        # No line ends beside the arrow.
        return Cell(
            "–" if found is None else f"{found['published']}\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}{found['here']}"
        )

    groups = []
    for part, sections in _PARTS.items():
        numbers = [n for section in sections for n in meanings if n.partition(".")[0] == section]
        rows = [Row(n, [Cell(meanings[n]), *(cell(changes.get(n)) for changes in changed)]) for n in numbers]
        if rows:
            groups.append(Group(part, rows))
    return Table(["meaning", *(recipe["name"] for recipe in recipes)], groups)
