"""`pyrino pretrain`."""

from __future__ import annotations

import argparse
from typing import Any

from pyrino._arguments import device_of
from pyrino.cli.common import change_recipe, on_ranks, plural
from pyrino.cli.parser import add_command, add_device, add_overwrite, add_recipe_numbers, default_of
from pyrino.cli.reading import add_reading, read, reading_of
from pyrino.data import JetStream, open_dataset
from pyrino.data.opening import IN_MEMORY, open_jets
from pyrino.errors import RinoError
from pyrino.jets import Jets
from pyrino.methods import about
from pyrino.methods.method import import_file
from pyrino.recipe import Recipe
from pyrino.training.pretrain import as_recipe, pretrain
from pyrino.training.ranks import Ranks
from pyrino.training.trainer import columns_of

__all__ = ["add"]

_EXAMPLE = """
pyrino pretrain nano --train data/qcd --epochs 5 --out runs/nano
pyrino pretrain demo --train data/qcd --set optimizer.lr=1e-3 --set views.student=2,3,all --out runs/mine
pyrino pretrain mine.toml --train data/qcd data/more --device cuda --out runs/mine --resume
pyrino pretrain alignment --method-module alignment.py --train data/qcd --out runs/alignment
torchrun --nproc-per-node 4 -m pyrino pretrain rino --train data/jets --device cuda --out runs/rino --resume
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "pretrain",
        _run,
        usage="RECIPE --train PATH [PATH ...] --out FOLDER [options]",
        summary="pretrain an encoder on jets without labels",
        description="Writes the encoder, checkpoints, the recipe, the numbers of every step and a log for TensorBoard\n"
        "to FOLDER. Ctrl-C, SIGTERM and SIGUSR1 leave a checkpoint from which --resume goes on, with exit status 130,\n"
        "143 and 138. Labels are looked at where the method needs them.\n\n"
        "On several GPUs or machines start it with torchrun: every process takes its part of each batch of\n"
        "training.batch_size jets, reads its own share of a stream, and all read all jets that are kept in memory.\n"
        "--device cuda gives each its own GPU; on CPUs set OMP_NUM_THREADS to the cores of a process.",
        example=_EXAMPLE,
    )
    parser.add_argument("recipe", metavar="RECIPE", help=f"preset ({', '.join(Recipe.presets())}) or TOML file")
    parser.add_argument(
        "--method-module",
        metavar="FILE",
        help="Python file with the class of a method of your own, which the recipe names (default: none)",
    )
    parser.add_argument("--train", required=True, nargs="+", metavar="PATH", help="files, folders, patterns, @LIST.txt")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the run goes")
    parser.add_argument(
        "--init", metavar="ENCODER", help="run or file whose weights the encoder starts from (default: new ones)"
    )
    add_recipe_numbers(
        parser,
        {"--epochs": "training.epochs", "--batch-size": "training.batch_size", "--seed": "training.seed"},
        "optimizer.lr=1e-3, views.teacher=4,8,16 or encoder.class_token=learned",
    )
    add_device(parser)
    parser.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=default_of(pretrain, "checkpoint_minutes"),
        metavar="T",
        help="longest time between checkpoints [minutes]",
    )
    stream = parser.add_argument_group("streaming")
    stream.add_argument(
        "--stream",
        choices=("auto", "yes", "no"),
        default="auto",
        help=f"read while training runs, in bounded memory; auto: above {IN_MEMORY} jets",
    )
    stream.add_argument(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="stream, each jet from one PATH drawn with these weights (default: all jets alike)",
    )
    stream.add_argument(
        "--window",
        type=int,
        default=default_of(open_dataset, "window"),
        metavar="N",
        help="jets of a stream that are shuffled among each other, 0.7 kB each; two to seven windows at a time",
    )
    stream.add_argument(
        "--reader-threads", type=int, default=default_of(open_dataset, "threads"), metavar="N", help="of a stream"
    )
    add_reading(parser)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on from the checkpoint in FOLDER, if there is one")
    add_overwrite(existing, "a run that is in FOLDER")


def _run(args: argparse.Namespace) -> None:
    on_ranks(args.device, lambda ranks: _pretrain(args, ranks))


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe with its numbers changed, once the method of a user's own is known."""
    if args.method_module is not None:
        import_file(args.method_module)
    return change_recipe(as_recipe(args.recipe), args)


def _pretrain(args: argparse.Namespace, ranks: Ranks) -> None:
    recipe = ranks.each(lambda: _recipe(args))
    device = ranks.each(lambda: device_of(str(ranks.device)))
    jets = ranks.each(lambda: _open(args, recipe, ranks))
    if ranks.first:
        total, how = (len(jets), "") if isinstance(jets, Jets) else (jets._total(), ", streamed")
        where = f"device {device}" if ranks.alone else f"{ranks.size} processes, device {device.type}"
        print(
            f"pretraining {args.recipe} on {plural(total, 'jet')}, {plural(recipe.training.epochs, 'epoch')}, "
            f"{where}{how}; log: tensorboard --logdir {args.out}",
            flush=True,
        )
    run = pretrain(
        recipe,
        jets,
        args.out,
        resume=args.resume,
        overwrite=args.overwrite,
        device=device,
        group=ranks,
        checkpoint_minutes=args.checkpoint_minutes,
        init=args.init,
    )
    if not ranks.first:
        return
    if run.resumed_at:
        print(f"went on after step {run.resumed_at}")
    loss = f", last loss {run.history['loss'][-1]:.4f}" if run.history.rows else ""
    print(f"{plural(run.history.rows, 'step')}, {run.jets_seen} jets seen{loss}, {run.seconds:.0f} s")
    print(f"the encoder is in {run.out}; next: pyrino finetune {run.out} --train PATH --out FOLDER")


def _open(args: argparse.Namespace, recipe: Recipe, ranks: Ranks) -> Jets | JetStream:
    """The jets in memory, or a stream of this rank's share of them; with labels where the method needs them."""
    streaming: dict[str, Any] = {
        "window": args.window,
        "threads": args.reader_threads,
        "shuffle_seed": recipe.training.seed,
    }
    more: dict[str, Any] = {"labelled": about(recipe).wants_labels, "columns": columns_of(recipe)}
    share: dict[str, Any] = {"rank": ranks.rank, "world_size": ranks.size}
    if args.weights is not None:
        if len(args.weights) != len(args.train):
            raise RinoError(f"--weights has {len(args.weights)} numbers for {len(args.train)} paths: give one for each")
        if args.max_jets is not None:
            raise RinoError("--max-jets and --weights exclude each other: a stream has no last jet: use --fraction")
        paths = dict(zip(args.train, args.weights, strict=True))
        return open_dataset(paths, **more, **share, **streaming, **reading_of(args))
    if args.max_jets is not None:
        return read(args.train, args, **more)
    stream = {"auto": None, "yes": True, "no": False}[args.stream]
    return open_jets(args.train, stream=stream, **more, **share, **streaming, **reading_of(args))
