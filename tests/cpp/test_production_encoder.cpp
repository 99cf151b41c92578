#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/layer_scale.hpp>
#include <rino/nn/norm.hpp>
#include <rino/nn/polar_positions.hpp>
#include <rino/nn/precision.hpp>
#include <rino/nn/swiglu.hpp>
#include <rino/tokens/tokens.hpp>

#include "catch.hpp"
#include "random_tokens.hpp"

namespace {

using rino::JetEncoder;
using rino::JetEncoderOptions;
using rino::Pooling;
using rino::Tokens;

/// The encoder of the production recipe.
JetEncoderOptions production() {
  JetEncoderOptions options;
  options.inputs = 7;
  options.width = 256;
  options.heads = 16;
  options.layers = 8;
  options.feedforward = 1024;
  options.dropout = 0.0;
  options.class_token = rino::ClassToken::learned;
  options.registers = 4;
  options.norm = rino::NormKind::rms;
  options.embedding_norm = true;
  options.feedforward_kind = rino::FeedForwardKind::swiglu;
  options.layer_scale = 0.01;
  options.positions = rino::Positions::polar;
  return options;
}

/// All its parts, small enough for loops and finite differences.
JetEncoderOptions small() {
  JetEncoderOptions options = production();
  options.inputs = 5;
  options.width = 8;
  options.heads = 2;
  options.layers = 2;
  options.feedforward = 12;
  options.registers = 3;
  options.layer_scale = 0.3;
  options.radial_bins = 3;
  options.angular_bins = 4;
  return options;
}

/// Options and the name of what is different in them.
struct Variant {
  std::string name;
  JetEncoderOptions options;
};

/// The paper's parts with one of the production recipe's at a time, all of them, all of them without one at a time.
std::vector<Variant> variants() {
  const std::vector<std::pair<std::string, void (*)(JetEncoderOptions&, const JetEncoderOptions&)>> parts{
      {"class_token", [](auto& to, const auto& from) { to.class_token = from.class_token; }},
      {"registers", [](auto& to, const auto& from) { to.registers = from.registers; }},
      {"norm", [](auto& to, const auto& from) { to.norm = from.norm; }},
      {"embedding_norm", [](auto& to, const auto& from) { to.embedding_norm = from.embedding_norm; }},
      {"swiglu", [](auto& to, const auto& from) { to.feedforward_kind = from.feedforward_kind; }},
      {"layer_scale", [](auto& to, const auto& from) { to.layer_scale = from.layer_scale; }},
      {"positions", [](auto& to, const auto& from) { to.positions = from.positions; }},
      {"bins", [](auto& to, const auto& from) { to.bins = from.bins; }},
  };
  const JetEncoderOptions all = small();
  JetEncoderOptions none;
  none.inputs = all.inputs;
  none.width = all.width;
  none.heads = all.heads;
  none.layers = all.layers;
  none.feedforward = all.feedforward;
  none.dropout = 0.0;
  none.radial_bins = all.radial_bins;
  none.angular_bins = all.angular_bins;
  none.bins = rino::PolarBins::floor;
  std::vector<Variant> found{{"none", none}, {"all", all}};
  for (const auto& [name, copy] : parts) {
    found.push_back({"with " + name, none});
    copy(found.back().options, all);
    found.push_back({"without " + name, all});
    copy(found.back().options, none);
  }
  found.push_back({"larger eps", all});
  found.back().options.norm_eps = 0.2;
  for (const JetEncoderOptions& options : {none, all}) {
    found.push_back({"no class token", options});
    found.back().options.class_token = rino::ClassToken::none;
  }
  return found;
}

/// Every pooling that an encoder with this class token may have.
std::vector<Pooling> poolings(rino::ClassToken class_token = rino::ClassToken::learned) {
  std::vector<Pooling> found{Pooling::mean, Pooling::attention, Pooling::all};
  if (class_token != rino::ClassToken::none) {
    found.insert(found.end(), {Pooling::token, Pooling::both});
  }
  return found;
}

/// A double encoder in evaluation mode; all parameters are moved away from what they start from.
JetEncoder encoder_of(const JetEncoderOptions& options, std::uint64_t seed) {
  JetEncoder encoder(options);
  rino::initialize(*encoder, seed);
  encoder->to(at::kDouble);
  encoder->eval();
  const at::NoGradGuard no_grad;
  for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
    slot.tensor().add_(normal(slot.tensor().sizes(), seed + slot.name.size()) * 0.3);
  }
  return encoder;
}

