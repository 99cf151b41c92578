#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/placement.hpp>
#include <rino/core/random.hpp>
#include <rino/core/ranks.hpp>
#include <rino/core/sections.hpp>
#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/gram.hpp>
#include <rino/losses/ibot.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/methods/encoder_with_heads.hpp>
#include <rino/methods/self_distillation_options.hpp>
#include <rino/methods/self_distillation_presets.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/encoders.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/module.hpp>
#include <rino/nn/precision.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/tokens/constituent_masks.hpp>
#include <rino/tokens/tokens.hpp>
#include <rino/train/method.hpp>
#include <rino/train/method_entry.hpp>
#include <rino/train/schedule.hpp>
#include <rino/train/teacher.hpp>
#include <rino/train/training_options.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// Self-distillation along the renormalisation-group flow: a student learns to assign every view of a jet to the
/// prototypes to which its teacher, a moving average of itself, assigned another view of the same jet; and, where
/// `ibot` is on, to assign constituents that are hidden from it to the prototypes to which the teacher, who sees them,
/// assigned them.
///
/// Under autocast (`TrainingOptions::precision`) it is the encoders that compute in bfloat16; heads, assignment and
/// losses stay in the type of the weights.
///
/// Source: arXiv:2509.07486, section 3; DINO, arXiv:2104.14294; iBOT, arXiv:2111.07832.
class SelfDistillation final : public Method {
 public:
  /// @param encoder  what student and teacher get copies of, with new initial values.
  /// @param seed     of these; teacher and student start equal.
  /// @throws rino::Error for options outside their ranges.
  SelfDistillation(const std::shared_ptr<Encoder>& encoder, const ProjectionHeadOptions& head, ViewSetOptions views,
                   const SelfDistillationOptions& options, std::uint64_t seed)
      : views_(std::move(views)), options_(options), student_(encoder, head, options.dino > 0, options.ibot > 0) {
    check(*encoder);
    initialize(*student_, seed);
    teacher_ = EncoderWithHeads(std::dynamic_pointer_cast<EncoderWithHeadsImpl>(student_->clone()));
    teacher_->eval();
    average_.emplace(student_->networks(), teacher_->networks());
    jets_.center = at::zeros({head.prototypes});
    particles_.center = at::zeros({head.prototypes});
    for (Targets* side : {&jets_, &particles_}) {
      side->next_center = side->center.clone();
    }
  }

  const EncoderWithHeads& student() const { return student_; }
  const EncoderWithHeads& teacher() const { return teacher_; }
  Modules trained() const override { return student_->networks(); }

  /// The teacher's encoder, the one to use, under its own name too, and the student's.
  Modules products() const override {
    return {{"encoder", teacher_->encoder->module()},
            {"teacher", teacher_->encoder->module()},
            {"student", student_->encoder->module()}};
  }

  /// Makes assignments, neighbours and centres those of the jets of all processes.
  void connect(const Ranks& ranks) override { ranks_ = ranks; }

  /// Tokens of `resolutions(step)` as "constituents"; where iBOT is on, the rows of the last view that the student does
  /// not see, int64 "masked", and how many of every jet that has some, int64 "masked_of_jet".
  Batch prepare(const Jets<double>& jets, const Step& step) const override {
    const std::vector<Resolution> wanted = resolutions(step);
    Batch batch = student_->encoder->inputs(jets, wanted, type());
    const Tokens& tokens = batch.of("constituents");
    if (options_.ibot > 0) {
      const ConstituentMasks masks =
          draw_masks(tokens.some_views(static_cast<std::int64_t>(wanted.size()) - 1, 1), options_.mask_fraction,
                     step.seed, static_cast<std::uint64_t>(step.number), step.first_jet);
      batch.tensors["masked"] = index_tensor(std::span<const std::int64_t>(masks.rows), at::kCPU);
      batch.tensors["masked_of_jet"] = index_tensor(std::span<const std::int64_t>(masks.counts), at::kCPU);
      batch.counts["masked_jets"] = static_cast<double>(masks.counts.size());
    }
    return batch;
  }

  /// The teacher's views, then the student's own of this step, all or as many as are drawn; last the particles, where
  /// they have a loss.
  std::vector<Resolution> resolutions(const Step& step) const {
    std::vector<Resolution> all;
    if (teacher_views() > 0) {
      all = views_.teacher;
    }
    const auto count = static_cast<std::int64_t>(views_.student.size());
    if (options_.dino > 0 && views_.student_drawn == 0) {
      all.insert(all.end(), views_.student.begin(), views_.student.end());
    } else if (options_.dino > 0) {
      Random random = views_.drawn_alike || ranks_.rank() == 0
                          ? Random{step.seed, purposes::kDrawnViews, static_cast<std::uint64_t>(step.number)}
                          : Random{step.seed, purposes::kDrawnViews, static_cast<std::uint64_t>(step.number),
                                   static_cast<std::uint64_t>(ranks_.rank())};
      for (const std::int64_t pick : random.permutation(count, views_.student_drawn)) {
        all.push_back(views_.student[static_cast<std::size_t>(pick)]);
      }
    }
    if (has_particles()) {
      all.push_back(particles());
    }
    return all;
  }

