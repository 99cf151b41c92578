"""The generated domains: detector, clustering, files, reproducibility, interruption and errors.

The generator itself runs in worker processes only. Units are shrunk to 20 jets, else the domains are the real ones.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow.parquet as pq
import pytest

from pyrino import RinoError
from pyrino.generate import DOMAINS, PROCESSES, Detector, Domain, generate
from pyrino.generate.clustering import FoundJets, find_jets, soft_drop_masses
from pyrino.generate.detector import detect
from pyrino.generate.events import EventBatch, SoftPool
from pyrino.generate.families import Families, _top_families, contains_family, families_of
from pyrino.generate.files import METADATA_KEY, configuration, unit_path, write_unit
from pyrino.generate.particles import Particles, cartesian, transverse
from pyrino.generate.truth import Record
from pyrino.generate.unit import Unit, UnitResult, jet_columns, pythia_seed
from pyrino.generate.workers import _Worker

UNIT = 20
FLAGS = ["isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon"]
LABELS = ["QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"]

# --- detector -------------------------------------------------------------------------------------------------------


def rays(
    pt: float | np.ndarray,
    eta: float | np.ndarray,
    phi: float | np.ndarray = 0.3,
    *,
    pdg: int,
    charge: int = 0,
    mass: float = 0.0,
    n: int = 1,
    event: int | np.ndarray = 0,
) -> Particles:
    """n particles of one kind."""
    pt, eta, phi, event = (np.broadcast_to(v, n).copy() for v in (pt, eta, phi, event))
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), np.hypot(pt * np.cosh(eta), mass)], axis=1)
    return Particles(event.astype(np.int64), p4, np.full(n, pdg, np.int32), np.full(n, charge, np.int32))


@pytest.mark.parametrize(
    ("pt", "eta", "expected"),
    [(0.8, 0.5, 0.70), (0.8, -2.0, 0.70), (5.0, 0.5, 0.95), (5.0, -2.0, 0.85), (0.49, 0.5, 0.0), (5.0, 2.51, 0.0)],
)
def test_tracks_are_found_with_the_stated_efficiency(pt: float, eta: float, expected: float) -> None:
    n = 40_000
    seen = detect(rays(pt, eta, pdg=321, charge=1, mass=0.494, n=n), Detector(), np.random.default_rng(1))
    sigma = np.sqrt(expected * (1.0 - expected) / n)
    assert abs(len(seen) / n - expected) <= 4.0 * sigma
    assert (seen.pdg == 211).all()  # a track is a charged hadron, which one is not known


@pytest.mark.parametrize(("pt", "expected"), [(2.0, 0.0100), (100.0, 0.01414), (500.0, 0.02)])
def test_track_momentum_is_smeared_by_one_to_two_percent(pt: float, expected: float) -> None:
    seen = detect(rays(pt, 1.1, 2.2, pdg=-211, charge=-1, n=40_000), Detector(), np.random.default_rng(2))
    measured, eta, phi = transverse(seen.p4)
    assert np.std(measured) / pt == pytest.approx(expected, rel=0.02)
    assert np.mean(measured) / pt == pytest.approx(1.0, abs=5e-4)
    assert eta == pytest.approx(1.1) and phi == pytest.approx(2.2)
    mass2 = seen.p4[:, 3] ** 2 - (seen.p4[:, :3] ** 2).sum(axis=1)
    assert mass2 == pytest.approx(0.13957**2, abs=1e-6 * (pt * np.cosh(1.1)) ** 2)


@pytest.mark.parametrize(("pdg", "sigma"), [(22, 0.07 * np.sqrt(80.0)), (2112, np.hypot(np.sqrt(80.0), 0.05 * 80.0))])
def test_calorimeter_energy_has_the_stated_mean_and_width(pdg: int, sigma: float) -> None:
    n = 40_000
    seen = detect(
        rays(80.0 / np.cosh(1.0), 1.0, pdg=pdg, n=n, event=np.arange(n)), Detector(), np.random.default_rng(3)
    )
    assert len(seen) == n
    assert np.mean(seen.p4[:, 3]) == pytest.approx(80.0, abs=5.0 * sigma / np.sqrt(n))
    assert np.std(seen.p4[:, 3]) == pytest.approx(sigma, rel=0.03)
    assert np.sqrt((seen.p4[:, :3] ** 2).sum(axis=1)) == pytest.approx(seen.p4[:, 3], rel=1e-12)
    assert (seen.pdg == (22 if pdg == 22 else 130)).all() and (seen.charge == 0).all()


@pytest.mark.parametrize(("pdg", "size", "turn"), [(22, 0.0174, 361), (130, 0.087, 72)])
def test_neutral_particles_are_placed_at_the_centre_of_their_cell(pdg: int, size: float, turn: int) -> None:
    rng = np.random.default_rng(4)
    n = 2000
    eta, phi = rng.uniform(-2.9, 2.9, n), rng.uniform(-np.pi, np.pi, n)
    one_each = rays(50.0, eta, phi, pdg=pdg, n=n, event=np.arange(n))
    seen = detect(one_each, Detector(), rng)
    _, cell_eta, cell_phi = transverse(seen.p4)
    assert np.array_equal(seen.event, np.arange(n))
    assert cell_eta == pytest.approx((np.floor(eta / size) + 0.5) * size, abs=1e-9)
    width = 2.0 * np.pi / turn
    assert np.abs(cell_phi - phi).max() <= width / 2.0 + 1e-9
    steps = (cell_phi + np.pi) / width - 0.5
    assert steps == pytest.approx(np.round(steps), abs=1e-6)
    beyond = detect(rays(50.0, 3.01, pdg=pdg), Detector(), rng)
    assert len(beyond) == 0


def test_energies_in_one_cell_of_one_event_are_summed() -> None:
    exact = Detector(photon_stochastic=0.0)
    photons = Particles.concatenate(
        [
            rays(10.0, 0.001, 0.001, pdg=22),
            rays(20.0, 0.010, 0.008, pdg=22),  # the same cell
            rays(30.0, 0.018, 0.001, pdg=22),  # the next one in eta
            rays(40.0, 0.001, np.pi - 0.001, pdg=22, event=1),  # the last cell of the turn
            rays(50.0, 0.001, np.pi - 0.016, pdg=22, event=1),
            rays(60.0, 0.001, 0.001, pdg=22, event=2),  # another event
        ]
    )
    seen = detect(photons, exact, np.random.default_rng(5))
    assert seen.event.tolist() == [0, 0, 1, 2]
    energy = photons.p4[:, 3]
    expected = [energy[0] + energy[1], energy[2], energy[3] + energy[4], energy[5]]
    assert seen.p4[:, 3] == pytest.approx(expected, rel=1e-12)


def test_soft_deposits_fall_below_the_thresholds() -> None:
    rng = np.random.default_rng(6)
    n = 5000
    events = np.arange(n)
    assert len(detect(rays(0.3, 0.0, pdg=22, n=n, event=events), Detector(), rng)) == 0  # four sigma below 0.5 GeV
    assert len(detect(rays(0.9, 0.0, pdg=22, n=n, event=events), Detector(), rng)) == n
    pairs = detect(rays(0.45, 0.001, pdg=22, n=2 * n, event=np.repeat(events, 2)), Detector(), rng)
    assert len(pairs) == n  # two photons of 0.45 GeV in a cell pass together
    hadrons = detect(rays(0.9, 0.0, pdg=2112, n=n, event=events), Detector(), rng)
    assert 0.2 * n < len(hadrons) < 0.6 * n
    assert hadrons.p4[:, 3].min() > 1.0


def test_leptons_keep_their_identity_and_neutrinos_are_not_seen() -> None:
    certain = Detector(efficiency=1.0)
    particles = Particles.concatenate(
        [
            rays(20.0, 0.2, pdg=11, charge=-1, mass=0.000511),
            rays(20.0, 0.4, pdg=-13, charge=1, mass=0.10566),
            *(rays(20.0, 0.6, pdg=sign * kind) for kind in (12, 14, 16) for sign in (1, -1)),
        ]
    )
    seen = detect(particles, certain, np.random.default_rng(7))
    assert seen.pdg.tolist() == [11, -13] and seen.charge.tolist() == [-1, 1]


# --- overlay, clustering, matching ----------------------------------------------------------------------------------


def test_overlay_adds_a_poisson_number_of_turned_soft_events() -> None:
    pool = SoftPool(
        Particles.concatenate([rays(1.0, 1.0, pdg=211, charge=1, n=3), rays(2.0, 0.5, pdg=22, n=1, event=1)]), 2
    )
    hard = rays(500.0, 0.0, 1.0, pdg=22, n=4000, event=np.arange(4000))
    both = pool.overlay(EventBatch(4000, hard), 2.0, np.random.default_rng(8))
    assert (np.diff(both.event) >= 0).all()
    pt, eta, phi = transverse(both.p4)
    assert (pt > 100.0).sum() == 4000
    events = np.bincount(both.event[np.isclose(pt, 2.0)], minlength=4000) + (
        np.bincount(both.event[np.isclose(pt, 1.0)], minlength=4000) // 3
    )
    assert events.mean() == pytest.approx(2.0, abs=4.0 * np.sqrt(2.0 / 4000))
    assert events.var() == pytest.approx(2.0, rel=0.15)
    soft = pt < 100.0
    assert set(np.round(eta[soft], 6)) == {-1.0, -0.5, 0.5, 1.0}
    assert np.histogram(phi[soft], bins=8, range=(-np.pi, np.pi))[0].min() > 0.8 * soft.sum() / 8


def test_only_the_two_hardest_jets_inside_the_window_are_kept() -> None:
    domain = dataclasses.replace(DOMAINS["simulation-wide"], pt_min=500.0, pt_max=1000.0, max_abs_eta=2.0)
    particles = Particles.concatenate(
        [
            rays(np.array([200.0, 400.0]), 0.0, np.array([0.1, -0.1]), pdg=211, charge=1, n=2),  # 600 GeV: third
            rays(700.0, 1.0, 2.0, pdg=22),
            rays(800.0, -1.0, -2.0, pdg=22),
            rays(900.0, 2.5, 0.0, pdg=22, event=1),  # out of acceptance
            rays(1200.0, 0.0, 1.0, pdg=22, event=1),  # above the window, and one of the two hardest
            rays(550.0, 0.0, -2.0, pdg=22, event=1),  # third
            rays(np.array([300.0, 250.0, 20.0]), 0.5, np.array([1.0, 1.2, 1.7]), pdg=211, charge=1, n=3, event=3),
            rays(30.0, 0.5, 2.5, pdg=22, event=3),  # not in the jet
        ]
    )
    jets = find_jets(particles, 4, domain)
    assert jets.event.tolist() == [0, 0, 3]
    pt, _, _ = transverse(jets.p4)
    assert pt[:2] == pytest.approx([800.0, 700.0])
    assert jets.counts.tolist() == [1, 1, 3]
    assert jets.constituents.tolist() == [3, 2, 7, 8, 9]
    assert jets.p4[2] == pytest.approx(particles.p4[7:10].sum(axis=0))


def test_events_without_jets_give_no_jets() -> None:
    none = find_jets(rays(5.0, 0.0, pdg=22, n=3, event=np.array([0, 2, 2])), 3, DOMAINS["simulation"])
    assert len(none.event) == len(none.p4) == len(none.constituents) == len(none.counts) == 0


def test_a_jet_is_a_top_when_the_top_and_its_three_quarks_are_within_the_radius() -> None:
    def family(*places: tuple[float, float]) -> np.ndarray:
        eta, phi = np.array(places).T
        return cartesian(np.full(4, 100.0), eta, phi, 0.0)

    jets = FoundJets(
        np.array([0, 0, 1]),
        cartesian(np.full(3, 600.0), np.array([0.0, 1.0, 0.0]), np.array([3.1, 0.0, 3.1]), 0.0),
        np.arange(3),
        np.ones(3, np.int64),
    )
    inside = family((0.1, 3.1), (0.5, -3.1), (-0.5, 3.0), (0.0, -2.5))  # across phi = pi
    quark_out = family((1.0, 0.0), (1.0, 0.1), (1.0, -0.1), (1.0, 0.81))
    top_out = family((0.0, 2.2), (0.0, 3.0), (0.1, 3.0), (0.0, 3.1))
    tops = Families(np.array([0, 0, 1]), np.stack([inside, quark_out, top_out]), np.array([6, -6, 6]))
    assert contains_family(jets, tops, 0.8).tolist() == [True, False, False]
    none = Families(np.zeros(0, np.int64), np.zeros((0, 4, 4)), np.zeros(0, np.int32))
    assert contains_family(jets, none, 0.8).tolist() == [False] * 3


def test_decay_products_of_the_top_are_followed_through_copies() -> None:
    #       0  1   2   3   4   5   6   7   8   9
    pdg = np.array([0, 6, 21, 6, 5, 24, 24, 2, -1, 21], np.int32)
    daughters = np.array([[0, 0], [3, 2], [0, 0], [5, 4], [9, 9], [6, 6], [7, 8], [0, 0], [0, 0], [0, 0]])
    assert _top_families(pdg, daughters).tolist() == [[3, 4, 7, 8]]


@pytest.mark.parametrize("products", [0, 2])
def test_a_parton_has_itself_and_a_boson_its_two_quarks_within_the_radius(products: int) -> None:
    jets = FoundJets(
        np.zeros(1, np.int64), cartesian(np.array([600.0]), np.ones(1), np.ones(1), 0.0), np.arange(1), None
    )
    for far, expected in ((0.79, True), (0.81, False)):
        for one in range(products + 1):  # whichever it is that lies far away
            eta = np.where(np.arange(products + 1) == one, 1.0 + far, 0.9)
            p4 = cartesian(np.full(products + 1, 50.0), eta, np.ones(products + 1), 0.0)
            family = Families(np.zeros(1, np.int64), p4[None], np.array([21], np.int32))
            assert contains_family(jets, family, 0.8).tolist() == [expected]


def test_families_are_what_the_process_is_named_after() -> None:
    # Rows of an event: collision, beams, two incoming partons, the hard process s c, g -> u ubar of the shower; and of
    # another: W+ W- with a copy each, and what the copies decay to. Z and gluon stand in for others where they are.
    first = [
        (90, -11),
        (2212, -12),
        (2212, -12),
        (3, -21),
        (4, -21),
        (-3, -23),
        (4, -23),
        (21, -51),
        (2, -51),
        (-2, -51),
    ]
    second = [(90, -11), (2212, -12), (2212, -12), (2, -21), (-2, -21), (24, -22), (-24, -22), (24, -44), (-24, -44)]
    second += [(2, -23), (-1, -23), (-4, -23), (3, -23)]
    pdg, status = np.array(first + second, np.int32).T
    daughters = np.repeat([[0, 0], [10, 10]], [10, 13], axis=0)
    daughters[[7, 15, 16, 17, 18]] = [[8, 9], [17, 17], [18, 18], [19, 20], [21, 22]]
    mother = np.zeros(23, np.int32)
    mother[[5, 6, 15, 16, 19, 20, 21, 22]] = [3, 3, 3, 3, 7, 7, 8, 8]
    p4 = np.arange(23.0)[:, None] * np.ones(4)  # tells which row it is

    def found(process: str | None, **codes: np.ndarray) -> list[list[float]] | None:
        event = np.repeat([0, 1], [10, 13])
        record = Record(event, codes.get("pdg", pdg), status, p4, np.array([0, 10]), mother, daughters)
        families = families_of(record, process)
        if families is None:
            return None
        rows = families.p4[:, :, 0].astype(int)
        assert families.event.tolist() == event[rows[:, 0]].tolist()
        assert families.pdg.tolist() == record.pdg[rows[:, 0]].tolist()
        return rows.tolist()

    assert found("quark") == [[5]]
    assert found("gluon") == [] and found("gluon", pdg=np.where(pdg == 4, 21, pdg)) == [[6]]
    assert found("w") == [[17, 19, 20], [18, 21, 22]]
    assert found("z") == [] and found("z", pdg=np.where(np.abs(pdg) == 24, 23, pdg)) == found("w")
    assert found("top") == [] and found("qcd") is None and found(None) is None


def test_soft_drop_removes_soft_wide_angle_radiation() -> None:
    prongs = cartesian(np.array([300.0, 200.0]), np.array([0.0, 0.2]), np.array([0.0, 0.1]), 0.0)
    two_prong_mass = np.sqrt(2.0 * 300.0 * 200.0 * (np.cosh(0.2) - np.cos(0.1)))
    soft = cartesian(np.array([20.0]), np.array([0.6]), np.array([-0.5]), 0.0)  # 4 % of the pT, farthest away
    hard = cartesian(np.array([100.0]), np.array([0.6]), np.array([-0.5]), 0.0)  # 17 %
    p4 = np.concatenate([prongs, prongs, soft, prongs, hard, soft])
    masses = soft_drop_masses(p4, np.array([2, 3, 3, 1]), 0.1)
    three = np.concatenate([prongs, hard]).sum(axis=0)
    whole = np.sqrt(three[3] ** 2 - (three[:3] ** 2).sum())
    assert masses == pytest.approx([two_prong_mass, two_prong_mass, whole, 0.0], rel=1e-9, abs=1e-3)


# --- columns --------------------------------------------------------------------------------------------------------


def some_jets(domain: Domain, n: int = 5, constituents: int = 40) -> tuple[np.ndarray, np.ndarray, Particles]:
    """Jets of known constituents: pT falls from 40 GeV in steps of 1 GeV."""
    rng = np.random.default_rng(9)
    pt = np.tile(40.0 - np.arange(constituents), n)
    axis = np.repeat(rng.uniform(-1.9, 1.9, n), constituents), np.repeat(rng.uniform(-np.pi, np.pi, n), constituents)
    eta, phi = (a + rng.normal(0.0, 0.1, len(pt)) for a in axis)
    parts = Particles(
        np.repeat(np.arange(n), constituents),
        cartesian(pt, eta, phi, 0.13957),
        np.resize(np.array([211, -321, 22, 130, 11, -13], np.int32), len(pt)),
        np.resize(np.array([1, -1, 0, 0, -1, 1], np.int32), len(pt)),
    )
    counts = np.full(n, constituents)
    return parts.p4.reshape(n, constituents, 4).sum(axis=1), counts, parts


def some_result(domain: Domain) -> UnitResult:
    return UnitResult(*jet_columns(*some_jets(domain), domain), {"pythia": "none"})


def test_truncation_keeps_the_hardest_constituents_and_the_axis_of_the_whole_jet() -> None:
    domain = DOMAINS["simulation"]
    p4, counts, parts = some_jets(domain)
    kept, jets, columns = jet_columns(p4, counts, parts, domain)
    assert kept.tolist() == [30] * 5 and jets["jet_nparticles"].tolist() == [30] * 5
    pt = np.hypot(columns["part_px"], columns["part_py"])
    assert pt == pytest.approx(np.tile(40.0 - np.arange(30), 5), rel=1e-6)
    p2 = sum(columns[f"part_p{axis}"].astype(np.float64) ** 2 for axis in "xyz")
    assert columns["part_energy"] == pytest.approx(np.sqrt(p2), rel=1.2e-7)
    assert (columns["part_energy"].astype(np.float64) ** 2 >= p2).all()
    jet_pt, jet_eta, jet_phi = transverse(p4)
    assert jets["jet_pt"] == pytest.approx(jet_pt, rel=1e-6)
    _, eta, phi = transverse(parts.p4[np.tile(np.arange(40) < 30, 5)])
    jet = np.repeat(np.arange(5), 30)
    assert columns["part_deta"] == pytest.approx((eta - jet_eta[jet]) * np.sign(jet_eta[jet]), abs=1e-6)
    dphi = np.angle(np.exp(1j * (phi - jet_phi[jet])))
    assert columns["part_dphi"] == pytest.approx(dphi, abs=1e-6)


def test_flags_follow_the_particle_codes() -> None:
    _, _, columns = jet_columns(*some_jets(DOMAINS["collisions"], 1, 6), DOMAINS["collisions"])
    flags = np.stack([columns[f"part_{flag}"] for flag in FLAGS])
    assert flags.astype(int).tolist() == [
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert columns["part_charge"].tolist() == [1, -1, 0, 0, -1, 1]


def test_deta_has_the_sign_convention_of_jetclass(jetclass2_file: Path) -> None:
    """The real file multiplies by the sign of the jet's eta, as `test_truncation...` demands of ours."""
    table = pq.read_table(jetclass2_file, columns=["part_px", "part_py", "part_pz", "part_deta", "jet_eta"])
    px, py, pz, deta = (table[f"part_{name}"].combine_chunks() for name in ("px", "py", "pz", "deta"))
    jet_eta = np.repeat(table["jet_eta"].to_numpy(), np.diff(px.offsets.to_numpy()))
    eta = np.arcsinh(pz.flatten().to_numpy() / np.hypot(px.flatten().to_numpy(), py.flatten().to_numpy()))
    assert deta.flatten().to_numpy() == pytest.approx((eta - jet_eta) * np.sign(jet_eta), abs=1e-5)


