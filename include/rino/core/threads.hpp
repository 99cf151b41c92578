#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include <ATen/Parallel.h>

namespace rino {

namespace detail {

/// The threads that LibTorch had before `OneThread` took them from it on this thread; 0: none was taken.
inline thread_local int kept_threads = 0;

}  // namespace detail

/// How many threads our own kernels may take.
inline int kernel_threads() {
  return detail::kept_threads > 0 ? detail::kept_threads : at::get_num_threads();
}

/// As long as it lives, LibTorch's own operations on this thread run on this thread alone, if asked for; our kernels
/// keep theirs (`kernel_threads`).
///
/// OpenMP's threads wait for each other by spinning, some hundred times a step. Where the operations between are small
/// that gains nothing, and beside another job on the same cores it costs up to ten times the step.
class OneThread {
 public:
  explicit OneThread(bool wanted = true) : before_(kernel_threads()), nested_(detail::kept_threads > 0) {
    active_ = wanted && !nested_ && before_ > 1;
    if (active_) {
      detail::kept_threads = before_;
      at::set_num_threads(1);
      // That also was the number with which other threads begin; set by one of them, it is theirs alone.
      std::thread([before = before_] { at::set_num_threads(before); }).join();
    }
  }

  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

  ~OneThread() {
    if (active_) {
      at::set_num_threads(before_);
      detail::kept_threads = 0;
    }
  }

  /// Whether a training step on so many jets of a network of so many parameters is one of small operations.
  static bool pays(std::int64_t parameters, std::int64_t jets) { return parameters * jets < limit; }

  /// Parameters times jets of a step, below which one thread is taken: up to there it was nowhere slower
  /// (benchmarks/threads.py), beyond it nothing is gained, and many cores would miss the others.
  static inline std::atomic<std::int64_t> limit = 200'000'000;

 private:
  int before_;
  bool nested_;
  bool active_ = false;
};

}  // namespace rino
