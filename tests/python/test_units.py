"""Momenta in MeV: whoever gives them is warned, once, with what helps."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import awkward as ak
import numpy as np
import pytest
from helpers import tiny
from test_readers import columns_of, jetnet_arrays, write_jetnet, write_parquet, write_root

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, RinoWarning, read_jets
from pyrino.cli import main

N = 60
WORDS = r"jet \d+ has pT = \S+ GeV, more than .*\(14000 GeV\): are the momenta in MeV\? Then "
DIVIDE = WORDS + "divide px, py, pz and E"
SCALE = WORDS + r"give scale=1e-3 \(of a command: --scale 1e-3\)"


@pytest.fixture(scope="module")
def jets() -> Jets:
    """Of 500 GeV and more."""
    toy = rino.toy_jets(N, seed=4, top_fraction=0.5, multiplicity_mean=12, multiplicity_std=5)
    return toy.with_labels(8 * toy.labels).with_extra("part_charge", np.zeros(toy.n_constituents))


def in_mev(jets: Jets) -> Jets:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RinoWarning)
        return Jets(jets.p4 * 1000, jets.offsets, jets.labels, jets.extras)


@pytest.fixture(scope="module")
def files(jets: Jets, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same jets in MeV in two containers."""
    folder = tmp_path_factory.mktemp("units")
    columns = columns_of(in_mev(jets))
    return [write_parquet(folder / "a.parquet", columns, row_group_size=16), write_root(folder / "b.root", columns)]


def pseudojets(p4: np.ndarray) -> list[SimpleNamespace]:
    """What fastjet's users have."""
    return [
        SimpleNamespace(**{name: lambda x=x: x for name, x in zip(("px", "py", "pz", "E"), row, strict=True)})
        for row in p4
    ]


def test_arrays_in_mev_are_taken_with_a_warning_at_the_caller(jets):
    p4, offsets = jets.p4 * 1000, jets.offsets
    array = ak.unflatten(ak.zip(dict(zip(("px", "py", "pz", "E"), p4.T, strict=True))), jets.multiplicity)
    for call in (
        lambda: Jets(p4, offsets),
        lambda: Jets.from_columns(*p4.T, offsets),
        lambda: Jets.from_awkward(array),
        lambda: Jets.from_numpy(*in_mev(jets).to_numpy()),
        lambda: Jets.from_pseudojets(map(pseudojets, np.split(p4, offsets[1:-1]))),
    ):
        with pytest.warns(RinoWarning, match=DIVIDE) as said:
            made = call()
        assert [warning.filename for warning in said] == [__file__]
        np.testing.assert_array_equal(made.p4, p4)
    with pytest.warns(RinoWarning, match=DIVIDE) as said:
        rino.embed(JetEncoder(tiny()), array)
    assert said[0].filename == __file__


def test_jets_of_up_to_14_tev_are_taken_without_a_word():
    Jets([[14e3, 0, 0, 14e3], [5e3, 0, 1e6, 2e6], [0, -5e3, 0, 5e3]], [0, 1, 3])
    with pytest.warns(RinoWarning, match=r"jet 1 has pT = 14000.2 GeV"):
        Jets([[14e3, 0, 0, 14e3], [0, 7000.1, 0, 7001], [0, 7000.1, 0, 7001]], [0, 1, 3])


def test_jets_that_were_warned_of_once_are_silent(jets):
    hard = in_mev(jets)
    for made in (hard[3:7], hard[[1, 4]], hard.with_labels(np.ones(N, int)), Jets.concatenate([hard, hard])):
        assert made.pt.min() > 14e3
    rino.ViewGenerator([1, 2])(hard)


def test_files_in_mev_are_named_once_each(files):
    with pytest.warns(RinoWarning, match=SCALE) as said:
        jets = read_jets(files, max_jets=2 * N)
    assert [str(warning.message).split(":")[0] for warning in said] == [str(file) for file in files]
    assert jets.pt.min() > 14e3


