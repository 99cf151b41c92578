"""Pretraining without labels."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pyrino import _core
from pyrino.data import JetStream
from pyrino.data.opening import open_jets
from pyrino.errors import RinoError, RinoWarning
from pyrino.history import History
from pyrino.jets import Jets
from pyrino.nn import JetEncoder
from pyrino.recipe import Recipe
from pyrino.views import _core_of

__all__ = ["PretrainingRun", "Trainer", "pretrain"]

_CHECKPOINT = "checkpoint.safetensors"
_ENCODER = "encoder.safetensors"
_HISTORY = "history.parquet"
_RECIPE = "recipe.toml"
_FILES = (_CHECKPOINT, _ENCODER, _HISTORY, _RECIPE, "tensorboard")
_REMEDY = "give resume=True to go on, overwrite=True to replace it, or another folder"


class Trainer:
    """Self-distillation step by step; `pretrain` is this with files around it.

    Parameters
    ----------
    recipe
        Every number of the run.
    jets
        What to train on: `Jets`, or a stream of `open_dataset`, which nobody else may use meanwhile. Labels are not
        looked at.
    device
        "cpu", "cuda", "cuda:1".
    dtype
        "float32" or "float64": of weights, losses and everything that is kept. With float32 the recipe's
        ``training.precision`` "bf16" lets the encoders compute in bfloat16.

    Raises
    ------
    RinoError
        For a recipe with numbers outside their ranges, fewer than two jets, or float64 with precision "bf16".

    Examples
    --------
    >>> trainer = rino.Trainer(rino.Recipe.preset("nano", epochs=5), jets)
    >>> for step in trainer:
    ...     print(step["step"], step["loss"], step["teacher_entropy"])
    """

    def __init__(
        self, recipe: Recipe, jets: Jets | JetStream, *, device: str | torch.device = "cpu", dtype: str = "float32"
    ) -> None:
        self.recipe = recipe.copy()
        device = torch.device(device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RinoError(f"device is {str(device)!r} but torch sees no CUDA device: choose 'cpu'")
        source = jets if isinstance(jets, JetStream) else _core_of(jets)
        self._core = _core.Trainer(self.recipe._core, source, device, dtype)
        # Its threads may want the interpreter's lock: they must have ended before the interpreter does.
        weakref.finalize(self, self._core.finish)

    def __iter__(self) -> Iterator[dict[str, float]]:
        while not self.done:
            yield self.step()

    def __len__(self) -> int:
        """Steps in all."""
        return self._core.steps

    def step(self) -> dict[str, float]:
        """Train on one batch.

        Returns
        -------
        dict
            step, epoch, loss, lr, gradient_norm (before clipping), waited (s, for the loader) and seconds (s, in
            all), and of the method: dino, koleo, teacher_entropy (nats), prototype_entropy (nats, at most ln K),
            teacher_temperature, student_temperature, momentum.

        Raises
        ------
        RinoError
            When all steps are done, or the loss is not finite.
        """
        return self._core.step()

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self._core.done

    @property
    def step_number(self) -> int:
        """Steps done so far."""
        return self._core.step_number

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the jets."""
        return self._core.steps_per_epoch

    @property
    def batch_size(self) -> int:
        """Jets of a step."""
        return self._core.batch_size

    @property
    def best_loss(self) -> float:
        """Mean loss of the best epoch so far, infinity before the first is done."""
        return self._core.best_loss

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, as the schedule has it."""
        return self._core.learning_rate(step)

    def encoder(self, which: str = "teacher") -> JetEncoder:
        """A copy of the teacher's encoder as it is now, the one to use, or of the student's."""
        if which not in ("teacher", "student"):
            raise RinoError(f"there is no encoder {which!r}: choose 'teacher' or 'student'")
        return JetEncoder(self.recipe, _from=getattr(self._core, which)())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (safetensors), whole or not at all."""
        metadata = {"kind": "checkpoint", "recipe": self.recipe.to_json(), "pyrino": _core.__version__}
        self._core.save(os.fspath(path), metadata)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of the same recipe and jets; on a CPU bit by bit as if never stopped.

        Raises
        ------
        RinoError
            If the file is no checkpoint or damaged, or was made with another recipe or other jets: it names the first
            difference. What fine-tuning alone needs may differ, and ``loader_threads``, which changes no result.
        """
        path = os.fspath(path)
        text = _core.read_metadata(path).get("recipe")
        if text is not None:
            _check_same(Recipe.from_json(text), self.recipe, path)
        self._core.restore(path)


@dataclass
class PretrainingRun:
    """What `pretrain` leaves: the files in `out`, the numbers of every step, the encoder."""

    out: Path
    recipe: Recipe
    encoder: JetEncoder
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

    def plot(self) -> Any:
        """The loss, its parts, the entropies and the schedules, as a matplotlib Figure."""
        from pyrino.plots import training_curves

        return training_curves(self.history, n_prototypes=self.recipe.head.prototypes)

    def __repr__(self) -> str:
        steps = self.history.rows
        loss = f"{self.history['loss'][-1]:.4f}" if steps else "none"
        return (
            f"PretrainingRun({str(self.out)!r}: {steps} steps, {self.jets_seen} jets seen, last loss {loss}, "
            f"{self.seconds:.0f} s, {self.waited:.0%} of it waiting for the loader)"
        )


def pretrain(
    recipe: Recipe | str | os.PathLike[str],
    train: Jets | JetStream | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | torch.device = "cpu",
    progress: bool = True,
    tensorboard: bool = True,
    checkpoint_minutes: float = 5.0,
) -> PretrainingRun:
    """Pretrain an encoder on jets without labels, along the renormalisation-group flow (arXiv:2509.07486).

    Parameters
    ----------
    recipe
        A `Recipe`, a preset's name or a TOML file.
    train
        Jets; files and folders that `read_jets` reads, which are read into memory up to a million jets and streamed
        above; or a stream of `open_dataset`. Labels are not looked at.
    out
        Folder for ``encoder.safetensors`` (the teacher), ``checkpoint.safetensors``, ``recipe.toml``,
        ``history.parquet`` and TensorBoard's log.
    resume
        Go on from the checkpoint in `out`; with none there, start.
    overwrite
        Replace a run that is in `out`.
    device
        "cpu" or "cuda".
    progress
        Show a bar; its ``waited`` is the share of the steps' time in which they waited for the loader.
    tensorboard
        Write a log that ``tensorboard --logdir`` shows while it grows.
    checkpoint_minutes
        Longest time between checkpoints; one is written at the end and on Ctrl-C, too.

    Returns
    -------
    PretrainingRun

    Raises
    ------
    RinoError
        If `out` holds a run already (and neither `resume` nor `overwrite` is given), for bad input, or if the disk
        is full. Files under their final names are whole in every case.
    KeyboardInterrupt
        On Ctrl-C, after a checkpoint was written from which ``resume=True`` goes on.
    """
    recipe = as_recipe(recipe)
    out = Path(out)
    # Before hours of reading, not after.
    check_folder(out, _FILES, overwrite=_replaces(out, resume, overwrite), remedy=_REMEDY)
    jets = train if isinstance(train, (Jets, JetStream)) else open_jets(train, shuffle_seed=recipe.training.seed)
    trainer = Trainer(recipe, jets, device=device)
    resumed = _prepare_folder(out, trainer, resume=resume, overwrite=overwrite)
    history = History.load(out / _HISTORY) if resumed else History()
    history.truncate(trainer.step_number)
    first = trainer.step_number
    recipe.save(out / _RECIPE)

    def checkpoint() -> None:
        history.save(out / _HISTORY)
        trainer.save(out / _CHECKPOINT)

    started = saved = time.monotonic()
    waited = stepped = 0.0
    with (
        _writer(out / "tensorboard", tensorboard, first) as log,
        _bar(trainer, progress) as bar,
        _noted_interrupts() as interrupted,
    ):
        try:
            for step in trainer:
                history.append(step)
                for name, value in step.items():
                    if name not in ("step", "seconds", "waited"):
                        log(name, value, int(step["step"]))
                log("waited", step["waited"] / step["seconds"], int(step["step"]))
                waited += step["waited"]
                stepped += step["seconds"]
                bar.set_postfix(
                    loss=f"{step['loss']:.3f}",
                    entropy=f"{step['teacher_entropy']:.2f}",
                    epoch=f"{step['epoch']:.1f}/{recipe.training.epochs}",
                    waited=f"{waited / stepped:.0%}",
                    refresh=False,
                )
                bar.update(trainer.batch_size)
                if time.monotonic() - saved > 60 * checkpoint_minutes:
                    checkpoint()
                    saved = time.monotonic()
                if interrupted():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            checkpoint()
            raise KeyboardInterrupt(
                f"stopped after {trainer.step_number} of {len(trainer)} steps; "
                f"the checkpoint is in {out}, go on with resume=True"
            ) from None
    checkpoint()
    if isinstance(jets, JetStream) and (said := jets.left_out()):
        warnings.warn(f"training went without what is broken: {said}", RinoWarning, stacklevel=2)
    encoder = trainer.encoder()
    encoder.save(out / _ENCODER)
    return PretrainingRun(
        out=out,
        recipe=recipe,
        encoder=encoder,
        history=history,
        jets_seen=trainer.step_number * trainer.batch_size,
        seconds=time.monotonic() - started,
        resumed_at=first,
    )


def as_recipe(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """A recipe from what users say: a `Recipe`, a preset's name, a TOML file."""
    if isinstance(recipe, Recipe):
        return recipe
    text = os.fspath(recipe)
    if text in Recipe.presets() or not (text.endswith(".toml") or os.path.sep in text):
        return Recipe.preset(text)
    return Recipe.load(text)


