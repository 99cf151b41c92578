"""What pretraining on 100 million and a billion jets costs on 1, 8 and 64 GPUs: the tables of docs/scaling.md.

Three kinds of numbers, kept apart. Counted: a training step of every recipe is run here under torch's own instruments,
which see each operator, its matrix products, the memory it moves and what is kept for the backward pass. Measured: what
a CPU does. Assumed: everything about GPUs and networks; each assumption is an option. The first two are kept in
results/scaling.json, so that the tables are the same on every machine.

  python benchmarks/scaling.py                    # print the tables
  python benchmarks/scaling.py --gpu H200=989,67,4.8,141,450
  python benchmarks/step.py --device cuda --sizes base                # where there is a GPU, then
  python benchmarks/scaling.py --jets-per-second base=9000            # its rate instead of the estimate
  python benchmarks/scaling.py --measure          # count and measure anew, a minute on one core
  python benchmarks/scaling.py --write            # put the tables into docs/scaling.md; --check compares
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pyrino as rino
from pyrino.bench import describe_machine, multiplicities, step_flops, torch_threads
from pyrino.files import whole_file

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "scaling.md"

RECIPES = ("nano", "lite", "mini", "base", "rino")

#: Jets whose tokens are counted.
SAMPLE = 2000

#: GPUs of the tables.
COUNTS = (1, 8, 64)

#: The authors' base: 10 million jets, 100 epochs, 4 A100, 2 to 7 days; 150 GB in memory for stored views.
AUTHORS = {"jets": 10e6, "epochs": 100, "gpus": 4, "days": (2.0, 7.0), "bytes": 150e9}


# --- counted: operators and memory, by running a step ---


class Operators(TorchDispatchMode):
    """Counts what reaches a device: operators that make or change tensors, and the bytes they read and write.

    Under it the encoders run module by module, as they do on a GPU, and not by the fused kernels of the CPU.
    """

    #: Matrix products of layers.
    PRODUCTS = ("mm", "addmm")
    #: Of attention. Their memory is not counted: FlashAttention keeps its weights out of it.
    ATTENTION = ("bmm", "baddbmm", "_softmax", "_scaled_dot_product")

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.moved = 0  # but by products
        self.moved_by_products = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        inputs = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        outputs = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        name = operator._schema.name.removeprefix("aten::")
        held = {x.untyped_storage().data_ptr() for x in inputs}
        fresh = any(x.untyped_storage().data_ptr() not in held for x in outputs)
        if fresh or name.endswith("_"):  # else it is a view
            self.calls += 1
            size = sum(x.numel() * x.element_size() for x in inputs + outputs)
            if name in self.PRODUCTS:
                self.moved_by_products += size
            elif not name.startswith(self.ATTENTION):
                self.moved += size
        return result


def count_operators(recipe: rino.Recipe, jets: rino.Jets) -> np.ndarray:
    """Of a step on these jets: operators; bytes that products move, and all others; bytes kept for backward."""
    trainer = rino.Trainer(recipe.replace(batch_size=len(jets), loader_threads=0), jets)
    if trainer._core.precision != recipe.training.precision:
        raise rino.RinoError(
            "bfloat16, as a GPU computes, is computed on Intel's processors with AMX and AMD's with AVX512-BF16 alone: "
            "count on one of those"
        )
    trainer.step()  # what is made once is made
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with Operators() as found, saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.step()
    return np.array([found.calls, found.moved_by_products, found.moved, sum(size for size, _ in kept.values())])


def count(name: str, sample: rino.Jets) -> dict[str, float]:
    """Everything that is counted of a recipe."""
    preset = rino.Recipe.preset(name)
    flops = step_flops(preset, sample)
    recipe = preset.replace(precision="bf16")
    if recipe.views.student_drawn:  # always the same ones
        recipe = recipe.replace(**{"views.student": [2, 3, "all"], "views.student_drawn": 0})
    # What a step moves and keeps, and what each jet adds, are told apart by a batch and the same jets twice.
    few = sample[:16]
    double = rino.Jets(np.tile(few.p4, (2, 1)), np.concatenate([few.offsets, few.offsets[1:] + few.offsets[-1]]))
    once, both = count_operators(recipe, few), count_operators(recipe, double)
    jets = flops.total / step_flops(recipe, few, batch=len(few)).total / len(few)
    # Jets of two constituents have views of one length: attention is one kernel, as it is on a GPU for any lengths.
    pair = np.array([[500.0, 0, 0, 500.0], [100.0, 10, 1, 101.0]])
    calls = count_operators(recipe, rino.Jets(np.tile(pair, (8, 1)), np.arange(0, 17, 2)))[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.safetensors"
        rino.Trainer(recipe.replace(batch_size=2), few).save(file)
        checkpoint = file.stat().st_size
    encoder, head = (
        sum(p.numel() for p in module(recipe, seed=1).parameters()) for module in (rino.JetEncoder, rino.ProjectionHead)
    )
    tokens = rino.tokenize(sample, [*preset.views.teacher, *preset.views.student], preset)
    return {key: float(value) for key, value in vars(flops).items()} | {
        "flops": float(flops.total),
        "encoder": encoder,
        "parameters": encoder + head * (int(recipe.loss.dino > 0) + int(recipe.loss.ibot > 0)),
        "batch": recipe.training.batch_size,
        "gathered": 4 * len(recipe.views.teacher) * recipe.encoder.width if recipe.loss.koleo > 0 else 0,
        "products_moved": float((both - once)[1] * jets),
        "moved": float((both - once)[2] * jets),
        "kept": float((both - once)[3] * jets),
        "step_moved": int((2 * once - both)[2]),
        "operators": int(calls),
        "checkpoint": checkpoint,
        "stored": 16.0 * int(tokens.offsets[-1]) / len(sample),
    }


# --- measured: on a CPU ---


def cpu_seconds(work: Callable[[], Any], repetitions: int) -> float:
    """Median of the CPU time, after one warm-up: what other processes take does not count."""
    work()
    times = []
    for _ in range(repetitions):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def measure(name: str, sample: rino.Jets) -> dict[str, float]:
    """Jets/s of one core: steps in both precisions, views with features."""
    recipe = rino.Recipe.preset(name)
    batch = 64 if recipe.encoder.width <= 64 else 16
    measured = {}
    with torch_threads(1):
        for precision in ("float32", "bf16"):
            few = recipe.replace(batch_size=batch, loader_threads=0, precision=precision, epochs=100)
            trainer = rino.Trainer(few, sample[:batch])
            measured[precision] = batch / cpu_seconds(trainer.step, 5)
    # As many as are drawn for a step, those with most subjets, and the particles of iBOT.
    own = list(recipe.views.student)[-(recipe.views.student_drawn or len(recipe.views.student)) :]
    views = [*recipe.views.teacher, *own, *(["all"] if recipe.loss.ibot > 0 else [])]
    measured["views"] = len(sample) / cpu_seconds(lambda: rino.tokenize(sample, views, recipe), 7)
    return measured


#: What one of two Gloo processes does: all-reduces flat buffers of the recipes' sizes, and steps under a profiler that
#: sees every collective call.
_CHILD = """
import datetime, json, statistics, sys, time
import torch, torch.distributed as dist
import pyrino as rino
torch.set_num_threads(1)
meet = {"init_method": "file://" + sys.argv[2], "timeout": datetime.timedelta(minutes=1)}
dist.init_process_group("gloo", rank=int(sys.argv[1]), world_size=2, **meet)
found = {"seconds": {}, "calls": {}}
for name, size in json.loads(sys.argv[3]).items():
    buffer, times = torch.zeros(size), []
    for _ in range(8):
        dist.barrier()
        begin = time.perf_counter()
        dist.all_reduce(buffer)
        times.append(time.perf_counter() - begin)
    found["seconds"][name] = statistics.median(times[1:])
