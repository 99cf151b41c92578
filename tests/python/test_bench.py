"""`pyrino bench` and `benchmarks/`: what is counted, what is timed, and that sides which disagree are no result."""

from __future__ import annotations

import json
import runpy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_jets, tiny
from torch.utils.flop_counter import FlopCounterMode

import pyrino as rino
from pyrino import bench as measuring
from pyrino.bench import Timing, bench, encoder_flops, head_flops, interleaved, step_flops, torch_threads
from pyrino.cli import main

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


# --- measuring ---


def test_timing_is_the_median_and_the_spread_half_the_quartiles_distance():
    timing = Timing.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert timing == Timing(seconds=3.0, repetitions=5, spread=1 / 3)
    assert Timing.of([1.0, 3.0]) == Timing(seconds=2.0, repetitions=2, spread=0.0)


def test_sides_take_turns_after_a_warm_up():
    calls: list[str] = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repetitions=3)
    assert "".join(calls) == "ab" * 4
    assert list(times) == ["a", "b"]
    assert {timing.repetitions for timing in times.values()} == {3}


def test_a_side_that_has_used_up_its_budget_is_measured_no_more():
    times = interleaved({"slow": lambda: time.sleep(0.02), "quick": lambda: None}, repetitions=5, budget=0.03)
    assert (times["slow"].repetitions, times["quick"].repetitions) == (2, 5)
    assert 0.02 <= times["slow"].seconds < 1


def test_no_repetition_is_refused():
    with pytest.raises(rino.RinoError, match="repetitions is 0"):
        interleaved({}, repetitions=0)


def test_torch_gets_its_threads_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="within"), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("within")
    assert torch.get_num_threads() == before


def test_the_machine_is_described_for_json():
    described = measuring.describe_machine()
    assert json.loads(json.dumps(described)) == described
    assert described["cores"] >= 1 and described["processor"] and described["torch"] == torch.__version__
    assert {"instructions", "load", "date", "command", "settings"} <= described.keys()


def test_multiplicities_are_those_of_the_jets():
    jets = small_jets(50)
    told = measuring.multiplicities(jets)
    assert told["jets"] == 50
    assert told["mean"] == pytest.approx(statistics.fmean(jets.multiplicity.tolist()))
    assert told["std"] == pytest.approx(statistics.pstdev(jets.multiplicity.tolist()))
    assert told["quantiles"]["0%"] == jets.multiplicity.min()
    assert told["quantiles"]["100%"] == jets.multiplicity.max()


# --- what is counted ---


