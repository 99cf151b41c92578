#pragma once

#include <cstdint>
#include <limits>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>

namespace rino::detail {

/// sum_i w_i l_i / sum_i w_i over the terms [N] of all ranks, if the ranks' results are averaged; 0 where all weights
/// are 0.
inline at::Tensor weighted_mean(const at::Tensor& terms, const at::Tensor& weights, const Ranks& ranks) {
  const at::Tensor wide = weights.to(at::kDouble);  // whatever the weights' scale
  const at::Tensor all = ranks.sum(wide.sum()) / static_cast<double>(ranks.size());
  return (terms * (wide / all.clamp_min(std::numeric_limits<double>::min())).to(terms.scalar_type())).sum();
}

/// @throws rino::Error unless there is one weight, of a floating-point type, per row; none at all is right, too.
inline void require_weights(const at::Tensor& weights, std::int64_t rows, const char* what) {
  require(!weights.defined() ||
              (weights.dim() == 1 && weights.size(0) == rows && at::isFloatingType(weights.scalar_type())),
          what, " was given weights ", weights.defined() ? weights.sizes() : at::IntArrayRef(), " for ", rows,
          ": give one number of a floating-point type for each");
}

}  // namespace rino::detail
