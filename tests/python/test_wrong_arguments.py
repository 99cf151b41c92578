"""Whatever a user hands to a public function by mistake is a `RinoError`, never an exception of a library below."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import Jets, RinoError, evaluate, losses, plots
from pyrino.cli import main
from pyrino.cli.common import as_json
from pyrino.evaluate.domains import compare_variables

JETS = small_jets(6)
RECIPE = tiny(finetune__epochs=1, finetune__probe_epochs=1)
SCORES, LABELS = np.array([0.1, 0.9, 0.3, 0.7]), np.array([0, 1, 0, 1])
POINTS, CLASSES = np.random.default_rng(0).normal(size=(20, 3)), np.array([0, 1] * 10)
KINEMATICS = {name: np.arange(1.0, 21.0) for name in ("pt", "eta", "mass")}
VARIABLES = {"pt": SCORES, "eta": SCORES}

WRONG: dict[str, Any] = {
    "text": "a",
    "a list of text": ["a", "b", "c", "d"],
    "a tensor with gradients": torch.ones(4, requires_grad=True),
    "an object": object(),
    "lists of two lengths": [[1], [1, 2]],
    "complex numbers": np.ones(4) * 1j,
    "dates": np.array(["2026-01-01"] * 4, dtype="M8[s]"),
    "a masked array": np.ma.array(SCORES, mask=[True, False, False, False]),
}

#: Function, sound arguments, and those of them for which nothing of `WRONG` makes sense.
FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "accuracy": (evaluate.accuracy, {"scores": SCORES, "labels": LABELS, "threshold": 0.5}, "scores labels threshold"),
    "roc_curve": (evaluate.roc_curve, {"scores": SCORES, "labels": LABELS}, "scores labels"),
    "rejection": (
        evaluate.rejection,
        {"scores": SCORES, "labels": LABELS, "signal_efficiency": 0.5},
        "scores labels signal_efficiency",
    ),
    "bootstrap": (
        evaluate.bootstrap,
        {"metric": evaluate.roc_auc, "scores": SCORES, "labels": LABELS, "n": 3},
        "metric scores labels n",
    ),
    "tagger_metrics": (
        evaluate.tagger_metrics,
        {"scores": SCORES, "labels": LABELS, "n": 3, "threshold": 0.5, "signal_efficiencies": [0.5]},
        "scores labels n threshold signal_efficiencies",
    ),
    "score_histogram": (
        evaluate.score_histogram,
        {"scores": SCORES, "labels": LABELS, "bins": 4},
        "scores labels bins",
    ),
    "thin_roc": (evaluate.thin_roc, {"scores": SCORES, "labels": LABELS, "points": 4}, "scores labels points"),
    "combine_seeds": (evaluate.combine_seeds, {"per_seed": [{}]}, "per_seed"),
    "linear_probe": (
        evaluate.linear_probe,
        {"embeddings": POINTS, "labels": CLASSES, "folds": 2},
        "embeddings labels folds test",
    ),
    "effective_rank": (evaluate.effective_rank, {"embeddings": POINTS}, "embeddings"),
    "principal_components": (
        evaluate.principal_components,
        {"samples": [POINTS], "components": 2},
        "samples components",
    ),
    "kinematics_explained": (
        evaluate.kinematics_explained,
        {"embeddings": POINTS, "jet_kinematics": KINEMATICS},
        "embeddings jet_kinematics",
    ),
    "compare_variables": (
        compare_variables,
        {"first": VARIABLES, "second": VARIABLES, "classifier": False},
        "first second",
    ),
    "compare": (rino.compare, {"jets_a": JETS, "jets_b": JETS, "classifier": False}, "jets_a jets_b radius"),
    "finetune": (
        rino.finetune,
        {"encoder": rino.JetEncoder(RECIPE), "train": (JETS, JETS.labels), "progress": False},
        "encoder train recipe head",
    ),
    "train_supervised": (
        rino.train_supervised,
        {"recipe": RECIPE, "train": (JETS, JETS.labels), "progress": False},
        "recipe train",
    ),
    "sinkhorn": (losses.sinkhorn, {"scores": torch.rand(4, 3), "temperature": 0.1}, "scores temperature iterations"),
    "dino_loss": (
        losses.dino_loss,
        {"assignments": torch.rand(1, 4, 3), "scores": torch.rand(2, 4, 3), "temperature": 0.1},
        "assignments scores temperature",
    ),
    "koleo_loss": (losses.koleo_loss, {"embeddings": torch.rand(4, 3)}, "embeddings eps"),
    "gram_loss": (
        losses.gram_loss,
        {"student": torch.rand(4, 3), "teacher": torch.rand(4, 3), "lengths": [2, 2]},
        "student teacher lengths",
    ),
    "distributions": (plots.distributions, {"samples": {"a": {"x": SCORES}}}, "samples"),
    "Jets": (Jets, {"p4": JETS.p4, "offsets": JETS.offsets}, "p4 offsets labels extras"),
    "from_awkward": (Jets.from_awkward, {"array": JETS.to_awkward()}, "array labels"),
    "from_numpy": (
        Jets.from_numpy,
        dict(zip(("padded", "mask"), JETS.to_numpy(), strict=True)),
        "padded mask labels extras",
    ),
    "with_labels": (JETS.with_labels, {"labels": JETS.labels}, "labels"),
}


@pytest.mark.parametrize(
    ("function", "argument"), [(name, arg) for name, (_, _, args) in FUNCTIONS.items() for arg in args.split()]
)
def test_what_an_argument_cannot_be_is_a_rino_error(function, argument):
    call, sound, _ = FUNCTIONS[function]
    if function != "combine_seeds":
        call(**sound)
    for what, wrong in WRONG.items():
        if what == "a tensor with gradients" and function in ("sinkhorn", "dino_loss", "koleo_loss", "gram_loss"):
            continue  # what losses are for
        with pytest.raises(RinoError):
            call(**sound | {argument: wrong})
            pytest.fail(what)


def test_labels_of_jets_in_lists_of_text_are_named():
    with pytest.raises(RinoError, match=r"labels\[0\] = QCD is neither 0 \(background\) nor 1 \(signal\)"):
        evaluate.roc_auc(SCORES, ["QCD", "top", "QCD", "top"])
    with pytest.raises(RinoError, match="the label of jet 0 is QCD: a tagger learns 0"):
        rino.finetune(rino.JetEncoder(RECIPE), (JETS, ["QCD"] * 6), progress=False)
    with pytest.raises(RinoError, match="scores is of type <U1: give real numbers"):
        evaluate.roc_auc(list("abcd"), LABELS)


# --- JSON ---


def test_json_has_null_for_what_is_no_number():
    document = {"a": [1.5, np.inf, {"b": float("nan")}], "c": (-np.inf, 2), "d": np.float64("inf"), "e": "inf"}
    assert json.loads(as_json(document)) == {"a": [1.5, None, {"b": None}], "c": [None, 2], "d": None, "e": "inf"}


def test_compare_of_a_constant_is_json(tmp_path, capsys):
    many = rino.toy_jets(40, 1, multiplicity_min=8, multiplicity_mean=20)
    names = ("part_px", "part_py", "part_pz", "part_energy")
    for n in (3, 4):
        jets = rino.hardest(many, n)
        columns = zip(names, (jets.px, jets.py, jets.pz, jets.e), strict=True)
        lists = {name: np.split(np.asarray(c), jets.offsets[1:-1]) for name, c in columns}
        pq.write_table(pa.table(lists), tmp_path / f"{n}.parquet")
    call = ["compare", str(tmp_path / "3.parquet"), str(tmp_path / "4.parquet"), "--json", "--no-classifier"]
    assert main(call) == 0

    def refuse(text: str) -> None:
        pytest.fail(f"{text} is not JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)["variables"]["multiplicity"]
    assert found["wasserstein"] == 1 and found["std"] == [0, 0] and found["wasserstein_relative"] is None
