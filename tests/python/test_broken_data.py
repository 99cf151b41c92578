"""Broken and foreign data: named with file, jet and remedy, or skipped and counted; files behind URLs."""

from __future__ import annotations

import functools
import http.server
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import small_jets, tiny
from test_readers import MOMENTA, columns_of, jetnet_arrays, write_jetnet, write_parquet, write_root

import pyrino as rino
from pyrino import Jets, RinoError, RinoWarning, open_dataset, read_jets
from pyrino.data import Selection, Source, Tally
from pyrino.data.read import iterate

WRITERS: dict[str, Callable[..., Path]] = {".parquet": write_parquet, ".root": write_root}


def as_written(n: int, seed: int) -> Jets:
    jets = small_jets(n, seed)
    return jets.with_labels(np.zeros(n, int)).with_extra("part_charge", np.zeros(jets.n_constituents))


def identities(jets: Jets) -> list[tuple[str, int]]:
    return [(Path(name).name, int(entry)) for name, entry in zip(jets.origins.names, jets.origins.entry, strict=True)]


def entries_of(name: str, entries: Any) -> list[tuple[str, int]]:
    return [(name, int(entry)) for entry in entries]


@pytest.fixture(params=WRITERS)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def write(suffix, tmp_path) -> Callable[..., Path]:
    return lambda stem, columns: WRITERS[suffix](tmp_path / f"{stem}{suffix}", columns)


# What reads: both must deliver all that is sound, name what is not, and count what they skip.


def with_read_jets(path: Any, **arguments: Any) -> tuple[list[tuple[str, int]], str]:
    """The jets, and what is said of those left out."""
    if arguments.get("on_error") != "skip":
        return identities(read_jets(path, **arguments)), ""
    with pytest.warns(RinoWarning, match="left out what is broken") as said:
        jets = read_jets(path, **arguments)
    assert len(said) == 1
    return identities(jets), str(said[0].message)


def with_dataset(path: Any, **arguments: Any) -> tuple[list[tuple[str, int]], str]:
    with open_dataset(path, window=20, **arguments) as dataset:
        if arguments.get("on_error") != "skip":
            return identities(Jets.concatenate(list(dataset.batches(7)))), ""
        for _ in range(2):  # every pass says it anew, and counts from 0
            with pytest.warns(RinoWarning, match="left out what is broken") as said:
                jets = Jets.concatenate(list(dataset.batches(7)))
            assert len(said) == 1
        assert dataset.left_out() in str(said[0].message) and not dataset.report.complete
        return identities(jets), str(said[0].message)


@pytest.fixture(params=[with_read_jets, with_dataset])
def delivered(request: pytest.FixtureRequest) -> Callable[..., tuple[list[tuple[str, int]], str]]:
    return request.param


GOOD = entries_of("a", range(30))


@pytest.fixture
def good(write) -> Path:
    """30 sound jets, which are delivered in every case."""
    return write("a", columns_of(as_written(30, 1)))


def all_of(path: Path, jets: int) -> list[tuple[str, int]]:
    return entries_of(path.name, range(jets))


# --- broken jets ---


def spoilt(change: Callable[[dict[str, Any], int], None], *jets: int) -> dict[str, Any]:
    columns = columns_of(as_written(25, 2))
    for name in MOMENTA:
        columns[name] = [np.array(values) for values in columns[name]]
    for jet in jets:
        change(columns, jet)
    return columns


def not_a_number(columns: dict[str, Any], jet: int) -> None:
    columns["part_pz"][jet][1] = np.nan


def infinite(columns: dict[str, Any], jet: int) -> None:
    columns["part_px"][jet][1], columns["part_px"][jet][0] = np.inf, -np.inf


def off_shell(columns: dict[str, Any], jet: int) -> None:
    columns["part_energy"][jet][1] *= np.float32(0.9)


def negative(columns: dict[str, Any], jet: int) -> None:
    columns["part_energy"][jet][1] *= -1


def huge(columns: dict[str, Any], jet: int) -> None:
    columns["part_px"][jet][1] = columns["part_py"][jet][1] = 3e38


