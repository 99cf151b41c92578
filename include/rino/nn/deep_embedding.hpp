#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <utility>

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/named_enum.hpp>
#include <rino/nn/batch_norm.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/norm.hpp>

namespace rino {

/// How a constituent's features become a row of the encoder's width.
enum class EmbeddingKind {
  linear,      ///< a linear map
  deep,        ///< `DeepEmbedding`
  deep_batch,  ///< the same behind a batch norm of the features
};

template <>
inline constexpr std::array enum_names<EmbeddingKind> = {
    std::pair{EmbeddingKind::linear, std::string_view("linear")},
    std::pair{EmbeddingKind::deep, std::string_view("deep")},
    std::pair{EmbeddingKind::deep_batch, std::string_view("deep-batch")},
};

/// Options of `DeepEmbedding`.
struct DeepEmbeddingOptions {
  std::int64_t inputs;
  std::int64_t width;
  NormKind norm = NormKind::layer;
  double norm_eps = 1e-5;
  bool batch_norm = false;  ///< of the features
};

/// Three layers of norm, linear and GELU, of width, 4 width and width: [T, inputs] -> [T, width]. A batch norm in
/// front, where there is one, has the statistics of constituents alone; the authors' has those of the padding, too.
///
/// Source: ParT, arXiv:2202.03772, section 4.
class DeepEmbeddingImpl : public torch::nn::Cloneable<DeepEmbeddingImpl> {
 public:
  explicit DeepEmbeddingImpl(const DeepEmbeddingOptions& options) : options(options) { reset(); }

  void reset() override {
    if (options.batch_norm) {
      input_norm =
          register_module("input_norm", BatchNorm(BatchNormOptions{.width = options.inputs, .eps = options.norm_eps}));
    }
    norms = register_module("norms", torch::nn::ModuleList());
    layers = register_module("layers", torch::nn::ModuleList());
    std::int64_t in = options.inputs;
    for (const std::int64_t out : {options.width, 4 * options.width, options.width}) {
      norms->push_back(Norm(NormOptions{in, options.norm, options.norm_eps}));
      layers->push_back(Linear(LinearOptions{in, out}));
      in = out;
    }
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::DeepEmbedding(" << options.inputs << " -> " << options.width << ")";
  }

  at::Tensor forward(at::Tensor x) {
    if (input_norm) {
      x = input_norm(x);
    }
    for (std::size_t k = 0; k < layers->size(); ++k) {
      x = at::gelu(layers->ptr(k)->as<LinearImpl>()->forward(norms->ptr(k)->as<NormImpl>()->forward(x)));
    }
    return x;
  }

  DeepEmbeddingOptions options;
  BatchNorm input_norm{nullptr};  ///< empty without it
  torch::nn::ModuleList norms{nullptr};
  torch::nn::ModuleList layers{nullptr};
};

TORCH_MODULE(DeepEmbedding);

}  // namespace rino
