#pragma once

#include <rino/simd/vector.hpp>

/// Elementary functions of vectors of doubles: rino::simd::{baseline,avx2,avx512}::log and atan2, within one or two
/// units in the last place. Their bits are the same with every instruction set and do not depend on the machine's
/// mathematical library.
#define RINO_SIMD_KERNELS <rino/simd/detail/math.inc>
#include <rino/simd/each_target.inc>
