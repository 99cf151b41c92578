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

#include <rino/core/device.hpp>
#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/ranks.hpp>
#include <rino/core/threads.hpp>
#include <rino/io/safetensors.hpp>
#include <rino/jets/jets.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/module.hpp>
#include <rino/nn/precision.hpp>
#include <rino/tokens/batch.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/batch_share.hpp>
#include <rino/train/best_weights.hpp>
#include <rino/train/checkpoint.hpp>
#include <rino/train/course.hpp>
#include <rino/train/epoch_losses.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/jet_weights.hpp>
#include <rino/train/loader.hpp>
#include <rino/train/method.hpp>
#include <rino/train/preparation.hpp>
#include <rino/train/step_losses.hpp>
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
        placement_(at::TensorOptions(device).dtype(options.precision == Precision::float64 ? at::kDouble : type)),
        ranks_(std::move(ranks)),
        prepare_(method_, std::move(augment), options.weight, fetches_pinned(device)),
        losses_(method_, prepare_, precision_, placement_, ranks_) {
    const std::int64_t jets = least(source_->size()) * ranks_.size();
    require(jets >= (method_->takes_all() ? 1 : 2), "there are ", jets, " jets to train on: give two or more");
    require(options.epochs >= 1 && options.batch_size >= 2, "epochs and batch_size are ", options.epochs, " and ",
            options.batch_size, ": choose 1 or more and 2 or more");
    require(options.precision != Precision::bf16 || type == at::kFloat, "precision is bf16 but the networks are ", type,
            ": choose precision float32, or networks of float32");
    require(0 <= options.average && options.average < 1, "average is ", options.average,
            ": choose 0 for none or a momentum below 1");
    share_ = BatchShare(*source_, jets, options, ranks_, method_->takes_all());
    position_ = phase_position_ = source_->position();
    clock_.steps_per_epoch = share_.steps_per_epoch();
    std::vector<Phase> phases = method_->phases();
    course_ = Course(phases.empty() ? std::vector{Phase::whole(optimizer, options)} : std::move(phases),
                     clock_.steps_per_epoch);
    clock_.epochs = course_.epochs();
    clock_.seed = static_cast<std::uint64_t>(options.seed);
    std::vector<std::int64_t> same = source_->fingerprint();
    same.insert(same.end(), {clock_.steps(), share_.batch(), options.seed});
    require_same_data(ranks_, same, device);
    require(options.accumulate == 1 || method_->accumulates(), "accumulate is ", options.accumulate,
            ", but this method compares the jets of a batch with each other: choose 1");
    require(options.weight.empty() || method_->wants_weights(), "training.weight is '", options.weight,
            "', but this method weighs no jets, so that it would change nothing: choose '', or another method");
    for (const Modules& networks : {method_->trained(), method_->products()}) {
      for (const auto& [name, module] : networks) {
        require(options.accumulate == 1 || !mixes_batch(*module), "accumulate is ", options.accumulate, ", but '", name,
                "' normalises by statistics of the whole batch: choose 1, or an encoder without batch norms");
        connect(*module, ranks_);
      }
    }
    method_->connect(ranks_);
    method_->to(placement_);
    parameters_ = method_->parameters();
    enter(0);
  }

  /// Trains on jets in memory, which all processes have.
  Trainer(std::shared_ptr<Method> method, Jets<double> jets, const AdamWOptions& optimizer,
          const TrainingOptions& options, at::Device device = at::kCPU, at::ScalarType type = at::kFloat,
          const Ranks& ranks = {}, Augment augment = {})
      : Trainer(method, shuffled(weighed(std::move(jets), options.weight), options, ranks, method->takes_all()),
                optimizer, options, device, type, ranks, std::move(augment)) {}

  /// Jets in memory as a source.
  static std::shared_ptr<Source> shuffled(Jets<double> jets, const TrainingOptions& options, const Ranks& ranks,
                                          bool takes_all) {
    return std::make_shared<ShuffledJets<double>>(std::move(jets), static_cast<std::uint64_t>(options.seed),
                                                  ranks.rank(), ranks.size(), options.accumulate, takes_all);
  }

  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  ~Trainer() {
    try {
      finish();
    } catch (...) {  // NOLINT(bugprone-empty-catch)
      // A device that has failed fails again; what it said first is on its way.
    }
  }

  /// Steps done so far, of steps().
  std::int64_t step_number() const { return clock_.number; }
  std::int64_t steps() const { return clock_.steps(); }
  std::int64_t steps_per_epoch() const { return clock_.steps_per_epoch; }
  bool done() const { return clock_.number >= clock_.steps(); }
  /// Jets of a step, on all processes together.
  std::int64_t batch_size() const { return share_.batch(); }
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
  /// Makes it begin from the parameters as they are, after they were changed by hand.
  void begin_average() {
    if (average_.defined()) {
      average_.copy_(trained_->values());
    }
  }
  Method& method() { return *method_; }
  const Step& clock() const { return clock_; }

  /// Mean loss of the best whole epoch so far and its number, from 0; infinity and -1 before the first.
  double best_loss() const { return epochs_.best; }
  std::int64_t best_epoch() const { return epochs_.best_epoch; }

  /// Learning rate of a step.
  double learning_rate(std::int64_t step) const { return course_.learning_rate(step); }

  /// The phases of the run, and the number of the one that it is in.
  const Course& course() const { return course_; }
  std::size_t phase() const { return phase_; }

  /// What phases that keep the best epoch judge by: jets of which the mean loss is taken after every epoch. All
  /// processes have them.
  /// @throws rino::Error if there is none, or a step was done.
  void validate_on(Jets<double> jets) {
    require(jets.size() > 0 && clock_.number == 0, "the validation has ", jets.size(), " jets, after ", clock_.number,
            " steps: give one or more, before the first step");
    validation_.jets = weighed(std::move(jets), options_.weight);
  }
  /// Their mean loss after the last epoch, NaN where there was none; the lowest of the phase so far.
  double validation_loss() const { return validation_.last; }
  double best_validation_loss() const { return validation_.best; }
  /// Mean loss over the jets of the last whole epoch; NaN before the first.
  double epoch_loss() const { return epochs_.last; }

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
    prepare_phase();
    if (!loader_ || loader_->position() != clock_.number) {  // a step that failed has used up its jets
      trained_->gradients().zero_();                         // and may have left gradients
      loader_.reset();                                       // which may still be using the source
      phase_source_->seek(position_);
      loader_ = std::make_unique<Loader<Taken>>([this](std::int64_t number) { return begin(number); }, clock_.number,
                                                course_.end(phase_), options_.loader_threads);
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
    const OneThread one_thread(OneThread::pays(trained_->values().numel(), share_.own()));
    const Autocast outside(Precision::float32, placement_.device().type());
    // What a forward pass changes, as a batch norm's averages, and a step that is skipped must not have changed.
    const NamedTensors buffers = copies_of(method_->buffers());
    const StepLoss result = losses_.with_gradient(taken.parts, clock_, share_, trained_->gradients());
    trained_->check();
    const at::Tensor norm = optimizer_->gradient_norm();
    detail::read(result, norm, report);
    report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.gradient_norm);
    if (report.skipped) {
      trained_->gradients().zero_();
      put_back(buffers, method_->buffers());
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
    position_ = std::move(taken.position);
    advance(report);
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
    file.tensors.emplace_back("trainer.progress",
                              at::tensor({static_cast<double>(clock_.number), epochs_.sum, epochs_.weight, epochs_.best,
                                          static_cast<double>(epochs_.best_epoch), static_cast<double>(skipped_),
                                          static_cast<double>(in_a_row_)},
                                         at::kDouble));
    file.tensors.emplace_back("trainer.data", fingerprint());
    const auto of_all = [this](const std::vector<std::int64_t>& position) {
      return ranks_.gather(at::tensor(position, at::kLong).unsqueeze(0).to(placement_.device())).cpu();
    };
    file.tensors.emplace_back("trainer.position", of_all(position_));
    if (staged()) {
      std::vector<std::int64_t> place = course_.lengths();
      place.insert(place.begin(), static_cast<std::int64_t>(phase_));
      file.tensors.emplace_back("trainer.phase", at::tensor(place, at::kLong));
      file.tensors.emplace_back("trainer.phase_position", of_all(phase_position_));
      validation_.save(file);
    }
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
    const std::size_t phase = staged() ? saved_phase(file) : 0;
    std::int64_t moving = 0;
    for (const auto& [name, tensor] : parameters_) {
      moving += course_.phase(phase).trains(name.substr(0, name.find('.'))) ? tensor.numel() : 0;
    }
    for (const auto& [name, tensor] : named_state()) {
      const bool flat = name == "adamw.mean" || name == "adamw.square" || name == "average";
      saved_tensor(file, name, flat ? at::IntArrayRef(moving) : tensor.sizes(), tensor.scalar_type());
    }
    require(file.contains("trainer.progress") && file.contains("trainer.data") && file.contains("trainer.position"),
            "the file holds no training state: give a checkpoint, not an encoder");
    require(file.at("trainer.progress").numel() == 7 && file.at("trainer.position").dim() == 2,
            "'trainer.progress' and 'trainer.position' have shapes ", file.at("trainer.progress").sizes(), " and ",
            file.at("trainer.position").sizes(), ": the checkpoint is damaged or of another version of rino");
    require(file.at("trainer.data").equal(fingerprint()), "the checkpoint was made with other jets, batch size or ",
            "seed: resuming goes on with the same ones; start a new run instead");
    loader_.reset();
    if (!staged()) {
      seek(file.at("trainer.position"), *source_);  // which may fail, before anything is changed
      phase_source_.reset();
    } else {
      seek(file.at("trainer.phase_position"), *source_);
      phase_position_ = source_->position();
      const std::vector<std::int64_t> place = saved_numbers(file, "trainer.phase");
      for (std::size_t p = 0; p < course_.size(); ++p) {
        course_.shorten(p, place[p + 1]);
      }
      clock_.epochs = course_.epochs();
      enter(phase);
      validation_.load(file, trained_->values(), method_->buffers());
    }
    const NamedTensors mine = named_state();
    {
      const at::NoGradGuard no_grad;
      for (const auto& [name, tensor] : mine) {
        tensor.copy_(saved_tensor(file, name, tensor.sizes(), tensor.scalar_type()));
      }
    }
    const at::Tensor& progress = file.at("trainer.progress");
    clock_.number = static_cast<std::int64_t>(progress[0].item<double>());
    epochs_.sum = progress[1].item<double>();
    epochs_.weight = progress[2].item<double>();
    epochs_.best = progress[3].item<double>();
    epochs_.best_epoch = static_cast<std::int64_t>(progress[4].item<double>());
    skipped_ = static_cast<std::int64_t>(progress[5].item<double>());
    in_a_row_ = static_cast<std::int64_t>(progress[6].item<double>());
    prepare_phase();
    if (phase_source_ == source_ || clock_.number > course_.begin(phase_)) {  // else it says where the source stood
      seek(file.at("trainer.position"), *phase_source_);
    }
    position_ = phase_source_->position();
  }

  /// Gives the method's modules ordinary tensors back, once what another thread does here has ended; no step can
  /// follow, also where it throws, as on a device that has failed.
  void finish() {
    const Turn turn(busy_, Turn::wait);
    loader_.reset();
    if (!trained_) {
      return;
    }
    FlatParameters trained = std::move(*trained_);
    trained_.reset();
    optimizer_.reset();
    for (const auto& [name, tensor] : parameters_) {
      tensor.set_requires_grad(true);
    }
    trained.release();
    method_->release();
  }

 private:
  /// Steps in a row that may not be finite before the run is given up.
  static constexpr std::int64_t kPatience = 3;

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

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  /// Takes the jets of one step; what it returns prepares them.
  std::function<Taken()> begin(std::int64_t number) {
    const bool augments = phase_source_ == source_;
    return [this, number, augments, taken = phase_source_->next(share_.own())] {
      Step step = step_at(number);
      Taken made{{}, taken.jets, taken.position};
      std::int64_t first = 0;
      for (std::int64_t p = 0; p < options_.accumulate; ++p) {
        const std::int64_t size = share_.place(step, p);
        made.parts.push_back(
            prepare_(size == taken.jets.size() ? taken.jets : taken.jets.slice(first, first + size), step, augments));
        first += size;
      }
      return made;
    };
  }

  Step step_at(std::int64_t number) const { return {number, clock_.steps_per_epoch, clock_.epochs, clock_.seed}; }

  void advance(const StepReport& report) {
    if (!report.skipped) {
      epochs_.add(report.loss,
                  static_cast<double>(share_.jets_of(clock_.number)) / static_cast<double>(share_.batch()));
    }
    ++clock_.number;
    if (clock_.number % clock_.steps_per_epoch == 0) {
      epochs_.end(clock_.number / clock_.steps_per_epoch - 1);
      end_epoch();
    }
  }

  // --- phases ---

  /// Whether the method says which phases there are.
  bool staged() const { return !course_.phase(0).name.empty(); }

  /// The phase that a checkpoint was made in.
  std::size_t saved_phase(const Safetensors& file) const {
    const std::vector<std::int64_t> place = saved_numbers(file, "trainer.phase");
    require(place.size() == course_.size() + 1 && place[0] >= 0 && place[0] < static_cast<std::int64_t>(course_.size()),
            "the checkpoint is of a run of ", place.size() - 1, " phases and this one has ", course_.size(),
            ": resume with the recipe it was made with");
    require(std::all_of(place.begin() + 1, place.end(), [](std::int64_t epochs) { return epochs > 0; }) &&
                file.contains("trainer.phase_position") && file.at("trainer.phase_position").dim() == 2,
            "'trainer.phase' and 'trainer.phase_position' make no sense: the checkpoint is damaged or of another ",
            "version of rino");
    return static_cast<std::size_t>(place[0]);
  }

  /// A phase begins: its parameters move into a buffer of their own, with a new optimiser.
  void enter(std::size_t number) {
    loader_.reset();
    if (trained_) {
      trained_->release();
    }
    phase_ = number;
    const Phase& phase = course_.phase(number);
    NamedTensors moving;
    for (const auto& [name, tensor] : parameters_) {
      const bool moves = phase.trains(name.substr(0, name.find('.')));
      tensor.set_requires_grad(moves);
      if (moves) {
        moving.emplace_back(name, tensor);
      }
    }
    trained_.emplace(std::move(moving), /*trainable=*/true);
    method_->start();
    optimizer_.emplace(*trained_, phase.optimizer, method_->depths(), phase.rates);
    average_ = options_.average > 0 ? trained_->values().clone() : at::Tensor();
    validation_.forget();
    phase_source_.reset();
  }

  /// Before the first step of a phase, or of a run that goes on within it.
  void prepare_phase() {
    if (phase_source_) {
      return;
    }
    // A seek may open files again: only where somebody has read.
    const auto rewind = [this] {
      if (source_->position() != phase_position_) {
        source_->seek(phase_position_);
      }
    };
    rewind();
    std::optional<Jets<double>> own = method_->before_phase(course_.phase(phase_), *source_);
    rewind();
    phase_source_ = own ? shuffled(std::move(*own), options_, ranks_, method_->takes_all()) : source_;
    share_.of(*phase_source_);
    const std::int64_t done = clock_.number - course_.begin(phase_);
    if (phase_source_ != source_ && done == 0) {
      position_ = phase_source_->position();
    }
  }

  /// After an epoch: looks at the validation, and whether the phase is over.
  void end_epoch() {
    const at::NoGradGuard no_grad;
    const Phase& phase = course_.phase(phase_);
    const at::Tensor values = trained_->values();
    const at::Tensor own = phase.averaged && average_.defined() ? values.clone() : at::Tensor();
    if (own.defined()) {
      values.copy_(average_);
    }
    const std::int64_t epoch = (clock_.number - course_.begin(phase_)) / clock_.steps_per_epoch - 1;
    if (phase.keep_best && validation_.jets.size() > 0) {
      validation_.see(losses_.mean(validation_.jets, step_at(0), share_.own()), epoch, values, method_->buffers());
      if (phase.patience > 0 && epoch - validation_.epoch >= phase.patience) {
        course_.shorten(phase_, epoch + 1);
        clock_.epochs = course_.epochs();
      }
    }
    if (clock_.number < course_.end(phase_)) {
      if (own.defined()) {
        values.copy_(own);
      }
      return;
    }
    if (validation_.values.defined()) {
      values.copy_(validation_.values);
      put_back(validation_.buffers, method_->buffers());
    }
    if (phase_ + 1 < course_.size()) {
      phase_position_ = phase_source_ == source_ ? position_ : phase_position_;
      position_ = phase_position_;
      enter(phase_ + 1);
    }
  }

  /// @param positions  of the sources of all processes of a run, [ranks, numbers].
  void seek(const at::Tensor& saved, Source& source) {
    const at::Tensor positions = saved.to(at::kLong).contiguous();
    const std::int64_t width = positions.size(1);
    std::vector<std::vector<std::int64_t>> places;
    for (std::int64_t r = 0; r < positions.size(0); ++r) {
      const auto* const begin = positions.const_data_ptr<std::int64_t>() + r * width;
      places.emplace_back(begin, begin + width);
    }
    if (positions.size(0) == ranks_.size()) {
      source.seek(places[static_cast<std::size_t>(ranks_.rank())]);
    } else {
      source.seek_others(places);
    }
  }

  NamedTensors named_state() {
    require(trained_.has_value(), "this trainer was finished, its state is gone: save before finish()");
    NamedTensors tensors = method_->state();
    for (const NamedTensors& some : {parameters_, method_->buffers()}) {
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
    numbers.push_back(share_.batch());
    return at::tensor(numbers, at::kLong);
  }

  std::shared_ptr<Method> method_;
  std::shared_ptr<Source> source_;
  std::vector<std::int64_t> position_;        // of the phase's source behind the last step done
  std::vector<std::int64_t> phase_position_;  // of the source where the phase began
  std::shared_ptr<Source> phase_source_;      // the source, or of the phase's own jets; null before its first step
  Course course_;
  std::size_t phase_ = 0;
  NamedTensors parameters_;  // that are trained in any phase
  BestWeights validation_;
  TrainingOptions options_;
  Precision precision_;
  at::TensorOptions placement_;
  Ranks ranks_;
  Preparation prepare_;
  StepLosses losses_;
  BatchShare share_;
  Step clock_;
  std::atomic_flag busy_;
  Jets<double> jets_;  // of the last step
  std::int64_t skipped_ = 0;
  std::int64_t in_a_row_ = 0;
  EpochLosses epochs_;
  std::optional<FlatParameters> trained_;
  std::optional<AdamW> optimizer_;
  at::Tensor average_;                     // [P] of the trained values
  std::unique_ptr<Loader<Taken>> loader_;  // last: its threads use the members above
};

}  // namespace rino
