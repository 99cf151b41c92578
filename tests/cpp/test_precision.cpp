#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <rino/core/placement.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/methods/self_distillation.hpp>
#include <rino/nn/packing.hpp>
#include <rino/nn/precision.hpp>
#include <rino/recipe/recipe.hpp>
#include <rino/train/trainer.hpp>

#include "catch.hpp"

namespace {

using rino::Autocast;
using rino::Precision;
using rino::SelfDistillation;
using Distiller = rino::Trainer;

bool cpu_autocast() {
  return at::autocast::is_autocast_enabled(at::kCPU);
}

/// Heads of 8 dimensions, and of 32, which attention treats in different ways.
rino::JetEncoderOptions encoder(std::int64_t heads, double dropout = 0.0) {
  rino::JetEncoderOptions options;
  options.width = 32;
  options.heads = heads;
  options.layers = 3;
  options.feedforward = 64;
  options.dropout = dropout;
  return options;
}

std::shared_ptr<SelfDistillation> method(std::int64_t heads, double dropout = 0.0, std::uint64_t seed = 1) {
  rino::ProjectionHeadOptions head;
  head.prototypes = 8;
  rino::SelfDistillationOptions options;
  options.koleo = 0.2;
  const rino::ViewSetOptions views{.teacher = {rino::subjets(1), rino::subjets(3)},
                                   .student = {rino::subjets(8), rino::particles()},
                                   .student_drawn = 0};
  return std::make_shared<SelfDistillation>(std::make_shared<rino::JetEncoderImpl>(encoder(heads, dropout)), head,
                                            views, options, seed);
}

rino::Jets<double> jets(std::int64_t count = 24) {
  return rino::toy_shower<double>({.jets = count, .multiplicity_mean = 20.0}, 3);
}

rino::TrainingOptions run_of(Precision precision, std::int64_t epochs = 4) {
  rino::TrainingOptions options;
  options.epochs = epochs;
  options.batch_size = 8;
  options.seed = 5;
  options.precision = precision;
  return options;
}

rino::AdamWOptions brisk() {
  rino::AdamWOptions options;
  options.lr = 3e-3;
  return options;
}

std::vector<double> losses(Distiller& trainer, std::int64_t steps) {
  std::vector<double> told;
  for (std::int64_t i = 0; i < steps; ++i) {
    told.push_back(trainer.step().loss);
  }
  return told;
}

bool equal(const rino::Safetensors& a, const rino::Safetensors& b) {
  return a.tensors.size() == b.tensors.size() &&
         std::all_of(a.tensors.begin(), a.tensors.end(), [&](const auto& entry) {
           return b.contains(entry.first) && b.at(entry.first).equal(entry.second);
         });
}

/// Loss and gradients of one batch, the student unlike its teacher.
std::pair<at::Tensor, at::Tensor> loss_and_gradients(std::int64_t heads, Precision precision) {
  const auto trained = method(heads);
  rino::initialize(*trained->student(), 2);
  const rino::FlatParameters flat(*trained->student(), /*trainable=*/true);
  const rino::Step step{.number = 3, .steps_per_epoch = 5, .epochs = 8, .seed = 4};
  const rino::Batch batch = trained->prepare(jets(), step);
  at::Tensor loss;
  {
    const Autocast autocast(precision, at::kCPU);
    loss = trained->loss(batch, step).loss;
  }
  loss.backward();
  return {loss.detach(), flat.gradients().clone()};
}

}  // namespace

TEST_CASE("autocast is as it was once its scope ends, whatever ends it", "[precision]") {
  REQUIRE_FALSE(cpu_autocast());
  const at::ScalarType dtype = at::autocast::get_autocast_dtype(at::kCPU);
  const at::Tensor x = at::ones({2, 2});
  {
    const Autocast on(Precision::bf16, at::kCPU);
    CHECK(cpu_autocast());
    CHECK(at::mm(x, x).scalar_type() == at::kBFloat16);
    {
      const Autocast off(Precision::float32, at::kCPU);
      CHECK_FALSE(cpu_autocast());
      CHECK(at::mm(x, x).scalar_type() == at::kFloat);
    }
    CHECK(cpu_autocast());
  }
  CHECK_FALSE(cpu_autocast());
  CHECK(error_of([] {
          const Autocast on(Precision::bf16, at::kCPU);
          rino::fail("left by an exception");
        }) == "left by an exception");
  CHECK_FALSE(cpu_autocast());

  // A caller's half precision of another type comes back.
  at::autocast::set_autocast_dtype(at::kCPU, at::kHalf);
  {
    const Autocast on(Precision::bf16, at::kCPU);
  }
  CHECK(at::autocast::get_autocast_dtype(at::kCPU) == at::kHalf);
  at::autocast::set_autocast_dtype(at::kCPU, dtype);
}

