"""Pretraining: a step against plain PyTorch, schedules, reproducibility, stopping and resuming, files."""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import ReferenceEncoder, ReferenceHead, assert_same_weights, small_jets, tiny

import pyrino as rino
from pyrino import History, Jets, Recipe, RinoError, Trainer, pretrain
from pyrino.training.pretrain import as_recipe

N = 20  # jets


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(N)


def short(**overrides: Any) -> Recipe:
    """4 epochs of 3 steps with everything random in it."""
    numbers = {"epochs": 4, "batch_size": 6, "lr": 1e-2, "student_drawn": 2, "seed": 3}
    return tiny(**{**numbers, **overrides})


def train(trainer: Trainer) -> list[dict[str, float]]:
    return list(trainer)


CLOCKS = ("seconds", "waited")


def numbers(reports: list[dict[str, float]]) -> list[dict[str, float]]:
    """What a step reports, without the times."""
    return [{name: value for name, value in report.items() if name not in CLOCKS} for report in reports]


def state_of(trainer: Trainer, folder: Path) -> dict[str, torch.Tensor]:
    trainer.save(folder / "state")
    return safetensors.torch.load_file(folder / "state")


def part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


# --- one step, in plain PyTorch ---


def cosine(start: float, end: float, position: float, total: float) -> float:
    return end if position >= total else end + (start - end) * (1 + math.cos(math.pi * position / total)) / 2


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    t = recipe.training
    peak, warmup = recipe.optimizer.lr, t.warmup * steps
    if step < warmup:
        return peak * (t.warmup_start + (1 - t.warmup_start) * step / warmup)
    return cosine(peak, peak * t.final_lr, step - warmup, steps - warmup)


def teacher_temperature(recipe: Recipe, step: int, steps: int) -> float:
    s = recipe.loss
    total = s.teacher_temperature_rise * steps
    return cosine(s.teacher_temperature_start, s.teacher_temperature_end, step, total)


def momentum(recipe: Recipe, step: int, steps: int) -> float:
    return cosine(recipe.loss.momentum_start, recipe.loss.momentum_end, step, steps - 1)


def entropy(p: torch.Tensor) -> torch.Tensor:
    return -torch.where(p > 0, p * p.log(), 0.0).sum(-1)


