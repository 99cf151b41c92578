"""The recipe in plain PyTorch, as a careful user of its modules would write it: what others are compared with.

Padded batches with a mask through `nn.TransformerEncoder`, the teacher a moving average of the student, Sinkhorn-Knopp,
DINO and KoLeo losses, fused AdamW, clipped gradients. Views of equal length go through the network together on a GPU;
on a CPU one by one, which was up to twice as fast: larger activations only mean more page faults.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

import pyrino as rino


class View(NamedTuple):
    """One view of a batch, padded."""

    features: Tensor  #: [B, N, F]
    padding: Tensor  #: [B, N + 1] bool, true where no token is; the first column is the class token's
    jet_features: Tensor  #: [B, 4]


def padded_views(jets: rino.Jets, recipe: rino.Recipe, length: int | None = None) -> list[View]:
    """Every view of the recipe, padded to `length` tokens, or to its own longest sequence."""
    return [padded_view(jets, recipe, point, length) for point in (*recipe.views.teacher, *recipe.views.student)]


def padded_view(jets: rino.Jets, recipe: rino.Recipe, point: int | str = "all", length: int | None = None) -> View:
    """One view in the order of the jets."""
    tokens = rino.tokenize(jets, [point], recipe)
    features, mask = tokens.padded()
    more = (length or features.shape[1]) - features.shape[1]
    features, mask = functional.pad(features, (0, 0, 0, more)), functional.pad(mask, (0, more))
    return View(features, functional.pad(~mask, (1, 0)), tokens.jet_features)


class Encoder(nn.Module):
    """Embedding, class token from the jet's features, pre-norm transformer, final norm: [B, D] of the class token."""

    def __init__(self, recipe: rino.Recipe, features: int) -> None:
        super().__init__()
        size = recipe.encoder
        self.embedding = nn.Linear(features, size.width)
        self.class_token = nn.Linear(4, size.width)
        layer = nn.TransformerEncoderLayer(
            size.width, size.heads, size.feedforward, size.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(
            layer, size.layers, norm=nn.LayerNorm(size.width), enable_nested_tensor=False
        )

    def forward(self, view: View) -> Tensor:
        x = torch.cat([self.class_token(view.jet_features)[:, None], self.embedding(view.features)], 1)
        return self.transformer(x, src_key_padding_mask=view.padding)[:, 0]

    def load(self, state: Mapping[str, Tensor]) -> Encoder:
        """Take on the weights of a `pyrino.JetEncoder`."""
        renamed = {}
        for name, value in state.items():
            name = name.replace("attention.qkv.", "self_attn.in_proj_").replace("attention.out.", "self_attn.out_proj.")
            name = name.replace("blocks.", "transformer.layers.")
            renamed[f"transformer.{name}" if name.startswith("norm.") else name] = value
        self.load_state_dict(renamed)
        return self


class Head(nn.Module):
    """Linear, GELU, L2 norm, cosine with every prototype."""

    def __init__(self, recipe: rino.Recipe) -> None:
        super().__init__()
        width = recipe.encoder.width
        self.hidden = nn.Linear(width, 4 * width)
        self.prototypes = nn.Parameter(torch.empty(recipe.head.prototypes, 4 * width))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.normalize(functional.gelu(self.hidden(x)), dim=-1)
        return x @ functional.normalize(self.prototypes, dim=1).T

    def load(self, state: Mapping[str, Tensor]) -> Head:
        """Take on the weights of a `pyrino.ProjectionHead`."""
        self.load_state_dict(
            {k.replace("hidden.0", "hidden").replace("prototypes.weight", "prototypes"): v for k, v in state.items()}
        )
        return self


class Network(nn.Module):
    """Encoder and head: embeddings [B, D] and scores [B, K] of a padded view."""

    def __init__(self, recipe: rino.Recipe, features: int) -> None:
        super().__init__()
        self.encoder = Encoder(recipe, features)
        self.head = Head(recipe)

    def forward(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """[V, B, D] and [V, B, K] of V views."""
        if not views[0].features.is_cpu:
            groups = [list(group) for _, group in groupby(views, key=lambda view: view.features.shape[1])]
            views_together = [View(*map(torch.cat, zip(*group, strict=True))) for group in groups]
            embeddings = [self.encoder(view) for view in views_together]
        else:
            embeddings = [self.encoder(view) for view in views]
        z = torch.cat(embeddings).view(len(views), len(views[0].features), -1)
        return z, self.head(z)


class PlainStep:
    """A training step on padded views, starting from the weights of a `pyrino.Trainer`'s checkpoint.

    Parameters
    ----------
    recipe
        One of the paper's four.
    weights
        Tensors of the checkpoint.
    steps
        Of the whole run, for the schedules.
    bf16
        Networks under `torch.autocast`; losses stay float32.
    """

    def __init__(
        self,
        recipe: rino.Recipe,
        weights: Mapping[str, Tensor],
        steps: int,
        device: torch.device | str = "cpu",
        bf16: bool = False,
    ) -> None:
        self.recipe, self.steps, self.device, self.bf16 = recipe, steps, torch.device(device), bf16
        part = {name.removeprefix("trained.encoder."): w for name, w in weights.items() if "trained.encoder." in name}
        self.student = Network(recipe, part["embedding.weight"].shape[1])
        self.student.encoder.load(part)
        self.student.head.load({n.removeprefix("trained.head."): w for n, w in weights.items() if "trained.head." in n})
        self.student.to(self.device).train()
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        o = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), o.lr, (o.beta1, o.beta2), o.eps, o.weight_decay, fused=True
        )
        self.done = 0

    def __call__(self, views: Sequence[View]) -> Tensor:
        """The loss of a step on the views of a batch, the teacher's first."""
        loss_options, teachers = self.recipe.loss, len(self.recipe.views.teacher)
        start, end = loss_options.teacher_temperature_start, loss_options.teacher_temperature_end
        temperature = cosine(start, end, self.done, loss_options.teacher_temperature_rise * self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                _, teacher_scores = self.teacher(views[:teachers])
            embeddings, scores = self.student(views)
        targets = sinkhorn(teacher_scores.float().flatten(0, 1), temperature, loss_options.sinkhorn_iterations)
        loss = dino(targets.view(teachers, -1, targets.shape[1]), scores.float(), loss_options.student_temperature)
        loss = loss + loss_options.koleo * sum(koleo(z.float()) for z in embeddings[:teachers]) / teachers

        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.optimizer.clip)
        self.optimizer.param_groups[0]["lr"] = self.recipe.optimizer.lr * self._lr_share()
        self.optimizer.step()
        momentum = cosine(loss_options.momentum_start, loss_options.momentum_end, self.done, self.steps - 1)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)
        self.done += 1
        return loss.detach()

    def _lr_share(self) -> float:
        training = self.recipe.training
        warmup = training.warmup * self.steps
        if self.done < warmup:
            return training.warmup_start + (1 - training.warmup_start) * self.done / warmup
        return cosine(1.0, training.final_lr, self.done - warmup, max(self.steps - warmup, 1.0))


