"""Pictures: what is drawn where, from known numbers; no global state; errors that name the place."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from pyrino import plots
from pyrino.errors import RinoError
from pyrino.evaluate import score_histogram, thin_roc


def massless(pt: Any, eta: Any, phi: Any) -> np.ndarray:
    pt, eta, phi = np.broadcast_arrays(np.asarray(pt, float), np.asarray(eta, float), np.asarray(phi, float))
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=-1)


@pytest.fixture
def views() -> list[np.ndarray]:
    """One jet near phi = pi, so that the angles wrap: 1 subjet, 2 subjets, 6 constituents."""
    rng = np.random.default_rng(0)
    particles = massless([300, 200, 50, 40, 8, 2], 0.5 + 0.2 * rng.normal(size=6), np.pi + 0.2 * rng.normal(size=6))
    return [
        particles.sum(axis=0)[None],
        np.stack([particles[:3].sum(axis=0), particles[3:].sum(axis=0)]),
        particles,
    ]


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = np.arange(2000) % 2
    return np.clip(0.5 + 0.2 * rng.normal(size=2000) + 0.3 * (labels - 0.5), 0, 1), labels


def discs(figure: Figure, panel: int) -> PathCollection:
    return [c for c in figure.axes[panel].collections if isinstance(c, PathCollection)][-1]


class TestDrawFlow:
    def test_one_panel_per_resolution_with_its_name(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"], "a jet")
        titles = [axes.get_title() for axes in figure.axes[:3]]
        assert titles == ["N = 1 subjet", "N = 2 subjets", "all 6 constituents"]
        assert figure.get_suptitle().startswith("a jet:  ")

    def test_pt_and_mass_are_those_of_the_sum(self, views):
        total = views[2].sum(axis=0)
        pt, mass = np.hypot(*total[:2]), np.sqrt(total[3] ** 2 - np.sum(total[:3] ** 2))
        words = plots.draw_flow(views, [1, 2, "all"]).get_suptitle()
        assert f"= {pt:.0f} GeV" in words
        assert f"= {mass:.0f} GeV" in words

    def test_a_disc_stands_at_its_angles_and_has_the_area_of_its_pt(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"])
        total = views[2].sum(axis=0)
        axis_eta, axis_phi = np.arctanh(total[2] / np.linalg.norm(total[:3])), np.arctan2(total[1], total[0])
        for panel, p4 in enumerate(views):
            drawn = discs(figure, panel)
            # Hardest first, so that the soft ones are drawn on top.
            order = np.argsort(-np.hypot(p4[:, 0], p4[:, 1]))
            p4 = p4[order]
            deta = np.arctanh(p4[:, 2] / np.linalg.norm(p4[:, :3], axis=1)) - axis_eta
            dphi = np.angle(np.exp(1j * (np.arctan2(p4[:, 1], p4[:, 0]) - axis_phi)))
            np.testing.assert_allclose(drawn.get_offsets(), np.stack([deta, dphi], axis=1), atol=1e-9)
            share = np.hypot(p4[:, 0], p4[:, 1]) / np.hypot(*total[:2])
            big = share > 0.01
            area = drawn.get_sizes()
            np.testing.assert_allclose(area[big] / area[0], share[big] / share[0])

    def test_all_panels_have_the_same_axes_areas_and_colours(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"], radius=0.4)
        panels = figure.axes[:3]
        assert len({axes.get_xlim() + axes.get_ylim() for axes in panels}) == 1
        assert len({discs(figure, i).norm for i in range(3)}) == 1
        assert len({tuple(np.round(axes.get_position().size, 6)) for axes in panels}) == 1
        scales = [discs(figure, i).get_sizes()[0] / discs(figure, i).get_array()[0] for i in range(3)]
        assert scales == pytest.approx([scales[0]] * 3)
        circles = [axes.patches[0] for axes in panels]
        assert [(circle.center, circle.radius) for circle in circles] == [((0, 0), 0.4)] * 3

    def test_a_harder_constituent_is_darker(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"])
        plots.figure_to_png(figure)
        luminance = discs(figure, 2).get_facecolors()[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(luminance) > 0).all()

    def test_resolutions_are_named_honestly(self, views):
        particles = views[2]
        figure = plots.draw_flow([particles, particles, particles[:2], particles[:1]], [64, "kt(20)", "kt(90)", "all"])
        assert [axes.get_title() for axes in figure.axes[:4]] == [
            "N = 64: all 6 constituents",
            "kt(20): 6 subjets",
            "kt(90): 2 subjets",
            "the one constituent",
        ]

    def test_mappings_and_arrays_draw_the_same(self, views):
        as_mappings = [dict(zip(("px", "py", "pz", "E"), view.T, strict=True)) for view in views]
        one, two = (plots.draw_flow(v, [1, 2, "all"]) for v in (views, as_mappings))
        np.testing.assert_array_equal(discs(one, 2).get_offsets(), discs(two, 2).get_offsets())

    def test_constituents_take_the_colour_of_their_subjet(self, views):
        figure = plots.draw_flow(views[1:], [2, "all"], subjet_index=[[0, 0, 0, 1, 1, -1], None])
        points, rings = (c for c in figure.axes[0].collections if isinstance(c, PathCollection))
        colours = [to_hex(c) for c in points.get_facecolors()]
        assert len(set(colours[:3])) == len(set(colours[3:5])) == 1
        assert len({colours[0], colours[3], colours[5]}) == 3
        assert [to_hex(c) for c in rings.get_edgecolors()] == [colours[0], colours[3]]

    def test_what_lies_far_out_is_counted_not_hidden(self, views):
        far = np.concatenate([views[2], massless([1.0], 3.0, np.pi)])
        figure = plots.draw_flow([views[0], far], [1, "all"])
        assert [text.get_text() for text in figure.axes[1].texts] == ["1 outside"]
        assert figure.axes[0].get_xlim()[1] < 1.0

    @pytest.mark.parametrize("n", [1, 3, 4, 5, 7, 9])
    def test_any_number_of_panels_fits(self, views, n):
        figure = plots.draw_flow(views[2:] * n, ["all"] * n)
        boxes = [axes.get_position() for axes in figure.axes[:n]]
        assert all(box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1 for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v: ([], []), "0 views and 0 resolutions"),
            (lambda v: (v, [1, 2]), "3 views and 2 resolutions"),
            (lambda v: ([v[0][0]], [1]), r"views\[0\] has shape \(4,\)"),
            (lambda v: ([v[0], v[0][:0]], [1, 2]), r"views\[1\] has shape \(0, 4\)"),
            (lambda v: ([v[0], v[1] * np.nan], [1, 2]), r"views\[1\]\[0\] = \[nan.* is not finite"),
            (lambda v: ([np.array([[0, 0, 5.0, 5.0]])], [1]), r"views\[0\]\[0\] has pT = 0"),
            (lambda v: ([{"px": [1.0], "py": [1.0]}], [1]), r"views\[0\] lacks \['pz', 'E'\]"),
            (lambda v: ([massless([5, 5], 0, [0, np.pi])], ["all"]), "cancel"),
        ],
    )
    def test_bad_views_are_named(self, views, change, message):
        with pytest.raises(RinoError, match=message):
            plots.draw_flow(*change(views))

    def test_bad_radius_and_indices_are_named(self, views):
        for radius in (0.0, -1.0, np.nan):
            with pytest.raises(RinoError, match="clustering radius R > 0"):
                plots.draw_flow(views, [1, 2, "all"], radius=radius)
        for index, message in [
            ([None], "1 subjet indices for 3 views"),
            ([None, [0, 1], None], r"subjet_index\[1\] has shape \(2,\)"),
            ([None, np.zeros(6), None], r"type float64"),
            ([None, [0, 0, 0, 1, 2, 1], None], r"subjet_index\[1\]\[4\] = 2 names none of the 2 subjets"),
        ]:
            with pytest.raises(RinoError, match=message):
                plots.draw_flow(views, [1, 2, "all"], subjet_index=index)


class TestCurves:
    def test_roc_is_one_over_the_background_efficiency(self, scores):
        thin = thin_roc(*scores)
        figure = plots.roc_curves([{"name": "a", "domain": "target", "auc": 0.93, **thin}])
        (axes,) = figure.axes
        line = next(line for line in axes.lines if len(line.get_xdata()) > 2)
        eps_b = np.array(thin["background_efficiency"])
        known = eps_b * 1000 >= 10
        assert 0 < known.sum() < known.size
        np.testing.assert_allclose(line.get_ydata(), 1 / eps_b[known])
        np.testing.assert_allclose(line.get_xdata(), np.array(thin["signal_efficiency"])[known])
        assert axes.get_yscale() == "log"
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a  (AUC 0.930)"]

    def test_a_tagger_has_one_colour_in_all_panels(self, scores):
        thin = thin_roc(*scores)
        curves = [{"name": n, "domain": d, **thin} for d in ("target", "source") for n in ("a", "b")]
        figure = plots.roc_curves(curves)
        assert [axes.get_title() for axes in figure.axes] == ["target", "source"]
        colours = [[text.get_color() for text in axes.get_legend().get_lines()] for axes in figure.axes]
        assert colours[0] == colours[1]
        assert len(set(colours[0])) == 2

    def test_score_panels_show_shares_threshold_and_median(self, scores):
        histogram = score_histogram(*scores)
        panels = [{"name": n, "domain": d, **histogram} for d in ("target", "source") for n in ("a", "b", "c")]
        figure = plots.score_distributions(panels[:-1])
        assert [axes.get_visible() for axes in figure.axes] == [True] * 5 + [False]
        axes = figure.axes[0]
        assert {line.get_xdata()[0] for line in axes.lines} == {0.5, histogram["median"]}
        filled = [patch for patch in axes.patches if patch.get_fill()]
        assert [patch.get_data().values.sum() for patch in filled] == pytest.approx([1, 1])
        np.testing.assert_allclose(filled[1].get_data().values * 1000, histogram["signal"])

    def test_training_curves_draw_what_is_there(self):
        n = 50
        history = {
            "epoch": np.arange(n),
            "loss": np.linspace(3, 1, n),
            "teacher_entropy": np.full(n, 1.5),
            "other": np.ones(n),
        }
        figure = plots.training_curves(history, n_prototypes=16)
        assert [axes.get_title() for axes in figure.axes] == ["loss", "teacher entropy [nats]"]
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), history["loss"])
        assert figure.axes[1].lines[1].get_ydata()[0] == pytest.approx(np.log(16))
        assert figure.axes[0].get_xlabel() == "epoch"

    def test_every_column_of_a_pretraining_history_has_its_panel(self):
        columns = ["loss", "dino", "koleo", "teacher_entropy", "prototype_entropy", "lr", "momentum"]
        columns += ["teacher_temperature", "gradient_norm"]
        figure = plots.training_curves({name: [1.0, 2.0] for name in ("step", "epoch", "seconds", *columns)})
        assert sum(len(axes.lines) for axes in figure.axes) == len(columns)
        assert figure.axes[0].get_xlabel() == "step"

    def test_records_and_columns_draw_the_same(self):
        records = [{"step": i, "loss": 3.0 - i} | ({"koleo": 1.0} if i else {}) for i in range(3)]
        figure = plots.training_curves(records)
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [3, 2, 1])
        np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [np.nan, 1, 1])

    def test_long_histories_are_smoothed_over_the_raw_line(self):
        n = 1000
        noise = np.random.default_rng(0).normal(size=n)
        noise[500:510] = np.nan
        figure = plots.training_curves({"step": np.arange(n), "loss": 5 + noise, "momentum": np.linspace(0, 1, n)})
        raw, smooth = figure.axes[0].lines
        np.testing.assert_array_equal(raw.get_ydata(), 5 + noise)
        assert smooth.get_ydata()[100] == pytest.approx(5 + noise[90:111].mean())
        assert smooth.get_ydata()[0] == pytest.approx(5 + noise[:11].mean())
        assert np.isfinite(smooth.get_ydata()).all()
        assert len(figure.axes[1].lines) == 1

    def test_pca_has_a_panel_per_domain_and_per_class(self):
        rng = np.random.default_rng(0)
        groups = [
            {"class": c, "domain": d, "points": rng.normal(size=(20, 2))}
            for d in ("target", "source")
            for c in ("QCD", "top")
        ]
        figure = plots.embedding_pca(groups, [0.4, 0.2])
        assert [axes.get_title() for axes in figure.axes] == ["target", "source", "QCD", "top"]
        for axes, chosen in zip(figure.axes, [(0, 1), (2, 3), (0, 2), (1, 3)], strict=True):
            drawn = axes.collections[0].get_offsets()
            expected = np.concatenate([groups[i]["points"] for i in chosen])
            np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(expected, axis=0))
        assert "40%" in figure.axes[0].get_xlabel()
        assert len(plots.embedding_pca(groups[:2]).axes) == 1

    def test_similarity_shows_every_number_on_one_scale(self):
        same, other = np.array([[1.0, 0.75], [0.75, 1.0]]), np.array([[-0.25, 0.0], [0.0, 0.125]])
        figure = plots.similarity_matrix(same, [4, "all"], other)
        left, right = figure.axes[:2]
        assert [text.get_text() for text in left.texts] == ["1.00", "0.75", "0.75", "1.00"]
        assert [text.get_text() for text in right.texts] == ["-0.25", "0.00", "0.00", "0.12"]
        assert left.images[0].get_clim() == right.images[0].get_clim() == (-0.25, 1.0)
        assert [tick.get_text() for tick in left.get_yticklabels()] == ["4", "all"]

    @pytest.mark.parametrize(
        "names", [["all"], [2, "all"], [1, 2, 4, "all"], [1, 2, 3, 4, 8, 16, "fraction:0.05", "all"]]
    )
    def test_no_word_of_a_similarity_is_cut_off(self, names):
        one = np.eye(len(names))
        for figure in (plots.similarity_matrix(one, names), plots.similarity_matrix(one, names, one / 2)):
            FigureCanvasAgg(figure).draw()
            for text in figure.findobj(Text):
                box = text.get_window_extent()
                assert not text.get_text() or (min(box.min) >= 0 and (box.max <= figure.bbox.max).all()), text

    def test_bad_input_is_named(self, scores):
        thin, histogram = thin_roc(*scores), score_histogram(*scores)
        cases = [
            (plots.roc_curves, ([],), "curves is empty"),
            (plots.roc_curves, ([{"name": "a", "domain": "b"}],), r"curves\[0\] lacks \['signal_efficiency'"),
            (
                plots.roc_curves,
                ([{"name": "a", "domain": "b", **thin, "background_efficiency": [1.0]}],),
                r"curves\[0\]: signal_efficiency has shape \(199,\)",
            ),
            (plots.score_distributions, ([],), "panels is empty"),
            (
                plots.score_distributions,
                ([{"name": "a", "domain": "b", **histogram, "signal": [1]}],),
                r"panels\[0\]\['signal'\] has shape \(1,\) for 41 edges",
            ),
            (
                plots.embedding_pca,
                ([{"class": "a", "domain": "b", "points": np.ones((3, 3))}],),
                r"groups\[0\]",
            ),
            (plots.training_curves, ({},), "history is empty"),
            (plots.training_curves, ({"step": [0], "los": [1.0]},), r"has only \['los', 'step'\]"),
            (plots.training_curves, ({"step": [0, 1], "loss": [1.0]},), "shapes"),
            (plots.similarity_matrix, (np.ones((2, 3)), [1, 2]), r"shape \(2, 3\) for 2 resolutions"),
            (plots.similarity_matrix, (np.ones((2, 2)), [1, 2], np.full((2, 2), np.nan)), "different jets"),
        ]
        for function, arguments, message in cases:
            with pytest.raises(RinoError, match=message):
                function(*arguments)


class TestSaving:
    def test_png_has_the_asked_resolution(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"])
        png = plots.figure_to_png(figure, dpi=50)
        assert png.startswith(b"\x89PNG\r\n")
        width = int.from_bytes(png[16:20], "big")
        assert width == pytest.approx(figure.get_figwidth() * 50, abs=1)

    def test_svg_is_xml_without_a_date(self, views):
        svg = plots.figure_to_svg(plots.draw_flow(views, [1, 2, "all"]))
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "<dc:date>" not in svg
        assert plots.figure_to_data_uri(plots.draw_flow(views, [1, 2, "all"])).startswith("data:image/svg+xml;base64,")

    def test_a_notebook_shows_it_without_pyplot(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"])
        assert figure._repr_png_().startswith(b"\x89PNG")

    def test_figures_can_be_copied_and_pickled(self, views):
        figure = plots.draw_flow(views, [1, 2, "all"])
        again = pickle.loads(pickle.dumps(figure))
        assert again.get_suptitle() == figure.get_suptitle()
        assert again._repr_png_() == figure._repr_png_()
        assert copy.deepcopy(figure)._repr_png_.args[0] is not figure


def test_no_global_setting_is_touched(views, scores):
    before = dict(mpl.rcParams)
    plots.figure_to_svg(plots.draw_flow(views, [1, 2, "all"]))
    plots.figure_to_png(plots.score_distributions([{"name": "a", "domain": "b", **score_histogram(*scores)}]))
    assert dict(mpl.rcParams) == before


def modules_after(statement: str) -> set[str]:
    """Which heavy modules a fresh interpreter holds after a statement."""
    heavy = {"matplotlib", "matplotlib.pyplot", "sklearn", "scipy", "jinja2"}
    check = f"import sys; {statement}; print(*({heavy!r} & set(sys.modules)))"
    return set(subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split())


def test_heavy_packages_are_imported_only_when_needed():
    assert modules_after("import pyrino.plots, pyrino.evaluate, pyrino.report") == set()


def test_drawing_does_not_import_pyplot():
    draw = "from pyrino import plots; plots.figure_to_png(plots.draw_flow([[[1.0, 0, 0, 1.0]]], ['all']))"
    assert modules_after(draw) == {"matplotlib"}
