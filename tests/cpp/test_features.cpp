#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/jets/features.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/normalization.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/tokens/tokenizer.hpp>
#include <rino/tokens/tokens.hpp>
#include <rino/tokens/view_tokenizer.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/resolution.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/hardest.hpp>
#include <rino/views/view_generator.hpp>

#include "catch.hpp"

namespace {

using rino::FourMomentum;
using rino::Jets;
using rino::Tokens;
using Wide = std::array<long double, 4>;

template <typename Scalar>
Wide widen(const FourMomentum<Scalar>& p) {
  return {p[0], p[1], p[2], p[3]};
}

/// The definitions, in long double: pseudorapidity as a logarithm, azimuths brought together by whole turns.
long double pt_of(const Wide& p) {
  return std::sqrt(p[0] * p[0] + p[1] * p[1]);
}
long double eta_of(const Wide& p) {
  const long double momentum = std::sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]);
  return std::log((momentum + p[2]) / (momentum - p[2])) / 2;
}
long double phi_of(const Wide& p) {
  return std::atan2(p[1], p[0]);
}

/// Token features of subjet `p` of a jet with momentum `jet`, seen in a view whose sum is `view`.
std::array<long double, 11> reference_features(const Wide& p, const Wide& jet, const Wide& view) {
  constexpr long double pi = std::numbers::pi_v<long double>;
  const long double d_eta = eta_of(p) - eta_of(view);
  long double d_phi = phi_of(p) - phi_of(view);
  while (d_phi > pi) {
    d_phi -= 2 * pi;
  }
  while (d_phi <= -pi) {
    d_phi += 2 * pi;
  }
  return {p[0],
          p[1],
          p[2],
          p[3],
          std::log(pt_of(p)),
          std::log(p[3]),
          std::log(pt_of(p) / pt_of(jet)),
          std::log(p[3] / jet[3]),
          std::sqrt(d_eta * d_eta + d_phi * d_phi),
          d_eta,
          d_phi};
}

/// Jets whose constituents are the given rows (px, py, pz, E).
template <typename Scalar = double>
Jets<Scalar> jets_of(const std::vector<std::vector<std::array<double, 4>>>& content) {
  std::array<std::vector<Scalar>, 4> columns;
  std::vector<std::int64_t> offsets{0};
  for (const auto& jet : content) {
    for (const auto& p : jet) {
      for (std::size_t c = 0; c < 4; ++c) {
        columns[c].push_back(static_cast<Scalar>(p[c]));
      }
    }
    offsets.push_back(offsets.back() + static_cast<std::int64_t>(jet.size()));
  }
  return Jets<Scalar>::from_columns(std::move(columns), std::move(offsets));
}

/// Three jets of 3, 1 and 2 constituents.
template <typename Scalar = double>
Jets<Scalar> three_jets() {
  return jets_of<Scalar>(
      {{{30, 40, 12, 60}, {3, 4, 0, 5}, {-1, 2, 2, 3}}, {{0, 20, 99, 101}}, {{-60, -1, 10, 61}, {-60, 1, -10, 61}}});
}

/// Means and deviations of the token features, arXiv:2509.07486.
const std::array<std::pair<double, double>, 11> kWorkshop{{{0, 25},
                                                           {0, 25},
                                                           {0, 25},
                                                           {0, 25},
                                                           {1.5, 1.5},
                                                           {1.5, 1.5},
                                                           {-4.5, 1.5},
                                                           {-5, 1.5},
                                                           {0.3, 0.2},
                                                           {0, 0.3},
                                                           {0, 0.3}}};

}  // namespace

TEST_CASE("the features of a token are the eleven of the paper: worked by hand", "[features]") {
  // pT 5 in a jet of pT 10, on a right angle to it; E 5 of 20; at rest along the beam, so eta 0.
  const FourMomentum<double> p(0, 5, 0, 5);
  const FourMomentum<double> jet(10, 0, 0, 20);
  const auto frame = rino::JetFrame<double>::make(jet, jet);
  const auto features = rino::token_features(p, frame);
  const double quarter = std::numbers::pi / 2;
  const std::array<double, 11> expected{
      0, 5, 0, 5, std::log(5.0), std::log(5.0), -std::log(2.0), -2 * std::log(2.0), quarter, 0.0, quarter};
  for (std::size_t f = 0; f < 11; ++f) {
    INFO(rino::kTokenFeatures[f]);
    CHECK(std::abs(features[f] - expected[f]) < 1e-15);
  }
  const auto whole = rino::jet_features(jet);
  CHECK(whole == std::array<double, 4>{std::log(20.0), std::log(10.0), 0.0, 0.0});
}

