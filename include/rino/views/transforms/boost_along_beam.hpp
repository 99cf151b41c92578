#pragma once

#include <concepts>
#include <span>
#include <tuple>
#include <vector>

#include <rino/core/fields.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/draws.hpp>
#include <rino/views/transforms/translate.hpp>

namespace rino {

/// Every jet boosted along the beam: all rapidities grow by the jet's shift; every pT, azimuth, mass and difference of
/// rapidities stays. What jets and constituents carry rides along.
///
/// @param rapidities  [n], one shift per jet.
/// @throws rino::Error unless there is one finite shift per jet, or if one is too far for `Scalar`.
template <std::floating_point Scalar>
Jets<Scalar> boost_along_beam(const Jets<Scalar>& jets, std::span<const double> rapidities, int threads = 1) {
  const std::vector<double> none(rapidities.size());
  return translate(jets, rapidities, std::span(none), threads);
}

/// Bound of random boosts along the beam.
struct BoostAlongBeamOptions {
  double max_rapidity = TranslateOptions().max_rapidity;

  static constexpr auto fields() {
    return std::tuple{
        Field{"max_rapidity", &BoostAlongBeamOptions::max_rapidity, "", "random shifts are at most so large"},
    };
  }
};

/// Every jet boosted along the beam by a random rapidity, uniform in [-max_rapidity, max_rapidity].
///
/// @throws rino::Error unless max_rapidity is finite and at least 0.
template <std::floating_point Scalar>
Jets<Scalar> boost_along_beam(const Jets<Scalar>& jets, const BoostAlongBeamOptions& options, const Draws& draws,
                              int threads = 1) {
  const double most = options.max_rapidity;
  detail::require_not_negative(most, "max_rapidity of the boost", "");
  const std::vector<double> rapidities =
      detail::uniform_per_jet(jets.size(), -most, most, draws, detail::purpose("beam"));
  return boost_along_beam(jets, std::span(rapidities), threads);
}

}  // namespace rino
