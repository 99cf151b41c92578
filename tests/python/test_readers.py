"""pyrino.read_jets: every layout as its data set documents it, and every way in which a file can be wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

import pyrino as rino
from pyrino import Jets, RinoError, read_jets
from pyrino.data import JETCLASS_CLASSES, JETNET_CLASSES

MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")


def as_float32(jets: Jets) -> Jets:
    return Jets(jets.p4.astype(np.float32), jets.offsets, jets.labels, jets.extras)


@pytest.fixture(scope="module")
def jets() -> Jets:
    """Toy jets as a float32 file holds them, with a charge; labels are QCD and Tbqq."""
    toy = rino.toy_jets(40, seed=4, top_fraction=0.5, multiplicity_mean=12, multiplicity_std=5)
    charge = np.random.default_rng(0).integers(-1, 2, toy.n_constituents).astype(float)
    labels = np.where(toy.labels == 1, JETCLASS_CLASSES.index("Tbqq"), JETCLASS_CLASSES.index("QCD"))
    return as_float32(toy).with_labels(labels).with_extra("part_charge", charge)


Columns = dict[str, Any]


def columns_of(jets: Jets) -> Columns:
    """Name -> one NumPy array per jet (lists), or an array of one value per jet."""
    cut = jets.offsets[1:-1]
    columns: Columns = {
        name: np.split(part.astype(np.float32), cut)
        for name, part in zip(MOMENTA, (jets.px, jets.py, jets.pz, jets.e), strict=True)
    }
    columns["part_charge"] = np.split(jets.extras["part_charge"].astype(np.float32), cut)
    columns["part_isMuon"] = np.split(jets.extras["part_charge"] > 0, cut)
    columns["jet_pt"] = jets.pt.astype(np.float32)
    for number, name in enumerate(JETCLASS_CLASSES):
        columns[f"label_{name}"] = jets.labels == number
    return columns


def write_parquet(path: Path, columns: Columns, **options: Any) -> Path:
    table = {}
    for name, values in columns.items():
        if isinstance(values, list) and values and isinstance(values[0], np.ndarray):
            values = pa.array([v.tolist() for v in values], pa.list_(pa.from_numpy_dtype(values[0].dtype)))
        table[name] = values
    pq.write_table(pa.table(table), path, **options)
    return path


def write_root(path: Path, columns: Columns, tree: str = "tree") -> Path:
    arrays: Columns = {}
    for name, values in columns.items():
        if isinstance(values, list):
            flat = np.concatenate([np.asarray(v) for v in values])
            if flat.dtype == np.bool_:
                flat = flat.astype(np.float32)
            arrays[name] = ak.unflatten(flat, [len(v) for v in values])
        else:
            arrays[name] = np.asarray(values)
    types = {
        n: f"var * {ak.flatten(a).type.content}" if isinstance(a, ak.Array) else a.dtype for n, a in arrays.items()
    }
    with uproot.recreate(path) as file:
        file.mktree(tree, types)
        if len(next(iter(arrays.values()))):
            file[tree].extend(arrays)
    return path


def jetnet_arrays(n: int = 12, size: int = 30, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """`particle_features` and `jet_features` as JetNet has them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, size + 1, n)
    particles = np.zeros((n, size, 4), dtype=np.float32)
    for j, count in enumerate(counts):
        particles[j, :count, :2] = rng.normal(scale=0.1, size=(count, 2))
        particles[j, :count, 2] = np.sort(rng.dirichlet(np.ones(count)))[::-1]
        particles[j, :count, 3] = 1
    features = np.column_stack([rng.uniform(800, 1200, n), rng.normal(size=n), rng.uniform(50, 150, n), counts])
    return particles, features.astype(np.float32)


