"""Working points: a threshold on a tagger's score, what passes it, and which tagger and jets it was fixed with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._weighted import effective_number, mean
from pyrino.errors import RinoError
from pyrino.evaluate.checks import check_efficiency
from pyrino.evaluate.metrics import roc_curve
from pyrino.files import whole_file
from pyrino.jets import Jets

__all__ = [
    "WORKING_POINT",
    "Efficiency",
    "WorkingPoint",
    "efficiency",
    "fix_working_point",
    "point_file",
    "sample_digest",
]

#: Name of the file beside a tagger.
WORKING_POINT = "working_point.json"

_INTERVAL = 0.682689492137  # one standard deviation of a Gaussian to either side


@dataclass(frozen=True)
class Efficiency:
    """A share of jets, 0 to 1.

    Attributes
    ----------
    value : float
    low, high : float
        Ends of its Clopper-Pearson interval of 68.27%: never beyond 0 and 1, and not empty where all jets pass or none.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.5f} +{self.high - self.value:.5f} -{self.value - self.low:.5f}"


@dataclass(frozen=True)
class WorkingPoint:
    """A threshold on a binary tagger's score, fixed on a labelled sample.

    Attributes
    ----------
    threshold : float
        A jet passes with a score at or above it, the network's own score, without ``prior``.
    wanted : str
        What it was fixed by, such as "signal_efficiency = 0.5".
    signal_efficiency, background_efficiency : Efficiency
        Shares of the sample's jets that pass, eps_S and eps_B.
    signal_jets, background_jets : int
        Of the sample.
    sample : str
        SHA-256 of the sample (`sample_digest`).
    tagger : str
        Digest of the tagger's weights: another tagger's scores mean something else.
    pyrino : str
        Version that fixed it.
    """

    threshold: float
    wanted: str
    signal_efficiency: Efficiency
    background_efficiency: Efficiency
    signal_jets: int
    background_jets: int
    sample: str
    tagger: str
    pyrino: str = _core.__version__

    def __str__(self) -> str:
        return (
            f"threshold {self.threshold:.6g}, fixed by {self.wanted}: eps_S = {self.signal_efficiency} of "
            f"{self.signal_jets} jets, eps_B = {self.background_efficiency} of {self.background_jets} jets"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return dataclasses.asdict(self)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write it as JSON: into that file, or as ``working_point.json`` into that folder.

        Raises
        ------
        RinoError
            If the file exists and `overwrite` is False, or cannot be written.
        """
        file = point_file(path)
        with whole_file(file, overwrite=overwrite) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WorkingPoint:
        """Read what `save` wrote: a file, or the one in a folder.

        Raises
        ------
        RinoError
            If it cannot be read, or is no working point.
        """
        file = point_file(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise RinoError(
                f"cannot read the working point {file}: {error.strerror or error}; fix one with "
                "Evaluation.fix_working_point or pyrino evaluate --fix"
            ) from error
        except ValueError as error:
            raise RinoError(f"{file} is not JSON ({error}): fix the working point again") from error
        return cls._of(content, file)

    @classmethod
    def _of(cls, content: Any, file: Path) -> WorkingPoint:
        kinds: Mapping[str, type | tuple[type, ...]] = {
            "threshold": (int, float),
            "wanted": str,
            "signal_efficiency": dict,
            "background_efficiency": dict,
            "signal_jets": int,
            "background_jets": int,
            "sample": str,
            "tagger": str,
            "pyrino": str,
        }
        for name, kind in kinds.items():
            if not isinstance(content, dict) or not isinstance(content.get(name), kind):
                raise RinoError(f"{file} is no working point: it lacks {name!r}, or has it of another type")
        try:
            both = {name: Efficiency(**content[name]) for name in ("signal_efficiency", "background_efficiency")}
        except TypeError as error:
            raise RinoError(f"{file} is no working point: {error}") from error
        return cls(**{name: content[name] for name in kinds} | both)

    def check(self, tagger: str) -> None:
        """Raise `RinoError` unless it was fixed for the tagger of this digest."""
        if tagger != self.tagger:
            raise RinoError(
                f"the working point (threshold {self.threshold:.6g}) was fixed for a tagger of other weights: fix one "
                "for this tagger, Evaluation.fix_working_point or pyrino evaluate --fix"
            )

    def measure(
        self, scores: NDArray[np.float64], labels: NDArray[Any], weights: NDArray[np.float64] | None = None
    ) -> tuple[Efficiency, Efficiency]:
        """eps_S and eps_B of other jets: (n,) scores, labels 0 and 1, and weights."""
        signal = np.asarray(labels).astype(bool)
        passes = np.asarray(scores) >= self.threshold
        first, second = (
            efficiency(passes[mine], None if weights is None else weights[mine]) for mine in (signal, ~signal)
        )
        return first, second


def efficiency(passes: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> Efficiency:
    """The share that passes, with its Clopper-Pearson interval (Biometrika 26 (1934) 404).

    Parameters
    ----------
    passes
        (n,), one or more.
    weights
        (n,), above 0; the interval is that of their effective number, (sum w)^2 / sum w^2.
    """
    from scipy.stats import beta

    share = mean(passes.astype(np.float64), weights)
    n = float(len(passes)) if weights is None else effective_number(weights)
    k, tail = share * n, (1 - _INTERVAL) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if share < 1 else 1.0
    return Efficiency(share, low, high)


def fix_working_point(
    scores: NDArray[np.float64],
    labels: NDArray[Any],
    weights: NDArray[np.float64] | None = None,
    *,
    signal_efficiency: float | None = None,
    background_efficiency: float | None = None,
    threshold: float | None = None,
    sample: str,
    tagger: str,
) -> WorkingPoint:
    """The working point of scores (n,) with labels 0 and 1; exactly one of the next three says where.

    Parameters
    ----------
    signal_efficiency
        The highest threshold at which this share of the signal passes, or more.
    background_efficiency
        The lowest threshold at which this share of the background passes, or less.
    threshold
        The threshold itself.
    sample, tagger
        Digests.

    Notes
    -----
    The threshold lies halfway between the lowest score that passes and the highest that does not, so that rounding on
    another machine moves no jet across.
    """
    given = {
        "signal_efficiency": signal_efficiency,
        "background_efficiency": background_efficiency,
        "threshold": threshold,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) != 1:
        raise RinoError(f"{len(chosen)} of {', '.join(given)} are given: give one, for example signal_efficiency=0.5")
    curve = roc_curve(scores, labels, weights=weights)
    ((name, value),) = chosen.items()
    if threshold is not None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)) or not 0 <= threshold <= 1:
            raise RinoError(f"threshold = {threshold!r}; scores are numbers between 0 and 1: give one of them")
        cut = float(threshold)
    else:
        check_efficiency(value, name)
        # The tolerance keeps a point that reaches the efficiency exactly from being missed by rounding.
        if name == "signal_efficiency":
            place = int(np.searchsorted(curve.signal_efficiency, value * (1 - 1e-12)))
        else:
            place = int(np.searchsorted(curve.background_efficiency, value * (1 + 1e-12), "right")) - 1
        cut = _between(curve.thresholds, place)
    point = WorkingPoint(
        cut,
        f"{name} = {value:g}",
        Efficiency(0, 0, 0),
        Efficiency(0, 0, 0),
        int(np.sum(labels)),
        len(labels) - int(np.sum(labels)),
        sample,
        tagger,
    )
    eps_s, eps_b = point.measure(scores, labels, weights)
    return dataclasses.replace(point, signal_efficiency=eps_s, background_efficiency=eps_b)


def sample_digest(jets: Jets, labels: NDArray[Any], weights: NDArray[np.float64] | None = None) -> str:
    """SHA-256 of the jets' momenta in their order, their labels and weights: the same jets, the same digest."""
    found = hashlib.sha256(f"{len(jets)} {jets.n_constituents}".encode())
    columns = [("<i8", jets.offsets), *(("<f8", p) for p in (jets.px, jets.py, jets.pz, jets.e)), ("<i8", labels)]
    for kind, column in [*columns, *([] if weights is None else [("<f8", weights)])]:
        found.update(np.ascontiguousarray(column, dtype=kind).data)
    return found.hexdigest()


def _between(thresholds: NDArray[np.float64], place: int) -> float:
    """Halfway from thresholds[place], which passes, to the next lower score, or to 0; nothing passes at place 0."""
    if place == 0:
        return float((thresholds[1] + 1.0) / 2) if thresholds[1] < 1 else float(np.nextafter(1.0, 2.0))
    score = float(thresholds[place])
    lower = float(thresholds[place + 1]) if place + 1 < len(thresholds) else 0.0
    halfway = (score + lower) / 2
    return halfway if halfway > lower else score  # neighbouring numbers have no middle


def point_file(path: str | os.PathLike[str]) -> Path:
    """The file of a working point: `path`, or the one in that folder."""
    if not isinstance(path, (str, os.PathLike)):
        raise RinoError(f"a working point is of type {type(path).__name__}: give a pyrino.WorkingPoint or its file")
    path = Path(path)
    return path / WORKING_POINT if path.is_dir() else path
