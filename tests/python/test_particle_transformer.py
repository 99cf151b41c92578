"""ParT: the encoder's deep embedding, NormFormer blocks, class attention and bias of pairs, against padded PyTorch."""

from __future__ import annotations

import copy
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_jets, tiny
from torch.nn import functional

import pyrino as rino
from pyrino import JetEncoder, Recipe, RinoError, Tokens, pair_features
from pyrino.evaluate import roc_auc

PART: dict[str, Any] = {
    "class_token": "learned",
    "embedding": "deep-batch",
    "block": "normformer",
    "class_layers": 2,
    "pairs": "batch",
    "pair_width": 6,
}
# All of ParT, its parts one at a time, and where they meet the others'.
VARIANTS: dict[str, dict[str, Any]] = {
    "ParT": PART,
    "ParT without batches": {**PART, "embedding": "deep", "pairs": "layer"},
    "deep embedding": {"embedding": "deep"},
    "deep embedding of a batch": {"embedding": "deep-batch"},
    "NormFormer": {"block": "normformer"},
    "NormFormer with RMSNorm": {"block": "normformer", "norm": "rms", "class_token": "learned"},
    "class attention": {"class_layers": 2},
    "class attention and registers": {"class_layers": 1, "registers": 2, "pooling": "both"},
    "pairs of a batch": {"pairs": "batch", "pair_width": 5},
    "pairs alone": {"pairs": "layer", "pair_width": 5},
    "pairs in a mean": {"pairs": "batch", "pair_width": 5, "class_token": "none", "pooling": "mean"},
    "pairs in the production encoder": {
        "pairs": "batch",
        "pair_width": 5,
        "class_token": "learned",
        "registers": 3,
        "norm": "rms",
        "embedding_norm": True,
        "feedforward_kind": "swiglu",
        "layer_scale": 0.2,
        "positions": "polar",
        "radial_bins": 5,
        "angular_bins": 8,
        "pooling": "all",
    },
}


def small(variant: str, **more: Any) -> Recipe:
    """A tiny recipe with these parts of the encoder; its widths fill the fused kernels' vectors."""
    parts = {"width": 32, "heads": 4, "feedforward": 16, "dropout": 0.0, **VARIANTS[variant], **more}
    return tiny(**{f"encoder__{name}": value for name, value in parts.items()})


def moved(recipe: Recipe, seed: int = 1, kernels: str = "auto") -> JetEncoder:
    """In double precision, every parameter away from its initial value."""
    encoder = JetEncoder(recipe, seed=seed).double()
    encoder.kernels = kernels
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.2)
    return encoder


