#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/autograd.h>

#include <rino/core/random.hpp>
#include <rino/nn/fused/encoder.hpp>
#include <rino/nn/fused/rows.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/precision.hpp>
#include <rino/simd/target.hpp>

#include "catch.hpp"
#include "random_tokens.hpp"

namespace {

using rino::fused::BlockTensor;
using rino::fused::DropoutRule;
using rino::fused::DropoutSite;
using rino::fused::Shape;

/// One of the eight kinds of block that the bits of `kind` stand for.
Shape shape_of(int kind, std::int64_t width, std::int64_t heads, std::int64_t layers, std::int64_t feedforward) {
  return {0, width, heads, layers, feedforward, 1e-3, (kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0};
}

/// Parameters of blocks and last norm in the order of fused::encode_rows, none at a special value.
std::vector<at::Tensor> random_parameters(const Shape& shape, std::uint64_t seed, at::ScalarType type) {
  std::vector<at::Tensor> parameters;
  const auto add = [&](at::IntArrayRef sizes, double mean, double deviation) {
    parameters.push_back((normal(sizes, ++seed) * deviation + mean).to(type));
  };
  const auto add_norm = [&] {
    add({shape.width}, 1.0, 0.3);
    if (!shape.rms) {
      add({shape.width}, 0.0, 0.3);
    }
  };
  const auto add_linear = [&](std::int64_t out, std::int64_t in) {
    add({out, in}, 0.0, 1.0 / std::sqrt(static_cast<double>(in)));
    add({out}, 0.0, 0.2);
  };
  const auto add_scale = [&] {
    if (shape.scaled) {
      add({shape.width}, 0.0, 0.5);
    }
  };
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    add_norm();
    add_linear(3 * shape.width, shape.width);
    add_linear(shape.width, shape.width);
    add_scale();
    add_norm();
    add_linear(shape.hidden(), shape.width);
    add_linear(shape.width, shape.feedforward);
    add_scale();
  }
  add_norm();
  for (at::Tensor& parameter : parameters) {
    parameter.requires_grad_();
  }
  return parameters;
}

/// Blocks and last norm for one sequence, written down operation by operation.
class Formulas {
 public:
  /// @param start  packed row of the sequence's first row, for dropout.
  Formulas(const Shape& shape, const std::vector<at::Tensor>& parameters, const DropoutRule& rule, std::int64_t start)
      : shape_(shape), next_(parameters.begin()), rule_(rule), start_(start) {}

  at::Tensor operator()(at::Tensor x) {
    for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
      at::Tensor branch = linear(attention(linear(norm(x)), layer));
      x = x + scale(branch) * row_factors(layer, DropoutSite::attention_branch, x.size(0), shape_.width);
      at::Tensor hidden = linear(norm(x));
      if (shape_.gated) {
        hidden = at::silu(hidden.narrow(1, 0, shape_.feedforward)) *
                 hidden.narrow(1, shape_.feedforward, shape_.feedforward);
      } else {
        hidden = at::gelu(hidden);
      }
      branch = linear(hidden * row_factors(layer, DropoutSite::hidden, x.size(0), shape_.feedforward));
      x = x + scale(branch) * row_factors(layer, DropoutSite::feedforward_branch, x.size(0), shape_.width);
    }
    return norm(x);
  }

 private:
  at::Tensor take() { return *next_++; }

  at::Tensor norm(const at::Tensor& x) {
    const at::Tensor centred = shape_.rms ? x : x - x.mean(1, true);
    const at::Tensor weight = take();
    const at::Tensor y = centred * (centred.square().mean(1, true) + shape_.eps).rsqrt() * weight;
    return shape_.rms ? y : y + take();
  }

  at::Tensor linear(const at::Tensor& x) {
    const at::Tensor weight = take();
    return at::linear(x, weight, take());
  }

  at::Tensor scale(const at::Tensor& branch) { return shape_.scaled ? branch * take() : branch; }

