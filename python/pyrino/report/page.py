"""The page: tables and pictures of a `Result`, put into `template.html`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrino import plots
from pyrino.evaluate.metrics import HEADLINE_METRICS, Measurement
from pyrino.methods.description import About, Chart
from pyrino.recipe import Recipe
from pyrino.report.comparison import changes_table, comparison_table, recipes_table
from pyrino.report.html import Picture, picture, render, thousands
from pyrino.report.schema import SAMPLES, STRATEGIES, Pretraining, Probe, Result, Transfer
from pyrino.report.tables import Cell, Group, Row, Table, format_measurement, format_seeds, mark_best
from pyrino.report.verdict import compare_recipes, difference, fold_factor, signed, verdict

if TYPE_CHECKING:
    pass

__all__ = ["render_html"]

_METRIC_NAMES = {
    "accuracy": "accuracy at 0.5",
    "accuracy_at_median": "accuracy at the median",
    "auc": "AUC",
    "rejection_at_0.5": "1/ε_B at ε_S = 0.5",
}

_KINEMATIC_NAMES = {"log_pt": "log pT", "eta": "η", "log_mass": "log mass", "all": "all three"}

_CAPTIONS = {
    "roc": "ROC curves: the higher curve rejects more background at the same signal efficiency; compare the "
    "order of the curves on the target (left) with that on the source (right).",
    "scores": "Scores of both classes: where the dashed median leaves the threshold at 0.5 on the target "
    "(upper row), accuracy is lost although the classes may still be apart.",
    "flow": "One jet along the flow: from left to right every kT merging undone adds structure at a lower "
    "scale{agree}.",
    "pca": "Frozen embeddings along their two leading principal components (large dots: medians): the "
    "classes should part within a domain, the domains should lie on each other within a class.",
    "similarity": "Cosine similarity along the flow: high on the left means that a jet is recognised at "
    "every resolution, and the right must be clearly lower, or all jets look the same (collapse).",
    "training": "Pretraining: the loss should fall{entropies}.",
}


def render_html(result: Result) -> str:
    """The page as one HTML document that loads nothing.

    Parameters
    ----------
    result : Result
        As `pyrino.report.check_result` returns it.
    """
    probes = result.get("probes", [])
    recipes = result.get("recipes", [])
    embedding = result.get("embedding", {})
    kinematics = embedding.get("kinematics")
    return render(
        "template.html",
        result=result,
        transfers=[
            {
                "entry": transfer,
                "verdict": verdict(transfer, probes),
                "table": _taggers_table(transfer),
                "seeds": _seeds_table(transfer),
                "pictures": _transfer_pictures(transfer),
            }
            for transfer in result["transfers"]
        ],
        probes=_probes_table(probes) if probes else None,
        fold_factors={n: fold_factor(n) for n in sorted({len(p["auc"].get("folds", [])) for p in probes}) if n > 1},
        kinematics=_kinematics_table(kinematics) if kinematics else None,
        flow=_flow_picture(result),
        embedding_pictures=_embedding_pictures(result),
        recipes=recipes,
        comparisons=_comparisons(result),
        recipes_table=recipes_table(recipes) if recipes else None,
        changes_table=changes_table(recipes) if recipes else None,
        pretrainings=_pretrainings(result),
        total_seconds=sum(stage["seconds"] for stage in result["stages"]),
    )


def _metric_cell(name: str, measurement: Measurement) -> str:
    return format_measurement(measurement, None if name.startswith("rejection") else 3)


def _taggers_table(transfer: Transfer) -> Table:
    shown = [name for name in HEADLINE_METRICS if any(name in t["metrics"] for t in transfer["taggers"])]
    groups = []
    for sample in SAMPLES:
        rows = [
            tagger
            for strategy in STRATEGIES
            for tagger in transfer["taggers"]
            if (tagger["strategy"], tagger["sample"]) == (strategy, sample)
        ]
        if not rows:
            continue
        winners = {name: mark_best([tagger["metrics"].get(name) for tagger in rows]) for name in shown}
        body = [
            Row(
                STRATEGIES[tagger["strategy"]],
                [
                    Cell(_metric_cell(name, tagger["metrics"][name]), winners[name][i])
                    if name in tagger["metrics"]
                    else Cell("–")
                    for name in shown
                ],
            )
            for i, tagger in enumerate(rows)
        ]
        groups.append(Group(_sample_heading(transfer, sample, rows[0]["n_jets"]), body))
    return Table([_METRIC_NAMES[name] for name in shown], groups)


def _sample_heading(transfer: Transfer, sample: str, n_jets: int) -> str:
    jets = f"{thousands(n_jets)} test jets"
    if sample == "target":
        return f"target: {transfer['target']} ({jets})"
    if sample == "target_truncated":
        return f"target, each jet cut to its 30 hardest constituents ({jets})"
    return f"source: {transfer['source']} ({jets})"


def _seeds_table(transfer: Transfer) -> Table | None:
    """Accuracy and AUC on the target seed by seed, where there are several."""
    columns = ["seeds", "accuracy at 0.5", "range", "AUC", "range"]
    rows = []
    for tagger in sorted(transfer["taggers"], key=lambda t: list(STRATEGIES).index(t["strategy"])):
        values = [tagger["metrics"][name].get("seed_values", []) for name in ("accuracy", "auc")]
        if tagger["sample"] != "target" or len(values[0]) < 2:
            continue
        cells = [Cell(str(len(values[0])))]
        for seeds in values:
            cells.append(Cell(format_seeds(seeds)))
            cells.append(Cell(f"{min(seeds):.3f}–{max(seeds):.3f}"))
        rows.append(Row(STRATEGIES[tagger["strategy"]], cells))
    return Table(columns, [Group("", rows)]) if rows else None


def _probes_table(probes: Sequence[Probe]) -> Table:
    encoders = [name for name in ("pretrained", "untrained") if any(probe["encoder"] == name for probe in probes)]
    both = ["difference"] if len(encoders) == 2 else []
    columns = [f"{metric}, {what}" for metric in ("AUC", "accuracy") for what in (*encoders, *both)]
    groups = []
    for sample in dict.fromkeys(probe["sample"] for probe in probes):
        rows = []
        for method in dict.fromkeys(probe["method"] for probe in probes if probe["sample"] == sample):
            found = {p["encoder"]: p for p in probes if (p["sample"], p["method"]) == (sample, method)}
            cells = []
            for metric in ("auc", "accuracy"):
                pair = [found[encoder][metric] if encoder in found else None for encoder in encoders]
                cells += [
                    Cell("–") if measurement is None else Cell(format_measurement(measurement, 3), wins)
                    for measurement, wins in zip(pair, mark_best(pair), strict=True)
                ]
                if both:
                    before, after = pair
                    change = None if before is None or after is None else difference(before, after)
                    cells.append(Cell("–" if change is None else signed(change)))
            rows.append(Row(method, cells))
        groups.append(Group(sample, rows))
    return Table(columns, groups)


def _kinematics_table(kinematics: Any) -> Table:
    names = list(_KINEMATIC_NAMES)
    rows = []
    for key, words in (
        ("from_embedding", "R² of a linear fit from the embedding"),
        ("of_embedding", "share of the embedding's variance explained"),
    ):
        shares = kinematics[key]
        rows.append(Row(words, [Cell(f"{max(shares[n], 0.0):.2f}" if n in shares else "–") for n in names]))
    return Table([_KINEMATIC_NAMES[name] for name in names], [Group("", rows)])


def _transfer_pictures(transfer: Transfer) -> list[Picture]:
    names = {"target": transfer["target"], "source": transfer["source"]}
    taggers = [
        tagger
        for sample in ("target", "source")
        for strategy in STRATEGIES
        for tagger in transfer["taggers"]
        if (tagger["strategy"], tagger["sample"]) == (strategy, sample)
    ]
    pictures = []
    curves = [
        {
            "name": _SHORT[tagger["strategy"]],
            "domain": f"{tagger['sample']}: {names[tagger['sample']]}",
            "auc": tagger["metrics"]["auc"]["value"],
            **tagger["roc"],
        }
        for tagger in taggers
        if "roc" in tagger
    ]
    if curves:
        pictures.append(
            picture(
                plots.roc_curves(curves),
                "ROC curves",
                _CAPTIONS["roc"],
            )
        )
    panels = [
        {
            "name": _SHORT[tagger["strategy"]],
            "domain": f"{tagger['sample']}: {names[tagger['sample']]}",
            **tagger["histogram"],
        }
        for tagger in taggers
        if "histogram" in tagger
    ]
    if panels:
        pictures.append(
            picture(
                plots.score_distributions(panels),
                "Score distributions",
                _CAPTIONS["scores"],
            )
        )
    return pictures


_SHORT = {"supervised": "supervised", "linear": "pretrained, linear", "mlp": "pretrained, MLP"}


def _flow_picture(result: Result) -> Picture | None:
    jet = result.get("jet")
    if jet is None:
        return None
    views = [np.asarray(view, dtype=np.float64) for view in jet["views"]]
    return picture(
        plots.draw_flow(views, jet["resolutions"], jet.get("title"), radius=jet["radius"]),
        "One jet along the flow",
        _CAPTIONS["flow"].format(
            agree=", and student and teacher must agree across these views" if _assigns(result) else ""
        ),
    )


def _embedding_pictures(result: Result) -> list[Picture]:
    embedding = result.get("embedding", {})
    pictures = []
    if "pca" in embedding:
        pictures.append(
            picture(
                plots.embedding_pca(embedding["pca"]["groups"], embedding["pca"]["explained"]),
                "Principal components of the embeddings",
                _CAPTIONS["pca"],
            )
        )
    if "similarity" in embedding:
        entry = embedding["similarity"]
        pictures.append(
            picture(
                plots.similarity_matrix(entry["same_jet"], entry["resolutions"], entry["different_jets"]),
                "Similarity along the flow",
                _CAPTIONS["similarity"],
            )
        )
    return pictures


def _comparisons(result: Result) -> list[dict[str, Any]]:
    """Of the recipes, where there are several: one entry per source."""
    if "recipes" not in result:
        return []
    entries = []
    for source in dict.fromkeys(transfer["source"] for transfer in result["transfers"]):
        mine = [transfer for transfer in result["transfers"] if transfer["source"] == source]
        entries.append(
            {
                "source": source,
                "target": mine[0]["target"],
                "verdict": compare_recipes(mine),
                "table": comparison_table(mine),
            }
        )
    return entries


def _pretrainings(result: Result) -> list[dict[str, Any]]:
    """The pretraining, or that of every recipe's first seed, with its picture."""
    return [{**named, "picture": _training_picture(named["entry"])} for named in _entries(result)]


