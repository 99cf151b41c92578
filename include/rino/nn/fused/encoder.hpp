#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <rino/nn/fused/pass.hpp>
#include <rino/simd/target.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino::fused {

/// Jets [S, W] and constituents [T, W] (undefined with `firsts`).
struct EncoderResult {
  at::Tensor jets;
  at::Tensor constituents;
};

namespace detail {

/// A pass that begins with the embedding of tokens and class tokens: one product with both of their weights.
template <typename T>
class TokenPass : public torch::CustomClassHolder {
 public:
  /// @param parameters  embedding weight and bias; weight and bias of the class token, or the learned one alone; then
  ///                    those of Pass. All contiguous.
  TokenPass(const EncoderCall& call, const Tokens& tokens, at::TensorList parameters, bool keep)
      : features_(tokens.features.size(1)),
        jet_features_(call.learned ? 0 : tokens.jet_features.size(1)),
        own_(parameters.slice(0, call.learned ? 3 : 4).vec()),
        pass_(with_inputs(call), lengths(tokens), embedding(call.shape.width), parameters.slice(own_.size()), keep) {}

  EncoderResult forward(const Tokens& tokens) {
    const Schedule& schedule = pass_.schedule();
    const Index width = pass_.call().shape.width;
    inputs_ = pass_.buffer(schedule.rows() * inputs());
    const at::Tensor features = tokens.features.contiguous();
    const at::Tensor jet_features = tokens.jet_features.contiguous();
    EncoderResult result;
    result.jets = at::empty({schedule.sequences(), width}, features.options().requires_grad(false));
    Outputs<T> outputs;
    outputs.jets = result.jets.template mutable_data_ptr<T>();
    if (!pass_.call().firsts) {
      result.constituents = at::empty({tokens.offsets.back(), width}, result.jets.options());
      outputs.constituents = result.constituents.template mutable_data_ptr<T>();
    }
    pass_.forward(inputs_.data(), outputs, [&](const Chunk& chunk) {
      write_inputs(chunk, features.template const_data_ptr<T>(), jet_features.template const_data_ptr<T>());
    });
    return result;
  }

  /// Gradients of features, jet features and parameters, in the order of the constructor's.
  std::vector<at::Tensor> backward(const at::Tensor& jets, const at::Tensor& constituents, bool inputs_too) {
    const at::Tensor d_jets = jets.defined() ? jets.contiguous() : jets;
    const at::Tensor d_constituents = constituents.defined() ? constituents.contiguous() : constituents;
    Gradients<T> given;
    given.jets = d_jets.defined() ? d_jets.template const_data_ptr<T>() : nullptr;
    given.constituents = d_constituents.defined() ? d_constituents.template const_data_ptr<T>() : nullptr;
    at::Tensor d_inputs;
    if (inputs_too) {
      d_inputs = at::empty({pass_.schedule().rows(), inputs()}, own_.front().options());
      given.inputs = d_inputs.template mutable_data_ptr<T>();
    }
    const at::Tensor flat = pass_.backward(given);
    std::vector<at::Tensor> gradients = split(flat, d_inputs);
    const std::vector<at::Tensor> rest = pass_.split(flat);
    gradients.insert(gradients.end(), rest.begin(), rest.end());
    return gradients;
  }

 private:
  /// Columns E: features, 1, jet features, 1, and zeros.
  Index inputs() const { return (features_ + jet_features_ + 2 + kGranularity - 1) / kGranularity * kGranularity; }

  EncoderCall with_inputs(EncoderCall call) const {
    call.shape.inputs = inputs();
    return call;
  }

  static std::vector<Index> lengths(const Tokens& tokens) {
    std::vector<Index> result;
    result.reserve(static_cast<std::size_t>(tokens.sequences()));
    for (Index s = 0; s < tokens.sequences(); ++s) {
      result.push_back(tokens.length(s) + 1);
    }
    return result;
  }

  /// Both embeddings as one matrix: a token's row is (features, 1, 0, 0), a class token's (0, 0, jet features, 1).
  at::Tensor embedding(Index width) const {
    at::Tensor both = at::zeros({width, inputs()}, own_.front().options().requires_grad(false));
    both.narrow(1, 0, features_).copy_(own_[0]);
    both.select(1, features_).copy_(own_[1]);
    if (own_.size() == 4) {
      both.narrow(1, features_ + 1, jet_features_).copy_(own_[2]);
    }
    both.select(1, features_ + 1 + jet_features_).copy_(own_.back().reshape(-1));
    return both;
  }

