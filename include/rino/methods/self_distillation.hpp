#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/core/random.hpp>
#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/module.hpp>
#include <rino/nn/precision.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/nn/tokens.hpp>
#include <rino/train/ema.hpp>
#include <rino/train/method.hpp>
#include <rino/train/schedule.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// How the teacher's scores become assignments.
enum class Assignment { sinkhorn, centering };

template <>
inline constexpr std::array enum_names<Assignment> = {
    std::pair{Assignment::sinkhorn, std::string_view("sinkhorn")},
    std::pair{Assignment::centering, std::string_view("centering")},
};

template <>
struct FieldCodec<std::vector<Resolution>> {
  static FieldValue encode(const std::vector<Resolution>& resolutions) {
    std::vector<std::string> names;
    for (const Resolution& resolution : resolutions) {
      names.push_back(resolution.name());
    }
    return names;
  }

  static std::vector<Resolution> decode(const FieldValue& value, const std::string& what) {
    const auto* names = std::get_if<std::vector<std::string>>(&value);
    require(names != nullptr, what, " is not a list: give resolutions, as in [1, 2, 8, \"all\"]");
    std::vector<Resolution> resolutions;
    for (const std::string& name : *names) {
      resolutions.push_back(Resolution::parse(name));
    }
    return resolutions;
  }
};

/// Which views teacher and student see; the defaults are the paper's.
struct ViewSetOptions {
  std::vector<Resolution> teacher{subjets(1), subjets(2), subjets(3), subjets(4)};
  std::vector<Resolution> student{subjets(8), subjets(16), subjets(32), subjets(64), particles()};
  std::int64_t student_drawn = 0;

  bool operator==(const ViewSetOptions&) const = default;

  static constexpr auto fields() {
    using Self = ViewSetOptions;
    return std::tuple{
        Field{"teacher", &Self::teacher, "", "resolutions that teacher and student see in every step"},
        Field{"student", &Self::student, "", "resolutions that only the student sees"},
        Field{"student_drawn", &Self::student_drawn, "", "how many of the latter are drawn for a step; 0: all"},
    };
  }
};

/// Temperatures, assignment, weights and the teacher's momentum; the defaults are the paper's.
struct SelfDistillationOptions {
  double student_temperature = 0.10;
  double teacher_temperature_start = 0.04;
  double teacher_temperature_end = 0.07;
  double teacher_temperature_rise = 0.2;
  Assignment assignment = Assignment::sinkhorn;
  std::int64_t sinkhorn_iterations = 3;
  double center_momentum = 0.9;
  double koleo = 1.0;
  double momentum_start = 0.992;
  double momentum_end = 1.0;

  bool operator==(const SelfDistillationOptions&) const = default;

  static constexpr auto fields() {
    using Self = SelfDistillationOptions;
    return std::tuple{
        Field{"student_temperature", &Self::student_temperature, "", "of the student's softmax"},
        Field{"teacher_temperature_start", &Self::teacher_temperature_start, "", "of the teacher's assignment"},
        Field{"teacher_temperature_end", &Self::teacher_temperature_end, "", "the same, later; cosine in between"},
        Field{"teacher_temperature_rise", &Self::teacher_temperature_rise, "", "share of the run in which it does so"},
        Field{"assignment", &Self::assignment, "", "'sinkhorn' or 'centering'"},
        Field{"sinkhorn_iterations", &Self::sinkhorn_iterations, "", "of Sinkhorn-Knopp"},
        Field{"center_momentum", &Self::center_momentum, "", "of the centre, where centering is chosen"},
        Field{"koleo", &Self::koleo, "", "weight of the KoLeo loss, the mean over the teacher's views; 0: off"},
        Field{"momentum_start", &Self::momentum_start, "", "of the teacher's moving average, first step"},
        Field{"momentum_end", &Self::momentum_end, "", "the same, last step; cosine in between"},
    };
  }
};

/// Encoder and projection head, one behind the other: what student and teacher are made of.
class EncoderWithHeadImpl : public torch::nn::Cloneable<EncoderWithHeadImpl> {
 public:
  EncoderWithHeadImpl(const JetEncoderOptions& encoder_options, ProjectionHeadOptions head_options)
      : encoder_options(encoder_options), head_options(head_options) {
    this->head_options.inputs = encoder_options.width;
    reset();
  }

  void reset() override {
    encoder = register_module("encoder", JetEncoder(encoder_options));
    head = register_module("head", ProjectionHead(head_options));
  }

  JetEncoderOptions encoder_options;
  ProjectionHeadOptions head_options;
  JetEncoder encoder{nullptr};
  ProjectionHead head{nullptr};
};

