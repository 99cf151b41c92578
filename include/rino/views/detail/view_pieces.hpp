#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <vector>

#include <rino/jets/jets.hpp>
#include <rino/views/resolution.hpp>

namespace rino::detail {

/// Whether the rows of a view are known before clustering.
inline bool is_known(const Resolution& resolution) {
  return resolution.kind() == Resolution::Kind::subjets || resolution.kind() == Resolution::Kind::particles;
}

/// The rows of a view of jets first .. last-1, where they are known before clustering, else 0.
template <std::floating_point Scalar>
std::int64_t known_rows(const Resolution& resolution, const Jets<Scalar>& jets, std::int64_t first, std::int64_t last) {
  std::int64_t rows = 0;
  if (resolution.kind() == Resolution::Kind::subjets) {
    for (std::int64_t j = first; j < last; ++j) {
      rows += std::min(static_cast<std::int64_t>(resolution.value()), jets.multiplicity(j));
    }
  } else if (resolution.kind() == Resolution::Kind::particles && first < last) {
    rows = jets.end(last - 1) - jets.begin(first);
  }
  return rows;
}

/// One view of a range of jets.
template <std::floating_point Scalar>
struct ViewPiece {
  std::array<std::vector<Scalar>, 4> columns;
  std::vector<std::vector<Scalar>> extras;  ///< in the order of Jets::extras()

  /// px, py, pz, E, extras.
  std::vector<Scalar>& column(std::size_t c) { return c < 4 ? columns[c] : extras[c - 4]; }
  std::size_t width() const { return 4 + extras.size(); }

  void resize(std::int64_t rows) {
    for (std::size_t c = 0; c < width(); ++c) {
      column(c).resize(static_cast<std::size_t>(rows));
    }
  }
};

/// Where a worker writes a view: into rows `row` .. of a piece, which has its size or grows.
template <std::floating_point Scalar>
struct ViewTarget {
  ViewPiece<Scalar>* piece = nullptr;
  std::int64_t row = 0;
  bool grows = true;
  std::vector<std::int64_t> counts;  ///< [jets of the worker]
};

/// Where the rows of some jets are written that are not clustered in their order: jet k's begin at begins[k].
/// If their number is not known before, they are written apart first.
template <std::floating_point Scalar>
struct ViewDraft {
  std::vector<std::int64_t> begins;
  std::vector<std::int64_t> counts;
  bool apart = false;
  ViewPiece<Scalar> rows;

  /// Makes rows for jets first .. last-1: in the target if their number is known, else enough of them apart.
  void prepare(const Resolution& resolution, const Jets<Scalar>& jets, std::int64_t first, std::int64_t last,
               ViewTarget<Scalar>& target) {
    const bool some = resolution.kind() == Resolution::Kind::subjets;
    const std::int64_t most =
        some ? static_cast<std::int64_t>(resolution.value()) : std::numeric_limits<std::int64_t>::max();
    apart = !is_known(resolution);
    std::int64_t needed = apart ? 0 : target.row;
    counts.resize(static_cast<std::size_t>(last - first));
    begins.clear();
    for (std::int64_t j = first; j < last; ++j) {
      begins.push_back(needed);
      needed += std::min(most, jets.multiplicity(j));
    }
    if (!apart) {
      target.row = needed;
      if (target.grows) {
        target.piece->resize(needed);
      }
    } else if (needed > static_cast<std::int64_t>(rows.columns[0].size())) {
      rows.extras.resize(target.piece->extras.size());
      rows.resize(needed);
    }
  }

  /// What was written apart goes to the end of the target, without gaps.
  void finish(ViewTarget<Scalar>& target) {
    target.counts.insert(target.counts.end(), counts.begin(), counts.end());
    if (!apart) {
      return;
    }
    for (std::size_t c = 0; c < rows.width(); ++c) {
      const std::vector<Scalar>& from = rows.column(c);
      std::vector<Scalar>& to = target.piece->column(c);
      for (std::size_t k = 0; k < begins.size(); ++k) {
        const auto row = from.begin() + begins[k];
        to.insert(to.end(), row, row + counts[k]);
      }
    }
  }
};

}  // namespace rino::detail
