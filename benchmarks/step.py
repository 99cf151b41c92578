"""A training step of the workshop recipe, against the same step in plain PyTorch with padded views.

Two baselines (baseline.py): every view padded to the longest jet of the file, and every view padded to its own longest.
Their padded tensors lie ready in memory; our step is timed with everything it does: reading the jets, clustering,
features, packing, network, losses, optimiser, moving average, on the same threads.

On a machine with a GPU (a bigger batch is better for all sides as long as the padded ones have room):

  python benchmarks/step.py --device cuda --sizes nano lite mini base --batch 256

There our step finds its batches ready too, made by the loader meanwhile; how many jets/s the loader and the GPU manage
together, step after step, is a row of its own, and a profile says what bounds the step.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from baseline import PlainStep, padded_views
from common import Report, parser
from safetensors.torch import load_file

import pyrino as rino
from pyrino._arguments import device_of
from pyrino.bench import available_cores, interleaved, matrix_product, multiplicities, step_flops, torch_threads

#: What the issue of this part aims at on two CPU cores: ratios to (padded to the file, padded to its own), share of the
#: matrix-multiply rate.
AIMS = {"nano": (18.0, None, 0.25), "base": (15.0, 3.0, 0.5)}

#: Ratio to padded float32 that bf16 aims at where the processor has bf16 instructions.
AIM_BF16 = {"base": 35.0}

#: Losses of the two implementations, first step and after two updates of the weights, agree to this share.
TOLERANCES = (1e-5, 1e-4)

#: Jets per second on a GPU.
AIM_CUDA = {"base": 40_000.0}

#: Jets that the losses are compared on.
CHECKED = 16

#: Steps of the imagined run, for the schedules.
STEPS = 10_000


def main() -> None:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--sizes", nargs="+", default=["nano", "base"], choices=["nano", "lite", "mini", "base"])
    options.add_argument("--threads", nargs="+", type=int, default=list(dict.fromkeys([1, available_cores()])))
    options.add_argument("--batch", type=int, help="jets of a step (default: 128 up to width 64, else 32; quick: half)")
    options.add_argument("--file", type=int, default=10_000, help="jets of the file whose longest decides the padding")
    options.add_argument("--device", default="cpu")
    options.add_argument("--budget", type=float, help="seconds after which a side is measured no more")
    options.add_argument("--sustained", type=int, default=30, help="steps after which jets/s on a GPU are counted")
    options.add_argument("--profiled", type=int, default=5, help="steps that the profile is of")
    options.add_argument("--profile", action="store_true", help="say what bounds our step (always on a GPU)")
    args = options.parse_args()
    device = device_of(args.device)
    threads = args.threads if device.type == "cpu" else [torch.get_num_threads()]
    budget = args.budget or (8.0 if args.quick else 60.0)

    file = rino.toy_jets(args.file, seed=1)
    longest = int(file.multiplicity.max())
    print(f"the file's longest jet has {longest} constituents")
    report = Report("step" if device.type == "cpu" else f"step_{device.type}", file, device)
    for size in args.sizes:
        recipe = rino.Recipe.preset(size)
        batch = args.batch or (128 if recipe.encoder.width <= 64 else 32) // (2 if args.quick else 1)
        # The jets of a step are the whole sample, so that every step is the same work. On a CPU the views are made
        # within the step and not by a loader: a thread of its own would go on while the other sides are measured.
        loaders = 0 if device.type == "cpu" else max(1, available_cores() - 1)
        recipe.update({"batch_size": batch, "training.epochs": STEPS, "loader_threads": loaders})
        used = multiplicities(file[:batch])
        print(f"{size}: steps of {batch} jets, {used['mean']:.1f} +- {used['std']:.1f} constituents")
        report.document.setdefault("batches", {})[size] = used
        check(report, size, recipe.replace(batch_size=CHECKED), file[:CHECKED], longest, device)
        for count in threads:
            with torch_threads(count):
                measure(report, size, recipe, file[:batch], longest, device, args.repetitions, budget, args.sustained)
        if args.profile or device.type != "cpu":
            with torch_threads(threads[-1]):
                profile(report, size, rino.Trainer(recipe, file[:batch], device=device).step, device, args.profiled)
    report.finish(args.out)


def weights_of(trainer: rino.Trainer) -> dict[str, torch.Tensor]:
    """All tensors of a training run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        trainer.save(path)
        return load_file(path)


