#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/nn/dropout.hpp>
#include <rino/nn/linear.hpp>

namespace rino {

/// Options of `SwiGLU`.
struct SwiGLUOptions {
  std::int64_t width;
  std::int64_t feedforward;  ///< width of the gated hidden layer; twice as many numbers are computed for it
  double dropout = 0.0;      ///< of the hidden layer, in training
};

/// Gated feed-forward part, [.., width] -> [.., width]: linear2(silu(gate) * value) with (gate, value) = linear1(x) and
/// silu(z) = z / (1 + e^-z). Both layers have biases.
///
/// Source: Shazeer, arXiv:2002.05202, equation 6.
class SwiGLUImpl : public torch::nn::Cloneable<SwiGLUImpl> {
 public:
  explicit SwiGLUImpl(const SwiGLUOptions& options) : options(options) { reset(); }

  void reset() override {
    linear1 = register_module("linear1", Linear(LinearOptions{options.width, 2 * options.feedforward}));
    linear2 = register_module("linear2", Linear(LinearOptions{options.feedforward, options.width}));
    dropout = register_module("dropout", Dropout(options.dropout));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::SwiGLU(" << options.width << " -> 2 x " << options.feedforward << " -> " << options.width << ")";
  }

  at::Tensor forward(const at::Tensor& x) {
    const std::vector<at::Tensor> halves = linear1(x).chunk(2, /*dim=*/-1);
    return linear2(dropout(at::silu(halves[0]) * halves[1]));
  }

  SwiGLUOptions options;
  Linear linear1{nullptr};  ///< the gate's rows, then the value's
  Linear linear2{nullptr};
  Dropout dropout{nullptr};
};

TORCH_MODULE(SwiGLU);

}  // namespace rino
