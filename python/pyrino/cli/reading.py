"""Jets and their classes, as the commands read them, and the options that say which."""

from __future__ import annotations

import argparse
import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pyrino.cli.parser import default_of
from pyrino.data import JETCLASS_CLASSES, JETNET_CLASSES, read_jets
from pyrino.data.chunk import NO_LABEL
from pyrino.data.layout import layouts, open_file
from pyrino.data.read import find_files
from pyrino.data.selection import ON_ERROR, Selection
from pyrino.data.source import Source
from pyrino.errors import RinoError, RinoWarning
from pyrino.jets import Jets

__all__ = [
    "Classes",
    "add_reading",
    "add_signal",
    "classes_of",
    "count_classes",
    "find_classes",
    "find_signal",
    "read",
    "read_labelled",
    "reading_of",
    "signal_labels",
]


#: The arguments of `read_jets` that are options; which columns and labels are read is for the command to say.
_READING = ("layout", "on_error", *(f.name for f in fields(Selection) if f.name not in ("columns", "labelled")))


@dataclass(frozen=True)
class Classes:
    """Whose class numbers a file has.

    Attributes
    ----------
    meaning : str
        In words; "" where the file has no labels.
    names : tuple of str
        Name of each number; empty where the numbers have none.
    """

    meaning: str = ""
    names: tuple[str, ...] = ()

    def name(self, number: int) -> str:
        """Name of a class, or its number as text."""
        if number == NO_LABEL:
            return "no label"
        return self.names[number] if number < len(self.names) else str(number)

    def number(self, text: str) -> int:
        """Number of a class by name or number.

        Raises
        ------
        RinoError
            For a name that is not known.
        """
        if text in self.names:
            return self.names.index(text)
        if text.isdecimal():
            return int(text)
        if not self.names:
            raise RinoError(f"the class {text!r} is no number, and the labels are {self.meaning}: give numbers")
        close = difflib.get_close_matches(text, self.names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise RinoError(
            f"there is no class {text!r}{hint}: the labels are {self.meaning}, choose from {', '.join(self.names)}"
        )


def classes_of(source: Source) -> Classes:
    """The classes of a file that `find_files` found."""
    with open_file(source) as (_, reader):
        labels = reader.read(0, min(1, reader.entries)).labels
    return Classes() if labels is None else Classes(labels.meaning, labels.names)


def add_reading(parser: argparse.ArgumentParser, *, limit: bool = True) -> None:
    """The arguments of `read_jets` as options, for commands that call `read` or `reading_of`."""
    group = parser.add_argument_group("which jets are read")
    if limit:
        group.add_argument("--max-jets", type=int, metavar="N", help="read at most N jets of each PATH (default: all)")
    known = f"{', '.join(layouts())}; some have options: jetnet:phi=0, nanoaod:Jet,puppi"
    group.add_argument("--layout", metavar="NAME", help=f"{known} (default: told by the content)")
    for name, what in (("pt", "transverse momentum [GeV]"), ("eta", "pseudorapidity"), ("mass", "mass [GeV]")):
        group.add_argument(
            f"--{name}",
            nargs=2,
            type=_end,
            metavar=("LOW", "HIGH"),
            help=f"range of the jet's {what}; - leaves an end open (default: all)",
        )
    group.add_argument("--label", nargs="+", metavar="CLASS", help="classes by name or number (default: all)")
    group.add_argument(
        "--constituent-pt",
        type=float,
        default=Selection.constituent_pt,
        metavar="PT",
        help="least transverse momentum of a constituent [GeV]",
    )
    group.add_argument("--hardest", type=int, metavar="N", help="so many constituents of highest pT (default: all)")
    group.add_argument("--fraction", type=float, default=Selection.fraction, metavar="F", help="share of the jets")
    group.add_argument(
        "--fraction-seed", type=int, default=Selection.seed, metavar="SEED", help="which jets the share is made of"
    )
    group.add_argument(
        "--drop-empty", action="store_true", help="leave out jets without constituents, an error otherwise"
    )
    group.add_argument(
        "--scale",
        type=float,
        default=Selection.scale,
        metavar="FACTOR",
        help="what makes GeV of the files' momenta: 1e-3 for MeV",
    )
    group.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default=default_of(read_jets, "on_error"),
        help="what to do with broken files and jets; what is skipped is counted and said",
    )


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the options of `add_reading` say, as arguments of `read_jets` and `open_dataset`."""
    said = vars(args) | {"seed": args.fraction_seed}
    return {name: said[name] for name in _READING}


def _end(text: str) -> float | None:
    return None if text == "-" else float(text)


def add_signal(parser: argparse.ArgumentParser) -> None:
    """--signal, and under torchrun, which takes that for an option of its own, --signal-classes."""
    parser.add_argument(
        "--signal",
        "--signal-classes",
        nargs="+",
        default=["Tbqq"],
        metavar="CLASS",
        help=f"classes that are the signal, the others are the background: names of JetClass "
        f"({', '.join(JETCLASS_CLASSES)}) or JetNet ({', '.join(JETNET_CLASSES)}), or numbers",
    )


def read(paths: Sequence[str], args: argparse.Namespace, **more: Any) -> Jets:
    """The jets of all paths; `more` are further arguments of `read_jets`.

    Raises
    ------
    RinoError
        As `read_jets` does.
    """
    if args.max_jets is None:
        return read_jets(paths, **more, **reading_of(args))
    find_files(paths)  # of all together, which sees a file that is named twice
    parts: list[Jets] = []
    for path in paths:
        try:
            parts.append(read_jets(path, max_jets=args.max_jets, **more, **reading_of(args)))
        except RinoError as error:
            last = path == paths[-1] and not parts
            if args.on_error == "raise" or last:
                raise
            warnings.warn(f"left out {path}: {error}", RinoWarning, stacklevel=2)
    return Jets.concatenate(parts)


def find_classes(paths: Sequence[str], args: argparse.Namespace) -> tuple[list[str], Classes]:
    """The paths whose labels are of one kind, and the classes.

    Raises
    ------
    RinoError
        If there are no labels, or they are not of one kind.
    """
    found = [(path, *one) for path in paths for one in _first_classes(path, args.on_error).items()]
    if not found:
        raise RinoError(f"no file of {', '.join(map(str, paths))} can be read: see pyrino info")
    skip = args.on_error == "skip"
    _, first, classes = next((one for one in found if skip and one[2].meaning), found[0])
    for path, file, other in found:
        if other == classes and classes.meaning:
            continue
        why = f"{file} has no labels: give files that have, such as pyrino generate writes"
        if other.meaning:
            why = (
                f"the labels of {first} are {classes.meaning}, those of {file} {other.meaning}: "
                "give files with labels of one kind"
            )
        if not skip or not classes.meaning:
            raise RinoError(why)
        warnings.warn(f"left out {path}: {why}", RinoWarning, stacklevel=2)
        paths = [one for one in paths if one != path]
    return list(paths), classes


def find_signal(paths: Sequence[str], args: argparse.Namespace) -> tuple[list[str], list[int], Classes]:
    """As `find_classes`, with the class numbers of `args.signal`."""
    paths, classes = find_classes(paths, args)
    return list(paths), [classes.number(text) for text in args.signal], classes


def read_labelled(
    paths: Sequence[str], args: argparse.Namespace, columns: Sequence[str] = ()
) -> tuple[Jets, np.ndarray, str]:
    """The jets of all paths, their labels (n,) int64 with 1 for `args.signal` and 0 for the others, and a summary.

    `columns` are those that a recipe needs.

    Raises
    ------
    RinoError
        As `read_jets` and `find_signal` do; if either class is missing.
    """
    paths, numbers, classes = find_signal(paths, args)
    jets = read(paths, args, columns=columns)
    return signal_labels(jets, numbers, classes)


def signal_labels(jets: Jets, numbers: Sequence[int], classes: Classes) -> tuple[Jets, np.ndarray, str]:
    """Jets, their labels with 1 for these class numbers, and a summary.

    Raises
    ------
    RinoError
        If either class is missing.
    """
    labels = np.isin(jets.labels, numbers).astype(np.int64)
    signal, total = int(labels.sum()), len(labels)
    chosen = ", ".join(classes.name(number) for number in numbers)
    if signal in (0, total):
        raise RinoError(
            f"{'all' if signal else 'none'} of the {total} jets are signal ({chosen}), they are "
            f"{count_classes(jets.labels, classes)}: add files of the other class, or choose another --signal"
        )
    background = count_classes(jets.labels[labels == 0], classes)
    return (
        jets,
        labels,
        f"{total} jets, signal: {count_classes(jets.labels[labels == 1], classes)}, background: {background}",
    )


def _first_classes(path: str, on_error: str) -> dict[Source, Classes]:
    """Those of the first file of a path that can be opened; nothing if there is none and such are to be skipped."""
    for file in find_files(path):
        try:
            return {file: classes_of(file)}
        except RinoError:
            if on_error == "raise":
                raise
    return {}


def count_classes(labels: np.ndarray, classes: Classes) -> str:
    """Number of jets of each class, in words."""
    numbers, counts = np.unique(labels, return_counts=True)
    if len(numbers) > 10:
        return f"{len(labels)} of {len(numbers)} classes"
    return ", ".join(f"{count} {classes.name(int(n))}" for n, count in zip(numbers, counts, strict=True))