def self_distillation(
    recipe: Recipe, jets: Jets, state: dict[str, torch.Tensor], steps: int
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Reports and final state of training on all jets in every step, from the formulas, with PyTorch's optimiser."""
    settings = recipe.loss
    resolutions = [*recipe.views.teacher, *recipe.views.student]
    teachers = len(recipe.views.teacher)
    tokens = rino.tokenize(jets, resolutions, recipe, "float64")
    padded, mask = tokens.padded()
    rows = [tokens.rows(v) for v in range(len(resolutions))]

    networks = {}
    for who in ("trained", "teacher"):
        networks[who] = (
            ReferenceEncoder(recipe, part(state, f"{who}.encoder.")),
            ReferenceHead(part(state, f"{who}.head.")),
        )
    student = [p for network in networks["trained"] for p in network.parameters()]
    teacher = [p for network in networks["teacher"] for p in network.parameters()]
    o = recipe.optimizer
    optimizer = torch.optim.AdamW(student, o.lr, (o.beta1, o.beta2), o.eps, o.weight_decay)
    center = torch.zeros(recipe.head.prototypes, dtype=torch.float64)

    def forward(who: str, views: int) -> tuple[torch.Tensor, torch.Tensor]:
        encoder, head = networks[who]
        z = encoder(padded, mask, tokens.jet_features)[0]
        z = torch.stack([z[r] for r in rows[:views]])
        return z, head(z)

    reports = []
    for step in range(steps):
        temperature = teacher_temperature(recipe, step, steps)
        with torch.no_grad():
            scores = forward("teacher", teachers)[1].flatten(0, 1)
            if settings.assignment == "sinkhorn":
                q = ((scores - scores.max()) / temperature).exp()
                for _ in range(settings.sinkhorn_iterations):
                    q = q / q.sum(0) * (q.shape[0] / q.shape[1])
                    q = q / q.sum(1, keepdim=True)
            else:
                q = ((scores - center) / temperature).softmax(1)
                center = settings.center_momentum * center + (1 - settings.center_momentum) * scores.mean(0)
        targets = q.view(teachers, len(jets), -1)
        z, scores = forward("trained", len(resolutions))
        log_p = (scores / settings.student_temperature).log_softmax(-1)
        pairs = [(v, s) for v in range(teachers) for s in range(len(resolutions)) if s != v]
        dino = sum(-(targets[v] * log_p[s]).sum(-1).mean() for v, s in pairs) / len(pairs)
        koleo = torch.zeros((), dtype=torch.float64)
        for view in z[:teachers]:
            unit = view / view.norm(dim=1, keepdim=True)
            nearest = (unit @ unit.T - 4 * torch.eye(len(unit))).argmax(1)
            koleo = koleo - ((unit - unit[nearest]).norm(dim=1) + 1e-8).log().mean() / teachers
        loss = dino + settings.koleo * koleo
        optimizer.zero_grad()
        loss.backward()
        limit = o.clip if o.clip > 0 else math.inf
        norm = torch.nn.utils.clip_grad_norm_(student, limit)
        optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, steps)
        optimizer.step()
        with torch.no_grad():
            m = momentum(recipe, step, steps)
            for mine, theirs in zip(teacher, student, strict=True):
                mine.copy_(m * mine + (1 - m) * theirs)
        report = {
            "step": step,
            "skipped": 0.0,
            "epoch": float(step),
            "loss": loss.item(),
            "dino": dino.item(),
            "lr": learning_rate(recipe, step, steps),
            "gradient_norm": norm.item(),
            "teacher_entropy": entropy(q).mean().item(),
            "prototype_entropy": entropy(q.mean(0)).item(),
            "teacher_temperature": temperature,
            "student_temperature": settings.student_temperature,
            "momentum": m,
        }
        if settings.koleo > 0:
            report["koleo"] = koleo.item()
        reports.append(report)

    final = {"center": center}
    for who, (encoder, head) in networks.items():
        theirs = encoder.state_dict()
        final |= {f"{who}.encoder.{mine}": theirs[name] for mine, name in encoder.mapping.items()}
        final |= {f"{who}.head.{name}": value.detach() for name, value in zip(head.names, head.values, strict=True)}
    return reports, final


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"clip": 0.05, "teacher": [2], "final_lr": 0.5},
        {"clip": 100.0, "eps": 1.0},
        {"assignment": "centering", "class_token": "learned", "koleo": 0.0, "clip": 0.0, "center_momentum": 0.7},
        {"features": "relative", "boost_to_pt": 600.0, "hidden_layers": 2, "bottleneck": 3, "momentum_start": 0.5},
        {"sinkhorn_iterations": 1, "koleo": 0.1, "warmup": 0.0, "max_constituents": 6, "heads": 1, "width": 20},
    ],
)
def test_training_steps_are_those_of_plain_pytorch(jets, tmp_path, overrides):
    aliases = {"width": "encoder.width", "heads": "encoder.heads", "teacher": "views.teacher"}
    overrides = {aliases.get(name, name): value for name, value in overrides.items()}
    recipe = tiny(**{"encoder.dropout": 0.0, "lr": 1e-2, "epochs": 5, "batch_size": N, "warmup": 0.4, **overrides})
    trainer = Trainer(recipe, jets, dtype="float64")
    start = state_of(trainer, tmp_path)
    assert start["trained.head.prototypes.weight"].dtype == torch.float64
    reports = numbers(train(trainer))
    wanted, final = self_distillation(recipe, jets, start, steps=5)
    for mine, theirs in zip(reports, wanted, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10, abs=1e-12)
    clip = recipe.optimizer.clip
    if clip in (0.05, 100):  # always and never
        assert all((report["gradient_norm"] > clip) is (clip < 1) for report in reports)
    state = state_of(trainer, tmp_path)
    moved = max(float((state[name] - start[name]).abs().max()) for name in final)
    assert moved > 1e-3
    for name, value in final.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


def test_teacher_and_student_start_equal(jets, tmp_path):
    state = state_of(Trainer(short(), jets), tmp_path)
    student, teacher = part(state, "trained."), part(state, "teacher.")
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[name], teacher[name]) for name in student)


def test_a_batch_is_part_of_the_jets_and_every_epoch_shuffles_them(jets):
    """With a learning rate of next to nothing, the loss depends on the jets of a step alone."""
    temperature = {"teacher_temperature_start": 0.05, "teacher_temperature_end": 0.05}
    recipe = tiny(encoder__dropout=0.0, lr=1e-30, epochs=3, batch_size=8, koleo=0.0, **temperature)
    trainer = Trainer(recipe, jets)
    assert (trainer.steps_per_epoch, trainer.batch_size, len(trainer)) == (2, 8, 6)  # 4 jets are left out
    assert len({report["loss"] for report in trainer}) == 6


def test_a_batch_larger_than_the_jets_is_all_of_them(jets):
    trainer = Trainer(tiny(batch_size=1000, epochs=2), jets)
    assert (trainer.batch_size, trainer.steps_per_epoch, len(trainer)) == (N, 1, 2)


# --- schedules and reports ---


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.35, 1.0])
def test_schedules_follow_their_formulas(jets, warmup):
    recipe = short(
        warmup=warmup, warmup_start=0.1, final_lr=0.05, teacher_temperature_rise=0.5, momentum_start=0.9, epochs=5
    )
    trainer = Trainer(recipe, jets)
    steps = len(trainer)
    assert steps == 15
    for step, report in enumerate(train(trainer)):
        assert report["step"] == step and report["epoch"] == pytest.approx(step / 3)
        assert report["lr"] == pytest.approx(learning_rate(recipe, step, steps), rel=1e-12)
        assert report["lr"] == trainer.learning_rate(step)
        assert report["teacher_temperature"] == pytest.approx(teacher_temperature(recipe, step, steps), rel=1e-12)
        assert report["momentum"] == pytest.approx(momentum(recipe, step, steps), rel=1e-12)
        assert 0 <= report["teacher_entropy"] <= report["prototype_entropy"] <= math.log(4) + 1e-6
        assert report["seconds"] > 0 and report["waited"] >= 0
    assert trainer.learning_rate(steps) == pytest.approx(recipe.optimizer.lr * (0.05 if warmup < 1 else 1))


