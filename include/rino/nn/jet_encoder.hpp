#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/TracerMode.h>
#include <ATen/autocast_mode.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/jets/features.hpp>
#include <rino/nn/block.hpp>
#include <rino/nn/fused/encoder.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/packing.hpp>
#include <rino/nn/tokens.hpp>

namespace rino {

/// Where the class token of a sequence comes from.
enum class ClassToken {
  jet,      ///< a linear map of the jet's features: the paper's choice, the same in every view of a jet
  learned,  ///< one learned vector: no short-cut to agreement between views
};

template <>
inline constexpr std::array enum_names<ClassToken> = {
    std::pair{ClassToken::jet, std::string_view("jet")},
    std::pair{ClassToken::learned, std::string_view("learned")},
};

/// What computes an encoder.
enum class EncoderKernels {
  automatic,  ///< the fused ones wherever they can
  fused,      ///< `fused::encode`: on a CPU, in float or double; refused where they cannot
  reference,  ///< the tree of modules, operation by operation: every device, type and derivative
};

template <>
inline constexpr std::array enum_names<EncoderKernels> = {
    std::pair{EncoderKernels::automatic, std::string_view("auto")},
    std::pair{EncoderKernels::fused, std::string_view("fused")},
    std::pair{EncoderKernels::reference, std::string_view("reference")},
};

/// Options of `JetEncoder`; the defaults are the paper's nano.
struct JetEncoderOptions {
  std::int64_t inputs = static_cast<std::int64_t>(kTokenFeatures.size());
  std::int64_t width = 32;
  std::int64_t heads = 4;
  std::int64_t layers = 4;
  std::int64_t feedforward = 128;
  double dropout = 0.1;
  ClassToken class_token = ClassToken::jet;

  bool operator==(const JetEncoderOptions&) const = default;

  static constexpr auto fields() {
    using Self = JetEncoderOptions;
    return std::tuple{
        Field{"width", &Self::width, "", "size of the embedding and of every token"},
        Field{"heads", &Self::heads, "", "attention heads; must divide the width"},
        Field{"layers", &Self::layers, "", "transformer blocks"},
        Field{"feedforward", &Self::feedforward, "", "width of a block's hidden layer"},
        Field{"dropout", &Self::dropout, "", "probability, in training"},
        Field{"class_token", &Self::class_token, "", "'jet': from the jet's log E, log pT, eta, phi; or 'learned'"},
    };
  }

  /// The four sizes of arXiv:2509.07486: nano, lite, mini, base. @throws rino::Error for another name.
  static JetEncoderOptions preset(const std::string& name) {
    JetEncoderOptions options;
    const auto size = [&](std::int64_t width, std::int64_t heads, std::int64_t layers, std::int64_t feedforward) {
      options.width = width;
      options.heads = heads;
      options.layers = layers;
      options.feedforward = feedforward;
      return options;
    };
    if (name == "nano") {
      return size(32, 4, 4, 128);
    }
    if (name == "lite") {
      return size(64, 4, 4, 256);
    }
    if (name == "mini") {
      return size(128, 8, 6, 512);
    }
    if (name == "base") {
      return size(256, 8, 6, 1024);
    }
    fail("there is no encoder preset '", name, "': choose nano, lite, mini or base");
  }
};

/// A learned vector, [1, width]; initial values from N(0, 0.02).
class LearnedTokenImpl : public Leaf<LearnedTokenImpl> {
 public:
  explicit LearnedTokenImpl(std::int64_t width) : width(width) { reset(); }

  void reset() override { own("token", &LearnedTokenImpl::token, torch::zeros({1, width})); }

  void initialize(const at::Generator& generator) override {
    torch::NoGradGuard no_grad;
    token.normal_(0.0, 0.02, generator);
  }

  void pretty_print(std::ostream& stream) const override { stream << "rino::LearnedToken(" << width << ")"; }

  /// [count, width], the same vector in every row.
  at::Tensor forward(std::int64_t count) { return token.expand({count, width}); }

