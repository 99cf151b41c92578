"""One of two ranks, each on a device of its own: `rank.py FOLDER NAME ...` trains the recipes NAME.toml."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "python")]

import foreign  # noqa: E402

foreign.load()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from helpers import small_jets  # noqa: E402

import pyrino as rino  # noqa: E402


def waits() -> int:
    return sum(torch.ops.foreign.waits().values())


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

    #: Waits that it makes itself, which NCCL does not.
    own_waits = 0

    def allreduce(self, tensors, options):
        before = waits()
        copies = [tensor.cpu() for tensor in tensors]
        work = self.gloo.allreduce(copies, options)
        work.wait()
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)
        self.own_waits += waits() - before
        return work

    def allgather(self, outputs, inputs, options):
        before = waits()
        copies = [[tensor.cpu() for tensor in some] for some in outputs]
        work = self.gloo.allgather(copies, [tensor.cpu() for tensor in inputs], options)
        work.wait()
        for some, theirs in zip(outputs, copies, strict=True):
            for tensor, copy in zip(some, theirs, strict=True):
                tensor.copy_(copy)
        self.own_waits += waits() - before
        return work


def register() -> None:
    """Make it the backend of the device's tensors, and of the CPU's beside them."""

    def make(store: dist.Store, rank: int, size: int, timeout: object) -> ThroughTheHost:
        return ThroughTheHost(store, rank, size)

    dist.Backend.register_backend("through_the_host", make, devices=[foreign.NAME, "cpu"])


def main() -> None:
    folder, *names = sys.argv[1:]
    rank = int(os.environ["RANK"])
    register()
    dist.init_process_group("through_the_host")
    for name in names:
        recipe = rino.Recipe.load(Path(folder) / f"{name}.toml")
        trainer = rino.Trainer(recipe, small_jets(24), device=f"{foreign.NAME}:{rank}", group=dist.group.WORLD)
        torch.ops.foreign.reset()
        dist.group.WORLD.own_waits = 0
        steps = [trainer.step() for _ in range(2)]
        waited = waits() - dist.group.WORLD.own_waits
        assert torch.ops.foreign.most_bytes()[1 - rank] == 0
        (Path(folder) / f"{name}.{rank}.json").write_text(json.dumps({"steps": steps, "waits": waited}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
