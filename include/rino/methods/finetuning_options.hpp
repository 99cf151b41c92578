#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/nn/tagger_head.hpp>
#include <rino/nn/task.hpp>
#include <rino/train/schedule.hpp>

namespace rino {

/// What is done about classes of unequal size.
enum class Balance { none, weights, sampling };

template <>
inline constexpr std::array enum_names<Balance> = {
    std::pair{Balance::none, std::string_view("none")},
    std::pair{Balance::weights, std::string_view("weights")},
    std::pair{Balance::sampling, std::string_view("sampling")},
};

/// LP-FT, as the paper does it: the head on the frozen encoder first (linear probing), then both (fine-tuning) with
/// a smaller learning rate for the encoder. Kumar et al., arXiv:2202.10054; numbers of arXiv:2509.07486 (nano).
struct FinetuningOptions {
  HeadKind head = HeadKind::linear;
  std::int64_t hidden1 = 8;
  std::int64_t hidden2 = 4;
  double head_dropout = 0.1;
  bool normalized_head = false;
  std::int64_t probe_epochs = 40;
  std::int64_t epochs = 100;
  double probe_lr = 1e-3;
  double head_lr = 1e-3;
  double encoder_lr = 1e-5;
  double eps = 1e-6;
  double weight_decay = 0.01;
  double clip = 1.0;
  double warmup = 0.1;
  Rise warmup_shape = Rise::cosine;
  double warmup_start = 1e-4;
  double final_lr = 1e-3;
  double positive_weight = 2.0;
  std::int64_t batch_size = 1000;
  bool probe_dropout = false;
  double memory = 4.0;
  double layer_decay = 1.0;
  double l2_sp = 0.0;
  double average = 0.0;
  double set_aside = 0.0;
  std::int64_t stop_after = 0;
  std::string weight = {};
  Task task = Task::binary;
  std::vector<std::string> classes = {};
  Balance balance = Balance::none;
  std::vector<std::string> targets = {};
  double huber = 0.0;

  bool operator==(const FinetuningOptions&) const = default;

  /// What a tagger's outputs are.
  /// @throws rino::Error for classes that do not begin with a label.
  TaskPlan plan() const {
    TaskPlan found{.task = task, .targets = task == Task::regression ? targets : std::vector<std::string>()};
    for (const std::string& text : task == Task::multiclass ? classes : std::vector<std::string>()) {
      std::int64_t label = 0;
      const char* const end = text.data() + std::min(text.find('='), text.size());
      const auto [last, error] = std::from_chars(text.data(), end, label);
      require(error == std::errc() && last == end && label >= 0, "'", text,
              "' of finetune.classes does not begin with ", "a label: write 'label=name', as in '0=gluon', or 'label'");
      found.classes.push_back(label);
    }
    return found;
  }

  /// @throws rino::Error naming the first number outside its range.
  void check() const {
    const auto need = [](bool right, const char* name, auto value, const char* remedy) {
      require(right, "'finetune.", name, "' is ", value, ": choose ", remedy);
    };
    need(hidden1 >= 1, "hidden1", hidden1, "1 or more");
    need(hidden2 >= 1, "hidden2", hidden2, "1 or more");
    need(0 <= head_dropout && head_dropout < 1, "head_dropout", head_dropout, "a probability in [0, 1)");
    need(probe_epochs >= 0, "probe_epochs", probe_epochs, "0 or more");
    need(epochs >= 0, "epochs", epochs, "0 or more");
    need(probe_lr > 0, "probe_lr", probe_lr, "a number above 0");
    need(head_lr > 0, "head_lr", head_lr, "a number above 0");
    need(encoder_lr >= 0, "encoder_lr", encoder_lr, "0 or more");
    need(eps > 0, "eps", eps, "a number above 0");
    need(weight_decay >= 0, "weight_decay", weight_decay, "0 or more");
    need(clip >= 0, "clip", clip, "0 for off or more");
    need(0 <= warmup && warmup <= 1, "warmup", warmup, "a share of the epochs in [0, 1]");
    need(warmup_start >= 0, "warmup_start", warmup_start, "0 or more");
    need(final_lr >= 0, "final_lr", final_lr, "0 or more");
    need(positive_weight > 0, "positive_weight", positive_weight, "a number above 0");
    need(batch_size >= 2, "batch_size", batch_size, "2 or more");
    need(memory >= 0, "memory", memory, "0 or more");
    need(0 < layer_decay && layer_decay <= 1, "layer_decay", layer_decay, "1 for off or a factor above 0");
    need(l2_sp >= 0, "l2_sp", l2_sp, "0 for off or more");
    need(0 <= average && average < 1, "average", average, "0 for none or a momentum below 1");
    need(0 <= set_aside && set_aside < 1, "set_aside", set_aside, "0 for none or a share below 1");
    need(stop_after >= 0, "stop_after", stop_after, "0 for never or more");
    need(huber >= 0, "huber", huber, "0 for squared errors or more");
  }