TEST_CASE("losses are computed in float32 under anybody's autocast", "[precision]") {
  const at::Generator generator = rino::make_generator(at::kCPU, 1);
  const at::Tensor scores = at::rand({3, 6, 5}, generator, at::TensorOptions());
  const at::Tensor flat = scores.flatten(0, 1);
  const at::Tensor center = scores.select(0, 0).select(0, 0).clone();
  const auto all = [&] {
    at::Tensor moved = center.clone();
    rino::update_center(moved, flat, 0.9);
    const at::Tensor assignments = rino::sinkhorn(flat, 0.1).view({3, 6, 5});
    return std::vector<at::Tensor>{assignments, moved, rino::centered_assignment(flat, center, 0.1),
                                   rino::dino_loss(assignments.narrow(0, 0, 2), scores, 0.1), rino::koleo_loss(flat)};
  };
  const std::vector<at::Tensor> expected = all();
  const Autocast on(Precision::bf16, at::kCPU);
  const std::vector<at::Tensor> found = all();
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].scalar_type() == at::kFloat);
    CHECK(found[i].equal(expected[i]));
  }
}

TEST_CASE("loss and gradients in bf16 are those of float32 within its rounding", "[precision][distillation]") {
  const std::int64_t heads = GENERATE(1, 4);
  const auto [loss, gradients] = loss_and_gradients(heads, Precision::float32);
  const auto [half_loss, half_gradients] = loss_and_gradients(heads, Precision::bf16);
  CHECK(half_loss.scalar_type() == at::kFloat);
  CHECK(half_gradients.scalar_type() == at::kFloat);
  CHECK(std::abs((half_loss / loss).item<double>() - 1) < 0.02);
  const double off = ((half_gradients - gradients).norm() / gradients.norm()).item<double>();
  CHECK(off < 0.05);
  CHECK(off > 1e-4);  // else nothing was computed in bf16
}

TEST_CASE("a run in bf16 trains, its weights and what it keeps are float32", "[precision][distillation]") {
  const auto told_by = [](Distiller& trainer) {
    const std::vector<double> told = losses(trainer, 120);
    const auto mean = [&](std::size_t first) { return (told[first] + told[first + 1] + told[first + 2]) / 3; };
    return std::pair{mean(0), mean(117)};
  };
  Distiller trainer(method(4), jets(), brisk(), run_of(Precision::bf16, 40));
  const auto [before, after] = told_by(trainer);
  CHECK(after < before - 0.1);
  CHECK_FALSE(cpu_autocast());
  for (const auto& [name, tensor] : trainer.state().tensors) {
    CHECK((name.starts_with("trainer.") || tensor.scalar_type() == at::kFloat));
  }
  Distiller wide(method(4), jets(), brisk(), run_of(Precision::float32, 40));
  const auto [wide_before, wide_after] = told_by(wide);
  CHECK(wide_after < wide_before - 0.1);
  // Where it is not faster it is not done.
  CHECK((after != wide_after) == rino::bf16::supported());
  CHECK(trainer.precision() == (rino::bf16::supported() ? Precision::bf16 : Precision::float32));
  CHECK(wide.precision() == Precision::float32);
}

TEST_CASE("a CPU that is not faster in bf16 computes in float32, another device as asked", "[precision]") {
  const bool fast = rino::bf16::supported();
  CHECK(rino::effective_precision(Precision::bf16, at::kCPU) == (fast ? Precision::bf16 : Precision::float32));
  CHECK(rino::effective_precision(Precision::bf16, at::kCUDA) == Precision::bf16);
  CHECK(rino::effective_precision(Precision::float32, at::kCPU) == Precision::float32);
}

