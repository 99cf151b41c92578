#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <rino/core/placement.hpp>
#include <rino/core/threads.hpp>
#include <rino/io/safetensors.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/methods/self_distillation.hpp>
#include <rino/tokens/tokenizer.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/loader.hpp>
#include <rino/train/parameter_groups.hpp>
#include <rino/train/schedule.hpp>
#include <rino/train/teacher.hpp>
#include <rino/train/trainer.hpp>
#include <rino/views/transforms/named.hpp>

#include "catch.hpp"
#include "constituent_mean.hpp"
#include "numeric.hpp"

namespace {

using rino::Jets;
using rino::Resolution;
using rino::Safetensors;
using rino::SelfDistillation;
using rino::Step;
using rino::Tokens;
using rino::Trainer;
using rino::TrainingOptions;
using namespace std::chrono_literals;

at::Tensor global_state() {
  return at::globalContext().defaultGenerator(at::kCPU).get_state().clone();
}

at::Tensor values_of(const torch::nn::Module& module) {
  std::vector<at::Tensor> pieces;
  for (const rino::TensorSlot& slot : rino::tensor_slots(module)) {
    pieces.push_back(slot.tensor().detach().reshape(-1));
  }
  return at::cat(pieces);
}

/// Mean of the tokens of every sequence, [S, F].
at::Tensor pooled(const Tokens& tokens) {
  std::vector<at::Tensor> rows;
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    rows.push_back(tokens.features.narrow(0, tokens.first(s), tokens.length(s)).mean(0));
  }
  return at::stack(rows);
}

/// A method with nothing of self-distillation: one view, no teacher, no state, no metrics. A linear map of a jet's
/// mean token learns its log pT. It writes down which jets it was shown, and can be told to fail.
class MeanRegression final : public rino::Method {
 public:
  struct Record {
    std::vector<std::vector<double>> jets;  ///< log pT (normalised) of the jets of every step
    std::set<std::int64_t> not_a_number;    ///< steps whose loss is none
    std::atomic<std::int64_t> no_views{-1};
    std::pair<int, int> threads;  ///< LibTorch's and our kernels' in the last step
    bool released = false;
    bool labelled = false;
  };

  explicit MeanRegression(std::shared_ptr<Record> record = std::make_shared<Record>())
      : layer(rino::LinearOptions{11, 1}), record_(std::move(record)) {
    rino::initialize(*layer, 1);
  }

  rino::Batch prepare(const Jets<double>& jets, const Step& step) const override {
    std::int64_t wanted = step.number;
    rino::require(!record_->no_views.compare_exchange_strong(wanted, -1), "no views for step ", step.number);
    record_->labelled = record_->labelled || jets.labels() != nullptr;
    const std::vector<Jets<double>> itself{jets};
    rino::Batch batch;
    batch.tokens["constituents"] = type() == at::kDouble ? rino::tokenize<double>(jets, std::span(itself), {})
                                                         : rino::tokenize<float>(jets, std::span(itself), {});
    return batch;
  }

  rino::StepLoss loss(const rino::Batch& batch, const Step& step) override {
    const Tokens& tokens = batch.of("constituents");
    record_->threads = {at::get_num_threads(), rino::kernel_threads()};
    const at::Tensor log_pt = tokens.jet_features.select(1, 1).to(at::kDouble).contiguous();
    record_->jets.emplace_back(log_pt.const_data_ptr<double>(), log_pt.const_data_ptr<double>() + log_pt.size(0));
    const at::Tensor error = layer(pooled(tokens)).squeeze(1) - tokens.jet_features.select(1, 1);
    if (record_->not_a_number.contains(step.number)) {
      return {error.mean() * std::numeric_limits<double>::quiet_NaN(), {}};
    }
    return {error.square().mean(), {}};
  }

  rino::Modules trained() const override { return {{"layer", layer.ptr()}}; }
  void release() override { record_->released = true; }

  rino::Linear layer;

 private:
  std::shared_ptr<Record> record_;
};

Jets<double> some_jets(std::int64_t count = 26) {
  return rino::toy_shower<double>({.jets = count, .multiplicity_mean = 20.0}, 3);
}

TrainingOptions short_run(std::int64_t epochs = 4, std::int64_t batch_size = 8, std::int64_t loader_threads = 1) {
  TrainingOptions options;
  options.epochs = epochs;
  options.batch_size = batch_size;
  options.loader_threads = loader_threads;
  options.seed = 5;
  return options;
}

rino::JetEncoderOptions small_encoder(double dropout = 0.1) {
  rino::JetEncoderOptions options;
  options.width = 8;
  options.heads = 2;
  options.layers = 2;
  options.feedforward = 16;
  options.dropout = dropout;
  return options;
}

rino::ProjectionHeadOptions small_head() {
  rino::ProjectionHeadOptions options;
  options.inputs = 8;
  options.prototypes = 6;
  return options;
}

rino::ViewSetOptions drawn_views() {
  return {.teacher = {rino::subjets(1), rino::subjets(2)},
          .student = {rino::subjets(4), rino::subjets(8), rino::particles()},
          .student_drawn = 2};
}

std::shared_ptr<SelfDistillation> small_method(std::uint64_t seed = 1,
                                               const rino::SelfDistillationOptions& options = {}) {
  return std::make_shared<SelfDistillation>(std::make_shared<rino::JetEncoderImpl>(small_encoder()), small_head(),
                                            drawn_views(), options, seed);
}

SelfDistillation& distillation(Trainer& trainer) {
  return dynamic_cast<SelfDistillation&>(trainer.method());
}

rino::AdamWOptions brisk() {
  rino::AdamWOptions options;
  options.lr = 3e-3;
  return options;
}

using Distiller = Trainer;

/// What a run says of all its steps, times aside.
std::vector<std::vector<double>> run(Distiller& trainer, std::int64_t steps) {
  std::vector<std::vector<double>> told;
  for (std::int64_t i = 0; i < steps; ++i) {
    const rino::StepReport report = trainer.step();
    told.push_back({static_cast<double>(report.step), report.epoch, report.loss, report.lr, report.gradient_norm});
    for (const auto& [name, value] : report.metrics) {
      told.back().push_back(value);
    }
  }
  return told;
}

bool equal(const Safetensors& a, const Safetensors& b) {
  return a.tensors.size() == b.tensors.size() &&
         std::all_of(a.tensors.begin(), a.tensors.end(), [&](const auto& entry) {
           return b.contains(entry.first) && b.at(entry.first).equal(entry.second);
         });
}

/// A source of its own: the jets in order, one after the other, its position in other words than `ShuffledJets`.
class InOrder final : public rino::JetSource<double> {
 public:
  explicit InOrder(Jets<double> jets) : jets_(std::move(jets)) {}
  std::int64_t size() const override { return jets_.size(); }
  rino::JetBatch<double> next(std::int64_t count) override {
    if (before_next) {
      before_next();
    }
    std::int64_t wanted = taken_;
    rino::require(!fails_at.compare_exchange_strong(wanted, -1), "the source fails at ", taken_);
    std::vector<std::int64_t> numbers;
    for (std::int64_t i = 0; i < count; ++i) {
      numbers.push_back(taken_++ % jets_.size());
    }
    return {jets_.select(numbers), position()};
  }
  std::vector<std::int64_t> position() const override { return {-7, taken_, 3}; }
  void seek(const std::vector<std::int64_t>& position) override {
    rino::require(position.size() == 3, "not a place of this source");
    taken_ = position[1];
    ++seeks;
  }
  void seek_others(const std::vector<std::vector<std::int64_t>>& positions) override { seek(positions.at(0)); }
  std::vector<std::int64_t> fingerprint() const override { return {jets_.size(), jets_.constituents()}; }

  std::atomic<std::int64_t> fails_at{-1};
  std::int64_t seeks = 0;
  std::function<void()> before_next;

 private:
  Jets<double> jets_;
  std::int64_t taken_ = 0;
};

/// log pT of jets as `MeanRegression` notes it.
std::vector<double> log_pt(const Jets<double>& jets) {
  const std::vector<Jets<double>> itself{jets};
  const Tokens tokens = rino::tokenize<double>(jets, std::span(itself), {});
  const at::Tensor values = tokens.jet_features.select(1, 1).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.size(0)};
}

