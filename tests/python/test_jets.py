"""pyrino.Jets: memory, validation, sequence behaviour, kinematics, conversions."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyrino as rino
from pyrino import Jets, RinoError

P4 = np.array([[30.0, 0, 40, 50], [3, 4, 0, 5], [0, 8, 6, 10.5]])
OFFSETS = np.array([0, 2, 3])


def some_jets(**more: object) -> Jets:
    return Jets(P4, OFFSETS, **more)


def random_jets(counts: list[int], seed: int, labels: bool = False, extra: bool = False) -> Jets:
    """Massive constituents with the given multiplicities."""
    rng = np.random.default_rng(seed)
    total = sum(counts)
    p = rng.normal(scale=20, size=(total, 3))
    p4 = np.column_stack([p, np.sqrt((p**2).sum(axis=1) + rng.exponential(size=total))])
    return Jets(
        p4,
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        labels=rng.integers(0, 5, len(counts)) if labels else None,
        extras={"charge": rng.integers(-1, 2, total), "d0": rng.normal(size=total)} if extra else None,
    )


# --- memory ---


@pytest.mark.parametrize("layout", ["row order", "column order", "sliced", "reversed", "transposed"])
def test_float64_momenta_are_not_copied_whatever_their_strides(layout):
    if layout == "row order":
        p4 = P4.copy()
    elif layout == "column order":
        p4 = np.asfortranarray(P4)
    elif layout == "sliced":
        big = np.full((6, 9), np.nan)
        p4 = big[::2, 1::2]
        p4[...] = P4
    elif layout == "reversed":
        p4 = np.ascontiguousarray(P4[::-1, ::-1])[::-1, ::-1]
    else:
        p4 = np.ascontiguousarray(P4.T).T
    jets = Jets(p4, OFFSETS)
    assert np.shares_memory(jets.p4, p4)
    np.testing.assert_array_equal(jets.p4, P4)
    for c, name in enumerate(["px", "py", "pz", "e"]):
        component = getattr(jets, name)
        assert np.shares_memory(component, p4)
        np.testing.assert_array_equal(component, P4[:, c])
    np.testing.assert_allclose(jets.four_momenta, [P4[:2].sum(axis=0), P4[2]], rtol=1e-15)


def test_int64_offsets_are_not_copied():
    assert np.shares_memory(some_jets().offsets, OFFSETS)


def test_columns_are_not_copied():
    columns = [np.ascontiguousarray(P4[:, c]) for c in range(4)]
    jets = Jets.from_columns(*columns, OFFSETS)
    assert np.shares_memory(jets.px, columns[0]) and np.shares_memory(jets.e, columns[3])
    assert jets == some_jets()


@pytest.mark.parametrize(
    "show", [lambda j: j.px, lambda j: j[1].e, lambda j: j[1], lambda j: j.constituents, lambda j: j.p4, iter]
)
def test_the_memory_lives_as_long_as_what_looks_at_it_and_no_longer(show):
    p4, px = P4.copy(), P4[:, 0].copy()
    given = [weakref.ref(p4), weakref.ref(px)]
    shown = [show(Jets(p4, OFFSETS)), show(Jets.from_columns(px, p4[:, 1], p4[:, 2], p4[:, 3], OFFSETS))]
    del p4, px
    gc.collect()
    assert given[0]() is not None
    del shown
    gc.collect()
    assert [ref() for ref in given] == [None, None]


def test_a_component_alone_keeps_the_memory():
    p4, px = P4.copy(), P4[:, 0].copy()
    given = [weakref.ref(p4), weakref.ref(px)]
    shown = [Jets(p4, OFFSETS).px, Jets.from_columns(px, P4[:, 1], P4[:, 2], P4[:, 3], OFFSETS)[0].px]
    del p4, px
    gc.collect()
    assert all(ref() is not None for ref in given) and shown[0].tolist() == P4[:, 0].tolist()


def test_arrays_are_read_only_and_the_given_one_stays_writeable():
    p4, offsets = P4.copy(), OFFSETS.copy()
    jets = Jets(p4, offsets, labels=[0, 1], extras={"charge": [1, 0, -1]})
    for array in (jets.p4, jets.px, jets.offsets, jets.labels, jets.extras["charge"], jets[1].p4):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        jets.extras["charge"] = np.zeros(3)
    p4[0, 0], offsets[0] = 30.0, 0


def test_the_momenta_of_a_slice_are_those_of_the_whole():
    for jets in (some_jets(), Jets(np.asfortranarray(P4), OFFSETS), rino.toy_jets(5, seed=1)):
        whole = jets.p4
        assert jets.p4 is whole
        assert np.shares_memory(jets[1].p4, whole) and np.shares_memory(jets[1:].p4, whole)
        np.testing.assert_array_equal(jets[1].p4, whole[jets.offsets[1] : jets.offsets[2]])


@pytest.mark.parametrize("dtype", [np.float32, np.int32, ">f8", np.longdouble])
def test_other_types_are_converted(dtype):
    p4 = np.array([[3.0, 4, 0, 5], [0, 0, 2, 2]]).astype(dtype)
    jets = Jets(p4, [0, 1, 2])
    assert jets.p4.dtype == np.float64
    np.testing.assert_array_equal(jets.p4, p4.astype(np.float64))


def test_fields_of_packed_records_are_converted():
    records = np.zeros(2, dtype=[("flag", "i1"), ("p4", "f8", 4)])
    records["p4"] = [[3.0, 4, 0, 5], [0, 0, 2, 2]]
    np.testing.assert_array_equal(Jets(records["p4"], [0, 2]).p4, records["p4"])


# --- validation ---


@pytest.mark.parametrize(
    ("p4", "offsets", "words"),
    [
        (np.zeros((3, 3)), [0, 3], r"shape \(3, 3\)"),
        (np.zeros(4), [0, 1], r"shape \(4,\)"),
        ([[1, 2, 3, 4], [1, 2]], [0, 2], "p4 is no array"),
        (P4.astype(complex), OFFSETS, "complex128"),
        (P4.astype(str), OFFSETS, "real numbers"),
        (P4, [0, 2, 4], "last offset is 4 but there are 3"),
        (P4, [0, 2], "last offset is 2 but there are 3"),
        (P4, [1, 3], "first offset is 1"),
        (P4, [0, -1, 3], "offset 1 is -1"),
        (P4, [0, 2, 1, 3], "offset 2 is 1, below the 2"),
        (P4, [0, 2, 2, 3], "jet 1 has no constituents"),
        (P4, [], "offsets"),
        (P4, [[0, 3]], r"shape \(1, 2\)"),
        (P4, [0.0, 3.0], "type float64: give integers"),
        (P4, np.array([0, 2**64 - 1], dtype=np.uint64), "below 2\\^63"),
    ],
)
def test_shapes_types_and_offsets_that_do_not_fit_are_named(p4, offsets, words):
    with pytest.raises(RinoError, match=words):
        Jets(p4, offsets)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("component", range(4))
def test_a_momentum_that_is_not_finite_is_named_with_jet_and_constituent(component, value):
    p4 = P4.copy()
    p4[1, component] = value
    with pytest.raises(RinoError, match=f"{'px py pz E'.split()[component]} of constituent 1 of jet 0 is -?(nan|inf)"):
        Jets(p4, OFFSETS)


def test_an_energy_below_the_momentum_is_named_but_float32_rounding_is_not():
    p4 = P4.copy()
    p4[2, 3] = 9.99
    with pytest.raises(RinoError, match=r"constituent 0 of jet 1 has E = 9.99 GeV below \|p\| = 10 GeV"):
        Jets(p4, OFFSETS)
    rng = np.random.default_rng(0)
    p = rng.normal(scale=100, size=(10_000, 3))
    massless = np.column_stack([p, np.sqrt((p**2).sum(axis=1))]).astype(np.float32)
    assert len(Jets(massless, np.arange(10_001))) == 10_000


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0], "1 labels for 2 jets"),
        ([0, -1], "label of jet 1 is -1"),
        ([0.0, 1.0], "type float64"),
        ([[0, 1]], r"shape \(1, 2\)"),
        (["qcd", "top"], "give integers"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, words):
    with pytest.raises(RinoError, match=words):
        some_jets(labels=labels)
    with pytest.raises(RinoError, match=words):
        some_jets().with_labels(labels)


@pytest.mark.parametrize(
    ("values", "words"),
    [([1, 2], "'charge' has 2 values for 3"), (np.zeros((3, 1)), r"shape \(3, 1\)"), (["a", "b", "c"], "real numbers")],
)
def test_extras_that_do_not_fit_are_named(values, words):
    with pytest.raises(RinoError, match=words):
        some_jets(extras={"charge": values})
    with pytest.raises(RinoError, match=words):
        some_jets().with_extra("charge", values)


def test_no_jets_are_allowed():
    none = Jets(np.empty((0, 4)), [0])
    assert len(none) == 0 and none.p4.shape == (0, 4) and none.pt.shape == (0,) and list(none) == []
    assert none == some_jets()[:0] and none.to_numpy()[0].shape == (0, 0, 4)
    assert "jets: 0" in repr(none) and len(Jets.from_awkward(none.to_awkward())) == 0


def test_labels_and_extras_ride_along():
    jets = some_jets().with_labels(np.array([True, False])).with_extra("charge", [1, 0, -1])
    np.testing.assert_array_equal(jets.labels, [1, 0])
    assert jets.labels.dtype == np.int64
    np.testing.assert_array_equal(jets.extras["charge"], [1.0, 0, -1])
    assert np.shares_memory(jets.p4, P4)
    assert some_jets().labels is None and dict(some_jets().extras) == {}


# --- kinematics ---


def test_kinematics_are_those_of_the_formulas():
    jets = random_jets([3, 1, 7, 20], seed=5)
    for got, p in ((jets, np.add.reduceat(jets.p4, jets.offsets[:-1], axis=0)), (jets.constituents, jets.p4)):
        px, py, pz, e = p.T.astype(np.longdouble)
        pt, momentum = np.sqrt(px**2 + py**2), np.sqrt(px**2 + py**2 + pz**2)
        expected = {
            "pt": pt,
            "eta": 0.5 * np.log((momentum + pz) / (momentum - pz)),
            "phi": np.arctan2(py, px),
            "mass": np.sqrt(e**2 - momentum**2),
            "rapidity": 0.5 * np.log((e + pz) / (e - pz)),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(got, name), values.astype(float), rtol=1e-10, err_msg=name)
    np.testing.assert_array_equal(jets.multiplicity, [3, 1, 7, 20])
    assert jets.n_constituents == len(jets.constituents) == 31


# --- as a sequence ---

COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=8)


def as_lists(jets: Jets) -> list[list[list[float]]]:
    bounds = jets.offsets
    return [jets.p4[bounds[j] : bounds[j + 1]].tolist() for j in range(len(jets))]


@given(counts=COUNTS, data=st.data())
def test_indexing_is_that_of_a_list(counts, data):
    jets = random_jets(counts, seed=3, labels=True, extra=True)
    n, reference = len(jets), as_lists(jets)
    limits = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    chosen = slice(data.draw(limits), data.draw(limits), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
    part = jets[chosen]
    assert as_lists(part) == reference[chosen]
    assert part.labels.tolist() == jets.labels.tolist()[chosen]
    numbers = data.draw(st.lists(st.integers(-n, n - 1), max_size=6))
    picked = jets[numbers]
    assert as_lists(picked) == [reference[i] for i in numbers]
    assert picked.labels.tolist() == [int(jets.labels[i]) for i in numbers]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    assert jets[mask] == jets[np.flatnonzero(mask)]
    number = data.draw(st.integers(-n, n - 1))
    assert len(jets[number]) == 1 and as_lists(jets[number]) == [reference[number]]
    np.testing.assert_array_equal(
        jets[number].extras["d0"], jets.extras["d0"][jets.offsets[number % n] : jets.offsets[number % n + 1]]
    )


def test_iteration_gives_one_jet_after_the_other(toy):
    assert Jets.concatenate(list(toy)) == toy
    assert [jet.n_constituents for jet in toy] == toy.multiplicity.tolist()


def test_numbers_out_of_range_raise_IndexError():
    for index in (2, -3, np.int64(7), [0, 2]):
        with pytest.raises(IndexError, match="of 2; numbers run from -2 to 1"):
            some_jets()[index]


@pytest.mark.parametrize(
    "index", [1.0, (0, 1), "0", None, [0.5], np.zeros((1, 1), dtype=int), [True], np.ones(3, bool)]
)
def test_indices_of_another_kind_are_named(index):
    with pytest.raises(RinoError, match=r"cannot be indexed|mask has shape"):
        some_jets()[index]


def test_concatenating_keeps_labels_and_extras_and_refuses_what_does_not_match():
    one, two = random_jets([2, 3], 1, labels=True, extra=True), random_jets([4], 2, labels=True, extra=True)
    both = Jets.concatenate([one, two])
    assert both[:2] == one and both[2:] == two
    with pytest.raises(RinoError, match="part 1 has no labels, unlike part 0"):
        Jets.concatenate([one, random_jets([4], 2, extra=True)])
    with pytest.raises(RinoError, match="part 1 lacks the extra 'charge'"):
        Jets.concatenate([one, random_jets([4], 2, labels=True)])
    with pytest.raises(RinoError, match="part 1 has the extra 'charge'"):
        Jets.concatenate([random_jets([4], 2, labels=True), one])
    with pytest.raises(RinoError, match="nothing to concatenate"):
        Jets.concatenate([])
    with pytest.raises(RinoError, match="part 0 is of type list"):
        Jets.concatenate([[1]])


def test_equality_looks_at_every_number():
    jets = random_jets([2, 3], 1, labels=True, extra=True)
    same = random_jets([2, 3], 1, labels=True, extra=True)
    assert jets == same and not jets != same
    nudged = jets.p4.copy()
    nudged[4, 2] = np.nextafter(nudged[4, 2], 0)
    others = [
        Jets(nudged, jets.offsets, jets.labels, jets.extras),
        Jets(jets.p4, [0, 3, 5], jets.labels, jets.extras),
        Jets(jets.p4, jets.offsets, jets.labels + 1, jets.extras),
        Jets(jets.p4, jets.offsets, None, jets.extras),
        Jets(jets.p4, jets.offsets, jets.labels),
        jets.with_extra("d0", jets.extras["d0"] + 1),
    ]
    assert all(jets != other for other in others)
    assert jets != 3 and len(dict.fromkeys(map(id, others))) == 6
    with pytest.raises(TypeError):
        hash(jets)


@pytest.mark.parametrize("back", [lambda j: pickle.loads(pickle.dumps(j)), copy.copy, copy.deepcopy])
def test_pickle_and_copy_give_the_same_jets_back(back, toy):
    for jets in (random_jets([2, 3], 1, labels=True, extra=True), toy, toy[3:7], toy[:0]):
        assert back(jets) == jets


def test_a_deep_copy_has_memory_of_its_own():
    p4 = P4.copy()
    jets = Jets(p4, OFFSETS)
    deep = copy.deepcopy(jets)
    assert np.shares_memory(copy.copy(jets).px, p4) and not np.shares_memory(deep.p4, p4)


def test_the_pickle_of_a_slice_holds_the_slice_alone(toy):
    assert len(pickle.dumps(toy[0])) < len(pickle.dumps(toy)) / 10


# --- values and origins ---


def annotated(counts: list[int], seed: int = 1) -> Jets:
    rng = np.random.default_rng(seed)
    n = len(counts)
    jets = random_jets(counts, seed, labels=True, extra=True).with_value("tau", rng.normal(size=n))
    files = [f"file{seed}.root", "both.parquet"]
    return jets.with_value("jet_pt", np.arange(n)).with_origins(files, np.arange(n) % 2, 2**40 + np.arange(n))


def origins_of(jets: Jets) -> list[tuple[str, int]]:
    return list(zip(jets.origins.names.tolist(), jets.origins.entry.tolist(), strict=True))


def test_values_are_one_number_per_jet_and_read_only():
    values = np.array([1, 2], dtype=np.int32)
    jets = some_jets().with_value("tau", values).with_value("flag", [True, False])
    assert dict(some_jets().values) == {} and list(jets.values) == ["flag", "tau"]
    assert jets.values["tau"].dtype == np.float64 and jets.values["tau"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        jets.values["tau"][0] = 0
    with pytest.raises(TypeError):
        jets.values["tau"] = np.zeros(2)
    assert np.shares_memory(jets.p4, P4) and jets.with_value("tau", [3, 4]).values["tau"].tolist() == [3, 4]
    assert "values: flag, tau" in repr(jets)
    for wrong, words in (
        ([1], "'tau' has 1 entries for 2 jets"),
        ([[1], [2]], r"shape \(2, 1\)"),
        (["a", "b"], "real"),
    ):
        with pytest.raises(RinoError, match=words):
            some_jets().with_value("tau", wrong)


def test_origins_name_file_and_entry_of_every_jet():
    jets = some_jets().with_origins(["a.root", "b.root", "c.root"], [2, 0], [5, 2**40])
    assert some_jets().origins is None
    assert jets.origins.files == ("a.root", "b.root", "c.root") and jets.origins.file.dtype == np.int32
    assert jets.origins.entry.dtype == np.int64 and origins_of(jets) == [("c.root", 5), ("a.root", 2**40)]
    assert np.shares_memory(jets.p4, P4)
    for array in (jets.origins.file, jets.origins.entry):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    for files, file, entry, words in [
        (["a"], [0], [0, 1], "1 files and 2 entries for 2 jets"),
        (["a"], [0, 1], [0, 1], "jet 1 comes from entry 1 of file 1 of 1: both count from 0"),
        (["a"], [0, 0], [0, -1], "entry -1"),
        ([], [0, 0], [0, 0], "of file 0 of 0"),
        (["a"], [0.0, 0.0], [0, 0], "type float64: give integers"),
    ]:
        with pytest.raises(RinoError, match=words):
            some_jets().with_origins(files, file, entry)


@given(counts=COUNTS, data=st.data())
def test_values_and_origins_go_with_every_index(counts, data):
    jets = annotated(counts)
    n = len(jets)
    limits = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    chosen = slice(data.draw(limits), data.draw(limits), data.draw(st.sampled_from([None, 1, 2, -1])))
    numbers = data.draw(st.lists(st.integers(-n, n - 1), max_size=6))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    for index in (chosen, numbers, mask):
        picked = np.arange(n)[np.asarray(index, dtype=int) if index is numbers else index]
        part = jets[index]
        assert part.values["tau"].tolist() == jets.values["tau"][picked].tolist()
        assert part.values["jet_pt"].tolist() == picked.tolist()
        assert origins_of(part) == [origins_of(jets)[i] for i in picked]
    assert [origins_of(jet)[0] for jet in jets] == origins_of(jets)


def test_concatenating_joins_values_and_merges_origins():
    one, two = annotated([2, 3, 1], 1), annotated([4, 1], 2)
    both = Jets.concatenate([one, two, one[:1]])
    assert both[:3] == one and both[3:5] == two and both[5:] == one[:1]
    assert both.origins.files == ("file1.root", "both.parquet", "file2.root")
    assert origins_of(both) == origins_of(one) + origins_of(two) + origins_of(one)[:1]
    assert both.values["tau"].tolist() == [*one.values["tau"], *two.values["tau"], one.values["tau"][0]]
    unknown = Jets.concatenate([one, random_jets([2], 5, True, True).with_value("tau", [1]).with_value("jet_pt", [2])])
    assert unknown.origins is None
    with pytest.raises(RinoError, match="part 1 lacks the value 'jet_pt'"):
        Jets.concatenate([one, random_jets([2], 5, True, True).with_value("tau", [1])])
    with pytest.raises(RinoError, match="part 1 has the value 'tau'"):
        Jets.concatenate([random_jets([2], 5, True, True).with_value("jet_pt", [1]), one])


def test_equality_looks_at_values_and_not_at_origins():
    jets = annotated([2, 3])
    assert jets == annotated([2, 3]) and jets == jets.with_origins(["elsewhere"], [0, 0], [7, 8])
    assert jets != jets.with_value("tau", jets.values["tau"] + 1) and jets != jets.with_value("new", [1, 2])
    nan = jets.with_value("tau", [np.nan, 1])
    assert nan == jets.with_value("tau", [np.nan, 1])


@pytest.mark.parametrize("back", [lambda j: pickle.loads(pickle.dumps(j)), copy.copy, copy.deepcopy])
def test_pickle_and_copy_keep_values_and_origins(back):
    whole = annotated([2, 3, 1, 5])
    for jets in (whole, whole[1:3], whole[[3, 0]], whole[:0]):
        same = back(jets)
        assert same == jets and same.values.keys() == {"tau", "jet_pt"}
        assert same.origins.files == jets.origins.files and origins_of(same) == origins_of(jets)


def test_views_and_transforms_keep_labels_values_and_origins():
    toy = rino.toy_jets(12, seed=3)
    jets = toy.with_value("tau", np.arange(12)).with_origins(["a", "b"], np.arange(12) % 2, np.arange(12))
    jets = jets.with_labels(np.arange(12) % 3)
    made = [*rino.ViewGenerator([1, 4, "kt:5", "all"])(jets), rino.hardest(jets, 3)]
    for view in made:
        assert len(view) == 12 and view.values["tau"].tolist() == list(range(12))
        assert origins_of(view) == origins_of(jets) and view.labels.tolist() == jets.labels.tolist()
    assert jets.with_extra("x", np.zeros(jets.n_constituents)).origins is not None


# --- other containers ---


@given(counts=COUNTS, labels=st.booleans(), extra=st.booleans())
def test_awkward_and_padded_numpy_go_there_and_back(counts, labels, extra):
    jets = random_jets(counts, seed=8, labels=labels, extra=extra)
    assert Jets.from_awkward(jets.to_awkward(), jets.labels) == jets
    padded, mask = jets.to_numpy()
    assert padded.shape == (len(counts), max(counts), 4) and mask.dtype == np.bool_
    assert not padded[~mask].any()
    spread = {}
    for name, values in jets.extras.items():
        spread[name] = np.full(mask.shape, np.nan)
        spread[name][mask] = values
    assert Jets.from_numpy(padded, mask, labels=jets.labels, extras=spread) == jets


def test_awkward_columns_of_float64_are_not_copied():
    array = random_jets([2, 3], 1).to_awkward()
    jets = Jets.from_awkward(array)
    assert np.shares_memory(jets.px, ak.to_numpy(ak.flatten(array["px"])))


FIELDS = {
    "px": lambda j: j.constituents.px,
    "py": lambda j: j.constituents.py,
    "pz": lambda j: j.constituents.pz,
    "pt": lambda j: j.constituents.pt,
    "phi": lambda j: j.constituents.phi,
    "eta": lambda j: j.constituents.eta,
    "E": lambda j: j.constituents.e,
    "e": lambda j: j.constituents.e,
    "energy": lambda j: j.constituents.e,
    "mass": lambda j: j.constituents.mass,
    "m": lambda j: j.constituents.mass,
    "M": lambda j: j.constituents.mass,
}


@pytest.mark.parametrize(
    "fields",
    ["px py pz E", "px py pz energy", "px py pz mass", "pt eta phi mass", "pt phi eta m", "pt phi pz e", "px py eta M"],
)
def test_awkward_fields_have_the_names_of_the_vector_library(fields):
    jets = random_jets([1, 4, 2], seed=9)
    array = ak.zip({name: ak.unflatten(FIELDS[name](jets), jets.multiplicity) for name in fields.split()})
    back = Jets.from_awkward(array)
    np.testing.assert_allclose(back.p4, jets.p4, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(back.offsets, jets.offsets)


def test_regular_and_sliced_awkward_arrays_are_taken():
    jets = random_jets([3, 3, 3, 3], seed=10)
    regular = ak.to_regular(jets.to_awkward(), axis=1)
    assert Jets.from_awkward(regular) == jets
    assert Jets.from_awkward(jets.to_awkward()[1:3]) == jets[1:3]
    assert Jets.from_awkward(jets.to_awkward()[[3, 0]]) == jets[[3, 0]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (ak.Array([[1.0, 2.0]]), "give jets x var x records"),
        (ak.Array([{"px": 1.0, "py": 1.0, "pz": 1.0, "E": 3.0}]), "give jets x var x records"),
        (ak.Array([[{"px": 1.0, "py": 1.0, "pz": 1.0}]]), "has none of E or e or energy or mass"),
        (ak.Array([[{"px": 1.0, "pz": 1.0, "E": 3.0}]]), "has none of px and py or pt and phi"),
        (ak.Array([[{"px": 1.0, "py": 1.0, "pz": 1.0, "E": 3.0, "mass": 1.0}]]), "more than one of E or e"),
        (ak.Array([[{"pt": -1.0, "phi": 1.0, "eta": 1.0, "mass": 1.0}]]), "pT of constituent 0 of jet 0 is -1.0 GeV"),
        (
            ak.Array([[{"pt": 1.0, "phi": 1.0, "eta": 1.0, "mass": 1.0}], [{"pt": 1, "phi": 1, "eta": 1, "mass": -2}]]),
            "mass of constituent 0 of jet 1 is -2.0",
        ),
        (ak.Array([[{"px": 1.0, "py": None, "pz": 1.0, "E": 3.0}]]), "'py' is of type .*none missing"),
        (ak.Array([[{"px": 1.0, "py": 1.0, "pz": 1.0, "E": 3.0, "name": "pi"}]]), "'name' is of type"),
        (ak.Array([[{"px": 1.0, "py": 1.0, "pz": 1.0, "E": 3.0}], []]), "jet 1 has no constituents"),
        (ak.Array([[{"px": 1.0, "py": 1.0, "pz": 1.0, "E": 3.0}], None]), "none missing"),
        (ak.Array([[{"px": 1.0, "py": 1.0, "pz": 1.0, "E": 0.3}]]), "has E = 0.3 GeV below"),
        (ak.Array([[{"pt": 0.0, "phi": 1.0, "eta": 1e4, "mass": 1.0}]]), "pz of constituent 0 of jet 0 is -?nan"),
        (ak.Array([[{"pt": 1.0, "phi": np.inf, "eta": 1.0, "mass": 1.0}]]), "px of constituent 0 of jet 0 is -?nan"),
    ],
)
def test_awkward_arrays_that_do_not_fit_are_named(array, words):
    with pytest.raises(RinoError, match=words):
        Jets.from_awkward(array)


def test_padded_arrays_in_pt_eta_phi_mass_are_taken_whatever_the_padding_holds():
    padded = np.full((2, 3, 4), np.nan)
    mask = np.array([[True, False, True], [False, True, False]])
    padded[mask] = [[50, 0.5, 1.0, 0.0], [20, -1.0, 3.0, 0.14], [100, 2.0, -2.0, 5.0]]
    jets = Jets.from_numpy(padded, mask, coordinates="ptetaphim", labels=[1, 0])
    np.testing.assert_array_equal(jets.offsets, [0, 2, 3])
    for c, name in enumerate(["pt", "eta", "phi"]):
        np.testing.assert_allclose(getattr(jets.constituents, name), padded[mask][:, c], rtol=1e-14)
    np.testing.assert_allclose(jets.constituents.mass, [0, 0.14, 5], rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize(
    ("padded", "mask", "more", "words"),
    [
        (np.zeros((2, 4)), np.ones(2, bool), {}, r"shape \(2, 4\)"),
        (np.zeros((2, 3, 4)), np.ones((2, 3)), {}, "mask is of type float64: give bool"),
        (np.zeros((2, 3, 4)), np.ones((3, 2), bool), {}, r"mask has shape \(3, 2\)"),
        (np.zeros((2, 3, 4)), np.ones((2, 3), bool), {"coordinates": "xyz"}, "coordinates = 'xyz' is not known"),
        (np.zeros((2, 3, 4)), np.ones((2, 3), bool), {"coordinates": 4}, "coordinates = 4 is not known"),
        (np.zeros((2, 3, 4)), np.ones((2, 3), bool), {"extras": {"q": np.zeros(6)}}, r"'q' has shape \(6,\)"),
        (np.zeros((2, 3, 4)), np.array([[True] * 3, [False] * 3]), {}, "jet 1 has no constituents"),
        (
            -np.ones((1, 1, 4)),
            np.ones((1, 1), bool),
            {"coordinates": "ptetaphim"},
            "pT of constituent 0 of jet 0 is -1",
        ),
    ],
)
def test_padded_arrays_that_do_not_fit_are_named(padded, mask, more, words):
    with pytest.raises(RinoError, match=words):
        Jets.from_numpy(padded, mask, **more)


def test_pseudojets_are_taken():
    import fastjet

    lists = [[fastjet.PseudoJet(*P4[0]), fastjet.PseudoJet(*P4[1])], (fastjet.PseudoJet(*P4[2]),)]
    assert Jets.from_pseudojets(lists, labels=[1, 0]) == some_jets(labels=[1, 0])
    with pytest.raises(RinoError, match=r"constituent 0 of jet 1 is of type float: give fastjet.PseudoJet"):
        Jets.from_pseudojets([lists[0], [1.0]])
    with pytest.raises(RinoError, match="jet 0 has no constituents"):
        Jets.from_pseudojets([[]])


# --- for the eye ---


def test_the_repr_says_what_is_in_it(toy):
    text = repr(toy.with_extra("charge", np.zeros(toy.n_constituents)))
    for words in ("jets: 60", f"constituents: {toy.n_constituents}", "GeV", "0: ", "1: ", "extras: charge"):
        assert words in text


def test_the_html_shows_the_first_jets_and_escapes_names(toy):
    html = toy.with_extra("<b>", np.zeros(toy.n_constituents))._repr_html_()
    assert html.count("<svg") == 5 and "&lt;b&gt;" in html and "<b>" not in html
    beam = Jets([[0, 0, 5, 5.0], [0, 0, 4, 4.0]], [0, 2])
    assert "nan" not in beam._repr_html_() and "<table" in Jets(np.empty((0, 4)), [0])._repr_html_()


def test_a_jet_is_drawn_with_one_panel_a_resolution(toy):
    figure = toy[0].draw([1, 8, "kt:5", "all"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "N = 1 subjet" and titles[1] == "N = 8 subjets"
    assert titles[2].startswith("kt:5") and titles[3] == f"all {toy[0].n_constituents} constituents"
    assert len(toy[0].draw("all").axes) >= 1 and len(toy[0].draw([2, 3], algorithm="cambridge").axes) >= 2


def test_constituents_are_drawn_in_the_colour_of_their_subjet():
    """Two well separated pairs: the drawn colours must tell the pairs apart, in spite of the order given."""
    angles = np.array([[0.3, 0.3], [-0.3, -0.3], [0.32, 0.3], [-0.3, -0.32]])
    pt = np.array([10.0, 40, 80, 20])
    p4 = np.column_stack([pt * np.cos(angles[:, 1]), pt * np.sin(angles[:, 1]), pt * np.sinh(angles[:, 0]),
                          pt * np.cosh(angles[:, 0])])  # fmt: skip
    figure = Jets(p4, [0, 4]).draw([2, "all"])
    dots = figure.axes[0].collections[0]
    side = np.sign(dots.get_offsets()[:, 0] - dots.get_offsets()[:, 0].mean())
    colours = {tuple(c) for c in np.column_stack([side, dots.get_facecolors()[:, :3]])}
    assert len(dots.get_offsets()) == 4 and len(colours) == 2


def test_drawing_several_jets_says_how_to_draw_one(toy):
    for jets in (toy, toy[:0]):
        with pytest.raises(RinoError, match=r"choose a jet, for example jets\[0\].draw"):
            jets.draw([2])
    with pytest.raises(RinoError, match="R <= 1000"):
        toy[0].draw([2], radius=0)


# --- as scikit-learn takes them ---


def test_scikit_learn_splits_jets_into_jets():
    from sklearn.model_selection import KFold, train_test_split
    from sklearn.utils import resample, shuffle

    jets = rino.toy_jets(60, 3, top_fraction=0.5).with_value("number", np.arange(60))
    train, test, y_train, y_test = train_test_split(jets, jets.labels, test_size=0.25, random_state=1)
    wanted = train_test_split(np.arange(60), test_size=0.25, random_state=1)
    for part, y, numbers in ((train, y_train, wanted[0]), (test, y_test, wanted[1])):
        assert isinstance(part, Jets) and part == jets[numbers]
        np.testing.assert_array_equal(part.values["number"], numbers)
        np.testing.assert_array_equal(part.labels, y)
    train, _ = train_test_split(jets, stratify=jets.labels, random_state=1)
    assert isinstance(train, Jets) and len(train) == 45
    mixed, y = shuffle(jets, jets.labels, random_state=2)
    np.testing.assert_array_equal(mixed.labels, y)
    assert isinstance(resample(jets, n_samples=70, random_state=3), Jets)
    for fit, left_out in KFold(4).split(jets, jets.labels):
        assert len(jets[fit]) == 45 and len(jets[left_out]) == 15


@pytest.mark.parametrize(
    "index",
    [
        [3, 1, -1],
        (np.array([2, 2, 0]), ...),
        [True, False] * 5,
        np.arange(10) % 3 == 0,
        slice(8, 1, -3),
        slice(None, None, 2),
        (slice(2, 5), ...),
        [],
        np.array([4], dtype=np.uint8),
        range(3, 6),
    ],
    ids=repr,
)
def test_every_index_gives_the_jets_that_it_gives_of_an_array(index):
    jets = rino.toy_jets(10, 3).with_value("number", np.arange(10))
    plain = list(index) if isinstance(index, range) else index
    wanted = np.arange(10)[np.array(plain, dtype=int) if isinstance(plain, list) and not plain else plain]
    chosen = jets[index]
    assert isinstance(chosen, Jets) and chosen.shape == wanted.shape
    np.testing.assert_array_equal(chosen.values["number"], wanted)
    for one, j in zip(chosen, wanted, strict=True):
        np.testing.assert_array_equal(one.p4, jets.p4[jets.offsets[j] : jets.offsets[j + 1]])
