#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

namespace rino {

/// The processes of a data-parallel run, and what they say to each other; `ProcessGroupRanks` does it by c10d.
///
/// All calls are collective: every process makes the same ones in the same order, with tensors of the same shapes (but
/// for the first dimension where it says so).
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;
  /// Replaces the tensor by its sum over all processes.
  virtual void sum(at::Tensor& tensor) const = 0;
  /// Replaces the tensor by its element-wise maximum over all processes.
  virtual void maximum(at::Tensor& tensor) const = 0;
  /// The tensors of all processes, one behind the other along the first dimension: equal shapes.
  virtual at::Tensor gather(const at::Tensor& tensor) const = 0;
};

/// The processes among which a step's batch is divided; one alone by default, for which nothing is done.
class Ranks {
 public:
  Ranks() = default;
  explicit Ranks(std::shared_ptr<const Communicator> communicator) : communicator_(std::move(communicator)) {}

  std::int64_t rank() const { return communicator_ ? communicator_->rank() : 0; }
  std::int64_t size() const { return communicator_ ? communicator_->size() : 1; }
  bool alone() const { return size() == 1; }

  /// The sum over all processes; no gradient.
  at::Tensor sum(const at::Tensor& tensor) const {
    return alone() ? tensor : reduced(tensor, [this](at::Tensor& copy) { communicator_->sum(copy); });
  }

  /// The mean over all processes; no gradient.
  at::Tensor mean(const at::Tensor& tensor) const {
    return alone() ? tensor : sum(tensor) / static_cast<double>(size());
  }

  /// The element-wise maximum over all processes; no gradient.
  at::Tensor maximum(const at::Tensor& tensor) const {
    return alone() ? tensor : reduced(tensor, [this](at::Tensor& copy) { communicator_->maximum(copy); });
  }

  /// Sums a tensor in place.
  void sum_(at::Tensor& tensor) const {
    if (!alone()) {
      communicator_->sum(tensor);
    }
  }

  /// The tensors of all processes, [n, ..] each, as [size * n, ..]. The gradient goes back to the process a row came
  /// from, summed over all that used it.
  at::Tensor gather(const at::Tensor& tensor) const { return alone() ? tensor : Gather::apply(tensor, communicator_); }

 private:
  template <typename Reduce>
  static at::Tensor reduced(const at::Tensor& tensor, const Reduce& reduce) {
    at::Tensor copy = tensor.detach().clone(at::MemoryFormat::Contiguous);
    reduce(copy);
    return copy;
  }

  /// What autograd keeps between the passes.
  struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<const Communicator> communicator) : communicator(std::move(communicator)) {}
    std::shared_ptr<const Communicator> communicator;
  };

  class Gather : public torch::autograd::Function<Gather> {
   public:
    static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& tensor,
                              const std::shared_ptr<const Communicator>& communicator) {
      context->saved_data["rows"] = tensor.size(0);
      context->saved_data["communicator"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(communicator));
      return communicator->gather(tensor.contiguous());
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   const torch::autograd::variable_list& gradients) {
      const auto holder = c10::static_intrusive_pointer_cast<Holder>(context->saved_data["communicator"].toCapsule());
      const Communicator* communicator = holder->communicator.get();
      const std::int64_t rows = context->saved_data["rows"].toInt();
      at::Tensor sum = gradients[0].clone(at::MemoryFormat::Contiguous);
      communicator->sum(sum);
      return {sum.narrow(0, communicator->rank() * rows, rows), at::Tensor()};
    }
  };

  std::shared_ptr<const Communicator> communicator_;
};

}  // namespace rino
