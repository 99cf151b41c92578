"""What a run shows and warns of: progress by a fake clock, TensorBoard's log, collapses, waiting, skipped steps."""

from __future__ import annotations

import fcntl
import io
import math
import os
import pty
import resource
import struct
import sys
import termios
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_jets, tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pyrino as rino
from pyrino import Jets, Recipe, RinoError, RinoWarning, Trainer, pretrain
from pyrino.methods.collapse import CollapseAlarm
from pyrino.plots import training_curves
from pyrino.training.progress import Pace
from pyrino.training.watch import Watch, save_batch

N = 40  # jets


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeTrainer:
    """As much of a `Trainer` as a `Watch` asks for: 1000 jets a step, 100 steps an epoch."""

    batch_size, steps_per_epoch, method = 1000, 100, None

    def __init__(self, *, epochs: int = 100, step_number: int = 0, **numbers: Any) -> None:
        self.recipe = tiny(epochs=epochs, **numbers)
        self._peak = self.recipe.optimizer.lr
        self.step_number = step_number
        self._core = SimpleNamespace(skipped=0, snapshot=dict)

    def __len__(self) -> int:
        return self.steps_per_epoch * self.recipe.training.epochs

    def learning_rate(self, step: int) -> float:
        return self._peak * min(1.0, step / 1000)

    epochs = property(lambda self: self.recipe.training.epochs)
    _title, _remedy, _about = Trainer._title, Trainer._remedy, Trainer._about


def report(step: int, **numbers: float) -> dict[str, float]:
    """Of a healthy step with 4 prototypes that took a second."""
    one = {"step": step, "skipped": 0.0, "epoch": step / 100, "loss": 1.25, "lr": 1e-4, "gradient_norm": 1.0}
    one |= {"waited": 0.02, "seconds": 1.0, "dino": 1.0, "teacher_entropy": 0.5 * math.log(4)}
    return {**one, "prototype_entropy": math.log(4), "teacher_temperature": 0.04, **numbers}


def show(watch: Watch, clock: Clock, steps: range, seconds: float, **numbers: float) -> None:
    """Steps that take so long."""
    for step in steps:
        clock.now += seconds
        watch.step(report(step, seconds=seconds, **{"waited": 0.02 * seconds, **numbers}))


def watching(trainer: Any, clock: Clock, **more: Any) -> Watch:
    return Watch(trainer, clock=clock, **{"tensorboard": None, "progress": False, **more})


# --- progress ---


def test_the_rate_is_that_of_the_last_minute():
    clock = Clock()
    pace = Pace(clock)
    clock.now += 500.0
    pace.start()
    assert pace.rate == pace.waited == 0
    for _ in range(100):
        clock.now += 1.0
        pace.add(1000, waited=0.5, seconds=1.0)
    assert (pace.rate, pace.waited, pace.lasts, pace.steps) == (1000, 0.5, 60, 60)
    for _ in range(120):  # half a minute at twice the speed, after which half of the minute is old
        clock.now += 0.25
        pace.add(500, waited=0.0, seconds=0.25)
    assert pace.rate == pytest.approx((30 * 1000 + 30 * 2000) / 60)
    assert pace.waited == pytest.approx(15 / 60)
    for _ in range(120):
        clock.now += 0.25
        pace.add(500, waited=0.0, seconds=0.25)
    assert (pace.rate, pace.waited) == (2000, 0)


def test_steps_longer_than_a_minute_have_a_rate_too():
    clock = Clock()
    pace = Pace(clock)
    for jets in (100, 300, 600):
        clock.now += 100.0
        pace.add(jets, waited=50.0, seconds=100.0)
    assert (pace.rate, pace.lasts, pace.steps, pace.waited) == (6, 100, 1, 0.5)


def test_a_minute_of_fast_steps_takes_no_memory():
    clock = Clock()
    pace = Pace(clock)
    for _ in range(65_536):
        clock.now += 2.0**-10
        pace.add(1, waited=0.0, seconds=2.0**-10)
    assert pace.rate == 1024 and len(pace._marks) < 65


