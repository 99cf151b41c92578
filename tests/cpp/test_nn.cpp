#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <rino/core/random.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/nn/attention.hpp>
#include <rino/nn/dropout.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/linear.hpp>
#include <rino/nn/packing.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/tokens/tokens.hpp>
#include <rino/tokens/view_tokenizer.hpp>

#include "catch.hpp"
#include "random_tokens.hpp"

namespace {

using rino::JetEncoder;
using rino::JetEncoderOptions;
using rino::Packing;
using rino::ProjectionHead;
using rino::ProjectionHeadOptions;
using rino::Tokens;

using ::largest_difference;

/// The state of LibTorch's global generator, which must stay as it is.
at::Tensor global_state() {
  return at::globalContext().defaultGenerator(at::kCPU).get_state().clone();
}

/// All tensors of a module as doubles, one behind the other.
at::Tensor values_of(const torch::nn::Module& module) {
  std::vector<at::Tensor> pieces;
  for (const rino::TensorSlot& slot : rino::tensor_slots(module)) {
    pieces.push_back(slot.tensor().detach().reshape(-1).to(at::kDouble));
  }
  return at::cat(pieces);
}

JetEncoder small_encoder(rino::ClassToken class_token, std::uint64_t seed, at::ScalarType type = at::kDouble) {
  JetEncoderOptions options;
  options.inputs = 5;
  options.width = 8;
  options.heads = 2;
  options.layers = 2;
  options.feedforward = 12;
  options.class_token = class_token;
  JetEncoder encoder(options);
  rino::initialize(*encoder, seed);
  encoder->to(type);
  encoder->eval();
  return encoder;
}

ProjectionHead small_head(std::int64_t hidden_layers, std::int64_t bottleneck, std::uint64_t seed) {
  ProjectionHeadOptions options;
  options.inputs = 8;
  options.hidden_layers = hidden_layers;
  options.bottleneck = bottleneck;
  options.prototypes = 6;
  ProjectionHead head(options);
  rino::initialize(*head, seed);
  head->to(at::kDouble);
  return head;
}

/// y = x W^T + b with loops; rows of doubles.
using Rows = std::vector<std::vector<double>>;

Rows rows_of(const at::Tensor& tensor) {
  Rows rows(static_cast<std::size_t>(tensor.size(0)));
  const at::Tensor wide = tensor.detach().to(at::kDouble).contiguous();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double* const begin = wide.const_data_ptr<double>() + static_cast<std::int64_t>(i) * wide.size(1);
    rows[i].assign(begin, begin + wide.size(1));
  }
  return rows;
}

Rows naive_linear(const Rows& x, const rino::Linear& layer) {
  const Rows weight = rows_of(layer->weight);
  const std::vector<double> bias = rows_of(layer->bias.unsqueeze(0)).front();
  Rows y;
  for (const auto& row : x) {
    std::vector<double> out = bias;
    for (std::size_t o = 0; o < out.size(); ++o) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        out[o] += weight[o][i] * row[i];
      }
    }
    y.push_back(out);
  }
  return y;
}

Rows naive_norm(const Rows& x, const rino::Norm& layer) {
  const std::vector<double> weight = rows_of(layer->weight.unsqueeze(0)).front();
  const std::vector<double> bias = rows_of(layer->bias.unsqueeze(0)).front();
  Rows y = x;
  for (auto& row : y) {
    const auto n = static_cast<double>(row.size());
    double mean = 0.0;
    double square = 0.0;
    for (const double value : row) {
      mean += value / n;
    }
    for (const double value : row) {
      square += (value - mean) * (value - mean) / n;
    }
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = (row[i] - mean) / std::sqrt(square + 1e-5) * weight[i] + bias[i];
    }
  }
  return y;
}

Rows naive_gelu(Rows x) {
  for (auto& row : x) {
    for (double& value : row) {
      value = 0.5 * value * (1.0 + std::erf(value / std::sqrt(2.0)));
    }
  }
  return x;
}

Rows naive_sum(Rows x, const Rows& y) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < x[i].size(); ++j) {
      x[i][j] += y[i][j];
    }
  }
  return x;
}

/// Multi-head attention among the rows of one sequence.
Rows naive_attention(const Rows& x, const rino::Attention& attention) {
  const auto width = static_cast<std::size_t>(attention->options.width);
  const auto heads = static_cast<std::size_t>(attention->options.heads);
  const std::size_t size = width / heads;
  const Rows qkv = naive_linear(x, attention->qkv);
  Rows mixed(x.size(), std::vector<double>(width, 0.0));
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      std::vector<double> weights(x.size(), 0.0);
      double sum = 0.0;
      for (std::size_t j = 0; j < x.size(); ++j) {
        double score = 0.0;
        for (std::size_t d = 0; d < size; ++d) {
          score += qkv[i][h * size + d] * qkv[j][width + h * size + d];
        }
        weights[j] = std::exp(score / std::sqrt(static_cast<double>(size)));
        sum += weights[j];
      }
      for (std::size_t j = 0; j < x.size(); ++j) {
        for (std::size_t d = 0; d < size; ++d) {
          mixed[i][h * size + d] += weights[j] / sum * qkv[j][2 * width + h * size + d];
        }
      }
    }
  }
  return naive_linear(mixed, attention->out);
}

