#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace rino {

/// What a step has to say.
struct StepReport {
  std::int64_t step = 0;  ///< number of the step, from 0
  double epoch = 0;       ///< epochs done when it began
  double loss = 0;
  double lr = 0;
  double gradient_norm = 0;                             ///< before clipping
  bool skipped = false;                                 ///< loss or gradient were not finite, nothing was changed
  double waited = 0;                                    ///< seconds spent waiting for the loader, part of `seconds`
  double seconds = 0;                                   ///< seconds in all
  std::vector<std::pair<std::string, double>> metrics;  ///< of the method
};

}  // namespace rino
