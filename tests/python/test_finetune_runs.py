"""Fine-tuning as a run: resumed bit by bit, from streams, weighed, the best epoch, settings that lose less."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import torch
from helpers import assert_same_weights, plain_lp_ft, small_jets, tiny, weights_of

import pyrino as rino
from pyrino import JetEncoder, Jets, Recipe, RinoError, Tagger, finetune, pretrain, train_supervised
from pyrino.data.labelled_stream import LabelledStream
from pyrino.training.ranks import Stopped
from pyrino.training.tagger_trainer import TaggerTrainer

ROOT = Path(__file__).resolve().parents[2]
N = 44


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(N, seed=9)


@pytest.fixture(scope="module")
def files(jets, tmp_path_factory) -> Path:
    """Two files of the jets with labels 3 (signal) and 5, weights, in row groups of 5."""
    names = ("part_px", "part_py", "part_pz", "part_energy")
    columns = zip(names, (jets.px, jets.py, jets.pz, jets.e), strict=True)
    table = pa.table({n: np.split(np.asarray(c), jets.offsets[1:-1]) for n, c in columns})
    table = table.append_column("jet_label", pa.array(np.where(jets.labels == 1, 3, 5)))
    table = table.append_column("jet_weight", pa.array(np.sqrt(jets.pt)))
    folder = tmp_path_factory.mktemp("files")
    for number in range(2):
        pq.write_table(table.slice(22 * number, 22), folder / f"{number}.parquet", row_group_size=5)
    return folder


def short(**overrides: Any) -> Recipe:
    """Two epochs of each phase in batches of 16, 16 and 12, with dropout everywhere."""
    numbers = {
        "finetune.batch_size": 16,
        "finetune.epochs": 2,
        "probe_epochs": 2,
        "encoder_lr": 1e-2,
        "head_lr": 2e-2,
        "probe_lr": 3e-2,
        "finetune.head": "mlp",
        "hidden1": 6,
        "hidden2": 5,
        "supervised.lr": 1e-2,
        "supervised.epochs": 4,
        "encoder.dropout": 0.2,
    }
    return tiny(**{**numbers, **overrides})


def tuned(jets: Any, recipe: Recipe | None = None, **arguments: Any) -> Tagger:
    encoder = JetEncoder(recipe or short(), seed=2)
    return finetune(encoder, jets, **{"progress": False, **arguments})


def supervised(jets: Any, recipe: Recipe | None = None, **arguments: Any) -> Tagger:
    return train_supervised(recipe or short(), jets, **{"progress": False, **arguments})


class Ends(Exception):
    """As a kill, before anybody can do something about it."""


def at(step: int, error: BaseException) -> Any:
    def callback(report: dict[str, float]) -> None:
        if report["step"] == step:
            raise error

    return callback


# --- resume ---


@pytest.mark.parametrize("step", [1, 4, 5, 6, 10])  # the boundary is behind step 5
@pytest.mark.parametrize("from_files", [False, True])
def test_a_run_that_was_stopped_goes_on_bit_by_bit(jets, files, tmp_path, step, from_files):
    if from_files:
        train, more = (lambda: rino.open_dataset(files)), {"signal": [3]}
    else:
        train, more = (lambda: jets), {}
    whole = tuned(train(), **more)
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=rf"stopped after {step + 1} of 12 steps; the checkpoint is in .*resume=True"):
        tuned(train(), out=out, callback=at(step, KeyboardInterrupt()), **more)
    assert "tagger.safetensors" not in os.listdir(out) and "checkpoint.safetensors" in os.listdir(out)
    with safetensors.safe_open(out / "checkpoint.safetensors", "pt") as file:
        assert file.metadata()["phase"] == ("probing" if step < 5 else "fine-tuning")
    with pytest.raises(RinoError, match="holds a run already: give overwrite=True"):
        tuned(train(), out=out, **more)
    again = tuned(train(), out=out, resume=True, **more)
    assert_same_weights(again, whole)
    assert again.history["loss"].tolist() == whole.history["loss"].tolist()
    assert again.history["probing"].tolist() == [1, 1, 0, 0]
    assert sorted(os.listdir(out)) == ["history.parquet", "tagger.safetensors"]
    assert_same_weights(tuned(train(), out=out, resume=True, **more), whole)  # finished: it is read


def test_supervised_training_goes_on_too_with_its_best_epoch(jets, tmp_path):
    recipe = short(validation=0.25, patience=2, **{"supervised.epochs": 12, "supervised.lr": 0.05})
    whole = supervised(jets, recipe)
    steps = 3 * whole.history.rows
    for step in (2, 7, steps - 2):
        out = tmp_path / str(step)
        with pytest.raises(Stopped):
            supervised(jets, recipe, out=out, callback=at(step, KeyboardInterrupt()))
        again = supervised(jets, recipe, out=out, resume=True)
        assert_same_weights(again, whole)
        assert again.history["validation_loss"].tolist() == whole.history["validation_loss"].tolist()


def test_checkpoints_are_written_while_it_runs_and_fit_their_run_alone(jets, tmp_path):
    with pytest.raises(Ends):
        tuned(jets, out=tmp_path / "run", checkpoint_minutes=0.0, callback=at(4, Ends()))
    with pytest.raises(RinoError, match=r"'finetune\.head_lr' is 0\.5 but 0\.02 in .*checkpoint"):
        tuned(jets, short(head_lr=0.5), out=tmp_path / "run", resume=True)
    with pytest.raises(RinoError, match="made with other jets, batch size or seed"):
        tuned(jets[:40], out=tmp_path / "run", resume=True)
    assert_same_weights(tuned(jets, out=tmp_path / "run", resume=True), tuned(jets))


def test_a_stream_that_was_stopped_before_its_first_step_goes_on(files, tmp_path):
    with rino.open_dataset(files) as stream:
        whole = tuned(stream, signal=[3])
    with rino.open_dataset(files) as stream:
        trainer = TaggerTrainer(Tagger(JetEncoder(short(), seed=2), "mlp", 0), LabelledStream(stream, [3]))
        trainer.save(tmp_path / "checkpoint.safetensors")
        trainer.finish()
    with rino.open_dataset(files) as stream:
        trainer = TaggerTrainer(Tagger(JetEncoder(short(), seed=2), "mlp", 0), LabelledStream(stream, [3]))
        trainer.restore(tmp_path / "checkpoint.safetensors")
        for _ in trainer:
            pass
        assert_same_weights(trainer.finish(), whole)


def test_folders_are_needed_where_something_is_kept(jets):
    with pytest.raises(RinoError, match="resume=True needs a folder: give out="):
        tuned(jets, resume=True)


def test_a_callback_sees_every_step_and_ends_the_run(jets, tmp_path):
    seen: list[dict[str, float]] = []
    tuned(jets, callback=seen.append)
    assert [report["step"] for report in seen] == list(range(12)) and all("loss" in report for report in seen)
    with pytest.raises(Ends):
        tuned(jets, out=tmp_path / "run", callback=at(8, Ends()))
    assert "tagger.safetensors" not in os.listdir(tmp_path / "run")
    runs: list[dict[str, float]] = []
    pretrain(tiny(batch_size=20, epochs=1), jets, tmp_path / "pre", progress=False, callback=runs.append)
    assert [report["step"] for report in runs] == [0, 1]


def test_tensorboard_shows_the_loss(jets, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tagger = tuned(jets, out=tmp_path / "run", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(12))
    sizes = np.array([16, 16, 12])
    losses = np.array([event.value for event in events.Scalars("loss")]).reshape(4, 3)
    np.testing.assert_allclose((losses * sizes).sum(axis=1) / N, tagger.history["loss"], rtol=1e-6)


@pytest.mark.parametrize("what", ["full", "missing"])
def test_embeddings_that_find_no_room_are_an_error_that_says_where(tmp_path, what):
    """A limit of the size of files stands for a full disk."""
    program = f"""
