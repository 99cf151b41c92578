#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/hardest.hpp>

#include "catch.hpp"
#include "jet_builder.hpp"

namespace {

using rino::FourMomentum;
using rino::Jets;
using Index = std::int64_t;

template <typename Scalar>
Jets<Scalar> toy_jets(Index count) {
  rino::ToyShowerOptions options;
  options.jets = count;
  options.top_fraction = 0.5;
  return rino::toy_shower<Scalar>(options, 21);
}

using Long = long double;
using LongMomentum = FourMomentum<Long>;

/// The boost of recipes.md section 5 as a Lorentz matrix, in long double: velocity along the jet's axis, by the
/// difference of the rapidities along it.
Eigen::Matrix<Long, 4, 4> boost_matrix(const LongMomentum& jet, Long reference_pt) {
  const Long momentum = jet.head<3>().norm();
  const Long target = momentum * reference_pt / jet.head<2>().norm();
  const Long mass_squared = jet[3] * jet[3] - momentum * momentum;
  const Long target_energy = std::sqrt(mass_squared + target * target);
  const Long shift = std::log((target_energy + target) / (jet[3] + momentum));
  const Eigen::Matrix<Long, 3, 1> axis = jet.head<3>() / momentum;
  Eigen::Matrix<Long, 4, 4> matrix;
  matrix.topLeftCorner<3, 3>() =
      Eigen::Matrix<Long, 3, 3>::Identity() + (std::cosh(shift) - 1) * axis * axis.transpose();
  matrix.topRightCorner<3, 1>() = std::sinh(shift) * axis;
  matrix.bottomLeftCorner<1, 3>() = std::sinh(shift) * axis.transpose();
  matrix(3, 3) = std::cosh(shift);
  return matrix;
}

}  // namespace

// -------------------------------------------------------------------------------------------------------- hardest

TEMPLATE_TEST_CASE("hardest keeps the n hardest in descending pT, equal ones as they stood", "[transforms]", float,
                   double) {
  using Scalar = TestType;
  // pT 1, 5, 3, 5 | 2 | 4, 6
  const auto jets =
      Jets<Scalar>::from_columns(
          {{{1, 0, 3, 5, 2, 4, 0}, {0, -5, 0, 0, 0, 0, 6}, {0, 9, 0, 0, 0, 0, 0}, {1, 11, 3, 5, 2, 4, 6}}},
          {0, 4, 5, 7})
          .with_labels({1, 0, 2})
          .with_extra("row", {0, 1, 2, 3, 4, 5, 6});
  const Jets<Scalar> two = rino::hardest(jets, 2);
  CHECK(two.offsets() == std::vector<Index>{0, 2, 3, 5});
  CHECK(*two.extras().at("row") == std::vector<Scalar>{1, 3, 4, 6, 5});
  CHECK(*two.labels() == *jets.labels());
  for (Index i = 0; i < two.constituents(); ++i) {
    const auto row = static_cast<Index>((*two.extras().at("row"))[static_cast<std::size_t>(i)]);
    CHECK(two.constituent(i) == jets.constituent(row));
  }
  CHECK(*rino::hardest(jets, 1).extras().at("row") == std::vector<Scalar>{1, 4, 6});
  CHECK(*rino::hardest(jets, 1000).extras().at("row") == std::vector<Scalar>{1, 3, 2, 0, 4, 6, 5});
  CHECK(rino::hardest(jets.slice(1, 1), 3).empty());
}

TEST_CASE("hardest agrees with a full sort on many jets", "[transforms]") {
  const Jets<double> jets = toy_jets<double>(300);
  const Jets<double> kept = rino::hardest(jets, 10);
  bool equal = true;
  for (Index j = 0; j < jets.size(); ++j) {
    std::vector<double> pts;
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      pts.push_back(rino::pt(jets.constituent(i)));
    }
    std::sort(pts.rbegin(), pts.rend());
    pts.resize(std::min<std::size_t>(pts.size(), 10));
    equal = equal && kept.multiplicity(j) == static_cast<Index>(pts.size());
    for (std::size_t i = 0; equal && i < pts.size(); ++i) {
      equal = rino::pt(kept.constituent(kept.begin(j) + static_cast<Index>(i))) == pts[i];
    }
  }
  CHECK(equal);
}

TEST_CASE("hardest of none is an error", "[transforms][errors]") {
  const Jets<double> jets = toy_jets<double>(1);
  CHECK(says(error_of([&] { rino::hardest(jets, 0); }), "0 hardest", "1 or more"));
  CHECK(says(error_of([&] { rino::hardest(jets, -1); }), "-1 hardest"));
}

