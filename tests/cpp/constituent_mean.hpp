#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <rino/core/placement.hpp>
#include <rino/jets/jets.hpp>
#include <rino/tokens/tokenizer.hpp>
#include <rino/train/method.hpp>

/// Learns log pT of jets by the mean over constituents of all jets, not jet by jet: parts of a step have unequal
/// counts. Where jets have weights it is the weighted mean over jets instead. One network is LibTorch's own, with a
/// batch norm behind it that it does not use for the loss.
class ConstituentMean final : public rino::Method {
 public:
  explicit ConstituentMean(bool labels = false)
      : layer(torch::nn::LinearOptions(11, 1)), norm(torch::nn::BatchNorm1dOptions(11)), labels_(labels) {
    const at::NoGradGuard no_grad;
    layer->weight.fill_(0.1);
    layer->bias.fill_(0.2);
  }

  rino::Batch prepare(const rino::Jets<double>& jets, const rino::Step& /*step*/) const override {
    const std::vector<rino::Jets<double>> itself{jets};
    rino::Batch batch;
    batch.tokens["constituents"] = rino::tokenize<double>(jets, std::span(itself), {});
    batch.counts["constituents"] = static_cast<double>(jets.constituents());
    if (jets.labels()) {
      batch.labels = rino::index_tensor(std::span<const std::int64_t>(*jets.labels()), at::kCPU);
    }
    return batch;
  }

  rino::StepLoss loss(const rino::Batch& batch, const rino::Step& step) override {
    seen_labels = batch.labels;
    seen_weights = batch.weights;
    const rino::Tokens& tokens = batch.of("constituents");
    std::vector<at::Tensor> wanted;
    for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
      wanted.push_back(tokens.jet_features[s][1].expand({tokens.length(s)}));
    }
    norm(tokens.features.detach());
    const at::Tensor error = layer(tokens.features).squeeze(1) - at::cat(wanted);
    at::Tensor mean = step.mean(error.square().sum(), "constituents") * factor;
    if (batch.weights.defined()) {
      at::Tensor sum = at::zeros({}, error.options());
      for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
        sum = sum + batch.weights[s] * error.narrow(0, tokens.first(s), tokens.length(s)).square().mean();
      }
      mean = step.mean(sum, "weights");
    }
    rino::StepLoss result{mean, {{"mean", mean.detach()}}};
    if (step.first_jet >= more_from) {
      result.metrics.emplace_back("more", mean.detach());
    }
    return result;
  }

  rino::Modules trained() const override { return {{"layer", layer.ptr()}, {"norm", norm.ptr()}}; }
  bool wants_labels() const override { return labels_; }
  bool wants_weights() const override { return true; }
  bool accumulates() const override { return !labels_; }

  torch::nn::Linear layer;
  torch::nn::BatchNorm1d norm;
  at::Tensor seen_labels;
  at::Tensor seen_weights;
  double factor = 1.0;               ///< of the loss
  std::int64_t more_from = 1 << 30;  ///< first jet of the parts that have one more metric

 private:
  bool labels_;
};
