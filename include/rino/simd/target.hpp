#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>

namespace rino::simd {

/// Instruction sets for which the library's kernels are compiled, in ascending order. One program holds all that its
/// compiler can make, and the machine it runs on decides.
enum class Target {
  baseline,  ///< 16-byte vectors: what every processor of the architecture has (SSE2, NEON)
  avx2,      ///< 32-byte vectors, with FMA
  avx512,    ///< 64-byte vectors: F, DQ, BW and VL
};

/// All that this program holds and this machine can run, in ascending order.
inline std::vector<Target> supported_targets() {
  std::vector<Target> targets{Target::baseline};
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    targets.push_back(Target::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
      targets.push_back(Target::avx512);
    }
  }
#endif
  return targets;
}

/// The widest instruction set of this machine.
inline Target best_target() {
  static const Target best = supported_targets().back();
  return best;
}

}  // namespace rino::simd

namespace rino {

template <>
inline constexpr std::array enum_names<simd::Target> = {
    std::pair{simd::Target::baseline, std::string_view("baseline")},
    std::pair{simd::Target::avx2, std::string_view("avx2")},
    std::pair{simd::Target::avx512, std::string_view("avx512")},
};

namespace simd {

/// @throws rino::Error if this machine cannot run `target`.
inline void require_supported(Target target) {
  const std::vector<Target> targets = supported_targets();
  require(std::find(targets.begin(), targets.end(), target) != targets.end(), "this machine cannot run ",
          to_string(target), " instructions: choose ", to_string(targets.back()));
}

}  // namespace simd
}  // namespace rino
