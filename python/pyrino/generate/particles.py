"""A batch of events as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Particles", "cartesian", "transverse"]


@dataclass(frozen=True)
class Particles:
    """Final-state particles, or detector candidates, of a batch of events.

    Attributes
    ----------
    event : ndarray of int64, shape (n,)
        Index of the event within the batch.
    p4 : ndarray of float64, shape (n, 4)
        px, py, pz, E in GeV.
    pdg : ndarray of int32, shape (n,)
        PDG particle code; candidates carry those of particle flow (211, 130, 22, 11, 13).
    charge : ndarray of int32, shape (n,)
        Electric charge in units of e.
    vertex : ndarray of float64, shape (n, 4), optional
        x, y, z (mm) and t (mm/c) of the particle's production; None where it is not followed.
    """

    event: NDArray[np.int64]
    p4: NDArray[np.float64]
    pdg: NDArray[np.int32]
    charge: NDArray[np.int32]
    vertex: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.event)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Particles:
        vertex = None if self.vertex is None else self.vertex[index]
        return Particles(self.event[index], self.p4[index], self.pdg[index], self.charge[index], vertex)

    @staticmethod
    def concatenate(parts: list[Particles]) -> Particles:
        """One batch of all particles of several; with vertices if all have them."""
        vertices = [p.vertex for p in parts if p.vertex is not None]
        return Particles(
            np.concatenate([p.event for p in parts]),
            np.concatenate([p.p4 for p in parts]),
            np.concatenate([p.pdg for p in parts]),
            np.concatenate([p.charge for p in parts]),
            np.concatenate(vertices) if len(vertices) == len(parts) else None,
        )


def transverse(
    p4: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Transverse momentum, pseudorapidity and azimuth of four-momenta.

    Parameters
    ----------
    p4 : ndarray, shape (n, 4)
        px, py, pz, E in GeV.

    Returns
    -------
    pt, eta, phi : ndarray, shape (n,)
        GeV; dimensionless, +-inf along the beam (0 for a vanishing momentum); radians in [-pi, pi].
    """
    px, py, pz = p4[:, 0], p4[:, 1], p4[:, 2]
    pt = np.hypot(px, py)
    along = np.where(pz == 0.0, 0.0, np.copysign(np.inf, pz))
    eta = np.where(pt > 0.0, np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=pt > 0.0)), along)
    return pt, eta, np.arctan2(py, px)


def cartesian(
    pt: NDArray[np.float64],
    eta: NDArray[np.float64],
    phi: NDArray[np.float64],
    mass: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """Four-momenta (px, py, pz, E) in GeV, shape (n, 4), from pT, pseudorapidity, azimuth and mass."""
    pz = pt * np.sinh(eta)
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt**2 + pz**2 + np.square(mass))], axis=1)
