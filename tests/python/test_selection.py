"""Selection on read against plain NumPy on the whole file; the registry of layouts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_readers import (
    MOMENTA,
    as_float32,
    columns_of,
    jetnet_arrays,
    write_jetnet,
    write_parquet,
    write_root,
)

import pyrino as rino
from pyrino import Jets, RinoError, open_dataset, read_jets
from pyrino.data import JETCLASS_CLASSES, Chunk, Labels, Layout, Reader, Source, layout_of, layouts, register

N = 120


@pytest.fixture(scope="module")
def jets() -> Jets:
    """Toy jets as a float32 file holds them; QCD, Tbqq and Wqq."""
    toy = rino.toy_jets(N, seed=4, top_fraction=0.5, multiplicity_mean=12, multiplicity_std=5)
    labels = np.array([JETCLASS_CLASSES.index(name) for name in ("QCD", "Tbqq", "Wqq")])[np.arange(N) % 3]
    charge = np.random.default_rng(0).integers(-1, 2, toy.n_constituents).astype(float)
    return as_float32(toy).with_labels(labels).with_extra("part_charge", charge)


@pytest.fixture(scope="module", params=[".parquet", ".root"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, jets: Jets) -> Path:
    path = tmp_path_factory.mktemp("selection") / f"jets{request.param}"
    if request.param == ".root":
        return write_root(path, columns_of(jets))
    return write_parquet(path, columns_of(jets), row_group_size=17)


@pytest.fixture(params=[7, 65536])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("pyrino.data.read._ROWS", request.param)
    return request.param


def kinematics(jets: Jets) -> dict[str, np.ndarray]:
    """pT, eta and mass of the jets from the momenta, without pyrino."""
    px, py, pz, e = np.add.reduceat(jets.p4, jets.offsets[:-1], axis=0).T
    pt = np.sqrt(px**2 + py**2)
    return {
        "pt": pt,
        "eta": np.arctanh(pz / np.sqrt(pt**2 + pz**2)),
        "mass": np.sqrt(np.maximum(e**2 - pt**2 - pz**2, 0)),
    }


def lists(jets: Jets) -> list[np.ndarray]:
    return [jets.p4[a:b] for a, b in zip(jets.offsets[:-1], jets.offsets[1:], strict=True)]


# --- jets ---


@pytest.mark.parametrize("name", ["pt", "eta", "mass"])
@pytest.mark.parametrize("ends", ["both", "low", "high"])
def test_ranges_are_those_of_the_summed_constituents(file, jets, pieces, name, ends):
    values = kinematics(jets)[name]
    low, high = np.quantile(values, [0.2, 0.7])
    low, high = (low if ends != "high" else None), (high if ends != "low" else None)
    expected = np.ones(N, bool)
    if low is not None:
        expected &= values >= low
    if high is not None:
        expected &= values < high
    assert 0 < expected.sum() < N
    read = read_jets(file, columns="part_charge", **{name: (low, high)})
    assert read == jets[expected]
    np.testing.assert_array_equal(read.origins.entry, np.flatnonzero(expected))


@pytest.mark.parametrize("name", ["pt", "eta", "mass"])
def test_the_lower_end_is_taken_and_the_upper_is_not(tmp_path, name):
    """Jets whose pT, eta and mass are exact in binary: 3, 4 -> 5 GeV, eta 0, mass 12 of E 13."""
    p4 = np.array([[3.0, 4, 0, 13], [6, 8, 0, 26], [9, 12, 0, 39]])
    exact = {"pt": [5.0, 10, 15], "eta": [0.0, 0, 0], "mass": [12.0, 24, 36]}[name]
    one = Jets(p4, np.arange(4), np.zeros(3, int), {"part_charge": np.zeros(3)})
    path = write_parquet(tmp_path / "a.parquet", columns_of(one))
    if name == "eta":
        assert len(read_jets(path, eta=(0, 1))) == 3
        with pytest.raises(RinoError, match=r"no jet is left: .*3 left out"):
            read_jets(path, eta=(-1, 0))
        return
    assert read_jets(path, **{name: (exact[1], None)}).origins.entry.tolist() == [1, 2]
    assert read_jets(path, **{name: (None, exact[1])}).origins.entry.tolist() == [0]
    assert read_jets(path, **{name: (exact[0], exact[2])}).origins.entry.tolist() == [0, 1]


def test_jets_along_the_beam_have_no_eta_and_are_cut_by_it(tmp_path):
    p4 = np.array([[0.0, 0, 5, 5], [3, 0, 4, 6]])
    path = write_parquet(tmp_path / "a.parquet", columns_of(Jets(p4, [0, 1, 2], [0, 0], {"part_charge": np.zeros(2)})))
    assert len(read_jets(path)) == 2
    assert read_jets(path, eta=(-5, 5)).origins.entry.tolist() == [1]
    assert read_jets(path, pt=(0, None)).origins.entry.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("label", "numbers"),
    [("Tbqq", [8]), (["QCD", "Wqq"], [0, 7]), (8, [8]), ([0, "Tbqq"], [0, 8]), ("7", [7]), (np.int64(7), [7])],
)
def test_classes_are_taken_by_name_or_number(file, jets, pieces, label, numbers):
    read = read_jets(file, label=label, columns="part_charge")
    assert read == jets[np.isin(jets.labels, numbers)]


def test_classes_are_taken_where_labels_are_left_out(file, jets):
    read = read_jets(file, label="Tbqq", labelled=False)
    assert read.labels is None
    np.testing.assert_array_equal(read.origins.entry, np.flatnonzero(jets.labels == 8))


def test_jetnet_classes_have_names_too(tmp_path):
    write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays(12))
    write_jetnet(tmp_path / "q.hdf5", *jetnet_arrays(5))
    assert len(read_jets(tmp_path, label="t")) == 12 and len(read_jets(tmp_path, label=[1])) == 5


def test_unknown_classes_are_named_with_those_there_are(file, tmp_path, jets):
    with pytest.raises(RinoError, match=rf"no class 'top' in .*{file.name}: .*numbers of JetClass \(QCD, Hbb, .*Tbl\)"):
        read_jets(file, label="top")
    columns = {name: values for name, values in columns_of(jets).items() if not name.startswith("label_")}
    numbered = write_parquet(tmp_path / "n.parquet", columns | {"jet_label": np.arange(N)})
    with pytest.raises(RinoError, match=r"numbers of the column jet_label \(numbers only\)"):
        read_jets(numbered, label="top")
    assert read_jets(numbered, label=[100, 3]).labels.tolist() == [3, 100]
    with pytest.raises(RinoError, match=r"none.parquet has no labels to select by: leave out label="):
        read_jets(write_parquet(tmp_path / "none.parquet", columns), label=3)


# --- columns ---


def test_columns_go_to_extras_and_values(file, jets, pieces):
    read = read_jets(file, columns=["part_charge", "jet_pt", "part_isMuon", "label_Tbqq"])
    assert list(read.extras) == ["part_charge", "part_isMuon"] and list(read.values) == ["jet_pt", "label_Tbqq"]
    np.testing.assert_array_equal(read.extras["part_charge"], jets.extras["part_charge"])
    np.testing.assert_array_equal(read.values["jet_pt"], jets.pt.astype(np.float32))
    np.testing.assert_array_equal(read.values["label_Tbqq"], jets.labels == 8)


def test_columns_stay_with_their_jets_and_constituents(file, jets, pieces):
    read = read_jets(file, columns=["part_charge", "jet_pt"], label="Wqq", constituent_pt=2.0, hardest=4)
    jet = np.repeat(np.arange(N), jets.multiplicity)
    for number, part in zip(read.origins.entry, read, strict=True):
        rows = np.flatnonzero(jet == number)
        pt = np.hypot(*jets.p4[rows, :2].T)
        rows = rows[np.argsort(-pt, kind="stable")]
        rows = rows[np.hypot(*jets.p4[rows, :2].T) >= 2.0][:4]
        np.testing.assert_array_equal(part.p4, jets.p4[rows])
        np.testing.assert_array_equal(part.extras["part_charge"], jets.extras["part_charge"][rows])
        assert part.values["jet_pt"][0] == np.float32(jets.pt[number])


# --- constituents ---


def test_soft_constituents_are_left_out_in_place(file, jets, pieces):
    threshold = float(np.quantile(np.hypot(jets.px, jets.py), 0.6))
    read = read_jets(file, constituent_pt=threshold, columns="part_charge")
    kept = [p4[np.hypot(p4[:, 0], p4[:, 1]) >= threshold] for p4 in lists(jets)]
    assert [p4.tolist() for p4 in lists(read)] == [p4.tolist() for p4 in kept if len(p4)]
    np.testing.assert_array_equal(read.origins.entry, [j for j, p4 in enumerate(kept) if len(p4)])
    assert read.constituents.pt.min() >= threshold


def test_jets_that_lose_all_constituents_are_cut(file, jets):
    hardest = np.array([np.hypot(p4[:, 0], p4[:, 1]).max() for p4 in lists(jets)])
    threshold = float(np.median(hardest))
    read = read_jets(file, constituent_pt=threshold)
    np.testing.assert_array_equal(read.origins.entry, np.flatnonzero(hardest >= threshold))


def test_a_threshold_on_constituents_is_that_of_double_precision(tmp_path):
    """float32 rounds sqrt(px^2 + py^2) up to the threshold that the momenta do not reach."""
    rng = np.random.default_rng(2)
    p = rng.uniform(0.5, 2, (20000, 2)).astype(np.float32)
    rounded, exact = np.hypot(p[:, 0], p[:, 1]), np.hypot(*p.astype(float).T)
    row = int(np.flatnonzero(rounded > exact)[0])
    p4 = np.array([[*p[row], 0, 9.0], [3, 4, 0, 9]])
    path = write_parquet(tmp_path / "a.parquet", columns_of(Jets(p4, [0, 2], [0], {"part_charge": np.zeros(2)})))
    assert read_jets(path, constituent_pt=float(rounded[row])).n_constituents == 1
    assert read_jets(path, constituent_pt=float(exact[row])).n_constituents == 2


@pytest.mark.parametrize("n", [1, 3, 10, 1000])
def test_the_hardest_constituents_are_in_descending_pt(file, jets, pieces, n):
    read = read_jets(file, hardest=n, columns="part_charge")
    for mine, whole in zip(lists(read), lists(jets), strict=True):
        order = np.argsort(-np.hypot(whole[:, 0], whole[:, 1]), kind="stable")[:n]
        np.testing.assert_array_equal(mine, whole[order])
    assert read == rino.hardest(jets, n)


# --- fractions ---


def survivors(path: Any, **more: Any) -> set[tuple[str, int]]:
    read = read_jets(path, **more)
    return {(Path(name).name, int(e)) for name, e in zip(read.origins.names, read.origins.entry, strict=True)}


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """3000 jets of one constituent in three files."""
    folder = tmp_path_factory.mktemp("large")
    one = Jets(np.tile([3.0, 4, 0, 13], (1000, 1)), np.arange(1001), np.zeros(1000, int))
    for stem in "abc":
        write_parquet(folder / f"{stem}.parquet", columns_of(one.with_extra("part_charge", np.zeros(1000))))
    return folder


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_a_fraction_is_binomial_and_differs_with_seed_and_file(large, fraction):
    deviation = math.sqrt(3000 * fraction * (1 - fraction))
    drawn = [survivors(large, fraction=fraction, seed=seed) for seed in range(6)]
    for one in drawn:
        assert abs(len(one) - 3000 * fraction) < 4.5 * deviation
    for i, one in enumerate(drawn):
        entries = [{e for name, e in one if name == f"{stem}.parquet"} for stem in "abc"]
        # Files and seeds are drawn independently.
        assert abs(len(entries[0] & entries[1]) - 1000 * fraction**2) < 5 * math.sqrt(1000) * fraction
        for other in drawn[:i]:
            assert abs(len(one & other) - 3000 * fraction**2) < 5 * math.sqrt(3000) * fraction
    # And so are neighbouring jets.
    taken = np.array([(f"{stem}.parquet", e) in drawn[0] for stem in "abc" for e in range(1000)], dtype=float)
    assert abs(np.corrcoef(taken[:-1], taken[1:])[0, 1]) < 5 / math.sqrt(3000)


def test_a_fraction_takes_the_same_jets_however_they_are_read(large, tmp_path, monkeypatch):
    expected = survivors(large, fraction=0.2, seed=5)
    files = sorted(large.iterdir())
    assert survivors(files[::-1], fraction=0.2, seed=5) == expected
    assert set().union(*(survivors(file, fraction=0.2, seed=5) for file in files)) == expected
    shutil.copytree(large, tmp_path / "elsewhere")
    assert survivors(tmp_path / "elsewhere", fraction=0.2, seed=5) == expected
    assert survivors(f"file://{tmp_path}/elsewhere/*.parquet", fraction=0.2, seed=5) == expected
    for rows in (1, 33, 999):
        monkeypatch.setattr("pyrino.data.read._ROWS", rows)
        assert survivors(large, fraction=0.2, seed=5) == expected
    with open_dataset(large, fraction=0.2, seed=5, window=50, shuffle_seed=9) as dataset:
        found = Jets.concatenate(list(dataset.batches(100))).origins
    assert {(Path(n).name, int(e)) for n, e in zip(found.names, found.entry, strict=True)} == expected


def test_a_smaller_fraction_is_part_of_a_larger_one(large):
    assert survivors(large, fraction=0.1) < survivors(large, fraction=0.2) < survivors(large, fraction=0.8)
    assert len(survivors(large, fraction=1.0)) == 3000


# --- together ---


def test_cuts_hold_together_and_the_origins_name_what_is_left(file, jets, pieces):
    values = kinematics(jets)
    low, high = np.quantile(values["pt"], [0.1, 0.9])
    hard = np.array([np.hypot(p4[:, 0], p4[:, 1]).max() for p4 in lists(jets)])
    drawn = np.isin(np.arange(N), [e for _, e in survivors(file, fraction=0.7, seed=1)])
    expected = (
        (values["pt"] >= low) & (values["pt"] < high) & (np.abs(values["eta"]) < 1.5) & (jets.labels != 7) & drawn
    )
    expected &= hard >= 20
    read = read_jets(
        file, pt=(low, high), eta=(-1.5, 1.5), label=["QCD", "Tbqq"], fraction=0.7, seed=1, constituent_pt=20, hardest=3
    )
    assert 5 < len(read) < N
    np.testing.assert_array_equal(read.origins.entry, np.flatnonzero(expected))
    assert read.origins.files == (str(file),) and set(read.origins.file) == {0}
    np.testing.assert_array_equal(read.labels, jets.labels[expected])
    for mine, number in zip(lists(read), read.origins.entry, strict=True):
        whole = lists(jets)[number]
        order = np.argsort(-np.hypot(whole[:, 0], whole[:, 1]), kind="stable")
        whole = whole[order]
        np.testing.assert_array_equal(mine, whole[np.hypot(whole[:, 0], whole[:, 1]) >= 20][:3])


def test_max_jets_counts_what_is_left_of_the_cuts(file, jets):
    whole = read_jets(file, label="Tbqq", columns="part_charge")
    for number in (1, 7, len(whole), 1000):
        part = read_jets(file, label="Tbqq", columns="part_charge", max_jets=number)
        assert part == whole[:number]
        np.testing.assert_array_equal(part.origins.entry, whole.origins.entry[:number])


@pytest.mark.parametrize("number", [1, 18, 50, 119])
def test_max_jets_keeps_origins_in_step(file, jets, number):
    part = read_jets(file, max_jets=number)
    np.testing.assert_array_equal(part.origins.entry, np.arange(number))
    np.testing.assert_array_equal(part.p4, jets[:number].p4)


def test_origins_name_every_file(tmp_path, jets):
    one = write_parquet(tmp_path / "one.parquet", columns_of(jets[:20]))
    two = write_root(tmp_path / "two.root", columns_of(jets[20:50]))
    read = read_jets([two, one], label="QCD")
    assert read.origins.files == (str(two), str(one))
    of_two, of_one = np.flatnonzero(jets.labels[20:50] == 0), np.flatnonzero(jets.labels[:20] == 0)
    np.testing.assert_array_equal(read.origins.entry, [*of_two, *of_one])
    np.testing.assert_array_equal(read.origins.file, [0] * len(of_two) + [1] * len(of_one))
    assert read.origins.names.tolist() == [str(two)] * len(of_two) + [str(one)] * len(of_one)


def test_files_of_other_labels_are_mixed_without_labels(tmp_path, jets):
    jetclass = write_root(tmp_path / "a.root", columns_of(jets))
    net = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays(12))
    with pytest.raises(RinoError, match="leave labels out with labelled=False"):
        read_jets([jetclass, net])
    both = read_jets([jetclass, net], labelled=False)
    assert len(both) == N + 12 and both.labels is None
    assert both[:N] == read_jets(jetclass, labelled=False) and both[N:] == read_jets(net, labelled=False)


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ptt": (1, 2)}, "no selection by 'ptt'; known are columns, constituent_pt, drop_empty"),
        ({"pt": 500}, r"pt = 500: give \(low, high\)"),
        ({"pt": (1, 2, 3)}, r"pt = \(1, 2, 3\)"),
        ({"eta": (2, -2)}, r"eta = \(2, -2\) takes no jet"),
        ({"eta": (2, 2)}, r"eta = \(2, 2\) takes no jet"),
        ({"mass": (math.nan, 2)}, "mass = .*give two numbers"),
        ({"mass": ("a", "b")}, "mass = .*give two numbers"),
        ({"fraction": -0.1}, "fraction = -0.1: give a number from 0 to 1"),
        ({"fraction": 1.1}, "fraction = 1.1"),
        ({"fraction": math.nan}, "fraction = nan"),
        ({"fraction": "half"}, "fraction = 'half'"),
        ({"constituent_pt": -1}, "constituent_pt = -1"),
        ({"hardest": 0}, "hardest = 0: give an integer of 1 or more"),
        ({"hardest": 2.5}, "hardest = 2.5"),
        ({"hardest": True}, "hardest = True"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 0.5}, "seed = 0.5"),
        ({"label": 1.5}, "label = 1.5: give str or int"),
        ({"label": [True]}, r"label = \[True\]: give str or int"),
        ({"label": [None]}, r"label = \[None\]"),
        ({"columns": 3}, "columns = 3: give str"),
        ({"columns": [b"part_charge"]}, "columns = .*give str"),
        ({"drop_empty": "no"}, "drop_empty = 'no': give True or False"),
        ({"labelled": 0}, "labelled = 0: give True or False"),
        ({"on_error": "warn"}, "on_error = 'warn': choose 'raise' or 'skip'"),
    ],
)
def test_bad_arguments_are_named(file, arguments, words):
    for read in (read_jets, open_dataset):
        with pytest.raises(RinoError, match=words):
            read(file, **arguments)


def test_none_is_no_cut(file, jets):
    read = read_jets(file, pt=None, eta=(None, None), label=None, hardest=None, columns="part_charge", fraction=1)
    assert read == jets


# --- the registry ---


class _Numbers(Reader):
    """Lines of px py pz E, one jet of one constituent each."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._rows = np.loadtxt(file, ndmin=2)
        self.entries, self.starts, self.columns = len(self._rows), np.zeros(1, np.int64), {"number": "jet"}
        closed.append(False)

    def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
        part = self._rows[first:last]
        labels = Labels(np.full(len(part), 2), "numbers of lines", ("a", "b", "line"))
        values = {name: np.arange(first, last) for name in columns}
        return Chunk(tuple(part.T), np.ones(len(part), np.int64), labels, {}, values)

    def close(self) -> None:
        self._file.close()
        closed[-1] = True


