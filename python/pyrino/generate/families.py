"""What the jets of a process have to contain: its top quark, boson or parton, with the quarks that it decays to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clustering import FoundJets
from .particles import Particles, transverse
from .truth import Record, delta_r, hard_rows

__all__ = ["Families", "contains_family", "families_of"]

_BOSONS = {"w": 24, "z": 23}
#: JetNet's and EnergyFlow's quarks are light ones: u, d, s.
_PARTONS = {"quark": (1, 2, 3), "gluon": (21,)}


@dataclass(frozen=True)
class Families:
    """Particles of a batch of events, each with the quarks that it decays to.

    Attributes
    ----------
    event : ndarray of int64, shape (f,)
        Event of every family.
    p4 : ndarray of float64, shape (f, k, 4)
        px, py, pz, E in GeV: of a top before its decay, b, q, q' (k = 4); of a W or Z before its decay, q, q' (k = 3);
        of an outgoing parton of the hard process (k = 1).
    pdg : ndarray of int32, shape (f,)
        PDG code of the first of a family.
    """

    event: NDArray[np.int64]
    p4: NDArray[np.float64]
    pdg: NDArray[np.int32]

    @property
    def decayed(self) -> bool:
        """Whether families are more than a parton."""
        return self.p4.shape[1] > 1

    @property
    def heads(self) -> Particles:
        """The tops, bosons or partons."""
        nothing = np.zeros(len(self.event), np.int32)  # nobody asks for their charge
        return Particles(self.event, self.p4[:, 0], self.pdg, nothing)


def families_of(record: Record, process: str | None) -> Families | None:
    """The families in `record` that jets of `process` are of; None where its jets are of anything (qcd, or None)."""
    if process in (None, "qcd"):
        return None
    if process == "top":
        rows = _top_families(record.pdg, record.daughters)
    elif process in _BOSONS:
        rows = _boson_families(record.pdg, record.daughters, _BOSONS[process])
    else:
        hard = hard_rows(record)
        rows = hard[np.isin(np.abs(record.pdg[hard]), _PARTONS[process])][:, None]
    return Families(record.event[rows[:, 0]], record.p4[rows], record.pdg[rows[:, 0]])


def _top_families(pdg: NDArray[np.int32], daughters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of (top, b, q, q') in the event record.

    Parameters
    ----------
    pdg : ndarray, shape (n,)
        PDG codes of all entries.
    daughters : ndarray, shape (n, 2)
        Rows of the first and last daughter (a row of another kind where an entry has none).

    Returns
    -------
    ndarray of int64, shape (t, 4)
        One line per top whose daughters are a W and a quark, i.e. the last copy before the decay.
    """
    kind = np.abs(pdg)
    top = np.flatnonzero(kind == 6)
    first, second = daughters[top, 0], daughters[top, 1]
    decayed = (kind[first] == 24) ^ (kind[second] == 24)
    top, first, second = top[decayed], first[decayed], second[decayed]
    boson = np.where(kind[first] == 24, first, second)
    bottom = np.where(kind[first] == 24, second, first)
    while (copied := kind[daughters[boson, 0]] == 24).any():  # recoil copies the W before it decays
        boson = np.where(copied, daughters[boson, 0], boson)
    return np.column_stack([top, bottom, daughters[boson, 0], daughters[boson, 1]])


def _boson_families(pdg: NDArray[np.int32], daughters: NDArray[np.int64], code: int) -> NDArray[np.int64]:
    """Rows of (boson, q, q'), shape (b, 3), as `_top_families`: the last copies of bosons of one kind."""
    kind = np.abs(pdg)
    boson = np.flatnonzero((kind == code) & (kind[daughters[:, 0]] != code))
    return np.column_stack([boson, daughters[boson]])


def contains_family(jets: FoundJets, families: Families, radius: float) -> NDArray[np.bool_]:
    """Whether all of a family lie within `radius` of the jet axis.

    Parameters
    ----------
    jets : FoundJets
        j jets.
    families : Families
    radius : float
        Delta R in pseudorapidity and azimuth.

    Returns
    -------
    ndarray of bool, shape (j,)
    """
    _, jet_eta, jet_phi = transverse(jets.p4)
    _, eta, phi = (v.reshape(families.p4.shape[:2]) for v in transverse(families.p4.reshape(-1, 4)))
    jet, family = np.nonzero(jets.event[:, None] == families.event[None, :])
    distance = delta_r(eta[family], phi[family], jet_eta[jet, None], jet_phi[jet, None])
    inside = (distance < radius).all(axis=1)
    return np.bincount(jet[inside], minlength=len(jet_eta)) > 0
