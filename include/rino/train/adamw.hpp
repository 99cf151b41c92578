#pragma once

#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/train/parameter_groups.hpp>

namespace rino {

/// Options of `AdamW`; the defaults are the paper's.
struct AdamWOptions {
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-6;
  double weight_decay = 0.01;
  bool decay_all = true;
  double layer_decay = 1.0;
  double clip = 3.0;

  bool operator==(const AdamWOptions&) const = default;

  static constexpr auto fields() {
    using Self = AdamWOptions;
    return std::tuple{
        Field{"lr", &Self::lr, "", "peak learning rate"},
        Field{"beta1", &Self::beta1, "", "decay of the mean of the gradients"},
        Field{"beta2", &Self::beta2, "", "decay of the mean of the gradients' squares"},
        Field{"eps", &Self::eps, "", "added to the root of the mean of the gradients' squares"},
        Field{"weight_decay", &Self::weight_decay, "", "decoupled decay of the parameters"},
        Field{"decay_all", &Self::decay_all, "", "whether norms, biases, layer scales and tokens decay, too",
              kOwnChoice},
        Field{"layer_decay", &Self::layer_decay, "",
              "factor of the learning rate from each layer of the encoder to the one before; 1: off"},
        Field{"clip", &Self::clip, "", "largest norm of the gradient, above which it is scaled down to it; 0: off"},
    };
  }
};

/// AdamW (Loshchilov and Hutter, arXiv:1711.05101) on one flat buffer, with clipping of the gradient's norm, and with
/// learning rates and decay by `parameter_groups`. Equals `torch.optim.AdamW` after `torch.nn.utils.clip_grad_norm_`.
class AdamW {
 public:
  /// @param depths  of the parameters, for layer-wise rates.
  /// @param rates   factors on the learning rate by network.
  /// @throws rino::Error for options outside their ranges.
  AdamW(const FlatParameters& parameters, const AdamWOptions& options, const Depths& depths = {},
        const NetworkRates& rates = {})
      : options_(options),
        values_(parameters.values()),
        gradients_(parameters.gradients()),
        mean_(at::zeros_like(values_)),
        square_(at::zeros_like(values_)),
        // float32, as at::_fused_adamw_ wants it: exact up to 16 million steps
        step_(at::zeros({}, values_.options().dtype(at::kFloat))),
        groups_(parameter_groups(parameters.parameters(), depths, options.layer_decay, options.decay_all, rates)) {
    require(options.lr > 0 && std::isfinite(options.lr) && options.eps > 0 && options.weight_decay >= 0 &&
                options.clip >= 0,
            "lr, eps, ", "weight_decay and clip are ", options.lr, ", ", options.eps, ", ", options.weight_decay,
            " and ", options.clip, ": lr and eps must be above 0 and finite, the others 0 or more");
    require(0 <= options.beta1 && options.beta1 < 1 && 0 <= options.beta2 && options.beta2 < 1, "beta1 and beta2 are ",
            options.beta1, " and ", options.beta2, ": choose both in [0, 1)");
    require(0 < options.layer_decay && options.layer_decay <= 1, "layer_decay is ", options.layer_decay,
            ": choose 1 for off or a factor above 0");
  }

  /// One step with the gradients in the buffer, which it clears.
  /// @returns the norm of the gradient before clipping.
  /// @throws rino::Error if it is not finite; the parameters were not changed then.
  double step(double lr) {
    const at::Tensor norm = gradient_norm();
    const auto size = norm.item<double>();
    require_finite(size);
    update(lr, norm);
    return size;
  }

  // step() in its parts, for who wants to read the norm together with other numbers of a GPU.

  /// The norm of the gradients in the buffer, a scalar on their device.
  at::Tensor gradient_norm() const { return gradients_.norm(); }

  /// @throws rino::Error if the norm is not finite; clears the gradients then.
  void require_finite(double norm) {
    if (!std::isfinite(norm)) {
      gradients_.zero_();
      fail("the norm of the gradient is ", norm,
           ": lower the learning rate, or train in float64 to see where it starts");
    }
  }

  /// The step itself, given the norm of the gradients. Clears them; waits for no device.
  void update(double lr, const at::Tensor& norm) {
    if (options_.clip > 0) {
      gradients_.mul_((options_.clip / (norm + 1e-6)).clamp_max(1.0));
    }
    step_.add_(1);
    for (const ParameterGroup& group : groups_) {
      const auto part = [&group](const at::Tensor& buffer) { return buffer.narrow(0, group.begin, group.size); };
      at::_fused_adamw_({part(values_)}, {part(gradients_)}, {part(mean_)}, {part(square_)}, {}, {step_},
                        lr * group.lr_scale, options_.beta1, options_.beta2, group.decays ? options_.weight_decay : 0.0,
                        options_.eps, /*amsgrad=*/false,
                        /*maximize=*/false);
    }
    gradients_.zero_();
  }

  const at::Tensor& mean() const { return mean_; }      ///< [P] moving average of the gradients
  const at::Tensor& square() const { return square_; }  ///< [P] and of their squares
  const at::Tensor& steps() const { return step_; }     ///< scalar, steps taken

 private:
  AdamWOptions options_;
  at::Tensor values_;
  at::Tensor gradients_;
  at::Tensor mean_;
  at::Tensor square_;
  at::Tensor step_;
  std::vector<ParameterGroup> groups_;
};

}  // namespace rino
