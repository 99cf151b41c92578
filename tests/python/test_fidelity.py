"""What the recipes say beyond their numbers: initial values, masked constituents, and what older files mean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import small_jets, tiny
from scipy.stats import ks_2samp

import pyrino as rino
from pyrino import JetEncoder, Jets, ProjectionHead, Recipe, Tagger
from pyrino.nn import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]

# --- initial values ---


def values(tensors: list[torch.Tensor]) -> np.ndarray:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).numpy()


def assert_alike(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """Drawn from one distribution, as far as tens of thousands of values tell, within the same bounds."""
    a, b = values(mine), values(theirs)
    assert len(a) >= 10_000 and len(b) >= 10_000
    assert ks_2samp(a, b).pvalue > 1e-4
    assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.01)


def test_attention_starts_as_torchs_does():
    recipe = Recipe.preset("lite")
    mine = [block.attention for seed in range(3) for block in JetEncoder(recipe, seed=seed).blocks.children()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = [torch.nn.MultiheadAttention(recipe.encoder.width, recipe.encoder.heads) for _ in mine]
    assert_alike([m.qkv.weight for m in mine], [t.in_proj_weight for t in theirs])
    assert_alike([m.out.weight for m in mine], [t.out_proj.weight for t in theirs])
    # Xavier's bound is that of the whole matrix, not of queries, keys and values each
    assert np.abs(values([m.qkv.weight for m in mine])).max() == pytest.approx(np.sqrt(6 / (64 + 3 * 64)), rel=1e-3)
    for name in ("qkv", "out"):
        assert all(getattr(m, name).bias.eq(0).all() for m in mine)
    assert all(t.in_proj_bias.eq(0).all() and t.out_proj.bias.eq(0).all() for t in theirs)


@pytest.mark.parametrize("bottleneck", [0, 64])
def test_prototypes_start_as_a_linear_layer_and_only_hidden_layers_truncated_normal(bottleneck):
    recipe = Recipe.preset("nano", prototypes=400, hidden_layers=2, bottleneck=bottleneck)
    head = ProjectionHead(recipe, seed=1)
    inputs = bottleneck or 128
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        linear = torch.nn.Linear(inputs, 400, bias=False)
        hidden = torch.nn.init.trunc_normal_(torch.empty(20_000), std=0.02)
    assert_alike([head.prototypes.weight], [linear.weight])
    assert head.prototypes.weight.norm(dim=1).mean().item() == pytest.approx(0.577, abs=0.01)
    layers = [*head.hidden.children(), *([head.bottleneck] if bottleneck else [])]
    weights = values([layer.weight for layer in layers])
    assert ks_2samp(weights, hidden.numpy()).pvalue > 1e-4
    assert all(layer.bias.eq(0).all() for layer in layers)


def test_the_last_layer_of_a_normalised_tagger_starts_as_a_linear_one():
    encoder = JetEncoder(Recipe.preset("base", normalized_head=True, **{"encoder.layers": 1}), seed=1)
    weights = [Tagger(encoder, "linear", seed=seed).head[-1].weight for seed in range(40)]
    assert_alike(weights, [torch.empty(10_000).uniform_(-1 / 16, 1 / 16, generator=torch.Generator().manual_seed(1))])


# --- masks ---


def test_of_n_constituents_the_integer_part_of_a_quarter_is_masked():
    n = np.arange(1, 91)
    p4 = np.tile([30.0, 4.0, 5.0, 31.0], (n.sum(), 1))
    tokens = rino.tokenize(Jets(p4, np.concatenate([[0], n.cumsum()])))
    _, counts = rino.draw_masks(tokens, 0.25)
    lengths = np.diff(tokens.offsets)
    lengths = lengths[lengths > 1]  # of one constituent none can be masked
    np.testing.assert_array_equal(counts, np.maximum(lengths // 4, 1))


# --- files from before numbers that came later ---

BEFORE = {
    "jets.relative_to": "kept",
    "encoder.bins": "floor",
    "finetune.eps": 1e-8,
    "finetune.warmup_shape": "linear",
}
#: Written by pyrino before these numbers: three encoders in double precision; jets, their features and embeddings.
OLD = ROOT / "tests" / "data" / "encoders"


def number_of(recipe: Recipe, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(recipe, section), name)


@pytest.fixture(scope="module")
def embedded() -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(OLD / "embedded.safetensors")


@pytest.mark.parametrize("name", ["rino", "rino-ibot", "nano"])
def test_an_encoder_from_before_these_numbers_embeds_as_it_did(embedded, name):
    """Features bit by bit; embeddings within what the matrix products of another processor differ by."""
    jets = Jets(embedded["p4"].numpy(), embedded["offsets"].numpy())
    encoder = JetEncoder.load(OLD / f"{name}.safetensors").eval()
    assert encoder.recipe.name == name and encoder.dtype == torch.float64
    assert {key: number_of(encoder.recipe, key) for key in BEFORE} == BEFORE
    encoder.kernels = "reference"
    tokens = encoder.tokenize(jets, [3, "all"])
    rows = [torch.arange(*tokens.offsets[s : s + 2]) for view in (0, 1) for s in tokens.rows(view).tolist()]
    assert torch.equal(tokens.features[torch.cat(rows)], embedded[f"{name}.features"])
    published = JetEncoder(encoder.recipe.replace(**{"jets.relative_to": "jet", "encoder.bins": "round"}), seed=0)
    published.double().load_state_dict(encoder.state_dict())
    for resolution in (3, "all"):
        wanted = embedded[f"{name}.embeddings.{resolution}"].numpy()
        np.testing.assert_allclose(encoder.embed(jets, resolution=resolution), wanted, rtol=0, atol=1e-12)
        assert np.abs(published.eval().embed(jets, resolution=resolution) - wanted).max() > 1e-3


@pytest.mark.parametrize("key", [*BEFORE, "all at once"])
@pytest.mark.parametrize("preset", ["nano", "rino", "rino-ibot", "demo"])
@pytest.mark.parametrize("through", ["dictionary", "json", "toml"])
def test_a_file_without_a_number_means_what_it_meant(tmp_path, preset, key, through):
    recipe = Recipe.preset(preset, koleo=0.3)
    keys = list(BEFORE) if key == "all at once" else [key]
    data = recipe.to_dict()
    lines = recipe.to_toml().splitlines()
    for section, name in (k.split(".") for k in keys):
        del data[section][name]
        first = lines.index(f"[{section}]")
        del lines[next(i for i, line in enumerate(lines) if i > first and line.startswith(f"{name} = "))]
    if through == "dictionary":
        found = Recipe.from_dict(data)
    elif through == "json":
        found = Recipe.from_json(json.dumps(data))
    else:
        (tmp_path / "recipe.toml").write_text("\n".join(lines))
        found = Recipe.load(tmp_path / "recipe.toml")
    assert found == recipe.replace(**{k: BEFORE[k] for k in keys})
    found.save(tmp_path / "again.toml")
    assert Recipe.load(tmp_path / "again.toml") == found


def test_a_file_that_names_what_differs_has_its_presets_numbers(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('preset = "rino"\n[jets]\nmax_constituents = 50\n[encoder]\nwidth = 32\n[finetune]\nclip = 2.0\n')
    assert Recipe.load(file) == Recipe.preset(
        "rino", **{"jets.max_constituents": 50, "encoder.width": 32, "finetune.clip": 2.0}
    )


def test_a_tagger_from_before_these_numbers_predicts_as_it_did(tmp_path):
    jets = small_jets(30)
    recipe = tiny(max_constituents=5, positions="polar", radial_bins=5, angular_bins=8, **BEFORE)
    tagger = Tagger(JetEncoder(recipe, seed=1), seed=2).eval()
    tagger.save(tmp_path / "new.safetensors")
    tensors, metadata = load_weights(tmp_path / "new.safetensors")
    old = json.loads(metadata["recipe"])
    for section, name in (key.split(".") for key in BEFORE):
        del old[section][name]
    save_weights(tmp_path / "old.safetensors", tensors, {**metadata, "recipe": json.dumps(old)})
    found = Tagger.load(tmp_path / "old.safetensors")
    assert found.encoder.recipe == recipe
    np.testing.assert_array_equal(found.predict(jets), tagger.predict(jets))


# --- docs/fidelity.md ---


def test_every_test_that_the_table_of_differences_names_exists():
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.(?:py|cpp))`(?:: `(test_\w+)`|: \"([^\"]+)\")", page)
    assert len(named) >= 15 and len(named) == page.count("`test_") - sum(bool(python) for _, python, _ in named)
    for file, python, cpp in named:
        text = (ROOT / "tests" / ("python" if file.endswith(".py") else "cpp") / file).read_text(encoding="utf-8")
        assert (f"def {python}(" if python else f'TEST_CASE("{cpp}"') in text, (file, python or cpp)
