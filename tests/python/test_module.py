"""`JetEncoder` and `ProjectionHead` as `torch.nn.Module`s: PyTorch needs no special care of them."""

from __future__ import annotations

import copy
import errno
import io
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from helpers import assert_same_weights, small_jets, tiny

import pyrino as rino
from pyrino import JetEncoder, ProjectionHead, RinoError, Tokens


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return rino.tokenize(small_jets(8), [2, "all"])


def encoder_of(seed: int | None = 1, **numbers: object) -> JetEncoder:
    return JetEncoder(tiny(**numbers), seed=seed)


def embed(encoder: torch.nn.Module, tokens: Tokens) -> torch.Tensor:
    with torch.no_grad():
        return encoder.eval()(tokens).jets


# --- the tree of parameters ---


def test_parameters_have_the_names_of_the_tree():
    block = ["norm1", "attention.qkv", "attention.out", "norm2", "linear1", "linear2"]
    modules = ["embedding", "class_token", *(f"blocks.{i}.{m}" for i in range(2) for m in block), "norm"]
    expected = [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]
    encoder = encoder_of()
    assert [name for name, _ in encoder.named_parameters()] == expected
    assert list(encoder.state_dict()) == expected
    assert all(isinstance(p, torch.nn.Parameter) and p.is_leaf for p in encoder.parameters())
    assert list(encoder.buffers()) == []
    head = ProjectionHead(tiny(bottleneck=3), seed=1)
    assert [name for name, _ in head.named_parameters()] == [
        "hidden.0.weight",
        "hidden.0.bias",
        "bottleneck.weight",
        "bottleneck.bias",
        "prototypes.weight",
    ]


def test_repr_shows_the_sizes():
    assert "width 8, heads 2, layers 2" in repr(encoder_of())
    assert "8 -> 4 prototypes" in repr(ProjectionHead(tiny(), seed=0))


def test_a_seed_fixes_the_initial_values(tokens):
    assert_same_weights(encoder_of(4), encoder_of(4))
    assert not torch.equal(encoder_of(4).embedding.weight, encoder_of(5).embedding.weight)
    assert_same_weights(ProjectionHead(tiny(), seed=4), ProjectionHead(tiny(), seed=4))


def test_without_a_seed_torchs_generator_decides():
    torch.manual_seed(8)
    one, two = encoder_of(None), encoder_of(None)
    after = torch.rand(3)
    torch.manual_seed(8)
    assert_same_weights(one, encoder_of(None))
    assert_same_weights(two, encoder_of(None))
    assert torch.equal(after, torch.rand(3))
    assert not torch.equal(one.embedding.weight, two.embedding.weight)


def test_encoders_do_not_share(tokens):
    one, other = encoder_of(1), encoder_of(1)
    before = embed(other, tokens)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(2)
    assert torch.equal(embed(other, tokens), before)
    assert not torch.equal(embed(one, tokens), before)
    assert torch.equal(embed(other, tokens), before)


def test_the_recipe_of_an_encoder_is_its_own():
    recipe = tiny()
    encoder = JetEncoder(recipe, seed=0)
    recipe.encoder.width = 16
    assert encoder.recipe.encoder.width == 8 and encoder.width == 8


# --- gradients and optimisers ---


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.LBFGS])
def test_torchs_optimisers_train_it(tokens, optimizer):
    model = torch.nn.Sequential(encoder_of(encoder__dropout=0.0), torch.nn.Flatten())
    encoder = model[0]
    target = torch.randn(len(tokens), 8, generator=torch.Generator().manual_seed(0))
    stepper = optimizer(model.parameters(), lr=0.05)

    def closure() -> torch.Tensor:
        stepper.zero_grad()
        loss = (encoder(tokens).jets - target).square().mean()
        loss.backward()
        return loss

    first = closure().item()
    before = embed(encoder, tokens)
    for _ in range(8):
        stepper.step(closure)
    assert not torch.equal(embed(encoder, tokens), before)
    assert closure().item() < 0.9 * first


