"""`pyrino evaluate`."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pyrino import _core
from pyrino.cli.common import as_json, checked_device, table
from pyrino.cli.parser import add_command, add_device, add_overwrite, default_of
from pyrino.cli.reading import add_reading, add_signal, read_labelled
from pyrino.evaluate import tagger_metrics
from pyrino.files import whole_file
from pyrino.training.finetune import Tagger

__all__ = ["add"]

_EXAMPLE = """
pyrino evaluate runs/tagger --test data/collisions
pyrino evaluate runs/tagger --test data/collisions --out runs/tagger/collisions.json
"""

_NAMES = {"accuracy": "accuracy at 0.5", "accuracy_at_median": "accuracy at the median score", "auc": "AUC"}


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
        "at 95% confidence.",
        example=_EXAMPLE,
    )
    parser.add_argument("tagger", metavar="TAGGER", help="folder of a fine-tuning, or a .safetensors file")
    parser.add_argument("--test", required=True, nargs="+", metavar="PATH", help="labelled files, folders, @LIST.txt")
    add_signal(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as JSON, too (default: do not)")
    parser.add_argument(
        "--resamplings", type=int, default=default_of(tagger_metrics, "n"), metavar="N", help="of the bootstrap"
    )
    parser.add_argument("--seed", type=int, default=default_of(tagger_metrics, "seed"), help="of the bootstrap")
    add_device(parser)
    add_reading(parser)
    add_overwrite(parser, "FILE if it exists")


def _run(args: argparse.Namespace) -> None:
    target = nullcontext() if args.out is None else whole_file(args.out, overwrite=args.overwrite)
    with target as partial:
        tagger = Tagger.load(args.tagger).to(checked_device(args.device))
        jets, labels, summary = read_labelled(args.test, args, tagger.encoder.recipe.columns)
        metrics = tagger_metrics(tagger.predict(jets), labels, args.seed, n=args.resamplings)
        if partial is not None:
            result = {
                "tagger": args.tagger,
                "head": tagger.kind,
                "test": args.test,
                "signal": args.signal,
                "jets": len(labels),
                "signal_jets": int(labels.sum()),
                "metrics": metrics,
                "resamplings": args.resamplings,
                "seed": args.seed,
                "pyrino": _core.__version__,
            }
            partial.write_text(as_json(result) + "\n", encoding="utf-8")
    print(f"{args.tagger} ({tagger.kind} head) on {summary}\n")
    print(table([_row(name, measurement) for name, measurement in metrics.items()], numbers=(1,)))
    print(f"\nerrors: bootstrap, {args.resamplings} resamplings, seed {args.seed}")


def _row(name: str, measurement: Any) -> list[str]:
    shown = _NAMES.get(name) or f"1/eps_B at eps_S = {name.removeprefix('rejection_at_')}"
    digits = 4 if name in _NAMES else 1
    if measurement.get("lower_bound"):
        return [shown, f"> {measurement['value']:.{digits}f}", "(95% confidence: no background jet passes)"]
    return [shown, f"{measurement['value']:.{digits}f}", f"+- {measurement['error']:.{digits}f}"]
