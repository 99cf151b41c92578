"""Tokens and networks: features against NumPy, encoder and head against PyTorch's own modules, no padding anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import ReferenceEncoder, ReferenceHead, small_jets, tiny
from torch import nn

import pyrino as rino
from pyrino import Jets, RinoError, Tokens

# (mean, standard deviation) as ../shared/recipes.md tabulates them: px, py, pz, E, log pT, log E, log pT/pT_jet,
# log E/E_jet, dR, deta, dphi; and log E, log pT, eta, phi of the jet
NORMALISATION = {
    "workshop": (
        [(0, 25)] * 4 + [(1.5, 1.5), (1.5, 1.5), (-4.5, 1.5), (-5, 1.5), (0.3, 0.2), (0, 0.3), (0, 0.3)],
        [(7, 1), (6.5, 0.5), (0, 2), (0, math.pi)],
    ),
    "production": (
        [(0, 25)] * 4 + [(1.7, 1.8), (2.0, 1.8), (-4.7, 1.8), (-4.7, 1.8), (0.14, 0.25), (0, 0.14), (0, 0.14)],
        [(6.7, 0.5), (6.4, 0.25), (0, 1.3), (0, math.pi)],
    ),
}
PICKED = {"full": slice(0, 11), "logarithmic": slice(4, 11), "relative": slice(6, 11)}
ENCODERS = {"nano": 51_424, "lite": 201_152, "mini": 1_192_064, "base": 4_743_424}
HEADS = {"nano": 6_272, "lite": 24_832, "mini": 98_816, "base": 394_240}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# --- features ---


def boosted(p4: np.ndarray, reference: float) -> np.ndarray:
    """The constituents of one jet after the boost along its axis: |p| -> |p| reference / pT at fixed mass."""
    px, py, pz, energy = p4.sum(0)
    momentum = math.sqrt(px**2 + py**2 + pz**2)
    mass = math.sqrt(energy**2 - momentum**2)
    axis = np.array([px, py, pz]) / momentum
    target = momentum * reference / math.hypot(px, py)
    rapidity = math.asinh(target / mass) - math.asinh(momentum / mass)
    along = p4[:, :3] @ axis
    new_along = math.cosh(rapidity) * along + math.sinh(rapidity) * p4[:, 3]
    new_energy = math.cosh(rapidity) * p4[:, 3] + math.sinh(rapidity) * along
    return np.column_stack([p4[:, :3] + (new_along - along)[:, None] * axis, new_energy])


def pt_eta_phi(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pt = np.hypot(p[..., 0], p[..., 1])
    return pt, np.arcsinh(p[..., 2] / pt), np.arctan2(p[..., 1], p[..., 0])


def expected_features(view: np.ndarray, jet: np.ndarray, normalisation: str) -> tuple[np.ndarray, np.ndarray]:
    """[N, 11] of the subjets `view` [N, 4] of a jet with the four-momentum `jet`, and the jet's own [4]."""
    tokens, whole = (np.array(table).T for table in NORMALISATION[normalisation])
    pt, eta, phi = pt_eta_phi(view)
    jet_pt, jet_eta, jet_phi = pt_eta_phi(jet)
    _, axis_eta, axis_phi = pt_eta_phi(view.sum(0))
    d_eta = eta - axis_eta
    d_phi = (phi - axis_phi + math.pi) % (2 * math.pi) - math.pi
    log_pt, log_e = np.log(pt), np.log(view[:, 3])
    columns = [*view.T, log_pt, log_e, log_pt - np.log(jet_pt), log_e - np.log(jet[3])]
    features = np.column_stack([*columns, np.hypot(d_eta, d_phi), d_eta, d_phi])
    jet_features = np.array([np.log(jet[3]), np.log(jet_pt), jet_eta, jet_phi])
    return (features - tokens[0]) / tokens[1], (jet_features - whole[0]) / whole[1]


