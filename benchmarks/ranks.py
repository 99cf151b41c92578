"""Two processes with one core each, training together through Gloo, against one process with one core.

The batch of a process is kept, so that two of them do twice the work of one (weak scaling). Of what is lost, one part
is the machine's: processes that do not talk to each other share caches, memory and perhaps a core's units, too; a row
says what two of them reach. The rest is talking, the all-reduce of the gradients before all, and waiting for the one
whose jets have more constituents.

All sides are measured by turns in the same two processes, each on a core of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from common import Report, parser

#: What two processes should reach of twice one.
AIM = 0.9

#: Jets per process in memory, in batches: steps differ as they do in a run.
BATCHES = 8

#: Least time of a measurement, in seconds.
LEAST = 0.3


def main() -> None:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--sizes", nargs="+", default=["nano", "mini", "base", "rino"])
    options.add_argument(
        "--batch", type=int, help="jets of a process (default: 256, above width 64 32, rino 16; quick: half)"
    )
    options.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.rank is not None:
        work(args)
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("ranks: this machine gives one core to this program; two processes need two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, __file__, *sys.argv[1:]]
    ranks = [
        subprocess.Popen(
            [*command, "--rank", str(rank)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    report = Report("ranks")
    for line in ranks[0].stdout or ():
        measured = json.loads(line)
        print(f"-- {measured['size']}", flush=True)
        add(report, measured)
    if any(process.wait() for process in ranks):
        sys.exit("ranks: a process has failed")
    report.finish(args.out)


def add(report: Report, measured: dict[str, Any]) -> None:
    """The rows and figures of one size."""
    from pyrino.bench import Timing

    size, batch = measured["size"], measured["batch"]
    times = {name: Timing.of(seconds) for name, seconds in measured["seconds"].items()}
    report.check(f"{size}: losses of two processes and of one with the joint batch", measured["difference"], 1e-5)
    jets = {"one process": batch, "two, apart": 2 * batch, "two, together": 2 * batch}
    for name, timing in times.items():
        report.row(f"{size}: {name}", timing, jets.get(name))
    alone, apart, together = (times[name].seconds for name in jets)
    reduced = times[f"all-reduce of {measured['parameters']:,} gradients"].seconds
    report.figure(f"ranks {size}: two processes to twice one", alone / together, AIM)
    report.figure(f"ranks {size}: two processes that do not talk to twice one", alone / apart)
    report.figure(f"ranks {size}: share of the step in the all-reduce of the gradients", reduced / together, unit="%")


def work(args: argparse.Namespace) -> None:
    """One of the two processes; the first one prints a line of JSON for each size."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[args.rank]})
    import torch
    import torch.distributed as dist

    import pyrino as rino

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for size in args.sizes:
        recipe = rino.Recipe.preset(size)
        usual = 256 if recipe.encoder.width <= 64 else 16 if size.startswith("rino") else 32
        batch = args.batch or usual // (2 if args.quick else 1)
        jets = rino.toy_jets(2 * BATCHES * batch, seed=1)
        # Views are made within the step: there is no other core for a loader.
        recipe.update({"training.epochs": 10_000, "training.loader_threads": 0, "training.batch_size": 2 * batch})
        plain = recipe.replace(**{"encoder.dropout": 0.0})
        joint = rino.Trainer(plain, jets[: 2 * batch], group=dist.group.WORLD).step()["loss"]
        single = rino.Trainer(plain, jets[: 2 * batch]).step()["loss"]
        together = rino.Trainer(recipe, jets, group=dist.group.WORLD)
        own = jets[args.rank * BATCHES * batch : (args.rank + 1) * BATCHES * batch]
        apart = rino.Trainer(recipe.replace(batch_size=batch), own)
        gradients = torch.zeros(count_trained(recipe))
        sides: dict[str, tuple[Callable[[], Any], bool]] = {
            "one process": (apart.step, False),
            "two, apart": (apart.step, True),
            "two, together": (together.step, True),
            f"all-reduce of {len(gradients):,} gradients": (lambda g=gradients: dist.all_reduce(g), True),
        }
        seconds = measured(sides, args.rank, args.repetitions)
        if args.rank == 0:
            difference = abs(joint - single) / abs(single)
            said = {"size": size, "batch": batch, "parameters": len(gradients), "difference": difference}
            print(json.dumps(said | {"seconds": seconds}), flush=True)
    dist.destroy_process_group()


def count_trained(recipe: Any) -> int:
    """Numbers that the student learns."""
    import pyrino as rino

    heads = (recipe.loss.dino > 0) + (recipe.loss.ibot > 0)
    encoder, head = rino.JetEncoder(recipe), rino.ProjectionHead(recipe)
    return sum(p.numel() for p in encoder.parameters()) + heads * sum(p.numel() for p in head.parameters())


def measured(sides: dict[str, tuple[Callable[[], Any], bool]], rank: int, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each side, by turns, those of the slower process; where one works the other one sleeps."""
    import torch
    import torch.distributed as dist

    rounds = {name: 1 for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(-2, repetitions):
        for name, (step, both) in sides.items():
            dist.barrier()
            begin = time.perf_counter()
            for _ in range(rounds[name]) if both or rank == 0 else ():
                step()
            spent = torch.tensor([time.perf_counter() - begin if both or rank == 0 else 0.0], dtype=torch.float64)
            dist.all_reduce(spent, dist.ReduceOp.MAX)
            each = float(spent) / rounds[name]
            if repetition < 0:  # the first time warms up, the second one says how often it must be done
                rounds[name] = max(1, min(100, round(LEAST / each)))
            else:
                seconds[name].append(each)
    return seconds


if __name__ == "__main__":
    main()