  at::Tensor attention(const at::Tensor& qkv, std::int64_t layer) {
    const std::int64_t length = qkv.size(0);
    const std::int64_t d = shape_.head_width();
    const auto heads = [&](std::int64_t part) {
      return qkv.narrow(1, part * shape_.width, shape_.width).view({length, shape_.heads, d}).transpose(0, 1);
    };
    at::Tensor weights =
        (at::matmul(heads(0), heads(1).transpose(1, 2)) / std::sqrt(static_cast<double>(d))).softmax(2);
    if (rule_.active()) {
      std::vector<std::int64_t> positions;
      for (std::int64_t h = 0; h < shape_.heads; ++h) {
        for (std::int64_t query = 0; query < length; ++query) {
          for (std::int64_t key = 0; key < length; ++key) {
            positions.push_back(((start_ + query) * shape_.heads + h) * 65536 + key);
          }
        }
      }
      weights = weights * factors(layer, DropoutSite::attention, positions).view_as(weights).to(weights.scalar_type());
    }
    return at::matmul(weights, heads(2)).transpose(0, 1).reshape({length, shape_.width});
  }

  at::Tensor factors(std::int64_t layer, DropoutSite site, const std::vector<std::int64_t>& positions) const {
    const std::uint32_t key = rino::fused::dropout_key(rule_.seed, layer, site);
    std::vector<double> values;
    values.reserve(positions.size());
    for (const std::int64_t position : positions) {
      const std::uint32_t bits = rino::fused::mix(static_cast<std::uint32_t>(position) * 0x9e3779b1U + key);
      values.push_back(bits < rule_.threshold() ? rule_.scale() : 0.0);
    }
    return at::tensor(values, at::kDouble);
  }

  at::Tensor row_factors(std::int64_t layer, DropoutSite site, std::int64_t rows, std::int64_t columns) const {
    if (!rule_.active()) {
      return at::ones({1, 1}, at::kFloat);
    }
    std::vector<std::int64_t> positions;
    for (std::int64_t row = start_; row < start_ + rows; ++row) {
      for (std::int64_t c = 0; c < columns; ++c) {
        positions.push_back(row * columns + c);
      }
    }
    return factors(layer, site, positions).view({rows, columns}).to(next_->scalar_type());
  }

  Shape shape_;
  std::vector<at::Tensor>::const_iterator next_;
  DropoutRule rule_;
  std::int64_t start_;
};

/// All rows, or the first of every sequence.
at::Tensor by_formulas(const rino::fused::EncoderCall& call, const at::Tensor& rows, const Lengths& lengths,
                       const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> results;
  std::int64_t start = 0;
  for (const std::int64_t length : lengths) {
    const at::Tensor result = Formulas(call.shape, parameters, call.dropout, start)(rows.narrow(0, start, length));
    results.push_back(call.firsts ? result.narrow(0, 0, 1) : result);
    start += length;
  }
  return at::cat(results);
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1.0)).item<double>();
}

/// Gradients of some function of the result that treats every value differently.
std::vector<at::Tensor> gradients_of(const at::Tensor& result, const std::vector<at::Tensor>& inputs) {
  const at::Tensor value = (result * normal(result.sizes(), 71, result.scalar_type())).sum();
  return torch::autograd::grad({value}, inputs);
}

/// Outputs and all gradients of the kernels against the formulas, relative to the largest.
double difference_to_formulas(const rino::fused::EncoderCall& call, const Lengths& lengths, at::ScalarType type) {
  const std::vector<at::Tensor> parameters = random_parameters(call.shape, 3, type);
  const at::Tensor rows = normal({total(lengths), call.shape.width}, 5, type).requires_grad_();
  const at::Tensor expected = by_formulas(call, rows, lengths, parameters);
  const at::Tensor got = rino::fused::encode_rows(call, rows, lengths, parameters);
  REQUIRE(got.sizes() == expected.sizes());
  double worst = relative_difference(got, expected);
  {
    const torch::NoGradGuard no_grad;
    REQUIRE(rino::fused::encode_rows(call, rows, lengths, parameters).equal(got));
  }
  std::vector<at::Tensor> inputs = parameters;
  inputs.push_back(rows);
  const std::vector<at::Tensor> wanted = gradients_of(expected, inputs);
  const std::vector<at::Tensor> found = gradients_of(got, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    REQUIRE(found[i].sizes() == wanted[i].sizes());
    worst = std::max(worst, relative_difference(found[i], wanted[i]));
  }
  return worst;
}

rino::fused::EncoderCall call_of(const Shape& shape, bool firsts = false,
                                 rino::simd::Target target = rino::simd::best_target()) {
  rino::fused::EncoderCall call;
  call.shape = shape;
  call.firsts = firsts;
  call.target = target;
  return call;
}

}  // namespace