@pytest.mark.parametrize("normalisation", NORMALISATION)
@pytest.mark.parametrize("features", PICKED)
@pytest.mark.parametrize(
    ("hardest", "reference_pt", "relative_to"),
    [(0, 0, "jet"), (10, 0, "jet"), (0, 750.0, "jet"), (7, 400.0, "jet"), (10, 0, "kept"), (7, 400.0, "kept")],
)
def test_features_follow_the_recipes_table(features, normalisation, hardest, reference_pt, relative_to):
    jets = rino.toy_jets(12, 5, radius=1.6, multiplicity_mean=12, multiplicity_std=5, multiplicity_max=24)
    recipe = rino.Recipe(
        features=features,
        normalization=normalisation,
        max_constituents=hardest,
        boost_to_pt=reference_pt,
        relative_to=relative_to,
    )
    tokens = rino.tokenize(jets, [1, 3, "all"], recipe, "float64")

    prepared, whole_jets = [], []
    for jet in jets:
        p4 = np.array(jet.p4)
        kept = np.argsort(-np.hypot(p4[:, 0], p4[:, 1]), kind="stable")[: hardest or None]
        if not hardest:
            kept = np.arange(len(p4))
        if relative_to == "kept":  # the others are forgotten at once
            p4, kept = p4[kept], np.arange(len(kept))
        p4 = boosted(p4, reference_pt) if reference_pt else p4
        prepared.append(p4[kept])
        whole_jets.append(p4.sum(0))
    offsets = np.cumsum([0, *map(len, prepared)])
    views = rino.ViewGenerator([1, 3, "all"])(Jets(np.concatenate(prepared), offsets))
    assert not np.allclose(views[0].pt, views[2].pt)  # so wide that something merged with the beam
    for v, view in enumerate(views):
        for j, s in enumerate(tokens.rows(v).tolist()):
            mine = tokens.features[tokens.offsets[s] : tokens.offsets[s + 1]].numpy()
            wanted, whole = expected_features(view[j].p4, whole_jets[j], normalisation)
            # the boost goes another way here than in the library, and 1e-9 GeV of 1 TeV is a relative 1e-12
            np.testing.assert_allclose(mine, wanted[:, PICKED[features]], rtol=0, atol=2e-9)
            np.testing.assert_allclose(tokens.jet_features[s].numpy(), whole, rtol=0, atol=1e-11)


def test_float32_tokens_are_the_float64_ones_rounded(toy):
    double = rino.tokenize(toy, [2, "all"], dtype="float64")
    single = rino.tokenize(toy, [2, "all"], dtype="float32")
    assert double.features.dtype == torch.float64 and single.features.dtype == torch.float32
    assert torch.equal(double.features.float(), single.features)
    assert torch.equal(double.jet_features.float(), single.jet_features)


def test_delta_phi_is_the_short_way_round():
    angles = np.array([math.pi - 0.05, -math.pi + 0.05])
    p4 = 50 * np.column_stack([np.cos(angles), np.sin(angles), [0, 0], [1, 1]])
    tokens = rino.tokenize(Jets(p4, [0, 2]), dtype="float64")
    np.testing.assert_allclose(tokens.features[:, 10].numpy() * 0.3, [-0.05, 0.05], atol=1e-12)
    np.testing.assert_allclose(tokens.features[:, 8].numpy() * 0.2 + 0.3, 0.05, atol=1e-12)


def test_a_constituent_along_the_beam_has_finite_features_and_embeddings():
    p4 = np.array([[0, 0, 5.0, 5.0], [30, 40, 10, 51], [0, 0, -1e-3, 1e-3]])
    jets = Jets(p4, [0, 3])
    assert torch.isfinite(rino.tokenize(jets, [1, "all"]).features).all()
    assert np.isfinite(rino.JetEncoder.preset("nano", seed=1).embed(jets)).all()


