#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/core/device.hpp>
#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// How many jets are embedded at a time.
struct EmbeddingBatch {
  std::int64_t tokens = 65536;  ///< at most, class tokens included, where one jet does not have more: bounds the memory
  std::int64_t jets = 0;        ///< at most; 0: as many as have these tokens
};

/// Where the batches begin: 0, ..., n. Jets stand in as many batches as the budget asks for, in their order.
/// @throws rino::Error for a budget below one token or negative jets.
template <typename Scalar>
std::vector<std::int64_t> embedding_batches(const Jets<Scalar>& jets, const EmbeddingBatch& batch = {}) {
  require(batch.tokens >= 1, "batch_tokens is ", batch.tokens, ": choose 1 or more");
  require(batch.jets >= 0, "batch_size is ", batch.jets, ": choose 1 or more, or none for as many as fit");
  std::vector<std::int64_t> bounds{0};
  std::int64_t tokens = 0;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    const std::int64_t own = jets.multiplicity(j) + 1;
    const bool full = tokens + own > batch.tokens || (batch.jets > 0 && j - bounds.back() == batch.jets);
    if (full && j > bounds.back()) {
      bounds.push_back(j);
      tokens = 0;
    }
    tokens += own;
  }
  if (jets.size() > 0) {
    bounds.push_back(jets.size());
  }
  return bounds;
}

/// Embeddings of one batch of jets at one resolution, without gradients. Nothing is padded: the tokens of all jets lie
/// one behind the other.
///
/// @param encoder    in the mode it is to be used in: `eval()`, unless dropout is wanted.
/// @param placement  the device and type of the encoder.
/// @param threads    for clustering and features.
/// @returns          [n, outputs] in the order of the jets, where the encoder is.
inline at::Tensor embed_batch(Encoder& encoder, const Jets<double>& jets, const Resolution& resolution,
                              const at::TensorOptions& placement, int threads = 1) {
  const at::NoGradGuard no_grad;
  const at::ScalarType type = placement.dtype() == at::kDouble ? at::kDouble : at::kFloat;
  Batch batch = encoder.inputs(jets, {resolution}, type, threads);
  if (fetches_pinned(placement.device())) {
    batch = batch.pin_memory().to(placement);
  }
  return encoder.embed_jets(batch).to(type);  // which autocast may have changed
}

/// Embeddings of jets at one resolution, [n, outputs], batch by batch.
inline at::Tensor embed(Encoder& encoder, const Jets<double>& jets, const Resolution& resolution,
                        const at::TensorOptions& placement, int threads = 1, const EmbeddingBatch& batch = {}) {
  const std::vector<std::int64_t> bounds = embedding_batches(jets, batch);
  std::vector<at::Tensor> parts{at::empty({0, encoder.outputs()}, placement)};
  for (std::size_t b = 0; b + 1 < bounds.size(); ++b) {
    parts.push_back(embed_batch(encoder, jets.slice(bounds[b], bounds[b + 1]), resolution, placement, threads));
  }
  return at::cat(parts);
}

}  // namespace rino