def empty(columns: dict[str, Any], jet: int) -> None:
    for values in columns.values():
        if isinstance(values, list):
            values[jet] = values[jet][:0]


BROKEN = [
    (not_a_number, r"constituent 1 of jet {} is not finite: \(px, py, pz, E\) = \(.*nan.*\) GeV: repair the file"),
    (infinite, r"constituent 0 of jet {} is not finite: .*-inf"),
    (off_shell, r"constituent 1 of jet {} has E below \|p\| = .* GeV"),
    (negative, r"constituent 1 of jet {} has E below \|p\|"),
    (huge, r"constituent 1 of jet {} has E below \|p\| = 4.24264"),
    (empty, r"jet {} has no constituents: leave such jets out with drop_empty=True"),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_a_broken_jet_is_named_with_file_and_remedy(good, write, delivered, change, words):
    bad = write("b", spoilt(change, 17))
    with pytest.raises(RinoError, match=f"{bad.name}: {words.format(17)}.*, or skip such jets with on_error='skip'"):
        delivered([good, bad])


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_broken_jets_are_skipped_counted_and_told(good, write, delivered, change, words):
    bad = write("b", spoilt(change, 3, 17, 24))
    jets, said = delivered([good, bad], on_error="skip")
    sound = np.setdiff1d(np.arange(25), [3, 17, 24])
    assert sorted(jets) == sorted(all_of(good, 30) + entries_of(bad.name, sound))
    assert "3 broken jets skipped, the first: " in said and "52 jets of 2 files" in said
    assert re.search(f"{bad.name}: {words}".format("(3|17|24)"), said)


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_cuts_look_at_sound_jets_alone(good, write, delivered, change, words):
    """Broken jets do not disturb the arithmetic of cuts (NumPy's warnings are errors here)."""
    bad = write("b", spoilt(change, 3, 17, 24))
    cuts = {"pt": (100, 1e5), "eta": (-2, 2), "mass": (1, 500), "constituent_pt": 1, "hardest": 5, "label": "QCD"}
    jets, said = delivered([good, bad], on_error="skip", **cuts)
    kept = identities(read_jets([good, write("c", columns_of(as_written(25, 2)))], **cuts))
    kept = [(name.replace("c.", "b."), entry) for name, entry in kept]
    assert sorted(jets) == sorted(jet for jet in kept if jet not in entries_of(bad.name, [3, 17, 24]))
    assert f"{len(jets)} jets of 2 files" in said and f"{52 - len(jets)} left out by the selection" in said
    assert "3 broken jets" in said


def test_empty_jets_that_are_not_wanted_are_cut_and_not_broken(good, write):
    bad = write("b", spoilt(empty, 3, 17))
    tally = Tally()
    for _ in iterate([Source(good), Source(bad)], Selection.of(drop_empty=True), tally, on_error="skip"):
        pass
    assert (tally.jets, tally.cut, tally.bad_jets, tally.entries) == (53, 2, 0, 55) and tally.complete
    with open_dataset([good, bad], drop_empty=True) as dataset:
        assert len(dataset.take(53)) == 53 and dataset.position == (1, 0, 0)


def test_the_counts_add_up(good, write):
    bad = write("b", spoilt(off_shell, 3, 17))
    for window in (5, 1000):
        with open_dataset([good, bad], window=window, on_error="skip", fraction=0.5, pt=(100, None)) as dataset:
            with pytest.warns(RinoWarning):
                jets = sum(map(len, dataset.batches(10)))
            report = dataset.report
        assert report.jets == jets and report.bad_jets == 2 and len(report.examples) == 2
        assert report.jets + report.cut + report.bad_jets == report.entries == 55


def test_training_goes_on_without_what_is_broken(good, write):
    bad = write("b", spoilt(not_a_number, 3, 17))
    with open_dataset([good, bad], on_error="skip", window=20) as dataset:
        trainer = rino.Trainer(tiny(training__epochs=4, training__batch_size=10, training__loader_threads=2), dataset)
        with pytest.warns(RinoWarning, match="2 broken jets skipped"):
            assert len([step["loss"] for step in trainer]) == 20
        del trainer


# --- broken files ---


@pytest.fixture(params=[".parquet", ".root", ".hdf5"])
def broken_kind(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"t{request.param}"
    if request.param == ".hdf5":
        return write_jetnet(path, *jetnet_arrays(200))
    return WRITERS[request.param](path, columns_of(as_written(200, 3)))


@pytest.mark.parametrize("share", [0.999, 0.6, 0.01, 0.0])
def test_truncated_files_are_named_or_skipped(good, broken_kind, delivered, share):
    content = broken_kind.read_bytes()
    broken_kind.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RinoError, match=f"{broken_kind.name}.*(truncated|lacks|empty|cannot be recognised)"):
        delivered([good, broken_kind], labelled=False)
    jets, said = delivered([good, broken_kind], labelled=False, on_error="skip")
    assert sorted(jets) == all_of(good, 30)
    assert f"1 file skipped, the first: {broken_kind} (" in said and "30 jets of 1 file" in said


def test_a_file_damaged_inside_gives_what_is_before(tmp_path, monkeypatch):
    """What was taken of a file before its damage was met stays, and is told."""
    monkeypatch.setattr("pyrino.data.read._ROWS", 50)
    file = write_parquet(tmp_path / "a.parquet", columns_of(as_written(200, 3)), row_group_size=50, compression="gzip")
    content = bytearray(file.read_bytes())
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        column = opened.metadata.row_group(2).column(0)
    begin = column.dictionary_page_offset or column.data_page_offset
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(content)
    with pytest.raises(RinoError, match=r"a.parquet cannot be read as parquet"):
        read_jets(file)
    with pytest.warns(RinoWarning, match=r"^reading left out .*100 jets of 1 file .*; jets 0 to 99 were read\)$"):
        assert identities(read_jets(file, on_error="skip")) == entries_of("a.parquet", range(100))
    with open_dataset(file, window=50, on_error="skip") as dataset, pytest.warns(RinoWarning, match="1 file skipped"):
        jets = [jet for part in dataset.batches(30) for jet in identities(part)]
    assert sorted(jets) == entries_of("a.parquet", [*range(100), *range(150, 200)])


def test_absent_files_are_named_or_skipped(good, delivered, tmp_path):
    absent = tmp_path / "b.root"
    with pytest.raises(RinoError, match=r"there is no file .*b\.root"):
        delivered([good, absent])
    jets, said = delivered([good, absent], on_error="skip")
    assert sorted(jets) == all_of(good, 30) and f"{absent} (there is no file" in said


def test_files_of_all_kinds_under_one_pattern(good, delivered, tmp_path):
    write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays(12))
    (tmp_path / "notes.txt").write_text("no jets")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(RinoError, match=r"(notes\.txt|other\.h5|t\.hdf5)"):
        delivered(f"{tmp_path}/*")
    jets, said = delivered(f"{tmp_path}/*", on_error="skip", labelled=False)
    assert sorted(jets) == sorted(all_of(good, 30) + entries_of("t.hdf5", range(12)))
    assert "42 jets of 2 files" in said and "2 files skipped" in said
    # With labels, those of the first file are taken, and the others are told.
    jets, said = delivered(f"{tmp_path}/*", on_error="skip")
    assert sorted(jets) == all_of(good, 30)
    assert "30 jets of 1 file" in said and "3 files skipped" in said


