#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/core/placement.hpp>
#include <rino/core/ranks.hpp>
#include <rino/io/scratch_tensor.hpp>
#include <rino/methods/finetuning_options.hpp>
#include <rino/nn/embed.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/module.hpp>
#include <rino/nn/precision.hpp>
#include <rino/nn/tagger_head.hpp>
#include <rino/nn/task.hpp>
#include <rino/train/jet_weights.hpp>
#include <rino/train/method.hpp>
#include <rino/train/training_options.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// The head of a recipe's tagger, without initial values.
/// @param inputs  size of the encoder's embeddings.
/// @param outputs  1, or classes or targets.
inline TaggerHead make_tagger_head(const FinetuningOptions& options, HeadKind kind, std::int64_t inputs,
                                   std::int64_t outputs = 1) {
  return TaggerHead(TaggerHeadOptions{.kind = kind,
                                      .inputs = inputs,
                                      .hidden1 = options.hidden1,
                                      .hidden2 = options.hidden2,
                                      .dropout = options.head_dropout,
                                      .normalized = options.normalized_head,
                                      .outputs = outputs});
}

/// Fine-tuning of an encoder with a head, by LP-FT: the head alone on the embeddings of the frozen encoder, which are
/// computed once, then both. Or from scratch, in one phase: the baseline.
///
/// The loss is the mean over the jets, or over their weights, of: the binary cross-entropy with `positive_weight` on
/// label 1; the softmax cross-entropy, each class with its weight, divided by the sum of the weights; the squared or
/// Huber's error of targets that have mean 0 and deviation 1 over the jets, the mean over the targets.
///
/// Source: Kumar et al., arXiv:2202.10054; numbers of arXiv:2509.07486.
class FineTuning final : public Method {
 public:
  /// Probing, then both.
  /// @param encoder, head  are trained as they are.
  /// @param plan           what the head's outputs are.
  /// @param class_weights  of `multiclass`, [classes]; none: all 1.
  /// @param threads        for features.
  FineTuning(std::shared_ptr<Encoder> encoder, TaggerHead head, const FinetuningOptions& options,
             const TaskPlan& plan = {}, const std::vector<double>& class_weights = {}, int threads = 1)
      : FineTuning(std::move(encoder), std::move(head), options, phases_of(options), plan, class_weights, threads) {}

  /// The baseline.
  FineTuning(std::shared_ptr<Encoder> encoder, TaggerHead head, const FinetuningOptions& options,
             const SupervisedOptions& supervised, const TaskPlan& plan = {},
             const std::vector<double>& class_weights = {}, int threads = 1)
      : FineTuning(std::move(encoder), std::move(head), options, {phase_of(options, supervised)}, plan, class_weights,
                   threads) {}

  /// Length and pace of a run: what `Trainer` takes.
  /// @param training  gives seed, loader's threads, precision and accumulation.
  static TrainingOptions training(const FinetuningOptions& options, TrainingOptions training) {
    training.epochs = 1;  // the phases say how many
    training.batch_size = options.batch_size;
    training.average = options.average;
    training.weight = {};  // of methods that leave their jets' weights to the trainer
    return training;
  }

  std::vector<Phase> phases() const override { return phases_; }

  /// Mean and deviation of the targets of `regression`, [targets] float64: NaN before the first step.
  const at::Tensor& mean() const { return mean_; }
  const at::Tensor& deviation() const { return deviation_; }

  Batch prepare(const Jets<double>& jets, const Step& /*step*/) const override {
    Batch batch;
    const auto rows = jets.values().find(kRow);
    if (rows == jets.values().end()) {
      batch = encoder_->inputs(jets, {particles()}, type(), threads_);
    } else {
      const std::vector<std::int64_t> picks(rows->second->begin(), rows->second->end());
      batch.tensors["embeddings"] = embeddings_.index_select(0, index_tensor(std::span(picks), at::kCPU));
    }
    at::Tensor factors =
        options_.weight.empty() ? at::ones({jets.size()}, at::kDouble) : jet_weights(jets, options_.weight, kWeight);
    if (plan_.task == Task::regression) {
      batch.tensors["targets"] = ((targets_of(jets) - mean_) / deviation_).to(type());
    } else {
      const std::vector<std::int64_t> labels = labels_of(jets);
      batch.labels = index_tensor(std::span(labels), at::kCPU);
      if (class_weights_.defined()) {
        factors = factors * class_weights_.index_select(0, batch.labels);
      }
    }
    batch.counts[kFactors] = factors.sum().item<double>();
    batch.tensors[kFactors] = factors.to(type());
    return batch;
  }

