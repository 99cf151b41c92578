"""Jets that count by their weights, in every figure of merit: against scikit-learn, SciPy, and jets repeated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import pyrino as rino
from pyrino import RinoError, evaluate, plots
from pyrino.evaluate.domains import compare_variables

N = 400
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, N)
SCORES = np.round(np.clip(0.5 + 0.2 * (LABELS - 0.5) + 0.2 * RNG.standard_normal(N), 0, 1), 2)  # with ties
WEIGHTS = RNG.exponential(size=N)
COUNTS = RNG.integers(0, 4, N)


def repeated(*columns: np.ndarray) -> list[np.ndarray]:
    """Each jet as often as `COUNTS` says."""
    return [np.repeat(column, COUNTS, axis=0) for column in columns]


def test_figures_of_two_classes_are_those_of_scikit_learn():
    w = WEIGHTS
    called = SCORES >= 0.5
    assert evaluate.accuracy(SCORES, LABELS, weights=w) == pytest.approx(
        theirs.accuracy_score(LABELS, called, sample_weight=w), rel=1e-12
    )
    assert evaluate.roc_auc(SCORES, LABELS, weights=w) == pytest.approx(
        theirs.roc_auc_score(LABELS, SCORES, sample_weight=w), rel=1e-12
    )
    background, signal, thresholds = theirs.roc_curve(LABELS, SCORES, sample_weight=w, drop_intermediate=False)
    mine = evaluate.roc_curve(SCORES, LABELS, weights=w)
    np.testing.assert_allclose(mine.background_efficiency, background, atol=1e-12)
    np.testing.assert_allclose(mine.signal_efficiency, signal, atol=1e-12)
    np.testing.assert_array_equal(mine.thresholds, thresholds)
    expected = np.interp(0.5, signal, background)
    assert evaluate.background_efficiency(SCORES, LABELS, 0.5, weights=w) == pytest.approx(expected, rel=1e-9)
    assert evaluate.rejection(SCORES, LABELS, 0.5, weights=w) == pytest.approx(1 / expected, rel=1e-9)


def test_whole_weights_are_repeated_jets():
    scores, labels = repeated(SCORES, LABELS)
    for metric in (evaluate.accuracy, evaluate.accuracy_at_median, evaluate.roc_auc, evaluate.rejection):
        assert metric(SCORES, LABELS, weights=COUNTS) == pytest.approx(metric(scores, labels), rel=1e-12)
    mine, plain = evaluate.thin_roc(SCORES, LABELS, weights=COUNTS), evaluate.thin_roc(scores, labels)
    np.testing.assert_allclose(mine["background_efficiency"], plain["background_efficiency"], atol=1e-12)
    mine, plain = evaluate.score_histogram(SCORES, LABELS, weights=COUNTS), evaluate.score_histogram(scores, labels)
    assert (mine["signal"], mine["background"]) == (plain["signal"], plain["background"])
    assert mine["median"] == pytest.approx(plain["median"], abs=0.011)  # between two scores, or at the lower


def test_weights_of_one_change_nothing():
    ones = np.ones(N)
    assert evaluate.tagger_metrics(SCORES, LABELS, 3, weights=ones) == evaluate.tagger_metrics(SCORES, LABELS, 3)
    assert evaluate.tagger_metrics(SCORES, LABELS, 3, weights=2 * ones) == evaluate.tagger_metrics(SCORES, LABELS, 3)


def test_jets_of_weight_0_are_left_out():
    some = COUNTS > 0
    mine = evaluate.tagger_metrics(SCORES, LABELS, 3, weights=COUNTS)
    assert mine == evaluate.tagger_metrics(SCORES[some], LABELS[some], 3, weights=COUNTS[some])


def test_errors_are_those_of_the_effective_number_of_jets():
    found = evaluate.tagger_metrics(SCORES, LABELS, 1, n=2000, weights=WEIGHTS)
    a = found["accuracy"]
    right = (SCORES >= 0.5) == LABELS
    # Each class is drawn by itself: the classes' shares of the weight fluctuate, too, as their weights are drawn.
    deviation = np.sqrt(np.sum((WEIGHTS * (right - a["value"])) ** 2)) / WEIGHTS.sum()
    assert a["error"] == pytest.approx(deviation, rel=0.1)
    value, error = evaluate.bootstrap(evaluate.roc_auc, SCORES, LABELS, 300, 1, weights=WEIGHTS)
    assert value == found["auc"]["value"] and error == pytest.approx(found["auc"]["error"], rel=0.15)


def test_a_bound_counts_the_effective_background():
    scores = np.where(LABELS == 1, 0.9, 0.1)
    w = WEIGHTS[LABELS == 0]
    n = w.sum() ** 2 / (w**2).sum()
    found = evaluate.tagger_metrics(scores, LABELS, n=2, weights=WEIGHTS)["rejection_at_0.5"]
    assert found["lower_bound"] and found["value"] == pytest.approx(1 / (1 - 0.05 ** (1 / n)), rel=1e-9)
    assert evaluate.thin_roc(scores, LABELS, weights=WEIGHTS)["n_background"] == int(n)


def test_figures_of_several_classes_are_those_of_scikit_learn():
    y = RNG.integers(0, 3, N)
    p = RNG.dirichlet(np.ones(3), N) + 0.4 * np.eye(3)[y]
    found = evaluate.class_metrics(p, y, n=2, weights=WEIGHTS)
    called = p.argmax(axis=1)
    assert found["accuracy"]["value"] == pytest.approx(theirs.accuracy_score(y, called, sample_weight=WEIGHTS))
    assert found["balanced_accuracy"]["value"] == pytest.approx(
        theirs.balanced_accuracy_score(y, called, sample_weight=WEIGHTS)
    )
    aucs = [theirs.roc_auc_score(y == c, p[:, c], sample_weight=WEIGHTS) for c in range(3)]
    assert found["macro_auc"]["value"] == pytest.approx(np.mean(aucs))
    expected = theirs.confusion_matrix(y, called, sample_weight=WEIGHTS, normalize="true")
    np.testing.assert_allclose(evaluate.confusion_matrix(p, y, weights=WEIGHTS), expected)


def test_figures_of_a_regression_are_those_of_repeated_jets():
    truth = RNG.normal(100, 20, N)
    predicted = truth + RNG.normal(2, 5, N)
    found = evaluate.regression_metrics(predicted, truth, n=2, weights=COUNTS)
    plain = evaluate.regression_metrics(*repeated(predicted, truth), n=2)
    for name in ("bias", "resolution", "explained"):
        assert found[name]["value"] == pytest.approx(plain[name]["value"], rel=1e-12)
    assert found["half_width_68"]["value"] == pytest.approx(plain["half_width_68"]["value"], rel=0.02)


def test_a_linear_probe_is_the_weighted_logistic_regression_of_scikit_learn():
    z = RNG.standard_normal((N, 3)) + LABELS[:, None]
    found = evaluate.linear_probe(z, LABELS, folds=2, seed=4, weights=WEIGHTS)
    from sklearn.model_selection import StratifiedKFold

    aucs = []
    for fit, test in StratifiedKFold(2, shuffle=True, random_state=4).split(z, LABELS):
        scaler = StandardScaler().fit(z[fit])
        w = WEIGHTS / WEIGHTS.mean()
        model = LogisticRegression(max_iter=2000).fit(scaler.transform(z[fit]), LABELS[fit], sample_weight=w[fit])
        p = model.predict_proba(scaler.transform(z[test]))[:, 1]
        aucs.append(theirs.roc_auc_score(LABELS[test], p, sample_weight=WEIGHTS[test]))
    assert found["auc"]["folds"] == pytest.approx(aucs)
    with pytest.raises(RinoError, match="weights and test are both given"):
        evaluate.linear_probe(z, LABELS, weights=WEIGHTS, test=(z, LABELS))


def test_two_samples_are_compared_by_their_weights():
    a = {"pt": RNG.normal(600, 50, N), "eta": RNG.normal(0, 1, N)}
    b = {"pt": RNG.normal(620, 60, 300), "eta": RNG.normal(0, 1, 300)}
    found = compare_variables(a, b, weights=(COUNTS, None), classifier=False)
    (many,) = repeated(a["pt"])
    pt = found.table[0]
    assert pt.mean == pytest.approx((many.mean(), b["pt"].mean()))
    assert pt.std[0] == pytest.approx(many.std(), rel=0.01)
    assert pt.ks == pytest.approx(stats.ks_2samp(many, b["pt"]).statistic, rel=1e-12)
    assert pt.wasserstein == pytest.approx(stats.wasserstein_distance(a["pt"], b["pt"], COUNTS, None))
    effective = COUNTS.sum() ** 2 / (COUNTS**2).sum()
    root = np.sqrt(effective * 300 / (effective + 300))
    assert pt.ks_p == pytest.approx(stats.kstwobign.sf(pt.ks * root))
    assert found.to_dict()["effective_jets"] == [pytest.approx(effective), 300]
    assert f"400 weighted jets (as many as {effective:.0f} of one weight)" in repr(found)
    assert len(found.plot().axes) == 4


def test_weights_that_undo_a_difference_hide_it_from_the_classifier():
    """Both of one distribution, of which the first sample has been thinned; its weights are one over the thinning."""
    rng = np.random.default_rng(1)
    x = rng.uniform(500, 1000, 8000)
    first = x[:4000][rng.uniform(size=4000) < (x[:4000] / 1000) ** 3]
    second = x[4000:]
    a, b = ({"pt": pt, "eta": rng.normal(0, 1, len(pt))} for pt in (first, second))
    plain = compare_variables(a, b)
    weighted = compare_variables(a, b, weights=((1000 / first) ** 3, None))
    assert plain.table[0].auc > 0.6 > 0.53 > weighted.table[0].auc
    assert plain.separation["value"] > 0.58 > 0.54 > weighted.separation["value"]


def test_compare_takes_columns_of_jets():
    jets = [rino.toy_jets(120, seed) for seed in (1, 2)]
    w = np.arange(120.0)
    found = rino.compare(*jets, weights=(w, None), classifier=False)
    assert found.table[0].mean[0] == pytest.approx(np.average(jets[0].pt, weights=w))


def test_pictures_show_shares_of_the_weight():
    x = RNG.normal(0, 1, N)
    figure = plots.distributions({"a": {"x": x}}, weights={"a": COUNTS})
    plain = plots.distributions({"a": {"x": x[COUNTS > 0]}})
    areas = []
    for picture in (figure, plain):
        stairs = picture.axes[0].patches[-1].get_data()
        areas.append(np.sum(stairs.values * np.diff(stairs.edges)))
    assert areas == pytest.approx([1, 1], abs=0.02)
    edges = figure.axes[0].patches[-1].get_data().edges
    expected = np.histogram(x, edges, weights=COUNTS)[0] / COUNTS.sum() / np.diff(edges)
    np.testing.assert_allclose(figure.axes[0].patches[-1].get_data().values, expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"weights have shape \(3,\) for 400 jets"),
        (np.where(np.arange(N) == 7, -1.0, 1.0), r"weights\[7\] = -1\.0 is negative or not finite"),
        (np.where(np.arange(N) == 7, np.nan, 1.0), r"weights\[7\] = nan is negative or not finite"),
        (1.0 - LABELS, "all weights of label 1 are 0"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(RinoError, match=message):
        evaluate.tagger_metrics(SCORES, LABELS, weights=weights)
    with pytest.raises(RinoError, match=message):
        evaluate.roc_auc(SCORES, LABELS, weights=weights)
    with pytest.raises(RinoError, match=message):
        evaluate.class_metrics(np.stack([1 - SCORES, SCORES], axis=1), LABELS, weights=weights)


def test_wrong_weights_of_two_samples_are_named():
    a = {"pt": np.ones(4), "eta": np.ones(4)}
    with pytest.raises(RinoError, match=r"weights of B have shape \(3,\) for 4 jets"):
        compare_variables(a, a, weights=(None, np.ones(3)))
    with pytest.raises(RinoError, match="all weights of A are 0"):
        compare_variables(a, a, weights=(np.zeros(4), None))
    with pytest.raises(RinoError, match="give two"):
        compare_variables(a, a, weights=np.ones(4))