TEMPLATE_TEST_CASE("token and jet features agree with their definitions in long double", "[features]", float, double) {
  using Scalar = TestType;
  const Jets<Scalar> jets = rino::toy_shower<Scalar>({.jets = 100}, 5);
  constexpr double epsilon = std::numeric_limits<Scalar>::epsilon();
  double worst = 0.0;
  double worst_jet = 0.0;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    // The view's sum lacks the last constituent, as if it had gone to the beam: axis and scale then differ.
    const FourMomentum<Scalar> jet = jets.four_momentum(j);
    const bool alone = jets.multiplicity(j) == 1;
    const FourMomentum<Scalar> view = alone ? jet : FourMomentum<Scalar>(jet - jets.constituent(jets.end(j) - 1));
    const auto frame = rino::JetFrame<Scalar>::make(jet, view);
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      const auto features = rino::token_features(jets.constituent(i), frame);
      const auto expected = reference_features(widen(jets.constituent(i)), widen(jet), widen(view));
      for (std::size_t f = 0; f < 11; ++f) {
        // Differences of logarithms and angles below 10 cannot be better than the roundings of these.
        const double scale = std::max(10.0, std::abs(static_cast<double>(expected[f])));
        worst = std::max(worst, static_cast<double>(std::abs(features[f] - expected[f])) / scale);
      }
    }
    const auto whole = rino::jet_features(jet);
    const Wide wide = widen(jet);
    const std::array<long double, 4> expected{std::log(wide[3]), std::log(pt_of(wide)), eta_of(wide), phi_of(wide)};
    for (std::size_t f = 0; f < 4; ++f) {
      worst_jet = std::max(worst_jet, static_cast<double>(std::abs(whole[f] - expected[f])) / 10.0);
    }
  }
  CHECK(worst < 2 * epsilon);
  CHECK(worst_jet < epsilon);
}

TEST_CASE("relative pT and E are of the jet, angles of the view's axis", "[features]") {
  const FourMomentum<double> jet(100, 0, 0, 150);
  const FourMomentum<double> view(0, 50, 0, 60);  // the rest merged with the beam
  const auto features =
      rino::token_features(FourMomentum<double>(0, 10, 0, 15), rino::JetFrame<double>::make(jet, view));
  CHECK(std::abs(features[6] - std::log(0.1)) < 1e-15);
  CHECK(std::abs(features[7] - std::log(0.1)) < 1e-15);
  CHECK(std::abs(features[10]) < 1e-15);
}

TEST_CASE("delta phi goes the short way across pi", "[features]") {
  const FourMomentum<double> above(-1, 0.1, 0, 2);
  const FourMomentum<double> below(-1, -0.1, 0, 2);
  const auto features = rino::token_features(below, rino::JetFrame<double>::make(above, above));
  CHECK(std::abs(features[10] - 2 * std::atan(0.1)) < 1e-15);
}

TEMPLATE_TEST_CASE("a particle along the beam or at rest has finite features", "[features]", float, double) {
  using Scalar = TestType;
  const FourMomentum<Scalar> jet(100, 0, 0, 150);
  const auto frame = rino::JetFrame<Scalar>::make(jet, jet);
  const auto forward = rino::token_features(FourMomentum<Scalar>(0, 0, 7, 7), frame);
  CHECK(forward[9] == 20);
  CHECK(std::abs(forward[4] - std::log(1e-10)) < 1e-5);
  CHECK(rino::token_features(FourMomentum<Scalar>(0, 0, -7, 7), frame)[9] == -20);
  const auto nothing = rino::token_features(FourMomentum<Scalar>(0, 0, 0, 0), frame);
  CHECK(std::abs(nothing[5] - std::log(1e-10)) < 1e-5);
  CHECK(nothing[9] == 0);
  const auto beam_frame =
      rino::JetFrame<Scalar>::make(FourMomentum<Scalar>(0, 0, 5, 5), FourMomentum<Scalar>(0, 0, 5, 5));
  for (const auto& features : {forward, nothing, rino::token_features(jet, beam_frame)}) {
    CHECK(std::all_of(features.begin(), features.end(), [](Scalar x) { return std::isfinite(x); }));
  }
  for (const Scalar x : rino::jet_features(FourMomentum<Scalar>(0, 0, 0, 0))) {
    CHECK(std::isfinite(x));
  }
}

