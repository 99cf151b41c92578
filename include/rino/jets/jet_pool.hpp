#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>

namespace rino {

/// Jets as files hold them, in pieces and in the files' precision, from which batches are gathered in any order.
///
/// This is what a shuffled stream of jets keeps in memory: float32 momenta take half the room of `Jets<double>`, and
/// nothing is copied before a jet is asked for.
class JetPool {
 public:
  using Index = std::int64_t;
  /// Contiguous numbers of one kind.
  using Column = std::variant<const float*, const double*>;

  /// Consecutive jets of a file.
  struct Piece {
    std::array<Column, 4> momenta;              ///< px, py, pz, E, [T] each, GeV
    std::vector<Index> offsets;                 ///< [n+1]
    std::vector<Index> labels;                  ///< [n], or empty
    std::map<std::string, Column> extras;       ///< [T] each
    std::map<std::string, Column> values;       ///< [n] each
    std::shared_ptr<const JetOrigins> origins;  ///< of the n jets
    std::shared_ptr<const void> owner;          ///< of the columns' memory
  };

  /// The jets of `piece` that cannot be `Jets`: without constituents, with a component that is not finite, or with an
  /// energy below the momentum (as `Jets::check` has it).
  static std::vector<Index> find_bad(const Piece& piece) {
    std::vector<Index> bad;
    std::visit(
        [&](const auto* px, const auto* py, const auto* pz, const auto* e) {
          for (std::size_t j = 0; j + 1 < piece.offsets.size(); ++j) {
            if (!good(px, py, pz, e, piece.offsets[j], piece.offsets[j + 1])) {
              bad.push_back(static_cast<Index>(j));
            }
          }
        },
        piece.momenta[0], piece.momenta[1], piece.momenta[2], piece.momenta[3]);
    return bad;
  }

  /// Adds jets behind those that are there.
  /// @throws rino::Error if the pieces differ in what they have beside the momenta.
  void add(Piece piece) {
    if (!pieces_.empty()) {
      const Piece& first = pieces_.front();
      const bool same = first.labels.empty() == piece.labels.empty() && !first.origins == !piece.origins &&
                        names(first.extras) == names(piece.extras) && names(first.values) == names(piece.values);
      require(same, "piece ", pieces_.size(),
              " of a pool has other labels, origins, extras or values than the first: ", "give the same to all");
    }
    ends_.push_back(size() + static_cast<Index>(piece.offsets.size()) - 1);
    pieces_.push_back(std::move(piece));
  }

  /// Number of jets.
  Index size() const { return ends_.empty() ? 0 : ends_.back(); }

  /// The jets of the given numbers, in that order, copied.
  /// @throws rino::Error if a number is not in [0, size()).
  template <std::floating_point Scalar>
  Jets<Scalar> gather(std::span<const Index> numbers) const {
    std::vector<Pick> picks(numbers.size());
    std::vector<Index> offsets(numbers.size() + 1, 0);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      picks[i] = find(numbers[i]);
      offsets[i + 1] = offsets[i] + picks[i].last - picks[i].first;
    }
    if (pieces_.empty()) {
      return {};
    }
    // Not vectors, which would be zeroed first.
    const auto rows = static_cast<std::size_t>(offsets.back());
    const std::shared_ptr<Scalar[]> block(new Scalar[4 * rows]);
    std::array<typename Jets<Scalar>::Column, 4> columns;
    for (std::size_t c = 0; c < 4; ++c) {
      copy(picks, offsets, block.get() + c * rows, [c](const Piece& piece) { return piece.momenta[c]; });
      columns[c] = {block.get() + c * rows, 1};
    }
    Jets<Scalar> jets = Jets<Scalar>::borrow_unchecked(columns, offsets, block);
    for (const auto& entry : pieces_.front().extras) {
      const std::string& name = entry.first;
      std::vector<Scalar> column(rows);
      copy(picks, offsets, column.data(), [&name](const Piece& piece) { return piece.extras.at(name); });
      jets = jets.with_extra(name, std::move(column));
    }
    for (const auto& entry : pieces_.front().values) {
      std::vector<Scalar> column(picks.size());
      for (std::size_t i = 0; i < picks.size(); ++i) {
        column[i] = std::visit([&](const auto* data) { return static_cast<Scalar>(data[picks[i].jet]); },
                               pieces_[picks[i].piece].values.at(entry.first));
      }
      jets = jets.with_value(entry.first, std::move(column));
    }
    if (!pieces_.front().labels.empty()) {
      std::vector<Index> labels(picks.size());
      for (std::size_t i = 0; i < picks.size(); ++i) {
        labels[i] = pieces_[picks[i].piece].labels[static_cast<std::size_t>(picks[i].jet)];
      }
      jets = jets.with_labels(std::move(labels));
    }
    return pieces_.front().origins ? jets.with_origins(origins_of(picks)) : jets;
  }

 private:
  /// A jet: its piece, its number there, its rows there.
  struct Pick {
    std::size_t piece;
    Index jet;
    Index first;
    Index last;
  };