def as_double(tokens: Tokens, features: torch.Tensor, whole: torch.Tensor) -> Tokens:
    """The first view's sequences with other features [T, F] and jet features."""
    lengths = (tokens.offsets[1:] - tokens.offsets[:-1]).tolist()
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.bool)
    for s, length in enumerate(lengths):
        mask[s, :length] = True
    padded = torch.zeros(*mask.shape, features.shape[1], dtype=torch.float64).index_put((mask,), features)
    return Tokens.from_padded(padded, mask, whole)


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"encoder__class_token": "learned", "jets__features": "relative"},
        {"encoder__heads": 1, "encoder__width": 20, "encoder__feedforward": 3},  # torch's fused attention
    ],
)
def test_gradients_of_encoder_and_head_are_finite_differences(numbers):
    jets = rino.toy_jets(3, 4, multiplicity_mean=9, multiplicity_std=1)
    recipe = tiny(encoder__layers=1, encoder__dropout=0.0, head__hidden_width=5, head__bottleneck=3, **numbers)
    encoder, head = JetEncoder(recipe, seed=1).double(), ProjectionHead(recipe, seed=1).double()
    with torch.no_grad():  # the head starts with scores near equal
        for parameter in head.parameters():
            parameter.mul_(20)
    tokens = encoder.tokenize(jets, ["all"])
    names = [f"e.{name}" for name, _ in encoder.named_parameters()]
    names += [f"h.{name}" for name, _ in head.named_parameters()]

    def scores(features: torch.Tensor, whole: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, values, strict=True))
        parts = {letter: {name[2:]: v for name, v in state.items() if name.startswith(letter)} for letter in "eh"}
        z = torch.func.functional_call(encoder, parts["e"], (as_double(tokens, features, whole),))
        cosines = torch.func.functional_call(head, parts["h"], (z.jets,))
        return torch.cat([cosines.flatten(), z.constituents.mean(1)])

    inputs = [tokens.features, tokens.jet_features, *encoder.parameters(), *head.parameters()]
    inputs = [value.detach().clone().requires_grad_() for value in inputs]
    if "encoder__class_token" in numbers:
        inputs[1].requires_grad_(False)
    # fast mode: random directions of every input, instead of each number of it
    assert torch.autograd.gradcheck(scores, inputs, eps=1e-6, atol=1e-8, rtol=1e-5, fast_mode=True)


def test_backward_twice_adds_up_and_zero_grad_clears(tokens):
    encoder = encoder_of(encoder__dropout=0.0)
    encoder(tokens).jets.square().sum().backward()
    once = encoder.embedding.weight.grad.clone()
    encoder(tokens).jets.square().sum().backward()
    torch.testing.assert_close(encoder.embedding.weight.grad, 2 * once)
    encoder.zero_grad()
    assert all(p.grad is None for p in encoder.parameters())


def test_two_forward_passes_may_share_one_backward(tokens):
    encoder = encoder_of(encoder__dropout=0.0)
    one, two = encoder(tokens).jets, encoder(tokens).jets
    (one.square().sum() + two.square().sum()).backward()
    both = encoder.embedding.weight.grad.clone()
    encoder.zero_grad()
    encoder(tokens).jets.square().sum().backward()
    torch.testing.assert_close(both, 2 * encoder.embedding.weight.grad)


def test_frozen_parameters_get_no_gradient(tokens):
    encoder = encoder_of()
    encoder.requires_grad_(False)
    assert not encoder(tokens).jets.requires_grad
    encoder.norm.requires_grad_(True)
    encoder(tokens).jets.sum().backward()
    with_gradient = [name for name, p in encoder.named_parameters() if p.grad is not None]
    assert with_gradient == ["norm.weight", "norm.bias"]


def test_no_grad_and_inference_mode(tokens):
    encoder = encoder_of().eval()
    with torch.inference_mode():
        inferred = encoder(tokens).jets
    assert inferred.is_inference() and torch.equal(inferred, embed(encoder, tokens))
    assert encoder(tokens).jets.requires_grad


def test_autocast_to_bfloat16_trains(tokens):
    encoder = encoder_of(encoder__dropout=0.0)
    full = encoder(tokens).jets
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(tokens).jets
    assert float((half.float() - full).detach().abs().max()) < 0.1  # of values of order 1, 8 bits of mantissa
    half.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in encoder.parameters())


# --- state ---


@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict_exchanges_all_values(tokens, assign):
    source, target = encoder_of(1), encoder_of(2)
    embed(target, tokens)  # the C++ side has seen the old tensors
    assert target.load_state_dict(source.state_dict(), assign=assign).missing_keys == []
    assert torch.equal(embed(target, tokens), embed(source, tokens))
    assert_same_weights(source, target)


