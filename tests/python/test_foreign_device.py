"""The tests that need a GPU, on a device that needs none (tests/foreign), in a process of their own.

A device must be there before the first backward pass of a process, and changes what torch does in all of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(
        torch.cuda.is_available(), reason="PyTorch has one kind of GPU at a time: `make gpu` is for this one"
    ),
    pytest.mark.skipif(
        tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8), reason="needs at::HostAllocator of PyTorch 2.8"
    ),
]
FILES = [ROOT / "tests/foreign/test_on_device.py", ROOT / "tests/python/test_cuda.py"]


def _tests_of(file: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)


def environment() -> dict[str, str]:
    """Without the variables by which a worker of pytest-xdist knows itself."""
    return {**{n: v for n, v in os.environ.items() if not n.startswith("PYTEST_")}, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What became of every case, by the test's name: "" where it passed."""
    report = tmp_path_factory.mktemp("foreign") / "report.xml"
    more = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, FILES), *more],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert report.is_file(), done.stdout[-6000:]
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        ends = [end for end in case if end.tag in ("failure", "error", "skipped")]
        said = "\n".join(f"{case.get('name')}: {end.tag}\n{end.get('message')}\n{end.text}" for end in ends)
        found.setdefault(str(case.get("name")).partition("[")[0], []).append(said)
    assert done.returncode in (0, 1), done.stdout[-6000:]  # it ran to its end
    return found


def test_make_gpu_runs_from_end_to_end(tmp_path):
    python = f"{sys.executable} {ROOT / 'tests/foreign/with_device.py'}"
    program = [str(ROOT / "benchmarks/gpu.py"), "--device", "foreign", "--python", python, "--smoke"]
    done = subprocess.run(
        [sys.executable, *program, "--out", str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert list(parts) == ["tests", "rino", "step", "embed", "ranks"] and all(part["ok"] for part in parts.values())
    assert parts["tests"]["passed"] > 0 and not parts["tests"]["others"]
    page = (tmp_path / "gpu.md").read_text()
    for said in (
        "| tests | ok,",
        "`rino, bf16`,",
        "padded to the file, float32, to ours",
        "nano, 65536 tokens at a time",
    ):
        assert said in page


def test_a_part_of_make_gpu_that_fails_is_named_and_costs_no_other(tmp_path):
    program = [str(ROOT / "benchmarks/gpu.py"), "--device", "foreign", "--python", "false"]
    done = subprocess.run([sys.executable, *program, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "failed: tests, rino, step, embed, ranks" in done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [part["ok"] for part in parts.values()] == [False] * 5
    assert f"| ranks | **{parts['ranks']['why']}** |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize(("file", "name"), [(file.stem, name) for file in FILES for name in _tests_of(file)])
def test_on_the_foreign_device(outcomes, file, name):
    assert outcomes.get(name), f"{name} of {file} was not run"
    assert not "\n".join(outcomes[name]).strip(), "\n".join(outcomes[name])
