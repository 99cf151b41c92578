"""Transforms of jets: augmentations, detector effects and boosts.

Every random transform takes a `seed`: what happens to jet j of a batch is a function of (seed, the transform,
first_jet + j), whatever the number of threads. A stream that is cut into batches differently gives the same jets where
`first_jet` counts those that went before. Labels, values per jet, origins and the constituents' extras ride along, as
they are: those that repeat kinematics, such as a file's own delta-eta, are of the jets before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino import _core
from pyrino._columns import to_float64
from pyrino.errors import RinoError
from pyrino.jets import Jets
from pyrino.views import _core_of, _float, _int64

__all__ = [
    "Augmentation",
    "boost_along_beam",
    "boost_jet",
    "boost_to_pt",
    "drop_soft",
    "hardest",
    "mask_constituents",
    "rotate",
    "smear",
    "split_collinear",
    "translate",
]

# The defaults live in C++.
_SMEAR = _core.SmearOptions()
_TRANSLATE = _core.TranslateOptions()
_BOOST = _core.BoostJetOptions()
_SPLIT = _core.SplitCollinearOptions()
_DROP = _core.DropSoftOptions()


class Augmentation:
    """Transforms one after another, each with draws of its own.

    Parameters
    ----------
    transforms : iterable of callable
        Each takes `Jets` and returns `Jets`: the functions of this module, alone or with their options set by
        `functools.partial`, and any others. Those of the arguments ``seed``, ``first_jet`` and ``threads`` that a
        transform has, it is called with; a seed for each is made from the augmentation's and its position. A function
        of this module may be given in words, as recipes name it: ``"smear soft=0.1"``.

    Raises
    ------
    RinoError
        If one cannot be called, or words name no transform or number that there is.

    Examples
    --------
    >>> from functools import partial
    >>> import pyrino as rino
    >>> augment = rino.Augmentation([
    ...     rino.rotate,
    ...     partial(rino.smear, constant=0.05),
    ...     partial(rino.boost_to_pt, reference_pt=750),
    ... ])
    >>> view = augment(rino.toy_jets(100, seed=1), seed=7)
    """

    def __init__(self, transforms: Iterable[Callable[..., Jets] | str]) -> None:
        try:
            several = [transforms] if isinstance(transforms, str) else transforms
            self.transforms = tuple(_Named(t) if isinstance(t, str) else t for t in several)
        except TypeError as error:
            raise RinoError(f"transforms is of type {type(transforms).__name__}: give a list of functions") from error
        self._accepted = tuple(_accepted(transform, k) for k, transform in enumerate(self.transforms))
        # Words alone are one call of C++.
        self._words = None
        texts = [transform.text for transform in self.transforms if isinstance(transform, _Named)]
        if len(texts) == len(self.transforms):
            self._words = _core.NamedAugmentation(texts)

    def __call__(self, jets: Jets, *, seed: int, first_jet: int = 0, threads: int = 1) -> Jets:
        """The jets after all transforms.

        Parameters
        ----------
        jets : Jets
            The jets.
        seed : int
            From 0 to 2^63 - 1.
        first_jet : int
            Number of the batch's first jet in the stream.
        threads : int
            Number of threads.

        Raises
        ------
        RinoError
            As the transforms do, or if one returns something else than as many jets.
        """
        draws = _draws(seed, first_jet)
        if self._words is not None:
            return Jets._wrap(self._words(_core_of(jets), draws, _threads(threads)))
        size = len(_core_of(jets))
        for k, (transform, accepted) in enumerate(zip(self.transforms, self._accepted, strict=True)):
            given = {"seed": draws.step(k).seed, "first_jet": first_jet, "threads": threads}
            jets = transform(jets, **{name: given[name] for name in accepted})
            if not isinstance(jets, Jets) or len(jets) != size:
                what = f"{len(jets)} jets" if isinstance(jets, Jets) else type(jets).__name__
                raise RinoError(
                    f"transform {k}, {transform!r}, made {what} of {size} jets: give one that keeps each jet"
                )
        return jets

    @property
    def turning(self) -> str | None:
        """The first of the transforms that rotates or boosts jets; None if none does that is known here."""
        for transform in self.transforms:
            function, given = getattr(transform, "func", transform), getattr(transform, "keywords", {})
            if isinstance(transform, (Augmentation, _Named)):
                turns = transform.turning is not None
            elif function is translate:
                turns = given.get("max_rapidity", _TRANSLATE.max_rapidity) != 0 or given.get("rapidity") is not None
            else:
                turns = function in (rotate, boost_along_beam, boost_jet, boost_to_pt)
            if turns:
                return getattr(function, "__name__", repr(transform).strip("'"))
        return None

    def __repr__(self) -> str:
        return f"Augmentation([{', '.join(getattr(t, '__name__', repr(t)) for t in self.transforms)}])"


def smear(
    jets: Jets,
    *,
    seed: int,
    stochastic: float = _SMEAR.stochastic,
    constant: float = _SMEAR.constant,
    eta: float = _SMEAR.eta,
    phi: float = _SMEAR.phi,
    soft: float = _SMEAR.soft,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Constituents with the resolution of a detector in pT, eta and phi; their masses stay.

    pT is multiplied by a log-normal number of mean 1 and standard deviation sigma(pT)/pT, which is normal where that is
    small and leaves pT above 0 where it is not; directions get normal noise. Constituents keep their order.

    Parameters
    ----------
    jets : Jets
        The jets.
    seed : int
        From 0 to 2^63 - 1.
    stochastic, constant : float
        a in sqrt(GeV) and b of sigma(pT)/pT = sqrt(a^2 / pT + b^2), at most 10.
    eta, phi : float
        Resolution of the pseudorapidity and, in radians, of the azimuth.
    soft : float
        Lambda in GeV of JetCLR's distortion (arXiv:2108.04253; 0.1 there): Lambda / pT in quadrature with `eta` and
        with `phi`, at most pi.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        If a number is negative or not finite, or an angular resolution above pi.
    """
    options = _options(_core.SmearOptions(), stochastic=stochastic, constant=constant, eta=eta, phi=phi, soft=soft)
    return Jets._wrap(_core.smear(_core_of(jets), options, _draws(seed, first_jet), _threads(threads)))