def test_load_state_dict_is_strict():
    state = encoder_of(1).state_dict()
    state["blocks.0.linear3.weight"] = state.pop("blocks.0.linear1.weight")
    with pytest.raises(RuntimeError, match=r"Missing key.*linear1[\s\S]*Unexpected key.*linear3"):
        encoder_of(2).load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        encoder_of(2, encoder__width=16).load_state_dict(encoder_of(1).state_dict())


def test_moving_to_double_and_back(tokens):
    encoder = encoder_of()
    single = embed(encoder, tokens)
    double = embed(encoder.to(torch.float64), tokens)
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-5)
    assert torch.equal(embed(encoder.float(), tokens), single)
    assert encoder.dtype == torch.float32 and encoder.device == torch.device("cpu")


def test_a_type_that_tokens_cannot_have_is_refused(tokens):
    with pytest.raises(RinoError, match="bfloat16"):
        encoder_of().to(torch.bfloat16)(tokens)


def test_blocks_are_a_list(tokens):
    encoder = JetEncoder(tiny(**{"encoder.layers": 3}), seed=1)
    assert len(encoder.blocks) == 3 and isinstance(encoder.blocks, torch.nn.ModuleList)
    assert encoder.blocks[0] is encoder.get_submodule("blocks.0") and encoder.blocks[-1] is list(encoder.blocks)[2]
    assert [block is encoder.blocks[1 + i] for i, block in enumerate(encoder.blocks[1:])] == [True, True]
    assert encoder.blocks[0].attention.qkv.weight is encoder.state_dict(keep_vars=True)["blocks.0.attention.qkv.weight"]
    encoder.blocks[0].requires_grad_(False)
    encoder(tokens).jets.square().sum().backward()
    assert {name.split(".")[1] for name, p in encoder.named_parameters() if name[0] == "b" and p.grad is None} == {"0"}
    head = ProjectionHead(tiny(**{"head.hidden_layers": 2}), seed=1)
    assert isinstance(head.hidden, torch.nn.ModuleList) and head.hidden[1].weight is head.get_parameter(
        "hidden.1.weight"
    )


def test_parts_are_not_modules_of_their_own(tokens):
    """As JetEncoder's documentation says: they hold parameters, the whole is computed in C++."""
    encoder = encoder_of()
    fired = []
    encoder.blocks[0].register_forward_hook(lambda *_: fired.append("part"))
    encoder.register_forward_hook(lambda *_: fired.append("whole"))
    encoder(tokens)
    assert fired == ["whole"]
    with pytest.raises(RinoError, match="cannot be called: it is computed in C\\+\\+ as a whole"):
        encoder.blocks[0](torch.zeros(1))


@pytest.mark.parametrize("make", [encoder_of, lambda: ProjectionHead(tiny(), seed=1)], ids=["encoder", "head"])
def test_deepcopy_and_pickle_give_independent_equals(tokens, make):
    module = make().double().eval()
    argument = tokens if isinstance(module, JetEncoder) else torch.randn(4, 8, dtype=torch.float64)

    def output(m: torch.nn.Module) -> torch.Tensor:
        out = m(argument)
        return out if isinstance(out, torch.Tensor) else out.jets

    wanted = output(module)
    wanted.square().sum().backward()
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(stream, weights_only=False),
    ]
    for duplicate in copies:
        assert_same_weights(module, duplicate)
        assert duplicate.recipe == module.recipe and duplicate.training is False
        assert torch.equal(output(duplicate), wanted)
        with torch.no_grad():
            next(duplicate.parameters()).add_(1)
        assert not torch.equal(output(duplicate), wanted)
        assert torch.equal(output(module), wanted)


def test_state_dict_through_torch_save(tokens, tmp_path):
    encoder = encoder_of(1)
    torch.save(encoder.state_dict(), tmp_path / "state.pt")
    other = encoder_of(2)
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(embed(other, tokens), embed(encoder, tokens))


# --- modes ---


def test_dropout_acts_in_training_and_follows_torchs_seed(tokens):
    encoder = encoder_of(encoder__dropout=0.3).train()

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return encoder(tokens).jets.detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    quiet = embed(encoder, tokens)
    assert torch.equal(quiet, embed(encoder, tokens))
    assert not torch.equal(encoder.train()(tokens).jets, quiet)
    assert torch.equal(encoder.eval()(tokens).jets, quiet)


