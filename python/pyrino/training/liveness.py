"""What the ranks of a run say to each other beside the collective calls: who lives, who fails, who is done.

Every rank but the first has one connection, to rank 0: a line of JSON is a message. The end of a process closes its
connection, wherever it runs; a machine that is gone is known by its silence. Rank 0 judges for all what has happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pyrino.errors import RinoError

__all__ = ["Line", "connect"]

#: Seconds between the signs of life of a rank.
_BEAT = 2.0

#: Seconds without one after which a rank counts as lost: far more than the interpreter's lock is ever held.
_SILENCE = 24.0

#: The same once a collective call has failed, which tells that something is wrong.
_SHORT_SILENCE = 8.0

#: Seconds in which other ranks may say that they fail, too, before the message is made of what was said.
_TOGETHER = 2.0

#: Seconds that the main thread has to leave what it does, before the process is ended from aside.
_GRACE = 5.0

#: Exit status of a process that ends because of another one, as of one that ends with an error.
_STATUS = 2


class Rank(Protocol):
    """What is asked of `Ranks`."""

    rank: int
    size: int
    group: Any
    remedy: str
    say: Callable[[BaseException], None] | None

    @property
    def first(self) -> bool: ...


@dataclass
class _Peer:
    """What is known of a rank."""

    rank: int
    host: str = ""
    pid: int = 0
    machine: str = ""
    heard: float = field(default_factory=time.monotonic)
    connection: socket.socket | None = None
    received: bytearray = field(default_factory=bytearray)
    left: bool = False
    failed: tuple[str, bool, bool] | None = None  # text, plain, collective


class Line(ABC):
    """A rank's side of the conversation: `_Hub` on rank 0, `_Spoke` on the others."""

    def __init__(self, ranks: Rank, peers: list[_Peer]) -> None:
        self._ranks = ranks
        self._peers = peers
        self._me = peers[ranks.rank]
        self._changed = threading.Condition()
        self._answers: dict[int, list[Any]] = {}
        self._bye = False
        self._closed = False
        self._failing = False  # the main thread is on its way out
        self._orphaned = False  # rank 0 is lost
        self.verdict: str | None = None
        self.culprit = -1
        self._since = 0.0
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakes = socket.socketpair()
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="pyrino-ranks", daemon=True)

    # --- asked by the main thread ---

    def agree(self, number: int, value: Any) -> list[Any]:
        """The values of all ranks for this number.

        Raises
        ------
        RinoError
            If a rank fails or is lost meanwhile.
        """
        self._submit({"agree": [number, value]})
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self.verdict is not None)
            if number in self._answers:
                return self._answers.pop(number)
            raise RinoError(self.verdict)

    def fail(self, text: str, *, plain: bool = False, collective: bool = False) -> str:
        """Say that this rank fails, and get what is to be said of it, which may be that another one does.

        Parameters
        ----------
        plain
            It need not be said which rank it is.
        collective
            A collective call failed here: the reason is another rank, if there is a reason to be found.
        """
        with self._changed:
            self._failing = True
        self._submit({"failed": [text, plain, collective]})
        with self._changed:
            self._changed.wait_for(lambda: self.verdict is not None, _SILENCE + _GRACE)
            return self.verdict if self.verdict is not None else text

    def leave(self) -> None:
        """Say that this rank is done, and wait until all are.

        Raises
        ------
        RinoError
            If a rank fails or is lost before it is done.
        """
        self._submit({"left": True})
        with self._changed:
            self._changed.wait_for(lambda: self._bye or self.verdict is not None)
            if not self._bye:
                raise RinoError(self.verdict)

    @property
    def speaks(self) -> bool:
        """Whether this rank is the one to print."""
        if not self._orphaned:
            return self._me.rank == 0
        return self._me.rank == next(peer.rank for peer in self._peers[1:] if peer.machine == self._me.machine)

    # --- the thread ---

    def start(self) -> None:
        """Begin to talk."""
        self._thread.start()

    def close(self) -> None:
        """End the conversation; nothing can be asked afterwards."""
        with self._changed:
            self._closed = True
        self._wake()
        self._thread.join(_GRACE)
        for closing in (self._waker, self._wakes, *(peer.connection for peer in self._peers)):
            if closing is not None:
                closing.close()
        self._selector.close()

    def _run(self) -> None:
        beaten = looked = time.monotonic()
        self._say_all({"beat": True})
        while not self._closed:
            for key, _ in self._selector.select(_BEAT / 4):
                if key.fileobj is self._wakes:
                    with contextlib.suppress(BlockingIOError):
                        self._wakes.recv(4096)
                else:
                    self._hear(key)
            now = time.monotonic()
            if now - beaten >= _BEAT:
                beaten = now
                self._say_all({"beat": True})
            if now - looked > 2 * _BEAT:  # it was this thread that has slept: others may have spoken
                for peer in self._peers:
                    peer.heard = now
            looked = now
            self._look(now)
            if self.verdict is not None and not self._failing and not self._bye and now - self._since > _GRACE:
                self._end()

    def _end(self) -> None:
        """The main thread is stuck, in a collective call that will never return or in work of its own."""
        if self.speaks:
            say = self._ranks.say or (lambda error: print(f"pyrino: error: {error}", file=sys.stderr, flush=True))
            say(RinoError(self.verdict))
        os._exit(_STATUS)

    def _judge(self, culprit: int, text: str) -> None:
        """What all ranks end with; the first judgement stays."""
        with self._changed:
            if self.verdict is None:
                self.verdict, self.culprit, self._since = text, culprit, time.monotonic()
            self._changed.notify_all()

    def _lost(self, peer: _Peer, how: str) -> None:
        self._orphaned = self._orphaned or (peer.rank == 0 and self.verdict is None)
        self._judge(peer.rank, f"{self._name(peer)} {how}: {self._ranks.remedy}")

    def _name(self, peer: _Peer) -> str:
        return f"rank {peer.rank} of {len(self._peers)} ({peer.host}, pid {peer.pid})"

    def _answer(self, number: int, values: list[Any]) -> None:
        with self._changed:
            self._answers[number] = values
            self._changed.notify_all()

    def _finish(self) -> None:
        with self._changed:
            self._bye = True
            self._changed.notify_all()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _connections(self) -> list[_Peer]:
        return [peer for peer in self._peers if peer.connection is not None]

    def _watch(self, peer: _Peer, connection: socket.socket) -> None:
        """From now on hear what the peer says."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_SHORT_SILENCE)
        peer.connection, peer.heard = connection, time.monotonic()
        self._selector.register(connection, selectors.EVENT_READ, peer)

    def _say(self, peer: _Peer, message: dict[str, Any]) -> None:
        connection = peer.connection
        if connection is not None:
            # A connection that is broken is noticed by reading, which may still find what was said before.
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(message).encode() + b"\n")

    def _say_all(self, message: dict[str, Any]) -> None:
        for peer in self._connections():
            self._say(peer, message)

    def _hear(self, key: selectors.SelectorKey) -> None:
        peer: _Peer = key.data
        assert peer.connection is not None
        try:
            more = peer.connection.recv(65536)
        except (TimeoutError, InterruptedError):
            return
        except OSError:
            more = b""
        if not more:
            self._selector.unregister(peer.connection)
            peer.connection.close()
            peer.connection = None
            self._gone(peer)
            return
        peer.heard = time.monotonic()
        peer.received += more
        *lines, rest = bytes(peer.received).split(b"\n")
        peer.received = bytearray(rest)
        for line in lines:
            for what, content in json.loads(line).items():
                self._told(peer, what, content)

    def _gone(self, peer: _Peer) -> None:
        if not peer.left and not self._bye:
            self._lost(peer, "has died: it was killed, crashed or ran out of memory")

    @abstractmethod
    def _submit(self, message: dict[str, Any]) -> None:
        """Send it to rank 0."""

    @abstractmethod
    def _told(self, peer: _Peer, what: str, content: Any) -> None:
        """A part of a message has come."""

    @abstractmethod
    def _look(self, now: float) -> None:
        """What is to be done every now and then."""


class _Spoke(Line):
    """What another rank than the first has."""

    def _submit(self, message: dict[str, Any]) -> None:
        with self._changed:  # the thread's beats must not come in between
            self._say(self._peers[0], message)

    def _say_all(self, message: dict[str, Any]) -> None:
        self._submit(message)

    def _told(self, peer: _Peer, what: str, content: Any) -> None:
        if what == "all":
            self._answer(*content)
        elif what == "verdict":
            self._judge(*content)
        elif what == "bye":
            self._finish()

    def _look(self, now: float) -> None:
        hub = self._peers[0]
        if hub.connection is not None and now - hub.heard > _SILENCE:
            self._lost(hub, _silent(now - hub.heard))


class _Hub(Line):
    """What rank 0 has: it hears of all, and judges for all. All of it happens in its thread."""

    def __init__(self, ranks: Rank, peers: list[_Peer]) -> None:
        super().__init__(ranks, peers)
        self._orders: list[dict[str, Any]] = []
        self._values: dict[int, dict[int, Any]] = {}
        self._failure = 0.0  # when the first one was told
        self._published = False

    def _submit(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._orders.append(message)
        self._wake()

    def _told(self, peer: _Peer, what: str, content: Any) -> None:
        if what == "agree":
            number, value = content
            values = self._values.setdefault(number, {})
            values[peer.rank] = value
            if len(values) == len(self._peers):
                everything = [values[rank] for rank in range(len(values))]
                del self._values[number]
                self._say_all({"all": [number, everything]})
                self._answer(number, everything)
        elif what == "failed" and peer.failed is None:
            peer.failed = tuple(content)
            self._failure = self._failure or time.monotonic()
        elif what == "left":
            peer.left = True

    def _look(self, now: float) -> None:
        with self._changed:
            orders, self._orders = self._orders, []
        for order in orders:
            for what, content in order.items():
                self._told(self._me, what, content)
        if all(peer.left for peer in self._peers) and not self._bye:
            self._say_all({"bye": True})
            self._finish()
        if self.verdict is None and not self._bye:
            self._look_for_lost(now)
            self._look_at_failures(now)
        if self.verdict is not None and not self._published:
            self._published = True
            self._say_all({"verdict": [self.culprit, self.verdict]})

    def _look_for_lost(self, now: float) -> None:
        limit = _SHORT_SILENCE if self._failure else _SILENCE
        for peer in self._connections():
            if not peer.left and now - peer.heard > limit:
                self._lost(peer, _silent(now - peer.heard))
                return

    def _look_at_failures(self, now: float) -> None:
        failed = [(peer, *peer.failed) for peer in self._peers if peer.failed is not None]
        own = [(peer, text, plain) for peer, text, plain, collective in failed if not collective]
        waited = now - self._failure
        if own and (waited > _TOGETHER or len(own) == len(self._peers) or any(plain for _, _, plain in own)):
            peer, text, plain = next((one for one in own if one[2]), own[0])
            alike = len(own) == len(self._peers) and len({text for _, text, _ in own}) == 1
            self._judge(peer.rank, text if plain or alike else f"{self._name(peer)}: {text}")
        elif failed and not own and waited > _SHORT_SILENCE + _BEAT:
            peer, text, _, _ = failed[0]
            self._judge(peer.rank, f"{self._name(peer)}: {text} (all ranks answer): {self._ranks.remedy}")


def _silent(seconds: float) -> str:
    return f"has not been heard of for {seconds:.0f} s: it hangs, or its machine or network is down"


def connect(ranks: Rank) -> Line:
    """The line of this rank, connected; a collective call.

    Raises
    ------
    RinoError
        If rank 0 cannot be reached.
    """
    import torch.distributed as dist

    me = {"rank": ranks.rank, "host": socket.gethostname(), "pid": os.getpid(), "machine": _machine()}
    token = secrets.token_hex(16)
    door: socket.socket | None = None
    if ranks.first:
        dual = socket.has_dualstack_ipv6()
        door = socket.create_server(
            ("", 0),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
            backlog=max(ranks.size, 128),
        )
        me |= {"token": token, "port": door.getsockname()[1], "addresses": _addresses()}
    everyone: list[Any] = [None] * ranks.size
    try:
        dist.all_gather_object(everyone, me, group=ranks.group)
    except RuntimeError as error:
        raise RinoError(f"rank {ranks.rank} of {ranks.size} has lost the others before it began: {error}") from error
    peers = [_Peer(one["rank"], one["host"], one["pid"], one["machine"]) for one in everyone]
    token, port = everyone[0]["token"], everyone[0]["port"]
    line: Line
    if door is not None:
        with door:
            line = _Hub(ranks, peers)
            _welcome(line, door, token)
    else:
        line = _Spoke(ranks, peers)
        near = ["127.0.0.1"] if peers[0].machine == me["machine"] else []
        line._watch(peers[0], _call([*near, *everyone[0]["addresses"]], port, token, ranks.rank))
    line.start()
    return line


def _machine() -> str:
    """Tells machines apart, as far as it can be known."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return socket.gethostname()


