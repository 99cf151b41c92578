"""What taggers do: ROC curves and the distributions of their output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyrino._columns import to_float64
from pyrino.drawing.style import BACKGROUND, FAINT, INK, SIGNAL, colours_by_name, need, new_figure, percent, plain
from pyrino.errors import RinoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["roc_curves", "score_distributions"]

#: A ROC curve is drawn down to the eps_B at which this many background jets pass: 30% error on eps_B.
_LEAST_PASSING = 10


def roc_curves(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Background rejection 1/eps_B against signal efficiency, one panel per domain, one line per tagger.

    A curve ends where fewer than 10 background jets pass: beyond, the sample does not know it.

    Parameters
    ----------
    curves : sequence of mapping
        Each with ``name`` (the tagger), ``domain`` (the panel), ``signal_efficiency`` and
        ``background_efficiency`` (equally long, as `pyrino.evaluate.thin_roc` gives them), ``n_background``,
        and optionally ``auc`` for the legend.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If there is no curve, a key is missing or the two efficiencies differ in length.
    """
    need(curves, ("name", "domain", "signal_efficiency", "background_efficiency", "n_background"), "curves")
    colours = colours_by_name(curve["name"] for curve in curves)
    domains = list(dict.fromkeys(curve["domain"] for curve in curves))
    figure = new_figure(4.6 * len(domains), 3.9)
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    for axes, domain in zip(panels, domains, strict=True):
        for i, curve in enumerate(curves):
            if curve["domain"] != domain:
                continue
            eps_s = to_float64(curve["signal_efficiency"], f"curves[{i}]['signal_efficiency']")
            eps_b = to_float64(curve["background_efficiency"], f"curves[{i}]['background_efficiency']")
            if eps_s.shape != eps_b.shape or eps_s.ndim != 1:
                raise RinoError(
                    f"curves[{i}]: signal_efficiency has shape {eps_s.shape}, "
                    f"background_efficiency {eps_b.shape}: give two equally long lists"
                )
            known = eps_b * curve["n_background"] >= _LEAST_PASSING
            auc = curve.get("auc")
            label = curve["name"] if auc is None else f"{curve['name']}  (AUC {auc:.3f})"
            axes.plot(eps_s[known], 1 / eps_b[known], color=colours[curve["name"]], linewidth=1.8, label=label)
        axes.set_title(domain, fontsize=10.5, color=INK)
        axes.set(yscale="log", xlim=(0, 1))
        axes.set_ylim(bottom=1)
        axes.set_xlabel(r"signal efficiency  $\varepsilon_S$", fontsize=10, color=INK)
        axes.grid(True, which="major", color="#ececec", linewidth=0.8)
        axes.axvline(0.5, color=FAINT, linewidth=1, zorder=0)
        axes.legend(frameon=False, fontsize=8.5, loc="lower left", labelcolor=INK)
        plain(axes)
    panels[0].set_ylabel(r"background rejection  $1/\varepsilon_B$", fontsize=10, color=INK)
    return figure


def score_distributions(panels: Sequence[Mapping[str, Any]], threshold: float = 0.5) -> Figure:
    """Distributions of the taggers' output, class by class: one row per domain, one column per tagger.

    The threshold is a solid line, the median of all jets a dashed one. Where the two part, the threshold has
    shifted between the domains although the classes may still be separated.

    Parameters
    ----------
    panels : sequence of mapping
        Each with ``name`` (column), ``domain`` (row), ``edges`` (m + 1), ``signal`` and ``background``
        (m counts) and ``median``, as `pyrino.evaluate.score_histogram` gives them.
    threshold : float
        Where the solid line stands.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    RinoError
        If there is no panel, a key is missing or the counts do not fit the edges.
    """
    need(panels, ("name", "domain", "edges", "signal", "background", "median"), "panels")
    names = list(dict.fromkeys(panel["name"] for panel in panels))
    domains = list(dict.fromkeys(panel["domain"] for panel in panels))
    figure = new_figure(3.1 * len(names) + (0.3 if len(names) > 1 else 1.2), 2.0 * len(domains) + 0.75)
    grid = figure.subplots(len(domains), len(names), sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for i, panel in enumerate(panels):
        row, column = domains.index(panel["domain"]), names.index(panel["name"])
        axes = grid[row, column]
        axes.set_visible(True)
        edges = to_float64(panel["edges"], f"panels[{i}]['edges']")
        for key, colour, label in (
            ("background", BACKGROUND, "background"),
            ("signal", SIGNAL, "signal"),
        ):
            counts = to_float64(panel[key], f"panels[{i}][{key!r}]")
            if counts.shape != (edges.size - 1,):
                raise RinoError(
                    f"panels[{i}][{key!r}] has shape {counts.shape} for {edges.size} edges; one count per bin"
                )
            share = counts / max(counts.sum(), 1.0)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(share, edges, color=colour, linewidth=1.4, label=label)
        axes.axvline(threshold, color=INK, linewidth=1.0, label=f"threshold {threshold:.4g}")
        axes.axvline(panel["median"], color=INK, linewidth=1.4, linestyle=(0, (3, 2)), label="median of all jets")
        axes.set(yscale="log", xlim=(edges[0], edges[-1]))
        axes.yaxis.set_major_formatter(percent)
        if row == 0:
            axes.set_title(panel["name"], fontsize=10.5, color=INK)
        if row == len(domains) - 1:
            axes.set_xlabel("tagger output", fontsize=10, color=INK)
        if column == 0:
            axes.set_ylabel(f"{panel['domain']}\njets per bin", fontsize=9.5, color=INK)
        plain(axes)
    drawn = next(axes for axes in grid.flat if axes.get_visible())
    handles, labels = drawn.get_legend_handles_labels()
    columns = 4 if len(names) > 1 else 2
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)
    return figure
