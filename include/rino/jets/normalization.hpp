#pragma once

#include <array>
#include <cstddef>
#include <numbers>
#include <string_view>
#include <utility>

#include <rino/core/named_enum.hpp>

namespace rino {

/// Fixed (mean, standard deviation) of the features, of the two published configurations.
enum class Normalization {
  workshop,    ///< arXiv:2509.07486
  production,  ///< the public configuration of its successor
};

template <>
inline constexpr std::array enum_names<Normalization> = {
    std::pair{Normalization::workshop, std::string_view("workshop")},
    std::pair{Normalization::production, std::string_view("production")},
};

/// x -> (x - mean) / deviation.
struct Standardize {
  double mean;
  double deviation;

  template <typename Scalar>
  Scalar operator()(Scalar x) const {
    return (x - static_cast<Scalar>(mean)) / static_cast<Scalar>(deviation);
  }
};

/// In the order of `kTokenFeatures`; momenta and energies in GeV before.
constexpr std::array<Standardize, 11> token_normalization(Normalization set) {
  constexpr Standardize momentum{0.0, 25.0};
  if (set == Normalization::production) {
    return {momentum,    momentum,    momentum,     momentum,    {1.7, 1.8}, {2.0, 1.8},
            {-4.7, 1.8}, {-4.7, 1.8}, {0.14, 0.25}, {0.0, 0.14}, {0.0, 0.14}};
  }
  return {momentum,    momentum,    momentum,   momentum,   {1.5, 1.5}, {1.5, 1.5},
          {-4.5, 1.5}, {-5.0, 1.5}, {0.3, 0.2}, {0.0, 0.3}, {0.0, 0.3}};
}

/// In the order of `kJetFeatures`.
constexpr std::array<Standardize, 4> jet_normalization(Normalization set) {
  if (set == Normalization::production) {
    return {{{6.7, 0.5}, {6.4, 0.25}, {0.0, 1.3}, {0.0, std::numbers::pi}}};
  }
  return {{{7.0, 1.0}, {6.5, 0.5}, {0.0, 2.0}, {0.0, std::numbers::pi}}};
}

}  // namespace rino
