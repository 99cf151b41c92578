"""`pyrino generate`."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from pyrino.cli.common import plural, show_progress
from pyrino.cli.parser import add_command, default_of
from pyrino.generate import DOMAINS, LAYOUTS, PROCESSES, generate

__all__ = ["add"]

_EXAMPLE = """
pyrino generate --domain collisions --process qcd --jets 10000 --seed 3 --out data/qcd
pyrino generate --domain simulation-wide --process top --jets 5000 --seed 4 --workers 2 --out data/simulation
pyrino generate --layout jetclass --process qcd --jets 200 --seed 3 --out rehearsal/JetClass
pyrino generate --layout landscape --process top --jets 200 --seed 3 --out rehearsal/top.h5
for p in gluon quark top w z; do pyrino generate --layout jetnet --process $p --jets 200 --out rehearsal/JetNet; done
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    domains = "\n".join(
        f"  {name:<16} jets of {domain.pt_min:g} < pT < {domain.pt_max:g} GeV, "
        + ("parametrised detector" if domain.detector else "no detector")
        + ("" if domain.max_constituents is None else f", {domain.max_constituents} hardest constituents")
        for name, domain in DOMAINS.items()
    )
    plain = default_of(generate, "layout")
    abouts = {plain: "pyrino's own: the columns of JetClass in parquet, 1000 jets a file"}
    abouts |= {name: f"{layout.about} (domain: {layout.domain})" for name, layout in LAYOUTS.items()}
    layouts = "\n".join(
        textwrap.fill(about, 118, initial_indent=f"  {name:<17}", subsequent_indent=19 * " ")
        for name, about in abouts.items()
    )
    refused = "; ".join(f"{name}: {', '.join(layout.refused)}" for name, layout in LAYOUTS.items() if layout.refused)
    parser = add_command(
        commands,
        "generate",
        _run,
        usage="--process NAME --jets N --out PATH [--domain NAME] [--layout NAME] [options]",
        summary="generate labelled jets with Pythia 8, a parametrised detector and FastJet",
        description=f"""domains:
{domains}

processes:
  qcd              quarks and gluons of hard scattering
  quark, gluon     the same with light quarks (d, u, s), or gluons, alone
  top, w, z        with all the quarks that they decay to in the jet

layouts:
{layouts}

The layouts but the first are those of public data sets, to rehearse without downloads: names, types, padding and units
are theirs, the physics is the domain's. Processes that a layout cannot hold are refused
({refused}).

Jets are generated in units of 1000. Units that are there already are not generated again: a second call is quick, and
an interrupted one goes on. The units of a public layout stay in the folder .pyrino-units beside its files; without it,
a call for more jets, or for another layout of the same jets, generates them anew.""",
        example=_EXAMPLE,
    )
    parser.add_argument(
        "--domain", metavar="NAME", help=f"{', '.join(DOMAINS)} (default: the layout's; collisions for {plain})"
    )
    parser.add_argument("--process", required=True, metavar="NAME", help=f"{', '.join(PROCESSES)}")
    parser.add_argument("--jets", required=True, type=int, metavar="N", help="number of jets")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same jets")
    parser.add_argument("--layout", default=plain, metavar="NAME", help="how the files are written; see above")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="folder where the files go, made if need be; with a public layout also one file for all jets, told by its "
        "suffix",
    )
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
        layout=args.layout,
        workers=args.workers,
        mpi=True if args.mpi else None,
        progress=show_progress(),
    )
    print(f"{plural(args.jets, 'jet')} in {plural(len(files), 'file')}: {files[0]}" + (" ..." if files[1:] else ""))
    print(f"look at them with: pyrino info {Path(args.out)}")
