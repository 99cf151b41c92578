"""Embedding jets on one thread: many at a time against a padded PyTorch encoder, and one jet at a time.

Ours starts from the jets' momenta (`encoder.embed`); the padded encoder has its features ready in memory, every jet
padded to the longest of the sample or to the longest of its batch.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from baseline import Encoder, View, padded_view
from common import Report, largest_difference, parser

import pyrino as rino
from pyrino.bench import Timing, encoder_flops, interleaved, matrix_product, torch_threads

#: Ratio to the padded encoder, and microseconds for one jet, that are aimed at.
AIM_BATCHED = 8.0
AIM_SINGLE = {"nano": 200.0}

#: Jets at a time in the padded encoder: of 16 to 256, for nano and base, none was faster by more than a few per cent.
BATCH = 64


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", default=["nano", "base"], choices=["nano", "lite", "mini", "base"])
    options.add_argument(
        "--jets", type=int, help="number of toy jets (default: 4096 up to width 64, else 512; quick: 1024, 128)"
    )
    args = options.parse_args()
    sample = rino.toy_jets(args.jets or 4096, seed=1)
    report = Report("inference", sample)
    for size in args.sizes:
        recipe = rino.Recipe.preset(size)
        number = args.jets or (4096 if recipe.encoder.width <= 64 else 512) // (4 if args.quick else 1)
        with torch_threads(1):
            batched(report, size, recipe, sample[:number], args.repetitions)
            single(report, size, recipe, sample[:300])
    report.finish(args.out)


def batched(report: Report, size: str, recipe: rino.Recipe, jets: rino.Jets, repetitions: int) -> None:
    """Many jets at a time."""
    encoder = rino.JetEncoder(recipe, seed=1)
    whole = padded_view(jets, recipe)
    plain = Encoder(recipe, whole.features.shape[2]).load(encoder.state_dict()).eval()
    to_sample = [View(*(part[first : first + BATCH] for part in whole)) for first in range(0, len(jets), BATCH)]
    to_batch = [padded_view(jets[first : first + BATCH], recipe) for first in range(0, len(jets), BATCH)]

    @torch.inference_mode()
    def padded(batches: list[View]) -> np.ndarray:
        return torch.cat([plain(batch) for batch in batches]).numpy()

    ours = encoder.embed(jets)
    for name, batches in (("sample", to_sample), ("batch", to_batch)):
        report.check(f"{size}: embeddings, padded to the {name}", largest_difference(ours, padded(batches)), 1e-4)
    product, product_flops = matrix_product()
    times = interleaved(
        {
            "embed": lambda: encoder.embed(jets),
            "padded to the batch": lambda: padded(to_batch),
            "padded to the sample": lambda: padded(to_sample),
            "torch.mm": product,
        },
        repetitions,
        budget=15.0,
    )
    flops = encoder_flops(recipe, jets.multiplicity, whole.features.shape[2])
    rate = product_flops / times.pop("torch.mm").seconds
    for name, timing in times.items():
        report.row(f"{size}: {name}", timing, len(jets), GFLOP_per_s=flops / timing.seconds / 1e9)
    mine = times["embed"].seconds
    report.figure(
        f"embedding {size}, 1 thread: to padded to the sample",
        times["padded to the sample"].seconds / mine,
        AIM_BATCHED,
    )
    report.figure(f"embedding {size}, 1 thread: to padded to the batch", times["padded to the batch"].seconds / mine)
    report.figure(f"embedding {size}, 1 thread: share of the matrix-multiply rate", flops / mine / rate, unit="%")


def single(report: Report, size: str, recipe: rino.Recipe, jets: rino.Jets) -> None:
    """One jet at a time, and how much of that is Python."""
    encoder = rino.JetEncoder(recipe, seed=1)
    alone = list(jets)
    largest = max(
        largest_difference(encoder.embed(jet)[0], z) for jet, z in zip(alone, encoder.embed(jets), strict=True)
    )
    report.check(f"{size}: embeddings, one jet at a time and together", largest, 1e-4)
    # What embed calls, called without it.
    core = encoder._core
    where = ("all", encoder.device, str(encoder.dtype).removeprefix("torch."), 1)
    seconds: dict[str, list[float]] = {"embed": [], "C++": []}
    for jet in alone:
        for name, work in (
            ("embed", lambda jet=jet: encoder.embed(jet)),
            ("C++", lambda jet=jet: core.embed_batch(jet._core, *where)),
        ):
            begin = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begin)
    timing = Timing.of(seconds["embed"])
    python = timing.seconds - Timing.of(seconds["C++"]).seconds
    report.row(f"{size}: embed, one jet at a time", timing, 1, python_us=1e6 * python)
    report.figure(f"embedding {size}, one jet at a time", 1e6 * timing.seconds, AIM_SINGLE.get(size), "us")
    report.figure(f"embedding {size}, one jet at a time, of it Python", 1e6 * python, unit="us")


if __name__ == "__main__":
    main()
