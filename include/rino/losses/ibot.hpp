#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/losses/loss_precision.hpp>

namespace rino {

/// Cross-entropy between the teacher's assignments of masked constituents and the student's softmax, averaged over the
/// masked constituents of each jet, then over jets.
///
/// Source: iBOT, arXiv:2111.07832, equation 2.
///
/// @param assignments  teacher's probabilities [M, K] of the M masked constituents, which it has seen; no gradient.
/// @param scores       student's scores [M, K], which has not.
/// @param counts       int64 [J], masked constituents of each jet that has some, 1 or more, M together; the rows stand
///                     in the order of these jets.
/// @param temperature  the student's, above 0.
/// @param jets         by which the sum over jets is divided; 0: their number, J. The batch of a step that is computed
/// in
///                     parts has others: `Step::share`.
/// @returns            the loss, a scalar of float32 (float64 for double scores), under autocast too; 0 of no jets.
/// @throws rino::Error for shapes that do not fit or a temperature that is not above 0.
inline at::Tensor ibot_loss(const at::Tensor& assignments, const at::Tensor& scores, const at::Tensor& counts,
                            double temperature, double jets = 0.0) {
  require(scores.dim() == 2 && assignments.sizes() == scores.sizes(), "teacher assignments ", assignments.sizes(),
          " and student scores ", scores.sizes(), " do not fit: give [M, K] twice");
  require(counts.dim() == 1 && counts.scalar_type() == at::kLong && counts.size(0) <= scores.size(0) &&
              (counts.size(0) > 0) == (scores.size(0) > 0),
          "counts are ", counts.scalar_type(), " ", counts.sizes(), " of ", scores.size(0),
          " masked constituents: give int64 [J], the number of each jet that has some");
  // Where looking costs nothing: on another device it would wait for all that came before.
  require(!counts.is_cpu() || counts.size(0) == 0 ||
              (counts.min().item<std::int64_t>() >= 1 && counts.sum().item<std::int64_t>() == scores.size(0)),
          "counts do not fit ", scores.size(0), " masked constituents: give 1 or more of each jet, together all");
  detail::require_temperature(temperature, "the student's temperature");
  const LossPrecision wide(scores);
  const double all = jets > 0 ? jets : std::max(static_cast<double>(counts.size(0)), 1.0);
  const at::Tensor weights = (1.0 / wide(counts) / all).repeat_interleave(counts, 0, scores.size(0));
  const at::Tensor log_p = (wide(scores) / temperature).log_softmax(1);
  return (-(wide(assignments.detach()) * log_p).sum(1) * weights).sum();
}

}  // namespace rino
