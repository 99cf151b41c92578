#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/io/safetensors.hpp>
#include <rino/io/scratch_tensor.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/methods/finetuning.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/train/course.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/trainer.hpp>

#include "catch.hpp"

namespace {

using rino::Course;
using rino::FineTuning;
using rino::FinetuningOptions;
using rino::Jets;
using rino::Phase;
using rino::ShuffledJets;
using rino::Trainer;

constexpr std::int64_t kJets = 44;

/// Jets whose label is whether their number is odd, and whose value "number" is that.
Jets<double> labelled(std::int64_t count = kJets) {
  std::vector<std::int64_t> labels;
  std::vector<double> numbers;
  for (std::int64_t j = 0; j < count; ++j) {
    labels.push_back(j % 2);
    numbers.push_back(static_cast<double>(j));
  }
  return rino::toy_shower<double>({.jets = count}, 1).with_labels(labels).with_value("number", numbers);
}

/// A small network with dropout everywhere, and what trains it.
struct Run {
  explicit Run(FinetuningOptions given = options(), const Jets<double>& jets = labelled()) {
    rino::JetEncoderOptions sizes;
    sizes.width = 8;
    sizes.layers = 1;
    sizes.heads = 2;
    sizes.feedforward = 12;
    sizes.dropout = 0.2;
    encoder = std::make_shared<rino::JetEncoderImpl>(sizes);
    rino::initialize(*encoder, 3);
    head = rino::make_tagger_head(given, rino::HeadKind::mlp, 8);
    rino::initialize(*head, 4);
    method = std::make_shared<FineTuning>(encoder, head, given, given.plan());
    trainer = std::make_unique<Trainer>(method, jets, rino::AdamWOptions(),
                                        FineTuning::training(given, rino::TrainingOptions()), at::kCPU, at::kDouble);
  }

  static FinetuningOptions options() {
    FinetuningOptions some;
    some.batch_size = 16;
    some.probe_epochs = 2;
    some.epochs = 2;
    some.probe_lr = some.head_lr = some.encoder_lr = 1e-2;
    return some;
  }

  at::Tensor values() const {
    std::vector<at::Tensor> all;
    for (const auto& [name, tensor] : rino::parameters_of(method->trained())) {
      all.push_back(tensor.detach().reshape(-1).clone());
    }
    return at::cat(all);
  }

  std::shared_ptr<rino::JetEncoderImpl> encoder;
  rino::TaggerHead head{nullptr};
  std::shared_ptr<FineTuning> method;
  std::unique_ptr<Trainer> trainer;
};

}  // namespace

TEST_CASE("learning rates of phases are those of each alone", "[phases]") {
  Phase first;
  first.name = "first";
  first.epochs = 3;
  first.optimizer.lr = 0.5;
  first.warmup = 0.5;
  first.warmup_start = 0.1;
  first.final_lr = 0.2;
  Phase second = first;
  second.epochs = 2;
  second.optimizer.lr = 4.0;
  second.warmup = 0.0;
  Phase none = first;
  none.epochs = 0;
  Course course({first, none, second}, 4);
  REQUIRE(course.size() == 2);
  CHECK(course.steps() == 20);
  CHECK(course.begin(1) == 12);
  CHECK(course.lengths() == std::vector<std::int64_t>{3, 2});
  for (std::int64_t step = 0; step < 20; ++step) {
    const bool late = step >= 12;
    const double total = late ? 8 : 12;
    const double place = static_cast<double>(late ? step - 12 : step);
    const double warmup = late ? 0 : 6;
    const double factor = place < warmup
                              ? 0.1 + 0.9 * place / warmup
                              : 0.2 + 0.4 * (1 + std::cos(std::numbers::pi * (place - warmup) / (total - warmup)));
    CHECK(course.learning_rate(step) == Approx((late ? 4.0 : 0.5) * factor).epsilon(1e-12));
  }

  // One that ends early had the rates that were planned, and the next begins then.
  const double before = course.learning_rate(7);
  course.shorten(0, 2);
  CHECK(course.steps() == 16);
  CHECK(course.learning_rate(7) == before);
  CHECK(course.learning_rate(8) == Approx(4.0));

  CHECK(says(error_of([&] { Course({none}, 4); }), "the run has no epoch"));
  first.warmup = 1.5;
  CHECK(says(error_of([&] { Course({first}, 4); }), "warmup, warmup_start and final_lr of first are 1.5"));
}

