#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <rino/jets/concatenate.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>

#include "catch.hpp"

namespace {

using rino::FourMomentum;
using rino::Jets;

/// Jets of 3, 1 and 2 constituents; constituent i is (i+1, 0, 0, i+2).
template <typename Scalar>
Jets<Scalar> three_jets() {
  std::array<std::vector<Scalar>, 4> columns;
  for (int i = 0; i < 6; ++i) {
    columns[0].push_back(static_cast<Scalar>(i + 1));
    columns[1].push_back(0);
    columns[2].push_back(0);
    columns[3].push_back(static_cast<Scalar>(i + 2));
  }
  return Jets<Scalar>::from_columns(std::move(columns), {0, 3, 4, 6})
      .with_labels({2, 0, 1})
      .with_extra("charge", {10, 11, 12, 13, 14, 15});
}

std::string error_of_columns(std::array<std::vector<double>, 4> columns, std::vector<std::int64_t> offsets) {
  return error_of([&] { Jets<double>::from_columns(std::move(columns), std::move(offsets)); });
}

/// One jet of two good constituents and `bad`, as jet 1 after a good jet of one constituent.
std::string error_of_constituent(double px, double py, double pz, double e) {
  return error_of_columns({{{1, 1, 1, px}, {0, 0, 0, py}, {0, 0, 0, pz}, {2, 2, 2, e}}}, {0, 1, 4});
}

}  // namespace

TEMPLATE_TEST_CASE("jets know their constituents, sums and columns", "[jets]", float, double) {
  const Jets<TestType> jets = three_jets<TestType>();
  CHECK(jets.size() == 3);
  CHECK_FALSE(jets.empty());
  CHECK(jets.constituents() == 6);
  CHECK(jets.multiplicity(0) == 3);
  CHECK(jets.multiplicity(1) == 1);
  CHECK(jets.begin(2) == 4);
  CHECK(jets.end(2) == 6);
  CHECK(jets.constituent(3) == FourMomentum<TestType>(4, 0, 0, 5));
  CHECK(jets.four_momentum(0) == FourMomentum<TestType>(6, 0, 0, 9));
  CHECK(jets.four_momentum(2) == FourMomentum<TestType>(11, 0, 0, 13));
  CHECK(jets.px().sum() == 21);
  CHECK(jets.py().abs().maxCoeff() == 0);
  CHECK(jets.pz().size() == 6);
  CHECK(jets.e()(5) == 7);
}

TEST_CASE("no jets are jets too", "[jets]") {
  const Jets<double> none;
  CHECK(none.empty());
  CHECK(none.size() == 0);
  CHECK(none.constituents() == 0);
  CHECK(none.px().size() == 0);
  CHECK(none.slice(0, 0).empty());
  CHECK(none.select({}).empty());
  CHECK(Jets<double>::from_columns({}, {0}).empty());
}

TEMPLATE_TEST_CASE("spans and slices are not copied", "[jets]", float, double) {
  using Scalar = TestType;
  const std::vector<Scalar> px{1, 2, 3};
  const std::vector<Scalar> zero{0, 0, 0};
  const std::vector<Scalar> e{1, 2, 3};
  const auto jets = Jets<Scalar>::from_spans(px, zero, zero, e, {0, 1, 3});
  CHECK(jets.px().data() == px.data());
  CHECK(jets.e().data() == e.data());
  CHECK(jets.slice(1, 2).px().data() == px.data() + 1);
  const Jets<Scalar> copy = jets;
  CHECK(copy.px().data() == px.data());

  std::array<std::vector<Scalar>, 4> columns{px, zero, zero, e};
  const Scalar* before = columns[0].data();
  CHECK(Jets<Scalar>::from_columns(std::move(columns), {0, 3}).px().data() == before);
}

