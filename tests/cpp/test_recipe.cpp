#include <cstdint>
#include <map>
#include <numbers>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/recipe/recipe.hpp>

#include "catch.hpp"

#if __has_include(<toml++/toml.h>)
#include <rino/recipe/toml.hpp>
#define RINO_TEST_TOML
#endif

namespace {

using rino::FieldValue;
using rino::Recipe;
using Names = std::vector<std::string>;

/// The value of one number of a recipe.
FieldValue value_of(const Recipe& recipe, const std::string& key) {
  for (const rino::SectionEntry& entry : recipe.entries()) {
    if (entry.section + "." + entry.name == key) {
      return entry.value;
    }
  }
  return "(no such number)";
}

using Values = std::vector<std::pair<std::string, FieldValue>>;

void check_values(const Recipe& recipe, const Values& expected) {
  for (const auto& [key, value] : expected) {
    INFO(key);
    CHECK((value_of(recipe, key) == value));
  }
}

/// The numbers in which a recipe differs from another one, with its own values.
std::map<std::string, FieldValue> differences(const Recipe& recipe, const Recipe& other) {
  std::map<std::string, FieldValue> found;
  for (const rino::SectionEntry& entry : recipe.entries()) {
    const std::string key = entry.section + "." + entry.name;
    if (value_of(other, key) != entry.value) {
      found[key] = entry.value;
    }
  }
  return found;
}

/// A value unlike the given one that its field takes.
FieldValue another(const rino::SectionEntry& entry) {
  const std::string key = entry.section + "." + entry.name;
  if (const auto* flag = std::get_if<bool>(&entry.value)) {
    return !*flag;
  }
  if (const auto* whole = std::get_if<std::int64_t>(&entry.value)) {
    return *whole + 1;
  }
  if (const auto* number = std::get_if<double>(&entry.value)) {
    return *number / 2 + 0.25;
  }
  if (std::holds_alternative<Names>(entry.value)) {
    return Names{"5", "kt:2.5", "fraction:0.01", "all"};
  }
  static const std::vector<std::pair<std::string, std::string>> choices{{"jets.algorithm", "antikt"},
                                                                        {"jets.features", "logarithmic"},
                                                                        {"jets.normalization", "production"},
                                                                        {"encoder.class_token", "learned"},
                                                                        {"encoder.norm", "rms"},
                                                                        {"encoder.feedforward_kind", "swiglu"},
                                                                        {"encoder.positions", "polar"},
                                                                        {"encoder.pooling", "attention"},
                                                                        {"jets.relative_to", "kept"},
                                                                        {"encoder.bins", "floor"},
                                                                        {"encoder.masked_token", "learned"},
                                                                        {"encoder.embedding", "deep"},
                                                                        {"encoder.block", "normformer"},
                                                                        {"encoder.pairs", "layer"},
                                                                        {"supervised.head", "linear"},
                                                                        {"loss.assignment", "centering"},
                                                                        {"training.warmup_shape", "cosine"},
                                                                        {"training.precision", "bf16"},
                                                                        {"finetune.head", "mlp"},
                                                                        {"finetune.warmup_shape", "linear"},
                                                                        {"finetune.task", "regression"},
                                                                        {"finetune.balance", "weights"}};
  for (const auto& [name, choice] : choices) {
    if (name == key) {
      return choice;
    }
  }
  return "(unknown)";
}

template <typename Enum>
void check_names() {
  std::set<std::string> names;
  for (const auto& [value, name] : rino::enum_names<Enum>) {
    CHECK(rino::to_string(value) == name);
    CHECK(rino::parse_enum<Enum>(name, "x") == value);
    names.insert(std::string(name));
    CHECK(says(error_of([] { rino::parse_enum<Enum>("none of them", "jets.what"); }), "jets.what is 'none of them'",
               "choose one of '", name));
  }
  CHECK(names.size() == rino::enum_names<Enum>.size());
  CHECK_FALSE(error_of([] { rino::to_string(static_cast<Enum>(99)); }) == "(no error)");
}

}  // namespace

