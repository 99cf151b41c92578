"""What streams of jets have in common: what a trainer asks of them, and checks of their arguments."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from pyrino import _core
from pyrino.errors import RinoError, unpicklable
from pyrino.jets import Jets

__all__ = ["JetStream", "check_whole", "whole_numbers"]


class JetStream(ABC):
    """An endless stream of jets at a position that can be kept. One thread uses it at a time.

    `Trainer` and `pretrain` take any subclass.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Jets of an epoch, by which the length of a training run is counted."""

    @property
    @abstractmethod
    def position(self) -> tuple[int, ...]:
        """Where the stream stands, for `seek`."""

    @abstractmethod
    def seek(self, position: Sequence[int]) -> None:
        """Go to where a stream of the same jets stood.

        Raises
        ------
        RinoError
            If there is no such position.
        """

    def take(self, count: int) -> Jets:
        """The next `count` jets.

        Raises
        ------
        RinoError
            For a broken file or jet, unless such are skipped; if there is no jet that is wanted.
        """
        check_whole(count=(count, 1))
        self._want_labels(True)
        return Jets._wrap(self._take_or_go_back(count)[0])

    @property
    def label_meaning(self) -> str | None:
        """What labels mean, None without: streams of different labels are not mixed."""
        return None

    def close(self) -> None:
        """Let go of files and threads; the stream cannot be used afterwards."""
        return

    def __enter__(self) -> JetStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def left_out(self) -> str:
        """What was skipped since the beginning of the pass because it is broken, in words; "" for nothing."""
        return ""

    def _want_columns(self, columns: Sequence[str]) -> None:
        """Read these columns, too, of which "a|b" is the first that a file has; a stream that cannot has them already.

        Raises
        ------
        RinoError
            If a file has none of them.
        """
        return

    @property
    def share(self) -> tuple[int, int] | None:
        """(rank, world_size) that the stream was opened with: its jets are that rank's share. None: it does not say."""
        return None

    def state_dict(self) -> dict[str, list[int]]:
        """Where the stream stands and whose position that is, for `load_state_dict`: numbers that JSON has."""
        return {"position": list(self.position), "fingerprint": [*self._fingerprint(), *(self.share or ())]}

    def load_state_dict(self, state: Mapping[str, Sequence[int]]) -> None:
        """Go to where `state_dict` was taken.

        Raises
        ------
        RinoError
            If it was taken of other files or another order of them, another selection, seed, window or rank.
        """
        if not isinstance(state, Mapping) or not {"position", "fingerprint"} <= set(state):
            raise RinoError("this is no state of a stream: give what state_dict returned")
        if list(state["fingerprint"]) != self.state_dict()["fingerprint"]:
            raise RinoError(
                f"the state is that of another stream than {self!r}: the files, their order, selection, seed, window "
                "and rank must be the same"
            )
        self.seek(state["position"])

    def __iter__(self) -> NoReturn:
        raise RinoError("a stream has no end: loop over stream.batches(1000), or call stream.take(1000)")

    def __reduce__(self) -> tuple[Any, ...]:
        return unpicklable(
            "a stream has open files and threads and cannot be pickled: open it in every process, with rank= and "
            "world_size= of its own"
        )

    @abstractmethod
    def _go_back(self, position: Sequence[int]) -> None:
        """As `seek`, to where the stream was: nothing is read before jets are asked for."""

    @abstractmethod
    def _take(self, count: int) -> _core.Jets:
        """The next `count` jets as C++ has them."""

    @abstractmethod
    def _fingerprint(self) -> list[int]:
        """Numbers that differ for other jets or another order of them, but not for other ranks."""

    def _total(self) -> int:
        """Jets of an epoch on all ranks together."""
        return len(self)

    def _want_labels(self, wanted: bool) -> None:
        """Whether who asks for the next jets wants their labels, which are checked then."""
        return

    #: Whether a trainer wants labels: few methods do.
    _trained_on_labels = False

    def _take_or_go_back(self, count: int) -> tuple[_core.Jets, list[int]]:
        before = self.position
        try:
            return self._take(count), list(self.position)
        except BaseException:
            self._go_back(before)  # jets that were taken before it failed come again
            raise

    # What C++ calls (PythonSource in bind_train.cpp).

    def _size(self) -> int:
        return len(self)

    def _next(self, count: int) -> tuple[_core.Jets, list[int]]:
        self._want_labels(self._trained_on_labels)
        return self._take_or_go_back(count)

    def _position(self) -> list[int]:
        return list(self.position)

    def _seek(self, position: Sequence[int]) -> None:
        self._want_labels(self._trained_on_labels)
        self.seek(position)

    def _seek_others(self, positions: Sequence[Sequence[int]]) -> None:
        """Go to where a run of another number of ranks stood, as near as can be.

        Parameters
        ----------
        positions
            Of all its ranks, in their order.

        Raises
        ------
        RinoError
            If there are no such positions, or the stream cannot tell.
        """
        raise RinoError(
            f"{self!r} cannot go on from the positions of {len(positions)} ranks: resume with as many as before"
        )


def whole_numbers(position: object) -> list[int]:
    """A position as integers.

    Raises
    ------
    RinoError
        If it is none.
    """
    try:
        return [operator.index(number) for number in position]  # type: ignore[attr-defined]
    except TypeError:
        raise RinoError(f"position = {position!r}: give the integers that stream.position gave") from None


def check_whole(**arguments: tuple[object, int]) -> None:
    """Raise `RinoError` for the first argument name=(value, least) that is no integer of at least `least`."""
    for name, (value, least) in arguments.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise RinoError(f"{name} = {value!r}: give an integer of {least} or more")
