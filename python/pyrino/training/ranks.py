"""Processes that train one network together: joining torchrun's, agreeing, and noticing when one of them is gone."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from pyrino._arguments import device_named, device_of
from pyrino.errors import RinoError
from pyrino.training.liveness import Line, connect
from pyrino.training.signals import Signals, Stopped

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Ranks", "Stopped", "joined", "ranks_of"]

Result = TypeVar("Result")

#: Seconds in which all processes must have come, the time in which a cluster starts them.
_MEETING = 600.0

#: A collective call may take so long: ranks wait for the slowest reader, and whether it lives is known otherwise.
_PATIENCE = timedelta(hours=2)


class Ranks:
    """This process among those that train one network together; one alone without a group.

    While its ``with`` block runs, a thread of every rank tells the others that the process lives. A rank that dies,
    hangs or fails ends the block of all others with a `RinoError` that names it, within half a minute. A process that
    cannot leave what it does (a collective call on a GPU never returns) is ended from aside, with status 2.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        Of ``torch.distributed``, on Gloo or NCCL.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and of all of them.
    group
        As given.
    device : torch.device or None
        Where this process computes, as `joined` or the last `Trainer` has it.
    remedy : str
        What the message about a lost rank ends with.
    say : callable
        What is done, on one rank, with the `RinoError` or `Stopped` that ends the block: rank 0, or where that one is
        lost, the first one of each machine. None does nothing.
    speaks : bool
        After the block, whether this was the one.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        self.group = group if group is not None and group.size() > 1 else None
        self.rank: int = self.group.rank() if self.group is not None else 0
        self.size: int = self.group.size() if self.group is not None else 1
        self.device: torch.device | None = None
        self.remedy = "start again"
        self.speaks = self.first
        self.say: Callable[[BaseException], None] | None = None
        self._line: Line | None = None
        self._signals: Signals | None = None
        self._agreed = 0
        self._depth = 0

    def __repr__(self) -> str:
        return f"Ranks({self.rank} of {self.size})"

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.group is None

    # --- agreeing ---

    def each(self, work: Callable[[], Result]) -> Result:
        """Have every rank do its part; all go on when all are done, and none if one of them fails."""
        result = work()
        self._agree(None)
        return result

    def first_does(self, work: Callable[[], Any]) -> Any:
        """Have rank 0 do it; all get what it returned, which must be plain data, or its error as it is."""
        if self.alone:
            return work()
        result = None
        if self.first:
            try:
                result = work()
            except RinoError as error:
                self._connected().fail(str(error), plain=True)
                raise
        return self._agree(result)[0]

    def largest(self, *numbers: int) -> list[int]:
        """The largest of each number on any rank: what a step's end decides together.

        A collective call of the group, not of the thread that watches: it takes some tenths of a millisecond.
        """
        if self.group is None:
            return list(numbers)
        import torch.distributed as dist

        on_cpu = "cpu:" in dist.get_backend_config(self.group)
        tensor = torch.tensor(numbers, dtype=torch.int64, device="cpu" if on_cpu else self.device or "cuda")
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group)
        return tensor.tolist()

    def gathered(self, value: Result) -> list[Result]:
        """What every rank has, in their order, on all of them; the ranks call it together, as `largest`."""
        if self.group is None:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        # By way of the current device, where the group has NCCL alone: all ranks' is cuda:0 until somebody sets it.
        gpu = self.device is not None and self.device.type == "cuda"
        with torch.cuda.device(self.device) if gpu else contextlib.nullcontext():
            dist.all_gather_object(found, value, group=self.group)
        return found

    def _agree(self, value: Any) -> list[Any]:
        """What all ranks say at this place of the program."""
        if self.alone:
            return [value]
        self._agreed += 1
        return self._connected().agree(self._agreed, value)

    def _connected(self) -> Line:
        if self._line is None:
            raise RinoError("these ranks are not connected: use them in a with block")
        return self._line

    # --- signals ---

    @contextmanager
    def noting(self) -> Iterator[Callable[[], int]]:
        """Signals that ask for an end wait for the end of a step: yields what gives the number of one that came, or 0.

        Raised within a step, they would lose its report, and the resumed run's history would have a hole. A second
        Ctrl-C does not wait. Signals reach the main thread only, and those that somebody else handles stay theirs.
        """
        if self._signals is None:
            with Signals() as signals:
                yield lambda: signals.noted
            return
        signals = self._signals
        signals.raising = False
        try:
            yield lambda: signals.noted
        finally:
            signals.raising = True

    # --- the block ---

    def __enter__(self) -> Ranks:
        if not self.alone and self._depth == 0:
            self._line = connect(self)
            # torchrun ends all processes when one is lost: the others must live long enough to say which.
            self._signals = Signals(raising=True)
            self._signals.__enter__()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._line is None or self._depth > 0:
            return
        line, signals = self._line, self._signals
        assert signals is not None
        signals.raising = False
        last = error
        try:
            if error is None or (isinstance(error, Stopped) and not signals.raised):
                line.leave()
            else:
                text = _text_of(error)
                verdict = line.fail(text, collective=_is_collective(error))
                if verdict != text and (isinstance(error, RinoError) or line.culprit != self.rank):
                    raise RinoError(verdict) from error
        except RinoError as another:
            last = another
            raise
        finally:
            line.close()
            self.speaks = line.speaks
            if self.speaks and self.say is not None and isinstance(last, (RinoError, Stopped)):
                self.say(last)  # while signals are still noted: torchrun's SIGTERM may be on its way
            self._line = self._signals = None
            signals.__exit__()


