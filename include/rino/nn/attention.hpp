#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>
#include <vector>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/torch_compat.hpp>
#include <rino/nn/dropout.hpp>
#include <rino/nn/initialization.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/packing.hpp>

namespace rino {

/// What is added to the scores of every run of a `Packing`, [B, heads, L, L]; empty: nothing.
using AttentionBias = std::vector<at::Tensor>;

/// Options of `Attention`.
struct AttentionOptions {
  std::int64_t width;
  std::int64_t heads;
  double dropout = 0.0;  ///< of the attention weights, in training
};

/// Multi-head self-attention within each of many packed sequences (Vaswani et al., arXiv:1706.03762). Initial values
/// are those of PyTorch's `nn.MultiheadAttention`: queries, keys and values by Xavier as one matrix, all biases 0.
///
/// On CUDA LibTorch's kernels for sequences of any lengths do it: FlashAttention (arXiv:2205.14135; bfloat16 needs
/// compute capability 8.0) for half precisions, memory-efficient attention (arXiv:2112.05682) for float32 and heads
/// wider than 256; but where weights are dropped, plain products do (`Packing::takes_any_length`).
class AttentionImpl : public torch::nn::Cloneable<AttentionImpl> {
 public:
  /// @throws rino::Error unless `heads` divides `width`.
  explicit AttentionImpl(const AttentionOptions& options) : options(options) {
    require(options.heads > 0 && options.width % options.heads == 0, "heads is ", options.heads, " and width ",
            options.width, ": the number of heads must divide the width");
    reset();
  }

  void reset() override {
    const std::int64_t width = options.width;
    qkv = register_module(
        "qkv", Linear(LinearOptions{
                   .in = width, .out = 3 * width, .bound = xavier_bound(width, 3 * width), .zero_bias = true}));
    out = register_module("out", Linear(LinearOptions{.in = width, .out = width, .zero_bias = true}));
    dropout = register_module("dropout", Dropout(options.dropout));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::Attention(width " << options.width << ", heads " << options.heads << ")";
  }

  /// @param x        packed rows [R, width].
  /// @param packing  the plan of their S sequences; each row attends to the rows of its own sequence.
  /// @param firsts   only the first row of every sequence asks; all rows are still looked at.
  /// @param bias     of every run, added to the scores before the softmax, -inf where padding is; empty: none.
  /// @returns        [R, width], or [S, width] of the first rows.
  at::Tensor forward(const at::Tensor& x, const Packing& packing, bool firsts = false, const AttentionBias& bias = {}) {
    return firsts ? ask(x.index_select(0, packing.firsts), x, packing, bias) : attend(at::Tensor(), x, packing, bias);
  }

  /// Rows of their own that ask, one of every sequence in packed order: [S, width] -> [S, width].
  at::Tensor ask(const at::Tensor& askers, const at::Tensor& x, const Packing& packing,
                 const AttentionBias& bias = {}) {
    return attend(askers, x, packing, bias);
  }

  AttentionOptions options;
  Linear qkv{nullptr};
  Linear out{nullptr};
  Dropout dropout{nullptr};

 private:
  /// Of all rows, or of `askers` where they are defined.
  at::Tensor attend(const at::Tensor& askers, const at::Tensor& x, const Packing& packing, const AttentionBias& bias) {
    if (packing.runs.empty()) {
      return x;
    }
    const std::int64_t width = options.width;
    std::vector<at::Tensor> queries;
    std::vector<at::Tensor> rows;
    if (askers.defined()) {
      queries = split(at::linear(askers, qkv->weight.narrow(0, 0, width), qkv->bias.narrow(0, 0, width)),
                      packing.run_sequences);
      rows = split(at::linear(x, qkv->weight.narrow(0, width, 2 * width), qkv->bias.narrow(0, width, 2 * width)),
                   packing.run_rows);
    } else {
      rows = split(qkv(x), packing.run_rows);
    }
    std::vector<at::Tensor> attended;
    attended.reserve(rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const PackedRun& run = packing.runs[r];
      const at::Tensor mask = bias.empty() ? run.bias : bias[r];
      attended.push_back(askers.defined() ? attend_asked(queries[r], rows[r], run, mask)
                                          : attend_all(rows[r], run, mask));
    }
    return out(attended.size() == 1 ? attended.front() : at::cat(attended));
  }

  /// Rows of every run. Of one run they are all: the backward pass of a split copies.
  static std::vector<at::Tensor> split(const at::Tensor& x, const std::vector<std::int64_t>& sizes) {
    return sizes.size() == 1 ? std::vector{x} : x.split_with_sizes(sizes);
  }

