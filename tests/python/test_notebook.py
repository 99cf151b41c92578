"""The notebooks: stored without outputs, and what somebody who runs them sees."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
NOTEBOOK = ROOT / "examples" / "notebooks" / "first_steps.ipynb"
OWN_METHOD = NOTEBOOK.with_name("05_a_method_of_your_own.ipynb")

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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_valid_and_stored_without_outputs(path):
    stored = nbformat.read(path, as_version=4)
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


@pytest.mark.slow
def test_a_method_of_ones_own_trains_in_a_notebook(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("RINO_NOTEBOOK_JETS", "60")
    monkeypatch.setenv("RINO_NOTEBOOK_EPOCHS", "2")
    notebook = nbformat.read(OWN_METHOD, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    kinds = {name: {k for o in cell.outputs for k in o.get("data", {})} for name, cell in cells.items()}
    assert "text/plain" in kinds["recipe"] and "image/png" in kinds["curves"]
    said = "".join(output.text for output in cells["probe"].outputs)
    assert said.startswith("linear probe: 0.") and said.rstrip().endswith("after")
    streams = "".join(o.text for cell in cells.values() for o in cell.outputs if o.output_type == "stream")
    assert "Warning" not in streams
    import pyrino as rino

    assert rino.JetEncoder.load(tmp_path / "runs" / "alignment").recipe.method == "alignment"
