#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/io/safetensors.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/precision.hpp>
#include <rino/nn/view_tokenizer.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/loader.hpp>
#include <rino/train/method.hpp>
#include <rino/train/schedule.hpp>

namespace rino {

/// Length and pace of a training run; the defaults are the paper's. Shares of the run instead of epochs, so that a
/// shortened run keeps its shape.
struct TrainingOptions {
  std::int64_t epochs = 100;
  std::int64_t batch_size = 1000;
  double warmup = 0.1;
  double warmup_start = 0.0;
  double final_lr = 1e-2;
  std::int64_t seed = 1;
  std::int64_t loader_threads = 1;
  Precision precision = Precision::float32;

  bool operator==(const TrainingOptions&) const = default;

  static constexpr auto fields() {
    using Self = TrainingOptions;
    return std::tuple{
        Field{"epochs", &Self::epochs, "", "passes through the jets"},
        Field{"batch_size", &Self::batch_size, "jets", "jets of a step"},
        Field{"warmup", &Self::warmup, "", "share of the run in which the learning rate rises in a straight line"},
        Field{"warmup_start", &Self::warmup_start, "", "where it starts, as a share of its peak"},
        Field{"final_lr", &Self::final_lr, "", "where its cosine ends, as a share of its peak"},
        Field{"seed", &Self::seed, "", "of initial values, order of jets, drawn views and dropout"},
        Field{"loader_threads", &Self::loader_threads, "", "threads that prepare views ahead; never change a result"},
        Field{"precision", &Self::precision, "", "of the encoders' products: 'float32' or 'bf16'; all else is float32"},
    };
  }
};

/// What a step has to say.
struct StepReport {
  std::int64_t step = 0;  ///< number of the step, from 0
  double epoch = 0;       ///< epochs done when it began
  double loss = 0;
  double lr = 0;
  double gradient_norm = 0;                             ///< before clipping
  double waited = 0;                                    ///< seconds spent waiting for the loader, part of `seconds`
  double seconds = 0;                                   ///< seconds in all
  std::vector<std::pair<std::string, double>> metrics;  ///< of the method
};

/// Trains any `Method` on jets: batches prepared ahead on threads, AdamW with clipping on flat buffers, schedules,
/// checkpoints. On a CPU a run that was stopped and resumed equals one that never stopped, bit by bit.
///
/// Jets in memory are in a new order every epoch (`ShuffledJets`); a `JetSource` of your own streams them from
/// anywhere.
template <Method M, std::floating_point Scalar = double>
class Trainer {
 public:
  using Source = JetSource<Scalar>;

  /// @param source  of the jets; nobody else may use it until the trainer is finished.
  /// @param device  where the networks train; `type` is float or double.
  /// @throws rino::Error for options outside their ranges or fewer than two jets.
  Trainer(M method, std::shared_ptr<Source> source, const ViewTokenizerOptions& tokenizer,
          const AdamWOptions& optimizer, const TrainingOptions& options, at::Device device = at::kCPU,
          at::ScalarType type = at::kFloat)
      : method_(std::move(method)),
        source_(std::move(source)),
        tokenizer_(tokenizer),
        options_(options),
        peak_lr_(optimizer.lr),
        placement_(at::TensorOptions(device).dtype(type)) {
    const std::int64_t jets = source_->size();
    require(jets >= 2, "there are ", jets, " jets to train on: give two or more");
    require(options.epochs >= 1 && options.batch_size >= 2, "epochs and batch_size are ", options.epochs, " and ",
            options.batch_size, ": choose 1 or more and 2 or more");
    require(0 <= options.warmup && options.warmup <= 1 && options.warmup_start >= 0 && options.final_lr >= 0,
            "warmup, warmup_start and final_lr are ", options.warmup, ", ", options.warmup_start, " and ",
            options.final_lr, ": warmup is a share of the run in [0, 1], the others are 0 or more");
    require(options.precision == Precision::float32 || type == at::kFloat, "precision is bf16 but the networks are ",
            type, ": choose precision float32, or networks of float32");
    batch_ = std::min(options.batch_size, jets);
    position_ = source_->position();
    clock_.steps_per_epoch = jets / batch_;
    clock_.epochs = options.epochs;
    clock_.seed = static_cast<std::uint64_t>(options.seed);
    method_.to(placement_);
    student_.emplace(method_.trained(), /*trainable=*/true);
    method_.start();
    optimizer_.emplace(*student_, optimizer);
  }

  /// Trains on jets in memory.
  Trainer(M method, Jets<Scalar> jets, const ViewTokenizerOptions& tokenizer, const AdamWOptions& optimizer,
          const TrainingOptions& options, at::Device device = at::kCPU, at::ScalarType type = at::kFloat)
      : Trainer(std::move(method),
                std::make_shared<ShuffledJets<Scalar>>(std::move(jets), static_cast<std::uint64_t>(options.seed)),
                tokenizer, optimizer, options, device, type) {}

  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  ~Trainer() { finish(); }

