#pragma once

#include <array>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/jets/features.hpp>

namespace rino {

/// The features of two constituents, in the order in which they are stored; logarithms are natural, of GeV.
inline constexpr std::array<std::string_view, 4> kPairFeatures = {"log_kt", "log_z", "log_dr", "log_m2"};

/// Distances, transverse momenta (GeV), shares and squared masses (GeV^2) enter logarithms as at least this.
inline constexpr double kPairFloor = 1e-8;

/// What ParT's attention knows of two constituents i and j: ln kT, ln z, ln dR and ln m^2, with
///   dR = sqrt((y_i - y_j)^2 + (phi_i - phi_j)^2), kT = min(pT_i, pT_j) dR,
///   z = min(pT_i, pT_j) / (pT_i + pT_j), m^2 = (p_i + p_j)^2.
///
/// Nothing is found from differences of large numbers: with mT^2 = pT^2 + m^2,
///   m^2 = m_i^2 + m_j^2 + 2 [(m_i^2 pT_j^2 + m_j^2 pT_i^2 + m_i^2 m_j^2) / (mT_i mT_j + pT_i pT_j)
///                            + 2 mT_i mT_j sinh^2(dy / 2) + 2 pT_i pT_j sin^2(dphi / 2)],
/// and there are no roots where one has no derivative: gradients are finite, those of what lies below the floor are 0.
/// Rapidities are cut at +-`kMaxEta`.
///
/// Source: Qu, Li, Qian, arXiv:2202.03772, equation 3.
///
/// @param first, second  pT (GeV), rapidity, phi and mass (GeV), [.., 4] of shapes that broadcast; computed in float64.
/// @returns              [.., 4] of float64, in the order of `kPairFeatures`.
/// @throws rino::Error unless both have four columns of floating-point numbers.
inline at::Tensor pair_features(const at::Tensor& first, const at::Tensor& second) {
  std::vector<at::Tensor> of[2];
  for (int side = 0; side < 2; ++side) {
    const at::Tensor& momenta = side == 0 ? first : second;
    require(momenta.dim() >= 1 && momenta.size(-1) == 4 && momenta.is_floating_point(), "momenta are ",
            momenta.toString(), " of shape ", momenta.sizes(), ": give pT, rapidity, phi and mass, [.., 4]");
    of[side] = momenta.to(at::kDouble).unbind(-1);
  }
  const at::Tensor& pt1 = of[0][0];
  const at::Tensor& pt2 = of[1][0];
  const auto rapidity = [&](int side) { return of[side][1].clamp(-kMaxEta, kMaxEta); };
  const at::Tensor dy = rapidity(0) - rapidity(1);
  at::Tensor dphi = of[0][2] - of[1][2];
  dphi = dphi - 2 * std::numbers::pi * (dphi / (2 * std::numbers::pi)).round();
  const at::Tensor m1 = of[0][3].square();
  const at::Tensor m2 = of[1][3].square();

  constexpr double floor2 = kPairFloor * kPairFloor;
  const at::Tensor dr2 = dy.square() + dphi.square();
  const at::Tensor softer = at::minimum(pt1, pt2);
  // Of squares: the root of a distance of 0 has no derivative.
  const at::Tensor log_dr = dr2.clamp_min(floor2).log() / 2;
  const at::Tensor log_kt = (softer.square() * dr2).clamp_min(floor2).log() / 2;
  const at::Tensor log_z = (softer / (pt1 + pt2).clamp_min(kPairFloor)).clamp_min(kPairFloor).log();

  const auto transverse = [](const at::Tensor& pt, const at::Tensor& mass2) {
    return (pt.square() + mass2).clamp_min(floor2).sqrt();
  };
  const at::Tensor pts = pt1 * pt2;
  const at::Tensor mts = transverse(pt1, m1) * transverse(pt2, m2);
  const at::Tensor at_rest = (m1 * pt2.square() + m2 * pt1.square() + m1 * m2) / (mts + pts);
  const at::Tensor apart = 2 * (mts * (dy / 2).sinh().square() + pts * (dphi / 2).sin().square());
  const at::Tensor log_m2 = (m1 + m2 + 2 * (at_rest + apart)).clamp_min(kPairFloor).log();
  return at::stack(at::broadcast_tensors({log_kt, log_z, log_dr, log_m2}), -1);
}

/// Of all pairs of N constituents: [.., N, 4] -> [.., N, N, 4], symmetric, each with itself on the diagonal.
/// @throws rino::Error as the above, or for fewer than two dimensions.
inline at::Tensor pair_features(const at::Tensor& momenta) {
  require(momenta.dim() >= 2, "momenta have shape ", momenta.sizes(), ": give those of N constituents, [.., N, 4]");
  return pair_features(momenta.unsqueeze(-2), momenta.unsqueeze(-3));
}

}  // namespace rino