  double teacher_temperature(const Step& step) const {
    return cosine_schedule(options_.teacher_temperature_start, options_.teacher_temperature_end,
                           static_cast<double>(step.number),
                           options_.teacher_temperature_rise * static_cast<double>(step.steps()));
  }

  double momentum(const Step& step) const {
    return cosine_schedule(options_.momentum_start, options_.momentum_end, static_cast<double>(step.number),
                           static_cast<double>(step.steps() - 1));
  }

  /// Metrics, where they are on: dino, koleo, ibot, gram; teacher_entropy (mean over samples, nats), prototype_entropy
  /// (of the mean assignment, at most ln K), the same with particle_ for constituents; teacher_temperature,
  /// student_temperature, momentum.
  StepLoss loss(const Batch& batch, const Step& step) override {
    const Tokens& tokens = batch.of("constituents");
    const std::int64_t views = static_cast<std::int64_t>(tokens.view_sizes().size()) - (has_particles() ? 1 : 0);
    set_generator(*student_, make_generator(tokens.features.device(), step.dropout_seed()));
    StepLoss result{at::zeros({}, tokens.features.options()), {}};
    if (views > 0) {
      add_views(result, tokens.first_views(views), views, step);
    }
    if (has_particles()) {
      add_particles(result, tokens.some_views(views, 1), batch, step);
    }
    const auto number = [](double value) { return at::scalar_tensor(value, at::kDouble); };
    result.metrics.emplace_back("teacher_temperature", number(teacher_temperature(step)));
    result.metrics.emplace_back("student_temperature", number(options_.student_temperature));
    result.metrics.emplace_back("momentum", number(momentum(step)));
    return result;
  }

  /// Of the last step, where they are on: prototype_usage and particle_prototype_usage, mean assignments [K] that sum
  /// to 1, of all processes; embeddings [B, D], the teacher's of its first view.
  Metrics snapshot() const override {
    Metrics tensors;
    if (jets_.usage.defined()) {
      tensors.emplace_back("prototype_usage", jets_.usage);
    }
    if (particles_.usage.defined()) {
      tensors.emplace_back("particle_prototype_usage", particles_.usage);
    }
    if (embeddings_.defined()) {
      tensors.emplace_back("embeddings", embeddings_);
    }
    return tensors;
  }

  void to(const at::TensorOptions& options) override {
    Method::to(options);
    teacher_->to(options.device(), type());
    for (Targets* side : {&jets_, &particles_}) {
      side->center = side->center.to(options);
      side->next_center = side->center.clone();
    }
  }

  void start() override {
    student_->train();
    average_->start();
  }

  void after_step(const FlatParameters& trained, const Step& step) override {
    average_->update(trained, momentum(step));
    if (options_.assignment == Assignment::centering) {
      jets_.center.copy_(jets_.next_center);
      particles_.center.copy_(particles_.next_center);
    }
  }

  NamedTensors state() override {
    NamedTensors tensors{{"center", jets_.center}};
    if (student_->particles) {
      tensors.emplace_back("particle_center", particles_.center);
    }
    const NamedTensors teacher = average_->state();
    tensors.insert(tensors.end(), teacher.begin(), teacher.end());
    return tensors;
  }

  void release() override {
    average_->release();
    set_generator(*student_, std::nullopt);
  }

 private:
  /// How a teacher assigns to one head's prototypes.
  struct Targets {
    at::Tensor center;       ///< [K] mean of the teacher's scores so far
    at::Tensor next_center;  ///< [K], the same once the step is done
    at::Tensor usage;        ///< [K] mean assignment of the last step
  };

