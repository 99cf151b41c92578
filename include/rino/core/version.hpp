#pragma once

namespace rino {

/// The library's version, as in CMakeLists.txt and pyproject.toml.
inline constexpr const char* kVersion = "0.1.0";

}  // namespace rino
