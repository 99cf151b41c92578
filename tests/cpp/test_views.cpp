#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <fastjet/ClusterSequence.hh>

#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/views/view_generator.hpp>

#include "catch.hpp"
#include "jet_builder.hpp"

namespace {

using rino::AntiKt;
using rino::CambridgeAachen;
using rino::FourMomentum;
using rino::Jets;
using rino::Kt;
using rino::Resolution;
using rino::ViewGenerator;
using Index = std::int64_t;

// ---------------------------------------------------------------------------------------------------- jets to try

/// What real jets seldom are: collinear and equal constituents, lattices of equal distances, zero and tiny pT,
/// beam mergings, the phi seam, large rapidities, masses, energies rounded below |p|; 1 to 200 constituents.
Jets<double> nasty_jets() {
  JetBuilder builder;
  rino::Random random({2024});
  constexpr double pi = std::numbers::pi;
  for (int round = 0; round < 60; ++round) {
    const Index n = 1 + random.below(round % 3 == 0 ? 200 : 30);
    for (Index i = 0; i < n; ++i) {  // collinear
      builder.add(std::exp(random.uniform(-3.0, 6.0)), 0.5, 1.0);
    }
    builder.end_jet();
    for (Index i = 0; i < n; ++i) {  // equal momenta, several directions
      builder.add(10.0, 0.1 * static_cast<double>(i % 3), 0.0);
    }
    builder.end_jet();
    for (Index i = 0; i < n; ++i) {  // a lattice of equal distances and momenta
      builder.add(4.0, 0.125 * static_cast<double>(i % 5), 0.125 * static_cast<double>(i / 5 % 5));
    }
    builder.end_jet();
    for (Index i = 0; i < n; ++i) {  // some without pT, some at rest or with nothing at all
      const double pz = random.uniform(-50.0, 50.0);
      switch (i % 4) {
        case 0:
          builder.add(std::exp(random.uniform(0.0, 5.0)), random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5));
          break;
        case 1:
          builder.add_momentum(0, 0, pz, std::abs(pz));
          break;
        case 2:
          builder.add_momentum(0, 0, 0, std::abs(pz));
          break;
        default:
          builder.add_momentum(0, 0, 0, 0);
      }
    }
    builder.end_jet();
    for (Index i = 0; i < n; ++i) {  // soft and far from a hard core: to the beam
      const bool hard = i % 3 == 0;
      builder.add(hard ? random.uniform(20.0, 200.0) : random.uniform(0.1, 1.0),
                  hard ? random.uniform(-0.3, 0.3) : random.uniform(-3.0, 3.0),
                  hard ? random.uniform(-0.3, 0.3) : random.uniform(-pi, pi));
    }
    builder.end_jet();
    for (Index i = 0; i < n; ++i) {  // on the phi seam
      builder.add(std::exp(random.uniform(-1.0, 5.0)), random.uniform(-0.5, 0.5), pi + random.uniform(-0.5, 0.5));
    }
    builder.end_jet();
    const double forward = random.uniform(-8.0, 8.0);
    for (Index i = 0; i < n; ++i) {  // forward, some massive
      builder.add(std::exp(random.uniform(-1.0, 5.0)), forward + random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5),
                  i % 2 == 0 ? random.uniform(0.0, 20.0) : 0.0);
    }
    builder.end_jet();
    for (Index i = 0; i < n; ++i) {  // energies rounded below |p|
      const double pt = std::exp(random.uniform(-1.0, 5.0));
      const double y = random.uniform(-1.0, 1.0);
      const double phi = random.uniform(-0.5, 0.5);
      builder.add_momentum(pt * std::cos(phi), pt * std::sin(phi), pt * std::sinh(y), pt * std::cosh(y) * (1 - 5e-6));
    }
    builder.end_jet();
    const double scale = std::array{1e-150, 1e-170, 1e-300, 1e100}[static_cast<std::size_t>(round % 4)];
    for (Index i = 0; i < n; ++i) {  // tiny and huge
      builder.add(scale * random.uniform(1.0, 50.0), random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5));
    }
    builder.end_jet();
  }
  return builder.jets();
}

