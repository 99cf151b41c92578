"""Progress of a training run: how fast it goes, and a bar or lines that say so."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pyrino.bars import in_notebook, tqdm_class

if TYPE_CHECKING:
    from pyrino.training.trainer import Trainer

__all__ = ["MINUTE", "Display", "Pace", "display"]

#: Seconds that rates are means of.
MINUTE = 60.0


class Pace:
    """How fast a run goes, over the last minute; over less at its start, over the last step where that takes longer.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = (clock(), 0, 0, 0.0, 0.0)  # time, jets, steps, seconds waited, seconds of the steps
        self._marks = deque([self._now])

    def start(self) -> None:
        """The first step begins."""
        self._now = (self._clock(), 0, 0, 0.0, 0.0)
        self._marks = deque([self._now])

    def add(self, jets: int, waited: float, seconds: float) -> None:
        """A step of so many jets ends, which took `seconds`, `waited` of them for the loader."""
        _, had, steps, before, lasted = self._now
        self._now = (self._clock(), had + jets, steps + 1, before + waited, lasted + seconds)
        if self._now[0] - self._marks[-1][0] >= 1:  # every step of milliseconds would be too many
            self._marks.append(self._now)
        while len(self._marks) > 1 and self._now[0] - self._marks[1][0] >= MINUTE:
            self._marks.popleft()

    def _since(self, i: int) -> float:
        return self._now[i] - self._marks[0][i]

    @property
    def lasts(self) -> float:
        """Seconds that the rates are of."""
        return self._since(0)

    @property
    def steps(self) -> int:
        """Steps in them."""
        return int(self._since(2))

    @property
    def rate(self) -> float:
        """Jets per second; 0 before the first step."""
        return self._since(1) / self.lasts if self.lasts > 0 else 0.0

    @property
    def waited(self) -> float:
        """Share of the steps' time in which they waited for the loader."""
        return self._since(3) / self._since(4) if self._since(4) > 0 else 0.0


class Display:
    """Progress on standard error."""

    def __init__(self, trainer: Trainer, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._trainer, self._batch, self._per_epoch = trainer, trainer.batch_size, trainer.steps_per_epoch
        self._about = trainer._about()
        self._done, self._title, self._next = trainer.step_number, trainer._title, trainer._title

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def aside(self) -> AbstractContextManager[None]:
        """Where something else may be written to standard error."""
        return nullcontext()

    def step(self, report: Mapping[str, float], pace: Pace, skipped: int) -> None:
        """Show a step."""
        self._done = int(report["step"]) + 1
        self._title, self._next = self._next, self._trainer._title  # of this step, and of the next one

    def _pieces(self, report: Mapping[str, float], pace: Pace, skipped: int) -> list[tuple[str, str]]:
        """What there is to say, at length and in short."""
        rate = f"{_rounded(pace.rate)} jets/s"
        left = (len(self._trainer) - self._done) * self._batch
        eta = f"ETA {_duration(left / pace.rate) if pace.rate > 0 else '?'}"
        epoch = f"epoch {self._done / self._per_epoch:.1f}/{self._trainer.epochs}"
        loss, waited = report["loss"], f"{pace.waited:.0%}"
        pieces = [(epoch, epoch), (rate, rate), (eta, eta), (f"loss {loss:.3f}", f"loss {loss:.2f}")]
        pieces += self._about.shown(report)
        pieces.append((f"waiting {waited}", f"wait {waited}"))
        if skipped:
            pieces.append((f"{skipped} skipped", f"{skipped} skip"))
        return pieces


class _Bar(Display):
    """A bar that is drawn ten times a second at most; in a notebook, which keeps what was drawn, every other second."""

    def __enter__(self) -> _Bar:
        self._rest = 2.0 if in_notebook() else 0.1
        self._bar = tqdm_class()(
            total=len(self._trainer),
            initial=self._done,
            bar_format=f"{self._title} {{percentage:3.0f}}%|{{bar}}|",
            dynamic_ncols=True,
        )
        self._latest: tuple[Mapping[str, float], Pace, int] | None = None
        self._drawn = -math.inf
        return self

    def __exit__(self, *error: object) -> None:
        if self._latest is not None:
            self._draw(*self._latest)
        self._bar.close()

    def aside(self) -> AbstractContextManager[None]:
        return self._bar.external_write_mode(sys.stderr)

    def step(self, report: Mapping[str, float], pace: Pace, skipped: int) -> None:
        super().step(report, pace, skipped)
        self._latest = (report, pace, skipped)
        if self._clock() - self._drawn >= self._rest:
            self._drawn = self._clock()
            self._draw(report, pace, skipped)

    def _draw(self, report: Mapping[str, float], pace: Pace, skipped: int) -> None:
        width = self._bar.format_dict["ncols"] or 80
        long, short = (", ".join(texts) for texts in zip(*self._pieces(report, pace, skipped), strict=True))
        room = width - len("100%|| ")
        # With the bar as long as a line of the terminal lets it be.
        if room - len(long) >= 24:
            self._bar.bar_format = f"{self._title} {{percentage:3.0f}}%|{{bar}}| {long}"
        elif room - len(long) >= 5:
            self._bar.bar_format = f"{{percentage:3.0f}}%|{{bar}}| {long}"
        elif room - len(short) >= 1:
            self._bar.bar_format = f"{{percentage:3.0f}}%|{{bar}}| {short}"
        else:
            self._bar.bar_format = short
        self._bar.n, self._bar.total = self._done, len(self._trainer)
        self._bar.refresh()


class _Lines(Display):
    """Lines for a log file."""

    def __enter__(self) -> _Lines:
        self._latest: tuple[Mapping[str, float], Pace, int] | None = None
        self._printed = -math.inf
        return self

    def __exit__(self, *error: object) -> None:
        if self._latest is not None:
            self._print(*self._latest)

    def step(self, report: Mapping[str, float], pace: Pace, skipped: int) -> None:
        super().step(report, pace, skipped)
        self._latest = (report, pace, skipped)
        since = self._clock() - self._printed
        ended = self._done % self._per_epoch == 0 and since >= MINUTE / 6
        if since >= MINUTE or ended or self._next != self._title:
            self._print(report, pace, skipped)

    def _print(self, report: Mapping[str, float], pace: Pace, skipped: int) -> None:
        self._latest, self._printed = None, self._clock()
        pieces = ", ".join(long for long, _ in self._pieces(report, pace, skipped))
        steps = len(self._trainer)
        print(
            f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self._title}: step {self._done}/{steps} "
            f"({math.floor(100 * self._done / steps)}%), {pieces}",
            file=sys.stderr,
            flush=True,
        )


def display(trainer: Trainer, clock: Callable[[], float]) -> Display:
    """A bar where it can be redrawn: in a terminal and in a notebook."""
    if sys.stderr is None:  # a program without a terminal, such as pythonw
        return Display(trainer, clock)
    redrawn = sys.stderr.isatty() or in_notebook()
    return (_Bar if redrawn else _Lines)(trainer, clock)


def _rounded(number: float) -> str:
    """Three digits: 4.32, 56.7, 891, 12.3k, 4.56M."""
    for unit in ("", "k", "M"):
        if number < 999.5:
            return f"{number:#.3g}".rstrip(".") + unit
        number /= 1000
    return f"{number:#.3g}".rstrip(".") + "G"


def _duration(seconds: float) -> str:
    """4:05, 1:02:03, 2 d 4 h."""
    hours, rest = divmod(round(seconds), 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    clock = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{clock.zfill(5)}" if hours else clock
