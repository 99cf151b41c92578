#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace rino {

/// What a run's random numbers are for, second in their key after the seed, so that no two purposes share a sequence.
/// Python's streams have 1 to 6 (pyrino/data/draw.py), transforms names of their own (`Draws`).
namespace purposes {
inline constexpr std::uint64_t kDrawnViews = 11;  ///< the student's resolutions of a step
inline constexpr std::uint64_t kDropout = 12;
inline constexpr std::uint64_t kMasks = 13;  ///< constituents that are hidden from the student
inline constexpr std::uint64_t kDraws = 14;  ///< of a step's transforms
inline constexpr std::uint64_t kHead = 15;   ///< initial values of a head beside the encoder's
inline constexpr std::uint64_t kOrder = 21;  ///< of jets in memory
}  // namespace purposes

/// A small counter-based random engine (SplitMix64; Steele, Lea, Flood 2014, doi:10.1145/2714064.2660195).
///
/// Every random decision of the library is a pure function of (seed, what it is for, which one), so that
/// nothing depends on threads or on what ran before, and a resumed run needs no stored generator.
/// The standard's distributions differ between libraries; the ones here do not.
class Random {
 public:
  explicit Random(std::initializer_list<std::uint64_t> key) : Random(std::span(key.begin(), key.size())) {}

  explicit Random(std::span<const std::uint64_t> key) {
    for (const std::uint64_t part : key) {
      state_ = mix(state_ ^ mix(part + kGamma));
    }
  }

  /// 64 uniform bits.
  std::uint64_t bits() { return mix(state_ += kGamma); }

  /// Uniform in [0, 1), 53 bits.
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

  /// Uniform in [low, high]; high itself by rounding only.
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// Uniform integer in [0, count); the bias is below count / 2^53.
  std::int64_t below(std::int64_t count) { return static_cast<std::int64_t>(uniform() * static_cast<double>(count)); }

  /// Standard normal (Box-Muller).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

  /// The first `take` <= count entries of a uniformly drawn permutation of 0 .. count-1 (Fisher-Yates).
  std::vector<std::int64_t> permutation(std::int64_t count, std::int64_t take) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    for (std::int64_t i = 0; i < take; ++i) {
      const std::int64_t j = i + below(count - i);
      std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
    }
    order.resize(static_cast<std::size_t>(take));
    return order;
  }

  /// A uniformly drawn permutation of 0 .. count-1.
  std::vector<std::int64_t> permutation(std::int64_t count) { return permutation(count, count); }

 private:
  static constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15ULL;

  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

  std::uint64_t state_ = 0;
};

}  // namespace rino
