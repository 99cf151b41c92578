"""How much memory it takes to stream ten million jets: the peak resident size of a process of its own.

Four files of toy jets stand for many by links, so that the disk holds little and the stream cannot tell: each link is a
file with its own identity. The stream is shuffled with the default window, batches of 1000 are taken and let go.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Report, parser
from loading import write_parquet_zstd, write_root_lz4

import pyrino as rino
from pyrino.bench import Timing

#: Most that the process may take, in bytes.
LIMIT = 2e9


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--jets", type=int, help="jets to stream (default: 10 million; quick: 2 million)")
    options.add_argument("--stream", type=Path, help="stream this folder and print the result: what the child does")
    args = options.parse_args()
    if args.stream is not None:
        print(json.dumps(stream(args.stream)))
        return
    total = args.jets or (2_000_000 if args.quick else 10_000_000)
    per_file = 50_000
    samples = [rino.toy_jets(per_file, seed=seed) for seed in range(4)]
    report = Report("memory", samples[0])
    with tempfile.TemporaryDirectory() as folder:
        for kind, suffix, write in (
            ("parquet zstd", ".parquet", write_parquet_zstd),
            ("root lz4", ".root", write_root_lz4),
        ):
            place = Path(folder) / kind.replace(" ", "_")
            links = place / "links"
            links.mkdir(parents=True)
            for number, jets in enumerate(samples):
                write(place / f"{number}{suffix}", jets)
            for number in range(total // per_file):
                (links / f"{number:04d}{suffix}").symlink_to(place / f"{number % len(samples)}{suffix}")
            command = [sys.executable, __file__, "--stream", str(links)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            report.check(f"{kind}: jets streamed", abs(found["jets"] - total), 0)
            report.row(f"{kind}: a pass over {total:,} jets", Timing.of([found["seconds"]]), total)
            report.figure(f"memory, {kind}: peak, of {LIMIT / 1e9:g} GB", found["peak"] / LIMIT, unit="%")
            report.figure(f"memory, {kind}: before the first jet, of the same", found["before"] / LIMIT, unit="%")
            report.check(f"{kind}: bytes above {LIMIT:g}", max(found["peak"] - LIMIT, 0), 0)
    report.finish(args.out)


def stream(folder: Path) -> dict[str, float]:
    """A pass over a folder: jets, seconds, and the resident size before it and at its peak in bytes."""
    before = peak_memory()
    begin = time.perf_counter()
    with rino.open_dataset(folder, labelled=False) as dataset:
        jets = sum(map(len, dataset.batches(1000)))
    return {"jets": jets, "seconds": time.perf_counter() - begin, "before": before, "peak": peak_memory()}


def peak_memory() -> int:
    """Peak resident size of this process in bytes, by Linux: getrusage would count what the parent had before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
