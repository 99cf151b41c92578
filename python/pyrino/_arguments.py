"""What public functions are given, looked at before any work: what an argument cannot be is a `RinoError`."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import torch

from pyrino.errors import RinoError

__all__ = ["called", "checked", "device_named", "device_of", "require_bf16", "translated"]

#: The least that integers of these names can be: C++ has no other types for them.
_LEAST = {"batch_size": 1, "rows": 0, "seed": 0, "step": 0, "threads": 1}

#: pyrino's own types, and who makes such objects.
_OWN = {
    "Jets": "read_jets and Jets.from_awkward make them",
    "Encoder": "pyrino.load reads one",
    "JetEncoder": "JetEncoder.load reads one",
    "JetStream": "open_dataset opens one",
    "Recipe": "Recipe.preset makes one by name",
    "Source": "Source(path) is one",
    "Tagger": "Tagger.load reads one",
    "Tokens": "tokenize makes them",
}

Function = TypeVar("Function", bound=Callable[..., Any])


def checked(function: Function) -> Function:
    """The function, which looks at its arguments first and raises a `RinoError` for one that its annotation excludes.

    Integers, numbers, text, paths, lists, mappings, devices, tensors and pyrino's own types are told apart; switches,
    arrays and whatever else an annotation has room for are the function's own matter.
    """
    kinds = {
        name: kinds
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (kinds := _alternatives(parameter.annotation))
    }
    positional = list(inspect.signature(function).parameters)
    place = function.__qualname__.removesuffix(".__init__")
    tests = {name: tuple(kind.values()) for name, kind in kinds.items()}

    def look_at(name: str, value: Any) -> None:
        for test in tests[name]:
            if test(name, value):
                return
        least = f" >= {_LEAST[name]}" if name in _LEAST else ""
        wanted = " or ".join(kinds[name]).replace("a whole number", f"a whole number{least}")
        raise RinoError(f"{place}: {name} = {reprlib.repr(value)}: give {wanted}")

    @functools.wraps(function)
    def looked_at(*args: Any, **kwargs: Any) -> Any:
        for name, value in zip(positional, args, strict=False):
            if name in tests:
                look_at(name, value)
        for name, value in kwargs.items():
            if name in tests:
                look_at(name, value)
        return function(*args, **kwargs)

    return cast(Function, looked_at)


def device_of(device: Any) -> torch.device:
    """A device that there is.

    Raises
    ------
    RinoError
        For any other.
    """
    found = device_named(device)
    if found.type != "cuda":
        return found
    if not torch.cuda.is_available():
        known, remedy = _why_no_gpu()
        raise RinoError(f"device is {str(found)!r} but torch sees no CUDA device ({known}): {remedy}, or choose 'cpu'")
    if (found.index or 0) >= torch.cuda.device_count():
        raise RinoError(
            f"device is {str(found)!r} but torch sees {torch.cuda.device_count()} CUDA devices: cuda:0 is the first"
        )
    return found


def device_named(device: Any) -> torch.device:
    """A device of a name that torch knows, whether there is one or not.

    Raises
    ------
    RinoError
        For any other.
    """
    try:
        return torch.device(device)
    except (TypeError, RuntimeError):
        raise RinoError(f"there is no device {device!r}: choose cpu, cuda or cuda:1") from None


def require_bf16(device: torch.device) -> None:
    """See that a device computes in bfloat16; CPUs do what they can.

    Raises
    ------
    RinoError
        For a GPU before compute capability 8.0, for which neither units nor kernels are there.
    """
    if device.type == "cuda" and (capability := torch.cuda.get_device_capability(device)) < (8, 0):
        major, minor = capability
        raise RinoError(
            f"training.precision is 'bf16', but {torch.cuda.get_device_name(device)} has compute capability "
            f"{major}.{minor} and bfloat16 needs 8.0: choose training.precision = 'float32'"
        )


def _why_no_gpu() -> tuple[str, str]:
    """What there is of torch and driver where no GPU is seen, and what to do."""
    driver, built = _driver(), torch.version.cuda
    known = f"torch {torch.__version__} is built {f'for CUDA {built}' if built else 'without CUDA'}, " + (
        f"NVIDIA's driver is {driver}" if driver else "no driver of NVIDIA's was found"
    )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not built:
        return known, "install a torch with CUDA, https://pytorch.org/get-started/locally"
    if not driver:
        return known, "install the driver of the GPU"
    if hidden is not None:
        return f"{known}, CUDA_VISIBLE_DEVICES is {hidden!r}", "unset CUDA_VISIBLE_DEVICES"
    return known, f"install a driver that knows CUDA {built}, or a torch for an older CUDA"


def _driver() -> str:
    """The version of NVIDIA's driver, "" where there is none."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            version = re.search(r"\b\d+\.\d+(\.\d+)?\b", file.read())
            return version.group() if version else "of an unknown version"
    except OSError:
        pass
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)  # as in WSL, which has no such file
    cuda = int(ask()) if ask is not None else 0
    return f"for CUDA {cuda // 1000}.{cuda % 1000 // 10}" if cuda else ""


