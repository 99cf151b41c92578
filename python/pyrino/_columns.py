"""Numbers on their way into `Jets`: arrays of the type that C++ reads, momenta in the components that it has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino import _core
from pyrino.errors import RinoError, RinoWarning, level_of_caller

__all__ = [
    "MASS_ROUNDING",
    "as_array",
    "below_momentum",
    "cartesian",
    "check_weights",
    "counts_kept",
    "energy_of",
    "exactly_float64",
    "from_pt_eta_phi_mass",
    "half_rounding",
    "not_below_momentum",
    "offsets_of",
    "one_dimensional",
    "place_of",
    "read_only",
    "to_float64",
    "to_int64",
    "unit_checked",
    "warn_of_mev",
]

#: Masses from minus this [GeV] to 0 count as 0: those of packed candidates are rounded.
MASS_ROUNDING: float = _core.Jets.mass_tolerance

#: Jets of higher pT [GeV] than the LHC's collisions have energy are in MeV, most likely.
_HIGHEST_PT = 14e3

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def as_array(values: Any, name: str, verb: str = "is") -> NDArray[Any]:
    """As NumPy has it, without a copy where it can be; nothing in it may be missing. `verb` goes with `name`.

    Raises
    ------
    RinoError
        If it is no array (lists of several lengths, a tensor with gradients), or an entry is masked or null: NumPy
        would take what lies below the mask. The message says which is the first.
    """
    try:
        missing = _missing(values)
        if missing is None or not missing.any():
            array = np.asarray(values)
            if array.dtype == object and hasattr(values, "dtypes"):  # pandas' nullable, side by side
                kinds = np.ravel(np.asarray(values.dtypes, dtype=object))
                array = array.astype(np.result_type(*(getattr(kind, "numpy_dtype", kind) for kind in kinds)))
            return array
    except (ValueError, TypeError, RuntimeError) as error:
        raise RinoError(f"{name} {verb} no array: {error}: give numbers of one shape") from error
    places = np.argwhere(missing)
    first = ", ".join(map(str, places[0].tolist()))
    raise RinoError(
        f"{name} {verb} masked or null in {len(places)} of {missing.size} entries, the first at [{first}]: leave "
        "out what they belong to, or fill them with numbers"
    )


#: In lists, what cannot have a mask.
_PLAIN = (int, float, str, np.generic, type(None))


def _missing(values: Any) -> NDArray[np.bool_] | None:
    """Which entries NumPy's masked arrays, Arrow, polars and pandas' nullable columns say are missing; None: none."""
    if isinstance(values, (list, tuple)):
        masks = [None if isinstance(part, _PLAIN) else _missing(part) for part in values]
        if all(mask is None for mask in masks):
            return None
        return np.array(
            [np.zeros(np.shape(part), bool) if m is None else m for part, m in zip(values, masks, strict=True)]
        )
    if isinstance(values, np.ma.MaskedArray):
        return None if values.dtype.names else np.ma.getmaskarray(values)
    nulls = getattr(values, "null_count", 0)  # a number of Arrow's, a method of polars'
    if nulls() if callable(nulls) else nulls:
        return np.asarray(values.is_null(), dtype=np.bool_)
    kinds = np.ravel(np.asarray(getattr(values, "dtypes", getattr(values, "dtype", None)), dtype=object))
    if hasattr(values, "isna") and not all(isinstance(kind, np.dtype) for kind in kinds):
        return np.asarray(values.isna(), dtype=np.bool_)
    return None


def to_float64(values: ArrayLike, name: str) -> Floats:
    """As float64 in memory that C++ can read, without a copy where it is."""
    array = as_array(values, name)
    if array.dtype.kind not in "fiub":
        raise RinoError(f"{name} is of type {array.dtype}: give real numbers")
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
            raise RinoError(f"{name} holds {value}, which float64 cannot hold exactly: give numbers up to 2^53")


def one_dimensional(values: ArrayLike, name: str) -> Floats:
    """As `to_float64`, of one dimension."""
    column = to_float64(values, name)
    if column.ndim != 1:
        raise RinoError(f"{name} has shape {column.shape}: give one dimension")
    return column


def to_int64(values: ArrayLike, name: str) -> Integers:
    """As contiguous int64 (n,), without a copy where it is; `name` is a plural for the error."""
    array = as_array(values, name, "are")
    if array.ndim != 1:
        raise RinoError(f"{name} have shape {array.shape}: give one dimension")
    if array.size and array.dtype.kind not in "iub":
        raise RinoError(f"{name} are of type {array.dtype}: give integers")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise RinoError(f"{name} go up to {array.max()}: give numbers below 2^63")
    return np.ascontiguousarray(array, dtype=np.int64)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to; the array itself stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def offsets_of(counts: NDArray[np.integer[Any] | np.bool_]) -> Integers:
    """(n + 1,) offsets of n jets from their numbers of constituents."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def counts_kept(keep: NDArray[np.bool_], offsets: Integers) -> Integers:
    """(n,) constituents left of each jet of those for which `keep` (t,) is true."""
    return np.diff(offsets_of(keep)[offsets])


