"""Heads of taggers against plain PyTorch, their sizes, seeds and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_weights, small_jets, tiny

from pyrino import JetEncoder, Jets, Recipe, RinoError, Tagger, finetune, train_supervised
from pyrino.nn import TaggerHead


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(40, seed=9)


def short(**overrides: Any) -> Recipe:
    """An epoch of each phase."""
    numbers = {
        "finetune.batch_size": 16,
        "finetune.epochs": 1,
        "probe_epochs": 1,
        "hidden1": 6,
        "hidden2": 5,
        "supervised.epochs": 1,
    }
    return tiny(**{**numbers, **overrides})


def encoder_of(recipe: Recipe | None = None) -> JetEncoder:
    return JetEncoder(recipe or short(), seed=2)


def test_linear_head_is_one_layer():
    tagger = Tagger(JetEncoder.preset("nano", seed=1), "linear")
    assert [tuple(p.shape) for p in tagger.head.parameters()] == [(1, 32), (1,)]


@pytest.mark.parametrize(
    ("preset", "hidden"), [("nano", (8, 4)), ("lite", (16, 8)), ("mini", (32, 16)), ("base", (64, 32))]
)
def test_mlp_heads_have_the_papers_widths(preset, hidden):
    encoder = JetEncoder.preset(preset, seed=1)
    head = Tagger(encoder, "mlp").head
    weights = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items() if name.endswith("weight")}
    assert weights == {
        "0.weight": (hidden[0], encoder.width),
        "3.weight": (hidden[1], hidden[0]),
        "6.weight": (1, hidden[1]),
    }
    assert [layer.weight.shape for layer in head] == list(weights.values()) and encoder.recipe.finetune.head_dropout


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("normalized", [False, True])
def test_heads_are_those_of_plain_pytorch(jets, kind, normalized):
    """Value and gradient; the tensors have a `torch.nn.Sequential`'s names."""
    head = TaggerHead(short(normalized_head=normalized), kind, seed=3).double().eval()
    x = torch.randn(7, 8, dtype=torch.float64, requires_grad=True)
    w = {name: tensor.detach().clone().requires_grad_() for name, tensor in head.named_parameters()}
    h = x
    for place in ("0", "3") if kind == "mlp" else ():
        h = torch.nn.functional.gelu(h @ w[f"{place}.weight"].T + w[f"{place}.bias"])
    last = "6" if kind == "mlp" else "0"
    if normalized:
        cosine = h @ w[f"{last}.weight"].T / h.norm(dim=1, keepdim=True) / w[f"{last}.weight"].norm()
        assert f"{last}.bias" not in w
    wanted = cosine if normalized else h @ w[f"{last}.weight"].T + w[f"{last}.bias"]
    found = head(x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    factors = torch.arange(1.0, 8.0, dtype=torch.float64)[:, None]
    wanted_gradients = torch.autograd.grad((wanted * factors).sum(), [x, *w.values()])
    gradients = torch.autograd.grad((found * factors).sum(), [x, *head.parameters()])
    for one, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_an_mlp_head_drops_out_in_training_alone():
    head = TaggerHead(short(head_dropout=0.5), "mlp", seed=3)
    x = torch.randn(500, 8)
    assert not torch.equal(head(x), head(x))
    assert torch.equal(head.eval()(x), head(x))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_normalised_head_gives_cosines(jets, kind):
    encoder = encoder_of(short(normalized_head=True))
    tagger = Tagger(encoder, kind).double().eval()
    with torch.no_grad():
        logits = tagger(encoder.tokenize(jets))
        x = encoder(encoder.tokenize(jets)).jets
        for layer in list(tagger.head)[:-1]:
            x = torch.nn.functional.gelu(torch.nn.functional.linear(x, layer.weight, layer.bias))
        w = tagger.head[-1].weight[0]
        cosine = x @ w / x.norm(dim=1) / w.norm()
    torch.testing.assert_close(logits, cosine, rtol=1e-12, atol=1e-12)
    p = finetune(encoder, jets, head=kind, progress=False).predict(jets)
    edges = 1 / (1 + np.exp([1, -1]))
    assert (edges[0] <= p).all() and (p <= edges[1]).all()


def test_the_recipe_chooses_the_head_unless_told(jets):
    recipe = short(**{"finetune.head": "mlp", "finetune.epochs": 0, "probe_epochs": 0})
    assert finetune(encoder_of(recipe), jets, progress=False).kind == "mlp"
    assert finetune(encoder_of(recipe), jets, head="linear", progress=False).kind == "linear"
    assert train_supervised(short(), jets, progress=False).kind == "mlp"
    with pytest.raises(RinoError, match="no head 'cubic': choose 'linear' or 'mlp'"):
        Tagger(encoder_of(), "cubic")


def test_head_seeds_and_types():
    encoder = encoder_of().double()
    torch.manual_seed(0)
    one, after = Tagger(encoder, "mlp", seed=1), torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    assert_same_weights(one, Tagger(encoder, "mlp", seed=1))
    assert not torch.equal(one.head[0].weight, Tagger(encoder, "mlp", seed=2).head[0].weight)
    assert all(p.dtype == torch.float64 for p in one.parameters())
    assert one.encoder is encoder
