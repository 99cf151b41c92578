"""The parts of the production recipe's encoder, against PyTorch's own modules on padded batches."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_weights, small_jets, tiny
from torch import nn
from torch.nn import functional

import pyrino as rino
from pyrino import JetEncoder, Jets, Recipe, RinoError, Tokens

PRODUCTION = {
    "jets.features": "logarithmic",
    "encoder.width": 256,
    "encoder.heads": 16,
    "encoder.layers": 8,
    "encoder.feedforward": 1024,
    "encoder.dropout": 0.0,
    "encoder.class_token": "learned",
    "encoder.registers": 4,
    "encoder.norm": "rms",
    "encoder.embedding_norm": True,
    "encoder.feedforward_kind": "swiglu",
    "encoder.layer_scale": 0.01,
}
PARTS = {
    "class_token": "learned",
    "registers": 3,
    "norm": "rms",
    "embedding_norm": True,
    "feedforward_kind": "swiglu",
    "layer_scale": 0.2,
    "positions": "polar",
}
# The paper's parts, one of the successor's at a time, all of them, all but one.
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    **{f"with {name}": {name: value} for name, value in PARTS.items()},
    "all": PARTS,
    **{f"without {name}": {n: v for n, v in PARTS.items() if n != name} for name in PARTS},
    "with floored bins": {**PARTS, "bins": "floor"},
}
POOLINGS = ("token", "mean", "attention", "both", "all")
MASKS = (None, "zero", "learned")


def small(parts: dict[str, Any], **more: Any) -> Recipe:
    """A tiny recipe with these parts of the encoder."""
    encoder = {"dropout": 0.0, "radial_bins": 5, "angular_bins": 8, **parts, **more}
    return tiny(**{f"encoder__{name}": value for name, value in encoder.items()})


def encoder_of(recipe: Recipe, seed: int = 1) -> JetEncoder:
    """In double precision, every parameter moved away from its initial value, so that none is 0, 1 or 0.01."""
    encoder = JetEncoder(recipe, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.2)
    return encoder


class Reference(nn.Module):
    """The encoder from PyTorch's modules, its parameters copied in: padded batches in, padded embeddings out."""

    def __init__(self, encoder: JetEncoder) -> None:
        super().__init__()
        self.size = size = encoder.recipe.encoder
        width = size.width
        self.embedding = nn.Linear(encoder.embedding.weight.shape[1], width)
        if size.class_token == "jet":
            self.class_token = nn.Linear(4, width)
        self.blocks = nn.ModuleList()
        for _ in range(size.layers):
            block = nn.Module()
            block.norm1, block.norm2 = self.norm_layer(), self.norm_layer()
            block.attention = nn.MultiheadAttention(width, size.heads, batch_first=True)
            block.linear1 = nn.Linear(width, size.feedforward * (2 if size.feedforward_kind == "swiglu" else 1))
            block.linear2 = nn.Linear(size.feedforward, width)
            self.blocks.append(block)
        if size.embedding_norm:
            self.embedding_norm = self.norm_layer()
        self.norm = self.norm_layer()
        self.double()
        rename = {".qkv.": ".in_proj_", ".out.": ".out_proj.", ".swiglu.": "."}
        self.mapping = {}
        known = dict(self.named_parameters())
        for name, value in encoder.state_dict().items():
            theirs = name
            for mine, other in rename.items():
                theirs = theirs.replace(mine, other)
            if theirs not in known:  # a tensor that is no module of PyTorch's
                theirs = theirs.replace(".", "__")
                self.register_parameter(theirs, nn.Parameter(torch.empty_like(value)))
            self.mapping[name] = theirs
        assert set(self.mapping.values()) == {name for name, _ in self.named_parameters()}
        self.load_state_dict({theirs: encoder.state_dict()[mine] for mine, theirs in self.mapping.items()})

    def norm_layer(self) -> nn.Module:
        kind = nn.RMSNorm if self.size.norm == "rms" else nn.LayerNorm
        return kind(self.size.width, eps=self.size.norm_eps)

    def tokens(self, features: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        x = self.embedding(features.masked_fill(hidden[..., None], 0))
        if self.size.embedding_norm:
            x = self.embedding_norm(x)
        if self.size.masked_token == "learned":
            x = torch.where(hidden[..., None], self.masked_token__token, x)
        if self.size.positions == "polar":
            x = x + self.positions__table[bins_of(self.size, features)]
        return x

    def forward(
        self, features: torch.Tensor, mask: torch.Tensor, whole: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[S, N, F], [S, N] true where a token is, [S, 4], [S, N] true where it is masked -> [S, D], [S, N, W]."""
        n = len(features)
        rows = []
        if self.size.class_token == "learned":
            rows.append(self.class_token__token.expand(n, -1, -1))
        elif self.size.class_token == "jet":
            rows.append(self.class_token(whole)[:, None])
        if self.size.registers:
            rows.append(self.registers__token.expand(n, -1, -1))
        x = torch.cat([*rows, self.tokens(features, hidden)], 1)
        extra = (self.size.class_token != "none") + self.size.registers
        padding = torch.cat([mask.new_zeros(n, extra), ~mask], 1)
        for number, block in enumerate(self.blocks):
            y = block.norm1(x)
            y = block.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0]
            x = x + y * (getattr(self, f"blocks__{number}__scale1__scale") if self.size.layer_scale else 1)
            y = block.linear1(block.norm2(x))
            if self.size.feedforward_kind == "swiglu":
                gate, value = y.chunk(2, -1)
                y = functional.silu(gate) * value
            else:
                y = functional.gelu(y)
            y = block.linear2(y)
            x = x + y * (getattr(self, f"blocks__{number}__scale2__scale") if self.size.layer_scale else 1)
        x = self.norm(x)
        return self.pool(x, x[:, extra:], mask), x[:, extra:]

    def pool(self, x: torch.Tensor, constituents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        first = x[:, 0]
        if self.size.pooling == "token":
            return first
        if self.size.pooling == "attention":
            query = self.pool__query.expand(len(first), 1, -1)
            return functional.scaled_dot_product_attention(query, constituents, constituents, mask[:, None])[:, 0]
        if self.size.pooling == "all":
            rows = x[:, x.shape[1] - mask.shape[1] - self.size.registers :]
            seen = torch.cat([mask.new_ones(len(x), self.size.registers), mask], 1)
            return (rows * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        mean = (constituents * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.cat([first, mean], 1) if self.size.pooling == "both" else mean


def bins_of(size: Any, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Radial and angular bins of the last two of the features [.., F], as the recipe gives them."""
    eta, phi = (features[..., i].detach().numpy() for i in (-2, -1))
    u = np.log(1 + np.hypot(eta, phi) / size.radial_knee) / math.log(1 + size.radial_range / size.radial_knee)
    turn = np.mod(np.arctan2(phi, eta), 2 * np.pi) / (2 * np.pi)
    if size.bins == "round":
        radial, angular = np.rint(u * (size.radial_bins - 1)), np.rint(turn * size.angular_bins)
    else:
        radial, angular = np.floor(u * size.radial_bins), np.floor(turn * size.angular_bins)
    radial, angular = np.minimum(radial, size.radial_bins - 1), np.mod(angular, size.angular_bins)
    return torch.as_tensor(radial.astype(np.int64)), torch.as_tensor(angular.astype(np.int64))


def random_batch(inputs: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, mask of existing tokens, jet features and mask of hidden tokens of 20 sequences of 1 to 12 tokens."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 13, (20,), generator=generator)
    mask = torch.arange(12) < lengths[:, None]
    features = torch.randn(20, 12, inputs, generator=generator, dtype=torch.float64)
    features[~mask] = 1e3  # never looked at
    hidden = (torch.rand(20, 12, generator=generator) < 0.4) & mask
    hidden[0], hidden[1] = False, mask[1]
    return features, mask, torch.randn(20, 4, generator=generator, dtype=torch.float64), hidden


# --- formulas ---


@pytest.mark.parametrize(
    ("variant", "pooling", "masked"),
    [
        *itertools.product(("none", "all"), POOLINGS, MASKS),
        *((variant, "both", "learned") for variant in VARIANTS if variant not in ("none", "all")),
        *(("without a class token", pooling, "learned") for pooling in ("mean", "attention", "all")),
    ],
)
def test_the_encoder_is_made_of_torchs_modules(variant, pooling, masked):
    parts = {**VARIANTS, "without a class token": {**PARTS, "class_token": "none"}}[variant]
    recipe = small(parts, pooling=pooling, masked_token=masked or "zero")
    encoder = encoder_of(recipe)
    reference = Reference(encoder)
    features, mask, whole, hidden = random_batch()
    if masked is None:
        hidden = torch.zeros_like(hidden)
    mine, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    tokens = Tokens.from_padded(mine, mask, whole)
    if masked is not None:
        tokens = tokens.hide(hidden[mask])
    z = encoder(tokens)
    jets, constituents = reference(theirs, mask, whole, hidden)
    assert z.jets.shape == (20, encoder.width)
    torch.testing.assert_close(z.jets, jets, rtol=0, atol=1e-12)
    torch.testing.assert_close(z.constituents, constituents[mask], rtol=0, atol=1e-12)
    torch.testing.assert_close(encoder(tokens, constituents=False).jets, jets, rtol=0, atol=1e-12)

    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(jets.shape, generator=generator, dtype=torch.float64)
    ((z.jets * weight).sum() + z.constituents.pow(3).sum()).backward()
    ((jets * weight).sum() + constituents[mask].pow(3).sum()).backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-10)
    wanted = dict(reference.named_parameters())
    for name, parameter in encoder.named_parameters():
        expected = wanted[reference.mapping[name]].grad
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        expected = torch.zeros_like(parameter) if expected is None else expected
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_first_and_second_derivatives_are_finite_differences(pooling):
    recipe = small(PARTS, pooling=pooling, masked_token="learned", layers=1)
    encoder = encoder_of(recipe)
    encoder.kernels = "reference"
    features, mask, whole, hidden = random_batch()
    names = [name for name, _ in encoder.named_parameters()]

    def jets(features: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        tokens = Tokens.from_padded(features, mask[:3], whole[:3]).hide(hidden[:3][mask[:3]])
        z = torch.func.functional_call(encoder, dict(zip(names, values, strict=True)), (tokens,))
        return torch.cat([z.jets.flatten(), z.constituents.mean(1)])

    inputs = [value.detach().clone().requires_grad_() for value in (features[:3], *encoder.parameters())]
    assert torch.autograd.gradcheck(jets, inputs, fast_mode=True, atol=1e-7, rtol=1e-5)
    assert torch.autograd.gradgradcheck(jets, inputs, fast_mode=True, atol=1e-6, rtol=1e-4)


def test_the_production_encoder_has_the_recipes_parameter_counts():
    def count(**more: Any) -> int:
        numbers = {**PRODUCTION, **{f"encoder.{name}": value for name, value in more.items()}}
        return sum(p.numel() for p in JetEncoder(Recipe.preset("nano", **numbers), seed=0).parameters())

    assert count() == 8_427_264
    assert count(positions="polar") == 8_427_264 + 2_560_000
    assert count(pooling="attention") == 8_427_264 + 256
    assert count(masked_token="learned") == 8_427_264 + 256
    assert count(class_token="none", pooling="all") == 8_427_264 - 256


# --- positions ---


def test_a_jet_turned_by_whole_bins_reads_a_turned_table():
    recipe = small(PARTS, pooling="both")
    encoder = encoder_of(recipe).eval()
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for network in (encoder, other):
            network.embedding.weight[:, -2:] = 0  # the table alone tells the direction
    rng = np.random.default_rng(5)
    turn = (rng.integers(0, 8, (6, 9)) + rng.uniform(-0.4, 0.4, (6, 9))) / 8 * 2 * np.pi
    radius = rng.exponential(2, (6, 9))
    rest = rng.normal(size=(6, 9, 9))
    mask, whole = torch.ones(6, 9, dtype=torch.bool), torch.zeros(6, 4, dtype=torch.float64)

    def embedded(network: JetEncoder, turn: np.ndarray) -> torch.Tensor:
        features = np.concatenate([rest, np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)], -1)
        with torch.no_grad():
            return network(Tokens.from_padded(torch.as_tensor(features), mask, whole)).jets

    upright = embedded(encoder, turn)
    for k in (1, 3, 7, 8, 13):
        turned = embedded(encoder, turn + 2 * np.pi * k / 8)
        with torch.no_grad():
            other.positions.table.copy_(encoder.positions.table.roll(-k, 1))
        torch.testing.assert_close(turned, embedded(other, turn), rtol=0, atol=1e-12)
        assert torch.allclose(turned, upright, rtol=0, atol=1e-12) == (k % 8 == 0)


@pytest.mark.parametrize("features", ["full", "logarithmic", "relative"])
def test_positions_are_found_in_every_set_of_features(toy, features):
    recipe = Recipe.preset("nano", **{"encoder.positions": "polar", "jets.features": features})
    encoder = JetEncoder(recipe, seed=1).eval()
    tokens = encoder.tokenize(toy)
    encoder(tokens).jets[:, 0].sum().backward()
    used = torch.zeros(100, 100, dtype=torch.bool)
    used[bins_of(recipe.encoder, tokens.features.double())] = True
    assert 100 < used.sum() <= len(tokens.features)
    # single precision may put one in ten thousand into the bin beside
    assert (encoder.positions.table.grad.ne(0).any(2) != used).sum() <= 4


def test_a_jet_that_is_not_finite_breaks_no_other():
    encoder = encoder_of(small(PARTS, pooling="both"))
    features, mask, whole, _ = random_batch()
    expected = encoder(Tokens.from_padded(features, mask, whole)).jets
    features[3] = math.nan
    features[5, 0, -1] = math.inf
    found = encoder(Tokens.from_padded(features, mask, whole)).jets
    broken = torch.zeros(20, dtype=torch.bool)
    broken[[3, 5]] = True
    assert torch.equal(torch.isfinite(found).all(1), ~broken)
    torch.testing.assert_close(found[~broken], expected[~broken], rtol=0, atol=1e-12)


# --- masks ---


def test_tokens_know_their_mask(toy):
    tokens = rino.tokenize(toy[:4], dtype="float64")
    assert tokens.masked is None
    mask = torch.arange(len(tokens.features)) % 3 == 0
    hidden = tokens.hide(mask)
    assert tokens.masked is None and torch.equal(hidden.masked, mask)
    assert torch.equal(hidden.to(torch.device("cpu"), "float32").masked, mask)
    assert hidden.features is not None and torch.equal(hidden.features, tokens.features)
    with pytest.raises(RinoError, match=rf"mask of {len(mask)} tokens .*\[{len(mask) - 1}\].*one bool per token"):
        tokens.hide(mask[1:])
    with pytest.raises(RinoError, match="one bool per token"):
        tokens.hide(mask.long())


@pytest.mark.parametrize("masked_token", ["zero", "learned"])
def test_a_hidden_tokens_features_reach_nothing(masked_token):
    encoder = encoder_of(small(PARTS, pooling="both", masked_token=masked_token))
    features, mask, whole, hidden = random_batch()
    other = features.clone()
    other[hidden] = torch.cat(
        [torch.full((int(hidden.sum()), 9), 1e9, dtype=torch.float64), features[hidden][:, 9:]], 1
    )
    one = encoder(Tokens.from_padded(features, mask, whole).hide(hidden[mask]))
    two = encoder(Tokens.from_padded(other, mask, whole).hide(hidden[mask]))
    assert torch.equal(one.jets, two.jets) and torch.equal(one.constituents, two.constituents)
    other[hidden] *= -1  # their direction is seen
    three = encoder(Tokens.from_padded(other, mask, whole).hide(hidden[mask]))
    changed = (three.jets != one.jets).any(1)
    assert torch.equal(changed, hidden.any(1))


# --- a module as any other ---


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(16)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("masked_token", ["zero", "learned"])
def test_saved_pickled_and_copied_encoders_are_the_same(tmp_path: Path, jets, pooling, masked_token):
    encoder = encoder_of(small(PARTS, pooling=pooling, masked_token=masked_token)).eval()
    tokens = encoder.tokenize(jets)
    tokens = tokens.hide(torch.arange(len(tokens.features)) % 4 == 0)
    expected = encoder(tokens).jets
    encoder.save(tmp_path / "encoder.safetensors")
    loaded = JetEncoder.load(tmp_path / "encoder.safetensors").eval()
    fresh = JetEncoder(encoder.recipe, seed=9).double().eval()
    fresh.load_state_dict(encoder.state_dict())
    for other in (loaded, fresh, copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert other.recipe == encoder.recipe and other.width == encoder.width
        assert_same_weights(encoder, other)
        assert torch.equal(other(tokens).jets, expected)
        with torch.no_grad():
            other.norm.weight.add_(1)
        assert not torch.equal(other(tokens).jets, expected)
        assert torch.equal(encoder(tokens).jets, expected)


def test_weights_of_another_architecture_are_refused(tmp_path: Path):
    encoder = JetEncoder(small(PARTS), seed=1)
    for name, match in (("registers", "'registers.token'"), ("positions", "'positions.table'"), ("norm", "bias")):
        other = JetEncoder(small({n: v for n, v in PARTS.items() if n != name}), seed=1)
        here, there = (encoder, other) if name == "norm" else (other, encoder)
        with pytest.raises(RinoError, match=f"{match}.*another architecture"):
            there.load_weights(here.state_dict(), "that file")
    other = JetEncoder(small(PARTS, radial_bins=6), seed=1)
    with pytest.raises(RinoError, match=r"'positions\.table'.*\[5, 8, 8\], not \[6, 8, 8\]"):
        other.load_weights(encoder.state_dict(), "that file")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("variant", ["none", "all"])
def test_embed_is_the_forward_pass_in_the_order_of_the_jets(jets, variant, pooling):
    encoder = encoder_of(small(VARIANTS[variant], pooling=pooling)).eval()
    assert encoder.width == (16 if pooling == "both" else 8)
    tokens = encoder.tokenize(jets, [3, "all"])
    with torch.no_grad():
        found = encoder(tokens).jets
    for view, resolution in enumerate([3, "all"]):
        whole = encoder.embed(jets, resolution=resolution)
        assert whole.shape == (16, encoder.width)
        np.testing.assert_allclose(whole, found[tokens.rows(view)].numpy(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(encoder.embed(jets, resolution=resolution, batch_size=3), whole, rtol=0, atol=1e-12)
    assert encoder.embed(jets[:0]).shape == (0, encoder.width)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_constituents_does_not_matter(jets, pooling):
    encoder = encoder_of(small(PARTS, pooling=pooling))
    rng = np.random.default_rng(1)
    bounds = zip(jets.offsets[:-1], jets.offsets[1:], strict=True)
    rows = np.concatenate([first + rng.permutation(last - first) for first, last in bounds])
    shuffled = encoder.embed(Jets(jets.p4[rows], jets.offsets))
    np.testing.assert_allclose(shuffled, encoder.embed(jets), rtol=0, atol=1e-11)


def test_autocast_to_bfloat16_trains(jets):
    encoder = JetEncoder(small(PARTS, pooling="both", masked_token="learned"), seed=1)
    tokens = encoder.tokenize(jets)
    tokens = tokens.hide(torch.arange(len(tokens.features)) % 4 == 0)
    full = encoder(tokens).jets
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(tokens)
    assert half.jets.dtype == half.constituents.dtype == torch.float32
    assert 0 < float((half.jets - full).detach().abs().max()) < 0.1  # of values of order 1, 8 bits of mantissa
    half.jets.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.dtype == torch.float32 and torch.isfinite(parameter.grad).all(), name


def test_torchs_optimiser_trains_all_parts(jets):
    encoder = JetEncoder(small(PARTS, pooling="attention", masked_token="learned"), seed=1)
    tokens = encoder.tokenize(jets)
    tokens = tokens.hide(torch.arange(len(tokens.features)) % 4 == 0)
    target = torch.randn(len(tokens), 8, generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    stepper = torch.optim.AdamW(encoder.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        stepper.zero_grad()
        loss = (encoder(tokens).jets - target).square().mean()
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, parameter in encoder.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"registers": -2}, "registers is -2"),
        ({"norm_eps": 0.0}, "norm_eps is 0"),
        ({"layer_scale": -1.0}, "layer_scale is -1"),
        ({"positions": "polar", "radial_bins": 0}, "radial_bins and angular_bins are 0 and 8"),
        ({"positions": "polar", "angular_bins": -1}, "radial_bins and angular_bins are 5 and -1"),
        ({"positions": "polar", "radial_knee": 0.0}, "radial_knee and radial_range are 0 and 5.6"),
        ({"positions": "polar", "radial_range": -1.0}, "radial_knee and radial_range are 0.96 and -1"),
        ({"norm": "batch"}, "batch"),
        ({"pooling": "max"}, "max"),
        ({"class_token": "none"}, "class_token is 'none' and pooling 'token' is of it: choose pooling 'mean', 'att"),
        ({"class_token": "none", "pooling": "both"}, "class_token is 'none' and pooling 'both'"),
    ],
)
def test_parts_that_cannot_be_are_refused(numbers, match):
    with pytest.raises(RinoError, match=match):
        JetEncoder(small(numbers))


@pytest.mark.parametrize("name", [name for name in PARTS if name not in ("class_token",)])
def test_fused_kernels_run_every_part(jets, name):
    encoder = JetEncoder(small({"width": 16, name: PARTS[name]}), seed=1).double()
    tokens = encoder.tokenize(jets)
    found = {}
    for kernels in ("fused", "reference"):
        encoder.kernels = kernels
        z = encoder(tokens)
        encoder.zero_grad()
        (z.jets.square().sum() + z.constituents.sin().sum()).backward()
        found[kernels] = [z.jets, z.constituents, *(p.grad for p in encoder.parameters())]
    for fused, reference in zip(found["fused"], found["reference"], strict=True):
        torch.testing.assert_close(fused, reference, rtol=1e-10, atol=1e-11)
