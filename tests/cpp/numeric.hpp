#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include <ATen/ATen.h>

#include <rino/nn/module.hpp>

/// A matrix of doubles whose entries are written x(i, j).
struct Matrix {
  std::int64_t rows, columns;
  std::vector<double> values;

  explicit Matrix(const at::Tensor& tensor) : rows(tensor.size(0)), columns(tensor.size(1)) {
    const at::Tensor flat = tensor.detach().to(at::kDouble).contiguous();
    values.assign(flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel());
  }

  double& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }

  at::Tensor tensor() const { return at::tensor(values, at::kDouble).view({rows, columns}); }
};

inline at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType type = at::kDouble) {
  return at::empty(shape, type).normal_(0.0, 1.0, rino::make_generator(at::kCPU, seed));
}

/// Infinite for tensors of unequal shapes.
inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) {
    return std::numeric_limits<double>::infinity();
  }
  return a.numel() == 0 ? 0.0 : (a.detach().to(at::kDouble) - b.detach().to(at::kDouble)).abs().max().item<double>();
}

/// Central differences of a scalar function at x, the step at which truncation and rounding balance.
inline at::Tensor numeric_gradient(const std::function<at::Tensor(const at::Tensor&)>& function, const at::Tensor& x) {
  constexpr double step = 6e-6;
  const at::NoGradGuard no_grad;
  at::Tensor gradient = at::zeros_like(x);
  at::Tensor moved = x.detach().clone();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    at::Tensor entry = moved.view(-1)[i];
    entry.add_(step);
    const double up = function(moved).item<double>();
    entry.sub_(2 * step);
    const double down = function(moved).item<double>();
    entry.add_(step);
    gradient.view(-1)[i] = (up - down) / (2 * step);
  }
  return gradient;
}

inline at::Tensor backward_gradient(const std::function<at::Tensor(const at::Tensor&)>& function, const at::Tensor& x) {
  const at::Tensor leaf = x.detach().clone().requires_grad_();
  function(leaf).backward();
  return leaf.grad();
}
