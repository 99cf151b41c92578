#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/tokens/view_tokenizer.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// What an encoder makes of what it is given.
struct Embeddings {
  at::Tensor jets;          ///< [S, outputs]: one embedding per sequence
  at::Tensor constituents;  ///< [T, width]: one per token, in the tokens' order
};

/// What every encoder of jets is, beside a module of LibTorch: jets in, embeddings out. Its kind is a name in
/// `nn/encoders.hpp`, and the recipe's `encoder.kind`.
class Encoder {
 public:
  /// @param jets     how jets become its tokens.
  /// @param momenta  whether it looks at `Tokens::momenta`.
  explicit Encoder(const ViewTokenizerOptions& jets = {}, bool momenta = false) : tokenizer(jets, momenta) {}
  Encoder(const Encoder&) = default;
  Encoder& operator=(const Encoder&) = default;
  Encoder(Encoder&&) = default;
  Encoder& operator=(Encoder&&) = default;
  virtual ~Encoder() = default;

  /// Size of a jet's embedding.
  virtual std::int64_t outputs() const = 0;
  /// Size of a constituent's.
  virtual std::int64_t width() const = 0;

  /// Embeddings of what `inputs` made, which lies where the encoder does.
  /// @throws rino::Error if it is not what this encoder takes.
  virtual Embeddings forward(const Batch& batch) = 0;

  /// `forward(batch).jets`, without what only constituents need.
  virtual at::Tensor embed_jets(const Batch& batch) { return forward(batch).jets; }

  /// How many layers of this encoder, itself included, a tensor's layer has from it to the embedding; 0: none, it is as
  /// near as what stands on the encoder. Layer-wise learning rates fall with it.
  ///
  /// @param tensor  its name in the encoder.
  virtual std::int64_t depth(std::string_view tensor) const = 0;

  /// Whether a jet's embedding is made of its constituents' alone, so that to train these is to train all.
  virtual bool pools_constituents() const { return false; }

  /// What it sees of jets at resolutions, on the CPU: tokens "constituents", views in the order of the resolutions.
  /// @throws rino::Error as `ViewTokenizer` does.
  virtual Batch inputs(const Jets<double>& jets, const std::vector<Resolution>& resolutions, at::ScalarType type,
                       int threads = 1) const {
    return type == at::kDouble ? tokenizer.operator()<double>(jets, resolutions, threads)
                               : tokenizer.operator()<float>(jets, resolutions, threads);
  }

  /// What it sees of views that are jets of their own, as transforms make them; each has the same jets.
  virtual Batch inputs_of_views(std::span<const Jets<double>> views, at::ScalarType type, int threads = 1) const {
    return type == at::kDouble ? tokenizer.of_views<double>(views, threads) : tokenizer.of_views<float>(views, threads);
  }

  /// The module that this is.
  std::shared_ptr<torch::nn::Module> module() { return dynamic_cast<torch::nn::Module&>(*this).shared_from_this(); }

  ViewTokenizer tokenizer;  ///< how jets become its tokens
};

/// The number of layers from a tensor to the embedding, by the tensor's name; those that are not there have none.
using Depths = std::map<std::string, std::int64_t, std::less<>>;

/// Of all tensors of the encoders among modules, and within them: "network.layer.name".
inline Depths depths_of(const Modules& modules) {
  Depths depths;
  for (const auto& [network, module] : modules) {
    for (const auto& item : module->named_modules(network)) {
      if (const auto* const encoder = dynamic_cast<const Encoder*>(item.value().get())) {
        for (const auto& tensor : item.value()->named_parameters()) {
          depths[item.key() + "." + tensor.key()] = encoder->depth(tensor.key());
        }
      }
    }
  }
  return depths;
}

}  // namespace rino
