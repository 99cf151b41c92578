"""The report: its verdict follows the numbers, its page loads nothing, its files are whole or absent."""

from __future__ import annotations

import copy
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.special import expit

import pyrino as rino
from pyrino.errors import RinoError
from pyrino.evaluate import kinematics_explained, knn, linear_probe, similarity_along_flow
from pyrino.report import (
    check_result,
    installed_versions,
    pca_entry,
    read_report,
    tagger_entry,
    verdict,
    write_report,
)
from pyrino.report.tables import format_measurement
from pyrino.report.verdict import best, compare_recipes, difference, mean_error

CLASSES = ("QCD", "top")


def scores(rng: np.random.Generator, labels: np.ndarray, separation: float, shift: float) -> np.ndarray:
    """Probabilities of two Gaussian classes `separation` sigma apart, moved up by `shift` sigma."""
    return expit(1.6 * (rng.normal(size=labels.size) + separation * (labels - 0.5) + shift))


def transfer(
    source: str = "simulation-wide",
    seeds: int = 3,
    n: int = 4000,
    supervised: tuple[float, float] = (2.3, 0.9),
    mlp: tuple[float, float] = (2.45, 0.05),
) -> dict[str, Any]:
    """Taggers of a given (separation, shift) on the target; the shift is what a change of domain does."""
    rng = np.random.default_rng(7)
    labels = np.arange(n) % 2
    settings = {
        ("supervised", "target"): supervised,
        ("linear", "target"): (mlp[0] - 0.05, mlp[1] + 0.05),
        ("mlp", "target"): mlp,
        ("supervised", "target_truncated"): (supervised[0] + 0.05, 0.1),
        ("supervised", "source"): (2.75, 0.0),
        ("linear", "source"): (2.7, 0.0),
        ("mlp", "source"): (2.75, 0.02),
    }
    taggers = []
    for (strategy, sample), (separation, shift) in settings.items():
        rows = [scores(rng, labels, separation, shift + 0.06 * rng.normal()) for _ in range(seeds)]
        taggers.append(tagger_entry(strategy, sample, rows if seeds > 1 else rows[0], labels))
    return {"source": source, "target": "collisions", "n_labelled": 13000, "taggers": taggers}


def jet(rng: np.random.Generator) -> tuple[list[np.ndarray], list[int | str]]:
    """A three-pronged jet and sums of its constituents over 1, 2, 8 clusters in angle: a stand-in for kT."""
    prongs = np.array([[0.22, 0.1], [-0.25, 0.28], [0.02, -0.35]])
    n = np.array([18, 14, 12])
    where = np.concatenate([c + 0.09 * rng.standard_t(3, size=(k, 2)) for c, k in zip(prongs, n, strict=True)])
    pt = np.concatenate([rng.dirichlet(np.full(k, 0.35)) * t for k, t in zip(n, (320, 240, 140), strict=True)]) + 0.5
    eta, phi = where[:, 0] + 0.7, where[:, 1] + 2.1
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    tree = linkage(where, "average")
    views = []
    for clusters in (1, 2, 8):
        member = fcluster(tree, clusters, "maxclust")
        views.append(np.stack([p4[member == c].sum(axis=0) for c in np.unique(member)]))
    return [*views, p4], [1, 2, 8, "all"]


