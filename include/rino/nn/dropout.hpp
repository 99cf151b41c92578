#pragma once

#include <cstdint>
#include <optional>
#include <ostream>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/device.hpp>
#include <rino/core/torch_compat.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// Dropout whose random numbers may come from a generator of its own, so that a training run is reproducible
/// without touching LibTorch's global generator. Identity in evaluation mode.
class DropoutImpl : public Leaf<DropoutImpl> {
 public:
  /// @param probability  of a value to be zeroed, in [0, 1).
  /// @throws rino::Error otherwise.
  explicit DropoutImpl(double probability) : probability(probability) {
    require(probability >= 0 && probability < 1, "dropout is ", probability, ": choose a probability in [0, 1)");
  }

  void reset() override {}
  void initialize(const at::Generator& /*generator*/) override {}
  void set_generator(const std::optional<at::Generator>& generator) override { generator_ = generator; }
  void pretty_print(std::ostream& stream) const override { stream << "rino::Dropout(" << probability << ")"; }

  bool active() const { return is_training() && probability > 0; }

  /// 32 random bits, for kernels that draw their own masks from a seed.
  std::uint32_t draw_seed() {
    return static_cast<std::uint32_t>(torch::empty({1}, torch::kLong).random_(generator_).item<std::int64_t>());
  }

  at::Tensor forward(const at::Tensor& x) {
    if (!active()) {
      return x;
    }
    const double keep = 1.0 - probability;
    if (drops_in_one_kernel(x.device())) {
      return compat::fused_dropout(x, keep, generator_);
    }
    return x * at::empty_like(x).bernoulli_(keep, generator_).div_(keep);
  }

  double probability;

 private:
  std::optional<at::Generator> generator_;
};

TORCH_MODULE(Dropout);

}  // namespace rino
