#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <rino/core/fields.hpp>
#include <rino/core/sections.hpp>
#include <rino/train/method.hpp>

namespace rino {

/// A recipe by its name: another one, or its method's defaults, and the numbers that differ.
struct Preset {
  std::string name;
  std::string base;  ///< a preset of the same method; "": the defaults
  std::string summary;
  std::string source;                                       ///< publication
  std::vector<std::pair<std::string, FieldValue>> numbers;  ///< by "section.name"
};

/// Numbers of a step that belong in one picture.
struct Chart {
  /// Each number's name in `StepReport::metrics`, and its words in the picture.
  using Lines = std::vector<std::pair<std::string, std::string>>;

  std::string title;
  Lines lines;
  bool prototypes = false;  ///< entropies of assignments to prototypes, in nats: their scale is ln K
  bool schedule = false;    ///< follows from the recipe, without noise
};

/// A sign that nothing is learned: the mean of a number over 50 steps, once training has had 200 steps at its peak
/// learning rate, is outside of bounds.
struct Sign {
  std::string metric;  ///< in `StepReport::metrics`
  std::string text;    ///< what it means and what helps
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

/// What a method says of itself: all that has to be known of it elsewhere. `methods/registry.hpp` has the list.
struct MethodEntry {
  std::string name;
  std::string summary;
  std::string source;  ///< publication of its defaults
  /// Adds the sections that it has beside "jets", "encoder", "optimizer" and "training", with its defaults.
  std::function<void(Sections&)> add_sections;
  /// Sets sizes that follow from other numbers, after each change of one.
  std::function<void(Sections&)> resolve;
  /// The method of a recipe, with new initial values.
  std::function<std::shared_ptr<Method>(const Sections&)> make;
  std::vector<Preset> presets;
  Chart::Lines parts = {};         ///< of the loss, which are drawn in its picture
  std::vector<Chart> charts = {};  ///< what else is drawn; numbers that a step does not report are left out
  Chart::Lines shown = {};         ///< what the progress bar shows beside the loss: numbers and short words
  std::vector<Sign> signs = {};    ///< of which a run warns
  bool added = false;              ///< by a user
};

}  // namespace rino
