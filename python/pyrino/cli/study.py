"""`pyrino study`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyrino.cli.parser import add_command

__all__ = ["add"]

_PRESETS = ("demo", "study")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "study",
        _run,
        usage="--out FOLDER [options]",
        summary="the main job from end to end: generate, pretrain, fine-tune, compare the domains, report",
        description="demo takes minutes, study an hour or two on two cores.\n"
        "Both end with FOLDER/report.html and FOLDER/report.json.",
        example="pyrino study --preset demo --out runs/demo",
    )
    parser.add_argument("--preset", choices=_PRESETS, default=_PRESETS[0], help=f"{' or '.join(_PRESETS)}")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where everything goes")


def _run(args: argparse.Namespace) -> None:
    from pyrino.study import run_study

    run_study(args.preset, args.out)
    report = args.out / "report.html"
    if report.is_file():
        print(f"the report is {report}")