jets = rino.toy_jets(8, seed=1)
small = {"encoder.width": 16, "encoder.heads": 2, "encoder.layers": 1, "encoder.feedforward": 16, "head.prototypes": 4}
for name in found["seconds"]:
    recipe = rino.Recipe.preset(name).replace(batch_size=8, loader_threads=0, precision="float32", **small)
    trainer = rino.Trainer(recipe, jets, group=dist.group.WORLD)
    trainer.step()
    with torch.profiler.profile() as profile:
        trainer.step()
    found["calls"][name] = sum(e.count for e in profile.key_averages() if e.key.startswith("gloo:"))
if dist.get_rank() == 0:
    print(json.dumps(found))
dist.destroy_process_group()
"""


def measure_gloo(sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Of two processes on this machine: seconds of an all-reduce of so many float32, and collective calls of a step."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"{folder}/meet", json.dumps(sizes)]
        run = [sys.executable, "-c", _CHILD]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*run, "1", *arguments], env=environment, **silent) as other:
            first = subprocess.run([*run, "0", *arguments], check=True, capture_output=True, text=True, env=environment)
        if other.returncode != 0:
            sys.exit(f"the second Gloo process ended with status {other.returncode}")
    return json.loads(first.stdout.splitlines()[-1])


def gather(names: Sequence[str]) -> dict[str, Any]:
    """Count and measure: the content of results/scaling.json."""
    sample = rino.toy_jets(SAMPLE, seed=1)
    document: dict[str, Any] = {"machine": describe_machine(), "multiplicities": multiplicities(sample)}
    with torch_threads(1):
        document["counted"] = {name: count(name, sample) for name in names}
    document["measured"] = {name: measure(name, sample) for name in names}
    document["gloo"] = measure_gloo({name: document["counted"][name]["parameters"] for name in names})
    return document


# --- assumed: GPUs and networks ---


@dataclass(frozen=True)
class Gpu:
    """Of a data sheet: FLOP/s in bf16 (dense) and float32, bytes/s of memory, bytes of memory, bytes/s to the node's
    other GPUs.
    """

    name: str
    peak: float
    float32: float
    bandwidth: float
    memory: float
    link: float

    @classmethod
    def parse(cls, text: str) -> Gpu:
        name, _, numbers = text.partition("=")
        try:
            peak, float32, bandwidth, memory, link = (float(number) for number in numbers.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no GPU: give NAME=TFLOP/s,TFLOP/s,TB/s,GB,GB/s as in H100=989,67,3.35,80,450"
            ) from None
        return cls(name, 1e12 * peak, 1e12 * float32, 1e12 * bandwidth, 1e9 * memory, 1e9 * link)


#: NVIDIA's data sheets, SXM versions with 80 GB: dense bf16, float32 without TF32, memory, NVLink in one direction.
GPUS = ("A100=312,19.5,2.04,80,300", "H100=989,67,3.35,80,450")

DAY, YEAR = 86_400.0, 31_557_600.0

#: Ends of an estimate: the slow and the fast one.
ENDS = (0, 1)


@dataclass(frozen=True)
class Costs:
    """The estimate of a step, from what was counted and what is assumed."""

    counted: Mapping[str, Mapping[str, float]]
    calls: Mapping[str, float]  # collective calls of a step
    options: argparse.Namespace

    def jet_seconds(self, name: str, gpu: Gpu, end: int) -> float:
        """Of a GPU that has enough to do. Kernels run one after the other: those of products are bound by arithmetic
        (encoders in bf16, heads and KoLeo in float32), or by memory if the network is narrow; all others by memory.
        """
        if name in self.options.jets_per_second:
            return 1 / self.options.jets_per_second[name]
        work = self.counted[name]
        if self.options.utilisation is not None:
            return work["flops"] / (self.options.utilisation[end] * gpu.peak)
        memory = self.options.bandwidth * gpu.bandwidth
        arithmetic = (work["student"] + work["teacher"]) / gpu.peak + (work["heads"] + work["koleo"]) / gpu.float32
        products = max(arithmetic / self.options.products[end], work["products_moved"] / memory)
        return products + self.options.traffic[end] * work["moved"] / memory

    def launch_seconds(self, name: str, end: int) -> float:
        """What the host needs to start all operators of a step, whatever the batch."""
        return 1e-6 * self.options.launch[end] * self.counted[name]["operators"]

    def ring_seconds(self, size: float, gpu: Gpu, gpus: int) -> float:
        """One round of `size` bytes in a ring that enters and leaves every node once; its slowest link counts."""
        nodes, inside = math.ceil(gpus / self.options.node), min(gpus, self.options.node)
        seconds = (inside - 1) / inside * size / (self.options.network * gpu.link)
        if nodes > 1:
            out = 1e9 / 8 * self.options.infiniband
            seconds = max(seconds, (nodes - 1) / nodes * size / (self.options.network * out))
        return seconds

    def reduce_seconds(self, name: str, gpu: Gpu, gpus: int) -> float:
        """The all-reduce of the gradients, two rounds."""
        return 2 * self.ring_seconds(4 * self.counted[name]["parameters"], gpu, gpus)

    def koleo_seconds(self, name: str, gpu: Gpu, gpus: int, own: int) -> float:
        """The teacher views' embeddings: gathered in one round, their gradients all-reduced in two."""
        return 3 * self.ring_seconds(gpus * own * self.counted[name]["gathered"], gpu, gpus)

    def wait_seconds(self, name: str, gpus: int) -> float:
        """Latency of the collective calls."""
        return 0.0 if gpus == 1 else 1e-6 * self.options.latency * self.calls[name]

    def parts(self, name: str, gpu: Gpu, own: int) -> int:
        """`training.accumulate` that lets a GPU's share of the batch fit into its memory."""
        room = self.options.fill * gpu.memory - self.fixed_bytes(name)
        return max(1, math.ceil(own * self.counted[name]["kept"] / room))

    def fixed_bytes(self, name: str) -> float:
        """Weights, gradients, AdamW's two moments, teacher, moving average."""
        return 6 * 4 * self.counted[name]["parameters"]

    def step_seconds(self, name: str, gpu: Gpu, gpus: int, own: int, end: int) -> float:
        """Of a step in which each GPU takes `own` jets."""
        parts = self.parts(name, gpu, own)
        busy = own * self.jet_seconds(name, gpu, end)
        if name not in self.options.jets_per_second:
            busy += max(0, self.counted[name]["step_moved"]) / (self.options.bandwidth * gpu.bandwidth)
        launched = max(busy, parts * self.launch_seconds(name, end))
        talked = self.reduce_seconds(name, gpu, gpus) + self.koleo_seconds(name, gpu, gpus, own)
        return launched + talked + parts * self.wait_seconds(name, gpus)

    def rate(self, name: str, gpu: Gpu, gpus: int, own: int, end: int) -> float:
        """Jets/s of all GPUs together."""
        return gpus * own / self.step_seconds(name, gpu, gpus, own, end)

    def rates(self, name: str, gpu: Gpu, gpus: int, own: int) -> tuple[float, float]:
        """The same at both ends."""
        slow, fast = (self.rate(name, gpu, gpus, own, end) for end in ENDS)
        return slow, fast


