"""What a frozen embedding holds: probes by one protocol, kinematics, similarity along the flow, rank.

`embeddings` is (n, D), one row per jet, as `JetEncoder.embed` gives it; `labels` is (n,) with 1 for signal
and 0 for background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino._arguments import checked
from pyrino._columns import check_weights, to_float64
from pyrino.errors import RinoError
from pyrino.evaluate.checks import check_labels, random_numbers
from pyrino.evaluate.metrics import Measurement, accuracy, roc_auc
from pyrino.views import _int64

__all__ = [
    "KinematicsExplained",
    "PrincipalComponents",
    "ProbeScore",
    "Similarity",
    "boosted_trees",
    "effective_rank",
    "kinematics_explained",
    "knn",
    "linear_probe",
    "principal_components",
    "similarity_along_flow",
]

#: Masses below this, in GeV, are taken as this before the logarithm: one-constituent jets are massless.
MASS_FLOOR = 0.1

_Embedding = NDArray[np.float64]


class ProbeScore(TypedDict):
    """Result of a probe: value = mean over the folds, error = standard deviation between the folds."""

    accuracy: Measurement
    auc: Measurement


class KinematicsExplained(TypedDict):
    """How much of the embedding is jet kinematics; keys ``log_pt``, ``eta``, ``log_mass``.

    Attributes
    ----------
    from_embedding : dict of str to float
        R^2 of a linear fit of each quantity from the embedding, on jets left out of the fit.
    of_embedding : dict of str to float
        Share of the embedding's variance, all dimensions together, that a linear fit from each quantity
        alone explains, and from the three of them (``all``).
    """

    from_embedding: dict[str, float]
    of_embedding: dict[str, float]


class Similarity(TypedDict):
    """Mean cosine similarity between the embeddings at V resolutions, two V x V matrices.

    Attributes
    ----------
    same_jet : list of list of float
        Of one jet at two resolutions.
    different_jets : list of list of float
        Of two different jets; near `same_jet`, the embedding does not tell jets apart (collapse).
    """

    same_jet: list[list[float]]
    different_jets: list[list[float]]


class PrincipalComponents(NamedTuple):
    """The leading principal components.

    Attributes
    ----------
    points : list of ndarray
        (n_i, components) coordinates of each sample given.
    explained : ndarray
        (components,) share of the pooled variance along each.
    """

    points: list[NDArray[np.float64]]
    explained: NDArray[np.float64]


@checked
def knn(
    embeddings: ArrayLike,
    labels: ArrayLike,
    k: int = 20,
    folds: int = 5,
    seed: int = 0,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    threads: int = 1,
) -> ProbeScore:
    """k-nearest-neighbour classifier on the frozen embedding (Euclidean, each dimension standardised).

    Parameters
    ----------
    embeddings, labels : array_like
        (n, D) embeddings and (n,) 0/1 labels.
    k : int
        Number of neighbours, at most the number of jets a fold is fitted on.
    folds : int
        Stratified folds, at least 2 and at most the number of jets of the rarer class. The splits depend
        on the labels, `folds` and `seed` only: they are the same for every probe.
    seed : int
        Seed of the splits.
    test : tuple of array_like, optional
        Embeddings and labels of another sample. Each fold's fit is then tested on all of it (transfer:
        fitted on the source, tested on the target), not on the part left out.
    threads : int
        Number of threads.

    Returns
    -------
    ProbeScore
        Accuracy and AUC: mean and standard deviation over the folds.

    Raises
    ------
    RinoError
        If shapes do not match, a value is not finite, a class is missing, or `k` or `folds` do not fit.
    """
    from sklearn.neighbors import KNeighborsClassifier

    samples = _samples(embeddings, labels, test, folds)
    fitted_on = _smallest_fit(samples.train.y.size, folds)
    if not 1 <= k <= fitted_on:
        raise RinoError(f"k = {k} neighbours out of the {fitted_on} jets of a fold: give 1 to {fitted_on}")
    return _probe(lambda: KNeighborsClassifier(n_neighbors=k), samples, folds, seed, threads)


@checked
def linear_probe(
    embeddings: ArrayLike,
    labels: ArrayLike,
    folds: int = 5,
    seed: int = 0,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    weights: ArrayLike | None = None,
    threads: int = 1,
) -> ProbeScore:
    """Logistic regression on the frozen embedding (each dimension standardised, L2 penalty with C = 1).

    Parameters, returns and errors as `knn`; `weights` (n,) say how much each jet counts, in fit and test. Not together
    with `test`.
    """
    from sklearn.linear_model import LogisticRegression

    samples = _samples(embeddings, labels, test, folds, weights)
    return _probe(lambda: LogisticRegression(max_iter=2000), samples, folds, seed, threads)


@checked
def boosted_trees(
    embeddings: ArrayLike,
    labels: ArrayLike,
    folds: int = 5,
    seed: int = 0,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    weights: ArrayLike | None = None,
    threads: int = 1,
) -> ProbeScore:
    """Gradient-boosted trees on the frozen embedding (histogram-based, 100 trees of at most 31 leaves).

    Parameters, returns and errors as `linear_probe`; `seed` also seeds the trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    samples = _samples(embeddings, labels, test, folds, weights)

    def make() -> Any:
        return HistGradientBoostingClassifier(early_stopping=False, random_state=seed)

    return _probe(make, samples, folds, seed, threads)