def test_tokens_say_which_view_and_jet_a_sequence_is():
    jets = small_jets(9)
    tokens = rino.tokenize(jets, [2, "all"])
    assert len(tokens) == 18
    assert tokens.view.tolist() == [0] * 9 + [1] * 9
    assert tokens.jet.tolist() == [*range(9), *range(9)]
    for v, view in enumerate(rino.ViewGenerator([2, "all"])(jets)):
        rows = tokens.rows(v)
        assert rows.tolist() == list(range(9 * v, 9 * v + 9))
        assert tokens.view[rows].tolist() == [v] * 9
        assert tokens.jet[rows].tolist() == list(range(9))
        lengths = (tokens.offsets[1:] - tokens.offsets[:-1])[rows]
        assert lengths.tolist() == view.multiplicity.tolist()
    for view in (2, -1):
        with pytest.raises(RinoError, match=f"view {view} was asked for, of 2"):
            tokens.rows(view)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("preset", ["nano", "rino"])
def test_what_an_encoder_gives_stands_beside_the_labels_of_its_jets(kernels, preset):
    """A loop of one's own: `encoder(tokens).jets[i]` and `tagger(tokens)[i]` are jet i's."""
    jets = small_jets(30)
    small = {"encoder.width": 32, "encoder.heads": 4, "encoder.layers": 2, "encoder.feedforward": 32}
    encoder = rino.JetEncoder(rino.Recipe.preset(preset, **small), seed=3).double().eval()
    encoder.kernels = kernels
    tagger = rino.Tagger(encoder, "mlp", seed=4).eval()
    tokens = encoder.tokenize(jets)
    lengths = np.diff(tokens.offsets.numpy())
    assert not np.array_equal(lengths, np.sort(lengths))
    with torch.no_grad():
        z, constituents = encoder(tokens)
        logits = tagger(tokens).numpy()
        for i in range(len(jets)):
            alone = encoder(encoder.tokenize(jets[i : i + 1]))
            np.testing.assert_allclose(z[i], alone.jets[0], rtol=0, atol=1e-12)
            rows = constituents[tokens.offsets[i] : tokens.offsets[i + 1]]
            np.testing.assert_allclose(rows, alone.constituents, rtol=0, atol=1e-12)
    np.testing.assert_allclose(encoder.embed(jets), z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(tagger.predict(jets), 1 / (1 + np.exp(-logits)), rtol=0, atol=1e-12)


def test_tokens_do_not_depend_on_threads(toy):
    one = rino.tokenize(toy, [1, 8, "all"], threads=1)
    three = rino.tokenize(toy, [1, 8, "all"], threads=3)
    assert torch.equal(one.features, three.features) and torch.equal(one.jet, three.jet)


def test_padding_and_back_gives_the_same_tokens(toy):
    tokens = rino.tokenize(toy[:10], ["all"], dtype="float64")
    padded, mask = tokens.padded()
    lengths = tokens.offsets[1:] - tokens.offsets[:-1]
    assert padded.shape == (10, int(lengths.max()), 11) and mask.dtype == torch.bool
    assert torch.equal(mask.sum(1), lengths)
    assert torch.equal(padded[~mask], torch.zeros(int((~mask).sum()), 11, dtype=torch.float64))
    padded[~mask] = math.nan  # whatever stands in the padding is never looked at
    again = Tokens.from_padded(padded, mask, tokens.jet_features)
    assert torch.equal(again.features, tokens.features)
    assert torch.equal(again.offsets, tokens.offsets)
    assert again.jet.tolist() == list(range(10))


def test_padded_input_that_does_not_fit_is_refused():
    features, mask, whole = torch.zeros(2, 3, 11), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4)
    with pytest.raises(RinoError, match="dimensions: give"):
        Tokens.from_padded(features[0], mask, whole)
    with pytest.raises(RinoError, match="do not fit"):
        Tokens.from_padded(features, mask[:, :2], whole)
    with pytest.raises(RinoError, match="do not fit"):
        Tokens.from_padded(features, mask, whole[:1])
    with pytest.raises(RinoError, match="give bool"):
        Tokens.from_padded(features, mask.float(), whole)
    mask[1] = False
    with pytest.raises(RinoError, match="sequence 1 of the mask has no token"):
        Tokens.from_padded(features, mask, whole)


