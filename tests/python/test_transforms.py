"""Augmentations and boosts: pyrino.transforms against NumPy's formulas."""

from __future__ import annotations

import inspect
import pickle
from functools import partial

import numpy as np
import pytest

import pyrino as rino
from pyrino import Jets, RinoError, transforms

RANDOM = {
    "smear": rino.smear,
    "rotate": rino.rotate,
    "translate": rino.translate,
    "boost_along_beam": rino.boost_along_beam,
    "boost_jet": rino.boost_jet,
    "split_collinear": partial(rino.split_collinear, probability=0.5),
    "drop_soft": partial(rino.drop_soft, scale=5),
    "mask_constituents": partial(rino.mask_constituents, fraction=0.3),
}


@pytest.fixture(scope="module")
def jets(toy) -> Jets:
    """Toy jets whose constituents have masses, with an extra and labels."""
    p4 = np.array(toy.p4)
    p4[:, 3] = np.hypot(p4[:, 3], np.resize([0.0, 0.14, 0.49, 0.94], len(p4)))
    extras = {"row": np.arange(len(p4), dtype=float)}
    return Jets(p4, toy.offsets, labels=toy.labels, extras=extras)


def plane(jets: Jets) -> tuple[np.ndarray, np.ndarray]:
    """Rapidity and phi of the constituents relative to their jet's."""
    number = np.repeat(np.arange(len(jets)), jets.multiplicity)
    px, py, pz, e = np.add.reduceat(jets.p4, jets.offsets[:-1]).T
    rapidity = jets.constituents.rapidity - np.arctanh(pz / e)[number]
    phi = np.remainder(jets.constituents.phi - np.arctan2(py, px)[number] + np.pi, 2 * np.pi) - np.pi
    return rapidity, phi


@pytest.mark.parametrize("name", RANDOM)
def test_random_transforms_are_functions_of_seed_and_jet(jets, name):
    transform = RANDOM[name]
    once = transform(jets, seed=3)
    assert once != jets and transform(jets, seed=3, threads=5) == once and transform(jets, seed=4) != once
    assert transform(jets[20:40], seed=3, first_jet=20) == once[20:40]
    np.testing.assert_array_equal(once.labels, jets.labels)
    assert once.extras["row"].shape == (once.n_constituents,) and (once.multiplicity > 0).all()
    assert len(transform(jets[:0], seed=3)) == 0


def test_smearing_has_the_resolution_that_was_asked_for():
    pt = 9.0
    single = Jets(np.tile([pt, 0, 0, np.hypot(pt, 0.5)], (20000, 1)), np.arange(20001))
    smeared = rino.smear(single, seed=1, stochastic=0.3, constant=0.1, eta=0.02, phi=0.01, soft=0.27)
    shown = smeared.constituents
    for values, sigma in [
        (shown.pt / pt - 1, np.hypot(0.3 / np.sqrt(pt), 0.1)),
        (shown.eta, np.hypot(0.02, 0.03)),
        (shown.phi, np.hypot(0.01, 0.03)),
    ]:
        assert abs(values.mean()) < 5 * sigma / np.sqrt(20000)
        assert abs(values.std() / sigma - 1) < 0.03
    np.testing.assert_allclose(shown.mass, 0.5, rtol=1e-10)


def test_a_rotation_turns_constituents_around_the_axis(jets):
    angle = np.linspace(-4, 4, len(jets))
    rotated = rino.rotate(jets, angle)
    one = np.repeat(angle, jets.multiplicity)
    y, x = plane(jets)
    shift_y = rotated.constituents.rapidity - jets.constituents.rapidity
    shift_x = np.remainder(rotated.constituents.phi - jets.constituents.phi + np.pi, 2 * np.pi) - np.pi
    np.testing.assert_allclose(y + shift_y, np.cos(one) * y - np.sin(one) * x, atol=1e-11)
    np.testing.assert_allclose(x + shift_x, np.sin(one) * y + np.cos(one) * x, atol=1e-11)
    np.testing.assert_allclose(rotated.constituents.pt, jets.constituents.pt, rtol=1e-13)
    assert rino.rotate(jets, 0.5) == rino.rotate(jets, np.full(len(jets), 0.5))
    assert rino.rotate(jets, np.repeat(angle, 2)[::2]) == rotated  # whatever the stride


