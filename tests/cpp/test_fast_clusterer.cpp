#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rino/simd/math.hpp>

#define RINO_SIMD_KERNELS "simd_math_probe.inc"
#include <rino/simd/each_target.inc>

#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/views/fast_clusterer.hpp>
#include <rino/views/plain_clusterer.hpp>
#include <rino/views/view_generator.hpp>

#include "catch.hpp"
#include "exactness.hpp"

namespace {

using rino::AntiKt;
using rino::CambridgeAachen;
using rino::FastClusterer;
using rino::Jets;
using rino::Kt;
using rino::PlainClusterer;
using rino::Resolution;
using rino::ViewBackend;
using rino::ViewGenerator;
using rino::ViewOptions;
using rino::simd::Target;
using Index = std::int64_t;

/// An algorithm between kT and Cambridge/Aachen, which the fast backend does not know.
struct Halfway {
  static constexpr double exponent = 0.5;
  static constexpr std::string_view name = "halfway";
};

Jets<double> toy(Index count, std::uint64_t seed = 11) {
  rino::ToyShowerOptions options;
  options.jets = count;
  options.top_fraction = 0.3;
  return rino::toy_shower<double>(options, seed);
}

/// Some jets of every kind, shuffled together with toy jets.
Jets<double> mixed_jets() {
  std::array<std::vector<double>, 4> columns;
  std::vector<Index> offsets{0};
  const auto add = [&](const Jets<double>& jets) {
    for (Index j = 0; j < jets.size(); ++j) {
      for (Index i = jets.begin(j); i < jets.end(j); ++i) {
        const rino::FourMomentum<double> p = jets.constituent(i);
        for (std::size_t c = 0; c < 4; ++c) {
          columns[c].push_back(p[static_cast<int>(c)]);
        }
      }
      offsets.push_back(static_cast<Index>(columns[0].size()));
    }
  };
  add(toy(150));
  for (const exactness::Kind& kind : exactness::kinds()) {
    add(exactness::jets_of(kind, 6, 5));
  }
  const auto jets = Jets<double>::from_columns(columns, offsets);
  const std::vector<Index> order = rino::Random({3}).permutation(jets.size());
  return jets.select(order);
}

/// Whether all is the same, to the last bit: momenta, labels, extras.
template <typename Scalar>
bool identical(const Jets<Scalar>& one, const Jets<Scalar>& two) {
  const auto bits = [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), [](Scalar a, Scalar b) {
             return a == b && std::signbit(a) == std::signbit(b);
           });
  };
  bool same = one.offsets() == two.offsets() && bits(one.px(), two.px()) && bits(one.py(), two.py()) &&
              bits(one.pz(), two.pz()) && bits(one.e(), two.e()) && one.extras().size() == two.extras().size() &&
              (one.labels() == nullptr) == (two.labels() == nullptr);
  if (same && one.labels()) {
    same = *one.labels() == *two.labels();
  }
  for (const auto& [name, values] : one.extras()) {
    same = same && two.extras().count(name) == 1 && bits(*values, *two.extras().at(name));
  }
  return same;
}

template <typename Scalar>
bool identical(const std::vector<Jets<Scalar>>& one, const std::vector<Jets<Scalar>>& two) {
  return std::equal(one.begin(), one.end(), two.begin(), two.end(),
                    [](const Jets<Scalar>& a, const Jets<Scalar>& b) { return identical(a, b); });
}

template <typename Algorithm>
std::vector<Resolution> some_resolutions() {
  std::vector<Resolution> resolutions{rino::subjets(3), rino::particles(), rino::subjets(1),   rino::subjets(64),
                                      rino::subjets(8), rino::subjets(3),  rino::subjets(4000)};
  if constexpr (Algorithm::exponent == 1.0) {
    for (const Resolution& scale : {rino::fraction(0.02), rino::kt(0.01), rino::kt(2.0), rino::kt(20.0),
                                    rino::fraction(1e-9), rino::kt(1e30), rino::fraction(0.3)}) {
      resolutions.push_back(scale);
    }
  }
  return resolutions;
}

template <typename Algorithm, typename Scalar>
std::vector<Jets<Scalar>> views(const Jets<Scalar>& jets, const ViewOptions& options) {
  return ViewGenerator<Scalar, Algorithm>(some_resolutions<Algorithm>(), options)(jets);
}

}  // namespace

