"""Taggers: LP-FT against plain PyTorch, the supervised baseline, heads, labels, files."""

from __future__ import annotations

import copy
import errno
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import assert_same_weights, plain_lp_ft, small_jets, tiny, weights_of

import pyrino as rino
from pyrino import History, JetEncoder, Jets, Recipe, RinoError, RinoWarning, Tagger, finetune, train_supervised

N = 40


@pytest.fixture(scope="module")
def jets() -> Jets:
    jets = small_jets(N, seed=9)
    assert 10 < jets.labels.sum() < 30
    return jets


def short(**overrides: Any) -> Recipe:
    """3 epochs of each phase in batches of 16, at learning rates that move something."""
    numbers = {
        "finetune.batch_size": 16,
        "finetune.epochs": 3,
        "probe_epochs": 3,
        "encoder_lr": 1e-2,
        "head_lr": 1e-2,
        "probe_lr": 1e-2,
        "hidden1": 6,
        "hidden2": 5,
        "supervised.lr": 1e-2,
        "supervised.epochs": 4,
        "validation": 0.25,
    }
    return tiny(**{**numbers, **overrides})


def encoder_of(recipe: Recipe | None = None) -> JetEncoder:
    return JetEncoder(recipe or short(), seed=2)


def tuned(jets: Jets, recipe: Recipe | None = None, **arguments: Any) -> Tagger:
    return finetune(encoder_of(recipe), jets, progress=False, **arguments)


def supervised(jets: Jets, recipe: Recipe | None = None, **arguments: Any) -> Tagger:
    return train_supervised(recipe or short(), jets, progress=False, **arguments)


# --- LP-FT ---


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"clip": 1e-3},
        {"warmup": 0.0, "weight_decay": 0.5, "positive_weight": 7.0},
        {"eps": 0.1, "warmup_shape": "linear"},
        {"probe_epochs": 20, "epochs": 20, "eps": 1e-4},
    ],
)
def test_lp_ft_is_that_of_plain_pytorch(jets, overrides):
    """With all jets in one batch their order does not matter."""
    overrides = {f"finetune.{name}": value for name, value in overrides.items()}
    recipe = short(
        **{
            "finetune.batch_size": N,
            "encoder.dropout": 0.0,
            "finetune.warmup": 0.4,
            "finetune.epochs": 5,
            "probe_lr": 0.02,
            "finetune.probe_epochs": 4,
            **overrides,
        }
    )
    encoder = encoder_of(recipe).double()
    labels = torch.tensor(jets.labels, dtype=torch.float64)

    def loss_of(outputs: torch.Tensor) -> torch.Tensor:
        log_p, log_q = (torch.nn.functional.logsigmoid(sign * outputs[:, 0]) for sign in (1, -1))
        return -(recipe.finetune.positive_weight * labels * log_p + (1 - labels) * log_q).mean()

    plain = plain_lp_ft(encoder, jets, loss_of, seed=4)
    tagger = finetune(encoder, jets, head="linear", seed=4, progress=False)
    np.testing.assert_allclose(tagger.history["loss"], plain.losses, rtol=1e-10)
    torch.testing.assert_close(tagger.head[0].weight.detach(), plain.weight, rtol=0, atol=1e-10)
    for name, parameter in tagger.encoder.named_parameters():
        torch.testing.assert_close(parameter.detach(), plain.encoder[name], rtol=0, atol=1e-9, check_device=False)
    moved = tagger.encoder.embedding.weight - encoder.embedding.weight
    assert float(moved.detach().abs().max()) > 1e-3


def test_probing_leaves_the_encoder_as_it_is(jets):
    encoder = encoder_of()
    tagger = finetune(encoder, jets, recipe=short(**{"finetune.epochs": 0}), progress=False)
    assert_same_weights(tagger.encoder, encoder)
    assert not torch.equal(tagger.head[0].weight, Tagger(encoder, "linear", 0).head[0].weight)
    assert tagger.history["probing"].tolist() == [1, 1, 1]


def test_fine_tuning_without_probing(jets):
    tagger = tuned(jets, recipe=short(probe_epochs=0))
    assert tagger.history["probing"].tolist() == [0, 0, 0]
    assert not np.array_equal(weights_of(tagger.encoder)["norm.weight"], weights_of(encoder_of())["norm.weight"])