Jets<double> ordinary_jets(Index count) {
  rino::ToyShowerOptions options;
  options.jets = count;
  options.top_fraction = 0.3;
  return rino::toy_shower<double>(options, 7);
}

// ----------------------------------------------------------------------------------------------- FastJet's answer

/// The particles of jet j as FastJet wants them, and its clustering.
struct Reference {
  Reference(const Jets<double>& jets, Index j, fastjet::JetAlgorithm algorithm, double radius = 0.8,
            fastjet::Strategy strategy = fastjet::N2Plain)
      : sequence(particles(jets, j), fastjet::JetDefinition(algorithm, radius, fastjet::E_scheme, strategy)) {}

  static std::vector<fastjet::PseudoJet> particles(const Jets<double>& jets, Index j) {
    std::vector<fastjet::PseudoJet> result;
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const FourMomentum<double> p = jets.constituent(i);
      result.emplace_back(p[0], p[1], p[2], p[3]);
    }
    return result;
  }

  static double pt(const fastjet::PseudoJet& p) { return std::hypot(p.px(), p.py()); }

  /// The lowest constituent of a subjet; FastJet numbers them as they were given.
  int lowest(const fastjet::PseudoJet& subjet) const {
    int result = std::numeric_limits<int>::max();
    for (const fastjet::PseudoJet& constituent : sequence.constituents(subjet)) {
      result = std::min(result, constituent.cluster_hist_index());
    }
    return result;
  }

  /// Descending pT, equal ones by the lowest constituent.
  std::vector<fastjet::PseudoJet> sorted(const std::vector<fastjet::PseudoJet>& subjets) const {
    std::vector<std::pair<std::pair<double, int>, fastjet::PseudoJet>> keyed;
    for (const fastjet::PseudoJet& subjet : subjets) {
      keyed.push_back({{-pt(subjet), lowest(subjet)}, subjet});
    }
    std::sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<fastjet::PseudoJet> result;
    for (const auto& [key, subjet] : keyed) {
      result.push_back(subjet);
    }
    return result;
  }

  std::vector<fastjet::PseudoJet> up_to(int n) const { return sorted(sequence.exclusive_jets_up_to(n)); }

  /// FastJet's exclusive jets at dcut; the last object where there are none.
  std::vector<fastjet::PseudoJet> at(double dcut) const {
    const std::vector<fastjet::PseudoJet> subjets = sequence.exclusive_jets(dcut);
    return subjets.empty() ? up_to(1) : sorted(subjets);
  }

  fastjet::ClusterSequence sequence;
};

template <typename Algorithm>
constexpr fastjet::JetAlgorithm fastjet_algorithm() {
  return std::is_same_v<Algorithm, Kt>                ? fastjet::kt_algorithm
         : std::is_same_v<Algorithm, CambridgeAachen> ? fastjet::cambridge_algorithm
                                                      : fastjet::antikt_algorithm;
}

/// The largest difference of jet j of a view and FastJet's subjets, relative to the energy; infinite if the numbers
/// of subjets differ.
template <typename Scalar>
double difference(const Jets<Scalar>& view, Index j, const std::vector<fastjet::PseudoJet>& subjets) {
  if (view.multiplicity(j) != static_cast<Index>(subjets.size())) {
    return std::numeric_limits<double>::infinity();
  }
  double largest = 0.0;
  for (std::size_t i = 0; i < subjets.size(); ++i) {
    const FourMomentum<double> p = view.constituent(view.begin(j) + static_cast<Index>(i)).template cast<double>();
    const FourMomentum<double> q(subjets[i].px(), subjets[i].py(), subjets[i].pz(), subjets[i].E());
    largest = std::max(largest, (p - q).template lpNorm<Eigen::Infinity>() / std::max(std::abs(q[3]), 1e-320));
  }
  return largest;
}