def called(function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Any:
    """What a function of C++ gives, which takes no other types than its own.

    Raises
    ------
    RinoError
        Where pybind11 has a TypeError.
    """
    try:
        return function(*arguments, **more)
    except TypeError as error:
        kinds = ", ".join(type(argument).__name__ for argument in (*arguments, *more.values()))
        raise RinoError(f"{function.__name__} got {kinds}: give tensors and numbers as its help says") from error


def translated(kind: type, *names: str) -> None:
    """Have methods of a class of C++ raise `RinoError` for arguments that they do not take."""
    for name in names:
        method = getattr(kind, name)

        @functools.wraps(method, assigned=("__doc__", "__name__"))
        def wrapped(*args: Any, _method: Any = method, **kwargs: Any) -> Any:
            return called(_method, *args, **kwargs)

        setattr(kind, name, staticmethod(wrapped) if isinstance(vars(kind)[name], staticmethod) else wrapped)


# --- annotations ---

Kind = Callable[[str, Any], bool]


def _alternatives(annotation: Any) -> dict[str, Kind]:
    """What an annotation allows, in words, and how it is told; empty where that is not known of all of it."""
    kinds: dict[str, Kind] = {}
    if not isinstance(annotation, str) or annotation == "bool":
        return kinds
    parts = re.split(r" \| (?![^\[]*\])", annotation)
    if {"os.PathLike[str]", "torch.device"} & set(parts):  # which may be said in text, too
        parts = [part for part in parts if part != "str"]
    for part in parts:
        base = part.partition("[")[0]
        if part == "Sequence[int]":
            kinds["a list of whole numbers"] = _integers
        elif base in _KINDS:
            word, kind = _KINDS[base]
            kinds[word] = kind
        elif base in _OWN:
            kinds[f"pyrino.{base} ({_OWN[base]})"] = functools.partial(_own, base)
        else:
            return {}
    return kinds


def _integer(name: str, value: Any) -> bool:
    try:
        number = operator.index(value)
    except TypeError:
        return False
    return _LEAST.get(name, -(2**63)) <= number < (2**31 if name == "threads" else 2**63)


def _integers(name: str, value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str) and all(_integer(name, part) for part in value)


def _number(_: str, value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return not isinstance(value, (str, bytes))


def _own(base: str, _: str, value: Any) -> bool:
    """By the names of its classes: the classes themselves are made in modules that import this one."""
    kinds = type(value).__mro__
    return any(kind.__name__ == base and kind.__module__.partition(".")[0] == "pyrino" for kind in kinds)


def _device(_: str, value: Any) -> bool:
    return device_of(value) is not None


def _of(*types: type) -> Kind:
    return lambda _, value: isinstance(value, types)


_PATH = ("a path (str or pathlib.Path)", _of(str, os.PathLike))

_KINDS: dict[str, tuple[str, Kind]] = {
    "int": ("a whole number", _integer),
    "float": ("a number", _number),
    "str": ("text", _of(str)),
    "os.PathLike": _PATH,
    "PathLike": _PATH,
    "None": ("None", _of(type(None))),
    "Sequence": ("a list", _of(Iterable)),
    "Iterable": ("a list", _of(Iterable)),
    "Mapping": ("a mapping", _of(Mapping)),
    "dict": ("a dict", _of(Mapping)),
    "Callable": ("a function", lambda _, value: callable(value)),
    "torch.Tensor": ("a torch.Tensor", _of(torch.Tensor)),
    "torch.device": ("a device ('cpu', 'cuda')", _device),
}
