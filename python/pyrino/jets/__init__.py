"""Jets: ragged four-momenta with labels, extras and origins."""

from __future__ import annotations

from pyrino.jets.constituents import Constituents
from pyrino.jets.jets import Jets
from pyrino.jets.origins import Origins

__all__ = ["Constituents", "Jets", "Origins"]
