#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/core/sections.hpp>
#include <rino/nn/deep_sets_encoder.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/tokens/tokenizer.hpp>
#include <rino/tokens/view_tokenizer.hpp>

namespace rino {

/// A kind of encoder: all that has to be known of it elsewhere.
struct EncoderKind {
  std::string name;
  std::string summary;
  std::string source;                                             ///< publication of its defaults
  std::function<void(Sections&)> put;                             ///< makes the section "encoder" its own
  std::function<void(Sections&)> resolve;                         ///< sizes that follow from other sections
  std::function<std::int64_t(const Sections&)> outputs;           ///< size of a jet's embedding
  std::function<bool(const Sections&)> momenta;                   ///< whether it looks at them; empty: it does not
  std::function<std::shared_ptr<Encoder>(const Sections&)> make;  ///< of a recipe, without initial values
};

/// The kind that is a module `Impl` with the config struct `Options`, whose default `kind` is its name.
template <typename Impl, typename Options>
EncoderKind encoder_kind(std::string summary, std::string source) {
  const auto mine = [](const Sections& sections) -> const Options& { return sections.get<Options>("encoder"); };
  return {.name = Options{}.kind,
          .summary = std::move(summary),
          .source = std::move(source),
          .put = [](Sections& sections) { sections.put<Options>("encoder"); },
          .resolve =
              [](Sections& sections) {
                // Not more of them than their number: other numbers of the recipe may be about to change.
                const auto& jets = sections.get<ViewTokenizerOptions>("jets");
                const Tokenizer tokenizer({jets.features, jets.normalization, jets.jet_features});
                sections.get<Options>("encoder").take(tokenizer);
              },
          .outputs = [mine](const Sections& sections) { return mine(sections).outputs(); },
          .momenta =
              [mine](const Sections& sections) {
                if constexpr (requires(const Options& options) { options.takes_momenta(); }) {
                  return mine(sections).takes_momenta();
                }
                return false;
              },
          .make = [mine](const Sections& sections) -> std::shared_ptr<Encoder> {
            return std::make_shared<Impl>(mine(sections), sections.get<ViewTokenizerOptions>("jets"));
          }};
}

/// All kinds of encoders, and the only list of them.
class EncoderKinds {
 public:
  static const std::vector<EncoderKind>& all() { return kinds(); }

  /// The kind of a name. @throws rino::Error with the names that there are.
  static const EncoderKind& of(std::string_view name) {
    for (const EncoderKind& kind : kinds()) {
      if (kind.name == name) {
        return kind;
      }
    }
    fail("there is no encoder of the kind '", name, "': choose one of ", names_of(kinds(), &EncoderKind::name));
  }

  /// The kind that a recipe's section "encoder" is of.
  static const EncoderKind& of(const Sections& sections) {
    const FieldValue kind = sections.value("encoder", "kind");
    const auto* const name = std::get_if<std::string>(&kind);
    require(name != nullptr, "encoder.kind is not text: give one of its names");
    return of(*name);
  }

  /// Adds a kind of a user's. Before anybody trains: it is not locked.
  /// @throws rino::Error if there is one of that name, or it lacks a function.
  static void add(EncoderKind kind) {
    require(kind.put && kind.resolve && kind.outputs && kind.make, "the encoder '", kind.name,
            "' lacks put, resolve, outputs or make: give all four, or make it with encoder_kind");
    for (const EncoderKind& known : kinds()) {
      require(known.name != kind.name, "there is an encoder '", kind.name, "' already: choose another name");
    }
    kinds().push_back(std::move(kind));
  }

 private:
  static std::vector<EncoderKind>& kinds() {
    static std::vector<EncoderKind> all{
        encoder_kind<JetEncoderImpl, JetEncoderOptions>("a transformer of constituents", "arXiv:2509.07486"),
        encoder_kind<DeepSetsEncoderImpl, DeepSetsEncoderOptions>("a sum over constituents (particle flow network)",
                                                                  "arXiv:1810.05165"),
    };
    return all;
  }
};

/// The encoder of a recipe's sections, without initial values.
inline std::shared_ptr<Encoder> make_encoder(const Sections& sections) {
  return EncoderKinds::of(sections).make(sections);
}

/// Whether it looks at `Tokens::momenta`.
inline bool encoder_takes_momenta(const Sections& sections) {
  const EncoderKind& kind = EncoderKinds::of(sections);
  return kind.momenta && kind.momenta(sections);
}

/// Size of a jet's embedding by it.
inline std::int64_t encoder_outputs(const Sections& sections) {
  return EncoderKinds::of(sections).outputs(sections);
}

}  // namespace rino