// ------------------------------------------------------------------------------------------------ log and atan2

namespace {

double any_positive(rino::Random& random) {
  for (;;) {
    const auto x = std::bit_cast<double>(random.bits() >> 1);
    if (std::isfinite(x)) {
      return x;
    }
  }
}

/// The distance of a result from the exact one in units of the last place.
double ulps(double result, long double exact) {
  const double rounded = static_cast<double>(exact);
  if (result == rounded || (std::isnan(result) && std::isnan(rounded))) {
    return 0.0;
  }
  const double unit = std::nextafter(std::abs(rounded), std::numeric_limits<double>::infinity()) - std::abs(rounded);
  return static_cast<double>(std::abs(static_cast<long double>(result) - exact)) / unit;
}

using Function = void (*)(const double*, const double*, double*, Index);

std::vector<std::pair<Function, Function>> math_of_all_targets() {
  const auto log_with = []<auto log>() {
    return [](const double*, const double* x, double* r, Index n) { log(x, r, n); };
  };
  std::vector<std::pair<Function, Function>> all{
      {log_with.operator()<&rino::simd::baseline::log_of>(), &rino::simd::baseline::atan2_of}};
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  for (const Target target : rino::simd::supported_targets()) {
    if (target == Target::avx2) {
      all.push_back({log_with.operator()<&rino::simd::avx2::log_of>(), &rino::simd::avx2::atan2_of});
    } else if (target == Target::avx512) {
      all.push_back({log_with.operator()<&rino::simd::avx512::log_of>(), &rino::simd::avx512::atan2_of});
    }
  }
#endif
  return all;
}

bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

}  // namespace

TEST_CASE("log and atan2 are good to 1 and 2 units in the last place, from the smallest to the largest", "[simd]") {
  constexpr std::size_t kCount = 200000;
  rino::Random random({6});
  std::vector<double> y(kCount);
  std::vector<double> x(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto sign = [&] { return random.below(2) == 0 ? 1.0 : -1.0; };
    switch (i % 5) {
      case 0:  // all exponents
        y[i] = sign() * any_positive(random) / 4;
        x[i] = sign() * any_positive(random) / 4;
        break;
      case 1:
        y[i] = random.uniform(-1.0, 1.0);
        x[i] = random.uniform(-1.0, 1.0);
        break;
      case 2:  // near 1, near the axes
        y[i] = sign() * std::exp(random.uniform(-40.0, 0.0));
        x[i] = sign() * (1.0 + std::exp(random.uniform(-40.0, 0.0)));
        break;
      case 3:  // denormal
        y[i] = sign() * 1e-310 * random.uniform();
        x[i] = sign() * 1e-310 * random.uniform();
        break;
      default:  // near the diagonals, where the formula changes
        x[i] = sign() * std::exp(random.uniform(-5.0, 5.0));
        y[i] = x[i] * (random.below(2) == 0 ? 1.0 : 0.41421356237309503) * (1.0 + 1e-12 * random.uniform(-1.0, 1.0));
    }
  }
  std::vector<double> positive(kCount);
  std::transform(x.begin(), x.end(), positive.begin(), [](double v) { return std::abs(v); });
  std::vector<std::vector<double>> logs;
  std::vector<std::vector<double>> angles;
  for (const auto& [log, atan2] : math_of_all_targets()) {
    logs.emplace_back(kCount);
    angles.emplace_back(kCount);
    log(nullptr, positive.data(), logs.back().data(), kCount);
    atan2(y.data(), x.data(), angles.back().data(), kCount);
  }
  double worst_log = 0.0;
  double worst_angle = 0.0;
  bool equal = true;
  for (std::size_t i = 0; i < kCount; ++i) {
    worst_log = std::max(worst_log, ulps(logs[0][i], std::log(static_cast<long double>(positive[i]))));
    worst_angle = std::max(
        worst_angle, ulps(angles[0][i], std::atan2(static_cast<long double>(y[i]), static_cast<long double>(x[i]))));
    for (std::size_t t = 1; t < logs.size(); ++t) {
      equal = equal && same_bits(logs[0][i], logs[t][i]) && same_bits(angles[0][i], angles[t][i]);
    }
  }
  CHECK(worst_log <= 1.0);
  CHECK(worst_angle <= 2.0);
  CHECK(equal);
}

