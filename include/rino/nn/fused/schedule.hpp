#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <rino/nn/fused/problem.hpp>

namespace rino::fused {

/// How the sequences of a batch are dealt out. It depends on their lengths alone, never on the number of threads, and
/// gradients are summed group by group: so the same batch gives the same bits on one thread and on many.
struct Schedule {
  std::vector<Index> starts;  ///< [sequences + 1] first packed row of every sequence
  std::vector<Chunk> chunks;
  std::vector<Index> groups;  ///< [groups + 1] first chunk of every group; a group is one thread's work
  Index most_rows = 0;        ///< of a chunk
  Index most_sequences = 0;   ///< of a chunk
  Index longest = 0;          ///< rows of a sequence

  /// Rows that make a group worth its own gradients, which cost a pass through the memory.
  static constexpr Index kGroupRows = 512;

  Index rows() const { return starts.back(); }
  Index sequences() const { return static_cast<Index>(starts.size()) - 1; }
  const Chunk& first_chunk(Index group) const {
    return chunks[static_cast<std::size_t>(groups[static_cast<std::size_t>(group)])];
  }
  Index group_count() const { return static_cast<Index>(groups.size()) - 1; }

  /// @param lengths      rows of every sequence, 1 or more each.
  /// @param chunk_rows   rows of a chunk, unless one sequence alone is longer.
  /// @param most_groups  at most so many groups.
  static Schedule make(std::span<const Index> lengths, const Shape& shape, Index chunk_rows, Index most_groups) {
    Schedule schedule;
    schedule.starts.reserve(lengths.size() + 1);
    schedule.starts.push_back(0);
    for (const Index length : lengths) {
      schedule.starts.push_back(schedule.starts.back() + length);
      schedule.longest = std::max(schedule.longest, length);
    }
    const Index sequences = schedule.sequences();
    // What a row costs: the linear layers, and attention's products with every row of its sequence.
    const double linear = static_cast<double>(4 * shape.width + 2 * shape.feedforward);
    const auto cost = [&](Index s) {
      const auto length = static_cast<double>(lengths[static_cast<std::size_t>(s)]);
      return length * (linear + 4.0 * length);
    };
    double total = 0;
    for (Index s = 0; s < sequences; ++s) {
      total += cost(s);
    }
    const Index groups = std::clamp(schedule.rows() / kGroupRows, Index{1}, most_groups);
    schedule.groups.push_back(0);
    double done = 0;
    for (Index s = 0; s < sequences;) {
      Chunk chunk{s, s};
      Index rows = 0;
      const double goal = total * static_cast<double>(schedule.groups.size()) / static_cast<double>(groups);
      while (chunk.last < sequences &&
             (rows == 0 || (rows + lengths[static_cast<std::size_t>(chunk.last)] <= chunk_rows && done < goal))) {
        rows += lengths[static_cast<std::size_t>(chunk.last)];
        done += cost(chunk.last);
        ++chunk.last;
      }
      schedule.chunks.push_back(chunk);
      schedule.most_rows = std::max(schedule.most_rows, rows);
      schedule.most_sequences = std::max(schedule.most_sequences, chunk.last - chunk.first);
      s = chunk.last;
      if (s == sequences || (done >= goal && static_cast<Index>(schedule.groups.size()) < groups)) {
        schedule.groups.push_back(static_cast<Index>(schedule.chunks.size()));
      }
    }
    return schedule;
  }
};

}  // namespace rino::fused
