#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>

namespace rino {

/// Makes items first, first+1, ... last-1 on threads of its own, ahead of the consumer, and hands them over in order.
///
/// An item is made in two parts: `begin(number)` takes from a stream what the item is made of, for one number after the
/// other, and what it returns does the work, for several items at a time. So the threads change the time and nothing
/// else.
template <typename Item>
class Loader {
 public:
  using Work = std::function<Item()>;
  using Begin = std::function<Work(std::int64_t)>;

  /// @param begin    called for the numbers in order, one call at a time, from any of the loader's threads.
  /// @param threads  0: items are made when they are asked for.
  /// @param ahead    at most this many items wait, so that memory stays bounded.
  /// @throws rino::Error for negative threads or ahead below 1.
  Loader(Begin begin, std::int64_t first, std::int64_t last, std::int64_t threads, std::int64_t ahead = 4)
      : begin_(std::move(begin)), wanted_(first), next_(first), last_(last), ahead_(ahead) {
    require(threads >= 0, "loader_threads is ", threads, ": choose 0 or more");
    require(ahead >= 1, "the loader's queue holds ", ahead, " items: choose 1 or more");
    for (std::int64_t t = 0; t < threads; ++t) {
      threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
  }

  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  ~Loader() {
    for (std::jthread& thread : threads_) {
      thread.request_stop();
    }
    changed_.notify_all();
  }

  /// Number of the next item.
  std::int64_t position() const { return wanted_; }

  /// The next item. Rethrows what was thrown while it was made; the one after is next then.
  Item next() {
    require(wanted_ < last_, "the loader has no item ", wanted_, ": it ends before ", last_);
    if (threads_.empty()) {
      return begin_(wanted_++)();
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ready_.contains(wanted_); });
    auto node = ready_.extract(wanted_++);
    lock.unlock();
    changed_.notify_all();
    if (node.mapped().error) {
      std::rethrow_exception(node.mapped().error);
    }
    return std::move(*node.mapped().item);
  }

 private:
  struct Slot {
    std::optional<Item> item;
    std::exception_ptr error;
  };

  void work(const std::stop_token& stop) {
    while (true) {
      std::int64_t number = 0;
      Slot slot;
      Work work;
      {
        const std::scoped_lock turn(begin_mutex_);
        {
          std::unique_lock lock(mutex_);
          const bool room = changed_.wait(lock, stop, [&] { return next_ < wanted_ + ahead_; });
          if (!room || stop.stop_requested() || next_ >= last_) {
            return;
          }
          number = next_++;
        }
        try {
          work = begin_(number);
        } catch (...) {
          slot.error = std::current_exception();
        }
      }
      try {
        if (work) {
          slot.item.emplace(work());
        }
      } catch (...) {
        slot.error = std::current_exception();
      }
      {
        const std::scoped_lock lock(mutex_);
        ready_.emplace(number, std::move(slot));
      }
      changed_.notify_all();
    }
  }

  Begin begin_;
  std::int64_t wanted_;
  std::int64_t next_;
  std::int64_t last_;
  std::int64_t ahead_;
  std::mutex begin_mutex_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::int64_t, Slot> ready_;
  std::vector<std::jthread> threads_;  // last, so that they end before what they use
};

}  // namespace rino