/// A folder that is removed at the end.
struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("rino-test-training-" + std::to_string(::getpid()));
  Folder() { std::filesystem::create_directories(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("schedules pass through the points worked out by hand", "[train][schedule]") {
  const auto near = [](double a, double b) { return std::abs(a - b) < 1e-15; };
  CHECK(near(rino::cosine_schedule(3, 1, 0, 10), 3));
  CHECK(near(rino::cosine_schedule(3, 1, 2.5, 10), 2 + std::sqrt(0.5)));
  CHECK(near(rino::cosine_schedule(3, 1, 5, 10), 2));
  CHECK(near(rino::cosine_schedule(3, 1, 7.5, 10), 2 - std::sqrt(0.5)));
  CHECK(rino::cosine_schedule(3, 1, 10, 10) == 1);
  CHECK(rino::cosine_schedule(3, 1, 11, 10) == 1);
  CHECK(rino::cosine_schedule(3, 1, 0, 0) == 1);

  // From 0.1 in 4 steps to 1, then in 8 down to 0.2.
  const auto lr = [](double position) { return rino::warmup_cosine_schedule(0.1, 1, 0.2, position, 4, 12); };
  CHECK(near(lr(0), 0.1));
  CHECK(near(lr(1), 0.325));
  CHECK(near(lr(2), 0.55));
  CHECK(near(lr(4), 1));
  CHECK(near(lr(6), 0.6 + 0.4 * std::sqrt(0.5)));
  CHECK(near(lr(8), 0.6));
  CHECK(near(lr(12), 0.2));
  CHECK(rino::warmup_cosine_schedule(0.1, 1, 0.2, 0, 0, 12) == 1);
  CHECK(near(rino::warmup_cosine_schedule(0, 1, 0.2, 6, 12, 12), 0.5));

  // The same rise along half a cosine.
  const auto cosine = [](double position) {
    return rino::warmup_cosine_schedule(0.1, 1, 0.2, position, 4, 12, rino::Rise::cosine);
  };
  CHECK(near(cosine(0), 0.1));
  CHECK(near(cosine(1), 0.55 - 0.45 * std::sqrt(0.5)));
  CHECK(near(cosine(2), 0.55));
  CHECK(near(cosine(3), 0.55 + 0.45 * std::sqrt(0.5)));
  CHECK(near(cosine(4), 1));
  CHECK(near(cosine(8), 0.6));
}

TEST_CASE("AdamW with clipping equals LibTorch's AdamW after clip_grad_norm_", "[train][adamw]") {
  const double clip = GENERATE(0.0, 0.5, 1e6);
  rino::JetEncoder mine(small_encoder(0.0));
  rino::initialize(*mine, 2);
  mine->to(at::kDouble);
  rino::JetEncoder theirs(std::dynamic_pointer_cast<rino::JetEncoderImpl>(mine->clone()));
  const rino::FlatParameters flat(*mine, /*trainable=*/true);
  rino::AdamWOptions options;
  options.lr = 0.01;
  options.beta1 = 0.8;
  options.beta2 = 0.95;
  options.weight_decay = 0.1;
  options.clip = clip;
  rino::AdamW optimizer(flat, options);
  torch::optim::AdamW reference(theirs->parameters(),
                                torch::optim::AdamWOptions(0.01).betas({0.8, 0.95}).eps(1e-6).weight_decay(0.1));

  const auto jets = some_jets(4);
  const Tokens tokens = rino::ViewTokenizer().operator()<double>(jets, {rino::subjets(3), rino::particles()});
  bool clipped = false;
  for (int step = 0; step < 15; ++step) {
    const double lr = 0.01 / (1 + step);
    (mine(tokens).jets - step).square().mean().backward();
    const double norm = optimizer.step(lr);
    CHECK(flat.gradients().eq(0).all().item<bool>());

    reference.zero_grad();
    (theirs(tokens).jets - step).square().mean().backward();
    const double expected_norm =
        torch::nn::utils::clip_grad_norm_(theirs->parameters(), clip > 0 ? clip : std::numeric_limits<double>::max());
    static_cast<torch::optim::AdamWOptions&>(reference.param_groups()[0].options()).lr(lr);
    reference.step();
    CHECK(std::abs(norm / expected_norm - 1) < 1e-12);
    clipped = clipped || norm > clip;
    REQUIRE(largest_difference(flat.values(), values_of(*theirs)) < 1e-12);
  }
  CHECK(clipped == (clip < 1));
  CHECK(optimizer.steps().item<double>() == 15);
}

TEST_CASE("AdamW changes nothing where the gradient is not finite", "[train][adamw]") {
  rino::Linear layer(rino::LinearOptions{2, 2});
  rino::initialize(*layer, 1);
  const rino::FlatParameters flat(*layer, /*trainable=*/true);
  rino::AdamW optimizer(flat, {});
  const at::Tensor before = flat.values().clone();
  flat.gradients()[1] = std::numeric_limits<float>::infinity();
  CHECK(says(error_of([&] { optimizer.step(0.1); }), "norm of the gradient is inf", "lower the learning rate"));
  CHECK(flat.values().equal(before));
  CHECK(optimizer.mean().eq(0).all().item<bool>());
  CHECK(optimizer.steps().item<double>() == 0);
  CHECK(flat.gradients().eq(0).all().item<bool>());
}

TEST_CASE("AdamW refuses options outside their ranges", "[train][adamw]") {
  const rino::Linear layer(rino::LinearOptions{2, 2});
  const rino::FlatParameters flat(*layer, /*trainable=*/true);
  const auto error = [&](const auto& change) {
    rino::AdamWOptions options;
    change(options);
    return error_of([&] { rino::AdamW(flat, options); });
  };
  CHECK(error([](auto&) {}) == "(no error)");
  CHECK(says(error([](auto& o) { o.lr = 0; }), "lr", "above 0"));
  CHECK(says(error([](auto& o) { o.eps = 0; }), "eps"));
  CHECK(says(error([](auto& o) { o.weight_decay = -0.5; }), "-0.5"));
  CHECK(says(error([](auto& o) { o.clip = -1; }), "-1"));
  CHECK(says(error([](auto& o) { o.beta1 = 1; }), "beta1", "[0, 1)"));
  CHECK(says(error([](auto& o) { o.beta2 = -0.1; }), "-0.1", "[0, 1)"));
  CHECK_FALSE(error([](auto& o) { o.lr = std::nan(""); }) == "(no error)");
}

TEST_CASE("the moving average takes its share of the student, all or nothing at the ends", "[train][ema]") {
  const rino::Linear teacher(rino::LinearOptions{3, 4});
  const rino::Linear student(rino::LinearOptions{3, 4});
  rino::initialize(*teacher, 1);
  rino::initialize(*student, 2);
  const rino::FlatParameters flat_teacher(*teacher, /*trainable=*/false);
  const rino::FlatParameters flat_student(*student, /*trainable=*/true);
  const at::Tensor before = flat_teacher.values().clone();
  const at::Tensor target = flat_student.values().clone();
  rino::ema_update(flat_teacher, flat_student, 1.0);
  CHECK(flat_teacher.values().equal(before));
  rino::ema_update(flat_teacher, flat_student, 0.9);
  CHECK(largest_difference(flat_teacher.values(), 0.9 * before.to(at::kDouble) + 0.1 * target.to(at::kDouble)) < 1e-7);
  rino::ema_update(flat_teacher, flat_student, 0.0);
  CHECK(flat_teacher.values().equal(target));
  CHECK(teacher->weight.equal(student->weight));
  CHECK(flat_student.values().equal(target));
}

TEST_CASE("a loader hands items over in order, whatever its threads", "[train][loader]") {
  const std::int64_t threads = GENERATE(0, 1, 4);
  rino::Loader<std::int64_t> loader(
      [](std::int64_t number) {
        return [number] {
          std::this_thread::sleep_for(std::chrono::microseconds((number * 7919) % 500));  // later items overtake
          return number * number;
        };
      },
      10, 60, threads);
  for (std::int64_t number = 10; number < 60; ++number) {
    CHECK(loader.position() == number);
    REQUIRE(loader.next() == number * number);
  }
  CHECK(says(error_of([&] { loader.next(); }), "no item 60"));
}

TEST_CASE("a loader takes from a stream in order and one at a time, whatever its threads", "[train][loader]") {
  const std::int64_t threads = GENERATE(0, 1, 4);
  std::atomic<int> inside{0};
  std::int64_t taken = 5;  // not atomic: the loader must not let two threads at it
  bool alone = true;
  rino::Loader<std::int64_t> loader(
      [&](std::int64_t number) {
        alone = alone && ++inside == 1 && number == taken;
        std::this_thread::sleep_for(std::chrono::microseconds((number * 104729) % 300));
        const std::int64_t item = taken++;
        --inside;
        return [item] { return item; };
      },
      5, 80, threads);
  for (std::int64_t number = 5; number < 80; ++number) {
    REQUIRE(loader.next() == number);
  }
  CHECK(alone);
}

TEST_CASE("a loader without threads makes items when asked, else on threads of its own", "[train][loader]") {
  const auto where = [](std::int64_t threads) {
    rino::Loader<std::thread::id> loader([](std::int64_t) { return [] { return std::this_thread::get_id(); }; }, 0, 3,
                                         threads);
    return loader.next();
  };
  CHECK(where(0) == std::this_thread::get_id());
  CHECK(where(1) != std::this_thread::get_id());
}

TEST_CASE("a loader runs ahead as far as it may and no further", "[train][loader]") {
  const std::int64_t threads = GENERATE(1, 4);
  constexpr std::int64_t ahead = 3;
  std::atomic<std::int64_t> begun{0};
  rino::Loader<std::int64_t> loader(
      [&](std::int64_t number) {
        ++begun;
        return [number] { return number; };
      },
      0, 100, threads, ahead);
  for (std::int64_t taken = 0; taken < 5; ++taken) {
    for (int wait = 0; wait < 2000 && begun < taken + ahead; ++wait) {
      std::this_thread::sleep_for(1ms);
    }
    std::this_thread::sleep_for(5ms);
    CHECK(begun == taken + ahead);
    CHECK(loader.next() == taken);
  }
}

TEST_CASE("what making an item throws arrives with that item", "[train][loader]") {
  const std::int64_t threads = GENERATE(0, 1, 4);
  const bool at_once = GENERATE(false, true);
  const auto checked = [](std::int64_t number) {
    rino::require(number % 3 != 2, "item ", number, " is bad");
    return number;
  };
  rino::Loader<std::int64_t> loader(
      [&](std::int64_t number) -> rino::Loader<std::int64_t>::Work {
        if (at_once) {
          return [item = checked(number)] { return item; };
        }
        return [number, checked] { return checked(number); };
      },
      0, 6, threads);
  for (std::int64_t number = 0; number < 6; ++number) {
    if (number % 3 == 2) {
      CHECK(error_of([&] { loader.next(); }) == "item " + std::to_string(number) + " is bad");
    } else {
      CHECK(loader.next() == number);
    }
  }
}

TEST_CASE("a loader with work pending ends without making the rest", "[train][loader]") {
  std::atomic<std::int64_t> begun{0};
  const auto start = std::chrono::steady_clock::now();
  {
    rino::Loader<std::int64_t> loader(
        [&](std::int64_t number) {
          ++begun;
          return [number] {
            std::this_thread::sleep_for(5ms);
            return number;
          };
        },
        0, 100000, 2, 2000);
    loader.next();
  }
  CHECK(std::chrono::steady_clock::now() - start < 5s);
  CHECK(begun < 1000);
  for (int round = 0; round < 200; ++round) {
    // Ends at any moment: before its threads have begun, with the queue full, with items never asked for.
    rino::Loader<std::int64_t> loader([](std::int64_t number) { return [number] { return number; }; }, 0, 10, 3, 2);
    if (round % 2 == 1) {
      loader.next();
    }
  }
}

TEST_CASE("a loader refuses negative threads and an empty queue", "[train][loader]") {
  const auto make = [](std::int64_t number) { return [number] { return number; }; };
  CHECK(says(error_of([&] { rino::Loader<std::int64_t>(make, 0, 1, -1); }), "loader_threads is -1"));
  CHECK(says(error_of([&] { rino::Loader<std::int64_t>(make, 0, 1, 1, 0); }), "1 or more"));
}

TEST_CASE("the trainer trains a method that knows nothing of teachers or views", "[train][trainer]") {
  const auto record = std::make_shared<MeanRegression::Record>();
  rino::AdamWOptions optimizer;
  optimizer.lr = 0.05;
  Trainer trainer(std::make_shared<MeanRegression>(record), some_jets(64), optimizer, short_run(40, 16));
  const double first = trainer.step().loss;
  double last = first;
  while (!trainer.done()) {
    const rino::StepReport report = trainer.step();
    CHECK(report.metrics.empty());
    last = report.loss;
  }
  CHECK(last < first / 10);
  CHECK(trainer.best_loss() < first / 10);
  CHECK_FALSE(record->released);
  trainer.finish();
  CHECK(record->released);
  CHECK(dynamic_cast<MeanRegression&>(trainer.method()).layer->weight.storage().nbytes() == 11 * sizeof(float));
}

TEST_CASE("every epoch shows each jet once, in an order of its own, and leaves out what fills no batch",
          "[train][trainer]") {
  const auto record = std::make_shared<MeanRegression::Record>();
  const Jets<double> jets = some_jets(26);
  Trainer trainer(std::make_shared<MeanRegression>(record), jets, {}, short_run(5, 8, 2), at::kCPU, at::kDouble);
  CHECK(trainer.steps_per_epoch() == 3);
  CHECK(trainer.steps() == 15);
  CHECK(trainer.batch_size() == 8);
  while (!trainer.done()) {
    trainer.step();
  }
  std::set<double> known;
  const std::vector<Jets<double>> itself{jets};
  const at::Tensor features = rino::tokenize<double>(jets, std::span(itself), {}).jet_features;
  for (std::int64_t j = 0; j < jets.size(); ++j) {
    known.insert(features[j][1].item<double>());  // log pT
  }
  REQUIRE(known.size() == 26);
  std::set<std::vector<double>> orders;
  std::set<double> shown;
  for (std::size_t epoch = 0; epoch < 5; ++epoch) {
    std::vector<double> order;
    for (std::size_t step = 3 * epoch; step < 3 * epoch + 3; ++step) {
      order.insert(order.end(), record->jets[step].begin(), record->jets[step].end());
    }
    CHECK(order.size() == 24);
    CHECK(std::set<double>(order.begin(), order.end()).size() == 24);
    shown.insert(order.begin(), order.end());
    orders.insert(order);
  }
  CHECK(orders.size() == 5);
  CHECK(shown == known);
}

TEST_CASE("jets in memory come in a new order every pass, from any place again", "[train][source]") {
  const Jets<double> jets = some_jets(26);
  rino::ShuffledJets<double> source(jets, 5);
  CHECK(source.size() == 26);
  std::vector<std::vector<double>> taken;
  std::vector<std::vector<std::int64_t>> places{source.position()};
  for (int batch = 0; batch < 9; ++batch) {
    const rino::JetBatch<double> next = source.next(8);
    CHECK(next.position == source.position());
    taken.push_back(log_pt(next.jets));
    places.push_back(next.position);
  }
  std::set<std::vector<double>> orders;
  for (std::size_t pass = 0; pass < 3; ++pass) {
    std::vector<double> order;
    for (std::size_t batch = 3 * pass; batch < 3 * pass + 3; ++batch) {
      order.insert(order.end(), taken[batch].begin(), taken[batch].end());
    }
    CHECK(std::set<double>(order.begin(), order.end()).size() == 24);
    orders.insert(order);
  }
  CHECK(orders.size() == 3);
  for (const std::size_t begin : {8, 0, 3, 5}) {
    rino::ShuffledJets<double> other(jets, 5);
    other.seek(places[begin]);
    CHECK(other.position() == places[begin]);
    for (std::size_t batch = begin; batch < 9; ++batch) {
      CHECK(log_pt(other.next(8).jets) == taken[batch]);
    }
  }
  // The whole at once is a pass; its end is a place.
  rino::ShuffledJets<double> whole(jets, 5);
  const std::vector<double> all = log_pt(whole.next(26).jets);
  CHECK(std::vector<double>(all.begin(), all.begin() + 8) == taken[0]);
  whole.seek(whole.position());
  CHECK(whole.position() == std::vector<std::int64_t>{0, 26});

  CHECK(says(error_of([&] { source.next(0); }), "0 jets were asked for, of 26"));
  CHECK(says(error_of([&] { source.next(27); }), "27 jets were asked for, of 26"));
  for (const std::vector<std::int64_t>& wrong :
       std::vector<std::vector<std::int64_t>>{{}, {0}, {-1, 0}, {0, -1}, {0, 27}, {0, 0, 0}}) {
    CHECK(says(error_of([&] { source.seek(wrong); }), "no such place"));
  }
}

TEST_CASE("fingerprints tell jets, their order and seeds apart", "[train][source]") {
  const Jets<double> jets = some_jets(26);
  const auto fingerprint = [](const Jets<double>& of, std::uint64_t seed) {
    return rino::ShuffledJets<double>(of, seed).fingerprint();
  };
  const std::vector<std::int64_t> mine = fingerprint(jets, 5);
  CHECK(fingerprint(some_jets(26), 5) == mine);
  CHECK_FALSE(fingerprint(jets, 6) == mine);
  CHECK_FALSE(fingerprint(jets.slice(0, 25), 5) == mine);
  std::vector<std::int64_t> backwards(26);
  std::iota(backwards.rbegin(), backwards.rend(), 0);
  CHECK_FALSE(fingerprint(jets.select(backwards), 5) == mine);
  // What training does not look at does not count.
  CHECK(fingerprint(jets.with_labels(std::vector<std::int64_t>(26, 1)), 5) == mine);
}

TEST_CASE("a trainer on shuffled jets is the trainer on jets", "[train][source]") {
  Distiller straight(small_method(), some_jets(), brisk(), short_run());
  Distiller other(small_method(), std::make_shared<rino::ShuffledJets<double>>(some_jets(), 5), brisk(), short_run());
  CHECK(run(straight, 12) == run(other, 12));
  CHECK(equal(straight.state(), other.state()));
  other.restore(straight.state());
}

TEST_CASE("a source of one's own is asked for one batch after the other, whatever the threads", "[train][source]") {
  const std::int64_t loader_threads = GENERATE(0, 1, 4);
  const auto record = std::make_shared<MeanRegression::Record>();
  const Jets<double> jets = some_jets(26);
  const auto source = std::make_shared<InOrder>(jets);
  Trainer trainer(std::make_shared<MeanRegression>(record), source, {}, short_run(5, 8, loader_threads), at::kCPU,
                  at::kDouble);
  CHECK(trainer.steps_per_epoch() == 3);
  const std::vector<double> known = log_pt(jets);
  for (std::size_t step = 0; step < 15; ++step) {
    trainer.step();
    std::vector<double> expected;
    for (std::size_t i = 0; i < 8; ++i) {
      expected.push_back(known[(8 * step + i) % 26]);
    }
    CHECK(record->jets.at(step) == expected);
  }
  trainer.finish();
  CHECK(source->seeks == 1);
}

TEST_CASE("a run on a source of one's own is stopped and resumed where it was, not where it had read ahead",
          "[train][source]") {
  const std::int64_t loader_threads = GENERATE(0, 3);
  Distiller straight(small_method(), std::make_shared<InOrder>(some_jets()), brisk(), short_run());
  const auto all = run(straight, 12);
  Distiller first(small_method(), std::make_shared<InOrder>(some_jets()), brisk(), short_run(4, 8, loader_threads));
  run(first, 5);
  const Safetensors checkpoint = first.state();
  CHECK(checkpoint.at("trainer.position").equal(at::tensor({-7, 40, 3}, at::kLong).unsqueeze(0)));
  Distiller second(small_method(9), std::make_shared<InOrder>(some_jets()), brisk(), short_run(4, 8, loader_threads));
  second.restore(checkpoint);
  CHECK(run(second, 7) == std::vector(all.begin() + 5, all.end()));
  CHECK(equal(second.state(), straight.state()));
  // A trainer on jets in memory has another fingerprint.
  Distiller foreign(small_method(), some_jets(), brisk(), short_run());
  CHECK(says(error_of([&] { foreign.restore(checkpoint); }), "other jets, batch size or seed"));
}

TEST_CASE("what a source throws arrives at its step, which can be tried again", "[train][source]") {
  const std::int64_t loader_threads = GENERATE(0, 1, 3);
  Distiller straight(small_method(), std::make_shared<InOrder>(some_jets()), brisk(), short_run());
  const auto all = run(straight, 12);
  const auto source = std::make_shared<InOrder>(some_jets());
  source->fails_at = 32;
  Distiller trainer(small_method(), source, brisk(), short_run(4, 8, loader_threads));
  CHECK(run(trainer, 4) == std::vector(all.begin(), all.begin() + 4));
  CHECK(error_of([&] { trainer.step(); }) == "the source fails at 32");
  CHECK(trainer.step_number() == 4);
  CHECK(run(trainer, 8) == std::vector(all.begin() + 4, all.end()));
}

TEST_CASE("a source of fewer than two jets is refused", "[train][source]") {
  CHECK(says(error_of([] {
               Trainer(std::make_shared<MeanRegression>(), std::make_shared<InOrder>(some_jets(1)), {}, short_run());
             }),
             "there are 1 jets to train on"));
}

TEST_CASE("reports carry step, epoch, learning rate and the best epoch", "[train][trainer]") {
  rino::AdamWOptions optimizer;
  optimizer.lr = 0.02;
  TrainingOptions options = short_run(5, 8);
  options.warmup = 0.2;
  options.warmup_start = 0.1;
  options.final_lr = 0.01;
  Trainer trainer(std::make_shared<MeanRegression>(), some_jets(24), optimizer, options);
  CHECK(trainer.best_epoch() == -1);
  CHECK(std::isinf(trainer.best_loss()));
  // 15 steps: three of warm-up, then half a cosine over twelve.
  const std::map<std::int64_t, double> expected{{0, 0.002}, {1, 0.008},       {2, 0.014},
                                                {3, 0.02},  {9, 0.01 * 1.01}, {15, 0.0002}};
  for (const auto& [step, lr] : expected) {
    CHECK(std::abs(trainer.learning_rate(step) - lr) < 1e-16);
  }
  double best = std::numeric_limits<double>::infinity();
  std::int64_t best_epoch = -1;
  for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
    double mean = 0.0;
    for (std::int64_t i = 0; i < 3; ++i) {
      CHECK(trainer.step_number() == 3 * epoch + i);
      const rino::StepReport report = trainer.step();
      CHECK(report.step == 3 * epoch + i);
      CHECK(std::abs(report.epoch - (static_cast<double>(epoch) + static_cast<double>(i) / 3)) < 1e-15);
      CHECK(report.lr == trainer.learning_rate(report.step));
      CHECK(report.gradient_norm > 0);
      CHECK(report.seconds >= report.waited);
      mean += report.loss;
    }
    mean /= 3;
    if (mean < best) {
      best = mean;
      best_epoch = epoch;
    }
    CHECK(std::abs(trainer.best_loss() - best) < 1e-15);
    CHECK(trainer.best_epoch() == best_epoch);
  }
  CHECK(says(error_of([&] { trainer.step(); }), "all 15 steps are done", "more epochs"));
}

TEST_CASE("a step whose loss is not finite changes nothing, is counted, and the run goes on", "[train][trainer]") {
  const std::int64_t loader_threads = GENERATE(0, 2);
  const auto record = std::make_shared<MeanRegression::Record>();
  record->not_a_number = {2, 3, 5};
  Trainer trainer(std::make_shared<MeanRegression>(record), some_jets(), brisk(), short_run(4, 8, loader_threads));
  CHECK_FALSE(trainer.step().skipped);
  trainer.step();
  const at::Tensor before = values_of(*trainer.method().trained().front().second).clone();
  const at::Tensor moments = trainer.state().at("adamw.mean");
  for (int step = 2; step < 4; ++step) {
    const rino::StepReport report = trainer.step();
    CHECK(report.skipped);
    CHECK(std::isnan(report.loss));
    CHECK(report.step == step);
    CHECK(values_of(*trainer.method().trained().front().second).equal(before));
  }
  CHECK(trainer.state().at("adamw.mean").equal(moments));
  CHECK(trainer.skipped() == 2);
  CHECK(trainer.best_epoch() == 0);
  CHECK_FALSE(trainer.step().skipped);
  CHECK_FALSE(values_of(*trainer.method().trained().front().second).equal(before));
  CHECK(trainer.step().skipped);  // the third in all, but not in a row
  CHECK_FALSE(trainer.step().skipped);
  CHECK(trainer.skipped() == 3);

  const Safetensors state = trainer.state();
  Trainer resumed(std::make_shared<MeanRegression>(), some_jets(), brisk(), short_run(4, 8, loader_threads));
  resumed.restore(state);
  CHECK(resumed.skipped() == 3);
}

TEST_CASE("the third step in a row whose loss is not finite ends the run and leaves its jets", "[train][trainer]") {
  const auto record = std::make_shared<MeanRegression::Record>();
  record->not_a_number = {1, 2, 3};
  Trainer trainer(std::make_shared<MeanRegression>(record), some_jets(), brisk(), short_run());
  for (int step = 0; step < 3; ++step) {
    trainer.step();
  }
  const Safetensors before = trainer.state();
  CHECK(says(error_of([&] { trainer.step(); }), "nan", "step 3", "last of 3 in a row", "learning rate"));
  CHECK(equal(trainer.state(), before));
  REQUIRE(trainer.batch().size() == 8);
  const std::vector<double> saved = log_pt(trainer.batch());
  for (std::size_t j = 0; j < saved.size(); ++j) {
    CHECK(std::abs(saved[j] - record->jets.back()[j]) < 1e-6);
  }
}

TEST_CASE("a batch in parts gives the gradient of the whole where jets do not know each other", "[train][trainer]") {
  const auto weights = [](std::int64_t parts) {
    TrainingOptions options = short_run(3, 12);
    options.accumulate = parts;
    Trainer trainer(std::make_shared<MeanRegression>(), some_jets(), brisk(), options, at::kCPU, at::kDouble);
    double loss = 0;
    while (!trainer.done()) {
      loss += trainer.step().loss;
    }
    return std::pair{values_of(*trainer.method().trained().front().second).clone(), loss};
  };
  const auto [whole, loss] = weights(1);
  for (const std::int64_t parts : {2, 3, 6}) {
    const auto [values, sum] = weights(parts);
    CHECK(largest_difference(values, whole) < 1e-12);
    CHECK(std::abs(sum - loss) < 1e-12);
  }
  TrainingOptions odd = short_run(3, 13);
  odd.accumulate = 2;
  CHECK(says(error_of([&] { Trainer(std::make_shared<MeanRegression>(), some_jets(), {}, odd); }), "batch_size is 13",
             "a multiple of 2"));
}

TEST_CASE("the average of the weights follows them with its momentum", "[train][trainer]") {
  TrainingOptions options = short_run();
  CHECK(Trainer(std::make_shared<MeanRegression>(), some_jets(), brisk(), options).average().empty());
  options.average = 0.8;
  Trainer trainer(std::make_shared<MeanRegression>(), some_jets(), brisk(), options, at::kCPU, at::kDouble);
  at::Tensor wanted = values_of(*trainer.method().trained().front().second).clone();
  const auto average = [](const auto& from) {
    std::vector<at::Tensor> pieces;
    for (const auto& [name, tensor] : from.average()) {
      pieces.push_back(tensor.reshape(-1));
    }
    return at::cat(pieces);
  };
  for (int step = 0; step < 5; ++step) {
    trainer.step();
    wanted = 0.8 * wanted + 0.2 * values_of(*trainer.method().trained().front().second);
  }
  CHECK(largest_difference(average(trainer), wanted) < 1e-14);
  CHECK(trainer.average().front().first == "layer.weight");
  Trainer resumed(std::make_shared<MeanRegression>(), some_jets(), brisk(), options, at::kCPU, at::kDouble);
  resumed.restore(trainer.state());
  CHECK(average(resumed).equal(average(trainer)));
  options.average = 1.0;
  CHECK(says(error_of([&] { Trainer(std::make_shared<MeanRegression>(), some_jets(), {}, options); }), "average is 1"));
}

TEST_CASE("every layer has its learning rate, and matrices alone decay where that is asked for", "[train][adamw]") {
  rino::JetEncoderOptions encoder = small_encoder(0.0);
  encoder.class_token = rino::ClassToken::learned;
  rino::EncoderWithHeads module(std::make_shared<rino::JetEncoderImpl>(encoder), small_head(), /*jets=*/true,
                                /*particles=*/true);
  rino::initialize(*module, 1);
  module->to(at::kDouble);
  const rino::FlatParameters flat(*module, /*trainable=*/true);
  const rino::Depths depths = rino::depths_of(module->networks());
  const std::vector<rino::ParameterGroup> groups = rino::parameter_groups(flat.parameters(), depths, 0.5, false);
  CHECK(rino::parameter_groups(flat.parameters(), depths, 1.0, true).size() == 1);

  // Without a gradient a step is the decay alone: values * (1 - lr * scale * decay).
  rino::AdamWOptions options;
  options.weight_decay = 0.1;
  options.layer_decay = 0.5;
  options.decay_all = false;
  const at::Tensor before = flat.values().clone().fill_(1.0);
  flat.values().fill_(1.0);
  rino::AdamW(flat, options, depths).step(0.2);
  std::map<std::string, double> scale;
  for (const auto& [name, tensor] : flat.parameters()) {
    const at::Tensor fall = (1.0 - tensor).reshape(-1) / (0.2 * 0.1);
    CHECK(fall.max().item<double>() - fall.min().item<double>() < 1e-12);
    scale[name] = fall[0].item<double>();
  }
  const auto is = [&](const std::string& name, double wanted) {
    INFO(name);
    CHECK(std::abs(scale.at(name) - wanted) < 1e-12);
  };
  is("encoder.embedding.weight", 0.125);
  is("encoder.blocks.0.attention.qkv.weight", 0.25);
  is("encoder.blocks.1.linear2.weight", 0.5);
  is("head.prototypes.weight", 1.0);
  is("particle_head.hidden.0.weight", 1.0);
  for (const char* const name : {"encoder.embedding.bias", "encoder.class_token.token", "encoder.blocks.0.norm1.weight",
                                 "encoder.blocks.1.linear1.bias", "encoder.norm.weight", "head.hidden.0.bias"}) {
    is(name, 0.0);
  }
  // The last norm has the rate of the last block, one layer below the heads.
  options.decay_all = true;
  flat.values().fill_(1.0);
  rino::AdamW(flat, options, depths).step(0.2);
  CHECK(std::abs((1.0 - module->named_parameters()["encoder.norm.weight"]).max().item<double>() / (0.2 * 0.1) - 0.5) <
        1e-12);
  std::int64_t covered = 0;
  for (const rino::ParameterGroup& group : groups) {
    CHECK(group.begin == covered);
    covered += group.size;
  }
  CHECK(covered == flat.values().numel());
}

TEST_CASE("AdamW with groups equals LibTorch's AdamW with the same groups", "[train][adamw]") {
  rino::JetEncoderOptions encoder = small_encoder(0.0);
  rino::EncoderWithHeads mine(std::make_shared<rino::JetEncoderImpl>(encoder), small_head(), /*jets=*/true,
                              /*particles=*/false);
  rino::initialize(*mine, 1);
  mine->to(at::kDouble);
  const auto theirs = std::dynamic_pointer_cast<rino::EncoderWithHeadsImpl>(mine->clone());
  rino::AdamWOptions options;
  options.lr = 0.01;
  options.weight_decay = 0.3;
  options.layer_decay = 0.7;
  options.decay_all = false;
  options.clip = 0.0;
  const rino::FlatParameters flat(*mine, /*trainable=*/true);
  rino::AdamW optimizer(flat, options, rino::depths_of(mine->networks()));
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (const rino::TensorSlot& slot : rino::tensor_slots(*theirs)) {
    // block 0 and 1 of two; what lies before them; the rest
    const double power = slot.name.starts_with("encoder.blocks.0")   ? 2.0
                         : slot.name.starts_with("encoder.blocks.1") ? 1.0
                         : slot.name.starts_with("encoder.norm")     ? 1.0
                         : slot.name.starts_with("encoder.embedding") || slot.name.starts_with("encoder.class_token")
                             ? 3.0
                             : 0.0;
    auto settings = std::make_unique<torch::optim::AdamWOptions>(0.01 * std::pow(0.7, power));
    settings->betas({options.beta1, options.beta2}).eps(options.eps);
    settings->weight_decay(slot.tensor().dim() > 1 ? 0.3 : 0.0);
    at::Tensor parameter = slot.tensor();
    groups.emplace_back(std::vector<at::Tensor>{parameter.requires_grad_()}, std::move(settings));
  }
  torch::optim::AdamW reference(groups);
  for (std::uint64_t step = 0; step < 4; ++step) {
    const at::Generator generator = rino::make_generator(at::kCPU, step);
    flat.gradients().normal_(0.0, 1.0, generator);
    std::int64_t begin = 0;
    for (const rino::TensorSlot& slot : rino::tensor_slots(*theirs)) {
      slot.tensor().mutable_grad() =
          flat.gradients().narrow(0, begin, slot.tensor().numel()).view(slot.tensor().sizes()).clone();
      begin += slot.tensor().numel();
    }
    optimizer.step(0.01);
    reference.step();
  }
  CHECK(largest_difference(values_of(*mine), values_of(*theirs)) < 1e-14);
}

TEST_CASE("what a loader thread throws arrives at the step it belongs to", "[train][trainer]") {
  const std::int64_t loader_threads = GENERATE(0, 2);
  const auto record = std::make_shared<MeanRegression::Record>();
  const auto healthy = std::make_shared<MeanRegression::Record>();
  record->no_views = 4;
  Trainer trainer(std::make_shared<MeanRegression>(record), some_jets(), brisk(), short_run(4, 8, loader_threads));
  Trainer other(std::make_shared<MeanRegression>(healthy), some_jets(), brisk(), short_run(4, 8, 0));
  for (int step = 0; step < 4; ++step) {
    trainer.step();
  }
  CHECK(error_of([&] { trainer.step(); }) == "no views for step 4");
  CHECK(trainer.step_number() == 4);
  trainer.step();
  for (int step = 0; step < 5; ++step) {
    other.step();
  }
  CHECK(record->jets == healthy->jets);
  CHECK(equal(trainer.state(), other.state()));
}

TEST_CASE("a thread that calls a trainer in which another one is gets an error, not a wait without end",
          "[train][trainer]") {
  const auto source = std::make_shared<InOrder>(some_jets());
  std::promise<void> inside;
  std::promise<void> done;
  std::once_flag first;
  source->before_next = [&] {
    std::call_once(first, [&] {
      inside.set_value();
      done.get_future().wait();
    });
  };
  Trainer trainer(std::make_shared<MeanRegression>(), source, {}, short_run(5, 8, /*loader_threads=*/0));
  const Safetensors before = trainer.state();
  std::thread other([&] { trainer.step(); });
  inside.get_future().wait();
  CHECK(says(error_of([&] { trainer.step(); }), "another thread", "one thread"));
  CHECK(says(error_of([&] { trainer.state(); }), "another thread"));
  CHECK(says(error_of([&] { trainer.restore(before); }), "another thread"));
  done.set_value();
  other.join();
  CHECK(trainer.step_number() == 1);
  trainer.step();
  CHECK(trainer.step_number() == 2);
}

TEST_CASE("finishing a trainer waits for another thread's step", "[train][trainer]") {
  const auto source = std::make_shared<InOrder>(some_jets());
  std::promise<void> inside;
  std::promise<void> done;
  std::once_flag first;
  source->before_next = [&] {
    std::call_once(first, [&] {
      inside.set_value();
      done.get_future().wait();
    });
  };
  Trainer trainer(std::make_shared<MeanRegression>(), source, {}, short_run(5, 8, /*loader_threads=*/0));
  std::atomic<bool> finished = false;
  std::thread stepping([&] { trainer.step(); });
  inside.get_future().wait();
  std::thread finishing([&] {
    trainer.finish();
    finished = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(!finished);
  done.set_value();
  stepping.join();
  finishing.join();
  CHECK(trainer.step_number() == 1);
  CHECK(says(error_of([&] { trainer.step(); }), "was finished"));
}

TEST_CASE("a small step takes one of LibTorch's threads and leaves them all as they were", "[train][trainer]") {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  const auto record = std::make_shared<MeanRegression::Record>();
  {
    Trainer trainer(std::make_shared<MeanRegression>(record), some_jets(), {}, short_run());
    trainer.step();
  }
  CHECK(record->threads == std::pair{1, 3});
  CHECK((at::get_num_threads() == 3 && rino::kernel_threads() == 3));
  {
    const rino::OneThread outer;
    {
      const rino::OneThread inner;
      CHECK((at::get_num_threads() == 1 && rino::kernel_threads() == 3));
    }
    CHECK((at::get_num_threads() == 1 && rino::kernel_threads() == 3));
    int elsewhere = 0;
    std::thread([&] { elsewhere = at::get_num_threads(); }).join();
    CHECK(elsewhere == 3);
  }
  {
    const rino::OneThread unwanted(false);
    CHECK((at::get_num_threads() == 3 && rino::kernel_threads() == 3));
  }
  CHECK(error_of([] {
          const rino::OneThread one_thread;
          rino::fail("left by an exception");
        }) == "left by an exception");
  CHECK((at::get_num_threads() == 3 && rino::kernel_threads() == 3));
  at::set_num_threads(before);
  // nano at batches of 1000 is a small step, base is not.
  CHECK((rino::OneThread::pays(57'000, 1000) && !rino::OneThread::pays(5'100'000, 1000)));
}

TEST_CASE("a finished trainer says so instead of going on", "[train][trainer]") {
  Trainer trainer(std::make_shared<MeanRegression>(), some_jets(), {}, short_run());
  trainer.step();
  const Safetensors state = trainer.state();
  trainer.finish();
  trainer.finish();
  CHECK(says(error_of([&] { trainer.step(); }), "was finished"));
  CHECK(says(error_of([&] { trainer.state(); }), "was finished"));
  CHECK(says(error_of([&] { trainer.restore(state); }), "was finished"));
}

TEST_CASE("the trainer refuses options and jets it cannot train with", "[train][trainer]") {
  const auto error = [](const auto& change, std::int64_t jets = 4) {
    TrainingOptions options;
    change(options);
    return error_of([&] { Trainer(std::make_shared<MeanRegression>(), some_jets(jets), {}, options); });
  };
  CHECK(error([](auto&) {}) == "(no error)");
  CHECK(says(error([](auto&) {}, 1), "1 jets", "two or more"));
  CHECK(says(error([](auto&) {}, 0), "0 jets"));
  CHECK(says(error([](auto& o) { o.epochs = 0; }), "epochs", "0"));
  CHECK(says(error([](auto& o) { o.batch_size = 1; }), "batch_size", "1"));
  CHECK(says(error([](auto& o) { o.warmup = 1.5; }), "1.5", "[0, 1]"));
  CHECK(says(error([](auto& o) { o.warmup_start = -1; }), "-1"));
  CHECK(says(error([](auto& o) { o.final_lr = -0.5; }), "-0.5"));
  Trainer small(std::make_shared<MeanRegression>(), some_jets(4), {}, short_run(2, 1000));
  CHECK(small.batch_size() == 4);
  CHECK(small.steps() == 2);
}

TEST_CASE("self-distillation's loss is that of its views taken one by one", "[train][distillation]") {
  // Unlike lengths within a view, dropout off; the student is moved so that it differs from its teacher.
  const auto assignment = GENERATE(rino::Assignment::sinkhorn, rino::Assignment::centering);
  rino::SelfDistillationOptions options;
  options.assignment = assignment;
  options.koleo = 0.3;
  SelfDistillation method(std::make_shared<rino::JetEncoderImpl>(small_encoder(0.0)), small_head(), drawn_views(),
                          options, 1);
  rino::initialize(*method.student(), 2);
  method.to(at::TensorOptions(at::kDouble));
  const Jets<double> jets = some_jets(10);
  const Step step{.number = 3, .steps_per_epoch = 5, .epochs = 8, .seed = 4};
  const std::vector<Resolution> resolutions = method.resolutions(step);
  REQUIRE(resolutions.size() == 4);
  const rino::ViewTokenizer tokenizer;
  const rino::StepLoss found = method.loss(method.prepare(jets, step), step);

  rino::EncoderWithHeads student = method.student();
  rino::EncoderWithHeads teacher = method.teacher();
  std::vector<at::Tensor> embeddings;
  std::vector<at::Tensor> student_scores;
  std::vector<at::Tensor> teacher_scores;
  for (const Resolution& resolution : resolutions) {
    const Tokens view = tokenizer.operator()<double>(jets, {resolution});
    embeddings.push_back(student->encoder->embed_jets(view));
    student_scores.push_back(student->head(embeddings.back()));
    teacher_scores.push_back(teacher->head(teacher->encoder->embed_jets(view)));
  }
  const double temperature = 0.055 - 0.015 * std::cos(std::acos(-1.0) * 3 / 8);  // step 3 of a rise in 8 of 40
  const at::Tensor scores = at::cat({teacher_scores[0], teacher_scores[1]}).detach();
  const at::Tensor assignments = assignment == rino::Assignment::sinkhorn ? rino::sinkhorn(scores, temperature)
                                                                          : (scores / temperature).softmax(1);
  at::Tensor dino = at::zeros({}, at::kDouble);
  for (std::int64_t t = 0; t < 2; ++t) {
    for (std::int64_t s = 0; s < 4; ++s) {
      if (s != t) {
        const at::Tensor log_p = (student_scores[static_cast<std::size_t>(s)] / 0.1).log_softmax(1);
        dino = dino - (assignments.narrow(0, 10 * t, 10) * log_p).sum(1).mean() / 6;
      }
    }
  }
  const at::Tensor koleo = (rino::koleo_loss(embeddings[0]) + rino::koleo_loss(embeddings[1])) / 2;
  CHECK(std::abs(found.loss.item<double>() - (dino + 0.3 * koleo).item<double>()) < 1e-12);

  std::map<std::string, double> metrics;
  for (const auto& [name, value] : found.metrics) {
    metrics[name] = value.item<double>();
  }
  const at::Tensor mean = assignments.mean(0);
  CHECK(std::abs(metrics.at("dino") - dino.item<double>()) < 1e-12);
  CHECK(std::abs(metrics.at("koleo") - koleo.item<double>()) < 1e-12);
  CHECK(std::abs(metrics.at("teacher_entropy") + (assignments * assignments.log()).sum(1).mean().item<double>()) <
        1e-12);
  CHECK(std::abs(metrics.at("prototype_entropy") + (mean * mean.log()).sum().item<double>()) < 1e-12);
  CHECK(std::abs(metrics.at("teacher_temperature") - temperature) < 1e-15);

  found.loss.backward();
  for (const at::Tensor& parameter : student->parameters()) {
    CHECK(parameter.grad().defined());
  }
  for (const at::Tensor& parameter : teacher->parameters()) {
    CHECK_FALSE(parameter.grad().defined());
  }
}

TEST_CASE("teacher and student start equal, and the teacher follows with its momentum", "[train][distillation]") {
  rino::SelfDistillationOptions options;
  options.assignment = rino::Assignment::centering;
  Distiller trainer(small_method(1, options), some_jets(), brisk(), short_run());
  const auto state = [&] { return trainer.method().state(); };
  const at::Tensor start = values_of(*distillation(trainer).student());
  CHECK(values_of(*distillation(trainer).teacher()).equal(start));
  CHECK_FALSE(distillation(trainer).teacher()->is_training());
  CHECK(distillation(trainer).student()->is_training());
  REQUIRE(state().front().first == "center");
  CHECK(state().front().second.eq(0).all().item<bool>());

  // The warm-up begins with a learning rate of 0, so the student moves in the second step.
  run(trainer, 2);
  const at::Tensor student = values_of(*distillation(trainer).student());
  CHECK(largest_difference(student, start) > 1e-4);
  const double momentum = distillation(trainer).momentum({.number = 1, .steps_per_epoch = 3, .epochs = 4, .seed = 5});
  const at::Tensor expected = momentum * start.to(at::kDouble) + (1 - momentum) * student.to(at::kDouble);
  CHECK(largest_difference(values_of(*distillation(trainer).teacher()), expected) < 1e-7);
  CHECK(state().front().second.abs().sum().item<double>() > 0);

  // From 0.992 on the first of 12 steps to 1 on the last; the temperature from 0.04 to 0.07 in a fifth of them.
  const auto at_step = [](std::int64_t step) { return Step{step, 3, 4, 5}; };
  const SelfDistillation& method = distillation(trainer);
  CHECK(std::abs(method.momentum(at_step(0)) - 0.992) < 1e-15);
  CHECK(std::abs(method.momentum(Step{5, 11, 1, 5}) - 0.996) < 1e-15);
  CHECK(method.momentum(at_step(11)) == 1.0);
  CHECK(std::abs(method.teacher_temperature(at_step(0)) - 0.04) < 1e-15);
  CHECK(std::abs(method.teacher_temperature(Step{1, 10, 1, 5}) - 0.055) < 1e-15);
  CHECK(method.teacher_temperature(at_step(3)) == 0.07);
}

TEST_CASE("training depends on the seed and not on loader threads or LibTorch's generator", "[train][distillation]") {
  const auto result = [](std::int64_t loader_threads, std::int64_t seed) {
    TrainingOptions options = short_run(2, 8, loader_threads);
    options.seed = seed;
    Distiller trainer(small_method(static_cast<std::uint64_t>(seed)), some_jets(), brisk(), options);
    auto told = run(trainer, 6);
    return std::pair{std::move(told), trainer.state()};
  };
  const at::Tensor before = global_state();
  const auto [told, state] = result(0, 5);
  CHECK(global_state().equal(before));
  at::rand({10});
  for (const std::int64_t loader_threads : {0, 1, 4}) {
    const auto [again, state_again] = result(loader_threads, 5);
    CHECK(again == told);
    CHECK(equal(state_again, state));
  }
  CHECK_FALSE(result(1, 6).first == told);
}

TEST_CASE("a run that was stopped and resumed equals one that never stopped, bit by bit", "[train][distillation]") {
  const auto assignment = GENERATE(rino::Assignment::sinkhorn, rino::Assignment::centering);
  rino::SelfDistillationOptions options;
  options.assignment = assignment;
  const Folder folder;
  const auto file = folder.path / "checkpoint.safetensors";
  Distiller straight(small_method(1, options), some_jets(), brisk(), short_run());
  const auto all = run(straight, 12);

  // Stopped in the middle of an epoch; who resumes brings other initial values and another number of threads.
  {
    Distiller first(small_method(1, options), some_jets(), brisk(), short_run());
    run(first, 4);
    first.save(file, {{"note", "step 4"}});
  }
  Distiller second(small_method(99, options), some_jets(), brisk(), short_run(4, 8, 3));
  const Safetensors checkpoint = rino::read_safetensors(file);
  CHECK(checkpoint.metadata.at("note") == "step 4");
  second.restore(checkpoint);
  CHECK(second.step_number() == 4);
  CHECK(run(second, 8) == std::vector(all.begin() + 4, all.end()));
  CHECK(equal(second.state(), straight.state()));
  CHECK(second.best_loss() == straight.best_loss());
  CHECK(second.best_epoch() == straight.best_epoch());

  // Back again, in the middle of a run.
  second.restore(checkpoint);
  CHECK(run(second, 8) == std::vector(all.begin() + 4, all.end()));
}

TEST_CASE("a checkpoint that does not fit is an error and changes nothing", "[train][distillation]") {
  Distiller trainer(small_method(), some_jets(), brisk(), short_run());
  run(trainer, 2);
  const Safetensors checkpoint = trainer.state();
  run(trainer, 3);
  const Safetensors before = trainer.state();
  const auto error = [&](const auto& change) {
    Safetensors changed = checkpoint;
    change(changed.tensors);
    return error_of([&] { trainer.restore(changed); });
  };
  const auto without = [](const std::string& name) {
    return [name](auto& tensors) { std::erase_if(tensors, [&](const auto& entry) { return entry.first == name; }); };
  };
  const auto replaced = [](const std::string& name, const at::Tensor& tensor) {
    return [name, tensor](auto& tensors) {
      for (auto& entry : tensors) {
        entry.second = entry.first == name ? tensor : entry.second;
      }
    };
  };
  CHECK(says(error(without("trained.encoder.norm.weight")), "'trained.encoder.norm.weight'", "another architecture"));
  CHECK(says(error(without("teacher.head.prototypes.weight")), "'teacher.head.prototypes.weight'"));
  CHECK(says(error(without("adamw.square")), "'adamw.square'"));
  CHECK(says(error(without("center")), "'center'"));
  CHECK(says(error(without("trainer.progress")), "no training state", "checkpoint"));
  CHECK(says(error(without("trainer.data")), "no training state"));
  CHECK(says(error(replaced("trained.encoder.norm.weight", at::zeros({9}))), "[9]", "[8]", "recipe"));
  CHECK(says(error(replaced("trainer.progress", at::zeros({2}, at::kDouble))), "'trainer.progress'", "[2]",
             "another version"));
  CHECK(says(error([](auto& tensors) { tensors.clear(); }), "another architecture"));

  // Other jets, another batch size, another seed.
  TrainingOptions other_seed = short_run();
  other_seed.seed = 6;
  for (const auto& foreign : {std::make_shared<Distiller>(small_method(), some_jets(25), brisk(), short_run()),
                              std::make_shared<Distiller>(small_method(), some_jets(), brisk(), short_run(4, 9)),
                              std::make_shared<Distiller>(small_method(), some_jets(), brisk(), other_seed)}) {
    CHECK(says(error_of([&] { trainer.restore(foreign->state()); }), "other jets, batch size or seed"));
  }
  CHECK(equal(trainer.state(), before));
  CHECK(trainer.step_number() == 5);
  trainer.restore(checkpoint);
  CHECK(trainer.step_number() == 2);
  CHECK(equal(trainer.state(), checkpoint));
}

TEST_CASE("the networks leave the trainer as ordinary modules with the values they have", "[train][distillation]") {
  const auto method = small_method();
  const rino::EncoderWithHeads student = method->student();
  at::Tensor trained;
  {
    Distiller trainer(method, some_jets(), brisk(), short_run());
    run(trainer, 2);
    trained = values_of(*student);
  }
  CHECK(values_of(*student).equal(trained));
  for (const at::Tensor& parameter : student->parameters()) {
    CHECK(parameter.storage().nbytes() == parameter.nbytes());
    CHECK(parameter.requires_grad());
  }
}

TEST_CASE("training runs in double precision", "[train][distillation]") {
  Distiller wide(small_method(), some_jets(), brisk(), short_run(1, 8), at::kCPU, at::kDouble);
  CHECK(std::isfinite(wide.step().loss));
  CHECK(wide.state().at("trained.encoder.norm.weight").scalar_type() == at::kDouble);
  CHECK(wide.state().at("center").scalar_type() == at::kDouble);
}

TEST_CASE("self-distillation refuses options that make no method", "[train][distillation]") {
  struct Parts {
    rino::ViewSetOptions views;
    rino::SelfDistillationOptions loss;
    rino::ProjectionHeadOptions head = small_head();
  };
  const auto error = [](const auto& change) {
    Parts parts;
    change(parts);
    return error_of([&] {
      SelfDistillation(std::make_shared<rino::JetEncoderImpl>(small_encoder()), parts.head, parts.views, parts.loss, 1);
    });
  };
  CHECK(error([](auto&) {}) == "(no error)");
  CHECK(says(error([](auto& p) { p.views.teacher.clear(); }), "teacher has no views"));
  CHECK(says(error([](auto& p) { p.views.student_drawn = 6; }), "student_drawn is 6 of 5"));
  CHECK(says(error([](auto& p) { p.views.student_drawn = -1; }), "student_drawn is -1"));
  CHECK(says(error([](auto& p) { p.views.student.push_back(rino::subjets(2)); }), "resolution 2", "teacher's"));
  CHECK(says(error([](auto& p) { p.views = {.teacher = {rino::subjets(2)}, .student = {}, .student_drawn = 0}; }),
             "give two"));
  CHECK(says(error([](auto& p) { p.loss.student_temperature = 0; }), "temperatures", "above 0"));
  CHECK(says(error([](auto& p) { p.loss.teacher_temperature_end = -1; }), "-1", "above 0"));
  CHECK(says(error([](auto& p) { p.loss.momentum_start = 1.5; }), "1.5", "[0, 1]"));
  CHECK(says(error([](auto& p) { p.head.prototypes = 1; }), "at least 2 prototypes"));
}

TEST_CASE("without drawing, every step has all views, the teacher's first", "[train][distillation]") {
  const SelfDistillation method(std::make_shared<rino::JetEncoderImpl>(small_encoder()), small_head(), {}, {}, 1);
  std::vector<std::string> names;
  for (const Resolution& resolution : method.resolutions({})) {
    names.push_back(resolution.name());
  }
  CHECK(names == std::vector<std::string>{"1", "2", "3", "4", "8", "16", "32", "64", "all"});
}

TEST_CASE("drawn views are the student's, differ from each other, and are uniform over the steps",
          "[train][distillation]") {
  const rino::ViewSetOptions views{.teacher = {rino::subjets(4)},
                                   .student = {rino::subjets(2), rino::subjets(3), rino::subjets(5), rino::subjets(6),
                                               rino::kt(5.0), rino::particles()},
                                   .student_drawn = 2};
  const SelfDistillation method(std::make_shared<rino::JetEncoderImpl>(small_encoder()), small_head(), views, {}, 1);
  const SelfDistillation other(std::make_shared<rino::JetEncoderImpl>(small_encoder()), small_head(), views, {}, 2);
  const auto drawn = [&](const SelfDistillation& from, std::int64_t step, std::uint64_t seed) {
    return from.resolutions({.number = step, .steps_per_epoch = 100, .epochs = 1000, .seed = seed});
  };
  constexpr std::int64_t steps = 30000;
  std::map<std::vector<Resolution>, double> counts;
  std::int64_t equal_to_next = 0;
  std::int64_t equal_to_other_seed = 0;
  bool lawful = true;
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::vector<Resolution> now = drawn(method, step, 7);
    lawful = lawful && now.size() == 3 && now[0] == rino::subjets(4) && now[1] != now[2] &&
             std::count(views.student.begin(), views.student.end(), now[1]) == 1 &&
             std::count(views.student.begin(), views.student.end(), now[2]) == 1 && drawn(other, step, 7) == now;
    ++counts[{now[1], now[2]}];
    equal_to_next += now == drawn(method, step + 1, 7) ? 1 : 0;
    equal_to_other_seed += now == drawn(method, step, 8) ? 1 : 0;
  }
  CHECK(lawful);
  // 30 ordered pairs, each 1000 times: chi square has 29 degrees of freedom, and is above 66 once in ten thousand.
  REQUIRE(counts.size() == 30);
  double chi_square = 0.0;
  for (const auto& [pair, count] : counts) {
    chi_square += (count - 1000) * (count - 1000) / 1000;
  }
  CHECK(chi_square < 66);
  // Neighbouring steps and seeds agree as often as independent draws: 1000 times, with deviation 31.
  CHECK(std::abs(static_cast<double>(equal_to_next) - 1000) < 5 * 31.1);
  CHECK(std::abs(static_cast<double>(equal_to_other_seed) - 1000) < 5 * 31.1);
}

namespace {

Jets<double> labelled_jets() {
  const Jets<double> jets = some_jets(24);
  std::vector<std::int64_t> labels(24);
  std::iota(labels.begin(), labels.end(), 0);
  return jets.with_labels(labels);
}

}  // namespace

TEST_CASE("a mean over unequal counts is the same in parts as in one", "[train][trainer]") {
  TrainingOptions options = short_run(2, 12);
  const auto losses = [&](std::int64_t parts) {
    options.accumulate = parts;
    Trainer trainer(std::make_shared<ConstituentMean>(), some_jets(24), brisk(), options, at::kCPU, at::kDouble);
    std::vector<double> told;
    while (!trainer.done()) {
      const rino::StepReport report = trainer.step();
      CHECK(report.metrics.front().second == report.loss);
      told.insert(told.end(), {report.loss, report.gradient_norm});
    }
    return told;
  };
  const std::vector<double> whole = losses(1);
  for (const std::int64_t parts : {2, 3}) {
    const std::vector<double> told = losses(parts);
    REQUIRE(told.size() == whole.size());
    for (std::size_t i = 0; i < told.size(); ++i) {
      CHECK(std::abs(told[i] - whole[i]) < 1e-10);
    }
  }
  const Step uncounted{.number = 0};
  CHECK(says(error_of([&] { uncounted.mean(at::ones({}), "jets"); }), "no count 'jets'", "Batch::counts"));
}

TEST_CASE("labels reach a method that asks for them, and only then", "[train][trainer]") {
  for (const bool wanted : {true, false}) {
    const auto method = std::make_shared<ConstituentMean>(wanted);
    Trainer trainer(method, labelled_jets(), brisk(), short_run(), at::kCPU, at::kDouble);
    trainer.step();
    REQUIRE(method->seen_labels.defined() == wanted);
    if (wanted) {
      const std::vector<std::int64_t>& labels = *trainer.batch().labels();
      CHECK(method->seen_labels.equal(at::tensor(labels, at::kLong)));
    }
  }
  TrainingOptions options = short_run();
  options.accumulate = 2;
  CHECK(says(error_of([&] { Trainer(std::make_shared<ConstituentMean>(true), labelled_jets(), {}, options); }),
             "accumulate is 2", "compares"));
}

TEST_CASE("weights reach a method where a column of them is named, and only then", "[train][trainer]") {
  std::vector<double> weights;
  for (int j = 0; j < 26; ++j) {
    weights.push_back(0.25 * j);
  }
  const Jets<double> jets = some_jets().with_value("w", weights).with_value("pt", std::vector<double>(26, 1.0));
  for (const bool named : {true, false}) {
    const auto method = std::make_shared<ConstituentMean>();
    TrainingOptions options = short_run();
    options.weight = named ? "w" : "";
    Trainer trainer(method, jets, brisk(), options, at::kCPU, at::kDouble);
    trainer.step();
    REQUIRE(method->seen_weights.defined() == named);
    if (named) {
      CHECK(method->seen_weights.equal(at::tensor(*trainer.batch().values().at("w"), at::kDouble)));
    }
  }
}

TEST_CASE("weights that cannot be are refused with the jet and its file", "[train][trainer]") {
  TrainingOptions options = short_run();
  options.weight = "w";
  const auto error = [&](const Jets<double>& jets, const std::shared_ptr<rino::Method>& method) {
    return error_of([&] { Trainer(method, jets, brisk(), options, at::kCPU, at::kDouble).step(); });
  };
  const auto weighed = [](double value, const Jets<double>& jets) {
    std::vector<double> weights(26, 1.0);
    weights[7] = value;
    return jets.with_value("w", weights);
  };
  const auto method = [] { return std::make_shared<ConstituentMean>(); };
  const std::vector<std::string> files{"a.root", "b.root"};
  std::vector<std::int64_t> entries(26);
  std::iota(entries.begin(), entries.end(), 100);
  const Jets<double> read = some_jets().with_origins(
      {std::make_shared<const std::vector<std::string>>(files), std::vector<std::int32_t>(26, 1), entries});
  CHECK(says(error(weighed(-0.5, some_jets()), method()), "training.weight: 'w' of jet 7 is -0.5"));
  CHECK(says(error(weighed(std::numeric_limits<double>::quiet_NaN(), read), method()), "'w' of b.root: jet 107 is nan",
             "0 or more"));
  CHECK(says(error(some_jets().with_value("tau", std::vector<double>(26)), method()), "training.weight is 'w'",
             "only: tau", "columns="));
  const std::vector<double> charges(static_cast<std::size_t>(some_jets().constituents()));
  CHECK(says(error(some_jets().with_extra("w", charges), method()), "column of the constituents"));
  CHECK(says(error(some_jets().with_value("w", std::vector<double>(26)), method()), "'w' of all jets of step 0 is 0"));
  CHECK(says(error(weighed(1.0, some_jets()), std::make_shared<MeanRegression>()), "training.weight is 'w'",
             "weighs no jets"));
}

TEST_CASE("jets are augmented before the method sees them, each by its own draws", "[train][trainer]") {
  const auto smear = rino::named_augmentation<double>({"smear constant=0.2"});
  TrainingOptions options = short_run();
  options.accumulate = GENERATE(1, 2);
  options.loader_threads = GENERATE(0, 2);
  const auto record = std::make_shared<MeanRegression::Record>();
  Trainer trainer(std::make_shared<MeanRegression>(record), some_jets(), brisk(), options, at::kCPU, at::kDouble, {},
                  smear);
  for (std::int64_t number = 0; number < 3; ++number) {
    trainer.step();
    const Step step{.number = number, .seed = static_cast<std::uint64_t>(options.seed)};
    std::vector<double> seen;
    for (std::size_t part = record->jets.size() - static_cast<std::size_t>(options.accumulate);
         part < record->jets.size(); ++part) {
      seen.insert(seen.end(), record->jets[part].begin(), record->jets[part].end());
    }
    CHECK(seen == log_pt(smear(trainer.batch(), step.draws("augmentation"))));
    CHECK(seen != log_pt(trainer.batch()));
  }
  const auto fewer = [](const Jets<double>& jets, const rino::Draws&) { return jets.slice(1, jets.size()); };
  CHECK(says(error_of([&] {
               Trainer(std::make_shared<MeanRegression>(), some_jets(), brisk(), short_run(), at::kCPU, at::kDouble, {},
                       fewer)
                   .step();
             }),
             "made 7 jets of 8"));
}

TEST_CASE("buffers of networks are in checkpoints and never in the flat buffer", "[train][trainer]") {
  const auto method = std::make_shared<ConstituentMean>();
  Trainer trainer(method, some_jets(), brisk(), short_run(), at::kCPU, at::kDouble);
  trainer.step();
  trainer.step();
  const Safetensors checkpoint = trainer.state();
  CHECK(checkpoint.at("trained.norm.num_batches_tracked").item<std::int64_t>() == 2);
  CHECK(checkpoint.at("trained.norm.running_mean").equal(method->norm->running_mean));
  CHECK(checkpoint.at("adamw.mean").numel() == 12 + 22);  // the weights of both layers alone
  trainer.step();
  const auto other = std::make_shared<ConstituentMean>();
  Trainer resumed(other, some_jets(), brisk(), short_run(), at::kCPU, at::kDouble);
  resumed.restore(checkpoint);
  CHECK(other->norm->running_mean.equal(checkpoint.at("trained.norm.running_mean")));
  resumed.step();
  CHECK(equal(resumed.state(), trainer.state()));
}

TEST_CASE("checkpoints that call the trained networks the student still resume", "[train][distillation]") {
  Distiller trainer(small_method(), some_jets(), brisk(), short_run());
  run(trainer, 2);
  Safetensors old = trainer.state();
  for (auto& [name, tensor] : old.tensors) {
    if (name.starts_with("trained.")) {
      name = "student." + name.substr(8);
    }
  }
  Distiller resumed(small_method(9), some_jets(), brisk(), short_run());
  resumed.restore(old);
  CHECK(run(resumed, 2) == run(trainer, 2));
  CHECK(equal(resumed.state(), trainer.state()));
}

TEST_CASE("a parameter exchanged in training is told, not trained without", "[train][trainer]") {
  const auto method = std::make_shared<ConstituentMean>();
  Trainer trainer(method, some_jets(), brisk(), short_run(), at::kCPU, at::kDouble);
  trainer.step();
  method->layer->zero_grad(/*set_to_none=*/true);
  CHECK(says(error_of([&] { trainer.step(); }), "gradient of 'layer.weight'", "in place"));
}

TEST_CASE("a loss that is no number with a gradient is refused", "[train][trainer]") {
  class Broken final : public rino::Method {
   public:
    explicit Broken(bool vector) : vector_(vector) {}
    rino::Batch prepare(const Jets<double>& /*jets*/, const Step& /*step*/) const override { return {}; }
    rino::StepLoss loss(const rino::Batch& batch, const Step& /*step*/) override {
      if (!vector_) {
        batch.of("subjets");
      }
      return {layer->weight.sum({1}), {}};
    }
    rino::Modules trained() const override { return {{"layer", layer.ptr()}}; }
    torch::nn::Linear layer{torch::nn::LinearOptions(2, 3)};

   private:
    bool vector_;
  };
  const auto error = [](bool vector) {
    return error_of([&] { Trainer(std::make_shared<Broken>(vector), some_jets(), {}, short_run()).step(); });
  };
  CHECK(says(error(true), "has shape [3]", "one number"));
  CHECK(says(error(false), "no tokens 'subjets'", "only: none"));
}

TEST_CASE("a step that is skipped changes no buffer", "[train][trainer]") {
  const auto method = std::make_shared<ConstituentMean>();
  Trainer trainer(method, some_jets(), brisk(), short_run(), at::kCPU, at::kDouble);
  trainer.step();
  const at::Tensor before = method->norm->running_mean.clone();
  method->factor = std::numeric_limits<double>::quiet_NaN();
  CHECK(trainer.step().skipped);
  CHECK(method->norm->running_mean.equal(before));
  CHECK(method->norm->num_batches_tracked.item<std::int64_t>() == 1);
  method->factor = 1.0;
  CHECK_FALSE(trainer.step().skipped);
  CHECK_FALSE(method->norm->running_mean.equal(before));
}

TEST_CASE("parts with other metrics than the first are refused", "[train][trainer]") {
  const auto method = std::make_shared<ConstituentMean>();
  method->more_from = 4;
  TrainingOptions options = short_run();
  options.accumulate = 2;
  Trainer trainer(method, some_jets(), brisk(), options, at::kCPU, at::kDouble);
  CHECK(says(error_of([&] { trainer.step(); }), "2 metrics for one part", "1 for another", "the same ones"));
}
