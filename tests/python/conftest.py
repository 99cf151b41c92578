"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pyrino as rino

ROOT = Path(__file__).resolve().parents[2]


#: Files that take longest, in order: begun first, or one worker has one of them left when the others are done.
LONGEST = (
    "ranks",
    "foreign_device",
    "dataset",
    "study",
    "notebook",
    "generate_layouts",
    "report",
    "cli",
    "generate",
    "broken_data",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in LONGEST]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


@pytest.fixture(scope="session")
def toy() -> rino.Jets:
    """60 toy jets with labels 0 and 1."""
    return rino.toy_jets(60, seed=11, top_fraction=0.5)


@pytest.fixture(scope="session")
def jetclass2_file() -> Path:
    """The real file of 100 JetClass-II jets; RINO_SHARED names the folder above its `data` where it is elsewhere."""
    file = Path(os.environ.get("RINO_SHARED", ROOT.parent / "shared")) / "data" / "JetClassII_example.parquet"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    return file
