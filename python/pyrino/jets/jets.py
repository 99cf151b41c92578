"""`Jets`: a batch of jets, their constituents' four-momenta in GeV, ragged, with labels and extras."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrino import _core
from pyrino._arguments import checked
from pyrino._columns import (
    as_array,
    from_pt_eta_phi_mass,
    half_rounding,
    not_below_momentum,
    offsets_of,
    one_dimensional,
    read_only,
    to_float64,
    to_int64,
    unit_checked,
)
from pyrino.errors import RinoError
from pyrino.jets.awkward import awkward_jets, to_records
from pyrino.jets.constituents import Constituents
from pyrino.jets.origins import Origins
from pyrino.jets.sketch import as_html, draw, summary

if TYPE_CHECKING:
    import awkward as ak
    from matplotlib.figure import Figure

__all__ = ["Jets"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
#: None where there are none; who has labelled jets, or jets of files, need not look. Named as typeshed does.
MaybeNone: TypeAlias = Any
#: In the class below `_core` is an attribute.
_Core = _core.Jets


class Jets:
    """A batch of n jets with T constituents in all; jet j has the rows ``offsets[j]`` to ``offsets[j + 1] - 1``.

    Jets never change after they were made. All arrays they hand out are read-only.

    Parameters
    ----------
    p4 : array_like
        (T, 4) px, py, pz, E of the constituents in GeV. A float64 array is not copied, whatever its strides
        (row order, column order, slices), so it must not be written to afterwards; everything else is converted. Of
        float16, E becomes the momentum where rounding left it below by a relative 4e-3 or less.
    offsets : array_like of int
        (n + 1,) from 0 to T, increasing: every jet has one or more constituents. An int64 array is not copied.
    labels : array_like of int, optional
        (n,) class numbers, 0 or more.
    extras : mapping of str to array_like, optional
        Further columns by name, one value per constituent: (T,) each, stored as float64.

    Raises
    ------
    RinoError
        If a shape or type does not fit, a momentum is not finite, an energy is below the momentum by more than a
        relative 1e-5 (rounding of float32 leaves less) and a mass of -5 MeV (that of packed candidates), offsets,
        labels or extras are not as above, or anything is masked (`numpy.ma`) or null. The message names the jet and the
        constituent.

    Examples
    --------
    >>> import numpy as np, pyrino as rino
    >>> p4 = np.array([[30.0, 0, 40, 50], [3, 4, 0, 5], [0, 8, 6, 10]])
    >>> jets = rino.Jets(p4, [0, 2, 3])
    >>> len(jets), jets.pt, jets[1].constituents.pt
    (2, array([33.24154028,  8.        ]), array([8.]))
    """

    __slots__ = ("_core", "_extras", "_offsets", "_p4", "_values")

    _core: _Core
    _offsets: Integers | None
    _p4: Floats | None
    _extras: Mapping[str, Floats] | None
    _values: Mapping[str, Floats] | None

    def __init__(
        self,
        p4: ArrayLike,
        offsets: ArrayLike,
        labels: ArrayLike | None = None,
        extras: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        given = as_array(p4, "p4")
        momenta = to_float64(given, "p4")
        if momenta.ndim != 2 or momenta.shape[1] != 4:
            raise RinoError(f"p4 has shape {momenta.shape}: give (T, 4) = px, py, pz, E in GeV")
        rounding = half_rounding(given.dtype)
        if rounding:  # then it is a copy
            px, py, pz, e = momenta.T
            momenta[:, 3] = not_below_momentum(px, py, pz, e, rounding)
        bounds = to_int64(offsets, "offsets")
        self._set(_complete(unit_checked(_core.Jets.from_p4(momenta, bounds)), labels, extras), read_only(momenta))
        # The copy that C++ keeps of the offsets is for its own safety; Python shows the array that was given.
        if isinstance(offsets, np.ndarray) and np.may_share_memory(bounds, offsets):
            self._offsets = read_only(bounds)

    def _set(self, core: _Core, p4: Floats | None) -> None:
        self._core = core
        self._p4 = p4
        self._offsets = self._extras = self._values = None

    @classmethod
    def _wrap(cls, core: _Core, p4: Floats | None = None) -> Jets:
        """The face of jets that C++ made; nothing is copied. `p4`, where given, is what `core` looks at."""
        jets = cls.__new__(cls)
        jets._set(core, p4)
        return jets

    def _slice(self, first: int, last: int) -> Jets:
        p4 = None if self._p4 is None else self._p4[self.offsets[first] : self.offsets[last]]
        return Jets._wrap(self._core.slice(first, last), p4)

    @classmethod
    def from_columns(
        cls,
        px: ArrayLike,
        py: ArrayLike,
        pz: ArrayLike,
        e: ArrayLike,
        offsets: ArrayLike,
        labels: ArrayLike | None = None,
        extras: Mapping[str, ArrayLike] | None = None,
    ) -> Jets:
        """Jets from one array per component, (T,) each in GeV; float64 arrays are not copied.

        Raises
        ------
        RinoError
            As `Jets` does.
        """
        names = ("px", "py", "pz", "E")
        given = [as_array(column, name) for column, name in zip((px, py, pz, e), names, strict=True)]
        columns = [to_float64(column, name) for column, name in zip(given, names, strict=True)]
        shapes = {column.shape for column in columns}
        if len(shapes) != 1 or columns[0].ndim != 1:
            raise RinoError(f"px, py, pz and E have shapes {[c.shape for c in columns]}: give four of one shape (T,)")
        rounding = half_rounding(*(column.dtype for column in given))
        if rounding:
            columns[3] = not_below_momentum(columns[0], columns[1], columns[2], columns[3], rounding)
        core = unit_checked(_core.Jets.from_columns(columns, to_int64(offsets, "offsets")))
        return cls._wrap(_complete(core, labels, extras))

    @classmethod
    def from_awkward(cls, array: ak.Array, labels: ArrayLike | None = None) -> Jets:
        """Jets from an awkward array of records: n jets x variable x {momentum fields, extras}.

        Parameters
        ----------
        array : awkward.Array
            Records with ``px, py`` or ``pt, phi``; ``pz`` or ``eta``; ``E`` (or ``e, energy``) or ``mass`` (or
            ``m, M``), in GeV and radians: the field names of the vector library. Its own records (`vector.zip`) and
            coffea's may have its generic names: ``x, y`` or ``rho, phi``; ``z``, ``eta`` or ``theta``; ``t`` or
            ``tau``. All other fields become extras. Four contiguous float64 columns px, py, pz, E are not copied.
            Constituents that are missing (None), as a cut's mask leaves them, are left out; so are, from jets that
            have equally many by their type (``n * 30 * {...}``), those of four zeros, which are padding.
        labels : array_like of int, optional
            (n,) class numbers.

        Raises
        ------
        RinoError
            If fields are missing or ambiguous, hold something else than one number per constituent, or `Jets`
            would not take the numbers.
        """
        (px, py, pz, e), offsets, extras = awkward_jets(array)
        return cls.from_columns(px, py, pz, e, offsets, labels, extras)

    @classmethod
    def from_numpy(
        cls,
        padded: ArrayLike,
        mask: ArrayLike,
        coordinates: str = "pxpypze",
        labels: ArrayLike | None = None,
        extras: Mapping[str, ArrayLike] | None = None,
    ) -> Jets:
        """Jets from padded arrays and a mask, as networks have them.

        Parameters
        ----------
        padded : array_like
            (n, N, 4) in the order that `coordinates` says, GeV and radians. Padding may hold anything.
        mask : array_like of bool
            (n, N) true where a constituent is.
        coordinates : {"pxpypze", "ptetaphim"}
            px, py, pz, E, or pT, eta, phi, mass.
        labels : array_like of int, optional
            (n,) class numbers.
        extras : mapping of str to array_like, optional
            (n, N) each.

        Raises
        ------
        RinoError
            If shapes do not fit, the mask is not of type bool, the coordinates are not known, or `Jets` would not
            take the numbers.
        """
        chosen = as_array(mask, "the mask")
        if chosen.dtype != np.bool_:
            raise RinoError(f"the mask is of type {chosen.dtype}: give bool, true where a constituent is (mask > 0)")
        array = padded if isinstance(padded, np.ma.MaskedArray) else as_array(padded, "padded")
        if array.ndim != 3 or array.shape[2] != 4:
            raise RinoError(f"padded has shape {array.shape}: give (n, N, 4)")
        if chosen.shape != array.shape[:2]:
            raise RinoError(f"the mask has shape {chosen.shape} for padded {array.shape}: give {array.shape[:2]}")
        offsets = offsets_of(chosen.sum(axis=1))
        rows: Any = array[chosen]  # padding may be masked
        kind = coordinates.lower() if isinstance(coordinates, str) else coordinates
        if kind == "ptetaphim":
            pt, eta, phi, mass = to_float64(rows, "padded").T
            rows = np.stack(from_pt_eta_phi_mass(pt, eta, phi, mass, offsets), axis=1)
        elif kind != "pxpypze":
            raise RinoError(f"coordinates = {coordinates!r} is not known: choose 'pxpypze' or 'ptetaphim'")
        more = {}
        for name, column in _columns(extras).items():
            if not isinstance(column, np.ma.MaskedArray):
                column = as_array(column, f"the extra '{name}'")
            if column.shape != chosen.shape:
                raise RinoError(f"the extra '{name}' has shape {column.shape}: give {chosen.shape}, as the mask")
            more[name] = column[chosen]
        return cls(rows, offsets, labels, more)

    @classmethod
    @checked
    def from_pseudojets(cls, jets: Iterable[Iterable[Any]], labels: ArrayLike | None = None) -> Jets:
        """Jets from one list of `fastjet.PseudoJet` (anything with px(), py(), pz(), E()) per jet, in GeV.

        Raises
        ------
        RinoError
            If an item is no PseudoJet, or `Jets` would not take the numbers.
        """
        rows: list[tuple[float, float, float, float]] = []
        offsets = [0]
        for j, jet in enumerate(jets):
            if not isinstance(jet, Iterable):
                raise RinoError(f"jet {j} is of type {type(jet).__name__}: give one list of fastjet.PseudoJet per jet")
            for i, p in enumerate(jet):
                try:
                    rows.append((p.px(), p.py(), p.pz(), p.E()))
                except (AttributeError, TypeError) as error:
                    raise RinoError(
                        f"constituent {i} of jet {j} is of type {type(p).__name__}: give fastjet.PseudoJet"
                    ) from error
            offsets.append(len(rows))
        return cls(np.asarray(rows, dtype=np.float64).reshape(-1, 4), offsets, labels)

    @staticmethod
    @checked
    def concatenate(parts: Iterable[Jets]) -> Jets:
        """The jets of all parts one behind the other, copied. Origins stay where all parts have them.

        Raises
        ------
        RinoError
            If there is no part, or some have labels, extras or values that others have not.
        """
        cores = []
        for i, part in enumerate(parts):
            if not isinstance(part, Jets):
                raise RinoError(f"part {i} is of type {type(part).__name__}: give Jets")
            cores.append(part._core)
        return Jets._wrap(_core.Jets.concatenate(cores))

    # --- what they hold ---

    @property
    def p4(self) -> Floats:
        """(T, 4) px, py, pz, E of the constituents in GeV.

        Never a copy of what `Jets` was made from. Jets that C++ made (views, selections) keep one array per
        component; those are put together at the first call.
        """
        if self._p4 is None:
            self._p4 = self._core.p4()
        return self._p4

    @property
    def offsets(self) -> Integers:
        """(n + 1,) the constituents of jet j are the rows ``offsets[j]`` to ``offsets[j + 1] - 1``; not a copy."""
        if self._offsets is None:
            self._offsets = self._core.offsets()
        return self._offsets

    @property
    def px(self) -> Floats:
        """(T,) px of the constituents in GeV; not a copy, as py, pz and e."""
        return self._core.px()

    @property
    def py(self) -> Floats:
        """(T,) py of the constituents in GeV."""
        return self._core.py()

    @property
    def pz(self) -> Floats:
        """(T,) pz of the constituents in GeV."""
        return self._core.pz()

    @property
    def e(self) -> Floats:
        """(T,) energy of the constituents in GeV."""
        return self._core.e()

    @property
    def labels(self) -> Integers | MaybeNone:
        """(n,) class numbers, or None."""
        return self._core.labels()

    @property
    def extras(self) -> Mapping[str, Floats]:
        """Further columns by name, (T,) each; read-only."""
        if self._extras is None:
            self._extras = MappingProxyType(self._core.extras())
        return self._extras

    @property
    def values(self) -> Mapping[str, Floats]:
        """Further columns by name with one value per jet, (n,) each; read-only."""
        if self._values is None:
            self._values = MappingProxyType(self._core.values())
        return self._values

    @property
    def origins(self) -> Origins | MaybeNone:
        """File and entry that each jet was read from; they stay with it through selections, views and transforms."""
        found = self._core.origins()
        return None if found is None else Origins(tuple(found[0]), *found[1:])

    def with_labels(self, labels: ArrayLike) -> Jets:
        """The same jets with these labels, (n,).

        Raises
        ------
        RinoError
            Unless there is one integer per jet, none negative.
        """
        return Jets._wrap(_complete(self._core, labels, None), self._p4)

    @checked
    def with_extra(self, name: str, values: ArrayLike) -> Jets:
        """The same jets with one more column of extras, (T,).

        Raises
        ------
        RinoError
            Unless there is one number per constituent.
        """
        return Jets._wrap(_complete(self._core, None, {name: values}), self._p4)

    @checked
    def with_value(self, name: str, values: ArrayLike) -> Jets:
        """The same jets with one more value per jet, (n,).

        Raises
        ------
        RinoError
            Unless there is one number per jet.
        """
        return Jets._wrap(self._core.with_value(name, one_dimensional(values, f"the value '{name}'")), self._p4)

    @checked
    def with_origins(self, files: Sequence[str], file: ArrayLike, entry: ArrayLike) -> Jets:
        """The same jets, each known as entry ``entry[j]`` of ``files[file[j]]``.

        Raises
        ------
        RinoError
            Unless there is one file and one entry per jet, both counted from 0.
        """
        core = self._core.with_origins([str(name) for name in files], to_int64(file, "file"), to_int64(entry, "entry"))
        return Jets._wrap(core, self._p4)

    # --- kinematics ---

    @property
    def n_constituents(self) -> int:
        """T, the number of constituents of all jets together."""
        return self._core.n_constituents

    @property
    def multiplicity(self) -> Integers:
        """(n,) number of constituents of each jet."""
        return np.diff(self.offsets)

    @property
    def four_momenta(self) -> Floats:
        """(n, 4) px, py, pz, E of the jets in GeV: the sums of their constituents (E-scheme)."""
        return self._core.four_momenta()

    @property
    def pt(self) -> Floats:
        """(n,) transverse momentum of the jets in GeV."""
        return self._core.pt()

    @property
    def eta(self) -> Floats:
        """(n,) pseudorapidity of the jets."""
        return self._core.eta()

    @property
    def phi(self) -> Floats:
        """(n,) azimuth of the jets in (-pi, pi]."""
        return self._core.phi()

    @property
    def mass(self) -> Floats:
        """(n,) invariant mass of the jets in GeV."""
        return self._core.mass()

    @property
    def rapidity(self) -> Floats:
        """(n,) rapidity of the jets."""
        return self._core.rapidity()

    @property
    def constituents(self) -> Constituents:
        """The constituents of all jets, with px, py, pz, e, pt, eta, phi, mass, rapidity: (T,) each."""
        return Constituents(self._core)

    # --- as a sequence ---

    def __len__(self) -> int:
        return len(self._core)

    @property
    def shape(self) -> tuple[int]:
        """(n,), as of an array of n jets."""
        return (len(self),)

    def __iter__(self) -> Iterator[Jets]:
        for j in range(len(self)):
            yield self[j]

    def __getitem__(self, index: int | slice | ArrayLike | tuple[Any, ...]) -> Jets:
        """One jet (a `Jets` of length 1), a slice, the jets of a boolean mask (n,), or those of an index array or list.

        A single jet and a slice of step 1 share the momenta, all else is copied. ``jets[index, ...]`` is the same, as
        for an array of one dimension, so that scikit-learn's ``train_test_split(jets, labels)`` gives `Jets`.

        Raises
        ------
        IndexError
            If a number is not in [-n, n).
        RinoError
            If a mask does not have n entries, or the index is of another kind.
        """
        n = len(self)
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:
            index = index[0]
        if isinstance(index, slice):
            start, stop, step = index.indices(n)
            if step == 1:
                return self._slice(start, max(start, stop))
            return Jets._wrap(self._core.select(np.arange(start, stop, step)))
        numbers = as_array(index, "the index") if not isinstance(index, tuple) else np.empty((0, 0))
        if numbers.size == 0 and numbers.ndim == 1 and numbers.dtype != np.bool_:
            numbers = numbers.astype(np.int64)
        if numbers.dtype == np.bool_:
            if numbers.shape != (n,):
                raise RinoError(f"the mask has shape {numbers.shape} for {n} jets: give one bool per jet")
            return Jets._wrap(self._core.select(np.flatnonzero(numbers)))
        if numbers.dtype.kind not in "iu" or numbers.ndim > 1:
            raise RinoError(
                f"jets cannot be indexed with {index!r}: give a number, a slice, a mask (n,) or an array of numbers"
            )
        wrong = np.flatnonzero((numbers < -n) | (numbers >= n))
        if wrong.size:
            raise IndexError(f"jet {numbers.flat[wrong[0]]} was asked for, of {n}; numbers run from {-n} to {n - 1}")
        numbers = numbers.astype(np.int64)
        numbers = np.where(numbers < 0, numbers + n, numbers)
        if numbers.ndim == 0:
            return self._slice(int(numbers), int(numbers) + 1)
        return Jets._wrap(self._core.select(numbers))

    def __eq__(self, other: object) -> bool:
        """Whether momenta, offsets, labels, extras and values are the same, number by number; origins may differ."""
        if not isinstance(other, Jets):
            return NotImplemented
        if not np.array_equal(self.offsets, other.offsets) or (self.labels is None) != (other.labels is None):
            return False
        if self.labels is not None and not np.array_equal(self.labels, other.labels):
            return False
        return (
            all(np.array_equal(getattr(self, c), getattr(other, c)) for c in ("px", "py", "pz", "e"))
            and _same_columns(self.extras, other.extras)
            and _same_columns(self.values, other.values)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Jets._wrap, (self._core,)

    # --- other containers ---

    def to_awkward(self) -> ak.Array:
        """n x var x {px, py, pz, E, extras}, records named ``Momentum4D`` as the vector library wants them.

        The labels are not in it: ``Jets.from_awkward(jets.to_awkward(), jets.labels)`` gives the same jets back.

        Raises
        ------
        RinoError
            If an extra has a name (``E, mass, eta, x`` ...) by which that library would take it for the momentum.
        """
        return to_records(self)

    def to_numpy(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Padded four-momenta (n, N, 4) in GeV with zeros as padding, and a mask (n, N), true where a constituent is.

        N is the highest multiplicity.
        """
        counts = self.multiplicity
        mask = np.arange(counts.max(initial=0)) < counts[:, None]
        padded = np.zeros((*mask.shape, 4))
        padded[mask] = self.p4
        return padded, mask

    # --- for the eye ---

    @checked
    def draw(self, resolutions: Sequence[Any] = (2, 8, "all"), radius: float = 0.8, algorithm: str = "kt") -> Figure:
        """One jet in the (eta, phi) plane at each resolution.

        Parameters
        ----------
        resolutions : sequence
            As `pyrino.ViewGenerator` takes them.
        radius : float
            R of the clustering distances.
        algorithm : str
            "kt", "cambridge" or "antikt".

        Returns
        -------
        matplotlib.figure.Figure
            One panel a resolution (see `pyrino.plots.draw_flow`); constituents have the colour of their subjet.

        Raises
        ------
        RinoError
            If this is not one jet, or an argument is out of range.
        """
        return draw(self, resolutions, radius, algorithm)

    def __repr__(self) -> str:
        return f"Jets({', '.join(f'{what}: {value}' for what, value in summary(self))})"

    def _repr_html_(self) -> str:
        return as_html(self)


def _complete(core: _core.Jets, labels: ArrayLike | None, extras: Mapping[str, ArrayLike] | None) -> _core.Jets:
    if labels is not None:
        core = core.with_labels(to_int64(labels, "labels"))
    for name, values in _columns(extras).items():
        core = core.with_extra(str(name), one_dimensional(values, f"the extra '{name}'"))
    return core


def _columns(extras: Mapping[str, ArrayLike] | None) -> Mapping[str, ArrayLike]:
    if extras is not None and not isinstance(extras, Mapping):
        raise RinoError(f"extras is of type {type(extras).__name__}: give a dict, name -> values")
    return extras or {}


def _same_columns(mine: Mapping[str, Floats], theirs: Mapping[str, Floats]) -> bool:
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine)
