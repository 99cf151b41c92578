#pragma once

#include <concepts>
#include <span>
#include <vector>

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

/// Every jet boosted along the beam by a random rapidity, uniform in [-max_rapidity, max_rapidity].
///
/// @throws rino::Error unless max_rapidity is finite and at least 0.
template <std::floating_point Scalar>
Jets<Scalar> boost_along_beam(const Jets<Scalar>& jets, double max_rapidity, const Draws& draws, int threads = 1) {
  detail::require_not_negative(max_rapidity, "max_rapidity of the boost", "");
  const std::vector<double> rapidities =
      detail::uniform_per_jet(jets.size(), -max_rapidity, max_rapidity, draws, detail::purpose("beam"));
  return boost_along_beam(jets, std::span(rapidities), threads);
}

}  // namespace rino
