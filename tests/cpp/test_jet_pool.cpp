#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <rino/jets/concatenate.hpp>
#include <rino/jets/jet_pool.hpp>
#include <rino/jets/jets.hpp>

#include "catch.hpp"

namespace {

using rino::JetOrigins;
using rino::JetPool;
using rino::Jets;
using Index = std::int64_t;

/// A column of random numbers in either precision, and what it holds.
struct Numbers {
  std::vector<float> single;
  std::vector<double> wide;
  bool is_single = false;

  JetPool::Column column() const { return is_single ? JetPool::Column(single.data()) : JetPool::Column(wide.data()); }
  double operator[](std::size_t i) const { return is_single ? static_cast<double>(single[i]) : wide[i]; }
  template <typename Scalar>
  std::vector<Scalar> as(std::size_t size) const {
    std::vector<Scalar> values(size);
    for (std::size_t i = 0; i < size; ++i) {
      values[i] = is_single ? static_cast<Scalar>(single[i]) : static_cast<Scalar>(wide[i]);
    }
    return values;
  }
  static Numbers of(const std::vector<double>& values, bool is_single) {
    return {std::vector<float>(values.begin(), values.end()), values, is_single};
  }
};

/// Random sound jets with everything that a piece can have, and the same as `Jets`.
struct Sample {
  std::array<Numbers, 4> momenta;
  Numbers charge;
  Numbers mass;
  std::vector<Index> offsets{0};
  std::vector<Index> labels;
  std::shared_ptr<const JetOrigins> origins;

  Sample(Index jets, bool is_single, const std::vector<std::string>& files, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, 30);
    std::array<std::vector<double>, 4> p;
    std::vector<double> charges;
    std::vector<double> masses;
    JetOrigins from;
    for (Index j = 0; j < jets; ++j) {
      const Index count = 1 + static_cast<Index>(random() % 7);
      for (Index i = 0; i < count; ++i) {
        const std::array<double, 3> q{normal(random), normal(random), normal(random)};
        for (std::size_t c = 0; c < 3; ++c) {
          p[c].push_back(q[c]);
        }
        p[3].push_back(std::hypot(q[0], q[1], q[2]) + 1);
        charges.push_back(normal(random));
      }
      offsets.push_back(offsets.back() + count);
      masses.push_back(normal(random));
      labels.push_back(static_cast<Index>(random() % 5));
      from.file.push_back(static_cast<std::int32_t>(random() % files.size()));
      from.entry.push_back(static_cast<Index>(random() % 1000000));
    }
    for (std::size_t c = 0; c < 4; ++c) {
      momenta[c] = Numbers::of(p[c], is_single);
    }
    charge = Numbers::of(charges, !is_single);
    mass = Numbers::of(masses, is_single);
    from.files = std::make_shared<const std::vector<std::string>>(files);
    origins = std::make_shared<const JetOrigins>(std::move(from));
  }

  JetPool::Piece piece() const {
    return {.momenta = {momenta[0].column(), momenta[1].column(), momenta[2].column(), momenta[3].column()},
            .offsets = offsets,
            .labels = labels,
            .extras = {{"charge", charge.column()}},
            .values = {{"mass", mass.column()}},
            .origins = origins,
            .owner = {}};
  }

  template <typename Scalar>
  Jets<Scalar> jets() const {
    const auto rows = static_cast<std::size_t>(offsets.back());
    return Jets<Scalar>::from_columns_unchecked({momenta[0].as<Scalar>(rows), momenta[1].as<Scalar>(rows),
                                                 momenta[2].as<Scalar>(rows), momenta[3].as<Scalar>(rows)},
                                                offsets)
        .with_labels(labels)
        .with_extra("charge", charge.as<Scalar>(rows))
        .with_value("mass", mass.as<Scalar>(labels.size()))
        .with_origins(*origins);
  }
};

template <typename Scalar>
void check_same(const Jets<Scalar>& found, const Jets<Scalar>& expected) {
  REQUIRE(found.offsets() == expected.offsets());
  bool same = true;
  for (Index i = 0; i < expected.constituents(); ++i) {
    same = same && found.constituent(i) == expected.constituent(i);
  }
  CHECK(same);
  REQUIRE(found.labels());
  CHECK(*found.labels() == *expected.labels());
  REQUIRE(found.extras().size() == 1);
  CHECK(*found.extras().at("charge") == *expected.extras().at("charge"));
  REQUIRE(found.values().size() == 1);
  CHECK(*found.values().at("mass") == *expected.values().at("mass"));
  REQUIRE(found.origins());
  CHECK(found.origins()->entry == expected.origins()->entry);
  for (std::size_t j = 0; j < expected.labels()->size(); ++j) {
    const auto name = [j](const Jets<Scalar>& jets) {
      return jets.origins()->files->at(static_cast<std::size_t>(jets.origins()->file[j]));
    };
    same = same && name(found) == name(expected);
  }
  CHECK(same);
}