def _addresses() -> list[str]:
    """By what others may find this machine."""
    names = [socket.gethostname(), socket.getfqdn(), os.environ.get("MASTER_ADDR", "")]
    with contextlib.suppress(OSError):
        names += socket.gethostbyname_ex(socket.gethostname())[2]
    return list(dict.fromkeys(name for name in names if name))


def _welcome(line: _Hub, door: socket.socket, token: str) -> None:
    """Take the connections of all other ranks; whoever does not know the token is turned away."""
    missing = set(range(1, len(line._peers)))
    end = time.monotonic() + 10 * _SILENCE
    while missing:
        door.settimeout(max(end - time.monotonic(), 0.01))
        try:
            connection, _ = door.accept()
            connection.settimeout(_SHORT_SILENCE)
            said = connection.makefile("rb").readline(200).split()
        except TimeoutError:
            names = ", ".join(line._name(line._peers[rank]) for rank in sorted(missing))
            if time.monotonic() >= end:
                raise RinoError(f"no connection came from {names}: the machines must reach each other") from None
            continue
        except OSError:
            continue
        if len(said) == 2 and said[0] == token.encode() and int(said[1]) in missing:
            missing.remove(int(said[1]))
            connection.sendall(token.encode() + b"\n")
            line._watch(line._peers[int(said[1])], connection)
        else:
            connection.close()


def _call(addresses: Sequence[str], port: int, token: str, rank: int) -> socket.socket:
    """A connection to rank 0, by the first address under which it answers."""
    tried = []
    for address in addresses:
        try:
            connection = socket.create_connection((address, port), timeout=_SHORT_SILENCE)
            connection.sendall(f"{token} {rank}\n".encode())
            connection.settimeout(10 * _SILENCE)
            if connection.recv(len(token) + 1, socket.MSG_WAITALL) == token.encode() + b"\n":
                return connection
            tried.append(f"{address} is another machine")
        except OSError as error:
            tried.append(f"{address}: {error}")
    raise RinoError(f"rank {rank} cannot reach rank 0 at port {port}: {'; '.join(tried)}")