TEST_CASE("a pass takes all jets where the last are a smaller batch", "[phases]") {
  const Jets<double> jets = labelled();
  const std::int64_t ranks = GENERATE(1, 3);
  const std::int64_t parts = GENERATE(1, 2);
  const std::int64_t batch = 12;  // of 44: three whole ones and 8
  std::vector<ShuffledJets<double>> sources;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    sources.emplace_back(jets, 5, rank, ranks, parts, true);
  }
  ShuffledJets<double> alone(jets, 5, 0, 1, 1, true);
  CHECK(sources[0].remainder(batch) == 8);
  for (int pass = 0; pass < 2; ++pass) {
    std::multiset<double> seen;
    for (int step = 0; step < 4; ++step) {
      const std::vector<double> whole = *alone.next(batch).jets.values().at("number");
      CHECK(whole.size() == (step == 3 ? 8 : 12));
      std::vector<double> together(whole.size());
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const Jets<double> own = sources[static_cast<std::size_t>(rank)].next(batch / ranks).jets;
        std::int64_t next = 0;
        for (std::int64_t part = 0; part < parts; ++part) {
          const std::int64_t place = part * ranks + rank;
          const auto all = static_cast<std::int64_t>(whole.size());
          for (std::int64_t j = rino::part_begin(all, ranks * parts, place);
               j < rino::part_begin(all, ranks * parts, place + 1); ++j) {
            together[static_cast<std::size_t>(j)] = (*own.values().at("number"))[static_cast<std::size_t>(next++)];
          }
        }
        CHECK(next == own.size());
      }
      CHECK(together == whole);
      seen.insert(whole.begin(), whole.end());
    }
    CHECK(seen.size() == kJets);
    CHECK(std::set<double>(seen.begin(), seen.end()).size() == kJets);
  }

  // Fewer than there are parts are left out, as all are where nobody asks for them.
  CHECK(ShuffledJets<double>(jets, 5, 0, 3, 3, true).remainder(36) == 0);
  CHECK(ShuffledJets<double>(jets, 5, 0, 1, 1, false).remainder(12) == 0);
  CHECK(ShuffledJets<double>(jets, 5, 0, 1, 1, true).remainder(11) == 0);
}

TEST_CASE("probing moves the head alone, with an optimiser of its own, and fine-tuning all", "[phases]") {
  Run run;
  Trainer& trainer = *run.trainer;
  CHECK(trainer.steps() == 12);  // of 16, 16 and 12 jets
  const at::Tensor start = run.encoder->embedding->weight.detach().clone();
  const at::Tensor head = run.head->linear->weight.detach().clone();
  const rino::Safetensors fresh = trainer.state();
  CHECK(fresh.at("adamw.mean").numel() == rino::parameter_count(*run.head));
  while (trainer.step_number() < 6) {
    CHECK(trainer.course().phase(trainer.phase()).name == "probing");
    const double rate = trainer.learning_rate(trainer.step_number());
    CHECK(trainer.step().lr == rate);
    CHECK(run.encoder->embedding->weight.equal(start));
  }
  CHECK_FALSE(run.head->linear->weight.equal(head));
  CHECK(trainer.course().phase(trainer.phase()).name == "fine-tuning");
  const rino::Safetensors boundary = trainer.state();
  CHECK(boundary.at("adamw.mean").numel() == rino::parameter_count(*run.head) + rino::parameter_count(*run.encoder));
  CHECK(boundary.at("adamw.steps").item<double>() == 0);
  CHECK(boundary.at("trainer.phase")[0].item<std::int64_t>() == 1);
  trainer.step();
  CHECK_FALSE(run.encoder->embedding->weight.equal(start));
  trainer.finish();
  CHECK(run.encoder->embedding->weight.requires_grad());
  CHECK_FALSE(run.encoder->is_training());
}

TEST_CASE("a run of phases that was stopped anywhere goes on bit by bit", "[phases]") {
  FinetuningOptions options = Run::options();
  options.probe_dropout = GENERATE(false, true);
  options.average = 0.5;
  options.l2_sp = 0.1;
  Run whole(options);
  whole.trainer->validate_on(labelled(10));
  std::vector<rino::Safetensors> checkpoints;
  while (!whole.trainer->done()) {
    checkpoints.push_back(whole.trainer->state());
    whole.trainer->step();
  }
  REQUIRE(checkpoints.size() == 12);
  for (const std::size_t step : {0, 2, 3, 5, 6, 7, 11}) {  // before, at and after the boundary at 6
    Run again(options);
    again.trainer->validate_on(labelled(10));
    again.trainer->restore(checkpoints[step]);
    CHECK(again.trainer->step_number() == static_cast<std::int64_t>(step));
    while (!again.trainer->done()) {
      again.trainer->step();
    }
    CHECK(again.values().equal(whole.values()));
    CHECK(again.trainer->validation_loss() == whole.trainer->validation_loss());
  }
}

TEST_CASE("embeddings in a file are those in memory", "[phases]") {
  FinetuningOptions options = Run::options();
  Run in_memory(options);
  options.memory = 0;
  Run in_a_file(options);
  for (int step = 0; step < 8; ++step) {
    CHECK(in_memory.trainer->step().loss == in_a_file.trainer->step().loss);
  }
}

