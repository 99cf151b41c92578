#pragma once

#include <cmath>
#include <cstdint>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/nn/precision.hpp>

namespace rino {

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
/// @returns            [B, K], every row sums to 1; no gradient.
/// @throws rino::Error for another shape or values outside these ranges.
inline at::Tensor sinkhorn(const at::Tensor& scores, double temperature, std::int64_t iterations = 3) {
  require(scores.dim() == 2 && scores.numel() > 0, "Sinkhorn's scores have shape ", scores.sizes(), ": give [B, K]");
  require(temperature > 0, "the temperature is ", temperature, ": choose one above 0");
  require(iterations >= 1, "Sinkhorn's iterations are ", iterations, ": choose 1 or more");
  const Autocast off(Precision::float32, scores.device().type());
  const auto type = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor log_q = scores.detach().to(type) / temperature;
  const double log_share = std::log(static_cast<double>(scores.size(0)) / static_cast<double>(scores.size(1)));
  for (std::int64_t i = 0; i < iterations; ++i) {
    log_q = log_q - log_q.logsumexp({0}, /*keepdim=*/true) + log_share;
    log_q = log_q - log_q.logsumexp({1}, /*keepdim=*/true);
  }
  return log_q.exp();
}

}  // namespace rino
