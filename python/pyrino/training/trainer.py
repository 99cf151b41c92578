"""Training step by step."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from pyrino import _core
from pyrino._arguments import checked, device_of, require_bf16
from pyrino.data.stream import JetStream
from pyrino.errors import RinoError, RinoWarning, level_of_caller, unpicklable
from pyrino.jets import Jets
from pyrino.methods import About, about, method_class
from pyrino.nn import Encoder, encoder_of
from pyrino.recipe import TASKS, Recipe
from pyrino.training.ranks import Ranks, ranks_of
from pyrino.transforms import Augmentation
from pyrino.views import _core_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Trainer"]

_LOG = logging.getLogger("pyrino")


class Trainer:
    """Pretraining step by step, of any method; `pretrain` is this with files around it.

    Parameters
    ----------
    recipe
        Every number of the run.
    jets
        What to train on: `Jets`, or a stream of `open_dataset`, which nobody else may use meanwhile. Labels are
        looked at where the method needs them, as SupCon does. Where the recipe names a column of weights
        (``training.weight``), `Jets.values` has it; a stream of `open_dataset` reads it without being asked, as columns
        that are features. Where there are fewer jets than ``training.batch_size``, a step takes all of them, which is
        said (on the logger "pyrino").
    device
        "cpu", "cuda", "cuda:1".
    dtype
        "float32" or "float64": of weights, losses and everything that is kept; float64 also where the recipe's
        ``training.precision`` is "float64". With float32 the precision "bf16" lets the encoders compute in bfloat16,
        on GPUs and on CPUs that are fast in it (Intel's with AMX, AMD's with AVX512-BF16); on others it is float32,
        which is faster there, with a `RinoWarning`.
    group
        The processes that train together, each on its part of every batch: a ProcessGroup of ``torch.distributed``
        (Gloo for a CPU, NCCL for CUDA devices) or `Ranks`. None: this one alone, also where torch.distributed was
        initialised. All give the same recipe, and all jets or a stream opened with their own ``rank`` and
        ``world_size``; all call `step`, `save` and `restore` together. A rank that is lost is noticed within
        ``with pyrino.ranks.Ranks(group):`` only.
    augmentation
        What is done to the jets, on the loader's threads, before the method prepares them, an `Augmentation` or what
        makes one, as ``["rotate", "smear soft=0.1"]``: a jet's draws are functions of the recipe's seed, the step and
        its place in the step's batch of all processes. It is no part of the recipe: who goes on with a run gives it
        again.

    Raises
    ------
    RinoError
        For a recipe with numbers outside their ranges, fewer than two jets, or float64 with precision "bf16"; for a
        batch that the processes cannot share evenly, other jets on another of them, or a stream that is not the
        rank's own; for a column of weights that jets in memory lack, that has negative or infinite ones, or that the
        method has no use for; for an augmentation that rotates or boosts what has features that depend on the frame.

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
        #: The object of a method that is written in Python; None for the library's own.
        self.method = None
        if kind := method_class(recipe.method):
            self.method = kind(recipe)
        if augmentation is not None and not isinstance(augmentation, Augmentation):
            augmentation = Augmentation(augmentation)
        if augmentation is not None and augmentation.turning:
            recipe._core.require_no_frame(f"the augmentation's '{augmentation.turning}'")
        self._begin(
            recipe,
            jets,
            device=device_of(device),
            dtype=dtype,
            group=group,
            method=None if self.method is None else _core.PythonMethod(self.method),
            augmentation=augmentation,
        )

    def _begin(
        self,
        recipe: Recipe,
        jets: Jets | JetStream,
        *,
        device: torch.device,
        dtype: str,
        group: Ranks | ProcessGroup | None,
        method: _core.Method | None,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Make the trainer of C++; `method` is None where the recipe says it."""
        self.recipe = recipe.copy()
        self._augmentation = augmentation
        if device.type != "cpu" and device.index is None:
            # Threads of its own have another current device.
            device = torch.empty(0, device=device).device
        if recipe.training.precision == "bf16":
            require_bf16(device)
        ranks = ranks_of(group)
        ranks.device = device
        source = jets if isinstance(jets, JetStream) else _core_of(jets)
        if isinstance(jets, JetStream) and not ranks.alone and jets.share not in (None, (ranks.rank, ranks.size)):
            raise RinoError(
                f"the stream is the share of rank {jets.share[0]} of {jets.share[1]} and this is rank {ranks.rank} of "
                f"{ranks.size}: open it with rank={ranks.rank}, world_size={ranks.size}"
            )
        self._check_alike(ranks)
        if isinstance(jets, JetStream):
            jets._want_columns(columns_of(self.recipe))
        augment = None if augmentation is None else _augment(augmentation)
        self._core = _core.Trainer(self.recipe._core, source, device, dtype, ranks.group, method, augment)
        if isinstance(jets, JetStream):
            jets._trained_on_labels = self._core.wants_labels
        if recipe.training.precision != self._core.precision and ranks.first:
            warnings.warn(
                f"training.precision is {recipe.training.precision!r}, which this processor computes more slowly than "
                f"float32 (it is neither Intel's with AMX nor AMD's with AVX512-BF16): the run is in "
                f"{self._core.precision}",
                RinoWarning,
                stacklevel=level_of_caller(),
            )
        wanted, taken = self.recipe.training.batch_size, self._core.batch_size
        if taken < wanted and ranks.first:
            _LOG.warning("%s is %d, more than there are jets: a step takes %d", self._batch_size, wanted, taken)
        # Its threads may want the interpreter's lock: they must have ended before the interpreter does.
        weakref.finalize(self, _end, self._core)

    #: The number of a recipe that says how many jets a step has.
    _batch_size: ClassVar[str] = "training.batch_size"

    @property
    def _title(self) -> str:
        """What goes on, in words."""
        return "pretraining"

    @property
    def _remedy(self) -> str:
        """What helps where losses are not finite, by the names that a recipe has."""
        return f"a lower optimizer.lr (now {self.recipe.optimizer.lr:g}) or higher temperatures"

    def _about(self) -> About:
        """What is to be said of it."""
        return about(self.recipe, self.method)

    @staticmethod
    def _matters(section: str, name: str) -> bool:
        """Whether a number of the recipe can change a result."""
        return section not in TASKS and (section, name) != ("training", "loader_threads")

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
    def epochs(self) -> int:
        """Passes through the jets in all."""
        return self._core.epochs

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

    def encoder(self, which: str = "encoder") -> Encoder:
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
            return _copy_of(own[which]) if own else encoder_of(self.recipe, core=self._core.product(which))
        if not self.recipe.training.average > 0:
            raise RinoError("no moving average was made: choose training.average = 0.999, for example")
        if self.method is not None:
            encoder = _copy_of(self.method.encoder)
        else:
            name = "student" if "student" in known else "encoder"
            encoder = encoder_of(self.recipe, core=self._core.product(name))
        averages = self._core.average().items()
        encoder.load_state_dict({n.removeprefix("encoder."): v for n, v in averages if n.startswith("encoder.")})
        return encoder

    @checked
    def start_from(self, encoder: Encoder | str | os.PathLike[str]) -> None:
        """Give all encoders of the method these weights: a warm start.

        Parameters
        ----------
        encoder
            One of the recipe's architecture, or its file or run.

        Raises
        ------
        RinoError
            If a step was done, or the encoder is of another architecture.
        """
        if self.step_number:
            raise RinoError(f"{self.step_number} steps are done: give weights to start from before the first one")
        given = (encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)).state_dict()
        mine = [
            [(tensor, value) for tensor, value, _ in self._core.product(name).tensors()]
            for name in ([] if self.method else self._core.encoders())
        ]
        if self.method is not None:
            mine = [list(network.state_dict().items()) for network in self.method.products().values()]
        for name, tensor in (pair for tensors in mine for pair in tensors):
            theirs = given.get(name)
            if theirs is None or theirs.shape != tensor.shape or len(given) != len(mine[0]):
                shape = "is not there" if theirs is None else f"has shape {list(theirs.shape)}"
                raise RinoError(
                    f"the encoder to start from is of another architecture: {name!r} {shape} and has "
                    f"{list(tensor.shape)} in the recipe's; it has {len(given)} tensors, the recipe's {len(mine[0])}"
                )
        with torch.no_grad():
            for name, tensor in (pair for tensors in mine for pair in tensors):
                tensor.detach().copy_(given[name])
        if self.method is not None:
            self.method._follow_anew()
        self._core.begin_average()

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (safetensors), whole or not at all; of several processes rank 0 does."""
        metadata = {"kind": "checkpoint", "recipe": self.recipe.to_json(), "pyrino": _core.__version__}
        if self._core.phase:
            metadata["phase"] = self._core.phase
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
            self._check_same(Recipe.from_json(text), path)
        theirs = metadata.get("augmentation")
        if text is not None and (theirs is None) != (self._augmentation is None):
            raise RinoError(
                f"the augmentation is {self._augmentation} but {theirs} in {path}: resume with that of the run, or "
                "start a new one"
            )
        self._core.restore(path)

    def _check_same(self, saved: Recipe, path: str) -> None:
        """Raise for the first number that a resumed run would silently take from elsewhere than the run it goes on
        with.
        """
        if different := self._first_difference(self.recipe, saved):
            name, value, theirs = different
            raise RinoError(
                f"{name} is {value!r} but {theirs!r} in {path}: resume with the recipe of the run, or start a new one"
            )

    def _check_alike(self, ranks: Ranks) -> None:
        """Raise, on all ranks, for the first number in which one trains otherwise than rank 0: they would drift apart,
        or wait for each other forever.
        """
        if ranks.alone:
            return
        everyone = ranks.gathered(self.recipe)
        for rank, theirs in enumerate(everyone):
            if different := self._first_difference(everyone[0], theirs):
                name, value, other = different
                raise RinoError(f"{name} is {other!r} on rank {rank} and {value!r} on rank 0: give all the same recipe")

    def _first_difference(self, one: Recipe, other: Recipe) -> tuple[str, Any, Any] | None:
        """The first number in which two recipes differ, if it can change a result: name and both values."""
        if one.method != other.method:
            return "the method", one.method, other.method
        theirs = other.sections()
        for section, values in one.sections().items():
            for name, value in values.items():
                if self._matters(section, name) and theirs[section][name] != value:
                    return f"'{section}.{name}'", value, theirs[section][name]
        return None


def columns_of(recipe: Recipe) -> list[str]:
    """The columns that readers have to read for a pretraining: those of features, and that of weights."""
    return [*recipe.columns, *([recipe.training.weight] if recipe.training.weight else [])]


def _augment(augmentation: Augmentation) -> Callable[[_core.Jets, _core.Draws], _core.Jets]:
    """The augmentation as C++ calls it."""
    return lambda jets, draws: augmentation(Jets._wrap(jets), seed=draws.seed, first_jet=draws.first_jet)._core


def _end(trainer: _core.Trainer) -> None:
    """End what a trainer has going. A device that has failed fails here again, which helps nobody."""
    with contextlib.suppress(RuntimeError):
        trainer.finish()


def _copy_of(encoder: Encoder) -> Encoder:
    """An encoder of its own memory, in evaluation mode."""
    return copy.deepcopy(encoder).requires_grad_(True).eval()
