#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include <rino/jets/jets.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/clustering_history.hpp>

namespace rino {

/// Clusters one jet at a time without FastJet: E-scheme, in double precision, any number n of constituents in some n^2
/// operations, as each object knows its nearest neighbour (Cacciari, Salam 2006, hep-ph/0512210).
///
/// The definition is FastJet's, and so are the subjets to the last bit of their momenta, where distances are equal as
/// well. It is checked against FastJet as FastClusterer is; still, where both are there, FastJet is the reference.
template <ClusteringAlgorithm Algorithm>
class PlainClusterer {
 public:
  static constexpr bool kThreadSafe = true;

  /// @param radius  R, in (0, 1000].
  explicit PlainClusterer(double radius) : radius2_(radius * radius) {}

  /// @see Clusterer
  template <typename Scalar, typename Visitor>
  void operator()(const Jets<Scalar>& jets, std::int64_t first, std::int64_t last, const Visitor& visit) {
    for (std::int64_t j = first; j < last; ++j) {
      history_.clear();
      history_.add_constituents(jets, j);
      cluster();
      visit(j, history_);
    }
  }

 private:
  using Index = std::int64_t;
  static constexpr Index kBeam = -1;

  struct Object {
    Index number;
    double rapidity;
    double phi;
    double scale;     ///< pT^2p
    double near;      ///< squared distance of its nearest neighbour within R; else R^2,
    Index neighbour;  ///< and that is the beam
    double distance;  ///< d_ij R^2 or d_iB R^2
  };

  void cluster() {
    live_.clear();
    for (Index k = 0; k < history_.constituents(); ++k) {
      live_.push_back(object(k));
      settle(live_.size() - 1, kBeam, kBeam);
    }
    for (Index made = history_.constituents(); !live_.empty(); ++made) {
      // FastJet's places, by which it chooses among equal distances: the first; what is merged takes the lower place,
      // the last object fills the other.
      const auto next = std::min_element(live_.begin(), live_.end(),
                                         [](const Object& a, const Object& b) { return a.distance < b.distance; });
      const Index one = next->number;
      const Index two = next->neighbour;
      const double distance = next->distance / radius2_;
      if (two == kBeam) {
        history_.merge_with_beam(one, distance);
        *next = live_.back();
        live_.pop_back();
        settle(live_.size(), one, one);
        continue;
      }
      const ClusteringHistory::Momentum p = momentum(one);
      const ClusteringHistory::Momentum q = momentum(two);
      history_.merge(one, two, distance, {p[0] + q[0], p[1] + q[1], p[2] + q[2], p[3] + q[3]});
      const auto other = std::find_if(live_.begin(), live_.end(), [&](const Object& o) { return o.number == two; });
      *std::max(next, other) = live_.back();
      live_.pop_back();
      *std::min(next, other) = object(made);
      settle(static_cast<std::size_t>(std::min(next, other) - live_.begin()), one, two);
    }
  }

  const ClusteringHistory::Momentum& momentum(Index number) const {
    return history_.momenta()[static_cast<std::size_t>(number)];
  }

  /// One that has met no other yet.
  Object object(Index number) const {
    const auto& [px, py, pz, e] = momentum(number);
    // As FastJet has it: what has no mass and no pT lies far ahead, apart from others, and no pT is next to none.
    constexpr double kFarthest = 1e5;
    constexpr double kSmallest = 1e-300;
    const double pt2 = px * px + py * py;
    const double larger = e + std::abs(pz);
    const double mt2 = pt2 + std::max((e + pz) * (e - pz) - pt2, 0.0);
    const double size = mt2 > 0 ? -0.5 * std::log(mt2 / (larger * larger)) : kFarthest + std::abs(pz);
    double scale = pt2;
    if constexpr (Algorithm::exponent != 1.0) {
      scale = Algorithm::exponent == 0.0 ? 1.0 : std::pow(std::max(pt2, kSmallest), Algorithm::exponent);
    }
    return {number, pz > 0 ? size : -size, pt2 > 0 ? std::atan2(py, px) : 0.0, scale, radius2_,
            kBeam,  radius2_ * scale};
  }

  /// All know their neighbours again, where there is a new object at a place and two others, by their numbers, are
  /// gone.
  void settle(std::size_t place, Index one, Index two) {
    for (std::size_t k = 0; k < live_.size(); ++k) {
      Object& known = live_[k];
      if (k == place) {
        continue;
      }
      if (known.neighbour != kBeam && (known.neighbour == one || known.neighbour == two)) {
        forget(known);
        for (const Object& other : live_) {
          meet(known, other);
        }
      } else if (place < live_.size()) {
        meet(known, live_[place]);
      }
      if (place < live_.size()) {
        meet(live_[place], known);
      }
    }
  }

  void forget(Object& object) const {
    object.near = radius2_;
    object.neighbour = kBeam;
    object.distance = radius2_ * object.scale;
  }

  static void meet(Object& object, const Object& other) {
    const double dy = object.rapidity - other.rapidity;
    const double turn = std::abs(object.phi - other.phi);
    const double dphi = std::min(turn, 2 * std::numbers::pi - turn);
    const double d = dy * dy + dphi * dphi;
    if (d < object.near && &other != &object) {
      object.near = d;
      object.neighbour = other.number;
      object.distance = d * std::min(object.scale, other.scale);
    }
  }

  double radius2_;
  ClusteringHistory history_;
  std::vector<Object> live_;
};

static_assert(Clusterer<PlainClusterer<Kt>, float> && Clusterer<PlainClusterer<CambridgeAachen>, double> &&
              Clusterer<PlainClusterer<AntiKt>, double>);

}  // namespace rino
