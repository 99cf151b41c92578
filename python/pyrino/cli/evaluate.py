"""`pyrino evaluate`."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pyrino import _core
from pyrino.cli.common import as_json, checked_device, table
from pyrino.cli.parser import add_command, add_device, add_overwrite, default_of
from pyrino.cli.reading import add_reading, add_signal, read, read_labelled
from pyrino.errors import RinoError
from pyrino.evaluate import class_metrics, confusion_matrix, regression_metrics, tagger_metrics
from pyrino.files import whole_file
from pyrino.training.tagger import Tagger

__all__ = ["add"]

_EXAMPLE = """
pyrino evaluate runs/tagger --test data/collisions
pyrino evaluate runs/tagger --test data/collisions --out runs/tagger/collisions.json
"""

_NAMES = {
    "accuracy": "accuracy at 0.5",
    "accuracy_at_median": "accuracy at the median score",
    "auc": "AUC",
    "balanced_accuracy": "mean accuracy of the classes",
    "macro_auc": "mean one-vs-rest AUC",
    "bias": "mean of predicted - true",
    "resolution": "its standard deviation",
    "half_width_68": "half width of its central 68%",
    "explained": "share of the variance explained",
}


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
        evaluate = {"binary": _binary, "multiclass": _classes, "regression": _numbers}[tagger.task]
        summary, result, shown = evaluate(tagger, args)
        if partial is not None:
            common = {"tagger": args.tagger, "head": tagger.kind, "task": tagger.task, "test": args.test}
            about = {"resamplings": args.resamplings, "seed": args.seed, "pyrino": _core.__version__}
            partial.write_text(as_json({**common, **result, **about}) + "\n", encoding="utf-8")
    print(f"{args.tagger} ({tagger.kind} head) on {summary}\n")
    print(shown)
    print(f"\nerrors: bootstrap, {args.resamplings} resamplings, seed {args.seed}")


def _binary(tagger: Tagger, args: argparse.Namespace) -> tuple[str, dict[str, Any], str]:
    """A summary of the jets, what is written, what is shown."""
    jets, labels, summary = read_labelled(args.test, args, tagger.encoder.recipe.columns)
    metrics = tagger_metrics(tagger.predict(jets), labels, args.seed, n=args.resamplings)
    result = {"signal": args.signal, "jets": len(labels), "signal_jets": int(labels.sum()), "metrics": metrics}
    return summary, result, table([_row(name, measurement) for name, measurement in metrics.items()], numbers=(1,))


def _classes(tagger: Tagger, args: argparse.Namespace) -> tuple[str, dict[str, Any], str]:
    """The same of several classes, with the confusion matrix."""
    jets = read(args.test, args, columns=tagger.encoder.recipe.columns, labelled=True)
    wrong = np.flatnonzero(~np.isin(jets.labels, tagger.labels))
    if len(wrong):
        raise RinoError(
            f"the label of jet {wrong[0]} is {jets.labels[wrong[0]]}, which the tagger does not know: its classes are "
            f"{', '.join(map(str, tagger.labels))}; choose them with --label"
        )
    outputs = np.array([tagger.labels.index(label) for label in jets.labels.tolist()])
    p = tagger.predict(jets)
    metrics = class_metrics(p, outputs, args.seed, n=args.resamplings)
    confusion = confusion_matrix(p, outputs)
    result = {
        "classes": dict(zip(tagger.classes, tagger.labels, strict=True)),
        "jets": len(jets),
        "metrics": metrics,
        "confusion": confusion.tolist(),
    }
    rows = [["is \\ called", *tagger.classes]]
    rows += [[name, *(f"{share:.3f}" for share in row)] for name, row in zip(tagger.classes, confusion, strict=True)]
    shown = table([_row(name, one) for name, one in metrics.items()], numbers=(1,))
    matrix = table(rows, numbers=range(1, len(rows[0])))
    return f"{len(jets)} jets of {len(tagger.labels)} classes", result, f"{shown}\n\n{matrix}"


def _numbers(tagger: Tagger, args: argparse.Namespace) -> tuple[str, dict[str, Any], str]:
    """The same of a regression: bias and resolution of each target."""
    columns = [*tagger.encoder.recipe.columns, *tagger.targets]
    jets = read(args.test, args, columns=columns, labelled=False)
    found = tagger.predict(jets).reshape(len(jets), -1)
    metrics = {
        name: regression_metrics(found[:, t], jets.values[name], args.seed, n=args.resamplings)
        for t, name in enumerate(tagger.targets)
    }
    rows = [[target, *_row(name, one)] for target, each in metrics.items() for name, one in each.items()]
    return f"{len(jets)} jets", {"jets": len(jets), "metrics": metrics}, table(rows, numbers=(2,))


def _row(name: str, measurement: Any) -> list[str]:
    shown = _NAMES.get(name) or f"1/eps_B at eps_S = {name.removeprefix('rejection_at_')}"
    digits = 4 if name in _NAMES else 1
    if measurement.get("lower_bound"):
        return [shown, f"> {measurement['value']:.{digits}f}", "(95% confidence: no background jet passes)"]
    return [shown, f"{measurement['value']:.{digits}f}", f"+- {measurement['error']:.{digits}f}"]
