#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/device.hpp>
#include <rino/core/error.hpp>
#include <rino/core/placement.hpp>

namespace rino {

/// Consecutive sequences that attention handles at once: as one dense block [sequences, length], or, on CUDA, as they
/// lie, by a kernel that takes sequences of any lengths.
struct PackedRun {
  std::int64_t rows = 0;       ///< rows of the packed tensor that belong to the run
  std::int64_t sequences = 0;  ///< B
  std::int64_t length = 0;     ///< L, the longest of them
  at::Tensor gather;           ///< [B*L] row within the run of every slot; undefined if none is padded. Padding has the
                               ///< first row of its own sequence: what is not finite in another must not come near
  at::Tensor scatter;          ///< [rows] slot of every row
  at::Tensor bias;             ///< [B, 1, 1, L]: 0 where a row is, -inf where padding is
  at::Tensor cumulative;       ///< int32 [B+1] first row of every sequence and the number of rows; only on CUDA
  at::Tensor one_each;         ///< int32 [B+1] 0, 1 .. B, the same for one row per sequence; only on CUDA

  bool variable() const { return cumulative.defined(); }
  bool dense() const { return !gather.defined(); }
};

/// How attention walks through packed sequences. On a CPU (and for float64): runs of equal length as they lie, runs of
/// similar length with the few missing slots masked; sequences sorted by length make few and long runs. On CUDA one run
/// of variable length, nothing gathered and nothing masked, but where attention weights are dropped: see
/// `takes_any_length`.
struct Packing {
  /// How similar the lengths of a run are, and how many slots it has: what one block of attention occupies in memory. A
  /// GPU is busy with much larger blocks only, and every run costs it some launches.
  struct Runs {
    double stretch;          ///< a run ends before a sequence longer than this times its first (or shorter than it)
    std::int64_t max_slots;  ///< a run has at most this many slots B*L
  };
  static constexpr Runs kCpuRuns{1.125, 4096};
  static constexpr Runs kGpuRuns{1.5, std::int64_t{1} << 18};

  /// Whether the kernels for sequences of any lengths take these networks: on CUDA in half precision or float32, as
  /// long as no attention weights are dropped and scores have no bias, which they have no backward pass for. In float32
  /// their backward pass would draw other masks than the forward pass drew (pytorch#115590), and in either type from
  /// LibTorch's own generator, which is the same on all processes.
  static bool takes_any_length(const at::TensorOptions& options, bool altered) {
    return attends_any_length(options.device()) && options.dtype() != at::kDouble && !altered;
  }

  std::vector<PackedRun> runs;
  std::vector<std::int64_t> run_rows;       ///< rows of every run
  std::vector<std::int64_t> run_sequences;  ///< sequences of every run
  at::Tensor firsts;                        ///< [S] first row of every sequence

  /// @param lengths  of the sequences in packed order, 1 or more each.
  /// @param options  device and floating-point type of the network.
  /// @param altered  whether attention weights are dropped or scores have a bias.
  static Packing plan(std::span<const std::int64_t> lengths, const at::TensorOptions& options, bool altered = false) {
    return plan(lengths, options, altered, wants_much_at_once(options.device()) ? kGpuRuns : kCpuRuns);
  }

  /// The same with runs of other sizes.
  static Packing plan(std::span<const std::int64_t> lengths, const at::TensorOptions& options, bool altered,
                      const Runs& runs) {
    Packing packing;
    std::vector<std::int64_t> firsts;
    std::int64_t row = 0;
    for (const std::int64_t length : lengths) {
      firsts.push_back(row);
      row += length;
    }
    packing.firsts = index_tensor(std::span<const std::int64_t>(firsts), options.device());
    if (takes_any_length(options, altered)) {
      packing.plan_variable(lengths, options.device());
      return packing;
    }
    std::size_t begin = 0;
    while (begin < lengths.size()) {
      const std::int64_t shortest = lengths[begin];
      const auto limit = static_cast<std::int64_t>(static_cast<double>(shortest) * runs.stretch);
      std::size_t end = begin;
      std::int64_t longest = 0;
      while (end < lengths.size() && lengths[end] >= shortest && lengths[end] <= limit) {
        const std::int64_t candidate = std::max(longest, lengths[end]);
        if (end > begin && candidate * static_cast<std::int64_t>(end - begin + 1) > runs.max_slots) {
          break;
        }
        longest = candidate;
        ++end;
      }
      packing.add(lengths.subspan(begin, end - begin), longest, options);
      begin = end;
    }
    return packing;
  }

