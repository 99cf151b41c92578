"""Pretraining without labels."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import shutil
import signal
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyrino import _core
from pyrino._arguments import checked, device_of
from pyrino.data import JetStream
from pyrino.data.opening import open_jets
from pyrino.errors import RinoError, RinoWarning, level_of_caller, unpicklable
from pyrino.files import unfinished
from pyrino.history import History
from pyrino.jets import Jets
from pyrino.methods import about, method_class
from pyrino.nn import JetEncoder
from pyrino.ranks import Ranks, Stopped, ranks_of
from pyrino.recipe import TASKS, Recipe
from pyrino.transforms import Augmentation
from pyrino.views import _core_of
from pyrino.watch import Watch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["PretrainingRun", "Trainer", "pretrain"]

_LOG = logging.getLogger("pyrino")

_CHECKPOINT = "checkpoint.safetensors"
_ENCODER = "encoder.safetensors"
_AVERAGE = "average.safetensors"
_HISTORY = "history.parquet"
_RECIPE = "recipe.toml"
_FILES = (_CHECKPOINT, _ENCODER, _AVERAGE, _HISTORY, _RECIPE, "tensorboard", "failed")
_REMEDY = "give resume=True to go on, overwrite=True to replace it, or another folder"


class Trainer:
    """Pretraining step by step, of any method; `pretrain` is this with files around it.

    Parameters
    ----------
    recipe
        Every number of the run.
    jets
        What to train on: `Jets`, or a stream of `open_dataset`, which nobody else may use meanwhile. Labels are
        looked at where the method needs them, as SupCon does. Where the recipe names a column of weights
        (``training.weight``), `Jets.values` has it; a stream of `open_dataset` reads it without being asked. Where
        there are fewer jets than ``training.batch_size``, a step takes all of them, which is said (on the logger
        "pyrino").
    device
        "cpu", "cuda", "cuda:1".
    dtype
        "float32" or "float64": of weights, losses and everything that is kept; float64 also where the recipe's
        ``training.precision`` is "float64". With float32 the precision "bf16" lets the encoders compute in bfloat16,
        on CPUs with AMX and on GPUs; on others it is float32, which is faster there, with a `RinoWarning`.
    group
        The processes that train together, each on its part of every batch: a ProcessGroup of ``torch.distributed``
        (Gloo for a CPU, NCCL for CUDA devices) or `Ranks`. None: this one alone, also where torch.distributed was
        initialised. All give the same recipe, and all jets or a stream opened with their own ``rank`` and
        ``world_size``; all call `step`, `save` and `restore` together. A rank that is lost is noticed within
        ``with pyrino.ranks.Ranks(group):`` only.
    augmentation
        What is done to the jets, on the loader's threads, before the method prepares them, an `Augmentation` or what
        makes one, as ``["rotate", "smear soft=0.1"]``: a jet's draws are functions
        of the recipe's seed, the step and its place in the step's batch of all processes. It is no part of the recipe:
        who goes on with a run gives it again.

    Raises
    ------
    RinoError
        For a recipe with numbers outside their ranges, fewer than two jets, or float64 with precision "bf16"; for a
        batch that the processes cannot share evenly, other jets on another of them, or a stream that is not the
        rank's own; for a column of weights that jets in memory lack, that has negative or infinite ones, or that the
        method has no use for.

    Examples
    --------
    >>> trainer = rino.Trainer(rino.Recipe.preset("nano", epochs=5), jets)
    >>> for step in trainer:
    ...     print(step["step"], step["loss"], step["teacher_entropy"])
    """

    @checked
    def __init__(
        self,
        recipe: Recipe,
        jets: Jets | JetStream,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        group: Ranks | ProcessGroup | None = None,
        augmentation: Augmentation | Iterable[Callable[..., Jets] | str] | None = None,
    ) -> None:
        self.recipe = recipe.copy()
        device = device_of(device)
        if device.type == "cuda" and device.index is None:
            # Threads of its own have another current device.
            device = torch.device("cuda", torch.cuda.current_device())
        ranks = ranks_of(group)
        source = jets if isinstance(jets, JetStream) else _core_of(jets)
        if isinstance(jets, JetStream) and not ranks.alone and jets.share not in (None, (ranks.rank, ranks.size)):
            raise RinoError(
                f"the stream is the share of rank {jets.share[0]} of {jets.share[1]} and this is rank {ranks.rank} of "
                f"{ranks.size}: open it with rank={ranks.rank}, world_size={ranks.size}"
            )
        _check_alike(self.recipe, ranks)
        if isinstance(jets, JetStream):
            jets._want_columns(weight_of(self.recipe))
        #: The object of a method that is written in Python; None for the library's own.
        self.method = None
        if kind := method_class(self.recipe.method):
            self.method = kind(self.recipe)
        method = None if self.method is None else _core.PythonMethod(self.method)
        if augmentation is not None and not isinstance(augmentation, Augmentation):
            augmentation = Augmentation(augmentation)
        self._augmentation = augmentation
        augment = None if augmentation is None else _augment(augmentation)
        self._core = _core.Trainer(self.recipe._core, source, device, dtype, ranks.group, method, augment)
        if isinstance(jets, JetStream):
            jets._trained_on_labels = self._core.wants_labels
        if recipe.training.precision != self._core.precision and ranks.first:
            warnings.warn(
                f"training.precision is {recipe.training.precision!r}, which this processor computes more slowly than "
                f"float32 (it has no AMX): the run is in {self._core.precision}",
                RinoWarning,
                stacklevel=level_of_caller(),
            )
        wanted, taken = self.recipe.training.batch_size, self._core.batch_size
        if taken < wanted and ranks.first:
            _LOG.warning("training.batch_size is %d, more than there are jets: a step takes %d", wanted, taken)
        # Its threads may want the interpreter's lock: they must have ended before the interpreter does.
        weakref.finalize(self, self._core.finish)

    def __iter__(self) -> Iterator[dict[str, float]]:
        while not self.done:
            yield self.step()

    def __reduce__(self) -> tuple[Any, ...]:
        return unpicklable("a trainer has threads and cannot be pickled or copied: save() it and restore() another")

    def __len__(self) -> int:
        """Steps in all."""
        return self._core.steps

    def step(self) -> dict[str, float]:
        """Train on one batch.

        Returns
        -------
        dict
            step, skipped (1 where loss or gradient were not finite: nothing was changed then), epoch, loss, lr,
            gradient_norm (before clipping), waited (s, for the loader) and seconds (s, in all), these two of this
            process, and of the method: its losses (dino, ibot, gram, koleo), teacher_entropy (nats) and
            prototype_entropy (nats, at most ln K), both also of particles with masks, teacher_temperature,
            student_temperature, momentum.

        Raises
        ------
        RinoError
            When all steps are done, or the loss is not finite for the third time in a row.
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
        """Jets of a step, on all processes together."""
        return self._core.batch_size

    @property
    def best_loss(self) -> float:
        """Mean loss of the best epoch so far, infinity before the first is done."""
        return self._core.best_loss

    @checked
    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, as the schedule has it."""
        return self._core.learning_rate(step)

    def encoder(self, which: str = "encoder") -> JetEncoder:
        """A copy of an encoder as it is now.

        Parameters
        ----------
        which
            "encoder": the one to use. "average": the moving average of the trained one, with momentum
            ``training.average``. Of self-distillation also "teacher", the one to use, and "student".
        """
        own = {} if self.method is None else self.method.products()
        known = [name for name in own or self._core.encoders() if name != "encoder"]
        if which not in (*known, "encoder", "average"):
            names = ", ".join(map(repr, known or ["encoder"]))
            raise RinoError(f"there is no encoder {which!r}: choose {names} or 'average'")
        if which != "average":
            return _copy_of(own[which]) if own else JetEncoder(self.recipe, _from=self._core.product(which))
        if not self.recipe.training.average > 0:
            raise RinoError("no moving average was made: choose training.average = 0.999, for example")
        if self.method is not None:
            encoder = _copy_of(self.method.encoder)
        else:
            encoder = JetEncoder(self.recipe, _from=self._core.product("student" if "student" in known else "encoder"))
        averages = self._core.average().items()
        encoder.load_state_dict({n.removeprefix("encoder."): v for n, v in averages if n.startswith("encoder.")})
        return encoder

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (safetensors), whole or not at all; of several processes rank 0 does."""
        metadata = {"kind": "checkpoint", "recipe": self.recipe.to_json(), "pyrino": _core.__version__}
        if self._augmentation is not None:
            metadata["augmentation"] = repr(self._augmentation)
        self._core.save(os.fspath(path), metadata)

    @checked
    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of the same recipe and jets; on a CPU bit by bit as if never stopped.

        Another number of processes may go on with it: with jets in memory exactly where the others stopped, with a
        stream about there (`Dataset`).

        Raises
        ------
        RinoError
            If the file is no checkpoint or damaged, or was made with another recipe or other jets: it names the first
            difference. What fine-tuning alone needs may differ, and ``loader_threads``, which changes no result.
        """
        path = os.fspath(path)
        metadata = _core.read_metadata(path)
        text = metadata.get("recipe")
        if text is not None:
            _check_same(Recipe.from_json(text), self.recipe, path)
        theirs = metadata.get("augmentation")
        if text is not None and (theirs is None) != (self._augmentation is None):
            raise RinoError(
                f"the augmentation is {self._augmentation} but {theirs} in {path}: resume with that of the run, or "
                "start a new one"
            )
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
        if ranks.first_does(lambda: _prepare_folder(out, resume=resume, overwrite=overwrite)):
            trainer.restore(out / _CHECKPOINT)
            history = ranks.each(lambda: History.load(out / _HISTORY))
            history.truncate(trainer.step_number)
            ranks.remedy = _going_on(out)
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
            _train(trainer, history, out, watch, ranks, checkpoint_minutes)
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


def _train(
    trainer: Trainer, history: History, out: Path, watch: Watch, ranks: Ranks, checkpoint_minutes: float
) -> None:
    """All steps that are left, with checkpoints between them.

    Raises
    ------
    Stopped
        If a signal ends it before the last step.
    """

    def checkpoint() -> None:
        if ranks.first:
            history.save(out / _HISTORY)
        trainer.save(out / _CHECKPOINT)
        ranks.remedy = _going_on(out)

    saved = time.monotonic()
    with ranks.noting() as noted:
        try:
            for step in trainer:
                history.append(step)
                watch.step(step)
                late = time.monotonic() - saved > 60 * checkpoint_minutes
                stopping, due = ranks.largest(noted(), int(late and ranks.first))
                if stopping:
                    raise Stopped("", stopping)
                if due:
                    checkpoint()
                    saved = time.monotonic()
        except RinoError:
            if ranks.first:
                with contextlib.suppress(RinoError):
                    history.save(out / _HISTORY)  # what led here
            raise
        except KeyboardInterrupt as error:
            if not ranks.alone and not isinstance(error, Stopped):
                raise  # the others do not know of it
            checkpoint()
            number = error.signal if isinstance(error, Stopped) else signal.SIGINT
            by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            raise Stopped(
                f"stopped{by} after {trainer.step_number} of {len(trainer)} steps; "
                f"the checkpoint is in {out}, go on with resume=True",
                number,
            ) from None
        checkpoint()


def _going_on(out: Path) -> str:
    return f"go on from the last checkpoint in {out} with resume=True"


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
        columns=weight_of(recipe),
    )


def weight_of(recipe: Recipe) -> list[str]:
    """The column of weights that its readers have to read, if it names one."""
    return [recipe.training.weight] if recipe.training.weight else []


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


def check_folder(out: Path, known: Sequence[str], *, overwrite: bool, remedy: str) -> None:
    """Refuse a folder that holds something which must not be lost; nothing is changed.

    Raises
    ------
    RinoError
        If it is a file, holds a run and `overwrite` is not set, or holds files that are not ours.
    """
    if out.exists() and not out.is_dir():
        raise RinoError(f"{out} is a file: choose a folder")
    if out.is_dir() and not all(unfinished(path.name) for path in out.iterdir()):
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


def _copy_of(encoder: JetEncoder) -> JetEncoder:
    """An encoder of its own memory, in evaluation mode."""
    return copy.deepcopy(encoder).requires_grad_(True).eval()


def _augment(augmentation: Augmentation) -> Callable[[_core.Jets, _core.Draws], _core.Jets]:
    """The augmentation as C++ calls it."""
    return lambda jets, draws: augmentation(Jets._wrap(jets), seed=draws.seed, first_jet=draws.first_jet)._core


def _check_same(saved: Recipe, mine: Recipe, path: str) -> None:
    """Raise for the first number that a resumed run would silently take from elsewhere than the run it goes on with."""
    if different := _first_difference(mine, saved):
        name, value, theirs = different
        raise RinoError(
            f"{name} is {value!r} but {theirs!r} in {path}: resume with the recipe of the run, or start a new one"
        )


def _first_difference(one: Recipe, other: Recipe) -> tuple[str, Any, Any] | None:
    """The first number of pretraining in which two recipes differ, if it can change a result: name and both values."""
    if one.method != other.method:
        return "the method", one.method, other.method
    theirs = other.sections()
    for section, values in one.sections().items():
        for name, value in values.items():
            if section not in TASKS and (section, name) != ("training", "loader_threads"):
                if theirs[section][name] != value:
                    return f"'{section}.{name}'", value, theirs[section][name]
    return None


def _check_alike(recipe: Recipe, ranks: Ranks) -> None:
    """Raise, on all ranks, for the first number in which one trains otherwise than rank 0: they would drift apart, or
    wait for each other forever.
    """
    if ranks.alone:
        return
    import torch.distributed as dist

    everyone: list[Any] = [None] * ranks.size
    dist.all_gather_object(everyone, recipe, group=ranks.group)
    for rank, theirs in enumerate(everyone):
        if different := _first_difference(everyone[0], theirs):
            name, value, other = different
            raise RinoError(f"{name} is {other!r} on rank {rank} and {value!r} on rank 0: give all the same recipe")


def _replaces(out: Path, resume: bool, overwrite: bool) -> bool:
    """Whether what is in `out` may go: resuming starts anew where a run ended before its first checkpoint, but never
    at the cost of an encoder.
    """
    unfinished = (out / _CHECKPOINT).is_file() or not (out / _ENCODER).exists()
    return overwrite or (resume and unfinished)


def _prepare_folder(out: Path, *, resume: bool, overwrite: bool) -> bool:
    """Claim `out`, or see that there is a run in it to take up; whether it is the latter."""
    if resume and (out / _CHECKPOINT).is_file():
        return True
    claim_folder(out, _FILES, overwrite=_replaces(out, resume, overwrite), remedy=_REMEDY)
    return False
