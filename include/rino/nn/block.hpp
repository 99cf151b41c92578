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

/// How a transformer block is made.
enum class BlockKind {
  pre_norm,    ///< norms in front of attention and feed-forward part
  normformer,  ///< further ones behind attention and within the feed-forward part, and scales of heads and residual
};

template <>
inline constexpr std::array enum_names<BlockKind> = {
    std::pair{BlockKind::pre_norm, std::string_view("pre-norm")},
    std::pair{BlockKind::normformer, std::string_view("normformer")},
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
  BlockKind kind = BlockKind::pre_norm;
};

/// Pre-norm transformer block on packed rows: x + attention(norm(x)), then x + feed-forward(norm(x)) (Xiong et al.,
/// arXiv:2002.04745), each branch times its `LayerScale` where there is one. With LayerNorm, GELU and no scales the
/// same function as PyTorch's `nn.TransformerEncoderLayer(norm_first=True)`.
///
/// `BlockKind::normformer` is ParT's (arXiv:2202.03772, after Shleifer et al., arXiv:2110.09456): a factor for each
/// head and a norm behind attention, a norm of the hidden layer behind its dropout, and a factor for each column of
/// what the feed-forward part is added to. The authors' code scales the heads of what comes out of attention's last
/// layer, and hands its columns on with heads and columns of a head exchanged; so does this.
class TransformerBlockImpl : public torch::nn::Cloneable<TransformerBlockImpl> {
 public:
  /// @throws rino::Error for a NormFormer with SwiGLU or layer scale, which it has factors of its own for.
  explicit TransformerBlockImpl(const TransformerBlockOptions& options) : options(options) {
    require(!normformer() || (options.feedforward_kind == FeedForwardKind::gelu && !scaled()),
            "block is 'normformer', feedforward_kind '", to_string(options.feedforward_kind), "' and layer_scale ",
            options.layer_scale, ": choose 'gelu' and 0, or block 'pre-norm'");
    reset();
  }

  void reset() override {
    const NormOptions norm{options.width, options.norm, options.norm_eps};
    norm1 = register_module("norm1", Norm(norm));
    attention =
        register_module("attention", Attention(AttentionOptions{options.width, options.heads, options.dropout}));
    if (normformer()) {
      head_scale = register_module("head_scale", LayerScale(LayerScaleOptions{options.heads, 1.0}));
      attention_norm = register_module("attention_norm", Norm(norm));
    }
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
    if (normformer()) {
      hidden_norm =
          register_module("hidden_norm", Norm(NormOptions{options.feedforward, options.norm, options.norm_eps}));
      residual_scale = register_module("residual_scale", LayerScale(LayerScaleOptions{options.width, 1.0}));
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
  at::Tensor forward(const at::Tensor& x, const Packing& packing, bool firsts = false, const AttentionBias& bias = {}) {
    const at::Tensor kept = firsts ? x.index_select(0, packing.firsts) : x;
    return finish(kept, attention(norm1(x), packing, firsts, bias));
  }

  /// Class attention (Touvron et al., arXiv:2103.17239): the first rows [S, width] ask as they are, without a norm.
  at::Tensor ask(const at::Tensor& firsts, const at::Tensor& x, const Packing& packing) {
    return finish(firsts, attention->ask(firsts, norm1(x), packing));
  }

  /// Weight [width, width] and bias [width] of attention's last layer, with a NormFormer's factors of heads and its
  /// exchange of columns.
  std::pair<at::Tensor, at::Tensor> out_layer() const {
    const Linear& out = attention->out;
    if (!head_scale) {
      return {out->weight, out->bias};
    }
    const at::Tensor by_head = head_scale->scale.view({options.heads, 1, 1});
    const auto exchanged = [&](const at::Tensor& rows) {
      return (rows.view({options.heads, head_width(), -1}) * by_head).transpose(0, 1).reshape(rows.sizes());
    };
    return {exchanged(out->weight), exchanged(out->bias)};
  }

  bool scaled() const { return options.layer_scale != 0; }
  bool normformer() const { return options.kind == BlockKind::normformer; }

  TransformerBlockOptions options;
  Norm norm1{nullptr};
  Attention attention{nullptr};
  LayerScale head_scale{nullptr};  ///< [heads]; empty unless `normformer`, as are the three below
  Norm attention_norm{nullptr};
  Norm hidden_norm{nullptr};
  LayerScale residual_scale{nullptr};
  LayerScale scale1{nullptr};  ///< empty without layer scale
  Norm norm2{nullptr};
  Linear linear1{nullptr};  ///< empty with SwiGLU, as is `linear2`
  Linear linear2{nullptr};
  SwiGLU swiglu{nullptr};  ///< empty with GELU
  LayerScale scale2{nullptr};
  Dropout dropout{nullptr};

 private:
  static at::Tensor scale(LayerScale& layer, const at::Tensor& branch) { return layer ? layer(branch) : branch; }

  at::Tensor feed_forward(const at::Tensor& x) {
    if (swiglu) {
      return swiglu(x);
    }
    const at::Tensor hidden = dropout(at::gelu(linear1(x)));
    return linear2(hidden_norm ? hidden_norm(hidden) : hidden);
  }

  /// From the input and what attention made of it to the output.
  at::Tensor finish(const at::Tensor& x, at::Tensor branch) {
    if (head_scale) {
      branch =
          attention_norm(by_columns(branch.view({-1, options.heads, head_width()}) * head_scale->scale.unsqueeze(1)));
    }
    const at::Tensor y = x + scale(scale1, dropout(branch));
    return scale(residual_scale, y) + scale(scale2, dropout(feed_forward(norm2(y))));
  }

  /// [n, heads, d] -> [n, d * heads].
  static at::Tensor by_columns(const at::Tensor& heads) { return heads.transpose(1, 2).flatten(1); }
  std::int64_t head_width() const { return options.width / options.heads; }
};

TORCH_MODULE(TransformerBlock);

}  // namespace rino
