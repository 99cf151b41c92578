#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/core/threads.hpp>
#include <rino/nn/bf16/kernels.hpp>
#include <rino/nn/fused/kernels.hpp>
#include <rino/nn/fused/problem.hpp>
#include <rino/nn/fused/schedule.hpp>
#include <rino/nn/fused/workspace.hpp>
#include <rino/simd/target.hpp>

namespace rino::fused {

/// A transformer encoder's forward pass, to be run by the fused kernels.
struct EncoderCall {
  Shape shape;           ///< `inputs` is worked out from the tokens
  bool learned = false;  ///< the class token is a learned vector, not a map of the jet's features
  bool firsts = false;   ///< jets alone are wanted
  DropoutRule dropout;
  simd::Target target = simd::best_target();
  int threads = kernel_threads();      ///< they do not change a result
  bf16::Unit bf16 = bf16::Unit::none;  ///< of the linear layers' products in bfloat16; only for float
  Index kept_bytes = 0;  ///< that a forward pass keeps at most of what the backward pass can compute again
  std::shared_ptr<Workspace> workspace = std::make_shared<Workspace>();
};

namespace detail {

/// Width and feed-forward width are a multiple of this: of the lanes of every instruction set.
inline constexpr Index kGranularity = 16;

/// Rows of a chunk. The narrower the network, the smaller the cache its values can stay in; a wide one wants its
/// weights read for many rows. Measured: nano is fastest at 96, base at 256.
inline Index chunk_rows(const Shape& shape) {
  return std::clamp<Index>(shape.width + 64, 96, 256);
}

/// [S + 1] where the pairs i <= j of the tokens of every sequence begin; `own` rows of each are no tokens.
inline std::vector<Index> pair_starts(std::span<const Index> lengths, Index own) {
  std::vector<Index> starts{0};
  for (const Index length : lengths) {
    starts.push_back(starts.back() + (length - own) * (length - own + 1) / 2);
  }
  return starts;
}

template <typename T>
Kernels<T> kernels_for(const EncoderCall& call) {
  if constexpr (std::is_same_v<T, float>) {
    if (call.bf16 != bf16::Unit::none) {
      return bf16::kernels<float>(call.bf16);
    }
  }
  return kernels_of<T>(call.target);
}

/// One pass through blocks and last norm: what forward makes and backward needs.
template <typename T>
class Pass {
 public:
  /// @param call        its shape says with `inputs` whether there is an embedding.
  /// @param lengths     rows of every sequence, 1 or more each.
  /// @param embedding   [W, E]; undefined where `inputs` is 0.
  /// @param parameters  every block's as BlockTensor says; weight and bias of the last norm. All contiguous.
  /// @param keep        whether there will be a backward pass.
  /// @param bias        [pairs, heads], contiguous; undefined: none.
  Pass(const EncoderCall& call, std::span<const Index> lengths, at::Tensor embedding, at::TensorList parameters,
       bool keep, at::Tensor bias = {})
      : call_(call),
        map_(call.shape),
        kernels_(kernels_for<T>(call)),
        embedding_(std::move(embedding)),
        bias_(std::move(bias)),
        parameters_(parameters.vec()) {
    // Every group has gradients of its own: at most 32, and at most some 256 MB of them.
    const Index most_groups = std::clamp<Index>((Index{1} << 26) / map_.total(), 1, 32);
    schedule_ = Schedule::make(lengths, call_.shape, chunk_rows(call_.shape), most_groups);
    point_to_parameters();
    packed_ = buffer(kernels_.packed_size(call_.shape, keep));
    kernels_.pack(call_.shape, problem_.parameters, keep, packed_.data());
    problem_.shape = call_.shape;
    problem_.packed = packed_.data();
    problem_.batch.starts = schedule_.starts.data();
    problem_.batch.rows = schedule_.rows();
    problem_.batch.sequences = schedule_.sequences();
    problem_.batch.firsts = call_.firsts;
    problem_.batch.dropout = call_.dropout;
    if (bias_.defined()) {
      pairs_ = pair_starts(lengths, call_.shape.own);
      problem_.batch.bias = bias_.template const_data_ptr<T>();
      problem_.batch.pairs = pairs_.data();
    }
    if (keep) {
      const Index layers = call_.shape.layers;
      const Index slab = layers * schedule_.rows() * call_.shape.width;
      const Index stats = layers * schedule_.rows() * call_.shape.heads;
      const Index last = schedule_.rows() * call_.shape.width;
      saved_ = buffer(3 * slab + 2 * stats + last);
      T* const p = saved_.data();
      problem_.saved = {p, p + slab, p + 2 * slab, p + 3 * slab, p + 3 * slab + stats, p + 3 * slab + 2 * stats};
      keep_more();
    }
  }

