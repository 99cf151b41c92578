"""Several processes train as one: the same numbers, files of their own, one writer, and ends that say who and why.

Run as a program, this file is one rank: it does what the tests ask for, line by line.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import Jets, Recipe, RinoError, Trainer, open_dataset, pretrain
from pyrino.ranks import Ranks, Stopped, joined
from pyrino.training.ranks import ranks_of

ROOT = Path(__file__).resolve().parents[2]
N = 20  # jets
CLOCKS = ("seconds", "waited")
STEPS = {"training.epochs": 4, "training.batch_size": 6, "optimizer.lr": 1e-2, "encoder.dropout": 0.0}
SMALL = {
    **STEPS,
    "encoder.width": 16,
    "encoder.heads": 2,
    "encoder.layers": 2,
    "encoder.feedforward": 32,
    "encoder.registers": 2,
    "head.prototypes": 8,
    "head.hidden_width": 16,
    "head.bottleneck": 8,
    "views.teacher": [2, 3],
    "views.student": [4, 6, "all"],
    "views.student_drawn": 2,
    "loss.gram": 0.5,
    "training.precision": "float32",
}

CONTRASTIVE = {"encoder.width": 8, "encoder.heads": 2, "encoder.layers": 1, "encoder.feedforward": 16}


class OfTheTests(rino.Method):
    """Every part that knows of other jets and ranks: a mean over unequal counts, gathered rows, a teacher, labels."""

    name = "of-the-tests"
    wants_labels = wants_weights = True
    accumulates = False

    def networks(self):
        encoder = rino.JetEncoder(self.recipe)
        self.teacher = rino.Teacher(encoder, momentum=0.9)
        return {"encoder": encoder, "head": torch.nn.Linear(8, 4)}

    def views(self, jets, step):
        return [rino.smear(jets, **step.draws("a")), rino.rotate(jets, **step.draws("b"))]

    def prepare(self, jets, step):
        batch = super().prepare(jets, step)
        counts = {"constituents": float(len(batch.tokens.features))}
        return rino.Batch(batch.tokens, batch.labels, {"label": batch.labels.double()}, counts)

    def loss(self, batch, step):
        found = self.encoder(batch.tokens)
        wanted = self.teacher(batch.tokens)
        distance = step.mean((found.constituents - wanted.constituents).square().sum(), "constituents")
        z = self.head(found.jets)
        everyone = self.ranks.gather(z[: len(z) // 2])
        spread = rino.uniformity(everyone)
        hits = (z[: len(z) // 2, 0] - batch["label"].to(z.dtype)).square()
        hits = hits.mean() if batch.weights is None else step.mean((hits * batch.weights).sum(), "weights")
        return distance + spread + hits, {"distance": distance, "spread": spread}


RECIPES: dict[str, Callable[[], Recipe]] = {
    "workshop": lambda: tiny(**STEPS, student_drawn=2),
    "centering": lambda: tiny(**STEPS, assignment="centering", koleo=0.0),
    "accumulated": lambda: tiny(**STEPS | {"training.batch_size": 12}, koleo=0.0, assignment="centering", average=0.9),
    # Neighbours and assignments are those of a part: all processes must have the jets in it that one alone has.
    "in parts": lambda: tiny(**STEPS | {"training.batch_size": 12}, accumulate=2),
    "production": lambda: Recipe.preset("rino", **SMALL),
    "production, centering": lambda: Recipe.preset("rino", **SMALL, assignment="centering", koleo=0.0),
    "contrastive": lambda: Recipe.preset("contrastive", **STEPS, **CONTRASTIVE),
    "supcon": lambda: Recipe.preset("supcon", **STEPS, **CONTRASTIVE),
    "contrastive, weighted": lambda: Recipe.preset("contrastive", **STEPS, **CONTRASTIVE, weight="w"),
    "supcon, weighted": lambda: Recipe.preset("supcon", **STEPS, **CONTRASTIVE, weight="w"),
    "written in Python": lambda: Recipe("of-the-tests", **STEPS, **CONTRASTIVE),
    "written in Python, weighted": lambda: Recipe("of-the-tests", **STEPS, **CONTRASTIVE, weight="w"),
    "augmented": lambda: tiny(**STEPS),
    "augmented in parts": lambda: tiny(**STEPS | {"training.batch_size": 12}, accumulate=2),
    "production, masks alone": lambda: Recipe.preset("rino-ibot", **SMALL),
}


def trainer_of(name: str, **more: Any) -> Trainer:
    """Of a recipe of the above, on jets with weights."""
    jets = small_jets(N).with_value("w", np.arange(N) % 5)
    if name.startswith("augmented"):
        more["augmentation"] = rino.Augmentation(["rotate", functools.partial(rino.smear, constant=0.2)])
    return Trainer(RECIPES[name](), jets, dtype="float64", **more)


def numbers(reports: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in report.items() if name not in CLOCKS} for report in reports]


# --- what the ranks do (Crew calls it by name) ---


def in_step(ranks: Ranks, name: str, state: str, first: str | None = None, steps: int | None = None) -> Any:
    """Reports of the steps of a run, from a checkpoint on where one is given; leaves its state."""
    trainer = trainer_of(name, group=ranks.group)
    if first is not None:
        trainer.restore(first)
    reports = [trainer.step() for _ in range(len(trainer) - trainer.step_number if steps is None else steps)]
    trainer.save(state)
    trained = trainer.encoder("student" if trainer.recipe.method == "self-distillation" else "encoder")
    weights = sum(float(value.double().sum()) for value in trained.state_dict().values())
    return {"reports": numbers(reports), "weights": weights}


def pretrained(ranks: Ranks, out: str, train: str, elsewhere: bool = False, **arguments: Any) -> Any:
    """A run from files; with `elsewhere`, every rank but the first is told another folder."""
    folder = Path(out) if ranks.first or not elsewhere else Path(out) / f"of rank {ranks.rank}"
    run = pretrain(streamed_recipe(), train, folder, group=ranks.group, progress=False, **arguments)
    return {"history": run.history.rows, "loss": run.history["loss"].tolist(), "jets": run.jets_seen}


def streamed_recipe() -> Recipe:
    return tiny(**STEPS | {"training.batch_size": 60, "training.epochs": 3})


def streamed(
    ranks: Ranks, folder: str, state: str, first: str | None = None, steps: int = 10, window: int = 40
) -> list[Any]:
    """Which jets a rank trains on, step by step; leaves a checkpoint."""
    from test_dataset import identities

    taken = []
    dataset = open_dataset(folder, window=window, labelled=False, rank=ranks.rank, world_size=ranks.size)
    take = dataset._take

    def noted(count: int) -> Any:
        jets = take(count)
        taken.append(identities(Jets._wrap(jets)))
        return jets

    dataset._take = noted
    trainer = Trainer(streamed_recipe().replace(loader_threads=0), dataset, group=ranks.group)
    if first is not None:
        trainer.restore(first)
    for _ in range(steps):
        trainer.step()
    trainer.save(state)
    del trainer
    dataset.close()
    return taken


def tuned(ranks: Ranks, weight: str = "", task: str = "binary", out: str | None = None) -> Any:
    """A fine-tuning of 20 jets in batches of 12 and 8, in float64: losses and weights."""
    numbers = {"finetune.batch_size": 12, "finetune.epochs": 3, "probe_epochs": 3, "finetune.weight": weight}
    rates = {"probe_lr": 1e-2, "head_lr": 1e-2, "encoder_lr": 1e-2, "encoder.dropout": 0.0, "head_dropout": 0.0}
    task_of = {"finetune.task": task, "finetune.targets": ["v"] if task == "regression" else []}
    recipe = tiny(**numbers, **rates, **task_of, hidden1=4, hidden2=3)
    encoder = rino.JetEncoder(recipe, seed=2).double()
    jets = small_jets(N).with_value("w", np.arange(N) % 5).with_value("v", np.sqrt(np.arange(N)))
    if task == "multiclass":
        jets = jets.with_labels(np.arange(N) % 3)
    tagger = rino.finetune(encoder, jets, head="mlp", group=ranks.group, validation=jets[3:], progress=False, out=out)
    found = {name: tagger.history[name][3:].tolist() for name in ("loss", "validation_loss")}
    return {**found, "weights": [float(value.double().sum()) for value in tagger.state_dict().values()]}


def tuned_from_a_stream(ranks: Ranks, folder: str) -> Any:
    """Losses of a fine-tuning of this rank's share of a stream."""
    recipe = tiny(**{"finetune.batch_size": 60, "finetune.epochs": 1, "probe_epochs": 2})
    with open_dataset(folder, window=40, rank=ranks.rank, world_size=ranks.size) as dataset:
        encoder = rino.JetEncoder(recipe, seed=2)
        tagger = rino.finetune(encoder, dataset, signal=[0], group=ranks.group, progress=False)
    return tagger.history["loss"].tolist()


