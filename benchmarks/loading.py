"""How fast files become shuffled training batches: against the libraries that read them, and against padded HDF5.

The files are JetClass-like: its float columns (momenta and ten others of the constituents), toy jets. ROOT with lz4 and
with zlib, parquet with zstd and snappy, the packed cache. "alone" is uproot or pyarrow reading the four momenta and
nothing else, on one thread, file after file; ours are batches of 1000 shuffled `Jets` of the same columns, checked, and
with file and entry of each jet. The padded HDF5 is what the authors' chain and most others train from: [N, 128, 4]
float32, gzip, read in slices of whole chunks and shuffled in memory.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import Report, parser

import pyrino as rino
from pyrino.bench import Timing

COLUMNS = ["part_px", "part_py", "part_pz", "part_energy"]
#: The other columns of JetClass's constituents, which a reader must step over.
OTHERS = ["part_deta", "part_dphi", "part_d0val", "part_d0err", "part_dzval", "part_dzerr", "part_charge"]
BATCH = 1000
PADDED = 128


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--jets", type=int, help="jets of each of the four files (default: 50000; quick: 20000)")
    options.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    args = options.parse_args()
    n = args.jets or (20_000 if args.quick else 50_000)
    with tempfile.TemporaryDirectory() as temporary:
        run(args.folder or Path(temporary), n, args)


def run(folder: Path, n: int, args: object) -> None:
    """Write the files that are not there, measure all sides by turns, report."""
    samples = [rino.toy_jets(n, seed=seed) for seed in range(4)]
    kinds = write(folder, samples)
    report = Report("loading", samples[0])
    sides: dict[str, Callable[[], int]] = {}
    for kind, files in kinds.items():
        if kind in ALONE:
            sides[f"{kind}: {ALONE[kind].__name__.split('_')[0]} alone"] = lambda kind=kind, f=files: ALONE[kind](f)
        if kind.startswith("parquet"):
            sides[f"{kind}: pyarrow with its threads"] = lambda f=files: pyarrow_alone(f, use_threads=True)
        if kind == "padded hdf5":
            sides[kind] = lambda f=files: padded(f)
            continue
        for threads in (1, 2):
            sides[f"{kind}: batches, {threads} reader"] = lambda f=files, t=threads: batches(f, t)
    total = 4 * n
    for name, side in sides.items():  # everything is in the page cache afterwards, and every side has given all jets
        report.check(f"{name}: jets", abs(side() - total), 0)
    times: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.repetitions):
        for name, side in sides.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            side()
            times[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - begin_cpu)
    timings = {name: Timing.of(t) for name, t in times.items()}
    for name, timing in timings.items():
        report.row(name, timing, total, cpu_us=1e6 * float(np.median(cpu[name])) / total)
    for kind, files in kinds.items():
        size = sum(file.stat().st_size for file in files)
        report.figure(f"loading, {kind}: bytes a jet", size / total, unit="B")
    rates = {name: total / timing.seconds for name, timing in timings.items()}
    alone = {kind: next(rates[s] for s in rates if s.startswith(f"{kind}: ") and "alone" in s) for kind in ALONE}
    for kind, rate in alone.items():
        for threads in (1, 2):
            ours = rates[f"{kind}: batches, {threads} reader"]
            report.figure(f"loading, {kind}, {threads} reader: to the library alone", ours / rate, 0.9)
    packed = rates["packed: batches, 1 reader"]
    report.figure("loading, packed: batches, 1 reader", packed, 1e6, unit="jets/s")
    for kind, rate in alone.items():
        report.figure(f"loading, packed: to {kind} by the library alone", packed / rate, 5)
    report.figure("loading, packed: to padded hdf5", packed / rates["padded hdf5"], 10)
    cheapest = min(alone, key=lambda kind: alone[kind])
    ours = rates[f"{cheapest}: batches, 1 reader"]
    report.figure(f"loading, {cheapest}: to padded hdf5", ours / rates["padded hdf5"])
    report.finish(args.out)


def batches(files: list[Path], threads: int) -> int:
    """A pass of ours; the number of jets it gave."""
    with rino.open_dataset(files, window=32768, threads=threads, labelled=False) as dataset:
        return sum(map(len, dataset.batches(BATCH)))


def uproot_alone(files: list[Path]) -> int:
    """uproot reading the momenta into awkward arrays."""
    import uproot

    return sum(len(arrays) for arrays in uproot.iterate([f"{file}:tree" for file in files], COLUMNS, step_size=32768))


def pyarrow_alone(files: list[Path], use_threads: bool = False) -> int:
    """pyarrow reading the momenta into tables."""
    import pyarrow.parquet as pq

    jets = 0
    for file in files:
        with pq.ParquetFile(file) as opened:
            for group in range(opened.num_row_groups):
                jets += opened.read_row_group(group, columns=COLUMNS, use_threads=use_threads).num_rows
    return jets


def padded(files: list[Path]) -> int:
    """Shuffled batches of padded HDF5, as training scripts read it: slices of chunks, shuffled in memory."""
    import h5py

    random = np.random.default_rng(0)
    jets = 0
    for file in files:
        with h5py.File(file) as opened:
            data = opened["constituents"]
            for first in range(0, len(data), 32768):
                window = data[first : first + 32768]
                order = random.permutation(len(window))
                for begin in range(0, len(window), BATCH):
                    jets += len(window[order[begin : begin + BATCH]])
    return jets


#: What reads a kind of file alone.
ALONE = {
    "root lz4": uproot_alone,
    "root zlib": uproot_alone,
    "parquet zstd": pyarrow_alone,
    "parquet snappy": pyarrow_alone,
}


def write(folder: Path, samples: list[rino.Jets]) -> dict[str, list[Path]]:
    """The same jets in every container, one file per sample; those that are there are kept."""
    kinds = {
        "root lz4": (write_root_lz4, ".root"),
        "root zlib": (write_root_zlib, ".root"),
        "parquet zstd": (write_parquet_zstd, ".parquet"),
        "parquet snappy": (write_parquet_snappy, ".parquet"),
        "packed": (write_packed, ".arrow"),
        "padded hdf5": (write_padded, ".h5"),
    }
    made: dict[str, list[Path]] = {}
    for kind, (writer, suffix) in kinds.items():
        place = folder / kind.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        made[kind] = [place / f"{number}_{len(jets)}{suffix}" for number, jets in enumerate(samples)]
        for file, jets in zip(made[kind], samples, strict=True):
            if not file.exists():
                partial = file.with_name(f"partial_{file.name}")
                writer(partial, jets)
                os.replace(partial, file)
    return made


def columns_of(jets: rino.Jets) -> dict[str, np.ndarray]:
    """JetClass's columns of the constituents, float32."""
    random = np.random.default_rng(1)
    values = dict(zip(COLUMNS, (jets.px, jets.py, jets.pz, jets.e), strict=True))
    values |= {name: random.normal(size=jets.n_constituents) for name in OTHERS}
    return {name: column.astype(np.float32) for name, column in values.items()}


