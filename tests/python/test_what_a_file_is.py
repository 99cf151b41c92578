"""What a file is, where it is not what was expected: RNTuples, lists of one length, awkward's types are read; a file
that is locked, linked to nowhere, pandas' other format, a histogram or text says so."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from helpers import small_jets, tiny
from test_readers import MOMENTA, columns_of, jetnet_arrays, write_jetnet, write_parquet, write_root
from uproot.interpretation.numerical import AsDouble32

from pyrino import JetEncoder, Jets, RinoError, open_dataset, read_jets
from pyrino.cli import main
from pyrino.data.root import _Tree, tables_of
from pyrino.outputs import embed_files


def jets_of(n: int, seed: int = 1) -> Jets:
    jets = small_jets(n, seed)
    return jets.with_labels(np.arange(n) % 2).with_extra("part_charge", np.arange(jets.n_constituents) % 3 - 1)


def arrays_of(jets: Jets) -> dict[str, Any]:
    """JetClass's columns as awkward and NumPy arrays."""
    columns = columns_of(jets)
    return {n: ak.Array([v.tolist() for v in c]) if isinstance(c, list) else np.asarray(c) for n, c in columns.items()}


def write_rntuple(path: Path, arrays: dict[str, Any], clusters: int = 1, name: str = "tree") -> Path:
    n = len(next(iter(arrays.values())))
    bounds = [n * k // clusters for k in range(clusters + 1)]
    with uproot.recreate(path) as file:
        tree = file.mkrntuple(name, {key: values[: bounds[1]] for key, values in arrays.items()})
        for first, last in itertools.pairwise(bounds[1:]):
            tree.extend({key: values[first:last] for key, values in arrays.items()})
    return path


def write_tree(path: Path, arrays: dict[str, Any], name: str = "tree") -> Path:
    types: dict[str, Any] = {}
    for key, values in arrays.items():
        if isinstance(values, ak.Array):
            types[key] = "string" if values.ndim == 1 else values.type
        else:
            types[key] = np.dtype((values.dtype, values.shape[1:]))
    with uproot.recreate(path) as file:
        file.mktree(name, types).extend(arrays)
    return path


def said_of(path: object, **arguments: Any) -> str:
    """What `read_jets` and `open_dataset` say of a file that they do not read: the same."""
    said = []
    for call in (read_jets, open_dataset):
        with pytest.raises(RinoError) as error:
            call(path, **arguments)
        said.append(str(error.value))
    assert said[0] == said[1] and "damaged" not in said[0] and "lacks" not in said[0]
    return said[0]


# --- RNTuples ---


@pytest.mark.parametrize("clusters", [1, 4])
def test_an_rntuple_is_read_as_the_tree_is(tmp_path, clusters):
    arrays = arrays_of(jets_of(40))
    wanted = ["part_charge", "jet_pt", "part_isMuon"]
    expected = read_jets(write_tree(tmp_path / "t.root", arrays), columns=wanted)
    jets = read_jets(write_rntuple(tmp_path / "r.root", arrays, clusters), columns=wanted)
    assert jets == expected and jets.labels.tolist() == expected.labels.tolist() and len(jets) == 40
    assert jets.origins.entry.tolist() == list(range(40))
    with open_dataset(tmp_path / "r.root", window=8, columns=wanted) as dataset:
        found = Jets.concatenate(list(dataset.batches(7)))
        assert found == expected[found.origins.entry] and sorted(found.origins.entry) == list(range(40))


def test_an_rntuple_gets_its_friend(tmp_path):
    jets = jets_of(20)
    source = write_rntuple(tmp_path / "r.root", arrays_of(jets), clusters=2)
    encoder = JetEncoder(tiny())
    expected = encoder.embed(read_jets(source))
    for append in (False, True):
        embed_files(encoder, source, tmp_path / f"f{append}.root", append=append, progress=False)
        with uproot.open(tmp_path / f"f{append}.root") as file:
            np.testing.assert_array_equal(file["rino/embedding"].array(library="np"), expected)
            assert ("tree" in file) == append
    assert read_jets(tmp_path / "fTrue.root") == read_jets(source)


def test_columns_of_an_rntuple_that_hold_something_else_are_named(tmp_path):
    arrays = {n: a for n, a in arrays_of(jets_of(4)).items() if n in MOMENTA}
    text, nested = ak.Array(["a", "b", "c", "d"]), ak.Array([[[1.0]]] * 4)
    more = {"jet_name": text, "part_hits": nested, "part": ak.zip({"x": arrays["part_px"]})}
    file = write_rntuple(tmp_path / "r.root", arrays | more)
    assert len(read_jets(file)) == 4
    for name, kind in [("jet_name", "std::string"), ("part_hits", "std::vector<std::vector<double>>")]:
        said = said_of(file, columns=[name])
        assert f"r.root: {name} is of type {kind}; it must hold numbers" in said
    file = write_rntuple(tmp_path / "t.root", arrays | {"part_py": text})
    assert "the branch part_py is of type std::string; it must hold one list of numbers per jet" in said_of(file)


# --- numbers of fewer bits ---


def test_numbers_that_root_stores_in_fewer_bits_are_read(tmp_path, monkeypatch):
    """Nothing but ROOT writes Double32_t: here are its integers, and uproot is told what they mean."""
    jets = jets_of(12)
    low, high = -(2.0**12), 2.0**12
    steps = {n: np.round((c - low) / (high - low) * 2**32) for n, c in zip(MOMENTA, jets.p4.T, strict=True)}
    pt = np.round((jets.pt - low) / (high - low) * 2**32).astype(np.uint32)
    arrays = {n: ak.unflatten(s.astype(np.uint32), jets.multiplicity) for n, s in steps.items()} | {"jet_pt": pt}
    file = write_tree(tmp_path / "t.root", arrays)
    stored = AsDouble32(low, high, 32)
    plain = uproot.TBranch.interpretation.fget

    def interpretation(branch: Any) -> Any:
        found = plain(branch)
        if branch.name in arrays and not isinstance(found, uproot.AsJagged):
            return stored
        return uproot.AsJagged(stored) if branch.name in arrays else found

    monkeypatch.setattr(uproot.TBranch, "interpretation", property(interpretation))
    read = read_jets(file, columns="jet_pt")
    np.testing.assert_allclose(read.p4, jets.p4, rtol=0, atol=1e-5)
    np.testing.assert_allclose(read.values["jet_pt"], jets.pt, rtol=0, atol=1e-5)


# --- lists of one length, std::vector ---


def padded(jets: Jets) -> dict[str, np.ndarray]:
    block, _ = jets.to_numpy()
    return {name: block[..., c].astype(np.float32) for c, name in enumerate(MOMENTA)}


@pytest.mark.parametrize("write", [write_tree, write_rntuple])
def test_arrays_of_one_length_are_the_constituents(tmp_path, write):
    """Each jet has as many here: what is padding is another question."""
    jets = Jets(jets_of(12).p4[: 12 * 4], np.arange(13) * 4)
    charge = np.arange(48, dtype=np.int32).reshape(12, 4) % 3 - 1
    arrays: dict[str, Any] = padded(jets) | {"part_charge": charge}
    arrays |= {"jet_p2": np.ones((12, 2), np.float32), "jet_pt": jets.pt.astype(np.float32)}
    if write is write_rntuple:
        arrays = {n: ak.to_regular(ak.Array(a.tolist()), axis=1) if a.ndim == 2 else a for n, a in arrays.items()}
    found = read_jets(write(tmp_path / "f.root", arrays), columns=["part_charge", "jet_pt"])
    assert found.offsets.tolist() == jets.offsets.tolist()
    np.testing.assert_allclose(found.p4, jets.p4, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(found.extras["part_charge"], charge.ravel())
    assert "jet_p2 is of type array of 2 numbers" in said_of(tmp_path / "f.root", columns=["jet_p2"])


class Branch(NamedTuple):
    name: str
    interpretation: Any
    typename: str


class Tree(NamedTuple):
    branches: list[Branch]
    num_entries: int = 0


def test_vectors_are_lists():
    """uproot reads std::vector and writes none: its interpretations as it gives them."""
    numbers = uproot.AsJagged(uproot.AsDtype(">f4"), header_bytes=10)
    nested = uproot.AsObjects(uproot.AsVector(True, uproot.AsVector(False, np.dtype(">f4"))))
    branches = [
        Branch("v", numbers, "std::vector<float>"),
        Branch("s", uproot.AsStrings(), "std::string"),
        Branch("n", uproot.AsDtype(">i4"), "int32_t"),
        Branch("vv", nested, "std::vector<std::vector<float>>"),
    ]
    table = _Tree(Tree(branches))
    assert table.lists == {"v": None} and table.numbers == ["n"]
    assert table.others == {"s": "std::string", "vv": "std::vector<std::vector<float>>"}


# --- text, histograms ---


def test_branches_of_text_are_named(tmp_path):
    arrays = {n: a for n, a in arrays_of(jets_of(4)).items() if n in MOMENTA}
    text = ak.Array(["a", "b", "c", "d"])
    file = write_tree(tmp_path / "a.root", arrays | {"part_py": text})
    assert "a.root: the branch part_py is of type char*; it must hold one list of numbers" in said_of(file)
    file = write_tree(tmp_path / "b.root", arrays | {"jet_name": text})
    assert "b.root: jet_name is of type char*; it must hold numbers" in said_of(file, columns=["jet_name"])
    file = write_tree(tmp_path / "c.root", arrays | {"jet_label": text})
    with pytest.raises(RinoError, match=r"c.root: jet 0 has jet_label = a; labels are 0, 1, 2"):
        read_jets(file)
    assert len(read_jets(file, labelled=False)) == 4


def test_columns_of_text_are_named(tmp_path):
    columns = columns_of(jets_of(4)) | {"jet_name": ["a", "b", "c", "d"]}
    file = write_parquet(tmp_path / "a.parquet", columns)
    assert "jet_name is of type string; it must hold numbers" in said_of(file, columns=["jet_name"])
    frame = pd.DataFrame({f"{p}_0": [float(p in ("E", "PX"))] * 3 for p in ("E", "PX", "PY", "PZ")})
    frame.assign(name=["a", "b", "c"]).to_hdf(tmp_path / "a.h5", key="table", format="table")
    assert "a.h5: name is of type |S1; it must hold numbers" in said_of(tmp_path / "a.h5", columns=["name"])


def test_a_histogram_is_no_tree_whatever_it_is_called(tmp_path):
    with uproot.recreate(tmp_path / "h.root") as file:
        file["tree"] = np.histogram([1.0, 2.0])
        file["events"] = "text"
    with uproot.open(tmp_path / "h.root") as file:
        assert tables_of(file) == []
    said = said_of(tmp_path / "h.root")
    assert "h.root is ROOT of no known layout: it has the keys tree (TH1D), events (TObjString)" in said
    with pytest.raises(RinoError, match="lacks the TTree or RNTuple tree; it has none"):
        read_jets(tmp_path / "h.root", layout="jetclass")
    file = write_rntuple(tmp_path / "r.root", {"x": np.arange(3)}, name="events")
    assert "it has the keys events (ROOT::RNTuple)" in said_of(file)


# --- HDF5 ---


def in_a_process(code: str, *arguments: object) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout


READ = "import sys, pyrino\ntry: print(len(pyrino.read_jets(sys.argv[1])))\nexcept pyrino.RinoError as e: print(e)"


def test_a_file_that_is_being_written_is_called_so(tmp_path):
    file = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays(5))
    with h5py.File(file, "r+"):
        said = in_a_process(READ, file)
    assert "t.hdf5 is open for writing in another program" in said and "damaged" not in said
    assert in_a_process(READ, file) == "5\n"


def test_a_file_whose_writer_was_killed_is_called_so(tmp_path):
    file = tmp_path / "t.hdf5"
    code = (
        "import h5py, os, sys\nf = h5py.File(sys.argv[1], 'w', libver='latest')\nf['x'] = 1.0\nf.flush()\nos._exit(0)"
    )
    in_a_process(code, file)
    said = said_of(file)
    assert "or was when that ended" in said and "h5clear -s" in said


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (h5py.SoftLink("/old/jets"), "jet_features is a link to /old/jets, which is not there"),
        (h5py.ExternalLink("gone.h5", "/jets"), "jet_features is a link to /jets of gone.h5, which is not there"),
    ],
)
def test_a_dead_link_in_a_file_is_named(tmp_path, link, words):
    particles, features = jetnet_arrays(5)
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        file["particle_features"], file["jet_features"] = particles, link
        file["unused"] = h5py.SoftLink("/nowhere")
    assert f"t.hdf5: {words}: put it back" in said_of(tmp_path / "t.hdf5")
    with h5py.File(tmp_path / "t.hdf5", "a") as file:
        del file["jet_features"]
        file["jet_features"] = features
    assert len(read_jets(tmp_path / "t.hdf5")) == 5


