"""Losses against re-computations in float64 from their formulas, and their gradients against finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp, softmax

import pyrino as rino
from pyrino import RinoError

Floats = NDArray[np.float64]


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def probabilities(*shape: int, seed: int = 1) -> Floats:
    return softmax(2 * normal(*shape, seed=seed), axis=-1)


def t(array: Floats, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(array).to(dtype)


# --- Sinkhorn ---


def sinkhorn_knopp(scores: Floats, temperature: float, iterations: int) -> Floats:
    """SwAV's algorithm on the matrix itself, not on logarithms."""
    q = np.exp((scores - scores.max()) / temperature)
    for _ in range(iterations):
        q = q / q.sum(0, keepdims=True) * (q.shape[0] / q.shape[1])
        q = q / q.sum(1, keepdims=True)
    return q


@pytest.mark.parametrize(("samples", "prototypes"), [(1, 5), (7, 3), (40, 16), (16, 40)])
@pytest.mark.parametrize("temperature", [0.04, 0.5])
@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_sinkhorn_is_alternating_normalisation(samples, prototypes, temperature, iterations):
    scores = np.tanh(normal(samples, prototypes))
    wanted = sinkhorn_knopp(scores, temperature, iterations)
    double = rino.sinkhorn(t(scores), temperature, iterations)
    np.testing.assert_allclose(double.numpy(), wanted, rtol=1e-12, atol=1e-14)
    single = rino.sinkhorn(t(scores, torch.float32), temperature, iterations)
    assert double.dtype == torch.float64 and single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), wanted, rtol=0, atol=2e-5)  # scores / 0.04 carry 25 roundings of 6e-8


def test_sinkhorn_takes_three_iterations_unless_told():
    scores = t(normal(6, 4))
    assert torch.equal(rino.sinkhorn(scores, 0.1), rino.sinkhorn(scores, 0.1, 3))
    assert not torch.equal(rino.sinkhorn(scores, 0.1), rino.sinkhorn(scores, 0.1, 4))


