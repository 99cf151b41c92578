"""What arrays and columns contain: entries that are missing, padding, half precision, names that mean momenta."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uproot
import vector
from helpers import tiny

import pyrino as rino
from pyrino import Jets, RinoError, RinoWarning, evaluate, plots, read_jets
from pyrino.evaluate.domains import compare_variables

COUNTS = np.array([3, 1, 2])
OFFSETS = np.array([0, 3, 4, 6])


def massless(n: int, seed: int = 0) -> np.ndarray:
    """(n, 4) px, py, pz, E."""
    p = np.random.default_rng(seed).normal(scale=50, size=(n, 3))
    return np.column_stack([p, np.sqrt((p**2).sum(axis=1))])


P4 = massless(6)
JETS = Jets(P4, OFFSETS)


# --- what is missing ---


def masked(values: Any, place: int) -> np.ma.MaskedArray:
    array = np.ma.array(values, mask=False)
    array[place] = np.ma.masked
    return array


#: Ways of saying that an entry of a column is missing: (values, place) -> column.
MISSING = {
    "numpy.ma": masked,
    "list with numpy.ma.masked": lambda values, place: list(masked(values, place)),
    "pyarrow": lambda values, place: pa.array(values, mask=np.arange(len(values)) == place),
    "pyarrow chunked": lambda values, place: pa.chunked_array([pa.array(values, mask=np.arange(len(values)) == place)]),
    "pandas": lambda values, place: pd.Series(values).convert_dtypes().mask(np.arange(len(values)) == place),
    "awkward": lambda values, place: ak.mask(ak.Array(values), np.arange(len(values)) != place),
}


@pytest.fixture(params=MISSING.values(), ids=MISSING)
def missing(request: pytest.FixtureRequest) -> Callable[[Any, int], Any]:
    return request.param


ONES = np.ones(6)
LABELS = np.array([0, 1, 0])
SCORES, TRUTH = np.array([0.2, 0.9, 0.4, 0.6]), np.array([0, 1, 0, 1])
VARIABLES = {"pt": SCORES, "eta": SCORES}

#: What takes a column: the column, and what is to be done with one like it.
TAKERS: dict[str, tuple[np.ndarray, Callable[[Any], Any]]] = {
    "px": (P4[:, 0], lambda c: Jets.from_columns(c, *P4[:, 1:].T, OFFSETS)),
    "offsets": (OFFSETS, lambda c: Jets(P4, c)),
    "labels": (LABELS, lambda c: Jets(P4, OFFSETS, c)),
    "with_labels": (LABELS, JETS.with_labels),
    "extras": (ONES, lambda c: Jets(P4, OFFSETS, None, {"q": c})),
    "values": (np.ones(3), lambda c: JETS.with_value("v", c)),
    "origins": (np.zeros(3, int), lambda c: JETS.with_origins(["a"], c, [0, 1, 2])),
    "indices": (np.array([2, 0, 1]), lambda c: JETS[c]),
    "mask of jets": (np.array([True, False, True]), lambda c: JETS[c]),
    "scores": (SCORES, lambda c: evaluate.roc_auc(c, TRUTH)),
    "labels of scores": (TRUTH, lambda c: evaluate.tagger_metrics(SCORES, c, n=2)),
    "variables": (SCORES, lambda c: compare_variables(VARIABLES, VARIABLES | {"eta": c}, classifier=False)),
    "finetune": (LABELS, lambda c: rino.finetune(rino.JetEncoder(tiny()), (JETS, c), progress=False)),
    "histograms": (SCORES, lambda c: plots.distributions({"a": {"x": c}})),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_a_column_with_something_missing_is_refused_wherever_it_is_given(missing, taker):
    column, take = TAKERS[taker]
    with pytest.raises(RinoError, match=r"(masked or null in 1 of \d+ entries, the first at \[1\]|no array)"):
        take(missing(column, 1))


@pytest.mark.parametrize("taker", [name for name in TAKERS if name not in ("finetune", "histograms")])
def test_a_masked_column_in_which_nothing_is_missing_is_taken(taker):
    column, take = TAKERS[taker]
    take(np.ma.array(column, mask=np.zeros(len(column), dtype=bool)))
    take(np.ma.array(column))


def test_masked_momenta_are_refused_and_named():
    with pytest.raises(RinoError, match=r"p4 is masked or null in 2 of 24 entries, the first at \[4, 0\]"):
        Jets(np.ma.masked_where((np.arange(24) // 4 == 4).reshape(6, 4) & (np.arange(4) < 2), P4), OFFSETS)
    with pytest.raises(RinoError, match=r"embeddings is masked or null in 1 of 24"):
        evaluate.effective_rank(np.ma.masked_equal(P4, P4[2, 1]))


def test_padding_of_from_numpy_may_be_masked_and_its_constituents_may_not():
    padded, mask = JETS.to_numpy()
    column = np.ma.array(np.arange(9.0).reshape(3, 3), mask=~mask)
    jets = Jets.from_numpy(np.ma.array(padded, mask=np.repeat(~mask[..., None], 4, 2)), mask, extras={"q": column})
    assert jets == JETS.with_extra("q", column.data[mask])
    with pytest.raises(RinoError, match=r"p4 is masked or null in 4 of 24 entries, the first at \[3, 0\]"):
        Jets.from_numpy(np.ma.masked_where(padded == padded[1, 0], padded), mask)
    with pytest.raises(RinoError, match=r"the mask is masked or null in 1 of 9"):
        Jets.from_numpy(padded, np.ma.array(mask, mask=np.arange(9).reshape(3, 3) == 0))


def test_masks_in_nested_lists_are_seen():
    hidden = np.ma.masked_equal(P4[0], P4[0, 1])
    with pytest.raises(RinoError, match=r"padded is masked or null in 1 of 8 entries, the first at \[0, 1, 1\]"):
        Jets.from_numpy([[P4[1], hidden]], np.array([[True, True]]))
    with pytest.raises(RinoError, match=r"the mask is masked or null in 1 of 2 entries, the first at \[0, 1\]"):
        Jets.from_numpy([[P4[1], P4[0]]], [(True, np.ma.masked)])
    assert Jets.from_numpy([[np.ma.array(P4[0]), P4[1].tolist()]], [[True, True]]) == Jets(P4[:2], [0, 2])


@pytest.mark.parametrize("dtype", ["Float64", "Float32", "double[pyarrow]"])
def test_a_frame_of_nullable_columns_in_which_nothing_is_missing_is_taken(dtype):
    frame = pd.DataFrame(P4.astype(np.float32)).astype(dtype)
    assert Jets(frame, OFFSETS) == Jets(P4.astype(np.float32), OFFSETS)
    frame.iloc[2, 1] = pd.NA
    with pytest.raises(RinoError, match=r"p4 is masked or null in 1 of 24 entries, the first at \[2, 1\]"):
        Jets(frame, OFFSETS)


# --- awkward arrays ---


def embedded(array: Any) -> np.ndarray:
    return ak.to_numpy(rino.embed(rino.JetEncoder(tiny(), seed=1), array))


@pytest.mark.parametrize("outside", [True, False], ids=["records", "fields"])
def test_constituents_that_a_cut_masks_are_left_out(outside):
    jets = JETS.with_extra("q", np.arange(6.0))
    array = jets.to_awkward()
    cut = array.q != 2
    option = ak.mask(array, cut)
    if not outside:
        option = ak.zip({name: ak.mask(array[name], cut) for name in array.fields})
    expected = Jets.from_awkward(array[cut])
    assert expected.multiplicity.tolist() == [2, 1, 2]
    assert Jets.from_awkward(option) == expected
    assert Jets.from_awkward(ak.pad_none(array, 5, clip=True)) == jets
    np.testing.assert_array_equal(embedded(option), embedded(array[cut]))
    np.testing.assert_array_equal(embedded(ak.pad_none(array, 5)), embedded(array))


def test_options_in_which_nothing_is_missing_are_taken():
    array = JETS.to_awkward()
    assert Jets.from_awkward(ak.mask(array, array.px < np.inf)) == JETS
    assert Jets.from_awkward(ak.concatenate([array, ak.Array([None])])[:3]) == JETS


def test_a_number_that_is_missing_of_a_constituent_is_named():
    array = JETS.with_extra("q", np.arange(6.0)).to_awkward()
    for name in ("py", "q"):
        option = ak.with_field(array, ak.mask(array[name], array.q != 3), name)
        with pytest.raises(RinoError, match=f"the field '{name}' .* None for constituent 0 of jet 1"):
            Jets.from_awkward(option)
    with pytest.raises(RinoError, match="jet 1 of 3 is missing"):
        Jets.from_awkward(ak.mask(array, [True, False, True]))


COMPONENTS: dict[str, Callable[[Jets], np.ndarray]] = {
    **{name: lambda j: j.px for name in ("px", "x")},
    **{name: lambda j: j.py for name in ("py", "y")},
    **{name: lambda j: j.pz for name in ("pz", "z")},
    **{name: lambda j: j.e for name in ("E", "e", "energy", "t")},
    **{name: lambda j: j.constituents.pt for name in ("pt", "rho")},
    **{name: lambda j: j.constituents.mass for name in ("mass", "m", "M", "tau")},
    "phi": lambda j: j.constituents.phi,
    "eta": lambda j: j.constituents.eta,
    "theta": lambda j: np.arctan2(j.constituents.pt, j.pz),
}


@pytest.mark.parametrize("transverse", ["px py", "x y", "pt phi", "rho phi"])
@pytest.mark.parametrize("longitudinal", ["pz", "z", "eta", "theta"])
@pytest.mark.parametrize("temporal", ["E", "e", "energy", "t", "mass", "m", "M", "tau"])
def test_vectors_own_arrays_are_taken_in_all_coordinates(transverse, longitudinal, temporal):
    heavy = P4 + np.array([0, 0, 0, 5])
    jets = Jets(heavy, OFFSETS, extras={"q": np.arange(6.0)})
    names = [*transverse.split(), longitudinal, temporal, "q"]
    lists = {name: ak.unflatten(jets.extras["q"] if name == "q" else COMPONENTS[name](jets), COUNTS) for name in names}
    array = ak.zip(lists, with_name="Momentum4D")
    for one in (array, ak.to_regular(array[:, :1], axis=1)):
        back = Jets.from_awkward(one)
        expected = jets if one is array else Jets(heavy[OFFSETS[:-1]], np.arange(4), extras={"q": OFFSETS[:-1]})
        np.testing.assert_allclose(back.p4, expected.p4, rtol=1e-12)
        np.testing.assert_array_equal(back.extras["q"], expected.extras["q"])
    if set(names) & {"px", "pt", "pz", "E", "e", "energy", "mass", "m", "M"}:  # else a place, to vector
        np.testing.assert_allclose(Jets.from_awkward(vector.zip(lists)).p4, heavy, rtol=1e-12)


@pytest.mark.parametrize("name", "x y z t rho phi theta eta tau px py pz pt E e energy mass m M".split())
def test_an_extra_with_the_name_of_a_momentum_never_takes_its_place(name):
    jets = JETS.with_extra(name, np.full(6, 7.0))
    with pytest.raises(RinoError, match=f"the extra '{name}' would be taken for a part of the momentum"):
        jets.to_awkward()
    record = ak.zip({n: ak.unflatten(c, COUNTS) for n, c in (("px", P4[:, 0]), ("py", P4[:, 1]), ("pz", P4[:, 2]))})
    record = ak.with_name(ak.with_field(record, ak.unflatten(P4[:, 3], COUNTS), "E"), "Momentum4D")
    if name in ("x", "rho", "pt", "y", "phi"):  # one alone is no transverse momentum
        other = {"x": "y", "y": "x", "rho": "phi", "pt": "phi", "phi": "pt"}[name]
        record = ak.with_field(record, record.px * 0 + 1, other)
    if name not in ("px", "py", "pz", "E"):
        both = ak.with_field(record, ak.unflatten(np.full(6, 7.0), COUNTS), name)
        for take in (Jets.from_awkward, embedded):
            with pytest.raises(RinoError, match="has more than one of"):
                take(both)


def test_extras_of_other_names_go_to_awkward_and_back():
    jets = JETS.with_extra("part_E", np.full(6, 7.0)).with_extra("time", np.arange(6.0))
    assert Jets.from_awkward(jets.to_awkward()) == jets
    np.testing.assert_allclose(ak.flatten(vector.Array(jets.to_awkward()).E), P4[:, 3])


# --- padding ---

MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")
CANDIDATES = 11  # of AspenOpenJets: momenta, then d0 ...


def padded_arrays() -> tuple[np.ndarray, np.ndarray]:
    """(3, 5, 4) momenta padded with zeros and (3, 5) an extra that is 0 for some constituents and 9 for padding."""
    mask = np.arange(5) < COUNTS[:, None]
    momenta, extra = np.zeros((3, 5, 4)), np.full((3, 5), 9.0)
    momenta[mask], extra[mask] = P4, np.arange(6) % 3
    return momenta, extra


def padded_parquet(path: Path, momenta: np.ndarray, extra: np.ndarray) -> Path:
    fixed = pa.list_(pa.from_numpy_dtype(momenta.dtype), momenta.shape[1])
    table = {n: pa.array(list(momenta[..., c]), fixed) for c, n in enumerate(MOMENTA)}
    pq.write_table(pa.table(table | {"d0": pa.array(list(extra), fixed)}), path)
    return path


def padded_root(path: Path, momenta: np.ndarray, extra: np.ndarray) -> Path:
    arrays = {name: momenta[..., c] for c, name in enumerate(MOMENTA)} | {"d0": extra}
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: np.dtype((a.dtype, a.shape[1:])) for name, a in arrays.items()}).extend(arrays)
    return path


def padded_aspen(path: Path, momenta: np.ndarray, extra: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        candidates = np.zeros((*extra.shape, CANDIDATES), dtype=momenta.dtype)
        candidates[..., :4], candidates[..., 4] = momenta, extra
        file["PFCands"], file["jet_kinematics"] = candidates, np.zeros((len(extra), 4))
    return path


def padded_npz(path: Path, momenta: np.ndarray, extra: np.ndarray) -> Path:
    wide = momenta.astype(np.float64)
    pt = np.hypot(wide[..., 0], wide[..., 1])
    rapidity = np.arcsinh(np.divide(wide[..., 2], pt, out=np.zeros_like(pt), where=pt > 0))
    x = np.stack([pt, rapidity, np.arctan2(wide[..., 1], wide[..., 0])], axis=2)
    np.savez(path, X=x.astype(momenta.dtype))
    return path


PADDED = {".parquet": padded_parquet, ".root": padded_root, ".h5": padded_aspen, ".npz": padded_npz}


def test_the_same_padded_jets_are_the_same_in_every_container(tmp_path):
    momenta, extra = padded_arrays()
    expected = JETS.with_extra("d0", np.arange(6.0) % 3)
    for suffix, write in PADDED.items():
        file = write(tmp_path / f"a{suffix}", momenta, extra)
        jets = read_jets(file, columns=[] if suffix == ".npz" else "d0", labelled=False)
        np.testing.assert_array_equal(jets.offsets, OFFSETS, err_msg=suffix)
        np.testing.assert_allclose(jets.p4, P4, rtol=1e-12 if suffix == ".npz" else 0, err_msg=suffix)
        assert suffix == ".npz" or jets == expected
    regular = ak.zip({n: momenta[..., c] for c, n in enumerate(("px", "py", "pz", "E"))} | {"d0": extra})
    assert str(regular.type).startswith("3 * 5 * {")
    assert Jets.from_awkward(regular) == expected
    np.testing.assert_array_equal(embedded(regular), embedded(expected.to_awkward()))


def test_zeros_in_lists_of_any_length_are_constituents():
    """Only a type that forces all jets to one length says that zeros are no particles."""
    zeros = ak.zip({n: ak.Array([[3.0, 0.0], [1.0]]) for n in ("px", "E")})
    zeros = ak.with_field(ak.with_field(zeros, zeros.px * 0, "py"), zeros.px * 0, "pz")
    assert Jets.from_awkward(zeros).multiplicity.tolist() == [2, 1]


def test_lists_of_any_length_beside_padded_momenta_are_those_of_the_constituents(tmp_path):
    momenta, extra = padded_arrays()
    file = padded_parquet(tmp_path / "a.parquet", momenta, extra)
    table = pq.read_table(file)
    ragged = pa.array([row[:n].tolist() for row, n in zip(extra, COUNTS, strict=True)])
    pq.write_table(table.append_column("part_q", ragged), file)
    jets = read_jets(file, columns=["d0", "part_q"])
    np.testing.assert_array_equal(jets.extras["part_q"], jets.extras["d0"])


@pytest.mark.parametrize("fixed", [True, False])
def test_constituents_that_are_null_in_all_momenta_are_not_there(tmp_path, fixed):
    """As awkward writes what a cut masks, or pads with None."""
    momenta, extra = padded_arrays()
    padding = np.arange(5) >= COUNTS[:, None]
    kind = pa.list_(pa.float64(), 5) if fixed else pa.list_(pa.float64())

    def lists(values: np.ndarray, null: np.ndarray) -> pa.Array:
        return pa.array(
            [[None if n else v for v, n in zip(*row, strict=True)] for row in zip(values, null, strict=True)], kind
        )

    columns = {n: lists(momenta[..., c], padding) for c, n in enumerate(MOMENTA)}
    some = padding & (np.arange(5) > 3)
    pq.write_table(pa.table(columns | {"d0": lists(extra, some)}), tmp_path / "a.parquet")
    assert read_jets(tmp_path / "a.parquet", columns="d0") == JETS.with_extra("d0", np.arange(6.0) % 3)
    padding[2, 1] = True
    columns["part_pz"] = lists(momenta[..., 2], padding)
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    with pytest.raises(RinoError, match=r"b\.parquet: part_pz of jet 2 has missing values"):
        read_jets(tmp_path / "b.parquet")
    padding[0, 2] = True
    columns |= {n: lists(momenta[..., c], padding) for c, n in enumerate(MOMENTA)}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    assert read_jets(tmp_path / "c.parquet").multiplicity.tolist() == [2, 1, 1]


def test_a_jet_of_padding_alone_is_empty(tmp_path):
    momenta, extra = padded_arrays()
    momenta[1] = 0
    for suffix, write in PADDED.items():
        file = write(tmp_path / f"b{suffix}", momenta, extra)
        with pytest.raises(RinoError, match="jet 1 has no constituents"):
            read_jets(file)
        assert read_jets(file, drop_empty=True).multiplicity.tolist() == [3, 2], suffix


# --- half precision ---


def half(p4: np.ndarray) -> np.ndarray:
    return p4.astype(np.float16)


def after_rounding(p4: np.ndarray) -> np.ndarray:
    """The momenta as float16 has them, with E raised to |p| where rounding left it below."""
    stored = half(p4).astype(np.float64)
    stored[:, 3] = np.maximum(stored[:, 3], np.sqrt((stored[:, :3] ** 2).sum(axis=1)))
    return stored


MANY = massless(3000, seed=1)
EACH = np.arange(0, 3001, 3)


def awkward_of(p4: np.ndarray) -> ak.Array:
    return ak.zip({n: ak.unflatten(np.ascontiguousarray(p4[:, c]), 3) for c, n in enumerate(("px", "py", "pz", "E"))})


HALF: dict[str, Callable[[np.ndarray, Path], Jets]] = {
    "Jets": lambda p4, _: Jets(p4, EACH),
    "torch": lambda p4, _: Jets(torch.from_numpy(p4), EACH),
    "from_columns": lambda p4, _: Jets.from_columns(*p4.T, EACH),
    "from_awkward": lambda p4, _: Jets.from_awkward(awkward_of(p4)),
    "from_numpy": lambda p4, _: Jets.from_numpy(p4.reshape(1000, 3, 4), np.ones((1000, 3), dtype=bool)),
    "parquet": lambda p4, place: read_jets(padded_parquet(place / "h.parquet", p4.reshape(1000, 3, 4), ZEROS)),
    "HDF5": lambda p4, place: read_jets(padded_aspen(place / "h.h5", p4.reshape(1000, 3, 4), ZEROS)),
}
ZEROS = np.zeros((1000, 3), dtype=np.float16)


@pytest.mark.parametrize("container", HALF)
def test_massless_particles_in_half_precision_have_e_of_their_momentum(container, tmp_path):
    wrong = half(MANY).astype(np.float64)
    below = wrong[:, 3] / np.sqrt((wrong[:, :3] ** 2).sum(axis=1))
    assert below.min() < 1 - 4e-4  # rounding alone breaks most jets
    jets = HALF[container](half(MANY), tmp_path)
    np.testing.assert_allclose(jets.p4, after_rounding(MANY), rtol=1e-12)
    np.testing.assert_array_equal(jets.p4[:, :3], wrong[:, :3])


@pytest.mark.parametrize("container", HALF)
def test_what_no_rounding_explains_is_refused_in_half_precision_too(container, tmp_path):
    broken = MANY.copy()
    broken[1500, 3] *= 0.99
    with pytest.raises(RinoError, match="jet 500"):
        HALF[container](half(broken), tmp_path)


def test_one_column_in_half_precision_is_enough():
    columns = [*MANY[:, :3].T, half(MANY)[:, 3]]
    jets = Jets.from_columns(*columns, EACH)
    np.testing.assert_allclose(jets.e, np.maximum(columns[3], MANY[:, 3]), rtol=1e-12)
    with pytest.raises(RinoError, match="has E ="):
        Jets.from_columns(*(column.astype(np.float64) for column in columns), EACH)


def test_half_precision_in_npz_is_read(tmp_path):
    file = padded_npz(tmp_path / "h.npz", half(MANY).reshape(1000, 3, 4), ZEROS)
    np.testing.assert_allclose(read_jets(file).p4, MANY, rtol=5e-3, atol=0.2)


def test_streams_and_caches_have_half_precision_as_read_jets_has_it(tmp_path):
    file = padded_parquet(tmp_path / "h.parquet", half(MANY).reshape(1000, 3, 4), ZEROS)
    read = read_jets(file)
    with rino.open_dataset(file) as dataset:
        stream = dataset.take(1000)
    np.testing.assert_allclose(stream[np.argsort(stream.origins.entry)].p4, read.p4, rtol=1e-6)
    rino.pack(file, tmp_path / "h.arrow", progress=False)
    np.testing.assert_allclose(read_jets(tmp_path / "h.arrow").p4, read.p4, rtol=1e-6)


def test_half_precision_in_another_unit_is_rounded_once(tmp_path):
    in_tev = MANY / 1000
    for factor in (1e3, 1e6):  # half precision has nothing above 65504
        for write, suffix in ((padded_parquet, ".parquet"), (padded_aspen, ".h5")):
            file = write(tmp_path / f"h{suffix}", half(in_tev).reshape(1000, 3, 4), ZEROS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RinoWarning)  # of pT that no collision has
                scaled = read_jets(file, scale=factor)
            np.testing.assert_allclose(scaled.p4, after_rounding(in_tev) * factor, rtol=1e-12)