closed: list[bool] = []


class Lines(Layout):
    name, title, container, suffixes = "lines", "lines of four numbers", "", (".lines",)

    def recognise(self, file: Any) -> bool:
        return file.read(6) == b"#jets\n"

    def reader(self, source: Source, file: Any) -> Reader:
        assert file.tell() == 0
        return _Numbers(file)


class Mine(Layout):
    """Parquet of somebody else's column names."""

    name, title, container, suffixes = "mine", "my own parquet", "parquet", (".parquet",)

    def recognise(self, file: Any) -> bool:
        return "my_px" in file.schema_arrow.names

    def reader(self, source: Source, file: Any) -> Reader:
        names = dict(zip(["my_px", "my_py", "my_pz", "my_energy"], MOMENTA, strict=True))
        table = file.read().rename_columns([names.get(name, name) for name in file.schema_arrow.names])
        file.close()
        import io

        import pyarrow.parquet as pq

        stream = io.BytesIO()
        pq.write_table(table, stream)
        return layouts()["jetclass-parquet"].reader(source, pq.ParquetFile(stream))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("pyrino.data.layout._LAYOUTS", layouts())
    yield


LINES = "#jets\n3 4 0 13\n6 8 0 26\n9 12 0 39\n"


@pytest.mark.usefixtures("registry")
def test_a_layout_of_the_users_is_recognised_and_read_everywhere(tmp_path, file):
    (tmp_path / "a.lines").write_text(LINES)
    with pytest.raises(RinoError, match=r"a.lines cannot be recognised: .*register a layout for it"):
        read_jets(tmp_path / "a.lines")
    with pytest.raises(RinoError, match=r"folder .* has no files"):
        read_jets(tmp_path)
    register(Lines())
    assert layout_of(Source(tmp_path / "a.lines")).name == "lines" and closed[-1]
    for path in (tmp_path / "a.lines", tmp_path):
        jets = read_jets(path, columns="number", pt=(6, None), label="line")
        np.testing.assert_array_equal(jets.p4, [[6, 8, 0, 26], [9, 12, 0, 39]])
        assert jets.values["number"].tolist() == [1, 2] and jets.labels.tolist() == [2, 2] and closed[-1]
    with open_dataset([tmp_path / "a.lines", file], labelled=False) as dataset:
        assert len(dataset) == N + 3 and "1 lines" in repr(dataset)
    assert len(read_jets(file)) == N  # the others are read as before
    (tmp_path / "b.lines").write_text("#jets\nthree four\n")
    with pytest.raises(RinoError, match=r"b.lines cannot be read as lines \(ValueError: .*three"):
        read_jets(tmp_path / "b.lines")


