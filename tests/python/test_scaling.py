"""docs/scaling.md: that operations are those torch counts, times those of the formulas, tables those of the page."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import pyrino as rino

ROOT = Path(__file__).resolve().parents[2]

#: Numbers that make times easy: of a recipe, and of a GPU.
WORK = {
    "student": 6e9,
    "teacher": 2e9,
    "heads": 1e9,
    "koleo": 0.0,
    "flops": 9e9,
    "parameters": 1e6,
    "batch": 1000,
    "gathered": 500.0,
    "products_moved": 1e6,
    "moved": 40e6,
    "step_moved": 80e6,
    "kept": 2e6,
    "operators": 1000,
}
GPU = "X=100,10,1,4,100"


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    """benchmarks/scaling.py as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_scaling", ROOT / "benchmarks" / "scaling.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


def copies(jets: int, seed: int) -> rino.Jets:
    """One toy jet several times: no view is padded, so that nothing but its own products is computed."""
    one = rino.toy_jets(1, seed=seed)
    return rino.Jets(np.tile(one.p4, (jets, 1)), np.arange(jets + 1) * len(one.p4))


def few_layers(name: str) -> rino.Recipe:
    """A preset that is quick, whose student draws nothing and has no two views of nearly one length, which would be
    padded.
    """
    recipe = rino.Recipe.preset(name).replace(batch_size=3, loader_threads=0, precision="float32")
    recipe = recipe.replace(**{"encoder.layers": 2, "views.student_drawn": 0})
    return recipe.replace(**{"views.student": [2, 3, "all"]}) if name.startswith("rino") else recipe


# --- what is counted ---


@pytest.mark.parametrize("name", ["nano", "rino", "rino-dino", "rino-ibot"])
def test_operations_are_those_that_torch_counts_in_a_step(scaling, name):
    recipe, jets = few_layers(name), copies(3, seed=3)
    trainer = rino.Trainer(recipe, jets)
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    assert 3 * scaling.step_flops(recipe, jets).total == counter.get_total_flops()


def test_drawn_views_count_with_the_share_of_steps_that_show_them(scaling):
    jets = rino.toy_jets(20, seed=1)
    recipe = few_layers("rino").replace(**{"views.student": [2, 3, 4, "all"]})
    all_views = scaling.step_flops(recipe, jets)
    some = scaling.step_flops(recipe.replace(**{"views.student_drawn": 3}), jets)
    single = [
        scaling.step_flops(recipe.replace(**{"views.student": [view]}), jets).student for view in (2, 3, 4, "all")
    ]
    always = (sum(single) - all_views.student) / 3  # teacher's views and particles are in every one of them
    assert some.student == pytest.approx(always + 0.75 * (all_views.student - always))
    assert some.teacher == all_views.teacher


def test_operators_and_the_bytes_they_move(scaling):
    a, b = torch.ones(10, 10), torch.ones(10, 10)
    with scaling.Operators() as found:
        (a + b).view(100)  # a view moves nothing
        a.mul_(2)
        torch.mm(a, b)
        torch.bmm(a[None], b[None])  # of attention
    assert found.calls == 4
    assert found.moved == 3 * 400 + 2 * 400
    assert found.moved_by_products == 3 * 400


def test_what_is_kept_of_the_recipes_is_what_they_are_today(scaling):
    document = json.loads(scaling.parser().get_default("results").read_text())
    sample = rino.toy_jets(scaling.SAMPLE, seed=1)
    assert set(document["counted"]) == set(scaling.RECIPES)
    for name in ("nano", "rino"):
        counted, recipe = document["counted"][name], rino.Recipe.preset(name)
        assert counted["flops"] == pytest.approx(scaling.step_flops(recipe, sample).total, rel=1e-9)
        assert counted["encoder"] == sum(p.numel() for p in rino.JetEncoder(recipe, seed=1).parameters())
        # Student, teacher and two moments of float32, and a little beside.
        assert counted["checkpoint"] == pytest.approx(16 * counted["parameters"], rel=0.03)


def test_collective_calls_of_a_step(scaling):
    found = scaling.measure_gloo({"nano": 1000})
    sinkhorn, koleo, entropies, gradients, metrics = 1 + 2 * 3, 2 * 4, 1, 1, 1
    assert found["calls"] == {"nano": sinkhorn + koleo + entropies + gradients + metrics}
    assert 0 < found["seconds"]["nano"] < 10


# --- what is assumed ---


def costs_with(scaling: ModuleType, *arguments: str) -> tuple[Any, Any]:
    """The estimate of the recipe above, with options, and the GPU."""
    options = scaling.parser().parse_args(["--gpu", GPU, "--products", "0.5", "1", "--bandwidth", "0.5", *arguments])
    options.jets_per_second = dict(options.jets_per_second)
    return scaling.Costs({"base": WORK}, {"base": 20}, options), options.gpu[0]