TORCH_MODULE(EncoderWithHead);

/// Self-distillation along the renormalisation-group flow: a student learns to assign every view of a jet to the
/// prototypes to which its teacher, a moving average of itself, assigned another view of the same jet.
///
/// Under autocast (`TrainingOptions::precision`) it is the encoders that compute in bfloat16; heads, assignment and
/// losses stay in the type of the weights.
///
/// Source: arXiv:2509.07486, section 3; DINO, arXiv:2104.14294. A model of the concept `Method`.
class SelfDistillation {
 public:
  /// @param seed  of the initial values; teacher and student start equal.
  /// @throws rino::Error for options outside their ranges.
  SelfDistillation(const JetEncoderOptions& encoder, const ProjectionHeadOptions& head, ViewSetOptions views,
                   const SelfDistillationOptions& options, std::uint64_t seed)
      : views_(std::move(views)), options_(options), student_(encoder, head) {
    require(!views_.teacher.empty(), "the teacher has no views: give at least one resolution");
    require(views_.student_drawn >= 0 && views_.student_drawn <= static_cast<std::int64_t>(views_.student.size()),
            "student_drawn is ", views_.student_drawn, " of ", views_.student.size(),
            " student views: choose 0 for all, or at most their number");
    for (const Resolution& resolution : views_.student) {
      for (const Resolution& other : views_.teacher) {
        require(!(resolution == other), "resolution ", resolution.name(),
                " is among the teacher's and the student's views: the student sees the teacher's anyway");
      }
    }
    require(views_.teacher.size() + views_.student.size() > 1, "one view alone has nothing to agree with: give two");
    require(
        options.student_temperature > 0 && options.teacher_temperature_start > 0 && options.teacher_temperature_end > 0,
        "temperatures are ", options.student_temperature, ", ", options.teacher_temperature_start, " and ",
        options.teacher_temperature_end, ": choose them above 0");
    require(0 <= options.momentum_start && options.momentum_start <= 1 && 0 <= options.momentum_end &&
                options.momentum_end <= 1,
            "the teacher's momentum is ", options.momentum_start, " to ", options.momentum_end,
            ": choose both in [0, 1]");
    initialize(*student_, seed);
    teacher_ = EncoderWithHead(std::dynamic_pointer_cast<EncoderWithHeadImpl>(student_->clone()));
    teacher_->eval();
    center_ = at::zeros({head.prototypes});
    next_center_ = center_.clone();
  }

  const EncoderWithHead& student() const { return student_; }
  const EncoderWithHead& teacher() const { return teacher_; }
  const torch::nn::Module& trained() const { return *student_; }

  /// The teacher's views, then the student's own of this step: all, or as many as are drawn.
  std::vector<Resolution> resolutions(const TrainingClock& clock) const {
    std::vector<Resolution> all = views_.teacher;
    const auto count = static_cast<std::int64_t>(views_.student.size());
    if (views_.student_drawn == 0) {
      all.insert(all.end(), views_.student.begin(), views_.student.end());
      return all;
    }
    Random random{clock.seed, kDrawnViews, static_cast<std::uint64_t>(clock.step)};
    for (const std::int64_t pick : random.permutation(count, views_.student_drawn)) {
      all.push_back(views_.student[static_cast<std::size_t>(pick)]);
    }
    return all;
  }

  double teacher_temperature(const TrainingClock& clock) const {
    return cosine_schedule(options_.teacher_temperature_start, options_.teacher_temperature_end,
                           static_cast<double>(clock.step),
                           options_.teacher_temperature_rise * static_cast<double>(clock.steps()));
  }

  double momentum(const TrainingClock& clock) const {
    return cosine_schedule(options_.momentum_start, options_.momentum_end, static_cast<double>(clock.step),
                           static_cast<double>(clock.steps() - 1));
  }

