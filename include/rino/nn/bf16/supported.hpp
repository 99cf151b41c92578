#pragma once

#include <rino/simd/target.hpp>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define RINO_HAS_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rino::bf16 {

/// Whether this machine multiplies matrices of bfloat16 in hardware that the kernels know (Intel's AMX) and the
/// operating system lets this process do so. The first call asks it.
inline bool supported() {
#ifdef RINO_HAS_AMX
  static const bool answer = [] {
    constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-tile") &&
           __builtin_cpu_supports("amx-bf16") && simd::best_target() == simd::Target::avx512 &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return answer;
#else
  return false;
#endif
}

}  // namespace rino::bf16
