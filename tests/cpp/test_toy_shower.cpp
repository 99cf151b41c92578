#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/views/view_generator.hpp>

#include "catch.hpp"

namespace {

using rino::FourMomentum;
using rino::Jets;
using rino::ToyShowerOptions;
using Index = std::int64_t;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.at(values.size() / 2);
}

template <typename Observable>
double median_of(const Jets<double>& jets, const Observable& observable) {
  std::vector<double> values;
  for (Index j = 0; j < jets.size(); ++j) {
    values.push_back(observable(j));
  }
  return median(std::move(values));
}

}  // namespace

TEST_CASE("toy jets are a fixed function of options, seed and number", "[toy]") {
  const auto jets = rino::toy_shower<double>({.jets = 50, .top_fraction = 0.5}, 3);
  const auto fewer = rino::toy_shower<double>({.jets = 20, .top_fraction = 0.5}, 3);
  const Jets<double> beginning = jets.slice(0, 20);
  CHECK(fewer.offsets() == beginning.offsets());
  CHECK((fewer.px() == beginning.px()).all());
  CHECK((fewer.e() == beginning.e()).all());
  CHECK(*fewer.labels() == *beginning.labels());
  CHECK(rino::toy_shower<double>({.jets = 20, .top_fraction = 0.5}, 4).px()(0) != fewer.px()(0));
  const auto narrow = rino::toy_shower<float>({.jets = 20, .top_fraction = 0.5}, 3);
  CHECK((narrow.px() == fewer.px().cast<float>()).all());
}

TEST_CASE("toy jets have the multiplicity that is asked for", "[toy]") {
  constexpr Index n = 20000;
  const auto jets = rino::toy_shower<double>({.jets = n}, 1);
  double mean = 0.0;
  double square = 0.0;
  for (Index j = 0; j < n; ++j) {
    const auto size = static_cast<double>(jets.multiplicity(j));
    mean += size / n;
    square += size * size / n;
  }
  // The cut at 1 takes 0.4% of the normal distribution away.
  CHECK(std::abs(mean - 44.0) < 0.7);
  CHECK(std::abs(std::sqrt(square - mean * mean) - 16.0) < 0.7);

  const auto between = rino::toy_shower<double>({.jets = 500, .multiplicity_min = 40, .multiplicity_max = 42}, 1);
  for (Index j = 0; j < between.size(); ++j) {
    REQUIRE((between.multiplicity(j) >= 40 && between.multiplicity(j) <= 42));
  }
  // Far outside the distribution the nearest bound is taken.
  const auto one = rino::toy_shower<double>(
      {.jets = 5, .multiplicity_mean = 1e6, .multiplicity_std = 0, .multiplicity_min = 1, .multiplicity_max = 1}, 1);
  CHECK(one.constituents() == 5);
  const auto many = rino::toy_shower<double>({.jets = 5, .multiplicity_mean = 200, .multiplicity_std = 0}, 1);
  CHECK(many.constituents() == 1000);
}

TEST_CASE("toy jets lie in the pT range and the cone, and are made of massless constituents", "[toy]") {
  const auto jets = rino::toy_shower<double>({.jets = 2000, .top_fraction = 0.5}, 2);
  CHECK_NOTHROW(jets.check());
  Index outside = 0;
  bool massless = true;
  for (Index j = 0; j < jets.size(); ++j) {
    const FourMomentum<double> jet = jets.four_momentum(j);
    REQUIRE((rino::pt(jet) > 0.75 * 500 && rino::pt(jet) < 1.02 * 1000));
    REQUIRE(std::abs(rino::eta(jet)) < 2.2);
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const FourMomentum<double> p = jets.constituent(i);
      const double distance =
          std::hypot(rino::rapidity(p) - rino::rapidity(jet), rino::delta_phi(rino::phi(p), rino::phi(jet)));
      outside += distance > 0.8 ? 1 : 0;
      massless = massless && std::abs(p[3] - p.head<3>().norm()) < 1e-14 * p[3];
    }
  }
  CHECK(massless);
  CHECK(static_cast<double>(outside) < 0.02 * static_cast<double>(jets.constituents()));
}

TEST_CASE("toy jets look like jets: soft, collimated, and top-like ones have mass and three prongs", "[toy]") {
  const auto qcd = rino::toy_shower<double>({.jets = 3000, .top_fraction = 0}, 5);
  const auto top = rino::toy_shower<double>({.jets = 3000, .top_fraction = 1}, 5);
  CHECK(std::all_of(qcd.labels()->begin(), qcd.labels()->end(), [](Index label) { return label == 0; }));
  CHECK(std::all_of(top.labels()->begin(), top.labels()->end(), [](Index label) { return label == 1; }));
  const auto mass_of = [](const Jets<double>& jets) {
    return median_of(jets, [&](Index j) { return rino::mass(jets.four_momentum(j)); });
  };
  CHECK(mass_of(qcd) > 60);
  CHECK(mass_of(qcd) < 140);
  CHECK(mass_of(top) > 165);
  CHECK(mass_of(top) < 190);
  const auto leading = [](const Jets<double>& jets) {
    return median_of(jets, [&](Index j) {
      double hardest = 0.0;
      for (Index i = jets.begin(j); i < jets.end(j); ++i) {
        hardest = std::max(hardest, rino::pt(jets.constituent(i)));
      }
      return hardest / rino::pt(jets.four_momentum(j));
    });
  };
  CHECK(leading(qcd) > 0.15);
  CHECK(leading(qcd) < 0.5);
  // The third subjet: a prong of a top, radiation in a QCD jet.
  const auto third = [](const Jets<double>& jets) {
    const Jets<double> view = rino::ViewGenerator<double>({rino::subjets(3)})(jets)[0];
    return median_of(jets, [&](Index j) {
      return view.multiplicity(j) < 3 ? 0.0
                                      : rino::pt(view.constituent(view.begin(j) + 2)) / rino::pt(jets.four_momentum(j));
    });
  };
  CHECK(third(top) > 1.5 * third(qcd));
}

TEST_CASE("impossible toy options are errors that name them", "[toy][errors]") {
  const auto error = [](const ToyShowerOptions& options) {
    return error_of([&] { rino::toy_shower<double>(options, 1); });
  };
  CHECK(says(error({.jets = -1}), "toy_shower: jets is -1"));
  CHECK(says(error({.top_fraction = 1.5}), "top_fraction is 1.5"));
  CHECK(says(error({.pt_min = 0}), "pT runs from 0 to 1000"));
  CHECK(says(error({.pt_min = 10, .pt_max = 5}), "pT runs from 10 to 5"));
  CHECK(says(error({.eta_max = -1}), "eta_max is -1"));
  CHECK(says(error({.radius = 0}), "radius is 0"));
  CHECK(says(error({.multiplicity_min = 0}), "multiplicity runs from 0"));
  CHECK(says(error({.multiplicity_min = 5, .multiplicity_max = 4}), "multiplicity runs from 5 to 4"));
  CHECK(says(error({.cutoff = 0}), "cutoff is 0"));
  CHECK(rino::toy_shower<double>({.jets = 0}, 1).empty());
}
