#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/simd/target.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/clustering_history.hpp>
#include <rino/views/detail/view_pieces.hpp>
#include <rino/views/fast_clusterer.hpp>
#include <rino/views/plain_clusterer.hpp>
#include <rino/views/reference_clusterer.hpp>
#include <rino/views/resolution.hpp>
#include <rino/views/view_options.hpp>

namespace rino {

/// Whether the options have FastClusterer do the clustering, where it knows the algorithm.
inline bool takes_fast(const ViewOptions& options) {
  return options.backend != ViewBackend::fastjet && options.radius >= kSmallestFastRadius;
}

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
///
/// @tparam Reference  clusters what FastClusterer does not; another than the default does everything itself.
template <std::floating_point Scalar, ClusteringAlgorithm Algorithm = Kt,
          Clusterer<Scalar> Reference = ReferenceClusterer<Algorithm>>
class ViewGenerator {
 public:
  using Index = std::int64_t;

  /// @throws rino::Error if there is no resolution, one has no meaning for the algorithm, an option is out of range, or
  ///         the backend is FastJet in a program that is built without it.
  explicit ViewGenerator(std::vector<Resolution> resolutions, const ViewOptions& options = {})
      : resolutions_(std::move(resolutions)), options_(options) {
    require(!resolutions_.empty(), "there are no resolutions: give one or more, such as subjets(8) or particles()");
    for (const Resolution& resolution : resolutions_) {
      check(resolution);
    }
    require(options_.radius > 0 && options_.radius <= 1000, "radius is ", options_.radius, ": give 0 < R <= 1000");
    require(options_.threads >= 1, "threads is ", options_.threads, ": give the number of threads, 1 or more");
    if (options_.target) {
      simd::require_supported(*options_.target);
    }
    require(options_.backend != ViewBackend::fastjet || !std::is_same_v<Reference, PlainClusterer<Algorithm>>,
            "backend is 'fastjet' and this program is built without FastJet: link the target rino::fastjet, or choose "
            "'auto'");
    if (options_.backend == ViewBackend::fast) {
      require(kFast, "backend is 'fast', which does not know the ", Algorithm::name,
              " algorithm or another clusterer than FastJet: choose 'auto' or 'fastjet'");
      require(options_.radius >= kSmallestFastRadius, "radius is ", options_.radius,
              " with the backend 'fast', which takes R >= ", kSmallestFastRadius, ": choose 'auto' or 'fastjet'");
    }
  }

  const std::vector<Resolution>& resolutions() const { return resolutions_; }
  const ViewOptions& options() const { return options_; }

  /// One `Jets` per resolution: the same jets in the same order, their subjets as constituents.
  std::vector<Jets<Scalar>> operator()(const Jets<Scalar>& jets) const {
    const Index workers =
        std::max<Index>(1, std::min<Index>(Reference::kThreadSafe ? options_.threads : 1, jets.size()));
    const auto first = [&](Index w) { return jets.size() * w / workers; };
    std::vector<Piece> all(resolutions_.size());
    std::vector<std::vector<Piece>> apart(static_cast<std::size_t>(workers), std::vector<Piece>(all.size()));
    std::vector<std::vector<Target>> targets(apart.size(), std::vector<Target>(all.size()));
    const auto each_worker = [&](const auto& work) {
      parallel_for(workers, static_cast<int>(workers), [&](Index begin, Index end) {
        for (Index w = begin; w < end; ++w) {
          work(static_cast<std::size_t>(w), first(w), first(w + 1));
        }
      });
    };
    each_worker([&](std::size_t w, Index begin, Index end) {
      for (std::size_t v = 0; v < all.size(); ++v) {
        targets[w][v].row = detail::known_rows(resolutions_[v], jets, begin, end);
      }
    });
    make_room(jets, all, apart, targets);
    each_worker([&](std::size_t w, Index begin, Index end) { make_pieces(jets, begin, end, targets[w]); });
    return join(jets, all, apart, targets);
  }

  /// [multiplicity]: the subjet each constituent of jet j belongs to at a resolution, as a number in the view's
  /// order; -1 if it was lost to the beam.
  /// @throws rino::Error if there is no jet j, or the resolution has no meaning for the algorithm.
  std::vector<Index> subjet_of_constituent(const Jets<Scalar>& jets, Index j, const Resolution& resolution) const {
    require(0 <= j && j < jets.size(), "jet ", j, " was asked for, of ", jets.size(), ": numbers run from 0");
    check(resolution);
    std::vector<Index> subjets;
    if constexpr (kFast) {
      if (is_fast() && jets.multiplicity(j) <= FastClusterer<Algorithm>::kMostConstituents) {
        FastClusterer<Algorithm> fast(options_.radius, {resolution}, target());
        fast.add(0, jets, j);
        fast.run();
        if (fast.decided(0)) {
          fast.subjets_of_constituents(0, 0, subjets);
          return subjets;
        }
      }
    }
    for_each_history(jets, j, j + 1, {resolution}, [&](Index, const ClusteringHistory& history) {
      history.subjets_of_constituents(count(resolution, history, jets, j), subjets);
    });
    return subjets;
  }

