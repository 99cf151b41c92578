#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/jets/toy_shower.hpp>
#include <rino/losses/centering.hpp>
#include <rino/losses/ibot.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/nt_xent.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/losses/supcon.hpp>
#include <rino/methods/self_distillation.hpp>
#include <rino/train/jet_source.hpp>
#include <rino/train/trainer.hpp>
#include <rino/views/transforms/named.hpp>

#include "catch.hpp"
#include "constituent_mean.hpp"
#include "numeric.hpp"
#include "thread_ranks.hpp"

namespace {

using rino::Jets;
using rino::Ranks;
using rino::SelfDistillation;
using Distiller = rino::Trainer;

/// What every rank makes of its part, one behind the other.
at::Tensor together(std::int64_t ranks, const std::function<at::Tensor(const Ranks&)>& work) {
  std::vector<at::Tensor> parts(static_cast<std::size_t>(ranks));
  on_ranks(ranks, [&](const Ranks& mine) { parts[static_cast<std::size_t>(mine.rank())] = work(mine); });
  return at::cat(parts);
}

Jets<double> some_jets() {
  return rino::toy_shower<double>({.jets = 38, .multiplicity_mean = 14.0}, 3);
}

/// The production recipe, small: every part that knows of other jets.
struct Small {
  rino::JetEncoderOptions encoder;
  rino::ProjectionHeadOptions head;
  rino::ViewSetOptions views{.teacher = {rino::subjets(2), rino::subjets(4)},
                             .student = {rino::subjets(1), rino::subjets(3), rino::particles()},
                             .student_drawn = 2};
  rino::SelfDistillationOptions loss;
  rino::AdamWOptions optimizer;
  rino::TrainingOptions training;

  Small() {
    encoder.width = 16;
    encoder.heads = 2;
    encoder.layers = 2;
    encoder.feedforward = 16;
    encoder.dropout = 0.0;
    encoder.class_token = rino::ClassToken::learned;
    head.inputs = 16;
    head.prototypes = 6;
    loss.ibot = 0.7;
    loss.gram = 0.3;
    loss.koleo = 0.4;
    optimizer.lr = 3e-3;
    optimizer.layer_decay = 0.9;
    optimizer.decay_all = false;
    training.batch_size = 12;
    training.epochs = 3;
    training.average = 0.9;
    training.seed = 5;
  }

  std::unique_ptr<Distiller> trainer(const Ranks& ranks = {}) const {
    return std::make_unique<Distiller>(
        std::make_shared<SelfDistillation>(std::make_shared<rino::JetEncoderImpl>(encoder), head, views, loss, 1),
        some_jets(), optimizer, training, at::kCPU, at::kDouble, ranks);
  }
};

using Told = std::vector<std::map<std::string, double>>;

Told run(Distiller& trainer, std::int64_t steps) {
  Told told;
  for (std::int64_t i = 0; i < steps && !trainer.done(); ++i) {
    const rino::StepReport report = trainer.step();
    told.push_back({{"loss", report.loss}, {"norm", report.gradient_norm}, {"lr", report.lr}});
    told.back().insert(report.metrics.begin(), report.metrics.end());
  }
  return told;
}

double difference(const Told& a, const Told& b) {
  REQUIRE(a.size() == b.size());
  double most = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].size() == b[i].size());
    for (const auto& [name, value] : a[i]) {
      most = std::max(most, std::abs(value - b[i].at(name)));
    }
  }
  return most;
}

double difference(const rino::Safetensors& a, const rino::Safetensors& b) {
  REQUIRE(a.tensors.size() == b.tensors.size());
  double most = 0.0;
  for (const auto& [name, tensor] : a.tensors) {
    if (name != "trainer.position") {
      most = std::max(most, largest_difference(tensor, b.at(name)));
    }
  }
  return most;
}

}  // namespace

TEST_CASE("one process alone has nobody to ask", "[ranks]") {
  const Ranks alone;
  const at::Tensor x = normal({3}, 1);
  CHECK(alone.alone());
  CHECK((alone.rank() == 0 && alone.size() == 1));
  for (const at::Tensor& same : {alone.sum(x), alone.mean(x), alone.maximum(x), alone.gather(x)}) {
    CHECK(same.is_same(x));
  }
}

