#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <rino/simd/target.hpp>

/// Vectors of every instruction set: rino::simd::{baseline,avx2,avx512}::Vec<T> and what can be done with them.
/// GCC's vector extensions, because they need no library, exist for every architecture, and let the compiler choose
/// the instructions; intrinsics only where it chooses badly.
#define RINO_SIMD_KERNELS <rino/simd/detail/vector.inc>
#include <rino/simd/each_target.inc>
