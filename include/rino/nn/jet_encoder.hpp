#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/TracerMode.h>
#include <ATen/autocast_mode.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/core/placement.hpp>
#include <rino/nn/block.hpp>
#include <rino/nn/deep_embedding.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/fused/encoder.hpp>
#include <rino/nn/fused/rows.hpp>
#include <rino/nn/jet_encoder_options.hpp>
#include <rino/nn/learned_tokens.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/packing.hpp>
#include <rino/nn/pair_bias.hpp>
#include <rino/nn/polar_positions.hpp>
#include <rino/nn/pooling.hpp>
#include <rino/nn/sequence_layout.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// What computes an encoder.
enum class EncoderKernels {
  automatic,  ///< the fused ones wherever they can
  fused,      ///< `fused::encode` and `encode_rows`: on a CPU, in float or double; refused where they cannot
  reference,  ///< the tree of modules, operation by operation: every device, type and derivative
};

template <>
inline constexpr std::array enum_names<EncoderKernels> = {
    std::pair{EncoderKernels::automatic, std::string_view("auto")},
    std::pair{EncoderKernels::fused, std::string_view("fused")},
    std::pair{EncoderKernels::reference, std::string_view("reference")},
};

/// A transformer encoder of jets: linear embedding of tokens, a class token in front, pre-norm blocks, a last norm. The
/// defaults are the paper's; its successor's norms, feed-forward parts, registers and positions are options, as is to
/// have no class token; and so are ParT's parts: a deep embedding, NormFormer blocks, a class token that asks behind
/// the blocks, and a bias of attention from pairs of constituents.
///
/// The result does not depend on the order of the tokens of a sequence. Only tokens that exist are computed, so that no
/// padding can change a result. Of tokens that `Tokens::masked` hides, only their positions are seen.
///
/// On a CPU fused kernels (`kernels`) run the whole network where its embedding is the paper's, else all behind the
/// embedding; they differ from the tree of modules by rounding and, in training, by the values that dropout picks.
///
/// Sources: arXiv:2509.07486, section 3; the public configuration of its successor; ParT, arXiv:2202.03772.
///
/// Example:
/// @code
/// rino::JetEncoder encoder(rino::JetEncoderOptions::preset("nano"));
/// rino::initialize(*encoder, 1);
/// at::Tensor z = encoder(rino::tokenize(jets, std::span(views), {})).jets;
/// @endcode
class JetEncoderImpl : public torch::nn::Cloneable<JetEncoderImpl>, public Encoder {
 public:
  /// Values are those PyTorch's modules would start from once `initialize` was called.
  ///
  /// @param jets  how jets become its tokens, where it is given jets.
  /// @throws rino::Error for options that make no network.
  explicit JetEncoderImpl(const JetEncoderOptions& options = {}, const ViewTokenizerOptions& jets = {})
      : Encoder(jets, options.takes_momenta()), options(options) {
    require(options.inputs > 0 && options.width > 0 && options.layers >= 0 && options.feedforward > 0,
            "inputs, width, layers and feedforward are ", options.inputs, ", ", options.width, ", ", options.layers,
            " and ", options.feedforward, ": choose positive numbers");
    require(options.jet_inputs > 0, "jet_inputs is ", options.jet_inputs, ": choose a positive number");
    require(options.registers >= 0, "registers is ", options.registers, ": choose 0 for none or a positive number");
    require(options.class_token != ClassToken::none ||
                (options.pooling != Pooling::token && options.pooling != Pooling::both),
            "class_token is 'none' and pooling '", to_string(options.pooling),
            "' is of it: choose pooling 'mean', 'attention' or 'all', or a class token");
    require(options.class_layers == 0 || (options.class_layers > 0 && options.class_token != ClassToken::none &&
                                          (options.pooling == Pooling::token || options.pooling == Pooling::both)),
            "class_layers is ", options.class_layers, " with class_token '", to_string(options.class_token),
            "' and pooling '", to_string(options.pooling),
            "': choose 0, or 1 or more with a class token and pooling 'token' or 'both'");
    require(options.positions == Positions::none || options.inputs >= 2, "inputs is ", options.inputs,
            ": polar positions are found from the last two features, delta eta and delta phi");
    require(options.positions == Positions::none || tokenizer.tokenizer().features().ends_with_angles(),
            "polar positions are found from the last two features, and those of jets.features are not delta_eta and "
            "delta_phi: put these there, or choose positions 'none'");
    require(0 <= options.memory && options.memory < 1e9, "memory is ", options.memory, " GB: choose 0 or more");
    reset();
  }

