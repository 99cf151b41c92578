"""Losses as plain functions on torch tensors; they run in C++ and have gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pyrino import _core
from pyrino._arguments import called
from pyrino._columns import to_int64

__all__ = ["centered_assignment", "dino_loss", "gram_loss", "ibot_loss", "koleo_loss", "sinkhorn"]


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
