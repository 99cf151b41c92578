#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fastjet/ClusterSequence.hh>

#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/views/fast_clusterer.hpp>
#include <rino/views/view_generator.hpp>

#include "jet_builder.hpp"

/// Whether FastClusterer finds what FastJet finds, step by step, on jets of all kinds. The program `exactness` runs it
/// on a million jets, the tests on a thousandth.
namespace exactness {

using Index = std::int64_t;

/// What a kind of jets is made of. `share` of all jets are of this kind.
struct Kind {
  const char* name;
  double share;
  void (*fill)(JetBuilder& jet, rino::Random& random, Index n);
};

namespace fills {

inline double soft_to_hard(rino::Random& random) {
  return std::exp(random.uniform(-3.0, 6.0));
}

/// Constituents of all momenta and masses within 1 of an axis.
inline void around(JetBuilder& jet, rino::Random& random, Index n, double y, double phi) {
  for (Index i = 0; i < n; ++i) {
    const double mass = random.below(3) == 0 ? random.uniform(0.0, 2.0) : 0.0;
    jet.add(soft_to_hard(random), y + random.uniform(-1.0, 1.0), phi + random.uniform(-1.0, 1.0), mass);
  }
}

inline void plain(JetBuilder& jet, rino::Random& random, Index n) {
  around(jet, random, n, 0.0, random.uniform(-std::numbers::pi, std::numbers::pi));
}
inline void seam(JetBuilder& jet, rino::Random& random, Index n) {
  around(jet, random, n, 0.3, (random.below(2) == 0 ? 1 : -1) * std::numbers::pi);
}
inline void forward(JetBuilder& jet, rino::Random& random, Index n) {
  around(jet, random, n, random.uniform(-10.0, 10.0), random.uniform(-std::numbers::pi, std::numbers::pi));
}
/// All azimuths: there is no axis.
inline void wide(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {
    jet.add(soft_to_hard(random), random.uniform(-4.0, 4.0), random.uniform(-std::numbers::pi, std::numbers::pi));
  }
}
/// Soft and far from a hard core: to the beam.
inline void to_the_beam(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {
    const bool hard = i % 3 == 0;
    const double reach = hard ? 0.3 : 3.0;
    jet.add(hard ? random.uniform(20.0, 200.0) : random.uniform(0.1, 1.0), random.uniform(-reach, reach),
            random.uniform(-reach, reach));
  }
}
inline void collinear_pair(JetBuilder& jet, rino::Random& random, Index n) {
  plain(jet, random, n);
  jet.add_again(1, random.uniform(0.1, 10.0));
}
inline void nearly_collinear(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {
    const double reach = std::exp(random.uniform(-20.0, 0.0));
    jet.add(soft_to_hard(random), random.uniform(-reach, reach), random.uniform(-reach, reach));
  }
}
inline void equal_pair(JetBuilder& jet, rino::Random& random, Index n) {
  plain(jet, random, n);
  jet.add_again(1 + random.below(n), 1.0);
}
inline void equal_momenta(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {
    const double phi = random.uniform(-0.5, 0.5);
    jet.add(10.0, random.uniform(-0.5, 0.5), phi);
  }
}
inline void rounded_angles(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {  // as from a calorimeter
    jet.add(soft_to_hard(random), 0.0174 * static_cast<double>(random.below(60)),
            0.0174 * static_cast<double>(random.below(60)));
  }
}
inline void single_precision(JetBuilder& jet, rino::Random& random, Index n) {
  const auto narrow = [](double x) { return static_cast<double>(static_cast<float>(x)); };
  for (Index i = 0; i < n; ++i) {
    const double pt = soft_to_hard(random);
    const double y = 0.0174 * static_cast<double>(random.below(60));
    const double phi = 0.0174 * static_cast<double>(random.below(60));
    jet.add_momentum(narrow(pt * std::cos(phi)), narrow(pt * std::sin(phi)), narrow(pt * std::sinh(y)),
                     narrow(pt * std::cosh(y)));
  }
}
inline void lattice(JetBuilder& jet, rino::Random&, Index n) {
  for (Index i = 0; i < n; ++i) {
    jet.add(4.0, 0.125 * static_cast<double>(i % 5), 0.125 * static_cast<double>(i / 5 % 5));
  }
}
inline void all_collinear(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {
    jet.add(soft_to_hard(random), 0.5, 1.0);
  }
}
inline void without_pt(JetBuilder& jet, rino::Random& random, Index n) {
  plain(jet, random, n);
  const double pz = random.uniform(-50.0, 50.0);
  jet.add_momentum(0.0, 0.0, pz, std::abs(pz));
  jet.add_momentum(0.0, 0.0, 0.0, random.below(2) == 0 ? 1.0 : 0.0);
}
inline void back_to_back(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {  // what merges may have no pT left
    const double p = static_cast<double>(1 + random.below(5));
    jet.add_momentum(random.below(2) == 0 ? p : -p, 0.0, 0.0, p);
  }
}
inline void below_mass_shell(JetBuilder& jet, rino::Random& random, Index n) {
  for (Index i = 0; i < n; ++i) {
    const double pt = soft_to_hard(random);
    const double y = random.uniform(-1.0, 1.0);
    const double phi = random.uniform(-0.5, 0.5);
    jet.add_momentum(pt * std::cos(phi), pt * std::sin(phi), pt * std::sinh(y), pt * std::cosh(y) * (1 - 5e-6));
  }
}
inline void tiny_and_huge(JetBuilder& jet, rino::Random& random, Index n) {
  const double scale = std::array{1e-150, 1e-40, 1e-12, 1e12, 1e40, 1e100}[static_cast<std::size_t>(random.below(6))];
  for (Index i = 0; i < n; ++i) {
    jet.add(scale * random.uniform(1.0, 50.0), random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5));
  }
}

}  // namespace fills

