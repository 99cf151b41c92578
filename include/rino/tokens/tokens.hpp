#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/placement.hpp>

namespace rino {

/// The network's only input: sequences of any lengths, packed one behind the other without padding.
///
/// A sequence is one view of one jet. Sequences stand in the order of their views and, within a view, of their jets, so
/// that what a network makes of them can be put beside labels as it comes.
struct Tokens {
  at::Tensor features;                   ///< [T, F], floating point: the tokens of all sequences
  at::Tensor jet_features;               ///< [S, J], floating point: features of the jet a sequence belongs to
  std::vector<std::int64_t> offsets{0};  ///< [S+1]: tokens of sequence s are rows offsets[s] .. offsets[s+1]-1
  std::vector<std::int64_t> view;        ///< [S], rising: which view a sequence is
  std::vector<std::int64_t> jet;         ///< [S], rising within a view: which jet of the batch a sequence shows
  at::Tensor masked;                     ///< [T], bool: whose features are hidden from the encoder; undefined: no one's
  at::Tensor momenta;                    ///< [T, 4], float64: pT, rapidity, phi, mass; undefined unless asked for

  std::int64_t sequences() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t length(std::int64_t s) const {
    return offsets[static_cast<std::size_t>(s) + 1] - offsets[static_cast<std::size_t>(s)];
  }
  std::int64_t first(std::int64_t s) const { return offsets[static_cast<std::size_t>(s)]; }

  /// Whoever reads by offsets asks first: a part may have been exchanged or resized.
  /// @throws rino::Error if the parts do not fit each other or sequences are not in order.
  void check() const {
    constexpr std::string_view remedy = ": parts were exchanged or resized: make Tokens with tokenize or from_padded";
    const std::int64_t count = sequences();
    require(offsets.size() == view.size() + 1 && view.size() == jet.size(), "there are ", offsets.size(),
            " offsets, views of ", view.size(), " sequences and jets of ", jet.size(), remedy);
    require(features.dim() == 2 && offsets.front() == 0 && offsets.back() == features.size(0), "features have shape ",
            features.sizes(), " and offsets end with ", offsets.back(), remedy);
    require(jet_features.dim() == 2 && jet_features.size(0) == count, "jet_features have shape ", jet_features.sizes(),
            " for ", count, " sequences", remedy);
    require(!masked.defined() ||
                (masked.scalar_type() == at::kBool && masked.dim() == 1 && masked.size(0) == features.size(0)),
            "the mask of ", features.size(0), " tokens is ", masked.defined() ? masked.toString() : "", " of shape ",
            masked.defined() ? masked.sizes() : at::IntArrayRef(),
            ": give one bool per token, true where it is hidden");
    require(!momenta.defined() || (momenta.scalar_type() == at::kDouble && momenta.dim() == 2 &&
                                   momenta.size(0) == features.size(0) && momenta.size(1) == 4),
            "the momenta of ", features.size(0), " tokens are ", momenta.defined() ? momenta.toString() : "",
            " of shape ", momenta.defined() ? momenta.sizes() : at::IntArrayRef(),
            ": give float64 [T, 4] of pT, rapidity, phi and mass");
    for (std::size_t s = 0; s < view.size(); ++s) {
      require(offsets[s] < offsets[s + 1], "offsets go from ", offsets[s], " to ", offsets[s + 1], " at sequence ", s,
              remedy);
      require(s == 0 ? view[s] >= 0 : std::pair(view[s - 1], jet[s - 1]) < std::pair(view[s], jet[s]), "sequence ", s,
              " is view ", view[s], " of jet ", jet[s], ", behind one that should follow it", remedy);
    }
  }

  /// The number of sequences of every view, [views].
  std::vector<std::int64_t> view_sizes() const {
    std::vector<std::int64_t> sizes;
    for (const std::int64_t v : view) {
      sizes.resize(std::max(sizes.size(), static_cast<std::size_t>(v) + 1));
      ++sizes[static_cast<std::size_t>(v)];
    }
    return sizes;
  }

  /// The sequences of one view, which follow each other: int64 [n] on the features' device.
  /// @throws rino::Error if there is no such view. Of no sequences at all every view is empty.
  at::Tensor rows(std::int64_t wanted) const {
    require(wanted >= 0 && (view.empty() || wanted <= view.back()), "view ", wanted, " was asked for, of ",
            view.empty() ? 0 : view.back() + 1, ": views count from 0");
    const auto [first, last] = std::equal_range(view.begin(), view.end(), wanted);
    return at::arange(first - view.begin(), last - view.begin(), at::TensorOptions(features.device()).dtype(at::kLong));
  }

  /// The same tokens on a device and of a floating-point type, momenta float64 as ever. From pinned memory the copy is
  /// not waited for.
  Tokens to(const at::TensorOptions& options) const {
    Tokens moved = *this;
    moved.features = features.to(options, /*non_blocking=*/features.is_pinned());
    moved.jet_features = jet_features.to(options, /*non_blocking=*/jet_features.is_pinned());
    if (masked.defined()) {
      moved.masked = masked.to(options.device(), /*non_blocking=*/masked.is_pinned());
    }
    if (momenta.defined()) {
      moved.momenta = momenta.to(options.device(), /*non_blocking=*/momenta.is_pinned());
    }
    return moved;
  }

