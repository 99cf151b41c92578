"""Generated jets in the layouts of public data sets, read back with the field's own libraries.

All files are written once, by the command line. Units are shrunk to 20 jets, so that 40 jets are two of them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import uproot

import pyrino as rino
from pyrino import RinoError
from pyrino.cli import main
from pyrino.data.energyflow import MASSES
from pyrino.generate import DOMAINS, LAYOUTS, generate, writing
from pyrino.generate.clustering import FoundJets, n_subjettiness
from pyrino.generate.domains import ImpactParameters
from pyrino.generate.layouts.base import GeneratedJets
from pyrino.generate.layouts.jetclass2 import qcd_label
from pyrino.generate.layouts.rs3l import jet_types
from pyrino.generate.particles import Particles, cartesian
from pyrino.generate.truth import Record, impact_parameters, inside, nearest, truth_of

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pythia8mc") is None, reason="needs the package pythia8mc")

UNIT, JETS, SEED = 20, 40, 3
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
#: (layout, process) -> the files of 40 jets, as the data sets name them.
FILES = {
    ("jetclass", "qcd"): ["ZJetsToNuNu_000.root"],
    ("jetclass", "top"): ["TTBar_000.root"],
    ("jetclass2", "qcd"): ["QCD_0000.parquet"],
    ("jetnet", "qcd"): ["g.hdf5", "q.hdf5"],
    ("jetnet", "top"): ["t.hdf5"],
    ("landscape", "qcd"): ["train.h5"],
    ("landscape", "top"): ["train.h5"],
    ("energyflow", "qcd"): ["QG_jets.npz"],
    ("aspen", "qcd"): ["RunG_batch0.h5"],
    ("rs3l", "qcd"): ["rs3l_0.h5"],
    ("jetnet", "gluon"): ["g.hdf5"],
    ("jetnet", "quark"): ["q.hdf5"],
    ("jetnet", "w"): ["w.hdf5"],
    ("jetnet", "z"): ["z.hdf5"],
    ("jetclass", "gluon"): ["ZJetsToNuNu_000.root"],
    ("jetclass", "z"): ["ZToQQ_000.root"],
    ("jetclass2", "gluon"): ["QCD_0000.parquet"],
    ("landscape", "gluon"): ["train.h5"],
    ("energyflow", "quark"): ["QG_jets.npz"],
    ("aspen", "z"): ["RunG_batch0.h5"],
    ("rs3l", "quark"): ["rs3l_0.h5"],
}


@pytest.fixture(scope="module", autouse=True)
def small_units() -> Iterator[None]:
    """Units of 20 jets, each of them a piece of its own for the writers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, domain in list(DOMAINS.items()):
            small = dataclasses.replace(domain, unit_jets=UNIT, overlay_pool=30, batch_events=10)
            patch.setitem(DOMAINS, name, small)
        patch.setattr(writing, "_UNITS_AT_ONCE", 1)
        yield


def command(layout: str, process: str, out: Path, *, jets: int = JETS, seed: int = SEED) -> int:
    arguments = ["--layout", layout, "--process", process, "--jets", jets, "--seed", seed, "--out", out, "--workers", 1]
    return main(["generate", *map(str, arguments)])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, small_units: None) -> Path:
    """One folder per process; the layouts of one domain share their units there."""
    folder = tmp_path_factory.mktemp("layouts")
    for layout, process in FILES:
        assert command(layout, process, folder / process) == 0
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, small_units: None) -> dict[tuple[str, str], rino.Jets]:
    """The same jets in pyrino's own layout, by domain and process."""
    folder = tmp_path_factory.mktemp("plain")
    wanted = {(LAYOUTS[layout].domain, process) for layout, process in FILES if process in ("qcd", "top")}
    wanted |= {("collisions", "z")}
    columns = ["jet_pt", "jet_eta", "jet_phi", "jet_sdmass", "part_charge"]
    return {
        key: rino.read_jets(generate(*key, JETS, SEED, folder, workers=1, progress=False), columns=columns)
        for key in sorted(wanted)
    }


def paths_of(out: Path, layout: str, process: str) -> list[Path]:
    return [out / process / name for name in FILES[layout, process]]


def units_of(out: Path, layout: str, process: str = "qcd") -> GeneratedJets:
    """What the writer was given."""
    name = f"{LAYOUTS[layout].domain}_{process}_{LAYOUTS[layout].kind}_s{SEED}_*.parquet"
    return GeneratedJets.of(
        pq.ParquetDataset(sorted((out / process / writing.UNITS_FOLDER).glob(name))).read(), process, 0
    )