  std::int64_t width;
  at::Tensor token;
};

TORCH_MODULE(LearnedToken);

/// What an encoder makes of Tokens.
struct Embeddings {
  at::Tensor jets;          ///< [S, width]: one embedding per sequence
  at::Tensor constituents;  ///< [T, width]: one per token, in the tokens' order
};

/// The paper's encoder: linear embedding of tokens, a class token in front, pre-norm transformer blocks, LayerNorm.
/// No positional encoding: the result does not depend on the order of the tokens of a sequence. Only tokens that
/// exist are computed, so that no padding can change a result.
///
/// On a CPU the whole network is run by fused kernels (`kernels`), which differ from the tree of modules by rounding
/// and, in training, by the values that dropout picks.
///
/// Source: arXiv:2509.07486, section 3.
///
/// Example:
/// @code
/// rino::JetEncoder encoder(rino::JetEncoderOptions::preset("nano"));
/// rino::initialize(*encoder, 1);
/// at::Tensor z = encoder(rino::tokenize(jets, std::span(views), {})).jets;
/// @endcode
class JetEncoderImpl : public torch::nn::Cloneable<JetEncoderImpl> {
 public:
  /// Values are those PyTorch's modules would start from once `initialize` was called.
  explicit JetEncoderImpl(const JetEncoderOptions& options = {}) : options(options) {
    require(options.inputs > 0 && options.width > 0 && options.layers >= 0 && options.feedforward > 0,
            "inputs, width, layers and feedforward are ", options.inputs, ", ", options.width, ", ", options.layers,
            " and ", options.feedforward, ": choose positive numbers");
    reset();
  }

