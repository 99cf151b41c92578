#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// All tensors of a module moved into one contiguous buffer, so that the optimiser, the clipping and the moving
/// average are a handful of kernels however many layers there are. The module computes with views of the buffer.
class FlatParameters {
 public:
  /// @param module     its tensors must share one device and one floating-point type.
  /// @param trainable  with a second buffer for the gradients, which backward adds to.
  /// @throws rino::Error if types or devices are mixed, there is no tensor, or a parameter is in no `TensorOwner`.
  FlatParameters(const torch::nn::Module& module, bool trainable) : slots_(tensor_slots(module)) {
    require(!slots_.empty(), "a module without parameters was given: there is nothing to train");
    for (const auto& parameter : module.named_parameters()) {
      require(std::any_of(slots_.begin(), slots_.end(),
                          [&](const TensorSlot& slot) { return slot.name == parameter.key(); }),
              "'", parameter.key(),
              "' belongs to a leaf that is none of rino's and cannot be trained: build the network ",
              "from rino's own leaves (Linear, Norm ...) or derive it from rino::Leaf");
    }
    std::vector<at::Tensor> pieces;
    for (const TensorSlot& slot : slots_) {
      require(slot.tensor().scalar_type() == slots_.front().tensor().scalar_type() &&
                  slot.tensor().device() == slots_.front().tensor().device(),
              "'", slot.name, "' is ", slot.tensor().scalar_type(), " on ", slot.tensor().device(), ", '",
              slots_.front().name, "' is ", slots_.front().tensor().scalar_type(), " on ",
              slots_.front().tensor().device(), ": bring the module to one type and device");
      pieces.push_back(slot.tensor().detach().reshape(-1));
    }
    values_ = at::cat(pieces);
    if (trainable) {
      gradients_ = at::zeros_like(values_);
    }
    std::int64_t begin = 0;
    for (const TensorSlot& slot : slots_) {
      const std::vector<std::int64_t> shape = slot.tensor().sizes().vec();
      const std::int64_t size = slot.tensor().numel();
      at::Tensor view = values_.narrow(0, begin, size).view(shape);
      if (trainable) {
        view.requires_grad_();
        view.mutable_grad() = gradients_.narrow(0, begin, size).view(shape);
      }
      slot.rebind(view);
      begin += size;
    }
  }

  /// Gives the module ordinary tensors back, with the current values.
  void release() {
    for (const TensorSlot& slot : slots_) {
      const bool trainable = slot.tensor().requires_grad();
      slot.rebind(slot.tensor().detach().clone().requires_grad_(trainable));
    }
  }

  const at::Tensor& values() const { return values_; }        ///< [P]
  const at::Tensor& gradients() const { return gradients_; }  ///< [P], undefined unless trainable
  const std::vector<TensorSlot>& slots() const { return slots_; }

 private:
  std::vector<TensorSlot> slots_;
  at::Tensor values_;
  at::Tensor gradients_;
};

}  // namespace rino