  void check(const Encoder& encoder) const {
    const SelfDistillationOptions& o = options_;
    require(o.dino >= 0 && o.ibot >= 0 && o.gram >= 0 && o.koleo >= 0, "the weights dino, ibot, gram and koleo are ",
            o.dino, ", ", o.ibot, ", ", o.gram, " and ", o.koleo, ": choose 0 for off or positive numbers");
    require(o.dino > 0 || o.ibot > 0, "neither dino nor ibot has a weight, so that nothing is learned: give one");
    require(o.mask_fraction > 0 && o.mask_fraction < 1, "mask_fraction is ", o.mask_fraction,
            ": choose a share above 0 and below 1");
    require(!views_.teacher.empty() || (o.dino == 0 && o.koleo == 0),
            "the teacher has no views: give at least one resolution");
    require(views_.student_drawn >= 0 && views_.student_drawn <= static_cast<std::int64_t>(views_.student.size()),
            "student_drawn is ", views_.student_drawn, " of ", views_.student.size(),
            " student views: choose 0 for all, or at most their number");
    for (const Resolution& resolution : views_.student) {
      for (const Resolution& other : views_.teacher) {
        require(!(resolution == other), "resolution ", resolution.name(),
                " is among the teacher's and the student's views: the student sees the teacher's anyway");
      }
    }
    require(o.dino == 0 || views_.teacher.size() + views_.student.size() > 1,
            "one view alone has nothing to agree with: give two");
    require(o.student_temperature > 0 && o.teacher_temperature_start > 0 && o.teacher_temperature_end > 0,
            "temperatures are ", o.student_temperature, ", ", o.teacher_temperature_start, " and ",
            o.teacher_temperature_end, ": choose them above 0");
    require(0 <= o.momentum_start && o.momentum_start <= 1 && 0 <= o.momentum_end && o.momentum_end <= 1,
            "the teacher's momentum is ", o.momentum_start, " to ", o.momentum_end, ": choose both in [0, 1]");
    require(0 <= o.teacher_temperature_rise && o.teacher_temperature_rise <= 1, "teacher_temperature_rise is ",
            o.teacher_temperature_rise, ": choose a share of the run in [0, 1]");
    require(o.dino > 0 || o.koleo > 0 || encoder.pools_constituents(),
            "without dino and koleo nothing trains the class token: choose pooling 'mean' or 'all'");
  }

  std::int64_t teacher_views() const {
    return options_.dino > 0 || options_.koleo > 0 ? static_cast<std::int64_t>(views_.teacher.size()) : 0;
  }

  bool has_particles() const { return options_.ibot > 0 || options_.gram > 0; }

  /// [S, D] -> [V, B, D], of the tokens' type.
  static at::Tensor by_view(const at::Tensor& x, const Tokens& tokens, std::int64_t views) {
    return x.to(tokens.features.scalar_type()).view({views, -1, x.size(1)});
  }

  /// The losses of whole jets, whose views all tokens are, the teacher's first.
  void add_views(StepLoss& result, const Tokens& tokens, std::int64_t views, const Step& step) {
    const std::int64_t teachers = teacher_views();
    at::Tensor assignments;
    {
      const at::NoGradGuard no_grad;
      const Tokens seen = tokens.first_views(teachers);
      const at::Tensor embeddings = by_view(teacher_->encoder->embed_jets(seen), seen, teachers);
      embeddings_ = embeddings[0];
      if (options_.dino > 0) {
        const Autocast off(Precision::float32, embeddings.device().type());
        assignments = assign(teacher_->head(embeddings).flatten(0, 1), jets_, step).view({teachers, -1, prototypes()});
      }
    }
    const at::Tensor embeddings = by_view(student_->encoder->embed_jets(tokens), tokens, views);
    // Scores are cosines that temperatures of some hundredths divide: two digits of bfloat16 are not enough from here.
    const Autocast off(Precision::float32, embeddings.device().type());
    if (options_.dino > 0) {
      add(result, "dino", options_.dino,
          dino_loss(assignments, student_->head(embeddings), options_.student_temperature));
    }
    if (options_.koleo > 0) {
      at::Tensor koleo = koleo_loss(embeddings[0], kKoleoEps, ranks_);
      for (std::int64_t t = 1; t < teachers; ++t) {
        koleo = koleo + koleo_loss(embeddings[t], kKoleoEps, ranks_);
      }
      add(result, "koleo", options_.koleo, koleo / static_cast<double>(teachers));
    }
    if (options_.dino > 0) {
      add_entropies(result, "", assignments.flatten(0, 1), jets_);
    }
  }

