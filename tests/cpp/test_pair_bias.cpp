#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <rino/jets/toy_shower.hpp>
#include <rino/nn/batch_norm.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/pair_bias.hpp>
#include <rino/tokens/view_tokenizer.hpp>

#include "catch.hpp"
#include "numeric.hpp"
#include "random_tokens.hpp"
#include "thread_ranks.hpp"

using rino::PairBias;
using rino::PairEmbedding;
using rino::Tokens;

namespace {

Tokens tokens_of(std::int64_t jets, std::uint64_t seed) {
  return rino::ViewTokenizer({}, /*momenta=*/true)
      .operator()<double>(rino::toy_shower<double>({.jets = jets}, seed), {rino::particles()});
}

/// With values that are not those at the start.
PairEmbedding embedding_of(PairBias kind) {
  PairEmbedding embedding(rino::PairEmbeddingOptions{.heads = 3, .width = 5, .kind = kind});
  embedding->to(at::kDouble);
  rino::initialize(*embedding, 4);
  const at::NoGradGuard no_grad;
  std::uint64_t seed = 10;
  for (const at::Tensor& parameter : embedding->parameters()) {
    parameter.add_(normal(parameter.sizes(), seed++), 0.3);
  }
  return embedding;
}

struct Result {
  at::Tensor bias;
  std::vector<at::Tensor> gradients;
  std::vector<at::Tensor> averages;
};

/// Forward and backward, of a loss that weighs every value.
Result run(PairEmbedding& embedding, const Tokens& tokens) {
  embedding->zero_grad();
  Result result;
  result.bias = embedding(tokens);
  (result.bias * normal(result.bias.sizes(), 3)).sum().backward();
  for (const at::Tensor& parameter : embedding->parameters()) {
    result.gradients.push_back(parameter.grad().clone());
  }
  for (const at::Tensor& buffer : embedding->buffers()) {
    result.averages.push_back(buffer.clone());
  }
  return result;
}

void require_close(const Result& one, const Result& other, double tolerance) {
  CHECK(largest_difference(one.bias, other.bias) < tolerance);
  REQUIRE(one.gradients.size() == other.gradients.size());
  for (std::size_t i = 0; i < one.gradients.size(); ++i) {
    const double scale = 1 + other.gradients[i].abs().max().item<double>();
    CHECK(largest_difference(one.gradients[i], other.gradients[i]) < tolerance * scale);
  }
  for (std::size_t i = 0; i < one.averages.size(); ++i) {
    CHECK(largest_difference(one.averages[i], other.averages[i]) < tolerance);
  }
}

}  // namespace

TEST_CASE("what the backward pass of pairs keeps changes nothing, nor does the size of pieces", "[pairs]") {
  const Tokens tokens = tokens_of(12, 3);
  for (const PairBias kind : {PairBias::batch, PairBias::layer}) {
    for (const bool training : {true, false}) {
      PairEmbedding kept = embedding_of(kind);
      kept->train(training);
      const Result expected = run(kept, tokens);
      for (const auto& [bytes, piece] :
           {std::pair{std::int64_t{0}, std::int64_t{1} << 14}, std::pair{std::int64_t{0}, std::int64_t{1}},
            std::pair{std::int64_t{1} << 30, std::int64_t{1}}}) {
        PairEmbedding other = embedding_of(kind);
        other->train(training);
        other->kept_bytes = bytes;
        other->piece = piece;
        require_close(run(other, tokens), expected, 1e-11);
      }
    }
  }
}