/// The encoder's rows of one sequence, class token first.
Rows naive_encoder(const Tokens& tokens, std::int64_t s, const JetEncoder& encoder) {
  Rows x = encoder->learned_token ? rows_of(encoder->learned_token->token)
                                  : naive_linear(rows_of(tokens.jet_features.narrow(0, s, 1)), encoder->jet_embedding);
  const Rows embedded =
      naive_linear(rows_of(tokens.features.narrow(0, tokens.first(s), tokens.length(s))), encoder->embedding);
  x.insert(x.end(), embedded.begin(), embedded.end());
  for (const auto& module : *encoder->blocks) {
    const auto* const block = module->as<rino::TransformerBlock>();
    x = naive_sum(x, naive_attention(naive_norm(x, block->norm1), block->attention));
    x = naive_sum(x,
                  naive_linear(naive_gelu(naive_linear(naive_norm(x, block->norm2), block->linear1)), block->linear2));
  }
  return naive_norm(x, encoder->norm);
}

double largest_difference(const Rows& expected, const at::Tensor& found) {
  double worst = 0.0;
  const Rows rows = rows_of(found);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t j = 0; j < expected[i].size(); ++j) {
      worst = std::max(worst, std::abs(rows.at(i).at(j) - expected[i][j]));
    }
  }
  return worst;
}

/// A module that keeps a parameter of its own, as LibTorch's leaves do.
struct Foreign : torch::nn::Module {
  Foreign() { register_parameter("gain", at::ones({2})); }
};

}  // namespace

TEST_CASE("the presets have the paper's sizes and parameter counts", "[nn]") {
  struct Size {
    const char* name;
    std::int64_t width, heads, layers, feedforward, prototypes, encoder, head;
  };
  for (const Size& size :
       {Size{"nano", 32, 4, 4, 128, 16, 51424, 6272}, Size{"lite", 64, 4, 4, 256, 32, 201152, 24832},
        Size{"mini", 128, 8, 6, 512, 64, 1192064, 98816}, Size{"base", 256, 8, 6, 1024, 128, 4743424, 394240}}) {
    INFO(size.name);
    const auto options = JetEncoderOptions::preset(size.name);
    CHECK((options.width == size.width && options.heads == size.heads && options.layers == size.layers &&
           options.feedforward == size.feedforward && options.dropout == 0.1));
    CHECK(rino::parameter_count(*JetEncoder(options)) == size.encoder);
    ProjectionHeadOptions head;
    head.inputs = size.width;
    head.prototypes = size.prototypes;
    CHECK(rino::parameter_count(*ProjectionHead(head)) == size.head);
  }
  CHECK(JetEncoderOptions::preset("nano") == JetEncoderOptions{});
  CHECK(says(error_of([] { JetEncoderOptions::preset("huge"); }), "'huge'", "nano, lite, mini or base"));
}

TEST_CASE("options change the parameter count by what they add", "[nn]") {
  JetEncoderOptions options;
  options.class_token = rino::ClassToken::learned;
  CHECK(rino::parameter_count(*JetEncoder(options)) == 51424 - (4 * 32 + 32) + 32);
  options.inputs = 7;
  CHECK(rino::parameter_count(*JetEncoder(options)) == 51424 - (4 * 32 + 32) + 32 - 4 * 32);
  ProjectionHeadOptions head;
  head.hidden_layers = 2;
  head.hidden_width = 128;
  head.bottleneck = 32;
  head.prototypes = 256;
  CHECK(rino::parameter_count(*ProjectionHead(head)) ==
        (32 * 128 + 128) + (128 * 128 + 128) + (128 * 32 + 32) + 256 * 32);
  head.hidden_layers = 0;
  head.bottleneck = 0;
  CHECK(rino::parameter_count(*ProjectionHead(head)) == 256 * 32);
}

TEST_CASE("slots name every parameter as LibTorch does and hold the tensors the module computes with", "[nn]") {
  const JetEncoder encoder = small_encoder(rino::ClassToken::jet, 1);
  const auto slots = rino::tensor_slots(*encoder);
  const auto parameters = encoder->named_parameters();
  REQUIRE(slots.size() == parameters.size());
  std::set<std::string> names;
  for (const rino::TensorSlot& slot : slots) {
    INFO(slot.name);
    REQUIRE(parameters.contains(slot.name));
    CHECK(parameters[slot.name].is_same(slot.tensor()));
    CHECK(slot.tensor().requires_grad());
    names.insert(slot.name);
  }
  CHECK(names.size() == slots.size());
  CHECK(names.contains("blocks.1.attention.qkv.weight"));
  CHECK(names.contains("class_token.weight"));
}

TEST_CASE("clones of an encoder compute the same, are independent, and can be given other tensors", "[nn]") {
  const auto class_token = GENERATE(rino::ClassToken::jet, rino::ClassToken::learned);
  JetEncoder encoder = small_encoder(class_token, 2);
  const Tokens tokens = random_tokens({1, 3, 3, 7}, 5, 3);
  const at::Tensor expected = encoder(tokens).jets.detach();

  JetEncoder clone(std::dynamic_pointer_cast<rino::JetEncoderImpl>(encoder->clone()));
  CHECK(clone->options == encoder->options);
  CHECK_FALSE(clone->is_training());
  CHECK(clone(tokens).jets.equal(expected));
  CHECK(clone->named_parameters().keys() == encoder->named_parameters().keys());
  CHECK(values_of(*clone).equal(values_of(*encoder)));

  {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& parameter : encoder->parameters()) {
      parameter.add_(0.5);
    }
  }
  CHECK(clone(tokens).jets.equal(expected));
  const at::Tensor moved = encoder(tokens).jets.detach();
  CHECK_FALSE(moved.equal(expected));

  const auto from = rino::tensor_slots(*encoder);
  const auto to = rino::tensor_slots(*clone);
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i].rebind(from[i].tensor());
  }
  CHECK(clone(tokens).jets.equal(moved));
  for (const rino::TensorSlot& slot : to) {
    CHECK(clone->named_parameters()[slot.name].is_same(slot.tensor()));
  }
  clone(tokens).jets.sum().backward();
  CHECK(encoder->embedding->weight.grad().abs().sum().item<double>() > 0);
}

