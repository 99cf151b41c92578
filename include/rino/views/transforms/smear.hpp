#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numbers>
#include <tuple>
#include <utility>

#include <Eigen/Core>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/random.hpp>
#include <rino/jets/four_momentum.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// The resolution of a detector, per constituent. The terms of one quantity add in quadrature; 0 switches one off.
struct SmearOptions {
  double stochastic = 0.1;
  double constant = 0.02;
  double eta = 0.005;
  double phi = 0.005;
  double soft = 0.0;

  static constexpr auto fields() {
    using Self = SmearOptions;
    return std::tuple{
        Field{"stochastic", &Self::stochastic, "sqrt(GeV)",
              "term a of sigma(pT)/pT = sqrt(a^2 / pT + b^2), at most 10"},
        Field{"constant", &Self::constant, "", "term b of sigma(pT)/pT"},
        Field{"eta", &Self::eta, "", "resolution of the pseudorapidity"},
        Field{"phi", &Self::phi, "rad", "resolution of the azimuth"},
        Field{"soft", &Self::soft, "GeV",
              "Lambda of JetCLR's distortion (arXiv:2108.04253; 0.1 there): Lambda / pT in quadrature with eta and "
              "with phi, at most pi"},
    };
  }
};

/// The constituents' pT, pseudorapidity and azimuth smeared as a detector does; their masses stay.
/// What jets and constituents carry rides along.
///
/// pT is multiplied by a log-normal number of mean 1 and of the relative resolution as its standard deviation, which
/// is normal where the resolution is small and leaves pT above 0 where it is not. Directions get normal noise in
/// (eta, phi), since a detector measures directions and not rapidities. The soft term is the distortion of JetCLR
/// (arXiv:2108.04253, 0.1 GeV there), the wiggling of soft radiation. No relative resolution of pT is above 10, no
/// angular one above pi. Constituents of pT = 0 have no pseudorapidity and stay as they are. Worked out in double
/// precision. The constituents' order stays too: they are no longer sorted where noise has swapped two pT.
///
/// @throws rino::Error unless all options are finite and at least 0, and the angular ones at most pi.
template <std::floating_point Scalar>
Jets<Scalar> smear(const Jets<Scalar>& jets, const SmearOptions& options, const Draws& draws, int threads = 1) {
  constexpr double pi = std::numbers::pi;
  detail::require_not_negative(options.stochastic, "the stochastic term of the pT resolution", " sqrt(GeV)");
  detail::require_not_negative(options.constant, "the constant term of the pT resolution", "");
  detail::require_not_negative(options.soft, "the soft term of the angular resolution", " GeV");
  require(options.eta >= 0 && options.eta <= pi, "the resolution of eta is ", options.eta, ": give 0 to pi");
  require(options.phi >= 0 && options.phi <= pi, "the resolution of phi is ", options.phi, ": give 0 to pi");
  const bool scaled = options.stochastic > 0 || options.constant > 0;
  const bool turned = options.eta > 0 || options.phi > 0 || options.soft > 0;
  return detail::move_constituents(jets, threads, [&](std::int64_t j, const auto& write) {
    Random of_pt = draws.random(detail::purpose("smear pt"), j);
    Random of_angles = draws.random(detail::purpose("smeareta"), j);
    double spare = 0.0;
    for (std::int64_t i = jets.begin(j); i < jets.end(j); ++i) {
      FourMomentum<double> p = jets.constituent(i).template cast<double>();
      const double pt_squared = p[0] * p[0] + p[1] * p[1];
      const double pt = std::sqrt(pt_squared);
      double factor = 1.0;
      if (scaled) {
        const bool even = (i - jets.begin(j)) % 2 == 0;
        const auto [normal, next] = even ? detail::normal_pair(of_pt) : std::pair(spare, 0.0);
        spare = next;
        // A log-normal number of mean 1 and variance v: its logarithm has the variance ln(1 + v), the mean minus half.
        const double variance = options.stochastic * options.stochastic / pt + options.constant * options.constant;
        const double of_logarithm = std::log1p(std::min(variance, 100.0));
        factor = std::exp(std::sqrt(of_logarithm) * normal - 0.5 * of_logarithm);
      }
      const auto [eta_noise, phi_noise] = turned ? detail::normal_pair(of_angles) : std::pair(0.0, 0.0);
      if (pt_squared < std::numeric_limits<double>::min()) {
        write(i, p);
        continue;
      }
      const double momentum = std::sqrt(pt_squared + p[2] * p[2]);
      const double mass_squared = std::max((p[3] - momentum) * (p[3] + momentum), 0.0);
      if (turned) {
        const double soft = options.soft / pt;
        const double eta = eta_noise * std::min(std::sqrt(options.eta * options.eta + soft * soft), pi);
        const double phi = phi_noise * std::min(std::sqrt(options.phi * options.phi + soft * soft), pi);
        const double growth = std::exp(eta);
        const double cosine = std::cos(phi);
        const double sine = std::sin(phi);
        // pz = pT sinh(eta), |p| = pT cosh(eta), and the addition theorem of sinh.
        p = {cosine * p[0] - sine * p[1], sine * p[0] + cosine * p[1],
             0.5 * ((growth + 1.0 / growth) * p[2] + (growth - 1.0 / growth) * momentum), 0.0};
      }
      const Eigen::Vector3d moved = factor * p.head<3>();
      write(i, {moved[0], moved[1], moved[2], std::sqrt(moved.squaredNorm() + mass_squared)});
    }
  });
}

}  // namespace rino
