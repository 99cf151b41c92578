#pragma once

#include <ATen/ATen.h>

#include <rino/losses/loss_precision.hpp>
#include <rino/losses/unit_rows.hpp>

namespace rino {

/// How far two views of a jet lie apart on the sphere: the mean of |z_a - z_b|^2, z = x / |x|.
///
/// Source: Wang and Isola, arXiv:2005.10242, equation 1 with alpha = 2.
///
/// @param a, b  two views of the same jets, [N, D] each, not normalised, N >= 1.
/// @returns     a scalar of float32 (float64 for double rows) between 0 and 4, under autocast too.
/// @throws rino::Error for other shapes or types.
inline at::Tensor alignment(const at::Tensor& a, const at::Tensor& b) {
  detail::require_views(a, b, "alignment");
  require(a.size(0) >= 1, "alignment was given no jets: give one or more");
  const LossPrecision wide(a);
  return (detail::unit_rows(a) - detail::unit_rows(b)).square().sum(1).mean();
}

}  // namespace rino
