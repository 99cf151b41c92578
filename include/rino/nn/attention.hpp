#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>
#include <vector>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/nn/dropout.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/packing.hpp>

namespace rino {

/// Options of `Attention`.
struct AttentionOptions {
  std::int64_t width;
  std::int64_t heads;
  double dropout = 0.0;  ///< of the attention weights, in training
};

/// Multi-head self-attention within each of many packed sequences (Vaswani et al., arXiv:1706.03762).
class AttentionImpl : public torch::nn::Cloneable<AttentionImpl> {
 public:
  /// @throws rino::Error unless `heads` divides `width`.
  explicit AttentionImpl(const AttentionOptions& options) : options(options) {
    require(options.heads > 0 && options.width % options.heads == 0, "heads is ", options.heads, " and width ",
            options.width, ": the number of heads must divide the width");
    reset();
  }

  void reset() override {
    qkv = register_module("qkv", Linear(LinearOptions{options.width, 3 * options.width}));
    out = register_module("out", Linear(LinearOptions{options.width, options.width}));
    dropout = register_module("dropout", Dropout(options.dropout));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::Attention(width " << options.width << ", heads " << options.heads << ")";
  }

  /// @param x        packed rows [R, width].
  /// @param packing  the plan of their sequences; each row attends to the rows of its own sequence.
  /// @returns        [R, width].
  at::Tensor forward(const at::Tensor& x, const Packing& packing) {
    if (packing.runs.empty()) {
      return x;
    }
    const std::vector<at::Tensor> parts = qkv(x).split_with_sizes(packing.run_rows);
    std::vector<at::Tensor> attended;
    attended.reserve(parts.size());
    for (std::size_t r = 0; r < parts.size(); ++r) {
      attended.push_back(attend(parts[r], packing.runs[r]));
    }
    return out(at::cat(attended));
  }

  AttentionOptions options;
  Linear qkv{nullptr};
  Linear out{nullptr};
  Dropout dropout{nullptr};

 private:
  /// [rows, 3 width] -> [rows, width].
  at::Tensor attend(const at::Tensor& rows, const PackedRun& run) {
    const at::Tensor slots = run.dense() ? rows : rows.index_select(0, run.gather);
    const auto qkv = slots.view({run.sequences, run.length, 3, options.heads, options.width / options.heads})
                         .permute({2, 0, 3, 1, 4})
                         .unbind(0);
    const at::Tensor mixed =
        weigh(qkv[0], qkv[1], qkv[2], run).transpose(1, 2).reshape({run.sequences * run.length, options.width});
    return run.dense() ? mixed : mixed.index_select(0, run.scatter);
  }

  /// softmax(q k^T / sqrt(d)) v, each [B, H, L, d].
  at::Tensor weigh(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const PackedRun& run) {
    if (!dropout->active() && q.size(3) > kSmallHead) {
      const auto mask = run.dense() ? std::optional<at::Tensor>() : run.bias.to(q.scalar_type());
      return at::scaled_dot_product_attention(q, k, v, mask);
    }
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    at::Tensor scores = at::matmul(q * scale, k.transpose(2, 3));
    if (!run.dense()) {
      scores = scores + run.bias;
    }
    return at::matmul(dropout(scores.softmax(3)), v);
  }

  /// LibTorch's fused attention is slower than plain products for heads as narrow as nano's and lite's.
  static constexpr std::int64_t kSmallHead = 16;
};

TORCH_MODULE(Attention);

}  // namespace rino
