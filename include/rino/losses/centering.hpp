#pragma once

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>
#include <rino/losses/loss_precision.hpp>

namespace rino {

/// The other way of keeping teachers from collapsing: softmax of the scores less a centre that follows their mean.
///
/// Source: DINO, arXiv:2104.14294, equation 4.
///
/// @param scores       [B, K].
/// @param center       [K].
/// @param temperature  above 0.
/// @returns            [B, K], every row sums to 1; no gradient.
/// @throws rino::Error for shapes that do not fit or a temperature that is not above 0.
inline at::Tensor centered_assignment(const at::Tensor& scores, const at::Tensor& center, double temperature) {
  require(scores.dim() == 2 && center.dim() == 1 && center.size(0) == scores.size(1), "scores ", scores.sizes(),
          " and centre ", center.sizes(), " do not fit: give [B, K] and [K]");
  detail::require_temperature(temperature);
  const LossPrecision wide(scores);
  return ((wide(scores.detach()) - center) / temperature).softmax(1);
}

/// Moves the centre towards the mean of the scores, in place: c <- m c + (1 - m) mean(scores).
/// The mean is over the scores of all processes; without any the centre stays. Source: DINO, arXiv:2104.14294,
/// equation 4.
inline void update_center(at::Tensor& center, const at::Tensor& scores, double momentum, const Ranks& ranks = {}) {
  const LossPrecision wide(scores);
  const at::Tensor own = scores.detach().to(center.scalar_type());
  if (ranks.alone()) {
    if (own.size(0) > 0) {
      center.mul_(momentum).add_(own.mean(0), 1.0 - momentum);
    }
    return;
  }
  const at::Tensor rows = ranks.sum(at::full({}, static_cast<double>(own.size(0)), own.options()));
  const at::Tensor moved = momentum * center + (1.0 - momentum) * (ranks.sum(own.sum(0)) / rows);
  center.copy_(at::where(rows > 0, moved, center));
}

}  // namespace rino
