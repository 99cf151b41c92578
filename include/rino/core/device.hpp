#pragma once

#include <c10/core/Device.h>

/// What devices can do. Nothing else asks of which kind one is.
///
/// PyTorch's PrivateUse1 is taken for a GPU: by that name the tests have a device whose memory host code cannot touch.
namespace rino {

namespace detail {

inline bool is_gpu(at::Device device) {
  return device.is_cuda() || device.is_privateuseone();
}

}  // namespace detail

/// Whether it fetches what lies in pinned memory while the CPU does something else.
inline bool fetches_pinned(at::Device device) {
  return detail::is_gpu(device);
}

/// Whether LibTorch has kernels of attention for packed sequences of any lengths there.
inline bool attends_any_length(at::Device device) {
  return detail::is_gpu(device);
}

/// Whether every call costs it some launches, so that few calls with much work are faster; a CPU wants the values of a
/// call to stay in its cache.
inline bool wants_much_at_once(at::Device device) {
  return detail::is_gpu(device);
}

/// Whether LibTorch has a kernel there that draws a mask, scales and multiplies, all in one.
inline bool drops_in_one_kernel(at::Device device) {
  return detail::is_gpu(device);
}

}  // namespace rino
