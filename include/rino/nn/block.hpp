#pragma once

#include <cstdint>
#include <ostream>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/nn/attention.hpp>
#include <rino/nn/dropout.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/packing.hpp>

namespace rino {

/// Options of `TransformerBlock`.
struct TransformerBlockOptions {
  std::int64_t width;
  std::int64_t heads;
  std::int64_t feedforward;  ///< width of the hidden layer
  double dropout = 0.1;      ///< of attention weights, hidden layer and both branches, in training
};

/// Pre-norm transformer block on packed rows: x + attention(norm(x)), then x + feed-forward(norm(x)) with GELU
/// (Xiong et al., arXiv:2002.04745). The same function as PyTorch's `nn.TransformerEncoderLayer(norm_first=True)`.
class TransformerBlockImpl : public torch::nn::Cloneable<TransformerBlockImpl> {
 public:
  explicit TransformerBlockImpl(const TransformerBlockOptions& options) : options(options) { reset(); }

  void reset() override {
    norm1 = register_module("norm1", LayerNorm(LayerNormOptions{options.width}));
    attention =
        register_module("attention", Attention(AttentionOptions{options.width, options.heads, options.dropout}));
    norm2 = register_module("norm2", LayerNorm(LayerNormOptions{options.width}));
    linear1 = register_module("linear1", Linear(LinearOptions{options.width, options.feedforward}));
    linear2 = register_module("linear2", Linear(LinearOptions{options.feedforward, options.width}));
    dropout = register_module("dropout", Dropout(options.dropout));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::TransformerBlock(width " << options.width << ", heads " << options.heads << ", feedforward "
           << options.feedforward << ", dropout " << options.dropout << ")";
  }

  /// [R, width] -> [R, width]; `packing` is the plan of the R rows' sequences. With `firsts`, the result for the
  /// first row of every sequence alone, [S, width]: all that is wanted of the last block when only jets are embedded.
  at::Tensor forward(const at::Tensor& x, const Packing& packing, bool firsts = false) {
    const at::Tensor kept = firsts ? x.index_select(0, packing.firsts) : x;
    const at::Tensor y = kept + dropout(attention(norm1(x), packing, firsts));
    return y + dropout(linear2(dropout(at::gelu(linear1(norm2(y))))));
  }

  TransformerBlockOptions options;
  LayerNorm norm1{nullptr};
  Attention attention{nullptr};
  LayerNorm norm2{nullptr};
  Linear linear1{nullptr};
  Linear linear2{nullptr};
  Dropout dropout{nullptr};
};

TORCH_MODULE(TransformerBlock);

}  // namespace rino
