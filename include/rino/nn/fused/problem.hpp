#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace rino::fused {

using Index = std::int64_t;

/// Sizes and kinds of the encoder that the kernels run, see `JetEncoderOptions`.
struct Shape {
  Index inputs = 0;  ///< columns E of the embedding's input; 0: the rows are given as they enter the first block
  Index width = 0;   ///< W
  Index heads = 0;
  Index layers = 0;
  Index feedforward = 0;    ///< F
  double eps = 1e-5;        ///< of the norms
  bool rms = false;         ///< RMSNorm, which has no bias, in place of LayerNorm
  bool gated = false;       ///< SwiGLU in place of GELU: linear1 makes F gates, then the F values that they multiply
  bool scaled = false;      ///< LayerScale: a learned factor per column at the end of both branches
  bool normformer = false;  ///< a norm behind attention, one of the hidden layer, a factor per column of the residual
  bool biased = false;      ///< scores of attention have a bias per head and pair of tokens
  bool last_norm = true;    ///< rows are normalised at the end
  Index own = 0;            ///< rows in front of every sequence's tokens, which have no bias

  Index head_width() const { return width / heads; }
  Index hidden() const { return gated ? 2 * feedforward : feedforward; }  ///< columns that linear1 makes
};

/// The tensors of a block, in the order in which they are given to `encode`; those that the shape has not are left out.
enum BlockTensor : int {
  kNorm1Weight,
  kNorm1Bias,
  kQkvWeight,
  kQkvBias,
  kOutWeight,
  kOutBias,
  kBranchNormWeight,  ///< of the norm behind attention
  kBranchNormBias,
  kScale1,  ///< these two are for the caller of the kernels to fold into the linear layers before them
  kNorm2Weight,
  kNorm2Bias,
  kLinear1Weight,
  kLinear1Bias,
  kHiddenNormWeight,
  kHiddenNormBias,
  kLinear2Weight,
  kLinear2Bias,
  kScale2,
  kResidualScale,
  kBlockTensors,
};

/// Distance between rows of n values: no power of two, which would let few sets of a cache do all the work.
constexpr Index pitch(Index n) {
  return n % 64 == 0 ? n + 16 : n;
}

/// Where every parameter lies: one flat buffer for all gradients. Tensors that the shape has not are of size 0.
class ParameterMap {
 public:
  explicit ParameterMap(const Shape& shape) {
    const Index w = shape.width;
    const Index f = shape.feedforward;
    const Index h = shape.hidden();
    const Index bias = shape.rms ? 0 : w;
    const Index scale = shape.scaled ? w : 0;
    const auto further = [&](Index size) { return shape.normformer ? size : 0; };
    sizes_ = {w,
              bias,
              3 * w * w,
              3 * w,
              w * w,
              w,
              further(w),
              further(bias),
              scale,
              w,
              bias,
              h * w,
              h,
              further(f),
              further(shape.rms ? 0 : f),
              w * f,
              w,
              scale,
              further(w)};
    offsets_[0] = w * shape.inputs;
    for (std::size_t t = 0; t < kBlockTensors; ++t) {
      offsets_[t + 1] = offsets_[t] + sizes_[t];
    }
    block_ = offsets_[kBlockTensors] - offsets_[0];
    norm_ = offsets_[0] + shape.layers * block_;
    norm_size_ = shape.last_norm ? w : 0;
    norm_bias_size_ = shape.last_norm ? bias : 0;
  }

  Index embedding() const { return 0; }  ///< [W, E]
  Index block(Index layer, BlockTensor tensor) const {
    return offsets_[static_cast<std::size_t>(tensor)] + layer * block_;
  }
  Index size(BlockTensor tensor) const { return sizes_[static_cast<std::size_t>(tensor)]; }
  Index norm_weight() const { return norm_; }
  Index norm_size() const { return norm_size_; }
  Index norm_bias() const { return norm_ + norm_size_; }
  Index norm_bias_size() const { return norm_bias_size_; }
  Index total() const { return norm_ + norm_size_ + norm_bias_size_; }

 private:
  std::array<Index, kBlockTensors> sizes_{};
  std::array<Index, kBlockTensors + 1> offsets_{};
  Index block_ = 0;
  Index norm_ = 0;
  Index norm_size_ = 0;
  Index norm_bias_size_ = 0;
};

/// Pointers to the tensors of a block, by BlockTensor; row-major and contiguous, null where there is none.
template <typename T>
struct BlockParameters {
  const T* tensor[kBlockTensors] = {};
};

/// Pointers to all parameters.
template <typename T>
struct Parameters {
  const T* embedding = nullptr;  ///< [W, E]
  const BlockParameters<T>* blocks = nullptr;
  const T* norm_weight = nullptr;  ///< null without a last norm
  const T* norm_bias = nullptr;    ///< null with RMSNorm
};

/// Which values a training pass drops: a function of seed, place and position alone, so that the backward pass
/// draws the same again and neither chunks nor threads change a result.
struct DropoutRule {
  double probability = 0.0;
  std::uint32_t seed = 0;

  bool active() const { return probability > 0; }
  /// A value is kept where its 32 random bits are below this.
  std::uint32_t threshold() const { return static_cast<std::uint32_t>((1.0 - probability) * 4294967295.0); }
  double scale() const { return 1.0 / (1.0 - probability); }
};

/// The places of a block where values are dropped.
enum class DropoutSite : std::uint32_t { attention, attention_branch, hidden, feedforward_branch };

