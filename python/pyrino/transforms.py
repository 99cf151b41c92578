"""Transforms of jets: augmentations, detector effects and boosts.

Every random transform takes a `seed`: what happens to jet j of a batch is a function of (seed, the transform,
first_jet + j), whatever the number of threads. A stream that is cut into batches differently gives the same jets where
`first_jet` counts those that went before. Labels, values per jet, origins and the constituents' extras ride along, as
they are: those that repeat kinematics, such as a file's own delta-eta, are of the jets before.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
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

#: What parameters are that all transforms share.
_SHARED = {
    "jets": "The jets.",
    "seed": "From 0 to 2^63 - 1.",
    "first_jet": "Number of the batch's first jet in the stream.",
    "threads": "Number of threads.",
}

#: Their types in words, where an annotation is none.
_TYPES = {"ArrayLike | None": "array_like, optional", "int | None": "int, optional"}

#: Stands for the default that C++ has.
_ITS: Any = object()

#: How the numbers of each transform are read.
_READ: dict[str, dict[str, Callable[[Any, str], float]]] = {}

_Transform = TypeVar("_Transform", bound=Callable[..., Jets])


def _documented(**meanings: str) -> Callable[[_Transform], _Transform]:
    """Give a transform the defaults of C++'s options, and its docstring their meanings and those of its own."""

    def documented(function: _Transform) -> _Transform:
        numbers = _core.transform_numbers(function.__name__)
        _READ[function.__name__] = {n.name: _int64 if isinstance(n.value, int) else _float for n in numbers}
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        known = {**_SHARED, **meanings}
        for number in numbers:
            if number.name in defaults:
                defaults[number.name] = number.value
            unit = f" [{number.unit}]" if number.unit else ""
            known[number.name] = f"{number.meaning[:1].upper()}{number.meaning[1:]}{unit}."
        section = "Parameters\n----------\n"
        for name, parameter in inspect.signature(function).parameters.items():
            text = textwrap.indent(textwrap.fill(known[name], 112), "    ")
            section += f"{name} : {_TYPES.get(parameter.annotation, parameter.annotation)}\n{text}\n"
        if function.__doc__:  # python -OO has none
            function.__doc__ = inspect.cleandoc(function.__doc__).replace("\nRaises\n", f"\n{section}\nRaises\n")
        return function

    return documented


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
            jets = transform(jets, **{name: value for name, value in given.items() if name in accepted})
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
            function: Any = getattr(transform, "func", transform)
            name = getattr(function, "__name__", "")
            if isinstance(transform, (Augmentation, _Named)):
                turns = transform.turning is not None
            elif name in _READ and function is globals()[name]:
                turns = _core.changes_frame(_words(name, getattr(transform, "keywords", {})))
            else:
                turns = False
            if turns:
                return getattr(function, "__name__", repr(transform).strip("'"))
        return None

    def __repr__(self) -> str:
        return f"Augmentation([{', '.join(getattr(t, '__name__', repr(t)) for t in self.transforms)}])"


