#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>
#include <rino/losses/loss_precision.hpp>

namespace rino {

namespace detail {

/// log of the sum of exp(x) down the columns of the x [B, K] of all processes, [1, K]; a process may have no row.
inline at::Tensor log_sum_exp_of_columns(const at::Tensor& x, const Ranks& ranks) {
  if (ranks.alone()) {
    return x.logsumexp({0}, /*keepdim=*/true);
  }
  const at::Tensor own = x.size(0) > 0
                             ? std::get<0>(x.max(0, /*keepdim=*/true))
                             : at::full({1, x.size(1)}, -std::numeric_limits<double>::infinity(), x.options());
  const at::Tensor most = ranks.maximum(own);
  return most + ranks.sum((x - most).exp().sum(0, /*keepdim=*/true)).log();
}

}  // namespace detail

/// Soft assignment of B samples to K prototypes, every prototype used about equally: `iterations` of Sinkhorn-Knopp
/// on exp(scores / temperature), columns (prototypes) to total B / K, then rows (samples) to total 1.
///
/// Works on logarithms, so that no score over- or underflows, in float32 (float64 for double scores) under autocast
/// too.
///
/// Source: SwAV, arXiv:2006.09882, section 3.1; recipe of arXiv:2509.07486.
///
/// @param scores       [B, K].
/// @param temperature  above 0.
/// @param iterations   1 or more; the paper takes 3.
/// @param ranks        processes whose samples, B of each (another number for each, 0 where there are others), are
///                     assigned together.
/// @returns            [B, K], every row sums to 1; no gradient.
/// @throws rino::Error for another shape or values outside these ranges.
inline at::Tensor sinkhorn(const at::Tensor& scores, double temperature, std::int64_t iterations = 3,
                           const Ranks& ranks = {}) {
  require(scores.dim() == 2 && scores.size(1) > 0 && (scores.size(0) > 0 || !ranks.alone()),
          "Sinkhorn's scores have shape ", scores.sizes(), ": give [B, K]");
  detail::require_temperature(temperature);
  require(iterations >= 1, "Sinkhorn's iterations are ", iterations, ": choose 1 or more");
  const LossPrecision wide(scores);
  at::Tensor log_q = wide(scores.detach()) / temperature;
  const auto own = static_cast<double>(scores.size(0));
  const at::Tensor rows = ranks.sum(at::full({}, own, log_q.options().dtype(at::kDouble)));
  const at::Tensor log_share = wide((rows / static_cast<double>(scores.size(1))).log());
  for (std::int64_t i = 0; i < iterations; ++i) {
    log_q = log_q - detail::log_sum_exp_of_columns(log_q, ranks) + log_share;
    log_q = log_q - log_q.logsumexp({1}, /*keepdim=*/true);
  }
  return log_q.exp();
}

}  // namespace rino
