"""Losses as plain functions on torch tensors; they run in C++ and have gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pyrino import _core
from pyrino._arguments import called
from pyrino._columns import to_int64

__all__ = [
    "alignment",
    "centered_assignment",
    "dino_loss",
    "gram_loss",
    "ibot_loss",
    "koleo_loss",
    "nt_xent_loss",
    "sinkhorn",
    "supcon_loss",
    "uniformity",
]


def sinkhorn(scores: torch.Tensor, temperature: float, iterations: int = 3) -> torch.Tensor:
    """Soft assignment of samples to prototypes that uses every prototype about equally.

    Parameters
    ----------
    scores
        [B, K], floating point.
    temperature
        Above 0.
    iterations
        Of Sinkhorn-Knopp on exp(scores / temperature): prototypes to total B / K, then samples to total 1.

    Returns
    -------
    torch.Tensor
        [B, K], rows sum to 1, float32 (float64 for float64 scores), no gradient.

    Raises
    ------
    RinoError
        For another shape, or temperature or iterations outside their range.

    Notes
    -----
    SwAV, arXiv:2006.09882, section 3.1.
    """
    return called(_core.sinkhorn, scores, temperature, iterations)


def centered_assignment(scores: torch.Tensor, center: torch.Tensor, temperature: float) -> torch.Tensor:
    """softmax((scores - center) / temperature): scores [B, K], center [K]; no gradient.

    DINO, arXiv:2104.14294, equation 4. Raises RinoError for shapes that do not fit.
    """
    return called(_core.centered_assignment, scores, center, temperature)


def dino_loss(assignments: torch.Tensor, scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy between teacher and student, averaged over pairs of different views and over jets.

    Parameters
    ----------
    assignments
        The teacher's probabilities [T, B, K].
    scores
        The student's scores [V, B, K]; the first T views are the teacher's.
    temperature
        The student's, above 0.

    Returns
    -------
    torch.Tensor
        Scalar; its gradient reaches the student's scores only.

    Raises
    ------
    RinoError
        For shapes that do not fit or a single view.

    Notes
    -----
    DINO, arXiv:2104.14294, equation 3; all T V - T pairs as in arXiv:2509.07486.
    """
    return called(_core.dino_loss, assignments, scores, temperature)


