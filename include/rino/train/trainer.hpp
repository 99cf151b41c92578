#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
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
#include <rino/core/ranks.hpp>
#include <rino/core/threads.hpp>
#include <rino/io/safetensors.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/precision.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/jet_weights.hpp>
#include <rino/train/loader.hpp>
#include <rino/train/method.hpp>
#include <rino/train/schedule.hpp>
#include <rino/train/step_report.hpp>
#include <rino/train/training_options.hpp>
#include <rino/train/turn.hpp>

namespace rino {

/// Trains any `Method` on jets: batches prepared ahead on threads, AdamW with clipping on flat buffers, schedules,
/// checkpoints. On a CPU a run that was stopped and resumed equals one that never stopped, bit by bit.
///
/// Jets in memory are in a new order every epoch (`ShuffledJets`); a `JetSource` of your own streams them from
/// anywhere.
///
/// Several processes (`Ranks`) train one network together: each on its part of every step's batch, with the mean of
/// their gradients. All calls of step, state, save and restore are collective then. They do what one process does with
/// the whole batch, up to rounding, and dropout.
class Trainer {
 public:
  using Source = JetSource<double>;
  /// What is done to jets before the method prepares them, an `Augmentation` for example.
  using Augment = std::function<Jets<double>(const Jets<double>&, const Draws&)>;

  /// @param source  of the jets; nobody else may use it until the trainer is finished.
  /// @param device  where the networks train; `type` is float or double, double also where the precision is float64.
  /// @param ranks   the processes that train together; each has a source of its own.
  /// @param augment  none where it is empty. Loader threads call it, several at a time; its draws are functions of the
  ///                 seed, the step and a jet's place in the step's batch of all processes.
  /// @throws rino::Error for options outside their ranges, fewer than two jets, or processes with different jets.
  Trainer(std::shared_ptr<Method> method, std::shared_ptr<Source> source, const AdamWOptions& optimizer,
          const TrainingOptions& options, at::Device device = at::kCPU, at::ScalarType type = at::kFloat,
          Ranks ranks = {}, Augment augment = {})
      : method_(std::move(method)),
        source_(std::move(source)),
        options_(options),
        precision_(effective_precision(options.precision, device.type())),
        peak_lr_(optimizer.lr),
        placement_(at::TensorOptions(device).dtype(options.precision == Precision::float64 ? at::kDouble : type)),
        ranks_(std::move(ranks)),
        augment_(std::move(augment)) {
    const std::int64_t jets = least(source_->size()) * ranks_.size();
    require(jets >= 2, "there are ", jets, " jets to train on: give two or more");
    require(options.epochs >= 1 && options.batch_size >= 2, "epochs and batch_size are ", options.epochs, " and ",
            options.batch_size, ": choose 1 or more and 2 or more");
    require(0 <= options.warmup && options.warmup <= 1 && options.warmup_start >= 0 && options.final_lr >= 0,
            "warmup, warmup_start and final_lr are ", options.warmup, ", ", options.warmup_start, " and ",
            options.final_lr, ": warmup is a share of the run in [0, 1], the others are 0 or more");
    require(options.precision != Precision::bf16 || type == at::kFloat, "precision is bf16 but the networks are ", type,
            ": choose precision float32, or networks of float32");
    require(0 <= options.average && options.average < 1, "average is ", options.average,
            ": choose 0 for none or a momentum below 1");
    share_batch(jets);
    position_ = source_->position();
    clock_.steps_per_epoch = jets / batch_;
    clock_.epochs = options.epochs;
    clock_.seed = static_cast<std::uint64_t>(options.seed);
    require_same_data();
    require(options.accumulate == 1 || method_->accumulates(), "accumulate is ", options.accumulate,
            ", but this method compares the jets of a batch with each other: choose 1");
    require(options.weight.empty() || method_->wants_weights(), "training.weight is '", options.weight,
            "', but this method weighs no jets, so that it would change nothing: choose '', or another method");
    method_->connect(ranks_);
    method_->to(placement_);
    trained_.emplace(method_->parameters(), /*trainable=*/true);
    method_->start();
    optimizer_.emplace(*trained_, optimizer, method_->depths());
    if (options.average > 0) {
      average_ = trained_->values().clone();
    }
  }

