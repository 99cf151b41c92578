"""Class numbers of the public data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import JetError, Labels
from pyrino.data.source import Source

__all__ = [
    "JETCLASS_CLASSES",
    "JETNET_CLASSES",
    "NUMBER",
    "from_columns",
    "from_file_name",
    "label_columns",
    "meaning_of",
]

#: JetClass (zenodo 6619768): class number -> what follows ``label_`` in the name of its column.
JETCLASS_CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

#: JetNet (zenodo 6975118): class number -> first letter of the file's name.
JETNET_CLASSES = ("g", "q", "t", "w", "z")

_ONE_HOT = tuple(f"label_{name}" for name in JETCLASS_CLASSES)
#: JetClass-II has class numbers, 0 to 187, instead of one column per class.
NUMBER = "jet_label"


def label_columns(present: Iterable[str]) -> list[str]:
    """The columns that labels are read from: ``jet_label``, or those of JetClass's ``label_*`` that are there."""
    columns = set(present)
    return [NUMBER] if NUMBER in columns else [name for name in _ONE_HOT if name in columns]


def meaning_of(columns: Iterable[str]) -> str | None:
    """What labels from these columns mean."""
    names = list(columns)
    if not names:
        return None
    return f"numbers of the column {NUMBER}" if NUMBER in names else "numbers of JetClass"


def from_columns(source: Source, first_jet: int, columns: Mapping[str, NDArray[Any]]) -> Labels | None:
    """Labels from the columns that `label_columns` named, (m,) each; None where there are none."""
    if not columns:
        return None
    if NUMBER in columns:
        values = columns[NUMBER].astype(np.float64)
        wrong = np.flatnonzero(~((values >= 0) & (values < 2**53) & (values == np.floor(values))))
        if wrong.size:
            raise JetError(
                f"{source}: jet {first_jet + wrong[0]} has {NUMBER} = {values[wrong[0]]}; labels are 0, 1, 2 ...",
                first_jet + wrong[0],
            )
        return Labels(values.astype(np.int64), meaning_of(columns) or "")
    one_hot = np.stack([columns[name] for name in columns], axis=1).astype(np.float64)
    wrong = np.flatnonzero((one_hot.sum(axis=1) != 1) | (one_hot.max(axis=1) != 1))
    if wrong.size:
        found = dict(zip(columns, one_hot[wrong[0]].tolist(), strict=True))
        raise JetError(
            f"{source}: jet {first_jet + wrong[0]} has the labels {found}; exactly one of them must be 1",
            first_jet + wrong[0],
        )
    numbers = np.array([_ONE_HOT.index(name) for name in columns])
    return Labels(numbers[one_hot.argmax(axis=1)], meaning_of(columns) or "", JETCLASS_CLASSES)


def from_file_name(source: Source, jets: int) -> Labels | None:
    """JetNet's labels: its files are ``g.hdf5``, ``q150.hdf5`` ...; None for any other name."""
    match = re.fullmatch(r"([gqtwz])(?:_?(?:30|150))?", source.stem.lower())
    if match is None:
        return None
    numbers = np.full(jets, JETNET_CLASSES.index(match[1]), dtype=np.int64)
    return Labels(numbers, "numbers of JetNet", JETNET_CLASSES)
