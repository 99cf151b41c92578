"""The one exception type of pyrino, and its one warning."""

from __future__ import annotations

__all__ = ["RinoError", "RinoWarning"]


class RinoError(ValueError):
    """Bad input or a failed operation; the message names the value, the place and the remedy.

    `rino::Error` thrown in C++ arrives in Python as this type. It is a `ValueError`, so code that
    catches that keeps working.
    """


class RinoWarning(UserWarning):
    """What does not stop the work but should be known: something was left out on request, or training goes wrong.

    The message says what, where and why, and what helps.
    """
