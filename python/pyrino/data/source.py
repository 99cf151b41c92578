"""Files by path or URL, and the files that a pattern, a folder or a list stands for."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from pyrino.errors import RinoError

__all__ = ["PathLike", "Source", "find_sources"]

PathLike = str | os.PathLike[str]


class Source:
    """One file: a path of this machine, or a URL that fsspec or, for ROOT, uproot opens (``root://``, ``https://``).

    Parameters
    ----------
    url : path
        As the user wrote it; its text is the file's name in every `Jets.origins`.
    """

    def __init__(self, url: PathLike) -> None:
        self.url = os.fsdecode(url)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Source({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return _is_url(self.url)

    @property
    def path(self) -> Path | None:
        """The path of a file of this machine."""
        return None if self.remote else Path(self.url)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(urlsplit(self.url).path).name if self.remote else Path(self.url).name

    @property
    def stem(self) -> str:
        """`name` without its suffix."""
        return PurePosixPath(self.name).stem

    def open(self) -> BinaryIO:
        """The file's bytes, seekable.

        Raises
        ------
        RinoError
            If there is no such file, or it cannot be opened.
        """
        try:
            if not self.remote:
                return open(self.url, "rb")
            import fsspec

            return fsspec.open(self.url, "rb").open()
        except FileNotFoundError as error:
            if self.remote:
                cause = f" ({error.__cause__})" if error.__cause__ else ""
                raise RinoError(f"{self} cannot be found{cause}; check the URL and the network") from error
            raise RinoError(f"there is no file {self}; {_nearest(self)}") from error
        except Exception as error:  # protocols raise errors of every kind
            raise RinoError(
                f"{self} cannot be opened ({error}); check the path, its rights and the protocol"
            ) from error

    @cached_property
    def size(self) -> int:
        """Bytes.

        Raises
        ------
        RinoError
            As `open`.
        """
        with self.open() as file:
            return file.seek(0, os.SEEK_END)


def find_sources(path: PathLike | Iterable[PathLike], suffixes: Iterable[str]) -> list[Source]:
    """The files that a path, folder, pattern, URL or several of these stand for, in the order given, else by name.

    Parameters
    ----------
    suffixes
        Of the files that are taken from a folder.

    Raises
    ------
    RinoError
        If there is none.
    """
    if isinstance(path, (str, os.PathLike)):
        return _find(path, tuple(suffixes))
    try:
        parts = list(path)
    except TypeError:
        raise RinoError(f"a path is of type {type(path).__name__}; give str or pathlib.Path") from None
    sources = [source for part in parts for source in _find(part, tuple(suffixes))]
    if not sources:
        raise RinoError("the list of paths is empty; give one or more files")
    twice = [source for source, number in _counted(sources).items() if number > 1]
    if twice:
        raise RinoError(f"{twice[0]} was given {_counted(sources)[twice[0]]} times; give every file once")
    return sources


def _counted(sources: list[Source]) -> dict[Source, int]:
    numbers: dict[Source, int] = {}
    for source in sources:
        numbers[source] = numbers.get(source, 0) + 1
    return numbers


def _is_url(text: str) -> bool:
    return "://" in text


def _find(path: PathLike, suffixes: tuple[str, ...]) -> list[Source]:
    try:
        return _found(path, suffixes)
    except OSError as error:
        raise RinoError(f"{path!s} cannot be looked at ({error}); check the path and its rights") from error


def _found(path: PathLike, suffixes: tuple[str, ...]) -> list[Source]:
    if not isinstance(path, (str, os.PathLike)):
        raise RinoError(f"a path is of type {type(path).__name__}; give str or pathlib.Path")
    text = os.fsdecode(path)
    if not text:
        raise RinoError("a path is empty; name a file or a folder, '.' for the current one")
    if _is_url(text):
        return _find_remote(text) if glob.has_magic(urlsplit(text).path) else [Source(text)]
    place = Path(text).expanduser()
    if place.is_dir():
        files = sorted(f for f in place.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))
        if not files:
            raise RinoError(
                f"the folder {place} has no files of the suffixes {', '.join(suffixes)}; name the folder that has"
            )
    elif not place.exists() and glob.has_magic(str(place)):
        files = sorted(Path(found) for found in glob.glob(str(place), recursive=True) if Path(found).is_file())
        if not files:
            raise RinoError(f"no file matches the pattern {place}; check the folder and the pattern")
    else:
        files = [place]
    return [Source(file) for file in files]


def _find_remote(pattern: str) -> list[Source]:
    import fsspec

    try:
        files: list[Any] = fsspec.open_files(pattern, "rb")
    except Exception as error:  # protocols raise errors of every kind
        raise RinoError(f"the pattern {pattern} cannot be looked up ({error}); give the URLs one by one") from error
    if not files:
        raise RinoError(f"no file matches the pattern {pattern}; check the folder and the pattern")
    return [Source(url) for url in sorted(file.full_name for file in files)]


def _nearest(source: Source) -> str:
    file = Path(source.url)
    if file.is_symlink():
        return f"it is a link to {file.readlink()}, which is not there"
    try:
        if not file.parent.is_dir():
            return f"there is no folder {file.parent} either; check the path"
        names = [other.name for other in file.parent.iterdir()]
    except OSError as error:
        return f"check the name and the rights of {file.parent} ({error.strerror})"
    close = difflib.get_close_matches(file.name, names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"check the name; {file.parent} has {len(names)} others"
