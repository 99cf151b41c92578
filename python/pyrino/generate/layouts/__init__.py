"""Layouts of public data sets that generated jets can be written in; one file each."""

from __future__ import annotations

from .aspen import ASPEN
from .base import FileLayout, GeneratedJets, Part
from .energyflow import ENERGYFLOW
from .jetclass import JETCLASS
from .jetclass2 import JETCLASS2
from .jetnet import JETNET
from .landscape import LANDSCAPE
from .rs3l import RS3L

__all__ = ["LAYOUTS", "PLAIN", "FileLayout", "GeneratedJets", "Part"]

#: pyrino's own layout: the unit files themselves.
PLAIN = "jetclass-parquet"

#: The others by name, which is that of the reader in `pyrino.data`.
LAYOUTS: dict[str, FileLayout] = {
    layout.name: layout for layout in (JETCLASS, JETCLASS2, JETNET, LANDSCAPE, ENERGYFLOW, ASPEN, RS3L)
}
