"""Readers of the field's files, streams of jets from many of them, the packed cache."""

from __future__ import annotations

from pyrino.data import jetclass_root, jetnet, parquet
from pyrino.data.chunk import Chunk, Labels
from pyrino.data.labels import JETCLASS_CLASSES, JETNET_CLASSES
from pyrino.data.layout import Layout, Reader, layout_of, layouts, open_file, register
from pyrino.data.read import read_jets
from pyrino.data.selection import Selection, Tally
from pyrino.data.source import Source

__all__ = [
    "JETCLASS_CLASSES",
    "JETNET_CLASSES",
    "Chunk",
    "Labels",
    "Layout",
    "Reader",
    "Selection",
    "Source",
    "Tally",
    "layout_of",
    "layouts",
    "open_file",
    "read_jets",
    "register",
]

for _layout in (
    jetclass_root.JetClassRoot(),
    parquet.JetClassParquet(),
    parquet.JetClass2(),
    jetnet.JetNet(),
):
    register(_layout)