  /// Steps done so far, of steps().
  std::int64_t step_number() const { return clock_.step; }
  std::int64_t steps() const { return clock_.steps(); }
  std::int64_t steps_per_epoch() const { return clock_.steps_per_epoch; }
  bool done() const { return clock_.step >= clock_.steps(); }
  std::int64_t batch_size() const { return batch_; }
  M& method() { return method_; }
  const TrainingClock& clock() const { return clock_; }

  /// Mean loss of the best whole epoch so far and its number, from 0; infinity and -1 before the first.
  double best_loss() const { return best_loss_; }
  std::int64_t best_epoch() const { return best_epoch_; }

  /// Learning rate of a step.
  double learning_rate(std::int64_t step) const {
    const auto total = static_cast<double>(clock_.steps());
    return peak_lr_ * warmup_cosine_schedule(options_.warmup_start, 1.0, options_.final_lr, static_cast<double>(step),
                                             options_.warmup * total, total);
  }

  /// One step. On a GPU it waits once: after the backward pass loss, norm of the gradient and metrics come back in one
  /// transfer, before anything is changed; what follows runs while the next step begins on the CPU.
  /// @throws rino::Error once all steps are done, or if the loss or the gradient is not finite (nothing was changed by
  ///         that step).
  StepReport step() {
    require(!done(), "all ", steps(), " steps are done: a new run with more epochs goes further");
    require(student_.has_value(), "this trainer was finished: make a new one and resume from its checkpoint");
    const auto start = std::chrono::steady_clock::now();
    if (!loader_ || loader_->position() != clock_.step) {  // a step that failed has used up its jets
      student_->gradients().zero_();                       // and may have left gradients
      loader_.reset();                                     // which may still be using the source
      source_->seek(position_);
      loader_ = std::make_unique<Loader<Batch>>([this](std::int64_t number) { return begin(number); }, clock_.step,
                                                steps(), options_.loader_threads);
    }
    Batch batch = loader_->next();
    StepReport report;
    report.waited = seconds_since(start);
    const Tokens tokens = batch.tokens.to(placement_);
    report.step = clock_.step;
    report.epoch = clock_.epoch();
    report.lr = learning_rate(clock_.step);

    // Whatever mode the caller is in.
    const at::AutoGradMode with_gradient(true);
    const Autocast outside(Precision::float32, placement_.device().type());
    const MethodLoss result = loss_of(tokens);
    result.loss.backward();
    const at::Tensor norm = optimizer_->gradient_norm();
    read(result, norm, report);
    if (!std::isfinite(report.loss)) {
      fail("the loss of step ", clock_.step, " is ", report.loss,
           ": lower the learning rate or raise the temperatures, and resume from the last checkpoint");
    }
    optimizer_->require_finite(report.gradient_norm);
    optimizer_->update(report.lr, norm);
    method_.after_step(*student_, clock_);
    advance(report.loss);
    position_ = std::move(batch.position);
    report.seconds = seconds_since(start);
    return report;
  }

  /// Everything needed to go on: weights, the method's own state, the optimiser's, the source's position, best score.
  /// Random numbers are functions of seed and position and need no state.
  Safetensors state() {
    Safetensors file;
    for (const auto& [name, tensor] : named_state()) {
      file.tensors.emplace_back(name, tensor.detach().to(at::kCPU).clone());
    }
    file.tensors.emplace_back("trainer.progress", at::tensor({static_cast<double>(clock_.step), epoch_loss_, best_loss_,
                                                              static_cast<double>(best_epoch_)},
                                                             at::kDouble));
    file.tensors.emplace_back("trainer.data", fingerprint());
    file.tensors.emplace_back("trainer.position", at::tensor(position_, at::kLong));
    return file;
  }

  /// Writes `state()` under `path`, whole or not at all.
  void save(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata = {}) {
    Safetensors file = state();
    file.metadata = metadata;
    write_safetensors(path, file);
  }

  /// Goes on from a checkpoint of the same recipe and jets.
  /// @throws rino::Error naming the first tensor that is missing or of another shape, or the jets that differ;
  ///         nothing was changed then.
  void restore(const Safetensors& file) {
    const auto mine = named_state();
    for (const auto& [name, tensor] : mine) {
      require(file.contains(name), "the checkpoint has no '", name,
              "': it is of another architecture; use the recipe it was made with");
      require(file.at(name).sizes() == tensor.sizes(), "'", name, "' has shape ", file.at(name).sizes(),
              " in the checkpoint and ", tensor.sizes(),
              " here: it is of another architecture; use the recipe it was made with");
      require(file.at(name).scalar_type() == tensor.scalar_type(), "'", name, "' is ", file.at(name).scalar_type(),
              " in the checkpoint and ", tensor.scalar_type(), " here: resume with the type it was made with");
    }
    require(file.contains("trainer.progress") && file.contains("trainer.data") && file.contains("trainer.position"),
            "the file holds no training state: give a checkpoint, not an encoder");
    require(file.at("trainer.progress").numel() == 4, "'trainer.progress' has ", file.at("trainer.progress").numel(),
            " numbers of 4: the checkpoint is damaged or of another version");
    require(file.at("trainer.data").equal(fingerprint()), "the checkpoint was made with other jets, batch size or ",
            "seed: resuming goes on with the same ones; start a new run instead");
    loader_.reset();
    const at::Tensor place = file.at("trainer.position").to(at::kLong).contiguous();
    std::vector<std::int64_t> position(place.const_data_ptr<std::int64_t>(),
                                       place.const_data_ptr<std::int64_t>() + place.numel());
    source_->seek(position);
    position_ = std::move(position);
    const at::NoGradGuard no_grad;
    for (const auto& [name, tensor] : mine) {
      tensor.copy_(file.at(name));
    }
    const at::Tensor progress = file.at("trainer.progress");
    clock_.step = static_cast<std::int64_t>(progress[0].item<double>());
    epoch_loss_ = progress[1].item<double>();
    best_loss_ = progress[2].item<double>();
    best_epoch_ = static_cast<std::int64_t>(progress[3].item<double>());
  }

