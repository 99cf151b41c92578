"""What self-distillation says of itself to people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyrino.flops import Flops, embedding_size, encoder_flops, head_flops, input_flops, own_rows
from pyrino.methods.collapse import CollapseAlarm
from pyrino.methods.description import About, Alarm, listed
from pyrino.nn import draw_masks, tokenize

if TYPE_CHECKING:
    from pyrino.jets import Jets

__all__ = ["AboutSelfDistillation"]


class AboutSelfDistillation(About):
    """Losses of views and constituents, entropies of the teacher's assignments, signs of collapse."""

    derived_charts = (
        ("entropies of jets / ln K", ("collapse/teacher_entropy_over_ln_K", "collapse/prototype_entropy_over_ln_K")),
        (
            "entropies of particles / ln K",
            ("collapse/particle_teacher_entropy_over_ln_K", "collapse/particle_prototype_entropy_over_ln_K"),
        ),
        ("prototypes used", ("collapse/prototypes_used", "collapse/particle_prototypes_used")),
    )

    @property
    def prototypes(self) -> int:
        """K."""
        return self.recipe.head.prototypes

    @property
    def resolutions(self) -> Sequence[int | str]:
        """The teacher's, then the student's own."""
        return [*self.recipe.views.teacher, *self.recipe.views.student]

    @property
    def views(self) -> str:
        """Who sees which resolutions."""
        student, drawn = self.recipe.views.student, self.recipe.views.student_drawn
        more = f" and {listed(student)}" + (f", {drawn} drawn a step" if drawn else "") if student else ""
        return f"teacher {listed(self.recipe.views.teacher)}; student those{more}"

    @property
    def losses(self) -> Sequence[str]:
        """DINO, iBOT, Gram, KoLeo."""
        loss = self.recipe.loss
        weights = {"DINO": loss.dino, "iBOT": loss.ibot, "Gram": loss.gram, "KoLeo": loss.koleo}
        return [f"{weight:g} {name}" for name, weight in weights.items() if weight]

    @property
    def networks(self) -> str:
        """The heads."""
        return f"; a head: {self.recipe.head_parameters:,}"

    def alarm(self, path: float) -> Alarm:
        """Collapse: assignments or embeddings that tell nothing."""
        return CollapseAlarm(self.recipe, path)

    def shown(self, report: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """The entropy of an assignment."""
        for name in ("teacher_entropy", "particle_teacher_entropy"):
            if name in report:
                share = report[name] / math.log(self.prototypes)
                return [(f"entropy {share:.2f} ln K", f"H {share:.2f}")]
        return ()

    def derived(self, report: Mapping[str, float]) -> Mapping[str, float]:
        """Entropies in units of ln K; how many prototypes are used."""
        values = {}
        for name in [name for name in report if name.endswith("_entropy")]:
            values[f"collapse/{name}_over_ln_K"] = report[name] / math.log(self.prototypes)
            if name.endswith("prototype_entropy"):
                values[f"collapse/{name.removesuffix('_entropy')}s_used"] = math.exp(report[name])
        return values

    def operations(self, jets: Jets, batch: int | None) -> Flops:
        """Of a step.

        The backward pass has two products for each of the forward's, but for the embedding, whose input has no
        gradient. The teacher goes forward. Drawn views count with the share of steps in which they are seen. iBOT is a
        further pass of student and teacher over all constituents, in which the heads see the masked ones.
        """
        found, loss = Flops(), self.recipe.loss
        both = 3  # the forward product and two of the backward pass
        teacher, student = list(self.recipe.views.teacher), list(self.recipe.views.student)
        drawn = self.recipe.views.student_drawn / len(student) if self.recipe.views.student_drawn else 1.0
        passes = [(teacher, 1.0, True, True), (student, drawn, False, True)] if loss.dino > 0 else []
        if loss.ibot > 0 or loss.gram > 0:
            passes.append((["all"], 1.0, True, False))
        for views, share, taught, jets_only in passes:
            tokens = tokenize(jets, views, self.recipe)
            lengths, features = np.diff(tokens.offsets), tokens.features.shape[1]
            forward = encoder_flops(self.recipe, lengths, features, jets_only=jets_only)
            inputs = input_flops(self.recipe, lengths, features)
            rows = float((lengths + own_rows(self.recipe)).sum())
            heads = len(lengths) if jets_only else int(draw_masks(tokens, loss.mask_fraction)[1].sum())
            found.student += share * (both * forward - inputs)
            found.student_rows += share * rows
            found.heads += share * both * heads * head_flops(self.recipe)
            if taught:
                found.teacher += forward
                found.teacher_rows += rows
                found.heads += heads * head_flops(self.recipe)
        for name in vars(found):
            setattr(found, name, getattr(found, name) / len(jets))
        if loss.koleo > 0:
            found.koleo = 2.0 * (batch or self.recipe.training.batch_size) * embedding_size(self.recipe) * len(teacher)
        return found

    def histograms(self, snapshot: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """How often each prototype is assigned, in units of 1/K: 1 is an equal share."""
        names = ("prototype_usage", "particle_prototype_usage")
        return {name: snapshot[name] * len(snapshot[name]) for name in names if name in snapshot}
