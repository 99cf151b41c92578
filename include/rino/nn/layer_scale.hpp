#pragma once

#include <cstdint>
#include <ostream>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// Options of `LayerScale`.
struct LayerScaleOptions {
  std::int64_t width;
  double initial = 0.01;  ///< value of all scales before training
};

/// y = x * scale, column by column, [.., width] -> [.., width]: a residual branch that starts small.
///
/// Source: Touvron et al., arXiv:2103.17239, equation 4.
class LayerScaleImpl : public Leaf<LayerScaleImpl> {
 public:
  /// @throws rino::Error unless the initial value is above 0: a branch of scale 0 would get no gradient.
  explicit LayerScaleImpl(const LayerScaleOptions& options) : options(options) {
    require(options.initial > 0, "layer_scale is ", options.initial,
            ": choose a positive number such as 0.01, or 0 for no scales");
    reset();
  }

  void reset() override { own("scale", &LayerScaleImpl::scale, torch::full({options.width}, options.initial)); }

  void initialize(const at::Generator& /*generator*/) override {
    torch::NoGradGuard no_grad;
    scale.fill_(options.initial);
  }

  void pretty_print(std::ostream& stream) const override { stream << "rino::LayerScale(" << options.width << ")"; }

  at::Tensor forward(const at::Tensor& x) { return x * scale; }

  LayerScaleOptions options;
  at::Tensor scale;  ///< [width]
};

TORCH_MODULE(LayerScale);

}  // namespace rino
