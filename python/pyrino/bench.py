"""How fast this machine is: the measuring behind `pyrino bench` and behind the programs in `benchmarks/`."""

from __future__ import annotations

import functools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyrino import _core
from pyrino._arguments import checked
from pyrino.errors import RinoError
from pyrino.flops import Flops, encoder_flops, head_flops
from pyrino.jets import Jets
from pyrino.methods import about
from pyrino.nn import Encoder, encoder_of
from pyrino.recipe import Recipe
from pyrino.training.trainer import Trainer
from pyrino.views import ViewGenerator, toy_jets

__all__ = [
    "Flops",
    "Timing",
    "available_cores",
    "bench",
    "describe_machine",
    "encoder_flops",
    "head_flops",
    "interleaved",
    "matrix_product",
    "multiplicities",
    "step_flops",
    "torch_threads",
    "views_difference",
]

#: Instruction sets that decide which kernels run.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")

#: Settings of the environment that change the speed of threads.
_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

#: Jets that the estimate of a pretraining is for.
MANY_JETS = 1_000_000

#: Views of one jet by two backends agree to this share of a subjet's energy.
VIEWS_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Timing:
    """One side of a comparison.

    Attributes
    ----------
    seconds : float
        Median over the repetitions.
    repetitions : int
        How many there were, the warm-up left out.
    spread : float
        Half the distance between the quartiles over the median; 0 for fewer than three repetitions.
    """

    seconds: float
    repetitions: int
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """The summary of single times."""
        middle = statistics.median(seconds)
        if len(seconds) < 3:
            return cls(middle, len(seconds), 0.0)
        lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(middle, len(seconds), (upper - lower) / 2 / middle)


def interleaved(
    sides: Mapping[str, Callable[[], Any]],
    repetitions: int = 9,
    budget: float = float("inf"),
    device: torch.device | str = "cpu",
) -> dict[str, Timing]:
    """Time several pieces of work by turns, so that whatever else the machine does hits all of them alike.

    Parameters
    ----------
    sides
        Work by name. Each is done once before the first measurement.
    repetitions
        How often each is measured.
    budget
        A side that has been measured for this many seconds in all is measured no more: `Timing.repetitions` tells.
    device
        Of the work; a GPU is waited for after each piece.

    Returns
    -------
    dict of str to Timing
        In the order of `sides`.
    """
    if repetitions < 1:
        raise RinoError(f"repetitions is {repetitions}: give 1 or more, 9 is usual")
    where = torch.device(device)
    wait: Callable[[], object] = lambda: None  # noqa: E731
    if where.type != "cpu":  # of this device, which need not be the current one
        wait = functools.partial(torch.get_device_module(where).synchronize, where)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()
    wait()
    for _ in range(repetitions):
        for name, work in sides.items():
            if sum(seconds[name]) < budget:
                begin = time.perf_counter()
                work()
                wait()
                seconds[name].append(time.perf_counter() - begin)
    return {name: Timing.of(values) for name, values in seconds.items()}


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch computes with so many threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Everything that a figure must be read with, ready for JSON: processor, cores, load, versions, date, command."""
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                model = value
            elif key in ("flags", "Features"):
                flags = set(value.split())
                break
    described = {
        "processor": model,
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": available_cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "pyrino": _core.__version__,
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    if torch.device(device).type != "cpu":
        described["gpu"] = torch.get_device_module(device).get_device_name(device)
    return described


def multiplicities(jets: Jets) -> dict[str, Any]:
    """How many constituents the jets have: mean, standard deviation and quantiles."""
    counts = jets.multiplicity
    quantiles = (0, 5, 50, 95, 100)
    return {
        "jets": len(jets),
        "mean": float(counts.mean()),
        "std": float(counts.std()),
        "quantiles": {f"{q}%": int(np.quantile(counts, q / 100, method="nearest")) for q in quantiles},
    }


def views_difference(one: Sequence[Jets], other: Sequence[Jets]) -> float:
    """The largest difference between two lists of views, over the subjet's energy; infinite for other lengths."""
    largest = 0.0
    for a, b in zip(one, other, strict=True):
        if not np.array_equal(a.offsets, b.offsets):
            return float("inf")
        if a.n_constituents:
            largest = max(largest, float(np.max(np.abs(a.p4 - b.p4) / b.e[:, None])))
    return largest


def matrix_product(
    size: int = 1024, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Callable[[], Any], float]:
    """A product of two square matrices as work for `interleaved`, and its floating-point operations, 2 size^3."""
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    return lambda: torch.mm(a, b), 2.0 * size**3


