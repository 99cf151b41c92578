#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/names.hpp>
#include <rino/core/sections.hpp>
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

/// Numbers of the transforms whose functions take them one by one, since they have no default.
struct MaskConstituentsOptions {
  double fraction = 0.0;

  static constexpr auto fields() {
    return std::tuple{
        Field{"fraction", &MaskConstituentsOptions::fraction, "",
              "of n constituents, fraction * n are removed, rounded up or down at random so that it is the fraction on "
              "average, and n - 1 at most",
              kNoDefault},
    };
  }
};
struct BoostToPtOptions {
  double reference_pt = 0.0;

  static constexpr auto fields() {
    return std::tuple{
        Field{"reference_pt", &BoostToPtOptions::reference_pt, "GeV", "transverse momentum of every jet afterwards",
              kNoDefault},
    };
  }
};
struct HardestOptions {
  std::int64_t n = 0;

  static constexpr auto fields() {
    return std::tuple{
        Field{"n", &HardestOptions::n, "constituents", "how many are kept, at most", kNoDefault},
    };
  }
};

namespace detail {

struct NoOptions {
  static constexpr std::tuple<> fields() { return {}; }
};

/// A transform that has a name: whether it rotates or boosts jets, and what it does with its numbers.
template <std::floating_point Scalar, typename Options>
struct NamedTransform {
  const char* name;
  bool (*changes_frame)(const Options&);
  Jets<Scalar> (*apply)(const Jets<Scalar>&, const Options&, const Draws&, int threads);
};

inline constexpr auto always = [](const auto&) { return true; };
inline constexpr auto never = [](const auto&) { return false; };

/// All of them: what words, recipes and Python know by name is made from this list.
template <std::floating_point Scalar>
auto named_transforms() {
  using J = Jets<Scalar>;
  return std::tuple{
      NamedTransform<Scalar, NoOptions>{"rotate", always,
                                        [](const J& jets, const NoOptions&, const Draws& draws, int threads) {
                                          return rotate(jets, draws, threads);
                                        }},
      NamedTransform<Scalar, TranslateOptions>{
          "translate", [](const TranslateOptions& options) { return options.max_rapidity > 0; }, translate},
      NamedTransform<Scalar, SmearOptions>{"smear", never, smear},
      NamedTransform<Scalar, SplitCollinearOptions>{"split_collinear", never, split_collinear},
      NamedTransform<Scalar, DropSoftOptions>{"drop_soft", never, drop_soft},
      NamedTransform<Scalar, MaskConstituentsOptions>{
          "mask_constituents", never,
          [](const J& jets, const MaskConstituentsOptions& options, const Draws& draws, int threads) {
            return mask_constituents(jets, options.fraction, draws, threads);
          }},
      NamedTransform<Scalar, BoostJetOptions>{"boost_jet", always, boost_jet},
      NamedTransform<Scalar, BoostAlongBeamOptions>{"boost_along_beam", always, boost_along_beam},
      NamedTransform<Scalar, BoostToPtOptions>{
          "boost_to_pt", always,
          [](const J& jets, const BoostToPtOptions& options, const Draws&, int threads) {
            return boost_to_pt(jets, options.reference_pt, threads);
          }},
      NamedTransform<Scalar, HardestOptions>{"hardest", never,
                                             [](const J& jets, const HardestOptions& options, const Draws&,
                                                int threads) { return hardest(jets, options.n, threads); }},
  };
}

/// Calls `visit(transform)` for the one of this name. @throws rino::Error for a name that there is not.
template <std::floating_point Scalar, typename Visit>
void visit_named(const std::string& name, const Visit& visit) {
  bool found = false;
  std::vector<std::string> known;
  const auto look = [&](const auto& transform) {
    known.emplace_back(transform.name);
    if (name == transform.name) {
      found = true;
      visit(transform);
    }
  };
  std::apply([&](const auto&... transform) { (look(transform), ...); }, named_transforms<Scalar>());
  require(found, "there is no transform '", name, "': choose one of ", names_of(known, std::identity()));
}

/// Numbers by name as the options of a transform; those that are not there keep their defaults.
///
/// @param text  the transform as it was asked for, for the messages.
/// @throws rino::Error for a number that is missing, that there is not, or that is not whole where it has to be.
template <typename Options>
Options options_of(const std::string& name, std::map<std::string, FieldValue> numbers, const std::string& text) {
  Options options;
  for_each_field<Options>([&]<typename Type>(const Field<Options, Type>& field) {
    const auto found = numbers.find(field.name);
    if (found == numbers.end()) {
      require(field.source != std::string_view(kNoDefault), "'", text, "' lacks ", field.name, ": write '", name, " ",
              field.name, "=NUMBER'");
      return;
    }
    FieldValue value = found->second;
    if (const auto* const real = std::get_if<double>(&value); real != nullptr && std::is_same_v<Type, std::int64_t>) {
      require(*real == std::floor(*real) && std::abs(*real) < 1e9, "'", text, "': ", field.name, " is ", *real,
              ": give a whole number");
      value = static_cast<std::int64_t>(*real);
    }
    options.*field.member = FieldCodec<Type>::decode(value, field.name);
    numbers.erase(found);
  });
  require(numbers.empty(), "'", text, "': ", name, " has no ", numbers.empty() ? "" : numbers.begin()->first,
          ", only: ", names_of(entries_of<Options>(name), &SectionEntry::name));
  return options;
}

/// A transform in words, "smear soft=0.1 eta=0": its name and some of its numbers.
struct TransformText {
  /// @throws rino::Error for words after the first that are no name=number, or one that is there twice.
  explicit TransformText(const std::string& text) {
    std::istringstream words(text);
    words >> name;
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      double value = 0;
      std::istringstream number(equals == std::string::npos ? "" : word.substr(equals + 1));
      number.imbue(std::locale::classic());
      require((number >> value) && number.peek() == std::istringstream::traits_type::eof(), "'", word, "' in '", text,
              "' is no number of a transform: write name=number, as in 'smear soft=0.1'");
      require(numbers.emplace(word.substr(0, equals), value).second, "'", text, "' has ", word.substr(0, equals),
              " twice: give it once");
    }
  }

