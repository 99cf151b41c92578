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
from pyrino.report.page import format_measurement
from pyrino.report.verdict import best, difference, mean_error
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.special import expit

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
        "teacher_mean_entropy": np.log(prototypes) * (0.985 - 0.02 * at),
        "learning_rate": 2e-3 * np.where(at < 0.1, warm, 0.505 + 0.495 * np.cos(np.pi * (at - 0.1) / 0.9)),
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
        for domain, z, y in (("collisions", pretrained, labels), ("simulation-wide", source, labels[: n // 2]))
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
        "jet": {"views": views, "resolutions": resolutions, "radius": 0.8, "title": "a top jet of collisions"},
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