class Reference:
    """The encoder as padded PyTorch says it, with the values of a state_dict as leaves."""

    def __init__(self, encoder: JetEncoder) -> None:
        self.size = encoder.recipe.encoder
        self.state = {name: value.detach().clone() for name, value in encoder.state_dict().items()}
        for name, _ in encoder.named_parameters():
            self.state[name].requires_grad_()
        self.training = encoder.training

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        if self.size.norm == "rms":
            return functional.rms_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.size.norm_eps)
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self.size.norm_eps)

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def batch_norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Of rows that exist [n, C], with PyTorch's own averages."""
        averages = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return functional.batch_norm(x, *averages, weight, bias, self.training, 0.1, self.size.norm_eps)

    def embed(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.size.embedding == "linear":
            x = self.linear(x, "embedding")
            return self.norm(x, "embedding_norm") if self.size.embedding_norm else x
        rows = x[mask]
        if self.size.embedding == "deep-batch":
            rows = self.batch_norm(rows, "embedding.input_norm")
        for k in range(3):
            rows = functional.gelu(self.linear(self.norm(rows, f"embedding.norms.{k}"), f"embedding.layers.{k}"))
        return torch.zeros(*mask.shape, rows.shape[1], dtype=rows.dtype).masked_scatter(mask[..., None], rows)

    def bias(self, momenta: torch.Tensor, mask: torch.Tensor, hidden: torch.Tensor, own: int) -> torch.Tensor:
        """[S, heads, L, L]: of all rows, -inf where the key is padding."""
        n, longest = mask.shape
        full = torch.zeros(n, longest, longest, self.size.heads, dtype=torch.float64)
        if self.size.pairs != "none":
            lower = torch.ones(longest, longest, dtype=torch.bool).tril()
            there = mask[:, :, None] & mask[:, None, :] & lower
            x = pair_features(momenta)[there]
            for k in range(4):
                if self.size.pairs == "batch":
                    x = self.batch_norm(x, f"pairs.norms.{k}")
                x = self.linear(functional.gelu(x) if k and self.size.pairs == "batch" else x, f"pairs.layers.{k}")
                if self.size.pairs == "layer":
                    weight, bias = self.state[f"pairs.norms.{k}.weight"], self.state[f"pairs.norms.{k}.bias"]
                    x = functional.gelu(functional.layer_norm(x, x.shape[-1:], weight, bias, self.size.norm_eps))
            if self.size.pairs == "batch":
                x = functional.gelu(self.batch_norm(x, "pairs.norms.4"))
            full = full.masked_scatter(there[..., None], x)
            full = full + full.transpose(1, 2).masked_fill(torch.eye(longest, dtype=torch.bool)[..., None], 0)
            full = full.masked_fill((hidden[:, :, None] | hidden[:, None, :])[..., None], 0)
        full = functional.pad(full, (0, 0, own, 0, own, 0))
        padding = functional.pad(~mask, (own, 0))
        return full.permute(0, 3, 1, 2).masked_fill(padding[:, None, None, :], -torch.inf)

    def attend(self, q: torch.Tensor, kv: torch.Tensor, name: str, bias: torch.Tensor) -> torch.Tensor:
        width = self.size.width
        weight, offset = self.state[f"{name}.qkv.weight"], self.state[f"{name}.qkv.bias"]
        q = functional.linear(q, weight[:width], offset[:width])
        k, v = functional.linear(kv, weight[width:], offset[width:]).chunk(2, -1)
        heads = [x.unflatten(-1, (self.size.heads, -1)).transpose(1, 2) for x in (q, k, v)]
        scores = heads[0] @ heads[1].transpose(2, 3) / np.sqrt(width // self.size.heads) + bias
        return self.linear((scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2), f"{name}.out")

    def block(self, x: torch.Tensor, name: str, bias: torch.Tensor, asking: torch.Tensor | None = None) -> torch.Tensor:
        rows = self.norm(x, f"{name}.norm1")
        x, asks = (x, rows) if asking is None else (asking, asking)
        y = self.attend(asks, rows, f"{name}.attention", bias)
        if self.size.block == "normformer":
            scaled = torch.einsum(
                "bthd,h->btdh", y.unflatten(-1, (self.size.heads, -1)), self.state[f"{name}.head_scale.scale"]
            )
            y = self.norm(scaled.flatten(2), f"{name}.attention_norm")
        x = x + y * (self.state[f"{name}.scale1.scale"] if self.size.layer_scale else 1)
        y = self.norm(x, f"{name}.norm2")
        if self.size.feedforward_kind == "swiglu":
            gate, value = self.linear(y, f"{name}.swiglu.linear1").chunk(2, -1)
            y = self.linear(functional.silu(gate) * value, f"{name}.swiglu.linear2")
        else:
            y = functional.gelu(self.linear(y, f"{name}.linear1"))
            y = self.norm(y, f"{name}.hidden_norm") if self.size.block == "normformer" else y
            y = self.linear(y, f"{name}.linear2")
        if self.size.block == "normformer":
            x = x * self.state[f"{name}.residual_scale.scale"]
        return x + y * (self.state[f"{name}.scale2.scale"] if self.size.layer_scale else 1)

    def __call__(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of jets [S, D] and of constituents [T, W]."""
        features, mask = tokens.padded()
        n = len(mask)
        hidden = torch.zeros_like(mask)
        if tokens.masked is not None:
            hidden = hidden.masked_scatter(mask, tokens.masked)
        momenta = torch.zeros(*mask.shape, 4, dtype=torch.float64)
        momenta[..., 0] = 1
        if tokens.momenta is not None:
            momenta = momenta.masked_scatter(mask[..., None], tokens.momenta)
        x = self.embed(features.masked_fill(hidden[..., None], 0), mask)
        if self.size.positions == "polar":
            from test_production_encoder import bins_of

            x = x + self.state["positions.table"][bins_of(self.size, features)]
        first = None
        if self.size.class_token == "learned":
            first = self.state["class_token.token"].expand(n, 1, -1)
        elif self.size.class_token == "jet":
            first = self.linear(tokens.jet_features, "class_token")[:, None]
        rows = [first] if first is not None and self.size.class_layers == 0 else []
        if self.size.registers:
            rows.append(self.state["registers.token"].expand(n, -1, -1))
        own = sum(part.shape[1] for part in rows)
        x = torch.cat([*rows, x], 1)
        bias = self.bias(momenta, mask, hidden, own)
        for layer in range(self.size.layers):
            x = self.block(x, f"blocks.{layer}", bias)
        constituents = x[:, own:]
        if self.size.class_layers:
            padding = functional.pad(~mask, (1, 0))
            keys = torch.zeros(padding.shape, dtype=torch.float64).masked_fill(padding, -torch.inf)[:, None, None, :]
            for layer in range(self.size.class_layers):
                seen = torch.cat([first, constituents], 1)
                first = self.block(seen, f"class_blocks.{layer}", keys, asking=first)
            x = torch.cat([first, constituents], 1)
        x = self.norm(x, "norm")
        constituents = x[:, x.shape[1] - mask.shape[1] :]
        mean = (constituents * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        if self.size.pooling == "all":
            seen = functional.pad(mask, (self.size.registers, 0), value=True)
            rows = x[:, x.shape[1] - seen.shape[1] :]
            jets = (rows * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        else:
            jets = {"token": x[:, 0], "mean": mean, "both": torch.cat([x[:, 0], mean], 1)}[self.size.pooling]
        return jets, constituents[mask]


def the_same(encoder: JetEncoder, tokens: Tokens, tolerance: float = 1e-11) -> None:
    """Embeddings, gradients of all parameters and moving averages are the reference's."""
    reference = Reference(encoder)
    expected = reference(tokens)
    found = encoder(tokens)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in expected]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=tolerance, atol=tolerance)
    sum((x * w).sum() for x, w in zip(found, weights, strict=True)).backward()
    sum((x * w).sum() for x, w in zip(expected, weights, strict=True)).backward()
    for name, parameter in encoder.named_parameters():
        wanted = reference.state[name].grad
        scale = float(wanted.abs().max()) + 1
        np.testing.assert_allclose(parameter.grad, wanted, rtol=0, atol=100 * tolerance * scale, err_msg=name)
    for name, buffer in encoder.named_buffers():
        np.testing.assert_allclose(buffer, reference.state[name], rtol=1e-12, atol=1e-12, err_msg=name)


# --- formulas ---


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kernels", ["reference", "fused"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_gradients_and_averages_are_those_of_padded_pytorch(
    variant: str, kernels: str, training: bool
) -> None:
    encoder = moved(small(variant), kernels=kernels).train(training)
    tokens = encoder.tokenize(small_jets(30, seed=4), [3, "all"])
    the_same(encoder, tokens)
    if not training:  # the averages of a batch that was seen are used as they are
        with torch.no_grad():
            encoder.train()(tokens)
        encoder.eval().zero_grad()
        the_same(encoder, tokens)