@checked
def kinematics_explained(
    embeddings: ArrayLike, jet_kinematics: Mapping[str, ArrayLike], folds: int = 5, seed: int = 0
) -> KinematicsExplained:
    """How much of the embedding is nothing but the jet's pT, eta and mass.

    If the class token carries the jet's kinematics, these are equal in every view, and agreeing on them is
    a short-cut: the loss falls and nothing of the jet's inside is learned. Ordinary least squares both ways,
    scored on jets left out of the fit, so that the number of dimensions alone explains nothing (a value
    may then come out slightly below 0).

    Parameters
    ----------
    embeddings : array_like
        (n, D) embeddings.
    jet_kinematics : mapping
        ``pt`` (GeV), ``eta`` and ``mass`` (GeV), each (n,). Masses below 0.1 GeV are taken as 0.1 GeV.
    folds : int
        Number of folds, at least 2.
    seed : int
        Seed of the folds.

    Returns
    -------
    KinematicsExplained
        R^2 for log pT, eta and log mass from the embedding, and the share of the embedding's variance
        explained by them. A quantity that is the same for all jets (after a boost to one pT, log pT)
        has nothing to explain: 0.

    Raises
    ------
    RinoError
        If shapes do not match, a value is not finite, a key is missing, pT is not positive, the embedding
        does not vary, or there are fewer jets than a fit needs.
    """
    x = check_embeddings(embeddings)
    quantities = _log_kinematics(jet_kinematics, x.shape[0])
    if folds < 2 or _smallest_fit(x.shape[0], folds) <= x.shape[1] + 1:
        raise RinoError(
            f"{x.shape[0]} jets in {folds} folds do not determine a linear fit in {x.shape[1]} dimensions: "
            f"give at least 2 folds and more jets (10 times the dimensions or more)"
        )
    if all_alike(x):
        raise RinoError(f"all {x.shape[0]} embeddings are the same (collapse); there is no variance to explain")
    y = np.stack(list(quantities.values()), axis=1)
    of_embedding = {
        name: _explained(y[:, [i]], x, folds, seed) if _varies(y[:, [i]]).all() else 0.0
        for i, name in enumerate(quantities)
    }
    varying = _varies(y)
    of_embedding["all"] = _explained(y[:, varying], x, folds, seed) if varying.any() else 0.0
    from_embedding = {
        name: _explained(x, y[:, [i]], folds, seed) if varying[i] else 0.0 for i, name in enumerate(quantities)
    }
    return {"from_embedding": from_embedding, "of_embedding": of_embedding}


@checked
def similarity_along_flow(embeddings: Sequence[ArrayLike]) -> Similarity:
    """Mean cosine similarity between the embeddings of one jet at different resolutions.

    The same mean over pairs of different jets stands beside it: if both are near 1, the embedding agrees
    along the flow because it is the same for every jet (collapse), not because it knows the jet.

    Parameters
    ----------
    embeddings : sequence of array_like
        V arrays (n, D), one per resolution, rows in the same order of jets; at least 2 jets.

    Returns
    -------
    Similarity
        ``same_jet`` and ``different_jets``, each V x V and symmetric.

    Raises
    ------
    RinoError
        If shapes differ, a value is not finite, an embedding is zero, or there are fewer than 2 jets.
    """
    if not len(embeddings):
        raise RinoError("similarity_along_flow got no embeddings: give one array (n, D) per resolution")
    views = [check_embeddings(z, f"embeddings[{v}]") for v, z in enumerate(embeddings)]
    shape = views[0].shape
    for v, z in enumerate(views):
        if z.shape != shape:
            raise RinoError(f"embeddings[{v}] have shape {z.shape}, embeddings[0] {shape}; embed the same jets")
    if shape[0] < 2:
        raise RinoError(f"{shape[0]} jet has no different jet to compare with: give at least 2")
    units = []
    for v, z in enumerate(views):
        length = np.linalg.norm(z, axis=1, keepdims=True)
        zero = np.flatnonzero(length == 0)
        if zero.size:
            raise RinoError(f"embeddings[{v}][{zero[0]}] is the zero vector, which has no direction: leave it out")
        units.append(z / length)
    unit = np.stack(units)
    summed = np.einsum("and,bnd->ab", unit, unit, optimize=True)
    total = unit.sum(axis=1)
    n = shape[0]
    different = (total @ total.T - summed) / (n * (n - 1))
    return {"same_jet": (summed / n).tolist(), "different_jets": different.tolist()}