def test_labels_that_one_file_lacks(good, write, delivered):
    columns = {name: values for name, values in columns_of(as_written(20, 4)).items() if not name.startswith("label_")}
    bad = write("b", columns)
    with pytest.raises(RinoError, match=rf"numbers of JetClass, those of .*{bad.name} absent: .*labelled=False"):
        delivered([good, bad])
    jets, said = delivered([good, bad], on_error="skip")
    assert sorted(jets) == all_of(good, 30)
    assert "30 jets of 1 file" in said and f"{bad} (the labels of" in said
    assert sorted(delivered([good, bad], labelled=False)[0]) == sorted(all_of(good, 30) + all_of(bad, 20))


@pytest.mark.parametrize("name", ["part_charge", "jet_pt"])
def test_columns_that_one_file_lacks(good, write, delivered, name):
    columns = columns_of(as_written(20, 4))
    del columns[name]
    bad = write("b", columns)
    with pytest.raises(RinoError, match=f"{bad.name} lacks the columns {name}; it has "):
        delivered([good, bad], columns=["part_isMuon", name])
    jets, said = delivered([good, bad], columns=["part_isMuon", name], on_error="skip")
    assert sorted(jets) == all_of(good, 30) and f"{bad} lacks the columns {name}" in said
    assert len(delivered([good, bad], columns=["part_isMuon"])[0]) == 50