def test_times_of_products_and_of_memory_add(scaling):
    costs, gpu = costs_with(scaling)
    # (8e9 / 1e14 + 1e9 / 1e13) / 0.5 and 40e6 / 0.5e12; at the fast end the whole peak and half of the bytes
    assert costs.jet_seconds("base", gpu, 0) == pytest.approx(360e-6 + 80e-6)
    assert costs.jet_seconds("base", gpu, 1) == pytest.approx(180e-6 + 40e-6)
    given, _ = costs_with(scaling, "--utilisation", "0.1", "0.3")
    assert given.jet_seconds("base", gpu, 1) == pytest.approx(9e9 / 0.3e14)
    measured, _ = costs_with(scaling, "--jets-per-second", "base=5000")
    assert measured.jet_seconds("base", gpu, 0) == measured.jet_seconds("base", gpu, 1) == 1 / 5000


def test_a_ring_is_as_fast_as_its_slowest_link(scaling):
    costs, gpu = costs_with(scaling)
    inside = 7 / 8 * 4e6 / (0.8 * 100e9)
    out = 3 / 4 * 4e6 / (0.8 * 25e9)
    assert costs.reduce_seconds("base", gpu, 1) == 0
    assert costs.reduce_seconds("base", gpu, 8) == pytest.approx(2 * inside)
    assert costs.reduce_seconds("base", gpu, 32) == pytest.approx(2 * out)
    assert costs.koleo_seconds("base", gpu, 32, own=250) == pytest.approx(3 * out)  # 32 * 250 * 500 B are 4 MB, too


def test_a_step_waits_for_the_gpu_or_for_the_host(scaling):
    costs, gpu = costs_with(scaling)
    once = 80e6 / 0.5e12
    assert costs.step_seconds("base", gpu, 1, 100, end=0) == pytest.approx(100 * 440e-6 + once)
    assert costs.step_seconds("base", gpu, 1, 2, end=0) == pytest.approx(1000 * 10e-6)
    talk = costs.reduce_seconds("base", gpu, 8) + costs.koleo_seconds("base", gpu, 8, 2) + 20 * 40e-6
    assert costs.step_seconds("base", gpu, 8, 2, end=0) == pytest.approx(1000 * 10e-6 + talk)
    assert costs.rate("base", gpu, 1, 2, end=0) == pytest.approx(2 / 10e-3)


def test_parts_of_a_batch_fit_into_memory(scaling):
    costs, gpu = costs_with(scaling)
    room = 0.8 * 4e9 - 24e6
    assert [costs.parts("base", gpu, jets) for jets in (1, int(room / 2e6), int(room / 2e6) + 1)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "H100=989"], "'H100=989' is no GPU: give NAME="),
        (["--jets-per-second", "huge=1"], "'huge=1': give RECIPE=JETS, a recipe of nano"),
        (["--jets-per-second", "base=0"], "'base=0': give RECIPE=JETS"),
    ],
)
def test_bad_options_say_what_to_give(scaling, arguments, message, capsys):
    with pytest.raises(SystemExit):
        scaling.main(arguments)
    assert message in capsys.readouterr().err


# --- what is written ---


def test_numbers_have_two_digits(scaling):
    written = [scaling.number(value) for value in (0, 0.0123, 0.999, 1, 9.96, 47.4, 1234.5)]
    assert written == ["0", "0.012", "1.0", "1.0", "10", "47", "1,200"]
    assert scaling.duration(7200, 3599) == "60 - 120 min"
    assert scaling.duration(3 * 86400, 2 * 86400) == "2.0 - 3.0 d"
    assert scaling.duration(2e-5) == "20 us"
    assert scaling.size_of(734) == "730 B" and scaling.size_of(7.34e11) == "730 GB"


def test_the_page_has_the_tables_that_the_script_makes(scaling):
    scaling.main(["--check"])


def test_a_page_with_another_number_is_found_and_mended(scaling, tmp_path, monkeypatch):
    original = scaling.PAGE.read_text(encoding="utf-8")
    page = tmp_path / "scaling.md"
    page.write_text(original.replace("15,186,176", "15,186,177"), encoding="utf-8")
    monkeypatch.setattr(scaling, "PAGE", page)
    with pytest.raises(SystemExit, match="has other tables"):
        scaling.main(["--check"])
    scaling.main(["--write"])
    assert page.read_text(encoding="utf-8") == original
    page.write_text(original.replace("<!-- scaling.py: disk -->\n", ""), encoding="utf-8")
    with pytest.raises(rino.RinoError, match="put in what is missing"):
        scaling.main(["--write"])


def test_a_measured_rate_takes_the_place_of_the_estimate(scaling, capsys):
    scaling.main(["--jets-per-second", "base=9000"])
    printed = capsys.readouterr().out
    assert "| `base` on one GPU | 9,000 jets/s | `--jets-per-second` | measured |" in printed
    assert "| measured, A100 | 9,000 |" in printed
