// CUDA's attention kernels for sequences of any lengths have no implementation on a CPU. Here they get one, written
// from the formulas, so that their real signatures and derivative formulas run, and what our code must never ask of
// them is refused.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/stack.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/library.h>

#include <rino/core/error.hpp>
#include <rino/nn/attention.hpp>
#include <rino/nn/packing.hpp>

#include "catch.hpp"
#include "random_tokens.hpp"

namespace {

using rino::Packing;
using Stack = torch::jit::Stack;

/// A call's arguments by name, whatever else a version of LibTorch has added.
class Arguments {
 public:
  Arguments(const c10::OperatorHandle& op, const Stack& stack)
      : schema_(op.schema()), values_(stack.end() - static_cast<long>(schema_.arguments().size()), stack.end()) {}

  const c10::IValue& operator[](const std::string& name) const {
    const auto place = schema_.argumentIndexWithName(name);
    rino::require(place.has_value(), "the operator has no argument ", name);
    return values_[static_cast<std::size_t>(*place)];
  }

  /// Rows of a packed argument, [R, heads, d], with or without a dimension for the batch.
  at::Tensor rows(const std::string& name) const {
    const at::Tensor x = (*this)[name].toTensor();
    return x.dim() == 4 ? x.squeeze(0) : x;
  }

  void replace(Stack& stack, const std::vector<c10::IValue>& results) const {
    stack.resize(stack.size() - schema_.arguments().size());
    stack.insert(stack.end(), results.begin(), results.end());
  }

  bool batched(const std::string& name) const { return (*this)[name].toTensor().dim() == 4; }
  std::size_t returns() const { return schema_.returns().size(); }

 private:
  const c10::FunctionSchema& schema_;
  std::vector<c10::IValue> values_;
};

/// The constraints of the CUDA kernels, and ours: no dropout.
void check(const Arguments& call, const at::Tensor& starts_q, const at::Tensor& starts_k) {
  rino::require(call["dropout_p"].toDouble() == 0.0, "a kernel for sequences of any lengths was asked to drop");
  rino::require(starts_q.scalar_type() == at::kInt && starts_k.scalar_type() == at::kInt, "lengths are not int32");
  for (const char* name : {"query", "key", "value"}) {
    const at::Tensor x = call.rows(name);
    rino::require(x.size(2) % 8 == 0 && x.stride(2) == 1, name, " has heads of ", x.size(2), ", stride ", x.stride(2));
  }
}

std::vector<std::int64_t> lengths_of(const at::Tensor& starts) {
  const at::Tensor counts = starts.diff().to(at::kLong).contiguous();
  return {counts.const_data_ptr<std::int64_t>(), counts.const_data_ptr<std::int64_t>() + counts.size(0)};
}

/// softmax(scale q k^T), [heads, Lq, Lk], of one sequence's [L, heads, d].
at::Tensor weights_of(const at::Tensor& q, const at::Tensor& k, double scale) {
  return at::matmul(q.transpose(0, 1) * scale, k.permute({1, 2, 0})).softmax(2);
}

struct Names {
  const char* starts_q;
  const char* starts_k;
};

void forward(const Names& names, const c10::OperatorHandle& op, Stack* stack) {
  const Arguments call(op, *stack);
  const at::Tensor starts_q = call[names.starts_q].toTensor();
  const at::Tensor starts_k = call[names.starts_k].toTensor();
  check(call, starts_q, starts_k);
  const double scale = call["scale"].toDouble();
  const auto q = call.rows("query").split_with_sizes(lengths_of(starts_q));
  const auto k = call.rows("key").split_with_sizes(lengths_of(starts_k));
  const auto v = call.rows("value").split_with_sizes(lengths_of(starts_k));
  std::vector<at::Tensor> mixed;
  for (std::size_t s = 0; s < q.size(); ++s) {
    mixed.push_back(at::matmul(weights_of(q[s], k[s], scale), v[s].transpose(0, 1)).transpose(0, 1));
  }
  const at::Tensor out = at::cat(mixed);
  std::vector<c10::IValue> results{call.batched("query") ? out.unsqueeze(0) : out};
  while (results.size() < call.returns()) {
    const bool number = op.schema().returns()[results.size()].type()->kind() != c10::TypeKind::TensorType;
    results.push_back(number ? c10::IValue(std::int64_t{0}) : c10::IValue(at::zeros({1})));
  }
  call.replace(*stack, results);
}

void backward(const Names& names, const char* gradient, const c10::OperatorHandle& op, Stack* stack) {
  const Arguments call(op, *stack);
  const at::Tensor starts_q = call[names.starts_q].toTensor();
  const at::Tensor starts_k = call[names.starts_k].toTensor();
  check(call, starts_q, starts_k);
  const double scale = call["scale"].toDouble();
  const auto q = call.rows("query").split_with_sizes(lengths_of(starts_q));
  const auto k = call.rows("key").split_with_sizes(lengths_of(starts_k));
  const auto v = call.rows("value").split_with_sizes(lengths_of(starts_k));
  const auto d_out = call.rows(gradient).split_with_sizes(lengths_of(starts_q));
  std::vector<at::Tensor> d_q;
  std::vector<at::Tensor> d_k;
  std::vector<at::Tensor> d_v;
  for (std::size_t s = 0; s < q.size(); ++s) {
    const at::Tensor weights = weights_of(q[s], k[s], scale);
    const at::Tensor d = d_out[s].transpose(0, 1);
    const at::Tensor d_weights = at::matmul(d, v[s].permute({1, 2, 0}));
    const at::Tensor d_scores = weights * (d_weights - (weights * d_weights).sum(2, /*keepdim=*/true)) * scale;
    d_q.push_back(at::matmul(d_scores, k[s].transpose(0, 1)).transpose(0, 1));
    d_k.push_back(at::matmul(d_scores.transpose(1, 2), q[s].transpose(0, 1)).transpose(0, 1));
    d_v.push_back(at::matmul(weights.transpose(1, 2), d).transpose(0, 1));
  }
  std::vector<c10::IValue> results;
  for (const auto& parts : {d_q, d_k, d_v}) {
    results.emplace_back(call.batched("query") ? at::cat(parts).unsqueeze(0) : at::cat(parts));
  }
  while (results.size() < call.returns()) {
    results.emplace_back(at::Tensor());
  }
  call.replace(*stack, results);
}

constexpr Names kEfficient{"cu_seqlens_q", "cu_seqlens_k"};
constexpr Names kFlash{"cum_seq_q", "cum_seq_k"};

void efficient_forward(const c10::OperatorHandle& op, Stack* stack) {
  forward(kEfficient, op, stack);
}
void efficient_backward(const c10::OperatorHandle& op, Stack* stack) {
  backward(kEfficient, "grad_out_", op, stack);
}
void flash_forward(const c10::OperatorHandle& op, Stack* stack) {
  forward(kFlash, op, stack);
}
void flash_backward(const c10::OperatorHandle& op, Stack* stack) {
  backward(kFlash, "grad_out", op, stack);
}

TORCH_LIBRARY_IMPL(aten, CPU, library) {
  library.impl("_efficient_attention_forward", torch::CppFunction::makeFromBoxedFunction<&efficient_forward>());
  library.impl("_efficient_attention_backward", torch::CppFunction::makeFromBoxedFunction<&efficient_backward>());
  library.impl("_flash_attention_forward", torch::CppFunction::makeFromBoxedFunction<&flash_forward>());
  library.impl("_flash_attention_backward", torch::CppFunction::makeFromBoxedFunction<&flash_backward>());
}

struct Result {
  at::Tensor rows;
  std::vector<at::Tensor> gradients;
};

Result run(rino::Attention& attention, const at::Tensor& x, const Packing& packing, bool firsts) {
  const at::Tensor input = x.detach().requires_grad_(true);
  const at::Tensor rows = attention(input, packing, firsts);
  std::vector<at::Tensor> inputs{input};
  for (const at::Tensor& parameter : attention->parameters()) {
    inputs.push_back(parameter);
  }
  const at::Tensor score = rows * normal(rows.sizes(), 5, rows.scalar_type());
  return {rows.detach(), torch::autograd::grad({score.sum()}, inputs)};
}

}  // namespace

