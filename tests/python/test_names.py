"""Names of files: the file that is named is read, whatever its name; nothing is left out, nothing read twice."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from helpers import small_jets, tiny
from test_readers import columns_of, jetnet_arrays, write_jetnet, write_parquet, write_root

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, open_dataset, read_jets
from pyrino.cli import main
from pyrino.data import pack
from pyrino.outputs import embed_files

LATIN = os.fsdecode(b"jets_\xe9")  # as an old archive has it: no UTF-8


def jets_of(n: int, seed: int = 1) -> Jets:
    jets = small_jets(n, seed)
    return jets.with_labels(np.zeros(n, int)).with_extra("part_charge", np.zeros(jets.n_constituents))


def write_npz(path: Path, seed: int) -> Path:
    x = np.zeros((8, 5, 4))
    x[:, :4] = np.random.default_rng(seed).uniform(0.5, 1, (8, 4, 4))
    x[:, :4, 3] = 22
    with open(path, "wb") as file:
        np.savez(file, X=x)
    return path


def write_packed(path: Path, seed: int) -> Path:
    source = write_parquet(path.with_name("source.parquet"), columns_of(jets_of(8, seed)))
    pack(source, path, progress=False)
    source.unlink()
    return path


#: What writes 8 jets to a plain name.
WRITERS: dict[str, Callable[[Path, int], Path]] = {
    ".parquet": lambda path, seed: write_parquet(path, columns_of(jets_of(8, seed))),
    ".root": lambda path, seed: write_root(path, columns_of(jets_of(8, seed))),
    ".hdf5": lambda path, seed: write_jetnet(path, *jetnet_arrays(8, seed=seed)),
    ".npz": write_npz,
    ".arrow": write_packed,
}


@pytest.fixture(params=WRITERS)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(suffix: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Jets]:
    """Puts jets into a file of any name; gives them as they are read from a plain one."""

    def write(name: str | Path, seed: int = 1) -> Jets:
        plain = WRITERS[suffix](tmp_path_factory.mktemp("plain") / f"plain{suffix}", seed)
        expected = read_jets(plain)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(plain, name)
        return expected

    return write


def parquet(name: str | Path, n: int = 3, seed: int = 1) -> str:
    """A file of n jets, by the name given."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    os.rename(write_parquet(Path("plain.parquet"), columns_of(jets_of(n, seed))), name)
    return str(name)


# --- the file that was named ---


@pytest.mark.parametrize(
    "stem", ["local:z", "file:z", "run:1", "a::z", "x%20z", "50%", "[z]", "@z", "~z", "é z", LATIN]
)
def test_the_file_that_was_named_is_read(here, write, suffix, stem):
    """Beside it are files of the names that libraries take it for."""
    name = f"{stem}{suffix}"
    for other in ("z", "x z"):
        write(f"{other}{suffix}", seed=2)
    expected = write(name)
    place = here / name
    for path in (name, f"./{name}", place, str(place), place.as_uri()):
        jets = read_jets(path)
        assert jets == expected, path
        (called,) = jets.origins.files
        assert suffix == ".arrow" or os.path.samefile(rino.data.Source(called).path, place)
    with open_dataset(name, window=8) as dataset:
        jets = dataset.take(8)
        assert jets == expected[jets.origins.entry]
        assert jets.origins.files == (expected.origins.files if suffix == ".arrow" else (name,))


def test_names_of_folders_are_names_too(here, write, suffix):
    expected = write(f"run.root:A/QCD:500/j{suffix}")
    write(f"j{suffix}", seed=2)
    for path in (f"run.root:A/QCD:500/j{suffix}", "run.root:A/QCD:500", f"run.root:A/*/j{suffix}", "run.root:*/*500/*"):
        assert read_jets(path) == expected, path