  void reset() override {
    const std::int64_t width = options.width;
    const NormOptions norm_options{width, options.norm, options.norm_eps};
    if (options.embedding == EmbeddingKind::linear) {
      embedding = register_module("embedding", Linear(LinearOptions{options.inputs, width}));
    } else {
      deep_embedding = register_module(
          "embedding", DeepEmbedding(DeepEmbeddingOptions{options.inputs, width, options.norm, options.norm_eps,
                                                          options.embedding == EmbeddingKind::deep_batch}));
    }
    if (options.embedding_norm) {
      embedding_norm = register_module("embedding_norm", Norm(norm_options));
    }
    if (options.class_token == ClassToken::jet) {
      jet_embedding = register_module("class_token", Linear(LinearOptions{options.jet_inputs, width}));
    } else if (options.class_token == ClassToken::learned) {
      learned_token = register_module("class_token", LearnedTokens(LearnedTokensOptions{width}));
    }
    if (options.registers > 0) {
      registers = register_module("registers", LearnedTokens(LearnedTokensOptions{width, options.registers}));
    }
    if (options.masked_token == MaskedToken::learned) {
      masked_token = register_module("masked_token", LearnedTokens(LearnedTokensOptions{width}));
    }
    if (options.positions == Positions::polar) {
      positions = register_module(
          "positions", PolarPositions(PolarPositionsOptions{width, options.radial_bins, options.angular_bins,
                                                            options.radial_knee, options.radial_range, options.bins}));
    }
    if (options.pairs != PairBias::none) {
      pairs = register_module("pairs", PairEmbedding(PairEmbeddingOptions{options.heads, options.pair_width,
                                                                          options.pairs, options.norm_eps}));
      pairs->kept_bytes = options.kept_bytes();
    }
    TransformerBlockOptions block{width,        options.heads,    options.feedforward,      options.dropout,
                                  options.norm, options.norm_eps, options.feedforward_kind, options.layer_scale,
                                  options.block};
    blocks = register_module("blocks", torch::nn::ModuleList());
    for (std::int64_t layer = 0; layer < options.layers; ++layer) {
      blocks->push_back(TransformerBlock(block));
    }
    block.dropout = 0;
    class_blocks = register_module("class_blocks", torch::nn::ModuleList());
    for (std::int64_t layer = 0; layer < options.class_layers; ++layer) {
      class_blocks->push_back(TransformerBlock(block));
    }
    norm = register_module("norm", Norm(norm_options));
    pool = register_module("pool", Pool(PoolOptions{width, options.pooling}));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::JetEncoder(inputs " << options.inputs << ", width " << options.width << ", heads " << options.heads
           << ", layers " << options.layers << ", feedforward " << options.feedforward << ", dropout "
           << options.dropout << ", class token " << to_string(options.class_token) << ", registers "
           << options.registers << ", positions " << to_string(options.positions) << ", pooling "
           << to_string(options.pooling);
    if (options.class_layers > 0) {
      stream << ", class layers " << options.class_layers;
    }
    if (pairs) {
      stream << ", pairs " << to_string(options.pairs);
    }
    stream << ")";
  }

  /// Embeddings of jets and of constituents, of tokens "constituents".
  /// @throws rino::Error if the tokens do not have `options.inputs` features, their mask does not fit them, or a
  ///         parameter has lost its shape.
  Embeddings forward(const Batch& batch) override {
    const Tokens& tokens = batch.of("constituents");
    check(tokens);
    const bool fast = is_fused(tokens);
    if (fast && embeds_plainly(tokens)) {
      const fused::EncoderResult result = run_fused(tokens, /*firsts=*/false);
      return {pool(result.jets, at::Tensor(), result.constituents, tokens), result.constituents};
    }
    const SequenceLayout layout = layout_of(tokens, fast);
    const at::Tensor x = run_blocks(tokens, layout, fast, /*firsts=*/false);
    const auto rows = [&](const std::vector<std::int64_t>& which) { return x.index_select(0, index(which, tokens)); };
    at::Tensor constituents = rows(layout.token_rows);
    if (options.class_layers > 0) {
      const at::Tensor asked = ask_constituents(constituents, tokens);
      constituents = norm(constituents);
      return {pool(asked, at::Tensor(), constituents, tokens), constituents};
    }
    at::Tensor beside;
    if (options.pooling == Pooling::all) {
      beside = rows(layout.register_rows).view({tokens.sequences(), options.registers, options.width});
    }
    return {pool(rows(layout.class_rows), beside, constituents, tokens), constituents};
  }

  /// `forward(batch).jets`, [S, outputs]; where class tokens are the jets' embeddings, without computing in the last
  /// block what only constituents need.
  at::Tensor embed_jets(const Batch& batch) override {
    if (options.pooling != Pooling::token) {
      return forward(batch).jets;
    }
    const Tokens& tokens = batch.of("constituents");
    check(tokens);
    const bool fast = is_fused(tokens);
    if (fast && embeds_plainly(tokens)) {
      return run_fused(tokens, /*firsts=*/true).jets;
    }
    const SequenceLayout layout = layout_of(tokens, fast);
    if (options.class_layers > 0) {
      const at::Tensor x = run_blocks(tokens, layout, fast, /*firsts=*/false);
      return ask_constituents(x.index_select(0, index(layout.token_rows, tokens)), tokens);
    }
    const at::Tensor x = run_blocks(tokens, layout, fast, /*firsts=*/true);
    return fast ? x : x.index_select(0, index(layout.places, tokens));
  }

  std::int64_t outputs() const override { return options.outputs(); }
  std::int64_t width() const override { return options.width; }
  bool pools_constituents() const override {
    return options.pooling == Pooling::mean || options.pooling == Pooling::all;
  }

  /// Of the last block and the last norm 1, of each before it one more, in front of all blocks one more again; of the
  /// pooling 0.
  std::int64_t depth(std::string_view tensor) const override {
    if (tensor.starts_with("pool.")) {
      return 0;
    }
    if (tensor.starts_with("norm.")) {
      return 1;
    }
    const auto behind = [&](std::string_view list, std::int64_t count) {
      std::int64_t block = 0;
      std::from_chars(tensor.data() + list.size(), tensor.data() + tensor.size(), block);
      return count - block;
    };
    constexpr std::string_view asking = "class_blocks.";
    constexpr std::string_view others = "blocks.";
    return tensor.starts_with(asking)   ? behind(asking, options.class_layers)
           : tensor.starts_with(others) ? behind(others, options.layers + options.class_layers)
                                        : options.layers + options.class_layers + 1;
  }

  JetEncoderOptions options;
  EncoderKernels kernels = EncoderKernels::automatic;
  Linear embedding{nullptr};              ///< empty unless it is linear
  DeepEmbedding deep_embedding{nullptr};  ///< empty where it is
  Norm embedding_norm{nullptr};           ///< empty unless `options.embedding_norm`
  Linear jet_embedding{nullptr};          ///< empty without a class token from the jet
  LearnedTokens learned_token{nullptr};   ///< empty without a learned class token
  LearnedTokens registers{nullptr};       ///< empty without registers
  LearnedTokens masked_token{nullptr};    ///< empty unless `MaskedToken::learned`
  PolarPositions positions{nullptr};      ///< empty without positions
  PairEmbedding pairs{nullptr};           ///< empty unless pairs have a bias
  torch::nn::ModuleList blocks{nullptr};
  torch::nn::ModuleList class_blocks{nullptr};
  Norm norm{nullptr};
  Pool pool{nullptr};

 private:
  SequenceLayout layout_of(const Tokens& tokens, bool fused) const {
    return {tokens, token_in_blocks() ? 1 : 0, options.registers, /*by_length=*/!fused};
  }

  /// Whether the class token is one of the rows that go through the blocks.
  bool token_in_blocks() const { return options.class_token != ClassToken::none && options.class_layers == 0; }

  /// Rows of a sequence that are no tokens.
  std::int64_t own_rows() const { return options.registers + (token_in_blocks() ? 1 : 0); }

  /// The embedding's tensors in the order of fused::encode.
  std::vector<at::Tensor> embedding_parameters() const {
    std::vector<at::Tensor> list{embedding->weight, embedding->bias};
    if (jet_embedding) {
      list.insert(list.end(), {jet_embedding->weight, jet_embedding->bias});
    } else {
      list.push_back(learned_token->token);
    }
    return list;
  }

  /// The others in its order, behind those of `list`; all contiguous.
  std::vector<at::Tensor> with_block_parameters(std::vector<at::Tensor> list) const {
    const auto add = [&list](const auto& layer) {
      list.push_back(layer->weight);
      if (layer->bias.defined()) {
        list.push_back(layer->bias);
      }
    };
    for (const auto& module : *blocks) {
      const auto* const block = module->as<TransformerBlockImpl>();
      add(block->norm1);
      add(block->attention->qkv);
      const auto [out_weight, out_bias] = block->out_layer();
      list.insert(list.end(), {out_weight, out_bias});
      if (block->attention_norm) {
        add(block->attention_norm);
      }
      if (block->scale1) {
        list.push_back(block->scale1->scale);
      }
      add(block->norm2);
      add(block->swiglu ? block->swiglu->linear1 : block->linear1);
      if (block->hidden_norm) {
        add(block->hidden_norm);
      }
      add(block->swiglu ? block->swiglu->linear2 : block->linear2);
      if (block->scale2) {
        list.push_back(block->scale2->scale);
      }
      if (block->residual_scale) {
        list.push_back(block->residual_scale->scale);
      }
    }
    if (options.class_layers == 0) {
      add(norm);
    }
    for (at::Tensor& tensor : list) {
      tensor = tensor.contiguous();
    }
    return list;
  }

  fused::Shape shape() const {
    return {.width = options.width,
            .heads = options.heads,
            .layers = options.layers,
            .feedforward = options.feedforward,
            .eps = options.norm_eps,
            .rms = options.norm == NormKind::rms,
            .gated = options.feedforward_kind == FeedForwardKind::swiglu,
            .scaled = options.layer_scale != 0,
            .normformer = options.block == BlockKind::normformer,
            .biased = options.pairs != PairBias::none,
            .last_norm = options.class_layers == 0,
            .own = own_rows()};
  }

  /// Whether the rows of the first block are maps of the features and a class token alone, which fused::encode makes.
  bool embeds_plainly(const Tokens& tokens) const {
    return embedding && token_in_blocks() && !pairs && !registers && !embedding_norm && !positions &&
           !(masked_token && tokens.masked.defined());
  }

  /// Why the fused kernels cannot take these tokens; nullptr: they can.
  const char* obstacle(const Tokens& tokens) const {
    const auto plain = [type = tokens.features.scalar_type()](const at::Tensor& tensor, auto&&... /*shape*/) {
      return tensor.device().is_cpu() && tensor.scalar_type() == type && tensor.layout() == at::kStrided &&
             !at::isTensorSubclassLike(tensor);
    };
    if (!fused::fits(shape())) {
      return "width and feedforward are no multiples of 16, or there are no layers";
    }
    if (tokens.features.scalar_type() != at::kFloat && tokens.features.scalar_type() != at::kDouble) {
      return "the tokens are neither float nor double";
    }
    if (!plain(tokens.features) || !plain(tokens.jet_features) || !all_tensors(plain)) {
      return "tokens and parameters are not ordinary tensors of one type on the CPU";
    }
    if (drops() && !std::all_of(blocks->begin(), blocks->end(), drops_values)) {
      return "some blocks drop values and others do not";
    }
    if (at::autocast::is_autocast_enabled(at::kCPU) && !wants_bf16(tokens)) {
      return "autocast is on, and not to bfloat16 on a processor that is fast in it (Intel's with AMX, AMD's with "
             "AVX512-BF16)";
    }
    return at::tracer::impl::is_dispatch_enabled() ? "the call is traced" : nullptr;
  }

  /// Whether autocast asks for products that the bfloat16 kernels have.
  static bool wants_bf16(const Tokens& tokens) {
    return at::autocast::is_autocast_enabled(at::kCPU) && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16 &&
           tokens.features.scalar_type() == at::kFloat && bf16::supported();
  }

  bool is_fused(const Tokens& tokens) const {
    if (kernels == EncoderKernels::reference || tokens.sequences() == 0) {
      return false;
    }
    const char* const why = obstacle(tokens);
    require(why == nullptr || kernels == EncoderKernels::automatic, "the fused kernels were asked for but ",
            why == nullptr ? "" : why, ": choose kernels = 'auto' or 'reference'");
    return why == nullptr;
  }

  /// What the fused kernels are to do, with new dropout where it is active.
  fused::EncoderCall fused_call(const Tokens& tokens, bool firsts) {
    fused::EncoderCall call;
    call.shape = shape();
    call.learned = options.class_token == ClassToken::learned;
    call.firsts = firsts;
    call.workspace = workspace_;
    call.kept_bytes = options.width >= kWorthKeeping ? options.kept_bytes() : 0;
    call.bf16 = wants_bf16(tokens) ? bf16::best_unit() : bf16::Unit::none;
    if (drops()) {
      Dropout& dropout = blocks->at<TransformerBlockImpl>(0).dropout;
      call.dropout = {dropout->probability, dropout->draw_seed()};
    }
    return call;
  }

  static bool drops_values(const std::shared_ptr<torch::nn::Module>& block) {
    return block->as<TransformerBlockImpl>()->dropout->active();
  }

  /// Whether a block drops values now.
  bool drops() const { return std::any_of(blocks->begin(), blocks->end(), drops_values); }

  fused::EncoderResult run_fused(const Tokens& tokens, bool firsts) {
    const std::vector<at::Tensor> parameters = with_block_parameters(embedding_parameters());
    if (!tokens.masked.defined()) {
      return fused::encode(fused_call(tokens, firsts), tokens, parameters);
    }
    Tokens visible = tokens;
    visible.features = visible_features(tokens);
    return fused::encode(fused_call(tokens, firsts), visible, parameters);
  }

  /// The kernels read as many values as options and offsets say.
  void check(const Tokens& tokens) const {
    require(tokens.features.dim() == 2 && tokens.features.size(1) == options.inputs, "the tokens have shape ",
            tokens.features.sizes(), " but the encoder takes ", options.inputs,
            " features: make them with the feature set of the encoder's recipe");
    require(!jet_embedding || (tokens.jet_features.dim() == 2 && tokens.jet_features.size(1) == options.jet_inputs),
            "the jets' features have shape ", tokens.jet_features.sizes(), " but the encoder takes ",
            options.jet_inputs, ": make them with the jet features of the encoder's recipe");
    tokens.check();
    // A parameter can get another shape behind its module's back: `set_data`, Python's `p.data = ...`.
    if (!all_tensors([](const at::Tensor& tensor, at::IntArrayRef made) { return tensor.sizes() == made; })) {
      for (const TensorSlot& slot : tensor_slots(*this)) {
        slot.require_shape(slot.tensor());
      }
    }
  }

  /// Whether `holds` is true of every parameter and the shape that it was made with.
  template <typename Predicate>
  bool all_tensors(const Predicate& holds) const {
    const auto all = [&](const auto&... leaves) { return ((!leaves || leaves->all_tensors(holds)) && ...); };
    const auto all_below = [&](const auto& module) {
      if (!module) {
        return true;
      }
      const std::vector<TensorSlot> slots = tensor_slots(*module);
      return std::all_of(slots.begin(), slots.end(), [&](const TensorSlot& slot) {
        return holds(slot.tensor(), slot.owner->sizes(slot.leaf_name));
      });
    };
    return all(embedding, embedding_norm, jet_embedding, learned_token, registers, masked_token, positions, norm,
               pool) &&
           all_below(deep_embedding) && all_below(pairs) && (options.class_layers == 0 || all_below(class_blocks)) &&
           std::all_of(blocks->begin(), blocks->end(), [&](const auto& module) {
             const auto* const block = module->template as<TransformerBlockImpl>();
             return all(block->norm1, block->attention->qkv, block->attention->out, block->scale1, block->norm2,
                        block->linear1, block->linear2, block->scale2, block->head_scale, block->attention_norm,
                        block->hidden_norm, block->residual_scale) &&
                    (!block->swiglu || all(block->swiglu->linear1, block->swiglu->linear2));
           });
  }

  static at::Tensor index(const std::vector<std::int64_t>& values, const Tokens& tokens) {
    return index_tensor(std::span<const std::int64_t>(values), tokens.features.device());
  }

  /// [T, F]: 0 where a token is masked.
  static at::Tensor visible_features(const Tokens& tokens) {
    return tokens.masked.defined() ? tokens.features.masked_fill(tokens.masked.unsqueeze(1), 0) : tokens.features;
  }

  /// [T, width]: what goes into the first block in the tokens' rows.
  at::Tensor embed_tokens(const Tokens& tokens) {
    at::Tensor x = embedding ? embedding(visible_features(tokens)) : deep_embedding(visible_features(tokens));
    if (embedding_norm) {
      x = embedding_norm(x);
    }
    if (masked_token && tokens.masked.defined()) {
      x = at::where(tokens.masked.unsqueeze(1), masked_token->token, x);
    }
    return positions ? x + positions(tokens.features) : x;
  }

  /// [S, width].
  at::Tensor class_tokens(const Tokens& tokens) {
    return jet_embedding ? jet_embedding(tokens.jet_features) : learned_token(tokens.sequences());
  }

  /// [rows, width]: the input of the first block, in the order of `layout`.
  at::Tensor embed_rows(const Tokens& tokens, const SequenceLayout& layout) {
    std::vector<at::Tensor> parts;
    if (token_in_blocks()) {
      parts.push_back(class_tokens(tokens));
    }
    if (registers) {
      parts.push_back(registers(tokens.sequences()));
    }
    parts.push_back(embed_tokens(tokens));
    // Autocast may have made them bfloat16; what the blocks add to stays as exact as the tokens.
    return at::cat(parts).to(tokens.features.scalar_type()).index_select(0, index(layout.source, tokens));
  }

  /// Blocks, and the last norm where no class token asks behind them: [rows, width], or [S, width] of the sequences'
  /// first rows, in packed order.
  at::Tensor run_blocks(const Tokens& tokens, const SequenceLayout& layout, bool fast, bool firsts) {
    at::Tensor x = embed_rows(tokens, layout);
    if (fast) {
      return fused::encode_rows(fused_call(tokens, firsts), x, layout.lengths, with_block_parameters({}),
                                pairs ? pairs(tokens) : at::Tensor());
    }
    const Packing packing = Packing::plan(layout.lengths, tokens.features.options(), drops() || pairs);
    const AttentionBias bias = pairs ? pair_bias(tokens, layout, packing) : AttentionBias();
    for (std::size_t layer = 0; layer < blocks->size(); ++layer) {
      const bool last = layer + 1 == blocks->size();
      x = blocks->at<TransformerBlockImpl>(layer).forward(x, packing, firsts && last, bias);
    }
    x = firsts && blocks->is_empty() ? x.index_select(0, packing.firsts) : x;
    return options.class_layers > 0 ? x : norm(x);
  }

  AttentionBias pair_bias(const Tokens& tokens, const SequenceLayout& layout, const Packing& packing) {
    const std::vector<std::int64_t> starts = TokenPairs(tokens).starts();
    std::vector<std::int64_t> packed(layout.places.size());
    for (std::size_t s = 0; s < packed.size(); ++s) {
      packed[static_cast<std::size_t>(layout.places[s])] = starts[s];
    }
    return bias_of_runs(pairs(tokens), packed, layout.lengths, own_rows(), packing);
  }

  /// The class tokens once they have asked the constituents [T, width] in the last blocks, normalised: [S, width].
  at::Tensor ask_constituents(const at::Tensor& constituents, const Tokens& tokens) {
    const SequenceLayout layout(tokens, /*class_tokens=*/1, /*registers=*/0, /*by_length=*/true);
    const Packing packing = Packing::plan(layout.lengths, tokens.features.options());
    const at::Tensor source = index(layout.source, tokens);
    const at::Tensor places = index(layout.places, tokens);
    at::Tensor asking = class_tokens(tokens).to(constituents.scalar_type());
    for (const auto& block : *class_blocks) {
      const at::Tensor rows = at::cat({asking, constituents}).index_select(0, source);
      asking = block->as<TransformerBlockImpl>()
                   ->ask(rows.index_select(0, packing.firsts), rows, packing)
                   .index_select(0, places);
    }
    return norm(asking);
  }

  /// Width from which on reading what was kept is faster than computing it again. Measured: 1.1 to 1.2 times the step
  /// at 64 to 256, nothing at 32.
  static constexpr std::int64_t kWorthKeeping = 64;

  std::shared_ptr<fused::Workspace> workspace_ = std::make_shared<fused::Workspace>();
};

TORCH_MODULE(JetEncoder);

}  // namespace rino
