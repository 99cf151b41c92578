"""Run all benchmarks one after the other and put their figures into one table, on the screen and as results.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import RESULTS, show, show_aim

from pyrino.files import whole_file
from pyrino.tables import aligned

HERE = Path(__file__).resolve().parent

#: Results by name, in the order of the table, and what makes them.
PROGRAMS = {
    "views": [str(HERE.parent / "build" / "cpp" / "benchmarks" / "benchmark_views")],
    "views_python": [sys.executable, str(HERE / "views.py")],
    "step": [sys.executable, str(HERE / "step.py")],
    "particle_transformer": [sys.executable, str(HERE / "particle_transformer.py")],
    "method_overhead": [sys.executable, str(HERE / "method_overhead.py")],
    "threads": [sys.executable, str(HERE / "threads.py")],
    "ranks": [sys.executable, str(HERE / "ranks.py")],
    "inference": [sys.executable, str(HERE / "inference.py")],
    "loader": [sys.executable, str(HERE / "loader.py")],
    "transforms": [sys.executable, str(HERE / "transforms.py")],
    "loading": [sys.executable, str(HERE / "loading.py")],
    "containers": [sys.executable, str(HERE / "containers.py")],
    "memory": [sys.executable, str(HERE / "memory.py")],
    "metrics": [sys.executable, str(HERE / "metrics.py")],
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="some of them")
    options.add_argument("--full", action="store_true", help="more jets and longer; for a result to keep")
    options.add_argument("--table", action="store_true", help="run nothing: the table of the results that are there")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = options.parse_args()
    failed = []
    begin = time.monotonic()
    for name in [] if args.table else args.only:
        command = [*PROGRAMS[name], *([] if args.full else ["--quick"]), "--out", str(args.out)]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
        print(f"-- {name}: {time.monotonic() - begin:.0f} s since the start\n", flush=True)
    files = [*PROGRAMS, *sorted(path.stem for path in args.out.glob("step_*.json"))]
    documents = [json.loads(p.read_text()) for p in (args.out / f"{name}.json" for name in files) if p.is_file()]
    if not documents:
        sys.exit(f"there are no results in {args.out}")
    with whole_file(args.out / "results.md") as partial:
        partial.write_text(as_markdown(documents), encoding="utf-8")
    rows = [[figure["name"], show(figure), show_aim(figure)] for d in documents for figure in d["figures"]]
    print(aligned([["figure", "value", "aim"], *rows], numbers=(1,)))
    print(f"also in {args.out / 'results.md'}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def as_markdown(documents: list[dict[str, Any]]) -> str:
    """Everything that the results say, ready for README.md."""
    lines = []
    for machine in {about["processor"]: about for about in (d["machine"] for d in documents)}.values():
        lines.append(
            f"{machine['processor']} ({', '.join(machine['instructions'])}), {machine['cores']} cores, "
            f"torch {machine['torch']}, {machine['date'][:10]}."
        )
    lines += ["", "| figure | value | aim |", "| --- | ---: | ---: |"]
    lines += [f"| {f['name']} | {show(f)} | {show_aim(f)} |" for d in documents for f in d["figures"]]
    for document in documents:
        load = document["machine"]["load"]
        lines += ["", f"`{document['machine']['command']}`{'' if load is None else f', load {load:.1f} when it began'}"]
        if "multiplicities" in document:
            jets = document["multiplicities"]
            quantiles = " ".join(map(str, jets["quantiles"].values()))
            lines[-1] += (
                f"; {jets['jets']} toy jets of {jets['mean']:.1f} +- {jets['std']:.1f} constituents "
                f"({', '.join(jets['quantiles'])}: {quantiles})"
            )
        lines += ["", "| side | median | us/jet | jets/s | GFLOP/s | repetitions | spread |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for row in document["rows"]:
            numbers = [
                f"{row[key]:,.{digits}f}" if key in row else ""
                for key, digits in (("us_per_jet", 2), ("jets_per_second", 0), ("GFLOP_per_s", 1))
            ]
            cells = [row["name"], f"{row['seconds']:.3g} s", *numbers, str(row["repetitions"]), f"{row['spread']:.0%}"]
            lines.append(f"| {' | '.join(cells)} |")
        worst = max((check["difference"] for check in document["checks"]), default=None)
        if worst is not None:
            lines += ["", f"Outputs compared: {len(document['checks'])}; the largest difference is {worst:.2g}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
