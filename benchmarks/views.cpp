// Times ViewGenerator against the plain way of using FastJet: one ClusterSequence with the Best strategy and one
// exclusive_jets(n), sorted by pT, for each number of subjets. Both make the views 1, 2, 3, 4, 8, 16, 32, 64 and all
// of the same toy jets, into the same kind of columns; the run fails unless they are equal.
//
//   views [jets] [repetitions] [threads]

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <fastjet/ClusterSequence.hh>

#include <rino/jets/toy_shower.hpp>
#include <rino/views/view_generator.hpp>

namespace {

using Columns = std::array<std::vector<double>, 4>;

const std::vector<std::int64_t> kCounts{1, 2, 3, 4, 8, 16, 32, 64};

void append(const std::vector<fastjet::PseudoJet>& subjets, Columns& columns) {
  for (const fastjet::PseudoJet& subjet : fastjet::sorted_by_pt(subjets)) {
    columns[0].push_back(subjet.px());
    columns[1].push_back(subjet.py());
    columns[2].push_back(subjet.pz());
    columns[3].push_back(subjet.E());
  }
}

std::vector<Columns> plain_fastjet(const rino::Jets<double>& jets) {
  const fastjet::JetDefinition definition(fastjet::kt_algorithm, 0.8);
  std::vector<Columns> views(kCounts.size() + 1);
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    std::vector<fastjet::PseudoJet> particles;
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      const rino::FourMomentum<double> p = jets.constituent(i);
      particles.emplace_back(p[0], p[1], p[2], p[3]);
    }
    const fastjet::ClusterSequence sequence(particles, definition);
    for (std::size_t v = 0; v < kCounts.size(); ++v) {
      append(sequence.exclusive_jets_up_to(static_cast<int>(kCounts[v])), views[v]);
    }
    append(particles, views.back());
  }
  return views;
}

/// The largest difference of the two, relative to the energy; infinite where the lengths differ.
double largest_difference(const std::vector<Columns>& plain, const std::vector<rino::Jets<double>>& views) {
  double largest = 0.0;
  for (std::size_t v = 0; v < views.size(); ++v) {
    if (static_cast<std::int64_t>(plain[v][0].size()) != views[v].constituents()) {
      return INFINITY;
    }
    for (std::int64_t i = 0; i < views[v].constituents(); ++i) {
      const rino::FourMomentum<double> p = views[v].constituent(i);
      for (std::size_t c = 0; c < 4; ++c) {
        largest = std::max(largest, std::abs(plain[v][c][static_cast<std::size_t>(i)] - p[static_cast<int>(c)]) / p[3]);
      }
    }
  }
  return largest;
}

template <typename Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

int main(int argc, char** argv) {
  rino::ToyShowerOptions options;
  options.jets = argc > 1 ? std::atoll(argv[1]) : 5000;
  const int repetitions = argc > 2 ? std::max(1, std::atoi(argv[2])) : 9;
  const int threads = argc > 3 ? std::max(1, std::atoi(argv[3])) : 1;
  const rino::Jets<double> jets = rino::toy_shower<double>(options, 1);

  std::vector<rino::Resolution> resolutions;
  for (const std::int64_t n : kCounts) {
    resolutions.push_back(rino::subjets(n));
  }
  resolutions.push_back(rino::particles());
  const rino::ViewGenerator<double> generator(resolutions, {.radius = 0.8, .threads = threads});

  std::vector<double> ours;
  std::vector<double> plain;
  double difference = 0.0;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    std::vector<rino::Jets<double>> views;
    std::vector<Columns> reference;
    ours.push_back(seconds([&] { views = generator(jets); }));
    plain.push_back(seconds([&] { reference = plain_fastjet(jets); }));
    difference = std::max(difference, largest_difference(reference, views));
  }

  std::vector<std::int64_t> multiplicities;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    multiplicities.push_back(jets.multiplicity(j));
  }
  std::sort(multiplicities.begin(), multiplicities.end());
  const auto quantile = [&](double q) {
    return static_cast<long long>(
        multiplicities[static_cast<std::size_t>(q * static_cast<double>(multiplicities.size() - 1))]);
  };
  const auto n = static_cast<double>(jets.size());
  std::printf("toy jets          %lld, %.1f constituents on average; 0, 5, 50, 95, 100%%: %lld %lld %lld %lld %lld\n",
              static_cast<long long>(jets.size()), static_cast<double>(jets.constituents()) / n, quantile(0.0),
              quantile(0.05), quantile(0.5), quantile(0.95), quantile(1.0));
  std::printf("views             1 2 3 4 8 16 32 64 all; medians of %d interleaved repetitions\n", repetitions);
  std::printf("ViewGenerator     %8.0f jets/s   %6.2f us/jet   threads %d\n", n / median(ours), 1e6 * median(ours) / n,
              threads);
  std::printf("plain FastJet     %8.0f jets/s   %6.2f us/jet   threads 1\n", n / median(plain),
              1e6 * median(plain) / n);
  std::printf("ratio             %8.2f\n", median(plain) / median(ours));
  std::printf("largest difference %g of the energy\n", difference);
  if (!(difference <= 1e-12)) {
    std::fprintf(stderr, "the two do not agree\n");
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
