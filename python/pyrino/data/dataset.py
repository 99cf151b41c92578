"""`Dataset`: jets of many files in a seeded random order, in bounded memory, at a position that can be kept."""

from __future__ import annotations

import hashlib
import logging
import warnings
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino.data.chunk import chosen, need
from pyrino.data.draw import Purpose, order, uniform
from pyrino.data.jetclass import MOMENTA
from pyrino.data.pieces import Part, Piece, Readers, interleaved, parts_of, share, windows
from pyrino.data.read import LabelRule
from pyrino.data.selection import Selection, Tally, checked_policy, piece_of, read_piece
from pyrino.data.source import Source
from pyrino.data.stream import JetStream, check_whole, whole_numbers
from pyrino.errors import RinoError, RinoWarning, level_of_caller
from pyrino.jets import Jets

__all__ = ["Dataset"]

_LOG = logging.getLogger("pyrino")

#: Parts of a window: the more, the more files meet in it.
_PARTS_A_WINDOW = 16

#: Jets, in windows, of the pieces of files that take turns. Files with pieces of 100,000 jets (row groups, baskets,
#: compressed arrays) meet six at a time in windows of 131,072.
_WINDOWS_HELD = 5


@dataclass
class _Window:
    """Jets in memory, and the order in which they leave it."""

    pool: _core.JetPool
    picks: NDArray[np.int64]


