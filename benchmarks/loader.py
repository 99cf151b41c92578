"""How fast the trainer's loader prepares batches, and how much of a step is spent waiting for it.

Prepared: jets picked from memory, clustered at nine resolutions, features, packing. The rate of one thread is that of a
trainer that makes each batch when it is asked for (`loader_threads = 0`): what it reports as waited is that work.
"""

from __future__ import annotations

import statistics

from common import Report, parser

import pyrino as rino
from pyrino.bench import Timing, available_cores, torch_threads

#: Steps before the measurement, more than the loader's queue holds: a full queue would hide a slow loader.
BEFORE = 6


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", default=["nano", "base"], choices=["nano", "lite", "mini", "base"])
    options.add_argument("--jets", type=int, default=4096, help="number of toy jets")
    options.add_argument("--batch", type=int, help="jets of a step (default: 256 up to width 64, else 32; quick: half)")
    args = options.parse_args()
    cores = available_cores()
    jets = rino.toy_jets(args.jets, seed=1)
    report = Report("loader", jets)
    for size in args.sizes:
        wide = rino.Recipe.preset(size).encoder.width > 64
        batch = args.batch or (32 if wide else 256) // (2 if args.quick else 1)
        recipe = rino.Recipe.preset(size, batch_size=batch)
        counts = list(dict.fromkeys([0, 1, cores]))
        trainers = {n: rino.Trainer(recipe.replace(loader_threads=n), jets) for n in counts}
        reports = {}
        with torch_threads(cores):
            for number, trainer in trainers.items():
                reports[number] = [trainer.step() for _ in range(BEFORE + args.repetitions)]
        for number in counts[1:]:
            pairs = zip(reports[0], reports[number], strict=True)
            different = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
            report.check(f"{size}: losses with 0 and {number} loader threads", different, 0.0)
        measured = {number: done[BEFORE:] for number, done in reports.items()}
        preparing = Timing.of([step["waited"] for step in measured[0]])
        report.row(f"{size}: a batch of {batch}, one thread", preparing, batch)
        for number, done in measured.items():
            seconds = Timing.of([step["seconds"] for step in done])
            share = sum(step["waited"] for step in done) / sum(step["seconds"] for step in done)
            report.row(f"{size}: step, {number} loader threads", seconds, batch, waited_percent=100 * share)
            report.figure(f"loader {size}: share of the step waited, {number} loader threads", share, unit="%")
        training = statistics.median(step["seconds"] - step["waited"] for step in measured[0])
        report.figure(f"loader {size}: batches of one thread to steps on {cores}", training / preparing.seconds)
    report.finish(args.out)


if __name__ == "__main__":
    main()
