"""A user's script, as `mypy --strict` reads it (tests/python/test_types.py); it is not run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

import pyrino as rino


class Alignment(rino.Method):
    """Two smeared views of a jet lie near each other, all jets far from each other."""

    name = "alignment"
    charts = {"uniformity": ["uniformity"]}
    augment = rino.Augmentation([rino.rotate, partial(rino.smear, constant=0.05), "translate max_phi=0.1"])

    def networks(self) -> dict[str, torch.nn.Module]:
        return {"encoder": rino.JetEncoder(self.recipe), "head": torch.nn.Linear(self.recipe.encoder.width, 16)}

    def views(self, jets: rino.Jets, step: rino.Step) -> Sequence[rino.Jets]:
        return [self.augment(jets, **step.draws(view)) for view in ("first", "second")]

    def loss(self, batch: rino.Batch, step: rino.Step) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        a, b = self.head(self.encoder(batch.tokens).jets).chunk(2)
        spread = rino.uniformity(a)
        return rino.alignment(a, b) + spread, {"uniformity": spread}


def rejection(scores: NDArray[np.float64], labels: NDArray[np.int64], efficiency: float) -> float:
    """1 / eps_B where the share `efficiency` of the signal passes."""
    cut = np.quantile(scores[labels == 1], 1 - efficiency)
    return 1 / float(np.mean(scores[labels == 0] >= cut))


def main(unlabelled: str, labelled: str) -> None:
    jets = rino.read_jets(unlabelled, pt=(500, 1000), hardest=128)
    run = rino.pretrain(rino.Recipe("alignment", epochs=5), train=jets, out="runs/alignment", overwrite=True)
    print(f"{run.seconds:.0f} s, last loss {run.history['loss'][-1]:.3f}")
    train, test = rino.read_jets(labelled)[:-1000], rino.read_jets(labelled)[-1000:]
    tagger = rino.finetune(run.encoder, train=train, head="linear", out="runs/tagger")
    found = tagger.evaluate(test)
    point = found.fix_working_point(background_efficiency=0.01)
    z = run.encoder.embed(test, resolution=8)
    scores, passes = tagger.predict(test), tagger.predict(test, working_point=point)
    if test.labels is not None:
        print(found, rejection(scores, test.labels, 0.5), z.shape, passes.mean())
    rino.load("runs/alignment").requires_grad_(False)


if __name__ == "__main__":
    main(*sys.argv[1:3])
