"""What a layout to write is, and the generated jets that its writer is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domains import Domain

__all__ = ["FileLayout", "GeneratedJets", "Part", "relative_angles", "transverse32"]


@dataclass(frozen=True)
class GeneratedJets:
    """Some jets of a unit, by columns.

    Attributes
    ----------
    process : str
        A key of `PROCESSES`.
    first : int
        Number of the first of them in the request.
    columns : mapping
        Name -> values: one per row for ``jet_*``, ``genjet_*`` and ``truth_*``, several for ``part_*``, ``genpart_*``
        and ``truth_quark_*``. Constituents come by falling pT.
    counts : mapping
        Name of a column with several values per row -> their number in each row.
    """

    process: str
    first: int
    columns: Mapping[str, NDArray[Any]]
    counts: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, table: Any, process: str, first: int) -> GeneratedJets:
        """Rows of a unit's file as a pyarrow table."""
        import pyarrow as pa

        columns, counts = {}, {}
        for name in table.column_names:
            column = table[name].combine_chunks()
            if pa.types.is_list(column.type):
                counts[name] = column.value_lengths().to_numpy().astype(np.int64)
                column = column.flatten()
            columns[name] = column.to_numpy(zero_copy_only=False)
        return cls(process, first, columns, counts)

    def __len__(self) -> int:
        return len(self.columns["jet_pt"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    @property
    def multiplicity(self) -> NDArray[np.int64]:
        """Constituents of each row."""
        return self.counts["part_px"]

    def select(self, keep: NDArray[np.bool_]) -> GeneratedJets:
        """The rows for which `keep` is true."""
        columns = {
            name: values[np.repeat(keep, self.counts[name]) if name in self.counts else keep]
            for name, values in self.columns.items()
        }
        return GeneratedJets(self.process, self.first, columns, {n: c[keep] for n, c in self.counts.items()})

    def of_constituent(self, values: NDArray[Any]) -> NDArray[Any]:
        """The value of its row for each constituent."""
        return np.repeat(values, self.multiplicity)

    def padded(self, values: NDArray[Any], width: int) -> NDArray[Any]:
        """Values of constituents as (rows, width): the hardest `width` constituents, then zeros."""
        counts = self.multiplicity
        rank = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = rank < width
        out = np.zeros((len(counts), width), values.dtype)
        out[np.repeat(np.arange(len(counts)), counts)[kept], rank[kept]] = values[kept]
        return out


@dataclass(frozen=True)
class Part:
    """One file of a request, or several of equal kind.

    Attributes
    ----------
    name : callable
        Number of the file -> its name.
    select : callable, optional
        Which jets go there; all by default.
    """

    name: Callable[[int], str]
    select: Callable[[GeneratedJets], NDArray[np.bool_]] | None = None


@dataclass(frozen=True)
class FileLayout:
    """A public data set's layout of files, and how to write it.

    Attributes
    ----------
    name : str
        The same as that of the reader in `pyrino.data`.
    suffix : str
        Of the data set's files.
    domain : str
        Key of `DOMAINS`: the one most like the data set.
    about : str
        What `pyrino generate --help` says of it.
    parts : callable
        (process, domain) -> the parts of a request, named as the data set names its files.
    write : callable
        (path, pieces, domain) writes one file of the pieces, which come one after another, at least one jet in all.
    jets_per_file : int, optional
        As the data set has them; all in one file by default.
    kind : str
        Of the units that are generated, see `Unit`.
    showers : int
        Rows of a unit for each jet.
    packages : tuple of str
        What must be installed to write it.
    refused : mapping
        Process -> why the layout cannot hold it.
    """

    name: str
    suffix: str
    domain: str
    about: str
    parts: Callable[[str, Domain], tuple[Part, ...]]
    write: Callable[[Path, Iterable[GeneratedJets], Domain], None]
    jets_per_file: int | None = None
    kind: str = "detailed"
    showers: int = 1
    packages: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def transverse32(
    jets: GeneratedJets, prefix: str = "part"
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """pT (GeV), pseudorapidity and azimuth, computed in float64 from float32 momenta."""
    px, py, pz = (jets[f"{prefix}_p{axis}"].astype(np.float64) for axis in "xyz")
    pt = np.hypot(px, py)
    safe = np.where(pt > 0.0, pt, 1.0)
    return pt, np.where(pt > 0.0, np.arcsinh(pz / safe), 0.0), np.arctan2(py, px)


def relative_angles(jets: GeneratedJets) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pseudorapidity and azimuth of the constituents relative to their jet; the latter in [-pi, pi)."""
    _, eta, phi = transverse32(jets)
    dphi = np.remainder(phi - jets.of_constituent(jets["jet_phi"]) + np.pi, 2.0 * np.pi) - np.pi
    return eta - jets.of_constituent(jets["jet_eta"]), dphi