TEST_CASE("fused blocks of every kind give the values and gradients of their formulas", "[fused]") {
  const rino::simd::Target target = GENERATE(from_range(rino::simd::supported_targets()));
  const bool firsts = GENERATE(true, false);
  const int kind = GENERATE(range(0, 8));
  CAPTURE(rino::to_string(target), firsts, kind);
  const Lengths lengths{1, 60, 2, 17, 33, 1, 5, 101};
  for (const Shape& shape :
       {shape_of(kind, 32, 4, 2, 128), shape_of(kind, 48, 4, 1, 16), shape_of(kind, 16, 1, 3, 80)}) {
    CAPTURE(shape.width);
    CHECK(difference_to_formulas(call_of(shape, firsts, target), lengths, at::kDouble) < 1e-12);
    CHECK(difference_to_formulas(call_of(shape, firsts, target), lengths, at::kFloat) < 1e-5);
  }
}

TEST_CASE("what the fused kernels keep for their backward pass changes no bit", "[fused]") {
  const rino::simd::Target target = GENERATE(from_range(rino::simd::supported_targets()));
  const bool firsts = GENERATE(true, false);
  const int kind = GENERATE(range(0, 8));
  CAPTURE(rino::to_string(target), firsts, kind);
  const Lengths lengths{1, 60, 2, 17, 33, 1, 5, 101};
  rino::fused::EncoderCall call = call_of(shape_of(kind, 48, 4, 3, 64), firsts, target);
  call.dropout = {0.3, 12345};
  const std::vector<at::Tensor> parameters = random_parameters(call.shape, 3, at::kFloat);
  const at::Tensor rows = normal({total(lengths), call.shape.width}, 5, at::kFloat).requires_grad_();
  std::vector<at::Tensor> inputs = parameters;
  inputs.push_back(rows);
  std::vector<at::Tensor> expected;
  // of no layer, of two of three, and of all
  const rino::fused::Index layer =
      total(lengths) * (rino::fused::pitch(3 * 48) + rino::fused::pitch(call.shape.hidden())) * 4;
  for (const rino::fused::Index bytes : {rino::fused::Index{0}, 2 * layer + 100, 3 * layer}) {
    call.kept_bytes = bytes;
    const at::Tensor got = rino::fused::encode_rows(call, rows, lengths, parameters);
    for (const bool again : {false, true}) {  // what is kept is still there for a second pass
      std::vector<at::Tensor> found =
          torch::autograd::grad({(got * normal(got.sizes(), 71, at::kFloat)).sum()}, inputs, {}, /*retain_graph=*/true);
      found.push_back(got);
      if (expected.empty()) {
        expected = found;
      }
      CAPTURE(bytes, again);
      for (std::size_t i = 0; i < found.size(); ++i) {
        REQUIRE(found[i].equal(expected[i]));
      }
    }
  }
}

TEST_CASE("fused blocks of the production encoder's width give the values and gradients of their formulas", "[fused]") {
  const bool firsts = GENERATE(true, false);
  const Shape shape = shape_of(7, 256, 16, 1, 1024);
  CHECK(difference_to_formulas(call_of(shape, firsts), {5, 1, 22, 95}, at::kDouble) < 1e-12);
  CHECK(difference_to_formulas(call_of(shape, firsts), {5, 1, 22, 95}, at::kFloat) < 1e-5);
}

TEST_CASE("fused dropout is that of its rule in blocks of every kind", "[fused]") {
  const rino::simd::Target target = GENERATE(from_range(rino::simd::supported_targets()));
  const int kind = GENERATE(range(0, 8));
  CAPTURE(rino::to_string(target), kind);
  for (const bool firsts : {true, false}) {
    rino::fused::EncoderCall call = call_of(shape_of(kind, 32, 4, 2, 64), firsts, target);
    call.dropout = {0.3, 12345};
    CHECK(difference_to_formulas(call, {2, 31, 3, 18, 6}, at::kDouble) < 1e-12);
  }
}

