"""Layouts of the public data sets: each written here as its authors document it, without any of pyrino's code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import pytest

from pyrino import RinoError, read_jets
from pyrino.data import (
    ENERGYFLOW_CLASSES,
    LANDSCAPE_CLASSES,
    RS3L_CLASSES,
    RS3L_VARIATIONS,
    Chunk,
    Source,
    layout_of,
    layouts,
    open_file,
)

Array = np.ndarray[Any, Any]

#: Masses in GeV and ids as the Particle Data Group has them.
PDG = {22: 0.0, 11: 0.00051099895, -13: 0.1056583755, 211: 0.13957039, -211: 0.13957039, 321: 0.493677, 130: 0.497611}
PDG |= {2212: 0.93827208816, -2112: 0.93956542052, 310: 0.497611, 3122: 1.115683}


class Truth(NamedTuple):
    """n jets with up to m constituents; padded with zeros, and `real` says where not."""

    real: Array
    pt: Array
    y: Array
    phi: Array
    pid: Array

    @property
    def p4(self) -> Array:
        """[n, m, 4] px, py, pz, E, from mT^2 = pT^2 + m^2, E = mT cosh y, pz = mT sinh y."""
        mass = np.vectorize(lambda pid: PDG.get(int(pid), 0.0))(self.pid)
        mt = np.sqrt(self.pt**2 + mass**2)
        x, y = self.pt * np.cos(self.phi), self.pt * np.sin(self.phi)
        return np.stack([x, y, mt * np.sinh(self.y), mt * np.cosh(self.y)], axis=2) * self.real[..., None]


def truth(n: int = 23, m: int = 12, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    real = np.arange(m) < rng.integers(2, m + 1, n)[:, None]
    real[1], real[2, 1:] = True, False  # a full jet, and one of a single constituent
    pt = -np.sort(-rng.exponential(20.0, (n, m)) - 0.5, axis=1)
    y = rng.uniform(-1.5, 1.5, (n, 1)) + rng.normal(0, 0.2, (n, m))
    phi = rng.uniform(-3.1, 3.1, (n, 1)) + rng.normal(0, 0.2, (n, m))
    pid = rng.choice(list(PDG), (n, m))
    return Truth(real, *(np.where(real, v, 0) for v in (pt, y, phi, pid)))


def check_momenta(chunk: Chunk, expected: Array, real: Array, tolerance: float) -> None:
    np.testing.assert_array_equal(chunk.counts, real.sum(axis=1))
    for c, component in enumerate(chunk.momenta):
        scale = np.abs(expected[real]).max()
        np.testing.assert_allclose(component, expected[real][:, c], rtol=tolerance, atol=tolerance * scale * 1e-2)


def whole(path: Path, columns: tuple[str, ...] = (), layout: str | None = None) -> Chunk:
    with open_file(Source(path), layout) as (_, reader):
        return reader.read(0, reader.entries, columns)


def check_ranges(path: Path, columns: tuple[str, ...], layout: str | None = None) -> None:
    """Any range of a file, in any order, is that part of the whole."""
    full = whole(path, columns, layout)
    offsets = full.offsets
    with open_file(Source(path), layout) as (_, reader):
        n = reader.entries
        assert reader.starts[0] == 0 and (np.diff(reader.starts) > 0).all() and reader.starts[-1] < n
        for first, last in ((n - 3, n), (0, 1), (5, 11), (5, 11), (4, 4), (2, n), (0, n)):
            part = reader.read(first, last, columns)
            rows = slice(offsets[first], offsets[last])
            np.testing.assert_array_equal(part.counts, full.counts[first:last])
            for one, other in zip(part.momenta, full.momenta, strict=True):
                np.testing.assert_array_equal(one, other[rows])
            assert part.extras.keys() == full.extras.keys() and part.values.keys() == full.values.keys()
            for name, values in full.extras.items():
                np.testing.assert_array_equal(part.extras[name], values[rows])
            for name, values in full.values.items():
                np.testing.assert_array_equal(part.values[name], values[first:last])
            if full.labels is None:
                assert part.labels is None
            else:
                assert part.labels is not None
                np.testing.assert_array_equal(part.labels.values, full.labels.values[first:last])


def check_read_jets(path: Path, expected: Array, real: Array, layout: str | None = None, **options: Any) -> Any:
    """`read_jets` gives the same jets, with where they are from."""
    jets = read_jets(path, layout=layout, **options)
    np.testing.assert_allclose(jets.p4, expected[real], rtol=2e-5, atol=1e-3)
    np.testing.assert_array_equal(jets.multiplicity, real.sum(axis=1))
    assert jets.origins is not None
    assert list(jets.origins.files) == [str(path)]
    np.testing.assert_array_equal(jets.origins.entry, np.arange(len(real)))
    return jets


# ---------------------------------------------------------------------------------------------------- landscape


def landscape_frame(jets: Truth, dtype: str = "float32") -> pd.DataFrame:
    """The columns of zenodo 2603256: 200 constituents, energy first."""
    n = len(jets.real)
    px, py, pz, e = jets.p4.transpose(2, 0, 1)
    block = np.zeros((n, 200, 4), dtype)
    block[:, : jets.real.shape[1]] = np.stack([e, px, py, pz], axis=2)
    frame = pd.DataFrame(
        block.reshape(n, 800), columns=[f"{p}_{i}" for i in range(200) for p in ("E", "PX", "PY", "PZ")]
    )
    truths = {name: np.arange(n, dtype=dtype) * k for k, name in enumerate(("truthE", "truthPX", "truthPY", "truthPZ"))}
    numbers = {"ttv": np.full(n, 1), "is_signal_new": np.arange(n) % 2}
    # The rows were chosen from a larger table: its index does not begin at 0.
    frame = pd.concat([frame, pd.DataFrame({**truths, **numbers})], axis=1)
    return frame.set_index(pd.Index(np.arange(375, 375 + 2 * n, 2)))


def landscape(path: Path, frame: pd.DataFrame, key: str = "table", **options: Any) -> Path:
    frame.to_hdf(path, key=key, mode="w", format="table", **options)
    return path


@pytest.fixture(scope="module")
def tops() -> Truth:
    return truth(60)


@pytest.mark.parametrize("complib", ["blosc", "zlib", "blosc:zstd", None])
def test_landscape_as_pandas_writes_it(tmp_path: Path, tops: Truth, complib: str | None) -> None:
    options = {} if complib is None else {"complib": complib, "complevel": 9}
    path = landscape(tmp_path / "train.h5", landscape_frame(tops), **options)
    with h5py.File(path) as file:
        assert file["table/table"].dtype["values_block_0"].shape == (804,)
    assert layout_of(Source(path)).name == "landscape"
    columns = ("truthE", "truthPX", "truthPY", "truthPZ", "ttv")
    chunk = whole(path, columns)
    assert chunk.momenta[0].dtype == np.float32
    check_momenta(chunk, tops.p4, tops.real, 1e-6)
    assert chunk.labels is not None and chunk.labels.names == LANDSCAPE_CLASSES == ("QCD", "top")
    np.testing.assert_array_equal(chunk.labels.values, np.arange(60) % 2)
    for k, name in enumerate(columns[:4]):
        np.testing.assert_array_equal(chunk.values[name], np.arange(60) * k)
    np.testing.assert_array_equal(chunk.values["ttv"], 1)
    check_ranges(path, columns)
    jets = check_read_jets(path, tops.p4, tops.real, columns=["ttv"])
    np.testing.assert_array_equal(jets.values["ttv"], np.ones(60))
    assert len(read_jets(path, label="top")) == 30


def test_landscape_of_other_key_types_and_order(tmp_path: Path, tops: Truth) -> None:
    frame = landscape_frame(tops, "float64")
    frame["E_1"] = frame["E_1"].astype("float32")  # columns of one constituent in two blocks
    frame = frame[sorted(frame.columns, reverse=True)]
    for key in ("events", "some/where"):
        path = landscape(tmp_path / "a.h5", frame, key=key)
        chunk = whole(path)
        assert chunk.momenta[0].dtype == np.float64
        check_momenta(chunk, tops.p4, tops.real, 1e-6)
        check_ranges(path, ("truthE", "ttv"))


def test_landscape_in_doubles_is_exact(tmp_path: Path, tops: Truth) -> None:
    path = landscape(tmp_path / "a.h5", landscape_frame(tops, "float64"))
    np.testing.assert_array_equal(np.stack(whole(path).momenta, axis=1), tops.p4[tops.real])


def test_landscape_with_columns_that_can_be_searched(tmp_path: Path, tops: Truth) -> None:
    frame = landscape_frame(tops)
    keep = [f"{p}_{i}" for i in range(tops.real.shape[1]) for p in ("E", "PX", "PY", "PZ")]
    path = tmp_path / "a.h5"
    frame[[*keep, "ttv", "is_signal_new"]].to_hdf(
        path, key="table", mode="w", format="table", data_columns=["is_signal_new", "E_0", "PX_0"]
    )
    chunk = whole(path, ("ttv",))
    check_momenta(chunk, tops.p4, tops.real, 1e-6)
    np.testing.assert_array_equal(chunk.labels.values if chunk.labels else [], np.arange(60) % 2)
    check_ranges(path, ("ttv",))


def test_landscape_with_names_pickled_by_python_2(tmp_path: Path, tops: Truth) -> None:
    frame = landscape_frame(tops)
    path = landscape(tmp_path / "a.h5", frame)
    names = "".join(f"S'{name}'\np{i + 1}\na" for i, name in enumerate(frame.columns[:804]))
    with h5py.File(path, "r+") as file:
        file["table/table"].attrs["values_block_0_kind"] = np.bytes_(f"(lp0\n{names}.".encode())
    check_momenta(whole(path), tops.p4, tops.real, 1e-6)


def test_landscape_without_labels(tmp_path: Path, tops: Truth) -> None:
    path = landscape(tmp_path / "a.h5", landscape_frame(tops).drop(columns="is_signal_new"))
    assert whole(path).labels is None


def test_landscape_says_what_is_wrong(tmp_path: Path, tops: Truth) -> None:
    frame = landscape_frame(tops)
    path = landscape(tmp_path / "a.h5", frame.drop(columns=["PX_7", "PZ_7"]))
    with pytest.raises(RinoError, match=r"a\.h5 lacks the columns PX_7, PZ_7"):
        read_jets(path)
    wrong = frame.copy()
    wrong.iloc[41, wrong.columns.get_loc("is_signal_new")] = 2
    path = landscape(tmp_path / "b.h5", wrong)
    with pytest.raises(RinoError, match=r"jet 41 has is_signal_new = 2; it must be 0"):
        read_jets(path)
    path = landscape(tmp_path / "c.h5", frame.astype({"PY_3": str}))
    with pytest.raises(RinoError, match="PY_3 does not hold numbers"):
        read_jets(path)
    frame.to_hdf(path, key="other", format="table")
    with pytest.raises(RinoError, match="one table of jets"):
        read_jets(path)
    frame[["ttv"]].to_hdf(tmp_path / "d.h5", key="table", format="table")
    with pytest.raises(RinoError, match="no known layout"):
        read_jets(tmp_path / "d.h5")
    with pytest.raises(RinoError, match="lacks the columns nothing"):
        read_jets(landscape(tmp_path / "e.h5", frame), columns="nothing")


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return print, ("executed",)


def test_a_pickle_in_a_landscape_file_is_never_executed(
    tmp_path: Path, tops: Truth, capsys: pytest.CaptureFixture[str]
) -> None:
    path = landscape(tmp_path / "a.h5", landscape_frame(tops))
    for value, reason in (
        (_Evil(), "do not trust"),
        ({"E_0": 1}, "not a pickled list"),
        (["E_0"], "804 columns but 1"),
    ):
        with h5py.File(path, "r+") as file:
            file["table/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(value, 0))
        with pytest.raises(RinoError, match=rf"a\.h5: .*{reason}"):
            read_jets(path)
    assert "executed" not in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- energyflow


def energyflow(path: Path, jets: Truth, columns: int = 4, dtype: str = "float64", **arrays: Any) -> Path:
    """What `energyflow.qg_jets.load` reads."""
    x = np.stack([jets.pt, jets.y, jets.phi, jets.pid], axis=2).astype(dtype)[..., :columns]
    y = np.arange(len(x)) % 2
    np.savez_compressed(path, **{"X": x, "y": y.astype(dtype), **arrays})
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_energyflow(tmp_path: Path, dtype: str) -> None:
    qg = truth(seed=5)
    path = energyflow(tmp_path / "QG_jets.npz", qg, dtype=dtype)
    assert layout_of(Source(path)).name == "energyflow"
    chunk = whole(path, ("pdgid",))
    check_momenta(chunk, qg.p4, qg.real, 1e-12 if dtype == "float64" else 1e-5)
    np.testing.assert_array_equal(chunk.extras["pdgid"], qg.pid[qg.real])
    assert chunk.labels is not None and chunk.labels.names == ENERGYFLOW_CLASSES == ("gluon", "quark")
    np.testing.assert_array_equal(chunk.labels.values, np.arange(23) % 2)
    check_ranges(path, ("pdgid",))
    jets = check_read_jets(path, qg.p4, qg.real, columns="pdgid")
    np.testing.assert_array_equal(jets.extras["pdgid"], qg.pid[qg.real])
    px, py, pz, e = chunk.momenta
    mass = np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0))
    np.testing.assert_allclose(mass, [PDG[int(pid)] for pid in qg.pid[qg.real]], atol=1e-5 * e.max())


def test_energyflow_stored_without_compression_and_in_several_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrino.data.energyflow._ROWS", 4)
    qg = truth(seed=6)
    path = tmp_path / "a.npz"
    np.savez(path, X=np.stack([qg.pt, qg.y, qg.phi, qg.pid], axis=2), y=np.zeros(23, dtype=bool))
    check_momenta(whole(path), qg.p4, qg.real, 1e-12)
    check_ranges(path, ("pdgid",))


def test_energyflow_without_ids_is_massless(tmp_path: Path) -> None:
    qg = truth(seed=7)
    massless = qg._replace(pid=np.zeros_like(qg.pid))
    path = energyflow(tmp_path / "a.npz", qg, columns=3)
    check_momenta(whole(path), massless.p4, qg.real, 1e-12)
    with pytest.raises(RinoError, match="lacks the columns pdgid"):
        read_jets(path, columns="pdgid")


def test_energyflow_with_ids_as_its_remap_pids_writes_them(tmp_path: Path) -> None:
    code = {22: 0, 211: 0.1, -211: 0.2, 321: 0.3, -321: 0.4, 130: 0.5, 2112: 0.6, -2112: 0.7, 2212: 0.8, -2212: 0.9}
    code |= {11: 1.0, -11: 1.1, 13: 1.2, -13: 1.3}
    qg = truth(seed=8)
    pid = np.where(qg.real, np.random.default_rng(0).choice([i for i in code if i in PDG], qg.real.shape), 0)
    qg = qg._replace(pid=pid)
    written = qg._replace(pid=np.vectorize(lambda i: code.get(i, 0.0))(pid))
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        path = energyflow(tmp_path / "a.npz", written, dtype=dtype)
        chunk = whole(path, ("pdgid",))
        check_momenta(chunk, qg.p4, qg.real, tolerance)
        np.testing.assert_array_equal(chunk.extras["pdgid"], pid[qg.real])


def test_energyflow_without_labels(tmp_path: Path) -> None:
    qg = truth(seed=5)
    np.savez_compressed(tmp_path / "a.npz", X=np.stack([qg.pt, qg.y, qg.phi, qg.pid], axis=2))
    assert whole(tmp_path / "a.npz").labels is None


def test_energyflow_says_what_is_wrong(tmp_path: Path) -> None:
    qg = truth(seed=9)
    x = np.stack([qg.pt, qg.y, qg.phi, qg.pid], axis=2)
    unknown, nan = x.copy(), x.copy()
    unknown[4, 1, 3], nan[4, 1, 3] = 9999, np.nan
    for arrays, reason in (
        ({"X": x[..., :2]}, r"X \(23, 12, 2\) of float64 is not EnergyFlow's layout"),
        ({"X": x[0]}, "is not EnergyFlow's layout"),
        ({"X": np.array([None, 1]), "y": np.zeros(2)}, "is not EnergyFlow's layout"),
        ({"X": np.asfortranarray(x)}, "column by column"),
        ({"y": np.zeros(22)}, r"y \(22,\) of float64 is not one number for each of the 23 jets"),
        ({"y": np.arange(23)}, "jet 2 has y = 2; it must be 0"),
        ({"X": unknown}, "constituent 1 of jet 4 has the PDG id 9999"),
        ({"X": nan}, "constituent 1 of jet 4 has the PDG id nan"),
    ):
        with pytest.raises(RinoError, match=reason):
            read_jets(energyflow(tmp_path / "a.npz", qg, **arrays))
    np.savez(tmp_path / "b.npz", other=x)
    with pytest.raises(RinoError, match=r"npz of no known layout: it has the arrays other"):
        read_jets(tmp_path / "b.npz")


def test_a_damaged_energyflow_file_is_named(tmp_path: Path) -> None:
    path = energyflow(tmp_path / "a.npz", truth(400))
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("X.npy").header_offset
    data = bytearray(path.read_bytes())
    data[start + 3000 : start + 3100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(RinoError, match=r"a\.npz cannot be read as npz"):
        read_jets(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RinoError, match=r"a\.npz cannot be read as npz"):
        read_jets(path)


# -------------------------------------------------------------------------------------------------------- aspen

TAGGING = (
    "nConstituents tau1 tau2 tau3 tau4 particleNet_H4qvsQCD particleNet_HbbvsQCD particleNet_HccvsQCD particleNet_QCD "
    "particleNet_TvsQCD particleNet_WvsQCD particleNet_ZvsQCD particleNet_mass"
).split()


def aspen_arrays(jets: Truth, dtype: str = "float32") -> dict[str, Array]:
    """As the authors' H5_maker.py fills them: 150 candidates of 11 values, pT descending, zero padded."""
    n, m = jets.real.shape
    rng = np.random.default_rng(3)
    candidates = np.zeros((n, 150, 11), dtype)
    candidates[:, :m, :4] = jets.p4
    candidates[:, :m, 4:] = rng.normal(size=(n, m, 7)) * jets.real[..., None]
    candidates[:, :m, 9] = jets.pid
    total = jets.p4.sum(axis=1)
    pt = np.hypot(total[:, 0], total[:, 1])
    kinematics = np.stack([pt, np.arcsinh(total[:, 2] / pt), np.arctan2(total[:, 1], total[:, 0]), pt / 9], axis=1)
    kinematics[3, 3] = -1  # no soft-drop mass
    return {
        "event_info": np.stack([np.full(n, 283_885), np.arange(n), 3_000_000_000 + np.arange(n)], axis=1),
        "jet_kinematics": kinematics.astype(dtype),
        "jet_tagging": rng.uniform(size=(n, 13)).astype(dtype),
        "PFCands": candidates,
    }


