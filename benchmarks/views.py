"""Views with features, from momenta to the network's tokens, against Python: awkward, the fastjet package and NumPy.

Two baselines, both with nine views and eleven features of every subjet, on one thread: the plainest form, a loop over
the jets with `fastjet.PseudoJet`; and fastjet's awkward interface, which loops over the jets in C++, with NumPy on all
subjets at once.
"""

from __future__ import annotations

import warnings
from typing import Any

import awkward as ak
import fastjet
import numpy as np
from common import Report, largest_difference, parser

import pyrino as rino
from pyrino.bench import interleaved

#: Ratio to the plainest form that is aimed at, features included.
AIM = 100.0

#: Means and standard deviations of the eleven features (arXiv:2509.07486).
MEAN = np.array([0, 0, 0, 0, 1.5, 1.5, -4.5, -5.0, 0.3, 0, 0])
STD = np.array([25, 25, 25, 25, 1.5, 1.5, 1.5, 1.5, 0.2, 0.3, 0.3])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--jets", type=int, help="number of toy jets (default: 2000; quick: 500)")
    args = options.parse_args()
    warnings.filterwarnings("ignore", message="dcut and exclusive jets", category=UserWarning)  # kt is none of those
    jets = rino.toy_jets(args.jets or (500 if args.quick else 2000), seed=1)
    recipe = rino.Recipe.preset("nano")
    points = [*recipe.views.teacher, *recipe.views.student]
    columns = jets.to_awkward()
    report = Report("views_python", jets)

    tokens = rino.tokenize(jets, points, recipe)
    for name, pipeline in (("all jets at once", with_awkward), ("jet by jet", with_loop)):
        views = pipeline(columns, points)
        differences = [largest_difference(features_of_view(tokens, v), view) for v, view in enumerate(views)]
        report.check(f"features of {len(views)} views, {name}", max(differences), 1e-5)
    times = interleaved(
        {
            "pyrino.tokenize": lambda: rino.tokenize(jets, points, recipe),
            "pyrino.ViewGenerator, no features": lambda: rino.ViewGenerator(points)(jets),
            "the same, backend fastjet": lambda: rino.ViewGenerator(points, backend="fastjet")(jets),
            "Python, all jets at once": lambda: with_awkward(columns, points),
            "Python, jet by jet": lambda: with_loop(columns, points),
        },
        args.repetitions,
        budget=20.0,
    )
    for name, timing in times.items():
        report.row(name, timing, len(jets))
    ours = times["pyrino.tokenize"].seconds
    report.figure("views and features: to Python, jet by jet", times["Python, jet by jet"].seconds / ours, AIM)
    report.figure("views and features: to Python, all jets at once", times["Python, all jets at once"].seconds / ours)
    report.finish(args.out)


def with_awkward(jets: ak.Array, points: list[Any]) -> list[np.ndarray]:
    """Features [T, 11] of every view, float32; jets and subjets in order."""
    clusters = fastjet.ClusterSequence(jets, fastjet.JetDefinition(fastjet.kt_algorithm, 0.8))
    whole = ak.sum(jets.px, 1), ak.sum(jets.py, 1), ak.sum(jets.E, 1)
    views = []
    for point in points:
        view = jets if point == "all" else clusters.exclusive_jets_up_to(point)
        view = view[ak.argsort(np.hypot(view.px, view.py), axis=1, ascending=False, stable=True)]
        counts = ak.to_numpy(ak.num(view))
        momenta = [ak.to_numpy(ak.flatten(view[name])) for name in ("px", "py", "pz", "E")]
        axis = [ak.to_numpy(ak.sum(view[name], 1)) for name in ("px", "py", "pz")]
        jet = [ak.to_numpy(part) for part in whole]
        views.append(token_features(momenta, *(np.repeat(x, counts) for x in (*jet, *axis))))
    return views


def with_loop(jets: ak.Array, points: list[Any]) -> list[np.ndarray]:
    """The same jet by jet."""
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 0.8)
    views: list[list[np.ndarray]] = [[] for _ in points]
    for jet in jets:
        p4 = np.stack([ak.to_numpy(jet[name]) for name in ("px", "py", "pz", "E")], axis=1)
        particles = [fastjet.PseudoJet(*map(float, p)) for p in p4]
        sequence = fastjet.ClusterSequence(particles, definition)
        whole = p4.sum(0)
        for point, view in zip(points, views, strict=True):
            subjets = particles if point == "all" else sequence.exclusive_jets_up_to(point)
            momenta = np.array([(s.px(), s.py(), s.pz(), s.E()) for s in fastjet.sorted_by_pt(subjets)])
            view.append(token_features(list(momenta.T), *whole[[0, 1, 3]], *momenta.sum(0)[:3]))
    return [np.concatenate(view) for view in views]


def token_features(
    momenta: list[np.ndarray], jet_px: Any, jet_py: Any, jet_e: Any, axis_px: Any, axis_py: Any, axis_pz: Any
) -> np.ndarray:
    """The eleven standardised features [T, 11] of subjets, with the jet and the axis they belong to."""
    px, py, pz, e = momenta
    pt = np.hypot(px, py)
    d_eta = np.arcsinh(pz / pt) - np.arcsinh(axis_pz / np.hypot(axis_px, axis_py))
    d_phi = np.arctan2(py, px) - np.arctan2(axis_py, axis_px)
    d_phi = (d_phi + np.pi) % (2 * np.pi) - np.pi
    log_pt_rel, log_e_rel = np.log(pt / np.hypot(jet_px, jet_py)), np.log(e / jet_e)
    features = [px, py, pz, e, np.log(pt), np.log(e), log_pt_rel, log_e_rel, np.hypot(d_eta, d_phi), d_eta, d_phi]
    return ((np.stack(features, axis=1) - MEAN) / STD).astype(np.float32)


def features_of_view(tokens: rino.Tokens, view: int) -> np.ndarray:
    """Features of one view, the jets one behind the other."""
    bounds = zip(
        np.asarray(tokens.offsets)[tokens.rows(view)], np.asarray(tokens.offsets)[tokens.rows(view) + 1], strict=True
    )
    return np.concatenate([tokens.features[begin:end].numpy() for begin, end in bounds])


if __name__ == "__main__":
    main()
