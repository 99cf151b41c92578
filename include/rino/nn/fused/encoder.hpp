#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/nn/bf16/kernels.hpp>
#include <rino/nn/fused/kernels.hpp>
#include <rino/nn/fused/problem.hpp>
#include <rino/nn/fused/schedule.hpp>
#include <rino/nn/fused/workspace.hpp>
#include <rino/nn/tokens.hpp>
#include <rino/simd/target.hpp>

namespace rino::fused {

/// A transformer encoder's forward pass, to be run by the fused kernels.
struct EncoderCall {
  Shape shape;           ///< `inputs` is worked out from the tokens
  bool learned = false;  ///< the class token is a learned vector, not a map of the jet's features
  bool firsts = false;   ///< jets alone are wanted
  DropoutRule dropout;
  simd::Target target = simd::best_target();
  bool bf16 = false;  ///< the linear layers' products in bfloat16, where bf16::supported(); only for float
  std::shared_ptr<Workspace> workspace = std::make_shared<Workspace>();
};

/// Jets [S, W] and constituents [T, W] (undefined with `firsts`).
struct EncoderResult {
  at::Tensor jets;
  at::Tensor constituents;
};

namespace detail {

/// Width and feed-forward width are a multiple of this: of the lanes of every instruction set.
inline constexpr Index kGranularity = 16;

/// Rows of a chunk. The narrower the network, the smaller the cache its values can stay in; a wide one wants its
/// weights read for many rows. Measured: nano is fastest at 96, base at 256.
inline Index chunk_rows(const Shape& shape) {
  return std::clamp<Index>(shape.width + 64, 96, 256);
}

template <typename T>
Kernels<T> kernels_for(const EncoderCall& call) {
  if constexpr (std::is_same_v<T, float>) {
    if (call.bf16) {
      return bf16::kernels();
    }
  }
  return kernels_of<T>(call.target);
}

/// One pass through the encoder: what forward makes and backward needs.
template <typename T>
class Pass : public torch::CustomClassHolder {
 public:
  /// @param parameters  embedding weight and bias; weight and bias of the class token, or the learned one alone;
  ///                    every block's as BlockTensor says; weight and bias of the last norm. All contiguous.
  Pass(const EncoderCall& call, const Tokens& tokens, at::TensorList parameters, bool keep)
      : call_(call), kernels_(kernels_for<T>(call)), parameters_(parameters.vec()) {
    features_ = tokens.features.size(1);
    jet_features_ = call.learned ? 0 : tokens.jet_features.size(1);
    call_.shape.inputs = (features_ + jet_features_ + 2 + kGranularity - 1) / kGranularity * kGranularity;
    std::vector<Index> lengths;
    lengths.reserve(static_cast<std::size_t>(tokens.sequences()));
    for (Index s = 0; s < tokens.sequences(); ++s) {
      lengths.push_back(tokens.length(s) + 1);
    }
    const ParameterMap map(call_.shape);
    // Every group has gradients of its own: at most 32, and at most some 256 MB of them.
    const Index most_groups = std::clamp<Index>((Index{1} << 26) / map.total(), 1, 32);
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
    if (keep) {
      const Index layers = call_.shape.layers;
      const Index slab = layers * schedule_.rows() * call_.shape.width;
      const Index stats = layers * schedule_.rows() * call_.shape.heads;
      const Index last = schedule_.rows() * call_.shape.width;
      saved_ = buffer(3 * slab + 2 * stats + last);
      T* const p = saved_.data();
      problem_.saved = {p, p + slab, p + 2 * slab, p + 3 * slab, p + 3 * slab + stats, p + 3 * slab + 2 * stats};
    }
  }

  EncoderResult forward(const Tokens& tokens) {
    const Index width = call_.shape.width;
    inputs_ = buffer(schedule_.rows() * call_.shape.inputs);
    problem_.batch.inputs = inputs_.data();
    const at::Tensor features = tokens.features.contiguous();
    const at::Tensor jet_features = tokens.jet_features.contiguous();
    EncoderResult result;
    result.jets = at::empty({schedule_.sequences(), width}, features.options().requires_grad(false));
    problem_.outputs.jets = data(result.jets);
    if (!call_.firsts) {
      result.constituents = at::empty({tokens.offsets.back(), width}, result.jets.options());
      problem_.outputs.constituents = data(result.constituents);
    }
    each_group(
        [&](Index /*group*/, const Chunk& chunk, T* scratch) {
          write_inputs(chunk, features.template const_data_ptr<T>(), jet_features.template const_data_ptr<T>());
          kernels_.forward(problem_, chunk, scratch);
        },
        /*backward=*/false);
    return result;
  }

