#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <rino/core/error.hpp>
#include <rino/core/ranks.hpp>

namespace rino {

/// Processes that talk through PyTorch's own engine, c10d: Gloo on CPUs, NCCL on CUDA devices.
///
/// Python makes the group (`torch.distributed.init_process_group`, as torchrun's processes do) and hands it over; a C++
/// program makes one of its own, such as `c10d::ProcessGroupGloo`. What fails there throws c10::Error.
class ProcessGroupRanks final : public Communicator {
 public:
  /// @throws rino::Error without a group.
  explicit ProcessGroupRanks(c10::intrusive_ptr<c10d::ProcessGroup> group) : group_(std::move(group)) {
    require(group_ != nullptr, "there is no process group: make one with torch.distributed.init_process_group");
  }

  std::int64_t rank() const override { return group_->getRank(); }
  std::int64_t size() const override { return group_->getSize(); }

  void sum(at::Tensor& tensor) const override { reduce(tensor, c10d::ReduceOp::SUM); }
  void maximum(at::Tensor& tensor) const override { reduce(tensor, c10d::ReduceOp::MAX); }

  at::Tensor gather(const at::Tensor& tensor) const override {
    std::vector<at::Tensor> mine{tensor};
    std::vector<std::vector<at::Tensor>> all(1);
    for (std::int64_t r = 0; r < size(); ++r) {
      all.front().push_back(at::empty_like(tensor));
    }
    group_->allgather(all, mine)->wait();
    return at::cat(all.front());
  }

 private:
  void reduce(at::Tensor& tensor, c10d::ReduceOp operation) const {
    std::vector<at::Tensor> tensors{tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = std::move(operation);
    group_->allreduce(tensors, options)->wait();
  }

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

/// Ranks that talk through a process group.
inline Ranks make_ranks(c10::intrusive_ptr<c10d::ProcessGroup> group) {
  return Ranks(std::make_shared<const ProcessGroupRanks>(std::move(group)));
}

}  // namespace rino
