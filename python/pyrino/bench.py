"""How fast this machine is: the measuring behind `pyrino bench` and behind the programs in `benchmarks/`."""

from __future__ import annotations

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
from pyrino.jets import Jets
from pyrino.nn import JetEncoder, tokenize
from pyrino.pretrain import Trainer
from pyrino.recipe import Recipe
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
        Of the work; a CUDA device is waited for after each piece.

    Returns
    -------
    dict of str to Timing
        In the order of `sides`.
    """
    if repetitions < 1:
        raise RinoError(f"repetitions is {repetitions}: give 1 or more, 9 is usual")
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
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
    if torch.device(device).type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
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


def encoder_flops(recipe: Recipe, lengths: np.ndarray, features: int, *, jets_only: bool = True) -> float:
    """Floating-point operations of the encoder's matrix products, forward.

    With width d, hidden width f, F features, R registers and class tokens, n tokens and L = n + R rows in a sequence,
    and m = 2 products with the hidden layer (GELU) or 3 (SwiGLU), a multiplication and its addition counted as two:

    ================================  ================================
    embedding                         2 d F n, and 8 d where the class token is the jet's
    a block                           L (8 d^2 + 2 m d f) + 4 d L^2
    the last, where jets are wanted   4 d^2 (L + 1) + 2 m d f + 4 d L
    ================================  ================================

    In that one only the class token asks: keys and values of all rows, all else of one row. Padding, norms,
    activations, softmax, positions, pooling and biases are not counted.

    Parameters
    ----------
    recipe
        Its ``encoder`` section gives the sizes.
    lengths
        (S,) tokens n of every sequence.
    features
        F.
    jets_only
        Whether nothing but the class tokens' embeddings is wanted.
    """
    size = recipe.encoder
    d, f = size.width, size.feedforward
    hidden = 2 * (3 if size.feedforward_kind == "swiglu" else 2) * d * f
    n = np.asarray(lengths, dtype=np.float64)
    rows = n + _own_rows(recipe)
    short = jets_only and size.pooling == "token" and size.layers > 0
    flops = 2 * d * features * n + (8 * d if size.class_token == "jet" else 0)
    flops += (size.layers - short) * (rows * (8 * d**2 + hidden) + 4 * d * rows**2)
    if short:
        flops += 4 * d**2 * (rows + 1) + hidden + 4 * d * rows
    return float(flops.sum())


def _own_rows(recipe: Recipe) -> int:
    """Rows of a sequence that are no tokens: its class token, its registers."""
    return (recipe.encoder.class_token != "none") + recipe.encoder.registers


def head_flops(recipe: Recipe) -> float:
    """Floating-point operations of the projection head for one embedding, matrix products only."""
    head, d = recipe.head, recipe.encoder.width
    widths = [d, *[head.hidden_width or 4 * d] * head.hidden_layers, *([head.bottleneck] if head.bottleneck else [])]
    return 2.0 * sum(a * b for a, b in zip(widths, [*widths[1:], head.prototypes], strict=True))


@dataclass
class Flops:
    """Of a step, for one jet of the sample on average; rows are tokens, class tokens and registers."""

    student: float = 0
    teacher: float = 0
    heads: float = 0
    koleo: float = 0
    student_rows: float = 0
    teacher_rows: float = 0

    @property
    def total(self) -> float:
        return self.student + self.teacher + self.heads + self.koleo


def step_flops(recipe: Recipe, jets: Jets, batch: int | None = None) -> Flops:
    """Floating-point operations of a pretraining step for one of these jets.

    The backward pass has two products for each of the forward's, but for the embedding, whose input has no gradient.
    The teacher goes forward. Drawn views count with the share of steps in which they are seen. iBOT is a further pass
    of student and teacher over all constituents, in which the heads see the masked ones.

    Parameters
    ----------
    batch
        Jets among which KoLeo looks for neighbours; None: the recipe's.

    Raises
    ------
    RinoError
        For a recipe of another method than self-distillation.
    """
    recipe.require_method("self-distillation", "step_flops")
    found, loss, size = Flops(), recipe.loss, recipe.encoder
    d, jet_inputs = size.width, 4 if size.class_token == "jet" else 0
    both = 3  # the forward product and two of the backward pass
    teacher, student = list(recipe.views.teacher), list(recipe.views.student)
    drawn = recipe.views.student_drawn / len(student) if recipe.views.student_drawn else 1.0
    passes = [(teacher, 1.0, True, True), (student, drawn, False, True)] if loss.dino > 0 else []
    if loss.ibot > 0 or loss.gram > 0:
        passes.append((["all"], 1.0, True, False))
    for views, share, taught, jets_only in passes:
        tokens = tokenize(jets, views, recipe)
        lengths, features = np.diff(tokens.offsets), tokens.features.shape[1]
        forward = encoder_flops(recipe, lengths, features, jets_only=jets_only)
        inputs = 2 * d * (features * lengths.sum() + jet_inputs * len(lengths))
        rows = float((lengths + _own_rows(recipe)).sum())
        heads = len(lengths) if jets_only else float(masked_counts(lengths, loss.mask_fraction).sum())
        found.student += share * (both * forward - inputs)
        found.student_rows += share * rows
        found.heads += share * both * heads * head_flops(recipe)
        if taught:
            found.teacher += forward
            found.teacher_rows += rows
            found.heads += heads * head_flops(recipe)
    for name in vars(found):
        setattr(found, name, getattr(found, name) / len(jets))
    if loss.koleo > 0:
        found.koleo = 2.0 * (batch or recipe.training.batch_size) * d * len(teacher)
    return found


def masked_counts(lengths: np.ndarray, fraction: float) -> np.ndarray:
    """Constituents that iBOT masks: whole ones of a share, at least one and not all; none of a jet of one."""
    return np.where(lengths > 1, np.clip(np.floor(fraction * lengths), 1, np.maximum(lengths - 1, 1)), 0)


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
        with ``views`` and ``views_fastjet`` (jets/s of clustering alone), ``step`` and ``embed`` (jets/s, everything
        from momenta on), ``step_gflops``, ``matmul_gflops`` (float32) and ``pretraining_seconds`` (an estimate: one
        epoch of a million such jets); ``single_jet_us``, the time `JetEncoder.embed` takes for one jet, one thread.

    Raises
    ------
    RinoError
        If an argument is out of range, or the two clusterings do not agree.
    """
    recipe = Recipe.preset(preset) if isinstance(preset, str) else preset.copy()
    recipe.require_method("self-distillation", "pyrino bench")
    counts = list(dict.fromkeys([1, available_cores()])) if threads is None else list(threads)
    if not counts or min(counts) < 1:
        raise RinoError(f"threads = {counts}: give numbers of threads, 1 or more")
    if jets < 2:
        raise RinoError(f"jets is {jets}: give 2 or more, 2000 is usual")
    sample = toy_jets(jets, seed=1)
    # Wide networks take their time; a batch of them fills the machine as well.
    batch = min(jets, recipe.training.batch_size, 256 if recipe.encoder.width <= 64 else 32)
    encoder = JetEncoder(recipe, seed=1)
    machine = describe_machine()
    rates = [_rates(recipe, encoder, sample, batch, count, repetitions) for count in counts]
    with torch_threads(1):
        one = [sample[j] for j in range(min(jets, 200))]
        for jet in one[:20]:
            encoder.embed(jet)
        single = Timing.of([_seconds(lambda jet=jet: encoder.embed(jet)) for jet in one])
    return {
        "machine": machine,
        "jets": multiplicities(sample),
        "recipe": recipe.name,
        "batch_size": batch,
        "rates": rates,
        "single_jet_us": 1e6 * single.seconds,
    }


