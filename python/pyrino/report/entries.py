"""Entries of a `Result` made from arrays: scores, embeddings, installed versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from pyrino.errors import RinoError
from pyrino.evaluate.embeddings import principal_components
from pyrino.evaluate.metrics import combine_seeds, score_histogram, tagger_metrics, thin_roc
from pyrino.report.schema import Histogram, PcaGroup, PrincipalPlane, Roc, Sample, Strategy, Tagger

__all__ = ["installed_versions", "pca_entry", "tagger_entry"]

_PACKAGES = (
    "pyrino",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "fastjet",
    "pythia8mc",
    "awkward",
    "pyarrow",
    "matplotlib",
)


def tagger_entry(
    strategy: Strategy,
    sample: Sample,
    scores: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike,
    seed: int = 0,
) -> Tagger:
    """A tagger on a sample, from its probabilities.

    Parameters
    ----------
    strategy, sample : str
        As in `Tagger`.
    scores : array_like
        (n,) probabilities, or (s, n): one row per training seed.
    labels : array_like
        (n,) 0/1 labels.
    seed : int
        Seed of the bootstrap.

    Raises
    ------
    RinoError
        As `pyrino.evaluate.tagger_metrics`, or if there is no row.
    """
    rows = np.asarray(scores, dtype=np.float64)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.shape[0]:
        raise RinoError(f"scores have shape {rows.shape}: give (n,), or (seeds, n) with at least one seed")
    return {
        "strategy": strategy,
        "sample": sample,
        "n_jets": int(rows.shape[1]),
        "metrics": combine_seeds([tagger_metrics(row, labels, seed) for row in rows]),
        "roc": cast(Roc, thin_roc(rows[0], labels)),
        "histogram": cast(Histogram, score_histogram(rows[0], labels)),
    }


def pca_entry(embeddings: Mapping[tuple[str, str], ArrayLike], most: int = 1000, seed: int = 0) -> PrincipalPlane:
    """The embeddings of several classes and domains along their two leading principal components.

    Parameters
    ----------
    embeddings : mapping
        (class, domain) to an array (n, D), as ``{("QCD", "collisions"): z}``.
    most : int
        At most this many jets of each are kept, drawn at random; all count for the components.
    seed : int
        Seed of the draw.

    Raises
    ------
    RinoError
        As `pyrino.evaluate.principal_components`, or if ``most < 1``.
    """
    if most < 1:
        raise RinoError(f"most = {most}: keep at least 1 jet of each class and domain")
    points, explained = principal_components(list(embeddings.values()))
    rng = np.random.default_rng(seed)
    groups: list[PcaGroup] = []
    for (name, domain), xy in zip(embeddings, points, strict=True):
        kept = rng.permutation(len(xy))[:most]
        groups.append({"class": name, "domain": domain, "points": np.round(xy[kept], 4).tolist()})
    return {"groups": groups, "explained": explained.tolist()}


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages a run depends on, those that are installed."""
    versions: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
