"""The device of device.cpp in Python: built where it is not yet, known to torch as "foreign"."""

from __future__ import annotations

import atexit
import hashlib
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import torch

NAME = "foreign"
_HERE = Path(__file__).resolve().parent
_SOURCE = _HERE / "device.cpp"
_BUILT = _HERE.parents[1] / "build" / "foreign"


def build() -> Path:
    """The shared library, compiled (in half a minute) where there is none of this source and this torch."""
    made_of = f"{_SOURCE.read_text()} {torch.__version__} {sys.version_info[:2]}"
    library = _BUILT / f"device-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if library.is_file():
        return library
    _BUILT.mkdir(parents=True, exist_ok=True)
    torch_folder = Path(torch.__file__).parent
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [
        os.environ.get("CXX", "g++"),
        *("-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        *("-isystem", str(torch_folder / "include"), str(_SOURCE), "-o", str(unfinished)),
        *(f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"the foreign device was not built: {' '.join(command)}\n{done.stderr}")
    unfinished.replace(library)
    return library


def load() -> None:
    """Make the device known to this process, before its first backward pass: autograd counts devices once."""
    if hasattr(torch, NAME):
        return
    module = types.ModuleType(f"torch.{NAME}")
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module.device_count = lambda: 2
    module.current_device = lambda: torch.ops.foreign.current_device()
    module.set_device = lambda device: torch.ops.foreign.set_device(torch.device(NAME, device).index)
    module.synchronize = lambda device=None: None
    module._is_in_bad_fork = lambda: False
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    module.manual_seed_all = lambda seed: None
    module.empty_cache = lambda: None
    module.get_device_name = lambda device=None: "a foreign device"
    torch.utils.rename_privateuse1_backend(NAME)
    torch.ops.load_library(str(build()))
    torch.ops.foreign.begin()
    module.default_generators = tuple(torch.ops.foreign.default_generator(index) for index in range(2))
    torch._register_device_module(NAME, module)
    torch.backends.mha.set_fastpath_enabled(False)  # which looks at CUDA's autocast and the CPU's alone
    # A thread of autograd may still be freeing a graph, which holds what is Python's: wanting the interpreter's lock
    # when there is no interpreter any more, it would abort.
    atexit.register(time.sleep, 0.05)


class Watched:
    """What the device did in a ``with`` block."""

    def __enter__(self) -> Watched:
        torch.ops.foreign.reset()
        return self

    def __exit__(self, *error: object) -> None:
        self.kernels = dict(torch.ops.foreign.kernels())
        self.waits = dict(torch.ops.foreign.waits())
        self.unseeded = torch.ops.foreign.unseeded()
        self.most_bytes = torch.ops.foreign.most_bytes()