def aspen(path: Path, arrays: dict[str, Array]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            options = {} if name == "event_info" else {"compression": "gzip"}
            file.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:]), **options)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_aspen(tmp_path: Path, dtype: str) -> None:
    real_jets = truth(seed=11)
    arrays = aspen_arrays(real_jets, dtype)
    path = aspen(tmp_path / "RunG_batch0.h5", arrays)
    assert layout_of(Source(path)).name == "aspen"
    per_jet = {
        name: (source, k)
        for source, names in {
            "event_info": ("run", "lumi", "event"),
            "jet_kinematics": ("jet_pt", "jet_eta", "jet_phi", "jet_msd"),
            "jet_tagging": TAGGING,
        }.items()
        for k, name in enumerate(names)
    }
    extras = ("d0", "d0Err", "dz", "dzErr", "charge", "pdgid", "puppi")
    columns = (*extras, *per_jet)
    chunk = whole(path, columns)
    assert chunk.labels is None and chunk.momenta[0].dtype == dtype
    check_momenta(chunk, real_jets.p4, real_jets.real, 1e-6)
    n, m = real_jets.real.shape
    for k, name in enumerate(extras):
        np.testing.assert_array_equal(chunk.extras[name], arrays["PFCands"][:, :m, 4 + k][real_jets.real])
    for name, (source, k) in per_jet.items():
        np.testing.assert_array_equal(chunk.values[name], arrays[source][:, k])
    check_ranges(path, columns)
    jets = check_read_jets(path, real_jets.p4, real_jets.real, columns=["puppi", "event", "tau2"])
    np.testing.assert_array_equal(jets.values["event"], 3_000_000_000 + np.arange(n))
    assert jets.labels is None
    np.testing.assert_allclose(jets.pt, arrays["jet_kinematics"][:, 0], rtol=1e-5)