  /// Gradients of features, jet features and parameters, in the order of the constructor's.
  std::vector<at::Tensor> backward(const at::Tensor& jets, const at::Tensor& constituents, bool inputs_too) {
    const ParameterMap map(call_.shape);
    const at::Tensor d_jets = jets.defined() ? jets.contiguous() : jets;
    const at::Tensor d_constituents = constituents.defined() ? constituents.contiguous() : constituents;
    const at::TensorOptions options(c10::CppTypeToScalarType<T>::value);
    const Buffer<T> sums = buffer(schedule_.group_count() * map.total());
    at::Tensor d_inputs;
    Gradients<T>& given = problem_.gradients;
    given.jets = d_jets.defined() ? d_jets.template const_data_ptr<T>() : nullptr;
    given.constituents = d_constituents.defined() ? d_constituents.template const_data_ptr<T>() : nullptr;
    if (inputs_too) {
      d_inputs = at::empty({schedule_.rows(), call_.shape.inputs}, options);
      given.inputs = data(d_inputs);
    }
    each_group(
        [&](Index group, const Chunk& chunk, T* scratch) {
          Problem<T> problem = problem_;
          problem.gradients.parameters = sums.data() + group * map.total();
          if (&chunk == &schedule_.first_chunk(group)) {
            std::fill_n(problem.gradients.parameters, map.total(), T(0));
          }
          kernels_.backward(problem, chunk, scratch);
        },
        /*backward=*/true);
    const at::Tensor all = at::from_blob(sums.data(), {schedule_.group_count(), map.total()}, options);
    return split(all.sum(0), d_inputs, map);
  }

 private:
  static T* data(const at::Tensor& tensor) { return tensor.template mutable_data_ptr<T>(); }
  Buffer<T> buffer(Index size) const { return Buffer<T>(call_.workspace, size); }

  /// Calls work(group, chunk, scratch) for every chunk, groups in parallel on as many threads as LibTorch may use. A
  /// thread that is done takes the next group, so that one that shares its core with something else holds nobody up.
  /// Not at::parallel_for, which without -fopenmp is a plain loop, and with it may bring in a second OpenMP.
  template <typename Work>
  void each_group(const Work& work, bool backward) const {
    const Index size =
        kernels_.scratch_size(call_.shape, schedule_.most_rows, schedule_.most_sequences, schedule_.longest, backward);
    const Index groups = schedule_.group_count();
    std::atomic<Index> next{0};
    const Index workers = std::min<Index>(groups, at::get_num_threads());
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

  /// Both embeddings as one matrix: a token's row is (features, 1, 0, 0), a class token's (0, 0, jet features, 1).
  void point_to_parameters() {
    const Index e = call_.shape.inputs;
    const Index width = call_.shape.width;
    embedding_ = at::zeros({width, e}, parameters_.front().options().requires_grad(false));
    embedding_.narrow(1, 0, features_).copy_(parameters_[0]);
    embedding_.select(1, features_).copy_(parameters_[1]);
    std::size_t next = 2;
    if (!call_.learned) {
      embedding_.narrow(1, features_ + 1, jet_features_).copy_(parameters_[next++]);
    }
    embedding_.select(1, features_ + 1 + jet_features_).copy_(parameters_[next++].reshape(-1));
    first_block_ = next;
    blocks_.resize(static_cast<std::size_t>(call_.shape.layers));
    for (BlockParameters<T>& block : blocks_) {
      for (const T*& tensor : block.tensor) {
        tensor = parameters_[next++].template const_data_ptr<T>();
      }
    }
    problem_.parameters = {data(embedding_), blocks_.data(), parameters_[next].template const_data_ptr<T>(),
                           parameters_[next + 1].template const_data_ptr<T>()};
  }

  void write_inputs(const Chunk& chunk, const T* features, const T* jet_features) const {
    const Index e = call_.shape.inputs;
    for (Index s = chunk.first; s < chunk.last; ++s) {
      const Index start = schedule_.starts[static_cast<std::size_t>(s)];
      const Index end = schedule_.starts[static_cast<std::size_t>(s) + 1];
      T* row = inputs_.data() + start * e;
      std::fill(row, row + (end - start) * e, T(0));
      std::copy_n(jet_features + s * jet_features_, jet_features_, row + features_ + 1);
      row[features_ + 1 + jet_features_] = T(1);
      const T* from = features + (start - s) * features_;
      for (Index r = start + 1; r < end; ++r) {
        row += e;
        std::copy_n(from, features_, row);
        row[features_] = T(1);
        from += features_;
      }
    }
  }

  std::vector<at::Tensor> split(const at::Tensor& flat, const at::Tensor& d_inputs, const ParameterMap& map) const {
    std::vector<at::Tensor> gradients;
    if (d_inputs.defined()) {
      const at::Tensor firsts = at::tensor(at::IntArrayRef(schedule_.starts.data(), schedule_.starts.size() - 1));
      at::Tensor is_token = at::ones({schedule_.rows()}, at::kBool);
      is_token.index_fill_(0, firsts, 0);
      gradients.push_back(d_inputs.narrow(1, 0, features_).index({is_token}));
      gradients.push_back(call_.learned
                              ? at::Tensor()
                              : d_inputs.narrow(1, features_ + 1, jet_features_).index_select(0, firsts).contiguous());
    } else {
      gradients.resize(2);
    }
    const at::Tensor embedding =
        flat.narrow(0, 0, call_.shape.width * call_.shape.inputs).view({call_.shape.width, call_.shape.inputs});
    gradients.push_back(embedding.narrow(1, 0, features_));
    gradients.push_back(embedding.select(1, features_));
    if (!call_.learned) {
      gradients.push_back(embedding.narrow(1, features_ + 1, jet_features_));
    }
    gradients.push_back(
        embedding.select(1, features_ + 1 + jet_features_).reshape(parameters_[first_block_ - 1].sizes()));
    std::size_t next = first_block_;
    for (Index layer = 0; layer < call_.shape.layers; ++layer) {
      for (int t = 0; t < kBlockTensors; ++t) {
        const auto tensor = static_cast<BlockTensor>(t);
        gradients.push_back(
            flat.narrow(0, map.block(layer, tensor), map.size(tensor)).view(parameters_[next++].sizes()));
      }
    }
    gradients.push_back(flat.narrow(0, map.norm_weight(), call_.shape.width));
    gradients.push_back(flat.narrow(0, map.norm_bias(), call_.shape.width));
    return gradients;
  }

  EncoderCall call_;
  Kernels<T> kernels_;
  std::vector<at::Tensor> parameters_;
  Schedule schedule_;
  Index features_ = 0;
  Index jet_features_ = 0;
  std::size_t first_block_ = 0;
  at::Tensor embedding_;
  Buffer<T> packed_;
  Buffer<T> saved_;   ///< what problem_.saved points to
  Buffer<T> inputs_;  ///< [rows, E]
  std::vector<BlockParameters<T>> blocks_;
  Problem<T> problem_;
};

/// The pass as autograd sees it.
template <typename T>
class Function : public torch::autograd::Function<Function<T>> {
 public:
  using Context = torch::autograd::AutogradContext;

