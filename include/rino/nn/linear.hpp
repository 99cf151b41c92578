#pragma once

#include <cstdint>
#include <ostream>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/nn/initialization.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// Options of `Linear`: in -> out features.
struct LinearOptions {
  std::int64_t in;
  std::int64_t out;
  double deviation = 0.0;  ///< of the initial weights, truncated normal, with bias 0; 0: uniform in +-`bound`
  double bound = 0.0;      ///< 0: `linear_bound(in)`
  bool zero_bias = false;  ///< whether biases start from 0 beside uniform weights, not uniform as they do
};

/// y = x W^T + b, [.., in] -> [.., out].
class LinearImpl : public Leaf<LinearImpl> {
 public:
  explicit LinearImpl(const LinearOptions& options) : options(options) { reset(); }

  void reset() override {
    own("weight", &LinearImpl::weight, torch::zeros({options.out, options.in}));
    own("bias", &LinearImpl::bias, torch::zeros({options.out}));
  }

  void initialize(const at::Generator& generator) override {
    const double bound = options.bound > 0 ? options.bound : linear_bound(options.in);
    if (options.deviation > 0) {
      detail::trunc_normal(weight, options.deviation, generator);
    } else {
      detail::uniform(weight, bound, generator);
    }
    if (options.deviation > 0 || options.zero_bias) {
      const torch::NoGradGuard no_grad;
      bias.zero_();
    } else {
      detail::uniform(bias, bound, generator);
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::Linear(" << options.in << " -> " << options.out << ")";
  }

  at::Tensor forward(const at::Tensor& x) { return at::linear(x, weight, bias); }

  LinearOptions options;
  at::Tensor weight;  ///< [out, in]
  at::Tensor bias;    ///< [out]
};

TORCH_MODULE(Linear);

}  // namespace rino