def test_dropout_zeroes_a_share_and_scales_up_the_rest():
    """A network that is LayerNorm(a + dropout(b)): its output must be that of one of the 2^4 masks."""
    keep = 0.7
    recipe = tiny(**{"encoder.width": 4, "encoder.layers": 1, "encoder.dropout": 1 - keep})
    encoder = JetEncoder(recipe, seed=1).double().train()
    a, b = torch.tensor([[0.3, -1.0, 2.0, 0.5], [1.0, 0.4, -0.7, 1.5]], dtype=torch.float64)
    with torch.no_grad():
        for module in (encoder.class_token, encoder.blocks.get_submodule("0.linear2")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
        encoder.class_token.bias.copy_(a)
        out = encoder.blocks.get_submodule("0.attention.out")
        torch.nn.init.zeros_(out.weight)
        out.bias.copy_(b)
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    possible = torch.nn.functional.layer_norm(a + masks * b / keep, (4,))
    torch.manual_seed(3)
    jets = encoder(encoder.tokenize(small_jets(500))).jets.detach()
    found = (jets[:, None] - possible).abs().amax(2)
    assert found.min(1).values.max() < 1e-12
    kept = masks[found.argmin(1)].mean(0)
    assert (kept - keep).abs().max() < 0.08  # four deviations of 500 draws


def test_without_dropout_training_changes_nothing(tokens):
    encoder = encoder_of(encoder__dropout=0.0)
    assert torch.equal(encoder.train()(tokens).jets, encoder.eval()(tokens).jets)


# --- hooks and other ways to call ---


def test_hooks_of_the_module_fire(tokens):
    encoder = encoder_of().eval()
    seen = []
    handles = [
        encoder.register_forward_pre_hook(lambda module, arguments: seen.append(("before", arguments[0]))),
        encoder.register_forward_hook(lambda module, arguments, output: seen.append(("after", output.jets))),
    ]
    jets = encoder(tokens).jets
    assert [name for name, _ in seen] == ["before", "after"] and seen[0][1] is tokens and seen[1][1] is jets
    for handle in handles:
        handle.remove()
    encoder.register_forward_hook(lambda module, arguments, output: output._replace(jets=output.jets * 2))
    torch.testing.assert_close(encoder(tokens).jets, 2 * jets)
    assert len(seen) == 2


def test_hooks_of_gradients_fire(tokens):
    encoder, head = encoder_of(encoder__dropout=0.0), ProjectionHead(tiny(), seed=1)
    shapes = {}
    encoder.embedding.weight.register_hook(lambda gradient: shapes.update(weight=gradient.shape))
    head.register_full_backward_hook(
        lambda module, inputs, outputs: shapes.update(input=inputs[0].shape, output=outputs[0].shape)
    )
    encoder.blocks.get_parameter("0.linear1.bias").register_post_accumulate_grad_hook(
        lambda parameter: shapes.update(bias=parameter.grad.shape)
    )
    head(encoder(tokens).jets).sum().backward()
    assert shapes == {"weight": (8, 11), "bias": (16,), "input": (16, 8), "output": (16, 4)}


def test_functional_call_uses_the_given_tensors_once(tokens):
    encoder = encoder_of(1).eval()
    other = encoder_of(2).eval()
    mine = embed(encoder, tokens)
    called = torch.func.functional_call(encoder, dict(other.named_parameters()), (tokens,)).jets
    assert torch.equal(called, embed(other, tokens))
    assert torch.equal(embed(encoder, tokens), mine)
    called.sum().backward()
    assert other.embedding.weight.grad is not None and encoder.embedding.weight.grad is None


def test_a_parameter_may_be_replaced_or_parametrised(tokens):
    encoder, other = encoder_of(1), encoder_of(1)
    with torch.no_grad():
        other.embedding.weight.mul_(3)
    wanted = embed(other, tokens)
    encoder.embedding.weight = torch.nn.Parameter(encoder.embedding.weight.detach() * 3)
    assert torch.equal(embed(encoder, tokens), wanted)

    class Triple(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x

    third = encoder_of(1)
    torch.nn.utils.parametrize.register_parametrization(third.embedding, "weight", Triple())
    assert torch.equal(embed(third, tokens), wanted)


def test_a_parameter_of_another_shape_is_refused(tokens):
    encoder = encoder_of()
    encoder.norm.weight = torch.nn.Parameter(torch.ones(9))
    with pytest.raises(RinoError, match=r"'norm\.weight' has shape \[9\] but it was made with \[8\]"):
        encoder(tokens)


def test_a_parameter_that_is_refused_leaves_no_trace(tokens):
    encoder = encoder_of(1)
    wanted = embed(encoder, tokens)
    before = encoder.embedding.weight, encoder.norm.weight
    encoder.embedding.weight = torch.nn.Parameter(5 * before[0].detach())
    encoder.norm.weight = torch.nn.Parameter(torch.ones(9))
    with pytest.raises(RinoError, match="has shape"):
        encoder(tokens)
    encoder.embedding.weight, encoder.norm.weight = before
    assert torch.equal(embed(encoder, tokens), wanted)
    wrong = {"embedding.weight": 5 * before[0], "norm.weight": torch.ones(9)}
    with pytest.raises(RinoError, match="has shape"):
        torch.func.functional_call(encoder, wrong, (tokens,))
    assert torch.equal(embed(encoder, tokens), wanted)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_data_of_another_shape_is_refused_whatever_parameter_is_given_it(kernels):
    """`p.data = ...` leaves the parameter the same object: nobody is told."""
    jets = small_jets(5)
    encoder = JetEncoder(tiny(encoder__width=16), seed=1)
    encoder.kernels = kernels
    tokens = encoder.tokenize(jets)
    encoder(tokens), encoder.embed(jets)  # the C++ modules hold the parameters from now on
    for name, parameter in encoder.named_parameters():
        before = parameter.data
        for other in (torch.zeros(1), before.reshape(-1, 1, 1)):
            parameter.data = other
            with pytest.raises(RinoError, match=f"'{re.escape(name)}' has shape"):
                encoder(tokens)
            with pytest.raises(RinoError, match="has shape"):
                encoder.embed(jets)
        parameter.data = before
    assert encoder(tokens).jets.shape == (5, 16)


def test_it_may_be_part_of_a_larger_module(tokens):
    model = torch.nn.ModuleDict({"encoder": encoder_of(1), "head": ProjectionHead(tiny(), seed=1)})
    assert "encoder.blocks.1.attention.qkv.weight" in model.state_dict()
    model.double().eval()
    assert model["head"](model["encoder"](tokens).jets).dtype == torch.float64
    assert not model["encoder"].training
    duplicate = copy.deepcopy(model)
    assert torch.equal(embed(duplicate["encoder"], tokens), embed(model["encoder"], tokens))


def test_clipping_and_parameter_vectors_of_torch_work(tokens):
    encoder = encoder_of(encoder__dropout=0.0)
    encoder(tokens).jets.pow(2).sum().backward()
    encoder(tokens).jets.pow(3).sum().backward()
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 0.5)
    norm = torch.stack([p.grad.norm() for p in encoder.parameters()]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)
    vector = torch.nn.utils.parameters_to_vector(encoder.parameters())
    before = embed(encoder, tokens)
    torch.nn.utils.vector_to_parameters(1.5 * vector, encoder.parameters())
    assert not torch.equal(embed(encoder, tokens), before)


def test_averaged_model_of_torch_follows(tokens):
    encoder = encoder_of(1)
    average = torch.optim.swa_utils.AveragedModel(encoder)
    average.update_parameters(encoder)
    with torch.no_grad():
        for p in encoder.parameters():
            p.zero_()
    average.update_parameters(encoder)
    torch.testing.assert_close(average.module.embedding.weight, encoder_of(1).embedding.weight / 2)


# --- files ---


def test_saved_encoders_come_back(tokens, tmp_path):
    encoder = JetEncoder(tiny(features="relative", boost_to_pt=500), seed=1)
    encoder.save(tmp_path / "new" / "encoder.safetensors")
    for place in (tmp_path / "new", tmp_path / "new" / "encoder.safetensors", str(tmp_path / "new")):
        again = JetEncoder.load(place)
        assert again.recipe == encoder.recipe
        assert not again.training and not any(module.training for module in again.modules())
        assert_same_weights(encoder, again)
    jets = small_jets(5)
    np.testing.assert_array_equal(again.embed(jets), encoder.embed(jets))
    assert os.listdir(tmp_path / "new") == ["encoder.safetensors"]


def test_a_double_encoder_stays_double_on_disk(tmp_path):
    encoder = encoder_of(1).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1e-12)
    encoder.save(tmp_path / "e.safetensors")
    again = JetEncoder.load(tmp_path / "e.safetensors")
    assert again.dtype == torch.float64
    assert_same_weights(encoder, again)