def _rates(
    recipe: Recipe, encoder: JetEncoder, jets: Jets, batch: int, threads: int, repetitions: int
) -> dict[str, Any]:
    points = [*recipe.views.teacher, *recipe.views.student]
    settings = {"radius": recipe.jets.radius, "algorithm": recipe.jets.algorithm, "threads": threads}
    ours = ViewGenerator(points, **settings)
    fastjet = ViewGenerator(points, **settings, backend="fastjet")
    difference = views_difference(ours(jets), fastjet(jets))
    if not difference <= VIEWS_TOLERANCE:
        raise RinoError(
            f"the views of {len(jets)} toy jets differ from FastJet's by {difference:g} of the energy: "
            "use backend='fastjet' and report this machine"
        )
    few = jets[:batch]
    product, product_flops = matrix_product()
    # With one thread the views are made within the step: a loader would be a second thread.
    training = {"batch_size": batch, "epochs": repetitions + 1}
    trainer = Trainer(recipe.replace(**training, **({"loader_threads": 0} if threads == 1 else {})), few)
    with torch_threads(threads):
        times = interleaved(
            {
                "views": lambda: ours(jets),
                "views_fastjet": lambda: fastjet(jets),
                "embed": lambda: encoder.embed(few, threads=threads),
                "matmul": product,
            },
            repetitions,
        )
        steps = [step["seconds"] for step in trainer][1:]
    step = Timing.of(steps)
    return {
        "threads": threads,
        "views": len(jets) / times["views"].seconds,
        "views_fastjet": len(jets) / times["views_fastjet"].seconds,
        "step": batch / step.seconds,
        "step_gflops": step_flops(recipe, few).total * len(few) / step.seconds / 1e9,
        "embed": batch / times["embed"].seconds,
        "matmul_gflops": product_flops / times["matmul"].seconds / 1e9,
        "pretraining_seconds": MANY_JETS * step.seconds / batch,
    }


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
