#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <rino/jets/features.hpp>
#include <rino/jets/normalization.hpp>
#include <rino/simd/math.hpp>
#include <rino/simd/target.hpp>

namespace rino {

/// Four-momenta as columns, many at a time: what the SIMD kernels of features read and write.
struct FeatureColumns {
  static constexpr std::int64_t kSize = 64;  ///< a multiple of every vector's length

  alignas(64) double px[kSize], py[kSize], pz[kSize], e[kSize];
  alignas(64) double log_pt[kSize], log_e[kSize], eta[kSize], phi[kSize];
  alignas(64) double jet_log_pt[kSize], jet_log_e[kSize], axis_eta[kSize], axis_phi[kSize];

  void set(std::int64_t i, const FourMomentum<double>& p) {
    px[i] = p[0];
    py[i] = p[1];
    pz[i] = p[2];
    e[i] = p[3];
  }

  /// Fills from i to the next whole vector with something harmless.
  void pad(std::int64_t i) {
    for (; i % 8 != 0; ++i) {
      px[i] = py[i] = pz[i] = e[i] = 1.0;
      jet_log_pt[i] = jet_log_e[i] = axis_eta[i] = axis_phi[i] = 0.0;
    }
  }
};

/// Which features a token has, and how they are normalised: x -> (x - mean) * factor.
struct FeatureRule {
  std::int64_t first = 0;  ///< in kTokenFeatures, where every set is a run
  std::int64_t count = 0;
  double mean[kTokenFeatures.size()] = {};
  double factor[kTokenFeatures.size()] = {};

  FeatureRule(FeatureSet set, Normalization normalization) {
    const std::span<const std::size_t> indices = feature_indices(set);
    const auto norm = token_normalization(normalization);
    first = static_cast<std::int64_t>(indices.front());
    count = static_cast<std::int64_t>(indices.size());
    for (std::size_t f = 0; f < indices.size(); ++f) {
      mean[f] = norm[indices[f]].mean;
      factor[f] = 1.0 / norm[indices[f]].deviation;
    }
  }
};

/// The kernels of an instruction set. Everything is computed in double precision, with the same bits on every machine.
struct FeatureKernels {
  /// log_pt, log_e, eta and phi of the first n columns.
  void (*kinematics)(std::int64_t n, FeatureColumns& columns);
  /// [n, count] normalised token features from momenta, jet_log_pt, jet_log_e, axis_eta and axis_phi.
  void (*tokens_as_float)(std::int64_t n, const FeatureColumns& columns, const FeatureRule& rule, float* rows);
  void (*tokens_as_double)(std::int64_t n, const FeatureColumns& columns, const FeatureRule& rule, double* rows);

  template <typename Out>
  void tokens(std::int64_t n, const FeatureColumns& columns, const FeatureRule& rule, Out* rows) const {
    if constexpr (std::is_same_v<Out, double>) {
      tokens_as_double(n, columns, rule, rows);
    } else {
      tokens_as_float(n, columns, rule, rows);
    }
  }
};

}  // namespace rino

namespace rino::simd {
using rino::FeatureColumns;
using rino::FeatureKernels;
using rino::FeatureRule;
}  // namespace rino::simd

#define RINO_SIMD_KERNELS <rino/jets/detail/features.inc>
#include <rino/simd/each_target.inc>

namespace rino {

/// The kernels of an instruction set, which this machine must have.
inline FeatureKernels feature_kernels([[maybe_unused]] simd::Target target = simd::best_target()) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (target == simd::Target::avx512) {
    return simd::avx512::feature_kernels();
  }
  if (target == simd::Target::avx2) {
    return simd::avx2::feature_kernels();
  }
#endif
  return simd::baseline::feature_kernels();
}

}  // namespace rino
