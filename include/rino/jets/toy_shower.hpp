#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>

/// A toy parton shower, for tests and benchmarks only: it needs no event generator and takes microseconds a jet.
/// Its jets have the multiplicity, the soft and collinear structure and the prongs of real ones, roughly; no
/// statement about physics may rest on it.
namespace rino {

/// What the toy shower makes. Momenta in GeV.
struct ToyShowerOptions {
  /// Number of jets.
  std::int64_t jets = 1000;
  /// Probability that a jet is top-like (three prongs, label 1) and not QCD-like (one prong, label 0).
  double top_fraction = 0.0;
  /// Jet pT: falling as pT^-5 between these two.
  double pt_min = 500.0;
  double pt_max = 1000.0;
  /// Jet pseudorapidity: flat between -eta_max and eta_max.
  double eta_max = 2.0;
  /// Constituents lie within this distance of the first parton in the (rapidity, phi) plane, or barely outside.
  double radius = 0.8;
  /// Number of constituents: normal, rounded, and drawn again outside [multiplicity_min, multiplicity_max].
  /// A top-like jet has three at least.
  double multiplicity_mean = 44.0;
  double multiplicity_std = 16.0;
  std::int64_t multiplicity_min = 1;
  std::int64_t multiplicity_max = 200;
  /// No parton softer than this and no splitting of less relative transverse momentum, in GeV, unless the
  /// multiplicity cannot be reached otherwise.
  double cutoff = 0.5;
};

namespace detail {

/// A parton of the toy shower: massless, at (rapidity, phi); it radiates at most `angle` away.
struct ToyParton {
  double pt = 0.0;
  double rapidity = 0.0;
  double phi = 0.0;
  double angle = 0.0;
};

/// A direction of flight drawn evenly from the sphere, as (x, y, z).
inline std::array<double, 3> toy_direction(Random& random) {
  const double z = random.uniform(-1.0, 1.0);
  const double angle = random.uniform(0.0, 2.0 * std::numbers::pi);
  const double transverse = std::sqrt((1.0 - z) * (1.0 + z));
  return {transverse * std::cos(angle), transverse * std::sin(angle), z};
}

/// `p` as (px, py, pz, E), given in the rest frame of `parent`, of mass `mass`, seen where `parent` moves.
inline std::array<double, 4> toy_boost(const std::array<double, 4>& p, const std::array<double, 4>& parent,
                                       double mass) {
  const double along = p[0] * parent[0] + p[1] * parent[1] + p[2] * parent[2];
  const double energy = (p[3] * parent[3] + along) / mass;
  const double factor = (p[3] + energy) / (parent[3] + mass);
  return {p[0] + factor * parent[0], p[1] + factor * parent[1], p[2] + factor * parent[2], energy};
}

/// b, q and q' of a top quark of the given pT at rapidity 0 and phi 0, all within `radius` of it (of fewer
/// tries than a thousand; then they are moved closer).
inline std::vector<ToyParton> toy_top(Random& random, double pt, double radius) {
  constexpr double top_mass = 172.5;
  constexpr double w_mass = 80.4;
  const std::array<double, 4> top{pt, 0.0, 0.0, std::hypot(pt, top_mass)};
  std::vector<ToyParton> prongs(3);
  for (int attempt = 0;; ++attempt) {
    const double momentum = (top_mass * top_mass - w_mass * w_mass) / (2.0 * top_mass);
    const std::array<double, 3> w = toy_direction(random);
    const std::array<double, 3> q = toy_direction(random);
    const std::array<double, 4> w_boson =
        toy_boost({momentum * w[0], momentum * w[1], momentum * w[2], std::hypot(momentum, w_mass)}, top, top_mass);
    const std::array<std::array<double, 4>, 3> quarks{
        toy_boost({-momentum * w[0], -momentum * w[1], -momentum * w[2], momentum}, top, top_mass),
        toy_boost({w_mass / 2 * q[0], w_mass / 2 * q[1], w_mass / 2 * q[2], w_mass / 2}, w_boson, w_mass),
        toy_boost({-w_mass / 2 * q[0], -w_mass / 2 * q[1], -w_mass / 2 * q[2], w_mass / 2}, w_boson, w_mass)};
    double widest = 0.0;
    for (std::size_t i = 0; i < 3; ++i) {
      const double transverse = std::hypot(quarks[i][0], quarks[i][1]);
      prongs[i] = {transverse, std::asinh(quarks[i][2] / transverse), std::atan2(quarks[i][1], quarks[i][0]),
                   radius / 4.0};
      widest = std::max(widest, std::hypot(prongs[i].rapidity, prongs[i].phi));
    }
    if (widest < radius || attempt == 1000) {
      for (ToyParton& prong : prongs) {
        prong.rapidity *= std::min(1.0, radius / widest);
        prong.phi *= std::min(1.0, radius / widest);
      }
      return prongs;
    }
  }
}

/// Splits one of `partons` in two. A harder parton radiates more often (weight pT^(1/4)); the softer product takes a
/// fraction z of its pT and stands `angle` away, with even density in ln z and ln angle while z pT angle is above
/// the cutoff (the Lund plane); it then radiates within that angle (angular ordering). pT times position is conserved.
inline void toy_split(Random& random, std::vector<ToyParton>& partons, double cutoff, double radius) {
  const bool all_soft =
      std::none_of(partons.begin(), partons.end(), [&](const ToyParton& p) { return p.pt > 2.0 * cutoff; });
  const auto weight = [&](const ToyParton& p) {
    return all_soft || p.pt > 2.0 * cutoff ? std::sqrt(std::sqrt(p.pt)) : 0.0;
  };
  double total = 0.0;
  for (const ToyParton& p : partons) {
    total += weight(p);
  }
  double pick = random.uniform() * total;
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < partons.size(); ++i) {
    if (weight(partons[i]) > 0.0) {
      chosen = i;
      pick -= weight(partons[i]);
      if (pick < 0.0) {
        break;
      }
    }
  }
  ToyParton& hard = partons[chosen];
  const double lowest = std::min(cutoff / hard.pt, 0.4);
  const double z = lowest * std::exp(random.uniform() * std::log(0.5 / lowest));
  const double smallest = std::min(cutoff / (z * hard.pt), 0.5 * hard.angle);
  double angle = smallest * std::exp(random.uniform() * std::log(hard.angle / smallest));
  const double azimuth = random.uniform(0.0, 2.0 * std::numbers::pi);
  ToyParton soft;
  do {
    soft = {z * hard.pt, hard.rapidity + (1.0 - z) * angle * std::cos(azimuth),
            hard.phi + (1.0 - z) * angle * std::sin(azimuth), angle};
    angle /= 2.0;
  } while (std::hypot(soft.rapidity, soft.phi) > radius && angle > smallest / 2.0);
  hard.rapidity -= z / (1.0 - z) * (soft.rapidity - hard.rapidity);
  hard.phi -= z / (1.0 - z) * (soft.phi - hard.phi);
  hard.pt *= 1.0 - z;
  partons.push_back(soft);
}

}  // namespace detail