  StepLoss loss(const Batch& batch, const Step& step) override {
    const at::Tensor& factors = batch.tensor(kFactors);
    const at::Generator generator = make_generator(factors.device(), step.dropout_seed());
    set_generator(*encoder_->module(), generator);
    set_generator(*head_, generator);
    const at::Tensor embeddings = embedded(batch).to(type());
    const Autocast off(Precision::float32, factors.device().type());
    StepLoss result;
    result.loss = step.mean((factors * errors(head_(embeddings), batch)).sum(), kFactors);
    if (options_.l2_sp > 0 && head_->is_training() && moves_encoder_) {
      result.loss = result.loss + 0.5 * options_.l2_sp * distance();
    }
    return result;
  }

  Modules trained() const override { return {{"encoder", encoder_->module()}, {"head", head_.ptr()}}; }
  Modules products() const override { return trained(); }
  bool wants_labels() const override { return plan_.task != Task::regression; }
  bool takes_all() const override { return true; }
  void connect(const Ranks& ranks) override { ranks_ = ranks; }
  void start() override { train(true); }

  void release() override {
    train(false);
    set_generator(*encoder_->module(), std::nullopt);
    set_generator(*head_, std::nullopt);
    embeddings_ = at::Tensor();
  }

  /// Where the encoder started, if the loss has to know; mean and deviation of the targets.
  NamedTensors state() override {
    NamedTensors all;
    if (plan_.task == Task::regression) {
      all = {{"target.mean", mean_}, {"target.deviation", deviation_}};
    }
    if (options_.l2_sp > 0) {
      remember();
      for (const auto& [name, tensor] : start_) {
        all.emplace_back("start." + name, tensor);
      }
    }
    return all;
  }

  /// Embeddings of all jets, where the encoder stays as it is for a phase.
  std::optional<Jets<double>> before_phase(const Phase& phase, JetSource<double>& source) override {
    moves_encoder_ = phase.trains("encoder");
    if (plan_.task == Task::regression && !at::isfinite(deviation_).all().item<bool>()) {
      standardise(source);
    }
    if (moves_encoder_) {
      remember();
    }
    if (moves_encoder_ || options_.probe_dropout) {
      embeddings_ = at::Tensor();
      return {};
    }
    encoder_->module()->eval();
    Jets<double> rows = source.all() != nullptr ? embed_all(*source.all()) : embed_stream(source);
    encoder_->module()->train();
    return rows;
  }

 private:
  /// A value per jet: its row in the table of embeddings.
  static constexpr const char* kRow = "rino.row";
  /// By what a jet's loss is multiplied, and the sum of that.
  static constexpr const char* kFactors = "factors";
  /// The number of a recipe that names the column of weights.
  static constexpr const char* kWeight = "finetune.weight";

  FineTuning(std::shared_ptr<Encoder> encoder, TaggerHead head, const FinetuningOptions& options,
             std::vector<Phase> phases, const TaskPlan& plan, const std::vector<double>& class_weights, int threads)
      : encoder_(std::move(encoder)),
        head_(std::move(head)),
        options_(options),
        phases_(std::move(phases)),
        plan_(plan),
        threads_(threads),
        mean_(at::full({plan.outputs()}, std::numeric_limits<double>::quiet_NaN(), at::kDouble)),
        deviation_(mean_.clone()) {
    options.check();
    plan.check();
    require(head_->options.outputs == plan.outputs(), "the head has ", head_->options.outputs, " outputs and the task ",
            plan.outputs(), ": make the head for it");
    require(class_weights.empty() || class_weights.size() == plan.classes.size(), "there are ", class_weights.size(),
            " class weights for ", plan.classes.size(), " classes: give one for each");
    if (!class_weights.empty()) {
      class_weights_ = at::tensor(class_weights, at::kDouble);
    }
  }