def _entries(result: Result) -> list[dict[str, Any]]:
    """The pretraining, or those of the recipes, by name."""
    if "recipes" in result:
        return [{"name": recipe["name"], "entry": recipe["pretraining"]} for recipe in result["recipes"]]
    return [{"name": "", "entry": result["pretraining"]}]


def _training_picture(pretraining: Pretraining) -> Picture | None:
    history = pretraining.get("history")
    if not history:
        return None
    columns = {name: [math.nan if x is None else x for x in values] for name, values in history.items()}
    prototypes = pretraining.get("n_prototypes")
    said = (
        ", the entropy of the mean assignment stay near ln K (all prototypes in use), and that of one jet's assignment "
        "lie well below it"
    )
    return picture(
        plots.training_curves(columns, prototypes, _own_charts(pretraining)),
        "Training curves",
        _CAPTIONS["training"].format(entropies="" if prototypes is None else said),
    )


def _assigns(result: Result) -> bool:
    """Whether some of the encoders learned from assignments to prototypes."""
    return any("n_prototypes" in pretraining["entry"] for pretraining in _entries(result))


def _own_charts(pretraining: Pretraining) -> About | None:
    """Those of a user's method; None: the library's methods have theirs."""
    if "charts" not in pretraining:
        return None
    method = About(Recipe())
    charts = {title: tuple(lines.items()) for title, lines in pretraining["charts"].items()}
    method.parts = charts.pop("loss", ())
    method.charts = tuple(Chart(title, lines) for title, lines in charts.items())
    return method
