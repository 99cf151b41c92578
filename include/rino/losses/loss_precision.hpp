#pragma once

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/nn/precision.hpp>

namespace rino {

/// How every loss computes, as long as the object lives: not autocast, whatever the caller's mode is, and in float32,
/// or in double what is double.
class LossPrecision {
 public:
  explicit LossPrecision(const at::Tensor& of)
      : type(of.scalar_type() == at::kDouble ? at::kDouble : at::kFloat),
        off_(Precision::float32, of.device().type()) {}

  /// In that type.
  at::Tensor operator()(const at::Tensor& x) const { return x.to(type); }

  const at::ScalarType type;

 private:
  Autocast off_;
};

namespace detail {

inline void require_temperature(double temperature, const char* whose = "the temperature") {
  require(temperature > 0, whose, " is ", temperature, ": choose one above 0");
}

}  // namespace detail

}  // namespace rino
