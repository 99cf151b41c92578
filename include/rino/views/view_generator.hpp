#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/clustering_history.hpp>
#include <rino/views/fastjet.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// How views are made.
struct ViewOptions {
  /// R of the clustering distances, in (0, 1000].
  double radius = 0.8;
  /// Number of threads, 1 or more; the views do not depend on it. A backend that is not thread-safe uses one.
  int threads = 1;
};

/// Makes the views of jets at several resolutions; each jet is clustered once for all of them (E-scheme).
///
/// The subjets of a view are those of FastJet's exclusive clustering, beam mergings included: a soft particle far
/// from everything may merge with the beam, and is then lost to the coarser views.
///
/// - `subjets(n)`: as FastJet's exclusive_jets(n), that is the history undone until n objects stand, for every
///   algorithm; all constituents if there are fewer than n.
/// - `kt(q)`, `fraction(y)`: as exclusive_jets(dcut) with dcut = q^2, or (y pT)^2 with the pT of the sum of all
///   constituents. Where that leaves nothing, because dcut is above everything and all has gone to the beam, the
///   view is the last object that stood, `subjets(1)`: a view is never empty. For kT only: the distances of
///   Cambridge/Aachen are no momenta, those of anti-kT do not grow along the history.
/// - `particles()`: all constituents.
///
/// Subjets stand in descending pT, equal pT by the lowest constituent contained. Clustering and order are worked
/// out in double precision, whatever Scalar is. Labels ride along; extras are summed over a subjet's constituents.
///
/// Example:
/// @code
/// rino::ViewGenerator<float> generator({rino::subjets(1), rino::subjets(8), rino::particles()}, {.radius = 0.8});
/// std::vector<rino::Jets<float>> views = generator(jets);
/// @endcode
template <std::floating_point Scalar, ClusteringAlgorithm Algorithm = Kt,
          Clusterer<Scalar> Backend = FastJetClusterer<Algorithm>>
class ViewGenerator {
 public:
  using Index = std::int64_t;

  /// @throws rino::Error if there is no resolution, one has no meaning for the algorithm, or an option is out of range.
  explicit ViewGenerator(std::vector<Resolution> resolutions, const ViewOptions& options = {})
      : resolutions_(std::move(resolutions)), options_(options) {
    require(!resolutions_.empty(), "there are no resolutions: give one or more, such as subjets(8) or particles()");
    for (const Resolution& resolution : resolutions_) {
      check(resolution);
    }
    require(options_.radius > 0 && options_.radius <= 1000, "radius is ", options_.radius, ": give 0 < R <= 1000");
    require(options_.threads >= 1, "threads is ", options_.threads, ": give the number of threads, 1 or more");
  }

  const std::vector<Resolution>& resolutions() const { return resolutions_; }
  const ViewOptions& options() const { return options_; }

  /// One `Jets` per resolution: the same jets in the same order, their subjets as constituents.
  std::vector<Jets<Scalar>> operator()(const Jets<Scalar>& jets) const {
    const Index workers = std::max<Index>(1, std::min<Index>(Backend::kThreadSafe ? options_.threads : 1, jets.size()));
    std::vector<std::vector<Piece>> pieces(static_cast<std::size_t>(workers));
    parallel_for(workers, static_cast<int>(workers), [&](Index begin, Index end) {
      for (Index w = begin; w < end; ++w) {
        pieces[static_cast<std::size_t>(w)] =
            make_pieces(jets, jets.size() * w / workers, jets.size() * (w + 1) / workers);
      }
    });
    std::vector<Jets<Scalar>> views;
    views.reserve(resolutions_.size());
    for (std::size_t v = 0; v < resolutions_.size(); ++v) {
      views.push_back(join(jets, pieces, v));
    }
    return views;
  }

  /// [multiplicity]: the subjet each constituent of jet j belongs to at a resolution, as a number in the view's
  /// order; -1 if it was lost to the beam.
  /// @throws rino::Error if there is no jet j, or the resolution has no meaning for the algorithm.
  std::vector<Index> subjet_of_constituent(const Jets<Scalar>& jets, Index j, const Resolution& resolution) const {
    require(0 <= j && j < jets.size(), "jet ", j, " was asked for, of ", jets.size(), ": numbers run from 0");
    check(resolution);
    std::vector<Index> subjets;
    for_each_history(jets, j, j + 1, {resolution}, [&](Index, const ClusteringHistory& history) {
      history.subjets_of_constituents(count(resolution, history, jets, j), subjets);
    });
    return subjets;
  }

 private:
  /// One view of a range of jets.
  struct Piece {
    std::array<std::vector<Scalar>, 4> columns;
    std::vector<Index> counts;
    std::vector<std::vector<Scalar>> extras;  ///< in the order of Jets::extras()
  };

  static void check(const Resolution& resolution) {
    const bool scale = resolution.kind() == Resolution::Kind::kt || resolution.kind() == Resolution::Kind::fraction;
    require(!scale || Algorithm::exponent == 1.0, "the resolution '", resolution.name(), "' has no meaning for the ",
            Algorithm::name, " algorithm, whose distances are not transverse momenta: ",
            "use subjets(n) or particles(), or the kt algorithm");
  }

  /// The number of subjets of jet j, 1 or more.
  static Index count(const Resolution& resolution, const ClusteringHistory& history, const Jets<Scalar>& jets,
                     Index j) {
    const auto exclusive = [&](double q) { return std::max<Index>(1, history.exclusive(q * q)); };
    switch (resolution.kind()) {
      case Resolution::Kind::subjets:
        return std::min(static_cast<Index>(resolution.value()), history.constituents());
      case Resolution::Kind::kt:
        return exclusive(resolution.value());
      case Resolution::Kind::fraction:
        return exclusive(resolution.value() * jet_pt(jets, j));
      default:
        return history.constituents();
    }
  }

