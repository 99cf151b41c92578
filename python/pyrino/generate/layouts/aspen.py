"""AspenOpenJets (arXiv:2412.10504): HDF5."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..domains import Domain
from .base import FileLayout, GeneratedJets, Part
from .hdf5 import append

__all__ = ["ASPEN"]

_CANDIDATES = 150
_SCORES = 8  # of ParticleNet, and its mass
_CM = 0.1  # of a millimetre: CMS writes impact parameters in cm


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for jets in pieces:
            number = len(jets)
            # Simulation is run 1 in CMS; a unit of generated jets stands for a lumi block.
            row = jets.first + np.arange(number)
            events = np.stack([np.ones(number), 1 + row // domain.unit_jets, jets["truth_event"]], axis=1)
            kinematics = np.stack([jets[f"jet_{name}"] for name in ("pt", "eta", "phi", "sdmass")], axis=1)
            columns = [jets[f"part_{name}"] for name in ("px", "py", "pz", "energy")]
            columns += [_CM * jets[f"part_{name}"] for name in ("d0val", "d0err", "dzval", "dzerr")]
            columns += [jets["part_charge"], jets["part_pid"], np.ones(len(columns[0]))]  # no pileup: PUPPI keeps all
            candidates = np.stack([jets.padded(c.astype(np.float32), _CANDIDATES) for c in columns], axis=2)
            taus = np.stack([jets[f"jet_tau{n}"] for n in (1, 2, 3, 4)], axis=1)
            tagging = np.column_stack([jets["jet_nparticles"], taus, np.zeros((number, _SCORES))])
            append(file, "event_info", events.astype(np.int64))
            append(file, "jet_kinematics", kinematics.astype(np.float32), compression="gzip")
            append(file, "PFCands", candidates, compression="gzip")
            append(file, "jet_tagging", tagging.astype(np.float32), compression="gzip")


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    return (Part(lambda number: f"RunG_batch{number}.h5"),)


ASPEN = FileLayout(
    name="aspen",
    suffix=".h5",
    domain="collisions",
    about="HDF5; RunG_batch0.h5 ..., 100,000 jets each; no labels; PUPPI weights are 1, ParticleNet's scores 0",
    parts=_parts,
    write=_write,
    jets_per_file=100_000,
    packages=("h5py",),
)
