#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include <rino/core/error.hpp>

namespace rino {

/// Calls `body(begin, end)` on contiguous ranges that together cover [0, count), on `threads` threads.
///
/// The ranges depend on `count` and `threads` only. The first exception of any range is rethrown here.
///
/// @throws rino::Error if `threads` is below 1.
template <typename Body>
void parallel_for(std::int64_t count, int threads, const Body& body) {
  require(threads >= 1, "threads is ", threads, ": give the number of threads, 1 or more");
  const std::int64_t workers = std::min<std::int64_t>(threads, count);
  if (workers <= 1) {
    if (count > 0) {
      body(std::int64_t{0}, count);
    }
    return;
  }
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(workers));
  {
    std::vector<std::jthread> pool;
    pool.reserve(static_cast<std::size_t>(workers));
    for (std::int64_t worker = 0; worker < workers; ++worker) {
      pool.emplace_back([&, worker] {
        try {
          body(count * worker / workers, count * (worker + 1) / workers);
        } catch (...) {
          errors[static_cast<std::size_t>(worker)] = std::current_exception();
        }
      });
    }
  }
  for (const std::exception_ptr& error : errors) {
    if (error) {
      std::rethrow_exception(error);
    }
  }
}

}  // namespace rino