TEST_CASE("jets that are too few for a batch weigh as much as others", "[phases]") {
  // The mean loss of an epoch in which nothing moves is that of all jets.
  FinetuningOptions options = Run::options();
  options.probe_epochs = 0;
  options.encoder_lr = 0;
  options.head_lr = 1e-300;
  options.head_dropout = 0;
  Run run(options);
  run.trainer->validate_on(labelled());
  run.method->train(false);
  for (int step = 0; step < 3; ++step) {
    run.method->train(false);
    run.trainer->step();
  }
  CHECK(run.trainer->epoch_loss() == Approx(run.trainer->validation_loss()).epsilon(1e-12));
}

TEST_CASE("what outputs mean follows from the task", "[phases]") {
  FinetuningOptions options;
  CHECK(options.plan().outputs() == 1);
  options.task = rino::Task::multiclass;
  options.classes = {"4=W", "0", "7=top=heavy"};
  const rino::TaskPlan plan = options.plan();
  CHECK(plan.classes == std::vector<std::int64_t>{4, 0, 7});
  CHECK(plan.outputs_of({7, 4, 0, 0}) == std::vector<std::int64_t>{2, 0, 1, 1});
  CHECK(says(error_of([&] { plan.outputs_of({7, 5}); }), "label of jet 1 is 5", "none of finetune.classes"));
  const at::Tensor outputs = at::tensor({0.5, -1.0, 2.0}, at::kDouble).view({1, 3});
  CHECK(plan.meaning(outputs, {}, {}).sum().item<double>() == Approx(1.0));
  options.classes = {"4", "4=W"};
  CHECK(says(error_of([&] { options.plan().check(); }), "the label 4 is two classes"));
  options.classes = {"W", "4"};
  CHECK(says(error_of([&] { options.plan(); }), "'W' of finetune.classes does not begin with a label"));
  options.task = rino::Task::regression;
  CHECK(says(error_of([&] { options.plan().check(); }), "finetune.targets names no column"));
  options.targets = {"a", "b", "c"};
  const at::Tensor mean = at::full({3}, 10.0, at::kDouble);
  CHECK(options.plan().meaning(outputs, mean, at::full({3}, 2.0, at::kDouble))[0][2].item<double>() == 14.0);
}

TEST_CASE("a regression learns targets of mean 0 and deviation 1", "[phases]") {
  FinetuningOptions options = Run::options();
  options.task = rino::Task::regression;
  options.targets = {"number"};
  const Jets<double> jets = labelled();
  const Run run(options, jets);
  CHECK_FALSE(run.method->mean().isfinite().any().item<bool>());
  run.trainer->step();
  CHECK(run.method->mean().item<double>() == Approx((kJets - 1) / 2.0));
  const double variance = (kJets * kJets - 1) / 12.0;
  CHECK(run.method->deviation().item<double>() == Approx(std::sqrt(variance)));
  const Run other(options, jets);
  CHECK(says(error_of([&] {
               FineTuning(run.encoder, run.head, Run::options(),
                          {.task = rino::Task::multiclass, .classes = {0, 1, 2}});
             }),
             "the head has 1 outputs and the task 3"));
}

TEST_CASE("a validation that fails leaves the networks in training mode", "[phases]") {
  Run run;
  run.trainer->validate_on(labelled(3).with_labels({0, 1, 2}));
  CHECK(says(error_of([&] {
               while (!run.trainer->done()) {
                 run.trainer->step();
               }
             }),
             "a label is 2"));
  CHECK(run.encoder->is_training());
}

TEST_CASE("a scratch tensor is a file without a name that can be written", "[phases][io]") {
  const at::Tensor scratch = rino::scratch_tensor({30, 4}, at::kDouble);
  CHECK(scratch.sizes() == at::IntArrayRef({30, 4}));
  scratch.fill_(2.0);
  CHECK(scratch.sum().item<double>() == 240.0);
  CHECK(rino::scratch_tensor({0, 4}, at::kFloat).sizes() == at::IntArrayRef({0, 4}));
}

TEST_CASE("a damaged phase of a checkpoint is an error", "[phases]") {
  Run run;
  rino::Safetensors file = run.trainer->state();
  for (auto& [name, tensor] : file.tensors) {
    if (name == "trainer.phase") {
      tensor = at::tensor({0, 2, -1}, at::kLong);
    }
  }
  CHECK(says(error_of([&] { run.trainer->restore(file); }), "make no sense", "damaged"));
  CHECK(run.trainer->steps() == 12);
}

TEST_CASE("numbers of fine-tuning outside their ranges are named", "[phases]") {
  FinetuningOptions options = Run::options();
  options.l2_sp = -1;
  CHECK(says(error_of([&] { Run some(options); }), "'finetune.l2_sp' is -1: choose 0 for off or more"));
  const auto step = [](const Jets<double>& jets) { Run(Run::options(), jets).trainer->step(); };
  CHECK(says(error_of([&] { step(labelled(4).with_labels({0, 1, 2, 0})); }), "a label is 2"));
  CHECK(says(error_of([&] { step(labelled(4).without_labels()); }), "the jets have no labels"));
}