def test_the_papers_schedule_in_numbers(jets):
    trainer = Trainer(Recipe.preset("nano", batch_size=N), jets)
    lr = trainer.learning_rate
    assert len(trainer) == 100
    assert [lr(0), lr(5), lr(10), lr(55), lr(100)] == pytest.approx([0, 5e-5, 1e-4, 0.505e-4, 1e-6], rel=1e-12)


def test_the_best_epoch_is_the_one_of_the_lowest_mean_loss(jets):
    trainer = Trainer(short(lr=0.3), jets)
    assert trainer.best_loss == math.inf
    losses = []
    for report in trainer:
        losses.append(report["loss"])
        if trainer.step_number < 3:
            assert trainer.best_loss == math.inf
    means = np.reshape(losses, (4, 3)).mean(1)
    assert trainer.best_loss == pytest.approx(means.min(), rel=1e-12)


def test_no_step_follows_the_last(jets):
    trainer = Trainer(tiny(epochs=1, batch_size=10), jets)
    assert not trainer.done and len(trainer) == 2
    assert [report["step"] for report in trainer] == [0, 1]
    assert trainer.done and trainer.step_number == 2 and list(trainer) == []
    with pytest.raises(RinoError, match="all 2 steps are done"):
        trainer.step()


def test_without_koleo_none_is_reported(jets):
    report = Trainer(tiny(koleo=0.0), jets).step()
    assert "koleo" not in report and report["loss"] == report["dino"]


def test_drawn_views_change_from_step_to_step(jets):
    """With a learning rate of next to nothing and all jets in a step, its loss tells which view was drawn."""
    still = {
        "teacher_temperature_end": 0.04,
        "encoder.dropout": 0.0,
        "lr": 1e-30,
        "epochs": 30,
        "batch_size": N,
    }
    views = [4, 8, "all"]
    alone = [
        Trainer(short(student_drawn=0, **still, **{"views.student": [view]}), jets, dtype="float64").step()["loss"]
        for view in views
    ]
    reports = train(Trainer(short(student_drawn=1, **still), jets, dtype="float64"))
    drawn = np.abs(np.subtract.outer([report["loss"] for report in reports], alone))
    assert drawn.min(1) == pytest.approx(np.zeros(30), abs=1e-12)
    counts = np.bincount(drawn.argmin(1), minlength=3)
    assert counts.min() >= 3, counts  # of 30, 10 on average
    again = train(Trainer(short(student_drawn=1, **still), jets, dtype="float64"))
    assert numbers(again) == numbers(reports)


# --- reproducibility ---


def test_a_seed_fixes_everything_and_another_changes_it(jets):
    runs = [Trainer(short(seed=seed), jets) for seed in (1, 1, 2)]
    reports = [numbers(train(trainer)) for trainer in runs]
    assert reports[0] == reports[1] != reports[2]
    assert_same_weights(runs[0].encoder(), runs[1].encoder())
    assert not torch.equal(runs[0].encoder().norm.weight, runs[2].encoder().norm.weight)


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_loader_threads_change_no_bit(jets, threads):
    one, other = (Trainer(short(loader_threads=n), jets) for n in (0, threads))
    assert numbers(train(one)) == numbers(train(other))
    for which in ("teacher", "student"):
        assert_same_weights(one.encoder(which), other.encoder(which))


def test_torchs_random_state_is_neither_used_nor_touched(jets):
    torch.manual_seed(1)
    first = numbers(train(Trainer(short(), jets)))
    after = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(2))
    torch.manual_seed(2)
    assert numbers(train(Trainer(short(), jets))) == first


def test_labels_and_extras_are_not_looked_at(jets):
    bare = Jets(jets.p4, jets.offsets)
    odd = Jets(jets.p4, jets.offsets, labels=np.arange(N) % 5, extras={"charge": np.ones(len(jets.p4))})
    assert bare.labels is None
    reference = numbers(train(Trainer(short(), jets)))
    assert numbers(train(Trainer(short(), bare))) == reference == numbers(train(Trainer(short(), odd)))


