"""A progress bar for whatever takes its time."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import Any

__all__ = ["in_notebook", "progress_bar", "tqdm_class"]


def progress_bar(*what: Any, **options: Any) -> Any:
    """tqdm's bar, as a widget in a notebook that has some, where it is redrawn every other second.

    What is shown may be lost, with a terminal that was closed or on a full disk; what is done goes on.
    """
    if in_notebook():
        return tqdm_class()(*what, **{"mininterval": 2.0, **options})
    return tqdm_class()(*what, file=_StandardError(), **{"disable": sys.stderr is None, **options})


def in_notebook() -> bool:
    """Whether a kernel runs here; that its package is imported is no sign of it."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def tqdm_class() -> Any:
    """tqdm's bar for this place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets text
        from tqdm.auto import tqdm

        return tqdm


class _StandardError:
    """Standard error, on which nothing fails."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
