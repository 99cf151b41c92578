"""This checkout against another commit of it: has a change made anything slower?

The commit is built (minutes; ccache helps) and put into a folder of its own, then two processes, one with each, do the
same work by turns. Only names that both have can be compared: what a change renames is left out, with a word.

  python benchmarks/before.py main~20
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common import RESULTS, Report, parser

from pyrino.bench import interleaved

ROOT = Path(__file__).resolve().parents[1]

#: The process of one side: says what it can do, then does what it is told and answers. An installation in a folder of
#: its own has to come before an editable one, whose finder is asked first.
SIDE = """
import os, sys
folder, scale, sizes = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
if folder:
    sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
    sys.path.insert(0, folder)
import torch
import pyrino as rino
assert rino.__file__.startswith(folder), rino.__file__
jets = rino.toy_jets(4096 // scale, seed=1)

def step(size, number):
    recipe = rino.Recipe.preset(size).replace(
        **{"batch_size": number, "training.epochs": 10_000, "loader_threads": 0})
    return rino.Trainer(recipe, jets[:number]).step

def works(size):
    wide = size not in ("nano", "lite")
    recipe = rino.Recipe.preset(size)
    encoder = rino.JetEncoder(recipe, seed=1)
    some = jets[: 64 if wide else None]
    yield f"embed {size}, {len(some)} jets", lambda: encoder.embed(some), 1
    repeated = 20 if wide else 400
    yield f"embed {size}, one jet", lambda: [encoder.embed(jets[:1]) for _ in range(repeated)], 1
    for threads in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
        number = 8 if wide else 128
        yield f"step {size}, {number} jets, {threads} threads", step(size, number), threads

views = rino.Recipe.preset("nano").views
generator = rino.ViewGenerator([*views.teacher, *views.student])
works = {name: (work, threads) for size in sizes for name, work, threads in works(size)}
works["views, nine resolutions"] = (lambda: generator(jets), 1)
print("\\t".join(works), flush=True)
for line in sys.stdin:
    work, threads = works[line.rstrip("\\n")]
    torch.set_num_threads(threads)
    work()
    print("done", flush=True)
"""


def main() -> None:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("commit", help="a commit of this repository")
    options.add_argument("--sizes", nargs="+", default=["nano", "base"])
    args = options.parse_args()
    commit = git("rev-parse", "--short=12", f"{args.commit}^{{commit}}")
    report = Report("before")
    arguments = ["4" if args.quick else "1", *args.sizes]
    with side("", *arguments) as (now, mine), side(str(built(commit)), *arguments) as (then, theirs):
        for name in sorted(set(mine) ^ set(theirs)):
            print(f"{name}: not on both sides, left out")
        for name in (name for name in mine if name in theirs):
            sides = {"now": lambda name=name: now(name), commit: lambda name=name: then(name)}
            times = interleaved(sides, args.repetitions, 3.0 if args.quick else 30.0)
            for which, timing in times.items():
                report.row(f"{name}: {which}", timing)
            report.figure(f"{name}: {commit}, to now", times[commit].seconds / times["now"].seconds)
    report.finish(args.out)


def git(*arguments: str) -> str:
    """What git says, in this repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def built(commit: str) -> Path:
    """A folder with the commit's Python package, built against this environment's torch; kept for the next time."""
    folder = RESULTS.parent / "before" / commit
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=RESULTS.parent) as place:
            tree, made = Path(place) / "tree", Path(place) / "made"
            git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            try:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
                subprocess.run([*pip, "--target", str(made), str(tree)], check=True)
            finally:
                git("worktree", "remove", "--force", str(tree))
            folder.parent.mkdir(parents=True, exist_ok=True)
            made.rename(folder)
    return folder


@contextmanager
def side(*arguments: str) -> Iterator[tuple[Callable[[str], None], list[str]]]:
    """A process with one of the two: what does work by name, and the names."""
    command = [sys.executable, "-c", SIDE, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        names = process.stdout.readline().rstrip("\n").split("\t")

        def work(name: str) -> None:
            print(name, file=process.stdin, flush=True)
            if process.stdout.readline() != "done\n":  # type: ignore[union-attr]
                sys.exit(f"the process that does {name} has ended")

        try:
            yield work, names
        finally:
            process.kill()


if __name__ == "__main__":
    main()
