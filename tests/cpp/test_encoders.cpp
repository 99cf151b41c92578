#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

#include <rino/jets/toy_shower.hpp>
#include <rino/nn/deep_sets_encoder.hpp>
#include <rino/nn/embed.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/encoders.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/recipe/recipe.hpp>
#include <rino/train/trainer.hpp>

#include "catch.hpp"
#include "numeric.hpp"

using rino::Jets;
using rino::Recipe;
using rino::Tokens;

namespace {

/// An encoder as users write one: the sum of a linear map of the constituents' momenta.
struct MomentumOptions {
  std::string kind = "momentum";
  std::int64_t width = 6;

  bool operator==(const MomentumOptions&) const = default;
  void take(const rino::Tokenizer& /*tokenizer*/) {}
  std::int64_t outputs() const { return width; }

  static constexpr auto fields() {
    return std::tuple{rino::Field{"kind", &MomentumOptions::kind, "", "of network"},
                      rino::Field{"width", &MomentumOptions::width, "", "of the embedding"}};
  }
};

class MomentumEncoder : public torch::nn::Cloneable<MomentumEncoder>, public rino::Encoder {
 public:
  explicit MomentumEncoder(const MomentumOptions& options, const rino::ViewTokenizerOptions& jets = {})
      : Encoder(jets, /*momenta=*/true), options(options) {
    reset();
  }
  void reset() override { map = register_module("map", rino::Linear(rino::LinearOptions{4, options.width})); }
  rino::Embeddings forward(const rino::Batch& batch) override {
    const Tokens& tokens = batch.of("constituents");
    const at::Tensor each = map(tokens.momenta.to(tokens.features.scalar_type()));
    return {rino::sum_by_sequence(each, tokens), each};
  }
  std::int64_t outputs() const override { return options.width; }
  std::int64_t width() const override { return options.width; }
  std::int64_t depth(std::string_view /*tensor*/) const override { return 1; }

  MomentumOptions options;
  rino::Linear map{nullptr};
};

}  // namespace

TEST_CASE("an encoder embeds jets by itself, whatever its kind", "[encoders]") {
  const Jets<double> jets = rino::toy_shower<double>({.jets = 12}, 3);
  for (const rino::EncoderKind& kind : rino::EncoderKinds::all()) {
    INFO(kind.name);
    Recipe recipe;
    recipe.set("encoder", "kind", kind.name);
    const std::shared_ptr<rino::Encoder> encoder = recipe.make_encoder();
    rino::initialize(*encoder->module(), 1);
    encoder->module()->to(at::kDouble);
    encoder->module()->eval();
    CHECK(encoder->outputs() == rino::encoder_outputs(recipe.sections()));
    const rino::Batch batch = encoder->inputs(jets, {rino::subjets(3), rino::particles()}, at::kDouble);
    const rino::Embeddings both = encoder->forward(batch);
    CHECK(both.jets.sizes() == at::IntArrayRef({24, encoder->outputs()}));
    CHECK(both.constituents.size(1) == encoder->width());
    CHECK(encoder->embed_jets(batch).allclose(both.jets, 1e-12, 1e-12));
    const at::TensorOptions placement(at::kDouble);
    const at::Tensor at_once = rino::embed(*encoder, jets, rino::particles(), placement);
    CHECK(at_once.allclose(both.jets.narrow(0, 12, 12), 1e-12, 1e-12));
    CHECK(rino::embed(*encoder, jets, rino::particles(), placement, 1, {.jets = 5}).allclose(at_once, 1e-12, 1e-12));
    const std::vector<Jets<double>> views{jets, jets};
    const rino::Batch twice = encoder->inputs_of_views(views, at::kDouble);
    CHECK(encoder->embed_jets(twice).narrow(0, 12, 12).allclose(at_once, 1e-12, 1e-12));
  }
}

TEST_CASE("every tensor of an encoder has its depth", "[encoders]") {
  rino::JetEncoderOptions options;
  options.layers = 3;
  options.pooling = rino::Pooling::attention;
  const rino::JetEncoder transformer(options);
  CHECK(transformer->depth("pool.query") == 0);
  CHECK(transformer->depth("norm.weight") == 1);
  CHECK(transformer->depth("blocks.2.linear1.weight") == 1);
  CHECK(transformer->depth("blocks.0.norm1.bias") == 3);
  CHECK(transformer->depth("embedding.weight") == 4);
  CHECK(transformer->depth("class_token.bias") == 4);
  const rino::DeepSetsEncoder sets;
  CHECK(sets->depth("jets.2.weight") == 1);
  CHECK(sets->depth("jets.0.bias") == 3);
  CHECK(sets->depth("constituents.2.weight") == 4);
  CHECK(sets->depth("constituents.0.weight") == 6);
  const rino::Depths depths = rino::depths_of({{"network", sets.ptr()}});
  CHECK(depths.size() == sets->parameters().size());
  CHECK(depths.at("network.jets.1.weight") == 2);
}

TEST_CASE("a user's encoder is chosen by its kind, has its own numbers and trains", "[encoders]") {
  if (rino::EncoderKinds::all().back().name != "momentum") {
    rino::EncoderKinds::add(rino::encoder_kind<MomentumEncoder, MomentumOptions>("a linear map of momenta", "rino"));
  }
  CHECK(says(
      error_of([] { rino::EncoderKinds::add(rino::encoder_kind<MomentumEncoder, MomentumOptions>("again", "rino")); }),
      "there is an encoder 'momentum' already"));
  Recipe recipe("contrastive");
  recipe.set("encoder", "kind", "momentum");
  recipe.set("encoder", "width", std::int64_t{5});
  CHECK(says(error_of([&] { recipe.set("encoder", "heads", std::int64_t{2}); }), "no 'encoder.heads'"));
  CHECK(recipe.get<MomentumOptions>("encoder").width == 5);
  CHECK(says(error_of([&] { recipe.encoder(); }), "no section 'encoder' of that type"));
  recipe.training().epochs = 2;
  recipe.training().batch_size = 8;
  rino::Trainer trainer(recipe.make_method(), rino::toy_shower<double>({.jets = 16}, 5), recipe.optimizer(),
                        recipe.training(), at::kCPU, at::kDouble);
  while (!trainer.done()) {
    CHECK(std::isfinite(trainer.step().loss));
  }
  const auto products = trainer.method().products();
  CHECK(dynamic_cast<const MomentumEncoder&>(*products.front().second).options.width == 5);
}
