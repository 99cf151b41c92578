"""Pieces of files: how they are shared out, grouped and read."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyrino.data.layout import Layout, Reader, open_reader
from pyrino.data.source import Source

__all__ = ["Part", "Piece", "Readers", "interleaved", "parts_of", "share", "windows"]

#: Files that are kept open, so that the next piece of one need not find its way around in it again.
_OPEN_FILES = 64

#: Bytes that files which are open and not in use may keep in memory together.
_KEPT_BYTES = 256 * 2**20


#: Pieces for each rank below which all ranks share all of them.
_FEW = 64


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
    """A rank's part of the pieces: equally many jets as all others' up to one.

    Of many pieces a rank has consecutive ones. Of few it has a part of each, so that every rank meets every file and
    cuts leave all ranks alike; each then decompresses all of them.
    """
    total = sum(piece.jets for piece in pieces)
    mine = []
    passed = 0
    if len(pieces) < _FEW * ranks:
        for piece in pieces:
            # Whose turn it is for the jets that are left over goes round, piece after piece.
            shares = [piece.jets // ranks + int((r - passed) % ranks < piece.jets % ranks) for r in range(ranks)]
            first = piece.first + sum(shares[:rank])
            if shares[rank]:
                mine.append(Piece(piece.file, first, first + shares[rank]))
            passed += piece.jets % ranks
        return mine
    begin, end = (total // ranks * r + min(r, total % ranks) for r in (rank, rank + 1))
    for piece in pieces:
        low, high = max(begin - passed, 0), min(end - passed, piece.jets)
        if low < high:
            mine.append(Piece(piece.file, piece.first + low, piece.first + high))
        passed += piece.jets
    return mine


class Part(NamedTuple):
    """Part `number` of `parts` equal ones of a piece, of its jets in some random order."""

    piece: Piece
    number: int
    parts: int

    def bounds(self, jets: int) -> tuple[int, int]:
        """Which of the piece's `jets` jets it has: from the first number to below the second."""
        return jets * self.number // self.parts, jets * (self.number + 1) // self.parts

    @property
    def jets(self) -> int:
        """Their number."""
        first, last = self.bounds(self.piece.jets)
        return last - first


def parts_of(piece: Piece, jets: int) -> int:
    """In how many parts of about `jets` jets a piece is taken."""
    return max(round(piece.jets / jets), 1)


def interleaved(
    pieces: Sequence[Piece], jets: int, room: int, draws: Callable[[int], NDArray[np.float64]]
) -> list[Part]:
    """Pieces in parts of about `jets` jets that take turns at random.

    Pieces come into play in their order, as many at a time as have `room` jets together and at least two: a container's
    piece is read once, as a whole, and must wait in memory for its last part.

    Parameters
    ----------
    draws
        Gives so many random numbers in [0, 1).
    """
    numbers = [parts_of(piece, jets) for piece in pieces]
    waiting = deque(zip(pieces, numbers, strict=True))
    active: list[Part] = []
    parts: list[Part] = []
    held = 0
    for draw in draws(sum(numbers)):
        while waiting and (len(active) < 2 or held + waiting[0][0].jets <= room):
            piece, number = waiting.popleft()
            active.append(Part(piece, 0, number))
            held += piece.jets
        i = int(draw * len(active))
        part = active[i]
        parts.append(part)
        if part.number + 1 < part.parts:
            active[i] = part._replace(number=part.number + 1)
        else:
            active[i] = active[-1]
            active.pop()
            held -= part.piece.jets
    return parts


def windows(parts: Sequence[Part], jets: int) -> list[list[Part]]:
    """Consecutive parts in groups of about equally many jets, `jets` or less where parts are small enough."""
    groups: list[list[Part]] = []
    filled = jets
    for part in parts:
        if filled + part.jets > jets:
            groups.append([])
            filled = 0
        groups[-1].append(part)
        filled += part.jets
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
