#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/placement.hpp>
#include <rino/core/random.hpp>
#include <rino/core/ranks.hpp>
#include <rino/core/sections.hpp>
#include <rino/losses/alignment.hpp>
#include <rino/losses/nt_xent.hpp>
#include <rino/losses/supcon.hpp>
#include <rino/losses/uniformity.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/encoders.hpp>
#include <rino/nn/mlp.hpp>
#include <rino/nn/module.hpp>
#include <rino/nn/precision.hpp>
#include <rino/tokens/token_features.hpp>
#include <rino/train/method.hpp>
#include <rino/train/method_entry.hpp>
#include <rino/train/training_options.hpp>
#include <rino/views/transforms/augmentation.hpp>
#include <rino/views/transforms/named.hpp>

namespace rino {

/// What is done to a jet for each of its two views, transforms in words one after another, with draws of its own each;
/// the defaults are JetCLR's symmetries and distortions.
struct ContrastiveViewOptions {
  std::vector<std::string> first{"rotate", "translate max_rapidity=1 max_phi=1", "split_collinear probability=0.1",
                                 "smear stochastic=0 constant=0 eta=0 phi=0 soft=0.1"};
  std::vector<std::string> second = first;

  bool operator==(const ContrastiveViewOptions&) const = default;

  static constexpr auto fields() {
    using Self = ContrastiveViewOptions;
    return std::tuple{
        Field{"first", &Self::first, "",
              "transforms of the first view, each a name and the numbers that are not its defaults, 'smear soft=0.1'",
              kOwnChoice},
        Field{"second", &Self::second, "", "transforms of the second view, as those of the first", kOwnChoice},
    };
  }
};

/// Temperature and labels; the default is JetCLR's.
struct ContrastiveOptions {
  double temperature = 0.1;
  bool labels = false;

  bool operator==(const ContrastiveOptions&) const = default;

  static constexpr auto fields() {
    using Self = ContrastiveOptions;
    return std::tuple{
        Field{"temperature", &Self::temperature, "", "by which cosines are divided"},
        Field{"labels", &Self::labels, "",
              "whether a jet's positives are all jets of its label (SupCon), not its other view alone (NT-Xent)",
              "arXiv:2004.11362"},
    };
  }
};

/// Contrastive learning: of all views of all jets of a batch, each has to find the other view of its jet, or, with
/// labels, those of its class. The jets of all processes are compared with each other.
///
/// Source: JetCLR, arXiv:2108.04253; SupCon, arXiv:2004.11362. On the encoder of self-distillation, and with our
/// transforms: rotations and shifts in rapidity, not pseudorapidity, about the jet's axis.
class Contrastive final : public Method {
 public:
  /// @param encoder  gets new initial values.
  /// @param seed     of them.
  /// @throws rino::Error for options outside their ranges, and for features that the views make wrong.
  Contrastive(std::shared_ptr<Encoder> encoder, const MlpOptions& head, const ContrastiveViewOptions& views,
              const ContrastiveOptions& options, std::uint64_t seed)
      : first_(named_augmentation<double>(views.first)),
        second_(named_augmentation<double>(views.second)),
        options_(options),
        encoder_(std::move(encoder)),
        head_(head) {
    detail::require_temperature(options.temperature);
    require(!views.first.empty() || !views.second.empty(),
            "views.first and views.second have no transform, so that both views of a jet are equal: give one");
    for (const auto& texts : {views.first, views.second}) {
      for (const std::string& text : texts) {
        if (changes_frame(text)) {
          encoder_->tokenizer.tokenizer().features().require_no_frame("the view's '" + text + "'");
        }
      }
    }
    initialize(*encoder_->module(), seed);
    initialize(*head_, Random{seed, purposes::kHead}.bits());
  }

  const std::shared_ptr<Encoder>& encoder() const { return encoder_; }
  const Mlp& head() const { return head_; }

  /// What the encoder sees of both views of all jets; labels where they are wanted.
  /// @throws rino::Error if they are and the jets have none.
  Batch prepare(const Jets<double>& jets, const Step& step) const override {
    const std::vector<Jets<double>> views{first_(jets, step.draws("first view")),
                                          second_(jets, step.draws("second view"))};
    Batch batch = encoder_->inputs_of_views(views, type());
    if (options_.labels) {
      require(jets.labels() != nullptr, "loss.labels is on but the jets have no labels: give labelled jets, or switch ",
              "it off");
      batch.labels = index_tensor(std::span<const std::int64_t>(*jets.labels()), at::kCPU);
    }
    return batch;
  }