def test_a_column_of_jets_here_and_of_constituents_there(good, write, delivered):
    columns = columns_of(as_written(20, 4))
    columns["jet_pt"] = columns["part_px"]
    bad = write("b", columns)
    with pytest.raises(RinoError, match=rf"jet_pt is a column of jets in .* and of constituents in .*{bad.name}"):
        delivered([good, bad], columns=["jet_pt"])
    jets, said = delivered([good, bad], columns=["jet_pt"], on_error="skip")
    assert sorted(jets) == all_of(good, 30) and "jet_pt is a column of jets" in said


def test_momenta_that_one_file_lacks(good, write, delivered):
    columns = columns_of(as_written(20, 4))
    del columns["part_energy"]
    bad = write("b", columns)
    with pytest.raises(RinoError, match=f"{bad.name} lacks the columns part_energy"):
        delivered([good, bad])
    assert sorted(delivered([good, bad], on_error="skip")[0]) == all_of(good, 30)


def test_what_max_jets_left_out_is_not_counted(good, write):
    bad = write("b", spoilt(off_shell, 3))
    with pytest.warns(RinoWarning, match="35 jets of 2 files .*1 broken jet"):
        assert len(read_jets([good, bad], on_error="skip", max_jets=35)) == 35


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "a.root").write_bytes(b"root")
    with (
        pytest.warns(RinoWarning, match="0 jets of 0 files; 1 file skipped"),
        pytest.raises(RinoError, match=r"no jet is left: 0 jets of 0 files; 1 file skipped, the first: .*a\.root"),
    ):
        read_jets(tmp_path, on_error="skip")
    with pytest.raises(RinoError, match=r"no file is left: .*1 file skipped, the first: .*a\.root"):
        open_dataset(tmp_path, on_error="skip")


@pytest.mark.parametrize("cuts", [{"pt": (1e6, None)}, {"fraction": 0.0}, {"label": "Tbl"}, {"constituent_pt": 1e6}])
def test_zero_jets_after_cuts_are_an_error_that_counts_them(good, cuts):
    with pytest.raises(RinoError, match=r"no jet is left: 0 jets of 1 file .*30 left out by the selection: check the"):
        read_jets(good, **cuts)
    with open_dataset(good, **cuts) as dataset, pytest.raises(RinoError, match=r"no jet that is wanted: .*30 left out"):
        dataset.take(1)


def test_one_file_without_wanted_jets_is_no_error(good, write, delivered):
    other = write(
        "b", columns_of(as_written(20, 4)) | {"label_QCD": np.zeros(20, bool), "label_Tbl": np.ones(20, bool)}
    )
    assert sorted(delivered([other, good], label="QCD")[0]) == all_of(good, 30)


# --- files that vanish ---


@pytest.fixture
def many(write) -> list[Path]:
    return [write(f"{number}", columns_of(as_written(20, number))) for number in range(8)]


