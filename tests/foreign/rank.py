"""One of two ranks, each on a device of its own: `rank.py RECIPE REPORT` trains and writes what its steps said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "python")]

import foreign

foreign.load()

import torch
import torch.distributed as dist
from helpers import small_jets

import pyrino as rino


class ThroughTheHost(dist.ProcessGroup):
    """Gloo for tensors of the device: it sends copies."""

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self.gloo = dist.ProcessGroupGloo(store, rank, size)

    @property
    def group_name(self) -> str:
        """Under which C++ finds it."""
        return dist.distributed_c10d._world.pg_names[self]

    def getBackendName(self) -> str:
        return "through-the-host"

    def allreduce(self, tensors, options):
        copies = [tensor.cpu() for tensor in tensors]
        work = self.gloo.allreduce(copies, options)
        work.wait()
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)
        return work

    def allgather(self, outputs, inputs, options):
        copies = [[tensor.cpu() for tensor in some] for some in outputs]
        work = self.gloo.allgather(copies, [tensor.cpu() for tensor in inputs], options)
        work.wait()
        for some, theirs in zip(outputs, copies, strict=True):
            for tensor, copy in zip(some, theirs, strict=True):
                tensor.copy_(copy)
        return work


def main() -> None:
    recipe, report = sys.argv[1:]
    rank = int(os.environ["RANK"])
    devices = [foreign.NAME, "cpu"]
    make = lambda store, rank, size, timeout: ThroughTheHost(store, rank, size)  # noqa: E731
    dist.Backend.register_backend("through_the_host", make, devices=devices)
    dist.init_process_group("through_the_host")
    torch.ops.foreign.reset()
    trainer = rino.Trainer(
        rino.Recipe.load(recipe), small_jets(24), device=f"{foreign.NAME}:{rank}", group=dist.group.WORLD
    )
    steps = [trainer.step() for _ in range(2)]
    assert torch.ops.foreign.most_bytes()[1 - rank] == 0
    Path(report).write_text(json.dumps(steps))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