def test_sinkhorn_of_many_iterations_has_both_marginals():
    q = rino.sinkhorn(t(normal(30, 12)), 0.5, 500).numpy()
    np.testing.assert_allclose(q.sum(1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(q.sum(0), 30 / 12, rtol=0, atol=1e-9)


def test_rows_sum_to_one_after_any_number_of_iterations():
    for iterations in (1, 2, 3):
        q = rino.sinkhorn(t(normal(9, 4)), 0.05, iterations)
        torch.testing.assert_close(q.sum(1), torch.ones(9, dtype=torch.float64), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sinkhorn_survives_extreme_scores(dtype):
    scores = 1e4 * np.sign(normal(20, 6))
    scores[3] = -1e4  # every exponential of the row underflows
    scores[:, 2] = -1e4
    scores[0, 0] = 1e4
    q = rino.sinkhorn(t(scores, dtype), 0.04)
    assert torch.isfinite(q).all() and (q >= 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(20, dtype=dtype), rtol=0, atol=1e-5)
    log_q = scores / 0.04
    for _ in range(3):
        log_q = log_q - logsumexp(log_q, axis=0, keepdims=True) + math.log(20 / 6)
        log_q = log_q - logsumexp(log_q, axis=1, keepdims=True)
    if dtype == torch.float64:  # float32 has steps of 0.03 at 1e4 / 0.04
        np.testing.assert_allclose(q.numpy(), np.exp(log_q), rtol=0, atol=1e-9)


def test_sinkhorn_does_not_mind_a_constant_on_all_scores():
    scores = normal(10, 5)
    torch.testing.assert_close(rino.sinkhorn(t(scores), 0.04), rino.sinkhorn(t(scores + 50), 0.04), rtol=1e-10, atol=0)


def test_assignments_have_no_gradient():
    scores = torch.randn(5, 4, requires_grad=True)
    assert not rino.sinkhorn(scores, 0.1).requires_grad
    assert not rino.centered_assignment(scores, torch.zeros(4), 0.1).requires_grad


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((torch.zeros(3), 0.1), r"shape \[3\]: give \[B, K\]"),
        ((torch.zeros(2, 3, 4), 0.1), r"shape \[2, 3, 4\]"),
        ((torch.zeros(0, 3), 0.1), r"shape \[0, 3\]"),
        ((torch.zeros(2, 3), 0.0), "temperature is 0"),
        ((torch.zeros(2, 3), -1.0), "temperature is -1"),
        ((torch.zeros(2, 3), math.nan), "temperature is nan"),
        ((torch.zeros(2, 3), 0.1, 0), "iterations are 0"),
    ],
)
def test_wrong_arguments_of_sinkhorn_are_named(arguments, match):
    with pytest.raises(RinoError, match=match):
        rino.sinkhorn(*arguments)


# --- centering ---


def test_centered_assignment_is_a_softmax():
    scores, center = normal(8, 5), normal(5, seed=2)
    wanted = softmax((scores - center) / 0.07, axis=1)
    np.testing.assert_allclose(rino.centered_assignment(t(scores), t(center), 0.07).numpy(), wanted, rtol=1e-12)
    extreme = rino.centered_assignment(t(scores * 1e4, torch.float32), t(center, torch.float32), 0.04)
    assert torch.isfinite(extreme).all()


@pytest.mark.parametrize(
    ("scores", "center", "temperature", "match"),
    [
        (torch.zeros(3), torch.zeros(3), 0.1, r"scores \[3\] and centre \[3\] do not fit"),
        (torch.zeros(2, 3), torch.zeros(2), 0.1, r"centre \[2\]"),
        (torch.zeros(2, 3), torch.zeros(1, 3), 0.1, r"centre \[1, 3\]"),
        (torch.zeros(2, 3), torch.zeros(3), 0.0, "temperature is 0"),
    ],
)
def test_wrong_arguments_of_centering_are_named(scores, center, temperature, match):
    with pytest.raises(RinoError, match=match):
        rino.centered_assignment(scores, center, temperature)


# --- DINO ---


def cross_entropy_of_pairs(assignments: Floats, scores: Floats, temperature: float) -> float:
    """One pair of different views after the other."""
    log_p = log_softmax(scores / temperature, axis=-1)
    pairs = [
        -np.sum(assignments[v] * log_p[s], axis=-1).mean()
        for v in range(len(assignments))
        for s in range(len(scores))
        if s != v
    ]
    assert len(pairs) == len(assignments) * len(scores) - len(assignments)
    return float(np.mean(pairs))


@pytest.mark.parametrize(("teachers", "students"), [(4, 9), (1, 2), (3, 3), (2, 7), (1, 5)])
def test_dino_loss_is_the_mean_over_pairs_of_different_views(teachers, students):
    assignments, scores = probabilities(teachers, 6, 5), normal(students, 6, 5)
    wanted = cross_entropy_of_pairs(assignments, scores, 0.1)
    assert rino.dino_loss(t(assignments), t(scores), 0.1).item() == pytest.approx(wanted, rel=1e-13)
    single = rino.dino_loss(t(assignments, torch.float32), t(scores, torch.float32), 0.1)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(wanted, rel=1e-5)


def test_dino_loss_of_the_right_answer_is_the_entropy():
    assignments = probabilities(2, 6, 5)
    scores = 0.1 * np.log(assignments[:1]).repeat(4, 0)
    entropy = -(assignments[0] * np.log(assignments[0])).sum(-1).mean()
    same = t(assignments[:1].repeat(2, 0))
    assert rino.dino_loss(same, t(scores), 0.1).item() == pytest.approx(entropy, rel=1e-12)


def test_gradient_of_the_dino_loss():
    assignments = t(probabilities(2, 3, 4)).requires_grad_()
    scores = t(normal(4, 3, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: rino.dino_loss(assignments, s, 0.3), scores, rtol=1e-6, atol=1e-9)
    rino.dino_loss(assignments, scores, 0.3).backward()
    assert assignments.grad is None
    p, log_p = softmax(scores.detach().numpy() / 0.3, -1), assignments.detach().numpy()
    expected = np.zeros_like(p)
    for v in range(2):
        for s in range(4):
            if s != v:
                expected[s] += (p[s] - log_p[v]) / 0.3 / (6 * 3)
    np.testing.assert_allclose(scores.grad.numpy(), expected, rtol=0, atol=1e-12)


def test_dino_loss_survives_extreme_scores():
    scores = t(1e4 * np.sign(normal(3, 5, 4)), torch.float32).requires_grad_()
    loss = rino.dino_loss(t(probabilities(2, 5, 4), torch.float32), scores, 0.1)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("teacher", "student", "temperature", "match"),
    [
        ((2, 5), (3, 2, 5), 0.1, "do not fit"),
        ((2, 4, 5), (3, 4), 0.1, "do not fit"),
        ((2, 4, 5), (3, 6, 5), 0.1, r"teacher assignments \[2, 4, 5\] and student scores \[3, 6, 5\] do not fit"),
        ((2, 4, 5), (3, 4, 6), 0.1, "do not fit"),
        ((3, 4, 5), (2, 4, 5), 0.1, "V >= T"),
        ((1, 4, 5), (1, 4, 5), 0.1, "one view alone"),
        ((1, 4, 5), (2, 4, 5), 0.0, "temperature is 0"),
    ],
)
def test_wrong_arguments_of_the_dino_loss_are_named(teacher, student, temperature, match):
    with pytest.raises(RinoError, match=match):
        rino.dino_loss(torch.rand(*teacher), torch.rand(*student), temperature)


# --- KoLeo ---


def koleo(embeddings: Floats) -> float:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distances = cdist(unit, unit)
    np.fill_diagonal(distances, np.inf)
    return float(-np.mean(np.log(distances.min(1) + 1e-8)))


@pytest.mark.parametrize("shape", [(2, 3), (5, 2), (64, 32), (200, 8)])
def test_koleo_is_the_log_distance_to_the_nearest_neighbour(shape):
    embeddings = 3 * normal(*shape) + 1
    assert rino.koleo_loss(t(embeddings)).item() == pytest.approx(koleo(embeddings), rel=1e-11)
    single = rino.koleo_loss(t(embeddings, torch.float32))
    assert single.dtype == torch.float32 and single.item() == pytest.approx(koleo(embeddings), rel=1e-4, abs=1e-5)


def test_koleo_ignores_the_length_of_embeddings():
    embeddings = t(normal(10, 4))
    scaled = embeddings * torch.linspace(0.1, 9, 10, dtype=torch.float64)[:, None]
    torch.testing.assert_close(rino.koleo_loss(scaled), rino.koleo_loss(embeddings), rtol=1e-12, atol=0)


def test_gradient_of_koleo():
    embeddings = t(normal(9, 4)).requires_grad_()
    assert torch.autograd.gradcheck(rino.koleo_loss, embeddings, eps=1e-7, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_koleo_of_equal_or_zero_embeddings_is_finite(dtype):
    for embeddings in (torch.ones(4, 3, dtype=dtype), torch.zeros(4, 3, dtype=dtype)):
        embeddings.requires_grad_()
        loss = rino.koleo_loss(embeddings)
        loss.backward()
        assert torch.isfinite(loss) and loss > 15  # -log 1e-8 = 18.4 at distance 0, up to a factor of 2
        assert torch.isfinite(embeddings.grad).all()


def test_descent_on_koleo_spreads_embeddings():
    embeddings = (t(normal(12, 2)) * 0.05 + torch.tensor([1.0, 0.0])).requires_grad_()
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    first = rino.koleo_loss(embeddings).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = rino.koleo_loss(embeddings)
        loss.backward()
        optimizer.step()
    regular = -math.log(2 * math.sin(math.pi / 12))  # twelve points evenly on a circle
    assert regular - 1e-6 <= loss.item() < min(first, regular + 0.25)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3, 4), (0, 4)])
