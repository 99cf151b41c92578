#pragma once

#include <cstdint>
#include <ostream>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/nn/module.hpp>

namespace rino {

/// Options of `LayerNorm`.
struct LayerNormOptions {
  std::int64_t width;
  double eps = 1e-5;
};

/// Layer normalisation over the last dimension, [.., width] -> [.., width] (Ba et al., arXiv:1607.06450).
class LayerNormImpl : public Leaf<LayerNormImpl> {
 public:
  explicit LayerNormImpl(const LayerNormOptions& options) : options(options) { reset(); }

  void reset() override {
    own("weight", &LayerNormImpl::weight, torch::ones({options.width}));
    own("bias", &LayerNormImpl::bias, torch::zeros({options.width}));
  }

  void initialize(const at::Generator& /*generator*/) override {
    torch::NoGradGuard no_grad;
    weight.fill_(1);
    bias.zero_();
  }

  void pretty_print(std::ostream& stream) const override { stream << "rino::LayerNorm(" << options.width << ")"; }

  at::Tensor forward(const at::Tensor& x) { return at::layer_norm(x, {options.width}, weight, bias, options.eps); }

  LayerNormOptions options;
  at::Tensor weight;  ///< [width]
  at::Tensor bias;    ///< [width]
};

TORCH_MODULE(LayerNorm);

}  // namespace rino
