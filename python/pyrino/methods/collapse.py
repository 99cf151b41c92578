"""Signs that self-distillation collapses: which, why that may be, and what helps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrino.recipe import Recipe

__all__ = ["STEPS", "CollapseAlarm"]

#: Steps whose mean a judgement rests on.
STEPS = 50


class CollapseAlarm:
    """Says when training learns nothing any more, why that may be, and what helps.

    The signs are means over 50 steps, H being the mean entropy of the teacher's assignments, H' that of their mean
    (``teacher_entropy``, ``prototype_entropy``; likewise of particles), K the number of prototypes:

    - H > 0.98 ln K: every jet belongs to all prototypes alike. It is also what Sinkhorn-Knopp makes of embeddings that
      have become all the same.
    - cross-entropy > 0.98 ln K otherwise: the student guesses.
    - H' - H < 0.02 ln K otherwise: all jets have the same assignment (H' - H is the mutual information of jet and
      prototype).
    - H' < 0.25 ln K otherwise: few prototypes are used, in the end one. Sinkhorn-Knopp excludes it.
    - The effective rank of the embeddings is below 2, in three snapshots in a row.

    Healthy runs show the first two signs at their start: with small layer scales all embeddings are alike at first, and
    the entropy stays at ln K for hundreds of steps. What a run has done is measured in steps at the peak learning rate,
    so that a long warm-up counts little. Up to 500 of them the first two count only in runs that had been below 0.95
    ln K before, up to 2,000 only where the distance to ln K does not grow; the others count from 200 on.

    What has lasted for 50 steps is told once, by the first sign of this list, and again after all of them were gone.

    Parameters
    ----------
    recipe
        Of the run.
    path
        Sum of the learning rates of the steps done so far over the peak learning rate.
    """

    def __init__(self, recipe: Recipe, path: float = 0.0) -> None:
        self._recipe = recipe.copy()
        self._ln_k = math.log(recipe.head.prototypes)
        self._peak = recipe.optimizer.lr
        self._path = path
        self._sides = (_Side("", "dino", "jet"), _Side("particle_", "ibot", "masked constituent"))
        self._ranks: deque[float] = deque(maxlen=3)
        self._rank = _Told()

    def step(self, report: Mapping[str, float]) -> list[str]:
        """What is new with a step, as `Trainer.step` reports it."""
        self._path += report["lr"] / self._peak if self._peak > 0 else 0.0
        said = []
        for side in self._sides:
            if not all(name in report for name in side.names) or self._ln_k == 0:
                continue
            for name, mean in zip(side.names, side.means, strict=True):
                mean.add(report[name] / self._ln_k, self._path)
            if side.means[0].full:
                sign = self._sign_of(side)
                side.lasting = side.lasting + 1 if sign else 0
                if side.told.new(bad=side.lasting >= STEPS, good=side.is_sound):
                    said.append(f"training collapses: {self._text(sign, side, report['teacher_temperature'])}")
        return said

    def rank(self, rank: float, width: int) -> list[str]:
        """What is new with an effective rank of embeddings of so many numbers."""
        self._ranks.append(rank)
        if self._path < 200 or len(self._ranks) < 3:
            return []
        if not self._rank.new(bad=max(self._ranks) < 2, good=min(self._ranks) > 3):
            return []
        return [
            f"training collapses: the effective rank of the teacher's embeddings is {rank:.2f} of {width}: jets differ "
            f"in next to one number. Raise loss.koleo (now {self._recipe.loss.koleo:g}) or lower optimizer.lr (now "
            f"{self._peak:g})"
        ]

    def _sign_of(self, side: _Side) -> str:
        """The first sign that is there; "" without one."""
        guess, one, mean = side.means
        if self._stuck(one):
            return "uniform"
        if self._stuck(guess):
            return "guess"
        if self._path >= 200 and mean.value - one.value < 0.02 and one.value < 0.98:
            return "same"
        return "few" if self._path >= 200 and mean.value < 0.25 else ""

    def _stuck(self, mean: _Mean) -> bool:
        """Whether it is near ln K and not only because training has not begun to work."""
        if mean.value < 0.98:
            return False
        if mean.least < 0.95:
            return self._path >= 100
        return self._path >= 2000 or (self._path >= 500 and not mean.falls)

    def _text(self, sign: str, side: _Side, temperature: float) -> str:
        k, s, lr = self._recipe.head.prototypes, self._recipe.loss, f"optimizer.lr (now {self._peak:g})"
        guess, one, mean = (m.value * self._ln_k for m in side.means)
        nats = f"{one:.3g} nats, {100 * one / self._ln_k:.4g}% of ln K with K = {k}"
        heat = f"loss.teacher_temperature_* (now {temperature:.3g}; the student's is {s.student_temperature:.3g})"
        sinkhorn = f"loss.assignment 'sinkhorn' (now '{s.assignment}')"
        if sign == "uniform":
            return (
                f"the teacher assigns every {side.what} to all prototypes alike: its entropy is {nats}, there is "
                f"nothing to learn from that. Lower {heat} or {lr}"
            )
        if sign == "guess":
            return (
                f"the student predicts the teacher's assignment of a {side.what} no better than a uniform guess would: "
                f"the cross-entropy {side.names[0]} is {guess:.3g} nats, ln K is {self._ln_k:.3g}. Lower {lr} or "
                f"loss.koleo (now {s.koleo:g}), or lengthen training.warmup (now {self._recipe.training.warmup:g})"
            )
        if sign == "same":
            return (
                f"the teacher assigns all {side.what}s alike: the entropy of one assignment is {nats}, that of their "
                f"mean {mean:.3g} nats. Raise loss.koleo (now {s.koleo:g}) or loss.momentum_start (now "
                f"{s.momentum_start:g}), or choose {sinkhorn}"
            )
        return (
            f"the teacher assigns {side.what}s to {math.exp(mean):.1f} of {k} prototypes: the entropy of its mean "
            f"assignment is {mean:.3g} nats, {100 * mean / self._ln_k:.3g}% of ln K. Choose {sinkhorn}, lower "
            f"loss.center_momentum (now {s.center_momentum:g}) or raise {heat}"
        )


class _Told:
    """What is told once, and again after it was good."""

    def __init__(self) -> None:
        self._told = False

    def new(self, *, bad: bool, good: bool) -> bool:
        """Whether to tell it now."""
        new = bad and not self._told
        self._told = new or (self._told and not good)
        return new


class _Side:
    """The assignments of jets, or of constituents."""

    def __init__(self, prefix: str, loss: str, what: str) -> None:
        self.names = (loss, prefix + "teacher_entropy", prefix + "prototype_entropy")
        self.what = what
        self.means = (_Mean(), _Mean(), _Mean())
        self.told = _Told()
        self.lasting = 0

    @property
    def is_sound(self) -> bool:
        """Whether it is well away from every sign."""
        guess, one, mean = (m.value for m in self.means)
        return guess < 0.95 and one < 0.95 and mean - one > 0.05 and mean > 0.35


class _Mean:
    """Mean of a number's last 50 values, and what it has been."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=STEPS)
        self._marks: deque[tuple[int, float]] = deque(maxlen=2)
        self.value = self.least = math.inf

    def add(self, value: float, path: float) -> None:
        """One more, after so many steps at the peak learning rate."""
        self._last.append(value)
        self.value = sum(self._last) / len(self._last)
        if not self.full:
            return
        self.least = min(self.least, self.value)
        octave = math.frexp(path)[1]
        if not self._marks or self._marks[-1][0] != octave:
            self._marks.append((octave, self.value))

    @property
    def full(self) -> bool:
        return len(self._last) == STEPS

    @property
    def falls(self) -> bool:
        """Whether the distance below 1 has grown by half since the run had done half as much or less; true as long as
        nobody knows.
        """
        return len(self._marks) < 2 or 1 - self.value > 1.5 * max(1 - self._marks[0][1], 0.001)