std::vector<Sample> three_samples() {
  return {Sample(40, true, {"a", "b"}, 1), Sample(1, false, {"b"}, 2), Sample(60, false, {"c", "a", "d"}, 3)};
}

/// One jet of one sound constituent and one with the given momentum, of either precision.
template <typename Number>
bool is_bad(std::array<double, 4> p) {
  std::array<std::vector<Number>, 4> columns;
  const std::array<double, 4> sound{3, 0, 4, 6};
  for (std::size_t c = 0; c < 4; ++c) {
    columns[c] = {static_cast<Number>(sound[c]), static_cast<Number>(p[c])};
  }
  JetPool::Piece piece;
  piece.momenta = {columns[0].data(), columns[1].data(), columns[2].data(), columns[3].data()};
  piece.offsets = {0, 1, 2};
  const std::vector<Index> bad = JetPool::find_bad(piece);
  std::array<std::vector<double>, 4> wide;
  for (std::size_t c = 0; c < 4; ++c) {
    wide[c] = {static_cast<double>(columns[c][1])};
  }
  const bool expected = error_of([&] { Jets<double>::from_columns(wide, {0, 1}); }) != "(no error)";
  CAPTURE(p[0], p[1], p[2], p[3]);
  CHECK(bad == (expected ? std::vector<Index>{1} : std::vector<Index>{}));
  return !bad.empty();
}

}  // namespace

TEMPLATE_TEST_CASE("a pool gathers what selecting from the concatenated jets gives", "[pool]", float, double) {
  using Scalar = TestType;
  JetPool pool;
  std::vector<Jets<Scalar>> parts;
  const std::vector<Sample> samples = three_samples();
  for (const Sample& sample : samples) {
    pool.add(sample.piece());
    parts.push_back(sample.jets<Scalar>());
  }
  REQUIRE(pool.size() == 101);
  const Jets<Scalar> all = rino::concatenate<Scalar>(parts);
  std::vector<Index> numbers(300);
  std::mt19937 random(7);
  for (Index& number : numbers) {
    number = static_cast<Index>(random() % 101);
  }
  check_same(pool.gather<Scalar>(numbers), all.select(numbers));
  for (const Index one : {0, 39, 40, 41, 100}) {  // ends of pieces
    const std::array<Index, 1> number{one};
    check_same(pool.gather<Scalar>(number), all.select(number));
  }
  check_same(pool.gather<Scalar>({}), all.select({}));
}

TEST_CASE("what a pool gathers stays when the pool and its pieces are gone", "[pool]") {
  Jets<double> jets;
  Jets<double> expected;
  {
    const Sample sample(20, true, {"a"}, 4);
    JetPool pool;
    pool.add(sample.piece());
    const std::vector<Index> numbers{19, 0, 7};
    jets = pool.gather<double>(numbers);
    expected = sample.jets<double>().select(numbers);
  }
  check_same(jets, expected);
}

TEST_CASE("a pool keeps the owners of its pieces and no longer than itself", "[pool]") {
  const Sample sample(5, false, {"a"}, 1);
  auto memory = std::make_shared<const int>(1);
  const std::weak_ptr<const int> watch = memory;
  {
    JetPool pool;
    JetPool::Piece piece = sample.piece();
    piece.owner = std::move(memory);
    pool.add(std::move(piece));
    CHECK_FALSE(watch.expired());
  }
  CHECK(watch.expired());
}