@pytest.mark.parametrize("training", [True, False])
def test_the_given_encoder_stays_as_it_is(jets, training):
    encoder = encoder_of().train(training)
    before, recipe = weights_of(encoder), encoder.recipe.copy()
    tagger = finetune(encoder, jets, recipe=short(koleo=0.3), progress=False)
    after = weights_of(encoder)
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert encoder.recipe == recipe and encoder.training is training
    assert all(p.grad is None for p in encoder.parameters())
    assert not tagger.training and not tagger.encoder.training
    assert not np.array_equal(weights_of(tagger.encoder)["norm.weight"], before["norm.weight"])


def test_a_recipe_for_fine_tuning_cannot_change_the_encoder_or_its_jets(jets):
    other = Recipe.preset("lite", features="relative", **{"finetune.epochs": 1, "probe_epochs": 1, "head_lr": 0.5})
    tagger = finetune(encoder_of(), jets, recipe=other, progress=False)
    assert tagger.encoder.recipe.encoder.width == 8 and tagger.encoder.recipe.jets.features == "full"
    assert tagger.encoder.recipe.finetune.head_lr == 0.5 and tagger.history.rows == 2


def test_same_seed_same_tagger_whatever_the_global_random_state(jets):
    recipe = short(**{"encoder.dropout": 0.2})
    torch.manual_seed(1)
    one = tuned(jets, recipe, head="mlp", seed=3)
    torch.manual_seed(2)
    two = tuned(jets, recipe, head="mlp", seed=3, threads=2)
    assert_same_weights(one, two)
    assert one.history["loss"].tolist() == two.history["loss"].tolist()
    other = tuned(jets, recipe, head="mlp", seed=4)
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


@pytest.mark.parametrize("train", [tuned, supervised])
def test_torchs_random_state_is_left_alone(jets, train):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(jets)
    assert torch.equal(torch.rand(3), wanted)


def test_fine_tuning_learns_to_tell_the_classes_apart():
    jets = small_jets(120, seed=1)
    recipe = short(**{"finetune.epochs": 25, "encoder.dropout": 0.0, "positive_weight": 1.0})
    tagger = tuned(jets, recipe)
    assert tagger.history["loss"][-1] < 0.6 * tagger.history["loss"][0]
    p = tagger.predict(jets)
    assert p[jets.labels == 1].mean() > p[jets.labels == 0].mean() + 0.3


def test_a_larger_weight_of_signal_raises_the_probabilities(jets):
    means = [tuned(jets, short(positive_weight=w)).predict(jets).mean() for w in (0.2, 1.0, 5.0)]
    assert means[0] < means[1] - 0.02 and means[1] < means[2] - 0.02


def test_labels_come_with_the_jets_or_beside_them(jets):
    bare = Jets(jets.p4, jets.offsets)
    wanted = tuned(jets)
    for labels in (jets.labels, jets.labels.tolist(), jets.labels.astype(bool), jets.labels.astype(float)):
        assert_same_weights(finetune(encoder_of(), (bare, labels), progress=False), wanted)
    assert_same_weights(finetune(encoder_of(), [bare, jets.labels], progress=False), wanted)
    flipped = finetune(encoder_of(), (jets, 1 - jets.labels), progress=False)  # those beside them count
    assert not torch.equal(flipped.head[0].weight, wanted.head[0].weight)


