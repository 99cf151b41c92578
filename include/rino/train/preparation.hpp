#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/train/jet_weights.hpp>
#include <rino/train/method.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// What is done to jets before a method prepares them, an `Augmentation` for example.
using Augment = std::function<Jets<double>(const Jets<double>&, const Draws&)>;

/// From jets to what a method's networks see of them. Loader threads call it, several at a time.
class Preparation {
 public:
  /// The count that is the sum of the jets' weights.
  static constexpr const char* kWeights = "weights";

  Preparation() = default;
  /// @param weight  the column of weights, "" for none.
  /// @param pins    whether batches are to lie in pinned memory.
  Preparation(std::shared_ptr<const Method> method, Augment augment, std::string weight, bool pins)
      : method_(std::move(method)), augment_(std::move(augment)), weight_(std::move(weight)), pins_(pins) {}

  bool weighs() const { return !weight_.empty(); }
  const std::string& weight() const { return weight_; }

  /// @param augments  whether these are jets that are augmented.
  Batch operator()(const Jets<double>& given, const Step& step, bool augments = true) const {
    Jets<double> jets = method_->wants_labels() ? given : given.without_labels();
    if (augment_ && augments) {
      jets = augmented(jets, step);
    }
    Batch batch = method_->prepare(jets, step);
    if (weighs()) {
      batch.weights = jet_weights(given, weight_);
      batch.counts[kWeights] = batch.weights.sum().item<double>();
    }
    return pins_ ? batch.pin_memory() : batch;
  }

 private:
  Jets<double> augmented(const Jets<double>& jets, const Step& step) const {
    Jets<double> made = augment_(jets, step.draws("augmentation"));
    require(made.size() == jets.size(), "the augmentation made ", made.size(), " jets of ", jets.size(),
            ": give one that keeps each jet");
    return made;
  }

  std::shared_ptr<const Method> method_;
  Augment augment_;
  std::string weight_;
  bool pins_ = false;
};

}  // namespace rino
