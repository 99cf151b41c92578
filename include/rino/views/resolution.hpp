#pragma once

#include <charconv>
#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>

#include <rino/core/error.hpp>

namespace rino {

/// A point on the renormalisation-group flow of a jet: how far its constituents are merged into subjets.
///
/// Made by `subjets`, `kt`, `fraction` and `particles`. Resolutions compare equal when they are the same point
/// in the same words; their order (by kind, then value) has no physical meaning, it lets them be keys of a map.
class Resolution {
 public:
  enum class Kind {
    subjets,    ///< exclusive clustering to a number of subjets
    kt,         ///< exclusive clustering to a transverse-momentum scale in GeV
    fraction,   ///< the same, the scale as a fraction of the jet's pT
    particles,  ///< no clustering: all constituents
  };

  Kind kind() const { return kind_; }
  /// The number of subjets, the scale in GeV, the fraction of pT; 0 for `particles()`.
  double value() const { return value_; }

  /// "8", "kt:5", "fraction:0.05" or "all"; `parse` is its inverse.
  std::string name() const {
    switch (kind_) {
      case Kind::subjets:
        return std::to_string(static_cast<std::int64_t>(value_));
      case Kind::kt:
        return std::string("kt:").append(shortest(value_));
      case Kind::fraction:
        return std::string("fraction:").append(shortest(value_));
      default:
        return "all";
    }
  }

  /// The resolution of that name.
  /// @throws rino::Error unless `text` is a number N >= 1, "kt:Q" with Q > 0, "fraction:Y" with Y > 0, or "all".
  static Resolution parse(std::string_view text);

  bool operator==(const Resolution&) const = default;
  auto operator<=>(const Resolution&) const = default;

  friend Resolution subjets(std::int64_t n);
  friend Resolution kt(double q);
  friend Resolution fraction(double y);
  friend Resolution particles();

 private:
  Resolution(Kind kind, double value) : kind_(kind), value_(value) {}

  /// The shortest decimal text that gives the same double back.
  static std::string shortest(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }

  Kind kind_;
  double value_;
};

/// The exclusive clustering to n subjets; jets of fewer constituents show all of them.
/// @throws rino::Error unless 1 <= n < 2^31.
inline Resolution subjets(std::int64_t n) {
  require(n >= 1 && n <= std::numeric_limits<std::int32_t>::max(), "a resolution of ", n,
          " subjets was asked for: give 1 or more (below 2^31)");
  return {Resolution::Kind::subjets, static_cast<double>(n)};
}

/// The exclusive clustering that stops at d_ij = q^2, q in GeV.
/// @throws rino::Error unless 0 < q < infinity.
inline Resolution kt(double q) {
  require(q > 0 && std::isfinite(q), "a resolution of kt = ", q, " GeV was asked for: give a finite number above 0");
  return {Resolution::Kind::kt, q};
}

/// The exclusive clustering that stops at d_ij = (y pT)^2, pT that of the sum of the jet's constituents.
/// @throws rino::Error unless 0 < y < infinity.
inline Resolution fraction(double y) {
  require(y > 0 && std::isfinite(y), "a resolution of ", y,
          " times the jet's pT was asked for: give a finite number above 0");
  return {Resolution::Kind::fraction, y};
}

/// The jet as it is: all constituents.
inline Resolution particles() {
  return {Resolution::Kind::particles, 0.0};
}

inline Resolution Resolution::parse(std::string_view text) {
  const auto read = [text]<typename Number>(std::string_view digits, Number& number) {
    std::istringstream stream{std::string(digits)};
    stream.imbue(std::locale::classic());
    require((stream >> std::noskipws >> number) && stream.peek() == std::istringstream::traits_type::eof(),
            "the resolution '", text, "' is not known: give a number of subjets such as '8', a scale in GeV such as ",
            "'kt:5', a fraction of the jet's pT such as 'fraction:0.05', or 'all'");
  };
  const auto after = [text](std::string_view prefix) { return text.substr(prefix.size()); };
  if (text == "all") {
    return particles();
  }
  double value = 0.0;
  if (text.starts_with("kt:")) {
    read(after("kt:"), value);
    return kt(value);
  }
  if (text.starts_with("fraction:")) {
    read(after("fraction:"), value);
    return fraction(value);
  }
  std::int64_t count = 0;
  read(text, count);
  return subjets(count);
}

}  // namespace rino
