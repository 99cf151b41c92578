#pragma once

#include <cstdint>

#include <rino/simd/math.hpp>
#include <rino/simd/target.hpp>

/// Sequential recombination of several jets at once, one in each lane of the machine's vectors: the data that the
/// kernels of all instruction sets share. FastClusterer is what to use; how the kernel works is told in kt_lanes.inc.
namespace rino::detail::kt {

/// Objects of a jet are numbered as they are made: 0 .. n-1 its constituents, n .. 2n-2 what they merge into.
/// Numbers ride in the last bits of doubles.
inline constexpr int kNumberBits = 10;
inline constexpr std::uint64_t kNumberMask = (1U << kNumberBits) - 1;
/// Most constituents of a jet.
inline constexpr int kCapacity = 500;
/// Numbers that are no objects: the neighbour of what has none, a place to write what nobody reads, and a zero to add.
inline constexpr int kBeam = 1023;
inline constexpr int kNobody = 1022;
inline constexpr int kNothing = 1021;
inline constexpr int kNumbers = 1024;
/// The rows that are no live objects' but somewhere to write.
inline constexpr int kSpareRow = kCapacity;
inline constexpr int kRows = kCapacity + 1;
/// Most lanes of any instruction set.
inline constexpr int kMostLanes = 8;

/// (px, py, pz, E) in GeV.
struct alignas(32) Momentum {
  double p[4];
};

/// Passes of a jet that fit into the log. Each object seeks its neighbour once or twice.
inline constexpr int kPasses = 8 * kCapacity;

/// A number that has lent its last bits to another is good to this,
inline constexpr double kTagged = 0x1p-41;
/// a distance in the plane to this: rapidity and phi are good to a few 1e-15.
inline constexpr double kPlane = 0x1p-44;

/// What all jets have in common.
struct Plan {
  double radius = 0.0;
  /// p in the scale pT^2p: 1, 0 or -1.
  int exponent = 1;
  /// The numbers of objects at which to take a snapshot, in descending order, snapshot 1 the first; snapshot 0 is
  /// that of all constituents.
  const std::int32_t* stops = nullptr;
  int stop_count = 0;
  /// The number of distances at which to take one, after those; their values are the lanes'.
  int cut_count = 0;
  /// What is nearer together may be so by rounding: two squared distances, absolutely; a step and a cut, relatively.
  double near_tolerance = 0.0;
  double cut_tolerance = 0x1p-20;
};

/// As many jets as a vector has lanes, and the memory to cluster them in. Arrays are [...][lanes].
struct Group {
  // What goes in.
  std::int32_t constituents[kMostLanes];  ///< n, 0 for a lane without a jet
  Momentum* momenta;                      ///< [kNumbers] objects; the first n go in, the others come out
  double* cuts;                           ///< [cut_count] d_cut, ascending
  std::int32_t* cut_snapshots;            ///< [cut_count] the snapshots that they are for

  // What comes out.
  bool undecided[kMostLanes];       ///< two distances were so close that rounding could have decided between them
  std::int32_t passes[kMostLanes];  ///< passes of this jet
  /// [kPasses][3] of every pass: d_ij R^2 with the number of the object that led, the squared distance of its
  /// neighbour with that one's, and what came of it: a new object's number, the leader's own if it only sought its
  /// neighbour, else kNobody.
  double* log;
  std::int32_t* sizes;  ///< [1 + stop_count + cut_count] objects in a snapshot, 0 if it was not taken
  double* snapshots;    ///< [1 + stop_count + cut_count][kCapacity] numbers in descending pT
  bool* unsorted;       ///< [1 + stop_count + cut_count] some pT are equal to 12 digits

  // What is of use inside only.
  void* rows;           ///< [kRows]
  double* ranks;        ///< [kNumbers] pT^2 with the number in its last bits
  std::int64_t* slots;  ///< [kNumbers] the row of a live object, kDead for one that has merged, kNoRow for the beam
};
inline constexpr std::int64_t kDead = -1;
inline constexpr std::int64_t kNoRow = -2;

/// Snapshots of a group.
inline int snapshot_count(const Plan& plan) {
  return 1 + plan.stop_count + plan.cut_count;
}

}  // namespace rino::detail::kt

namespace rino::detail::kt {

/// The kernel of an instruction set.
struct Kernel {
  int lanes;
  int row_bytes;
  /// Clusters `count` groups, their work interleaved.
  void (*cluster)(Group* groups, int count, const Plan& plan);
  /// A jet's columns (px, py, pz, E) into a lane.
  void (*read64)(const Group& group, int lane, const double* const* columns, std::int32_t n);
  void (*read32)(const Group& group, int lane, const float* const* columns, std::int32_t n);
  /// Objects of a snapshot out of a lane.
  void (*write64)(const Group& group, int lane, const double* ranks, std::int32_t count, double* const* columns);
  void (*write32)(const Group& group, int lane, const double* ranks, std::int32_t count, float* const* columns);
};

/// See fused::kernels_of: the same holds for RINO_KERNELS_ELSEWHERE.
/// @tparam Angular  whether the exponent is 0: distances are angles alone.
template <bool Angular>
Kernel kernel(simd::Target target);

}  // namespace rino::detail::kt

#ifndef RINO_KERNELS_ELSEWHERE
#define RINO_SIMD_KERNELS <rino/views/detail/kt_rows.inc>
#include <rino/simd/each_target.inc>

#define RINO_SIMD_KERNELS <rino/views/detail/kt_steps.inc>
#include <rino/simd/each_target.inc>

#define RINO_SIMD_KERNELS <rino/views/detail/kt_lanes.inc>
#include <rino/simd/each_target.inc>

namespace rino::detail::kt {

#define RINO_KT_KERNEL(target)                                                                          \
  Kernel {                                                                                              \
    simd::target::kLanes<double>, sizeof(simd::target::KtRow), &simd::target::kt_cluster<Angular>,      \
        &simd::target::kt_read<double>, &simd::target::kt_read<float>, &simd::target::kt_write<double>, \
        &simd::target::kt_write<float>                                                                  \
  }

template <bool Angular>
Kernel kernel(simd::Target target) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (target == simd::Target::avx512) {
    return RINO_KT_KERNEL(avx512);
  }
  if (target == simd::Target::avx2) {
    return RINO_KT_KERNEL(avx2);
  }
#endif
  static_cast<void>(target);
  return RINO_KT_KERNEL(baseline);
}

#undef RINO_KT_KERNEL

}  // namespace rino::detail::kt
#endif
