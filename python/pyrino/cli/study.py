"""`pyrino study`."""

from __future__ import annotations

import argparse
from typing import Any

from pyrino._arguments import device_of
from pyrino.cli.common import show_progress
from pyrino.cli.parser import add_command, add_device
from pyrino.training.pretrain import as_recipe

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "study",
        _run,
        usage="--out FOLDER [options]",
        summary="the main job from end to end: generate, pretrain, fine-tune, compare the domains, report",
        description="demo takes minutes, study an hour or two on two cores. recipes sets the workshop recipe and the\n"
        "production recipe beside each other, three pretrainings each.\n"
        "All end with FOLDER/report.html and FOLDER/report.json.",
        example="pyrino study --preset demo --out runs/demo\npyrino study --preset recipes --out runs/recipes",
    )
    parser.add_argument("--preset", default="demo", metavar="NAME", help="demo, study or recipes")
    parser.add_argument(
        "--recipe",
        metavar="RECIPE",
        help="preset or TOML file of any method without labels (default: the study's own)",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="where everything goes; what an earlier call finished is taken up",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that generate jets (default: one per core)")
    add_device(parser)


def _run(args: argparse.Namespace) -> None:
    from pyrino.study import run_study

    report = run_study(
        args.preset,
        args.out,
        recipe=None if args.recipe is None else as_recipe(args.recipe),
        device=str(device_of(args.device)),
        workers=args.workers,
        progress=show_progress(),
    )
    print(f"the report is {report}")
