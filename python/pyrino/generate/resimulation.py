"""Jets that were showered several times from the same hard process, as in RS3L (arXiv:2403.07066).

The nominal events are those of the plain units. Their hard 2 -> 2 processes go through a Les Houches file into one
more Pythia for every variation, which makes initial- and final-state shower, hadronisation and decays anew; soft
overlay and detector are drawn anew, too. A nominal jet of the domain's window, within the jet radius of an outgoing
parton, is kept where every variation has a jet there of at least half the window's lower edge in pT: a narrower window
would bias all of them towards jets that radiate little out of the jet.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .clustering import FoundJets
from .detail import track_columns
from .domains import PROCESSES, VARIATIONS, Domain, ImpactParameters
from .events import EventBatch, EventSource, Scattering, pythia_settings
from .particles import Particles, transverse
from .truth import Truth, delta_r
from .unit import Unit, UnitResult, digest, jet_columns, observe, pythia_seed, soft_pool, truncated, versions

__all__ = ["make_resimulated_unit"]

#: Batches of events that are showered between two starts of Pythia (0.15 s each).
_BATCHES = 8


def make_resimulated_unit(unit: Unit, report: Callable[[int], None]) -> UnitResult:
    """Generate a unit of kind "resimulated".

    Returns
    -------
    UnitResult
        One row for every jet and variation, the variation running faster. Columns of jets beside those of a plain unit:
        ``truth_event``, ``truth_pdg``, ``truth_branching`` and the parton's momentum ``truth_px`` ... (GeV).
    """
    domain = unit.domain
    if PROCESSES[unit.process] != "label_QCD":
        raise ValueError(f"only jets of quarks and gluons can be showered again, not those of {unit.process}")
    names = (domain.name, unit.process, unit.seed, unit.index)
    settings = pythia_settings(domain, unit.process, pythia_seed(*names))
    source = EventSource(settings, unit.process, vertices=True, truth=True)
    pool = soft_pool(domain, unit.process, unit.seed, True) if domain.overlay_mean > 0.0 else None
    # The nominal stream is that of the plain unit: the nominal jets are among its jets.
    streams = [np.random.default_rng(digest("numpy", *names))]
    streams += [np.random.default_rng(digest("numpy", *names, name)) for name in list(VARIATIONS)[1:]]

    chosen: list[tuple[NDArray[Any], NDArray[Any], Particles]] = []  # p4, counts, constituents of (jet, variation)
    truths: list[dict[str, NDArray[Any]]] = []
    wide = dataclasses.replace(domain, pt_min=0.5 * domain.pt_min, pt_max=np.inf, max_abs_eta=np.inf)
    done = events = 0
    while done < unit.jets:
        # Batches of the plain unit's size, so that the nominal events and their overlay are the same.
        batches = [source.next(domain.batch_events) for _ in range(_BATCHES)]
        nominal = [observe(batch, domain, pool, streams[0])[1:] for batch in batches]
        seen = [_joined(nominal, [batch.size for batch in batches])]
        scattering = _concatenated([cast(Scattering, batch.scattering) for batch in batches])
        for i, (name, extra) in enumerate(list(VARIATIONS.items())[1:], start=1):
            seed = 1 + digest("shower", *names, name, events) % 900_000_000
            batch = _showered(scattering, domain, unit.process, seed, extra)
            seen.append(observe(batch, wide, pool, streams[i])[1:])
        partons, branching = _partons(batches)
        rows = _matched(seen, partons, domain.radius)[: unit.jets - done]
        parton = rows[:, 0]
        for i, jet_rows in enumerate(rows[:, 1:].T):
            particles, jets = seen[i]
            chosen.append(_taken(particles, jets, jet_rows))
        truths.append(_truth(partons[parton], branching[parton], events))
        events += sum(batch.size for batch in batches)
        done += len(rows)
        report(len(rows))
    return _result(unit, chosen, truths, source.version)


def _joined(parts: list[tuple[Particles, FoundJets]], sizes: list[int]) -> tuple[Particles, FoundJets]:
    """Particles and jets of several batches as those of one."""
    first_event = np.cumsum([0, *sizes[:-1]])
    first_row = np.cumsum([0, *(len(particles) for particles, _ in parts[:-1])])
    particles = [dataclasses.replace(p, event=p.event + e) for (p, _), e in zip(parts, first_event, strict=True)]
    jets = [found for _, found in parts]
    return Particles.concatenate(particles), FoundJets(
        np.concatenate([found.event + e for found, e in zip(jets, first_event, strict=True)]),
        np.concatenate([found.p4 for found in jets]),
        np.concatenate([found.constituents + row for found, row in zip(jets, first_row, strict=True)]),
        np.concatenate([found.counts for found in jets]),
    )


def _concatenated(parts: list[Scattering]) -> Scattering:
    fields = [field.name for field in dataclasses.fields(Scattering)]
    return Scattering(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def _partons(batches: list[EventBatch]) -> tuple[Particles, NDArray[np.int32]]:
    """Outgoing partons of the hard processes of several batches, with running event numbers, and their branchings."""
    parts, branchings, first = [], [], 0
    for batch in batches:
        truth = cast(Truth, batch.truth)
        parts.append(dataclasses.replace(truth.hard, event=truth.hard.event + first))
        branchings.append(truth.branching)
        first += batch.size
    return Particles.concatenate(parts), np.concatenate(branchings)


def _showered(scattering: Scattering, domain: Domain, process: str, seed: int, extra: list[str]) -> EventBatch:
    """Events of the hard processes; those in which Pythia reports a failure have no particles."""
    hard = ("HardQCD", "PhaseSpace", "Beams")
    lines = [line for line in pythia_settings(domain, process, seed) if not line.startswith(hard)]
    number = len(scattering.scale)
    with tempfile.TemporaryDirectory(prefix="pyrino-") as folder:
        path = Path(folder) / "hard.lhe"
        path.write_text(_les_houches(scattering, domain.com_energy))
        lines += ["Beams:frameType = 4", f"Beams:LHEF = {path}", *extra]
        source = EventSource(lines, process, vertices=True, truth=True)
        batch = source.next(number)
    # Which of the hard processes an event is of: they come in order, and some may be left out.
    mine, theirs = scattering.p4[:, :2, 3], cast(Scattering, batch.scattering).p4[:, :2, 3]
    event = np.empty(batch.size, np.int64)
    at = 0
    for i, energies in enumerate(theirs):
        while not np.allclose(mine[at], energies, rtol=1e-6):
            at += 1
        event[i] = at
        at += 1
    particles = dataclasses.replace(batch.particles, event=event[batch.particles.event])
    families = batch.families and dataclasses.replace(batch.families, event=event[batch.families.event])
    return dataclasses.replace(batch, size=number, particles=particles, families=families)


def _les_houches(scattering: Scattering, com_energy: float) -> str:
    """The hard processes as a Les Houches event file (CPC 176 (2007) 300), every number in full precision."""
    beam = f"{0.5 * com_energy!r}"
    text = [f'<LesHouchesEvents version="1.0">\n<init>\n2212 2212 {beam} {beam} 0 0 0 0 3 1\n1.0 0.0 1.0 1\n</init>\n']
    table = zip(
        *(values.tolist() for values in (scattering.pdg, scattering.colour, scattering.anticolour)),
        *(values.tolist() for values in (scattering.p4, scattering.mass, scattering.scale)),
        strict=True,
    )
    for pdg, colour, anticolour, p4, mass, scale in table:
        text.append(f"<event>\n4 1 1.0 {scale!r} -1.0 -1.0\n")
        for i in range(4):
            status, mothers = (-1, "0 0") if i < 2 else (1, "1 2")
            px, py, pz, energy = p4[i]
            text.append(
                f"{pdg[i]} {status} {mothers} {colour[i]} {anticolour[i]} "
                f"{px!r} {py!r} {pz!r} {energy!r} {mass[i]!r} 0.0 9.0\n"
            )
        text.append("</event>\n")
    return "".join([*text, "</LesHouchesEvents>\n"])


def _matched(seen: list[tuple[Particles, FoundJets]], partons: Particles, radius: float) -> NDArray[np.int64]:
    """One row per parton that has a jet everywhere: the parton, and its jet in each of `seen`."""
    columns = [np.arange(len(partons))]
    _, eta, phi = transverse(partons.p4)
    for _, jets in seen:
        _, jet_eta, jet_phi = transverse(jets.p4)
        row = np.full(len(partons), -1)
        parton, jet = np.nonzero(partons.event[:, None] == jets.event[None, :])
        distance = delta_r(eta[parton], phi[parton], jet_eta[jet], jet_phi[jet])
        near = np.flatnonzero(distance < radius)
        near = near[np.argsort(-distance[near], kind="stable")]  # the nearest is written last
        row[parton[near]] = jet[near]
        columns.append(row)
    rows = np.stack(columns, axis=1)
    return rows[(rows >= 0).all(axis=1)]


def _taken(
    particles: Particles, jets: FoundJets, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], Particles]:
    starts = np.cumsum(jets.counts) - jets.counts
    counts = jets.counts[rows]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return jets.p4[rows], counts, particles[jets.constituents[np.repeat(starts[rows], counts) + within]]


def _truth(partons: Particles, branching: NDArray[np.int32], first_event: int) -> dict[str, NDArray[Any]]:
    momenta = {name: partons.p4[:, i].astype(np.float32) for i, name in enumerate(("px", "py", "pz", "energy"))}
    return {
        "truth_event": first_event + partons.event,
        "truth_pdg": partons.pdg,
        "truth_branching": branching,
        **{f"truth_{name}": values for name, values in momenta.items()},
    }


def _result(
    unit: Unit,
    chosen: list[tuple[NDArray[Any], NDArray[Any], Particles]],
    truths: list[dict[str, NDArray[Any]]],
    pythia: str,
) -> UnitResult:
    domain, showers = unit.domain, len(VARIATIONS)
    # From the order (round, variation, jet) to (round, jet, variation), which is (jet, variation).
    sizes = [len(counts) for _, counts, _ in chosen[::showers]]
    starts = np.cumsum([0, *sizes]) * showers
    order = np.concatenate(
        [s + np.arange(showers * n).reshape(showers, n).T.ravel() for s, n in zip(starts, sizes, strict=False)]
    ).astype(np.int64)
    p4, counts = (np.concatenate([part[i] for part in chosen]) for i in (0, 1))
    first = np.cumsum(counts) - counts
    p4, counts, first = p4[order], counts[order], first[order]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    constituents = Particles.concatenate([part for _, _, part in chosen])[np.repeat(first, counts) + within]

    result = UnitResult(*jet_columns(p4, counts, constituents, domain), versions(pythia))
    truth = {name: np.concatenate([part[name] for part in truths]) for name in truths[0]}
    result.jets.update({name: np.repeat(values, showers) for name, values in truth.items()})
    kept, _ = truncated(counts, constituents, domain.max_constituents)
    rng = np.random.default_rng(digest("tracks", domain.name, unit.process, unit.seed, unit.index))
    result.constituents.update(track_columns(kept, domain, ImpactParameters(), rng))
    return result