TEST_CASE("enumerations and their names go back and forth", "[recipe][enum]") {
  check_names<rino::Clustering>();
  check_names<rino::FeatureSet>();
  check_names<rino::Normalization>();
  check_names<rino::ClassToken>();
  check_names<rino::Assignment>();
  check_names<rino::HeadKind>();
  check_names<rino::Task>();
  check_names<rino::Balance>();
  check_names<rino::NormKind>();
  check_names<rino::FeedForwardKind>();
  check_names<rino::Positions>();
  check_names<rino::Pooling>();
  check_names<rino::MaskedToken>();
  check_names<rino::Rise>();
  check_names<rino::PolarBins>();
  check_names<rino::RelativeTo>();
  check_names<rino::Precision>();
  static_assert(rino::NamedEnum<rino::Clustering>);
  static_assert(!rino::NamedEnum<rino::Resolution::Kind>);
  static_assert(!rino::NamedEnum<int>);
}

TEST_CASE("the paper's presets carry its numbers", "[recipe]") {
  struct Size {
    const char* name;
    std::int64_t width, heads, layers, feedforward, prototypes, hidden1, hidden2;
    double encoder_lr;
  };
  for (const Size& size :
       {Size{"nano", 32, 4, 4, 128, 16, 8, 4, 1e-5}, Size{"lite", 64, 4, 4, 256, 32, 16, 8, 1e-5},
        Size{"mini", 128, 8, 6, 512, 64, 32, 16, 1e-6}, Size{"base", 256, 8, 6, 1024, 128, 64, 32, 1e-6}}) {
    INFO(size.name);
    const Recipe recipe = Recipe::preset(size.name);
    const Values expected{
        {"jets.algorithm", "kt"},
        {"jets.radius", 0.8},
        {"jets.max_constituents", std::int64_t{0}},
        {"jets.relative_to", "jet"},
        {"jets.boost_to_pt", 0.0},
        {"jets.features", "full"},
        {"jets.normalization", "workshop"},
        {"views.teacher", Names{"1", "2", "3", "4"}},
        {"views.student", Names{"8", "16", "32", "64", "all"}},
        {"views.student_drawn", std::int64_t{0}},
        {"encoder.width", size.width},
        {"encoder.heads", size.heads},
        {"encoder.layers", size.layers},
        {"encoder.feedforward", size.feedforward},
        {"encoder.dropout", 0.1},
        {"encoder.class_token", "jet"},
        {"head.prototypes", size.prototypes},
        {"head.hidden_layers", std::int64_t{1}},
        {"head.bottleneck", std::int64_t{0}},
        {"loss.student_temperature", 0.1},
        {"loss.teacher_temperature_start", 0.04},
        {"loss.teacher_temperature_end", 0.07},
        {"loss.teacher_temperature_rise", 0.2},  // 20 of 100 epochs
        {"loss.assignment", "sinkhorn"},
        {"loss.sinkhorn_iterations", std::int64_t{3}},
        {"loss.koleo", 1.0},
        {"loss.momentum_start", 0.992},
        {"loss.momentum_end", 1.0},
        {"optimizer.lr", 1e-4},
        {"optimizer.beta1", 0.9},
        {"optimizer.beta2", 0.999},
        {"optimizer.eps", 1e-6},
        {"optimizer.weight_decay", 0.01},
        {"optimizer.clip", 3.0},
        {"training.epochs", std::int64_t{100}},
        {"training.batch_size", std::int64_t{1000}},
        {"training.warmup", 0.1},
        {"training.final_lr", 1e-2},
        {"finetune.hidden1", size.hidden1},
        {"finetune.hidden2", size.hidden2},
        {"finetune.head_dropout", 0.1},
        {"finetune.probe_epochs", std::int64_t{40}},
        {"finetune.epochs", std::int64_t{100}},
        {"finetune.head_lr", 1e-3},
        {"finetune.encoder_lr", size.encoder_lr},
        {"finetune.eps", 1e-6},
        {"finetune.weight_decay", 0.01},
        {"finetune.clip", 1.0},
        {"finetune.warmup", 0.1},
        {"finetune.warmup_shape", "cosine"},
        {"finetune.warmup_start", 1e-4},
        {"finetune.final_lr", 1e-3},
        {"finetune.positive_weight", 2.0},
        {"finetune.batch_size", std::int64_t{1000}},
        {"supervised.lr", 1e-4},
    };
    check_values(recipe, expected);
    CHECK(recipe.encoder().inputs == 11);
    CHECK(recipe.get<rino::ProjectionHeadOptions>("head").inputs == size.width);
    CHECK(recipe.get<rino::ProjectionHeadOptions>("head").hidden() == 4 * size.width);
  }
  CHECK(Recipe::preset("nano") == Recipe{});
}