def test_aspen_without_what_may_be_absent(tmp_path: Path) -> None:
    arrays = aspen_arrays(truth(seed=11))
    path = aspen(tmp_path / "a.h5", {name: arrays[name] for name in ("PFCands", "jet_kinematics")})
    with open_file(Source(path)) as (layout, reader):
        assert layout.name == "aspen" and "run" not in reader.columns and reader.columns["jet_msd"] == "jet"
    with pytest.raises(RinoError, match="lacks the columns tau1"):
        read_jets(path, columns="tau1")


def test_aspen_says_what_is_wrong(tmp_path: Path) -> None:
    arrays = aspen_arrays(truth(seed=11))
    for name, values, reason in (
        ("PFCands", np.zeros((23, 150, 16)), r"PFCands \(23, 150, 16\) is not AspenOpenJets' layout"),
        ("jet_tagging", np.zeros((23, 12)), r"jet_tagging \(23, 12\) is not .* \[23, 13\]"),
        ("jet_kinematics", np.zeros((22, 4)), r"jet_kinematics \(22, 4\) is not"),
        ("event_info", np.full((23, 3), b"x"), r"event_info \(23, 3\) is not"),
    ):
        with pytest.raises(RinoError, match=reason):
            read_jets(aspen(tmp_path / "a.h5", {**arrays, name: values}))
    path = aspen(tmp_path / "b.h5", {"PFCands": arrays["PFCands"]})
    with pytest.raises(RinoError, match="no known layout: it has the entries PFCands"):
        read_jets(path)
    with pytest.raises(RinoError, match="lacks the data sets jet_kinematics"):
        read_jets(path, layout="aspen")


