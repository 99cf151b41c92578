#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/sections.hpp>
#include <rino/methods/finetuning_options.hpp>
#include <rino/methods/registry.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/encoders.hpp>
#include <rino/nn/jet_encoder_options.hpp>
#include <rino/tokens/token_features.hpp>
#include <rino/tokens/view_tokenizer.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/trainer.hpp>

namespace rino {

/// Every number of a training run, by section and name: a TOML file is one of these written down. "jets", "encoder",
/// "optimizer" and "training" are common to all methods; the method adds its own; "finetune" and "supervised" say what
/// becomes of the encoder afterwards.
class Recipe {
 public:
  /// The version of what files say of a recipe: 2 names the method; of 1 it is self-distillation.
  static constexpr std::int64_t kFormat = 2;

  /// A method's defaults. @throws rino::Error for a name that there is not.
  explicit Recipe(std::string_view method = "self-distillation") : method_(Registry::method(method).name) {
    sections_.add<ViewTokenizerOptions>("jets").add<JetEncoderOptions>("encoder");
    entry().add_sections(sections_);
    sections_.add<AdamWOptions>("optimizer").add<TrainingOptions>("training");
    sections_.add<FinetuningOptions>("finetune").add<SupervisedOptions>("supervised");
    resolve();
  }

  /// A recipe by its name, of the registry's.
  /// @throws rino::Error for a name that there is not.
  static Recipe preset(std::string_view name) {
    const auto& [method, preset] = Registry::preset(name);
    Recipe recipe = preset.base.empty() ? Recipe(method.name) : Recipe::preset(preset.base);
    for (const auto& [key, value] : preset.numbers) {
      const std::size_t dot = key.find('.');
      recipe.set(key.substr(0, dot), key.substr(dot + 1), value);
    }
    return recipe;
  }

  const std::string& method() const { return method_; }
  /// All sections; after a change of one of them by hand `resolve` is called.
  Sections& sections() { return sections_; }
  const Sections& sections() const { return sections_; }

  /// A section as the struct that it is. @throws rino::Error if the method has none of that name and type.
  template <typename Config>
  Config& get(std::string_view section) {
    return sections_.get<Config>(section);
  }
  template <typename Config>
  const Config& get(std::string_view section) const {
    return sections_.get<Config>(section);
  }

  ViewTokenizerOptions& jets() { return get<ViewTokenizerOptions>("jets"); }
  const ViewTokenizerOptions& jets() const { return get<ViewTokenizerOptions>("jets"); }
  /// The section "encoder" of a transformer. @throws rino::Error if it is of another kind.
  JetEncoderOptions& encoder() { return get<JetEncoderOptions>("encoder"); }
  const JetEncoderOptions& encoder() const { return get<JetEncoderOptions>("encoder"); }
  AdamWOptions& optimizer() { return get<AdamWOptions>("optimizer"); }
  const AdamWOptions& optimizer() const { return get<AdamWOptions>("optimizer"); }
  TrainingOptions& training() { return get<TrainingOptions>("training"); }
  const TrainingOptions& training() const { return get<TrainingOptions>("training"); }

  /// All numbers in order.
  std::vector<SectionEntry> entries() const { return sections_.entries(); }

  /// Sets one number.
  /// @throws rino::Error if there is none of that section and name, or for a value of the wrong type.
  /// Another `encoder.kind` gives the section "encoder" its numbers, with their defaults.
  void set(std::string_view section, std::string_view name, const FieldValue& value) {
    if (section == "encoder" && name == "kind") {
      const auto* const kind = std::get_if<std::string>(&value);
      require(kind != nullptr, "encoder.kind is not text: give one of its names");
      if (FieldValue(*kind) != sections_.value(section, name)) {
        EncoderKinds::of(*kind).put(sections_);
      }
    }
    sections_.set(section, name, value);
    resolve();
  }

  /// Numbers that are younger than a file's section, with what the file meant: a section that has all numbers but these
  /// was written before them; one that names only what differs leaves them to its preset.
  /// @param has  whether the file's section has a number of a name.
  std::vector<std::pair<std::string, FieldValue>> meant_before(
      std::string_view section, const std::function<bool(const std::string&)>& has) const {
    struct Young {
      std::string_view section;
      const char* number;
      FieldValue meant;
    };
    static const std::vector<Young> young{
        {"jets", "relative_to", "kept"},
        {"jets", "jet_features", FieldCodec<FeatureList>::encode(ViewTokenizerOptions{}.jet_features)},
        {"encoder", "kind", JetEncoderOptions{}.kind},
        {"encoder", "bins", "floor"},
        {"encoder", "embedding", "linear"},
        {"encoder", "block", "pre-norm"},
        {"encoder", "class_layers", std::int64_t{0}},
        {"encoder", "pairs", "none"},
        {"encoder", "pair_width", JetEncoderOptions{}.pair_width},
        {"encoder", "memory", JetEncoderOptions{}.memory},
        {"training", "weight", ""},
        {"finetune", "eps", 1e-8},
        {"finetune", "warmup_shape", "linear"},
        {"finetune", "probe_dropout", false},
        {"finetune", "memory", FinetuningOptions{}.memory},
        {"finetune", "layer_decay", 1.0},
        {"finetune", "l2_sp", 0.0},
        {"finetune", "average", 0.0},
        {"finetune", "set_aside", 0.0},
        {"finetune", "stop_after", std::int64_t{0}},
        {"finetune", "weight", ""},
        {"finetune", "task", "binary"},
        {"finetune", "classes", std::vector<std::string>()},
        {"finetune", "balance", "none"},
        {"finetune", "targets", std::vector<std::string>()},
        {"finetune", "huber", 0.0},
        {"supervised", "head", "mlp"}};
    std::vector<std::pair<std::string, FieldValue>> absent;
    for (const SectionEntry& entry : entries()) {
      if (entry.section == section && !has(entry.name)) {
        const auto known = std::find_if(young.begin(), young.end(), [&](const Young& one) {
          return one.section == section && entry.name == one.number;
        });
        if (known == young.end()) {
          return {};
        }
        absent.emplace_back(entry.name, known->meant);
      }
    }
    return absent;
  }

  /// Sizes that follow from others.
  void resolve() {
    EncoderKinds::of(sections_).resolve(sections_);
    entry().resolve(sections_);
  }

  /// Its encoder, without initial values.
  std::shared_ptr<Encoder> make_encoder() const { return rino::make_encoder(sections_); }

  /// What is trained, with new initial values.
  std::shared_ptr<Method> make_method() const { return entry().make(sections_); }

  bool operator==(const Recipe& other) const = default;

 private:
  const MethodEntry& entry() const { return Registry::method(method_); }

  std::string method_;
  Sections sections_;
};

}  // namespace rino
