#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/jets/concatenate.hpp>
#include <rino/jets/jets.hpp>
#include <rino/tokens/tokenizer.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/resolution.hpp>
#include <rino/views/splitting_scales.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/hardest.hpp>
#include <rino/views/view_generator.hpp>

namespace rino {

/// The clustering algorithms by name, for recipes; `Kt`, `CambridgeAachen` and `AntiKt` are the types.
enum class Clustering { kt, cambridge, antikt };

template <>
inline constexpr std::array enum_names<Clustering> = {
    std::pair{Clustering::kt, std::string_view("kt")},
    std::pair{Clustering::cambridge, std::string_view("cambridge")},
    std::pair{Clustering::antikt, std::string_view("antikt")},
};

/// Which jet it is that the features of a jet and the relative pT and E of its constituents are of, where some of them
/// are left out by `max_constituents`.
enum class RelativeTo {
  jet,   ///< the whole jet, as published; a boost is along its axis and to its pT
  kept,  ///< the sum of the constituents that are kept, in everything: what rino did before it knew
};

template <>
inline constexpr std::array enum_names<RelativeTo> = {
    std::pair{RelativeTo::jet, std::string_view("jet")},
    std::pair{RelativeTo::kept, std::string_view("kept")},
};

/// Everything that happens to a jet before the network sees it.
struct ViewTokenizerOptions {
  Clustering algorithm = Clustering::kt;
  double radius = 0.8;
  std::int64_t max_constituents = 0;
  RelativeTo relative_to = RelativeTo::jet;
  double boost_to_pt = 0.0;
  FeatureList features = FeatureSet::full;
  Normalization normalization = Normalization::workshop;
  FeatureList jet_features = TokenizerOptions{}.jet_features;

  bool operator==(const ViewTokenizerOptions&) const = default;

  static constexpr auto fields() {
    using Self = ViewTokenizerOptions;
    return std::tuple{
        Field{"algorithm", &Self::algorithm, "", "of the clustering: 'kt', 'cambridge' or 'antikt'"},
        Field{"radius", &Self::radius, "", "R of the clustering"},
        Field{"max_constituents", &Self::max_constituents, "", "the hardest that are kept before clustering; 0: all"},
        Field{"relative_to", &Self::relative_to, "",
              "what relative pT and E, jet features and boost refer to: the whole 'jet', as published, or the sum of "
              "the 'kept' constituents, as of encoders from before this number"},
        Field{"boost_to_pt", &Self::boost_to_pt, "GeV", "pT every jet is boosted to along its own axis; 0: off",
              kOwnChoice},
        Field{
            "features", &Self::features, "",
            "of a token: 'full' (11), 'logarithmic' (7), 'relative' (5), ParT's 'part-kin' (7), 'part-kinpid' (13) or "
            "'part-full' (17), or a list of names and columns of the files, as in 'd0 transform=tanh merge=mean'"},
        Field{"normalization", &Self::normalization, "", "of kinematic features: 'workshop' or 'production'"},
        Field{"jet_features", &Self::jet_features, "",
              "of a jet, for the class token: log_e, log_pt, eta, phi, pt, energy, mass, log_mass, multiplicity, "
              "log_multiplicity, log_kt_1 ..., or numbers per jet of the files"},
    };
  }
};

/// Jets in, the network's tokens of their views out: selection, boost, clustering, features, packing.
class ViewTokenizer {
 public:
  /// @param momenta  whether the tokens have momenta.
  /// @throws rino::Error for features that there are not, numbers out of range, and a boost of what depends on the
  /// frame.
  explicit ViewTokenizer(const ViewTokenizerOptions& options = {}, bool momenta = false)
      : options_(options), tokenizer_({options.features, options.normalization, options.jet_features, momenta}) {
    require(options.max_constituents >= 0, "max_constituents is ", options.max_constituents,
            ": choose 0 for all or a positive number");
    require(options.boost_to_pt >= 0, "boost_to_pt is ", options.boost_to_pt, " GeV: choose 0 for off or a pT");
    if (options.boost_to_pt > 0) {
      tokenizer_.features().require_no_frame("boost_to_pt");
    }
  }

  const ViewTokenizerOptions& options() const { return options_; }

  const Tokenizer& tokenizer() const { return tokenizer_; }