def test_a_file_that_vanishes_between_windows_is_named_or_skipped(many, monkeypatch):
    monkeypatch.setattr("pyrino.data.pieces._OPEN_FILES", 0)  # an open file stays readable after it was deleted
    contents = many[3].read_bytes()
    with open_dataset(many, window=20, threads=1) as dataset:
        dataset.take(1)
        many[3].unlink()
        with pytest.raises(RinoError, match=f"there is no file {many[3]}: did you mean"):
            for _ in range(2):
                list(dataset.batches(10))
    many[3].write_bytes(contents)
    with open_dataset(many, window=20, threads=1, on_error="skip") as dataset:
        sound = [jet for part in dataset.batches(10) for jet in identities(part)]
        assert len(sound) == 160
        many[3].unlink()
        sizes = []
        for _ in range(3):
            with pytest.warns(RinoWarning, match="there is no file"):
                sizes.append(sum(map(len, dataset.batches(10))))
        assert sizes[1:] == [140, 140] and dataset.report.skipped.keys() == {str(many[3])}
        assert dataset.report.files == 7 and dataset.report.jets == 140
        many[3].write_bytes(contents)  # and is there again
        list(dataset.batches(10))
        assert sum(map(len, dataset.batches(10))) == 160 and dataset.report.complete


def test_a_file_that_vanishes_while_it_is_open_is_read_to_the_end(many):
    """Every library keeps the file, whatever becomes of its name."""
    with open_dataset(many, window=20, threads=1) as dataset:
        dataset.take(1)
        for file in many:
            file.unlink()
        assert sum(map(len, dataset.batches(10))) == 159


def test_a_file_cut_short_between_passes_is_named(many, monkeypatch):
    monkeypatch.setattr("pyrino.data.pieces._OPEN_FILES", 0)
    with open_dataset(many, window=20, threads=1) as dataset:
        list(dataset.batches(10))
        many[3].write_bytes(many[3].read_bytes()[:-300])
        with pytest.raises(RinoError, match=f"{many[3].name}.*truncated"):
            for _ in range(2):
                list(dataset.batches(10))


def test_a_file_that_was_replaced_by_a_shorter_one_is_named_or_skipped(many, write, monkeypatch):
    monkeypatch.setattr("pyrino.data.pieces._OPEN_FILES", 0)
    with (
        open_dataset(many, window=20, threads=1) as one,
        open_dataset(many, window=20, threads=1, on_error="skip") as other,
    ):
        for dataset in (one, other):
            list(dataset.batches(10))
        write("3", columns_of(as_written(5, 3)))
        with pytest.raises(RinoError, match=f"{many[3].name} has changed since it was opened: it has 5 jets .* had 20"):
            for _ in range(2):
                list(one.batches(10))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RinoWarning)  # whether it had been read ahead
            list(other.batches(10))
        with pytest.warns(RinoWarning, match=f"140 jets of 7 files .*{many[3].name} has changed"):
            assert sum(map(len, other.batches(10))) == 140


# --- precision ---


@pytest.mark.parametrize("reader", [read_jets, lambda path, **more: open_dataset(path, window=7, **more).take(30)])
def test_float64_columns_are_read_to_the_last_bit(tmp_path, suffix, reader):
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 9, 30)
    total = int(counts.sum())
    p = rng.normal(scale=30, size=(total, 3))
    flat = np.column_stack([p, np.sqrt((p**2).sum(axis=1) + 1)])
    cut = np.cumsum(counts)[:-1]
    columns: dict[str, Any] = {name: np.split(flat[:, c], cut) for c, name in enumerate(MOMENTA)}
    d0 = rng.normal(size=total)
    number = rng.integers(-(2**31), 2**31, 30)
    columns |= {"part_d0": np.split(d0, cut), "jet_tau": rng.normal(size=30), "jet_event": number.astype(np.int64)}
    file = WRITERS[suffix](tmp_path / f"a{suffix}", columns)
    jets = reader(file, columns=["part_d0", "jet_tau", "jet_event"])
    order = jets.origins.entry
    assert sorted(order) == list(range(30))
    rows = np.concatenate(
        [np.arange(total)[b - n : b] for b, n in zip(np.cumsum(counts)[order], counts[order], strict=True)]
    )
    np.testing.assert_array_equal(jets.p4, flat[rows])
    np.testing.assert_array_equal(jets.extras["part_d0"], d0[rows])
    np.testing.assert_array_equal(jets.values["jet_tau"], columns["jet_tau"][order])
    np.testing.assert_array_equal(jets.values["jet_event"], number[order])


