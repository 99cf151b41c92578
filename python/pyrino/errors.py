"""The one exception type of pyrino, and its one warning."""

from __future__ import annotations

from typing import Any

__all__ = ["RinoError", "RinoWarning", "unpicklable"]


class RinoError(ValueError):
    """Bad input or a failed operation; the message names the value, the place and the remedy.

    `rino::Error` thrown in C++ arrives in Python as this type. It is a `ValueError`, so code that
    catches that keeps working.
    """


class RinoWarning(UserWarning):
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
