"""Figures of merit and probes, against scikit-learn, SciPy, analytic results and numbers counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from pyrino.errors import RinoError
from pyrino.evaluate import (
    accuracy,
    accuracy_at_median,
    background_efficiency,
    boosted_trees,
    bootstrap,
    combine_seeds,
    effective_rank,
    kinematics_explained,
    knn,
    linear_probe,
    principal_components,
    rejection,
    roc_auc,
    roc_curve,
    score_histogram,
    similarity_along_flow,
    tagger_metrics,
    thin_roc,
)
from pyrino.evaluate.metrics import HEADLINE_METRICS, rejection_name


def gaussian_classes(n: int, separation: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return rng.normal(size=n) + separation * labels, labels


@pytest.fixture(params=["distinct", "tied", "two values"])
def sample(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = gaussian_classes(501, 1.5)
    if request.param == "tied":
        scores = np.round(scores, 1)
    if request.param == "two values":
        scores = (scores > 0.8).astype(float)
    return scores, labels


# Scores and labels small enough to count: signal at 5, 4, 2 and background at 3, 2, 1.
FEW_SCORES = np.array([5.0, 4.0, 3.0, 2.0, 2.0, 1.0])
FEW_LABELS = np.array([1, 1, 0, 1, 0, 0])


class TestMetrics:
    def test_accuracy_is_scikit_learns(self, sample):
        scores, labels = sample
        for threshold in (0.5, 1.0, scores[3]):
            assert accuracy(scores, labels, threshold) == reference.accuracy_score(labels, scores >= threshold)

    def test_a_score_at_the_threshold_is_called_signal(self):
        assert accuracy([0.5, 0.4], [1, 0]) == 1.0
        assert accuracy([0.5, 0.4], [0, 1]) == 0.0

    def test_roc_curve_and_area_are_scikit_learns(self, sample):
        scores, labels = sample
        eps_b, eps_s, thresholds = reference.roc_curve(labels, scores, drop_intermediate=False)
        curve = roc_curve(scores, labels)
        np.testing.assert_allclose(curve.background_efficiency, eps_b, atol=1e-14)
        np.testing.assert_allclose(curve.signal_efficiency, eps_s, atol=1e-14)
        np.testing.assert_array_equal(curve.thresholds, thresholds)
        assert roc_auc(scores, labels) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-14)

    def test_area_is_the_mann_whitney_statistic(self):
        u = stats.mannwhitneyu(FEW_SCORES[FEW_LABELS == 1], FEW_SCORES[FEW_LABELS == 0]).statistic
        assert roc_auc(FEW_SCORES, FEW_LABELS) == pytest.approx(u / 9)

    def test_background_efficiency_counted_by_hand(self):
        # Two of three signal jets pass at 4, where no background does; the third shares its score with one of
        # the two background jets that pass then.
        assert background_efficiency(FEW_SCORES, FEW_LABELS, 2 / 3) == 0.0
        assert background_efficiency(FEW_SCORES, FEW_LABELS, 1.0) == pytest.approx(2 / 3)
        # Half of the last group of signal: half way from 1/3 to 2/3.
        assert background_efficiency(FEW_SCORES, FEW_LABELS, 5 / 6) == pytest.approx(1 / 2)
        assert rejection(FEW_SCORES, FEW_LABELS, 1.0) == pytest.approx(3 / 2)

    def test_a_signal_efficiency_is_met_in_spite_of_rounding(self):
        # Three of ten signal jets, then background. 0.1 * 3 is 0.30000000000000004.
        labels = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
        assert background_efficiency(-np.arange(13.0), labels, 0.1 * 3) == 0.0

    def test_rejection_of_gaussian_classes(self):
        scores, labels = gaussian_classes(200_000, 2.0)
        for efficiency in (0.3, 0.5, 0.7):
            eps_b = stats.norm.sf(2.0 - stats.norm.ppf(efficiency))
            assert background_efficiency(scores, labels, efficiency) == pytest.approx(eps_b, rel=0.05)
            assert rejection(scores, labels, efficiency) == pytest.approx(1 / eps_b, rel=0.05)

    def test_random_scores_reject_by_the_signal_efficiency_alone(self):
        labels = np.arange(10) % 2
        assert rejection(np.zeros(10), labels, 0.25) == pytest.approx(4.0)

    def test_rejection_without_passing_background_is_the_binomial_bound(self):
        scores, labels = np.arange(200.0), np.arange(200) >= 100
        bound = rejection(scores, labels)
        # The largest eps_B that still leaves a 5% chance of no background jet out of 100.
        upper = stats.binomtest(0, 100).proportion_ci(confidence_level=0.90, method="exact").high
        assert bound == pytest.approx(1 / upper)
        assert (1 - 1 / bound) ** 100 == pytest.approx(0.05)

    def test_accuracy_at_median_does_not_see_a_common_shift(self):
        scores, labels = gaussian_classes(4000, 2.0)
        assert accuracy_at_median(scores, labels) == accuracy_at_median(np.exp(scores) + 7, labels)
        assert accuracy_at_median(scores, labels) == accuracy(scores, labels, float(np.median(scores)))
        assert accuracy_at_median(scores, labels) == pytest.approx(stats.norm.cdf(1.0), abs=0.02)

    def test_accuracy_at_median_splits_ties_in_proportion(self):
        assert accuracy_at_median(np.ones(8), np.arange(8) % 2) == 0.5
        # Half of five jets are called signal: the upper two and half of the third.
        assert accuracy_at_median([5, 4, 3, 2, 1], [1, 1, 1, 0, 0]) == pytest.approx(0.9)
        # Saturated scores: of the four at 1, three are signal; all of the called half come from them.
        labels = [1, 1, 1, 0, 0, 0]
        expected = (3 * 3 / 4 + 1 / 4 + 2) / 6
        assert accuracy_at_median([1, 1, 1, 1, 0.5, 0.2], labels) == pytest.approx(expected)

    def test_perfect_and_inverted(self):
        scores, labels = np.arange(10.0), np.arange(10) >= 5
        assert (roc_auc(scores, labels), roc_auc(-scores, labels)) == (1.0, 0.0)
        assert (accuracy_at_median(scores, labels), accuracy_at_median(-scores, labels)) == (1.0, 0.0)

    def test_thin_curve_lies_on_the_curve(self):
        scores, labels = gaussian_classes(2001, 1.0)
        thin = thin_roc(scores, labels, points=9)
        assert thin["signal_efficiency"] == pytest.approx(np.arange(1, 10) / 10)
        expected = [background_efficiency(scores, labels, x) for x in thin["signal_efficiency"]]
        assert thin["background_efficiency"] == pytest.approx(expected)
        assert thin["n_background"] == 1001

    def test_histogram_counts_every_jet(self):
        histogram = score_histogram([0.0, 0.1, 0.5, 0.99, 1.0], [0, 0, 1, 1, 1], bins=4)
        assert histogram["edges"] == [0, 0.25, 0.5, 0.75, 1]
        assert (histogram["background"], histogram["signal"]) == ([2, 0, 0, 0], [0, 0, 1, 2])
        assert histogram["median"] == 0.5


class TestErrors:
    def test_error_of_the_accuracy_is_binomial(self):
        scores, labels = gaussian_classes(2000, 2.0)
        value, error = bootstrap(lambda s, y: accuracy(s, y, 1.0), scores, labels, n=2000, seed=5)
        # Each class has its own binomial error, since the class sizes are fixed.
        per_class = [np.mean((scores[labels == c] >= 1.0) == c) for c in (0, 1)]
        expected = np.sqrt(sum(p * (1 - p) / 1000 for p in per_class)) / 2
        assert value == accuracy(scores, labels, 1.0)
        # The bootstrap's own error with n resamplings is 1/sqrt(2n), 1.6%: four of these.
        assert error == pytest.approx(expected, rel=0.065)

    def test_error_of_the_area_is_delongs(self):
        scores, labels = gaussian_classes(4000, 1.5)
        area, error = bootstrap(roc_auc, scores, labels, n=1000, seed=1)
        # DeLong's variance, from the placement of every jet among the other class.
        signal, background = scores[labels == 1], scores[labels == 0]
        over = np.searchsorted(np.sort(background), signal) / background.size
        under = 1 - np.searchsorted(np.sort(signal), background) / signal.size
        delong = np.sqrt(over.var(ddof=1) / signal.size + under.var(ddof=1) / background.size)
        assert area == roc_auc(scores, labels)
        assert error == pytest.approx(delong, rel=0.1)

    def test_tagger_metrics_agree_with_each_metric_and_its_bootstrap(self):
        scores, labels = gaussian_classes(1000, 1.2, seed=3)
        scores = np.round(scores, 1)
        found = tagger_metrics(scores, labels, seed=2, n=600, threshold=0.6)
        assert set(HEADLINE_METRICS) <= set(found)
        metrics = {
            "accuracy": lambda s, y: accuracy(s, y, 0.6),
            "accuracy_at_median": accuracy_at_median,
            "auc": roc_auc,
        }
        for name, metric in metrics.items():
            value, error = bootstrap(metric, scores, labels, n=600, seed=9)
            assert found[name]["value"] == pytest.approx(value, abs=1e-12)
            assert found[name]["error"] == pytest.approx(error, rel=0.15)
        for efficiency in (0.3, 0.5, 0.7):
            entry = found[rejection_name(efficiency)]
            eps_b, sigma = bootstrap(lambda s, y, e=efficiency: background_efficiency(s, y, e), scores, labels, n=600)
            assert entry["value"] == pytest.approx(rejection(scores, labels, efficiency))
            assert entry["error"] == pytest.approx(sigma / eps_b**2, rel=0.15)
            assert "lower_bound" not in entry

    def test_a_rejection_without_passing_background_is_marked_as_a_bound(self):
        scores, labels = np.linspace(0, 1, 400), np.arange(400) >= 200
        entry = tagger_metrics(scores, labels, n=5)["rejection_at_0.5"]
        assert entry == {"value": rejection(scores, labels), "error": None, "lower_bound": True}

    def test_the_seed_decides(self):
        scores, labels = gaussian_classes(300, 1.0)
        assert bootstrap(roc_auc, scores, labels, seed=4) == bootstrap(roc_auc, scores, labels, seed=4)
        assert bootstrap(roc_auc, scores, labels, seed=4) != bootstrap(roc_auc, scores, labels, seed=5)
        assert tagger_metrics(scores, labels, 4) == tagger_metrics(scores, labels, 4)
        assert tagger_metrics(scores, labels, 4) != tagger_metrics(scores, labels, 5)

    def test_seeds_are_combined_by_their_mean(self):
        one = {"auc": {"value": 0.90, "error": 0.02}, "rejection_at_0.5": {"value": 50.0, "error": 5.0}}
        two = {
            "auc": {"value": 0.94, "error": 0.04},
            "rejection_at_0.5": {"value": 70.0, "error": None, "lower_bound": True},
        }
        both = combine_seeds([one, two])
        assert both["auc"] == {
            "value": pytest.approx(0.92),
            "error": pytest.approx(0.03),
            "seed_values": [0.90, 0.94],
        }
        assert both["rejection_at_0.5"]["lower_bound"] is True
        assert both["rejection_at_0.5"]["error"] is None
        assert combine_seeds([one]) == one


class TestBadScores:
    @pytest.mark.parametrize(
        ("scores", "labels", "message"),
        [
            ([0.1, np.nan, 0.3], [0, 1, 1], r"scores\[1\] = nan is not finite"),
            ([0.1, np.inf], [0, 1], r"scores\[1\] = inf"),
            ([[0.1, 0.9]], [1], r"shape \(1, 2\)"),
            ([0.1, 0.9], [0, 1, 1], r"labels have shape \(3,\) beside 2 scores"),
            ([0.1, 0.9], [1, 1], r"no background \(0\) jet"),
            ([0.1, 0.9], [0, 0], r"no signal \(1\) jet"),
            ([0.1, 0.9], [0, 2], r"labels\[1\] = 2 is neither 0 .* nor 1"),
            ([], [], r"no signal"),
        ],
    )
    def test_are_named(self, scores, labels, message):
        for metric in (accuracy, accuracy_at_median, roc_curve, roc_auc, rejection, tagger_metrics, thin_roc):
            with pytest.raises(RinoError, match=message):
                metric(scores, labels)

    @pytest.mark.parametrize("efficiency", [0.0, -0.1, 1.1, np.nan])
    def test_efficiency_outside_its_range(self, efficiency):
        with pytest.raises(RinoError, match=r"signal_efficiency = .* outside \(0, 1\]"):
            rejection([0.1, 0.9], [0, 1], efficiency)

    def test_arguments_outside_their_range(self):
        good = ([0.1, 0.9], [0, 1])
        with pytest.raises(RinoError, match="threshold = nan"):
            accuracy(*good, threshold=np.nan)
        with pytest.raises(RinoError, match="threshold = nan"):
            tagger_metrics(*good, n=2, threshold=np.nan)
        with pytest.raises(RinoError, match="n = 1 resamplings"):
            bootstrap(roc_auc, *good, n=1)
        with pytest.raises(RinoError, match="not finite on the sample"):
            bootstrap(lambda s, y: np.nan, *good)
        with pytest.raises(RinoError, match=r"scores\[0\] = -3.0 is not a probability"):
            score_histogram([-3.0, 0.5], [0, 1])
        with pytest.raises(RinoError, match="no seed"):
            combine_seeds([])
        with pytest.raises(RinoError, match=r"same metrics: \['auc'\]"):
            combine_seeds([{"auc": {"value": 1.0, "error": 0.0}}, {}])


PROBES = [knn, linear_probe, boosted_trees]


def clouds(n: int, dimension: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return rng.normal(size=(n, dimension)) + distance * labels[:, None] / np.sqrt(dimension), labels


class TestProbes:
    @pytest.mark.parametrize("probe", PROBES)
    def test_separable_classes_are_separated(self, probe):
        score = probe(*clouds(200, 4, 20.0))
        assert score["accuracy"]["value"] == 1.0
        assert score["auc"]["value"] == 1.0
        assert score["auc"]["error"] == 0.0

    @pytest.mark.parametrize("probe", PROBES)
    def test_noise_is_a_coin(self, probe):
        score = probe(*clouds(600, 3, 0.0))
        assert abs(score["auc"]["value"] - 0.5) < 0.07

    def test_linear_probe_reaches_the_likelihood_ratio(self):
        score = linear_probe(*clouds(6000, 5, 1.5, seed=2))
        assert score["auc"]["value"] == pytest.approx(stats.norm.cdf(1.5 / np.sqrt(2)), abs=0.015)
        assert score["accuracy"]["value"] == pytest.approx(stats.norm.cdf(0.75), abs=0.015)

    def test_knn_is_scikit_learns_in_its_protocol(self):
        from sklearn.model_selection import StratifiedKFold, cross_val_score
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, y = clouds(300, 4, 1.0)
        x[:, 0] *= 100
        model = make_pipeline(StandardScaler(), KNeighborsClassifier(7))
        folds = cross_val_score(model, x, y, cv=StratifiedKFold(4, shuffle=True, random_state=3), scoring="roc_auc")
        found = knn(x, y, k=7, folds=4, seed=3)["auc"]
        assert found["folds"] == pytest.approx(folds)
        assert found["value"] == pytest.approx(folds.mean())
        assert found["error"] == pytest.approx(folds.std(ddof=1))

    @pytest.mark.parametrize("probe", PROBES)
    def test_transfer_fits_on_one_sample_and_tests_on_the_other(self, probe):
        source, target = clouds(200, 3, 20.0), clouds(100, 3, 20.0, seed=1)
        assert probe(*source, test=target)["accuracy"]["value"] == 1.0
        # The target's classes the other way round: what was learned on the source is then wrong everywhere.
        assert probe(*source, test=(target[0], 1 - target[1]))["accuracy"]["value"] == 0.0

    @pytest.mark.parametrize("probe", PROBES)
    def test_the_seed_decides_and_threads_do_not(self, probe):
        sample = clouds(120, 3, 1.0)
        assert probe(*sample, folds=2, seed=1) == probe(*sample, folds=2, seed=1, threads=2)
        assert probe(*sample, folds=2, seed=1) != probe(*sample, folds=2, seed=2)

    def test_bad_input_is_named(self):
        x, y = clouds(40, 3, 1.0)
        broken = x.copy()
        broken[7, 2] = np.nan
        cases = [
            ((broken, y), {}, r"embeddings\[7, 2\] = nan is not finite \(1 of 40 jets"),
            ((x[0], y), {}, r"embeddings have shape \(3,\)"),
            ((x, y[:-1]), {}, r"labels have shape \(39,\) beside 40 embeddings"),
            ((x, np.ones(40)), {}, r"no background"),
            ((x, y), {"folds": 21}, r"folds = 21 with 20 jets"),
            ((x, y), {"folds": 1}, r"folds = 1 "),
            ((x, y), {"threads": 0}, r"threads = 0"),
            ((x, y), {"test": (x[:, :2], y)}, r"test embeddings have 2 dimensions"),
            ((x, y), {"test": (broken, y)}, r"test embeddings\[7, 2\] = nan"),
        ]
        for probe in PROBES:
            for arguments, options, message in cases:
                with pytest.raises(RinoError, match=message):
                    probe(*arguments, **options)
        with pytest.raises(RinoError, match="k = 33 neighbours out of the 32 jets"):
            knn(x, y, k=33)


class TestKinematics:
    def sample(self, n: int = 2000) -> tuple[np.random.Generator, dict[str, np.ndarray]]:
        rng = np.random.default_rng(1)
        return rng, {
            "pt": np.exp(rng.normal(6.5, 0.2, n)),
            "eta": rng.normal(size=n),
            "mass": np.exp(rng.normal(4, 0.5, n)),
        }

    def test_an_embedding_made_of_kinematics_is_explained(self):
        rng, kinematics = self.sample()
        y = np.stack([np.log(kinematics["pt"]), kinematics["eta"], np.log(kinematics["mass"])], axis=1)
        embedding = y @ rng.normal(size=(3, 6)) + 5
        found = kinematics_explained(embedding, kinematics)
        assert found["from_embedding"] == pytest.approx({"log_pt": 1.0, "eta": 1.0, "log_mass": 1.0}, abs=1e-9)
        assert found["of_embedding"]["all"] == pytest.approx(1.0, abs=1e-9)

    def test_shares_of_variance_are_those_put_in(self):
        rng, kinematics = self.sample(20_000)
        embedding = rng.normal(size=(20_000, 3))
        # Dimension 0: variance 4, all eta. Dimension 1: variance 2, half of it log mass. Dimension 2: noise.
        embedding[:, 0] = 2 * kinematics["eta"]
        embedding[:, 1] += (np.log(kinematics["mass"]) - 4) / 0.5
        found = kinematics_explained(embedding, kinematics)
        assert found["of_embedding"] == pytest.approx(
            {"log_pt": 0.0, "eta": 4 / 7, "log_mass": 1 / 7, "all": 5 / 7}, abs=0.01
        )
        assert found["from_embedding"] == pytest.approx({"log_pt": 0.0, "eta": 1.0, "log_mass": 0.5}, abs=0.02)

    def test_many_dimensions_of_noise_explain_nothing(self):
        rng, kinematics = self.sample(400)
        found = kinematics_explained(rng.normal(size=(400, 100)), kinematics)
        assert max(found["from_embedding"].values()) < 0.05
        assert max(found["of_embedding"].values()) < 0.05

    def test_jets_boosted_to_one_pt_have_nothing_to_explain(self):
        rng, kinematics = self.sample()
        kinematics["pt"] = np.full(2000, 750.0)
        found = kinematics_explained(rng.normal(size=(2000, 4)), kinematics)
        assert (found["from_embedding"]["log_pt"], found["of_embedding"]["log_pt"]) == (0.0, 0.0)

    def test_massless_jets_are_allowed(self):
        rng, kinematics = self.sample()
        kinematics["mass"][:5] = 0
        assert np.isfinite(kinematics_explained(rng.normal(size=(2000, 4)), kinematics)["from_embedding"]["log_mass"])

    def test_bad_input_is_named(self):
        rng, kinematics = self.sample(100)
        z = rng.normal(size=(100, 4))
        cases = [
            (
                z,
                {"pt": kinematics["pt"], "eta": kinematics["eta"]},
                r"has no 'mass' \(it has \['eta', 'pt'\]\)",
            ),
            (
                z,
                kinematics | {"pt": -kinematics["pt"]},
                r"\['pt'\]\[0\] = .* is not a positive number of GeV",
            ),
            (z, kinematics | {"eta": np.full(100, np.nan)}, r"\['eta'\]\[0\] = nan is not finite"),
            (z, kinematics | {"eta": np.ones(99)}, r"\['eta'\] has shape \(99,\) beside 100 embeddings"),
            (z[:5], {name: column[:5] for name, column in kinematics.items()}, r"5 jets in 5 folds"),
            (np.ones((100, 4)), kinematics, "collapse"),
        ]
        for embedding, jets, message in cases:
            with pytest.raises(RinoError, match=message):
                kinematics_explained(embedding, jets)


class TestGeometry:
    def test_similarity_is_the_mean_over_pairs(self):
        rng = np.random.default_rng(0)
        views = [rng.normal(size=(9, 4)) + 1 for _ in range(3)]
        found = similarity_along_flow(views)
        for a in range(3):
            for b in range(3):
                cosine = reference.pairwise.cosine_similarity(views[a], views[b])
                assert found["same_jet"][a][b] == pytest.approx(np.diag(cosine).mean())
                assert found["different_jets"][a][b] == pytest.approx(cosine[~np.eye(9, dtype=bool)].mean())

    def test_collapse_is_visible(self):
        rng = np.random.default_rng(0)
        jets = rng.normal(size=(500, 16))
        knows = similarity_along_flow([jets, jets + 0.1 * rng.normal(size=jets.shape)])
        collapsed = similarity_along_flow([np.ones((500, 16)) + 0.01 * jets, np.ones((500, 16))])
        assert knows["same_jet"][0][1] > 0.98
        assert abs(knows["different_jets"][0][1]) < 0.02
        assert collapsed["same_jet"][0][1] > 0.98
        assert collapsed["different_jets"][0][1] > 0.98

    @pytest.mark.parametrize("rank", [1, 3, 8])
    def test_effective_rank_of_equal_directions_is_their_number(self, rank):
        rng = np.random.default_rng(0)
        # Orthonormal and centred columns, so that all singular values are equal.
        columns = np.linalg.qr(np.column_stack([np.ones(200), rng.normal(size=(200, rank))]))[0][:, 1:]
        directions = np.linalg.qr(rng.normal(size=(10, rank)))[0].T
        assert effective_rank(columns @ directions + 3.0) == pytest.approx(rank, rel=1e-6)

    def test_effective_rank_of_unequal_directions(self):
        columns = np.array([[1, 0], [-1, 0], [0, 3], [0, -3]], dtype=float)
        assert effective_rank(columns) == pytest.approx(np.exp(stats.entropy([1, 3])))

    def test_principal_components_are_scikit_learns(self):
        from sklearn.decomposition import PCA

        rng = np.random.default_rng(0)
        samples = [rng.normal(size=(n, 5)) * [5, 3, 1, 1, 1] + n for n in (30, 50)]
        points, explained = principal_components(samples)
        pca = PCA(2).fit(np.concatenate(samples))
        assert [p.shape for p in points] == [(30, 2), (50, 2)]
        assert explained == pytest.approx(pca.explained_variance_ratio_)
        np.testing.assert_allclose(np.abs(points[1]), np.abs(pca.transform(samples[1])), atol=1e-9)

    def test_principal_components_have_a_fixed_sign(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 3)) * [3, 2, 1]
        shuffled = x[rng.permutation(40)]
        for one in (x, shuffled):
            axis = np.linalg.lstsq(one - one.mean(axis=0), principal_components([one]).points[0], rcond=None)[0]
            assert (axis[np.abs(axis).argmax(axis=0), [0, 1]] > 0).all()

    def test_bad_input_is_named(self):
        x = np.random.default_rng(0).normal(size=(10, 3))
        with pytest.raises(RinoError, match=r"embeddings\[1\] have shape \(9, 3\), embeddings\[0\] \(10, 3\)"):
            similarity_along_flow([x, x[1:]])
        with pytest.raises(RinoError, match=r"embeddings\[0\]\[4\] is the zero vector"):
            similarity_along_flow([x * (np.arange(10) != 4)[:, None]])
        with pytest.raises(RinoError, match="1 jet has no different jet"):
            similarity_along_flow([x[:1]])
        with pytest.raises(RinoError, match="no embeddings"):
            similarity_along_flow([])
        for measure in (effective_rank, lambda z: principal_components([z])):
            with pytest.raises(RinoError, match="collapse"):
                measure(np.ones((10, 3)))
        with pytest.raises(RinoError, match="components = 4 of 10 jets in 3: give 1 to 3"):
            principal_components([x], components=4)
        with pytest.raises(RinoError, match=r"samples\[1\] has 2 dimensions"):
            principal_components([x, x[:, :2]])
        with pytest.raises(RinoError, match="no sample"):
            principal_components([])
