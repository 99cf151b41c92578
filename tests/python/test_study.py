"""The main job from end to end, at a size of seconds."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

import pyrino as rino
from pyrino.plots import training_curves as curves
from pyrino.report import read_report
from pyrino.study import STUDIES, Study, _embedding, _Sample, run_study

PLAN = Study("demo", pretraining_jets=80, labelled_jets=80, test_jets=80, finetuning_seeds=2, seed=7)


def tiny_recipe() -> rino.Recipe:
    recipe = rino.Recipe.preset("demo", epochs=2, batch_size=40)
    recipe.update({"finetune.epochs": 1, "finetune.probe_epochs": 1, "supervised.epochs": 1})
    return recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    report = run_study(PLAN, out, recipe=tiny_recipe(), workers=1, progress=False)
    return out, report


def test_the_report_holds_every_tagger_on_every_sample(finished):
    out, report = finished
    assert report == out / "report.html"
    result = read_report(out / "report.json")
    (transfer,) = result["transfers"]
    pairs = {(t["strategy"], t["sample"]) for t in transfer["taggers"]}
    strategies, samples = ("supervised", "linear", "mlp"), ("target", "target_truncated", "source")
    assert pairs == {(a, b) for a in strategies for b in samples}
    assert {(p["method"], p["encoder"]) for p in result["probes"]} == {
        (m, e) for m in ("k-NN, k = 20", "linear") for e in ("pretrained", "untrained")
    }
    assert result["pretraining"]["jets_seen"] == 160
    assert result["seeds"]["fine-tuning"] == [0, 1]
    assert [s["name"] for s in result["stages"]][:2] == ["generating jets", "pretraining"]


def test_the_numbers_of_the_report_are_those_of_the_taggers_on_disk(finished):
    out, _ = finished
    result = read_report(out / "report.json")
    parts = [
        rino.read_jets(out / "data" / "collisions" / process / f"collisions_{process}_s71_000.parquet")
        for process in ("qcd", "top")
    ]
    jets = rino.Jets.concatenate(parts)
    labels = jets.labels == 8
    for strategy in ("supervised", "linear", "mlp"):
        (entry,) = [
            t for t in result["transfers"][0]["taggers"] if (t["strategy"], t["sample"]) == (strategy, "target")
        ]
        by_hand = [
            np.mean(
                (rino.Tagger.load(out / "taggers" / "simulation-wide" / f"{strategy}_{s}").predict(jets) > 0.5)
                == labels
            )
            for s in (0, 1)
        ]
        assert entry["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_pretraining_never_sees_a_jet_of_the_tests(finished):
    out, _ = finished
    seen = rino.read_jets(out / "data" / "collisions" / "qcd" / "collisions_qcd_s70_000.parquet")
    tested = rino.read_jets(out / "data" / "collisions" / "qcd" / "collisions_qcd_s71_000.parquet")
    assert not set(seen.pt) & set(tested.pt)


def test_a_second_call_takes_up_what_is_there(finished):
    out, _ = finished
    files = [p for p in out.rglob("*") if p.suffix in (".safetensors", ".parquet")]
    kept = [p for p in files if p.name not in ("checkpoint.safetensors", "encoder.safetensors", "history.parquet")]
    before = {p: p.stat().st_mtime_ns for p in kept}
    weights = rino.JetEncoder.load(out / "pretraining").state_dict()
    run_study(PLAN, out, recipe=tiny_recipe(), workers=1, progress=False)
    assert {p: p.stat().st_mtime_ns for p in kept} == before
    again = rino.JetEncoder.load(out / "pretraining").state_dict()
    assert all(again[name].equal(weights[name]) for name in weights)


def test_a_collapsed_embedding_is_reported_and_not_an_error(finished):
    """All jets alike: no rank, no component; the taggers, hours of work, still come to their report."""
    out, _ = finished
    jets = rino.read_jets([out / "data" / "collisions" / process for process in ("qcd", "top")])
    sample = _Sample(jets, (jets.labels == 8).astype(np.int64))
    encoder = rino.JetEncoder(tiny_recipe(), seed=1)
    with torch.no_grad():
        encoder.norm.weight.zero_()
        encoder.norm.bias.fill_(0.5)
    embedding, probes = _embedding(encoder, rino.JetEncoder(tiny_recipe(), seed=2), sample, sample, "x", PLAN, 1)
    assert set(embedding) == {"dimension", "similarity"} and len(probes) == 4
    np.testing.assert_allclose(embedding["similarity"]["different_jets"], 1, atol=1e-6)


class Spread(rino.Method):
    """Embeddings far from each other."""

    name = "test-spread"
    charts = {"loss": ["near"], "spread": ["spread"]}

    def networks(self):
        return {"encoder": rino.JetEncoder(self.recipe)}

    def views(self, jets, step):
        return [rino.rotate(jets, **step.draws(name)) for name in "ab"]

    def loss(self, batch, step):
        a, b = self.encoder(batch.tokens).jets.chunk(2)
        near, spread = rino.alignment(a, b), rino.uniformity(a)
        return near + spread, {"near": near, "spread": spread}


@pytest.mark.parametrize(
    ("method", "words", "titles"),
    [
        ("contrastive", "each jet twice: rotate, translate", {"alignment", "uniformity"}),
        ("test-spread", "jet class token", {"spread"}),
    ],
)
def test_other_methods_are_studied_and_shown(finished, tmp_path, monkeypatch, method, words, titles):
    out, _ = finished
    shutil.copytree(out / "data", tmp_path / "data")
    recipe = rino.Recipe(method, **{"training.epochs": 2, "training.batch_size": 40, "encoder.layers": 1})
    recipe.update({"finetune.epochs": 1, "finetune.probe_epochs": 1, "supervised.epochs": 1})
    drawn = []
    monkeypatch.setattr(rino.plots, "training_curves", lambda *a: drawn.append(curves(*a)) or drawn[-1])
    report = run_study(
        dataclasses.replace(PLAN, finetuning_seeds=1), tmp_path, recipe=recipe, workers=1, progress=False
    )
    entry = read_report(tmp_path / "report.json")["pretraining"]
    assert entry["preset"] == method and words in entry["views"] and "n_prototypes" not in entry
    assert titles <= {axes.get_title() for axes in drawn[-1].axes}
    page = report.read_text()
    assert f"rino: {method}" in page and "prototypes" not in page and "teacher" not in page


def test_a_folder_of_another_study_is_refused(finished):
    out, _ = finished
    with pytest.raises(rino.RinoError, match="another plan or recipe"):
        run_study(PLAN, out, recipe=tiny_recipe().replace(koleo=0.5), workers=1, progress=False)


def test_a_study_from_before_a_number_was_there_is_taken_up(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "older")
    plan = json.loads((out / "study.json").read_text())
    del plan["recipe"]["encoder"]["memory"]  # older files have no such number: it means the default
    (tmp_path / "older" / "study.json").write_text(json.dumps(plan))
    taggers = sorted((tmp_path / "older" / "taggers").rglob("tagger.safetensors"))
    before = [file.stat().st_mtime_ns for file in taggers]
    run_study(PLAN, tmp_path / "older", recipe=tiny_recipe(), workers=1, progress=False)
    assert taggers and [file.stat().st_mtime_ns for file in taggers] == before


def test_an_unknown_study_is_an_error_that_names_the_known():
    with pytest.raises(rino.RinoError, match="demo, study, recipes"):
        run_study("dmo", "unused")


# --- several recipes beside each other ---

SMALL = {
    "training.epochs": 2,
    "training.batch_size": 40,
    "training.precision": "float32",
    "finetune.epochs": 1,
    "finetune.probe_epochs": 1,
    "supervised.epochs": 1,
}
PRODUCTION = {
    "encoder.width": 16,
    "encoder.heads": 2,
    "encoder.layers": 1,
    "encoder.feedforward": 16,
    "encoder.radial_bins": 4,
    "encoder.angular_bins": 4,
    "head.prototypes": 8,
    "head.hidden_width": 16,
    "head.bottleneck": 8,
}
COMPARISON = dataclasses.replace(
    PLAN,
    preset="tiny",
    finetuning_seeds=1,
    pretraining_seeds=2,
    recipes={"workshop": {"preset": "nano", **SMALL}, "production": {"preset": "rino", **SMALL, **PRODUCTION}},
)
NAMES = ("workshop", "production")


@pytest.fixture(scope="module")
def compared(finished, tmp_path_factory):
    """A comparison of two recipes on the jets that the other study generated."""
    out = tmp_path_factory.mktemp("recipes")
    shutil.copytree(finished[0] / "data", out / "data")
    run_study(COMPARISON, out, workers=1, progress=False)
    return out, read_report(out)


def test_every_recipe_is_pretrained_with_every_seed(compared):
    out, result = compared
    folders = sorted(path.name for path in (out / "pretraining").iterdir())
    assert folders == ["production_1", "production_2", "workshop_1", "workshop_2"]
    assert [recipe["seeds"] for recipe in result["recipes"]] == [[1, 2], [1, 2]]
    one, two = (rino.JetEncoder.load(out / "pretraining" / f"production_{seed}") for seed in (1, 2))
    assert not one.state_dict()["embedding.weight"].equal(two.state_dict()["embedding.weight"])
    assert (one.recipe.training.seed, two.recipe.training.seed) == (1, 2)
    assert one.recipe.replace(seed=2) == two.recipe


def test_all_recipes_take_the_same_steps_on_the_same_jets(compared):
    _, result = compared
    budgets = {(r["steps"], r["batch_size"], r["pretraining"]["jets_seen"]) for r in result["recipes"]}
    assert budgets == {(4, 40, 160)}


def test_what_was_shrunk_follows_from_the_recipes(compared):
    _, result = compared
    workshop, production = result["recipes"]
    assert [workshop["preset"], production["preset"]] == ["nano", "rino"]
    assert production["published_parameters"] == 10_987_264
    changed = {change["number"]: (change["published"], change["here"]) for change in production["changes"]}
    assert changed.keys() == (SMALL | PRODUCTION).keys()
    assert changed["encoder.width"] == ("256", "16") and changed["training.precision"] == ("bf16", "float32")
    assert {change["number"] for change in workshop["changes"]} == SMALL.keys() - {"training.precision"}
    assert workshop["losses"] == "1 DINO, 1 KoLeo" and production["losses"] == "1 DINO, 1 iBOT, 0.1 KoLeo"


def test_the_comparison_has_the_numbers_of_the_taggers_on_disk(compared):
    out, result = compared
    assert [transfer["recipe"] for transfer in result["transfers"]] == list(NAMES)
    parts = [
        rino.read_jets(out / "data" / "simulation-wide" / process / f"simulation-wide_{process}_s73_000.parquet")
        for process in ("qcd", "top")
    ]
    jets = rino.Jets.concatenate(parts)
    labels = jets.labels == 8
    for transfer in result["transfers"]:
        assert transfer["pretrainings"] == 2
        folder = out / "taggers" / transfer["recipe"] / "simulation-wide"
        for entry in transfer["taggers"]:
            if entry["sample"] == "source":
                taggers = [rino.Tagger.load(folder / f"{entry['strategy']}_{seed}") for seed in (1, 2)]
                by_hand = [np.mean((tagger.predict(jets) > 0.5) == labels) for tagger in taggers]
                assert entry["metrics"]["accuracy"]["seed_values"] == pytest.approx(by_hand, abs=1e-12)


def test_every_tagger_starts_from_the_pretraining_of_its_seed(compared):
    """The encoder's learning rate is too small to hide where it started."""
    out, _ = compared
    for seed, other in ((1, 2), (2, 1)):
        tuned = rino.Tagger.load(out / "taggers" / "workshop" / "simulation-wide" / f"mlp_{seed}").encoder
        near, far = (
            rino.JetEncoder.load(out / "pretraining" / f"workshop_{n}").embedding.weight for n in (seed, other)
        )
        moved = (tuned.embedding.weight - near).abs().max()
        assert moved < 1e-3 < (tuned.embedding.weight - far).abs().max()


