"""Features of tokens and jets by name: columns of files, transforms, and what they are of a subjet."""

from __future__ import annotations

import functools

import awkward as ak
import numpy as np
import pytest
import torch

import pyrino as rino

KINEMATIC = ["px", "py", "pz", "E", "log_pt", "log_e", "log_pt_rel", "log_e_rel", "delta_r", "delta_eta", "delta_phi"]
CODES = np.array([22, 11, -13, 211, -211, 130, 0, 2112, -321, 111])


@pytest.fixture(scope="module")
def jets() -> rino.Jets:
    """Toy jets, hardest first, with charge, PDG codes and impact parameters, which are drawn and mean nothing."""
    bare = rino.hardest(rino.toy_jets(20, seed=4), 1000)
    n, draw = len(bare.p4), np.random.default_rng(1)
    codes = draw.choice(CODES, n).astype(np.float64)
    jets = bare.with_extra("part_charge", draw.integers(-1, 2, n).astype(np.float64)).with_extra("pdgid", codes)
    jets = jets.with_extra("part_d0val", draw.normal(0, 2, n)).with_extra("part_d0err", draw.exponential(0.5, n))
    jets = jets.with_extra("part_dzval", draw.normal(0, 3, n)).with_extra("part_dzerr", draw.exponential(0.5, n))
    return jets.with_value("jet_tau21", draw.uniform(0, 1, len(bare)))


def recipe(*features: str, **numbers: object) -> rino.Recipe:
    chosen = {"features": list(features)} if features else {}
    return rino.Recipe.preset("nano", **chosen, **numbers)


def tokens(jets: rino.Jets, made: rino.Recipe, resolutions: tuple[int | str, ...] = ("all",)) -> rino.Tokens:
    return rino.tokenize(jets, resolutions, made, "float64")


def subjets_of(jets: rino.Jets, j: int, resolution: int) -> list[np.ndarray]:
    """The constituents of each subjet of jet j, by FastJet."""
    generator = rino.ViewGenerator([resolution], radius=0.8, backend="fastjet")
    numbers = np.asarray(generator.subjet_of_constituent(jets, j, resolution))
    return [np.flatnonzero(numbers == s) for s in range(numbers.max() + 1)]


@pytest.mark.parametrize("name", ["full", "logarithmic", "relative"])
@pytest.mark.parametrize("normalization", ["workshop", "production"])
def test_a_set_is_the_list_of_its_names(jets, name, normalization):
    names = {"full": KINEMATIC, "logarithmic": KINEMATIC[4:], "relative": KINEMATIC[6:]}[name]
    by_set = tokens(jets, recipe(normalization=normalization).replace(features=name), ("all", 4))
    by_list = tokens(jets, recipe(*names, normalization=normalization), ("all", 4))
    assert torch.equal(by_set.features, by_list.features)


def test_features_stand_in_the_order_of_the_list(jets):
    full = tokens(jets, recipe())
    some = tokens(jets, recipe("delta_phi", "E", "log_pt"))
    assert torch.equal(some.features, full.features[:, [10, 3, 4]])


