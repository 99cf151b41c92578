#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>

#include "catch.hpp"
#include "numeric.hpp"

namespace {

/// Sinkhorn-Knopp as it is written down: exponentials, columns to B/K, rows to 1.
Matrix naive_sinkhorn(const at::Tensor& scores, double temperature, int iterations) {
  Matrix q(scores);
  for (double& value : q.values) {
    value = std::exp(value / temperature);
  }
  for (int iteration = 0; iteration < iterations; ++iteration) {
    for (std::int64_t k = 0; k < q.columns; ++k) {
      double total = 0.0;
      for (std::int64_t b = 0; b < q.rows; ++b) {
        total += q(b, k);
      }
      for (std::int64_t b = 0; b < q.rows; ++b) {
        q(b, k) *= static_cast<double>(q.rows) / static_cast<double>(q.columns) / total;
      }
    }
    for (std::int64_t b = 0; b < q.rows; ++b) {
      double total = 0.0;
      for (std::int64_t k = 0; k < q.columns; ++k) {
        total += q(b, k);
      }
      for (std::int64_t k = 0; k < q.columns; ++k) {
        q(b, k) /= total;
      }
    }
  }
  return q;
}

/// The cross-entropy of every pair, one by one.
double naive_dino(const at::Tensor& assignments, const at::Tensor& scores, double temperature) {
  double sum = 0.0;
  int pairs = 0;
  for (std::int64_t t = 0; t < assignments.size(0); ++t) {
    for (std::int64_t s = 0; s < scores.size(0); ++s) {
      if (s == t) {
        continue;
      }
      ++pairs;
      const Matrix p(assignments[t]);
      const Matrix z(scores[s]);
      double batch = 0.0;
      for (std::int64_t b = 0; b < z.rows; ++b) {
        double partition = 0.0;
        for (std::int64_t k = 0; k < z.columns; ++k) {
          partition += std::exp(z(b, k) / temperature);
        }
        for (std::int64_t k = 0; k < z.columns; ++k) {
          batch -= p(b, k) * std::log(std::exp(z(b, k) / temperature) / partition);
        }
      }
      sum += batch / static_cast<double>(z.rows);
    }
  }
  return sum / pairs;
}

double naive_koleo(const at::Tensor& embeddings) {
  Matrix x(embeddings);
  for (std::int64_t b = 0; b < x.rows; ++b) {
    double square = 0.0;
    for (std::int64_t d = 0; d < x.columns; ++d) {
      square += x(b, d) * x(b, d);
    }
    for (std::int64_t d = 0; d < x.columns; ++d) {
      x(b, d) /= std::sqrt(square);
    }
  }
  double sum = 0.0;
  for (std::int64_t a = 0; a < x.rows; ++a) {
    double nearest = 10.0;
    for (std::int64_t b = 0; b < x.rows; ++b) {
      double square = 0.0;
      for (std::int64_t d = 0; d < x.columns; ++d) {
        square += (x(a, d) - x(b, d)) * (x(a, d) - x(b, d));
      }
      nearest = a == b ? nearest : std::min(nearest, std::sqrt(square));
    }
    sum -= std::log(nearest + 1e-8);
  }
  return sum / static_cast<double>(x.rows);
}

}  // namespace

TEST_CASE("Sinkhorn agrees with its iteration written as loops", "[losses][sinkhorn]") {
  for (const auto& [rows, columns] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{12, 5}, {3, 8}, {1, 4}, {6, 1}}) {
    const at::Tensor scores = normal({rows, columns}, 1);
    for (const int iterations : {1, 3, 10}) {
      const at::Tensor expected = naive_sinkhorn(scores, 0.3, iterations).tensor();
      CHECK(largest_difference(rino::sinkhorn(scores, 0.3, iterations), expected) < 1e-14);
      const at::Tensor single = rino::sinkhorn(scores.to(at::kFloat), 0.3, iterations);
      CHECK(single.scalar_type() == at::kFloat);
      CHECK(largest_difference(single, expected) < 2e-5);
    }
  }
}

TEST_CASE("Sinkhorn's rows sum to one and its prototypes are used equally in the end", "[losses][sinkhorn]") {
  const at::Tensor scores = normal({40, 8}, 2);
  CHECK(largest_difference(rino::sinkhorn(scores, 0.5, 3).sum(1), at::ones({40})) < 1e-14);
  CHECK(largest_difference(rino::sinkhorn(scores, 0.5, 500).sum(0), at::full({8}, 5.0)) < 1e-9);
}

