#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// Transforms one after another, each with draws of its own.
///
/// Example:
/// @code
/// using Jets = rino::Jets<float>;
/// const rino::Augmentation<float> augmentation({
///     [](const Jets& jets, const rino::Draws& draws, int threads) { return rino::rotate(jets, draws, threads); },
///     [](const Jets& jets, const rino::Draws& draws, int threads) {
///       return rino::smear(jets, {.constant = 0.05}, draws, threads);
///     },
/// });
/// const Jets view = augmentation(jets, {.seed = 1});
/// @endcode
template <std::floating_point Scalar>
class Augmentation {
 public:
  using Transform = std::function<Jets<Scalar>(const Jets<Scalar>&, const Draws&, int threads)>;

  /// @throws rino::Error if one is empty.
  explicit Augmentation(std::vector<Transform> transforms) : transforms_(std::move(transforms)) {
    for (std::size_t k = 0; k < transforms_.size(); ++k) {
      require(static_cast<bool>(transforms_[k]), "transform ", k, " of the augmentation is empty: give a function");
    }
  }

  /// The jets after all transforms; the k-th draws from draws.step(k).
  Jets<Scalar> operator()(Jets<Scalar> jets, const Draws& draws, int threads = 1) const {
    for (std::size_t k = 0; k < transforms_.size(); ++k) {
      jets = transforms_[k](jets, draws.step(static_cast<std::int64_t>(k)), threads);
    }
    return jets;
  }

 private:
  std::vector<Transform> transforms_;
};

}  // namespace rino