@pytest.mark.parametrize(("name", "count"), [("part-kin", 7), ("part-kinpid", 13), ("part-full", 17)])
def test_the_sets_of_part_are_as_published(jets, name, count):
    found = tokens(jets, recipe().replace(features=name)).features.numpy()
    assert found.shape[1] == count
    p = jets.p4
    jet = np.repeat(np.arange(len(jets)), np.diff(jets.offsets))
    whole = np.add.reduceat(p, jets.offsets[:-1])[jet]
    pt, jet_pt = np.hypot(p[:, 0], p[:, 1]), np.hypot(whole[:, 0], whole[:, 1])
    d_eta = np.arcsinh(p[:, 2] / pt) - np.arcsinh(whole[:, 2] / jet_pt)
    d_phi = np.angle(np.exp(1j * (np.arctan2(p[:, 1], p[:, 0]) - np.arctan2(whole[:, 1], whole[:, 0]))))

    def scaled(x: np.ndarray, mean: float, factor: float) -> np.ndarray:
        return np.clip((x - mean) * factor, -5, 5)

    expected = [
        scaled(np.log(pt), 1.7, 0.7),
        scaled(np.log(p[:, 3]), 2.0, 0.7),
        scaled(np.log(pt / jet_pt), -4.7, 0.7),
        scaled(np.log(p[:, 3] / whole[:, 3]), -4.7, 0.7),
        scaled(np.hypot(d_eta, d_phi), 0.2, 4.0),
    ]
    extras = jets.extras
    code = np.abs(extras["pdgid"])
    kinds = [
        extras["part_charge"],
        np.isin(code, [211, 321]),
        np.isin(code, [130, 0, 2112, 111]),
        code == 22,
        code == 11,
        code == 13,
    ]
    displacement = [
        np.tanh(extras["part_d0val"]),
        np.clip(extras["part_d0err"], 0, 1),
        np.tanh(extras["part_dzval"]),
        np.clip(extras["part_dzerr"], 0, 1),
    ]
    expected += (kinds if count > 7 else []) + (displacement if count > 13 else []) + [d_eta, d_phi]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-12, atol=1e-12)


def test_columns_merge_as_their_feature_says(jets):
    """Charge is summed, d0 is the pT-weighted mean, a kind the share of pT; transforms come after."""
    made = recipe(
        "charge", "d0", "photon", "part_dzerr clip=0,100 merge=sum transform=log mean=1 deviation=2 limit=0.9"
    )
    found = tokens(jets, made, (3,))
    pt = np.hypot(jets.p4[:, 0], jets.p4[:, 1])
    for j in range(len(jets)):
        rows = jets.offsets[j]
        for s, members in enumerate(subjets_of(jets, j, 3)):
            of = rows + members
            weights = pt[of] / pt[of].sum()
            expected = [
                jets.extras["part_charge"][of].sum(),
                np.tanh((weights * jets.extras["part_d0val"][of]).sum()),
                weights[jets.extras["pdgid"][of] == 22].sum(),
                np.clip((np.log(jets.extras["part_dzerr"][of].sum()) - 1) / 2, -0.9, 0.9),
            ]
            token = found.features[found.offsets[j] + s].numpy()
            np.testing.assert_allclose(token, expected, rtol=1e-12, atol=1e-12)


def test_kinematic_features_take_transforms_too(jets):
    plain = tokens(jets, recipe("delta_r mean=0 deviation=1", "E mean=0 deviation=1")).features.numpy()
    made = recipe("delta_r transform=tanh mean=0.1 deviation=2", "E clip=1,20 transform=log mean=0 deviation=1")
    found = tokens(jets, made).features.numpy()
    np.testing.assert_allclose(found[:, 0], (np.tanh(plain[:, 0]) - 0.1) / 2, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found[:, 1], np.log(np.clip(plain[:, 1], 1, 20)), rtol=1e-13, atol=1e-15)


def test_what_constituents_carry_follows_the_selection_of_the_hardest(jets):
    found = tokens(jets, recipe("charge", "log_pt", max_constituents=5))
    pt = np.hypot(jets.p4[:, 0], jets.p4[:, 1])
    for j in range(len(jets)):
        rows = np.arange(jets.offsets[j], jets.offsets[j + 1])
        order = rows[np.argsort(-pt[rows])][:5]
        token = found.features[found.offsets[j] : found.offsets[j + 1]].numpy()
        np.testing.assert_array_equal(np.sort(token[:, 0]), np.sort(jets.extras["part_charge"][order]))


