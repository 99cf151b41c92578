#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/placement.hpp>
#include <rino/core/random.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// Which constituents are hidden from the student.
struct ConstituentMasks {
  std::vector<std::int64_t> rows;    ///< [M] tokens that are masked, rising
  std::vector<std::int64_t> counts;  ///< [J] how many, of each sequence that has some
};

/// Draws for every sequence which of its n tokens are masked: the integer part of a share of them, at least one and at
/// most n - 1, every choice equally likely; none of a sequence of one token.
///
/// @param fraction  of a sequence's tokens, above 0 and below 1.
/// @param key       seed and step; the sequence's jet is added to it, so that a choice depends on nothing else.
/// @param first     added to the numbers of the jets: the first one's place in the batch of all processes.
/// @throws rino::Error for another fraction.
inline ConstituentMasks draw_masks(const Tokens& tokens, double fraction, std::uint64_t seed, std::uint64_t step,
                                   std::int64_t first = 0) {
  require(fraction > 0 && fraction < 1, "mask_fraction is ", fraction, ": choose a share above 0 and below 1");
  ConstituentMasks masks;
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    const std::int64_t length = tokens.length(s);
    if (length < 2) {
      continue;
    }
    const auto wanted = static_cast<std::int64_t>(fraction * static_cast<double>(length));
    const std::int64_t count = std::clamp<std::int64_t>(wanted, 1, length - 1);
    Random random{seed, purposes::kMasks, step,
                  static_cast<std::uint64_t>(first + tokens.jet[static_cast<std::size_t>(s)])};
    std::vector<std::int64_t> picks = random.permutation(length, count);
    std::sort(picks.begin(), picks.end());
    for (const std::int64_t pick : picks) {
      masks.rows.push_back(tokens.first(s) + pick);
    }
    masks.counts.push_back(count);
  }
  return masks;
}

/// The same tokens with those of `rows` masked, where the features are.
inline Tokens with_masks(const Tokens& tokens, const at::Tensor& rows) {
  Tokens masked = tokens;
  masked.masked =
      at::zeros({tokens.features.size(0)}, tokens.features.options().dtype(at::kBool)).index_fill_(0, rows, 1);
  return masked;
}

}  // namespace rino
