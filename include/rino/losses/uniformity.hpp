#pragma once

#include <cmath>
#include <cstdint>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/losses/loss_precision.hpp>
#include <rino/losses/unit_rows.hpp>

namespace rino {

/// How evenly embeddings fill the sphere: ln of the mean over pairs i < j of exp(-2 |z_i - z_j|^2), z = x / |x|. The
/// lower, the more evenly; 0 where all are equal.
///
/// Source: Wang and Isola, arXiv:2005.10242, equation 2 with t = 2.
///
/// @param x  [N, D], not normalised, N >= 2.
/// @returns  a scalar of float32 (float64 for double rows), under autocast too.
/// @throws rino::Error for another shape or type, or fewer than two embeddings.
inline at::Tensor uniformity(const at::Tensor& x) {
  require(x.dim() == 2 && x.size(0) >= 2 && at::isFloatingType(x.scalar_type()), "uniformity was given ",
          x.scalar_type(), " ", x.sizes(), ": give [N, D] of a floating-point type with two jets or more");
  const LossPrecision wide(x);
  const at::Tensor z = detail::unit_rows(x);
  const std::int64_t n = z.size(0);
  // Of unit rows by their products.
  const at::Tensor distances = (2.0 - 2.0 * z.matmul(z.t())).clamp_min(0.0);
  const at::Tensor upper = at::triu_indices(n, n, 1, z.options().dtype(at::kLong));
  const at::Tensor pairs = distances.index({upper[0], upper[1]});
  return (-2.0 * pairs).logsumexp(0) - std::log(static_cast<double>(n) * static_cast<double>(n - 1) / 2.0);
}

}  // namespace rino
