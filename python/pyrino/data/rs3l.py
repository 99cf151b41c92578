"""HDF5: RS3L (zenodo 10633815, arXiv:2403.07066), every jet showered five times from the same partons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyrino._columns import not_below_momentum
from pyrino.data.chunk import Chunk, Labels, need, reading
from pyrino.data.hdf5 import Hdf5Reader
from pyrino.data.labels import labels_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = [
    "RS3L_CLASSES",
    "RS3L_VARIATIONS",
    "Rs3l",
    "Rs3lAll",
    "Rs3lFsrDown",
    "Rs3lFsrUp",
    "Rs3lHerwig",
    "Rs3lSeed",
]

#: Number of the variation -> name; FSR up is a renormalisation scale of final-state radiation divided by sqrt(2).
RS3L_VARIATIONS = ("nominal", "seed", "fsr_up", "fsr_down", "herwig")

#: Class number (the file's jet type) -> name; there is no 0.
RS3L_CLASSES = ("none", "q", "c", "b", "Hbb", "gqq", "gcc", "gbb", "ggg", "Wqq", "Zqq", "Zbb")

_JETS, _CANDIDATES = "singletons", "jet_pflow_cands"
_FEATURES = ("pt", "relpt", "eta", "phi", "dr", "e", "rele", "charge", "pdgid", "d0", "dz")
_KINEMATICS = {"jet_pt": 9, "jet_eta": 10, "jet_phi": 11, "jet_energy": 12}
_EXTRAS = ("charge", "pdgid", "d0", "dz")
_GROUP, _VARIATION = "rs3l_group", "rs3l_variation"

#: Jets by which the convention of a file is told, and how far its columns may disagree (float16 is 0.01 off).
_SAMPLE, _TOLERANCE = 64, 0.02


class Rs3l(Layout):
    """``singletons`` is [N, 5, K] with the jet type in column 0 and the jet's pt, eta, phi, energy (GeV) in 9 to 12;
    ``jet_pflow_cands`` is [N, 5, 11, M]: for each jet 11 rows pt, relpt, eta, phi, dr, e, rele, charge, pdgid, d0, dz,
    padded with zeros. Axis 1 is the variation: nominal Pythia, another seed, FSR up, FSR down, Herwig.

    Layout as understood from public readers and the authors' production scripts; the data set's own description was not
    at hand. Whether pt and e are in GeV or logarithms of it (as the production has them), and whether eta and phi are
    absolute or relative to the jet, the file tells: relpt, rele and dr follow from them in one way only. A file in
    which they follow in no way is refused. Momenta come from pt, eta, phi, e.

    This layout has the nominal jets. ``layout="rs3l:seed"``, ``"rs3l:fsr_up"``, ``"rs3l:fsr_down"`` and
    ``"rs3l:herwig"`` have the others, in the same order, so that entry i is the same partons in all. ``"rs3l:all"`` has
    all, those of the same partons side by side: entry 5 i + v. The columns ``rs3l_group`` (i) and ``rs3l_variation``
    (v, a number of `RS3L_VARIATIONS`) say which jets belong together.

    ``charge``, ``pdgid``, ``d0``, ``dz`` are as stored; columns of ``singletons`` that are not known are
    ``singletons_<number>``.
    """

    name, title, container = "rs3l", "RS3L: HDF5, re-simulated jets, the nominal ones", "HDF5"
    suffixes = (".h5", ".hdf5")
    #: The variation that is read; None: all.
    variation: ClassVar[int | None] = 0

    def recognise(self, file: Any) -> bool:
        return _JETS in file and _CANDIDATES in file

    def reader(self, source: Source, file: Any) -> Reader:
        need(source, [_JETS, _CANDIDATES], file.keys(), "data sets")
        jets: tuple[int, ...] = getattr(file[_JETS], "shape", ())
        candidates: tuple[int, ...] = getattr(file[_CANDIDATES], "shape", ())
        good = (
            len(jets) == 3 and jets[2] > max(_KINEMATICS.values()) and len(candidates) == 4
            and candidates[:2] == jets[:2] and candidates[2] >= len(_FEATURES)
        )  # fmt: skip
        if not good or any(file[name].dtype.kind not in "fiub" for name in (_JETS, _CANDIDATES)):
            raise RinoError(
                f"{source}: {_JETS} {jets} and {_CANDIDATES} {candidates} are not RS3L's layout: numbers of shapes "
                f"[N, 5, 13 or more] and [N, 5, {len(_FEATURES)}, M]"
            )
        if jets[1] <= (self.variation or 0):
            raise RinoError(
                f"{source} has {jets[1]} variations of each jet, not the one called {self.name}; they are, in order, "
                f"{', '.join(RS3L_VARIATIONS)}"
            )
        return _Reader(source, file, self.variation)


class _Other(Rs3l):
    def recognise(self, file: Any) -> bool:
        return False  # a file does not tell which of its variations is wanted: they are taken by name only


class Rs3lSeed(_Other):
    """The jets showered by Pythia with another seed."""

    name, title, variation = "rs3l:seed", "RS3L: Pythia with another seed", 1


class Rs3lFsrUp(_Other):
    """The jets with more final-state radiation."""

    name, title, variation = "rs3l:fsr_up", "RS3L: more final-state radiation", 2


class Rs3lFsrDown(_Other):
    """The jets with less final-state radiation."""

    name, title, variation = "rs3l:fsr_down", "RS3L: less final-state radiation", 3


class Rs3lHerwig(_Other):
    """The jets showered by Herwig."""

    name, title, variation = "rs3l:herwig", "RS3L: Herwig", 4


class Rs3lAll(_Other):
    """All variations, those of the same partons side by side."""

    name, title, variation = "rs3l:all", "RS3L: all variations side by side", None


class _Reader(Hdf5Reader):
    def __init__(self, source: Source, file: Any, variation: int | None) -> None:
        super().__init__(source, file, file[_CANDIDATES])
        self._jets, self._candidates = file[_JETS], file[_CANDIDATES]
        self._variations = range(self._jets.shape[1]) if variation is None else range(variation, variation + 1)
        known = {0, *_KINEMATICS.values()}
        self._places = {f"singletons_{k}": k for k in range(self._jets.shape[2]) if k not in known} | _KINEMATICS
        names = {name: "jet" for name in (*_KINEMATICS, _GROUP, _VARIATION, *self._places)}
        self.columns = {**{name: "constituent" for name in _EXTRAS}, **names}
        # Files end with a row of zeros, for which nothing was simulated.
        groups = self.entries - int(self.entries > 0 and not self._jets[-1].any() and not self._candidates[-1].any())
        self.entries = groups * len(self._variations)
        self.starts = self.starts[self.starts < max(groups, 1)] * len(self._variations)
        self._convention = _convention(source, self._jets[:_SAMPLE, 0], self._candidates[:_SAMPLE, 0])

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self.source, columns, self.columns, "columns")
        v = len(self._variations)
        groups = slice(first // v, -(-last // v))
        wanted = slice(self._variations.start, self._variations.stop)
        own = slice(first - groups.start * v, last - groups.start * v)
        with reading(self.source, "HDF5"):
            jets = self._jets[groups, wanted].reshape(-1, self._jets.shape[2])[own]
            candidates = self._candidates[groups, wanted].reshape(-1, *self._candidates.shape[2:])[own]
        mask = _present(candidates)
        counts = np.count_nonzero(mask, axis=1)
        flat = {name: candidates[:, i][mask] for i, name in enumerate(_FEATURES)}
        kinematics = {name: np.repeat(jets[:, k].astype(np.float64), counts) for name, k in _KINEMATICS.items()}
        momenta = self._convention.momenta(flat, kinematics)
        labels = _labels(jets[:, 0])
        numbers = np.arange(first, last)
        values = {name: jets[:, self._places[name]] for name in columns if name in self._places}
        if _GROUP in columns:
            values[_GROUP] = numbers // v
        if _VARIATION in columns:
            values[_VARIATION] = np.asarray(self._variations)[numbers % v]
        return Chunk(momenta, counts, labels, {name: flat[name] for name in columns if name in _EXTRAS}, values)


def _labels(types: NDArray[Any]) -> Labels:
    sound = np.isin(types, range(1, len(RS3L_CLASSES)))
    rule = f"RS3L's types are 1 to {len(RS3L_CLASSES) - 1}, in column 0 of {_JETS}"
    return labels_of({"type": types}, types, sound, rule, meaning="numbers of RS3L", names=RS3L_CLASSES)


class _Convention:
    """How a file writes momenta.

    Parameters
    ----------
    log_pt, log_e
        Whether pt and e are logarithms.
    relative
        Whether eta and phi are relative to the jet.
    rounding
        Relative error of the momenta by the file's precision.
    """

    def __init__(self, log_pt: bool, log_e: bool, relative: bool, rounding: float) -> None:
        self._log_pt, self._log_e, self._relative, self._rounding = log_pt, log_e, relative, rounding

    def momenta(
        self, flat: dict[str, NDArray[Any]], jets: dict[str, NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(t,) px, py, pz, E from the features and the kinematics of the jet, (t,) each."""
        pt, eta, phi, e = (flat[name].astype(np.float64) for name in ("pt", "eta", "phi", "e"))
        with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
            pt = np.exp(pt) if self._log_pt else pt
            e = np.exp(e) if self._log_e else e
            if self._relative:
                eta, phi = eta + jets["jet_eta"], phi + jets["jet_phi"]
            px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
        # pt, eta and e are rounded each for itself, which may leave a massless particle with E just below |p|; more
        # than in components, since these are logarithms.
        return px, py, pz, not_below_momentum(px, py, pz, e, self._rounding)