  static torch::autograd::variable_list forward(Context* context, const at::Tensor& /*features*/,
                                                const at::Tensor& /*jet_features*/, at::TensorList parameters,
                                                const EncoderCall& call, const Tokens& tokens) {
    std::vector<at::Tensor> detached;
    detached.reserve(parameters.size());
    for (const at::Tensor& parameter : parameters) {
      detached.push_back(parameter.detach());
    }
    auto pass = c10::make_intrusive<Pass<T>>(call, tokens, detached, /*keep=*/true);
    EncoderResult result = pass->forward(tokens);
    context->save_for_backward(parameters.vec());  // so that a change before backward is noticed
    context->saved_data["pass"] = c10::IValue::make_capsule(pass);
    return call.firsts ? torch::autograd::variable_list{result.jets}
                       : torch::autograd::variable_list{result.jets, result.constituents};
  }

  static torch::autograd::variable_list backward(Context* context, const torch::autograd::variable_list& gradients) {
    require(!at::GradMode::is_enabled(), "second derivatives of the fused encoder were asked for: ",
            "choose its plain kernels with kernels = 'reference'");
    (void)context->get_saved_variables();
    const auto pass = c10::static_intrusive_pointer_cast<Pass<T>>(context->saved_data["pass"].toCapsule());
    const bool inputs_too = context->needs_input_grad(0) || context->needs_input_grad(1);
    std::vector<at::Tensor> result =
        pass->backward(gradients[0], gradients.size() > 1 ? gradients[1] : at::Tensor(), inputs_too);
    result.resize(result.size() + 2);  // the call and the tokens have none
    return result;
  }
};

template <typename T>
EncoderResult encode_as(const EncoderCall& call, const Tokens& tokens, at::TensorList parameters) {
  const bool wanted = at::GradMode::is_enabled() &&
                      (tokens.features.requires_grad() || tokens.jet_features.requires_grad() ||
                       std::any_of(parameters.begin(), parameters.end(),
                                   [](const at::Tensor& parameter) { return parameter.requires_grad(); }));
  if (!wanted) {
    return Pass<T>(call, tokens, parameters, /*keep=*/false).forward(tokens);
  }
  const auto result = Function<T>::apply(tokens.features, tokens.jet_features, parameters, call, tokens);
  return {result[0], call.firsts ? at::Tensor() : result[1]};
}

}  // namespace detail

/// Whether the kernels can run a network of these sizes: its widths must fill whole vectors.
inline bool fits(const Shape& shape) {
  return shape.layers > 0 && shape.width % detail::kGranularity == 0 && shape.feedforward % detail::kGranularity == 0 &&
         shape.heads > 0 && shape.width % shape.heads == 0;
}

/// The encoder's forward pass (with gradients where they are wanted) by kernels that work on a chunk of sequences from
/// the embedding to the last norm while its values are in the processor's cache. For the backward pass only the
/// inputs of blocks and attention's results are kept, the rest is computed again. The same function as the modules'.
///
/// @param tokens      on the CPU, float or double.
/// @param parameters  see Pass; contiguous, of the tokens' type.
/// @throws rino::Error if this machine cannot run `call.target`.
inline EncoderResult encode(const EncoderCall& call, const Tokens& tokens, at::TensorList parameters) {
  simd::require_supported(call.target);
  return tokens.features.scalar_type() == at::kDouble ? detail::encode_as<double>(call, tokens, parameters)
                                                      : detail::encode_as<float>(call, tokens, parameters);
}

}  // namespace rino::fused