#: E of particles whose components were rounded to half precision may be this share below |p|: half a unit in the last
#: place of each, or a whole one where they were cut off, and that of eta, by which |p| grows.
_HALF = 4 * float(np.finfo(np.float16).eps)


def half_rounding(*dtypes: np.dtype[Any]) -> float:
    """By what share of |p| the stored precision of momenta may leave E below it: 0 unless one is of half precision.

    What float32 leaves is less than `Jets` allows.
    """
    return _HALF if np.float16 in dtypes else 0.0


def not_below_momentum(px: Floats, py: Floats, pz: Floats, e: Floats, rounding: float) -> Floats:
    """E (t,) of momenta (t,), but |p| where E is below it by no more than a share of `rounding`."""
    with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
        momentum = np.hypot(np.hypot(px, py, dtype=np.float64), pz)
        return np.where((e < momentum) & (e >= momentum * (1 - rounding)), momentum, e)


def place_of(row: int, offsets: Integers) -> str:
    """In words, which constituent of which jet a row is."""
    jet = int(np.searchsorted(offsets, row, side="right")) - 1
    return f"constituent {row - offsets[jet]} of jet {jet}"


def cartesian(columns: Mapping[str, NDArray[Any]], offsets: Integers) -> list[Floats]:
    """px, py, pz, E from px and py or pt and phi; pz or eta or theta; E or mass.

    Where one is of half precision, E is not below |p| by its rounding.

    Raises
    ------
    RinoError
        If a pT is below 0, or a mass by more than `MASS_ROUNDING`.
    """
    value = {name: np.asarray(column).astype(np.float64, copy=False) for name, column in columns.items()}
    with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
        if "px" in value:
            px, py = value["px"], value["py"]
        else:
            _not_negative(value["pt"], "pT", offsets)
            px, py = value["pt"] * np.cos(value["phi"]), value["pt"] * np.sin(value["phi"])
        if "pz" in value:
            pz = value["pz"]
        else:
            slope = np.sinh(value["eta"]) if "eta" in value else 1 / np.tan(value["theta"])
            pz = np.hypot(px, py) * slope
        if "E" in value:
            rounding = half_rounding(*(np.asarray(column).dtype for column in columns.values()))
            return [px, py, pz, not_below_momentum(px, py, pz, value["E"], rounding) if rounding else value["E"]]
        _not_negative(value["mass"], "mass", offsets, -MASS_ROUNDING)
        return [px, py, pz, energy_of(px, py, pz, value["mass"])]


def energy_of(px: Floats, py: Floats, pz: Floats, mass: Floats) -> Floats:
    """E in GeV; masses that rounding made negative count as 0."""
    return np.hypot(np.hypot(np.hypot(px, py), pz), np.maximum(mass, 0))


def from_pt_eta_phi_mass(pt: Floats, eta: Floats, phi: Floats, mass: Floats, offsets: Integers) -> list[Floats]:
    """px, py, pz, E of constituents."""
    return cartesian({"pt": pt, "eta": eta, "phi": phi, "mass": mass}, offsets)


def below_momentum(e: Floats, momentum: Floats) -> NDArray[np.bool_]:
    """(t,) whether an energy is below the momentum |p| by more than rounding leaves, or NaN: as C++ has it."""
    with np.errstate(all="ignore"):
        soft = (e >= 0) & ((momentum - e) * (momentum + e) <= MASS_ROUNDING**2)
        return ~((e >= momentum * (1 - _core.Jets.energy_tolerance)) | soft)


def unit_checked(core: _core.Jets) -> _core.Jets:
    """Jets as they are given; a `RinoWarning` to whoever gave them if they look like MeV."""
    warn_of_mev(core.pt(), "divide px, py, pz and E (or pt and mass) by 1000", stacklevel=level_of_caller() + 1)
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
        rounding = f" (from {least:g} on it counts as 0)" if least else ""
        raise RinoError(
            f"{name} of {place_of(int(wrong[0]), offsets)} is {values[wrong[0]]} GeV: give 0 or more{rounding}"
        )


def check_weights(
    weights: ArrayLike, n: int, groups: NDArray[Any] | None = None, what: str = "weights"
) -> NDArray[np.float64]:
    """How much each of `n` jets counts, as float64 (n,).

    Raises
    ------
    RinoError
        If there is not one per jet, one is negative or not finite, or all are 0: of a group, where `groups` (n,) says
        which jet is of which.
    """
    w = to_float64(weights, what)
    if w.shape != (n,):
        raise RinoError(f"{what} have shape {w.shape} for {n} jets: give one per jet")
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if bad.size:
        raise RinoError(
            f"{what}[{bad[0]}] = {w[bad[0]]} is negative or not finite; efficiencies need weights of 0 or more: "
            "leave such jets out, or set their weight to 0"
        )
    for group in [None] if groups is None else np.unique(groups):
        if not (w if group is None else w[groups == group]).sum() > 0:
            of = "" if group is None else f" of label {int(group)}"
            raise RinoError(f"all {what}{of} are 0, so that no jet counts: give some above 0")
    return w
