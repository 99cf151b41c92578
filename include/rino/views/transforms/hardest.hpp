#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>

namespace rino {

/// The n hardest constituents of every jet in descending pT, equal pT in the order given; of jets with fewer, all.
/// Labels and extras ride along.
///
/// @throws rino::Error if n is below 1.
template <std::floating_point Scalar>
Jets<Scalar> hardest(const Jets<Scalar>& jets, std::int64_t n) {
  require(n >= 1, "the ", n, " hardest constituents were asked for: give 1 or more");
  std::vector<std::int64_t> offsets{0};
  offsets.reserve(static_cast<std::size_t>(jets.size()) + 1);
  std::vector<std::int64_t> kept;
  std::vector<std::int64_t> rows;
  std::vector<Scalar> pts;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    const std::int64_t first = jets.begin(j);
    const std::int64_t multiplicity = jets.multiplicity(j);
    const std::int64_t size = std::min(n, multiplicity);
    pts.clear();
    for (std::int64_t i = first; i < jets.end(j); ++i) {
      pts.push_back(pt(jets.constituent(i)));
    }
    rows.resize(static_cast<std::size_t>(multiplicity));
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    std::partial_sort(rows.begin(), rows.begin() + size, rows.end(), [&](std::int64_t a, std::int64_t b) {
      const Scalar one = pts[static_cast<std::size_t>(a)];
      const Scalar two = pts[static_cast<std::size_t>(b)];
      return one != two ? one > two : a < b;
    });
    for (std::int64_t k = 0; k < size; ++k) {
      kept.push_back(first + rows[static_cast<std::size_t>(k)]);
    }
    offsets.push_back(offsets.back() + size);
  }
  const auto pick = [&](const Scalar* data, std::int64_t stride) {
    std::vector<Scalar> picked;
    picked.reserve(kept.size());
    for (const std::int64_t i : kept) {
      picked.push_back(data[i * stride]);
    }
    return picked;
  };
  std::array<std::vector<Scalar>, 4> columns;
  for (std::size_t c = 0; c < 4; ++c) {
    columns[c] = pick(jets.columns()[c].data, jets.columns()[c].stride);
  }
  Jets<Scalar> result = Jets<Scalar>::from_columns_unchecked(std::move(columns), std::move(offsets));
  if (jets.labels()) {
    result = result.with_labels(*jets.labels());
  }
  for (const auto& [name, values] : jets.extras()) {
    result = result.with_extra(name, pick(values->data(), 1));
  }
  return result;
}

}  // namespace rino