  /// The same tokens in pinned memory, from where a CUDA device fetches them while the CPU does something else.
  Tokens pin_memory() const {
    Tokens pinned = *this;
    pinned.features = features.pin_memory();
    pinned.jet_features = jet_features.pin_memory();
    if (masked.defined()) {
      pinned.masked = masked.pin_memory();
    }
    if (momenta.defined()) {
      pinned.momenta = momenta.pin_memory();
    }
    return pinned;
  }

  /// The first `views` views alone.
  Tokens first_views(std::int64_t views) const { return some_views(0, views); }

  /// The views `first` to `first + count - 1` alone, which are then views 0 to `count - 1`.
  Tokens some_views(std::int64_t first, std::int64_t count) const {
    const auto begin = std::lower_bound(view.begin(), view.end(), first);
    const auto end = std::lower_bound(begin, view.end(), first + count);
    const std::int64_t from = begin - view.begin();
    const std::int64_t to = end - view.begin();
    const std::int64_t row = offsets[static_cast<std::size_t>(from)];
    Tokens part;
    part.offsets.assign(offsets.begin() + from, offsets.begin() + to + 1);
    part.view.assign(begin, end);
    part.jet.assign(jet.begin() + from, jet.begin() + to);
    for (std::int64_t& offset : part.offsets) {
      offset -= row;
    }
    for (std::int64_t& v : part.view) {
      v -= first;
    }
    part.features = features.narrow(0, row, part.offsets.back());
    part.jet_features = jet_features.narrow(0, from, to - from);
    if (masked.defined()) {
      part.masked = masked.narrow(0, row, part.offsets.back());
    }
    if (momenta.defined()) {
      part.momenta = momenta.narrow(0, row, part.offsets.back());
    }
    return part;
  }

  /// Padded features [S, N, F] and a bool mask [S, N], true where a token is; N is the longest sequence. Rows of
  /// padding are 0.
  std::pair<at::Tensor, at::Tensor> padded() const {
    std::int64_t longest = 0;
    for (std::int64_t s = 0; s < sequences(); ++s) {
      longest = std::max(longest, length(s));
    }
    std::vector<std::int64_t> slots;
    slots.reserve(static_cast<std::size_t>(offsets.back()));
    for (std::int64_t s = 0; s < sequences(); ++s) {
      for (std::int64_t i = 0; i < length(s); ++i) {
        slots.push_back(s * longest + i);
      }
    }
    const at::Tensor slot = index_tensor(std::span<const std::int64_t>(slots), features.device());
    const std::int64_t width = features.size(1);
    const at::Tensor flat = at::zeros({sequences() * longest, width}, features.options()).index_copy(0, slot, features);
    const at::Tensor mask =
        at::zeros({sequences() * longest}, features.options().dtype(at::kBool)).index_fill(0, slot, 1);
    return {flat.view({sequences(), longest, width}), mask.view({sequences(), longest})};
  }

  /// Tokens from padded features [S, N, F], a bool mask [S, N] (true where a token is), jet features [S, J] and, where
  /// there are any, momenta [S, N, 4]: one view, jets in their order.
  /// @throws rino::Error if the shapes do not fit or a sequence has no token.
  static Tokens from_padded(const at::Tensor& features, const at::Tensor& mask, const at::Tensor& jet_features,
                            const at::Tensor& padded_momenta = {}) {
    require(features.dim() == 3 && mask.dim() == 2 && jet_features.dim() == 2,
            "padded features, mask and jet features have ", features.dim(), ", ", mask.dim(), " and ",
            jet_features.dim(), " dimensions: give [S, N, F], [S, N] and [S, J]");
    require(
        features.size(0) == mask.size(0) && features.size(1) == mask.size(1) && jet_features.size(0) == mask.size(0),
        "features ", features.sizes(), ", mask ", mask.sizes(), " and jet features ", jet_features.sizes(),
        " do not fit: give [S, N, F], [S, N] and [S, J]");
    require(mask.scalar_type() == at::kBool, "the mask is of type ", mask.scalar_type(),
            ": give bool, true for tokens");
    const at::Tensor counts = mask.sum(1).cpu();
    Tokens tokens;
    for (std::int64_t s = 0; s < counts.size(0); ++s) {
      const auto count = counts[s].item<std::int64_t>();
      require(count > 0, "sequence ", s, " of the mask has no token: every jet needs one or more");
      tokens.offsets.push_back(tokens.offsets.back() + count);
    }
    tokens.view.assign(static_cast<std::size_t>(counts.size(0)), 0);
    tokens.jet.resize(static_cast<std::size_t>(counts.size(0)));
    std::iota(tokens.jet.begin(), tokens.jet.end(), std::int64_t{0});
    tokens.features = features.index({mask});
    tokens.jet_features = jet_features;
    if (padded_momenta.defined()) {
      require(padded_momenta.dim() == 3 && padded_momenta.size(2) == 4 &&
                  padded_momenta.sizes().slice(0, 2) == mask.sizes() && padded_momenta.scalar_type() == at::kDouble,
              "the momenta are ", padded_momenta.toString(), " of shape ", padded_momenta.sizes(),
              ": give float64 [S, N, 4] of pT, rapidity, phi and mass");
      tokens.momenta = padded_momenta.index({mask});
    }
    return tokens;
  }
};

}  // namespace rino