TEST_CASE("Sinkhorn does not overflow, has no gradient, and works on low precision in float32", "[losses][sinkhorn]") {
  // exp(1000 / 0.04) is far above what any floating-point type holds.
  const at::Tensor huge = (normal({10, 4}, 3) * 1000).to(at::kFloat).requires_grad_();
  const at::Tensor q = rino::sinkhorn(huge, 0.04);
  CHECK(q.isfinite().all().item<bool>());
  CHECK(largest_difference(q.sum(1), at::ones({10})) < 1e-5);
  CHECK_FALSE(q.requires_grad());
  const at::Tensor low = normal({10, 4}, 4).to(at::kBFloat16);
  CHECK(rino::sinkhorn(low, 0.04).equal(rino::sinkhorn(low.to(at::kFloat), 0.04)));
}

TEST_CASE("Sinkhorn refuses what it cannot use", "[losses][sinkhorn]") {
  const at::Tensor scores = at::zeros({4, 2});
  CHECK(says(error_of([&] { rino::sinkhorn(scores[0], 0.1); }), "[2]", "[B, K]"));
  CHECK(says(error_of([&] { rino::sinkhorn(at::zeros({0, 2}), 0.1); }), "[0, 2]"));
  CHECK(says(error_of([&] { rino::sinkhorn(scores, 0.0); }), "temperature is 0", "above 0"));
  CHECK(says(error_of([&] { rino::sinkhorn(scores, 0.1, 0); }), "iterations are 0", "1 or more"));
}

TEST_CASE("centering is a softmax of the scores less the centre, which follows their mean", "[losses][centering]") {
  const at::Tensor scores = normal({7, 3}, 5);
  at::Tensor center = normal({3}, 6);
  const Matrix z(scores);
  Matrix expected(scores);
  for (std::int64_t b = 0; b < 7; ++b) {
    double total = 0.0;
    for (std::int64_t k = 0; k < 3; ++k) {
      expected(b, k) = std::exp((z(b, k) - center[k].item<double>()) / 0.2);
      total += expected(b, k);
    }
    for (std::int64_t k = 0; k < 3; ++k) {
      expected(b, k) /= total;
    }
  }
  const at::Tensor leaf = scores.clone().requires_grad_();
  const at::Tensor p = rino::centered_assignment(leaf, center, 0.2);
  CHECK(largest_difference(p, expected.tensor()) < 1e-14);
  CHECK_FALSE(p.requires_grad());

  const at::Tensor before = center.clone();
  rino::update_center(center, leaf, 0.9);
  CHECK_FALSE(center.requires_grad());
  for (std::int64_t k = 0; k < 3; ++k) {
    double mean = 0.0;
    for (std::int64_t b = 0; b < 7; ++b) {
      mean += z(b, k) / 7;
    }
    CHECK(std::abs(center[k].item<double>() - (0.9 * before[k].item<double>() + 0.1 * mean)) < 1e-15);
  }
  CHECK(says(error_of([&] { rino::centered_assignment(scores, at::zeros({4}), 0.1); }), "[7, 3]", "[4]"));
  CHECK(says(error_of([&] { rino::centered_assignment(scores, center, -1.0); }), "temperature is -1", "above 0"));
}

TEST_CASE("the DINO loss is the mean cross-entropy of all pairs, taken one by one", "[losses][dino]") {
  for (const auto& [teachers, students] : std::vector<std::pair<std::int64_t, std::int64_t>>{{4, 9}, {2, 2}, {1, 3}}) {
    const at::Tensor assignments = (normal({teachers, 6, 5}, 7) / 0.3).softmax(2);
    const at::Tensor scores = normal({students, 6, 5}, 8);
    const double expected = naive_dino(assignments, scores, 0.25);
    CHECK(std::abs(rino::dino_loss(assignments, scores, 0.25).item<double>() - expected) < 1e-13);
    const at::Tensor single = rino::dino_loss(assignments.to(at::kFloat), scores.to(at::kFloat), 0.25);
    CHECK(single.scalar_type() == at::kFloat);
    CHECK(std::abs(single.item<double>() - expected) < 1e-5);
  }
}

TEST_CASE("a student that knows nothing has a DINO loss of ln K", "[losses][dino]") {
  const at::Tensor assignments = normal({2, 3, 16}, 9).softmax(2);
  CHECK(std::abs(rino::dino_loss(assignments, at::zeros({4, 3, 16}, at::kDouble), 0.1).item<double>() -
                 std::log(16.0)) < 1e-14);
}

