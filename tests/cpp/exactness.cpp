// Compares FastClusterer with FastJet on jets of all kinds: every step of kT, Cambridge/Aachen and anti-kT, and the
// views of both backends. A jet counts once for each algorithm.
//
//   exactness [jets] [seed] [file]
//
// The file, if any, holds more jets as doubles: n, then px, py, pz, E of each of the n constituents, and so on.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include <fastjet/ClusterSequence.hh>

#include "exactness.hpp"

namespace {

rino::Jets<double> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  JetBuilder builder;
  double n = 0.0;
  while (file.read(reinterpret_cast<char*>(&n), sizeof n)) {
    for (int i = 0; i < static_cast<int>(n); ++i) {
      double p[4];
      file.read(reinterpret_cast<char*>(p), sizeof p);
      builder.add_momentum(p[0], p[1], p[2], p[3]);
    }
    builder.end_jet();
  }
  return builder.jets();
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t jets = argc > 1 ? std::atoll(argv[1]) : 1000;
  const std::uint64_t seed = argc > 2 ? static_cast<std::uint64_t>(std::atoll(argv[2])) : 1;
  const rino::simd::Target target = rino::simd::best_target();
  fastjet::LimitedWarning::set_default_stream(nullptr);
  exactness::Outcome all;
  const auto report = [&](const char* name, const exactness::Outcome& outcome) {
    std::printf("%-18s %9lld %10lld %9lld %6lld %10.2g %10.2g\n", name, static_cast<long long>(outcome.jets),
                static_cast<long long>(outcome.undecided), static_cast<long long>(outcome.disagree),
                static_cast<long long>(outcome.views_differ), outcome.distance, outcome.collinear);
    std::fflush(stdout);
    all.add(outcome);
  };
  std::printf("instructions: %s\n%-18s %9s %10s %9s %6s %10s %10s\n", rino::to_string(target).c_str(), "kind",
              "jets x 3", "to FastJet", "disagree", "views", "d_ij", "collinear");
  exactness::run(jets, seed, target, report);
  if (argc > 3) {
    report("file", exactness::compare_all("file", read(argv[3]), 0.8, target));
  }
  report("all", exactness::Outcome(all));
  std::printf(
      "to FastJet: two distances were too close for rounding to be ruled out\n"
      "d_ij: largest relative difference for objects 1e-4 apart or more\n"
      "collinear: the same, times the distance in the plane, for nearer ones\n");
  for (const std::string& line : all.listed) {
    std::printf("%s\n", line.c_str());
  }
  return all.disagree == 0 && all.views_differ == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
