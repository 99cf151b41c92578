"""Training of taggers step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pyrino import _core
from pyrino.data.stream import JetStream
from pyrino.jets import Jets
from pyrino.methods import About
from pyrino.training.tagger import Tagger
from pyrino.training.trainer import Trainer
from pyrino.views import _core_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from pyrino.recipe import Recipe
    from pyrino.training.ranks import Ranks

__all__ = ["TaggerTrainer"]


class TaggerTrainer(Trainer):
    """Fine-tuning or supervised training step by step; `finetune` and `train_supervised` are this with files around it.

    All that `Trainer` says holds of it.

    Parameters
    ----------
    tagger
        Is trained as it is, where it lies; its encoder's recipe has every number.
    jets
        `Jets` or a stream: with labels 0 and 1, those of the classes, or the columns of the targets.
    supervised
        One phase with the numbers of the recipe's ``supervised`` section, not probing and fine-tuning.
    class_weights
        By which the loss of each class is multiplied, of several classes; none: 1.
    validation
        Jets by whose mean loss the best epoch is chosen; all processes have them.
    seed
        Of the order of jets and dropout.
    threads
        For features.
    group
        As `Trainer` takes it.
    """

    _batch_size: ClassVar[str] = "finetune.batch_size"

    def __init__(
        self,
        tagger: Tagger,
        jets: Jets | JetStream,
        *,
        supervised: bool = False,
        class_weights: Sequence[float] = (),
        validation: Jets | None = None,
        seed: int = 0,
        threads: int = 1,
        group: Ranks | ProcessGroup | None = None,
    ) -> None:
        self.tagger, self.supervised, self.method = tagger, supervised, None
        recipe = tagger.encoder.recipe.copy()
        recipe.training.seed = seed
        recipe._core = recipe._core.for_tasks()
        encoder, head = tagger.encoder._own_core(), tagger.head._own_core()
        self._begin(
            recipe,
            jets,
            device=tagger.encoder.device,
            dtype=str(tagger.encoder.dtype).removeprefix("torch."),
            group=group,
            method=(method := _core.FineTuning(recipe._core, encoder, head, supervised, list(class_weights), threads)),
        )
        self._method = method
        #: Whether there are jets to choose the best epoch by.
        self.validates = validation is not None
        if validation is not None:
            self._core.validate_on(_core_of(validation))

    @property
    def phase(self) -> str:
        """What goes on: "probing", "fine-tuning" or "supervised"."""
        return self._core.phase

    @property
    def epoch_loss(self) -> float:
        """Mean loss of the last whole epoch; NaN before."""
        return self._core.epoch_loss

    @property
    def validation_loss(self) -> float:
        """Mean loss of the validation after it; NaN where there is none."""
        return self._core.validation_loss

    def finish(self) -> Tagger:
        """End training; the tagger is in evaluation mode."""
        self._core.finish()
        if self.tagger.task == "regression":
            self.tagger.mean, self.tagger.deviation = (
                tensor.numpy().copy() for tensor in (self._method.mean, self._method.deviation)
            )
        return self.tagger.eval()

    @property
    def _title(self) -> str:
        return self.phase

    @property
    def _remedy(self) -> str:
        if self.supervised:
            return f"a lower supervised.lr (now {self.recipe.supervised.lr:g})"
        f = self.recipe.finetune
        return f"lower finetune.head_lr and finetune.encoder_lr (now {f.head_lr:g} and {f.encoder_lr:g})"

    def _about(self) -> About:
        return _AboutTagging(self.recipe)

    @staticmethod
    def _matters(section: str, name: str) -> bool:
        beside = {("training", "loader_threads"), ("finetune", "memory")}
        return section in ("jets", "encoder", "training", "finetune", "supervised") and (section, name) not in beside


class _AboutTagging(About):
    """No pictures but the loss."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.parts, self.charts = recipe, (), ()
        self._shown, self._signs = [], []
