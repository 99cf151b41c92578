#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/recipe.hpp>

#include "catch.hpp"

namespace {

using rino::FieldValue;
using rino::Recipe;
using Names = std::vector<std::string>;

/// The value of one number of a recipe.
FieldValue value_of(const Recipe& recipe, const std::string& key) {
  for (const rino::RecipeEntry& entry : recipe.entries()) {
    if (entry.section + "." + entry.name == key) {
      return entry.value;
    }
  }
  return "(no such number)";
}

/// A value unlike the given one that its field takes.
FieldValue another(const rino::RecipeEntry& entry) {
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
  static const std::vector<std::pair<std::string, std::string>> choices{
      {"jets.algorithm", "antikt"},       {"jets.features", "logarithmic"}, {"jets.normalization", "production"},
      {"encoder.class_token", "learned"}, {"loss.assignment", "centering"}, {"finetune.head", "mlp"},
      {"training.precision", "bf16"}};
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
  check_names<rino::TaggerHead>();
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
    const std::vector<std::pair<std::string, FieldValue>> expected{
        {"jets.algorithm", "kt"},
        {"jets.radius", 0.8},
        {"jets.max_constituents", std::int64_t{0}},
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
        {"finetune.weight_decay", 0.01},
        {"finetune.clip", 1.0},
        {"finetune.warmup", 0.1},
        {"finetune.warmup_start", 1e-4},
        {"finetune.final_lr", 1e-3},
        {"finetune.positive_weight", 2.0},
        {"finetune.batch_size", std::int64_t{1000}},
        {"supervised.lr", 1e-4},
    };
    for (const auto& [key, value] : expected) {
      INFO(key);
      CHECK((value_of(recipe, key) == value));
    }
    CHECK(recipe.encoder.inputs == 11);
    CHECK(recipe.head.inputs == size.width);
    CHECK(recipe.head.hidden() == 4 * size.width);
  }
  CHECK(Recipe::preset("nano") == Recipe{});
}

TEST_CASE("every preset by its name makes a method; another name is an error", "[recipe]") {
  for (const std::string_view name : Recipe::kPresets) {
    INFO(name);
    const Recipe recipe = Recipe::preset(std::string(name));
    const rino::SelfDistillation method = recipe.make_method();
    CHECK(method.student()->encoder->options == recipe.encoder);
    CHECK(method.student()->head->options == recipe.head);
  }
  CHECK(rino::parameter_count(*Recipe::preset("nano").make_method().student()) == 51424 + 6272);
  CHECK(says(error_of([] { Recipe::preset("nanoo"); }), "'nanoo'", "nano, lite, mini, base, demo or study"));
}

TEST_CASE("a method's initial values follow from the recipe's seed", "[recipe]") {
  Recipe recipe = Recipe::preset("nano");
  const auto first = [&] { return recipe.make_method().student()->encoder->embedding->weight.detach().clone(); };
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
  for (const rino::RecipeEntry& entry : nano.entries()) {
    const std::string key = entry.section + "." + entry.name;
    INFO(key);
    CHECK(keys.insert(key).second);
    CHECK_FALSE(entry.meaning.empty());
    CHECK((entry.unit.empty() || entry.unit == "GeV" || entry.unit == "jets"));
    copy.set(entry.section, entry.name, entry.value);
    CHECK(copy == nano);
    const FieldValue value = another(entry);
    changed.set(entry.section, entry.name, value);
    CHECK((value_of(changed, key) == value));
    CHECK_FALSE(changed == nano);
  }
  CHECK(keys.size() == nano.entries().size());
  // All at once, on a recipe that began with other values.
  for (const rino::RecipeEntry& entry : nano.entries()) {
    changed.set(entry.section, entry.name, entry.value);
  }
  CHECK(changed == nano);
}

TEST_CASE("sizes that follow from others follow", "[recipe]") {
  Recipe recipe = Recipe::preset("nano");
  recipe.set("jets", "features", "relative");
  CHECK(recipe.encoder.inputs == 5);
  recipe.set("jets", "features", "logarithmic");
  CHECK(recipe.encoder.inputs == 7);
  recipe.set("encoder", "width", std::int64_t{48});
  CHECK(recipe.head.inputs == 48);
  CHECK(recipe.head.hidden() == 192);
  recipe.set("head", "hidden_width", std::int64_t{20});
  CHECK(recipe.head.hidden() == 20);
}

TEST_CASE("whole numbers do where numbers are asked for, nothing else is taken for another type", "[recipe]") {
  Recipe recipe = Recipe::preset("nano");
  recipe.set("jets", "radius", std::int64_t{1});
  CHECK(recipe.jets.radius == 1.0);
  recipe.set("views", "student", Names{});
  CHECK(recipe.views.student.empty());
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
  CHECK(visited == 6);
}