TEST_CASE("the products of fused blocks may be bfloat16's", "[fused][bf16]") {
  const rino::bf16::Unit unit = GENERATE(rino::bf16::Unit::dots, rino::bf16::Unit::tiles);
  if (!rino::bf16::runs(unit)) {
    return;
  }
  const int kind = GENERATE(range(0, 8));
  const bool firsts = GENERATE(true, false);
  CAPTURE(rino::to_string(unit), kind, firsts);
  rino::fused::EncoderCall call = call_of(shape_of(kind, 64, 4, 2, 112), firsts);
  call.bf16 = unit;
  const double difference = difference_to_formulas(call, random_lengths(9, 20, /*sorted=*/false), at::kFloat);
  CHECK(difference > 1e-5);
  CHECK(difference < 0.05);
}

TEST_CASE("tokens enter fused blocks of every kind", "[fused]") {
  const int kind = GENERATE(range(0, 8));
  const bool learned = GENERATE(true, false);
  CAPTURE(kind, learned);
  rino::fused::EncoderCall call = call_of(shape_of(kind, 32, 4, 2, 64));
  call.learned = learned;
  rino::Tokens tokens = random_tokens({3, 1, 40, 7}, 7, 4);
  tokens.features.requires_grad_();
  std::vector<at::Tensor> parameters{normal({32, 7}, 41), normal({32}, 42)};
  if (learned) {
    parameters.push_back(normal({1, 32}, 43));
  } else {
    parameters.insert(parameters.end(), {normal({32, 4}, 44), normal({32}, 45)});
  }
  for (at::Tensor& parameter : parameters) {
    parameter.requires_grad_();
  }
  const at::Tensor embedded = at::linear(tokens.features, parameters[0], parameters[1]);
  const at::Tensor class_tokens = learned ? parameters[2].expand({tokens.sequences(), 32})
                                          : at::linear(tokens.jet_features, parameters[2], parameters[3]);
  std::vector<at::Tensor> rows;
  Lengths lengths;
  std::vector<std::int64_t> firsts;
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    firsts.push_back(total(lengths));
    lengths.push_back(tokens.length(s) + 1);
    rows.push_back(class_tokens.narrow(0, s, 1));
    rows.push_back(embedded.narrow(0, tokens.first(s), tokens.length(s)));
  }
  const std::vector<at::Tensor> blocks = random_parameters(call.shape, 3, at::kDouble);
  parameters.insert(parameters.end(), blocks.begin(), blocks.end());
  const at::Tensor expected = by_formulas(call, at::cat(rows), lengths, blocks).index_select(0, at::tensor(firsts));
  const at::Tensor got = rino::fused::encode(call, tokens, parameters).jets;
  CHECK(relative_difference(got, expected) < 1e-12);
  parameters.push_back(tokens.features);
  const std::vector<at::Tensor> wanted = gradients_of(expected, parameters);
  const std::vector<at::Tensor> found = gradients_of(got, parameters);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    CHECK(relative_difference(found[i], wanted[i]) < 1e-12);
  }
}

TEST_CASE("fused blocks give the same bits on one thread and on many", "[fused]") {
  const int kind = GENERATE(0, 7);
  rino::fused::EncoderCall call = call_of(shape_of(kind, 32, 4, 2, 128));
  call.dropout = {0.1, 3};
  const Lengths lengths = random_lengths(11, 300, /*sorted=*/true);
  const std::vector<at::Tensor> parameters = random_parameters(call.shape, 3, at::kFloat);
  const at::Tensor rows = normal({total(lengths), 32}, 5, at::kFloat).requires_grad_();
  std::vector<at::Tensor> inputs = parameters;
  inputs.push_back(rows);
  const int before = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const at::Tensor got = rino::fused::encode_rows(call, rows, lengths, parameters);
    results.push_back(gradients_of(got, inputs));
    results.back().push_back(got.detach());
  }
  at::set_num_threads(before);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    CHECK(results[0][i].equal(results[1][i]));
    CHECK(results[0][i].equal(results[2][i]));
  }
}

TEST_CASE("a value that is not finite stays in its sequence of rows", "[fused]") {
  const int kind = GENERATE(range(0, 8));
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                              -std::numeric_limits<double>::infinity(), 1e30);
  const rino::fused::EncoderCall call = call_of(shape_of(kind, 32, 4, 2, 64), /*firsts=*/true);
  at::Tensor rows = normal({30, 32}, 6, at::kFloat);
  rows[5][2].fill_(bad);
  const torch::NoGradGuard no_grad;
  const at::Tensor finite =
      rino::fused::encode_rows(call, rows, Lengths{3, 20, 7}, random_parameters(call.shape, 3, at::kFloat))
          .isfinite()
          .all(1);
  CHECK(finite[0].item<bool>());
  CHECK((std::isfinite(bad) || !finite[1].item<bool>()));
  CHECK(finite[2].item<bool>());
}