  void reset() override {
    embedding = register_module("embedding", Linear(LinearOptions{options.inputs, options.width}));
    if (options.class_token == ClassToken::jet) {
      const auto jet_inputs = static_cast<std::int64_t>(kJetFeatures.size());
      jet_embedding = register_module("class_token", Linear(LinearOptions{jet_inputs, options.width}));
    } else {
      learned_token = register_module("class_token", LearnedToken(options.width));
    }
    blocks = register_module("blocks", torch::nn::ModuleList());
    for (std::int64_t layer = 0; layer < options.layers; ++layer) {
      blocks->push_back(TransformerBlock(
          TransformerBlockOptions{options.width, options.heads, options.feedforward, options.dropout}));
    }
    norm = register_module("norm", LayerNorm(LayerNormOptions{options.width}));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::JetEncoder(inputs " << options.inputs << ", width " << options.width << ", heads " << options.heads
           << ", layers " << options.layers << ", feedforward " << options.feedforward << ", dropout "
           << options.dropout << ", class token " << to_string(options.class_token) << ")";
  }

  /// Embeddings of jets and of constituents.
  /// @throws rino::Error if the tokens do not have `options.inputs` features.
  Embeddings forward(const Tokens& tokens) {
    if (is_fused(tokens)) {
      const fused::EncoderResult result = run_fused(tokens, /*firsts=*/false);
      return {result.jets, result.constituents};
    }
    const Layout layout(tokens);
    const Packing packing = plan(tokens, layout);
    at::Tensor x = embed_rows(tokens, layout);
    for (const auto& block : *blocks) {
      x = block->as<TransformerBlock>()->forward(x, packing);
    }
    x = norm(x);
    return {x.index_select(0, packing.firsts), x.index_select(0, index(layout.token_rows, tokens))};
  }

  /// `forward(tokens).jets`, [S, width], without computing in the last block what only constituents need.
  at::Tensor embed_jets(const Tokens& tokens) {
    if (blocks->is_empty()) {
      return forward(tokens).jets;
    }
    if (is_fused(tokens)) {
      return run_fused(tokens, /*firsts=*/true).jets;
    }
    const Layout layout(tokens);
    const Packing packing = plan(tokens, layout);
    at::Tensor x = embed_rows(tokens, layout);
    for (std::size_t layer = 0; layer < blocks->size(); ++layer) {
      x = blocks->at<TransformerBlockImpl>(layer).forward(x, packing, /*firsts=*/layer + 1 == blocks->size());
    }
    return norm(x);
  }

  JetEncoderOptions options;
  EncoderKernels kernels = EncoderKernels::automatic;
  Linear embedding{nullptr};
  Linear jet_embedding{nullptr};
  LearnedToken learned_token{nullptr};
  torch::nn::ModuleList blocks{nullptr};
  LayerNorm norm{nullptr};

 private:
  /// The packed rows inside the network: every sequence's class token, then its tokens.
  struct Layout {
    std::vector<std::int64_t> lengths;     ///< [S] with the class token
    std::vector<std::int64_t> source;      ///< [S+T] row in (class tokens, tokens) of every packed row
    std::vector<std::int64_t> token_rows;  ///< [T] packed row of every token

    explicit Layout(const Tokens& tokens) {
      const std::int64_t sequences = tokens.sequences();
      const auto rows = static_cast<std::size_t>(sequences + tokens.offsets.back());
      source.reserve(rows);
      token_rows.reserve(rows);
      for (std::int64_t s = 0; s < sequences; ++s) {
        lengths.push_back(tokens.length(s) + 1);
        source.push_back(s);
        for (std::int64_t i = 0; i < tokens.length(s); ++i) {
          token_rows.push_back(static_cast<std::int64_t>(source.size()));
          source.push_back(sequences + tokens.first(s) + i);
        }
      }
    }
  };

  /// The tensors in the order of fused::encode.
  std::vector<at::Tensor> parameter_list() const {
    std::vector<at::Tensor> list{embedding->weight, embedding->bias};
    if (jet_embedding) {
      list.insert(list.end(), {jet_embedding->weight, jet_embedding->bias});
    } else {
      list.push_back(learned_token->token);
    }
    for (const auto& module : *blocks) {
      const auto* block = module->as<TransformerBlockImpl>();
      list.insert(list.end(),
                  {block->norm1->weight, block->norm1->bias, block->attention->qkv->weight, block->attention->qkv->bias,
                   block->attention->out->weight, block->attention->out->bias, block->norm2->weight, block->norm2->bias,
                   block->linear1->weight, block->linear1->bias, block->linear2->weight, block->linear2->bias});
    }
    list.insert(list.end(), {norm->weight, norm->bias});
    for (at::Tensor& tensor : list) {
      tensor = tensor.contiguous();
    }
    return list;
  }

  fused::Shape shape() const {
    return {0, options.width, options.heads, options.layers, options.feedforward, norm->options.eps};
  }

  /// Why the fused kernels cannot take these tokens; nullptr: they can.
  const char* obstacle(const Tokens& tokens) const {
    const auto plain = [type = tokens.features.scalar_type()](const at::Tensor& tensor) {
      return tensor.device().is_cpu() && tensor.scalar_type() == type && tensor.layout() == at::kStrided &&
             !at::isTensorSubclassLike(tensor);
    };
    if (!fused::fits(shape())) {
      return "width and feedforward are no multiples of 16, or there are no layers";
    }
    if (tokens.features.scalar_type() != at::kFloat && tokens.features.scalar_type() != at::kDouble) {
      return "the tokens are neither float nor double";
    }
    if (!plain(tokens.features) || !plain(tokens.jet_features) || !plain(norm->weight) || !plain(embedding->weight)) {
      return "tokens and parameters are not ordinary tensors of one type on the CPU";
    }
    if (at::autocast::is_autocast_enabled(at::kCPU) && !wants_bf16(tokens)) {
      return "autocast is on, and not to the bfloat16 of a processor with AMX";
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

  fused::EncoderResult run_fused(const Tokens& tokens, bool firsts) {
    check(tokens);
    fused::EncoderCall call;
    call.shape = shape();
    call.learned = options.class_token == ClassToken::learned;
    call.firsts = firsts;
    call.workspace = workspace_;
    call.bf16 = wants_bf16(tokens);
    Dropout& dropout = blocks->at<TransformerBlockImpl>(0).dropout;
    if (dropout->active()) {
      call.dropout = {dropout->probability, dropout->draw_seed()};
    }
    return fused::encode(call, tokens, parameter_list());
  }

  void check(const Tokens& tokens) const {
    require(tokens.features.dim() == 2 && tokens.features.size(1) == options.inputs, "the tokens have shape ",
            tokens.features.sizes(), " but the encoder takes ", options.inputs,
            " features: make them with the feature set of the encoder's recipe");
  }

  static at::Tensor index(const std::vector<std::int64_t>& values, const Tokens& tokens) {
    return index_tensor(std::span<const std::int64_t>(values), tokens.features.device());
  }

  static Packing plan(const Tokens& tokens, const Layout& layout) {
    return Packing::plan(layout.lengths, tokens.features.options());
  }

  /// [S + T, width]: the input of the first block.
  at::Tensor embed_rows(const Tokens& tokens, const Layout& layout) {
    check(tokens);
    const at::Tensor class_tokens =
        options.class_token == ClassToken::jet ? jet_embedding(tokens.jet_features) : learned_token(tokens.sequences());
    // Autocast may have made them bfloat16; what the blocks add to stays as exact as the tokens.
    return at::cat({class_tokens, embedding(tokens.features)})
        .to(tokens.features.scalar_type())
        .index_select(0, index(layout.source, tokens));
  }

  std::shared_ptr<fused::Workspace> workspace_ = std::make_shared<fused::Workspace>();
};

TORCH_MODULE(JetEncoder);

}  // namespace rino