# --- all layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "process"), FILES)
def test_files_have_the_names_of_the_data_set_and_are_recognised(
    out: Path, layout: str, process: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in paths_of(out, layout, process):
        assert rino.data.layout_of(rino.data.Source(path)).name == layout
        assert main(["info", str(path)]) == 0
        assert f" {layout} " in capsys.readouterr().out.splitlines()[0]
    total = sum(len(rino.read_jets(path)) for path in paths_of(out, layout, process))
    assert total == JETS


@pytest.mark.parametrize("layout", ["jetclass", "jetclass2", "landscape", "aspen"])
def test_momenta_are_those_of_the_plain_jets(out: Path, plain: dict[tuple[str, str], rino.Jets], layout: str) -> None:
    expected = plain["collisions", "qcd"]
    read = rino.read_jets(paths_of(out, layout, "qcd"))
    np.testing.assert_array_equal(read.offsets, expected.offsets)
    np.testing.assert_array_equal(read.p4, expected.p4)


def test_tops_are_those_of_the_plain_jets(out: Path, plain: dict[tuple[str, str], rino.Jets]) -> None:
    expected = plain["collisions", "top"]
    for layout, label in (("jetclass", LABELS.index("Tbqq")), ("landscape", 1)):
        read = rino.read_jets(paths_of(out, layout, "top"))
        np.testing.assert_array_equal(read.p4, expected.p4)
        assert read.labels.tolist() == [label] * JETS
    assert set(rino.read_jets(paths_of(out, "landscape", "qcd")).labels) == {0}


def test_jets_of_bosons_are_those_of_the_plain_jets(out: Path, plain: dict[tuple[str, str], rino.Jets]) -> None:
    for layout in ("jetclass", "aspen"):
        np.testing.assert_array_equal(rino.read_jets(paths_of(out, layout, "z")).p4, plain["collisions", "z"].p4)


@pytest.mark.parametrize(
    ("layout", "process", "numbers", "names"),
    [
        ("jetnet", "gluon", {0}, ["g"]),
        ("jetnet", "quark", {1}, ["q"]),
        ("jetnet", "top", {2}, ["t"]),
        ("jetnet", "w", {3}, ["w"]),
        ("jetnet", "z", {4}, ["z"]),
        ("jetclass", "gluon", {0}, ["QCD"]),
        ("jetclass", "z", {6}, ["Zqq"]),
        ("landscape", "gluon", {0}, ["QCD"]),
        ("energyflow", "quark", {1}, ["quark"]),
        ("rs3l", "quark", {1}, ["q"]),
        ("jetclass2", "gluon", set(range(161, 188)), None),
    ],
)
def test_labels_are_the_numbers_and_names_of_the_data_set(
    out: Path, layout: str, process: str, numbers: set[int], names: list[str] | None
) -> None:
    paths = paths_of(out, layout, process)
    assert set(rino.read_jets(paths).labels) <= numbers
    if names:
        assert len(rino.read_jets(paths, label=names)) == JETS


@pytest.mark.parametrize(
    ("process", "codes"), [("gluon", {21}), ("quark", {1, 2, 3, -1, -2, -3}), ("w", {24, -24}), ("z", {23})]
)
def test_jets_are_of_what_the_process_is_named_after(out: Path, process: str, codes: set[int]) -> None:
    units = units_of(out, "jetnet", process)
    assert set(units["truth_pdg"]) <= codes
    px, py, pz, energy = (units[f"truth_{name}"].astype(float) for name in ("px", "py", "pz", "energy"))
    turn = np.remainder(np.arctan2(py, px) - units["jet_phi"] + np.pi, 2 * np.pi) - np.pi
    assert np.hypot(np.arcsinh(pz / np.hypot(px, py)) - units["jet_eta"], turn).max() < 0.8
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0))
    assert np.median(mass) == pytest.approx({"w": 80.4, "z": 91.2}.get(process, 0.0), abs=1.5)


def test_files_of_jetclass_are_named_by_process() -> None:
    stems = {"qcd": "ZJetsToNuNu", "quark": "ZJetsToNuNu", "gluon": "ZJetsToNuNu"}
    for process, stem in (stems | {"top": "TTBar", "w": "WToQQ", "z": "ZToQQ"}).items():
        (part,) = LAYOUTS["jetclass"].parts(process, DOMAINS["collisions"])
        assert part.name(7) == f"{stem}_007.root"


def test_jetclass_has_the_boson_in_its_auxiliary_columns(out: Path) -> None:
    with uproot.open(paths_of(out, "jetclass", "z")[0]) as file:
        arrays = file["tree"].arrays(filter_name=["aux_*", "jet_pt"])
    assert ak.all(arrays["aux_genpart_pid"] == 23) and ak.all(arrays["aux_truth_match"] == 1)
    np.testing.assert_allclose(np.median(arrays["aux_genpart_pt"] / arrays["jet_pt"]), 1, atol=0.1)
    with uproot.open(paths_of(out, "jetclass", "gluon")[0]) as file:
        assert not any(ak.any(file["tree"][f"aux_{name}"].array() != 0) for name in ("genpart_pid", "truth_match"))


def test_a_second_call_writes_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    before = [path.stat().st_mtime_ns for path in files]
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a worker was started"))
    for layout, process in FILES:
        assert command(layout, process, out / process, jets=JETS - 1) == 0
        name = FILES[layout, process]
        assert f"{len(name)} file" in capsys.readouterr().out
    assert sorted(path for path in out.rglob("*") if path.is_file()) == files
    assert [path.stat().st_mtime_ns for path in files] == before