/// The finaliser of MurmurHash3 (Appleby): 32 well-mixed bits of 32.
constexpr std::uint32_t mix(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85ebca6bU;
  x = (x ^ (x >> 13)) * 0xc2b2ae35U;
  return x ^ (x >> 16);
}

/// The key of a place; the bits of the value at `position` there are mix(position * 0x9e3779b1 + key).
/// Positions: packed row * columns + column for rows; (packed query row * heads + head) * 65536 + key for attention.
constexpr std::uint32_t dropout_key(std::uint32_t seed, Index layer, DropoutSite site) {
  return mix(seed ^ mix(static_cast<std::uint32_t>(layer) * 4U + static_cast<std::uint32_t>(site) + 1U));
}

/// The sequences that a pass works on.
template <typename T>
struct Batch {
  const T* inputs = nullptr;  ///< [rows, E] of the embedding, class rows first in every sequence; or the rows [rows, W]
  const Index* starts = nullptr;  ///< [sequences + 1] first packed row of every sequence
  Index rows = 0;
  Index sequences = 0;
  bool firsts = false;           ///< only the first row of every sequence is wanted of the last block
  const T* bias = nullptr;       ///< [pairs, heads] of tokens i <= j of every sequence, j slowest; null: none
  const Index* pairs = nullptr;  ///< [sequences + 1] first pair of every sequence
  DropoutRule dropout;
};

/// What the forward pass keeps for the backward pass, per layer [rows, W] or [heads, rows]. With `firsts`, the last
/// layer's y and attended have one row per sequence. All null: nothing is kept.
template <typename T>
struct Saved {
  T* x = nullptr;         ///< [layers, rows, W] input of every block
  T* y = nullptr;         ///< [layers, rows, W] after attention
  T* attended = nullptr;  ///< [layers, rows, W] before the output projection
  T* maximum = nullptr;   ///< [layers, heads, rows] of a query's scores
  T* inverse = nullptr;   ///< [layers, heads, rows] 1 / sum of the exponentials
  T* last = nullptr;      ///< [rows or sequences, W] input of the last norm
  Index kept_from =
      0;             ///< of this layer and those behind it there is more, for the backward pass not to compute again:
  T* qkv = nullptr;  ///< [layers - kept_from, rows, pitch(3W)] queries, keys and values
  T* hidden = nullptr;  ///< [layers - kept_from, rows, pitch(hidden)] what linear1 makes
};

/// What comes out: jets, with constituents unless `firsts`; or all rows, where they are not null.
template <typename T>
struct Outputs {
  T* jets = nullptr;          ///< [sequences, W]
  T* constituents = nullptr;  ///< [rows - sequences, W]
  T* rows = nullptr;          ///< [rows, W]
};

/// What the backward pass is given and adds to.
template <typename T>
struct Gradients {
  const T* jets = nullptr;          ///< [sequences, W], null for zero
  const T* constituents = nullptr;  ///< [rows - sequences, W], null for zero
  const T* rows = nullptr;          ///< [rows, W], null where jets and constituents came out
  T* parameters = nullptr;          ///< as ParameterMap says; added to
  T* inputs = nullptr;              ///< as those of Batch, written; null where not wanted
  T* bias = nullptr;                ///< the same of the bias
};

/// Everything that a pass over a chunk needs to know.
template <typename T>
struct Problem {
  Shape shape;
  Parameters<T> parameters;
  T* packed = nullptr;  ///< the weights as the kernels want them
  Batch<T> batch;
  Saved<T> saved;
  Outputs<T> outputs;
  Gradients<T> gradients;
};

/// Consecutive sequences that are worked on together, few enough that what they need stays in a core's cache.
struct Chunk {
  Index first = 0;  ///< sequence
  Index last = 0;   ///< one behind
};

/// A linear layer, a LayerNorm behind it, then GELU.
template <typename T>
struct PairLayer {
  Index in = 0;
  Index out = 0;
  const T* weight = nullptr;  ///< [out, in]
  const T* bias = nullptr;    ///< [out], as those below
  const T* norm_weight = nullptr;
  const T* norm_bias = nullptr;
};

/// Such layers one behind the other, for rows that are many and narrow.
template <typename T>
struct PairLayers {
  static constexpr Index kMost = 8;

  PairLayer<T> layers[kMost];
  Index count = 0;
  double eps = 1e-5;  ///< of the norms

  const PairLayer<T>& at(Index k) const { return layers[k]; }
};

/// What an instruction set offers for them; features are [pairs, in], what comes out [pairs, out]. Gradients are those
/// of weight and bias of every layer and of its norm, one behind the other; they are added to.
template <typename T>
struct PairKernels {
  Index (*scratch_size)(const PairLayers<T>&);
  void (*forward)(const PairLayers<T>&, const T* features, Index first, Index last, T* out, T* scratch);
  void (*backward)(const PairLayers<T>&, const T* features, const T* d_out, Index first, Index last, T* gradients,
                   T* scratch);
};

/// What an instruction set offers. All memory is the caller's.
template <typename T>
struct Kernels {
  /// Values of packed weights, with or without those of the backward pass.
  Index (*packed_size)(const Shape&, bool backward);
  void (*pack)(const Shape&, const Parameters<T>&, bool backward, T* packed);
  /// Values of scratch for chunks of at most so many rows, sequences and rows of one sequence.
  Index (*scratch_size)(const Shape&, Index rows, Index sequences, Index longest, bool backward);
  void (*forward)(const Problem<T>&, const Chunk&, T* scratch);
  void (*backward)(const Problem<T>&, const Chunk&, T* scratch);
};

}  // namespace rino::fused