def test_trainers_in_several_threads_do_not_disturb_each_other(jets):
    wanted = {seed: numbers(train(Trainer(short(seed=seed), jets))) for seed in (1, 2)}
    found = {}

    def work(seed: int) -> None:
        found[seed] = numbers(train(Trainer(short(seed=seed), jets)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_a_step_needs_no_gradient_mode_of_the_caller(jets):
    with torch.no_grad():
        quiet = numbers(train(Trainer(short(), jets)))
    assert quiet == numbers(train(Trainer(short(), jets)))


def test_an_encoder_taken_from_a_trainer_is_a_copy(jets):
    trainer = Trainer(short(), jets)
    for _ in range(3):
        trainer.step()
    student, teacher = trainer.encoder("student"), trainer.encoder("teacher")
    z = teacher.embed(jets)
    assert not np.array_equal(student.embed(jets), z)
    trainer.step()
    np.testing.assert_array_equal(teacher.embed(jets), z)
    assert not np.array_equal(trainer.encoder("student").embed(jets), student.embed(jets))
    with torch.no_grad():
        teacher.norm.weight.zero_()
    assert trainer.encoder("teacher").norm.weight.any()
    del trainer
    assert np.isfinite(student.embed(jets)).all()
    with pytest.raises(RinoError, match="no encoder 'both': choose 'teacher', 'student' or 'average'"):
        Trainer(short(), jets).encoder("both")


# --- what cannot be trained ---


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ({"epochs": 0}, "epochs and batch_size are 0 and"),
        ({"batch_size": 1}, "batch_size are 4 and 1"),
        ({"warmup": 1.5}, r"warmup.* 1\.5"),
        ({"final_lr": -0.1}, "final_lr"),
        ({"lr": 0.0}, "lr, eps.*are 0"),
        ({"lr": math.nan}, "nan"),
        ({"clip": -1.0}, "clip"),
        ({"beta2": 1.0}, "beta1 and beta2 are .* and 1"),
        ({"views.teacher": []}, "teacher has no views"),
        ({"views.teacher": [4]}, "resolution 4 is among the teacher's and the student's"),
        ({"views.student": [], "views.teacher": [2]}, "one view alone"),
        ({"student_drawn": 4}, "student_drawn is 4 of 3"),
        ({"student_drawn": -1}, "student_drawn is -1"),
        ({"student_temperature": 0.0}, "temperatures are 0"),
        ({"teacher_temperature_start": -1.0}, "temperatures are"),
        ({"momentum_end": 1.5}, r"momentum is 0\.992 to 1\.5"),
        ({"encoder__heads": 3}, "must divide the width"),
        ({"prototypes": 1}, "at least 2 prototypes"),
        ({"loader_threads": -2}, "loader_threads is -2"),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused(jets, overrides, match):
    if "student_drawn" not in overrides:
        overrides["student_drawn"] = 0
    with pytest.raises(RinoError, match=match):
        Trainer(short(**overrides), jets).step()


def test_jets_and_places_that_cannot_be_trained_are_refused(jets):
    for few in (jets[:0], jets[:1]):
        with pytest.raises(RinoError, match=f"there are {len(few)} jets to train on"):
            Trainer(short(), few)
    with pytest.raises(RinoError, match="float16"):
        Trainer(short(), jets, dtype="float16")
    with pytest.raises(RinoError, match=r"give pyrino\.Jets"):
        Trainer(short(), np.zeros((3, 4)))
    if not torch.cuda.is_available():
        with pytest.raises(RinoError, match=r"device is 'cuda:1' but torch sees no CUDA device \(.*, or choose 'cpu'"):
            Trainer(short(), jets, device="cuda:1")


@pytest.mark.parametrize("assignment", ["sinkhorn", "centering"])
def test_steps_that_are_not_finite_change_nothing_and_the_third_in_a_row_ends_the_run(jets, tmp_path, assignment):
    trainer = Trainer(short(lr=1e38, warmup=0.0, assignment=assignment), jets)
    assert trainer.step()["skipped"] == 0
    before = state_of(trainer, tmp_path)
    for _ in range(2):
        report = trainer.step()
        assert report["skipped"] == 1 and not (math.isfinite(report["loss"]) and math.isfinite(report["gradient_norm"]))
    for _ in range(2):
        with pytest.raises(RinoError, match=r"in step 3, the last of 3 in a row that were not finite"):
            trainer.step()
    after = state_of(trainer, tmp_path)
    assert trainer.step_number == 3
    for name in before:
        if not name.startswith("trainer."):
            torch.testing.assert_close(before[name], after[name], rtol=0, atol=0, equal_nan=True)


# --- checkpoints ---


def all_numbers(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """What a run leaves: every tensor of the checkpoint, every column of the history but the times."""
    history = History.load(folder / "history.parquet")
    columns = {name: values for name, values in history.items() if name not in CLOCKS}
    return safetensors.torch.load_file(folder / "checkpoint.safetensors"), columns


def assert_same_run(one: Path, other: Path) -> None:
    """Bit by bit."""
    (mine, my_history), (theirs, their_history) = all_numbers(one), all_numbers(other)
    assert mine.keys() == theirs.keys() and my_history.keys() == their_history.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name
    for name, value in my_history.items():
        np.testing.assert_array_equal(value, their_history[name], err_msg=name)
    assert_same_weights(rino.JetEncoder.load(one), rino.JetEncoder.load(other))
    assert (one / "recipe.toml").read_bytes() == (other / "recipe.toml").read_bytes()


def quiet(recipe: Recipe, jets: Jets, out: Path, **arguments: Any) -> rino.PretrainingRun:
    return pretrain(recipe, jets, out, progress=False, tensorboard=False, **arguments)


@contextmanager
def before_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` once, when step `number` is about to begin."""
    original = Trainer.step

    def step(self: Trainer) -> dict[str, float]:
        if self.step_number == number:
            action()
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        yield


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def uninterrupted(jets, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    quiet(short(), jets, out)
    return out


def test_an_augmentation_is_seen_by_the_method_and_goes_on_bit_by_bit(jets, tmp_path):
    seen = []

    def note(jets: Jets, *, seed: int, first_jet: int) -> Jets:
        seen.append((seed, first_jet))
        return jets

    augmentation = rino.Augmentation([rino.rotate, partial(rino.smear, constant=0.2), note])
    straight = numbers(train(Trainer(short(), jets, augmentation=augmentation)))
    assert [one for one, _ in seen] == [
        rino._core.Draws(rino._core.step_seed(short().training.seed, k, "augmentation"), 0).step(2).seed
        for k in range(len(straight))
    ]
    assert straight != numbers(train(Trainer(short(), jets)))
    first = Trainer(short(), jets, augmentation=augmentation)
    for _ in range(4):
        first.step()
    first.save(tmp_path / "checkpoint")
    second = Trainer(short(loader_threads=2), jets, augmentation=augmentation)
    second.restore(tmp_path / "checkpoint")
    assert numbers(train(second)) == straight[4:]
    with pytest.raises(RinoError, match=r"the augmentation is None but Augmentation\(\[rotate, .* resume with that of"):
        Trainer(short(), jets).restore(tmp_path / "checkpoint")
    quiet(short(), jets, tmp_path / "plain")
    with pytest.raises(RinoError, match=r"the augmentation is Augmentation.* but None in"):
        quiet(short(), jets, tmp_path / "plain", resume=True, augmentation=augmentation)
    words = ["rotate", "smear constant=0.2"]
    assert numbers(train(Trainer(short(), jets, augmentation=words))) == straight  # the third transform changes nothing
    run = quiet(short(), jets, tmp_path / "run", augmentation=augmentation)
    assert run.history["loss"].tolist() == [report["loss"] for report in straight]


@pytest.mark.parametrize("stop", [1, 4, 6, 11])
def test_a_restored_trainer_goes_on_bit_by_bit(jets, tmp_path, stop):
    whole = Trainer(short(), jets)
    reports = numbers(train(whole))
    first = Trainer(short(), jets)
    for _ in range(stop):
        first.step()
    first.save(tmp_path / "checkpoint")
    second = Trainer(short(loader_threads=2), jets)
    second.step()  # its loader and its optimiser have begun something else
    second.restore(tmp_path / "checkpoint")
    assert second.step_number == stop and second.best_loss == first.best_loss
    assert numbers(train(second)) == reports[stop:]
    assert second.best_loss == whole.best_loss
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = state_of(whole, tmp_path / "a"), state_of(second, tmp_path / "b")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_goes_on(jets, tmp_path, monkeypatch, uninterrupted):
    out = tmp_path / "run"
    for stop in (2, 7):  # twice, both within an epoch
        with (
            before_step(monkeypatch, stop, press_ctrl_c),
            pytest.raises(KeyboardInterrupt, match=rf"stopped after {stop} of 12 steps; .*go on with resume=True"),
        ):
            quiet(short(), jets, out, resume=True)
        assert not (out / "encoder.safetensors").exists()
        assert History.load(out / "history.parquet").rows == stop
    run = quiet(short(), jets, out, resume=True)
    assert run.resumed_at == 7 and run.history.rows == 12 and run.jets_seen == 12 * 6
    assert_same_run(out, uninterrupted)


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """As in a terminal: where the tests run in the background, the shell has them ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_a_real_interrupt_within_a_step_loses_nothing(jets, tmp_path, monkeypatch, uninterrupted):
    out = tmp_path / "run"
    original = Trainer.step

    def step(self: Trainer) -> dict[str, float]:
        if self.step_number != 5:
            return original(self)
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        thread.start()  # the signal comes while the step runs in C++
        report = original(self)
        thread.join()
        return report

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="stopped after 6 of 12 steps"):
        patch.setattr(Trainer, "step", step)
        quiet(short(), jets, out)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert History.load(out / "history.parquet")["step"].tolist() == [0, 1, 2, 3, 4, 5]
    quiet(short(), jets, out, resume=True)
    assert_same_run(out, uninterrupted)


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_a_second_interrupt_does_not_wait(jets, tmp_path, monkeypatch):
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with before_step(monkeypatch, 5, twice), pytest.raises(KeyboardInterrupt, match="stopped after 5 of 12 steps"):
        quiet(short(), jets, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(jets, tmp_path, monkeypatch, uninterrupted):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with before_step(monkeypatch, 5, lambda: signal.raise_signal(signal.SIGINT)):
            quiet(short(), jets, tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_pretraining_works_outside_the_main_thread(jets, tmp_path, uninterrupted):
    thread = threading.Thread(target=quiet, args=(short(), jets, tmp_path / "run"))
    thread.start()
    thread.join()
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_crash_costs_what_came_after_the_last_checkpoint(jets, tmp_path, monkeypatch, uninterrupted):
    def crash() -> None:
        raise MemoryError

    out = tmp_path / "run"
    with before_step(monkeypatch, 8, crash), pytest.raises(MemoryError):
        quiet(short(), jets, out, checkpoint_minutes=0)
    assert quiet(short(), jets, out, resume=True).resumed_at == 8
    assert_same_run(out, uninterrupted)


def test_history_written_after_the_checkpoint_is_not_kept_twice(jets, tmp_path, monkeypatch, uninterrupted):
    out = tmp_path / "run"
    with before_step(monkeypatch, 4, press_ctrl_c), pytest.raises(KeyboardInterrupt):
        quiet(short(), jets, out)
    History.load(uninterrupted / "history.parquet").save(out / "history.parquet")
    quiet(short(), jets, out, resume=True)
    assert_same_run(out, uninterrupted)


def test_resuming_a_finished_run_changes_nothing(jets, tmp_path, uninterrupted):
    out = tmp_path / "run"
    quiet(short(), jets, out)
    run = quiet(short(), jets, out, resume=True)
    assert run.resumed_at == 12 and run.history.rows == 12
    assert_same_run(out, uninterrupted)


def test_resuming_without_a_checkpoint_starts(jets, tmp_path, uninterrupted):
    run = quiet(short(), jets, tmp_path / "run", resume=True)
    assert run.resumed_at == 0
    assert_same_run(tmp_path / "run", uninterrupted)


def test_what_does_not_change_the_training_may_change(jets, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with before_step(monkeypatch, 4, press_ctrl_c), pytest.raises(KeyboardInterrupt):
        quiet(short(), jets, out)
    recipe = short(loader_threads=3, probe_epochs=1, patience=3)
    assert quiet(recipe, jets, out, resume=True).resumed_at == 4


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ({"lr": 2e-2}, r"'optimizer\.lr' is 0\.02 but 0\.01 in .*checkpoint\.safetensors"),
        ({"epochs": 5}, r"'training\.epochs' is 5 but 4"),
        ({"seed": 4}, r"'training\.seed' is 4 but 3"),
        ({"views.student": [4, 8]}, r"'views\.student' is \[4, 8\] but \[4, 8, 'all'\]"),
        ({"encoder.width": 16}, r"'encoder\.width' is 16 but 8"),
        ({"features": "relative"}, r"'jets\.features' is 'relative' but 'full'"),
    ],
)
def test_resuming_with_another_recipe_is_refused(jets, uninterrupted, overrides, match):
    before = (uninterrupted / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RinoError, match=match):
        quiet(short(**overrides), jets, uninterrupted, resume=True)
    assert (uninterrupted / "checkpoint.safetensors").read_bytes() == before
    assert Recipe.load(uninterrupted / "recipe.toml") == short()


def test_resuming_with_other_jets_is_refused(jets, uninterrupted):
    others = {
        "fewer": jets[:-1],
        "another order": jets[np.arange(N)[::-1]],
        "other momenta": Jets(np.array(jets.p4) * 1.001, jets.offsets),
        "others": small_jets(N, seed=6),
    }
    for name, other in others.items():
        with pytest.raises(RinoError, match="was made with other jets"):
            quiet(short(), other, uninterrupted, resume=True)
        assert name


def test_checkpoints_of_another_architecture_are_refused_tensor_by_tensor(jets, tmp_path):
    """A checkpoint that C++ wrote carries no recipe to compare."""
    trainer = Trainer(short(), jets)
    trainer.step()
    tensors = state_of(trainer, tmp_path)
    cases = {
        "wide": ({**tensors, "teacher.encoder.norm.weight": torch.zeros(9)}, r"norm\.weight' has shape \[9\]"),
        "short": (
            {name: value for name, value in tensors.items() if name != "trained.head.hidden.0.bias"},
            r"has no 'trained\.head\.hidden\.0\.bias'",
        ),
        "double": ({name: value.double() for name, value in tensors.items()}, "is (double|Double) in the checkpoint"),
        "weights": (part(tensors, "trained."), "has no 'center'"),
    }
    for name, (content, match) in cases.items():
        safetensors.torch.save_file(content, tmp_path / name)
        with pytest.raises(RinoError, match=match):
            trainer.restore(tmp_path / name)
    assert trainer.step_number == 1
    after = state_of(trainer, tmp_path)
    assert all(torch.equal(after[name], value) for name, value in tensors.items())


def test_damaged_checkpoints_are_refused(jets, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with before_step(monkeypatch, 4, press_ctrl_c), pytest.raises(KeyboardInterrupt):
        quiet(short(), jets, out)
    checkpoint = out / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:100], b"", b"\x00" * 64):
        checkpoint.write_bytes(damaged)
        with pytest.raises(RinoError, match=r"checkpoint\.safetensors"):
            quiet(short(), jets, out, resume=True)
        assert checkpoint.read_bytes() == damaged
    with pytest.raises(RinoError, match="nowhere"):
        Trainer(short(), jets).restore(tmp_path / "nowhere")


def test_an_encoder_is_no_checkpoint(jets, uninterrupted):
    with pytest.raises(RinoError, match="the checkpoint has no"):
        Trainer(short(), jets).restore(uninterrupted / "encoder.safetensors")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing more fails, as on a full disk (with EFBIG for ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_leaves_the_earlier_checkpoint_whole(jets, tmp_path, monkeypatch, uninterrupted):
    out = tmp_path / "run"
    with before_step(monkeypatch, 4, press_ctrl_c), pytest.raises(KeyboardInterrupt):
        quiet(short(), jets, out)
    before = (out / "checkpoint.safetensors").read_bytes()
    files = sorted(os.listdir(out))
    with files_no_larger_than(len(before) - 4096), pytest.raises(RinoError, match=r"cannot write .*checkpoint"):
        quiet(short(), jets, out, resume=True)
    assert (out / "checkpoint.safetensors").read_bytes() == before
    assert sorted(os.listdir(out)) == files
    assert quiet(short(), jets, out, resume=True).resumed_at == 4
    assert_same_run(out, uninterrupted)


def test_a_disk_without_room_for_the_history_is_named(jets, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with before_step(monkeypatch, 4, press_ctrl_c), pytest.raises(KeyboardInterrupt):
        quiet(short(), jets, out)
    content = {name: (out / name).read_bytes() for name in os.listdir(out)}

    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pyrino.training.history.os.replace", full)
        with pytest.raises(RinoError, match="No space left on device"):
            quiet(short(), jets, out, resume=True)
    assert {name: (out / name).read_bytes() for name in os.listdir(out)} == content


# --- the folder of a run ---


def test_a_run_leaves_its_files_and_numbers(jets, uninterrupted):
    assert sorted(os.listdir(uninterrupted)) == [
        "checkpoint.safetensors",
        "encoder.safetensors",
        "history.parquet",
        "recipe.toml",
    ]
    assert Recipe.load(uninterrupted / "recipe.toml") == short()
    state = safetensors.torch.load_file(uninterrupted / "checkpoint.safetensors")
    encoder = safetensors.torch.load_file(uninterrupted / "encoder.safetensors")
    teacher = part(state, "teacher.encoder.")
    assert encoder.keys() == teacher.keys() and all(torch.equal(encoder[k], teacher[k]) for k in encoder)
    loaded = rino.JetEncoder.load(uninterrupted)
    trainer = Trainer(short(), jets)
    reports = train(trainer)
    np.testing.assert_array_equal(loaded.embed(jets), trainer.encoder("teacher").embed(jets))
    history = History.load(uninterrupted / "history.parquet")
    assert history["loss"].tolist() == [r["loss"] for r in reports]
    assert set(history) == set(reports[0])


def test_what_pretrain_returns(jets, tmp_path):
    run = quiet(short(epochs=2), jets, tmp_path / "a" / "b")
    assert run.out == tmp_path / "a" / "b" and run.recipe == short(epochs=2)
    assert run.jets_seen == 36 and run.seconds > 0 and run.resumed_at == 0
    assert_same_weights(run.encoder, rino.JetEncoder.load(run.out))
    assert "6 steps, 36 jets seen, last loss" in repr(run)
    assert len(run.plot().axes) > 0


def test_a_folder_with_a_run_is_not_overwritten_unasked(jets, tmp_path):
    out = tmp_path / "run"
    quiet(short(epochs=1), jets, out)
    before = (out / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RinoError, match="holds a run already: give resume=True to go on, overwrite=True to replace"):
        quiet(short(epochs=1, seed=9), jets, out)
    assert (out / "checkpoint.safetensors").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    quiet(short(epochs=1, seed=9), jets, out, overwrite=True)
    assert Recipe.load(out / "recipe.toml").training.seed == 9
    assert (out / "checkpoint.safetensors").read_bytes() != before
    assert (out / "notes.txt").read_text() == "mine"


def test_folders_that_are_none_of_ours_are_left_alone(jets, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RinoError, match="file is a file: choose a folder"):
        quiet(short(), jets, tmp_path / "file")
    with pytest.raises(RinoError, match="cannot be made: Not a directory"):
        quiet(short(), jets, tmp_path / "file" / "run")
    for overwrite in (False, True):
        with pytest.raises(RinoError, match="exists and holds other files: choose a new folder"):
            quiet(short(), jets, tmp_path, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["file"]
    (tmp_path / "empty").mkdir()
    quiet(short(epochs=1), jets, tmp_path / "empty")


def test_a_faulty_recipe_leaves_no_folder(jets, tmp_path):
    with pytest.raises(RinoError):
        quiet(short(lr=-1.0), jets, tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_tensorboard_shows_every_step_once(jets, tmp_path, monkeypatch, capfd):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def crash() -> None:
        raise MemoryError

    out = tmp_path / "run"
    with before_step(monkeypatch, 5, press_ctrl_c), pytest.raises(KeyboardInterrupt):
        pretrain(short(), jets, out, progress=False)
    with before_step(monkeypatch, 9, crash), pytest.raises(MemoryError):  # steps 5 to 8 come once more
        pretrain(short(), jets, out, progress=False, resume=True)
    run = pretrain(short(), jets, out, progress=True, resume=True)
    assert run.resumed_at == 5
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    names = set(run.history) - {"step", *CLOCKS}
    assert set(events.Tags()["scalars"]) >= {*names, "waited"}
    for name in names:
        scalars = events.Scalars(name)
        assert [s.step for s in scalars] == list(range(12))
        np.testing.assert_allclose([s.value for s in scalars], run.history[name], rtol=1e-6)
    shares = [s.value for s in events.Scalars("waited")]
    np.testing.assert_allclose(shares, run.history["waited"] / run.history["seconds"], rtol=1e-6)
    assert 0 <= run.waited <= 1 and min(shares) <= run.waited <= max(shares)
    assert f"{run.waited:.0%} of it waiting for the loader" in repr(run)
    shown = capfd.readouterr().err
    assert "pretraining" in shown and "epoch 4.0/4" in shown and "waiting" in shown


def test_recipes_are_taken_by_name_and_by_file(jets, tmp_path):
    assert as_recipe("lite") == Recipe.preset("lite")
    short(epochs=1).save(tmp_path / "r.toml")
    assert as_recipe(tmp_path / "r.toml") == as_recipe(str(tmp_path / "r.toml")) == short(epochs=1)
    assert quiet(tmp_path / "r.toml", jets, tmp_path / "run").history.rows == 3
    with pytest.raises(RinoError, match=r"no preset 'nanoo' \(did you mean 'nano'"):
        as_recipe("nanoo")
    with pytest.raises(RinoError, match=r"missing\.toml cannot be read"):
        as_recipe("missing.toml")


# --- history ---


def test_history_is_columns_of_numbers(tmp_path):
    history = History()
    assert history.rows == 0 and list(history) == [] and len(history) == 0
    history.append({"step": 0, "loss": 0.1 + 0.2})
    history.append({"step": 1, "loss": 5e-324, "koleo": math.inf})
    assert list(history) == ["step", "loss", "koleo"] and len(history) == 3 and history.rows == 2
    np.testing.assert_array_equal(history["koleo"], [math.nan, math.inf])
    assert history["step"].dtype.kind == "i"
    with pytest.raises(KeyError, match="no 'los', only step, loss, koleo"):
        history["los"]
    assert "2 rows: step, loss, koleo" in repr(history)
    history.save(tmp_path / "h.parquet")
    again = History.load(tmp_path / "h.parquet")
    assert list(again) == list(history)
    for name in history:
        np.testing.assert_array_equal(again[name], history[name])
    again.truncate(1)
    assert again.rows == 1 and again["step"].tolist() == [0]
    assert os.listdir(tmp_path) == ["h.parquet"]


def test_rows_given_to_a_history_are_copied():
    row = {"loss": 1.0}
    history = History()
    history.append(row)
    row["loss"] = 2.0
    assert history["loss"].tolist() == [1.0]


def test_empty_absent_and_broken_histories(tmp_path):
    assert History.load(tmp_path / "none").rows == 0
    History().save(tmp_path / "empty")
    assert History.load(tmp_path / "empty").rows == 0
    (tmp_path / "broken").write_bytes(b"PAR1 no parquet at all PAR1")
    with pytest.raises(RinoError, match="broken cannot be read"):
        History.load(tmp_path / "broken")
    History().save(tmp_path / "new" / "h.parquet")
    assert (tmp_path / "new" / "h.parquet").is_file()
    with pytest.raises(RinoError, match=r"broken/h\.parquet cannot be written: .*another place"):
        History().save(tmp_path / "broken" / "h.parquet")


def test_resuming_without_a_checkpoint_never_costs_an_encoder(tmp_path):
    out = tmp_path / "run"
    rino.pretrain(tiny(), small_jets(24, 1), out, progress=False, tensorboard=False)
    (out / "checkpoint.safetensors").unlink()
    encoder = (out / "encoder.safetensors").read_bytes()
    with pytest.raises(rino.RinoError, match="holds a run already"):
        rino.pretrain(tiny(), small_jets(24, 1), out, resume=True, progress=False, tensorboard=False)
    assert (out / "encoder.safetensors").read_bytes() == encoder
