#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include <ATen/ATen.h>

#include <rino/core/device.hpp>

namespace rino {

/// `tensor` (on the CPU) on `device`. To a CUDA device it goes through pinned memory without waiting for the copy:
/// whoever uses it on that device comes after it by itself.
inline at::Tensor to_device(const at::Tensor& tensor, at::Device device) {
  if (!fetches_pinned(device)) {
    return tensor.to(device);
  }
  return (tensor.is_pinned() ? tensor : tensor.pin_memory()).to(device, /*non_blocking=*/true);
}

/// Whole numbers as a tensor of their type, [n], on `device`, by way of `to_device`.
template <typename Integer>
at::Tensor index_tensor(std::span<const Integer> values, at::Device device) {
  at::Tensor tensor =
      at::empty({static_cast<std::int64_t>(values.size())},
                at::TensorOptions(c10::CppTypeToScalarType<Integer>::value).pinned_memory(fetches_pinned(device)));
  if (!values.empty()) {
    std::memcpy(tensor.mutable_data_ptr<Integer>(), values.data(), values.size_bytes());
  }
  return to_device(tensor, device);
}

}  // namespace rino
