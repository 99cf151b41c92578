"""A teacher: a moving average of networks, as methods written in Python use it."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch

from pyrino.errors import RinoError

if TYPE_CHECKING:
    from pyrino import _core

__all__ = ["Teacher"]


class Teacher:
    """A network that follows another one: teacher <- m * teacher + (1 - m) * student after every step.

    It has no gradient and is in evaluation mode; buffers, as a batch norm's averages, are the student's. As an
    attribute of a `Method` it is moved, followed and written to checkpoints by itself.

    Parameters
    ----------
    student
        What is followed; it starts as a copy of it.
    momentum
        m, from 0 to 1: one number, or the first and the last step's, a cosine in between.

    Raises
    ------
    RinoError
        For a momentum outside [0, 1], or where the student is no network.

    Examples
    --------
    >>> def networks(self):
    ...     encoder = rino.JetEncoder(self.recipe)
    ...     self.teacher = rino.Teacher(encoder, momentum=(0.99, 1.0))
    ...     return {"encoder": encoder}
    >>> def loss(self, batch, step):
    ...     wanted = self.teacher(batch.tokens).jets

    Notes
    -----
    Mean teacher, arXiv:1703.01780.
    """

    def __init__(self, student: torch.nn.Module, momentum: float | tuple[float, float] = 0.99) -> None:
        if not isinstance(student, torch.nn.Module):
            raise RinoError(f"Teacher: student is of type {type(student).__name__}: give a torch.nn.Module")
        self._momentum = tuple(momentum) if isinstance(momentum, (tuple, list)) else (momentum, momentum)
        numbers = all(isinstance(m, (int, float)) and 0 <= m <= 1 for m in self._momentum)
        if len(self._momentum) != 2 or not numbers:
            raise RinoError(f"the teacher's momentum is {momentum!r}: give a number from 0 to 1, or two")
        self.student = student
        self.module = copy.deepcopy(student).requires_grad_(False).eval()

    def __call__(self, *arguments: object, **more: object) -> object:
        """What the network makes of this, without a gradient."""
        with torch.no_grad():
            return self.module(*arguments, **more)

    def momentum(self, step: _core.Step) -> float:
        """Of a step."""
        start, end = self._momentum
        last = step.steps - 1
        share = min(step.number / last, 1.0) if last > 0 else 1.0
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    @torch.no_grad()
    def update(self, step: _core.Step) -> None:
        """Follow the student by a step."""
        mine: list[torch.Tensor] = list(self.module.parameters())
        theirs: list[torch.Tensor] = list(self.student.parameters())
        if mine:
            torch._foreach_lerp_(mine, theirs, 1 - self.momentum(step))
        for buffer, other in zip(self.module.buffers(), self.student.buffers(), strict=True):
            buffer.copy_(other)

    def state(self) -> list[tuple[str, torch.Tensor]]:
        """Parameters and persistent buffers by name."""
        kept = self.module.state_dict()
        buffers = [(name, buffer) for name, buffer in self.module.named_buffers() if name in kept]
        return [*self.module.named_parameters(), *buffers]
