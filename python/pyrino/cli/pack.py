"""`pyrino pack`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyrino.cli.common import plural, show_progress
from pyrino.cli.parser import add_command, add_overwrite
from pyrino.cli.reading import add_reading, reading_of
from pyrino.data import pack

__all__ = ["add"]

_EXAMPLE = """
pyrino pack "JetClass/train_100M/*.root" --out train.arrow --columns part_charge jet_sdmass
pyrino pack AOJ --pt 500 1000 --hardest 128 --out aspen.arrow
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "pack",
        _run,
        usage="PATH [PATH ...] --out FILE [options]",
        summary="write jets of any layout to one file that is read as fast as memory",
        description="The packed cache has float32 four-momenta in GeV, labels, the columns asked for, and the\n"
        "file and entry that every jet is from: 0.74 kB for a jet of 44 constituents. It is mapped into memory\n"
        "when it is read, and its checksums are compared. All commands take it as they take its sources.\n\n"
        "It is Arrow IPC (Feather) without compression, which pyarrow, pandas, polars and awkward read: columns\n"
        "part_px, part_py, part_pz, part_energy, those of --columns, jet_label, origin_file, origin_entry.",
        example=_EXAMPLE,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, patterns, @LIST.txt")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the cache; the suffix is .arrow")
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns beyond momenta and label, of constituents and of jets (default: none)",
    )
    parser.add_argument(
        "--no-labels", action="store_true", help="leave labels out, so that files of different ones mix"
    )
    add_reading(parser, limit=False)
    add_overwrite(parser, "FILE if it exists")


def _run(args: argparse.Namespace) -> None:
    tally = pack(
        args.paths,
        args.out,
        columns=args.columns,
        overwrite=args.overwrite,
        progress=show_progress(),
        labelled=not args.no_labels,
        **reading_of(args),
    )
    size = args.out.stat().st_size
    print(f"{plural(tally.jets, 'jet')}, {size / 1e6:.3g} MB, {size / tally.jets:.0f} bytes each, are in {args.out}")
