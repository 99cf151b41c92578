"""Jets from a real event generator: Pythia 8, a parametrised detector, and FastJet.

`generate` writes them; `DOMAINS` holds the domains with every number of the simulation.
"""

from __future__ import annotations

from .api import generate
from .domains import DOMAINS, PROCESSES, Detector, Domain, HardProcess

__all__ = ["DOMAINS", "PROCESSES", "Detector", "Domain", "HardProcess", "generate"]