def test_wrong_shapes_for_koleo_are_named(shape):
    with pytest.raises(RinoError, match=r"give \[B, D\] with two jets or more"):
        rino.koleo_loss(torch.rand(*shape))


# --- iBOT ---


def cross_entropy_of_masked(assignments: Floats, scores: Floats, counts: list[int], temperature: float) -> float:
    """One jet after the other."""
    log_p = log_softmax(scores / temperature, axis=1)
    bounds = np.cumsum([0, *counts])
    jets = [-np.sum(assignments[a:b] * log_p[a:b], axis=1).mean() for a, b in itertools.pairwise(bounds)]
    return float(np.mean(jets))


@pytest.mark.parametrize("counts", [[1], [3, 1, 8], [2, 2, 2, 2]])
def test_ibot_loss_is_the_mean_over_masked_constituents_then_over_jets(counts):
    total = sum(counts)
    assignments, scores = probabilities(total, 7), normal(total, 7)
    wanted = cross_entropy_of_masked(assignments, scores, counts, 0.1)
    loss = rino.ibot_loss(t(assignments), t(scores), torch.tensor(counts), 0.1)
    assert loss.item() == pytest.approx(wanted, rel=1e-13)
    single = rino.ibot_loss(t(assignments, torch.float32), t(scores, torch.float32), torch.tensor(counts), 0.1)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(wanted, rel=1e-5)


