#pragma once

#include <ATen/ATen.h>

#include <rino/nn/flat_parameters.hpp>

namespace rino {

/// Moves a teacher towards its student: teacher <- momentum * teacher + (1 - momentum) * student, all parameters at
/// once (mean teacher, arXiv:1703.01780).
inline void ema_update(const FlatParameters& teacher, const FlatParameters& student, double momentum) {
  const at::NoGradGuard no_grad;
  teacher.values().lerp_(student.values(), 1.0 - momentum);
}

}  // namespace rino