TEST_CASE("clones of a projection head compute the same and are independent", "[nn]") {
  const std::int64_t hidden_layers = GENERATE(0, 1, 2);
  const std::int64_t bottleneck = GENERATE(0, 3);
  ProjectionHead head = small_head(hidden_layers, bottleneck, 4);
  const at::Tensor x = normal({5, 8}, 5);
  const at::Tensor expected = head(x).detach();
  ProjectionHead clone(std::dynamic_pointer_cast<rino::ProjectionHeadImpl>(head->clone()));
  CHECK(clone(x).equal(expected));
  rino::initialize(*head, 6);
  CHECK_FALSE(head(x).equal(expected));
  CHECK(clone(x).equal(expected));
  for (const rino::TensorSlot& slot : rino::tensor_slots(*clone)) {
    slot.rebind(at::full_like(slot.tensor(), 0.5));
  }
  // Rows of the prototypes then all point one way.
  const at::Tensor scores = clone(x).detach();
  CHECK(largest_difference(scores, scores.slice(1, 0, 1).expand({5, 6})) < 1e-14);
}

TEST_CASE("a tensor can be bound only to a name that exists, in its shape", "[nn]") {
  rino::Linear layer(rino::LinearOptions{2, 3});
  CHECK(layer->tensor_names() == std::vector<std::string>{"weight", "bias"});
  CHECK(says(error_of([&] { layer->rebind("weigth", at::zeros({3, 2})); }), "'weigth'", "tensor_names()"));
  CHECK(says(error_of([&] { layer->rebind("weight", at::zeros({2, 3})); }), "'weight'", "[3, 2]", "[2, 3]"));
  CHECK(says(error_of([&] { layer->tensor("gain"); }), "'gain'"));
}

TEST_CASE("initial values depend on the seed alone and leave LibTorch's global generator untouched", "[nn]") {
  const at::Tensor state = global_state();
  const JetEncoder one(JetEncoderOptions{});
  const ProjectionHead head(ProjectionHeadOptions{});
  rino::initialize(*one, 7);
  rino::initialize(*head, 7);
  CHECK(global_state().equal(state));
  const at::Tensor first = values_of(*one);
  const at::Tensor first_head = values_of(*head);

  at::rand({100});  // another state of the global generator
  const JetEncoder two(JetEncoderOptions{});
  const ProjectionHead other_head(ProjectionHeadOptions{});
  rino::initialize(*two, 7);
  rino::initialize(*other_head, 7);
  CHECK(values_of(*two).equal(first));
  CHECK(values_of(*other_head).equal(first_head));
  rino::initialize(*two, 7);
  CHECK(values_of(*two).equal(first));
  rino::initialize(*two, 8);
  CHECK_FALSE(values_of(*two).equal(first));
}

TEST_CASE("initial values are those of PyTorch's layers, of heads' hidden layers truncated normal", "[nn]") {
  JetEncoderOptions options = JetEncoderOptions::preset("lite");
  options.class_token = rino::ClassToken::learned;
  const JetEncoder encoder(options);
  rino::initialize(*encoder, 9);
  for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
    INFO(slot.name);
    const at::Tensor x = slot.tensor().detach();
    if (slot.name.find("norm") != std::string::npos) {
      CHECK(x.eq(slot.leaf_name == "weight" ? 1 : 0).all().item<bool>());
    } else if (slot.name == "class_token.token") {
      CHECK(std::abs(x.std().item<double>() - 0.02) < 5 * 0.02 / std::sqrt(2 * 64.0));
    } else if (slot.name.find("attention") != std::string::npos && slot.leaf_name == "bias") {
      CHECK(x.eq(0).all().item<bool>());
    } else {
      const auto inputs = static_cast<double>(dynamic_cast<const rino::LinearImpl&>(*slot.owner).options.in);
      // nn.MultiheadAttention draws queries, keys and values by Xavier as one matrix, 64 -> 192.
      const bool qkv = slot.name.find("qkv") != std::string::npos;
      const double bound = qkv ? std::sqrt(6.0 / (64 + 192)) : 1 / std::sqrt(inputs);
      CHECK(x.abs().max().item<double>() <= bound);
      // A uniform distribution has deviation bound / sqrt(3), known to 0.63/sqrt(n) of itself; five of these.
      const auto n = static_cast<double>(x.numel());
      CHECK(std::abs(x.std().item<double>() / (bound / std::sqrt(3.0)) - 1) < 5 * 0.64 / std::sqrt(n));
      CHECK(std::abs(x.mean().item<double>()) < 5 * bound / std::sqrt(3 * n));
    }
  }
  ProjectionHeadOptions head_options;
  head_options.inputs = 64;
  head_options.prototypes = 256;
  head_options.bottleneck = 32;
  const ProjectionHead head(head_options);
  rino::initialize(*head, 10);
  for (const rino::TensorSlot& slot : rino::tensor_slots(*head)) {
    INFO(slot.name);
    const at::Tensor x = slot.tensor().detach();
    const auto n = static_cast<double>(x.numel());
    if (slot.leaf_name == "bias") {
      CHECK(x.eq(0).all().item<bool>());
    } else if (slot.name == "prototypes.weight") {
      const double bound = 1 / std::sqrt(32.0);
      CHECK(x.abs().max().item<double>() <= bound);
      CHECK(std::abs(x.std().item<double>() / (bound / std::sqrt(3.0)) - 1) < 5 * 0.64 / std::sqrt(n));
      CHECK(std::abs(x.norm(2, {1}).square().mean().item<double>() - 1.0 / 3) < 0.02);  // so rows are 0.577 long
    } else {
      CHECK(std::abs(x.std().item<double>() - 0.02) < 5 * 0.02 / std::sqrt(2 * n));
      CHECK(std::abs(x.mean().item<double>()) < 5 * 0.02 / std::sqrt(n));
    }
  }
  // The smallest number of 24 bits is drawn once in 17 million times; here it would be among them.
  const at::Tensor many = at::empty({1 << 24});
  rino::detail::trunc_normal(many, 0.02, rino::make_generator(at::kCPU, 1));
  CHECK(many.abs().max().item<double>() < 6 * 0.02);
  // Cut at two deviations the normal distribution has deviation 0.8796.
  rino::Linear cut(rino::LinearOptions{100, 1000, 1.0});
  rino::initialize(*cut, 11);
  CHECK(cut->weight.abs().max().item<double>() <= 2);
  CHECK(std::abs(cut->weight.std().item<double>() - 0.8796) < 0.01);
}