def test_wrong_arguments_of_tokenize_are_refused(toy):
    with pytest.raises(RinoError, match=r"give pyrino\.Jets"):
        rino.tokenize(toy.p4)
    with pytest.raises(RinoError, match="float16"):
        rino.tokenize(toy, dtype="float16")
    with pytest.raises(RinoError, match="threads"):
        rino.tokenize(toy, threads=0)
    with pytest.raises(RinoError, match="0"):
        rino.tokenize(toy, [0])
    with pytest.raises(RinoError, match="max_constituents is -1"):
        rino.tokenize(toy, recipe=rino.Recipe(max_constituents=-1))
    with pytest.raises(RinoError, match="boost_to_pt is -5"):
        rino.tokenize(toy, recipe=rino.Recipe(boost_to_pt=-5))


def test_an_encoder_refuses_tokens_of_another_feature_set(toy):
    encoder = rino.JetEncoder.preset("nano", seed=1)
    with pytest.raises(RinoError, match="takes 11 features"):
        encoder(rino.tokenize(toy[:2], recipe=rino.Recipe(features="relative")))


# --- the encoder is PyTorch's ---


def random_batch(dtype: torch.dtype, inputs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """36 sequences of 1 to 25 tokens, 16 in no order and 20 sorted by length, which the encoder takes as they lie and
    several at once; with gaps in the mask; what is masked is large on purpose.
    """
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(36, generator=generator)
    mask = torch.rand(36, 25, generator=generator) < torch.linspace(0.05, 1.0, 36)[order][:, None]
    mask[:, 4] = True
    mask[16:] = mask[16:][mask[16:].sum(1).argsort()]
    features = torch.randn(36, 25, inputs, generator=generator, dtype=torch.float64)
    features[~mask] = 1e3
    return features.to(dtype), mask, torch.randn(36, 4, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("class_token", ["jet", "learned"])
@pytest.mark.parametrize(
    ("preset", "features"), [("nano", "full"), ("lite", "relative"), ("mini", "logarithmic"), ("base", "full")]
)
@pytest.mark.parametrize("training", [False, True])
def test_encoder_is_torchs_transformer(preset, features, class_token, dtype, tolerance, training):
    recipe = rino.Recipe.preset(
        preset, features=features, class_token=class_token, **{"encoder.dropout": 0.0, "encoder.layers": 3}
    )
    encoder = rino.JetEncoder(recipe, seed=7).to(dtype).train(training)
    reference = ReferenceEncoder(recipe, encoder.state_dict()).train(training)
    padded, mask, whole = random_batch(dtype, encoder.embedding.weight.shape[1])
    jets, constituents = encoder(Tokens.from_padded(padded, mask, whole))
    with torch.no_grad():
        wanted_jets, wanted_constituents = reference(padded, mask, whole)
    torch.testing.assert_close(jets, wanted_jets, rtol=0, atol=tolerance)
    torch.testing.assert_close(constituents, wanted_constituents[mask], rtol=0, atol=tolerance)


@pytest.mark.parametrize("class_token", ["jet", "learned"])
def test_gradients_are_those_of_torchs_transformer(class_token):
    recipe = rino.Recipe(class_token=class_token, **{"encoder.dropout": 0.0})
    encoder = rino.JetEncoder(recipe, seed=7).double()
    reference = ReferenceEncoder(recipe, encoder.state_dict())
    padded, mask, whole = random_batch(torch.float64, 11)
    mine, theirs = padded.clone().requires_grad_(), padded.clone().requires_grad_()
    weight = torch.linspace(-1, 1, 32, dtype=torch.float64)

    jets, constituents = encoder(Tokens.from_padded(mine, mask, whole))
    ((jets * weight).sum() + (constituents * weight**3).sum()).backward()
    jets, constituents = reference(theirs, mask, whole)
    ((jets * weight).sum() + (constituents[mask] * weight**3).sum()).backward()

    torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-11)
    assert not mine.grad[~mask].any()
    wanted = dict(reference.named_parameters())
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[reference.mapping[name]].grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("preset", ["nano", "base"])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_jets_alone_have_the_same_embeddings_and_gradients(preset, layers, dtype, tolerance):
    recipe = rino.Recipe.preset(preset, **{"encoder.layers": layers, "encoder.dropout": 0.0})
    encoder = rino.JetEncoder(recipe, seed=7).to(dtype)
    tokens = Tokens.from_padded(*random_batch(dtype, 11))
    gradients = []
    embeddings = []
    for constituents in (True, False):
        encoder.zero_grad()
        z = encoder(tokens, constituents=constituents)
        assert (z.constituents is None) is not constituents
        (z.jets * torch.linspace(-1, 1, encoder.width, dtype=dtype)).sum().backward()
        embeddings.append(z.jets.detach())
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters()})
    torch.testing.assert_close(*embeddings, rtol=tolerance, atol=tolerance)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=10 * tolerance, atol=100 * tolerance)


