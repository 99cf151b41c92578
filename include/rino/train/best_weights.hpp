#pragma once

#include <cstdint>
#include <limits>

#include <ATen/ATen.h>

#include <rino/io/safetensors.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/train/checkpoint.hpp>

namespace rino {

/// The weights of the epoch with the lowest mean loss on jets that are set aside.
struct BestWeights {
  Jets<double> jets;  ///< that are set aside
  double last = std::numeric_limits<double>::quiet_NaN();
  double best = std::numeric_limits<double>::infinity();
  std::int64_t epoch = -1;  ///< of `best`, from 0 in its phase
  at::Tensor values;        ///< [P] of it; undefined before the first epoch
  NamedTensors buffers;     ///< of it

  /// An epoch has ended.
  void see(double loss, std::int64_t number, const at::Tensor& now, const NamedTensors& now_buffers) {
    last = loss;
    if (loss < best) {  // never of one that is not finite
      best = loss;
      epoch = number;
      values = now.clone();
      buffers = copies_of(now_buffers);
    }
  }

  /// Into a checkpoint, where an epoch was seen.
  void save(Safetensors& file) const {
    if (!values.defined()) {
      return;
    }
    file.tensors.emplace_back("validation.losses", at::tensor({last, best}, at::kDouble));
    file.tensors.emplace_back("validation.epoch", at::tensor({epoch}, at::kLong));
    file.tensors.emplace_back("validation.values", values.cpu());
    for (const auto& [name, tensor] : buffers) {
      file.tensors.emplace_back("validation." + name, tensor.cpu());
    }
  }

  /// From a checkpoint of the phase that has begun.
  /// @param now, now_buffers  of the shapes and places that they are to have.
  void load(const Safetensors& file, const at::Tensor& now, const NamedTensors& now_buffers) {
    if (!file.contains("validation.values")) {
      return;
    }
    last = file.at("validation.losses")[0].item<double>();
    best = file.at("validation.losses")[1].item<double>();
    epoch = file.at("validation.epoch").item<std::int64_t>();
    values = now.clone().copy_(saved_tensor(file, "validation.values", now.sizes(), now.scalar_type()));
    buffers = copies_of(now_buffers);
    for (const auto& [name, tensor] : buffers) {
      tensor.copy_(saved_tensor(file, "validation." + name, tensor.sizes(), tensor.scalar_type()));
    }
  }

  /// Another phase has begun.
  void forget() {
    last = std::numeric_limits<double>::quiet_NaN();
    best = std::numeric_limits<double>::infinity();
    epoch = -1;
    values = at::Tensor();
    buffers.clear();
  }
};

}  // namespace rino