TEST_CASE("dropout scales what it keeps, draws from its own generator, and is off in evaluation", "[nn]") {
  const at::Tensor x = at::ones({200, 500});
  rino::Dropout dropout(0.2);
  const at::Tensor state = global_state();
  dropout->set_generator(rino::make_generator(at::kCPU, 12));
  const at::Tensor y = dropout(x);
  CHECK(global_state().equal(state));
  CHECK((y.eq(0) | y.eq(1.25F)).all().item<bool>());
  CHECK(std::abs(y.eq(0).to(at::kDouble).mean().item<double>() - 0.2) < 5 * std::sqrt(0.2 * 0.8 / 1e5));
  CHECK_FALSE(dropout(x).equal(y));
  dropout->set_generator(rino::make_generator(at::kCPU, 12));
  CHECK(dropout(x).equal(y));

  dropout->set_generator(std::nullopt);
  dropout(x);
  CHECK_FALSE(global_state().equal(state));
  dropout->eval();
  CHECK_FALSE(dropout->active());
  CHECK(dropout(x).is_same(x));
  CHECK_FALSE(rino::Dropout(0.0)->active());
  CHECK(says(error_of([] { rino::Dropout(1.0); }), "dropout is 1", "[0, 1)"));
  CHECK(says(error_of([] { rino::Dropout(-0.1); }), "dropout is -0.1"));
}

TEST_CASE("set_generator makes a whole network's dropout reproducible", "[nn]") {
  JetEncoder encoder = small_encoder(rino::ClassToken::jet, 13);
  encoder->train();
  const Tokens tokens = random_tokens({2, 5, 9}, 5, 14);
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 15));
  const at::Tensor state = global_state();
  const at::Tensor once = encoder(tokens).jets;
  CHECK(global_state().equal(state));
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 15));
  CHECK(encoder(tokens).jets.equal(once));
  CHECK_FALSE(encoder(tokens).jets.equal(once));
}

TEST_CASE("a packing plan covers every row once and masks nothing but padding", "[nn][packing]") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const bool sorted : {true, false}) {
      const Lengths lengths = random_lengths(seed, 80, sorted);
      for (const double stretch : {1.0, 1.125, 3.0}) {
        for (const std::int64_t max_slots : {std::int64_t{1}, std::int64_t{64}, std::int64_t{4096}}) {
          const Packing packing =
              Packing::plan(lengths, at::TensorOptions(at::kDouble), /*drops=*/false, {stretch, max_slots});
          REQUIRE(packing.run_rows.size() == packing.runs.size());
          REQUIRE(packing.run_sequences.size() == packing.runs.size());
          REQUIRE(packing.firsts.size(0) == static_cast<std::int64_t>(lengths.size()));
          bool right = true;
          std::int64_t first = 0;
          for (std::size_t s = 0; s < lengths.size(); ++s) {
            right = right && packing.firsts.const_data_ptr<std::int64_t>()[s] == first;
            first += lengths[s];
          }
          std::size_t sequence = 0;
          for (std::size_t r = 0; r < packing.runs.size(); ++r) {
            const rino::PackedRun& run = packing.runs[r];
            const Lengths mine(lengths.begin() + static_cast<std::ptrdiff_t>(sequence),
                               lengths.begin() + static_cast<std::ptrdiff_t>(sequence) + run.sequences);
            const auto [shortest, longest] = std::minmax_element(mine.begin(), mine.end());
            right = right && run.rows == total(mine) && packing.run_rows[r] == run.rows &&
                    packing.run_sequences[r] == run.sequences && run.length == *longest &&
                    (run.sequences == 1 || run.sequences * run.length <= max_slots) && *shortest == mine.front() &&
                    static_cast<double>(*longest) <= static_cast<double>(mine.front()) * stretch &&
                    run.dense() == (*shortest == *longest);
            if (!run.dense()) {
              // Slot s * length + i holds row i of sequence s; all others are masked.
              std::int64_t row = 0;
              const at::Tensor bias = run.bias.view({-1});
              for (std::int64_t s = 0; s < run.sequences; ++s) {
                for (std::int64_t i = 0; i < run.length; ++i) {
                  const std::int64_t slot = s * run.length + i;
                  if (i < mine[static_cast<std::size_t>(s)]) {
                    right = right && run.gather.const_data_ptr<std::int64_t>()[slot] == row &&
                            run.scatter.const_data_ptr<std::int64_t>()[row] == slot &&
                            bias.const_data_ptr<double>()[slot] == 0;
                    ++row;
                  } else {
                    right = right && bias.const_data_ptr<double>()[slot] == -std::numeric_limits<double>::infinity() &&
                            run.gather.const_data_ptr<std::int64_t>()[slot] == row - mine[static_cast<std::size_t>(s)];
                  }
                }
              }
              right = right && row == run.rows && run.scatter.size(0) == row;
            }
            sequence += static_cast<std::size_t>(run.sequences);
          }
          REQUIRE(right);
          REQUIRE(sequence == lengths.size());
        }
      }
    }
  }
  CHECK(Packing::plan(Lengths{}, at::TensorOptions(at::kFloat)).runs.empty());
}

