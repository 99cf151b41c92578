#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/views/transforms/augmentation.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/boost_along_beam.hpp>
#include <rino/views/transforms/draws.hpp>
#include <rino/views/transforms/drop_soft.hpp>
#include <rino/views/transforms/hardest.hpp>
#include <rino/views/transforms/mask_constituents.hpp>
#include <rino/views/transforms/named.hpp>
#include <rino/views/transforms/rotate.hpp>
#include <rino/views/transforms/smear.hpp>
#include <rino/views/transforms/split_collinear.hpp>
#include <rino/views/transforms/translate.hpp>

#include "catch.hpp"
#include "jet_builder.hpp"

namespace {

using rino::Draws;
using rino::FourMomentum;
using rino::Jets;
using Index = std::int64_t;
using Long = long double;
using LongMomentum = FourMomentum<Long>;
using LorentzMatrix = Eigen::Matrix<Long, 4, 4>;

constexpr double kPi = std::numbers::pi;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Toy jets whose constituents got the masses of pions, kaons, protons and nothing, with all that jets can carry.
template <typename Scalar>
Jets<Scalar> annotated_jets(Index count, std::uint64_t seed = 5) {
  const auto massless = rino::toy_shower<Scalar>({.jets = count, .top_fraction = 0.5}, seed);
  std::array<std::vector<Scalar>, 4> columns;
  std::vector<Scalar> row;
  constexpr std::array<double, 4> masses{0.0, 0.13957, 0.49368, 0.93827};
  for (Index i = 0; i < massless.constituents(); ++i) {
    const FourMomentum<Scalar> p = massless.constituent(i);
    const double momentum = std::hypot(double(p[0]), double(p[1]), double(p[2]));
    for (std::size_t c = 0; c < 3; ++c) {
      columns[c].push_back(p[static_cast<int>(c)]);
    }
    columns[3].push_back(static_cast<Scalar>(std::hypot(momentum, masses[static_cast<std::size_t>(i % 4)])));
    row.push_back(static_cast<Scalar>(i));
  }
  rino::JetOrigins origins{std::make_shared<const std::vector<std::string>>(1, "toy"), {}, {}};
  std::vector<Scalar> value;
  for (Index j = 0; j < count; ++j) {
    origins.file.push_back(0);
    origins.entry.push_back(2 * j);
    value.push_back(static_cast<Scalar>(3 * j));
  }
  return Jets<Scalar>::from_columns(std::move(columns), massless.offsets())
      .with_labels(*massless.labels())
      .with_extra("row", std::move(row))
      .with_value("value", std::move(value))
      .with_origins(std::move(origins));
}

/// `count` jets of one constituent each, at (pT, eta, phi, mass).
Jets<double> single_particles(Index count, double pt, double eta, double phi, double mass) {
  const auto size = static_cast<std::size_t>(count);
  const double momentum = pt * std::cosh(eta);
  std::vector<Index> offsets(size + 1);
  for (std::size_t j = 0; j <= size; ++j) {
    offsets[j] = static_cast<Index>(j);
  }
  return Jets<double>::from_columns(
      {std::vector<double>(size, pt * std::cos(phi)), std::vector<double>(size, pt * std::sin(phi)),
       std::vector<double>(size, pt * std::sinh(eta)), std::vector<double>(size, std::hypot(momentum, mass))},
      std::move(offsets));
}

template <typename Scalar>
LongMomentum sum(const Jets<Scalar>& jets, Index j) {
  LongMomentum result = LongMomentum::Zero();
  for (Index i = jets.begin(j); i < jets.end(j); ++i) {
    result += jets.constituent(i).template cast<Long>();
  }
  return result;
}

Long mass_squared(const LongMomentum& p) {
  return p[3] * p[3] - p.head<3>().squaredNorm();
}
Long rapidity(const LongMomentum& p) {
  return std::log((p[3] + p[2]) / (p[3] - p[2])) / 2;
}
Long phi(const LongMomentum& p) {
  return std::atan2(p[1], p[0]);
}
Long distance_squared(const LongMomentum& a, const LongMomentum& b) {
  const Long y = rapidity(a) - rapidity(b);
  const Long x = std::remainder(phi(a) - phi(b), 2 * std::numbers::pi_v<Long>);
  return y * y + x * x;
}

template <typename Scalar>
bool same_bits(const Jets<Scalar>& a, const Jets<Scalar>& b) {
  bool same = a.offsets() == b.offsets() && a.extras().size() == b.extras().size();
  for (Index i = 0; same && i < a.constituents(); ++i) {
    same = a.constituent(i) == b.constituent(i);
  }
  for (const auto& [name, values] : a.extras()) {
    same = same && b.extras().contains(name) && *values == *b.extras().at(name);
  }
  return same;
}

/// The largest difference of two batches' constituents in units of the second one's energies.
double worst_difference(const Jets<double>& jets, const Jets<double>& reference) {
  double worst = jets.offsets() == reference.offsets() ? 0.0 : kInfinity;
  for (Index i = 0; worst < 1.0 && i < jets.constituents(); ++i) {
    const FourMomentum<double> error = jets.constituent(i) - reference.constituent(i);
    worst = std::max(worst, error.lpNorm<Eigen::Infinity>() / reference.constituent(i)[3]);
  }
  return worst;
}

/// sqrt(n) times the distance of Kolmogorov and Smirnov; above kKolmogorov in one of a thousand samples of `cdf`.
template <typename Cdf>
double kolmogorov(std::vector<double> sample, const Cdf& cdf) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double worst = 0.0;
  for (std::size_t k = 0; k < sample.size(); ++k) {
    const double expected = cdf(sample[k]);
    worst = std::max(
        {worst, std::abs(expected - static_cast<double>(k) / n), std::abs(expected - static_cast<double>(k + 1) / n)});
  }
  return worst * std::sqrt(n);
}
constexpr double kKolmogorov = 1.95;

