#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/simd/target.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/clustering_history.hpp>
#include <rino/views/detail/kt_lanes.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// The algorithms that FastClusterer knows: kT, Cambridge/Aachen and anti-kT.
template <typename T>
concept FastAlgorithm = ClusteringAlgorithm<T> && (T::exponent == 1.0 || T::exponent == 0.0 || T::exponent == -1.0);

/// Radii below this are not known to FastClusterer.
inline constexpr double kSmallestFastRadius = 1e-3;

/// Clusters many jets at once, one in each lane of the machine's vectors, and takes the views on the way, without a
/// history: when the number of objects or the distance is what a resolution asks for, those that stand are the view.
///
/// The same definition as FastJet's, E-scheme, double precision: the subjets are the same, to the last bit of their
/// momenta. Where rounding could decide which pair is nearer (equal distances, constituents in one direction, without
/// pT, or at |y| > 16) a jet is not `decided`, and FastJet should be asked. Results do not depend on the instruction
/// set, nor on what jets are clustered together.
///
/// Jets are put in with `add`, clustered with `run`, read, and forgotten with `clear`; or all of a range by a call. One
/// object serves one thread; its memory does not depend on the number of jets.
template <FastAlgorithm Algorithm>
class FastClusterer {
 public:
  using Index = std::int64_t;

  /// Jets of more constituents do not fit.
  static constexpr Index kMostConstituents = detail::kt::kCapacity;
  /// Jets of a range that are put in order together: enough to find some of like multiplicity.
  static constexpr Index kRange = 128;

  /// @param resolutions  views to make; if there are none the clustering goes on to the end, for `history`.
  explicit FastClusterer(double radius, const std::vector<Resolution>& resolutions = {},
                         simd::Target target = simd::best_target())
      : resolutions_(resolutions), kernel_(detail::kt::kernel<Algorithm::exponent == 0.0>(target)) {
    for (const Resolution& resolution : resolutions_) {
      if (resolution.kind() == Resolution::Kind::subjets) {
        // More than fit are all.
        stops_.push_back(static_cast<std::int32_t>(std::min<double>(resolution.value(), detail::kt::kCapacity)));
      } else if (resolution.kind() != Resolution::Kind::particles) {
        scales_.push_back(resolution);
      }
    }
    if (resolutions_.empty()) {
      stops_.push_back(0);
    }
    std::sort(stops_.begin(), stops_.end(), std::greater<>());
    stops_.erase(std::unique(stops_.begin(), stops_.end()), stops_.end());
    const double reach = std::min(radius, 32.0);
    plan_.radius = radius;
    plan_.exponent = static_cast<int>(Algorithm::exponent);
    plan_.stops = stops_.data();
    plan_.stop_count = static_cast<int>(stops_.size());
    plan_.cut_count = static_cast<int>(scales_.size());
    plan_.near_tolerance = 2 * detail::kt::kTagged * reach * reach + 2 * detail::kt::kPlane * reach;
    for (std::size_t v = 0, scale = 0; v < resolutions_.size(); ++v) {
      const Resolution& resolution = resolutions_[v];
      if (resolution.kind() == Resolution::Kind::subjets) {
        const auto stop = static_cast<std::int32_t>(std::min<double>(resolution.value(), detail::kt::kCapacity));
        snapshots_.push_back(1 + static_cast<int>(std::find(stops_.begin(), stops_.end(), stop) - stops_.begin()));
      } else if (resolution.kind() == Resolution::Kind::particles) {
        snapshots_.push_back(0);
      } else {
        snapshots_.push_back(1 + plan_.stop_count + static_cast<int>(scale++));
      }
    }
    for (detail::kt::Group& group : groups_) {
      allocate(group);
    }
    clear();
  }

  FastClusterer(const FastClusterer&) = delete;
  FastClusterer& operator=(const FastClusterer&) = delete;

  /// The number of jets that are clustered at once.
  int places() const { return static_cast<int>(kGroups) * kernel_.lanes; }

  /// Forgets all jets.
  void clear() {
    for (detail::kt::Group& group : groups_) {
      std::fill(std::begin(group.constituents), std::end(group.constituents), 0);
    }
  }

