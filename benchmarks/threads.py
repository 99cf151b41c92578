"""Training steps whose torch operations take one thread, against steps that give them all of torch's.

Alone, and beside another program that computes on as many threads: OpenMP's wait for each other by spinning, which is
nothing beside large operations and, on a busy machine, most of a step of small ones. `rino.OneThread` decides by the
product of parameters and jets; this is where its limit comes from. GOMP_SPINCOUNT is not set here, whatever the shell
has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

if os.environ.pop("GOMP_SPINCOUNT", None) is not None:  # read once, when OpenMP is loaded
    os.execv(sys.executable, [sys.executable, *sys.argv])

import torch
from common import Report, parser

import pyrino as rino
from pyrino import _core
from pyrino.bench import available_cores, interleaved

#: Jets of a step by preset.
BATCHES = {"nano": (32, 256, 1024), "lite": (32, 256), "mini": (16, 128), "base": (8,)}

#: What the other program does: products of matrices, as another training would.
BUSY = """
import torch
torch.set_num_threads({threads})
one = torch.rand(400, 400)
print("ready", flush=True)
while True:
    one = torch.nn.functional.normalize(one @ one)
"""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", default=list(BATCHES), choices=BATCHES)
    options.add_argument("--threads", type=int, default=available_cores())
    args = options.parse_args()
    jets = rino.toy_jets(max(max(sizes) for sizes in BATCHES.values()), seed=1)
    report = Report("threads", jets)
    torch.set_num_threads(args.threads)
    for size in args.sizes:
        for batch in BATCHES[size][: 1 if args.quick else None]:
            recipe = rino.Recipe.preset(size)
            recipe.update({"batch_size": batch, "training.epochs": 10_000, "loader_threads": 0})
            trainer = rino.Trainer(recipe, jets[:batch])
            trained = (rino.JetEncoder(recipe), rino.ProjectionHead(recipe))
            product = sum(tensor.numel() for module in trained for tensor in module.parameters()) * batch
            trainer.step()
            begin = time.perf_counter()
            trainer.step()
            steps = 1 + int(0.2 / (time.perf_counter() - begin))
            sides = {
                "one thread": limited(trainer.step, 2**62, steps),
                "torch's threads": limited(trainer.step, 0, steps),
            }
            for where in ("alone", "beside another program"):
                with busy(args.threads if where != "alone" else 0):
                    times = interleaved(sides, args.repetitions, 2.0 if args.quick else 10.0)
                for name, timing in times.items():
                    report.row(f"{size}, {batch} jets, {where}: {name}", timing, steps * batch)
                gain = times["torch's threads"].seconds / times["one thread"].seconds
                report.figure(f"threads {size}, {batch} jets ({product:.1e}), {where}: one thread, to torch's", gain)
    report.finish(args.out)


def limited(step: Callable[[], object], limit: int, steps: int) -> Callable[[], None]:
    """So many steps that take one thread where parameters times jets are below `limit`."""

    def work() -> None:
        before, _core.OneThread.limit = _core.OneThread.limit, limit
        for _ in range(steps):
            step()
        _core.OneThread.limit = before

    return work


@contextmanager
def busy(threads: int) -> Iterator[None]:
    """Another program on so many threads, as long as this lasts."""
    if threads == 0:
        yield
        return
    command = [sys.executable, "-c", BUSY.format(threads=threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