def history(steps: int, prototypes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    at = np.arange(steps) / steps
    noise = 0.04 * rng.normal(size=(3, steps))
    dino = np.log(prototypes) * (0.45 + 0.55 * np.exp(-6 * at)) + noise[0]
    koleo = 1.2 - 0.6 * at + noise[1]
    warm = np.minimum(at / 0.1, 1)
    return {
        "step": np.arange(steps),
        "loss": dino + 0.1 * koleo,
        "dino": dino,
        "koleo": koleo,
        "teacher_entropy": np.log(prototypes) * (0.25 + 0.7 * np.exp(-5 * at)) + noise[2],
        "prototype_entropy": np.log(prototypes) * (0.985 - 0.02 * at),
        "gradient_norm": np.exp(0.3 * noise[0] / 0.04 + 0.5 - at),
        "lr": 2e-3 * np.where(at < 0.1, warm, 0.505 + 0.495 * np.cos(np.pi * (at - 0.1) / 0.9)),
        "momentum": 1 - 0.008 * (1 + np.cos(np.pi * at)) / 2,
        "teacher_temperature": 0.07 - 0.015 * (1 + np.cos(np.pi * np.minimum(at / 0.3, 1))),
        "student_temperature": np.full(steps, 0.1),
    }


def realistic_result(n: int = 4000, seeds: int = 3, steps: int = 600) -> dict[str, Any]:
    """A result as the demo would give it, every optional part present."""
    rng = np.random.default_rng(11)
    dimension = 32
    labels = np.arange(n) % 2
    mixing = rng.normal(size=(dimension, dimension)) * np.exp(-np.arange(dimension) / 6)
    content = rng.normal(size=(n, dimension))
    content[:, 0] += 2.1 * labels
    pretrained = content @ mixing.T
    untrained = pretrained + 1.4 * rng.normal(size=(n, dimension))
    source = (content[: n // 2] + np.eye(dimension)[1] * 0.8) @ mixing.T
    along = [pretrained + w * rng.normal(size=pretrained.shape) for w in (1.6, 1.1, 0.6, 0.2)]
    masses = np.exp(4.3 + 0.5 * content[:, 0] / 2 + 0.3 * rng.normal(size=n))
    kinematics = {"pt": rng.uniform(500, 1000, n), "eta": rng.uniform(-2, 2, n), "mass": masses}
    probes = []
    for method, probe in (("k-NN, k = 20", knn), ("linear probe", linear_probe)):
        for encoder, z in (("pretrained", pretrained), ("untrained", untrained)):
            probes.append({"method": method, "encoder": encoder, "sample": "collisions", **probe(z, labels)})
    views, resolutions = jet(np.random.default_rng(8))
    groups = {
        (name, domain): z[y == c]
        for domain, z, y in (
            ("collisions", pretrained, labels),
            ("simulation-wide", source, labels[: n // 2]),
        )
        for c, name in enumerate(CLASSES)
    }
    return {
        "title": "From collisions to a tagger: the demo",
        "created": "2025-11-22 07:04",
        "command": "make demo",
        "demo": True,
        "machine": "2 cores, CPU",
        "domains": [
            {
                "name": "collisions",
                "role": "target: stand-in for data, unlabelled in pretraining",
                "generator": "Pythia 8.317, Monash, 13 TeV, Poisson(2) soft events overlaid",
                "detector": "Delphes-like",
                "selection": "anti-kT R = 0.8, 500 < pT < 1000 GeV",
                "n_jets": {"pretraining (QCD)": 20000, "test": n},
            },
            {
                "name": "simulation-wide",
                "role": "source: labelled",
                "generator": "Pythia 8.317, A14, no multiparton interactions",
                "detector": "none; 30 hardest constituents",
                "selection": "anti-kT R = 0.8, 500 < pT < 1000 GeV",
                "n_jets": {"training": 13000, "test": n},
            },
        ],
        "pretraining": {
            "domain": "collisions",
            "preset": "nano",
            "n_parameters": 51424,
            "n_jets": 20000,
            "jets_seen": 930000,
            "n_prototypes": 256,
            "views": "Teacher: N = 4, 8, 16 subjets; student: these and two of 2, 3, all.",
            "history": history(steps, 256),
        },
        "transfers": [transfer(seeds=seeds, n=n)],
        "probes": probes,
        "embedding": {
            "dimension": dimension,
            "effective_rank": 17.3,
            "similarity": {"resolutions": ["4", "8", "16", "all"], **similarity_along_flow(along)},
            "pca": pca_entry(groups, most=500),
            "kinematics": kinematics_explained(pretrained, kinematics),
        },
        "jet": {
            "views": views,
            "resolutions": resolutions,
            "radius": 0.8,
            "title": "a top jet of collisions",
        },
        "stages": [
            {"name": "generate jets", "seconds": 214.0},
            {"name": "pretrain", "seconds": 298.4},
            {"name": "fine-tune and train from scratch", "seconds": 96.2},
            {"name": "evaluate", "seconds": 21.7},
        ],
        "seeds": {"generation": 3, "pretraining": 1, "fine-tuning": [1, 2, 3]},
        "versions": installed_versions(),
        "recipe": {"epochs": 47, "learning_rate": 2e-3},
    }


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return realistic_result(n=600, seeds=2, steps=300)


@pytest.fixture
def bare() -> dict[str, Any]:
    """A result without any part that may be left out."""
    return {
        "title": "bare",
        "created": "2025-11-22",
        "command": "pyrino evaluate",
        "demo": False,
        "domains": [],
        "pretraining": {
            "domain": "collisions",
            "preset": "nano",
            "n_parameters": 51424,
            "n_jets": 10,
            "jets_seen": 20,
            "n_prototypes": 16,
        },
        "transfers": [measured(0.8, 0.9)],
        "stages": [],
        "seeds": {},
        "versions": {},
    }


def measured(
    supervised: float,
    mlp: float,
    *,
    auc: tuple[float, float] = (0.95, 0.95),
    median: tuple[float, float] | None = None,
    error: float = 0.002,
    seeds: dict[str, list[float]] | None = None,
    **others: dict[str, float],
) -> dict[str, Any]:
    """A transfer of given accuracies and AUCs."""

    def metrics(accuracy: float, auc: float, median: float | None) -> dict[str, Any]:
        values = {"accuracy": accuracy, "auc": auc} | ({} if median is None else {"accuracy_at_median": median})
        return {name: {"value": value, "error": error} for name, value in values.items()}

    median = median or (None, None)
    taggers = [
        {"strategy": s, "sample": "target", "n_jets": 1000, "metrics": metrics(a, b, c)}
        for s, a, b, c in zip(("supervised", "mlp"), (supervised, mlp), auc, median, strict=True)
    ]
    for tagger in taggers:
        if seeds:
            tagger["metrics"]["accuracy"]["seed_values"] = seeds[tagger["strategy"]]
    for place, values in others.items():
        strategy, sample = place.split("_on_")
        taggers.append(
            {
                "strategy": strategy,
                "sample": sample,
                "n_jets": 1000,
                "metrics": metrics(values["accuracy"], 0.95, None),
            }
        )
    return {"source": "simulation-wide", "target": "collisions", "n_labelled": 13000, "taggers": taggers}


def said(found: Any) -> str:
    return " ".join([found.headline, *(f"{s.subject}: {s.text}" for s in found.statements)])


class TestVerdict:
    @pytest.mark.parametrize(
        ("accuracy", "auc", "outcome", "words"),
        [
            (
                (0.80, 0.90),
                (0.95, 0.96),
                "helps",
                ["Pretraining helps on collisions", "rises by 10.0 ± 0.3", "improves"],
            ),
            (
                (0.80, 0.90),
                (0.95, 0.951),
                "helps",
                ["rises by 10.0", "separation (AUC) does not change measurably"],
            ),
            (
                (0.80, 0.804),
                (0.95, 0.97),
                "helps",
                ["accuracy at 0.5 does not change measurably (+0.4", "improves"],
            ),
            (
                (0.80, 0.803),
                (0.95, 0.949),
                "no difference",
                ["Pretraining makes no measurable difference on collisions", "(−0.001 ± 0.003)"],
            ),
            (
                (0.90, 0.85),
                (0.96, 0.96),
                "hurts",
                ["Pretraining hurts on collisions", "falls by 5.0 ± 0.3 points"],
            ),
            (
                (0.90, 0.90),
                (0.96, 0.94),
                "hurts",
                ["Pretraining hurts", "separation (AUC) gets worse (−0.020"],
            ),
            ((0.80, 0.90), (0.96, 0.94), "mixed", ["mixed result", "rises by 10.0", "gets worse"]),
            ((0.90, 0.80), (0.94, 0.96), "mixed", ["mixed result", "falls by 10.0", "improves"]),
        ],
    )
    def test_follows_the_numbers(self, accuracy, auc, outcome, words):
        found = verdict(measured(*accuracy, auc=auc))
        assert found.outcome == outcome
        for word in words:
            assert word in found.headline

    def test_a_difference_needs_twice_its_error(self):
        # The error of the difference is 0.002 sqrt(2): twice that is 0.00566.
        assert verdict(measured(0.8, 0.8056)).outcome == "no difference"
        assert verdict(measured(0.8, 0.8058)).outcome == "helps"
        assert verdict(measured(0.8, 0.8058, error=0.004)).outcome == "no difference"

    def test_the_spread_between_seeds_counts(self):
        # Means as before, but the supervised seeds are all over the place.
        steady = {"supervised": [0.80, 0.80, 0.80], "mlp": [0.83, 0.83, 0.83]}
        wild = {"supervised": [0.74, 0.80, 0.86], "mlp": [0.83, 0.83, 0.83]}
        assert verdict(measured(0.80, 0.83, seeds=steady)).outcome == "helps"
        assert verdict(measured(0.80, 0.83, seeds=wild)).outcome == "no difference"

    def test_says_whether_several_trainings_stand_behind_it(self):
        once = verdict(measured(0.8, 0.9))
        assert "This is from one training." in once.headline
        assert "each network was trained only once" in said(once)
        seeds = {"supervised": [0.8, 0.8, 0.8], "mlp": [0.9, 0.9]}
        several = verdict(measured(0.8, 0.9, seeds=seeds))
        assert "one training." not in several.headline
        assert "(3 from scratch, 2 fine-tuned)" in said(several)
        mixed = verdict(measured(0.8, 0.9, seeds={"supervised": [0.8], "mlp": [0.9, 0.9]}))
        assert "one of the two networks was trained only once" in said(mixed)

    def test_parts_the_gain_into_threshold_and_separation(self):
        part = said(verdict(measured(0.80, 0.90, median=(0.88, 0.90))))
        assert "about 2.0 of the 10.0 points gained at 0.5 are separation, the other 8.0 a threshold" in part
        none = said(verdict(measured(0.80, 0.90, median=(0.90, 0.901))))
        assert "what is gained at 0.5 is a threshold that survives the change of domain; no gain in sep" in none
        # AUC, which is measurably better, says that there is some
        some = said(verdict(measured(0.80, 0.90, median=(0.90, 0.901), auc=(0.95, 0.97))))
        assert "no gain" not in some and "about 0.1 of the 10.0 points gained at 0.5 are separation" in some
        lost = said(verdict(measured(0.90, 0.80, median=(0.90, 0.88))))
        assert "points gained" not in lost
        assert "what is gained" not in lost

    def test_tells_what_it_costs_on_the_source(self):
        for accuracy, words in [
            (0.93, "pretraining gains"),
            (0.90, "changes nothing measurable"),
            (0.88, "costs"),
        ]:
            found = verdict(
                measured(0.8, 0.9, supervised_on_source={"accuracy": 0.90}, mlp_on_source={"accuracy": accuracy})
            )
            assert f"On the source: {'pretraining ' * ('pretraining' not in words)}{words}" in said(found)

    def test_compares_with_the_truncated_target(self):
        for truncated, words in [
            (0.92, ["helps too", "whole jets is worse (−2.0"]),
            (0.901, ["helps too", "whole jets does not differ measurably (−0.1"]),
            (0.895, ["helps too", "whole jets does not differ measurably (+0.5 ± 0.3"]),  # 1.8 errors: not "equal"
            (0.85, ["helps too", "whole jets is better (+5.0"]),
            (0.80, ["changes nothing measurable", "is better"]),
            (0.70, ["makes it worse", "is better"]),
        ]:
            found = said(verdict(measured(0.8, 0.9, supervised_on_target_truncated={"accuracy": truncated})))
            for word in words:
                assert word in found

    def test_tells_whether_the_linear_head_agrees(self):
        assert "Linear head: likewise" in said(verdict(measured(0.8, 0.9, linear_on_target={"accuracy": 0.89})))
        assert "Linear head: not quite the same" in said(
            verdict(measured(0.8, 0.9, linear_on_target={"accuracy": 0.80}))
        )

    def test_probes_are_compared_with_an_untrained_network(self):
        def probes(*aucs: list[float]) -> list[dict[str, Any]]:
            return [
                {
                    "method": "linear probe",
                    "encoder": encoder,
                    "sample": "collisions",
                    "accuracy": {"value": 0.8, "error": 0.01},
                    "auc": {
                        "value": float(np.mean(folds)),
                        "error": float(np.std(folds, ddof=1)),
                        "folds": folds,
                    },
                }
                for encoder, folds in zip(("pretrained", "untrained"), aucs, strict=True)
            ]

        # The same gain in every fold counts although the folds differ among themselves; a scattered one
        # does not.
        untrained = [0.88, 0.90, 0.92, 0.91, 0.89]
        gained = said(verdict(measured(0.8, 0.9), probes([x + 0.02 for x in untrained], untrained)))
        scattered = said(verdict(measured(0.8, 0.9), probes([0.96, 0.90, 0.90, 0.95, 0.89], untrained)))
        lost = said(verdict(measured(0.8, 0.9), probes([x - 0.02 for x in untrained], untrained)))
        assert "AUC 0.920, better than the 0.900 of an untrained network" in gained
        assert "not measurably better than the 0.900" in scattered
        assert "worse than the 0.900" in lost
        elsewhere = [probe | {"sample": "simulation-wide"} for probe in probes(untrained, untrained)]
        assert "Frozen embedding" not in said(verdict(measured(0.8, 0.9), elsewhere))

    def test_without_both_networks_there_is_none(self):
        transfer = measured(0.8, 0.9)
        transfer["taggers"].pop()
        assert verdict(transfer).outcome == "not compared"
        assert "No verdict: a pretrained network was not tested on collisions" in verdict(transfer).headline

    def test_only_a_linear_head_is_compared_as_such(self):
        transfer = measured(0.8, 0.9)
        transfer["taggers"][1]["strategy"] = "linear"
        assert "the pretrained one with a linear head 0.900" in said(verdict(transfer))


class TestErrors:
    def test_of_a_mean_over_seeds(self):
        from scipy import stats

        seeds = [0.80, 0.83, 0.84, 0.86]
        found = mean_error({"value": 0.8325, "error": 0.003, "seed_values": seeds})
        low, high = stats.t.interval(0.95, 3, np.mean(seeds), stats.sem(seeds))
        assert found == pytest.approx(np.hypot(0.003, (high - low) / 2 / stats.norm.ppf(0.975)))
        assert mean_error({"value": 1.0, "error": 0.003, "seed_values": [1.0]}) == 0.003

    def test_of_a_difference_add_in_quadrature(self):
        found = difference({"value": 5.0, "error": 0.3}, {"value": 4.0, "error": 0.4})
        assert found == pytest.approx((1.0, 0.5))
        assert difference({"value": 5.0, "error": None, "lower_bound": True}, {"value": 4.0, "error": 0.4}) is None

    def test_best_is_marked_only_where_the_difference_is_measured(self):
        def group(*values: float) -> list[dict[str, Any]]:
            return [{"value": value, "error": 0.01} for value in values]

        assert best(group(0.80, 0.90)) == [False, True]
        assert best(group(0.80, 0.82)) == [False, False]
        assert best(group(0.70, 0.82, 0.80)) == [False, True, True]
        assert best(group(0.80)) == [False]
        bound = {"value": 300.0, "error": None, "lower_bound": True}
        assert best([{"value": 20.0, "error": 1.0}, bound]) == [False, False]

    @pytest.mark.parametrize(
        ("measurement", "decimals", "words"),
        [
            ({"value": 0.78149, "error": 0.0031}, 3, "0.781 ± 0.003"),
            ({"value": 0.8, "error": 0.002, "seed_values": [0.78, 0.82]}, 3, "0.800 ± 0.002 ± 0.028"),
            ({"value": 143.27, "error": 12.7}, None, "143 ± 13"),
            ({"value": 43.27, "error": 2.34}, None, "43.3 ± 2.3"),
            ({"value": 43.27, "error": 4.34}, None, "43 ± 4"),
            ({"value": 1.0, "error": 0.0}, 3, "1.000 ± 0.000"),
            ({"value": 334.2, "error": None, "lower_bound": True}, None, "> 334 (95% CL)"),
        ],
    )
    def test_are_written_with_their_number(self, measurement, decimals, words):
        assert format_measurement(measurement, decimals) == words


class Page(HTMLParser):
    """Text, addresses and tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.bold: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br"):
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._open and self._open[-1] == ("td", {"class": "best"}):
            self.bold.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(result, tmp_path_factory) -> Page:
    return Page(write_report(result, tmp_path_factory.mktemp("report")))


class TestPage:
    def test_loads_nothing(self, page):
        assert page.addresses
        assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
        assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
        without_pictures = re.sub(r'src="data:[^"]*"', "", page.source)
        assert not re.search(r"https?://|//[a-z]|@import|url\(", without_pictures)

    def test_puts_the_verdict_first_then_the_table_then_the_pictures(self, page):
        places = [page.source.index(word) for word in ('class="verdict', "<table", "<img")]
        assert places == sorted(places)

    def test_holds_every_part(self, page, result):
        found = verdict(check_result(result)["transfers"][0])
        for words in [
            found.headline,
            "supervised (scratch)",
            "pretrained + linear head",
            "pretrained + MLP head",
            "accuracy at 0.5",
            "accuracy at the median",
            "AUC",
            "target: collisions (600 test jets)",
            "each jet cut to its 30 hardest constituents",
            "source: simulation-wide (600 test jets)",
            "over the training seeds",
            "k-NN, k = 20",
            "linear probe",
            "930,000 jets seen",
            "Effective rank of the embedding: 17.3 of 32 dimensions",
            "R² of a linear fit from the embedding",
            "256 prototypes",
            "make demo",
            "10 min 30 s",
            "3 min 34 s",
            "Pythia 8.317, Monash",
            np.__version__,
            "1, 2, 3",
        ]:
            assert words in page.text
        assert page.tags.count("img") == 6

    def test_numbers_of_the_table_are_those_of_the_result(self, page, result):
        for tagger in result["transfers"][0]["taggers"]:
            for name, decimals in [
                ("accuracy", 3),
                ("accuracy_at_median", 3),
                ("auc", 3),
                ("rejection_at_0.5", None),
            ]:
                assert format_measurement(tagger["metrics"][name], decimals) in page.text

    @pytest.mark.parametrize("seeds", [2, 3])
    def test_the_verdict_follows_from_the_numbers_of_the_table(self, seeds, tmp_path):
        """With nothing but the table and the rule that the page gives, to the digits shown."""
        text = Page(write_report(realistic_result(n=600, seeds=seeds, steps=20), tmp_path)).text
        (factor,) = re.findall(
            rf"The error of a mean is ([\d.]+) times the standard deviation between {seeds} seeds", text
        )
        target = text.partition("target: collisions (")[2]
        rows = [target.partition(name)[2] for name in ("supervised (scratch)", "pretrained + MLP head")]
        cells = [[float(x) for x in re.findall(r"[\d.]+", row)[:3]] for row in rows]
        (before, *errors), (after, *others) = cells
        spread = np.hypot(*(np.hypot(test, float(factor) * between) for test, between in (errors, others)))
        change, error = re.search(r"accuracy at 0\.5 .*?([+−]?[\d.]+) ± ([\d.]+) points", text).groups()
        sign = -1 if "falls by" in text.partition(change)[0][-10:] else 1
        assert sign * float(change.replace("−", "-")) == pytest.approx(100 * (after - before), abs=0.15)
        assert float(error) == pytest.approx(100 * spread, abs=0.12 + 0.07 * float(factor))
        assert ("no measurable difference" in text) <= (abs(float(change.replace("−", "-"))) <= 2 * float(error) + 0.2)

    def test_probes_show_the_difference_that_is_judged(self, page, result):
        assert "AUC, difference" in page.text
        (factor,) = re.findall(r"its error being ([\d.]+) times the standard deviation between 5 folds", page.text)
        for method in ("k-NN, k = 20", "linear probe"):
            pretrained, untrained = (
                np.array(probe["auc"]["folds"]) for probe in result["probes"] if probe["method"] == method
            )
            gain = pretrained - untrained
            shown = re.search(
                re.escape(method) + r" [\d.]+ ± [\d.]+ [\d.]+ ± [\d.]+ ([+−][\d.]+) ± ([\d.]+)", page.text
            )
            assert float(shown[1].replace("−", "-")) == pytest.approx(gain.mean(), abs=6e-4)
            assert float(shown[2]) == pytest.approx(float(factor) * gain.std(ddof=1), abs=6e-4)

    def test_views_and_prototypes_are_two_things(self, comparison_page, page):
        assert "8, 16, 32, 64, all; jet class token; 16 prototypes." in comparison_page.text
        assert "two of 2, 3, all; 256 prototypes." in page.text

    def test_does_not_say_that_kinematics_are_the_same_in_every_view(self, page):
        """Exclusive kT gives to the beam what lies further than R from all else."""
        jets = rino.toy_jets(500, 1, top_fraction=0.5)
        lost = [1 - np.isclose(view.pt, jets.pt, rtol=1e-6).mean() for view in rino.ViewGenerator([1, 8])(jets)]
        assert 0.01 < lost[0] < 0.1 and lost[1] < lost[0]
        assert "at N = 1 that happens to a few per cent of the jets, above more rarely" in page.text

    def test_demo_says_how_its_setting_was_chosen(self, page, bare, tmp_path):
        remark = "found by looking at target labels of another sample"
        assert remark in page.text
        assert "generated freshly for this report" in page.text
        assert remark not in Page(write_report(bare, tmp_path)).text

    def test_without_optional_parts_is_a_page_still(self, bare, tmp_path):
        page = Page(write_report(bare, tmp_path))
        assert "Pretraining helps on collisions" in page.text
        assert "img" not in page.tags
        assert "No history was recorded." in page.text
        assert page.bold == ["0.900 ± 0.002"]

    def test_bold_vanishes_where_nothing_is_measured(self, bare, tmp_path):
        bare["transfers"] = [measured(0.8, 0.804)]
        page = Page(write_report(bare, tmp_path))
        assert "Pretraining makes no measurable difference on collisions" in page.text
        assert page.bold == []

    def test_several_sources_have_a_verdict_each(self, bare, tmp_path):
        bare["transfers"] = [measured(0.8, 0.9), measured(0.9, 0.8) | {"source": "simulation"}]
        page = Page(write_report(bare, tmp_path))
        assert "Pretraining helps" in page.text
        assert "Pretraining hurts" in page.text
        assert "from simulation to collisions" in page.text

    def test_a_bound_is_shown_as_one(self, bare, tmp_path):
        for tagger in bare["transfers"][0]["taggers"]:
            tagger["metrics"]["rejection_at_0.5"] = {"value": 334.2, "error": None, "lower_bound": True}
        page = Page(write_report(bare, tmp_path))
        assert "> 334 (95% CL)" in page.text
        assert "lower bound at 95% confidence" in page.text

    def test_escapes_what_users_write(self, bare, tmp_path):
        page = Page(write_report(bare | {"title": "<script>alert(1)</script> & co"}, tmp_path))
        assert "script" not in page.tags
        assert "<script>alert(1)</script> & co" in page.text


class TestFiles:
    def test_json_makes_the_round_trip(self, page, result):
        again = read_report(page.path.parent)
        assert again == check_result(result)
        assert json.loads((page.path.parent / "report.json").read_text(encoding="utf-8")) == again

    def test_a_report_read_back_is_written_alike(self, bare, tmp_path):
        one = write_report(bare, tmp_path / "one")
        two = write_report(read_report(one.with_suffix(".json")), tmp_path / "two")
        assert one == tmp_path / "one" / "report.html"
        for suffix in (".html", ".json"):
            assert one.with_suffix(suffix).read_bytes() == two.with_suffix(suffix).read_bytes()

    def test_arrays_may_stand_for_lists(self, bare, tmp_path):
        bare["pretraining"]["history"] = {"step": np.arange(3), "loss": np.float32([3, 2, 1])}
        bare["pretraining"]["jets_seen"] = np.int64(20)
        write_report(bare, tmp_path)
        assert read_report(tmp_path)["pretraining"]["history"] == {"step": [0, 1, 2], "loss": [3.0, 2.0, 1.0]}

    def test_a_report_is_replaced(self, bare, tmp_path):
        write_report(bare, tmp_path)
        write_report(bare | {"title": "second"}, tmp_path)
        assert read_report(tmp_path)["title"] == "second"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]

    def test_can_be_read_by_others(self, bare, tmp_path):
        assert write_report(bare, tmp_path).stat().st_mode & 0o777 == 0o644

    def test_a_page_that_cannot_be_drawn_leaves_nothing(self, bare, tmp_path):
        bare["jet"] = {"views": [[[0.0, 0.0, 1.0, 1.0]]], "resolutions": ["all"], "radius": 0.8}
        with pytest.raises(RinoError, match="pT = 0"):
            write_report(bare, tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("fails", ["fsync", "replace"])
    def test_a_full_disk_leaves_the_old_report(self, bare, tmp_path, monkeypatch, fails):
        write_report(bare, tmp_path)

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, fails, full)
        with pytest.raises(RinoError, match=r"cannot write the report into .*No space left on device.*disk has room"):
            write_report(bare | {"title": "second"}, tmp_path)
        monkeypatch.undo()
        assert read_report(tmp_path)["title"] == "bare"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]

    def test_a_file_in_the_way_of_the_folder(self, bare, tmp_path):
        (tmp_path / "runs").write_text("")
        with pytest.raises(RinoError, match=r"cannot write the report into .*runs"):
            write_report(bare, tmp_path / "runs")

    def test_unreadable_reports_are_named(self, tmp_path):
        with pytest.raises(RinoError, match=r"cannot read the report .*report\.json: No such file"):
            read_report(tmp_path)
        for content, message in [("{", "is not JSON"), ("[1]", "holds a list"), ("{}", "result lacks")]:
            (tmp_path / "report.json").write_text(content)
            with pytest.raises(RinoError, match=message):
                read_report(tmp_path)


class TestSchema:
    def test_accepts_a_whole_result(self, result):
        assert set(check_result(result)) == set(result)

    def test_does_not_change_what_it_is_given(self, result):
        before = copy.deepcopy(result["pretraining"]["history"])
        check_result(result)
        for name, column in before.items():
            np.testing.assert_array_equal(result["pretraining"]["history"][name], column)

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (("title",), None, r"result\['title'\] = None is not a str"),
            (("titel",), "x", r"result has the unknown key 'titel'; did you mean 'title'\?"),
            (
                ("pretraining", "jets_seen"),
                2.5,
                r"result\['pretraining'\]\['jets_seen'\] = 2.5 is not an integer",
            ),
            (
                ("pretraining", "history"),
                {"loss": [np.nan]},
                r"\['history'\]\['loss'\]\[0\] = nan is not finite",
            ),
            (("transfers",), [], r"result\['transfers'\] is empty"),
            (("transfers", 0, "taggers"), [], r"\['taggers'\] is empty"),
            (
                ("transfers", 0, "taggers", 0, "strategy"),
                "MLP",
                r"\['strategy'\] = 'MLP' is not one of 'supervised'",
            ),
            (("transfers", 0, "taggers", 0, "metrics"), {}, r"\['metrics'\] lacks 'accuracy'"),
            (
                ("transfers", 0, "taggers", 0, "strategy"),
                "mlp",
                r"taggers'\]\[1\] is a second mlp on the target",
            ),
            (
                ("transfers", 0, "taggers", 0, "metrics", "auc"),
                {"value": "high", "error": 0.1},
                "is not a number",
            ),
            (("transfers", 0, "taggers", 0, "metrics", "auc"), {"value": 0.9}, r"\['auc'\] lacks 'error'"),
            (("seeds",), {"fine-tuning": "one"}, r"\['fine-tuning'\] = 'one' is not an integer"),
            (("demo",), 1, r"\['demo'\] = 1 is not a bool"),
            (("machine",), object(), r"result\['machine'\] is a object"),
        ],
    )
    def test_names_the_place_of_a_mistake(self, bare, path, value, message):
        place: Any = bare
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(RinoError, match=message):
            check_result(bare)

    def test_names_a_missing_key(self, bare):
        del bare["pretraining"]["preset"]
        with pytest.raises(RinoError, match=r"result\['pretraining'\] lacks 'preset': see pyrino.report.schema"):
            check_result(bare)


class TestEntries:
    def test_a_tagger_over_seeds(self):
        rng = np.random.default_rng(0)
        labels = np.arange(400) % 2
        rows = [scores(rng, labels, 2.0, 0.0) for _ in range(3)]
        entry = tagger_entry("mlp", "target", rows, labels)
        single = [tagger_entry("mlp", "target", row, labels) for row in rows]
        assert entry["n_jets"] == 400
        values = [one["metrics"]["auc"]["value"] for one in single]
        assert entry["metrics"]["auc"]["seed_values"] == values
        assert entry["metrics"]["auc"]["value"] == pytest.approx(np.mean(values))
        assert entry["roc"] == single[0]["roc"]
        assert "seed_values" not in single[0]["metrics"]["auc"]
        with pytest.raises(RinoError, match=r"shape \(0, 3\)"):
            tagger_entry("mlp", "target", np.empty((0, 3)), [0, 1, 1])

    def test_pca_keeps_a_sample_of_each_group(self):
        rng = np.random.default_rng(0)
        z = {("QCD", "a"): rng.normal(size=(50, 4)), ("top", "a"): rng.normal(size=(10, 4)) + 3}
        entry = pca_entry(z, most=20)
        assert [(g["class"], g["domain"], len(g["points"])) for g in entry["groups"]] == [
            ("QCD", "a", 20),
            ("top", "a", 10),
        ]
        assert entry == pca_entry(z, most=20)
        with pytest.raises(RinoError, match="most = 0"):
            pca_entry(z, most=0)

    def test_versions_are_those_installed(self):
        assert installed_versions()["numpy"] == np.__version__


def compared(name: str, seeds: int = 3, **more: Any) -> dict[str, Any]:
    """A recipe as the study of recipes describes it."""
    return {
        "name": name,
        "preset": "nano",
        "summary": "the paper's smallest",
        "source": "arXiv:2509.07486",
        "losses": "1 DINO, 1 KoLeo",
        "published_parameters": 51424,
        "steps": 1116,
        "batch_size": 256,
        "seeds": list(range(1, seeds + 1)),
        "seconds": [100.0 + seed for seed in range(seeds)],
        "changes": [
            {"number": "training.epochs", "published": "100", "here": "12", "meaning": "passes through the jets"},
            {"number": "finetune.epochs", "published": "100", "here": "8", "meaning": "of head and encoder after that"},
        ],
        "pretraining": {
            "domain": "collisions",
            "preset": "nano",
            "n_parameters": 51424,
            "n_jets": 24000,
            "jets_seen": 285696,
            "n_prototypes": 16,
            "views": "teacher 1, 2, 3, 4; student those and 8, 16, 32, 64, all; jet class token",
            "history": history(300, 16),
        },
    } | more


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    """Two recipes; the second is shrunk, has another loss, and does better."""
    production = compared(
        "production",
        preset="rino",
        summary="the production recipe",
        losses="1 DINO, 1 iBOT, 0.1 KoLeo",
        published_parameters=10_987_264,
        changes=[
            {"number": "encoder.width", "published": "256", "here": "32", "meaning": "size of every token"},
            {"number": "training.epochs", "published": "100", "here": "12", "meaning": "passes through the jets"},
        ],
    )
    production["pretraining"] = production["pretraining"] | {"n_parameters": 71_000, "n_prototypes": 256}
    transfers = [
        transfer(n=1000, mlp=mlp) | {"recipe": name, "pretrainings": 3}
        for name, mlp in (("workshop", (2.3, 0.8)), ("production", (3.2, 0.05)))
    ]
    result = realistic_result(n=600, seeds=1, steps=50)
    for part in ("pretraining", "probes", "embedding"):
        del result[part]
    return result | {
        "title": "rino: the recipes workshop and production",
        "demo": False,
        "recipes": [compared("workshop"), production],
        "transfers": transfers,
        "remarks": ["Both recipes are small and short here."],
    }


@pytest.fixture(scope="module")
def comparison_page(comparison, tmp_path_factory) -> Page:
    return Page(write_report(comparison, tmp_path_factory.mktemp("comparison")))


class TestRecipes:
    def test_their_table_has_mean_and_spread_of_the_seeds(self, comparison, comparison_page):
        for entry in comparison["transfers"]:
            for tagger in entry["taggers"]:
                if tagger["sample"] == "target_truncated":
                    continue
                for name in ("accuracy", "auc"):
                    seeds, error = (tagger["metrics"][name][key] for key in ("seed_values", "error"))
                    assert f"{np.mean(seeds):.3f} ± {error:.3f} ± {np.std(seeds, ddof=1):.3f}" in comparison_page.text
        table = comparison_page.text.partition("The recipes from simulation-wide")[2].partition("± is the")[0]
        heads = ["supervised (scratch)", "pretrained + linear head", "pretrained + MLP head"]
        places = [table.index(words) for words in heads]
        assert places == sorted(places)
        assert all(table.count(name) == 3 for name in ("workshop", "production"))
        for column in ("collisions: accuracy at 0.5", "collisions: AUC", "simulation-wide: accuracy at 0.5"):
            assert column in table

    def test_come_first_with_what_they_are_and_what_was_changed(self, comparison_page):
        text = comparison_page.text
        for words in (
            "each pretrained 3 times without labels on the same 24,000 jets of collisions, 1,116 steps of 256 jets",
            "nano: the paper's smallest",
            "71,000 parameters (published: 10,987,264)",
            "1 DINO, 1 iBOT, 0.1 KoLeo",
            "1,116 steps of 256 jets, 101 s",
            "What is not as published",
            "Both recipes are small and short here.",
        ):
            assert words in text
        places = [
            text.index(words)
            for words in (
                "The recipe production beside",
                "The recipes from",
                "What the recipes are",
                "workshop: taggers",
            )
        ]
        assert places == sorted(places)

    def test_changes_stand_under_networks_pretraining_and_fine_tuning(self, comparison_page):
        table = comparison_page.text.partition("What is not as published")[2].partition("Published →")[0]
        assert (
            table.split()
            == (
                "meaning workshop production networks encoder.width size of every token – 256 → 32 "
                "pretraining training.epochs passes through the jets 100 → 12 100 → 12 "
                "fine-tuning and from scratch finetune.epochs of head and encoder after that 100 → 8 –"
            ).split()
        )

    def test_recipes_as_published_have_no_table_of_changes(self, comparison, tmp_path):
        recipes = [recipe | {"changes": []} for recipe in comparison["recipes"]]
        assert "What is not as published" not in Page(write_report(comparison | {"recipes": recipes}, tmp_path)).text

    def test_the_better_one_is_bold_where_the_difference_is_measured(self, comparison, comparison_page):
        (verdict,) = compare_recipes(comparison["transfers"])
        assert verdict.outcome == "helps"
        mlp = comparison["transfers"][1]["taggers"][2]
        assert (mlp["strategy"], mlp["sample"]) == ("mlp", "target")
        seeds, error = (mlp["metrics"]["accuracy"][key] for key in ("seed_values", "error"))
        assert f"{np.mean(seeds):.3f} ± {error:.3f} ± {np.std(seeds, ddof=1):.3f}" in comparison_page.bold

    @pytest.mark.parametrize(
        ("accuracies", "aucs", "outcome", "words"),
        [
            ((0.80, 0.90), (0.95, 0.95), "helps", "accuracy at 0.5 rises by 10.0 ± 0.3 points"),
            ((0.90, 0.80), (0.95, 0.95), "hurts", "accuracy at 0.5 falls by 10.0 ± 0.3 points"),
            ((0.80, 0.90), (0.96, 0.95), "mixed", "separation (AUC) gets worse"),
            ((0.80, 0.80), (0.95, 0.95), "no difference", "does not change measurably (+0.0 ± 0.3 points)"),
        ],
    )
    def test_their_verdict_follows_the_pretrained_networks_on_the_target(self, accuracies, aucs, outcome, words):
        pair = [
            measured(0.7, accuracy, auc=(0.9, auc)) | {"recipe": name}
            for name, accuracy, auc in zip("ab", accuracies, aucs, strict=True)
        ]
        (found,) = compare_recipes(pair)
        assert found.outcome == outcome
        assert found.headline.startswith("The recipe b beside a on collisions: ")
        assert words in found.headline
        assert "both from scratch, on collisions: +0.0 ± 0.3 points in accuracy" in said(found)

    def test_their_verdict_tells_what_pretraining_adds_to_each(self):
        pair = [measured(0.7, 0.8) | {"recipe": "a"}, measured(0.75, 0.9) | {"recipe": "b"}]
        (found,) = compare_recipes(pair)
        assert "against from scratch: a +10.0 ± 0.3 points in accuracy" in said(found)
        assert "b +15.0 ± 0.3 points in accuracy" in said(found)
        assert "one training each does not show the spread between seeds" in said(found)

    def test_their_verdict_says_how_many_pretrainings_there_were(self, comparison):
        (found,) = compare_recipes(comparison["transfers"])
        assert "mean over 3 seeds, each a pretraining and a fine-tuning of its own" in said(found)
        alone = [entry | {"pretrainings": 1} for entry in comparison["transfers"]]
        assert "of fine-tunings from one pretraining" in said(compare_recipes(alone)[0])
        own = said(verdict(check_result(comparison)["transfers"][0]))
        assert "every fine-tuning starts from a pretraining of its own" in own

    def test_without_a_common_head_there_is_no_verdict(self):
        pair = [measured(0.7, 0.8) | {"recipe": name} for name in "ab"]
        pair[1]["taggers"] = pair[1]["taggers"][:1]
        assert compare_recipes(pair)[0].outcome == "not compared"

    def test_a_third_is_compared_with_the_first(self):
        three = [measured(0.7, accuracy) | {"recipe": n} for n, accuracy in zip("abc", (0.8, 0.9, 0.7), strict=True)]
        assert [found.outcome for found in compare_recipes(three)] == ["helps", "hurts"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r.pop("recipes"), "neither of 'pretraining' and 'recipes'"),
            (lambda r: r.update(pretraining=r["recipes"][0]["pretraining"]), "both of 'pretraining' and 'recipes'"),
            (lambda r: r["transfers"][1].update(recipe="other"), r"\[1\]\['recipe'\] is 'other': give one of workshop"),
            (lambda r: r["transfers"][0].pop("recipe"), r"\[0\]\['recipe'\] is None: give one of workshop"),
            (lambda r: r["transfers"][1].update(recipe="workshop"), r"\[1\] is a second workshop from simulation-wide"),
            (lambda r: r["recipes"][0].pop("losses"), r"\['recipes'\]\[0\] lacks 'losses'"),
        ],
    )
    def test_a_mistake_is_named(self, comparison, change, message):
        result = copy.deepcopy(comparison)
        change(result)
        with pytest.raises(RinoError, match=message):
            check_result(result)

    def test_json_makes_the_round_trip(self, comparison, comparison_page):
        assert read_report(comparison_page.path.parent) == check_result(comparison)
