#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/jets/features.hpp>
#include <rino/nn/block.hpp>
#include <rino/nn/deep_embedding.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/pair_bias.hpp>
#include <rino/nn/polar_positions.hpp>
#include <rino/nn/pooling.hpp>
#include <rino/tokens/tokenizer.hpp>

namespace rino {

/// Where the class token of a sequence comes from.
enum class ClassToken {
  jet,      ///< a linear map of the jet's features: the paper's choice, the same in every view of a jet
  learned,  ///< one learned vector: no short-cut to agreement between views
  none,     ///< there is none: the embedding is pooled from the others
};

template <>
inline constexpr std::array enum_names<ClassToken> = {
    std::pair{ClassToken::jet, std::string_view("jet")},
    std::pair{ClassToken::learned, std::string_view("learned")},
    std::pair{ClassToken::none, std::string_view("none")},
};

/// What the encoder sees of a masked constituent beside its position.
enum class MaskedToken {
  zero,     ///< features of 0, which stand for the mean ones
  learned,  ///< one learned vector in place of the embedded features
};

template <>
inline constexpr std::array enum_names<MaskedToken> = {
    std::pair{MaskedToken::zero, std::string_view("zero")},
    std::pair{MaskedToken::learned, std::string_view("learned")},
};

/// Where the numbers of the Particle Transformer are from.
inline constexpr const char* kParTSource = "arXiv:2202.03772";

/// What the first field of every encoder's options means.
inline constexpr const char* kEncoderKindMeaning =
    "of network, whose numbers this section has: 'transformer', 'deep-sets', or one that a user has added";

/// Options of `JetEncoder`; the defaults are the paper's nano.
struct JetEncoderOptions {
  std::string kind = "transformer";
  std::int64_t inputs = static_cast<std::int64_t>(kTokenFeatures.size());
  std::int64_t jet_inputs = static_cast<std::int64_t>(kJetFeatures.size());
  std::int64_t width = 32;
  std::int64_t heads = 4;
  std::int64_t layers = 4;
  std::int64_t feedforward = 128;
  double dropout = 0.1;
  ClassToken class_token = ClassToken::jet;
  std::int64_t registers = 0;
  NormKind norm = NormKind::layer;
  double norm_eps = 1e-5;
  bool embedding_norm = false;
  FeedForwardKind feedforward_kind = FeedForwardKind::gelu;
  double layer_scale = 0.0;
  Positions positions = Positions::none;
  std::int64_t radial_bins = 100;
  std::int64_t angular_bins = 100;
  double radial_knee = 0.96;
  double radial_range = 5.60;
  PolarBins bins = PolarBins::round;
  Pooling pooling = Pooling::token;
  MaskedToken masked_token = MaskedToken::zero;
  EmbeddingKind embedding = EmbeddingKind::linear;
  BlockKind block = BlockKind::pre_norm;
  std::int64_t class_layers = 0;
  PairBias pairs = PairBias::none;
  std::int64_t pair_width = 64;
  double memory = 1.0;

  bool operator==(const JetEncoderOptions&) const = default;

  /// Sizes that follow from how jets become tokens.
  void take(const Tokenizer& tokenizer) {
    inputs = tokenizer.features().size();
    jet_inputs = tokenizer.jet_features().size();
  }

  /// `memory` in bytes.
  std::int64_t kept_bytes() const { return static_cast<std::int64_t>(memory * 1e9); }

  /// Size of a jet's embedding.
  std::int64_t outputs() const { return pooling == Pooling::both ? 2 * width : width; }

  /// Whether the encoder looks at `Tokens::momenta`.
  bool takes_momenta() const { return pairs != PairBias::none; }

  static constexpr auto fields() {
    using Self = JetEncoderOptions;
    return std::tuple{
        Field{"kind", &Self::kind, "", kEncoderKindMeaning},
        Field{"width", &Self::width, "", "size of the embedding and of every token"},
        Field{"heads", &Self::heads, "", "attention heads; must divide the width"},
        Field{"layers", &Self::layers, "", "transformer blocks"},
        Field{"feedforward", &Self::feedforward, "", "width of a block's hidden layer"},
        Field{"dropout", &Self::dropout, "",
              "share of values that training drops, in attention, hidden layers and branches"},
        Field{"class_token", &Self::class_token, "",
              "'jet': from the jet's features (jets.jet_features); 'learned'; or 'none'"},
        Field{"registers", &Self::registers, "", "learned tokens beside the class token, of no output of their own"},
        Field{"norm", &Self::norm, "", "how rows are normalised: 'layer' (LayerNorm) or 'rms' (RMSNorm)"},
        Field{"norm_eps", &Self::norm_eps, "", "added to the variance that a norm divides by"},
        Field{"embedding_norm", &Self::embedding_norm, "", "whether the embedded features are normalised"},
        Field{"feedforward_kind", &Self::feedforward_kind, "",
              "of a block: 'gelu', or 'swiglu': width -> 2 x feedforward -> width"},
        Field{"layer_scale", &Self::layer_scale, "",
              "initial value of the learned scales of a block's two branches; 0: no scales"},
        Field{"positions", &Self::positions, "",
              "of constituents: 'none', or 'polar': a learned table is added to the embedded features"},
        Field{"radial_bins", &Self::radial_bins, "", "radial bins of the table of polar positions", kProductionSource},
        Field{"angular_bins", &Self::angular_bins, "",
              "angular bins of the table of polar positions, which close to a circle", kProductionSource},
        Field{"radial_knee", &Self::radial_knee, "",
              "standardised radius around which the bins change from equal to growing widths", kProductionSource},
        Field{"radial_range", &Self::radial_range, "", "standardised radius of the last bin", kProductionSource},
        Field{"bins", &Self::bins, "",
              "of polar positions: 'round' to the nearest, as published; or 'floor', as of encoders from before this "
              "number",
              kProductionSource},
        Field{"pooling", &Self::pooling, "",
              "what the jet's embedding is: class 'token'; 'mean' of the constituents, or with learned weights, "
              "'attention'; 'both' token and mean; or 'all', the mean of registers and constituents"},
        Field{"masked_token", &Self::masked_token, "",
              "what is seen of a masked constituent: 'zero' features or 'learned'", kOwnChoice},
        Field{"embedding", &Self::embedding, "",
              "of a constituent's features: 'linear'; 'deep', three layers with norms; 'deep-batch', these behind a "
              "batch norm, as published",
              kParTSource},
        Field{"block", &Self::block, "",
              "of attention and feed-forward part: 'pre-norm', or 'normformer', with further norms and with factors of "
              "heads and residual",
              kParTSource},
        Field{"class_layers", &Self::class_layers, "",
              "blocks behind the others in which the class token asks the constituents; 0: it stands among them from "
              "the first block on",
              kParTSource},
        Field{"pairs", &Self::pairs, "",
              "what attention is told of pairs of constituents: 'none', or a bias from kT, z, dR and mass, found with "
              "norms over the 'batch', as published, or over each pair's 'layer'",
              kParTSource},
        Field{"pair_width", &Self::pair_width, "", "of the layers that make the bias of pairs", kParTSource},
        Field{"memory", &Self::memory, "GB",
              "that a training pass on a CPU may take to keep what its backward pass finds again otherwise, more "
              "slowly, to the same bits; one for pairs, one for blocks",
              kOwnChoice},
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

}  // namespace rino
