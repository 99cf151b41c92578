#pragma once

#include <cstddef>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <rino/core/error.hpp>
#include <rino/nn/fused/pass.hpp>
#include <rino/simd/target.hpp>

namespace rino::fused {

namespace detail {

/// A pass that begins with the rows that enter the first block.
template <typename T>
class RowPass : public torch::CustomClassHolder {
 public:
  /// @param parameters  see Pass.
  /// @param bias        as Pass.
  RowPass(const EncoderCall& call, std::span<const Index> lengths, at::TensorList parameters, bool keep,
          const at::Tensor& bias)
      : bias_sizes_(bias.defined() ? bias.sizes().vec() : std::vector<Index>()),
        pass_(without_inputs(call), lengths, at::Tensor(), parameters, keep, bias) {}

  at::Tensor forward(const at::Tensor& rows) {
    const Schedule& schedule = pass_.schedule();
    const bool firsts = pass_.call().firsts;
    const at::Tensor x = rows.contiguous();
    at::Tensor result =
        at::empty({firsts ? schedule.sequences() : schedule.rows(), x.size(1)}, x.options().requires_grad(false));
    Outputs<T> outputs;
    (firsts ? outputs.jets : outputs.rows) = result.template mutable_data_ptr<T>();
    pass_.forward(x.template const_data_ptr<T>(), outputs, [](const Chunk& /*chunk*/) {});
    return result;
  }

  /// Gradients of the rows, of the bias (undefined where not wanted) and of the parameters.
  std::vector<at::Tensor> backward(const at::Tensor& gradient, bool rows_too, bool bias_too) {
    const at::Tensor d_result = gradient.contiguous();
    const T* const d = d_result.template const_data_ptr<T>();
    Gradients<T> given;
    (pass_.call().firsts ? given.jets : given.rows) = d;
    std::vector<at::Tensor> gradients(2);
    if (rows_too) {
      gradients[0] = at::empty({pass_.schedule().rows(), d_result.size(1)}, d_result.options());
      given.inputs = gradients[0].template mutable_data_ptr<T>();
    }
    if (bias_too) {
      gradients[1] = at::empty(bias_sizes_, d_result.options());
      given.bias = gradients[1].template mutable_data_ptr<T>();
    }
    const std::vector<at::Tensor> rest = pass_.split(pass_.backward(given));
    gradients.insert(gradients.end(), rest.begin(), rest.end());
    return gradients;
  }

 private:
  static EncoderCall without_inputs(EncoderCall call) {
    call.shape.inputs = 0;
    return call;
  }

  std::vector<Index> bias_sizes_;
  Pass<T> pass_;
};

inline at::Tensor plain(const at::Tensor& bias) {
  return bias.defined() ? bias.detach().contiguous() : bias;
}

/// The pass as autograd sees it.
template <typename T>
class RowFunction : public torch::autograd::Function<RowFunction<T>> {
 public:
  using Context = torch::autograd::AutogradContext;

  static at::Tensor forward(Context* context, const at::Tensor& rows, const at::Tensor& bias, at::TensorList parameters,
                            const EncoderCall& call, std::span<const Index> lengths) {
    auto pass = c10::make_intrusive<RowPass<T>>(call, lengths, detached(parameters), /*keep=*/true,
                                                call.shape.biased ? plain(bias) : at::Tensor());
    at::Tensor result = pass->forward(rows.detach());
    context->save_for_backward(parameters.vec());  // so that a change before backward is noticed
    context->saved_data["pass"] = c10::IValue::make_capsule(pass);
    return result;
  }

  static torch::autograd::variable_list backward(Context* context, const torch::autograd::variable_list& gradients) {
    require_first_derivative();
    (void)context->get_saved_variables();
    const auto pass = c10::static_intrusive_pointer_cast<RowPass<T>>(context->saved_data["pass"].toCapsule());
    std::vector<at::Tensor> result =
        pass->backward(gradients[0], context->needs_input_grad(0), context->needs_input_grad(1));
    result.resize(result.size() + 2);  // the call and the lengths have none
    return result;
  }
};

template <typename T>
at::Tensor encode_rows_as(const EncoderCall& call, const at::Tensor& rows, std::span<const Index> lengths,
                          at::TensorList parameters, const at::Tensor& bias) {
  if (!wants_gradients({rows}, parameters) && !(bias.defined() && wants_gradients({bias}, {}))) {
    return RowPass<T>(call, lengths, parameters, /*keep=*/false, plain(bias)).forward(rows);
  }
  // Autograd's functions take no undefined tensors.
  return RowFunction<T>::apply(rows, bias.defined() ? bias : at::empty({0}), parameters, call, lengths);
}

}  // namespace detail

/// `encode` for an encoder whose embedding is done elsewhere: blocks and last norm, with gradients where they are
/// wanted, those of the rows included.
///
/// @param call        `learned` means nothing here.
/// @param rows        [R, W] into the first block, the sequences one behind the other; on the CPU, float or double.
/// @param lengths     rows of every sequence, 1 or more each.
/// @param parameters  every block's as BlockTensor says, weight and bias of the last norm; contiguous, of the rows'
///                    type.
/// @param bias        [pairs, heads], where `call.shape.biased`: of the scores of tokens i and j, i <= j, of every
///                    sequence, j slowest; of the rows' type.
/// @returns           [R, W]; with `call.firsts` that of the first row of every sequence, [S, W].
/// @throws rino::Error if this machine cannot run `call.target`, or rows and lengths do not agree.
inline at::Tensor encode_rows(const EncoderCall& call, const at::Tensor& rows, std::span<const Index> lengths,
                              at::TensorList parameters, const at::Tensor& bias = {}) {
  simd::require_supported(call.target);
  const Index together = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  require(rows.dim() == 2 && rows.size(0) == together && rows.size(1) == call.shape.width, "the rows have shape ",
          rows.sizes(), " but the sequences ", together, " rows of width ", call.shape.width);
  require(bias.defined() == call.shape.biased, "a bias of pairs was ", bias.defined() ? "" : "not ",
          "given: give it where the shape says so");
  if (bias.defined()) {
    const Index pairs = detail::pair_starts(lengths, call.shape.own).back();
    require(bias.dim() == 2 && bias.size(0) == pairs && bias.size(1) == call.shape.heads &&
                bias.scalar_type() == rows.scalar_type(),
            "the bias is ", bias.toString(), " of shape ", bias.sizes(), ": give ", rows.scalar_type(), " of [", pairs,
            ", ", call.shape.heads, "]");
  }
  return rows.scalar_type() == at::kDouble ? detail::encode_rows_as<double>(call, rows, lengths, parameters, bias)
                                           : detail::encode_rows_as<float>(call, rows, lengths, parameters, bias);
}

}  // namespace rino::fused
