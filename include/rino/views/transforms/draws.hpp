#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/random.hpp>

namespace rino {

/// Where a random transform's numbers come from: those of jet j of a batch are a function of (seed, the transform,
/// first_jet + j), whatever the number of threads.
///
/// A stream of jets that is cut into batches differently draws the same numbers where `first_jet` counts the jets that
/// went before. A new seed (of the epoch, of the view) draws new ones.
struct Draws {
  std::uint64_t seed = 0;
  /// Number of the batch's first jet in the stream.
  std::int64_t first_jet = 0;

  /// The numbers of jet j of the batch for one purpose.
  Random random(std::uint64_t purpose, std::int64_t j) const {
    return Random({seed, purpose, static_cast<std::uint64_t>(first_jet + j)});
  }

  /// Draws of their own for the k-th of several transforms; the seed stays below 2^63, where other languages' integers
  /// end.
  Draws step(std::int64_t k) const {
    constexpr std::uint64_t purpose = 0x73746570;  // "step"
    return {Random({seed, purpose, static_cast<std::uint64_t>(k)}).bits() >> 1, first_jet};
  }
};

namespace detail {

/// A number for the name of a purpose: its last eight characters.
consteval std::uint64_t purpose(std::string_view name) {
  std::uint64_t number = 0;
  for (const char character : name) {
    number = number << 8 | static_cast<unsigned char>(character);
  }
  return number;
}

/// Two independent standard normal numbers (Box-Muller).
inline std::pair<double, double> normal_pair(Random& random) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
  const double angle = 2.0 * std::numbers::pi * random.uniform();
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// One number per jet, [jets], uniform in [low, high].
inline std::vector<double> uniform_per_jet(std::int64_t jets, double low, double high, const Draws& draws,
                                           std::uint64_t purpose) {
  std::vector<double> values(static_cast<std::size_t>(jets));
  for (std::int64_t j = 0; j < jets; ++j) {
    values[static_cast<std::size_t>(j)] = draws.random(purpose, j).uniform(low, high);
  }
  return values;
}

/// Throws `rino::Error` unless `value` is finite and at least 0.
inline void require_not_negative(double value, const char* what, const char* unit) {
  require(value >= 0 && std::isfinite(value), what, " is ", value, unit, ": give a finite number, 0 or more");
}

/// Throws `rino::Error` unless `value` lies in [0, 1].
inline void require_probability(double value, const char* what) {
  require(value >= 0 && value <= 1, what, " is ", value, ": give a number from 0 to 1");
}

}  // namespace detail

}  // namespace rino