TEMPLATE_TEST_CASE("constituents in rows of any length are read in place", "[jets]", float, double) {
  using Scalar = TestType;
  // Rows of (E, px, unused, py, pz).
  const auto memory =
      std::make_shared<const std::vector<Scalar>>(std::vector<Scalar>{9, 1, -1, 2, 3, 8, 4, -1, 5, 1, 7, 0, -1, 0, -6});
  using Column = typename Jets<Scalar>::Column;
  const Scalar* data = memory->data();
  const std::weak_ptr<const std::vector<Scalar>> watch = memory;
  auto jets = std::make_unique<Jets<Scalar>>(Jets<Scalar>::borrow(
      {Column{data + 1, 5}, Column{data + 3, 5}, Column{data + 4, 5}, Column{data, 5}}, {0, 1, 3}, memory));
  CHECK(jets->constituent(0) == FourMomentum<Scalar>(1, 2, 3, 9));
  CHECK(jets->constituent(2) == FourMomentum<Scalar>(0, 0, -6, 7));
  CHECK(jets->py()(1) == 5);
  CHECK(jets->py().data() == data + 3);
  const Jets<Scalar> second = jets->slice(1, 2);
  CHECK(second.constituent(0) == FourMomentum<Scalar>(4, 5, 1, 8));
  CHECK(second.e()(1) == 7);
  const std::vector<std::int64_t> numbers{1, 0};
  CHECK(jets->select(numbers).constituent(2) == FourMomentum<Scalar>(1, 2, 3, 9));
  jets.reset();
  CHECK(watch.use_count() == 2);  // `memory` and the slice
}

TEST_CASE("the owner lives as long as any jets over its memory", "[jets]") {
  auto memory = std::make_shared<const std::vector<double>>(std::vector<double>{3, 4, 0, 5});
  const std::weak_ptr<const std::vector<double>> watch = memory;
  const double* data = memory->data();
  auto jets = std::make_unique<Jets<double>>(
      Jets<double>::borrow({{{data}, {data + 1}, {data + 2}, {data + 3}}}, {0, 1}, std::move(memory)));
  const auto slice = std::make_unique<Jets<double>>(jets->slice(0, 1));
  jets.reset();
  CHECK_FALSE(watch.expired());
  CHECK(slice->constituent(0)[3] == 5);
}

TEMPLATE_TEST_CASE("labels and extras go with slices and selections", "[jets]", float, double) {
  const Jets<TestType> jets = three_jets<TestType>();
  const Jets<TestType> last = jets.slice(1, 3);
  CHECK(last.size() == 2);
  CHECK(last.offsets() == std::vector<std::int64_t>{0, 1, 3});
  CHECK(*last.labels() == std::vector<std::int64_t>{0, 1});
  CHECK(*last.extras().at("charge") == std::vector<TestType>{13, 14, 15});
  CHECK(last.constituent(0)[0] == 4);

  const std::vector<std::int64_t> numbers{2, 0, 2};
  const Jets<TestType> picked = jets.select(numbers);
  CHECK(picked.offsets() == std::vector<std::int64_t>{0, 2, 5, 7});
  CHECK(*picked.labels() == std::vector<std::int64_t>{1, 2, 1});
  CHECK(*picked.extras().at("charge") == std::vector<TestType>{14, 15, 10, 11, 12, 14, 15});
  CHECK(picked.four_momentum(1) == jets.four_momentum(0));

  const Jets<TestType> none = jets.slice(3, 3);
  CHECK(none.empty());
  CHECK(none.labels()->empty());
  CHECK(none.extras().at("charge")->empty());
  CHECK(jets.select({}).labels()->empty());
}

TEST_CASE("with_labels and with_extra leave the jets they are called on as they were", "[jets]") {
  const Jets<double> jets = three_jets<double>();
  const Jets<double> other = jets.with_labels({0, 0, 0}).with_extra("d0", {1, 2, 3, 4, 5, 6});
  CHECK(*jets.labels() == std::vector<std::int64_t>{2, 0, 1});
  CHECK(jets.extras().size() == 1);
  CHECK(other.extras().size() == 2);
  CHECK(other.px().data() == jets.px().data());
}