@pytest.mark.parametrize("kernels", ["reference", "fused"])
@pytest.mark.parametrize("variant", ["ParT", "ParT without batches", "pairs in the production encoder"])
def test_masked_constituents_say_nothing_of_their_momenta(variant: str, kernels: str) -> None:
    encoder = moved(small(variant), kernels=kernels).eval()
    tokens = encoder.tokenize(small_jets(20, seed=6))
    masked = torch.rand(len(tokens.features), generator=torch.Generator().manual_seed(1)) < 0.3
    the_same(encoder, tokens.hide(masked))
    shown = encoder(tokens.hide(masked)).jets
    features, mask = tokens.padded()
    momenta = torch.zeros(*mask.shape, 4, dtype=torch.float64).masked_scatter(mask[..., None], tokens.momenta)
    hidden = torch.zeros_like(mask).masked_scatter(mask, masked)
    momenta[hidden] = torch.tensor([1e3, 1.0, 2.0, 50.0], dtype=torch.float64)
    other = Tokens.from_padded(features, mask, tokens.jet_features, momenta).hide(masked)
    assert torch.equal(encoder(other).jets, shown)


def test_pieces_of_pairs_are_one_batch() -> None:
    # 150 constituents have 11,325 pairs: every jet is a piece of its own, of a batch that has one mean
    jets = rino.toy_jets(5, 3, multiplicity_mean=150, multiplicity_std=3, multiplicity_max=160)
    for variant in ("ParT", "ParT without batches"):
        encoder = moved(small(variant), kernels="fused").train()
        the_same(encoder, encoder.tokenize(jets), 1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_float32_is_near_float64(training: bool) -> None:
    exact = moved(small("ParT")).train(training)
    single = copy.deepcopy(exact).float()
    jets = small_jets(50, seed=9)
    found, expected = single(single.tokenize(jets)).jets, exact(exact.tokenize(jets)).jets
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=0, atol=2e-4)
    found.square().sum().backward()
    expected.square().sum().backward()
    for (name, mine), theirs in zip(single.named_parameters(), exact.parameters(), strict=True):
        scale = float(theirs.grad.norm()) + 0.02  # of a bias in front of a batch norm it is 0
        assert float((mine.grad - theirs.grad).norm()) < 1e-3 * scale, name


