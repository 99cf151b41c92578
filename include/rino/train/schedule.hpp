#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <utility>

#include <rino/core/named_enum.hpp>

namespace rino {

/// From `start` at position 0 to `end` at `total` along half a cosine; `end` from there on.
inline double cosine_schedule(double start, double end, double position, double total) {
  if (position >= total) {
    return end;
  }
  return end + 0.5 * (start - end) * (1.0 + std::cos(std::numbers::pi * position / total));
}

/// How a learning rate rises.
enum class Rise { linear, cosine };

template <>
inline constexpr std::array enum_names<Rise> = {
    std::pair{Rise::linear, std::string_view("linear")},
    std::pair{Rise::cosine, std::string_view("cosine")},
};

/// A rise from `start` to `peak` during `warmup`, in a straight line or along half a cosine, then half a cosine down to
/// `end` at `total`. All positions are in steps; with warmup 0 the schedule begins at the peak.
inline double warmup_cosine_schedule(double start, double peak, double end, double position, double warmup,
                                     double total, Rise rise = Rise::linear) {
  if (position < warmup) {
    if (rise == Rise::cosine) {
      return cosine_schedule(start, peak, position, warmup);
    }
    return start + (peak - start) * position / warmup;
  }
  return cosine_schedule(peak, end, position - warmup, std::max(total - warmup, 1.0));
}

}  // namespace rino
