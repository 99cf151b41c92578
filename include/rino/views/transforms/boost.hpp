#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include <Eigen/Core>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/jets/four_momentum.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>

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

namespace detail {

/// Every jet boosted along its own axis so that its |p| becomes target(j, its three-momentum), in GeV.
///
/// The jet is the sum of its constituents: its new |p| and its mass fix the rapidity along its axis, and every
/// constituent takes part. Worked out in double precision.
template <std::floating_point Scalar, typename Target>
Jets<Scalar> boost_to_momentum(const Jets<Scalar>& jets, int threads, const Target& target) {
  return move_constituents(jets, threads, [&](std::int64_t j, const auto& write) {
    const Eigen::Vector3d jet = jets.template four_momentum<double>(j).template head<3>();
    const double momentum = target(j, jet);
    const Eigen::Vector3d axis = jet / std::hypot(jet[0], jet[1], jet[2]);
    double plus = 0.0;
    double minus = 0.0;
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      const LightCone k = light_cone(jets.constituent(i).template cast<double>(), axis);
      plus += k.plus;
      minus += k.minus;
    }
    // From (factor plus - minus / factor) / 2 = momentum; plus minus is the square of the jet's mass.
    const double factor = (momentum + std::hypot(momentum, std::sqrt(plus) * std::sqrt(minus))) / plus;
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      write(i, boost_along(jets.constituent(i).template cast<double>(), axis, factor));
    }
  });
}

}  // namespace detail

/// Every jet boosted along its own axis so that its pT becomes `reference_pt` (GeV); mass and direction stay.
/// What jets and constituents carry rides along.
///
/// @throws rino::Error unless reference_pt is finite and above 0, and every jet has a pT that can be scaled to it.
template <std::floating_point Scalar>
Jets<Scalar> boost_to_pt(const Jets<Scalar>& jets, double reference_pt, int threads = 1) {
  require(reference_pt > 0 && std::isfinite(reference_pt), "the reference pT of the boost is ", reference_pt,
          " GeV: give a finite number above 0");
  return detail::boost_to_momentum(jets, threads, [&](std::int64_t j, const Eigen::Vector3d& jet) {
    const double jet_pt = std::hypot(jet[0], jet[1]);
    const double momentum = std::hypot(jet[0], jet[1], jet[2]);
    const double target = momentum * (reference_pt / jet_pt);
    require(jet_pt > 0 && std::isfinite(target), "jet ", j, " has pT = ", jet_pt, " GeV and |p| = ", momentum,
            " GeV: it cannot be boosted along its axis to pT = ", reference_pt, " GeV; drop the jet");
    return target;
  });
}

/// Every jet boosted along its own axis so that its pT and |p| are multiplied by a factor; mass and direction stay.
/// What jets and constituents carry rides along.
///
/// @param factors  [n], one per jet.
/// @throws rino::Error unless there is one finite factor above 0 per jet, and every jet moves.
template <std::floating_point Scalar>
Jets<Scalar> boost_jet(const Jets<Scalar>& jets, std::span<const double> factors, int threads = 1) {
  detail::require_per_jet(factors, jets.size(), "the boost's factor");
  return detail::boost_to_momentum(jets, threads, [&](std::int64_t j, const Eigen::Vector3d& jet) {
    const double factor = factors[static_cast<std::size_t>(j)];
    require(factor > 0, "the boost's factor of jet ", j, " is ", factor, ": give a finite number above 0");
    const double momentum = std::hypot(jet[0], jet[1], jet[2]);
    require(momentum > 0, "jet ", j, " has |p| = 0 GeV and no axis to be boosted along: drop the jet");
    require(std::isfinite(factor * momentum), "jet ", j, " of |p| = ", momentum, " GeV cannot be boosted by a factor ",
            factor, ": give one nearer to 1");
    return factor * momentum;
  });
}

/// Between which factors a random boost along the jet's axis lies; their logarithm is drawn evenly.
struct BoostJetOptions {
  double min_factor = 0.5;
  double max_factor = 2.0;

  static constexpr auto fields() {
    using Self = BoostJetOptions;
    return std::tuple{
        Field{"min_factor", &Self::min_factor, "", "least random factor"},
        Field{"max_factor", &Self::max_factor, "", "greatest random factor"},
    };
  }
};

/// Every jet boosted along its own axis by a random factor, its logarithm uniform between those of the two bounds.
///
/// @throws rino::Error unless 0 < min_factor <= max_factor, both finite, and every jet moves.
template <std::floating_point Scalar>
Jets<Scalar> boost_jet(const Jets<Scalar>& jets, const BoostJetOptions& options, const Draws& draws, int threads = 1) {
  require(options.min_factor > 0 && options.min_factor <= options.max_factor && std::isfinite(options.max_factor),
          "the boost's factors run from ", options.min_factor, " to ", options.max_factor,
          ": give finite 0 < min_factor <= max_factor");
  std::vector<double> factors = detail::uniform_per_jet(
      jets.size(), std::log(options.min_factor), std::log(options.max_factor), draws, detail::purpose("boostjet"));
  for (double& factor : factors) {
    factor = std::exp(factor);
  }
  return boost_jet(jets, std::span<const double>(factors), threads);
}

}  // namespace rino