def koleo_loss(embeddings: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Minus the mean logarithm of each normalised embedding's distance to its nearest neighbour.

    Parameters
    ----------
    embeddings
        [B, D], B >= 2, not normalised.
    eps
        Added to the distances.

    Returns
    -------
    torch.Tensor
        Scalar.

    Raises
    ------
    RinoError
        For another shape or fewer than two embeddings.

    Notes
    -----
    Sablayrolles et al., arXiv:1806.03198, equation 4.
    """
    return called(_core.koleo_loss, embeddings, eps)


def ibot_loss(
    assignments: torch.Tensor, scores: torch.Tensor, counts: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cross-entropy between teacher and student on masked constituents, the mean of each jet's, then over jets.

    Parameters
    ----------
    assignments
        The teacher's probabilities [M, K] of the masked constituents, which it has seen.
    scores
        The student's scores [M, K], which has not.
    counts
        int64 [J]: masked constituents of each jet that has some, M together; the rows stand in the order of these jets.
    temperature
        The student's, above 0.

    Returns
    -------
    torch.Tensor
        Scalar; its gradient reaches the student's scores only. 0 where nothing is masked.

    Raises
    ------
    RinoError
        For shapes that do not fit or a temperature that is not above 0.

    Notes
    -----
    iBOT, arXiv:2111.07832, equation 2.
    """
    return called(_core.ibot_loss, assignments, scores, counts, temperature)


def gram_loss(
    student: torch.Tensor, teacher: torch.Tensor, lengths: Sequence[int] | torch.Tensor | np.ndarray
) -> torch.Tensor:
    """Mean squared difference of the cosines between all constituents of a jet, as student and teacher embed them.

    Parameters
    ----------
    student
        Its embeddings of constituents, [T, D], jet after jet.
    teacher
        Its embeddings of the same, [T, D].
    lengths
        Constituents of each jet, 1 or more, T together.

    Returns
    -------
    torch.Tensor
        Scalar, averaged over the n^2 entries of each jet, then over jets; its gradient reaches the student only.

    Raises
    ------
    RinoError
        For shapes that do not fit.

    Notes
    -----
    DINOv3, arXiv:2508.10104, equation 2, there the sum over entries.
    """
    return called(_core.gram_loss, student, teacher, to_int64(lengths, "lengths").tolist())


def nt_xent_loss(
    a: torch.Tensor, b: torch.Tensor, temperature: float = 0.1, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Each view of a jet has to find the other one among all views of all jets (NT-Xent).

    With z = x / |x| of the 2N rows, s_ij = z_i . z_j and k(i) the other view of row i: the mean over rows of
    ln sum_{j != i} exp(s_ij / t) - s_{i,k(i)} / t.

    Parameters
    ----------
    a, b
        Two views of the same jets, [N, D] each, floating point, not normalised; N >= 2.
    temperature
        t, above 0.
    weights
        [N] of the jets, floating point, 0 or more: a jet's multiplies the terms of its two rows, and the mean is over
        the sum of the weights. None: all count alike, as they do in the sums over j.

    Returns
    -------
    torch.Tensor
        Scalar, float32 (float64 for float64 rows).

    Raises
    ------
    RinoError
        For shapes that do not fit, fewer than two jets or a temperature that is not above 0.

    Notes
    -----
    SimCLR, arXiv:2002.05709, equation 1; for jets JetCLR, arXiv:2108.04253.
    """
    return called(_core.nt_xent_loss, a, b, temperature, weights)


def supcon_loss(
    z: torch.Tensor, labels: torch.Tensor, temperature: float = 0.1, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Each row has to find all others of its label among all rows (SupCon).

    With z normalised, s_ij = z_i . z_j and P_i the other rows of the label of i: the mean over rows of
    -(1 / |P_i|) sum_{p in P_i} [s_ip / t - ln sum_{j != i} exp(s_ij / t)]. Rows of a label that no other has are left
    out of the mean. Where every label is that of two rows, the views of one jet, it is `nt_xent_loss`.

    Parameters
    ----------
    z
        [M, D], floating point, not normalised; M >= 2. Of two views: ``torch.cat([a, b])``.
    labels
        int64 [M]. Of two views: ``labels.repeat(2)``.
    temperature
        t, above 0.
    weights
        [M] of the rows, floating point, 0 or more; as those of `nt_xent_loss`. Of two views: ``weights.repeat(2)``.

    Returns
    -------
    torch.Tensor
        Scalar, float32 (float64 for float64 rows); 0 where no row has another of its label.

    Raises
    ------
    RinoError
        For shapes or types that do not fit, fewer than two rows or a temperature that is not above 0.

    Notes
    -----
    Khosla et al., arXiv:2004.11362, equation 2, without their factor of temperature.
    """
    return called(_core.supcon_loss, z, labels, temperature, weights)


def alignment(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How far two views of a jet lie apart on the sphere: the mean of |z_a - z_b|^2, z = x / |x|; between 0 and 4.

    Two views of the same jets, [N, D] each, not normalised. Wang and Isola, arXiv:2005.10242, equation 1 with
    alpha = 2. Raises RinoError for shapes that do not fit.
    """
    return called(_core.alignment, a, b)


def uniformity(x: torch.Tensor) -> torch.Tensor:
    """How evenly embeddings fill the sphere: ln of the mean over pairs i < j of exp(-2 |z_i - z_j|^2), z = x / |x|.

    The lower, the more evenly; 0 where all are equal. x: [N, D], not normalised, N >= 2. Wang and Isola,
    arXiv:2005.10242, equation 2 with t = 2. Raises RinoError for another shape or fewer than two embeddings.
    """
    return called(_core.uniformity, x)
