"""The generated domains: every number of the simulation, with its unit and its reason.

A *domain* is one way to get from a proton-proton collision to a jet: a tune of the event generator, a
detector or none, and the acceptance of the jets. `DOMAINS` holds the three that pyrino ships;
`dataclasses.replace` makes others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "DETAIL_REVISION",
    "DOMAINS",
    "PROCESSES",
    "REVISION",
    "VARIATIONS",
    "Detector",
    "Domain",
    "HardProcess",
    "ImpactParameters",
]

#: Raised whenever a change of the code changes the jets made from the same configuration and seed.
REVISION = 1
#: The same for what only units that are not "plain" have.
DETAIL_REVISION = 1

#: Process name -> the label column of JetClass that is set for it.
PROCESSES: Mapping[str, str] = {
    "qcd": "label_QCD",
    "top": "label_Tbqq",
    "quark": "label_QCD",
    "gluon": "label_QCD",
    "w": "label_Wqq",
    "z": "label_Zqq",
}

#: The showers of each jet in RS3L's order -> what Pythia is told beyond the domain's settings.
VARIATIONS: Mapping[str, list[str]] = {
    "nominal": [],
    "seed": [],
    # The scale of alpha_s in the final-state shower times 1/sqrt(2) and sqrt(2): squared in Pythia's factor.
    "fsr_up": ["TimeShower:renormMultFac = 0.5"],
    "fsr_down": ["TimeShower:renormMultFac = 2.0"],
    # RS3L has Herwig 7 here. Herwig is no Python package; Vincia's antenna shower (JHEP 07 (2020) 032) stands in.
    "vincia": ["PartonShowers:model = 2"],
}


@dataclass(frozen=True)
class Detector:
    """A parametrised detector in the manner of Delphes 3 (JHEP 02 (2014) 057).

    Tracks, electromagnetic cells and hadronic cells are three independent collections; a charged particle
    without a track is lost, and no overlap between tracks and cells is subtracted.
    """

    track_max_abs_eta: float = 2.5
    """Tracker acceptance in pseudorapidity: that of ATLAS and CMS."""
    track_min_pt: float = 0.5
    """GeV; below it a track curls up in the solenoid before it reaches the calorimeter."""
    efficiency_low_pt: float = 0.70
    """Tracking efficiency below `low_pt`: short curved tracks suffer from nuclear interactions."""
    low_pt: float = 1.0
    """GeV; where the efficiency reaches its plateau."""
    efficiency: float = 0.95
    """Tracking efficiency above `low_pt` in the barrel."""
    efficiency_forward: float = 0.85
    """Tracking efficiency above `low_pt` from `forward_abs_eta` on: more material is crossed there."""
    forward_abs_eta: float = 1.5
    """Pseudorapidity where the endcaps begin."""
    track_resolution_floor: float = 0.01
    """Relative pT resolution of a soft track: multiple scattering, independent of pT."""
    track_resolution_slope: float = 1e-4
    """1/GeV; growth of the relative resolution with pT (sagitta), added in quadrature."""
    track_resolution_max: float = 0.02
    """Ceiling of the relative resolution: above it particle flow trusts the calorimeter instead."""
    calorimeter_max_abs_eta: float = 3.0
    """Acceptance of the calorimeters: jets within abs(eta) < 2 and R = 0.8 reach to 2.8."""
    photon_cell: float = 0.0174
    """Cell size in eta and (as the nearest whole fraction of a turn) in phi: one crystal of CMS."""
    photon_stochastic: float = 0.07
    """sqrt(GeV); sigma(E)/E = 7%/sqrt(E): shower fluctuations."""
    photon_constant: float = 0.0
    """Constant term of the photon resolution: the table has none."""
    photon_min_energy: float = 0.5
    """GeV, after smearing; suppresses electronic noise."""
    hadron_cell: float = 0.087
    """Cell size in eta and phi: a tower of CMS, five crystals wide."""
    hadron_stochastic: float = 1.00
    """sqrt(GeV); stochastic term of sigma(E)/E = 100%/sqrt(E) (+) 5%: hadronic shower fluctuations."""
    hadron_constant: float = 0.05
    """Constant term of the hadronic resolution: calibration and non-uniformity."""
    hadron_min_energy: float = 1.0
    """GeV, after smearing; suppresses noise."""


@dataclass(frozen=True)
class ImpactParameters:
    """Resolution of tracks' impact parameters: a floor and a part from multiple scattering that falls with pT.

    The numbers describe CMS's tracker (JINST 9 (2014) P10009) as JetClass has it, to about 30%. Only the layouts of
    public data sets use them; the momenta do not depend on them.
    """

    d0_floor: float = 0.010
    """mm; transverse, of a track of high pT."""
    d0_scattering: float = 0.075
    """mm GeV; times sqrt(cosh eta) / pT: the path through the material."""
    dz_floor: float = 0.028
    """mm; longitudinal, times cosh eta."""
    dz_scattering: float = 0.090
    """mm GeV; times cosh eta / pT."""


@dataclass(frozen=True)
class HardProcess:
    """Phase space of the hard process.

    Wider than the jets' window on both sides, so that shower, hadronisation and detector fill the window's
    edges from outside and the spectrum is not sculpted there.
    """

    pthat_min: float
    """GeV; a fifth below the jets' window, a compromise with speed."""
    pthat_max: float
    """GeV; 40% above the window: beyond, the steeply falling cross section leaves nothing for it."""


