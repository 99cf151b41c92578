#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>

#include <rino/core/named_enum.hpp>
#include <rino/jets/four_momentum.hpp>
#include <rino/jets/kinematics.hpp>

namespace rino {

/// Which features a token carries (arXiv:2509.07486, section 3, and its successor's configuration).
enum class FeatureSet {
  full,         ///< all eleven
  logarithmic,  ///< the seven without px, py, pz, E
  relative,     ///< the five that do not know the jet's own scale
};

template <>
inline constexpr std::array enum_names<FeatureSet> = {
    std::pair{FeatureSet::full, std::string_view("full")},
    std::pair{FeatureSet::logarithmic, std::string_view("logarithmic")},
    std::pair{FeatureSet::relative, std::string_view("relative")},
};

/// All token features in the order in which they are stored; logarithms are natural, of GeV.
inline constexpr std::array<std::string_view, 11> kTokenFeatures = {
    "px", "py", "pz", "E", "log_pt", "log_e", "log_pt_rel", "log_e_rel", "delta_r", "delta_eta", "delta_phi"};

/// The features of a whole jet, in their order.
inline constexpr std::array<std::string_view, 4> kJetFeatures = {"log_e", "log_pt", "eta", "phi"};

/// The positions in `kTokenFeatures` of a set's features.
inline std::span<const std::size_t> feature_indices(FeatureSet set) {
  static constexpr std::array<std::size_t, 11> full{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  static constexpr std::array<std::size_t, 5> relative{6, 7, 8, 9, 10};
  switch (set) {
    case FeatureSet::logarithmic:
      return std::span(full).subspan(4);
    case FeatureSet::relative:
      return relative;
    default:
      return full;
  }
}

/// Momenta and energies enter logarithms as at least this many GeV, and pseudorapidities are cut at `kMaxEta`,
/// so that a particle along the beam has finite features.
inline constexpr double kLogFloor = 1e-10;
inline constexpr double kMaxEta = 20.0;

/// What the features of a token need to know of its jet.
template <typename Scalar>
struct JetFrame {
  Scalar pt, energy;          ///< of the jet itself, GeV
  Scalar axis_eta, axis_phi;  ///< of the sum of the view's subjets

  /// @param jet   four-momentum of the jet before clustering
  /// @param view  sum of the view's subjets; differs from `jet` where something merged with the beam
  static JetFrame make(const FourMomentum<Scalar>& jet, const FourMomentum<Scalar>& view);
};

namespace detail {

template <typename Scalar>
Scalar safe_log(Scalar x) {
  return std::log(std::max(x, static_cast<Scalar>(kLogFloor)));
}

template <typename Scalar>
Scalar safe_eta(const FourMomentum<Scalar>& p) {
  return std::clamp(eta(p), static_cast<Scalar>(-kMaxEta), static_cast<Scalar>(kMaxEta));
}

}  // namespace detail

template <typename Scalar>
JetFrame<Scalar> JetFrame<Scalar>::make(const FourMomentum<Scalar>& jet, const FourMomentum<Scalar>& view) {
  return {rino::pt(jet), jet[3], detail::safe_eta(view), phi(view)};
}

/// The eleven features of one constituent or subjet, in the order of `kTokenFeatures`.
///
/// px, py, pz, E in GeV; log pT, log E; log(pT/pT_jet), log(E/E_jet); dR, deta, dphi to the view's axis, with eta
/// the pseudorapidity. Source: arXiv:2509.07486, section 3.
template <typename Scalar>
std::array<Scalar, 11> token_features(const FourMomentum<Scalar>& p, const JetFrame<Scalar>& jet) {
  const Scalar log_pt = detail::safe_log(pt(p));
  const Scalar log_e = detail::safe_log(p[3]);
  const Scalar d_eta = detail::safe_eta(p) - jet.axis_eta;
  const Scalar d_phi = delta_phi(phi(p), jet.axis_phi);
  return {p[0],
          p[1],
          p[2],
          p[3],
          log_pt,
          log_e,
          log_pt - detail::safe_log(jet.pt),
          log_e - detail::safe_log(jet.energy),
          std::hypot(d_eta, d_phi),
          d_eta,
          d_phi};
}

/// The four features of a jet: log E, log pT, eta, phi. Source: arXiv:2509.07486, section 3.
template <typename Scalar>
std::array<Scalar, 4> jet_features(const FourMomentum<Scalar>& jet) {
  return {detail::safe_log(jet[3]), detail::safe_log(pt(jet)), detail::safe_eta(jet), phi(jet)};
}

}  // namespace rino