TEST_CASE("ranks add, average, compare and gather", "[ranks]") {
  const at::Tensor x = normal({3, 4}, 1);
  const auto each = [&](const auto& work) {
    return together(3, [&](const Ranks& ranks) { return work(ranks, x[ranks.rank()]).unsqueeze(0); });
  };
  const auto same = [](const at::Tensor& found, const at::Tensor& wanted) {
    return largest_difference(found, wanted.expand({3, 4})) < 1e-15;
  };
  CHECK(same(each([](const Ranks& r, const at::Tensor& mine) { return r.sum(mine); }), x.sum(0)));
  CHECK(same(each([](const Ranks& r, const at::Tensor& mine) { return r.mean(mine); }), x.mean(0)));
  CHECK(same(each([](const Ranks& r, const at::Tensor& mine) { return r.maximum(mine); }), x.amax(0)));
  const at::Tensor all = together(3, [&](const Ranks& ranks) { return ranks.gather(x[ranks.rank()].unsqueeze(0)); });
  CHECK(all.equal(x.repeat({3, 1})));
}

TEST_CASE("gathered rows send their gradients home from all ranks", "[ranks]") {
  const at::Tensor x = normal({3, 2, 4}, 1);
  const at::Tensor weights = normal({3, 6, 4}, 2);
  const at::Tensor gradients = together(3, [&](const Ranks& ranks) {
    const at::Tensor mine = x[ranks.rank()].clone().requires_grad_();
    (ranks.gather(mine).square() * weights[ranks.rank()]).sum().backward();
    return mine.grad();
  });
  CHECK(largest_difference(gradients, 2.0 * x.view({6, 4}) * weights.sum(0)) < 1e-14);
}

TEST_CASE("Sinkhorn over ranks is Sinkhorn of all their samples", "[ranks][sinkhorn]") {
  // 4, 0 and 7 samples
  const at::Tensor scores = normal({11, 5}, 1);
  const std::vector<std::int64_t> first{0, 4, 4};
  const std::vector<std::int64_t> count{4, 0, 7};
  const auto found = [&](double temperature, std::int64_t iterations) {
    return together(3, [&](const Ranks& ranks) {
      const auto r = static_cast<std::size_t>(ranks.rank());
      return rino::sinkhorn(scores.narrow(0, first[r], count[r]), temperature, iterations, ranks);
    });
  };
  CHECK(largest_difference(found(0.05, 3), rino::sinkhorn(scores, 0.05, 3)) < 1e-13);
  CHECK(largest_difference(found(1e-4, 3), rino::sinkhorn(scores, 1e-4, 3)) < 1e-9);
  // both marginals in the end: rows of 1, prototypes of 11 / 5
  const at::Tensor settled = found(0.5, 200);
  CHECK(largest_difference(settled.sum(1), at::ones({11})) < 1e-12);
  CHECK(largest_difference(settled.sum(0), at::full({5}, 11.0 / 5.0, at::kDouble)) < 1e-9);
}

TEST_CASE("KoLeo over ranks looks for neighbours everywhere", "[ranks][koleo]") {
  const at::Tensor x = normal({8, 3}, 4);
  at::Tensor joint = x.clone().requires_grad_();
  const at::Tensor wanted = rino::koleo_loss(joint);
  wanted.backward();
  std::vector<at::Tensor> losses(4);
  const at::Tensor gradients = together(4, [&](const Ranks& ranks) {
    const at::Tensor mine = x.narrow(0, 2 * ranks.rank(), 2).clone().requires_grad_();
    const at::Tensor loss = rino::koleo_loss(mine, 1e-8, ranks);
    losses[static_cast<std::size_t>(ranks.rank())] = loss.detach();
    loss.backward();
    return mine.grad();
  });
  CHECK(largest_difference(at::stack(losses).mean(), wanted.detach()) < 1e-14);
  CHECK(largest_difference(gradients / 4.0, joint.grad()) < 1e-13);
}

