#pragma once

#include <cmath>
#include <numbers>

#include <rino/jets/four_momentum.hpp>

/// Kinematics of one four-momentum (px, py, pz, E) in GeV, stable for massless and for soft particles.
/// The beam axis is z; angles are in radians.
namespace rino {

/// Transverse momentum in GeV; no overflow or underflow in between.
template <typename Scalar>
Scalar pt(const FourMomentum<Scalar>& p) {
  return std::hypot(p[0], p[1]);
}

/// Azimuth in (-pi, pi]; 0 for a particle along the beam.
template <typename Scalar>
Scalar phi(const FourMomentum<Scalar>& p) {
  if (p[0] == Scalar(0) && p[1] == Scalar(0)) {
    return Scalar(0);  // atan2 would give pi for px = -0
  }
  const Scalar angle = std::atan2(p[1], p[0]);
  return angle == -std::numbers::pi_v<Scalar> ? std::numbers::pi_v<Scalar> : angle;
}

namespace detail {

/// asinh(numerator / denominator), denominator >= 0, also where the ratio overflows; 0 for 0 / 0.
template <typename Scalar>
Scalar asinh_ratio(Scalar numerator, Scalar denominator) {
  if (numerator == Scalar(0)) {
    return Scalar(0);
  }
  const Scalar ratio = numerator / denominator;
  if (std::isinf(ratio)) {
    const Scalar size = std::numbers::ln2_v<Scalar> + std::log(std::abs(numerator)) - std::log(denominator);
    return std::copysign(size, numerator);
  }
  return std::asinh(ratio);
}

}  // namespace detail

/// Pseudorapidity asinh(pz / pT): exact to rounding at every angle, where log((|p| + pz) / (|p| - pz)) / 2
/// loses all digits near the beam. Plus or minus infinity exactly along the beam, 0 for zero momentum.
template <typename Scalar>
Scalar eta(const FourMomentum<Scalar>& p) {
  return detail::asinh_ratio(p[2], pt(p));
}

/// Squared invariant mass in GeV^2, (E - |p|)(E + |p|): smaller rounding than E^2 - |p|^2. Slightly negative
/// for a massless particle whose momenta were rounded.
template <typename Scalar>
Scalar mass_squared(const FourMomentum<Scalar>& p) {
  const Scalar momentum = std::hypot(p[0], p[1], p[2]);
  return (p[3] - momentum) * (p[3] + momentum);
}

/// Invariant mass in GeV; 0 where rounding made its square negative. No overflow or underflow in between.
template <typename Scalar>
Scalar mass(const FourMomentum<Scalar>& p) {
  const Scalar momentum = std::hypot(p[0], p[1], p[2]);
  return p[3] > momentum ? p[3] * std::sqrt((p[3] - momentum) / p[3] * ((p[3] + momentum) / p[3])) : Scalar(0);
}

/// Rapidity asinh(pz / mT): exact to rounding also near zero, where ln((E + pz) / (E - pz)) / 2 is not. Plus or
/// minus infinity for a massless particle exactly along the beam, 0 for pz = 0.
template <typename Scalar>
Scalar rapidity(const FourMomentum<Scalar>& p) {
  return detail::asinh_ratio(p[2], std::hypot(pt(p), mass(p)));
}

/// phi1 - phi2 brought into (-pi, pi], for any finite angles.
template <typename Scalar>
Scalar delta_phi(Scalar phi1, Scalar phi2) {
  constexpr Scalar pi = std::numbers::pi_v<Scalar>;
  const Scalar difference = std::remainder(phi1 - phi2, 2 * pi);
  return difference <= -pi ? pi : difference;
}

}  // namespace rino