double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const Eigen::Map<const Eigen::ArrayXd> x(a.data(), static_cast<Index>(a.size()));
  const Eigen::Map<const Eigen::ArrayXd> y(b.data(), static_cast<Index>(b.size()));
  const Eigen::ArrayXd u = x - x.mean();
  const Eigen::ArrayXd v = y - y.mean();
  return (u * v).sum() / std::sqrt(u.square().sum() * v.square().sum());
}

template <typename Scalar>
using Transform = std::function<Jets<Scalar>(const Jets<Scalar>&, const Draws&, int)>;

/// Every random transform, strong.
template <typename Scalar>
std::vector<std::pair<std::string, Transform<Scalar>>> all_transforms() {
  using J = Jets<Scalar>;
  return {
      {"smear", [](const J& jets, const Draws& d, int t) { return rino::smear(jets, {.soft = 0.1}, d, t); }},
      {"rotate", [](const J& jets, const Draws& d, int t) { return rino::rotate(jets, d, t); }},
      {"translate",
       [](const J& jets, const Draws& d, int t) { return rino::translate(jets, rino::TranslateOptions{}, d, t); }},
      {"boost_along_beam",
       [](const J& jets, const Draws& d, int t) { return rino::boost_along_beam(jets, {2.0}, d, t); }},
      {"boost_jet",
       [](const J& jets, const Draws& d, int t) { return rino::boost_jet(jets, rino::BoostJetOptions{}, d, t); }},
      {"split_collinear",
       [](const J& jets, const Draws& d, int t) { return rino::split_collinear(jets, {.probability = 0.5}, d, t); }},
      {"drop_soft", [](const J& jets, const Draws& d, int t) { return rino::drop_soft(jets, {.scale = 5.0}, d, t); }},
      {"mask_constituents",
       [](const J& jets, const Draws& d, int t) { return rino::mask_constituents(jets, 0.3, d, t); }},
  };
}

}  // namespace

// ------------------------------------------------------------------------------------------------ all of them alike

TEMPLATE_TEST_CASE("transforms do not depend on threads", "[augmentations]", float, double) {
  const Jets<TestType> jets = annotated_jets<TestType>(101);
  for (const auto& [name, transform] : all_transforms<TestType>()) {
    INFO(name);
    const Jets<TestType> expected = transform(jets, {.seed = 3}, 1);
    CHECK_FALSE(same_bits(expected, jets));
    for (const int threads : {2, 7, 300}) {
      CHECK(same_bits(transform(jets, {.seed = 3}, threads), expected));
    }
  }
  CHECK(same_bits(rino::hardest(jets, 9, 4), rino::hardest(jets, 9)));
  CHECK(same_bits(rino::boost_to_pt(jets, 300.0, 4), rino::boost_to_pt(jets, 300.0)));
}

TEST_CASE("transforms draw by seed and by the jet's number in the stream", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(60);
  for (const auto& [name, transform] : all_transforms<double>()) {
    INFO(name);
    const Jets<double> whole = transform(jets, {.seed = 3}, 1);
    CHECK_FALSE(same_bits(transform(jets, {.seed = 4}, 1), whole));
    CHECK_FALSE(same_bits(transform(jets, {.seed = 3, .first_jet = 1}, 1), whole));
    const Jets<double> part = transform(jets.slice(20, 50), {.seed = 3, .first_jet = 20}, 1);
    CHECK(same_bits(part, whole.slice(20, 50)));
  }
}

TEMPLATE_TEST_CASE("what jets and constituents carry rides along", "[augmentations]", float, double) {
  const Jets<TestType> jets = annotated_jets<TestType>(50);
  for (const auto& [name, transform] : all_transforms<TestType>()) {
    INFO(name);
    const Jets<TestType> result = transform(jets, {.seed = 3}, 2);
    CHECK(result.labels() == jets.labels());
    CHECK(result.values() == jets.values());
    CHECK(result.origins() == jets.origins());
    REQUIRE(result.size() == jets.size());
    // An extra's rows are those of its own jet, in order.
    bool own = true;
    for (Index j = 0; j < result.size(); ++j) {
      double before = -1.0;
      for (Index i = result.begin(j); i < result.end(j); ++i) {
        const double row = double((*result.extras().at("row"))[static_cast<std::size_t>(i)]);
        own = own && row >= before && row >= double(jets.begin(j)) && row < double(jets.end(j));
        before = row;
      }
    }
    CHECK(own);
  }
}

TEMPLATE_TEST_CASE("transformed jets are jets: finite, E >= |p|, none empty", "[augmentations]", float, double) {
  const Jets<TestType> odd = one_jet<TestType>({{100, 20, 300, 317},
                                                {0, 0, 0, 0},
                                                {0, 0, 0, 5},
                                                {0, 0, -20, 20},
                                                {1e-30, 0, 2e-30, 3e-30},
                                                {1e-6, 1e-6, 50, 50},
                                                {-3, 0, -4, 5 * (1 - 9e-6)}});
  for (const Jets<TestType>& jets : {annotated_jets<TestType>(300), odd, Jets<TestType>(), odd.slice(0, 0)}) {
    for (const auto& [name, transform] : all_transforms<TestType>()) {
      INFO(name);
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const Jets<TestType> result = transform(jets, {.seed = seed}, 1);
        CHECK(result.size() == jets.size());
        CHECK_NOTHROW(result.check());
      }
    }
    CHECK_NOTHROW(
        rino::smear(jets, {.stochastic = 100, .constant = 10, .eta = kPi, .phi = kPi, .soft = 1e9}, {}).check());
    CHECK_NOTHROW(rino::drop_soft(jets, {.scale = 1e300}, {}).check());
    CHECK_NOTHROW(rino::drop_soft(jets, {.min_pt = 1e300}, {}).check());
    CHECK_NOTHROW(rino::mask_constituents(jets, 1.0, {}).check());
    CHECK_NOTHROW(rino::split_collinear(jets, {.probability = 1.0, .min_fraction = 1e-4}, {}).check());
    CHECK_NOTHROW(rino::boost_along_beam(jets, {8.0}, {}).check());
  }
}