def check_folder(out: Path, known: Sequence[str], *, overwrite: bool, remedy: str) -> None:
    """Refuse a folder that holds something which must not be lost; nothing is changed.

    Raises
    ------
    RinoError
        If it is a file, holds a run and `overwrite` is not set, or holds files that are not ours.
    """
    if out.exists() and not out.is_dir():
        raise RinoError(f"{out} is a file: choose a folder")
    if out.is_dir() and any(out.iterdir()):
        if not any((out / name).exists() for name in known):
            raise RinoError(f"the folder {out} exists and holds other files: choose a new folder")
        if not overwrite:
            raise RinoError(f"the folder {out} holds a run already: {remedy}")


def claim_folder(out: Path, known: Sequence[str], *, overwrite: bool, remedy: str) -> None:
    """Make the folder `out`, empty of an earlier run.

    Raises
    ------
    RinoError
        As `check_folder`, or if it cannot be made.
    """
    check_folder(out, known, overwrite=overwrite, remedy=remedy)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RinoError(f"the folder {out} cannot be made: {error.strerror}; choose another") from error
    for name in known if out.is_dir() else ():
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_same(saved: Recipe, mine: Recipe, path: str) -> None:
    """Raise for the first number that a resumed run would silently take from elsewhere than the run it goes on with."""
    theirs = saved.to_dict()
    for section, values in mine.to_dict().items():
        if section in ("preset", "finetune", "supervised"):
            continue
        for name, value in values.items():
            if (section, name) != ("training", "loader_threads") and theirs[section][name] != value:
                raise RinoError(
                    f"'{section}.{name}' is {value!r} but {theirs[section][name]!r} in {path}: "
                    "resume with the recipe of the run, or start a new one"
                )


