#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/tokens.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// Where a training run stands.
struct TrainingClock {
  std::int64_t step = 0;  ///< number of the step, from 0
  std::int64_t steps_per_epoch = 1;
  std::int64_t epochs = 1;
  std::uint64_t seed = 0;
  std::int64_t first_jet = 0;  ///< place of a batch's first jet in the step's batch of all processes

  double epoch() const { return static_cast<double>(step) / static_cast<double>(steps_per_epoch); }
  std::int64_t steps() const { return steps_per_epoch * epochs; }
};

/// Named numbers of a step. Scalar tensors, so that nothing waits for a GPU before all are wanted.
using Metrics = std::vector<std::pair<std::string, at::Tensor>>;

/// What a method makes of a batch.
struct MethodLoss {
  at::Tensor loss;  ///< scalar, to be minimised
  Metrics metrics;
};

/// A self-supervised method: which views, which networks, which losses. `Trainer` trains any model of this.
///
/// - `resolutions(clock)`: the views of this step; a pure function, called from loader threads.
/// - `loss(tokens, clock)`: of a batch with these views.
/// - `trained()`: the module whose parameters the optimiser moves.
/// - `to(options)`: brings all networks to a device and type, before training.
/// - `start()`: once the trained module is in one buffer, so that the method can do the same with its others.
/// - `after_step(student, clock)`: after the optimiser's step.
/// - `state()`: tensors beyond the trained module that a checkpoint must hold, by name, to be copied into on resume.
/// - `release()`: gives ordinary tensors back.
///
/// It may have two more:
/// - `connect(ranks)`: with which processes the batch is shared, before training. A method without it is trained by
///   the mean of the processes' gradients; that is all where its loss is a mean over jets that do not know each other.
/// - `snapshot()`: tensors of the last step that show how training goes, by name.
template <typename M>
concept Method = requires(M method, const M fixed, const Tokens& tokens, const TrainingClock& clock,
                          const FlatParameters& student, const at::TensorOptions& options) {
  { fixed.resolutions(clock) } -> std::same_as<std::vector<Resolution>>;
  { method.loss(tokens, clock) } -> std::same_as<MethodLoss>;
  { method.trained() } -> std::convertible_to<const torch::nn::Module&>;
  method.to(options);
  method.start();
  method.after_step(student, clock);
  { method.state() } -> std::same_as<std::vector<std::pair<std::string, at::Tensor>>>;
  method.release();
};

}  // namespace rino
