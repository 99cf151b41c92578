"""Steps of the production recipe against plain PyTorch: masks, losses, layer-wise rates, decay, averages, parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import small_jets

import pyrino as rino
from pyrino import Jets, Recipe, RinoError, Trainer
from pyrino.data import JetStream

N = 16  # jets
SMALL = {
    "encoder.width": 16,
    "encoder.heads": 2,
    "encoder.layers": 2,
    "encoder.feedforward": 16,
    "encoder.registers": 2,
    "encoder.radial_bins": 5,
    "encoder.angular_bins": 7,
    "head.hidden_width": 12,
    "head.bottleneck": 6,
    "head.prototypes": 8,
    "batch_size": N,
    "epochs": 6,
    "precision": "float32",
    "warmup": 0.5,
    "optimizer.lr": 1e-2,
    "seed": 4,
}


class InOrder(JetStream):
    """The same jets in the same order, again and again: a step's masks are those of a jet's place in it."""

    def __init__(self, jets: Jets) -> None:
        self._jets, self._taken = jets, 0

    def __len__(self) -> int:
        return len(self._jets)

    @property
    def position(self) -> tuple[int, ...]:
        return (self._taken,)

    def seek(self, position: Sequence[int]) -> None:
        self._taken = int(position[0])

    def _go_back(self, position: Sequence[int]) -> None:
        self.seek(position)

    def _seek_others(self, positions: list[list[int]]) -> None:
        self.seek(positions[0])

    def _take(self, count: int) -> Any:
        numbers = (self._taken + np.arange(count)) % len(self._jets)
        self._taken += count
        return self._jets[numbers]._core

    def _fingerprint(self) -> list[int]:
        return [len(self._jets)]


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(N)


def small(name: str = "rino", **overrides: Any) -> Recipe:
    return Recipe.preset(name, **{**SMALL, **overrides})


def state_of(trainer: Trainer, folder: Path) -> dict[str, torch.Tensor]:
    trainer.save(folder / "state")
    return safetensors.torch.load_file(folder / "state")


def network(recipe: Recipe, state: dict[str, torch.Tensor], who: str) -> torch.nn.ModuleDict:
    """Encoder and heads, each checked against PyTorch's own modules elsewhere, with the trainer's weights."""
    parts: dict[str, torch.nn.Module] = {"encoder": rino.JetEncoder(recipe, seed=0)}
    if recipe.loss.dino > 0:
        parts["head"] = rino.ProjectionHead(recipe, seed=0)
    if recipe.loss.ibot > 0:
        parts["particle_head"] = rino.ProjectionHead(recipe.replace(pooling="token"), seed=0)
    modules = torch.nn.ModuleDict(parts).double()
    prefix = f"{who}."
    modules.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
    return modules


def cosine(start: float, end: float, position: float, total: float) -> float:
    return end if position >= total else end + (start - end) * (1 + math.cos(math.pi * position / total)) / 2


def rate(recipe: Recipe, step: int, steps: int) -> float:
    t = recipe.training
    warmup = t.warmup * steps
    if step < warmup:
        return recipe.optimizer.lr * cosine(t.warmup_start, 1.0, step, warmup)
    return recipe.optimizer.lr * cosine(1.0, t.final_lr, step - warmup, steps - warmup)


def groups(recipe: Recipe, modules: torch.nn.ModuleDict) -> list[dict[str, Any]]:
    """One of PyTorch's parameter groups per tensor: its layer's factor and whether it decays, by its name."""
    layers, o = recipe.encoder.layers, recipe.optimizer
    found = []
    for name, parameter in modules.named_parameters():
        parts = name.split(".")
        if parts[0] != "encoder" or parts[1] == "pool":
            below = 0
        elif parts[1] == "norm":
            below = 1
        elif parts[1] == "blocks":
            below = layers - int(parts[2])
        else:
            below = layers + 1
        decays = o.decay_all or (parts[-1] == "weight" and parameter.dim() == 2)
        decay = o.weight_decay if decays else 0.0
        found.append({"params": [parameter], "factor": o.layer_decay**below, "weight_decay": decay})
    return found


def sinkhorn(scores: torch.Tensor, temperature: float) -> torch.Tensor:
    q = ((scores - scores.max()) / temperature).exp()
    for _ in range(3):
        q = q / q.sum(0) * (q.shape[0] / q.shape[1])
        q = q / q.sum(1, keepdim=True)
    return q


def cross_entropy(targets: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return -(targets * (scores / 0.1).log_softmax(-1)).sum(-1)


def koleo(view: torch.Tensor) -> torch.Tensor:
    unit = view / view.norm(dim=1, keepdim=True)
    nearest = (unit @ unit.T - 4 * torch.eye(len(unit))).argmax(1)
    return -((unit - unit[nearest]).norm(dim=1) + 1e-8).log().mean()


def losses(
    recipe: Recipe,
    jets: Jets,
    student: torch.nn.ModuleDict,
    teacher: torch.nn.ModuleDict,
    step: int,
    temperature: float,
) -> dict[str, torch.Tensor]:
    """Every loss of one step, from its formula, view after view and jet after jet."""
    weights = recipe.loss
    found: dict[str, torch.Tensor] = {}
    views = [*recipe.views.teacher, *recipe.views.student]
    number = len(recipe.views.teacher)

    def embed(modules: torch.nn.ModuleDict, resolution: Any) -> torch.Tensor:
        tokens = rino.tokenize(jets, [resolution], recipe, "float64")
        return modules["encoder"](tokens).jets[tokens.rows(0)]

    if weights.dino > 0:
        with torch.no_grad():
            scores = torch.cat([teacher["head"](embed(teacher, view)) for view in views[:number]])
            targets = sinkhorn(scores, temperature).view(number, len(jets), -1)
        z = [embed(student, view) for view in views]
        scores = [student["head"](view) for view in z]
        pairs = [(v, s) for v in range(number) for s in range(len(views)) if v != s]
        found["dino"] = sum(cross_entropy(targets[v], scores[s]).mean() for v, s in pairs) / len(pairs)
        if weights.koleo > 0:
            found["koleo"] = sum(koleo(view) for view in z[:number]) / number
    if weights.ibot > 0 or weights.gram > 0:
        tokens = rino.tokenize(jets, ["all"], recipe, "float64")
        rows, counts = rino.draw_masks(tokens, weights.mask_fraction, seed=recipe.training.seed, step=step)
        hidden = torch.zeros(len(tokens.features), dtype=torch.bool)
        if weights.ibot > 0:
            hidden[rows] = True
        with torch.no_grad():
            wanted = teacher["encoder"](tokens).constituents
        seen = student["encoder"](tokens.hide(hidden)).constituents
        if weights.ibot > 0:
            with torch.no_grad():
                targets = sinkhorn(teacher["particle_head"](wanted[rows]), temperature)
            entropies = cross_entropy(targets, student["particle_head"](seen[rows]))
            found["ibot"] = torch.stack([jet.mean() for jet in entropies.split(counts.tolist())]).mean()
        if weights.gram > 0:
            lengths = (tokens.offsets[1:] - tokens.offsets[:-1]).tolist()
            cosines = [
                [torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2) for x in z.split(lengths)]
                for z in (seen, wanted)
            ]
            found["gram"] = torch.stack([((a - b) ** 2).mean() for a, b in zip(*cosines, strict=True)]).mean()
    return found


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("rino", {}),
        ("rino", {"gram": 0.5, "decay_all": False, "layer_decay": 0.6, "clip": 0.1, "mask_fraction": 0.6}),
        ("rino", {"masked_token": "learned", "average": 0.7, "pooling": "both"}),
        ("rino-slow-teacher", {"pooling": "attention", "koleo": 0.0}),
        ("rino-ibot", {"gram": 0.2}),
        ("rino-dino", {"decay_all": False}),
        ("rino-no-positions", {"dino": 0.3, "ibot": 2.0}),
    ],
)
def test_steps_of_the_production_recipe_are_those_of_plain_pytorch(jets, tmp_path, name, overrides):
    views = {"views.teacher": [2, 4], "views.student": [1, 8, "all"], "views.student_drawn": 0}
    recipe = small(name, **views, **overrides)
    trainer = Trainer(recipe, InOrder(jets), dtype="float64")
    state = state_of(trainer, tmp_path)
    student, teacher = network(recipe, state, "trained"), network(recipe, state, "teacher")
    average = {n: p.detach().clone() for n, p in student.named_parameters()}
    o, settings = recipe.optimizer, recipe.loss
    optimizer = torch.optim.AdamW(groups(recipe, student), betas=(o.beta1, o.beta2), eps=o.eps)
    steps = len(trainer)
    for step, report in enumerate(trainer):
        rise = settings.teacher_temperature_rise * steps
        temperature = cosine(settings.teacher_temperature_start, settings.teacher_temperature_end, step, rise)
        found = losses(recipe, jets, student, teacher, step, temperature)
        loss = sum(getattr(settings, part) * value for part, value in found.items())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), o.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(recipe, step, steps) * group["factor"]
        optimizer.step()
        momentum = cosine(settings.momentum_start, settings.momentum_end, step, steps - 1)
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, 1 - momentum)
            for parameter, theirs in student.named_parameters():
                average[parameter].lerp_(theirs, 1 - recipe.training.average)
        assert {part for part in ("dino", "koleo", "ibot", "gram") if part in report} == set(found)
        for part, value in found.items():
            assert report[part] == pytest.approx(value.item(), rel=1e-9), part
        assert report["loss"] == pytest.approx(loss.item(), rel=1e-9)
        assert report["gradient_norm"] == pytest.approx(norm.item(), rel=1e-8)
    state = state_of(trainer, tmp_path)
    for who, modules in (("trained", student), ("teacher", teacher)):
        for parameter, value in modules.named_parameters():
            torch.testing.assert_close(
                state[f"{who}.{parameter}"], value.detach(), rtol=0, atol=1e-9, msg=lambda m, p=parameter: f"{p}: {m}"
            )
    if recipe.training.average > 0:
        encoder = trainer.encoder("average")
        for parameter, value in encoder.named_parameters():
            torch.testing.assert_close(value.detach(), average[f"encoder.{parameter}"], rtol=0, atol=1e-9)


def test_the_parts_of_a_batch_are_batches_of_their_own_whose_gradients_add_up(jets):
    """With a learning rate of next to nothing the loss of two parts is the mean of the losses of either."""
    still = {"optimizer.lr": 1e-30, "student_drawn": 0, "epochs": 1}
    halves = [Trainer(small(**still, batch_size=N // 2), InOrder(part), dtype="float64") for part in (jets[: N // 2],)]
    both = Trainer(small(**still, accumulate=2), InOrder(jets), dtype="float64").step()
    first = halves[0].step()
    whole = Trainer(small(**still), InOrder(jets), dtype="float64").step()
    # The second half's masks are those of jets N/2 and up in the batch: only the losses of views are compared with it.
    second = Trainer(small(**still, batch_size=N // 2), InOrder(jets[N // 2 :]), dtype="float64").step()
    for part in ("dino", "koleo"):
        assert both[part] == pytest.approx((first[part] + second[part]) / 2, rel=1e-12)
        assert abs(both[part] - whole[part]) > 1e-6  # assignments and neighbours are those of a part


def test_weights_of_nothing_are_refused(jets):
    with pytest.raises(RinoError, match="neither dino nor ibot"):
        Trainer(small(dino=0.0, ibot=0.0), jets)
    with pytest.raises(RinoError, match="nothing trains the class token: choose pooling 'mean' or 'all'"):
        Trainer(small("rino-ibot", class_token="learned", pooling="token"), jets)
    with pytest.raises(RinoError, match="mask_fraction is 1"):
        Trainer(small(mask_fraction=1.0), jets)


def test_jets_of_which_nothing_can_be_masked_have_no_masked_loss():
    alone = Jets(np.array([[30.0, 4.0, 5.0, 31.0]] * N), np.arange(N + 1))
    for assignment in ("sinkhorn", "centering"):
        reports = list(Trainer(small(epochs=2, assignment=assignment, gram=1.0), alone))
        assert [report["ibot"] for report in reports] == [0.0, 0.0]
        assert all(np.isfinite(report["loss"]) and not report["skipped"] for report in reports)


def test_without_a_moving_average_there_is_none_to_take(jets):
    with pytest.raises(RinoError, match="no moving average was made"):
        Trainer(small(), jets).encoder("average")


@pytest.mark.parametrize("name", [name for name in Recipe.presets() if name.startswith("rino")])
def test_every_variant_trains_and_its_encoder_embeds(jets, name):
    trainer = Trainer(small(name, epochs=2), jets)
    reports = list(trainer)
    assert len(reports) == 2 and all(np.isfinite(report["loss"]) for report in reports)
    assert np.isfinite(trainer.encoder().embed(jets)).all()