# --- whole runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def small_units() -> Iterator[None]:
    """The real domains with units of 20 jets and a pool of 30 soft events."""
    with pytest.MonkeyPatch.context() as patch:
        for name, domain in list(DOMAINS.items()):
            patch.setitem(DOMAINS, name, dataclasses.replace(domain, unit_jets=UNIT, overlay_pool=30))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small_units: None) -> dict[tuple[str, str], list[Path]]:
    """Two units of every domain and process, made with one worker."""
    out = tmp_path_factory.mktemp("runs")
    return {
        (domain, process): generate(domain, process, 2 * UNIT, 3, out, workers=1, progress=False)
        for domain in DOMAINS
        for process in ("qcd", "top")
    }


def flat(paths: list[Path], *columns: str) -> list[np.ndarray]:
    """Columns of files as flat arrays, and behind them the number of constituents per jet."""
    table = pq.ParquetDataset(paths).read()
    out = []
    for name in columns:
        column = table[name].combine_chunks()
        values = column.flatten() if name.startswith("part_") else column
        out.append(values.to_numpy(zero_copy_only=False))
    counts = np.diff(table["part_px"].combine_chunks().offsets.to_numpy())
    return [*out, counts]


def test_files_have_jetclass_columns(runs: dict[tuple[str, str], list[Path]]) -> None:
    for (domain, process), paths in runs.items():
        assert [path.name for path in paths] == [f"{domain}_{process}_s3_00{i}.parquet" for i in (0, 1)]
        for path in paths:
            schema = pq.read_schema(path)
            kinds = {field.name: str(field.type) for field in schema}
            momenta = dict.fromkeys(["px", "py", "pz", "energy", "deta", "dphi"], "float")
            parts = {**momenta, "charge": "int32", **dict.fromkeys(FLAGS, "bool")}
            expected = {f"part_{name}": kind for name, kind in parts.items()}
            read = {name: kind.split(": ")[1].rstrip(">") for name, kind in kinds.items() if name.startswith("part_")}
            assert read == expected
            scalars = dict.fromkeys(["jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_sdmass"], "float")
            scalars |= {"jet_nparticles": "int32"} | {f"label_{label}": "bool" for label in LABELS}
            assert {name: kind for name, kind in kinds.items() if not name.startswith("part_")} == scalars
            table = pq.read_table(path)
            assert table.num_rows == UNIT
            set_labels = [label for label in LABELS if any(table[f"label_{label}"].to_pylist())]
            assert set_labels == ["QCD" if process == "qcd" else "Tbqq"]
            assert all(table[f"label_{set_labels[0]}"].to_pylist())


