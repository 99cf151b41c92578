#pragma once

#include <cstdint>
#include <vector>

#include <rino/nn/tokens.hpp>

namespace rino {

/// The packed rows inside an encoder: of every sequence its class token, its registers, then its tokens.
struct SequenceLayout {
  std::vector<std::int64_t> lengths;        ///< [S] rows of every sequence
  std::vector<std::int64_t> source;         ///< [rows] where a row comes from in (class tokens, registers, tokens)
  std::vector<std::int64_t> class_rows;     ///< [S] row of every class token; empty without them
  std::vector<std::int64_t> register_rows;  ///< [S R] row of every register
  std::vector<std::int64_t> token_rows;     ///< [T] row of every token

  /// @param class_tokens  of a sequence, 0 or 1.
  /// @param registers     of a sequence, 0 or more.
  SequenceLayout(const Tokens& tokens, std::int64_t class_tokens, std::int64_t registers) {
    const std::int64_t sequences = tokens.sequences();
    const std::int64_t first_register = sequences * class_tokens;
    const std::int64_t first_token = first_register + sequences * registers;
    source.reserve(static_cast<std::size_t>(first_token + tokens.offsets.back()));
    token_rows.reserve(static_cast<std::size_t>(tokens.offsets.back()));
    for (std::int64_t s = 0; s < sequences; ++s) {
      lengths.push_back(class_tokens + registers + tokens.length(s));
      if (class_tokens > 0) {
        class_rows.push_back(static_cast<std::int64_t>(source.size()));
        source.push_back(s);
      }
      for (std::int64_t r = 0; r < registers; ++r) {
        register_rows.push_back(static_cast<std::int64_t>(source.size()));
        source.push_back(first_register + s * registers + r);
      }
      for (std::int64_t i = 0; i < tokens.length(s); ++i) {
        token_rows.push_back(static_cast<std::int64_t>(source.size()));
        source.push_back(first_token + tokens.first(s) + i);
      }
    }
  }
};

}  // namespace rino
