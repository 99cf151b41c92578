"""Top tagging landscape (zenodo 2603256): HDF5 written by pandas, key `table`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..domains import Domain
from .base import FileLayout, GeneratedJets, Part

__all__ = ["LANDSCAPE"]

_CONSTITUENTS = 200
_AXES = {"E": "energy", "PX": "px", "PY": "py", "PZ": "pz"}


def _write(path: Path, pieces: Iterable[GeneratedJets], domain: Domain) -> None:
    import pandas as pd

    names = [f"{axis}_{i}" for i in range(_CONSTITUENTS) for axis in _AXES] + [f"truth{axis}" for axis in _AXES]
    first = 0
    with pd.HDFStore(path, "w", complib="blosc", complevel=9) as store:
        for jets in pieces:
            momenta = [jets.padded(jets[f"part_{name}"], _CONSTITUENTS) for name in _AXES.values()]
            is_top = jets.process == "top"
            truth = [jets[f"truth_{name}"] * np.float32(is_top) for name in _AXES.values()]
            values = np.concatenate([np.stack(momenta, axis=2).reshape(len(jets), -1), np.stack(truth, axis=1)], axis=1)
            index = pd.RangeIndex(first, first + len(jets)).to_numpy()
            table = pd.DataFrame(values.astype(np.float32), index=index, columns=names)
            labels = {"ttv": np.zeros(len(jets), np.int64), "is_signal_new": np.full(len(jets), is_top, np.int64)}
            table = pd.concat([table, pd.DataFrame(labels, index=index)], axis=1)
            store.append("table", table, format="table", index=False)
            first += len(jets)


def _parts(process: str, domain: Domain) -> tuple[Part, ...]:
    return (Part(lambda _: "train.h5"),)


LANDSCAPE = FileLayout(
    name="landscape",
    suffix=".h5",
    domain="collisions",
    about="HDF5 written by pandas; train.h5, is_signal_new is 0 (qcd, quark, gluon) or 1 (top)",
    parts=_parts,
    write=_write,
    packages=("pandas", "tables"),
    refused=dict.fromkeys(("w", "z"), "its files hold jets of QCD and of tops, and have no label for others"),
)