/// Tokens of 5 features, a third of them masked on demand: in some sequences none, in one all.
Tokens some_tokens(std::uint64_t seed, bool masked) {
  Tokens tokens = random_tokens({1, 2, 4, 9, 10, 10, 11, 3}, 5, seed);
  if (masked) {
    tokens.masked = normal({tokens.offsets.back()}, seed + 2) > 0.4;
    tokens.masked.narrow(0, tokens.first(2), tokens.length(2)).fill_(true);
    tokens.masked.narrow(0, tokens.first(3), tokens.length(3)).fill_(false);
  }
  return tokens;
}

/// Bins as the recipe gives them.
std::pair<std::int64_t, std::int64_t> naive_bins(const JetEncoderOptions& options, double eta, double phi) {
  const auto radial_bins = static_cast<double>(options.radial_bins);
  const auto angular_bins = static_cast<double>(options.angular_bins);
  const double r = std::sqrt(eta * eta + phi * phi);
  const double u = std::log(1 + r / options.radial_knee) / std::log(1 + options.radial_range / options.radial_knee);
  double angle = std::atan2(phi, eta);
  if (angle < 0) {
    angle += 2 * std::numbers::pi;
  }
  const double turn = angle / (2 * std::numbers::pi);
  const bool nearest = options.bins == rino::PolarBins::round;
  const double radial =
      std::min(nearest ? std::floor(u * (radial_bins - 1) + 0.5) : std::floor(u * radial_bins), radial_bins - 1);
  const double angular = std::fmod(std::floor(turn * angular_bins + (nearest ? 0.5 : 0.0)), angular_bins);
  return {static_cast<std::int64_t>(radial), static_cast<std::int64_t>(angular)};
}

/// The encoder from its formulas, one sequence at a time, on the parameters by their names.
class Formula {
 public:
  explicit Formula(const JetEncoder& encoder) : options_(encoder->options), parameters_(encoder->named_parameters()) {}

  rino::Embeddings operator()(const Tokens& tokens) const {
    std::vector<at::Tensor> jets;
    std::vector<at::Tensor> constituents;
    for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
      const at::Tensor rows = encode(tokens, s);
      const std::int64_t first = options_.class_token == rino::ClassToken::none ? 0 : 1;
      constituents.push_back(rows.slice(0, first + options_.registers));
      jets.push_back(options_.pooling == Pooling::all ? rows.slice(0, first).mean(0)
                                                      : pool(rows[0], constituents.back()));
    }
    return {at::stack(jets), at::cat(constituents)};
  }

 private:
  const at::Tensor& parameter(const std::string& name) const { return parameters_[name]; }

  at::Tensor linear(const at::Tensor& x, const std::string& name) const {
    return at::matmul(x, parameter(name + ".weight").t()) + parameter(name + ".bias");
  }

  at::Tensor norm(const at::Tensor& x, const std::string& name) const {
    if (options_.norm == rino::NormKind::rms) {
      return x / ((x * x).mean(-1, true) + options_.norm_eps).sqrt() * parameter(name + ".weight");
    }
    const at::Tensor centred = x - x.mean(-1, true);
    return centred / ((centred * centred).mean(-1, true) + options_.norm_eps).sqrt() * parameter(name + ".weight") +
           parameter(name + ".bias");
  }

  at::Tensor attention(const at::Tensor& x, const std::string& name) const {
    const std::int64_t size = options_.width / options_.heads;
    const at::Tensor qkv = linear(x, name + ".qkv");
    std::vector<at::Tensor> heads;
    for (std::int64_t h = 0; h < options_.heads; ++h) {
      const at::Tensor q = qkv.narrow(1, h * size, size);
      const at::Tensor k = qkv.narrow(1, options_.width + h * size, size);
      const at::Tensor v = qkv.narrow(1, 2 * options_.width + h * size, size);
      const at::Tensor weights = (at::matmul(q, k.t()) / std::sqrt(static_cast<double>(size))).exp();
      heads.push_back(at::matmul(weights / weights.sum(1, true), v));
    }
    return linear(at::cat(heads, 1), name + ".out");
  }

  at::Tensor feed_forward(const at::Tensor& x, const std::string& name) const {
    if (options_.feedforward_kind == rino::FeedForwardKind::gelu) {
      const at::Tensor hidden = linear(x, name + ".linear1");
      return linear(0.5 * hidden * (1 + (hidden / std::sqrt(2.0)).erf()), name + ".linear2");
    }
    const at::Tensor both = linear(x, name + ".swiglu.linear1");
    const at::Tensor gate = both.slice(1, 0, options_.feedforward);
    const at::Tensor value = both.slice(1, options_.feedforward);
    return linear(gate / (1 + (-gate).exp()) * value, name + ".swiglu.linear2");
  }

  at::Tensor embed(const Tokens& tokens, std::int64_t i) const {
    const bool masked = tokens.masked.defined() && tokens.masked[i].item<bool>();
    at::Tensor x = linear(masked ? at::zeros_like(tokens.features[i]) : tokens.features[i], "embedding");
    if (options_.embedding_norm) {
      x = norm(x, "embedding_norm");
    }
    if (masked && options_.masked_token == rino::MaskedToken::learned) {
      x = parameter("masked_token.token")[0];
    }
    if (options_.positions == rino::Positions::polar) {
      const auto [radial, angular] = naive_bins(options_, tokens.features[i][options_.inputs - 2].item<double>(),
                                                tokens.features[i][options_.inputs - 1].item<double>());
      x = x + parameter("positions.table")[radial][angular];
    }
    return x;
  }

  at::Tensor encode(const Tokens& tokens, std::int64_t s) const {
    std::vector<at::Tensor> rows;
    if (options_.class_token != rino::ClassToken::none) {
      rows.push_back(options_.class_token == rino::ClassToken::learned ? parameter("class_token.token")[0]
                                                                       : linear(tokens.jet_features[s], "class_token"));
    }
    for (std::int64_t r = 0; r < options_.registers; ++r) {
      rows.push_back(parameter("registers.token")[r]);
    }
    for (std::int64_t i = 0; i < tokens.length(s); ++i) {
      rows.push_back(embed(tokens, tokens.first(s) + i));
    }
    at::Tensor x = at::stack(rows);
    for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
      const std::string block = "blocks." + std::to_string(layer);
      const auto scale = [&](const char* name) {
        return options_.layer_scale == 0 ? at::ones({}, x.options()) : parameter(block + name);
      };
      x = x + attention(norm(x, block + ".norm1"), block + ".attention") * scale(".scale1.scale");
      x = x + feed_forward(norm(x, block + ".norm2"), block) * scale(".scale2.scale");
    }
    return norm(x, "norm");
  }

  at::Tensor pool(const at::Tensor& class_row, const at::Tensor& constituents) const {
    const at::Tensor mean = constituents.sum(0) / constituents.size(0);
    switch (options_.pooling) {
      case Pooling::token:
        return class_row;
      case Pooling::mean:
        return mean;
      case Pooling::both:
        return at::cat({class_row, mean});
      default: {
        const at::Tensor scores = at::matmul(constituents, parameter("pool.query"));
        const at::Tensor weights = (scores / std::sqrt(static_cast<double>(options_.width))).exp();
        return at::matmul(weights, constituents) / weights.sum();
      }
    }
  }

  JetEncoderOptions options_;
  torch::OrderedDict<std::string, at::Tensor> parameters_;
};