bool same(const Jets<double>& one, const Jets<double>& two) {
  return one.offsets() == two.offsets() && (one.px() == two.px()).all() && (one.py() == two.py()).all() &&
         (one.pz() == two.pz()).all() && (one.e() == two.e()).all();
}

const std::vector<Index> kCounts{1, 2, 3, 4, 5, 8, 16, 32, 64, 250};

std::vector<Resolution> counts() {
  std::vector<Resolution> resolutions;
  for (const Index n : kCounts) {
    resolutions.push_back(rino::subjets(n));
  }
  return resolutions;
}

/// FastJet warns of exclusive jets with anti-kT; here they are what is tested.
void without_warnings() {
  fastjet::LimitedWarning::set_default_stream(nullptr);
}

}  // namespace

// ------------------------------------------------------------------------------------------------------- reference

TEMPLATE_TEST_CASE("views at numbers of subjets are FastJet's exclusive jets", "[views][reference]", Kt,
                   CambridgeAachen, AntiKt) {
  without_warnings();
  const ViewGenerator<double, TestType> generator(counts());
  for (const Jets<double>& jets : {ordinary_jets(700), nasty_jets()}) {
    const std::vector<Jets<double>> views = generator(jets);
    double worst = 0.0;
    for (Index j = 0; j < jets.size(); ++j) {
      const Reference reference(jets, j, fastjet_algorithm<TestType>());
      for (std::size_t v = 0; v < views.size(); ++v) {
        worst = std::max(worst, difference(views[v], j, reference.up_to(static_cast<int>(kCounts[v]))));
      }
    }
    CHECK(worst <= 1e-12);
  }
}

TEST_CASE("views of ordinary jets are those of FastJet's own choice of strategy", "[views][reference]") {
  const Jets<double> jets = ordinary_jets(2000);
  const std::vector<Jets<double>> views = ViewGenerator<double>(counts())(jets);
  double worst = 0.0;
  for (Index j = 0; j < jets.size(); ++j) {
    const Reference reference(jets, j, fastjet::kt_algorithm, 0.8, fastjet::Best);
    for (std::size_t v = 0; v < views.size(); ++v) {
      const auto subjets = reference.sequence.exclusive_jets_up_to(static_cast<int>(kCounts[v]));
      worst = std::max(worst, difference(views[v], j, fastjet::sorted_by_pt(subjets)));
    }
  }
  CHECK(worst <= 1e-12);
}

TEST_CASE("views at a scale are FastJet's exclusive jets at dcut", "[views][reference]") {
  const std::vector<double> scales{1e-4, 0.1, 0.5, 1, 2, 5, 10, 30, 100, 1000, 1e200};
  std::vector<Resolution> resolutions;
  for (const double q : scales) {
    resolutions.push_back(rino::kt(q));
  }
  for (const double radius : {0.4, 0.8, 1.5}) {
    const ViewGenerator<double> generator(resolutions, {.radius = radius});
    for (const Jets<double>& jets : {ordinary_jets(300), nasty_jets()}) {
      const std::vector<Jets<double>> views = generator(jets);
      double worst = 0.0;
      for (Index j = 0; j < jets.size(); ++j) {
        const Reference reference(jets, j, fastjet::kt_algorithm, radius);
        for (std::size_t v = 0; v < views.size(); ++v) {
          worst = std::max(worst, difference(views[v], j, reference.at(scales[v] * scales[v])));
        }
      }
      CHECK(worst <= 1e-12);
    }
  }
}

