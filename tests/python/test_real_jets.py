"""A real file of 100 JetClass-II jets from reading to embedding; skipped where the file is absent."""

from __future__ import annotations

import fastjet
import numpy as np
import pytest

import pyrino as rino


@pytest.fixture(scope="module")
def jets(jetclass2_file):
    return rino.read_jets(jetclass2_file)


def exclusive(jet: rino.Jets, n: int) -> np.ndarray:
    """FastJet's n exclusive kT subjets of one jet, pT descending."""
    particles = [fastjet.PseudoJet(*map(float, row)) for row in jet.p4]
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 0.8)
    sequence = fastjet.ClusterSequence(particles, definition)
    subjets = fastjet.sorted_by_pt(sequence.exclusive_jets(min(n, len(particles))))
    return np.array([[s.px(), s.py(), s.pz(), s.e()] for s in subjets])


def test_views_are_fastjets_exclusive_subjets(jets):
    resolutions = [1, 2, 3, 8, 16, 64]
    views = rino.ViewGenerator([*resolutions, "all"], radius=0.8)(jets)
    assert [len(view) for view in views] == [100] * 7
    for n, view in zip(resolutions, views, strict=False):
        for j in range(0, 100, 7):
            np.testing.assert_allclose(view[j].p4, exclusive(jets[j], n), rtol=1e-11, atol=1e-9)


def test_no_constituent_is_lost_where_nothing_is_clustered(jets):
    (view,) = rino.ViewGenerator(["all"])(jets)
    np.testing.assert_array_equal(view.multiplicity, jets.multiplicity)
    np.testing.assert_allclose(view.four_momenta, jets.four_momenta, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("preset", ["nano", "base", "demo"])
def test_every_jet_has_the_embedding_it_has_alone(jets, preset):
    encoder = rino.JetEncoder(rino.Recipe.preset(preset), seed=3)
    z = encoder.embed(jets)
    assert z.shape == (100, encoder.width)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    alone = np.concatenate([encoder.embed(jets[j : j + 1]) for j in range(0, 100, 9)])
    np.testing.assert_allclose(z[::9], alone, atol=2e-6, rtol=0)
    assert np.linalg.matrix_rank(z - z.mean(0)) > 10
