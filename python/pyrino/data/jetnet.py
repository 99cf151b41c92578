"""HDF5: JetNet (zenodo 6975118 with 30 constituents, 6975117 with 150), padded, massless, relative to the jet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrino.data.chunk import Chunk, need, reading
from pyrino.data.labels import from_file_name
from pyrino.errors import RinoError

__all__ = ["iterate"]

_PARTICLES, _JETS = "particle_features", "jet_features"


def iterate(path: Path, extras: Sequence[str], rows: int) -> Iterator[Chunk]:
    """The jets of a file, at most `rows` at a time.

    ``particle_features`` is [N, M, 4] = eta_rel, phi_rel, pT_rel, mask and ``jet_features`` [N, 4] = pT, eta, mass,
    number of constituents. Constituents are massless: pT = pT_rel * jet pT, eta = eta_rel + jet eta, and
    phi = phi_rel, because the files do not tell the jet's azimuth.

    Raises
    ------
    RinoError
        If the file is damaged or foreign, data sets are missing or of another shape, or a mask is not 0 or 1.
    """
    import h5py

    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        need(path, [_PARTICLES, _JETS], file.keys(), "data sets")
        if extras:
            raise RinoError(f"{path}: extras {list(extras)} were asked for; JetNet's layout has none, leave them out")
        particles, jets = file[_PARTICLES], file[_JETS]
        _check_shapes(path, particles, jets)
        for first in range(0, len(jets), rows):
            yield _chunk(path, first, particles[first : first + rows], jets[first : first + rows])


def _check_shapes(path: Path, particles: Any, jets: Any) -> None:
    shapes = [getattr(data, "shape", ()) for data in (particles, jets)]
    good = (
        len(shapes[0]) == 3 and shapes[0][2] == 4 and len(shapes[1]) == 2 and shapes[1][1] == 4
        and shapes[0][0] == shapes[1][0]
    )  # fmt: skip
    if not good or any(data.dtype.kind not in "fiub" for data in (particles, jets)):
        raise RinoError(
            f"{path}: {_PARTICLES} {shapes[0]} and {_JETS} {shapes[1]} are not JetNet's layout: "
            "numbers of shapes [N, M, 4] and [N, 4]"
        )


def _chunk(path: Path, first: int, particles: np.ndarray, jets: np.ndarray) -> Chunk:
    values = particles[..., 3]
    mask = values == 1
    wrong = np.argwhere(~mask & (values != 0))
    if wrong.size:
        j, i = wrong[0]
        raise RinoError(f"{path}: the mask of constituent {i} of jet {first + j} is {values[j, i]}; it must be 0 or 1")
    counts = mask.sum(axis=1)
    with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
        eta_rel, phi, pt_rel = particles[mask].astype(np.float64)[:, :3].T
        jet_pt, jet_eta = (np.repeat(jets[:, c].astype(np.float64), counts) for c in (0, 1))
        pt, eta = pt_rel * jet_pt, eta_rel + jet_eta
        momenta = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
    return Chunk(momenta, counts, from_file_name(path, len(jets)))
