#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>
#include <rino/views/transforms/augmentation.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/boost_along_beam.hpp>
#include <rino/views/transforms/draws.hpp>
#include <rino/views/transforms/drop_soft.hpp>
#include <rino/views/transforms/hardest.hpp>
#include <rino/views/transforms/mask_constituents.hpp>
#include <rino/views/transforms/rotate.hpp>
#include <rino/views/transforms/smear.hpp>
#include <rino/views/transforms/split_collinear.hpp>
#include <rino/views/transforms/translate.hpp>

namespace rino {

namespace detail {

/// A transform in words, "smear soft=0.1 eta=0": its name and some of its numbers.
class TransformText {
 public:
  /// @throws rino::Error for words after the first that are no name=number, or one that is there twice.
  explicit TransformText(const std::string& text) : text_(text) {
    std::istringstream words(text);
    words >> name_;
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      double value = 0;
      std::istringstream number(equals == std::string::npos ? "" : word.substr(equals + 1));
      number.imbue(std::locale::classic());
      require((number >> value) && number.peek() == std::istringstream::traits_type::eof(), "'", word, "' in '", text,
              "' is no number of a transform: write name=number, as in 'smear soft=0.1'");
      require(numbers_.emplace(word.substr(0, equals), value).second, "'", text, "' has ", word.substr(0, equals),
              " twice: give it once");
    }
  }

  const std::string& name() const { return name_; }

  /// The number of a name, where the text has it; `fallback` otherwise, and an error if that is no number.
  double take(const char* name, double fallback = std::numeric_limits<double>::quiet_NaN()) {
    known_ += (known_.empty() ? "" : ", ") + std::string(name);
    const auto found = numbers_.find(name);
    require(found != numbers_.end() || !std::isnan(fallback), "'", text_, "' lacks ", name, ": write '", name_, " ",
            name, "=NUMBER'");
    const double value = found == numbers_.end() ? fallback : found->second;
    if (found != numbers_.end()) {
      numbers_.erase(found);
    }
    return value;
  }

  /// @throws rino::Error for numbers that nobody took.
  void done() const {
    require(numbers_.empty(), "'", text_, "': ", name_, " has no ", numbers_.empty() ? "" : numbers_.begin()->first,
            ", only: ", known_.empty() ? "none" : known_);
  }

 private:
  std::string text_;
  std::string name_;
  std::string known_;
  std::map<std::string, double> numbers_;
};

}  // namespace detail

/// A transform in words: its name and the numbers that are not its defaults, as in "rotate", "smear soft=0.1 eta=0",
/// "hardest n=30". A recipe's lists of views are made of these.
///
/// @throws rino::Error for a name or number that there is not, or one outside its range.
template <std::floating_point Scalar>
typename Augmentation<Scalar>::Transform named_transform(const std::string& text) {
  using J = Jets<Scalar>;
  detail::TransformText words(text);
  const std::string& name = words.name();
  typename Augmentation<Scalar>::Transform transform;
  if (name == "rotate") {
    transform = [](const J& jets, const Draws& draws, int threads) { return rotate(jets, draws, threads); };
  } else if (name == "translate") {
    TranslateOptions options;
    options.max_rapidity = words.take("max_rapidity", options.max_rapidity);
    options.max_phi = words.take("max_phi", options.max_phi);
    transform = [options](const J& jets, const Draws& draws, int threads) {
      return translate(jets, options, draws, threads);
    };
  } else if (name == "smear") {
    SmearOptions options;
    options.stochastic = words.take("stochastic", options.stochastic);
    options.constant = words.take("constant", options.constant);
    options.eta = words.take("eta", options.eta);
    options.phi = words.take("phi", options.phi);
    options.soft = words.take("soft", options.soft);
    transform = [options](const J& jets, const Draws& draws, int threads) {
      return smear(jets, options, draws, threads);
    };
  } else if (name == "split_collinear") {
    SplitCollinearOptions options;
    options.probability = words.take("probability", options.probability);
    options.min_fraction = words.take("min_fraction", options.min_fraction);
    transform = [options](const J& jets, const Draws& draws, int threads) {
      return split_collinear(jets, options, draws, threads);
    };
  } else if (name == "drop_soft") {
    DropSoftOptions options;
    options.scale = words.take("scale", options.scale);
    options.min_pt = words.take("min_pt", options.min_pt);
    transform = [options](const J& jets, const Draws& draws, int threads) {
      return drop_soft(jets, options, draws, threads);
    };
  } else if (name == "mask_constituents") {
    transform = [fraction = words.take("fraction")](const J& jets, const Draws& draws, int threads) {
      return mask_constituents(jets, fraction, draws, threads);
    };
  } else if (name == "boost_jet") {
    BoostJetOptions options;
    options.min_factor = words.take("min_factor", options.min_factor);
    options.max_factor = words.take("max_factor", options.max_factor);
    transform = [options](const J& jets, const Draws& draws, int threads) {
      return boost_jet(jets, options, draws, threads);
    };
  } else if (name == "boost_along_beam") {
    const double most = words.take("max_rapidity", TranslateOptions().max_rapidity);
    transform = [most](const J& jets, const Draws& draws, int threads) {
      return boost_along_beam(jets, most, draws, threads);
    };
  } else if (name == "boost_to_pt") {
    transform = [pt = words.take("reference_pt")](const J& jets, const Draws&, int threads) {
      return boost_to_pt(jets, pt, threads);
    };
  } else if (name == "hardest") {
    const double n = words.take("n");
    require(n == std::floor(n) && n < 1e9, "'", text, "': n is ", n, ": give a whole number");
    transform = [n](const J& jets, const Draws&, int threads) {
      return hardest(jets, static_cast<std::int64_t>(n), threads);
    };
  } else {
    fail("there is no transform '", name, "': choose one of rotate, translate, smear, split_collinear, drop_soft, ",
         "mask_constituents, boost_jet, boost_along_beam, boost_to_pt, hardest");
  }
  words.done();
  transform(J(), Draws(), 1);  // looks at its numbers
  return transform;
}

/// Whether it rotates or boosts jets, so that what constituents carry of where they came from is wrong afterwards.
inline bool changes_frame(const std::string& text) {
  detail::TransformText words(text);
  return words.name() == "rotate" || words.name().starts_with("boost") ||
         (words.name() == "translate" && words.take("max_rapidity", TranslateOptions().max_rapidity) > 0);
}

/// Transforms in words, one after another.
template <std::floating_point Scalar>
Augmentation<Scalar> named_augmentation(const std::vector<std::string>& texts) {
  std::vector<typename Augmentation<Scalar>::Transform> transforms;
  for (const std::string& text : texts) {
    transforms.push_back(named_transform<Scalar>(text));
  }
  return Augmentation<Scalar>(std::move(transforms));
}

}  // namespace rino
