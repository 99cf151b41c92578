"""What taggers learn beside signal and background: several classes, and numbers; against plain PyTorch."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import assert_same_weights, plain_lp_ft, small_jets, tiny

import pyrino as rino
from pyrino import JetEncoder, Jets, Recipe, RinoError, Tagger, finetune, train_supervised
from pyrino.evaluate import class_metrics, confusion_matrix, regression_metrics
from pyrino.training.ranks import Stopped
from pyrino.training.task import balanced

ROOT = Path(__file__).resolve().parents[2]
N = 48
LABELS = [1, 4, 7]


@pytest.fixture(scope="module")
def jets() -> Jets:
    """Of unequal classes 1, 4, 7, with weights."""
    jets = small_jets(N, seed=9)
    return jets.with_labels(np.take(LABELS, np.arange(N) ** 2 % 7 % 3)).with_value("w", np.arange(N) % 5)


def several(**overrides: Any) -> Recipe:
    numbers = {
        "finetune.batch_size": 20,
        "finetune.epochs": 2,
        "probe_epochs": 2,
        "encoder_lr": 1e-2,
        "head_lr": 2e-2,
        "probe_lr": 3e-2,
        "hidden1": 6,
        "hidden2": 5,
        "finetune.eps": 1e-4,
        "finetune.task": "multiclass",
    }
    return tiny(**{**numbers, **overrides})


def numbers_of(targets: list[str], **overrides: Any) -> Recipe:
    return several(**{"finetune.task": "regression", "finetune.targets": targets, **overrides})


def exact(recipe: Recipe) -> Recipe:
    """20 steps of each phase, all jets at once, without dropout."""
    return recipe.replace(
        **{
            "encoder.dropout": 0.0,
            "head_dropout": 0.0,
            "finetune.batch_size": N,
            "probe_epochs": 20,
            "finetune.epochs": 20,
        }
    )


def with_numbers(jets: Jets) -> Jets:
    return jets.with_value("log_pt", np.log(jets.pt)).with_value("log_mass", np.log(jets.mass + 1.0))


def tuned(jets: Any, recipe: Recipe, **arguments: Any) -> Tagger:
    return finetune(JetEncoder(recipe, seed=2), jets, **{"progress": False, **arguments})


# --- against plain PyTorch ---


@pytest.mark.parametrize("balance", ["none", "weights"])
@pytest.mark.parametrize("weight", ["", "w"])
def test_several_classes_are_learned_as_by_plain_pytorch(jets, balance, weight):
    recipe = exact(
        several(**{"finetune.balance": balance, "finetune.weight": weight, "finetune.classes": ["7", "1=b", "4"]})
    )
    wanted = torch.tensor([{7: 0, 1: 1, 4: 2}[label] for label in jets.labels.tolist()])
    counts = torch.bincount(wanted).double()
    of_classes = N / (3 * counts) if balance == "weights" else torch.ones(3, dtype=torch.float64)
    of_jets = torch.from_numpy(np.array(jets.values["w"]) if weight else np.ones(N))

    def loss_of(outputs: torch.Tensor) -> torch.Tensor:
        log_p = torch.log_softmax(outputs, dim=1)[torch.arange(N), wanted]
        factors = of_classes[wanted] * of_jets
        return -(factors * log_p).sum() / factors.sum()

    encoder = JetEncoder(recipe, seed=2).double()
    plain = plain_lp_ft(encoder, jets, loss_of)
    tagger = finetune(encoder, jets, head="linear", progress=False)
    np.testing.assert_allclose(tagger.history["loss"], plain.losses, rtol=1e-10)
    torch.testing.assert_close(tagger.head[0].weight.detach(), plain.weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("huber", [0.0, 0.3])
@pytest.mark.parametrize("targets", [["log_pt"], ["log_mass", "log_pt"]])
def test_numbers_are_learned_as_by_plain_pytorch(jets, targets, huber):
    jets = with_numbers(jets)
    recipe = exact(numbers_of(targets, huber=huber))
    y = np.stack([jets.values[name] for name in targets], axis=1)
    mean, deviation = y.mean(axis=0), y.std(axis=0)
    z = torch.from_numpy((y - mean) / deviation)

    def loss_of(outputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.huber_loss(outputs, z, delta=huber) if huber else (outputs - z).square().mean()

    encoder = JetEncoder(recipe, seed=2).double()
    plain = plain_lp_ft(encoder, jets, loss_of)
    tagger = finetune(encoder, jets, head="linear", progress=False)
    np.testing.assert_allclose(tagger.history["loss"], plain.losses, rtol=1e-9)
    torch.testing.assert_close(tagger.head[0].weight.detach(), plain.weight, rtol=0, atol=1e-8)
    np.testing.assert_allclose(tagger.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(tagger.deviation, deviation, rtol=1e-12)
    # What is predicted is in the targets' units.
    with torch.no_grad():
        outputs = tagger(tagger.encoder.tokenize(jets)).numpy()
    found = tagger.predict(jets)
    assert found.shape == ((N,) if len(targets) == 1 else (N, 2))
    np.testing.assert_allclose(found.reshape(N, -1), outputs * deviation + mean, rtol=1e-12)
    # Beside the jets they do as well.
    beside = finetune(
        encoder, (small_jets(N, seed=9), y if len(targets) > 1 else y[:, 0]), head="linear", progress=False
    )
    assert_same_weights(beside, tagger)


def test_masses_are_found_better_than_by_their_mean():
    jets = rino.toy_jets(1500, seed=4)
    recipe = rino.Recipe.preset(
        "nano",
        **{
            "finetune.task": "regression",
            "finetune.targets": ["mass"],
            "finetune.batch_size": 100,
            "finetune.epochs": 12,
            "probe_epochs": 1,
            "encoder_lr": 3e-3,
            "head_lr": 3e-3,
        },
    )
    tagger = tuned((jets[:1200], jets[:1200].mass), recipe, head="mlp")
    residual = tagger.predict(jets[1200:]) - jets[1200:].mass
    assert residual.std() < 0.6 * jets[1200:].mass.std() and abs(residual.mean()) < 0.3 * jets.mass.std()


# --- classes ---


def test_classes_are_those_that_there_are_and_travel_with_the_tagger(jets, tmp_path):
    tagger = tuned(jets, several(), out=tmp_path / "run")
    assert tagger.task == "multiclass" and tagger.labels == LABELS and tagger.classes == ["1", "4", "7"]
    p = tagger.predict(jets)
    assert p.shape == (N, 3) and p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    with torch.no_grad():
        outputs = tagger(tagger.encoder.tokenize(jets)).double()
    np.testing.assert_allclose(p, torch.softmax(outputs, dim=1).numpy(), rtol=1e-5)
    again = rino.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(jets), p)
    assert again.labels == LABELS and again.history["loss"].tolist() == tagger.history["loss"].tolist()
    with pytest.raises(RinoError, match="the task is multiclass: it is of signal and background alone"):
        tagger.predict(jets, prior=0.5)


def test_classes_have_names(jets):
    names = np.array(["gluon", "W", "top"])[np.searchsorted(LABELS, jets.labels)]
    tagger = tuned((jets, names), several())
    assert tagger.classes == ["W", "gluon", "top"] and tagger.labels == [0, 1, 2]
    recipe = several(**{"finetune.classes": ["4=W", "7=top", "1=gluon"]})
    chosen = tuned((jets, names), recipe)
    assert chosen.classes == ["W", "top", "gluon"] and chosen.labels == [4, 7, 1]
    assert_same_weights(chosen, tuned(jets, recipe))


def test_supervised_training_learns_them_too(jets):
    recipe = several(**{"supervised.epochs": 3, "supervised.lr": 1e-2, "validation": 0.25})
    tagger = train_supervised(recipe, jets, progress=False)
    assert tagger.predict(jets).shape == (N, 3) and len(tagger.history["validation_loss"]) == 3
    regression = numbers_of(["log_pt"]).replace(**{"supervised.epochs": 2})
    assert train_supervised(regression, with_numbers(jets), progress=False).predict(jets).shape == (N,)


def test_balanced_sampling_repeats_the_jets_of_small_classes(jets):
    many, weights = balanced(jets, several(**{"finetune.balance": "sampling"}), seed=3)
    labels, counts = np.unique(many.labels, return_counts=True)
    most = np.unique(jets.labels, return_counts=True)[1].max()
    assert labels.tolist() == LABELS and (counts == most).all() and weights == []
    # Each jet is there as often as the others of its class, or once more.
    for label in LABELS:
        mine = many[many.labels == label]
        keys, times = np.unique(mine.e[mine.offsets[:-1]], return_counts=True)
        assert len(keys) == (jets.labels == label).sum() and times.max() - times.min() <= 1
    assert tuned(jets, several(**{"finetune.balance": "sampling"})).predict(jets).shape == (N, 3)


# --- runs ---


@pytest.mark.parametrize("step", [2, 5, 8])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_regression_that_was_stopped_goes_on_bit_by_bit(files, tmp_path, step, streamed):
    recipe = numbers_of(["jet_mass"], **{"encoder.dropout": 0.2})
    train = (lambda: rino.open_dataset(files, labelled=False, window=10)) if streamed else (lambda: files)
    whole = tuned(train(), recipe)

    def stop(report: dict[str, float]) -> None:
        if report["step"] == step:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        tuned(train(), recipe, out=tmp_path / "run", callback=stop)
    again = tuned(train(), recipe, out=tmp_path / "run", resume=True)
    assert_same_weights(again, whole)
    assert again.mean == whole.mean and again.deviation == whole.deviation
    jets = rino.read_jets(files, labelled=False, columns="jet_mass")
    np.testing.assert_allclose(whole.mean, np.mean(jets.values["jet_mass"]), rtol=1e-9)
    np.testing.assert_allclose(whole.deviation, np.std(jets.values["jet_mass"]), rtol=1e-9)


@pytest.fixture(scope="module")
def files(jets, tmp_path_factory) -> Path:
    """Two files of the jets with labels and masses, in row groups of 5."""
    names = ("part_px", "part_py", "part_pz", "part_energy")
    columns = zip(names, (jets.px, jets.py, jets.pz, jets.e), strict=True)
    table = pa.table({n: np.split(np.asarray(c), jets.offsets[1:-1]) for n, c in columns})
    table = table.append_column("jet_label", pa.array(jets.labels)).append_column("jet_mass", pa.array(jets.mass))
    folder = tmp_path_factory.mktemp("files")
    for number in range(2):
        pq.write_table(table.slice(24 * number, 24), folder / f"{number}.parquet", row_group_size=5)
    return folder


def test_streams_of_several_classes(files):
    recipe = several(**{"finetune.classes": [str(label) for label in LABELS]})
    with rino.open_dataset(files) as stream:
        tagger = tuned(stream, recipe)
    assert tagger.predict(rino.read_jets(files)).shape == (N, 3)
    with rino.open_dataset(files) as stream, pytest.raises(RinoError, match=r"which is none of finetune\.classes"):
        tuned(stream, recipe.replace(**{"finetune.classes": ["1", "4"]}))


def test_the_command_line_learns_them(files, tmp_path, capsys):
    from pyrino.cli import main

    tiny(**{"training.epochs": 1}).save(tmp_path / "recipe.toml")
    JetEncoder(several(), seed=2).save(tmp_path / "encoder.safetensors")
    common = ["finetune", str(tmp_path / "encoder.safetensors"), "--train", str(files), "--epochs", "1"]
    assert main([*common, "--out", str(tmp_path / "c"), "--set", "finetune.task=multiclass"]) == 0
    out = capsys.readouterr().out
    assert "48 jets, classes: 1=" in out
    classes = rino.load(tmp_path / "c")
    assert classes.labels == LABELS
    more = ["--set", "finetune.task=regression", "--set", "finetune.targets=jet_mass"]
    assert main([*common, "--out", str(tmp_path / "r"), *more]) == 0
    assert "48 jets, targets: jet_mass" in capsys.readouterr().out
    for name, shape in (("c", (N, 3)), ("r", (N,))):
        out = tmp_path / f"{name}.parquet"
        assert main(["predict", str(tmp_path / name), "--jets", str(files), "--out", str(out)]) == 0
        written = ak.to_numpy(ak.from_parquet(out)["probability" if name == "c" else "prediction"])
        expected = rino.load(tmp_path / name).predict(rino.read_jets(files, labelled=False))
        assert written.shape == shape
        np.testing.assert_allclose(written, expected, rtol=1e-6)
    jets = rino.read_jets(files, columns="jet_mass")
    for name in ("c", "r"):
        file = tmp_path / f"{name}.json"
        assert main(["evaluate", str(tmp_path / name), "--test", str(files), "--out", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "mean one-vs-rest AUC" in shown and "is \\ called" in shown and "half width of its central 68%" in shown
    of_classes = json.loads((tmp_path / "c.json").read_text())
    outputs = np.searchsorted(LABELS, jets.labels)
    assert of_classes["metrics"] == class_metrics(classes.predict(jets), outputs)
    np.testing.assert_allclose(of_classes["confusion"], confusion_matrix(classes.predict(jets), outputs))
    of_numbers = json.loads((tmp_path / "r.json").read_text())
    found = rino.load(tmp_path / "r").predict(jets)
    assert of_numbers["metrics"] == {"jet_mass": regression_metrics(found, jets.values["jet_mass"])}


def test_figures_of_several_classes_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
    from sklearn.metrics import confusion_matrix as theirs

    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 500)
    p = rng.dirichlet(np.ones(4), 500) + 0.5 * np.eye(4)[y]
    p /= p.sum(axis=1, keepdims=True)
    p[:50] = 0.25  # ties
    found = class_metrics(p, y, seed=1)
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(y, p.argmax(axis=1)))
    assert found["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(y, p.argmax(axis=1)))
    assert found["macro_auc"]["value"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"))
    np.testing.assert_allclose(confusion_matrix(p, y), theirs(y, p.argmax(axis=1), normalize="true"))
    accuracy = found["accuracy"]
    expected = math.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 500)
    assert accuracy["error"] == pytest.approx(expected, rel=0.2)
    assert class_metrics(p, y, seed=1) == found != class_metrics(p, y, seed=2)
    with pytest.raises(RinoError, match="there is no jet of class 3"):
        class_metrics(p[y < 3], y[y < 3])
    with pytest.raises(RinoError, match="no class of 4"):
        class_metrics(p, y + 1)


def test_bias_and_resolution_are_those_of_a_known_spread():
    rng = np.random.default_rng(0)
    truth = rng.normal(100, 20, 40_000)
    found = regression_metrics(truth + rng.normal(1.5, 5, 40_000), truth, n=50)
    assert found["bias"]["value"] == pytest.approx(1.5, abs=0.1) and found["bias"]["error"] == pytest.approx(
        0.025, rel=0.3
    )
    assert found["resolution"]["value"] == pytest.approx(5, rel=0.02)
    assert found["half_width_68"]["value"] == pytest.approx(5, rel=0.02)
    assert found["explained"]["value"] == pytest.approx(1 - (25 + 1.5**2) / 400, abs=0.01)
    with pytest.raises(RinoError, match=r"predicted\[2\] = nan is not finite"):
        regression_metrics([1, 2, np.nan], [1, 2, 3])


def test_awkward_arrays_are_predicted_as_jets(jets):
    for recipe, given in ((several(), jets), (numbers_of(["log_mass", "log_pt"]), with_numbers(jets))):
        tagger = tuned(given, recipe)
        found = rino.predict(tagger, jets.to_awkward())
        np.testing.assert_allclose(ak.to_numpy(found), tagger.predict(jets), rtol=1e-6)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_program_without_python_runs_them(jets, tmp_path, head):
    program = ROOT / "build" / "cpp" / "examples" / "tagger"
    if not program.is_file():
        pytest.skip("the C++ examples are not built, or without toml++")
    for recipe, given in ((several(), jets), (numbers_of(["log_mass", "log_pt"]), with_numbers(jets))):
        tagger = tuned(given, recipe, head=head)
        tagger.save(tmp_path / "tagger.safetensors")
        done = subprocess.run(
            [program, tmp_path / "tagger.safetensors", "6"], capture_output=True, text=True, check=True
        )
        found = np.array([[float(number) for number in line.split()] for line in done.stdout.splitlines()])
        np.testing.assert_allclose(found, tagger.predict(rino.toy_jets(6, seed=1)), rtol=1e-5)


# --- errors ---


@pytest.mark.parametrize(
    ("numbers", "change", "match"),
    [
        (
            {},
            lambda jets: jets.with_labels(np.full(N, 4)),
            r"fewer|there are 1 classes to tell apart|all 48 labels are 4",
        ),
        (
            {"finetune.classes": ["1", "4"]},
            lambda jets: jets,
            r"label of jet \d+ is 7, which is none of finetune\.classes \(1, 4\)",
        ),
        (
            {"finetune.classes": ["1", "4", "1=b"]},
            lambda jets: jets,
            r"the label 1 is two classes|none of finetune\.classes",
        ),
        (
            {"finetune.classes": ["a=1", "4"]},
            lambda jets: jets,
            r"finetune\.classes is \['a=1', 4\]: write 'label=name'|does not begin with a label",
        ),
        ({}, lambda jets: (jets, np.linspace(0, 1, N)), "classes are whole numbers of 0 or more, or names"),
        ({"finetune.task": "regression"}, lambda jets: jets, r"finetune\.targets names no column"),
        (
            {"finetune.task": "regression", "finetune.targets": ["none"]},
            lambda jets: jets,
            "target 'none' is no column with a number per jet of these jets, which have: w",
        ),
        (
            {"finetune.task": "regression", "finetune.targets": ["m"]},
            lambda jets: (jets, np.where(np.arange(N) == 5, np.nan, 1.0)),
            "the target 'm' of jet 5 is nan",
        ),
        (
            {"finetune.task": "regression", "finetune.targets": ["m"]},
            lambda jets: (jets, np.ones(N)),
            "the target 'm' is the same for all jets: there is nothing to learn",
        ),
        (
            {"finetune.task": "regression", "finetune.targets": ["m", "n"]},
            lambda jets: (jets, np.ones(N)),
            r"y has shape \(48, 1\) for 48 jets and the targets m, n",
        ),
        (
            {"finetune.task": "regression", "finetune.targets": ["w"], "finetune.balance": "weights"},
            lambda jets: jets,
            r"finetune\.balance is of classes",
        ),
        ({"finetune.task": "binary"}, lambda jets: jets, r"or set finetune\.task = 'multiclass'"),
    ],
)
def test_what_cannot_be_learned_is_named(jets, tmp_path, numbers, change, match):
    with pytest.raises(RinoError, match=match):
        tuned(change(jets), several(**numbers), out=tmp_path / "out")
    assert "tagger.safetensors" not in (os.listdir(tmp_path / "out") if (tmp_path / "out").exists() else [])


def test_signal_is_of_the_binary_task(jets):
    with pytest.raises(RinoError, match=r"signal is given, but finetune\.task is 'multiclass'"):
        tuned(jets, several(), signal=[1])
