"""EnergyFlow's quark and gluon jets (zenodo 3164691): npz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..domains import Domain
from .base import FileLayout, GeneratedJets, Part, transverse32

__all__ = ["ENERGYFLOW"]


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    from pyrino.data.energyflow import MASSES

    blocks, labels = [], []
    for jets in pieces:
        pt, eta, phi = transverse32(jets)
        pid = jets["part_pid"].astype(np.float64)
        codes, inverse = np.unique(np.abs(jets["part_pid"]), return_inverse=True)
        mass = np.array([MASSES[code] for code in codes.tolist()])[inverse]  # rapidities are of massive particles
        rapidity = np.arcsinh(pt * np.sinh(eta) / np.hypot(pt, mass))
        axis = jets.of_constituent(jets["jet_phi"].astype(np.float64))
        phi = axis + np.remainder(phi - axis + np.pi, 2.0 * np.pi) - np.pi  # within pi of the jet's, as there
        width = int(jets.multiplicity.max())
        blocks.append(np.stack([jets.padded(values, width) for values in (pt, rapidity, phi, pid)], axis=2))
        labels.append((jets["truth_pdg"] != 21).astype(np.float64))
    width = max(block.shape[1] for block in blocks)
    whole = np.zeros((sum(map(len, blocks)), width, 4))
    first = 0
    for block in blocks:
        whole[first : first + len(block), : block.shape[1]] = block
        first += len(block)
    with open(path, "wb") as file:  # given a name, NumPy would append .npz to it
        np.savez_compressed(file, X=whole, y=np.concatenate(labels))


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    return (Part(lambda number: f"QG_jets_{number}.npz" if number else "QG_jets.npz"),)


ENERGYFLOW = FileLayout(
    name="energyflow",
    suffix=".npz",
    domain="simulation-wide",
    about="npz; QG_jets.npz, QG_jets_1.npz ..., 100,000 jets each; y is 1 (quark) or 0 (gluon) by the jet's parton",
    parts=_parts,
    write=_write,
    jets_per_file=100_000,
    refused=dict.fromkeys(("top", "w", "z"), "its files hold jets of quarks and gluons, and have no label for others"),
)