  /// The rows of a view of jets first .. last-1, where they are known before clustering, else 0.
  static std::size_t known_rows(const Resolution& resolution, const Jets<Scalar>& jets, Index first, Index last) {
    Index rows = 0;
    if (resolution.kind() == Resolution::Kind::subjets) {
      for (Index j = first; j < last; ++j) {
        rows += std::min(static_cast<Index>(resolution.value()), jets.multiplicity(j));
      }
    } else if (resolution.kind() == Resolution::Kind::particles && first < last) {
      rows = jets.end(last - 1) - jets.begin(first);
    }
    return static_cast<std::size_t>(rows);
  }

  static double jet_pt(const Jets<Scalar>& jets, Index j) {
    FourMomentum<double> sum = FourMomentum<double>::Zero();
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      sum += jets.constituent(i).template cast<double>();
    }
    return pt(sum);
  }

  /// Calls visit(j, history) for jets first .. last-1, with histories that serve the resolutions: clustered, unless
  /// nothing but the constituents is asked for.
  template <typename Visitor>
  void for_each_history(const Jets<Scalar>& jets, Index first, Index last, const std::vector<Resolution>& resolutions,
                        const Visitor& visit) const {
    const auto ranked = [&](Index j, ClusteringHistory& history) {
      history.rank();
      visit(j, history);
    };
    if (std::any_of(resolutions.begin(), resolutions.end(), [](const Resolution& r) { return r != particles(); })) {
      Backend backend(options_.radius);
      backend(jets, first, last, ranked);
      return;
    }
    ClusteringHistory history;
    for (Index j = first; j < last; ++j) {
      history.clear();
      history.add_constituents(jets, j);
      ranked(j, history);
    }
  }

  /// The views of jets first .. last-1, one piece per resolution.
  std::vector<Piece> make_pieces(const Jets<Scalar>& jets, Index first, Index last) const {
    std::vector<Piece> pieces(resolutions_.size());
    for (std::size_t v = 0; v < pieces.size(); ++v) {
      pieces[v].counts.reserve(static_cast<std::size_t>(last - first));
      pieces[v].extras.resize(jets.extras().size());
      const std::size_t rows = known_rows(resolutions_[v], jets, first, last);
      for (std::vector<Scalar>& column : pieces[v].columns) {
        column.reserve(rows);
      }
    }
    std::vector<Index> subjets;
    for_each_history(jets, first, last, resolutions_, [&](Index j, const ClusteringHistory& history) {
      for (std::size_t v = 0; v < resolutions_.size(); ++v) {
        const Index size = count(resolutions_[v], history, jets, j);
        append(history, size, pieces[v]);
        if (!jets.extras().empty()) {
          history.subjets_of_constituents(size, subjets);
          append_extras(jets, j, subjets, size, pieces[v]);
        }
      }
    });
    return pieces;
  }

  static void append(const ClusteringHistory& history, Index size, Piece& piece) {
    std::size_t row = piece.columns[0].size();
    for (std::vector<Scalar>& column : piece.columns) {
      column.resize(row + static_cast<std::size_t>(size));
    }
    history.for_each_subjet(size, [&](const ClusteringHistory::Momentum& p) {
      for (std::size_t c = 0; c < 4; ++c) {
        piece.columns[c][row] = static_cast<Scalar>(p[c]);
      }
      ++row;
    });
    piece.counts.push_back(size);
  }

  static void append_extras(const Jets<Scalar>& jets, Index j, const std::vector<Index>& subjets, Index size,
                            Piece& piece) {
    std::size_t e = 0;
    for (const auto& [name, values] : jets.extras()) {
      std::vector<Scalar>& sums = piece.extras[e++];
      const std::size_t row = sums.size();
      sums.resize(row + static_cast<std::size_t>(size), Scalar(0));
      for (std::size_t i = 0; i < subjets.size(); ++i) {
        if (subjets[i] >= 0) {
          sums[row + static_cast<std::size_t>(subjets[i])] += (*values)[static_cast<std::size_t>(jets.begin(j)) + i];
        }
      }
    }
  }

  /// View v of all jets, from the workers' pieces in their order.
  static Jets<Scalar> join(const Jets<Scalar>& jets, std::vector<std::vector<Piece>>& pieces, std::size_t v) {
    Piece all = std::move(pieces.front()[v]);
    for (std::size_t w = 1; w < pieces.size(); ++w) {
      const Piece& piece = pieces[w][v];
      const auto extend = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
      for (std::size_t c = 0; c < 4; ++c) {
        extend(all.columns[c], piece.columns[c]);
      }
      for (std::size_t e = 0; e < all.extras.size(); ++e) {
        extend(all.extras[e], piece.extras[e]);
      }
      extend(all.counts, piece.counts);
    }
    std::vector<Index> offsets(all.counts.size() + 1, 0);
    std::partial_sum(all.counts.begin(), all.counts.end(), offsets.begin() + 1);
    Jets<Scalar> view = Jets<Scalar>::from_columns_unchecked(std::move(all.columns), std::move(offsets));
    if (jets.labels()) {
      view = view.with_labels(*jets.labels());
    }
    std::size_t e = 0;
    for (const auto& [name, values] : jets.extras()) {
      view = view.with_extra(name, std::move(all.extras[e++]));
    }
    return view;
  }

  std::vector<Resolution> resolutions_;
  ViewOptions options_;
};

}  // namespace rino
