"""`pyrino embed`."""

from __future__ import annotations

import argparse
from typing import Any

from pyrino._arguments import device_of
from pyrino.cli.parser import add_command, add_device, default_of
from pyrino.cli.writing import add_writing, described, write
from pyrino.nn import Encoder
from pyrino.outputs import embed_files

__all__ = ["add"]

_EXAMPLE = """
pyrino embed runs/nano --jets data/qcd --out embeddings.parquet
pyrino embed runs/nano --jets data/qcd --resolution 8 --out eight_subjets.parquet
pyrino embed runs/nano --jets JetClass/TTBar_000.root --out TTBar_000_rino.root
pyrino embed runs/nano --jets 'JetClass/*.root' --pt 500 1000 --on-error skip --out friends
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "embed",
        _run,
        usage="ENCODER --jets PATH [PATH ...] --out OUT [options]",
        summary="write the embeddings of jets to parquet, or to ROOT as friend trees",
        description=described("embedding (D float32)"),
        example=_EXAMPLE,
    )
    parser.add_argument("encoder", metavar="ENCODER", help="folder of a pretraining run, or a .safetensors file")
    parser.add_argument(
        "--resolution",
        default=default_of(Encoder.embed, "resolution"),
        help="the view that is embedded: a number of subjets, kt:Q [GeV], fraction:Y or all",
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        default=default_of(Encoder.embed, "batch_tokens"),
        metavar="N",
        help="constituents at a time, which bounds the memory",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="jets at a time, at most (default: as many as have these constituents)",
    )
    add_device(parser)
    add_writing(parser)


def _run(args: argparse.Namespace) -> None:
    encoder = Encoder.load(args.encoder).to(device_of(args.device))
    tally = write(
        embed_files,
        encoder,
        args,
        resolution=args.resolution,
        batch_tokens=args.batch_tokens,
        batch_size=args.batch_size,
        about={"encoder": args.encoder},
    )
    print(f"embeddings, {encoder.width} numbers each, are in {args.out}: {tally}")
