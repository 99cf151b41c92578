#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/feature_columns.hpp>
#include <rino/jets/features.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/normalization.hpp>
#include <rino/simd/target.hpp>
#include <rino/tokens/jet_features.hpp>
#include <rino/tokens/token_features.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// What tokens have of views of jets.
struct TokenizerOptions {
  FeatureList features = FeatureSet::full;
  Normalization normalization = Normalization::workshop;
  FeatureList jet_features = FeatureList({kJetFeatures.begin(), kJetFeatures.end()});
  bool momenta = false;  ///< whether `Tokens::momenta` are there
};

namespace detail {

/// log E, log pT, eta and phi of momentum(i) for i in [begin, end), handed to store(i, columns, place).
template <typename Momentum, typename Store>
void for_each_kinematics(std::int64_t begin, std::int64_t end, const FeatureKernels& kernels, const Momentum& momentum,
                         const Store& store) {
  FeatureColumns columns;
  for (std::int64_t first = begin; first < end; first += FeatureColumns::kSize) {
    const std::int64_t count = std::min(end - first, FeatureColumns::kSize);
    for (std::int64_t i = 0; i < count; ++i) {
      columns.set(i, momentum(first + i).template cast<double>());
    }
    columns.pad(count);
    kernels.kinematics(count, columns);
    for (std::int64_t i = 0; i < count; ++i) {
      store(first + i, columns, i);
    }
  }
}

}  // namespace detail

/// Makes tokens of views of jets, on the CPU.
class Tokenizer {
 public:
  /// @throws rino::Error for features that there are not.
  explicit Tokenizer(const TokenizerOptions& options)
      : features_(options.features, options.normalization),
        jet_features_(options.jet_features, options.normalization),
        momenta_(options.momenta) {}

  const TokenFeatures& features() const { return features_; }
  const JetFeatures& jet_features() const { return jet_features_; }

  /// The same jets with the columns that features are found in, and nothing else.
  template <typename Scalar>
  Jets<Scalar> with_columns_alone(const Jets<Scalar>& jets) const {
    Jets<Scalar> bare = Jets<Scalar>::borrow_unchecked(jets.columns(), jets.offsets(), jets.owner());
    for (const auto& [name, values] : jets.extras()) {
      if (features_.may_need(name)) {
        bare = bare.with_extra(name, *values);
      }
    }
    for (const auto& [name, values] : jets.values()) {
      if (jet_features_.may_need(name)) {
        bare = bare.with_value(name, *values);
      }
    }
    return bare;
  }

