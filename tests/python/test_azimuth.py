"""JetNet's files do not tell the jets' azimuth: it is drawn, uniformly, for each jet from what the file says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_readers import jetnet_arrays, write_jetnet

import pyrino as rino
from pyrino import Jets, RinoError, RinoWarning, read_jets
from pyrino.cli import main

N = 400


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jetnet(tmp_path_factory.mktemp("azimuth") / "t.hdf5", *jetnet_arrays(N))


def phi_of(jets: Jets) -> dict[int, float]:
    """The azimuth of each jet's first constituent, by the jet's entry."""
    return dict(zip(jets.origins.entry.tolist(), np.arctan2(jets.py, jets.px)[jets.offsets[:-1]].tolist(), strict=True))


def turned_by(jets: Jets, plain: Jets) -> np.ndarray:
    """(T,) by which angle each constituent differs from what it is at phi = 0, in [-pi, pi)."""
    turn = np.arctan2(jets.py, jets.px) - np.arctan2(plain.py, plain.px)
    return (turn + np.pi) % (2 * np.pi) - np.pi


def test_every_jet_is_turned_as_a_whole_and_not_else_changed(file):
    drawn, plain = read_jets(file), read_jets(file, layout="jetnet:phi=0")
    turn = turned_by(drawn, plain)
    of_jet = turn[drawn.offsets[:-1]]
    np.testing.assert_allclose(np.sin((turn - np.repeat(of_jet, drawn.multiplicity)) / 2), 0, atol=1e-14)
    for name in ("pt", "eta", "mass"):
        np.testing.assert_allclose(getattr(drawn, name), getattr(plain, name), rtol=1e-9, atol=1e-4)
    np.testing.assert_array_equal(drawn.pz, plain.pz)
    np.testing.assert_array_equal(drawn.e, plain.e)


def test_the_azimuth_is_uniform_and_of_nothing_else_that_is_known(tmp_path):
    particles, features = jetnet_arrays(20_000, size=5)
    file = write_jetnet(tmp_path / "t.hdf5", particles, features)
    drawn, plain = read_jets(file), read_jets(file, layout="jetnet:phi=0")
    phi = turned_by(drawn, plain)[drawn.offsets[:-1]]
    assert stats.kstest(phi, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    assert stats.chisquare(np.histogram(phi, 100, (-np.pi, np.pi))[0]).pvalue > 1e-3
    for other in (np.arange(len(phi)), features[:, 0], features[:, 1], features[:, 2], np.roll(phi, 1)):
        assert abs(stats.spearmanr(phi, other).statistic) < 4 / np.sqrt(len(phi))


def test_the_azimuth_is_the_same_by_every_road(file, tmp_path, monkeypatch):
    expected = phi_of(read_jets(file))
    assert len(set(expected.values())) == N
    cut = read_jets(file, pt=(900, None), mass=(60, None))
    assert 50 < len(cut) < N and phi_of(cut).items() <= expected.items()
    assert phi_of(read_jets(file, columns=["jet_pt"], labelled=False)) == expected
    rino.pack(file, tmp_path / "packed.arrow", progress=False)
    packed = phi_of(read_jets(tmp_path / "packed.arrow"))
    assert packed.keys() == expected.keys()
    np.testing.assert_allclose([packed[j] for j in expected], list(expected.values()), rtol=0, atol=1e-6)
    with rino.open_dataset(file, window=64, threads=3, pt=(900, None)) as dataset:
        for _ in range(2):
            seen = [phi_of(jets) for jets in dataset.batches(50)]
            assert all(phis.items() <= expected.items() for phis in seen) and len(seen) > 2
    monkeypatch.setattr("pyrino.data.read._ROWS", 7)
    assert phi_of(read_jets(file)) == expected


def test_a_broken_jet_that_is_skipped_turns_no_other(tmp_path):
    particles, features = jetnet_arrays(20)
    expected = phi_of(read_jets(write_jetnet(tmp_path / "t.hdf5", particles, features)))
    particles[7, 0, 3], features[3, 0] = 5, np.nan
    with pytest.warns(RinoWarning, match="2 broken jets"):
        found = phi_of(read_jets(write_jetnet(tmp_path / "t.hdf5", particles, features), on_error="skip"))
    assert found == {j: phi for j, phi in expected.items() if j not in (3, 7)}


def test_neither_row_nor_file_nor_padding_nor_precision_turn_a_jet(tmp_path):
    particles, features = jetnet_arrays(50)
    expected = phi_of(read_jets(write_jetnet(tmp_path / "t.hdf5", particles, features)))
    order = np.random.default_rng(5).permutation(50)
    longer = np.concatenate([particles, np.full((50, 120, 4), np.nan, np.float32)], axis=1)
    longer[:, 30:, 3] = 0
    for name, blocks in {
        "another.h5": (particles[order], features[order]),
        "q150.hdf5": (longer[order], features[order]),
        "double.hdf5": (particles[order].astype(np.float64), features[order].astype(">f8")),
    }.items():
        found = phi_of(read_jets(write_jetnet(tmp_path / name, *blocks)))
        assert [found[row] for row in range(50)] == [expected[j] for j in order.tolist()]


@pytest.mark.parametrize("what", ["particles", "features"])
@pytest.mark.parametrize("column", range(3))
def test_jets_that_differ_in_any_number_have_other_azimuths(tmp_path, what, column):
    particles, features = jetnet_arrays(10)
    before = read_jets(write_jetnet(tmp_path / "t.hdf5", particles, features))
    block = particles[:, 0] if what == "particles" else features
    block[:, column] = np.nextafter(block[:, column], np.inf)
    after = read_jets(write_jetnet(tmp_path / "t.hdf5", particles, features))
    assert (np.abs(turned_by(after, before)) > 1e-4).all()


def test_an_angle_may_be_chosen_for_all(file, tmp_path, capsys):
    plain = read_jets(file, layout="jetnet:phi=0")
    np.testing.assert_allclose(turned_by(read_jets(file, layout="jetnet:phi=-1.5"), plain), -1.5, rtol=1e-12)
    rino.pack(file, tmp_path / "packed.arrow", layout="jetnet:phi=0", progress=False)
    np.testing.assert_allclose(read_jets(tmp_path / "packed.arrow").py, plain.py, rtol=1e-7)
    with rino.open_dataset(file, layout="jetnet:phi=0") as dataset:
        assert set(dataset.layouts.values()) == {"jetnet:phi=0"}
        (batch,) = dataset.batches(N)
        assert phi_of(batch) == phi_of(plain)
    assert main(["info", str(file), "--layout", "jetnet:phi=0"]) == 0
    assert "jetnet:phi=0 (JetNet" in capsys.readouterr().out


@pytest.mark.parametrize("options", ["", "0", "phi", "phi=", "phi=x", "phi=nan", "phi=inf", "eta=0", "phi=0,phi=1"])
def test_options_that_jetnet_has_not_are_named(file, options):
    with pytest.raises(RinoError, match=rf"'{options}' is no option of the layout 'jetnet': give phi=0"):
        read_jets(file, layout=f"jetnet:{options}")


@pytest.mark.parametrize("layout", ["aspen:phi=0", "rs3l:fsr", "jetnets:phi=0", ":", "landscape:"])
def test_layouts_without_options_say_so(file, layout):
    with pytest.raises(RinoError, match=f"there is no layout '{layout}'; known are jetclass, "):
        read_jets(file, layout=layout)