def test_metadata_tells_how_the_jets_were_made(runs: dict[tuple[str, str], list[Path]]) -> None:
    document = json.loads(pq.read_metadata(runs["collisions", "top"][1]).metadata[METADATA_KEY])
    assert document["seed"] == 3
    assert document["versions"]["pythia"].startswith("8.") and document["versions"]["fastjet"]
    found = document["configuration"]
    assert (found["process"], found["unit"], found["domain"]["tune"]) == ("top", 1, 14)
    assert found["domain"]["detector"]["hadron_cell"] == 0.087


def test_momenta_are_physical_and_ordered(runs: dict[tuple[str, str], list[Path]]) -> None:
    for (domain, _), paths in runs.items():
        names = ["part_px", "part_py", "part_pz", "part_energy", "jet_nparticles"]
        px, py, pz, energy, number, counts = flat(paths, *names)
        assert np.array_equal(number, counts) and counts.min() >= 1
        p = np.sqrt(px.astype(float) ** 2 + py.astype(float) ** 2 + pz.astype(float) ** 2)
        assert np.isfinite(energy).all() and (energy >= p).all()
        if DOMAINS[domain].massless:
            assert energy == pytest.approx(p, rel=2e-7)
        pt = np.hypot(px, py)
        same_jet = np.diff(np.repeat(np.arange(len(counts)), counts)) == 0
        assert (np.diff(pt)[same_jet] <= 1e-6 * pt[:-1][same_jet]).all()