  /// Metrics: dino, koleo, teacher_entropy (mean over samples, nats), prototype_entropy (of the mean assignment, at
  /// most ln K), teacher_temperature, student_temperature, momentum.
  MethodLoss loss(const Tokens& tokens, const TrainingClock& clock) {
    const auto teachers = static_cast<std::int64_t>(views_.teacher.size());
    const std::vector<std::int64_t> sizes = tokens.view_sizes();
    const auto students = static_cast<std::int64_t>(sizes.size());
    set_generator(*student_,
                  make_generator(tokens.features.device(),
                                 Random{clock.seed, kDropout, static_cast<std::uint64_t>(clock.step)}.bits()));

    const at::Tensor assignments = assign(tokens.first_views(teachers), teachers, clock);

    const at::Tensor embeddings = by_view(student_->encoder->embed_jets(tokens), tokens, students);
    // Scores are cosines that temperatures of some hundredths divide: two digits of bfloat16 are not enough from here.
    const Autocast off(Precision::float32, embeddings.device().type());
    const at::Tensor scores = student_->head(embeddings);
    const at::Tensor dino = dino_loss(assignments, scores, options_.student_temperature);
    MethodLoss result{dino, {}};
    result.metrics.emplace_back("dino", dino.detach());
    if (options_.koleo > 0) {
      at::Tensor koleo = koleo_loss(embeddings[0]);
      for (std::int64_t t = 1; t < teachers; ++t) {
        koleo = koleo + koleo_loss(embeddings[t]);
      }
      koleo = koleo / static_cast<double>(teachers);
      result.loss = dino + options_.koleo * koleo;
      result.metrics.emplace_back("koleo", koleo.detach());
    }
    result.metrics.emplace_back("teacher_entropy", entropy(assignments).mean());
    result.metrics.emplace_back("prototype_entropy", entropy(assignments.flatten(0, 1).mean(0)));
    result.metrics.emplace_back("teacher_temperature", at::scalar_tensor(teacher_temperature(clock), at::kDouble));
    result.metrics.emplace_back("student_temperature", at::scalar_tensor(options_.student_temperature, at::kDouble));
    result.metrics.emplace_back("momentum", at::scalar_tensor(momentum(clock), at::kDouble));
    return result;
  }

  void to(const at::TensorOptions& options) {
    student_->to(options.device(), at::typeMetaToScalarType(options.dtype()));
    teacher_->to(options.device(), at::typeMetaToScalarType(options.dtype()));
    center_ = center_.to(options);
    next_center_ = center_.clone();
  }

  void start() {
    student_->train();
    flat_teacher_.emplace(*teacher_, /*trainable=*/false);
  }

  void after_step(const FlatParameters& student, const TrainingClock& clock) {
    ema_update(*flat_teacher_, student, momentum(clock));
    if (options_.assignment == Assignment::centering) {
      center_.copy_(next_center_);
    }
  }

  std::vector<std::pair<std::string, at::Tensor>> state() {
    std::vector<std::pair<std::string, at::Tensor>> tensors{{"center", center_}};
    for (const TensorSlot& slot : tensor_slots(*teacher_)) {
      tensors.emplace_back("teacher." + slot.name, slot.tensor());
    }
    return tensors;
  }

  void release() {
    if (flat_teacher_) {
      flat_teacher_->release();
      flat_teacher_.reset();
    }
    set_generator(*student_, std::nullopt);
  }

 private:
  // What random numbers are for, so that no two purposes share a sequence.
  static constexpr std::uint64_t kDrawnViews = 11;
  static constexpr std::uint64_t kDropout = 12;

  /// [S, D] in the tokens' order -> [V, B, D] in the order of views and jets, of the tokens' type.
  static at::Tensor by_view(const at::Tensor& x, const Tokens& tokens, std::int64_t views) {
    return x.index_select(0, tokens.rows_by_view()).to(tokens.features.scalar_type()).view({views, -1, x.size(1)});
  }

  /// The teacher's probabilities [T, B, K]: over all its views of the batch together.
  at::Tensor assign(const Tokens& tokens, std::int64_t teachers, const TrainingClock& clock) {
    const at::NoGradGuard no_grad;
    const at::Tensor embeddings = by_view(teacher_->encoder->embed_jets(tokens), tokens, teachers);
    const Autocast off(Precision::float32, embeddings.device().type());
    const at::Tensor scores = teacher_->head(embeddings).flatten(0, 1);
    at::Tensor assignments;
    if (options_.assignment == Assignment::sinkhorn) {
      assignments = sinkhorn(scores, teacher_temperature(clock), options_.sinkhorn_iterations);
    } else {
      assignments = centered_assignment(scores, center_, teacher_temperature(clock));
      next_center_.copy_(center_);
      update_center(next_center_, scores, options_.center_momentum);
    }
    return assignments.view({teachers, -1, assignments.size(1)});
  }

  static at::Tensor entropy(const at::Tensor& probabilities) { return -probabilities.xlogy(probabilities).sum(-1); }

  ViewSetOptions views_;
  SelfDistillationOptions options_;
  EncoderWithHead student_;
  EncoderWithHead teacher_{nullptr};
  at::Tensor center_;       ///< [K] mean of the teacher's scores so far
  at::Tensor next_center_;  ///< [K], the same once the step is done
  std::optional<FlatParameters> flat_teacher_;
};

static_assert(Method<SelfDistillation>);

}  // namespace rino
