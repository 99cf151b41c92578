#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/core/error.hpp>
#include <rino/nn/flat_parameters.hpp>

namespace rino {

/// Moves a teacher towards its student: teacher <- momentum * teacher + (1 - momentum) * student, all parameters at
/// once (mean teacher, arXiv:1703.01780).
inline void ema_update(const FlatParameters& teacher, const FlatParameters& student, double momentum) {
  const at::NoGradGuard no_grad;
  teacher.values().lerp_(student.values(), 1.0 - momentum);
}

/// Networks that follow others as a moving average of them, without a gradient and in evaluation mode; buffers, as a
/// batch norm's moving averages, are the student's. A part of methods that distil: they call `start`, `update` and
/// `release` in their own functions of these names, and add `state()` to theirs.
class Teacher {
 public:
  /// @param students  what is followed: all networks that are trained, in the same order.
  /// @param teachers  copies of them, equal at the start.
  /// @throws rino::Error if parameters differ in name or shape.
  Teacher(Modules students, Modules teachers) : students_(std::move(students)), teachers_(std::move(teachers)) {
    const NamedTensors theirs = parameters_of(students_);
    const NamedTensors mine = parameters_of(teachers_);
    require(theirs.size() == mine.size(), "the teacher has ", mine.size(), " parameters and the student ",
            theirs.size(), ": make it a copy");
    for (std::size_t i = 0; i < mine.size(); ++i) {
      require(mine[i].first == theirs[i].first && mine[i].second.sizes() == theirs[i].second.sizes(), "the teacher's '",
              mine[i].first, "' ", mine[i].second.sizes(), " is the student's '", theirs[i].first, "' ",
              theirs[i].second.sizes(), ": make it a copy");
    }
    for (const auto& [name, module] : teachers_) {
      module->eval();
    }
  }

  /// Copies of modules that know how to copy themselves (`torch::nn::Cloneable`).
  static Modules copies(const Modules& modules) {
    Modules copied;
    for (const auto& [name, module] : modules) {
      copied.emplace_back(name, module->clone());
    }
    return copied;
  }

  const Modules& modules() const { return teachers_; }

  /// Once the students' trained parameters lie in one buffer.
  void start() {
    const NamedTensors theirs = parameters_of(students_);
    const NamedTensors mine = parameters_of(teachers_);
    NamedTensors followed;  // what is frozen is equal already
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (theirs[i].second.requires_grad()) {
        followed.push_back(mine[i]);
      }
    }
    flat_.emplace(std::move(followed), /*trainable=*/false);
  }

  /// After a step.
  /// @param trained  the students' parameters.
  void update(const FlatParameters& trained, double momentum) {
    ema_update(*flat_, trained, momentum);
    const NamedTensors theirs = buffers_of(students_);
    const NamedTensors mine = buffers_of(teachers_);
    for (std::size_t i = 0; i < mine.size(); ++i) {
      mine[i].second.copy_(theirs[i].second);
    }
  }

  /// Parameters and buffers, "teacher.network.layer.name".
  NamedTensors state() const {
    NamedTensors tensors;
    for (const NamedTensors& some : {parameters_of(teachers_), buffers_of(teachers_)}) {
      for (const auto& [name, tensor] : some) {
        tensors.emplace_back("teacher." + name, tensor);
      }
    }
    return tensors;
  }

  void release() {
    if (flat_) {
      flat_->release();
      flat_.reset();
    }
  }

 private:
  Modules students_;
  Modules teachers_;
  std::optional<FlatParameters> flat_;
};

}  // namespace rino