/// A smooth function of everything that an encoder returns.
at::Tensor score(const rino::Embeddings& z, std::uint64_t seed) {
  return (z.jets * normal(z.jets.sizes(), seed)).sum() +
         (z.constituents * normal(z.constituents.sizes(), seed + 1)).sum();
}

}  // namespace

TEST_CASE("the production encoder has the recipe's parameter counts", "[nn][production]") {
  JetEncoderOptions options = production();
  CHECK(rino::parameter_count(*JetEncoder(options)) == 8'427'264 + 2'560'000);
  options.positions = rino::Positions::none;
  CHECK(rino::parameter_count(*JetEncoder(options)) == 8'427'264);
  options.masked_token = rino::MaskedToken::learned;
  CHECK(rino::parameter_count(*JetEncoder(options)) == 8'427'264 + 256);
  options.masked_token = rino::MaskedToken::zero;
  for (const auto& [pooling, more, outputs] : {std::tuple{Pooling::mean, 0, 256},
                                               {Pooling::attention, 256, 256},
                                               {Pooling::both, 0, 512},
                                               {Pooling::all, 0, 256}}) {
    options.pooling = pooling;
    CHECK(rino::parameter_count(*JetEncoder(options)) == 8'427'264 + more);
    CHECK(options.outputs() == outputs);
  }
  options.class_token = rino::ClassToken::none;
  CHECK(rino::parameter_count(*JetEncoder(options)) == 8'427'264 - 256);
}

TEST_CASE("every part has its parameters under its own name", "[nn][production]") {
  JetEncoderOptions options = small();
  options.layers = 1;
  options.masked_token = rino::MaskedToken::learned;
  options.pooling = Pooling::attention;
  std::vector<std::string> names;
  for (const rino::TensorSlot& slot : rino::tensor_slots(*JetEncoder(options))) {
    names.push_back(slot.name);
  }
  CHECK(names == std::vector<std::string>{"embedding.weight",
                                          "embedding.bias",
                                          "embedding_norm.weight",
                                          "class_token.token",
                                          "registers.token",
                                          "masked_token.token",
                                          "positions.table",
                                          "blocks.0.norm1.weight",
                                          "blocks.0.attention.qkv.weight",
                                          "blocks.0.attention.qkv.bias",
                                          "blocks.0.attention.out.weight",
                                          "blocks.0.attention.out.bias",
                                          "blocks.0.scale1.scale",
                                          "blocks.0.norm2.weight",
                                          "blocks.0.swiglu.linear1.weight",
                                          "blocks.0.swiglu.linear1.bias",
                                          "blocks.0.swiglu.linear2.weight",
                                          "blocks.0.swiglu.linear2.bias",
                                          "blocks.0.scale2.scale",
                                          "norm.weight",
                                          "pool.query"});
}

