#pragma once

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
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

namespace detail {

/// A shift in the (rapidity, phi) plane: the boost along the beam and the rotation around it.
class PlaneShift {
 public:
  PlaneShift(double rapidity, double phi) : factor_(std::exp(rapidity)), cosine_(std::cos(phi)), sine_(std::sin(phi)) {}

  FourMomentum<double> operator()(const FourMomentum<double>& p) const {
    FourMomentum<double> moved = boost_along(p, Eigen::Vector3d::UnitZ(), factor_);
    moved[0] = cosine_ * p[0] - sine_ * p[1];
    moved[1] = sine_ * p[0] + cosine_ * p[1];
    return moved;
  }

 private:
  double factor_;
  double cosine_;
  double sine_;
};

}  // namespace detail

/// Every jet moved as a whole in the (rapidity, phi) plane. What jets and constituents carry rides along.
///
/// A shift of all rapidities is the boost along the beam, a shift of all azimuths the rotation around it: the Lorentz
/// transformation keeps every pT, the masses of constituents, subjets and jets, and all distances in the plane. JetCLR
/// (arXiv:2108.04253) shifts pseudorapidities, which is the same for massless constituents and changes the invariant
/// masses of massive ones. Worked out in double precision.
///
/// @param rapidities  [n], one shift per jet.
/// @param phis        [n], one shift per jet, in radians.
/// @throws rino::Error unless there is one finite shift of both kinds per jet, or if one is too far for `Scalar`.
template <std::floating_point Scalar>
Jets<Scalar> translate(const Jets<Scalar>& jets, std::span<const double> rapidities, std::span<const double> phis,
                       int threads = 1) {
  detail::require_per_jet(rapidities, jets.size(), "the shift in rapidity");
  detail::require_per_jet(phis, jets.size(), "the shift in phi");
  return detail::move_constituents(jets, threads, [&](std::int64_t j, const auto& write) {
    const detail::PlaneShift shift(rapidities[static_cast<std::size_t>(j)], phis[static_cast<std::size_t>(j)]);
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      write(i, shift(jets.constituent(i).template cast<double>()));
    }
  });
}

/// Half the sides of the box in which a random shift is uniform.
struct TranslateOptions {
  double max_rapidity = 1.0;
  double max_phi = 1.0;

  static constexpr auto fields() {
    using Self = TranslateOptions;
    return std::tuple{
        Field{"max_rapidity", &Self::max_rapidity, "", "random shifts in rapidity are at most so large"},
        Field{"max_phi", &Self::max_phi, "rad", "random shifts in phi are at most so large; pi for all azimuths"},
    };
  }
};

/// Every jet moved by a random shift, uniform in [-max_rapidity, max_rapidity] x [-max_phi, max_phi].
///
/// @throws rino::Error unless both are finite and at least 0.
template <std::floating_point Scalar>
Jets<Scalar> translate(const Jets<Scalar>& jets, const TranslateOptions& options, const Draws& draws, int threads = 1) {
  detail::require_not_negative(options.max_rapidity, "max_rapidity of the shift", "");
  detail::require_not_negative(options.max_phi, "max_phi of the shift", "");
  const std::vector<double> rapidities = detail::uniform_per_jet(
      jets.size(), -options.max_rapidity, options.max_rapidity, draws, detail::purpose("shift y"));
  const std::vector<double> phis =
      detail::uniform_per_jet(jets.size(), -options.max_phi, options.max_phi, draws, detail::purpose("shiftphi"));
  return translate(jets, std::span(rapidities), std::span(phis), threads);
}

}  // namespace rino
