"""Events from Pythia 8: configuration, batches as NumPy arrays, and the overlay of soft events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .domains import Domain
from .families import Families, families_of
from .particles import Particles, transverse
from .truth import Record, Truth, truth_of

__all__ = ["EventBatch", "EventSource", "SoftPool", "pythia_settings"]

# Both bosons of an event decay to quarks, so that every top, W or Z is a hadronic one.
_HADRONIC_W = ["24:onMode = off", "24:onIfAny = 1 2 3 4 5"]
_HADRONIC_Z = ["23:onMode = off", "23:onIfAny = 1 2 3 4 5"]
# Processes with the wanted particle on both sides: in the domains' windows 0.5 to 0.7 of them an event.
_PROCESS_SETTINGS = {
    "qcd": ["HardQCD:all = on"],
    "top": ["Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *_HADRONIC_W],
    # qq2qq scatters c and b, too, which `families_of` leaves out.
    "quark": [
        "HardQCD:qq2qq = on",
        "HardQCD:gg2qqbar = on",
        "HardQCD:qqbar2qqbarNew = on",
        "HardQCD:nQuarkNew = 3",  # new ones: d, u, s
    ],
    "gluon": ["HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on"],
    "w": ["WeakDoubleBoson:ffbar2WW = on", *_HADRONIC_W],
    "z": ["WeakDoubleBoson:ffbar2gmZgmZ = on", "WeakZ0:gmZmode = 2", *_HADRONIC_Z],  # 2: no photons in the Z's place
}
_NEUTRINOS = (12, 14, 16)
_MOMENTUM = ("px", "py", "pz", "e")  # also of vertices, whose components Pythia's arrays name the same


def _common_settings(domain: Domain, seed: int) -> list[str]:
    return [
        "Print:quiet = on",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
        f"Beams:eCM = {domain.com_energy:.10g}",
        f"Tune:pp = {domain.tune}",
        "ParticleDecays:limitTau0 = on",
        f"ParticleDecays:tau0Max = {domain.max_ctau:.10g}",
    ]


def pythia_settings(domain: Domain, process: str, seed: int) -> list[str]:
    """The lines that configure Pythia for the hard events of a domain; `seed` in 1 ... 900,000,000."""
    hard = domain.hard_process(process)
    return [
        *_common_settings(domain, seed),
        *_PROCESS_SETTINGS[process],
        f"PhaseSpace:pTHatMin = {hard.pthat_min:.10g}",
        f"PhaseSpace:pTHatMax = {hard.pthat_max:.10g}",
        f"PartonLevel:MPI = {'on' if domain.multiparton_interactions else 'off'}",
    ]


def _start(lines: list[str]) -> Any:
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)  # False: no banner
    for line in lines:
        if not pythia.readString(line):
            raise RuntimeError(f"Pythia does not know the setting {line!r}: install pythia8mc 8.317")
    if not pythia.init():
        raise RuntimeError(f"Pythia could not be initialised with {lines}")
    return pythia


@dataclass(frozen=True)
class EventBatch:
    """Some events: their visible final state, and what the wanted particles decayed to.

    Attributes
    ----------
    size : int
        Number of events.
    particles : Particles
        Visible stable particles, ordered by event.
    families : Families, optional
        Of which jets must contain one; None where they may be of anything.
    truth : Truth, optional
        The events' partons; None unless asked for, as the next.
    scattering : Scattering, optional
        Their hard processes.
    """

    size: int
    particles: Particles
    families: Families | None = None
    truth: Truth | None = None
    scattering: Scattering | None = None


@dataclass(frozen=True)
class Scattering:
    """Hard 2 -> 2 processes of n events: two incoming partons, then two outgoing ones.

    Attributes
    ----------
    pdg, colour, anticolour : ndarray of int32, shape (n, 4)
    p4 : ndarray of float64, shape (n, 4, 4)
        px, py, pz, E in GeV.
    mass, scale : ndarray of float64, shapes (n, 4) and (n,)
        GeV; `scale` is the factorisation scale, at which the shower starts.
    """

    pdg: NDArray[np.int32]
    colour: NDArray[np.int32]
    anticolour: NDArray[np.int32]
    p4: NDArray[np.float64]
    mass: NDArray[np.float64]
    scale: NDArray[np.float64]


class EventSource:
    """A Pythia instance that hands out batches of events.

    Pythia's own `nextBatch` copies whole event records in C++ (0.2 ms an event); reading them particle by
    particle in Python takes 0.8 ms, half as long as generating an event.

    Parameters
    ----------
    lines : list of str
        Pythia's configuration.
    process : str, optional
        Whose families batches have.
    vertices, truth : bool
        Whether the particles of batches have vertices, and batches `truth` and `scattering`. The events are the same.
    """

    def __init__(
        self, lines: list[str], process: str | None = None, *, vertices: bool = False, truth: bool = False
    ) -> None:
        self._pythia = _start(lines)
        self._process = process
        self._vertices = vertices
        self._truth = truth
        self._charges: dict[int, int] = {}

    @property
    def version(self) -> str:
        """Pythia's version, for example '8.317'."""
        return f"{self._pythia.settings.parm('Pythia:versionNumber'):.3f}"

    def _charge(self, pdg: NDArray[np.int32]) -> NDArray[np.int32]:
        codes, inverse = np.unique(pdg, return_inverse=True)
        for code in codes.tolist():
            if code not in self._charges:
                self._charges[code] = self._pythia.particleData.chargeType(code) // 3
        return np.array([self._charges[code] for code in codes.tolist()], np.int32)[inverse]

    def next(self, events: int) -> EventBatch:
        """Generate `events` events; those in which Pythia reports a failure are replaced.

        Where Pythia reads the hard processes from a file, there may be fewer at its end.
        """
        batch = self._pythia.nextBatch(events)
        record = batch["prt"].layout
        offsets = np.asarray(record.offsets, dtype=np.int64)
        events = len(offsets) - 1
        table = record.content
        pdg, status = table["id"].data, table["status"].data
        p4 = np.stack([table["p"][name].data for name in _MOMENTUM], axis=1)
        event = np.repeat(np.arange(events), np.diff(offsets))
        start = offsets[:-1]

        visible = np.flatnonzero((status > 0) & ~np.isin(np.abs(pdg), _NEUTRINOS))
        vertex = _vertices(table["vProd"], visible) if self._vertices else None
        particles = Particles(event[visible], p4[visible], pdg[visible], self._charge(pdg[visible]), vertex)
        daughters = np.stack([table["daughter1"].data, table["daughter2"].data], axis=1) + start[event][:, None]
        entries = Record(event, pdg, status, p4, start, table["mother1"].data, daughters)
        found = EventBatch(events, particles, families_of(entries, self._process))
        if not self._truth:
            return found
        return replace(found, truth=truth_of(entries), scattering=_scattering(table, batch["info"]["Q2Fac"], start))