def test_a_file_url_may_have_its_percent_signs_as_they_are(here):
    """fsspec writes URLs without encoding them; where both names are there, the standard's reading counts."""
    parquet("a%20b.parquet", 3)
    assert len(read_jets(f"file://{here}/a%20b.parquet")) == 3
    parquet("a b.parquet", 4)
    assert len(read_jets(f"file://{here}/a%20b.parquet")) == 4
    assert len(read_jets(f"file://localhost{here}/a%20b.parquet")) == 4
    assert len(read_jets((here / "a%20b.parquet").as_uri())) == 3
    (here / "[run 1]").mkdir()
    parquet("[run 1]/c.parquet", 5)
    assert len(read_jets(f"{(here / '[run 1]').as_uri()}/*.parquet")) == 5
    with pytest.raises(RinoError, match=r"there is no file file://.*/nothing.root: check the name"):
        read_jets(f"file://{here}/nothing.root")


# --- patterns and folders ---


def test_what_is_really_called_like_a_pattern_is_none(here):
    for name in ("[run1]/b.parquet", "x/[2]/c.parquet", "y/[2]/[3].parquet", "run/b.parquet", "2/c.parquet"):
        parquet(name, 1)

    def found(pattern: str) -> list[str]:
        return [os.path.relpath(name) for name in read_jets(pattern).origins.files]

    assert found("[run1]/*.parquet") == found(f"{here}/[run1]/*.parquet") == ["[run1]/b.parquet"]
    assert found("*/[2]/?.parquet") == ["x/[2]/c.parquet"]
    assert found("*/[2]/[[]3].*") == ["y/[2]/[3].parquet"]
    assert found("[r2]*/*.parquet") == ["2/c.parquet", "run/b.parquet"]
    assert found("**/[2]/*") == ["2/c.parquet", "x/[2]/c.parquet", "y/[2]/[3].parquet"]  # each where it is
    assert sorted(found("**")) == sorted(found("**/*.parquet")) == sorted(map(str, Path().glob("**/*.parquet")))


def test_data_sets_that_are_folders_are_read_wherever_their_folder_is(here):
    """As dask, awkward and Spark write them, with files beside that are no jets."""
    for name in ("ds/jets.parquet/part0.parquet", "ds/jets.parquet/part1.parquet", "ds/more.parquet"):
        parquet(name)
    for other in ("_SUCCESS", "_metadata", ".part0.parquet.crc"):
        Path("ds/jets.parquet", other).write_text("")
    expected = ["ds/jets.parquet/part0.parquet", "ds/jets.parquet/part1.parquet", "ds/more.parquet"]
    for path in ("ds/*.parquet", "ds", "ds/*", "d*", "ds/**/*.parquet", ["ds/jets.parquet", "ds/more.parquet"]):
        assert list(read_jets(path).origins.files) == expected, path
    parquet("other/jets.parquet/deep/part0.parquet")
    for path in ("other/*", "other", "other/jets.parquet"):
        with pytest.raises(RinoError, match=r"the folder other/jets.parquet has no files of the suffixes"):
            read_jets(path)


def test_a_dead_link_is_named_where_a_pattern_or_folder_finds_it(here):
    parquet("d/a.parquet")
    Path("d/b.parquet").symlink_to("gone.parquet")
    for path in ("d/b.parquet", "d/*.parquet", "d", "*/*"):
        with pytest.raises(RinoError, match=r"d/b.parquet: it is a link to gone.parquet, which is not there"):
            read_jets(path)


def test_patterns_of_urls_find_data_sets_and_names_with_brackets(here):
    memory = fsspec.filesystem("memory")
    for name in ("ds/jets.parquet/part0.parquet", "ds/jets.parquet/_SUCCESS", "ds/more.parquet", "[1]/a.parquet"):
        memory.pipe(f"/names/{name}", Path(parquet("a.parquet")).read_bytes())
    found = read_jets("memory://names/ds/*.parquet").origins.files
    assert [name.partition("names/")[2] for name in found] == ["ds/jets.parquet/part0.parquet", "ds/more.parquet"]
    assert len(read_jets("memory://names/[1]/a.parquet")) == 3


