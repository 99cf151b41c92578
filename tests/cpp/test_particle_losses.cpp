#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include <ATen/ATen.h>

#include <rino/losses/gram.hpp>
#include <rino/losses/ibot.hpp>
#include <rino/tokens/constituent_masks.hpp>

#include "catch.hpp"
#include "numeric.hpp"

namespace {

using Counts = std::vector<std::int64_t>;

/// The cross-entropy of every masked constituent, one by one; the mean per jet, then over jets.
double naive_ibot(const at::Tensor& assignments, const at::Tensor& scores, const Counts& counts, double temperature) {
  const Matrix p(assignments);
  const Matrix z(scores);
  double sum = 0.0;
  std::int64_t row = 0;
  for (const std::int64_t count : counts) {
    double jet = 0.0;
    for (std::int64_t i = 0; i < count; ++i, ++row) {
      double partition = 0.0;
      for (std::int64_t k = 0; k < z.columns; ++k) {
        partition += std::exp(z(row, k) / temperature);
      }
      for (std::int64_t k = 0; k < z.columns; ++k) {
        jet -= p(row, k) * (z(row, k) / temperature - std::log(partition));
      }
    }
    sum += jet / static_cast<double>(count);
  }
  return sum / static_cast<double>(counts.size());
}

double cosine(const Matrix& x, std::int64_t a, std::int64_t b) {
  double ab = 0.0;
  double aa = 0.0;
  double bb = 0.0;
  for (std::int64_t d = 0; d < x.columns; ++d) {
    ab += x(a, d) * x(b, d);
    aa += x(a, d) * x(a, d);
    bb += x(b, d) * x(b, d);
  }
  return ab / std::sqrt(aa * bb);
}

double naive_gram(const at::Tensor& student, const at::Tensor& teacher, const Counts& lengths) {
  const Matrix s(student);
  const Matrix t(teacher);
  double sum = 0.0;
  std::int64_t first = 0;
  for (const std::int64_t length : lengths) {
    double jet = 0.0;
    for (std::int64_t a = first; a < first + length; ++a) {
      for (std::int64_t b = first; b < first + length; ++b) {
        jet += std::pow(cosine(s, a, b) - cosine(t, a, b), 2);
      }
    }
    sum += jet / static_cast<double>(length * length);
    first += length;
  }
  return sum / static_cast<double>(lengths.size());
}

rino::Tokens tokens_of(const Counts& lengths) {
  rino::Tokens tokens;
  for (const std::int64_t length : lengths) {
    tokens.jet.push_back(tokens.sequences());
    tokens.view.push_back(0);
    tokens.offsets.push_back(tokens.offsets.back() + length);
  }
  tokens.features = at::zeros({tokens.offsets.back(), 2}, at::kDouble);
  tokens.jet_features = at::zeros({tokens.sequences(), 4}, at::kDouble);
  return tokens;
}

}  // namespace

TEST_CASE("the iBOT loss is the mean cross-entropy per jet, then over jets, taken one by one", "[losses][ibot]") {
  const Counts counts{3, 1, 6, 2};
  const at::Tensor assignments = normal({12, 5}, 1).softmax(1);
  const at::Tensor scores = normal({12, 5}, 2);
  const auto loss = [&](const at::Tensor& z) { return rino::ibot_loss(assignments, z, at::tensor(counts), 0.3); };
  const double wanted = naive_ibot(assignments, scores, counts, 0.3);
  CHECK(std::abs(loss(scores).item<double>() - wanted) < 1e-12);
  CHECK(largest_difference(backward_gradient(loss, scores), numeric_gradient(loss, scores)) < 1e-8);

  const at::Tensor teacher = assignments.clone().requires_grad_();
  rino::ibot_loss(teacher, scores.clone().requires_grad_(), at::tensor(counts), 0.3).backward();
  CHECK_FALSE(teacher.grad().defined());
  CHECK(rino::ibot_loss(assignments.to(at::kHalf), scores.to(at::kBFloat16), at::tensor(counts), 0.1).scalar_type() ==
        at::kFloat);
}

