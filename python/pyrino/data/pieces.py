"""Pieces of files: how they are shared out, grouped and read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pyrino.data.layout import Layout, Reader, open_reader
from pyrino.data.source import Source

__all__ = ["Piece", "Readers", "share", "windows"]

#: Files that are kept open, so that the next piece of one need not find its way around in it again.
_OPEN_FILES = 64

#: Bytes that files which are open and not in use may keep in memory together.
_KEPT_BYTES = 256 * 2**20


class Piece(NamedTuple):
    """Jets `first` to `last` - 1 of file number `file`."""

    file: int
    first: int
    last: int

    @property
    def jets(self) -> int:
        """Their number."""
        return self.last - self.first


def share(pieces: Sequence[Piece], rank: int, ranks: int) -> list[Piece]:
    """A rank's part of the pieces: consecutive ones, and equally many jets as all others' up to one."""
    total = sum(piece.jets for piece in pieces)
    begin, end = (total * r // ranks for r in (rank, rank + 1))
    mine = []
    passed = 0
    for piece in pieces:
        low, high = max(begin - passed, 0), min(end - passed, piece.jets)
        if low < high:
            mine.append(Piece(piece.file, piece.first + low, piece.first + high))
        passed += piece.jets
    return mine


def windows(pieces: Sequence[Piece], jets: int) -> list[list[Piece]]:
    """Consecutive pieces in groups of about equally many jets, `jets` or less where pieces are small enough."""
    groups: list[list[Piece]] = []
    filled = jets
    for piece in pieces:
        if filled + piece.jets > jets:
            groups.append([])
            filled = 0
        groups[-1].append(piece)
        filled += piece.jets
    return groups


class Readers:
    """Open files for several threads: a reader is with one thread at a time, and stays open for a while after."""

    def __init__(self, layout: str | None) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._idle: OrderedDict[Source, tuple[Layout, Reader]] = OrderedDict()
        self._closed = False

    @contextmanager
    def use(self, source: Source) -> Iterator[tuple[Layout, Reader]]:
        """A reader of the file. It is closed if an error is raised meanwhile, since it may be the reader's fault."""
        with self._lock:
            found = self._idle.pop(source, None)
        layout, reader = found or open_reader(source, self._layout)
        try:
            yield layout, reader
        except BaseException:
            reader.close()
            raise
        with self._lock:
            spare = [self._idle.pop(source, None)]  # another thread's, put back meanwhile
            self._idle[source] = (layout, reader)
            while self._idle and (self._closed or len(self._idle) > _OPEN_FILES):
                spare.append(self._idle.popitem(last=False)[1])
            kept = sum(idle.kept for _, idle in self._idle.values())
            for _, idle in self._idle.values():
                if kept > _KEPT_BYTES:
                    kept -= idle.kept
                    idle.forget()
        for entry in spare:
            if entry is not None:
                entry[1].close()

    def close(self) -> None:
        """Close all files, those in use as soon as they are not."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, OrderedDict()
        for _, reader in idle.values():
            reader.close()
