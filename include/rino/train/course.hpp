#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/parameter_groups.hpp>
#include <rino/train/schedule.hpp>
#include <rino/train/training_options.hpp>

namespace rino {

/// A part of a run: what trains, how long and how.
struct Phase {
  std::string name;  ///< as progress and errors say it; "" where it is the only one
  std::int64_t epochs = 1;
  AdamWOptions optimizer = {};
  double warmup = 0;        ///< share of the phase in which learning rates rise
  double warmup_start = 0;  ///< where they start, as a share of the peak
  Rise warmup_shape = Rise::linear;
  double final_lr = 0;                     ///< where their cosine ends, as a share of the peak
  std::vector<std::string> networks = {};  ///< of `Method::trained`, that train; none named: all
  NetworkRates rates = {};                 ///< factors on the learning rate of networks
  bool averaged = false;      ///< is judged by, and ends with, the moving average of the weights, where there is one
  bool keep_best = false;     ///< ends with the weights of the epoch with the lowest validation loss
  std::int64_t patience = 0;  ///< epochs without a lower one after which it ends; 0: never

  /// The only phase of a run.
  static Phase whole(const AdamWOptions& optimizer, const TrainingOptions& options) {
    Phase phase;
    phase.epochs = options.epochs;
    phase.optimizer = optimizer;
    phase.rise_as(options);
    return phase;
  }

  /// Learning rates rise and fall as options of any kind say.
  template <typename Options>
  void rise_as(const Options& options) {
    warmup = options.warmup;
    warmup_start = options.warmup_start;
    warmup_shape = options.warmup_shape;
    final_lr = options.final_lr;
  }

  bool trains(const std::string& network) const {
    return networks.empty() || std::find(networks.begin(), networks.end(), network) != networks.end();
  }
};

/// The phases of a run one after another: where they end, and which learning rate a step has.
class Course {
 public:
  Course() = default;
  /// Phases of no epoch are left out.
  /// @throws rino::Error if none is left, or for numbers outside their ranges.
  Course(std::vector<Phase> phases, std::int64_t steps_per_epoch)
      : phases_(std::move(phases)), steps_per_epoch_(steps_per_epoch) {
    std::erase_if(phases_, [](const Phase& phase) { return phase.epochs == 0; });
    require(!phases_.empty(), "the run has no epoch: choose 1 or more");
    for (const Phase& phase : phases_) {
      const std::string where = phase.name.empty() ? "" : " of " + phase.name;
      require(phase.epochs > 0, "epochs", where, " is ", phase.epochs, ": choose 1 or more");
      require(0 <= phase.warmup && phase.warmup <= 1 && phase.warmup_start >= 0 && phase.final_lr >= 0,
              "warmup, warmup_start and final_lr", where, " are ", phase.warmup, ", ", phase.warmup_start, " and ",
              phase.final_lr, ": warmup is a share of the run in [0, 1], the others are 0 or more");
      require(phase.patience >= 0, "patience", where, " is ", phase.patience, ": choose 0 for none or more");
    }
  }

  std::size_t size() const { return phases_.size(); }
  const Phase& phase(std::size_t number) const { return phases_[number]; }

  /// The step behind a phase's last one.
  std::int64_t end(std::size_t number) const {
    std::int64_t epochs = 0;
    for (std::size_t p = 0; p <= number; ++p) {
      epochs += phases_[p].epochs;
    }
    return epochs * steps_per_epoch_;
  }
  std::int64_t begin(std::size_t number) const { return number == 0 ? 0 : end(number - 1); }

  std::int64_t epochs() const { return steps() / steps_per_epoch_; }
  std::int64_t steps() const { return end(phases_.size() - 1); }

  /// Learning rate of a step.
  double learning_rate(std::int64_t step) const {
    std::size_t p = 0;
    while (p + 1 < phases_.size() && step >= end(p)) {
      ++p;
    }
    const Phase& phase = phases_[p];
    // By the epochs that were planned, also where it ended early.
    const auto total = static_cast<double>(planned(p) * steps_per_epoch_);
    return phase.optimizer.lr * warmup_cosine_schedule(phase.warmup_start, 1.0, phase.final_lr,
                                                       static_cast<double>(step - begin(p)), phase.warmup * total,
                                                       total, phase.warmup_shape);
  }

  /// Epochs of each phase, as they are now.
  std::vector<std::int64_t> lengths() const {
    std::vector<std::int64_t> all;
    for (const Phase& phase : phases_) {
      all.push_back(phase.epochs);
    }
    return all;
  }

  /// A phase ends after so many epochs.
  void shorten(std::size_t number, std::int64_t epochs) {
    planned_.try_emplace(number, phases_[number].epochs);
    phases_[number].epochs = epochs;
  }

 private:
  std::int64_t planned(std::size_t number) const {
    const auto found = planned_.find(number);
    return found == planned_.end() ? phases_[number].epochs : found->second;
  }

  std::vector<Phase> phases_;
  std::int64_t steps_per_epoch_ = 1;
  std::map<std::size_t, std::int64_t> planned_;  // epochs of phases that ended early
};

}  // namespace rino
