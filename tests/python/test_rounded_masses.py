"""Candidates whose mass rounding left below zero, as CMS packs them: massless by every way in, and no further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import dask_awkward as dak
import fastjet
import numpy as np
import pytest
import vector
from helpers import tiny
from test_readers import MOMENTA, write_parquet, write_root

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, RinoWarning, read_jets
from pyrino.cli import main

COUNTS = np.array([6, 1, 14, 3, 26])
T = int(COUNTS.sum())
#: What is below zero counts as massless from here on.
BOUND = -5e-3


def candidates(dtype: Any = np.float64, seed: int = 3) -> dict[str, np.ndarray]:
    """pt, eta, phi, mass; a part of the massless ones are rounded to as far as -2e-3 GeV, soft ones among them."""
    rng = np.random.default_rng(seed)
    mass = rng.choice([0.0, 0.0, 0.13957, 0.49767], T)
    rounded = (mass == 0) & (rng.random(T) < 0.6)
    mass[rounded] = -rng.uniform(0, 2e-3, rounded.sum())
    mass[np.flatnonzero(rounded)[0]] = -2e-3
    columns = {
        "pt": np.exp(rng.uniform(np.log(0.3), np.log(300), T)),
        "eta": rng.normal(0, 1, T),
        "phi": rng.uniform(-3, 3, T),
        "mass": mass,
    }
    return {name: column.astype(dtype) for name, column in columns.items()}


def zipped(columns: dict[str, np.ndarray], **options: Any) -> ak.Array:
    return ak.unflatten(ak.zip(columns, **options), COUNTS)


def expected(columns: dict[str, np.ndarray]) -> np.ndarray:
    """(T, 4) px, py, pz, E, negative masses as 0."""
    pt, eta, phi, mass = (columns[name].astype(np.float64) for name in ("pt", "eta", "phi", "mass"))
    e = np.sqrt((pt * np.cosh(eta)) ** 2 + np.where(mass > 0, mass, 0) ** 2)
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), e], axis=1)


def off_shell(columns: dict[str, np.ndarray]) -> np.ndarray:
    """(T, 4) as the vector library has them: E^2 = p^2 + m |m|, which is below |p| for negative masses."""
    p4, mass = expected(columns), columns["mass"].astype(np.float64)
    p4[:, 3] = np.sqrt((p4[:, :3] ** 2).sum(axis=1) + mass * np.abs(mass))
    return p4


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masses_that_rounding_made_negative_count_as_0(dtype):
    columns = candidates(dtype)
    assert columns["mass"].min() == dtype(-2e-3)
    jets = Jets.from_awkward(zipped(columns))
    np.testing.assert_allclose(jets.p4, expected(columns), rtol=1e-14, atol=1e-14)
    padded = np.zeros((len(COUNTS), 30, 4))
    mask = np.arange(30) < COUNTS[:, None]
    padded[mask] = np.stack([columns[name].astype(np.float64) for name in ("pt", "eta", "phi", "mass")], axis=1)
    assert Jets.from_numpy(padded, mask, coordinates="ptetaphim") == jets
    cartesian = dict(zip(("px", "py", "pz"), jets.p4.T, strict=False)) | {"mass": columns["mass"]}
    np.testing.assert_allclose(Jets.from_awkward(zipped(cartesian)).p4, jets.p4, rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 20], ids=["soft", "as they are", "hard"])
def test_energies_that_such_masses_leave_below_the_momentum_are_taken(scale):
    columns = candidates()
    columns["pt"] = columns["pt"] * scale
    p4 = off_shell(columns)
    below = p4[:, 3] < np.sqrt((p4[:, :3] ** 2).sum(axis=1))
    offsets = np.concatenate([[0], np.cumsum(COUNTS)])
    jets = Jets(p4, offsets)
    np.testing.assert_array_equal(jets.p4, p4)
    assert below.sum() > 5 and not jets.constituents.mass[below].any()
    assert np.isfinite(jets.constituents.rapidity).all()
    names = dict(zip(("px", "py", "pz", "E"), p4.T, strict=True))
    assert Jets.from_columns(*p4.T, offsets) == Jets.from_awkward(zipped(names)) == jets
    assert Jets.from_pseudojets([[fastjet.PseudoJet(*row) for row in jet.p4.tolist()] for jet in jets]) == jets
    # What is made of them is that of massless ones.
    massless = Jets(expected(columns), offsets)
    for one, other in zip(rino.ViewGenerator([1, 2, 8])(jets), rino.ViewGenerator([1, 2, 8])(massless), strict=True):
        np.testing.assert_allclose(one.four_momenta, other.four_momenta, rtol=1e-3)
    encoder = JetEncoder(tiny(), seed=1)
    np.testing.assert_allclose(encoder.embed(jets), encoder.embed(massless), atol=0.02)


@pytest.mark.parametrize("mass", [-0.0051, -0.13957, -5.0])
def test_masses_further_below_0_are_named_with_their_bound(mass):
    columns = candidates()
    columns["pt"][9], columns["mass"][9] = 0.5, mass
    with pytest.raises(RinoError, match=rf"mass of constituent 2 of jet 2 is {mass} GeV: give 0 or more \(from -0.005"):
        Jets.from_awkward(zipped(columns))
    p4 = off_shell(candidates())
    p4[9] = [0.3, 0.4, 0.0, np.sqrt(max(0.25 - mass**2, 0))]
    words = r"constituent 2 of jet 2 has E = \S+ GeV below \|p\| = 0.5 GeV, by more than .* 0.005 GeV of mass"
    with pytest.raises(RinoError, match=words):
        Jets(p4, np.concatenate([[0], np.cumsum(COUNTS)]))


def test_an_energy_below_0_is_none_whatever_its_momentum():
    with pytest.raises(RinoError, match=r"E = -0.001 GeV below"):
        Jets([[1e-3, 0, 0, -1e-3]], [0, 1])
    assert Jets([[4e-3, 0, 0, 0]], [0, 1]).mass == 0


@pytest.mark.parametrize(("write", "suffix"), [(write_parquet, "parquet"), (write_root, "root")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_files_of_such_energies_are_read(tmp_path, capsys, write, suffix, dtype):
    p4 = off_shell(candidates()).astype(dtype)
    cut = np.cumsum(COUNTS)[:-1]
    columns: dict[str, Any] = {name: np.split(p4[:, c], cut) for c, name in enumerate(MOMENTA)}
    file = write(tmp_path / f"a.{suffix}", columns)
    np.testing.assert_array_equal(read_jets(file).p4, p4)
    with rino.open_dataset(file) as dataset:
        assert len(next(iter(dataset.batches(5)))) == 5
    assert main(["info", str(file), "--json"]) == 0
    assert '"below_momentum": 0' in capsys.readouterr().out
    columns["part_px"][3][1:], columns["part_py"][3][1:], columns["part_pz"][3][1:] = 0.4, 0.3, 0
    columns["part_energy"][3][1:] = np.sqrt(0.25 - 6e-3**2)
    file = write(tmp_path / f"a.{suffix}", columns)
    with pytest.raises(RinoError, match=r"constituent 1 of jet 3 has E below \|p\| = 0.5"):
        read_jets(file)
    with pytest.warns(RinoWarning, match="1 broken jet"):
        assert len(read_jets(file, on_error="skip")) == 4
    assert main(["info", str(file), "--json"]) == 0
    assert '"below_momentum": 2' in capsys.readouterr().out


def test_embeddings_of_awkward_and_dask_arrays_are_those_of_massless_candidates(tmp_path: Path):
    encoder = JetEncoder(tiny(), seed=1)
    columns = candidates()
    z = encoder.embed(Jets(expected(columns), np.concatenate([[0], np.cumsum(COUNTS)])))
    polar = zipped(columns, with_name="PtEtaPhiMCandidate")
    np.testing.assert_allclose(rino.embed(encoder, polar).to_numpy(), z, rtol=0, atol=1e-6)
    momenta = vector.zip(dict(zip(columns, ak.unzip(polar), strict=True)))
    np.testing.assert_allclose(rino.embed(encoder, momenta).to_numpy(), z, rtol=0, atol=1e-6)
    ak.to_parquet(polar, tmp_path / "a.parquet")
    lazy = rino.embed(encoder, dak.from_parquet(str(tmp_path / "a.parquet")))
    np.testing.assert_allclose(lazy.compute().to_numpy(), z, rtol=0, atol=1e-6)
    columns["mass"][9] = -1
    ak.to_parquet(zipped(columns), tmp_path / "b.parquet")
    for broken in (zipped(columns), dak.from_parquet(str(tmp_path / "b.parquet"))):
        with pytest.raises(RinoError, match=r"mass of constituent 2 of jet 2 is -1.0 GeV"):
            result = rino.embed(encoder, broken)
            getattr(result, "compute", lambda: None)()


def test_what_a_cut_masks_is_not_looked_at():
    """Candidates masked one by one, as records or column by column, and jets as a whole."""
    encoder = JetEncoder(tiny(), seed=1)
    columns = candidates()
    columns["mass"][[2, 9, 30]] = -5.0
    array = zipped(columns)
    good = array.mass > -1
    jets = Jets.from_awkward(array[good])
    assert jets.n_constituents == T - 3
    z = encoder.embed(jets)
    by_column = ak.zip({name: ak.mask(array[name], good) for name in array.fields})
    for masked in (ak.mask(array, good), by_column, ak.mask(array, good)[good], ak.pad_none(array[good], 30)):
        assert Jets.from_awkward(masked) == jets
        np.testing.assert_array_equal(rino.embed(encoder, masked).to_numpy(), z)
    sound = ak.all(good, axis=1)
    found = rino.embed(encoder, ak.mask(array, sound))
    assert ak.is_none(found).tolist() == (~sound).tolist()
    np.testing.assert_allclose(ak.drop_none(found).to_numpy(), z[sound], rtol=0, atol=1e-6)
    nothing = ak.mask(array, good & (np.arange(5) != 1))
    with pytest.raises(RinoError, match=r"jet 1 has no constituents"):
        Jets.from_awkward(nothing)
    with pytest.raises(RinoError, match=r"the field 'mass' is of type .* none missing"):
        Jets.from_awkward(ak.with_field(array, ak.mask(array.mass, good), "mass"))
