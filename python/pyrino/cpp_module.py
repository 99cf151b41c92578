"""C++ modules as PyTorch's: a tree of parameters in Python whose tensors a C++ module uses."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable
from typing import Any, cast

import torch

from pyrino.errors import RinoError
from pyrino.recipe import Recipe

__all__ = ["CppModule"]


class _Node(torch.nn.Module):
    """A place in the tree of names that mirrors the C++ module's: it holds parameters and is never called."""

    def forward(self, *_: Any) -> Any:
        raise RinoError("a part of a network cannot be called: it is computed in C++ as a whole: call the whole")


class _Side:
    """A C++ module and the tensors that it uses."""

    def __init__(self, core: Any, training: bool) -> None:
        core.train(training)
        self.core = core
        self.held: list[torch.Tensor] = []  # none yet


class _Binding:
    """What a shell has of the C++ side: a module there for either mode, and the way to the shell's own tensors.

    Two modules, since a mode belongs to a call: one thread may train with the encoder while another embeds. They share
    the tensors. It travels empty, and a copy of the shell makes its own, whether it was copied, pickled or sent
    attribute by attribute, as dask sends modules.
    """

    def __init__(self) -> None:
        self.sides: dict[bool, _Side] = {}  # by whether they train
        # Where all nodes hang, under which names, and they: apart, for functions that go through them in C.
        self.links: tuple[list[dict[str, Any]], list[str], list[torch.nn.Module]] | None = None
        self.slots: list[tuple[dict[str, Any], str]] = []  # where each tensor hangs
        self.lock = threading.RLock()  # of all of these: several threads may embed with one encoder

    def __reduce__(self) -> tuple[Any, ...]:
        return _Binding, ()


class CppModule(torch.nn.Module):
    """A `torch.nn.Module` whose tensors are used by a C++ module.

    The parameters are ordinary `torch.nn.Parameter`s of this tree. Before every forward pass the C++ module is
    pointed to the tensors that the tree holds at that moment, where they are not those of the pass before, so that
    optimisers, `load_state_dict`, `.to()`, `functional_call` and whatever else exchanges or changes them need no
    special treatment.
    """

    def __init__(self, recipe: Recipe, seed: int | None, core: Any = None) -> None:
        super().__init__()
        self.recipe = recipe.copy()
        self._binding = _Binding()
        if core is None:
            self._core.initialize(int(torch.randint(2**63 - 1, ())) if seed is None else seed)
        self._places: list[tuple[str, str, bool]] = []  # node, name and whether it is a buffer
        for name, tensor, buffer in (core or self._core).tensors():
            path, _, leaf = name.rpartition(".")
            node: torch.nn.Module = self
            parts = path.split(".") if path else []
            for part, below in itertools.zip_longest(parts, parts[1:], fillvalue=leaf):
                if part not in node._modules:
                    node.add_module(part, torch.nn.ModuleList() if below.isdigit() else _Node())
                node = cast(torch.nn.Module, node._modules[part])
            # a copy, so that tensors which live in a trainer's buffer stay there
            value = tensor.detach() if core is None else tensor.detach().clone()
            if buffer:
                node.register_buffer(leaf, value)
            else:
                node.register_parameter(leaf, torch.nn.Parameter(value))
            self._places.append((path, leaf, buffer))

    #: Makes the C++ module of the recipe.
    _make_core: Callable[[], Any]

    def _side(self, training: bool) -> _Side:
        binding = self._binding
        with binding.lock:
            if training not in binding.sides:
                binding.sides[training] = _Side(self._make_core(), training)
            return binding.sides[training]

    @property
    def _core(self) -> Any:
        """A C++ module, for what does not depend on mode and tensors."""
        return self._side(training=True).core

    def _bound(self, training: bool | None = None) -> _Side:
        """The C++ module in this module's mode or the one given, using the tensors that this tree holds now."""
        with self._binding.lock:
            side = self._side(self.training if training is None else training)
            tensors = self._tensors()
            if len(side.held) != len(tensors) or not all(map(operator.is_, tensors, side.held)):
                side.held = []  # should one be refused
                side.core.rebind(tensors)
                side.held = tensors
            return side

    def _own_core(self) -> Any:
        """Another C++ module, which uses the tensors that this tree holds now and is in training mode."""
        core = self._make_core()
        core.rebind(self._tensors())
        core.train(True)
        return core

    def _tensors(self) -> list[torch.Tensor]:
        """The tensors that the tree holds now, in the order of the C++ module's."""
        links = self._binding.links
        if links is None or not all(map(operator.is_, map(dict.get, links[0], links[1]), links[2])):
            self._walk()
        try:
            return [tensors[leaf] for tensors, leaf in self._binding.slots]
        except KeyError:  # not a parameter of its node but made of others (torch.nn.utils.parametrize)
            return [getattr(self.get_submodule(path), leaf) for path, leaf, _ in self._places]

    def _walk(self) -> None:
        """Remember where every node and tensor hangs, so that looking at all of them takes microseconds."""
        links: dict[int, tuple[dict[str, torch.nn.Module | None], str, torch.nn.Module]] = {}
        slots = []
        for path, leaf, buffer in self._places:
            node: torch.nn.Module = self
            for part in path.split(".") if path else []:
                child = cast(torch.nn.Module, node._modules[part])
                links[id(child)] = (node._modules, part, child)
                node = child
            slots.append((node._buffers if buffer else node._parameters, leaf))
        dicts, names, nodes = (list(column) for column in zip(*links.values(), strict=True)) if links else ([], [], [])
        self._binding.links = dicts, names, nodes
        self._binding.slots = slots

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return next(self.parameters()).dtype

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_binding": _Binding()}

    def extra_repr(self) -> str:
        return repr(self._core).split("(\n", 1)[0]