def test_translations_keep_masses_and_shift_rapidity_and_phi(jets):
    shift = np.linspace(-2, 2, len(jets))
    moved = rino.translate(jets, shift, 0.4)
    rows = np.repeat(shift, jets.multiplicity)
    np.testing.assert_allclose(moved.constituents.rapidity - jets.constituents.rapidity, rows, atol=1e-11)
    turned = np.exp(1j * (moved.constituents.phi - jets.constituents.phi))
    np.testing.assert_allclose(turned, np.exp(0.4j), atol=1e-13)
    np.testing.assert_allclose(moved.pt, jets.pt, rtol=1e-13)
    np.testing.assert_allclose(moved.mass, jets.mass, rtol=1e-9)
    assert rino.boost_along_beam(jets, shift) == rino.translate(jets, rapidity=shift)
    drawn = rino.translate(jets, seed=5, max_rapidity=0.3, max_phi=0)
    assert (np.abs(drawn.constituents.rapidity - jets.constituents.rapidity) <= 0.3 + 1e-12).all()
    np.testing.assert_allclose(drawn.constituents.phi, jets.constituents.phi, atol=1e-14)


def test_a_boost_by_a_factor_keeps_mass_and_direction(jets):
    factor = np.geomspace(0.2, 5, len(jets))
    boosted = rino.boost_jet(jets, factor)
    np.testing.assert_allclose(boosted.pt, factor * jets.pt, rtol=1e-12)
    np.testing.assert_allclose(boosted.mass, jets.mass, rtol=1e-9)
    np.testing.assert_allclose(boosted.eta, jets.eta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        rino.boost_jet(jets, 750 / jets.pt).p4, rino.boost_to_pt(jets, 750).p4, rtol=1e-9, atol=1e-9
    )
    drawn = rino.boost_jet(jets, seed=5, min_factor=2, max_factor=3)
    ratio = drawn.pt / jets.pt
    assert (ratio > 2 - 1e-12).all() and (ratio < 3 + 1e-12).all() and ratio.std() > 0.1


def test_splittings_conserve_four_momentum(jets):
    split = rino.split_collinear(jets, seed=2, probability=0.4)
    parents = split.extras["row"].astype(int)
    assert (np.diff(parents) >= 0).all() and set(np.bincount(parents)) == {1, 2}
    sums = np.add.reduceat(split.p4, np.flatnonzero(np.diff(parents, prepend=-1)))
    np.testing.assert_allclose(sums, jets.p4, rtol=1e-15, atol=1e-15)
    assert rino.split_collinear(jets, seed=2, probability=0) == jets


def test_dropping_and_masking_leave_constituents_as_they_are(jets):
    for kept in (
        rino.drop_soft(jets, seed=2, scale=3),
        rino.drop_soft(jets, seed=2, scale=0, min_pt=2.5),
        rino.mask_constituents(jets, 0.5, seed=2),
    ):
        assert 0 < kept.n_constituents < jets.n_constituents
        np.testing.assert_array_equal(kept.p4, jets.p4[kept.extras["row"].astype(int)])
    np.testing.assert_array_equal(rino.drop_soft(jets, seed=2, scale=0, min_pt=1e9).p4, rino.hardest(jets, 1).p4)
    assert (np.abs(rino.mask_constituents(jets, 0.5, seed=2).multiplicity - jets.multiplicity / 2) < 1).all()
    assert (rino.mask_constituents(jets, 1.0, seed=2).multiplicity == 1).all()


def test_threads_change_nothing_where_nothing_is_drawn(jets):
    assert rino.hardest(jets, 7, threads=3) == rino.hardest(jets, 7)
    assert rino.boost_to_pt(jets, 300, threads=3) == rino.boost_to_pt(jets, 300)
    assert rino.rotate(jets, 1.0, threads=3) == rino.rotate(jets, 1.0)


def test_an_augmentation_runs_transforms_in_order_with_draws_of_their_own(jets):
    mask = partial(rino.mask_constituents, fraction=0.3)
    augment = rino.Augmentation([mask, mask, partial(rino.boost_to_pt, reference_pt=750), lambda jets: jets[:]])
    seen = augment(jets, seed=9, first_jet=4)
    np.testing.assert_allclose(seen.pt, 750, rtol=1e-12)
    assert augment(jets, seed=9, first_jet=4, threads=3) == seen and augment(jets, seed=9) != seen
    assert augment(jets[10:30], seed=9, first_jet=14) == seen[10:30]
    # Masked twice by the same draws, jets that have lost the same share would lose the same positions.
    twice = rino.mask_constituents(rino.mask_constituents(jets, 0.3, seed=9), 0.3, seed=9)
    assert rino.Augmentation([mask, mask])(jets, seed=9) != twice
    assert rino.Augmentation([])(jets, seed=9) == jets and len(augment(jets[:0], seed=1)) == 0
    copied = pickle.loads(pickle.dumps(rino.Augmentation([rino.rotate, mask])))
    assert copied(jets, seed=1) == rino.Augmentation([rino.rotate, mask])(jets, seed=1)
    assert repr(copied).startswith("Augmentation([rotate, functools.partial(")


