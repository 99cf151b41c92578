"""Embeddings and probabilities of files: what is written joins with the source, row by row or on (file, entry)."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, Tagger, ViewGenerator, outputs, read_jets
from pyrino.cli import main
from pyrino.data import JETCLASS_CLASSES, pack
from pyrino.errors import RinoWarning
from pyrino.outputs import embed_files, predict_files

QCD, TOP = JETCLASS_CLASSES.index("QCD"), JETCLASS_CLASSES.index("Tbqq")
QUIET: dict[str, Any] = {"progress": False}


def columns_of(jets: Jets, broken: int | list[int] | None = None) -> dict[str, Any]:
    """JetClass's columns; the first constituent of jet `broken` is not finite, or of each of these."""
    columns: dict[str, Any] = {}
    for name, values in (("px", jets.px), ("py", jets.py), ("pz", jets.pz), ("energy", jets.e)):
        values = values.astype(np.float32)
        if broken is not None:
            values[jets.offsets[broken]] = np.nan
        columns[f"part_{name}"] = ak.unflatten(values, jets.multiplicity)
    columns["jet_pt"] = jets.pt.astype(np.float32)
    for name, label in (("QCD", 0), ("Tbqq", 1)):
        columns[f"label_{name}"] = jets.labels == label
    return columns


def write_root(path: Path, jets: Jets, broken: int | list[int] | None = None) -> Path:
    """A JetClass file in baskets of 16 jets."""
    columns = columns_of(jets, broken)
    types = {n: "var * float32" if isinstance(c, ak.Array) else c.dtype for n, c in columns.items()}
    with uproot.recreate(path) as file:
        tree = file.mktree("tree", types)
        for i in range(0, len(jets), 16):
            tree.extend({name: column[i : i + 16] for name, column in columns.items()})
    return path


def write_parquet(path: Path, jets: Jets) -> Path:
    columns = {n: c.tolist() if isinstance(c, ak.Array) else c for n, c in columns_of(jets).items()}
    pq.write_table(pa.table(columns), path, row_group_size=16)
    return path


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-500])
    return path


def damage(path: Path, seek: int) -> Path:
    """Other bytes where a basket begins."""
    content = bytearray(path.read_bytes())
    content[seek : seek + 40] = b"\xff" * 40
    path.write_bytes(content)
    return path


def last_basket(path: Path) -> int:
    """Where the last basket of px is."""
    with uproot.open(path) as file:
        return int(file["tree"]["part_px"].member("fBasketSeek")[3])


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can be written beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def rows_of(path: Path, name: str = "embedding") -> tuple[list[tuple[str, int]], np.ndarray]:
    """(file, entry) and value of each row of parquet."""
    table = pq.read_table(path)
    keys = list(zip(table["file"].to_pylist(), table["entry"].to_pylist(), strict=True))
    return keys, np.array(table[name].to_pylist())


def branches_of(path: Path, tree: str = "rino") -> dict[str, np.ndarray]:
    with uproot.open(path) as file:
        return file[tree].arrays(library="np")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def encoder() -> JetEncoder:
    return JetEncoder(tiny(), seed=1)


@pytest.fixture(scope="module")
def tagger(encoder: JetEncoder) -> Tagger:
    return Tagger(encoder, "mlp", seed=2)


@pytest.fixture
def jets() -> Jets:
    return small_jets(60)


@pytest.fixture
def source(tmp_path: Path, jets: Jets) -> Path:
    return write_root(tmp_path / "TTBar_000.root", jets)


# --- parquet ---


