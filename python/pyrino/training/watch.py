"""What a training run shows while it goes on, what it warns of, and what it leaves when it fails."""

from __future__ import annotations

import itertools
import math
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyrino.errors import RinoError, RinoWarning, level_of_caller
from pyrino.files import whole_file
from pyrino.jets import Jets
from pyrino.methods import About
from pyrino.training.progress import MINUTE, Pace, display

if TYPE_CHECKING:
    from pyrino.training.trainer import Trainer

__all__ = ["Watch", "save_batch"]

#: Most points of a scalar, and of a histogram, in TensorBoard's log: it shows a thousand of the former.
_SCALARS, _SNAPSHOTS = 20_000, 1_000
#: Share of the steps' time that scalars, and the rest, may take once they have had this many seconds.
_SHARE, _ALLOWANCE = 0.005, 0.2
#: Jets whose embeddings the rank is taken of.
_RANKED = 1024
#: How the error of the last of several steps in a row that were not finite is told from all others.
_GIVEN_UP = "in a row that were not finite"
#: Steps whose mean a judgement of the loader rests on.
_STEPS = 50


def _pages(about: About) -> dict[str, dict[str, list[Any]]]:
    """TensorBoard's page "custom scalars": what belongs together in one picture."""

    def picture(*names: str) -> list[Any]:
        return ["Multiline", [f"^{name}$" for name in names]]

    def pictures(schedule: bool) -> dict[str, list[Any]]:
        charts = [chart for chart in about.charts if chart.schedule == schedule and not chart.prototypes]
        return {chart.title: picture(*(name for name, _ in chart.lines)) for chart in charts}

    return {
        "loss": {
            "loss and its parts": picture("loss", *(name for name, _ in about.parts)),
            "gradient norm": picture("gradient_norm"),
            "skipped steps": picture("skipped"),
        },
        "method": {
            **{title: picture(*names) for title, names in about.derived_charts},
            **pictures(schedule=False),
            "effective rank of the embeddings": picture("collapse/embedding_rank"),
        },
        "speed": {
            "jets per second": picture("speed/jets_per_second"),
            "share of the time that steps waited for the loader": picture("waited"),
        },
        "schedules": {"learning rate": picture("lr"), **pictures(schedule=True)},
    }


