#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace rino {

/// From `start` at position 0 to `end` at `total` along half a cosine; `end` from there on.
inline double cosine_schedule(double start, double end, double position, double total) {
  if (position >= total) {
    return end;
  }
  return end + 0.5 * (start - end) * (1.0 + std::cos(std::numbers::pi * position / total));
}

/// A rise in a straight line from `start` to `peak` during `warmup`, then half a cosine down to `end` at `total`.
/// All positions are in steps; with warmup 0 the schedule begins at the peak.
inline double warmup_cosine_schedule(double start, double peak, double end, double position, double warmup,
                                     double total) {
  if (position < warmup) {
    return start + (peak - start) * position / warmup;
  }
  return cosine_schedule(peak, end, position - warmup, std::max(total - warmup, 1.0));
}

}  // namespace rino