def test_parquet_joins_with_the_source_on_file_and_entry(encoder, jets, source, tmp_path):
    other = write_parquet(tmp_path / "more.parquet", small_jets(40, seed=8))
    low, high = np.quantile(jets.pt, [0.3, 0.8])
    tally = embed_files(encoder, [other, source], tmp_path / "z.parquet", pt=(low, high), fraction=0.7, **QUIET)
    results = pq.read_table(tmp_path / "z.parquet")
    results = results.set_column(0, "file", results["file"].cast(pa.string()))
    results = results.take(np.random.default_rng(0).permutation(len(results)))  # the order must not matter

    with uproot.open(source) as file:
        pt = {str(source): file["tree"]["jet_pt"].array(library="np")}
    pt[str(other)] = pq.read_table(other)["jet_pt"].to_numpy()
    theirs = pa.concat_tables(
        pa.table({"file": [name] * len(v), "entry": np.arange(len(v)), "jet_pt": v}) for name, v in pt.items()
    )
    numbered = results.drop_columns("embedding").append_column("row", pa.array(range(len(results))))
    joined = numbered.join(theirs, ["file", "entry"], join_type="inner")  # pyarrow joins no lists: they follow by row
    embeddings = np.array(results["embedding"].take(joined["row"]).to_pylist())
    assert len(joined) == tally.jets == len(results)
    assert 20 < tally.jets < 60
    jet_pt = joined["jet_pt"].to_numpy()
    assert ((jet_pt >= 0.9999 * low) & (jet_pt < 1.0001 * high)).all()
    # Whose pT was joined is whose embedding it is.
    everything = read_jets([other, source])
    place = {key: j for j, key in enumerate(zip(everything.origins.names, everything.origins.entry, strict=True))}
    order = [place[key] for key in zip(joined["file"].to_pylist(), joined["entry"].to_pylist(), strict=True)]
    np.testing.assert_allclose(everything.pt[order], jet_pt, rtol=1e-6)
    np.testing.assert_allclose(embeddings, encoder.embed(everything)[order], atol=1e-6)
    np.testing.assert_array_equal(joined["label"].to_numpy(), everything.labels[order])


def test_chunks_change_nothing_and_bound_what_is_held(encoder, source, tmp_path, monkeypatch):
    embed_files(encoder, source, tmp_path / "one.parquet", **QUIET)
    embed_files(encoder, source, tmp_path / "one.root", pt=(600, None), **QUIET)
    monkeypatch.setattr(outputs, "_MOST", 16)
    monkeypatch.setattr(outputs, "_GROUP", 20)
    monkeypatch.setattr(outputs, "_BASKET", 5 * 4 * encoder.width)
    sizes = []
    embed = JetEncoder.embed
    monkeypatch.setattr(JetEncoder, "embed", lambda self, j, **k: sizes.append(len(j)) or embed(self, j, **k))
    embed_files(encoder, source, tmp_path / "many.parquet", **QUIET)
    assert sizes == [16, 16, 16, 12]  # the file's own baskets
    embed_files(encoder, source, tmp_path / "many.root", pt=(600, None), **QUIET)
    (keys, one), (same, many) = (rows_of(tmp_path / f"{name}.parquet") for name in ("one", "many"))
    assert keys == same
    np.testing.assert_allclose(one, many, rtol=0, atol=1e-6)
    assert pq.ParquetFile(tmp_path / "many.parquet").num_row_groups == 2
    one, many = (branches_of(tmp_path / f"{name}.root") for name in ("one", "many"))
    np.testing.assert_array_equal(one["valid"], many["valid"])
    np.testing.assert_allclose(one["embedding"], many["embedding"], rtol=0, atol=1e-6)


def test_results_follow_jets_through_selections_concatenation_and_views(encoder, tagger, source, tmp_path):
    more = write_root(tmp_path / "TTBar_001.root", small_jets(30, seed=9))
    embed_files(encoder, [source, more], tmp_path / "z.parquet", resolution=4, **QUIET)
    predict_files(tagger, [source, more], tmp_path / "p.parquet", **QUIET)
    found, probability = (
        dict(zip(*rows_of(tmp_path / name, column), strict=True))
        for name, column in (("z.parquet", "embedding"), ("p.parquet", "probability"))
    )
    rng = np.random.default_rng(1)
    one, two = read_jets(source), read_jets(more)
    shuffled = Jets.concatenate([two[rng.permutation(30)], one[one.pt > np.median(one.pt)][::-1]])
    view = ViewGenerator([4])(shuffled)[0]
    keys = list(zip(view.origins.names, view.origins.entry, strict=True))
    assert len(set(keys)) == len(view) == 60
    np.testing.assert_allclose(encoder.embed(view), [found[key] for key in keys], rtol=0, atol=1e-5)
    np.testing.assert_allclose(tagger.predict(shuffled), [probability[key] for key in keys], rtol=0, atol=1e-6)


