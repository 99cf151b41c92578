#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include <rino/tokens/tokens.hpp>

namespace rino {

/// The packed rows inside an encoder: of every sequence its class token, its registers, then its tokens.
struct SequenceLayout {
  std::vector<std::int64_t> lengths;        ///< [S] rows of every sequence, in packed order
  std::vector<std::int64_t> source;         ///< [rows] where a row comes from in (class tokens, registers, tokens)
  std::vector<std::int64_t> places;         ///< [S] where in packed order a sequence stands
  std::vector<std::int64_t> class_rows;     ///< [S] row of every sequence's class token; empty without them
  std::vector<std::int64_t> register_rows;  ///< [S R] row of every register
  std::vector<std::int64_t> token_rows;     ///< [T] row of every token

  /// @param class_tokens  of a sequence, 0 or 1.
  /// @param registers     of a sequence, 0 or more.
  /// @param by_length     sequences are packed in order of length, so that attention can take runs of equal or similar
  ///                      length at once (`Packing`); else as they stand.
  SequenceLayout(const Tokens& tokens, std::int64_t class_tokens, std::int64_t registers, bool by_length)
      : places(tokens.view.size()),
        class_rows(count(class_tokens) * tokens.view.size()),
        register_rows(count(registers) * tokens.view.size()),
        token_rows(count(tokens.offsets.back())) {
    const std::int64_t sequences = tokens.sequences();
    const std::int64_t first_register = sequences * class_tokens;
    const std::int64_t first_token = first_register + sequences * registers;
    std::vector<std::int64_t> order(tokens.view.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    if (by_length) {
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int64_t a, std::int64_t b) { return tokens.length(a) < tokens.length(b); });
    }
    lengths.reserve(order.size());
    source.reserve(count(first_token + tokens.offsets.back()));
    const auto add = [this](std::int64_t& row, std::int64_t from) {
      row = static_cast<std::int64_t>(source.size());
      source.push_back(from);
    };
    for (const std::int64_t s : order) {
      places[count(s)] = static_cast<std::int64_t>(lengths.size());
      lengths.push_back(class_tokens + registers + tokens.length(s));
      if (class_tokens > 0) {
        add(class_rows[count(s)], s);
      }
      for (std::int64_t r = s * registers; r < (s + 1) * registers; ++r) {
        add(register_rows[count(r)], first_register + r);
      }
      for (std::int64_t i = tokens.first(s); i < tokens.first(s) + tokens.length(s); ++i) {
        add(token_rows[count(i)], first_token + i);
      }
    }
  }

 private:
  static std::size_t count(std::int64_t number) { return static_cast<std::size_t>(number); }
};

}  // namespace rino
