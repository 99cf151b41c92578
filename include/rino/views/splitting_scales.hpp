#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/clustering_history.hpp>
#include <rino/views/fast_clusterer.hpp>
#include <rino/views/reference_clusterer.hpp>
#include <rino/views/view_generator.hpp>

namespace rino {

namespace detail {

/// The scales of jets first .. last-1 into their rows of `to`.
template <typename Scalar>
void write_splitting_scales(const Jets<Scalar>& jets, std::int64_t first, std::int64_t last, std::int64_t most,
                            const ViewOptions& options, bool with_fast, double* to) {
  using Index = std::int64_t;
  const auto write = [&](Index j, const std::vector<double>& largest) {
    const Index n = jets.multiplicity(j);
    for (Index left = 1; left <= std::min(most, n - 1); ++left) {
      to[j * most + left - 1] = std::sqrt(largest[static_cast<std::size_t>(n - left - 1)]);
    }
  };
  ReferenceClusterer<Kt> reference(options.radius);
  const auto by_reference = [&](Index begin, Index end) {
    reference(jets, begin, end, [&](Index j, const ClusteringHistory& history) { write(j, history.scales()); });
  };
  if (!with_fast) {
    by_reference(first, last);
    return;
  }
  FastClusterer<Kt> fast(options.radius, {}, options.target.value_or(simd::best_target()));
  std::vector<double> largest;
  const auto by_fast = [&](Index j, int place) {
    largest.clear();
    fast.for_each_step(place, [&](Index, Index, double distance) {
      largest.push_back(largest.empty() ? distance : std::max(largest.back(), distance));
    });
    write(j, largest);
  };
  fast(jets, first, last, by_fast, [&](Index j) { by_reference(j, j + 1); });
}

}  // namespace detail

/// The kT splitting scales sqrt(d_N) of jets: at which scale a jet of N+1 subjets becomes one of N.
///
/// d_N is the largest distance min(pT_i^2, pT_j^2) dR_ij^2 / R^2, or pT_i^2 to the beam, of the kT clustering
/// (E-scheme) down to N subjets: FastJet's exclusive_dmerge_max(N), so that the exclusive clustering at dcut = q^2 has
/// N or fewer subjets if and only if sqrt(d_N) <= q. Others write d_{N,N+1}, and leave out the 1/R^2.
///
/// @param most  N goes from 1 to this.
/// @param options  radius, threads and backend, as of views.
/// @returns [jets, most], row by row, GeV; 0 where a jet has no more than N constituents.
/// @throws rino::Error if `most` or an option is out of range.
/// Source: Catani, Dokshitzer, Seymour, Webber 1993; Ellis, Soper 1993, hep-ph/9305266.
template <std::floating_point Scalar>
std::vector<double> splitting_scales(const Jets<Scalar>& jets, std::int64_t most, const ViewOptions& options = {}) {
  require(most >= 1 && most <= 100000, "the number of splitting scales is ", most, ": give 1 to 100000");
  // A view generator knows which options go together.
  const ViewGenerator<Scalar, Kt> checked({particles()}, options);
  const bool with_fast = takes_fast(options);
  std::vector<double> scales(static_cast<std::size_t>(jets.size() * most), 0.0);
  const int threads = ReferenceClusterer<Kt>::kThreadSafe ? options.threads : 1;
  parallel_for(jets.size(), threads, [&](std::int64_t first, std::int64_t last) {
    detail::write_splitting_scales(jets, first, last, most, options, with_fast, scales.data());
  });
  return scales;
}

}  // namespace rino