TEST_CASE("sequences of equal length make one run without a mask", "[nn][packing]") {
  const Packing packing = Packing::plan(Lengths(50, 7), at::TensorOptions(at::kFloat));
  REQUIRE(packing.runs.size() == 1);
  CHECK(packing.runs[0].dense());
  CHECK(packing.runs[0].sequences == 50);
}

TEST_CASE("attention on packed rows equals attention within each sequence, written as loops", "[nn][attention]") {
  // Heads of width 4 take plain products, of width 32 LibTorch's fused attention.
  const std::int64_t width = GENERATE(16, 128);
  const bool sorted = GENERATE(true, false);
  rino::Attention attention(rino::AttentionOptions{width, 4});
  rino::initialize(*attention, 16);
  attention->to(at::kDouble);
  const Lengths lengths = random_lengths(17, 14, sorted);
  const at::Tensor x = normal({total(lengths), width}, 18);
  const auto packed = [&](const at::Tensor& rows, double stretch, bool firsts = false) {
    const Packing packing = Packing::plan(lengths, rows.options(), /*drops=*/false, {stretch, 4096});
    return attention(rows, packing, firsts).detach();
  };
  Rows expected;
  Rows expected_firsts;
  for (const at::Tensor& sequence : x.split_with_sizes(lengths)) {
    const Rows rows = naive_attention(rows_of(sequence), attention);
    expected.insert(expected.end(), rows.begin(), rows.end());
    expected_firsts.push_back(rows.front());
  }
  CHECK(largest_difference(expected, packed(x, 1.125)) < 1e-13);
  CHECK(largest_difference(expected, packed(x, 3.0)) < 1e-13);
  CHECK(largest_difference(expected_firsts, packed(x, 1.125, /*firsts=*/true)) < 1e-13);
  CHECK(largest_difference(expected_firsts, packed(x, 3.0, /*firsts=*/true)) < 1e-13);
  attention->to(at::kFloat);
  CHECK(largest_difference(expected, packed(x.to(at::kFloat), 3.0)) < 2e-6);
  CHECK(largest_difference(expected_firsts, packed(x.to(at::kFloat), 3.0, /*firsts=*/true)) < 2e-6);
}

TEST_CASE("attention asks for heads that divide the width", "[nn][attention]") {
  CHECK(says(error_of([] { rino::Attention(rino::AttentionOptions{10, 4}); }), "heads is 4", "width 10", "divide"));
  CHECK(says(error_of([] { rino::Attention(rino::AttentionOptions{10, 0}); }), "heads is 0"));
}

TEST_CASE("the encoder equals a pre-norm transformer on each sequence, written as loops", "[nn]") {
  const auto class_token = GENERATE(rino::ClassToken::jet, rino::ClassToken::learned);
  JetEncoder encoder = small_encoder(class_token, 19);
  {
    // Norms that are more than the identity.
    const at::NoGradGuard no_grad;
    for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
      slot.tensor().add_(normal(slot.tensor().sizes(), slot.name.size()) * 0.1);
    }
  }
  const Lengths lengths = random_lengths(20, 12, true);
  const Tokens tokens = random_tokens(lengths, 5, 21);
  const rino::Embeddings found = encoder(tokens);
  const at::Tensor jets = encoder->embed_jets(tokens);
  CHECK(found.jets.sizes() == at::IntArrayRef({tokens.sequences(), 8}));
  CHECK(jets.sizes() == found.jets.sizes());
  CHECK(found.constituents.sizes() == at::IntArrayRef({tokens.offsets.back(), 8}));
  double worst = 0.0;
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    const Rows expected = naive_encoder(tokens, s, encoder);
    worst = std::max(worst, largest_difference(Rows{expected.front()}, found.jets.narrow(0, s, 1)));
    worst = std::max(worst, largest_difference(Rows{expected.front()}, jets.narrow(0, s, 1)));
    worst = std::max(worst, largest_difference(Rows(expected.begin() + 1, expected.end()),
                                               found.constituents.narrow(0, tokens.first(s), tokens.length(s))));
  }
  CHECK(worst < 1e-12);
}

TEST_CASE("a jet's embedding is the same alone, in a batch, and from padded input", "[nn]") {
  const auto preset = GENERATE(std::string("nano"), std::string("mini"));
  const auto type = GENERATE(at::kFloat, at::kDouble);
  JetEncoder encoder(JetEncoderOptions::preset(preset));
  rino::initialize(*encoder, 22);
  encoder->to(type);
  encoder->eval();
  const Tokens tokens = random_tokens({1, 2, 2, 9, 10, 10, 64, 65, 70, 200}, 11, 23, type);
  const at::Tensor together = encoder(tokens).jets.detach();
  // Of the largest entries, about 4: an embedding has mean square 1.
  const double tolerance = (type == at::kFloat ? 1e-6 : 1e-12) * together.abs().max().item<double>();
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    Tokens alone;
    alone.offsets = {0, tokens.length(s)};
    alone.view = {0};
    alone.jet = {0};
    alone.features = tokens.features.narrow(0, tokens.first(s), tokens.length(s));
    alone.jet_features = tokens.jet_features.narrow(0, s, 1);
    CHECK(largest_difference(encoder(alone).jets.detach(), together.narrow(0, s, 1)) < tolerance);
    CHECK(largest_difference(encoder->embed_jets(alone).detach(), together.narrow(0, s, 1)) < tolerance);
  }
  CHECK(largest_difference(encoder->embed_jets(tokens).detach(), together) < tolerance);
  const auto [padded, mask] = tokens.padded();
  // What stands in the padding does not matter.
  const at::Tensor rubbish = padded.masked_fill(mask.logical_not().unsqueeze(2), 1e30);
  const Tokens back = Tokens::from_padded(rubbish, mask, tokens.jet_features);
  CHECK(encoder(back).jets.equal(encoder(tokens).jets));
}

