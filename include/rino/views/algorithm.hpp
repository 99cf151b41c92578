#pragma once

#include <concepts>
#include <string_view>

namespace rino {

/// A sequential recombination algorithm for hadron collisions, told by the exponent p of its distances
/// d_ij = min(pT_i^2p, pT_j^2p) dR_ij^2 / R^2 and d_iB = pT_i^2p, with dR_ij^2 = (y_i - y_j)^2 + (phi_i - phi_j)^2.
template <typename T>
concept ClusteringAlgorithm = requires {
  { T::exponent } -> std::convertible_to<double>;
  { T::name } -> std::convertible_to<std::string_view>;
};

/// kT: soft and collinear first, the order of the renormalisation-group flow
/// (Catani, Dokshitzer, Seymour, Webber 1993; Ellis, Soper 1993, hep-ph/9305266).
struct Kt {
  static constexpr double exponent = 1.0;
  static constexpr std::string_view name = "kt";
};

/// Cambridge/Aachen: collinear first, by angle alone (Dokshitzer et al. 1997, hep-ph/9707323; Wobisch, Wengler 1999).
struct CambridgeAachen {
  static constexpr double exponent = 0.0;
  static constexpr std::string_view name = "cambridge";
};

/// anti-kT: everything near a hard core first (Cacciari, Salam, Soyez 2008, arXiv:0802.1189).
struct AntiKt {
  static constexpr double exponent = -1.0;
  static constexpr std::string_view name = "antikt";
};

static_assert(ClusteringAlgorithm<Kt> && ClusteringAlgorithm<CambridgeAachen> && ClusteringAlgorithm<AntiKt>);

}  // namespace rino