def test_a_candidate_that_is_not_finite_is_named(tmp_path: Path) -> None:
    arrays = aspen_arrays(truth(seed=11))
    arrays["PFCands"][7, 1, 0] = np.nan
    path = aspen(tmp_path / "a.h5", arrays)
    with pytest.raises(RinoError, match="constituent 1 of jet 7 is not finite"):
        read_jets(path)


# --------------------------------------------------------------------------------------------------------- rs3l

TYPES = np.arange(23) % 11 + 1


def variations() -> list[Truth]:
    return [truth(seed=20 + v)._replace(pid=np.zeros((23, 12))) for v in range(5)]


def rs3l_arrays(jets: list[Truth], logarithms: bool = True, relative: bool = True) -> dict[str, Array]:
    """[N, 5, 15] and [N, 5, 11, 100], with momenta as the authors' production has them or in GeV."""
    n, m = jets[0].real.shape
    singletons = np.zeros((n, 5, 15))
    candidates = np.zeros((n, 5, 11, 100))
    rng = np.random.default_rng(1)
    for v, jet in enumerate(jets):
        total = jet.p4.sum(axis=1)
        jet_pt = np.hypot(total[:, 0], total[:, 1])[:, None]
        jet_eta, jet_phi = np.arcsinh(total[:, 2:3] / jet_pt), np.arctan2(total[:, 1:2], total[:, 0:1])
        energy = total[:, 3:4]
        singletons[:, v, 0], singletons[:, v, 13] = TYPES, 80 + v
        singletons[:, v, 9:13] = np.concatenate([jet_pt, jet_eta, jet_phi, energy], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            e = jet.p4[..., 3]
            deta, dphi = jet.y - jet_eta, (jet.phi - jet_phi + np.pi) % (2 * np.pi) - np.pi
            pt, eta, phi = jet.pt, jet.y, jet.phi  # massless: the rapidity is the pseudorapidity
            ratios = pt / jet_pt, e / energy
            if logarithms:
                pt, e, ratios = np.log(pt), np.log(e), (np.log(ratios[0]), np.log(ratios[1]))
            if relative:
                eta, phi = deta, dphi
            features = [pt, ratios[0], eta, phi, np.hypot(deta, dphi), e, ratios[1]]
            features += [rng.integers(-1, 2, (n, m)), rng.choice([0, 22, 211], (n, m))]
            features += [np.tanh(rng.normal(size=(n, m))), np.tanh(rng.normal(size=(n, m)))]
            candidates[:, v, :, :m] = np.where(jet.real[:, None], np.stack(features, axis=1), 0)
    return {"singletons": singletons, "jet_pflow_cands": candidates}


def rs3l(path: Path, arrays: dict[str, Array], dtype: str = "float32") -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values.astype(dtype), chunks=True, compression="gzip")
    return path


