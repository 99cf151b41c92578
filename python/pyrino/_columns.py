"""Numbers on their way into `Jets`: arrays of the type that C++ reads, momenta in the components that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino.errors import RinoError

__all__ = [
    "awkward_column",
    "cartesian",
    "exactly_float64",
    "from_pt_eta_phi_mass",
    "offsets_of",
    "one_dimensional",
    "read_only",
    "to_float64",
    "to_int64",
]

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
        _not_negative(value[temporal[0]], "mass", offsets)
        momentum = np.hypot(np.hypot(px, py), pz)
        return [px, py, pz, np.hypot(momentum, value[temporal[0]])], used


def from_pt_eta_phi_mass(pt: Floats, eta: Floats, phi: Floats, mass: Floats, offsets: Integers) -> list[Floats]:
    """px, py, pz, E of constituents."""
    momentum, _ = cartesian({"pt": pt, "eta": eta, "phi": phi, "mass": mass}, offsets)
    return momentum


def _not_negative(values: Floats, name: str, offsets: Integers) -> None:
    wrong = np.flatnonzero(values < 0)
    if wrong.size:
        jet = int(np.searchsorted(offsets, wrong[0], side="right")) - 1
        raise RinoError(
            f"{name} of constituent {wrong[0] - offsets[jet]} of jet {jet} is {values[wrong[0]]} GeV; give 0 or more"
        )
