"""`Tagger.evaluate`, working points, and the page of an evaluation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import small_jets, tiny
from scipy import stats

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, Tagger, evaluate, report
from pyrino.cli import main
from pyrino.evaluate.working_point import Efficiency, WorkingPoint, efficiency, fix_working_point
from pyrino.report.tables import format_measurement

N = 120
RNG = np.random.default_rng(3)
W = RNG.exponential(size=N)
LABELS = np.arange(N) ** 2 % 7 % 3


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(N, seed=9).with_labels(LABELS).with_value("w", W)


def tagger_of(task: str, **overrides: Any) -> Tagger:
    numbers = {"hidden1": 6, "hidden2": 5, "finetune.task": task, **overrides}
    return Tagger(JetEncoder(tiny(**numbers), seed=2), "mlp", seed=1).eval()


@pytest.fixture(scope="module")
def binary() -> Tagger:
    return tagger_of("binary")


def signal_of(jets: Jets) -> np.ndarray:
    return (np.asarray(jets.labels) == 1).astype(int)


# --- Tagger.evaluate ---


@pytest.mark.parametrize("weight", ["", "w"])
def test_two_classes(jets, binary, weight):
    found = binary.evaluate(jets, signal=[1], weight=weight, seed=4, resamplings=20)
    w = W if weight else None
    assert found.metrics == evaluate.tagger_metrics(binary.predict(jets), signal_of(jets), 4, n=20, weights=w)
    assert found.classes == {"background": 0, "signal": 1}
    assert found.counts == {"background": int((LABELS != 1).sum()), "signal": int((LABELS == 1).sum())}
    assert found.metrics == binary.evaluate((jets, signal_of(jets)), weight=weight, seed=4, resamplings=20).metrics
    assert ("weighted by 'w', as many as" in repr(found)) == bool(weight)


@pytest.mark.parametrize("weight", ["", "w"])
def test_several_classes(jets, weight):
    tagger = tagger_of("multiclass", **{"finetune.classes": ["2=b", "0=g", "1=q"]})
    found = tagger.evaluate(jets, weight=weight, resamplings=10)
    truth, w = np.take([1, 2, 0], LABELS), W if weight else None
    p = tagger.predict(jets)
    assert found.metrics == evaluate.class_metrics(p, truth, n=10, weights=w)
    np.testing.assert_array_equal(found.confusion, evaluate.confusion_matrix(p, truth, weights=w))
    assert found.classes == {"b": 2, "g": 0, "q": 1}
    assert found.aucs == {
        name: evaluate.roc_auc(p[:, c], truth == c, weights=w) for c, name in enumerate(["b", "g", "q"])
    }
    with pytest.raises(RinoError, match=r"the label of jet 0 is 0, which is none of finetune\.classes"):
        tagger_of("multiclass", **{"finetune.classes": ["1", "2"]}).evaluate(jets)


def test_numbers(jets):
    tagger = tagger_of("regression", **{"finetune.targets": ["a", "b"]})
    with_targets = jets.with_value("a", np.log(jets.pt)).with_value("b", jets.mass)
    found = tagger.evaluate(with_targets, weight="w", resamplings=10)
    p = tagger.predict(jets)
    expected = evaluate.regression_metrics(p[:, 1], np.asarray(jets.mass), n=10, weights=W)
    assert list(found.metrics) == ["a", "b"] and found.metrics["b"] == expected
    with pytest.raises(RinoError, match="working points are of signal against background alone"):
        found.fix_working_point(threshold=0.5)
    with pytest.raises(RinoError, match="the target 'a' is no column"):
        tagger.evaluate(jets)


def test_a_weight_that_is_missing_is_named(jets, binary):
    with pytest.raises(RinoError, match="'x', but the jets of test have no such column"):
        binary.evaluate(jets, signal=[1], weight="x")


def test_text_and_html_say_the_same(jets, binary):
    tagger = tagger_of("multiclass", **{"finetune.classes": ["0=<g>", "1", "2"]})
    text, page = (f(tagger.evaluate(jets, resamplings=3)) for f in (repr, lambda e: e._repr_html_()))
    assert "is \\ called" in text and "mean one-vs-rest AUC" in text and "&lt;g&gt;" in page
    assert "accuracy at 0.5" in repr(binary.evaluate(jets, signal=[1], resamplings=3))
    json.dumps(tagger.evaluate(jets, resamplings=3).to_dict())


# --- working points ---


def test_efficiencies_have_clopper_pearson_intervals():
    for k, n in ((0, 12), (3, 12), (12, 12), (250, 1000)):
        found = efficiency(np.arange(n) < k)
        expected = stats.binomtest(k, n).proportion_ci(0.682689492137, method="exact")
        assert (found.value, found.low, found.high) == pytest.approx((k / n, expected.low, expected.high))
    w = np.repeat([1.0, 3.0], 50)
    found = efficiency(np.arange(100) % 2 == 0, w)
    same = efficiency(np.arange(80) % 2 == 0)  # (sum w)^2 / sum w^2 = 200^2 / 500
    assert (found.low, found.high) == pytest.approx((same.low, same.high))


def test_a_working_point_is_the_highest_threshold_with_the_signal_and_the_lowest_with_the_background():
    scores = np.round(RNG.uniform(size=200), 2)
    labels = (RNG.uniform(size=200) < scores).astype(int)
    digests = {"sample": "s", "tagger": "t"}
    for target in (0.2, 0.5, 1.0):
        point = fix_working_point(scores, labels, signal_efficiency=target, **digests)
        eps_s = np.mean(scores[labels == 1] >= point.threshold)
        assert point.signal_efficiency.value == pytest.approx(eps_s) and eps_s >= target
        above = np.unique(scores[scores > point.threshold])[0] + 1e-9  # the next threshold loses too much
        assert np.mean(scores[labels == 1] >= above) < target
        if target < 1:  # no jet's score is near the threshold, whatever rounding does to it
            assert np.abs(scores - point.threshold).min() > 1e-3
    for target in (0.01, 0.1, 1.0):
        point = fix_working_point(scores, labels, background_efficiency=target, **digests)
        eps_b = np.mean(scores[labels == 0] >= point.threshold)
        assert point.background_efficiency.value == pytest.approx(eps_b) and eps_b <= target
        below = scores[scores < point.threshold]
        if len(below):
            assert np.mean(scores[labels == 0] >= below.max()) > target
    nothing = fix_working_point(np.array([1.0, 1.0, 0.2]), [0, 1, 0], background_efficiency=0.3, **digests)
    assert nothing.threshold > 1 and nothing.signal_efficiency.value == 0
    exactly = fix_working_point(scores, labels, threshold=0.25, **digests)
    assert exactly.threshold == 0.25 and exactly.wanted == "threshold = 0.25"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "0 of signal_efficiency, background_efficiency, threshold are given"),
        ({"threshold": 0.5, "signal_efficiency": 0.5}, "2 of"),
        ({"signal_efficiency": 0.0}, r"signal_efficiency = 0\.0 is outside \(0, 1\]"),
        ({"background_efficiency": 1.5}, r"background_efficiency = 1\.5 is outside"),
        ({"threshold": 50}, "threshold = 50; scores are numbers between 0 and 1"),
    ],
)
def test_a_working_point_needs_one_wish_in_range(jets, binary, wanted, message):
    with pytest.raises(RinoError, match=message):
        binary.evaluate(jets, signal=[1], resamplings=2).fix_working_point(**wanted)


def test_a_working_point_lies_beside_its_tagger_and_is_that_taggers_alone(jets, binary, tmp_path):
    binary.save(tmp_path / "tagger.safetensors")
    fixed = binary.evaluate(jets[:60], signal=[1], resamplings=2).fix_working_point(signal_efficiency=0.5)
    assert fixed.save(tmp_path) == tmp_path / "working_point.json"
    with pytest.raises(RinoError, match="exists"):
        fixed.save(tmp_path)
    assert WorkingPoint.load(tmp_path) == fixed == WorkingPoint.load(tmp_path / "working_point.json")
    tagger = Tagger.load(tmp_path)
    scores = tagger.predict(jets)
    for given in (fixed, tmp_path, str(tmp_path / "working_point.json")):
        passes = tagger.predict(jets, working_point=given)
        assert passes.dtype == bool
        np.testing.assert_array_equal(passes, scores >= fixed.threshold)
    found = rino.predict(tmp_path, jets.to_awkward(), working_point=tmp_path)
    np.testing.assert_array_equal(ak.to_numpy(found), passes)
    other = tagger_of("binary", **{"finetune.hidden2": 4})
    with pytest.raises(RinoError, match="was fixed for a tagger of other weights"):
        other.predict(jets, working_point=fixed)
    with pytest.raises(RinoError, match=r"prior = 0\.5 and a working point are both given"):
        tagger.predict(jets, working_point=fixed, prior=0.5)
    with pytest.raises(RinoError, match="working points are of signal against background alone"):
        tagger_of("multiclass", **{"finetune.classes": ["0", "1"]}).predict(jets, working_point=fixed)


def test_a_jet_without_constituents_passes_no_working_point(jets, binary):
    fixed = binary.evaluate(jets, signal=[1], resamplings=2).fix_working_point(signal_efficiency=1.0)
    some = ak.concatenate([jets[:2].to_awkward(), jets[:1].to_awkward()[:, :0]])
    passes = rino.predict(binary, some, working_point=fixed, empty="nan")
    assert passes.tolist() == [*binary.predict(jets[:2], working_point=fixed).tolist(), False]


def test_a_working_point_is_measured_on_other_jets_and_knows_its_own(jets, binary):
    own, others = jets[:60], jets[60:]
    fixed = binary.evaluate(own, signal=[1], weight="w", resamplings=2).fix_working_point(background_efficiency=0.2)
    on_own = binary.evaluate(own, signal=[1], weight="w", working_point=fixed, resamplings=2).at
    assert on_own.same_sample
    assert (on_own.signal_efficiency, on_own.background_efficiency) == (
        fixed.signal_efficiency,
        fixed.background_efficiency,
    )
    # The same momenta with other labels or weights are another sample.
    assert not binary.evaluate(own, signal=[1], working_point=fixed, resamplings=2).at.same_sample
    assert not binary.evaluate(own, signal=[0], weight="w", working_point=fixed, resamplings=2).at.same_sample
    found = binary.evaluate(others, signal=[1], working_point=fixed, resamplings=2)
    passes = binary.predict(others, working_point=fixed)
    signal = signal_of(others) == 1
    assert found.at.signal_efficiency == efficiency(passes[signal])
    assert found.at.background_efficiency == efficiency(passes[~signal])
    assert not found.at.same_sample and "where it was fixed" in repr(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is not JSON"),
        ("[]", "lacks 'threshold'"),
        ('{"threshold": "high"}', "lacks 'threshold'"),
    ],
)
def test_what_is_no_working_point_is_refused(tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(RinoError, match=message):
        WorkingPoint.load(tmp_path / "p.json")
    with pytest.raises(RinoError, match="cannot read the working point"):
        WorkingPoint.load(tmp_path)
    point = WorkingPoint(0.5, "threshold = 0.5", Efficiency(0, 0, 1), Efficiency(0, 0, 1), 1, 1, "s", "t")
    broken = point.to_dict() | {"signal_efficiency": {"value": 1}}
    (tmp_path / "p.json").write_text(json.dumps(broken))
    with pytest.raises(RinoError, match="is no working point"):
        WorkingPoint.load(tmp_path / "p.json")


# --- streams, files, command line, page ---


@pytest.fixture(scope="module")
def files(jets, tmp_path_factory) -> Path:
    names = ("part_px", "part_py", "part_pz", "part_energy")
    columns = zip(names, (jets.px, jets.py, jets.pz, jets.e), strict=True)
    table = pa.table({n: np.split(np.asarray(c), jets.offsets[1:-1]) for n, c in columns})
    labels = np.asarray(jets.labels)
    for name, column in {"label_QCD": labels != 1, "label_Tbqq": labels == 1, "jet_w": W}.items():
        table = table.append_column(name, pa.array(column.astype(np.float32)))
    folder = tmp_path_factory.mktemp("files")
    pq.write_table(table, folder / "jets.parquet")
    return folder


def test_streams_are_predicted_one_epoch_long(files, binary):
    with rino.open_dataset(files) as stream:
        parts = list(binary.predict(stream))
    assert sum(len(jets) for jets, _ in parts) == N
    for some, scores in parts:
        np.testing.assert_array_equal(scores, binary.predict(some))
    whole = rino.read_jets(files)
    assert np.sort(np.concatenate([s for _, s in parts])) == pytest.approx(np.sort(binary.predict(whole)))


def test_the_command_line_fixes_measures_and_applies_a_working_point(files, binary, tmp_path, capsys):
    run = tmp_path / "tagger"
    binary.save(run / "tagger.safetensors")
    test = ["evaluate", str(run), "--test", str(files), "--resamplings", "5", "--weight", "jet_w"]
    assert main([*test, "--fix", "eps_b=0.2"]) == 0
    assert f"it is in {run / 'working_point.json'}" in capsys.readouterr().out
    fixed = WorkingPoint.load(run)
    jets = rino.read_jets(files, columns="jet_w")
    assert fixed == binary.evaluate(jets, signal=[8], weight="jet_w", resamplings=2).fix_working_point(
        background_efficiency=0.2
    )
    assert main([*test, "--fix", "eps_b=0.2"]) == 2
    assert "working_point.json exists: give --overwrite" in capsys.readouterr().err
    assert main([*test, "--fix", "eps=0.2"]) == 2
    assert "is none of eps_s=0.5" in capsys.readouterr().err

    page = tmp_path / "page"
    assert main([*test, "--working-point", "--report", str(page), "--out", str(tmp_path / "e.json")]) == 0
    out = capsys.readouterr().out
    assert "these are the jets that it was fixed on" in out and f"the report is {page / 'evaluation.html'}" in out
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["working_point"]["fixed"] == fixed.to_dict()
    assert json.loads((page / "evaluation.json").read_text()) == written

    out = tmp_path / "p.parquet"
    assert main(["predict", str(run), "--jets", str(files), "--working-point", "--out", str(out)]) == 0
    table = pq.read_table(out)
    scores = table["probability"].to_numpy()
    np.testing.assert_array_equal(table["passes"].to_numpy(zero_copy_only=False), scores >= fixed.threshold)
    about = json.loads(table.schema.metadata[b"pyrino.predict"])
    assert about["working_point"] == fixed.to_dict()
    missing = ["predict", str(run), "--jets", str(files), "--out", str(tmp_path / "q.parquet")]
    assert main([*missing, "--working-point", str(tmp_path)]) == 2
    assert "cannot read the working point" in capsys.readouterr().err
    assert not (tmp_path / "q.parquet").exists()


def test_friend_trees_say_which_jets_pass(jets, binary, tmp_path):
    uproot = pytest.importorskip("uproot")
    columns = zip(("part_px", "part_py", "part_pz", "part_energy"), (jets.px, jets.py, jets.pz, jets.e), strict=True)
    lists = {name: ak.Array(np.split(np.asarray(c), jets.offsets[1:-1])) for name, c in columns}
    with uproot.recreate(tmp_path / "a.root") as root:
        root["tree"] = lists
    fixed = binary.evaluate(jets, signal=[1], resamplings=2).fix_working_point(signal_efficiency=0.5)
    rino.predict_files(
        binary, tmp_path / "a.root", tmp_path / "f.root", working_point=fixed, progress=False, pt=(550, None)
    )
    with uproot.open(tmp_path / "f.root") as root:
        friend = root["rino"].arrays(library="np")
    taken = np.asarray(jets.pt) >= 550
    assert 0 < taken.sum() < N
    np.testing.assert_array_equal(friend["valid"], taken)
    np.testing.assert_array_equal(friend["passes"], taken & (binary.predict(jets) >= fixed.threshold))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_page_shows_every_number_and_loads_nothing(jets, binary, tmp_path, task):
    tagger = {
        "binary": lambda: binary,
        "multiclass": lambda: tagger_of("multiclass", **{"finetune.classes": ["0=<g>", "1=q", "2=b"]}),
        "regression": lambda: tagger_of("regression", **{"finetune.targets": ["w"]}),
    }[task]()
    test = (jets, signal_of(jets)) if task == "binary" else jets
    point = binary.evaluate(test, resamplings=2).fix_working_point(threshold=0.5) if task == "binary" else None
    found = tagger.evaluate(test, working_point=point, resamplings=5)
    file = report.write_evaluation(found, tmp_path, title="A & B", command="pyrino evaluate")
    page = file.read_text()
    assert page.startswith("<!DOCTYPE html>") and "<h1>A &amp; B</h1>" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<img") == {"binary": 2, "multiclass": 2, "regression": 1}[task]
    metrics = found.metrics["w"] if task == "regression" else found.metrics
    decimals = None if task == "regression" else 4
    for name in {"binary": ("auc",), "multiclass": ("macro_auc",), "regression": ("bias", "resolution")}[task]:
        assert f"<td>{format_measurement(metrics[name], decimals)}</td>" in page
    assert ("&lt;g&gt;" in page) == (task == "multiclass")
    assert ("take others to measure" in page) == (task == "binary")
    assert json.loads((tmp_path / "evaluation.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    with pytest.raises(RinoError, match="exists: give overwrite=True"):
        report.write_evaluation(found, tmp_path, overwrite=False)


def test_a_bound_is_said_to_be_one(jets, binary, tmp_path):
    found = binary.evaluate((jets, signal_of(jets)), resamplings=2)
    sure = dataclasses.replace(
        found, metrics=evaluate.tagger_metrics(np.where(signal_of(jets) == 1, 0.9, 0.1), signal_of(jets), n=2)
    )
    assert "(95% confidence: no background jet passes)" in repr(sure)
    assert "lower bound at 95% confidence" in report.write_evaluation(sure, tmp_path).read_text()
