#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/recipe/recipe.hpp>

/// Recipes as TOML files, the same ones that Python reads and writes. Not part of `rino.hpp`: it needs toml++ (Debian's
/// `libtomlplusplus-dev`, https://marzer.github.io/tomlplusplus).
namespace rino {

namespace detail {

/// A value of a recipe. @throws rino::Error naming it, if a recipe has no such values.
inline FieldValue recipe_value(const toml::node& node, const std::string& what) {
  if (const auto flag = node.value_exact<bool>()) {
    return *flag;
  }
  if (const auto whole = node.value_exact<std::int64_t>()) {
    return *whole;
  }
  if (const auto number = node.value_exact<double>()) {
    return *number;
  }
  if (const auto text = node.value_exact<std::string>()) {
    return *text;
  }
  const toml::array* const list = node.as_array();
  require(list != nullptr, what, " is a date, a time or a table: give a number, text or list as the default is");
  std::vector<std::string> items;
  for (const toml::node& item : *list) {
    const auto whole = item.value_exact<std::int64_t>();
    const auto text = item.value_exact<std::string>();
    require(whole || text, what, " is a list with something else than whole numbers and text in it");
    items.push_back(whole ? std::to_string(*whole) : *text);
  }
  return items;
}

}  // namespace detail

/// A recipe of TOML text: `method` or `preset` above the sections, and below them what differs.
///
/// @param name  of the text, for errors.
/// @throws rino::Error if it is no TOML, of a later format, or names a method, preset, section or number that there is
///         not.
inline Recipe parse_recipe(std::string_view text, const std::string& name = "the recipe") {
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    fail(name, " is no TOML: ", error.description(), " (line ", error.source().begin.line, ")");
  }
  for (const char* const key : {"method", "preset"}) {
    require(!table.contains(key) || table[key].is_string(), name, ": ", key, " is not text: give a name");
  }
  require(!table.contains("format") || table["format"].is_integer(), name, ": format is not a whole number");
  const auto format = table["format"].value_or(std::int64_t{1});
  require(1 <= format && format <= Recipe::kFormat, name, ": the recipe's format is ", format,
          ": this version of rino knows up to ", Recipe::kFormat, "; update it");
  const auto method = table["method"].value<std::string>();
  const auto preset = table["preset"].value<std::string>();
  Recipe recipe = preset ? Recipe::preset(*preset) : method ? Recipe(*method) : Recipe();
  require(!method || *method == recipe.method(), name, ": the recipe's method is '", method.value_or(""),
          "' but its preset '", preset.value_or(""), "' is one of '", recipe.method(), "': name one of them");
  for (const auto& [key, node] : table) {
    const std::string section(key.str());
    if (section == "format" || section == "method" || section == "preset") {
      continue;
    }
    const toml::table* const numbers = node.as_table();
    require(numbers != nullptr, name, ": '", section, "' stands above all sections: write it below one");
    require(recipe.sections().contains(section), name, ": the recipe has no section '", section, "'");
    if (section == "encoder" && numbers->contains("kind")) {  // which says what numbers there are
      recipe.set(section, "kind", detail::recipe_value(*numbers->get("kind"), "encoder.kind"));
    }
    for (const auto& [number, value] :
         recipe.meant_before(section, [&](const std::string& wanted) { return numbers->contains(wanted); })) {
      recipe.set(section, number, value);
    }
    for (const auto& [number, value] : *numbers) {
      const std::string wanted(number.str());
      recipe.set(section, wanted, detail::recipe_value(value, section + "." + wanted));
    }
  }
  return recipe;
}

/// A recipe of a TOML file, as `Recipe.save` of Python writes it.
/// @throws rino::Error as `parse_recipe`, or if the file cannot be read.
inline Recipe read_recipe(const std::filesystem::path& path) {
  const std::ifstream file(path, std::ios::binary);
  // A folder opens, too, and is read as an empty file.
  require(file.good() && !std::filesystem::is_directory(path), "the recipe ", path.string(),
          " cannot be read: give a TOML file");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_recipe(text.str(), path.string());
}

}  // namespace rino
