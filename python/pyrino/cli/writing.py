"""Where results per jet go, for the commands that write them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from pyrino.cli.common import show_progress
from pyrino.cli.parser import add_overwrite, default_of
from pyrino.cli.reading import add_reading, reading_of
from pyrino.data import Tally
from pyrino.outputs import embed_files

__all__ = ["add_writing", "described", "write"]


def described(column: str) -> str:
    """What the files hold, for a command's help; `column` says what is computed."""
    name = column.split()[0]
    return (
        "OUT says what is written:\n"
        "  NAME.parquet  one file with a row for each jet: file, entry (number of the jet in that file, from 0),\n"
        "                label (as that file numbers classes, null where it has none),\n"
        f"                {column}. Join with the source on (file, entry).\n"
        "  NAME.root     the friend tree of one ROOT file. Row i belongs to row i of the source's tree, and there\n"
        f"                are as many: entry, label (-1: none), valid, {name}. Jets that were cut or\n"
        f"                skipped have valid = 0 and {name} = NaN.\n"
        '                ROOT: tree->AddFriend("rino", "NAME.root"). uproot: read both, rows are aligned.\n'
        "  FOLDER        (a name without suffix) STEM_rino.root, a friend tree, for each of several ROOT files.\n"
        "                Take another folder than the sources', which are read whole where a PATH is a folder.\n"
        "With --append such a ROOT file begins as a copy of its source, so that one file has both trees; sources\n"
        "themselves are never changed. Files get their names when they are whole."
    )


def add_writing(parser: argparse.ArgumentParser) -> None:
    """--jets, --out and what goes with them; call it after the command's own options."""
    parser.add_argument("--jets", required=True, nargs="+", metavar="PATH", help="files, folders, patterns, @LIST.txt")
    parser.add_argument("--out", required=True, metavar="OUT", help="NAME.parquet, NAME.root or a folder: see above")
    parser.add_argument(
        "--append", action="store_true", help="begin each ROOT file with all that its source has; needs the room"
    )
    parser.add_argument(
        "--tree", default=default_of(embed_files, "tree"), metavar="NAME", help="of the friend tree in ROOT files"
    )
    add_overwrite(parser, "files that exist; never a file that is read")
    add_reading(parser)


def write(function: Callable[..., Tally], model: Any, args: argparse.Namespace, **options: Any) -> Tally:
    """Call `embed_files` or `predict_files` with the options of `add_writing`.

    Raises
    ------
    RinoError
        As they do.
    """
    return function(
        model,
        args.jets,
        args.out,
        append=args.append,
        tree=args.tree,
        overwrite=args.overwrite,
        progress=show_progress(),
        max_jets=args.max_jets,
        **reading_of(args),
        **options,
    )
