"""``training.precision``: the encoders in bfloat16, everything that is kept in float32."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import Jets, Recipe, RinoError, RinoWarning, Trainer, pretrain

PROCESSOR = Path("/proc/cpuinfo").read_text()
#: Whether it has hardware for products of bfloat16 that our kernels know.
FASTER = "amx_bf16" in PROCESSOR or ("avx512_bf16" in PROCESSOR and "AuthenticAMD" in PROCESSOR)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(24)


def recipe_of(precision: str, **numbers: object) -> Recipe:
    small = {"epochs": 10, "batch_size": 12, "lr": 3e-3, "seed": 3, "encoder.width": 32, "encoder.heads": 4}
    return tiny(**{**small, "precision": precision, **numbers})


def losses(recipe: Recipe, jets: Jets) -> np.ndarray:
    return np.array([step["loss"] for step in Trainer(recipe, jets)])


def test_it_travels_with_the_recipe(tmp_path):
    recipe = Recipe(precision="bf16")
    assert recipe.training.precision == "bf16" and Recipe().training.precision == "float32"
    recipe.save(tmp_path / "r.toml")
    assert 'precision = "bf16"' in (tmp_path / "r.toml").read_text()
    assert Recipe.load(tmp_path / "r.toml") == Recipe.from_json(recipe.to_json()) == recipe != Recipe()
    with pytest.raises(RinoError, match=r"training.precision is 'half': choose one of 'float32', 'bf16'"):
        Recipe(precision="half")


def test_a_run_in_bf16_follows_that_in_float32(jets):
    # Without dropout: which values it drops differs between the kernels.
    still = {"encoder.dropout": 0.0}
    half, full = losses(recipe_of("bf16", **still), jets), losses(recipe_of("float32", **still), jets)
    assert np.array_equal(half, full) == (not FASTER)
    np.testing.assert_allclose(half, full, rtol=0.03)
    assert half[-4:].mean() < half[:4].mean()


@pytest.mark.filterwarnings("error")
def test_a_processor_that_is_not_faster_with_it_computes_in_float32_and_says_so(jets):
    if FASTER:
        Trainer(recipe_of("bf16"), jets)
        return
    with pytest.warns(
        RinoWarning, match=r"training.precision is 'bf16'.* nor AMD's with AVX512-BF16.* the run is in float32"
    ) as said:
        trainer = Trainer(recipe_of("bf16"), jets)
    assert len(said) == 1
    trainer.step()
    Trainer(recipe_of("float32"), jets)


def test_a_run_in_float64_is_that_of_networks_of_float64(jets, tmp_path):
    trainer = Trainer(recipe_of("float64"), jets)
    assert trainer.encoder().dtype == torch.float64
    wide = Trainer(recipe_of("float32"), jets, dtype="float64")
    for _ in range(3):
        assert trainer.step()["loss"] == wide.step()["loss"]
    trainer.save(tmp_path / "run.safetensors")
    resumed = Trainer(recipe_of("float64"), jets)
    resumed.restore(tmp_path / "run.safetensors")
    assert resumed.step()["loss"] == trainer.step()["loss"]


def test_bf16_is_refused_with_networks_of_float64(jets):
    with pytest.raises(RinoError, match="precision is bf16 but the networks are Double"):
        Trainer(recipe_of("bf16"), jets, dtype="float64")


def test_what_is_kept_is_float32_and_a_run_goes_on_with_its_own_precision(jets, tmp_path):
    run = pretrain(recipe_of("bf16", epochs=2), jets, tmp_path / "run", progress=False, tensorboard=False)
    state = safetensors.torch.load_file(tmp_path / "run" / "checkpoint.safetensors")
    kinds = {value.dtype for name, value in state.items() if not name.startswith("trainer.")}
    assert kinds == {torch.float32}
    assert run.encoder.dtype == torch.float32 and run.encoder.recipe.training.precision == "bf16"
    with pytest.raises(RinoError, match=r"'training.precision' is 'float32' but 'bf16'"):
        pretrain(recipe_of("float32", epochs=2), jets, tmp_path / "run", progress=False, resume=True)


def test_the_callers_autocast_changes_no_step_and_is_left_alone(jets):
    expected = losses(recipe_of("float32", epochs=2), jets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(losses(recipe_of("float32", epochs=2), jets), expected)
        assert torch.is_autocast_enabled("cpu")
    losses(recipe_of("bf16", epochs=1), jets)
    assert not torch.is_autocast_enabled("cpu")


def test_losses_are_float32_under_autocast():
    scores = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(1))
    expected = rino.losses.koleo_loss(scores[0]), rino.losses.dino_loss(scores[:2].softmax(2), scores, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rino.losses.koleo_loss(scores[0]), rino.losses.dino_loss(scores[:2].softmax(2), scores, 0.1)
        from_half = rino.losses.koleo_loss(scores[0].bfloat16())
    assert found == expected
    assert from_half.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "said"),
    [("amx", "RINO_BF16 is 'amx': choose one of 'none', 'avx512-bf16', 'amx-bf16'"), ("none", "float32")],
)
def test_the_unit_for_bfloat16_can_be_named(name, said):
    code = (
        "import pyrino as rino\n"
        "recipe = rino.Recipe.preset('nano', **{'training.precision': 'bf16', 'training.batch_size': 8})\n"
        "try:\n    print(rino.Trainer(recipe, rino.toy_jets(16, seed=1))._core.precision)\n"
        "except rino.RinoError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "RINO_BF16": name}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == said, done.stderr