def test_no_tokens_have_no_embeddings(toy):
    encoder = rino.JetEncoder.preset("nano", seed=1)
    z = encoder(encoder.tokenize(toy[:0]))
    assert z.jets.shape == (0, 32) and z.constituents.shape == (0, 32)
    assert encoder(encoder.tokenize(toy[:0]), constituents=False).jets.shape == (0, 32)


@pytest.mark.parametrize(("preset", "count"), ENCODERS.items())
def test_encoders_have_the_papers_parameter_counts(preset, count):
    assert parameters(rino.JetEncoder.preset(preset, seed=0)) == count


@pytest.mark.parametrize(("preset", "count"), HEADS.items())
def test_heads_have_the_papers_parameter_counts(preset, count):
    assert parameters(rino.ProjectionHead(rino.Recipe.preset(preset), seed=0)) == count


@pytest.mark.parametrize(("features", "inputs"), [("full", 11), ("logarithmic", 7), ("relative", 5)])
def test_feature_set_sets_the_width_of_the_embedding(features, inputs):
    encoder = rino.JetEncoder(rino.Recipe(features=features, class_token="learned"), seed=0)
    assert encoder.embedding.weight.shape == (32, inputs)
    assert encoder.class_token.token.shape == (1, 32)
    assert parameters(encoder) == 51_424 - 32 * (11 - inputs) - 4 * 32


# --- no padding, no order, no neighbour changes a result ---

# absolute and relative: matrix products of another shape round in another order
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
SIZES = pytest.mark.parametrize("preset", ["nano", "base"])  # base takes torch's fused attention, nano does not


def encoder_of(preset: str, dtype: torch.dtype) -> rino.JetEncoder:
    layers = {"nano": 4, "base": 2}[preset]
    return rino.JetEncoder(rino.Recipe.preset(preset, **{"encoder.layers": layers}), seed=3).to(dtype)