def write_jetnet(path: Path, particles: np.ndarray, features: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["particle_features"], file["jet_features"] = particles, features
    return path


Writer = Callable[[Path, Columns], Path]
JETCLASS: dict[str, Writer] = {".parquet": write_parquet, ".root": write_root}


@pytest.fixture(params=JETCLASS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """Writes columns in one of the two containers of JetClass's columns."""
    return lambda columns, stem="jets": JETCLASS[request.param](tmp_path / f"{stem}{request.param}", columns)


# --- each layout ---


def test_jetclass_columns_are_read(write, jets):
    file = write(columns_of(jets))
    assert read_jets(file, columns=["part_charge"]) == jets
    plain = read_jets(str(file))
    assert dict(plain.extras) == {} and plain.p4.dtype == np.float64 and plain.labels.dtype == np.int64


def test_flags_become_extras_of_zeros_and_ones(write, jets):
    read = read_jets(write(columns_of(jets)), columns=["part_isMuon", "part_charge"])
    np.testing.assert_array_equal(read.extras["part_isMuon"], jets.extras["part_charge"] > 0)
    assert set(read.extras) == {"part_isMuon", "part_charge"}


def test_momenta_may_be_asked_for_as_extras_too(write, jets):
    assert read_jets(write(columns_of(jets)), columns="part_px") == read_jets(write(columns_of(jets)))


def test_labels_are_jetclass_numbers_whichever_columns_are_there(write, jets):
    columns = {k: v for k, v in columns_of(jets).items() if not k.startswith("label_")}
    assert read_jets(write(columns)).labels is None
    columns |= {"label_Tbqq": (jets.labels == 8).astype(np.int32), "label_QCD": (jets.labels == 0).astype(np.int32)}
    np.testing.assert_array_equal(read_jets(write(columns)).labels, jets.labels)
    columns["jet_label"] = np.arange(40, dtype=np.int32) + 100
    np.testing.assert_array_equal(read_jets(write(columns)).labels, np.arange(40) + 100)


def test_jetclass_classes_are_in_the_order_of_the_data_set(write, jets):
    expected = ["QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"]
    columns = columns_of(jets[:10])
    columns |= {f"label_{name}": np.arange(10) == number for number, name in enumerate(expected)}
    np.testing.assert_array_equal(read_jets(write(columns)).labels, np.arange(10))


@pytest.mark.parametrize("list_type", [pa.list_, pa.large_list, lambda t: pa.list_(t, 3)])
@pytest.mark.parametrize("number", [pa.float32(), pa.float64()])
def test_all_kinds_of_parquet_lists_are_read(tmp_path, list_type, number):
    rows = rino.toy_jets(5, seed=1, multiplicity_min=3, multiplicity_max=3).p4.astype(np.float32).reshape(5, 3, 4)
    table = {name: pa.array(rows[:, :, c].tolist(), list_type(number)) for c, name in enumerate(MOMENTA)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_jets(tmp_path / "a.parquet").p4, rows.reshape(-1, 4))


def test_jets_across_row_groups_and_chunks_are_in_order(tmp_path, jets, monkeypatch):
    monkeypatch.setattr("pyrino.data.read._ROWS", 7)
    assert read_jets(write_parquet(tmp_path / "a.parquet", columns_of(jets), row_group_size=9)) == read_jets(
        write_root(tmp_path / "a.root", columns_of(jets))
    )
    assert read_jets(tmp_path / "a.parquet", columns=["part_charge"]) == jets
    net = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays())
    whole = read_jets(net)
    monkeypatch.setattr("pyrino.data.read._ROWS", 1000)
    assert read_jets(net) == whole and len(whole) == 12


@pytest.mark.parametrize("suffix", [".hdf5", ".h5"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jetnet_is_read_as_documented(tmp_path, suffix, dtype):
    particles, features = (a.astype(dtype) for a in jetnet_arrays())
    # Constituents need not be the first: the mask says where they are, and padding may hold anything.
    particles = particles[:, np.random.default_rng(1).permutation(30)]
    particles[particles[:, :, 3] == 0, :3] = np.nan
    read = read_jets(write_jetnet(tmp_path / f"w{suffix}", particles, features), layout="jetnet:phi=0")
    assert read.multiplicity.tolist() == particles[:, :, 3].sum(axis=1).tolist()
    np.testing.assert_array_equal(read.labels, [JETNET_CLASSES.index("w")] * 12)
    row = 0
    for particle, jet in zip(particles.astype(float), features.astype(float), strict=True):
        for eta_rel, phi_rel, pt_rel, here in particle:
            if here:
                pt, eta = pt_rel * jet[0], eta_rel + jet[1]
                expected = [pt * np.cos(phi_rel), pt * np.sin(phi_rel), pt * np.sinh(eta), pt * np.cosh(eta)]
                np.testing.assert_allclose(read.p4[row], expected, rtol=1e-14)
                row += 1
    assert row == read.n_constituents
    assert read.constituents.mass.max() < 1e-3


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("g", 0),
        ("q", 1),
        ("t", 2),
        ("w", 3),
        ("z", 4),
        ("g150", 0),
        ("T30", 2),
        ("q_150", 1),
        ("top", None),
        ("a", None),
    ],
)
def test_jetnet_labels_come_from_the_name_of_the_file(tmp_path, name, label):
    labels = read_jets(write_jetnet(tmp_path / f"{name}.hdf5", *jetnet_arrays(3))).labels
    assert labels is None if label is None else labels.tolist() == [label] * 3


def test_real_jetclass2_jets_are_read(jetclass2_file):
    read = read_jets(jetclass2_file, columns=["part_charge", "part_deta", "part_dphi"])
    table = pq.read_table(jetclass2_file)
    assert len(read) == 100
    np.testing.assert_array_equal(read.multiplicity, table["jet_nparticles"].to_numpy())
    np.testing.assert_array_equal(read.labels, table["jet_label"].to_numpy())
    np.testing.assert_allclose(read.pt, table["jet_pt"].to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(read.phi, table["jet_phi"].to_numpy(), rtol=0, atol=2e-6)
    # The detector simulation shifts the constituents' pz of every jet against the jet's own eta (the collision's
    # vertex lies off the centre of the detector), so the file's jet_eta and jet_energy are not those of their sum.
    np.testing.assert_allclose(read.eta, table["jet_eta"].to_numpy(), rtol=0, atol=0.1)
    np.testing.assert_allclose(read.four_momenta[:, 3], table["jet_energy"].to_numpy(), rtol=0.05)
    # part_deta and part_dphi were computed from the same momenta; deta is mirrored to positive jet eta.
    jet = np.repeat(np.arange(100), read.multiplicity)
    jet_eta, jet_phi = table["jet_eta"].to_numpy()[jet], table["jet_phi"].to_numpy()[jet]
    eta = jet_eta + np.sign(jet_eta) * read.extras["part_deta"]
    np.testing.assert_allclose(read.constituents.eta, eta, rtol=0, atol=1e-5)
    turn = (read.constituents.phi - jet_phi - read.extras["part_dphi"]) / (2 * np.pi)
    np.testing.assert_allclose(turn, np.round(turn), rtol=0, atol=1e-5)


def test_real_generator_level_jets_have_the_kinematics_of_their_constituents(jetclass2_file, tmp_path):
    table = pq.read_table(jetclass2_file)
    names = dict(zip([f"genpart_{c}" for c in ("px", "py", "pz", "energy")], MOMENTA, strict=True))
    pq.write_table(table.select(list(names)).rename_columns(list(names.values())), tmp_path / "gen.parquet")
    # Some jets of the file have no jet at generator level.
    read = read_jets(tmp_path / "gen.parquet", drop_empty=True)
    matched = table["genjet_nparticles"].to_numpy() > 0
    expected = {name: table[f"genjet_{name}"].to_numpy()[matched] for name in ("pt", "eta", "energy", "phi")}
    np.testing.assert_allclose(read.pt, expected["pt"], rtol=1e-5)
    np.testing.assert_allclose(read.eta, expected["eta"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(read.four_momenta[:, 3], expected["energy"], rtol=1e-5)
    np.testing.assert_allclose(read.phi, expected["phi"], rtol=0, atol=1e-5)


def test_real_jets_have_views(jetclass2_file):
    read = read_jets(jetclass2_file)
    one, eight, every = rino.ViewGenerator([1, 8, "all"])(read)
    assert one.multiplicity.tolist() == [1] * 100
    np.testing.assert_array_equal(eight.multiplicity, np.minimum(8, read.multiplicity))
    np.testing.assert_allclose(every.four_momenta, read.four_momenta, rtol=1e-10, atol=1e-9)


# --- several files ---


def test_data_sets_without_files_are_left_out_of_folders_and_patterns(write, jets, tmp_path):
    write(columns_of(jets))
    (tmp_path / "empty.parquet").mkdir()
    (tmp_path / "nested.root" / "inner.parquet").mkdir(parents=True)
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/**", f"{tmp_path.parent}/{tmp_path.name}*"):
        assert read_jets(path, columns="part_charge") == jets
    for path in (tmp_path / "empty.parquet", tmp_path / "nested.root"):
        with pytest.raises(RinoError, match=f"the folder {path}.* has no files of the suffixes"):
            read_jets(path)
    with pytest.raises(RinoError, match=f"the folder {tmp_path}/empty.parquet has no files of the suffixes"):
        read_jets(f"{tmp_path}/e*")


def test_folders_patterns_and_lists_are_read_in_order(write, jets, tmp_path):
    parts = [jets[:10], jets[10:25], jets[25:]]
    # Written out of order, read by name; other files and unfinished ones are not looked at.
    files = [write(columns_of(parts[i]), stem=f"part_{i}") for i in (2, 0, 1)]
    (tmp_path / "README.txt").write_text("no jets")
    (tmp_path / f".part_9{files[0].suffix}").write_text("unfinished")
    for path in (tmp_path, f"{tmp_path}/part_*", sorted(files), [f"{tmp_path}/part_[01]*", files[0]]):
        assert read_jets(path, columns=["part_charge"]) == jets
    assert read_jets([files[0], files[1]]).labels.tolist() == [*parts[2].labels, *parts[0].labels]


@pytest.mark.parametrize("number", [1, 9, 10, 11, 39, 40, 1000])
def test_max_jets_stops_early(write, jets, number):
    files = [write(columns_of(jets[:10]), "a"), write(columns_of(jets[10:]), "b")]
    assert read_jets(files, max_jets=number, columns=["part_charge"]) == jets[:number]


def test_files_behind_max_jets_are_not_opened(write, jets):
    good = write(columns_of(jets))
    broken = good.with_name(f"z{good.suffix}")
    broken.write_text("not opened")
    assert len(read_jets([good, broken], max_jets=40)) == 40
    with pytest.raises(RinoError, match=broken.name):
        read_jets([good, broken], max_jets=41)


def test_labels_of_different_meaning_are_not_mixed(tmp_path, jets):
    one_hot = write_parquet(tmp_path / "a.parquet", columns_of(jets))
    none = write_parquet(tmp_path / "b.parquet", {name: columns_of(jets)[name] for name in MOMENTA})
    number = write_parquet(
        tmp_path / "c.parquet",
        {name: columns_of(jets)[name] for name in MOMENTA} | {"jet_label": np.arange(40)},
    )
    net = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays())
    assert len(read_jets([one_hot, write_root(tmp_path / "d.root", columns_of(jets))])) == 80
    for first, second, words in [
        (one_hot, none, "those of .*b.parquet absent"),
        (one_hot, number, "numbers of JetClass, those of .*c.parquet numbers of the column jet_label"),
        (net, one_hot, "numbers of JetNet, those of .*a.parquet numbers of JetClass"),
    ]:
        with pytest.raises(RinoError, match=words):
            read_jets([first, second])


# --- what can be wrong ---


def test_an_absent_file_is_named_with_the_nearest_ones(tmp_path, jets):
    write_parquet(tmp_path / "collisions_qcd.parquet", columns_of(jets))
    with pytest.raises(RinoError, match=r"no file .*collision_qcd.parquet: did you mean collisions_qcd.parquet\?"):
        read_jets(tmp_path / "collision_qcd.parquet")
    with pytest.raises(RinoError, match=r"check the name"):
        read_jets(tmp_path / "zzzzzz.root")
    with pytest.raises(RinoError, match=r"there is no folder .*nowhere either"):
        read_jets(tmp_path / "nowhere" / "a.parquet")
    with pytest.raises(RinoError, match="no file matches the pattern"):
        read_jets(f"{tmp_path}/*.root")
    with pytest.raises(RinoError, match="list of paths is empty"):
        read_jets([])


def test_suffixes_and_folders_without_jets_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(RinoError, match=r"a\.csv cannot be recognised: it begins as no file of ROOT, parquet, HDF5"):
        read_jets(tmp_path / "a.csv")
    with pytest.raises(RinoError, match=r"folder .* has no files of the suffixes"):
        read_jets(tmp_path)
    with pytest.raises(RinoError, match=r"a\.csv cannot be recognised"):
        read_jets(f"{tmp_path}/*")
    with pytest.raises(RinoError, match="type int"):
        read_jets([3])


@pytest.fixture(params=[".parquet", ".root", ".hdf5"])
def file_of_each_kind(request, tmp_path, jets) -> Path:
    path = tmp_path / f"t{request.param}"
    if request.param == ".hdf5":
        return write_jetnet(path, *jetnet_arrays(200))
    return JETCLASS[request.param](path, columns_of(Jets.concatenate([jets] * 5)))


@pytest.mark.parametrize("share", [0.999, 0.7, 0.3, 0.01])
def test_a_truncated_file_is_named(file_of_each_kind, share):
    content = file_of_each_kind.read_bytes()
    file_of_each_kind.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RinoError, match=f"t{file_of_each_kind.suffix}.*(truncated|lacks)"):
        read_jets(file_of_each_kind)


def test_a_foreign_file_is_named(file_of_each_kind):
    for content in (b"<html>404 not found</html>" * 100, b"PAR1", b"root", b"\x89HDF\r\n\x1a\n", b"\0" * 5000):
        file_of_each_kind.write_bytes(content)
        with pytest.raises(RinoError, match=f"{file_of_each_kind.name} cannot be (read as (parquet|ROOT|HDF5)|recogn)"):
            read_jets(file_of_each_kind)


def test_a_file_damaged_inside_is_never_a_crash(file_of_each_kind):
    content = bytearray(file_of_each_kind.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(content)
        start = int(rng.integers(0, len(content) - 200))
        damaged[start : start + 200] = rng.integers(0, 256, 200, dtype=np.uint8).tobytes()
        file_of_each_kind.write_bytes(damaged)
        try:
            read_jets(file_of_each_kind)
        except RinoError as error:
            assert file_of_each_kind.name in str(error)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(RinoError, match=r"a\.parquet is empty \(0 bytes\)"):
        read_jets(tmp_path / "a.parquet")


def test_a_file_without_jets_is_named_where_it_is_all_there_is(write, tmp_path, jets):
    none = {name: pa.array([], pa.list_(pa.float32())) for name in MOMENTA}
    pq.write_table(pa.table(none), tmp_path / "none.parquet")
    write_jetnet(tmp_path / "z.hdf5", np.zeros((0, 30, 4)), np.zeros((0, 4)))
    with uproot.recreate(tmp_path / "none.root") as file:
        file.mktree("tree", dict.fromkeys(MOMENTA, "var * float32"))
    for name in ("none.parquet", "z.hdf5", "none.root"):
        with pytest.raises(RinoError, match=f"no jet is left: .*1 file without jets, the first: .*{name}"):
            read_jets(tmp_path / name)
    files = [tmp_path / "none.parquet", write(columns_of(jets)), tmp_path / "none.root"]
    assert read_jets(files, labelled=False, columns=["part_charge"]).origins.names.tolist() == [str(files[1])] * 40


def test_missing_columns_are_named_with_those_that_are_there(write, jets):
    columns = columns_of(jets)
    file = write({"part_px": columns["part_px"], "part_pz": columns["part_pz"]})
    with pytest.raises(RinoError, match=r"lacks the columns part_py, part_energy; it has .*part_px, .*part_pz"):
        read_jets(file)
    with pytest.raises(RinoError, match=r"lacks the columns part_d0val; it has .*part_charge"):
        read_jets(write(columns), columns=["part_d0val"])


def test_other_trees_and_data_sets_are_named(tmp_path, jets):
    with pytest.raises(RinoError, match=r"a\.root is ROOT of no known layout: it has the keys Events"):
        read_jets(write_root(tmp_path / "a.root", columns_of(jets), tree="Events"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table"] = np.zeros(3)
        file["jet_features"] = np.zeros((3, 4))
    with pytest.raises(RinoError, match="lacks the data sets particle_features; it has jet_features, table"):
        read_jets(tmp_path / "a.h5")
    with pytest.raises(RinoError, match=r"t\.h5 lacks the columns part_charge; it has jet_pt, jet_eta, jet_mass"):
        read_jets(write_jetnet(tmp_path / "t.h5", *jetnet_arrays()), columns=["part_charge"])


@pytest.mark.parametrize(
    ("particles", "features"),
    [
        (np.zeros((3, 30, 3)), np.zeros((3, 4))),
        (np.zeros((3, 30, 4)), np.zeros((2, 4))),
        (np.zeros((3, 30, 4)), np.zeros((3, 5))),
        (np.zeros((3, 4)), np.zeros((3, 4))),
        (np.zeros((3, 30, 4), dtype="S3"), np.zeros((3, 4))),
    ],
)
def test_jetnet_shapes_that_do_not_fit_are_named(tmp_path, particles, features):
    with pytest.raises(RinoError, match="not JetNet's layout"):
        read_jets(write_jetnet(tmp_path / "t.h5", particles, features))


@pytest.mark.parametrize("value", [0.5, -1, 2, np.nan])
def test_a_jetnet_mask_that_is_not_0_or_1_is_named(tmp_path, value):
    particles, features = jetnet_arrays()
    particles[7, 3, 3] = value
    with pytest.raises(RinoError, match=f"mask of constituent 3 of jet 7 is {value}"):
        read_jets(write_jetnet(tmp_path / "t.h5", particles, features))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("component", MOMENTA)
def test_a_momentum_that_is_not_finite_is_named_with_file_jet_and_constituent(write, jets, component, value):
    good, columns = write(columns_of(jets), "a"), columns_of(jets)
    columns[component][17] = columns[component][17].copy()
    columns[component][17][2] = value
    bad = write(columns, "b")
    with pytest.raises(RinoError, match=f"{bad.name}: constituent 2 of jet 17 is not finite: .*nan|inf"):
        read_jets([good, bad])


def test_an_energy_below_the_momentum_is_named_with_file_jet_and_constituent(write, jets, monkeypatch):
    monkeypatch.setattr("pyrino.data.read._ROWS", 7)
    columns = columns_of(jets)
    columns["part_energy"][23] = columns["part_energy"][23] * np.float32(0.99)
    for name in ("part_px", "part_py", "part_pz", "part_energy", "part_charge", "part_isMuon"):
        for empty in (5, 22):  # empty jets before, in its chunk and in others, do not shift the number
            columns[name][empty] = columns[name][empty][:0]
    bad = write(columns)
    with pytest.raises(RinoError, match=rf"{bad.name}: constituent 0 of jet 23 has E below \|p\|"):
        read_jets(bad, drop_empty=True)


def test_a_jetnet_jet_that_is_not_finite_is_named(tmp_path):
    particles, features = jetnet_arrays()
    features[4, 0] = np.nan
    with pytest.raises(RinoError, match=r"t\.h5: constituent 0 of jet 4 is not finite"):
        read_jets(write_jetnet(tmp_path / "t.h5", particles, features))


def test_jets_without_constituents_are_named_and_left_out_on_request(write, jets):
    columns = columns_of(jets)
    for values in columns.values():
        if isinstance(values, list):
            values[0], values[12], values[39] = values[0][:0], values[12][:0], values[39][:0]
    file = write(columns)
    with pytest.raises(RinoError, match=f"{file.name}: jet 0 has no constituents: .*drop_empty=True"):
        read_jets(file)
    kept = jets[np.setdiff1d(np.arange(40), [0, 12, 39])]
    assert read_jets(file, drop_empty=True, columns=["part_charge"]) == kept
    assert read_jets(file, drop_empty=True, columns=["part_charge"], max_jets=15) == kept[:15]


def test_jetnet_jets_without_constituents_are_named_and_left_out_on_request(tmp_path):
    particles, features = jetnet_arrays()
    particles[5, :, 3] = 0
    file = write_jetnet(tmp_path / "t.h5", particles, features)
    with pytest.raises(RinoError, match="jet 5 has no constituents"):
        read_jets(file)
    assert len(read_jets(file, drop_empty=True)) == 11
    particles[:, :, 3] = 0
    with pytest.raises(RinoError, match="no jet is left"):
        read_jets(write_jetnet(tmp_path / "t.h5", particles, features), drop_empty=True)


def test_jets_of_one_constituent_are_read(write, jets):
    single = Jets(jets.p4[:5], np.arange(6), [0, 8, 0, 8, 0], {"part_charge": np.ones(5)})
    assert read_jets(write(columns_of(single)), columns=["part_charge"]) == single


def test_columns_of_other_lengths_or_types_are_named(write, jets, monkeypatch):
    monkeypatch.setattr("pyrino.data.read._ROWS", 4)
    columns = columns_of(jets)
    columns["part_pz"][6] = np.append(columns["part_pz"][6], np.float32(1))
    with pytest.raises(RinoError, match=r"jet 6 has \d+ values of part_px but \d+ of part_pz"):
        read_jets(write(columns))
    columns = columns_of(jets) | {"part_pz": jets.pt}
    with pytest.raises(RinoError, match="part_pz"):
        read_jets(write(columns))


def test_columns_of_jets_become_values(write, jets):
    columns = columns_of(jets)
    read = read_jets(write(columns), columns=["jet_pt", "part_charge", "label_QCD"])
    assert list(read.values) == ["jet_pt", "label_QCD"] and list(read.extras) == ["part_charge"]
    np.testing.assert_array_equal(read.values["jet_pt"], columns["jet_pt"])
    np.testing.assert_array_equal(read.values["label_QCD"], jets.labels == 0)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("part_py", lambda v: [None, *v[1:]], r"jet 0 has no part_py \(null\)"),
        ("part_py", lambda v: [*v[:-1], [None, *v[-1][1:]]], r"part_py of jet 39 has missing values"),
        ("part_py", lambda v: [["a"]] * len(v), "part_py holds string"),
        ("label_QCD", lambda v: [*v[:3], None, *v[4:]], r"jet 3 has no label_QCD \(null\)"),
    ],
)
def test_missing_values_in_parquet_are_named(tmp_path, jets, name, change, words):
    columns = columns_of(jets)
    columns[name] = change([v.tolist() for v in columns[name]])
    with pytest.raises(RinoError, match=f"a.parquet: {words}"):
        read_jets(write_parquet(tmp_path / "a.parquet", columns))


def test_labels_that_are_none_or_two_are_named(write, jets):
    columns = columns_of(jets)
    columns["label_Hbb"] = np.arange(40) == 9
    with pytest.raises(RinoError, match=r"jet 9 has the labels .*exactly one of them must be 1"):
        read_jets(write(columns))
    columns = columns_of(jets) | {f"label_{name}": np.zeros(40, bool) for name in JETCLASS_CLASSES}
    with pytest.raises(RinoError, match="jet 0 has the labels"):
        read_jets(write(columns))
    for wrong in (-1.0, 0.5, np.nan, np.inf):
        columns = columns_of(jets) | {"jet_label": np.where(np.arange(40) == 3, wrong, 1.0)}
        with pytest.raises(RinoError, match=f"jet 3 has jet_label = {wrong}"):
            read_jets(write(columns))


@pytest.mark.parametrize(("number", "words"), [(0, "max_jets = 0"), (-1, "max_jets = -1"), (2.0, "type float")])
def test_max_jets_that_is_no_number_of_jets_is_named(tmp_path, number, words):
    with pytest.raises(RinoError, match=words):
        read_jets(tmp_path, max_jets=number)


def test_files_are_closed_whatever_happens(tmp_path, jets):
    """ResourceWarnings are errors; on top of that, HDF5 refuses to write a file that is still open."""
    file = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays(200))
    read_jets(file, max_jets=1)
    particles, features = jetnet_arrays()
    particles[0, 0, 3] = 7
    write_jetnet(file, particles, features)
    with pytest.raises(RinoError):
        read_jets(file)
    write_jetnet(file, *jetnet_arrays())


def test_importing_the_readers_imports_no_file_library():
    code = (
        "import sys, pyrino.data, pyrino.jets, pyrino.views; "
        "print([m for m in ('uproot', 'h5py', 'pyarrow', 'awkward', 'matplotlib', 'fastjet') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
