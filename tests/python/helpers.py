"""Networks and recipes that several test files compare with or train."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

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


class PlainTagger(NamedTuple):
    """What LP-FT in plain PyTorch makes of an encoder and a linear head."""

    losses: list[float]  #: of every step
    weight: torch.Tensor  #: the head's
    encoder: dict[str, torch.Tensor]  #: by the names of `JetEncoder`


def plain_lp_ft(
    encoder: rino.JetEncoder, jets: rino.Jets, loss_of: Callable[[torch.Tensor], torch.Tensor], seed: int = 0
) -> PlainTagger:
    """LP-FT as the recipe's ``finetune`` section says, all jets at once, in float64; `loss_of` takes outputs [n, k].

    With layer-wise rates, a pull to the start (L2-SP) and a moving average of the weights where they are on.
    """
    recipe, f = encoder.recipe, encoder.recipe.finetune
    reference = ReferenceEncoder(recipe, encoder.state_dict())
    ours = {theirs: name for name, theirs in reference.mapping.items()}
    head = rino.Tagger(encoder, "linear", seed=seed).head[0]
    weight, bias = (p.detach().clone().requires_grad_() for p in (head.weight, head.bias))
    parameters = dict(reference.named_parameters())
    start = {name: p.detach().clone() for name, p in parameters.items()}
    tokens = encoder.tokenize(jets)
    padded, mask = tokens.padded()
    probing = [{"params": [weight, bias], "peak": f.probe_lr}]
    everything = [
        {"params": [p], "peak": f.encoder_lr * f.layer_decay ** encoder.depth(ours[name])}
        for name, p in parameters.items()
        if name in ours
    ]
    everything.append({"params": [weight, bias], "peak": f.head_lr})
    losses: list[float] = []
    average: list[torch.Tensor] = []
    for epochs, groups in ((f.probe_epochs, probing), (f.epochs, everything)):
        optimizer = torch.optim.AdamW(groups, lr=1.0, eps=f.eps, weight_decay=f.weight_decay)
        moved = [p for group in groups for p in group["params"]]
        average = [p.detach().clone() for p in moved]
        for step in range(epochs):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(f, step, epochs)
            loss = loss_of(reference(padded, mask, tokens.jet_features)[0][tokens.rows(0)] @ weight.T + bias)
            if groups is everything:
                loss = loss + f.l2_sp / 2 * sum((p - start[name]).square().sum() for name, p in parameters.items())
            reference.zero_grad()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(moved, f.clip)
            optimizer.step()
            losses.append(loss.item())
            for kept, p in zip(average, moved, strict=True):
                kept.lerp_(p.detach(), 1 - f.average)
    if f.average and f.epochs:
        with torch.no_grad():
            for kept, p in zip(average, moved, strict=True):
                p.copy_(kept)
    return PlainTagger(losses, weight.detach(), {ours[n]: p.detach() for n, p in parameters.items() if n in ours})


def schedule(numbers: Any, step: int, steps: int) -> float:
    """The factor on a peak learning rate: a rise, along half a cosine or straight, and half a cosine down."""
    warmup = numbers.warmup * steps
    if step < warmup:
        risen = step / warmup if numbers.warmup_shape == "linear" else (1 - math.cos(math.pi * step / warmup)) / 2
        return numbers.warmup_start + (1 - numbers.warmup_start) * risen
    share = (step - warmup) / (steps - warmup)
    return numbers.final_lr + (1 - numbers.final_lr) * (1 + math.cos(math.pi * share)) / 2
