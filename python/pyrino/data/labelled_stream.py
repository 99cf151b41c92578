"""A stream for training on labels: which of its classes are the signal, and jets that are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrino import _core
from pyrino.data.draw import Purpose, uniform
from pyrino.data.stream import JetStream
from pyrino.errors import RinoError
from pyrino.jets import Jets

__all__ = ["LabelledStream", "is_signal"]

#: Jets that are looked at at a time to find those that are set aside, and that are set aside at most.
_CHUNK, _MOST = 65_536, 1_000_000


def is_signal(labels: np.ndarray, signal: Sequence[int]) -> np.ndarray:
    """Labels 1 of signal and 0 of background, int64."""
    return np.isin(labels, np.asarray(list(signal))).astype(np.int64)


class LabelledStream(JetStream):
    """The jets of another stream, without those that are set aside, and with labels 0 and 1.

    Which jets are set aside depends on their momenta and the seed, so that it is the same ones in every pass.

    Parameters
    ----------
    stream
        What is read. Nobody else may use it.
    signal
        Class numbers that become label 1, the others 0; None: labels stay.
    share
        Of the jets that is set aside, 0 or more and below 1.
    seed
        Which ones.
    """

    def __init__(self, stream: JetStream, signal: Sequence[int] | None = None, share: float = 0.0, seed: int = 0):
        self.stream, self._signal, self._share = stream, None if signal is None else list(signal), share
        self._seed = seed
        self._kept = len(stream)

    def set_aside(self) -> Jets:
        """Read a pass, and keep in memory what is set aside; afterwards the stream is where it was.

        Raises
        ------
        RinoError
            If there is no such jet, or there are more than a million.
        """
        before, left, found, count = self.position, len(self.stream), [], 0
        self.stream._want_labels(True)
        while left > 0:
            jets = Jets._wrap(self.stream._take(min(_CHUNK, left)))
            left -= len(jets)
            found.append(self._labelled(jets[np.flatnonzero(self._held(jets))]))
            count += len(found[-1])
            if count > _MOST:
                raise RinoError(f"more than {_MOST} jets would be set aside: lower the share, or give validation=jets")
        if not 0 < count < len(self.stream):
            raise RinoError(f"{count} of {len(self.stream)} jets are set aside: choose another share")
        self.stream._go_back(before)
        self._kept = len(self.stream) - count
        return Jets.concatenate(found)

    def _held(self, jets: Jets) -> np.ndarray:
        """Which jets are set aside: by the bits of their first constituents' momenta."""
        first = np.asarray(jets.offsets[:-1])
        e, px = (np.ascontiguousarray(column[first]).view(np.int64) for column in (jets.e, jets.px))
        return uniform(self._seed, Purpose.ASIDE, e, px) < self._share

    def _labelled(self, jets: Jets) -> Jets:
        if self._signal is None or jets.labels is None:
            return jets
        return jets.with_labels(is_signal(jets.labels, self._signal))

    def __len__(self) -> int:
        return self._kept

    def __repr__(self) -> str:
        return repr(self.stream)

    @property
    def position(self) -> tuple[int, ...]:
        return self.stream.position

    def seek(self, position: Sequence[int]) -> None:
        self.stream.seek(position)

    @property
    def label_meaning(self) -> str | None:
        return self.stream.label_meaning

    @property
    def share(self) -> tuple[int, int] | None:
        return self.stream.share

    def close(self) -> None:
        self.stream.close()

    def left_out(self) -> str:
        return self.stream.left_out()

    def _want_columns(self, columns: Sequence[str]) -> None:
        self.stream._want_columns(columns)

    def _want_labels(self, wanted: bool) -> None:
        self.stream._want_labels(wanted)

    def _go_back(self, position: Sequence[int]) -> None:
        self.stream._go_back(position)

    def _seek_others(self, positions: Sequence[Sequence[int]]) -> None:
        self.stream._seek_others(positions)

    def _take(self, count: int) -> _core.Jets:
        parts: list[Jets] = []
        while count > 0:
            jets = Jets._wrap(self.stream._take(count))
            if self._share > 0:
                jets = jets[np.flatnonzero(~self._held(jets))]
            parts.append(self._labelled(jets))
            count -= len(jets)
        return (parts[0] if len(parts) == 1 else Jets.concatenate(parts))._core

    def _fingerprint(self) -> list[int]:
        chosen: list[Any] = [-1] if self._signal is None else sorted(self._signal)
        return [*self.stream._fingerprint(), *chosen, round(self._share * 1e9), self._seed]