@_documented()
def smear(
    jets: Jets,
    *,
    seed: int,
    stochastic: float = _ITS,
    constant: float = _ITS,
    eta: float = _ITS,
    phi: float = _ITS,
    soft: float = _ITS,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Constituents with the resolution of a detector in pT, eta and phi; their masses stay.

    pT is multiplied by a log-normal number of mean 1 and standard deviation sigma(pT)/pT, which is normal where that is
    small and leaves pT above 0 where it is not; directions get normal noise. Constituents keep their order.

    Raises
    ------
    RinoError
        If a number is negative or not finite, or an angular resolution above pi.
    """
    numbers = {"stochastic": stochastic, "constant": constant, "eta": eta, "phi": phi, "soft": soft}
    return _drawn("smear", jets, numbers, seed, first_jet, threads)


@_documented(
    angle="In radians, one for all or (n,) one per jet.",
    seed="From 0 to 2^63 - 1, in place of `angle`: angles are uniform in [0, 2 pi).",
)
def rotate(
    jets: Jets, angle: ArrayLike | None = None, *, seed: int | None = None, first_jet: int = 0, threads: int = 1
) -> Jets:
    """Constituents rotated around their jet's axis in the (rapidity, phi) plane; each keeps its pT and mass.

    All distances in the plane, those of the clustering, stay. The jet's mass does to first order in them only: this is
    no Lorentz transformation (JetCLR, arXiv:2108.04253, with pseudorapidity, the same for massless constituents).

    Raises
    ------
    RinoError
        Unless one of `angle` and `seed` is given, or if an angle is not finite.
    """
    core = _core_of(jets)
    if _given("angle", seed, angle) and angle is not None:
        return Jets._wrap(_core.rotate(core, _per_jet(angle, "angle", len(jets)), _threads(threads)))
    return _drawn("rotate", jets, {}, seed, first_jet, threads)


@_documented(
    rapidity="Shift, one for all or (n,) one per jet; 0 where it is left out and `phi` is not.",
    phi="Shift in radians, one for all or (n,) one per jet; 0 where it is left out and `rapidity` is not.",
    seed="From 0 to 2^63 - 1, in place of the shifts: they are uniform in [-max_rapidity, max_rapidity] x "
    "[-max_phi, max_phi].",
)
def translate(
    jets: Jets,
    rapidity: ArrayLike | None = None,
    phi: ArrayLike | None = None,
    *,
    seed: int | None = None,
    max_rapidity: float = _ITS,
    max_phi: float = _ITS,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Jets moved as a whole in the (rapidity, phi) plane: boosted along the beam and rotated around it.

    Every pT, every mass and all distances in the plane stay. (JetCLR, arXiv:2108.04253, shifts pseudorapidities, which
    is the same for massless constituents and changes the masses of jets of massive ones.)

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
    return _drawn("translate", jets, {"max_rapidity": max_rapidity, "max_phi": max_phi}, seed, first_jet, threads)


@_documented(
    rapidity="The shift, one for all or (n,) one per jet.",
    seed="From 0 to 2^63 - 1, in place of `rapidity`: shifts are uniform in [-max_rapidity, max_rapidity].",
)
def boost_along_beam(
    jets: Jets,
    rapidity: ArrayLike | None = None,
    *,
    seed: int | None = None,
    max_rapidity: float = _ITS,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Jets boosted along the beam: rapidities are shifted; every pT, azimuth and mass stays.

    Raises
    ------
    RinoError
        Unless one of `rapidity` and `seed` is given, or if a number is not finite or the bound negative.
    """
    core = _core_of(jets)
    if _given("rapidity", seed, rapidity) and rapidity is not None:
        return Jets._wrap(_core.boost_along_beam(core, _per_jet(rapidity, "rapidity", len(jets)), _threads(threads)))
    return _drawn("boost_along_beam", jets, {"max_rapidity": max_rapidity}, seed, first_jet, threads)


@_documented(
    factor="Of the jet's pT, above 0; one for all or (n,) one per jet.",
    seed="From 0 to 2^63 - 1, in place of `factor`: the factors' logarithms are uniform between those of the bounds.",
)
def boost_jet(
    jets: Jets,
    factor: ArrayLike | None = None,
    *,
    seed: int | None = None,
    min_factor: float = _ITS,
    max_factor: float = _ITS,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Every jet boosted along its own axis so that its pT is multiplied by a factor; its mass and direction stay.

    Raises
    ------
    RinoError
        Unless one of `factor` and `seed` is given, if a factor is not above 0 and finite, or a jet has no momentum.
    """
    core = _core_of(jets)
    if _given("factor", seed, factor) and factor is not None:
        return Jets._wrap(_core.boost_jet(core, _per_jet(factor, "factor", len(jets)), _threads(threads)))
    numbers = {"min_factor": min_factor, "max_factor": max_factor}
    return _drawn("boost_jet", jets, numbers, seed, first_jet, threads)


@_documented()
def boost_to_pt(jets: Jets, reference_pt: float, *, threads: int = 1) -> Jets:
    """Every jet boosted along its own axis to one transverse momentum in GeV; its mass and direction stay.

    Raises
    ------
    RinoError
        If `reference_pt` is not positive, or a jet cannot be boosted.
    """
    return _drawn("boost_to_pt", jets, {"reference_pt": reference_pt}, threads=threads)


@_documented()
def split_collinear(
    jets: Jets,
    *,
    seed: int,
    probability: float = _ITS,
    min_fraction: float = _ITS,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Random constituents split into two collinear ones of z and 1 - z of the whole four-momentum (JetCLR).

    The sum of the daughters is the parent to rounding; they stand in its place. Extras are copied to both: which of
    them are additive is not known here.

    Raises
    ------
    RinoError
        If a number is out of range.
    """
    numbers = {"probability": probability, "min_fraction": min_fraction}
    return _drawn("split_collinear", jets, numbers, seed, first_jet, threads)


@_documented()
def drop_soft(
    jets: Jets,
    *,
    seed: int,
    scale: float = _ITS,
    min_pt: float = _ITS,
    first_jet: int = 0,
    threads: int = 1,
) -> Jets:
    """Soft constituents lost at random, as a detector's efficiency falls (not the grooming called soft drop).

    Of a jet that would lose all, the hardest constituent stays.

    Raises
    ------
    RinoError
        If a number is negative or not finite.
    """
    return _drawn("drop_soft", jets, {"scale": scale, "min_pt": min_pt}, seed, first_jet, threads)


@_documented()
def mask_constituents(jets: Jets, fraction: float, *, seed: int, first_jet: int = 0, threads: int = 1) -> Jets:
    """A random part of every jet's constituents removed; at least one stays.

    Raises
    ------
    RinoError
        Unless the fraction is in [0, 1].
    """
    return _drawn("mask_constituents", jets, {"fraction": fraction}, seed, first_jet, threads)


@_documented()
def hardest(jets: Jets, n: int, *, threads: int = 1) -> Jets:
    """The n constituents of highest pT of every jet, in descending pT; all of a jet that has fewer.

    Raises
    ------
    RinoError
        If n is below 1.
    """
    return _drawn("hardest", jets, {"n": n}, threads=threads)


def _drawn(name: str, jets: Jets, numbers: dict[str, Any], seed: Any = 0, first_jet: Any = 0, threads: Any = 1) -> Jets:
    """Jets after the transform of this name, by these of its numbers."""
    read = {key: number(numbers[key], key) for key, number in _READ[name].items()}
    return Jets._wrap(_core.transform(_core_of(jets), name, read, _draws(seed, first_jet), _threads(threads)))


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


def _words(name: str, given: Mapping[str, Any]) -> str:
    """A transform with these arguments in words; a shift in rapidity that is given counts as one that is drawn."""
    numbers = {number.name: given.get(number.name, number.value) for number in _core.transform_numbers(name)}
    if name == "translate" and given.get("rapidity") is not None:
        numbers["max_rapidity"] = 1.0
    return " ".join([name, *(f"{key}={float(value)!r}" for key, value in numbers.items())])


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


def _accepted(transform: Any, position: int) -> frozenset[str]:
    """The names of its arguments."""
    if not callable(transform):
        raise RinoError(
            f"transform {position} is of type {type(transform).__name__}: give a function of jets, for example "
            "functools.partial(pyrino.smear, constant=0.05)"
        )
    try:
        return frozenset(inspect.signature(transform).parameters)
    except ValueError:  # builtins may have none
        return frozenset()
