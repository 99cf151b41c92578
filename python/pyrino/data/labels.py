"""Class numbers of the public data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import NO_LABEL, Labels
from pyrino.data.source import Source

__all__ = [
    "JETCLASS_CLASSES",
    "JETNET_CLASSES",
    "LABELS",
    "NUMBER",
    "from_columns",
    "from_file_name",
    "label_columns",
    "labels_of",
    "meaning_of",
]

#: JetClass (zenodo 6619768): class number -> what follows ``label_`` in the name of its column.
JETCLASS_CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

#: JetNet (zenodo 6975118): class number -> first letter of the file's name.
JETNET_CLASSES = ("g", "q", "t", "w", "z")

_ONE_HOT = tuple(f"label_{name}" for name in JETCLASS_CLASSES)
#: JetClass-II has class numbers, 0 to 187, instead of one column per class.
NUMBER = "jet_label"
#: All columns that are labels, whatever they hold: what is no number is no label, and said where labels are wanted.
LABELS = (NUMBER, *_ONE_HOT)


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


def labels_of(
    said: Mapping[str, NDArray[Any]], values: NDArray[Any], sound: NDArray[np.bool_], rule: str, **more: Any
) -> Labels:
    """Labels (m,) from numbers, of which those that are not sound are none; `said` and `rule` tell what is wrong."""
    if sound.all():
        return Labels(values.astype(np.int64, copy=False), rule=rule, **more)
    numbers = np.full(len(sound), NO_LABEL, dtype=np.int64)
    numbers[sound] = values[sound]
    return Labels(numbers, said=said, rule=rule, **more)


def from_columns(columns: Mapping[str, NDArray[Any]]) -> Labels | None:
    """Labels from the columns that `label_columns` named, (m,) each of any type; None where there are none."""
    if not columns:
        return None
    meaning = meaning_of(columns) or ""
    if NUMBER in columns:
        values = _numbers(columns[NUMBER])
        sound = (values >= 0) & (values < 2**53) & (values == np.floor(values))
        return labels_of(columns, values, sound, "labels are 0, 1, 2 ...", meaning=meaning)
    one_hot = np.stack([_numbers(column) for column in columns.values()], axis=1)
    sound = (one_hot.sum(axis=1) == 1) & (one_hot.max(axis=1, initial=0) == 1)
    numbers = np.array([_ONE_HOT.index(name) for name in columns])[one_hot.argmax(axis=1)]
    rule = "exactly one of them must be 1" if len(columns) > 1 else "it must be 1"
    return labels_of(columns, numbers, sound, rule, meaning=meaning, names=JETCLASS_CLASSES)


def _numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    """As float64; NaN for what is no number (null, text, lists)."""
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    numbers = (float(value) if isinstance(value, (bool, int, float)) else np.nan for value in column.tolist())
    return np.fromiter(numbers, dtype=np.float64, count=len(column))


def from_file_name(source: Source, jets: int) -> Labels | None:
    """JetNet's labels: its files are ``g.hdf5``, ``q150.hdf5`` ...; None for any other name."""
    match = re.fullmatch(r"([gqtwz])(?:_?(?:30|150))?", source.stem.lower())
    if match is None:
        return None
    numbers = np.full(jets, JETNET_CLASSES.index(match[1]), dtype=np.int64)
    return Labels(numbers, "numbers of JetNet", JETNET_CLASSES)