  /// Trains on jets in memory, which all processes have.
  Trainer(std::shared_ptr<Method> method, Jets<double> jets, const AdamWOptions& optimizer,
          const TrainingOptions& options, at::Device device = at::kCPU, at::ScalarType type = at::kFloat,
          const Ranks& ranks = {}, Augment augment = {})
      : Trainer(std::move(method),
                std::make_shared<ShuffledJets<double>>(weighed(std::move(jets), options.weight),
                                                       static_cast<std::uint64_t>(options.seed), ranks.rank(),
                                                       ranks.size(), options.accumulate),
                optimizer, options, device, type, ranks, std::move(augment)) {}

  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  ~Trainer() { finish(); }

  /// Steps done so far, of steps().
  std::int64_t step_number() const { return clock_.number; }
  std::int64_t steps() const { return clock_.steps(); }
  std::int64_t steps_per_epoch() const { return clock_.steps_per_epoch; }
  bool done() const { return clock_.number >= clock_.steps(); }
  /// Jets of a step, on all processes together.
  std::int64_t batch_size() const { return batch_; }
  const Ranks& ranks() const { return ranks_; }
  /// What the encoders compute in: float32 also where bf16 was asked for on a CPU that is not faster with it.
  Precision precision() const { return precision_; }
  /// Steps so far whose loss or gradient was not finite.
  std::int64_t skipped() const { return skipped_; }
  /// The jets of the last step, on this process.
  const Jets<double>& batch() const { return jets_; }
  /// The moving average of the trained parameters, by name; nothing where `average` is 0.
  NamedTensors average() const {
    NamedTensors tensors;
    std::int64_t begin = 0;
    for (const auto& [name, tensor] : average_.defined() && trained_ ? trained_->parameters() : NamedTensors{}) {
      tensors.emplace_back(name, average_.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
      begin += tensor.numel();
    }
    return tensors;
  }
  Method& method() { return *method_; }
  const Step& clock() const { return clock_; }

  /// Mean loss of the best whole epoch so far and its number, from 0; infinity and -1 before the first.
  double best_loss() const { return best_loss_; }
  std::int64_t best_epoch() const { return best_epoch_; }

  /// Learning rate of a step.
  double learning_rate(std::int64_t step) const {
    const auto total = static_cast<double>(clock_.steps());
    return peak_lr_ * warmup_cosine_schedule(options_.warmup_start, 1.0, options_.final_lr, static_cast<double>(step),
                                             options_.warmup * total, total, options_.warmup_shape);
  }

  /// One step. On a GPU it waits once: after the backward pass loss, norm of the gradient and metrics come back in one
  /// transfer, before anything is changed; what follows runs while the next step begins on the CPU.
  ///
  /// A step whose loss or gradient is not finite changes nothing and is reported as skipped.
  /// @throws rino::Error once all steps are done, while another thread is in a step (or saves or restores), or if this
  ///         is the third step in a row that is not finite: `batch()` has its jets, and nothing was changed.
  StepReport step() {
    const Turn turn(busy_);
    require(!done(), "all ", steps(), " steps are done: a new run with more epochs goes further");
    require(trained_.has_value(), "this trainer was finished: make a new one and resume from its checkpoint");
    const auto start = std::chrono::steady_clock::now();
    if (!loader_ || loader_->position() != clock_.number) {  // a step that failed has used up its jets
      trained_->gradients().zero_();                         // and may have left gradients
      loader_.reset();                                       // which may still be using the source
      source_->seek(position_);
      loader_ = std::make_unique<Loader<Taken>>([this](std::int64_t number) { return begin(number); }, clock_.number,
                                                steps(), options_.loader_threads);
    }
    Taken taken = loader_->next();
    StepReport report;
    report.waited = seconds_since(start);
    report.step = clock_.number;
    report.epoch = clock_.epoch();
    report.lr = learning_rate(clock_.number);
    jets_ = std::move(taken.jets);

    // Whatever mode the caller is in.
    const at::AutoGradMode with_gradient(true);
    const OneThread one_thread(OneThread::pays(trained_->values().numel(), own_batch_));
    const Autocast outside(Precision::float32, placement_.device().type());
    const NamedTensors buffers = copies_of(method_->buffers());
    const StepLoss result = loss_and_gradient(taken.parts);
    trained_->check();
    const at::Tensor norm = optimizer_->gradient_norm();
    read(result, norm, report);
    report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.gradient_norm);
    if (report.skipped) {
      trained_->gradients().zero_();
      put_back(buffers);
      require(in_a_row_ + 1 < kPatience, "the loss was ", report.loss, " and the norm of the gradient ",
              report.gradient_norm, " in step ", clock_.number, ", the last of ", kPatience,
              " in a row that were not finite: look at its jets, and start again with a lower learning rate or higher ",
              "temperatures");
      ++skipped_;
      ++in_a_row_;
    } else {
      in_a_row_ = 0;
      optimizer_->update(report.lr, norm);
      if (average_.defined()) {
        const at::NoGradGuard no_grad;
        average_.lerp_(trained_->values(), 1.0 - options_.average);
      }
      method_->after_step(*trained_, clock_);
    }
    advance(report);
    position_ = std::move(taken.position);
    report.seconds = seconds_since(start);
    return report;
  }

