#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// How constituents split.
struct SplitCollinearOptions {
  double probability = 0.1;
  double min_fraction = 0.05;

  static constexpr auto fields() {
    using Self = SplitCollinearOptions;
    return std::tuple{
        Field{"probability", &Self::probability, "", "of each constituent to split"},
        Field{"min_fraction", &Self::min_fraction, "",
              "fraction z of the first daughter is uniform in [min_fraction, 1 - min_fraction]; above 0, at most 0.5"},
    };
  }
};

/// Random constituents split into two collinear ones, as JetCLR does (arXiv:2108.04253): the daughters have z and 1 - z
/// of the whole four-momentum, so that their sum is the parent's to rounding, and masses are shared as momenta are.
///
/// Daughters stand where the parent stood, one after the other. Labels, values and origins ride along. What a
/// constituent carries is copied to both daughters: which extras are additive is not known here.
///
/// @throws rino::Error unless probability is in [0, 1] and min_fraction in (0, 0.5].
template <std::floating_point Scalar>
Jets<Scalar> split_collinear(const Jets<Scalar>& jets, const SplitCollinearOptions& options, const Draws& draws,
                             int threads = 1) {
  detail::require_probability(options.probability, "the probability of a splitting");
  require(options.min_fraction > 0 && options.min_fraction <= 0.5, "min_fraction of a splitting is ",
          options.min_fraction, ": give more than 0, at most 0.5");
  auto [offsets, rows] = detail::repeat_rows(jets, threads, [&](std::int64_t j, std::span<unsigned char> numbers) {
    Random random = draws.random(detail::purpose("split"), j);
    for (unsigned char& number : numbers) {
      number = random.uniform() < options.probability ? 2 : 1;
    }
  });
  std::vector<double> fractions(rows.size(), 1.0);
  parallel_for(jets.size(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      Random random = draws.random(detail::purpose("fraction"), j);
      const auto last = static_cast<std::size_t>(offsets[static_cast<std::size_t>(j) + 1]);
      for (auto k = static_cast<std::size_t>(offsets[static_cast<std::size_t>(j)]) + 1; k < last; ++k) {
        if (rows[k] == rows[k - 1]) {
          fractions[k - 1] = random.uniform(options.min_fraction, 1.0 - options.min_fraction);
          fractions[k] = 1.0 - fractions[k - 1];
        }
      }
    }
  });
  return detail::pick_constituents(jets, std::move(offsets), rows, threads, fractions);
}

}  // namespace rino
