#pragma once

#include <cstdint>
#include <ostream>
#include <tuple>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/nn/linear.hpp>

namespace rino {

/// Options of `Mlp`; the defaults are JetCLR's, for an encoder of the paper's nano.
struct MlpOptions {
  std::int64_t inputs = 32;
  std::int64_t layers = 2;
  std::int64_t width = 0;

  bool operator==(const MlpOptions&) const = default;

  /// Size of its outputs.
  std::int64_t outputs() const { return layers == 0 || width == 0 ? inputs : width; }

  static constexpr auto fields() {
    using Self = MlpOptions;
    return std::tuple{
        Field{"layers", &Self::layers, "", "of the head, each ReLU and linear; 0: the embedding itself is compared"},
        Field{"width", &Self::width, "", "of the head's layers and its output; 0: the embedding's"},
    };
  }
};

/// Layers of ReLU and linear, one behind the other, without a norm.
///
/// Source: the head of JetCLR, arXiv:2108.04253.
class MlpImpl : public torch::nn::Cloneable<MlpImpl> {
 public:
  /// @throws rino::Error for sizes that make no network.
  explicit MlpImpl(const MlpOptions& options) : options(options) {
    require(options.inputs > 0 && options.layers >= 0 && options.width >= 0, "the head's inputs, layers and width are ",
            options.inputs, ", ", options.layers, " and ", options.width, ": choose 1 or more, and 0 or more twice");
    reset();
  }

  void reset() override {
    layers = register_module("layers", torch::nn::ModuleList());
    std::int64_t width = options.inputs;
    for (std::int64_t layer = 0; layer < options.layers; ++layer) {
      layers->push_back(Linear(LinearOptions{width, options.outputs()}));
      width = options.outputs();
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::Mlp(" << options.inputs << " -> " << options.outputs() << ")";
  }

  /// [.., inputs] -> [.., outputs].
  at::Tensor forward(const at::Tensor& inputs) {
    at::Tensor x = inputs;
    for (const auto& layer : *layers) {
      x = layer->as<Linear>()->forward(at::relu(x));
    }
    return x;
  }

  MlpOptions options;
  torch::nn::ModuleList layers{nullptr};
};

TORCH_MODULE(Mlp);

}  // namespace rino