  /// Everything needed to go on: weights, the method's own state, the optimiser's, the source's position, best score.
  /// Random numbers are functions of seed and position and need no state.
  Safetensors state() {
    const Turn turn(busy_);
    Safetensors file;
    for (const auto& [name, tensor] : named_state()) {
      file.tensors.emplace_back(name, tensor.detach().to(at::kCPU).clone());
    }
    file.tensors.emplace_back(
        "trainer.progress",
        at::tensor({static_cast<double>(clock_.number), epoch_loss_, static_cast<double>(epoch_steps_), best_loss_,
                    static_cast<double>(best_epoch_), static_cast<double>(skipped_), static_cast<double>(in_a_row_)},
                   at::kDouble));
    file.tensors.emplace_back("trainer.data", fingerprint());
    const at::Tensor mine = at::tensor(position_, at::kLong).unsqueeze(0).to(placement_.device());
    file.tensors.emplace_back("trainer.position", ranks_.gather(mine).cpu());
    return file;
  }

  /// Writes `state()` under `path`, whole or not at all; of several processes the first one does.
  void save(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata = {}) {
    Safetensors file = state();
    file.metadata = metadata;
    if (ranks_.rank() == 0) {
      write_safetensors(path, file);
    }
  }

  /// Goes on from a checkpoint of the same recipe and jets, of as many processes or another number.
  /// @throws rino::Error naming the first tensor that is missing or of another shape, or the jets that differ;
  ///         nothing was changed then.
  void restore(const Safetensors& file) {
    const Turn turn(busy_);
    const auto mine = named_state();
    std::vector<const at::Tensor*> theirs;
    for (const auto& [name, tensor] : mine) {
      // What checkpoints of before format 2 call it.
      const std::string once = name.starts_with("trained.") ? "student." + name.substr(8) : name;
      const std::string& known = file.contains(name) ? name : once;
      require(file.contains(known), "the checkpoint has no '", name,
              "': it is of another architecture; use the recipe it was made with");
      const at::Tensor& saved = file.at(known);
      require(saved.sizes() == tensor.sizes(), "'", name, "' has shape ", saved.sizes(), " in the checkpoint and ",
              tensor.sizes(), " here: it is of another architecture; use the recipe it was made with");
      require(saved.scalar_type() == tensor.scalar_type(), "'", name, "' is ", saved.scalar_type(),
              " in the checkpoint and ", tensor.scalar_type(), " here: resume with the type it was made with");
      theirs.push_back(&saved);
    }
    require(file.contains("trainer.progress") && file.contains("trainer.data") && file.contains("trainer.position"),
            "the file holds no training state: give a checkpoint, not an encoder");
    require(file.at("trainer.progress").numel() == 7 && file.at("trainer.position").dim() == 2,
            "'trainer.progress' and 'trainer.position' have shapes ", file.at("trainer.progress").sizes(), " and ",
            file.at("trainer.position").sizes(), ": the checkpoint is damaged or of another version of rino");
    require(file.at("trainer.data").equal(fingerprint()), "the checkpoint was made with other jets, batch size or ",
            "seed: resuming goes on with the same ones; start a new run instead");
    loader_.reset();
    seek(file.at("trainer.position").to(at::kLong).contiguous());
    position_ = source_->position();
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < mine.size(); ++i) {
      mine[i].second.copy_(*theirs[i]);
    }
    const at::Tensor progress = file.at("trainer.progress");
    clock_.number = static_cast<std::int64_t>(progress[0].item<double>());
    epoch_loss_ = progress[1].item<double>();
    epoch_steps_ = static_cast<std::int64_t>(progress[2].item<double>());
    best_loss_ = progress[3].item<double>();
    best_epoch_ = static_cast<std::int64_t>(progress[4].item<double>());
    skipped_ = static_cast<std::int64_t>(progress[5].item<double>());
    in_a_row_ = static_cast<std::int64_t>(progress[6].item<double>());
  }