TEMPLATE_TEST_CASE("layers on pairs by kernels have the values and gradients of torch's operations", "[pairs]", float,
                   double) {
  const rino::simd::Target target = GENERATE(from_range(rino::simd::supported_targets()));
  const auto type = c10::CppTypeToScalarType<TestType>::value;
  // numbers of pairs that fill no block, several of them and several threads' work; widths that fill no vector
  const std::int64_t pairs = GENERATE(0, 1, 127, 300, 9001);
  const std::int64_t width = GENERATE(5, 32);
  CAPTURE(rino::to_string(target), pairs, width);
  std::vector<at::Tensor> parameters;
  std::uint64_t seed = 1;
  std::int64_t in = 4;
  for (const std::int64_t out : {width, width, width, std::int64_t{3}}) {
    for (const at::Tensor& values :
         {normal({out, in}, ++seed), normal({out}, ++seed), normal({out}, ++seed) + 1.0, normal({out}, ++seed)}) {
      parameters.push_back(values.to(type));
    }
    in = out;
  }
  const at::Tensor features = normal({pairs, 4}, 99).to(type);
  const at::Tensor d_out = normal({pairs, 3}, 98).to(type);
  std::vector<at::Tensor> exact;
  for (const at::Tensor& parameter : parameters) {
    exact.push_back(parameter.to(at::kDouble).requires_grad_());
  }
  const at::Tensor expected = rino::detail::PairLayers::of(features.to(at::kDouble), exact, 1e-5);
  const std::vector<at::Tensor> wanted = torch::autograd::grad({(expected * d_out.to(at::kDouble)).sum()}, exact);
  const double tolerance = type == at::kDouble ? 1e-11 : 2e-4;
  for (const int threads : {1, 3}) {
    const rino::fused::PairPass<TestType> pass(features, parameters, 1e-5, threads, target);
    CHECK(largest_difference(pass.forward().to(at::kDouble), expected) < tolerance);
    const at::Tensor flat = pass.backward(d_out).to(at::kDouble);
    CHECK(flat.equal(
        rino::fused::PairPass<TestType>(features, parameters, 1e-5, 1, target).backward(d_out).to(at::kDouble)));
    std::int64_t begin = 0;
    for (const at::Tensor& gradient : wanted) {
      const at::Tensor found = flat.narrow(0, begin, gradient.numel()).view(gradient.sizes());
      CHECK(largest_difference(found, gradient) < tolerance * (1 + gradient.abs().max().item<double>()));
      begin += gradient.numel();
    }
    CHECK(begin == flat.numel());
  }
}

TEST_CASE("pairs stand in the order i <= j, j slowest, one sequence behind the other", "[pairs]") {
  Tokens tokens = random_tokens({2, 1, 3}, 2, 1);
  const rino::TokenPairs pairs(tokens);
  CHECK(pairs.starts() == std::vector<std::int64_t>{0, 3, 4, 10});
  const auto [i, j] = pairs.rows(0, 3);
  CHECK(i.equal(at::tensor({0, 0, 1, 2, 3, 3, 4, 3, 4, 5}, at::kLong)));
  CHECK(j.equal(at::tensor({0, 1, 1, 2, 3, 4, 4, 5, 5, 5}, at::kLong)));
  CHECK(pairs.pieces(4) == std::vector<std::int64_t>{0, 2, 3});
  CHECK(pairs.pieces(1) == std::vector<std::int64_t>{0, 1, 2, 3});
  CHECK(pairs.pieces(100) == std::vector<std::int64_t>{0, 3});
}

