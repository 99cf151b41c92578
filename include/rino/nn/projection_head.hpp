#pragma once

#include <cstdint>
#include <ostream>
#include <tuple>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/fields.hpp>
#include <rino/nn/initialization.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// Options of `ProjectionHead`; the defaults are the paper's nano.
struct ProjectionHeadOptions {
  std::int64_t inputs = 32;
  std::int64_t hidden_layers = 1;
  std::int64_t hidden_width = 0;
  std::int64_t bottleneck = 0;
  std::int64_t prototypes = 16;

  bool operator==(const ProjectionHeadOptions&) const = default;

  /// Width of a hidden layer with the default resolved.
  std::int64_t hidden() const { return hidden_width > 0 ? hidden_width : 4 * inputs; }

  static constexpr auto fields() {
    using Self = ProjectionHeadOptions;
    return std::tuple{
        Field{"prototypes", &Self::prototypes, "", "number K of prototypes"},
        Field{"hidden_layers", &Self::hidden_layers, "", "linear layers with GELU before the prototypes"},
        Field{"hidden_width", &Self::hidden_width, "",
              "width of the linear layers before the prototypes; 0: four times the encoder's"},
        Field{"bottleneck", &Self::bottleneck, "", "width of a last linear layer without GELU; 0: none"},
    };
  }
};

/// Of the initial weights of a projection head's hidden layers (arXiv:2104.14294).
inline constexpr double kHeadDeviation = 0.02;

/// A linear layer without bias whose rows have length 1: weight normalisation (Salimans and Kingma,
/// arXiv:1602.07868) with the gain fixed at 1. Rows start from PyTorch's `nn.Linear`, with a length of 1/sqrt(3) on
/// average: the shorter a row, the further a step of the optimiser turns it.
class PrototypesImpl : public Leaf<PrototypesImpl> {
 public:
  explicit PrototypesImpl(const LinearOptions& options) : options(options) { reset(); }

  void reset() override { own("weight", &PrototypesImpl::weight, torch::ones({options.out, options.in})); }
  void initialize(const at::Generator& generator) override {
    detail::uniform(weight, linear_bound(options.in), generator);
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::Prototypes(" << options.in << " -> " << options.out << ")";
  }

  /// [.., in] -> [.., out].
  at::Tensor forward(const at::Tensor& x) { return at::linear(x, weight / weight.norm(2, {1}, /*keepdim=*/true)); }

  LinearOptions options;
  at::Tensor weight;  ///< [out, in], directions only
};

TORCH_MODULE(Prototypes);

/// Scores of embeddings against K prototypes: hidden layers with GELU, an optional bottleneck, L2 norm, prototypes.
/// Scores are cosines, in [-1, 1].
///
/// Source: DINO (arXiv:2104.14294), figure 9; sizes of arXiv:2509.07486.
class ProjectionHeadImpl : public torch::nn::Cloneable<ProjectionHeadImpl> {
 public:
  /// @throws rino::Error for sizes that make no network.
  explicit ProjectionHeadImpl(const ProjectionHeadOptions& options) : options(options) {
    require(options.inputs > 0 && options.prototypes > 1 && options.hidden_layers >= 0 && options.hidden_width >= 0 &&
                options.bottleneck >= 0,
            "prototypes, hidden_layers, hidden_width and bottleneck are ", options.prototypes, ", ",
            options.hidden_layers, ", ", options.hidden_width, " and ", options.bottleneck,
            ": choose at least 2 prototypes and no negative number");
    reset();
  }

  void reset() override {
    hidden = register_module("hidden", torch::nn::ModuleList());
    std::int64_t width = options.inputs;
    for (std::int64_t layer = 0; layer < options.hidden_layers; ++layer) {
      hidden->push_back(Linear(LinearOptions{width, options.hidden(), kHeadDeviation}));
      width = options.hidden();
    }
    if (options.bottleneck > 0) {
      bottleneck = register_module("bottleneck", Linear(LinearOptions{width, options.bottleneck, kHeadDeviation}));
      width = options.bottleneck;
    }
    prototypes = register_module("prototypes", Prototypes(LinearOptions{width, options.prototypes}));
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::ProjectionHead(" << options.inputs << " -> " << options.prototypes << " prototypes)";
  }

  /// [.., inputs] -> [.., prototypes].
  at::Tensor forward(const at::Tensor& embeddings) {
    at::Tensor x = embeddings;
    for (const auto& layer : *hidden) {
      x = at::gelu(layer->as<Linear>()->forward(x));
    }
    if (bottleneck) {
      x = bottleneck(x);
    }
    return prototypes(x / x.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-6));
  }

  ProjectionHeadOptions options;
  torch::nn::ModuleList hidden{nullptr};
  Linear bottleneck{nullptr};
  Prototypes prototypes{nullptr};
};

TORCH_MODULE(ProjectionHead);

}  // namespace rino
