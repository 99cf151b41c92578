"""Files by path or URL, and the files that a pattern, a folder or a list stands for."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.files import text_of

__all__ = ["PathLike", "Source", "find_sources"]

PathLike = str | os.PathLike[str]

#: How a URL begins; fsspec's may have several protocols (``simplecache::https://``).
_URL = re.compile(r"([a-z][\w+.-]*::)*[a-z][\w+.-]*://", re.IGNORECASE)
_FILE = re.compile(r"file://(localhost(?=/))?", re.IGNORECASE)


class Source:
    """One file: a path of this machine, or a URL that fsspec or, for ROOT, uproot opens (``root://``, ``https://``).

    Parameters
    ----------
    url : path
        As the user wrote it; its text is the file's name in every `Jets.origins`.
    """

    @checked
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

    @cached_property
    def path(self) -> Path | None:
        """The path of a file of this machine, None for one elsewhere. Libraries are given this, never `url`."""
        return _local(self.url)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(urlsplit(self.url).path).name if self.path is None else self.path.name

    @property
    def identity(self) -> object:
        """Equal for all names that one file has: other paths to it, links."""
        if self.path is None:
            return self.url
        try:
            status = os.stat(self.path)
        except OSError:
            return os.path.realpath(self.path)
        return status.st_dev, status.st_ino

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
            if self.path is not None:
                return open(self.path, "rb")
            import fsspec

            return fsspec.open(self.url, "rb").open()
        except FileNotFoundError as error:
            if self.path is None:
                cause = f" ({error.__cause__})" if error.__cause__ else ""
                raise RinoError(f"{self} cannot be found{cause}: check the URL and the network") from error
            raise RinoError(f"there is no file {self}: {_nearest(self.path)}") from error
        except Exception as error:  # protocols raise errors of every kind
            raise RinoError(
                f"{self} cannot be opened ({error}): check the path, its rights and the protocol"
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
    """The files that a path, folder, pattern, URL, list (``@files.txt``) or several of these stand for, in the order
    given, else by name.

    Parameters
    ----------
    suffixes
        Of the files that are taken from a folder.

    Raises
    ------
    RinoError
        If there is none, or one is named twice, by whatever path or link.
    """
    try:
        parts = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    except TypeError:
        raise RinoError(f"a path is of type {type(path).__name__}: give str or pathlib.Path") from None
    sources = [source for part in parts for source in _find(part, tuple(suffixes))]
    if not sources:
        raise RinoError("the list of paths is empty: give one or more files")
    first: dict[object, Source] = {}
    for source in sources:
        other = first.setdefault(source.identity, source)
        if other is not source:
            how = "was given twice" if other == source else f"is the same file as {other}"
            raise RinoError(f"{source} {how}: give every file once")
    return sources


def _is_url(text: str) -> bool:
    return _URL.match(text) is not None


def _local(text: str) -> Path | None:
    """The path that is meant, also by a URL such as `Path.as_uri` writes it, with %20 for a space; None: elsewhere."""
    if not _is_url(text):
        return Path(text)
    if not _FILE.match(text):
        return None
    plain = _FILE.sub("", text, count=1)
    meant = unquote(plain, errors="surrogateescape")
    return Path(plain if os.path.lexists(plain) and not os.path.lexists(meant) else meant)


def _find(path: PathLike, suffixes: tuple[str, ...]) -> list[Source]:
    try:
        return _found(path, suffixes)
    except OSError as error:
        raise RinoError(f"{path!s} cannot be looked at ({error}): check the path and its rights") from error


def _found(path: PathLike, suffixes: tuple[str, ...]) -> list[Source]:
    if not isinstance(path, (str, os.PathLike)):
        raise RinoError(f"a path is of type {type(path).__name__}: give str or pathlib.Path")
    text = os.fsdecode(path)
    if not text:
        raise RinoError("a path is empty: name a file or a folder, '.' for the current one")
    place = _local(text)
    if place is None:
        return _find_remote(text, suffixes) if glob.has_magic(urlsplit(text).path) else [Source(text)]
    if not os.path.lexists(place):
        place = Path(os.path.expanduser(place))
    if place.is_dir():
        return [Source(file) for file in _in_folder(place, suffixes)]
    if os.path.lexists(place):
        return [Source(text if _is_url(text) else place)]
    if text.startswith("@"):
        return _in_list(Path(os.path.expanduser(text[1:])), suffixes)
    if glob.has_magic(str(place)):
        return [Source(file) for file in _of_pattern(place, suffixes)]
    return [Source(text if _is_url(text) else place)]


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = list(_below(folder, suffixes))
    if not files:
        folder = next(iter(_suitable(folder, suffixes)), folder)
        raise RinoError(
            f"the folder {folder} has no files of the suffixes {', '.join(suffixes)}: name the folder that has"
        )
    return files


def _below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """A folder's files by name; one in it that has a suffix itself is a data set of several files, or of none."""
    for entry in _suitable(folder, suffixes):
        if entry.is_dir():
            yield from _below(entry, suffixes)
        else:
            yield entry


def _suitable(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))


