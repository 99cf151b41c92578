#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace rino {

/// Bad input or a failed operation. The message names the value, the place and the remedy.
/// Python sees it as `pyrino.RinoError`, a `ValueError`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws `Error` with all arguments streamed into one message.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

/// Throws `Error` with the streamed message unless `condition` holds.
template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) {
    fail(parts...);
  }
}

}  // namespace rino