  /// A jet's weight, where the recipe names a column of them, multiplies the terms of its views.
  ///
  /// Metrics: alignment and uniformity of the head's outputs (arXiv:2005.10242), of the jets of all processes, weights
  /// aside, the latter the mean over both views.
  StepLoss loss(const Batch& batch, const Step& step) override {
    const at::Device device = batch.of("constituents").features.device();
    set_generator(*encoder_->module(), make_generator(device, step.dropout_seed()));
    const at::Tensor embeddings = encoder_->embed_jets(batch).to(type());
    const Autocast off(Precision::float32, embeddings.device().type());
    const at::Tensor z = head_(embeddings);
    const std::vector<at::Tensor> views = z.chunk(2);
    StepLoss result;
    const at::Tensor& weights = batch.weights;
    const at::Tensor of_rows = weights.defined() ? weights.repeat({2}) : weights;
    result.loss = options_.labels ? supcon_loss(z, batch.labels.repeat({2}), options_.temperature, ranks_, of_rows)
                                  : nt_xent_loss(views[0], views[1], options_.temperature, ranks_, weights);
    const at::NoGradGuard no_grad;
    result.metrics.emplace_back("alignment", alignment(views[0], views[1]));
    const at::Tensor first = ranks_.gather(views[0].detach());
    const at::Tensor second = ranks_.gather(views[1].detach());
    result.metrics.emplace_back("uniformity", (uniformity(first) + uniformity(second)) / 2);
    embeddings_ = embeddings.detach().narrow(0, 0, views[0].size(0));
    return result;
  }

  Modules trained() const override { return {{"encoder", encoder_->module()}, {"head", head_.ptr()}}; }
  bool wants_labels() const override { return options_.labels; }
  bool wants_weights() const override { return true; }
  bool accumulates() const override { return false; }
  void connect(const Ranks& ranks) override { ranks_ = ranks; }
  void start() override { encoder_->module()->train(); }
  void release() override { set_generator(*encoder_->module(), std::nullopt); }

  /// Of the last step: embeddings [B, D] of the first view.
  Metrics snapshot() const override { return embeddings_.defined() ? Metrics{{"embeddings", embeddings_}} : Metrics{}; }

 private:
  Augmentation<double> first_;
  Augmentation<double> second_;
  ContrastiveOptions options_;
  Ranks ranks_;
  std::shared_ptr<Encoder> encoder_;
  Mlp head_;
  at::Tensor embeddings_;
};

/// The method as the registry lists it.
inline MethodEntry contrastive_entry() {
  MethodEntry entry;
  entry.name = "contrastive";
  entry.summary = "each view of a jet has to find the other one, or those of its class, among all jets of the batch";
  entry.source = "arXiv:2108.04253";
  entry.add_sections = [](Sections& sections) {
    sections.add<ContrastiveViewOptions>("views").add<MlpOptions>("head").add<ContrastiveOptions>("loss");
  };
  entry.resolve = [](Sections& sections) { sections.get<MlpOptions>("head").inputs = encoder_outputs(sections); };
  entry.make = [](const Sections& sections) -> std::shared_ptr<Method> {
    return std::make_shared<Contrastive>(make_encoder(sections), sections.get<MlpOptions>("head"),
                                         sections.get<ContrastiveViewOptions>("views"),
                                         sections.get<ContrastiveOptions>("loss"),
                                         static_cast<std::uint64_t>(sections.get<TrainingOptions>("training").seed));
  };
  entry.presets = {
      {"contrastive", "", "NT-Xent between two views of each jet, on the paper's smallest encoder", kOwnChoice, {}},
      {"supcon", "contrastive", "the same with labels: SupCon", kOwnChoice, {{"loss.labels", true}}},
  };
  entry.charts = {
      {"alignment", {{"alignment", "mean squared distance of two views"}}},
      {"uniformity", {{"uniformity", "ln of the mean Gaussian potential"}}},
  };
  entry.shown = {{"uniformity", "uniformity"}};
  entry.signs = {{.metric = "uniformity",
                  .text = "all jets have next to the same embedding behind the head: lower optimizer.lr, or give views "
                          "that differ less",
                  .high = -0.05}};
  return entry;
}

}  // namespace rino
