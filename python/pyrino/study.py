"""The main job end to end: generate two domains, pretrain on one, fine-tune on the other, report."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyrino.data import read_jets
from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.generate import DOMAINS, generate
from pyrino.jets import Jets
from pyrino.methods import about
from pyrino.nn import Encoder, encoder_of
from pyrino.recipe import Recipe
from pyrino.training.finetune import finetune, train_supervised
from pyrino.training.pretrain import PretrainingRun, pretrain
from pyrino.training.tagger import Tagger
from pyrino.transforms import hardest

__all__ = ["STUDIES", "Study", "run_study"]

#: JetClass's number of the hadronic top, the signal.
_TOP = 8
_RESOLUTIONS: tuple[int | str, ...] = (2, 4, 8, 16, "all")


@dataclass(frozen=True)
class Study:
    """What a study generates, and how often it fine-tunes."""

    preset: str
    """Name of the recipe; with `recipes`, of the study."""
    pretraining_jets: int
    """QCD jets of the target domain, unlabelled."""
    labelled_jets: int
    """Labelled jets of each source, half of them tops."""
    test_jets: int
    """Jets of each domain on which taggers are compared, half of them tops."""
    sources: tuple[str, ...] = ("simulation-wide",)
    """Labelled domains."""
    target: str = "collisions"
    """Unlabelled domain."""
    finetuning_seeds: int = 1
    """Taggers of every kind; the table shows their mean and spread. With `recipes`: of every pretraining, 1."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recipes to compare: by a name the ``preset`` and the numbers that replace its own. Each is pretrained on the same
    jets with the same number of steps."""
    pretraining_seeds: int = 1
    """Pretrainings of each of `recipes`, with the seeds that follow the recipe's; every one is fine-tuned once."""
    seed: int = 2025
    """The generated samples have the seeds 10 * seed + 0 (pretraining), 1 (target's test), 2 (labelled), 3 (source's
    test), so that no jet serves two purposes."""


#: What the compared recipes have alike: budget, boost and fine-tuning are the demo's (half as many epochs).
_ALIKE = {
    "jets.boost_to_pt": 750.0,
    "optimizer.lr": 2e-3,
    "training.epochs": 12,
    "training.batch_size": 256,
    "training.precision": "float32",
    "finetune.hidden1": 8,
    "finetune.hidden2": 4,
    "finetune.probe_epochs": 4,
    "finetune.epochs": 8,
    "finetune.encoder_lr": 1e-3,
    "finetune.positive_weight": 1.0,
    "finetune.batch_size": 256,
    "supervised.lr": 1e-3,
    "supervised.epochs": 12,
    "supervised.patience": 4,
}

#: The production recipe at nano's width; its table of positions has bins for as many jets as there are.
_SHRUNK = {
    "encoder.width": 32,
    "encoder.heads": 4,
    "encoder.layers": 4,
    "encoder.feedforward": 64,
    "encoder.radial_bins": 32,
    "encoder.angular_bins": 32,
    "head.prototypes": 256,
    "head.hidden_width": 128,
    "head.bottleneck": 32,
}

#: ParT's bias of pairs, without batch norms: what is known of a jet is to come from it alone.
_PAIRS = {"encoder.pairs": "layer", "encoder.pair_width": 32}

#: The studies by name; `make demo` and `make study` run the first two.
STUDIES = {
    "demo": Study("demo", pretraining_jets=24_000, labelled_jets=12_000, test_jets=8_000, finetuning_seeds=3),
    "study": Study(
        "study",
        pretraining_jets=200_000,
        labelled_jets=13_000,
        test_jets=20_000,
        sources=("simulation-wide", "simulation"),
        finetuning_seeds=10,
    ),
    "recipes": Study(
        "recipes",
        pretraining_jets=24_000,
        labelled_jets=12_000,
        test_jets=8_000,
        recipes={
            "workshop": {"preset": "nano", **_ALIKE},
            "production": {"preset": "rino", **_ALIKE, **_SHRUNK},
        },
        pretraining_seeds=3,
    ),
    "pairs": Study(
        "pairs",
        pretraining_jets=24_000,
        labelled_jets=12_000,
        test_jets=8_000,
        recipes={
            "production": {"preset": "rino", **_ALIKE, **_SHRUNK},
            "production-pairs": {"preset": "rino", **_ALIKE, **_SHRUNK, **_PAIRS},
        },
        pretraining_seeds=3,
    ),
}

