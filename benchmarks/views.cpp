// Times ViewGenerator against FastJet, on the views 1, 2, 3, 4, 8, 16, 32, 64 and all of toy jets:
//
// - as users write it: one ClusterSequence with the Best strategy and one exclusive_jets(n), sorted by pT, for each n,
//   and the constituents of every subjet, which sums of anything but momenta need;
// - the same without constituents;
// - the leanest that its interface allows: strategy N2Plain, momenta only, the history read once for all n.
//
// All write the same columns, and the run fails unless these are equal.
//
//   benchmark_views [--quick] [--jets N] [--repetitions N] [--threads N] [--out FOLDER]

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fastjet/ClusterSequence.hh>

#include <rino/jets/toy_shower.hpp>
#include <rino/views/view_generator.hpp>

#include "report.hpp"

namespace {

using Columns = std::array<std::vector<double>, 4>;

const std::vector<std::int64_t> kCounts{1, 2, 3, 4, 8, 16, 32, 64};

/// Two ways of clustering may add the same numbers in another order.
constexpr double kTolerance = 1e-10;

void append(const fastjet::PseudoJet& subjet, Columns& columns) {
  columns[0].push_back(subjet.px());
  columns[1].push_back(subjet.py());
  columns[2].push_back(subjet.pz());
  columns[3].push_back(subjet.E());
}

void particles_of(const rino::Jets<double>& jets, std::int64_t j, std::vector<fastjet::PseudoJet>& particles) {
  particles.clear();
  for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
    const rino::FourMomentum<double> p = jets.constituent(i);
    particles.emplace_back(p[0], p[1], p[2], p[3]);
  }
}

/// @param with_constituents  asks every subjet for its constituents too, and counts them in `found`.
std::vector<Columns> users_fastjet(const rino::Jets<double>& jets, bool with_constituents, std::size_t& found) {
  const fastjet::JetDefinition definition(fastjet::kt_algorithm, 0.8);
  std::vector<Columns> views(kCounts.size() + 1);
  std::vector<fastjet::PseudoJet> particles;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    particles_of(jets, j, particles);
    const fastjet::ClusterSequence sequence(particles, definition);
    for (std::size_t v = 0; v < kCounts.size(); ++v) {
      for (const fastjet::PseudoJet& subjet :
           fastjet::sorted_by_pt(sequence.exclusive_jets_up_to(static_cast<int>(kCounts[v])))) {
        append(subjet, views[v]);
        if (with_constituents) {
          found += subjet.constituents().size();
        }
      }
    }
    for (const fastjet::PseudoJet& particle : fastjet::sorted_by_pt(particles)) {
      append(particle, views.back());
    }
  }
  return views;
}

/// The objects that stand at one moment of a clustering, by their places in FastJet's history.
class Standing {
 public:
  void start(std::size_t particles) {
    places_.resize(2 * particles);
    members_.clear();
    for (std::size_t i = 0; i < particles; ++i) {
      add(static_cast<int>(i));
    }
  }

  void add(int object) {
    places_[static_cast<std::size_t>(object)] = members_.size();
    members_.push_back(object);
  }

  void remove(int object) {
    const std::size_t place = places_[static_cast<std::size_t>(object)];
    members_[place] = members_.back();
    places_[static_cast<std::size_t>(members_[place])] = place;
    members_.pop_back();
  }

  std::size_t size() const { return members_.size(); }

  /// Momenta in descending pT.
  void append_to(Columns& columns, const fastjet::ClusterSequence& sequence) {
    order_.clear();
    for (const int object : members_) {
      const int jet = sequence.history()[static_cast<std::size_t>(object)].jetp_index;
      order_.emplace_back(-sequence.jets()[static_cast<std::size_t>(jet)].kt2(), jet);
    }
    std::sort(order_.begin(), order_.end());
    for (const auto& [pt2, jet] : order_) {
      append(sequence.jets()[static_cast<std::size_t>(jet)], columns);
    }
  }

 private:
  std::vector<int> members_;
  std::vector<std::size_t> places_;
  std::vector<std::pair<double, int>> order_;
};

std::vector<Columns> leanest_fastjet(const rino::Jets<double>& jets) {
  const fastjet::JetDefinition definition(fastjet::kt_algorithm, 0.8, fastjet::E_scheme, fastjet::N2Plain);
  std::vector<Columns> views(kCounts.size() + 1);
  std::vector<fastjet::PseudoJet> particles;
  Standing standing;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    particles_of(jets, j, particles);
    const fastjet::ClusterSequence sequence(particles, definition);
    standing.start(particles.size());
    std::size_t next = views.size();  // the views with fewer subjets than stand are still to come
    while (next > 0 && (next == views.size() || static_cast<std::size_t>(kCounts[next - 1]) >= standing.size())) {
      standing.append_to(views[--next], sequence);
    }
    for (std::size_t s = particles.size(); next > 0; ++s) {
      const auto& step = sequence.history()[s];
      standing.remove(step.parent1);
      if (step.parent2 != fastjet::ClusterSequence::BeamJet) {
        standing.remove(step.parent2);
        standing.add(static_cast<int>(s));
      }
      if (static_cast<std::size_t>(kCounts[next - 1]) == standing.size()) {
        standing.append_to(views[--next], sequence);
      }
    }
  }
  return views;
}

