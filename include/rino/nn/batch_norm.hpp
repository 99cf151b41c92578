#pragma once

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/ranks.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// Options of `BatchNorm`; the defaults are those of PyTorch's `nn.BatchNorm1d`.
struct BatchNormOptions {
  std::int64_t width;
  double eps = 1e-5;
  double momentum = 0.1;  ///< of the moving averages: the share of a batch
};

/// Number of rows, mean and sum of squared deviations of columns, found a piece at a time: of a piece in the rows' own
/// type, of all in float64.
class ColumnMoments {
 public:
  /// Adds rows [n, C].
  void add(const at::Tensor& rows) {
    if (rows.size(0) > 0) {
      const at::Tensor mean = rows.mean(0);
      add(static_cast<double>(rows.size(0)), mean.to(at::kDouble), (rows - mean).square_().sum(0).to(at::kDouble));
    }
  }

  /// Those of all processes together; each may have other numbers of rows, or none of `width` columns.
  ColumnMoments over(const Ranks& ranks, const at::TensorOptions& where, std::int64_t width) const {
    if (ranks.alone()) {
      return *this;
    }
    at::Tensor mine = at::zeros({1, 2 * width + 1}, where.dtype(at::kDouble));
    if (count_ > 0) {
      mine = at::cat({at::full({1}, count_, mine.options()), mean_, squares_}).unsqueeze(0);
    }
    ColumnMoments all;
    for (const at::Tensor& one : ranks.gather(mine).unbind()) {
      const auto count = one[0].item<double>();
      if (count > 0) {
        all.add(count, one.narrow(0, 1, width), one.narrow(0, 1 + width, width));
      }
    }
    return all;
  }

  double count() const { return count_; }
  const at::Tensor& mean() const { return mean_; }           ///< [C]; undefined without rows
  at::Tensor variance() const { return squares_ / count_; }  ///< [C], divided by the number of rows

 private:
  /// Chan, Golub and LeVeque, Am. Stat. 37 (1983) 242.
  void add(double count, const at::Tensor& mean, const at::Tensor& squares) {
    if (count_ == 0) {
      count_ = count;
      mean_ = mean;
      squares_ = squares;
      return;
    }
    const double all = count_ + count;
    const at::Tensor apart = mean - mean_;
    mean_ = mean_ + apart * (count / all);
    squares_ = squares_ + squares + apart.square() * (count_ * count / all);
    count_ = all;
  }

  double count_ = 0;
  at::Tensor mean_;
  at::Tensor squares_;
};

/// Normalisation of columns over all rows of a batch, those of all processes, [n, width] -> [n, width]: in training by
/// the rows' own mean and variance, of which moving averages are kept, in evaluation by these. Rows are what there is:
/// no padding takes part.
///
/// Source: Ioffe and Szegedy, arXiv:1502.03167; averages as PyTorch's, of the variance divided by n - 1.
class BatchNormImpl : public Leaf<BatchNormImpl> {
 public:
  explicit BatchNormImpl(const BatchNormOptions& options) : options(options) { reset(); }

  void reset() override {
    own("weight", &BatchNormImpl::weight, torch::ones({options.width}));
    own("bias", &BatchNormImpl::bias, torch::zeros({options.width}));
    own_buffer("running_mean", &BatchNormImpl::running_mean, torch::zeros({options.width}));
    own_buffer("running_var", &BatchNormImpl::running_var, torch::ones({options.width}));
  }

  void initialize(const at::Generator& /*generator*/) override {
    const torch::NoGradGuard no_grad;
    weight.fill_(1);
    bias.zero_();
    running_mean.zero_();
    running_var.fill_(1);
  }

  void connect(const Ranks& all) override { ranks = all; }
  bool mixes_batch() const override { return true; }

  void pretty_print(std::ostream& stream) const override { stream << "rino::BatchNorm(" << options.width << ")"; }

  at::Tensor forward(const at::Tensor& x) {
    if (!is_training()) {
      return at::batch_norm(x, weight, bias, running_mean, running_var, false, options.momentum, options.eps, false);
    }
    // Of x, so that its gradient is whole: how the statistics move with it included.
    const double all = std::max(rows_of_all(x), 1.0);
    const at::Tensor mean = ranks.gather(x.sum(0, true)).sum(0) / all;
    const at::Tensor apart = x - mean;
    const at::Tensor variance = ranks.gather(apart.square().sum(0, true)).sum(0) / all;
    average(mean.detach(), variance.detach(), all);
    return apart * (variance + options.eps).rsqrt() * weight + bias;
  }

  /// Moves the averages towards a batch's.
  void average(const at::Tensor& mean, const at::Tensor& variance, double count) {
    const torch::NoGradGuard no_grad;
    if (count > 1) {
      running_mean.lerp_(mean.to(running_mean), options.momentum);
      running_var.lerp_((variance * (count / (count - 1))).to(running_var), options.momentum);
    }
  }

  BatchNormOptions options;
  Ranks ranks;
  at::Tensor weight;        ///< [width]
  at::Tensor bias;          ///< [width]
  at::Tensor running_mean;  ///< [width]
  at::Tensor running_var;   ///< [width]

 private:
  /// Rows of all processes; one alone does not wait for its GPU.
  double rows_of_all(const at::Tensor& x) const {
    const auto mine = static_cast<double>(x.size(0));
    return ranks.alone() ? mine : ranks.sum(at::full({1}, mine, x.options().dtype(at::kDouble))).item<double>();
  }
};

TORCH_MODULE(BatchNorm);

}  // namespace rino
