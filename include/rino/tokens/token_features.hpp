#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/core/names.hpp>
#include <rino/jets/feature_columns.hpp>
#include <rino/jets/features.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/normalization.hpp>

namespace rino {

/// What is done to a feature's value before it is normalised.
enum class Transform {
  none,
  log,   ///< the natural logarithm, of at least `kLogFloor`
  tanh,  ///< which bounds the long tails of impact parameters
};

template <>
inline constexpr std::array enum_names<Transform> = {
    std::pair{Transform::none, std::string_view("none")},
    std::pair{Transform::log, std::string_view("log")},
    std::pair{Transform::tanh, std::string_view("tanh")},
};

/// What a column's value is for a subjet.
enum class Merge {
  none,  ///< nothing: clustered views are refused
  sum,   ///< over its constituents: charge
  mean,  ///< of its constituents, weighted by pT: impact parameters; of kinds of particles, their shares of its pT
};

template <>
inline constexpr std::array enum_names<Merge> = {
    std::pair{Merge::none, std::string_view("none")},
    std::pair{Merge::sum, std::string_view("sum")},
    std::pair{Merge::mean, std::string_view("mean")},
};

/// One feature of a token or of a jet: the value x of that name becomes
/// min(max((transform(clip(x)) - mean) / deviation, -limit), limit).
struct Feature {
  static constexpr double kUnlimited = std::numeric_limits<double>::infinity();

  std::string name;  ///< kinematic, or of a column
  Transform transform = Transform::none;
  double low = -kUnlimited;  ///< clip
  double high = kUnlimited;
  double mean = 0.0;
  double deviation = 1.0;
  double limit = kUnlimited;
  Merge merge = Merge::none;
  bool of_frame = false;                     ///< whether a boost or rotation of the momenta makes it wrong
  std::size_t index = 0;                     ///< among the kinematic ones; their number: it is a column's
  std::vector<std::string> columns = {};     ///< where a column's values may be found, the first that is there
  std::vector<std::int64_t> particles = {};  ///< absolute PDG codes of the kind that it says a constituent is of

  double operator()(double x) const {
    x = std::min(std::max(x, low), high);
    if (transform == Transform::log) {
      x = std::log(std::max(x, kLogFloor));
    } else if (transform == Transform::tanh) {
      x = std::tanh(x);
    }
    return std::min(std::max((x - mean) / deviation, -limit), limit);
  }
};

/// Features by name, as recipes have them: the name of a set, or one text for each, "name" or "name key=value ...".
/// Keys are transform (none, log, tanh), clip (low,high), mean, deviation, limit, merge (none, sum, mean) and frame
/// (true or false), as in `Feature`.
struct FeatureList {
  std::vector<std::string> texts;

  FeatureList(FeatureSet set) : texts{to_string(set)} {}  // NOLINT(google-explicit-constructor)
  explicit FeatureList(std::vector<std::string> given) : texts(std::move(given)) {}

