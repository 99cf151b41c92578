"""All that has to be seen on a GPU, in one run of less than ten minutes: `make gpu`.

The tests against the CPU; a step of the workshop's four sizes against plain PyTorch, padded (step.py); a step of `rino`
with the loader, its memory, and a profile by kernels; embedding; NCCL with one rank. Each part is a process of its own:
one that fails or takes too long costs no other. What is known is written after each, gpu.json and gpu.md.

On any other device: `--device`, and `--python` for a program that makes it known, as the tests do:

  python benchmarks/gpu.py --device foreign --python "python tests/foreign/with_device.py" --smoke --out /tmp/gpu
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Report, as_text, show, show_aim
from step import fits, profile

import pyrino as rino
from pyrino._arguments import device_of
from pyrino.bench import available_cores, interleaved
from pyrino.files import whole_file
from pyrino.nn import encoder_of

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "python" / "test_cuda.py"

#: Seconds of the whole run.
LIMIT = 580.0

#: Embeddings of the two devices may differ by so much.
TOLERANCE = 1e-4


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda")
    options.add_argument("--out", type=Path, default=HERE / "results", help="folder of gpu.json and gpu.md")
    options.add_argument("--smoke", action="store_true", help="the smallest numbers: to see that it runs")
    options.add_argument("--only", nargs="+", choices=[*COMMANDS], default=[*COMMANDS], help="some parts")
    options.add_argument("--limit", type=float, default=LIMIT, help="seconds in all")
    options.add_argument("--python", default=sys.executable, help="what runs Python programs")
    options.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.part:
        args.out.mkdir(parents=True, exist_ok=True)
        device = device_of(args.device)
        PARTS[args.part](device, args.smoke).finish(args.out)
        return
    if args.device.partition(":")[0] == "cuda":
        device_of(args.device)  # before anything else is tried
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    document: dict[str, Any] = {"benchmark": "gpu", "device": args.device, "parts": {}}
    for name in args.only:
        left = args.limit - (time.monotonic() - begin)
        document["parts"][name] = run(name, args, left)
        document["seconds"] = time.monotonic() - begin
        with whole_file(args.out / "gpu.json") as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        with whole_file(args.out / "gpu.md") as partial:
            partial.write_text(as_page(document), encoding="utf-8")
    print(f"{document['seconds']:.0f} s; written: {args.out / 'gpu.json'}, gpu.md")
    failed = [name for name, part in document["parts"].items() if not part["ok"]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


# --- parts, as processes ---


def command(name: str, args: argparse.Namespace, folder: str) -> list[str]:
    """What a part is."""
    python = shlex.split(args.python)
    if name == "tests":
        some = ["-k", "double_precision"] if args.smoke else []
        return [
            *python,
            "-m",
            "pytest",
            str(TESTS),
            "-q",
            "-p",
            "no:cacheprovider",
            *some,
            f"--junitxml={folder}/tests.xml",
        ]
    if name == "step":
        full = ["--sizes", "nano", "lite", "mini", "base", "--batch", "256", "--budget", "3"]
        least = ["--sizes", "nano", "--batch", "4", "--file", "8", "--budget", "0.1", "--repetitions", "1"]
        numbers = [*least, "--sustained", "1", "--profiled", "1"] if args.smoke else full
        return [*python, str(HERE / "step.py"), "--device", args.device, *numbers, "--out", folder]
    smoke = ["--smoke"] if args.smoke else []
    return [*python, str(HERE / "gpu.py"), "--part", name, "--device", args.device, *smoke, "--out", folder]


#: Seconds that a part may take, in the order of what matters most.
COMMANDS = {"tests": 200.0, "rino": 120.0, "step": 240.0, "embed": 90.0, "ranks": 60.0}


def run(name: str, args: argparse.Namespace, left: float) -> dict[str, Any]:
    """What became of a part."""
    if left <= 0:
        return {"ok": False, "seconds": 0.0, "why": "no time was left"}
    print(f"== {name}", flush=True)
    begin = time.monotonic()
    environment = {**os.environ, "RINO_GPU": args.device.partition(":")[0]}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as file:
            try:
                status: int | None = subprocess.run(
                    command(name, args, folder),
                    cwd=HERE.parent,
                    env=environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=min(COMMANDS[name], left),
                ).returncode
            except subprocess.TimeoutExpired:
                status = None
        said = log.read_text(encoding="utf-8", errors="replace")
        print(said[-4000:], flush=True)
        part: dict[str, Any] = {"ok": status == 0, "seconds": time.monotonic() - begin}
        if status != 0:
            part["why"] = "it took too long" if status is None else f"it ended with status {status}"
            part["said"] = said[-6000:]
        if (Path(folder) / "tests.xml").is_file():
            part |= cases(Path(folder) / "tests.xml")
            if status == 0 and not part["passed"]:
                part |= {"ok": False, "why": "no test was run"}
        for result in Path(folder).glob("*.json"):
            part["result"] = json.loads(result.read_text())
        if status == 0 and name != "tests" and "result" not in part:
            part |= {"ok": False, "why": "it wrote no result"}
    return part


def cases(report: Path) -> dict[str, Any]:
    """How many tests passed, and what became of the others."""
    passed, others = 0, {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        ends = [end for end in case if end.tag in ("failure", "error", "skipped")]
        passed += not ends
        for end in ends:
            others[str(case.get("name"))] = f"{end.tag}: {end.get('message')}"
    return {"passed": passed, "others": others}


# --- parts, within one ---


def rino_part(device: torch.device, smoke: bool) -> Report:
    """Steps of `rino` with its loader: jets/s, memory, a profile."""
    jets = rino.toy_jets(64 if smoke else 4096, seed=1)
    report = Report("rino", jets, device)
    gpus = torch.get_device_module(device)
    batch, count = (4, 1) if smoke else (512, 20)
    numbers = {"encoder.layers": 1, "head.prototypes": 16, "head.hidden_width": 64} if smoke else {}
    numbers |= {"training.epochs": 10_000, "loader_threads": max(1, available_cores() - 1)}
    for precision in ("float32", "bf16"):
        while True:
            sizes = {"training.precision": precision, "training.batch_size": batch}
            trainer = rino.Trainer(rino.Recipe.preset("rino", **numbers, **sizes), jets, device=device)
            getattr(gpus, "reset_peak_memory_stats", lambda _: None)(device)
            if fits(f"rino, {precision}, {batch} jets", lambda t=trainer: [t.step() for _ in range(3)], device):
                break
            del trainer
            batch //= 2
        most = getattr(gpus, "max_memory_allocated", lambda _: 0)(device)
        work = {"steps": lambda trainer=trainer: [trainer.step() for _ in range(count)]}
        timing = interleaved(work, 1 if smoke else 3, device=device)["steps"]
        report.row(f"rino, {precision}: {count} steps of {batch} jets with the loader", timing, count * batch)
        report.figure(f"rino, {precision}, with the loader", count * batch / timing.seconds, unit="jets/s")
        report.figure(f"rino, {precision}, memory of a step of {batch} jets", float(most), unit="B")
        waited = [trainer.step() for _ in range(count)]
        share = sum(step["waited"] for step in waited) / sum(step["seconds"] for step in waited)
        report.figure(f"rino, {precision}, share of a step in which it waits for the loader", share, unit="%")
        profile(report, f"rino, {precision}", trainer.step, device, steps=1 if smoke else 5)
        del trainer
    return report


def embed_part(device: torch.device, smoke: bool) -> Report:
    """Embeddings: jets/s, and the CPU's numbers."""
    jets = rino.toy_jets(32 if smoke else 20_000, seed=2)
    report = Report("embed", jets, device)
    for preset in ("nano",) if smoke else ("nano", "base", "part", "rino"):
        encoder = encoder_of(rino.Recipe.preset(preset), seed=1).eval()
        expected = encoder.embed(jets[:32])
        encoder = encoder.to(device)
        found = encoder.embed(jets[:32])
        report.check(f"{preset}: embeddings, GPU and CPU", float(np.max(np.abs(found - expected))), TOLERANCE)
        sides: dict[str, Callable[[], Any]] = {
            f"{preset}, {tokens} tokens at a time": lambda e=encoder, t=tokens: e.embed(
                jets, batch_tokens=t, threads=available_cores()
            )
            for tokens in (65_536, 1_000_000)
        }
        for name, timing in interleaved(sides, 1 if smoke else 3, budget=8.0, device=device).items():
            report.row(name, timing, len(jets))
            report.figure(f"embed {name}", len(jets) / timing.seconds, unit="jets/s")
    return report


