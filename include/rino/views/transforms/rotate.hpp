#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include <Eigen/Core>

#include <rino/jets/four_momentum.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>
#include <rino/views/transforms/translate.hpp>

namespace rino {

/// The constituents of every jet rotated around its axis in the (rapidity, phi) plane; each keeps its pT and mass.
/// What jets and constituents carry rides along.
///
/// The axis is that of the sum of the constituents. The plane is that of rapidity, not of pseudorapidity as in JetCLR
/// (arXiv:2108.04253), because the distances of the clustering are taken there: they all stay, and so do the kT
/// distances of the constituents; the two are the same for massless constituents. The rotation is no Lorentz
/// transformation: the jet's mass stays to first order in the distances only. Constituents of pT = 0 have no place in
/// the plane and stay as they are. Worked out in double precision.
///
/// @param angles  [n], one per jet, in radians, from the rapidity's axis towards that of phi.
/// @throws rino::Error unless there is one finite angle per jet.
template <std::floating_point Scalar>
Jets<Scalar> rotate(const Jets<Scalar>& jets, std::span<const double> angles, int threads = 1) {
  detail::require_per_jet(angles, jets.size(), "the angle of rotation");
  return detail::move_constituents(jets, threads, [&](std::int64_t j, const auto& write) {
    const FourMomentum<double> jet = jets.template four_momentum<double>(j);
    const double jet_rapidity = rapidity(jet);
    const double jet_phi = phi(jet);
    const double jet_cosine = std::cos(jet_phi);
    const double jet_sine = std::sin(jet_phi);
    const double cosine = std::cos(angles[static_cast<std::size_t>(j)]);
    const double sine = std::sin(angles[static_cast<std::size_t>(j)]);
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      const FourMomentum<double> p = jets.constituent(i).template cast<double>();
      const LightCone k = light_cone(p, Eigen::Vector3d::UnitZ());
      if ((p[0] == 0.0 && p[1] == 0.0) || k.plus == 0.0 || k.minus == 0.0) {
        write(i, p);
        continue;
      }
      const double y = 0.5 * std::log(k.plus / k.minus) - jet_rapidity;
      const double x = std::atan2(jet_cosine * p[1] - jet_sine * p[0], jet_cosine * p[0] + jet_sine * p[1]);
      write(i, detail::PlaneShift(cosine * y - sine * x - y, sine * y + cosine * x - x)(p));
    }
  });
}

/// The constituents of every jet rotated by a random angle, uniform in [0, 2 pi).
template <std::floating_point Scalar>
Jets<Scalar> rotate(const Jets<Scalar>& jets, const Draws& draws, int threads = 1) {
  const std::vector<double> angles =
      detail::uniform_per_jet(jets.size(), 0.0, 2.0 * std::numbers::pi, draws, detail::purpose("rotate"));
  return rotate(jets, std::span(angles), threads);
}

}  // namespace rino
