"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pyrino.errors import RinoError

__all__ = ["whole_file"]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there gets the name when the block ends without an error.

    Entered before the work starts, so that nobody waits for a result that cannot be written. Folders are made.

    Raises
    ------
    RinoError
        If `path` is a folder, or exists and `overwrite` is not set, or cannot be written (a full disk).
    """
    path = Path(path)
    if path.is_dir():
        raise RinoError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise RinoError(f"{path} exists: give overwrite=True to replace it, or another name")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise RinoError(
            f"{path} cannot be written: {error.strerror or error}; make room or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