TEMPLATE_TEST_CASE("values and origins go with slices and selections", "[jets]", float, double) {
  using Scalar = TestType;
  const auto files = std::make_shared<const std::vector<std::string>>(std::vector<std::string>{"a.root", "b.root"});
  const Jets<Scalar> jets =
      three_jets<Scalar>().with_value("tau", {7, 8, 9}).with_origins({files, {1, 0, 1}, {40, 3, 2000000000000}});
  CHECK(*jets.values().at("tau") == std::vector<Scalar>{7, 8, 9});
  const Jets<Scalar> last = jets.slice(1, 3);
  CHECK(*last.values().at("tau") == std::vector<Scalar>{8, 9});
  CHECK(last.origins()->files == files);
  CHECK(last.origins()->file == std::vector<std::int32_t>{0, 1});
  CHECK(last.origins()->entry == std::vector<std::int64_t>{3, 2000000000000});
  const std::vector<std::int64_t> numbers{2, 0, 2};
  const Jets<Scalar> picked = jets.select(numbers);
  CHECK(*picked.values().at("tau") == std::vector<Scalar>{9, 7, 9});
  CHECK(picked.origins()->file == std::vector<std::int32_t>{1, 1, 1});
  CHECK(picked.origins()->entry == std::vector<std::int64_t>{2000000000000, 40, 2000000000000});
  CHECK(jets.select({}).origins()->file.empty());
  CHECK(jets.slice(3, 3).values().at("tau")->empty());

  // The jets they were given to stay as they were.
  const Jets<Scalar> plain = three_jets<Scalar>();
  const Jets<Scalar> more = plain.with_value("tau", {7, 8, 9}).with_value("tau", {1, 2, 3}).with_value("pt", {4, 5, 6});
  CHECK(plain.values().empty());
  CHECK_FALSE(plain.origins());
  CHECK(more.values().size() == 2);
  CHECK(*more.values().at("tau") == std::vector<Scalar>{1, 2, 3});
  CHECK(more.px().data() == plain.px().data());
}

TEST_CASE("annotations of other jets are their labels, values and origins", "[jets]") {
  const auto files = std::make_shared<const std::vector<std::string>>(1, "a.root");
  const Jets<double> source =
      three_jets<double>().with_value("tau", {7, 8, 9}).with_origins({files, {0, 0, 0}, {3, 4, 5}});
  const Jets<double> one = Jets<double>::from_columns({{{1, 2, 3}, {0, 0, 0}, {0, 0, 0}, {2, 3, 4}}}, {0, 1, 2, 3})
                               .with_extra("d0", {1, 2, 3})
                               .with_value("other", {0, 0, 0});
  const Jets<double> both = one.annotated_as(source);
  CHECK(both.offsets() == one.offsets());
  CHECK(both.px().data() == one.px().data());
  CHECK(both.extras().size() == 1);
  CHECK(both.extras().contains("d0"));
  CHECK(both.values().size() == 1);
  CHECK(both.values().at("tau") == source.values().at("tau"));
  CHECK(both.labels() == source.labels());
  CHECK(both.origins() == source.origins());
  CHECK(says(error_of([&] { one.slice(0, 2).annotated_as(source); }), "3 jets do not fit 2 jets"));
}

