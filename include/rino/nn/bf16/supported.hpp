#pragma once

#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/simd/target.hpp>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define RINO_HAS_BF16 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rino::bf16 {

/// What of a processor multiplies matrices of bfloat16.
enum class Unit {
  none,
  dots,   ///< AVX512-BF16: sums of two products in a vector's lanes (AMD from Zen 4 on, Intel from Cooper Lake on)
  tiles,  ///< AMX: Intel from Sapphire Rapids on
};

}  // namespace rino::bf16

namespace rino {

template <>
inline constexpr std::array enum_names<bf16::Unit> = {
    std::pair{bf16::Unit::none, std::string_view("none")},
    std::pair{bf16::Unit::dots, std::string_view("avx512-bf16")},
    std::pair{bf16::Unit::tiles, std::string_view("amx-bf16")},
};

}  // namespace rino

namespace rino::bf16 {

/// Whether this machine has it and the operating system lets this process use it.
inline bool runs(Unit unit) {
#ifdef RINO_HAS_BF16
  static const bool dots = __builtin_cpu_supports("avx512bf16") && simd::best_target() == simd::Target::avx512;
  static const bool tiles = [] {
    constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
    return dots && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return unit == Unit::none || (unit == Unit::dots ? dots : tiles);
#else
  return unit == Unit::none;
#endif
}

/// The one that is faster here than float32 is. Intel's processors make as many products of float32 in a cycle as
/// `dots` makes of bfloat16, AMD's half as many. The environment variable RINO_BF16 names another: none, avx512-bf16,
/// amx-bf16.
///
/// @throws rino::Error if it names one that there is not, or that this machine has not.
inline Unit best_unit() {
  static const Unit best = [] {
    if (const char* const wanted = std::getenv("RINO_BF16")) {
      const Unit unit = parse_enum<Unit>(wanted, "RINO_BF16");
      require(runs(unit), "RINO_BF16 is '", wanted, "', which this machine has not: leave it out, or choose none");
      return unit;
    }
#ifdef RINO_HAS_BF16
    if (runs(Unit::tiles)) {
      return Unit::tiles;
    }
    if (runs(Unit::dots) && __builtin_cpu_is("amd") != 0) {
      return Unit::dots;
    }
#endif
    return Unit::none;
  }();
  return best;
}

/// Whether this machine multiplies matrices of bfloat16 in hardware that the kernels know, faster than those of
/// float32. The first call asks it.
inline bool supported() {
  return best_unit() != Unit::none;
}

}  // namespace rino::bf16
