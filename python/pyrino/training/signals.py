"""Signals that ask a training run to end, noted in place of dying of them."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["Signals", "Stopped"]


class Stopped(KeyboardInterrupt):
    """A signal ended a run between two steps, with a checkpoint.

    Attributes
    ----------
    signal : int
        Its number: SIGINT (Ctrl-C), SIGTERM, or SIGUSR1, which batch systems are told to warn with.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = int(number)

    @property
    def status(self) -> int:
        """Exit status as shells count it: 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1."""
        return 128 + self.signal


class Signals:
    """Notes SIGINT, SIGTERM and SIGUSR1 in place of dying of them, where nobody else handles them."""

    def __init__(self, *, raising: bool = False) -> None:
        self.raising = raising
        self.raised = False
        self.noted = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number, usual in (
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGTERM, signal.SIG_DFL),
                (signal.SIGUSR1, signal.SIG_DFL),
            ):
                if signal.getsignal(number) is usual:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self.noted = number
        if self.raising and not self.raised:
            self.raised = True
            raise Stopped(f"stopped by {signal.Signals(number).name} before the first step", number)