TEST_CASE("rows that are views, rows without gradients, and rows that do not fit their sequences", "[fused]") {
  const rino::fused::EncoderCall call = call_of(shape_of(7, 32, 4, 2, 64));
  const std::vector<at::Tensor> parameters = random_parameters(call.shape, 3, at::kDouble);
  const at::Tensor wide = normal({12, 64}, 7);
  const at::Tensor view = wide.narrow(1, 16, 32);
  const at::Tensor got = rino::fused::encode_rows(call, view, Lengths{4, 8}, parameters);
  CHECK(got.equal(rino::fused::encode_rows(call, view.contiguous(), Lengths{4, 8}, parameters)));
  CHECK(relative_difference(
            torch::autograd::grad({got.sum()}, {parameters[0]})[0],
            torch::autograd::grad({by_formulas(call, view, {4, 8}, parameters).sum()}, {parameters[0]})[0]) < 1e-12);
  CHECK(rino::fused::encode_rows(call, view.narrow(0, 0, 0), Lengths{}, parameters).size(0) == 0);
  CHECK(says(error_of([&] { rino::fused::encode_rows(call, view, Lengths{4, 9}, parameters); }), "[12, 32]", "13"));
  CHECK(says(error_of([&] { rino::fused::encode_rows(call, wide, Lengths{4, 8}, parameters); }), "[12, 64]", "32"));
}

namespace {

using rino::EncoderKernels;
using rino::JetEncoder;
using rino::JetEncoderOptions;
using rino::Tokens;

/// Nano with blocks of `kind`; with `parts` also all that the production encoder has before and behind its blocks.
JetEncoderOptions encoder_options(int kind, bool parts) {
  JetEncoderOptions options;
  options.inputs = 7;
  options.layers = 2;
  options.dropout = 0.0;
  options.norm = (kind & 1) != 0 ? rino::NormKind::rms : rino::NormKind::layer;
  options.norm_eps = 1e-3;
  options.feedforward_kind = (kind & 2) != 0 ? rino::FeedForwardKind::swiglu : rino::FeedForwardKind::gelu;
  options.layer_scale = (kind & 4) != 0 ? 0.3 : 0.0;
  options.radial_bins = 5;
  options.angular_bins = 6;
  if (parts) {
    options.class_token = rino::ClassToken::learned;
    options.registers = 3;
    options.embedding_norm = true;
    options.positions = rino::Positions::polar;
    options.masked_token = rino::MaskedToken::learned;
  }
  return options;
}

JetEncoder encoder_of(const JetEncoderOptions& options, at::ScalarType type) {
  JetEncoder encoder(options);
  rino::initialize(*encoder, 3);
  const torch::NoGradGuard no_grad;
  std::uint64_t seed = 10;
  for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
    slot.tensor().add_(normal(slot.tensor().sizes(), ++seed, at::kFloat), 0.2);
  }
  encoder->to(type);
  return encoder;
}

Tokens some_tokens(at::ScalarType type, bool masked) {
  Tokens tokens = random_tokens({1, 2, 40, 9, 10, 10, 3}, 7, 21, type);
  if (masked) {
    tokens.masked = normal({tokens.offsets.back()}, 23) > 0.4;
  }
  tokens.features.requires_grad_();
  return tokens;
}

/// Jets, their constituents, jets alone, then all gradients (undefined where there are none).
std::vector<at::Tensor> results_of(JetEncoder& encoder, const Tokens& tokens, EncoderKernels kernels) {
  encoder->kernels = kernels;
  const rino::Embeddings both = encoder(tokens);
  const at::Tensor alone = encoder->embed_jets(tokens);
  const auto score = [](const at::Tensor& x, std::uint64_t seed) {
    return (x * normal(x.sizes(), seed, x.scalar_type())).sum();
  };
  const at::Tensor value = score(both.jets, 31) + score(both.constituents, 32) + score(alone, 33);
  std::vector<at::Tensor> inputs = encoder->parameters();
  inputs.push_back(tokens.features);
  std::vector<at::Tensor> results = torch::autograd::grad({value}, inputs, {}, std::nullopt, false, true);
  results.insert(results.begin(), {both.jets.detach(), both.constituents.detach(), alone.detach()});
  return results;
}