TEST_CASE("initial values of the production encoder's parts", "[nn][production]") {
  JetEncoderOptions options = production();
  options.layers = 1;
  options.masked_token = rino::MaskedToken::learned;
  options.pooling = Pooling::attention;
  const JetEncoder encoder(options);
  rino::initialize(*encoder, 1);
  for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
    INFO(slot.name);
    const at::Tensor x = slot.tensor().detach();
    if (slot.name.find("norm") != std::string::npos) {
      CHECK(x.eq(1).all().item<bool>());
    } else if (slot.leaf_name == "scale") {
      CHECK(x.eq(0.01).all().item<bool>());
    } else if (slot.leaf_name == "token" || slot.leaf_name == "table" || slot.leaf_name == "query") {
      // Mean and deviation within five of their own standard errors.
      const auto n = static_cast<double>(x.numel());
      CHECK(std::abs(x.mean().item<double>()) < 5 * 0.02 / std::sqrt(n));
      CHECK(std::abs(x.std().item<double>() / 0.02 - 1) < 5 / std::sqrt(2 * n));
    }
  }
  const auto values = [](const torch::nn::Module& module) {
    std::vector<at::Tensor> pieces;
    for (const at::Tensor& tensor : module.parameters()) {
      pieces.push_back(tensor.detach().reshape(-1));
    }
    return at::cat(pieces);
  };
  const at::Tensor first = values(*encoder);
  rino::initialize(*encoder, 2);
  CHECK_FALSE(values(*encoder).equal(first));
  rino::initialize(*encoder, 1);
  CHECK(values(*encoder).equal(first));
}

TEST_CASE("the encoder of every set of parts follows its formulas, value and gradient", "[nn][production]") {
  std::uint64_t seed = 10;
  for (const Variant& variant : variants()) {
    for (const Pooling pooling : poolings(variant.options.class_token)) {
      for (const int mask : {0, 1, 2}) {
        JetEncoderOptions options = variant.options;
        options.pooling = pooling;
        options.masked_token = mask == 2 ? rino::MaskedToken::learned : rino::MaskedToken::zero;
        INFO(variant.name << ", pooling " << rino::to_string(pooling) << ", mask " << mask);
        JetEncoder encoder = encoder_of(options, ++seed);
        Tokens tokens = some_tokens(seed, mask > 0);
        tokens.features.requires_grad_();
        tokens.jet_features.requires_grad_();
        std::vector<at::Tensor> inputs = encoder->parameters();
        inputs.insert(inputs.end(), {tokens.features, tokens.jet_features});
        const auto gradients = [&](const rino::Embeddings& z) {
          return torch::autograd::grad({score(z, 77)}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false,
                                       /*allow_unused=*/true);
        };
        const rino::Embeddings expected = Formula(encoder)(tokens);
        const rino::Embeddings found = encoder(tokens);
        REQUIRE(found.jets.size(1) == options.outputs());
        CHECK(largest_difference(found.jets, expected.jets) < 1e-12);
        CHECK(largest_difference(found.constituents, expected.constituents) < 1e-12);
        CHECK(largest_difference(encoder->embed_jets(tokens), expected.jets) < 1e-12);
        const auto mine = gradients(found);
        const auto theirs = gradients(expected);
        double worst = 0.0;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
          const auto or_zero = [&](const at::Tensor& g) { return g.defined() ? g : at::zeros_like(inputs[i]); };
          worst = std::max(worst, largest_difference(or_zero(mine[i]), or_zero(theirs[i])));
        }
        CHECK(worst < 1e-10);
      }
    }
  }
}

