#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

namespace rino::fused {

/// Memory that one step needs and the next one needs again: asking the system for it anew costs more than many a
/// kernel. What lies idle is at most what was once in use together.
class Workspace {
 public:
  /// Uninitialised memory of `bytes` or more.
  at::Tensor take(std::int64_t bytes) {
    const std::scoped_lock lock(mutex_);
    auto best = idle_.end();
    for (auto candidate = idle_.begin(); candidate != idle_.end(); ++candidate) {
      const bool fits = candidate->numel() >= bytes && candidate->numel() / 2 <= bytes;
      if (fits && (best == idle_.end() || candidate->numel() < best->numel())) {
        best = candidate;
      }
    }
    if (best == idle_.end()) {
      // A buffer that fits nobody any more makes room; an eighth more than asked for serves batches that vary.
      if (!idle_.empty()) {
        idle_.erase(idle_.begin());
      }
      return at::empty({bytes + bytes / 8}, at::kByte);
    }
    at::Tensor found = std::move(*best);
    idle_.erase(best);
    return found;
  }

  /// Takes memory back.
  void give(at::Tensor memory) {
    const std::scoped_lock lock(mutex_);
    idle_.push_back(std::move(memory));
  }

 private:
  std::mutex mutex_;
  std::vector<at::Tensor> idle_;
};

/// Memory of a workspace for `size` values of T, given back at the end.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::shared_ptr<Workspace> workspace, std::int64_t size)
      : workspace_(std::move(workspace)), memory_(workspace_->take(size * static_cast<std::int64_t>(sizeof(T)))) {}
  Buffer(Buffer&&) noexcept = default;
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(workspace_, other.workspace_);
    std::swap(memory_, other.memory_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (memory_.defined()) {
      workspace_->give(std::move(memory_));
    }
  }

  T* data() const { return static_cast<T*>(memory_.data_ptr()); }

 private:
  std::shared_ptr<Workspace> workspace_;
  at::Tensor memory_;
};

}  // namespace rino::fused
