#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/random.hpp>
#include <rino/tokens/tokens.hpp>

#include "numeric.hpp"

using Lengths = std::vector<std::int64_t>;

inline std::int64_t total(const Lengths& lengths) {
  std::int64_t sum = 0;
  for (const std::int64_t length : lengths) {
    sum += length;
  }
  return sum;
}

/// Random tokens of sequences of the given lengths, one view.
inline rino::Tokens random_tokens(const Lengths& lengths, std::int64_t width, std::uint64_t seed,
                                  at::ScalarType type = at::kDouble) {
  rino::Tokens tokens;
  for (const std::int64_t length : lengths) {
    tokens.view.push_back(0);
    tokens.jet.push_back(tokens.sequences());
    tokens.offsets.push_back(tokens.offsets.back() + length);
  }
  tokens.features = normal({total(lengths), width}, seed, type);
  tokens.jet_features = normal({tokens.sequences(), 4}, seed + 1, type);
  return tokens;
}

/// Lengths that include 1 and 200: random, or with `sorted` as tokenize gives them.
inline Lengths random_lengths(std::uint64_t seed, std::int64_t count, bool sorted) {
  rino::Random random({seed});
  Lengths lengths{1, 200, 1};
  while (static_cast<std::int64_t>(lengths.size()) < count) {
    // Mostly short, so that runs of equal length occur.
    lengths.push_back(1 + random.below(random.uniform() < 0.5 ? 6 : 60));
  }
  if (sorted) {
    std::sort(lengths.begin(), lengths.end());
  }
  return lengths;
}
