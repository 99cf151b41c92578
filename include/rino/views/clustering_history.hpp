#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <vector>

#include <rino/jets/jets.hpp>

namespace rino {

/// How the n constituents of one jet merged, step by step, as a clusterer tells it and views are read from it.
///
/// Objects are numbered: 0 .. n-1 are the constituents, step s makes object n+s out of two earlier ones, or hands
/// one earlier object to the beam (object n+s then only marks that). Every step leaves one object fewer, so n
/// steps leave none, and the exclusive clustering to m subjets is what stands after n-m steps.
class ClusteringHistory {
 public:
  using Index = std::int64_t;
  /// (px, py, pz, E) in GeV.
  using Momentum = std::array<double, 4>;

  /// Forgets the last jet, keeps the memory.
  void clear() {
    constituents_ = 0;
    objects_.clear();
    scales_.clear();
    momenta_.clear();
    order_.clear();
  }

  /// All constituents come first, in the jet's order.
  void add_constituent(const Momentum& p) {
    objects_.push_back({-1, -1, kNever, constituents_, transverse(p)});
    momenta_.push_back(p);
    ++constituents_;
  }

  /// All constituents of jet j.
  template <typename Scalar>
  void add_constituents(const Jets<Scalar>& jets, Index j) {
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      const FourMomentum<double> p = jets.constituent(i).template cast<double>();
      add_constituent({p[0], p[1], p[2], p[3]});
    }
  }

  /// The next step: objects `first` and `second` merged into one of momentum `p` at `distance` (d_ij).
  void merge(Index first, Index second, double distance, const Momentum& p) {
    const Index step = size();
    Object& one = object(first);
    Object& two = object(second);
    one.consumed = two.consumed = step;
    objects_.push_back({first, second, kNever, std::min(one.lowest, two.lowest), transverse(p)});
    momenta_.push_back(p);
    add_scale(distance);
  }

  /// The next step: object `first` merged with the beam at `distance` (d_iB).
  void merge_with_beam(Index first, double distance) {
    Object& one = object(first);
    one.consumed = size();
    objects_.push_back({first, -1, kBeam, one.lowest, 0.0});
    momenta_.push_back({});
    add_scale(distance);
  }

  /// Sorts the objects once for all views: descending pT, equal pT by the lowest constituent contained.
  /// To be called after the last step, before `for_each_subjet` and `subjets_of_constituents`.
  void rank() {
    order_.clear();
    for (Index k = 0; k < size(); ++k) {
      if (object(k).consumed != kBeam) {
        order_.push_back({object(k).pt, object(k).lowest, k, object(k).consumed});
      }
    }
    std::sort(order_.begin(), order_.end(), [](const Ranked& a, const Ranked& b) {
      return a.pt != b.pt ? a.pt > b.pt : a.lowest != b.lowest ? a.lowest < b.lowest : a.object < b.object;
    });
  }

  /// [objects] The momenta of all objects; zero for the marks of beam mergings.
  const std::vector<Momentum>& momenta() const { return momenta_; }

  /// n.
  Index constituents() const { return constituents_; }

  /// [steps] The largest distance up to each step; that at [n-N-1] is d_N, FastJet's exclusive_dmerge_max(N).
  const std::vector<double>& scales() const { return scales_; }

  /// How many subjets the exclusive clustering at `dcut` leaves: those after the last step up to which no distance
  /// was above dcut. 0 if all went to the beam.
  Index exclusive(double dcut) const {
    const auto merged = std::upper_bound(scales_.begin(), scales_.end(), dcut) - scales_.begin();
    return constituents_ - static_cast<Index>(merged);
  }

  /// Calls `visit(momentum)` for each of the `count` subjets of the exclusive clustering to that number, in
  /// descending pT.
  template <typename Visitor>
  void for_each_subjet(Index count, const Visitor& visit) const {
    for_each_alive(count, [&](Index k) { visit(momenta_[static_cast<std::size_t>(k)]); });
  }

  /// [n]: the subjet of every constituent, numbered as `for_each_subjet` visits them; -1 for the beam's.
  void subjets_of_constituents(Index count, std::vector<Index>& subjets) const {
    subjets.assign(objects_.size(), -1);
    Index next = 0;
    for_each_alive(count, [&](Index k) { subjets[static_cast<std::size_t>(k)] = next++; });
    for (Index k = steps_at(count); k-- > constituents_;) {
      for (const Index parent : {object(k).first, object(k).second}) {
        if (parent >= 0) {
          subjets[static_cast<std::size_t>(parent)] = subjets[static_cast<std::size_t>(k)];
        }
      }
    }
    subjets.resize(static_cast<std::size_t>(constituents_));
  }

 private:
  static constexpr Index kNever = INT64_MAX;
  static constexpr Index kBeam = -1;

  struct Object {
    Index first;     ///< the objects it is made of, -1 if none
    Index second;    ///<
    Index consumed;  ///< the object whose making ended it; kNever: not yet; kBeam: this is no object but a mark
    Index lowest;    ///< the lowest constituent in it
    double pt;
  };

  struct Ranked {
    double pt;
    Index lowest;
    Index object;
    Index consumed;
  };

  Index size() const { return static_cast<Index>(objects_.size()); }
  Object& object(Index k) { return objects_[static_cast<std::size_t>(k)]; }
  const Object& object(Index k) const { return objects_[static_cast<std::size_t>(k)]; }

  /// pT; 0 if sums of components near the largest double have overflowed, so that sorting stays well-defined.
  static double transverse(const Momentum& p) {
    const double pt = std::hypot(p[0], p[1]);
    return std::isnan(pt) ? 0.0 : pt;
  }

  void add_scale(double distance) {
    scales_.push_back(scales_.empty() ? distance : std::max(scales_.back(), distance));
  }

  /// The number of objects made when `count` are left.
  Index steps_at(Index count) const { return 2 * constituents_ - count; }

  template <typename Visitor>
  void for_each_alive(Index count, const Visitor& visit) const {
    const Index stop = steps_at(count);
    for (auto ranked = order_.begin(); count > 0 && ranked != order_.end(); ++ranked) {
      if (ranked->object < stop && ranked->consumed >= stop) {
        visit(ranked->object);
        --count;
      }
    }
  }

  Index constituents_ = 0;
  std::vector<Object> objects_;
  std::vector<Momentum> momenta_;
  std::vector<double> scales_;  ///< [steps] the largest distance so far
  std::vector<Ranked> order_;
};

/// What makes clustering histories: made from a radius R, called as `clusterer(jets, first, last, visit)`, it calls
/// `visit(j, history)` for the jets first .. last-1 in ascending order (it may work on several at once before).
/// One object serves one thread; `kThreadSafe` says whether several objects may work at the same time.
template <typename T, typename Scalar>
concept Clusterer =
    std::constructible_from<T, double> &&
    requires(T clusterer, const Jets<Scalar>& jets, std::int64_t j, void (*visit)(std::int64_t, ClusteringHistory&)) {
      { T::kThreadSafe } -> std::convertible_to<bool>;
      clusterer(jets, j, j, visit);
    };

}  // namespace rino
