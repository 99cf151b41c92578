"""Two samples of jets side by side: how far apart their kinematics and substructure are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._columns import check_weights, to_float64
from pyrino._weighted import effective_number, mean, quantiles, standard_deviation
from pyrino.errors import RinoError
from pyrino.evaluate.checks import random_numbers
from pyrino.evaluate.embeddings import boosted_trees
from pyrino.evaluate.metrics import Measurement, roc_auc
from pyrino.jets import Jets
from pyrino.tables import aligned, html
from pyrino.views import ViewGenerator, _core_of, splitting_scales

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["VARIABLES", "Distance", "DomainComparison", "Variable", "compare", "compare_variables", "jet_variables"]

Floats = NDArray[np.float64]
Pair = tuple[float, float]
Weights = tuple[Floats | None, Floats | None]

#: Subjets of the exclusive kT clustering of which the hardest one's share is taken: as many as a top quark has.
_PRONGS = 3
_HARDEST = 10
_CHARGE = "part_charge"

#: The classifier sees at most so many jets of each sample: more change its AUC by less than its error.
_CLASSIFIED = 20_000
#: With fewer jets of either sample boosted trees cannot split, and would say 0.5 whatever the difference.
_LEAST_CLASSIFIED = 100
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Variable:
    """One number of a jet.

    Attributes
    ----------
    title : str
        What it is, for a table.
    unit : str
        "GeV" or "".
    axis : str
        The same with unit as matplotlib draws it.
    log : bool
        Whether its density is drawn on a logarithmic axis.
    """

    title: str
    unit: str
    axis: str
    log: bool = False


#: What is compared, in the order of table and picture.
VARIABLES: Mapping[str, Variable] = {
    "pt": Variable("pT", "GeV", r"jet $p_T$ [GeV]", log=True),
    "eta": Variable("eta", "", r"jet $\eta$"),
    "mass": Variable("mass", "GeV", r"jet mass $m$ [GeV]"),
    "multiplicity": Variable("constituents", "", "number of constituents"),
    "sqrt_d12": Variable("sqrt(d_12)", "GeV", r"$\sqrt{d_{12}}$ [GeV]", log=True),
    "sqrt_d23": Variable("sqrt(d_23)", "GeV", r"$\sqrt{d_{23}}$ [GeV]", log=True),
    "sqrt_d34": Variable("sqrt(d_34)", "GeV", r"$\sqrt{d_{34}}$ [GeV]", log=True),
    "hardest_1": Variable("share of hardest 1", "", "$p_T$ share of the hardest constituent"),
    "hardest_10": Variable(f"share of hardest {_HARDEST}", "", f"$p_T$ share of the {_HARDEST} hardest constituents"),
    "subjet": Variable(f"hardest of {_PRONGS} subjets", "", f"$p_T$ share of the hardest of {_PRONGS} subjets"),
    "charged": Variable("charged share", "", "$p_T$ share of charged constituents"),
}

_KINEMATICS = ("pt", "eta")


@dataclass(frozen=True)
class Distance:
    """One variable in two samples.

    Attributes
    ----------
    variable : str
        Key of `VARIABLES`.
    mean, std : (float, float)
        Of both samples, in the variable's unit.
    quantiles : ((float, float, float), (float, float, float))
        5%, 50% and 95% of both.
    ks : float
        Two-sample Kolmogorov-Smirnov statistic D: the largest distance between the cumulative distributions, 0 to 1.
    ks_p : float
        Probability of at least this D if both samples are of one distribution (asymptotic; conservative for whole
        numbers; weighted jets count by their effective number, (sum w)^2 / sum w^2). With many jets the smallest
        difference has a small p: read D for its size.
    wasserstein : float
        Wasserstein-1 (earth mover's) distance in the variable's unit: how far a jet must be moved, on average.
    wasserstein_relative : float
        The same over the pooled standard deviation, sqrt((std_1^2 + std_2^2) / 2); comparable between variables.
    auc : float
        Area under the ROC curve of a cut on this variable alone, in the better direction: 0.5 (same) to 1 (apart).
    """

    variable: str
    mean: Pair
    std: Pair
    quantiles: tuple[tuple[float, ...], tuple[float, ...]]
    ks: float
    ks_p: float
    wasserstein: float
    wasserstein_relative: float
    auc: float


@dataclass(frozen=True)
class DomainComparison:
    """What `compare` finds; its text is two tables, a notebook shows them as HTML.

    Attributes
    ----------
    names : (str, str)
        Of the samples.
    jets : (int, int)
        Their numbers of jets.
    table : tuple of Distance
        One per variable.
    separation : Measurement or None
        AUC of boosted trees that tell the samples apart by all variables, cross-validated: 0.5 is the same; the error
        is the standard deviation between the folds. None where it was not asked for or there are too few jets.
    kinematics : Measurement or None
        The same by pT and eta alone: what reweighting of these two could remove.
    values : (mapping, mapping)
        Variable -> (n,) of both samples.
    weights : (ndarray or None, ndarray or None)
        (n,) of both samples; None: each jet counts 1.
    """

    names: tuple[str, str]
    jets: tuple[int, int]
    table: tuple[Distance, ...]
    separation: Measurement | None
    kinematics: Measurement | None
    values: tuple[Mapping[str, Floats], Mapping[str, Floats]] = field(repr=False)
    weights: Weights = field(default=(None, None), repr=False)

    def plot(self) -> Figure:
        """Every variable in both samples, with the ratio second over first."""
        from pyrino.plots import compare_distributions

        return compare_distributions(
            (self.names[0], self.values[0]),
            (self.names[1], self.values[1]),
            labels={name: variable.axis for name, variable in VARIABLES.items()},
            log=[name for name, variable in VARIABLES.items() if variable.log],
            notes={d.variable: f"KS {d.ks:.3f}   $W_1/\\sigma$ {d.wasserstein_relative:.2f}" for d in self.table},
            weights=self.weights,
        )

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        variables = {
            d.variable: {
                "unit": VARIABLES[d.variable].unit,
                "mean": list(d.mean),
                "std": list(d.std),
                "quantiles": {f"{q:g}": [d.quantiles[0][i], d.quantiles[1][i]] for i, q in enumerate(_QUANTILES)},
                "ks": d.ks,
                "ks_p": d.ks_p,
                "wasserstein": d.wasserstein,
                "wasserstein_relative": d.wasserstein_relative,
                "auc": d.auc,
            }
            for d in self.table
        }
        return {
            "names": list(self.names),
            "jets": list(self.jets),
            "effective_jets": [
                n if w is None else effective_number(w) for n, w in zip(self.jets, self.weights, strict=True)
            ],
            "variables": variables,
            "separation_auc": self.separation,
            "kinematics_auc": self.kinematics,
        }

    def summary(self) -> str:
        """Whether the samples can be told apart at all, in two lines."""
        if self.separation is None:
            return "no classifier was trained"
        text = f"AUC of boosted trees between the two (0.5: the same, 1: apart):\n{_with_error(self.separation)} by all"
        if self.kinematics is not None:
            text += f", {_with_error(self.kinematics)} by pT and eta alone"
        if self.separation["value"] < 0.4:
            text += "\nfar below 0.5: the two hold the same jets, whose other copy the trees met with the other label"
        return text

    def _tables(self) -> tuple[list[list[str]], list[list[str]]]:
        contents = [["", "", "mean", "std", "5%", "median", "95%"]]
        distances = [["", "KS D", "KS p", "W1", "W1/std", "AUC"]]
        for d in self.table:
            title = _titled(d.variable)
            for i, name in enumerate(self.names):
                numbers = (d.mean[i], d.std[i], *d.quantiles[i])
                contents.append([title if i == 0 else "", name, *map(_number, numbers)])
            unit = VARIABLES[d.variable].unit
            moved = f"{_number(d.wasserstein)} {unit}".strip()
            measures = (f"{d.ks:.3f}", _probability(d.ks_p), moved, f"{d.wasserstein_relative:.3f}", f"{d.auc:.3f}")
            distances.append([title.removesuffix(f" [{unit}]"), *measures])
        return contents, distances

    def _sizes(self) -> list[str]:
        return [
            f"{n} jets" if w is None else f"{n} weighted jets (as many as {effective_number(w):.0f} of one weight)"
            for n, w in self._counted()
        ]

    def _counted(self) -> list[tuple[int, Floats | None]]:
        return list(zip(self.jets, self.weights, strict=True))

    def __repr__(self) -> str:
        contents, distances = self._tables()
        heads = [f"{name}: {jets}" for name, jets in zip(self.names, self._sizes(), strict=True)]
        return "\n".join(
            [*heads, "", aligned(contents, range(2, 7)), "", aligned(distances, range(1, 6)), "", self.summary()]
        )

    def _repr_html_(self) -> str:
        contents, distances = self._tables()
        heads = ", ".join(f"{escape(name)}: {jets}" for name, jets in zip(self.names, self._sizes(), strict=True))
        return f"<div><p>{heads}<br>{escape(self.summary())}</p>{html(contents)}{html(distances)}</div>"


def compare(
    jets_a: Jets,
    jets_b: Jets,
    *,
    names: Sequence[str] = ("A", "B"),
    weights: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    radius: float = 0.8,
    classifier: bool = True,
    seed: int = 0,
    threads: int = 1,
) -> DomainComparison:
    """Two samples of jets side by side, such as simulation and collisions, with their distances.

    Compared are pT, eta, mass, number of constituents; the kT splitting scales sqrt(d_12), sqrt(d_23), sqrt(d_34)
    (`pyrino.splitting_scales`); the shares of the constituents' summed pT that the hardest constituent, the 10 hardest
    ones, the hardest of 3 exclusive kT subjets and, where both samples have the extra ``part_charge``, the charged
    constituents carry. Labels play no role: cut on them before.

    Parameters
    ----------
    jets_a, jets_b : Jets
        Two jets or more each.
    names : (str, str)
        What tables and pictures call them.
    weights : (array_like or None, array_like or None)
        (n,) of each sample, how much its jets count, such as ``(simulated.values["weight"], None)``: finite, none
        negative, not all 0. None: 1. Only their ratios within a sample matter.
    radius : float
        R of the kT clustering.
    classifier : bool
        Whether boosted trees try to tell the samples apart (seconds; at most 20,000 jets of each).
    seed : int
        Of the classifier's folds and of its draw among more jets.
    threads : int
        Of the clustering and the classifier.

    Returns
    -------
    DomainComparison

    Raises
    ------
    RinoError
        If a sample has fewer than two jets or a jet without pT, weights are none, or an argument is out of range.

    Examples
    --------
    >>> a, b = rino.toy_jets(500, seed=1), rino.toy_jets(500, seed=2, top_fraction=0.5)
    >>> found = rino.compare(a, b, names=("QCD", "mixed"))
    >>> found.plot().savefig("domains.png")
    """
    columns = []
    for name, jets in zip(("jets_a", "jets_b"), (jets_a, jets_b), strict=True):
        if not isinstance(jets, Jets):
            raise RinoError(
                f"{name} is of type {type(jets).__name__}: give pyrino.Jets, for example rino.read_jets(...)"
            )
        if len(jets) < 2:
            raise RinoError(f"{name} has {len(jets)} of the two jets or more that a comparison needs: give more")
        columns.append(jet_variables(jets, radius=radius, threads=threads))
    return compare_variables(*columns, names=names, weights=weights, classifier=classifier, seed=seed, threads=threads)


def jet_variables(jets: Jets, *, radius: float = 0.8, threads: int = 1) -> dict[str, Floats]:
    """The variables that `compare` compares: key of `VARIABLES` -> (n,) float64, GeV; ``charged`` where it can be.

    Raises
    ------
    RinoError
        If a jet has no pT, so no eta and no shares.
    """
    pt = _core_of(jets).pt()
    none = np.flatnonzero(~(pt > 0))
    if none.size:
        raise RinoError(
            f"jet {none[0]} has pT = {pt[none[0]]:g} GeV, so no eta: cut such jets, for example pt=(1, None)"
        )
    total = np.add.reduceat(jets.constituents.pt, jets.offsets[:-1]) if len(jets) else pt
    scales = splitting_scales(jets, 3, radius=radius, threads=threads)
    (prongs,) = ViewGenerator([_PRONGS], radius=radius, threads=threads)(jets)
    found = {
        "pt": pt,
        "eta": jets.eta,
        "mass": jets.mass,
        "multiplicity": jets.multiplicity.astype(np.float64),
        "sqrt_d12": scales[:, 0].copy(),
        "sqrt_d23": scales[:, 1].copy(),
        "sqrt_d34": scales[:, 2].copy(),
        "hardest_1": _hardest(jets, 1) / total,
        "hardest_10": _hardest(jets, _HARDEST) / total,
        "subjet": _hardest(prongs, 1) / total,
    }
    if _CHARGE in jets.extras:
        charged = np.where(jets.extras[_CHARGE] != 0, jets.constituents.pt, 0.0)
        found["charged"] = (np.add.reduceat(charged, jets.offsets[:-1]) if len(jets) else charged) / total
    return found


def compare_variables(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike],
    *,
    names: Sequence[str] = ("A", "B"),
    weights: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    classifier: bool = True,
    seed: int = 0,
    threads: int = 1,
) -> DomainComparison:
    """As `compare`, from what `jet_variables` gives; variables that only one sample has are left out.

    Raises
    ------
    RinoError
        If a sample has fewer than two jets, or a value is not finite.
    """
    if not isinstance(names, (tuple, list)) or len(names) != 2:
        raise RinoError(f"names = {names!r}: give two, for example ('simulation', 'collisions')")
    for sample in (first, second):
        if not isinstance(sample, Mapping) or not {"pt", "eta"} <= set(sample):
            raise RinoError(f"a sample is {type(sample).__name__} without pt and eta: give what jet_variables returned")
    shared = [name for name in VARIABLES if name in first and name in second]
    samples = [{name: to_float64(s[name], name) for name in shared} for s in (first, second)]
    for name, sample in zip(names, samples, strict=True):
        for variable, x in sample.items():
            if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
                raise RinoError(
                    f"{name}: {variable} has shape {x.shape} or is not finite: give two jets or more with finite values"
                )
    a, b = samples
    jets = (len(a["pt"]), len(b["pt"]))
    counted = _weights(weights, jets, names)
    separation = kinematics = None
    if classifier and min(jets) >= _LEAST_CLASSIFIED:
        rng = random_numbers(seed)
        chosen = [np.sort(rng.permutation(n)[:_CLASSIFIED]) for n in jets]
        separation = _separation(samples, shared, counted, chosen, seed, threads)
        kinematics = _separation(samples, _KINEMATICS, counted, chosen, seed, threads)
    table = tuple(_distance(name, a[name], b[name], *counted) for name in shared)
    return DomainComparison((str(names[0]), str(names[1])), jets, table, separation, kinematics, (a, b), counted)


def _weights(weights: Any, jets: tuple[int, int], names: Sequence[str]) -> Weights:
    if not isinstance(weights, (tuple, list)) or len(weights) != 2:
        raise RinoError(f"weights are of type {type(weights).__name__}: give two: arrays with one per jet, or None")
    first, second = (
        None if w is None else check_weights(w, n, what=f"weights of {name}")
        for w, n, name in zip(weights, jets, names, strict=True)
    )
    return first, second


def _distance(variable: str, a: Floats, b: Floats, v: Floats | None, w: Floats | None) -> Distance:
    from scipy.stats import wasserstein_distance

    ks, p = _kolmogorov_smirnov(a, b, v, w)
    moved = float(wasserstein_distance(a, b, v, w))
    std = (standard_deviation(a, v, ddof=1), standard_deviation(b, w, ddof=1))
    pooled = math.sqrt((std[0] ** 2 + std[1] ** 2) / 2)
    auc = roc_auc(np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)]), weights=_joined(len(a), len(b), v, w))
    return Distance(
        variable,
        (mean(a, v), mean(b, w)),
        std,
        (tuple(quantiles(a, _QUANTILES, v)), tuple(quantiles(b, _QUANTILES, w))),
        ks,
        p,
        moved,
        moved / pooled if pooled > 0 else (0.0 if moved == 0 else math.inf),
        max(auc, 1 - auc),
    )


def _kolmogorov_smirnov(a: Floats, b: Floats, v: Floats | None, w: Floats | None) -> Pair:
    """D and its p."""
    from scipy.stats import ks_2samp, kstwobign

    if v is None and w is None:
        test = ks_2samp(a, b)  # exact up to 10,000 jets a side
        return float(test.statistic), float(test.pvalue)
    shares, numbers = [], []
    everywhere = np.sort(np.concatenate([a, b]))
    for x, some in ((a, v), (b, w)):
        some = np.ones(len(x)) if some is None else some
        order = np.argsort(x)
        reached = np.concatenate([[0.0], np.cumsum(some[order])])
        shares.append(reached[np.searchsorted(x[order], everywhere, side="right")] / reached[-1])
        numbers.append(effective_number(some))
    d = float(np.abs(shares[0] - shares[1]).max())
    return d, float(kstwobign.sf(d * math.sqrt(numbers[0] * numbers[1] / sum(numbers))))


def _joined(m: int, n: int, v: Floats | None, w: Floats | None) -> Floats | None:
    """The weights of both samples, whose means are 1: neither counts more than its number of jets."""
    if v is None and w is None:
        return None
    return np.concatenate([np.ones(k) if x is None else x / x.mean() for k, x in ((m, v), (n, w))])


def _separation(
    samples: Sequence[Mapping[str, Floats]],
    variables: Sequence[str],
    weights: Weights,
    chosen: Sequence[NDArray[np.int64]],
    seed: int,
    threads: int,
) -> Measurement:
    rows = [
        np.stack([sample[name][which] for name in variables], axis=1)
        for sample, which in zip(samples, chosen, strict=True)
    ]
    some = [None if w is None else w[which] for w, which in zip(weights, chosen, strict=True)]
    counts = [len(part) for part in rows]
    return boosted_trees(
        np.concatenate(rows),
        np.repeat([0, 1], counts),
        weights=_joined(counts[0], counts[1], *some),
        seed=seed,
        threads=threads,
    )["auc"]


def _hardest(jets: Jets, n: int) -> Floats:
    """(jets,) sum of the n highest pT of a jet's constituents."""
    pt, counts, offsets = jets.constituents.pt, jets.multiplicity, jets.offsets
    if not len(jets):
        return np.zeros(0)
    if n == 1:
        return np.maximum.reduceat(pt, offsets[:-1])
    owner = np.repeat(np.arange(len(jets)), counts)
    order = np.lexsort((-pt, owner))
    rank = np.arange(len(pt)) - np.repeat(offsets[:-1], counts)
    return np.add.reduceat(np.where(rank < n, pt[order], 0.0), offsets[:-1])


def _titled(variable: str) -> str:
    known = VARIABLES[variable]
    return f"{known.title} [{known.unit}]" if known.unit else known.title


def _number(value: float) -> str:
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), 3)}f}" if digits < 6 else f"{value:.1e}"


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p > 1e-99 else "<1e-99"


def _with_error(measurement: Measurement) -> str:
    return f"{measurement['value']:.3f} +- {measurement['error']:.3f}"