// ----------------------------------------------------------------------------------------------------------- smear

TEST_CASE("smeared pT is log-normal with mean 1 and the resolution as its width", "[augmentations][statistics]") {
  const double pt = GENERATE(0.5, 4.0, 100.0);
  const Jets<double> jets = single_particles(20000, pt, 1.3, 2.0, 0.5);
  const double resolution = std::sqrt(0.3 * 0.3 / pt + 0.04 * 0.04);
  const Jets<double> smeared =
      rino::smear(jets, {.stochastic = 0.3, .constant = 0.04, .eta = 0, .phi = 0}, {.seed = 1});
  std::vector<double> logarithms;
  double mean = 0.0;
  double square = 0.0;
  double worst_angle = 0.0;
  for (Index i = 0; i < smeared.constituents(); ++i) {
    const FourMomentum<double> p = smeared.constituent(i);
    const double ratio = rino::pt(p) / pt;
    logarithms.push_back(std::log(ratio));
    mean += ratio / 20000;
    square += ratio * ratio / 20000;
    worst_angle = std::max({worst_angle, std::abs(rino::eta(p) - 1.3), std::abs(rino::phi(p) - 2.0)});
  }
  // 5 standard errors; that of the width of a log-normal is a little above the normal's sigma / sqrt(2 n).
  CHECK(std::abs(mean - 1.0) < 5 * resolution / std::sqrt(20000.0));
  CHECK(std::abs(std::sqrt(square - mean * mean) / resolution - 1.0) < 10 / std::sqrt(40000.0));
  const double width = std::sqrt(std::log(1 + resolution * resolution));
  CHECK(kolmogorov(logarithms, [&](double x) { return normal_cdf((x + width * width / 2) / width); }) < kKolmogorov);
  CHECK(worst_angle < 1e-13);
}

TEST_CASE("smeared directions are normal in eta and phi, with the soft term in quadrature",
          "[augmentations][statistics]") {
  const double soft = GENERATE(0.0, 0.1);
  const double pt = GENERATE(0.7, 30.0);
  const Jets<double> jets = single_particles(20000, pt, -0.8, 3.1, 0.5);
  const rino::SmearOptions options{.stochastic = 0, .constant = 0, .eta = 0.02, .phi = 0.03, .soft = soft};
  const Jets<double> smeared = rino::smear(jets, options, {.seed = 2});
  std::vector<double> etas;
  std::vector<double> phis;
  double worst_pt = 0.0;
  for (Index i = 0; i < smeared.constituents(); ++i) {
    const FourMomentum<double> p = smeared.constituent(i);
    etas.push_back((rino::eta(p) + 0.8) / std::hypot(0.02, soft / pt));
    phis.push_back(rino::delta_phi(rino::phi(p), 3.1) / std::hypot(0.03, soft / pt));
    worst_pt = std::max(worst_pt, std::abs(rino::pt(p) / pt - 1));
  }
  CHECK(kolmogorov(etas, normal_cdf) < kKolmogorov);
  CHECK(kolmogorov(phis, normal_cdf) < kKolmogorov);
  CHECK(std::abs(correlation(etas, phis)) < 5 / std::sqrt(20000.0));
  CHECK(worst_pt < 1e-14);
}

TEST_CASE("constituents of one jet are smeared independently", "[augmentations][statistics]") {
  // Jets of three equal constituents.
  const Jets<double> all = single_particles(30000, 10.0, 0.0, 0.0, 0.0);
  std::vector<Index> offsets;
  for (Index row = 0; row <= 30000; row += 3) {
    offsets.push_back(row);
  }
  const Jets<double> jets = Jets<double>::borrow(all.columns(), offsets, all.owner());
  const Jets<double> smeared =
      rino::smear(jets, {.stochastic = 0, .constant = 0.1, .eta = 0.1, .phi = 0.1}, {.seed = 4});
  std::array<std::vector<double>, 9> quantities;
  for (Index i = 0; i < 30000; ++i) {
    const FourMomentum<double> p = smeared.constituent(i);
    const auto member = static_cast<std::size_t>(3 * (i % 3));
    quantities[member].push_back(std::log(rino::pt(p)));
    quantities[member + 1].push_back(rino::eta(p));
    quantities[member + 2].push_back(rino::phi(p));
  }
  for (std::size_t a = 0; a < 9; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      INFO(a << " and " << b);
      CHECK(std::abs(correlation(quantities[a], quantities[b])) < 0.04);
    }
  }
}

TEST_CASE("smearing keeps masses, and without resolution it does nothing", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(200);
  const Jets<double> smeared = rino::smear(jets, {.stochastic = 0.5, .eta = 0.05, .soft = 0.1}, {.seed = 3});
  double worst = 0.0;
  for (Index i = 0; i < jets.constituents(); ++i) {
    const LongMomentum before = jets.constituent(i).cast<Long>();
    const LongMomentum after = smeared.constituent(i).cast<Long>();
    const Long energy = std::max(before[3], after[3]);
    worst =
        std::max(worst, static_cast<double>(std::abs(mass_squared(after) - mass_squared(before)) / energy / energy));
  }
  CHECK(worst < 1e-14);
  const rino::SmearOptions none{.stochastic = 0, .constant = 0, .eta = 0, .phi = 0, .soft = 0};
  CHECK(worst_difference(rino::smear(jets, none, {.seed = 3}), jets) < 1e-15);
}

TEST_CASE("the noise of pT and of angles do not change each other", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(20);
  const rino::SmearOptions both{.constant = 0.1, .eta = 0.01, .phi = 0.02};
  const rino::SmearOptions pt_only{.constant = 0.1, .eta = 0, .phi = 0};
  const Jets<double> one = rino::smear(jets, both, {.seed = 3});
  const Jets<double> two = rino::smear(jets, pt_only, {.seed = 3});
  double worst = 0.0;
  for (Index i = 0; i < jets.constituents(); ++i) {
    worst = std::max(worst, std::abs(rino::pt(one.constituent(i)) / rino::pt(two.constituent(i)) - 1));
  }
  CHECK(worst < 1e-14);
}

