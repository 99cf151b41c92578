"""Numbers on their way into `Jets`: arrays of the type that C++ reads, momenta in the components that it has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino import _core
from pyrino.errors import RinoError, RinoWarning

__all__ = [
    "MASS_ROUNDING",
    "awkward_column",
    "below_momentum",
    "cartesian",
    "energy_of",
    "exactly_float64",
    "from_pt_eta_phi_mass",
    "offsets_of",
    "one_dimensional",
    "read_only",
    "to_float64",
    "to_int64",
    "unit_checked",
    "warn_of_mev",
    "without_masked",
]

#: Masses from minus this [GeV] to 0 count as 0: those of packed candidates are rounded.
MASS_ROUNDING: float = _core.Jets.mass_tolerance

#: Jets of higher pT [GeV] than the LHC's collisions have energy are in MeV, most likely.
_HIGHEST_PT = 14e3

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def to_float64(values: ArrayLike, name: str) -> Floats:
    """As float64 in memory that C++ can read, without a copy where it is."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RinoError(f"{name} is no array: {error}; give numbers of one shape") from error
    if array.dtype.kind not in "fiub":
        raise RinoError(f"{name} is of type {array.dtype}; give real numbers")
    exactly_float64(array, name)
    with np.errstate(invalid="ignore"):  # a NaN is named later
        array = array.astype(np.float64, copy=False)
    steps = all(stride % array.itemsize == 0 for stride in array.strides)
    return array if array.flags.aligned and steps else array.copy()