TEST_CASE("feature sets are the eleven, the seven without momenta, and the five relative ones", "[features]") {
  const auto names = [](rino::FeatureSet set) {
    std::vector<std::string_view> found;
    for (const std::size_t f : rino::feature_indices(set)) {
      found.push_back(rino::kTokenFeatures[f]);
    }
    return found;
  };
  using Names = std::vector<std::string_view>;
  CHECK(names(rino::FeatureSet::full) == Names(rino::kTokenFeatures.begin(), rino::kTokenFeatures.end()));
  CHECK(names(rino::FeatureSet::logarithmic) ==
        Names{"log_pt", "log_e", "log_pt_rel", "log_e_rel", "delta_r", "delta_eta", "delta_phi"});
  CHECK(names(rino::FeatureSet::relative) == Names{"log_pt_rel", "log_e_rel", "delta_r", "delta_eta", "delta_phi"});
}

TEST_CASE("normalisations carry the published means and deviations", "[features]") {
  using rino::Normalization;
  const double pi = std::numbers::pi;
  const std::array<std::pair<double, double>, 11> production{{{0, 25},
                                                              {0, 25},
                                                              {0, 25},
                                                              {0, 25},
                                                              {1.7, 1.8},
                                                              {2.0, 1.8},
                                                              {-4.7, 1.8},
                                                              {-4.7, 1.8},
                                                              {0.14, 0.25},
                                                              {0, 0.14},
                                                              {0, 0.14}}};
  for (std::size_t f = 0; f < 11; ++f) {
    INFO(rino::kTokenFeatures[f]);
    const auto workshop = rino::token_normalization(Normalization::workshop)[f];
    CHECK((std::pair{workshop.mean, workshop.deviation} == kWorkshop[f]));
    const auto other = rino::token_normalization(Normalization::production)[f];
    CHECK((std::pair{other.mean, other.deviation} == production[f]));
  }
  const std::array<std::pair<double, double>, 4> jet_workshop{{{7, 1}, {6.5, 0.5}, {0, 2}, {0, pi}}};
  const std::array<std::pair<double, double>, 4> jet_production{{{6.7, 0.5}, {6.4, 0.25}, {0, 1.3}, {0, pi}}};
  for (std::size_t f = 0; f < 4; ++f) {
    INFO(rino::kJetFeatures[f]);
    const auto workshop = rino::jet_normalization(Normalization::workshop)[f];
    CHECK((std::pair{workshop.mean, workshop.deviation} == jet_workshop[f]));
    const auto other = rino::jet_normalization(Normalization::production)[f];
    CHECK((std::pair{other.mean, other.deviation} == jet_production[f]));
  }
  CHECK(rino::Standardize{1.5, 2.0}(4.5) == 1.5);
}