TEST_CASE("concatenating joins values and merges origins by the names of files", "[jets]") {
  const auto files = [](std::vector<std::string> names) {
    return std::make_shared<const std::vector<std::string>>(std::move(names));
  };
  const Jets<double> plain = three_jets<double>();
  const std::vector<Jets<double>> parts{
      plain.with_value("tau", {7, 8, 9}).with_origins({files({"a", "b"}), {1, 0, 1}, {1, 2, 3}}),
      plain.slice(0, 1).with_value("tau", {10}).with_origins({files({"c", "b"}), {1}, {4}}),
      plain.slice(0, 0).with_value("tau", {}).with_origins({files({}), {}, {}}),
      plain.slice(1, 3).with_value("tau", {11, 12}).with_origins({files({"c", "a"}), {0, 1}, {5, 6}})};
  const Jets<double> all = rino::concatenate<double>(parts);
  CHECK(all.size() == 6);
  CHECK(*all.values().at("tau") == std::vector<double>{7, 8, 9, 10, 11, 12});
  CHECK(*all.labels() == std::vector<std::int64_t>{2, 0, 1, 2, 0, 1});
  CHECK(*all.extras().at("charge") == std::vector<double>{10, 11, 12, 13, 14, 15, 10, 11, 12, 13, 14, 15});
  CHECK(all.four_momentum(4) == plain.four_momentum(1));
  REQUIRE(all.origins());
  CHECK(*all.origins()->files == std::vector<std::string>{"a", "b", "c"});
  CHECK(all.origins()->file == std::vector<std::int32_t>{1, 0, 1, 1, 2, 0});
  CHECK(all.origins()->entry == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});

  const auto joined = [](const Jets<double>& one, const Jets<double>& other) {
    return rino::concatenate<double>(std::vector<Jets<double>>{one, other});
  };
  CHECK_FALSE(joined(parts[0].with_value("tau", {1, 2, 3}), plain.with_value("tau", {1, 2, 3})).origins());
  CHECK(says(error_of([&] { joined(plain.with_value("tau", {1, 2, 3}), plain); }), "part 1 lacks the value 'tau'"));
  CHECK(says(error_of([&] { joined(plain, plain.with_value("tau", {1, 2, 3})); }), "part 1 has the value 'tau'"));
}

TEST_CASE("values and origins that do not fit are errors", "[jets][errors]") {
  const Jets<double> jets = three_jets<double>();
  const auto files = std::make_shared<const std::vector<std::string>>(2, "a.root");
  CHECK(says(error_of([&] { jets.with_value("tau", {1, 2}); }), "value 'tau' has 2 entries for 3 jets"));
  CHECK(says(error_of([&] { jets.with_origins({files, {0, 0}, {0, 0}}); }), "2 files and 2 entries for 3 jets"));
  CHECK(says(error_of([&] { jets.with_origins({files, {0, 0, 0}, {0, 0}}); }), "3 files and 2 entries"));
  CHECK(says(error_of([&] { jets.with_origins({files, {0, 2, 0}, {0, 0, 0}}); }), "jet 1", "file 2 of 2"));
  CHECK(says(error_of([&] { jets.with_origins({files, {0, -1, 0}, {0, 0, 0}}); }), "file -1"));
  CHECK(says(error_of([&] { jets.with_origins({files, {0, 0, 0}, {0, 0, -7}}); }), "jet 2", "entry -7"));
  CHECK(says(error_of([&] { jets.with_origins({nullptr, {0, 0, 0}, {0, 0, 0}}); }), "of 0"));
}

TEST_CASE("bad momenta are an error that names jet, constituent and value", "[jets][errors]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(says(error_of_constituent(nan, 0, 0, 2), "px of constituent 2 of jet 1 is nan", "finite"));
  CHECK(says(error_of_constituent(1, infinity, 0, 2), "py of constituent 2 of jet 1 is inf"));
  CHECK(says(error_of_constituent(1, 0, -infinity, 2), "pz of constituent 2 of jet 1 is -inf"));
  CHECK(says(error_of_constituent(1, 0, 0, nan), "E of constituent 2 of jet 1 is nan"));
  CHECK(says(error_of_constituent(3, 4, 0, 4.9), "constituent 2 of jet 1 has E = 4.9 GeV below |p| = 5", "order"));
  CHECK(says(error_of_constituent(0, 0, 0, -1), "E = -1"));
  CHECK(error_of_constituent(3, 4, 0, 5) == "(no error)");
  CHECK(error_of_constituent(0, 0, 0, 0) == "(no error)");
  // Rounding of a massless particle's energy is no error, its tolerance is 1e-5.
  CHECK(error_of_constituent(3, 4, 0, 5 * (1 - 0.9e-5)) == "(no error)");
  CHECK(error_of_constituent(3, 4, 0, 5 * (1 - 1.1e-5)) != "(no error)");
}

