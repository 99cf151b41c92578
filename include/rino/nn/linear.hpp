#pragma once

#include <cmath>
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
  double deviation = 0.0;  ///< of the initial weights, truncated normal, with bias 0; 0: PyTorch's `nn.Linear`
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
    torch::NoGradGuard no_grad;
    if (options.deviation > 0) {
      detail::trunc_normal(weight, options.deviation, generator);
      bias.zero_();
      return;
    }
    // Uniform in +-1/sqrt(in), which is what He et al. (arXiv:1502.01852) comes to with PyTorch's slope of sqrt(5).
    const double bound = 1.0 / std::sqrt(static_cast<double>(options.in));
    weight.uniform_(-bound, bound, generator);
    bias.uniform_(-bound, bound, generator);
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