TEST_CASE("tokens hold every view's jets in their order, with the features of their constituents", "[tokens]") {
  const Jets<double> jets = three_jets();
  // Of the second view only the first constituent of each jet is left.
  const Jets<double> hardest = jets_of({{{30, 40, 12, 60}}, {{0, 20, 99, 101}}, {{-60, -1, 10, 61}}});
  const std::vector<Jets<double>> views{jets, hardest};
  const Tokens tokens = rino::tokenize<double>(jets, std::span(views), {});

  CHECK(tokens.sequences() == 6);
  CHECK(tokens.offsets == std::vector<std::int64_t>{0, 3, 4, 6, 7, 8, 9});
  CHECK(tokens.view == std::vector<std::int64_t>{0, 0, 0, 1, 1, 1});
  CHECK(tokens.jet == std::vector<std::int64_t>{0, 1, 2, 0, 1, 2});
  CHECK(tokens.view_sizes() == std::vector<std::int64_t>{3, 3});
  CHECK(tokens.length(2) == 2);
  CHECK(tokens.first(2) == 4);
  CHECK(tokens.features.sizes() == at::IntArrayRef({9, 11}));
  CHECK(tokens.jet_features.sizes() == at::IntArrayRef({6, 4}));
  CHECK(tokens.features.scalar_type() == at::kDouble);

  double worst = 0.0;
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    const Jets<double>& view = views[static_cast<std::size_t>(tokens.view[static_cast<std::size_t>(s)])];
    const std::int64_t j = tokens.jet[static_cast<std::size_t>(s)];
    const Wide jet = widen(jets.four_momentum(j));
    REQUIRE(tokens.length(s) == view.multiplicity(j));
    for (std::int64_t i = 0; i < view.multiplicity(j); ++i) {
      const auto expected =
          reference_features(widen(view.constituent(view.begin(j) + i)), jet, widen(view.four_momentum(j)));
      for (std::size_t f = 0; f < 11; ++f) {
        const auto found = tokens.features[tokens.first(s) + i][static_cast<std::int64_t>(f)].item<double>();
        const auto [mean, deviation] = kWorkshop[f];
        worst = std::max(worst, std::abs(found - (static_cast<double>(expected[f]) - mean) / deviation));
      }
    }
    const double log_pt = static_cast<double>(std::log(pt_of(jet)));
    CHECK(std::abs(tokens.jet_features[s][1].item<double>() - (log_pt - 6.5) / 0.5) < 1e-14);
    CHECK(std::abs(tokens.jet_features[s][3].item<double>() - static_cast<double>(phi_of(jet)) / std::numbers::pi) <
          1e-15);
  }
  CHECK(worst < 1e-13);
}

TEST_CASE("tokens do not depend on threads, their type is asked for, and feature sets pick columns", "[tokens]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 20}, 9);
  const std::vector<Jets<double>> views{jets, rino::hardest(jets, 5)};
  const Tokens full = rino::tokenize<double>(jets, std::span(views), {});
  const Tokens threaded = rino::tokenize<double>(jets, std::span(views), {}, 3);
  CHECK(threaded.features.equal(full.features));
  CHECK(threaded.jet_features.equal(full.jet_features));
  const Tokens single = rino::tokenize(jets, std::span(views), {});
  CHECK(single.features.scalar_type() == at::kFloat);
  CHECK(single.features.equal(full.features.to(at::kFloat)));
  CHECK(full.to(at::kFloat).jet_features.equal(single.jet_features));
  CHECK(full.to(at::kFloat).jet == full.jet);
  const Tokens seven = rino::tokenize<double>(jets, std::span(views), {.features = rino::FeatureSet::logarithmic});
  CHECK(seven.features.equal(full.features.slice(1, 4)));
  const Tokens five = rino::tokenize<double>(jets, std::span(views), {.features = rino::FeatureSet::relative});
  CHECK(five.features.equal(full.features.slice(1, 6)));

  const Tokens other =
      rino::tokenize<double>(jets, std::span(views), {.normalization = rino::Normalization::production});
  const at::Tensor log_pt = full.features.select(1, 4) * 1.5 + 1.5;
  CHECK(((log_pt - 1.7) / 1.8).allclose(other.features.select(1, 4), 0, 1e-14));
}