def chosen_from_a_stream(ranks: Ranks, folder: str) -> Any:
    """Validation losses of a fine-tuning whose validation is set aside from a stream, and all jets that were."""
    from test_dataset import identities

    from pyrino.data.labelled_stream import LabelledStream

    recipe = tiny(**{"finetune.batch_size": 40, "finetune.epochs": 2, "probe_epochs": 1, "finetune.set_aside": 0.2})
    aside = []
    set_aside = LabelledStream.set_aside

    def noted(self: LabelledStream) -> Jets:
        aside.append(set_aside(self))
        return aside[-1]

    LabelledStream.set_aside = noted
    try:
        with open_dataset(folder, window=40, rank=ranks.rank, world_size=ranks.size) as dataset:
            encoder = rino.JetEncoder(recipe, seed=2).double()
            tagger = rino.finetune(encoder, dataset, signal=[0], group=ranks.group, progress=False)
    finally:
        LabelledStream.set_aside = set_aside
    return tagger.history["validation_loss"].tolist()[1:], [list(jet) for jet in identities(aside[0])]


def refused(ranks: Ranks, what: str, folder: str) -> str:
    """The error that this rank raises."""
    jets = small_jets(N)
    with pytest.raises(RinoError) as error:
        if what == "share":
            with open_dataset(folder, labelled=False) as dataset:
                Trainer(streamed_recipe(), dataset, group=ranks.group)
        elif what == "batch":
            Trainer(tiny(batch_size=7), jets, group=ranks.group)
        elif what == "other jets":
            Trainer(tiny(batch_size=6), jets if ranks.first else small_jets(N, seed=9), group=ranks.group)
        elif what == "other recipe":
            Trainer(tiny(batch_size=6, koleo=0.0 if ranks.first else 0.1), jets, group=ranks.group)
        elif what == "folder":
            pretrain(tiny(batch_size=6), jets, folder, group=ranks.group)
        elif what == "reading":  # of a file that is there for rank 0 only
            pretrain(
                tiny(batch_size=6), folder if ranks.first else "nowhere.parquet", folder + "/new", group=ranks.group
            )
    return str(error.value)