TEST_CASE("a bf16 run that was stopped and resumed equals one that never stopped, bit by bit", "[precision]") {
  Distiller straight(method(4, 0.1), jets(), brisk(), run_of(Precision::bf16));
  const std::vector<double> all = losses(straight, 12);
  Distiller first(method(4, 0.1), jets(), brisk(), run_of(Precision::bf16));
  losses(first, 4);
  Distiller second(method(4, 0.1, 99), jets(), brisk(), run_of(Precision::bf16));
  second.restore(first.state());
  CHECK(losses(second, 8) == std::vector(all.begin() + 4, all.end()));
  CHECK(equal(second.state(), straight.state()));
}

TEST_CASE("the recipe decides the precision, not the caller's autocast", "[precision]") {
  const auto result = [] {
    Distiller trainer(method(4), jets(), brisk(), run_of(Precision::float32));
    losses(trainer, 3);
    return trainer.state();
  };
  const rino::Safetensors expected = result();
  const Autocast callers(Precision::bf16, at::kCPU);
  CHECK(equal(result(), expected));
  CHECK(cpu_autocast());
}

TEST_CASE("bf16 is refused for networks of double precision", "[precision]") {
  const auto error = [](Precision precision) {
    return error_of([&] { Distiller(method(4), jets(), brisk(), run_of(precision), at::kCPU, at::kDouble).step(); });
  };
  CHECK(says(error(Precision::bf16), "precision is bf16", "Double", "float32"));
  CHECK(error(Precision::float32) == "(no error)");
}

TEST_CASE("the precision is a number of the recipe", "[precision][recipe]") {
  rino::Recipe recipe = rino::Recipe::preset("nano");
  CHECK(recipe.training().precision == Precision::float32);
  recipe.set("training", "precision", "bf16");
  CHECK(recipe.training().precision == Precision::bf16);
  CHECK(says(error_of([&] { recipe.set("training", "precision", "fp16"); }), "training.precision", "'fp16'",
             "'float32', 'bf16'"));
  CHECK(recipe.training().precision == Precision::bf16);
}

TEST_CASE("the plan for kernels of variable length counts rows and is cut where CUDA's grid ends", "[packing]") {
  const std::vector<std::int64_t> lengths{3, 1, 4, 1, 5};
  rino::Packing whole;
  whole.plan_variable(lengths, at::kCPU);
  REQUIRE(whole.runs.size() == 1);
  const rino::PackedRun& run = whole.runs.front();
  CHECK(run.variable());
  CHECK(run.cumulative.equal(at::tensor({0, 3, 4, 8, 9, 14}, at::kInt)));
  CHECK(run.one_each.equal(at::tensor({0, 1, 2, 3, 4, 5}, at::kInt)));
  CHECK((run.rows == 14 && run.sequences == 5 && run.length == 5));

  rino::Packing cut;
  cut.plan_variable(lengths, at::kCPU, 2);
  REQUIRE(cut.runs.size() == 3);
  CHECK(cut.run_rows == std::vector<std::int64_t>{4, 5, 5});
  CHECK(cut.run_sequences == std::vector<std::int64_t>{2, 2, 1});
  CHECK(cut.runs[1].cumulative.equal(at::tensor({0, 4, 5}, at::kInt)));
  CHECK(cut.runs[1].length == 4);
  CHECK(cut.runs[2].one_each.equal(at::tensor({0, 1}, at::kInt)));

  // Each as long as the longest of its run and padded to 128 rows: the memory of the backward passes.
  rino::Packing bounded;
  bounded.plan_variable(std::vector<std::int64_t>{3, 1, 130, 4, 128, 9}, at::kCPU, 65535, 256);
  CHECK(bounded.run_sequences == std::vector<std::int64_t>{2, 1, 2, 1});
  CHECK(bounded.run_rows == std::vector<std::int64_t>{4, 130, 132, 9});

  const rino::Packing planned = rino::Packing::plan(lengths, at::TensorOptions());
  CHECK(std::none_of(planned.runs.begin(), planned.runs.end(), [](const auto& r) { return r.variable(); }));
}

TEST_CASE("index tensors hold what they were given", "[packing]") {
  const std::vector<std::int64_t> numbers{5, -2, 9};
  CHECK(rino::index_tensor(std::span<const std::int64_t>(numbers), at::kCPU).equal(at::tensor({5, -2, 9}, at::kLong)));
  CHECK(rino::index_tensor(std::span<const std::int32_t>(), at::kCPU).sizes() == at::IntArrayRef{0});
}