def test_other_tools_read_the_weights(tmp_path):
    encoder = encoder_of(1)
    encoder.save(tmp_path / "e.safetensors")
    tensors = safetensors.torch.load_file(tmp_path / "e.safetensors")
    assert list(tensors) and tensors.keys() == encoder.state_dict().keys()
    assert all(torch.equal(tensors[name], value) for name, value in encoder.state_dict().items())
    with safetensors.safe_open(tmp_path / "e.safetensors", "np") as file:
        assert rino.Recipe.from_json(file.metadata()["recipe"]) == encoder.recipe
        assert file.metadata()["kind"] == "encoder"


def test_files_that_are_no_encoder_are_refused(tmp_path):
    with pytest.raises(RinoError, match=r"there are no weights at .*nowhere"):
        JetEncoder.load(tmp_path / "nowhere")
    with pytest.raises(RinoError, match=r"encoder\.safetensors"):
        JetEncoder.load(tmp_path)
    whole = tmp_path / "e.safetensors"
    encoder_of(1).save(whole)
    data = whole.read_bytes()
    for name, damaged in {"short": data[:-100], "head": data[:50], "empty": b"", "foreign": b"PAR1" * 300}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(RinoError, match=f"{name} cannot be read as safetensors"):
            JetEncoder.load(tmp_path / name)
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(RinoError, match="plain holds no recipe"):
        JetEncoder.load(tmp_path / "plain")


