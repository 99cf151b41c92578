"""rino: pretraining on jets without labels, along the renormalisation-group flow.

The usual import is ``import pyrino as rino``.
"""

from __future__ import annotations

import torch

from pyrino import _core
from pyrino.errors import RinoError

__version__: str = _core.__version__

if torch.__version__.split(".")[:2] != _core.built_with_torch.split("."):
    raise ImportError(
        f"pyrino was built with torch {_core.built_with_torch} and runs with {torch.__version__}: "
        "rebuild it with 'pip install --no-build-isolation --force-reinstall --no-deps .'"
    )

from pyrino.jets import Jets  # noqa: E402