  static std::vector<std::string> names(const std::map<std::string, Column>& columns) {
    std::vector<std::string> keys;
    for (const auto& entry : columns) {
      keys.push_back(entry.first);
    }
    return keys;
  }

  // Squares first: they decide nearly always, and need no hypot.
  template <typename X, typename Y, typename Z, typename E>
  static bool good(const X* px, const Y* py, const Z* pz, const E* e, Index first, Index last) {
    constexpr double kShare = 1 - Jets<double>::kEnergyTolerance;
    unsigned sure = first < last ? 1U : 0U;  // a number, and no shortcuts: so the loop has no branches
    for (Index i = first; i < last; ++i) {
      const auto x = static_cast<double>(px[i]);
      const auto y = static_cast<double>(py[i]);
      const auto z = static_cast<double>(pz[i]);
      const auto energy = static_cast<double>(e[i]);
      const double square = energy * energy;
      sure &= unsigned{energy >= 0} & unsigned{square >= kShare * kShare * (x * x + y * y + z * z)} &
              unsigned{square >= kSmallestSquare} & unsigned{square <= kLargestSquare};
    }
    if (sure != 0 || first >= last) {
      return sure != 0;
    }
    for (Index i = first; i < last; ++i) {
      const auto x = static_cast<double>(px[i]);
      const auto y = static_cast<double>(py[i]);
      const auto z = static_cast<double>(pz[i]);
      const auto energy = static_cast<double>(e[i]);
      if (!(std::isfinite(x) && std::isfinite(y) && std::isfinite(z) && std::isfinite(energy) &&
            Jets<double>::is_sound(energy, std::hypot(x, y, z)))) {
        return false;
      }
    }
    return true;
  }

  Pick find(Index number) const {
    require(0 <= number && number < size(), "jet ", number, " was asked for, of ", size(), ": numbers run from 0");
    const auto piece = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), number) - ends_.begin());
    const std::vector<Index>& offsets = pieces_[piece].offsets;
    const Index jet = number - (piece == 0 ? 0 : ends_[piece - 1]);
    return {piece, jet, offsets[static_cast<std::size_t>(jet)], offsets[static_cast<std::size_t>(jet) + 1]};
  }

  /// One column of the picked jets, to `out`; `column_of(piece)` is where it lies.
  template <typename Scalar, typename ColumnOf>
  void copy(const std::vector<Pick>& picks, const std::vector<Index>& offsets, Scalar* out,
            const ColumnOf& column_of) const {
    constexpr std::size_t kAhead = 16;  // jets whose memory is asked for before its turn comes: they lie anywhere
    constexpr std::ptrdiff_t kLine = 64;
    for (std::size_t i = 0; i < picks.size(); ++i) {
      if (i + kAhead < picks.size()) {
        const Pick& soon = picks[i + kAhead];
        const Column column = column_of(pieces_[soon.piece]);
        const char* const end = address(column, soon.last);
        // Not within std::visit: g++ takes a function that does nothing but this for one without an effect.
        for (const char* line = address(column, soon.first); line < end; line += kLine) {
          __builtin_prefetch(line);
        }
      }
      const Pick& pick = picks[i];
      std::visit(
          [&](const auto* data) {
            std::transform(data + pick.first, data + pick.last, out + offsets[i],
                           [](auto value) { return static_cast<Scalar>(value); });
          },
          column_of(pieces_[pick.piece]));
    }
  }

  static const char* address(const Column& column, Index row) {
    return std::visit([row](const auto* data) { return reinterpret_cast<const char*>(data + row); }, column);
  }

  JetOrigins origins_of(const std::vector<Pick>& picks) const {
    JetOrigins all;
    std::vector<std::string> files;
    std::vector<std::vector<std::int32_t>> number_of(pieces_.size());  // of each file of a piece's origins
    std::map<std::string, std::int32_t> known;
    all.file.reserve(picks.size());
    all.entry.reserve(picks.size());
    for (const Pick& pick : picks) {
      const JetOrigins& from = *pieces_[pick.piece].origins;
      const auto file = static_cast<std::size_t>(from.file[static_cast<std::size_t>(pick.jet)]);
      std::vector<std::int32_t>& numbers = number_of[pick.piece];
      numbers.resize(from.files->size(), -1);
      if (numbers[file] < 0) {
        const auto place = known.emplace((*from.files)[file], static_cast<std::int32_t>(files.size()));
        if (place.second) {
          files.push_back((*from.files)[file]);
        }
        numbers[file] = place.first->second;
      }
      all.file.push_back(numbers[file]);
      all.entry.push_back(from.entry[static_cast<std::size_t>(pick.jet)]);
    }
    all.files = std::make_shared<const std::vector<std::string>>(std::move(files));
    return all;
  }

  static constexpr double kSmallestSquare = 1e-280;  // squares far below lose digits, or all of them
  static constexpr double kLargestSquare = std::numeric_limits<double>::max();

  std::vector<Piece> pieces_;
  std::vector<Index> ends_;  // jets of all pieces up to and with this one
};

}  // namespace rino