  std::string name;
  std::map<std::string, FieldValue> numbers;
};

}  // namespace detail

/// The numbers of the transform of a name, with defaults, units and meanings.
///
/// @throws rino::Error for a name that there is not.
inline std::vector<SectionEntry> transform_numbers(const std::string& name) {
  std::vector<SectionEntry> numbers;
  detail::visit_named<double>(name, [&]<typename Options>(const detail::NamedTransform<double, Options>&) {
    numbers = entries_of<Options>(name);
  });
  return numbers;
}

/// The transform of a name with these numbers, the others at their defaults.
///
/// @param text  the transform as it was asked for, for the messages.
/// @throws rino::Error for a name or number that there is not, or one outside its range.
template <std::floating_point Scalar>
typename Augmentation<Scalar>::Transform named_transform(const std::string& name,
                                                         const std::map<std::string, FieldValue>& numbers,
                                                         const std::string& text) {
  typename Augmentation<Scalar>::Transform made;
  detail::visit_named<Scalar>(name, [&]<typename Options>(const detail::NamedTransform<Scalar, Options>& transform) {
    made = [apply = transform.apply, options = detail::options_of<Options>(name, numbers, text)](
               const Jets<Scalar>& jets, const Draws& draws, int threads) {
      return apply(jets, options, draws, threads);
    };
  });
  made(Jets<Scalar>(), Draws(), 1);  // looks at its numbers
  return made;
}

/// A transform in words: its name and the numbers that are not its defaults, as in "rotate", "smear soft=0.1 eta=0",
/// "hardest n=30". A recipe's lists of views are made of these.
///
/// @throws rino::Error for a name or number that there is not, or one outside its range.
template <std::floating_point Scalar>
typename Augmentation<Scalar>::Transform named_transform(const std::string& text) {
  const detail::TransformText words(text);
  return named_transform<Scalar>(words.name, words.numbers, text);
}

/// Whether it rotates or boosts jets, so that what constituents carry of where they came from is wrong afterwards.
///
/// @throws rino::Error for a name or number that there is not.
inline bool changes_frame(const std::string& text) {
  const detail::TransformText words(text);
  bool changes = false;
  detail::visit_named<double>(words.name, [&]<typename Options>(const detail::NamedTransform<double, Options>& named) {
    changes = named.changes_frame(detail::options_of<Options>(words.name, words.numbers, text));
  });
  return changes;
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