@pytest.mark.parametrize("train", [finetune, train_supervised])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda y: np.where(np.arange(N) == 7, 2, y), r"label of jet 7 is 2: .* map your classes first"),
        (lambda y: np.where(np.arange(N) == 3, -1, y), "label of jet 3 is -1"),
        (lambda y: np.where(np.arange(N) == 3, 0.5, y), r"label of jet 3 is 0\.5"),
        (lambda y: np.where(np.arange(N) == 3, math.nan, y), "label of jet 3 is nan"),
        (lambda y: np.where(y == 1, "top", "qcd"), r"label of jet 0 is (top|qcd)"),
        (lambda y: np.zeros(N, int), "all 40 labels are 0: give jets of both classes"),
        (lambda y: np.ones(N, int), "all 40 labels are 1"),
        (lambda y: y[:-1], r"labels have shape \(39,\) for 40 jets"),
        (lambda y: y[:, None], r"labels have shape \(40, 1\) for 40 jets"),
    ],
)
def test_labels_that_are_not_0_and_1_are_refused(jets, tmp_path, train, change, match):
    first = short() if train is train_supervised else encoder_of()
    with pytest.raises(RinoError, match=match):
        train(first, (jets, change(jets.labels)), out=tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == []


def test_jets_without_labels_are_refused(jets):
    with pytest.raises(RinoError, match=r"the jets carry no labels: give \(jets, labels\)"):
        finetune(encoder_of(), Jets(jets.p4, jets.offsets))
    with pytest.raises(RinoError, match="labels are missing"):
        finetune(encoder_of(), (jets[:0], []))


@pytest.mark.parametrize(
    "name",
    [
        *("hidden1", "head_dropout", "probe_epochs", "probe_lr", "encoder_lr", "positive_weight"),
        *("finetune.epochs", "finetune.batch_size", "finetune.clip", "finetune.warmup", "finetune.weight_decay"),
        "finetune.eps",
        *("supervised.lr", "patience", "validation", "supervised.epochs"),
    ],
)
def test_numbers_outside_their_ranges_are_named(jets, name):
    recipe = short()
    section, _, bare = name.rpartition(".")
    with pytest.raises(RinoError, match=rf"\.{bare}' is -1(\.0)?: choose"):
        tuned(jets, recipe.replace(**{f"{section}.{bare}" if section else bare: -1}))


@pytest.mark.parametrize("train", [tuned, supervised])
def test_a_loss_that_is_not_finite_is_an_error(jets, tmp_path, train):
    recipe = short(encoder_lr=1e37, **{"supervised.lr": 1e37, "finetune.warmup": 0.0, "finetune.final_lr": 1.0})
    with (
        pytest.warns(RinoWarning, match=r"is skipped and changed nothing: its loss is -?(nan|inf).* take (a )?lower "),
        pytest.raises(RinoError, match=r"the loss was -?(nan|inf) .* the last of 3 in a row that were not finite"),
    ):
        train(jets, recipe, out=tmp_path / "out")
    assert not (tmp_path / "out" / "tagger.safetensors").exists()


# --- predictions ---


def test_predictions_are_probabilities_in_the_order_of_the_jets(jets):
    tagger = Tagger(encoder_of(), "mlp").double().eval()
    p = tagger.predict(jets)
    assert p.shape == (N,) and p.dtype == np.float64 and (0 < p).all() and (p < 1).all()
    tokens = tagger.encoder.tokenize(jets)
    with torch.no_grad():
        logits = tagger(tokens)[tokens.rows(0)]
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits.numpy())), rtol=0, atol=1e-12)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(tagger.predict(jets[order], batch_size=7, threads=2), p[order], rtol=0, atol=1e-12)
    assert tagger.predict(jets[:0]).shape == (0,)


@pytest.mark.parametrize("weight", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("prior", [0.5, 0.1, np.float32(0.75)])
@pytest.mark.parametrize("make", [tuned, supervised])
def test_a_prior_takes_the_weight_of_signal_out_of_the_odds(jets, weight, prior, make):
    recipe = short(positive_weight=weight, probe_epochs=1, **{"finetune.epochs": 1, "supervised.epochs": 1})
    tagger = make(jets, recipe)
    score = tagger.predict(jets)
    odds = score / (1 - score) / weight * (prior / (1 - prior))
    np.testing.assert_allclose(tagger.predict(jets, prior=prior), odds / (1 + odds), rtol=1e-6)
    np.testing.assert_array_equal(rino.predict(tagger, jets, prior=prior), tagger.predict(jets, prior=prior))
    if (weight, prior) == (1.0, 0.5):
        np.testing.assert_array_equal(tagger.predict(jets, prior=prior), score)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_a_prior_gives_the_probabilities_of_a_sample_with_that_share(jets, monkeypatch, share):
    """Embeddings of two Gaussians a unit apart, where it is known: 1 / (1 + exp(-x - ln(q / (1 - q))))."""
    tagger = Tagger(encoder_of(short(positive_weight=2.0)), "linear")
    rng = np.random.default_rng(4)

    def sample(n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
        labels = (np.arange(n) < share * n).astype(np.float64)
        return rng.normal(labels - 0.5)[:, None] * np.eye(1, tagger.encoder.width), labels

    x, y = (torch.from_numpy(a) for a in sample(200_000, 0.5))
    head, weight = tagger.head.double(), torch.tensor(2.0)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(head(x)[:, 0], y, pos_weight=weight)
        value.backward()
        return value

    optimizer.step(loss)
    x, labels = sample(50_000, share)
    monkeypatch.setattr(JetEncoder, "embed", lambda *_, **__: x)
    p = tagger.predict(jets, prior=share)
    truth = 1 / (1 + np.exp(-x[:, 0] - math.log(share / (1 - share))))
    np.testing.assert_allclose(p, truth, atol=0.01)
    assert p.mean() == pytest.approx(share, abs=0.01)
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0)):
        chosen = (p >= low) & (p < high)
        assert labels[chosen].mean() == pytest.approx(p[chosen].mean(), abs=0.02)
    assert tagger.predict(jets).mean() > share + 0.05  # the score itself: what positive_weight makes of it


