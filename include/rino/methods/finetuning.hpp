#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>

#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/train/schedule.hpp>

namespace rino {

/// What a tagger puts on the encoder.
enum class TaggerHead { linear, mlp };

template <>
inline constexpr std::array enum_names<TaggerHead> = {
    std::pair{TaggerHead::linear, std::string_view("linear")},
    std::pair{TaggerHead::mlp, std::string_view("mlp")},
};

/// LP-FT, as the paper does it: the head on the frozen encoder first (linear probing), then both (fine-tuning) with
/// a smaller learning rate for the encoder. Kumar et al., arXiv:2202.10054; numbers of arXiv:2509.07486 (nano).
/// The loop itself is in Python (pyrino/training/finetune.py); this struct is where its defaults live.
struct FinetuningOptions {
  TaggerHead head = TaggerHead::linear;
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

  bool operator==(const FinetuningOptions&) const = default;

  static constexpr auto fields() {
    using Self = FinetuningOptions;
    return std::tuple{
        Field{"head", &Self::head, "", "'linear' or 'mlp'"},
        Field{"hidden1", &Self::hidden1, "", "first hidden width of the MLP head"},
        Field{"hidden2", &Self::hidden2, "", "second hidden width of the MLP head"},
        Field{"head_dropout", &Self::head_dropout, "", "dropout of the MLP head"},
        Field{"normalized_head", &Self::normalized_head, "",
              "last layer as in the authors' heads: normalised on both sides, logit in [-1, 1]", kOwnChoice},
        Field{"probe_epochs", &Self::probe_epochs, "", "of the head on the frozen encoder"},
        Field{"epochs", &Self::epochs, "", "of head and encoder after that"},
        Field{"probe_lr", &Self::probe_lr, "", "learning rate of the head on the frozen encoder"},
        Field{"head_lr", &Self::head_lr, "", "peak learning rate of the head after that"},
        Field{"encoder_lr", &Self::encoder_lr, "", "peak learning rate of the encoder"},
        Field{"eps", &Self::eps, "", "AdamW's: added to the root of the mean of the gradients' squares"},
        Field{"weight_decay", &Self::weight_decay, "", "decoupled decay of all parameters"},
        Field{"clip", &Self::clip, "", "largest norm of the gradient; 0: off"},
        Field{"warmup", &Self::warmup, "", "share of the epochs in which learning rates rise"},
        Field{"warmup_shape", &Self::warmup_shape, "", "how they do: 'linear' or 'cosine'"},
        Field{"warmup_start", &Self::warmup_start, "", "where they start, as a share of the peak"},
        Field{"final_lr", &Self::final_lr, "", "where their cosine ends, as a share of the peak"},
        Field{"positive_weight", &Self::positive_weight, "", "weight of label 1 in the binary cross-entropy"},
        Field{"batch_size", &Self::batch_size, "jets", "jets of a step"},
    };
  }
};

/// The baseline: the same encoder with the MLP head, trained on labels from scratch. Numbers of arXiv:2509.07486.
struct SupervisedOptions {
  double lr = 1e-4;
  std::int64_t epochs = 100;
  std::int64_t patience = 10;
  double validation = 0.1;

  bool operator==(const SupervisedOptions&) const = default;

  static constexpr auto fields() {
    using Self = SupervisedOptions;
    return std::tuple{
        Field{"lr", &Self::lr, "", "peak learning rate of encoder and head"},
        Field{"epochs", &Self::epochs, "", "at most", kOwnChoice},
        Field{"patience", &Self::patience, "", "epochs without a better validation loss after which it stops",
              kOwnChoice},
        Field{"validation", &Self::validation, "", "share of the labelled jets that is set aside for that", kOwnChoice},
    };
  }
};

}  // namespace rino
