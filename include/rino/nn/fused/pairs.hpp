#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/parallel.hpp>
#include <rino/core/threads.hpp>
#include <rino/nn/fused/kernels.hpp>
#include <rino/simd/target.hpp>

namespace rino::fused {

/// Linear layers on the features of pairs, a LayerNorm and GELU behind each, on the CPU: what is needed of some pairs
/// stays in the cache from the first layer to the last, and is computed again in the backward pass.
template <typename T>
class PairPass {
 public:
  /// @param features    [P, in], contiguous, of type T, as are all others.
  /// @param parameters  of every layer weight and bias, and those of its norm; 8 layers at most.
  /// @param threads     they do not change a result.
  PairPass(const at::Tensor& features, at::TensorList parameters, double eps, int threads = kernel_threads(),
           simd::Target target = simd::best_target())
      : kernels_(pair_kernels_of<T>(target)), features_(features), threads_(threads) {
    layers_.eps = eps;
    for (std::size_t p = 0; p < parameters.size(); p += 4) {
      const auto pointer = [&](std::size_t k) { return parameters[p + k].template const_data_ptr<T>(); };
      layers_.layers[layers_.count++] = {
          parameters[p].size(1), parameters[p].size(0), pointer(0), pointer(1), pointer(2), pointer(3)};
      for (std::size_t k = 0; k < 4; ++k) {
        gradients_ += parameters[p + k].numel();
      }
    }
  }

  /// [P, out].
  at::Tensor forward() const {
    const at::Tensor out = at::empty({pairs(), layers_.at(layers_.count - 1).out}, features_.options());
    T* const to = out.template mutable_data_ptr<T>();
    each_group([&](Index /*group*/, Index first, Index last, T* scratch) {
      kernels_.forward(layers_, features_.template const_data_ptr<T>(), first, last, to, scratch);
    });
    return out;
  }

  /// Gradients of all parameters, one behind the other.
  /// @param d_out  [P, out], contiguous.
  at::Tensor backward(const at::Tensor& d_out) const {
    const at::Tensor sums = at::zeros({std::max<Index>(groups(), 1), gradients_}, features_.options());
    T* const to = sums.template mutable_data_ptr<T>();
    each_group([&](Index group, Index first, Index last, T* scratch) {
      kernels_.backward(layers_, features_.template const_data_ptr<T>(), d_out.template const_data_ptr<T>(), first,
                        last, to + group * gradients_, scratch);
    });
    return sums.sum(0);
  }

 private:
  Index pairs() const { return features_.size(0); }
  /// One thread's work; gradients are summed group by group, so that threads do not change a bit.
  Index groups() const { return std::clamp<Index>(pairs() / 4096, pairs() > 0 ? 1 : 0, 64); }

  template <typename Work>
  void each_group(const Work& work) const {
    std::atomic<Index> next{0};
    const Index workers = std::clamp<Index>(groups(), 1, threads_);
    parallel_for(workers, static_cast<int>(workers), [&](Index /*begin*/, Index /*end*/) {
      std::vector<T> scratch(static_cast<std::size_t>(kernels_.scratch_size(layers_)));
      for (Index group = next++; group < groups(); group = next++) {
        work(group, pairs() * group / groups(), pairs() * (group + 1) / groups(), scratch.data());
      }
    });
  }

  PairKernels<T> kernels_;
  PairLayers<T> layers_;
  at::Tensor features_;
  int threads_;
  Index gradients_ = 0;
};

}  // namespace rino::fused
