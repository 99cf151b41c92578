#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/core/error.hpp>
#include <rino/core/placement.hpp>
#include <rino/core/ranks.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/precision.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/train/batch_share.hpp>
#include <rino/train/method.hpp>
#include <rino/train/preparation.hpp>
#include <rino/train/step_report.hpp>

namespace rino {

namespace detail {

/// How many summands the means of a step have, of all its parts on all processes.
/// @param device  on which the processes can talk.
inline Counts step_counts(const std::vector<Batch>& parts, const Ranks& ranks, at::Device device) {
  Counts counts;
  for (const Batch& part : parts) {
    for (const auto& [name, count] : part.counts) {
      counts[name] += count;
    }
  }
  if (!ranks.alone() && !counts.empty()) {
    std::vector<double> numbers;
    for (const auto& [name, count] : counts) {
      numbers.push_back(count);
    }
    const at::Tensor sums = ranks.sum(to_device(at::tensor(numbers, at::kDouble), device)).cpu();
    const double* next = sums.const_data_ptr<double>();
    for (auto& [name, count] : counts) {
      count = *next++;
    }
  }
  return counts;
}

/// Loss and metrics become their means over all processes. Waits for nothing: what is on the CPU, as a schedule's
/// numbers are, goes to the device in one transfer from pinned memory.
inline void average_over_ranks(StepLoss& result, const Ranks& ranks, at::Device device) {
  std::vector<at::Tensor*> there{&result.loss};
  std::vector<at::Tensor*> here;
  for (auto& [name, value] : result.metrics) {
    (value.is_cpu() && !device.is_cpu() ? here : there).push_back(&value);
  }
  const auto stacked = [](const std::vector<at::Tensor*>& numbers) {
    std::vector<at::Tensor> values;
    for (const at::Tensor* number : numbers) {
      values.push_back(number->detach().to(at::kDouble));
    }
    return at::stack(values);
  };
  at::Tensor means = stacked(there);
  if (!here.empty()) {
    means = at::cat({means, to_device(stacked(here), means.device())});
    there.insert(there.end(), here.begin(), here.end());
  }
  means = ranks.mean(means);
  for (std::size_t n = 0; n < there.size(); ++n) {
    *there[n] = means[static_cast<std::int64_t>(n)];
  }
}

/// Everything that a step has computed, in one transfer from where it was computed.
inline void read(const StepLoss& result, const at::Tensor& norm, StepReport& report) {
  std::vector<at::Tensor> computed{result.loss.detach(), norm};
  for (const auto& [name, value] : result.metrics) {
    if (value.device() == norm.device()) {
      computed.push_back(value);
    }
  }
  for (at::Tensor& value : computed) {
    value = value.to(at::kDouble);
  }
  const at::Tensor together = at::stack(computed).cpu();
  const double* next = together.const_data_ptr<double>();
  report.loss = *next++;
  report.gradient_norm = *next++;
  for (const auto& [name, value] : result.metrics) {
    report.metrics.emplace_back(name, value.device() == norm.device() ? *next++ : value.item<double>());
  }
}

}  // namespace detail

/// A method's losses, over parts of a batch and over processes.
class StepLosses {
 public:
  StepLosses(std::shared_ptr<Method> method, Preparation prepare, Precision precision, at::TensorOptions placement,
             Ranks ranks)
      : method_(std::move(method)),
        prepare_(std::move(prepare)),
        precision_(precision),
        placement_(placement),
        ranks_(std::move(ranks)) {}

  /// The loss and metrics, the mean over the batch's parts and over all processes, as the gradients in the buffer are.
  /// @param gradients  of the trained parameters, to which backward adds.
  StepLoss with_gradient(const std::vector<Batch>& parts, Step step, const BatchShare& share, at::Tensor gradients) {
    const auto count = static_cast<double>(parts.size());
    StepLoss all;
    step.counts = detail::step_counts(parts, ranks_, placement_.device());
    require(!prepare_.weighs() || step.counts.at(Preparation::kWeights) > 0, "training.weight: '", prepare_.weight(),
            "' of all jets of step ", step.number, " is 0: name another column, or leave such jets out");
    for (std::size_t p = 0; p < parts.size(); ++p) {
      share.place(step, static_cast<std::int64_t>(p));
      StepLoss result = of(parts[p].to(placement_), step);
      require(result.loss.defined() && result.loss.dim() == 0 && result.loss.requires_grad(), "the method's loss ",
              result.loss.defined() ? "has shape " : "is undefined",
              result.loss.defined() ? result.loss.sizes() : at::IntArrayRef(),
              ": return one number with the gradient of the trained networks");
      (parts.size() == 1 ? result.loss : result.loss / count).backward();
      result.loss = result.loss.detach();
      if (!all.loss.defined()) {
        all = std::move(result);
        continue;
      }
      require(result.metrics.size() == all.metrics.size(), "the method has ", result.metrics.size(),
              " metrics for one part of the batch and ", all.metrics.size(),
              " for another: return the same ones in every call, on every process");
      all.loss = all.loss + result.loss;
      for (std::size_t m = 0; m < all.metrics.size(); ++m) {
        all.metrics[m].second = all.metrics[m].second + result.metrics[m].second;
      }
    }
    if (parts.size() > 1) {
      all.loss = all.loss / count;
      for (auto& [name, value] : all.metrics) {
        value = value / count;
      }
    }
    if (!ranks_.alone()) {
      // One call for all gradients: they lie one behind the other.
      ranks_.sum_(gradients);
      gradients.div_(static_cast<double>(ranks_.size()));
      detail::average_over_ranks(all, ranks_, placement_.device());
    }
    return all;
  }

  /// The mean loss of jets that all processes have, in evaluation mode; `size` of them at a time.
  double mean(const Jets<double>& jets, Step step, std::int64_t size) {
    const at::NoGradGuard no_grad;
    const Evaluation evaluation(*method_);
    double sum = 0;
    double count = 0;
    const std::int64_t end = part_begin(jets.size(), ranks_.size(), ranks_.rank() + 1);
    for (std::int64_t j = part_begin(jets.size(), ranks_.size(), ranks_.rank()); j < end; j += size) {
      const std::int64_t last = std::min(j + size, end);
      step.first_jet = j;
      const Batch batch = prepare_(jets.slice(j, last), step, /*augments=*/false);
      step.counts = batch.counts;
      // By what a mean of it is divided, where it says that.
      const double weight = batch.counts.size() == 1 ? batch.counts.begin()->second : static_cast<double>(last - j);
      if (weight > 0) {
        sum += weight * of(batch.to(placement_), step).loss.item<double>();
        count += weight;
      }
    }
    const at::Tensor sums = ranks_.sum(at::tensor({sum, count}, placement_.dtype(at::kDouble))).cpu();
    return sums[0].item<double>() / sums[1].item<double>();
  }

 private:
  /// The networks are in evaluation mode as long as it lives, whatever is thrown meanwhile.
  class Evaluation {
   public:
    explicit Evaluation(Method& method) : method_(method) { method_.train(false); }
    Evaluation(const Evaluation&) = delete;
    Evaluation& operator=(const Evaluation&) = delete;
    ~Evaluation() { method_.train(true); }

   private:
    Method& method_;
  };

  /// The networks in the precision that was asked for.
  StepLoss of(const Batch& batch, const Step& step) {
    const Autocast autocast(precision_, placement_.device().type());
    return method_->loss(batch, step);
  }

  std::shared_ptr<Method> method_;
  Preparation prepare_;
  Precision precision_;
  at::TensorOptions placement_;
  Ranks ranks_;
};

}  // namespace rino
