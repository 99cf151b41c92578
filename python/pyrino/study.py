"""The main job end to end: generate two domains, pretrain on one, fine-tune on the other, report."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyrino.data import read_jets
from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.finetune import Tagger, finetune, train_supervised
from pyrino.generate import DOMAINS, generate
from pyrino.jets import Jets
from pyrino.nn import JetEncoder
from pyrino.pretrain import PretrainingRun, pretrain
from pyrino.recipe import Recipe
from pyrino.transforms import hardest
from pyrino.views import ViewGenerator

__all__ = ["STUDIES", "Study", "run_study"]

#: JetClass's number of the hadronic top, the signal.
_TOP = 8
_RESOLUTIONS: tuple[int | str, ...] = (2, 4, 8, 16, "all")


@dataclass(frozen=True)
class Study:
    """What a study generates, and how often it fine-tunes."""

    preset: str
    """Name of the recipe."""
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
    """Taggers of every kind; the table shows their mean and spread."""
    seed: int = 2025
    """The generated samples have the seeds 10 * seed + 0 (pretraining), 1 (target's test), 2 (labelled), 3 (source's
    test), so that no jet serves two purposes."""


#: The studies by name; `make demo` and `make study` run them.
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
}


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
        "demo", "study", or a `Study`.
    out
        Folder for the generated jets (``data``), the runs and ``report.html``.
    recipe
        In place of the study's preset.
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
        If `out` holds a study with another plan or recipe, or as its stages do.
    """
    from pyrino.report import write_report

    plan = _plan(study)
    recipe = recipe or Recipe.preset(plan.preset)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _same_plan(out, plan, recipe)
    times = _Times()
    samples = _Samples(plan, out / "data", workers, progress)

    with times.stage("generating jets"):
        unlabelled = samples.unlabelled()
        target = samples.labelled(plan.target, plan.test_jets, purpose=1)
        sources = {name: samples.labelled(name, plan.labelled_jets, purpose=2) for name in plan.sources}
        tests = {name: samples.labelled(name, plan.test_jets, purpose=3) for name in plan.sources}

    with times.stage("pretraining"):
        run = pretrain(recipe, unlabelled, out / "pretraining", resume=True, device=device, progress=progress)
    encoder = run.encoder
    untrained = JetEncoder(recipe, seed=recipe.training.seed)

    transfers = []
    for name, source in sources.items():
        with times.stage(f"fine-tuning on {name}"):
            taggers = _taggers(encoder, source, out / "taggers" / name, plan, recipe, threads, progress)
        with times.stage(f"testing taggers from {name}"):
            transfers.append(_transfer(taggers, name, source, tests[name], target, plan, threads))

    with times.stage("examining the embedding"):
        first = plan.sources[0]
        embedding, probes = _embedding(encoder, untrained, target, tests[first], first, plan, threads)

    result: dict[str, Any] = {
        "title": f"rino: {plan.preset}",
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "demo": plan in STUDIES.values(),
        "domains": _domains(plan),
        "pretraining": _pretraining(run, encoder, unlabelled, recipe, plan),
        "transfers": transfers,
        "probes": probes,
        "embedding": embedding,
        "jet": _flow_jet(target, recipe),
        "recipe": recipe.to_dict(),
        "stages": times.stages,
        "seeds": {
            "samples": plan.seed,
            "pretraining": recipe.training.seed,
            "fine-tuning": list(range(plan.finetuning_seeds)),
        },
        "versions": _versions(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}",
    }
    return write_report(result, out)


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
    encoder: JetEncoder,
    source: _Sample,
    folder: Path,
    plan: Study,
    recipe: Recipe,
    threads: int,
    progress: bool,
) -> dict[str, list[Tagger]]:
    """Taggers by strategy, one per seed; finished ones are read back."""
    labelled = (source.jets, source.labels)
    makers: dict[str, Callable[[int, Path], Tagger]] = {
        "supervised": lambda seed, out: train_supervised(
            recipe, labelled, out=out, seed=seed, threads=threads, progress=progress
        ),
        "linear": lambda seed, out: finetune(
            encoder, labelled, head="linear", out=out, recipe=recipe, seed=seed, threads=threads, progress=progress
        ),
        "mlp": lambda seed, out: finetune(
            encoder, labelled, head="mlp", out=out, recipe=recipe, seed=seed, threads=threads, progress=progress
        ),
    }
    taggers: dict[str, list[Tagger]] = {}
    for strategy, make in makers.items():
        for seed in range(plan.finetuning_seeds):
            out = folder / f"{strategy}_{seed}"
            done = (out / "tagger.safetensors").is_file()
            taggers.setdefault(strategy, []).append(Tagger.load(out) if done else make(seed, out))
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
    encoder: JetEncoder,
    untrained: JetEncoder,
    target: _Sample,
    source: _Sample,
    source_name: str,
    plan: Study,
    threads: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the frozen embedding holds, and simple classifiers on it."""
    from pyrino.evaluate import effective_rank, kinematics_explained, knn, linear_probe, similarity_along_flow
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
    embedding = {
        "dimension": encoder.width,
        "effective_rank": effective_rank(z),
        "similarity": {"resolutions": [str(r) for r in _RESOLUTIONS], **similarity},
        "pca": pca_entry(groups),
        "kinematics": kinematics_explained(z, {"pt": jets.pt, "eta": jets.eta, "mass": jets.mass}),
    }
    return embedding, probes


def _pretraining(run: PretrainingRun, encoder: JetEncoder, jets: Jets, recipe: Recipe, plan: Study) -> dict[str, Any]:
    history = run.history
    every = max(1, history.rows // 1000)
    drawn = f", {recipe.views.student_drawn} drawn a step" if recipe.views.student_drawn else ""
    boost = f"; every jet boosted to pT = {recipe.jets.boost_to_pt:g} GeV" if recipe.jets.boost_to_pt else ""
    return {
        "domain": plan.target,
        "preset": recipe.name,
        "n_parameters": sum(p.numel() for p in encoder.parameters()),
        "n_jets": len(jets),
        "jets_seen": run.jets_seen,
        "n_prototypes": recipe.head.prototypes,
        "views": (
            f"teacher {_list(recipe.views.teacher)}; student those and {_list(recipe.views.student)}{drawn}"
            f"; {recipe.encoder.class_token} class token{boost}"
        ),
        "history": {name: history[name][::every].tolist() for name in history if name not in ("waited", "seconds")},
    }


def _flow_jet(target: _Sample, recipe: Recipe) -> dict[str, Any]:
    """The first top jet of the target along the flow."""
    resolutions: list[int | str] = [1, 2, 3, 8, "all"]
    first = int(np.flatnonzero(target.labels == 1)[0])
    views = ViewGenerator(resolutions, radius=recipe.jets.radius)(target.jets[first : first + 1])
    return {
        "views": [view.p4.tolist() for view in views],
        "resolutions": resolutions,
        "radius": recipe.jets.radius,
        "title": "a top jet of the target domain",
    }


def _domains(plan: Study) -> list[dict[str, Any]]:
    tunes = {14: "Monash", 21: "A14"}
    rows = []
    for name in (plan.target, *plan.sources):
        domain = DOMAINS[name]
        event = (
            f"Poisson({domain.overlay_mean:g}) soft events laid over" if domain.overlay_mean else "no underlying event"
        )
        kept = f", the {domain.max_constituents} hardest constituents" if domain.max_constituents else ""
        counts = (
            {"pretraining": plan.pretraining_jets, "test": plan.test_jets}
            if name == plan.target
            else {"labelled": plan.labelled_jets, "test": plan.test_jets}
        )
        rows.append(
            {
                "name": name,
                "role": "target: stands for real collisions" if name == plan.target else "source: labelled simulation",
                "generator": f"Pythia 8, {tunes.get(domain.tune, domain.tune)} tune, "
                f"{domain.com_energy / 1000:g} TeV, {event}",
                "detector": "tracks, photon and hadron towers, smeared" if domain.detector else "none",
                "selection": f"anti-kT R = {domain.radius:g}, {domain.pt_min:g} < pT < {domain.pt_max:g} GeV{kept}",
                "n_jets": counts,
            }
        )
    return rows


def _plan(study: str | Study) -> Study:
    if isinstance(study, Study):
        return study
    if study not in STUDIES:
        raise RinoError(f"there is no study {study!r}: choose one of {', '.join(STUDIES)}")
    return STUDIES[study]


def _same_plan(out: Path, plan: Study, recipe: Recipe) -> None:
    """Remember what `out` is for; refuse to mix two studies in one folder."""
    file = out / "study.json"
    mine = json.loads(json.dumps({"study": dataclasses.asdict(plan), "recipe": recipe.to_dict()}))
    if file.is_file():
        if json.loads(file.read_text()) != mine:
            raise RinoError(f"{out} holds a study with another plan or recipe: remove it or choose another folder")
        return
    with whole_file(file) as partial:
        partial.write_text(json.dumps(mine, indent=1))


def _versions() -> dict[str, str]:
    from pyrino.report import installed_versions

    return installed_versions()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _list(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
