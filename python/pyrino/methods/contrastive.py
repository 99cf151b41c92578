"""What contrastive learning says of itself to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyrino.flops import Flops, embedding_size, encoder_flops, input_flops, own_rows
from pyrino.methods.description import About
from pyrino.nn import tokenize
from pyrino.transforms import Augmentation

if TYPE_CHECKING:
    from pyrino.jets import Jets

__all__ = ["AboutContrastive"]


class AboutContrastive(About):
    """NT-Xent and SupCon: how near views of a jet lie, how evenly all fill the sphere (arXiv:2005.10242)."""

    @property
    def wants_labels(self) -> bool:
        """With SupCon."""
        return self.recipe.loss.labels

    @property
    def views(self) -> str:
        """The transforms."""
        first, second = (
            (", ".join(texts) or "as it is") for texts in (self.recipe.views.first, self.recipe.views.second)
        )
        return f"each jet twice: {first}" if first == second else f"each jet twice: {first}; and {second}"

    @property
    def losses(self) -> Sequence[str]:
        """The one."""
        return [f"{'SupCon' if self.recipe.loss.labels else 'NT-Xent'} at temperature {self.recipe.loss.temperature:g}"]

    def operations(self, jets: Jets, batch: int | None) -> Flops:
        """Of a step: two views forward and backward, through encoder and head, and all of their cosines.

        Constituents are those of one draw of the views.
        """
        head, d = self.recipe.head, embedding_size(self.recipe)
        views = [Augmentation(texts)(jets, seed=0) for texts in (self.recipe.views.first, self.recipe.views.second)]
        every = [tokenize(view, ["all"], self.recipe) for view in views]
        lengths = np.concatenate([np.diff(tokens.offsets) for tokens in every])
        features = every[0].features.shape[1]
        inputs = input_flops(self.recipe, lengths, features)
        width = (head.width or d) if head.layers else d
        layers = 2.0 * (d * width + (head.layers - 1) * width**2) if head.layers else 0.0
        rows = 2 * (batch or self.recipe.training.batch_size)
        found = Flops()
        found.student = (3 * encoder_flops(self.recipe, lengths, features) - inputs) / len(jets)
        found.student_rows = float((lengths + own_rows(self.recipe)).sum()) / len(jets)
        found.heads = 2 * 3 * (layers + 2 * rows * width)
        return found