def effective_rank(embeddings: ArrayLike) -> float:
    """Number of dimensions the embedding uses: exp of the entropy of its normalised singular values.

    The mean is taken off first. 1 means a line, D means equal spread in all D directions (Roy & Vetterli,
    "The effective rank", EUSIPCO 2007).

    Parameters
    ----------
    embeddings : array_like
        (n, D) embeddings, at least 2 jets.

    Raises
    ------
    RinoError
        If the shape is wrong, a value is not finite, or all embeddings are the same (then there is no rank).
    """
    x = check_embeddings(embeddings)
    if all_alike(x):
        raise RinoError(f"all {x.shape[0]} embeddings are the same (collapse); the effective rank is not defined")
    singular = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share @ np.log(share))))


def principal_components(samples: Sequence[ArrayLike], components: int = 2) -> PrincipalComponents:
    """Coordinates of several samples along the leading principal components of all of them pooled.

    The sign of each component is fixed (its largest entry is positive), so that a picture is reproducible.

    Parameters
    ----------
    samples : sequence of array_like
        Arrays (n_i, D).
    components : int
        How many, at most D and at most the number of jets.

    Raises
    ------
    RinoError
        If shapes differ, a value is not finite, all embeddings are the same, or `components` does not fit.
    """
    if not isinstance(samples, (Sequence, np.ndarray)) or not len(samples):
        raise RinoError("principal_components got no sample: give at least one array (n, D)")
    arrays = [check_embeddings(z, f"samples[{i}]") for i, z in enumerate(samples)]
    for i, z in enumerate(arrays):
        if z.shape[1] != arrays[0].shape[1]:
            raise RinoError(
                f"samples[{i}] has {z.shape[1]} dimensions, samples[0] {arrays[0].shape[1]}: use one encoder"
            )
    pooled = np.concatenate(arrays)
    most = min(pooled.shape)
    if not 1 <= _int64(components, "components") <= most:
        raise RinoError(f"components = {components} of {pooled.shape[0]} jets in {pooled.shape[1]}: give 1 to {most}")
    if all_alike(pooled):
        raise RinoError(f"all {pooled.shape[0]} embeddings are the same (collapse); there is no component")
    mean = pooled.mean(axis=0)
    _, singular, axes = np.linalg.svd(pooled - mean, full_matrices=False)
    axes = axes[:components]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    share = singular**2 / np.sum(singular**2)
    return PrincipalComponents([(z - mean) @ axes.T for z in arrays], share[:components])


def check_embeddings(embeddings: ArrayLike, name: str = "embeddings") -> _Embedding:
    """Embeddings as float64 (n, D), after checking shape and values.

    Raises
    ------
    RinoError
        If they are not two-dimensional, empty, or hold a NaN or infinity.
    """
    x = to_float64(embeddings, name)
    if x.ndim != 2 or 0 in x.shape:
        raise RinoError(f"{name} have shape {x.shape}: give one row per jet, shape (n, D), n and D at least 1")
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        i, d = bad[0]
        raise RinoError(
            f"{name}[{i}, {d}] = {x[i, d]} is not finite ({np.unique(bad[:, 0]).size} of {x.shape[0]} jets "
            "have such a value); look for NaN in the network's input or a training that diverged"
        )
    return x


class _Sample(NamedTuple):
    x: _Embedding
    y: NDArray[np.bool_]
    weights: NDArray[np.float64] | None

    def rows(self, rows: NDArray[np.int64]) -> _Sample:
        return _Sample(self.x[rows], self.y[rows], None if self.weights is None else self.weights[rows])


class _Samples(NamedTuple):
    train: _Sample
    test: _Sample | None


def _samples(
    embeddings: ArrayLike,
    labels: ArrayLike,
    test: tuple[ArrayLike, ArrayLike] | None,
    folds: int,
    weights: ArrayLike | None = None,
) -> _Samples:
    x = check_embeddings(embeddings)
    y = check_labels(labels, x.shape[0], "embeddings")
    w = None
    if weights is not None:
        if test is not None:
            raise RinoError("weights and test are both given; weights are of cross-validated probes alone: leave one")
        w = check_weights(weights, len(x), y)
        some = w > 0
        x, y, w = x[some], y[some], w[some] / w[some].mean()  # what regularises the fits is of weights about 1
    rarer = int(min(y.sum(), (~y).sum()))
    if not 2 <= _int64(folds, "folds") <= rarer:
        raise RinoError(f"folds = {folds} with {rarer} jets of the rarer class: give 2 to {max(rarer, 2)}")
    if test is None:
        return _Samples(_Sample(x, y, w), None)
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise RinoError(f"test is of type {type(test).__name__}: give (embeddings, labels)")
    x_test = check_embeddings(test[0], "test embeddings")
    if x_test.shape[1] != x.shape[1]:
        raise RinoError(
            f"test embeddings have {x_test.shape[1]} dimensions, those fitted {x.shape[1]}: use one encoder"
        )
    y_test = check_labels(test[1], x_test.shape[0], "test embeddings")
    return _Samples(_Sample(x, y, w), _Sample(x_test, y_test, None))