import resource, sys
import pyrino as rino
if {what == "full"}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
jets = rino.toy_jets(200, seed=1, top_fraction=0.5)
recipe = rino.Recipe.preset("nano", **{{"finetune.memory": 0.0, "probe_epochs": 1, "finetune.epochs": 0}})
try:
    rino.finetune(rino.JetEncoder(recipe, seed=1), jets, progress=False)
except rino.RinoError as error:
    print(error)
"""
    folder = tmp_path / "scratch"
    if what == "full":
        folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    if what == "missing":
        assert "the folder for temporary files (TMPDIR) cannot be used" in done.stdout
    else:
        assert f'there is no room for 25600 bytes in "{folder}" (File too large): make some' in done.stdout
        assert os.listdir(folder) == []


# --- streams ---


def test_files_and_streams_are_trained_on(jets, files, tmp_path):
    by_path = tuned(files, signal=[3])
    assert_same_weights(tuned(tuple(sorted(files.iterdir())), signal=[3]), by_path)
    with rino.open_dataset(files) as stream:
        streamed = tuned(stream, signal=[3])
    assert by_path.history.rows == streamed.history.rows == 4
    assert np.isfinite(streamed.history["loss"]).all()
    # From files in memory as from jets in memory.
    assert_same_weights(by_path, tuned((rino.read_jets(files), rino.read_jets(files).labels == 3)))
    with rino.open_dataset(files) as stream, pytest.raises(RinoError, match=r"a label is [35]: a tagger learns 0"):
        tuned(stream)


def test_jets_of_a_stream_that_are_set_aside_are_trained_on_in_no_pass(files):
    with rino.open_dataset(files, window=10) as inner:
        everyone = {float(e) for e in rino.read_jets(files).e[rino.read_jets(files).offsets[:-1]]}
        stream = LabelledStream(inner, [3], share=0.25, seed=4)
        held = stream.set_aside()
        assert 3 <= len(held) <= 20 and len(stream) == N - len(held)
        assert set(np.unique(held.labels)) <= {0, 1}
        aside = {float(e) for e in held.e[held.offsets[:-1]]}
        kept = set()
        for _ in range(3):
            jets = stream.take(len(stream))
            kept |= {float(e) for e in jets.e[jets.offsets[:-1]]}
        assert kept | aside == everyone and not kept & aside
        assert not {float(e) for e in LabelledStream(inner, [3], 0.25, 5).set_aside().e} == {float(e) for e in held.e}


def test_the_best_epoch_of_a_stream_is_chosen_by_jets_that_are_set_aside(files):
    with rino.open_dataset(files) as stream:
        tagger = tuned(stream, short(set_aside=0.3, **{"finetune.epochs": 4}), signal=[3])
    losses = tagger.history["validation_loss"]
    assert np.isnan(losses[:2]).all() and np.isfinite(losses[2:]).all()  # probing has none


# --- weights ---


def exact(**numbers: Any) -> Recipe:
    """Without dropout, everything at once."""
    return short(
        **{"encoder.dropout": 0.0, "head_dropout": 0.0, "finetune.batch_size": N, "finetune.epochs": 4, **numbers}
    )


def test_weights_of_0_and_1_are_a_choice_of_jets(jets):
    chosen = np.arange(N) % 3 > 0
    given = jets.with_value("w", chosen.astype(float) * 2.5)
    encoder = JetEncoder(exact(), seed=2).double()
    one = finetune(encoder, given, recipe=exact(**{"finetune.weight": "w"}), progress=False)
    other = finetune(encoder, jets[chosen], recipe=exact(), progress=False)
    np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-10)
    everyone = finetune(encoder, jets, recipe=exact(), progress=False)
    assert abs(one.history["loss"][0] - everyone.history["loss"][0]) > 1e-4
    with pytest.raises(RinoError, match="no such column with one number per jet"):
        tuned(jets, exact(**{"finetune.weight": "none"}))


# --- losing less, against plain PyTorch ---


@pytest.mark.parametrize(
    "numbers",
    [
        {"finetune.layer_decay": 0.6},
        {"l2_sp": 0.7},
        {"finetune.average": 0.8},
        {"finetune.layer_decay": 0.8, "l2_sp": 0.2, "finetune.average": 0.5},
    ],
)
def test_rates_by_layer_pull_to_the_start_and_averages_are_those_of_plain_pytorch(jets, numbers):
    # AdamW's eps makes of rounding errors what they are: keys' biases have no gradient but the pull to the start.
    numbers = {**numbers, "probe_epochs": 2, "finetune.head": "linear", "finetune.epochs": 6, "finetune.eps": 1e-3}
    recipe = exact(**numbers)
    encoder = JetEncoder(recipe, seed=2).double()
    labels = torch.tensor(jets.labels, dtype=torch.float64)
    weight = torch.tensor(recipe.finetune.positive_weight, dtype=torch.float64)

    def loss_of(outputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels, pos_weight=weight)

    plain = plain_lp_ft(encoder, jets, loss_of)
    tagger = finetune(encoder, jets, recipe=recipe, progress=False)
    np.testing.assert_allclose(tagger.history["loss"], plain.losses, rtol=1e-10)
    torch.testing.assert_close(tagger.head[0].weight.detach(), plain.weight, rtol=0, atol=1e-10)
    for name, parameter in tagger.encoder.named_parameters():
        torch.testing.assert_close(parameter.detach(), plain.encoder[name], rtol=0, atol=1e-9)


def test_fine_tuning_keeps_the_best_epoch_where_jets_are_set_aside(jets):
    recipe = short(set_aside=0.3, stop_after=3, **{"finetune.epochs": 40, "encoder_lr": 0.1, "head_lr": 0.1})
    tagger = tuned(jets, recipe, seed=1)
    losses = tagger.history["validation_loss"][2:]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 40
    order = np.random.default_rng(1).permutation(N)[: round(0.3 * N)]
    p, y = tagger.predict(jets[order]), jets.labels[order]
    loss = -np.mean(2.0 * y * np.log(p) + (1 - y) * np.log(1 - p))
    assert loss == pytest.approx(losses[best], rel=1e-5)
    # Jets that are given are used in their place.
    given = tuned(jets[10:], short(**{"finetune.epochs": 3}), validation=jets[:10])
    assert np.isfinite(given.history["validation_loss"][2:]).all() and given.history.rows == 5


def test_probing_with_dropout_computes_embeddings_anew(jets):
    frozen, dropping = (tuned(jets, short(probe_dropout=flag, **{"finetune.epochs": 0})) for flag in (False, True))
    assert_same_weights(frozen.encoder, dropping.encoder)
    assert frozen.history["loss"].tolist() != dropping.history["loss"].tolist()
    still = short(probe_dropout=True, **{"finetune.epochs": 0, "encoder.dropout": 0.0})
    np.testing.assert_allclose(
        tuned(jets, still).history["loss"], tuned(jets, still.replace(probe_dropout=False)).history["loss"], rtol=1e-5
    )


def test_a_trainer_of_taggers_is_looped_over(jets):
    encoder = JetEncoder(short(), seed=2)
    trainer = TaggerTrainer(Tagger(encoder, "mlp", seed=0), jets)
    assert len(trainer) == 12 and trainer.epochs == 4 and trainer.phase == "probing"
    assert [step["step"] for step in trainer] == list(range(12)) and trainer.phase == "fine-tuning"
    tagger = trainer.finish()
    assert not tagger.training and tagger.encoder is encoder
    assert_same_weights(tagger, tuned(jets))


# --- warm starts ---


@pytest.mark.parametrize("method", ["self-distillation", "contrastive"])
def test_a_pretraining_starts_from_an_encoder(jets, tmp_path, method):
    recipe = tiny() if method == "self-distillation" else Recipe(method, **{"encoder.width": 8, "encoder.heads": 2})
    recipe = recipe.replace(**{"training.epochs": 1, "training.batch_size": 22, "training.average": 0.9})
    encoder = JetEncoder(recipe, seed=77)
    trainer = rino.Trainer(recipe, jets)
    trainer.start_from(encoder)
    names = ["encoder", "average", *(["teacher", "student"] if method == "self-distillation" else [])]
    for name in names:
        assert_same_weights(trainer.encoder(name), encoder)
    encoder.save(tmp_path / "encoder.safetensors")
    run = pretrain(recipe, jets, tmp_path / "run", init=tmp_path / "encoder.safetensors", progress=False)
    for _ in trainer:
        pass
    assert_same_weights(run.encoder, trainer.encoder())
    other = pretrain(recipe, jets, tmp_path / "other", progress=False)
    assert not np.array_equal(*(weights_of(one)["embedding.weight"] for one in (other.encoder, run.encoder)))
    with pytest.raises(RinoError, match=r"is of another architecture: .* has shape"):
        rino.Trainer(recipe.replace(**{"encoder.width": 16}), jets).start_from(encoder)
    with pytest.raises(RinoError, match="2 steps are done"):
        trainer.start_from(encoder)


# --- without Python ---


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize(
    "numbers", [{}, {"normalized_head": True, "features": "relative"}, {"encoder.kind": "deep-sets"}]
)
def test_a_tagger_is_run_by_a_program_without_python(tmp_path, head, numbers):
    program = ROOT / "build" / "cpp" / "examples" / "tagger"
    if not program.is_file():
        pytest.skip("the C++ examples are not built, or without toml++")
    recipe = rino.Recipe.preset("nano", **numbers) if numbers else short()
    tagger = Tagger(rino.nn.encoder_of(recipe, seed=3), head, seed=1).eval()
    tagger.save(tmp_path / "tagger.safetensors")
    done = subprocess.run([program, tmp_path / "tagger.safetensors", "7"], capture_output=True, text=True, check=True)
    scores = np.array([float(line) for line in done.stdout.split()])
    np.testing.assert_allclose(scores, tagger.predict(rino.toy_jets(7, seed=1)), rtol=1e-6)
    tagger.encoder.save(tmp_path / "encoder.safetensors")
    wrong = subprocess.run([program, tmp_path / "encoder.safetensors"], capture_output=True, text=True)
    assert wrong.returncode != 0 and "is no tagger but 'encoder'" in wrong.stderr


# --- the example of callbacks ---


def test_the_examples_callbacks_prune_and_log(jets, monkeypatch):
    import importlib.util
    import sys
    from types import ModuleType

    spec = importlib.util.spec_from_file_location("callbacks", ROOT / "examples" / "callbacks.py")
    callbacks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(callbacks)

    class TrialPruned(Exception):
        pass

    class Trial:
        def __init__(self, hopeless_at: int) -> None:
            self.reported: dict[int, float] = {}
            self.hopeless_at = hopeless_at

        def report(self, value: float, step: int) -> None:
            self.reported[step] = value

        def should_prune(self) -> bool:
            return max(self.reported) >= self.hopeless_at

    # As much of Optuna and wandb as the callbacks use: neither is installed for the tests.
    optuna = ModuleType("optuna")
    optuna.TrialPruned = TrialPruned
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    losses: list[float] = []
    wanted = tuned(jets, callback=lambda report: losses.append(report["loss"]))
    trial = Trial(hopeless_at=7)
    with pytest.raises(TrialPruned):
        tuned(jets, callback=callbacks.pruning(trial, every=4))
    assert list(trial.reported) == [3, 7]
    assert list(trial.reported.values()) == pytest.approx([np.mean(losses[:4]), np.mean(losses[4:8])])

    class Run:
        logged: dict[int, dict[str, float]] = {}

        def log(self, report: dict[str, float], step: int) -> None:
            self.logged[step] = report

    tagger = tuned(jets, callback=callbacks.logging_to(Run(), every=5))
    assert list(Run.logged) == [0, 5, 10] and Run.logged[5]["loss"] == losses[5]
    assert_same_weights(tagger, wanted)