  /// Gives the method's modules ordinary tensors back, once what another thread does here has ended; no step can
  /// follow.
  void finish() {
    const Turn turn(busy_, Turn::wait);
    loader_.reset();
    if (trained_) {
      trained_->release();
      trained_.reset();
      optimizer_.reset();
      method_->release();
    }
  }

 private:
  /// Steps in a row that may not be finite before the run is given up.
  static constexpr std::int64_t kPatience = 3;
  /// The count that is the sum of the jets' weights.
  static constexpr const char* kWeights = "weights";

  /// What a step trains on.
  struct Taken {
    std::vector<Batch> parts;
    Jets<double> jets;
    std::vector<std::int64_t> position;  ///< of the source behind these jets
  };

  /// The least of a number over all processes.
  std::int64_t least(std::int64_t number) const {
    const at::Tensor mine = at::full({1}, -number, placement_.dtype(at::kLong));
    return -ranks_.maximum(mine).item<std::int64_t>();
  }

  /// How many jets of a step this process takes, and in how many parts.
  void share_batch(std::int64_t jets) {
    const std::int64_t parts = options_.accumulate;
    require(parts >= 1, "accumulate is ", parts, ": choose 1 or more");
    const std::int64_t unit = parts * ranks_.size();
    require(options_.batch_size % unit == 0, "batch_size is ", options_.batch_size, ", which ", ranks_.size(),
            " processes with accumulate = ", parts, " cannot share evenly: choose a multiple of ", unit);
    batch_ = std::min(options_.batch_size, jets / unit * unit);
    require(batch_ > 0, "there are ", jets, " jets for ", ranks_.size(), " processes and ", parts,
            " parts of a batch: give more jets");
    own_batch_ = batch_ / ranks_.size();
  }

