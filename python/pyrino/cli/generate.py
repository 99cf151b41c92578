"""`pyrino generate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyrino.cli.common import plural, show_progress
from pyrino.cli.parser import add_command
from pyrino.generate import DOMAINS, PROCESSES, generate

__all__ = ["add"]

_EXAMPLE = """
pyrino generate --domain collisions --process qcd --jets 10000 --seed 3 --out data/qcd
pyrino generate --domain simulation-wide --process top --jets 5000 --seed 4 --workers 2 --out data/simulation
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    domains = "\n".join(
        f"  {name:<16} jets of {domain.pt_min:g} < pT < {domain.pt_max:g} GeV, "
        + ("parametrised detector" if domain.detector else "no detector")
        + ("" if domain.max_constituents is None else f", {domain.max_constituents} hardest constituents")
        for name, domain in DOMAINS.items()
    )
    parser = add_command(
        commands,
        "generate",
        _run,
        usage="--domain NAME --process NAME --jets N --out FOLDER [options]",
        summary="generate labelled jets with Pythia 8, a parametrised detector and FastJet",
        description=f"""domains:
{domains}

Writes parquet files with the columns of JetClass, each of up to 1000 jets. Files that are there already are not
generated again: a second call is quick, and an interrupted one goes on.""",
        example=_EXAMPLE,
    )
    parser.add_argument("--domain", required=True, metavar="NAME", help=f"{', '.join(DOMAINS)}")
    parser.add_argument("--process", required=True, metavar="NAME", help=f"{', '.join(PROCESSES)}")
    parser.add_argument("--jets", required=True, type=int, metavar="N", help="number of jets")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same jets")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the files go; made if need be")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="number of processes; never changes a jet (default: one per core)"
    )
    parser.add_argument(
        "--mpi",
        action="store_true",
        help="multiparton interactions in place of the overlay of soft events; about four times slower",
    )


def _run(args: argparse.Namespace) -> None:
    files = generate(
        args.domain,
        args.process,
        args.jets,
        args.seed,
        args.out,
        workers=args.workers,
        mpi=True if args.mpi else None,
        progress=show_progress(),
    )
    print(f"{plural(args.jets, 'jet')} in {plural(len(files), 'file')}: {files[0]}" + (" ..." if files[1:] else ""))
    print(f"look at them with: pyrino info {Path(args.out)}")