def ranks_part(device: torch.device, smoke: bool) -> Report:
    """The collective calls that training makes, by NCCL, with one rank."""
    import torch.distributed as dist

    report = Report("ranks", device=device)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group()  # of whoever made the device known
    gradients = torch.arange(1000 if smoke else 30_000_000, dtype=torch.float32, device=device)
    counts = torch.tensor([3.0, 5.0], dtype=torch.float64, device=device)
    largest = torch.tensor([-7], dtype=torch.int64, device=device)
    expected = [tensor.clone() for tensor in (gradients, counts, largest)]
    dist.all_reduce(gradients)
    dist.all_reduce(counts)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    gathered = [torch.empty_like(counts)]
    dist.all_gather(gathered, counts)
    for tensor, before in zip((gradients, counts, largest, gathered[0]), (*expected, counts), strict=True):
        report.check(f"{tensor.dtype} of one rank", float((tensor - before).abs().max()), 0.0)
    timing = interleaved({"sum": lambda: dist.all_reduce(gradients)}, 3, device=device)["sum"]
    report.row(f"sum of {len(gradients)} gradients over one rank", timing)
    dist.destroy_process_group()
    return report


PARTS: dict[str, Callable[[torch.device, bool], Report]] = {
    "rino": rino_part,
    "embed": embed_part,
    "ranks": ranks_part,
}


