#pragma once

#include <barrier>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/ranks.hpp>

/// Ranks that are threads of this process: they put their tensors on a common table and meet at a barrier.
class ThreadRanks final : public rino::Communicator {
 public:
  struct Table {
    explicit Table(std::int64_t ranks) : tensors(static_cast<std::size_t>(ranks)), barrier(ranks) {}
    std::vector<at::Tensor> tensors;
    std::barrier<> barrier;
  };

  ThreadRanks(std::shared_ptr<Table> table, std::int64_t rank) : table_(std::move(table)), rank_(rank) {}

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return static_cast<std::int64_t>(table_->tensors.size()); }

  void sum(at::Tensor& tensor) const override { tensor.copy_(at::stack(exchange(tensor)).sum(0)); }
  void maximum(at::Tensor& tensor) const override { tensor.copy_(at::stack(exchange(tensor)).amax(0)); }
  at::Tensor gather(const at::Tensor& tensor) const override { return at::cat(exchange(tensor)); }

 private:
  std::vector<at::Tensor> exchange(const at::Tensor& tensor) const {
    const at::NoGradGuard no_grad;
    table_->tensors[static_cast<std::size_t>(rank_)] = tensor.detach().clone();
    table_->barrier.arrive_and_wait();
    std::vector<at::Tensor> all = table_->tensors;
    table_->barrier.arrive_and_wait();
    return all;
  }

  std::shared_ptr<Table> table_;
  std::int64_t rank_;
};

/// Calls `work(ranks)` on a thread for each of `count` ranks; rethrows the first rank's exception. A rank that throws
/// lets the others go on without it.
inline void on_ranks(std::int64_t count, const std::function<void(const rino::Ranks&)>& work) {
  const auto table = std::make_shared<ThreadRanks::Table>(count);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(count));
  {
    std::vector<std::jthread> threads;
    for (std::int64_t r = 0; r < count; ++r) {
      threads.emplace_back([&, r] {
        try {
          work(rino::Ranks(std::make_shared<const ThreadRanks>(table, r)));
        } catch (...) {
          errors[static_cast<std::size_t>(r)] = std::current_exception();
          table->barrier.arrive_and_drop();
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
