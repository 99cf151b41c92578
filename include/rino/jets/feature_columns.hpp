#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
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

/// Which kinematic features the kernels compute, where in a row of `stride` numbers each goes, and how it is
/// normalised: x -> (x - mean) * factor, cut at -limit and limit.
struct FeatureRule {
  static constexpr std::size_t kMost = kTokenFeatures.size();

  std::int64_t count = 0;
  std::int64_t stride = 0;
  std::int64_t index[kMost] = {};  ///< in kTokenFeatures
  std::int64_t place[kMost] = {};
  double mean[kMost] = {};
  double factor[kMost] = {};
  double limit[kMost] = {};
  bool limited = false;

  void add(std::size_t feature, std::int64_t where, const Standardize& norm, double most) {
    const auto f = static_cast<std::size_t>(count++);
    index[f] = static_cast<std::int64_t>(feature);
    place[f] = where;
    mean[f] = norm.mean;
    factor[f] = 1.0 / norm.deviation;
    limit[f] = most;
    limited = limited || std::isfinite(most);
  }
};

/// The kernels of an instruction set. Everything is computed in double precision, with the same bits on every machine.
struct FeatureKernels {
  /// log_pt, log_e, eta and phi of the first n columns.
  void (*kinematics)(std::int64_t n, FeatureColumns& columns);
  /// Rows [n, stride] of normalised token features from momenta, jet_log_pt, jet_log_e, axis_eta and axis_phi.
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
