#pragma once

#include <cstdint>
#include <limits>

namespace rino {

/// Mean losses of a run's epochs: of the one that is under way, the last and the best whole one.
struct EpochLosses {
  double sum = 0;     ///< of the epoch under way
  double weight = 0;  ///< of its steps, of which a smaller one counts less
  double last = std::numeric_limits<double>::quiet_NaN();
  double best = std::numeric_limits<double>::infinity();
  std::int64_t best_epoch = -1;

  /// @param share  of a whole batch that the step's jets are.
  void add(double loss, double share) {
    sum += share * loss;
    weight += share;
  }

  /// @param epoch  that has ended, from 0.
  void end(std::int64_t epoch) {
    last = sum / weight;
    if (last < best) {  // never of an epoch without a finite step
      best = last;
      best_epoch = epoch;
    }
    sum = 0;
    weight = 0;
  }
};

}  // namespace rino
