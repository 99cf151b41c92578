"""CUDA against the CPU: to be run by whoever has a GPU (``make gpu``), skipped elsewhere.

RINO_GPU names another device to run on: `test_foreign_device.py` does so, with one that needs no GPU.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import JetEncoder, Jets, Recipe, Tokens, Trainer

GPU = os.environ.get("RINO_GPU", "cuda")
pytestmark = pytest.mark.skipif(
    not torch.get_device_module(GPU).is_available(), reason=f"torch sees no {GPU} device: needs a GPU"
)

# What a head's width makes of it: padded to 8 for the kernels, as it is, as it is.
SIZES = {"narrow": (12, 3), "nano": (32, 4), "base": (64, 2)}


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(64)


@pytest.fixture(scope="module", params=list(SIZES))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    width, heads = SIZES[request.param]
    return tiny(encoder__width=width, encoder__heads=heads, encoder__dropout=0.0, head__prototypes=8)


def pair(recipe: Recipe) -> tuple[JetEncoder, JetEncoder]:
    """The same encoder on both devices."""
    return JetEncoder(recipe, seed=1), JetEncoder(recipe, seed=1).to(GPU)


def assert_near(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    """The norm of the difference as a share of the norm."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    assert torch.isfinite(found).all()
    assert (found - expected).norm() <= share * expected.norm()


def gradients(encoder: JetEncoder, tokens: Tokens, constituents: bool, half: bool) -> torch.Tensor:
    """Of a loss in which no two sequences count the same."""
    encoder.zero_grad()
    device = encoder.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        out = encoder(tokens, constituents=constituents)
    weights = torch.linspace(-1, 1, len(tokens), device=device)
    loss = (out.jets.float().square().sum(1) * weights).sum()
    if constituents:
        loss = loss + out.constituents.float().pow(3).mean()
    loss.backward()
    return torch.cat([parameter.grad.reshape(-1).cpu() for parameter in encoder.parameters()])


@pytest.mark.parametrize(("half", "share"), [(False, 1e-5), (True, 2e-2)], ids=["float32", "bf16"])
@pytest.mark.parametrize("constituents", [True, False])
def test_forward_is_the_cpus(jets, recipe, half, share, constituents):
    cpu, cuda = pair(recipe)
    tokens = cpu.tokenize(jets, [1, 4, "all"])
    with torch.no_grad(), torch.autocast(GPU, dtype=torch.bfloat16, enabled=half):
        found, expected = cuda(tokens, constituents=constituents), cpu(tokens, constituents=constituents)
    assert found.jets.device.type == GPU
    assert_near(found.jets, expected.jets, share)
    if constituents:
        assert_near(found.constituents, expected.constituents, share)


@pytest.mark.parametrize(("half", "share"), [(False, 1e-4), (True, 5e-2)], ids=["float32", "bf16"])
@pytest.mark.parametrize("constituents", [True, False])
def test_gradients_are_the_cpus(jets, recipe, half, share, constituents):
    cpu, cuda = pair(recipe)
    tokens = cpu.tokenize(jets, [1, 4, "all"])
    expected = gradients(cpu, tokens, constituents, half=False)
    assert_near(gradients(cuda, tokens, constituents, half), expected, share)


def test_double_precision_is_the_cpus(jets, recipe):
    cpu, cuda = (encoder.double() for encoder in pair(recipe))
    tokens = cpu.tokenize(jets, [4, "all"])
    with torch.no_grad():
        assert_near(cuda(tokens).jets, cpu(tokens).jets, 1e-12)


def test_embed_is_the_cpus(jets, recipe):
    cpu, cuda = pair(recipe)
    expected = cpu.embed(jets)
    np.testing.assert_allclose(cuda.embed(jets), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(cuda.embed(jets, batch_tokens=100), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(cuda.embed(jets[3]), expected[3:4], rtol=0, atol=1e-4)


def test_more_sequences_than_cudas_grid_has():
    jets = rino.toy_jets(1000, 3, multiplicity_mean=3, multiplicity_std=1)
    many = jets[np.arange(70_000) % 1000]
    cpu, cuda = pair(tiny())
    z = cuda.embed(many, batch_tokens=10**7)
    np.testing.assert_allclose(z, cpu.embed(jets)[np.arange(70_000) % 1000], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bf16", 3e-2)])
@pytest.mark.parametrize("assignment", ["sinkhorn", "centering"])
def test_steps_are_the_cpus(jets, recipe, precision, tolerance, assignment):
    numbers = {"epochs": 3, "batch_size": 16, "lr": 1e-3, "seed": 3, "assignment": assignment, "koleo": 0.1}
    on = {
        device: [dict(step) for step in Trainer(recipe.replace(precision=p, **numbers), jets, device=device)]
        for device, p in (("cpu", "float32"), (GPU, precision))
    }
    for found, expected in zip(on[GPU], on["cpu"], strict=True):
        for name in ("loss", "dino", "koleo", "teacher_entropy", "prototype_entropy", "lr", "momentum"):
            assert found[name] == pytest.approx(expected[name], rel=tolerance, abs=tolerance), name
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=10 * tolerance)


def test_a_run_with_dropout_in_bf16_trains(jets):
    recipe = tiny(epochs=20, batch_size=16, lr=3e-3, encoder__dropout=0.1, precision="bf16", koleo=0.1)
    steps = [step["loss"] for step in Trainer(recipe, jets, device=GPU)]
    assert np.isfinite(steps).all() and np.mean(steps[-8:]) < np.mean(steps[:8]) - 0.05


@contextmanager
def waits(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], int]]:
    """How often the host waits for the device in the block; CUDA writes it to stderr in its debug mode."""
    if GPU != "cuda":
        torch.ops.foreign.reset()
        yield lambda: sum(torch.ops.foreign.waits().values())
        return
    torch.cuda.synchronize()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("warn")
    try:
        yield lambda: len(re.findall("called a synchronizing CUDA operation", capfd.readouterr().err))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("preset", ["nano", "part-nano", "rino", "contrastive"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_waits_for_the_device_once(jets, preset, precision, capfd):
    small = {"encoder.layers": 2, "training.batch_size": 16, "training.epochs": 4}
    if preset != "contrastive":
        small |= {"head.prototypes": 32}
    if preset == "rino":
        small |= {"head.hidden_width": 64}
    trainer = Trainer(Recipe.preset(preset, **{**small, "training.precision": precision}), jets, device=GPU)
    trainer.step()
    trainer.step()
    with waits(capfd) as count:
        trainer.step()
        assert count() <= 1


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value for name, value, _ in trainer._core.product("student").tensors()}


def test_steps_that_are_not_finite_change_nothing_and_end_a_run(jets):
    trainer = Trainer(tiny(epochs=2, batch_size=16), jets, device=GPU)
    trainer.step()
    student = weights(trainer)
    with torch.no_grad():
        kept = student["norm.weight"].clone()
        student["norm.weight"].fill_(float("nan"))
    before = {name: value.clone() for name, value in student.items()}
    assert [trainer.step()["skipped"] for _ in range(2)] == [1, 1]
    with pytest.raises(rino.RinoError, match=r"the loss was -?nan .* the last of 3 in a row"):
        trainer.step()
    assert all(torch.equal(value.nan_to_num(), before[name].nan_to_num()) for name, value in weights(trainer).items())
    with torch.no_grad():
        student["norm.weight"].copy_(kept)
    assert np.isfinite(trainer.step()["loss"])