  /// Puts jet j into a place, 0 .. places()-1. It must have kMostConstituents at most.
  template <typename Scalar>
  void add(int place, const Jets<Scalar>& jets, Index j) {
    auto [group, lane] = at(place);
    const Index first = jets.begin(j);
    const Index n = jets.multiplicity(j);
    group.constituents[lane] = static_cast<std::int32_t>(n);
    std::array<const Scalar*, 4> columns;
    bool dense = true;
    for (std::size_t c = 0; c < 4; ++c) {
      const typename Jets<Scalar>::Column& column = jets.columns()[c];
      columns[c] = column.data + first * column.stride;
      dense = dense && column.stride == 1;
    }
    if constexpr (std::is_same_v<Scalar, double>) {
      if (dense) {
        kernel_.read64(group, lane, columns.data(), static_cast<std::int32_t>(n));
      }
    } else {
      if (dense) {
        kernel_.read32(group, lane, columns.data(), static_cast<std::int32_t>(n));
      }
    }
    if (!dense) {
      for (Index i = 0; i < n; ++i) {
        const FourMomentum<double> p = jets.constituent(first + i).template cast<double>();
        group.momenta[i * kernel_.lanes + lane] = {{p[0], p[1], p[2], p[3]}};
      }
    }
    if (!scales_.empty()) {
      cuts(group, lane, jets, j);
    }
  }

  /// Clusters the jets in all places.
  void run() {
    kernel_.cluster(groups_.data(), static_cast<int>(groups_.size()), plan_);
    for (detail::kt::Group& group : groups_) {
      for (int s = 0; s < detail::kt::snapshot_count(plan_); ++s) {
        for (int lane = 0; lane < kernel_.lanes; ++lane) {
          if (group.unsorted[s * kernel_.lanes + lane]) {
            sort_exactly(group, lane, s);
          }
        }
      }
    }
  }

  /// Clusters jets first .. last-1: visit(j, place) for those that are decided, while they can be read in their places;
  /// leave(j) for the others, and for those of more than kMostConstituents.
  template <typename Scalar, typename Visit, typename Leave>
  void operator()(const Jets<Scalar>& jets, Index first, Index last, const Visit& visit, const Leave& leave) {
    for (Index begin = first; begin < last; begin += kRange) {
      order_.clear();
      for (Index j = begin; j < std::min(begin + kRange, last); ++j) {
        if (jets.multiplicity(j) <= kMostConstituents) {
          order_.push_back(j);
        } else {
          leave(j);
        }
      }
      // Jets that are clustered at once take as long as the one of most constituents.
      std::sort(order_.begin(), order_.end(),
                [&](Index a, Index b) { return jets.multiplicity(a) > jets.multiplicity(b); });
      for (auto done = order_.begin(); done != order_.end();) {
        clear();
        const auto some = static_cast<int>(std::min<std::ptrdiff_t>(order_.end() - done, places()));
        for (int place = 0; place < some; ++place) {
          add(place, jets, done[place]);
        }
        run();
        for (int place = 0; place < some; ++place) {
          if (decided(place)) {
            visit(done[place], place);
          } else {
            leave(done[place]);
          }
        }
        done += some;
      }
    }
  }

  /// Whether no rounding could have changed the views of a jet.
  bool decided(int place) const {
    const auto [group, lane] = at(place);
    return !group.undecided[lane];
  }

  /// The number of subjets in view v, in the order of the resolutions.
  Index size(int place, std::size_t v) const {
    const auto [group, lane] = at(place);
    return group.sizes[snapshot(group, lane, v) * kernel_.lanes + lane];
  }

  /// Writes the subjets of view v, in its order, to where the four columns (px, py, pz, E) point.
  template <typename Scalar>
  void write(int place, std::size_t v, const std::array<Scalar*, 4>& columns) const {
    const auto [group, lane] = at(place);
    const int s = snapshot(group, lane, v);
    const double* ranks = snapshot_ranks(group, lane, s);
    const std::int32_t size = group.sizes[s * kernel_.lanes + lane];
    if constexpr (std::is_same_v<Scalar, double>) {
      kernel_.write64(group, lane, ranks, size, columns.data());
    } else {
      kernel_.write32(group, lane, ranks, size, columns.data());
    }
  }