  void write_inputs(const Chunk& chunk, const T* features, const T* jet_features) const {
    const Index e = inputs();
    const std::vector<Index>& starts = pass_.schedule().starts;
    for (Index s = chunk.first; s < chunk.last; ++s) {
      const Index start = starts[static_cast<std::size_t>(s)];
      const Index end = starts[static_cast<std::size_t>(s) + 1];
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

  /// The gradients of features, jet features and this pass's own parameters.
  std::vector<at::Tensor> split(const at::Tensor& flat, const at::Tensor& d_inputs) const {
    const Schedule& schedule = pass_.schedule();
    const bool learned = own_.size() == 3;
    std::vector<at::Tensor> gradients(2);
    if (d_inputs.defined()) {
      const at::Tensor firsts = at::tensor(at::IntArrayRef(schedule.starts.data(), schedule.starts.size() - 1));
      at::Tensor is_token = at::ones({schedule.rows()}, at::kBool);
      is_token.index_fill_(0, firsts, 0);
      gradients[0] = d_inputs.narrow(1, 0, features_).index({is_token});
      if (!learned) {
        gradients[1] = d_inputs.narrow(1, features_ + 1, jet_features_).index_select(0, firsts).contiguous();
      }
    }
    const Index width = pass_.call().shape.width;
    const at::Tensor embedding = flat.narrow(0, 0, width * inputs()).view({width, inputs()});
    gradients.push_back(embedding.narrow(1, 0, features_));
    gradients.push_back(embedding.select(1, features_));
    if (!learned) {
      gradients.push_back(embedding.narrow(1, features_ + 1, jet_features_));
    }
    gradients.push_back(embedding.select(1, features_ + 1 + jet_features_).reshape(own_.back().sizes()));
    return gradients;
  }

  Index features_;
  Index jet_features_;
  std::vector<at::Tensor> own_;  ///< of the embedding and the class token
  Pass<T> pass_;
  Buffer<T> inputs_;  ///< [rows, E]
};

/// The pass as autograd sees it.
template <typename T>
class TokenFunction : public torch::autograd::Function<TokenFunction<T>> {
 public:
  using Context = torch::autograd::AutogradContext;

  static torch::autograd::variable_list forward(Context* context, const at::Tensor& /*features*/,
                                                const at::Tensor& /*jet_features*/, at::TensorList parameters,
                                                const EncoderCall& call, const Tokens& tokens) {
    auto pass = c10::make_intrusive<TokenPass<T>>(call, tokens, detached(parameters), /*keep=*/true);
    EncoderResult result = pass->forward(tokens);
    context->save_for_backward(parameters.vec());  // so that a change before backward is noticed
    context->saved_data["pass"] = c10::IValue::make_capsule(pass);
    return call.firsts ? torch::autograd::variable_list{result.jets}
                       : torch::autograd::variable_list{result.jets, result.constituents};
  }

  static torch::autograd::variable_list backward(Context* context, const torch::autograd::variable_list& gradients) {
    require_first_derivative();
    (void)context->get_saved_variables();
    const auto pass = c10::static_intrusive_pointer_cast<TokenPass<T>>(context->saved_data["pass"].toCapsule());
    const bool inputs_too = context->needs_input_grad(0) || context->needs_input_grad(1);
    std::vector<at::Tensor> result =
        pass->backward(gradients[0], gradients.size() > 1 ? gradients[1] : at::Tensor(), inputs_too);
    result.resize(result.size() + 2);  // the call and the tokens have none
    return result;
  }
};

template <typename T>
EncoderResult encode_as(const EncoderCall& call, const Tokens& tokens, at::TensorList parameters) {
  if (!wants_gradients({tokens.features, tokens.jet_features}, parameters)) {
    return TokenPass<T>(call, tokens, parameters, /*keep=*/false).forward(tokens);
  }
  const auto result = TokenFunction<T>::apply(tokens.features, tokens.jet_features, parameters, call, tokens);
  return {result[0], call.firsts ? at::Tensor() : result[1]};
}

}  // namespace detail

/// The encoder's forward pass (with gradients where they are wanted) by kernels that work on a chunk of sequences from
/// the embedding to the last norm while its values are in the processor's cache. For the backward pass only the
/// inputs of blocks and attention's results are kept, the rest is computed again. The same function as the modules'.
///
/// @param tokens      on the CPU, float or double.
/// @param parameters  see TokenPass; contiguous, of the tokens' type.
/// @throws rino::Error if this machine cannot run `call.target`.
inline EncoderResult encode(const EncoderCall& call, const Tokens& tokens, at::TensorList parameters) {
  simd::require_supported(call.target);
  return tokens.features.scalar_type() == at::kDouble ? detail::encode_as<double>(call, tokens, parameters)
                                                      : detail::encode_as<float>(call, tokens, parameters);
}

}  // namespace rino::fused
