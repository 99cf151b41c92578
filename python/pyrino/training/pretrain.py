"""Pretraining without labels."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyrino._arguments import checked
from pyrino.data import JetStream
from pyrino.data.opening import open_jets
from pyrino.errors import RinoWarning, level_of_caller
from pyrino.jets import Jets
from pyrino.methods import about
from pyrino.nn import Encoder
from pyrino.recipe import Recipe
from pyrino.training.folder import check_folder, claim_folder
from pyrino.training.history import HISTORY, History
from pyrino.training.loop import CHECKPOINT, going_on, run_steps
from pyrino.training.ranks import Ranks, ranks_of
from pyrino.training.trainer import Trainer, columns_of
from pyrino.training.watch import Watch
from pyrino.transforms import Augmentation

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["PretrainingRun", "as_recipe", "pretrain"]

_LOG = logging.getLogger("pyrino")

_ENCODER = "encoder.safetensors"
_AVERAGE = "average.safetensors"
_RECIPE = "recipe.toml"
_FILES = (CHECKPOINT, _ENCODER, _AVERAGE, HISTORY, _RECIPE, "tensorboard", "failed")
_REMEDY = "give resume=True to go on, overwrite=True to replace it, or another folder"


@dataclass
class PretrainingRun:
    """What `pretrain` leaves: the files in `out`, the numbers of every step, the encoder."""

    out: Path
    recipe: Recipe
    encoder: Encoder
    history: History
    jets_seen: int
    seconds: float
    resumed_at: int = field(default=0)

    @property
    def waited(self) -> float:
        """Share of the steps' time in which they waited for the loader: above a few hundredths, give it more threads
        (``training.loader_threads``).
        """
        seconds = float(self.history["seconds"].sum()) if self.history.rows else 0.0
        return float(self.history["waited"].sum()) / seconds if seconds > 0 else 0.0

    @property
    def skipped(self) -> int:
        """Steps that changed nothing because the loss or its gradient was not finite."""
        return int(np.nansum(self.history["skipped"])) if "skipped" in self.history else 0

    def plot(self) -> Any:
        """The loss, its parts, what the method watches and the schedules, as a matplotlib Figure."""
        from pyrino.plots import training_curves

        method = about(self.recipe)
        return training_curves(self.history, method.prototypes, method)

    def __repr__(self) -> str:
        steps = self.history.rows
        loss = f"{self.history['loss'][-1]:.4f}" if steps else "none"
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return (
            f"PretrainingRun({str(self.out)!r}: {steps} steps, {self.jets_seen} jets seen, last loss {loss}, "
            f"{self.seconds:.0f} s, {self.waited:.0%} of it waiting for the loader{skipped})"
        )


@checked
def pretrain(
    recipe: Recipe | str | os.PathLike[str],
    train: Jets | JetStream | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | torch.device = "cpu",
    group: Ranks | ProcessGroup | None = None,
    progress: bool = True,
    tensorboard: bool = True,
    checkpoint_minutes: float = 5.0,
    augmentation: Augmentation | Iterable[Callable[..., Jets] | str] | None = None,
    init: Encoder | str | os.PathLike[str] | None = None,
    callback: Callable[[dict[str, float]], object] | None = None,
) -> PretrainingRun:
    """Pretrain an encoder on jets without labels: along the renormalisation-group flow (arXiv:2509.07486), or by
    another method that the recipe names.

    Parameters
    ----------
    recipe
        A `Recipe`, a preset's name or a TOML file.
    train
        Jets; files and folders that `read_jets` reads, which are read into memory up to a million jets and streamed
        above; or a stream of `open_dataset`. Labels are looked at where the method needs them.
    out
        Folder for ``encoder.safetensors`` (of self-distillation the teacher), ``average.safetensors`` (the moving
        average of the trained one, where ``training.average`` asks for it), ``checkpoint.safetensors``,
        ``recipe.toml``, ``history.parquet``, TensorBoard's log, and in ``failed`` the jets of a step that stopped the
        run.
    resume
        Go on from the checkpoint in `out`; with none there, start. The number of processes may be another one.
    overwrite
        Replace a run that is in `out`.
    device
        "cpu" or "cuda".
    group
        The processes that train together, as `Trainer` takes them: all call `pretrain` with the same arguments (files
        that are named are opened by each for itself; a stream must be its rank's own). Rank 0 alone writes and shows
        progress. A rank that dies, hangs or fails ends all others with an error that names it.
    progress
        Show jets per second, time left, loss, entropy and the share of the steps' time in which they waited for the
        loader, all of the last minute: a bar in a terminal, a line a minute in a log file.
    tensorboard
        Write a log that ``tensorboard --logdir`` shows while it grows.
    checkpoint_minutes
        Longest time between checkpoints; one is written at the end, on Ctrl-C, SIGTERM and SIGUSR1, too.
    augmentation
        What is done to the jets before the method sees them, as `Trainer` takes it; ``resume=True`` needs it again.
    init
        An encoder, or its file or run, whose weights the encoders of the method start from: a warm start, on new data
        or with other numbers. None: from new initial values.
    callback
        Called after every step, on every process, with what `Trainer.step` returned; what it raises ends the run, as
        Optuna's ``TrialPruned`` (the last checkpoint stays).

    Returns
    -------
    PretrainingRun

    Raises
    ------
    RinoError
        If `out` holds a run already (and neither `resume` nor `overwrite` is given), for bad input, if the disk is
        full, or another rank was lost. Files under their final names are whole in every case.
    Stopped
        A KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGUSR1, after a checkpoint was written from which ``resume=True``
        goes on.
    """
    recipe, out = as_recipe(recipe), Path(out)
    with ranks_of(group) as ranks:
        # Before hours of reading, not after.
        ranks.first_does(lambda: check_folder(out, _FILES, overwrite=_replaces(out, resume, overwrite), remedy=_REMEDY))
        jets = ranks.each(lambda: _opened(train, recipe, ranks))
        trainer = Trainer(recipe, jets, device=device, group=ranks, augmentation=augmentation)
        history = History()
        if init is not None:
            trainer.start_from(init)
        if ranks.first_does(lambda: _prepare_folder(out, resume=resume, overwrite=overwrite)):
            trainer.restore(out / CHECKPOINT)
            history = ranks.each(lambda: History.load(out / HISTORY))
            history.truncate(trainer.step_number)
            ranks.remedy = going_on(out)
        elif resume and ranks.first:
            _LOG.info("there is no checkpoint in %s: the run starts anew", out)
        first = trainer.step_number
        if ranks.first:
            recipe.save(out / _RECIPE)
        started = time.monotonic()
        with Watch(
            trainer,
            tensorboard=out / "tensorboard" if tensorboard else None,
            progress=progress,
            failed=out / "failed",
            rank=ranks.rank,
        ) as watch:
            run_steps(
                trainer,
                history,
                out,
                watch,
                ranks,
                record=history.append,
                checkpoint_minutes=checkpoint_minutes,
                callback=callback,
            )
        if isinstance(jets, JetStream) and (said := jets.left_out()):
            who = "training" if ranks.alone else f"training on rank {ranks.rank}"
            warnings.warn(f"{who} went without what is broken: {said}", RinoWarning, stacklevel=level_of_caller())
        encoder = trainer.encoder()
        if ranks.first:
            encoder.save(out / _ENCODER)
            if recipe.training.average > 0:
                trainer.encoder("average").save(out / _AVERAGE)
    return PretrainingRun(
        out=out,
        recipe=recipe,
        encoder=encoder,
        history=history,
        jets_seen=trainer.step_number * trainer.batch_size,
        seconds=time.monotonic() - started,
        resumed_at=first,
    )


def _opened(train: Any, recipe: Recipe, ranks: Ranks) -> Jets | JetStream:
    """The jets that users name, of a stream this rank's share."""
    if isinstance(train, (Jets, JetStream)):
        return train
    labelled = about(recipe).wants_labels
    return open_jets(
        train,
        shuffle_seed=recipe.training.seed,
        rank=ranks.rank,
        world_size=ranks.size,
        labelled=labelled,
        columns=columns_of(recipe),
    )


def as_recipe(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """A recipe from what users say: a `Recipe`, a preset's or a method's name, a TOML file."""
    if isinstance(recipe, Recipe):
        return recipe
    text = os.fspath(recipe)
    if text not in Recipe.presets() and text in [method.name for method in Recipe.methods()]:
        return Recipe(text)
    if text in Recipe.presets() or not (text.endswith(".toml") or os.path.sep in text):
        return Recipe.preset(text)
    return Recipe.load(text)


def _replaces(out: Path, resume: bool, overwrite: bool) -> bool:
    """Whether what is in `out` may go: resuming starts anew where a run ended before its first checkpoint, but never
    at the cost of an encoder.
    """
    unfinished = (out / CHECKPOINT).is_file() or not (out / _ENCODER).exists()
    return overwrite or (resume and unfinished)


def _prepare_folder(out: Path, *, resume: bool, overwrite: bool) -> bool:
    """Claim `out`, or see that there is a run in it to take up; whether it is the latter."""
    if resume and (out / CHECKPOINT).is_file():
        return True
    claim_folder(out, _FILES, overwrite=_replaces(out, resume, overwrite), remedy=_REMEDY)
    return False