def test_gradient_of_the_ibot_loss():
    assignments, scores = t(probabilities(6, 4)).requires_grad_(), t(normal(6, 4)).requires_grad_()
    counts = torch.tensor([4, 2])
    assert torch.autograd.gradcheck(lambda s: rino.ibot_loss(assignments, s, counts, 0.3), scores, rtol=1e-6, atol=1e-9)
    rino.ibot_loss(assignments, scores, counts, 0.3).backward()
    assert assignments.grad is None
    weights = np.array([1 / 8] * 4 + [1 / 4] * 2)[:, None]
    p = softmax(scores.detach().numpy() / 0.3, -1)
    np.testing.assert_allclose(scores.grad.numpy(), weights * (p - assignments.detach().numpy()) / 0.3, atol=1e-13)


def test_wrong_arguments_of_the_ibot_loss_are_named():
    some, counts = torch.rand(3, 4), torch.tensor([3])
    for arguments, match in [
        ((some, torch.rand(3, 5), counts, 0.1), r"\[3, 4\] and student scores \[3, 5\] do not fit"),
        ((some, some, torch.tensor([3.0]), 0.1), "give int64"),
        ((some, some, torch.tensor([1, 1]), 0.1), "counts do not fit 3 masked constituents"),
        ((some, some, torch.tensor([3, 0]), 0.1), "give 1 or more of each jet"),
        ((some, some, counts, 0.0), "temperature is 0"),
    ]:
        with pytest.raises(RinoError, match=match):
            rino.ibot_loss(*arguments)


# --- Gram ---


def difference_of_cosines(student: Floats, teacher: Floats, lengths: list[int]) -> float:
    bounds = np.cumsum([0, *lengths])
    jets = []
    for a, b in itertools.pairwise(bounds):
        cosines = [1 - cdist(z[a:b], z[a:b], "cosine") for z in (student, teacher)]
        jets.append(np.mean((cosines[0] - cosines[1]) ** 2))
    return float(np.mean(jets))


@pytest.mark.parametrize("lengths", [[5], [1, 7, 3], [2, 2]])
def test_gram_loss_is_the_mean_squared_difference_of_cosines(lengths):
    student, teacher = normal(sum(lengths), 6), normal(sum(lengths), 6, seed=3)
    wanted = difference_of_cosines(student, teacher, lengths)
    assert rino.gram_loss(t(student), t(teacher), lengths).item() == pytest.approx(wanted, rel=1e-12)
    single = rino.gram_loss(t(student, torch.float32), t(teacher, torch.float32), torch.tensor(lengths))
    assert single.dtype == torch.float32 and single.item() == pytest.approx(wanted, rel=1e-5)