def alone_although_joined(ranks: Ranks) -> Any:
    """Without `group` a trainer is alone: the other ranks do nothing meanwhile."""
    if not ranks.first:
        return None
    return numbers(list(Trainer(RECIPES["workshop"](), small_jets(N), dtype="float64")))


def largest(ranks: Ranks) -> Any:
    with ranks:
        return [ranks.largest(ranks.rank, 5 - ranks.rank), ranks.each(lambda: ranks.rank), ranks.size]


def agreed(ranks: Ranks) -> Any:
    asked = []

    def first() -> list[int]:
        asked.append(ranks.rank)
        return [1, 2]

    with ranks:
        return [ranks.first_does(first), asked]


def serve() -> None:
    """One rank: a line of standard input is a function of the above with its arguments, one of output what it gave."""
    torch.set_num_threads(1)
    import torch.distributed as dist

    dist.init_process_group("gloo")
    ranks = Ranks(dist.group.WORLD)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print("\n=>" + json.dumps(globals()[name](ranks, **arguments)), flush=True)
    dist.destroy_process_group()


# --- starting ranks ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environments(ranks: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
    usual = {**os.environ, **place, "OMP_NUM_THREADS": "1"}
    return [usual | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


class Crew:
    """Ranks that wait for something to do."""

    def __init__(self, ranks: int) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", __file__],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for environment in environments(ranks)
        ]

    def __call__(self, work: Callable[..., Any], **arguments: Any) -> list[Any]:
        """What each rank's call of `work` returned."""
        for process in self.processes:
            process.stdin.write(json.dumps([work.__name__, arguments]) + "\n")
            process.stdin.flush()
        answers = []
        for process in self.processes:
            line = next((line for line in process.stdout if line.startswith("=>")), None)
            assert line is not None, f"a rank has ended with {process.wait(60)}"
            answers.append(json.loads(line[2:]))
        return answers

    def end(self) -> list[int]:
        """Their exit statuses."""
        for process in self.processes:
            process.stdin.close()
        status = []
        for process in self.processes:
            try:
                status.append(process.wait(10))
            except subprocess.TimeoutExpired:
                process.kill()
                status.append(process.wait())
            process.stdout.close()
        return status


@pytest.fixture(scope="module")
def crews() -> Iterator[Callable[[int], Crew]]:
    """Two and three ranks, started when they are first needed."""
    started: dict[int, Crew] = {}

    def crew(ranks: int) -> Crew:
        if ranks not in started:
            started[ranks] = Crew(ranks)
        return started[ranks]

    yield crew
    status = [one.end() for one in started.values()]
    assert not any(map(any, status)), status


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """600 jets in six files, in row groups of 10."""
    from test_dataset import as_written
    from test_readers import columns_of, write_parquet

    folder = tmp_path_factory.mktemp("files")
    for number in range(6):
        write_parquet(folder / f"{number}.parquet", columns_of(as_written(100, 40 + number)), row_group_size=10)
    return folder


EVERY = [(f"{number}.parquet", entry) for number in range(6) for entry in range(100)]


# --- the same numbers ---


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("weight", "task"), [("", "binary"), ("w", "binary"), ("w", "multiclass"), ("w", "regression")]
)
def test_fine_tuning_on_several_ranks_is_that_of_one(crews, count, weight, task, tmp_path):
    """Embeddings that all compute together, a last batch that they share unequally, validation, weights."""
    alone = tuned(Ranks(), weight, task)
    for one in crews(count)(tuned, weight=weight, task=task, out=str(tmp_path / "run")):
        for name, wanted in alone.items():
            np.testing.assert_allclose(one[name], wanted, rtol=1e-10, atol=1e-12)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["history.parquet", "tagger.safetensors"]


def test_fine_tuning_of_a_stream_takes_each_ranks_share(crews, files):
    one, other = crews(2)(tuned_from_a_stream, folder=str(files))
    assert one == other and len(one) == 3 and np.isfinite(one).all()


def test_a_stream_on_several_ranks_sets_the_same_jets_aside_as_on_one(crews, files):
    (one, mine), (other, yours) = crews(2)(chosen_from_a_stream, folder=str(files))
    assert one == other and np.isfinite(one).all() and len(one) == 2
    _, all_of_one = chosen_from_a_stream(Ranks(), str(files))
    assert mine and yours and sorted(mine + yours) == sorted(all_of_one)


