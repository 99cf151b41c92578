"""What the library's pages are made with: templates that load nothing, and pictures within them."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from pyrino import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "picture", "render", "thousands"]


class Picture(NamedTuple):
    """A figure as a ``data:`` address, and the sentence that says what to see."""

    source: str
    alternative: str
    caption: str


def render(name: str, **entries: Any) -> str:
    """A template of this folder as one HTML document that loads nothing; `entries` are what it shows."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    here = resources.files("pyrino.report")
    environment = Environment(
        loader=FunctionLoader(lambda file: (here / file).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"thousands": thousands, "duration": _duration, "subscripts": _subscripts}
    style = (here / "style.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(style=style, **entries)


def picture(figure: Figure, alternative: str, caption: str) -> Picture:
    return Picture(plots.figure_to_data_uri(figure), alternative, caption)


def thousands(number: int) -> str:
    return f"{number:,}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _subscripts(text: str) -> Any:
    """ε_B as ε with a subscript; everything else escaped."""
    from markupsafe import Markup, escape

    safe = str(escape(text))
    for letter in "BS":
        safe = safe.replace(f"ε_{letter}", f"ε<sub>{letter}</sub>")
    return Markup(safe.replace("pT", "<i>p</i><sub>T</sub>"))