// ---------------------------------------------------------------------------------------------------------- rotate

TEST_CASE("rotation turns the (rapidity, phi) plane around the jet's axis", "[augmentations][reference]") {
  const Jets<double> jets = annotated_jets<double>(150);
  std::vector<double> angles;
  rino::Random random({8});
  for (Index j = 0; j < jets.size(); ++j) {
    angles.push_back(random.uniform(-7.0, 7.0));
  }
  const Jets<double> rotated = rino::rotate(jets, angles);
  double worst = 0.0;
  double worst_distance = 0.0;
  for (Index j = 0; j < jets.size(); ++j) {
    const LongMomentum jet = sum(jets, j);
    const Long angle = angles[static_cast<std::size_t>(j)];
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const LongMomentum p = jets.constituent(i).cast<Long>();
      const Long y = rapidity(p) - rapidity(jet);
      const Long x = std::remainder(phi(p) - phi(jet), 2 * std::numbers::pi_v<Long>);
      const Long new_y = rapidity(jet) + std::cos(angle) * y - std::sin(angle) * x;
      const Long new_phi = phi(jet) + std::sin(angle) * y + std::cos(angle) * x;
      const Long pt = std::hypot(p[0], p[1]);
      const Long transverse_mass = std::sqrt((p[3] - p[2]) * (p[3] + p[2]));
      const LongMomentum expected(pt * std::cos(new_phi), pt * std::sin(new_phi), transverse_mass * std::sinh(new_y),
                                  transverse_mass * std::cosh(new_y));
      const LongMomentum error = rotated.constituent(i).cast<Long>() - expected;
      worst = std::max(worst, static_cast<double>(error.lpNorm<Eigen::Infinity>() / expected[3]));
      const LongMomentum first = jets.constituent(jets.begin(j)).cast<Long>();
      const LongMomentum first_rotated = rotated.constituent(jets.begin(j)).cast<Long>();
      worst_distance =
          std::max(worst_distance,
                   static_cast<double>(std::abs(distance_squared(rotated.constituent(i).cast<Long>(), first_rotated) -
                                                distance_squared(p, first))));
    }
  }
  CHECK(worst < 1e-13);
  CHECK(worst_distance < 1e-12);
}

TEST_CASE("random angles of rotation are uniform", "[augmentations][statistics]") {
  // One hard particle on the axis and one soft one beside it, whose direction shows the angle.
  std::array<std::vector<double>, 4> columns;
  std::vector<Index> offsets{0};
  for (Index j = 0; j < 5000; ++j) {
    for (const std::array<double, 3>& p : {std::array{1e9, 0.0, 0.0}, std::array{1.0, 0.3, 0.0}}) {
      columns[0].push_back(p[0] * std::cos(p[2]));
      columns[1].push_back(p[0] * std::sin(p[2]));
      columns[2].push_back(p[0] * std::sinh(p[1]));
      columns[3].push_back(p[0] * std::cosh(p[1]));
    }
    offsets.push_back(offsets.back() + 2);
  }
  const Jets<double> rotated = rino::rotate(Jets<double>::from_columns(columns, offsets), {.seed = 6});
  std::vector<double> turns;
  for (Index j = 0; j < rotated.size(); ++j) {
    const FourMomentum<double> p = rotated.constituent(2 * j + 1);
    turns.push_back(std::atan2(rino::phi(p), rino::rapidity(p)) / (2 * kPi) + 0.5);
    CHECK(std::hypot(rino::phi(p), rino::rapidity(p)) == Approx(0.3).epsilon(1e-6));
  }
  CHECK(kolmogorov(turns, [](double x) { return x; }) < kKolmogorov);
}

TEST_CASE("constituents without a place in the plane stay under rotation", "[augmentations]") {
  const Jets<double> jets =
      one_jet<double>({{50, 0, 0, 50}, {30, 20, 10, 40}, {0, 0, 7, 7}, {0, 0, 2, 5}, {0, 0, 0, 0}});
  const Jets<double> rotated = rino::rotate(jets, std::vector<double>{1.0});
  CHECK_FALSE(rotated.constituent(1).isApprox(jets.constituent(1), 1e-3));
  for (const Index i : {2, 3, 4}) {
    CHECK(rotated.constituent(i) == jets.constituent(i));
  }
  CHECK(worst_difference(rino::rotate(jets, std::vector<double>{0.0}), jets.slice(0, 1)) < 1e-15);
}

// ------------------------------------------------------------------------------ translation and boost along the beam

TEST_CASE("translation is the Lorentz matrix of a beam boost and a rotation", "[augmentations][reference]") {
  const Jets<double> jets = annotated_jets<double>(150);
  std::vector<double> rapidities;
  std::vector<double> phis;
  rino::Random random({9});
  for (Index j = 0; j < jets.size(); ++j) {
    rapidities.push_back(random.uniform(-3.0, 3.0));
    phis.push_back(random.uniform(-7.0, 7.0));
  }
  const Jets<double> moved = rino::translate(jets, rapidities, phis);
  double worst = 0.0;
  double worst_mass = 0.0;
  double worst_distance = 0.0;
  for (Index j = 0; j < jets.size(); ++j) {
    const Long y = rapidities[static_cast<std::size_t>(j)];
    const Long x = phis[static_cast<std::size_t>(j)];
    LorentzMatrix matrix = LorentzMatrix::Zero();
    matrix.topLeftCorner<2, 2>() << std::cos(x), -std::sin(x), std::sin(x), std::cos(x);
    matrix.bottomRightCorner<2, 2>() << std::cosh(y), std::sinh(y), std::sinh(y), std::cosh(y);
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const LongMomentum expected = matrix * jets.constituent(i).cast<Long>();
      const LongMomentum error = moved.constituent(i).cast<Long>() - expected;
      // E - |pz| of the input is known to a rounding of E.
      const Long scale = std::max(expected[3], jets.constituent(i).cast<Long>()[3]);
      worst = std::max(worst, static_cast<double>(error.lpNorm<Eigen::Infinity>() / scale));
      worst_distance = std::max(
          worst_distance,
          static_cast<double>(std::abs(
              distance_squared(moved.constituent(i).cast<Long>(), moved.constituent(jets.begin(j)).cast<Long>()) -
              distance_squared(jets.constituent(i).cast<Long>(), jets.constituent(jets.begin(j)).cast<Long>()))));
    }
    const Long energy = std::max(sum(jets, j)[3], sum(moved, j)[3]);
    const Long change = mass_squared(sum(moved, j)) - mass_squared(sum(jets, j));
    worst_mass = std::max(worst_mass, static_cast<double>(std::abs(change) / energy / energy));
  }
  CHECK(worst < 1e-13);
  CHECK(worst_mass < 1e-14);
  CHECK(worst_distance < 1e-11);
}

