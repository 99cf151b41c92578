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
#include <rino/jets/normalization.hpp>
#include <rino/simd/target.hpp>
#include <rino/tokens/tokens.hpp>

namespace rino {

/// Turns views of jets into the network's tokens.
struct TokenizerOptions {
  FeatureSet features = FeatureSet::full;
  Normalization normalization = Normalization::workshop;
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

/// The tokens of all views of a batch of jets, on the CPU.
///
/// Everything is computed in double precision by SIMD kernels, with the same bits on every machine; the formulas are
/// those of `token_features` and `jet_features`.
///
/// @tparam Out     type of the features, float or double.
/// @param jets     the jets before clustering, n of them: the source of pT and E of each jet.
/// @param views    as `ViewGenerator` returns them: each has the same n jets in the same order.
/// @param threads  of this call; they do not change the result.
/// @param target   instructions to be used, of those that this machine has.
/// @returns Tokens of views.size() * n sequences: views in their order, in each the jets in theirs.
/// @throws rino::Error if a view does not have n jets, or this machine cannot run `target`.
template <typename Out = float, std::floating_point Scalar>
Tokens tokenize(const Jets<Scalar>& jets, std::span<const Jets<Scalar>> views, const TokenizerOptions& options,
                int threads = 1, simd::Target target = simd::best_target()) {
  using Index = std::int64_t;
  simd::require_supported(target);
  const Index n = jets.size();
  const FeatureRule rule(options.features, options.normalization);
  const auto jet_norm = jet_normalization(options.normalization);
  const FeatureKernels kernels = feature_kernels(target);

  Tokens tokens;
  const std::size_t sequences = views.size() * static_cast<std::size_t>(n);
  tokens.offsets.reserve(sequences + 1);
  tokens.view.reserve(sequences);
  tokens.jet.reserve(sequences);
  for (std::size_t v = 0; v < views.size(); ++v) {
    require(views[v].size() == n, "view ", v, " has ", views[v].size(), " jets of ", n,
            ": give the views that a ViewGenerator made of these jets");
    for (Index j = 0; j < n; ++j) {
      tokens.offsets.push_back(tokens.offsets.back() + views[v].multiplicity(j));
      tokens.view.push_back(static_cast<Index>(v));
      tokens.jet.push_back(j);
    }
  }

  const auto type = std::is_same_v<Out, double> ? at::kDouble : at::kFloat;
  tokens.features = at::empty({tokens.offsets.back(), rule.count}, type);
  tokens.jet_features = at::empty({tokens.sequences(), 4}, type);
  Out* const token_rows = tokens.features.template mutable_data_ptr<Out>();
  Out* const jet_rows = tokens.jet_features.template mutable_data_ptr<Out>();

  std::vector<std::array<double, 4>> whole(static_cast<std::size_t>(n));  // log E, log pT, eta and phi of every jet
  parallel_for(n, threads, [&](Index begin, Index end) {
    detail::for_each_kinematics(
        begin, end, kernels, [&](Index j) { return jets.four_momentum(j); },
        [&](Index j, const FeatureColumns& c, Index i) {
          whole[static_cast<std::size_t>(j)] = {c.log_e[i], c.log_pt[i], c.eta[i], c.phi[i]};
        });
  });
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
    Out* row = begin < end ? token_rows + tokens.first(begin) * rule.count : token_rows;
    const auto flush = [&] {
      columns.pad(filled);
      kernels.tokens(filled, columns, rule, row);
      row += filled * rule.count;
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
      Out* const jet_row = jet_rows + s * 4;
      const std::array<double, 4> features{log_e, log_pt, eta, phi};
      for (std::size_t f = 0; f < features.size(); ++f) {
        jet_row[f] = static_cast<Out>(jet_norm[f](features[f]));
      }
    }
    flush();
  });
  return tokens;
}

}  // namespace rino