# --- one by one -----------------------------------------------------------------------------------------------------


def test_jetclass_is_a_tree_of_float_lists_in_lz4(out: Path, plain: dict[tuple[str, str], rino.Jets]) -> None:
    names = {"px", "py", "pz", "energy", "deta", "dphi", "d0val", "d0err", "dzval", "dzerr", "charge", *FLAGS}
    scalars = {f"jet_{name}" for name in ("pt", "eta", "phi", "energy", "nparticles", "sdmass")}
    scalars |= {f"jet_tau{n}" for n in (1, 2, 3, 4)} | {f"label_{name}" for name in LABELS}
    scalars |= {f"aux_{name}" for name in ("genpart_eta", "genpart_phi", "genpart_pid", "genpart_pt", "truth_match")}
    for process in ("qcd", "top"):
        with uproot.open(paths_of(out, "jetclass", process)[0]) as file:
            tree = file["tree"]
            assert file.file.compression == uproot.LZ4(4)
            assert tree["part_isMuon"].compressed_bytes < 0.5 * tree["part_isMuon"].uncompressed_bytes
            types = {branch.name: branch.typename for branch in tree.branches}
            arrays = tree.arrays()
        assert set(types) == {"npart", *scalars, *(f"part_{name}" for name in names)}  # npart is ROOT's own counter
        assert {types[f"part_{name}"] for name in names} == {"float[]"}
        assert {types[name] for name in scalars if not name.startswith("label_")} == {"float"}
        one = "label_QCD" if process == "qcd" else "label_Tbqq"
        assert all(ak.all(arrays[f"label_{name}"] == (f"label_{name}" == one)) for name in LABELS)
        expected = plain["collisions", process]
        np.testing.assert_array_equal(arrays["jet_pt"], expected.values["jet_pt"])
        np.testing.assert_array_equal(arrays["jet_nparticles"], expected.multiplicity)
        flags = sum(arrays[f"part_{flag}"] for flag in FLAGS)
        assert ak.all(flags == 1)

        charged = arrays["part_charge"] != 0
        errors = ak.to_numpy(ak.flatten(arrays["part_d0err"][charged]))
        d0 = ak.to_numpy(ak.flatten(arrays["part_d0val"][charged]))
        assert all(ak.all(arrays[f"part_{name}"][~charged] == 0) for name in ("d0val", "d0err", "dzval", "dzerr"))
        assert errors.min() >= 0.01 and errors.max() < 1.0  # mm
        # Prompt tracks scatter by their resolution; those of b and c hadrons lie further out.
        assert 0.5 < np.median(np.abs(d0) / errors) < 1.2 and np.abs(d0 / errors).max() > 5.0

        taus = np.stack([ak.to_numpy(arrays[f"jet_tau{n}"]) for n in (1, 2, 3, 4)])
        assert (taus >= 0).all() and (taus < 1).all() and (taus[0] >= taus[3]).all() and taus[0].min() > 0
        if process == "qcd":
            assert all(ak.all(arrays[f"aux_{n}"] == 0) for n in ("genpart_pt", "genpart_pid", "truth_match"))
        else:
            assert ak.all(np.abs(arrays["aux_genpart_pid"]) == 6) and ak.all(arrays["aux_truth_match"] == 1)
            turn = np.angle(np.exp(1j * ak.to_numpy(arrays["aux_genpart_phi"] - arrays["jet_phi"])))
            assert np.hypot(arrays["aux_genpart_eta"] - arrays["jet_eta"], turn).to_numpy().max() < 0.8


def test_jetclass2_has_the_schema_of_the_real_file(out: Path, jetclass2_file: Path) -> None:
    path = paths_of(out, "jetclass2", "qcd")[0]
    ours, theirs = pq.read_schema(path), pq.read_schema(jetclass2_file)
    assert ours.remove_metadata().equals(theirs.remove_metadata())
    for file in (path, jetclass2_file):
        assert pq.read_metadata(file).row_group(0).column(0).compression == "ZSTD"


def test_jetclass2_has_generated_jets_and_quarks_of_the_same_jets(out: Path) -> None:
    jets = ak.from_parquet(paths_of(out, "jetclass2", "qcd")[0])
    assert ak.all((jets.jet_label >= 161) & (jets.jet_label <= 187))
    quarks = np.abs(jets.aux_genpart_pid)
    found = [np.minimum(ak.to_numpy(ak.sum(quarks == code, axis=1)), 2) for code in (5, 4, 3)]
    assert jets.jet_label.tolist() == (187 - 9 * found[0] - 3 * found[1] - found[2]).tolist()
    assert ak.all(jets.aux_genpart_isQcdParton) and ak.all(jets.aux_genpart_pt > 10) and ak.all(quarks <= 5)
    matched = jets[jets.genjet_nparticles > 0]
    assert len(matched) > 0.9 * JETS
    assert ak.all(ak.num(matched.genpart_px) == matched.genjet_nparticles)
    px, py, e = (ak.sum(matched[f"genpart_{c}"], axis=1) for c in ("px", "py", "energy"))
    np.testing.assert_allclose(matched.genjet_pt, np.hypot(px, py), rtol=1e-5)
    np.testing.assert_allclose(matched.genjet_energy, e, rtol=1e-5)
    np.testing.assert_allclose(matched.genjet_pt, matched.jet_pt, rtol=0.35)  # the detector's resolution and losses
    # As in the real file the angles are relative to the detector's jet, mirrored to positive eta.
    eta = np.arcsinh(matched.genpart_pz / np.hypot(matched.genpart_px, matched.genpart_py))
    deta = (eta - matched.jet_eta) * np.where(matched.jet_eta < 0, -1, 1)
    np.testing.assert_allclose(ak.flatten(deta), ak.flatten(matched.genpart_jet_deta), rtol=0, atol=1e-5)


