"""The tests that need a GPU, on a device that needs none (tests/foreign), in a process of their own.

A device must be there before the first backward pass of a process, and changes what torch does in all of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "tests/foreign/test_on_device.py", ROOT / "tests/python/test_cuda.py"]


def _tests_of(file: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What became of every case, by the test's name: "" where it passed."""
    report = tmp_path_factory.mktemp("foreign") / "report.xml"
    more = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", f"--junitxml={report}"]
    # Without the variables by which a worker of pytest-xdist knows itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, FILES), *more],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1"},
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


@pytest.mark.parametrize(("file", "name"), [(file.stem, name) for file in FILES for name in _tests_of(file)])
def test_on_the_foreign_device(outcomes, file, name):
    assert outcomes.get(name), f"{name} of {file} was not run"
    assert not "\n".join(outcomes[name]).strip(), "\n".join(outcomes[name])