TEST_CASE("embeddings stand in the order of views and jets, whatever computes them", "[nn]") {
  JetEncoderOptions options;
  const int parts = GENERATE(0, 1, 2);
  if (parts > 0) {  // what is not embedded plainly
    options.registers = 2;
    options.positions = rino::Positions::polar;
  }
  if (parts > 1) {
    options.pooling = rino::Pooling::both;
  }
  JetEncoder encoder(options);
  rino::initialize(*encoder, 22);
  encoder->to(at::kDouble);
  encoder->eval();
  encoder->kernels = GENERATE(rino::EncoderKernels::fused, rino::EncoderKernels::reference);
  const rino::Jets<double> jets = rino::toy_shower<double>({.jets = 12}, 4);
  const std::vector<rino::Resolution> resolutions{rino::subjets(3), rino::particles()};
  const rino::ViewTokenizer tokenizer;
  const Tokens tokens = tokenizer.operator()<double>(jets, resolutions);
  const rino::Embeddings together = encoder(tokens);
  const at::Tensor alone = encoder->embed_jets(tokens);
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    const auto at = static_cast<std::size_t>(s);
    REQUIRE((tokens.view[at] == s / 12 && tokens.jet[at] == s % 12));
    const Tokens one = tokenizer.operator()<double>(jets.slice(s % 12, s % 12 + 1), {resolutions[at / 12]});
    const rino::Embeddings expected = encoder(one);
    CHECK(largest_difference(together.jets.narrow(0, s, 1).detach(), expected.jets.detach()) < 1e-12);
    CHECK(largest_difference(alone.narrow(0, s, 1).detach(), expected.jets.detach()) < 1e-12);
    CHECK(largest_difference(together.constituents.narrow(0, tokens.first(s), tokens.length(s)).detach(),
                             expected.constituents.detach()) < 1e-12);
  }
}

TEST_CASE("a parameter that was given data of another shape is refused, not read beyond its end", "[nn]") {
  JetEncoder encoder(JetEncoderOptions{});
  rino::initialize(*encoder, 22);
  encoder->kernels = GENERATE(rino::EncoderKernels::fused, rino::EncoderKernels::reference);
  const Tokens tokens = random_tokens({3, 9}, 11, 23, at::kFloat);
  for (const auto& parameter : encoder->parameters()) {
    const at::Tensor before = parameter.data();
    // As many numbers in another order of dimensions are not the same either.
    for (const at::Tensor& other : {before.new_zeros({1}), before.reshape({-1, 1, 1})}) {
      parameter.set_data(other);
      CHECK(says(error_of([&] { encoder(tokens); }), "has shape", "made with"));
      CHECK(says(error_of([&] { encoder->embed_jets(tokens); }), "has shape", "made with"));
    }
    parameter.set_data(before);
  }
  CHECK(encoder(tokens).jets.size(0) == 2);
}

TEST_CASE("blocks of which some drop values are computed as they are, by modules", "[nn]") {
  JetEncoderOptions options;
  options.width = 16;
  options.heads = 2;
  options.layers = 2;
  options.feedforward = 16;
  options.dropout = 0.5;
  JetEncoder encoder(options);
  rino::initialize(*encoder, 25);
  encoder->eval();
  const Tokens tokens = random_tokens({3, 9}, options.inputs, 26, at::kFloat);
  const at::Tensor without = encoder(tokens).jets;
  encoder->blocks->ptr(1)->train();
  CHECK_FALSE(encoder(tokens).jets.equal(without));
  encoder->kernels = rino::EncoderKernels::fused;
  CHECK(says(error_of([&] { encoder(tokens); }), "some blocks drop values and others do not"));
}

TEST_CASE("the order of a jet's tokens does not change its embedding", "[nn]") {
  JetEncoder encoder = small_encoder(rino::ClassToken::jet, 24);
  const Tokens tokens = random_tokens({6, 9}, 5, 25);
  Tokens turned = tokens;
  turned.features = at::cat({tokens.features.slice(0, 0, 6).flip(0), tokens.features.slice(0, 6).flip(0)});
  const auto one = encoder(tokens);
  const auto two = encoder(turned);
  CHECK(largest_difference(one.jets.detach(), two.jets.detach()) < 1e-14);
  CHECK(largest_difference(one.constituents.slice(0, 0, 6).flip(0).detach(), two.constituents.slice(0, 0, 6).detach()) <
        1e-14);
}

TEST_CASE("an encoder of no layers is its class token, and no jets have no embeddings", "[nn]") {
  JetEncoderOptions options;
  options.layers = 0;
  JetEncoder encoder(options);
  rino::initialize(*encoder, 26);
  const Tokens tokens = random_tokens({2, 3}, 11, 27, at::kFloat);
  CHECK(encoder(tokens).jets.equal(encoder->norm(encoder->jet_embedding(tokens.jet_features))));
  CHECK(encoder->embed_jets(tokens).equal(encoder(tokens).jets));
  JetEncoder nano(JetEncoderOptions{});
  const Tokens none = random_tokens({}, 11, 28, at::kFloat);
  CHECK(nano(none).jets.sizes() == at::IntArrayRef({0, 32}));
  CHECK(nano(none).constituents.sizes() == at::IntArrayRef({0, 32}));
  CHECK(nano->embed_jets(none).sizes() == at::IntArrayRef({0, 32}));
}