TEST_CASE("random translations are uniform in their box", "[augmentations][statistics]") {
  const Jets<double> jets = single_particles(5000, 20.0, 0.4, 0.2, 1.0);
  const Jets<double> moved =
      rino::translate(jets, rino::TranslateOptions{.max_rapidity = 1.5, .max_phi = 0.7}, {.seed = 6});
  const double start = rino::rapidity(jets.constituent(0));
  std::vector<double> rapidities;
  std::vector<double> phis;
  for (Index i = 0; i < moved.constituents(); ++i) {
    rapidities.push_back((rino::rapidity(moved.constituent(i)) - start + 1.5) / 3.0);
    phis.push_back((rino::phi(moved.constituent(i)) - 0.2 + 0.7) / 1.4);
  }
  CHECK(kolmogorov(rapidities, [](double x) { return std::clamp(x, 0.0, 1.0); }) < kKolmogorov);
  CHECK(kolmogorov(phis, [](double x) { return std::clamp(x, 0.0, 1.0); }) < kKolmogorov);
  CHECK(std::abs(correlation(rapidities, phis)) < 5 / std::sqrt(5000.0));
}

TEST_CASE("a boost along the beam keeps pT to the last bit and shifts rapidities alike", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(150);
  std::vector<double> shifts;
  for (Index j = 0; j < jets.size(); ++j) {
    shifts.push_back(0.02 * double(j) - 1.5);
  }
  const Jets<double> boosted = rino::boost_along_beam(jets, shifts);
  bool transverse = true;
  double worst = 0.0;
  double worst_mass = 0.0;
  for (Index j = 0; j < jets.size(); ++j) {
    const auto shift = static_cast<Long>(shifts[static_cast<std::size_t>(j)]);
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const LongMomentum before = jets.constituent(i).cast<Long>();
      const LongMomentum after = boosted.constituent(i).cast<Long>();
      transverse = transverse && before[0] == after[0] && before[1] == after[1];
      worst = std::max(worst, static_cast<double>(std::abs(rapidity(after) - rapidity(before) - shift)));
      const Long energy = std::max(before[3], after[3]);
      const Long change = std::abs(mass_squared(after) - mass_squared(before));
      worst_mass = std::max(worst_mass, static_cast<double>(change / energy / energy));
    }
  }
  CHECK(transverse);
  CHECK(worst < 1e-12);
  CHECK(worst_mass < 1e-14);

  const Jets<double> drawn = rino::boost_along_beam(single_particles(5000, 20.0, 0.4, 0.2, 0.0), {2.0}, {.seed = 6});
  std::vector<double> uniform;
  for (Index i = 0; i < drawn.constituents(); ++i) {
    uniform.push_back((rino::rapidity(drawn.constituent(i)) - 0.4 + 2.0) / 4.0);
  }
  CHECK(kolmogorov(uniform, [](double x) { return std::clamp(x, 0.0, 1.0); }) < kKolmogorov);
}

// ------------------------------------------------------------------------------------------- boost along the jet's
// axis

TEST_CASE("a jet's boost by a factor is the Lorentz matrix, mass and direction stay", "[augmentations][reference]") {
  const Jets<double> jets = annotated_jets<double>(150);
  std::vector<double> factors;
  std::vector<double> to_750;
  for (Index j = 0; j < jets.size(); ++j) {
    factors.push_back(std::exp(0.04 * double(j) - 3.0));
    const LongMomentum jet = sum(jets, j);
    to_750.push_back(static_cast<double>(750 / std::hypot(jet[0], jet[1])));
  }
  const Jets<double> boosted = rino::boost_jet(jets, factors);
  double worst = 0.0;
  double worst_jet = 0.0;
  for (Index j = 0; j < jets.size(); ++j) {
    const LongMomentum jet = sum(jets, j);
    const Long momentum = jet.head<3>().norm();
    const Long target = momentum * static_cast<Long>(factors[static_cast<std::size_t>(j)]);
    // The velocity of the frame: (E p' - p E') / (E E' - p p'), which takes (E, p) to (E', p').
    const Long energy = std::sqrt(mass_squared(jet) + target * target);
    const Long beta = (jet[3] * target - momentum * energy) / (jet[3] * energy - momentum * target);
    const Long gamma = 1 / std::sqrt((1 - beta) * (1 + beta));
    const Eigen::Matrix<Long, 3, 1> axis = jet.head<3>() / momentum;
    LorentzMatrix matrix;
    matrix.topLeftCorner<3, 3>() = Eigen::Matrix<Long, 3, 3>::Identity() + (gamma - 1) * axis * axis.transpose();
    matrix.topRightCorner<3, 1>() = gamma * beta * axis;
    matrix.bottomLeftCorner<1, 3>() = gamma * beta * axis.transpose();
    matrix(3, 3) = gamma;
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const LongMomentum expected = matrix * jets.constituent(i).cast<Long>();
      const LongMomentum error = boosted.constituent(i).cast<Long>() - expected;
      const Long scale = std::max(expected[3], jets.constituent(i).cast<Long>()[3]);
      worst = std::max(worst, static_cast<double>(error.lpNorm<Eigen::Infinity>() / scale));
    }
    const LongMomentum after = sum(boosted, j);
    const Long largest = std::max(jet[3], after[3]);
    worst_jet = std::max({worst_jet, static_cast<double>((after.head<3>() - target * axis).norm() / largest),
                          static_cast<double>(std::abs(mass_squared(after) - mass_squared(jet)) / largest / largest)});
  }
  CHECK(worst < 1e-12);
  CHECK(worst_jet < 1e-13);
  CHECK(worst_difference(rino::boost_jet(jets, to_750), rino::boost_to_pt(jets, 750.0)) < 1e-13);
}