  /// Labels as numbers of outputs, [n].
  std::vector<std::int64_t> labels_of(const Jets<double>& jets) const {
    require(jets.labels() != nullptr, "the jets have no labels: give labelled jets");
    if (plan_.task == Task::multiclass) {
      return plan_.outputs_of(*jets.labels());
    }
    for (const std::int64_t label : *jets.labels()) {
      require(label <= 1, "a label is ", label,
              ": a tagger learns 0 (background) and 1 (signal); map your classes first, or choose finetune.task = ",
              "'multiclass'");
    }
    return *jets.labels();
  }

  /// [n, targets] float64.
  at::Tensor targets_of(const Jets<double>& jets) const {
    std::vector<at::Tensor> columns;
    for (const std::string& name : plan_.targets) {
      const auto found = jets.values().find(name);
      require(found != jets.values().end(), "the target '", name,
              "' is no column with a number per jet of these jets, ", "which have: ", keys_of(jets.values()),
              ": read it with columns=, or set it with Jets.with_value");
      for (std::size_t j = 0; j < found->second->size(); ++j) {
        require(std::isfinite((*found->second)[j]), "the target '", name, "' of jet ", j, " is ", (*found->second)[j],
                ": leave the jet out, or repair the column");
      }
      columns.push_back(at::tensor(*found->second, at::kDouble));
    }
    return at::stack(columns, 1);
  }

  /// Mean and deviation of the targets over the jets of all processes, by sums about a value among them.
  void standardise(JetSource<double>& source) {
    at::Tensor sums = at::zeros({2, plan_.outputs()}, at::kDouble);
    at::Tensor count = at::zeros({1}, at::kDouble);
    at::Tensor about;
    const bool everywhere = source.all() != nullptr;  // all processes have the same jets
    const auto add = [&](const Jets<double>& jets) {
      const at::Tensor values = targets_of(jets);
      if (!about.defined()) {
        about = everywhere ? values[0] : ranks_.mean(values[0].to(device())).cpu();
      }
      sums += at::stack({(values - about).sum(0), (values - about).square().sum(0)});
      count += static_cast<double>(jets.size());
    };
    if (everywhere) {
      add(*source.all());
    } else {
      const std::vector<std::int64_t> start = source.position();
      for (std::int64_t left = source.size(); left > 0; left -= kChunk) {
        add(source.next(std::min(kChunk, left)).jets);
      }
      source.seek(start);  // a run that goes on here knows the numbers, and reads on from here
      sums = ranks_.sum(sums.to(device())).cpu();
      count = ranks_.sum(count.to(device())).cpu();
    }
    const at::Tensor moments = sums / count;
    mean_.copy_(about + moments[0]);
    deviation_.copy_((moments[1] - moments[0].square()).clamp_min(0).sqrt());
    for (std::int64_t t = 0; t < deviation_.numel(); ++t) {
      require(deviation_[t].item<double>() > 1e-12 * std::abs(mean_[t].item<double>()), "the target '",
              plan_.targets[static_cast<std::size_t>(t)], "' is the same for all jets: there is nothing to learn");
    }
  }

  /// The loss of every jet, [B].
  at::Tensor errors(const at::Tensor& outputs, const Batch& batch) const {
    if (plan_.task == Task::multiclass) {
      return at::cross_entropy_loss(outputs, batch.labels, {}, at::Reduction::None);
    }
    if (plan_.task == Task::regression) {
      const at::Tensor& targets = batch.tensor("targets");
      return (options_.huber > 0 ? at::huber_loss(outputs, targets, at::Reduction::None, options_.huber)
                                 : (outputs - targets).square())
          .mean(1);
    }
    const at::Tensor logits = outputs.squeeze(-1);
    return at::binary_cross_entropy_with_logits(logits, batch.labels.to(logits), {},
                                                at::full({}, options_.positive_weight, logits.options()),
                                                at::Reduction::None);
  }