  /// @throws rino::Error on all processes if their jets, order or numbers differ.
  void require_same_data() const {
    if (ranks_.alone()) {
      return;
    }
    std::vector<std::int64_t> numbers = source_->fingerprint();
    numbers.insert(numbers.end(), {clock_.steps(), batch_, options_.seed});
    const at::Tensor all = ranks_.gather(at::tensor(numbers, at::kLong).unsqueeze(0).to(placement_.device())).cpu();
    for (std::int64_t r = 1; r < all.size(0); ++r) {
      require(all[r].equal(all[0]), "process ", r, " of ", all.size(0),
              " has other jets, another order of them or other numbers than process 0: give all the same files, ",
              "in the same order, and the same recipe");
    }
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  /// What a forward pass changes, as a batch norm's averages, and a step that is skipped must not have changed.
  static NamedTensors copies_of(NamedTensors tensors) {
    for (auto& [name, tensor] : tensors) {
      tensor = tensor.detach().clone();
    }
    return tensors;
  }

  void put_back(const NamedTensors& buffers) {
    const at::NoGradGuard no_grad;
    const NamedTensors mine = method_->buffers();
    for (std::size_t i = 0; i < mine.size() && i < buffers.size(); ++i) {
      mine[i].second.copy_(buffers[i].second);
    }
  }

  /// The method's loss, its networks in the precision that was asked for.
  StepLoss loss_of(const Batch& batch, const Step& step) {
    const Autocast autocast(precision_, placement_.device().type());
    return method_->loss(batch, step);
  }

  /// How many summands the means of a step have, of all its parts on all processes.
  std::map<std::string, double, std::less<>> counts_of(const std::vector<Batch>& parts) const {
    std::map<std::string, double, std::less<>> counts;
    for (const Batch& part : parts) {
      for (const auto& [name, count] : part.counts) {
        counts[name] += count;
      }
    }
    if (!ranks_.alone() && !counts.empty()) {
      std::vector<double> numbers;
      for (const auto& [name, count] : counts) {
        numbers.push_back(count);
      }
      const at::Tensor sums = ranks_.sum(at::tensor(numbers, at::kDouble).to(placement_.device())).cpu();
      const double* next = sums.const_data_ptr<double>();
      for (auto& [name, count] : counts) {
        count = *next++;
      }
    }
    return counts;
  }

  /// The loss and metrics, the mean over the batch's parts and over all processes, as the gradients in the buffer are.
  StepLoss loss_and_gradient(const std::vector<Batch>& parts) {
    const auto count = static_cast<double>(parts.size());
    StepLoss all;
    Step step = clock_;
    step.counts = counts_of(parts);
    require(options_.weight.empty() || step.counts.at(kWeights) > 0, "training.weight: '", options_.weight,
            "' of all jets of step ", step.number, " is 0: name another column, or leave such jets out");
    for (std::size_t p = 0; p < parts.size(); ++p) {
      place(step, static_cast<std::int64_t>(p));
      StepLoss result = loss_of(parts[p].to(placement_), step);
      require(result.loss.defined() && result.loss.dim() == 0 && result.loss.requires_grad(), "the method's loss ",
              result.loss.defined() ? "has shape " : "is undefined",
              result.loss.defined() ? result.loss.sizes() : at::IntArrayRef(),
              ": return one number with the gradient of the trained networks");
      (parts.size() == 1 ? result.loss : result.loss / count).backward();
      result.loss = result.loss.detach();
      if (!all.loss.defined()) {
        all = std::move(result);
        continue;
      }
      require(result.metrics.size() == all.metrics.size(), "the method has ", result.metrics.size(),
              " metrics for one part of the batch and ", all.metrics.size(),
              " for another: return the same ones in every call, on every process");
      all.loss = all.loss + result.loss;
      for (std::size_t m = 0; m < all.metrics.size(); ++m) {
        all.metrics[m].second = all.metrics[m].second + result.metrics[m].second;
      }
    }
    if (parts.size() > 1) {
      all.loss = all.loss / count;
      for (auto& [name, value] : all.metrics) {
        value = value / count;
      }
    }
    if (!ranks_.alone()) {
      // One call for all gradients: they lie one behind the other.
      at::Tensor gradients = trained_->gradients();
      ranks_.sum_(gradients);
      gradients.div_(static_cast<double>(ranks_.size()));
      average_over_ranks(all);
    }
    return all;
  }

  void average_over_ranks(StepLoss& result) const {
    std::vector<at::Tensor> numbers{result.loss};
    for (const auto& [name, value] : result.metrics) {
      numbers.push_back(value);
    }
    for (at::Tensor& number : numbers) {
      number = number.to(placement_.dtype(at::kDouble));
    }
    const at::Tensor means = ranks_.mean(at::stack(numbers));
    result.loss = means[0];
    for (std::size_t m = 0; m < result.metrics.size(); ++m) {
      result.metrics[m].second = means[static_cast<std::int64_t>(m) + 1];
    }
  }

  /// Everything that a step has computed, in one transfer from where it was computed.
  static void read(const StepLoss& result, const at::Tensor& norm, StepReport& report) {
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
      report.metrics.emplace_back(name, value.device() == norm.device() ? *next++ : value.item<double>());
    }
  }

  /// Takes the jets of one step; what it returns prepares them.
  std::function<Taken()> begin(std::int64_t number) {
    return [this, number, taken = source_->next(own_batch_)] {
      Step step = step_at(number);
      Taken made{{}, taken.jets, taken.position};
      const Jets<double> all = method_->wants_labels() ? taken.jets : taken.jets.without_labels();
      for (std::int64_t p = 0; p < options_.accumulate; ++p) {
        const std::int64_t size = place(step, p);
        const Jets<double> jets = size == own_batch_ ? all : all.slice(p * size, (p + 1) * size);
        Batch part = method_->prepare(augment_ ? augmented(jets, step) : jets, step);
        if (!options_.weight.empty()) {
          part.weights = jet_weights(jets, options_.weight);
          part.counts[kWeights] = part.weights.sum().item<double>();
        }
        made.parts.push_back(placement_.device().is_cuda() ? part.pin_memory() : part);
      }
      return made;
    };
  }

