"""Encoders of any kind: what files say of them, who reads them, and deep sets against plain PyTorch."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open

import pyrino as rino


@pytest.fixture(scope="module")
def jets() -> rino.Jets:
    return rino.toy_jets(40, seed=2, top_fraction=0.5)


def deep_sets(**numbers: object) -> rino.Recipe:
    return rino.Recipe.preset("nano", **{"encoder.kind": "deep-sets"}, **numbers)


def reference(encoder: rino.Encoder, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Deep sets on padded features [S, N, F] with a loop over layers and a masked sum."""
    x = features
    for layer in encoder.constituents:
        x = torch.relu(torch.nn.functional.linear(x, layer.weight, layer.bias))
    y = (x * mask.unsqueeze(-1)).sum(1)
    for layer in encoder.jets:
        y = torch.relu(torch.nn.functional.linear(y, layer.weight, layer.bias))
    return y, x[mask]


def test_deep_sets_are_linear_maps_and_a_sum(jets):
    encoder = rino.DeepSetsEncoder(deep_sets(), seed=3).double()
    tokens = rino.tokenize(jets, [4, "all"], encoder.recipe, "float64")
    found = encoder(tokens)
    by_jets, by_constituents = reference(encoder, *tokens.padded())
    assert found.jets.shape == (80, 100)
    assert found.constituents.shape == (len(tokens.features), 256)
    torch.testing.assert_close(found.jets, by_jets, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.constituents, by_constituents, rtol=1e-12, atol=1e-12)
    parameters = list(encoder.parameters())
    weights = torch.randn(found.jets.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mine = torch.autograd.grad((found.jets * weights).sum(), parameters)
    theirs = torch.autograd.grad((by_jets * weights).sum(), parameters)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_deep_sets_have_the_published_sizes():
    """arXiv:1810.05165, section 4.1: 4 inputs a particle with its type; here 11 features, no last layer."""
    sizes = [(11, 100), (100, 100), (100, 256), (256, 100), (100, 100), (100, 100)]
    assert deep_sets().encoder_parameters == sum(a * b + b for a, b in sizes)


def test_masked_constituents_have_features_of_zero(jets):
    encoder = rino.DeepSetsEncoder(deep_sets(), seed=3).double()
    tokens = rino.tokenize(jets, ["all"], encoder.recipe, "float64")
    mask = torch.zeros(len(tokens.features), dtype=torch.bool)
    mask[::3] = True
    features, there = tokens.padded()
    hidden = features.clone()
    hidden[there] = torch.where(mask.unsqueeze(1), 0.0, features[there])
    torch.testing.assert_close(encoder(tokens.hide(mask)).jets, reference(encoder, hidden, there)[0])


def test_a_jet_alone_has_the_embedding_that_it_has_among_others(jets):
    encoder = rino.DeepSetsEncoder(deep_sets(), seed=3).double().eval()
    together = encoder.embed(jets)
    alone = np.concatenate([encoder.embed(jets[j : j + 1]) for j in range(len(jets))])
    np.testing.assert_allclose(alone, together, rtol=1e-12, atol=1e-13)


def test_the_kind_decides_which_numbers_the_section_has(tmp_path):
    recipe = deep_sets(width=64)
    assert recipe.encoder.width == 64
    assert recipe.encoder.embedding == 100
    assert "heads" not in recipe.sections()["encoder"]
    with pytest.raises(rino.RinoError, match=r"no 'encoder\.heads'"):
        recipe.update({"encoder.heads": 4})
    recipe.save(tmp_path / "r.toml")
    assert rino.Recipe.load(tmp_path / "r.toml") == recipe
    (tmp_path / "short.toml").write_text('preset = "nano"\n[encoder]\nembedding = 20\nkind = "deep-sets"\n')
    short = rino.Recipe.load(tmp_path / "short.toml")
    assert (short.encoder.embedding, short.encoder.width) == (20, 256)
    changed = {number.key: number for number in short.describe()}
    assert changed["encoder.kind"].changed
    assert changed["encoder.embedding"].published == 100
    with pytest.raises(rino.RinoError, match=r"no encoder of the kind 'lstm': choose one of transformer, deep-sets"):
        rino.Recipe.preset("nano", **{"encoder.kind": "lstm"})
    assert [kind.kind for kind in rino.Recipe.encoders()] == ["transformer", "deep-sets"]


def test_a_recipe_without_a_kind_is_a_transformers():
    data = rino.Recipe.preset("nano", width=48).to_dict()
    del data["encoder"]["kind"]
    assert rino.Recipe.from_dict(data) == rino.Recipe.preset("nano", width=48)


@pytest.mark.parametrize("method", ["self-distillation", "contrastive"])
def test_every_method_trains_it_and_files_say_what_it_is(jets, tmp_path, method):
    recipe = rino.Recipe(method, **{"encoder.kind": "deep-sets"}, batch_size=20, epochs=4)
    run = rino.pretrain(recipe, jets, tmp_path / "run", progress=False, tensorboard=False)
    assert np.isfinite(run.history["loss"]).all()
    assert isinstance(run.encoder, rino.DeepSetsEncoder)
    with safe_open(tmp_path / "run" / "encoder.safetensors", "pt") as file:
        assert file.metadata()["encoder"] == "deep-sets"
        assert json.loads(file.metadata()["recipe"])["encoder"]["kind"] == "deep-sets"
    read = rino.load(tmp_path / "run")
    assert isinstance(read, rino.DeepSetsEncoder)
    np.testing.assert_array_equal(read.embed(jets), run.encoder.embed(jets))
    with pytest.raises(rino.RinoError, match="holds an encoder of the kind 'deep-sets', not 'transformer'"):
        rino.JetEncoder.load(tmp_path / "run")


def test_layer_wise_rates_follow_its_layers(jets):
    """One step of AdamW moves a value by the rate, whatever its gradient is (arXiv:1412.6980)."""
    decay = {"layer_decay": 0.5, "weight_decay": 0.0, "eps": 1e-30, "clip": 0.0, "warmup": 0.0}
    recipe = rino.Recipe("contrastive", **{"encoder.kind": "deep-sets"}, **decay, batch_size=40, epochs=1)
    trainer = rino.Trainer(recipe, jets, dtype="float64")
    before = trainer.encoder().state_dict()
    rate = trainer.step()["lr"]
    after = trainer.encoder().state_dict()
    for name, power in {
        "jets.2.weight": 1,
        "jets.0.bias": 3,
        "constituents.2.weight": 4,
        "constituents.0.bias": 6,
    }.items():
        moved = (after[name] - before[name]).abs()
        assert moved.max().item() == pytest.approx(rate * 0.5**power, rel=1e-6)


@pytest.mark.parametrize("kind", ["transformer", "deep-sets"])
def test_an_encoder_makes_what_it_sees_and_embeds_it(jets, kind):
    encoder = rino.Encoder(rino.Recipe.preset("nano", **{"encoder.kind": kind}), seed=1).eval()
    batch = encoder.inputs(jets, [2, "all"])
    found = encoder(batch)
    assert found.jets.shape == (2 * len(jets), encoder.width)
    np.testing.assert_allclose(found.jets[len(jets) :].detach().numpy(), encoder.embed(jets), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.jets, encoder(encoder.tokenize(jets, [2, "all"])).jets, rtol=0, atol=0)


def test_every_tensor_has_its_depth():
    transformer, sets = rino.JetEncoder(seed=1), rino.DeepSetsEncoder(seed=1)
    assert [transformer.depth(f"blocks.{b}.norm1.weight") for b in range(4)] == [4, 3, 2, 1]
    assert transformer.depth("embedding.bias") == 5
    assert sorted({sets.depth(name) for name, _ in sets.named_parameters()}) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(rino.RinoError, match=r"no tensor 'nonsense' in this encoder; it has constituents"):
        sets.depth("nonsense")


def test_load_reads_any_encoder_and_tagger(jets, tmp_path):
    labels = np.arange(len(jets)) % 2
    for kind, cls in (("transformer", rino.JetEncoder), ("deep-sets", rino.DeepSetsEncoder)):
        recipe = rino.Recipe.preset("nano", **{"encoder.kind": kind, "finetune.epochs": 1, "finetune.probe_epochs": 1})
        encoder = cls(recipe, seed=1)
        encoder.save(tmp_path / f"{kind}.safetensors")
        read = rino.load(tmp_path / f"{kind}.safetensors")
        assert type(read) is cls
        assert not read.training
        np.testing.assert_array_equal(read.embed(jets), encoder.embed(jets))
        tagger = rino.finetune(encoder, (jets, labels), out=tmp_path / f"{kind}-tagger", progress=False)
        again = rino.load(tmp_path / f"{kind}-tagger")
        assert isinstance(again, rino.Tagger)
        assert type(again.encoder) is cls
        np.testing.assert_array_equal(again.predict(jets), tagger.predict(jets))
        np.testing.assert_array_equal(rino.predict(tmp_path / f"{kind}-tagger", jets), tagger.predict(jets))
        np.testing.assert_array_equal(rino.embed(tmp_path / f"{kind}.safetensors", jets), encoder.embed(jets))


def test_load_says_what_a_file_is_that_it_does_not_read(jets, tmp_path):
    trainer = rino.Trainer(rino.Recipe.preset("nano", batch_size=20), jets)
    trainer.save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(rino.RinoError, match=r"checkpoint\.safetensors holds 'checkpoint': give an encoder"):
        rino.load(tmp_path / "checkpoint.safetensors")
    with pytest.raises(rino.RinoError, match=r"has neither of encoder\.safetensors and tagger\.safetensors"):
        rino.load(tmp_path)
    whole = (tmp_path / "checkpoint.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(rino.RinoError, match=r"cut\.safetensors cannot be read as safetensors .* it is damaged"):
        rino.load(tmp_path / "cut.safetensors")
    with pytest.raises(rino.RinoError, match="there are no weights at"):
        rino.load(tmp_path / "none.safetensors")


def test_an_encoder_of_another_kind_than_its_class_is_refused():
    with pytest.raises(rino.RinoError, match=r"encoder\.kind is 'deep-sets' and JetEncoder is 'transformer'"):
        rino.JetEncoder(deep_sets())
    with pytest.raises(rino.RinoError, match="has no kernels to choose from"):
        rino.DeepSetsEncoder()._core.kernels = "fused"
    assert rino.Encoder(deep_sets()).width == 100
    assert rino.DeepSetsEncoder.preset("rino", seed=1).recipe.encoder.kind == "deep-sets"


def test_it_is_copied_and_pickled_as_any_module(jets):
    encoder = rino.DeepSetsEncoder(seed=5)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        np.testing.assert_array_equal(other.embed(jets), encoder.embed(jets))
    assert "rino::DeepSetsEncoder(inputs 11, hidden 2 x 100, width 256, embedding 3 x 100)" in repr(encoder)


def test_a_method_of_python_takes_it(jets):
    class Spread(rino.Method):
        name = "spread-of-deep-sets"

        def networks(self):
            return {"encoder": rino.DeepSetsEncoder(self.recipe)}

        def views(self, jets, step):
            return [rino.rotate(jets, **step.draws("a")), rino.rotate(jets, **step.draws("b"))]

        def loss(self, batch, step):
            a, b = self.encoder(batch, constituents=False).jets.chunk(2)
            return rino.alignment(a, b) + rino.uniformity(a)

    recipe = rino.Recipe("spread-of-deep-sets", **{"encoder.kind": "deep-sets"}, batch_size=20, epochs=2)
    assert all(np.isfinite(step["loss"]) for step in rino.Trainer(recipe, jets))
