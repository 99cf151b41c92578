#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/methods/contrastive.hpp>
#include <rino/methods/self_distillation.hpp>
#include <rino/train/method_entry.hpp>

namespace rino {

/// All methods, and the only list of them: whatever asks for a method by its name, or for a preset by its, asks here.
class Registry {
 public:
  static const std::vector<MethodEntry>& methods() { return entries(); }

  /// The method of a name. @throws rino::Error with the names that there are.
  static const MethodEntry& method(std::string_view name) {
    for (const MethodEntry& entry : entries()) {
      if (entry.name == name) {
        return entry;
      }
    }
    fail("there is no method '", name, "': choose one of ", names_of(entries(), &MethodEntry::name));
  }

  /// The preset of a name, and its method. @throws rino::Error with the names that there are.
  static std::pair<const MethodEntry&, const Preset&> preset(std::string_view name) {
    std::string names;
    for (const MethodEntry& entry : entries()) {
      for (const Preset& preset : entry.presets) {
        if (preset.name == name) {
          return {entry, preset};
        }
        names += (names.empty() ? "" : ", ") + preset.name;
      }
    }
    fail("there is no recipe preset '", name, "': choose one of ", names);
  }

  /// Adds a method of a user's. Before anybody trains: it is not locked.
  /// @param replace  one of the same name that was added before, as a notebook's cell does that is run again.
  /// @throws rino::Error for a name, of method or preset, that there is, and for one that lacks a function.
  static void add(MethodEntry entry, bool replace = false) {
    require(entry.add_sections && entry.resolve && entry.make, "the method '", entry.name,
            "' lacks add_sections, resolve or make: give all three");
    if (replace) {
      std::erase_if(entries(), [&](const MethodEntry& known) { return known.added && known.name == entry.name; });
    }
    for (const MethodEntry& known : entries()) {
      require(known.name != entry.name, "there is a method '", entry.name, "' already: choose another name");
      for (const Preset& preset : known.presets) {
        require(std::none_of(entry.presets.begin(), entry.presets.end(),
                             [&](const Preset& mine) { return mine.name == preset.name; }),
                "there is a preset '", preset.name, "' already, of the method '", known.name, "': choose another name");
      }
    }
    entry.added = true;
    entries().push_back(std::move(entry));
  }

 private:
  static std::vector<MethodEntry>& entries() {
    static std::vector<MethodEntry> all{
        self_distillation_entry(),
        contrastive_entry(),
    };
    return all;
  }
};

}  // namespace rino