  // These read only what never changes during training: loader threads call them.

  Jets<double> augmented(const Jets<double>& jets, const Step& step) const {
    Jets<double> made = augment_(jets, step.draws("augmentation"));
    require(made.size() == jets.size(), "the augmentation made ", made.size(), " jets of ", jets.size(),
            ": give one that keeps each jet");
    return made;
  }

  Step step_at(std::int64_t number) const { return {number, clock_.steps_per_epoch, clock_.epochs, clock_.seed}; }

  /// Says of a step which of this process's parts is looked at; the number of its jets.
  std::int64_t place(Step& step, std::int64_t part) const {
    const std::int64_t size = own_batch_ / options_.accumulate;
    step.parts = options_.accumulate * ranks_.size();
    step.first_jet = (part * ranks_.size() + ranks_.rank()) * size;
    return size;
  }

  void advance(const StepReport& report) {
    if (!report.skipped) {
      epoch_loss_ += report.loss;
      ++epoch_steps_;
    }
    ++clock_.number;
    if (clock_.number % clock_.steps_per_epoch == 0) {
      const double mean = epoch_loss_ / static_cast<double>(epoch_steps_);
      if (mean < best_loss_) {  // never of an epoch without a finite step
        best_loss_ = mean;
        best_epoch_ = clock_.number / clock_.steps_per_epoch - 1;
      }
      epoch_loss_ = 0;
      epoch_steps_ = 0;
    }
  }

  /// @param positions  of the sources of all processes of a run, [ranks, numbers].
  void seek(const at::Tensor& positions) {
    const std::int64_t width = positions.size(1);
    std::vector<std::vector<std::int64_t>> places;
    for (std::int64_t r = 0; r < positions.size(0); ++r) {
      const auto* const begin = positions.const_data_ptr<std::int64_t>() + r * width;
      places.emplace_back(begin, begin + width);
    }
    if (positions.size(0) == ranks_.size()) {
      source_->seek(places[static_cast<std::size_t>(ranks_.rank())]);
    } else {
      source_->seek_others(places);
    }
  }

  NamedTensors named_state() {
    require(trained_.has_value(), "this trainer was finished, its state is gone: save before finish()");
    NamedTensors tensors = method_->state();
    for (const NamedTensors& some : {trained_->parameters(), method_->buffers()}) {
      for (const auto& [name, tensor] : some) {
        tensors.emplace_back("trained." + name, tensor);
      }
    }
    tensors.emplace_back("adamw.mean", optimizer_->mean());
    tensors.emplace_back("adamw.square", optimizer_->square());
    tensors.emplace_back("adamw.steps", optimizer_->steps());
    if (average_.defined()) {
      tensors.emplace_back("average", average_);
    }
    return tensors;
  }

  /// Tells other jets, another order of the same jets and another batch size apart.
  at::Tensor fingerprint() const {
    std::vector<std::int64_t> numbers = source_->fingerprint();
    numbers.push_back(batch_);
    return at::tensor(numbers, at::kLong);
  }

  std::shared_ptr<Method> method_;
  std::shared_ptr<Source> source_;
  std::vector<std::int64_t> position_;  // of the source behind the last step done
  TrainingOptions options_;
  Precision precision_;
  double peak_lr_;
  at::TensorOptions placement_;
  Ranks ranks_;
  Augment augment_;
  std::int64_t batch_ = 0;      // jets of a step
  std::int64_t own_batch_ = 0;  // those of them that this process takes
  Step clock_;
  std::atomic_flag busy_;
  Jets<double> jets_;  // of the last step
  std::int64_t skipped_ = 0;
  std::int64_t in_a_row_ = 0;
  double epoch_loss_ = 0;
  std::int64_t epoch_steps_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity();
  std::int64_t best_epoch_ = -1;
  std::optional<FlatParameters> trained_;
  std::optional<AdamW> optimizer_;
  at::Tensor average_;                     // [P] of the trained values
  std::unique_ptr<Loader<Taken>> loader_;  // last: its threads use the members above
};

}  // namespace rino