TEST_CASE("a mass that packing rounded below zero is no error, a larger one is", "[jets][errors]") {
  const auto energy = [](double momentum, double mass) { return std::sqrt(momentum * momentum - mass * mass); };
  for (const double momentum : {0.01, 0.3, 5.0, 300.0}) {
    CHECK(error_of_constituent(momentum, 0, 0, energy(momentum, 2e-3)) == "(no error)");
    CHECK(error_of_constituent(momentum, 0, 0, energy(momentum, 0.98 * Jets<double>::kMassTolerance)) == "(no error)");
  }
  CHECK(says(error_of_constituent(0.3, 0, 0, energy(0.3, 1.02 * Jets<double>::kMassTolerance)), "of mass"));
  CHECK(error_of_constituent(4e-3, 0, 0, 0) == "(no error)");
  CHECK(error_of_constituent(4e-3, 0, 0, -4e-3) != "(no error)");
}

TEST_CASE("bad offsets are an error that names the place", "[jets][errors]") {
  const std::array<std::vector<double>, 4> three{{{1, 1, 1}, {0, 0, 0}, {0, 0, 0}, {2, 2, 2}}};
  CHECK(says(error_of_columns(three, {}), "offsets are empty"));
  CHECK(says(error_of_columns(three, {1, 3}), "the first offset is 1", "start at 0"));
  CHECK(says(error_of_columns(three, {-1, 3}), "the first offset is -1"));
  CHECK(says(error_of_columns(three, {0, 2}), "the last offset is 2 but there are 3 constituents"));
  CHECK(says(error_of_columns(three, {0, 4}), "the last offset is 4"));
  CHECK(says(error_of_columns(three, {0, 2, 1, 3}), "offset 2 is 1, below the 2 before it"));
  CHECK(says(error_of_columns(three, {0, -2, 3}), "offset 1 is -2, below the 0 before it"));
  CHECK(says(error_of_columns(three, {0, 100, 3}), "offset 2 is 3, below the 100"));
  CHECK(says(error_of_columns(three, {0, 2, 2, 3}), "jet 1 has no constituents", "drop"));
}

TEST_CASE("columns of different lengths are an error that says them", "[jets][errors]") {
  CHECK(says(error_of_columns({{{1, 1}, {0}, {0, 0}, {2, 2}}}, {0, 2}), "2, 1, 2 and 2 values"));
  const std::vector<double> two{0, 0};
  const std::vector<double> three{0, 0, 0};
  CHECK(says(error_of([&] { Jets<double>::from_spans(two, two, two, three, {0, 2}); }), "2, 2, 2 and 3 values"));
  CHECK(says(error_of([&] { Jets<double>::from_spans(two, two, two, two, {0, 3}); }), "the last offset is 3"));
}

TEST_CASE("bad labels, extras, slices and selections are errors", "[jets][errors]") {
  const Jets<double> jets = three_jets<double>();
  CHECK(says(error_of([&] { jets.with_labels({0, 1}); }), "2 labels for 3 jets"));
  CHECK(says(error_of([&] { jets.with_labels({0, 1, -1}); }), "label of jet 2 is -1"));
  CHECK(says(error_of([&] { jets.with_extra("d0", {1}); }), "extra 'd0' has 1 values for 6 constituents"));
  CHECK(says(error_of([&] { jets.slice(2, 1); }), "jets 2 to 1", "of 3"));
  CHECK(says(error_of([&] { jets.slice(-1, 1); }), "jets -1 to 1"));
  CHECK(says(error_of([&] { jets.slice(0, 4); }), "jets 0 to 4"));
  const std::vector<std::int64_t> beyond{0, 3};
  const std::vector<std::int64_t> negative{-1};
  CHECK(says(error_of([&] { jets.select(beyond); }), "jet 3 was asked for, of 3"));
  CHECK(says(error_of([&] { jets.select(negative); }), "jet -1"));
}
