"""npz: EnergyFlow's quark and gluon jets (zenodo 3164691 Pythia, 3066475 Herwig; arXiv:1810.05165)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pyrino.data.chunk import Broken, Chunk, Labels, need, not_negative, reading, unpadded
from pyrino.data.labels import labels_of
from pyrino.data.layout import Layout, Reader
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["ENERGYFLOW_CLASSES", "MASSES", "EnergyFlow"]

#: Class number (``y``) -> name.
ENERGYFLOW_CLASSES = ("gluon", "quark")

#: |PDG id| -> mass in GeV (PDG, Phys. Rev. D 110, 030001 (2024)) of what is stable on the scale of a detector in
#: Pythia and Herwig; 0 is a particle that the file does not identify.
MASSES = {
    0: 0.0, 22: 0.0, 12: 0.0, 14: 0.0, 16: 0.0,
    11: 0.51099895e-3, 13: 0.1056583755,
    111: 0.1349768, 211: 0.13957039, 321: 0.493677, 130: 0.497611, 310: 0.497611,
    2212: 0.93827208816, 2112: 0.93956542052,
    3122: 1.115683, 3222: 1.18937, 3212: 1.192642, 3112: 1.197449, 3322: 1.31486, 3312: 1.32171, 3334: 1.67245,
}  # fmt: skip

#: EnergyFlow's `remap_pids` writes these ids as 0.0, 0.1, 0.2 ...
_REMAPPED = np.array([22, 211, -211, 321, -321, 130, 2112, -2112, 2212, -2212, 11, -11, 13, -13])

#: Rows read at a time: with their padding 20 MB.
_ROWS = 4096


class EnergyFlow(Layout):
    """``X`` is [N, M, 4] = pT (GeV), rapidity, phi, PDG id, padded with zeros; ``y`` [N] is 1 for quarks, 0 for gluons.

    Masses are those of the particles (`MASSES`), as EnergyFlow's ``p4s_from_ptyphipids`` has them: with
    mT^2 = pT^2 + m^2, E = mT cosh y and pz = mT sinh y. Ids may be EnergyFlow's small floats (``remap_pids``); with
    [N, M, 3] there are none, and particles are massless. ``y`` may be absent, or something else: then there are no
    labels.

    The array is decompressed as it is read, never held as a whole; reading backwards begins anew.
    """

    name, title, container = "energyflow", "EnergyFlow: npz of quark and gluon jets", "npz"
    suffixes = (".npz",)

    def recognise(self, file: Any) -> bool:
        return "X" in file.files

    def reader(self, source: Source, file: Any) -> Reader:
        need(source, ["X"], file.files, "arrays")
        return _Reader(source, file)


class _Reader(Reader):
    def __init__(self, source: Source, file: Any) -> None:
        self._source, self._file = source, file
        self._stream = file.zip.open("X.npy")
        version = npy.read_magic(self._stream)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self._shape, fortran, self._dtype = header(self._stream)
        self._begin = self._stream.tell()
        if len(self._shape) != 3 or self._shape[2] not in (3, 4) or self._dtype.kind not in "fiu":
            raise RinoError(
                f"{source}: X {self._shape} of {self._dtype} is not EnergyFlow's layout: numbers of shape [N, M, 4] = "
                "pT, rapidity, phi, PDG id, or [N, M, 3] without the last"
            )
        if fortran:
            raise RinoError(f"{source}: X is stored column by column: save numpy.ascontiguousarray(X)")
        self.entries = self._shape[0]
        self.starts = np.zeros(1, dtype=np.int64)
        self.columns = {"pdgid": "constituent"} if self._shape[2] == 4 else {}
        self._labels = _labels(file, self.entries) if "y" in file.files else None

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        need(self._source, columns, self.columns, "columns")
        width = self._shape[2]
        particles = [[np.empty(0)] for _ in range(width)]
        counts = [np.empty(0, np.int64)]
        row = self._shape[1] * width * self._dtype.itemsize
        with reading(self._source, "npz"):
            self._stream.seek(self._begin + first * row)
            for begin in range(first, last, _ROWS):
                m = min(last - begin, _ROWS)
                block = np.frombuffer(self._exactly(m * row), dtype=self._dtype).reshape(m, *self._shape[1:])
                mask = unpadded(block, width)
                for c, column in enumerate(particles):
                    column.append(block[..., c][mask].astype(np.float64, copy=False))
                counts.append(mask.sum(axis=1))
        number = np.concatenate(counts)
        pt, y, phi, *identity = (np.concatenate(column) for column in particles)
        mass, extras = np.zeros(1), {}
        broken = not_negative(self._source, first, pt, number)
        if identity:
            ids = self._ids(identity[0], number, first, broken)
            mass = _masses(ids)
            if "pdgid" in columns:
                extras["pdgid"] = ids.astype(np.float64)
        with np.errstate(all="ignore"):  # what is not finite is found, and named, when the jets are made
            mt = np.hypot(pt, mass)
            momenta = (pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(y), mt * np.cosh(y))
        jets = np.arange(self.entries)
        labels = self._labels and self._labels.select((jets >= first) & (jets < last))
        return Chunk(momenta, number, labels, extras, broken=broken)

    def close(self) -> None:
        self._stream.close()
        self._file.close()

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise EOFError(f"X ends {size - len(data)} bytes too early")
        return data

    def _ids(
        self, written: NDArray[np.float64], counts: NDArray[np.int64], first: int, broken: Broken
    ) -> NDArray[np.int64]:
        """(t,) PDG ids of which a mass is known; jets with others are `broken`, and have 0 there."""
        code = np.round(written * 10)
        remapped = (code >= 0) & (code < len(_REMAPPED)) & (np.abs(written * 10 - code) < 1e-3)
        # Neither 0 nor 1 (a d quark) is the id of a particle in a jet: below 1.4 all are EnergyFlow's code.
        with np.errstate(invalid="ignore"):
            ids = np.where(remapped, _REMAPPED[np.where(remapped, code, 0).astype(int)], written)
            known = np.isin(np.abs(ids), list(MASSES))
        wrong = np.flatnonzero(~known)
        ends = np.cumsum(counts)
        for row, jet in zip(wrong.tolist(), np.searchsorted(ends, wrong, side="right").tolist(), strict=True):
            i = row - int(ends[jet] - counts[jet])
            why = (
                f"{self._source}: constituent {i} of jet {first + jet} has the PDG id {written[row]:g}, "
                "the mass of which is not known here: save X[..., :3] to have massless constituents"
            )
            broken.setdefault(jet, why)
        return np.where(known, ids, 0).astype(np.int64)


def _masses(ids: NDArray[np.int64]) -> NDArray[np.float64]:
    kinds = np.array(sorted(MASSES))
    return np.array([MASSES[kind] for kind in kinds.tolist()])[np.searchsorted(kinds, np.abs(ids))]


def _labels(file: Any, entries: int) -> Labels:
    more: dict[str, Any] = {"meaning": "numbers of EnergyFlow", "names": ENERGYFLOW_CLASSES}
    none = np.zeros(entries, dtype=bool)
    try:
        y = file["y"]
    except ValueError as error:  # objects, which are pickled and never read
        return labels_of({}, none, none, f"y cannot be read ({error})", **more)
    if y.shape != (entries,):
        rule = f"y {y.shape} of {y.dtype} is not one number for each of the {entries} jets of X"
        return labels_of({}, none, none, rule, **more)
    sound = (y == 0) | (y == 1) if y.dtype.kind in "fiub" else none
    return labels_of({"y": y}, y, sound, "it must be 0 (gluon) or 1 (quark)", **more)
