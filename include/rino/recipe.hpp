#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/jets/jets.hpp>
#include <rino/methods/finetuning.hpp>
#include <rino/methods/self_distillation.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/nn/view_tokenizer.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/trainer.hpp>

namespace rino {

/// One number of a recipe, ready to be shown.
struct RecipeEntry {
  std::string section;
  std::string name;
  std::string unit;
  std::string meaning;
  FieldValue value;
};

/// Every number of a training run, by section and name: a TOML file is one of these written down.
struct Recipe {
  ViewTokenizerOptions jets;
  ViewSetOptions views;
  JetEncoderOptions encoder;
  ProjectionHeadOptions head;
  SelfDistillationOptions loss;
  AdamWOptions optimizer;
  TrainingOptions training;
  FinetuningOptions finetune;
  SupervisedOptions supervised;

  bool operator==(const Recipe&) const = default;

  static constexpr std::array<std::string_view, 6> kPresets = {"nano", "lite", "mini", "base", "demo", "study"};

  /// nano, lite, mini, base: arXiv:2509.07486 with its numbers. demo, study: nano with the views, class token and
  /// boost that carry over to another domain, sized for minutes and for hours on two cores.
  /// @throws rino::Error for another name.
  static Recipe preset(const std::string& name) {
    require(std::find(kPresets.begin(), kPresets.end(), name) != kPresets.end(), "there is no recipe preset '", name,
            "': choose nano, lite, mini, base, demo or study");
    Recipe recipe;
    if (name == "demo" || name == "study") {
      recipe.jets.boost_to_pt = 750.0;
      recipe.views.teacher = {subjets(4), subjets(8), subjets(16)};
      recipe.views.student = {subjets(2), subjets(3), particles()};
      recipe.views.student_drawn = 2;
      recipe.encoder.class_token = ClassToken::learned;
      recipe.encoder.dropout = 0.0;
      recipe.head.hidden_layers = 2;
      recipe.head.hidden_width = 128;
      recipe.head.bottleneck = 32;
      recipe.head.prototypes = 256;
      recipe.loss.koleo = 0.1;
      recipe.optimizer.lr = 2e-3;
      recipe.training.batch_size = 256;
      recipe.training.epochs = name == "demo" ? 24 : 50;
      recipe.finetune.batch_size = 256;
      recipe.finetune.probe_epochs = 4;
      recipe.finetune.epochs = 8;
      recipe.finetune.encoder_lr = 1e-3;
      recipe.finetune.positive_weight = 1.0;
      recipe.supervised.lr = 1e-3;
      recipe.supervised.epochs = 12;
      recipe.supervised.patience = 4;
    } else {
      recipe.encoder = JetEncoderOptions::preset(name);
      struct Size {
        std::string_view name;
        std::int64_t prototypes, hidden1, hidden2;
        double encoder_lr;
      };
      static constexpr std::array<Size, 4> sizes{{{"nano", 16, 8, 4, 1e-5},
                                                  {"lite", 32, 16, 8, 1e-5},
                                                  {"mini", 64, 32, 16, 1e-6},
                                                  {"base", 128, 64, 32, 1e-6}}};
      for (const Size& size : sizes) {
        if (size.name == name) {
          recipe.head.prototypes = size.prototypes;
          recipe.finetune.hidden1 = size.hidden1;
          recipe.finetune.hidden2 = size.hidden2;
          recipe.finetune.encoder_lr = size.encoder_lr;
        }
      }
    }
    recipe.resolve();
    return recipe;
  }

  /// All numbers in order.
  std::vector<RecipeEntry> entries() const {
    std::vector<RecipeEntry> all;
    for_each(*this, [&]<typename Config>(const char* section, const Config& config) {
      for_each_field<Config>([&]<typename Type>(const Field<Config, Type>& field) {
        all.push_back({section, field.name, field.unit, field.meaning, FieldCodec<Type>::encode(config.*field.member)});
      });
    });
    return all;
  }

  /// Sets one number.
  /// @throws rino::Error if there is none of that section and name, or for a value of the wrong type.
  void set(const std::string& section, const std::string& name, const FieldValue& value) {
    bool found = false;
    for_each(*this, [&]<typename Config>(const char* candidate, Config& config) {
      if (section != candidate) {
        return;
      }
      for_each_field<Config>([&]<typename Type>(const Field<Config, Type>& field) {
        if (name == field.name) {
          config.*field.member = FieldCodec<Type>::decode(value, section + "." + name);
          found = true;
        }
      });
    });
    require(found, "the recipe has no '", section, ".", name, "'");
    resolve();
  }

  /// What pretraining trains, with new initial values.
  SelfDistillation make_method() const {
    return SelfDistillation(encoder, head, views, loss, static_cast<std::uint64_t>(training.seed));
  }

 private:
  template <typename Self, typename Visit>
  static void for_each(Self& self, const Visit& visit) {
    visit("jets", self.jets);
    visit("views", self.views);
    visit("encoder", self.encoder);
    visit("head", self.head);
    visit("loss", self.loss);
    visit("optimizer", self.optimizer);
    visit("training", self.training);
    visit("finetune", self.finetune);
    visit("supervised", self.supervised);
  }

  /// Sizes that follow from others.
  void resolve() {
    encoder.inputs = static_cast<std::int64_t>(feature_indices(jets.features).size());
    head.inputs = encoder.width;
  }
};

}  // namespace rino
