"""Columns beyond JetClass's main ones: what the layouts of public data sets hold of truth, tracks and substructure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .clustering import FoundJets, find_jets, n_subjettiness, soft_drop_masses
from .domains import Domain, ImpactParameters
from .events import EventBatch
from .particles import Particles, transverse
from .truth import Truth, impact_parameters, inside, nearest

__all__ = ["Detail", "detail_of", "jet_detail", "track_columns"]

#: GeV; softer quarks do not count for the flavour of a QCD jet: JetClass-II (arXiv:2405.12972).
_QUARK_MIN_PT = 10.0


@dataclass(frozen=True)
class Detail:
    """Truth about j jets.

    Attributes
    ----------
    event : ndarray of int64, shape (j,)
        Number of the event within the unit.
    parton : Particles
        The top, W or Z in a jet of these processes, else the parton of the hard process nearest in pseudorapidity and
        azimuth; one for each jet.
    branching : ndarray of int32, shape (j,)
        See `Truth.branching`.
    quarks : Particles
        Quarks before hadronisation inside the jet, jet after jet.
    quark_counts : ndarray of int64, shape (j,)
    generated : Particles
        Particles of the matched jet before the detector, jet after jet.
    generated_counts : ndarray of int64, shape (j,)
    """

    event: NDArray[np.int64]
    parton: Particles
    branching: NDArray[np.int32]
    quarks: Particles
    quark_counts: NDArray[np.int64]
    generated: Particles
    generated_counts: NDArray[np.int64]

    @staticmethod
    def concatenate(parts: list[Detail]) -> Detail:
        """Of all jets of several."""

        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return Particles.concatenate(values) if isinstance(values[0], Particles) else np.concatenate(values)

        return Detail(*(joined(field.name) for field in dataclasses.fields(Detail)))


def detail_of(jets: FoundJets, batch: EventBatch, first_event: int, generated: Particles, domain: Domain) -> Detail:
    """Truth about the jets of a batch.

    Parameters
    ----------
    jets : FoundJets
        Of the batch.
    batch : EventBatch
        With `truth`.
    first_event : int
        Number of the batch's first event within the unit.
    generated : Particles
        What the jets would be of without a detector, ordered by event.
    domain : Domain
        Radius; the acceptance.
    """
    j = len(jets.counts)
    truth = cast(Truth, batch.truth)
    hard, branching = truth.hard, truth.branching
    if batch.families is not None and batch.families.decayed:
        hard = batch.families.heads
        branching = np.zeros(len(hard), np.int32)
    row = nearest(jets, hard, np.inf)
    jet, quark = inside(jets, truth.quarks, domain.radius, _QUARK_MIN_PT)

    # Jets of generated particles migrate into and out of the window: they are looked for in a wider one.
    wide = dataclasses.replace(
        domain, pt_min=0.5 * domain.pt_min, pt_max=np.inf, max_abs_eta=np.inf, jets_per_event=len(generated) + 1
    )
    found = find_jets(generated, batch.size, wide)
    axes = Particles(found.event, found.p4, np.zeros(len(found.event), np.int32), np.zeros(len(found.event), np.int32))
    match = nearest(jets, axes, domain.radius)
    starts = np.cumsum(found.counts) - found.counts
    counts = np.where(match >= 0, found.counts[match], 0) if len(found.counts) else np.zeros(j, np.int64)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = found.constituents[np.repeat(starts[match] if len(starts) else counts, counts) + within]
    return Detail(
        first_event + jets.event,
        hard[row],
        branching[row],
        truth.quarks[quark],
        np.bincount(jet, minlength=j),
        generated[rows],
        counts,
    )


def jet_detail(
    p4: NDArray[np.float64], counts: NDArray[np.int64], constituents: Particles, detail: Detail, domain: Domain
) -> tuple[dict[str, NDArray[Any]], list[tuple[NDArray[np.int32], dict[str, NDArray[Any]]]]]:
    """Columns of jets and lists beside those of `jet_columns`.

    Parameters
    ----------
    p4, counts, constituents
        Of the jets as clustered, before any truncation.
    detail : Detail
        Truth about them.
    domain : Domain
        Radius, `soft_drop_z`.

    Returns
    -------
    jets : dict of ndarray
        ``jet_tau1`` ... ``jet_tau4``; ``genjet_*``, 0 where there is none; ``truth_*``: event, the parton's PDG code
        and momentum (GeV), what a gluon branches to, numbers of b, c and s quarks.
    lists : list of (counts, columns)
        ``genpart_*`` as JetClass-II has them, and ``truth_quark_*``.
    """
    taus = n_subjettiness(constituents.p4, counts, domain.radius)
    _, eta, phi = transverse(p4)
    flavour = np.abs(detail.quarks.pdg)
    jet_of_quark = np.repeat(np.arange(len(counts)), detail.quark_counts)
    jets: dict[str, NDArray[Any]] = {f"jet_tau{n + 1}": taus[:, n].astype(np.float32) for n in range(taus.shape[1])}
    jets |= _generated_jets(detail, domain)
    jets |= {
        "truth_event": detail.event.astype(np.int64),
        "truth_pdg": detail.parton.pdg,
        "truth_branching": detail.branching,
        **{f"truth_{name}": detail.parton.p4[:, i].astype(np.float32) for i, name in enumerate(_AXES)},
        **{
            f"truth_{name}": np.bincount(jet_of_quark[flavour == code], minlength=len(counts)).astype(np.int32)
            for name, code in (("b", 5), ("c", 4), ("s", 3))
        },
    }
    jet = np.repeat(np.arange(len(counts)), detail.generated_counts)
    _, part_eta, part_phi = transverse(detail.generated.p4)
    particles = _momenta("genpart", detail.generated)
    particles["genpart_jet_deta"] = ((part_eta - eta[jet]) * np.where(eta[jet] < 0.0, -1.0, 1.0)).astype(np.float32)
    particles["genpart_jet_dphi"] = (np.remainder(part_phi - phi[jet] + np.pi, 2.0 * np.pi) - np.pi).astype(np.float32)
    vertex = cast("NDArray[np.float64]", detail.generated.vertex)
    for i, name in enumerate("xyzt"):
        particles[f"genpart_{name}"] = vertex[:, i].astype(np.float32)
    particles["genpart_pid"] = detail.generated.pdg
    squared = detail.quarks.p4[:, 3] ** 2 - (detail.quarks.p4[:, :3] ** 2).sum(axis=1)
    quarks = _momenta("truth_quark", detail.quarks)
    quarks["truth_quark_mass"] = np.sqrt(np.maximum(squared, 0.0)).astype(np.float32)
    quarks["truth_quark_pdg"] = detail.quarks.pdg
    return jets, [
        (detail.generated_counts.astype(np.int32), particles),
        (detail.quark_counts.astype(np.int32), quarks),
    ]


_AXES = ("px", "py", "pz", "energy")


def _momenta(prefix: str, particles: Particles) -> dict[str, NDArray[Any]]:
    return {f"{prefix}_{name}": particles.p4[:, i].astype(np.float32) for i, name in enumerate(_AXES)}


def _generated_jets(detail: Detail, domain: Domain) -> dict[str, NDArray[Any]]:
    counts = detail.generated_counts
    there = counts > 0
    jet = np.repeat(np.arange(len(counts)), counts)
    p4 = np.stack(
        [np.bincount(jet, detail.generated.p4[:, i], len(counts)) for i in range(4)], axis=1, dtype=np.float64
    )
    pt, eta, phi = transverse(p4)
    groomed = np.zeros(len(counts))
    groomed[there] = soft_drop_masses(detail.generated.p4, counts[there], domain.soft_drop_z)
    values = {"pt": pt, "eta": eta, "phi": phi, "energy": p4[:, 3], "sdmass": groomed}
    columns = {f"genjet_{name}": column.astype(np.float32) for name, column in values.items()}
    return columns | {"genjet_nparticles": counts.astype(np.int32)}


def track_columns(
    particles: Particles, domain: Domain, resolution: ImpactParameters, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Columns of constituents beside those of `jet_columns`: impact parameters, and the PDG code ``part_pid``.

    The impact parameters are exact, with errors of 0, in a domain without a detector.
    """
    seen = resolution if domain.detector is not None else None
    return impact_parameters(particles, seen, rng) | {"part_pid": particles.pdg}
