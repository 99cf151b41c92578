#pragma once

#include <charconv>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/jets/features.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/jet_encoder_options.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/pooling.hpp>
#include <rino/tokens/tokenizer.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// Options of `DeepSetsEncoder`; the defaults are those of the particle flow network of arXiv:1810.05165.
struct DeepSetsEncoderOptions {
  std::string kind = "deep-sets";
  std::int64_t inputs = static_cast<std::int64_t>(kTokenFeatures.size());
  std::int64_t hidden = 100;
  std::int64_t layers = 2;
  std::int64_t width = 256;
  std::int64_t jet_layers = 3;
  std::int64_t embedding = 100;

  bool operator==(const DeepSetsEncoderOptions&) const = default;

  /// Sizes that follow from how jets become tokens.
  void take(const Tokenizer& tokenizer) { inputs = tokenizer.features().size(); }

  /// Size of a jet's embedding.
  std::int64_t outputs() const { return embedding; }

  static constexpr auto fields() {
    using Self = DeepSetsEncoderOptions;
    return std::tuple{
        Field{"kind", &Self::kind, "", kEncoderKindMeaning, kOwnChoice},
        Field{"hidden", &Self::hidden, "", "width of the layers in front of a constituent's embedding", kDeepSets},
        Field{"layers", &Self::layers, "", "how many layers of that width there are", kDeepSets},
        Field{"width", &Self::width, "", "size of a constituent's embedding, which are summed", kDeepSets},
        Field{"jet_layers", &Self::jet_layers, "", "layers behind the sum over constituents", kDeepSets},
        Field{"embedding", &Self::embedding, "", "width of the layers behind the sum, and size of a jet's embedding",
              kDeepSets},
    };
  }

 private:
  static constexpr const char* kDeepSets = "arXiv:1810.05165";
};

/// A particle flow network without its last layer: F(sum over constituents of Phi(features)), Phi and F linear maps, a
/// ReLU behind each. There is no other exchange between constituents: small, fast, and what larger encoders have to
/// beat.
///
/// Of tokens that `Tokens::masked` hides, features of 0 are seen.
///
/// Source: Komiske, Metodiev, Thaler, arXiv:1810.05165; Deep Sets, arXiv:1703.06114.
class DeepSetsEncoderImpl : public torch::nn::Cloneable<DeepSetsEncoderImpl>, public Encoder {
 public:
  /// @param jets  how jets become its tokens, where it is given jets.
  /// @throws rino::Error for options that make no network.
  explicit DeepSetsEncoderImpl(const DeepSetsEncoderOptions& options = {}, const ViewTokenizerOptions& jets = {})
      : Encoder(jets), options(options) {
    require(options.inputs > 0 && options.hidden > 0 && options.layers >= 0 && options.width > 0 &&
                options.jet_layers > 0 && options.embedding > 0,
            "inputs, hidden, layers, width, jet_layers and embedding are ", options.inputs, ", ", options.hidden, ", ",
            options.layers, ", ", options.width, ", ", options.jet_layers, " and ", options.embedding,
            ": choose positive numbers, 0 or more for layers");
    reset();
  }

  void reset() override {
    constituents = register_module("constituents", torch::nn::ModuleList());
    jets = register_module("jets", torch::nn::ModuleList());
    std::int64_t from = options.inputs;
    const auto add = [&from](torch::nn::ModuleList& layers, std::int64_t to) {
      layers->push_back(Linear(LinearOptions{from, to}));
      from = to;
    };
    for (std::int64_t layer = 0; layer < options.layers; ++layer) {
      add(constituents, options.hidden);
    }
    add(constituents, options.width);
    for (std::int64_t layer = 0; layer < options.jet_layers; ++layer) {
      add(jets, options.embedding);
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::DeepSetsEncoder(inputs " << options.inputs << ", hidden " << options.layers << " x "
           << options.hidden << ", width " << options.width << ", embedding " << options.jet_layers << " x "
           << options.embedding << ")";
  }

  /// Embeddings of jets and of constituents, of tokens "constituents".
  /// @throws rino::Error if the tokens do not have `options.inputs` features or do not fit each other.
  Embeddings forward(const Batch& batch) override {
    const Tokens& tokens = batch.of("constituents");
    require(tokens.features.dim() == 2 && tokens.features.size(1) == options.inputs, "the tokens have shape ",
            tokens.features.sizes(), " but the encoder takes ", options.inputs,
            " features: make them with the feature set of the encoder's recipe");
    tokens.check();
    const at::Tensor seen =
        tokens.masked.defined() ? tokens.features.masked_fill(tokens.masked.unsqueeze(1), 0) : tokens.features;
    const at::Tensor each = run(constituents, seen);
    // As exact as the tokens: a sum of a hundred in bfloat16 is not.
    return {run(jets, sum_by_sequence(each.to(tokens.features.scalar_type()), tokens)), each};
  }

  std::int64_t outputs() const override { return options.outputs(); }
  std::int64_t width() const override { return options.width; }

  /// The last layer has 1.
  std::int64_t depth(std::string_view tensor) const override {
    const std::size_t dot = tensor.find('.');
    std::int64_t layer = 0;
    std::from_chars(tensor.data() + dot + 1, tensor.data() + tensor.size(), layer);
    return options.jet_layers - layer + (tensor.starts_with("jets.") ? 0 : options.layers + 1);
  }

  DeepSetsEncoderOptions options;
  torch::nn::ModuleList constituents{nullptr};
  torch::nn::ModuleList jets{nullptr};

 private:
  static at::Tensor run(const torch::nn::ModuleList& layers, at::Tensor x) {
    for (const auto& layer : *layers) {
      x = at::relu(layer->as<Linear>()->forward(x));
    }
    return x;
  }
};

TORCH_MODULE(DeepSetsEncoder);

}  // namespace rino
