"""Unit files: parquet in JetClass's columns with the configuration in the metadata."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RinoError
from ..files import whole_file
from .domains import DETAIL_REVISION, PROCESSES, REVISION, ImpactParameters

if TYPE_CHECKING:
    from .unit import Unit, UnitResult

__all__ = ["LABELS", "METADATA_KEY", "configuration", "difference", "stored_jets", "unit_path", "write_unit"]

#: JetClass's one-hot label columns, in its order.
LABELS = (
    "label_QCD",
    "label_Hbb",
    "label_Hcc",
    "label_Hgg",
    "label_H4q",
    "label_Hqql",
    "label_Zqq",
    "label_Wqq",
    "label_Tbqq",
    "label_Tbl",
)
#: Key of the JSON document in the parquet metadata.
METADATA_KEY = b"pyrino.generate"


def unit_path(out: Path, unit: Unit) -> Path:
    """Final name of a unit's file, for example collisions_qcd_s3_000.parquet."""
    kind = "" if unit.kind == "plain" else f"_{unit.kind}"
    return out / f"{unit.domain.name}_{unit.process}{kind}_s{unit.seed}_{unit.index:03d}.parquet"


def configuration(unit: Unit, pythia8mc: str) -> dict[str, Any]:
    """All that decides a unit's jets but their number; `pythia8mc` is the package's version."""
    document = {
        "domain": dataclasses.asdict(unit.domain),
        "process": unit.process,
        "seed": unit.seed,
        "unit": unit.index,
        "pythia8mc": pythia8mc,
        "revision": REVISION,
    }
    if unit.kind != "plain":
        tracks = dataclasses.asdict(ImpactParameters())
        document |= {"kind": unit.kind, "tracks": tracks, "detail_revision": DETAIL_REVISION}
    return document


def stored_jets(path: Path, expected: dict[str, Any], showers: int = 1) -> int:
    """Number of jets, of `showers` rows each, in an existing unit file; 0 where there is none.

    Raises
    ------
    RinoError
        The file cannot be read, is not ours, or was made with another configuration.
    """
    import pyarrow
    import pyarrow.parquet as pq

    if not path.exists():
        return 0
    try:
        with open(path, "rb") as file:
            metadata = pq.read_metadata(file)
        document = json.loads((metadata.metadata or {})[METADATA_KEY])
        found = document["configuration"]
    except (OSError, pyarrow.ArrowException, KeyError, ValueError, TypeError) as error:
        raise RinoError(
            f"{path} exists but is no complete file of pyrino's generator ({error}): "
            "delete it or choose another output folder"
        ) from error
    if found != expected:
        raise RinoError(
            f"{path} was generated with another configuration ({difference(found, expected)}): "
            "delete it, or choose another output folder or seed"
        )
    return int(metadata.num_rows) // showers


def difference(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> str:
    """The first few fields that differ, as 'field: theirs in the file, ours now'."""
    words: list[str] = []
    for key in dict.fromkeys([*expected, *found]):
        theirs, ours = found.get(key), expected.get(key)
        if theirs == ours:
            continue
        if isinstance(theirs, dict) and isinstance(ours, dict):
            words.append(difference(theirs, ours, f"{prefix}{key}."))
        else:
            words.append(f"{prefix}{key}: {theirs!r} in the file, {ours!r} now")
    return "; ".join(words[:3])


def write_unit(path: Path, unit: Unit, result: UnitResult, expected: dict[str, Any]) -> None:
    """Write a unit file (zstd) under a temporary name and move it to `path`.

    The same jets give the same bytes.

    Raises
    ------
    RinoError
        The file cannot be written; nothing is left behind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {}
    for counts, lists in [(result.counts, result.constituents), *result.lists]:
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        columns.update({name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in lists.items()})
    columns.update({name: pa.array(values) for name, values in result.jets.items()})
    for label in LABELS:
        columns[label] = pa.array(np.full(len(result.counts), label == PROCESSES[unit.process]))
    document = {"configuration": expected, "seed": unit.seed, "versions": result.versions}
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(document, sort_keys=True)})

    with whole_file(path) as partial, open(partial, "wb") as file:  # pyarrow would take a name apart at colons
        pq.write_table(table, file, compression="zstd")