def _of_pattern(pattern: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files that match, and those in folders that do, by name."""
    start = Path(pattern.anchor)
    files: dict[Path, None] = {}
    matches = sorted(set(_matching(start, pattern.relative_to(start).parts)))
    for match in matches:
        if not match.is_dir():
            files[match] = None
        else:
            files |= dict.fromkeys(_below(match, suffixes))
    if not files:
        for match in matches:
            if match.is_dir() and match.suffix.lower() in suffixes:
                return _in_folder(match, suffixes)  # says that it has none
        raise RinoError(f"no file matches the pattern {pattern}: check the folder and the pattern")
    return list(files)


def _matching(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What the parts of a pattern stand for below a folder; one that is really called so, ``[run1]``, is no pattern."""
    if not parts:
        yield folder
        return
    first, *rest = parts
    if os.path.lexists(folder / first):
        below = [first]
    elif first == "**":
        below = ["", *glob.glob("**/" if rest else first, root_dir=folder, recursive=True)]
    else:
        below = glob.glob(first, root_dir=folder)
    for name in below:
        yield from _matching(folder / name, rest)


def _in_list(file: Path, suffixes: tuple[str, ...]) -> list[Source]:
    """What a text file names: a path, as it would be given itself, a line; empty lines and ``# ...`` say nothing."""
    if not file.is_file():
        raise RinoError(f"there is no list of files {file}; after @ comes a text file with a path a line")
    try:
        text = text_of(file, errors="surrogateescape")
    except UnicodeError:
        text = "\0"
    if "\0" in text:
        raise RinoError(f"{file} is no list of files: it is not text: leave out the @ to read it as jets")
    paths = [line.strip() for line in text.split("\n")]
    paths = [path for path in paths if path and not path.startswith("#")]
    if not paths:
        raise RinoError(f"the list {file} names no file: write a path a line")
    if any(path.startswith("@") for path in paths):
        raise RinoError(f"the list {file} names another list: write the files' own paths")
    return [source for path in paths for source in _find(path, suffixes)]


def _find_remote(pattern: str, suffixes: tuple[str, ...]) -> list[Source]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(pattern)
        files: list[str] = []
        for match, about in sorted(system.glob(path, detail=True).items()):
            names = system.ls(match, detail=False) if about["type"] == "directory" else [match]
            files += [name for name in sorted(names) if name == match or name.lower().endswith(suffixes)]
        if not files and system.exists(path):  # it is really called so
            return [Source(pattern)]
    except Exception as error:  # protocols raise errors of every kind
        raise RinoError(f"the pattern {pattern} cannot be looked up ({error}): give the URLs one by one") from error
    if not files:
        raise RinoError(f"no file matches the pattern {pattern}: check the folder and the pattern")
    return [Source(system.unstrip_protocol(file)) for file in files]


def _nearest(file: Path) -> str:
    if file.is_symlink():
        return f"it is a link to {file.readlink()}, which is not there"
    try:
        if not file.parent.is_dir():
            return f"there is no folder {file.parent} either: check the path"
        names = [other.name for other in file.parent.iterdir()]
    except OSError as error:
        return f"check the name and the rights of {file.parent} ({error.strerror})"
    close = difflib.get_close_matches(file.name, names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"check the name; {file.parent} has {len(names)} others"
