"""Units of every kind: plain, detailed, resimulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .detail import Detail, detail_of, jet_detail, track_columns
from .domains import ImpactParameters
from .events import EventSource, pythia_settings
from .particles import Particles
from .resimulation import make_resimulated_unit
from .unit import Unit, UnitResult, digest, jet_columns, observe, pythia_seed, soft_pool, truncated, versions

__all__ = ["make_unit"]


def make_unit(unit: Unit, report: Callable[[int], None]) -> UnitResult:
    """Generate a unit; the result depends on its arguments only.

    Parameters
    ----------
    unit : Unit
        The events are generated one after another in batches of fixed size, so the first jets of a unit are
        the same however many are asked for.
    report : callable
        Is told the number of new jets after every batch of events.
    """
    if unit.kind == "resimulated":
        return make_resimulated_unit(unit, report)
    domain = unit.domain
    detailed = unit.kind == "detailed"
    seed = pythia_seed(domain.name, unit.process, unit.seed, unit.index)
    source = EventSource(pythia_settings(domain, unit.process, seed), unit.process, vertices=detailed, truth=detailed)
    rng = np.random.default_rng(digest("numpy", domain.name, unit.process, unit.seed, unit.index))
    pool = soft_pool(domain, unit.process, unit.seed, detailed) if domain.overlay_mean > 0.0 else None

    found: list[tuple[NDArray[Any], NDArray[Any], Particles]] = []  # jets' p4, counts, constituents
    details: list[Detail] = []
    done = events = 0
    while done < unit.jets:
        batch = source.next(domain.batch_events)
        generated, particles, jets = observe(batch, domain, pool, rng)
        wanted = np.arange(len(jets.counts)) < unit.jets - done
        jets = jets.select(wanted)
        found.append((jets.p4, jets.counts, particles[jets.constituents]))
        if detailed:
            details.append(detail_of(jets, batch, events, generated, domain))
        events += batch.size
        done += len(jets.counts)
        report(len(jets.counts))

    p4 = np.concatenate([jet_p4 for jet_p4, _, _ in found])
    counts = np.concatenate([jet_counts for _, jet_counts, _ in found])
    constituents = Particles.concatenate([jet_constituents for _, _, jet_constituents in found])
    result = UnitResult(*jet_columns(p4, counts, constituents, domain), versions(source.version))
    if detailed:
        more, lists = jet_detail(p4, counts, constituents, Detail.concatenate(details), domain)
        # Random numbers of their own: the momenta stay those of the plain unit.
        smearing = np.random.default_rng(digest("tracks", domain.name, unit.process, unit.seed, unit.index))
        kept, _ = truncated(counts, constituents, domain.max_constituents)
        result.jets.update(more)
        result.constituents.update(track_columns(kept, domain, ImpactParameters(), smearing))
        result.lists.extend(lists)
    return result
