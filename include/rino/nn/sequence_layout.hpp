#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include <rino/nn/tokens.hpp>

namespace rino {

/// The packed rows inside an encoder: of every sequence its class token, its registers, then its tokens.
struct SequenceLayout {
  std::vector<std::int64_t> lengths;     ///< [S] rows of every sequence, in packed order
  std::vector<std::int64_t> source;      ///< [rows] where a row comes from in (class tokens, registers, tokens)
  std::vector<std::int64_t> places;      ///< [S] where in packed order a sequence stands
  std::vector<std::int64_t> class_rows;  ///< [S] row of every sequence's class token
  std::vector<std::int64_t> token_rows;  ///< [T] row of every token

  /// @param registers  of a sequence, 0 or more.
  /// @param by_length  sequences are packed in order of length, so that attention can take runs of equal or similar
  ///                   length at once (`Packing`); else as they stand.
  SequenceLayout(const Tokens& tokens, std::int64_t registers, bool by_length)
      : places(tokens.view.size()), class_rows(tokens.view.size()), token_rows(count(tokens.offsets.back())) {
    const std::int64_t sequences = tokens.sequences();
    const std::int64_t first_token = sequences * (1 + registers);
    std::vector<std::int64_t> order(tokens.view.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    if (by_length) {
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int64_t a, std::int64_t b) { return tokens.length(a) < tokens.length(b); });
    }
    lengths.reserve(order.size());
    source.reserve(count(first_token + tokens.offsets.back()));
    for (const std::int64_t s : order) {
      places[count(s)] = static_cast<std::int64_t>(lengths.size());
      lengths.push_back(1 + registers + tokens.length(s));
      class_rows[count(s)] = static_cast<std::int64_t>(source.size());
      source.push_back(s);
      for (std::int64_t r = 0; r < registers; ++r) {
        source.push_back(sequences + s * registers + r);
      }
      for (std::int64_t i = tokens.first(s); i < tokens.first(s) + tokens.length(s); ++i) {
        token_rows[count(i)] = static_cast<std::int64_t>(source.size());
        source.push_back(first_token + i);
      }
    }
  }

 private:
  static std::size_t count(std::int64_t number) { return static_cast<std::size_t>(number); }
};

}  // namespace rino
