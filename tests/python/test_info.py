"""`pyrino info`: what it says of sound and of broken files, in a terminal, as JSON, as a picture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import small_jets
from matplotlib.figure import Figure

import pyrino as rino
from pyrino import plots
from pyrino.cli import main
from pyrino.cli.pictures import block_histogram, histograms
from pyrino.data import JETCLASS_CLASSES
from pyrino.data.selection import Selection
from pyrino.data.summary import Moments, Sample, summarize
from pyrino.plots.distributions import binning

QCD, TOP = JETCLASS_CLASSES.index("QCD"), JETCLASS_CLASSES.index("Tbqq")
MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")


def write(path: Path, jets: rino.Jets | list[Any], number: int | None = None, **options: Any) -> Path:
    """JetClass's columns in parquet, with a charge; `jets` may be plain lists (n, constituents, 4), broken ones too."""
    if isinstance(jets, rino.Jets):
        jets = [jet.p4.tolist() for jet in jets]
    columns: dict[str, Any] = {
        name: pa.array([[row[c] for row in jet] for jet in jets], pa.list_(pa.float64()))
        for c, name in enumerate(MOMENTA)
    }
    columns["part_charge"] = pa.array([[1.0] * len(jet) for jet in jets], pa.list_(pa.float64()))
    if number is not None:
        for n, name in enumerate(JETCLASS_CLASSES):
            columns[f"label_{name}"] = pa.array(np.full(len(jets), n == number))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of labelled jets, one class each."""
    folder = tmp_path_factory.mktemp("info")
    jets = small_jets(60)
    write(folder / "qcd.parquet", jets[jets.labels == 0], QCD)
    write(folder / "top.parquet", jets[jets.labels == 1], TOP)
    return folder


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def call(*arguments: object) -> int:
    return main(["info", *map(str, arguments)])


def document(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert call(*arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def row(text: str, name: str) -> str:
    """What stands behind a name at the beginning of a line."""
    found = re.search(rf"^{re.escape(name)} +(.*)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return found[1]


# --- sound files ---


def test_says_layout_container_size_labels_columns_and_ranges(data, capsys):
    assert call(data) == 0
    text = capsys.readouterr().out
    jets = rino.read_jets(data)
    assert row(text, "layout").startswith("jetclass-parquet (")
    assert row(text, "container") == "parquet"
    assert row(text, "files").startswith("2: ")
    assert row(text, "jets") == "60"
    assert row(text, "broken") == "none"
    assert row(text, "labels") == "numbers of JetClass"
    assert row(text, "  QCD") == f"{np.sum(jets.labels == QCD)} ({np.mean(jets.labels == QCD):.1%})"
    assert row(text, "  Tbqq").startswith(f"{np.sum(jets.labels == TOP)} (")
    assert row(text, "constituent columns") == "part_charge"
    n = jets.multiplicity
    assert row(text, "constituents of a jet").split() == [
        f"{n.mean():.2f}", f"{n.std():.2f}", f"{np.median(n):.0f}", str(n.min()), str(n.max())
    ]  # fmt: skip
    for name, x in (("pT [GeV]", jets.pt), ("pseudorapidity eta", jets.eta), ("mass [GeV]", jets.mass)):
        expected = [f"{v:.2f}" for v in (x.mean(), x.std(), np.median(x), x.min(), x.max())]
        assert row(text, name).split() == expected
    assert max(map(len, [line for line in text.splitlines() if not line.startswith("files")])) <= 80


def test_json_has_the_same_numbers(data, capsys):
    found = document(capsys, data)
    assert found["unreadable"] == {}
    (group,) = found["groups"]
    jets = rino.read_jets(data)
    assert (group["layout"], group["jets"], group["read"], group["taken"]) == ("jetclass-parquet", 60, 60, 60)
    assert group["bytes"] == sum(file.stat().st_size for file in data.iterdir())
    assert group["classes"] == {"QCD": np.sum(jets.labels == QCD), "Tbqq": np.sum(jets.labels == TOP)}
    assert group["columns"]["part_charge"] == "constituent"
    for name, values in (("pt", jets.pt), ("eta", jets.eta), ("mass", jets.mass), ("multiplicity", jets.multiplicity)):
        expected = {"mean": values.mean(), "std": values.std(), "median": np.median(values)}
        expected |= {"least": values.min(), "greatest": values.max()}
        assert group["numbers"][name] == pytest.approx(expected, rel=1e-12)


def test_keeps_layouts_and_labels_apart(data, tmp_path, capsys):
    with h5py.File(tmp_path / "t150.hdf5", "w") as file:
        file["particle_features"] = np.array([[[0, 0, 0.5, 1], [0.1, 0, 0.5, 1], [0, 0, 0, 0]]], dtype=np.float32)
        file["jet_features"] = np.array([[1000, 0.5, 50, 2]], dtype=np.float32)
    plain = write(tmp_path / "plain.parquet", small_jets(5))
    assert call(tmp_path / "t150.hdf5", plain, data / "qcd.parquet") == 0
    groups = re.split(r"^layout", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    assert [row(group, "labels") for group in groups] == ["numbers of JetNet", "none", "numbers of JetClass"]
    assert groups[0].split()[0] == "jetnet" and row(groups[0], "  t") == "1 (100.0%)"


def test_takes_at_most_so_many_jets_of_each_path(data, tmp_path, capsys):
    other = tmp_path / "other.parquet"
    other.write_bytes((data / "qcd.parquet").read_bytes())
    assert call(data, other, "--max-jets", 7) == 0
    assert row(capsys.readouterr().out, "read").startswith("14 of ")
    assert call(data, "--max-jets", 0) == 2
    assert "max_jets = 0" in capsys.readouterr().err
    # With a selection the limit is on what it takes, and reading goes on until then.
    jets = rino.read_jets(data / "qcd.parquet")
    cut = float(np.median(jets.pt))
    (group,) = document(capsys, data / "qcd.parquet", "--max-jets", 5, "--pt", cut, "-")["groups"]
    assert group["taken"] == 5 < group["read"]
    assert group["numbers"]["pt"]["mean"] == pytest.approx(jets.pt[jets.pt >= cut][:5].mean())


def test_selection_is_that_of_read_jets(data, capsys):
    (group,) = document(capsys, data, "--label", "Tbqq", "--hardest", 4, "--pt", 550, "-")["groups"]
    jets = rino.read_jets(data, label="Tbqq", hardest=4, pt=(550, None))
    assert group["taken"] == len(jets)
    assert group["classes"] == {"Tbqq": len(jets)}
    assert group["numbers"]["mass"]["mean"] == pytest.approx(jets.mass.mean())
    assert call(data, "--label", "Tbqq") == 0
    assert row(capsys.readouterr().out, "taken") == f"{np.sum(rino.read_jets(data).labels == TOP)} by the selection"


def test_lists_few_of_many_classes(jetclass2_file, capsys):
    assert call(jetclass2_file) == 0
    text = capsys.readouterr().out
    assert text.startswith("layout               jetclass2 (")
    assert row(text, "labels") == "numbers of the column jet_label"
    assert re.fullmatch(r"\d+ classes", row(text, "  others"))
    assert "part_isMuon" in text and "aux_genpart" not in text  # which are not of the constituents


def test_says_which_columns_only_some_files_have(data, tmp_path, capsys):
    table = pq.read_table(data / "qcd.parquet")
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop_columns("part_charge"), tmp_path / "b.parquet")
    assert call(tmp_path) == 0
    assert row(capsys.readouterr().out, "constituent columns") == "part_charge (in 1 file)"


# --- broken files ---


def test_counts_what_is_wrong_with_jets_and_goes_on(tmp_path, capsys):
    good = [[30.0, 0, 40, 50], [3, 4, 0, 5]]
    jets = [good, [], [[np.nan, 0, 0, 5], [1, np.inf, np.nan, 2]], [*good, [3, 4, 0, 4]], good]
    file = write(tmp_path / "x.parquet", jets)
    (group,) = document(capsys, file)["groups"]
    assert group["broken"] == {
        "jets": 3,
        "empty": 1,
        "not_finite": {"px": 1, "py": 1, "pz": 1, "E": 0},
        "below_momentum": 1,
        "unread": 0,
    }
    assert (group["jets"], group["taken"]) == (5, 2)
    assert group["numbers"]["multiplicity"]["mean"] == 2
    assert call(file) == 0
    text = capsys.readouterr().out
    assert (
        row(text, "broken")
        == "3 jets (1 jet without constituents; not finite px: 1, py: 1, pz: 1; E < |p|: 1)"
    )  # fmt: skip


def test_a_file_that_cannot_be_read_does_not_stop_the_others(data, tmp_path, capsys):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nonsense PAR1")
    assert call(tmp_path / "x.parquet", data) == 2
    captured = capsys.readouterr()
    assert row(captured.out, "jets") == "60"
    assert re.match(r"pyrino: error: .*x\.parquet", captured.err)
    assert call(tmp_path / "x.parquet", data, "--on-error", "skip") == 0
    assert re.search(r"^skipped: 1 file, the first: .*x\.parquet", capsys.readouterr().out, re.MULTILINE)
    found = document(capsys, tmp_path / "x.parquet", data, status=2)
    assert list(found["unreadable"]) == [str(tmp_path / "x.parquet")]
    assert found["groups"][0]["taken"] == 60
    assert call(tmp_path / "y.parquet") == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_piece_that_cannot_be_read_is_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pyrino.data.summary._ROWS", 10)
    file = write(tmp_path / "x.parquet", small_jets(30), row_group_size=10, compression="NONE")
    whole = file.read_bytes()
    metadata = pq.read_metadata(file)
    # The page header of the second row group's px.
    start = metadata.row_group(1).column(0).dictionary_page_offset or metadata.row_group(1).column(0).data_page_offset
    file.write_bytes(whole[:start] + b"\xff" * 16 + whole[start + 16 :])
    found = document(capsys, file, status=2)
    (group,) = found["groups"]
    assert (group["jets"], group["read"], group["broken"]["unread"]) == (30, 20, 10)
    assert list(found["unreadable"]) == [str(file)]


def test_a_row_that_cannot_be_read_costs_one_jet(tmp_path, capsys):
    file = write(tmp_path / "x.parquet", small_jets(30))
    table = pq.read_table(file)
    place = table.column_names.index("part_py")
    lists = table["part_py"].to_pylist()
    pq.write_table(table.set_column(place, "part_py", [[*lists[:7], None, *lists[8:]]]), file)
    found = document(capsys, file, status=2)
    (group,) = found["groups"]
    assert (group["jets"], group["read"], group["broken"]["unread"]) == (30, 29, 1)
    assert "jet 7 has no part_py" in found["unreadable"][str(file)]


def test_nothing_sound_is_no_error(tmp_path, capsys):
    file = write(tmp_path / "x.parquet", [[], [[np.nan, 0, 0, 1]]])
    assert call(file, "--plot", tmp_path / "x.png") == 0
    assert row(capsys.readouterr().out, "broken").startswith("2 jets (")
    assert not (tmp_path / "x.png").exists()
    empty = write(tmp_path / "y.parquet", [])
    assert call(empty) == 0
    assert row(capsys.readouterr().out, "jets") == "0"


def test_a_class_that_is_not_there_is_an_error(data, capsys):
    assert call(data, "--label", "Tbq") == 2
    assert "there is no class 'Tbq'" in capsys.readouterr().err


# --- in pieces ---


def test_results_do_not_depend_on_the_pieces(data, monkeypatch):
    ((whole,), _) = summarize([data], Selection())
    monkeypatch.setattr("pyrino.data.summary._ROWS", 2)
    ((pieces,), _) = summarize([data], Selection())
    np.testing.assert_array_equal(whole.sample.rows, pieces.sample.rows)
    for name, moments in whole.numbers.items():
        assert pieces.numbers[name].mean == pytest.approx(moments.mean, rel=1e-13)
        assert pieces.numbers[name].std == pytest.approx(moments.std, rel=1e-12)


def test_moments_of_pieces_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    x = 1e6 + rng.normal(size=1000)
    moments = Moments()
    for part in np.split(x, [1, 1, 400]):
        moments.add(np.append(part, [np.nan, np.inf]))
    assert moments.count == 1000
    assert moments.mean == pytest.approx(x.mean(), rel=1e-14)
    assert moments.std == pytest.approx(x.std(), rel=1e-9)
    assert (moments.least, moments.greatest) == (x.min(), x.max())


def test_the_sample_is_bounded_and_uniform():
    sample = Sample(size=1000, seed=1)
    for first in range(0, 20000, 500):
        sample.add(np.arange(first, first + 500, dtype=np.float64)[:, None])
    rows = sample.rows[:, 0]
    assert sample.seen == 20000 and rows.shape == (1000,)
    assert len(np.unique(rows)) == 1000 and (np.diff(rows) > 0).all()
    # Mean of 1000 drawn from 0 .. 19999: 10^4 with an error of 183.
    assert abs(rows.mean() - 9999.5) < 4 * 183


# --- sketches and pictures ---


def test_block_histogram_has_the_heights_of_the_counts():
    values = np.repeat([0.0, 1, 2, 3], [1, 8, 16, 4])
    lines = block_histogram("n", values, 40, blocks=True, height=2)
    assert lines[0].split() == ["n", "max", "55.2%"]
    columns = [lines[1][i] + lines[2][i] for i in range(0, 40, 10)]
    assert columns == [" ▁", " █", "██", " ▄"]
    assert lines[3] == "─" * 40
    assert lines[4] == "0" + "3".rjust(39)
    plain = block_histogram("n", values, 40, blocks=False, height=2)
    assert "".join(plain).isascii()
    assert [plain[1][i] + plain[2][i] for i in range(0, 40, 10)] == [" .", " #", "##", " :"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_sketches_stay_within_the_terminal(width):
    rng = np.random.default_rng(0)
    columns = {"pT [GeV]": rng.exponential(100, 500), "n": rng.poisson(40, 500), "all the same": np.full(500, 0.5)}
    text = histograms(columns, width, blocks=True)
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) == (17 if width >= 64 else 26)


def test_writes_ascii_where_the_terminal_takes_no_more(data):
    command = [sys.executable, "-m", "pyrino", "info", str(data)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    assert out.isascii() and b"##" in out


def test_plot_draws_and_never_overwrites_unasked(data, tmp_path, capsys):
    out = tmp_path / "figures" / "x.pdf"
    assert call(data, "--plot", out) == 0
    assert out.read_bytes().startswith(b"%PDF")
    assert str(out) in capsys.readouterr().out
    assert call(data, "--plot", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert call(data, "--plot", out, "--overwrite") == 0
    assert call(data, "--plot", tmp_path / "x.jpgg") == 2
    assert "suffix '.jpgg'" in capsys.readouterr().err
    assert [path.name for path in out.parent.iterdir()] == ["x.pdf"]


def stairs_of(figure: Figure, panel: int) -> list[Any]:
    return [patch for patch in figure.axes[panel].patches if patch.get_label() and not patch.get_fill()]


def test_distributions_are_densities_with_their_errors():
    rng = np.random.default_rng(3)
    samples = {"a": {"x": rng.normal(size=4000), "n": rng.poisson(9, 4000)}, "b": {"x": rng.normal(1, 2, 3000)}}
    samples["b"]["n"] = np.append(rng.poisson(12, 2999), np.nan)
    figure = plots.distributions(samples, labels={"x": "x [GeV]"}, log=["n"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["x [GeV]", "n"]
    assert figure.axes[0].get_ylabel() == "density [1/GeV]"
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a  (4000 jets)", "b  (3000 jets)"]
    for patch, x in zip(stairs_of(figure, 0), (samples["a"]["x"], samples["b"]["x"]), strict=True):
        density, edges, _ = patch.get_data()
        np.testing.assert_allclose(density, np.histogram(x, edges)[0] / len(x) / np.diff(edges))
    edges = stairs_of(figure, 1)[0].get_data()[1]
    assert (np.diff(edges) == 1).all() and edges[0] % 1 == 0.5


def test_distributions_refuse_what_they_cannot_draw():
    for samples, message in (({}, "nothing to draw"), ({"a": {"x": [np.nan]}}, "'x' of 'a' has no finite values")):
        with pytest.raises(rino.RinoError, match=message):
            plots.distributions(samples)


def test_bins_cover_what_is_not_an_outlier():
    x = np.append(np.linspace(0, 1, 10001), 1e9)
    edges = binning(x)
    assert len(edges) == 41 and edges[0] >= 0 and edges[-1] <= 1
    np.testing.assert_array_equal(binning([2, 3, 5]), [1.5, 2.5, 3.5, 4.5, 5.5])
    for n in (1, 7, 39, 40, 41, 200):
        edges = binning(np.arange(n), 40)
        assert len(edges) <= 41 and edges[0] == -0.5 and edges[-1] >= n - 0.5
    assert len(binning([0.5, 0.5])) == 2