@pytest.fixture(params=[(True, True), (False, False), (False, True)], ids=["logarithms", "GeV", "GeV-relative"])
def convention(request: pytest.FixtureRequest) -> Iterator[tuple[bool, bool]]:
    yield request.param


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5), ("float16", 0.03)])
def test_rs3l_has_the_nominal_jets(tmp_path: Path, convention: tuple[bool, bool], dtype: str, tolerance: float) -> None:
    jets = variations()
    arrays = rs3l_arrays(jets, *convention)
    path = rs3l(tmp_path / "rs3l_0.h5", arrays, dtype)
    assert layout_of(Source(path)).name == "rs3l"
    columns = ("charge", "pdgid", "d0", "dz", "jet_pt", "jet_energy", "singletons_13", "rs3l_group", "rs3l_variation")
    chunk = whole(path, columns)
    check_momenta(chunk, jets[0].p4, jets[0].real, tolerance)
    for name, k in (("charge", 7), ("pdgid", 8), ("d0", 9), ("dz", 10)):
        expected = arrays["jet_pflow_cands"][:, 0, k, :12][jets[0].real].astype(dtype)
        np.testing.assert_array_equal(chunk.extras[name], expected)
    np.testing.assert_array_equal(chunk.values["jet_energy"], arrays["singletons"][:, 0, 12].astype(dtype))
    np.testing.assert_array_equal(chunk.values["singletons_13"], 80)
    np.testing.assert_array_equal(chunk.values["rs3l_group"], np.arange(23))
    np.testing.assert_array_equal(chunk.values["rs3l_variation"], 0)
    assert chunk.labels is not None and chunk.labels.names == RS3L_CLASSES
    np.testing.assert_array_equal(chunk.labels.values, TYPES)
    check_ranges(path, columns)