  const EncoderCall& call() const { return call_; }
  const Schedule& schedule() const { return schedule_; }
  const ParameterMap& map() const { return map_; }
  Buffer<T> buffer(Index size) const { return Buffer<T>(call_.workspace, size); }

  /// Fills `outputs` from `inputs`, of which `prepare(chunk)` writes those of a chunk just before they are read. They
  /// must stay for the backward pass where there is an embedding.
  template <typename Prepare>
  void forward(const T* inputs, const Outputs<T>& outputs, const Prepare& prepare) {
    problem_.batch.inputs = inputs;
    problem_.outputs = outputs;
    each_group(
        [&](Index /*group*/, const Chunk& chunk, T* scratch) {
          prepare(chunk);
          kernels_.forward(problem_, chunk, scratch);
        },
        /*backward=*/false);
  }

  /// The gradients of all parameters as ParameterMap says, but for those of the scales; fills `given.inputs`.
  at::Tensor backward(const Gradients<T>& given) {
    const at::TensorOptions options(c10::CppTypeToScalarType<T>::value);
    const Buffer<T> sums = buffer(schedule_.group_count() * map_.total());
    problem_.gradients = given;
    each_group(
        [&](Index group, const Chunk& chunk, T* scratch) {
          Problem<T> problem = problem_;
          problem.gradients.parameters = sums.data() + group * map_.total();
          if (&chunk == &schedule_.first_chunk(group)) {
            std::fill_n(problem.gradients.parameters, map_.total(), T(0));
          }
          kernels_.backward(problem, chunk, scratch);
        },
        /*backward=*/true);
    return at::from_blob(sums.data(), {schedule_.group_count(), map_.total()}, options).sum(0);
  }

  /// The gradients of the constructor's parameters from those that `backward` gave, whose memory they share.
  std::vector<at::Tensor> split(const at::Tensor& flat) const {
    std::vector<at::Tensor> gradients;
    gradients.reserve(parameters_.size());
    std::size_t next = 0;
    for (Index layer = 0; layer < call_.shape.layers; ++layer) {
      const std::size_t first = next;
      for (int t = 0; t < kBlockTensors; ++t) {
        const auto tensor = static_cast<BlockTensor>(t);
        if (map_.size(tensor) > 0) {
          gradients.push_back(
              flat.narrow(0, map_.block(layer, tensor), map_.size(tensor)).view(parameters_[next++].sizes()));
        }
      }
      if (call_.shape.scaled) {
        unfold_scales(first, gradients);
      }
    }
    if (map_.norm_size() > 0) {
      gradients.push_back(flat.narrow(0, map_.norm_weight(), call_.shape.width));
    }
    if (map_.norm_bias_size() > 0) {
      gradients.push_back(flat.narrow(0, map_.norm_bias(), call_.shape.width));
    }
    return gradients;
  }

 private:
  /// Calls work(group, chunk, scratch) for every chunk, groups in parallel on as many threads as the call may take. A
  /// thread that is done takes the next group, so that one that shares its core with something else holds nobody up.
  /// Not at::parallel_for, which without -fopenmp is a plain loop, and with it may bring in a second OpenMP.
  template <typename Work>
  void each_group(const Work& work, bool backward) const {
    const Index size =
        kernels_.scratch_size(call_.shape, schedule_.most_rows, schedule_.most_sequences, schedule_.longest, backward);
    const Index groups = schedule_.group_count();
    std::atomic<Index> next{0};
    const Index workers = std::clamp<Index>(groups, 1, call_.threads);
    parallel_for(workers, static_cast<int>(workers), [&](Index /*begin*/, Index /*end*/) {
      const Buffer<T> scratch = buffer(size);
      for (Index group = next++; group < groups; group = next++) {
        for (Index c = schedule_.groups[static_cast<std::size_t>(group)];
             c < schedule_.groups[static_cast<std::size_t>(group) + 1]; ++c) {
          work(group, schedule_.chunks[static_cast<std::size_t>(c)], scratch.data());
        }
      }
    });
  }

  /// Memory for what the backward pass would compute again, of as many layers as the call may keep.
  void keep_more() {
    const Index qkv = pitch(3 * call_.shape.width);
    const Index layer = schedule_.rows() * (qkv + pitch(call_.shape.hidden()));
    const Index bytes = std::max<Index>(layer * static_cast<Index>(sizeof(T)), 1);  // there may be no rows
    const Index layers = std::min(call_.shape.layers, call_.kept_bytes / bytes);
    if (layers > 0) {
      kept_ = buffer(layers * layer);
      problem_.saved.kept_from = call_.shape.layers - layers;
      problem_.saved.qkv = kept_.data();
      problem_.saved.hidden = kept_.data() + layers * schedule_.rows() * qkv;
    }
  }