def check(report: Report, size: str, recipe: rino.Recipe, jets: rino.Jets, longest: int, device: torch.device) -> None:
    """Without dropout, both baselines and ours have the same losses in three steps from the same weights."""
    plain = recipe.replace(**{"encoder.dropout": 0.0, "training.warmup": 0.0})
    trainer = rino.Trainer(plain, jets, device=device)
    weights = weights_of(trainer)
    ours = [trainer.step()["loss"] for _ in range(3)]
    for name, length in (("to the file", longest), ("to its own", None)):
        step = PlainStep(plain, weights, len(trainer), device)
        views = to(padded_views(jets, plain, length), device)
        theirs = [float(step(views)) for _ in range(3)]
        for number, tolerance in zip((0, 2), TOLERANCES, strict=True):
            difference = abs(ours[number] - theirs[number]) / abs(theirs[number])
            tolerance *= 10 if device.type != "cpu" else 1
            report.check(f"{size}: losses of step {number + 1}, ours and padded {name}", difference, tolerance)


def measure(
    report: Report,
    size: str,
    recipe: rino.Recipe,
    jets: rino.Jets,
    longest: int,
    device: torch.device,
    repetitions: int,
    budget: float,
    sustained: int,
) -> None:
    """Time all sides by turns."""
    threads, gpu = torch.get_num_threads(), device.type != "cpu"
    where = size if gpu else f"{size}, {threads} thread{'s' if threads > 1 else ''}"
    precisions = ("float32", "bf16") if "precision" in recipe.to_dict()["training"] else ("float32",)
    types = {"float32": torch.float32, "bf16": torch.bfloat16}
    edge = 8192 if device.type == "cuda" else 1024
    sides: dict[str, Callable[[], Any]] = {}
    trainers: dict[str, rino.Trainer] = {}
    for precision in precisions:
        chosen = recipe.replace(precision=precision) if len(precisions) > 1 else recipe
        trainers[precision] = rino.Trainer(chosen, jets, device=device)
        sides[f"ours, {precision}"] = trainers[precision].step
        sides[f"torch.mm, {precision}"], product_flops = matrix_product(edge, types[precision], device)
    weights, steps = weights_of(trainers["float32"]), len(trainers["float32"])
    for name, length in (("padded to its own", None), ("padded to the file", longest)):
        views = to(padded_views(jets, recipe, length), device)
        for precision in precisions:
            step = PlainStep(recipe, weights, steps, device, bf16=precision == "bf16")
            sides[f"{name}, {precision}"] = lambda step=step, views=views: step(views)
    if gpu:
        sides = {name: work for name, work in sides.items() if fits(name, work, device)}
    times = interleaved(sides, repetitions, budget, device)

    flops = step_flops(recipe, jets).total * len(jets)
    for name, timing in times.items():
        product = name.startswith("torch.mm")
        rate = (product_flops if product else flops) / timing.seconds / 1e9
        label = f"{where}: {name}" + (f", {edge}^3" if product else "")
        report.row(label, timing, None if product else len(jets), GFLOP_per_s=rate)

    file_aim, own_aim, share_aim = AIMS.get(size, (None, None, None))
    if gpu or threads != available_cores():  # the aims are those of a processor with all its cores
        file_aim = own_aim = share_aim = None
    aim_bf16 = AIM_BF16.get(size) if file_aim is not None else None

    def ratio(one: str, other: str, aim: float | None = None) -> None:
        if one in times and other in times:
            report.figure(f"step {where}: {one}, to {other}", times[one].seconds / times[other].seconds, aim)

    ratio("padded to the file, float32", "ours, float32", file_aim)
    ratio("padded to its own, float32", "ours, float32", own_aim)
    if "bf16" in precisions:
        ratio("padded to the file, float32", "ours, bf16", aim_bf16)
        ratio("padded to the file, bf16", "ours, bf16")
        ratio("padded to its own, bf16", "ours, bf16")
    for precision in precisions:
        share = flops / times[f"ours, {precision}"].seconds / product_flops * times[f"torch.mm, {precision}"].seconds
        aim = share_aim if precision == "float32" else None
        report.figure(f"step {where}: share of the matrix-multiply rate, {precision}", share, aim, "%")
    if gpu:
        for precision, trainer in trainers.items():
            work = {"steps": lambda trainer=trainer: [trainer.step() for _ in range(sustained)]}
            timing = interleaved(work, 3, device=device)["steps"]
            report.row(f"{where}: ours, {precision}, {sustained} steps with the loader", timing, sustained * len(jets))
            rate = sustained * len(jets) / timing.seconds
            report.figure(f"step {where}: ours, {precision}, with the loader", rate, AIM_CUDA.get(size), "jets/s")