TEST_CASE("log and atan2 at zeros, infinities and what is no number are the standard's", "[simd]") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::array<double, 8> special{0.0, -0.0,  -1.0, kInf, -kInf, std::numeric_limits<double>::quiet_NaN(),
                                      1.0, 5e-324};
  const std::array<double, 8> finite{0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1e300, -1e300};
  for (const auto& [log, atan2] : math_of_all_targets()) {
    std::array<double, 8> results{};
    log(nullptr, special.data(), results.data(), 8);
    for (std::size_t i = 0; i < 8; ++i) {
      CHECK(same_bits(results[i], std::log(special[i])));
    }
    for (const double y : finite) {
      std::array<double, 8> ys{};
      ys.fill(y);
      atan2(ys.data(), finite.data(), results.data(), 8);
      for (std::size_t i = 0; i < 8; ++i) {
        CHECK(same_bits(results[i], std::atan2(y, finite[i])));
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------------- exactness

TEST_CASE("every step is FastJet's, on a thousandth of the jets of the full comparison", "[fast][reference]") {
  fastjet::LimitedWarning::set_default_stream(nullptr);
  for (const Target target : rino::simd::supported_targets()) {
    exactness::Outcome all;
    std::vector<std::string> left_to_fastjet;
    exactness::run(1000, 1, target, [&](const char* name, const exactness::Outcome& outcome) {
      all.add(outcome);
      if (std::string(name) == "toy shower" || std::string(name) == "plain" || std::string(name) == "wide" ||
          std::string(name) == "to the beam") {
        CHECK(10 * outcome.undecided <= outcome.jets);
      }
    });
    CHECK(all.jets == 3000);
    CHECK(all.disagree == 0);
    CHECK(all.views_differ == 0);
    CHECK(all.distance <= 1e-10);
    CHECK(all.collinear <= 1e-14);
    CHECK(all.listed.empty());
  }
}

namespace {

/// Exclusive clustering by the definition, in extended precision, all pairs at every step: the constituents of each
/// object that is left, for every number.
std::vector<std::vector<std::vector<Index>>> by_definition(const Jets<double>& jets, Index j, double p, double radius) {
  using Real = long double;
  struct Object {
    std::array<Real, 4> p;
    std::vector<Index> constituents;
    Real y() const { return std::atanh(p[2] / p[3]); }
    Real phi() const { return std::atan2(p[1], p[0]); }
    Real pt2() const { return p[0] * p[0] + p[1] * p[1]; }
  };
  std::vector<Object> objects;
  for (Index i = jets.begin(j); i < jets.end(j); ++i) {
    const rino::FourMomentum<double> q = jets.constituent(i);
    objects.push_back({{q[0], q[1], q[2], q[3]}, {i - jets.begin(j)}});
  }
  std::vector<std::vector<std::vector<Index>>> partitions(objects.size() + 1);
  while (!objects.empty()) {
    for (const Object& object : objects) {
      partitions[objects.size()].push_back(object.constituents);
    }
    std::sort(partitions[objects.size()].begin(), partitions[objects.size()].end());
    std::size_t a = 0;
    std::size_t b = objects.size();
    Real least = std::numeric_limits<Real>::infinity();
    for (std::size_t i = 0; i < objects.size(); ++i) {
      const Real scale = std::pow(objects[i].pt2(), static_cast<Real>(p));
      if (scale < least) {
        least = scale;
        a = i;
        b = objects.size();
      }
      for (std::size_t k = 0; k < i; ++k) {
        const Real dy = objects[i].y() - objects[k].y();
        const Real dphi = std::remainder(objects[i].phi() - objects[k].phi(), 2 * std::numbers::pi_v<Real>);
        const Real d = std::min(scale, std::pow(objects[k].pt2(), static_cast<Real>(p))) * (dy * dy + dphi * dphi) /
                       static_cast<Real>(radius * radius);
        if (d < least) {
          least = d;
          a = i;
          b = k;
        }
      }
    }
    if (b < objects.size()) {
      for (std::size_t c = 0; c < 4; ++c) {
        objects[b].p[c] += objects[a].p[c];
      }
      objects[b].constituents.insert(objects[b].constituents.end(), objects[a].constituents.begin(),
                                     objects[a].constituents.end());
      std::sort(objects[b].constituents.begin(), objects[b].constituents.end());
    }
    objects.erase(objects.begin() + static_cast<std::ptrdiff_t>(a));
  }
  return partitions;
}

}  // namespace

TEMPLATE_TEST_CASE("partitions are those of the definition in extended precision", "[fast][reference]", Kt,
                   CambridgeAachen, AntiKt) {
  for (const auto fill : {&exactness::fills::seam, &exactness::fills::wide, &exactness::fills::forward,
                          &exactness::fills::to_the_beam, &exactness::fills::below_mass_shell}) {
    // C/A sends all that is isolated to the beam at one distance: which first is FastJet's choice, not the
    // definition's.
    const double radius = TestType::exponent == 0.0 ? 30.0 : 0.8;
    const Jets<double> jets = exactness::jets_of({"", 0.0, fill}, 25, 4);
    FastClusterer<TestType> fast(radius);
    for (Index j = 0; j < jets.size(); ++j) {
      fast.clear();
      fast.add(0, jets, j);
      fast.run();
      REQUIRE(fast.decided(0));
      const auto partitions = by_definition(jets, j, TestType::exponent, radius);
      rino::ClusteringHistory history;
      fast.history(0, history);
      history.rank();
      bool equal = true;
      std::vector<Index> subjets;
      for (Index count = 1; count <= jets.multiplicity(j); ++count) {
        history.subjets_of_constituents(count, subjets);
        std::vector<std::vector<Index>> partition(static_cast<std::size_t>(count));
        for (std::size_t i = 0; i < subjets.size(); ++i) {
          if (subjets[i] >= 0) {
            partition[static_cast<std::size_t>(subjets[i])].push_back(static_cast<Index>(i));
          }
        }
        std::sort(partition.begin(), partition.end());
        equal = equal && partition == partitions[static_cast<std::size_t>(count)];
      }
      CHECK(equal);
    }
  }
}

TEST_CASE("rounding is left to FastJet, and nothing else", "[fast]") {
  const auto decided = [](const auto& fill, double radius = 0.8) {
    JetBuilder builder;
    fill(builder);
    builder.end_jet();
    FastClusterer<Kt> fast(radius);
    fast.add(0, builder.jets(), 0);
    fast.run();
    return fast.decided(0);
  };
  CHECK(decided([](JetBuilder& jet) {
    jet.add(10, 0, 0);
    jet.add(20, 0.1, 0);
    jet.add(50, 0.3, 0);
  }));
  CHECK_FALSE(decided([](JetBuilder& jet) {  // two neighbours equally far
    jet.add(10, 0, 0);
    jet.add(20, 0.1, 0);
    jet.add(20.5, -0.1, 0);
  }));
  CHECK_FALSE(decided([](JetBuilder& jet) {  // two pairs equally far in d_ij
    jet.add(10, 0, 0);
    jet.add(20, 0.1, 0);
    jet.add(10, 3, 2);
    jet.add(20, 3.1, 2);
  }));
  CHECK_FALSE(decided([](JetBuilder& jet) {  // one direction
    jet.add(10, 0.1, 0.2);
    jet.add(20, 0.1, 0.2);
    jet.add(20, 0.5, 0.2);
  }));
  CHECK_FALSE(decided([](JetBuilder& jet) {  // no pT
    jet.add(10, 0.1, 0.2);
    jet.add_momentum(0, 0, 5, 5);
  }));
  CHECK_FALSE(decided(
      [](JetBuilder& jet) {  // exactly R apart
        jet.add_momentum(std::cos(0.25), std::sin(0.25), 0, 1);
        jet.add_momentum(2 * std::cos(0.75), 2 * std::sin(0.75), 0, 2);
      },
      0.5));
  CHECK_FALSE(decided(
      [](JetBuilder& jet) {  // what merges has no pT
        jet.add_momentum(10, 0, 0, 10);
        jet.add_momentum(-10, 0, 0, 10);
      },
      4.0));
}

// ------------------------------------------------------------------------------------------------------- backends

TEMPLATE_TEST_CASE("views of both backends are the same to the last bit, extras and labels too", "[fast][views]", Kt,
                   CambridgeAachen, AntiKt) {
  const Jets<double> plain = mixed_jets();
  std::vector<double> charges(static_cast<std::size_t>(plain.constituents()));
  std::vector<double> weights(charges.size());
  rino::Random random({8});
  for (std::size_t i = 0; i < charges.size(); ++i) {
    charges[i] = static_cast<double>(random.below(3) - 1);
    weights[i] = random.uniform(-1.0, 1.0);
  }
  std::vector<Index> labels(static_cast<std::size_t>(plain.size()));
  for (std::size_t j = 0; j < labels.size(); ++j) {
    labels[j] = static_cast<Index>(j % 5);
  }
  const Jets<double> jets = plain.with_extra("charge", charges).with_extra("weight", weights).with_labels(labels);
  for (const double radius : {0.4, 0.8, 4.0}) {
    const auto reference = views<TestType>(jets, {.radius = radius, .backend = ViewBackend::fastjet});
    for (const Target target : rino::simd::supported_targets()) {
      CHECK(identical(views<TestType>(jets, {.radius = radius, .backend = ViewBackend::fast, .target = target}),
                      reference));
    }
    CHECK(identical(views<TestType>(jets, {.radius = radius, .threads = 3}), reference));
  }
}

TEMPLATE_TEST_CASE("subjets of constituents are the same with both backends", "[fast][views]", Kt, CambridgeAachen,
                   AntiKt) {
  const Jets<double> jets = mixed_jets();
  const ViewGenerator<double, TestType> fast(some_resolutions<TestType>(), {.backend = ViewBackend::fast});
  const ViewGenerator<double, TestType> reference(some_resolutions<TestType>(), {.backend = ViewBackend::fastjet});
  bool equal = true;
  for (Index j = 0; j < jets.size(); j += 3) {
    for (const Resolution& resolution : fast.resolutions()) {
      equal = equal &&
              fast.subjet_of_constituent(jets, j, resolution) == reference.subjet_of_constituent(jets, j, resolution);
    }
  }
  CHECK(equal);
}

TEMPLATE_TEST_CASE("what clusters without FastJet gives what FastJet gives, equal distances included",
                   "[fast][views][reference]", Kt, CambridgeAachen, AntiKt) {
  JetBuilder large;
  rino::Random random({9});
  exactness::fills::plain(large, random, 1500);
  large.end_jet();
  for (const Jets<double>& jets : {mixed_jets(), large.jets()}) {
    for (const double radius : {0.4, 0.8, 4.0}) {
      const ViewGenerator<double, TestType, PlainClusterer<TestType>> plain(some_resolutions<TestType>(),
                                                                            {.radius = radius});
      CHECK(identical(plain(jets), views<TestType>(jets, {.radius = radius, .backend = ViewBackend::fastjet})));
    }
  }
}

TEST_CASE("without FastJet there is no backend of its name, and the error says what to link", "[fast][errors]") {
  using Plain = ViewGenerator<double, Kt, PlainClusterer<Kt>>;
  CHECK(says(error_of([] { Plain({rino::subjets(2)}, {.backend = ViewBackend::fastjet}); }), "backend is 'fastjet'",
             "rino::fastjet", "'auto'"));
}

TEST_CASE("single-precision and strided jets give what FastJet gives", "[fast][views]") {
  const Jets<double> jets = toy(300);
  std::array<std::vector<float>, 4> narrow;
  const auto rows = std::make_shared<std::vector<double>>();
  for (Index i = 0; i < jets.constituents(); ++i) {
    for (std::size_t c = 0; c < 4; ++c) {
      narrow[c].push_back(static_cast<float>(jets.constituent(i)[static_cast<int>(c)]));
      rows->push_back(jets.constituent(i)[static_cast<int>(c)]);
    }
  }
  const auto floats = Jets<float>::from_columns(narrow, jets.offsets());
  CHECK(identical(views<Kt>(floats, {.backend = ViewBackend::fast}),
                  views<Kt>(floats, {.backend = ViewBackend::fastjet})));
  const double* data = rows->data();
  const auto strided =
      Jets<double>::borrow({{{data, 4}, {data + 1, 4}, {data + 2, 4}, {data + 3, 4}}}, jets.offsets(), rows)
          .with_labels(*jets.labels());
  CHECK(identical(views<Kt>(strided, {.backend = ViewBackend::fast}), views<Kt>(jets, {.backend = ViewBackend::fast})));
}

TEST_CASE("a jet's views depend on neither its companions, their order, nor the threads", "[fast][views]") {
  const Jets<double> jets = mixed_jets();
  for (const Target target : rino::simd::supported_targets()) {
    const auto options = [&](int threads) {
      return ViewOptions{.threads = threads, .backend = ViewBackend::fast, .target = target};
    };
    const auto all = views<Kt>(jets, options(1));
    for (const int threads : {2, 5, 1000}) {
      CHECK(identical(views<Kt>(jets, options(threads)), all));
    }
    bool equal = true;
    for (Index j = 0; j < jets.size(); j += 7) {
      const auto alone = views<Kt>(jets.slice(j, j + 1), options(1));
      for (std::size_t v = 0; v < all.size(); ++v) {
        equal = equal && identical(alone[v], all[v].slice(j, j + 1));
      }
    }
    CHECK(equal);
  }
}

TEST_CASE("jets of one constituent, of as many as fit, and of one more", "[fast][views]") {
  JetBuilder builder;
  rino::Random random({9});
  for (const Index n : {Index{1}, FastClusterer<Kt>::kMostConstituents, FastClusterer<Kt>::kMostConstituents + 1,
                        Index{1500}, Index{2}}) {
    exactness::fills::plain(builder, random, n);
    builder.end_jet();
  }
  const Jets<double> jets = builder.jets();
  CHECK(identical(views<Kt>(jets, {.backend = ViewBackend::fast}), views<Kt>(jets, {.backend = ViewBackend::fastjet})));
  CHECK(identical(views<AntiKt>(jets, {.backend = ViewBackend::fast}),
                  views<AntiKt>(jets, {.backend = ViewBackend::fastjet})));
  CHECK(views<Kt>(jets.slice(0, 0), {.backend = ViewBackend::fast})[0].empty());
}

TEST_CASE("equal pT stand in the order of their lowest constituents", "[fast][views]") {
  JetBuilder builder;
  const std::array<std::pair<double, double>, 4> directions{{{0.3, 0.0}, {0.1, 0.5}, {0.45, 0.2}, {0.0, 0.27}}};
  for (const auto& [y, x] : directions) {  // pT of 5 exactly, each its own scale of rounding in px^2 + py^2
    const double pz = 5 * std::sinh(y);
    builder.add_momentum(x < 0.1   ? 3
                         : x < 0.3 ? 4
                         : x < 0.5 ? 0
                                   : 5,
                         x < 0.1   ? 4
                         : x < 0.3 ? 3
                         : x < 0.5 ? 5
                                   : 0,
                         pz, std::hypot(5, pz));
  }
  builder.end_jet();
  const Jets<double> jets = builder.jets();
  const Jets<double> view = ViewGenerator<double>({rino::particles()}, {.backend = ViewBackend::fast})(jets)[0];
  CHECK(identical(view, jets));
}

TEST_CASE("a backend that cannot do what is asked says so", "[fast][errors]") {
  const std::vector<Resolution> one{rino::subjets(2)};
  CHECK(says(error_of([&] { ViewGenerator<double, Halfway>(one, {.backend = ViewBackend::fast}); }), "'fast'",
             "halfway", "'fastjet'"));
  CHECK(says(error_of([&] { ViewGenerator<double>(one, {.radius = 1e-4, .backend = ViewBackend::fast}); }),
             "radius is 0.0001", "'fast'", "'fastjet'"));
  const Jets<double> jets = toy(30);
  CHECK(ViewGenerator<double, Halfway>(one)(jets)[0].size() == 30);
  CHECK(identical(ViewGenerator<double>(one, {.radius = 1e-4})(jets),
                  ViewGenerator<double>(one, {.radius = 1e-4, .backend = ViewBackend::fastjet})(jets)));
  CHECK(rino::parse_enum<ViewBackend>("auto", "backend") == ViewBackend::automatic);
  CHECK(says(error_of([] { rino::parse_enum<ViewBackend>("gpu", "backend"); }), "backend is 'gpu'",
             "'auto', 'fast', 'fastjet'"));
}