  /// For each feature that is no kinematic one, of tokens and of jets, the names that its column may have.
  std::vector<std::vector<std::string>> column_names() const {
    std::vector<std::vector<std::string>> names = tokenizer_.features().column_names();
    for (const Feature& feature : tokenizer_.jet_features().all()) {
      if (tokenizer_.jet_features().is_column(feature)) {
        names.push_back({feature.name});
      }
    }
    return names;
  }

  /// Number of features of a token.
  std::int64_t width() const { return tokenizer_.features().size(); }

  /// Tokens of resolutions.size() * n sequences of `Out`, views in the order of `resolutions`, on the CPU.
  /// @throws rino::Error as the views and transforms do.
  template <typename Out = float, std::floating_point Scalar>
  Tokens operator()(const Jets<Scalar>& jets, const std::vector<Resolution>& resolutions, int threads = 1) const {
    const std::int64_t most = options_.max_constituents;
    const bool of_kept = options_.relative_to == RelativeTo::kept;
    Jets<Scalar> whole = of_kept && most > 0 ? hardest(jets, most) : jets;
    if (options_.boost_to_pt > 0) {
      whole = boost_to_pt(whole, static_cast<Scalar>(options_.boost_to_pt));
    }
    // A boost changes the order in pT: the hardest are those of the jet that was given.
    const Jets<Scalar> kept = !of_kept && most > 0 ? hardest_by(jets, whole, most) : whole;
    for (const Resolution& resolution : resolutions) {
      require_merges(resolution);
    }
    const std::vector<Jets<Scalar>> views = make_views(tokenizer_.features().carried(kept), resolutions, threads);
    std::vector<double> scales;
    if (tokenizer_.jet_features().scales() > 0) {
      scales =
          splitting_scales(whole, tokenizer_.jet_features().scales(), {.radius = options_.radius, .threads = threads});
    }
    return tokenizer_.template operator()<Out>(whole, std::span<const Jets<Scalar>>(views), scales, threads);
  }

  /// Tokens of views of the same n jets that are jets of their own, as transforms make them: the features of each refer
  /// to itself. views.size() * n sequences of `Out`, views in their order, on the CPU.
  /// @throws rino::Error as the above, or if the views have unequal numbers of jets.
  template <typename Out = float, std::floating_point Scalar>
  Tokens of_views(std::span<const Jets<Scalar>> views, int threads = 1) const {
    require(!views.empty(), "there are no views: give one or more");
    const std::int64_t jets = views.front().size();
    for (const Jets<Scalar>& view : views) {
      require(view.size() == jets, "views of ", jets, " and of ", view.size(),
              " jets were given: give views of the same");
    }
    std::vector<Jets<Scalar>> bare;  // what else jets carry is not asked for, and may differ
    for (const Jets<Scalar>& view : views) {
      bare.push_back(tokenizer_.with_columns_alone(view));
    }
    Tokens tokens = operator()<Out>(concatenate(std::span<const Jets<Scalar>>(bare)), {particles()}, threads);
    for (std::size_t s = 0; s < tokens.jet.size(); ++s) {
      tokens.view[s] = tokens.jet[s] / jets;
      tokens.jet[s] %= jets;
    }
    return tokens;
  }

 private:
  /// @throws rino::Error for a clustered view of a feature that does not say how it merges.
  void require_merges(const Resolution& resolution) const {
    for (const std::size_t f : tokenizer_.features().columns()) {
      const Feature& feature = tokenizer_.features().all()[f];
      require(feature.merge != Merge::none || resolution == particles(), "the feature '", feature.name,
              "' does not say what it is of a subjet, and the view '", resolution.name(),
              "' has subjets: say merge=sum or merge=mean, or show all constituents");
    }
  }

  template <std::floating_point Scalar>
  std::vector<Jets<Scalar>> make_views(const Jets<Scalar>& jets, const std::vector<Resolution>& resolutions,
                                       int threads) const {
    const ViewOptions view_options{.radius = options_.radius, .threads = threads};
    switch (options_.algorithm) {
      case Clustering::cambridge:
        return ViewGenerator<Scalar, CambridgeAachen>(resolutions, view_options)(jets);
      case Clustering::antikt:
        return ViewGenerator<Scalar, AntiKt>(resolutions, view_options)(jets);
      default:
        return ViewGenerator<Scalar, Kt>(resolutions, view_options)(jets);
    }
  }

  ViewTokenizerOptions options_;
  Tokenizer tokenizer_;
};

}  // namespace rino