TEST_CASE("gradients of the production encoder agree with finite differences", "[nn][production]") {
  const auto pooling = GENERATE(from_range(poolings()));
  const auto masked_token = GENERATE(rino::MaskedToken::zero, rino::MaskedToken::learned);
  const bool jets_alone = GENERATE(true, false);
  JetEncoderOptions options = small();
  options.pooling = pooling;
  options.masked_token = masked_token;
  JetEncoder encoder = encoder_of(options, 200);
  const Tokens tokens = some_tokens(201, /*masked=*/true);
  const at::Tensor weights = normal({tokens.sequences(), options.outputs()}, 202);
  const auto function = [&] {
    return jets_alone ? (encoder->embed_jets(tokens) * weights).sum() : score(encoder(tokens), 203);
  };
  const rino::FlatParameters flat(*encoder, /*trainable=*/true);
  function().backward();
  const at::NoGradGuard no_grad;
  for (std::uint64_t direction = 0; direction < 10; ++direction) {
    const at::Tensor way = normal(flat.values().sizes(), 300 + direction);
    constexpr double step = 2e-6;
    flat.values().add_(way, step);
    const double up = function().item<double>();
    flat.values().sub_(way, 2 * step);
    const double down = function().item<double>();
    flat.values().add_(way, step);
    const double expected = flat.gradients().dot(way).item<double>();
    CHECK(std::abs((up - down) / (2 * step) - expected) < 1e-6 * (1 + std::abs(expected)));
  }
}

TEST_CASE("polar bins follow the recipe's formula, at the axis and beyond the range too", "[nn][positions]") {
  JetEncoderOptions options = production();
  options.bins = GENERATE(rino::PolarBins::round, rino::PolarBins::floor);
  const bool nearest = options.bins == rino::PolarBins::round;
  rino::PolarPositions positions(rino::PolarPositionsOptions{.width = 4, .bins = options.bins});
  const at::Tensor random = normal({20000, 5}, 400) * 2;
  const auto [radial, angular] = positions->bins(random);
  REQUIRE((radial.scalar_type() == at::kLong && angular.scalar_type() == at::kLong));
  bool right = true;
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < random.size(0); ++i) {
    const auto [r, a] = naive_bins(options, random[i][3].item<double>(), random[i][4].item<double>());
    right = right && radial[i].item<std::int64_t>() == r && angular[i].item<std::int64_t>() == a;
    seen.insert(a);
  }
  CHECK(right);
  CHECK(seen.size() == 100);

  const auto bins = [&](double eta, double phi, at::ScalarType type = at::kDouble) {
    const auto [r, a] = positions->bins(at::tensor({7.0, eta, phi}, at::kDouble).to(type).view({1, 3}));
    return std::pair{r.item<std::int64_t>(), a.item<std::int64_t>()};
  };
  const double huge = std::numeric_limits<double>::max() / 4;
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(bins(0, 0) == std::pair{std::int64_t{0}, std::int64_t{0}});
  CHECK(bins(5.5999, 0).first == 99);
  CHECK(bins(5.6001, 0).first == 99);
  CHECK(bins(huge, 0) == std::pair{std::int64_t{99}, std::int64_t{0}});
  CHECK(bins(0, infinite) == std::pair{std::int64_t{99}, std::int64_t{25}});
  CHECK(bins(-100, 1) == std::pair{std::int64_t{99}, std::int64_t{nearest ? 50 : 49}});
  // The first and the last edge between radial bins: as published half a step of 99 from either end, else a hundredth.
  const double step = nearest ? 0.5 / 99 : 0.01;
  for (const auto& [u, below] : {std::pair{step, 0}, std::pair{1 - step, 98}}) {
    const double edge = 0.96 * (std::pow(1 + 5.6 / 0.96, u) - 1);
    CHECK(bins(0.999 * edge, 0).first == below);
    CHECK(bins(1.001 * edge, 0).first == below + 1);
  }
  // What is not a number has some bin, so that the embedding is not a number and nothing else breaks.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto [r, a] = bins(nan, nan, type);
    CHECK((r >= 0 && r < 100 && a >= 0 && a < 100));
  }
}

