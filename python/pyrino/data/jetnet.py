"""HDF5: JetNet (zenodo 6975118 with 30 constituents, 6975117 with 150), padded, massless, relative to the jet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Broken, Chunk, need, not_negative, reading
from pyrino.data.draw import uniform
from pyrino.data.hdf5 import Hdf5Reader
from pyrino.data.labels import from_file_name
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["JetNet"]

_PARTICLES, _JETS = "particle_features", "jet_features"

#: Purpose of the random numbers, which have no seed: "phi".
_PHI = 0x706869


class JetNet(Layout):
    """``particle_features`` is [N, M, 4] = eta_rel, phi_rel, pT_rel, mask and ``jet_features`` [N, 4] = pT, eta, mass,
    number of constituents. Constituents are massless: pT = pT_rel * jet pT, eta = eta_rel + jet eta,
    phi = phi_rel + jet phi. Labels are told by the file's name.

    The files do not tell the jet's azimuth. A network that learns from px and py at the same phi for all would know
    nothing of any other, so each jet has one of its own, uniform in [-pi, pi): a hash of what the file says of the jet,
    and so the same wherever and however it is read. ``layout="jetnet:phi=0"`` has all jets at that phi (radians).
    """

    name, title, container = "jetnet", "JetNet: HDF5, 30 or 150 constituents", "HDF5"
    suffixes = (".hdf5", ".h5")

    def __init__(self, phi: float | None = None) -> None:
        self._phi = phi

    def variant(self, options: str) -> Layout:
        name, _, text = options.partition("=")
        try:
            phi = float(text)
        except ValueError:
            phi = np.nan
        if name != "phi" or not np.isfinite(phi):
            raise RinoError(f"{options!r} is no option of the layout {self.name!r}: give phi=0, or another angle [rad]")
        made = type(self)(phi)
        made.name = f"{self.name}:{options}"  # type: ignore[misc]
        return made

    def recognise(self, file: Any) -> bool:
        return _PARTICLES in file or _JETS in file

    def reader(self, source: Source, file: Any) -> Reader:
        need(source, [_PARTICLES, _JETS], file.keys(), "data sets")
        shapes: list[tuple[int, ...]] = [getattr(file[name], "shape", ()) for name in (_PARTICLES, _JETS)]
        good = (
            len(shapes[0]) == 3 and shapes[0][2] == 4 and len(shapes[1]) == 2 and shapes[1][1] == 4
            and shapes[0][0] == shapes[1][0]
        )  # fmt: skip
        if not good or any(file[name].dtype.kind not in "fiub" for name in (_PARTICLES, _JETS)):
            raise RinoError(
                f"{source}: {_PARTICLES} {shapes[0]} and {_JETS} {shapes[1]} are not JetNet's layout: "
                "numbers of shapes [N, M, 4] and [N, 4]"
            )
        return _Reader(source, file, self._phi)


class _Reader(Hdf5Reader):
    columns = {"jet_pt": "jet", "jet_eta": "jet", "jet_mass": "jet"}  # noqa: RUF012

    def __init__(self, source: Source, file: Any, phi: float | None) -> None:
        super().__init__(source, file, file[_PARTICLES])
        self._phi = phi

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self.source, columns, self.columns, "columns")
        with reading(self.source, "HDF5"):
            particles, jets = self.file[_PARTICLES][first:last], self.file[_JETS][first:last]
        values = particles[..., 3]
        mask = values == 1
        broken: Broken = {}
        for j, i in np.argwhere(~mask & (values != 0)).tolist():
            why = f"the mask of constituent {i} of jet {first + j} is {values[j, i]}; it must be 0 or 1"
            broken.setdefault(j, f"{self.source}: {why}")
        counts = mask.sum(axis=1)
        with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
            there = particles[mask][:, :3].astype(np.float64, order="C")
            own = jets.astype(np.float64, order="C")
            drawn = _drawn(own, there, counts) if self._phi is None else np.full(len(own), self._phi)
            eta_rel, phi_rel, pt_rel = there.T
            jet_pt, jet_eta, jet_phi = (np.repeat(column, counts) for column in (own[:, 0], own[:, 1], drawn))
            pt, eta, phi = pt_rel * jet_pt, eta_rel + jet_eta, phi_rel + jet_phi
            broken = not_negative(self.source, first, pt, counts) | broken
            momenta = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
        found = {name: jets[:, c] for c, name in enumerate(self.columns) if name in columns}
        return Chunk(momenta, counts, from_file_name(self.source, len(jets)), values=found, broken=broken)


def _drawn(
    jets: NDArray[np.float64], constituents: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(m,) azimuths in [-pi, pi) from (m, 4) and (t, 3): neither padding, precision nor neighbours change one."""
    import xxhash

    ends = np.cumsum(counts)
    records = zip(jets, ends - counts, ends, strict=True)
    hashes = [xxhash.xxh3_64_intdigest(constituents[a:b].data, xxhash.xxh3_64_intdigest(jet)) for jet, a, b in records]
    return uniform(_PHI, np.array(hashes, dtype=np.uint64).view(np.int64)) * (2 * np.pi) - np.pi