/// Kinds beside the toy shower's jets, which make up the rest.
inline const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{{"plain", 0.06, &fills::plain},
                                     {"phi seam", 0.03, &fills::seam},
                                     {"forward", 0.03, &fills::forward},
                                     {"wide", 0.03, &fills::wide},
                                     {"to the beam", 0.03, &fills::to_the_beam},
                                     {"collinear pair", 0.02, &fills::collinear_pair},
                                     {"nearly collinear", 0.02, &fills::nearly_collinear},
                                     {"equal pair", 0.02, &fills::equal_pair},
                                     {"equal pT", 0.02, &fills::equal_momenta},
                                     {"rounded angles", 0.01, &fills::rounded_angles},
                                     {"single precision", 0.02, &fills::single_precision},
                                     {"lattice", 0.002, &fills::lattice},
                                     {"all collinear", 0.002, &fills::all_collinear},
                                     {"without pT", 0.01, &fills::without_pt},
                                     {"back to back", 0.002, &fills::back_to_back},
                                     {"below mass shell", 0.01, &fills::below_mass_shell},
                                     {"tiny and huge", 0.01, &fills::tiny_and_huge}};
  return all;
}

/// `count` jets of a kind, of 1 to 200 constituents.
inline rino::Jets<double> jets_of(const Kind& kind, Index count, std::uint64_t seed) {
  JetBuilder builder;
  for (Index j = 0; j < count; ++j) {
    rino::Random random({seed, static_cast<std::uint64_t>(j)});
    const Index n = 1 + random.below(random.below(4) == 0 ? 196 : 40);
    kind.fill(builder, random, n);
    builder.end_jet();
  }
  return builder.jets();
}

/// What came out for the jets of a kind, all algorithms together.
struct Outcome {
  Index jets = 0;
  Index undecided = 0;     ///< left to FastJet
  Index disagree = 0;      ///< decided, but not as FastJet
  Index views_differ = 0;  ///< calls of ViewGenerator whose two backends differ in any bit
  double distance = 0.0;   ///< largest relative difference of a d_ij, objects 1e-4 apart or more
  double collinear = 0.0;  ///< times the distance of the two, where they are nearer
  std::vector<std::string> listed;

