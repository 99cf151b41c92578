#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>

/// The fields of the config structs, listed once: recipes (TOML), the command line's help, the printed tables and
/// Python's attributes are all made from these lists, so that a default lives in one place, its struct.
namespace rino {

/// One field of the config struct `Config`: its name, where it lies, its unit ("" where it has none), its meaning, and
/// where its default comes from: "" means the publication of the recipe that is looked at.
template <typename Config, typename Type>
struct Field {
  const char* name;
  Type Config::* member;
  const char* unit;
  const char* meaning;
  const char* source = "";
};

// Aggregates deduce their types by themselves only from clang 17 on.
template <typename Config, typename Type>
Field(const char*, Type Config::*, const char*, const char*, const char* = "") -> Field<Config, Type>;

/// The source of a default that no publication has.
inline constexpr const char* kOwnChoice = "own choice";

/// The source of the production recipe, and of the defaults of its parts in recipes that do not have them.
inline constexpr const char* kProductionSource = "public configuration of RINO's successor";

/// The source of a number that has none, and has to be given.
inline constexpr const char* kNoDefault = "no default";

/// What a field's value looks like outside C++: enumerations and resolutions travel by their names.
using FieldValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

/// How a type of field becomes a FieldValue and back; specialised for types that travel by name.
template <typename Type>
struct FieldCodec {
  static FieldValue encode(const Type& value) {
    if constexpr (NamedEnum<Type>) {
      return to_string(value);
    } else {
      return value;
    }
  }

  /// @param what  the field, for the error message.
  static Type decode(const FieldValue& value, const std::string& what) {
    if constexpr (NamedEnum<Type>) {
      if (const auto* text = std::get_if<std::string>(&value)) {
        return parse_enum<Type>(*text, what);
      }
      fail(what, " is not text: give one of its names");
    } else if constexpr (std::is_same_v<Type, double>) {
      if (const auto* whole = std::get_if<std::int64_t>(&value)) {
        return static_cast<double>(*whole);
      }
    }
    if constexpr (!NamedEnum<Type>) {
      if (const auto* same = std::get_if<Type>(&value)) {
        return *same;
      }
      fail(what, " has the wrong type: give ", expected());
    }
  }

  static const char* expected() {
    if constexpr (std::is_same_v<Type, bool>) {
      return "true or false";
    } else if constexpr (std::is_same_v<Type, std::int64_t>) {
      return "a whole number";
    } else if constexpr (std::is_same_v<Type, double>) {
      return "a number";
    } else if constexpr (std::is_same_v<Type, std::vector<std::string>>) {
      return "a list";
    } else {
      return "text";
    }
  }
};

/// Calls `visit(field)` for every field of a config struct.
template <typename Config, typename Visit>
void for_each_field(const Visit& visit) {
  std::apply([&](const auto&... field) { (visit(field), ...); }, Config::fields());
}

}  // namespace rino