def _vertices(column: Any, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """x, y, z, t of production; 0, the collision itself, for entries without a vertex."""
    index = np.asarray(column.index)[rows]
    table = np.stack([column.content[name].data for name in _MOMENTUM], axis=1)
    return np.where(index[:, None] >= 0, table[np.maximum(index, 0)] if len(table) else 0.0, 0.0)


def _scattering(table: Any, factorisation: Any, start: NDArray[np.int64]) -> Scattering:
    rows = start[:, None] + np.arange(3, 7)  # after the collision as a whole and the two beams
    p4 = np.stack([table["p"][name].data[rows] for name in _MOMENTUM], axis=2)
    pdg, colour, anticolour = (table[name].data[rows] for name in ("id", "col", "acol"))
    return Scattering(pdg, colour, anticolour, p4, table["m"].data[rows], np.sqrt(np.asarray(factorisation)))


class SoftPool:
    """A fixed set of soft non-diffractive events that stand in for the underlying event.

    Parameters
    ----------
    particles : Particles
        Final state of all events, ordered by event.
    size : int
        Number of events.
    """

    def __init__(self, particles: Particles, size: int) -> None:
        self._particles = particles
        self._counts = np.bincount(particles.event, minlength=size)
        self._starts = np.cumsum(self._counts) - self._counts

    @classmethod
    def generate(cls, domain: Domain, seed: int, *, vertices: bool = False) -> SoftPool:
        """`domain.overlay_pool` events with the domain's tune and energy; Pythia seed 1 ... 900,000,000.

        With `vertices` the same events know where their particles come from.
        """
        source = EventSource([*_common_settings(domain, seed), "SoftQCD:nonDiffractive = on"], vertices=vertices)
        parts: list[Particles] = []
        done = 0
        while done < domain.overlay_pool:
            batch = source.next(min(domain.batch_events, domain.overlay_pool - done))
            _, eta, _ = transverse(batch.particles.p4)
            part = batch.particles[np.abs(eta) < domain.overlay_max_abs_eta]
            parts.append(replace(part, event=part.event + done))
            done += batch.size
        return cls(Particles.concatenate(parts), done)

    def overlay(self, batch: EventBatch, mean: float, rng: np.random.Generator) -> Particles:
        """Particles of a batch with Poisson(`mean`) soft events over each; ordered by event.

        Every soft event is turned by a random angle about the beam and mirrored in z with probability 1/2.
        """
        number = rng.poisson(mean, batch.size)
        host = np.repeat(np.arange(batch.size), number)
        chosen = rng.integers(len(self._counts), size=len(host))
        angle = rng.uniform(0.0, 2.0 * np.pi, len(host))
        mirror = rng.choice(np.array([-1.0, 1.0]), len(host))

        counts = self._counts[chosen]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        soft = self._particles[np.repeat(self._starts[chosen], counts) + within]
        cos, sin = np.repeat(np.cos(angle), counts), np.repeat(np.sin(angle), counts)
        sign = np.repeat(mirror, counts)

        def turned(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y, z, t = vectors.T
            return np.stack([cos * x - sin * y, sin * x + cos * y, sign * z, t], axis=1)

        vertex = None if soft.vertex is None else turned(soft.vertex)
        laid = Particles(np.repeat(host, counts), turned(soft.p4), soft.pdg, soft.charge, vertex)
        both = Particles.concatenate([batch.particles, laid])
        return both[np.argsort(both.event, kind="stable")]
