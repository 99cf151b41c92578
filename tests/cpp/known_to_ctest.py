"""Compares the test cases of the sources beside this file with those of ctest: known_to_ctest.py <ctest> <build>."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

# TEST_CASE("name", ...); long names are strings behind each other. A TEMPLATE_TEST_CASE becomes one for each type.
CASE = re.compile(r'^\s*(?:TEMPLATE_)?TEST_CASE\w*\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', re.MULTILINE)
#: Catch2's options that list names alone, of version 2 and of version 3.
LISTS = (["--list-test-names-only"], ["--list-tests", "--verbosity", "quiet"])


def names_in(source: str) -> list[str]:
    return ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', case[1])).replace("\\", "") for case in CASE.finditer(source)]


def names_run_by(command: list[str]) -> list[str]:
    for options in LISTS:
        listed = subprocess.run([*command, *options], capture_output=True, text=True, check=False).stdout
        if "nrecognised token" not in listed:
            break
    return [line.strip() for line in listed.splitlines()]


def main(ctest: str, build: str) -> int:
    sources = sorted(Path(__file__).parent.glob("*.cpp"))
    written = {name: path.name for path in sources for name in names_in(path.read_text())}
    told = subprocess.run(
        [ctest, "--show-only=json-v1", "--test-dir", build], capture_output=True, text=True, check=True
    )
    commands = [test["command"] for test in json.loads(told.stdout)["tests"] if test["name"].startswith("cpp: ")]
    known = [name for command in commands for name in names_run_by(command)]
    cases = {*known, *(name.rpartition(" - ")[0] for name in known)}
    missing = [f"{path}: {name}" for name, path in written.items() if name not in cases]
    print(
        f"{len(written)} test cases in {len(sources)} files, {len(missing)} of them unknown to ctest",
        *missing,
        sep="\n",
    )
    if missing:
        print("A file must match test_*.cpp, and no other may have its name.")
    return 1 if missing or not written else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
