"""`pyrino finetune`."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from pyrino._arguments import device_of
from pyrino.cli.common import change_recipe, on_ranks
from pyrino.cli.parser import add_command, add_device, add_overwrite, add_recipe_numbers, default_of
from pyrino.cli.reading import (
    Classes,
    add_reading,
    add_signal,
    find_classes,
    read,
    read_labelled,
    reading_of,
    signal_labels,
)
from pyrino.data import JetStream
from pyrino.data.opening import IN_MEMORY, open_jets
from pyrino.jets import Jets
from pyrino.nn import Encoder
from pyrino.recipe import Recipe
from pyrino.training.finetune import finetune
from pyrino.training.ranks import Ranks
from pyrino.training.task import columns_of_task

__all__ = ["add"]

_EXAMPLE = """
pyrino finetune runs/nano --train data/simulation --out runs/tagger
pyrino finetune runs/nano --train QCD.root Hbb.root --signal Hbb Hcc --head mlp --seed 2 --out runs/higgs
pyrino finetune runs/nano --train jetnet/*.hdf5 --set finetune.task=multiclass --out runs/classes
pyrino finetune runs/nano --train data --set finetune.task=regression --set finetune.targets=jet_mass --out runs/mass
torchrun --nproc-per-node 4 -m pyrino finetune runs/nano --train data/100M --device cuda --out runs/large --resume
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "finetune",
        _run,
        usage="ENCODER --train PATH [PATH ...] --out FOLDER [options]",
        summary="fine-tune a pretrained encoder on labelled jets to a tagger",
        description="LP-FT: first the head on the frozen encoder, then both. Ctrl-C, SIGTERM and SIGUSR1 leave a\n"
        "checkpoint from which --resume goes on. On several GPUs or machines start it with torchrun, as pretrain.",
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
    parser.add_argument(
        "--stream",
        choices=("auto", "yes", "no"),
        default="auto",
        help=f"read while training runs, in bounded memory; auto: above {IN_MEMORY} jets",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write a log into FOLDER")
    parser.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=default_of(finetune, "checkpoint_minutes"),
        metavar="T",
        help="longest time between checkpoints [minutes]",
    )
    add_reading(parser)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on from the checkpoint in FOLDER, if there is one")
    add_overwrite(existing, "a tagger that is in FOLDER")


def _run(args: argparse.Namespace) -> None:
    on_ranks(args.device, lambda ranks: _finetune(args, ranks))


def _finetune(args: argparse.Namespace, ranks: Ranks) -> None:
    encoder = ranks.each(lambda: Encoder.load(args.encoder))
    recipe = ranks.each(lambda: change_recipe(encoder.recipe, args, sections=["finetune"]))
    encoder.to(ranks.each(lambda: device_of(str(ranks.device))))
    jets, signal, recipe, summary = ranks.each(lambda: _open(args, recipe, ranks))
    if ranks.first:
        where = f"device {encoder.device}" if ranks.alone else f"{ranks.size} processes, device {encoder.device.type}"
        print(f"fine-tuning {args.encoder} on {summary}; {where}", flush=True)
    started = time.monotonic()
    tagger = finetune(
        encoder,
        jets,
        head=args.head,
        out=args.out,
        recipe=recipe,
        seed=args.seed,
        signal=signal,
        resume=args.resume,
        overwrite=args.overwrite,
        group=ranks,
        tensorboard=args.tensorboard,
        checkpoint_minutes=args.checkpoint_minutes,
    )
    if not ranks.first:
        return
    loss = f", last loss {tagger.history['loss'][-1]:.4f}" if tagger.history.rows else ""
    print(f"{tagger.kind} head{loss}, {time.monotonic() - started:.0f} s")
    print(f"the tagger is in {args.out}; next: pyrino evaluate {args.out} --test PATH")


def _open(
    args: argparse.Namespace, recipe: Recipe, ranks: Ranks
) -> tuple[tuple[Jets, np.ndarray] | Jets | JetStream, list[int] | None, Recipe, str]:
    """Jets in memory with what is to be learned, or a stream of this rank's share; the stream's signal; the recipe with
    its classes; a summary.
    """
    task, columns = recipe.finetune.task, columns_of_task(recipe)
    if task == "binary" and args.max_jets is not None:
        held, labels, summary = read_labelled(args.train, args, columns)
        return (held, labels), None, recipe, summary
    paths, classes = (args.train, Classes()) if task == "regression" else find_classes(args.train, args)
    labelled = task != "regression"
    jets: Jets | JetStream
    if args.max_jets is not None:
        jets = read(paths, args, columns=columns, labelled=labelled)
    else:
        jets = open_jets(
            paths,
            stream={"auto": None, "yes": True, "no": False}[args.stream],
            shuffle_seed=args.seed,
            rank=ranks.rank,
            world_size=ranks.size,
            labelled=labelled,
            columns=columns,
            **reading_of(args),
        )
    how = f"{jets._total()} jets, streamed" if isinstance(jets, JetStream) else f"{len(jets)} jets"
    if task == "regression":
        return jets, None, recipe, f"{how}, targets: {', '.join(recipe.finetune.targets)}"
    if task == "multiclass":
        if not recipe.finetune.classes and isinstance(jets, Jets):
            named = [f"{number}={classes.name(number)}" for number in np.unique(jets.labels).tolist()]
            recipe = recipe.replace(**{"finetune.classes": named})
        return jets, None, recipe, f"{how}, classes: {', '.join(map(str, recipe.finetune.classes))}"
    numbers = [classes.number(text) for text in args.signal]
    if isinstance(jets, JetStream):
        return jets, numbers, recipe, f"{how}, signal: {', '.join(classes.name(number) for number in numbers)}"
    jets, labels, summary = signal_labels(jets, numbers, classes)
    return (jets, labels), None, recipe, summary
