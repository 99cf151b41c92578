#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <utility>

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/named_enum.hpp>
#include <rino/nn/attention.hpp>
#include <rino/nn/dropout.hpp>
#include <rino/nn/layer_scale.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/packing.hpp>
#include <rino/nn/swiglu.hpp>

namespace rino {

/// What a block's feed-forward part is.
enum class FeedForwardKind {
  gelu,    ///< linear, GELU, linear
  swiglu,  ///< `SwiGLU`
};

template <>
inline constexpr std::array enum_names<FeedForwardKind> = {
    std::pair{FeedForwardKind::gelu, std::string_view("gelu")},
    std::pair{FeedForwardKind::swiglu, std::string_view("swiglu")},
};

/// Options of `TransformerBlock`.
struct TransformerBlockOptions {
  std::int64_t width;
  std::int64_t heads;
  std::int64_t feedforward;  ///< width of the hidden layer
  double dropout = 0.1;      ///< of attention weights, hidden layer and both branches, in training
  NormKind norm = NormKind::layer;
  double norm_eps = 1e-5;
  FeedForwardKind feedforward_kind = FeedForwardKind::gelu;
  double layer_scale = 0.0;  ///< initial value of the scales of both branches; 0: none
};

/// Pre-norm transformer block on packed rows: x + attention(norm(x)), then x + feed-forward(norm(x)) (Xiong et al.,
/// arXiv:2002.04745), each branch times its `LayerScale` where there is one. With LayerNorm, GELU and no scales the
/// same function as PyTorch's `nn.TransformerEncoderLayer(norm_first=True)`.
class TransformerBlockImpl : public torch::nn::Cloneable<TransformerBlockImpl> {
 public:
  explicit TransformerBlockImpl(const TransformerBlockOptions& options) : options(options) { reset(); }

  void reset() override {
    const NormOptions norm{options.width, options.norm, options.norm_eps};
    norm1 = register_module("norm1", Norm(norm));
    attention =
        register_module("attention", Attention(AttentionOptions{options.width, options.heads, options.dropout}));
    if (scaled()) {
      scale1 = register_module("scale1", LayerScale(LayerScaleOptions{options.width, options.layer_scale}));
    }
    norm2 = register_module("norm2", Norm(norm));
    if (options.feedforward_kind == FeedForwardKind::gelu) {
      linear1 = register_module("linear1", Linear(LinearOptions{options.width, options.feedforward}));
      linear2 = register_module("linear2", Linear(LinearOptions{options.feedforward, options.width}));
    } else {
      swiglu = register_module("swiglu", SwiGLU(SwiGLUOptions{options.width, options.feedforward, options.dropout}));
    }
    if (scaled()) {
      scale2 = register_module("scale2", LayerScale(LayerScaleOptions{options.width, options.layer_scale}));
    }
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
    const at::Tensor y = kept + scale(scale1, dropout(attention(norm1(x), packing, firsts)));
    return y + scale(scale2, dropout(feed_forward(norm2(y))));
  }

  bool scaled() const { return options.layer_scale != 0; }

  TransformerBlockOptions options;
  Norm norm1{nullptr};
  Attention attention{nullptr};
  LayerScale scale1{nullptr};  ///< empty without layer scale
  Norm norm2{nullptr};
  Linear linear1{nullptr};  ///< empty with SwiGLU, as is `linear2`
  Linear linear2{nullptr};
  SwiGLU swiglu{nullptr};  ///< empty with GELU
  LayerScale scale2{nullptr};
  Dropout dropout{nullptr};

 private:
  static at::Tensor scale(LayerScale& layer, const at::Tensor& branch) { return layer ? layer(branch) : branch; }

  at::Tensor feed_forward(const at::Tensor& x) { return swiglu ? swiglu(x) : linear2(dropout(at::gelu(linear1(x)))); }
};

TORCH_MODULE(TransformerBlock);

}  // namespace rino
