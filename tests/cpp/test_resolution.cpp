#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include <rino/core/random.hpp>
#include <rino/views/resolution.hpp>

#include "catch.hpp"

namespace {

using rino::Resolution;
using Index = std::int64_t;

}  // namespace

TEST_CASE("a resolution's name is parsed back to it", "[views][resolution]") {
  const std::map<std::string, Resolution> names{{"8", rino::subjets(8)},
                                                {"1", rino::subjets(1)},
                                                {"2147483647", rino::subjets(2147483647)},
                                                {"kt:5", rino::kt(5)},
                                                {"kt:0.1", rino::kt(0.1)},
                                                {"kt:1e-300", rino::kt(1e-300)},
                                                {"fraction:0.05", rino::fraction(0.05)},
                                                {"fraction:2.5", rino::fraction(2.5)},
                                                {"all", rino::particles()}};
  for (const auto& [name, resolution] : names) {
    CHECK(resolution.name() == name);
    CHECK(Resolution::parse(name) == resolution);
  }
  rino::Random random({1});
  for (int i = 0; i < 1000; ++i) {
    const Resolution resolution = rino::kt(std::exp(random.uniform(-700.0, 700.0)));
    REQUIRE(Resolution::parse(resolution.name()) == resolution);
  }
}

TEST_CASE("resolutions have kind, value, equality and an order", "[views][resolution]") {
  CHECK(rino::subjets(3).kind() == Resolution::Kind::subjets);
  CHECK(rino::subjets(3).value() == 3);
  CHECK(rino::kt(0.25).kind() == Resolution::Kind::kt);
  CHECK(rino::kt(0.25).value() == 0.25);
  CHECK(rino::fraction(0.25).kind() == Resolution::Kind::fraction);
  CHECK(rino::particles().kind() == Resolution::Kind::particles);
  CHECK(rino::kt(0.25) != rino::fraction(0.25));
  CHECK(rino::subjets(2) < rino::subjets(3));
  CHECK(rino::subjets(3) < rino::kt(1));
  CHECK(rino::kt(1) < rino::particles());
  CHECK_FALSE(rino::particles() < rino::particles());
}

TEST_CASE("impossible resolutions are errors that say what is possible", "[views][resolution][errors]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(says(error_of([] { rino::subjets(0); }), "0 subjets", "1 or more"));
  CHECK(says(error_of([] { rino::subjets(-4); }), "-4 subjets"));
  CHECK(says(error_of([] { rino::subjets(Index{1} << 31); }), "2147483648 subjets"));
  for (const double bad : {0.0, -1.0, nan, infinity}) {
    CHECK(says(error_of([&] { rino::kt(bad); }), "kt = ", "above 0"));
    CHECK(says(error_of([&] { rino::fraction(bad); }), "times the jet's pT", "above 0"));
  }
  for (const std::string text : {"", "eight", "8 ", " 8", "8.5", "kt:", "kt:5GeV", "kt: 5", "kt:nan", "kt:1e999",
                                 "fraction:", "fraction:x", "ALL", "99999999999999999999", "0x8", "subjets:8"}) {
    INFO(text);
    CHECK(says(error_of([&] { Resolution::parse(text); }), "the resolution '" + text + "' is not known",
               "'kt:5', a fraction of the jet's pT such as 'fraction:0.05', or 'all'"));
  }
  CHECK(says(error_of([] { Resolution::parse("0"); }), "0 subjets"));
  CHECK(says(error_of([] { Resolution::parse("-3"); }), "-3 subjets"));
  CHECK(says(error_of([] { Resolution::parse("kt:-1"); }), "kt = -1"));
  CHECK(says(error_of([] { Resolution::parse("fraction:0"); }), "above 0"));
}