TEST_CASE("tokens have the same bits with every instruction set, and the formulas' values at the edges", "[tokens]") {
  // Along the beam, at rest, massless, at the seam of phi, so small or large that squares leave the range of double.
  std::vector<std::vector<std::array<double, 4>>> edges{
      {{0, 0, 5, 5}, {1, 0, 0, 1}, {0, 0, -5, 5}},
      {{0, 0, 0, 1}, {3, 4, 0, 5}},
      {{-5, 0, 1, 6}, {-5, -1e-17, 1, 6}, {-5, 1e-17, 1, 6}, {-5, -0.0, 2, 6}},
      {{1e-200, 2e-200, 1e-200, 3e-200}, {1, 1, 1, 2}},
      {{1e200, 2e200, -1e200, 3e200}},
      {{1e-3, 0, 1e6, 1e6}, {0, 1e-9, -1e6, 1e6}},
      {{-0.0, 0.0, 3, 3}, {0.0, -2, 1e-12, 2}},
      {{1e-11, 0, 0, 1e-11}}};
  Jets<double> jets = jets_of(edges);
  SECTION("edges") {}
  SECTION("many jets") {
    jets = rino::toy_shower<double>({.jets = 50}, 12);
  }
  const std::vector<Jets<double>> views{jets, rino::hardest(jets, 2)};
  const rino::TokenizerOptions options;
  const Tokens tokens = rino::tokenize<double>(jets, std::span(views), options);
  for (const rino::simd::Target target : rino::simd::supported_targets()) {
    const Tokens other = rino::tokenize<double>(jets, std::span(views), options, 2, target);
    CHECK(other.features.equal(tokens.features));
    CHECK(other.jet_features.equal(tokens.jet_features));
  }
  const auto norm = rino::token_normalization(options.normalization);
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    const Jets<double>& view = views[static_cast<std::size_t>(tokens.view[static_cast<std::size_t>(s)])];
    const std::int64_t j = tokens.jet[static_cast<std::size_t>(s)];
    const auto frame = rino::JetFrame<double>::make(jets.four_momentum(j), view.four_momentum(j));
    for (std::int64_t i = 0; i < view.multiplicity(j); ++i) {
      const auto expected = rino::token_features(view.constituent(view.begin(j) + i), frame);
      for (std::size_t f = 0; f < 11; ++f) {
        CAPTURE(j, i, rino::kTokenFeatures[f]);
        const double wanted = norm[f](expected[f]);
        const auto found = tokens.features[tokens.first(s) + i][static_cast<std::int64_t>(f)].item<double>();
        CHECK(std::abs(found - wanted) <= 1e-13 * std::max(1.0, std::abs(wanted)));
      }
    }
  }
}

TEST_CASE("tokens of no jets are empty, views of other jets an error", "[tokens]") {
  const std::vector<Jets<double>> none{Jets<double>(), Jets<double>()};
  const Tokens tokens = rino::tokenize(Jets<double>(), std::span(none), {});
  CHECK(tokens.sequences() == 0);
  CHECK(tokens.features.sizes() == at::IntArrayRef({0, 11}));
  const Jets<double> jets = three_jets();
  const std::vector<Jets<double>> views{jets, jets.slice(0, 2)};
  CHECK(says(error_of([&] { rino::tokenize(jets, std::span(views), {}); }), "view 1 has 2 jets of 3", "ViewGenerator"));
}

TEST_CASE("rows are a view's sequences in the order of their jets, first_views cuts the others off", "[tokens]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 15}, 3);
  const std::vector<Jets<double>> views{rino::hardest(jets, 30), jets, rino::hardest(jets, 2)};
  const Tokens tokens = rino::tokenize(jets, std::span(views), {});
  for (std::int64_t v = 0; v < 3; ++v) {
    const at::Tensor rows = tokens.rows(v);
    REQUIRE(rows.size(0) == 15);
    for (std::int64_t j = 0; j < 15; ++j) {
      const auto s = static_cast<std::size_t>(rows[j].item<std::int64_t>());
      CHECK(tokens.view[s] == v);
      CHECK(tokens.jet[s] == j);
    }
  }
  CHECK(at::cat({tokens.rows(0), tokens.rows(1), tokens.rows(2)}).equal(at::arange(45)));
  CHECK(says(error_of([&] { (void)tokens.rows(3); }), "view 3", "of 3", "count from 0"));
  CHECK(says(error_of([&] { (void)tokens.rows(-1); }), "view -1"));
  const std::vector<Jets<double>> no_jets{jets.slice(0, 0)};
  CHECK(rino::tokenize(no_jets[0], std::span(no_jets), {}).rows(0).size(0) == 0);
  const Tokens two = tokens.first_views(2);
  const Tokens alone = rino::tokenize(jets, std::span(views).first(2), {});
  CHECK(two.features.equal(alone.features));
  CHECK(two.jet_features.equal(alone.jet_features));
  CHECK(two.offsets == alone.offsets);
  CHECK(two.view == alone.view);
  CHECK(two.jet == alone.jet);
  CHECK(tokens.first_views(3).features.equal(tokens.features));
}