def test_jets_lie_in_the_window(runs: dict[tuple[str, str], list[Path]]) -> None:
    for (domain, _), paths in runs.items():
        jet_pt, jet_eta, px, py, pz, energy, jet_energy, counts = flat(
            paths, "jet_pt", "jet_eta", "part_px", "part_py", "part_pz", "part_energy", "jet_energy"
        )
        low, high = (900.0, 1100.0) if domain == "simulation" else (500.0, 1000.0)
        assert jet_pt.min() >= low and jet_pt.max() <= high and np.abs(jet_eta).max() <= 2.0
        assert len(np.unique(jet_pt)) == 2 * UNIT  # no jet twice
        starts = np.cumsum(counts) - counts
        total = [np.add.reduceat(v.astype(float), starts) for v in (px, py, pz, energy)]
        if domain == "collisions":  # nothing is cut away: the constituents make up the jet
            assert np.hypot(total[0], total[1]) == pytest.approx(jet_pt, rel=1e-5)
            assert total[3] == pytest.approx(jet_energy, rel=1e-5)
            assert np.abs(np.arcsinh(pz / np.hypot(px, py))).max() < 3.0
        else:
            assert counts.max() <= 30 and (counts == 30).any()
            assert (np.hypot(total[0], total[1]) < jet_pt * (1.0 + 1e-5)).all()