TEST_CASE("the angular bins close to a circle", "[nn][positions]") {
  const std::int64_t bins = GENERATE(1, 7, 100);
  const auto kind = GENERATE(rino::PolarBins::round, rino::PolarBins::floor);
  const double middle = kind == rino::PolarBins::round ? 0.0 : 0.5;  // of the first bin
  for (const auto type : {at::kFloat, at::kDouble}) {
    rino::PolarPositions positions(
        rino::PolarPositionsOptions{.width = 4, .radial_bins = 10, .angular_bins = bins, .bins = kind});
    // Constituents in the middle four fifths of their bins, where no rounding of the rotation moves them out.
    const at::Tensor unit = (normal({400}, 410) * 0.2).clamp(-0.4, 0.4) + middle;
    const at::Tensor turn = 2 * std::numbers::pi / static_cast<double>(bins) *
                            (at::arange(400, at::kDouble).remainder(static_cast<double>(bins)) + unit);
    const at::Tensor r = at::exp(normal({400}, 411));
    const auto at_angle = [&](const at::Tensor& angle) {
      return positions->bins(at::stack({r, r * angle.cos(), r * angle.sin()}, 1).to(type));
    };
    const auto [radial, angular] = at_angle(turn);
    CHECK(angular.equal(at::arange(400, at::kLong).remainder(bins)));
    for (const std::int64_t k : {std::int64_t{1}, std::int64_t{3}, bins - 1, bins, 2 * bins + 5, -bins / 2}) {
      const auto [rotated_radial, rotated] =
          at_angle(turn + 2 * std::numbers::pi / static_cast<double>(bins) * static_cast<double>(k));
      CHECK(rotated.equal((angular + k).remainder(bins)));
      CHECK(rotated_radial.ne(radial).sum().item<std::int64_t>() <= 1);  // one at an edge, by rounding
    }
    // A hair below and above the seam between the last bin and the first: no angle is without a bin.
    const double seam = (middle - 0.5) * 2 * std::numbers::pi / static_cast<double>(bins);
    const auto bin_at = [&](double angle) {
      const at::Tensor point = at::tensor({std::cos(angle), std::sin(angle)}, at::kDouble).to(type).view({1, 2});
      return positions->bins(point).second.item<std::int64_t>();
    };
    CHECK(bin_at(seam - 1e-6) == bins - 1);
    CHECK(bin_at(seam + 1e-6) == 0);
    // And at the other end of atan2, where its sign flips: no seam.
    const at::Tensor upper = at::tensor({-1.0, 0.0}, at::kDouble).to(type).view({1, 2});
    const at::Tensor lower = at::tensor({-1.0, -0.0}, at::kDouble).to(type).view({1, 2});
    if (bins % 2 == 0) {
      CHECK(positions->bins(upper).second.item<std::int64_t>() == bins / 2);
      CHECK(positions->bins(lower).second.item<std::int64_t>() == bins / 2);
    }
  }
}

TEST_CASE("a rotated jet reads rotated entries of the table", "[nn][positions]") {
  const JetEncoderOptions options = small();
  rino::PolarPositions positions(rino::PolarPositionsOptions{
      .width = 6, .radial_bins = options.radial_bins, .angular_bins = options.angular_bins});
  rino::initialize(*positions, 420);
  positions->to(at::kDouble);
  const at::Tensor features = normal({300, 2}, 421);
  const at::Tensor quarter = at::stack({-features.select(1, 1), features.select(1, 0)}, 1);  // one bin of four
  const at::Tensor before = positions(quarter).detach();
  {
    const at::NoGradGuard no_grad;
    positions->table.copy_(positions->table.roll(-1, 1));
  }
  CHECK(positions(features).equal(before));
}

TEST_CASE("of a masked token nothing is seen but its position", "[nn][production]") {
  const auto masked_token = GENERATE(rino::MaskedToken::zero, rino::MaskedToken::learned);
  const auto parts = GENERATE(0, 1);
  JetEncoderOptions options = variants()[static_cast<std::size_t>(parts)].options;
  options.masked_token = masked_token;
  options.pooling = Pooling::both;
  JetEncoder encoder = encoder_of(options, 430);
  Tokens tokens = some_tokens(431, /*masked=*/true);
  const rino::Embeddings before = encoder(tokens);
  const at::Tensor hidden = tokens.masked.unsqueeze(1);
  const auto with = [&](const at::Tensor& features) {
    Tokens other = tokens;
    other.features = at::where(hidden, features, tokens.features);
    return other;
  };
  at::Tensor rubbish = at::full_like(tokens.features, std::numeric_limits<double>::quiet_NaN());
  rubbish.narrow(1, 3, 2).copy_(tokens.features.narrow(1, 3, 2));
  CHECK(encoder(with(rubbish)).jets.equal(before.jets));
  CHECK(encoder(with(rubbish)).constituents.equal(before.constituents));
  CHECK(encoder->embed_jets(with(rubbish)).equal(encoder->embed_jets(tokens)));

  // Moved to the other side of the axis: seen where there are positions.
  const at::Tensor moved = encoder(with(-tokens.features)).jets;
  CHECK(moved.equal(before.jets) == (options.positions == rino::Positions::none));
  CHECK_FALSE(encoder(with(-tokens.features)).jets.equal(with(tokens.features).features));
  // A mask of nothing hides nothing.
  Tokens all = tokens;
  all.masked = at::zeros_like(tokens.masked);
  const at::Tensor unhidden = encoder(all).jets;
  all.masked = at::Tensor();
  CHECK(encoder(all).jets.equal(unhidden));
  CHECK_FALSE(unhidden.equal(before.jets));
}