@functools.cache
def one_process(name: str) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Reports and final state of one process with the joint batch."""
    trainer = trainer_of(name)
    reports = numbers(list(trainer))
    return reports, state_of(trainer)


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        trainer.save(Path(folder) / "state")
        return safetensors.torch.load_file(Path(folder) / "state")


def assert_equal_up_to_rounding(answers: list[Any], state: Path, name: str, begin: int = 0) -> None:
    reports, expected = one_process(name)
    for answer in answers:  # every rank reports the same, bit by bit
        assert answer == answers[0]
    assert len(answers[0]["reports"]) == len(reports) - begin > 0
    for mine, theirs in zip(answers[0]["reports"], reports[begin:], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10, abs=1e-12)
    found = safetensors.torch.load_file(state)
    assert found.keys() == expected.keys()
    moved = 0.0
    for key, value in expected.items():
        if key in ("trainer.position", "trainer.data"):
            continue
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}")
        if key.startswith("trained."):
            moved = max(moved, float(value.abs().max()))
    assert found["trainer.data"].equal(expected["trainer.data"]) and moved > 0
    assert found["trainer.position"].shape == (len(answers), 2)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "accumulated"])
def test_several_processes_train_as_one_with_the_joint_batch(crews, tmp_path, name, ranks):
    answers = crews(ranks)(in_step, name=name, state=str(tmp_path / "state"))
    assert_equal_up_to_rounding(answers, tmp_path / "state", name)


def test_parts_of_a_batch_and_the_moving_average_are_shared_out_too(crews, tmp_path):
    """Where the loss is a mean over jets, parts in turn and parts on other processes are the same."""
    answers = crews(2)(in_step, name="accumulated", state=str(tmp_path / "state"))
    assert_equal_up_to_rounding(answers, tmp_path / "state", "accumulated")
    assert "average" in safetensors.torch.load_file(tmp_path / "state")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 3), (1, 2), (3, 2)])
def test_another_number_of_processes_goes_on_exactly_with_jets_in_memory(crews, tmp_path, before, after):
    arguments = {"name": "production", "state": str(tmp_path / "first"), "steps": 5}
    begun = crews(before)(in_step, **arguments) if before > 1 else [in_step(Ranks(), **arguments)]
    assert len(begun[0]["reports"]) == 5
    arguments = {"name": "production", "state": str(tmp_path / "second"), "first": str(tmp_path / "first")}
    ended = crews(after)(in_step, **arguments) if after > 1 else [in_step(Ranks(), **arguments)]
    assert_equal_up_to_rounding(ended, tmp_path / "second", "production", begin=5)


def test_as_many_processes_go_on_bit_by_bit(crews, tmp_path):
    whole = crews(2)(in_step, name="production", state=str(tmp_path / "whole"))
    crews(2)(in_step, name="production", state=str(tmp_path / "first"), steps=7)
    rest = crews(2)(in_step, name="production", state=str(tmp_path / "rest"), first=str(tmp_path / "first"))
    assert rest[0]["reports"] == whole[0]["reports"][7:] and rest[0]["weights"] == whole[0]["weights"]
    assert (tmp_path / "rest").read_bytes() == (tmp_path / "whole").read_bytes()


def test_without_a_group_a_trainer_is_alone_although_others_are_there(crews):
    assert crews(2)(alone_although_joined) == [one_process("workshop")[0], None]


def test_ranks_agree(crews):
    assert crews(3)(largest) == [[[2, 5], rank, 3] for rank in range(3)]
    assert crews(3)(agreed) == [[[1, 2], [0]], [[1, 2], []], [[1, 2], []]]
    assert largest(Ranks()) == [[0, 5], 0, 1] and Ranks().first_does(lambda: "x") == "x"


# --- streams ---


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_jet_of_a_pass_goes_to_one_process(crews, files, tmp_path, ranks):
    taken = crews(ranks)(streamed, folder=str(files), state=str(tmp_path / "state"), steps=20)
    assert all(len(batch) == 60 // ranks for share in taken for batch in share)
    for begin, end in ((0, 10), (10, 20)):
        seen = [tuple(jet) for share in taken for batch in share[begin:end] for jet in batch]
        assert len(seen) == 600 and sorted(seen) == EVERY
    positions = safetensors.torch.load_file(tmp_path / "state")["trainer.position"]
    assert positions.tolist() == [[2, 0, 0]] * ranks


def test_a_stream_goes_on_with_as_many_processes_exactly_and_with_others_nearby(crews, files, tmp_path):
    whole = crews(2)(streamed, folder=str(files), state=str(tmp_path / "whole"), steps=17)
    first = crews(2)(streamed, folder=str(files), state=str(tmp_path / "first"), steps=6)
    rest = crews(2)(streamed, folder=str(files), state=str(tmp_path / "rest"), first=str(tmp_path / "first"), steps=11)
    for one, two, three in zip(whole, first, rest, strict=True):
        assert two + three == one
    assert (tmp_path / "rest").read_bytes() == (tmp_path / "whole").read_bytes()
    others = crews(3)(streamed, folder=str(files), state=str(tmp_path / "o"), first=str(tmp_path / "first"), steps=14)
    seen = [tuple(jet) for share in others for batch in share[:4] for jet in batch]
    assert len(seen) == 240
    before = {tuple(jet) for share in first for batch in share for jet in batch}
    assert len(before) == 360 and len(before & set(seen)) < 240  # near the same place, other windows
    after = [tuple(jet) for share in others for batch in share[4:] for jet in batch]
    assert sorted(after) == EVERY  # the next pass is whole
    positions = safetensors.torch.load_file(tmp_path / "o")["trainer.position"]
    assert positions.tolist() == [[2, 0, 0]] * 3


# --- files ---


def test_rank_0_alone_writes_and_another_number_of_ranks_goes_on(crews, files, tmp_path):
    out = tmp_path / "run"
    alone = pretrain(streamed_recipe(), str(files), tmp_path / "alone", progress=False)
    two = crews(2)(pretrained, out=str(out), train=str(files), elsewhere=True)
    assert two[0] == two[1] == {"history": 30, "loss": two[0]["loss"], "jets": 1800}
    np.testing.assert_allclose(two[0]["loss"], alone.history["loss"], rtol=2e-4)  # float32
    assert sorted(os.listdir(out)) == sorted(os.listdir(alone.out))
    assert len(os.listdir(out / "tensorboard")) == 1
    assert rino.JetEncoder.load(out).embed(small_jets(3)).shape == (3, 8)
    (out / "encoder.safetensors").unlink()
    again = crews(3)(pretrained, out=str(out), train=str(files), resume=True)
    assert [answer["history"] for answer in again] == [30] * 3 and (out / "encoder.safetensors").is_file()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("share", r"the share of rank 0 of 1 and this is rank (\d) of 2: open it with rank=\1, world_size=2"),
        ("batch", "batch_size is 7, which 2 processes with accumulate = 1 cannot share evenly"),
        ("other jets", "process 1 of 2 has other jets"),
        ("other recipe", r"'loss\.koleo' is 0\.1 on rank 1 and 0\.0 on rank 0: give all the same recipe"),
        ("folder", "holds a run already: give resume=True"),
        ("reading", r"^rank 1 of 2 \(.+, pid \d+\): .*nowhere.parquet"),
    ],
)
def test_what_cannot_be_is_refused_by_all_alike(crews, files, tmp_path, what, words):
    (tmp_path / "recipe.toml").write_text("")
    said = crews(2)(refused, what=what, folder=str(files if what in ("share", "reading") else tmp_path))
    assert all(re.search(words, one) for one in said), said
    if what != "share":
        assert said[0] == said[1]
    assert crews(2)(agreed)[0] == [[1, 2], [0]]  # they can go on


def test_groups_that_are_none_are_refused():
    for group in (3, "WORLD", object()):
        with pytest.raises(RinoError, match=r"group is .*: give a ProcessGroup of torch\.distributed"):
            Trainer(tiny(), small_jets(N), group=group)
    ranks = Ranks()
    assert ranks_of(ranks) is ranks and ranks.alone and ranks.first and repr(ranks) == "Ranks(0 of 1)"


# --- joining ---


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "1", "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two': torchrun sets it to a whole number"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "MASTER_ADDR is not: start with torchrun"),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x"}, "MASTER_PORT is not"),
    ],
)
def test_variables_that_do_not_fit_are_named(monkeypatch, variables, words):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RinoError, match=words), joined():
        pass


@pytest.mark.parametrize("variables", [{}, {"RANK": "0", "WORLD_SIZE": "1"}, {"WORLD_SIZE": "4"}])
def test_alone_nothing_is_joined(monkeypatch, variables):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with joined("cpu") as ranks:
        assert ranks.alone and ranks.device == torch.device("cpu")
        assert not torch.distributed.is_initialized()
    with pytest.raises(RinoError, match="there is no device 'gpu'"), joined("gpu"):
        pass


def test_every_process_of_a_machine_has_its_own_gpu(monkeypatch):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, words in (("cuda", "LOCAL_RANK is 1 but"), ("cuda:3", "device is 'cuda:3' but")):
        with pytest.raises(RinoError, match=f"{words} torch sees 1 CUDA devices .*one process for each GPU"):
            with joined(device):
                pass


# --- ends ---


def script(text: str, ranks: int) -> list[subprocess.Popen[str]]:
    """Processes that run a program of their own."""
    code = f"import os, sys, time, signal\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "import pyrino as rino, pyrino.ranks\nfrom helpers import small_jets, tiny\n" + textwrap.dedent(text)
    return [begin([sys.executable, "-c", code], environment) for environment in environments(ranks)]


_BEGUN: list[subprocess.Popen[str]] = []


def begin(command: list[str], environment: dict[str, str], **more: Any) -> subprocess.Popen[str]:
    """A process that does not outlive the test."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    _BEGUN.append(subprocess.Popen(command, env=environment, **pipes, **more))
    return _BEGUN[-1]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    while _BEGUN:
        process = _BEGUN.pop()
        process.terminate()  # torchrun ends its own processes then
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ended(processes: list[subprocess.Popen[str]], timeout: float = 60) -> tuple[list[int], list[str], list[str]]:
    """Exit statuses and what was written to standard output and error."""
    end = time.monotonic() + timeout
    texts = [process.communicate(timeout=max(end - time.monotonic(), 0.1)) for process in processes]
    return [process.returncode for process in processes], [out for out, _ in texts], [err for _, err in texts]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def started(out: Path) -> bool:
    return (out / "checkpoint.safetensors").is_file()