def test_a_stream_of_files_in_mev_names_each_once_in_all_its_passes(files):
    with pytest.warns(RinoWarning, match=SCALE) as said, rino.open_dataset(files, window=32, threads=3) as dataset:
        for _ in range(3):
            sum(len(batch) for batch in dataset.batches(20))
    assert sorted(str(warning.message).split(":")[0] for warning in said) == sorted(map(str, files))


def test_scale_makes_gev_before_anything_is_cut(files, jets, tmp_path):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for file in files:
            read = read_jets(file, scale=1e-3, columns=["part_charge", "jet_pt"])
            np.testing.assert_allclose(read.p4, jets.p4, rtol=1e-6)
            np.testing.assert_allclose(read.values["jet_pt"], jets.pt * 1000, rtol=1e-6)  # columns as they are
            low, high = np.quantile(jets.pt, [0.2, 0.7])
            cut = read_jets(file, scale=1e-3, pt=(low, high), constituent_pt=1.0)
            whole = (jets.pt > low * 1.00001) & (jets.pt < high * 0.99999)
            assert set(np.flatnonzero(whole)) <= set(cut.origins.entry) and cut.constituents.pt.min() >= 1
        rino.pack(files[0], tmp_path / "a.arrow", scale=1e-3, progress=False)
        np.testing.assert_allclose(read_jets(tmp_path / "a.arrow").p4, jets.p4, rtol=1e-6)
        with rino.open_dataset(files[1], scale=1e-3) as dataset:
            np.testing.assert_allclose(np.sort(next(dataset.batches(N)).pt), np.sort(jets.pt), rtol=1e-6)
    assert not said


def test_a_cut_that_leaves_no_jet_in_mev_is_explained(files):
    with pytest.warns(RinoWarning, match=SCALE), pytest.raises(RinoError, match="no jet is left"):
        read_jets(files[0], pt=(500, 1000))


def test_jets_that_are_broken_are_no_sign_of_mev(tmp_path, jets):
    columns = columns_of(jets)
    columns["part_px"][2] = columns["part_px"][2] * np.float32(1e9)
    with pytest.warns(RinoWarning, match="1 broken jet") as said:
        read_jets(write_parquet(tmp_path / "a.parquet", columns), on_error="skip")
    assert len(said) == 1


def test_other_layouts_are_looked_at_too(tmp_path):
    particles, features = jetnet_arrays()
    features[:, 0] *= 1000
    file = write_jetnet(tmp_path / "t.hdf5", particles, features)
    with pytest.warns(RinoWarning, match=SCALE):
        read_jets(file)
    assert 799 < read_jets(file, scale=1e-3).pt.min() < 1201


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, "MeV"])
def test_scales_that_are_none_are_named(files, scale):
    with pytest.raises(RinoError, match=f"scale = '?{scale}"):
        read_jets(files[0], scale=scale)


def test_commands_take_a_scale_and_warn(files, capsys, tmp_path):
    assert main(["info", str(files[0])]) == 0
    assert capsys.readouterr().err.count("in MeV? Then give scale=1e-3 (of a command: --scale 1e-3)") == 1
    assert main(["info", str(files[0]), "--scale", "1e-3"]) == 0
    assert main(["pack", str(files[0]), "--out", str(tmp_path / "a.arrow"), "--scale", "1e-3"]) == 0
    assert main(["compare", str(files[1]), str(files[1]), "--scale", "1e-3"]) == 0
    assert "MeV" not in capsys.readouterr().err


def test_a_stream_without_a_scale_has_the_fingerprint_it_had(files):
    def fingerprint(**more: float) -> list[int]:
        with rino.open_dataset(files[0], **more) as dataset:
            return dataset._fingerprint()

    assert fingerprint() == fingerprint(scale=1.0) != fingerprint(scale=1e-3)
    assert "scale" not in repr(rino.data.Selection())