  void add(const Outcome& other) {
    jets += other.jets;
    undecided += other.undecided;
    disagree += other.disagree;
    views_differ += other.views_differ;
    distance = std::max(distance, other.distance);
    collinear = std::max(collinear, other.collinear);
    listed.insert(listed.end(), other.listed.begin(), other.listed.end());
  }
};

template <rino::FastAlgorithm Algorithm>
constexpr fastjet::JetAlgorithm fastjet_algorithm() {
  return Algorithm::exponent == 1.0   ? fastjet::kt_algorithm
         : Algorithm::exponent == 0.0 ? fastjet::cambridge_algorithm
                                      : fastjet::antikt_algorithm;
}

/// One merging, told by what the two contain: the same steps in the same order are the same partition at every number.
struct Step {
  std::uint64_t one;
  std::uint64_t two;  ///< 0: the beam
  double distance;
  double apart;  ///< FastJet's distance of the two in the plane

  bool same(const Step& other) const { return one == other.one && two == other.two; }
};

/// A number for each constituent; sums (without carry) tell sets.
inline std::uint64_t set_of(Index constituent) {
  return rino::Random({0x736574, static_cast<std::uint64_t>(constituent)}).bits() | 1;
}

template <rino::FastAlgorithm Algorithm>
std::vector<Step> steps_of_fastjet(const rino::Jets<double>& jets, Index j, double radius) {
  std::vector<fastjet::PseudoJet> particles;
  for (Index i = jets.begin(j); i < jets.end(j); ++i) {
    const rino::FourMomentum<double> p = jets.constituent(i);
    particles.emplace_back(p[0], p[1], p[2], p[3]);
  }
  const fastjet::ClusterSequence sequence(
      particles, {fastjet_algorithm<Algorithm>(), radius, fastjet::E_scheme, fastjet::N2Plain});
  const auto& history = sequence.history();
  std::vector<std::uint64_t> sets;
  std::vector<Step> steps;
  for (std::size_t h = 0; h < history.size(); ++h) {
    if (h < particles.size()) {
      sets.push_back(set_of(static_cast<Index>(h)));
      continue;
    }
    const auto& step = history[h];
    const auto first = static_cast<std::size_t>(step.parent1);
    if (step.parent2 == fastjet::ClusterSequence::BeamJet) {
      steps.push_back({sets[first], 0, step.dij, radius});
      sets.push_back(0);
    } else {
      const auto second = static_cast<std::size_t>(step.parent2);
      const auto& all = sequence.jets();
      steps.push_back({std::min(sets[first], sets[second]), std::max(sets[first], sets[second]), step.dij,
                       all[static_cast<std::size_t>(history[first].jetp_index)].delta_R(
                           all[static_cast<std::size_t>(history[second].jetp_index)])});
      sets.push_back(sets[first] ^ sets[second]);
    }
  }
  return steps;
}