def lines_of(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on standard error, without date and time."""
    lines = capfd.readouterr().err.splitlines()
    for line in lines:
        time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
    return [line[20:] for line in lines]


def test_a_log_file_gets_a_line_a_minute_and_one_at_the_end(capfd):
    clock = Clock()
    with watching(FakeTrainer(), clock, progress=True) as watch:
        show(watch, clock, range(150), seconds=2.0)  # an epoch ends after 200 s
        show(watch, clock, range(150, 151), seconds=2.0, loss=2.0)
    lines = lines_of(capfd)
    assert [line.split(",")[0] for line in lines] == [
        f"pretraining: step {step}/10000 ({share}%)"
        for step, share in [(1, 0), (31, 0), (61, 0), (91, 0), (100, 1), (130, 1), (151, 1)]
    ]
    # 9,900 steps of 1000 jets are left at 500 jets/s
    assert lines[4].split(", ")[1:] == [
        *("epoch 1.0/100", "500 jets/s", "ETA 5:30:00", "loss 1.250", "entropy 0.50 ln K", "waiting 2%"),
    ]
    assert "loss 2.000" in lines[-1]


def test_epochs_of_seconds_do_not_flood_a_log_file(capfd):
    clock = Clock()
    with watching(FakeTrainer(), clock, progress=True) as watch:
        show(watch, clock, range(2000), seconds=0.01)  # an epoch a second
    assert [line.split()[2] for line in lines_of(capfd)] == ["1/10000", "1100/10000", "2000/10000"]


def test_an_eta_follows_the_last_minute(capfd):
    clock = Clock()
    with watching(FakeTrainer(step_number=9000), clock, progress=True) as watch:
        show(watch, clock, range(9000, 9100), seconds=1.0)
        show(watch, clock, range(9100, 9160), seconds=10.0, waited=1.5)
    last = lines_of(capfd)[-1]
    assert "step 9160/10000 (91%), epoch 91.6/100, 100 jets/s, ETA 2:20:00" in last and "waiting 15%" in last


def test_slow_and_skipped_steps_and_particles_alone_are_shown(capfd):
    clock = Clock()
    with watching(FakeTrainer(), clock, progress=True) as watch, pytest.warns(RinoWarning, match="skipped"):
        numbers = report(0, skipped=1.0, loss=math.nan, particle_teacher_entropy=math.log(2))
        clock.now += 2000
        watch.step({name: value for name, value in numbers.items() if name != "teacher_entropy" and name != "dino"})
    (line,) = lines_of(capfd)
    assert "0.500 jets/s, ETA 231 d 11 h, loss nan, entropy 0.50 ln K, waiting 2%, 1 skipped" in line


def test_without_progress_nothing_is_shown(capfd):
    clock = Clock()
    with watching(FakeTrainer(), clock) as watch:
        show(watch, clock, range(100), seconds=2.0)
    assert capfd.readouterr() == ("", "")


@contextmanager
def terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Standard error is one; what was written to it is in the list afterwards."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written: list[str] = []
    pieces: list[bytes] = []

    def drain() -> None:
        with suppress(OSError):  # the other end was closed
            while piece := os.read(ours, 65536):
                pieces.append(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(theirs, "w") as stream:
        patch.setattr(sys, "stderr", stream)
        yield written
    reader.join()
    os.close(ours)
    written.append(b"".join(pieces).decode())


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, " 2%|      | epoch 1.5/100, 4.00k jets/s, ETA 41:02, loss 1.25, H 0.50, wait 2%"),
        (
            120,
            "pretraining   2%|▎                  | epoch 1.5/100, 4.00k jets/s, ETA 41:02, loss 1.250, "
            "entropy 0.50 ln K, waiting 2%",
        ),
        (60, "epoch 1.5/100, 4.00k jets/s, ETA 41:02, loss 1.25, H 0.50,"),
    ],
)
def test_a_terminal_gets_a_bar_of_its_width(columns, shown, monkeypatch):
    clock = Clock()
    with terminal(columns, monkeypatch) as written, watching(FakeTrainer(), clock, progress=True) as watch:
        show(watch, clock, range(150), seconds=0.25, waited=0.005)
    drawn = [text for text in written[0].replace("\n", "\r").split("\r") if text.strip()]
    assert len(drawn) == 153  # before the first step and twice at the end, too
    assert max(map(len, drawn)) <= columns
    assert drawn[-1].strip() == shown.strip()


def test_a_bar_is_not_redrawn_for_every_step_of_milliseconds(monkeypatch):
    clock = Clock()
    with terminal(80, monkeypatch) as written, watching(FakeTrainer(), clock, progress=True) as watch:
        show(watch, clock, range(1000), seconds=2.0**-10)
    assert 9 <= len([text for text in written[0].split("\r") if "loss" in text]) <= 12
    assert "epoch 10.0/100" in written[0]


def test_a_bar_in_a_notebook_is_redrawn_every_other_second(monkeypatch):
    clock = Clock()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, version_info=(9,)))
    with terminal(80, monkeypatch) as written, watching(FakeTrainer(), clock, progress=True) as watch:
        show(watch, clock, range(1000), seconds=2.0**-6)  # 15.6 s
    assert 8 <= len([text for text in written[0].split("\r") if "loss" in text]) <= 10


def test_warnings_are_written_above_the_bar(monkeypatch):
    clock = Clock()
    with terminal(120, monkeypatch) as written, warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: print(message, file=sys.stderr))
        with watching(FakeTrainer(), clock, progress=True) as watch:
            show(watch, clock, range(3), seconds=1.0)
            show(watch, clock, range(3, 4), seconds=1.0, skipped=1.0, loss=math.inf)
    before, _, after = written[0].partition("step 3 is skipped")
    assert before.endswith("\r")  # the line was emptied: nothing but blanks since the return before
    assert before.rstrip("\r").rpartition("\r")[2].strip() == ""
    assert "  0%|" in after.partition("\n")[2]


# --- TensorBoard ---


def logged(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def scalars(log: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in log.Scalars(tag)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, float]], list[dict[str, Any]], Path]:
    """Reports and snapshots of a run with both losses, and its log."""
    folder = tmp_path_factory.mktemp("log")
    trainer = Trainer(tiny(batch_size=10, epochs=2, ibot=1.0, **{"head.prototypes": 6}), small_jets(N))
    reports, snapshots = [], []
    with Watch(trainer, tensorboard=folder, progress=False) as watch:
        for step in trainer:
            reports.append(step)
            snapshots.append(trainer._core.snapshot())
            watch.step(step)
    return reports, snapshots, folder


def test_every_number_of_a_step_is_logged_under_its_name(run):
    reports, _, folder = run
    log = logged(folder)
    names = set(reports[0]) - {"step", "seconds", "waited"}
    assert {"loss", "dino", "ibot", "koleo", "teacher_entropy", "particle_prototype_entropy", "lr"} <= names
    for name in names:
        assert scalars(log, name) == pytest.approx({i: r[name] for i, r in enumerate(reports)}, rel=1e-6)
    shares = {i: r["waited"] / r["seconds"] for i, r in enumerate(reports)}
    assert scalars(log, "waited") == pytest.approx(shares, rel=1e-6)
    rates = scalars(log, "speed/jets_per_second")
    slowest, fastest = (10 / pick(r["seconds"] for r in reports) for pick in (max, min))
    assert list(rates) == list(range(8)) and slowest / 20 < rates[7] < fastest
    others = {tag for tag in log.Tags()["scalars"] if tag not in names}
    assert {tag.partition("/")[0] for tag in others} == {"waited", "speed", "collapse"}


def test_signs_of_a_collapse_are_logged_relative_to_where_they_end(run):
    reports, snapshots, folder = run
    log = logged(folder)
    for name in ("teacher_entropy", "prototype_entropy", "particle_teacher_entropy", "particle_prototype_entropy"):
        wanted = {i: r[name] / math.log(6) for i, r in enumerate(reports)}
        assert scalars(log, f"collapse/{name}_over_ln_K") == pytest.approx(wanted, rel=1e-6)
        assert 0 < max(wanted.values()) <= 1 + 1e-6
    for prefix in ("", "particle_"):
        wanted = {}
        for i, snapshot in enumerate(snapshots):
            usage = snapshot[f"{prefix}prototype_usage"].double()
            assert usage.shape == (6,) and float(usage.sum()) == pytest.approx(1, abs=1e-5)
            wanted[i] = math.exp(-float((usage * usage.log()).sum()))
        assert scalars(log, f"collapse/{prefix}prototypes_used") == pytest.approx(wanted, rel=1e-4)


def test_prototype_usage_is_a_histogram_in_units_of_the_equal_share(run):
    _, snapshots, folder = run
    log = logged(folder)
    for name in ("prototype_usage", "particle_prototype_usage"):
        events = {event.step: event.histogram_value for event in log.Histograms(name)}
        assert 0 in events
        for step, histogram in events.items():
            usage = 6 * snapshots[step][name].double()
            assert histogram.num == 6 and histogram.sum == pytest.approx(6, abs=1e-4)
            assert [histogram.min, histogram.max] == pytest.approx([float(usage.min()), float(usage.max())])
            assert sum(histogram.bucket) == 6


def test_the_rank_of_the_embeddings_is_logged(run):
    _, snapshots, folder = run
    ranks = scalars(logged(folder), "collapse/embedding_rank")
    assert 0 in ranks
    for step, rank in ranks.items():
        z = snapshots[step]["embeddings"].double()
        assert z.shape == (10, 8)
        singular = torch.linalg.eigvalsh(torch.cov(z.T)).clamp_min(0).sqrt()
        share = singular / singular.sum()
        assert rank == pytest.approx(math.exp(-float(torch.xlogy(share, share).sum())), rel=1e-4)


def test_the_log_says_which_curves_belong_together(run):
    from tensorboard.plugins.custom_scalar import layout_pb2

    log = logged(run[2])
    (event,) = log.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["loss", "method", "speed", "schedules"]
    import re

    patterns = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    tags = set(log.Tags()["scalars"])
    absent = {"^gram$"}
    assert all(any(re.search(pattern, tag) for tag in tags) for pattern in patterns if pattern not in absent)


def test_collapsed_embeddings_have_rank_one(tmp_path):
    trainer = FakeTrainer()
    trainer._core.snapshot = lambda: {"embeddings": torch.ones(5, 3)}
    with Watch(trainer, tensorboard=tmp_path, progress=False) as watch:
        watch.step(report(0))
        trainer._core.snapshot = lambda: {"embeddings": torch.full((5, 3), torch.nan)}
        watch.step(report(10))
    assert scalars(logged(tmp_path), "collapse/embedding_rank") == {0: 1.0}


def test_a_long_run_is_logged_every_so_many_steps(tmp_path):
    trainer = FakeTrainer(epochs=1000)  # 100,000 steps
    trainer._core.snapshot = lambda: {"prototype_usage": torch.full((4,), 0.25)}
    with Watch(trainer, tensorboard=tmp_path, progress=False) as watch:
        for step in range(301):
            watch.step(report(step))
    log = logged(tmp_path)
    assert list(scalars(log, "loss")) == list(range(0, 301, 5))
    assert [event.step for event in log.Histograms("prototype_usage")] == [0, 100, 200, 300]


def test_the_log_takes_a_hundredth_of_the_time(tmp_path):
    """After an allowance of 0.2 s: snapshots of 20 ms beside steps of 100 ms are due every 40 steps."""
    trainer = FakeTrainer(epochs=2)
    taken = []

    def snapshot() -> dict[str, torch.Tensor]:
        taken.append(time.sleep(0.02))
        return {}

    trainer._core.snapshot = snapshot
    with Watch(trainer, tensorboard=tmp_path, progress=False) as watch:
        for step in range(200):
            watch.step(report(step, seconds=0.1, waited=0.0))
    assert 10 <= len(taken) <= 1 + (0.2 + 0.005 * 200 * 0.1) / 0.02


def test_warnings_are_logged_as_text(tmp_path):
    with Watch(FakeTrainer(), tensorboard=tmp_path, progress=False) as watch, pytest.warns(RinoWarning):
        watch.step(report(7, skipped=1.0, loss=math.nan))
    (event,) = logged(tmp_path).Tensors("warnings/text_summary")
    assert event.step == 7 and b"step 7 is skipped" in event.tensor_proto.string_val[0]


def test_a_batch_that_is_larger_than_all_jets_is_said(caplog):
    trainer = Trainer(tiny(batch_size=1000), small_jets(N))
    assert trainer.batch_size == N and trainer.steps_per_epoch == 1
    assert caplog.messages == ["training.batch_size is 1000, more than there are jets: a step takes 40"]
    Trainer(tiny(batch_size=N), small_jets(N))
    assert len(caplog.messages) == 1


# --- what watches ends no run ---


def test_copies_of_one_jet_are_trained_on_to_the_end(tmp_path):
    """Their embeddings differ by rounding or not at all: no effective rank, which the log's monitor once raised for."""
    same = Jets.concatenate([small_jets(1)] * 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = pretrain(tiny(epochs=5, batch_size=4), same, tmp_path / "run", progress=False)
    assert run.history.rows == 20 and (tmp_path / "run" / "checkpoint.safetensors").is_file()
    assert set(scalars(logged(tmp_path / "run" / "tensorboard"), "collapse/embedding_rank").values()) == {1.0}


def lost(watch: Watch, match: str) -> None:
    """Steps of a run of which a part fails: told once, whenever it is, and the alarm of collapse goes on."""
    with pytest.warns(RinoWarning) as caught, watch:
        for step in range(300):
            watch.step(report(step, **{name: LN4 * share for name, share in FEW.items()}))
    texts = [str(one.message) for one in caught]
    assert [match in text for text in texts].count(True) == 1, texts
    assert [text for text in texts if "Training goes on" not in text] == [texts[-1 if match in texts[0] else 0]]
    assert sum("training collapses" in text for text in texts) == 1 and len(texts) == 2


@contextmanager
def standard_error(stream: Any) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield stream


def test_a_log_folder_that_cannot_be_made_ends_no_run(tmp_path):
    (tmp_path / "file").touch()
    watch = Watch(FakeTrainer(lr=1e-4), tensorboard=tmp_path / "file" / "log", progress=False)
    lost(watch, "TensorBoard's log is not written any more; a run that is resumed begins a new one (NotADirectoryError")


def test_a_disk_that_fills_up_ends_no_run(tmp_path):
    """Files of the process may not grow beyond 16 kB, which is heard of as a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, hard))
    try:
        lost(Watch(FakeTrainer(lr=1e-4), tensorboard=tmp_path, progress=False), "any more; a run that is resumed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 16384
    assert len(scalars(logged(tmp_path), "loss")) > 10  # what was written before is read


def test_a_snapshot_that_fails_ends_no_run(tmp_path):
    trainer = FakeTrainer(lr=1e-4)

    def snapshot() -> dict[str, torch.Tensor]:
        raise RuntimeError("out of memory")

    trainer._core.snapshot = snapshot
    lost(Watch(trainer, tensorboard=tmp_path, progress=False), "(RuntimeError: out of memory)")
    assert list(scalars(logged(tmp_path), "loss")) == [0]


def test_a_closed_standard_error_ends_no_run():
    """As after ``pyrino pretrain ... 2>&1 | head`` or in a terminal that was closed."""
    theirs, ours = os.pipe()
    os.close(theirs)
    clock = Clock()
    with os.fdopen(ours, "wb", buffering=0) as raw, standard_error(io.TextIOWrapper(raw, write_through=True)) as stream:
        lost(watching(FakeTrainer(lr=1e-4), clock, progress=True), "progress is not shown any more (BrokenPipeError")
        stream.detach()


def test_without_a_standard_error_there_is_no_progress():
    with standard_error(None), watching(FakeTrainer(), Clock(), progress=True) as watch:
        watch.step(report(0))


class Warner(rino.Method):
    """Says something about every step."""

    name = "test-warner"

    def networks(self):
        return {"encoder": rino.JetEncoder(self.recipe)}

    def warnings(self, report):
        self.steps = getattr(self, "steps", 0) + 1
        said = {"many": f"{self.steps} steps"} if self.steps > 2 else {}
        return said | ({"rank": "the rank is low"} if report.get("embedding_rank", 9) < 1.5 else {})

    def shown(self, report):
        return [f"mine {report['loss']:.1f}", ("at length", "short")]


def test_what_a_method_of_python_warns_of_is_told_once_and_shown(tmp_path, capfd):
    recipe = Recipe("test-warner", **{"encoder.width": 8, "encoder.heads": 2, "encoder.layers": 1})
    trainer = FakeTrainer()
    trainer.recipe, trainer.method = recipe, Warner(recipe)
    trainer._core.snapshot = lambda: {"embeddings": torch.ones(8, 4)}
    clock = Clock()
    with watching(trainer, clock, progress=True, tensorboard=tmp_path) as watch, pytest.warns(RinoWarning) as caught:
        for step in range(6):
            watch.step(report(step))
    assert [str(w.message) for w in caught] == ["the rank is low", "3 steps"]
    assert "loss 1.250, mine 1.2, at length, waiting" in lines_of(capfd)[-1]
    with watching(trainer, clock, rank=1) as watch:  # the first rank tells
        watch.step(report(6))


@pytest.mark.parametrize(("said", "told"), [("one text", ["one text"]), (["a", "b", "a"], ["a", "b"]), (None, [])])
def test_warnings_may_be_texts_alone(said, told):
    recipe = Recipe("test-warner", **{"encoder.width": 8, "encoder.heads": 2, "encoder.layers": 1})
    trainer = FakeTrainer()
    trainer.recipe, trainer.method = recipe, Warner(recipe)
    trainer.method.warnings = lambda report: said
    with watching(trainer, Clock()) as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            watch.step(report(step))
    assert [str(w.message) for w in caught] == told


def test_an_alarm_that_fails_ends_no_run(tmp_path):
    with Watch(FakeTrainer(), tensorboard=tmp_path, progress=False) as watch:
        watch._alarm.step = lambda report: 1 / 0
        with pytest.warns(RinoWarning, match=r"nobody looks for signs of collapse .*ZeroDivisionError") as caught:
            for step in range(5):
                watch.step(report(step))
    assert len(caught) == 1 and len(scalars(logged(tmp_path), "loss")) == 5


def test_a_run_goes_on_without_its_log_and_says_so_where_it_was_started(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.warns(RinoWarning, match="No space left on device") as caught:
        run = pretrain(tiny(epochs=1, batch_size=10), small_jets(N), tmp_path / "run", progress=False)
    assert run.history.rows == 4 and len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize("stream", ["broken", None])
def test_bars_of_other_work_end_nothing(stream):
    from pyrino.bars import progress_bar

    theirs, ours = os.pipe()
    os.close(theirs)
    with os.fdopen(ours, "wb", buffering=0) as raw:
        with standard_error(io.TextIOWrapper(raw, write_through=True) if stream else None) as theirs:
            assert list(progress_bar(range(3), mininterval=0)) == [0, 1, 2]
            if theirs:
                theirs.detach()


# --- collapse ---


def alarms(recipe: Recipe, steps: int, jets: Jets | None = None) -> Iterator[tuple[int, str]]:
    """Steps of a run and what was said then."""
    trainer = Trainer(recipe, small_jets(128) if jets is None else jets)
    alarm = CollapseAlarm(trainer.recipe)
    for number in range(steps):
        step = trainer.step()
        assert not step["skipped"]
        said = alarm.step(step)
        if number % 10 == 0:
            embeddings = trainer._core.snapshot()["embeddings"].double().numpy()
            said += alarm.rank(rino.evaluate.effective_rank(embeddings), embeddings.shape[1])
        yield from ((number, message) for message in said)


def constant(**numbers: Any) -> Recipe:
    """A recipe with the learning rate at its peak from the first step."""
    shape = {"epochs": 200, "batch_size": 8, "warmup": 0.0, "final_lr": 1.0, "lr": 1e-3, "koleo": 0.1}
    return tiny(**{**shape, "head.prototypes": 16, "views.student": [4], **numbers})


@pytest.mark.parametrize(
    ("steps", "numbers"),
    [
        (560, {}),
        (300, {"assignment": "centering"}),
        (300, {"koleo": 0.0, "lr": 1e-2}),
        (300, {"ibot": 1.0, "warmup": 0.2}),
    ],
)
def test_healthy_runs_are_silent(steps, numbers):
    assert list(alarms(constant(**numbers), steps)) == []


def test_a_healthy_run_that_begins_with_equal_embeddings_is_silent():
    """Small layer scales: the entropy stays within half a percent of ln K for a hundred steps."""
    small = {"encoder.width": 16, "encoder.heads": 2, "encoder.layers": 2, "encoder.feedforward": 32}
    small |= {"head.prototypes": 64, "head.hidden_width": 64, "head.bottleneck": 16, "radial_bins": 8}
    small |= {"angular_bins": 8, "teacher": [2, 4], "student": [3, "all"], "student_drawn": 1, "ibot": 0.0}
    small = {"views." + name if name in ("teacher", "student") else name: value for name, value in small.items()}
    recipe = Recipe.preset("rino", batch_size=16, epochs=60, precision="float32", **small)
    trainer = Trainer(recipe, small_jets(128))
    alarm = CollapseAlarm(recipe)
    entropies = []
    for _ in range(480):
        step = trainer.step()
        assert alarm.step(step) == []
        entropies.append(step["teacher_entropy"] / math.log(64))
    assert np.mean(entropies[50:100]) > 0.98 and np.mean(entropies[-20:]) < 0.99


@pytest.mark.parametrize(
    ("numbers", "within", "reason", "remedy"),
    [
        (
            {"koleo": 0.0, "teacher_temperature_start": 1.0, "teacher_temperature_end": 1.0},
            600,
            r"assigns every jet to all prototypes alike: its entropy is 2\.77 nats, (100|99\.\d+)% of ln K with K = 16",
            r"Lower loss\.teacher_temperature_\* \(now 1; the student's is 0\.1\) or optimizer\.lr \(now 0\.001\)",
        ),
        (
            {"lr": 20.0},
            400,
            r"(prototypes alike: its entropy is|than a uniform guess would: the cross-entropy dino is) 2",
            r"optimizer\.lr \(now 20\)",
        ),
        (
            {
                "koleo": 0.0,
                "assignment": "centering",
                "center_momentum": 1.0,
                "momentum_start": 0.5,
                "momentum_end": 0.5,
                "lr": 1e-2,
            },
            400,
            r"assigns jets to [12]\.\d of 16 prototypes: the entropy of its mean assignment is 0\.\d+ nats",
            r"loss\.assignment 'sinkhorn' \(now 'centering'\), lower loss\.center_momentum \(now 1\)",
        ),
        (
            {"koleo": 0.0, "assignment": "centering", "momentum_start": 0.0, "momentum_end": 0.0, "lr": 1e-2},
            400,
            # Which of its signs comes first differs between processors.
            r"(assigns all jets alike: the entropy of one|jets to 1\.\d of 16 prototypes|than a uniform guess)",
            r"('sinkhorn' \(now 'centering'\)|Lower optimizer\.lr \(now 0\.01\))",
        ),
    ],
)
def test_collapses_are_told(numbers, within, reason, remedy):
    import re

    step, message = next(alarms(constant(**numbers), within), (None, "nothing"))
    assert re.search(reason, message) and re.search(remedy, message), (step, message)
    assert message.startswith("training collapses: ")


LN4 = math.log(4)
HEALTHY = {"dino": 0.6, "teacher_entropy": 0.5, "prototype_entropy": 1.0}
UNIFORM = {"dino": 1.0, "teacher_entropy": 0.999, "prototype_entropy": 1.0}
GUESS = {"dino": 1.01, "teacher_entropy": 0.7, "prototype_entropy": 1.0}
SAME = {"dino": 0.6, "teacher_entropy": 0.5, "prototype_entropy": 0.51}
FEW = {"dino": 0.1, "teacher_entropy": 0.1, "prototype_entropy": 0.2}


def told(
    alarm: CollapseAlarm, steps: int, shares: Mapping[str, float], prefix: str = "", lr: float = 1e-4
) -> list[str]:
    """What an alarm says of so many steps with these numbers in units of ln 4."""
    names = {"dino": "ibot" if prefix else "dino"}
    numbers = {names.get(name, prefix + name): LN4 * share for name, share in shares.items()}
    return [said for _ in range(steps) for said in alarm.step({"lr": lr, "teacher_temperature": 0.04, **numbers})]


@pytest.mark.parametrize(("prefix", "what"), [("", "jet"), ("particle_", "masked constituent")])
@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        (UNIFORM, "assigns every {} to all prototypes alike: its entropy is 1.38 nats, 99.9% of ln K with K = 4"),
        (GUESS, "assignment of a {} no better than a uniform guess would"),
        (SAME, "assigns all {}s alike: the entropy of one assignment is 0.693 nats, 50% of ln K with K = 4, that of"),
        (FEW, "assigns {}s to 1.3 of 4 prototypes: the entropy of its mean assignment is 0.277 nats, 20% of ln K"),
    ],
)
def test_a_sign_is_told_once_and_again_when_it_comes_back(shares, reason, prefix, what):
    alarm = CollapseAlarm(tiny(lr=1e-4))
    assert told(alarm, 300, HEALTHY, prefix) == []
    (said,) = told(alarm, 1000, shares, prefix)
    assert reason.format(what) in said
    assert told(alarm, 200, HEALTHY, prefix) == []
    assert told(alarm, 49, shares, prefix) == []
    assert told(alarm, 1000, shares, prefix) == [said]


def test_one_sign_speaks_for_those_it_brings_along():
    """A uniform teacher makes the student guess and all jets alike."""
    alarm = CollapseAlarm(tiny(lr=1e-4))
    told(alarm, 300, HEALTHY)
    (said,) = told(alarm, 3000, {"dino": 1.2, "teacher_entropy": 1.0, "prototype_entropy": 1.0})
    assert "to all prototypes alike" in said


def test_what_comes_and_goes_is_not_told():
    alarm = CollapseAlarm(tiny(lr=1e-4))
    told(alarm, 300, HEALTHY)
    for _ in range(10):
        assert told(alarm, 90, UNIFORM) + told(alarm, 40, HEALTHY) == []


def test_the_start_of_a_run_is_measured_by_its_learning_rate():
    def steps_until_told(shares: Mapping[str, float], lr: float, most: int) -> int | None:
        alarm = CollapseAlarm(tiny(lr=1e-4))
        return next((step for step in range(1, most) if told(alarm, 1, shares, lr=lr)), None)

    # Fifty steps it lasts.
    assert steps_until_told(UNIFORM, 1e-4, 1000) == 549
    assert steps_until_told(UNIFORM, 1e-5, 5500) == pytest.approx(5049, abs=1)
    assert steps_until_told(UNIFORM, 0.0, 3000) is None
    assert steps_until_told(SAME, 1e-4, 1000) == 249
    assert steps_until_told(FEW, 1e-4, 1000) == 249
    assert steps_until_told(FEW, 5e-5, 1000) == pytest.approx(449, abs=1)


def test_a_run_that_falls_back_has_less_time():
    alarm = CollapseAlarm(tiny(lr=1e-4))
    assert told(alarm, 60, HEALTHY) == []
    assert told(alarm, 80, UNIFORM) == []
    (said,) = told(alarm, 80, UNIFORM)
    assert "prototypes alike" in said


def test_a_run_that_leaves_the_uniform_assignment_slowly_has_more_time():
    def until(growth: float) -> int | None:
        alarm = CollapseAlarm(tiny(lr=1e-4))
        for step in range(1, 5000):
            share = max(1 - 0.002 * growth**step, 0.9805)
            if told(alarm, 1, {"dino": share, "teacher_entropy": share, "prototype_entropy": 1.0}):
                return step
        return None

    assert until(1.0) == 549
    assert until(1.002) == pytest.approx(2049, abs=1)  # by then it has not left


def test_ranks_near_one_are_told():
    alarm = CollapseAlarm(tiny(lr=1e-4))
    assert alarm.rank(1.0, 8) == []
    told(alarm, 300, HEALTHY)
    assert [alarm.rank(rank, 8) for rank in (1.0, 5.0, 1.1, 1.2)] == [[]] * 4
    (said,) = alarm.rank(1.3, 8)
    assert "effective rank of the teacher's embeddings is 1.30 of 8" in said
    assert "Raise loss.koleo (now 1) or lower optimizer.lr (now 0.0001)" in said
    assert [alarm.rank(rank, 8) for rank in (1.0, 2.5, 2.5, 2.5, 1.0, 1.0, 1.0)] == [[]] * 7
    assert [len(alarm.rank(rank, 8)) for rank in (4.0, 4.0, 4.0, 1.0, 1.0, 1.0)] == [0, 0, 0, 0, 0, 1]


def test_a_resumed_run_knows_how_far_it_is():
    for steps in (0, 3, 12_345):
        trainer = FakeTrainer(epochs=1000, step_number=steps, lr=2e-3)
        path = sum(min(1.0, step / 1000) for step in range(steps))
        assert Watch(trainer, tensorboard=None, progress=False)._alarm._path == pytest.approx(path, rel=2e-3)


def test_a_collapse_is_a_warning_of_the_run():
    with Watch(FakeTrainer(lr=1e-4), tensorboard=None, progress=False) as watch:
        numbers = {name: LN4 * share for name, share in FEW.items()}
        with pytest.warns(RinoWarning, match=r"training collapses: the teacher assigns jets to 1\.3 of 4") as caught:
            for step in range(300):
                watch.step(report(step, **numbers))
    assert len(caught) == 1


# --- the loader ---


def test_a_starving_loader_is_told_once_and_again_when_it_comes_back():
    clock = Clock()
    with watching(FakeTrainer(), clock) as watch, pytest.warns(RinoWarning) as caught:
        show(watch, clock, range(100), seconds=1.0, waited=0.1)
        assert not caught.list
        show(watch, clock, range(100, 400), seconds=1.0, waited=0.35)
        (first,) = caught.list
        show(watch, clock, range(400, 500), seconds=1.0, waited=0.15)
        show(watch, clock, range(500, 600), seconds=1.0, waited=0.35)
        assert len(caught.list) == 1
        show(watch, clock, range(600, 700), seconds=1.0, waited=0.01)
        show(watch, clock, range(700, 800), seconds=1.0, waited=0.35)
    assert len(caught.list) == 2
    text = str(first.message)
    assert "the loader starves training: in the last 60 s the steps waited for jets 2" in text
    assert "Raise training.loader_threads (now 1)" in text and "pyrino pack" in text and "--reader-threads" in text


@pytest.mark.parametrize(("seconds", "steps"), [(0.01, 999), (0.15, 60), (1.0, 49), (10.0, 5)])
def test_the_first_seconds_and_steps_say_nothing_of_the_loader(seconds, steps):
    clock = Clock()
    with watching(FakeTrainer(), clock) as watch:
        show(watch, clock, range(steps), seconds, waited=0.9 * seconds)
        with pytest.warns(RinoWarning, match="starves training.* 90% of"):
            show(watch, clock, range(steps, 10 * steps), seconds, waited=0.9 * seconds)


def test_other_ranks_speak_of_their_loader_alone(tmp_path, capfd):
    clock = Clock()
    with watching(FakeTrainer(), clock, rank=3, progress=True, tensorboard=tmp_path / "log") as watch:
        with pytest.warns(RinoWarning) as caught:
            show(watch, clock, range(300), seconds=1.0, waited=0.5, **{name: LN4 * s for name, s in FEW.items()})
            show(watch, clock, range(300, 301), seconds=1.0, skipped=1.0, loss=math.nan)
    assert ["on rank 3: in the last 50 s" in str(one.message) for one in caught.list] == [True]
    assert not (tmp_path / "log").exists() and capfd.readouterr().err == ""


# --- steps that are not finite ---


def broken(which: range) -> Jets:
    """Jets, some of them of 1e60 GeV, which float32 does not hold."""
    jets = small_jets(N)
    p4 = np.array(jets.p4)
    for j in which:
        p4[jets.offsets[j] : jets.offsets[j + 1]] *= 1e60
    with pytest.warns(RinoWarning, match="are the momenta in MeV"):
        return Jets(p4, jets.offsets)


def quiet(recipe: Recipe, jets: Jets, out: Path, **more: Any) -> rino.PretrainingRun:
    return pretrain(recipe, jets, out, progress=False, tensorboard=False, **more)


def test_every_skipped_step_is_told_and_counted(tmp_path):
    jets = broken(range(1))
    with pytest.warns(RinoWarning) as caught:
        run = quiet(tiny(batch_size=8, epochs=3), jets, tmp_path / "run")
    skipped = np.flatnonzero(run.history["skipped"])
    assert len(skipped) == run.skipped == 3  # once an epoch
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(run.history["loss"])), skipped)
    texts = [str(one.message) for one in caught]
    assert [text.partition(" is skipped")[0] for text in texts] == [f"step {step}" for step in skipped]
    assert "its loss is nan, the norm of the gradient nan, not finite in it: dino, koleo" in texts[0]
    assert (
        "3 skipped so far; three in a row stop the run. If this goes on, take a lower optimizer.lr (now 0.0001)"
        in texts[2]
    )
    assert caught[0].filename == __file__
    assert repr(run).endswith(", 3 skipped)")
    figure = run.plot()
    labels = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert labels.count("3 skipped") == 1


def test_no_skipped_steps_are_not_mentioned(tmp_path):
    run = quiet(tiny(batch_size=20, epochs=1), small_jets(N), tmp_path / "run")
    assert run.skipped == 0 and repr(run).endswith("loader)") and set(run.history["skipped"]) == {0.0}


def test_the_jets_that_stopped_a_run_are_saved_and_the_checkpoint_stays(tmp_path):
    jets, recipe, out = broken(range(N)), tiny(batch_size=8, epochs=3), tmp_path / "run"
    trainer = Trainer(recipe, jets)
    with pytest.raises(RinoError, match="in a row"):
        list(trainer)
    wanted = Jets._wrap(trainer._core.batch())
    assert len(wanted) == 8

    file = out / "failed" / "step_2_rank_0.parquet"
    with pytest.warns(RinoWarning) as caught, pytest.raises(RinoError) as failure:
        quiet(recipe, jets, out, checkpoint_minutes=0.0)
    assert len(caught) == 2
    assert f"The jets of step 2 are in {file}: read_jets reads them" in str(failure.value)
    assert "start again with a lower optimizer.lr (now 0.0001) or higher temperatures" in str(failure.value)
    with pytest.warns(RinoWarning, match="are the momenta in MeV"):
        found = rino.read_jets(file, columns=["origin_entry"] if wanted.origins else [])
    assert found.p4.dtype == np.float64
    np.testing.assert_array_equal(found.p4, wanted.p4)
    np.testing.assert_array_equal(found.offsets, wanted.offsets)
    rows = {row.tobytes() for row in np.ascontiguousarray(jets.p4)}
    assert all(row.tobytes() in rows for row in np.ascontiguousarray(found.p4))

    assert sorted(os.listdir(out)) == ["checkpoint.safetensors", "failed", "history.parquet", "recipe.toml"]
    assert os.listdir(out / "failed") == [file.name]
    assert rino.History.load(out / "history.parquet")["skipped"].tolist() == [1, 1]
    before = (out / "checkpoint.safetensors").read_bytes()
    file.unlink()
    with pytest.raises(RinoError, match="in a row"):  # the third in a row also after resuming
        quiet(recipe, jets, out, resume=True)
    assert file.is_file() and (out / "checkpoint.safetensors").read_bytes() == before
    quiet(recipe, small_jets(N), out, overwrite=True)
    assert not (out / "failed").exists()


def test_a_run_that_stopped_before_its_first_checkpoint_keeps_its_history_and_starts_anew(tmp_path, caplog):
    jets, recipe, out = broken(range(N)), tiny(batch_size=8, epochs=3), tmp_path / "run"
    with pytest.warns(RinoWarning), pytest.raises(RinoError, match="in a row"):
        quiet(recipe, jets, out)
    assert sorted(os.listdir(out)) == ["failed", "history.parquet", "recipe.toml"]
    assert rino.History.load(out / "history.parquet").rows == 2
    with caplog.at_level("INFO", logger="pyrino"):
        run = quiet(recipe, small_jets(N), out, resume=True)
    assert f"there is no checkpoint in {out}: the run starts anew" in caplog.text
    assert run.resumed_at == 0 and run.skipped == 0


def test_a_batch_that_cannot_be_saved_leaves_the_first_error_readable(tmp_path):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.warns(RinoWarning):

        def full(jets: Jets, path: Path) -> None:
            raise RinoError(f"{path} cannot be written: No space left on device")

        patch.setattr("pyrino.training.watch.save_batch", full)
        with pytest.raises(RinoError, match=r"in a row .*jets of step 2 could not be saved: .*No space left"):
            quiet(tiny(batch_size=8, epochs=3), broken(range(N)), out)


def test_other_errors_of_a_step_save_nothing(tmp_path):
    with pytest.raises(RinoError, match=r"^a momentum is not finite in data\.root$"):
        with Watch(FakeTrainer(), tensorboard=None, progress=False, failed=tmp_path / "failed"):
            raise RinoError("a momentum is not finite in data.root")
    assert os.listdir(tmp_path) == []


def test_saved_jets_say_where_they_are_from(tmp_path):
    import pyarrow.parquet as pq

    jets = small_jets(5).with_origins(["a.root", "b.root"], [1, 1, 0, 1, 0], [7, 3, 2, 9, 1])
    save_batch(jets, tmp_path / "new" / "jets.parquet")
    table = pq.read_table(tmp_path / "new" / "jets.parquet")
    assert table["origin_file"].to_pylist() == ["b.root", "b.root", "a.root", "b.root", "a.root"]
    found = rino.read_jets(tmp_path / "new", columns="origin_entry")
    assert found.values["origin_entry"].tolist() == [7, 3, 2, 9, 1] and found.labels is None
    np.testing.assert_array_equal(found.p4, jets.p4)
    np.testing.assert_array_equal(found.offsets, jets.offsets)
    assert os.listdir(tmp_path / "new") == ["jets.parquet"]


# --- the picture ---


def test_skipped_steps_are_marked_in_the_picture():
    skipped = np.zeros(9)
    skipped[[2, 5]] = 1
    columns = {"step": np.arange(9), "loss": np.where(skipped, np.nan, 1.0), "skipped": skipped, "lr": np.ones(9)}
    figure = training_curves({**columns, "gradient_norm": np.ones(9)})
    loss, lr, norm = figure.axes
    assert len(lr.lines) == 1
    for axes in (loss, norm):
        marks = axes.lines[-1]
        assert marks.get_xdata().tolist() == [2, 5] and marks.get_marker() == "^"
    assert len(training_curves({**columns, "skipped": np.zeros(9)}).axes[0].lines) == 1


def test_entropies_and_losses_of_particles_have_their_place_in_the_picture():
    names = ("loss", "dino", "koleo", "ibot", "gram", "teacher_entropy", "particle_teacher_entropy")
    figure = training_curves({name: [2.0, 1.0] for name in (*names, "particle_prototype_entropy")}, n_prototypes=8)
    assert [axes.get_title() for axes in figure.axes] == [
        *("loss", "teacher entropy [nats]", "teacher entropy, particles [nats]"),
    ]
    assert [len(axes.lines) for axes in figure.axes] == [5, 2, 3]
    for axes in figure.axes[1:]:
        (scale,) = axes.child_axes
        figure.savefig(io.BytesIO(), format="png")
        assert scale.get_ylabel() == "of ln K"
        assert scale.get_ylim() == pytest.approx(np.array(axes.get_ylim()) / math.log(8))
    assert training_curves({"teacher_entropy": [1.0]}).axes[0].child_axes == []