def test_files_of_both_precisions_go_together(tmp_path):
    columns = columns_of(as_written(20, 4))
    single = write_parquet(tmp_path / "a.parquet", columns)
    double = columns | {name: [values.astype(np.float64) for values in columns[name]] for name in MOMENTA}
    both = [single, write_root(tmp_path / "b.root", double)]
    whole = read_jets(both)
    assert whole[:20] == whole[20:]
    with open_dataset(both, window=10) as dataset:
        jets = dataset.take(40)
    rows = [entry + 20 * (name == "b.root") for name, entry in identities(jets)]
    assert jets == whole[rows]


# --- rights ---


def test_a_file_or_folder_without_permission_is_named(good, delivered, tmp_path, monkeypatch):
    if os.geteuid() == 0:
        # The superuser may read everything: what the system would say to anybody else.
        def refused(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refused)
        with pytest.raises(RinoError, match=f"{good.name} cannot be opened .*Permission denied.*rights"):
            read_jets(good)
        monkeypatch.undo()
        for name in ("iterdir", "stat"):
            monkeypatch.setattr(Path, name, refused)
            with pytest.raises(RinoError, match=r"cannot be looked at .*Permission denied.*rights"):
                read_jets(tmp_path)
            monkeypatch.undo()
        monkeypatch.setattr(Path, "iterdir", refused)
        with pytest.raises(RinoError, match=r"no file .*b\.root: check the name and the rights of .*Permission denied"):
            read_jets(tmp_path / "b.root")
        return
    good.chmod(0)
    with pytest.raises(RinoError, match=f"{good.name} cannot be opened .*Permission denied.*rights"):
        delivered(good)
    tmp_path.chmod(0)
    try:
        for path in (tmp_path, good, f"{tmp_path}/*"):
            with pytest.raises(RinoError):
                delivered(path)
    finally:
        tmp_path.chmod(0o700)