/// Compares the clusterings of jets, and all their views.
template <rino::FastAlgorithm Algorithm>
Outcome compare(const char* kind, const rino::Jets<double>& jets, double radius, rino::simd::Target target) {
  Outcome outcome;
  rino::FastClusterer<Algorithm> fast(radius, {}, target);
  for (Index begin = 0; begin < jets.size(); begin += fast.places()) {
    const auto some = static_cast<int>(std::min<Index>(fast.places(), jets.size() - begin));
    fast.clear();
    for (int place = 0; place < some; ++place) {
      fast.add(place, jets, begin + place);
    }
    fast.run();
    for (int place = 0; place < some; ++place) {
      ++outcome.jets;
      if (!fast.decided(place)) {
        ++outcome.undecided;
        continue;
      }
      const std::vector<Step> expected = steps_of_fastjet<Algorithm>(jets, begin + place, radius);
      std::vector<std::uint64_t> sets;
      for (Index i = 0; i < jets.multiplicity(begin + place); ++i) {
        sets.push_back(set_of(i));
      }
      std::size_t at = 0;
      bool agree = true;
      fast.for_each_step(place, [&](Index first, Index second, double distance) {
        const std::uint64_t one = sets[static_cast<std::size_t>(first)];
        const std::uint64_t two = second < 0 ? 0 : sets[static_cast<std::size_t>(second)];
        const Step step{two == 0 ? one : std::min(one, two), two == 0 ? 0 : std::max(one, two), distance, 0.0};
        if (two != 0) {
          sets.push_back(one ^ two);
        }
        const Step& other = expected[at++];
        if (!agree) {
          return;
        }
        if (!step.same(other)) {
          agree = false;
          char text[200];
          std::snprintf(text, sizeof text, "%s, jet %lld, step %zu: d = %.17g here, %.17g in FastJet, apart %.3g", kind,
                        static_cast<long long>(begin + place), at - 1, distance, other.distance,
                        std::abs(distance - other.distance) / other.distance);
          outcome.listed.emplace_back(text);
          return;
        }
        const double difference = std::abs(distance - other.distance) / std::max(other.distance, 1e-300);
        if (other.apart >= 1e-4) {
          outcome.distance = std::max(outcome.distance, difference);
        } else {
          outcome.collinear = std::max(outcome.collinear, difference * other.apart);
        }
      });
      agree = agree && at == expected.size();
      outcome.disagree += agree ? 0 : 1;
    }
  }
  std::vector<rino::Resolution> resolutions;
  for (const int n : {1, 2, 3, 4, 8, 16, 32, 64}) {
    resolutions.push_back(rino::subjets(n));
  }
  if constexpr (Algorithm::exponent == 1.0) {
    resolutions.push_back(rino::kt(2.0));
    resolutions.push_back(rino::fraction(0.01));
  }
  resolutions.push_back(rino::particles());
  const auto views = [&](rino::ViewBackend backend) {
    return rino::ViewGenerator<double, Algorithm>(resolutions,
                                                  {.radius = radius, .backend = backend, .target = target})(jets);
  };
  const auto one = views(rino::ViewBackend::fast);
  const auto two = views(rino::ViewBackend::fastjet);
  for (std::size_t v = 0; v < one.size(); ++v) {
    const bool same = one[v].offsets() == two[v].offsets() && (one[v].px() == two[v].px()).all() &&
                      (one[v].py() == two[v].py()).all() && (one[v].pz() == two[v].pz()).all() &&
                      (one[v].e() == two[v].e()).all();
    outcome.views_differ += same ? 0 : 1;
  }
  return outcome;
}

inline Outcome compare_all(const char* kind, const rino::Jets<double>& jets, double radius, rino::simd::Target target) {
  Outcome outcome = compare<rino::Kt>(kind, jets, radius, target);
  outcome.add(compare<rino::CambridgeAachen>(kind, jets, radius, target));
  outcome.add(compare<rino::AntiKt>(kind, jets, radius, target));
  return outcome;
}

/// `count` jets in all, some thousand at a time; calls report(kind's name, outcome).
template <typename Report>
void run(Index count, std::uint64_t seed, rino::simd::Target target, const Report& report) {
  constexpr Index kAtOnce = 5000;
  const std::array radii{0.8, 0.4, 1.0, 1.5};
  const auto in_pieces = [&](const char* name, Index all, const auto& make) {
    Outcome outcome;
    for (Index begin = 0, piece = 0; begin < all; begin += kAtOnce, ++piece) {
      const std::uint64_t piece_seed = seed + 1000003ULL * static_cast<std::uint64_t>(piece);
      const double radius = radii[static_cast<std::size_t>(piece % 4)];
      outcome.add(compare_all(name, make(std::min(kAtOnce, all - begin), piece_seed), radius, target));
    }
    report(name, outcome);
  };
  Index rest = count;
  for (const Kind& kind : kinds()) {
    const auto share = std::max<Index>(1, static_cast<Index>(kind.share * static_cast<double>(count)));
    rest -= share;
    in_pieces(kind.name, share, [&](Index n, std::uint64_t s) { return jets_of(kind, n, s); });
  }
  in_pieces("toy shower", rest, [&](Index n, std::uint64_t s) {
    rino::ToyShowerOptions options;
    options.jets = n;
    options.top_fraction = 0.3;
    return rino::toy_shower<double>(options, s);
  });
}

}  // namespace exactness