using ::largest_difference;

double largest_difference(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE(got[i].defined() == expected[i].defined());
    if (expected[i].defined()) {
      REQUIRE(got[i].sizes() == expected[i].sizes());
      worst = std::max(worst, relative_difference(got[i], expected[i]));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("an encoder of any blocks and parts is the same from fused kernels as from its modules", "[fused]") {
  const int kind = GENERATE(range(0, 8));
  const bool parts = GENERATE(true, false);
  const bool masked = GENERATE(true, false);
  const auto pooling =
      GENERATE(rino::Pooling::token, rino::Pooling::mean, rino::Pooling::attention, rino::Pooling::both);
  CAPTURE(kind, parts, masked, pooling);
  JetEncoderOptions options = encoder_options(kind, parts);
  options.pooling = pooling;
  for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-5}}) {
    JetEncoder encoder = encoder_of(options, type);
    const Tokens tokens = some_tokens(type, masked);
    const auto expected = results_of(encoder, tokens, EncoderKernels::reference);
    CHECK(largest_difference(results_of(encoder, tokens, EncoderKernels::fused), expected) < tolerance);
  }
}

TEST_CASE("every part beside the blocks leaves them to the fused kernels", "[fused]") {
  const int part = GENERATE(range(0, 5));
  CAPTURE(part);
  const JetEncoderOptions all = encoder_options(7, /*parts=*/true);
  JetEncoderOptions options = encoder_options(0, /*parts=*/false);
  options.class_token = part == 0 ? all.class_token : options.class_token;
  options.registers = part == 1 ? all.registers : options.registers;
  options.embedding_norm = part == 2;
  options.positions = part == 3 ? all.positions : options.positions;
  options.masked_token = part == 4 ? all.masked_token : options.masked_token;
  JetEncoder encoder = encoder_of(options, at::kDouble);
  const Tokens tokens = some_tokens(at::kDouble, /*masked=*/true);
  const auto expected = results_of(encoder, tokens, EncoderKernels::reference);
  CHECK(largest_difference(results_of(encoder, tokens, EncoderKernels::fused), expected) < 1e-12);
}

TEST_CASE("an encoder of any blocks draws new dropout every time, and none in evaluation", "[fused]") {
  const int kind = GENERATE(range(0, 8));
  const bool parts = GENERATE(true, false);
  CAPTURE(kind, parts);
  JetEncoderOptions options = encoder_options(kind, parts);
  options.dropout = 0.1;
  JetEncoder encoder = encoder_of(options, at::kFloat);
  encoder->kernels = EncoderKernels::fused;
  const Tokens tokens = some_tokens(at::kFloat, /*masked=*/true);
  const torch::NoGradGuard no_grad;
  encoder->train();
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 5));
  const at::Tensor one = encoder->embed_jets(tokens);
  CHECK_FALSE(encoder->embed_jets(tokens).equal(one));
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 5));
  CHECK(encoder->embed_jets(tokens).equal(one));
  encoder->eval();
  CHECK(encoder->embed_jets(tokens).equal(encoder->embed_jets(tokens)));
}

TEST_CASE("an encoder of any blocks takes bfloat16 products under autocast where the processor has them", "[fused]") {
  const int kind = GENERATE(range(0, 8));
  const bool parts = GENERATE(true, false);
  CAPTURE(kind, parts);
  JetEncoder encoder = encoder_of(encoder_options(kind, parts), at::kFloat);
  const Tokens tokens = some_tokens(at::kFloat, /*masked=*/true);
  const auto expected = results_of(encoder, tokens, EncoderKernels::reference);
  if (!rino::bf16::supported()) {
    return;
  }
  std::vector<at::Tensor> got;
  {
    const rino::Autocast autocast(rino::Precision::bf16, at::kCPU);
    got = results_of(encoder, tokens, EncoderKernels::fused);
  }
  CHECK(got[0].scalar_type() == at::kFloat);
  const double difference = largest_difference(got, expected);
  CHECK(difference > 1e-5);
  CHECK(difference < 0.1);
}