def test_transforms_may_be_given_in_words(jets):
    said = rino.Augmentation(["rotate", "smear soft=0.1 eta=0", "hardest n=7"])
    wanted = rino.Augmentation(
        [rino.rotate, partial(rino.smear, soft=0.1, eta=0), partial(rino.hardest, n=7)],
    )(jets, seed=9, first_jet=4)
    assert said(jets, seed=9, first_jet=4, threads=2) == wanted
    assert pickle.loads(pickle.dumps(said))(jets, seed=9, first_jet=4) == wanted
    assert repr(said) == "Augmentation(['rotate', 'smear soft=0.1 eta=0', 'hardest n=7'])"
    with pytest.raises(RinoError, match="'smear sof=1': smear has no sof, only: stochastic, constant, eta, phi, soft"):
        rino.Augmentation([rino.rotate, "smear sof=1"])


@pytest.mark.parametrize("transform_list", [3, [rino.rotate, 3]])
def test_what_is_no_transform_is_named(transform_list):
    with pytest.raises(RinoError, match=r"int: give a (list of functions|function of jets)"):
        rino.Augmentation(transform_list)


@pytest.mark.parametrize(("result", "words"), [(None, "made NoneType of 60"), ("fewer", "made 59 jets of 60")])
def test_transforms_that_lose_jets_are_named(jets, result, words):
    augment = rino.Augmentation([rino.rotate, lambda jets: jets[1:] if result else None])
    with pytest.raises(RinoError, match=f"transform 1, .*{words}"):
        augment(jets, seed=1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda j: rino.smear(j, seed=-1), "seed = -1: give an integer from 0"),
        (lambda j: rino.smear(j, seed=1.5), r"seed = 1\.5 is of type float"),
        (lambda j: rino.smear(j, seed=1, first_jet=-2), "first_jet = -2"),
        (lambda j: rino.smear(j, seed=1, threads=0), "threads is 0"),
        (lambda j: rino.smear(j.p4, seed=1), "jets is of type ndarray"),
        (lambda j: rino.smear(j, seed=1, constant=-0.1), r"constant term of the pT resolution is -0\.1"),
        (lambda j: rino.smear(j, seed=1, eta="wide"), "eta = 'wide'"),
        (lambda j: rino.rotate(j), "angle or a seed to draw it: neither is given"),
        (lambda j: rino.rotate(j, 1.0, seed=3), "angle or a seed to draw it: both are given"),
        (lambda j: rino.rotate(j, [1.0, 2.0]), r"angle has shape \(2,\) for 60 jets"),
        (lambda j: rino.rotate(j, float("nan")), "angle of rotation of jet 0 is nan"),
        (lambda j: rino.translate(j), "rapidity or phi or a seed"),
        (lambda j: rino.translate(j, seed=1, max_phi=-1), "max_phi of the shift is -1"),
        (lambda j: rino.boost_along_beam(j, seed=1, max_rapidity=float("inf")), "max_rapidity of the boost is inf"),
        (lambda j: rino.boost_jet(j, 0.0), "factor of jet 0 is 0"),
        (lambda j: rino.boost_jet(j, seed=1, min_factor=3), "factors run from 3 to 2"),
        (lambda j: rino.split_collinear(j, seed=1, probability=1.5), "probability of a splitting is 1.5"),
        (lambda j: rino.split_collinear(j, seed=1, min_fraction=0), "min_fraction of a splitting is 0"),
        (lambda j: rino.drop_soft(j, seed=1, scale=float("nan")), "scale of the soft losses is nan GeV"),
        (lambda j: rino.mask_constituents(j, 1.1, seed=1), "fraction of constituents to mask is 1.1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(jets, call, words):
    with pytest.raises(RinoError, match=words):
        call(jets)


@pytest.mark.parametrize("name", [name for name in transforms.__all__ if name != "Augmentation"])
def test_defaults_and_docs_are_those_of_cpp(name):
    parameters = inspect.signature(getattr(rino, name)).parameters
    text = getattr(rino, name).__doc__
    assert [line.partition(" : ")[0] for line in text.splitlines() if " : " in line] == list(parameters)
    for number in rino._core.transform_numbers(name):
        assert f"    {number.meaning[:1].upper()}{number.meaning[1:9]}" in text
        default = parameters[number.name].default
        assert default == (inspect.Parameter.empty if number.source == "no default" else number.value)


def test_all_transforms_are_names_of_the_package():
    for name in transforms.__all__:
        assert getattr(rino, name) is getattr(transforms, name) and name in rino.__all__