def test_detector_sees_tracks_and_massless_cells(runs: dict[tuple[str, str], list[Path]]) -> None:
    names = ["part_px", "part_py", "part_pz", "part_energy", "part_charge", "part_isPhoton", "part_isNeutralHadron"]
    px, py, pz, energy, charge, photon, hadron, counts = flat(runs["collisions", "qcd"], *names)
    neutral = charge == 0
    assert np.array_equal(neutral, photon | hadron) and photon.any() and hadron.any()
    p = np.sqrt(px.astype(float) ** 2 + py.astype(float) ** 2 + pz.astype(float) ** 2)
    assert energy[neutral] == pytest.approx(p[neutral], rel=2e-7)
    assert np.hypot(px, py)[~neutral].min() > 0.45
    assert energy[photon].min() > 0.5 and energy[hadron].min() > 1.0
    assert 25 < counts.mean() < 75  # JetClass: about 45


def test_top_jets_have_the_mass_of_the_top(runs: dict[tuple[str, str], list[Path]]) -> None:
    for domain in DOMAINS:
        groomed = flat(runs[domain, "top"], "jet_sdmass")[0]
        near = np.abs(groomed - 173.0) < 20.0
        assert near.mean() > 0.5
        assert np.median(groomed[near]) == pytest.approx(173.0, abs=8.0)
        assert np.median(flat(runs[domain, "qcd"], "jet_sdmass")[0]) < 100.0


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory, small_units: None) -> dict[str, list[Path]]:
    """Four units of every process that `runs` lacks: bosons without a detector, partons with all constituents."""
    out = tmp_path_factory.mktemp("more")
    domains = {"w": "simulation-wide", "z": "simulation-wide", "quark": "collisions", "gluon": "collisions"}
    return {
        process: generate(domain, process, 4 * UNIT, 3, out, workers=1, progress=False)
        for process, domain in domains.items()
    }


