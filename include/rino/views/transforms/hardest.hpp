#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>

namespace rino {

/// Those constituents of every jet that are the n hardest of `by`, the same jets with other momenta, in the order of
/// their pT there. @see hardest
template <std::floating_point Scalar>
Jets<Scalar> hardest_by(const Jets<Scalar>& by, const Jets<Scalar>& jets, std::int64_t n, int threads = 1) {
  require(n >= 1, "the ", n, " hardest constituents were asked for: give 1 or more");
  std::vector<std::int64_t> offsets{0};
  offsets.reserve(static_cast<std::size_t>(by.size()) + 1);
  for (std::int64_t j = 0; j < by.size(); ++j) {
    offsets.push_back(offsets.back() + std::min(n, by.multiplicity(j)));
  }
  std::vector<std::int64_t> kept(static_cast<std::size_t>(offsets.back()));
  parallel_for(by.size(), threads, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> rows;
    std::vector<Scalar> pts;
    for (std::int64_t j = begin; j < end; ++j) {
      const std::int64_t first = by.begin(j);
      pts.clear();
      for (std::int64_t i = first; i < by.end(j); ++i) {
        pts.push_back(pt(by.constituent(i)));
      }
      rows.resize(pts.size());
      std::iota(rows.begin(), rows.end(), first);
      const std::int64_t position = offsets[static_cast<std::size_t>(j)];
      const std::int64_t size = offsets[static_cast<std::size_t>(j) + 1] - position;
      std::partial_sort(rows.begin(), rows.begin() + size, rows.end(), [&](std::int64_t a, std::int64_t b) {
        const Scalar one = pts[static_cast<std::size_t>(a - first)];
        const Scalar two = pts[static_cast<std::size_t>(b - first)];
        return one != two ? one > two : a < b;
      });
      std::copy_n(rows.begin(), size, kept.begin() + position);
    }
  });
  return detail::pick_constituents(jets, std::move(offsets), kept, threads);
}

/// The n hardest constituents of every jet in descending pT, equal pT in the order given; of jets with fewer, all.
/// What jets and constituents carry rides along.
///
/// @throws rino::Error if n is below 1.
template <std::floating_point Scalar>
Jets<Scalar> hardest(const Jets<Scalar>& jets, std::int64_t n, int threads = 1) {
  return hardest_by(jets, jets, n, threads);
}

}  // namespace rino
