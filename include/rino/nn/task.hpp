#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>

namespace rino {

/// What a tagger learns: a label of two, a class of several, numbers.
enum class Task { binary, multiclass, regression };

template <>
inline constexpr std::array enum_names<Task> = {
    std::pair{Task::binary, std::string_view("binary")},
    std::pair{Task::multiclass, std::string_view("multiclass")},
    std::pair{Task::regression, std::string_view("regression")},
};

/// What the outputs of a tagger are.
struct TaskPlan {
  Task task = Task::binary;
  std::vector<std::int64_t> classes = {};  ///< of `multiclass`: the label of each output
  std::vector<std::string> targets = {};   ///< of `regression`: the column of each output

  std::int64_t outputs() const {
    return static_cast<std::int64_t>(task == Task::multiclass   ? classes.size()
                                     : task == Task::regression ? targets.size()
                                                                : 1);
  }

  /// @throws rino::Error for fewer than two classes, one that is there twice, or no target.
  void check() const {
    require(task != Task::multiclass || classes.size() >= 2, "there are ", classes.size(),
            " classes to tell apart: give two or more");
    for (std::size_t c = 0; c < classes.size(); ++c) {
      for (std::size_t other = 0; other < c; ++other) {
        require(classes[c] != classes[other], "the label ", classes[c], " is two classes: name each once");
      }
    }
    require(task != Task::regression || !targets.empty(),
            "finetune.targets names no column: name those with the numbers that are to be learned");
  }

  /// The output of every label, [n]. @throws rino::Error naming the first that is no class, and its jet.
  std::vector<std::int64_t> outputs_of(const std::vector<std::int64_t>& labels) const {
    std::vector<std::int64_t> found(labels.size());
    for (std::size_t j = 0; j < labels.size(); ++j) {
      std::size_t c = 0;
      while (c < classes.size() && classes[c] != labels[j]) {
        ++c;
      }
      require(c < classes.size(), "the label of jet ", j, " is ", labels[j],
              ", which is none of finetune.classes: add it, or leave such jets out");
      found[j] = static_cast<std::int64_t>(c);
    }
    return found;
  }

  /// What the head's outputs mean: [n] scores of label 1, [n, classes] probabilities, [n, targets] in their units.
  /// @param mean, deviation  of the targets, [targets].
  at::Tensor meaning(const at::Tensor& outputs, const at::Tensor& mean, const at::Tensor& deviation) const {
    switch (task) {
      case Task::multiclass:
        return at::softmax(outputs, -1);
      case Task::regression:
        return outputs * deviation + mean;
      default:
        return outputs.squeeze(-1).sigmoid();
    }
  }
};

}  // namespace rino
