#pragma once

#include <cstdint>
#include <limits>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>
#include <rino/losses/loss_precision.hpp>
#include <rino/losses/unit_rows.hpp>
#include <rino/losses/weighted_mean.hpp>

namespace rino {

/// Supervised contrastive loss: each row has to find all others of its label. With z = x / |x|, s_ij = z_i . z_j and
/// P_i the other rows of the label of i, the mean over rows of
/// -(1 / |P_i|) sum_{p in P_i} [s_ip / t - ln sum_{j != i} exp(s_ij / t)].
///
/// Rows of a label that no other has are left out of the mean, not of the sums over j. Of two views of jets,
/// [first view; second view] with the labels twice, all have one.
///
/// Source: Khosla et al., arXiv:2004.11362, equation 2 (L_out), without their factor of temperature.
///
/// @param z            [M, D], not normalised; M >= 2 on all processes together.
/// @param labels       int64 [M].
/// @param temperature  above 0.
/// @param ranks        processes whose rows are compared with, too, equally many on each; the mean of their losses is
///                     that of all rows.
/// @param weights      [M] of the rows: each multiplies its row's term, and the mean is over the sum of their weights;
///                     undefined: all count alike. As partners, and in the sums over j, all count alike.
/// @returns            the loss, a scalar of float32 (float64 for double rows), under autocast too; 0 where no row has
///                     another of its label.
/// @throws rino::Error for other shapes or types, fewer than two rows or a temperature that is not above 0.
inline at::Tensor supcon_loss(const at::Tensor& z, const at::Tensor& labels, double temperature,
                              const Ranks& ranks = {}, const at::Tensor& weights = {}) {
  require(z.dim() == 2 && at::isFloatingType(z.scalar_type()) && labels.dim() == 1 &&
              labels.scalar_type() == at::kLong && labels.size(0) == z.size(0),
          "SupCon was given rows ", z.scalar_type(), " ", z.sizes(), " and labels ", labels.scalar_type(), " ",
          labels.sizes(), ": give [M, D] of a floating-point type and int64 [M]");
  detail::require_temperature(temperature);
  const std::int64_t rows = z.size(0);
  detail::require_weights(weights, rows, "SupCon");
  require(rows * ranks.size() >= 2, "SupCon was given ", rows, " row: give two or more");
  const LossPrecision wide(z);
  const at::Tensor mine = detail::unit_rows(z);
  const at::Tensor logits = mine.matmul(ranks.gather(mine).t()) / temperature;
  const at::Tensor itself = at::zeros(logits.sizes(), logits.options().dtype(at::kBool));
  itself.narrow(1, ranks.rank() * rows, rows).fill_diagonal_(1);
  const at::Tensor positive =
      labels.unsqueeze(1).eq(ranks.gather(labels).unsqueeze(0)).logical_and(itself.logical_not());
  const at::Tensor partners = positive.sum(1);
  const at::Tensor sums = logits.masked_fill(itself, -std::numeric_limits<double>::infinity()).logsumexp(1);
  const at::Tensor means = (logits * positive).sum(1) / partners.clamp_min(1);
  const at::Tensor counted = partners.gt(0).to(logits.scalar_type());
  if (weights.defined()) {
    return detail::weighted_mean(sums - means, weights.to(at::kDouble) * counted, ranks);
  }
  // Processes may have unequal numbers of rows that count.
  const at::Tensor all = ranks.sum(counted.sum()) / static_cast<double>(ranks.size());
  return ((sums - means) * counted).sum() / all.clamp_min(1e-30);
}

}  // namespace rino
