"""What the generator knows about a jet and a detector does not: its parton, its quarks, its tracks' origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .clustering import FoundJets
from .domains import ImpactParameters
from .particles import Particles, transverse

__all__ = ["Record", "Truth", "delta_r", "hard_rows", "impact_parameters", "inside", "nearest", "truth_of"]

_LARGEST_QUARK = 5
_GLUON = 21
_BEFORE_HADRONISATION = 71  # Pythia's status of partons collected into colour singlets


@dataclass(frozen=True)
class Record:
    """Pythia's event records of a batch, entry after entry.

    Attributes
    ----------
    event, pdg, status : ndarray, shape (n,)
        Event of every entry, PDG code, Pythia's status.
    p4 : ndarray, shape (n, 4)
        px, py, pz, E in GeV.
    start : ndarray, shape (events,)
        Row at which each event begins.
    mother : ndarray, shape (n,)
        First mother, counted within the event.
    daughters : ndarray, shape (n, 2)
        Rows of the first and the last daughter; `start` of the event where there is none.
    """

    event: NDArray[np.int64]
    pdg: NDArray[np.int32]
    status: NDArray[np.int32]
    p4: NDArray[np.float64]
    start: NDArray[np.int64]
    mother: NDArray[np.int32]
    daughters: NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Partons of a batch of events.

    Attributes
    ----------
    hard : Particles
        What leaves the hard 2 -> 2 process, two for each event.
    branching : ndarray of int32, shape (len(hard),)
        Absolute PDG code of what a gluon of `hard` branches to first: 21, or that of a quark; 21 for one that does
        not, and 0 for what is no gluon.
    quarks : Particles
        Quarks d, u, s, c, b at the end of the shower, before hadronisation.
    """

    hard: Particles
    branching: NDArray[np.int32]
    quarks: Particles


def hard_rows(record: Record) -> NDArray[np.int64]:
    """Rows of what leaves the hard 2 -> 2 processes."""
    # Rows 3 and 4 of an event are the incoming partons, as in every 2 -> 2 process of Pythia.
    return np.flatnonzero(np.isin(record.status, (-22, -23)) & (record.mother == 3))


def truth_of(record: Record) -> Truth:
    """Partons of the events of `record`."""
    hard = hard_rows(record)
    kind = np.abs(record.pdg)
    quarks = np.flatnonzero((np.abs(record.status) == _BEFORE_HADRONISATION) & (kind <= _LARGEST_QUARK))
    return Truth(_entries(record, hard), _branching(record, hard), _entries(record, quarks))


def _entries(record: Record, rows: NDArray[np.int64]) -> Particles:
    nothing = np.zeros(len(rows), np.int32)  # nobody asks for the charge of a parton
    return Particles(record.event[rows], record.p4[rows], record.pdg[rows], nothing)


def _branching(record: Record, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    found = np.where(record.pdg[rows] == _GLUON, _GLUON, 0).astype(np.int32)
    walking = np.flatnonzero(found == _GLUON)
    at = rows[walking]
    while len(walking):
        first, last = record.daughters[at, 0], record.daughters[at, 1]
        copied = (last <= first) & (record.pdg[first] == _GLUON)
        # Two daughters of a gluon that still belong to the shower (51 ... 59) are its branching.
        branched = (last == first + 1) & (np.abs(record.status[first]) // 10 == 5)
        found[walking[branched]] = np.abs(record.pdg[first[branched]])
        walking, at = walking[copied], first[copied]
    return found


def delta_r(
    eta: NDArray[np.float64], phi: NDArray[np.float64], other_eta: NDArray[np.float64], other_phi: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance in pseudorapidity and azimuth."""
    return np.hypot(eta - other_eta, np.remainder(phi - other_phi + np.pi, 2.0 * np.pi) - np.pi)


def nearest(jets: FoundJets, others: Particles, radius: float) -> NDArray[np.int64]:
    """Row of the nearest of `others` in a jet's event, for every jet; -1 where none is within `radius`."""
    _, jet_eta, jet_phi = transverse(jets.p4)
    _, eta, phi = transverse(others.p4)
    found = np.full(len(jet_eta), -1)
    if not len(others):
        return found
    jet, other = np.nonzero(jets.event[:, None] == others.event[None, :])
    distance = delta_r(jet_eta[jet], jet_phi[jet], eta[other], phi[other])
    order = np.lexsort((distance, jet))
    jet, other, distance = jet[order], other[order], distance[order]
    first = np.flatnonzero(np.diff(jet, prepend=-1) > 0)
    first = first[distance[first] < radius]
    found[jet[first]] = other[first]
    return found


def inside(
    jets: FoundJets, others: Particles, radius: float, pt_min: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (jet, row of `others`) within `radius` of each other, those above `pt_min` (GeV), jet after jet."""
    _, jet_eta, jet_phi = transverse(jets.p4)
    pt, eta, phi = transverse(others.p4)
    jet, other = np.nonzero((jets.event[:, None] == others.event[None, :]) & (pt > pt_min)[None, :])
    near = delta_r(jet_eta[jet], jet_phi[jet], eta[other], phi[other]) < radius
    return jet[near], other[near]


def impact_parameters(
    particles: Particles, resolution: ImpactParameters | None, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """JetClass's ``part_d0val``, ``part_d0err``, ``part_dzval``, ``part_dzerr``.

    Parameters
    ----------
    particles : Particles
        With vertices in mm.
    resolution : ImpactParameters or None
        Gaussian resolutions; None: exact values with errors of 0.
    rng : numpy.random.Generator
        Two normal numbers are drawn for each particle, in their order.

    Returns
    -------
    dict of ndarray of float32, each of shape (n,)
        mm, of the straight line along the particle's momentum (the curvature over the few mm of a heavy hadron's flight
        is far below the resolution): d0 = (x py - y px) / pT, and dz the z at the closest approach to the beam. 0 for
        neutral particles.
    """
    pt, eta, _ = transverse(particles.p4)
    px, py, pz, _ = particles.p4.T
    x, y, z, _ = cast("NDArray[np.float64]", particles.vertex).T
    d0 = (x * py - y * px) / pt
    dz = z - (x * px + y * py) / pt * (pz / pt)
    noise = rng.standard_normal((len(pt), 2))
    d0_error, dz_error = np.zeros_like(pt), np.zeros_like(pt)
    if resolution is not None:
        d0_error = resolution.d0_floor + resolution.d0_scattering * np.sqrt(np.cosh(eta)) / pt
        dz_error = (resolution.dz_floor + resolution.dz_scattering / pt) * np.cosh(eta)
    columns = {
        "part_d0val": d0 + d0_error * noise[:, 0],
        "part_d0err": d0_error,
        "part_dzval": dz + dz_error * noise[:, 1],
        "part_dzerr": dz_error,
    }
    charged = particles.charge != 0
    return {name: np.where(charged, values, 0.0).astype(np.float32) for name, values in columns.items()}