TEST_CASE("padding and packing again gives the same tokens", "[tokens]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 15}, 4);
  const std::vector<Jets<double>> views{jets};
  const Tokens tokens = rino::tokenize(jets, std::span(views), {});
  const auto [features, mask] = tokens.padded();
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < 15; ++s) {
    longest = std::max(longest, tokens.length(s));
  }
  CHECK(features.sizes() == at::IntArrayRef({15, longest, 11}));
  CHECK(mask.sizes() == at::IntArrayRef({15, longest}));
  CHECK(mask.scalar_type() == at::kBool);
  for (std::int64_t s = 0; s < 15; ++s) {
    const std::int64_t length = tokens.length(s);
    CHECK(mask[s].slice(0, 0, length).all().item<bool>());
    CHECK_FALSE(mask[s].slice(0, length).any().item<bool>());
    CHECK(features[s].slice(0, 0, length).equal(tokens.features.narrow(0, tokens.first(s), length)));
    CHECK(features[s].slice(0, length).eq(0).all().item<bool>());
  }
  const Tokens back = Tokens::from_padded(features, mask, tokens.jet_features);
  CHECK(back.features.equal(tokens.features));
  CHECK(back.jet_features.equal(tokens.jet_features));
  CHECK(back.offsets == tokens.offsets);
  CHECK(back.view == std::vector<std::int64_t>(15, 0));
  std::vector<std::int64_t> in_order(15);
  std::iota(in_order.begin(), in_order.end(), std::int64_t{0});
  CHECK(back.jet == in_order);
}

TEST_CASE("padded input keeps its order of jets, and padding may stand anywhere", "[tokens]") {
  const at::Tensor features = at::arange(12, at::kFloat).view({2, 3, 2});
  const at::Tensor mask = at::tensor({1, 0, 1, 0, 1, 0}, at::kLong).view({2, 3}).to(at::kBool);
  const Tokens tokens = Tokens::from_padded(features, mask, at::zeros({2, 4}));
  CHECK(tokens.offsets == std::vector<std::int64_t>{0, 2, 3});
  CHECK(tokens.features.equal(at::tensor({0., 1., 4., 5., 8., 9.}, at::kFloat).view({3, 2})));
}

TEST_CASE("padded input that does not fit is an error that says what to give", "[tokens]") {
  const at::Tensor features = at::zeros({2, 3, 11});
  const at::Tensor mask = at::ones({2, 3}, at::kBool);
  const at::Tensor jet = at::zeros({2, 4});
  const auto error = [](const at::Tensor& f, const at::Tensor& m, const at::Tensor& j) {
    return error_of([&] { Tokens::from_padded(f, m, j); });
  };
  CHECK(error(features, mask, jet) == "(no error)");
  CHECK(says(error(features[0], mask, jet), "2, 2 and 2 dimensions", "[S, N, F]"));
  CHECK(says(error(features, mask.slice(1, 1), jet), "[2, 3, 11]", "[2, 2]", "do not fit"));
  CHECK(says(error(features, mask, at::zeros({3, 4})), "[3, 4]", "do not fit"));
  CHECK(says(error(features, mask.to(at::kFloat), jet), "Float", "give bool"));
  const at::Tensor hole = mask.clone();
  hole[1].fill_(false);
  CHECK(says(error(features, hole, jet), "sequence 1", "no token"));
}

