"""`pyrino bench`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pyrino.bench import MANY_JETS, bench
from pyrino.cli.parser import add_command, add_overwrite, default_of
from pyrino.files import whole_file
from pyrino.tables import aligned
from pyrino.training.pretrain import as_recipe

__all__ = ["add"]

_EXAMPLE = """
pyrino bench
pyrino bench base --threads 2 --out base.json
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "bench",
        _run,
        usage="[RECIPE] [options]",
        summary="how fast this machine makes views, trains and embeds, on toy jets",
        description="Takes about a minute with nano. Medians; do nothing else on the machine meanwhile.",
        example=_EXAMPLE,
    )
    parser.add_argument("recipe", nargs="?", default="nano", metavar="RECIPE", help="preset or TOML file")
    parser.add_argument(
        "--threads", nargs="+", type=int, metavar="N", help="numbers of threads (default: 1 and the number of cores)"
    )
    for option, meaning in (("jets", "number of toy jets"), ("repetitions", "of every measurement")):
        parser.add_argument(f"--{option}", type=int, default=default_of(bench, option), metavar="N", help=meaning)
    parser.add_argument("--out", metavar="FILE", help="JSON with the numbers (default: none)")
    add_overwrite(parser, "FILE if it exists")


def _run(args: argparse.Namespace) -> None:
    recipe = as_recipe(args.recipe)
    if args.out is None:
        print(_text(bench(recipe, threads=args.threads, jets=args.jets, repetitions=args.repetitions)))
        return
    with whole_file(Path(args.out), overwrite=args.overwrite) as partial:
        result = bench(recipe, threads=args.threads, jets=args.jets, repetitions=args.repetitions)
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(_text(result))


def _text(result: dict[str, Any]) -> str:
    machine, jets, rates = result["machine"], result["jets"], result["rates"]
    spread = " ".join(str(n) for n in jets["quantiles"].values())
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} when it began"
    about = [
        ["machine", f"{machine['processor']}, {' '.join(machine['instructions'])}, {machine['cores']} cores{load}"],
        ["torch", f"{machine['torch']}, kernels for {machine['torch_kernels']}"],
        ["jets", f"{jets['jets']}, {jets['mean']:.1f} +- {jets['std']:.1f} constituents"],
        ["", f"({', '.join(jets['quantiles'])}: {spread})"],
        ["recipe", f"{result['recipe']}, batches of {result['batch_size']} jets"],
    ]

    def row(name: str, values: list[str]) -> list[str]:
        return [name, *values]

    rows = [row("threads", [str(r["threads"]) for r in rates])]
    if "views" in rates[0]:
        rows += [
            row("views, jets/s", [f"{r['views']:,.0f}" for r in rates]),
            row("  the same by FastJet", [f"{r['views_fastjet']:,.0f}" for r in rates]),
            row("  ratio", [f"{r['views'] / r['views_fastjet']:.2f}" for r in rates]),
        ]
    rows.append(row("training step, jets/s", [f"{r['step']:,.0f}" for r in rates]))
    if "step_gflops" in rates[0]:
        rows += [
            row("  GFLOP/s", [f"{r['step_gflops']:.1f}" for r in rates]),
            row("  matrix product, GFLOP/s", [f"{r['matmul_gflops']:.1f}" for r in rates]),
            row("  share of it", [f"{r['step_gflops'] / r['matmul_gflops']:.0%}" for r in rates]),
        ]
    rows.append(row("embedding, jets/s", [f"{r['embed']:,.0f}" for r in rates]))
    best = min(rates, key=lambda r: r["pretraining_seconds"])
    return "\n".join(
        [
            aligned(about),
            "",
            aligned(rows, numbers=range(1, len(rates) + 1)),
            "",
            f"one jet embedded in {result['single_jet_us']:.0f} us (one thread)",
            f"pretraining, one epoch of {MANY_JETS:,} such jets: about {_duration(best['pretraining_seconds'])} "
            f"({best['threads']} threads; an estimate from the step above)",
        ]
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