  bool operator==(const FeatureList&) const = default;
};

template <>
struct FieldCodec<FeatureList> {
  static FieldValue encode(const FeatureList& list);
  static FeatureList decode(const FieldValue& value, const std::string& what) {
    if (const auto* const text = std::get_if<std::string>(&value)) {
      return FeatureList({*text});
    }
    const auto* const texts = std::get_if<std::vector<std::string>>(&value);
    require(texts != nullptr && !texts->empty(), what, " is no list of features: give names, or the name of a set");
    return FeatureList(*texts);
  }
};

namespace detail {

/// What is known of columns by their names: what else files call them, and what is done to them.
inline const std::vector<Feature>& known_columns() {
  static const std::vector<Feature> known = [] {
    const auto column = [](const char* name, std::vector<std::string> also, Merge merge) {
      Feature feature{.name = name, .merge = merge, .columns = std::move(also)};
      feature.columns.insert(feature.columns.begin(), name);
      return feature;
    };
    const auto displacement = [&](const char* name, std::vector<std::string> also) {
      Feature feature = column(name, std::move(also), Merge::mean);
      feature.transform = Transform::tanh;
      feature.of_frame = true;
      return feature;
    };
    const auto error = [&](const char* name, std::vector<std::string> also) {
      Feature feature = column(name, std::move(also), Merge::mean);
      feature.low = 0.0;
      feature.high = 1.0;
      feature.of_frame = true;
      return feature;
    };
    const auto kind = [&](const char* name, const char* also, std::vector<std::int64_t> codes) {
      Feature feature = column(name, {also}, Merge::mean);
      feature.particles = std::move(codes);
      return feature;
    };
    return std::vector<Feature>{
        column("charge", {"part_charge", "PFCands_charge"}, Merge::sum),
        kind("charged_hadron", "part_isChargedHadron", {211, 321, 2212, 3112, 3222, 3312, 3334}),
        kind("neutral_hadron", "part_isNeutralHadron", {0, 1, 111, 130, 310, 311, 2112, 3122, 3212, 3322}),
        kind("photon", "part_isPhoton", {2, 22}),
        kind("electron", "part_isElectron", {11}),
        kind("muon", "part_isMuon", {13}),
        displacement("d0", {"part_d0val", "PFCands_d0"}),
        error("d0_error", {"part_d0err", "d0Err", "PFCands_d0Err"}),
        displacement("dz", {"part_dzval", "PFCands_dz"}),
        error("dz_error", {"part_dzerr", "dzErr", "PFCands_dzErr"}),
    };
  }();
  return known;
}

/// Columns of PDG codes.
inline constexpr std::array<std::string_view, 5> kParticleColumns = {"pdgid", "pdgId", "part_pid", "part_pdgid",
                                                                     "PFCands_pdgId"};

/// The lists behind the names of sets. Those of ParT are standardised and cut as published (arXiv:2202.03772).
inline const std::map<std::string, std::vector<std::string>, std::less<>>& feature_sets() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> sets = [] {
    std::map<std::string, std::vector<std::string>, std::less<>> all;
    for (const auto& [set, name] : enum_names<FeatureSet>) {
      for (const std::size_t f : feature_indices(set)) {
        all[std::string(name)].emplace_back(kTokenFeatures[f]);
      }
    }
    const std::string scale = " deviation=" + std::string("1.4285714285714286") + " limit=5";  // 1 / 0.7
    const std::vector<std::string> head{"log_pt mean=1.7" + scale, "log_e mean=2" + scale,
                                        "log_pt_rel mean=-4.7" + scale, "log_e_rel mean=-4.7" + scale,
                                        "delta_r mean=0.2 deviation=0.25 limit=5"};
    const std::vector<std::string> kinds{"charge", "charged_hadron", "neutral_hadron", "photon", "electron", "muon"};
    const std::vector<std::string> displacement{"d0", "d0_error", "dz", "dz_error"};
    // Networks with positions find the angles at the end.
    const std::vector<std::string> angles{"delta_eta mean=0 deviation=1", "delta_phi mean=0 deviation=1"};
    const auto join = [](std::initializer_list<std::vector<std::string>> parts) {
      std::vector<std::string> joined;
      for (const auto& part : parts) {
        joined.insert(joined.end(), part.begin(), part.end());
      }
      return joined;
    };
    all["part-kin"] = join({head, angles});
    all["part-kinpid"] = join({head, kinds, angles});
    all["part-full"] = join({head, kinds, displacement, angles});
    return all;
  }();
  return sets;
}

/// The number that a text is. @throws rino::Error naming it.
inline double feature_number(std::string_view text, std::string_view feature) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(), "'", text, "' in the feature '", feature,
          "' is no number");
  return value;
}

