"""`pyrino info`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pyrino.cli.common import table
from pyrino.cli.labels import Classes, add_reading, classes_of, read
from pyrino.cli.parser import add_command
from pyrino.data.read import find_files

__all__ = ["add"]

_LAYOUTS = {
    ".parquet": "parquet with the columns of JetClass",
    ".root": "ROOT with the tree of JetClass",
    ".h5": "HDF5 as JetNet has it",
    ".hdf5": "HDF5 as JetNet has it",
}

#: Classes that are listed by name; JetClass-II has 188.
_SHOWN = 12

_EXAMPLE = """
pyrino info data/qcd
pyrino info JetClass/val_5M/TTBar_000.root --max-jets 10000
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "info",
        _run,
        usage="PATH [PATH ...] [options]",
        summary="what is in files: layout, number of jets and constituents, classes, ranges of pT, eta and mass",
        description="pT and mass are in GeV and are those of the sum of a jet's constituents.",
        example=_EXAMPLE,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or patterns")
    add_reading(parser)


def _run(args: argparse.Namespace) -> None:
    groups: dict[tuple[str, Classes], _Summary] = {}
    for path in args.paths:
        left = args.max_jets
        for file in find_files(path):
            classes = classes_of(file)
            summary = groups.setdefault((_LAYOUTS[file.suffix.lower()], classes), _Summary())
            jets = read([str(file)], argparse.Namespace(max_jets=left, drop_empty=args.drop_empty))
            summary.add(file, jets, classes)
            if left is not None:
                left -= len(jets)
                if left == 0:
                    break
    for i, ((layout, classes), summary) in enumerate(groups.items()):
        print(("\n" if i else "") + summary.text(layout, classes))


class _Summary:
    """Numbers of the files of one layout, gathered file by file."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.classes: Counter[str] = Counter()
        self.origins: Counter[str] = Counter()
        self.numbers = {
            name: _Range() for name in ("constituents of a jet", "pT [GeV]", "pseudorapidity eta", "mass [GeV]")
        }

    def add(self, file: Path, jets: Any, classes: Classes) -> None:
        self.files.append(file)
        for numbers, values in zip(
            self.numbers.values(), (jets.multiplicity, jets.pt, jets.eta, jets.mass), strict=True
        ):
            numbers.add(values)
        if jets.labels is not None:
            labels, counts = np.unique(jets.labels, return_counts=True)
            self.classes.update({classes.name(int(n)): int(count) for n, count in zip(labels, counts, strict=True)})
        origin = _origin(file)
        if origin:
            self.origins[origin] += len(jets)

    def text(self, layout: str, classes: Classes) -> str:
        jets = self.numbers["pT [GeV]"].count
        more = f" ... {self.files[-1].name}" if len(self.files) > 1 else ""
        rows = [
            ["layout", layout],
            ["files", f"{len(self.files)}: {self.files[0]}{more}"],
            ["jets", str(jets)],
            ["labels", classes.meaning or "none"],
            *([f"  {name}", f"{count} ({count / jets:.1%})"] for name, count in self.classes.most_common(_SHOWN)),
            *([["  others", f"{len(self.classes) - _SHOWN} classes"]] if len(self.classes) > _SHOWN else []),
            *(["generated", f"{count}: {origin}"] for origin, count in self.origins.items()),
        ]
        ranges = [["", "mean", "least", "greatest"], *([n, *r.cells()] for n, r in self.numbers.items())]
        return f"{table(rows)}\n\n{table(ranges, numbers=(1, 2, 3))}"


class _Range:
    """Count, mean and range of numbers that come piece by piece."""

    def __init__(self) -> None:
        self.count, self.total, self.least, self.greatest = 0, 0.0, np.inf, -np.inf
        self.whole = False

    def add(self, values: np.ndarray) -> None:
        self.whole = values.dtype.kind == "i"
        self.count += len(values)
        self.total += float(values.sum())
        self.least = min(self.least, float(values.min()))
        self.greatest = max(self.greatest, float(values.max()))

    def cells(self) -> list[str]:
        digits = 0 if self.whole else 2
        return [f"{self.total / self.count:.2f}", f"{self.least:.{digits}f}", f"{self.greatest:.{digits}f}"]


def _origin(file: Path) -> str:
    """What `pyrino generate` wrote into the file's metadata, in words; "" for other files."""
    if file.suffix.lower() != ".parquet":
        return ""
    import pyarrow.parquet as pq

    from pyrino.generate.files import METADATA_KEY

    text = (pq.read_metadata(file).metadata or {}).get(METADATA_KEY)
    if text is None:
        return ""
    document = json.loads(text)
    made = document["configuration"]
    return f"{made['domain']['name']} {made['process']}, seed {document['seed']}, Pythia {made['pythia8mc']}"
