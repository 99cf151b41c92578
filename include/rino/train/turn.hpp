#pragma once

#include <atomic>

#include <rino/core/error.hpp>

namespace rino {

/// A call that must be the only one: a second one would wait for jets that the first one takes.
class Turn {
 public:
  static constexpr bool wait = true;

  explicit Turn(std::atomic_flag& busy, bool waits = false) : busy_(busy) {
    while (busy_.test_and_set()) {
      require(waits, "the trainer is in another thread's step, save or restore: let one thread train it");
      busy_.wait(true);
    }
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    busy_.clear();
    busy_.notify_all();
  }

 private:
  std::atomic_flag& busy_;
};

}  // namespace rino