  /// The tokens of all views of a batch of jets.
  ///
  /// Everything is computed in double precision, the kinematic features by SIMD kernels, with the same bits on every
  /// machine; the formulas are those of `token_features` and `jet_features`.
  ///
  /// @tparam Out     type of the features, float or double.
  /// @param jets     the jets before clustering, n of them: the source of pT and E of each jet.
  /// @param views    as `ViewGenerator` returns them: each has the same n jets in the same order.
  /// @param scales   [n, jet_features().scales()] kT scales of the jets in GeV, where these are asked for.
  /// @param threads  of this call; they do not change the result.
  /// @param target   instructions to be used, of those that this machine has.
  /// @returns Tokens of views.size() * n sequences: views in their order, in each the jets in theirs.
  /// @throws rino::Error if a view does not have n jets, a column is missing, or this machine cannot run `target`.
  template <typename Out = float, std::floating_point Scalar>
  Tokens operator()(const Jets<Scalar>& jets, std::span<const Jets<Scalar>> views,
                    const std::vector<double>& scales = {}, int threads = 1,
                    simd::Target target = simd::best_target()) const {
    using Index = std::int64_t;
    simd::require_supported(target);
    const Index n = jets.size();
    require(static_cast<Index>(scales.size()) == n * jet_features_.scales(), "there are ", scales.size(),
            " kT scales for ", n, " jets: make tokens with ViewTokenizer, which computes them");
    const FeatureKernels kernels = feature_kernels(target);
    Tokens tokens = empty_tokens(n, views);
    const auto type = std::is_same_v<Out, double> ? at::kDouble : at::kFloat;
    tokens.features = at::empty({tokens.offsets.back(), features_.size()}, type);
    tokens.jet_features = at::empty({tokens.sequences(), jet_features_.size()}, type);

    std::vector<std::array<double, 4>> whole(static_cast<std::size_t>(n));  // log E, log pT, eta and phi of every jet
    std::vector<double> of_jets(static_cast<std::size_t>(n * jet_features_.size()));
    parallel_for(n, threads, [&](Index begin, Index end) {
      detail::for_each_kinematics(
          begin, end, kernels, [&](Index j) { return jets.four_momentum(j); },
          [&](Index j, const FeatureColumns& c, Index i) {
            whole[static_cast<std::size_t>(j)] = {c.log_e[i], c.log_pt[i], c.eta[i], c.phi[i]};
            double* const row = of_jets.data() + j * jet_features_.size();
            jet_features_(jets, j, whole[static_cast<std::size_t>(j)], scales,
                          [row](std::size_t place, double value) { row[place] = value; });
          });
    });
    write_kinematics<Out>(tokens, whole, views, kernels, threads);
    write_columns<Out>(tokens, jets, views);
    Out* const jet_rows = tokens.jet_features.template mutable_data_ptr<Out>();
    for (Index s = 0; s < tokens.sequences(); ++s) {
      const double* const row = of_jets.data() + tokens.jet[static_cast<std::size_t>(s)] * jet_features_.size();
      std::transform(row, row + jet_features_.size(), jet_rows + s * jet_features_.size(),
                     [](double value) { return static_cast<Out>(value); });
    }
    if (momenta_) {
      write_momenta(tokens, views, threads);
    }
    return tokens;
  }

 private:
  /// Which sequences there are.
  template <typename Scalar>
  static Tokens empty_tokens(std::int64_t n, std::span<const Jets<Scalar>> views) {
    Tokens tokens;
    const std::size_t sequences = views.size() * static_cast<std::size_t>(n);
    tokens.offsets.reserve(sequences + 1);
    tokens.view.reserve(sequences);
    tokens.jet.reserve(sequences);
    for (std::size_t v = 0; v < views.size(); ++v) {
      require(views[v].size() == n, "view ", v, " has ", views[v].size(), " jets of ", n,
              ": give the views that a ViewGenerator made of these jets");
      for (std::int64_t j = 0; j < n; ++j) {
        tokens.offsets.push_back(tokens.offsets.back() + views[v].multiplicity(j));
        tokens.view.push_back(static_cast<std::int64_t>(v));
        tokens.jet.push_back(j);
      }
    }
    return tokens;
  }

  /// The features that are computed from momenta.
  template <typename Out, typename Scalar>
  void write_kinematics(Tokens& tokens, const std::vector<std::array<double, 4>>& whole,
                        std::span<const Jets<Scalar>> views, const FeatureKernels& kernels, int threads) const {
    using Index = std::int64_t;
    const Index width = features_.size();
    Out* const token_rows = tokens.features.template mutable_data_ptr<Out>();
    parallel_for(tokens.sequences(), threads, [&](Index begin, Index end) {
      const auto view_of = [&](Index s) -> const Jets<Scalar>& {
        return views[static_cast<std::size_t>(tokens.view[static_cast<std::size_t>(s)])];
      };
      const auto jet_of = [&](Index s) { return tokens.jet[static_cast<std::size_t>(s)]; };
      std::vector<std::array<double, 2>> axes(static_cast<std::size_t>(end - begin));
      detail::for_each_kinematics(
          begin, end, kernels, [&](Index s) { return view_of(s).four_momentum(jet_of(s)); },
          [&](Index s, const FeatureColumns& c, Index i) {
            axes[static_cast<std::size_t>(s - begin)] = {c.eta[i], c.phi[i]};
          });
      FeatureColumns columns;
      Index filled = 0;
      Out* row = begin < end ? token_rows + tokens.first(begin) * width : token_rows;
      const auto flush = [&] {
        columns.pad(filled);
        kernels.tokens(filled, columns, features_.rule(), row);
        write_changed(filled, columns, kernels, row);
        row += filled * width;
        filled = 0;
      };
      for (Index s = begin; s < end; ++s) {
        const Jets<Scalar>& view = view_of(s);
        const Index j = jet_of(s);
        const auto& [log_e, log_pt, eta, phi] = whole[static_cast<std::size_t>(j)];
        const auto& [axis_eta, axis_phi] = axes[static_cast<std::size_t>(s - begin)];
        for (Index i = view.begin(j); i < view.end(j); ++i) {
          columns.set(filled, view.constituent(i).template cast<double>());
          columns.jet_log_pt[filled] = log_pt;
          columns.jet_log_e[filled] = log_e;
          columns.axis_eta[filled] = axis_eta;
          columns.axis_phi[filled] = axis_phi;
          if (++filled == FeatureColumns::kSize) {
            flush();
          }
        }
      }
      flush();
    });
  }

