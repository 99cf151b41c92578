"""`pyrino predict`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyrino._arguments import device_of
from pyrino.cli.parser import add_command, add_device, default_of
from pyrino.cli.writing import add_writing, described, write
from pyrino.evaluate.working_point import WORKING_POINT, WorkingPoint
from pyrino.outputs import predict_files
from pyrino.training.tagger import Tagger

__all__ = ["add"]

_EXAMPLE = """
pyrino predict runs/tagger --jets data/collisions --out probabilities.parquet
pyrino predict runs/tagger --jets 'JetClass/*.root' --out friends
pyrino evaluate runs/tagger --test data/validation --fix eps_b=0.01
pyrino predict runs/tagger --jets data/collisions --working-point --out passes.parquet
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "predict",
        _run,
        usage="TAGGER --jets PATH [PATH ...] --out OUT [options]",
        summary="write a tagger's score for each jet to parquet, or to ROOT as friend trees",
        description=described("probability (float64; the network's score that the jet is signal, see --prior)"),
        example=_EXAMPLE,
    )
    parser.add_argument("tagger", metavar="TAGGER", help="folder of a fine-tuning, or a .safetensors file")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=default_of(predict_files, "batch_size"),
        metavar="N",
        help="jets at a time",
    )
    parser.add_argument(
        "--prior",
        type=float,
        metavar="Q",
        help="write probabilities, for jets of which the share Q is signal (default: the network's score, which "
        "finetune.positive_weight raises)",
    )
    parser.add_argument(
        "--working-point",
        nargs="?",
        const="",
        metavar="FILE",
        help="also write passes (bool), whether the score is at or above the threshold of a working point that pyrino "
        f"evaluate --fix wrote; without FILE {WORKING_POINT} beside the tagger (default: do not)",
    )
    add_device(parser)
    add_writing(parser)


def _run(args: argparse.Namespace) -> None:
    tagger = Tagger.load(args.tagger).to(device_of(args.device))
    point = None
    if args.working_point is not None:
        beside = Path(args.tagger) if Path(args.tagger).is_dir() else Path(args.tagger).parent
        point = WorkingPoint.load(args.working_point or beside)
    options = {"prior": args.prior, "working_point": point, "batch_size": args.batch_size}
    tally = write(predict_files, tagger, args, **options, about={"tagger": args.tagger})
    print(f"probabilities ({tagger.kind} head) are in {args.out}: {tally}")
