"""Fast parametrised detector simulation: tracks, photons in cells, neutral hadrons in cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .domains import Detector
from .particles import Particles, cartesian, transverse

__all__ = ["detect", "track_resolution", "tracking_efficiency"]

_PION_MASS = 0.13957  # GeV; charged hadrons are not identified, so every such track is taken for a pion
_ELECTRON_MASS = 0.000511  # GeV
_MUON_MASS = 0.10566  # GeV
_NEUTRINOS = (12, 14, 16)


def tracking_efficiency(detector: Detector, pt: NDArray[np.float64], eta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a charged particle of true `pt` (GeV) and `eta` leaves a track."""
    plateau = np.where(np.abs(eta) < detector.forward_abs_eta, detector.efficiency, detector.efficiency_forward)
    inside = (np.abs(eta) < detector.track_max_abs_eta) & (pt > detector.track_min_pt)
    return np.where(inside, np.where(pt < detector.low_pt, detector.efficiency_low_pt, plateau), 0.0)


def track_resolution(detector: Detector, pt: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative pT resolution of a track of true `pt` (GeV)."""
    growing = np.hypot(detector.track_resolution_floor, detector.track_resolution_slope * pt)
    return np.minimum(growing, detector.track_resolution_max)


def detect(particles: Particles, detector: Detector, rng: np.random.Generator) -> Particles:
    """What the detector sees of generated final-state particles.

    Parameters
    ----------
    particles : Particles
        Stable particles; neutrinos may be among them and are not seen.
    detector : Detector
        Its parameters.
    rng : numpy.random.Generator
        Source of all random numbers; the number drawn depends on the particles only.

    Returns
    -------
    Particles
        Tracks (charged hadrons with the pion mass, electrons, muons; directions exact, pT smeared with a
        Gaussian), then photon cells, then neutral-hadron cells (massless, at the cell's centre). The PDG
        code is +-211, +-11, +-13, 22 or 130. Where the particles have vertices the tracks keep theirs, and those of
        the cells are 0.
    """
    pt, eta, phi = transverse(particles.p4)
    kind = np.abs(particles.pdg)
    charged = particles.charge != 0
    in_calorimeter = ~charged & (np.abs(eta) < detector.calorimeter_max_abs_eta) & ~np.isin(kind, _NEUTRINOS)

    track = np.flatnonzero(charged & (rng.random(len(particles)) < tracking_efficiency(detector, pt, eta)))
    smeared = pt[track] * (1.0 + track_resolution(detector, pt[track]) * rng.standard_normal(len(track)))
    lepton = np.isin(kind[track], (11, 13))
    mass = np.select([kind[track] == 11, kind[track] == 13], [_ELECTRON_MASS, _MUON_MASS], _PION_MASS)
    tracks = Particles(
        particles.event[track],
        cartesian(smeared, eta[track], phi[track], mass),
        np.where(lepton, particles.pdg[track], 211 * particles.charge[track]).astype(np.int32),
        particles.charge[track],
        None if particles.vertex is None else particles.vertex[track],
    )

    photon = in_calorimeter & (kind == 22)
    hadron = in_calorimeter & (kind != 22)
    found = Particles.concatenate(
        [
            tracks,
            _cells(
                *(particles.event[photon], particles.p4[photon, 3], eta[photon], phi[photon]),
                pdg=22,
                size=detector.photon_cell,
                stochastic=detector.photon_stochastic,
                constant=detector.photon_constant,
                min_energy=detector.photon_min_energy,
                rng=rng,
            ),
            _cells(
                *(particles.event[hadron], particles.p4[hadron, 3], eta[hadron], phi[hadron]),
                pdg=130,
                size=detector.hadron_cell,
                stochastic=detector.hadron_stochastic,
                constant=detector.hadron_constant,
                min_energy=detector.hadron_min_energy,
                rng=rng,
            ),
        ]
    )
    if tracks.vertex is None:
        return found
    cells = np.zeros((len(found) - len(tracks), 4))  # a cell does not tell where its particles come from
    return replace(found, vertex=np.concatenate([tracks.vertex, cells]))


def _cells(
    event: NDArray[np.int64],
    energy: NDArray[np.float64],
    eta: NDArray[np.float64],
    phi: NDArray[np.float64],
    *,
    pdg: int,
    size: float,
    stochastic: float,
    constant: float,
    min_energy: float,
    rng: np.random.Generator,
) -> Particles:
    """Sum energies (GeV) in cells, smear them, drop those below `min_energy`, give massless candidates."""
    turn = round(2.0 * np.pi / size)  # cells around the azimuth: a whole number, so that none is cut
    width = 2.0 * np.pi / turn
    row = np.floor(eta / size).astype(np.int64)
    column = np.floor((phi + np.pi) / width).astype(np.int64) % turn  # phi = pi may round up to a full turn
    # A particle along the beam is out of acceptance before, so 2**20 rows (abs(eta) < 4000) always suffice.
    key, cell = np.unique(((event << 20) + row + (1 << 19)) * turn + column, return_inverse=True)
    total = np.bincount(cell, weights=energy, minlength=len(key))

    # Log-normal with mean E and standard deviation sigma, as Delphes: positive, however soft the deposit.
    spread = np.log1p(stochastic**2 / total + constant**2)  # ln(1 + sigma^2 / E^2)
    total = total * np.exp(np.sqrt(spread) * rng.standard_normal(len(total)) - 0.5 * spread)

    kept = np.flatnonzero(total > min_energy)
    key, total = key[kept], total[kept]
    row_event, column = np.divmod(key, turn)
    centre_eta = ((row_event & ((1 << 20) - 1)) - (1 << 19) + 0.5) * size
    centre_phi = (column + 0.5) * width - np.pi
    return Particles(
        row_event >> 20,
        cartesian(total / np.cosh(centre_eta), centre_eta, centre_phi, 0.0),
        np.full(len(kept), pdg, np.int32),
        np.zeros(len(kept), np.int32),
    )