@dataclass
class _Read:
    """What was read of a piece of a file; no jets where the file was skipped."""

    file: int
    tally: Tally
    piece: _core.JetPiece | None = None
    order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Dataset(JetStream):
    """Jets of many files as an endless stream in a seeded random order; made by `open_dataset`.

    A pass visits every jet once. The files are cut into pieces (where their containers have pieces), the pieces of all
    files are put into a random order, several of them take turns to give some of their jets, drawn at random, to a
    window of about `window` jets, and the jets of a window leave it in a random order. Every pass has another order. It
    depends on the seed, the files and the window alone: neither threads nor interruptions change it.

    A piece is read once a pass. In memory, in the files' precision, are the pieces that have given jets and still have
    some: two windows' worth where the containers' own pieces are small, up to seven where they are large.

    Attributes
    ----------
    sources : tuple of Source
        The files.
    layouts : dict
        Name of each file's layout, by the file's name.
    report : Tally
        What was taken and left out in this pass, window by window as they are read. When a pass ends in which
        something broken was skipped, it is a `RinoWarning`, too.

    Examples
    --------
    >>> dataset = rino.open_dataset("JetClass/train_100M/*.root", pt=(500, 1000), hardest=128)
    >>> run = rino.pretrain("base", dataset, out="runs/base")
    >>> for jets in dataset.batches(1000): ...
    """

    def __init__(
        self,
        sources: Sequence[Source],
        selection: Selection,
        *,
        layout: str | None = None,
        on_error: str = "raise",
        seed: int = 0,
        window: int = 131072,
        threads: int = 2,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_whole(
            seed=(seed, 0), window=(window, 1), threads=(threads, 1), rank=(rank, 0), world_size=(world_size, 1)
        )
        if rank >= world_size:
            raise RinoError(f"rank = {rank} of world_size = {world_size}; ranks count from 0")
        self._selection, self._on_error = selection, checked_policy(on_error)
        self._labelled = selection.labelled
        self._seed, self._window, self._rank, self._world_size = map(int, (seed, window, rank, world_size))
        self._left_out: dict[str, str] = {}  # files that cannot be used at all, and why
        self._looks: dict[str, object] = {}  # `Tally.looks` of all pieces
        # Of the report: its pass, the pieces of it that are counted, the files of which something was read.
        self._counted: tuple[int, set[Piece], set[int]] = (-1, set(), set())
        self._rule = LabelRule()
        self._readers = Readers(layout)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pyrino-reader")
        # Reading ahead must not outlive the stream.
        self._end = weakref.finalize(self, _end, self._threads, self._readers)
        self._pass = self._number = self._offset = 0
        self._current: _Window | None = None
        self._held: dict[tuple[int, Piece], Future[_Read]] = {}  # by pass: read, or being read
        self._plans: dict[int, tuple[list[list[Part]], dict[Piece, int]]] = {}
        try:
            self._index(sources)
        except BaseException:
            self.close()
            raise

    def _index(self, sources: Sequence[Source]) -> None:
        """Opens every file once: its layout, its jets, where reading can begin."""
        rows = self._rows

        def look(source: Source) -> tuple[str, list[tuple[int, int]], str | None, dict[str, str]] | RinoError:
            try:
                with self._readers.use(source) as (layout, reader):
                    columns = chosen(self._selection.columns, reader.columns)
                    need(source, columns, (*reader.columns, *MOMENTA), "columns", reader.unfit)
                    meaning = reader.label_meaning() if self._selection.labelled else None
                    return layout.name, reader.spans(rows, 2 * self._window), meaning, reader.columns
            except RinoError as error:
                return error

        self.layouts: dict[str, str] = {}
        self._kinds: dict[tuple[tuple[str, str], ...], Source] = {}  # columns with their kinds, and a file with them
        self._pieces: list[Piece] = []
        files: list[Source] = []
        for source, found in zip(sources, self._threads.map(look, sources), strict=True):
            try:
                if isinstance(found, RinoError):
                    raise found
                layout, spans, meaning, kinds = found
                self._rule.check(source, meaning)
                self._rule.check_columns(source, chosen(self._selection.columns, kinds), kinds)
            except RinoError as error:
                if self._on_error == "raise":
                    raise
                self._left_out[str(source)] = str(error)
                continue
            self.layouts[str(source)] = layout
            self._kinds.setdefault(tuple(kinds.items()), source)
            self._pieces += [Piece(len(files), first, last) for first, last in spans]
            files.append(source)
        self.sources = tuple(files)
        self.report = Tally(skipped=dict(self._left_out))
        if not self._pieces:
            self.report.without = [str(source) for source in files]
            raise RinoError(f"no {'jet' if files else 'file'} is left: {self.report}: check the files")

    # --- what it is ---

    def __len__(self) -> int:
        """Jets of an epoch: those in the files times `fraction`, of which a rank has its share.

        Other cuts and what is skipped make a pass shorter; the stream goes on with the next one, and an epoch stays.
        """
        total = self._total()
        return total // self._world_size + int(self._rank < total % self._world_size)

    def _total(self) -> int:
        return round(sum(piece.jets for piece in self._pieces) * self._selection.fraction)

    def __repr__(self) -> str:
        names = list(self.layouts.values())
        files = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
        rank = f", rank {self._rank} of {self._world_size}" if self._world_size > 1 else ""
        rank += f", files skipped: {len(self._left_out)}" if self._left_out else ""
        return f"Dataset({len(self)} jets, files: {files}, window: {self._window}, at {self.position}{rank})"

    def left_out(self) -> str:
        """What was skipped since the beginning of the pass because it is broken, in words; "" for nothing."""
        return "" if self.report.complete else str(self.report)

    def close(self) -> None:
        """Let go of files and threads; the stream cannot be used afterwards."""
        self._forget()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._end()

    def __enter__(self) -> Dataset:
        return self

    # --- position ---

    @property
    def label_meaning(self) -> str | None:
        """What labels mean, None without."""
        return self._rule.meaning

    @property
    def share(self) -> tuple[int, int]:
        """(rank, world_size)."""
        return self._rank, self._world_size

    @property
    def position(self) -> tuple[int, int, int]:
        """(pass, window, jets taken of the window)."""
        return self._pass, self._number, self._offset

    def seek(self, position: Sequence[int]) -> None:
        """Go to a position that the same files, selection, seed and window had."""
        numbers = whole_numbers(position)
        if len(numbers) != 3 or min(numbers) < 0 or numbers[1] > max(len(self._windows(numbers[0])) - 1, 0):
            raise RinoError(f"there is no position {position!r} in {self!r}: give one that such a Dataset had")
        before = self.position
        self._go_back(numbers)
        try:
            if numbers[2] > 0 and numbers[2] > len(self._load().picks):
                raise RinoError(
                    f"there is no position {tuple(numbers)} in the files: its window has {len(self._load().picks)} "
                    "jets; the files or the selection have changed"
                )
        except RinoError:
            self._go_back(before)
            raise

    def _seek_others(self, positions: Sequence[Sequence[int]]) -> None:
        """Go on where a run on another number of ranks stood.

        Each rank has other windows then, so that no place is the same one: the stream goes to the place in this rank's
        windows behind which the same share of the pass is left as those ranks had left on average. Jets near it may
        come twice or not at all in this pass; the next one has every jet once.
        """
        self._want_labels(False)
        stood = [self._checked(position, rank, len(positions)) for rank, position in enumerate(positions)]

        def passes_done(kept: float) -> float:
            return sum(self._passes_done(rank, stood, kept) for rank in range(len(stood))) / len(stood)

        before = self.position
        done = passes_done(1.0)
        try:
            kept = self._go_behind(done)
            if 0 < kept < 1:  # how many jets of a window the cuts leave is known once one was read
                done = passes_done(kept)
                self._go_behind(done)
        except RinoError:
            self._go_back(before)
            raise
        _LOG.info(
            "%d ranks were %.1f%% through pass %d; rank %d of %d goes on there: jets near that place may come twice or "
            "not at all in this pass",
            *(len(stood), 100 * (done % 1), int(done), self._rank, self._world_size),
        )

    def _checked(self, position: Sequence[int], rank: int, ranks: int) -> list[int]:
        """The position of any rank, if there is one."""
        numbers = whole_numbers(position)
        sound = len(numbers) == 3 and min(numbers) >= 0
        if not sound or numbers[1] > max(len(self._planned(numbers[0], rank, ranks)) - 1, 0):
            raise RinoError(
                f"there is no position {position!r} of rank {rank} of {ranks} in {self!r}: give one that such a "
                "Dataset had"
            )
        return numbers

    def _passes_done(self, rank: int, positions: Sequence[Sequence[int]], kept: float) -> float:
        """How many passes a rank of as many as there are positions had done, where cuts keep this share of the jets."""
        running, number, offset = positions[rank]
        sizes = [sum(part.jets for part in group) for group in self._planned(running, rank, len(positions))]
        if not sizes:
            return float(running)
        return running + (sum(sizes[:number]) + min(offset / kept, sizes[number])) / sum(sizes)

    def _go_behind(self, passes: float) -> float:
        """Go to the place behind which so many passes are done; what share of the window there the cuts have kept."""
        running = int(passes)
        sizes = [sum(part.jets for part in group) for group in self._windows(running)]
        if not sizes:
            self._go_back((running, 0, 0))
            return 1.0
        ends = np.cumsum(sizes)
        place = (passes - running) * ends[-1]
        number = min(int(np.searchsorted(ends, place, side="right")), len(sizes) - 1)
        self._go_back((running, number, 0))
        inside = place - (ends[number] - sizes[number])
        if inside <= 0:  # nothing need be read
            return 1.0
        picks = len(self._load().picks)
        self._offset = min(round(inside / sizes[number] * picks), picks)
        return picks / sizes[number]

    def _go_back(self, position: Sequence[int]) -> None:
        numbers = list(position)
        if (numbers[0], numbers[1]) != (self._pass, self._number):
            self._current = None
            self._forget()
        self._pass, self._number, self._offset = numbers

    # --- jets ---

    def batches(self, batch_size: int) -> Iterator[Jets]:
        """The jets from where the stream stands to the end of the pass; the last batch may be smaller.

        Raises
        ------
        RinoError
            As `take`.
        """
        check_whole(batch_size=(batch_size, 1))
        self._want_labels(True)
        running, whole = self._pass, self.position[1:] == (0, 0)
        while self._pass == running:
            parts = self._parts(batch_size)
            if parts:
                whole = False
                yield Jets._wrap(_joined(parts))
            elif whole:
                raise self._nothing()

    def _want_labels(self, wanted: bool) -> None:
        labelled = wanted and self._selection.labelled
        if labelled != self._labelled:
            self._labelled, self._current = labelled, None
            self._forget()

    def _want_columns(self, columns: Sequence[str]) -> None:
        more = [column for column in columns if not set(column.split("|")) & set(self._selection.columns)]
        if more:
            for kinds, source in self._kinds.items() if self._on_error == "raise" else ():
                need(source, chosen(more, dict(kinds)), (*dict(kinds), *MOMENTA), "columns")
            self._selection = replace(self._selection, columns=(*self._selection.columns, *more))
            self._current = None
            self._forget()

    def _take(self, count: int) -> _core.Jets:
        parts: list[_core.Jets] = []
        while count > 0:
            begun = self.position[1:] == (0, 0)
            more = self._parts(count)
            if not more and begun:
                raise self._nothing()
            parts += more
            count -= sum(map(len, more))
        return _joined(parts)

    def _parts(self, count: int) -> list[_core.Jets]:
        """The next `count` jets of this pass, or as many as it has left."""
        parts: list[_core.Jets] = []
        running = self._pass
        while count > 0 and self._pass == running:
            window = self._load()
            picks = window.picks[self._offset : self._offset + count]
            if picks.size:
                parts.append(window.pool.gather(picks))
                count -= len(picks)
                self._offset += len(picks)
            if self._offset == len(window.picks):
                self._advance()
        return parts

    def _nothing(self) -> RinoError:
        if not self._windows(self._pass):
            return RinoError(f"rank {self._rank} has no jets: there are fewer jets than ranks ({self._world_size})")
        share = "" if self._world_size == 1 else f" in the share of rank {self._rank} of {self._world_size}"
        return RinoError(
            f"a whole pass over the files has no jet that is wanted{share}: {self.report}: check the selection"
        )

    def _advance(self) -> None:
        """On to the next window."""
        self._current = None
        self._pass, self._number = self._after(self._pass, self._number)
        self._offset = 0
        if self._number == 0 and not self.report.complete:
            who = "a pass" if self._world_size == 1 else f"a pass of rank {self._rank}"
            warnings.warn(f"{who} left out what is broken: {self.report}", RinoWarning, stacklevel=level_of_caller())

    def _after(self, running: int, number: int) -> tuple[int, int]:
        return (running, number + 1) if number + 1 < len(self._windows(running)) else (running + 1, 0)

    # --- windows ---

    @property
    def _rows(self) -> int:
        """Jets of a part of a window."""
        return max(self._window // _PARTS_A_WINDOW, 1)

    def _plan(self, running: int) -> tuple[list[list[Part]], dict[Piece, int]]:
        """This rank's windows of a pass, and the last one of each piece."""
        if running not in self._plans:
            groups = self._planned(running, self._rank, self._world_size)
            last = {part.piece: number for number, group in enumerate(groups) for part in group}
            self._plans = {other: plan for other, plan in self._plans.items() if abs(other - running) <= 1}
            self._plans[running] = (groups, last)
        return self._plans[running]

    def _planned(self, running: int, rank: int, ranks: int) -> list[list[Part]]:
        """Any rank's windows of a pass."""
        shuffled = [self._pieces[i] for i in order(len(self._pieces), self._seed, Purpose.PIECES, running)]
        parts = interleaved(
            share(shuffled, rank, ranks),
            self._rows,
            _WINDOWS_HELD * self._window,
            lambda count: uniform(self._seed, Purpose.TURNS, running, np.arange(count)),
        )
        return windows(parts, self._window)

    def _windows(self, running: int) -> list[list[Part]]:
        return self._plan(running)[0]

    def _load(self) -> _Window:
        """The window where the stream stands; when it is there, the next one is being read."""
        if not self._end.alive:
            raise RinoError(f"{self!r} was closed: open it again")
        if self._current is not None:
            return self._current
        here = (self._pass, self._number)
        groups, last = self._plan(self._pass)
        parts = groups[self._number] if groups else []
        self._request(here)
        pieces = list(dict.fromkeys(part.piece for part in parts))
        try:
            reads = {piece: self._held[self._pass, piece].result() for piece in pieces}
        except BaseException:
            self._forget()
            raise
        self._count(reads)
        pool = _core.JetPool()
        begin: dict[Piece, int] = {}
        for piece, read in reads.items():
            begin[piece] = len(pool)
            if read.piece is not None and read.order.size:
                pool.add(read.piece)
        found = [np.empty(0, np.int64)]
        for part in parts:
            jets = reads[part.piece].order
            first, end = part.bounds(len(jets))
            found.append(begin[part.piece] + jets[first:end])
        picks = np.concatenate(found)
        self._current = _Window(pool, picks[order(len(picks), self._seed, Purpose.WINDOW, *here)])
        for piece in pieces:
            if last[piece] == self._number:
                del self._held[self._pass, piece]
        self._request(self._after(*here))
        return self._current

    def _count(self, reads: dict[Piece, _Read]) -> None:
        """What pieces add to the report of the pass, once."""
        if self._counted[0] != self._pass:
            self.report = Tally(skipped=dict(self._left_out))
            self._counted = (self._pass, set(), set())
        _, counted, files = self._counted
        for piece, read in reads.items():
            if piece in counted:
                continue
            counted.add(piece)
            self.report.add(read.tally)
            if read.file not in files and read.piece is not None:
                files.add(read.file)
                layout = self.layouts[str(self.sources[read.file])]
                self.report.add(Tally(files=1, layouts={layout: 1}))

    def _request(self, place: tuple[int, int]) -> None:
        """Begin to read what a window needs and is not there."""
        groups = self._windows(place[0])
        for part in groups[place[1]] if groups else ():
            key = (place[0], part.piece)
            if key not in self._held:
                self._held[key] = self._threads.submit(self._read, *key)

    def _forget(self) -> None:
        """Drop what was read ahead."""
        for future in self._held.values():
            future.cancel()
        self._held.clear()

    def _read(self, running: int, piece: Piece) -> _Read:
        source = self.sources[piece.file]
        tally = Tally(looks=self._looks)
        selection = replace(self._selection, labelled=self._labelled)
        try:
            with self._readers.use(source) as (_, reader):
                columns = chosen(selection.columns, reader.columns)
                chunk, entries = read_piece(reader, piece.first, piece.last, columns)
            if len(entries) != piece.jets:
                raise RinoError(
                    f"{source} has changed since it was opened: it has {len(entries)} jets where it had "
                    f"{piece.jets}: open the data set again"
                )
            if selection.labelled:
                self._rule.check(source, None if chunk.labels is None else chunk.labels.meaning)
            chunk, entries = selection.take(source, chunk, entries, tally, self._on_error)
            places = np.arange(len(entries))
            if parts_of(piece, self._rows) > 1:  # else all of them are in one window, which has an order of its own
                places = order(len(entries), self._seed, Purpose.JETS, running, piece.file, piece.first)
            return _Read(piece.file, tally, piece_of(chunk, entries, str(source)), places)
        except RinoError as error:
            if self._on_error == "raise":
                raise
            tally.skip(str(source), str(error))
            return _Read(piece.file, tally)

    def _fingerprint(self) -> list[int]:
        files = [source.name for source in self.sources]
        said: tuple[object, ...] = (files, self._pieces, self._selection, self._seed, self._window)
        if self._selection.scale != 1.0:
            said = (*said, self._selection.scale)
        digest = hashlib.blake2b(repr(said).encode(), digest_size=8).digest()
        return [self._total(), int.from_bytes(digest, "little", signed=True)]


def _joined(parts: list[_core.Jets]) -> _core.Jets:
    return parts[0] if len(parts) == 1 else _core.Jets.concatenate(parts)


def _end(threads: ThreadPoolExecutor, readers: Readers) -> None:
    # Not waited for: the last to let go of the stream may be one of these threads.
    threads.shutdown(wait=False, cancel_futures=True)
    readers.close()
