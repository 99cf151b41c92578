#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/core/placement.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// Numbers of summands by the mean's name.
using Counts = std::map<std::string, double, std::less<>>;

/// What a method prepared of a batch of jets, on loader threads; it goes to the device as one.
struct Batch {
  Batch() = default;
  /// These tokens and no more, as "constituents": what most encoders take.
  Batch(Tokens constituents) {  // NOLINT(google-explicit-constructor): wherever a batch is asked for tokens will do
    tokens.emplace("constituents", std::move(constituents));
  }

  /// Tokens by what they are: "constituents" of the views of the jets, in their order; others by a method's own names.
  std::map<std::string, Tokens, std::less<>> tokens;
  at::Tensor labels;   ///< [B] int64, the jets' class numbers; undefined unless the method asks for them
  at::Tensor weights;  ///< [B] float64, the jets' weights; undefined unless the recipe names them, `training.weight`
  std::map<std::string, at::Tensor, std::less<>> tensors;  ///< further ones, by the method's names
  /// How many summands a mean has, by the mean's name, where the number differs from batch to batch: `Step::mean`.
  Counts counts;

  /// Tokens of a name. @throws rino::Error naming what there is.
  const Tokens& of(std::string_view name) const { return found(tokens, name, "tokens"); }

  /// One of the further tensors. @throws rino::Error naming what there is.
  const at::Tensor& tensor(std::string_view name) const { return found(tensors, name, "tensor"); }

  /// Everything on a device, tokens in a floating-point type. From pinned memory the copies are not waited for.
  Batch to(const at::TensorOptions& options) const {
    return with([&](const Tokens& some) { return some.to(options); },
                [&](const at::Tensor& tensor) { return to_device(tensor, options.device()); });
  }

  /// Everything in pinned memory, from where a CUDA device fetches it while the CPU does something else.
  Batch pin_memory() const {
    return with([](const Tokens& some) { return some.pin_memory(); },
                [](const at::Tensor& tensor) { return tensor.pin_memory(); });
  }

 private:
  template <typename Map>
  static const typename Map::mapped_type& found(const Map& map, std::string_view name, const char* what) {
    const auto place = map.find(name);
    require(place != map.end(), "the batch has no ", what, " '", name, "', only: ", keys_of(map),
            "; Method::prepare makes them");
    return place->second;
  }

  template <typename OfTokens, typename OfTensor>
  Batch with(const OfTokens& of_tokens, const OfTensor& of_tensor) const {
    Batch moved = *this;
    for (auto& [name, some] : moved.tokens) {
      some = of_tokens(some);
    }
    for (auto& [name, tensor] : moved.tensors) {
      tensor = of_tensor(tensor);
    }
    for (at::Tensor* tensor : {&moved.labels, &moved.weights}) {
      if (tensor->defined()) {
        *tensor = of_tensor(*tensor);
      }
    }
    return moved;
  }
};

}  // namespace rino