  /// The losses of constituents, which the tokens are: the teacher sees all, the student what is not masked.
  void add_particles(StepLoss& result, const Tokens& tokens, const Batch& batch, const Step& step) {
    const at::Device device = tokens.features.device();
    const auto type = tokens.features.scalar_type();
    const at::Tensor rows =
        options_.ibot > 0 ? batch.tensor("masked") : at::empty({0}, tokens.features.options().dtype(at::kLong));
    at::Tensor wanted;
    at::Tensor assignments;
    {
      const at::NoGradGuard no_grad;
      wanted = teacher_->encoder->forward(tokens).constituents.to(type);
      if (options_.ibot > 0) {
        const Autocast off(Precision::float32, device.type());
        assignments = assign(teacher_->particle_head(wanted.index_select(0, rows)), particles_, step);
      }
    }
    const at::Tensor found = student_->encoder->forward(with_masks(tokens, rows)).constituents.to(type);
    const Autocast off(Precision::float32, device.type());
    if (options_.ibot > 0) {
      const at::Tensor scores = student_->particle_head(found.index_select(0, rows));
      const at::Tensor& counts = batch.tensor("masked_of_jet");
      add(result, "ibot", options_.ibot,
          ibot_loss(assignments, scores, counts, options_.student_temperature, step.share("masked_jets")));
      add_entropies(result, "particle_", assignments, particles_);
    }
    if (options_.gram > 0) {
      std::vector<std::int64_t> lengths;
      for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
        lengths.push_back(tokens.length(s));
      }
      add(result, "gram", options_.gram, gram_loss(found, wanted, std::span<const std::int64_t>(lengths)));
    }
  }

  static void add(StepLoss& result, const char* name, double weight, const at::Tensor& loss) {
    result.loss = result.loss + weight * loss;
    result.metrics.emplace_back(name, loss.detach());
  }

  /// The teacher's probabilities [N, K] of its scores [N, K], with the samples of all processes.
  at::Tensor assign(const at::Tensor& scores, Targets& side, const Step& step) const {
    if (scores.size(0) == 0 && ranks_.alone()) {
      side.next_center.copy_(side.center);
      return scores;  // of jets of one constituent none is masked
    }
    if (options_.assignment == Assignment::sinkhorn) {
      return sinkhorn(scores, teacher_temperature(step), options_.sinkhorn_iterations, ranks_);
    }
    side.next_center.copy_(side.center);
    update_center(side.next_center, scores, options_.center_momentum, ranks_);
    return centered_assignment(scores, side.center, teacher_temperature(step));
  }

  void add_entropies(StepLoss& result, const std::string& whose, const at::Tensor& assignments, Targets& side) const {
    // Sums, not means: processes may have assigned different numbers of constituents.
    const at::Tensor sums =
        ranks_.sum(at::cat({assignments.sum(0), entropy(assignments).sum().reshape(1),
                            at::full({1}, static_cast<double>(assignments.size(0)), assignments.options())}));
    const std::int64_t k = prototypes();
    const at::Tensor samples = sums[k + 1].clamp_min(1.0);
    side.usage = sums.narrow(0, 0, k) / samples;
    result.metrics.emplace_back(whose + "teacher_entropy", sums[k] / samples);
    result.metrics.emplace_back(whose + "prototype_entropy", entropy(side.usage));
  }

  static at::Tensor entropy(const at::Tensor& probabilities) { return -probabilities.xlogy(probabilities).sum(-1); }

  std::int64_t prototypes() const { return student_->head_options.prototypes; }

  static constexpr double kKoleoEps = 1e-8;

  ViewSetOptions views_;
  SelfDistillationOptions options_;
  Ranks ranks_;
  EncoderWithHeads student_;
  EncoderWithHeads teacher_{nullptr};
  Targets jets_;
  Targets particles_;
  at::Tensor embeddings_;
  std::optional<Teacher> average_;
};

/// The method as the registry lists it.
inline MethodEntry self_distillation_entry() {
  MethodEntry entry;
  entry.name = "self-distillation";
  entry.summary = "a student assigns all views of a jet to the prototypes to which its teacher assigned other ones";
  entry.source = "arXiv:2509.07486";
  entry.add_sections = [](Sections& sections) {
    sections.add<ViewSetOptions>("views").add<ProjectionHeadOptions>("head").add<SelfDistillationOptions>("loss");
  };
  entry.resolve = [](Sections& sections) {
    sections.get<ProjectionHeadOptions>("head").inputs = encoder_outputs(sections);
  };
  entry.make = [](const Sections& sections) -> std::shared_ptr<Method> {
    return std::make_shared<SelfDistillation>(
        make_encoder(sections), sections.get<ProjectionHeadOptions>("head"), sections.get<ViewSetOptions>("views"),
        sections.get<SelfDistillationOptions>("loss"),
        static_cast<std::uint64_t>(sections.get<TrainingOptions>("training").seed));
  };
  entry.presets = self_distillation_presets();
  entry.parts = {{"dino", "cross-entropy"}, {"koleo", "KoLeo"}, {"ibot", "iBOT"}, {"gram", "Gram"}};
  entry.charts = {
      {.title = "teacher entropy [nats]",
       .lines = {{"teacher_entropy", "of one jet's assignment"}, {"prototype_entropy", "of the mean assignment"}},
       .prototypes = true},
      {.title = "teacher entropy, particles [nats]",
       .lines = {{"particle_teacher_entropy", "of one constituent's"},
                 {"particle_prototype_entropy", "of the mean assignment"}},
       .prototypes = true},
      {.title = "teacher momentum", .lines = {{"momentum", "momentum"}}, .schedule = true},
      {.title = "temperature",
       .lines = {{"teacher_temperature", "teacher"}, {"student_temperature", "student"}},
       .schedule = true},
  };
  return entry;
}

}  // namespace rino