LONG = """
    from pyrino.cli import main
    sys.exit(main(["pretrain", "{recipe}", "--train", "{train}", "--out", "{out}", "--checkpoint-minutes", "0",
                   "--resume", *{more!r}]))
"""


def long_run(files: Path, folder: Path, ranks: int, epochs: int = 100_000, *more: str) -> list[subprocess.Popen[str]]:
    tiny(**STEPS | {"training.batch_size": 60, "training.epochs": epochs}).save(folder / "long.toml")
    text = LONG.format(recipe=folder / "long.toml", train=files, out=folder / "run", more=more)
    return script(text, ranks)


NAMED = r"pyrino: error: rank {rank} of {ranks} \({host}, pid {pid}\) "


def errors_of(texts: list[str]) -> list[str]:
    return [line for text in texts for line in text.splitlines() if line.startswith("pyrino: error:")]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_the_others_with_a_message_that_names_it(files, tmp_path, victim):
    processes = long_run(files, tmp_path, 3)
    wait_for(lambda: started(tmp_path / "run"))
    processes[victim].kill()
    begin = time.monotonic()
    status, _, errors = ended(processes)
    assert time.monotonic() - begin < 30
    assert status == [-signal.SIGKILL if rank == victim else 2 for rank in range(3)]
    (said,) = errors_of(errors)
    named = NAMED.format(rank=victim, ranks=3, host=re.escape(socket.gethostname()), pid=processes[victim].pid)
    assert re.match(named + "has died.*: go on from the last checkpoint in .*run with --resume$", said)
    assert "Traceback" not in "".join(errors)


