#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include <rino/core/named_enum.hpp>
#include <rino/simd/target.hpp>

namespace rino {

/// What does the clustering. The views are the same. In programs without FastJet the plain clusterer stands for it.
enum class ViewBackend {
  automatic,  ///< FastClusterer where it knows the algorithm and the radius, else FastJet
  fast,       ///< FastClusterer; FastJet for the few jets that it leaves undecided or that have too many constituents
  fastjet,    ///< FastJet, one jet at a time: the reference
};

template <>
inline constexpr std::array enum_names<ViewBackend> = {
    std::pair{ViewBackend::automatic, std::string_view("auto")},
    std::pair{ViewBackend::fast, std::string_view("fast")},
    std::pair{ViewBackend::fastjet, std::string_view("fastjet")},
};

/// How views are made.
struct ViewOptions {
  /// R of the clustering distances, in (0, 1000].
  double radius = 0.8;
  /// Number of threads, 1 or more; the views do not depend on it. A backend that is not thread-safe uses one.
  int threads = 1;
  ViewBackend backend = ViewBackend::automatic;
  /// The instruction set of the fast backend; none: the widest of this machine. The views do not depend on it.
  std::optional<simd::Target> target = std::nullopt;
};

}  // namespace rino