@pytest.mark.parametrize("process", ["qcd", "top"])
def test_jetnet_is_padded_massless_and_relative(
    out: Path, plain: dict[tuple[str, str], rino.Jets], process: str
) -> None:
    expected = plain["simulation", process]
    jets = {}
    for path in paths_of(out, "jetnet", process):
        with h5py.File(path) as file:
            assert set(file) == {"particle_features", "jet_features"}
            particles, features = file["particle_features"][()], file["jet_features"][()]
        assert particles.dtype == features.dtype == np.float32
        assert particles.shape[1:] == (30, 4) and features.shape[1:] == (4,)
        mask = particles[..., 3]
        assert set(np.unique(mask)) <= {0, 1} and (np.diff(mask, axis=1) <= 0).all()
        assert not particles[mask == 0].any()
        np.testing.assert_array_equal(mask.sum(axis=1), features[:, 3])
        jets |= {float(row[0]): (block, row) for block, row in zip(particles, features, strict=True)}
    assert len(jets) == JETS
    for j in range(JETS):
        block, (pt, eta, mass, number) = jets[float(expected.values["jet_pt"][j])]
        parts = expected[j : j + 1].constituents
        assert number == len(parts.pt)
        block = block[: int(number)].astype(float)
        np.testing.assert_allclose(block[:, 2] * pt, parts.pt, rtol=1e-6)
        np.testing.assert_allclose(block[:, 0] + eta, parts.eta, rtol=0, atol=1e-6)
        turn = parts.phi - expected.values["jet_phi"][j] - block[:, 1]
        np.testing.assert_allclose(np.sin(turn / 2), 0, atol=1e-6)
        assert 0 < mass < 0.5 * pt
    labels = set(rino.read_jets(paths_of(out, "jetnet", process)).labels)
    assert labels == ({0, 1} if process == "qcd" else {2})


def test_jetnet_parts_quark_and_gluon_jets_by_their_parton(out: Path) -> None:
    units = units_of(out, "jetnet")
    for name, gluon in (("g.hdf5", True), ("q.hdf5", False)):
        with h5py.File(out / "qcd" / name) as file:
            pt = file["jet_features"][:, 0]
        np.testing.assert_array_equal(pt, units["jet_pt"][(units["truth_pdg"] == 21) == gluon])


def test_jetnet_has_150_constituents_in_a_domain_without_a_limit(out: Path) -> None:
    (path,) = generate("collisions", "top", JETS, SEED, out / "top", layout="jetnet", workers=1, progress=False)
    assert path.name == "t150.hdf5"
    with h5py.File(path) as file:
        assert file["particle_features"].shape == (JETS, 150, 4)
        assert file["jet_features"][:, 3].max() > 30


@pytest.mark.parametrize("process", ["qcd", "top"])
def test_landscape_is_a_table_of_pandas(out: Path, plain: dict[tuple[str, str], rino.Jets], process: str) -> None:
    (path,) = paths_of(out, "landscape", process)
    table = pd.read_hdf(path, key="table")
    momenta = [f"{axis}_{i}" for i in range(200) for axis in ("E", "PX", "PY", "PZ")]
    truth = [f"truth{axis}" for axis in ("E", "PX", "PY", "PZ")]
    assert table.columns.tolist() == [*momenta, *truth, "ttv", "is_signal_new"]
    assert table.index.tolist() == list(range(JETS))
    assert {str(kind) for kind in table.dtypes[:-2]} == {"float32"}
    assert {str(kind) for kind in table.dtypes[-2:]} == {"int64"}
    block = table[momenta].to_numpy().reshape(JETS, 200, 4)
    expected = plain["collisions", process]
    for j, count in enumerate(expected.multiplicity):
        np.testing.assert_array_equal(block[j, :count][:, [1, 2, 3, 0]], expected[j : j + 1].p4)
        assert not block[j, count:].any()
    energy, px, py, pz = table[truth].to_numpy().astype(float).T
    if process == "qcd":
        assert not energy.any() and not table["is_signal_new"].any()
    else:
        mass = np.sqrt(energy**2 - px**2 - py**2 - pz**2)
        assert table["is_signal_new"].all() and np.abs(mass - 172.5).max() < 30
    with h5py.File(path) as file:
        fields = file["table/table"]
        assert fields.dtype["values_block_0"].shape == (804,) and fields.dtype["values_block_1"].shape == (2,)
        assert fields.id.get_create_plist().get_filter(0)[0] == hdf5plugin.BLOSC_ID