TEST_CASE("the production preset carries its numbers", "[recipe]") {
  const Recipe recipe = Recipe::preset("rino");
  check_values(recipe, {
                           {"jets.algorithm", "kt"},
                           {"jets.radius", 0.8},
                           {"jets.max_constituents", std::int64_t{90}},
                           {"jets.relative_to", "jet"},
                           {"jets.boost_to_pt", 0.0},
                           {"jets.features", "logarithmic"},
                           {"jets.normalization", "production"},
                           {"views.teacher", Names{"6", "8", "16"}},
                           {"views.student", Names{"2", "3", "4", "all"}},
                           {"views.student_drawn", std::int64_t{3}},
                           {"encoder.width", std::int64_t{256}},
                           {"encoder.heads", std::int64_t{16}},
                           {"encoder.layers", std::int64_t{8}},
                           {"encoder.feedforward", std::int64_t{1024}},
                           {"encoder.dropout", 0.0},
                           {"encoder.class_token", "learned"},
                           {"encoder.registers", std::int64_t{4}},
                           {"encoder.norm", "rms"},
                           {"encoder.norm_eps", 1e-5},
                           {"encoder.embedding_norm", true},
                           {"encoder.feedforward_kind", "swiglu"},
                           {"encoder.layer_scale", 0.01},
                           {"encoder.positions", "polar"},
                           {"encoder.radial_bins", std::int64_t{100}},
                           {"encoder.angular_bins", std::int64_t{100}},
                           {"encoder.radial_knee", 0.96},
                           {"encoder.radial_range", 5.60},
                           {"encoder.bins", "round"},
                           {"encoder.pooling", "token"},
                           {"head.prototypes", std::int64_t{2048}},
                           {"head.hidden_layers", std::int64_t{2}},
                           {"head.hidden_width", std::int64_t{1024}},
                           {"head.bottleneck", std::int64_t{256}},
                           {"loss.dino", 1.0},
                           {"loss.ibot", 1.0},
                           {"loss.mask_fraction", 0.25},
                           {"loss.gram", 0.0},
                           {"loss.koleo", 0.1},
                           {"loss.student_temperature", 0.1},
                           {"loss.teacher_temperature_start", 0.04},
                           {"loss.teacher_temperature_end", 0.04},
                           {"loss.assignment", "sinkhorn"},
                           {"loss.sinkhorn_iterations", std::int64_t{3}},
                           {"loss.momentum_start", 0.995},
                           {"loss.momentum_end", 0.997},
                           {"optimizer.lr", 3e-3},
                           {"optimizer.beta1", 0.9},
                           {"optimizer.beta2", 0.999},
                           {"optimizer.eps", 1e-6},
                           {"optimizer.weight_decay", 0.05},
                           {"optimizer.layer_decay", 0.9},
                           {"optimizer.clip", 3.0},
                           {"training.epochs", std::int64_t{100}},
                           {"training.batch_size", std::int64_t{3000}},
                           {"training.warmup", 0.2},  // 20 of 100 epochs
                           {"training.warmup_start", 1e-6},
                           {"training.warmup_shape", "cosine"},
                           {"training.final_lr", 0.05},
                           {"training.precision", "bf16"},
                       });
  CHECK(recipe.encoder().inputs == 7);
  CHECK(recipe.get<rino::ProjectionHeadOptions>("head").inputs == 256);
  CHECK(rino::parameter_count(*rino::JetEncoder(recipe.encoder())) == 8427264 + 2560000);
  CHECK(rino::parameter_count(*rino::ProjectionHead(recipe.get<rino::ProjectionHeadOptions>("head"))) == 2099456);
  // (mean, deviation): px, py, pz, E, log pT, log E, both relative to the jet's, dR, deta, dphi; then the jet's log E,
  // log pT, eta, phi.
  using Pairs = std::vector<std::pair<double, double>>;
  const auto pairs = [](const auto& standardizations) {
    Pairs found;
    for (const rino::Standardize& one : standardizations) {
      found.emplace_back(one.mean, one.deviation);
    }
    return found;
  };
  CHECK(pairs(rino::token_normalization(recipe.jets().normalization)) == Pairs{{0, 25},
                                                                               {0, 25},
                                                                               {0, 25},
                                                                               {0, 25},
                                                                               {1.7, 1.8},
                                                                               {2.0, 1.8},
                                                                               {-4.7, 1.8},
                                                                               {-4.7, 1.8},
                                                                               {0.14, 0.25},
                                                                               {0, 0.14},
                                                                               {0, 0.14}});
  CHECK(pairs(rino::jet_normalization(recipe.jets().normalization)) ==
        Pairs{{6.7, 0.5}, {6.4, 0.25}, {0, 1.3}, {0, std::numbers::pi}});
}