def _replaces(out: Path, resume: bool, overwrite: bool) -> bool:
    """Whether what is in `out` may go: resuming starts anew where a run ended before its first checkpoint, but never
    at the cost of an encoder.
    """
    unfinished = (out / _CHECKPOINT).is_file() or not (out / _ENCODER).exists()
    return overwrite or (resume and unfinished)


def _prepare_folder(out: Path, trainer: Trainer, *, resume: bool, overwrite: bool) -> bool:
    """Claim `out`, or take up the run in it; whether it did the latter."""
    checkpoint = out / _CHECKPOINT
    if resume and checkpoint.is_file():
        trainer.restore(checkpoint)
        return True
    claim_folder(out, _FILES, overwrite=_replaces(out, resume, overwrite), remedy=_REMEDY)
    return False


@contextmanager
def _noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Makes Ctrl-C wait for the end of a step: raised within, it would lose the step's report, and the resumed run's
    history would have a hole. The second one does not wait. Signals reach the main thread only.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield lambda: False
        return
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            signal.default_int_handler(number, frame)
        noted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _writer(folder: Path, wanted: bool, first: int) -> Iterator[Any]:
    if not wanted:
        yield lambda name, value, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=first) as writer:
        yield lambda name, value, step: writer.add_scalar(name, value, step)


def _bar(trainer: Trainer, wanted: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=len(trainer) * trainer.batch_size,
        initial=trainer.step_number * trainer.batch_size,
        unit=" jets",
        unit_scale=True,
        desc="pretraining",
        disable=not wanted,
        dynamic_ncols=True,
    )