def _smallest_fit(n: int, folds: int) -> int:
    """Number of jets left to fit on when the largest fold is taken out."""
    return n - -(-n // folds)


def _probe(make: Callable[[], Any], samples: _Samples, folds: int, seed: int, threads: int) -> ProbeScore:
    """Fit on each fold's larger part, test on the smaller one or on the other sample: the one protocol."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    if _int64(threads, "threads") < 1:
        raise RinoError(f"threads = {threads}: give at least 1")
    train = samples.train
    accuracies, aucs = [], []
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(train.x, train.y)
    with threadpool_limits(limits=threads):
        for rows, left_out in splits:
            fit, test = train.rows(rows), samples.test or train.rows(left_out)
            probe = make()
            weights = {} if fit.weights is None else {f"{type(probe).__name__.lower()}__sample_weight": fit.weights}
            model = make_pipeline(StandardScaler(), probe).fit(fit.x, fit.y, **weights)
            probability = model.predict_proba(test.x)[:, 1]
            accuracies.append(accuracy(probability, test.y, weights=test.weights))
            aucs.append(roc_auc(probability, test.y, weights=test.weights))
    return {"accuracy": _over_folds(accuracies), "auc": _over_folds(aucs)}


def _over_folds(values: list[float]) -> Measurement:
    return {"value": float(np.mean(values)), "error": float(np.std(values, ddof=1)), "folds": values}


def _log_kinematics(kinematics: Mapping[str, ArrayLike], n: int) -> dict[str, NDArray[np.float64]]:
    columns: dict[str, NDArray[np.float64]] = {}
    if not isinstance(kinematics, Mapping):
        raise RinoError(f"jet_kinematics is of type {type(kinematics).__name__}: give a dict of pt, eta and mass")
    for name in ("pt", "eta", "mass"):
        if name not in kinematics:
            raise RinoError(f"jet_kinematics has no {name!r} (it has {sorted(kinematics)}): give pt, eta and mass")
        column = to_float64(kinematics[name], f"jet_kinematics[{name!r}]")
        if column.shape != (n,):
            raise RinoError(f"jet_kinematics[{name!r}] has shape {column.shape} beside {n} embeddings: give ({n},)")
        bad = np.flatnonzero(~np.isfinite(column) | ((column <= 0) & (name == "pt")))
        if bad.size:
            wrong = "is not a positive number of GeV" if name == "pt" else "is not finite"
            raise RinoError(f"jet_kinematics[{name!r}][{bad[0]}] = {column[bad[0]]} {wrong}: leave such jets out")
        columns[name] = column
    return {
        "log_pt": np.log(columns["pt"]),
        "eta": columns["eta"],
        "log_mass": np.log(np.maximum(columns["mass"], MASS_FLOOR)),
    }


def all_alike(x: _Embedding) -> bool:
    """Whether embeddings (n, D) differ by no more than rounding in float32, the embedding's usual type.

    Rounding is that of the largest number: a small one is a difference of large ones.
    """
    scale = max(float(np.abs(x).max()), np.finfo(np.float64).tiny)
    return bool(np.ptp(x, axis=0).max() <= 1e-5 * scale)


def _varies(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which columns vary beyond rounding in float32, the embedding's usual type."""
    scale = np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)
    return np.ptp(x, axis=0) > 1e-6 * scale


def _explained(x: NDArray[np.float64], y: NDArray[np.float64], folds: int, seed: int) -> float:
    """Share of the total variance of y (n, q) predicted by least squares from x (n, p), on jets left out."""
    order = random_numbers(seed).permutation(x.shape[0])
    residual = np.empty_like(y)
    for left_out in np.array_split(order, folds):
        fit = np.setdiff1d(order, left_out)
        mean, scale = x[fit].mean(axis=0), x[fit].std(axis=0)
        scale[scale == 0] = 1
        design = np.column_stack([np.ones(fit.size), (x[fit] - mean) / scale])
        coefficients = np.linalg.lstsq(design, y[fit], rcond=None)[0]
        predicted = np.column_stack([np.ones(left_out.size), (x[left_out] - mean) / scale]) @ coefficients
        residual[left_out] = y[left_out] - predicted
    return float(1 - np.sum(residual**2) / np.sum((y - y.mean(axis=0)) ** 2))