# --- lists ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_file_lists_files(here, encoding):
    for name in ("a.parquet", "d/é b.parquet", "e/c.parquet"):
        parquet(name)
    lines = "# of Monday\r\n\r\na.parquet\r\n d/*.parquet \ne\n"
    Path("files.txt").write_bytes(lines.encode(encoding))
    for path in ("@files.txt", f"@{here}/files.txt", ["@files.txt"]):
        assert list(read_jets(path).origins.files) == ["a.parquet", "d/é b.parquet", "e/c.parquet"], path
    with open_dataset({"@files.txt": 1.0, parquet("f.parquet"): 1.0}, window=4) as mixture:
        assert {"a.parquet", "f.parquet"} <= set(mixture.take(60).origins.names)


def test_a_list_may_have_names_that_are_no_utf8(here):
    Path("files.txt").write_bytes(os.fsencode(parquet(f"{LATIN}.parquet")) + b"\n")
    assert read_jets("@files.txt").origins.files == (f"{LATIN}.parquet",)


def test_lists_that_are_none_are_named(here):
    Path("none.txt").write_text("\n# nothing\n")
    Path("more.txt").write_text("@none.txt\n")
    Path("odd.txt").write_bytes(b"\xff\xfea")
    parquet("a.parquet")
    for path, words in [
        ("@gone.txt", r"there is no list of files gone.txt"),
        ("@none.txt", r"the list none.txt names no file"),
        ("@more.txt", r"the list more.txt names another list"),
        ("@a.parquet", r"a.parquet is no list of files: it is not text: leave out the @"),
        ("@odd.txt", r"odd.txt is no list of files"),
    ]:
        with pytest.raises(RinoError, match=words):
            read_jets(path)


def test_commands_take_lists(here, capsys):
    parquet("a.parquet")
    parquet("b.parquet")
    Path("files.txt").write_text("a.parquet\nb.parquet\n")
    JetEncoder(tiny()).save("enc.safetensors")
    for command in (
        ["info", "@files.txt"],
        ["pack", "@files.txt", "--out", "all.arrow"],
        ["embed", "enc.safetensors", "--jets", "@files.txt", "--out", "z.parquet"],
        ["draw", "@files.txt", "--jet", "5", "--out", "j.png"],
        ["compare", "@files.txt", "b.parquet", "--no-classifier"],
    ):
        assert main(command) == 0, command
    assert len(read_jets("all.arrow")) == pq.read_table("z.parquet").num_rows == 6
    assert main(["pretrain", "nano", "--train", "@gone.txt", "--out", "r"]) == 2
    assert "there is no list of files gone.txt" in capsys.readouterr().err


# --- once ---


def test_a_file_is_known_by_what_it_is(here, capsys):
    parquet("a.parquet")
    Path("d").mkdir()
    Path("d/soft.parquet").symlink_to("../a.parquet")
    os.link("a.parquet", "d/hard.parquet")
    Path("e").symlink_to(".")
    Path("files.txt").write_text(f"a.parquet\n{here}/a.parquet\n")
    again = [
        ["a.parquet", "a.parquet"],
        ["a.parquet", str(here / "a.parquet")],
        ["a.parquet", (here / "a.parquet").as_uri()],
        ["a.parquet", "d/soft.parquet"],
        ["a.parquet", "d/hard.parquet"],
        ["a.parquet", "e/a.parquet"],
        ["a.parquet", "*.parquet"],
        ["@files.txt"],
        ["d"],
        ["d/*"],
    ]
    for paths in again:
        for call in (read_jets, open_dataset):
            with pytest.raises(RinoError, match=r"(was given twice|is the same file as .*): give every file once"):
                call(paths)
        for options in ([], ["--max-jets", "1"]):
            assert main(["info", *paths, *options]) == 2
            assert "give every file once" in capsys.readouterr().err
    shutil.copy("a.parquet", "copy.parquet")
    assert len(read_jets(["a.parquet", "copy.parquet"])) == 6  # the same jets, but not the same file


