"""The folder of a run: whether it may be used, and nothing in it that is not the run's own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pyrino.errors import RinoError
from pyrino.files import unfinished

__all__ = ["check_folder", "claim_folder"]


def check_folder(out: Path, known: Sequence[str], *, overwrite: bool, remedy: str) -> None:
    """Refuse a folder that holds something which must not be lost; nothing is changed.

    Raises
    ------
    RinoError
        If it is a file, holds a run and `overwrite` is not set, or holds files that are not ours.
    """
    if out.exists() and not out.is_dir():
        raise RinoError(f"{out} is a file: choose a folder")
    if out.is_dir() and not all(unfinished(path.name) for path in out.iterdir()):
        if not any((out / name).exists() for name in known):
            raise RinoError(f"the folder {out} exists and holds other files: choose a new folder")
        if not overwrite:
            raise RinoError(f"the folder {out} holds a run already: {remedy}")


def claim_folder(out: Path, known: Sequence[str], *, overwrite: bool, remedy: str) -> None:
    """Make the folder `out`, empty of an earlier run.

    Raises
    ------
    RinoError
        As `check_folder`, or if it cannot be made.
    """
    check_folder(out, known, overwrite=overwrite, remedy=remedy)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RinoError(f"the folder {out} cannot be made: {error.strerror}: choose another") from error
    for name in known if out.is_dir() else ():
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