TEST_CASE("a variant of the production recipe differs from it in what it says alone", "[recipe]") {
  const std::map<std::string, std::map<std::string, FieldValue>> variants{
      {"rino-mixed", {{"views.teacher", Names{"2", "4", "8", "16"}}, {"views.student", Names{"3", "6", "all"}}}},
      {"rino-swapped", {{"views.teacher", Names{"2", "3", "4"}}, {"views.student", Names{"6", "8", "16", "all"}}}},
      {"rino-no-positions", {{"encoder.positions", "none"}}},
      {"rino-dino", {{"loss.ibot", 0.0}}},
      {"rino-ibot",
       {{"loss.dino", 0.0}, {"loss.koleo", 0.0}, {"encoder.class_token", "none"}, {"encoder.pooling", "all"}}},
      {"rino-cambridge", {{"jets.algorithm", "cambridge"}}},
      {"rino-antikt", {{"jets.algorithm", "antikt"}}},
      {"rino-slow-teacher", {{"loss.teacher_temperature_end", 0.07}, {"loss.momentum_end", 0.999}}},
  };
  for (const rino::Preset& preset : rino::Registry::method("self-distillation").presets) {
    INFO(preset.name);
    CHECK(variants.contains(preset.name) == preset.name.starts_with("rino-"));
  }
  const Recipe original = Recipe::preset("rino");
  for (const auto& [name, values] : variants) {
    INFO(name);
    CHECK((differences(Recipe::preset(name), original) == values));
  }
  // 20 of 100 epochs
  CHECK(Recipe::preset("rino-slow-teacher").get<rino::SelfDistillationOptions>("loss").teacher_temperature_rise == 0.2);
}

TEST_CASE("every preset by its name makes a method, another name is an error", "[recipe]") {
  std::set<std::string> names;
  for (const rino::MethodEntry& method : rino::Registry::methods()) {
    CHECK_FALSE((method.summary.empty() || method.source.empty()));
    for (const rino::Preset& preset : method.presets) {
      INFO(preset.name);
      CHECK(names.insert(preset.name).second);
      CHECK_FALSE(preset.summary.empty());
      CHECK_FALSE(preset.source.empty());
      // One of the large ones is enough: the method holds student, teacher and their gradients.
      if (preset.name.starts_with("rino-") && preset.name != "rino-ibot") {
        continue;
      }
      const Recipe recipe = Recipe::preset(preset.name);
      CHECK(recipe.method() == method.name);
      const auto products = recipe.make_method()->products();
      CHECK(products.front().first == "encoder");
      CHECK(dynamic_cast<const rino::JetEncoderImpl&>(*products.front().second).options == recipe.encoder());
    }
  }
  std::int64_t trained = 0;
  for (const auto& [name, tensor] : rino::parameters_of(Recipe::preset("nano").make_method()->trained())) {
    trained += tensor.numel();
  }
  CHECK(trained == 51424 + 6272);
  CHECK(says(error_of([] { Recipe::preset("nanoo"); }), "'nanoo'", "nano, lite, mini, base, part, part-nano, rino",
             "demo, study"));
}