def test_the_page_sets_the_recipes_beside_each_other(compared):
    out, result = compared
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in (
        "The recipes workshop, production: each pretrained 2 times",
        "The recipes from simulation-wide to collisions",
        "The recipe production beside workshop on collisions",
        "256\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}16",
        "published: 10,987,264",
        "production: taggers from simulation-wide to collisions",
    ):
        assert words in page, words
    assert "How the setting was chosen" not in page
    assert result["recipe"].keys() == {"workshop", "production"}


def test_a_comparison_is_taken_up_run_by_run(compared):
    out, _ = compared
    lost = out / "pretraining" / "production_2"
    shutil.rmtree(lost)
    taggers = {path: path.stat().st_mtime_ns for path in (out / "taggers").rglob("*.safetensors")}
    weights = rino.JetEncoder.load(out / "pretraining" / "workshop_1").state_dict()
    run_study(COMPARISON, out, workers=1, progress=False)
    assert (lost / "encoder.safetensors").is_file()
    assert {path: path.stat().st_mtime_ns for path in taggers} == taggers
    again = rino.JetEncoder.load(out / "pretraining" / "workshop_1").state_dict()
    assert all(again[name].equal(weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"recipes": {"a": {"preset": "nano"}, "b": {"preset": "rino"}}}, "batch_size is 1000 in 'a' and 3000 in 'b'"),
        ({"recipes": {"a": {"preset": "nano"}, "b": {"preset": "nano", "epochs": 3}}}, "epochs is 100 in 'a' and 3"),
        ({"recipes": {"a/b": {"preset": "nano"}}}, "'a/b' becomes a folder's"),
        ({"recipes": {"a": {"preset": "nana"}}}, "no preset 'nana'"),
        ({"recipes": {"a": {"epochs": 3}}}, "'a' has no preset"),
        ({"pretraining_seeds": 0}, "pretraining_seeds and finetuning_seeds are 0 and 1"),
        ({"finetuning_seeds": 2}, "pretraining_seeds and finetuning_seeds are 2 and 2"),
        ({"recipes": {}}, "pretraining_seeds is 2: only a study with recipes"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_before_it_starts(tmp_path, changes, match):
    with pytest.raises(rino.RinoError, match=match):
        run_study(dataclasses.replace(COMPARISON, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_comparison_takes_no_other_recipe(tmp_path):
    with pytest.raises(rino.RinoError, match="recipes of its own"):
        run_study(COMPARISON, tmp_path / "out", recipe=tiny_recipe())


def test_the_compared_recipes_have_budget_and_fine_tuning_of_the_demonstration():
    plan, demo = STUDIES["recipes"], rino.Recipe.preset("demo")
    assert plan.pretraining_seeds == 3 and plan.finetuning_seeds == 1
    sizes = ("pretraining_jets", "labelled_jets", "test_jets", "sources", "target")
    assert all(getattr(plan, size) == getattr(STUDIES["demo"], size) for size in sizes)
    for numbers in plan.recipes.values():
        recipe = rino.Recipe.preset(numbers["preset"], **{k: v for k, v in numbers.items() if k != "preset"})
        for section in ("finetune", "supervised"):
            assert recipe.to_dict()[section] == demo.to_dict()[section]
        assert recipe.jets.boost_to_pt == demo.jets.boost_to_pt
        assert recipe.optimizer.lr == demo.optimizer.lr
        assert recipe.training.batch_size == demo.training.batch_size
        assert recipe.training.epochs * 2 == demo.training.epochs
        assert recipe.encoder.width == demo.encoder.width
