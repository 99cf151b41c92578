"""`pyrino evaluate`."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pyrino._arguments import device_of
from pyrino.cli.common import as_json
from pyrino.cli.parser import add_command, add_device, add_overwrite, default_of
from pyrino.cli.reading import add_reading, add_signal, read, read_labelled
from pyrino.errors import RinoError
from pyrino.evaluate.working_point import WORKING_POINT, point_file
from pyrino.files import whole_file
from pyrino.jets import Jets
from pyrino.report import write_evaluation
from pyrino.training.tagger import Tagger

__all__ = ["add"]

_EXAMPLE = """
pyrino evaluate runs/tagger --test data/collisions
pyrino evaluate runs/tagger --test data/validation --fix eps_b=0.01
pyrino evaluate runs/tagger --test data/collisions --working-point --report runs/tagger/collisions
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "evaluate",
        _run,
        usage="TAGGER --test PATH [PATH ...] [options]",
        summary="accuracy, AUC and background rejection of a tagger on labelled jets, with errors",
        description="Accuracy at the median score and AUC show separation whatever the threshold; the rejection is\n"
        "1/eps_B, where eps_B is the share of the background that passes where the share eps_S of the signal does.\n"
        "Errors are those of the finite sample (bootstrap); where no background jet passes there is a lower limit\n"
        "at 95% confidence. Of several classes: accuracies, the mean one-vs-rest AUC and the confusion matrix; of a\n"
        "regression: bias and resolution of each target.",
        example=_EXAMPLE,
    )
    parser.add_argument("tagger", metavar="TAGGER", help="folder of a fine-tuning, or a .safetensors file")
    parser.add_argument("--test", required=True, nargs="+", metavar="PATH", help="labelled files, folders, @LIST.txt")
    add_signal(parser)
    parser.add_argument("--weight", default="", metavar="COLUMN", help="how much each jet counts (default: all 1)")
    parser.add_argument(
        "--fix",
        metavar="NAME=VALUE",
        help="fix a working point on these jets, eps_s=0.5, eps_b=0.01 or threshold=0.8, and write it "
        "(default: do not)",
    )
    parser.add_argument(
        "--working-point",
        nargs="?",
        const="",
        metavar="FILE",
        help=f"a working point that was fixed, whose efficiencies on these jets are said; with --fix where it goes "
        f"(default: {WORKING_POINT} beside the tagger)",
    )
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write a page with pictures (default: do not)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as JSON, too (default: do not)")
    parser.add_argument(
        "--resamplings",
        type=int,
        default=default_of(Tagger.evaluate, "resamplings"),
        metavar="N",
        help="of the bootstrap",
    )
    parser.add_argument("--seed", type=int, default=default_of(Tagger.evaluate, "seed"), help="of the bootstrap")
    add_device(parser)
    add_reading(parser)
    add_overwrite(parser, "files that exist")


def _run(args: argparse.Namespace) -> None:
    tagger = Tagger.load(args.tagger).to(device_of(args.device))
    fix = _fixed_by(args)
    beside = Path(args.tagger) if Path(args.tagger).is_dir() else Path(args.tagger).parent
    place = Path(args.working_point) if args.working_point else beside
    if fix:
        place = point_file(place)
        if place.exists() and not args.overwrite:
            raise RinoError(f"{place} exists: give --overwrite to replace it, or another name with --working-point")
    target = nullcontext() if args.out is None else whole_file(args.out, overwrite=args.overwrite)
    with target as partial:
        test, summary = _test(tagger, args)
        point = place if args.working_point is not None and not fix else None
        found = tagger.evaluate(
            test, weight=args.weight, working_point=point, resamplings=args.resamplings, seed=args.seed
        )
        about = {"tagger": args.tagger, "head": tagger.kind, "test": args.test}
        if tagger.task == "binary":
            about["signal"] = args.signal
        if partial is not None:
            partial.write_text(as_json({**about, **found.to_dict()}) + "\n", encoding="utf-8")
        if args.report is not None:
            page = write_evaluation(
                found,
                args.report,
                title=f"{args.tagger} on {' '.join(args.test)}",
                command=shlex.join(["pyrino", *sys.argv[1:]]),
                about=about,
                overwrite=args.overwrite,
            )
    print(f"{args.tagger} ({tagger.kind} head) on {summary or found.summary()}\n\n{found.tables()}")
    if fix:
        fixed = found.fix_working_point(**fix)
        print(f"\nworking point: {fixed}\nit is in {fixed.save(place, overwrite=args.overwrite)}")
    if args.report is not None:
        print(f"the report is {page}")


def _test(tagger: Tagger, args: argparse.Namespace) -> tuple[Jets | tuple[Jets, np.ndarray], str]:
    """The jets, as the task has them, and which classes are signal, in words."""
    columns = [*tagger.encoder.recipe.columns, *tagger.targets, *([args.weight] if args.weight else [])]
    if tagger.task == "binary":
        jets, labels, summary = read_labelled(args.test, args, columns)
        return (jets, labels), summary
    return read(args.test, args, columns=columns, labelled=tagger.task == "multiclass"), ""


def _fixed_by(args: argparse.Namespace) -> dict[str, float]:
    """--fix as an argument of `Evaluation.fix_working_point`."""
    if args.fix is None:
        return {}
    names = {"eps_s": "signal_efficiency", "eps_b": "background_efficiency", "threshold": "threshold"}
    name, _, value = args.fix.partition("=")
    try:
        return {names[name]: float(value)}
    except (KeyError, ValueError):
        raise RinoError(f"--fix {args.fix!r} is none of eps_s=0.5, eps_b=0.01, threshold=0.8: write it so") from None
