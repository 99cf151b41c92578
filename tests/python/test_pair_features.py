"""Features of pairs of constituents: against the formulas in high precision, and their gradients."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from helpers import small_jets

import pyrino as rino
from pyrino import RinoError, pair_features

FLOOR = 1e-8


def random_momenta(n: int, seed: int = 0) -> np.ndarray:
    """(n, 4): soft and hard, light and heavy, some near each other, some across phi's seam."""
    rng = np.random.default_rng(seed)
    pt = np.exp(rng.uniform(np.log(0.1), np.log(1000), n))
    mass = np.where(rng.uniform(size=n) < 0.3, 0.0, np.exp(rng.uniform(np.log(1e-4), np.log(10), n)))
    y = rng.normal(1.0, 0.3, n)
    phi = rng.normal(np.pi, 0.3, n)
    near = rng.uniform(size=n) < 0.3
    y[near], phi[near] = 1 + 1e-6 * y[near], 3 + 1e-6 * phi[near]
    return np.stack([pt, y, np.angle(np.exp(1j * phi)), mass], axis=1)


def exact_mass2(a: np.ndarray, b: np.ndarray) -> Decimal:
    """(p_a + p_b)^2 from four-momenta of 60 digits."""
    total = [Decimal(0)] * 4
    for pt, y, phi, mass in (a, b):
        pt, y, phi, mass = (Decimal(float(x)) for x in (pt, y, phi, mass))
        transverse = (pt * pt + mass * mass).sqrt()
        sinh, cosh = (y.exp() - (-y).exp()) / 2, (y.exp() + (-y).exp()) / 2
        sine, cosine = _sine(phi), _sine(phi + _HALF_PI)
        for i, x in enumerate((transverse * cosh, pt * cosine, pt * sine, transverse * sinh)):
            total[i] += x
    return total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2


_HALF_PI = Decimal("1.57079632679489661923132169163975144209858469968755291048747229615390820314310449931401741")


def _sine(x: Decimal) -> Decimal:
    term, total, k = x, x, 1
    while abs(term) > Decimal("1e-70"):
        term = -term * x * x / ((2 * k) * (2 * k + 1))
        total += term
        k += 1
    return total


def restated(momenta: np.ndarray) -> np.ndarray:
    """The formulas, pair by pair."""
    n = len(momenta)
    found = np.empty((n, n, 4))
    with localcontext() as context:
        context.prec = 60
        for i in range(n):
            for j in range(n):
                (pt_i, y_i, phi_i, _), (pt_j, y_j, phi_j, _) = momenta[i], momenta[j]
                softer = min(pt_i, pt_j)
                dphi = np.remainder(phi_i - phi_j + np.pi, 2 * np.pi) - np.pi if phi_i != phi_j else 0.0
                dr = np.hypot(y_i - y_j, dphi)
                m2 = float(exact_mass2(momenta[i], momenta[j]))
                found[i, j] = np.log(np.maximum([softer * dr, softer / (pt_i + pt_j), dr, m2], FLOOR))
    return found


def test_they_are_the_formulas():
    momenta = random_momenta(24)
    mine = pair_features(torch.from_numpy(momenta)).numpy()
    expected = restated(momenta)
    # Where particles nearly coincide, phi itself knows no more than 1e-16 of their distance, which may be 1e-7.
    np.testing.assert_allclose(mine[..., :3], expected[..., :3], atol=1e-7)
    np.testing.assert_allclose(mine[..., 3], expected[..., 3], atol=1e-7)
    far = expected[..., 2] > np.log(1e-3)
    assert far.sum() > 200
    np.testing.assert_allclose(mine[far], expected[far], atol=1e-11)


def test_float32_momenta_are_computed_in_float64():
    momenta = torch.from_numpy(random_momenta(16)).float()
    found = pair_features(momenta)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, pair_features(momenta.double()), rtol=0, atol=0)


