#pragma once

#include <rino/nn/bf16/supported.hpp>
#include <rino/nn/fused/kernels.hpp>

namespace rino::bf16 {

/// The fused encoder's kernels with the products of its linear layers in bfloat16; all else, the sums of the products
/// included, is float32. Only where the machine `runs` the unit; T is float. See `fused::kernels_of`.
template <typename T>
fused::Kernels<T> kernels(Unit unit);

}  // namespace rino::bf16

#ifndef RINO_KERNELS_ELSEWHERE
#ifdef RINO_HAS_BF16
#include <immintrin.h>

#define RINO_SIMD_BYTES 64
#define RINO_SIMD_HAS_FMA 1

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,prefer-vector-width=512")
#define RINO_SIMD_TARGET avx512_bf16
// clang-format off: each uses those before it
#include <rino/simd/detail/vector.inc>
#include <rino/nn/fused/math.inc>
#include <rino/nn/fused/transpose.inc>
#include <rino/nn/bf16/rounding.inc>
#include <rino/nn/bf16/dots.inc>
#include <rino/nn/bf16/gemm.inc>
#include <rino/nn/fused/norm.inc>
#include <rino/nn/fused/attention.inc>
#include <rino/nn/fused/packed.inc>
#include <rino/nn/fused/encoder.inc>
// clang-format on
#undef RINO_SIMD_TARGET
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#define RINO_SIMD_TARGET amx
// clang-format off: each uses those before it
#include <rino/simd/detail/vector.inc>
#include <rino/nn/fused/math.inc>
#include <rino/nn/fused/transpose.inc>
#include <rino/nn/bf16/rounding.inc>
#include <rino/nn/bf16/tiles.inc>
#include <rino/nn/bf16/gemm.inc>
#include <rino/nn/fused/norm.inc>
#include <rino/nn/fused/attention.inc>
#include <rino/nn/fused/packed.inc>
#include <rino/nn/fused/encoder.inc>
// clang-format on

namespace rino::simd::amx {

/// The processor's eight tiles as 16 rows of 64 bytes, as long as this lives.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) Configuration {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Configuration configuration;
    __asm__ volatile("" ::"r"(&configuration) : "memory");  // as settle(), of a variable nobody else knows
    _tile_loadconfig(&configuration);
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
  ~Tiles() { _tile_release(); }
};

inline void forward_in_tiles(const Problem<float>& problem, const Chunk& chunk, float* scratch) {
  const Tiles tiles;
  forward_chunk<float>(problem, chunk, scratch);
}

inline void backward_in_tiles(const Problem<float>& problem, const Chunk& chunk, float* scratch) {
  const Tiles tiles;
  backward_chunk<float>(problem, chunk, scratch);
}

inline fused::Kernels<float> kernels_in_tiles() {
  fused::Kernels<float> kernels = amx::kernels<float>();
  kernels.forward = &forward_in_tiles;
  kernels.backward = &backward_in_tiles;
  return kernels;
}

}  // namespace rino::simd::amx
#undef RINO_SIMD_TARGET
#pragma GCC pop_options
#undef RINO_SIMD_BYTES
#undef RINO_SIMD_HAS_FMA
#endif

namespace rino::bf16 {

template <typename T>
fused::Kernels<T> kernels([[maybe_unused]] Unit unit) {
#ifdef RINO_HAS_BF16
  if (unit == Unit::tiles) {
    return simd::amx::kernels_in_tiles();
  }
  if (unit == Unit::dots) {
    return simd::avx512_bf16::kernels<T>();
  }
#endif
  return fused::kernels_of<T>(simd::best_target());
}

}  // namespace rino::bf16
#endif
