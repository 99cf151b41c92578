#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/method.hpp>
#include <rino/train/training_options.hpp>

namespace rino {

/// @param numbers  that are the same for the same jets, order and recipe.
/// @throws rino::Error on all processes if they differ.
inline void require_same_data(const Ranks& ranks, const std::vector<std::int64_t>& numbers, at::Device device) {
  if (ranks.alone()) {
    return;
  }
  const at::Tensor all = ranks.gather(at::tensor(numbers, at::kLong).unsqueeze(0).to(device)).cpu();
  for (std::int64_t r = 1; r < all.size(0); ++r) {
    require(all[r].equal(all[0]), "process ", r, " of ", all.size(0),
            " has other jets, another order of them or other numbers than process 0: give all the same files, ",
            "in the same order, and the same recipe");
  }
}

/// How the jets of every step are dealt out, to processes and to the parts in which each computes its own.
class BatchShare {
 public:
  BatchShare() = default;
  /// @param source     of this process.
  /// @param jets       of an epoch, on all processes.
  /// @param takes_all  whether an epoch also has a step for the jets that are too few for a batch; a stream fills it
  /// up.
  /// @throws rino::Error where they cannot share a batch evenly.
  BatchShare(const JetSource<double>& source, std::int64_t jets, const TrainingOptions& options, const Ranks& ranks,
             bool takes_all)
      : rank_(ranks.rank()), ranks_(ranks.size()), parts_(options.accumulate) {
    require(parts_ >= 1, "accumulate is ", parts_, ": choose 1 or more");
    const std::int64_t unit = parts_ * ranks_;
    require(options.batch_size % unit == 0, "batch_size is ", options.batch_size, ", which ", ranks_,
            " processes with accumulate = ", parts_, " cannot share evenly: choose a multiple of ", unit);
    batch_ = std::min(options.batch_size, jets / unit * unit);
    require(batch_ > 0, "there are ", jets, " jets for ", ranks_, " processes and ", parts_,
            " parts of a batch: give more jets");
    of(source);
    const bool fills = source.all() == nullptr && jets % batch_ > 0;
    steps_ = jets / batch_ + (takes_all && (rest_ > 0 || fills) ? 1 : 0);
  }

  /// From now on the jets are those of this source.
  void of(const JetSource<double>& source) { rest_ = source.remainder(batch_); }

  /// Jets of a step on all processes, and on this one; the last step of an epoch may have fewer.
  std::int64_t batch() const { return batch_; }
  std::int64_t own() const { return batch_ / ranks_; }
  std::int64_t steps_per_epoch() const { return steps_; }

  /// Jets of a step of this number on all processes.
  std::int64_t jets_of(std::int64_t step) const { return rest_ > 0 && (step + 1) % steps_ == 0 ? rest_ : batch_; }

  /// Says of a step which of this process's parts is looked at; the number of its jets.
  std::int64_t place(Step& step, std::int64_t part) const {
    const std::int64_t jets = jets_of(step.number);
    const std::int64_t mine = part * ranks_ + rank_;
    step.parts = parts_ * ranks_;
    step.first_jet = part_begin(jets, step.parts, mine);
    return part_begin(jets, step.parts, mine + 1) - step.first_jet;
  }

 private:
  std::int64_t rank_ = 0;
  std::int64_t ranks_ = 1;
  std::int64_t parts_ = 1;
  std::int64_t batch_ = 0;
  std::int64_t rest_ = 0;
  std::int64_t steps_ = 1;
};

}  // namespace rino
