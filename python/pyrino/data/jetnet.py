"""HDF5: JetNet (zenodo 6975118 with 30 constituents, 6975117 with 150), padded, massless, relative to the jet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrino.data.chunk import Chunk, need, not_negative, reading
from pyrino.data.hdf5 import Hdf5Reader
from pyrino.data.labels import from_file_name
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["JetNet"]

_PARTICLES, _JETS = "particle_features", "jet_features"


class JetNet(Layout):
    """``particle_features`` is [N, M, 4] = eta_rel, phi_rel, pT_rel, mask and ``jet_features`` [N, 4] = pT, eta, mass,
    number of constituents. Constituents are massless: pT = pT_rel * jet pT, eta = eta_rel + jet eta, and
    phi = phi_rel, because the files do not tell the jet's azimuth. Labels are told by the file's name.
    """

    name, title, container = "jetnet", "JetNet: HDF5, 30 or 150 constituents", "HDF5"
    suffixes = (".hdf5", ".h5")

    def recognise(self, file: Any) -> bool:
        return _PARTICLES in file or _JETS in file

    def reader(self, source: Source, file: Any) -> Reader:
        need(source, [_PARTICLES, _JETS], file.keys(), "data sets")
        shapes = [getattr(file[name], "shape", ()) for name in (_PARTICLES, _JETS)]
        good = (
            len(shapes[0]) == 3 and shapes[0][2] == 4 and len(shapes[1]) == 2 and shapes[1][1] == 4
            and shapes[0][0] == shapes[1][0]
        )  # fmt: skip
        if not good or any(file[name].dtype.kind not in "fiub" for name in (_PARTICLES, _JETS)):
            raise RinoError(
                f"{source}: {_PARTICLES} {shapes[0]} and {_JETS} {shapes[1]} are not JetNet's layout: "
                "numbers of shapes [N, M, 4] and [N, 4]"
            )
        return _Reader(source, file, file[_PARTICLES])


class _Reader(Hdf5Reader):
    columns = {"jet_pt": "jet", "jet_eta": "jet", "jet_mass": "jet"}  # noqa: RUF012

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self.source, columns, self.columns, "columns")
        with reading(self.source, "HDF5"):
            particles, jets = self.file[_PARTICLES][first:last], self.file[_JETS][first:last]
        values = particles[..., 3]
        mask = values == 1
        broken = {}
        for j, i in np.argwhere(~mask & (values != 0)).tolist():
            why = f"the mask of constituent {i} of jet {first + j} is {values[j, i]}; it must be 0 or 1"
            broken.setdefault(j, f"{self.source}: {why}")
        counts = mask.sum(axis=1)
        with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
            eta_rel, phi, pt_rel = particles[mask].astype(np.float64)[:, :3].T
            jet_pt, jet_eta = (np.repeat(jets[:, c].astype(np.float64), counts) for c in (0, 1))
            pt, eta = pt_rel * jet_pt, eta_rel + jet_eta
            broken = not_negative(self.source, first, pt, counts) | broken
            momenta = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
        found = {name: jets[:, c] for c, name in enumerate(self.columns) if name in columns}
        return Chunk(momenta, counts, from_file_name(self.source, len(jets)), values=found, broken=broken)
