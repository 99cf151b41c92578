#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/parallel.hpp>
#include <rino/jets/features.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/normalization.hpp>
#include <rino/nn/tokens.hpp>

namespace rino {

/// Turns views of jets into the network's tokens.
struct TokenizerOptions {
  FeatureSet features = FeatureSet::full;
  Normalization normalization = Normalization::workshop;
};

/// The tokens of all views of a batch of jets, on the CPU.
///
/// @tparam Out   type of the features, float or double; they are computed in `Scalar`.
/// @param jets   the jets before clustering, n of them: the source of pT and E of each jet.
/// @param views  as `ViewGenerator` returns them: each has the same n jets in the same order.
/// @returns Tokens of views.size() * n sequences, views in their order.
/// @throws rino::Error if a view does not have n jets.
template <typename Out = float, std::floating_point Scalar>
Tokens tokenize(const Jets<Scalar>& jets, std::span<const Jets<Scalar>> views, const TokenizerOptions& options,
                int threads = 1) {
  using Index = std::int64_t;
  const Index n = jets.size();
  const std::span<const std::size_t> picked = feature_indices(options.features);
  const auto width = static_cast<Index>(picked.size());
  const auto token_norm = token_normalization(options.normalization);
  const auto jet_norm = jet_normalization(options.normalization);

  Tokens tokens;
  const std::size_t sequences = views.size() * static_cast<std::size_t>(n);
  tokens.offsets.reserve(sequences + 1);
  tokens.view.reserve(sequences);
  tokens.jet.reserve(sequences);
  std::vector<Index> order(static_cast<std::size_t>(n));
  for (std::size_t v = 0; v < views.size(); ++v) {
    require(views[v].size() == n, "view ", v, " has ", views[v].size(), " jets of ", n,
            ": give the views that a ViewGenerator made of these jets");
    std::iota(order.begin(), order.end(), Index{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](Index a, Index b) { return views[v].multiplicity(a) < views[v].multiplicity(b); });
    for (const Index j : order) {
      tokens.offsets.push_back(tokens.offsets.back() + views[v].multiplicity(j));
      tokens.view.push_back(static_cast<Index>(v));
      tokens.jet.push_back(j);
    }
  }

  const auto type = std::is_same_v<Out, double> ? at::kDouble : at::kFloat;
  tokens.features = at::empty({tokens.offsets.back(), width}, type);
  tokens.jet_features = at::empty({tokens.sequences(), 4}, type);
  Out* const token_rows = tokens.features.template mutable_data_ptr<Out>();
  Out* const jet_rows = tokens.jet_features.template mutable_data_ptr<Out>();
  parallel_for(tokens.sequences(), threads, [&](Index begin, Index end) {
    for (Index s = begin; s < end; ++s) {
      const auto slot = static_cast<std::size_t>(s);
      const Jets<Scalar>& view = views[static_cast<std::size_t>(tokens.view[slot])];
      const Index j = tokens.jet[slot];
      const FourMomentum<Scalar> jet = jets.four_momentum(j);
      const JetFrame<Scalar> frame = JetFrame<Scalar>::make(jet, view.four_momentum(j));
      Out* row = token_rows + tokens.offsets[slot] * width;
      for (Index i = view.begin(j); i < view.end(j); ++i) {
        const std::array<Scalar, 11> all = token_features(view.constituent(i), frame);
        for (const std::size_t f : picked) {
          *row++ = static_cast<Out>(token_norm[f](all[f]));
        }
      }
      const std::array<Scalar, 4> whole = jet_features(jet);
      for (std::size_t f = 0; f < whole.size(); ++f) {
        jet_rows[static_cast<std::size_t>(s) * whole.size() + f] = static_cast<Out>(jet_norm[f](whole[f]));
      }
    }
  });
  return tokens;
}

}  // namespace rino
