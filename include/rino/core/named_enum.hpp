#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <rino/core/error.hpp>

namespace rino {

/// The names of an enumeration's values as recipes and Python write them; specialised beside each enumeration
/// as an array of (value, name).
template <typename Enum>
inline constexpr int enum_names = 0;

template <typename Enum>
concept NamedEnum = requires { enum_names<Enum>.front().second; };

/// The name of a value.
template <NamedEnum Enum>
std::string to_string(Enum value) {
  for (const auto& [candidate, name] : enum_names<Enum>) {
    if (candidate == value) {
      return std::string(name);
    }
  }
  fail("an enumeration holds ", static_cast<int>(value), ", which has no name");
}

/// The value of a name; `what` says in the error what the name was meant for.
/// @throws rino::Error with the names that exist.
template <NamedEnum Enum>
Enum parse_enum(std::string_view text, std::string_view what) {
  std::string known;
  for (const auto& [value, name] : enum_names<Enum>) {
    if (name == text) {
      return value;
    }
    known += known.empty() ? "'" : ", '";
    known += name;
    known += "'";
  }
  fail(what, " is '", text, "': choose one of ", known);
}

}  // namespace rino
