"""Entries of a `Result` made from runs, recipes and domains: what was trained on what, in words and numbers."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrino.methods import about, method_class
from pyrino.methods.description import listed
from pyrino.recipe import Recipe
from pyrino.report.schema import ComparedRecipe, Domain, FlowJet, Pretraining
from pyrino.views import ViewGenerator

if TYPE_CHECKING:
    from pyrino.generate.domains import Domain as GeneratedDomain
    from pyrino.jets import Jets
    from pyrino.training.pretrain import PretrainingRun

__all__ = ["compared_entry", "domain_entry", "flow_entry", "pretraining_entry", "processor"]

#: Pythia's tunes by their numbers.
_TUNES = {14: "Monash", 21: "A14"}


def pretraining_entry(run: PretrainingRun, domain: str, n_jets: int) -> Pretraining:
    """How an encoder was pretrained on so many jets of a domain; at most a thousand steps of its history."""
    recipe, history, method = run.recipe, run.history, about(run.recipe)
    every = max(1, history.rows // 1000)
    boost = f"; every jet boosted to pT = {recipe.jets.boost_to_pt:g} GeV" if recipe.jets.boost_to_pt else ""
    columns = {name: history[name][::every].tolist() for name in history if name not in ("waited", "seconds")}
    views = "; ".join(filter(None, (method.views, _encoder_of(recipe))))
    entry: Pretraining = {
        "domain": domain,
        "preset": recipe.name or recipe.method,
        "n_parameters": recipe.encoder_parameters,
        "n_jets": n_jets,
        "jets_seen": run.jets_seen,
        "views": views + boost,
        "history": {name: [x if math.isfinite(x) else None for x in column] for name, column in columns.items()},
    }
    if method.prototypes is not None:
        entry["n_prototypes"] = method.prototypes
    if method_class(recipe.method) is not None:  # which a report that is read again need not know
        charts = {chart.title: dict(chart.lines) for chart in method.charts}
        entry["charts"] = ({"loss": dict(method.parts)} if method.parts else {}) | charts
    return entry


def compared_entry(name: str, runs: Sequence[PretrainingRun], domain: str, n_jets: int) -> ComparedRecipe:
    """One of several recipes, from its pretrainings with several seeds.

    What it is and where it departs from its preset follows from its numbers alone.
    """
    recipe = runs[0].recipe
    preset = next(preset for preset in Recipe.catalogue() if preset.name == recipe.name)
    return {
        "name": name,
        "preset": preset.name,
        "summary": preset.summary,
        "source": preset.source,
        "losses": listed(about(recipe).losses),
        "published_parameters": Recipe.preset(recipe.name).encoder_parameters,
        "steps": runs[0].history.rows,
        "batch_size": recipe.training.batch_size,
        "seeds": [run.recipe.training.seed for run in runs],
        "seconds": [float(run.history["seconds"].sum()) for run in runs],
        "changes": [
            {
                "number": number.key,
                "published": _words(number.published),
                "here": _words(number.value),
                "meaning": number.meaning,
            }
            for number in recipe.describe()
            if number.changed and number.key != "training.seed"
        ],
        "pretraining": pretraining_entry(runs[0], domain, n_jets),
    }


def domain_entry(domain: GeneratedDomain, role: str, n_jets: Mapping[str, int]) -> Domain:
    """A generated domain, in words."""
    event = f"Poisson({domain.overlay_mean:g}) soft events laid over" if domain.overlay_mean else "no underlying event"
    tune = _TUNES.get(domain.tune, domain.tune)
    kept = f", the {domain.max_constituents} hardest constituents" if domain.max_constituents else ""
    return {
        "name": domain.name,
        "role": role,
        "generator": f"Pythia 8, {tune} tune, {domain.com_energy / 1000:g} TeV, {event}",
        "detector": "tracks, photon and hadron towers, smeared" if domain.detector else "none",
        "selection": f"anti-kT R = {domain.radius:g}, {domain.pt_min:g} < pT < {domain.pt_max:g} GeV{kept}",
        "n_jets": dict(n_jets),
    }


def flow_entry(jet: Jets, radius: float, title: str) -> FlowJet:
    """One jet along the flow."""
    resolutions: list[int | str] = [1, 2, 3, 8, "all"]
    views = ViewGenerator(resolutions, radius=radius)(jet)
    return {
        "views": [view.p4.tolist() for view in views],
        "resolutions": resolutions,
        "radius": radius,
        "title": title,
    }


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _words(value: Any) -> str:
    """A number of a recipe as it stands in a table."""
    return (listed(value) or "none") if isinstance(value, list) else str(value)


def _encoder_of(recipe: Recipe) -> str:
    """What of the encoder decides how views are seen, in words."""
    if recipe.encoder.kind != "transformer":
        return f"encoder {recipe.encoder.kind}"
    return f"{recipe.encoder.class_token.replace('none', 'no')} class token"