TEST_CASE("views at a fraction are those at that part of the jet's pT", "[views][reference]") {
  const std::vector<double> fractions{0.001, 0.01, 0.05, 0.2, 0.9, 3};
  std::vector<Resolution> resolutions;
  for (const double y : fractions) {
    resolutions.push_back(rino::fraction(y));
  }
  const Jets<double> jets = ordinary_jets(500);
  const std::vector<Jets<double>> views = ViewGenerator<double>(resolutions)(jets);
  double worst = 0.0;
  for (Index j = 0; j < jets.size(); ++j) {
    const Reference reference(jets, j, fastjet::kt_algorithm);
    for (std::size_t v = 0; v < views.size(); ++v) {
      worst = std::max(
          worst, difference(views[v], j, reference.at(std::pow(fractions[v] * rino::pt(jets.four_momentum(j)), 2))));
    }
  }
  CHECK(worst <= 1e-12);
}

TEST_CASE("a merging at exactly dcut has happened, one above has not", "[views]") {
  JetBuilder builder;
  builder.add_momentum(100, 0, 0, 100);
  builder.add_momentum(-2, 0, 0, 2);  // to the beam at d = 4
  builder.end_jet();
  const Jets<double> jets = builder.jets();
  const auto sizes = [&](double q) { return ViewGenerator<double>({rino::kt(q)})(jets)[0].multiplicity(0); };
  CHECK(sizes(2.0) == 1);
  CHECK(sizes(std::nextafter(2.0, 0.0)) == 2);
}

TEST_CASE("a scale above everything leaves the last object, never nothing", "[views]") {
  const Jets<double> jets = ordinary_jets(50);
  const std::vector<Jets<double>> views =
      ViewGenerator<double>({rino::kt(1e6), rino::fraction(1e6), rino::kt(1e300), rino::subjets(1)})(jets);
  CHECK(Reference(jets, 0, fastjet::kt_algorithm).sequence.exclusive_jets(1e12).empty());
  CHECK(same(views[0], views[3]));
  CHECK(same(views[1], views[3]));
  CHECK(same(views[2], views[3]));
}

TEMPLATE_TEST_CASE("single-precision views are double-precision ones, rounded", "[views]", Kt, CambridgeAachen) {
  const Jets<double> jets = ordinary_jets(300);
  std::array<std::vector<float>, 4> narrow;
  std::array<std::vector<double>, 4> wide;
  for (Index i = 0; i < jets.constituents(); ++i) {
    for (int c = 0; c < 4; ++c) {
      const auto value = static_cast<float>(jets.constituent(i)[c]);
      narrow[static_cast<std::size_t>(c)].push_back(value);
      wide[static_cast<std::size_t>(c)].push_back(value);
    }
  }
  const std::vector<Resolution> resolutions{rino::subjets(1), rino::subjets(8), rino::particles()};
  const auto floats = ViewGenerator<float, TestType>(resolutions)(Jets<float>::from_columns(narrow, jets.offsets()));
  const auto doubles = ViewGenerator<double, TestType>(resolutions)(Jets<double>::from_columns(wide, jets.offsets()));
  for (std::size_t v = 0; v < resolutions.size(); ++v) {
    CHECK(floats[v].offsets() == doubles[v].offsets());
    CHECK((floats[v].px() == doubles[v].px().template cast<float>()).all());
    CHECK((floats[v].e() == doubles[v].e().template cast<float>()).all());
    CHECK_NOTHROW(floats[v].check());
  }
}

// ------------------------------------------------------------------------------------------------------ properties

TEST_CASE("every view holds every jet, none empty, in descending pT and valid", "[views]") {
  const ViewGenerator<double> generator(
      {rino::subjets(1), rino::subjets(4), rino::subjets(100), rino::kt(3), rino::fraction(0.02), rino::particles()});
  for (const Jets<double>& jets : {ordinary_jets(200), nasty_jets()}) {
    for (const Jets<double>& view : generator(jets)) {
      REQUIRE(view.size() == jets.size());
      bool descending = true;
      bool filled = true;
      for (Index j = 0; j < view.size(); ++j) {
        filled = filled && view.multiplicity(j) >= 1;
        for (Index i = view.begin(j) + 1; i < view.end(j); ++i) {
          descending = descending && rino::pt(view.constituent(i - 1)) >= rino::pt(view.constituent(i));
        }
      }
      CHECK(descending);
      CHECK(filled);
      CHECK_NOTHROW(view.check());
    }
  }
}

