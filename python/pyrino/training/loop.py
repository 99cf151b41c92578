"""The steps of a run, whatever it trains: checkpoints between them, and what a signal does."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pyrino.errors import RinoError
from pyrino.training.history import HISTORY, History
from pyrino.training.ranks import Ranks, Stopped
from pyrino.training.watch import Watch

if TYPE_CHECKING:
    from pyrino.training.trainer import Trainer

__all__ = ["CHECKPOINT", "going_on", "run_steps"]

CHECKPOINT = "checkpoint.safetensors"


def run_steps(
    trainer: Trainer,
    history: History,
    out: Path | None,
    watch: Watch,
    ranks: Ranks,
    *,
    record: Callable[[dict[str, float]], None],
    checkpoint_minutes: float,
    callback: Callable[[dict[str, float]], object] | None = None,
) -> None:
    """All steps that are left.

    Parameters
    ----------
    history
        What `record` fills, written with every checkpoint.
    out
        Where checkpoint and history go; None: nowhere.
    record
        Takes down what a step reported.

    Raises
    ------
    Stopped
        If a signal ends it before the last step.
    """

    def checkpoint() -> None:
        if out is None:
            return
        if ranks.first:
            history.save(out / HISTORY)
        trainer.save(out / CHECKPOINT)
        ranks.remedy = going_on(out)

    saved = time.monotonic()
    with ranks.noting() as noted:
        try:
            for step in trainer:
                record(step)
                watch.step(step)
                if callback is not None:
                    callback(step)
                late = time.monotonic() - saved > 60 * checkpoint_minutes
                stopping, due = ranks.largest(noted(), int(late and ranks.first))
                if stopping:
                    raise Stopped("", stopping)
                if due:
                    checkpoint()
                    saved = time.monotonic()
        except RinoError:
            if ranks.first and out is not None:
                with contextlib.suppress(RinoError):
                    history.save(out / HISTORY)  # what led here
            raise
        except KeyboardInterrupt as error:
            if not ranks.alone and not isinstance(error, Stopped):
                raise  # the others do not know of it
            checkpoint()
            number = error.signal if isinstance(error, Stopped) else signal.SIGINT
            by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            where = "" if out is None else f"; the checkpoint is in {out}, go on with resume=True"
            raise Stopped(f"stopped{by} after {trainer.step_number} of {len(trainer)} steps{where}", number) from None
        checkpoint()


def going_on(out: Path) -> str:
    """How a run goes on that was lost."""
    return f"go on from the last checkpoint in {out} with resume=True"