TEST_CASE("tokens and options that do not fit an encoder are errors", "[nn]") {
  JetEncoder encoder(JetEncoderOptions{});
  CHECK(says(error_of([&] { encoder(random_tokens({3}, 7, 29, at::kFloat)); }), "[3, 7]", "11", "feature set"));
  CHECK(says(error_of([&] { encoder->embed_jets(random_tokens({3}, 7, 29, at::kFloat)); }), "[3, 7]", "11"));
  const auto error = [](const auto& change) {
    JetEncoderOptions options;
    change(options);
    return error_of([&] { JetEncoder{options}; });
  };
  CHECK(says(error([](auto& o) { o.width = 0; }), "width", "positive"));
  CHECK(says(error([](auto& o) { o.layers = -1; }), "-1"));
  CHECK(says(error([](auto& o) { o.heads = 5; }), "heads is 5", "32"));
  CHECK(says(error([](auto& o) { o.dropout = 1.5; }), "dropout is 1.5"));
}

TEST_CASE("gradients of the encoder and head agree with finite differences", "[nn]") {
  const auto class_token = GENERATE(rino::ClassToken::jet, rino::ClassToken::learned);
  const auto both = std::make_shared<torch::nn::Module>();
  JetEncoder encoder = small_encoder(class_token, 30);
  ProjectionHead head = small_head(1, 3, 31);
  {
    // Initial weights of 0.02 would bend within a step of the differences.
    const at::NoGradGuard no_grad;
    for (const at::Tensor& parameter : head->parameters()) {
      parameter.mul_(25);
    }
  }
  both->register_module("encoder", encoder.ptr());
  both->register_module("head", head.ptr());
  // Unequal lengths, so that masked runs are differentiated too.
  Tokens tokens = random_tokens({1, 9, 10, 10, 40}, 5, 32);
  tokens.features.requires_grad_();
  const at::Tensor weights = normal({5, 6}, 33);
  const bool jets_alone = GENERATE(true, false);
  const auto function = [&] {
    return (head(jets_alone ? encoder->embed_jets(tokens) : encoder(tokens).jets) * weights).sum();
  };

  const rino::FlatParameters flat(*both, /*trainable=*/true);
  function().backward();
  const at::Tensor gradient = flat.gradients().clone();
  const at::Tensor input_gradient = tokens.features.grad().clone();
  const at::NoGradGuard no_grad;
  const auto slope = [&](const at::Tensor& values, const at::Tensor& direction) {
    constexpr double step = 2e-6;
    values.add_(direction, step);
    const double up = function().item<double>();
    values.sub_(direction, 2 * step);
    const double down = function().item<double>();
    values.add_(direction, step);
    return (up - down) / (2 * step);
  };
  for (std::uint64_t direction = 0; direction < 10; ++direction) {
    const at::Tensor way = normal(gradient.sizes(), 100 + direction);
    const double expected = gradient.dot(way).item<double>();
    CHECK(std::abs(slope(flat.values(), way) - expected) < 1e-6 * (1 + std::abs(expected)));
    const at::Tensor input_way = normal(input_gradient.sizes(), 200 + direction);
    const double expected_input = (input_gradient * input_way).sum().item<double>();
    CHECK(std::abs(slope(tokens.features, input_way) - expected_input) < 1e-6 * (1 + std::abs(expected_input)));
  }
}

TEST_CASE("projection heads score by cosines with their prototypes", "[nn]") {
  ProjectionHead head = small_head(2, 3, 34);
  const at::Tensor x = normal({7, 8}, 35);
  Rows y = rows_of(x);
  for (const auto& layer : *head->hidden) {
    y = naive_gelu(naive_linear(y, rino::Linear(std::dynamic_pointer_cast<rino::LinearImpl>(layer))));
  }
  y = naive_linear(y, head->bottleneck);
  const Rows prototypes = rows_of(head->prototypes->weight);
  Rows expected;
  for (const auto& row : y) {
    expected.emplace_back();
    for (const auto& prototype : prototypes) {
      double dot = 0.0;
      double length = 0.0;
      double prototype_length = 0.0;
      for (std::size_t i = 0; i < row.size(); ++i) {
        dot += row[i] * prototype[i];
        length += row[i] * row[i];
        prototype_length += prototype[i] * prototype[i];
      }
      expected.back().push_back(dot / std::sqrt(length * prototype_length));
    }
  }
  CHECK(largest_difference(expected, head(x).detach()) < 1e-13);
  const at::Tensor many = head(normal({100, 8}, 36));
  CHECK(many.abs().max().item<double>() <= 1 + 1e-12);
  CHECK(head(x.view({7, 1, 8})).sizes() == at::IntArrayRef({7, 1, 6}));
  // Without hidden layers an embedding of zero reaches the norm.
  CHECK(small_head(0, 0, 37)(at::zeros({1, 8}, at::kDouble)).eq(0).all().item<bool>());
  ProjectionHeadOptions options;
  options.prototypes = 1;
  CHECK(says(error_of([&] { ProjectionHead{options}; }), "at least 2 prototypes"));
  options = {};
  options.hidden_layers = -1;
  CHECK(says(error_of([&] { ProjectionHead{options}; }), "no negative number"));
}