@pytest.mark.parametrize(("process", "label", "mass"), [("w", "Wqq", 80.4), ("z", "Zqq", 91.2)])
def test_jets_of_bosons_have_the_mass_of_the_boson(
    more: dict[str, list[Path]], process: str, label: str, mass: float
) -> None:
    set_label, pt, eta, energy, _ = flat(more[process], f"label_{label}", "jet_pt", "jet_eta", "jet_energy")
    assert set_label.all()
    found = np.sort(np.sqrt(energy.astype(float) ** 2 - (pt.astype(float) * np.cosh(eta)) ** 2))
    number = round(0.68 * len(found))
    first = (found[number - 1 :] - found[: len(found) - number + 1]).argmin()
    peak = found[first : first + number]  # the narrowest interval with 68% of the jets
    assert np.ptp(peak) < 15.0
    assert np.median(peak) == pytest.approx(mass, abs=3.0)


def test_jets_of_gluons_have_more_constituents_than_those_of_quarks(more: dict[str, list[Path]]) -> None:
    """By the ratio of colour charges, 9/4, with higher orders: a factor of about 1.5 at these energies."""
    (quark, *_, of_quark), (gluon, *_, of_gluon) = (flat(more[p], "label_QCD") for p in ("quark", "gluon"))
    assert quark.all() and gluon.all()
    assert 1.25 < of_gluon.mean() / of_quark.mean() < 1.8