  void point_to_parameters() {
    std::size_t next = 0;
    const auto pointer = [&] { return parameters_[next++].template const_data_ptr<T>(); };
    blocks_.resize(static_cast<std::size_t>(call_.shape.layers));
    for (BlockParameters<T>& block : blocks_) {
      const std::size_t first = next;
      for (int t = 0; t < kBlockTensors; ++t) {
        block.tensor[t] = map_.size(static_cast<BlockTensor>(t)) > 0 ? pointer() : nullptr;
      }
      if (call_.shape.scaled) {
        fold_scales(first, block);
      }
    }
    problem_.parameters.embedding = embedding_.defined() ? embedding_.template const_data_ptr<T>() : nullptr;
    problem_.parameters.blocks = blocks_.data();
    problem_.parameters.norm_weight = map_.norm_size() > 0 ? pointer() : nullptr;
    problem_.parameters.norm_bias = map_.norm_bias_size() > 0 ? pointer() : nullptr;
  }

  /// A tensor's place among a block's parameters.
  std::size_t place(BlockTensor tensor) const {
    std::size_t found = 0;
    for (int t = 0; t < tensor; ++t) {
      found += map_.size(static_cast<BlockTensor>(t)) > 0 ? 1 : 0;
    }
    return found;
  }

  /// s (W x + b) = (s W) x + s b: the kernels work with the layers' products by their scales.
  void fold_scales(std::size_t first, BlockParameters<T>& block) {
    for (const auto& [weight, bias, scale] : kScaledLayers) {
      const at::Tensor s = parameters_[first + place(scale)];
      folded_.push_back(parameters_[first + place(weight)] * s.unsqueeze(1));
      block.tensor[weight] = folded_.back().template const_data_ptr<T>();
      folded_.push_back(parameters_[first + place(bias)] * s);
      block.tensor[bias] = folded_.back().template const_data_ptr<T>();
    }
  }

  /// From the gradients of s W and s b to those of W, b and s.
  void unfold_scales(std::size_t first, std::vector<at::Tensor>& gradients) const {
    for (const auto& [weight, bias, scale] : kScaledLayers) {
      const at::Tensor& s = parameters_[first + place(scale)];
      at::Tensor& d_weight = gradients[first + place(weight)];
      at::Tensor& d_bias = gradients[first + place(bias)];
      gradients[first + place(scale)].copy_((d_weight * parameters_[first + place(weight)]).sum(1) +
                                            d_bias * parameters_[first + place(bias)]);
      d_weight.mul_(s.unsqueeze(1));
      d_bias.mul_(s);
    }
  }

  struct ScaledLayer {
    BlockTensor weight, bias, scale;
  };
  static constexpr ScaledLayer kScaledLayers[] = {{kOutWeight, kOutBias, kScale1},
                                                  {kLinear2Weight, kLinear2Bias, kScale2}};

  EncoderCall call_;
  ParameterMap map_;
  Kernels<T> kernels_;
  at::Tensor embedding_;
  at::Tensor bias_;
  std::vector<Index> pairs_;
  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> folded_;
  Schedule schedule_;
  Buffer<T> packed_;
  Buffer<T> saved_;  ///< what problem_.saved points to
  Buffer<T> kept_;   ///< and this, where there is room
  std::vector<BlockParameters<T>> blocks_;
  Problem<T> problem_;
};

/// Whether a pass through a network with these inputs and parameters must keep what a backward pass needs.
inline bool wants_gradients(at::TensorList inputs, at::TensorList parameters) {
  const auto wants = [](const at::Tensor& tensor) { return tensor.requires_grad(); };
  return at::GradMode::is_enabled() &&
         (std::any_of(inputs.begin(), inputs.end(), wants) || std::any_of(parameters.begin(), parameters.end(), wants));
}

inline std::vector<at::Tensor> detached(at::TensorList tensors) {
  std::vector<at::Tensor> result;
  result.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    result.push_back(tensor.detach());
  }
  return result;
}

inline void require_first_derivative() {
  require(!at::GradMode::is_enabled(), "second derivatives of the fused encoder were asked for: ",
          "choose its plain kernels with kernels = 'reference'");
}

}  // namespace detail

/// Whether the kernels can run a network of these sizes: its widths must fill whole vectors.
inline bool fits(const Shape& shape) {
  return shape.layers > 0 && shape.width % detail::kGranularity == 0 && shape.feedforward % detail::kGranularity == 0 &&
         shape.heads > 0 && shape.width % shape.heads == 0;
}

}  // namespace rino::fused
