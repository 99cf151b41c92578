"""Networks and recipes that several test files compare with or train."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

import pyrino as rino

TINY = {
    "encoder.width": 8,
    "encoder.heads": 2,
    "encoder.layers": 2,
    "encoder.feedforward": 16,
    "head.prototypes": 4,
    "views.teacher": [1, 2],
    "views.student": [4, 8, "all"],
}


def tiny(**overrides: Any) -> rino.Recipe:
    """A recipe whose network has about 1,500 parameters; section__name sets section.name."""
    return rino.Recipe(**{**TINY, **{name.replace("__", "."): value for name, value in overrides.items()}})


def small_jets(n: int, seed: int = 5) -> rino.Jets:
    """Toy jets of few constituents, both labels: a training step on them takes milliseconds."""
    return rino.toy_jets(n, seed, top_fraction=0.5, multiplicity_mean=12, multiplicity_std=5, multiplicity_max=24)


class ReferenceEncoder(nn.Module):
    """`JetEncoder` as PyTorch's own modules spell it, on padded batches, weights of a state_dict copied in."""

    def __init__(self, recipe: rino.Recipe, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        size = recipe.encoder
        width = size.width
        dtype = state["norm.weight"].dtype
        self.embedding = nn.Linear(state["embedding.weight"].shape[1], width, dtype=dtype)
        self.learned = size.class_token == "learned"
        if self.learned:
            self.token = nn.Parameter(torch.empty(1, width, dtype=dtype))
        else:
            self.class_token = nn.Linear(4, width, dtype=dtype)
        layer = nn.TransformerEncoderLayer(
            width,
            size.heads,
            size.feedforward,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
            dtype=dtype,
        )
        final = nn.LayerNorm(width, dtype=dtype)
        self.transformer = nn.TransformerEncoder(layer, size.layers, norm=final, enable_nested_tensor=False)
        self.mapping = {"norm.weight": "transformer.norm.weight", "norm.bias": "transformer.norm.bias"}
        for name in state:
            head, _, rest = name.partition(".")
            if head == "embedding" or (head == "class_token" and not self.learned):
                self.mapping[name] = name
            elif head == "class_token":
                self.mapping[name] = "token"
            elif head == "blocks":
                number, rest = rest.split(".", 1)
                for mine, theirs in (
                    ("attention.qkv.", "self_attn.in_proj_"),
                    ("attention.out.", "self_attn.out_proj."),
                ):
                    rest = rest.replace(mine, theirs)
                self.mapping[name] = f"transformer.layers.{number}.{rest}"
        self.load_state_dict({self.mapping[name]: value for name, value in state.items()})

    def forward(
        self, features: torch.Tensor, mask: torch.Tensor, jet_features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[S, N, F], [S, N] true where a token is, [S, 4] -> [S, D], [S, N, D]."""
        first = self.token.expand(len(features), -1) if self.learned else self.class_token(jet_features)
        x = torch.cat([first[:, None], self.embedding(features)], 1)
        padding = torch.cat([torch.zeros_like(mask[:, :1]), ~mask], 1)
        z = self.transformer(x, src_key_padding_mask=padding)
        return z[:, 0], z[:, 1:]


class ReferenceHead(nn.Module):
    """`ProjectionHead` from its formula: linear layers with GELU, L2 norm, weight-normalised linear of gain 1."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.names = list(state)
        self.values = nn.ParameterList([nn.Parameter(value.clone()) for value in state.values()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = dict(zip(self.names, self.values, strict=True))
        depth = sum(name.startswith("hidden.") for name in self.names) // 2
        for layer in range(depth):
            x = x @ state[f"hidden.{layer}.weight"].T + state[f"hidden.{layer}.bias"]
            x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        if "bottleneck.weight" in state:
            x = x @ state["bottleneck.weight"].T + state["bottleneck.bias"]
        weight = state["prototypes.weight"]
        return (x / x.norm(dim=-1, keepdim=True)) @ (weight / weight.norm(dim=1, keepdim=True)).T


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Copies of a module's parameters by name."""
    return {name: value.detach().numpy().copy() for name, value in module.named_parameters()}


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """Names and every bit of the values."""
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