def step_flops(recipe: Recipe, jets: Jets, batch: int | None = None) -> Flops:
    """Floating-point operations of a pretraining step for one of these jets, as the recipe's method counts them.

    Parameters
    ----------
    batch
        Jets that are compared with each other, where the method does that; None: the recipe's batch.

    Raises
    ------
    RinoError
        For a method that does not say.
    """
    found = about(recipe).operations(jets, batch)
    if found is None:
        raise RinoError(f"the method {recipe.method!r} does not say how many operations a step has")
    return found


@checked
def bench(
    preset: Recipe | str = "nano", *, threads: Sequence[int] | None = None, jets: int = 2000, repetitions: int = 9
) -> dict[str, Any]:
    """What this machine's CPU does per second, on toy jets, in well under a minute for nano.

    Parameters
    ----------
    preset
        A recipe or a preset's name.
    threads
        Numbers of threads to measure with; None: 1 and the number of cores.
    jets
        Number of toy jets.
    repetitions
        Of every measurement; medians are reported.

    Returns
    -------
    dict
        ``machine``, ``jets`` (multiplicities), ``recipe``, ``batch_size``, ``rates``: one entry per number of threads
        with ``views`` and ``views_fastjet`` (jets/s of clustering alone, where the method clusters), ``step`` and
        ``embed`` (jets/s, everything from momenta on), ``step_gflops`` (where the method says how many operations a
        step has), ``matmul_gflops`` (float32) and ``pretraining_seconds`` (an estimate: one epoch of a million such
        jets); ``single_jet_us``, the time `JetEncoder.embed` takes for one jet, one thread.

    Raises
    ------
    RinoError
        If an argument is out of range, or the two clusterings do not agree.
    """
    recipe = Recipe.preset(preset) if isinstance(preset, str) else preset.replace(**{"training.weight": ""})
    counts = list(dict.fromkeys([1, available_cores()])) if threads is None else list(threads)
    if not counts or min(counts) < 1:
        raise RinoError(f"threads = {counts}: give numbers of threads, 1 or more")
    if jets < 2:
        raise RinoError(f"jets is {jets}: give 2 or more, 2000 is usual")
    sample = toy_jets(jets, seed=1)
    # Wide networks take their time; a batch of them fills the machine as well.
    batch = min(jets, recipe.training.batch_size, 256 if recipe.encoder.width <= 64 else 32)
    encoder = encoder_of(recipe, 1)
    machine = describe_machine()
    rates = [_rates(recipe, encoder, sample, batch, count, repetitions) for count in counts]
    with torch_threads(1):
        one = [sample[j] for j in range(min(jets, 200))]
        for jet in one[:20]:
            encoder.embed(jet)
        single = Timing.of([_seconds(functools.partial(encoder.embed, jet)) for jet in one])
    return {
        "machine": machine,
        "jets": multiplicities(sample),
        "recipe": recipe.name,
        "batch_size": batch,
        "rates": rates,
        "single_jet_us": 1e6 * single.seconds,
    }


def _rates(recipe: Recipe, encoder: Encoder, jets: Jets, batch: int, threads: int, repetitions: int) -> dict[str, Any]:
    method, few = about(recipe), jets[:batch]
    product, product_flops = matrix_product()
    sides: dict[str, Callable[[], Any]] = {
        "embed": lambda: encoder.embed(few, threads=threads),
        "matmul": product,
    }
    if method.resolutions:
        settings = {"radius": recipe.jets.radius, "algorithm": recipe.jets.algorithm, "threads": threads}
        ours = ViewGenerator(method.resolutions, **settings)
        fastjet = ViewGenerator(method.resolutions, **settings, backend="fastjet")
        difference = views_difference(ours(jets), fastjet(jets))
        if not difference <= VIEWS_TOLERANCE:
            raise RinoError(
                f"the views of {len(jets)} toy jets differ from FastJet's by {difference:g} of the energy: "
                "use backend='fastjet' and report this machine"
            )
        sides = {"views": lambda: ours(jets), "views_fastjet": lambda: fastjet(jets), **sides}
    # With one thread the views are made within the step: a loader would be a second thread.
    training = {"batch_size": batch, "epochs": repetitions + 1}
    trainer = Trainer(recipe.replace(**training, **({"loader_threads": 0} if threads == 1 else {})), few)
    with torch_threads(threads):
        times = interleaved(sides, repetitions)
        steps = [step["seconds"] for step in trainer][1:]
    step = Timing.of(steps)
    operations = method.operations(few, batch)
    flops = {} if operations is None else {"step_gflops": operations.total * len(few) / step.seconds / 1e9}
    return {
        "threads": threads,
        **{name: len(jets) / times[name].seconds for name in ("views", "views_fastjet") if name in times},
        "step": batch / step.seconds,
        **flops,
        "embed": batch / times["embed"].seconds,
        "matmul_gflops": product_flops / times["matmul"].seconds / 1e9,
        "pretraining_seconds": MANY_JETS * step.seconds / batch,
    }


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
