"""Encoders and taggers from their files, whichever these hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.nn import Encoder, load_weights
from pyrino.training.tagger import Tagger

__all__ = ["load"]


@checked
def load(path: str | os.PathLike[str]) -> Any:  # which of two the file says, and who names it knows
    """Read any encoder or tagger that `save`, `pretrain` or `finetune` wrote; it is in evaluation mode.

    Parameters
    ----------
    path
        A safetensors file, or the folder of a run; of one that has both, the tagger.

    Returns
    -------
    Encoder or Tagger
        An encoder is of the class of its kind: `JetEncoder`, `DeepSetsEncoder` ...

    Raises
    ------
    RinoError
        If there is none, or the file is damaged or holds something else, as a checkpoint.

    Examples
    --------
    >>> encoder = rino.load("runs/nano")
    >>> embeddings = encoder.embed(jets)
    """
    place = Path(path)
    file = place
    if place.is_dir():
        file = next((place / kind._file for kind in (Tagger, Encoder) if (place / kind._file).is_file()), place)
        if file == place:
            names = f"{Encoder._file} and {Tagger._file}"
            raise RinoError(f"the folder {place} has neither of {names}: give the folder of a finished run, or a file")
    kind = load_weights(file)[1].get("kind")
    if kind not in ("encoder", "tagger"):
        raise RinoError(f"{file} holds {kind or 'something of unknown kind'!r}: give an encoder or a tagger")
    return Tagger.load(file) if kind == "tagger" else Encoder.load(file)
