"""Tests on the device of device.cpp: they need a process of their own, which `tests/python/test_foreign_device.py`
starts. By hand: ``python -m pytest tests/foreign``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "python")]

import foreign  # noqa: E402

foreign.load()
os.environ["RINO_GPU"] = foreign.NAME  # what test_cuda.py is to be run on