def test_two_workers_make_the_same_files_as_one(runs: dict[tuple[str, str], list[Path]], tmp_path: Path) -> None:
    for path in generate("collisions", "top", 2 * UNIT, 3, tmp_path, workers=2, progress=False):
        assert path.read_bytes() == (runs["collisions", "top"][0].parent / path.name).read_bytes()


def test_the_same_seed_makes_the_same_jets_of_bosons_again(more: dict[str, list[Path]], tmp_path: Path) -> None:
    for path in generate("simulation-wide", "z", 2 * UNIT, 3, tmp_path, workers=2, progress=False):
        assert path.read_bytes() == (more["z"][0].parent / path.name).read_bytes()


def test_a_second_call_generates_nothing(
    runs: dict[tuple[str, str], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = runs["simulation", "qcd"]
    before = [path.stat().st_mtime_ns for path in paths]
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a worker was started"))
    assert generate("simulation", "qcd", 2 * UNIT, 3, paths[0].parent, progress=False) == paths
    assert generate("simulation", "qcd", UNIT - 3, 3, paths[0].parent, progress=False) == paths[:1]
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_a_smaller_request_is_the_beginning_of_a_larger_one(
    runs: dict[tuple[str, str], list[Path]], tmp_path: Path
) -> None:
    whole = runs["simulation-wide", "qcd"]
    part = generate("simulation-wide", "qcd", UNIT + 7, 3, tmp_path, workers=1, progress=False)
    assert pq.read_table(part[0]).equals(pq.read_table(whole[0]))
    assert pq.read_table(part[1]).equals(pq.read_table(whole[1]).slice(0, 7))
    time_of_first = part[0].stat().st_mtime_ns
    grown = generate("simulation-wide", "qcd", 2 * UNIT, 3, tmp_path, workers=1, progress=False)
    assert grown[1].read_bytes() == whole[1].read_bytes()
    assert grown[0].stat().st_mtime_ns == time_of_first


def test_another_seed_makes_other_jets_and_the_terminal_stays_quiet(
    runs: dict[tuple[str, str], list[Path]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (path,) = generate("simulation", "qcd", UNIT, 4, tmp_path / "new" / "folder", workers=1, progress=True)
    ours, theirs = (flat([p], "jet_pt")[0] for p in (path, runs["simulation", "qcd"][0]))
    assert not np.isin(ours, theirs).any()
    captured = capfd.readouterr()
    assert captured.out == ""  # no banner of Pythia or FastJet
    assert "simulation qcd" in captured.err and "20/20" in captured.err


def test_multiparton_interactions_are_a_switch(tmp_path: Path) -> None:
    (path,) = generate("collisions", "qcd", 5, 3, tmp_path, workers=1, progress=False, mpi=True)
    domain = json.loads(pq.read_metadata(path).metadata[METADATA_KEY])["configuration"]["domain"]
    assert domain["multiparton_interactions"] is True and domain["overlay_mean"] == 0.0
    with pytest.raises(RinoError, match=r"collisions_qcd_s3_000.parquet .*overlay_mean: 0.0 in the file, 2.0 now"):
        generate("collisions", "qcd", 5, 3, tmp_path, progress=False)


def test_every_unit_has_its_own_seed() -> None:
    seeds = [
        pythia_seed("collisions", process, seed, i) for process in PROCESSES for seed in (0, 1) for i in range(500)
    ]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 1 and max(seeds) <= 900_000_000


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("collision", "qcd", 5, 1), r"unknown domain 'collision': did you mean 'collisions'\?"),
        (
            ("simulation", "tops", 5, 1),
            r"unknown process 'tops': did you mean 'top'\? known are qcd, top, quark, gluon, w, z",
        ),
        (("simulation", 7, 5, 1), r"process = 7: give text"),
        (("simulation", "qcd", 0, 1), r"jets = 0: give a whole number >= 1"),
        (("simulation", "qcd", 2.5, 1), r"jets = 2.5: give a whole number"),
        (("simulation", "qcd", 5, -1), r"seed = -1: give a whole number >= 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple, message: str, tmp_path: Path) -> None:
    with pytest.raises(RinoError, match=message):
        generate(*arguments, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RinoError, match="workers = 0"):
        generate("simulation", "qcd", 5, 1, tmp_path, workers=0)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(RinoError, match=r"cannot write to the output folder .*taken"):
            generate("simulation", "qcd", 5, 1, out)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_missing_pythia_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pythia8mc" else found(name))
    with pytest.raises(RinoError, match=r"pythia8mc: pip install pyrino\[generate\]"):
        generate("simulation", "qcd", 5, 1, tmp_path)


def test_a_foreign_or_truncated_file_under_the_name_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "simulation_qcd_s1_000.parquet"
    table = pq.read_table
    for content in (b"PAR1 truncated", b""):
        path.write_bytes(content)
        with pytest.raises(RinoError, match=r"simulation_qcd_s1_000.parquet exists .*delete it"):
            generate("simulation", "qcd", 5, 1, tmp_path)
        assert path.read_bytes() == content
    import pyarrow as pa

    pq.write_table(pa.table({"x": [1.0]}), path)
    with pytest.raises(RinoError, match=r"simulation_qcd_s1_000.parquet exists .*delete it"):
        generate("simulation", "qcd", 5, 1, tmp_path)
    assert table(path).column_names == ["x"]


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(DOMAINS["simulation"], "qcd", 1, 0, 5)
    path = unit_path(tmp_path, unit)

    def full(table: object, where: BinaryIO, **_: object) -> None:
        where.write(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(RinoError, match=r"simulation_qcd_s1_000.parquet cannot be written: No space left"):
            write_unit(path, unit, some_result(unit.domain), configuration(unit, "8"))
    assert not list(tmp_path.iterdir())
    write_unit(path, unit, some_result(unit.domain), configuration(unit, "8"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_worker_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = _Worker.start

    def start_and_kill(worker: _Worker, unit: Unit) -> None:
        start(worker, unit)
        worker.process.kill()

    monkeypatch.setattr(_Worker, "start", start_and_kill)
    with pytest.raises(RinoError, match=r"the worker for unit 0 ended \(exit status -9\)"):
        generate("simulation", "qcd", 5, 1, tmp_path, workers=1, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_unit_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS, "cold", dataclasses.replace(DOMAINS["simulation"], name="cold", com_energy=1.0))
    with pytest.raises(RinoError, match=r"unit 0 of cold/qcd, seed 1, failed: .*could not be initialised"):
        generate("cold", "qcd", 5, 1, tmp_path, workers=1, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_interruption_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[_Worker] = []
    start = _Worker.start

    def interrupted(worker: _Worker, unit: Unit) -> None:
        start(worker, unit)
        started.append(worker)
        if len(started) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Worker, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate("simulation", "qcd", 2 * UNIT, 1, tmp_path, workers=2, progress=False)
    assert [worker.process.poll() for worker in started] == [-signal.SIGTERM] * 2
    assert not list(tmp_path.iterdir())


def test_control_c_keeps_finished_files_and_the_next_call_goes_on(
    runs: dict[tuple[str, str], list[Path]], tmp_path: Path
) -> None:
    """A plain script without a main guard, as users write it."""
    out = tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(
        # A parent that ignores SIGINT hands that down; a user's shell does not.
        "import dataclasses, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pyrino.generate import DOMAINS, generate\n"
        f"small = dataclasses.replace(DOMAINS['simulation'], unit_jets={UNIT}, overlay_pool=30)\n"
        "DOMAINS['simulation'] = small\n"
        f"generate('simulation', 'qcd', 2000 * {UNIT}, 3, {str(out)!r}, workers=1, progress=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
    )
    deadline = time.monotonic() + 120.0
    while not list(out.glob("*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # nothing once it has ended
    assert "KeyboardInterrupt" in errors
    files = sorted(path.name for path in out.iterdir())
    assert files and files == [f"simulation_qcd_s3_{i:03d}.parquet" for i in range(len(files))]
    for path in out.iterdir():
        assert pq.read_table(path).num_rows == UNIT
    first = out / files[0]
    assert first.read_bytes() == runs["simulation", "qcd"][0].read_bytes()
    before = first.stat().st_mtime_ns
    resumed = generate("simulation", "qcd", 2 * UNIT, 3, out, workers=1, progress=False)
    assert resumed[1].read_bytes() == runs["simulation", "qcd"][1].read_bytes()
    assert first.stat().st_mtime_ns == before