TEST_CASE("particles() is a reordering of the constituents, equal ones as they stood", "[views]") {
  JetBuilder builder;
  builder.add(5, 0.3, 0.0);
  builder.add(7, 0.1, 0.0);
  builder.add(5, 0.2, 0.0);
  builder.add(9, 0.4, 0.0);
  builder.end_jet();
  const Jets<double> jets = builder.jets();
  for (const auto& resolutions : {std::vector{rino::particles()}, std::vector{rino::subjets(2), rino::particles()}}) {
    const Jets<double> view = ViewGenerator<double>(resolutions)(jets).back();
    REQUIRE(view.constituents() == 4);
    for (const auto& [to, from] : {std::pair<Index, Index>{0, 3}, {1, 1}, {2, 0}, {3, 2}}) {
      CHECK(view.constituent(to) == jets.constituent(from));
    }
  }
}

TEST_CASE("momentum is conserved: what a view lacks is what the beam took", "[views]") {
  const ViewGenerator<double> generator({rino::subjets(1), rino::subjets(3), rino::subjets(10)});
  const Jets<double> jets = nasty_jets();
  const std::vector<Jets<double>> views = generator(jets);
  double worst = 0.0;
  Index whole = 0;
  Index reduced = 0;
  for (Index j = 0; j < jets.size(); ++j) {
    for (std::size_t v = 0; v < views.size(); ++v) {
      const std::vector<Index> subjets = generator.subjet_of_constituent(jets, j, generator.resolutions()[v]);
      FourMomentum<double> lost = FourMomentum<double>::Zero();
      for (std::size_t i = 0; i < subjets.size(); ++i) {
        if (subjets[i] < 0) {
          lost += jets.constituent(jets.begin(j) + static_cast<Index>(i));
        }
      }
      const FourMomentum<double> sum = jets.four_momentum(j);
      const FourMomentum<double> missing = sum - views[v].four_momentum(j) - lost;
      worst = std::max(worst, missing.lpNorm<Eigen::Infinity>() / std::max(sum[3], 1e-320));
      (std::find(subjets.begin(), subjets.end(), Index{-1}) == subjets.end() ? whole : reduced) += 1;
    }
  }
  CHECK(worst <= 1e-12);
  CHECK(whole > 100);
  CHECK(reduced > 100);
}

TEMPLATE_TEST_CASE("subjet_of_constituent sums to the view's subjets", "[views]", Kt, CambridgeAachen, AntiKt) {
  std::vector<Resolution> resolutions{rino::subjets(1), rino::subjets(2), rino::subjets(7), rino::particles()};
  if constexpr (std::is_same_v<TestType, Kt>) {
    resolutions.push_back(rino::kt(4));
    resolutions.push_back(rino::fraction(0.05));
  }
  const ViewGenerator<double, TestType> generator(resolutions);
  const Jets<double> jets = nasty_jets();
  const std::vector<Jets<double>> views = generator(jets);
  double worst = 0.0;
  bool sized = true;
  for (Index j = 0; j < jets.size(); ++j) {
    for (std::size_t v = 0; v < views.size(); ++v) {
      const std::vector<Index> subjets = generator.subjet_of_constituent(jets, j, resolutions[v]);
      sized = sized && static_cast<Index>(subjets.size()) == jets.multiplicity(j);
      std::vector<FourMomentum<double>> sums(static_cast<std::size_t>(views[v].multiplicity(j)),
                                             FourMomentum<double>::Zero());
      for (std::size_t i = 0; i < subjets.size(); ++i) {
        if (subjets[i] >= 0) {
          sums.at(static_cast<std::size_t>(subjets[i])) += jets.constituent(jets.begin(j) + static_cast<Index>(i));
        }
      }
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const FourMomentum<double> subjet = views[v].constituent(views[v].begin(j) + static_cast<Index>(i));
        worst = std::max(worst, (sums[i] - subjet).lpNorm<Eigen::Infinity>() / std::max(subjet[3], 1e-320));
      }
    }
  }
  CHECK(sized);
  CHECK(worst <= 1e-12);
}