def _text_of(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, (RinoError, Stopped)) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _is_collective(error: BaseException) -> bool:
    """Whether it is a collective call that has failed, for which another rank may be the reason."""
    return isinstance(error, RuntimeError) and re.search("gloo|nccl|c10d", str(error), re.IGNORECASE) is not None


def ranks_of(group: Ranks | ProcessGroup | None) -> Ranks:
    """`Ranks` of what users give as a group.

    Raises
    ------
    RinoError
        If it is neither `Ranks` nor a process group.
    """
    if group is None or isinstance(group, Ranks):
        return group or Ranks()
    if not callable(getattr(group, "rank", None)) or not callable(getattr(group, "size", None)):
        raise RinoError(
            f"group is {group!r}: give a ProcessGroup of torch.distributed, such as torch.distributed.group.WORLD"
        )
    return Ranks(group)


# --- joining ---


@contextmanager
def joined(device: str | torch.device = "cpu") -> Iterator[Ranks]:
    """Join the processes that torchrun has started; alone where it has not, or one only.

    What it goes by are torchrun's environment variables, which other launchers set, too: RANK, WORLD_SIZE, LOCAL_RANK,
    MASTER_ADDR, MASTER_PORT. Without them nothing happens.

    Parameters
    ----------
    device
        Where to compute: "cpu" talks by Gloo; "cuda" by NCCL and gives every process of a machine its own GPU, the one
        of number LOCAL_RANK; "cuda:1" is taken literally.

    Yields
    ------
    Ranks
        To be given to `pretrain` as ``group``; its ``device`` is the one to compute on.

    Raises
    ------
    RinoError
        If variables are missing, there are fewer GPUs than processes, or the processes do not find each other; and as
        `Ranks` says.

    Examples
    --------
    >>> with rino.ranks.joined("cuda") as ranks:  # torchrun --nproc-per-node 4 train.py
    ...     rino.pretrain("base", "JetClass/train_100M/*.root", "runs/base", device=ranks.device, group=ranks)
    """
    device = device_named(device)
    size = _number("WORLD_SIZE") if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1
    if size == 1:
        alone = Ranks()
        alone.device = device
        yield alone
        return
    rank = _number("RANK")
    place = f"{_variable('MASTER_ADDR')}:{_number('MASTER_PORT')}"
    if device.type == "cuda":
        device = _own_gpu(device)
        torch.cuda.set_device(device)
    import torch.distributed as dist

    made = not dist.is_initialized()
    if made:
        try:
            store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=_PATIENCE))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore(_attempt(dist.PrefixStore("rino", store), rank, size), store),
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
            )
        except (RuntimeError, ValueError) as error:
            raise RinoError(
                f"rank {rank} of {size} did not find the others at {place} (MASTER_ADDR, MASTER_PORT): {error}"
            ) from error
    ranks = Ranks(dist.group.WORLD)
    ranks.device = device
    with ranks:
        yield ranks
    # Only here: where a rank is lost it would wait for it.
    if made:
        dist.destroy_process_group()


def _attempt(store: Any, rank: int, size: int) -> str:
    """A name that these processes have to themselves.

    torchrun's store outlives them: after a restart it still has where those of before could be found, and Gloo would
    look for them there. So rank 0 gives the name to ranks that show it a word which nobody knew before.
    """
    end = time.monotonic() + _MEETING
    word = secrets.token_hex(8)

    def wait(missing: str) -> None:
        if time.monotonic() > end:
            raise RuntimeError(f"{missing} did not come within {_MEETING / 60:.0f} minutes")
        time.sleep(0.02)

    if rank > 0:
        store.set(f"word/{rank}", word)
        while not store.check([f"name/{word}"]):
            wait("rank 0")
        name = store.get(f"name/{word}").decode()
        store.set(f"here/{name}/{rank}", "")
        return name
    missing = dict.fromkeys(range(1, size), "")
    while missing:
        for other, answered in list(missing.items()):
            if store.check([f"here/{word}/{other}"]):
                del missing[other]
            elif store.check([f"word/{other}"]) and (said := store.get(f"word/{other}").decode()) != answered:
                store.set(f"name/{said}", word)
                missing[other] = said
        if missing:
            wait(f"ranks {', '.join(map(str, missing))}")
    return word


def _own_gpu(device: torch.device) -> torch.device:
    """The GPU of this process."""
    found = torch.cuda.device_count()
    if found == 0:
        device_of(device)
    number = device.index if device.index is not None else _number("LOCAL_RANK")
    if number >= found:
        asked = f"device is {str(device)!r}" if device.index is not None else f"LOCAL_RANK is {number}"
        raise RinoError(
            f"{asked} but torch sees {found} CUDA devices on {socket.gethostname()}: start one process for each GPU, "
            "torchrun --nproc-per-node gpu"
        )
    return torch.device("cuda", number)


def _variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise RinoError(
            f"RANK and WORLD_SIZE are set but {name} is not: start with torchrun, or set it as torchrun does"
        ) from None


def _number(name: str) -> int:
    text = _variable(name)
    if not text.isdecimal():
        raise RinoError(f"the environment variable {name} is {text!r}: torchrun sets it to a whole number")
    return int(text)
