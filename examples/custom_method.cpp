// A method of your own, trained by its name from a TOML file: alignment and uniformity (arXiv:2005.10242).
//
//   custom_method [FILE.toml]
#include <iostream>

#include <rino/recipe/toml.hpp>
#include <rino/rino.hpp>

/// Its numbers: a section of the recipe.
struct AlignmentOptions {
  double uniformity = 1.0;
  double soft = 0.1;

  bool operator==(const AlignmentOptions&) const = default;

  static constexpr auto fields() {
    using Self = AlignmentOptions;
    return std::tuple{
        rino::Field{"uniformity", &Self::uniformity, "", "weight of the uniformity"},
        rino::Field{"soft", &Self::soft, "GeV", "deviation of a constituent's angles, times its pT"},
    };
  }
};

/// Two views of a jet lie near each other, those of all jets fill the sphere.
class Alignment final : public rino::Method {
 public:
  explicit Alignment(const rino::Sections& recipe)
      : options_(recipe.get<AlignmentOptions>("alignment")), encoder_(rino::make_encoder(recipe)) {
    rino::initialize(*encoder_->module(),
                     static_cast<std::uint64_t>(recipe.get<rino::TrainingOptions>("training").seed));
  }

  // Called from loader threads: what a step draws follows from its seed, its number and a name.
  rino::Batch prepare(const rino::Jets<double>& jets, const rino::Step& step) const override {
    const std::vector<rino::Jets<double>> views{
        rino::rotate(jets, step.draws("rotation")),
        rino::smear(jets, rino::SmearOptions{.soft = options_.soft}, step.draws("smearing"))};
    return encoder_->inputs_of_views(views, type());
  }

  rino::StepLoss loss(const rino::Batch& batch, const rino::Step& step) override {
    const at::Device device = batch.of("constituents").features.device();
    rino::set_generator(*encoder_->module(), rino::make_generator(device, step.dropout_seed()));
    const std::vector<at::Tensor> views = encoder_->embed_jets(batch).chunk(2);
    const at::Tensor near = rino::alignment(views[0], views[1]);
    const at::Tensor spread = (rino::uniformity(views[0]) + rino::uniformity(views[1])) / 2;
    return {near + options_.uniformity * spread, {{"alignment", near.detach()}, {"uniformity", spread.detach()}}};
  }

  rino::Modules trained() const override { return {{"encoder", encoder_->module()}}; }
  void start() override { encoder_->module()->train(); }

 private:
  AlignmentOptions options_;
  std::shared_ptr<rino::Encoder> encoder_;
};

int main(int count, char** arguments) {
  rino::MethodEntry entry;
  entry.name = "alignment";
  entry.summary = "two views of a jet lie near each other, those of all jets fill the sphere";
  entry.source = "arXiv:2005.10242";
  entry.add_sections = [](rino::Sections& sections) { sections.add<AlignmentOptions>("alignment"); };
  entry.resolve = [](rino::Sections&) {};
  entry.make = [](const rino::Sections& recipe) { return std::make_shared<Alignment>(recipe); };
  entry.presets = {{"wide", "", "with more smearing", "rino", {{"encoder.width", 64}, {"alignment.soft", 0.3}}}};
  entry.charts = {{"views", {{"alignment", "mean squared distance"}, {"uniformity", "how evenly they lie"}}}};
  rino::Registry::add(std::move(entry));

  const rino::Recipe recipe = count > 1 ? rino::read_recipe(arguments[1]) : rino::parse_recipe(R"(
method = "alignment"

[alignment]
soft = 0.2

[training]
epochs = 3
batch_size = 64
)");
  rino::Trainer trainer(recipe.make_method(), rino::toy_shower<double>({.jets = 512}, /*seed=*/1), recipe.optimizer(),
                        recipe.training());
  while (!trainer.done()) {
    const rino::StepReport step = trainer.step();
    std::cout << "step " << step.step << ": loss " << step.loss << ", alignment " << step.metrics[0].second << '\n';
  }
  trainer.save("alignment.safetensors");
}
