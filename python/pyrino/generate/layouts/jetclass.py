"""JetClass (zenodo 6619768): ROOT, TTree `tree`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..domains import PROCESSES, Domain
from ..files import LABELS
from .base import FileLayout, GeneratedJets, Part, transverse32

__all__ = ["JETCLASS"]

_CONSTITUENT = (
    *("px", "py", "pz", "energy", "deta", "dphi", "d0val", "d0err", "dzval", "dzerr", "charge"),
    *("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon"),
)
_JET = ("pt", "eta", "phi", "energy", "nparticles", "sdmass", "tau1", "tau2", "tau3", "tau4")
_STEMS = dict.fromkeys(("qcd", "quark", "gluon"), "ZJetsToNuNu") | {"top": "TTBar", "w": "WToQQ", "z": "ZToQQ"}


def _label_type(label: str) -> type[np.generic]:
    """The data set's labels are of three types, for no reason of physics."""
    if label == "label_QCD":
        return np.float32
    return np.bool_ if label.startswith("label_H") else np.int32


def _auxiliary(jets: GeneratedJets) -> dict[str, NDArray[np.float32]]:
    """The top quark, W or Z in the jet; 0 for jets of QCD, of which there is none."""
    heavy = np.full(len(jets), PROCESSES[jets.process] != "label_QCD")
    pt, eta, phi = transverse32(jets, "truth")
    values = {"eta": eta, "phi": phi, "pid": jets["truth_pdg"], "pt": pt}
    columns = {f"aux_genpart_{name}": np.where(heavy, column, 0) for name, column in values.items()}
    return {name: column.astype(np.float32) for name, column in (columns | {"aux_truth_match": heavy}).items()}


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    import awkward as ak
    import uproot

    scalars = {label: _label_type(label) for label in LABELS}
    scalars |= {f"jet_{name}": np.float32 for name in _JET}
    scalars |= {f"aux_{name}": np.float32 for name in _AUX}
    particle = "{" + ", ".join(f"{name}: float32" for name in _CONSTITUENT) + "}"
    with open(path, "w+b") as place, uproot.recreate(place, compression=uproot.LZ4(4)) as file:
        # One counter, npart, for all lists: uproot cannot write the data set's std::vector.
        tree = file.mktree("tree", {"part": f"var * {particle}", **scalars}, title="tree")
        for jets in pieces:
            lists = {name: jets[f"part_{name}"].astype(np.float32) for name in _CONSTITUENT}
            columns = {label: jets[label].astype(kind) for label, kind in scalars.items() if label in LABELS}
            columns |= {f"jet_{name}": jets[f"jet_{name}"].astype(np.float32) for name in _JET}
            tree.extend({"part": ak.unflatten(ak.zip(lists), jets.multiplicity), **columns, **_auxiliary(jets)})


_AUX = ("genpart_eta", "genpart_phi", "genpart_pid", "genpart_pt", "truth_match")


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    return (Part(lambda number: f"{_STEMS[process]}_{number:03d}.root"),)


assert set(_STEMS) == set(PROCESSES)
JETCLASS = FileLayout(
    name="jetclass",
    suffix=".root",
    domain="collisions",
    about="ROOT, all columns; ZJetsToNuNu_000.root (qcd, quark, gluon), TTBar_000.root, WToQQ_000.root or "
    "ZToQQ_000.root ..., 100,000 jets each",
    parts=_parts,
    write=_write,
    jets_per_file=100_000,
    packages=("uproot", "awkward"),
)