  static constexpr auto fields() {
    using Self = FinetuningOptions;
    return std::tuple{
        Field{"head", &Self::head, "", "of the tagger: 'linear' or 'mlp'"},
        Field{"hidden1", &Self::hidden1, "", "first hidden width of the MLP head"},
        Field{"hidden2", &Self::hidden2, "", "second hidden width of the MLP head"},
        Field{"head_dropout", &Self::head_dropout, "", "dropout of the MLP head"},
        Field{"normalized_head", &Self::normalized_head, "",
              "last layer as in the authors' heads: normalised on both sides, logit in [-1, 1]", kOwnChoice},
        Field{"probe_epochs", &Self::probe_epochs, "", "epochs of the head on the frozen encoder"},
        Field{"epochs", &Self::epochs, "", "epochs of head and encoder together, after those of the head alone"},
        Field{"probe_lr", &Self::probe_lr, "", "learning rate of the head on the frozen encoder"},
        Field{"head_lr", &Self::head_lr, "", "peak learning rate of the head while the encoder is trained, too"},
        Field{"encoder_lr", &Self::encoder_lr, "", "peak learning rate of the encoder"},
        Field{"eps", &Self::eps, "", "AdamW's: added to the root of the mean of the gradients' squares"},
        Field{"weight_decay", &Self::weight_decay, "", "decoupled decay of all parameters"},
        Field{"clip", &Self::clip, "", "largest norm of the gradient; 0: off"},
        Field{"warmup", &Self::warmup, "", "share of the epochs in which learning rates rise"},
        Field{"warmup_shape", &Self::warmup_shape, "", "how learning rates rise: 'linear' or 'cosine'"},
        Field{"warmup_start", &Self::warmup_start, "", "where learning rates start, as a share of their peaks"},
        Field{"final_lr", &Self::final_lr, "", "where the learning rates' cosine ends, as a share of their peaks"},
        Field{"positive_weight", &Self::positive_weight, "", "weight of label 1 in the binary cross-entropy"},
        Field{"batch_size", &Self::batch_size, "jets", "jets of a step"},
        Field{"probe_dropout", &Self::probe_dropout, "",
              "whether the frozen encoder drops out, so that its embeddings are computed in every step", kOwnChoice},
        Field{"memory", &Self::memory, "GB",
              "that the frozen encoder's embeddings of all jets may take; more are in a temporary file", kOwnChoice},
        Field{"layer_decay", &Self::layer_decay, "",
              "factor of the learning rate from each layer of the encoder to the one before; 1: off",
              "arXiv:2106.08254"},
        Field{"l2_sp", &Self::l2_sp, "",
              "half of it times the squared distance of the encoder from where it started is added to the loss; 0: off",
              "arXiv:1802.01483"},
        Field{"average", &Self::average, "",
              "momentum of a moving average of the weights after probing, which the tagger gets; 0: off", kOwnChoice},
        Field{
            "set_aside", &Self::set_aside, "",
            "share of the labelled jets by whose loss the best epoch after probing is chosen; 0: none, it is the last",
            kOwnChoice},
        Field{"stop_after", &Self::stop_after, "",
              "epochs without a lower loss of the jets set aside, after which fine-tuning stops; 0: never", kOwnChoice},
        Field{"weight", &Self::weight, "", "column with one weight per jet; '': none", kOwnChoice},
        Field{"task", &Self::task, "", "what is learned: 'binary', 'multiclass' or 'regression'", kOwnChoice},
        Field{
            "classes", &Self::classes, "",
            "classes of 'multiclass' in the order of the outputs, 'label=name' or 'label'; none: the labels there are",
            kOwnChoice},
        Field{"balance", &Self::balance, "",
              "'weights' or 'sampling' make classes count alike, by their loss or by repeating jets; 'none'",
              kOwnChoice},
        Field{"targets", &Self::targets, "", "columns with one number per jet that 'regression' learns", kOwnChoice},
        Field{"huber", &Self::huber, "",
              "errors beyond so many deviations of the target count linearly; 0: squared errors", kOwnChoice},
    };
  }
};

/// The baseline: the same encoder with the MLP head, trained on labels from scratch. Numbers of arXiv:2509.07486.
struct SupervisedOptions {
  HeadKind head = HeadKind::mlp;
  double lr = 1e-4;
  std::int64_t epochs = 100;
  std::int64_t patience = 10;
  double validation = 0.1;

  bool operator==(const SupervisedOptions&) const = default;

  /// @throws rino::Error naming the first number outside its range.
  void check() const {
    const auto need = [](bool right, const char* name, auto value, const char* remedy) {
      require(right, "'supervised.", name, "' is ", value, ": choose ", remedy);
    };
    need(lr > 0, "lr", lr, "a number above 0");
    need(epochs >= 1, "epochs", epochs, "1 or more");
    need(patience >= 1, "patience", patience, "1 or more");
    need(0 < validation && validation < 1, "validation", validation, "a share in (0, 1)");
  }

  static constexpr auto fields() {
    using Self = SupervisedOptions;
    return std::tuple{
        Field{"head", &Self::head, "", "of the tagger that is trained from scratch: 'linear' or 'mlp'"},
        Field{"lr", &Self::lr, "", "peak learning rate of encoder and head"},
        Field{"epochs", &Self::epochs, "", "epochs of supervised training, at most", kOwnChoice},
        Field{"patience", &Self::patience, "",
              "epochs without a lower validation loss, after which supervised training stops", kOwnChoice},
        Field{"validation", &Self::validation, "",
              "share of the labelled jets that is set aside for the validation loss", kOwnChoice},
    };
  }
};

}  // namespace rino
