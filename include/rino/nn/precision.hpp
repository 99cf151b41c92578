#pragma once

#include <array>
#include <string_view>
#include <utility>

#include <ATen/autocast_mode.h>

#include <rino/core/named_enum.hpp>
#include <rino/nn/bf16/supported.hpp>

namespace rino {

/// In what networks compute during training. Weights, moments, losses and averages are float32, or float64.
enum class Precision {
  float32,  ///< the type of the weights
  bf16,     ///< products, attention and the activations between them in bfloat16 (autocast), all else in float32
  float64,  ///< everything, weights too: for comparisons, several times slower
};

template <>
inline constexpr std::array enum_names<Precision> = {
    std::pair{Precision::float32, std::string_view("float32")},
    std::pair{Precision::bf16, std::string_view("bf16")},
    std::pair{Precision::float64, std::string_view("float64")},
};

/// What is computed in on a kind of device where `wanted` was asked for. On a CPU bfloat16 is faster only in hardware
/// that our kernels know (`bf16::supported`); by LibTorch's autocast it is several times slower than float32 in the
/// fused kernels, so that it is float32 then.
inline Precision effective_precision(Precision wanted, at::DeviceType device) {
  return wanted == Precision::bf16 && device == at::kCPU && !bf16::supported() ? Precision::float32 : wanted;
}

/// Makes this thread's operations on one kind of device autocast to bfloat16 as long as the object lives, or, with
/// another precision, not autocast whatever the caller's mode is. The mode before returns at the end of the scope,
/// also where an exception ends it.
///
/// Backward passes belong outside: they take the types of their forward passes by themselves.
class Autocast {
 public:
  Autocast(Precision precision, at::DeviceType device)
      : device_(device),
        was_enabled_(at::autocast::is_autocast_enabled(device)),
        dtype_(at::autocast::get_autocast_dtype(device)) {
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(device, precision == Precision::bf16);
    if (precision == Precision::bf16) {
      at::autocast::set_autocast_dtype(device, at::kBFloat16);
    }
  }

  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

  ~Autocast() {
    // Copies of weights that autocast keeps are those of this step: the next one has other weights.
    if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, dtype_);
  }

 private:
  at::DeviceType device_;
  bool was_enabled_;
  at::ScalarType dtype_;
};

}  // namespace rino