TEST_CASE("centres and iBOT average over all ranks' samples and jets", "[ranks]") {
  const at::Tensor scores = normal({6, 4}, 1);
  const at::Tensor assignments = normal({6, 4}, 2).softmax(1);
  const std::vector<std::vector<std::int64_t>> counts{{3, 1}, {2}};
  at::Tensor wanted = at::ones({4}, at::kDouble);
  rino::update_center(wanted, scores, 0.8);
  const at::Tensor centers = together(2, [&](const Ranks& ranks) {
    at::Tensor center = at::ones({4}, at::kDouble);
    rino::update_center(center, scores.narrow(0, 4 * ranks.rank(), 4 - 2 * ranks.rank()), 0.8, ranks);
    return center.unsqueeze(0);
  });
  CHECK(largest_difference(centers, wanted.expand({2, 4})) < 1e-15);

  const at::Tensor losses = together(2, [&](const Ranks& ranks) {
    const std::int64_t first = 4 * ranks.rank();
    const std::int64_t rows = 4 - 2 * ranks.rank();
    return rino::ibot_loss(assignments.narrow(0, first, rows), scores.narrow(0, first, rows),
                           at::tensor(counts[static_cast<std::size_t>(ranks.rank())]), 0.2, /*jets=*/1.5)
        .unsqueeze(0);
  });
  const at::Tensor all = rino::ibot_loss(assignments, scores, at::tensor(std::vector<std::int64_t>{3, 1, 2}), 0.2);
  CHECK(largest_difference(losses.mean(), all) < 1e-14);
}

TEST_CASE("contrastive losses over ranks compare with the jets of all", "[ranks][contrastive]") {
  const at::Tensor a = normal({6, 3}, 4);
  const at::Tensor b = normal({6, 3}, 5);
  const at::Tensor labels = at::tensor(std::vector<std::int64_t>{0, 1, 0, 0, 2, 1});
  const at::Tensor weights = at::tensor(std::vector<double>{0.5, 3.0, 0.0, 1.0, 0.2, 7.0});
  // Of the second one label is that of one row alone, so that ranks have unequal numbers of rows that count.
  const auto loss = [&](const at::Tensor& one, const at::Tensor& other, const at::Tensor& label,
                        const at::Tensor& weight, int which, const Ranks& ranks) {
    switch (which) {
      case 0:
        return rino::nt_xent_loss(one, other, 0.2, ranks);
      case 1:
        return rino::supcon_loss(one, label, 0.2, ranks);
      case 2:
        return rino::supcon_loss(at::cat({one, other}), label.repeat({2}), 0.2, ranks);
      case 3:
        return rino::nt_xent_loss(one, other, 0.2, ranks, weight);
      default:
        return rino::supcon_loss(one, label, 0.2, ranks, weight);
    }
  };
  for (int which = 0; which < 5; ++which) {
    const at::Tensor whole_a = a.clone().requires_grad_();
    const at::Tensor whole_b = b.clone().requires_grad_();
    const at::Tensor wanted = loss(whole_a, whole_b, labels, weights, which, {});
    wanted.backward();
    for (const std::int64_t count : {2, 3}) {
      const std::int64_t rows = 6 / count;
      std::vector<at::Tensor> losses(static_cast<std::size_t>(count));
      const at::Tensor gradients = together(count, [&](const Ranks& ranks) {
        const std::int64_t first = rows * ranks.rank();
        const at::Tensor mine = a.narrow(0, first, rows).clone().requires_grad_();
        const at::Tensor theirs = b.narrow(0, first, rows).clone().requires_grad_();
        const at::Tensor found =
            loss(mine, theirs, labels.narrow(0, first, rows), weights.narrow(0, first, rows), which, ranks);
        losses[static_cast<std::size_t>(ranks.rank())] = found.detach();
        found.backward();
        return mine.grad();
      });
      INFO(which << " on " << count);
      CHECK(largest_difference(at::stack(losses).mean(), wanted.detach()) < 1e-13);
      CHECK(largest_difference(gradients / static_cast<double>(count), whole_a.grad()) < 1e-13);
    }
  }
}

TEST_CASE("a mean over unequal counts is the same on several ranks as on one", "[ranks][trainer]") {
  Small small;
  const auto told = [&](std::int64_t parts, const Ranks& ranks) {
    rino::TrainingOptions training = small.training;
    training.accumulate = parts;
    Distiller trainer(std::make_shared<ConstituentMean>(), some_jets(), small.optimizer, training, at::kCPU,
                      at::kDouble, ranks);
    return run(trainer, 6);
  };
  const Told alone = told(1, {});
  for (const std::int64_t parts : {1, 3}) {
    std::vector<Told> found(2);
    on_ranks(2, [&](const Ranks& ranks) { found[static_cast<std::size_t>(ranks.rank())] = told(parts, ranks); });
    CHECK(difference(found[0], alone) < 1e-10);
    CHECK(difference(found[1], alone) < 1e-10);
  }
}

