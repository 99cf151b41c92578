#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>

namespace rino {

/// Jets that a source gave, and where it stands behind them.
template <std::floating_point Scalar>
struct JetBatch {
  Jets<Scalar> jets;
  std::vector<std::int64_t> position;
};

/// Where a trainer's jets come from: an endless stream in some order, at a position that can be kept and gone back to.
/// Used by one thread at a time.
template <std::floating_point Scalar>
class JetSource {
 public:
  virtual ~JetSource() = default;

  /// Jets of an epoch, by which a run's length and schedules are counted; of several processes, those of this one.
  virtual std::int64_t size() const = 0;

  /// The next `count` jets.
  virtual JetBatch<Scalar> next(std::int64_t count) = 0;

  /// Where the stream stands, as `JetBatch::position`.
  virtual std::vector<std::int64_t> position() const = 0;

  /// Goes to where a stream of the same jets stood.
  /// @throws rino::Error if there is no such position.
  virtual void seek(const std::vector<std::int64_t>& position) = 0;

  /// Goes to where a run of another number of processes stood.
  /// @param positions  of the sources of all of them.
  virtual void seek_others(const std::vector<std::vector<std::int64_t>>& positions) = 0;

  /// Numbers that differ for other jets or another order of them; the same for all processes, however many.
  virtual std::vector<std::int64_t> fingerprint() const = 0;

  /// Jets of the smaller batch that ends a pass, on all processes, where steps are of `batch` jets; 0: there is none.
  virtual std::int64_t remainder(std::int64_t /*batch*/) const { return 0; }

  /// All jets, where every process has them in memory; null: it does not.
  virtual const Jets<Scalar>* all() const { return nullptr; }
};

/// What comes first of `count` things in one of `parts` parts that are as equal as can be.
inline std::int64_t part_begin(std::int64_t count, std::int64_t parts, std::int64_t part) {
  return count * part / parts;
}

/// Jets in memory. Every pass is a new order, drawn from the seed; the last jets, too few for a batch, are left out of
/// it, or are a smaller one if there is one for each part. Several processes that have all jets each take their own
/// part of every batch: together they do what one does.
template <std::floating_point Scalar>
class ShuffledJets final : public JetSource<Scalar> {
 public:
  /// @param rank, ranks  this process and their number.
  /// @param parts        in which a batch is computed: all processes together have the same jets in each as one alone.
  /// @param takes_all    whether the last jets of a pass are a smaller batch.
  ShuffledJets(Jets<Scalar> jets, std::uint64_t seed, std::int64_t rank = 0, std::int64_t ranks = 1,
               std::int64_t parts = 1, bool takes_all = false)
      : jets_(std::move(jets)), seed_(seed), rank_(rank), ranks_(ranks), parts_(parts), takes_all_(takes_all) {
    require(0 <= rank && rank < ranks, "the process is ", rank, " of ", ranks, ": they count from 0");
    require(parts >= 1, "a batch has ", parts, " parts: choose 1 or more");
  }

  std::int64_t size() const override { return jets_.size() / ranks_; }

  /// @throws rino::Error if `count` is below 1 or above size(), or not a multiple of `parts`.
  JetBatch<Scalar> next(std::int64_t count) override {
    require(1 <= count && count <= size(), count, " jets were asked for, of ", size(),
            ": give 1 to the number of jets");
    require(count % parts_ == 0, count, " jets do not make ", parts_, " equal parts: choose a multiple");
    std::int64_t all = count * ranks_;
    if (first_ + all > jets_.size()) {
      const std::int64_t left = jets_.size() - first_;
      if (left > 0 && left == remainder(all)) {
        all = left;
      } else {
        ++pass_;
        first_ = 0;
      }
    }
    if (order_pass_ != pass_) {
      Random random{seed_, purposes::kOrder, static_cast<std::uint64_t>(pass_)};
      order_ = random.permutation(jets_.size());
      order_pass_ = pass_;
    }
    std::vector<std::int64_t> picks;
    for (std::int64_t part = rank_; part < slots(); part += ranks_) {
      const auto begin = order_.begin() + first_;
      picks.insert(picks.end(), begin + part_begin(all, slots(), part), begin + part_begin(all, slots(), part + 1));
    }
    first_ += all;
    return {jets_.select(picks), position()};
  }

  std::int64_t remainder(std::int64_t batch) const override {
    const std::int64_t left = jets_.size() % batch;
    return takes_all_ && left >= slots() ? left : 0;
  }

  const Jets<Scalar>* all() const override { return &jets_; }

  std::vector<std::int64_t> position() const override { return {pass_, first_}; }

  void seek(const std::vector<std::int64_t>& position) override {
    require(position.size() == 2 && position[0] >= 0 && 0 <= position[1] && position[1] <= jets_.size(),
            "there is no such place in these jets: give the position that was kept of them");
    pass_ = position[0];
    first_ = position[1];
  }

  /// All processes stand at the same place.
  void seek_others(const std::vector<std::vector<std::int64_t>>& positions) override {
    require(!positions.empty(), "no position was given: give those of all processes");
    seek(positions.front());
  }

  /// Of many jets it looks at some thousands, evenly spread (FNV-1a of their momenta).
  std::vector<std::int64_t> fingerprint() const override {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    const auto add = [&hash](std::uint64_t word) { hash = (hash ^ word) * 0x100000001b3ULL; };
    const std::int64_t stride = std::max<std::int64_t>(jets_.size() / 4096, 1);
    for (std::int64_t j = 0; j < jets_.size(); j += stride) {
      add(static_cast<std::uint64_t>(jets_.multiplicity(j)));
      for (std::int64_t i = jets_.begin(j); i < jets_.end(j); ++i) {
        for (const Scalar component : jets_.constituent(i)) {
          add(std::bit_cast<std::uint64_t>(static_cast<double>(component)));
        }
      }
    }
    return {jets_.size(), jets_.constituents(), static_cast<std::int64_t>(seed_), static_cast<std::int64_t>(hash)};
  }

 private:
  /// In so many parts a step's batch is computed, on all processes.
  std::int64_t slots() const { return parts_ * ranks_; }

  Jets<Scalar> jets_;
  std::uint64_t seed_;
  std::int64_t rank_;
  std::int64_t ranks_;
  std::int64_t parts_;
  bool takes_all_;
  std::int64_t pass_ = 0;
  std::int64_t first_ = 0;
  std::vector<std::int64_t> order_;
  std::int64_t order_pass_ = -1;
};

}  // namespace rino
