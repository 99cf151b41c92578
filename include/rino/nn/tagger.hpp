#pragma once

#include <memory>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/jets/jets.hpp>
#include <rino/nn/embed.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/tagger_head.hpp>
#include <rino/nn/task.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// An encoder and a head, and what their outputs mean.
struct Tagger {
  std::shared_ptr<Encoder> encoder;
  TaggerHead head{nullptr};
  TaskPlan plan = {};
  at::Tensor mean = {};       ///< of the targets of `regression`, [targets] float64
  at::Tensor deviation = {};  ///< the same

  /// Scores of label 1 [n], probabilities of the classes [n, classes], or targets in their units [n, targets], float64
  /// on the CPU: `pyrino.Tagger.predict` without a prior.
  ///
  /// The head is computed in double precision, on a copy in evaluation mode, so that the jets beside a jet change
  /// nothing. The encoder has to be in evaluation mode, as `read_tagger` gives it.
  /// @param threads  for features.
  at::Tensor scores(const Jets<double>& jets, int threads = 1, const EmbeddingBatch& batch = {}) const {
    const at::NoGradGuard no_grad;
    const at::TensorOptions placement = encoder->module()->parameters().front().options().requires_grad(false);
    const at::Tensor embeddings = embed(*encoder, jets, particles(), placement, threads, batch);
    TaggerHead exact(std::dynamic_pointer_cast<TaggerHeadImpl>(head->clone()));
    exact->to(at::kDouble);
    exact->eval();
    const at::Tensor outputs = exact(embeddings.to(at::kDouble)).to(embeddings.scalar_type()).to(at::kDouble).cpu();
    return plan.meaning(outputs, mean, deviation);
  }
};

}  // namespace rino