def assert_agree(one: np.ndarray | torch.Tensor, other: np.ndarray | torch.Tensor, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def some(toy) -> Jets:
    return toy[:24]


@DTYPES
@SIZES
def test_a_jet_alone_and_in_a_batch_have_one_embedding(some, preset, dtype):
    encoder = encoder_of(preset, dtype)
    alone = np.concatenate([encoder.embed(some[j : j + 1]) for j in range(len(some))])
    assert_agree(alone, encoder.embed(some), dtype)


@DTYPES
@SIZES
def test_packed_and_padded_agree(some, preset, dtype):
    encoder = encoder_of(preset, dtype).eval()
    tokens = encoder.tokenize(some, [4, "all"])
    padded, mask = tokens.padded()
    more = 5  # slots that no sequence fills
    padded = torch.cat([padded, torch.full((len(tokens), more, 11), 1e6, dtype=dtype)], 1)
    mask = torch.cat([mask, torch.zeros(len(tokens), more, dtype=torch.bool)], 1)
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        jets, constituents = encoder(tokens)
        again = encoder(Tokens.from_padded(padded[order], mask[order], tokens.jet_features[order]))
    assert_agree(again.jets, jets[order], dtype)
    slots = torch.zeros(*mask.shape, encoder.width, dtype=dtype)
    slots[mask] = constituents
    assert_agree(again.constituents, slots[order][mask[order]], dtype)


@DTYPES
@SIZES
def test_the_order_of_constituents_does_not_matter(some, preset, dtype):
    encoder = encoder_of(preset, dtype)
    rng = np.random.default_rng(1)
    bounds = zip(some.offsets[:-1], some.offsets[1:], strict=True)
    rows = np.concatenate([first + rng.permutation(last - first) for first, last in bounds])
    assert_agree(encoder.embed(Jets(some.p4[rows], some.offsets)), encoder.embed(some), dtype)


@DTYPES
@SIZES
def test_the_order_of_jets_is_the_order_of_embeddings(some, preset, dtype):
    encoder = encoder_of(preset, dtype)
    order = np.random.default_rng(2).permutation(len(some))
    assert_agree(encoder.embed(some[order]), encoder.embed(some)[order], dtype)


@DTYPES
@SIZES
@pytest.mark.filterwarnings("ignore:jet 0 has pT")
def test_a_jet_of_huge_momentum_changes_nobody_else(some, preset, dtype):
    encoder = encoder_of(preset, dtype)
    n = int(some.offsets[1])
    huge = Jets(np.concatenate([some.p4[:n] * 1e9, some.p4]), [0, *(some.offsets + n)])
    assert_agree(encoder.embed(huge)[1:], encoder.embed(some), dtype)


@pytest.mark.parametrize("resolution", ["all", 8])
def test_embed_does_not_depend_on_batch_size_or_threads(toy, resolution):
    encoder = rino.JetEncoder.preset("nano", seed=3).double()
    whole = encoder.embed(toy, resolution=resolution)
    assert whole.shape == (60, 32) and whole.dtype == np.float64
    for batch_size in (1, 7, 59, 1000):
        part = encoder.embed(toy, resolution=resolution, batch_size=batch_size, threads=2)
        np.testing.assert_allclose(part, whole, rtol=0, atol=1e-12)


def test_more_tokens_than_one_block_of_attention_holds():
    jets = rino.toy_jets(150, seed=2, multiplicity_mean=60, multiplicity_std=1)
    encoder = rino.JetEncoder(tiny(), seed=3).double()
    np.testing.assert_allclose(
        encoder.embed(jets, batch_size=150), encoder.embed(jets, batch_size=5), rtol=0, atol=1e-12
    )


def test_embed_of_no_jets_has_no_rows(toy):
    z = rino.JetEncoder.preset("nano", seed=1).embed(toy[:0])
    assert z.shape == (0, 32) and z.dtype == np.float32


def test_embed_works_in_evaluation_mode_and_leaves_the_mode_alone(toy):
    encoder = rino.JetEncoder.preset("nano", seed=1).train()
    one = encoder.embed(toy)
    assert encoder.training
    np.testing.assert_array_equal(one, encoder.embed(toy))
    encoder.eval().embed(toy)
    assert not encoder.training
    with pytest.raises(RinoError, match="batch_size = 0"):
        encoder.embed(toy, batch_size=0)


def test_the_class_token_is_the_jets_or_learned(toy):
    """Jets scaled in momentum: the five relative features stay, so only a class token from the jet can tell."""
    scaled = Jets(np.array(toy.p4) * 1.5, toy.offsets)
    for class_token, same in (("learned", True), ("jet", False)):
        encoder = rino.JetEncoder(rino.Recipe(features="relative", class_token=class_token), seed=1).double()
        assert np.allclose(encoder.embed(toy), encoder.embed(scaled), rtol=0, atol=1e-9) == same


# --- the projection head ---


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"hidden_layers": 0},
        {"hidden_layers": 2, "hidden_width": 24, "bottleneck": 6},
        {"hidden_layers": 3, "prototypes": 40},
        {"hidden_layers": 0, "bottleneck": 5},
    ],
)
def test_head_follows_its_formula(sizes):
    recipe = rino.Recipe(**{f"head.{name}": value for name, value in sizes.items()})
    head = rino.ProjectionHead(recipe, seed=2).double()
    reference = ReferenceHead(head.state_dict())
    x = torch.randn(6, 5, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = head(x)
    assert scores.shape == (6, 5, recipe.head.prototypes)
    torch.testing.assert_close(scores, reference(x), rtol=0, atol=1e-12)
    assert scores.abs().max() <= 1 + 1e-12


def test_head_is_torchs_weight_normalised_layer_of_gain_one():
    head = rino.ProjectionHead(rino.Recipe(hidden_layers=0, prototypes=7), seed=2)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(32, 7, bias=False))
    layer.parametrizations.weight.original0.data.fill_(1)
    layer.parametrizations.weight.original1.data.copy_(head.prototypes.weight.data)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(x), layer(nn.functional.normalize(x, dim=-1)), rtol=0, atol=1e-6)