def _present(candidates: NDArray[Any]) -> NDArray[np.bool_]:
    """(m, M) where [m, 11, M] is no padding; one of these may be 0 otherwise, too (ln 1), but never all."""
    return (candidates[:, [_FEATURES.index(name) for name in ("pt", "relpt", "e")]] != 0).any(axis=1)


def _convention(source: Source, jets: NDArray[Any], candidates: NDArray[Any]) -> _Convention:
    """The way of writing momenta in which relpt, rele and dr follow from pt, e, eta and phi."""
    rounding = 16 * float(np.finfo(candidates.dtype if candidates.dtype.kind == "f" else np.float64).eps)
    mask = _present(candidates)
    if not mask.any():
        return _Convention(True, True, True, rounding)
    counts = np.count_nonzero(mask, axis=1)
    f = {name: candidates[:, i][mask].astype(np.float64) for i, name in enumerate(_FEATURES)}
    jet = {name: np.repeat(jets[:, k].astype(np.float64), counts) for name, k in _KINEMATICS.items()}
    with np.errstate(all="ignore"):
        log_pt = _choose(source, "pt and relpt", *_of_ratio(f["pt"], f["relpt"], jet["jet_pt"]))
        log_e = _choose(source, "e and rele", *_of_ratio(f["e"], f["rele"], jet["jet_energy"]))
        dphi = np.remainder(f["phi"] - jet["jet_phi"] + np.pi, 2 * np.pi) - np.pi
        absolute = np.hypot(f["eta"] - jet["jet_eta"], dphi) - f["dr"]
        relative = _choose(source, "eta, phi and dr", absolute, np.hypot(f["eta"], f["phi"]) - f["dr"])
    return _Convention(log_pt, log_e, relative, rounding)


def _of_ratio(
    written: NDArray[np.float64], ratio: NDArray[np.float64], jet: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By how much a ratio to the jet is off if what is written is in GeV, and if it is a logarithm."""
    expected = np.where(ratio > 0, np.log(ratio), ratio) + np.log(jet)  # a ratio below 1 has a negative logarithm
    return np.log(written) - expected, written - expected


def _choose(source: Source, what: str, plain: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether `other` (logarithms, relative angles) fits better than `plain`."""
    off = [float(np.median(np.where(np.isfinite(d), np.abs(d), np.inf))) for d in (plain, other)]
    if min(off) > _TOLERANCE:
        raise RinoError(
            f"{source}: {what} of {_CANDIDATES} fit neither GeV and absolute angles (off by {off[0]:.3g}) nor "
            f"logarithms and relative angles (off by {off[1]:.3g}); its rows must be {', '.join(_FEATURES)}, and "
            f"columns 9 to 12 of {_JETS} the jet's pt, eta, phi and energy in GeV"
        )
    return off[1] <= off[0]
