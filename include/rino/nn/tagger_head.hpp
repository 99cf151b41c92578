#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/nn/dropout.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/projection_head.hpp>

namespace rino {

/// What a tagger puts on the encoder.
enum class HeadKind { linear, mlp };

template <>
inline constexpr std::array enum_names<HeadKind> = {
    std::pair{HeadKind::linear, std::string_view("linear")},
    std::pair{HeadKind::mlp, std::string_view("mlp")},
};

/// Options of `TaggerHead`; the defaults are the paper's nano.
struct TaggerHeadOptions {
  HeadKind kind = HeadKind::linear;
  std::int64_t inputs = 32;
  std::int64_t hidden1 = 8;
  std::int64_t hidden2 = 4;
  double dropout = 0.1;
  bool normalized = false;
  std::int64_t outputs = 1;
};

/// From embeddings to logits: a linear layer, or two hidden layers with GELU and dropout before it. A normalised one
/// has cosines with learned directions as logits. Tensors are called as those of `torch.nn.Sequential(Linear, GELU,
/// Dropout, ..., Linear)`: "0.weight", "3.weight", "6.weight".
///
/// Source: arXiv:2509.07486, section 3.
class TaggerHeadImpl : public torch::nn::Cloneable<TaggerHeadImpl> {
 public:
  /// @throws rino::Error for sizes that make no network.
  explicit TaggerHeadImpl(const TaggerHeadOptions& options) : options(options) {
    require(options.inputs > 0 && options.hidden1 > 0 && options.hidden2 > 0 && options.outputs > 0,
            "the head's inputs, hidden1, hidden2 and outputs are ", options.inputs, ", ", options.hidden1, ", ",
            options.hidden2, " and ", options.outputs, ": choose 1 or more");
    reset();
  }

  void reset() override {
    hidden.clear();
    dropouts.clear();
    std::int64_t width = options.inputs;
    int place = 0;
    if (options.kind == HeadKind::mlp) {
      for (const std::int64_t next : {options.hidden1, options.hidden2}) {
        hidden.push_back(register_module(std::to_string(place), Linear(LinearOptions{width, next})));
        dropouts.push_back(register_module(std::to_string(place + 2), Dropout(options.dropout)));
        width = next;
        place += 3;
      }
    }
    const LinearOptions last{width, options.outputs};
    if (options.normalized) {
      directions = register_module(std::to_string(place), Prototypes(last));
    } else {
      linear = register_module(std::to_string(place), Linear(last));
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::TaggerHead(" << to_string(options.kind) << ", " << options.inputs << " -> " << options.outputs
           << ")";
  }

  /// [.., inputs] -> logits [.., outputs].
  at::Tensor forward(const at::Tensor& embeddings) {
    at::Tensor x = embeddings;
    for (std::size_t layer = 0; layer < hidden.size(); ++layer) {
      x = dropouts[layer](at::gelu(hidden[layer](x)));
    }
    return options.normalized ? directions(x / x.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12)) : linear(x);
  }

  TaggerHeadOptions options;
  std::vector<Linear> hidden;
  std::vector<Dropout> dropouts;
  Linear linear{nullptr};
  Prototypes directions{nullptr};
};

TORCH_MODULE(TaggerHead);

}  // namespace rino
