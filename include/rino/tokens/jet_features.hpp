#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/jets/features.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/normalization.hpp>
#include <rino/tokens/token_features.hpp>

namespace rino {

/// Further features of a jet that are computed, with what they are standardised by (rino's choice). "log_kt_N" is the
/// logarithm of the kT scale sqrt(d_N) in GeV, at least `kScaleFloor`, at which N + 1 subjets become N.
inline constexpr std::array<std::string_view, 6> kFurtherJetFeatures = {"pt",       "energy",       "mass",
                                                                        "log_mass", "multiplicity", "log_multiplicity"};
inline constexpr std::array<Standardize, 6> kFurtherJetNorms = {
    {{600.0, 150.0}, {1000.0, 500.0}, {80.0, 60.0}, {4.0, 0.8}, {45.0, 20.0}, {3.7, 0.5}}};
inline constexpr Standardize kScaleNorm{2.0, 1.5};
inline constexpr double kScaleFloor = 1e-3;

/// The features of whole jets by name: those of `kJetFeatures`, further computed ones, and columns of numbers per jet.
class JetFeatures {
 public:
  /// @throws rino::Error for a text that is no feature, or names twice.
  JetFeatures(const FeatureList& list, Normalization normalization) {
    std::vector<std::string_view> names(kJetFeatures.begin(), kJetFeatures.end());
    names.insert(names.end(), kFurtherJetFeatures.begin(), kFurtherJetFeatures.end());
    const auto norms = jet_normalization(normalization);
    std::vector<Standardize> standard(norms.begin(), norms.end());
    standard.insert(standard.end(), kFurtherJetNorms.begin(), kFurtherJetNorms.end());
    // As many scales as are named, behind the others.
    computed_ = names.size();
    for (const std::string_view text : list.texts) {
      const std::string_view name = text.substr(0, text.find(' '));
      if (name.starts_with(kScale)) {
        names.push_back(name);
        standard.push_back(kScaleNorm);
        scales_ = std::max(scales_, number_of(name));
      }
    }
    features_ = detail::parse_features(list, names, standard, {});
    for (const Feature& feature : features_) {
      require(feature.merge == Merge::none && !feature.of_frame, "the jet feature '", feature.name,
              "' says merge or frame, which are of constituents: leave them out");
    }
    column_ = names.size();
  }

  std::int64_t size() const { return static_cast<std::int64_t>(features_.size()); }
  const std::vector<Feature>& all() const { return features_; }
  bool is_column(const Feature& feature) const { return feature.index == column_; }

  /// Whether a number per jet of that name is one of them.
  bool may_need(std::string_view column) const {
    return std::any_of(features_.begin(), features_.end(),
                       [&](const Feature& feature) { return is_column(feature) && feature.name == column; });
  }

  /// The largest N of the kT scales; 0: there are none.
  std::int64_t scales() const { return scales_; }

  /// The features of jet j.
  ///
  /// @param basic   its log E, log pT, eta and phi, of the sum of its constituents.
  /// @param scales  [n, scales()] in GeV, row by row.
  /// @param store   store(place, value), standardised.
  /// @throws rino::Error naming a column that the jets do not have.
  template <typename Scalar, typename Store>
  void operator()(const Jets<Scalar>& jets, std::int64_t j, const std::array<double, 4>& basic,
                  const std::vector<double>& scales, const Store& store) const {
    for (std::size_t f = 0; f < features_.size(); ++f) {
      store(f, features_[f](value(features_[f], jets, j, basic, scales)));
    }
  }

 private:
  static constexpr std::string_view kScale = "log_kt_";

  static std::int64_t number_of(std::string_view scale) {
    const std::string_view digits = scale.substr(kScale.size());
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    require(error == std::errc() && end == digits.data() + digits.size() && number >= 1 && number <= 100,
            "the jet feature '", scale, "' is no kT scale: give log_kt_1 to log_kt_100");
    return number;
  }

  template <typename Scalar>
  double value(const Feature& feature, const Jets<Scalar>& jets, std::int64_t j, const std::array<double, 4>& basic,
               const std::vector<double>& scales) const {
    if (feature.index < basic.size()) {
      return basic[feature.index];
    }
    if (feature.index >= column_) {
      return column(feature, jets, j);
    }
    if (feature.index >= computed_) {
      const std::int64_t place = j * scales_ + number_of(feature.name) - 1;
      return std::log(std::max(scales[static_cast<std::size_t>(place)], kScaleFloor));
    }
    const FourMomentum<double> p = jets.four_momentum(j).template cast<double>();
    const auto multiplicity = static_cast<double>(jets.multiplicity(j));
    switch (feature.index - basic.size()) {
      case 0:
        return pt(p);
      case 1:
        return p[3];
      case 2:
        return mass(p);
      case 3:
        return std::log(std::max(mass(p), kScaleFloor));
      case 4:
        return multiplicity;
      default:
        return std::log(multiplicity);
    }
  }

  template <typename Scalar>
  static double column(const Feature& feature, const Jets<Scalar>& jets, std::int64_t j) {
    const auto found = jets.values().find(feature.name);
    require(found != jets.values().end(), "the jet feature '", feature.name,
            "' is neither computed nor a number per jet of these jets, which have: ", keys_of(jets.values()),
            ": read it with the jets (columns=) or give another feature");
    const auto value = static_cast<double>((*found->second)[static_cast<std::size_t>(j)]);
    require(std::isfinite(value), "the jet feature '", feature.name, "' of jet ", j, " is ", value,
            ": repair the column, leave the jet out, or give another feature");
    return value;
  }

  std::vector<Feature> features_;
  std::size_t computed_ = 0;
  std::size_t column_ = 0;
  std::int64_t scales_ = 0;
};

}  // namespace rino
