"""Methods that users write in Python: their networks, views and loss, trained as the library's own are."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch

from pyrino import _core
from pyrino._arguments import checked, translated
from pyrino.errors import RinoError
from pyrino.flops import Flops
from pyrino.jets import Jets
from pyrino.methods.description import About, Alarm
from pyrino.methods.teacher import Teacher
from pyrino.nn import Encoder, Tokens

if TYPE_CHECKING:
    from pyrino.recipe import Recipe

__all__ = ["Batch", "Method", "Step", "method_class"]

Batch = _core.Batch
Step = _core.Step
translated(Batch, "__init__", "of", "__getitem__")
translated(Step, "__init__", "draws", "mean")

#: Methods of Python, by name.
_CLASSES: dict[str, type[Method]] = {}

#: Types that a number of a recipe can have.
_TYPES = (bool, int, float, str, list, tuple)


class Method:
    """A method of your own: subclass it, give it a name, networks, views and a loss.

    A subclass with a `name` is known from then on wherever methods are chosen: ``Recipe("mine")``, a TOML file with
    ``method = "mine"``, `pretrain`, the command line (``--method-module mine.py``). It trains as the library's methods
    do: from streams, on several processes, with checkpoints from which a run goes on bit by bit.

    The networks are attributes by their names. Random numbers of torch (dropout, ``torch.rand``) are drawn in `loss`
    from a generator that is seeded anew in every step; transforms take theirs from ``step.draws("a name")``.

    Attributes
    ----------
    name : str
        Of the method, and of its section in recipes.
    Options : dataclass, optional
        Its numbers: bool, int, float, str or a list of str, each with a default; ``field(metadata={"unit": "GeV",
        "meaning": "..", "source": "arXiv:.."})`` says what they are. They become a section of the recipe, and are
        ``self.options``.
    wants_labels : bool
        Whether `prepare` and `loss` need the jets' labels; they are taken away otherwise.
    wants_weights : bool
        Whether `loss` uses the jets' weights. Where the recipe names a column of them (``training.weight``) they are
        ``batch.weights``, and ``step.mean((batch.weights * losses).sum(), "weights")`` is the weighted mean over all
        processes and parts; where it names none they are None. A recipe that names one for another method is refused.
    accumulates : bool
        Whether the loss of a batch may be computed in parts (``training.accumulate``): not where jets are compared with
        each other.
    charts : mapping
        What TensorBoard and the pictures show: title and the names of numbers that `loss` returns.
    presets : mapping
        Recipes by name: numbers by "section.name".

    `warnings`, `shown` and `operations` say more of a run: what to warn of, what the progress bar shows, how much a
    step computes.

    Examples
    --------
    >>> @dataclass
    ... class AlignmentOptions:
    ...     uniformity: float = 1.0
    >>> class Alignment(rino.Method):
    ...     name = "alignment"
    ...     Options = AlignmentOptions
    ...     def networks(self):
    ...         return {"encoder": rino.JetEncoder(self.recipe)}
    ...     def views(self, jets, step):
    ...         return [rino.rotate(jets, **step.draws("a")), rino.smear(jets, soft=0.1, **step.draws("b"))]
    ...     def loss(self, batch, step):
    ...         a, b = self.encoder(batch.tokens, constituents=False).jets.chunk(2)
    ...         spread = rino.uniformity(a)
    ...         return rino.alignment(a, b) + self.options.uniformity * spread, {"uniformity": spread}
    >>> run = rino.pretrain(rino.Recipe("alignment", epochs=5), train=jets, out="runs/alignment")
    """

    name: ClassVar[str] = ""
    Options: ClassVar[type | None] = None
    wants_labels: ClassVar[bool] = False
    wants_weights: ClassVar[bool] = False
    accumulates: ClassVar[bool] = True
    charts: ClassVar[Mapping[str, Sequence[str]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    if TYPE_CHECKING:  # the networks
        encoder: Encoder

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not cls.name:
            return
        text = (cls.__doc__ or "").strip().split("\n")[0] or f"{cls.__module__}.{cls.__qualname__}"
        numbers = _numbers(cls)
        sections = {section_of(cls.name): numbers} if numbers else {}
        lines = {title: [(name, name) for name in names] for title, names in cls.charts.items()}
        parts = lines.pop("loss", [])
        _core.register_method(cls.name, text, sections, cls.presets, parts, list(lines.items()))
        _CLASSES[cls.name] = cls

    @checked
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe.copy()
        #: The method's numbers, an object of `Options`.
        self.options: Any = None
        if self.Options is not None and dataclasses.fields(self.Options):
            numbers = recipe.sections()[section_of(self.name)]
            self.options = self.Options(**numbers)
        #: The processes that train together: ``rank``, ``size``, ``gather``, ``sum``.
        self.ranks = _core.StepRanks()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.training.seed)
            self._networks = dict(self.networks())
        if not isinstance(self._networks.get("encoder"), Encoder):
            raise RinoError(
                f"{type(self).__name__}.networks has {sorted(self._networks)}: one of them, 'encoder', has to be a "
                "JetEncoder or another pyrino.Encoder"
            )
        for name, network in self._networks.items():
            if not isinstance(network, torch.nn.Module):
                raise RinoError(
                    f"{type(self).__name__}.networks: {name!r} is of type {type(network).__name__}: give a "
                    "torch.nn.Module"
                )
            if getattr(self, name, network) is not network:
                raise RinoError(f"{type(self).__name__}.networks: {name!r} is something else here: name it otherwise")
            setattr(self, name, network)
        self._dtype = "float32"
        self._device = torch.device("cpu")
        self._kept: set[str] | None = None  # names of the buffers that a checkpoint holds

    # --- what a method says ---

    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The networks by name, made once, drawn from the seed; "encoder" is a `JetEncoder` or another `Encoder`."""
        raise RinoError(f"{type(self).__name__} has no networks: define networks(self)")

    def views(self, jets: Jets, step: Step) -> Sequence[Jets]:
        """What the networks see of these jets: one or more `Jets` of the same jets, in their order.

        Called on the loader's threads: it must change nothing, and draw from ``step.draws`` alone.
        """
        raise RinoError(f"{type(self).__name__} has no views: define views(self, jets, step)")

    def prepare(self, jets: Jets, step: Step) -> Batch:
        """What the encoder sees of `views`, and labels where they are wanted; called as `views` is.

        The sequences of the first view stand before those of the second, each in the order of the jets.
        """
        batch = cast(Encoder, self._networks["encoder"])._core.inputs_of_views(
            self._cores(self.views(jets, step)), self._dtype, 1
        )
        batch.labels = self.labels(jets)
        return batch

    def loss(self, batch: Batch, step: Step) -> torch.Tensor | tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]:
        """The loss of what `prepare` made, a scalar with a gradient; with it numbers by name, for the charts.

        The numbers are the same ones in every call, on every process. Of several processes, and of accumulated parts,
        the mean is taken of losses and numbers.
        """
        raise RinoError(f"{type(self).__name__} has no loss: define loss(self, batch, step)")

    def after_step(self, step: Step) -> None:
        """After the optimiser's step; a `Teacher` that is an attribute follows by itself before."""

    def state(self) -> Mapping[str, torch.Tensor]:
        """Tensors that a checkpoint must hold beside networks and teachers, to be copied into on resume."""
        return {}

    def snapshot(self) -> Mapping[str, torch.Tensor]:
        """Tensors of the last step that show how training goes: "embeddings" [B, D] is what the rank is taken of."""
        return {}

    def warnings(self, report: Mapping[str, float]) -> Sequence[str] | Mapping[str, str]:
        """What a run is to warn of, after a step that was not skipped: texts, or texts by a name of their own.

        Each text, and each name whatever its text, is told once a run, on the first process.

        Parameters
        ----------
        report
            The step's numbers as `Trainer.step` has them; with "embedding_rank", too, the effective rank of the
            "embeddings" of `snapshot`, in steps in which TensorBoard's log looks at it.
        """
        return ()

    def shown(self, report: Mapping[str, float]) -> Sequence[str | tuple[str, str]]:
        """What the progress bar shows of a step beside the loss: texts, or one at length and one for want of room."""
        return ()

    def operations(self, jets: Jets, batch: int | None) -> Flops | float | None:
        """Floating-point operations of a step for one of these jets, for `pyrino.bench`; None: not known.

        Parameters
        ----------
        batch
            Jets that are compared with each other, where the method does that; None: the recipe's batch.
        """
        return None

    def products(self) -> Mapping[str, Encoder]:
        """The encoders that leave by name, "encoder" first: what `pretrain` saves, `Trainer.encoder` copies."""
        return {"encoder": cast(Encoder, self._networks["encoder"])}

    # --- what it may use ---

    def tokens(self, views: Jets | Sequence[Jets]) -> Tokens:
        """Tokens of views of the same jets, as the recipe makes them and of the networks' type."""
        return self.recipe._core.tokenizer().of_views(self._cores(views), self._dtype, 1)

    def _cores(self, views: Jets | Sequence[Jets]) -> list[_core.Jets]:
        views = [views] if isinstance(views, Jets) else list(views)
        wrong = next((view for view in views if not isinstance(view, Jets)), None)
        if wrong is not None or not views:
            what = "no view" if not views else f"a view of type {type(wrong).__name__}"
            raise RinoError(f"{type(self).__name__}.views returned {what}: give a list of Jets")
        return [view._core for view in views]

    def labels(self, jets: Jets) -> torch.Tensor | None:
        """[B] int64, or None where no labels are wanted.

        Raises
        ------
        RinoError
            If they are wanted and the jets have none.
        """
        if not self.wants_labels:
            return None
        if jets.labels is None:
            raise RinoError(f"the method {self.name!r} needs labels and the jets have none: give labelled jets")
        return torch.tensor(jets.labels)

    # --- what the trainer calls ---

    @property
    def _teachers(self) -> dict[str, Teacher]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Teacher)}

    def _prepare(self, jets: _core.Jets, step: Step) -> Batch:
        batch = self.prepare(Jets._wrap(jets), step)
        if not isinstance(batch, Batch):
            raise RinoError(f"{type(self).__name__}.prepare returned {type(batch).__name__}: give a Batch")
        return batch

    def _loss(self, batch: Batch, step: Step) -> tuple[torch.Tensor, list[tuple[str, torch.Tensor]]]:
        with _seeded(step._dropout_seed, self._device):
            found = self.loss(batch, step)
        loss, numbers = found if isinstance(found, tuple) else (found, {})
        if not isinstance(loss, torch.Tensor):
            raise RinoError(f"{type(self).__name__}.loss returned {type(loss).__name__}: give a torch.Tensor")
        device = loss.device
        metrics = [
            (name, value.detach() if isinstance(value, torch.Tensor) else torch.tensor(float(value), device=device))
            for name, value in numbers.items()
        ]
        wrong = next((name for name, value in metrics if value.numel() != 1), None)
        if wrong is not None:
            raise RinoError(f"{type(self).__name__}.loss: {wrong!r} is not one number: give its mean, for example")
        return loss, [(name, value.reshape(())) for name, value in metrics]

    def _parameters(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, p) for name, p in _each(self._networks, "named_parameters") if p.requires_grad]

    def _buffers(self) -> list[tuple[str, torch.Tensor]]:
        # Looked for in every step, where most networks have none.
        if self._kept is None:
            kept = {f"{prefix}.{name}" for prefix, network in self._networks.items() for name in network.state_dict()}
            self._kept = kept & {name for name, _ in _each(self._networks, "named_buffers")}
        if not self._kept:
            return []
        return [(name, buffer) for name, buffer in _each(self._networks, "named_buffers") if name in self._kept]

    def _depths(self) -> dict[str, int]:
        return {
            f"{network}.{path}{'.' if path else ''}{name}": module._core.depth(name)
            for network, whole in self._networks.items()
            for path, module in whole.named_modules()
            if isinstance(module, Encoder)
            for name, _ in module.named_parameters()
        }

    def _follow_anew(self) -> None:
        """Teachers become copies again, of networks that were changed by hand."""
        for teacher in self._teachers.values():
            teacher.module.load_state_dict(teacher.student.state_dict())

    def _state(self) -> list[tuple[str, torch.Tensor]]:
        tensors = list(self.state().items())
        for name, teacher in self._teachers.items():
            tensors += [(f"{name}.{key}", value) for key, value in teacher.state()]
        return tensors

    def _snapshot(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, tensor.detach()) for name, tensor in self.snapshot().items()]

    def _to(self, device: torch.device, dtype: str) -> None:
        self._device, self._dtype = device, dtype
        for network in [*self._networks.values(), *(t.module for t in self._teachers.values())]:
            network.to(device=device, dtype=getattr(torch, dtype))

    def _connect(self, ranks: Any) -> None:
        self.ranks = ranks

    def _start(self) -> None:
        self._train(True)

    def _train(self, on: bool) -> None:
        for network in self._networks.values():
            network.train(on)

    def _after_step(self, step: Step) -> None:
        teachers = self._teachers
        with torch.no_grad():
            for teacher in teachers.values():
                teacher.update(step)
            self.after_step(step)

    @property
    def _does_after_steps(self) -> bool:
        return bool(self._teachers) or type(self).after_step is not Method.after_step