def test_energyflow_has_rapidities_of_massive_particles(out: Path, plain: dict[tuple[str, str], rino.Jets]) -> None:
    (path,) = paths_of(out, "energyflow", "qcd")
    with np.load(path) as file:
        assert set(file.files) == {"X", "y"}
        particles, labels = file["X"], file["y"]
    expected = plain["simulation-wide", "qcd"]
    assert particles.dtype == np.float64 and particles.shape == (JETS, expected.multiplicity.max(), 4)
    here = particles[..., 0] > 0
    np.testing.assert_array_equal(here.sum(axis=1), expected.multiplicity)
    assert not particles[~here].any()
    pt, rapidity, phi, pid = particles[here].T
    assert {211, -211, 22, 130} <= set(pid)
    mass = np.array([MASSES[abs(int(code))] for code in pid])
    mt = np.hypot(pt, mass)
    momenta = np.stack([pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(rapidity)], axis=1)
    np.testing.assert_allclose(momenta, expected.p4[:, :3], rtol=1e-9, atol=1e-9)
    axis = np.repeat(expected.values["jet_phi"], expected.multiplicity)
    assert np.abs(phi - axis).max() <= math.pi
    np.testing.assert_array_equal(labels, units_of(out, "energyflow")["truth_pdg"] != 21)
    assert set(labels) == {0.0, 1.0}
    read = rino.read_jets(path)
    np.testing.assert_allclose(read.p4[:, :3], expected.p4[:, :3], rtol=1e-9, atol=1e-9)


def test_aspen_has_the_candidates_of_cms(out: Path, plain: dict[tuple[str, str], rino.Jets]) -> None:
    expected = plain["collisions", "qcd"]
    with h5py.File(paths_of(out, "aspen", "qcd")[0]) as file:
        shapes = {"event_info": (JETS, 3), "jet_kinematics": (JETS, 4), "PFCands": (JETS, 150, 11)}
        assert {name: data.shape for name, data in file.items()} == shapes | {"jet_tagging": (JETS, 13)}
        assert file["event_info"].dtype == np.int64 and file["event_info"].compression is None
        for name in ("jet_kinematics", "PFCands", "jet_tagging"):
            assert file[name].dtype == np.float32 and file[name].compression == "gzip"
            assert file[name].maxshape[0] is None
        events, jets, candidates, tagging = (file[name][()] for name in (*shapes, "jet_tagging"))
    for i, name in enumerate(("jet_pt", "jet_eta", "jet_phi", "jet_sdmass")):
        np.testing.assert_array_equal(jets[:, i], expected.values[name])
    here = candidates[..., 3] > 0
    np.testing.assert_array_equal(here.sum(axis=1), expected.multiplicity)
    np.testing.assert_array_equal(tagging[:, 0], expected.multiplicity)
    assert (tagging[:, 1] > 0).all() and not tagging[:, 5:].any()
    assert not candidates[~here].any()
    inner = candidates[here]
    np.testing.assert_array_equal(inner[:, :4], expected.p4)
    np.testing.assert_array_equal(inner[:, 8], expected.extras["part_charge"])
    assert set(np.abs(inner[:, 9])) <= {11, 13, 22, 130, 211} and (inner[:, 10] == 1).all()
    np.testing.assert_allclose(10 * inner[:, 4], units_of(out, "aspen")["part_d0val"], rtol=1e-6)  # cm and mm
    assert (events[:, 0] == 1).all() and events[:, 1].tolist() == [1] * UNIT + [2] * UNIT
    # Two jets of an event are back to back.
    same = np.flatnonzero((np.diff(events, axis=0) == 0).all(axis=1))
    assert len(same) > 3
    turn = np.remainder(jets[same, 2] - jets[same + 1, 2], 2 * np.pi) - np.pi
    assert np.median(np.abs(turn)) < 0.3


