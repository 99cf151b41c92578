"""What a method written in Python costs a step: `contrastive` said again in Python against itself in C++.

The same recipe from the same weights on one thread, dropout off, step by step in turns; the views are made within the
step. Both sides compute the same, which their losses show, so that what is left between them is Python's part. Times
are those of the process, which other programs disturb less, but do; the difference is that of steps on the same jets.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import safetensors.torch
import torch
from common import Report, parser

import pyrino as rino
from pyrino.bench import Timing, torch_threads


class SaidAgain(rino.Method):
    """NT-Xent between two views of each jet."""

    name = "contrastive-in-python"
    accumulates = False

    def networks(self):
        self.augment = rino.Augmentation(rino.Recipe("contrastive").views.first)
        width = self.recipe.encoder.width
        head = [torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, width)]
        return {"encoder": rino.JetEncoder(self.recipe), "head": torch.nn.Sequential(*head)}

    def views(self, jets, step):
        return [self.augment(jets, **step.draws(f"{which} view")) for which in ("first", "second")]

    def loss(self, batch, step):
        a, b = self.head(self.encoder(batch.tokens, constituents=False).jets).chunk(2)
        seen, other = a.detach(), b.detach()
        spread = (rino.uniformity(seen) + rino.uniformity(other)) / 2
        return rino.nt_xent_loss(a, b), {"alignment": rino.alignment(seen, other), "uniformity": spread}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--jets", type=int, nargs="+", default=[256, 32], help="of a step")
    options.add_argument("--steps", type=int, help="of each side (default: 200; quick: 40)")
    args = options.parse_args()
    steps = args.steps or (40 if args.quick else 200)
    jets = rino.toy_jets(max(args.jets), seed=1)
    report = Report("method_overhead", jets)
    with torch_threads(1):
        for batch in args.jets:
            sides = both(jets[:batch], steps + 2)
            losses, seconds = {name: [] for name in sides}, {name: [] for name in sides}
            for _ in range(steps + 2):
                for name, trainer in sides.items():
                    begin = time.process_time()
                    losses[name].append(trainer.step()["loss"])
                    seconds[name].append(time.process_time() - begin)
            one, other = losses.values()
            report.check(
                f"first losses, {batch} jets", max(abs(a - b) for a, b in zip(one[:3], other, strict=False)), 1e-4
            )
            for name, taken in seconds.items():
                report.row(f"{name}, {batch} jets", Timing.of(taken[2:]), batch)
            cpp, python = seconds.values()
            over = statistics.median(p - c for c, p in list(zip(cpp, python, strict=True))[2:])
            least = min(python) - min(cpp)
            report.figure(f"method_overhead: Python's part of a step of {batch} jets", 1e6 * over, 1000, unit="us")
            report.figure(f"method_overhead: the same of each side's fastest, {batch} jets", 1e6 * least, unit="us")
    report.finish(args.out)


def both(jets: rino.Jets, steps: int) -> dict[str, rino.Trainer]:
    """Trainers of nano's encoder from the same weights."""
    numbers = {"batch_size": len(jets), "training.epochs": steps, "encoder.dropout": 0.0, "loader_threads": 0}
    cpp = rino.Trainer(rino.Recipe("contrastive", **numbers), jets)
    python = rino.Trainer(rino.Recipe("contrastive-in-python", **numbers), jets)
    with tempfile.TemporaryDirectory() as folder:
        cpp.save(Path(folder) / "start")
        state = safetensors.torch.load_file(Path(folder) / "start")
    method = python.method
    method.encoder.load_state_dict(
        {name.removeprefix("trained.encoder."): w for name, w in state.items() if name.startswith("trained.encoder.")}
    )
    for layer in (0, 1):
        for kind in ("weight", "bias"):
            getattr(method.head[2 * layer + 1], kind).data.copy_(state[f"trained.head.layers.{layer}.{kind}"])
    return {"C++": cpp, "Python": python}


if __name__ == "__main__":
    main()
