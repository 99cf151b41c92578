"""What the packed cache could be kept in: bytes a jet, and rates of writing, of reading, and of reading into batches.

Every candidate has the same: float32 momenta, labels and origins of toy jets. Reading gives NumPy arrays of record
batches; into batches means that these go to a `JetPool`, from which all jets are gathered as float64, shuffled, 1000 at
a time. One thread, files in the page cache, CPU time, candidates in turn. What the packed cache adds to Arrow's columns
are checksums: it is measured with them compared and not, and so are the functions that could compute them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from common import Report, largest_difference, parser

import pyrino as rino
from pyrino import _core
from pyrino.bench import Timing
from pyrino.data.packed import JETS_PER_BATCH, Packed
from pyrino.data.source import Source

NAMES = ("part_px", "part_py", "part_pz", "part_energy")

#: px, py, pz, E, offsets, labels, entries of some jets.
Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def arrow_table(batch: Batch, *, struct: bool = False) -> pa.Table:
    *momenta, offsets, labels, entries = batch
    cuts = pa.array(offsets.astype(np.int32))
    if struct:
        part = pa.StructArray.from_arrays([pa.array(c) for c in momenta], ["px", "py", "pz", "energy"])
        columns = {"part": pa.ListArray.from_arrays(cuts, part)}
    else:
        columns = {n: pa.ListArray.from_arrays(cuts, pa.array(c)) for n, c in zip(NAMES, momenta, strict=True)}
    files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(labels), np.int32)), ["toy"])
    return pa.table(columns | {"jet_label": labels, "origin_file": files, "origin_entry": entries})


def arrays_of(batch: pa.RecordBatch, *, struct: bool = False) -> Batch:
    lists = [batch.column("part")] if struct else [batch.column(name) for name in NAMES]
    offsets = np.asarray(lists[0].offsets).astype(np.int64)
    values = lists[0].values.flatten() if struct else [column.values for column in lists]
    px, py, pz, e = (np.asarray(column) for column in values)
    return px, py, pz, e, offsets, np.asarray(batch.column("jet_label")), np.asarray(batch.column("origin_entry"))


def write_arrow(path: Path, batches: list[Batch], *, struct: bool = False) -> None:
    tables = [arrow_table(batch, struct=struct) for batch in batches]
    with pa.ipc.new_file(str(path), tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def read_arrow(path: Path, *, struct: bool = False) -> Iterator[Batch]:
    with pa.memory_map(str(path)) as place:
        file = pa.ipc.open_file(place)
        for number in range(file.num_record_batches):
            yield arrays_of(file.get_batch(number), struct=struct)


def write_parquet(path: Path, batches: list[Batch], **options: Any) -> None:
    tables = [arrow_table(batch) for batch in batches]
    with pq.ParquetWriter(path, tables[0].schema, **options) as writer:
        for table in tables:
            writer.write_table(table)


def read_parquet(path: Path) -> Iterator[Batch]:
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, use_threads=False)
        yield arrays_of(table.combine_chunks().to_batches()[0])


def write_hdf5(path: Path, batches: list[Batch]) -> None:
    with h5py.File(path, "w") as file:
        for number, batch in enumerate(batches):
            for name, column in zip((*NAMES, "offsets", "jet_label", "origin_entry"), batch, strict=True):
                file[f"{number}/{name}"] = column


def read_hdf5(path: Path) -> Iterator[Batch]:
    with h5py.File(path, "r") as file:
        for number in range(len(file)):
            group = file[str(number)]
            px, py, pz, e, offsets, labels, entries = (
                group[name][()] for name in (*NAMES, "offsets", "jet_label", "origin_entry")
            )
            yield px, py, pz, e, offsets, labels, entries


def read_packed(path: Path, *, verify: bool) -> Iterator[Batch]:
    source = Source(path)
    with (
        pa.memory_map(str(path)) as place,
        closing(Packed(verify=verify).reader(source, pa.ipc.open_file(place))) as reader,
    ):
        for first, last in reader.spans(JETS_PER_BATCH, 4 * JETS_PER_BATCH):
            chunk = reader.read(first, last)
            yield *chunk.momenta, chunk.offsets, chunk.labels.values, chunk.origins.entry


def gathered(batches: Iterator[Batch], order: np.ndarray) -> list[_core.Jets]:
    """All jets in `order`, 1000 at a time; only the last batch is kept."""
    pool = _core.JetPool()
    for *momenta, offsets, labels, entries in batches:
        files = np.zeros(len(labels), dtype=np.int32)
        pool.add(_core.JetPiece(momenta, offsets, labels, {}, {}, ["toy"], files, entries))
    last = []
    for first in range(0, len(order), 1000):
        last = [pool.gather(order[first : first + 1000])]
    return last


def cpu_time(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batches", type=int, help=f"record batches of {JETS_PER_BATCH} jets (default: 8, quick: 2)")
    args = options.parse_args()
    repetitions = 3 if args.quick else args.repetitions
    number = args.batches or (2 if args.quick else 8)
    jets = rino.toy_jets(JETS_PER_BATCH, seed=1, top_fraction=0.5)
    report = Report("containers", jets)
    n = number * len(jets)
    order = np.random.default_rng(1).permutation(n)
    momenta = [np.ascontiguousarray(c, dtype=np.float32) for c in (jets.px, jets.py, jets.pz, jets.e)]
    batches: list[Batch] = [
        (*(c.copy() for c in momenta), jets.offsets, jets.labels, np.arange(i * len(jets), (i + 1) * len(jets)))
        for i in range(number)
    ]
    with tempfile.TemporaryDirectory(prefix="rino_containers_") as folder:
        place = Path(folder)
        write_parquet(place / "source.parquet", batches, compression="none", use_dictionary=False)
        plain = {"compression": "none", "use_dictionary": False}
        writers: dict[str, Callable[[Path], None]] = {
            "packed": lambda p: rino.pack(place / "source.parquet", p, overwrite=True, progress=False) and None,
            "Arrow, lists": lambda p: write_arrow(p, batches),
            "Arrow, list of structs": lambda p: write_arrow(p, batches, struct=True),
            "parquet, plain": lambda p: write_parquet(p, batches, **plain),
            "parquet, zstd": lambda p: write_parquet(p, batches, compression="zstd", use_dictionary=False),
            "HDF5, contiguous": lambda p: write_hdf5(p, batches),
        }
        readers: dict[str, tuple[str, Callable[[Path], Iterator[Batch]]]] = {
            "packed": ("packed", lambda p: read_packed(p, verify=True)),
            "packed, not verified": ("packed", lambda p: read_packed(p, verify=False)),
            "Arrow, lists": ("Arrow, lists", read_arrow),
            "Arrow, list of structs": ("Arrow, list of structs", lambda p: read_arrow(p, struct=True)),
            "parquet, plain": ("parquet, plain", read_parquet),
            "parquet, zstd": ("parquet, zstd", read_parquet),
            "HDF5, contiguous": ("HDF5, contiguous", read_hdf5),
        }
        files = {name: place / f"{number}.arrow" for number, name in enumerate(writers)}
        seconds: dict[str, list[float]] = {}

        def measure(name: str, work: Callable[[], Any]) -> None:
            seconds.setdefault(name, []).append(cpu_time(work))

        for _ in range(repetitions):
            for name, write in writers.items():
                measure(f"write {name}", lambda write=write, name=name: write(files[name]))
        size = {name: file.stat().st_size / n for name, file in files.items()}
        reference = gathered(read_packed(files["packed"], verify=True), order)[-1].p4()
        for name, (file, read) in readers.items():
            found = gathered(read(files[file]), order)[-1].p4()
            report.check(f"momenta from {name}", largest_difference(found, reference), 0.0)
        for _ in range(repetitions):
            for name, (file, read) in readers.items():
                # The arrays are used, because a mapping reads nothing before that.
                measure(
                    f"read {name}",
                    lambda read=read, file=file: [sum(c.sum() for c in b[:4]) for b in read(files[file])],
                )
                measure(f"batches {name}", lambda read=read, file=file: gathered(read(files[file]), order))
        data = momenta[0].view(np.uint8)
        sums: dict[str, Callable[[np.ndarray], Any]] = {
            "xxhash xxh3_64": xxhash.xxh3_64_intdigest,
            "xxhash xxh64": xxhash.xxh64_intdigest,
            "zlib.crc32": zlib.crc32,
            "zlib.adler32": zlib.adler32,
            "hashlib sha1": lambda a: hashlib.sha1(a).digest(),
            "hashlib blake2b": lambda a: hashlib.blake2b(a).digest(),
        }
        for _ in range(repetitions):
            for name, function in sums.items():
                measure(f"checksum {name}", lambda function=function: function(data))
    timings = {name: Timing.of(times) for name, times in seconds.items()}
    share = data.nbytes / (16 * jets.n_constituents / len(jets))  # jets whose momenta are as many bytes
    for name, timing in timings.items():
        if name != "write packed":  # which reads parquet, too
            report.row(name, timing, round(share) if name.startswith("checksum") else n)
    for name, value in size.items():
        report.figure(f"containers: bytes a jet, {name}", value, unit="B")
    rate = n / timings["batches packed"].seconds
    report.figure("containers: packed cache to batches, one core", rate, aim=1e6, unit="jets/s")
    for name in ("parquet, plain", "parquet, zstd", "HDF5, contiguous"):
        ratio = timings[f"batches {name}"].seconds / timings["batches packed"].seconds
        report.figure(f"containers: packed cache to {name}, into batches", ratio)
    report.figure(
        "containers: time that checksums add",
        timings["batches packed"].seconds / timings["batches packed, not verified"].seconds - 1,
        unit="%",
    )
    report.finish(args.out)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
