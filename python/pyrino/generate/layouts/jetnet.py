"""JetNet (zenodo 6975118 with 30 constituents, 6975117 with 150): HDF5."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..domains import Domain
from .base import FileLayout, GeneratedJets, Part, relative_angles, transverse32
from .hdf5 import append

__all__ = ["JETNET"]

_SHORT, _LONG = 30, 150
_LETTERS = {"gluon": "g", "quark": "q", "top": "t", "w": "w", "z": "z"}


def _width(domain: Domain) -> int:
    largest = domain.max_constituents
    return _SHORT if largest is not None and largest <= _SHORT else _LONG


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    import h5py

    width = _width(domain)
    with h5py.File(path, "w") as file:
        for jets in pieces:
            pt, _, _ = transverse32(jets)
            eta, phi = relative_angles(jets)
            columns = (eta, phi, pt / jets.of_constituent(jets["jet_pt"]), np.ones_like(pt))
            particles = np.stack([jets.padded(values, width) for values in columns], axis=2)
            counts = np.minimum(jets.multiplicity, width)
            features = np.stack([jets["jet_pt"], jets["jet_eta"], _mass(jets), counts], axis=1)
            append(file, "particle_features", particles.astype(np.float32))
            append(file, "jet_features", features.astype(np.float32))


def _mass(jets: GeneratedJets) -> NDArray[np.float64]:
    pt, eta, energy = (jets[f"jet_{name}"].astype(np.float64) for name in ("pt", "eta", "energy"))
    return np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0.0))


def _gluon(jets: GeneratedJets) -> NDArray[np.bool_]:
    return jets["truth_pdg"] == 21


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    ending = ".hdf5" if _width(domain) == _SHORT else f"{_LONG}.hdf5"
    if process in _LETTERS:
        return (Part(lambda _: f"{_LETTERS[process]}{ending}"),)
    return Part(lambda _: f"g{ending}", _gluon), Part(lambda _: f"q{ending}", lambda jets: ~_gluon(jets))


JETNET = FileLayout(
    name="jetnet",
    suffix=".hdf5",
    domain="simulation",
    about="HDF5, 30 constituents: g.hdf5, q.hdf5, t.hdf5, w.hdf5 or z.hdf5, of qcd both g.hdf5 and q.hdf5 by the jet's "
    "parton; g150.hdf5 ... with 150 in a domain of unlimited constituents",
    parts=_parts,
    write=_write,
    packages=("h5py",),
)