def test_jet_features_are_computed_by_name(jets):
    names = ["log_e", "log_pt", "eta", "phi", "pt", "energy", "mass", "log_mass", "multiplicity", "log_multiplicity"]
    names += ["log_kt_1", "log_kt_3", "jet_tau21"]
    plain = [f"{name} mean=0 deviation=1" for name in names]
    made = recipe(jet_features=plain, max_constituents=10)
    found = tokens(jets, made, ("all", 2)).jet_features.numpy()
    p = np.add.reduceat(jets.p4, jets.offsets[:-1])
    pt, mass = np.hypot(p[:, 0], p[:, 1]), np.sqrt(p[:, 3] ** 2 - (p[:, :3] ** 2).sum(axis=1))
    counts, scales = np.diff(jets.offsets), rino.splitting_scales(jets, 3, radius=0.8)
    expected = [
        np.log(p[:, 3]), np.log(pt), np.arcsinh(p[:, 2] / pt), np.arctan2(p[:, 1], p[:, 0]), pt, p[:, 3], mass,
        np.log(mass), counts, np.log(counts), np.log(scales[:, 0]), np.log(scales[:, 2]), jets.values["jet_tau21"],
    ]  # fmt: skip
    for view in range(2):
        here = found[view * len(jets) : (view + 1) * len(jets)]
        np.testing.assert_allclose(here, np.stack(expected, axis=1), rtol=1e-9, atol=1e-12)


def test_the_class_token_takes_the_jet_features_of_the_recipe(jets):
    made = recipe(jet_features=["log_pt", "log_mass", "multiplicity"])
    encoder = rino.JetEncoder(made, seed=1)
    assert encoder.class_token.weight.shape == (32, 3)
    assert rino.JetEncoder(recipe(), seed=1).class_token.weight.shape == (32, 4)
    assert np.isfinite(encoder.embed(jets)).all()
    with pytest.raises(rino.RinoError, match=r"jets' features have shape .* takes 3"):
        encoder(tokens(jets, recipe()))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["nonsense"], r"'nonsense' is neither kinematic nor a column of these jets, which have: part_charge"),
        (["log_pt", "log_pt"], r"'log_pt' is there twice"),
        (["d0 transform=exp"], r"transform of the feature 'd0 transform=exp' is 'exp': choose one of 'none', 'log'"),
        (["d0 clip=1,0"], r"clip .* is 1,0: give the lower bound first"),
        (["d0 deviation=0"], r"deviation .* is 0: choose a positive number"),
        (["d0 mean=x"], r"'x' in the feature 'd0 mean=x' is no number"),
        (["d0 colour=blue"], r"'colour=blue' of the feature .* is not known: keys are transform"),
        (["merge=sum"], r"'merge=sum' has no name"),
        (["d0 mean=inf"], r"mean of the feature 'd0 mean=inf' is inf: choose a finite number"),
        (["log_pt merge=sum"], r"'log_pt merge=sum' says merge or frame, which are of columns"),
    ],
)
def test_what_is_no_feature_is_refused(jets, features, message):
    with pytest.raises(rino.RinoError, match=message):
        tokens(jets, recipe(*features))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named_with_its_constituent_and_jet(jets, value):
    column = np.array(jets.extras["part_d0val"])
    column[jets.offsets[3] + 2] = value
    with pytest.raises(rino.RinoError, match=rf"'d0' of constituent 2 of jet 3 is {value}: repair the column"):
        tokens(jets.with_extra("part_d0val", column), recipe("d0"))
    number = np.array(jets.values["jet_tau21"])
    number[5] = value
    with pytest.raises(rino.RinoError, match=rf"jet feature 'jet_tau21' of jet 5 is {value}: repair the column"):
        tokens(jets.with_value("jet_tau21", number), recipe(jet_features=["jet_tau21"]))


def test_augmentations_that_turn_or_boost_are_refused_where_features_depend_on_the_frame(jets):
    made = rino.Recipe("contrastive", features=["log_pt", "d0"], first=["smear"], second=["drop_soft"], batch_size=10)
    still = functools.partial(rino.translate, max_rapidity=0.0)
    for transform, name in (
        ("rotate", "rotate"),
        (rino.rotate, "rotate"),
        (functools.partial(rino.boost_to_pt, reference_pt=500.0), "boost_to_pt"),
        (rino.Augmentation(["smear", "translate"]), "Augmentation"),
    ):
        with pytest.raises(rino.RinoError, match=rf"'d0' depends on the frame and the augmentation's '{name}"):
            rino.Trainer(made, jets, augmentation=[rino.smear, transform])
        rino.Trainer(made.replace(features=["log_pt", "charge"]), jets, augmentation=[rino.smear, transform])
    rino.Trainer(made, jets, augmentation=[rino.smear, still, "translate max_rapidity=0"])


