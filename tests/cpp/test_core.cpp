#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/core/random.hpp>

#include "catch.hpp"

TEST_CASE("an error streams its parts into one message", "[core]") {
  CHECK(error_of([] { rino::require(false, "n is ", 3, ": give ", 0.5); }) == "n is 3: give 0.5");
  CHECK(error_of([] { rino::fail("jet ", 7); }) == "jet 7");
  CHECK_NOTHROW(rino::require(true, "unused"));
}

TEST_CASE("parallel_for covers every index once, in contiguous ranges", "[core]") {
  for (const std::int64_t count : {0, 1, 2, 7, 100}) {
    for (const int threads : {1, 2, 3, 8, 200}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      std::atomic<int> ranges{0};
      rino::parallel_for(count, threads, [&](std::int64_t begin, std::int64_t end) {
        ++ranges;
        for (std::int64_t i = begin; i < end; ++i) {
          ++visits[static_cast<std::size_t>(i)];
        }
      });
      CHECK(std::all_of(visits.begin(), visits.end(), [](const std::atomic<int>& v) { return v == 1; }));
      CHECK(ranges == std::min<std::int64_t>(count, threads));
    }
  }
}

TEST_CASE("parallel_for works on the threads it is given", "[core]") {
  std::atomic<int> waiting{0};
  rino::parallel_for(2, 2, [&](std::int64_t, std::int64_t) {
    ++waiting;
    while (waiting < 2) {
      std::this_thread::yield();
    }
  });
  CHECK(waiting == 2);
}

TEST_CASE("parallel_for rethrows what a range threw", "[core]") {
  for (const int threads : {1, 4}) {
    CHECK(error_of([&] {
            rino::parallel_for(8, threads,
                               [](std::int64_t, std::int64_t end) { rino::require(end < 8, "range up to ", end); });
          }) == "range up to 8");
  }
  CHECK(
      says(error_of([] { rino::parallel_for(8, 0, [](std::int64_t, std::int64_t) {}); }), "threads is 0", "1 or more"));
}

TEST_CASE("random numbers are a fixed function of their key", "[core]") {
  // From a re-computation of SplitMix64 and the key's mixing in Python's integers.
  rino::Random random({1, 2, 3});
  CHECK(random.bits() == 0x185bb40c3c12cf8dULL);
  CHECK(random.bits() == 0xc038bcd9e9d5e8b4ULL);
  CHECK(random.uniform() == 0x1.5b42ef64891bdp-1);
  rino::Random again({1, 2, 3});
  CHECK(again.bits() == 0x185bb40c3c12cf8dULL);
  CHECK(rino::Random({2, 1, 3}).bits() != 0x185bb40c3c12cf8dULL);
  CHECK(rino::Random({1, 2}).bits() != 0x185bb40c3c12cf8dULL);
}

TEST_CASE("random numbers of neighbouring keys have the moments of independent ones", "[core]") {
  constexpr int n = 200000;
  double mean = 0.0;
  double square = 0.0;
  double neighbour = 0.0;
  double normal_mean = 0.0;
  double normal_square = 0.0;
  double normal_fourth = 0.0;
  double last = 0.5;
  for (std::uint64_t k = 0; k < n; ++k) {
    rino::Random random({42, k});
    const double u = random.uniform();
    REQUIRE((u >= 0.0 && u < 1.0));
    mean += u / n;
    square += (u - 0.5) * (u - 0.5) / n;
    neighbour += (u - 0.5) * (last - 0.5) / n;
    last = u;
    const double x = random.normal();
    normal_mean += x / n;
    normal_square += x * x / n;
    normal_fourth += x * x * x * x / n;
  }
  // Five standard deviations each.
  const double root = std::sqrt(static_cast<double>(n));
  CHECK(std::abs(mean - 0.5) < 5 * std::sqrt(1.0 / 12) / root);
  CHECK(std::abs(square - 1.0 / 12) < 5 * std::sqrt(1.0 / 180) / root);
  CHECK(std::abs(neighbour) < 5.0 / 12 / root);
  CHECK(std::abs(normal_mean) < 5 / root);
  CHECK(std::abs(normal_square - 1) < 5 * std::sqrt(2.0) / root);
  CHECK(std::abs(normal_fourth - 3) < 5 * std::sqrt(96.0) / root);
}

TEST_CASE("integers below a bound and numbers between bounds stay there and reach all values", "[core]") {
  rino::Random random({7});
  std::vector<int> counts(5, 0);
  for (int i = 0; i < 50000; ++i) {
    ++counts.at(static_cast<std::size_t>(random.below(5)));
    const double x = random.uniform(-2.0, 3.0);
    REQUIRE((x >= -2.0 && x <= 3.0));
  }
  for (const int count : counts) {
    CHECK(std::abs(count - 10000) < 5 * std::sqrt(50000 * 0.2 * 0.8));
  }
}

TEST_CASE("a permutation holds every number once, its beginning is the shorter draw, and all orders occur", "[core]") {
  for (const std::int64_t count : {0, 1, 2, 10, 1000}) {
    std::vector<std::int64_t> order = rino::Random({11}).permutation(count);
    const std::vector<std::int64_t> beginning = rino::Random({11}).permutation(count, count / 2);
    CHECK(std::equal(beginning.begin(), beginning.end(), order.begin()));
    std::sort(order.begin(), order.end());
    std::vector<std::int64_t> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    CHECK(order == all);
  }
  std::set<std::vector<std::int64_t>> seen;
  rino::Random random({13});
  for (int i = 0; i < 500; ++i) {
    seen.insert(random.permutation(4));
  }
  CHECK(seen.size() == 24);
}