@dataclass(frozen=True)
class Domain:
    """One domain: generator, detector and acceptance. Every field is part of the files' configuration."""

    name: str
    """Name on the command line and in the file names."""
    tune: int
    """Pythia's `Tune:pp`: 14 is Monash 2013 (EPJC 74 (2014) 3024), 21 A14 (ATL-PHYS-PUB-2014-021)."""
    pt_min: float
    """GeV; lower edge of the jet pT window."""
    pt_max: float
    """GeV; upper edge of the jet pT window."""
    qcd: HardProcess
    """Phase space of hard QCD 2 -> 2 scattering: of "qcd", "quark" and "gluon"."""
    top: HardProcess
    """Phase space of the production of pairs of heavy particles: of "top", "w" and "z"."""
    detector: Detector | None = None
    """Detector, or None for generated particles as they are."""
    overlay_mean: float = 0.0
    """Mean number (Poisson) of soft non-diffractive events laid over a hard one as its underlying event."""
    overlay_pool: int = 1000
    """Number of distinct soft events to draw from; each use is turned in azimuth and may be mirrored in z,
    so that repeated use does not show inside one jet."""
    overlay_max_abs_eta: float = 5.0
    """Soft particles beyond it are left out of the pool: no accepted jet can see them."""
    multiparton_interactions: bool = False
    """Pythia's own underlying event: four times slower than the overlay."""
    com_energy: float = 13000.0
    """GeV; proton-proton centre-of-mass energy: LHC Run 2, as JetClass and JetNet."""
    max_ctau: float = 10.0
    """mm; longer-lived particles (K0S, Lambda, ...) count as stable, as in all of the LHC's particle level."""
    radius: float = 0.8
    """Radius parameter of anti-kT (JHEP 04 (2008) 063), E-scheme."""
    max_abs_eta: float = 2.0
    """Acceptance of the jet axis in pseudorapidity: keeps the jet inside the tracker."""
    jets_per_event: int = 2
    """Only the hardest jets of an event are considered: all processes have two hard partons or bosons."""
    matching_radius: float = 0.8
    """Delta R from the jet axis within which the top, W or Z and its decay quarks, or the hard quark or gluon, must lie
    (all processes but qcd)."""
    max_constituents: int | None = None
    """Only this many hardest constituents are kept; None keeps all."""
    massless: bool = False
    """Whether constituents are written with E = |p|."""
    soft_drop_z: float = 0.1
    """Soft-drop threshold z of `jet_sdmass` (JHEP 05 (2014) 146); the angular exponent beta is 0."""
    unit_jets: int = 1000
    """Jets of one unit of work = one file with its own random seeds; a few seconds, so that little is lost
    when a run is interrupted."""
    batch_events: int = 50
    """Events handed from Pythia to NumPy at once; enough to make Python's overhead small."""

    def hard_process(self, process: str) -> HardProcess:
        """Phase space of `process` (a key of `PROCESSES`)."""
        return self.qcd if PROCESSES[process] == "label_QCD" else self.top


# Below the lower limits remains what recoils against a hard emission of the shower: about a tenth of the window's jets,
# a fifth of those within 5% of its lower edge (measured in slices of pTHat, 1000 events each). They come from far
# below, smoothly in jet pT, and would halve the speed. Above the upper limits remain less than 0.1%.
_WIDE = HardProcess(pthat_min=400.0, pthat_max=1400.0)
_NARROW = HardProcess(pthat_min=750.0, pthat_max=1500.0)

_COLLISIONS = Domain(
    name="collisions",
    tune=14,
    pt_min=500.0,
    pt_max=1000.0,
    qcd=_WIDE,
    top=_WIDE,
    detector=Detector(),
    overlay_mean=2.0,
)
_SIMULATION = Domain(
    name="simulation",
    tune=21,
    pt_min=900.0,
    pt_max=1100.0,
    qcd=_NARROW,
    top=_NARROW,
    max_constituents=30,
    massless=True,
)
_SIMULATION_WIDE = Domain(
    name="simulation-wide",
    tune=21,
    pt_min=500.0,
    pt_max=1000.0,
    qcd=_WIDE,
    top=_WIDE,
    max_constituents=30,
    massless=True,
)

#: The shipped domains by name.
DOMAINS: dict[str, Domain] = {d.name: d for d in (_COLLISIONS, _SIMULATION, _SIMULATION_WIDE)}
