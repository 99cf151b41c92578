"""`pyrino embed`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import pyrino
from pyrino.cli.common import checked_device, plural, show_progress
from pyrino.cli.labels import add_drop_empty, entries
from pyrino.cli.parser import add_command, add_device, add_overwrite, default_of
from pyrino.data import read_jets
from pyrino.data.read import find_files
from pyrino.files import whole_file
from pyrino.nn import JetEncoder

__all__ = ["add"]

_EXAMPLE = """
pyrino embed runs/nano --jets data/qcd --out embeddings.parquet
pyrino embed runs/nano --jets data/qcd --resolution 8 --out eight_subjets.parquet
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "embed",
        _run,
        usage="ENCODER --jets PATH [PATH ...] --out FILE [options]",
        summary="write the embeddings of jets to a parquet file",
        description="Columns: file, entry (the jet's row in the file, from 0), label (null where the file has none),\n"
        "embedding (a list of D float32).",
        example=_EXAMPLE,
    )
    parser.add_argument("encoder", metavar="ENCODER", help="folder of a pretraining run, or a .safetensors file")
    parser.add_argument("--jets", required=True, nargs="+", metavar="PATH", help="files, folders or patterns")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet file")
    parser.add_argument(
        "--resolution",
        default=default_of(JetEncoder.embed, "resolution"),
        help="the view that is embedded: a number of subjets, kt:Q [GeV], fraction:Y or all",
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        default=default_of(JetEncoder.embed, "batch_tokens"),
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
    add_drop_empty(parser)
    add_overwrite(parser, "FILE if it exists")


def _run(args: argparse.Namespace) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tqdm import tqdm

    encoder = JetEncoder.load(args.encoder).to(checked_device(args.device))
    files = find_files(args.jets)
    made = {"encoder": args.encoder, "resolution": args.resolution, "pyrino": pyrino.__version__}
    schema = pa.schema(
        [
            ("file", pa.dictionary(pa.int32(), pa.string())),
            ("entry", pa.int64()),
            ("label", pa.int64()),
            ("embedding", pa.list_(pa.float32(), encoder.width)),
        ],
        metadata={"pyrino.embed": json.dumps(made)},
    )
    total = 0
    with whole_file(args.out, overwrite=args.overwrite) as partial, pq.ParquetWriter(partial, schema) as writer:
        for file in tqdm(files, desc="embedding", unit=" files", disable=not show_progress()):
            jets = read_jets(file, drop_empty=args.drop_empty)
            n = len(jets)
            embeddings = encoder.embed(
                jets, resolution=args.resolution, batch_tokens=args.batch_tokens, batch_size=args.batch_size
            )
            columns = [
                pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [str(file)]),
                pa.array(entries(file, n, args)),
                pa.nulls(n, pa.int64()) if jets.labels is None else pa.array(jets.labels),
                pa.FixedSizeListArray.from_arrays(pa.array(embeddings.astype(np.float32).ravel()), encoder.width),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            total += n
    print(f"embeddings of {plural(total, 'jet')}, {encoder.width} numbers each, are in {args.out}")
