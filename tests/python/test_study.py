"""The main job from end to end, at a size of seconds."""

from __future__ import annotations

import numpy as np
import pytest

import pyrino as rino
from pyrino.report import read_report
from pyrino.study import Study, run_study

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


def test_a_folder_of_another_study_is_refused(finished):
    out, _ = finished
    with pytest.raises(rino.RinoError, match="another plan or recipe"):
        run_study(PLAN, out, recipe=tiny_recipe().replace(koleo=0.5), workers=1, progress=False)


def test_an_unknown_study_is_an_error_that_names_the_known():
    with pytest.raises(rino.RinoError, match="demo, study"):
        run_study("dmo", "unused")
