"""A supervised training step of ParT, against the same step in plain PyTorch padded to the longest jet of the batch.

Two baselines, written as the published architecture is usually written, with torch.nn's modules: one embeds all pairs
i <= j of the padded batch and keeps those that exist, the other looks for these first. Their padded tensors lie ready
in memory; our step is timed with tokens, network, loss and optimiser. Pairs' features are part of all sides' steps.

--memory says what a step of so many full jets of 128 constituents takes at its peak, ours and theirs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

import torch
from common import Report, parser
from torch import nn
from torch.nn import functional

import pyrino as rino
from pyrino.bench import available_cores, interleaved, multiplicities, torch_threads

#: The least that our step is to be faster than the one with padded pairs.
AIM = 2.0
#: Losses of the first step agree to this share where the published formulas are given four-momenta of float64; from
#: float32 the mass of a light pair is lost in a difference, and the loss of `part` is off by percents.
TOLERANCE = 1e-4


def main() -> None:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--presets", nargs="+", default=["part-nano", "part"])
    options.add_argument(
        "--batch", type=int, help="jets of a step (default: 128 of part-nano, 32 of part; quick: half)"
    )
    options.add_argument("--threads", nargs="+", type=int, default=list(dict.fromkeys([1, available_cores()])))
    options.add_argument("--memory", type=int, metavar="JETS", help="measure the peak of a step of full jets instead")
    args = options.parse_args()
    if args.memory:
        for preset in args.presets:
            for side in ("ours", "padded pairs", "found pairs"):
                print(f"{preset}, {args.memory} jets of 128, {side}: {peak(preset, side, args.memory):.2f} GB")
        return
    report = Report("particle_transformer", rino.toy_jets(1000, seed=1))
    for preset in args.presets:
        batch = args.batch or (128 if "nano" in preset else 32) // (2 if args.quick else 1)
        jets = rino.toy_jets(batch, seed=1)
        report.document.setdefault("batches", {})[preset] = multiplicities(jets)
        for threads in args.threads:
            with torch_threads(threads):
                measure(report, preset, jets, threads, args.repetitions)
    report.finish(args.out)


def measure(report: Report, preset: str, jets: rino.Jets, threads: int, repetitions: int) -> None:
    """Losses without dropout, then the times of all sides by turns."""
    sides: dict[str, Callable[[], Any]] = {}
    exact = rino.Recipe.preset(preset).replace(**{"encoder.dropout": 0.0})
    losses = {
        side: float(step_of(exact, side, jets, torch.float64)()) for side in ("ours", "padded pairs", "found pairs")
    }
    for side in ("padded pairs", "found pairs"):
        report.check(f"{preset}: loss, ours and {side}", abs(losses[side] / losses["ours"] - 1), TOLERANCE)
    for side in losses:
        sides[side] = step_of(rino.Recipe.preset(preset), side, jets)
    times = interleaved(sides, repetitions, 60.0)
    where = f"{preset}, {threads} thread{'s' if threads > 1 else ''}"
    for side, timing in times.items():
        report.row(f"{where}: {side}", timing, len(jets))
    for side in ("padded pairs", "found pairs"):
        ratio = times[side].seconds / times["ours"].seconds
        report.figure(f"{where}: ours to {side}", ratio, AIM if side == "padded pairs" else None)


def step_of(
    recipe: rino.Recipe, side: str, jets: rino.Jets, momenta_as: torch.dtype = torch.float32
) -> Callable[[], torch.Tensor]:
    """A training step of one side, from the same initial values."""
    encoder = rino.JetEncoder(recipe, seed=1).train()
    head = rino.nn.TaggerHead(recipe, "linear", seed=2)
    labels = torch.tensor(jets.labels, dtype=torch.float32)
    tokens = encoder.tokenize(jets)
    if side == "ours":
        networks: list[nn.Module] = [encoder, head]
        logits = lambda: head(encoder(encoder.tokenize(jets), constituents=False).jets)  # noqa: E731
    else:
        plain = PlainParT(encoder, found=side == "found pairs").train()
        networks = [plain, head]
        x, mask = tokens.padded()
        momenta = torch.zeros(*mask.shape, 4, dtype=momenta_as)
        momenta = momenta.masked_scatter(mask[..., None], cartesian(tokens.momenta).to(momenta_as))
        logits = lambda: head(plain(x, momenta, mask))  # noqa: E731
    parameters = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(logits()[:, 0], labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def cartesian(momenta: torch.Tensor) -> torch.Tensor:
    """pT, y, phi, mass -> px, py, pz, E."""
    pt, y, phi, mass = momenta.unbind(-1)
    transverse = (pt.square() + mass.square()).sqrt()
    return torch.stack([pt * phi.cos(), pt * phi.sin(), transverse * y.sinh(), transverse * y.cosh()], -1)


class PlainParT(nn.Module):
    """ParT from torch.nn's modules, with the values of one of ours."""

    def __init__(self, encoder: rino.JetEncoder, found: bool) -> None:
        super().__init__()
        size = encoder.recipe.encoder
        width, inner = size.width, size.pair_width
        self.heads, self.found = size.heads, found
        inputs = encoder.embedding.input_norm.weight.numel()
        self.input_norm = nn.BatchNorm1d(inputs)
        embedding, before = [], inputs
        for out in (width, 4 * width, width):
            embedding += [nn.LayerNorm(before), nn.Linear(before, out), nn.GELU()]
            before = out
        self.embedding = nn.Sequential(*embedding)
        pairs: list[nn.Module] = [nn.BatchNorm1d(4)]
        for before, out in ((4, inner), (inner, inner), (inner, inner), (inner, self.heads)):
            pairs += [nn.Linear(before, out), nn.BatchNorm1d(out), nn.GELU()]
        self.pairs = nn.Sequential(*pairs)
        self.blocks = nn.ModuleList(
            Block(width, size.heads, size.feedforward, size.dropout) for _ in range(size.layers)
        )
        self.class_blocks = nn.ModuleList(
            Block(width, size.heads, size.feedforward, 0.0) for _ in range(size.class_layers)
        )
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.load(encoder)

    def load(self, encoder: rino.JetEncoder) -> None:
        state = encoder.state_dict()
        mine = dict(self.named_parameters())
        names = {"attention.qkv.": "attention.in_proj_", "attention.out.": "attention.out_proj."}
        with torch.no_grad():
            for name, value in state.items():
                theirs = name
                for ours, other in names.items():
                    theirs = theirs.replace(ours, other)
                part, _, rest = theirs.partition(".")
                kind, _, rest = rest.partition(".")
                if part == "embedding" and kind != "input_norm":
                    place, rest = rest.split(".")
                    theirs = f"embedding.{3 * int(place) + (kind == 'layers')}.{rest}"
                elif part == "embedding":
                    theirs = f"input_norm.{rest}"
                elif part == "pairs":
                    place, rest = rest.split(".")
                    theirs = f"pairs.{1 + 3 * int(place) if kind == 'layers' else max(3 * int(place) - 1, 0)}.{rest}"
                theirs = {"class_token.token": "token"}.get(theirs, theirs)
                if theirs in mine:
                    mine.pop(theirs).copy_(value.view_as(dict(self.named_parameters())[theirs]))
        assert not mine, list(mine)

    def bias(self, momenta: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[S, heads, N, N] of four-momenta [S, N, 4]."""
        n, longest = mask.shape
        with torch.no_grad():
            i, j = torch.tril_indices(longest, longest)
            there = mask[:, i] & mask[:, j]
            features = pair_features(momenta[:, i], momenta[:, j]).float()
        # Of padding neither side of a batch norm may know.
        x = self.pairs(features[there]) if self.found else self.padded_pairs(features, there)
        if self.found:
            x = torch.zeros(n, len(i), self.heads, dtype=x.dtype).masked_scatter(there[..., None], x)
        full = torch.zeros(n, longest, longest, self.heads, dtype=x.dtype)
        full[:, i, j] = x
        full[:, j, i] = x
        return full.permute(0, 3, 1, 2)

    def padded_pairs(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        shape = x.shape[:2]
        x, weight = x.flatten(0, 1), there.flatten()[:, None].to(x.dtype)
        count = weight.sum()
        for module in self.pairs:
            if isinstance(module, nn.BatchNorm1d):
                mean = (x * weight).sum(0) / count
                variance = ((x - mean).square() * weight).sum(0) / count
                x = (x - mean) * (variance + module.eps).rsqrt() * module.weight + module.bias
            else:
                x = module(x)
        return (x * weight).unflatten(0, shape)

    def forward(self, x: torch.Tensor, momenta: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features [S, N, F], four-momenta [S, N, 4], mask [S, N] true where a constituent is -> [S, width]."""
        rows = self.embedding(self.input_norm(x[mask]))
        x = torch.zeros(*mask.shape, rows.shape[1]).masked_scatter(mask[..., None], rows)
        bias = self.bias(momenta, mask).masked_fill(~mask[:, None, None, :], -torch.inf).flatten(0, 1)
        for block in self.blocks:
            x = block(x, bias)
        first = self.token.expand(len(x), -1, -1)
        padding = torch.cat([mask.new_zeros(len(mask), 1), ~mask], 1)
        for block in self.class_blocks:
            first = block(torch.cat([first, x], 1), padding=padding, first=first)
        return self.norm(first[:, 0])


class Block(nn.Module):
    """NormFormer block, of all rows or of one that asks."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm1, self.attention_norm, self.norm2 = (nn.LayerNorm(width) for _ in range(3))
        self.linear1, self.linear2, self.hidden_norm = (
            nn.Linear(width, hidden),
            nn.Linear(hidden, width),
            nn.LayerNorm(hidden),
        )
        self.head_scale, self.residual_scale = nn.Module(), nn.Module()
        self.head_scale.scale = nn.Parameter(torch.ones(heads))
        self.residual_scale.scale = nn.Parameter(torch.ones(width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
        first: torch.Tensor | None = None,
    ) -> torch.Tensor:
        rows = self.norm1(x)
        x, asks = (x, rows) if first is None else (first, first)
        y = self.attention(asks, rows, rows, key_padding_mask=padding, attn_mask=bias, need_weights=False)[0]
        heads = self.head_scale.scale
        y = torch.einsum("bthd,h->btdh", y.unflatten(-1, (len(heads), -1)), heads).flatten(2)
        x = x + self.dropout(self.attention_norm(y))
        y = self.hidden_norm(self.dropout(functional.gelu(self.linear1(self.norm2(x)))))
        return self.residual_scale.scale * x + self.dropout(self.linear2(y))


def pair_features(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """As published, of four-momenta px, py, pz, E."""
    (pt_a, y_a, phi_a), (pt_b, y_b, phi_b) = (polar(x) for x in (a, b))
    phi = (phi_a - phi_b + torch.pi) % (2 * torch.pi) - torch.pi
    distance = ((y_a - y_b).square() + phi.square()).sqrt()
    softer = torch.minimum(pt_a, pt_b)
    both = a + b
    mass = both[..., 3].square() - both[..., :3].square().sum(-1)
    share = softer / (pt_a + pt_b).clamp(min=1e-8)
    return torch.stack([x.clamp(min=1e-8).log() for x in (softer * distance, share, distance, mass)], -1)


def polar(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    px, py, pz, energy = p.unbind(-1)
    rapidity = 0.5 * torch.log(1 + 2 * pz / (energy - pz).clamp(min=1e-20))
    return (px.square() + py.square()).sqrt(), rapidity, torch.atan2(py, px)


def peak(preset: str, side: str, jets: int) -> float:
    """GB that a step adds to a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (preset, side, jets))


def _peak(preset: str, side: str, count: int) -> float:
    jets = rino.toy_jets(count, 1, multiplicity_mean=200, multiplicity_std=1, multiplicity_max=201)
    step = step_of(rino.Recipe.preset(preset), side, jets)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6


if __name__ == "__main__":
    main()