def test_weights_that_do_not_fit_their_recipe_are_named(tmp_path):
    state = encoder_of(1).state_dict()
    recipe = {"recipe": tiny(encoder__width=16).to_json()}
    safetensors.torch.save_file(state, tmp_path / "wide", recipe)
    with pytest.raises(RinoError, match=r"'embedding\.weight' in .*wide has shape \[8, 11\], not \[16, 11\]"):
        JetEncoder.load(tmp_path / "wide")
    del state["norm.bias"]
    safetensors.torch.save_file(state, tmp_path / "less", {"recipe": tiny().to_json()})
    with pytest.raises(RinoError, match=r"less has no 'norm\.bias'"):
        JetEncoder.load(tmp_path / "less")


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_a_full_disk_leaves_the_earlier_file_whole(tmp_path, monkeypatch, fails):
    path = tmp_path / "e.safetensors"
    encoder_of(1).save(path)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(RinoError, match="No space left on device: make room"):
        patch.setattr(os, fails, full)
        encoder_of(2).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in Path(tmp_path).iterdir()] == ["e.safetensors"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RinoError, match=r"file/e.safetensors cannot be written: .*another place"):
        encoder_of(1).save(tmp_path / "file" / "e.safetensors")


def test_kernels_can_be_chosen_and_agree(tokens):
    encoder = rino.JetEncoder.preset("nano", seed=3).eval()
    assert encoder.kernels == "auto"
    results = {}
    for kernels in ("auto", "fused", "reference"):
        encoder.kernels = kernels
        results[kernels] = encoder(tokens).jets
    torch.testing.assert_close(results["fused"], results["reference"], rtol=1e-5, atol=1e-5)
    assert torch.equal(results["auto"], results["fused"])
    assert not torch.equal(results["fused"], results["reference"])  # another order of sums: it was another code
    assert copy.deepcopy(encoder).kernels == "reference"
    assert pickle.loads(pickle.dumps(encoder)).kernels == "reference"
    with pytest.raises(rino.RinoError, match="'auto', 'fused', 'reference'"):
        encoder.kernels = "quick"


def test_second_derivatives_need_the_reference_kernels(tokens):
    encoder = rino.JetEncoder.preset("nano", seed=3).eval()

    def gradient_of_a_gradient():
        (first,) = torch.autograd.grad(encoder(tokens).jets.square().sum(), encoder.norm.weight, create_graph=True)
        return torch.autograd.grad(first.square().sum(), encoder.embedding.weight)[0]

    with pytest.raises(RuntimeError, match="kernels = 'reference'"):
        gradient_of_a_gradient()
    encoder.kernels = "reference"
    assert gradient_of_a_gradient().abs().max() > 0
