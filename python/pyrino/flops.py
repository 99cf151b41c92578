"""Floating-point operations of networks: matrix products of packed rows, the jets' own constituents."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyrino.recipe import Recipe

__all__ = ["Flops", "embedding_size", "encoder_flops", "head_flops", "input_flops", "own_rows"]


def encoder_flops(recipe: Recipe, lengths: np.ndarray, features: int, *, jets_only: bool = True) -> float:
    """Floating-point operations of the encoder's matrix products, forward.

    Of a transformer, with width d, hidden width f, F features, R registers and class tokens, n tokens and L = n + R
    rows in a sequence, and m = 2 products with the hidden layer (GELU) or 3 (SwiGLU), a multiplication and its addition
    counted as two:

    ================================  ================================
    embedding                         2 d F n, and 2 d J where the class token is of J jet features
    a block                           L (8 d^2 + 2 m d f) + 4 d L^2
    the last, where jets are wanted   4 d^2 (L + 1) + 2 m d f + 4 d L
    a class layer                     the same, of L = n + 1 rows
    a deep embedding                  2 d F n + 16 d^2 n in place of the first
    pairs, of h heads and width p     (n^2 + n) (4 p + 2 p^2 + p h)
    ================================  ================================

    In that one only the class token asks: keys and values of all rows, all else of one row. Padding, norms,
    activations, softmax, positions, pooling and biases are not counted. Of deep sets, the layers of n tokens and those
    of the jet.

    Parameters
    ----------
    recipe
        Its ``encoder`` section gives the sizes.
    lengths
        (S,) tokens n of every sequence.
    features
        F.
    jets_only
        Whether nothing but the class tokens' embeddings is wanted.
    """
    size = recipe.encoder
    if size.kind == "deep-sets":
        each = _products([features, *[size.hidden] * size.layers, size.width])
        jet = _products([size.width, *[size.embedding] * size.jet_layers])
        return float(each * np.sum(lengths) + jet * len(lengths))
    d, f = size.width, size.feedforward
    hidden = 2 * (3 if size.feedforward_kind == "swiglu" else 2) * d * f
    n = np.asarray(lengths, dtype=np.float64)
    rows = n + own_rows(recipe)
    short = jets_only and size.pooling == "token" and size.layers > 0 and size.class_layers == 0
    flops = (size.layers - short) * (rows * (8 * d**2 + hidden) + 4 * d * rows**2)
    if short:
        flops += 4 * d**2 * (rows + 1) + hidden + 4 * d * rows
    flops += size.class_layers * (4 * d**2 * (n + 2) + hidden + 4 * d * (n + 1))
    if size.embedding != "linear":
        flops += 16 * d**2 * n
    if size.pairs != "none":
        flops += (n**2 + n) * (4 * size.pair_width + 2 * size.pair_width**2 + size.pair_width * size.heads)
    return float(flops.sum()) + input_flops(recipe, lengths, features)


def input_flops(recipe: Recipe, lengths: np.ndarray, features: int) -> float:
    """Those of them that look at the inputs, which need no gradient."""
    size = recipe.encoder
    if size.kind == "deep-sets":
        return 2.0 * features * (size.hidden if size.layers else size.width) * float(np.sum(lengths))
    jets = len(recipe.jets.jet_features) * len(lengths) if size.class_token == "jet" else 0
    return 2.0 * size.width * (features * float(np.sum(lengths)) + jets)


def embedding_size(recipe: Recipe) -> int:
    """Size of a jet's embedding."""
    return recipe._core.encoder_outputs()


def own_rows(recipe: Recipe) -> int:
    """Rows of a sequence in the blocks that are no tokens: a transformer's class token and registers."""
    size = recipe.encoder
    if size.kind != "transformer":
        return 0
    return (size.class_token != "none" and size.class_layers == 0) + size.registers


def head_flops(recipe: Recipe) -> float:
    """Floating-point operations of the projection head for one embedding, matrix products only."""
    head, d = recipe.head, embedding_size(recipe)
    widths = [d, *[head.hidden_width or 4 * d] * head.hidden_layers, *([head.bottleneck] if head.bottleneck else [])]
    return _products([*widths, head.prototypes])


def _products(widths: list[int]) -> float:
    """Of a row that goes through linear layers of these widths."""
    return 2.0 * sum(a * b for a, b in itertools.pairwise(widths))


@dataclass
class Flops:
    """Of a step, for one jet of the sample on average; rows are tokens, class tokens and registers."""

    student: float = 0
    teacher: float = 0
    heads: float = 0
    koleo: float = 0
    student_rows: float = 0
    teacher_rows: float = 0

    @property
    def total(self) -> float:
        return self.student + self.teacher + self.heads + self.koleo