TEST_CASE("batch norms of pairs and of rows have the statistics of all processes", "[pairs][ranks]") {
  const Tokens all = tokens_of(10, 5);
  const std::vector<std::pair<std::int64_t, std::int64_t>> shares{{0, 3}, {3, 10}};
  const auto share_of = [&](std::int64_t rank) {
    const auto [first, last] = shares[static_cast<std::size_t>(rank)];
    Tokens part;
    part.offsets.assign(all.offsets.begin() + first, all.offsets.begin() + last + 1);
    const std::int64_t begin = part.offsets.front();
    for (std::int64_t& offset : part.offsets) {
      offset -= begin;
    }
    part.view.assign(static_cast<std::size_t>(last - first), 0);
    for (std::int64_t jet = 0; jet < last - first; ++jet) {
      part.jet.push_back(jet);
    }
    part.features = all.features.narrow(0, begin, part.offsets.back());
    part.momenta = all.momenta.narrow(0, begin, part.offsets.back());
    part.jet_features = all.jet_features.narrow(0, first, last - first);
    return part;
  };

  SECTION("of pairs") {
    PairEmbedding alone = embedding_of(PairBias::batch);
    const at::Tensor bias = alone(all);
    const at::Tensor weights = normal(bias.sizes(), 8);
    (bias * weights).sum().backward();
    const rino::TokenPairs pairs(all);
    std::vector<PairEmbedding> each{embedding_of(PairBias::batch), embedding_of(PairBias::batch)};
    on_ranks(2, [&](const rino::Ranks& ranks) {
      const auto rank = static_cast<std::size_t>(ranks.rank());
      rino::connect(*each[rank], ranks);
      const at::Tensor mine = each[rank](share_of(ranks.rank()));
      const std::int64_t first = pairs.starts()[static_cast<std::size_t>(shares[rank].first)];
      (mine * weights.narrow(0, first, mine.size(0))).sum().backward();
    });
    for (std::size_t p = 0; p < alone->parameters().size(); ++p) {
      const at::Tensor sum = each[0]->parameters()[p].grad() + each[1]->parameters()[p].grad();
      CHECK(largest_difference(sum, alone->parameters()[p].grad()) < 1e-10);
    }
    for (std::size_t b = 0; b < alone->buffers().size(); ++b) {
      CHECK(largest_difference(each[0]->buffers()[b], alone->buffers()[b]) < 1e-12);
      CHECK(largest_difference(each[1]->buffers()[b], alone->buffers()[b]) < 1e-12);
    }
  }

  SECTION("of rows") {
    const auto made = [] {
      rino::BatchNorm norm(rino::BatchNormOptions{4});
      norm->to(at::kDouble);
      return norm;
    };
    rino::BatchNorm alone = made();
    const at::Tensor x = normal({9, 4}, 1).requires_grad_();
    const at::Tensor weights = normal({9, 4}, 2);
    (alone(x) * weights).sum().backward();
    std::vector<rino::BatchNorm> each{made(), made()};
    std::vector<at::Tensor> inputs{x.detach().narrow(0, 0, 2).clone().requires_grad_(),
                                   x.detach().narrow(0, 2, 7).clone().requires_grad_()};
    on_ranks(2, [&](const rino::Ranks& ranks) {
      const auto rank = static_cast<std::size_t>(ranks.rank());
      rino::connect(*each[rank], ranks);
      (each[rank](inputs[rank]) * weights.narrow(0, rank == 0 ? 0 : 2, rank == 0 ? 2 : 7)).sum().backward();
    });
    CHECK(largest_difference(at::cat({inputs[0].grad(), inputs[1].grad()}), x.grad()) < 1e-12);
    CHECK(largest_difference(each[0]->running_var, alone->running_var) < 1e-14);
    CHECK(largest_difference(each[1]->running_mean, alone->running_mean) < 1e-14);
  }
}

TEST_CASE("a module's copy has averages of its own, and rebinding shares them", "[pairs]") {
  rino::BatchNorm norm(rino::BatchNormOptions{3});
  const auto copy = std::dynamic_pointer_cast<rino::BatchNormImpl>(norm->clone());
  norm(normal({5, 3}, 1, at::kFloat));
  CHECK(copy->running_mean.equal(at::zeros({3})));
  CHECK(!norm->running_mean.equal(at::zeros({3})));

  const at::Tensor mine = at::ones({3});
  norm->rebind("running_mean", mine);
  norm(normal({5, 3}, 1, at::kFloat));
  CHECK(!mine.equal(at::ones({3})));
  CHECK(rino::parameter_count(*norm) == 6);
  CHECK(rino::tensor_slots(*norm).size() == 4);
}