# --- what it depends on ---


@pytest.mark.parametrize("variant", ["ParT", "ParT without batches"])
def test_order_of_constituents_and_company_of_jets_do_not_matter(variant: str) -> None:
    encoder = moved(small(variant))
    jets = small_jets(12, seed=8)
    encoder(encoder.tokenize(jets))  # averages that are not those at the start
    encoder.train(variant != "ParT")  # LayerNorms know one jet alone, in training, too
    together = encoder(encoder.tokenize(jets)).jets.detach()
    for j in range(3):
        alone = encoder(encoder.tokenize(jets[j])).jets.detach()
        np.testing.assert_allclose(alone[0], together[j], rtol=1e-11, atol=1e-11)
    tokens = encoder.tokenize(jets[3])
    order = torch.randperm(len(tokens.features), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, len(order), dtype=torch.bool)
    shuffled = Tokens.from_padded(tokens.features[order][None], mask, tokens.jet_features, tokens.momenta[order][None])
    np.testing.assert_allclose(encoder(shuffled).jets[0].detach(), together[3], rtol=1e-10, atol=1e-10)


def test_a_batch_norm_makes_a_jet_depend_on_its_batch_in_training_alone() -> None:
    encoder = moved(small("ParT")).train()
    jets = small_jets(12, seed=8)
    together = encoder(encoder.tokenize(jets)).jets[0]
    alone = encoder(encoder.tokenize(jets[0])).jets[0]
    assert float((together - alone).detach().abs().max()) > 1e-3


# --- sizes, presets, files ---


