"""One unit of work: a fixed number of jets from their own random seeds. What all kinds of units are made with."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clustering import FoundJets, find_jets, soft_drop_masses
from .detector import detect
from .domains import Domain
from .events import EventBatch, SoftPool
from .families import contains_family
from .particles import Particles, transverse

__all__ = [
    "Unit",
    "UnitResult",
    "digest",
    "jet_columns",
    "observe",
    "pythia_seed",
    "soft_pool",
    "truncated",
    "versions",
]

_PYTHIA_SEEDS = 900_000_000  # Pythia takes 1 ... 900,000,000


@dataclass(frozen=True)
class Unit:
    """What a worker is asked for: the first `jets` jets of unit number `index`.

    `kind` is "plain": JetClass's main columns; "detailed": the same jets with all that the layouts of public data sets
    have besides; or "resimulated": jets that were showered several times (see `resimulation`).
    """

    domain: Domain
    process: str
    seed: int
    index: int
    jets: int
    kind: str = "plain"


@dataclass(frozen=True)
class UnitResult:
    """The columns of one file.

    Attributes
    ----------
    counts : ndarray of int32, shape (j,)
        Constituents per jet.
    jets : dict of ndarray, each of shape (j,)
        Columns with one value per jet.
    constituents : dict of ndarray, each of shape (sum of counts,)
        Columns with one value per constituent.
    versions : dict
        Of the programs that made them.
    lists : list of (counts, columns)
        Further columns with several values per jet, for example generated particles: their number in each jet (j,), and
        the columns.
    """

    counts: NDArray[np.int32]
    jets: dict[str, NDArray[Any]]
    constituents: dict[str, NDArray[Any]]
    versions: dict[str, str]
    lists: list[tuple[NDArray[np.int32], dict[str, NDArray[Any]]]] = field(default_factory=list)


def digest(*names: object) -> int:
    """A number of 128 bits that names alone decide: the seed of a stream of random numbers."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:16], "little")


def pythia_seed(domain: str, process: str, seed: int, index: int) -> int:
    """Pythia's seed of a unit; different for all units of one (domain, process, seed).

    Units count upwards from a hashed start instead of being hashed one by one: among 40,000 hashed numbers
    below 9e8 two equal ones, i.e. two equal units, would be more likely than not.
    """
    return 1 + (digest("pythia", domain, process, seed) + index) % _PYTHIA_SEEDS


@lru_cache(maxsize=1)
def soft_pool(domain: Domain, process: str, seed: int, vertices: bool) -> SoftPool:
    """The soft events laid over those of (domain, process, seed)."""
    # Kept between the units of one worker; every worker makes the same pool from the same seed.
    return SoftPool.generate(domain, 1 + digest("pool", domain.name, process, seed) % _PYTHIA_SEEDS, vertices=vertices)


def observe(
    batch: EventBatch, domain: Domain, pool: SoftPool | None, rng: np.random.Generator
) -> tuple[Particles, Particles, FoundJets]:
    """Jets of a batch of events as the domain sees them.

    Returns
    -------
    generated, particles : Particles
        What there is, and what is seen of it; ordered by event.
    jets : FoundJets
        The domain's jets of `particles`; each contains one of the batch's families, if it has any.
    """
    generated = batch.particles if pool is None else pool.overlay(batch, domain.overlay_mean, rng)
    particles = generated
    if domain.detector is not None:
        particles = detect(particles, domain.detector, rng)
        particles = particles[np.argsort(particles.event, kind="stable")]
    jets = find_jets(particles, batch.size, domain)
    if batch.families is not None:
        jets = jets.select(contains_family(jets, batch.families, domain.matching_radius))
    return generated, particles, jets


def truncated(
    counts: NDArray[np.int64], constituents: Particles, largest: int | None
) -> tuple[Particles, NDArray[np.int64]]:
    """The first `largest` constituents of each jet, all where it is None, and their numbers."""
    if largest is None:
        return constituents, counts
    rank = np.arange(len(constituents)) - np.repeat(np.cumsum(counts) - counts, counts)
    return constituents[rank < largest], np.minimum(counts, largest)


def jet_columns(
    p4: NDArray[np.float64], counts: NDArray[np.int64], constituents: Particles, domain: Domain
) -> tuple[NDArray[np.int32], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """JetClass's columns of jets.

    `jet_pt`, `jet_eta`, `jet_phi`, `jet_energy` and `jet_sdmass` are those of the jet as clustered;
    `jet_nparticles` and the columns of the constituents are those after the domain's truncation.

    Parameters
    ----------
    p4 : ndarray, shape (j, 4)
        Jets in GeV.
    counts : ndarray, shape (j,)
        Constituents per jet.
    constituents : Particles
        Jet after jet, by falling pT.
    domain : Domain
        `max_constituents`, `massless`, `soft_drop_z`.

    Returns
    -------
    counts : ndarray of int32, shape (j,)
    jets, constituents : dict of ndarray
    """
    pt, eta, phi = transverse(p4)
    soft_drop = soft_drop_masses(constituents.p4, counts, domain.soft_drop_z)
    constituents, counts = truncated(counts, constituents, domain.max_constituents)

    momentum = constituents.p4[:, :3].astype(np.float32)
    absolute = np.sqrt((momentum.astype(np.float64) ** 2).sum(axis=1))
    energy = absolute if domain.massless else np.maximum(constituents.p4[:, 3], absolute)
    energy32 = energy.astype(np.float32)
    # Rounding to float32 must not leave E < |p|.
    energy32 = np.where(energy32 < absolute, np.nextafter(energy32, np.float32(np.inf)), energy32)

    _, part_eta, part_phi = transverse(constituents.p4)
    jet = np.repeat(np.arange(len(counts)), counts)
    # JetClass mirrors every jet to positive pseudorapidity in part_deta.
    deta = (part_eta - eta[jet]) * np.where(eta[jet] < 0.0, -1.0, 1.0)
    dphi = -(np.remainder(phi[jet] - part_phi + np.pi, 2.0 * np.pi) - np.pi)

    kind = np.abs(constituents.pdg)
    electron, muon, photon = kind == 11, kind == 13, kind == 22
    charged = constituents.charge != 0
    jets = {
        "jet_pt": pt.astype(np.float32),
        "jet_eta": eta.astype(np.float32),
        "jet_phi": phi.astype(np.float32),
        "jet_energy": p4[:, 3].astype(np.float32),
        "jet_nparticles": counts.astype(np.int32),
        "jet_sdmass": soft_drop.astype(np.float32),
    }
    parts = {
        "part_px": momentum[:, 0],
        "part_py": momentum[:, 1],
        "part_pz": momentum[:, 2],
        "part_energy": energy32,
        "part_deta": deta.astype(np.float32),
        "part_dphi": dphi.astype(np.float32),
        "part_charge": constituents.charge,
        "part_isChargedHadron": charged & ~electron & ~muon,
        "part_isNeutralHadron": ~charged & ~photon,
        "part_isPhoton": photon,
        "part_isElectron": electron,
        "part_isMuon": muon,
    }
    return counts.astype(np.int32), jets, parts


def versions(pythia: str) -> dict[str, str]:
    """Of the programs that make jets; `pythia` is Pythia's own."""
    from importlib.metadata import version

    return {
        "pythia": pythia,
        "pythia8mc": version("pythia8mc"),
        "fastjet": version("fastjet"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