def test_jets_of_a_packed_cache_are_known_by_where_they_were_before(encoder, source, tmp_path):
    more = write_root(tmp_path / "TTBar_001.root", small_jets(30, seed=9))
    low = np.median(read_jets(source).pt)
    pack([source, more], tmp_path / "jets.arrow", pt=(low, None), progress=False)
    embed_files(encoder, tmp_path / "jets.arrow", tmp_path / "packed.parquet", **QUIET)
    embed_files(encoder, [source, more], tmp_path / "direct.parquet", pt=(low, None), **QUIET)
    (packed, one), (direct, other) = (rows_of(tmp_path / f"{name}.parquet") for name in ("packed", "direct"))
    assert packed == direct and {name for name, _ in packed} == {str(source), str(more)}
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    with pytest.raises(RinoError, match=r"jets\.arrow is Arrow, but a friend tree belongs to the tree of a ROOT file"):
        embed_files(encoder, tmp_path / "jets.arrow", tmp_path / "z.root", **QUIET)


def test_probabilities_are_those_of_predict(tagger, source, tmp_path):
    tally = predict_files(tagger, source, tmp_path / "p.parquet", about={"tagger": "mine"}, **QUIET)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["file", "entry", "label", "probability"]
    np.testing.assert_array_equal(table["probability"].to_numpy(), tagger.predict(read_jets(source)))
    about = json.loads(table.schema.metadata[b"pyrino.predict"])
    assert about == {"pyrino": rino.__version__, "command": "predict", "head": "mlp", "tagger": "mine"}
    assert (tally.jets, tally.files, tally.layouts) == (60, 1, {"jetclass": 1})
    predict_files(tagger, source, tmp_path / "q.parquet", prior=0.1, **QUIET)
    table = pq.read_table(tmp_path / "q.parquet")
    np.testing.assert_array_equal(table["probability"].to_numpy(), tagger.predict(read_jets(source), prior=0.1))
    assert json.loads(table.schema.metadata[b"pyrino.predict"])["prior"] == 0.1


