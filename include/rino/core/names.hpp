#pragma once

#include <functional>
#include <string>

namespace rino {

/// The names of a range's entries as errors list them: "a, b, c", or "none".
/// @param name  of an entry.
template <typename Range, typename Name>
std::string names_of(const Range& range, const Name& name) {
  std::string names;
  for (const auto& entry : range) {
    (names += names.empty() ? "" : ", ") += std::invoke(name, entry);
  }
  return names.empty() ? "none" : names;
}

/// Those of the keys of a map.
template <typename Map>
std::string keys_of(const Map& map) {
  return names_of(map, &Map::value_type::first);
}

}  // namespace rino
