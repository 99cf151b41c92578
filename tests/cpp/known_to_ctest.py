"""Compares the test cases of the sources beside this file with those of ctest: known_to_ctest.py <ctest> <build>."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

# TEST_CASE("name", ...); long names are strings behind each other. A TEMPLATE_TEST_CASE becomes one for each type.
CASE = re.compile(r'^\s*(?:TEMPLATE_)?TEST_CASE\w*\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', re.MULTILINE)
PREFIX = "cpp:"


def names_in(source: str) -> list[str]:
    return ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', case[1])).replace("\\", "") for case in CASE.finditer(source)]


def main(ctest: str, build: str) -> int:
    sources = sorted(Path(__file__).parent.glob("*.cpp"))
    written = {name: path.name for path in sources for name in names_in(path.read_text())}
    told = subprocess.run(
        [ctest, "--show-only=json-v1", "--test-dir", build], capture_output=True, text=True, check=True
    )
    known = [test["name"].removeprefix(PREFIX) for test in json.loads(told.stdout)["tests"]]
    cases = {*known, *(name.rpartition(" - ")[0] for name in known)}
    missing = [f"{path}: {name}" for name, path in written.items() if name not in cases]
    print(
        f"{len(written)} test cases in {len(sources)} files, {len(missing)} of them unknown to ctest",
        *missing,
        sep="\n",
    )
    if missing:
        print("A file must match test_*.cpp; a name must have no ';', nor a '[' or ']' alone: CMake's lists end there.")
    return 1 if missing or not written else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