def write_root(file: Path, jets: rino.Jets, compression: object) -> None:
    """A TTree in baskets of 10,000 jets."""
    import awkward as ak
    import uproot

    columns = columns_of(jets)
    with uproot.recreate(file, compression=compression) as opened:
        tree = opened.mktree("tree", {name: "var * float32" for name in columns})
        for first in range(0, len(jets), 10_000):
            part = jets.offsets[first : first + 10_001]
            tree.extend(
                {name: ak.unflatten(column[part[0] : part[-1]], np.diff(part)) for name, column in columns.items()}
            )


def write_root_lz4(file: Path, jets: rino.Jets) -> None:
    """As write_root."""
    import uproot

    write_root(file, jets, uproot.LZ4(4))


def write_root_zlib(file: Path, jets: rino.Jets) -> None:
    """As write_root."""
    import uproot

    write_root(file, jets, uproot.ZLIB(1))


def write_parquet(file: Path, jets: rino.Jets, compression: str) -> None:
    """Row groups of 10,000 jets."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    offsets = pa.array(jets.offsets.astype(np.int32))
    table = pa.table(
        {name: pa.ListArray.from_arrays(offsets, pa.array(column)) for name, column in columns_of(jets).items()}
    )
    pq.write_table(table, file, compression=compression, row_group_size=10_000)


def write_parquet_zstd(file: Path, jets: rino.Jets) -> None:
    """As write_parquet."""
    write_parquet(file, jets, "zstd")


def write_parquet_snappy(file: Path, jets: rino.Jets) -> None:
    """As write_parquet."""
    write_parquet(file, jets, "snappy")


def write_packed(file: Path, jets: rino.Jets) -> None:
    """pyrino's own cache, of a parquet file of the same jets."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "jets.parquet"
        write_parquet(source, jets, "snappy")
        rino.pack(source, file, progress=False)


def write_padded(file: Path, jets: rino.Jets) -> None:
    """[N, 128, 4] float32 with zeros, gzip, chunks of 1024 jets."""
    import h5py

    p4 = jets.p4.astype(np.float32)
    with h5py.File(file, "w") as opened:
        data = opened.create_dataset(
            "constituents", (len(jets), PADDED, 4), "f4", chunks=(1024, PADDED, 4), compression="gzip"
        )
        for first in range(0, len(jets), 8192):
            last = min(first + 8192, len(jets))
            counts = np.minimum(jets.multiplicity[first:last], PADDED)
            block = np.zeros((last - first, PADDED, 4), np.float32)
            mask = np.arange(PADDED) < counts[:, None]
            rows = np.repeat(jets.offsets[first:last], counts) + np.concatenate([np.arange(c) for c in counts])
            block[mask] = p4[rows]
            data[first:last] = block


if __name__ == "__main__":
    main()