def test_a_rank_that_hangs_ends_the_others(files, tmp_path):
    """Stopped, it keeps its connections; what a cluster's network does when it breaks looks the same."""
    text = """
        pyrino.training.liveness._SILENCE, pyrino.training.liveness._BEAT = 4.0, 0.5
        with pyrino.ranks.joined() as ranks:
            if ranks.rank == 1:
                print(flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            rino.pretrain(tiny(batch_size=6), small_jets(20), {out!r}, group=ranks, progress=False)
    """
    processes = script(text.format(out=str(tmp_path / "run")), 2)
    processes[1].stdout.readline()
    assert processes[0].wait(60) == 1
    processes[1].kill()
    _, _, errors = ended(processes)
    assert re.search(r"RinoError: rank 1 of 2 \(.*\) has not been heard of for \d s: it hangs", errors[0])


def test_a_process_that_is_stuck_is_ended_from_aside():
    text = """
        pyrino.training.liveness._GRACE = 1.0
        with pyrino.ranks.joined() as ranks:
            if ranks.rank == 1:
                os._exit(7)
            time.sleep(1000)
    """
    status, _, errors = ended(script(text, 2))
    assert status == [2, 7] and len(errors_of(errors)) == 1
    assert "rank 1 of 2" in errors[0] and "has died" in errors[0]


def test_a_rank_that_is_slow_is_waited_for(tmp_path):
    """Long in its own work, in Python and outside, and signs of life come all the same."""
    text = """
        pyrino.training.liveness._SILENCE, pyrino.training.liveness._BEAT = 2.0, 0.3
        with pyrino.ranks.joined() as ranks:
            def read():
                end = time.monotonic() + 4 * ranks.rank
                while time.monotonic() < end:
                    sum(range(100000))
                time.sleep(2 * ranks.rank)
                return small_jets(20)
            jets = ranks.each(read)
            rino.pretrain(tiny(batch_size=6, epochs=1), jets, {out!r}, group=ranks, progress=False)
        print("done")
    """
    status, outputs, errors = ended(script(text.format(out=str(tmp_path / "run")), 2))
    assert (status, outputs, errors) == ([0, 0], ["done\n"] * 2, ["", ""])


@pytest.mark.parametrize("where", ["reading", "training"])
def test_a_rank_that_fails_says_so_for_all(tmp_path, where):
    text = """
        class Broken(rino.data.JetStream):
            share, position, jets = None, (0,), small_jets(20)
            seek = _go_back = lambda self, *_: None
            __len__ = lambda self: 1000
            _fingerprint = lambda self: [1]
            taken = 0
            def _take(self, count):
                self.taken += 1
                if self.taken == 5 and ranks.rank == 1:
                    raise rino.RinoError("x.parquet is broken")
                return self.jets[:count]._core
        def read():
            if {where!r} == "reading" and ranks.rank == 1:
                raise rino.RinoError("x.parquet is broken")
            time.sleep(3 * (1 - ranks.rank))
            return Broken()
        with pyrino.ranks.joined() as ranks:
            ranks.say = lambda error: print("pyrino: error:", error, file=sys.stderr, flush=True)
            rino.pretrain(tiny(batch_size=6), ranks.each(read), {out!r}, group=ranks, progress=False)
    """
    processes = script(text.format(where=where, out=str(tmp_path / "run")), 2)
    status, _, errors = ended(processes)
    assert status == [1, 1]  # what Python ends with; the message is the same on both
    (said,) = errors_of(errors)
    assert said.endswith(f"rank 1 of 2 ({socket.gethostname()}, pid {processes[1].pid}): x.parquet is broken")
    assert all(f"RinoError: {said.removeprefix('pyrino: error: ')}" in text for text in errors)