@pytest.mark.parametrize("layout", ["jetclass", "jetclass2", "aspen", "rs3l", "jetclass-parquet"])
def test_kinds_of_particles_are_found_in_every_layout_that_has_them(tmp_path, layout):
    written = rino.generate("simulation-wide", "qcd", 20, 3, tmp_path, layout=layout, workers=1, progress=False)
    made = recipe().replace(features="part-kinpid")
    read = rino.read_jets(written, columns=made.columns, labelled=False)
    found = tokens(read, made).features.numpy()
    assert np.isfinite(found).all()
    kinds = found[:, 6:11]
    assert set(np.unique(kinds)) <= {0.0, 1.0}
    assert (kinds.sum(axis=1) == 1).mean() > 0.99  # of one kind each


def test_a_clustered_view_of_a_feature_that_does_not_merge_is_refused(jets):
    weighted = jets.with_extra("puppi", np.ones(len(jets.p4)))
    assert tokens(weighted, recipe("puppi")).features.shape == (len(jets.p4), 1)
    with pytest.raises(rino.RinoError, match=r"'puppi' does not say what it is of a subjet, and the view '4' has"):
        tokens(weighted, recipe("puppi"), (4,))
    assert tokens(weighted, recipe("puppi merge=sum"), (4,)).features.shape[1] == 1


def test_features_that_depend_on_the_frame_refuse_boosts_and_rotations(jets):
    with pytest.raises(rino.RinoError, match="'d0' depends on the frame and boost_to_pt changes it"):
        tokens(jets, recipe("log_pt", "d0", boost_to_pt=500.0))
    tokens(jets, recipe("log_pt", "d0 frame=false", boost_to_pt=500.0))
    # Of numbers that change together, the last ones count.
    tokens(jets, rino.Recipe.preset("demo", features=["log_pt", "d0"], boost_to_pt=0.0))
    tokens(jets, recipe("log_pt", "charge", boost_to_pt=500.0))
    rotated = rino.Recipe("contrastive", features=["log_pt", "dz", "delta_eta", "delta_phi"])
    with pytest.raises(rino.RinoError, match=r"'dz' depends on the frame and the view's 'rotate' changes it"):
        rino.Trainer(rotated, jets)
    for moved in (
        "translate",
        "translate max_rapidity=0.1",
        "boost_jet",
        "boost_along_beam",
        "boost_to_pt reference_pt=9",
    ):
        with pytest.raises(rino.RinoError, match=f"'dz' depends on the frame and the view's '{moved}' changes it"):
            rino.Trainer(rotated.replace(first=["smear"], second=[moved]), jets)
    still = rotated.replace(first=["translate max_rapidity=0"], second=["smear", "drop_soft"], batch_size=10, epochs=1)
    assert all(np.isfinite(step["loss"]) for step in rino.Trainer(still, jets))


def test_positions_need_the_angles_at_the_end(jets):
    made = recipe("delta_eta", "delta_phi", "log_pt", positions="polar")
    with pytest.raises(rino.RinoError, match=r"the last two features, and those of jets\.features are not delta_eta"):
        rino.JetEncoder(made, seed=1)
    assert rino.JetEncoder(recipe("log_pt", "charge", "delta_eta", "delta_phi", positions="polar"), seed=1)