def test_rs3l_has_jets_that_read_jets_takes(tmp_path: Path, convention: tuple[bool, bool]) -> None:
    jets = variations()
    path = rs3l(tmp_path / "rs3l_0.h5", rs3l_arrays(jets, *convention))
    check_read_jets(path, jets[0].p4, jets[0].real, columns=["charge", "rs3l_group"])
    assert (read_jets(path, label="Hbb").labels == 4).all()


@pytest.mark.parametrize("variation", range(1, 5))
def test_rs3l_has_every_variation_by_name(tmp_path: Path, variation: int) -> None:
    jets = variations()
    path = rs3l(tmp_path / "a.h5", rs3l_arrays(jets))
    name = f"rs3l:{RS3L_VARIATIONS[variation]}"
    found = check_read_jets(path, jets[variation].p4, jets[variation].real, name, columns=["rs3l_variation"])
    np.testing.assert_array_equal(found.values["rs3l_variation"], variation)
    check_ranges(path, ("d0", "rs3l_group"), name)


def test_rs3l_all_has_the_jets_of_the_same_partons_side_by_side(tmp_path: Path) -> None:
    jets = variations()
    arrays = rs3l_arrays(jets)
    path = rs3l(tmp_path / "a.h5", arrays, "float64")
    p4, real = (np.stack([values(j) for j in jets], axis=1) for values in (lambda j: j.p4, lambda j: j.real))
    columns = ["rs3l_group", "rs3l_variation", "charge", "jet_pt"]
    found = check_read_jets(path, p4.reshape(115, 12, 4), real.reshape(115, 12), "rs3l:all", columns=columns)
    np.testing.assert_array_equal(found.values["rs3l_group"], np.repeat(np.arange(23), 5))
    np.testing.assert_array_equal(found.values["rs3l_variation"], np.tile(np.arange(5), 23))
    np.testing.assert_array_equal(found.values["jet_pt"], arrays["singletons"][:, :, 9].ravel())
    np.testing.assert_array_equal(found.labels, np.repeat(TYPES, 5))
    check_ranges(path, tuple(columns), "rs3l:all")
    with open_file(Source(path), "rs3l:all") as (_, reader):
        assert (reader.starts % 5 == 0).all()  # pieces do not part the jets of the same partons