_RECIPES_REMARK = (
    "Both recipes are small and short here, so the comparison speaks of this size and budget and not of what either "
    "reaches as published. What they have alike (boost, learning rates, fine-tuning) is the demo's, which was chosen "
    "by looking at target labels of another sample; nothing was tuned for either recipe."
)


_COLLAPSED_REMARK = (
    "The pretrained network gives every jet the same embedding: training has collapsed. So there is no effective rank, "
    "no principal component and no share of the kinematics to show."
)


@dataclass
class _Times:
    """Wall-clock time of the stages."""

    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        print(f"{name} ...", flush=True)
        begin = time.monotonic()
        yield
        seconds = time.monotonic() - begin
        self.stages.append({"name": name, "seconds": seconds})
        print(f"{name}: {seconds:.0f} s", flush=True)


@dataclass(frozen=True)
class _Sample:
    """Jets of one domain, labels 1 for top and 0 for QCD."""

    jets: Jets
    labels: np.ndarray


@dataclass(frozen=True)
class _Start:
    """What a tagger starts from: a pretrained encoder, or its recipe alone, and a seed."""

    seed: int
    recipe: Recipe
    encoder: Encoder


@dataclass(frozen=True)
class _Job:
    """A study at work: its plan, its place, its jets."""

    plan: Study
    out: Path
    device: str
    threads: int
    progress: bool
    times: _Times
    unlabelled: Jets
    target: _Sample
    sources: dict[str, _Sample]
    tests: dict[str, _Sample]


def run_study(
    study: str | Study,
    out: str | os.PathLike[str],
    *,
    recipe: Recipe | None = None,
    device: str = "cpu",
    workers: int | None = None,
    threads: int = 1,
    progress: bool = True,
) -> Path:
    """Run a study and write its report; what an earlier call finished in the same folder is taken up.

    Parameters
    ----------
    study
        "demo", "study", "recipes", "pairs", or a `Study`.
    out
        Folder for the generated jets (``data``), the runs and ``report.html``.
    recipe
        In place of the study's preset, of any method that needs no labels; not where recipes are compared.
    device
        For pretraining: "cpu" or "cuda".
    workers
        Processes that generate; None: one per core.
    threads
        For features when embedding.
    progress
        Show bars.

    Returns
    -------
    pathlib.Path
        Of ``report.html``.

    Raises
    ------
    RinoError
        If `out` holds a study with another plan or recipe, recipes that are compared take different numbers of steps,
        or as its stages do.
    """
    from pyrino.report import installed_versions, write_report
    from pyrino.report.describe import flow_entry, processor

    plan = _plan(study)
    recipes = _recipes(plan, recipe)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _same_plan(out, plan, recipes)
    times = _Times()
    samples = _Samples(plan, out / "data", workers, progress)

    with times.stage("generating jets"):
        unlabelled = samples.unlabelled()
        target = samples.labelled(plan.target, plan.test_jets, purpose=1)
        sources = {name: samples.labelled(name, plan.labelled_jets, purpose=2) for name in plan.sources}
        tests = {name: samples.labelled(name, plan.test_jets, purpose=3) for name in plan.sources}

    job = _Job(plan, out, device, threads, progress, times, unlabelled, target, sources, tests)
    if plan.recipes:
        parts, seeds = _compare(job, recipes)
        title = f"the recipes {' and '.join(recipes)}"
    else:
        (only,) = recipes.values()
        parts, seeds = _examine(job, only)
        title = only.name or only.method

    result: dict[str, Any] = {
        "title": f"rino: {title}",
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "demo": plan in STUDIES.values() and not plan.recipes and recipe is None,
        "domains": _domains(plan),
        **parts,
        "jet": flow_entry(
            _first_top(target), next(iter(recipes.values())).jets.radius, "a top jet of the target domain"
        ),
        "stages": times.stages,
        "seeds": {"samples": plan.seed, **seeds},
        "versions": installed_versions(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}",
    }
    return write_report(result, out)


