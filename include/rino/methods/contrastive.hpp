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
#include <rino/views/transforms/rotate.hpp>
#include <rino/views/transforms/smear.hpp>
#include <rino/views/transforms/split_collinear.hpp>
#include <rino/views/transforms/translate.hpp>

namespace rino {

/// What is done to a jet twice, with draws of its own each time, for two views of it; the defaults are those of
/// JetCLR's symmetries and distortions that `rotate`, `translate`, `smear` and `split_collinear` have.
struct ContrastiveViewOptions {
  bool rotate = true;
  double translate_rapidity = 1.0;
  double translate_phi = 1.0;
  double soft = 0.1;
  double stochastic = 0.0;
  double constant = 0.0;
  double eta = 0.0;
  double phi = 0.0;
  double split = 0.1;

  bool operator==(const ContrastiveViewOptions&) const = default;

  static constexpr auto fields() {
    using Self = ContrastiveViewOptions;
    return std::tuple{
        Field{"rotate", &Self::rotate, "", "by any angle about the jet's axis, in rapidity and phi"},
        Field{"translate_rapidity", &Self::translate_rapidity, "", "largest shift of the jet in rapidity", kOwnChoice},
        Field{"translate_phi", &Self::translate_phi, "", "largest shift of the jet in phi, in radians", kOwnChoice},
        Field{"soft", &Self::soft, "GeV", "deviation of a constituent's eta and phi, times its pT"},
        Field{"stochastic", &Self::stochastic, "", "a of sigma(pT)/pT = sqrt(a^2/pT + b^2), in sqrt(GeV)", kOwnChoice},
        Field{"constant", &Self::constant, "", "b of it", kOwnChoice},
        Field{"eta", &Self::eta, "", "deviation of eta at any pT", kOwnChoice},
        Field{"phi", &Self::phi, "", "deviation of phi at any pT, in radians", kOwnChoice},
        Field{"split", &Self::split, "", "probability that a constituent becomes two collinear ones", kOwnChoice},
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
      : views_(views), options_(options), encoder_(std::move(encoder)), head_(head) {
    detail::require_temperature(options.temperature);
    detail::require_probability(views.split, "split");
    for (const auto& [value, name] :
         {std::pair{views.translate_rapidity, "translate_rapidity"}, std::pair{views.translate_phi, "translate_phi"},
          std::pair{views.soft, "soft"}, std::pair{views.stochastic, "stochastic"},
          std::pair{views.constant, "constant"}, std::pair{views.eta, "eta"}, std::pair{views.phi, "phi"}}) {
      detail::require_not_negative(value, name, "");
    }
    require(views != ContrastiveViewOptions{false, 0, 0, 0, 0, 0, 0, 0, 0},
            "all transforms are off, so that both views of a jet are equal: give one");
    const TokenFeatures& features = encoder_->tokenizer.tokenizer().features();
    if (views.rotate) {
      features.require_no_frame("views.rotate");
    }
    if (views.translate_rapidity > 0) {
      features.require_no_frame("views.translate_rapidity, a boost along the beam,");
    }
    initialize(*encoder_->module(), seed);
    initialize(*head_, Random{seed, kHead}.bits());
  }

  const std::shared_ptr<Encoder>& encoder() const { return encoder_; }
  const Mlp& head() const { return head_; }

  /// One view of jets: each transform that is on, with draws of its own.
  Jets<double> view(const Jets<double>& jets, const Draws& draws) const {
    Jets<double> seen = jets;
    if (views_.rotate) {
      seen = rotate(seen, draws.step(0));
    }
    if (views_.translate_rapidity > 0 || views_.translate_phi > 0) {
      seen = translate(seen, {views_.translate_rapidity, views_.translate_phi}, draws.step(1));
    }
    if (views_.split > 0) {
      seen = split_collinear(seen, {.probability = views_.split}, draws.step(2));
    }
    if (views_.soft > 0 || views_.stochastic > 0 || views_.constant > 0 || views_.eta > 0 || views_.phi > 0) {
      seen = smear(seen, {views_.stochastic, views_.constant, views_.eta, views_.phi, views_.soft}, draws.step(3));
    }
    return seen;
  }

  /// What the encoder sees of both views of all jets; labels where they are wanted.
  /// @throws rino::Error if they are and the jets have none.
  Batch prepare(const Jets<double>& jets, const Step& step) const override {
    const std::vector<Jets<double>> views{view(jets, step.draws("first view")), view(jets, step.draws("second view"))};
    Batch batch = encoder_->inputs_of_views(views, type());
    if (options_.labels) {
      require(jets.labels() != nullptr, "loss.labels is on but the jets have no labels: give labelled jets, or switch ",
              "it off");
      batch.labels = index_tensor(std::span<const std::int64_t>(*jets.labels()), at::kCPU);
    }
    return batch;
  }

  /// Metrics: alignment and uniformity of the head's outputs (arXiv:2005.10242), of the jets of all processes, the
  /// latter the mean over both views.
  StepLoss loss(const Batch& batch, const Step& step) override {
    const at::Device device = batch.of("constituents").features.device();
    set_generator(*encoder_->module(), make_generator(device, step.dropout_seed()));
    const at::Tensor embeddings = encoder_->embed_jets(batch).to(type());
    const Autocast off(Precision::float32, embeddings.device().type());
    const at::Tensor z = head_(embeddings);
    const std::vector<at::Tensor> views = z.chunk(2);
    StepLoss result;
    result.loss = options_.labels ? supcon_loss(z, batch.labels.repeat({2}), options_.temperature, ranks_)
                                  : nt_xent_loss(views[0], views[1], options_.temperature, ranks_);
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
  bool accumulates() const override { return false; }
  void connect(const Ranks& ranks) override { ranks_ = ranks; }
  void start() override { encoder_->module()->train(); }
  void release() override { set_generator(*encoder_->module(), std::nullopt); }

  /// Of the last step: embeddings [B, D] of the first view.
  Metrics snapshot() const override { return embeddings_.defined() ? Metrics{{"embeddings", embeddings_}} : Metrics{}; }

 private:
  static constexpr std::uint64_t kHead = 15;

  ContrastiveViewOptions views_;
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
  return entry;
}

}  // namespace rino
