#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <rino/jets/jets.hpp>

/// Jets put together constituent by constituent.
class JetBuilder {
 public:
  void add(double pt, double y, double phi, double mass = 0.0) {
    const double transverse_mass = std::hypot(pt, mass);
    add_momentum(pt * std::cos(phi), pt * std::sin(phi), transverse_mass * std::sinh(y),
                 transverse_mass * std::cosh(y));
  }
  void add_momentum(double px, double py, double pz, double e) {
    columns_[0].push_back(px);
    columns_[1].push_back(py);
    columns_[2].push_back(pz);
    columns_[3].push_back(e);
  }
  /// The constituent that was added `back` ones ago once more, times `factor`.
  void add_again(std::int64_t back, double factor) {
    const std::size_t i = columns_[0].size() - static_cast<std::size_t>(back);
    add_momentum(columns_[0][i] * factor, columns_[1][i] * factor, columns_[2][i] * factor, columns_[3][i] * factor);
  }
  void end_jet() { offsets_.push_back(static_cast<std::int64_t>(columns_[0].size())); }
  rino::Jets<double> jets() const { return rino::Jets<double>::from_columns(columns_, offsets_); }

 private:
  std::array<std::vector<double>, 4> columns_;
  std::vector<std::int64_t> offsets_{0};
};

/// One jet of constituents (px, py, pz, E).
template <typename Scalar>
rino::Jets<Scalar> one_jet(const std::vector<std::array<double, 4>>& constituents) {
  std::array<std::vector<Scalar>, 4> columns;
  for (const std::array<double, 4>& p : constituents) {
    for (std::size_t c = 0; c < 4; ++c) {
      columns[c].push_back(static_cast<Scalar>(p[c]));
    }
  }
  const auto size = static_cast<std::int64_t>(columns[0].size());
  return rino::Jets<Scalar>::from_columns(std::move(columns), {0, size});
}
