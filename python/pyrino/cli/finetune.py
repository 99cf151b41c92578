"""`pyrino finetune`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from pyrino.cli.common import change_recipe, checked_device, show_progress
from pyrino.cli.parser import add_command, add_device, add_overwrite, add_recipe_numbers, default_of
from pyrino.cli.reading import add_reading, add_signal, read_labelled
from pyrino.nn import Encoder
from pyrino.training.finetune import finetune

__all__ = ["add"]

_EXAMPLE = """
pyrino finetune runs/nano --train data/simulation --out runs/tagger
pyrino finetune runs/nano --train QCD.root Hbb.root --signal Hbb Hcc --head mlp --seed 2 --out runs/higgs
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "finetune",
        _run,
        usage="ENCODER --train PATH [PATH ...] --out FOLDER [options]",
        summary="fine-tune a pretrained encoder on labelled jets to a tagger",
        description="LP-FT: first the head on the frozen encoder, then both.",
        example=_EXAMPLE,
    )
    parser.add_argument("encoder", metavar="ENCODER", help="folder of a pretraining run, or a .safetensors file")
    parser.add_argument("--train", required=True, nargs="+", metavar="PATH", help="labelled files, folders, @LIST.txt")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the tagger goes")
    add_signal(parser)
    parser.add_argument("--head", metavar="KIND", help="linear or mlp (default: the recipe's)")
    parser.add_argument(
        "--seed", type=int, default=default_of(finetune, "seed"), help="of the head, the order of jets and dropout"
    )
    add_recipe_numbers(
        parser,
        {"--probe-epochs": "finetune.probe_epochs", "--epochs": "finetune.epochs"},
        "finetune.encoder_lr=1e-3",
    )
    add_device(parser)
    add_reading(parser)
    add_overwrite(parser, "a tagger that is in FOLDER")


def _run(args: argparse.Namespace) -> None:
    encoder = Encoder.load(args.encoder)
    recipe = change_recipe(encoder.recipe, args, sections=["finetune"])
    encoder.to(checked_device(args.device))
    jets, labels, summary = read_labelled(args.train, args, recipe.columns)
    print(f"fine-tuning {args.encoder} on {summary}; device {encoder.device}", flush=True)
    started = time.monotonic()
    tagger = finetune(
        encoder,
        (jets, labels),
        head=args.head,
        out=args.out,
        recipe=recipe,
        seed=args.seed,
        overwrite=args.overwrite,
        progress=show_progress(),
    )
    loss = f", last loss {tagger.history['loss'][-1]:.4f}" if tagger.history.rows else ""
    print(f"{tagger.kind} head{loss}, {time.monotonic() - started:.0f} s")
    print(f"the tagger is in {args.out}; next: pyrino evaluate {args.out} --test PATH")