TEST_CASE("attention by kernels for any lengths equals that in runs, with its gradients", "[nn][attention]") {
  // Memory-efficient attention in float, FlashAttention elsewhere; heads of 4 are padded to 8.
  const auto type = GENERATE(at::kFloat, at::kDouble);
  const std::int64_t width = GENERATE(16, 64);
  const bool firsts = GENERATE(false, true);
  rino::Attention attention(rino::AttentionOptions{width, 4});
  rino::initialize(*attention, 3);
  attention->to(type);
  const Lengths lengths = random_lengths(7, 12, /*sorted=*/false);
  const at::Tensor x = normal({total(lengths), width}, 8, type);
  Packing any;
  any.firsts = Packing::plan(lengths, x.options()).firsts;
  any.plan_variable(lengths, at::kCPU, 5, 512);  // runs of four: each counts as 128 rows
  REQUIRE(any.runs.size() == 4);
  const Result found = run(attention, x, any, firsts);
  const Result expected = run(attention, x, Packing::plan(lengths, x.options()), firsts);
  const double bound = type == at::kFloat ? 2e-5 : 1e-12;
  CHECK(largest_difference(found.rows, expected.rows) < bound);
  for (std::size_t i = 0; i < expected.gradients.size(); ++i) {
    const double scale = std::max(1.0, expected.gradients[i].abs().max().item<double>());
    CHECK(largest_difference(found.gradients[i], expected.gradients[i]) < bound * scale);
  }
}

TEST_CASE("attention that drops weights is never given to kernels for any lengths", "[nn][attention]") {
  const auto on = [](at::DeviceType device, at::ScalarType type) { return at::TensorOptions(device).dtype(type); };
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    CHECK(Packing::takes_any_length(on(at::kCUDA, type), /*drops=*/false));
    CHECK_FALSE(Packing::takes_any_length(on(at::kCUDA, type), /*drops=*/true));
    CHECK_FALSE(Packing::takes_any_length(on(at::kCPU, type), /*drops=*/false));
  }
  CHECK_FALSE(Packing::takes_any_length(on(at::kCUDA, at::kDouble), /*drops=*/false));

  rino::Attention attention(rino::AttentionOptions{16, 4, 0.1});
  rino::initialize(*attention, 3);
  const Lengths lengths{2, 5};
  const at::Tensor x = normal({7, 16}, 8, at::kFloat);
  Packing any;
  any.plan_variable(lengths, at::kCPU);
  attention->train();
  CHECK(says(error_of([&] { attention(x, any); }), "dropped", "altered = true"));
  attention->eval();
  CHECK(largest_difference(attention(x, any), attention(x, Packing::plan(lengths, x.options()))) < 1e-6);
}
