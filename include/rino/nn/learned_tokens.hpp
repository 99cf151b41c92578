#pragma once

#include <cstdint>
#include <ostream>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/nn/module.hpp>

namespace rino {

/// Options of `LearnedTokens`.
struct LearnedTokensOptions {
  std::int64_t width;
  std::int64_t count = 1;
};

/// Learned vectors, [count, width], that are the same in every sequence: the class token, the registers (Darcet et al.,
/// arXiv:2309.16588), what stands in for a masked constituent. Initial values from N(0, 0.02).
class LearnedTokensImpl : public Leaf<LearnedTokensImpl> {
 public:
  explicit LearnedTokensImpl(const LearnedTokensOptions& options) : options(options) { reset(); }

  void reset() override { own("token", &LearnedTokensImpl::token, torch::zeros({options.count, options.width})); }

  void initialize(const at::Generator& generator) override {
    torch::NoGradGuard no_grad;
    token.normal_(0.0, 0.02, generator);
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::LearnedTokens(" << options.count << " x " << options.width << ")";
  }

  /// [sequences * count, width]: all of them for every sequence.
  at::Tensor forward(std::int64_t sequences) {
    return token.expand({sequences, options.count, options.width}).flatten(0, 1);
  }

  LearnedTokensOptions options;
  at::Tensor token;  ///< [count, width]
};

TORCH_MODULE(LearnedTokens);

}  // namespace rino