@pytest.mark.parametrize("prior", [0, 1, -0.1, 1.5, math.nan, math.inf, True, "0.5", [0.5]])
def test_a_prior_is_a_share(jets, prior):
    tagger = Tagger(encoder_of(), "linear")
    remedy = "give the share of signal, a number above 0 and below 1, or None"
    if isinstance(prior, (str, list)):
        remedy = f"prior = {re.escape(repr(prior))}: give a number or None"
    for predict in (tagger.predict, lambda *a, **k: rino.predict(tagger, *a, **k)):
        with pytest.raises(RinoError, match=remedy):
            predict(jets, prior=prior)


def test_predicting_is_in_evaluation_mode_and_leaves_the_mode_alone(jets):
    tagger = Tagger(encoder_of(short(head_dropout=0.5, **{"encoder.dropout": 0.5})), "mlp").train()
    np.testing.assert_array_equal(tagger.predict(jets), tagger.predict(jets))
    assert tagger.training and tagger.head.training and tagger.encoder.training


# --- the supervised baseline ---


def validation_loss(tagger: Tagger, jets: Jets, recipe: Recipe, seed: int) -> float:
    """On the share of the jets that the seed sets aside."""
    held = np.random.default_rng(seed).permutation(N)[: round(recipe.supervised.validation * N)]
    p, y = tagger.predict(jets[held]), jets.labels[held]
    return float(-np.mean(recipe.finetune.positive_weight * y * np.log(p) + (1 - y) * np.log(1 - p)))


def test_early_stopping_keeps_the_best_epoch(jets):
    recipe = short(**{"supervised.epochs": 40, "patience": 3, "supervised.lr": 0.05, "encoder.dropout": 0.0})
    tagger = supervised(jets, recipe, seed=1)
    losses = tagger.history["validation_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 40
    assert (losses[best + 1 :] >= losses[best]).all() and losses[-1] > losses[best] + 0.01
    assert validation_loss(tagger, jets, recipe, 1) == pytest.approx(losses[best], rel=1e-5)
    assert not tagger.training


def test_training_ends_with_the_epochs_where_patience_lasts(jets):
    recipe = short(**{"supervised.epochs": 3, "patience": 10})
    tagger = supervised(jets, recipe, seed=2)
    assert tagger.history.rows == 3
    assert validation_loss(tagger, jets, recipe, 2) == pytest.approx(min(tagger.history["validation_loss"]), rel=1e-5)


def test_supervised_training_is_reproducible(jets):
    one, two = (supervised(jets, seed=3, threads=n) for n in (1, 2))
    assert_same_weights(one, two)
    assert not torch.equal(one.head[0].weight, supervised(jets, seed=4).head[0].weight)


def test_supervised_training_takes_the_recipes_jets(jets):
    tagger = supervised(jets, short(features="relative", boost_to_pt=500.0, class_token="learned"))
    assert tagger.encoder.embedding.weight.shape == (8, 5)
    assert tagger.encoder.recipe.jets.boost_to_pt == 500


def test_the_share_set_aside_is_never_empty_or_all(jets):
    pair = jets[np.sort(np.concatenate([np.flatnonzero(jets.labels == c)[:1] for c in (0, 1)]))]
    assert supervised(pair, short(validation=0.01)).history.rows > 0
    with pytest.raises(RinoError, match="2 labelled jets leave none to train on"):
        supervised(pair, short(validation=0.99))


# --- files ---


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize(
    "numbers", [{}, {"normalized_head": True, "class_token": "learned", "features": "logarithmic"}]
)
def test_saved_taggers_come_back(jets, tmp_path, head, numbers):
    tagger = tuned(jets, short(**numbers), head=head, out=tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == ["history.parquet", "tagger.safetensors"]
    for place in (tmp_path / "run", str(tmp_path / "run" / "tagger.safetensors")):
        again = Tagger.load(place)
        assert_same_weights(tagger, again)
        assert again.kind == head and not again.training and again.encoder.recipe == tagger.encoder.recipe
        np.testing.assert_array_equal(again.predict(jets), tagger.predict(jets))
        assert again.history["loss"].tolist() == tagger.history["loss"].tolist()
    metadata = safetensors.safe_open(tmp_path / "run" / "tagger.safetensors", "pt").metadata()
    assert metadata["kind"] == "tagger" and Recipe.from_json(metadata["recipe"]) == tagger.encoder.recipe


def test_a_double_tagger_stays_double_on_disk(jets, tmp_path):
    tagger = Tagger(encoder_of().double(), "mlp")
    tagger.save(tmp_path / "t.safetensors")
    again = Tagger.load(tmp_path / "t.safetensors")
    assert_same_weights(tagger, again)
    np.testing.assert_array_equal(again.predict(jets), tagger.predict(jets))


def test_taggers_are_copied_and_pickled(jets):
    tagger = tuned(jets)
    for duplicate in (copy.deepcopy(tagger), pickle.loads(pickle.dumps(tagger))):
        assert_same_weights(tagger, duplicate)
        np.testing.assert_array_equal(duplicate.predict(jets), tagger.predict(jets))


def test_files_that_are_no_tagger_are_refused(jets, tmp_path):
    encoder_of().save(tmp_path / "e.safetensors")
    with pytest.raises(RinoError, match=r"e\.safetensors is no tagger but 'encoder'"):
        Tagger.load(tmp_path / "e.safetensors")
    with pytest.raises(RinoError, match=r"there are no weights at .*tagger\.safetensors"):
        Tagger.load(tmp_path)
    tagger = Tagger(encoder_of(), "linear")
    tagger.save(tmp_path / "t.safetensors")
    whole = (tmp_path / "t.safetensors").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-10])
    with pytest.raises(RinoError, match="cut cannot be read as safetensors"):
        Tagger.load(tmp_path / "cut")
    with safetensors.safe_open(tmp_path / "t.safetensors", "pt") as file:
        metadata = file.metadata()
    state = tagger.state_dict()
    for missing in ("head.0.bias", "encoder.norm.weight"):
        left = {name: value for name, value in state.items() if name != missing}
        safetensors.torch.save_file(left, tmp_path / "less", metadata)
        with pytest.raises(RinoError, match="less does not fit its own recipe"):
            Tagger.load(tmp_path / "less")


