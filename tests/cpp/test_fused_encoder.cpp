#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/autograd.h>

#include <rino/nn/fused/encoder.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/simd/target.hpp>

#include "catch.hpp"
#include "random_tokens.hpp"

namespace {

using rino::ClassToken;
using rino::EncoderKernels;
using rino::JetEncoder;
using rino::JetEncoderOptions;
using rino::Tokens;

JetEncoder make_encoder(JetEncoderOptions options, std::uint64_t seed, at::ScalarType type = at::kDouble) {
  JetEncoder encoder(options);
  rino::initialize(*encoder, seed);
  // Norms away from 1 and 0, so that their part in every formula is seen.
  const torch::NoGradGuard no_grad;
  for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
    if (slot.name.find("norm") != std::string::npos) {
      slot.tensor().add_(normal(slot.tensor().sizes(), ++seed, at::kFloat), 0.3);
    }
  }
  encoder->to(type);
  return encoder;
}

JetEncoderOptions sizes(std::int64_t inputs, std::int64_t width, std::int64_t heads, std::int64_t layers,
                        std::int64_t feedforward, ClassToken class_token = ClassToken::jet) {
  JetEncoderOptions options;
  options.inputs = inputs;
  options.width = width;
  options.heads = heads;
  options.layers = layers;
  options.feedforward = feedforward;
  options.class_token = class_token;
  options.dropout = 0.0;
  return options;
}

rino::fused::EncoderCall call_of(const JetEncoderOptions& options, bool firsts, rino::simd::Target target) {
  rino::fused::EncoderCall call;
  call.shape = {0, options.width, options.heads, options.layers, options.feedforward, 1e-5};
  call.learned = options.class_token == ClassToken::learned;
  call.firsts = firsts;
  call.target = target;
  return call;
}

std::vector<at::Tensor> parameters_of(const JetEncoder& encoder) {
  std::vector<at::Tensor> parameters;
  for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
    parameters.push_back(slot.tensor());
  }
  return parameters;
}

/// Some function of the outputs that treats every value differently, and its gradients.
std::vector<at::Tensor> gradients_of(const at::Tensor& jets, const at::Tensor& constituents,
                                     const std::vector<at::Tensor>& inputs) {
  at::Tensor value = (jets * normal(jets.sizes(), 71, jets.scalar_type())).sum();
  if (constituents.defined()) {
    value = value + (constituents * normal(constituents.sizes(), 72, jets.scalar_type())).sum();
  }
  return torch::autograd::grad({value}, inputs, {}, std::nullopt, false, true);
}

/// Outputs and all gradients of the fused kernels against those of the tree of modules, relative to the largest.
double difference_to_modules(const JetEncoderOptions& options, const Lengths& lengths, at::ScalarType type, bool firsts,
                             rino::simd::Target target) {
  JetEncoder encoder = make_encoder(options, 3, type);
  encoder->kernels = EncoderKernels::reference;
  Tokens tokens = random_tokens(lengths, options.inputs, 5, type);
  tokens.features.requires_grad_();
  tokens.jet_features.requires_grad_();
  std::vector<at::Tensor> inputs = parameters_of(encoder);
  inputs.push_back(tokens.features);
  if (options.class_token == ClassToken::jet) {
    inputs.push_back(tokens.jet_features);
  }
  const rino::Embeddings expected =
      firsts ? rino::Embeddings{encoder->embed_jets(tokens), {}} : encoder->forward(tokens);
  const auto result = rino::fused::encode(call_of(options, firsts, target), tokens, parameters_of(encoder));
  const auto scale = [](const at::Tensor& x) { return std::max(1.0, x.abs().max().item<double>()); };
  double worst = largest_difference(result.jets, expected.jets) / scale(expected.jets);
  if (!firsts && expected.constituents.numel() > 0) {
    worst =
        std::max(worst, largest_difference(result.constituents, expected.constituents) / scale(expected.constituents));
  }
  const std::vector<at::Tensor> wanted = gradients_of(expected.jets, expected.constituents, inputs);
  const std::vector<at::Tensor> got = gradients_of(result.jets, result.constituents, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    REQUIRE(got[i].defined() == wanted[i].defined());
    REQUIRE(got[i].sizes() == wanted[i].sizes());
    worst = std::max(worst, largest_difference(got[i], wanted[i]) / scale(wanted[i]));
  }
  return worst;
}

}  // namespace