  /// To so many rows the backward pass of FlashAttention pads a sequence.
  static constexpr std::int64_t kPaddedRows = 128;
  /// The most rows of a run that is padded so; each takes the width in float32 meanwhile (in memory-efficient attention
  /// up to three times that, of sequences as long as the run's longest): a gigabyte at width 256.
  static constexpr std::int64_t kMaxPaddedRows = std::int64_t{1} << 20;

  /// The plan for kernels that take sequences of any lengths. Its tensors go to `device`.
  ///
  /// @param max_sequences    of a run: the largest grid of CUDA in that direction.
  /// @param max_padded_rows  of a run with the lengths of all as the longest, in multiples of `kPaddedRows`.
  void plan_variable(std::span<const std::int64_t> lengths, at::Device device, std::size_t max_sequences = 65535,
                     std::int64_t max_padded_rows = kMaxPaddedRows) {
    std::size_t next = 0;
    while (next < lengths.size()) {
      PackedRun run;
      std::vector<std::int32_t> cumulative{0};
      for (; next < lengths.size() && cumulative.size() <= max_sequences; ++next) {
        const std::int64_t longest = std::max(run.length, lengths[next]);
        const std::int64_t padded = (longest + kPaddedRows - 1) / kPaddedRows * kPaddedRows;
        if (run.rows > 0 && static_cast<std::int64_t>(cumulative.size()) * padded > max_padded_rows) {
          break;
        }
        run.rows += lengths[next];
        run.length = longest;
        cumulative.push_back(static_cast<std::int32_t>(run.rows));
      }
      require(run.rows <= std::numeric_limits<std::int32_t>::max(), run.rows, " tokens are more than attention counts",
              ": give fewer jets at a time");
      run.sequences = static_cast<std::int64_t>(cumulative.size()) - 1;
      run.cumulative = index_tensor(std::span<const std::int32_t>(cumulative), device);
      run.one_each = at::arange(run.sequences + 1, at::TensorOptions(device).dtype(at::kInt));
      add(std::move(run));
    }
  }

 private:
  void add(PackedRun run) {
    run_rows.push_back(run.rows);
    run_sequences.push_back(run.sequences);
    runs.push_back(std::move(run));
  }

  void add(std::span<const std::int64_t> lengths, std::int64_t longest, const at::TensorOptions& options) {
    PackedRun run;
    run.sequences = static_cast<std::int64_t>(lengths.size());
    run.length = longest;
    for (const std::int64_t length : lengths) {
      run.rows += length;
    }
    if (run.rows != run.sequences * longest) {
      at::Tensor gather = at::empty({run.sequences * longest}, at::kLong);
      at::Tensor scatter = at::empty({run.rows}, at::kLong);
      at::Tensor bias = at::full({run.sequences, 1, 1, longest}, -std::numeric_limits<double>::infinity(), at::kFloat);
      auto* const gather_data = gather.mutable_data_ptr<std::int64_t>();
      auto* const scatter_data = scatter.mutable_data_ptr<std::int64_t>();
      auto* const bias_data = bias.mutable_data_ptr<float>();
      std::int64_t row = 0;
      for (std::int64_t s = 0; s < run.sequences; ++s) {
        std::fill_n(gather_data + s * longest, longest, row);
        for (std::int64_t i = 0; i < lengths[static_cast<std::size_t>(s)]; ++i, ++row) {
          const std::int64_t slot = s * longest + i;
          gather_data[slot] = row;
          scatter_data[row] = slot;
          bias_data[slot] = 0;
        }
      }
      run.gather = to_device(gather, options.device());
      run.scatter = to_device(scatter, options.device());
      run.bias = to_device(bias.to(at::typeMetaToScalarType(options.dtype())), options.device());
    }
    add(std::move(run));
  }
};

}  // namespace rino