TEST_CASE("a method's initial values follow from the recipe's seed", "[recipe]") {
  Recipe recipe = Recipe::preset("nano");
  const auto first = [&] {
    return rino::parameters_of(recipe.make_method()->trained()).front().second.detach().clone();
  };
  const at::Tensor weight = first();
  CHECK(first().equal(weight));
  recipe.set("training", "seed", std::int64_t{2});
  CHECK_FALSE(first().equal(weight));
}

TEST_CASE("the entries of a recipe have unique names, a meaning, and set themselves", "[recipe]") {
  const Recipe nano = Recipe::preset("nano");
  std::set<std::string> keys;
  Recipe changed = nano;
  Recipe copy = nano;
  for (const rino::SectionEntry& entry : nano.entries()) {
    const std::string key = entry.section + "." + entry.name;
    INFO(key);
    CHECK(keys.insert(key).second);
    CHECK_FALSE(entry.meaning.empty());
    CHECK((entry.unit.empty() || entry.unit == "GeV" || entry.unit == "jets" || entry.unit == "GB"));
    copy.set(entry.section, entry.name, entry.value);
    CHECK(copy == nano);
    if (key == "encoder.kind") {
      continue;  // another one has other numbers: test_encoders
    }
    const FieldValue value = another(entry);
    changed.set(entry.section, entry.name, value);
    CHECK((value_of(changed, key) == value));
    CHECK_FALSE(changed == nano);
  }
  CHECK(keys.size() == nano.entries().size());
  // All at once, on a recipe that began with other values.
  for (const rino::SectionEntry& entry : nano.entries()) {
    changed.set(entry.section, entry.name, entry.value);
  }
  CHECK(changed == nano);
}

TEST_CASE("sizes that follow from others follow", "[recipe]") {
  Recipe recipe = Recipe::preset("nano");
  recipe.set("jets", "features", "relative");
  CHECK(recipe.encoder().inputs == 5);
  recipe.set("jets", "features", "logarithmic");
  CHECK(recipe.encoder().inputs == 7);
  recipe.set("encoder", "width", std::int64_t{48});
  CHECK(recipe.get<rino::ProjectionHeadOptions>("head").inputs == 48);
  CHECK(recipe.get<rino::ProjectionHeadOptions>("head").hidden() == 192);
  recipe.set("head", "hidden_width", std::int64_t{20});
  CHECK(recipe.get<rino::ProjectionHeadOptions>("head").hidden() == 20);
}

TEST_CASE("whole numbers do where numbers are asked for, nothing else is taken for another type", "[recipe]") {
  Recipe recipe = Recipe::preset("nano");
  recipe.set("jets", "radius", std::int64_t{1});
  CHECK(recipe.jets().radius == 1.0);
  recipe.set("views", "student", Names{});
  CHECK(recipe.get<rino::ViewSetOptions>("views").student.empty());
  const Recipe before = recipe;
  const auto error = [&](const char* section, const char* name, const FieldValue& value) {
    return error_of([&] { recipe.set(section, name, value); });
  };
  CHECK(says(error("training", "epochs", 5.0), "training.epochs", "whole number"));
  CHECK(says(error("training", "epochs", "5"), "training.epochs", "whole number"));
  CHECK(says(error("training", "epochs", true), "training.epochs", "whole number"));
  CHECK(says(error("optimizer", "lr", "fast"), "optimizer.lr", "a number"));
  CHECK(says(error("optimizer", "lr", true), "optimizer.lr", "a number"));
  CHECK(says(error("finetune", "normalized_head", std::int64_t{1}), "finetune.normalized_head", "true or false"));
  CHECK(says(error("jets", "algorithm", std::int64_t{1}), "jets.algorithm", "not text"));
  CHECK(says(error("jets", "algorithm", "ak"), "jets.algorithm is 'ak'", "'kt', 'cambridge', 'antikt'"));
  CHECK(says(error("views", "teacher", std::int64_t{4}), "views.teacher", "not a list"));
  CHECK(says(error("views", "teacher", Names{"2", "x"}), "'x'", "'all'"));
  CHECK(says(error("views", "teacher", Names{"0"}), "0"));
  CHECK(says(error("jets", "radios", 1.0), "no 'jets.radios'"));
  CHECK(says(error("jet", "radius", 1.0), "no 'jet.radius'"));
  CHECK(recipe == before);
}