def cosine(start: float, end: float, position: float, total: float) -> float:
    """Half a cosine from start at 0 to end at total, and end from there on."""
    return end if position >= total else end + 0.5 * (start - end) * (1 + math.cos(math.pi * position / total))


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float, iterations: int) -> Tensor:
    """Assignments [B, K] of scores [B, K]: every prototype equally used, every row of total 1."""
    q = torch.exp((scores - scores.max()) / temperature)
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True) * (q.shape[0] / q.shape[1])
        q = q / q.sum(1, keepdim=True)
    return q


def dino(targets: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over the pairs of a teacher's view [T, B, K] and another student's view [V, B, K]."""
    log_p = functional.log_softmax(scores / temperature, dim=-1)
    pairs = [
        -(target * view).sum(-1).mean() for t, target in enumerate(targets) for s, view in enumerate(log_p) if s != t
    ]
    return torch.stack(pairs).mean()


def koleo(embeddings: Tensor, eps: float = 1e-8) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest neighbour on the sphere, [B, D] -> scalar."""
    unit = functional.normalize(embeddings, dim=1, eps=eps)
    with torch.no_grad():
        cosines = unit @ unit.T
        cosines.fill_diagonal_(-2)
        nearest = cosines.argmax(1)
    return -torch.log((unit - unit[nearest]).square().sum(1).clamp_min(eps**2).sqrt() + eps).mean()