TEST_CASE("the logarithm of a random factor is uniform", "[augmentations][statistics]") {
  const Jets<double> jets = single_particles(5000, 20.0, 0.4, 0.2, 3.0);
  const Jets<double> boosted =
      rino::boost_jet(jets, rino::BoostJetOptions{.min_factor = 0.25, .max_factor = 8.0}, {.seed = 6});
  std::vector<double> uniform;
  for (Index i = 0; i < boosted.constituents(); ++i) {
    uniform.push_back((std::log2(rino::pt(boosted.constituent(i)) / 20.0) + 2.0) / 5.0);
  }
  CHECK(kolmogorov(uniform, [](double x) { return std::clamp(x, 0.0, 1.0); }) < kKolmogorov);
}

// ------------------------------------------------------------------------------------------------------- splittings

TEMPLATE_TEST_CASE("daughters are collinear and share the whole four-momentum", "[augmentations]", float, double) {
  const Jets<TestType> jets = annotated_jets<TestType>(400);
  const Jets<TestType> split = rino::split_collinear(jets, {.probability = 0.3, .min_fraction = 0.1}, {.seed = 7});
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  const std::vector<TestType>& parents = *split.extras().at("row");
  std::vector<int> daughters(static_cast<std::size_t>(jets.constituents()));
  std::vector<FourMomentum<double>> sums(daughters.size(), FourMomentum<double>::Zero());
  std::vector<double> fractions;
  double worst = 0.0;
  for (Index i = 0; i < split.constituents(); ++i) {
    const auto parent = static_cast<std::size_t>(parents[static_cast<std::size_t>(i)]);
    const FourMomentum<double> p = split.constituent(i).template cast<double>();
    const FourMomentum<double> whole = jets.constituent(static_cast<Index>(parent)).template cast<double>();
    const double z = p[3] / whole[3];
    worst = std::max(worst, (p - z * whole).lpNorm<Eigen::Infinity>() / p[3]);
    sums[parent] += p;
    if (++daughters[parent] == 2) {
      fractions.push_back(z);
    }
  }
  CHECK(worst < 2 * epsilon);
  double worst_sum = 0.0;
  bool one_or_two = true;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const FourMomentum<double> whole = jets.constituent(static_cast<Index>(i)).template cast<double>();
    worst_sum = std::max(worst_sum, ((sums[i] - whole).array().abs() / whole.array().abs().max(1e-300)).maxCoeff());
    one_or_two = one_or_two && (daughters[i] == 1 || daughters[i] == 2);
  }
  CHECK(worst_sum < 2 * epsilon);
  CHECK(one_or_two);
  const auto n = static_cast<double>(jets.constituents());
  CHECK(std::abs(static_cast<double>(fractions.size()) - 0.3 * n) < 5 * std::sqrt(0.21 * n));
  CHECK(kolmogorov(fractions, [](double z) { return std::clamp((z - 0.1) / 0.8, 0.0, 1.0); }) < kKolmogorov);
}

TEST_CASE("no constituent or every constituent splits", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(20);
  CHECK(same_bits(rino::split_collinear(jets, {.probability = 0.0}, {}), jets));
  const Jets<double> halves = rino::split_collinear(jets, {.probability = 1.0, .min_fraction = 0.5}, {});
  REQUIRE(halves.constituents() == 2 * jets.constituents());
  bool equal = true;
  for (Index i = 0; i < halves.constituents(); ++i) {
    equal = equal && halves.constituent(i) == 0.5 * jets.constituent(i / 2);
  }
  CHECK(equal);
}

// --------------------------------------------------------------------------------------------- dropping and masking

TEST_CASE("a constituent is dropped with the probability exp(-pT / scale)", "[augmentations][statistics]") {
  // A hard one that stays beside every soft one, so that the last-one rule is never asked.
  const double ratio = GENERATE(0.1, 0.7, 2.0);
  std::array<std::vector<double>, 4> columns;
  std::vector<Index> offsets{0};
  for (Index j = 0; j < 20000; ++j) {
    for (const double pt : {3.0 * ratio, 300.0}) {
      columns[0].push_back(0.6 * pt);
      columns[1].push_back(0.8 * pt);
      columns[2].push_back(-pt);
      columns[3].push_back(2.0 * pt);
    }
    offsets.push_back(offsets.back() + 2);
  }
  const auto jets = Jets<double>::from_columns(columns, offsets);
  const Jets<double> kept = rino::drop_soft(jets, {.scale = 3.0}, {.seed = 8});
  const double lost = static_cast<double>(jets.constituents() - kept.constituents());
  const double expected = std::exp(-ratio);
  CHECK(std::abs(lost - 20000 * expected) < 5 * std::sqrt(20000 * expected * (1 - expected)));
}

TEST_CASE("below the threshold all are dropped, but never the last one", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(200);
  const Jets<double> kept = rino::drop_soft(jets, {.scale = 0.0, .min_pt = 4.0}, {});
  std::vector<double> expected;
  for (Index i = 0; i < jets.constituents(); ++i) {
    if (rino::pt(jets.constituent(i)) >= 4.0) {
      expected.push_back(static_cast<double>(i));
    }
  }
  CHECK(*kept.extras().at("row") == expected);
  CHECK(same_bits(rino::drop_soft(jets, {.scale = 0.0}, {}), jets));

  const Jets<double> last = rino::drop_soft(jets, {.scale = 0.0, .min_pt = 1e9}, {});
  const Jets<double> hardest = rino::hardest(jets, 1);
  CHECK(same_bits(last, hardest));
}