def products_of_one_jet(n: int, features: int, d: int, heads: int, layers: int, f: int, jet_features: int) -> None:
    """The matrix products that embed one jet of n constituents, and no others, for torch to count."""

    def linear(rows: int, a: int, b: int) -> None:
        torch.empty(rows, a) @ torch.empty(a, b)

    linear(n, features, d)
    if jet_features:
        linear(1, jet_features, d)
    for layer in range(layers):
        asking = 1 if layer == layers - 1 else n + 1
        linear(asking, d, d)  # queries
        linear(n + 1, d, 2 * d)  # keys and values
        torch.empty(heads, asking, d // heads) @ torch.empty(heads, d // heads, n + 1)
        torch.empty(heads, asking, n + 1) @ torch.empty(heads, n + 1, d // heads)
        linear(asking, d, d)
        linear(asking, d, f)
        linear(asking, f, d)


@pytest.mark.parametrize(("preset", "jet_features"), [("nano", 4), ("base", 4), ("demo", 0)])
def test_operations_of_the_encoder_are_those_torch_counts(preset, jet_features):
    recipe = rino.Recipe.preset(preset)
    size = recipe.encoder
    lengths = [1, 7, 44]
    with FlopCounterMode(display=False) as counter:
        for n in lengths:
            products_of_one_jet(n, 11, size.width, size.heads, size.layers, size.feedforward, jet_features)
    assert encoder_flops(recipe, np.array(lengths), 11) == counter.get_total_flops()


@pytest.mark.parametrize("preset", ["nano", "demo"])
def test_operations_of_the_head_are_two_for_each_weight(preset):
    recipe = rino.Recipe.preset(preset)
    state = rino.ProjectionHead(recipe, seed=1).state_dict()
    assert head_flops(recipe) == 2 * sum(w.numel() for name, w in state.items() if name.endswith("weight"))


def test_operations_of_a_step_are_three_forward_passes_and_the_teachers():
    recipe, jets = tiny(koleo=0.0), small_jets(6)

    def forward(points: list[Any]) -> tuple[float, float]:
        lengths = np.array([len(view[j].p4) for view in rino.ViewGenerator(points)(jets) for j in range(6)])
        inputs = 2 * recipe.encoder.width * (11 * lengths.sum() + 4 * len(lengths))  # has no gradient
        return encoder_flops(recipe, lengths, 11) + len(lengths) * head_flops(recipe), inputs

    (all_views, inputs), (teacher, _) = forward([1, 2, 4, 8, "all"]), forward([1, 2])
    assert 6 * step_flops(recipe, jets).total == pytest.approx(3 * all_views - inputs + teacher)
    some = step_flops(recipe.replace(student_drawn=1), jets)
    (own, own_inputs), (shared, shared_inputs) = forward([4, 8, "all"]), forward([1, 2])
    wanted = 3 * shared - shared_inputs + (3 * own - own_inputs) / 3 + teacher
    assert 6 * some.total == pytest.approx(wanted)
    assert step_flops(recipe.replace(koleo=1.0), jets, batch=50).koleo == 2 * 50 * recipe.encoder.width * 2


def test_a_sequence_without_a_class_token_has_a_row_less():
    jets = small_jets(6)
    rows = [
        step_flops(rino.Recipe.preset("rino-ibot", registers=2, **more), jets).student_rows
        for more in ({}, {"class_token": "learned"})
    ]
    assert rows == pytest.approx([jets.multiplicity.mean() + 2, jets.multiplicity.mean() + 3])


# --- equality ---


def test_views_that_differ_are_found():
    jets = small_jets(5)
    views = rino.ViewGenerator([2, "all"])(jets)
    assert measuring.views_difference(views, views) == 0
    changed = views[1].p4.copy()
    changed[3, 3] *= 1.001
    other = [views[0], rino.Jets(changed, views[1].offsets)]
    assert measuring.views_difference(other, views) == pytest.approx(1e-3)
    assert measuring.views_difference(rino.ViewGenerator([3, "all"])(jets), views) == np.inf


def test_backends_that_disagree_are_an_error(monkeypatch):
    monkeypatch.setattr(measuring, "views_difference", lambda one, other: 1e-3)
    with pytest.raises(rino.RinoError, match=r"differ from FastJet's by 0\.001"):
        bench(tiny(), threads=[1], jets=8, repetitions=1)


# --- pyrino bench ---


def test_bench_gives_rates_for_every_number_of_threads():
    before = torch.get_num_threads()
    result = bench(tiny(), threads=[1, 2], jets=30, repetitions=2)
    assert torch.get_num_threads() == before
    assert json.loads(json.dumps(result)) == result
    assert [rates["threads"] for rates in result["rates"]] == [1, 2]
    assert result["batch_size"] == result["jets"]["jets"] == 30
    for rates in result["rates"]:
        assert min(rates.values()) > 0
        assert rates["pretraining_seconds"] == pytest.approx(1e6 / rates["step"])
    assert 0 < result["single_jet_us"] < 1e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": [0]}, r"threads = \[0\]"),
        ({"threads": []}, r"threads = \[\]"),
        ({"jets": 1}, "jets is 1"),
        ({"repetitions": 0}, "repetitions is 0"),
    ],
)
def test_bench_refuses(arguments, message):
    with pytest.raises(rino.RinoError, match=message):
        bench(**{"preset": tiny(), "threads": [1], "jets": 4, **arguments})


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    tiny().save(tmp_path / "tiny.toml")
    out = tmp_path / "new" / "speed.json"
    arguments = ["bench", str(tmp_path / "tiny.toml"), "--threads", "1", "--jets", "20", "--repetitions", "2"]
    assert main([*arguments, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert [rates["threads"] for rates in result["rates"]] == [1]
    for line in ("views, jets/s", "training step, jets/s", "matrix product, GFLOP/s", "embedding, jets/s"):
        assert line in text
    assert f"{result['rates'][0]['step']:,.0f}" in text
    assert "one epoch of 1,000,000 such jets" in text
    assert main([*arguments, "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


def test_help_says_what_it_measures(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "How fast this machine makes views, trains and embeds, on toy jets." in text
    assert "(default: 1 and the number of cores)" in text
    assert "number of toy jets (default: 2000)" in text


# --- benchmarks/ ---


@pytest.fixture()
def run_benchmark(monkeypatch, tmp_path, capsys):
    """Runs a program of benchmarks/ and returns its JSON."""
    if not BENCHMARKS.is_dir():
        pytest.skip("benchmarks/ is not here")
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(program: str, *arguments: object, result: str | None = None) -> dict[str, Any]:
        words = [str(BENCHMARKS / f"{program}.py"), *map(str, arguments), "--repetitions", "1", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", words)
        with torch_threads(1):
            runpy.run_path(words[0], run_name="__main__")
        document = json.loads((tmp_path / f"{result or program}.json").read_text())
        assert document["rows"] and document["figures"] and document["checks"]
        assert all(check["difference"] <= check["tolerance"] for check in document["checks"])
        assert all(f"{figure['name']}: " in capsys.readouterr().out for figure in document["figures"][:1])
        return document

    return run


def test_benchmark_of_a_step_compares_losses_and_rates(run_benchmark):
    arguments = ["--sizes", "nano", "--threads", 1, "--batch", 8, "--file", 40, "--budget", 0.01]
    document = run_benchmark("step", *arguments)
    names = [row["name"] for row in document["rows"]]
    for side in ("ours", "torch.mm", "padded to its own", "padded to the file"):
        assert any(side in name for name in names)
    assert len(document["checks"]) == 4
    assert all(0 < row["GFLOP_per_s"] for row in document["rows"])


def test_benchmark_of_part_compares_losses(run_benchmark):
    arguments = ("--presets", "part-nano", "--threads", 1, "--batch", 8)
    document = run_benchmark("particle_transformer", *arguments)
    assert len(document["rows"]) == 3 and len(document["figures"]) == 2
    assert all(check["difference"] <= check["tolerance"] <= 1e-4 for check in document["checks"])


@pytest.mark.parametrize(
    ("part", "replacement"),
    [
        ("sinkhorn", lambda scores, temperature, iterations: torch.softmax(scores / temperature, dim=1)),
        ("koleo", lambda embeddings: embeddings.sum() * 0),
        ("cosine", lambda start, end, position, total: end),
    ],
)
def test_benchmark_of_a_step_fails_where_the_sides_disagree(run_benchmark, monkeypatch, part, replacement):
    import baseline

    monkeypatch.setattr(baseline, part, replacement)
    with pytest.raises(SystemExit, match="losses of step 1, ours and padded to the file differ by"):
        run_benchmark("step", "--sizes", "nano", "--threads", 1, "--batch", 8, "--file", 40)


def test_benchmark_of_a_step_notices_an_optimiser_that_does_nothing(run_benchmark, monkeypatch):
    import baseline

    monkeypatch.setattr(baseline.PlainStep, "_lr_share", lambda self: 0.0)
    with pytest.raises(SystemExit, match="losses of step 3"):
        run_benchmark("step", "--sizes", "nano", "--threads", 1, "--batch", 8, "--file", 40)


def test_benchmark_of_views_from_python(run_benchmark):
    document = run_benchmark("views", "--jets", 12, result="views_python")
    assert document["multiplicities"]["jets"] == 12
    assert len(document["rows"]) == 5


def test_benchmark_of_inference(run_benchmark):
    document = run_benchmark("inference", "--sizes", "nano", "--jets", 70)
    assert any(figure["unit"] == "us" for figure in document["figures"])


def test_benchmark_of_the_loader(run_benchmark):
    document = run_benchmark("loader", "--sizes", "nano", "--jets", 16, "--batch", 8)
    assert [f for f in document["figures"] if "share of the step waited" in f["name"]]


def test_benchmark_of_a_method_in_python(run_benchmark):
    document = run_benchmark("method_overhead", "--jets", 8, "--steps", 2)
    assert [row["name"] for row in document["rows"]] == ["C++, 8 jets", "Python, 8 jets"]
    assert document["checks"][0]["difference"] < 1e-5


def test_benchmark_of_metrics(run_benchmark):
    assert len(run_benchmark("metrics", "--scores", 400)["figures"]) == 4


def test_all_results_go_into_one_table(run_benchmark, monkeypatch, tmp_path, capsys):
    run_benchmark("metrics", "--scores", 400)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["run.py", "--table", "--out", str(tmp_path)])
    runpy.run_path(str(BENCHMARKS / "run.py"), run_name="__main__")
    assert "metrics, AUC: to scikit-learn" in capsys.readouterr().out
    text = (tmp_path / "results.md").read_text()
    assert "| metrics, AUC: to scikit-learn | " in text and "| AUC: pyrino | " in text