TEST_CASE("no masked constituents have an iBOT loss of nothing", "[losses][ibot]") {
  const at::Tensor scores = at::zeros({0, 4}, at::kDouble).requires_grad_();
  const at::Tensor loss = rino::ibot_loss(at::zeros({0, 4}, at::kDouble), scores, at::zeros({0}, at::kLong), 0.1);
  CHECK(loss.item<double>() == 0.0);
  loss.backward();
  CHECK(scores.grad().numel() == 0);
}

TEST_CASE("the iBOT loss refuses shapes that do not fit", "[losses][ibot]") {
  const at::Tensor some = at::zeros({3, 4});
  const auto error = [&](const at::Tensor& scores, const at::Tensor& counts, double temperature) {
    return error_of([&] { rino::ibot_loss(some, scores, counts, temperature); });
  };
  CHECK(says(error(at::zeros({3, 5}), at::tensor(Counts{3}), 0.1), "[3, 4]", "[3, 5]", "[M, K]"));
  CHECK(says(error(some, at::tensor({3.0}), 0.1), "int64"));
  CHECK(says(error(some, at::tensor(Counts{1, 1, 1, 1}), 0.1), "3 masked constituents"));
  CHECK(says(error(some, at::tensor(Counts{3}), 0.0), "temperature is 0"));
}

TEST_CASE("the Gram loss is the mean squared difference of all cosines, taken one by one", "[losses][gram]") {
  const Counts lengths{4, 1, 7};
  const at::Tensor student = normal({12, 3}, 3);
  const at::Tensor teacher = normal({12, 3}, 4);
  const auto loss = [&](const at::Tensor& z) { return rino::gram_loss(z, teacher, lengths); };
  CHECK(std::abs(loss(student).item<double>() - naive_gram(student, teacher, lengths)) < 1e-13);
  CHECK(largest_difference(backward_gradient(loss, student), numeric_gradient(loss, student)) < 1e-8);
  CHECK(loss(teacher * 7.0).item<double>() < 1e-30);  // cosines do not know lengths
  const at::Tensor fixed = teacher.clone().requires_grad_();
  rino::gram_loss(student.clone().requires_grad_(), fixed, lengths).backward();
  CHECK_FALSE(fixed.grad().defined());
}

TEST_CASE("the Gram loss of vanishing embeddings is finite, and so is its gradient", "[losses][gram]") {
  const auto loss = [](const at::Tensor& z) { return rino::gram_loss(z, at::ones({3, 2}, at::kDouble), Counts{3}); };
  const at::Tensor nothing = at::zeros({3, 2}, at::kDouble);
  CHECK(std::abs(loss(nothing).item<double>() - 1.0) < 1e-12);
  CHECK(backward_gradient(loss, nothing).isfinite().all().item<bool>());
}

TEST_CASE("the Gram loss refuses lengths that do not fit", "[losses][gram]") {
  const at::Tensor some = at::zeros({3, 4});
  CHECK(says(error_of([&] { rino::gram_loss(some, some, Counts{2, 2}); }), "2 jets of 4", "[T, D]"));
  CHECK(says(error_of([&] { rino::gram_loss(some, some, Counts{3, 0}); }), "0 constituents"));
  CHECK(says(error_of([&] { rino::gram_loss(some, at::zeros({3, 2}), Counts{3}); }), "[3, 4]", "[3, 2]"));
}