def test_a_virtual_data_set_without_its_sources_is_named(tmp_path):
    """HDF5 itself would give zeros."""
    particles, features = jetnet_arrays(5)
    write_jetnet(tmp_path / "part.h5", particles, features)
    place = h5py.VirtualLayout(particles.shape, particles.dtype)
    place[:] = h5py.VirtualSource("part.h5", "particle_features", particles.shape)
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        file.create_virtual_dataset("particle_features", place)
        file["jet_features"] = features
    assert read_jets(tmp_path / "t.hdf5") == read_jets(tmp_path / "part.h5", labelled=False).with_labels([2] * 5)
    (tmp_path / "part.h5").unlink()
    assert "particle_features is made of data in part.h5, which is not there" in said_of(tmp_path / "t.hdf5")


@pytest.mark.parametrize("called", ["part.h5", "/nowhere/part.h5"])
def test_sources_of_a_virtual_data_set_are_looked_for_where_hdf5_does(tmp_path, monkeypatch, called):
    particles, features = jetnet_arrays(5)
    for folder in ("here", "there", "link"):
        (tmp_path / folder).mkdir()
    place = h5py.VirtualLayout(particles.shape, particles.dtype)
    place[:] = h5py.VirtualSource(called, "particle_features", particles.shape)
    with h5py.File(tmp_path / "here" / "t.hdf5", "w") as file:
        file.create_virtual_dataset("particle_features", place)
        file["jet_features"] = features
    link = tmp_path / "link" / "t.hdf5"
    link.symlink_to(tmp_path / "here" / "t.hdf5")
    for where, prefix in (("here", ""), ("there", f"/nowhere:{tmp_path}/there")):
        monkeypatch.setenv("HDF5_VDS_PREFIX", prefix)
        assert "is not there" in said_of(link)
        source = write_jetnet(tmp_path / where / "part.h5", particles, features)
        with h5py.File(link) as file:
            np.testing.assert_array_equal(file["particle_features"][:], particles)
        assert len(read_jets(link)) == 5
        source.unlink()


