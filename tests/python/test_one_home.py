"""A method is known to its own files alone: what belongs to everybody does not learn the words of one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Words of self-distillation.
WORDS = re.compile(r"dino|ibot|koleo|\bgram_|\bgram\b|teacher|sinkhorn", re.IGNORECASE)

#: Where they may stand: methods, losses, the lists of what there is, a teacher as a part that methods use.
HOMES = (
    "include/rino/methods/",
    "include/rino/losses/",
    "include/rino/train/teacher.hpp",
    "include/rino/rino.hpp",
    "python/pyrino/methods/",
    "python/pyrino/losses.py",
    "python/pyrino/__init__.py",
    "python/src/bind_losses.cpp",
)

#: And where a few lines do, at most so many: citations, examples in docstrings and help, the words of the report's
#: page about the demonstration, and the counts that `Flops` keeps apart.
ALLOWED = {
    "include/rino/nn/projection_head.hpp": 1,
    "python/pyrino/cli/pretrain.py": 1,
    "python/pyrino/flops.py": 4,
    "python/pyrino/nn.py": 2,
    "python/pyrino/plots/training.py": 3,
    "python/pyrino/recipe.py": 1,
    "python/pyrino/report/page.py": 1,
    "python/pyrino/report/schema.py": 1,
    "python/pyrino/training/pretrain.py": 1,
    "python/pyrino/training/trainer.py": 4,
}

FILES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("include", "python/pyrino", "python/src")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".hpp", ".cpp", ".py")
)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(HOMES)])
def test_words_of_a_method_stand_with_it(file):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if WORDS.search(line)]
    assert len(found) <= ALLOWED.get(file, 0), "\n".join(found)


@pytest.mark.parametrize("file", FILES)
def test_a_remedy_stands_behind_a_colon(file):
    remedy = re.compile(r"[;.] (give|choose|use|read|write|leave|set|name|check|make|look)\b")
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    said = [(number, line) for number, line in enumerate(lines, 1) if re.search(r"RinoError\(|require\(|fail\(", line)]
    assert not [f"{number}: {line.strip()}" for number, line in said if re.search(remedy, line.split('"', 1)[-1])]


def test_the_homes_exist():
    assert all((ROOT / home).exists() for home in (*HOMES, *ALLOWED))


def test_one_header_asks_of_which_kind_a_device_is():
    asks = re.compile(r"is_cuda\(|is_privateuseone\(|kCUDA|kPrivateUse1")
    files = [*(ROOT / "include").rglob("*.[hi][pn][pc]"), *(ROOT / "python/src").glob("*.[ch]pp")]
    assert [f.relative_to(ROOT).as_posix() for f in files if asks.search(f.read_text())] == [
        "include/rino/core/device.hpp"
    ]
