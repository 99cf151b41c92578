"""kT splitting scales, `rino.compare` and `pyrino compare`: against FastJet, SciPy and samples of known distance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fastjet
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from scipy import stats
from sklearn.metrics import roc_auc_score

import pyrino as rino
from pyrino import RinoError, plots
from pyrino.cli import main
from pyrino.evaluate.domains import VARIABLES, compare_variables, jet_variables


@pytest.fixture(scope="module")
def domains() -> tuple[rino.Jets, rino.Jets]:
    """QCD-like jets, and a mixture of harder QCD-like and top-like ones, both with a charge."""
    made = []
    for seed, options in ((1, {}), (2, {"top_fraction": 0.5, "pt_min": 520.0})):
        jets = rino.toy_jets(300, seed, multiplicity_mean=20, multiplicity_std=6, **options)
        charge = np.random.default_rng(seed).integers(-1, 2, jets.n_constituents)
        made.append(jets.with_extra("part_charge", charge.astype(float)))
    return made[0], made[1]


def fastjet_scales(jets: rino.Jets, n_max: int, radius: float) -> np.ndarray:
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, radius)
    scales = np.empty((len(jets), n_max))
    for j, jet in enumerate(jets):
        # Kept until the sequence has been asked: it does not own its input in Python.
        particles = [fastjet.PseudoJet(*map(float, p)) for p in jet.p4]
        sequence = fastjet.ClusterSequence(particles, definition)
        scales[j] = [sequence.exclusive_dmerge_max(n) for n in range(1, n_max + 1)]
    return np.sqrt(scales)


# --- splitting scales ---


@pytest.mark.parametrize("backend", ["auto", "fast", "fastjet"])
@pytest.mark.parametrize("radius", [0.2, 0.8])
def test_splitting_scales_are_those_of_fastjet(toy, backend, radius):
    mine = rino.splitting_scales(toy, 6, radius=radius, backend=backend)
    assert mine.shape == (len(toy), 6) and mine.dtype == np.float64
    np.testing.assert_allclose(mine, fastjet_scales(toy, 6, radius), rtol=1e-10)


def test_splitting_scales_of_two_and_three_constituents_by_hand():
    def massless(pt: float, eta: float, phi: float) -> list[float]:
        return [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)]

    pair = [massless(100, 0.0, 0.0), massless(40, 0.3, 0.4)]
    far = [massless(100, 0.0, 0.0), massless(5, 2.0, 0.0)]
    jets = rino.Jets([*pair, *far, pair[0]], [0, 2, 4, 5])
    scales = rino.splitting_scales(jets, 3, radius=0.8)
    # min(pT) dR / R within R, pT of the soft one beyond, where it merges with the beam.
    np.testing.assert_allclose(scales, [[40 * 0.5 / 0.8, 0, 0], [5, 0, 0], [0, 0, 0]], rtol=1e-12)


def test_a_scale_is_where_the_exclusive_clustering_changes(toy):
    scales = rino.splitting_scales(toy, 4)
    assert (np.diff(scales, axis=1) <= 0).all()
    for jet, row in zip(toy[:10], scales, strict=False):
        for n, scale in enumerate(row, start=1):
            above, below = rino.ViewGenerator([f"kt:{scale * (1 + 1e-9)}", f"kt:{scale * (1 - 1e-9)}"])(jet)
            assert above.n_constituents <= n < below.n_constituents


def test_splitting_scales_do_not_depend_on_threads_or_company(toy):
    alone = np.concatenate([rino.splitting_scales(jet, 3) for jet in toy])
    np.testing.assert_array_equal(rino.splitting_scales(toy, 3, threads=3), alone)
    assert rino.splitting_scales(toy[:0], 3).shape == (0, 3)


def test_splitting_scales_of_jets_too_large_for_the_fast_clustering():
    jets = rino.toy_jets(3, 1, multiplicity_mean=600, multiplicity_std=100, multiplicity_max=900)
    assert jets.multiplicity.max() > 500
    np.testing.assert_allclose(rino.splitting_scales(jets, 3), fastjet_scales(jets, 3, 0.8), rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_max": 0}, "give 1 to 100000"),
        ({"n_max": 2.5}, "n_max = 2.5"),
        ({"radius": 0}, "0 < R"),
        ({"radius": float("nan")}, "0 < R"),
        ({"threads": 0}, "threads is 0"),
        ({"backend": "slow"}, "backend"),
        ({"jets": [1]}, "jets is of type list"),
    ],
)
def test_splitting_scales_refuse(toy, arguments, message):
    arguments = {"jets": toy, "n_max": 3, **arguments}
    with pytest.raises(RinoError, match=message):
        rino.splitting_scales(arguments.pop("jets"), arguments.pop("n_max"), **arguments)


# --- variables and distances ---


def test_variables_are_what_they_are_called(domains):
    jets = domains[0][:20]
    found = jet_variables(jets, radius=0.7)
    assert list(found) == list(VARIABLES)
    scales = fastjet_scales(jets, 3, 0.7)
    (prongs,) = rino.ViewGenerator([3], radius=0.7)(jets)
    for j, jet in enumerate(jets):
        pt = np.sort(jet.constituents.pt)[::-1]
        charged = jet.constituents.pt[jet.extras["part_charge"] != 0]
        expected = {
            "pt": jet.pt[0],
            "eta": jet.eta[0],
            "mass": jet.mass[0],
            "multiplicity": len(pt),
            "sqrt_d12": scales[j, 0],
            "sqrt_d23": scales[j, 1],
            "sqrt_d34": scales[j, 2],
            "hardest_1": pt[0] / pt.sum(),
            "hardest_10": pt[:10].sum() / pt.sum(),
            "subjet": prongs[j].constituents.pt.max() / pt.sum(),
            "charged": charged.sum() / pt.sum(),
        }
        assert {name: column[j] for name, column in found.items()} == pytest.approx(expected, rel=1e-9)


def test_distances_are_those_of_scipy_and_sklearn(domains):
    found = rino.compare(*domains, classifier=False)
    assert found.jets == (300, 300) and [d.variable for d in found.table] == list(VARIABLES)
    for d in found.table:
        a, b = (side[d.variable] for side in found.values)
        np.testing.assert_allclose(d.mean, [a.mean(), b.mean()])
        np.testing.assert_allclose(d.std, [a.std(ddof=1), b.std(ddof=1)])
        np.testing.assert_allclose(d.quantiles, [np.quantile(x, [0.05, 0.5, 0.95]) for x in (a, b)])
        grid = np.concatenate([a, b])
        assert d.ks == pytest.approx(np.abs(np.mean(a <= grid[:, None], 1) - np.mean(b <= grid[:, None], 1)).max())
        assert d.ks_p == pytest.approx(stats.ks_2samp(a, b).pvalue)
        # Equal numbers of jets: the mean distance of the sorted values.
        assert d.wasserstein == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean())
        pooled = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        assert d.wasserstein_relative == pytest.approx(d.wasserstein / pooled)
        auc = roc_auc_score(np.repeat([0, 1], 300), grid)
        assert d.auc == pytest.approx(max(auc, 1 - auc))


def test_a_known_shift_has_a_known_distance():
    rng = np.random.default_rng(5)
    base = {name: rng.normal(size=4000) for name in VARIABLES}
    moved = {name: rng.normal(size=5000) + (1.0 if name == "mass" else 0.0) for name in VARIABLES}
    found = compare_variables(base, moved)
    by_name = {d.variable: d for d in found.table}
    # Two unit normals a distance of 1 apart: W1 = 1, D = 2 Phi(1/2) - 1, AUC = Phi(1/sqrt(2)).
    assert by_name["mass"].wasserstein == pytest.approx(1, abs=0.1)
    assert by_name["mass"].ks == pytest.approx(0.383, abs=0.03)
    assert by_name["mass"].auc == pytest.approx(0.760, abs=0.02)
    assert by_name["mass"].ks_p < 1e-50 < 1e-4 < by_name["pt"].ks_p
    assert found.separation["value"] == pytest.approx(0.75, abs=0.02)
    assert found.kinematics["value"] == pytest.approx(0.5, abs=0.03)


def test_equal_values_have_no_distance():
    same = {name: np.full(10, 3.0) for name in VARIABLES}
    found = compare_variables(same, same)
    assert {(d.ks, d.wasserstein, d.wasserstein_relative, d.auc) for d in found.table} == {(0, 0, 0, 0.5)}
    assert found.separation is None and "no classifier" in repr(found)
    found.plot()


def test_the_classifier_is_seeded_and_needs_enough_jets(domains):
    first, again = (rino.compare(*domains, seed=3) for _ in range(2))
    assert first.separation == again.separation
    assert first.separation["value"] > 0.6 and len(first.separation["folds"]) == 5
    assert rino.compare(domains[0][:99], domains[1]).separation is None
    assert rino.compare(*domains, classifier=False).separation is None


def test_a_charge_that_one_side_lacks_is_left_out(domains):
    a, b = domains
    bare = rino.Jets(b.p4, b.offsets)
    assert "charged" not in [d.variable for d in rino.compare(a, bare, classifier=False).table]


def test_tables_show_both_samples(domains):
    found = rino.compare(*domains, names=("QCD", "a <mixture>"), classifier=False)
    text = repr(found)
    assert text.startswith("QCD: 300 jets\na <mixture>: 300 jets\n")
    pt = found.values[0]["pt"]
    assert re.search(rf"^pT \[GeV\] +QCD +{pt.mean():.0f} ", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80
    html = found._repr_html_()
    assert "a &lt;mixture&gt;" in html and "<mixture>" not in html
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["variables"]["mass"]["unit"] == "GeV"
    assert document["jets"] == [300, 300]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jets_a": 3}, "jets_a is of type int"),
        ({"names": "AB"}, "names = 'AB'"),
        ({"names": ["a"]}, "names"),
        ({"radius": -1}, "0 < R"),
    ],
)
def test_compare_refuses(domains, change, message):
    arguments = {"jets_a": domains[0], "jets_b": domains[1], **change}
    with pytest.raises(RinoError, match=message):
        rino.compare(arguments.pop("jets_a"), arguments.pop("jets_b"), **arguments)


def test_compare_refuses_jets_without_an_axis_and_single_jets(domains):
    beam = rino.Jets([[0.0, 0, 5, 5], [0.0, 0, 5, 5]], [0, 1, 2])
    with pytest.raises(RinoError, match="jet 0 has pT = 0"):
        rino.compare(beam, domains[1])
    with pytest.raises(RinoError, match="two jets or more"):
        rino.compare(domains[0][:1], domains[1])


# --- the picture ---


def panels(figure: Figure, name: str) -> tuple[Any, Any]:
    """Density and ratio of a variable."""
    i = next(i for i, axes in enumerate(figure.axes) if axes.get_xlabel() == name)
    return figure.axes[i - 1], figure.axes[i]


def test_the_picture_has_shapes_and_their_ratio(domains):
    found = rino.compare(*domains, names=("QCD", "mixture"), classifier=False)
    figure = found.plot()
    assert len(figure.axes) == 2 * len(VARIABLES)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["QCD  (300 jets)", "mixture  (300 jets)"]
    above, below = panels(figure, VARIABLES["mass"].axis)
    density = [patch.get_data() for patch in above.patches if patch.get_label() and not patch.get_fill()]
    edges = density[0].edges
    counts = [np.histogram(side["mass"], edges)[0] for side in found.values]
    for drawn, n in zip(density, counts, strict=True):
        np.testing.assert_allclose(drawn.values, n / 300 / np.diff(edges))
    points = below.lines[-1] if len(below.lines) == 1 else below.containers[0].lines[0]
    x, y = points.get_data()
    enough = np.minimum(*counts) >= 5
    np.testing.assert_allclose(x, 0.5 * (edges[1:] + edges[:-1]))
    np.testing.assert_array_equal(np.isfinite(y), enough)
    np.testing.assert_allclose(y[enough], counts[1][enough] / counts[0][enough])
    low, high = below.get_ylim()
    assert low <= y[enough].min() and y[enough].max() <= high
    plots.figure_to_png(figure, dpi=30)


def test_the_picture_takes_equal_names_and_refuses_different_variables():
    x = np.linspace(0, 1, 50)
    figure = plots.compare_distributions(("a", {"x": x}), ("a", {"x": x}))
    assert [text.get_text().split("  ")[0] for text in figure.legends[0].get_texts()] == ["a (1)", "a (2)"]
    with pytest.raises(RinoError, match="variables"):
        plots.compare_distributions(("a", {"x": x}), ("b", {"y": x}))


# --- the command ---


def write(path: Path, jets: rino.Jets, *, charge: bool = True) -> Path:
    cut = jets.offsets[1:-1]
    columns = dict(
        zip(("part_px", "part_py", "part_pz", "part_energy"), (jets.px, jets.py, jets.pz, jets.e), strict=True)
    )
    if charge:
        columns["part_charge"] = jets.extras["part_charge"]
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = {name: pa.array([part.tolist() for part in np.split(x, cut)]) for name, x in columns.items()}
    pq.write_table(pa.table(lists), path)
    return path


@pytest.fixture(scope="module")
def files(domains, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of 300 jets; a folder of two with 100 and 200."""
    folder = tmp_path_factory.mktemp("compare")
    write(folder / "b" / "1.parquet", domains[1][:100])
    write(folder / "b" / "2.parquet", domains[1][100:])
    return write(folder / "a" / "x.parquet", domains[0]), folder / "b"