/// Jets of a toy parton shower, labelled 0 (QCD-like) and 1 (top-like); constituents are massless.
///
/// Jet j depends on (options, seed, j) alone, so fewer jets are a prefix of more. Platforms may differ by the last
/// digits of their exp, log and cos.
///
/// @throws rino::Error if an option is out of range.
template <std::floating_point Scalar>
Jets<Scalar> toy_shower(const ToyShowerOptions& options, std::uint64_t seed) {
  require(options.jets >= 0, "toy_shower: jets is ", options.jets, ": give 0 or more");
  require(options.top_fraction >= 0 && options.top_fraction <= 1, "toy_shower: top_fraction is ", options.top_fraction,
          ": give a probability, 0 to 1");
  require(options.pt_min > 0 && options.pt_min <= options.pt_max, "toy_shower: pT runs from ", options.pt_min, " to ",
          options.pt_max, " GeV: give 0 < pt_min <= pt_max");
  require(options.eta_max >= 0, "toy_shower: eta_max is ", options.eta_max, ": give 0 or more");
  require(options.radius > 0, "toy_shower: radius is ", options.radius, ": give R > 0");
  require(options.cutoff > 0, "toy_shower: cutoff is ", options.cutoff, " GeV: give more than 0");
  require(options.multiplicity_min >= 1 && options.multiplicity_min <= options.multiplicity_max,
          "toy_shower: multiplicity runs from ", options.multiplicity_min, " to ", options.multiplicity_max,
          ": give 1 <= multiplicity_min <= multiplicity_max");
  constexpr std::uint64_t purpose = 0x746f79;  // "toy"
  std::array<std::vector<Scalar>, 4> columns;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int64_t> labels;
  for (std::int64_t j = 0; j < options.jets; ++j) {
    Random random({seed, purpose, static_cast<std::uint64_t>(j)});
    const bool top = random.uniform() < options.top_fraction;
    const double steepness = random.uniform();
    const double pt = std::pow(
        (1.0 - steepness) * std::pow(options.pt_min, -4.0) + steepness * std::pow(options.pt_max, -4.0), -0.25);
    const double eta = random.uniform(-options.eta_max, options.eta_max);
    const double phi = random.uniform(-std::numbers::pi, std::numbers::pi);
    double drawn = -1.0;
    const auto low = static_cast<double>(options.multiplicity_min);
    const auto high = static_cast<double>(options.multiplicity_max);
    for (int attempt = 0; attempt < 1000 && !(drawn >= low && drawn <= high); ++attempt) {
      drawn = std::round(options.multiplicity_mean + options.multiplicity_std * random.normal());
    }
    const auto multiplicity = static_cast<std::size_t>(std::clamp(drawn, low, high));
    std::vector<detail::ToyParton> partons = top ? detail::toy_top(random, pt, options.radius)
                                                 : std::vector<detail::ToyParton>{{pt, 0.0, 0.0, options.radius}};
    while (partons.size() < multiplicity) {
      detail::toy_split(random, partons, options.cutoff, options.radius);
    }
    for (const detail::ToyParton& p : partons) {
      columns[0].push_back(static_cast<Scalar>(p.pt * std::cos(phi + p.phi)));
      columns[1].push_back(static_cast<Scalar>(p.pt * std::sin(phi + p.phi)));
      columns[2].push_back(static_cast<Scalar>(p.pt * std::sinh(eta + p.rapidity)));
      columns[3].push_back(static_cast<Scalar>(p.pt * std::cosh(eta + p.rapidity)));
    }
    offsets.push_back(static_cast<std::int64_t>(columns[0].size()));
    labels.push_back(top ? 1 : 0);
  }
  return Jets<Scalar>::from_columns(std::move(columns), std::move(offsets)).with_labels(std::move(labels));
}

}  // namespace rino