class Watch:
    """Progress, a log for TensorBoard and warnings of a run that goes on step by step.

    In a terminal progress is a bar, as wide as that is; in a log file it is a line a minute, and at the end of an
    epoch, at most every ten seconds. Rates are those of the last minute.

    The log has every number of a step, of at most 20,000 steps; a thousand times at most, and never for more than a
    hundredth of the time, the effective rank of the embeddings and what the method has beside (how often each prototype
    is used).

    It warns, as `RinoWarning`, of what the method takes for collapse (self-distillation: `CollapseAlarm`; of the rank
    only where there is a log), or of what a method of Python says (`Method.warnings`), and of steps that wait for the
    loader for a fifth of their time, once until that has gone away; and of every step that was skipped because it was
    not finite.

    Nothing of this ends a run. A log, a display or an alarm that fails (a full disk, a closed standard error) is left
    out from then on, and a `RinoWarning` says so once.

    Parameters
    ----------
    trainer
        What is watched, at the step where the run begins or goes on.
    tensorboard
        Folder of the log; None: no log.
    progress
        Show progress on standard error.
    failed
        Folder for the jets of the step that stops a run because it, too, is not finite; None: nothing is saved.
    rank
        Of this process in the run. Those other than 0 show no progress, write no log and warn of their loader only.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        tensorboard: Path | None,
        progress: bool,
        failed: Path | None = None,
        rank: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trainer, self._failed, self._rank = trainer, failed, rank
        self._pace = Pace(clock)
        self._display = display(trainer, clock) if progress and rank == 0 else None
        self._log = _Log(tensorboard, trainer) if tensorboard is not None and rank == 0 else None
        self._alarm = trainer._about().alarm(_path_so_far(trainer)) if rank == 0 else None
        self._starved = False
        self._skipped = trainer._core.skipped
        self._lost: list[str] = []

    def __enter__(self) -> Watch:
        self._pace.start()
        with self._spared("_log"):
            if self._log is not None:
                self._log.open()
        with self._spared("_display"):
            if self._display is not None:
                self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._spared("_display"):
            if self._display is not None:
                self._display.__exit__(kind, error, trace)
        with self._spared("_log"):
            if self._log is not None:
                self._log.close()
        for message in self._lost:
            warnings.warn(message, RinoWarning, stacklevel=level_of_caller())
        if self._failed is not None and isinstance(error, RinoError) and _GIVEN_UP in str(error):
            raise RinoError(self._save_batch(error, self._failed)) from error

    def step(self, report: Mapping[str, float]) -> None:
        """Show one step, as `Trainer.step` reports it."""
        skipped = bool(report["skipped"])
        self._skipped += skipped
        self._pace.add(self._trainer.batch_size, report["waited"], report["seconds"])
        said = [self._of_skipping(report)] if skipped and self._rank == 0 else []
        said += self._of_the_loader()
        rank = None
        with self._spared("_log"):
            if self._log is not None:
                rank = self._log.step(report, self._pace)
        with self._spared("_alarm"):
            if self._alarm is not None and not skipped:
                said += self._alarm.step(report)
            if self._alarm is not None and rank is not None:
                said += self._alarm.rank(*rank)
        with self._spared("_log"):
            if self._log is not None:
                self._log.warn(said, int(report["step"]))
        aside = ExitStack()
        with self._spared("_display"):
            if self._display is not None:
                self._display.step(report, self._pace, self._skipped)
                if said:
                    aside.enter_context(self._display.aside())
        said += self._lost
        self._lost = []
        with aside:
            for message in said:
                warnings.warn(message, RinoWarning, stacklevel=level_of_caller())

    @contextmanager
    def _spared(self, part: str) -> Iterator[None]:
        """Where a part of the watch fails it is left out from then on; the run, which may be days old, goes on."""
        try:
            yield
        except Exception as error:
            what = {
                "_log": "TensorBoard's log is not written any more; a run that is resumed begins a new one",
                "_display": "progress is not shown any more",
                "_alarm": "nobody looks for signs of collapse any more",
            }[part]
            self._lost.append(f"{what} ({type(error).__name__}: {error}). Training goes on")
            with suppress(Exception):
                if part == "_log" and self._log is not None:
                    self._log.close()
            setattr(self, part, None)

    def _of_skipping(self, report: Mapping[str, float]) -> str:
        parts = [name for name, value in report.items() if not math.isfinite(value)]
        parts = [name for name in parts if name not in ("loss", "gradient_norm")]
        which = f", not finite in it: {', '.join(parts)}" if parts else ""
        return (
            f"step {report['step']:.0f} is skipped and changed nothing: its loss is {report['loss']:g}, the norm of "
            f"the gradient {report['gradient_norm']:g}{which}. {self._skipped} skipped so far; three in a row stop the "
            f"run. If this goes on, take {self._trainer._remedy}"
        )

    def _of_the_loader(self) -> list[str]:
        pace, share = self._pace, self._pace.waited
        enough = pace.lasts >= MINUTE or (pace.steps >= _STEPS and pace.lasts >= MINUTE / 6)
        if self._starved or share < 0.2 or not enough:
            self._starved = self._starved and share > 0.1
            return []
        self._starved = True
        training = self._trainer.recipe.training
        where = f" on rank {self._rank}" if self._rank else ""
        return [
            f"the loader starves training{where}: in the last {pace.lasts:.0f} s the steps waited for jets {share:.0%} "
            f"of their time. Raise training.loader_threads (now {training.loader_threads}) where cores are idle; if "
            "jets are streamed, pack their files (pyrino pack) or give more reader threads (--reader-threads)"
        ]

    def _save_batch(self, error: RinoError, folder: Path) -> str:
        number = self._trainer.step_number
        file = folder / f"step_{number}_rank_{self._rank}.parquet"
        try:
            save_batch(Jets._wrap(self._trainer._core.batch()), file)
        except Exception as failure:  # the error that ended the run is the one to read
            return f"{error}; the jets of step {number} could not be saved: {failure}"
        recipe = self._trainer.recipe
        precision = " or training.precision 'float32'" if recipe.training.precision == "bf16" else ""
        what = str(error).split(": look at its jets")[0]
        return (
            f"{what}. The jets of step {number} are in {file}: read_jets reads them; its columns origin_file and "
            "origin_entry (pandas.read_parquet) say where each is from. If they are sound, start again with "
            f"{self._trainer._remedy}{precision}"
        )


def save_batch(jets: Jets, path: str | os.PathLike[str]) -> None:
    """Write jets as parquet with JetClass's columns, whole or not at all; `read_jets` gives the same numbers back.

    Momenta are float64. Labels, extras and values stay away; ``origin_file`` and ``origin_entry`` say where each jet
    was read from, if it was.

    Raises
    ------
    RinoError
        If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pyrino.data.jetclass import MOMENTA

    momenta = zip(MOMENTA, (jets.px, jets.py, jets.pz, jets.e), strict=True)
    columns = {name: pa.LargeListArray.from_arrays(jets.offsets, values) for name, values in momenta}
    if (origins := jets.origins) is not None:
        columns["origin_file"] = pa.array(np.asarray(origins.files, dtype=object)[origins.file], pa.string())
        columns["origin_entry"] = pa.array(origins.entry)
    with whole_file(path) as partial, open(partial, "wb") as file:
        pq.write_table(pa.table(columns), file)


