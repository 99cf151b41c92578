"""Jets and their classes, as the commands read them."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyrino.data import JETCLASS_CLASSES, JETNET_CLASSES, read_jets
from pyrino.data.read import LAYOUTS, find_files
from pyrino.errors import RinoError
from pyrino.jets import Jets

__all__ = [
    "Classes",
    "add_drop_empty",
    "add_reading",
    "add_signal",
    "classes_of",
    "count_classes",
    "entries",
    "read",
    "read_labelled",
]

_NAMES = {"numbers of JetClass": JETCLASS_CLASSES, "numbers of JetNet": JETNET_CLASSES}


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


def classes_of(file: Path) -> Classes:
    """The classes of a file that `find_files` found."""
    with closing(LAYOUTS[file.suffix.lower()](file, (), 1)) as chunks:
        chunk = next(chunks, None)
    if chunk is None or chunk.labels is None:
        return Classes()
    return Classes(chunk.labels.meaning, _NAMES.get(chunk.labels.meaning, ()))


def add_reading(parser: argparse.ArgumentParser) -> None:
    """--max-jets and --drop-empty, for commands that call `read`."""
    parser.add_argument(
        "--max-jets",
        type=int,
        metavar="N",
        help="read at most N jets of each PATH (default: all)",
    )
    add_drop_empty(parser)


def add_drop_empty(parser: argparse.ArgumentParser) -> None:
    """--drop-empty, the argument of `read_jets`."""
    parser.add_argument(
        "--drop-empty", action="store_true", help="leave out jets without constituents, an error otherwise"
    )


def add_signal(parser: argparse.ArgumentParser) -> None:
    """--signal."""
    parser.add_argument(
        "--signal",
        nargs="+",
        default=["Tbqq"],
        metavar="CLASS",
        help=f"classes that are the signal, the others are the background: names of JetClass "
        f"({', '.join(JETCLASS_CLASSES)}) or JetNet ({', '.join(JETNET_CLASSES)}), or numbers",
    )


def read(paths: Sequence[str], args: argparse.Namespace) -> Jets:
    """The jets of all paths.

    Raises
    ------
    RinoError
        As `read_jets` does.
    """
    if args.max_jets is None:
        return read_jets(paths, drop_empty=args.drop_empty)
    return Jets.concatenate(read_jets(p, max_jets=args.max_jets, drop_empty=args.drop_empty) for p in paths)


def read_labelled(paths: Sequence[str], args: argparse.Namespace) -> tuple[Jets, np.ndarray, str]:
    """The jets of all paths, their labels (n,) int64 with 1 for `args.signal` and 0 for the others, and a summary.

    Raises
    ------
    RinoError
        As `read_jets` does; if there are no labels, they are not of one kind, or either class is missing.
    """
    found = {file: classes_of(file) for file in (find_files(path)[0] for path in paths)}
    first, classes = next(iter(found.items()))
    for file, other in found.items():
        if not other.meaning:
            raise RinoError(f"{file} has no labels: give files that have, such as pyrino generate writes")
        if other != classes:
            raise RinoError(
                f"the labels of {first} are {classes.meaning}, those of {file} {other.meaning}: "
                "give files with labels of one kind"
            )
    numbers = [classes.number(text) for text in args.signal]
    jets = read(paths, args)
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


def entries(file: Path, n: int, args: argparse.Namespace) -> np.ndarray:
    """(n,) rows in the file of the n jets that `read_jets` gave; without --drop-empty, all of them."""
    if not args.drop_empty:
        return np.arange(n)
    with closing(LAYOUTS[file.suffix.lower()](file, (), 65536)) as chunks:
        return np.flatnonzero(np.concatenate([chunk.counts for chunk in chunks]))


def count_classes(labels: np.ndarray, classes: Classes) -> str:
    """Number of jets of each class, in words."""
    numbers, counts = np.unique(labels, return_counts=True)
    if len(numbers) > 10:
        return f"{len(labels)} of {len(numbers)} classes"
    return ", ".join(f"{count} {classes.name(int(n))}" for n, count in zip(numbers, counts, strict=True))