def _examine(job: _Job, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """One pretraining, taggers of several seeds from it, and the embedding: parts of the result, and the seeds."""
    from pyrino.report.describe import pretraining_entry

    plan = job.plan
    with job.times.stage("pretraining"):
        run = _pretrain(job, recipe, job.out / "pretraining")
    encoder = run.encoder
    untrained = encoder_of(recipe, recipe.training.seed)
    starts = [_Start(seed, recipe, encoder) for seed in range(plan.finetuning_seeds)]
    transfers = [_finetune(job, starts, name, job.out / "taggers" / name) for name in job.sources]
    with job.times.stage("examining the embedding"):
        first = plan.sources[0]
        embedding, probes = _embedding(encoder, untrained, job.target, job.tests[first], first, plan, job.threads)
    parts = {
        "pretraining": pretraining_entry(run, plan.target, len(job.unlabelled)),
        "transfers": transfers,
        "probes": probes,
        "embedding": embedding,
        "recipe": recipe.to_dict(),
        "remarks": [] if "effective_rank" in embedding else [_COLLAPSED_REMARK],
    }
    return parts, {"pretraining": recipe.training.seed, "fine-tuning": [start.seed for start in starts]}


def _compare(job: _Job, recipes: dict[str, Recipe]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Several pretrainings of every recipe, each fine-tuned with its own seed: parts of the result, and the seeds."""
    from pyrino.report.describe import compared_entry

    compared, transfers, seeds = [], [], {}
    for name, recipe in recipes.items():
        starts, runs = [], []
        for seed in range(recipe.training.seed, recipe.training.seed + job.plan.pretraining_seeds):
            mine = recipe.replace(**{"training.seed": seed})
            with job.times.stage(f"pretraining {name}, seed {seed}"):
                runs.append(_pretrain(job, mine, job.out / "pretraining" / f"{name}_{seed}"))
            starts.append(_Start(seed, mine, runs[-1].encoder))
        seeds[f"pretraining and fine-tuning, {name}"] = [start.seed for start in starts]
        compared.append(compared_entry(name, runs, job.plan.target, len(job.unlabelled)))
        for source in job.sources:
            folder = job.out / "taggers" / name / source
            transfer = _finetune(job, starts, source, folder, f" ({name})")
            transfers.append({**transfer, "recipe": name, "pretrainings": len(starts)})
    remarks = {"remarks": [_RECIPES_REMARK]} if job.plan in STUDIES.values() else {}
    parts = {
        "recipes": compared,
        "transfers": transfers,
        "recipe": {name: recipe.to_dict() for name, recipe in recipes.items()},
        **remarks,
    }
    return parts, seeds


def _pretrain(job: _Job, recipe: Recipe, folder: Path) -> PretrainingRun:
    return pretrain(recipe, job.unlabelled, folder, resume=True, device=job.device, progress=job.progress)


def _finetune(job: _Job, starts: Sequence[_Start], source: str, folder: Path, which: str = "") -> dict[str, Any]:
    """Taggers from one source, and how they do."""
    labelled = job.sources[source]
    with job.times.stage(f"fine-tuning on {source}{which}"):
        taggers = _taggers(starts, labelled, folder, job.threads, job.progress)
    with job.times.stage(f"testing taggers from {source}{which}"):
        return _transfer(taggers, source, labelled, job.tests[source], job.target, job.plan, job.threads)


class _Samples:
    """Generated jets by purpose; every purpose has its own seed, so that no jet serves two."""

    def __init__(self, plan: Study, folder: Path, workers: int | None, progress: bool) -> None:
        self.plan = plan
        self.folder = folder
        self.workers = workers
        self.progress = progress

    def read(self, domain: str, process: str, count: int, purpose: int) -> Jets:
        files = generate(
            domain,
            process,
            count,
            10 * self.plan.seed + purpose,
            self.folder / domain / process,
            workers=self.workers,
            progress=self.progress,
        )
        return read_jets(files, max_jets=count)

    def unlabelled(self) -> Jets:
        return self.read(self.plan.target, "qcd", self.plan.pretraining_jets, purpose=0)

    def labelled(self, domain: str, count: int, purpose: int) -> _Sample:
        parts = [self.read(domain, process, count // 2, purpose) for process in ("qcd", "top")]
        jets = Jets.concatenate(parts)
        return _Sample(jets, (jets.labels == _TOP).astype(np.int64))


def _taggers(
    starts: Sequence[_Start], source: _Sample, folder: Path, threads: int, progress: bool
) -> dict[str, list[Tagger]]:
    """Taggers by strategy, one per start; finished ones are read back."""
    labelled = (source.jets, source.labels)

    def supervised(start: _Start, out: Path) -> Tagger:
        return train_supervised(start.recipe, labelled, out=out, seed=start.seed, threads=threads, progress=progress)

    def pretrained(head: str) -> Callable[[_Start, Path], Tagger]:
        return lambda start, out: finetune(
            start.encoder,
            labelled,
            head=head,
            out=out,
            recipe=start.recipe,
            seed=start.seed,
            threads=threads,
            progress=progress,
        )

    taggers: dict[str, list[Tagger]] = {}
    for strategy, make in (("supervised", supervised), ("linear", pretrained("linear")), ("mlp", pretrained("mlp"))):
        for start in starts:
            out = folder / f"{strategy}_{start.seed}"
            done = (out / "tagger.safetensors").is_file()
            taggers.setdefault(strategy, []).append(Tagger.load(out) if done else make(start, out))
    return taggers


def _transfer(
    taggers: dict[str, list[Tagger]],
    name: str,
    source: _Sample,
    source_test: _Sample,
    target: _Sample,
    plan: Study,
    threads: int,
) -> dict[str, Any]:
    from pyrino.report import tagger_entry

    samples = {
        "target": target,
        "target_truncated": _Sample(hardest(target.jets, 30), target.labels),
        "source": source_test,
    }
    entries = [
        tagger_entry(
            strategy,  # type: ignore[arg-type]
            sample,  # type: ignore[arg-type]
            [tagger.predict(data.jets, threads=threads) for tagger in group],
            data.labels,
        )
        for strategy, group in taggers.items()
        for sample, data in samples.items()
    ]
    return {"source": name, "target": plan.target, "n_labelled": len(source.labels), "taggers": entries}


def _embedding(
    encoder: Encoder,
    untrained: Encoder,
    target: _Sample,
    source: _Sample,
    source_name: str,
    plan: Study,
    threads: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the frozen embedding holds, and simple classifiers on it."""
    from pyrino.evaluate import effective_rank, kinematics_explained, knn, linear_probe, similarity_along_flow
    from pyrino.evaluate.embeddings import all_alike
    from pyrino.report import pca_entry

    z = encoder.embed(target.jets, threads=threads)
    z_source = encoder.embed(source.jets, threads=threads)
    z_untrained = untrained.embed(target.jets, threads=threads)
    probes = []
    for kind, embedded in (("pretrained", z), ("untrained", z_untrained)):
        for method, probe in (("k-NN, k = 20", knn), ("linear", linear_probe)):
            probes.append({"method": method, "encoder": kind, "sample": plan.target, **probe(embedded, target.labels)})
    jets = target.jets
    few = jets[:: max(1, len(jets) // 500)]
    along = [encoder.embed(few, resolution=resolution, threads=threads) for resolution in _RESOLUTIONS]
    similarity = similarity_along_flow(along)
    classes = {"QCD": 0, "top": 1}
    groups = {
        (label, domain): embedded[sample.labels == number]
        for domain, embedded, sample in ((plan.target, z, target), (source_name, z_source, source))
        for label, number in classes.items()
    }
    embedding: dict[str, Any] = {
        "dimension": z.shape[1],
        "similarity": {"resolutions": [str(r) for r in _RESOLUTIONS], **similarity},
    }
    if not all_alike(z.astype(np.float64)):
        embedding |= {
            "effective_rank": effective_rank(z),
            "pca": pca_entry(groups),
            "kinematics": kinematics_explained(z, {"pt": jets.pt, "eta": jets.eta, "mass": jets.mass}),
        }
    return embedding, probes


def _first_top(sample: _Sample) -> Jets:
    first = int(np.flatnonzero(sample.labels == 1)[0])
    return sample.jets[first : first + 1]


def _domains(plan: Study) -> list[Any]:
    from pyrino.report.describe import domain_entry

    target = {"pretraining": plan.pretraining_jets, "test": plan.test_jets}
    source = {"labelled": plan.labelled_jets, "test": plan.test_jets}
    return [
        domain_entry(DOMAINS[plan.target], "target: stands for real collisions", target),
        *(domain_entry(DOMAINS[name], "source: labelled simulation", source) for name in plan.sources),
    ]


def _plan(study: str | Study) -> Study:
    if isinstance(study, Study):
        return study
    if study not in STUDIES:
        raise RinoError(f"there is no study {study!r}: choose one of {', '.join(STUDIES)}")
    return STUDIES[study]


def _recipes(plan: Study, recipe: Recipe | None) -> dict[str, Recipe]:
    """The recipe, or those that are compared, by name."""
    if not plan.recipes:
        if plan.pretraining_seeds != 1:
            raise RinoError(f"pretraining_seeds is {plan.pretraining_seeds}: only a study with recipes takes several")
        return {plan.preset: _without_labels(recipe or Recipe.preset(plan.preset))}
    if recipe is not None:
        raise RinoError("the study compares recipes of its own: change them in Study.recipes")
    if plan.pretraining_seeds < 1 or plan.finetuning_seeds != 1:
        raise RinoError(
            f"pretraining_seeds and finetuning_seeds are {plan.pretraining_seeds} and {plan.finetuning_seeds}: where "
            "recipes are compared, give 1 or more and 1"
        )
    recipes = {}
    for name, numbers in plan.recipes.items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise RinoError(f"the recipe's name {name!r} becomes a folder's: use letters, digits, - and _")
        if "preset" not in numbers:
            raise RinoError(f"the recipe {name!r} has no preset: give the name of one that it starts from")
        chosen = Recipe.preset(numbers["preset"], **{k: v for k, v in numbers.items() if k != "preset"})
        recipes[name] = _without_labels(chosen)
    (first, model), *others = recipes.items()
    for name, other in others:
        for key in ("epochs", "batch_size"):
            mine, theirs = getattr(model.training, key), getattr(other.training, key)
            if mine != theirs:
                raise RinoError(
                    f"training.{key} is {mine} in {first!r} and {theirs} in {name!r}: recipes are compared after the "
                    "same number of steps, give them the same"
                )
    return recipes


def _without_labels(recipe: Recipe) -> Recipe:
    """The recipe, unless its pretraining would see the target domain's labels."""
    if about(recipe).wants_labels:
        raise RinoError(
            f"the study pretrains without labels, and the recipe {recipe.name or recipe.method!r} needs them: give "
            "another recipe"
        )
    return recipe


def _same_plan(out: Path, plan: Study, recipes: dict[str, Recipe]) -> None:
    """Remember what `out` is for; refuse to mix two studies in one folder."""
    file = out / "study.json"
    numbers = {name: recipe.to_dict() for name, recipe in recipes.items()}
    study = dataclasses.asdict(plan)
    mine = json.loads(
        json.dumps(
            {"study": study, "recipes": numbers} if plan.recipes else {"study": study, "recipe": numbers[plan.preset]}
        )
    )
    if file.is_file():
        before = json.loads(file.read_text())
        known = before.get("recipes", {plan.preset: before.get("recipe")})
        try:  # as recipes: numbers that are younger than the file are what it meant without them
            same = before["study"] == mine["study"] and {n: Recipe.from_dict(r) for n, r in known.items()} == recipes
        except RinoError:
            same = False
        if not same:
            raise RinoError(f"{out} holds a study with another plan or recipe: remove it or choose another folder")
        return
    with whole_file(file) as partial:
        partial.write_text(json.dumps(mine, indent=1))