# --- URLs ---


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Files with byte ranges, as every web server has them and Python's does not."""

    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if match is None or not file.is_file():
            return super().do_GET()
        content = file.read_bytes()
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def do_HEAD(self) -> None:
        super().do_HEAD()

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A folder with a file of each container, and the address under which a server has it."""
    folder = tmp_path_factory.mktemp("served")
    write_parquet(folder / "a.parquet", columns_of(as_written(200, 1)), row_group_size=20)
    write_root(folder / "a.root", columns_of(as_written(200, 1)))
    write_jetnet(folder / "t.hdf5", *jetnet_arrays(200))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Ranges, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["a.parquet", "a.root", "t.hdf5"])
@pytest.mark.parametrize("protocol", ["file", "memory", "http"])
def test_files_behind_urls_are_read(served, protocol, name):
    folder, address = served
    url = {"file": f"file://{folder}/{name}", "http": f"{address}/{name}", "memory": f"memory://broken/{name}"}[
        protocol
    ]
    if protocol == "memory":
        fsspec.filesystem("memory").pipe(f"/broken/{name}", (folder / name).read_bytes())
    expected = read_jets(folder / name)
    jets = read_jets(url)
    assert jets == expected and jets.origins.files == (url,)
    with open_dataset(url, window=50) as dataset:
        found = Jets.concatenate(list(dataset.batches(64)))
        assert found == expected[found.origins.entry] and len(found) == 200
        assert set(found.origins.files) == {url}


@pytest.mark.parametrize("protocol", ["file", "memory", "http"])
def test_patterns_of_urls_are_looked_up(served, protocol):
    folder, address = served
    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe(f"/pattern/{file.name}", file.read_bytes())
    base = {"file": f"file://{folder}", "http": address, "memory": "memory://pattern"}[protocol]
    jets = read_jets(f"{base}/a.*")
    assert [Path(file).name for file in jets.origins.files] == ["a.parquet", "a.root"] and len(jets) == 400
    with pytest.raises(RinoError, match=r"no file matches the pattern .*/b\.\*"):
        read_jets(f"{base}/b.*")


def test_urls_that_lead_nowhere_are_named(served, delivered):
    _, address = served
    for url, words in [
        (f"{address}/b.parquet", r"b\.parquet cannot be found \(.*\): check the URL and the network"),
        ("memory://nowhere/b.parquet", r"memory://nowhere/b.parquet cannot be found.*: check the URL"),
        ("jets://nowhere/b.root", r"jets://nowhere/b.root cannot be opened \(Protocol not known: jets\)"),
        ("jets://nowhere/*.root", r"the pattern jets://nowhere/\*.root cannot be looked up \(Protocol not known"),
    ]:
        with pytest.raises(RinoError, match=words):
            delivered(url)


def test_a_server_that_breaks_off_is_skipped(served, good):
    _, address = served
    with pytest.warns(RinoWarning, match=f"1 file skipped, the first: {address}/b.parquet"):
        assert len(read_jets([good, f"{address}/b.parquet"], on_error="skip")) == 30


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("part_px", lambda v: [*v[:7], None, *v[8:]]),
        ("part_py", lambda v: [*v[:7], [None, 1.0], *v[8:]]),
        ("part_pz", lambda v: [*v[:7], [*v[7], 1.0], *v[8:]]),
        ("label_QCD", lambda v: [*v[:7], None, *v[8:]]),
        ("label_QCD", lambda v: [*v[:7], not v[7], *v[8:]]),
    ],
)
def test_one_broken_row_costs_one_jet(tmp_path, name, change):
    whole = as_written(40, seed=9)
    columns = columns_of(whole)
    columns[name] = change([v.tolist() if hasattr(v, "tolist") else v for v in columns[name]])
    file = write_parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(RinoError, match=r"a\.parquet: .*jet 7"):
        read_jets(file)
    with pytest.warns(RinoWarning, match=r"39 jets of 1 file .*; 1 broken jet skipped, the first: .*jet 7"):
        read = read_jets(file, on_error="skip")
    assert read.origins.entry.tolist() == [j for j in range(40) if j != 7]
    np.testing.assert_array_equal(read.px, whole[read.origins.entry].px.astype(np.float32))
    with open_dataset(file, on_error="skip") as dataset, pytest.warns(RinoWarning, match="1 broken jet skipped"):
        assert (
            sorted(entry for jets in dataset.batches(16) for entry in jets.origins.entry) == read.origins.entry.tolist()
        )


def test_a_negative_transverse_momentum_is_named(tmp_path):
    x = np.zeros((3, 5, 4))
    x[:, :3] = 5, 0, 0, 22
    x[1, 1, 0] = -5
    np.savez(tmp_path / "e.npz", X=x, y=np.zeros(3))
    with pytest.raises(RinoError, match=r"constituent 1 of jet 1 has pT = -5 GeV"):
        read_jets(tmp_path / "e.npz")
    with pytest.warns(RinoWarning, match="1 broken jet"):
        assert read_jets(tmp_path / "e.npz", on_error="skip").origins.entry.tolist() == [0, 2]


def test_paths_that_are_none_are_named(tmp_path):
    with pytest.raises(RinoError, match="a path is empty"):
        read_jets("")
    (tmp_path / "a.root").symlink_to(tmp_path / "gone.root")
    with pytest.raises(RinoError, match=r"it is a link to .*gone\.root, which is not there"):
        read_jets(tmp_path / "a.root")


def test_a_column_of_parquet_that_is_there_twice_is_named(tmp_path):
    table = pq.read_table(write_parquet(tmp_path / "a.parquet", columns_of(as_written(5, seed=1))))
    for name in ("part_px", "label_QCD", "jet_pt"):
        pq.write_table(table.append_column(name, table[name]), tmp_path / "b.parquet")
        with pytest.raises(RinoError, match=rf"b\.parquet has several columns {name}: write it again with one"):
            read_jets(tmp_path / "b.parquet", columns="jet_pt")
    assert len(read_jets(tmp_path / "b.parquet")) == 5


def test_integers_that_would_lose_digits_are_refused(tmp_path):
    columns = columns_of(as_written(5, seed=1)) | {"event": np.arange(5) + 2**53 + 1}
    file = write_parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(RinoError, match=rf"a\.parquet: event holds {2**53 + 5}, which float64 cannot hold exactly"):
        read_jets(file, columns="event")