/// Sets what "key=value" says. @throws rino::Error for what a feature does not have.
inline void set_feature_part(Feature& feature, std::string_view part, std::string_view text) {
  const std::size_t equals = part.find('=');
  const std::string_view key = part.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? "" : part.substr(equals + 1);
  const std::string what = std::string(key) + " of the feature '" + std::string(text) + "'";
  if (key == "transform") {
    feature.transform = parse_enum<Transform>(value, what);
  } else if (key == "clip") {
    const std::size_t comma = std::min(value.find(','), value.size());
    feature.low = feature_number(value.substr(0, comma), text);
    feature.high = feature_number(value.substr(std::min(comma + 1, value.size())), text);
    require(feature.low < feature.high, what, " is ", value, ": give the lower bound first, as in clip=0,1");
  } else if (key == "mean") {
    feature.mean = feature_number(value, text);
    require(std::isfinite(feature.mean), what, " is ", value, ": choose a finite number");
  } else if (key == "deviation") {
    feature.deviation = feature_number(value, text);
    require(feature.deviation > 0 && std::isfinite(feature.deviation), what, " is ", value,
            ": choose a positive number");
  } else if (key == "limit") {
    feature.limit = feature_number(value, text);
    require(feature.limit > 0, what, " is ", value, ": choose a positive number");
  } else if (key == "merge") {
    feature.merge = parse_enum<Merge>(value, what);
  } else if (key == "frame") {
    require(value == "true" || value == "false", what, " is '", value, "': choose true or false");
    feature.of_frame = value == "true";
  } else {
    fail(
        "'", part, "' of the feature '", text,
        "' is not known: keys are transform, clip, mean, deviation, limit, merge and frame, as in 'd0 transform=tanh'");
  }
}

/// A feature of a text.
///
/// @param kinematic  names and normalisations of those that are computed from momenta.
/// @param columns    what is known of others.
/// @throws rino::Error for a text that is none.
inline Feature parse_feature(const std::string& text, std::span<const std::string_view> kinematic,
                             std::span<const Standardize> norms, std::span<const Feature> columns) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = text.find_first_not_of(' ', at);
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (begin < text.size()) {
      parts.push_back(std::string_view(text).substr(begin, end - begin));
    }
    at = end;
  }
  require(!parts.empty() && parts.front().find('=') == std::string_view::npos, "the feature '", text,
          "' has no name: give one, as in 'charge' or 'd0 transform=tanh'");
  const std::string_view name = parts.front();
  Feature feature;
  const auto place = std::find(kinematic.begin(), kinematic.end(), name);
  feature.index = static_cast<std::size_t>(place - kinematic.begin());
  if (place != kinematic.end()) {
    feature.mean = norms[feature.index].mean;
    feature.deviation = norms[feature.index].deviation;
  } else {
    for (const Feature& known : columns) {
      if (std::find(known.columns.begin(), known.columns.end(), name) != known.columns.end()) {
        feature = known;
        feature.index = kinematic.size();
      }
    }
    if (feature.columns.empty() || feature.columns.front() != name) {
      feature.columns = {std::string(name)};  // a column of a file: that one and no other
    }
  }
  feature.name = name;
  for (const std::string_view part : std::span(parts).subspan(1)) {
    set_feature_part(feature, part, text);
  }
  require(place == kinematic.end() || (feature.merge == Merge::none && !feature.of_frame), "the feature '", text,
          "' says merge or frame, which are of columns: it is computed from the momenta of a view");
  return feature;
}

/// The features of a list. @throws rino::Error also where two have one name.
inline std::vector<Feature> parse_features(const FeatureList& list, std::span<const std::string_view> kinematic,
                                           std::span<const Standardize> norms, std::span<const Feature> columns) {
  std::vector<Feature> features;
  for (const std::string& text : list.texts) {
    features.push_back(parse_feature(text, kinematic, norms, columns));
    const std::string& name = features.back().name;
    require(std::count_if(features.begin(), features.end(), [&](const Feature& f) { return f.name == name; }) == 1,
            "the feature '", name, "' is there twice: name each once");
  }
  return features;
}

}  // namespace detail

inline FieldValue FieldCodec<FeatureList>::encode(const FeatureList& list) {
  if (list.texts.size() == 1 && detail::feature_sets().contains(list.texts.front())) {
    return list.texts.front();
  }
  return list.texts;
}

