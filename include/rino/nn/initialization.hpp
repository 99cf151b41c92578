#pragma once

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <torch/types.h>

namespace rino {

namespace detail {

/// Normal values cut at two standard deviations of 1 (as PyTorch's trunc_normal_ with its bounds of +-2), by the
/// inverse of the distribution function.
inline void trunc_normal(const at::Tensor& tensor, double deviation, const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  // Below 1 in float32 too: erfinv(-1) is infinite, and the cut would make of it a weight a hundred deviations out.
  const double edge = std::min(std::erf(2.0 / deviation / std::sqrt(2.0)), 1.0 - 0x1p-24);
  tensor.uniform_(-edge, edge, generator).erfinv_().mul_(deviation * std::sqrt(2.0)).clamp_(-2.0, 2.0);
}

}  // namespace detail

}  // namespace rino