@pytest.mark.usefixtures("registry")
def test_a_layout_in_a_known_container_is_recognised(tmp_path, jets):
    columns = columns_of(jets)
    renamed = {name.replace("part_p", "my_p").replace("part_e", "my_e"): values for name, values in columns.items()}
    path = write_parquet(tmp_path / "a.parquet", renamed)
    with pytest.raises(RinoError, match=r"parquet of no known layout: it has the columns my_px, .*register a layout"):
        read_jets(path)
    register(Mine())
    assert read_jets(path, columns="part_charge") == jets
    assert len(read_jets(write_parquet(tmp_path / "b.parquet", columns))) == N


@pytest.mark.usefixtures("registry")
def test_layouts_are_replaced_on_request_alone(tmp_path):
    class Others(Lines):
        title = "another"

        def recognise(self, file: Any) -> bool:
            return False

    register(Lines())
    (tmp_path / "a.lines").write_text(LINES)
    with pytest.raises(RinoError, match=r"there is a layout 'lines' already: .*replace=True"):
        register(Others())
    assert len(read_jets(tmp_path)) == 3
    register(Others(), replace=True)
    assert layouts()["lines"].title == "another"
    with pytest.raises(RinoError, match="cannot be recognised"):
        read_jets(tmp_path)
    assert len(read_jets(tmp_path, layout="lines")) == 3  # forced