def call(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


def test_the_command_says_what_python_says(domains, files, tmp_path, capsys):
    out = tmp_path / "figures" / "x.png"
    assert call(*files, "--names", "a", "b", "--plot", out) == 0
    text = capsys.readouterr().out
    assert repr(rino.compare(*domains, names=("a", "b"))) in text
    assert out.read_bytes().startswith(b"\x89PNG")
    assert call(*files, "--plot", out) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_command_weights_the_side_that_has_the_column(domains, files, tmp_path, capsys):
    table = pq.read_table(files[0])
    w = np.arange(300) % 7
    pq.write_table(table.append_column("w", pa.array(w)), tmp_path / "w.parquet")
    assert call(tmp_path / "w.parquet", files[1], "--names", "a", "b", "--weight", "w") == 0
    text = capsys.readouterr().out
    assert repr(rino.compare(*domains, names=("a", "b"), weights=(w, None))) in text
    assert call(*files, "--weight", "w") == 2
    assert "has a column 'w'" in capsys.readouterr().err


def test_the_command_takes_jets_of_all_files_in_proportion(domains, files, capsys):
    assert call(*files, "--max-jets", 30, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jets"] == [30, 30] and found["separation_auc"] is None
    chosen = np.r_[0:10, 100:120]
    assert found["variables"]["mass"]["mean"][1] == pytest.approx(domains[1].mass[chosen].mean())
    assert found["names"] == ["x.parquet", "b"]
    assert call(*files, "--max-jets", 0) == 2


def test_the_command_takes_the_selection_of_read_jets(files, capsys):
    assert call(*files, "--pt", 600, "-", "--no-classifier", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jets"] == [len(rino.read_jets(path, pt=(600, None))) for path in files]
    assert call(*files, "--pt", 1e6, "-") == 2
    assert "no jet of" in capsys.readouterr().err


def test_the_command_says_what_it_left_out(domains, files, tmp_path, capsys):
    bare = write(tmp_path / "bare.parquet", domains[1], charge=False)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nonsense PAR1")
    assert call(files[0], bare, "--no-classifier") == 0
    assert f"without the charged share: there is no part_charge in {bare}" in capsys.readouterr().out
    assert call(files[0], tmp_path, "--no-classifier") == 2
    assert "broken.parquet" in capsys.readouterr().err
    assert call(files[0], tmp_path, "--no-classifier", "--on-error", "skip") == 0
    captured = capsys.readouterr()
    assert "300 jets" in captured.out
    assert re.search(r"left out of .*1 file skipped, the first: .*broken\.parquet", captured.err)


def test_two_copies_of_the_same_jets_are_said_to_be_that():
    jets = rino.toy_jets(300, seed=3)
    comparison = rino.compare(jets, jets)
    assert comparison.separation is not None and comparison.separation["value"] < 0.4
    assert "the two hold the same jets" in comparison.summary()
    assert "the same jets" not in rino.compare(jets, rino.toy_jets(300, seed=4)).summary()