  /// [rows, parts * width] -> `parts` tensors [rows, heads, d].
  std::vector<at::Tensor> heads_of(const at::Tensor& rows, std::int64_t parts) const {
    return rows.view({rows.size(0), parts, options.heads, options.width / options.heads}).unbind(1);
  }

  /// [rows, parts * width] -> `parts` tensors [B, heads, L, d].
  std::vector<at::Tensor> split_heads(const at::Tensor& rows, const PackedRun& run, std::int64_t parts) const {
    const at::Tensor slots = run.dense() ? rows : rows.index_select(0, run.gather);
    return slots.view({run.sequences, run.length, parts, options.heads, options.width / options.heads})
        .permute({2, 0, 3, 1, 4})
        .unbind(0);
  }

  /// [rows, 3 width] -> [rows, width].
  at::Tensor attend_all(const at::Tensor& rows, const PackedRun& run, const at::Tensor& mask) {
    if (run.variable()) {
      const std::vector<at::Tensor> parts = heads_of(rows, 3);
      return weigh_variable(parts[0], parts[1], parts[2], run.cumulative, run.length, run);
    }
    const std::vector<at::Tensor> qkv_heads = split_heads(rows, run, 3);
    const at::Tensor mixed = weigh(qkv_heads[0], qkv_heads[1], qkv_heads[2], mask)
                                 .transpose(1, 2)
                                 .reshape({run.sequences * run.length, options.width});
    return run.dense() ? mixed : mixed.index_select(0, run.scatter);
  }

  /// Queries [B, width] and rows [rows, 2 width] of keys and values -> [B, width].
  at::Tensor attend_asked(const at::Tensor& queries, const at::Tensor& rows, const PackedRun& run,
                          const at::Tensor& mask) {
    if (run.variable()) {
      const std::vector<at::Tensor> parts = heads_of(rows, 2);
      return weigh_variable(heads_of(queries, 1)[0], parts[0], parts[1], run.one_each, 1, run);
    }
    const std::vector<at::Tensor> kv_heads = split_heads(rows, run, 2);
    const at::Tensor q = queries.view({run.sequences, options.heads, 1, options.width / options.heads});
    return weigh(q, kv_heads[0], kv_heads[1], mask).reshape({run.sequences, options.width});
  }

  /// softmax(q k^T / sqrt(d) + mask) v, each [B, heads, L, d]; q may have one row instead of L, the mask be undefined.
  at::Tensor weigh(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask) {
    if (!dropout->active() && q.size(3) > kSmallHead) {
      return at::scaled_dot_product_attention(q, k, v,
                                              mask.defined() ? std::optional(mask.to(q.scalar_type())) : std::nullopt);
    }
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    at::Tensor scores = at::matmul(q * scale, k.transpose(2, 3));
    if (mask.defined()) {
      scores = scores + mask;
    }
    return at::matmul(dropout(scores.softmax(3)), v);
  }

  /// The same by a kernel that takes sequences of any lengths: q [Rq, heads, d], k and v [rows, heads, d] -> [Rq,
  /// width].
  at::Tensor weigh_variable(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& cumulative_q, std::int64_t longest_q, const PackedRun& run) const {
    const std::int64_t d = q.size(2);
    const std::int64_t missing = (kHeadMultiple - d % kHeadMultiple) % kHeadMultiple;
    const auto padded = [&](const at::Tensor& x) { return missing == 0 ? x : at::constant_pad_nd(x, {0, missing}); };
    require(!dropout->active(), "attention weights are dropped, which kernels for sequences of any lengths do ",
            "differently in their backward pass: make the plan with altered = true");
    const double scale = 1.0 / std::sqrt(static_cast<double>(d));
    const bool flash = q.scalar_type() != at::kFloat && d + missing <= kFlashHead;
    const auto kernel = flash ? compat::flash_attention : compat::efficient_attention;
    const at::Tensor mixed =
        kernel(padded(q), padded(k), padded(v), cumulative_q, run.cumulative, longest_q, run.length, scale);
    return (missing == 0 ? mixed : mixed.narrow(2, 0, d)).reshape({q.size(0), options.width});
  }

  static constexpr std::int64_t kHeadMultiple = 8;  ///< of the width of a head, what those kernels ask for
  static constexpr std::int64_t kFlashHead = 256;   ///< the widest head of FlashAttention

  /// LibTorch's fused attention is slower than plain products for heads as narrow as nano's and lite's.
  static constexpr std::int64_t kSmallHead = 16;
};

TORCH_MODULE(Attention);

}  // namespace rino
