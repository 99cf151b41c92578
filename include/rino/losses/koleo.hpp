#pragma once

#include <cstdint>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>
#include <rino/losses/loss_precision.hpp>

namespace rino {

/// Kozachenko-Leonenko estimate of how unevenly embeddings fill the sphere: minus the mean logarithm of each
/// L2-normalised embedding's distance to its nearest neighbour in the batch.
///
/// Source: Sablayrolles et al., arXiv:1806.03198, equation 4; as used in DINOv2, arXiv:2304.07193.
///
/// @param embeddings  [B, D], B >= 2; not normalised.
/// @param eps         added to the distances, so that equal embeddings have a finite loss.
/// @returns           the loss, a scalar of float32 (float64 for double embeddings), under autocast too.
/// @throws rino::Error for another shape or fewer than two embeddings.
inline at::Tensor koleo_loss(const at::Tensor& embeddings, double eps = 1e-8, const Ranks& ranks = {}) {
  require(embeddings.dim() == 2 && embeddings.size(0) * ranks.size() >= 2, "KoLeo's embeddings have shape ",
          embeddings.sizes(), ": give [B, D] with two jets or more");
  const LossPrecision wide(embeddings);
  const at::Tensor x = wide(embeddings);
  const at::Tensor unit = x / x.norm(2, {1}, /*keepdim=*/true).clamp_min(eps);
  const at::Tensor all = ranks.gather(unit);
  at::Tensor neighbour;
  {
    at::Tensor cosine = unit.detach().matmul(all.detach().t());
    cosine.narrow(1, ranks.rank() * unit.size(0), unit.size(0)).fill_diagonal_(-2.0);
    neighbour = cosine.argmax(1);
  }
  // Squared before the root with a floor: the root's gradient at zero distance is not finite.
  const at::Tensor squared = (unit - all.index_select(0, neighbour)).square().sum(1);
  return -(squared.clamp_min(eps * eps).sqrt() + eps).log().mean();
}

}  // namespace rino