def test_rs3l_holds_five_showers_of_each_parton(out: Path) -> None:
    with h5py.File(paths_of(out, "rs3l", "qcd")[0]) as file:
        jets, candidates = (file[name][()] for name in ("singletons", "jet_pflow_cands"))
        assert file["jet_pflow_cands"].compression == "gzip"
    assert jets.shape == (JETS, 5, 15) and candidates.shape == (JETS, 5, 11, 100)
    assert jets.dtype == candidates.dtype == np.float32
    assert set(jets[..., 0].ravel()) <= {1, 2, 3, 5, 6, 7, 8} and {1, 8} <= set(jets[..., 0].ravel())
    np.testing.assert_array_equal(jets[:, :1, :5] - jets[:, :, :5], 0)  # type and parton are those of all showers
    assert len(np.unique(jets[..., 9])) == 5 * JETS  # and no jet is another
    for column in (9, 12):
        ratio = jets[:, 1:, column] / jets[:, :1, column]
        assert np.median(np.abs(np.log(ratio))) < 0.5
    turn = np.remainder(jets[..., 11] - jets[..., 3] + np.pi, 2 * np.pi) - np.pi
    assert np.hypot(jets[..., 10] - jets[..., 2], turn).max() < 0.8  # from the hard parton, in every shower
    assert ((jets[:, 0, 9] > 500) & (jets[:, 0, 9] < 1000)).all() and (jets[..., 9] > 250).all()

    ln_pt, ln_relpt, eta, phi, dr, ln_e, ln_rele, charge, pid, d0, _ = np.moveaxis(candidates.astype(float), 2, 0)
    here = (ln_pt != 0) | (ln_e != 0)
    assert (np.diff(here.astype(int), axis=-1) <= 0).all() and not np.moveaxis(candidates, 2, -1)[~here].any()
    axis = [np.broadcast_to(jets[..., i, None], here.shape)[here].astype(float) for i in (9, 10, 12)]
    np.testing.assert_allclose(np.exp(ln_pt[here] - ln_relpt[here]), axis[0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(ln_e[here] - ln_rele[here]), axis[2], rtol=1e-5)
    np.testing.assert_allclose(np.hypot(eta, phi), dr, atol=1e-6)
    assert dr.max() < 1.0
    assert set(np.abs(pid[here])) <= {0, 11, 13, 22, 211}
    np.testing.assert_array_equal(charge[here] != 0, ~np.isin(pid[here], (0, 22)))
    assert (np.abs(d0) <= 1).all()
    # Momenta of all candidates together make up the jets that have no more than 100.
    total, whole = np.where(here, np.exp(ln_e), 0).sum(axis=-1), here.sum(axis=-1) < 100
    assert whole.mean() > 0.9
    np.testing.assert_allclose(total[whole], jets[..., 12][whole], rtol=1e-4)
    for layout in ("rs3l", "rs3l:fsr_up"):
        assert len(rino.read_jets(paths_of(out, "rs3l", "qcd"), layout=layout)) == JETS


def test_nominal_jets_of_rs3l_are_among_the_plain_ones(out: Path, plain: dict[tuple[str, str], rino.Jets]) -> None:
    pt = units_of(out, "rs3l")["jet_pt"].reshape(JETS, 5)
    known = plain["collisions", "qcd"].values["jet_pt"].astype(np.float32)
    assert np.isin(known[:UNIT], pt[:UNIT, 0]).mean() > 0.5  # the others were lost in one of the showers
    assert not np.isin(pt[:, 1:], known).any()


# --- requests and files ---------------------------------------------------------------------------------------------


def test_one_file_may_be_named_and_grows(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "some.h5"
    assert command("aspen", "qcd", file, jets=UNIT - 5) == 0
    assert len(rino.read_jets(file)) == UNIT - 5
    assert sorted(path.name for path in file.parent.iterdir()) == [writing.UNITS_FOLDER, "some.h5"]
    assert command("aspen", "qcd", file, jets=UNIT + 5) == 0
    whole = rino.read_jets(paths_of(out, "aspen", "qcd"))
    assert rino.read_jets(file) == whole[: UNIT + 5]
    inside_it = file.parent / writing.UNITS_FOLDER / "some.h5.json"
    assert json.loads(inside_it.read_text())["last"] == UNIT + 5


def test_the_units_of_one_layout_serve_another(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a worker was started"))
    assert command("landscape", "qcd", out / "qcd" / "again.h5") == 0
    assert rino.read_jets(out / "qcd" / "again.h5") == rino.read_jets(paths_of(out, "landscape", "qcd"))


def test_many_jets_go_into_several_files(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(LAYOUTS["energyflow"], jets_per_file=15)
    monkeypatch.setitem(LAYOUTS, "energyflow", small)
    for name in ("QG_jets.npz", f"{writing.UNITS_FOLDER}/QG_jets.npz.json"):
        (out / "qcd" / name).rename(out / "qcd" / f"{name}.kept")
    try:
        paths = generate(None, "qcd", JETS, SEED, out / "qcd", layout="energyflow", workers=1, progress=False)
        assert [path.name for path in paths] == ["QG_jets.npz", "QG_jets_1.npz", "QG_jets_2.npz"]
        with np.load(out / "qcd" / "QG_jets.npz.kept") as kept:
            expected = kept["y"]
        np.testing.assert_array_equal(np.concatenate([np.load(path)["y"] for path in paths]), expected)
        assert [len(rino.read_jets(path)) for path in paths] == [15, 15, 10]
    finally:
        for name in ("QG_jets.npz", f"{writing.UNITS_FOLDER}/QG_jets.npz.json"):
            (out / "qcd" / f"{name}.kept").replace(out / "qcd" / name)


def test_files_of_another_request_and_of_others_are_not_overwritten(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("jetclass", "qcd", out / "qcd", seed=4) == 2
    assert "ZJetsToNuNu_000.root exists but was generated with another configuration (seed: 3 in the file, 4 now)" in (
        capsys.readouterr().err
    )
    assert command("landscape", "top", out / "qcd") == 2
    assert "train.h5 exists but was generated with another configuration (process: 'qcd'" in capsys.readouterr().err
    (tmp_path / "train.h5").write_text("mine")
    assert command("landscape", "qcd", tmp_path) == 2
    assert "train.h5 exists but was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "train.h5").read_text() == "mine"


def test_a_file_that_was_changed_is_not_overwritten_and_one_that_was_deleted_comes_back(out: Path) -> None:
    (path,) = paths_of(out, "aspen", "qcd")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(RinoError, match=r"RunG_batch0.h5 exists but has changed since it was written"):
        generate(None, "qcd", JETS, SEED, out / "qcd", layout="aspen", progress=False)
    path.unlink()
    assert generate(None, "qcd", JETS, SEED, out / "qcd", layout="aspen", progress=False) == [path]
    assert len(rino.read_jets(path)) == JETS


def test_an_interruption_leaves_no_file_and_the_next_call_goes_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = out / "qcd" / "interrupted.root"

    def stopped(where: Path, pieces: Iterator[GeneratedJets], domain: object) -> None:
        where.write_bytes(b"root")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(LAYOUTS, "jetclass", dataclasses.replace(LAYOUTS["jetclass"], write=stopped))
        with pytest.raises(KeyboardInterrupt):
            generate(None, "qcd", JETS, SEED, path, layout="jetclass", progress=False)
    assert not [file for file in path.parent.iterdir() if "interrupted" in file.name]
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a worker was started"))
    assert generate(None, "qcd", JETS, SEED, path, layout="jetclass", progress=False) == [path]


@pytest.mark.parametrize(
    ("layout", "process", "name", "message"),
    [
        (
            "jetclas",
            "qcd",
            "a",
            "unknown layout 'jetclas': did you mean 'jetclass'? known are jetclass-parquet, jetclass",
        ),
        ("packed", "qcd", "a", "unknown layout 'packed'"),
        ("jetclass2", "top", "a", "'top' cannot be written as jetclass2: JetClass-II has no class of top jets"),
        ("energyflow", "top", "a", "'top' cannot be written as energyflow"),
        ("rs3l", "top", "a", "'top' cannot be written as rs3l"),
        ("jetclass2", "w", "a", "'w' cannot be written as jetclass2: JetClass-II has resonances of all masses"),
        ("energyflow", "z", "a", "'z' cannot be written as energyflow: its files hold jets of quarks and gluons"),
        ("landscape", "w", "a", "'w' cannot be written as landscape: its files hold jets of QCD and of tops"),
        ("rs3l", "z", "a", "'z' cannot be written as rs3l: pyrino showers only jets of quarks and gluons again"),
        ("jetclass", "qcd", "a.h5", "a.h5 ends in .h5, but files of the layout jetclass end in .root"),
    ],
)
def test_what_cannot_be_is_refused(
    layout: str, process: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(layout, process, tmp_path / name) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tables" else found(name))
    with pytest.raises(RinoError, match=r"writing the layout landscape needs the package tables: .*pyrino\[generate\]"):
        generate(None, "qcd", 5, 1, tmp_path, layout="landscape")
    assert not list(tmp_path.iterdir())


def test_every_layout_has_a_reader_of_the_same_name() -> None:
    assert set(LAYOUTS) < set(rino.data.layouts())
    assert all(layout.domain in DOMAINS for layout in LAYOUTS.values())


# --- physics --------------------------------------------------------------------------------------------------------


def test_n_subjettiness_is_that_of_its_definition() -> None:
    prongs = cartesian(np.array([300.0, 200.0, 100.0]), np.array([0.0, 0.4, -0.3]), np.array([3.1, -3.1, 2.9]), 0.0)
    rng = np.random.default_rng(1)
    soft = cartesian(rng.uniform(1, 5, 20), rng.normal(0, 0.3, 20), rng.normal(3.0, 0.2, 20), 0.0)
    p4 = np.concatenate([prongs, prongs, soft, prongs[:1]])
    taus = n_subjettiness(p4, np.array([3, 23, 1]), 0.8)

    def by_definition(rows: np.ndarray, number: int) -> float:
        """Winner-take-all kT by hand: pairs merge into the pT sum along the harder one."""
        pt, eta = np.hypot(rows[:, 0], rows[:, 1]), np.arcsinh(rows[:, 2] / np.hypot(rows[:, 0], rows[:, 1]))
        phi = np.arctan2(rows[:, 1], rows[:, 0])
        axes = np.stack([pt, eta, phi], axis=1).tolist()

        def distance(a: list[float], b: list[float]) -> float:
            return math.hypot(a[1] - b[1], math.remainder(a[2] - b[2], 2 * math.pi))

        while len(axes) > number:
            pairs = [(i, k) for i in range(len(axes)) for k in range(i)]
            i, k = min(pairs, key=lambda p: min(axes[p[0]][0], axes[p[1]][0]) * distance(axes[p[0]], axes[p[1]]))
            hard, easy = sorted((axes[i], axes[k]), reverse=True)
            axes = [a for n, a in enumerate(axes) if n not in (i, k)] + [[hard[0] + easy[0], *hard[1:]]]
        near = [min(distance([0, e, f], axis) for axis in axes) for e, f in zip(eta, phi, strict=True)]
        return float((pt * near).sum() / (0.8 * pt.sum()))

    for row, jet in ((0, p4[:3]), (1, p4[3:26])):
        for number in range(1, min(4, len(jet) - 1) + 1):
            assert taus[row, number - 1] == pytest.approx(by_definition(jet, number), rel=1e-6)
    assert taus[0, 2:].tolist() == [0, 0] and not taus[2].any()


def test_impact_parameters_are_the_distance_to_the_beam() -> None:
    #                  along x, through (0, 1, 5)    neutral     at 45 degrees, up
    p4 = cartesian(np.array([10.0, 10.0, 2.0]), np.array([0.0, 0.0, 0.5]), np.array([0.0, 0.0, np.pi / 4]), 0.0)
    vertex = np.array([[3.0, 1.0, 5.0, 0.0], [3.0, 1.0, 5.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    particles = Particles(np.zeros(3, np.int64), p4, np.array([211, 22, 11]), np.array([1, 0, -1]), vertex)
    exact = impact_parameters(particles, None, np.random.default_rng(0))
    root = math.sqrt(0.5)
    assert exact["part_d0val"] == pytest.approx([-1.0, 0.0, 2 * root])
    assert exact["part_dzval"] == pytest.approx([5.0, 0.0, -2 * root * math.sinh(0.5)], rel=1e-6)
    assert not exact["part_d0err"].any() and not exact["part_dzerr"].any()

    n = 20_000
    many = Particles(*(np.repeat(v, n, axis=0) for v in (particles.event, p4, particles.pdg, particles.charge, vertex)))
    seen = impact_parameters(many, ImpactParameters(), np.random.default_rng(1))
    for name in ("d0", "dz"):
        pull = (seen[f"part_{name}val"] - np.repeat(exact[f"part_{name}val"], n)).reshape(3, n)[[0, 2]]
        pull /= seen[f"part_{name}err"].reshape(3, n)[[0, 2]]
        assert np.abs(pull.mean()) < 0.02 and pull.std() == pytest.approx(1.0, abs=0.02)
    assert seen["part_d0err"][0] == pytest.approx(0.010 + 0.075 / 10.0)
    assert not seen["part_d0val"].reshape(3, n)[1].any()


def test_partons_branchings_and_quarks_are_found_in_the_record() -> None:
    # Rows of one event: collision, beams, two incoming gluons, g and b outgoing, a copy of the gluon, its c and cbar,
    # their copies before hadronisation and that of the b, and a hadron.
    pdg = [90, 2212, 2212, 21, 21, 21, 5, 21, 4, -4, 4, -4, 5, 211]
    status = [-11, -12, -12, -21, -21, -23, -23, -52, -51, -51, -71, -71, -71, 83]
    mother = [0, 0, 0, 1, 2, 3, 3, 5, 7, 7, 8, 9, 6, 10]
    daughters = np.zeros((14, 2), np.int64)
    daughters[[5, 6, 7, 8, 9]] = [[7, 7], [12, 12], [8, 9], [10, 10], [11, 11]]
    p4 = cartesian(np.linspace(100, 113, 14), np.zeros(14), np.linspace(0, 1.3, 14), 0.0)
    event = np.zeros(14, np.int64)
    truth = truth_of(
        Record(event, np.array(pdg, np.int32), np.array(status, np.int32), p4, event[:1], np.array(mother), daughters)
    )
    assert truth.hard.pdg.tolist() == [21, 5] and truth.branching.tolist() == [4, 0]
    assert truth.quarks.pdg.tolist() == [4, -4, 5]
    jets = FoundJets(np.array([0, 1]), p4[[5, 5]], np.arange(2), np.ones(2, np.int64))
    assert nearest(jets, truth.hard, 0.3).tolist() == [0, -1]  # the second jet is of another event
    assert [part.tolist() for part in inside(jets, truth.quarks, 0.55, 10.0)] == [[0], [0]]
    assert [part.tolist() for part in inside(jets, truth.quarks, 0.55, 500.0)] == [[], []]


def test_labels_of_qcd_follow_the_quarks() -> None:
    order = [f"{'b' * b}{'c' * c}{'s' * s}" for b in (2, 1, 0) for c in (2, 1, 0) for s in (2, 1, 0)]
    assert order[:4] == ["bbccss", "bbccs", "bbcc", "bbcss"] and order[-1] == ""
    for number, name in enumerate(order):
        counts = (np.array([name.count(quark)], np.int32) for quark in "bcs")
        assert qcd_label(*counts).tolist() == [161 + number]
    assert qcd_label(*(np.array([n], np.int32) for n in (3, 0, 7))).tolist() == [161 + order.index("bbss")]


def test_jet_types_of_rs3l_follow_parton_and_branching() -> None:
    partons, branchings = [1, -2, 3, -4, 5, 21, 21, 21, 21], [0, 0, 0, 0, 0, 1, 4, 5, 21]
    assert jet_types(np.array(partons), np.array(branchings)).tolist() == [1, 1, 1, 2, 3, 5, 6, 7, 8]