def test_commands_that_read_path_by_path_see_files_that_are_named_twice(here, capsys):
    parquet("a.parquet")
    for command in (
        ["pretrain", "nano", "--train", "a.parquet", "./a.parquet", "--max-jets", "2", "--out", "r"],
        ["pack", "a.parquet", "./a.parquet", "--out", "p.arrow"],
    ):
        assert main(command) == 2
        assert "give every file once" in capsys.readouterr().err


# --- names that are no UTF-8 ---


@pytest.fixture
def latin(here: Path) -> str:
    """A ROOT file of 3 jets."""
    write_root(here / "plain.root", columns_of(jets_of(3)))
    os.rename("plain.root", f"{LATIN}.root")
    return f"{LATIN}.root"


def test_origins_have_the_name_with_which_the_file_opens(latin):
    jets = read_jets(latin)
    for same in (jets, jets[1:], Jets.concatenate([jets, jets]), pickle.loads(pickle.dumps(jets)), jets[[2, 0]]):
        assert same.origins.files == (latin,) and set(same.origins.names) == {latin}
        with open(same.origins.names[0], "rb") as file:
            assert file.read(4) == b"root"
    made = jets.with_origins([latin], [0, 0, 0], [5, 6, 7])
    assert made.origins.files == (latin,)
    assert len(read_jets(latin, fraction=0.5, seed=1)) < 3


def test_messages_can_be_printed(latin, capsys, caplog):
    with pytest.raises(RinoError) as error:
        read_jets(latin, columns=["part_none"])
    str(error.value).encode()
    assert str(error.value).startswith(r"jets_\xe9.root lacks the columns part_none")
    assert main(["info", latin]) == 0
    assert main(["info", latin, "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said[said.index("{") :])["groups"][0]["files"] == [latin]
    assert main(["pack", latin, "--out", f"{LATIN}.arrow"]) == 0
    assert r"jets_\xe9.arrow: 3 jets of 1 file" in caplog.messages[-1]
    capsys.readouterr()  # what was printed as such pytest's workers could not send


def test_what_is_written_has_the_name_readably(latin, here):
    pack(latin, "p.arrow", progress=False)
    assert read_jets("p.arrow").origins.files == (r"jets_\xe9.root",)
    drawn = [read_jets(path, fraction=0.5, seed=1).origins.entry.tolist() for path in ("p.arrow", latin)]
    assert drawn[0] == drawn[1]
    encoder = JetEncoder(tiny())
    embed_files(encoder, latin, "z.parquet", progress=False)
    assert pq.read_table("z.parquet")["file"].to_pylist() == [r"jets_\xe9.root"] * 3
    embed_files(encoder, latin, "friends", progress=False)
    with open(f"friends/{LATIN}_rino.root", "rb") as file, uproot.open(file) as root:
        assert root["rino"].num_entries == 3


def test_runs_and_weights_may_have_such_names_and_colons(here):
    """Checkpoints are C++'s, histories pyarrow's, encoders safetensors'."""
    jets = small_jets(40)
    for out in (LATIN, "run:1", "local:r"):
        run = rino.pretrain(tiny(epochs=1, batch_size=20), jets, out, progress=False, tensorboard=False)
        again = rino.pretrain(tiny(epochs=1, batch_size=20), jets, out, resume=True, progress=False, tensorboard=False)
        assert again.resumed_at == run.history.rows == 2 and again.history.rows == 2
        np.testing.assert_array_equal(JetEncoder.load(out).embed(jets), run.encoder.embed(jets))
        with pytest.raises(RinoError, match="holds a run already"):
            rino.pretrain(tiny(), jets, out)


def test_a_cpp_error_about_such_a_name_can_be_printed(here):
    trainer = rino.Trainer(tiny(epochs=1, batch_size=20), small_jets(40))
    with pytest.raises(RinoError, match=r"jets_\\xe9"):
        trainer.restore(LATIN)


def test_generated_files_may_have_colons_in_their_names(here):
    from pyrino.generate import generate

    paths = generate("collisions", "qcd", 4, 3, "local:g", workers=1, progress=False)
    assert len(read_jets("local:g")) == 4 and [Path(path).parent.name for path in paths] == ["local:g"]
