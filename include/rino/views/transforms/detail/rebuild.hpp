#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/four_momentum.hpp>
#include <rino/jets/jets.hpp>

/// What the transforms share: new jets from old ones, with labels, values, origins and extras, on several threads.
namespace rino::detail {

/// Throws `rino::Error` unless there is one finite number per jet.
inline void require_per_jet(std::span<const double> values, std::int64_t jets, const char* what) {
  require(static_cast<std::int64_t>(values.size()) == jets, "there are ", values.size(), " values of ", what, " for ",
          jets, " jets: give one per jet");
  for (std::size_t j = 0; j < values.size(); ++j) {
    require(std::isfinite(values[j]), what, " of jet ", j, " is ", values[j], ": give a finite number");
  }
}

/// The same jets with other momenta for the same constituents. `body(j, write)` calls write(row, momentum) for every
/// row of jet j.
///
/// @throws rino::Error where a momentum is beyond `Scalar`'s range.
template <std::floating_point Scalar, typename Body>
Jets<Scalar> move_constituents(const Jets<Scalar>& jets, int threads, const Body& body) {
  std::array<std::vector<Scalar>, 4> columns;
  for (std::vector<Scalar>& column : columns) {
    column.resize(static_cast<std::size_t>(jets.constituents()));
  }
  parallel_for(jets.size(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      body(j, [&](std::int64_t row, const FourMomentum<double>& p) {
        for (std::size_t c = 0; c < 4; ++c) {
          columns[c][static_cast<std::size_t>(row)] = static_cast<Scalar>(p[static_cast<int>(c)]);
        }
        if (!std::isfinite(static_cast<Scalar>(p[3]))) {  // |p| <= E
          fail("constituent ", row - jets.begin(j), " of jet ", j, " would get E = ", p[3],
               " GeV, beyond the numbers' range: move it less or drop the jet");
        }
      });
    }
  });
  Jets<Scalar> result = Jets<Scalar>::from_columns_unchecked(std::move(columns), jets.offsets()).annotated_as(jets);
  for (const auto& [name, values] : jets.extras()) {
    result = result.with_extra(name, *values);
  }
  return result;
}

/// Jets of the constituents in `rows`, in that order, with their extras.
///
/// @param offsets    [n+1] as of `Jets`, ending at the number of rows.
/// @param rows       [T'] rows of `jets`; one may stand there several times.
/// @param fractions  [T'] what of its four-momentum each gets, or empty for all of it.
template <std::floating_point Scalar>
Jets<Scalar> pick_constituents(const Jets<Scalar>& jets, std::vector<std::int64_t> offsets,
                               const std::vector<std::int64_t>& rows, int threads,
                               const std::vector<double>& fractions = {}) {
  const auto pick = [&](const Scalar* data, std::int64_t stride, const std::vector<double>& weights) {
    std::vector<Scalar> picked(rows.size());
    parallel_for(static_cast<std::int64_t>(rows.size()), threads, [&](std::int64_t begin, std::int64_t end) {
      for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k) {
        const Scalar value = data[rows[k] * stride];
        picked[k] = weights.empty() ? value : static_cast<Scalar>(weights[k] * static_cast<double>(value));
      }
    });
    return picked;
  };
  std::array<std::vector<Scalar>, 4> columns;
  for (std::size_t c = 0; c < 4; ++c) {
    columns[c] = pick(jets.columns()[c].data, jets.columns()[c].stride, fractions);
  }
  Jets<Scalar> result = Jets<Scalar>::from_columns_unchecked(std::move(columns), std::move(offsets)).annotated_as(jets);
  for (const auto& [name, values] : jets.extras()) {
    result = result.with_extra(name, pick(values->data(), 1, {}));
  }
  return result;
}

/// Every constituent `copies(j, numbers)` times, one after another: it sets how often each constituent of jet j stands
/// in the result. `Number` is unsigned char: 0 drops a constituent, 1 keeps it, 2 doubles it.
///
/// @returns offsets [n+1] and rows [T'], as `pick_constituents` takes them.
template <std::floating_point Scalar, typename Copies>
std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>> repeat_rows(const Jets<Scalar>& jets, int threads,
                                                                            const Copies& copies) {
  std::vector<unsigned char> numbers(static_cast<std::size_t>(jets.constituents()));
  const auto of_jet = [&](std::int64_t j) {
    return std::span(numbers).subspan(static_cast<std::size_t>(jets.begin(j)),
                                      static_cast<std::size_t>(jets.multiplicity(j)));
  };
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(jets.size()) + 1);
  parallel_for(jets.size(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      copies(j, of_jet(j));
      std::int64_t size = 0;
      for (const unsigned char number : of_jet(j)) {
        size += number;
      }
      offsets[static_cast<std::size_t>(j) + 1] = size;
    }
  });
  for (std::size_t j = 1; j < offsets.size(); ++j) {
    offsets[j] += offsets[j - 1];
  }
  std::vector<std::int64_t> rows(static_cast<std::size_t>(offsets.back()));
  parallel_for(jets.size(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      auto out = rows.begin() + offsets[static_cast<std::size_t>(j)];
      std::int64_t row = jets.begin(j);
      for (const unsigned char number : of_jet(j)) {
        out = std::fill_n(out, number, row++);
      }
    }
  });
  return {std::move(offsets), std::move(rows)};
}

}  // namespace rino::detail