TEST_CASE("fused kernels give the values and gradients of the tree of modules", "[fused]") {
  const rino::simd::Target target = GENERATE(from_range(rino::simd::supported_targets()));
  const bool firsts = GENERATE(true, false);
  CAPTURE(rino::to_string(target), firsts);
  const Lengths lengths = random_lengths(9, 40, /*sorted=*/false);

  SECTION("the paper's sizes") {
    for (const char* name : {"nano", "lite", "mini"}) {
      JetEncoderOptions options = JetEncoderOptions::preset(name);
      options.dropout = 0.0;
      options.layers = 2;
      CAPTURE(name);
      CHECK(difference_to_modules(options, lengths, at::kDouble, firsts, target) < 1e-12);
      CHECK(difference_to_modules(options, lengths, at::kFloat, firsts, target) < 1e-5);
    }
  }
  SECTION("heads that fill no vector, one block, learned class tokens, other features") {
    for (const JetEncoderOptions& options :
         {sizes(5, 48, 4, 1, 16), sizes(7, 16, 1, 3, 48, ClassToken::learned), sizes(11, 32, 32, 2, 32),
          sizes(16, 96, 2, 2, 80, ClassToken::learned), sizes(1, 80, 8, 1, 112)}) {
      CAPTURE(options.width, options.heads);
      CHECK(difference_to_modules(options, lengths, at::kDouble, firsts, target) < 1e-12);
      CHECK(difference_to_modules(options, lengths, at::kFloat, firsts, target) < 1e-5);
    }
  }
  SECTION("base, where products are cut in depth") {
    JetEncoderOptions options = JetEncoderOptions::preset("base");
    options.dropout = 0.0;
    options.layers = 1;
    CHECK(difference_to_modules(options, {1, 2, 17, 40, 3}, at::kDouble, firsts, target) < 1e-12);
  }
}

TEST_CASE("a fused encoder gives every sequence what it gives it alone", "[fused]") {
  JetEncoder encoder = make_encoder(sizes(11, 32, 4, 3, 64), 7);
  const Lengths lengths = random_lengths(10, 120, /*sorted=*/true);
  const Tokens tokens = random_tokens(lengths, 11, 6);
  const torch::NoGradGuard no_grad;
  const rino::Embeddings together = encoder(tokens);
  const at::Tensor jets = encoder->embed_jets(tokens);
  CHECK(largest_difference(together.jets, jets) < 1e-12);
  for (const std::int64_t s : {0, 1, 60, 118, 119}) {
    Tokens alone = random_tokens({tokens.length(s)}, 11, 0);
    alone.features = tokens.features.narrow(0, tokens.first(s), tokens.length(s));
    alone.jet_features = tokens.jet_features.narrow(0, s, 1);
    const rino::Embeddings expected = encoder(alone);
    CHECK(largest_difference(together.jets.narrow(0, s, 1), expected.jets) < 1e-12);
    CHECK(largest_difference(together.constituents.narrow(0, tokens.first(s), tokens.length(s)),
                             expected.constituents) < 1e-12);
  }
}

TEST_CASE("fused kernels give the same bits on one thread and on many", "[fused]") {
  JetEncoderOptions options = JetEncoderOptions::preset("nano");
  JetEncoder encoder = make_encoder(options, 8, at::kFloat);
  encoder->train();
  const Tokens tokens = random_tokens(random_lengths(11, 300, /*sorted=*/true), 11, 6, at::kFloat);
  const std::vector<at::Tensor> parameters = parameters_of(encoder);
  const int before = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    rino::set_generator(*encoder, rino::make_generator(at::kCPU, 3));
    const at::Tensor jets = encoder->embed_jets(tokens);
    std::vector<at::Tensor> result = gradients_of(jets, {}, parameters);
    result.push_back(jets.detach());
    results.push_back(std::move(result));
  }
  at::set_num_threads(before);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    CHECK(results[0][i].equal(results[1][i]));
    CHECK(results[0][i].equal(results[2][i]));
  }
}

namespace {

/// Dropout's factors at positions first + i * step, straight from their definition.
at::Tensor factors(const rino::fused::DropoutRule& rule, std::int64_t layer, rino::fused::DropoutSite site,
                   const std::vector<std::int64_t>& positions) {
  const std::uint32_t key = rino::fused::dropout_key(rule.seed, layer, site);
  std::vector<double> values;
  for (const std::int64_t position : positions) {
    const std::uint32_t bits = rino::fused::mix(static_cast<std::uint32_t>(position) * 0x9e3779b1U + key);
    values.push_back(bits < rule.threshold() ? rule.scale() : 0.0);
  }
  return at::tensor(values, at::kDouble);
}

/// [rows.size(), columns] of a site whose positions are packed row * columns + column.
at::Tensor row_factors(const rino::fused::DropoutRule& rule, std::int64_t layer, rino::fused::DropoutSite site,
                       const std::vector<std::int64_t>& rows, std::int64_t columns) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t row : rows) {
    for (std::int64_t c = 0; c < columns; ++c) {
      positions.push_back(row * columns + c);
    }
  }
  return factors(rule, layer, site, positions).view({-1, columns});
}

