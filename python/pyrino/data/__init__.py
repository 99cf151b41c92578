"""Readers of the field's files: JetClass (parquet, ROOT), JetClass-II, JetNet (HDF5) and pyrino's own."""

from __future__ import annotations

from pyrino.data.labels import JETCLASS_CLASSES, JETNET_CLASSES
from pyrino.data.read import read_jets

__all__ = ["JETCLASS_CLASSES", "JETNET_CLASSES", "read_jets"]