  /// [n]: the subjet of every constituent in view v, numbered in its order; -1 for the beam's.
  void subjets_of_constituents(int place, std::size_t v, std::vector<Index>& subjets) const {
    const auto [group, lane] = at(place);
    const int s = snapshot(group, lane, v);
    const double* ranks = snapshot_ranks(group, lane, s);
    const Index n = group.constituents[lane];
    const Index size = group.sizes[s * kernel_.lanes + lane];
    subjets.assign(static_cast<std::size_t>(2 * n), -1);
    for (Index i = 0; i < size; ++i) {
      subjets[static_cast<std::size_t>(number(ranks[i * kernel_.lanes]))] = i;
    }
    const std::vector<Step> steps = steps_of(group, lane, n - size);
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {  // what merged is where its sum is
      if (step->made >= 0) {
        const Index subjet = subjets[static_cast<std::size_t>(step->made)];
        subjets[static_cast<std::size_t>(step->first)] = subjet;
        subjets[static_cast<std::size_t>(step->second)] = subjet;
      }
    }
    subjets.resize(static_cast<std::size_t>(n));
  }

  /// Calls `visit(first, second, distance)` for the steps that were made, all of them if there are no resolutions. What
  /// merges is numbered from n on; second is -1 for a merging with the beam.
  template <typename Visitor>
  void for_each_step(int place, const Visitor& visit) const {
    const auto [group, lane] = at(place);
    for (const Step& step : steps_of(group, lane, group.constituents[lane])) {
      visit(step.first, step.made < 0 ? Index{-1} : step.second, step.distance);
    }
  }

  /// The same as a history.
  void history(int place, ClusteringHistory& history) const {
    const auto [group, lane] = at(place);
    const Index n = group.constituents[lane];
    const auto momentum = [&, lane = lane, &group = group](Index object) {
      const double* p = group.momenta[object * kernel_.lanes + lane].p;
      return ClusteringHistory::Momentum{p[0], p[1], p[2], p[3]};
    };
    history.clear();
    std::vector<Index> objects(static_cast<std::size_t>(2 * n), 0);  // a history numbers beam mergings too
    for (Index i = 0; i < n; ++i) {
      history.add_constituent(momentum(i));
      objects[static_cast<std::size_t>(i)] = i;
    }
    Index next = n;
    for (const Step& step : steps_of(group, lane, n)) {
      const Index first = objects[static_cast<std::size_t>(step.first)];
      if (step.made < 0) {
        history.merge_with_beam(first, step.distance);
      } else {
        history.merge(first, objects[static_cast<std::size_t>(step.second)], step.distance, momentum(step.made));
        objects[static_cast<std::size_t>(step.made)] = next;
      }
      ++next;
    }
  }

 private:
  /// Two groups at work hide each other's waiting.
  static constexpr std::size_t kGroups = 2;

  template <typename G>
  struct Place {
    G& group;
    int lane;
  };
  Place<detail::kt::Group> at(int place) {
    return {groups_[static_cast<std::size_t>(place / kernel_.lanes)], place % kernel_.lanes};
  }
  Place<const detail::kt::Group> at(int place) const {
    return {groups_[static_cast<std::size_t>(place / kernel_.lanes)], place % kernel_.lanes};
  }

  static Index number(double rank) {
    return static_cast<Index>(std::bit_cast<std::uint64_t>(rank) & detail::kt::kNumberMask);
  }

  /// The snapshot that view v is: that of all constituents where there are no more than asked for.
  int snapshot(const detail::kt::Group& group, int lane, std::size_t v) const {
    const int s = snapshots_[v];
    const bool all =
        0 < s && s <= plan_.stop_count && stops_[static_cast<std::size_t>(s - 1)] >= group.constituents[lane];
    return all ? 0 : s;
  }

  double* snapshot_ranks(const detail::kt::Group& group, int lane, int s) const {
    return group.snapshots + static_cast<Index>(s) * detail::kt::kCapacity * kernel_.lanes + lane;
  }

  /// `first` and `second` merged into `made`, or `first` with the beam; then `made` is -1.
  struct Step {
    Index first;
    Index second;
    Index made;
    double distance;
  };

  /// The first `count` steps of a jet, fewer if it made fewer.
  std::vector<Step> steps_of(const detail::kt::Group& group, int lane, Index count) const {
    std::vector<Step> steps;
    steps.reserve(static_cast<std::size_t>(count));
    for (Index pass = 0; pass < group.passes[lane] && static_cast<Index>(steps.size()) < count; ++pass) {
      const double* log = group.log + 3 * pass * kernel_.lanes + lane;
      const Index first = number(log[0]);
      const Index made = number(log[2 * kernel_.lanes]);
      if (made != first) {
        steps.push_back({first, number(log[kernel_.lanes]), made == detail::kt::kNobody ? -1 : made,
                         log[0] / (plan_.radius * plan_.radius)});
      }
    }
    return steps;
  }

