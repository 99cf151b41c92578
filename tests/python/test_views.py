"""pyrino.ViewGenerator against FastJet's own Python module, transforms, toy jets."""

from __future__ import annotations

import pickle
import sys
import threading
import time

import fastjet
import numpy as np
import pytest

import pyrino as rino
from pyrino import Jets, RinoError, ViewGenerator
from pyrino.views import Resolution, resolution

ALGORITHMS = {
    "kt": fastjet.kt_algorithm,
    "cambridge": fastjet.cambridge_algorithm,
    "antikt": fastjet.antikt_algorithm,
}


def sequence(jet: Jets, radius: float, algorithm: str) -> fastjet.ClusterSequence:
    particles = []
    for i, p in enumerate(jet.p4.tolist()):
        particle = fastjet.PseudoJet(*p)
        particle.set_user_index(i)
        particles.append(particle)
    definition = fastjet.JetDefinition(ALGORITHMS[algorithm], radius)
    cluster = fastjet.ClusterSequence(particles, definition)
    cluster.keep = (particles, definition)
    return cluster


def by_pt(jets: list[fastjet.PseudoJet]) -> list[fastjet.PseudoJet]:
    return sorted(jets, key=lambda p: -p.pt())


def momenta(jets: list[fastjet.PseudoJet]) -> np.ndarray:
    return np.array([[p.px(), p.py(), p.pz(), p.E()] for p in jets])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("radius", [0.3, 0.8])
def test_subjets_are_fastjets_exclusive_jets(toy, algorithm, radius):
    wanted = [1, 2, 5, 16]
    views = ViewGenerator(wanted, radius=radius, algorithm=algorithm)(toy[:15])
    compared = 0
    for j, jet in enumerate(toy[:15]):
        cluster = sequence(jet, radius, algorithm)
        for n, view in zip(wanted, views, strict=True):
            if algorithm == "cambridge" and n < len(cluster.inclusive_jets()):
                continue  # beam distances of Cambridge/Aachen are equal: any object may leave first
            expected = momenta(by_pt(list(cluster.exclusive_jets(min(n, jet.n_constituents)))))
            compared += 1
            np.testing.assert_allclose(view[j].p4, expected, rtol=1e-12, atol=1e-9)
    assert compared >= 20


@pytest.mark.parametrize("q", [1.0, 5.0, 30.0])
def test_kt_resolutions_are_fastjets_exclusive_jets_at_dcut(toy, q):
    view = ViewGenerator([f"kt:{q}"])(toy[:20])[0]
    for j, jet in enumerate(toy[:20]):
        expected = momenta(by_pt(list(sequence(jet, 0.8, "kt").exclusive_jets(q**2))))
        np.testing.assert_allclose(view[j].p4, expected, rtol=1e-12, atol=1e-9)


def test_fraction_resolutions_are_relative_to_the_jets_own_pt(toy):
    view = ViewGenerator(["fraction:0.02"])(toy)[0]
    for j, jet in enumerate(toy):
        assert view[j] == ViewGenerator([Resolution.kt(0.02 * jet.pt[0])])(jet)[0]


def test_all_gives_the_constituents_in_descending_pt(toy):
    view = ViewGenerator(["all"])(toy)[0]
    for j, jet in enumerate(toy):
        np.testing.assert_array_equal(view[j].p4, jet.p4[np.argsort(-jet.constituents.pt, kind="stable")])


def test_views_keep_labels_and_sum_extras(toy):
    jets = toy.with_extra("one", np.ones(toy.n_constituents))
    for view in ViewGenerator([4, "all"])(jets):
        np.testing.assert_array_equal(view.labels, toy.labels)
    whole = ViewGenerator([1], radius=1000.0)(jets)[0]
    np.testing.assert_array_equal(whole.extras["one"], toy.multiplicity)