def test_head_of_a_zero_embedding_is_finite():
    head = rino.ProjectionHead(seed=2)
    for parameter in head.hidden.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.zeros(3, 32, requires_grad=True)
    scores = head(x)
    scores.sum().backward()
    assert torch.isfinite(scores).all() and torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("name", "value"), [("prototypes", 1), ("hidden_layers", -1), ("bottleneck", -2), ("hidden_width", -3)]
)
def test_heads_that_cannot_be_are_refused(name, value):
    with pytest.raises(RinoError, match=f"prototypes, hidden_layers.*{value}"):
        rino.ProjectionHead(rino.Recipe(**{f"head.{name}": value}))


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"heads": 5}, "must divide the width"),
        ({"heads": 0}, "must divide the width"),
        ({"width": 0}, "width"),
        ({"encoder.dropout": 1.0}, "dropout is 1"),
        ({"encoder.dropout": -0.1}, r"dropout is -0\.1"),
        ({"layers": -1}, "layers"),
        ({"feedforward": 0}, "feedforward"),
    ],
)
def test_encoders_that_cannot_be_are_refused(numbers, match):
    with pytest.raises(RinoError, match=match):
        rino.JetEncoder(rino.Recipe(**numbers))


# --- initial values ---


def test_initial_values_are_those_of_torchs_modules():
    encoder = rino.JetEncoder.preset("mini", seed=4)
    for name, parameter in encoder.named_parameters():
        values = parameter.detach()
        if ".norm" in name or name.startswith("norm"):
            assert (values == (1 if name.endswith("weight") else 0)).all(), name
            continue
        if ".attention." in name and name.endswith("bias"):
            assert not values.any(), name
            continue
        module = encoder.get_submodule(name.rpartition(".")[0])
        # Of queries, keys and values Xavier's over the whole matrix, as `nn.MultiheadAttention` has it.
        rows, columns = module.weight.shape
        bound = (6 / (rows + columns)) ** 0.5 if ".qkv." in name else columns**-0.5
        assert values.abs().max() <= bound, name
        if values.numel() >= 512:  # uniform: standard deviation bound / sqrt 3, mean 0
            assert abs(float(values.std()) / (bound / math.sqrt(3)) - 1) < 0.06, name
            assert abs(float(values.mean())) < 5 * bound / math.sqrt(3 * values.numel()), name


def test_initial_values_of_heads_and_learned_tokens_are_the_recipes():
    head = rino.ProjectionHead(rino.Recipe.preset("base"), seed=4)
    prototypes = head.prototypes.weight  # 1024 columns of `nn.Linear`'s: uniform up to 1/32
    assert float(prototypes.detach().std()) == pytest.approx(1 / (32 * math.sqrt(3)), rel=0.01)
    assert float(prototypes.detach().abs().max()) <= 1 / 32
    hidden = getattr(head.hidden, "0").weight
    assert float(hidden.detach().std()) == pytest.approx(0.02, rel=0.01)
    for weight in (hidden, prototypes):
        assert abs(float(weight.detach().mean())) < 2e-4
    assert not getattr(head.hidden, "0").bias.detach().any()
    token = rino.JetEncoder(rino.Recipe.preset("base", class_token="learned"), seed=4).class_token.token
    assert float(token.detach().std()) == pytest.approx(0.02, rel=0.15)