def test_momenta_ride_along_in_float64_where_asked_for(jets):
    plain = rino.tokenize(jets, [3, "all"], recipe())
    assert plain.momenta is None
    found = rino.tokenize(jets, [3, "all"], recipe(), momenta=True)
    assert found.features.dtype == torch.float32
    assert torch.equal(found.features, plain.features)
    views = rino.ViewGenerator([3, "all"], radius=0.8)(jets)
    p = np.concatenate([view.p4 for view in views])
    pt, energy = np.hypot(p[:, 0], p[:, 1]), p[:, 3]
    mass2 = np.maximum(energy**2 - (p[:, :3] ** 2).sum(axis=1), 0)
    rapidity = np.arcsinh(p[:, 2] / np.sqrt(pt**2 + mass2))
    momenta = found.momenta.numpy()
    assert momenta.dtype == np.float64
    np.testing.assert_allclose(momenta[:, 0], pt, rtol=1e-14)
    np.testing.assert_allclose(momenta[:, 1], rapidity, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(momenta[:, 2], np.arctan2(p[:, 1], p[:, 0]), rtol=1e-14)
    np.testing.assert_allclose(momenta[:, 3] ** 2, mass2, rtol=1e-7, atol=1e-9 * energy.max() ** 2)
    half = found.to(torch.device("cpu"), "float32")
    assert half.momenta.dtype == torch.float64
    features, mask = plain.padded()
    padded = torch.zeros(*mask.shape, 4, dtype=torch.float64)
    padded[mask] = found.momenta
    back = rino.Tokens.from_padded(features, mask, plain.jet_features, padded)
    assert torch.equal(back.momenta, found.momenta)
    with pytest.raises(rino.RinoError, match=r"momenta are .*: give float64 \[S, N, 4\]"):
        rino.Tokens.from_padded(features, mask, plain.jet_features, padded.float())


@pytest.mark.parametrize("streamed", [False, True])
def test_columns_that_a_recipe_needs_are_read_without_being_asked_for(tmp_path, streamed):
    written = rino.generate(
        "simulation-wide", "top", 64, 3, tmp_path / "jets", layout="jetclass", workers=1, progress=False
    )
    views = {"first": ["smear soft=0.1"], "second": ["drop_soft"]}
    made = rino.Recipe("contrastive", features="part-full", **views, batch_size=16, epochs=1)
    assert made.columns[0] == "charge|part_charge|PFCands_charge"
    train = rino.open_dataset(written) if streamed else written
    run = rino.pretrain(made, train, tmp_path / "run", progress=False, tensorboard=False)
    assert np.isfinite(run.history["loss"]).all()
    read = rino.read_jets(written, columns=made.columns)
    assert np.isfinite(run.encoder.embed(read)).all()
    rino.embed_files(run.encoder, written, tmp_path / "embedded.parquet")
    of_files = rino.read_jets(written, columns=made.columns)
    fields = {name: ak.unflatten(column, of_files.multiplicity) for name, column in of_files.extras.items()}
    momenta = dict(px=of_files.px, py=of_files.py, pz=of_files.pz, E=of_files.e)
    array = ak.zip(fields | {name: ak.unflatten(np.array(x), of_files.multiplicity) for name, x in momenta.items()})
    np.testing.assert_array_equal(ak.to_numpy(rino.embed(run.encoder, array)), run.encoder.embed(of_files))
    with pytest.raises(rino.RinoError, match=r"'charge' is neither kinematic nor a column"):
        run.encoder.embed(rino.read_jets(written))
    with pytest.raises(rino.RinoError, match=r"lacks the columns nonsense"):
        rino.pretrain(made.replace(features=["log_pt", "nonsense"]), written, tmp_path / "other", progress=False)


def test_recipes_with_features_by_name_survive_their_file(tmp_path):
    made = recipe("log_pt", "charge", "d0 transform=tanh merge=mean", jet_features=["log_pt", "mass"])
    made.save(tmp_path / "r.toml")
    assert rino.Recipe.load(tmp_path / "r.toml") == made
    assert recipe().replace(features="part-kin").jets.features == "part-kin"
    assert recipe().jets.jet_features == ["log_e", "log_pt", "eta", "phi"]
