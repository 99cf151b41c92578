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

/// Normalised temperature-scaled cross-entropy between two views of jets: each of the 2N rows has to find its other
/// view among all others. With z = x / |x|, s_ij = z_i . z_j and k(i) the other view of row i, the mean over rows of
/// ln sum_{j != i} exp(s_ij / t) - s_{i,k(i)} / t.
///
/// Source: SimCLR, arXiv:2002.05709, equation 1; for jets JetCLR, arXiv:2108.04253.
///
/// @param a, b         two views of the same jets, [N, D] each, not normalised; N >= 2 on all processes together.
/// @param temperature  above 0.
/// @param ranks        processes whose jets are negatives, too, equally many on each; the mean of their losses is that
///                     of all jets.
/// @param weights      [N] of the jets: a jet's multiplies the terms of its two rows, and the mean is over the sum of
/// all
///                     weights; undefined: all count alike. As negatives all count alike.
/// @returns            the loss, a scalar of float32 (float64 for double rows), under autocast too.
/// @throws rino::Error for other shapes, fewer than two jets or a temperature that is not above 0.
inline at::Tensor nt_xent_loss(const at::Tensor& a, const at::Tensor& b, double temperature, const Ranks& ranks = {},
                               const at::Tensor& weights = {}) {
  detail::require_views(a, b, "NT-Xent");
  detail::require_temperature(temperature);
  const std::int64_t jets = a.size(0);
  detail::require_weights(weights, jets, "NT-Xent");
  const std::int64_t all = jets * ranks.size();
  require(all >= 2, "NT-Xent was given ", all, " jet: give two or more, the others are what it is told from");
  const LossPrecision wide(a);
  const at::Tensor one = detail::unit_rows(a);
  const at::Tensor other = detail::unit_rows(b);
  const at::Tensor everyone = at::cat({ranks.gather(one), ranks.gather(other)});
  const std::int64_t first = ranks.rank() * jets;
  const auto half = [&](const at::Tensor& rows, std::int64_t self, std::int64_t partner) {
    const at::Tensor logits = rows.matmul(everyone.t()) / temperature;
    const at::Tensor positive = logits.narrow(1, partner, jets).diagonal();
    const at::Tensor itself = at::zeros(logits.sizes(), logits.options().dtype(at::kBool));
    itself.narrow(1, self, jets).fill_diagonal_(1);
    return logits.masked_fill(itself, -std::numeric_limits<double>::infinity()).logsumexp(1) - positive;
  };
  const at::Tensor terms = half(one, first, all + first) + half(other, all + first, first);
  return (weights.defined() ? detail::weighted_mean(terms, weights, ranks) : terms.mean()) / 2;
}

}  // namespace rino
