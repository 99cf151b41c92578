#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include <rino/nn/fused/problem.hpp>
#include <rino/simd/target.hpp>
#include <rino/simd/vector.hpp>

namespace rino::simd {

// The kernels speak of these without further names.
using fused::Batch;
using fused::BlockTensor;
using fused::Chunk;
using fused::DropoutRule;
using fused::DropoutSite;
using fused::Gradients;
using fused::Index;
using fused::ParameterMap;
using fused::Parameters;
using fused::pitch;
using fused::Problem;
using fused::Shape;
using enum fused::BlockTensor;

}  // namespace rino::simd

namespace rino::fused {

/// The kernels of an instruction set, which this machine must have; T is float or double.
///
/// They take a minute to compile. A program of many files does it once: it defines RINO_KERNELS_ELSEWHERE for all files
/// but one, `rino/kernels.cpp` (CMake's target rino::kernels does both).
template <typename T>
Kernels<T> kernels_of(simd::Target target);
template <typename T>
PairKernels<T> pair_kernels_of(simd::Target target);

}  // namespace rino::fused

#ifndef RINO_KERNELS_ELSEWHERE
#define RINO_SIMD_KERNELS <rino/nn/fused/math.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/transpose.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/gemm.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/norm.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/attention.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/packed.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/encoder.inc>
#include <rino/simd/each_target.inc>
#define RINO_SIMD_KERNELS <rino/nn/fused/pairs.inc>
#include <rino/simd/each_target.inc>

namespace rino::fused {

template <typename T>
Kernels<T> kernels_of([[maybe_unused]] simd::Target target) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (target == simd::Target::avx512) {
    return simd::avx512::kernels<T>();
  }
  if (target == simd::Target::avx2) {
    return simd::avx2::kernels<T>();
  }
#endif
  return simd::baseline::kernels<T>();
}

template <typename T>
PairKernels<T> pair_kernels_of([[maybe_unused]] simd::Target target) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (target == simd::Target::avx512) {
    return simd::avx512::pair_kernels<T>();
  }
  if (target == simd::Target::avx2) {
    return simd::avx2::pair_kernels<T>();
  }
#endif
  return simd::baseline::pair_kernels<T>();
}

}  // namespace rino::fused
#endif
