"""Views of jets along the renormalisation-group flow, and toy jets to try them on."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino._arguments import checked, translated
from pyrino._core import Resolution
from pyrino.errors import RinoError
from pyrino.jets import Jets

__all__ = ["Resolution", "ViewGenerator", "resolution", "splitting_scales", "toy_jets"]

translated(Resolution, "fraction", "kt", "parse", "subjets")


def resolution(point: Any) -> Resolution:
    """A point on the flow from a number of subjets, a name ("8", "kt:5", "fraction:0.05", "all") or a `Resolution`.

    Raises
    ------
    RinoError
        If it is none of these or its value is out of range.
    """
    if isinstance(point, Resolution):
        return point
    if isinstance(point, str):
        return Resolution.parse(point)
    if isinstance(point, (int, np.integer)) and not isinstance(point, bool):
        return Resolution.subjets(_int64(point, "the number of subjets"))
    raise RinoError(
        f"the resolution {point!r} is of type {type(point).__name__}: "
        "give a number of subjets, 'kt:5' (GeV), 'fraction:0.05' (of the jet's pT) or 'all'"
    )


class ViewGenerator:
    """Makes the views of jets at several resolutions; each jet is clustered once for all of them (E-scheme).

    The subjets of a view are FastJet's exclusive jets, beam mergings included. They stand in descending pT. A jet
    with fewer constituents than subjets asked for shows all of them; a view of a jet is never empty. Labels ride
    along; extras are summed over a subjet's constituents.

    Parameters
    ----------
    resolutions : iterable
        One view each: a number of subjets N >= 1; ``"kt:Q"``, exclusive jets at dcut = Q^2, Q in GeV;
        ``"fraction:Y"``, the same with Q = Y times the jet's pT; ``"all"``, the constituents; or a `Resolution`.
        Scales have a meaning for the kT algorithm only.
    radius : float
        R of the clustering distances.
    algorithm : {"kt", "cambridge", "antikt"}
        Sequential recombination algorithm.
    threads : int
        Number of threads; the views do not depend on it.
    backend : {"auto", "fast", "fastjet"}
        What does the clustering; the views are the same. ``"fast"`` clusters several jets at once, one in each lane of
        the processor's vectors, and leaves to FastJet what rounding could decide and jets of more than 500
        constituents; ``"fastjet"`` is the reference, one jet at a time; ``"auto"`` is fast where it can be (not below
        R = 0.001).

    Raises
    ------
    RinoError
        If an argument is out of range or not known.

    Examples
    --------
    >>> import pyrino as rino
    >>> jets = rino.toy_jets(100, seed=1)
    >>> views = rino.ViewGenerator([1, 8, "all"])(jets)
    >>> len(views), views[0].n_constituents
    (3, 100)
    """

    @checked
    def __init__(
        self,
        resolutions: Iterable[Any],
        radius: float = 0.8,
        algorithm: str = "kt",
        threads: int = 1,
        backend: str = "auto",
    ) -> None:
        if isinstance(resolutions, (str, int, np.integer, Resolution)):
            raise RinoError(f"resolutions = {resolutions!r}: give a list, for example [{resolutions!r}]")
        self.resolutions: tuple[Resolution, ...] = tuple(resolution(point) for point in resolutions)
        self.radius = _float(radius, "radius")
        self.algorithm = _name(algorithm, "algorithm")
        self.threads = _int64(threads, "threads")
        if not 1 <= self.threads < 2**31:
            raise RinoError(f"threads is {self.threads}: give the number of threads, 1 or more")
        self.backend = _name(backend, "backend")
        self._core = _core.ViewGenerator(
            list(self.resolutions), self.radius, self.algorithm, self.threads, self.backend
        )

    def __call__(self, jets: Jets) -> list[Jets]:
        """One `Jets` per resolution: the same jets in the same order, their subjets as constituents.

        Raises
        ------
        RinoError
            If `jets` is no `Jets`.
        """
        return [Jets._wrap(view) for view in self._core(_core_of(jets))]

    def subjet_of_constituent(self, jets: Jets, jet: int, point: Any) -> NDArray[np.int64]:
        """The subjet each constituent of one jet belongs to at a resolution.

        Parameters
        ----------
        jets : Jets
            The jets.
        jet : int
            Which one, from 0.
        point
            A resolution, as the constructor takes them; it need not be one of the generator's own.

        Returns
        -------
        numpy.ndarray
            (multiplicity,) the subjet's position in the view, -1 for a constituent lost to the beam.

        Raises
        ------
        RinoError
            If there is no such jet, or the resolution has no meaning for the algorithm.
        """
        return self._core.subjet_of_constituent(_core_of(jets), _int64(jet, "jet"), resolution(point))

    def _arguments(self) -> tuple[Any, ...]:
        return self.resolutions, self.radius, self.algorithm, self.threads, self.backend

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ViewGenerator):
            return NotImplemented
        return self._arguments() == other._arguments()

    def __hash__(self) -> int:
        return hash(self._arguments())

    def __reduce__(self) -> tuple[Any, ...]:
        return ViewGenerator, self._arguments()

    def __repr__(self) -> str:
        points = ", ".join(str(r) if r.kind == "subjets" else repr(str(r)) for r in self.resolutions)
        return (
            f"ViewGenerator([{points}], radius={self.radius:g}, algorithm={self.algorithm!r}, "
            f"threads={self.threads}, backend={self.backend!r})"
        )


def splitting_scales(
    jets: Jets, n_max: int, *, radius: float = 0.8, threads: int = 1, backend: str = "auto"
) -> NDArray[np.float64]:
    """The kT splitting scales sqrt(d_N) of jets: at which scale a jet of N+1 subjets becomes one of N.

    d_N is the largest distance, min(pT_i^2, pT_j^2) dR_ij^2 / R^2 between two subjets or pT_i^2 to the beam, of the kT
    clustering (E-scheme) down to N subjets: FastJet's ``exclusive_dmerge_max(N)``, so that the exclusive clustering at
    the scale Q (``"kt:Q"``) has N or fewer subjets if and only if sqrt(d_N) <= Q. Often written d_{N,N+1}: column 0 is
    sqrt(d_12), column 1 sqrt(d_23). Experiments that define it without 1/R^2 have R times these values.

    Parameters
    ----------
    jets : Jets
        n jets.
    n_max : int
        N goes from 1 to this.
    radius : float
        R of the clustering distances.
    threads, backend
        As for `ViewGenerator`; the scales do not depend on them, but for rounding.

    Returns
    -------
    numpy.ndarray
        (n, n_max) float64 in GeV, falling along each row; 0 where a jet has no more than N constituents.

    Raises
    ------
    RinoError
        If an argument is out of range.

    Notes
    -----
    Catani, Dokshitzer, Seymour, Webber, Nucl. Phys. B406 (1993) 187; Ellis, Soper, hep-ph/9305266.

    Examples
    --------
    >>> sqrt_d = rino.splitting_scales(jets, 3)
    >>> sqrt_d12, sqrt_d23, sqrt_d34 = sqrt_d.T
    """
    workers = _int64(threads, "threads")
    if not 1 <= workers < 2**31:
        raise RinoError(f"threads is {workers}: give the number of threads, 1 or more")
    return _core.splitting_scales(
        _core_of(jets), _int64(n_max, "n_max"), _float(radius, "radius"), workers, _name(backend, "backend")
    )


def toy_jets(
    n: int,
    seed: int,
    *,
    top_fraction: float = 0.0,
    pt_min: float = 500.0,
    pt_max: float = 1000.0,
    eta_max: float = 2.0,
    radius: float = 0.8,
    multiplicity_mean: float = 44.0,
    multiplicity_std: float = 16.0,
    multiplicity_min: int = 1,
    multiplicity_max: int = 200,
    cutoff: float = 0.5,
) -> Jets:
    """Jets of a toy parton shower, for tests and benchmarks: no statement about physics may rest on them.

    Parameters
    ----------
    n : int
        Number of jets.
    seed : int
        Jet j depends on the seed, j and the options alone.
    top_fraction : float
        Probability that a jet is top-like (three prongs, label 1) and not QCD-like (one prong, label 0).
    pt_min, pt_max : float
        Jet pT in GeV, falling as pT^-5 between the two.
    eta_max : float
        Jet pseudorapidity, flat between -eta_max and eta_max.
    radius : float
        Constituents lie within this distance of the first parton in the (rapidity, phi) plane.
    multiplicity_mean, multiplicity_std : float
        Number of constituents, normal.
    multiplicity_min, multiplicity_max : int
        Its bounds.
    cutoff : float
        Least pT in GeV of what a splitting leaves.

    Returns
    -------
    Jets
        With labels; constituents are massless.

    Raises
    ------
    RinoError
        If an option is out of range.
    """
    number = _int64(seed, "seed")
    if number < 0:
        raise RinoError(f"seed = {number}: give an integer from 0 to 2^63 - 1")
    return Jets._wrap(
        _core.toy_shower(
            _int64(n, "n"),
            number,
            top_fraction=_float(top_fraction, "top_fraction"),
            pt_min=_float(pt_min, "pt_min"),
            pt_max=_float(pt_max, "pt_max"),
            eta_max=_float(eta_max, "eta_max"),
            radius=_float(radius, "radius"),
            multiplicity_mean=_float(multiplicity_mean, "multiplicity_mean"),
            multiplicity_std=_float(multiplicity_std, "multiplicity_std"),
            multiplicity_min=_int64(multiplicity_min, "multiplicity_min"),
            multiplicity_max=_int64(multiplicity_max, "multiplicity_max"),
            cutoff=_float(cutoff, "cutoff"),
        )
    )


def _core_of(jets: Jets) -> _core.Jets:
    if not isinstance(jets, Jets):
        raise RinoError(f"jets is of type {type(jets).__name__}: give pyrino.Jets, for example Jets(p4, offsets)")
    return jets._core


def _int64(value: Any, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise RinoError(f"{name} = {value!r} is of type {type(value).__name__}: give an integer") from error
    if not -(2**63) <= number < 2**63:
        raise RinoError(f"{name} = {number}: give an integer below 2^63")
    return number


def _float(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise RinoError(f"{name} = {value!r} is of type {type(value).__name__}: give a number") from error


def _name(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RinoError(f"{name} = {value!r} is of type {type(value).__name__}: give its name as a str")
    return value
