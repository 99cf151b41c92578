#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
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
#include <rino/tokens/view_tokenizer.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/trainer.hpp>

namespace rino {

/// One number of a recipe, ready to be shown.
struct RecipeEntry {
  std::string section;
  std::string name;
  std::string unit;
  std::string meaning;
  std::string source;  ///< where its default comes from; "": the publication of the recipe
  FieldValue value;
};

/// A recipe by its name.
struct RecipePreset {
  std::string_view name;
  std::string_view summary;
  std::string_view source;  ///< publication
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

  static constexpr std::string_view kWorkshop = "arXiv:2509.07486";
  static constexpr std::string_view kProduction = kProductionSource;

  static constexpr std::array<RecipePreset, 15> kPresets{{
      {"nano", "the paper's smallest", kWorkshop},
      {"lite", "the paper's second", kWorkshop},
      {"mini", "the paper's third", kWorkshop},
      {"base", "the paper's largest", kWorkshop},
      {"rino", "the production recipe: DINO and iBOT, teacher at 6, 8 and 16 subjets", kProduction},
      {"rino-mixed", "rino with views of both roles between each other: teacher 2, 4, 8, 16, student 3, 6, all",
       kProduction},
      {"rino-swapped", "rino with the roles swapped: teacher 2, 3, 4, student 6, 8, 16, all", kProduction},
      {"rino-no-positions", "rino without the table of positions", kProduction},
      {"rino-dino", "rino with views of jets alone, no masked constituents", kProduction},
      {"rino-ibot",
       "rino with masked constituents alone, no views, no class token; the embedding is the mean of registers and "
       "constituents",
       kProduction},
      {"rino-cambridge", "rino with views by Cambridge/Aachen", kProduction},
      {"rino-antikt", "rino with views by anti-kT", kProduction},
      {"rino-slow-teacher", "rino with a teacher of 0.04 -> 0.07 in temperature and of momentum up to 0.999",
       kProduction},
      {"demo", "nano with the views, class token and boost that carry over to another domain, for minutes on two cores",
       kOwnChoice},
      {"study", "the same for hours", kOwnChoice},
  }};

  /// A recipe by its name. nano, lite, mini, base: arXiv:2509.07486 with its numbers. rino and its variants: its
  /// successor's. demo, study: ours.
  /// @throws rino::Error for another name.
  static Recipe preset(const std::string& name) {
    std::string names;
    for (const RecipePreset& known : kPresets) {
      names.append(names.empty() ? "" : ", ").append(known.name);
    }
    require(std::any_of(kPresets.begin(), kPresets.end(), [&](const auto& known) { return known.name == name; }),
            "there is no recipe preset '", name, "': choose one of ", names);
    Recipe recipe;
    if (name == "demo" || name == "study") {
      recipe.take_demo(name == "demo" ? 24 : 50);
    } else if (name.starts_with("rino")) {
      recipe.take_production();
      recipe.vary(name);
    } else {
      recipe.take_workshop(name);
    }
    recipe.resolve();
    return recipe;
  }

