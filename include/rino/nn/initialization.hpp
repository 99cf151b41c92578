#pragma once

#include <cmath>

#include <ATen/ATen.h>
#include <torch/types.h>

namespace rino {

namespace detail {

/// Normal values cut at two standard deviations of 1 (as PyTorch's trunc_normal_ with its bounds of +-2), by the
/// inverse of the distribution function.
inline void trunc_normal(const at::Tensor& tensor, double deviation, const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const double edge = std::erf(2.0 / deviation / std::sqrt(2.0));
  tensor.uniform_(-edge, edge, generator).erfinv_().mul_(deviation * std::sqrt(2.0)).clamp_(-2.0, 2.0);
}

}  // namespace detail

}  // namespace rino