TEST_CASE("masking removes the fraction on average, every constituent alike, and leaves one",
          "[augmentations][statistics]") {
  const double fraction = GENERATE(0.0, 0.13, 0.5, 0.9, 1.0);
  constexpr Index n = 6;
  constexpr Index count = 5000;
  const Jets<double> all = single_particles(count * n, 10.0, 0.0, 0.0, 0.0);
  std::vector<Index> offsets;
  std::vector<double> position;
  for (Index j = 0; j <= count; ++j) {
    offsets.push_back(j * n);
    for (Index i = 0; i < n && j < count; ++i) {
      position.push_back(static_cast<double>(i));
    }
  }
  const Jets<double> jets = Jets<double>::borrow(all.columns(), offsets, all.owner()).with_extra("position", position);
  const Jets<double> kept = rino::mask_constituents(jets, fraction, {.seed = 9});
  const double wanted = fraction * n;
  const double low = std::min(std::floor(wanted), n - 1.0);
  const double high = std::min(std::ceil(wanted), n - 1.0);
  bool within = true;
  for (Index j = 0; j < count; ++j) {
    const double masked = static_cast<double>(n - kept.multiplicity(j));
    within = within && (masked == low || masked == high);
  }
  CHECK(within);
  const double upper = wanted - std::floor(wanted);  // the probability to round up
  const double mean = (1 - upper) * low + upper * high;
  const double masked = static_cast<double>(jets.constituents() - kept.constituents());
  CHECK(std::abs(masked - mean * count) <= 5 * std::sqrt(count * upper * (1 - upper)));
  std::array<double, n> stays{};
  for (const double where : *kept.extras().at("position")) {
    stays[static_cast<std::size_t>(where)] += 1.0;
  }
  const double p = 1 - mean / n;
  for (const double number : stays) {
    CHECK(std::abs(number - p * count) <= 5 * std::sqrt(count * p * (1 - p)));
  }
}

// ---------------------------------------------------------------------------------------------------- augmentation

TEST_CASE("an augmentation is its transforms in order, each with draws of its own", "[augmentations]") {
  const Jets<double> jets = annotated_jets<double>(30);
  const Transform<double> mask = [](const Jets<double>& in, const Draws& draws, int threads) {
    return rino::mask_constituents(in, 0.3, draws, threads);
  };
  const Transform<double> spin = [](const Jets<double>& in, const Draws& draws, int threads) {
    return rino::rotate(in, draws, threads);
  };
  const Draws draws{.seed = 11, .first_jet = 5};
  const rino::Augmentation<double> augmentation({mask, mask, spin});
  const Jets<double> expected = rino::rotate(
      rino::mask_constituents(rino::mask_constituents(jets, 0.3, draws.step(0)), 0.3, draws.step(1)), draws.step(2));
  CHECK(same_bits(augmentation(jets, draws), expected));
  CHECK(same_bits(augmentation(jets, draws, 3), expected));
  CHECK(same_bits(rino::Augmentation<double>({})(jets, draws), jets));
  CHECK(draws.step(0).seed != draws.step(1).seed);
  CHECK(draws.step(1).first_jet == 5);
  CHECK(draws.step(1).seed >> 63 == 0);
  CHECK(says(error_of([&] { rino::Augmentation<double>({mask, nullptr}); }), "transform 1", "give a function"));
}

TEST_CASE("a transform in words is the function of its name with these numbers", "[augmentations]") {
  const auto jets = annotated_jets<double>(12);
  const Draws draws{9, 3};
  const std::vector<std::pair<std::string, Jets<double>>> expected{
      {"rotate", rino::rotate(jets, draws)},
      {"translate", rino::translate(jets, rino::TranslateOptions{}, draws)},
      {"translate max_phi=0.2", rino::translate(jets, {1.0, 0.2}, draws)},
      {"smear", rino::smear(jets, {}, draws)},
      {"smear soft=1e-1 eta=0", rino::smear(jets, {.eta = 0.0, .soft = 0.1}, draws)},
      {" smear stochastic=0.3  constant=.2 phi=0.1", rino::smear(jets, {0.3, 0.2, 0.005, 0.1}, draws)},
      {"split_collinear probability=0.5 min_fraction=0.2", rino::split_collinear(jets, {0.5, 0.2}, draws)},
      {"drop_soft scale=2 min_pt=0.5", rino::drop_soft(jets, {2.0, 0.5}, draws)},
      {"mask_constituents fraction=0.4", rino::mask_constituents(jets, 0.4, draws)},
      {"boost_jet min_factor=0.9 max_factor=1.5", rino::boost_jet(jets, {0.9, 1.5}, draws)},
      {"boost_along_beam max_rapidity=0.3", rino::boost_along_beam(jets, {0.3}, draws)},
      {"boost_along_beam", rino::boost_along_beam(jets, {}, draws)},
      {"boost_to_pt reference_pt=750", rino::boost_to_pt(jets, 750.0)},
      {"hardest n=5", rino::hardest(jets, 5)},
  };
  for (const auto& [text, wanted] : expected) {
    INFO(text);
    CHECK(same_bits(rino::named_transform<double>(text)(jets, draws, 2), wanted));
  }
  const auto both = rino::named_augmentation<double>({"rotate", "smear soft=0.1"});
  CHECK(same_bits(both(jets, draws), rino::smear(rino::rotate(jets, draws.step(0)), {.soft = 0.1}, draws.step(1))));
}

// ---------------------------------------------------------------------------------------------------------- errors

