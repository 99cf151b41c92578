"""Jets from a real event generator: Pythia 8, a parametrised detector, and FastJet.

`generate` writes them; `DOMAINS` holds the domains with every number of the simulation, `LAYOUTS` the layouts of public
data sets that they can be written in.
"""

from __future__ import annotations

from .api import generate
from .domains import DOMAINS, PROCESSES, Detector, Domain, HardProcess
from .layouts import LAYOUTS

__all__ = ["DOMAINS", "LAYOUTS", "PROCESSES", "Detector", "Domain", "HardProcess", "generate"]