def test_subjet_of_constituent_is_fastjets_history(toy):
    generator = ViewGenerator([6])
    view = generator(toy)[0]
    for j in range(10):
        index = generator.subjet_of_constituent(toy, j, 6)
        assert index.shape == (toy.multiplicity[j],) and index.dtype == np.int64
        cluster = sequence(toy[j], 0.8, "kt")  # FastJet's jets live as long as this
        subjets = by_pt(list(cluster.exclusive_jets(6)))
        for s, subjet in enumerate(subjets):
            assert sorted(p.user_index() for p in subjet.constituents()) == np.flatnonzero(index == s).tolist()
        sums = np.array([toy[j].p4[index == s].sum(axis=0) for s in range(len(view[j].p4))])
        np.testing.assert_allclose(sums, view[j].p4, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_backends_give_the_same_views_to_the_last_bit(algorithm):
    jets = rino.toy_jets(400, seed=3, top_fraction=0.3)
    jets = jets.with_extra("weight", np.linspace(-1.0, 1.0, jets.n_constituents))
    resolutions = [1, 2, 8, 64, "all", *(["kt:5", "fraction:0.01"] if algorithm == "kt" else [])]
    fast, reference, automatic = (
        ViewGenerator(resolutions, algorithm=algorithm, backend=backend) for backend in ("fast", "fastjet", "auto")
    )
    expected = reference(jets)
    assert fast(jets) == expected and automatic(jets) == expected
    for one, two in zip(fast(jets), expected, strict=True):
        np.testing.assert_array_equal(one.extras["weight"], two.extras["weight"])
    for j in range(0, 400, 40):
        np.testing.assert_array_equal(
            fast.subjet_of_constituent(jets, j, 5), reference.subjet_of_constituent(jets, j, 5)
        )


@pytest.mark.parametrize("threads", [2, 7])
def test_views_do_not_depend_on_threads(toy, threads):
    resolutions = [1, 8, "kt:5", "fraction:0.05", "all"]
    assert ViewGenerator(resolutions, threads=threads)(toy) == ViewGenerator(resolutions)(toy)


def test_views_of_no_jets_and_of_one_constituent():
    one = Jets([[3.0, 4, 0, 5]], [0, 1])
    assert all(view == one for view in ViewGenerator([1, 8, "kt:100", "all"])(one))
    assert [len(view) for view in ViewGenerator([1, "all"])(one[:0])] == [0, 0]


def test_clustering_releases_the_interpreter_lock():
    jets = rino.toy_jets(3000, seed=5)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(1e-3)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.perf_counter()
        ViewGenerator([8], backend="fastjet")(jets)  # the slow one, to have time to look
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    inside = [t for t in ticks if start + sys.getswitchinterval() < t < end - sys.getswitchinterval()]
    assert end - start > 0.02 and len(inside) >= 3


@pytest.mark.parametrize(
    ("point", "name"),
    [
        (8, "8"),
        (np.int32(3), "3"),
        ("8", "8"),
        ("kt:5", "kt:5"),
        ("kt:2.5", "kt:2.5"),
        ("fraction:0.05", "fraction:0.05"),
        ("all", "all"),
        (Resolution.subjets(4), "4"),
        (Resolution.kt(0.1), "kt:0.1"),
        (Resolution.fraction(0.5), "fraction:0.5"),
        (Resolution.particles(), "all"),
    ],
)
def test_resolutions_have_names_that_lead_back(point, name):
    made = resolution(point)
    assert str(made) == name and resolution(name) == made and hash(resolution(name)) == hash(made)
    assert pickle.loads(pickle.dumps(made)) == made and name in repr(made)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (0, "0 subjets"),
        (-1, "-1 subjets"),
        (2**40, "below 2\\^31"),
        (2**70, "below 2\\^63"),
        ("kt:0", "kt = 0 GeV"),
        ("kt:-1", "above 0"),
        ("kt:nan", "not known"),
        ("fraction:0", "above 0"),
        ("particles", "'particles' is not known"),
        ("8 ", "not known"),
        (8.0, "type float"),
        (True, "type bool"),
        (None, "type NoneType"),
    ],
)
def test_resolutions_that_are_none_are_named(point, words):
    with pytest.raises(RinoError, match=words):
        ViewGenerator([point])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resolutions": []}, "no resolutions"),
        ({"resolutions": 8}, "resolutions = 8: give a list"),
        ({"resolutions": "all"}, r"for example \['all'\]"),
        ({"radius": 0}, "radius is 0"),
        ({"radius": -0.8}, "radius is -0.8"),
        ({"radius": float("nan")}, "radius is nan"),
        ({"radius": "wide"}, "radius = 'wide'"),
        ({"algorithm": "kT"}, "algorithm is 'kT': choose one of 'kt', 'cambridge', 'antikt'"),
        ({"algorithm": 3}, "algorithm = 3"),
        ({"backend": "gpu"}, "backend is 'gpu': choose one of 'auto', 'fast', 'fastjet'"),
        ({"backend": 1}, "backend = 1"),
        ({"backend": "fast", "radius": 1e-4}, "radius is 0.0001 with the backend 'fast'"),
        ({"threads": 0}, "threads = 0"),
        ({"threads": 1.5}, "threads = 1.5"),
        ({"threads": 2**40}, "threads"),
        ({"resolutions": ["kt:5"], "algorithm": "antikt"}, "no meaning for the antikt algorithm"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(RinoError, match=words):
        ViewGenerator(**{"resolutions": [1], **arguments})


def test_calls_that_do_not_fit_are_named(toy):
    generator = ViewGenerator([2])
    with pytest.raises(RinoError, match="jets is of type ndarray"):
        generator(toy.p4)
    with pytest.raises(RinoError, match="jet 60 was asked for, of 60"):
        generator.subjet_of_constituent(toy, 60, 2)


def test_view_generators_compare_by_their_arguments_and_pickle(toy):
    one = ViewGenerator([1, "kt:5", "all"], radius=0.4, threads=2)
    assert one == ViewGenerator(iter(["1", "kt:5", "all"]), 0.4, "kt", 2, "auto")
    assert one != ViewGenerator([1, "kt:5", "all"], radius=0.4, threads=2, backend="fastjet")
    assert hash(one) == hash(pickle.loads(pickle.dumps(one))) and pickle.loads(pickle.dumps(one)) == one
    assert one != ViewGenerator([1, "kt:5", "all"], radius=0.5, threads=2) and one != 3
    assert eval(repr(one)) == one
    assert pickle.loads(pickle.dumps(one))(toy) == one(toy)


def test_a_boost_to_one_pt_keeps_mass_and_direction(toy):
    boosted = rino.boost_to_pt(toy, 750)
    np.testing.assert_allclose(boosted.pt, 750, rtol=1e-12)
    np.testing.assert_allclose(boosted.mass, toy.mass, rtol=1e-6)
    np.testing.assert_allclose(boosted.eta, toy.eta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(boosted.phi, toy.phi, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(boosted.labels, toy.labels)
    # Two-particle invariants do not change under any boost.
    for one, two in zip(toy[:5], boosted[:5], strict=True):
        metric = np.diag([-1.0, -1, -1, 1])
        np.testing.assert_allclose(two.p4 @ metric @ two.p4.T, one.p4 @ metric @ one.p4.T, rtol=1e-8, atol=1e-6)
    for bad in (0, -1.0, float("inf"), "a"):
        with pytest.raises(RinoError, match="reference"):
            rino.boost_to_pt(toy, bad)


def test_the_hardest_constituents_are_kept_in_descending_pt(toy):
    kept = rino.hardest(toy, 10)
    for one, two in zip(toy, kept, strict=True):
        np.testing.assert_array_equal(two.constituents.pt, np.sort(one.constituents.pt)[::-1][:10])
    with pytest.raises(RinoError, match="the 0 hardest"):
        rino.hardest(toy, 0)
    with pytest.raises(RinoError, match=r"n = 2.5"):
        rino.hardest(toy, 2.5)


def test_toy_jets_are_a_function_of_the_seed():
    few = rino.toy_jets(20, seed=7, top_fraction=0.5)
    assert few == rino.toy_jets(40, seed=7, top_fraction=0.5)[:20]
    assert few != rino.toy_jets(20, seed=8, top_fraction=0.5)
    assert set(few.labels.tolist()) == {0, 1} and not rino.toy_jets(5, 1).labels.any()
    assert (rino.toy_jets(50, 1, multiplicity_min=5, multiplicity_max=9).multiplicity <= 9).all()
    for arguments, words in [
        ({"n": -1}, "jets is -1"),
        ({"seed": -1}, "seed = -1"),
        ({"top_fraction": 2}, "top_fraction is 2"),
        ({"pt_min": "a"}, "pt_min = 'a'"),
    ]:
        with pytest.raises(RinoError, match=words):
            rino.toy_jets(**{"n": 1, "seed": 1, **arguments})
