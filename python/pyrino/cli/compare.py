"""`pyrino compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrino.bars import progress_bar
from pyrino.cli.common import as_json, show_progress
from pyrino.cli.parser import add_command, add_overwrite, default_of
from pyrino.cli.pictures import check_picture
from pyrino.cli.reading import add_reading, reading_of
from pyrino.data.layout import open_file
from pyrino.data.read import find_files, iterate
from pyrino.data.selection import Selection, Tally
from pyrino.data.source import Source
from pyrino.errors import RinoError
from pyrino.evaluate.domains import compare, compare_variables, jet_variables
from pyrino.files import whole_file
from pyrino.jets import Jets

__all__ = ["add"]

_CHARGE = "part_charge"
#: Jets clustered at a time, at most.
_PIECE = 65536

_DESCRIPTION = """\
Compared are pT, eta, mass and the number of constituents; the kT splitting scales sqrt(d_12), sqrt(d_23),
sqrt(d_34) in GeV, at which 2, 3, 4 exclusive kT subjets become one fewer (E-scheme, distances over R^2); the
shares of the constituents' summed pT that the hardest constituent, the 10 hardest, the hardest of 3 subjets
and, where both sides have part_charge, the charged constituents carry.

The first table has both samples' mean, standard deviation and quantiles, the second their distances:
  KS D    largest distance between the two cumulative distributions (Kolmogorov-Smirnov), 0 to 1
  KS p    probability of such a D if the two are the same; with many jets the smallest difference has p = 0
  W1      Wasserstein distance: how far a jet must be moved on average to make one sample of the other
  W1/std  the same in units of the pooled standard deviation, comparable between rows
  AUC     of a cut on this variable alone: 0.5 no separation, 1 complete separation
The last lines say how well boosted trees tell the samples apart (cross-validated; error: between the folds) by
all variables, and by pT and eta alone, which reweighting could remove. Below 0.5 the samples share jets."""

_EXAMPLE = """
pyrino compare data/simulation-wide/qcd data/collisions/qcd --names simulation collisions --plot domains.pdf
pyrino compare "JetClass/ZJetsToNuNu_*.root" "AOJ/*.h5" --pt 500 1000 --max-jets 50000
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "compare",
        _run,
        usage="A B [options]",
        summary="two domains side by side: kinematics, kT splitting scales, pT shares and their distances",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    parser.add_argument("first", metavar="A", help="file, folder, pattern, URL or @LIST.txt")
    parser.add_argument("second", metavar="B", help="the same, of the other domain")
    parser.add_argument(
        "--names", nargs=2, metavar="NAME", help="of the two, in table and picture (default: the paths)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw both with their ratio B/A: .png, .pdf ... (default: do not)"
    )
    add_overwrite(parser, "the picture if it exists")
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    parser.add_argument(
        "--max-jets",
        type=int,
        default=100_000,
        metavar="N",
        help="read at most N jets of A and of B, from each file in proportion to its jets",
    )
    parser.add_argument(
        "--weight",
        metavar="COLUMN",
        help="how much each jet counts, on the sides whose files have the column (default: all 1)",
    )
    parser.add_argument("--radius", type=float, default=default_of(compare, "radius"), help="R of the kT clustering")
    parser.add_argument("--no-classifier", action="store_true", help="leave out the boosted trees")
    parser.add_argument("--seed", type=int, default=default_of(compare, "seed"), help="of the classifier's folds")
    parser.add_argument("--threads", type=int, default=default_of(compare, "threads"), metavar="N", help="to work with")
    add_reading(parser, limit=False)