def test_rs3l_leaves_out_a_last_row_of_zeros(tmp_path: Path) -> None:
    arrays = rs3l_arrays(variations())
    padded = {name: np.concatenate([values, np.zeros_like(values[:1])]) for name, values in arrays.items()}
    path = rs3l(tmp_path / "a.h5", padded)
    assert len(read_jets(path)) == 23 and len(read_jets(path, layout="rs3l:all")) == 115


def test_rs3l_says_what_is_wrong(tmp_path: Path) -> None:
    arrays = rs3l_arrays(variations())
    shapes = r"are not RS3L's layout: numbers of shapes \[N, 5, 13 or more\] and \[N, 5, 11, M\]"
    types, swapped = arrays["singletons"].copy(), arrays["jet_pflow_cands"].copy()
    types[9, :, 0] = 12
    swapped[:, :, [0, 2]] = swapped[:, :, [2, 0]]
    for name, values, reason in (
        ("singletons", arrays["singletons"][..., :12], shapes),
        ("singletons", arrays["singletons"][:-1], shapes),
        ("jet_pflow_cands", arrays["jet_pflow_cands"][:, :, :10], shapes),
        ("jet_pflow_cands", arrays["jet_pflow_cands"][:, 0], shapes),
        ("singletons", types, r"jet 9 has type = 12\.0; RS3L's types are 1 to 11"),
        ("jet_pflow_cands", swapped, "pt and relpt of jet_pflow_cands fit neither GeV"),
    ):
        with pytest.raises(RinoError, match=reason):
            read_jets(rs3l(tmp_path / "a.h5", {**arrays, name: values}))
    few = rs3l(tmp_path / "b.h5", {name: values[:, :3] for name, values in arrays.items()})
    assert len(read_jets(few, layout="rs3l:fsr_up")) == 23
    with pytest.raises(RinoError, match="has 3 variations of each jet, not the one called rs3l:herwig"):
        read_jets(few, layout="rs3l:herwig")
    alone = rs3l(tmp_path / "c.h5", {"singletons": arrays["singletons"]})
    with pytest.raises(RinoError, match="lacks the data sets jet_pflow_cands"):
        read_jets(alone, layout="rs3l")


# ---------------------------------------------------------------------------------------------------------- all


def test_files_of_each_layout_are_told_apart(tmp_path: Path, tops: Truth) -> None:
    jets = truth()
    written = {
        "landscape": landscape(tmp_path / "1.h5", landscape_frame(tops)),
        "energyflow": energyflow(tmp_path / "2.npz", jets),
        "aspen": aspen(tmp_path / "3.h5", aspen_arrays(jets)),
        "rs3l": rs3l(tmp_path / "4.h5", rs3l_arrays(variations())),
    }
    assert {name: layout_of(Source(path)).name for name, path in written.items()} == {n: n for n in written}
    assert {name for name in layouts() if name.startswith("rs3l")} == {
        "rs3l", "rs3l:seed", "rs3l:fsr_up", "rs3l:fsr_down", "rs3l:herwig", "rs3l:all",
    }  # fmt: skip
    assert len(read_jets(list(written.values()), labelled=False)) == 60 + 3 * 23
    with pytest.raises(RinoError, match="labels"):
        read_jets(list(written.values()))
    with pytest.raises(RinoError, match="lacks"):
        read_jets(written["aspen"], layout="rs3l")
