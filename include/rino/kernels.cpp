// The kernels for programs whose other files are compiled with RINO_KERNELS_ELSEWHERE.
#undef RINO_KERNELS_ELSEWHERE
#include <rino/nn/bf16/kernels.hpp>
#include <rino/nn/fused/kernels.hpp>
#include <rino/views/detail/kt_lanes.hpp>

template rino::fused::Kernels<float> rino::fused::kernels_of<float>(rino::simd::Target);
template rino::fused::Kernels<double> rino::fused::kernels_of<double>(rino::simd::Target);
template rino::fused::PairKernels<float> rino::fused::pair_kernels_of<float>(rino::simd::Target);
template rino::fused::PairKernels<double> rino::fused::pair_kernels_of<double>(rino::simd::Target);
template rino::fused::Kernels<float> rino::bf16::kernels<float>(rino::bf16::Unit);
template rino::detail::kt::Kernel rino::detail::kt::kernel<false>(rino::simd::Target);
template rino::detail::kt::Kernel rino::detail::kt::kernel<true>(rino::simd::Target);
