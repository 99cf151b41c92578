#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

/// LibTorch's functions without a promise of stability, called here and nowhere else. The calls below fit the
/// signatures of LibTorch 2.7 to 2.13: arguments that differ between them (`block_table`, `num_splits` of the newer
/// ones, further results) are left at their defaults or not looked at.
namespace rino::compat {

/// Attention within each of S sequences that lie packed in the rows of q, k and v, on CUDA. Differentiable.
///
/// @param q            [Rq, heads, d]; k and v [Rk, heads, d]; float16 or bfloat16, d a multiple of 8 up to 256.
/// @param cumulative_q int32 [S+1] first row of every sequence of q, and the number of rows; cumulative_k of k and v.
/// @param longest_q    length of the longest sequence of q; longest_k of k.
/// @param scale        of the products of q and k.
/// @returns            [Rq, heads, d].
inline at::Tensor flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& cumulative_q, const at::Tensor& cumulative_k,
                                  std::int64_t longest_q, std::int64_t longest_k, double scale) {
  return std::get<0>(at::_flash_attention_forward(q, k, v, cumulative_q, cumulative_k, longest_q, longest_k,
                                                  /*dropout_p=*/0.0, /*is_causal=*/false, /*return_debug_mask=*/false,
                                                  scale));
}

/// The same for float32 too, d a multiple of 8 (4 for float32) without a limit.
inline at::Tensor efficient_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const at::Tensor& cumulative_q, const at::Tensor& cumulative_k,
                                      std::int64_t longest_q, std::int64_t longest_k, double scale) {
  // One batch of everything; the sums of exponentials are what a backward pass needs.
  const bool differentiated =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return std::get<0>(at::_efficient_attention_forward(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), std::nullopt,
                                                      cumulative_q, cumulative_k, longest_q, longest_k,
                                                      /*dropout_p=*/0.0, /*custom_mask_type=*/0, differentiated, scale))
      .squeeze(0);
}

/// Dropout in one kernel, on CUDA; the mask takes a byte a value. Differentiable.
///
/// @param keep  probability of a value to be kept.
inline at::Tensor fused_dropout(const at::Tensor& x, double keep, const std::optional<at::Generator>& generator) {
  return std::get<0>(at::_fused_dropout(x, keep, generator));
}

}  // namespace rino::compat
