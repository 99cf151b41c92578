#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <utility>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// How rows are normalised.
enum class NormKind {
  layer,  ///< LayerNorm: (x - mean) / sqrt(variance + eps) * weight + bias; Ba et al., arXiv:1607.06450
  rms,    ///< RMSNorm: x / sqrt(mean of x^2 + eps) * weight; Zhang and Sennrich, arXiv:1910.07467
};

template <>
inline constexpr std::array enum_names<NormKind> = {
    std::pair{NormKind::layer, std::string_view("layer")},
    std::pair{NormKind::rms, std::string_view("rms")},
};

/// Options of `Norm`.
struct NormOptions {
  std::int64_t width;
  NormKind kind = NormKind::layer;
  double eps = 1e-5;
};

/// Normalisation over the last dimension, [.., width] -> [.., width].
class NormImpl : public Leaf<NormImpl> {
 public:
  /// @throws rino::Error unless eps is above 0.
  explicit NormImpl(const NormOptions& options) : options(options) {
    require(options.eps > 0, "norm_eps is ", options.eps, ": choose a small positive number such as 1e-5");
    reset();
  }

  void reset() override {
    own("weight", &NormImpl::weight, torch::ones({options.width}));
    if (options.kind == NormKind::layer) {
      own("bias", &NormImpl::bias, torch::zeros({options.width}));
    }
  }

  void initialize(const at::Generator& /*generator*/) override {
    torch::NoGradGuard no_grad;
    weight.fill_(1);
    if (bias.defined()) {
      bias.zero_();
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << (options.kind == NormKind::layer ? "rino::LayerNorm(" : "rino::RMSNorm(") << options.width << ")";
  }

  at::Tensor forward(const at::Tensor& x) {
    if (options.kind == NormKind::layer) {
      return at::layer_norm(x, {options.width}, weight, bias, options.eps);
    }
    // In the weight's type: what autocast made bfloat16 is squared and summed in float32.
    return at::rms_norm(x.to(weight.scalar_type()), {options.width}, weight, options.eps);
  }

  NormOptions options;
  at::Tensor weight;  ///< [width]
  at::Tensor bias;    ///< [width]; undefined in an RMSNorm
};

TORCH_MODULE(Norm);

}  // namespace rino