# --- the page ---


def as_page(document: dict[str, Any]) -> str:
    """What was found, for people."""
    results = [part["result"] for part in document["parts"].values() if "result" in part]
    lines = ["# On a GPU", ""]
    if results:
        machine = results[0]["machine"]
        lines += [
            f"{machine.get('gpu', document['device'])}, {machine['cores']} cores of {machine['processor']}, torch "
            f"{machine['torch']}, pyrino {machine['pyrino']}, {machine['date'][:10]}. Made by `make gpu` in "
            f"{document['seconds']:.0f} s.",
            "",
        ]
    lines += ["| part | result | s |", "| --- | --- | ---: |"]
    for name, part in document["parts"].items():
        said = "ok" if part["ok"] else f"**{part['why']}**"
        if "passed" in part:
            said += f", {part['passed']} tests passed, {len(part['others'])} did not"
        lines.append(f"| {name} | {said} | {part['seconds']:.0f} |")
    figures = [figure for result in results for figure in result["figures"]]
    if figures:
        lines += ["", "| figure | value | aim |", "| --- | ---: | ---: |"]
        lines += [f"| {figure['name']} | {show(figure)} | {show_aim(figure)} |" for figure in figures]
    for result in results:
        for name, found in result.get("profiles", {}).items():
            lines += ["", f"`{name}`, {1e3 * found['seconds']:.1f} ms a step, is bound by {found['bound_by']}.", ""]
            lines += ["| work | ms a step |", "| --- | ---: |"]
            kinds = sorted(found["kinds"].items(), key=lambda pair: -pair[1])
            lines += [f"| {kind} | {1e3 * seconds:.2f} |" for kind, seconds in kinds]
    for name, part in document["parts"].items():
        for case, why in part.get("others", {}).items():
            lines += ["", f"`{case}`: {why.splitlines()[0]}"]
        if "said" in part:
            lines += ["", f"The end of what {name} said:", "", "```", part["said"][-2000:], "```"]
    for result in results:
        lines += ["", "```", as_text(result), "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
