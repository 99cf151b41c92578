#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include <rino/core/fields.hpp>
#include <rino/nn/precision.hpp>
#include <rino/train/schedule.hpp>

namespace rino {

/// Length and pace of a training run; the defaults are the paper's. Shares of the run instead of epochs, so that a
/// shortened run keeps its shape.
struct TrainingOptions {
  std::int64_t epochs = 100;
  std::int64_t batch_size = 1000;
  double warmup = 0.1;
  double warmup_start = 0.0;
  Rise warmup_shape = Rise::linear;
  double final_lr = 1e-2;
  double average = 0.0;
  std::int64_t accumulate = 1;
  std::int64_t seed = 1;
  std::int64_t loader_threads = 1;
  Precision precision = Precision::float32;
  std::string weight = {};

  bool operator==(const TrainingOptions&) const = default;

  static constexpr auto fields() {
    using Self = TrainingOptions;
    return std::tuple{
        Field{"epochs", &Self::epochs, "", "passes through the jets"},
        Field{"batch_size", &Self::batch_size, "jets", "jets of a step, on all processes together"},
        Field{"warmup", &Self::warmup, "", "share of the run in which the learning rate rises"},
        Field{"warmup_start", &Self::warmup_start, "", "where the learning rate starts, as a share of its peak"},
        Field{"warmup_shape", &Self::warmup_shape, "", "how the learning rate rises: 'linear' or 'cosine'"},
        Field{"final_lr", &Self::final_lr, "", "where the learning rate's cosine ends, as a share of its peak"},
        Field{"average", &Self::average, "",
              "momentum of a moving average of the trained weights, for evaluation; 0: none", kOwnChoice},
        Field{"accumulate", &Self::accumulate, "",
              "parts of a step's batch that are computed one after the other, for want of memory", kOwnChoice},
        Field{"seed", &Self::seed, "", "of initial values, order of jets, drawn views, masks and dropout", kOwnChoice},
        Field{"loader_threads", &Self::loader_threads, "", "threads that prepare views ahead; never change a result",
              kOwnChoice},
        Field{"precision", &Self::precision, "",
              "'float32'; 'bf16': the encoders' products, all else float32; 'float64': everything"},
        Field{"weight", &Self::weight, "", "column with one weight per jet, for methods that use it; '': none",
              kOwnChoice},
    };
  }
};

}  // namespace rino