def test_a_dead_link_where_a_table_should_be_is_named(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["table"] = h5py.ExternalLink("gone.h5", "/table")
    assert "t.h5: table is a link to /table of gone.h5, which is not there" in said_of(tmp_path / "t.h5")


@pytest.mark.parametrize("key", ["table", "jets/train"])
def test_pandas_fixed_format_is_called_so(tmp_path, key):
    frame = pd.DataFrame({f"{p}_0": [1.0] * 3 for p in ("E", "PX", "PY", "PZ")})
    frame.to_hdf(tmp_path / "t.h5", key=key)
    assert f"{key} (a table in pandas' fixed format: write it with format='table')" in said_of(tmp_path / "t.h5")


# --- awkward's own types in parquet ---


def awkward_table(jets: Jets, **options: Any) -> pa.Table:
    return ak.to_arrow_table(ak.zip(arrays_of(jets), depth_limit=1), extensionarray=True, **options)


@pytest.mark.parametrize("options", [{}, {"list_to32": True}])
@pytest.mark.parametrize("before", ["", "import awkward", "import awkward; awkward.to_arrow(awkward.Array([[1]]))"])
def test_awkward_types_are_read_whatever_was_imported(tmp_path, options, before):
    jets = jets_of(30)
    expected = read_jets(write_parquet(tmp_path / "plain.parquet", columns_of(jets)), columns=["part_charge"])
    pq.write_table(awkward_table(jets, **options), tmp_path / "a.parquet", row_group_size=7)
    assert read_jets(tmp_path / "a.parquet", columns=["part_charge"]) == expected
    with open_dataset(tmp_path / "a.parquet", window=8) as dataset:
        found = dataset.take(30)
        assert found == read_jets(tmp_path / "plain.parquet")[found.origins.entry]
    code = f"{before}\n{READ.replace('len(', 'float(').replace('])', ']).pt.sum()')}"
    assert float(in_a_process(code, tmp_path / "a.parquet")) == pytest.approx(expected.pt.sum(), rel=1e-12)


def test_awkward_types_of_one_length_and_missing_values(tmp_path):
    jets = Jets(jets_of(12).p4[: 12 * 4], np.arange(13) * 4)
    block, _ = jets.to_numpy()
    regular = {name: ak.to_regular(ak.Array(block[..., c].tolist()), axis=1) for c, name in enumerate(MOMENTA)}
    pq.write_table(ak.to_arrow_table(ak.zip(regular, depth_limit=1), extensionarray=True), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_jets(tmp_path / "a.parquet").p4, jets.p4)
    regular["part_px"] = ak.Array([[None, 1.0, 1.0, 1.0]] * 12)
    pq.write_table(ak.to_arrow_table(ak.zip(regular, depth_limit=1), extensionarray=True), tmp_path / "b.parquet")
    with pytest.raises(RinoError, match="part_px of jet 0 has missing values"):
        read_jets(tmp_path / "b.parquet")


# --- sources without jets ---


def write_empty(path: Path) -> Path:
    return write_tree(path, {name: values[:0] for name, values in arrays_of(jets_of(2)).items()})


def test_a_source_without_entries_gets_its_friend(tmp_path):
    encoder = JetEncoder(tiny())
    full, none = write_root(tmp_path / "full.root", columns_of(jets_of(5))), write_empty(tmp_path / "none.root")
    embed_files(encoder, [full, none], tmp_path / "friends", progress=False)
    embed_files(encoder, none, tmp_path / "alone.root", append=True, progress=False)
    for name in ("friends/none_rino.root", "alone.root"):
        with uproot.open(tmp_path / name) as file, uproot.open(tmp_path / "friends/full_rino.root") as other:
            assert file["rino"].num_entries == 0 and other["rino"].num_entries == 5
            assert file["rino"].typenames() == other["rino"].typenames()
    chain = uproot.concatenate({str(tmp_path / "friends/*.root"): "rino"})
    np.testing.assert_array_equal(chain["entry"], np.arange(5))


def test_a_source_whose_jets_are_all_broken_gets_rows_without_values(tmp_path):
    columns = columns_of(jets_of(5))
    columns["part_px"] = [values * np.float32(np.nan) for values in columns["part_px"]]
    full, bad = write_root(tmp_path / "full.root", columns_of(jets_of(5))), write_root(tmp_path / "bad.root", columns)
    with pytest.warns(UserWarning, match="5 broken jets"):
        embed_files(JetEncoder(tiny()), [full, bad], tmp_path / "friends", on_error="skip", progress=False)
    with uproot.open(tmp_path / "friends/bad_rino.root") as file:
        assert file["rino/valid"].array().tolist() == [False] * 5


def test_nothing_at_all_is_an_error_where_rows_are_jets(tmp_path, capsys):
    none = write_empty(tmp_path / "none.root")
    with pytest.raises(RinoError, match="no jet is left"):
        embed_files(JetEncoder(tiny()), none, tmp_path / "z.parquet", progress=False)
    full = write_root(tmp_path / "full.root", columns_of(jets_of(5)))
    with pytest.raises(RinoError, match="no jet is left"):
        embed_files(JetEncoder(tiny()), full, tmp_path / "z.root", pt=(9e4, None), progress=False)
    assert main(["info", str(none)]) == 0 and "layout" in capsys.readouterr().out
