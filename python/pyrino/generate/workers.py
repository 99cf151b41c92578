"""Worker processes that generate units side by side."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from ..errors import RinoError

if TYPE_CHECKING:
    from .unit import Unit, UnitResult

__all__ = ["Workers", "default_workers"]


def default_workers() -> int:
    """Number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """One process and our end of the connection to it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise RinoError(
                "cannot start worker processes: sys.executable is empty; generate with `python -m pyrino generate`"
            )
        self.unit: Unit
        self.errors: IO[bytes] = tempfile.TemporaryFile()
        self.connection, theirs = Pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("worker.py")), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                pass_fds=(theirs.fileno(),),
                # Importing pythia8mc 8.317 runs every file of a folder named python in the working directory.
                cwd=Path(__file__).parent,
                # One thread each: the cores are shared out between the processes.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C reaches the caller only, who ends the workers
            )
        except BaseException:
            self.connection.close()
            self.errors.close()
            raise
        finally:
            theirs.close()
        self._send([os.path.abspath(path) for path in sys.path])

    def start(self, unit: Unit) -> None:
        self.unit = unit
        self._send(unit)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # a process that ended is noticed where its answer is read
            self.connection.send(message)

    def last_words(self) -> str:
        """Exit status and the last line on standard error of a process that ended."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"exit status {code}" + (f", {lines[-1]}" if lines else "")

    def stop(self) -> None:
        self.connection.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.errors.close()


class Workers:
    """A fixed number of worker processes, as a context manager; leaving it ends them at once.

    Parameters
    ----------
    number : int
        Number of processes, at least 1.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        try:
            for _ in range(self._number):
                self._workers.append(_Worker())
        except OSError as error:
            self.close()
            raise RinoError(f"cannot start worker {len(self._workers)}: {error}: use fewer workers") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        while self._workers:
            self._workers.pop().stop()

    def run(self, units: Sequence[Unit], report: Callable[[int], None]) -> Iterator[tuple[Unit, UnitResult]]:
        """Generate units and yield each as it is done, in any order.

        Parameters
        ----------
        units : sequence of Unit
            Handed out in this order.
        report : callable
            Is told the number of new jets now and then.

        Raises
        ------
        RinoError
            A unit failed or a process ended.
        """
        waiting = list(reversed(units))
        busy: dict[Connection, _Worker] = {}

        def hand_out(worker: _Worker) -> None:
            if waiting:
                worker.start(waiting.pop())
                busy[worker.connection] = worker

        for worker in self._workers:
            hand_out(worker)
        while busy:
            for connection in cast("list[Connection]", wait(list(busy))):
                worker = busy[connection]
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError) as error:
                    raise RinoError(
                        f"the worker for unit {worker.unit.index} ended ({worker.last_words()}); if the machine ran "
                        "out of memory use fewer workers, then call again: finished files are kept"
                    ) from error
                if kind == "jets":
                    report(content)
                    continue
                unit = worker.unit
                del busy[connection]
                if kind == "failed":
                    raise RinoError(
                        f"unit {unit.index} of {unit.domain.name}/{unit.process}, seed {unit.seed}, failed: {content}"
                    )
                hand_out(worker)
                yield unit, content