def test_gradient_of_the_gram_loss():
    student, teacher = t(normal(7, 3)).requires_grad_(), t(normal(7, 3, seed=3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: rino.gram_loss(z, teacher, [3, 4]), student, rtol=1e-6, atol=1e-9)
    rino.gram_loss(student, teacher, [3, 4]).backward()
    assert teacher.grad is None


def test_wrong_arguments_of_the_gram_loss_are_named():
    with pytest.raises(RinoError, match="do not fit 2 jets of 5 constituents"):
        rino.gram_loss(torch.rand(4, 3), torch.rand(4, 3), [2, 3])
    with pytest.raises(RinoError, match="has 0 constituents"):
        rino.gram_loss(torch.rand(4, 3), torch.rand(4, 3), [4, 0])


# --- low precision ---


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_inputs_run_in_float32(dtype):
    scores, targets = t(normal(3, 6, 5), dtype), t(probabilities(2, 6, 5), dtype)
    for low, full in (
        (rino.sinkhorn(scores[0], 0.04), rino.sinkhorn(scores[0].float(), 0.04)),
        (
            rino.centered_assignment(scores[0], scores[1, 0], 0.04),
            rino.centered_assignment(scores[0].float(), scores[1, 0].float(), 0.04),
        ),
        (rino.dino_loss(targets, scores, 0.1), rino.dino_loss(targets.float(), scores.float(), 0.1)),
        (rino.koleo_loss(scores[0]), rino.koleo_loss(scores[0].float())),
    ):
        assert low.dtype == torch.float32 and torch.equal(low, full)
    scores.requires_grad_()
    (rino.dino_loss(targets, scores, 0.1) + rino.koleo_loss(scores[0])).backward()
    assert scores.grad.dtype == dtype and torch.isfinite(scores.grad).all()


# --- contrastive: rows are compared with all others ---


def unit(x: Floats) -> Floats:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def nt_xent_row(x: Floats, i: int, temperature: float) -> float:
    """One row's term, as the formula stands."""
    z = unit(x)
    s = z @ z[i] / temperature
    return float(logsumexp(np.delete(s, i)) - s[(i + len(x) // 2) % len(x)])


def nt_xent(a: Floats, b: Floats, temperature: float) -> float:
    """The mean over rows."""
    return float(np.mean([nt_xent_row(np.concatenate([a, b]), i, temperature) for i in range(2 * len(a))]))


def supcon_row(x: Floats, labels: list[int], i: int, temperature: float) -> float | None:
    """One row's term, the mean outside the logarithm; None where no other has its label."""
    z = unit(x)
    s = z @ z[i] / temperature
    positives = [j for j in range(len(z)) if j != i and labels[j] == labels[i]]
    return -float(np.mean([s[p] - logsumexp(np.delete(s, i)) for p in positives])) if positives else None


def supcon(z: Floats, labels: list[int], temperature: float) -> float:
    """The mean over rows."""
    rows = [row for i in range(len(z)) if (row := supcon_row(z, labels, i, temperature)) is not None]
    return float(np.mean(rows)) if rows else 0.0


@pytest.mark.parametrize("jets", [2, 3, 17])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_nt_xent_is_its_formula(jets, temperature):
    a, b = normal(jets, 5), normal(jets, 5, seed=3)
    wanted = nt_xent(a, b, temperature)
    assert rino.nt_xent_loss(t(a), t(b), temperature).item() == pytest.approx(wanted, rel=1e-12)
    assert rino.nt_xent_loss(t(b), t(100 * a), temperature).item() == pytest.approx(wanted, rel=1e-12)
    single = rino.nt_xent_loss(t(a, torch.float32), t(b, torch.float32), temperature)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-40])
def test_weights_of_jets_multiply_the_terms_of_their_rows(scale):
    a, b = normal(5, 4), normal(5, 4, seed=3)
    labels, w = torch.tensor([0, 1, 0, 2, 1]), np.array([0.5, 3.0, 0.0, 7.0, 1e-3])
    weights = torch.tensor(scale * w)
    rows = [nt_xent_row(np.concatenate([a, b]), i, 0.2) for i in range(10)]
    wanted = np.average(rows, weights=np.tile(w, 2))
    assert rino.nt_xent_loss(t(a), t(b), 0.2, weights).item() == pytest.approx(wanted, rel=1e-12)
    single = rino.nt_xent_loss(t(a, torch.float32), t(b, torch.float32), 0.2, weights)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(wanted, rel=1e-5)
    # Row 3 alone has its label: its weight must not count.
    rows = [supcon_row(a, labels.tolist(), i, 0.2) for i in (0, 1, 2, 4)]
    wanted = np.average(rows, weights=w[[0, 1, 2, 4]])
    assert rino.supcon_loss(t(a), labels, 0.2, weights).item() == pytest.approx(wanted, rel=1e-12)
    equal = torch.full((5,), 0.3 * scale, dtype=torch.float64)
    assert rino.nt_xent_loss(t(a), t(b), 0.2, equal).item() == pytest.approx(nt_xent(a, b, 0.2), rel=1e-12)
    assert rino.nt_xent_loss(t(a), t(b), 0.2, 0 * weights).item() == 0.0
    with pytest.raises(RinoError, match=r"NT-Xent was given weights \[4\] for 5: give one number"):
        rino.nt_xent_loss(t(a), t(b), 0.2, weights[:4])
    with pytest.raises(RinoError, match=r"SupCon was given weights \[5\] for 5: give one number of a floating"):
        rino.supcon_loss(t(a), labels, 0.2, labels)


def test_nt_xent_of_small_temperatures_does_not_overflow():
    a, b = t(normal(6, 4), torch.float32), t(normal(6, 4, seed=2), torch.float32)
    assert rino.nt_xent_loss(a, b, 1e-3).item() == pytest.approx(
        nt_xent(a.double().numpy(), b.double().numpy(), 1e-3), 1e-3
    )


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 0], [5, 5, 5, 5, 5, 5], [0, 1, 2, 2, 3, 4], [0, 1, 2, 3, 4, 5]])
def test_supcon_is_its_formula(labels):
    z = normal(6, 4)
    wanted = supcon(z, labels, 0.2)
    assert rino.supcon_loss(t(z), torch.tensor(labels), 0.2).item() == pytest.approx(wanted, rel=1e-12, abs=1e-14)
    single = rino.supcon_loss(t(z, torch.float32), torch.tensor(labels), 0.2)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(wanted, rel=1e-5)