@pytest.mark.parametrize(
    ("features", "classes", "count"),
    [
        ("part-kin", 2, 2_141_134),
        ("part-kin", 10, 2_142_166),
        ("part-kinpid", 10, 2_142_958),
        ("part-full", 10, 2_143_486),
    ],
)
def test_part_has_the_published_number_of_parameters(features: str, classes: int, count: int) -> None:
    recipe = Recipe.preset("part").replace(
        **{
            "jets.features": features,
            "finetune.task": "multiclass",
            "finetune.classes": [str(c) for c in range(classes)],
        }
    )
    networks = [rino.nn.encoder_of(recipe, seed=0), rino.nn.TaggerHead(recipe, recipe.supervised.head, seed=0)]
    assert sum(p.numel() for network in networks for p in network.parameters()) == count
    assert sum(p.numel() for name, p in networks[0].named_parameters() if name.startswith("pairs.")) == 9_568


def test_files_pickles_and_copies_hold_the_averages(tmp_path: Path) -> None:
    encoder = moved(small("ParT")).train()
    jets = small_jets(20)
    for _ in range(3):
        encoder(encoder.tokenize(jets))
    encoder.eval()
    expected = encoder.embed(jets)
    encoder.save(tmp_path / "encoder.safetensors")
    read = JetEncoder.load(tmp_path / "encoder.safetensors")
    for other in (read, pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert [name for name, _ in other.named_buffers()] == [name for name, _ in encoder.named_buffers()]
        np.testing.assert_array_equal(other.embed(jets), expected)
    assert not np.allclose(JetEncoder(small("ParT"), seed=1).double().embed(jets), expected)
    # a copy has averages of its own
    other = copy.deepcopy(encoder).train()
    other(other.tokenize(small_jets(20, seed=9)))
    np.testing.assert_array_equal(encoder.embed(jets), expected)


def test_initial_values_are_a_function_of_the_seed_and_averages_begin_anew() -> None:
    one, other = JetEncoder(small("ParT"), seed=3), JetEncoder(small("ParT"), seed=3)
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    norms = [name for name in one.state_dict() if name.endswith("running_var")]
    assert len(norms) == 6
    assert all(bool((one.state_dict()[name] == 1).all()) for name in norms)


# --- training ---


def supervised(**more: Any) -> Recipe:
    return Recipe.preset("part-nano").replace(
        **{"encoder.layers": 1, "supervised.epochs": 2, "finetune.batch_size": 32, **more}
    )


def test_supervised_training_goes_on_from_a_checkpoint_bit_by_bit(tmp_path: Path) -> None:
    recipe, jets = supervised(), small_jets(200)
    whole = rino.train_supervised(recipe, jets, seed=1, progress=False)

    class Enough(Exception):
        pass

    def stop(step: dict[str, float]) -> None:
        if step["step"] == 7:
            raise Enough

    with pytest.raises(Enough):
        rino.train_supervised(recipe, jets, seed=1, out=tmp_path, callback=stop, checkpoint_minutes=0, progress=False)
    halves = rino.train_supervised(recipe, jets, seed=1, out=tmp_path, resume=True, progress=False)
    for (name, a), b in zip(whole.encoder.state_dict().items(), halves.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert (whole.encoder.state_dict()["pairs.norms.0.running_mean"] != 0).all()
    np.testing.assert_array_equal(rino.Tagger.load(tmp_path).predict(jets), whole.predict(jets))


def test_a_program_without_python_runs_it(tmp_path: Path) -> None:
    program = Path(__file__).resolve().parents[2] / "build" / "cpp" / "examples" / "tagger"
    if not program.is_file():
        pytest.skip("the C++ examples are not built, or without toml++")
    tagger = rino.train_supervised(supervised(), small_jets(100), progress=False)
    tagger.save(tmp_path / "tagger.safetensors")
    done = subprocess.run([program, tmp_path / "tagger.safetensors", "6"], capture_output=True, text=True, check=True)
    found = [float(number) for number in done.stdout.split()]
    np.testing.assert_allclose(found, tagger.predict(rino.toy_jets(6, seed=1)), rtol=1e-5)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("variant", ["ParT", "ParT without batches"])
def test_no_jets_single_constituents_and_a_jet_that_is_no_number(variant: str, kernels: str) -> None:
    encoder = moved(small(variant), kernels=kernels)
    jets = small_jets(6)
    for few in (jets[:0], rino.hardest(jets[:1], 1), rino.hardest(jets, 1)):
        encoder.train().zero_grad()
        out = encoder(encoder.tokenize(few)).jets
        assert out.shape == (len(few), encoder.width)
        out.sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters() if p.grad is not None)
        assert all(bool(buffer.isfinite().all()) for buffer in encoder.buffers())
    tokens = encoder.eval().tokenize(jets)
    features, mask = tokens.padded()
    momenta = torch.zeros(*mask.shape, 4, dtype=torch.float64).masked_scatter(mask[..., None], tokens.momenta)
    momenta[2, 0, 0] = torch.nan
    found = encoder(Tokens.from_padded(features, mask, tokens.jet_features, momenta)).jets.detach()
    expected = encoder(tokens).jets.detach()
    assert bool(found[2].isnan().any())
    others = [0, 1, 3, 4, 5]
    assert torch.equal(found[others], expected[others])


def test_it_learns_to_tell_tops_from_qcd() -> None:
    jets = small_jets(1500, seed=1)
    recipe = supervised(**{"supervised.epochs": 8, "encoder.layers": 2, "supervised.lr": 3e-3})
    tagger = rino.train_supervised(recipe, jets, progress=False)
    test = small_jets(1000, seed=2)
    assert roc_auc(tagger.predict(test), test.labels) > 0.75


def test_any_method_trains_an_encoder_with_pairs(tmp_path: Path) -> None:
    jets = small_jets(64)
    parts = {"encoder.pairs": "batch", "encoder.pair_width": 8, "training.epochs": 1, "training.batch_size": 32}
    for preset in ("nano", "contrastive"):
        recipe = Recipe.preset(preset).replace(**parts)
        encoder = rino.pretrain(recipe, jets, tmp_path / preset, progress=False).encoder
        assert all(bool(p.isfinite().all()) for p in encoder.state_dict().values())
        assert (encoder.state_dict()["pairs.norms.0.running_mean"] != 0).all()
        assert np.isfinite(encoder.embed(jets)).all()


# --- errors ---


def test_what_does_not_fit_is_an_error() -> None:
    encoder = JetEncoder(small("ParT"), seed=0)
    with pytest.raises(RinoError, match=r"pairs of constituents and the tokens have no momenta.*Encoder\.tokenize"):
        encoder(rino.tokenize(small_jets(3)))
    for change, message in (
        ({"class_layers": -1}, "class_layers is -1"),
        ({"class_layers": 1, "class_token": "none", "pooling": "mean"}, "class_layers is 1 with class_token 'none'"),
        ({"class_layers": 1, "pooling": "mean"}, "pooling 'mean'.*choose 0"),
        ({"block": "normformer", "feedforward_kind": "swiglu"}, "block is 'normformer', feedforward_kind 'swiglu'"),
        ({"block": "normformer", "layer_scale": 0.1}, "layer_scale 0.1"),
        ({"pairs": "batch", "pair_width": 0}, "pair_width is 0"),
        ({"memory": -0.5}, "memory is -0.5 GB: choose 0 or more"),
        ({"memory": float("nan")}, "memory is nan GB: choose 0 or more"),
    ):
        with pytest.raises(RinoError, match=message):
            JetEncoder(small("deep embedding", **change), seed=0)


def test_a_batch_norm_refuses_parts_of_a_batch(tmp_path: Path) -> None:
    recipe = Recipe.preset("nano").replace(
        **{"encoder.pairs": "batch", "training.accumulate": 2, "training.batch_size": 8, "training.epochs": 1}
    )
    with pytest.raises(RinoError, match=r"accumulate is 2.*statistics of the whole batch.*batch norms"):
        rino.pretrain(recipe, small_jets(16), tmp_path / "batch", progress=False)
    rino.pretrain(recipe.replace(**{"encoder.pairs": "layer"}), small_jets(16), tmp_path / "layer", progress=False)
