"""The notebook for the first steps: stored without outputs, and what somebody who runs it sees."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "notebooks" / "first_steps.ipynb"

#: What each cell shows; the cells that are not named show nothing, or only progress.
SHOWN = {
    "generate": "text/html",
    "shift": "image/png",
    "flow-top": "image/png",
    "flow-qcd": "image/png",
    "views": "text/markdown",
    "recipe": "text/html",
    "pretrain": "image/png",
    "compare": "text/markdown",
    "scores": "image/png",
    "roc": "image/png",
}


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    """The notebook as it lies in the repository."""
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_stored_without_outputs(stored):
    nbformat.validate(stored)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("folder", [ROOT, NOTEBOOK.parent], ids=["root", "notebooks"])
def test_its_imports_work_in_a_checkout(stored, folder):
    """The folder `python` of the root must not be taken for a package."""
    imports = next(cell.source for cell in stored.cells if cell.id == "imports")
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", imports],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(importlib.util.find_spec("pythia8mc") is None, reason="needs the package pythia8mc")
@pytest.mark.slow
def test_it_runs(stored, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("RINO_NOTEBOOK_JETS", "40")
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()

    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    for name, cell in cells.items():
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        assert name not in SHOWN or SHOWN[name] in kinds, (name, kinds)
        streams = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        assert "Warning" not in streams, (name, streams)
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 7
    # The curves took the place of the text that stood there before the first step.
    (curves,) = [output for output in cells["pretrain"].outputs if output.output_type == "display_data"]
    assert "image/png" in curves.data
    (table,) = [output.data["text/markdown"] for output in cells["compare"].outputs if "data" in output]
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        [tagger, domain] for domain in ("simulation-wide", "collisions") for tagger in ("pretrained", "from scratch")
    ]
    for row in rows:
        accuracy = float(row[2].split(" ± ")[0])
        assert 0 < accuracy <= 1
