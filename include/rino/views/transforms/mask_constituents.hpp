#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <utility>

#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// A random part of every jet's constituents removed: of n, fraction * n, rounded up or down at random so that it is
/// the fraction on average, and n - 1 at most. All sets of that size are equally likely.
///
/// The others keep their order and their extras; labels, values and origins ride along.
///
/// @throws rino::Error unless the fraction is in [0, 1].
template <std::floating_point Scalar>
Jets<Scalar> mask_constituents(const Jets<Scalar>& jets, double fraction, const Draws& draws, int threads = 1) {
  detail::require_probability(fraction, "the fraction of constituents to mask");
  auto [offsets, rows] = detail::repeat_rows(jets, threads, [&](std::int64_t j, std::span<unsigned char> kept) {
    Random random = draws.random(detail::purpose("mask"), j);
    auto left = static_cast<double>(kept.size());
    double masked = std::min(std::floor(fraction * left + random.uniform()), left - 1.0);
    for (unsigned char& one : kept) {  // selection sampling: masked of those left
      const bool chosen = random.uniform() * left < masked;
      one = chosen ? 0 : 1;
      masked -= chosen ? 1.0 : 0.0;
      left -= 1.0;
    }
  });
  return detail::pick_constituents(jets, std::move(offsets), rows, threads);
}

}  // namespace rino