TEST_CASE("the DINO loss agrees with finite differences and leaves the teacher alone", "[losses][dino]") {
  const at::Tensor assignments = normal({2, 4, 3}, 10).softmax(2).requires_grad_();
  const at::Tensor scores = normal({3, 4, 3}, 11);
  const auto loss = [&](const at::Tensor& x) { return rino::dino_loss(assignments, x, 0.5); };
  CHECK(largest_difference(backward_gradient(loss, scores), numeric_gradient(loss, scores)) < 1e-9);
  CHECK_FALSE(assignments.grad().defined());
}

TEST_CASE("the DINO loss stays finite where the softmax is sharp", "[losses][dino]") {
  const at::Tensor assignments = at::eye(4).view({1, 4, 4});
  const at::Tensor scores = (-at::eye(4) * 100).repeat({2, 1, 1});
  CHECK(std::abs(rino::dino_loss(assignments, scores, 0.01).item<double>() - (10000 + std::log(3.0))) < 1e-2);
}

TEST_CASE("the DINO loss refuses shapes that make no pairs", "[losses][dino]") {
  const at::Tensor p = at::full({2, 3, 4}, 0.25);
  CHECK(says(error_of([&] { rino::dino_loss(p, at::zeros({1, 3, 4}), 0.1); }), "[2, 3, 4]", "[1, 3, 4]", "V >= T"));
  CHECK(says(error_of([&] { rino::dino_loss(p, at::zeros({2, 3, 5}), 0.1); }), "[2, 3, 5]"));
  CHECK(says(error_of([&] { rino::dino_loss(p, p[0], 0.1); }), "[T, B, K]"));
  CHECK(says(error_of([&] { rino::dino_loss(p[0].unsqueeze(0), p[0].unsqueeze(0), 0.1); }), "second resolution"));
  CHECK(says(error_of([&] { rino::dino_loss(p, p, 0.0); }), "temperature is 0"));
}

TEST_CASE("KoLeo is minus the mean logarithm of the distance to the nearest neighbour", "[losses][koleo]") {
  // Worked by hand: opposite directions are 2 apart, right angles sqrt(2); lengths do not matter.
  const at::Tensor opposite = at::tensor({3., 0., -0.1, 0.}, at::kDouble).view({2, 2});
  CHECK(std::abs(rino::koleo_loss(opposite).item<double>() + std::log(2.0)) < 1e-8);
  const at::Tensor three = at::tensor({1., 0., 0., 5., -2., 0.}, at::kDouble).view({3, 2});
  CHECK(std::abs(rino::koleo_loss(three).item<double>() + std::log(2.0) / 2) < 1e-8);

  const at::Tensor x = normal({30, 6}, 12);
  CHECK(std::abs(rino::koleo_loss(x).item<double>() - naive_koleo(x)) < 1e-13);
  CHECK(std::abs(rino::koleo_loss(x * 1e6).item<double>() - naive_koleo(x)) < 1e-13);
  const at::Tensor single = rino::koleo_loss(x.to(at::kFloat));
  CHECK(single.scalar_type() == at::kFloat);
  CHECK(std::abs(single.item<double>() - naive_koleo(x)) < 1e-5);
}

TEST_CASE("KoLeo agrees with finite differences", "[losses][koleo]") {
  const at::Tensor x = normal({8, 3}, 13);
  const auto loss = [](const at::Tensor& embeddings) { return rino::koleo_loss(embeddings); };
  CHECK(largest_difference(backward_gradient(loss, x), numeric_gradient(loss, x)) < 1e-8);
}

TEST_CASE("KoLeo of equal or vanishing embeddings is finite, and so is its gradient", "[losses][koleo]") {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const at::Tensor& x : {at::ones({4, 3}, type), at::zeros({4, 3}, type)}) {
      const auto loss = [](const at::Tensor& embeddings) { return rino::koleo_loss(embeddings); };
      CHECK(loss(x).isfinite().item<bool>());
      CHECK(backward_gradient(loss, x).isfinite().all().item<bool>());
    }
  }
  CHECK(says(error_of([] { rino::koleo_loss(at::zeros({1, 3})); }), "[1, 3]", "two jets"));
  CHECK(says(error_of([] { rino::koleo_loss(at::zeros({4})); }), "[B, D]"));
}
