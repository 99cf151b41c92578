#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include <rino/rino.hpp>

/// Numbers of the method: a section of its recipes.
struct HardnessOptions {
  double scale = 500.0;
  double soft = 0.1;

  bool operator==(const HardnessOptions&) const = default;

  static constexpr auto fields() {
    using Self = HardnessOptions;
    return std::tuple{
        rino::Field{"scale", &Self::scale, "GeV", "pT whose logarithm is 0"},
        rino::Field{"soft", &Self::soft, "GeV", "deviation of a constituent's angles, times its pT"},
    };
  }
};

/// How hard is this jet? The mean squared error of ln(pT / scale), from a smeared view.
class Hardness final : public rino::Method {
 public:
  explicit Hardness(const rino::Sections& recipe)
      : options_(recipe.get<HardnessOptions>("hardness")),
        encoder_(rino::make_encoder(recipe)),
        head_(rino::MlpOptions{.inputs = encoder_->outputs(), .layers = 1, .width = 1}) {
    const auto seed = static_cast<std::uint64_t>(recipe.get<rino::TrainingOptions>("training").seed);
    rino::initialize(*encoder_->module(), seed);
    rino::initialize(*head_, seed + 1);
  }

  rino::Batch prepare(const rino::Jets<double>& jets, const rino::Step& step) const override {
    const std::vector<rino::Jets<double>> view{
        rino::smear(jets, rino::SmearOptions{.soft = options_.soft}, step.draws("smearing"))};
    std::vector<double> logarithms;
    for (std::int64_t j = 0; j < jets.size(); ++j) {
      logarithms.push_back(std::log(rino::pt(jets.four_momentum(j)) / options_.scale));
    }
    rino::Batch batch = encoder_->inputs_of_views(view, type());
    batch.tensors["hardness"] = at::tensor(logarithms).to(at::kFloat);
    return batch;
  }

  rino::StepLoss loss(const rino::Batch& batch, const rino::Step&) override {
    const at::Tensor answer = head_(encoder_->embed_jets(batch)).squeeze(1);
    const at::Tensor truth = batch.tensor("hardness");
    const at::Tensor error = (answer - truth).square().mean();
    return {error, {{"error", error.detach()}, {"answer", answer.detach().mean()}, {"truth", truth.mean()}}};
  }

  rino::Modules trained() const override { return {{"encoder", encoder_->module()}, {"head", head_.ptr()}}; }
  void start() override { encoder_->module()->train(); }

 private:
  HardnessOptions options_;
  std::shared_ptr<rino::Encoder> encoder_;
  rino::Mlp head_;
};

inline void add_hardness() {
  rino::Registry::add({
      .name = "hardness",
      .summary = "a jet's pT from its constituents",
      .source = "somebody else",
      .add_sections = [](rino::Sections& sections) { sections.add<HardnessOptions>("hardness"); },
      .resolve = [](rino::Sections&) {},
      .make = [](const rino::Sections& recipe) { return std::make_shared<Hardness>(recipe); },
      .presets = {{"hardness-small", "", "of a small encoder", "somebody else", {{"encoder.width", 16}}}},
      .charts = {{"resolution", {{"error", "mean squared error"}}},
                 {"mean of ln pT", {{"answer", "found"}, {"truth", "true"}}}},
  });
}