  /// Those of them that are more than standardised.
  template <typename Out>
  void write_changed(std::int64_t count, const FeatureColumns& columns, const FeatureKernels& kernels, Out* row) const {
    const FeatureRule& rule = features_.transformed();
    if (rule.count == 0) {
      return;
    }
    std::array<double, FeatureColumns::kSize * FeatureRule::kMost> values;
    kernels.tokens(count, columns, rule, values.data());
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t f = 0; f < rule.count; ++f) {
        const std::size_t place = features_.changed()[static_cast<std::size_t>(f)];
        row[i * features_.size() + static_cast<std::int64_t>(place)] =
            static_cast<Out>(features_.all()[place](values[static_cast<std::size_t>(i * rule.stride + f)]));
      }
    }
  }

  /// The features that are columns.
  template <typename Out, typename Scalar>
  void write_columns(Tokens& tokens, const Jets<Scalar>& jets, std::span<const Jets<Scalar>> views) const {
    Out* const token_rows = tokens.features.template mutable_data_ptr<Out>();
    for (const std::size_t f : features_.columns()) {
      const Feature& feature = features_.all()[f];
      std::int64_t token = 0;
      for (const Jets<Scalar>& view : views) {
        const auto column = features_.column(feature, view, view.offsets() != jets.offsets());
        for (std::int64_t i = 0; i < view.constituents(); ++i, ++token) {
          token_rows[token * features_.size() + static_cast<std::int64_t>(f)] = static_cast<Out>(feature(column(i)));
        }
      }
    }
  }

  template <typename Scalar>
  static void write_momenta(Tokens& tokens, std::span<const Jets<Scalar>> views, int threads) {
    tokens.momenta = at::empty({tokens.offsets.back(), 4}, at::kDouble);
    double* rows = tokens.momenta.template mutable_data_ptr<double>();
    for (const Jets<Scalar>& view : views) {
      parallel_for(view.constituents(), threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const FourMomentum<double> p = view.constituent(i).template cast<double>();
          const std::array<double, 4> row{pt(p), rapidity(p), phi(p), mass(p)};
          std::copy(row.begin(), row.end(), rows + 4 * i);
        }
      });
      rows += 4 * view.constituents();
    }
  }

  TokenFeatures features_;
  JetFeatures jet_features_;
  bool momenta_;
};

/// The tokens of all views of a batch of jets, on the CPU: as `Tokenizer`, which is made once for many batches.
template <typename Out = float, std::floating_point Scalar>
Tokens tokenize(const Jets<Scalar>& jets, std::span<const Jets<Scalar>> views, const TokenizerOptions& options,
                int threads = 1, simd::Target target = simd::best_target()) {
  return Tokenizer(options).operator()<Out>(jets, views, {}, threads, target);
}

}  // namespace rino
