"""Files that are whole or absent, and small texts."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from pyrino.errors import RinoError

__all__ = ["text_of", "unfinished", "whole_file"]

#: How files are called while they are written: by what process of which machine, on which a folder may be shared.
#: A machine is a host's name and the inode of its processes' namespace.
#: C++ (rino/io/atomic_file.hpp) has names of its own; earlier versions did not name the machine.
_UNFINISHED = re.compile(
    r"\.(?:.+\.([1-9]\d*)@([^@]+)\.\d+\.partial|.+\.([1-9]\d*)\.partial|rino-([1-9]\d*)(?:@([^@]+))?-\d+\.tmp)",
    re.DOTALL,
)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there gets the name when the block ends without an error.

    Entered before the work starts, so that nobody waits for a result that cannot be written. Folders are made. What
    processes that are no more left unfinished in the folder is removed.

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
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        partial = _begin(path)
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise RinoError(
            f"{path} cannot be written: {error.strerror or error}: make room or choose another place"
        ) from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def unfinished(name: str) -> bool:
    """Whether a file of this name is one that some process writes, or wrote when it was killed."""
    return _UNFINISHED.fullmatch(name) is not None


def text_of(path: str | os.PathLike[str], *, errors: str = "strict") -> str:
    """A text file's content: UTF-8, or what Windows' editors and shells save with a byte order mark."""
    data = Path(path).read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", errors)


def _begin(path: Path) -> Path:
    """A new file beside `path`: never one that is there, nor where a link of the name leads."""
    for number in itertools.count():
        # Parts of names, so that a long one does not become too long.
        partial = path.with_name(f".{path.name[:40]}.{os.getpid()}@{_machine()}.{number}.partial")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
            return partial
    raise AssertionError


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine left when they were killed."""
    for name in os.listdir(folder):
        found = _UNFINISHED.fullmatch(name)
        if found is not None:
            process, machine = found[1] or found[3] or found[4], found[2] or found[5]
            # Earlier versions named no namespace of processes.
            if machine in (None, _host(), _machine()) and not _alive(int(process)):
                with contextlib.suppress(OSError):
                    os.unlink(folder / name)


def _machine() -> str:
    """Where a process is known by its number: containers of one host may have numbers of their own."""
    try:
        return f"{_host()}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        return _host()


def _host() -> str:
    return socket.gethostname().replace("@", "").replace("/", "")[:40]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # another user's
    return True
