"""JetClass-II (arXiv:2405.12972): parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domains import Domain
from .base import FileLayout, GeneratedJets, Part, transverse32

__all__ = ["JETCLASS2", "qcd_label"]

_FIRST_QCD_LABEL = 161
_FLAGS = ("isElectron", "isMuon", "isPhoton", "isChargedHadron", "isNeutralHadron")
_AUX_FLAGS = ("isResX", "isResY", "isResDecayProd", "isTauDecayProd", "isQcdParton")

#: Column -> type, in the data set's order; "*" stands before types of lists.
_COLUMNS = {
    **{f"part_{n}": "*float" for n in ("px", "py", "pz", "energy", "deta", "dphi", "d0val", "d0err", "dzval", "dzerr")},
    "part_charge": "*int32",
    **{f"part_{n}": "*bool" for n in _FLAGS},
    **{f"jet_{n}": "float" for n in ("pt", "eta", "phi", "energy", "sdmass")},
    "jet_nparticles": "int32",
    **{f"jet_tau{n}": "float" for n in (1, 2, 3, 4)},
    "jet_label": "int32",
    **{f"genpart_{n}": "*float" for n in ("px", "py", "pz", "energy", "jet_deta", "jet_dphi", "x", "y", "z", "t")},
    "genpart_pid": "*int32",
    **{f"genjet_{n}": "float" for n in ("pt", "eta", "phi", "energy", "sdmass")},
    "genjet_nparticles": "int32",
    **{f"aux_genpart_{n}": "*float" for n in ("pt", "eta", "phi", "mass")},
    "aux_genpart_pid": "*int32",
    **{f"aux_genpart_{n}": "*bool" for n in _AUX_FLAGS},
}


def qcd_label(b: NDArray[np.int32], c: NDArray[np.int32], s: NDArray[np.int32]) -> NDArray[np.int32]:
    """JetClass-II's class of a jet of QCD by its b, c and s quarks, of which two count as many.

    161 is "bbccss", 187 "light".
    """
    missing = [2 - np.minimum(number, 2) for number in (b, c, s)]
    return (_FIRST_QCD_LABEL + 9 * missing[0] + 3 * missing[1] + missing[2]).astype(np.int32)


def _filled(jets: GeneratedJets) -> GeneratedJets:
    """The jets with the columns that units do not have."""
    quarks = jets.counts["truth_quark_px"]
    pt, eta, phi = (values.astype(np.float32) for values in transverse32(jets, "truth_quark"))
    more = {"pt": pt, "eta": eta, "phi": phi, "mass": jets["truth_quark_mass"], "pid": jets["truth_quark_pdg"]}
    more |= {flag: np.full(len(pt), flag == "isQcdParton") for flag in _AUX_FLAGS}
    auxiliary = {f"aux_genpart_{name}": values for name, values in more.items()}
    label = qcd_label(*(jets[f"truth_{quark}"] for quark in "bcs"))
    columns = {**jets.columns, **auxiliary, "jet_label": label}
    return GeneratedJets(jets.process, jets.first, columns, {**jets.counts, **dict.fromkeys(auxiliary, quarks)})


def _array(jets: GeneratedJets, name: str, kind: Any) -> Any:
    import pyarrow as pa

    if not pa.types.is_list(kind):
        return pa.array(jets[name], kind)
    offsets = np.concatenate([[0], np.cumsum(jets.counts[name])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(jets[name], kind.value_type), type=kind)


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"float": pa.float32(), "int32": pa.int32(), "bool": pa.bool_()}
    fields = []
    for name, kind in _COLUMNS.items():
        scalar = types[kind.lstrip("*")]
        listed = pa.list_(pa.field("item", scalar, nullable=False))
        fields.append(pa.field(name, listed if kind.startswith("*") else scalar, nullable=False))
    schema = pa.schema(fields)
    with (
        open(path, "wb") as file,  # pyarrow would take a name apart at colons
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for jets in map(_filled, pieces):
            arrays = [_array(jets, field.name, field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    return (Part(lambda number: f"QCD_{number:04d}.parquet"),)


JETCLASS2 = FileLayout(
    name="jetclass2",
    suffix=".parquet",
    domain="collisions",
    about="parquet, all columns; QCD_0000.parquet ..., 100,000 jets each; jet_label 161-187 by b, c and s quarks",
    parts=_parts,
    write=_write,
    jets_per_file=100_000,
    refused={
        "top": "JetClass-II has no class of top jets, and no label to write",
        **dict.fromkeys(("w", "z"), "JetClass-II has resonances of all masses, and no label for W or Z"),
    },
)