class _Log:
    """TensorBoard's log of a run."""

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self._folder, self._trainer = folder, trainer
        self._about = trainer._about()
        self._every = -(-len(trainer) // _SCALARS), -(-len(trainer) // _SNAPSHOTS)
        self._budgets = _Budget(), _Budget()
        self._events: _EventFile

    def open(self) -> None:
        """Begin the file; what an earlier one has of steps that are still to be done does not count any more."""
        from torch.utils.tensorboard.summary import custom_scalars

        self._events = _EventFile(self._folder)
        self._events.begin(self._trainer.step_number)
        self._events.add(custom_scalars(_pages(self._about)), None)

    def close(self) -> None:
        """End the file."""
        self._events.close()

    def step(self, report: Mapping[str, float], pace: Pace) -> tuple[float, int] | None:
        """Log a step; the effective rank of the embeddings and their width where these were looked at."""
        number = int(report["step"])
        for budget in self._budgets:
            budget.earn(report["seconds"])
        scalars, snapshots = (
            number % every == 0 and budget.left for every, budget in zip(self._every, self._budgets, strict=True)
        )
        if scalars:
            with self._budgets[0].spent():
                self._add(self._scalars(report, pace), number)
        if snapshots and not report["skipped"]:
            with self._budgets[1].spent():
                return self._add_snapshot(number)
        return None

    def warn(self, messages: Iterable[str], step: int) -> None:
        """Log warnings as text."""
        from torch.utils.tensorboard.summary import text

        for message in messages:
            self._events.add(text("warnings", message), step)

    def _scalars(self, report: Mapping[str, float], pace: Pace) -> dict[str, float]:
        values = {name: value for name, value in report.items() if name not in ("step", "seconds", "waited")}
        values["waited"] = report["waited"] / report["seconds"]
        values["speed/jets_per_second"] = pace.rate
        return {**values, **self._about.derived(report)}

    def _add(self, values: Mapping[str, float], step: int) -> None:
        """Scalars in one event: SummaryWriter's own takes seven times as long."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._events.add(Summary(value=points), step)

    def _add_snapshot(self, step: int) -> tuple[float, int] | None:
        from torch.utils.tensorboard.summary import histogram

        from pyrino.evaluate.embeddings import all_alike, effective_rank

        snapshot: dict[str, torch.Tensor] = self._trainer._core.snapshot()
        found = {name: tensor.double().numpy() for name, tensor in snapshot.items()}
        for name, values in self._about.histograms(found).items():
            self._events.add(histogram(name, values, 30), step)
        if "embeddings" not in found:
            return None
        jets = found["embeddings"][:_RANKED]
        if len(jets) < 2 or not np.isfinite(jets).all():
            return None
        rank = 1.0 if all_alike(jets) else effective_rank(jets)  # all alike: the end of a collapse, not an error
        self._add({"collapse/embedding_rank": rank}, step)
        return rank, jets.shape[1]


class _EventFile:
    """A file of TensorBoard's events. SummaryWriter has a thread write them, whose errors come late or never."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._session = Event, SessionLog
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        number = next(n for n in itertools.count() if not (folder / f"{name}.{n}").exists())
        # without a buffer: an event is there for whoever looks, and a full disk is heard of at once
        self._records = RecordWriter(open(folder / f"{name}.{number}", "xb", buffering=0))

    def begin(self, step: int) -> None:
        """What other files of the folder have of this step and later ones is not shown any more."""
        self._write(file_version="brain.Event:2", step=step)
        self._write(session_log=self._session(status=self._session.START), step=step)

    def add(self, summary: Any, step: int | None) -> None:
        """A `Summary` of a step."""
        self._write(summary=summary, step=step)

    def close(self) -> None:
        """End the file."""
        self._records.close()

    def _write(self, **event: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **event).SerializeToString())


class _Budget:
    """Of seconds: an allowance and a share of the steps' time."""

    def __init__(self) -> None:
        self._seconds = _ALLOWANCE

    @property
    def left(self) -> bool:
        return self._seconds > 0

    def earn(self, seconds: float) -> None:
        """A step took so long."""
        self._seconds += _SHARE * seconds

    @contextmanager
    def spent(self) -> Iterator[None]:
        """What is done in here counts."""
        start = time.perf_counter()
        yield
        self._seconds -= time.perf_counter() - start


def _path_so_far(trainer: Trainer) -> float:
    """Sum of the learning rates of the steps done over their peak, from some thousand of them."""
    done, peak = trainer.step_number, trainer.recipe.optimizer.lr
    if not done or peak <= 0:
        return 0.0
    sample = range(0, done, max(1, done // 1000))
    return done * math.fsum(trainer.learning_rate(step) for step in sample) / (len(sample) * peak)