def test_at_most_so_many_jets_of_each_path(encoder, source, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_MOST", 16)
    more = write_root(tmp_path / "TTBar_001.root", small_jets(30, seed=9))
    tally = embed_files(encoder, [source, more], tmp_path / "z.parquet", max_jets=7, hardest=3, **QUIET)
    keys, _ = rows_of(tmp_path / "z.parquet")
    assert keys == [(str(file), j) for file in (source, more) for j in range(7)]
    assert tally.jets == 14
    embed_files(encoder, source, tmp_path / "z.root", max_jets=7, **QUIET)
    np.testing.assert_array_equal(branches_of(tmp_path / "z.root")["valid"], np.arange(60) < 7)


# --- friend trees ---


def test_a_friend_tree_is_aligned_with_the_tree_of_its_source(encoder, source, tmp_path):
    with uproot.open(source) as file:
        pt, top = (file["tree"][name].array(library="np") for name in ("jet_pt", "label_Tbqq"))
    low, high = np.quantile(pt, [0.25, 0.75])
    tally = embed_files(encoder, source, tmp_path / "z.root", pt=(low, high), label="Tbqq", **QUIET)
    with uproot.open(tmp_path / "z.root") as file:
        tree = file["rino"]
        assert [branch.title for branch in tree.branches] == ["entry/L", "label/L", "valid/O", "embedding[8]/F"]
        about = json.loads(str(file["rino_about"]))
    friend = branches_of(tmp_path / "z.root")
    expected = (pt >= low) & (pt < high) & top
    np.testing.assert_array_equal(friend["valid"], expected)
    assert 5 < expected.sum() == tally.jets < 30
    np.testing.assert_array_equal(friend["entry"], np.arange(60))
    np.testing.assert_array_equal(friend["label"], np.where(expected, TOP, -1))
    np.testing.assert_allclose(friend["embedding"][expected], encoder.embed(read_jets(source))[expected], atol=1e-6)
    assert np.isnan(friend["embedding"][~expected]).all()
    assert about["source"] == str(source) and about["resolution"] == "all"


def test_several_sources_have_a_friend_each(tagger, jets, source, tmp_path):
    write_root(tmp_path / "ZJets_000.root", small_jets(20, seed=9))
    predict_files(tagger, tmp_path, tmp_path / "friends", tree="scores", **QUIET)
    assert files_in(tmp_path / "friends") == ["TTBar_000_rino.root", "ZJets_000_rino.root"]
    for stem in ("TTBar_000", "ZJets_000"):
        friend = branches_of(tmp_path / "friends" / f"{stem}_rino.root", "scores")
        np.testing.assert_allclose(friend["probability"], tagger.predict(read_jets(tmp_path / f"{stem}.root")))
        assert friend["valid"].all()


def test_broken_jets_and_files_are_skipped_and_said(encoder, source, tmp_path):
    write_root(tmp_path / "a.root", small_jets(20, seed=9), broken=7)
    truncate(write_root(tmp_path / "b.root", small_jets(20, seed=9)))
    out = tmp_path / "friends"
    for name, message in (("a.root", "jet 7 is not finite"), ("b.root", r"b\.root is truncated")):
        with pytest.raises(RinoError, match=message):
            embed_files(encoder, tmp_path / name, out, **QUIET)
    assert files_in(out) == []
    with pytest.warns(RinoWarning, match=r"1 broken jet skipped.*jet 7.*1 file skipped.*b\.root is truncated"):
        tally = embed_files(encoder, tmp_path, out, on_error="skip", **QUIET)
    assert files_in(out) == ["TTBar_000_rino.root", "a_rino.root"]
    np.testing.assert_array_equal(branches_of(out / "a_rino.root")["valid"], np.arange(20) != 7)
    assert tally.jets == 79
    with pytest.warns(RinoWarning, match="1 broken jet skipped"):
        embed_files(encoder, tmp_path, tmp_path / "z.parquet", on_error="skip", **QUIET)
    keys, _ = rows_of(tmp_path / "z.parquet")
    assert len(keys) == 79 and (str(tmp_path / "a.root"), 7) not in keys


def test_a_file_that_breaks_in_the_middle(encoder, source, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_MOST", 16)
    damage(source, last_basket(source))
    good = write_root(tmp_path / "good.root", small_jets(20, seed=9))
    for options in ({}, {"append": True}):
        with pytest.warns(RinoWarning, match="1 file skipped"):
            tally = embed_files(encoder, [source, good], tmp_path / "f", on_error="skip", **options, **QUIET)
        assert files_in(tmp_path / "f") == ["good_rino.root"]  # a friend that lacks rows would be aligned with nothing
        assert tally.jets == 20
        (tmp_path / "f" / "good_rino.root").unlink()
    with pytest.warns(RinoWarning, match="1 file skipped"):
        embed_files(encoder, [source, good], tmp_path / "z.parquet", on_error="skip", **QUIET)
    keys, _ = rows_of(tmp_path / "z.parquet")
    assert keys == [(str(source), j) for j in range(48)] + [(str(good), j) for j in range(20)]
    with pytest.raises(RinoError, match=r"TTBar_000\.root cannot be read as ROOT"):
        embed_files(encoder, [source, good], tmp_path / "f", **QUIET)
    assert files_in(tmp_path / "f") == []


# --- friend trees in a copy of the source ---


def test_append_begins_with_all_that_the_source_has(encoder, tagger, source, tmp_path):
    with uproot.update(source) as file:
        file["notes/what"] = "mine"
        file["counts"] = np.histogram(np.arange(5.0))
    before = source.read_bytes()
    embed_files(encoder, source, tmp_path / "both.root", append=True, **QUIET)
    assert source.read_bytes() == before
    with uproot.open(source) as theirs, uproot.open(tmp_path / "both.root") as mine:
        assert set(mine.keys()) == set(theirs.keys()) | {"rino;1", "rino_about;1"}
        assert str(mine["notes/what"]) == "mine"
        for branch in theirs["tree"].branches:
            assert ak.array_equal(branch.array(), mine["tree"][branch.name].array())
        rows = mine["tree"].arrays(["jet_pt"], library="np") | mine["rino"].arrays(library="np")
    jets = read_jets(tmp_path / "both.root")
    np.testing.assert_allclose(rows["jet_pt"], jets.pt, rtol=1e-6)
    np.testing.assert_allclose(rows["embedding"], encoder.embed(jets), atol=1e-6)
    # A second tree beside the first; none is replaced.
    with pytest.raises(RinoError, match="has 'rino' already: give another name"):
        predict_files(tagger, tmp_path / "both.root", tmp_path / "three.root", append=True, **QUIET)
    predict_files(tagger, tmp_path / "both.root", tmp_path / "three.root", append=True, tree="scores", **QUIET)
    with uproot.open(tmp_path / "three.root") as file:
        assert {"tree", "rino", "scores"} <= set(file.keys(cycle=False))
    np.testing.assert_array_equal(branches_of(tmp_path / "three.root")["embedding"], rows["embedding"])


def test_a_copy_that_lost_anything_is_refused(encoder, source, tmp_path, monkeypatch):
    place = last_basket(source)
    update = uproot.update

    def careless(file: Any) -> Any:
        file.seek(place + 100)
        file.write(b"x")
        return update(file)

    monkeypatch.setattr(uproot, "update", careless)
    with pytest.raises(RinoError, match=r"the copy of .*TTBar_000\.root did not keep all of its content"):
        embed_files(encoder, source, tmp_path / "both.root", append=True, **QUIET)

    def unable(file: Any) -> Any:
        raise AssertionError("this version")

    monkeypatch.setattr(uproot, "update", unable)
    with pytest.raises(RinoError, match=r"uproot cannot write a friend tree of .* \(AssertionError: this version\)"):
        embed_files(encoder, source, tmp_path / "both.root", append=True, **QUIET)
    assert files_in(tmp_path) == [source.name]


# --- bad input ---


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("z.h5", {}, r"z\.h5 is of no kind that is written: give NAME\.parquet, NAME\.root"),
        ("z.root", {}, r"2 files have a friend tree each, .* give a folder, for example .*z, or NAME\.parquet"),
        ("z", {}, r"more\.parquet is parquet, but a friend tree belongs to the tree of a ROOT file"),
        ("z.parquet", {"append": True}, r"append=True adds a tree to ROOT files but .*z\.parquet is parquet"),
        ("z.parquet", {"tree": "a b"}, "tree = 'a b': give a name"),
        ("z.parquet", {"columns": ["jet_pt"]}, "columns of the source are not written again"),
        ("z.parquet", {"max_jets": 0}, "max_jets = 0"),
        ("z.parquet", {"on_error": "ignore"}, "on_error = 'ignore'"),
        ("z.parquet", {"pt": (1e6, None)}, "no jet is left: 0 jets of 2 files.*; 100 left out by the selection"),
        ("more.parquet", {"overwrite": True}, r"more\.parquet exists and is a file that is read"),
        ("old.parquet", {}, r"old\.parquet exists: give overwrite=True"),
    ],
)
def test_refused(encoder, source, tmp_path, out, options, message):
    other = write_parquet(tmp_path / "more.parquet", small_jets(40, seed=8))
    (tmp_path / "old.parquet").write_text("old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RinoError, match=message):
        embed_files(encoder, [source, other], tmp_path / out, **options, **QUIET)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_friends_that_exist_or_would_have_one_name_are_refused_before_anything_is_read(
    encoder, source, tmp_path, monkeypatch
):
    embed_files(encoder, source, tmp_path / "friends", **QUIET)
    monkeypatch.setattr(JetEncoder, "embed", None)
    with pytest.raises(RinoError, match=r"TTBar_000_rino\.root exists: give overwrite=True"):
        embed_files(encoder, source, tmp_path / "friends", **QUIET)
    with pytest.raises(RinoError, match="is a file that is read"):
        embed_files(encoder, source, source, append=True, overwrite=True, **QUIET)
    (tmp_path / "b").mkdir()
    twin = write_root(tmp_path / "b" / source.name, small_jets(5))
    with pytest.raises(RinoError, match=r"would have one name: give a folder to each"):
        embed_files(encoder, [source, twin], tmp_path / "new", **QUIET)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("options", [{"out": "z.parquet"}, {"out": "z.root"}, {"out": "z.root", "append": True}])
def test_a_full_disk_leaves_nothing(encoder, source, tmp_path, options):
    size = source.stat().st_size + 1000 if "append" in options else 900
    out = tmp_path / options.pop("out")
    with small_disk(size), pytest.raises(RinoError, match=rf"{out.name} cannot be written: .*: make room"):
        embed_files(encoder, source, out, **options, **QUIET)
    assert files_in(tmp_path) == [source.name]
    embed_files(encoder, source, out, **options, **QUIET)


# --- the commands ---


@pytest.fixture
def models(encoder: JetEncoder, tagger: Tagger, tmp_path: Path) -> Path:
    encoder.save(tmp_path / "models" / "encoder.safetensors")
    tagger.save(tmp_path / "models" / "tagger.safetensors")
    return tmp_path / "models"


def test_the_commands_do_what_python_does(encoder, tagger, models, source, tmp_path, capsys):
    arguments = ["--jets", str(source), "--pt", "550", "-", "--hardest", "5"]
    chosen = read_jets(source, pt=(550, None), hardest=5)
    assert 0 < len(chosen) < 60
    folder = str(tmp_path / "friends")
    assert main(["predict", str(models / "tagger.safetensors"), *arguments, "--out", folder]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"probabilities (mlp head) are in {folder}: {len(chosen)} jets of 1 file")
    assert said.out.endswith(f"; {60 - len(chosen)} left out by the selection\n")
    assert said.err == ""
    friend = branches_of(tmp_path / "friends" / "TTBar_000_rino.root")
    np.testing.assert_array_equal(np.flatnonzero(friend["valid"]), chosen.origins.entry)
    np.testing.assert_allclose(friend["probability"][friend["valid"]], tagger.predict(chosen))
    prior = ["--prior", "0.3", "--out", str(tmp_path / "prior.parquet")]
    assert main(["predict", str(models / "tagger.safetensors"), *arguments, *prior]) == 0
    found = pq.read_table(tmp_path / "prior.parquet")["probability"].to_numpy()
    np.testing.assert_array_equal(found, tagger.predict(chosen, prior=0.3))
    both = tmp_path / "both.root"
    command = ["embed", str(models / "encoder.safetensors"), *arguments, "--out", str(both), "--append"]
    assert main([*command, "--tree", "z", "--batch-size", "7"]) == 0
    found = branches_of(both, "z")
    np.testing.assert_allclose(found["embedding"][found["valid"]], encoder.embed(chosen), atol=1e-6)
    capsys.readouterr()
    assert main(command) == 2
    assert "both.root exists: give --overwrite to replace it" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_the_commands_say_what_they_skipped(models, source, tmp_path, capsys):
    broken = truncate(write_root(tmp_path / "b.root", small_jets(20)))
    arguments = ["predict", str(models / "tagger.safetensors"), "--jets", str(source), str(broken)]
    arguments += ["--out", str(tmp_path / "p.parquet")]
    assert main(arguments) == 2
    assert "b.root is truncated" in capsys.readouterr().err
    assert not (tmp_path / "p.parquet").exists()
    assert main([*arguments, "--on-error", "skip"]) == 0
    said = capsys.readouterr()
    assert ": 60 jets of 1 file" in said.out and "; 1 file skipped, the first: " in said.out
    assert said.err.startswith("pyrino: warning: predict left out what is broken: ")


def test_a_friend_has_rows_for_jets_that_are_read_around(encoder, tmp_path, monkeypatch):
    """One jet in the middle is broken, and all are in the last pieces, which then give nothing."""
    monkeypatch.setattr(outputs, "_MOST", 16)
    jets = small_jets(40, seed=8)
    file = write_root(tmp_path / "a.root", jets, broken=[5, *range(32, 40)])
    with pytest.warns(RinoWarning, match="9 broken jets skipped, the first: .*jet 5 is not finite"):
        embed_files(encoder, file, tmp_path / "f.root", on_error="skip", **QUIET)
    rows = branches_of(tmp_path / "f.root")
    sound = ~np.isin(np.arange(40), [5, *range(32, 40)])
    np.testing.assert_array_equal(rows["entry"], np.arange(40))
    np.testing.assert_array_equal(rows["valid"], sound)
    np.testing.assert_array_equal(np.isfinite(rows["embedding"]).all(axis=1), sound)
    expected = encoder.embed(Jets(jets.p4.astype(np.float32), jets.offsets))
    np.testing.assert_allclose(rows["embedding"][sound], expected[sound], atol=1e-6)