TEST_CASE("words that are no transform are named with what there is", "[augmentations][errors]") {
  const auto error = [](const std::string& text) { return error_of([&] { rino::named_transform<double>(text); }); };
  CHECK(says(error("turn"), "no transform 'turn'", "rotate, translate"));
  CHECK(says(error(""), "no transform ''"));
  CHECK(says(error("smear softness=1"), "'smear softness=1'", "smear has no softness, only: stochastic, constant"));
  CHECK(says(error("rotate angle=1"), "rotate has no angle, only: none"));
  CHECK(says(error("smear soft"), "'soft' in 'smear soft'", "name=number"));
  CHECK(says(error("smear soft=1GeV"), "'soft=1GeV'", "name=number"));
  CHECK(says(error("smear soft= 1"), "'soft='"));
  CHECK(says(error("smear soft=1 soft=2"), "soft twice"));
  CHECK(says(error("smear soft=-1"), "soft term", "-1"));
  CHECK(says(error("hardest"), "'hardest' lacks n", "hardest n=NUMBER"));
  CHECK(says(error("hardest n=2.5"), "n is 2.5"));
  CHECK(says(error("hardest n=0"), "give 1 or more"));
  CHECK(says(error("boost_to_pt reference_pt=0"), "reference pT"));
  CHECK(says(error("split_collinear probability=2"), "probability", "2"));
}

TEST_CASE("options that do not fit are named", "[augmentations][errors]") {
  const Jets<double> jets = annotated_jets<double>(3);
  for (const double bad : {-0.1, kNaN, kInfinity}) {
    const std::string value = error_of([&] { rino::fail(bad); });
    CHECK(says(error_of([&] { rino::smear(jets, {.stochastic = bad}, {}); }), "stochastic term", value, "sqrt(GeV)"));
    CHECK(says(error_of([&] { rino::smear(jets, {.constant = bad}, {}); }), "constant term", value, "0 or more"));
    CHECK(says(error_of([&] { rino::smear(jets, {.eta = bad}, {}); }), "resolution of eta is", value, "0 to pi"));
    CHECK(says(error_of([&] { rino::smear(jets, {.phi = bad}, {}); }), "resolution of phi is", value, "0 to pi"));
    CHECK(says(error_of([&] { rino::smear(jets, {.soft = bad}, {}); }), "soft term", value, "GeV"));
    CHECK(says(error_of([&] { rino::translate(jets, {.max_rapidity = bad}, {}); }), "max_rapidity", value));
    CHECK(says(error_of([&] { rino::translate(jets, {.max_phi = bad}, {}); }), "max_phi", value));
    CHECK(says(error_of([&] { rino::boost_along_beam(jets, {.max_rapidity = bad}, {}); }), "max_rapidity", value));
    CHECK(says(error_of([&] { rino::boost_jet(jets, {.min_factor = bad}, {}); }), "factors run from", value));
    CHECK(says(error_of([&] { rino::boost_jet(jets, {.max_factor = bad}, {}); }), "factors run from", value));
    CHECK(
        says(error_of([&] { rino::split_collinear(jets, {.probability = bad}, {}); }), "probability", value, "0 to 1"));
    CHECK(says(error_of([&] { rino::split_collinear(jets, {.min_fraction = bad}, {}); }), "min_fraction", value));
    CHECK(says(error_of([&] { rino::drop_soft(jets, {.scale = bad}, {}); }), "scale", value, "GeV"));
    CHECK(says(error_of([&] { rino::drop_soft(jets, {.min_pt = bad}, {}); }), "min_pt", value, "GeV"));
    CHECK(says(error_of([&] { rino::mask_constituents(jets, bad, {}); }), "fraction", value, "0 to 1"));
  }
  CHECK(says(error_of([&] { rino::split_collinear(jets, {.min_fraction = 0.6}, {}); }), "0.6", "at most 0.5"));
  CHECK(says(error_of([&] { rino::boost_jet(jets, {.min_factor = 3.0}, {}); }), "from 3 to 2"));
  CHECK(says(error_of([&] { rino::smear(jets, {}, {}, 0); }), "threads is 0"));
}

TEST_CASE("values per jet that do not fit are named", "[augmentations][errors]") {
  const Jets<double> jets = annotated_jets<double>(3);
  const std::vector<double> two(2);
  const std::vector<double> good(3, 1.0);
  for (const double wrong : {kNaN, kInfinity}) {
    const std::vector<double> bad{1.0, wrong, 1.0};
    CHECK(says(error_of([&] { rino::rotate(jets, bad); }), "angle of rotation of jet 1 is", "finite"));
    CHECK(says(error_of([&] { rino::translate(jets, bad, good); }), "rapidity of jet 1 is", "finite"));
    CHECK(says(error_of([&] { rino::translate(jets, good, bad); }), "phi of jet 1 is", "finite"));
    CHECK(says(error_of([&] { rino::boost_along_beam(jets, bad); }), "rapidity of jet 1 is", "finite"));
    CHECK(says(error_of([&] { rino::boost_jet(jets, bad); }), "factor of jet 1 is", "finite"));
  }
  CHECK(says(error_of([&] { rino::rotate(jets, two); }), "2 values", "3 jets", "one per jet"));
  CHECK(says(error_of([&] { rino::translate(jets, good, two); }), "2 values", "3 jets"));
  CHECK(says(error_of([&] { rino::boost_jet(jets, std::vector<double>{1.0, 0.0, 1.0}); }), "factor of jet 1 is 0"));
  CHECK(
      says(error_of([&] { rino::boost_jet(jets, std::vector<double>{1.0, 1.0, 1e308}, 2); }), "jet 2", "nearer to 1"));
  CHECK(
      says(error_of([&] { rino::boost_jet(one_jet<double>({{1, 0, 0, 1}, {-1, 0, 0, 1}}), std::vector<double>{2.0}); }),
           "jet 0 has |p| = 0 GeV", "drop the jet"));
  CHECK(says(error_of([&] { rino::boost_along_beam(jets, std::vector<double>{0.0, 800.0, 0.0}); }),
             "constituent 0 of jet 1", "beyond the numbers' range"));
}