/// The features of tokens: kinematic ones, which are those of `kTokenFeatures`, and columns.
class TokenFeatures {
 public:
  /// @throws rino::Error for a text that is no feature, or names twice.
  TokenFeatures(const FeatureList& list, Normalization normalization) {
    const auto& sets = detail::feature_sets();
    const auto set = list.texts.size() == 1 ? sets.find(list.texts.front()) : sets.end();
    const auto norms = token_normalization(normalization);
    features_ = detail::parse_features(set == sets.end() ? list : FeatureList(set->second), kTokenFeatures, norms,
                                       detail::known_columns());
    rule_.stride = transformed_.stride = static_cast<std::int64_t>(features_.size());
    for (std::size_t f = 0; f < features_.size(); ++f) {
      const Feature& feature = features_[f];
      const auto place = static_cast<std::int64_t>(f);
      if (is_column(feature)) {
        columns_.push_back(f);
      } else if (is_plain(feature)) {
        rule_.add(feature.index, place, {feature.mean, feature.deviation}, feature.limit);
      } else {
        transformed_.add(feature.index, transformed_.count, {0.0, 1.0}, Feature::kUnlimited);
        changed_.push_back(f);
      }
    }
    transformed_.stride = transformed_.count;
  }

  std::int64_t size() const { return static_cast<std::int64_t>(features_.size()); }
  const std::vector<Feature>& all() const { return features_; }

  /// Those that columns have, by their places.
  const std::vector<std::size_t>& columns() const { return columns_; }
  /// The kinematic ones that are standardised and no more, as the kernels take them.
  const FeatureRule& rule() const { return rule_; }
  /// The others: the kernels compute their values, and `changed` says where they go.
  const FeatureRule& transformed() const { return transformed_; }
  const std::vector<std::size_t>& changed() const { return changed_; }

  static bool is_column(const Feature& feature) { return feature.index == kTokenFeatures.size(); }

  /// Whether a column of that name may hold one of them.
  bool may_need(std::string_view column) const {
    return std::any_of(columns_.begin(), columns_.end(), [&](std::size_t f) {
      const std::vector<std::string> names = names_of_columns(features_[f]);
      return std::find(names.begin(), names.end(), column) != names.end();
    });
  }

  /// For each feature that a column has, the names that the column may have, the likeliest first.
  std::vector<std::vector<std::string>> column_names() const {
    std::vector<std::vector<std::string>> names;
    for (const std::size_t f : columns_) {
      names.push_back(names_of_columns(features_[f]));
    }
    return names;
  }

  /// Whether the last two are delta eta and delta phi, where networks look for positions.
  bool ends_with_angles() const {
    return features_.size() >= 2 && features_[features_.size() - 2].name == "delta_eta" &&
           features_.back().name == "delta_phi";
  }

  /// @throws rino::Error naming the first feature that a boost or rotation of the momenta makes wrong.
  void require_no_frame(std::string_view what) const {
    for (const Feature& feature : features_) {
      require(!feature.of_frame, "the feature '", feature.name, "' depends on the frame and ", what,
              " changes it: leave one of both out, or say frame=false of the feature");
    }
  }

  /// The same jets with these columns alone, so that what clustering sums over the constituents of a subjet gives
  /// the value of a subjet.
  /// @throws rino::Error naming a column that the jets do not have, or a value of it that is not finite.
  template <typename Scalar>
  Jets<Scalar> carried(const Jets<Scalar>& jets) const {
    Jets<Scalar> bare = Jets<Scalar>::borrow_unchecked(jets.columns(), jets.offsets(), jets.owner());
    std::vector<Scalar> weights;
    for (const std::size_t f : columns_) {
      const Feature& feature = features_[f];
      std::vector<Scalar> values = values_of(feature, jets);
      if (feature.merge == Merge::mean) {
        if (weights.empty()) {
          weights = weights_of(jets);
          bare = bare.with_extra(kWeights, weights);
        }
        std::transform(values.begin(), values.end(), weights.begin(), values.begin(), std::multiplies<>());
      }
      bare = bare.with_extra(kCarried + feature.name, std::move(values));
    }
    return bare;
  }

  /// What a view has of a column: numerators [T'], and denominators or null.
  template <typename Scalar>
  struct Column {
    typename Jets<Scalar>::Extra values;
    typename Jets<Scalar>::Extra weights;