  at::Device device() const { return encoder_->module()->parameters().front().device(); }

  static Phase paced(const FinetuningOptions& options, std::string name, std::int64_t epochs, double lr) {
    Phase phase;
    phase.name = std::move(name);
    phase.epochs = epochs;
    phase.optimizer.lr = lr;
    phase.optimizer.eps = options.eps;
    phase.optimizer.weight_decay = options.weight_decay;
    phase.optimizer.clip = options.clip;
    phase.rise_as(options);
    return phase;
  }

  static std::vector<Phase> phases_of(const FinetuningOptions& options) {
    Phase probing = paced(options, "probing", options.probe_epochs, options.probe_lr);
    probing.networks = {"head"};
    Phase all = paced(options, "fine-tuning", options.epochs, options.head_lr);
    all.optimizer.layer_decay = options.layer_decay;
    all.rates["encoder"] = options.encoder_lr / options.head_lr;
    all.keep_best = true;  // where there are jets to choose it by
    all.patience = options.stop_after;
    all.averaged = true;
    return {probing, all};
  }

  static Phase phase_of(const FinetuningOptions& options, const SupervisedOptions& supervised) {
    Phase phase = paced(options, "supervised", supervised.epochs, supervised.lr);
    phase.keep_best = true;
    phase.patience = supervised.patience;
    return phase;
  }

  at::Tensor embedded(const Batch& batch) {
    if (const auto known = batch.tensors.find("embeddings"); known != batch.tensors.end()) {
      return known->second;
    }
    const at::AutoGradMode gradient(moves_encoder_ && at::GradMode::is_enabled());
    return encoder_->embed_jets(batch);
  }

  /// The squared distance of the encoder from where it started.
  at::Tensor distance() const {
    at::Tensor sum;
    const NamedTensors now = parameters_of({{"encoder", encoder_->module()}});
    for (std::size_t i = 0; i < now.size(); ++i) {
      const at::Tensor term = (now[i].second - start_[i].second).square().sum();
      sum = sum.defined() ? sum + term : term;
    }
    return sum;
  }

  void remember() {
    if (options_.l2_sp > 0 && start_.empty()) {
      start_ = copies_of(parameters_of({{"encoder", encoder_->module()}}));
    }
  }

  at::Tensor embed_some(const Jets<double>& jets) const {
    const at::Tensor one = encoder_->module()->parameters().front();
    return embed(*encoder_, jets, particles(), one.options().requires_grad(false), threads_);
  }

  /// Room for so many embeddings: in memory, or in a file that goes away by itself.
  at::Tensor table(std::int64_t jets) const {
    const std::int64_t width = encoder_->outputs();
    const auto bytes = static_cast<double>(jets * width * static_cast<std::int64_t>(c10::elementSize(type())));
    return bytes <= options_.memory * 1e9 ? at::empty({jets, width}, at::TensorOptions(at::kCPU).dtype(type()))
                                          : scratch_tensor({jets, width}, type());
  }

  /// Each process embeds its part of the jets.
  Jets<double> embed_all(const Jets<double>& jets) {
    embeddings_ = table(jets.size());
    const std::int64_t own = (jets.size() + ranks_.size() - 1) / ranks_.size();
    const std::int64_t chunk = std::max<std::int64_t>(1, std::min<std::int64_t>(own, kChunk));
    for (std::int64_t begin = 0; begin < own; begin += chunk) {
      const std::int64_t count = std::min(chunk, own - begin);
      const std::int64_t first = std::min(ranks_.rank() * own + begin, jets.size());
      const std::int64_t last = std::min(first + count, jets.size());
      at::Tensor mine = embed_some(jets.slice(first, last));
      if (ranks_.alone()) {
        embeddings_.narrow(0, first, last - first).copy_(mine);
        continue;
      }
      mine = at::constant_pad_nd(mine, {0, 0, 0, count - (last - first)});
      const std::vector<at::Tensor> all = ranks_.gather(mine).cpu().chunk(ranks_.size());
      for (std::int64_t r = 0; r < ranks_.size(); ++r) {
        const std::int64_t from = std::min(r * own + begin, jets.size());
        const std::int64_t size = std::min(from + count, jets.size()) - from;
        embeddings_.narrow(0, from, size).copy_(all[static_cast<std::size_t>(r)].narrow(0, 0, size));
      }
    }
    std::map<std::string, std::vector<double>> columns;
    for (const std::string& name : carried()) {
      columns[name] = column_of(jets, name);
    }
    if (wants_labels()) {
      labels_of(jets);
    }
    return numbered(jets.size(), jets.labels() ? *jets.labels() : std::vector<std::int64_t>(), std::move(columns));
  }

