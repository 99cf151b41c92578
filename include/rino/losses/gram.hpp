#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/placement.hpp>
#include <rino/losses/loss_precision.hpp>

namespace rino {

/// Mean squared difference between the Gram matrices of student and teacher, the cosines between all constituents of
/// one jet, averaged over the n^2 entries of each jet and then over jets.
///
/// Source: DINOv3, arXiv:2508.10104, equation 2, there the sum over entries.
///
/// @param student  its embeddings of constituents, [T, D], jet after jet.
/// @param teacher  its embeddings of the same, [T, D]; no gradient.
/// @param lengths  constituents of each jet, 1 or more, T together.
/// @returns        the loss, a scalar of float32 (float64 for double embeddings), under autocast too;
///                 0 of no jets.
/// @throws rino::Error for shapes that do not fit.
inline at::Tensor gram_loss(const at::Tensor& student, const at::Tensor& teacher,
                            std::span<const std::int64_t> lengths) {
  std::int64_t total = 0;
  std::int64_t longest = 0;
  for (const std::int64_t length : lengths) {
    require(length >= 1, "a jet has ", length, " constituents: give 1 or more of each");
    total += length;
    longest = std::max(longest, length);
  }
  require(student.dim() == 2 && student.sizes() == teacher.sizes() && student.size(0) == total, "student ",
          student.sizes(), " and teacher ", teacher.sizes(), " do not fit ", lengths.size(), " jets of ", total,
          " constituents: give [T, D] twice");
  const auto jets = static_cast<std::int64_t>(lengths.size());
  std::vector<std::int64_t> slots;
  std::vector<double> weights;
  slots.reserve(static_cast<std::size_t>(total));
  for (std::int64_t j = 0; j < jets; ++j) {
    const std::int64_t length = lengths[static_cast<std::size_t>(j)];
    for (std::int64_t i = 0; i < length; ++i) {
      slots.push_back(j * longest + i);
    }
    weights.push_back(1.0 / static_cast<double>(length * length * jets));
  }
  const LossPrecision wide(student);
  if (jets == 0) {
    return wide(student).sum();
  }
  const at::Tensor slot = index_tensor(std::span<const std::int64_t>(slots), student.device());
  // Rows of padding are 0 for both: their cosines do not differ.
  const auto cosines = [&](const at::Tensor& embeddings) {
    const at::Tensor x = wide(embeddings);
    const at::Tensor unit = x / x.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-8);
    const at::Tensor padded = at::zeros({jets * longest, unit.size(1)}, unit.options())
                                  .index_copy(0, slot, unit)
                                  .view({jets, longest, unit.size(1)});
    return padded.matmul(padded.transpose(1, 2));
  };
  const at::Tensor squared = (cosines(student) - cosines(teacher.detach())).square().sum({1, 2});
  return (squared * to_device(wide(at::tensor(weights, at::kDouble)), squared.device())).sum();
}

}  // namespace rino
