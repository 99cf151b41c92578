#pragma once

// Catch2 version 3 where it is installed, else version 2 (Debian 12).
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

#include <rino/core/error.hpp>

/// What the rino::Error says that `action` throws; a text that no test expects if it throws none.
template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const rino::Error& error) {
    return error.what();
  }
  return "(no error)";
}

/// Whether `text` contains all `parts`.
template <typename... Parts>
bool says(const std::string& text, const Parts&... parts) {
  return ((text.find(parts) != std::string::npos) && ...);
}
