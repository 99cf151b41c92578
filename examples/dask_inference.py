"""Embeddings and probabilities of the jets of ROOT or parquet files with dask, partition by partition.

    python examples/dask_inference.py "JetClass/val_5M/*.root" --encoder runs/nano --tagger runs/tagger --out results

writes results/part*.parquet with the columns that --keep names, `embedding` and `probability`, row by row as the jets
are in the files. Needs pyrino[dask]. The files have JetClass's columns, one row a jet: part_px, part_py, part_pz,
part_energy; --constituents names others. Only these columns and those of --keep are read.
"""

from __future__ import annotations

import argparse
import glob
import time
from pathlib import Path
from typing import Any

import dask_awkward as dak
import uproot
from distributed import Client, LocalCluster
from pyarrow.dataset import dataset

import pyrino as rino


def columns_of(pattern: str, tree: str, partitions: int) -> Any:
    """The columns of all files, lazily; a ROOT file has so many partitions, of several parquet files each is one."""
    files = sorted(glob.glob(pattern))
    if not files:
        raise SystemExit(f"there are no files {pattern}")
    if Path(files[0]).suffix == ".root":
        return uproot.dask({file: tree for file in files}, steps_per_file=partitions)
    # Row groups of all files but the first would be left out (dask-awkward 2026.2.1), so of one file only.
    return dak.from_parquet(files, split_row_groups=len(files) == 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", help="ROOT or parquet files; * is expanded here")
    parser.add_argument("--encoder", help="a run of pretrain, or its encoder.safetensors, where all workers see it")
    parser.add_argument("--tagger", help="a run of finetune, or its tagger.safetensors")
    parser.add_argument("--out", required=True, help="folder for part*.parquet")
    parser.add_argument("--constituents", default="part_{}", help="names of their columns: {} is px, py, pz, energy")
    parser.add_argument("--keep", nargs="*", default=[], help="columns of the files to write beside the results")
    parser.add_argument("--tree", default="tree", help="of ROOT files")
    parser.add_argument("--partitions", type=int, default=4, help="of a ROOT file")
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--scheduler", help="address of a cluster that runs, instead of workers on this machine")
    given = parser.parse_args(arguments)
    if not given.encoder and not given.tagger:
        parser.error("give --encoder, --tagger or both")
    if Path(given.out).exists():
        parser.error(f"{given.out} exists, and its files would be mixed with the new ones: give another folder")

    columns = columns_of(given.files, given.tree, given.partitions)
    momenta = {name: columns[given.constituents.format(name)] for name in ("px", "py", "pz", "energy")}
    jets = dak.zip(momenta, depth_limit=2)
    results = {name: columns[name] for name in given.keep}
    if given.encoder:
        results["embedding"] = rino.embed(given.encoder, jets)
    if given.tagger:
        results["probability"] = rino.predict(given.tagger, jets)
    table = dak.zip(results, depth_limit=1)
    for name, read in dak.report_necessary_columns(table).items():
        print(f"{name}: {table.npartitions} partitions, reading {', '.join(sorted(read))}")

    start = time.perf_counter()
    if given.scheduler:
        with Client(given.scheduler):
            dak.to_parquet(table, given.out)
    else:
        workers = {"n_workers": given.workers, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(**workers) as cluster, Client(cluster):
            dak.to_parquet(table, given.out)
    seconds = time.perf_counter() - start
    written = dataset(given.out, format="parquet")
    print(f"{written.count_rows()} jets in {seconds:.1f} s, start of the workers included: {given.out} has")
    print("  " + ", ".join(f"{column.name}: {column.type}" for column in written.schema))


if __name__ == "__main__":
    main()