std::vector<Columns> columns_of(const std::vector<rino::Jets<double>>& views) {
  std::vector<Columns> all(views.size());
  for (std::size_t v = 0; v < views.size(); ++v) {
    for (std::int64_t i = 0; i < views[v].constituents(); ++i) {
      const rino::FourMomentum<double> p = views[v].constituent(i);
      for (std::size_t c = 0; c < 4; ++c) {
        all[v][c].push_back(p[static_cast<int>(c)]);
      }
    }
  }
  return all;
}

/// The largest difference of the two, relative to the energy; infinite where the lengths differ.
double largest_difference(const std::vector<Columns>& one, const std::vector<Columns>& other) {
  double largest = 0.0;
  for (std::size_t v = 0; v < other.size(); ++v) {
    if (one[v][0].size() != other[v][0].size()) {
      return INFINITY;
    }
    for (std::size_t i = 0; i < other[v][0].size(); ++i) {
      for (std::size_t c = 0; c < 4; ++c) {
        largest = std::max(largest, std::abs(one[v][c][i] - other[v][c][i]) / other[v][3][i]);
      }
    }
  }
  return largest;
}

struct Arguments {
  bool quick = false;
  std::int64_t jets = 0;
  int repetitions = 9;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::string out = "build/bench";

  Arguments(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view name = argv[i];
      const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
      if (name == "--quick") {
        quick = true;
        continue;
      }
      if (name == "--jets" && value != nullptr) {
        jets = std::atoll(value);
      } else if (name == "--repetitions" && value != nullptr) {
        repetitions = std::atoi(value);
      } else if (name == "--threads" && value != nullptr) {
        threads = std::atoi(value);
      } else if (name == "--out" && value != nullptr) {
        out = value;
      } else {
        fail();
      }
      ++i;
    }
    if (jets == 0) {
      jets = quick ? 3000 : 10000;
    }
    if (jets < 1 || repetitions < 1 || threads < 1) {
      fail();
    }
  }

  [[noreturn]] static void fail() {
    std::fprintf(stderr,
                 "usage: benchmark_views [--quick] [--jets N] [--repetitions N] [--threads N] [--out FOLDER], all N 1 "
                 "or more\n");
    std::exit(2);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  rino::ToyShowerOptions options;
  options.jets = arguments.jets;
  const rino::Jets<double> jets = rino::toy_shower<double>(options, 1);
  std::vector<rino::Resolution> resolutions;
  for (const std::int64_t n : kCounts) {
    resolutions.push_back(rino::subjets(n));
  }
  resolutions.push_back(rino::particles());
  bench::Report report("views", jets, argc, argv);

  struct Side {
    std::string name;
    std::function<void()> work;
  };
  std::size_t found = 0;
  std::vector<Side> sides{{"FastJet, Best with constituents", [&] { (void)users_fastjet(jets, true, found); }},
                          {"FastJet, Best", [&] { (void)users_fastjet(jets, false, found); }},
                          {"FastJet, leanest", [&] { (void)leanest_fastjet(jets); }}};
  const std::vector<Columns> users = users_fastjet(jets, false, found);
  report.check("FastJet, leanest and Best", largest_difference(leanest_fastjet(jets), users), kTolerance);
  const auto add = [&](const std::string& name, const rino::ViewOptions& view_options) {
    const rino::ViewGenerator<double> generator(resolutions, view_options);
    report.check(name + " and FastJet, Best", largest_difference(columns_of(generator(jets)), users), kTolerance);
    sides.push_back({name, [generator, &jets] { (void)generator(jets); }});
    return sides.size() - 1;
  };
  const std::vector<rino::simd::Target> targets = rino::simd::supported_targets();
  std::vector<std::size_t> ours;
  for (const rino::simd::Target target : targets) {
    ours.push_back(add("ViewGenerator, " + rino::to_string(target), {.target = target}));
  }
  const std::size_t reference = add("ViewGenerator on FastJet", {.backend = rino::ViewBackend::fastjet});
  const std::string threads = ", " + std::to_string(arguments.threads) + " threads";
  std::size_t threaded = 0;
  if (arguments.threads > 1) {
    threaded = add("ViewGenerator" + threads, {.threads = arguments.threads});
    add("ViewGenerator on FastJet" + threads, {.threads = arguments.threads, .backend = rino::ViewBackend::fastjet});
  }

  std::vector<std::function<void()>> work;
  for (const Side& side : sides) {
    work.push_back(side.work);
  }
  const std::vector<bench::Timing> times = bench::interleaved(work, arguments.repetitions);
  for (std::size_t s = 0; s < sides.size(); ++s) {
    report.row(sides[s].name, times[s], jets.size());
  }
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const bool avx2 = targets[t] == rino::simd::Target::avx2;
    const bool avx512 = targets[t] == rino::simd::Target::avx512;
    const double seconds = times[ours[t]].seconds;
    const std::string name = "views, " + rino::to_string(targets[t]) + ": to ";
    report.figure(name + "FastJet, Best with constituents", times[0].seconds / seconds, avx512 ? 15 : avx2 ? 8 : 0);
    report.figure(name + "FastJet, Best", times[1].seconds / seconds);
    report.figure(name + "FastJet, leanest", times[2].seconds / seconds, avx512 ? 8 : avx2 ? 4 : 0);
    report.figure(name + "ViewGenerator on FastJet", times[reference].seconds / seconds);
  }
  if (arguments.threads > 1) {
    report.figure("views: " + threads.substr(2) + " to one", times[ours.back()].seconds / times[threaded].seconds);
  }
  if (!report.write(arguments.out)) {
    std::fprintf(stderr, "no result could be written in %s\n", arguments.out.c_str());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