// ---------------------------------------------------------------------------------------------------------- boost

TEST_CASE("the boost is the Lorentz matrix along the jet's axis", "[transforms][reference]") {
  const Jets<double> jets = toy_jets<double>(300);
  for (const double reference : {50.0, 750.0, 20000.0}) {
    const Jets<double> boosted = rino::boost_to_pt(jets, reference);
    double worst = 0.0;
    for (Index j = 0; j < jets.size(); ++j) {
      LongMomentum jet = LongMomentum::Zero();
      for (Index i = jets.begin(j); i < jets.end(j); ++i) {
        jet += jets.constituent(i).cast<Long>();
      }
      const Eigen::Matrix<Long, 4, 4> matrix = boost_matrix(jet, reference);
      for (Index i = jets.begin(j); i < jets.end(j); ++i) {
        const LongMomentum expected = matrix * jets.constituent(i).cast<Long>();
        const LongMomentum error = boosted.constituent(i).cast<Long>() - expected;
        worst = std::max(worst, static_cast<double>(error.lpNorm<Eigen::Infinity>() / expected[3]));
      }
    }
    CHECK(worst < 1e-12);
  }
}

TEMPLATE_TEST_CASE("a boosted jet has the reference pT, its own direction and its own mass", "[transforms]", float,
                   double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  const Jets<TestType> jets = toy_jets<TestType>(500);
  for (const double reference : {1.0, 750.0, 1e5}) {
    const Jets<TestType> boosted = rino::boost_to_pt(jets, reference);
    CHECK(boosted.offsets() == jets.offsets());
    CHECK_NOTHROW(boosted.check());
    double worst_pt = 0.0;
    double worst_angle = 0.0;
    double worst_mass = 0.0;
    const auto sum = [](const Jets<TestType>& of, Index j) {
      FourMomentum<double> result = FourMomentum<double>::Zero();
      for (Index i = of.begin(j); i < of.end(j); ++i) {
        result += of.constituent(i).template cast<double>();
      }
      return result;
    };
    for (Index j = 0; j < jets.size(); ++j) {
      const FourMomentum<double> before = sum(jets, j);
      const FourMomentum<double> after = sum(boosted, j);
      // The rounding of the input, relative to the energy; slowing down makes it larger by the ratio of energies.
      const double slowing = std::max(1.0, before[3] / after[3]);
      const double lever = after.head<3>().norm() / after[3] / slowing;
      worst_pt = std::max(worst_pt, std::abs(rino::pt(after) / reference - 1.0) * lever);
      worst_angle = std::max(worst_angle, std::abs(rino::eta(after) - rino::eta(before)) * lever);
      worst_angle = std::max(worst_angle, std::abs(rino::delta_phi(rino::phi(after), rino::phi(before))) * lever);
      // m^2 is known to some roundings of the larger E^2.
      const double energy = std::max(before[3], after[3]);
      worst_mass =
          std::max(worst_mass, std::abs(rino::mass_squared(after) - rino::mass_squared(before)) / (energy * energy));
    }
    CHECK(worst_pt < 20 * epsilon);
    CHECK(worst_angle < 20 * epsilon);
    CHECK(worst_mass < 20 * epsilon);
  }
}

TEMPLATE_TEST_CASE("a single massless constituent is scaled", "[transforms]", float, double) {
  const TestType tolerance = 8 * std::numeric_limits<TestType>::epsilon();
  const Jets<TestType> jets = one_jet<TestType>({{30, -40, 120, 130}});
  const FourMomentum<TestType> boosted = rino::boost_to_pt(jets, 750.0).constituent(0);
  CHECK(boosted.isApprox(FourMomentum<TestType>(450, -600, 1800, 1950), tolerance));
  // An energy rounded below |p| counts as |p|.
  const Jets<TestType> rounded = one_jet<TestType>({{30, -40, 120, 130 * (1 - 8e-6)}});
  CHECK(rino::boost_to_pt(rounded, 750.0).constituent(0).isApprox(boosted, tolerance));
}