def rotate(
    jets: Jets, angle: ArrayLike | None = None, *, seed: int | None = None, first_jet: int = 0, threads: int = 1
) -> Jets:
    """Constituents rotated around their jet's axis in the (rapidity, phi) plane; each keeps its pT and mass.

    All distances in the plane, those of the clustering, stay. The jet's mass does to first order in them only: this is
    no Lorentz transformation (JetCLR, arXiv:2108.04253, with pseudorapidity, the same for massless constituents).

    Parameters
    ----------
    jets : Jets
        The jets.
    angle : array_like, optional
        In radians, one for all or (n,) one per jet.
    seed : int, optional
        From 0 to 2^63 - 1, in place of `angle`: angles are uniform in [0, 2 pi).
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        Unless one of `angle` and `seed` is given, or if an angle is not finite.
    """
    core = _core_of(jets)
    if _given("angle", seed, angle) and angle is not None:
        return Jets._wrap(_core.rotate(core, _per_jet(angle, "angle", len(jets)), _threads(threads)))
    return Jets._wrap(_core.rotate(core, _draws(seed, first_jet), _threads(threads)))


def translate(
    jets: Jets,
    rapidity: ArrayLike | None = None,
    phi: ArrayLike | None = None,
    *,
    seed: int | None = None,
    max_rapidity: float = _TRANSLATE.max_rapidity,
    max_phi: float = _TRANSLATE.max_phi,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Jets moved as a whole in the (rapidity, phi) plane: boosted along the beam and rotated around it.

    Every pT, every mass and all distances in the plane stay. (JetCLR, arXiv:2108.04253, shifts pseudorapidities, which
    is the same for massless constituents and changes the masses of jets of massive ones.)

    Parameters
    ----------
    jets : Jets
        The jets.
    rapidity, phi : array_like, optional
        Shifts, phi in radians; one for all or (n,) one per jet. One that is left out is 0.
    seed : int, optional
        From 0 to 2^63 - 1, in place of the shifts: they are uniform in [-max_rapidity, max_rapidity] x
        [-max_phi, max_phi].
    max_rapidity, max_phi : float
        The box of random shifts.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        Unless either shifts or `seed` are given, or if a number is not finite or the box's sides are negative.
    """
    core = _core_of(jets)
    if _given("rapidity or phi", seed, rapidity, phi):
        shifts = ((rapidity, "rapidity"), (phi, "phi"))
        dy, dphi = (_per_jet(0.0 if shift is None else shift, name, len(jets)) for shift, name in shifts)
        return Jets._wrap(_core.translate(core, dy, dphi, _threads(threads)))
    options = _options(_core.TranslateOptions(), max_rapidity=max_rapidity, max_phi=max_phi)
    return Jets._wrap(_core.translate(core, options, _draws(seed, first_jet), _threads(threads)))


def boost_along_beam(
    jets: Jets,
    rapidity: ArrayLike | None = None,
    *,
    seed: int | None = None,
    max_rapidity: float = _TRANSLATE.max_rapidity,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Jets boosted along the beam: rapidities are shifted; every pT, azimuth and mass stays.

    Parameters
    ----------
    jets : Jets
        The jets.
    rapidity : array_like, optional
        The shift, one for all or (n,) one per jet.
    seed : int, optional
        From 0 to 2^63 - 1, in place of `rapidity`: shifts are uniform in [-max_rapidity, max_rapidity].
    max_rapidity : float
        Bound of random shifts.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        Unless one of `rapidity` and `seed` is given, or if a number is not finite or the bound negative.
    """
    core = _core_of(jets)
    if _given("rapidity", seed, rapidity) and rapidity is not None:
        return Jets._wrap(_core.boost_along_beam(core, _per_jet(rapidity, "rapidity", len(jets)), _threads(threads)))
    bound = _float(max_rapidity, "max_rapidity")
    return Jets._wrap(_core.boost_along_beam(core, bound, _draws(seed, first_jet), _threads(threads)))


def boost_jet(
    jets: Jets,
    factor: ArrayLike | None = None,
    *,
    seed: int | None = None,
    min_factor: float = _BOOST.min_factor,
    max_factor: float = _BOOST.max_factor,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Every jet boosted along its own axis so that its pT is multiplied by a factor; its mass and direction stay.

    Parameters
    ----------
    jets : Jets
        The jets.
    factor : array_like, optional
        Of the jet's pT, above 0; one for all or (n,) one per jet.
    seed : int, optional
        From 0 to 2^63 - 1, in place of `factor`: the factors' logarithms are uniform between those of the bounds.
    min_factor, max_factor : float
        Bounds of random factors.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        Unless one of `factor` and `seed` is given, if a factor is not above 0 and finite, or a jet has no momentum.
    """
    core = _core_of(jets)
    if _given("factor", seed, factor) and factor is not None:
        return Jets._wrap(_core.boost_jet(core, _per_jet(factor, "factor", len(jets)), _threads(threads)))
    options = _options(_core.BoostJetOptions(), min_factor=min_factor, max_factor=max_factor)
    return Jets._wrap(_core.boost_jet(core, options, _draws(seed, first_jet), _threads(threads)))


def boost_to_pt(jets: Jets, reference_pt: float, *, threads: int = 1) -> Jets:
    """Every jet boosted along its own axis to one transverse momentum in GeV; its mass and direction stay.

    Raises
    ------
    RinoError
        If `reference_pt` is not positive, or a jet cannot be boosted.
    """
    pt = _float(reference_pt, "reference_pt")
    return Jets._wrap(_core.boost_to_pt(_core_of(jets), pt, _threads(threads)))


def split_collinear(
    jets: Jets,
    *,
    seed: int,
    probability: float = _SPLIT.probability,
    min_fraction: float = _SPLIT.min_fraction,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Random constituents split into two collinear ones of z and 1 - z of the whole four-momentum (JetCLR).

    The sum of the daughters is the parent to rounding; they stand in its place. Extras are copied to both: which of
    them are additive is not known here.

    Parameters
    ----------
    jets : Jets
        The jets.
    seed : int
        From 0 to 2^63 - 1.
    probability : float
        Of each constituent to split.
    min_fraction : float
        z is uniform in [min_fraction, 1 - min_fraction]; above 0, at most 0.5.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        If a number is out of range.
    """
    options = _options(_core.SplitCollinearOptions(), probability=probability, min_fraction=min_fraction)
    return Jets._wrap(_core.split_collinear(_core_of(jets), options, _draws(seed, first_jet), _threads(threads)))


def drop_soft(
    jets: Jets,
    *,
    seed: int,
    scale: float = _DROP.scale,
    min_pt: float = _DROP.min_pt,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Soft constituents lost at random, as a detector's efficiency falls (not the grooming called soft drop).

    Of a jet that would lose all, the hardest constituent stays.

    Parameters
    ----------
    jets : Jets
        The jets.
    seed : int
        From 0 to 2^63 - 1.
    scale : float
        A constituent is lost with the probability exp(-pT / scale), in GeV; 0 loses none.
    min_pt : float
        Constituents below this pT in GeV are always lost.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        If a number is negative or not finite.
    """
    options = _options(_core.DropSoftOptions(), scale=scale, min_pt=min_pt)
    return Jets._wrap(_core.drop_soft(_core_of(jets), options, _draws(seed, first_jet), _threads(threads)))


def mask_constituents(jets: Jets, fraction: float, *, seed: int, first_jet: int = 0, threads: int = 1) -> Jets:
    """A random part of every jet's constituents removed; at least one stays.

    Parameters
    ----------
    jets : Jets
        The jets.
    fraction : float
        Of n constituents, ``fraction * n`` are removed, rounded up or down at random so that it is the fraction on
        average, and n - 1 at most.
    seed : int
        From 0 to 2^63 - 1.
    first_jet, threads : int
        Number of the first jet in the stream; number of threads.

    Raises
    ------
    RinoError
        Unless the fraction is in [0, 1].
    """
    part = _float(fraction, "fraction")
    return Jets._wrap(_core.mask_constituents(_core_of(jets), part, _draws(seed, first_jet), _threads(threads)))


def hardest(jets: Jets, n: int, *, threads: int = 1) -> Jets:
    """The n constituents of highest pT of every jet, in descending pT; all of a jet that has fewer.

    Raises
    ------
    RinoError
        If n is below 1.
    """
    return Jets._wrap(_core.hardest(_core_of(jets), _int64(n, "n"), _threads(threads)))


_Options = TypeVar("_Options")


def _options(options: _Options, **values: Any) -> _Options:
    for name, value in values.items():
        setattr(options, name, _float(value, name))
    return options


def _draws(seed: Any, first_jet: Any) -> _core.Draws:
    numbers = {"seed": _int64(seed, "seed"), "first_jet": _int64(first_jet, "first_jet")}
    for name, number in numbers.items():
        if number < 0:
            raise RinoError(f"{name} = {number}: give an integer from 0 to 2^63 - 1")
    return _core.Draws(**numbers)


def _threads(threads: Any) -> int:
    number = _int64(threads, "threads")
    if not 1 <= number < 2**31:
        raise RinoError(f"threads is {number}: give the number of threads, 1 or more")
    return number


def _given(name: str, seed: Any, *values: Any) -> bool:
    """Whether numbers were given and not a seed for them."""
    given = any(value is not None for value in values)
    if given == (seed is not None):
        state = "both are" if given else "neither is"
        raise RinoError(f"{name} or a seed to draw it: {state} given: give one of the two")
    return given


def _per_jet(values: ArrayLike, name: str, size: int) -> NDArray[np.float64]:
    array = to_float64(values, name)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != size):
        raise RinoError(f"{name} has shape {array.shape} for {size} jets: give one number, or one per jet")
    return np.broadcast_to(array, (size,))


class _Named:
    """The transform of these words."""

    def __init__(self, text: str) -> None:
        self.text = text
        _core.named(_core.Jets(), text, _core.Draws(0, 0), 1)  # are they sound?

    @property
    def turning(self) -> str | None:
        return self.text if _core.changes_frame(self.text) else None

    def __call__(self, jets: Jets, *, seed: int, first_jet: int = 0, threads: int = 1) -> Jets:
        return Jets._wrap(_core.named(_core_of(jets), self.text, _draws(seed, first_jet), _threads(threads)))

    def __repr__(self) -> str:
        return repr(self.text)


def _accepted(transform: Any, position: int) -> tuple[str, ...]:
    """Which of the arguments of a random transform it has."""
    if not callable(transform):
        raise RinoError(
            f"transform {position} is of type {type(transform).__name__}: give a function of jets, for example "
            "functools.partial(pyrino.smear, constant=0.05)"
        )
    try:
        parameters = inspect.signature(transform).parameters
    except ValueError:  # builtins may have none
        return ()
    return tuple(name for name in ("seed", "first_jet", "threads") if name in parameters)