TEST_CASE("pooled embeddings of the paper's encoder are the same from fused kernels, masks included",
          "[nn][production]") {
  const auto pooling = GENERATE(from_range(poolings()));
  const bool masked = GENERATE(true, false);
  JetEncoderOptions options;
  options.inputs = 5;
  options.pooling = pooling;
  options.dropout = 0.0;
  JetEncoder encoder = encoder_of(options, 440);
  const Tokens tokens = some_tokens(441, masked);
  const auto run = [&](rino::EncoderKernels kernels) {
    encoder->kernels = kernels;
    encoder->zero_grad();
    const rino::Embeddings z = encoder(tokens);
    (score(z, 442) + encoder->embed_jets(tokens).square().sum()).backward();
    std::vector<at::Tensor> results{z.jets.detach(), z.constituents.detach(), encoder->embed_jets(tokens).detach()};
    for (const at::Tensor& parameter : encoder->parameters()) {
      results.push_back(parameter.grad().clone());
    }
    return results;
  };
  const auto one = run(rino::EncoderKernels::fused);
  const auto other = run(rino::EncoderKernels::reference);
  for (std::size_t i = 0; i < one.size(); ++i) {
    CHECK(largest_difference(one[i], other[i]) < 1e-10);
  }
}

TEST_CASE("clones of the production encoder compute the same and are independent", "[nn][production]") {
  JetEncoderOptions options = small();
  options.pooling = Pooling::attention;
  options.masked_token = rino::MaskedToken::learned;
  JetEncoder encoder = encoder_of(options, 450);
  const Tokens tokens = some_tokens(451, /*masked=*/true);
  const at::Tensor expected = encoder(tokens).jets.detach();
  JetEncoder clone(std::dynamic_pointer_cast<rino::JetEncoderImpl>(encoder->clone()));
  CHECK(clone->options == options);
  CHECK(clone(tokens).jets.equal(expected));
  CHECK(clone->named_parameters().keys() == encoder->named_parameters().keys());
  {
    const at::NoGradGuard no_grad;
    for (const rino::TensorSlot& slot : rino::tensor_slots(*encoder)) {
      slot.tensor().add_(0.5);
    }
  }
  CHECK(clone(tokens).jets.equal(expected));
  const auto from = rino::tensor_slots(*encoder);
  const auto to = rino::tensor_slots(*clone);
  REQUIRE(from.size() == to.size());
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i].rebind(from[i].tensor());
  }
  CHECK(clone(tokens).jets.equal(encoder(tokens).jets));
}

TEST_CASE("the production encoder's embedding of a jet is the same alone, in a batch and in another order",
          "[nn][production]") {
  const auto pooling = GENERATE(from_range(poolings()));
  JetEncoderOptions options = small();
  options.pooling = pooling;
  JetEncoder encoder = encoder_of(options, 460);
  const Tokens tokens = some_tokens(461, /*masked=*/true);
  const rino::Embeddings together = encoder(tokens);
  for (std::int64_t s = 0; s < tokens.sequences(); ++s) {
    Tokens alone = random_tokens({tokens.length(s)}, 5, 1);
    const at::Tensor rows = tokens.first(s) + at::arange(tokens.length(s)).flip(0);
    alone.features = tokens.features.index_select(0, rows);
    alone.masked = tokens.masked.index_select(0, rows);
    alone.jet_features = tokens.jet_features.narrow(0, s, 1);
    const rino::Embeddings one = encoder(alone);
    CHECK(largest_difference(one.jets, together.jets.narrow(0, s, 1)) < 1e-12);
    CHECK(largest_difference(one.constituents, together.constituents.index_select(0, rows)) < 1e-12);
    CHECK(largest_difference(encoder->embed_jets(alone), together.jets.narrow(0, s, 1)) < 1e-12);
  }
}

TEST_CASE("no layers and no jets are served by every pooling", "[nn][production]") {
  const auto pooling = GENERATE(from_range(poolings()));
  JetEncoderOptions options = small();
  options.pooling = pooling;
  JetEncoder encoder = encoder_of(options, 470);
  const Tokens none = random_tokens({}, 5, 471);
  CHECK(encoder(none).jets.sizes() == at::IntArrayRef({0, options.outputs()}));
  CHECK(encoder(none).constituents.sizes() == at::IntArrayRef({0, 8}));
  CHECK(encoder->embed_jets(none).sizes() == at::IntArrayRef({0, options.outputs()}));
  options.layers = 0;
  JetEncoder flat = encoder_of(options, 472);
  const Tokens tokens = some_tokens(473, /*masked=*/false);
  CHECK(largest_difference(flat(tokens).jets, Formula(flat)(tokens).jets) < 1e-13);
  CHECK(flat->embed_jets(tokens).equal(flat(tokens).jets));
}

