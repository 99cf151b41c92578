"""Readers of the field's files, streams of jets from many of them, the packed cache."""

from __future__ import annotations

from pyrino.data import aspen, energyflow, jetclass_root, jetnet, landscape, nanoaod, packed, parquet, rs3l
from pyrino.data.chunk import Chunk, Labels
from pyrino.data.dataset import Dataset
from pyrino.data.energyflow import ENERGYFLOW_CLASSES
from pyrino.data.labels import JETCLASS_CLASSES, JETNET_CLASSES
from pyrino.data.landscape import LANDSCAPE_CLASSES
from pyrino.data.layout import Layout, Reader, layout_of, layouts, open_file, register
from pyrino.data.mixture import Mixture
from pyrino.data.opening import open_dataset
from pyrino.data.packing import pack
from pyrino.data.read import read_jets
from pyrino.data.rs3l import RS3L_CLASSES, RS3L_VARIATIONS
from pyrino.data.selection import Cuts, Selection, Tally
from pyrino.data.source import Source
from pyrino.data.stream import JetStream

__all__ = [
    "ENERGYFLOW_CLASSES",
    "JETCLASS_CLASSES",
    "JETNET_CLASSES",
    "LANDSCAPE_CLASSES",
    "RS3L_CLASSES",
    "RS3L_VARIATIONS",
    "Chunk",
    "Cuts",
    "Dataset",
    "JetStream",
    "Labels",
    "Layout",
    "Mixture",
    "Reader",
    "Selection",
    "Source",
    "Tally",
    "layout_of",
    "layouts",
    "open_dataset",
    "open_file",
    "pack",
    "read_jets",
    "register",
]

for _layout in (
    jetclass_root.JetClassRoot(),
    parquet.JetClassParquet(),
    parquet.JetClass2(),
    jetnet.JetNet(),
    landscape.Landscape(),
    energyflow.EnergyFlow(),
    aspen.Aspen(),
    rs3l.Rs3l(),
    rs3l.Rs3lSeed(),
    rs3l.Rs3lFsrUp(),
    rs3l.Rs3lFsrDown(),
    rs3l.Rs3lHerwig(),
    rs3l.Rs3lAll(),
    nanoaod.NanoAod(),
    packed.Packed(),
):
    register(_layout)