class AboutPythonMethod(About):
    """What a method of Python says of itself, from its class and its object; one is made where none is given."""

    def __init__(self, recipe: Recipe, method: Method | None = None) -> None:
        super().__init__(recipe)
        self._method = method

    @property
    def wants_labels(self) -> bool:
        """As the class says."""
        return _CLASSES[self.recipe.method].wants_labels

    @property
    def method(self) -> Method:
        """The object."""
        if self._method is None:
            self._method = _CLASSES[self.recipe.method](self.recipe)
        return self._method

    def alarm(self, path: float) -> Alarm:
        """Its `Method.warnings`."""
        return _Warnings(self.method)

    def shown(self, report: Mapping[str, float]) -> Sequence[tuple[str, str]]:
        """Its `Method.shown`."""
        return [(piece, piece) if isinstance(piece, str) else piece for piece in self.method.shown(report)]

    def operations(self, jets: Jets, batch: int | None) -> Flops | None:
        """Its `Method.operations`."""
        found = self.method.operations(jets, batch)
        return Flops(student=found) if isinstance(found, (int, float)) else found


class _Warnings:
    """What a method warns of, each once."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._told: set[str] = set()
        self._latest: Mapping[str, float] = {}

    def step(self, report: Mapping[str, float]) -> list[str]:
        """What is new with a step."""
        self._latest = report
        found = self._method.warnings(report)
        found = [found] if isinstance(found, str) else found or ()
        texts = found if isinstance(found, Mapping) else {text: text for text in found}
        new = {name: text for name, text in texts.items() if name not in self._told}
        self._told |= set(new)
        return list(new.values())

    def rank(self, rank: float, width: int) -> list[str]:
        """What is new with an effective rank of the step's embeddings."""
        return self.step({**self._latest, "embedding_rank": rank})