  /// A pass through a stream, of which all processes give each other their parts.
  Jets<double> embed_stream(JetSource<double>& source) {
    const auto of_all = [&](const at::Tensor& tensor) { return ranks_.gather(tensor.to(device())).cpu().contiguous(); };
    const at::Tensor mine = at::full({1}, -source.size(), at::TensorOptions(device()).dtype(at::kLong));
    const std::int64_t own = -ranks_.maximum(mine).item<std::int64_t>();
    embeddings_ = table(own * ranks_.size());
    std::vector<std::int64_t> labels;
    std::map<std::string, std::vector<double>> columns;
    std::int64_t row = 0;
    for (std::int64_t begin = 0; begin < own; begin += kChunk) {
      const Jets<double> jets = source.next(std::min(kChunk, own - begin)).jets;
      const at::Tensor all = of_all(embed_some(jets));
      embeddings_.narrow(0, row, all.size(0)).copy_(all);
      row += all.size(0);
      if (wants_labels()) {
        labels_of(jets);
        const at::Tensor theirs = of_all(at::tensor(*jets.labels(), at::kLong));
        labels.insert(labels.end(), theirs.const_data_ptr<std::int64_t>(),
                      theirs.const_data_ptr<std::int64_t>() + theirs.numel());
      }
      for (const std::string& name : carried()) {
        const at::Tensor theirs = of_all(at::tensor(column_of(jets, name), at::kDouble));
        columns[name].insert(columns[name].end(), theirs.const_data_ptr<double>(),
                             theirs.const_data_ptr<double>() + theirs.numel());
      }
    }
    return numbered(row, labels, std::move(columns));
  }

  /// Columns that jets must keep.
  std::vector<std::string> carried() const {
    std::vector<std::string> names = plan_.targets;
    if (!options_.weight.empty()) {
      names.push_back(options_.weight);
    }
    return names;
  }

  /// One of them, whose numbers are sound.
  std::vector<double> column_of(const Jets<double>& jets, const std::string& name) const {
    if (name == options_.weight) {
      jet_weights(jets, name, kWeight);
    } else {
      targets_of(jets);
    }
    return *jets.values().at(name);
  }

  /// Jets without constituents that know their rows in the table.
  static Jets<double> numbered(std::int64_t count, const std::vector<std::int64_t>& labels,
                               std::map<std::string, std::vector<double>> columns) {
    std::vector<double>& rows = columns[kRow];
    for (std::int64_t j = 0; j < count; ++j) {
      rows.push_back(static_cast<double>(j));
    }
    Jets<double> jets = Jets<double>::from_columns_unchecked({}, std::vector<std::int64_t>(rows.size() + 1, 0));
    if (!labels.empty()) {
      jets = jets.with_labels(labels);
    }
    for (auto& [name, values] : columns) {
      jets = jets.with_value(name, std::move(values));
    }
    return jets;
  }

  /// Jets that are embedded at a time.
  static constexpr std::int64_t kChunk = 65536;

  std::shared_ptr<Encoder> encoder_;
  TaggerHead head_;
  FinetuningOptions options_;
  std::vector<Phase> phases_;
  TaskPlan plan_;
  int threads_;
  at::Tensor mean_;       // [targets] float64
  at::Tensor deviation_;  // the same
  at::Tensor class_weights_;
  Ranks ranks_;
  bool moves_encoder_ = true;
  at::Tensor embeddings_;  // [n, D] of all jets, in a phase in which the encoder stays as it is
  NamedTensors start_;     // of the encoder
};

}  // namespace rino
