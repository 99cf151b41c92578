"""`pyrino draw`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyrino.cli.parser import add_command, add_overwrite, default_of
from pyrino.cli.reading import add_reading, reading_of
from pyrino.data import read_jets
from pyrino.errors import RinoError
from pyrino.files import whole_file
from pyrino.jets import Jets

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "draw",
        _run,
        usage="PATH --out FILE [options]",
        summary="draw a jet in the (eta, phi) plane at several resolutions",
        description="A resolution is a number of subjets, kt:Q (exclusive jets at Q GeV), fraction:Y (the same at\n"
        "Y times the jet's pT) or all (the constituents).",
        example="pyrino draw data/qcd --jet 7 --resolutions 1 2 8 all --out jet7.png",
    )
    parser.add_argument("path", metavar="PATH", help="file, folder, pattern or @LIST.txt")
    parser.add_argument("--jet", type=int, default=0, metavar="INDEX", help="which of the jets that are read, from 0")
    parser.add_argument(
        "--resolutions",
        nargs="+",
        default=list(default_of(Jets.draw, "resolutions")),
        metavar="RESOLUTION",
        help="one panel each",
    )
    parser.add_argument("--radius", type=float, default=default_of(Jets.draw, "radius"), help="R of the clustering")
    parser.add_argument(
        "--algorithm", default=default_of(Jets.draw, "algorithm"), metavar="NAME", help="kt, cambridge, antikt"
    )
    parser.add_argument("--dpi", type=float, default=150.0, help="pixels per inch, for png")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture: .png, .svg, .pdf ...")
    add_overwrite(parser, "the picture if it exists")
    add_reading(parser, limit=False)


def _run(args: argparse.Namespace) -> None:
    from matplotlib.backend_bases import FigureCanvasBase

    kind = args.out.suffix.lower().removeprefix(".")
    if kind not in FigureCanvasBase.filetypes:
        known = ", ".join(f".{name}" for name in FigureCanvasBase.filetypes)
        raise RinoError(f"{args.out} has the suffix {args.out.suffix!r}: choose from {known}")
    if args.jet < 0:
        raise RinoError(f"--jet is {args.jet}: jets are counted from 0")
    if not args.dpi > 0:
        raise RinoError(f"--dpi is {args.dpi:g}: choose a number above 0, for example 150")
    with whole_file(args.out, overwrite=args.overwrite) as partial:
        jets = read_jets(args.path, max_jets=args.jet + 1, labelled=False, **reading_of(args))
        if args.jet >= len(jets):
            raise RinoError(f"{args.path} has {len(jets)} jets: choose --jet 0 to {len(jets) - 1}")
        figure = jets[args.jet].draw(args.resolutions, radius=args.radius, algorithm=args.algorithm)
        figure.savefig(partial, format=kind, dpi=args.dpi)
    print(f"jet {args.jet} of {args.path} is in {args.out}")