def _run(args: argparse.Namespace) -> None:
    if args.max_jets < 1:
        raise RinoError(f"max_jets = {args.max_jets}: give 1 or more")
    if args.plot is not None:
        check_picture(args.plot, overwrite=args.overwrite)
    sides = [_Side(path, args) for path in (args.first, args.second)]
    columns = (_CHARGE,) if all(side.has_charge for side in sides) else ()
    if args.weight and not any(side.has_weight for side in sides):
        raise RinoError(
            f"neither {args.first} nor {args.second} has a column {args.weight!r} with one number per jet: "
            "see pyrino info"
        )
    variables, weights = zip(*(side.variables(columns, args) for side in sides), strict=True)
    names = args.names or _names(args.first, args.second)
    found = compare_variables(
        *variables,
        names=names,
        weights=weights,
        classifier=not args.no_classifier,
        seed=args.seed,
        threads=args.threads,
    )
    if args.plot is not None:
        kind = check_picture(args.plot, overwrite=args.overwrite)
        with whole_file(args.plot, overwrite=args.overwrite) as partial:
            found.plot().savefig(partial, format=kind, dpi=150)
    if args.json:
        print(as_json(found.to_dict() | {"paths": [args.first, args.second]}))
    else:
        print(found)
        if not columns:
            lacking = " and ".join(side.path for side in sides if not side.has_charge)
            print(f"\nwithout the charged share: there is no {_CHARGE} in {lacking}")
    for side in sides:
        if not side.tally.complete:
            print(f"pyrino: left out of {side.path}: {side.tally}", file=sys.stderr)
    if args.plot is not None and not args.json:
        print(f"\nthe picture is in {args.plot}")


class _Side:
    """One of the two samples: its files, and how many jets each has."""

    def __init__(self, path: str, args: argparse.Namespace) -> None:
        arguments = reading_of(args)
        self.path = path
        self.tally = Tally()
        self._layout, self._on_error = arguments.pop("layout"), arguments.pop("on_error")
        # Labels play no role, so that files with and without can be mixed, unless classes are chosen.
        self._arguments = arguments | {"labelled": args.label is not None}
        self._weight = args.weight
        self._entries: dict[Source, int] = {}
        self.has_charge, self.has_weight = True, args.weight is not None
        for source in find_files(path):
            try:
                with open_file(source, self._layout) as (_, reader):
                    self._entries[source] = reader.entries
                    self.has_charge &= reader.columns.get(_CHARGE) == "constituent"
                    self.has_weight &= reader.columns.get(args.weight) == "jet"
            except RinoError as error:
                if self._on_error == "raise":
                    raise
                self.tally.skip(str(source), str(error))

    def variables(
        self, columns: Sequence[str], args: argparse.Namespace
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """The variables of `args.max_jets` jets at most, read some thousands at a time, and their weights."""
        columns = [*columns, *([self._weight] if self.has_weight else [])]
        weights = []
        selection = Selection.of(**self._arguments, columns=columns).passing_labels()
        parts = []
        with progress_bar(
            desc=self.path, unit=" jets", unit_scale=True, leave=False, disable=not show_progress()
        ) as bar:
            for source, share in self._shares(args.max_jets).items():
                for jets in self._jets(source, share, selection):
                    parts.append(jet_variables(jets, radius=args.radius, threads=args.threads))
                    weights += [jets.values[self._weight]] if self.has_weight else []
                    bar.update(len(jets))
        if not parts:
            raise RinoError(f"no jet of {self.path} is left: {self.tally}: check the files and the selection")
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return found, np.concatenate(weights) if weights else None

    def _shares(self, most: int) -> dict[Source, int]:
        """How many jets to take of each file: all, or `most` in all, in proportion."""
        total = sum(self._entries.values())
        if total <= most:
            return self._entries
        ends = np.cumsum(list(self._entries.values())) * most // total
        return dict(zip(self._entries, np.diff(ends, prepend=0).tolist(), strict=True))

    def _jets(self, source: Source, left: int, selection: Selection) -> Iterator[Jets]:
        if left < 1:
            return
        most = min(_PIECE, left)
        pieces = iterate([source], selection, self.tally, layout=self._layout, on_error=self._on_error, most=most)
        for _, chunk, entries in pieces:
            if len(entries) > left:
                chunk = chunk.select(np.arange(len(entries)) < left)
            if len(chunk.counts):
                left -= len(chunk.counts)
                jets = chunk.jets()
                for name, values in chunk.extras.items():
                    jets = jets.with_extra(name, values)
                if self.has_weight:
                    jets = jets.with_value(self._weight, chunk.values[self._weight])
                yield jets
            if left < 1:
                break


def _names(first: str, second: str) -> tuple[str, str]:
    """The last parts of the paths, from where they differ; A and B if they do not."""
    one, two = (Path(path).parts for path in (first, second))
    while one and two and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    return (one[-1], two[-1]) if one and two else ("A", "B")
