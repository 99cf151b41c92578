"""Jets of a batch of events with FastJet: anti-kT jets, soft-drop mass, N-subjettiness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .domains import Domain
from .particles import Particles, transverse

__all__ = ["FoundJets", "find_jets", "n_subjettiness", "soft_drop_masses"]


@dataclass(frozen=True)
class FoundJets:
    """Jets and their constituents.

    Attributes
    ----------
    event : ndarray of int64, shape (j,)
        Event of every jet, ascending; within an event by falling pT.
    p4 : ndarray of float64, shape (j, 4)
        px, py, pz, E of the jets in GeV (E-scheme).
    constituents : ndarray of int64, shape (c,)
        Rows of the particles, jet after jet, each jet's by falling pT.
    counts : ndarray of int64, shape (j,)
        Number of constituents of each jet.
    """

    event: NDArray[np.int64]
    p4: NDArray[np.float64]
    constituents: NDArray[np.int64]
    counts: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> FoundJets:
        """The jets for which `keep`, shape (j,), is true."""
        return FoundJets(
            self.event[keep],
            self.p4[keep],
            self.constituents[np.repeat(keep, self.counts)],
            self.counts[keep],
        )


def _cluster(p4: NDArray[np.float64], offsets: NDArray[np.int64], definition: Any) -> Any:
    """Cluster every event of a ragged batch in one call to FastJet."""
    import awkward as ak
    import fastjet

    columns = [ak.contents.NumpyArray(np.ascontiguousarray(p4[:, i])) for i in range(4)]
    record = ak.contents.RecordArray(columns, ["px", "py", "pz", "E"], parameters={"__record__": "Momentum4D"})
    events = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))
    return fastjet.ClusterSequence(events, definition)


def find_jets(particles: Particles, events: int, domain: Domain) -> FoundJets:
    """The domain's jets in a batch of events.

    Parameters
    ----------
    particles : Particles
        Ordered by event.
    events : int
        Number of events.
    domain : Domain
        Radius, window in pT and eta, and how many of the hardest jets of an event are looked at.
    """
    import fastjet

    offsets = np.concatenate([[0], np.cumsum(np.bincount(particles.event, minlength=events))])
    sequence = _cluster(particles.p4, offsets, fastjet.JetDefinition(fastjet.antikt_algorithm, domain.radius))
    jets = sequence.inclusive_jets(domain.pt_min).layout
    index = sequence.constituent_index(domain.pt_min).layout
    p4 = np.stack([jets.content[name].data for name in ("px", "py", "pz", "E")], axis=1)
    event = np.repeat(np.arange(events), np.diff(np.asarray(jets.offsets)))
    bounds = np.asarray(index.content.offsets, dtype=np.int64)
    counts = np.diff(bounds)
    constituents = index.content.content.data[: bounds[-1]] + np.repeat(offsets[event], counts)

    # Order the jets by (event, falling pT) and every jet's constituents by falling pT.
    pt, eta, _ = transverse(p4)
    order = np.lexsort((-pt, event))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    constituent_pt = np.hypot(particles.p4[constituents, 0], particles.p4[constituents, 1])
    constituents = constituents[np.lexsort((constituents, -constituent_pt, np.repeat(place, counts)))]
    found = FoundJets(event[order], p4[order], constituents, counts[order])

    first = np.searchsorted(found.event, found.event)  # row of the event's hardest jet
    rank = np.arange(len(order)) - first
    window = (pt[order] < domain.pt_max) & (np.abs(eta[order]) < domain.max_abs_eta)
    return found.select((rank < domain.jets_per_event) & window)


def soft_drop_masses(p4: NDArray[np.float64], counts: NDArray[np.int64], z: float) -> NDArray[np.float64]:
    """Soft-drop mass of jets, beta = 0 (JHEP 05 (2014) 146; equal to the modified mass drop tagger).

    Parameters
    ----------
    p4 : ndarray, shape (c, 4)
        Constituents of all jets, jet after jet, GeV.
    counts : ndarray, shape (j,)
        Constituents per jet.
    z : float
        The softer of two branches is dropped while it carries less than this share of their scalar pT.

    Returns
    -------
    ndarray of float64, shape (j,)
        GeV; the mass of a single constituent where nothing passes.
    """
    import fastjet
    from fastjet import PseudoJet

    # A jet is far smaller than R = 10, so nothing merges with the beam before the last step.
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 10.0)
    masses = np.empty(len(counts))
    rows = p4.tolist()
    stop = 0
    for i, count in enumerate(counts.tolist()):
        start, stop = stop, stop + count
        # Jet by jet, because only this class lets its history be walked; the wheel's batched soft drop
        # gives the same masses five times slower.
        sequence = fastjet.ClusterSequence([PseudoJet(*row) for row in rows[start:stop]], definition)
        jet = sequence.exclusive_jets(1)[0]
        harder, softer = PseudoJet(), PseudoJet()
        while jet.has_parents(harder, softer):
            if harder.pt2() < softer.pt2():
                harder, softer = softer, harder
            if softer.pt() > z * (harder.pt() + softer.pt()):
                break
            jet, harder, softer = harder, PseudoJet(), PseudoJet()
        masses[i] = max(jet.m(), 0.0)
    return masses


def n_subjettiness(
    p4: NDArray[np.float64], counts: NDArray[np.int64], radius: float, largest: int = 4
) -> NDArray[np.float64]:
    """N-subjettiness tau_1 ... tau_largest (JHEP 03 (2011) 015) of jets, beta = 1.

    tau_N = sum_i pT_i min_k DR(i, k) / (R sum_i pT_i) with the axes k of the N exclusive kT subjets in the
    winner-take-all scheme (JHEP 04 (2014) 017), in rapidity and azimuth, not minimised further: Delphes' default.

    Parameters
    ----------
    p4 : ndarray, shape (c, 4)
        Constituents of all jets, jet after jet, GeV.
    counts : ndarray, shape (j,)
        Constituents per jet.
    radius : float
        R of the normalisation.

    Returns
    -------
    ndarray of float64, shape (j, largest)
        0 where a jet has no more than N constituents.
    """
    import fastjet
    from fastjet import PseudoJet

    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 10.0, fastjet.WTA_pt_scheme)
    taus = np.zeros((len(counts), largest))
    rows = p4.tolist()
    stop = 0
    for i, count in enumerate(counts.tolist()):
        start, stop = stop, stop + count
        particles = [PseudoJet(*row) for row in rows[start:stop]]
        sequence = fastjet.ClusterSequence(particles, definition)
        pt, rapidity, phi = np.array([(p.pt(), p.rap(), p.phi()) for p in particles]).T
        for number in range(1, min(largest, count - 1) + 1):
            axes = np.array([(axis.rap(), axis.phi()) for axis in sequence.exclusive_jets(number)])
            turn = np.remainder(phi[:, None] - axes[:, 1] + np.pi, 2.0 * np.pi) - np.pi
            distance = np.hypot(rapidity[:, None] - axes[:, 0], turn).min(axis=1)
            taus[i, number - 1] = (pt * distance).sum() / (radius * pt.sum())
    return taus
