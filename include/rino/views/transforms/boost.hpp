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
#include <rino/jets/four_momentum.hpp>
#include <rino/jets/jets.hpp>

namespace rino {

/// A four-momentum (GeV) in light-cone components along an axis: plus = E + k_L, minus = E - k_L, and the part of
/// the three-momentum across the axis.
struct LightCone {
  double plus = 0.0;
  double minus = 0.0;
  Eigen::Vector3d across = Eigen::Vector3d::Zero();
};

/// The light-cone components of `p` along the unit vector `axis`.
///
/// The smaller of plus and minus is found from plus minus = m^2 + kT^2, which keeps its digits where the difference
/// E - |k_L| of a nearly collinear particle has none. An E that rounding has left below |k| counts as |k|.
inline LightCone light_cone(const FourMomentum<double>& p, const Eigen::Vector3d& axis) {
  const double along = axis.dot(p.head<3>());
  const Eigen::Vector3d across = p.head<3>() - along * axis;
  const double momentum = std::hypot(p[0], p[1], p[2]);
  const double energy = std::max(p[3], momentum);
  const double larger = energy + std::abs(along);
  if (larger == 0.0) {
    return {};
  }
  const double smaller =
      (energy - momentum) * ((energy + momentum) / larger) + across.norm() * (across.norm() / larger);
  return along < 0.0 ? LightCone{smaller, larger, across} : LightCone{larger, smaller, across};
}

/// A Lorentz boost along the unit vector `axis`: momenta gain the rapidity ln(`factor`) along it, so
/// plus -> factor plus, minus -> minus / factor, and what is across stays.
inline FourMomentum<double> boost_along(const FourMomentum<double>& p, const Eigen::Vector3d& axis, double factor) {
  const LightCone k = light_cone(p, axis);
  const double plus = factor * k.plus;
  const double minus = k.minus / factor;
  FourMomentum<double> boosted;
  boosted << k.across + (plus - minus) / 2.0 * axis, (plus + minus) / 2.0;
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
    Eigen::Vector3d jet = Eigen::Vector3d::Zero();
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      jet += jets.constituent(i).template head<3>().template cast<double>();
    }
    const double jet_pt = std::hypot(jet[0], jet[1]);
    const double momentum = std::hypot(jet[0], jet[1], jet[2]);
    const double target = momentum * (reference_pt / jet_pt);
    require(jet_pt > 0 && std::isfinite(target), "jet ", j, " has pT = ", jet_pt, " GeV and |p| = ", momentum,
            " GeV: it cannot be boosted along its axis to pT = ", reference_pt, " GeV; drop the jet");
    const Eigen::Vector3d axis = jet / momentum;
    double plus = 0.0;
    double minus = 0.0;
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      const LightCone k = light_cone(jets.constituent(i).template cast<double>(), axis);
      plus += k.plus;
      minus += k.minus;
    }
    // From (factor plus - minus / factor) / 2 = target; plus minus is the square of the jet's mass.
    const double factor = (target + std::hypot(target, std::sqrt(plus) * std::sqrt(minus))) / plus;
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