TEST_CASE("files of one name are one file, and files that no jet is from are not named", "[pool]") {
  JetPool pool;
  const std::vector<Sample> samples = three_samples();
  for (const Sample& sample : samples) {
    pool.add(sample.piece());
  }
  const auto files = [&](Index first, Index last) {
    std::vector<Index> numbers(static_cast<std::size_t>(last - first));
    std::iota(numbers.begin(), numbers.end(), first);
    std::vector<std::string> names = *pool.gather<double>(numbers).origins()->files;
    std::sort(names.begin(), names.end());
    return names;
  };
  CHECK(files(0, 101) == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(files(0, 41) == std::vector<std::string>{"a", "b"});
  CHECK(files(40, 41) == std::vector<std::string>{"b"});
}

TEST_CASE("a pool without jets gathers none and names what it lacks", "[pool][errors]") {
  const JetPool none;
  CHECK(none.size() == 0);
  CHECK(none.gather<double>({}).empty());
  const std::array<Index, 1> first{0};
  CHECK(says(error_of([&] { none.gather<double>(first); }), "jet 0 was asked for, of 0"));

  JetPool pool;
  const Sample sample(5, false, {"a"}, 1);
  pool.add(sample.piece());
  for (const Index wrong : {-1, 5, 1000}) {
    const std::array<Index, 2> numbers{0, wrong};
    CHECK(says(error_of([&] { pool.gather<double>(numbers); }), "jet " + std::to_string(wrong), "of 5"));
  }
}

TEST_CASE("pieces must have the same columns", "[pool][errors]") {
  const Sample sample(5, false, {"a"}, 1);
  const auto error = [&](const auto& change) {
    JetPool pool;
    pool.add(sample.piece());
    JetPool::Piece other = sample.piece();
    change(other);
    const std::string said = error_of([&] { pool.add(std::move(other)); });
    CHECK(pool.size() == (said == "(no error)" ? 10 : 5));
    return said;
  };
  CHECK(error([](auto&) {}) == "(no error)");
  CHECK(says(error([](auto& piece) { piece.labels.clear(); }), "piece 1", "other labels, origins, extras or values"));
  CHECK(says(error([](auto& piece) { piece.origins = nullptr; }), "piece 1"));
  CHECK(says(error([](auto& piece) { piece.extras.clear(); }), "piece 1"));
  CHECK(says(error([&](auto& piece) { piece.values.emplace("pt", sample.mass.column()); }), "piece 1"));
}

TEST_CASE("a piece without labels, extras, values or origins gives jets without", "[pool]") {
  const Sample sample(5, true, {"a"}, 1);
  JetPool::Piece piece = sample.piece();
  piece.labels.clear();
  piece.extras.clear();
  piece.values.clear();
  piece.origins = nullptr;
  JetPool pool;
  pool.add(std::move(piece));
  const std::vector<Index> numbers{4, 4, 2};
  const Jets<double> jets = pool.gather<double>(numbers);
  CHECK(jets.size() == 3);
  CHECK_FALSE(jets.labels());
  CHECK(jets.extras().empty());
  CHECK(jets.values().empty());
  CHECK_FALSE(jets.origins());
}

TEST_CASE("bad jets are those that Jets refuses", "[pool]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (std::size_t c = 0; c < 4; ++c) {
    for (const double value : {nan, infinity, -infinity}) {
      std::array<double, 4> p{1, 2, 3, 5};
      p[c] = value;
      CHECK(is_bad<double>(p));
      CHECK(is_bad<float>(p));
    }
  }
  CHECK(is_bad<double>({infinity, 0, 0, infinity}));
  CHECK(is_bad<double>({3, 4, 0, 4.9}));
  CHECK(is_bad<float>({3, 4, 0, -5}));
  CHECK_FALSE(is_bad<double>({0, 0, 0, 0}));
  CHECK(is_bad<double>({0, 0, 0, -1}));
  CHECK_FALSE(is_bad<float>({3, 4, 0, 5}));
  // The tolerance of 1e-5.
  CHECK_FALSE(is_bad<double>({3, 4, 0, 5 * (1 - 0.999e-5)}));
  CHECK(is_bad<double>({3, 4, 0, 5 * (1 - 1.001e-5)}));
  // Squares that overflow or vanish.
  CHECK_FALSE(is_bad<double>({1e200, 0, 0, 1e200}));
  CHECK(is_bad<double>({1e200, 1e200, 0, 1e200}));
  CHECK_FALSE(is_bad<double>({1, 0, 0, 1e200}));
  CHECK(is_bad<double>({1e200, 0, 0, 1}));
  CHECK(is_bad<double>({1e308, 1e308, 1e308, 1e308}));
  CHECK_FALSE(is_bad<double>({1e-200, 0, 0, 1e-200}));
  CHECK_FALSE(is_bad<double>({1e-200, 0, 0, 0}));
  CHECK(is_bad<double>({1e-200, 0, 0, -1e-200}));
  // Masses that packing rounded below zero.
  CHECK_FALSE(is_bad<double>({0.3, 0, 0, std::sqrt(0.3 * 0.3 - 2e-3 * 2e-3)}));
  CHECK_FALSE(is_bad<float>({4e-3, 0, 0, 0}));
  CHECK(is_bad<double>({0.3, 0, 0, std::sqrt(0.3 * 0.3 - 6e-3 * 6e-3)}));
  CHECK(is_bad<float>({3e38, 3e38, 0, 3e38}));

  std::mt19937 random(5);
  std::uniform_real_distribution<double> unit(-1, 1);
  int bad = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    const double scale = std::pow(10.0, trial % 3 == 0 ? 150 * unit(random) : 3 * unit(random));
    std::array<double, 4> p{scale * unit(random), scale * unit(random), scale * unit(random), 0};
    p[3] = std::hypot(p[0], p[1], p[2]) * (1 + 3e-5 * unit(random));
    bad += is_bad<double>(p) ? 1 : 0;
    if (scale < 1e30 && scale > 1e-30) {
      is_bad<float>(p);
    }
  }
  CHECK(bad > 3000);
  CHECK(bad < 9000);
}

TEST_CASE("jets without constituents are bad, wherever they are", "[pool]") {
  const std::vector<float> one{5, 5, 5};
  const std::vector<float> zero{0, 0, 0};
  JetPool::Piece piece;
  piece.momenta = {one.data(), zero.data(), zero.data(), one.data()};
  piece.offsets = {0, 0, 1, 1, 3, 3};
  CHECK(JetPool::find_bad(piece) == std::vector<Index>{0, 2, 4});
  piece.offsets = {0};
  CHECK(JetPool::find_bad(piece).empty());
}