TEST_CASE("massless constituents stay massless, however collinear and however large the boost", "[transforms]") {
  rino::Random random({4});
  double worst = 0.0;
  for (int jet = 0; jet < 200; ++jet) {
    std::vector<std::array<double, 4>> constituents;
    for (int i = 0; i < 20; ++i) {
      const double pt = std::exp(random.uniform(-2.0, 5.0));
      const double spread = std::exp(random.uniform(-20.0, -0.5));
      const double eta = 1.0 + spread * random.normal();
      const double phi = 2.0 + spread * random.normal();
      constituents.push_back({pt * std::cos(phi), pt * std::sin(phi), pt * std::sinh(eta), pt * std::cosh(eta)});
    }
    const Jets<double> boosted = rino::boost_to_pt(one_jet<double>(constituents), random.uniform(1.0, 1e6));
    for (Index i = 0; i < boosted.constituents(); ++i) {
      const FourMomentum<double> p = boosted.constituent(i);
      worst = std::max(worst, std::abs(p[3] - p.head<3>().norm()) / p[3]);
    }
  }
  CHECK(worst < 1e-14);
}

TEST_CASE("a particle keeps its light-cone digits where E - |p| has none", "[transforms]") {
  // Massive and nearly along the axis; down by the factor that brings it nearly to rest.
  const double mass = 1.0;
  const double momentum = 1e4;
  const FourMomentum<double> p(1e-3, 0, momentum, std::sqrt(mass * mass + 1e-6 + momentum * momentum));
  const Long energy = std::sqrt(static_cast<Long>(p[3]) * p[3]);
  const Long minus = energy - momentum;
  const Long plus = energy + momentum;
  const Long factor = 1e-4L;
  const FourMomentum<double> boosted = rino::boost_along(p, Eigen::Vector3d(0, 0, 1), 1e-4);
  CHECK(boosted[0] == 1e-3);
  CHECK(std::abs(boosted[3] - static_cast<double>((plus * factor + minus / factor) / 2)) < 2e-8);
  // There and back again, against the axis too.
  for (const double direction : {1.0, -1.0}) {
    const Eigen::Vector3d axis(0, 0, direction);
    const FourMomentum<double> back = rino::boost_along(rino::boost_along(p, axis, 8.0), axis, 0.125);
    CHECK(back.isApprox(p, 2e-14));
  }
  CHECK(rino::boost_along(FourMomentum<double>::Zero(), Eigen::Vector3d(0, 0, 1), 3.0).isZero());
}

TEST_CASE("constituents at rest, along the beam or with nothing are boosted without NaN", "[transforms]") {
  const Jets<double> jets =
      one_jet<double>({{100, 0, 0, 100}, {0, 0, 0, 5}, {0, 0, 0, 0}, {0, 0, -20, 20}, {-3, 0, 0, 3}});
  const Jets<double> boosted = rino::boost_to_pt(jets, 400.0);
  CHECK_NOTHROW(boosted.check());
  CHECK(rino::pt(boosted.four_momentum(0)) == Approx(400.0).epsilon(1e-13));
  CHECK(rino::mass(boosted.four_momentum(0)) == Approx(rino::mass(jets.four_momentum(0))).epsilon(1e-12));
  CHECK(boosted.constituent(2).isZero());
  CHECK(rino::mass(boosted.constituent(1)) == Approx(5.0).epsilon(1e-12));
}

TEST_CASE("labels and extras ride along with the boost", "[transforms]") {
  const Jets<double> plain = toy_jets<double>(10);
  const Jets<double> jets =
      plain.with_extra("e", std::vector<double>(static_cast<std::size_t>(plain.constituents()), 0.5));
  const Jets<double> boosted = rino::boost_to_pt(jets, 750.0);
  CHECK(*boosted.labels() == *jets.labels());
  CHECK(*boosted.extras().at("e") == *jets.extras().at("e"));
  CHECK(rino::boost_to_pt(Jets<double>(), 750.0).empty());
}

TEST_CASE("a boost that cannot be is an error", "[transforms][errors]") {
  const Jets<double> jets = toy_jets<double>(1);
  for (const double reference :
       {0.0, -750.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    CHECK(says(error_of([&] { rino::boost_to_pt(jets, reference); }), "the reference pT of the boost is", "above 0"));
  }
  CHECK(says(error_of([&] { rino::boost_to_pt(one_jet<double>({{0, 0, 5, 5}}), 750.0); }),
             "jet 0 has pT = 0 GeV and |p| = 5 GeV", "drop the jet"));
  CHECK(says(error_of([&] { rino::boost_to_pt(one_jet<double>({{1, 0, 0, 1}, {-1, 0, 0, 1}}), 750.0); }),
             "jet 0 has pT = 0"));
  CHECK(says(error_of([&] { rino::boost_to_pt(one_jet<double>({{1e-310, 0, 5, 5}}), 750.0); }), "cannot be boosted"));
}