def own_share(batch: int, gpus: int) -> int:
    """Jets of each GPU where `batch` jets are shared evenly, rounded up."""
    return math.ceil(batch / gpus)


# --- the tables ---


def number(value: float) -> str:
    """Two digits; estimates deserve no more."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(abs(rounded))))}f}"


def span(slow: float, fast: float) -> str:
    """A range, from its smaller end; one number where both are the same."""
    low, high = number(min(slow, fast)), number(max(slow, fast))
    return low if low == high else f"{low} - {high}"


def duration(*seconds: float) -> str:
    """A range of times in one unit."""
    units = ((2 * DAY, DAY, "d"), (3600, 3600, "h"), (60, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"), (0, 1e-6, "us"))
    size, unit = next((size, unit) for least, size, unit in units if min(seconds) >= least)
    return f"{span(seconds[0] / size, seconds[-1] / size)} {unit}"


def size_of(value: float) -> str:
    """Bytes."""
    unit, name = next((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")) if value >= u)
    return f"{number(value / unit)} {name}"


def percents(shares: Sequence[float]) -> str:
    """Shares, one after the other."""
    return " - ".join(f"{100 * share:g}%" for share in shares)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A table; numbers to the right of its first column."""
    lines = [head, ["---", *["---:" if numbers else "---"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(document: Mapping[str, Any], options: argparse.Namespace) -> dict[str, str]:
    """All tables by name."""
    costs = Costs(document["counted"], document["gloo"]["calls"], options)
    return {
        "work": work_table(costs),
        "assumptions": assumptions_table(costs),
        "rates": rates_table(costs),
        "authors": authors_table(costs),
        "pass": pass_table(costs),
        "runs": runs_table(costs),
        "batch": batch_table(costs),
        "cpu": cpu_table(document, costs),
        "memory": memory_table(costs),
        "network": network_table(document, costs),
        "disk": disk_table(costs),
    }


def work_table(costs: Costs) -> str:
    head = ["recipe", "parameters", "rows: student / teacher", "GFLOP", "student / teacher / heads"]
    head += ["MB kept", "MB moved", "operators a step"]
    rows = []
    for name, work in costs.counted.items():
        shares = (f"{100 * work[part] / work['flops']:.0f}%" for part in ("student", "teacher", "heads"))
        row = [f"`{name}`", f"{work['parameters']:,}", f"{work['student_rows']:.0f} / {work['teacher_rows']:.0f}"]
        row += [number(work["flops"] / 1e9), " / ".join(shares), number(work["kept"] / 1e6)]
        rows.append([*row, number(work["moved"] / 1e6), f"{work['operators']:,}"])
    return markdown(head, rows)


def cpu_table(document: Mapping[str, Any], costs: Costs) -> str:
    head = ["recipe", "step, float32: jets/s (GFLOP/s)", "bf16", "core years for 10^9 jets", "views: jets/s"]
    rows = []
    for name, rates in document["measured"].items():
        flops = costs.counted[name]["flops"]
        steps = (f"{number(rates[p])} ({number(rates[p] * flops / 1e9)})" for p in ("float32", "bf16"))
        row = [f"`{name}`", *steps, number(1e9 / rates["bf16"] / YEAR), number(rates["views"])]
        seconds = ([costs.jet_seconds(name, gpu, end) for end in ENDS] for gpu in costs.options.gpu)
        rows.append([*row, *(span(*(1 / s / rates["views"] for s in ends)) for ends in seconds)])
    return markdown([*head, *(f"cores for one {gpu.name}" for gpu in costs.options.gpu)], rows)


def assumptions_table(costs: Costs) -> str:
    o = costs.options
    rows = []
    for gpu in o.gpu:
        sheet = f"{gpu.peak / 1e12:g} and {gpu.float32 / 1e12:g} TFLOP/s, {gpu.bandwidth / 1e12:g} TB/s, "
        sheet += f"{gpu.memory / 1e9:g} GB, {gpu.link / 1e9:g} GB/s"
        rows.append([f"{gpu.name}: bf16, float32, memory, NVLink one way", sheet, "`--gpu`", "data sheet, SXM"])
    if o.utilisation is not None:
        rows.append(["a step runs at, of the peak", percents(o.utilisation), "`--utilisation`", "given"])
    else:
        why = "matrices 256 wide: their own traffic allows two thirds on an H100"
        rows.append(["matrix products run at, of the peak", percents(o.products), "`--products`", why])
        why = "all; or half, since RMSNorm is one kernel on CUDA and caches help"
        rows.append(["of the bytes counted, memory sees", percents(o.traffic), "`--traffic`", why])
        rows.append(["at, of its bandwidth", percents([o.bandwidth]), "`--bandwidth`", "usual for simple kernels"])
    times = " - ".join(f"{t:g}" for t in o.launch)
    rows.append(["the host starts an operator in", f"{times} us", "`--launch`", "PyTorch from C++, no CUDA graphs"])
    node = f"{o.node} GPUs, {o.infiniband:g} Gb/s"
    rows.append(["a node and its way out", node, "`--node`, `--infiniband`", "one HDR port; many nodes have more"])
    rows.append(["links run at, of their rate", percents([o.network]), "`--network`", "usual for NCCL's rings"])
    rows.append(["a collective call waits", f"{o.latency:g} us", "`--latency`", "NCCL, small tensors"])
    rows.append(["of the GPU's memory is used", percents([o.fill]), "`--fill`", "fragments, workspaces"])
    for name, rate in o.jets_per_second.items():
        rows.append([f"`{name}` on one GPU", f"{rate:,g} jets/s", "`--jets-per-second`", "measured"])
    return markdown(["assumption", "value, slow - fast end", "option", "why"], rows, numbers=False)


def rates_table(costs: Costs) -> str:
    rows = []
    for name, work in costs.counted.items():
        cells = []
        for gpu in costs.options.gpu:
            seconds = [costs.jet_seconds(name, gpu, end) for end in ENDS]
            jets = [costs.launch_seconds(name, end) / s for end, s in zip(ENDS, seconds, strict=True)]
            share = span(*(100 * work["flops"] / s / gpu.peak for s in seconds))
            cells += [span(*(1 / s for s in seconds)), f"{share}%", span(*jets)]
        rows.append([f"`{name}`", *cells])
    each = ("jets/s", "of the peak", "jets a step to be busy")
    return markdown(["recipe", *(f"{gpu.name}: {what}" for gpu in costs.options.gpu for what in each)], rows)


def authors_table(costs: Costs) -> str:
    gpu, seen, flops = costs.options.gpu[0], AUTHORS["jets"] * AUTHORS["epochs"], costs.counted["base"]["flops"]
    theirs = [seen / (days * DAY) / AUTHORS["gpus"] for days in AUTHORS["days"]]
    ours = [1 / costs.jet_seconds("base", gpu, end) for end in ENDS]
    rows = []
    for what, rates in (
        ("the authors report, A100", theirs),
        (f"{'measured' if 'base' in costs.options.jets_per_second else 'our estimate'}, {gpu.name}", ours),
    ):
        share = span(*(100 * rate * flops / gpu.peak for rate in rates))
        times = duration(*(seen / AUTHORS["gpus"] / rate for rate in rates))
        rows.append([what, span(*rates), f"{share}%", times])
    return markdown(["`base`, 10^9 jets seen on 4 GPUs", "jets/s of a GPU", "of the peak", "time"], rows)


def share_of(work: Mapping[str, float], gpus: int) -> int:
    """Jets a GPU takes in the tables: the recipe's batch on one; 375, an eighth of 3000, on several."""
    return int(work["batch"]) if gpus == 1 else 375


def pass_table(costs: Costs) -> str:
    rows = []
    for name, work in costs.counted.items():
        cells = (
            duration(*(1e8 / rate for rate in costs.rates(name, gpu, gpus, share_of(work, gpus))))
            for gpu in costs.options.gpu
            for gpus in COUNTS
        )
        rows.append([f"`{name}`", *cells])
    return markdown(["recipe", *(f"{n} {gpu.name}" for gpu in costs.options.gpu for n in COUNTS)], rows)


def runs_table(costs: Costs) -> str:
    gpu, work = costs.options.gpu[-1], costs.counted["rino"]
    rows = []
    for jets, epochs in ((1e7, 100), (1e8, 1), (1e8, 10), (1e8, 100), (1e9, 1), (1e9, 100)):
        seen = jets * epochs
        times = [[seen / rate for rate in costs.rates("rino", gpu, gpus, share_of(work, gpus))] for gpus in COUNTS]
        row = [
            f"10^{math.log10(jets):.0f} x {epochs}",
            f"10^{math.log10(seen):.0f}",
            number(seen * work["flops"] / 1e18),
        ]
        rows.append([*row, *(duration(*t) for t in times), span(*(COUNTS[-1] * t / 3600 for t in times[-1]))])
    head = ["jets x epochs", "jets seen", "EFLOP", *(f"{n} {gpu.name}" for n in COUNTS)]
    return markdown([*head, f"GPU hours, of {COUNTS[-1]}"], rows)


def batch_table(costs: Costs) -> str:
    gpu, work, recipe = costs.options.gpu[-1], costs.counted["rino"], rino.Recipe.preset("rino")
    alone = costs.rates("rino", gpu, 1, share_of(work, 1))
    rows = []
    for gpus, batch in ((1, 3000), (8, 3000), (64, 3008), (64, 6016), (64, 12032), (64, 24000)):
        own, kappa = own_share(batch, gpus), batch / recipe.training.batch_size
        rates = costs.rates("rino", gpu, gpus, own)
        efficiency = span(*(100 * rate / gpus / one for rate, one in zip(rates, alone, strict=True)))
        momenta = (f"{m**kappa:.3f}" for m in (recipe.loss.momentum_start, recipe.loss.momentum_end))
        row = [str(gpus), f"{batch:,}", str(own), str(costs.parts("rino", gpu, own))]
        row += [duration(*(costs.step_seconds("rino", gpu, gpus, own, end) for end in ENDS)), span(*rates)]
        rows.append([*row, f"{efficiency}%", f"{recipe.optimizer.lr * math.sqrt(kappa):.1e}", ", ".join(momenta)])
    head = [f"`rino`: {gpu.name}s", "`batch_size`", "jets a GPU", "`accumulate`", "step", "jets/s", "efficiency"]
    return markdown([*head, "`lr`, by the root", "teacher's momenta"], rows)


def memory_table(costs: Costs) -> str:
    gpu = costs.options.gpu[-1]
    rows = []
    for name, work in costs.counted.items():
        row = [f"`{name}`", size_of(costs.fixed_bytes(name)), size_of(work["kept"])]
        row += [f"{jets:,}: {size_of(jets * work['kept'])}" for jets in (share_of(work, 8), share_of(work, 1))]
        rows.append([*row, str(costs.parts(name, gpu, int(work["batch"]))), size_of(work["checkpoint"])])
    head = ["recipe", "weights, moments, teacher", "kept of a jet", "of a share", "of the recipe's batch"]
    return markdown([*head, f"`accumulate` of the latter, {gpu.memory / 1e9:g} GB", "checkpoint"], rows)


def network_table(document: Mapping[str, Any], costs: Costs) -> str:
    gpu = costs.options.gpu[-1]
    rows = []
    for name, work in costs.counted.items():
        cells = []
        for gpus in COUNTS[1:]:
            own = share_of(work, gpus)
            reduce, koleo = costs.reduce_seconds(name, gpu, gpus), costs.koleo_seconds(name, gpu, gpus, own)
            steps = (costs.step_seconds(name, gpu, gpus, own, end) for end in ENDS)
            cells += [
                f"{duration(reduce)} + {duration(koleo)}",
                f"{span(*(100 * (reduce + koleo) / s for s in steps))}%",
            ]
        row = [f"`{name}`", size_of(4 * work["parameters"]), size_of(gpus * own * work["gathered"]), *cells]
        rows.append([*row, str(costs.calls[name]), duration(document["gloo"]["seconds"][name])])
    head = [what for n in COUNTS[1:] for what in (f"{n} {gpu.name}", "of the step")]
    head += ["collective calls", "gradients, 2 Gloo processes here"]
    return markdown(["recipe", "gradients", f"embeddings, {COUNTS[-1]}", *head], rows)


def disk_table(costs: Costs) -> str:
    document = json.loads((RESULTS / "loading.json").read_text(encoding="utf-8"))
    rates = {row["name"]: row["jets_per_second"] for row in document["rows"]}
    sizes = {figure["name"]: figure["value"] for figure in document["figures"]}
    gpu = costs.options.gpu[-1]
    needed = max(costs.rates("rino", gpu, COUNTS[-1], 375))
    kinds = [
        (kind, sizes[f"loading, {kind}: bytes a jet"], number(rates[f"{kind}: batches, 1 reader"]))
        for kind in ("packed", "root zlib", "parquet zstd")
    ]
    kinds.append(("`base`'s nine views, unpadded", costs.counted["base"]["stored"], ""))
    kinds.append(("the authors' views in memory", AUTHORS["bytes"] / AUTHORS["jets"], ""))
    rows = [
        [kind, *(size_of(jets * size) for jets in (1, 1e8, 1e9)), rate, f"{size_of(needed * size)}/s"]
        for kind, size, rate in kinds
    ]
    head = ["", "a jet", "10^8 jets", "10^9 jets", "jets/s of one reader"]
    return markdown([*head, f"`rino`, {COUNTS[-1]} {gpu.name} read at most"], rows)


# --- the page ---

_BLOCK = re.compile(r"(<!-- scaling\.py: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str, made: Mapping[str, str]) -> str:
    """The page with its tables replaced.

    Raises
    ------
    rino.RinoError
        If the page has a table that is not made, or one is missing.
    """
    names = [match["name"] for match in _BLOCK.finditer(page)]
    if sorted(names) != sorted(made):
        raise rino.RinoError(
            f"the page has the tables {sorted(names)}, made are {sorted(made)}: put in what is missing"
        )
    return _BLOCK.sub(lambda match: f"{match[1]}{made[match['name']]}\n{match[3]}", page)


def measured_rate(text: str) -> tuple[str, float]:
    """RECIPE=JETS/S."""
    name, _, rate = text.partition("=")
    try:
        if name in RECIPES and float(rate) > 0:
            return name, float(rate)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give RECIPE=JETS, a recipe of {', '.join(RECIPES)} and jets/s")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpus = {
        "type": Gpu.parse,
        "default": [Gpu.parse(text) for text in GPUS],
        "metavar": "NAME=BF16,FLOAT32,TB/s,GB,GB/s",
    }
    made.add_argument("--gpu", nargs="+", **gpus, help="from data sheets; the last one is in all tables")
    two = {"nargs": 2, "type": float, "metavar": ("SLOW", "FAST")}
    made.add_argument("--products", **two, default=(0.4, 0.6), help="share of the peak that matrix products reach")
    made.add_argument("--traffic", **two, default=(1.0, 0.5), help="share of the counted bytes that the memory sees")
    made.add_argument("--bandwidth", type=float, default=0.8, help="share of the memory's bandwidth that is reached")
    made.add_argument("--utilisation", **two, help="share of the peak of a whole step, in place of those three")
    made.add_argument("--launch", **two, default=(10.0, 5.0), help="host's time for one operator [us]")
    made.add_argument("--node", type=int, default=8, help="GPUs of a node")
    made.add_argument("--infiniband", type=float, default=200.0, help="out of a node [Gb/s]")
    made.add_argument("--network", type=float, default=0.8, help="share of the links' rates that is reached")
    made.add_argument("--latency", type=float, default=40.0, help="of a collective call [us]")
    made.add_argument("--fill", type=float, default=0.8, help="share of the GPU's memory that is used")
    rates = {"type": measured_rate, "default": [], "metavar": "RECIPE=JETS"}
    made.add_argument("--jets-per-second", nargs="+", **rates, help="of one GPU, measured, in place of the estimate")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--jets", metavar="PATH", help="count the operations for the jets of these files, and no more")
    what.add_argument("--measure", action="store_true", help="count and measure anew, into --results")
    what.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    what.add_argument("--check", action="store_true", help="fail if docs/scaling.md has other tables")
    made.add_argument("--results", type=Path, default=RESULTS / "scaling.json", help="what was counted and measured")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    options.jets_per_second = dict(options.jets_per_second)
    if options.jets is not None:
        jets = rino.read_jets(options.jets)
        print(f"{len(jets)} jets of {jets.multiplicity.mean():.1f} constituents on average")
        for name in RECIPES:
            print(f"{name}: {step_flops(rino.Recipe.preset(name), jets).total / 1e9:.3g} GFLOP a jet")
        return
    if options.measure:
        document = gather(RECIPES)
        with whole_file(options.results) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(options.results.read_text(encoding="utf-8"))
    made = tables(document, options)
    if not options.write and not options.check:
        for name, table in made.items():
            print(f"== {name}\n{table}\n")
        return
    page = PAGE.read_text(encoding="utf-8")
    new = with_tables(page, made)
    if options.write:
        with whole_file(PAGE) as partial:
            partial.write_text(new, encoding="utf-8")
    elif new != page:
        sys.exit(f"{PAGE} has other tables than {options.results} gives: run python benchmarks/scaling.py --write")


if __name__ == "__main__":
    main()
