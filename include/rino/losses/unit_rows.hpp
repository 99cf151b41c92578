#pragma once

#include <ATen/ATen.h>

#include <rino/core/error.hpp>

namespace rino::detail {

/// Rows [.., D] in float32 (float64 for double ones), scaled to length 1; a row of zeros stays.
inline at::Tensor unit_rows(const at::Tensor& x) {
  const at::Tensor wide = x.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  return wide / wide.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
}

/// @throws rino::Error unless both are [N, D] of one floating-point type.
inline void require_views(const at::Tensor& a, const at::Tensor& b, const char* what) {
  require(a.dim() == 2 && a.sizes() == b.sizes() && at::isFloatingType(a.scalar_type()) &&
              a.scalar_type() == b.scalar_type(),
          what, " was given ", a.scalar_type(), " ", a.sizes(), " and ", b.scalar_type(), " ", b.sizes(),
          ": give two views of the same jets, [N, D] twice, of one floating-point type");
}

}  // namespace rino::detail