def test_light_pairs_lose_nothing_where_four_momenta_would():
    """The mass of two light, hard, nearly collinear particles: of (E + E)^2 - (p + p)^2 float64 leaves few digits."""
    lost = []
    for shift in np.linspace(0.0, 1.0, 20):
        momenta = np.array([[5e2, 2.0 + shift, 0.1, 1e-4], [4e2, 2.0 + shift + 1e-8, 0.1, 1e-4]])
        mine = pair_features(torch.from_numpy(momenta)).numpy()[0, 1, 3]
        with localcontext() as context:
            context.prec = 60
            expected = float(exact_mass2(*momenta).ln())
        assert mine == pytest.approx(expected, abs=1e-8)
        pt, y, phi, mass = momenta.T
        mt = np.sqrt(pt**2 + mass**2)
        p4 = np.stack([mt * np.cosh(y), pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(y)]).sum(axis=1)
        lost.append(abs((p4[0] ** 2 - np.sum(p4[1:] ** 2)) / np.exp(expected) - 1))
    assert np.median(lost) > 1e-2


def test_they_are_symmetric_and_do_not_know_the_frame():
    momenta = random_momenta(12)
    found = pair_features(torch.from_numpy(momenta)).numpy()
    np.testing.assert_array_equal(found, found.swapaxes(0, 1))
    turned = momenta + np.array([0, 0.7, 2.0, 0])
    np.testing.assert_allclose(pair_features(torch.from_numpy(turned)).numpy(), found, atol=1e-6)
    diagonal = found[np.arange(12), np.arange(12)]
    np.testing.assert_allclose(diagonal[:, [0, 2]], np.log(FLOOR))
    np.testing.assert_allclose(diagonal[:, 1], np.log(0.5))
    heavy = momenta[:, 3] > 1e-3
    np.testing.assert_allclose(diagonal[heavy, 3], np.log(4 * momenta[heavy, 3] ** 2), atol=1e-12)


def test_gradients_are_finite_and_right():
    momenta = torch.from_numpy(random_momenta(6, seed=3)).requires_grad_()
    found = pair_features(momenta)
    (gradient,) = torch.autograd.grad(found.sum(), momenta)
    assert torch.isfinite(gradient).all()
    # Apart from the floors, where there is none.
    apart = torch.tensor([[1.0, 0.1, 0.2, 0.1], [20.0, 0.4, -0.3, 0.0], [300.0, -0.2, 3.1, 5.0]], dtype=torch.float64)
    pair = torch.triu_indices(3, 3, 1)
    assert torch.autograd.gradcheck(lambda p: pair_features(p)[pair[0], pair[1]], apart.requires_grad_(), eps=1e-7)
    # Coinciding, at rest, along the beam.
    bad = torch.tensor(
        [[1.0, 0.5, 0.5, 0.0], [1.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [1e-9, torch.inf, 0.0, 0.0]],
        dtype=torch.float64,
        requires_grad=True,
    )
    found = pair_features(bad)
    (gradient,) = torch.autograd.grad(found.sum(), bad)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all()


def test_jets_have_them_padded():
    jets = small_jets(5, seed=2)
    found = pair_features(jets)
    n = int(jets.multiplicity.max())
    assert found.shape == (5, n, n, 4) and found.dtype == np.float64
    for j, jet in enumerate(jets):
        c = jet.constituents
        momenta = np.stack([c.pt, c.rapidity, c.phi, c.mass], axis=1)
        k = len(c)
        np.testing.assert_array_equal(found[j, :k, :k], pair_features(torch.from_numpy(momenta)).numpy())
        assert not found[j, k:].any() and not found[j, :, k:].any()
    tokens = rino.tokenize(jets, momenta=True)
    first = tokens.momenta[: tokens.offsets[1]]  # the hardest first
    order = np.argsort(-jets[0].constituents.pt, kind="stable")
    np.testing.assert_allclose(found[0][np.ix_(order, order)], pair_features(first).numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3, 5), "give pT, rapidity, phi and mass"),
        (torch.zeros(4), r"give those of N constituents, \[.., N, 4\]"),
        (torch.zeros(3, 4, dtype=torch.int64), "give pT, rapidity, phi and mass"),
        (np.zeros((3, 4)), "pair_features got ndarray"),
    ],
)
def test_what_are_no_momenta_is_refused(given, message):
    with pytest.raises(RinoError, match=message):
        pair_features(given)
