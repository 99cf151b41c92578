"""README.md: its Python runs as it stands, its commands and links exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import dask_awkward
import numpy as np
import pytest
import uproot
from helpers import small_jets

import pyrino as rino
from pyrino.cli import make_parser
from pyrino.study import STUDIES, _Samples

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def write_root(path: Path, jets: rino.Jets) -> None:
    columns = dict(
        zip(("part_px", "part_py", "part_pz", "part_energy"), (jets.px, jets.py, jets.pz, jets.e), strict=True)
    )
    columns["part_charge"] = np.ones(jets.n_constituents)
    ragged = {name: ak.unflatten(column.astype(np.float32), jets.multiplicity) for name, column in columns.items()}
    path.parent.mkdir(exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: "var * float32" for name in ragged} | {"jet_sdmass": "float32"})
        file["tree"].extend(ragged | {"jet_sdmass": jets.mass.astype(np.float32)})


def what_make_demo_leaves(folder: Path) -> None:
    """The jets of the demo under their names, few of each, so that it is quick."""
    assert "pyrino study --preset demo --out runs/demo" in (ROOT / "Makefile").read_text(encoding="utf-8")
    plan = dataclasses.replace(STUDIES["demo"], pretraining_jets=40, labelled_jets=24, test_jets=8)
    samples = _Samples(plan, folder / "runs" / "demo" / "data", 1, False)
    samples.unlabelled()
    samples.labelled(plan.target, plan.test_jets, purpose=1)
    for purpose, count in ((2, plan.labelled_jets), (3, plan.test_jets)):
        samples.labelled(*plan.sources, count, purpose=purpose)


def test_the_recipes_are_recipes_and_train(tmp_path):
    for number, text in enumerate(blocks("toml")):
        (tmp_path / f"{number}.toml").write_text(text)
        recipe = rino.Recipe.load(tmp_path / f"{number}.toml").replace(epochs=1, batch_size=10)
        jets = small_jets(20, seed=1)
        for column in recipe.columns:
            name = column.split("|")[0]
            jets = jets.with_extra(name, np.ones(jets.n_constituents)).with_value(name, np.ones(len(jets)))
        assert all(np.isfinite(step["loss"]) for step in rino.Trainer(recipe, jets))


@pytest.mark.skipif(importlib.util.find_spec("pythia8mc") is None, reason="needs the package pythia8mc")
def test_the_python_runs_as_it_stands(tmp_path, monkeypatch):
    """In a folder as after `make demo`, and what the later lines take as given."""
    monkeypatch.chdir(tmp_path)
    what_make_demo_leaves(tmp_path)
    target, source = small_jets(40, seed=1), small_jets(40, seed=2)
    names: dict[str, Any] = {}
    first, evaluation, own_method, second, third = blocks("python")
    assert "import pyrino as rino" in first
    exec(compile(first, str(ROOT / "README.md"), "exec"), names)

    n = 40 + 4
    assert len(names["jets"]) == n and len(names["sim"]) == 24 + 8 and set(names["sim"].labels) == {0, 8}
    assert [len(view) for view in names["views"]] == [n] * 4
    assert names["run"].history.rows == 5
    z, p = names["z"], names["p"]
    assert z.shape == (n, names["encoder"].width) and np.isfinite(z).all()
    assert p.shape == (n,) and ((p >= 0) & (p <= 1)).all()
    np.testing.assert_array_equal(rino.Tagger.load("runs/tagger").predict(names["jets"]), p)

    exec(compile(evaluation, str(ROOT / "README.md"), "exec"), names)
    assert (tmp_path / "runs" / "tagger" / "test" / "evaluation.html").is_file()
    fixed = rino.WorkingPoint.load("runs/tagger")
    assert fixed.background_efficiency.value <= 0.01
    np.testing.assert_array_equal(names["passes"], p >= fixed.threshold)

    exec(compile(own_method, str(ROOT / "README.md"), "exec"), names)
    assert names["own"].history.rows == 5 and names["own"].encoder.recipe.method == "alignment"
    assert rino.JetEncoder.load("runs/alignment").embed(names["jets"]).shape == (n, 32)

    write_root(tmp_path / "val" / "a.root", target)
    write_root(tmp_path / "train_100M" / "a.root", source)
    exec(compile(second, str(ROOT / "README.md"), "exec"), names)
    wanted = (target.pt >= 500) & (target.pt < 1000) & (np.abs(target.eta) < 2)
    np.testing.assert_array_equal(names["jets"].origins.entry, np.flatnonzero(wanted))
    assert "part_charge" in names["jets"].extras and "jet_sdmass" in names["jets"].values
    assert names["run"].history.rows == 5
    assert len(rino.read_jets("train.arrow")) > 0

    # stand-ins for what a cluster has
    jets = names["jets"]
    constituents = ak.zip(dict(zip(("px", "py", "pz", "E"), (jets.px, jets.py, jets.pz, jets.e), strict=True)))
    jagged = ak.unflatten(constituents, jets.multiplicity)
    nested = ak.unflatten(jagged, [len(jets)])
    names["events"] = ak.Array({"FatJet": ak.Array({"constituents": ak.Array({"pf": nested})})})
    names["dask_awkward_jets"] = dask_awkward.from_awkward(jagged, npartitions=2)
    names["client"], names["files"] = SimpleNamespace(map=lambda work, files: list(map(work, files))), ["train.arrow"]
    exec(compile(third, str(ROOT / "README.md"), "exec"), names)
    wanted = rino.Tagger.load("runs/tagger").predict(jets)
    np.testing.assert_array_equal(names["p"].compute().to_numpy(), wanted)
    np.testing.assert_array_equal(names["z"].compute().to_numpy(), rino.embed("runs/nano", jets))


def test_its_commands_are_understood():
    lines = [line.split("#")[0].strip() for block in blocks("(?:sh|bash|shell|console)") for line in block.splitlines()]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in lines:
        if line.startswith("pyrino "):
            make_parser().parse_args(shlex.split(line)[1:])
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE), line
    named = re.search(r"`pyrino ([a-z]+(?: \| [a-z]+)+)`", README)
    for command in named[1].split(" | ") if named else []:
        with pytest.raises(SystemExit) as end:
            make_parser().parse_args([command, "--help"])
        assert end.value.code == 0


def test_its_links_into_the_repository_lead_somewhere():
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", README)]
    inside = [target for target in targets if target and "://" not in target]
    assert inside
    assert [target for target in inside if not (ROOT / target).exists()] == []
