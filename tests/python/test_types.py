"""Type checkers find nothing in the package, in README's Python and in a user's script: `mypy --strict`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyrino as rino

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "types" / "users_script.py"
STUB = Path(rino.__file__).with_name("_core.pyi")

#: What README's last lines take as given: a cluster has it.
GIVEN = "from typing import Any\n\nevents: Any\ndask_awkward_jets: Any\nclient: Any\nfiles: list[str]\n\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def mypy(cache: Path, *paths: Path) -> tuple[int, str]:
    """Exit status and errors; of the repository's own options, with the package that is imported here."""
    assert STUB.is_file(), f"{STUB} is not there: pip install pybind11-stubgen and build pyrino anew"
    config = cache / "mypy.toml"
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    config.write_text(ours.replace("$MYPY_CONFIG_FILE_DIR/python", STUB.parents[1].as_posix()), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", f"--config-file={config}", f"--cache-dir={cache}", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cache)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_package_readme_and_a_users_script(cache):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks[0].startswith("import pyrino as rino")
    readme = cache / "readme.py"
    readme.write_text(GIVEN + "\n".join(blocks), encoding="utf-8")
    status, said = mypy(cache, STUB.parent, readme, SCRIPT)
    assert status == 0, said


@pytest.mark.slow
def test_what_is_wrong_is_found(cache):
    """Of users' code, or the test above says nothing: types are known, not Any."""
    script = cache / "wrong.py"
    script.write_text(
        "import pyrino as rino\n"
        "jets = rino.read_jets('jets.root', hardest='128')\n"
        "jets.momenta\n"
        "rino.pretrain(jets, rino.Recipe('rino'), out='runs')\n"
        "rino.rotate(jets, angel=1.0)\n"
        "rino.JetEncoder.preset('nano').embed(jets).shapes\n"
        "rino.Batch(jets)\n",
        encoding="utf-8",
    )
    status, said = mypy(cache, script)
    assert status == 1
    lines = [int(number) for number in re.findall(r"wrong\.py:(\d+): error", said)]
    assert sorted(set(lines)) == [2, 3, 4, 5, 6, 7], said