def exactly_float64(array: NDArray[Any], name: str) -> None:
    """Raise `RinoError` for integers that float64 cannot hold: rounded, they would match other events."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        least, most = int(array.min()), int(array.max())
        if max(-least, most) > 2**53:
            value = most if most > 2**53 else least
            raise RinoError(f"{name} holds {value}, which float64 cannot hold exactly; give numbers up to 2^53")


def one_dimensional(values: ArrayLike, name: str) -> Floats:
    """As `to_float64`, of one dimension."""
    column = to_float64(values, name)
    if column.ndim != 1:
        raise RinoError(f"{name} has shape {column.shape}; give one dimension")
    return column


def to_int64(values: ArrayLike, name: str) -> Integers:
    """As contiguous int64 (n,), without a copy where it is; `name` is a plural for the error."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RinoError(f"{name} are no array: {error}; give integers") from error
    if array.ndim != 1:
        raise RinoError(f"{name} have shape {array.shape}; give one dimension")
    if array.size and array.dtype.kind not in "iub":
        raise RinoError(f"{name} are of type {array.dtype}; give integers")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise RinoError(f"{name} go up to {array.max()}; give numbers below 2^63")
    return np.ascontiguousarray(array, dtype=np.int64)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to; the array itself stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def offsets_of(counts: NDArray[np.integer[Any]]) -> Integers:
    """(n + 1,) offsets of n jets from their numbers of constituents."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def awkward_column(column: Any, name: str) -> NDArray[Any]:
    """A flat awkward array of numbers as NumPy, without a copy where it is contiguous."""
    import awkward as ak

    try:
        values = ak.to_numpy(column, allow_missing=False)
    except (ValueError, TypeError) as error:
        raise RinoError(
            f"{name} is of type {ak.type(column)}; give one number per constituent, none missing"
        ) from error
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise RinoError(f"{name} is of type {ak.type(column)}; give one number per constituent")
    return values


def without_masked(flat: Any, counts: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
    """Constituents of jets of so many each, without those that are missing as a whole: a cut has masked them.

    Parameters
    ----------
    flat : awkward.Array
        (t,) records.
    counts : numpy.ndarray
        (n,) of each jet.
    """
    import awkward as ak

    masked = np.logical_and.reduce([np.asarray(ak.is_none(flat[name])) for name in flat.fields])
    if not masked.any():
        return flat, counts
    before = offsets_of(~masked)
    return flat[~masked], np.diff(before[offsets_of(counts)])


#: How the vector library calls the temporal component.
_ENERGY = ("E", "e", "energy")
_MASS = ("mass", "m", "M")


def cartesian(columns: Mapping[str, NDArray[Any]], offsets: Integers) -> tuple[list[Floats], set[str]]:
    """px, py, pz, E from fields under any of their names, and the names that were used."""

    def one_of(*alternatives: tuple[str, ...]) -> tuple[str, ...]:
        found = [names for names in alternatives if all(name in columns for name in names)]
        if len(found) != 1:
            wanted = " or ".join(" and ".join(names) for names in alternatives)
            state = "has none" if not found else "has more than one"
            raise RinoError(f"the array has the fields {list(columns)} and {state} of {wanted}; give exactly one")
        return found[0]

    transverse = one_of(("px", "py"), ("pt", "phi"))
    longitudinal = one_of(("pz",), ("eta",))
    temporal = one_of(*((name,) for name in (*_ENERGY, *_MASS)))
    used = {*transverse, *longitudinal, *temporal}
    value = {name: np.asarray(columns[name]).astype(np.float64, copy=False) for name in used}
    with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
        if transverse == ("px", "py"):
            px, py = value["px"], value["py"]
        else:
            _not_negative(value["pt"], "pT", offsets)
            px, py = value["pt"] * np.cos(value["phi"]), value["pt"] * np.sin(value["phi"])
        pz = value["pz"] if longitudinal == ("pz",) else np.hypot(px, py) * np.sinh(value["eta"])
        if temporal[0] in _ENERGY:
            return [px, py, pz, value[temporal[0]]], used
        _not_negative(value[temporal[0]], "mass", offsets, -MASS_ROUNDING)
        return [px, py, pz, energy_of(px, py, pz, value[temporal[0]])], used


def energy_of(px: Floats, py: Floats, pz: Floats, mass: Floats) -> Floats:
    """E in GeV; masses that rounding made negative count as 0."""
    return np.hypot(np.hypot(np.hypot(px, py), pz), np.maximum(mass, 0))


def from_pt_eta_phi_mass(pt: Floats, eta: Floats, phi: Floats, mass: Floats, offsets: Integers) -> list[Floats]:
    """px, py, pz, E of constituents."""
    momentum, _ = cartesian({"pt": pt, "eta": eta, "phi": phi, "mass": mass}, offsets)
    return momentum


def below_momentum(e: Floats, momentum: Floats) -> NDArray[np.bool_]:
    """(t,) whether an energy is below the momentum |p| by more than rounding leaves, or NaN: as C++ has it."""
    with np.errstate(all="ignore"):
        soft = (e >= 0) & ((momentum - e) * (momentum + e) <= MASS_ROUNDING**2)
        return ~((e >= momentum * (1 - _core.Jets.energy_tolerance)) | soft)


def unit_checked(core: _core.Jets) -> _core.Jets:
    """Jets as they are given; a `RinoWarning` to whoever gave them if they look like MeV."""
    warn_of_mev(core.pt(), "divide px, py, pz and E (or pt and mass) by 1000", stacklevel=4)
    return core


def warn_of_mev(pt: Floats, remedy: str, where: str = "", numbers: Integers | None = None, stacklevel: int = 2) -> None:
    """A `RinoWarning` if jets have more pT than any collision could give them.

    Parameters
    ----------
    pt
        (n,) of the jets, as if in GeV.
    remedy, where
        What helps, and in which file they are.
    numbers
        (n,) of the jets there; None: 0 to n - 1.
    """
    wrong = np.flatnonzero(pt > _HIGHEST_PT)
    if wrong.size:
        first = wrong[0]
        warnings.warn(
            f"{where}jet {first if numbers is None else numbers[first]} has pT = {pt[first]:.6g} GeV, more than the "
            f"LHC's collisions have energy ({_HIGHEST_PT:g} GeV): are the momenta in MeV? Then {remedy}",
            RinoWarning,
            stacklevel=stacklevel,
        )


def _not_negative(values: Floats, name: str, offsets: Integers, least: float = 0) -> None:
    wrong = np.flatnonzero(values < least)
    if wrong.size:
        jet = int(np.searchsorted(offsets, wrong[0], side="right")) - 1
        rounding = f" (from {least:g} on it counts as 0)" if least else ""
        raise RinoError(
            f"{name} of constituent {wrong[0] - offsets[jet]} of jet {jet} is {values[wrong[0]]} GeV; "
            f"give 0 or more{rounding}"
        )
