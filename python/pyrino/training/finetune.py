"""Taggers, trained on labels."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyrino._arguments import checked
from pyrino.data import JetStream
from pyrino.data.labelled_stream import LabelledStream
from pyrino.data.opening import open_jets
from pyrino.errors import RinoError
from pyrino.jets import Jets
from pyrino.nn import Encoder, encoder_of
from pyrino.recipe import Recipe
from pyrino.training.folder import check_folder, claim_folder
from pyrino.training.history import HISTORY, History
from pyrino.training.loop import CHECKPOINT, going_on, run_steps
from pyrino.training.ranks import Ranks, ranks_of
from pyrino.training.tagger import Tagger
from pyrino.training.tagger_trainer import TaggerTrainer
from pyrino.training.task import Labelled, balanced, columns_of_task, jets_of_task, with_classes
from pyrino.training.watch import Watch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from typing_extensions import TypeIs

__all__ = ["finetune", "train_supervised"]

_FILES = (Tagger._file, HISTORY, CHECKPOINT, "tensorboard", "failed")
_REMEDY = "give overwrite=True to replace it, resume=True to go on, or another folder"

LabelledJets = Labelled | Jets | JetStream | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@checked
def finetune(
    encoder: Encoder,
    train: LabelledJets,
    *,
    head: str | None = None,
    out: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    signal: Sequence[int] | None = None,
    validation: Labelled | Jets | None = None,
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    group: Ranks | ProcessGroup | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    checkpoint_minutes: float = 5.0,
    callback: Callable[[dict[str, float]], object] | None = None,
) -> Tagger:
    """Fine-tune a pretrained encoder on labelled jets by LP-FT: the head alone first, then everything.

    What is learned is ``finetune.task``: labels 0 and 1 ("binary"); the classes of ``finetune.classes``, or those that
    there are ("multiclass"); the columns of ``finetune.targets`` ("regression").

    Parameters
    ----------
    encoder
        Pretrained; it is copied and stays as it is. Its device is where training takes place.
    train
        (jets, labels), labels (n,); jets that carry labels; a stream of `open_dataset`; or files and folders, which are
        read into memory up to a million jets and streamed above. Labels are 0 and 1; of several classes their numbers,
        or names. For a regression jets with the columns as `Jets.values`, or (jets, y), y (n,) or (n, targets).
    head
        "linear" or "mlp"; None: as the recipe says.
    out
        Folder for ``tagger.safetensors``, ``history.parquet`` and, while it is trained, ``checkpoint.safetensors``;
        None writes nothing.
    recipe
        Its ``finetune`` section has every number, its ``training`` section precision, accumulation and the loader's
        threads; None: the encoder's own recipe.
    seed
        Of the head, the order of jets and dropout.
    signal
        The class numbers that are label 1, the others are 0; None: labels are 0 and 1.
    validation
        Jets to choose the best epoch by; None: the share ``finetune.set_aside`` of `train`, where it is above 0.
    threads
        For features.
    resume
        Go on from the checkpoint in `out`; a tagger that is finished is read; with neither there, start.
    overwrite
        Replace a tagger that is in `out`.
    group
        The processes that train together, as `pretrain` takes them.
    progress
        Show progress: a bar in a terminal, a line a minute in a log file.
    tensorboard
        Write a log into `out` that ``tensorboard --logdir`` shows while it grows.
    checkpoint_minutes
        Longest time between checkpoints; one is written on Ctrl-C, SIGTERM and SIGUSR1, too.
    callback
        Called after every step with its numbers, as `pretrain` does.

    Returns
    -------
    Tagger
        In evaluation mode. Its `history` has a row per epoch.

    Raises
    ------
    RinoError
        For labels other than 0 and 1, only one of them, a length that does not fit, or an `out` that holds a tagger.
    Stopped
        As `pretrain`.

    Notes
    -----
    Kumar et al., arXiv:2202.10054; numbers of arXiv:2509.07486. While the encoder is frozen its embeddings do not
    change, so that they are computed once, but with ``finetune.probe_dropout``.
    """
    recipe = encoder.recipe if recipe is None else recipe
    recipe._core.check_tasks()
    kind = recipe.finetune.head if head is None else head
    folder = None if out is None else Path(out)
    run = _Run(
        folder, group, seed, signal, threads, resume, overwrite, progress, tensorboard, checkpoint_minutes, callback
    )
    return run(
        lambda mine: Tagger(_copy_with(encoder, mine), kind, seed),
        train,
        validation,
        recipe,
        share=recipe.finetune.set_aside,
        supervised=False,
    )


@checked
def train_supervised(
    recipe: Recipe,
    train: LabelledJets,
    *,
    head: str | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    signal: Sequence[int] | None = None,
    validation: Labelled | Jets | None = None,
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    group: Ranks | ProcessGroup | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    checkpoint_minutes: float = 5.0,
    callback: Callable[[dict[str, float]], object] | None = None,
) -> Tagger:
    """The baseline: the same network trained on labels from scratch, with early stopping.

    Parameters and errors as `finetune`, and `device`, where it trains; the numbers are those of the recipe's
    ``supervised`` section, the rest of its ``finetune`` section. The tagger has the weights of the epoch with the
    lowest validation loss.
    """
    recipe._core.check_tasks()
    kind = recipe.supervised.head if head is None else head
    folder = None if out is None else Path(out)
    run = _Run(
        folder, group, seed, signal, threads, resume, overwrite, progress, tensorboard, checkpoint_minutes, callback
    )
    return run(
        lambda mine: Tagger(encoder_of(mine, seed).to(device), kind, seed),
        train,
        validation,
        recipe,
        share=recipe.supervised.validation,
        supervised=True,
    )


@dataclass
class _Run:
    """A training of a tagger with what is around it."""

    out: Path | None
    group: Ranks | ProcessGroup | None
    seed: int
    signal: Sequence[int] | None
    threads: int
    resume: bool
    overwrite: bool
    progress: bool
    tensorboard: bool
    checkpoint_minutes: float
    callback: Callable[[dict[str, float]], object] | None

    def __post_init__(self) -> None:
        if self.out is None and (self.resume or self.tensorboard):
            raise RinoError(f"{'resume' if self.resume else 'tensorboard'}=True needs a folder: give out=")

    def __call__(
        self,
        make: Callable[[Recipe], Tagger],
        train: LabelledJets,
        validation: Labelled | Jets | None,
        recipe: Recipe,
        *,
        share: float,
        supervised: bool,
    ) -> Tagger:
        out = self.out
        with ranks_of(self.group) as ranks:
            if out is not None and self.resume and (out / Tagger._file).is_file():
                return ranks.each(lambda: Tagger.load(out))
            if out is not None:
                ranks.first_does(lambda: check_folder(out, _FILES, overwrite=self._replaces, remedy=_REMEDY))
            given, held, recipe = ranks.each(lambda: self._data(train, validation, share, recipe, ranks))
            if validation is None and held is not None and isinstance(given, JetStream):
                held = Jets.concatenate(ranks.gathered(held))  # each rank has set its share's aside
            jets, weights = balanced(given, recipe, self.seed)
            tagger = make(recipe)
            history = History()
            epochs = recipe.supervised.epochs if supervised else recipe.finetune.probe_epochs + recipe.finetune.epochs
            going_on_ = ranks.first_does(self._claim)
            if epochs:
                trainer = TaggerTrainer(
                    tagger,
                    jets,
                    supervised=supervised,
                    class_weights=weights,
                    validation=held,
                    seed=self.seed,
                    threads=self.threads,
                    group=ranks,
                )
                if going_on_ and out is not None:
                    trainer.restore(out / CHECKPOINT)
                    history = ranks.each(lambda: History.load(out / HISTORY))
                    history.truncate(trainer.step_number // trainer.steps_per_epoch)
                    ranks.remedy = going_on(out)
                self._train(trainer, history, ranks)
                tagger = trainer.finish()
            tagger.history = history
            if out is not None and ranks.first:
                history.save(out / HISTORY)
                tagger.save(out / tagger._file)
                (out / CHECKPOINT).unlink(missing_ok=True)
        return tagger.eval()

    def _train(self, trainer: TaggerTrainer, history: History, ranks: Ranks) -> None:
        phase = trainer.phase

        def record(step: dict[str, float]) -> None:
            nonlocal phase
            if (step["step"] + 1) % trainer.steps_per_epoch == 0:
                row = {"epoch": history.rows, "probing": float(phase == "probing"), "loss": trainer.epoch_loss}
                if trainer.validates:
                    row["validation_loss"] = trainer.validation_loss
                history.append(row)
            phase = trainer.phase

        with Watch(
            trainer,
            tensorboard=self.out / "tensorboard" if self.out is not None and self.tensorboard else None,
            progress=self.progress,
            failed=None if self.out is None else self.out / "failed",
            rank=ranks.rank,
        ) as watch:
            run_steps(
                trainer,
                history,
                self.out,
                watch,
                ranks,
                record=record,
                checkpoint_minutes=self.checkpoint_minutes,
                callback=self.callback,
            )

    @property
    def _replaces(self) -> bool:
        return self.overwrite or self.resume

    def _claim(self) -> bool:
        """Take the folder; whether there is a run in it to go on with."""
        if self.out is None:
            return False
        if self.resume and (self.out / CHECKPOINT).is_file():
            return True
        claim_folder(self.out, _FILES, overwrite=self._replaces, remedy=_REMEDY)
        return False

    def _data(
        self, train: LabelledJets, validation: Labelled | Jets | None, share: float, recipe: Recipe, ranks: Ranks
    ) -> tuple[Jets | JetStream, Jets | None, Recipe]:
        """The jets to train on, those to choose the best epoch by, and the recipe with the classes that there are."""
        columns = columns_of_task(recipe)
        if _are_paths(train):
            train = open_jets(
                train,
                shuffle_seed=self.seed,
                rank=ranks.rank,
                world_size=ranks.size,
                labelled=recipe.finetune.task != "regression",
                columns=columns,
            )
        if not isinstance(train, JetStream):
            recipe = with_classes(recipe, train)
        held = None if validation is None else jets_of_task(validation, recipe, self.signal, "validation")
        if isinstance(train, JetStream):
            train._want_columns(columns)
            stream = LabelledStream(train, self.signal, share if held is None else 0.0, self.seed)
            if held is None and share > 0:
                held = stream.set_aside()
            return stream, held, recipe
        jets = jets_of_task(train, recipe, self.signal, "train")
        if held is None and share > 0:
            order = np.random.default_rng(self.seed).permutation(len(jets))
            count = max(1, round(share * len(jets)))
            held, jets = jets[order[:count]], jets[order[count:]]
            if len(jets) == 0:
                raise RinoError(f"{count} labelled jets leave none to train on: give more")
        return jets, held, recipe


def _are_paths(train: object) -> TypeIs[str | os.PathLike[str] | Sequence[str | os.PathLike[str]]]:
    """Whether users named files, not gave jets."""
    one = (str, os.PathLike)
    return isinstance(train, one) or (
        isinstance(train, (list, tuple)) and len(train) > 0 and all(isinstance(part, one) for part in train)
    )


def _copy_with(encoder: Encoder, recipe: Recipe) -> Encoder:
    duplicate = copy.deepcopy(encoder)
    mine = recipe.copy()
    for section in ("jets", "encoder"):
        mine.update({section: encoder.recipe.to_dict()[section]})
    duplicate.recipe = mine
    return duplicate