 private:
  static constexpr bool kFast = FastAlgorithm<Algorithm> && std::is_same_v<Reference, ReferenceClusterer<Algorithm>>;

  using Piece = detail::ViewPiece<Scalar>;
  using Target = detail::ViewTarget<Scalar>;
  using Draft = detail::ViewDraft<Scalar>;

  bool is_fast() const { return kFast && takes_fast(options_); }
  simd::Target target() const { return options_.target.value_or(simd::best_target()); }

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
        return exclusive(resolution.value() * pt(jets.template four_momentum<double>(j)));
      default:
        return history.constituents();
    }
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
      Reference clusterer(options_.radius);
      clusterer(jets, first, last, ranked);
      return;
    }
    ClusteringHistory history;
    for (Index j = first; j < last; ++j) {
      history.clear();
      history.add_constituents(jets, j);
      ranked(j, history);
    }
  }

  /// Gives every worker rows to write. One worker's pieces grow; several write the rows of theirs that are known
  /// before, `row` of them, into pieces that all share, the others apart. What is large is allocated by this thread:
  /// workers have heaps of their own, which give their memory back to the system.
  void make_room(const Jets<Scalar>& jets, std::vector<Piece>& all, std::vector<std::vector<Piece>>& apart,
                 std::vector<std::vector<Target>>& targets) const {
    for (std::size_t v = 0; v < all.size(); ++v) {
      all[v].extras.resize(jets.extras().size());
      const bool shared = targets.size() > 1 && detail::is_known(resolutions_[v]);
      Index rows = 0;
      for (std::size_t w = 0; w < targets.size(); ++w) {
        Target& target = targets[w][v];
        rows += target.row;
        target = {&all[v], shared ? rows - target.row : 0, !shared, {}};
        if (!shared && targets.size() > 1) {
          apart[w][v].extras.resize(jets.extras().size());
          target.piece = &apart[w][v];
        }
      }
      for (std::size_t c = 0; c < all[v].width(); ++c) {
        all[v].column(c).reserve(static_cast<std::size_t>(rows));
      }
    }
    if (targets.size() > 1) {
      each_column(jets, targets.size(), [&](std::size_t v, std::size_t c) {
        std::vector<Scalar>& column = all[v].column(c);
        column.resize(detail::is_known(resolutions_[v]) ? column.capacity() : 0);
      });
    }
  }

  /// Calls visit(v, c) for all columns of all views, on some threads.
  template <typename Visitor>
  void each_column(const Jets<Scalar>& jets, std::size_t threads, const Visitor& visit) const {
    const auto width = static_cast<Index>(4 + jets.extras().size());
    parallel_for(width * static_cast<Index>(resolutions_.size()), static_cast<int>(threads),
                 [&](Index begin, Index end) {
                   for (Index task = begin; task < end; ++task) {
                     visit(static_cast<std::size_t>(task / width), static_cast<std::size_t>(task % width));
                   }
                 });
  }

  /// The views of jets first .. last-1.
  void make_pieces(const Jets<Scalar>& jets, Index first, Index last, std::vector<Target>& targets) const {
    for (Target& target : targets) {
      target.counts.reserve(static_cast<std::size_t>(last - first));
    }
    if (is_fast()) {
      if constexpr (kFast) {
        make_pieces_fast<Algorithm>(jets, first, last, targets);
      }
      return;
    }
    std::vector<Index> subjets;
    for_each_history(jets, first, last, resolutions_, [&](Index j, const ClusteringHistory& history) {
      for (std::size_t v = 0; v < resolutions_.size(); ++v) {
        const Index size = count(resolutions_[v], history, jets, j);
        Target& target = targets[v];
        if (target.grows) {
          target.piece->resize(target.row + size);
        }
        write(history, jets, j, size, target.row, subjets, *target.piece);
        target.row += size;
        target.counts.push_back(size);
      }
    });
  }

  /// The `size` subjets of jet j into rows row .. row+size-1.
  static void write(const ClusteringHistory& history, const Jets<Scalar>& jets, Index j, Index size, Index row,
                    std::vector<Index>& subjets, Piece& piece) {
    std::size_t to = static_cast<std::size_t>(row);
    history.for_each_subjet(size, [&](const ClusteringHistory::Momentum& p) {
      for (std::size_t c = 0; c < 4; ++c) {
        piece.columns[c][to] = static_cast<Scalar>(p[c]);
      }
      ++to;
    });
    if (!jets.extras().empty()) {
      history.subjets_of_constituents(size, subjets);
      write_extras(jets, j, subjets, size, row, piece);
    }
  }

  static void write_extras(const Jets<Scalar>& jets, Index j, const std::vector<Index>& subjets, Index size, Index row,
                           Piece& piece) {
    std::size_t e = 0;
    for (const auto& [name, values] : jets.extras()) {
      Scalar* sums = piece.extras[e++].data() + row;
      std::fill(sums, sums + size, Scalar(0));
      for (std::size_t i = 0; i < subjets.size(); ++i) {
        if (subjets[i] >= 0) {
          sums[subjets[i]] += (*values)[static_cast<std::size_t>(jets.begin(j)) + i];
        }
      }
    }
  }

  /// As make_pieces, by FastClusterer: some jets at a time, those of like multiplicity together.
  template <FastAlgorithm Known>
  void make_pieces_fast(const Jets<Scalar>& jets, Index first, Index last, std::vector<Target>& targets) const {
    FastClusterer<Known> fast(options_.radius, resolutions_, target());
    std::vector<Draft> drafts(targets.size());
    std::vector<Index> others;
    std::vector<Index> subjets;
    for (Index begin = first; begin < last; begin += fast.kRange) {
      const Index end = std::min(begin + fast.kRange, last);
      for (std::size_t v = 0; v < drafts.size(); ++v) {
        drafts[v].prepare(resolutions_[v], jets, begin, end, targets[v]);
      }
      // size = written(v, row, piece) for the views of jet j.
      const auto each_view = [&](Index j, const auto& written) {
        for (std::size_t v = 0; v < drafts.size(); ++v) {
          Draft& draft = drafts[v];
          const auto k = static_cast<std::size_t>(j - begin);
          draft.counts[k] = written(v, draft.begins[k], draft.apart ? draft.rows : *targets[v].piece);
        }
      };
      const auto decided = [&](Index j, int place) {
        each_view(j, [&](std::size_t v, Index row, Piece& piece) {
          write(fast, place, v, jets, j, row, subjets, piece);
          return fast.size(place, v);
        });
      };
      others.clear();
      fast(jets, begin, end, decided, [&](Index j) { others.push_back(j); });
      for (const Index j : others) {
        for_each_history(jets, j, j + 1, resolutions_, [&](Index, const ClusteringHistory& history) {
          each_view(j, [&](std::size_t v, Index row, Piece& piece) {
            const Index size = count(resolutions_[v], history, jets, j);
            write(history, jets, j, size, row, subjets, piece);
            return size;
          });
        });
      }
      for (std::size_t v = 0; v < drafts.size(); ++v) {
        drafts[v].finish(targets[v]);
      }
    }
  }

  template <typename Fast>
  static void write(const Fast& fast, int place, std::size_t v, const Jets<Scalar>& jets, Index j, Index row,
                    std::vector<Index>& subjets, Piece& piece) {
    fast.template write<Scalar>(place, v,
                                {piece.columns[0].data() + row, piece.columns[1].data() + row,
                                 piece.columns[2].data() + row, piece.columns[3].data() + row});
    if (!jets.extras().empty()) {
      fast.subjets_of_constituents(place, v, subjets);
      write_extras(jets, j, subjets, fast.size(place, v), row, piece);
    }
  }

  /// The views of all jets; what the workers wrote apart is put together.
  std::vector<Jets<Scalar>> join(const Jets<Scalar>& jets, std::vector<Piece>& all,
                                 std::vector<std::vector<Piece>>& apart,
                                 const std::vector<std::vector<Target>>& targets) const {
    if (targets.size() > 1) {
      for (std::size_t v = 0; v < all.size(); ++v) {
        std::size_t rows = 0;
        for (const std::vector<Piece>& pieces : apart) {
          rows += pieces[v].columns[0].size();
        }
        for (std::size_t c = 0; c < all[v].width() && !detail::is_known(resolutions_[v]); ++c) {
          all[v].column(c).reserve(rows);
        }
      }
      each_column(jets, targets.size(), [&](std::size_t v, std::size_t c) {
        for (std::size_t w = 0; w < apart.size() && !detail::is_known(resolutions_[v]); ++w) {
          const std::vector<Scalar>& from = apart[w][v].column(c);
          all[v].column(c).insert(all[v].column(c).end(), from.begin(), from.end());
        }
      });
    }
    std::vector<Jets<Scalar>> views;
    views.reserve(all.size());
    for (std::size_t v = 0; v < all.size(); ++v) {
      std::vector<Index> offsets{0};
      offsets.reserve(static_cast<std::size_t>(jets.size()) + 1);
      for (const std::vector<Target>& worker : targets) {
        for (const Index size : worker[v].counts) {
          offsets.push_back(offsets.back() + size);
        }
      }
      Jets<Scalar> view =
          Jets<Scalar>::from_columns_unchecked(std::move(all[v].columns), std::move(offsets)).annotated_as(jets);
      std::size_t e = 0;
      for (const auto& [name, values] : jets.extras()) {
        view = view.with_extra(name, std::move(all[v].extras[e++]));
      }
      views.push_back(std::move(view));
    }
    return views;
  }

  std::vector<Resolution> resolutions_;
  ViewOptions options_;
};

}  // namespace rino