TEST_CASE("a soft particle far from the jet is lost to the beam in coarse views only", "[views]") {
  JetBuilder builder;
  builder.add(1.0, 2.5, 2.0);
  builder.add(300.0, 0.0, 0.0);
  builder.add(200.0, 0.3, 0.1);
  builder.end_jet();
  const Jets<double> jets = builder.jets();
  const ViewGenerator<double> generator({rino::subjets(2), rino::subjets(3)});
  CHECK(generator.subjet_of_constituent(jets, 0, rino::subjets(3)) == std::vector<Index>{2, 0, 1});
  CHECK(generator.subjet_of_constituent(jets, 0, rino::subjets(2)) == std::vector<Index>{-1, 0, 1});
  CHECK(generator.subjet_of_constituent(jets, 0, rino::subjets(1)) == std::vector<Index>{-1, 0, 0});
  CHECK(generator.subjet_of_constituent(jets, 0, rino::particles()) == std::vector<Index>{2, 0, 1});
  CHECK(generator(jets)[0].four_momentum(0).isApprox(jets.constituent(1) + jets.constituent(2), 1e-15));
}

TEST_CASE("labels ride along, extras are summed over a subjet", "[views]") {
  const Jets<double> plain = ordinary_jets(100);
  std::vector<double> ones(static_cast<std::size_t>(plain.constituents()), 1.0);
  std::vector<double> energies(plain.e().begin(), plain.e().end());
  const Jets<double> jets = plain.with_extra("count", ones).with_extra("energy", energies);
  const ViewGenerator<double> generator({rino::subjets(1), rino::subjets(5), rino::particles()}, {.threads = 3});
  const std::vector<Jets<double>> views = generator(jets);
  for (std::size_t v = 0; v < views.size(); ++v) {
    CHECK(*views[v].labels() == *jets.labels());
    REQUIRE(views[v].extras().size() == 2);
    const std::vector<double>& counts = *views[v].extras().at("count");
    const std::vector<double>& sums = *views[v].extras().at("energy");
    double worst = 0.0;
    for (Index i = 0; i < views[v].constituents(); ++i) {
      const double e = views[v].constituent(i)[3];
      worst = std::max(worst, std::abs(sums[static_cast<std::size_t>(i)] - e) / e);
    }
    CHECK(worst <= 1e-12);
    for (Index j = 0; j < jets.size(); ++j) {
      const std::vector<Index> subjets = generator.subjet_of_constituent(jets, j, generator.resolutions()[v]);
      for (Index i = 0; i < views[v].multiplicity(j); ++i) {
        const auto expected = static_cast<double>(std::count(subjets.begin(), subjets.end(), i));
        REQUIRE(counts[static_cast<std::size_t>(views[v].begin(j) + i)] == expected);
      }
    }
  }
}

TEST_CASE("the number of threads does not change a bit, nor do the companions in the batch", "[views]") {
  const Jets<double> jets = nasty_jets();
  const std::vector<Resolution> resolutions{rino::subjets(1), rino::subjets(6), rino::kt(2), rino::particles()};
  const std::vector<Jets<double>> reference = ViewGenerator<double>(resolutions)(jets);
  for (const int threads : {2, 3, 7, 1000}) {
    const std::vector<Jets<double>> views = ViewGenerator<double>(resolutions, {.threads = threads})(jets);
    for (std::size_t v = 0; v < views.size(); ++v) {
      CHECK(same(views[v], reference[v]));
    }
  }
  for (const Index j : {Index{0}, Index{17}, jets.size() - 1}) {
    const std::vector<Jets<double>> alone = ViewGenerator<double>(resolutions)(jets.slice(j, j + 1));
    for (std::size_t v = 0; v < alone.size(); ++v) {
      CHECK(same(alone[v], reference[v].slice(j, j + 1)));
    }
  }
}