def test_supcon_of_jets_of_different_labels_is_nt_xent():
    a, b = t(normal(9, 4)), t(normal(9, 4, seed=7))
    loss = rino.supcon_loss(torch.cat([a, b]), torch.arange(9).repeat(2), 0.1)
    assert loss.item() == pytest.approx(rino.nt_xent_loss(a, b, 0.1).item(), rel=1e-13)


def test_gradients_of_the_contrastive_losses():
    a, b = t(normal(4, 3)).requires_grad_(), t(normal(4, 3, seed=3)).requires_grad_()
    labels = torch.tensor([0, 1, 0, 2, 0, 1, 0, 2])
    tolerances = {"rtol": 1e-6, "atol": 1e-9}
    assert torch.autograd.gradcheck(lambda a, b: rino.nt_xent_loss(a, b, 0.3), (a, b), **tolerances)
    assert torch.autograd.gradcheck(lambda a, b: rino.supcon_loss(torch.cat([a, b]), labels, 0.3), (a, b), **tolerances)
    assert torch.autograd.gradcheck(rino.alignment, (a, b), **tolerances)
    assert torch.autograd.gradcheck(rino.uniformity, a, **tolerances)


def test_alignment_and_uniformity_are_their_formulas():
    a, b = normal(8, 5), normal(8, 5, seed=3)
    assert rino.alignment(t(a), t(b)).item() == pytest.approx(np.mean(np.sum((unit(a) - unit(b)) ** 2, 1)), rel=1e-13)
    assert rino.alignment(t(a), t(2 * a)).item() == pytest.approx(0, abs=1e-30)
    pairs = [np.exp(-2 * np.sum((x - y) ** 2)) for x, y in itertools.combinations(unit(a), 2)]
    assert rino.uniformity(t(a)).item() == pytest.approx(np.log(np.mean(pairs)), rel=1e-12)
    assert rino.uniformity(t(np.ones((3, 2)))).item() == pytest.approx(0, abs=1e-14)
    assert rino.uniformity(t(a, torch.float32)).dtype == torch.float32


def test_wrong_arguments_of_the_contrastive_losses_are_named():
    some = torch.rand(3, 4)
    for function, arguments, match in [
        (rino.nt_xent_loss, (some, torch.rand(3, 5), 0.1), r"NT-Xent was given Float \[3, 4\] and Float \[3, 5\]"),
        (rino.nt_xent_loss, (some, some.double(), 0.1), "of one floating-point type"),
        (rino.nt_xent_loss, (some[:1], some[:1], 0.1), "1 jet: give two or more"),
        (rino.nt_xent_loss, (some, some, 0.0), "temperature is 0"),
        (rino.supcon_loss, (some, torch.tensor([0, 1]), 0.1), r"\[3, 4\] and labels Long \[2\]"),
        (rino.supcon_loss, (some, torch.tensor([0.0, 1, 1]), 0.1), "int64"),
        (rino.supcon_loss, (some[:1], torch.tensor([0]), 0.1), "1 row: give two or more"),
        (rino.supcon_loss, (some, torch.tensor([0, 1, 1]), -1.0), "temperature is -1"),
        (rino.alignment, (some, some[:2]), r"\[2, 4\]: give two views"),
        (rino.alignment, (some[:0], some[:0]), "no jets"),
        (rino.uniformity, (some[:1],), "two jets or more"),
    ]:
        with pytest.raises(RinoError, match=match):
            function(*arguments)