def test_an_error_of_another_kind_is_told_too_and_ends_the_rank_as_it_would():
    text = """
        import torch
        def read():
            if ranks.rank == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
        with pyrino.ranks.joined() as ranks:
            ranks.each(read)
    """
    processes = script(text, 2)
    status, _, errors = ended(processes)
    assert status == [1, 1] and errors[1].strip().endswith("OutOfMemoryError: CUDA out of memory")
    assert re.search(rf"RinoError: rank 1 of 2 \(.*, pid {processes[1].pid}\): OutOfMemoryError: CUDA out", errors[0])


def test_errors_of_all_are_said_once(files, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.toml").write_text("")
    tiny(**STEPS).save(tmp_path / "r.toml")
    for arguments, words in (
        (["--out", str(out)], f"the folder {out} holds a run already: give --resume to go on, --overwrite to replace"),
        (["--out", str(tmp_path / "new"), "--set", "optimizer.rate=3"], "optimizer.rate"),
    ):
        text = f"""
            from pyrino.cli import main
            sys.exit(main(["pretrain", {str(tmp_path / "r.toml")!r}, "--train", {str(files)!r}, *{arguments!r}]))
        """
        status, outputs, errors = ended(script(text, 2))
        assert status == [2, 2] and outputs[1] == ""
        assert "".join(errors).count("\n") == 1 and words in "".join(errors)


@pytest.mark.parametrize(
    ("ranks", "number", "status"),
    [(1, signal.SIGTERM, 143), (2, signal.SIGTERM, 143), (2, signal.SIGUSR1, 138), (2, signal.SIGINT, 130)],
)
def test_a_signal_to_any_rank_ends_all_with_a_checkpoint(files, tmp_path, ranks, number, status):
    out = tmp_path / "run"
    tiny(**STEPS | {"training.batch_size": 60, "training.epochs": 100_000}).save(tmp_path / "r.toml")
    arguments = [str(tmp_path / "r.toml"), "--train", str(files), "--out", str(out)]
    text = f"""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        from pyrino.cli import main
        sys.exit(main(["pretrain", *{arguments!r}, "--resume"]))
    """
    processes = script(text, ranks)
    wait_for(lambda: any((out / "tensorboard").glob("events*")))
    time.sleep(0.5)
    processes[-1].send_signal(number)
    found, _, errors = ended(processes)
    assert found == [status] * ranks
    by = "" if number == signal.SIGINT else f" by {number.name}"
    (said,) = [line for text in errors for line in text.splitlines() if line.startswith("pyrino: stopped")]
    done = re.fullmatch(
        rf"pyrino: stopped{by} after (\d+) of \d+ steps; the checkpoint is in .*, go on with --resume", said
    )
    assert int(done[1]) == rino.History.load(out / "history.parquet").rows
    progress = safetensors.torch.load_file(out / "checkpoint.safetensors")["trainer.progress"]
    assert progress[0] == int(done[1])


def test_a_signal_before_training_ends_all(files):
    text = """
        with pyrino.ranks.joined() as ranks:
            def read():
                print("reading", flush=True)
                time.sleep(1000)
            ranks.each(read)
    """
    processes = script(text, 2)
    for process in processes:
        assert process.stdout.readline() == "reading\n"
    processes[1].terminate()
    status, _, errors = ended(processes)
    assert status[0] == 1 or status[0] == 2
    assert "stopped by SIGTERM before the first step" in errors[0] and "rank 1 of 2" in errors[0]


def test_stopped_is_a_keyboard_interrupt_with_a_status():
    assert Stopped("x").status == 130 and Stopped("x", signal.SIGTERM).status == 143
    assert isinstance(Stopped("x"), KeyboardInterrupt)


# --- torchrun ---


def torchrun(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments, "-m", "pyrino"]


def test_torchrun_fine_tunes(tmp_path):
    """From a file with labels, on two processes as on one."""
    jets = small_jets(60)
    names = ("part_px", "part_py", "part_pz", "part_energy")
    columns = {n: np.split(np.asarray(c), jets.offsets[1:-1]) for n, c in zip(names, jets.p4.T, strict=True)}
    pq.write_table(pa.table(columns | {"jet_label": jets.labels}), tmp_path / "jets.parquet")
    numbers = {"finetune.batch_size": 20, "finetune.epochs": 2, "probe_epochs": 2, "encoder.dropout": 0.0}
    encoder = rino.JetEncoder(tiny(**numbers), seed=1).double()
    encoder.save(tmp_path / "encoder.safetensors")
    out = tmp_path / "run"
    common = ["finetune", str(tmp_path / "encoder.safetensors"), "--train", str(tmp_path / "jets.parquet")]
    arguments = [*common, "--signal-classes", "1", "--out", str(out), "--resume"]
    process = begin([*torchrun(), *arguments], {**os.environ, "OMP_NUM_THREADS": "1"})
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "2 processes, device cpu" in output and output.count("the tagger is in") == 1
    labels = jets.labels == 1
    alone = rino.finetune(encoder, (jets, labels), progress=False)
    found = rino.Tagger.load(out)
    np.testing.assert_allclose(found.history["loss"], alone.history["loss"], rtol=1e-10)
    np.testing.assert_allclose(found.predict(jets), alone.predict(jets), rtol=1e-10)


def test_torchruns_restart_goes_on_from_the_last_checkpoint(files, tmp_path):
    """One rank is killed: the run that is restarted ends as one that was never disturbed, bit by bit."""
    tiny(**STEPS | {"training.batch_size": 60, "training.epochs": 12}).save(tmp_path / "r.toml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, disturbed in (("whole", False), ("restarted", True)):
        out = tmp_path / name
        arguments = ["pretrain", str(tmp_path / "r.toml"), "--train", str(files), "--out", str(out), "--resume"]
        agent = begin([*torchrun("--max-restarts", "2"), *arguments, "--checkpoint-minutes", "0"], environment)
        if disturbed:
            wait_for(lambda out=out: started(out))
            (victim,) = [pid for pid in children_of(agent.pid) if environment_of(pid).get("RANK") == "1"]
            os.kill(victim, signal.SIGKILL)
        output, errors = agent.communicate(timeout=120)
        assert agent.returncode == 0, errors
    assert f"pyrino: error: rank 1 of 2 ({socket.gethostname()}, pid {victim}) has died" in errors
    assert re.search(r"went on after step \d+", output) and output.count("the encoder is in") == 1
    one, other = (rino.History.load(tmp_path / name / "history.parquet") for name in ("whole", "restarted"))
    assert one.rows == 120
    for column in set(one) - set(CLOCKS):
        np.testing.assert_array_equal(one[column], other[column], err_msg=column)
    for file in ("checkpoint.safetensors", "encoder.safetensors"):
        tensors = [safetensors.torch.load_file(tmp_path / name / file) for name in ("whole", "restarted")]
        assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


SLURM = {
    "scontrol": 'echo "here"; echo "there"',
    # What Slurm does with it: SIGTERM to the steps.
    "scancel": 'echo "scancel $*" >>calls; [[ $1 == --signal=TERM ]] && kill -TERM "$(<step)"; true',
    "sbatch": 'echo "sbatch $*" >>calls',
    "srun": 'while [[ $1 == --* ]]; do shift; done; echo $$ >step; exec "$@"',
    # A run of three elements: each writes a checkpoint when it is told to stop, the third one ends.
    "torchrun": """
        here=$PWD
        echo "torchrun $*" >>calls
        echo "OMP_NUM_THREADS=$OMP_NUM_THREADS" >>calls
        [[ ${BROKEN-} ]] && exit 1
        trap 'mkdir -p "$here/runs/rino"; echo x >>"$here/runs/rino/checkpoint.safetensors"; exit 1' TERM
        cd runs/rino 2>/dev/null && [[ $(wc -l <checkpoint.safetensors) == 2 ]] && touch encoder.safetensors && exit
        while true; do sleep 0.05; done
    """,
}


class Slurm:
    """A script of a job array, run as Slurm would do it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in SLURM.items():
            (folder / "bin" / name).write_text("#!/bin/bash\n" + textwrap.dedent(text))
            (folder / "bin" / name).chmod(0o755)
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "activate").write_text("")
        self.script = folder / "pretrain.sbatch"
        shutil.copy(ROOT / "examples" / "slurm" / "pretrain.sbatch", self.script)

    def __call__(self, element: int, *, warned: bool = True, **more: str) -> tuple[int, list[str], str]:
        """Exit status of an element, what was called, and what it printed."""
        (self.folder / "calls").write_text("")
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "70003",
            "SLURM_ARRAY_JOB_ID": "70000",
            "SLURM_ARRAY_TASK_ID": str(element),
            "SLURM_ARRAY_TASK_MAX": "2",
            "SLURM_JOB_NODELIST": "here,there",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "32",
            "SLURM_GPUS_ON_NODE": "4",
        }
        process = begin(["bash", str(self.script)], environment | more, cwd=self.folder)
        if warned:
            wait_for(lambda: "OMP" in (self.folder / "calls").read_text())
            process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate(timeout=30)
        return process.returncode, (self.folder / "calls").read_text().splitlines(), output + errors


def test_the_job_array_goes_on_until_the_run_is_done(tmp_path):
    slurm = Slurm(tmp_path)
    status, calls, said = slurm(1)
    assert status == 0 and "the next element goes on from runs/rino/checkpoint.safetensors" in said
    assert calls[0] == (
        "torchrun --nnodes=2 --nproc-per-node=gpu --max-restarts=2 --rdzv-backend=c10d --rdzv-endpoint=here:30003 "
        "--rdzv-id=70003 -m pyrino pretrain rino --train /data/JetClass/train_100M --out runs/rino --device cuda "
        "--resume"
    )
    assert calls[1:] == ["OMP_NUM_THREADS=8", "scancel --signal=TERM 70000_1"]
    status, calls, said = slurm(2)
    assert status == 0 and calls[2:] == ["scancel --signal=TERM 70000_2", f"sbatch {slurm.script}"]
    status, calls, said = slurm(1, warned=False)
    assert status == 0 and calls[2:] == ["scancel --state=PENDING 70000"] and "the run is done" in said
    assert slurm(2, warned=False)[:2] == (0, ["scancel --state=PENDING 70000"])


def test_the_job_array_does_not_try_again_what_fails(tmp_path):
    status, calls, said = Slurm(tmp_path)(2, warned=False, BROKEN="yes")
    assert status == 1 and calls[2:] == ["scancel --state=PENDING 70000"]
    assert "no checkpoint was written, status 1" in said


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


if __name__ == "__main__":
    serve()