TEST_CASE("fields carry texts, numbers, flags and lists by type", "[recipe][fields]") {
  using rino::FieldCodec;
  CHECK((FieldCodec<std::string>::encode("x") == FieldValue("x")));
  CHECK(FieldCodec<std::string>::decode("x", "what") == "x");
  CHECK(FieldCodec<Names>::decode(Names{"a", "b"}, "what") == Names{"a", "b"});
  CHECK(FieldCodec<bool>::decode(true, "what"));
  CHECK(says(error_of([] { FieldCodec<std::string>::decode(1.5, "what"); }), "what has the wrong type", "text"));
  CHECK(says(error_of([] { FieldCodec<Names>::decode("a", "what"); }), "a list"));
  CHECK((FieldCodec<rino::ClassToken>::encode(rino::ClassToken::learned) == FieldValue("learned")));
  std::size_t visited = 0;
  rino::for_each_field<rino::AdamWOptions>([&](const auto& field) {
    ++visited;
    CHECK_FALSE(std::string_view(field.name).empty());
  });
  CHECK(visited == 8);
}

TEST_CASE("sections are found by name and type, and a copy shares nothing", "[recipe][sections]") {
  rino::Sections sections;
  sections.add<rino::AdamWOptions>("optimizer").add<rino::ViewSetOptions>("views");
  rino::Sections copy = sections;
  CHECK(copy == sections);
  copy.get<rino::AdamWOptions>("optimizer").lr = 1.0;
  CHECK_FALSE(copy == sections);
  CHECK(sections.get<rino::AdamWOptions>("optimizer").lr == rino::AdamWOptions{}.lr);
  CHECK((copy.contains("views") && !copy.contains("head")));
  CHECK(says(error_of([&] { copy.get<rino::AdamWOptions>("views"); }), "no section 'views' of that type",
             "optimizer, views"));
  CHECK(says(error_of([&] { copy.add<rino::AdamWOptions>("views"); }), "two sections 'views'"));
  CHECK(says(error_of([&] { copy.set("optimizer", "rate", 1.0); }), "no 'optimizer.rate'"));
  rino::Sections other;
  other.add<rino::ViewSetOptions>("optimizer").add<rino::ViewSetOptions>("views");
  CHECK_FALSE(other == sections);
}

TEST_CASE("the registry refuses names that are taken and methods that lack a part", "[recipe][registry]") {
  using rino::Registry;
  CHECK(says(error_of([] { Registry::method("distillation"); }), "'distillation'", "self-distillation"));
  rino::MethodEntry entry = Registry::method("self-distillation");
  CHECK(says(error_of([&] { Registry::add(entry); }), "method 'self-distillation' already"));
  entry.name = "mine";
  CHECK(says(error_of([&] { Registry::add(entry); }), "preset 'nano' already", "self-distillation"));
  entry.presets.clear();
  entry.resolve = nullptr;
  CHECK(says(error_of([&] { Registry::add(entry); }), "'mine' lacks"));
}