    double operator()(std::int64_t i) const {
      const auto row = static_cast<std::size_t>(i);
      const auto value = static_cast<double>((*values)[row]);
      return weights ? value / static_cast<double>((*weights)[row]) : value;
    }
  };

  /// The column of a feature in a view of jets.
  /// @throws rino::Error if the view has none, or is clustered and does not carry it.
  template <typename Scalar>
  Column<Scalar> column(const Feature& feature, const Jets<Scalar>& view, bool clustered) const {
    const auto carried = view.extras().find(kCarried + feature.name);
    if (carried != view.extras().end()) {
      return {carried->second, feature.merge == Merge::mean ? view.extras().at(kWeights) : nullptr};
    }
    require(!clustered || feature.merge == Merge::sum, "the feature '", feature.name,
            "' of subjets is more than a sum over constituents: make tokens with ViewTokenizer");
    return {std::make_shared<const std::vector<Scalar>>(values_of(feature, view)), nullptr};
  }

 private:
  static constexpr const char* kCarried = "token feature ";
  static constexpr const char* kWeights = "token feature weights";

  static bool is_plain(const Feature& feature) {
    return feature.transform == Transform::none && feature.low == -Feature::kUnlimited &&
           feature.high == Feature::kUnlimited;
  }

  static std::vector<std::string> names_of_columns(const Feature& feature) {
    std::vector<std::string> names = feature.columns;
    if (!feature.particles.empty()) {
      names.insert(names.end(), detail::kParticleColumns.begin(), detail::kParticleColumns.end());
    }
    return names;
  }

  /// Of constituents in means: their pT, of which not all may be 0.
  template <typename Scalar>
  static std::vector<Scalar> weights_of(const Jets<Scalar>& jets) {
    std::vector<Scalar> weights(static_cast<std::size_t>(jets.constituents()));
    for (std::int64_t i = 0; i < jets.constituents(); ++i) {
      weights[static_cast<std::size_t>(i)] = std::max(pt(jets.constituent(i)), static_cast<Scalar>(kLogFloor));
    }
    return weights;
  }

  /// The values of all constituents.
  template <typename Scalar>
  static std::vector<Scalar> values_of(const Feature& feature, const Jets<Scalar>& jets) {
    const std::vector<std::string> names = names_of_columns(feature);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto found = jets.extras().find(names[i]);
      if (found != jets.extras().end()) {
        require_finite(feature, *found->second, jets);
        return i < feature.columns.size() ? *found->second : is_one_of(feature.particles, *found->second);
      }
    }
    fail("the feature '", feature.name,
         "' is neither kinematic nor a column of these jets, which have: ", keys_of(jets.extras()),
         ": read it with the jets (columns=) or give another feature");
  }

  template <typename Scalar>
  static void require_finite(const Feature& feature, const std::vector<Scalar>& values, const Jets<Scalar>& jets) {
    const auto wrong = std::find_if(values.begin(), values.end(), [](Scalar value) { return !std::isfinite(value); });
    if (wrong != values.end()) {
      const auto row = static_cast<std::int64_t>(wrong - values.begin());
      const auto after = std::upper_bound(jets.offsets().begin(), jets.offsets().end(), row);
      const auto jet = static_cast<std::int64_t>(after - jets.offsets().begin()) - 1;
      fail("the feature '", feature.name, "' of constituent ", row - jets.begin(jet), " of jet ", jet, " is ", *wrong,
           ": repair the column, leave the jet out, or give another feature");
    }
  }

  template <typename Scalar>
  static std::vector<Scalar> is_one_of(const std::vector<std::int64_t>& codes, const std::vector<Scalar>& given) {
    std::vector<Scalar> found(given.size());
    std::transform(given.begin(), given.end(), found.begin(), [&](Scalar value) {
      return static_cast<Scalar>(std::any_of(
          codes.begin(), codes.end(), [&](std::int64_t code) { return std::abs(value) == static_cast<Scalar>(code); }));
    });
    return found;
  }

  std::vector<Feature> features_;
  std::vector<std::size_t> columns_;
  std::vector<std::size_t> changed_;
  FeatureRule rule_;
  FeatureRule transformed_;
};

}  // namespace rino
