#pragma once

#include <cstdint>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/losses/loss_precision.hpp>

namespace rino {

/// Cross-entropy between the teacher's assignments and the student's softmax, averaged over all pairs of a teacher
/// view t and a student view s != t, and over jets.
///
/// The student's first T views are the teacher's views. For T teacher and V student views there are T V - T pairs;
/// they are not visited one by one: the sum over t of P_t is formed once and each student view leaves out its own.
///
/// Source: DINO, arXiv:2104.14294, equation 3; pairs as in arXiv:2509.07486.
///
/// @param assignments  teacher's probabilities [T, B, K], no gradient.
/// @param scores       student's scores [V, B, K], V >= T.
/// @param temperature  the student's, above 0.
/// @returns            the loss, a scalar of float32 (float64 for double scores), under autocast too.
/// @throws rino::Error for shapes that do not fit, or where there is no pair.
inline at::Tensor dino_loss(const at::Tensor& assignments, const at::Tensor& scores, double temperature) {
  require(assignments.dim() == 3 && scores.dim() == 3 && assignments.size(1) == scores.size(1) &&
              assignments.size(2) == scores.size(2) && assignments.size(0) <= scores.size(0),
          "teacher assignments ", assignments.sizes(), " and student scores ", scores.sizes(),
          " do not fit: give [T, B, K] and [V, B, K] with V >= T");
  detail::require_temperature(temperature, "the student's temperature");
  const std::int64_t teachers = assignments.size(0);
  const std::int64_t students = scores.size(0);
  const std::int64_t pairs = teachers * students - teachers;
  require(pairs > 0, "one view alone has nothing to agree with: give a second resolution");
  const LossPrecision wide(scores);
  const at::Tensor log_p = (wide(scores) / temperature).log_softmax(2);
  const at::Tensor targets = wide(assignments.detach());
  const at::Tensor own = (targets * log_p.narrow(0, 0, teachers)).sum();
  const at::Tensor all = (targets.sum(0) * log_p.sum(0)).sum();
  return (own - all) / static_cast<double>(pairs * scores.size(1));
}

}  // namespace rino