TEST_CASE("under autocast the production encoder keeps rows and norms in float32", "[nn][production]") {
  JetEncoderOptions options = production();
  options.layers = 2;
  options.pooling = Pooling::both;
  JetEncoder encoder(options);
  rino::initialize(*encoder, 480);
  const Tokens tokens = random_tokens({4, 9, 9, 30}, 7, 481, at::kFloat);
  const rino::Embeddings exact = encoder(tokens);
  const rino::Autocast autocast(rino::Precision::bf16, at::kCPU);
  const rino::Embeddings rounded = encoder(tokens);
  CHECK(rounded.jets.scalar_type() == at::kFloat);
  CHECK(rounded.constituents.scalar_type() == at::kFloat);
  // bfloat16 rounds by at most 2^-9 of a value; entries are of order 1 after the last norm.
  CHECK(largest_difference(rounded.jets, exact.jets) > 0);
  CHECK(largest_difference(rounded.constituents, exact.constituents) < 0.05);
  rino::Norm norm(rino::NormOptions{64, rino::NormKind::rms});
  const at::Tensor x = normal({10, 64}, 482, at::kFloat).to(at::kBFloat16);
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor expected = wide / (wide.square().mean(1, true) + 1e-5).sqrt();
  CHECK(norm(x).scalar_type() == at::kFloat);
  CHECK(largest_difference(norm(x), expected) < 1e-6);
}

TEST_CASE("dropout acts in SwiGLU, from the encoder's generator, in training alone", "[nn][production]") {
  rino::SwiGLU part(rino::SwiGLUOptions{6, 10, 0.5});
  rino::initialize(*part, 490);
  const at::Tensor x = normal({40, 6}, 491, at::kFloat);
  rino::set_generator(*part, rino::make_generator(at::kCPU, 492));
  const at::Tensor once = part(x).detach();
  CHECK_FALSE(part(x).equal(once));
  rino::set_generator(*part, rino::make_generator(at::kCPU, 492));
  CHECK(part(x).equal(once));
  part->eval();
  CHECK(part(x).equal(part(x)));
  JetEncoderOptions options = small();
  options.dropout = 0.2;
  JetEncoder encoder(options);
  rino::initialize(*encoder, 493);
  const Tokens tokens = random_tokens({2, 5, 9}, 5, 494, at::kFloat);
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 495));
  const at::Tensor first = encoder(tokens).jets.detach();
  rino::set_generator(*encoder, rino::make_generator(at::kCPU, 495));
  CHECK(encoder(tokens).jets.equal(first));
  CHECK_FALSE(encoder(tokens).jets.equal(first));
}

TEST_CASE("parts that cannot be, and masks that do not fit, are errors", "[nn][production]") {
  const auto error = [](const auto& change) {
    JetEncoderOptions options = small();
    change(options);
    return error_of([&] { JetEncoder{options}; });
  };
  CHECK(says(error([](auto& o) { o.registers = -1; }), "registers is -1", "0 for none"));
  CHECK(says(error([](auto& o) { o.norm_eps = 0; }), "norm_eps is 0", "positive"));
  CHECK(says(error([](auto& o) { o.norm_eps = -1e-5; }), "norm_eps is -1e-05"));
  CHECK(says(error([](auto& o) { o.layer_scale = -0.1; }), "layer_scale is -0.1", "0 for no scales"));
  CHECK(says(error([](auto& o) { o.radial_bins = 0; }), "radial_bins and angular_bins are 0 and 4", "1 or more"));
  CHECK(says(error([](auto& o) { o.angular_bins = -2; }), "3 and -2", "1 or more"));
  CHECK(says(error([](auto& o) { o.radial_knee = 0; }), "radial_knee and radial_range are 0 and 5.6", "positive"));
  CHECK(says(error([](auto& o) { o.radial_range = -1; }), "0.96 and -1", "positive"));
  CHECK(says(error([](auto& o) { o.radial_range = std::numeric_limits<double>::infinity(); }), "inf", "positive"));
  CHECK(says(error([](auto& o) { o.inputs = 1; }), "inputs is 1", "last two features"));
  for (const Pooling pooling : {Pooling::token, Pooling::both}) {
    CHECK(says(error([&](auto& o) {
                 o.class_token = rino::ClassToken::none;
                 o.pooling = pooling;
               }),
               "class_token is 'none'", "pooling '" + rino::to_string(pooling) + "'", "'mean', 'attention' or 'all'"));
  }
  CHECK(says(error([](auto& o) { o.feedforward = 0; }), "feedforward", "positive"));

  JetEncoder encoder = encoder_of(small(), 500);
  Tokens tokens = some_tokens(501, /*masked=*/true);
  const at::Tensor mask = tokens.masked;
  tokens.masked = mask.slice(0, 1);
  CHECK(says(error_of([&] { encoder(tokens); }), "mask of 50 tokens", "[49]", "one bool per token"));
  tokens.masked = mask.to(at::kFloat);
  CHECK(says(error_of([&] { encoder->embed_jets(tokens); }), "Float", "one bool per token"));
}
