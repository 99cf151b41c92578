"""Processes that train one network together: `joined` has torchrun's, `Ranks` is what `pretrain` takes as a group."""

from __future__ import annotations

from pyrino.training.ranks import Ranks, Stopped, joined

__all__ = ["Ranks", "Stopped", "joined"]
