"""What `Jets` shows of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrino import _core
from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyrino.jets.jets import Jets

__all__ = ["as_html", "draw", "summary"]


def summary(jets: Jets) -> list[tuple[str, str]]:
    """What they are, and how much of it."""
    if not len(jets):
        return [("jets", "0")]
    rows = [
        ("jets", f"{len(jets)}"),
        ("constituents", f"{jets.n_constituents} ({_span(jets.multiplicity, 'd')} per jet)"),
        ("pT", f"{_span(jets.pt, '.5g')} GeV"),
    ]
    if jets.labels is not None:
        values, number = np.unique(jets.labels, return_counts=True)
        shown = ", ".join(f"{v}: {c}" for v, c in zip(values[:8], number[:8], strict=True))
        rows.append(("labels", "{" + shown + (", ..." if len(values) > 8 else "") + "}"))
    if jets.extras:
        rows.append(("extras", ", ".join(jets.extras)))
    if jets.values:
        rows.append(("values", ", ".join(jets.values)))
    return rows


def as_html(jets: Jets) -> str:
    """The summary as a table, and the first five of them drawn."""
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(what)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for what, value in summary(jets)
    )
    sketches = "".join(_sketch(jets[j], j) for j in range(min(len(jets), 5)))
    return f'<div><table>{cells}</table><div style="display:flex;flex-wrap:wrap">{sketches}</div></div>'


def _span(values: NDArray[Any], form: str) -> str:
    """The lowest and highest value as text."""
    low, high = values.min(), values.max()
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def _sketch(jet: Jets, number: int) -> str:
    """One jet in the (eta, phi) plane as an SVG image: area of a disc = share of the jet's pT."""
    part = jet.constituents
    order = np.argsort(-part.pt, kind="stable")[:100]
    pt = part.pt[order]
    x = part.eta[order] - np.clip(jet.eta[0], -20, 20)
    y = np.remainder(part.phi[order] - jet.phi[0] + math.pi, 2 * math.pi) - math.pi
    seen = (pt > 0) & np.isfinite(x)
    x, y, share = x[seen], y[seen], pt[seen] / max(part.pt.sum(), 1e-300)
    extent = 1.1 * max(0.8, float(np.abs([*x, *y]).max(initial=0.0)))
    discs = "".join(
        f'<circle cx="{60 + 55 * a / extent:.1f}" cy="{60 - 55 * b / extent:.1f}" r="{0.8 + 22 * math.sqrt(s):.1f}"/>'
        for a, b, s in zip(x, y, share, strict=True)
    )
    return (
        '<svg width="120" height="138" viewBox="0 0 120 138" role="img">'
        "<title>constituents in the (eta, phi) plane around the jet's axis; area: share of the pT</title>"
        '<rect x="1" y="1" width="118" height="118" fill="white" stroke="#bbb"/>'
        '<path d="M60 55v10M55 60h10" stroke="#bbb"/>'
        f'<g fill="#0072B2" fill-opacity="0.55">{discs}</g>'
        f'<text x="60" y="133" font-size="11" text-anchor="middle" fill="currentColor">'
        f"jet {number}: {jet.pt[0]:.0f} GeV, m {jet.mass[0]:.0f}</text></svg>"
    )


def draw(jets: Jets, resolutions: Sequence[Any], radius: float, algorithm: str) -> Figure:
    """As `Jets.draw`."""
    from pyrino.drawing.flow import draw_flow

    if len(jets) != 1:
        raise RinoError(f"{len(jets)} jets cannot be drawn as one: choose a jet, for example jets[0].draw([2, 8])")
    if isinstance(resolutions, (str, int)):
        resolutions = [resolutions]
    points = [_core.Resolution.parse(str(point)) for point in resolutions]
    generator = _core.ViewGenerator(points, float(radius), algorithm, 1, "auto")
    momenta = [view.p4() for view in generator(jets._core)]
    # draw_flow counts constituents in the order of the view that shows all of them: descending pT.
    order = np.argsort(-jets.constituents.pt, kind="stable")
    n = jets.n_constituents
    index = None
    if any(len(p4) == n for p4 in momenta):
        index = [
            None if len(p4) == n else generator.subjet_of_constituent(jets._core, 0, wanted)[order]
            for p4, wanted in zip(momenta, points, strict=True)
        ]
    names = [int(r.value) if r.kind == "subjets" else str(r) for r in points]
    return draw_flow(momenta, names, radius=radius, subjet_index=index)
