"""What self-distillation says of itself to people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pyrino.methods.collapse import CollapseAlarm
from pyrino.methods.description import About, Alarm, Chart

__all__ = ["AboutSelfDistillation"]


class AboutSelfDistillation(About):
    """Losses of views and constituents, entropies of the teacher's assignments, signs of collapse."""

    parts = (("dino", "cross-entropy"), ("koleo", "KoLeo"), ("ibot", "iBOT"), ("gram", "Gram"))
    charts = (
        Chart(
            "teacher entropy [nats]",
            (("teacher_entropy", "of one jet's assignment"), ("prototype_entropy", "of the mean assignment")),
            prototypes=True,
        ),
        Chart(
            "teacher entropy, particles [nats]",
            (
                ("particle_teacher_entropy", "of one constituent's"),
                ("particle_prototype_entropy", "of the mean assignment"),
            ),
            prototypes=True,
        ),
        Chart("teacher momentum", (("momentum", "momentum"),), schedule=True),
        Chart("temperature", (("teacher_temperature", "teacher"), ("student_temperature", "student")), schedule=True),
    )

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

    def histograms(self, snapshot: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """How often each prototype is assigned, in units of 1/K: 1 is an equal share."""
        names = ("prototype_usage", "particle_prototype_usage")
        return {name: snapshot[name] * len(snapshot[name]) for name in names if name in snapshot}