def fits(name: str, work: Callable[[], Any], device: torch.device) -> bool:
    """Whether a side has room on the GPU."""
    try:
        work()
    except RuntimeError as error:  # of C++ it is not torch's own class
        if "out of memory" not in str(error):
            raise
        print(f"{name}: no room on the GPU, left out; a smaller --batch lets it in")
        torch.get_device_module(device).empty_cache()
        return False
    return True


def to(views: list[Any], device: torch.device) -> list[Any]:
    """The views on a device."""
    return [type(view)(*(tensor.to(device) for tensor in view)) for view in views]


#: Kinds of work by parts of the names of kernels (CUDA) and operators (CPU); the first that fits counts.
_KINDS = {
    "attention": ("flash", "fmha", "attention", "softmax", "bmm", "baddbmm"),
    "matrix products": ("gemm", "gemv", "cutlass", "xmma", "nvjet", "addmm", "::mm", "linear"),
    "norms and activations": ("norm", "gelu", "erf", "sigmoid"),
    "dropout and random numbers": ("bernoulli", "dropout", "philox", "distribution"),
    "optimiser": ("adam", "lerp", "multi_tensor"),
    "copies and gathers": ("memcpy", "memset", "copy", "index", "gather", "scatter", "cat", "fill", "zero"),
}


def profile(report: Report, size: str, step: Callable[[], Any], device: torch.device, steps: int = 5) -> None:
    """Where the time of a step goes, and what that means: launches, arithmetic or memory."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for _ in range(3):
        step()
    wall = interleaved({"step": step}, steps, device=device)["step"].seconds
    with torch_profile(activities=activities) as recorded:
        for _ in range(steps):
            step()
        if cuda:
            torch.cuda.synchronize(device)
    events = recorded.key_averages()
    print(f"== {size}: profile of {steps} steps, {1e3 * wall:.1f} ms each without the profiler")
    print(events.table(sort_by="self_device_time_total" if cuda else "self_cpu_time_total", row_limit=15))
    # On CUDA the kernels are counted, not the operators that launched them.
    wanted = DeviceType.CUDA if cuda else DeviceType.CPU
    shares = dict.fromkeys([*_KINDS, "elementwise and others"], 0.0)
    for event in events:
        if event.device_type != wanted or getattr(event, "is_user_annotation", False):
            continue
        name = event.key.lower()
        kind = next((k for k, parts in _KINDS.items() if any(p in name for p in parts)), "elementwise and others")
        shares[kind] += (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6 / steps
    busy = sum(shares.values())
    kinds = sorted(shares, key=shares.__getitem__, reverse=True)
    print("\n".join(f"{kind:28}{1e3 * shares[kind]:10.2f} ms {shares[kind] / busy:6.1%}" for kind in kinds))
    products = (shares["matrix products"] + shares["attention"]) / busy
    if cuda and busy < 0.7 * wall:
        verdict = f"launches and the host: the GPU works {busy / wall:.0%} of the time"
    elif products > 0.5:
        verdict = f"matrix products and attention, {products:.0%} of the time at work"
    else:
        verdict = f"memory traffic: matrix products and attention are only {products:.0%} of the time at work"
    print(f"{size} is bound by {verdict}")
    report.document.setdefault("profiles", {})[size] = {
        "seconds": wall,
        "busy": busy,
        "kinds": shares,
        "bound_by": verdict,
    }


if __name__ == "__main__":
    main()