TEST_CASE("flat parameters are the module's own, and backward adds to the flat gradient", "[nn][flat]") {
  JetEncoder encoder = small_encoder(rino::ClassToken::learned, 38);
  const Tokens tokens = random_tokens({2, 4}, 5, 39);
  const at::Tensor before = values_of(*encoder);
  const at::Tensor expected = encoder(tokens).jets.detach();
  const auto loss = [&] { return encoder(tokens).jets.square().sum(); };
  loss().backward();
  std::vector<at::Tensor> pieces;
  for (const at::Tensor& parameter : encoder->parameters()) {
    pieces.push_back(parameter.grad().reshape(-1));
  }

  const rino::FlatParameters flat(*encoder, /*trainable=*/true);
  CHECK(flat.values().equal(before));
  CHECK(flat.gradients().eq(0).all().item<bool>());
  CHECK(encoder(tokens).jets.equal(expected));
  for (const at::Tensor& parameter : encoder->parameters()) {
    CHECK(parameter.storage().data() == flat.values().storage().data());
    CHECK(parameter.is_leaf());
    CHECK(parameter.requires_grad());
  }
  loss().backward();
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto& [name, tensor] = flat.parameters()[i];
    const std::int64_t size = tensor.numel();
    CHECK(tensor.grad().storage().data() == flat.gradients().storage().data());
    CHECK(flat.gradients().narrow(0, begin, size).equal(encoder->named_parameters()[name].grad().reshape(-1)));
    begin += size;
  }
  CHECK(largest_difference(flat.gradients(), at::cat(pieces)) < 1e-12);
  loss().backward();
  CHECK(largest_difference(flat.gradients(), 2 * at::cat(pieces)) < 1e-12);

  flat.values().zero_();
  CHECK(encoder->embedding->weight.eq(0).all().item<bool>());
}

TEST_CASE("released parameters are ordinary tensors with the current values", "[nn][flat]") {
  JetEncoder encoder = small_encoder(rino::ClassToken::jet, 40);
  encoder->norm->bias.requires_grad_(false);
  rino::FlatParameters flat(*encoder, /*trainable=*/true);
  flat.values().add_(1.0);
  const at::Tensor current = flat.values().clone();
  flat.release();
  flat.values().zero_();
  CHECK(values_of(*encoder).equal(current));
  for (const at::Tensor& parameter : encoder->parameters()) {
    CHECK(parameter.storage().nbytes() == parameter.nbytes());
    CHECK(parameter.is_leaf());
    CHECK(parameter.requires_grad());
    CHECK_FALSE(parameter.grad().defined());
  }

  rino::FlatParameters fixed(*encoder, /*trainable=*/false);
  CHECK_FALSE(fixed.gradients().defined());
  for (const at::Tensor& parameter : encoder->parameters()) {
    CHECK_FALSE(parameter.requires_grad());
  }
  fixed.release();
  for (const at::Tensor& parameter : encoder->parameters()) {
    CHECK_FALSE(parameter.requires_grad());
  }
}

TEST_CASE("flat parameters ask for one floating-point type and for something to train", "[nn][flat]") {
  const auto mixed = std::make_shared<torch::nn::Module>();
  CHECK(says(error_of([&] { rino::FlatParameters(*mixed, true); }), "without parameters"));
  mixed->register_module("first", rino::Linear(rino::LinearOptions{2, 3}).ptr());
  mixed->register_module("second", rino::Linear(rino::LinearOptions{3, 2}).ptr())->to(at::kDouble);
  CHECK(says(error_of([&] { rino::FlatParameters(*mixed, true); }), "'second.weight'", "Double", "'first.weight'",
             "Float", "one floating-point type"));
}

TEST_CASE("modules of any leaves train in a flat buffer, as the tensors that they are", "[nn][flat]") {
  const auto foreign = std::make_shared<torch::nn::Module>();
  rino::Linear ours = foreign->register_module("ours", rino::Linear(rino::LinearOptions{2, 3}));
  const auto theirs = foreign->register_module("theirs", std::make_shared<Foreign>());
  rino::Linear tied = foreign->register_module("tied", rino::Linear(rino::LinearOptions{2, 3}));
  tied->rebind("weight", ours->weight);
  ours->bias.requires_grad_(false);
  foreign->register_buffer("average", at::ones({2}));

  const rino::Modules modules{{"all", foreign}};
  const rino::NamedTensors trained = rino::trainable_parameters_of(modules);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : trained) {
    names.push_back(name);
  }
  CHECK(names == std::vector<std::string>{"all.ours.weight", "all.theirs.gain", "all.tied.bias"});
  REQUIRE(rino::buffers_of(modules).size() == 1);
  CHECK(rino::buffers_of(modules).front().first == "all.average");

  const at::Tensor held = theirs->parameters().front();  // as an optimiser of the user's or Python would hold it
  const at::Tensor before = held.detach().clone();
  rino::FlatParameters flat(trained, /*trainable=*/true);
  CHECK(held.is_same(theirs->parameters().front()));
  CHECK(held.equal(before));
  (held.sum() * 3.0 + tied->weight.sum() + ours->weight.sum()).backward();
  CHECK(flat.gradients().narrow(0, 0, 6).eq(2.0).all().item<bool>());
  CHECK(flat.gradients().narrow(0, 6, held.numel()).eq(3.0).all().item<bool>());
  flat.values().fill_(7.0);
  CHECK(held.eq(7.0).all().item<bool>());
  CHECK(tied->weight.eq(7.0).all().item<bool>());
  flat.check();

  at::Tensor& gradient = held.mutable_grad();
  const at::Tensor kept = gradient;
  gradient = gradient.clone();
  CHECK(says(error_of([&] { flat.check(); }), "gradient of 'all.theirs.gain'", "in place"));
  gradient = kept;
  flat.check();
  held.set_data(before.clone());
  CHECK(says(error_of([&] { flat.check(); }), "data of 'all.theirs.gain'"));
}

TEST_CASE("modules print what they are", "[nn]") {
  std::ostringstream text;
  text << JetEncoder(JetEncoderOptions{}) << ProjectionHead(ProjectionHeadOptions{});
  CHECK(says(text.str(), "rino::JetEncoder(inputs 11, width 32", "class token jet", "32 -> 16 prototypes"));
}