def test_an_encoder_cannot_be_loaded_from_a_tagger(jets, tmp_path):
    Tagger(encoder_of(), "linear").save(tmp_path / "t.safetensors")
    with pytest.raises(RinoError, match=r"t\.safetensors"):
        JetEncoder.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize("train", [tuned, supervised])
def test_a_folder_with_a_tagger_is_not_overwritten_unasked(jets, tmp_path, train):
    out = tmp_path / "run"
    recipe = short(**{"finetune.epochs": 1, "probe_epochs": 1, "supervised.epochs": 1})
    train(jets, recipe, out=out)
    before = (out / "tagger.safetensors").read_bytes()
    with pytest.raises(RinoError, match="run holds a run already: give overwrite=True"):
        train(jets, recipe, out=out, seed=5)
    assert (out / "tagger.safetensors").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    tagger = train(jets, recipe, out=out, seed=5, overwrite=True)
    assert_same_weights(Tagger.load(out), tagger)
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(RinoError, match="exists and holds other files"):
        train(jets, recipe, out=tmp_path, overwrite=True)
    with pytest.raises(RinoError, match=r"notes\.txt is a file"):
        train(jets, recipe, out=out / "notes.txt")


@pytest.mark.parametrize("fails", ["pyrino.nn.os.replace", "pyrino.nn.os.fsync"])
def test_a_full_disk_leaves_no_tagger(jets, tmp_path, monkeypatch, fails):
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fails, full)
    with pytest.raises(RinoError, match="No space left on device"):
        tuned(jets, short(**{"finetune.epochs": 0, "probe_epochs": 0}), out=tmp_path / "run")
    assert [name for name in os.listdir(tmp_path / "run") if name != "history.parquet"] == []


def test_progress_is_shown_when_asked_for(jets, capfd):
    recipe = short(**{"finetune.epochs": 1, "probe_epochs": 1, "supervised.epochs": 1})
    tuned(jets, recipe)
    assert capfd.readouterr().err == ""
    finetune(encoder_of(recipe), jets)
    train_supervised(recipe, jets)
    shown = capfd.readouterr().err
    assert all(phase in shown for phase in ("probing", "fine-tuning", "supervised"))


def test_a_tagger_of_a_pretrained_encoder(jets, tmp_path):
    """Every stage through its files."""
    recipe = short(**{"training.epochs": 1, "training.batch_size": 20})
    rino.pretrain(recipe, jets, tmp_path / "encoder", progress=False, tensorboard=False)
    encoder = JetEncoder.load(tmp_path / "encoder")
    finetune(encoder, train=(jets, jets.labels), head="linear", out=tmp_path / "tagger", progress=False)
    p = Tagger.load(tmp_path / "tagger").predict(jets)
    assert p.shape == (N,) and np.isfinite(p).all()
    assert History.load(Path(tmp_path / "tagger") / "history.parquet")["probing"].tolist() == [1, 1, 1, 0, 0, 0]
