#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <ATen/ATen.h>
#include <torch/types.h>

namespace rino {

/// The bound of the uniform initial values of PyTorch's `nn.Linear`, 1/sqrt(in): what He et al. (arXiv:1502.01852)
/// comes to with its slope of sqrt(5).
inline double linear_bound(std::int64_t in) {
  return 1.0 / std::sqrt(static_cast<double>(in));
}

/// That of Xavier's uniform ones, sqrt(6 / (in + out)) (Glorot and Bengio, AISTATS 2010).
inline double xavier_bound(std::int64_t in, std::int64_t out) {
  return std::sqrt(6.0 / static_cast<double>(in + out));
}

namespace detail {

inline void uniform(const at::Tensor& tensor, double bound, const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  tensor.uniform_(-bound, bound, generator);
}

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
