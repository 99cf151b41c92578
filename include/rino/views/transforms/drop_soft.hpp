#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>

#include <rino/core/fields.hpp>
#include <rino/core/random.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/views/transforms/detail/rebuild.hpp>
#include <rino/views/transforms/draws.hpp>

namespace rino {

/// How soft constituents are lost.
struct DropSoftOptions {
  double scale = 0.5;
  double min_pt = 0.0;

  static constexpr auto fields() {
    using Self = DropSoftOptions;
    return std::tuple{
        Field{"scale", &Self::scale, "GeV", "a constituent is lost with probability exp(-pT / scale); 0 loses none"},
        Field{"min_pt", &Self::min_pt, "GeV", "constituents below this pT are always lost"},
    };
  }
};

/// Soft constituents dropped at random, the softer the more likely, as a detector's efficiency falls (this is not the
/// grooming called soft drop). Of a jet that would lose all, the hardest constituent stays.
///
/// The others keep their order and their extras; labels, values and origins ride along.
///
/// @throws rino::Error unless both options are finite and at least 0.
template <std::floating_point Scalar>
Jets<Scalar> drop_soft(const Jets<Scalar>& jets, const DropSoftOptions& options, const Draws& draws, int threads = 1) {
  detail::require_not_negative(options.scale, "the scale of the soft losses", " GeV");
  detail::require_not_negative(options.min_pt, "min_pt of the soft losses", " GeV");
  auto [offsets, rows] = detail::repeat_rows(jets, threads, [&](std::int64_t j, std::span<unsigned char> kept) {
    Random random = draws.random(detail::purpose("dropsoft"), j);
    std::size_t hardest = 0;
    double highest = -1.0;
    bool any = false;
    for (std::size_t k = 0; k < kept.size(); ++k) {
      const double transverse =
          pt<double>(jets.constituent(jets.begin(j) + static_cast<std::int64_t>(k)).template cast<double>());
      const double drawn = random.uniform();
      const bool lost =
          transverse < options.min_pt || (options.scale > 0 && drawn < std::exp(-transverse / options.scale));
      kept[k] = lost ? 0 : 1;
      any = any || !lost;
      if (transverse > highest) {
        highest = transverse;
        hardest = k;
      }
    }
    if (!any) {
      kept[hardest] = 1;
    }
  });
  return detail::pick_constituents(jets, std::move(offsets), rows, threads);
}

}  // namespace rino