  template <typename Scalar>
  void cuts(detail::kt::Group& group, int lane, const Jets<Scalar>& jets, Index j) {
    const double jet_pt = pt(jets.template four_momentum<double>(j));
    sorted_cuts_.clear();
    for (const Resolution& scale : scales_) {
      const double q = scale.kind() == Resolution::Kind::kt ? scale.value() : scale.value() * jet_pt;
      sorted_cuts_.push_back({q * q, 1 + plan_.stop_count + static_cast<std::int32_t>(sorted_cuts_.size())});
    }
    std::sort(sorted_cuts_.begin(), sorted_cuts_.end());
    for (std::size_t k = 0; k < sorted_cuts_.size(); ++k) {
      const std::size_t to = k * static_cast<std::size_t>(kernel_.lanes) + static_cast<std::size_t>(lane);
      group.cuts[to] = sorted_cuts_[k].first;
      group.cut_snapshots[to] = sorted_cuts_[k].second;
    }
  }

  /// By pT as std::hypot gives it, equal pT by the lowest constituent.
  void sort_exactly(const detail::kt::Group& group, int lane, int s) {
    const Index n = group.constituents[lane];
    const Index size = group.sizes[s * kernel_.lanes + lane];
    std::vector<Index> lowest(static_cast<std::size_t>(2 * n));
    std::iota(lowest.begin(), lowest.end(), Index{0});
    for (const Step& step : steps_of(group, lane, n - size)) {
      if (step.made >= 0) {
        lowest[static_cast<std::size_t>(step.made)] =
            std::min(lowest[static_cast<std::size_t>(step.first)], lowest[static_cast<std::size_t>(step.second)]);
      }
    }
    struct Ranked {
      double pt;
      Index lowest;
      double rank;
    };
    double* ranks = snapshot_ranks(group, lane, s);
    std::vector<Ranked> order;
    for (Index i = 0; i < size; ++i) {
      const Index object = number(ranks[i * kernel_.lanes]);
      const double* p = group.momenta[object * kernel_.lanes + lane].p;
      order.push_back({std::hypot(p[0], p[1]), lowest[static_cast<std::size_t>(object)], ranks[i * kernel_.lanes]});
    }
    std::sort(order.begin(), order.end(),
              [](const Ranked& a, const Ranked& b) { return a.pt != b.pt ? a.pt > b.pt : a.lowest < b.lowest; });
    for (Index i = 0; i < size; ++i) {
      ranks[i * kernel_.lanes] = order[static_cast<std::size_t>(i)].rank;
    }
  }

  void allocate(detail::kt::Group& group) {
    using namespace detail::kt;
    const auto lanes = static_cast<std::size_t>(kernel_.lanes);
    const auto snapshots = static_cast<std::size_t>(snapshot_count(plan_));
    const auto cuts = static_cast<std::size_t>(plan_.cut_count);
    group = {};
    group.rows = memory<std::byte>(static_cast<std::size_t>(kRows) * static_cast<std::size_t>(kernel_.row_bytes));
    group.momenta = memory<Momentum>(kNumbers * lanes);
    group.cuts = memory<double>(cuts * lanes);
    group.cut_snapshots = memory<std::int32_t>(cuts * lanes);
    group.log = memory<double>(kPasses * 3 * lanes);
    group.sizes = memory<std::int32_t>(snapshots * lanes);
    group.snapshots = memory<double>(snapshots * kCapacity * lanes);
    group.unsorted = memory<bool>(snapshots * lanes);
    group.ranks = memory<double>(kNumbers * lanes);
    group.slots = memory<std::int64_t>(kNumbers * lanes);
  }

  /// Memory that nobody has written yet: only what is used counts.
  template <typename T>
  T* memory(std::size_t count) {
    memory_.push_back(Memory(static_cast<std::byte*>(::operator new(count * sizeof(T) + 64, std::align_val_t{64}))));
    return reinterpret_cast<T*>(memory_.back().get());
  }

  struct Release {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  using Memory = std::unique_ptr<std::byte, Release>;

  std::vector<Resolution> resolutions_;
  std::vector<Resolution> scales_;
  std::vector<std::int32_t> stops_;
  std::vector<int> snapshots_;  ///< of each view
  detail::kt::Kernel kernel_;
  detail::kt::Plan plan_;
  std::vector<Memory> memory_;
  std::array<detail::kt::Group, kGroups> groups_{};
  std::vector<std::pair<double, std::int32_t>> sorted_cuts_;
  std::vector<Index> order_;
};

}  // namespace rino
