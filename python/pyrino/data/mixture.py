"""`Mixture`: jets of several streams, drawn with weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pyrino import _core
from pyrino.data.draw import Purpose, uniform
from pyrino.data.selection import Tally
from pyrino.data.source import Source
from pyrino.data.stream import JetStream, check_whole, whole_numbers
from pyrino.errors import RinoError
from pyrino.jets import Jets

__all__ = ["Mixture"]


class Mixture(JetStream):
    """Every jet comes from one of several streams, drawn with the streams' weights; small ones begin anew earlier.

    Parameters
    ----------
    streams : sequence of JetStream
        Two or more.
    weights : sequence of float
        Share of the jets that each gives, above 0; their sum is made 1.
    seed : int
        Of the draws.

    Raises
    ------
    RinoError
        For fewer than two streams, or weights that do not fit.
    """

    def __init__(self, streams: Sequence[JetStream], weights: Sequence[float], seed: int = 0) -> None:
        check_whole(seed=(seed, 0))
        self.streams = tuple(streams)
        try:
            shares = np.asarray(weights, dtype=np.float64)
        except (TypeError, ValueError):
            raise RinoError(f"weights = {weights!r}: give a number for each stream") from None
        if len(self.streams) < 2 or shares.shape != (len(self.streams),):
            raise RinoError(f"{len(self.streams)} streams and {shares.size} weights: give two or more and one for each")
        if not (np.isfinite(shares).all() and (shares > 0).all()):
            raise RinoError(f"weights = {shares.tolist()}: give numbers above 0")
        meanings = list(dict.fromkeys(stream.label_meaning for stream in self.streams))
        if len(meanings) > 1:
            raise RinoError(
                f"the labels of the streams to mix are {' and '.join(str(m or 'absent') for m in meanings)}: leave "
                "labels out with labelled=False"
            )
        ranks = list(dict.fromkeys(stream.share for stream in self.streams if stream.share is not None))
        if len(ranks) > 1:
            raise RinoError(
                f"the streams to mix are the shares {' and '.join(f'{r} of {n}' for r, n in ranks)} of the ranks: open "
                "all of them with the same rank and world_size"
            )
        self._share = ranks[0] if ranks else None
        self.weights = shares / shares.sum()
        self._seed = seed
        self._drawn = 0

    def __len__(self) -> int:
        """Jets of an epoch: as many as the streams have together, of which a rank has its share."""
        rank, ranks = self._share or (0, 1)
        total = self._total()
        return total // ranks + int(rank < total % ranks)

    def _total(self) -> int:
        return sum(stream._total() for stream in self.streams)

    def __repr__(self) -> str:
        parts = ", ".join(f"{w:.3g} of {s!r}" for w, s in zip(self.weights, self.streams, strict=True))
        return f"Mixture({parts})"

    @property
    def label_meaning(self) -> str | None:
        """As `Dataset.label_meaning`."""
        return self.streams[0].label_meaning

    def close(self) -> None:
        """Close all streams."""
        for stream in self.streams:
            stream.close()

    def batches(self, batch_size: int) -> Iterator[Jets]:
        """The jets of an epoch from where the stream stands; the last batch may be smaller.

        Raises
        ------
        RinoError
            As `take`.
        """
        check_whole(batch_size=(batch_size, 1))
        left = len(self)
        while left > 0:
            jets = self.take(min(batch_size, left))
            left -= len(jets)
            yield jets

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files of all streams."""
        return tuple(source for stream in self.streams for source in getattr(stream, "sources", ()))

    @property
    def layouts(self) -> dict[str, str]:
        """Name of each file's layout, by the file's name."""
        return {name: kind for stream in self.streams for name, kind in getattr(stream, "layouts", {}).items()}

    @property
    def report(self) -> Tally:
        """The streams' reports of their passes, added up."""
        total = Tally()
        for stream in self.streams:
            total.add(getattr(stream, "report", Tally()))
        return total

    def left_out(self) -> str:
        """As `Dataset.left_out`, of all streams."""
        return "; ".join(said for said in (stream.left_out() for stream in self.streams) if said)

    @property
    def share(self) -> tuple[int, int] | None:
        """(rank, world_size) of the streams."""
        return self._share

    @property
    def position(self) -> tuple[int, ...]:
        """(jets drawn, number of entries of the first stream's position, these, and so on)."""
        numbers = [self._drawn]
        for stream in self.streams:
            place = stream.position
            numbers += [len(place), *place]
        return tuple(numbers)

    def seek(self, position: Sequence[int]) -> None:
        """Go to a position that the same mixture had."""
        drawn, places = self._parsed(position)
        before = self.position
        try:
            for stream, place in zip(self.streams, places, strict=True):
                stream.seek(place)
        except RinoError:
            self._go_back(before)
            raise
        self._drawn = drawn

    def _seek_others(self, positions: Sequence[Sequence[int]]) -> None:
        """As `Dataset._seek_others`, each stream for itself; the draws go on behind those of all ranks together."""
        parsed = [self._parsed(position) for position in positions]
        before = self.position
        try:
            for number, stream in enumerate(self.streams):
                stream._seek_others([places[number] for _, places in parsed])
        except RinoError:
            self._go_back(before)
            raise
        self._drawn = sum(drawn for drawn, _ in parsed) // (self._share or (0, 1))[1]

    def _parsed(self, position: Sequence[int]) -> tuple[int, list[list[int]]]:
        """What a position says: the jets drawn, and each stream's own position."""
        numbers = whole_numbers(position)
        if not numbers:
            raise RinoError(f"there is no position {position!r} in {self!r}: give one that such a Mixture had")
        places = []
        rest = numbers[1:]
        while rest and 0 < rest[0] < len(rest):
            places.append(rest[1 : 1 + rest[0]])
            rest = rest[1 + rest[0] :]
        if rest or len(places) != len(self.streams) or numbers[0] < 0:
            raise RinoError(f"there is no position {tuple(position)} in {self!r}: give one that such a Mixture had")
        return numbers[0], places

    def _go_back(self, position: Sequence[int]) -> None:
        self._drawn, *rest = position
        for stream in self.streams:
            length, rest = rest[0], rest[1:]
            stream._go_back(rest[:length])
            rest = rest[length:]

    def _want_labels(self, wanted: bool) -> None:
        for stream in self.streams:
            stream._want_labels(wanted)

    def _want_columns(self, columns: Sequence[str]) -> None:
        for stream in self.streams:
            stream._want_columns(columns)

    def _take(self, count: int) -> _core.Jets:
        # All ranks together draw what one alone would: each has every world_size-th number.
        rank, ranks = self._share or (0, 1)
        draws = uniform(self._seed, Purpose.MIXTURE, np.arange(self._drawn, self._drawn + count) * ranks + rank)
        chosen = np.minimum(np.searchsorted(np.cumsum(self.weights), draws, side="right"), len(self.streams) - 1)
        numbers = np.bincount(chosen, minlength=len(self.streams))
        parts = [stream._take(int(n)) for stream, n in zip(self.streams, numbers, strict=True) if n]
        self._drawn += count
        places = np.empty(count, dtype=np.int64)
        places[np.argsort(chosen, kind="stable")] = np.arange(count)
        return _core.Jets.concatenate(parts).select(places)

    def _fingerprint(self) -> list[int]:
        numbers = [self._seed, *(int(w * 2**53) for w in self.weights)]
        for stream in self.streams:
            numbers += stream._fingerprint()
        return numbers