TEST_CASE("a quarter of a jet's constituents is masked, one at least and not all", "[masks]") {
  Counts lengths;
  for (std::int64_t n = 1; n <= 90; ++n) {
    lengths.push_back(n);
  }
  const rino::Tokens tokens = tokens_of(lengths);
  // Hundredths, so that the integer part of the share needs no rounding here.
  const std::int64_t hundredths = GENERATE(25, 1, 99);
  const double fraction = static_cast<double>(hundredths) / 100.0;
  const rino::ConstituentMasks masks = rino::draw_masks(tokens, fraction, 1, 2);
  REQUIRE(masks.counts.size() == 89);  // of one constituent none can be masked
  std::size_t row = 0;
  for (std::size_t j = 0; j < masks.counts.size(); ++j) {
    const auto n = static_cast<std::int64_t>(j) + 2;
    CHECK(masks.counts[j] == std::clamp<std::int64_t>(hundredths * n / 100, 1, n - 1));
    const std::int64_t first = tokens.offsets[j + 1];
    std::int64_t before = first - 1;
    for (std::int64_t i = 0; i < masks.counts[j]; ++i, ++row) {
      CHECK(masks.rows[row] > before);
      before = masks.rows[row];
    }
    CHECK(before < first + n);
  }
  CHECK(row == masks.rows.size());
  const at::Tensor masked = rino::with_masks(tokens, at::tensor(masks.rows)).masked;
  CHECK(masked.sum().item<std::int64_t>() == static_cast<std::int64_t>(masks.rows.size()));
  CHECK(masked.index_select(0, at::tensor(masks.rows)).all().item<bool>());
}

TEST_CASE("every choice of masked constituents is equally likely", "[masks]") {
  // 2 of 6 constituents: 15 choices. Chi-square of 14 degrees of freedom is above 36.1 once in 1000.
  const rino::Tokens tokens = tokens_of(Counts(500, 6));
  std::map<Counts, int> seen;
  constexpr int steps = 30;
  for (std::uint64_t step = 0; step < steps; ++step) {
    const rino::ConstituentMasks masks = rino::draw_masks(tokens, 0.4, 7, step);
    for (std::size_t j = 0; j < masks.counts.size(); ++j) {
      REQUIRE(masks.counts[j] == 2);
      ++seen[{masks.rows[2 * j] % 6, masks.rows[2 * j + 1] % 6}];
    }
  }
  CHECK(seen.size() == 15);
  const double expected = 500.0 * steps / 15.0;
  double chi2 = 0.0;
  for (const auto& [choice, count] : seen) {
    chi2 += std::pow(count - expected, 2) / expected;
  }
  CHECK(chi2 < 36.1);
  CHECK(chi2 > 3.0);  // below once in 1000: nor are they shared out evenly
}

TEST_CASE("masks depend on seed, step and the jet's place in the batch alone", "[masks]") {
  const rino::Tokens all = tokens_of({20, 20, 20, 20});
  const auto rows = [](const rino::Tokens& tokens, std::uint64_t seed, std::uint64_t step, std::int64_t first = 0) {
    return rino::draw_masks(tokens, 0.25, seed, step, first).rows;
  };
  CHECK(rows(all, 1, 1) == rows(all, 1, 1));
  CHECK_FALSE(rows(all, 1, 1) == rows(all, 2, 1));
  CHECK_FALSE(rows(all, 1, 1) == rows(all, 1, 2));
  // the second half of the batch alone, as another process has it
  Counts half = rows(tokens_of({20, 20}), 1, 1, 2);
  for (std::int64_t& row : half) {
    row += 40;
  }
  const Counts whole = rows(all, 1, 1);
  CHECK(Counts(whole.begin() + 10, whole.end()) == half);
  const Counts one_jet = rows(tokens_of({20}), 1, 1);
  CHECK(std::set<std::int64_t>(one_jet.begin(), one_jet.end()).size() == 5);
}

TEST_CASE("masks of none or all constituents are refused", "[masks]") {
  const rino::Tokens tokens = tokens_of({4});
  for (const double fraction : {0.0, 1.0, -0.5, std::nan("")}) {
    CHECK(says(error_of([&] { rino::draw_masks(tokens, fraction, 1, 1); }), "mask_fraction"));
  }
}
