#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>

namespace rino {

/// A Lorentz boost along `axis`, a unit vector: momenta along the axis gain rapidity ln(`factor`).
///
/// In light-cone components along the axis, k+ = E + k_L and k- = E - k_L, the boost is k+ -> factor k+ and
/// k- -> k- / factor, the transverse part stays. Of the two, the smaller is found from k+ k- = m^2 + kT^2, which
/// keeps its digits where the difference E - |k_L| of a nearly collinear particle has none; an E that rounding has
/// left below |k| counts as massless.
inline FourMomentum<double> boost_along(const FourMomentum<double>& p, const Eigen::Vector3d& axis, double factor) {
  const double along = axis.dot(p.head<3>());
  const Eigen::Vector3d transverse = p.head<3>() - along * axis;
  const double momentum = std::hypot(p[0], p[1], p[2]);
  const double energy = std::max(p[3], momentum);
  const double larger = energy + std::abs(along);
  if (larger == 0.0) {
    return FourMomentum<double>::Zero();
  }
  const double smaller = (energy - momentum) * ((energy + momentum) / larger) +
                         transverse.norm() * (transverse.norm() / larger);
  const double plus = factor * (along < 0.0 ? smaller : larger);
  const double minus = (along < 0.0 ? larger : smaller) / factor;
  FourMomentum<double> boosted;
  boosted << transverse + (plus - minus) / 2.0 * axis, (plus + minus) / 2.0;
  return boosted;
}

/// Every jet boosted along its own axis so that its pT becomes `reference_pt` (GeV); mass and direction stay.
///
/// The jet is the sum of its constituents: its |p| becomes |p| reference_pt / pT, which fixes the rapidity along its
/// axis, and every constituent takes part. Worked out in double precision. Labels and extras ride along.
///
/// @throws rino::Error unless reference_pt is finite and above 0, and every jet has a pT that can be scaled to it.
template <std::floating_point Scalar>
Jets<Scalar> boost_to_pt(const Jets<Scalar>& jets, double reference_pt) {
  require(reference_pt > 0 && std::isfinite(reference_pt), "the reference pT of the boost is ", reference_pt,
          " GeV: give a finite number above 0");
  std::array<std::vector<Scalar>, 4> columns;
  for (std::vector<Scalar>& column : columns) {
    column.reserve(static_cast<std::size_t>(jets.constituents()));
  }
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    FourMomentum<double> jet = FourMomentum<double>::Zero();
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      FourMomentum<double> p = jets.constituent(i).template cast<double>();
      p[3] = std::max(p[3], std::hypot(p[0], p[1], p[2]));
      jet += p;
    }
    const double momentum = std::hypot(jet[0], jet[1], jet[2]);
    const double target = momentum * (reference_pt / pt(jet));
    require(pt(jet) > 0 && std::isfinite(target), "jet ", j, " has pT = ", pt(jet), " GeV and |p| = ", momentum,
            " GeV: it cannot be boosted along its axis to pT = ", reference_pt, " GeV; drop the jet");
    const double energy = std::max(jet[3], momentum);
    const double factor = (std::hypot(target, mass(jet)) + target) / (energy + momentum);
    const Eigen::Vector3d axis = jet.head<3>() / momentum;
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      const FourMomentum<double> p = boost_along(jets.constituent(i).template cast<double>(), axis, factor);
      for (std::size_t c = 0; c < 4; ++c) {
        columns[c].push_back(static_cast<Scalar>(p[static_cast<int>(c)]));
      }
    }
  }
  Jets<Scalar> result = Jets<Scalar>::from_columns_unchecked(std::move(columns), jets.offsets());
  if (jets.labels()) {
    result = result.with_labels(*jets.labels());
  }
  for (const auto& [name, values] : jets.extras()) {
    result = result.with_extra(name, *values);
  }
  return result;
}

}  // namespace rino