TEST_CASE("the view tokenizer selects, boosts, clusters and tokenizes", "[tokens][views]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 12, .top_fraction = 0.5}, 8);
  const std::vector<rino::Resolution> resolutions{rino::subjets(2), rino::subjets(8), rino::particles()};
  const rino::ViewTokenizerOptions options{.algorithm = rino::Clustering::cambridge,
                                           .radius = 0.6,
                                           .max_constituents = 20,
                                           .boost_to_pt = 750.0,
                                           .features = rino::FeatureSet::logarithmic,
                                           .normalization = rino::Normalization::production};
  const rino::ViewTokenizer tokenizer(options);
  CHECK(tokenizer.width() == 7);
  CHECK(tokenizer.options() == options);
  const Tokens tokens = tokenizer.operator()<double>(jets, resolutions);

  // The whole jet is boosted; of it those are kept that were its hardest before.
  const Jets<double> whole = rino::boost_to_pt(jets, 750.0);
  std::vector<double> rows(static_cast<std::size_t>(jets.constituents()));
  std::iota(rows.begin(), rows.end(), 0.0);
  const Jets<double> marked = rino::hardest(jets.with_extra("row", rows), 20);
  std::array<std::vector<double>, 4> kept;
  for (const double row : *marked.extras().at("row")) {
    for (std::size_t c = 0; c < 4; ++c) {
      kept[c].push_back(whole.columns()[c].data[static_cast<std::int64_t>(row) * whole.columns()[c].stride]);
    }
  }
  const auto prepared = Jets<double>::from_columns(kept, marked.offsets());
  const auto views = rino::ViewGenerator<double, rino::CambridgeAachen>(resolutions, {.radius = 0.6})(prepared);
  const Tokens expected = rino::tokenize<double>(
      whole, std::span(views),
      {.features = rino::FeatureSet::logarithmic, .normalization = rino::Normalization::production});
  CHECK(tokens.features.equal(expected.features));
  CHECK(tokens.jet_features.equal(expected.jet_features));
  CHECK(tokens.offsets == expected.offsets);
  CHECK(tokens.jet == expected.jet);
  CHECK(tokens.jet_features.select(1, 1).allclose(at::full({36}, (std::log(750.0) - 6.4) / 0.25, at::kDouble)));
  CHECK(tokenizer.operator()<double>(jets, resolutions, 3).features.equal(tokens.features));
}

TEST_CASE("relative to the kept constituents is what a jet of these alone is", "[tokens][views]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 12, .top_fraction = 0.5}, 8);
  const std::vector<rino::Resolution> resolutions{rino::subjets(2), rino::particles()};
  const double boost = GENERATE(0.0, 750.0);
  const std::int64_t most = GENERATE(0, 20);
  const auto tokens = [&](const Jets<double>& some, std::int64_t kept, rino::RelativeTo relative_to) {
    return rino::ViewTokenizer({.max_constituents = kept, .relative_to = relative_to, .boost_to_pt = boost})
        .operator()<double>(some, resolutions);
  };
  const Tokens found = tokens(jets, most, rino::RelativeTo::kept);
  const Tokens expected = tokens(most > 0 ? rino::hardest(jets, most) : jets, 0, rino::RelativeTo::jet);
  CHECK(found.features.equal(expected.features));
  CHECK(found.jet_features.equal(expected.jet_features));
  CHECK(found.jet == expected.jet);
  CHECK(tokens(jets, most, rino::RelativeTo::jet).features.equal(found.features) == (most == 0));
}

TEST_CASE("the view tokenizer takes each algorithm by its name", "[tokens][views]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 8}, 2);
  const std::vector<rino::Resolution> four{rino::subjets(4)};
  const auto features = [&](rino::Clustering algorithm) {
    return rino::ViewTokenizer({.algorithm = algorithm}).operator()<double>(jets, four).features;
  };
  const auto expected = [&](const auto& generator) {
    const auto views = generator(jets);
    return rino::tokenize<double>(jets, std::span(views), {}).features;
  };
  CHECK(features(rino::Clustering::kt).equal(expected(rino::ViewGenerator<double, rino::Kt>(four))));
  CHECK(
      features(rino::Clustering::cambridge).equal(expected(rino::ViewGenerator<double, rino::CambridgeAachen>(four))));
  CHECK(features(rino::Clustering::antikt).equal(expected(rino::ViewGenerator<double, rino::AntiKt>(four))));
  CHECK_FALSE(features(rino::Clustering::kt).equal(features(rino::Clustering::antikt)));
}

TEST_CASE("view tokenizer options out of range are errors", "[tokens]") {
  CHECK(says(error_of([] { rino::ViewTokenizer({.max_constituents = -1}); }), "max_constituents is -1", "0 for all"));
  CHECK(says(error_of([] { rino::ViewTokenizer({.boost_to_pt = -5.0}); }), "boost_to_pt is -5", "0 for off"));
  const Jets<double> jets = three_jets();
  CHECK(says(error_of([&] { rino::ViewTokenizer({.radius = 0.0})(jets, {rino::subjets(2)}); }), "0"));
}