def method_class(name: str) -> type[Method] | None:
    """The class of a method that is written in Python, None for others."""
    return _CLASSES.get(name)


def import_file(path: str | os.PathLike[str]) -> None:
    """Run a Python file, so that the methods that it defines are known.

    Raises
    ------
    RinoError
        If there is no such file, or it defines no method.
    """
    path = Path(path)
    if not path.is_file():
        raise RinoError(f"there is no file {path}: give the Python file of a method's class")
    known = dict(_CLASSES)
    name = f"pyrino_method_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RinoError(f"{path} is no Python file: give one that defines a subclass of pyrino.Method")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for dataclasses and pickle
    spec.loader.exec_module(module)
    if _CLASSES == known:
        raise RinoError(f"{path} defines no method: give a subclass of pyrino.Method a name")


def section_of(name: str) -> str:
    """The section of a method's numbers, an attribute of recipes."""
    return name.replace("-", "_")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own generators begin at a seed, and are afterwards where they were.

    Not by `torch.manual_seed`, which notes down a traceback for each kind of device that was never used.
    """
    generators = [torch.default_generator]
    if device.type != "cpu":
        gpus = torch.get_device_module(device)
        generators.append(gpus.default_generators[gpus.current_device() if device.index is None else device.index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _each(networks: Mapping[str, torch.nn.Module], what: str) -> list[tuple[str, torch.Tensor]]:
    """Tensors of networks as "network.layer.name"; one that several have is there once."""
    tensors: dict[int, tuple[str, torch.Tensor]] = {}
    for prefix, network in networks.items():
        for name, tensor in getattr(network, what)():
            tensors.setdefault(id(tensor), (f"{prefix}.{name}", tensor))
    return list(tensors.values())


def _numbers(cls: type[Method]) -> list[tuple[str, Any, str, str, str]]:
    """The fields of `Options` with unit, meaning and source."""
    if cls.Options is None:
        return []
    if not dataclasses.is_dataclass(cls.Options):
        raise RinoError(f"{cls.__name__}.Options is of type {type(cls.Options).__name__}: give a dataclass")
    numbers = []
    for field in dataclasses.fields(cls.Options):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if not isinstance(default, _TYPES):
            raise RinoError(
                f"{cls.__name__}.Options.{field.name} has no default that a recipe can hold: give a bool, int, float, "
                "str or list of str"
            )
        if isinstance(default, (list, tuple)):
            default = [str(item) for item in default]
        meta = field.metadata
        source = meta.get("source", _core.own_choice)
        numbers.append((field.name, default, meta.get("unit", ""), meta.get("meaning", ""), source))
    return numbers