/// The encoder with dropout for one sequence, written down operation by operation.
at::Tensor jet_with_dropout(JetEncoder& encoder, const Tokens& tokens, std::int64_t s, bool firsts,
                            const rino::fused::DropoutRule& rule) {
  using rino::fused::DropoutSite;
  const JetEncoderOptions& o = encoder->options;
  const std::int64_t length = tokens.length(s) + 1;
  const std::int64_t start = tokens.first(s) + s;
  const std::int64_t d = o.width / o.heads;
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < length; ++i) {
    rows.push_back(start + i);
  }
  at::Tensor x = at::cat({encoder->jet_embedding(tokens.jet_features.narrow(0, s, 1)),
                          encoder->embedding(tokens.features.narrow(0, tokens.first(s), length - 1))});
  for (std::int64_t layer = 0; layer < o.layers; ++layer) {
    auto& block = encoder->blocks->at<rino::TransformerBlockImpl>(static_cast<std::size_t>(layer));
    const std::vector<at::Tensor> qkv = block.attention->qkv(block.norm1(x)).split(o.width, 1);
    std::vector<at::Tensor> mixed;
    for (std::int64_t h = 0; h < o.heads; ++h) {
      const auto head = [&](const at::Tensor& t) { return t.narrow(1, h * d, d); };
      const at::Tensor scores = at::matmul(head(qkv[0]), head(qkv[1]).t()) / std::sqrt(static_cast<double>(d));
      std::vector<std::int64_t> positions;
      for (const std::int64_t row : rows) {
        for (std::int64_t key = 0; key < length; ++key) {
          positions.push_back((row * o.heads + h) * 65536 + key);
        }
      }
      const at::Tensor kept = factors(rule, layer, DropoutSite::attention, positions).view({length, length});
      mixed.push_back(at::matmul(scores.softmax(1) * kept, head(qkv[2])));
    }
    const at::Tensor branch = block.attention->out(at::cat(mixed, 1));
    x = x + branch * row_factors(rule, layer, DropoutSite::attention_branch, rows, o.width);
    if (firsts && layer + 1 == o.layers) {
      x = x.narrow(0, 0, 1);
      rows.resize(1);
    }
    const at::Tensor hidden =
        at::gelu(block.linear1(block.norm2(x))) * row_factors(rule, layer, DropoutSite::hidden, rows, o.feedforward);
    x = x + block.linear2(hidden) * row_factors(rule, layer, DropoutSite::feedforward_branch, rows, o.width);
  }
  return encoder->norm(x.narrow(0, 0, 1));
}

}  // namespace

TEST_CASE("fused dropout multiplies what its rule says, forward and backward", "[fused]") {
  const rino::simd::Target target = GENERATE(from_range(rino::simd::supported_targets()));
  const bool firsts = GENERATE(true, false);
  const JetEncoderOptions options = sizes(11, 32, 4, 2, 64);
  JetEncoder encoder = make_encoder(options, 13);
  const Tokens tokens = random_tokens({1, 30, 2, 17, 5}, 11, 14);
  const std::vector<at::Tensor> parameters = parameters_of(encoder);
  rino::fused::EncoderCall call = call_of(options, firsts, target);
  call.dropout = {0.3, 12345};

  std::vector<at::Tensor> jets;
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    jets.push_back(jet_with_dropout(encoder, tokens, s, firsts, call.dropout));
  }
  const at::Tensor expected = at::cat(jets);
  const at::Tensor got = rino::fused::encode(call, tokens, parameters).jets;
  CHECK(largest_difference(got, expected) < 1e-12);
  const std::vector<at::Tensor> wanted = gradients_of(expected, {}, parameters);
  const std::vector<at::Tensor> found = gradients_of(got, {}, parameters);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    CHECK(largest_difference(found[i], wanted[i]) < 1e-11);
  }
}

TEST_CASE("fused dropout drops its share, without a pattern", "[fused]") {
  const rino::fused::DropoutRule rule{0.1, 99};
  const std::int64_t n = 400000;
  std::vector<std::int64_t> positions(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    positions[static_cast<std::size_t>(i)] = i;
  }
  const auto dropped = [&](std::int64_t layer, rino::fused::DropoutSite site) {
    return (factors(rule, layer, site, positions) == 0).to(at::kDouble);
  };
  using rino::fused::DropoutSite;
  const at::Tensor first = dropped(0, DropoutSite::hidden);
  const double error = std::sqrt(0.1 * 0.9 / static_cast<double>(n));
  CHECK(std::abs(first.mean().item<double>() - 0.1) < 5 * error);
  // neither with its neighbours, nor with the same positions of another place, layer or half of them
  for (const std::int64_t lag : {1, 2, 16, 32, 96, 128, 65536}) {
    const double both = (first.narrow(0, 0, n - lag) * first.narrow(0, lag, n - lag)).mean().item<double>();
    CHECK(std::abs(both - 0.01) < 5 * std::sqrt(0.01 * 0.99 / static_cast<double>(n - lag)));
  }
  for (const auto& [layer, site] : {std::pair{0, DropoutSite::attention}, std::pair{1, DropoutSite::hidden}}) {
    const double both = (first * dropped(layer, site)).mean().item<double>();
    CHECK(std::abs(both - 0.01) < 5 * std::sqrt(0.01 * 0.99 / static_cast<double>(n)));
  }
}