  /// Gives the method's modules ordinary tensors back; no step can follow.
  void finish() {
    loader_.reset();
    if (student_) {
      student_->release();
      student_.reset();
      optimizer_.reset();
      method_.release();
    }
  }

 private:
  /// What a step trains on.
  struct Batch {
    Tokens tokens;
    std::vector<std::int64_t> position;  ///< of the source behind these jets
  };

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  /// The method's loss, its networks in the precision that was asked for.
  MethodLoss loss_of(const Tokens& tokens) {
    const Autocast autocast(options_.precision, placement_.device().type());
    return method_.loss(tokens, clock_);
  }

  /// Everything that a step has computed, in one transfer from where it was computed.
  static void read(const MethodLoss& result, const at::Tensor& norm, StepReport& report) {
    std::vector<at::Tensor> computed{result.loss.detach(), norm};
    for (const auto& [name, value] : result.metrics) {
      if (value.device() == norm.device()) {
        computed.push_back(value);
      }
    }
    for (at::Tensor& value : computed) {
      value = value.to(at::kDouble);
    }
    const at::Tensor together = at::stack(computed).cpu();
    const double* next = together.const_data_ptr<double>();
    report.loss = *next++;
    report.gradient_norm = *next++;
    for (const auto& [name, value] : result.metrics) {
      report.metrics.emplace_back(name, value.device() == norm.device() ? *next++ : value.template item<double>());
    }
  }

  /// Takes the jets of one step; what it returns makes their tokens.
  std::function<Batch()> begin(std::int64_t number) {
    return [this, number, taken = source_->next(batch_)] {
      const std::vector<Resolution> resolutions = method_.resolutions(clock_at(number));
      const Tokens tokens = placement_.dtype() == at::kDouble
                                ? tokenizer_.template operator()<double>(taken.jets, resolutions)
                                : tokenizer_.template operator()<float>(taken.jets, resolutions);
      return Batch{placement_.device().is_cuda() ? tokens.pin_memory() : tokens, taken.position};
    };
  }

  // Reads only what never changes during training: loader threads call it.
  TrainingClock clock_at(std::int64_t number) const {
    return {number, clock_.steps_per_epoch, clock_.epochs, clock_.seed};
  }

  void advance(double loss) {
    epoch_loss_ += loss;
    ++clock_.step;
    if (clock_.step % clock_.steps_per_epoch == 0) {
      const double mean = epoch_loss_ / static_cast<double>(clock_.steps_per_epoch);
      if (mean < best_loss_) {
        best_loss_ = mean;
        best_epoch_ = clock_.step / clock_.steps_per_epoch - 1;
      }
      epoch_loss_ = 0;
    }
  }

  std::vector<std::pair<std::string, at::Tensor>> named_state() {
    require(student_.has_value(), "this trainer was finished, its state is gone: save before finish()");
    std::vector<std::pair<std::string, at::Tensor>> tensors = method_.state();
    for (const TensorSlot& slot : student_->slots()) {
      tensors.emplace_back("student." + slot.name, slot.tensor());
    }
    tensors.emplace_back("adamw.mean", optimizer_->mean());
    tensors.emplace_back("adamw.square", optimizer_->square());
    tensors.emplace_back("adamw.steps", optimizer_->steps());
    return tensors;
  }

  /// Tells other jets, another order of the same jets and another batch size apart.
  at::Tensor fingerprint() const {
    std::vector<std::int64_t> numbers = source_->fingerprint();
    numbers.push_back(batch_);
    return at::tensor(numbers, at::kLong);
  }

  M method_;
  std::shared_ptr<Source> source_;
  std::vector<std::int64_t> position_;  // of the source behind the last step done
  ViewTokenizer tokenizer_;
  TrainingOptions options_;
  double peak_lr_;
  at::TensorOptions placement_;
  std::int64_t batch_ = 0;
  TrainingClock clock_;
  double epoch_loss_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity();
  std::int64_t best_epoch_ = -1;
  std::optional<FlatParameters> student_;
  std::optional<AdamW> optimizer_;
  std::unique_ptr<Loader<Batch>> loader_;  // last: its threads use the members above
};

}  // namespace rino