TEST_CASE("what is drawn of a method are numbers that its steps report", "[recipe][registry]") {
  for (const rino::MethodEntry& method : rino::Registry::methods()) {
    Recipe recipe(method.name);
    recipe.training().batch_size = 8;
    for (const char* part : {"koleo", "ibot", "gram"}) {  // which are off
      if (method.name == "self-distillation") {
        recipe.set("loss", part, 0.1);
      }
    }
    rino::Trainer trainer(recipe.make_method(), rino::toy_shower<double>({.jets = 8}, 1), recipe.optimizer(),
                          recipe.training());
    std::set<std::string> reported;
    for (const auto& [name, value] : trainer.step().metrics) {
      reported.insert(name);
    }
    std::set<std::string> drawn;
    std::vector<rino::Chart> charts = method.charts;
    charts.push_back({"loss", method.parts});
    for (const rino::Chart& chart : charts) {
      CHECK_FALSE(chart.title.empty());
      for (const auto& [name, words] : chart.lines) {
        CHECK_FALSE(words.empty());
        drawn.insert(name);
      }
    }
    CHECK(drawn == reported);
  }
}

TEST_CASE("a recipe of TOML is the same as Python's", "[recipe][toml]") {
#ifndef RINO_TEST_TOML
  WARN("toml++ is not here: recipes of TOML are not tested");
#else
  CHECK(rino::parse_recipe("") == Recipe());
  const Recipe lite = rino::parse_recipe(
      "preset = \"lite\"\n[training]\nepochs = 7  # a few\n[views]\n"
      "teacher = [2, \"kt:5\"]\n[jets]\nradius = 1\n");
  Recipe wanted = Recipe::preset("lite");
  wanted.set("training", "epochs", std::int64_t{7});
  wanted.set("views", "teacher", Names{"2", "kt:5"});
  wanted.set("jets", "radius", 1.0);
  CHECK(lite == wanted);
  CHECK(rino::parse_recipe("method = \"contrastive\"\n[loss]\ntemperature = 0.3").method() == "contrastive");

  // A section that has all numbers but the young ones is of a file from before them.
  std::string old = "[jets]\n";
  for (const rino::SectionEntry& entry : Recipe().entries()) {
    if (entry.section == "jets" && entry.name != "relative_to") {
      old += entry.name + " = ";
      std::visit(
          [&]<typename Type>(const Type& value) {
            if constexpr (std::is_same_v<Type, std::string>) {
              old += '"' + value + '"';
            } else if constexpr (std::is_same_v<Type, Names>) {
              old += '[';
              for (const std::string& item : value) {
                old += '"' + item + "\", ";
              }
              old += ']';
            } else {
              old += std::to_string(value);
            }
          },
          entry.value);
      old += "\n";
    }
  }
  CHECK(rino::parse_recipe(old).jets().relative_to == rino::RelativeTo::kept);
  CHECK(rino::parse_recipe("[jets]\nradius = 0.4").jets().relative_to == rino::RelativeTo::jet);

  const auto error = [](const char* text) { return error_of([&] { rino::parse_recipe(text, "r.toml"); }); };
  CHECK(says(error("epochs = "), "r.toml is no TOML", "line 1"));
  CHECK(says(error("epochs = 5"), "'epochs' stands above all sections"));
  CHECK(says(error("format = 3"), "format is 3", "up to 2"));
  CHECK(says(error("method = \"x\""), "no method 'x'"));
  CHECK(says(error("method = \"contrastive\"\npreset = \"nano\""), "'contrastive'", "'nano'", "'self-distillation'"));
  CHECK(says(error("[training]\nepochs = 5.5"), "training.epochs", "whole number"));
  CHECK(says(error("[training]\nepochs = 1979-05-27"), "training.epochs is a date"));
  CHECK(says(error("[trainin]\nepochs = 5"), "no section 'trainin'"));
  CHECK(says(error("[views]\nteacher = [[1]]"), "views.teacher is a list with something else"));
  CHECK(says(error("format = \"x\""), "format is not a whole number"));
  CHECK(says(error("method = 3"), "method is not text"));
  CHECK(says(error_of([] { rino::read_recipe("/nowhere/r.toml"); }), "/nowhere/r.toml cannot be read"));
  CHECK(says(error_of([] { rino::read_recipe("/tmp"); }), "/tmp cannot be read"));
#endif
}