TEST_CASE("strided memory gives the same views", "[views]") {
  const Jets<double> jets = ordinary_jets(20);
  const auto rows = std::make_shared<std::vector<double>>();
  for (Index i = 0; i < jets.constituents(); ++i) {
    const FourMomentum<double> p = jets.constituent(i);
    rows->insert(rows->end(), p.begin(), p.end());
  }
  const double* data = rows->data();
  const auto strided =
      Jets<double>::borrow({{{data, 4}, {data + 1, 4}, {data + 2, 4}, {data + 3, 4}}}, jets.offsets(), rows);
  const ViewGenerator<double> generator({rino::subjets(3), rino::particles()});
  CHECK(same(generator(strided)[0], generator(jets)[0]));
  CHECK(same(generator(strided)[1], generator(jets)[1]));
}

TEST_CASE("no jets give views of no jets", "[views]") {
  for (const int threads : {1, 4}) {
    const std::vector<Jets<double>> views =
        ViewGenerator<double>({rino::subjets(2), rino::particles()}, {.threads = threads})(Jets<double>());
    REQUIRE(views.size() == 2);
    CHECK(views[0].empty());
    CHECK(views[1].constituents() == 0);
  }
}

TEST_CASE("one constituent is every view", "[views]") {
  JetBuilder builder;
  builder.add(50, 1.0, 3.0);
  builder.end_jet();
  builder.add_momentum(0, 0, 20, 20);
  builder.end_jet();
  builder.add_momentum(0, 0, 0, 0);
  builder.end_jet();
  const Jets<double> jets = builder.jets();
  for (const Jets<double>& view : ViewGenerator<double>({rino::subjets(1), rino::subjets(9), rino::kt(1), rino::kt(1e9),
                                                         rino::fraction(0.5), rino::particles()})(jets)) {
    CHECK(same(view, jets));
  }
}

TEST_CASE("momenta near the largest double crash nothing", "[views]") {
  JetBuilder builder;
  for (int i = 0; i < 50; ++i) {
    const double sign = i % 2 == 0 ? 1 : -1;
    builder.add_momentum(sign * 1e308, sign * 1e306 * i, 0, 1.5e308);
  }
  builder.end_jet();
  for (const Jets<double>& view :
       ViewGenerator<double>({rino::subjets(1), rino::subjets(9), rino::kt(1), rino::particles()})(builder.jets())) {
    CHECK(view.multiplicity(0) >= 1);
  }
}

// ---------------------------------------------------------------------------------------------------------- errors

