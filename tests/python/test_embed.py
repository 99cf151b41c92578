"""`JetEncoder.embed`: batches by a budget of tokens, the tensors the module holds at that moment, one jet at a time."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading

import numpy as np
import pytest
import torch
from helpers import small_jets, tiny
from torch.nn.utils import parametrize

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, _core


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(40)


def by_forward(encoder: JetEncoder, jets: Jets) -> np.ndarray:
    """What `embed` is to give: a pass of the module in evaluation mode."""
    training = encoder.training
    tokens = encoder.tokenize(jets)
    with torch.no_grad():
        z = encoder.eval()(tokens).jets.numpy()
    encoder.train(training)
    return z


def batches(jets: Jets, tokens: int, size: int = 0) -> list[int]:
    return _core.embedding_batches(jets._core, tokens, size)


def test_batches_hold_as_many_jets_as_the_budget_of_tokens_has(jets):
    counts = np.diff(jets.offsets) + 1  # with the class token
    for budget in (1, 30, 100, 301, 10**6):
        bounds = batches(jets, budget)
        assert bounds[0] == 0 and bounds[-1] == 40 and (np.diff(bounds) > 0).all()
        for first, last in itertools.pairwise(bounds):
            assert counts[first:last].sum() <= budget or last - first == 1
            assert last == 40 or counts[first : last + 1].sum() > budget  # not one more would have fitted
    assert batches(jets, 10**6, 15) == [0, 15, 30, 40]
    assert batches(jets, counts[:3].sum(), 2)[1] == 2
    assert batches(jets[:0], 100) == [0]


def test_the_budget_changes_no_embedding(jets):
    encoder = JetEncoder(tiny(), seed=2).double()
    whole = encoder.embed(jets)
    for numbers in ({"batch_tokens": 1}, {"batch_tokens": 64}, {"batch_tokens": 64, "batch_size": 2}):
        np.testing.assert_allclose(encoder.embed(jets, **numbers), whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_forward(encoder, jets), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({"batch_tokens": 0}, "batch_tokens is 0"), ({"batch_size": 0}, "batch_size = 0"), ({"resolution": "x"}, "'x'")],
)
def test_budgets_and_resolutions_that_are_none_are_refused(jets, numbers, message):
    with pytest.raises(RinoError, match=message):
        JetEncoder(tiny(), seed=2).embed(jets, **numbers)


def double_in_place(encoder: JetEncoder) -> None:
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(2)


def new_data(encoder: JetEncoder) -> None:
    for parameter in encoder.parameters():
        parameter.data = parameter.data * 2


def assign(encoder: JetEncoder) -> None:
    encoder.load_state_dict({name: 2 * value for name, value in encoder.state_dict().items()}, assign=True)


def replace_one(encoder: JetEncoder) -> None:
    encoder.norm.weight = torch.nn.Parameter(2 * encoder.norm.weight.detach())


def replace_node(encoder: JetEncoder) -> None:
    other = JetEncoder(tiny(), seed=9)
    encoder.blocks = other.blocks


def replace_deep_node(encoder: JetEncoder) -> None:
    other = JetEncoder(tiny(), seed=9)
    getattr(encoder.blocks, "1").linear2 = getattr(other.blocks, "1").linear2


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def parametrized(encoder: JetEncoder) -> None:
    parametrize.register_parametrization(encoder.norm, "weight", Twice())


def to_double(encoder: JetEncoder) -> None:
    encoder.double()


@pytest.mark.parametrize(
    "change",
    [double_in_place, new_data, assign, replace_one, replace_node, replace_deep_node, parametrized, to_double],
)
def test_embed_uses_the_tensors_the_module_holds_now(jets, change):
    encoder = JetEncoder(tiny(), seed=2)
    before = encoder.embed(jets)
    change(encoder)
    # Another encoder that never ran with the tensors of before.
    fresh = JetEncoder(tiny(), seed=3).to(encoder.dtype)
    with torch.no_grad():
        for path, leaf, _ in fresh._places:
            getattr(fresh.get_submodule(path), leaf).copy_(getattr(encoder.get_submodule(path), leaf))
    after = encoder.embed(jets)
    np.testing.assert_array_equal(after, fresh.embed(jets))
    assert not np.array_equal(after, before)


def test_copies_embed_with_their_own_tensors(jets):
    encoder = JetEncoder(tiny(), seed=2)
    before = encoder.embed(jets)
    copies = [copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), copy.copy(encoder)]
    for one in copies[:2]:
        double_in_place(one)
        assert not np.array_equal(one.embed(jets), before)
        np.testing.assert_array_equal(encoder.embed(jets), before)
    np.testing.assert_array_equal(copies[2].embed(jets), before)  # shares the parameters, as torch's modules do


def test_functional_call_leaves_nothing_behind(jets):
    encoder = JetEncoder(tiny(), seed=2).eval()
    before = encoder.embed(jets)
    tokens = encoder.tokenize(jets)
    doubled = {name: 2 * value for name, value in encoder.state_dict().items()}
    inside = torch.func.functional_call(encoder, doubled, (tokens,)).jets
    np.testing.assert_array_equal(encoder.embed(jets), before)
    encoder.load_state_dict(doubled)
    assert torch.equal(encoder(tokens).jets, inside)


def test_dropout_is_off_in_embed_and_on_again_in_training(jets):
    encoder = JetEncoder(tiny(encoder__dropout=0.5), seed=2).train()
    tokens = encoder.tokenize(jets)
    assert not torch.equal(encoder(tokens).jets, encoder(tokens).jets)
    np.testing.assert_allclose(encoder.embed(jets), by_forward(encoder, jets), rtol=0, atol=1e-6)
    assert not torch.equal(encoder(tokens).jets, encoder(tokens).jets)
    assert torch.is_grad_enabled() and encoder(tokens).jets.requires_grad


def test_one_thread_may_embed_while_another_trains_with_the_same_encoder(jets):
    encoder = JetEncoder(tiny(encoder__dropout=0.5), seed=2).train()
    tokens = encoder.tokenize(jets)
    expected = encoder.embed(jets)
    ended = threading.Event()

    def train() -> None:
        while not ended.is_set():
            with torch.no_grad():
                encoder(tokens)

    other = threading.Thread(target=train)
    other.start()
    try:
        wrong = sum(not np.array_equal(encoder.embed(jets), expected) for _ in range(500))
    finally:
        ended.set()
        other.join()
    assert wrong == 0
    assert encoder.training


def test_embed_under_autocast_gives_the_encoders_type(jets):
    encoder = JetEncoder(tiny(), seed=2)
    plain = encoder.embed(jets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder.embed(jets)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - plain).max() < 0.1 * np.abs(plain).max()


def test_one_jet_at_a_time_is_all_jets_at_once(jets):
    encoder = rino.JetEncoder.preset("nano", seed=1)
    alone = np.concatenate([encoder.embed(jets[j]) for j in range(len(jets))])
    np.testing.assert_allclose(alone, encoder.embed(jets), rtol=0, atol=2e-6)
