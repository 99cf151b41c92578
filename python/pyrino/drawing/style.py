"""What all pictures share: colours, a quiet frame, how a figure becomes a file."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BACKGROUND",
    "BLUE",
    "FAINT",
    "GREEN",
    "INK",
    "MUTED",
    "ORANGE",
    "PURPLE",
    "SIGNAL",
    "SKY",
    "VERMILION",
    "colours_by_name",
    "figure_to_data_uri",
    "figure_to_png",
    "figure_to_svg",
    "need",
    "new_figure",
    "percent",
    "plain",
]

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
BACKGROUND, SIGNAL = BLUE, VERMILION
_CYCLE = (INK, SKY, VERMILION, GREEN, ORANGE, PURPLE, BLUE)


def figure_to_svg(figure: Figure) -> str:
    """The figure as one SVG document (text as outlines, so it looks the same everywhere)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    return buffer.getvalue().decode()


def figure_to_png(figure: Figure, dpi: float = 150) -> bytes:
    """The figure as a PNG file's bytes, at `dpi` pixels per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def figure_to_data_uri(figure: Figure) -> str:
    """The figure as SVG in a ``data:`` address, for the ``src`` of an image in a self-contained page."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure_to_svg(figure).encode()).decode("ascii")


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed", "tight", "none"] = "constrained"
) -> Figure:
    """A white figure of so many inches that notebooks show."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")  # type: ignore[arg-type]  # their types lack "none"
    # IPython shows a figure by itself only once pyplot was imported; this shows it without.
    figure._repr_png_ = functools.partial(figure_to_png, figure)  # type: ignore[attr-defined]  # IPython looks for it
    return figure


def plain(axes: Axes, *, box: bool = False) -> None:
    """Quiet ticks and frame; the right and upper frame only for a picture in the plane."""
    axes.tick_params(labelsize=8, colors=MUTED, length=3, which="both")
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(FAINT if box else "#a8a8a8")
        spine.set_visible(box or side in ("left", "bottom"))


def colours_by_name(names: Iterable[str]) -> dict[str, str]:
    """A colour for each distinct name, in the order of their first appearance."""
    distinct = list(dict.fromkeys(names))
    return {name: _CYCLE[i % len(_CYCLE)] for i, name in enumerate(distinct)}


def need(items: Sequence[Mapping[str, Any]], keys: Sequence[str], what: str) -> None:
    """Raise `RinoError` unless there are items and each has the keys; `what` names them."""
    if not len(items):
        raise RinoError(f"{what} is empty: give at least one")
    for i, item in enumerate(items):
        missing = [key for key in keys if key not in item]
        if missing:
            raise RinoError(f"{what}[{i}] lacks {missing} (it has {sorted(item)}): see the docstring for its keys")


def percent(share: float, _position: int) -> str:
    """For an axis of shares: 0.25 is "25%"."""
    return f"{100 * share:g}%"
