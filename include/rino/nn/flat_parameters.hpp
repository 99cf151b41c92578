#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include <rino/core/error.hpp>

namespace rino {

/// Networks by name.
using Modules = std::vector<std::pair<std::string, std::shared_ptr<torch::nn::Module>>>;

/// Tensors by dotted name, as in state_dict.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

namespace detail {

/// Adds tensors, "prefix.name"; one that several names have is added once, under the first of them.
template <typename Items>
void add_named(NamedTensors& tensors, const std::string& prefix, const Items& items) {
  for (const auto& item : items) {
    const bool known = std::any_of(tensors.begin(), tensors.end(),
                                   [&](const auto& other) { return other.second.is_same(item.value()); });
    if (item.value().defined() && !known) {
      tensors.emplace_back(prefix.empty() ? item.key() : prefix + "." + item.key(), item.value());
    }
  }
}

}  // namespace detail

/// All parameters of networks, "module.layer.name", in the order of their registration.
inline NamedTensors parameters_of(const Modules& modules) {
  NamedTensors tensors;
  for (const auto& [name, module] : modules) {
    detail::add_named(tensors, name, module->named_parameters());
  }
  return tensors;
}

/// Those of them that require a gradient.
inline NamedTensors trainable_parameters_of(const Modules& modules) {
  NamedTensors tensors = parameters_of(modules);
  std::erase_if(tensors, [](const auto& parameter) { return !parameter.second.requires_grad(); });
  return tensors;
}

/// All buffers of networks (as a batch norm's moving averages), in the order of their registration.
inline NamedTensors buffers_of(const Modules& modules) {
  NamedTensors tensors;
  for (const auto& [name, module] : modules) {
    detail::add_named(tensors, name, module->named_buffers());
  }
  return tensors;
}

/// Copies of tensors, to be put back where a step or an epoch is to have changed nothing.
inline NamedTensors copies_of(NamedTensors tensors) {
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.detach().clone();
  }
  return tensors;
}

/// The values of copies, into tensors in their order.
inline void put_back(const NamedTensors& copies, const NamedTensors& tensors) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < copies.size() && i < tensors.size(); ++i) {
    tensors[i].second.copy_(copies[i].second);
  }
}

/// Parameters moved into one contiguous buffer, so that the optimiser, the clipping and the moving average are a
/// handful of kernels however many layers there are. They stay the tensors that they are, for whoever holds them, and
/// have views of the buffer as their data.
class FlatParameters {
 public:
  /// @param parameters  of any networks, each once, of one device and one floating-point type.
  /// @param trainable   with a second buffer for the gradients, which backward adds to.
  /// @throws rino::Error if types or devices are mixed or there is no parameter.
  FlatParameters(NamedTensors parameters, bool trainable) : parameters_(std::move(parameters)) {
    require(!parameters_.empty(), "networks without parameters that require a gradient were given: there is nothing ",
            "to train");
    const auto& [first_name, first] = parameters_.front();
    std::vector<at::Tensor> pieces;
    for (const auto& [name, tensor] : parameters_) {
      require(at::isFloatingType(tensor.scalar_type()) && tensor.scalar_type() == first.scalar_type() &&
                  tensor.device() == first.device(),
              "'", name, "' is ", tensor.scalar_type(), " on ", tensor.device(), ", '", first_name, "' is ",
              first.scalar_type(), " on ", first.device(), ": bring all to one floating-point type and device");
      pieces.push_back(tensor.detach().reshape(-1));
    }
    values_ = at::cat(pieces);
    if (trainable) {
      gradients_ = at::zeros_like(values_);
    }
    std::int64_t begin = 0;
    for (const auto& [name, tensor] : parameters_) {
      const std::int64_t size = tensor.numel();
      tensor.set_data(values_.narrow(0, begin, size).view(tensor.sizes()));
      tensor.set_requires_grad(trainable);
      tensor.mutable_grad() = trainable ? gradients_.narrow(0, begin, size).view(tensor.sizes()) : at::Tensor();
      begin += size;
    }
  }

  /// All parameters of a network, by names without a prefix.
  FlatParameters(const torch::nn::Module& module, bool trainable) : FlatParameters(of(module), trainable) {}

  /// @throws rino::Error naming the first parameter whose values or gradients have left the buffers, as after
  ///         `zero_grad(set_to_none)` or an assignment to `.data`: training would go on without it.
  void check() const {
    const auto inside = [](const at::Tensor& part, const at::Tensor& buffer, std::int64_t begin) {
      return part.defined() && part.is_alias_of(buffer) && part.storage_offset() == buffer.storage_offset() + begin;
    };
    std::int64_t begin = 0;
    for (const auto& [name, tensor] : parameters_) {
      require(inside(tensor, values_, begin) && (!gradients_.defined() || inside(tensor.grad(), gradients_, begin)),
              "the ", inside(tensor, values_, begin) ? "gradient" : "data", " of '", name,
              "' was exchanged in training: change it in place, and leave zeroing of gradients to the trainer");
      begin += tensor.numel();
    }
  }

  /// Gives the parameters memory of their own back, with the current values.
  void release() {
    for (const auto& [name, tensor] : parameters_) {
      tensor.mutable_grad() = at::Tensor();
      tensor.set_data(tensor.detach().clone());
    }
  }

  const at::Tensor& values() const { return values_; }            ///< [P]
  const at::Tensor& gradients() const { return gradients_; }      ///< [P], undefined unless trainable
  const NamedTensors& parameters() const { return parameters_; }  ///< in the buffers' order

 private:
  static NamedTensors of(const torch::nn::Module& module) {
    NamedTensors all;
    detail::add_named(all, "", module.named_parameters());
    return all;
  }

  NamedTensors parameters_;
  at::Tensor values_;
  at::Tensor gradients_;
};

}  // namespace rino
