"""RS3L (zenodo 10633815): HDF5, every jet with several showers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..domains import VARIATIONS, Domain
from .base import FileLayout, GeneratedJets, Part, relative_angles, transverse32
from .hdf5 import append

__all__ = ["RS3L", "jet_types"]

_CANDIDATES = 100
#: Absolute PDG code of the parton -> jet type; of the first quark of a gluon's branching -> jet type.
_QUARK = {1: 1, 2: 1, 3: 1, 4: 2, 5: 3}
_SPLIT = {1: 5, 2: 5, 3: 5, 4: 6, 5: 7, 21: 8}


def jet_types(partons: NDArray[np.int32], branchings: NDArray[np.int32]) -> NDArray[np.float64]:
    """1 light quark, 2 c, 3 b, 5 g -> qq, 6 g -> cc, 7 g -> bb, 8 g -> gg, by PDG codes (see `Truth`)."""
    pairs = zip(np.abs(partons).tolist(), branchings.tolist(), strict=True)
    return np.array([_QUARK[parton] if parton != 21 else _SPLIT[branching] for parton, branching in pairs], float)


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    import h5py

    showers = len(VARIATIONS)
    with h5py.File(path, "w") as file:
        for jets in pieces:
            pt, _, _ = transverse32(jets)
            energy = jets["part_energy"].astype(np.float64)
            eta, phi = relative_angles(jets)
            # Neutral hadrons have the code 0 there.
            pid = np.where(jets["part_isNeutralHadron"], 0, jets["part_pid"])
            columns = (
                *(np.log(pt), np.log(pt / jets.of_constituent(jets["jet_pt"])), eta, phi, np.hypot(eta, phi)),
                *(np.log(energy), np.log(energy / jets.of_constituent(jets["jet_energy"]))),
                *(jets["part_charge"], pid, np.tanh(jets["part_d0val"]), np.tanh(jets["part_dzval"])),
            )
            padded = [jets.padded(np.asarray(values, np.float64), _CANDIDATES) for values in columns]
            candidates = np.stack(padded, axis=1).reshape(-1, showers, len(columns), _CANDIDATES)
            parton = (*transverse32(jets, "truth"), jets["truth_energy"])
            jet = [jets[f"jet_{name}"] for name in ("pt", "eta", "phi", "energy", "sdmass")]
            types = jet_types(jets["truth_pdg"], jets["truth_branching"])
            nothing = [np.zeros(len(jets))]
            singletons = np.stack([types, *parton, *(4 * nothing), *jet, *nothing], axis=1)
            append(file, "singletons", singletons.astype(np.float32).reshape(-1, showers, singletons.shape[1]))
            append(file, "jet_pflow_cands", candidates.astype(np.float32), compression="gzip")


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    return (Part(lambda number: f"rs3l_{number}.h5"),)


RS3L = FileLayout(
    name="rs3l",
    suffix=".h5",
    domain="collisions",
    about="HDF5; rs3l_0.h5 ..., 100,000 jets each, every one showered five times from the same hard process: nominal, "
    "another seed, FSR scale / sqrt(2) and * sqrt(2), and Vincia's shower, which stands in for Herwig",
    parts=_parts,
    write=_write,
    jets_per_file=100_000,
    kind="resimulated",
    showers=len(VARIATIONS),
    packages=("h5py",),
    refused={
        "top": "RS3L has no class of top jets",
        **dict.fromkeys(("w", "z"), "pyrino showers only jets of quarks and gluons again"),
    },
)