TEST_CASE("a weighted mean is the same on several ranks and in parts as in one", "[ranks][trainer]") {
  Small small;
  small.training.weight = "w";
  std::vector<double> weights;
  for (int j = 0; j < 38; ++j) {
    weights.push_back(j % 5 == 0 ? 0.0 : 1e-3 * j * j);
  }
  const Jets<double> jets = some_jets().with_value("w", weights);
  const auto told = [&](std::int64_t parts, const Ranks& ranks) {
    rino::TrainingOptions training = small.training;
    training.accumulate = parts;
    Distiller trainer(std::make_shared<ConstituentMean>(), jets, small.optimizer, training, at::kCPU, at::kDouble,
                      ranks);
    return run(trainer, 9);
  };
  const Told alone = told(1, {});
  CHECK(difference(told(3, {}), alone) < 1e-10);
  for (const std::int64_t parts : {1, 3}) {
    std::vector<Told> found(2);
    on_ranks(2, [&](const Ranks& ranks) { found[static_cast<std::size_t>(ranks.rank())] = told(parts, ranks); });
    CHECK(difference(found[0], alone) < 1e-10);
    CHECK(difference(found[1], alone) < 1e-10);
  }
}

TEST_CASE("ranks and parts draw from an augmentation what one process would", "[ranks][trainer]") {
  Small small;
  const auto told = [&](std::int64_t parts, const Ranks& ranks) {
    rino::TrainingOptions training = small.training;
    training.accumulate = parts;
    Distiller trainer(std::make_shared<ConstituentMean>(), some_jets(), small.optimizer, training, at::kCPU,
                      at::kDouble, ranks, rino::named_augmentation<double>({"rotate", "smear constant=0.3"}));
    return run(trainer, 6);
  };
  const Told alone = told(1, {});
  for (const std::int64_t parts : {1, 3}) {
    std::vector<Told> found(2);
    on_ranks(2, [&](const Ranks& ranks) { found[static_cast<std::size_t>(ranks.rank())] = told(parts, ranks); });
    CHECK(difference(found[0], alone) < 1e-10);
    CHECK(difference(found[1], alone) < 1e-10);
  }
}

TEST_CASE("jets in memory on several ranks are those of one, batch by batch", "[ranks][source]") {
  rino::ShuffledJets<double> one(some_jets(), 3);
  std::vector<std::unique_ptr<rino::ShuffledJets<double>>> ranks;
  for (std::int64_t r = 0; r < 3; ++r) {
    ranks.push_back(std::make_unique<rino::ShuffledJets<double>>(some_jets(), 3, r, 3));
    CHECK(ranks.back()->size() == 12);
    CHECK(ranks.back()->fingerprint() == one.fingerprint());
  }
  for (int batch = 0; batch < 8; ++batch) {
    const rino::JetBatch<double> all = one.next(12);
    for (std::int64_t r = 0; r < 3; ++r) {
      const rino::JetBatch<double> mine = ranks[static_cast<std::size_t>(r)]->next(4);
      CHECK(mine.position == all.position);
      for (std::int64_t j = 0; j < 4; ++j) {
        CHECK(mine.jets.four_momentum(j) == all.jets.four_momentum(4 * r + j));
      }
    }
  }
  CHECK(says(error_of([] { rino::ShuffledJets<double>(some_jets(), 1, 3, 3); }), "3 of 3"));
}

TEST_CASE("ranks train as one process with the joint batch does", "[ranks][trainer]") {
  Small small;
  const std::int64_t ranks = GENERATE(2, 3);
  small.training.accumulate = GENERATE(1, 2);
  small.loss.assignment = GENERATE(rino::Assignment::sinkhorn, rino::Assignment::centering);
  const auto one = small.trainer();
  const Told wanted = run(*one, 100);
  const rino::Safetensors weights = one->state();
  std::mutex mutex;
  std::vector<Told> told;
  std::vector<rino::Safetensors> states;
  on_ranks(ranks, [&](const Ranks& mine) {
    const auto trainer = small.trainer(mine);
    Told said = run(*trainer, 100);
    rino::Safetensors state = trainer->state();
    const std::scoped_lock lock(mutex);
    told.push_back(std::move(said));
    states.push_back(std::move(state));
  });
  for (std::size_t r = 0; r < told.size(); ++r) {
    CHECK(told[r].size() == 9);
    CHECK(told[r].front().contains("particle_teacher_entropy"));
    CHECK(difference(told[r], wanted) < 1e-10);
    CHECK(difference(states[r], weights) < 1e-10);
  }
}