TEST_CASE("an encoder in training draws new dropout every time, and none in evaluation", "[fused]") {
  JetEncoder encoder = make_encoder(JetEncoderOptions::preset("nano"), 21, at::kFloat);
  const Tokens tokens = random_tokens({4, 9, 9, 30}, 11, 22, at::kFloat);
  const torch::NoGradGuard no_grad;
  encoder->train();
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 5));
  const at::Tensor one = encoder->embed_jets(tokens);
  const at::Tensor two = encoder->embed_jets(tokens);
  CHECK_FALSE(one.equal(two));
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 5));
  CHECK(encoder->embed_jets(tokens).equal(one));
  encoder->eval();
  CHECK(encoder->embed_jets(tokens).equal(encoder->embed_jets(tokens)));
}

TEST_CASE("a value that is not finite stays in its sequence", "[fused]") {
  JetEncoder encoder = make_encoder(sizes(11, 32, 4, 2, 64), 31, at::kFloat);
  Tokens tokens = random_tokens({3, 20, 7}, 11, 32, at::kFloat);
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  tokens.features[5][2].fill_(bad);
  const torch::NoGradGuard no_grad;
  const at::Tensor finite = encoder->embed_jets(tokens).isfinite().all(1);
  CHECK(finite[0].item<bool>());
  CHECK_FALSE(finite[1].item<bool>());
  CHECK(finite[2].item<bool>());
}

TEST_CASE("fused kernels are taken where they can be, and refused with the reason where not", "[fused]") {
  JetEncoder fits = make_encoder(sizes(11, 32, 4, 2, 64), 41, at::kFloat);
  JetEncoder odd = make_encoder(sizes(11, 24, 4, 2, 64), 41, at::kFloat);
  const Tokens tokens = random_tokens({3, 20, 7}, 11, 42, at::kFloat);
  fits->kernels = EncoderKernels::fused;
  CHECK(fits(tokens).jets.sizes() == at::IntArrayRef({3, 32}));
  CHECK(odd(tokens).jets.sizes() == at::IntArrayRef({3, 24}));
  odd->kernels = EncoderKernels::fused;
  CHECK(says(error_of([&] { odd(tokens); }), "multiples of 16", "'auto'", "'reference'"));
  const at::ScalarType usual = at::autocast::get_autocast_dtype(at::kCPU);
  at::autocast::set_autocast_dtype(at::kCPU, at::kHalf);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const std::string error = error_of([&] { fits->embed_jets(tokens); });
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::set_autocast_dtype(at::kCPU, usual);
  CHECK(says(error, "autocast", "'reference'"));

  const at::Tensor loss = fits(tokens).jets.pow(2).sum();
  CHECK(says(
      error_of([&] { torch::autograd::grad({loss}, {fits->norm->weight}, {}, std::nullopt, /*create_graph=*/true); }),
      "second derivatives", "'reference'"));
  fits->kernels = EncoderKernels::reference;
  const at::Tensor again = fits(tokens).jets.pow(2).sum();
  CHECK(torch::autograd::grad({again}, {fits->norm->weight}, {}, std::nullopt, true)[0].requires_grad());
}

TEST_CASE("a parameter that changes before the backward pass is noticed", "[fused]") {
  JetEncoder encoder = make_encoder(sizes(11, 32, 4, 2, 64), 51, at::kFloat);
  const Tokens tokens = random_tokens({3, 20, 7}, 11, 52, at::kFloat);
  const at::Tensor loss = encoder(tokens).jets.sum();
  {
    const torch::NoGradGuard no_grad;
    encoder->embedding->weight.add_(1.0);
  }
  std::string error;
  try {
    loss.backward();
  } catch (const std::exception& caught) {
    error = caught.what();
  }
  CHECK(says(error, "modified by an inplace operation"));
}

TEST_CASE("the machine's instruction sets are told, and others refused", "[simd]") {
  const std::vector<rino::simd::Target> targets = rino::simd::supported_targets();
  CHECK(targets.front() == rino::simd::Target::baseline);
  CHECK(std::is_sorted(targets.begin(), targets.end()));
  CHECK(rino::simd::best_target() == targets.back());
  for (const rino::simd::Target target : targets) {
    CHECK_NOTHROW(rino::simd::require_supported(target));
  }
}
