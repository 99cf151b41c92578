"""The one exception type of pyrino, and its one warning."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

__all__ = ["RinoError", "RinoWarning", "level_of_caller", "readable", "unpicklable"]

#: How Python holds a byte that is no UTF-8: half of a pair of code units, which nothing can print or store.
_HALF = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    """The text with bytes that are no UTF-8, as old file names have them, in the form ``\\xe9``."""
    return _HALF.sub(lambda half: f"\\x{ord(half[0]) & 0xFF:02x}", text)


def _readable_record(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if readable(text) != text:
        record.msg, record.args = readable(text), None
    return True


logging.getLogger("pyrino").addFilter(_readable_record)


class _Readable(Exception):
    def __str__(self) -> str:
        return readable(super().__str__())


class RinoError(_Readable, ValueError):
    """Bad input or a failed operation; the message names the value, the place and the remedy.

    `rino::Error` thrown in C++ arrives in Python as this type. It is a `ValueError`, so code that
    catches that keeps working.
    """


class RinoWarning(_Readable, UserWarning):
    """What does not stop the work but should be known: something was left out on request, or training goes wrong.

    The message says what, where and why, and what helps.
    """


def unpicklable(message: str) -> tuple[Any, ...]:
    """For ``__reduce__`` of what cannot be pickled: raises.

    In a worker of a `torch.utils.data.DataLoader` it returns an error to be raised where the pickle is read: there a
    thread pickles whose own errors nobody hears, and who waits for the batch would wait for ever.

    Raises
    ------
    RinoError
        With this message.
    """
    from torch.utils.data import get_worker_info

    if get_worker_info() is None:
        raise RinoError(message)
    return _raise, (message,)


def _raise(message: str) -> None:
    raise RinoError(message)


def level_of_caller() -> int:
    """`stacklevel`, for a warning of the function that asks, of the first line that is not pyrino's own."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "pyrino":
        frame, level = frame.f_back, level + 1
    return level