TEST_CASE("a run goes on with another number of ranks", "[ranks][trainer]") {
  const Small small;
  const auto one = small.trainer();
  const Told wanted = run(*one, 100);
  rino::Safetensors middle;
  on_ranks(2, [&](const Ranks& mine) {
    const auto trainer = small.trainer(mine);
    run(*trainer, 4);
    rino::Safetensors state = trainer->state();
    if (mine.rank() == 0) {
      middle = std::move(state);
    }
  });
  CHECK(middle.at("trainer.position").size(0) == 2);
  on_ranks(3, [&](const Ranks& mine) {
    const auto trainer = small.trainer(mine);
    trainer->restore(middle);
    const Told rest = run(*trainer, 100);
    if (mine.rank() == 0) {
      CHECK(difference(rest, Told(wanted.begin() + 4, wanted.end())) < 1e-10);
    }
  });
  const auto alone = small.trainer();
  alone->restore(middle);
  CHECK(difference(run(*alone, 100), Told(wanted.begin() + 4, wanted.end())) < 1e-10);
}

TEST_CASE("a batch in parts is the same on several ranks, part by part", "[ranks][source]") {
  rino::ShuffledJets<double> one(some_jets(), 3, 0, 1, 2);
  rino::ShuffledJets<double> first(some_jets(), 3, 0, 2, 2);
  rino::ShuffledJets<double> second(some_jets(), 3, 1, 2, 2);
  const Jets<double> all = one.next(12).jets;
  const Jets<double> a = first.next(6).jets;
  const Jets<double> b = second.next(6).jets;
  for (std::int64_t part = 0; part < 2; ++part) {
    for (std::int64_t j = 0; j < 3; ++j) {
      CHECK(a.four_momentum(3 * part + j) == all.four_momentum(6 * part + j));
      CHECK(b.four_momentum(3 * part + j) == all.four_momentum(6 * part + 3 + j));
    }
  }
  CHECK(says(error_of([&] { first.next(3); }), "3 jets", "2 equal parts"));
}

TEST_CASE("ranks may draw views of their own", "[ranks][distillation]") {
  Small small;
  const auto drawn = [&](bool alike) {
    small.views.drawn_alike = alike;
    std::mutex mutex;
    std::map<std::int64_t, std::vector<std::string>> views;
    on_ranks(3, [&](const Ranks& mine) {
      SelfDistillation method(std::make_shared<rino::JetEncoderImpl>(small.encoder), small.head, small.views,
                              small.loss, 1);
      method.connect(mine);
      std::vector<std::string> names;
      for (std::int64_t step = 0; step < 20; ++step) {
        for (const rino::Resolution& view : method.resolutions({.number = step, .steps_per_epoch = 20, .seed = 2})) {
          names.push_back(view.name());
        }
      }
      const std::scoped_lock lock(mutex);
      views[mine.rank()] = names;
    });
    return views;
  };
  const auto alike = drawn(true);
  const auto unlike = drawn(false);
  CHECK((alike.at(0) == alike.at(1) && alike.at(1) == alike.at(2)));
  CHECK(unlike.at(0) == alike.at(0));
  CHECK_FALSE(unlike.at(1) == unlike.at(0));
  CHECK_FALSE(unlike.at(2) == unlike.at(1));
  CHECK(drawn(false) == unlike);
  CHECK(unlike.at(1).size() == 100);  // two of the teacher, two drawn, the particles
}

TEST_CASE("ranks with different jets, recipes or batches that cannot be shared are refused", "[ranks][trainer]") {
  Small small;
  CHECK(says(error_of([&] {
               on_ranks(2, [&](const Ranks& mine) {
                 Small other = small;
                 other.training.seed = mine.rank();
                 other.trainer(mine);
               });
             }),
             "process 1 of 2", "other jets", "same files"));
  small.training.batch_size = 13;
  CHECK(says(error_of([&] { on_ranks(2, [&](const Ranks& mine) { small.trainer(mine); }); }), "batch_size is 13",
             "2 processes", "a multiple of 2"));
  small.training.batch_size = 12;
  small.training.accumulate = 4;
  CHECK(says(error_of([&] { on_ranks(2, [&](const Ranks& mine) { small.trainer(mine); }); }), "a multiple of 8"));
}
