"""HDF5: AspenOpenJets (arXiv:2412.10504), jets of CMS open data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrino.data.chunk import Chunk, need, reading, unpadded
from pyrino.data.hdf5 import Hdf5Reader
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["Aspen"]

_CANDIDATES, _KINEMATICS = "PFCands", "jet_kinematics"
_EXTRAS = ("d0", "d0Err", "dz", "dzErr", "charge", "pdgid", "puppi")
#: Data sets with one row per jet -> names of their columns.
_JETS = {
    _KINEMATICS: ("jet_pt", "jet_eta", "jet_phi", "jet_msd"),
    "event_info": ("run", "lumi", "event"),
    "jet_tagging": (
        "nConstituents", "tau1", "tau2", "tau3", "tau4", "particleNet_H4qvsQCD", "particleNet_HbbvsQCD",
        "particleNet_HccvsQCD", "particleNet_QCD", "particleNet_TvsQCD", "particleNet_WvsQCD", "particleNet_ZvsQCD",
        "particleNet_mass",
    ),
}  # fmt: skip


class Aspen(Layout):
    """``PFCands`` is [N, 150, 11] = px, py, pz, E (GeV), d0, d0Err, dz, dzErr (as CMS has them: cm), charge, PDG id,
    PUPPI weight, padded with zeros; ``jet_kinematics`` [N, 4] = pt, eta, phi, soft-drop mass (-1: none);
    ``event_info`` [N, 3] = run, luminosity block, event; ``jet_tagging`` [N, 13] as CMS names it. The last two may be
    absent. There are no labels: these are real collisions.

    Momenta are those in the file: the authors store the PUPPI weight beside them and do not multiply. It is the column
    ``puppi`` for those who want to.
    """

    name, title, container = "aspen", "AspenOpenJets: HDF5 of CMS open data", "HDF5"
    suffixes = (".h5", ".hdf5")

    def recognise(self, file: Any) -> bool:
        return _CANDIDATES in file and _KINEMATICS in file

    def reader(self, source: Source, file: Any) -> Reader:
        need(source, [_CANDIDATES, _KINEMATICS], file.keys(), "data sets")
        shape: tuple[int, ...] = getattr(file[_CANDIDATES], "shape", ())
        if len(shape) != 3 or shape[2] != 4 + len(_EXTRAS) or file[_CANDIDATES].dtype.kind not in "fiub":
            raise RinoError(
                f"{source}: {_CANDIDATES} {shape} is not AspenOpenJets' layout: numbers of shape [N, M, 11] = px, py, "
                "pz, E, d0, d0Err, dz, dzErr, charge, PDG id, PUPPI weight"
            )
        for name, columns in _JETS.items():
            if name in file:
                found = getattr(file[name], "shape", ())
                if found != (shape[0], len(columns)) or file[name].dtype.kind not in "fiub":
                    raise RinoError(
                        f"{source}: {name} {found} is not AspenOpenJets' layout: numbers of shape "
                        f"[{shape[0]}, {len(columns)}] = {', '.join(columns)}"
                    )
        return _Reader(source, file)


class _Reader(Hdf5Reader):
    def __init__(self, source: Source, file: Any) -> None:
        super().__init__(source, file, file[_CANDIDATES])
        self._jets = {
            column: (name, place) for name in _JETS if name in file for place, column in enumerate(_JETS[name])
        }
        self.columns = {**{name: "constituent" for name in _EXTRAS}, **{name: "jet" for name in self._jets}}

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self.source, columns, self.columns, "columns")
        with reading(self.source, "HDF5"):
            candidates = self.file[_CANDIDATES][first:last]
            needed = {self._jets[name][0] for name in columns if name in self._jets}
            jets = {name: self.file[name][first:last] for name in needed}
        mask = unpadded(candidates)
        px, py, pz, e = (candidates[..., c][mask] for c in range(4))
        extras = {name: candidates[..., 4 + _EXTRAS.index(name)][mask] for name in columns if name in _EXTRAS}
        values = {name: jets[self._jets[name][0]][:, self._jets[name][1]] for name in columns if name in self._jets}
        return Chunk((px, py, pz, e), np.count_nonzero(mask, axis=1), None, extras, values)