  /// All numbers in order.
  std::vector<RecipeEntry> entries() const {
    std::vector<RecipeEntry> all;
    for_each(*this, [&]<typename Config>(const char* section, const Config& config) {
      for_each_field<Config>([&]<typename Type>(const Field<Config, Type>& field) {
        all.push_back({section, field.name, field.unit, field.meaning, field.source,
                       FieldCodec<Type>::encode(config.*field.member)});
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
  std::shared_ptr<SelfDistillation> make_method() const {
    return std::make_shared<SelfDistillation>(jets, encoder, head, views, loss,
                                              static_cast<std::uint64_t>(training.seed));
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

  void take_demo(std::int64_t pretraining_epochs) {
    jets.boost_to_pt = 750.0;
    views.teacher = {subjets(4), subjets(8), subjets(16)};
    views.student = {subjets(2), subjets(3), particles()};
    views.student_drawn = 2;
    encoder.class_token = ClassToken::learned;
    encoder.dropout = 0.0;
    head.hidden_layers = 2;
    head.hidden_width = 128;
    head.bottleneck = 32;
    head.prototypes = 256;
    loss.koleo = 0.1;
    optimizer.lr = 2e-3;
    training.batch_size = 256;
    training.epochs = pretraining_epochs;
    finetune.batch_size = 256;
    finetune.probe_epochs = 4;
    finetune.epochs = 8;
    finetune.encoder_lr = 1e-3;
    finetune.positive_weight = 1.0;
    supervised.lr = 1e-3;
    supervised.epochs = 12;
    supervised.patience = 4;
  }

  void take_workshop(const std::string& size_name) {
    encoder = JetEncoderOptions::preset(size_name);
    struct Size {
      std::string_view name;
      std::int64_t prototypes, hidden1, hidden2;
      double encoder_lr;
    };
    static constexpr std::array<Size, 4> sizes{
        {{"nano", 16, 8, 4, 1e-5}, {"lite", 32, 16, 8, 1e-5}, {"mini", 64, 32, 16, 1e-6}, {"base", 128, 64, 32, 1e-6}}};
    for (const Size& size : sizes) {
      if (size.name == size_name) {
        head.prototypes = size.prototypes;
        finetune.hidden1 = size.hidden1;
        finetune.hidden2 = size.hidden2;
        finetune.encoder_lr = size.encoder_lr;
      }
    }
  }

  void take_production() {
    jets.max_constituents = 90;
    jets.features = FeatureSet::logarithmic;
    jets.normalization = Normalization::production;
    views.teacher = {subjets(6), subjets(8), subjets(16)};
    views.student = {subjets(2), subjets(3), subjets(4), particles()};
    views.student_drawn = 3;
    encoder.width = 256;
    encoder.heads = 16;
    encoder.layers = 8;
    encoder.feedforward = 1024;
    encoder.dropout = 0.0;
    encoder.class_token = ClassToken::learned;
    encoder.registers = 4;
    encoder.norm = NormKind::rms;
    encoder.embedding_norm = true;
    encoder.feedforward_kind = FeedForwardKind::swiglu;
    encoder.layer_scale = 0.01;
    encoder.positions = Positions::polar;
    head.prototypes = 2048;
    head.hidden_layers = 2;
    head.hidden_width = 1024;
    head.bottleneck = 256;
    loss.ibot = 1.0;
    loss.koleo = 0.1;
    loss.teacher_temperature_end = 0.04;
    loss.momentum_start = 0.995;
    loss.momentum_end = 0.997;
    optimizer.lr = 3e-3;
    optimizer.weight_decay = 0.05;
    optimizer.layer_decay = 0.9;
    training.batch_size = 3000;
    training.warmup = 0.2;
    training.warmup_start = 1e-6;
    training.warmup_shape = Rise::cosine;
    training.final_lr = 0.05;
    training.precision = Precision::bf16;
    // The paper's of its largest encoder, which is as wide.
    finetune.hidden1 = 64;
    finetune.hidden2 = 32;
    finetune.encoder_lr = 1e-6;
  }

  /// What the production recipe's authors varied.
  void vary(const std::string& name) {
    if (name == "rino-mixed") {
      views.teacher = {subjets(2), subjets(4), subjets(8), subjets(16)};
      views.student = {subjets(3), subjets(6), particles()};
    } else if (name == "rino-swapped") {
      views.teacher = {subjets(2), subjets(3), subjets(4)};
      views.student = {subjets(6), subjets(8), subjets(16), particles()};
    } else if (name == "rino-no-positions") {
      encoder.positions = Positions::none;
    } else if (name == "rino-dino") {
      loss.ibot = 0.0;
    } else if (name == "rino-ibot") {
      loss.dino = 0.0;
      loss.koleo = 0.0;  // it acts on the embeddings of views, of which there are none here
      encoder.class_token = ClassToken::none;
      encoder.pooling = Pooling::all;
    } else if (name == "rino-cambridge") {
      jets.algorithm = Clustering::cambridge;
    } else if (name == "rino-antikt") {
      jets.algorithm = Clustering::antikt;
    } else if (name == "rino-slow-teacher") {
      loss.teacher_temperature_end = 0.07;
      loss.momentum_end = 0.999;
    }
  }

  /// Sizes that follow from others.
  void resolve() {
    encoder.inputs = static_cast<std::int64_t>(feature_indices(jets.features).size());
    head.inputs = encoder.outputs();
  }
};

}  // namespace rino