TEST_CASE("what a view generator cannot do is an error", "[views][errors]") {
  using Generator = ViewGenerator<double>;
  const std::vector<Resolution> one{rino::subjets(1)};
  CHECK(says(error_of([] { Generator({}); }), "no resolutions"));
  for (const double radius : {0.0, -0.8, 1001.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(says(error_of([&] { Generator(one, {.radius = radius}); }), "radius is ", "0 < R <= 1000"));
  }
  CHECK(says(error_of([&] { Generator(one, {.threads = 0}); }), "threads is 0", "1 or more"));
  for (const Resolution& resolution : {rino::kt(5), rino::fraction(0.1)}) {
    const std::string name = "'" + resolution.name() + "' has no meaning";
    CHECK(says(error_of([&] { ViewGenerator<double, CambridgeAachen>({resolution}); }), name, "cambridge"));
    CHECK(says(error_of([&] { ViewGenerator<double, AntiKt>({rino::subjets(1), resolution}); }), name, "antikt"));
    CHECK(says(error_of([&] {
                 const ViewGenerator<double, AntiKt> generator(one);
                 static_cast<void>(generator.subjet_of_constituent(ordinary_jets(1), 0, resolution));
               }),
               name));
  }
  const Jets<double> jets = ordinary_jets(3);
  CHECK(says(error_of([&] { static_cast<void>(Generator(one).subjet_of_constituent(jets, 3, rino::subjets(1))); }),
             "jet 3 was asked for, of 3"));
  CHECK(says(error_of([&] { static_cast<void>(Generator(one).subjet_of_constituent(jets, -1, rino::subjets(1))); }),
             "jet -1"));
}

// --------------------------------------------------------------------------------------------------------- history

TEST_CASE("a hand-made history is read as FastJet's would be", "[views][history]") {
  rino::ClusteringHistory history;
  history.add_constituent({3, 0, 0, 3});
  history.add_constituent({5, 0, 0, 5});
  history.add_constituent({1, 0, 0, 1});
  history.merge_with_beam(2, 1.0);
  history.merge(0, 1, 0.5, {8, 0, 0, 8});  // a smaller distance after a larger: counts as the larger
  history.merge_with_beam(4, 64.0);
  history.rank();
  const auto pts = [&](Index count) {
    std::vector<double> result;
    history.for_each_subjet(count, [&](const rino::ClusteringHistory::Momentum& p) { result.push_back(p[0]); });
    return result;
  };
  CHECK(pts(3) == std::vector<double>{5, 3, 1});
  CHECK(pts(2) == std::vector<double>{5, 3});
  CHECK(pts(1) == std::vector<double>{8});
  CHECK(history.exclusive(0.7) == 3);
  CHECK(history.exclusive(1.0) == 1);
  CHECK(history.exclusive(63.0) == 1);
  CHECK(history.exclusive(64.0) == 0);
  std::vector<Index> subjets;
  history.subjets_of_constituents(2, subjets);
  CHECK(subjets == std::vector<Index>{1, 0, -1});
  history.subjets_of_constituents(1, subjets);
  CHECK(subjets == std::vector<Index>{0, 0, -1});
  history.clear();
  CHECK(history.constituents() == 0);
}

namespace {

/// A clusterer that merges neighbours in the given order: what another backend looks like.
struct PairwiseClusterer {
  static constexpr bool kThreadSafe = true;
  explicit PairwiseClusterer(double) {}

  template <typename Scalar, typename Visitor>
  void operator()(const Jets<Scalar>& jets, Index first, Index last, const Visitor& visit) {
    for (Index j = first; j < last; ++j) {
      rino::ClusteringHistory history;
      history.add_constituents(jets, j);
      const Index n = history.constituents();
      Index merged = 0;
      for (Index i = 1; i < n; ++i) {
        std::array<double, 4> p{};
        for (std::size_t c = 0; c < 4; ++c) {
          p[c] = history.momenta()[static_cast<std::size_t>(merged)][c] +
                 history.momenta()[static_cast<std::size_t>(i)][c];
        }
        history.merge(merged, i, static_cast<double>(i), p);
        merged = n + i - 1;
      }
      history.merge_with_beam(merged, 1e9);
      visit(j, history);
    }
  }
};
static_assert(rino::Clusterer<PairwiseClusterer, double>);
static_assert(!rino::Clusterer<int, double>);
static_assert(!rino::ClusteringAlgorithm<int>);

}  // namespace

TEST_CASE("another backend serves the same generator", "[views][history]") {
  const Jets<double> jets = ordinary_jets(20);
  const auto views = ViewGenerator<double, Kt, PairwiseClusterer>({rino::subjets(1), rino::particles()})(jets);
  for (Index j = 0; j < jets.size(); ++j) {
    CHECK(views[0].constituent(j) == jets.four_momentum(j));
  }
}
