"""Jets from awkward arrays and back: the vector library's names, what is missing, what is padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino._columns import cartesian, offsets_of, place_of
from pyrino.errors import RinoError

if TYPE_CHECKING:
    import awkward as ak

    from pyrino.jets.jets import Jets

__all__ = ["awkward_jets", "constituents_of", "momentum_fields", "to_records"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Components under their names in the vector library, those of momenta: px and py, then pz, then E.
_MOMENTA = (
    ({"px": "px", "py": "py"}, {"pt": "pt", "phi": "phi"}),
    ({"pz": "pz"}, {"eta": "eta"}),
    ({"E": "E"}, {"e": "E"}, {"energy": "E"}, {"mass": "mass"}, {"m": "mass"}, {"M": "mass"}),
)
#: Under its generic names, which it gives to all it makes (`vector.zip`); others may call places so.
_GENERIC = (
    ({"x": "px", "y": "py"}, {"rho": "pt", "phi": "phi"}),
    ({"z": "pz"}, {"theta": "theta"}),
    ({"t": "E"}, {"tau": "mass"}),
)
#: All of them: what a record that is a vector may have, beside its momentum, under no such name.
VECTOR_NAMES = frozenset(name for group in (*_MOMENTA, *_GENERIC) for names in group for name in names)


def momentum_fields(fields: Iterable[str], record: str | None) -> dict[str, str]:
    """The fields of records that are components of momentum, with the names that `cartesian` knows.

    Generic names count in a record of the vector library or of coffea, which `record`, its name, tells.

    Raises
    ------
    RinoError
        Unless there is exactly one of px and py or pt and phi, one of pz or eta, one of E or mass.
    """
    present = list(fields)
    vector = record == "Momentum4D" or (record or "").endswith("LorentzVector")  # a Vector4D is a place
    found: dict[str, str] = {}
    for own, generic in zip(_MOMENTA, _GENERIC, strict=True):
        known = (*own, *generic) if vector else own
        candidates = [names for names in known if all(name in present for name in names)]
        if len(candidates) != 1:
            wanted = " or ".join(" and ".join(names) for names in known)
            state = "has more than one" if candidates else "has none"
            raise RinoError(f"the array has the fields {present} and {state} of {wanted}: give exactly one")
        found |= candidates[0]
    return found


def awkward_jets(array: ak.Array) -> tuple[list[Floats], Integers, dict[str, NDArray[Any]]]:
    """Momenta, offsets and extras of jets x var x records, as `constituents_of` gives them.

    Raises
    ------
    RinoError
        As `Jets.from_awkward`.
    """
    import awkward as ak

    try:
        array = ak.Array(array)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise RinoError(f"{type(array).__name__} is no awkward array ({error}): give jets x var x records") from error
    if array.ndim != 2 or not array.fields:
        raise RinoError(
            f"the awkward array is of type {array.type}: give jets x var x records "
            "with fields such as px, py, pz, E or pt, eta, phi, mass"
        )
    missing = np.flatnonzero(np.asarray(ak.is_none(array, axis=0)))
    if missing.size:
        raise RinoError(
            f"jet {missing[0]} of {len(array)} is missing (None): leave such jets out with their labels "
            "(awkward.drop_none), give none missing"
        )
    fields = momentum_fields(array.fields, ak.to_layout(array).purelist_parameter("__record__"))
    counts = ak.to_numpy(ak.num(array, axis=1), allow_missing=False)
    fixed = isinstance(ak.drop_none(array, axis=0).type.content, ak.types.RegularType)
    return constituents_of(ak.flatten(array, axis=1), counts, fields, fixed)


def constituents_of(
    records: Any, counts: NDArray[Any], fields: Mapping[str, str], fixed: bool
) -> tuple[list[Floats], Integers, dict[str, NDArray[Any]]]:
    """Momenta, offsets and extras of jets whose constituents are a flat awkward array of records.

    A constituent all momenta of which are missing (None), as a cut's mask leaves it, is not there. In jets of a fixed
    size neither is one of four zeros: it is padding.

    Parameters
    ----------
    records
        (t,) all constituents.
    counts
        (n,) of each jet.
    fields
        As `momentum_fields` gives them.
    fixed
        Whether all jets have equally many by their type.

    Returns
    -------
    momenta, offsets, extras
        px, py, pz, E of the constituents that are there, (n + 1,), and the other fields.

    Raises
    ------
    RinoError
        If a field is no number, missing where others are there, or what `cartesian` refuses.
    """
    import awkward as ak

    none = [np.asarray(ak.is_none(records[name])) for name in fields if _is_option(records[name])]
    if len(none) == len(fields):
        here = ~np.logical_and.reduce(none)
        if not here.all():
            records, counts = records[here], _kept(counts, here)
    offsets = offsets_of(counts)
    columns = {name: _awkward_column(records[name], f"the field '{name}'", offsets) for name in records.fields}
    momenta = cartesian({wanted: columns[name] for name, wanted in fields.items()}, offsets)
    extras = {name: column for name, column in columns.items() if name not in fields}
    if fixed:
        here = np.logical_or.reduce([component != 0 for component in momenta])
        if not here.all():
            momenta = [component[here] for component in momenta]
            extras = {name: column[here] for name, column in extras.items()}
            offsets = offsets_of(_kept(counts, here))
    return momenta, offsets, extras


def to_records(jets: Jets) -> ak.Array:
    """As `Jets.to_awkward`."""
    import awkward as ak

    taken = [name for name in jets.extras if name in VECTOR_NAMES]
    if taken:
        raise RinoError(
            f"the extra '{taken[0]}' would be taken for a part of the momentum in records of the vector library: "
            f"make the jets with another name of it, such as 'part_{taken[0]}'"
        )
    fields = {"px": jets.px, "py": jets.py, "pz": jets.pz, "E": jets.e} | dict(jets.extras)
    records = ak.contents.RecordArray(
        [ak.contents.NumpyArray(column) for column in fields.values()],
        list(fields),
        length=jets.n_constituents,
        parameters={"__record__": "Momentum4D"},
    )
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(jets.offsets), records))


def _kept(counts: NDArray[Any], here: NDArray[np.bool_]) -> Integers:
    """(n,) how many of each jet's constituents are there."""
    return np.diff(offsets_of(here)[offsets_of(counts)])


def _is_option(column: Any) -> bool:
    import awkward as ak

    return isinstance(column.type.content, ak.types.OptionType)


def _awkward_column(column: Any, name: str, offsets: Integers) -> NDArray[Any]:
    """A flat awkward array of numbers as NumPy, without a copy where it is contiguous."""
    import awkward as ak

    if _is_option(column):
        missing = np.flatnonzero(np.asarray(ak.is_none(column)))
        if missing.size:
            raise RinoError(
                f"{name} is of type {ak.type(column)} and None for {place_of(int(missing[0]), offsets)}, of which "
                "other fields are not: give one number per constituent, none missing"
            )
    try:
        values = ak.to_numpy(column, allow_missing=False)
    except (ValueError, TypeError) as error:
        raise RinoError(
            f"{name} is of type {ak.type(column)}: give one number per constituent, none missing"
        ) from error
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise RinoError(f"{name} is of type {ak.type(column)}: give one number per constituent")
    return values