@pytest.mark.usefixtures("registry")
def test_the_layout_registered_last_is_asked_first(tmp_path, jets):
    class Sized(type(layouts()["jetclass-parquet"])):
        name = "sized"

        def recognise(self, file: Any) -> bool:
            return file.metadata.num_rows == 7

    seven = write_parquet(tmp_path / "a.parquet", columns_of(jets[:7]))
    eight = write_parquet(tmp_path / "b.parquet", columns_of(jets[:8]))
    assert layout_of(Source(seven)).name == "jetclass-parquet"
    register(Sized())
    assert layout_of(Source(seven)).name == "sized" and layout_of(Source(eight)).name == "jetclass-parquet"


@pytest.mark.usefixtures("registry")
def test_what_is_no_layout_is_refused():
    class Strange(Lines):
        name, container = "strange", "Excel"

    with pytest.raises(RinoError, match="'strange' has the container 'Excel'; known are ROOT, parquet, HDF5"):
        register(Strange())
    for wrong in (Lines, "lines", None):
        with pytest.raises(RinoError, match="give an instance of a subclass of Layout"):
            register(wrong)
    assert "strange" not in layouts()


def test_a_forced_layout_must_be_known_and_fit(tmp_path, jets):
    both = columns_of(jets) | {"jet_label": np.arange(N)}
    path = write_parquet(tmp_path / "a.parquet", both)
    assert layout_of(Source(path)).name == "jetclass2"
    assert len(read_jets(path, layout="jetclass-parquet")) == N
    with pytest.raises(RinoError, match="no layout 'jetclass3'; known are jetclass, jetclass-parquet"):
        read_jets(path, layout="jetclass3")
    with pytest.raises(RinoError, match=r"a.parquet is parquet, which the layout 'jetclass' is not"):
        read_jets(path, layout="jetclass")
    with pytest.raises(RinoError, match="lacks the data sets particle_features"):
        import h5py

        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["numbers"] = np.zeros(3)
        read_jets(tmp_path / "b.h5", layout="jetnet")


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".txt", ""])
def test_the_content_tells_and_not_the_suffix(tmp_path, jets, suffix):
    for number, (name, path) in enumerate(
        {
            "jetclass-parquet": write_parquet(tmp_path / "one", columns_of(jets)),
            "jetclass": write_root(tmp_path / "two.root", columns_of(jets)),
            "jetnet": write_jetnet(tmp_path / "three", *jetnet_arrays(N)),
        }.items()
    ):
        other = path.rename(tmp_path / f"{number}{suffix}")
        assert layout_of(Source(other)).name == name
        assert len(read_jets(other)) == N
