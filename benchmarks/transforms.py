"""How fast jets are transformed on one thread; the rotation against NumPy on the constituents of all jets at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from common import Report, largest_difference, parser

import pyrino as rino
from pyrino.bench import Timing

TRANSFORMS: dict[str, Callable[[rino.Jets], rino.Jets]] = {
    "smear": lambda jets: rino.smear(jets, seed=1),
    "rotate": lambda jets: rino.rotate(jets, seed=1),
    "translate": lambda jets: rino.translate(jets, seed=1),
    "boost_along_beam": lambda jets: rino.boost_along_beam(jets, seed=1),
    "boost_jet": lambda jets: rino.boost_jet(jets, seed=1),
    "boost_to_pt": lambda jets: rino.boost_to_pt(jets, 750.0),
    "split_collinear": lambda jets: rino.split_collinear(jets, seed=1),
    "drop_soft": lambda jets: rino.drop_soft(jets, seed=1),
    "mask_constituents": lambda jets: rino.mask_constituents(jets, 0.2, seed=1),
    "hardest": lambda jets: rino.hardest(jets, 20),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--jets", type=int, help="number of toy jets (default: 20000; quick: 5000)")
    args = options.parse_args()
    jets = rino.toy_jets(args.jets or (5000 if args.quick else 20_000), seed=1)
    angles = np.random.default_rng(1).uniform(0, 2 * np.pi, len(jets))
    report = Report("transforms", jets)
    sides: dict[str, Callable[[], object]] = {
        name: lambda transform=transform: transform(jets) for name, transform in TRANSFORMS.items()
    }
    sides["rotate, NumPy"] = lambda: rotated(jets, angles)
    report.check("rotate", largest_difference(rino.rotate(jets, angles).p4, rotated(jets, angles)), 1e-9)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.repetitions):
        for name, side in sides.items():
            begin = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - begin)
    timings = {name: Timing.of(taken) for name, taken in times.items()}
    for name, timing in timings.items():
        report.row(name, timing, len(jets))
    report.figure("transforms, rotate: to NumPy", timings["rotate, NumPy"].seconds / timings["rotate"].seconds)
    report.finish(args.out)


def rotated(jets: rino.Jets, angles: np.ndarray) -> np.ndarray:
    """(T, 4) momenta of the constituents, rotated around their jet's axis in the (rapidity, phi) plane."""
    part, counts = jets.constituents, jets.multiplicity
    angle, axis_y, axis_phi = (np.repeat(values, counts) for values in (angles, jets.rapidity, jets.phi))
    y, x = part.rapidity - axis_y, np.remainder(part.phi - axis_phi + np.pi, 2 * np.pi) - np.pi
    new_y = axis_y + np.cos(angle) * y - np.sin(angle) * x
    new_phi = axis_phi + np.sin(angle) * y + np.cos(angle) * x
    transverse_mass = np.hypot(part.pt, part.mass)
    return np.stack(
        [
            part.pt * np.cos(new_phi),
            part.pt * np.sin(new_phi),
            transverse_mass * np.sinh(new_y),
            transverse_mass * np.cosh(new_y),
        ],
        axis=1,
    )


if __name__ == "__main__":
    main()
