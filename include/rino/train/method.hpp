#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <rino/core/error.hpp>
#include <rino/core/random.hpp>
#include <rino/core/ranks.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/train/course.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// Where a training run stands, and which part of the step's batch is looked at.
struct Step {
  std::int64_t number = 0;  ///< of the step, from 0
  std::int64_t steps_per_epoch = 1;
  std::int64_t epochs = 1;
  std::uint64_t seed = 0;
  std::int64_t first_jet = 0;  ///< place of the part's first jet in the step's batch of all processes
  std::int64_t parts = 1;      ///< in which the step's batch is computed, on all processes together
  Counts counts = {};          ///< `Batch::counts` of all parts together

  /// Where a random transform of this part takes its numbers from, by its purpose: those of a jet are a function of the
  /// run's seed, the step, the purpose and the jet's place in the step's batch, on however many processes that is.
  Draws draws(std::string_view purpose) const {
    std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
    for (const char character : purpose) {
      hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001b3ULL;
    }
    // Below 2^63, where other languages' integers end.
    return {Random{seed, purposes::kDraws, static_cast<std::uint64_t>(number), hash}.bits() >> 1, first_jet};
  }

  /// Of the generator that dropout draws from.
  std::uint64_t dropout_seed() const {
    const auto step = static_cast<std::uint64_t>(number);
    return first_jet == 0 ? Random{seed, purposes::kDropout, step}.bits()
                          : Random{seed, purposes::kDropout, step, static_cast<std::uint64_t>(first_jet)}.bits();
  }

  double epoch() const { return static_cast<double>(number) / static_cast<double>(steps_per_epoch); }
  std::int64_t steps() const { return steps_per_epoch * epochs; }

  /// By what a part's sum is divided for a mean over all summands of the step, of which the parts have unequal numbers:
  /// the trainer takes the mean over parts, of losses, gradients and metrics.
  ///
  /// @param count  of the summands, in `Batch::counts`.
  /// @throws rino::Error if the batch counted nothing of that name.
  double share(std::string_view count) const {
    const auto all = counts.find(count);
    require(all != counts.end(), "the batch has no count '", count, "': let Method::prepare set Batch::counts");
    return all->second / static_cast<double>(parts);
  }

  /// That mean, of the sum over the summands of this part; 0 if no part has any.
  at::Tensor mean(const at::Tensor& sum, std::string_view count) const {
    const double divisor = share(count);
    return divisor > 0 ? sum / divisor : sum * 0.0;
  }
};

/// Named numbers of a step. Scalar tensors, so that nothing waits for a GPU before all are wanted.
using Metrics = std::vector<std::pair<std::string, at::Tensor>>;

/// What a method makes of a batch.
struct StepLoss {
  at::Tensor loss;  ///< scalar, to be minimised
  Metrics metrics;
};

/// A way to train networks on jets: what they see, which they are, what the loss is. `Trainer` does the rest. Its calls
/// are one or two a step.
///
/// The loss of several processes or accumulated parts is the mean of theirs. That is all there is to it where it is a
/// mean over jets that do not know each other; otherwise see `connect`, `Step::mean` and `accumulates`.
class Method {
 public:
  Method() = default;
  Method(const Method&) = default;
  Method& operator=(const Method&) = default;
  Method(Method&&) = default;
  Method& operator=(Method&&) = default;
  virtual ~Method() = default;

  /// What the networks see of these jets in a step, on the CPU, floating-point tensors of `type()`. A pure function of
  /// its arguments and of what never changes in training: loader threads call it, several at a time.
  virtual Batch prepare(const Jets<double>& jets, const Step& step) const = 0;

  /// The loss of what `prepare` made, which lies on the networks' device now.
  virtual StepLoss loss(const Batch& batch, const Step& step) = 0;

  /// The networks whose parameters the optimiser moves, those that require a gradient.
  virtual Modules trained() const = 0;

  /// Their parameters, "network.layer.name", which are gathered into one buffer; where networks are no modules of
  /// LibTorch, `trained` is empty and these two say what there is.
  virtual NamedTensors parameters() const { return trainable_parameters_of(trained()); }
  /// What belongs into a checkpoint beside them.
  virtual NamedTensors buffers() const { return buffers_of(trained()); }

  /// How many layers the encoders among them have from a tensor on, for layer-wise learning rates.
  virtual Depths depths() const { return depths_of(trained()); }

  /// The networks that leave: "encoder" first, the one to use; others by their names.
  virtual Modules products() const { return trained(); }

  /// Whether `prepare` needs the jets' labels: they are taken away from it otherwise.
  virtual bool wants_labels() const { return false; }

  /// Whether `loss` uses the jets' weights, where the recipe names a column of them (`training.weight`): they are
  /// `Batch::weights` then, and their sum over the step is the count "weights" of `Step::mean`.
  virtual bool wants_weights() const { return false; }

  /// Whether the loss of a batch may be computed in parts: not where jets are compared with each other.
  virtual bool accumulates() const { return true; }

  /// The phases of a run, one after another; none: one, of which the recipe's sections "optimizer" and "training" say
  /// everything.
  virtual std::vector<Phase> phases() const { return {}; }

  /// Before a phase's first step, and again when a run goes on within the phase: what the method has to know of the
  /// jets, of which it may read a pass. A function of them and of the networks.
  ///
  /// @returns jets to train the phase on in their place, which all processes have; nothing: the source's.
  virtual std::optional<Jets<double>> before_phase(const Phase& /*phase*/, JetSource<double>& /*source*/) { return {}; }

  /// Whether the last jets of a pass, too few for a batch, are a step of their own, as far as there is one for each
  /// part of a batch: means are `Step::mean` then, since the parts differ in size.
  virtual bool takes_all() const { return false; }

  /// The trained networks in training or in evaluation mode.
  virtual void train(bool on) {
    for (const auto& [name, module] : trained()) {
      module->train(on);
    }
  }

  /// Brings all networks to a device and type, before training.
  virtual void to(const at::TensorOptions& options) {
    type_ = at::typeMetaToScalarType(options.dtype());
    for (const Modules& modules : {trained(), products()}) {
      for (const auto& [name, module] : modules) {
        module->to(options.device(), type_);
      }
    }
  }

  /// With which processes the batch is shared, before training.
  virtual void connect(const Ranks& /*ranks*/) {}

  /// Once the trained networks' parameters lie in one buffer, so that the method can do the same with others.
  virtual void start() {}

  /// After the optimiser's step.
  virtual void after_step(const FlatParameters& /*trained*/, const Step& /*step*/) {}

  /// Tensors beyond the trained networks that a checkpoint must hold, by name, to be copied into on resume.
  virtual NamedTensors state() { return {}; }

  /// Tensors of the last step that show how training goes, by name.
  virtual Metrics snapshot() const { return {}; }

  /// Gives ordinary tensors back, once training has ended.
  virtual void release() {}

  /// The type of the networks' parameters.
  at::ScalarType type() const { return type_; }

 private:
  at::ScalarType type_ = at::kFloat;
};

}  // namespace rino
