"""What a layout of files is, and the registry of those that are known."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyrino.data.chunk import Chunk, reading
from pyrino.data.containers import CONTAINERS, container_of
from pyrino.data.source import Source
from pyrino.errors import RinoError

__all__ = ["Layout", "Reader", "layout_of", "layouts", "open_file", "register", "suffixes"]


class Reader(ABC):
    """An open file of some layout. One thread uses it at a time.

    Attributes
    ----------
    entries : int
        Jets in the file, before any cut.
    starts : numpy.ndarray
        Numbers of the jets at which reading can begin without reading what is before: the first is 0, the others are
        where the container's own pieces begin. Reading from elsewhere is right, too, and slower.
    columns : mapping
        What can be asked for beyond momenta and labels: name -> "constituent" or "jet".
    unfit : mapping
        What is there and cannot be asked for, such as text: name -> its type. None of it need be named.
    """

    entries: int
    starts: NDArray[np.int64]
    columns: dict[str, str]
    unfit: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        """Jets `first` to `last` - 1 with the named columns.

        Raises
        ------
        RinoError
            If the bytes are damaged or a value cannot be: the message names the file and the jet's number in it.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    @property
    def kept(self) -> int:
        """Bytes in memory that it keeps for the next read."""
        return 0

    def forget(self) -> None:
        """Let go of what it keeps in memory; the file stays open."""
        return

    @property
    def first_jets(self) -> NDArray[np.int64] | None:
        """(rows + 1,) number of the first jet of each row of the file's tree, and of all; None where a row is a jet."""
        return None

    def label_meaning(self) -> str | None:
        """What the labels mean (`Labels.meaning`), None where there are none."""
        labels = self.read(0, min(1, self.entries)).labels
        return None if labels is None else labels.meaning

    def spans(self, rows: int, most: int) -> list[tuple[int, int]]:
        """All jets in pieces (first, last + 1) that begin at `starts`, of `rows` jets or fewer where they can.

        A piece of the container itself is cut only above `most` jets, since each part decompresses all of it.
        """
        ends = [*self.starts[1:].tolist(), self.entries]
        pieces: list[tuple[int, int]] = []
        first = 0
        for i, end in enumerate(ends):
            if i + 1 < len(ends) and ends[i + 1] - first <= rows:
                continue
            number = -(-(end - first) // most) if end - first > most else 1
            bounds = [first + (end - first) * k // number for k in range(number + 1)]
            pieces += [(a, b) for a, b in itertools.pairwise(bounds) if b > a]
            first = end
        return pieces


class Layout(ABC):
    """How some data set's files hold jets. Write a subclass and `register` an instance to have yours read.

    Attributes
    ----------
    name : str
        Short and lower-case: what ``layout=`` takes and `pyrino info` prints.
    title : str
        What it is, in one line.
    container : str
        "ROOT", "parquet", "HDF5", "npz" or "Arrow": then `recognise` and `reader` get the file opened by that
        container's library (uproot.ReadOnlyDirectory, pyarrow.parquet.ParquetFile, h5py.File,
        numpy.lib.npyio.NpzFile, pyarrow.ipc.RecordBatchFileReader). "": they get the bytes as a binary file.
    suffixes : tuple of str
        Of files that are taken from a folder.

    Examples
    --------
    >>> class Mine(rino.data.Layout):
    ...     name, title, container, suffixes = "mine", "my own HDF5", "HDF5", (".h5",)
    ...     def recognise(self, file): return "my_jets" in file
    ...     def reader(self, source, file): return MyReader(source, file)
    >>> rino.data.register(Mine())
    """

    name: ClassVar[str]
    title: ClassVar[str]
    container: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def recognise(self, file: Any) -> bool:
        """Whether the open file is of this layout, told by what is in it: names, shapes, metadata."""

    @abstractmethod
    def reader(self, source: Source, file: Any) -> Reader:
        """The reader of a file that was recognised; it closes `file` when it is closed.

        Raises
        ------
        RinoError
            If the file is of the layout but parts are missing or wrong.
        """

    def variant(self, options: str) -> Layout:
        """The layout that ``layout="NAME:OPTIONS"`` asks for; its `name` is all of that.

        Raises
        ------
        RinoError
            If there are no such options.
        """
        raise _unknown(f"{self.name}:{options}")


_LAYOUTS: dict[str, Layout] = {}


def register(layout: Layout, *, replace: bool = False) -> None:
    """Add a layout to those that files are recognised as; the last registered is asked first.

    Raises
    ------
    RinoError
        If the name is taken and `replace` is not set, or the container is not known.
    """
    if not isinstance(layout, Layout):
        raise RinoError(f"a layout is of type {type(layout).__name__}: give an instance of a subclass of Layout")
    if layout.container and layout.container not in CONTAINERS:
        raise RinoError(
            f"the layout {layout.name!r} has the container {layout.container!r}; known are {', '.join(CONTAINERS)}, "
            "and '' for one that opens the file itself"
        )
    if layout.name in _LAYOUTS and not replace:
        raise RinoError(f"there is a layout {layout.name!r} already: choose another name, or give replace=True")
    _LAYOUTS.pop(layout.name, None)
    _LAYOUTS[layout.name] = layout


def layouts() -> dict[str, Layout]:
    """All known layouts by name."""
    return dict(_LAYOUTS)


def layout_named(name: str) -> Layout:
    """A layout by its name, with options behind a colon where it has some.

    Raises
    ------
    RinoError
        If there is none, or it has no such options.
    """
    if not isinstance(name, str):
        raise _unknown(name)
    base, colon, options = name.partition(":")
    if name not in _LAYOUTS and colon and base in _LAYOUTS:
        return _LAYOUTS[base].variant(options)
    if name not in _LAYOUTS:
        raise _unknown(name)
    return _LAYOUTS[name]


def _unknown(name: object) -> RinoError:
    return RinoError(f"there is no layout {name!r}; known are {', '.join(_LAYOUTS)}")


def suffixes() -> tuple[str, ...]:
    """Suffixes of all known layouts."""
    return tuple(dict.fromkeys(suffix for layout in _LAYOUTS.values() for suffix in layout.suffixes))


@contextmanager
def open_file(source: Source, layout: str | None = None) -> Iterator[tuple[Layout, Reader]]:
    """Open a file, find out its layout, and give both; it is closed at the end.

    Parameters
    ----------
    layout
        Name of the layout to take, with its options; None: the one that recognises the content.

    Raises
    ------
    RinoError
        If the file is absent, empty, damaged, or of no known layout.
    """
    found, reader = open_reader(source, layout)
    with closing(reader):
        yield found, reader


def open_reader(source: Source, layout: str | None = None) -> tuple[Layout, Reader]:
    """As `open_file`; the caller closes the reader."""
    candidates = [*reversed(_LAYOUTS.values())] if layout is None else [layout_named(layout)]
    container = container_of(source)
    for candidate in candidates:
        if not candidate.container:
            file = source.open()
            try:
                with reading(source, candidate.name):
                    if layout is not None or candidate.recognise(file):
                        file.seek(0)
                        return candidate, candidate.reader(source, file)
            except BaseException:
                file.close()
                raise
            file.close()
    candidates = [other for other in candidates if container is not None and other.container == container.name]
    if container is None:
        raise RinoError(
            f"{source} cannot be recognised: it begins as no file of {', '.join(CONTAINERS)} does; it is damaged or of "
            "another kind: fetch or write it again, or register a layout for it"
        )
    if not candidates:
        wanted = f"the layout {layout!r}" if layout is not None else "every known layout"
        raise RinoError(
            f"{source} is {container.name}, which {wanted} is not; known are "
            f"{', '.join(map(_described, _LAYOUTS.values()))}"
        )
    with reading(source, container.name):
        file = container.open(source)
        try:
            for candidate in candidates:
                if layout is not None or candidate.recognise(file):
                    return candidate, candidate.reader(source, file)
            content = container.content(file)
        except BaseException:
            file.close()
            raise
        file.close()
    raise RinoError(
        f"{source} is {container.name} of no known layout: it has {content}: "
        f"known in {container.name} are {', '.join(other.name for other in candidates)}. "
        "Read it yourself and give the arrays to Jets, or register a layout of your own"
    )


def _described(layout: Layout) -> str:
    return f"{layout.name} ({layout.container})" if layout.container else layout.name


def layout_of(source: Source) -> Layout:
    """The layout of a file.

    Raises
    ------
    RinoError
        As `open_file`.
    """
    with open_file(source) as (layout, _):
        return layout
