#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <ostream>
#include <string_view>
#include <utility>

#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/nn/module.hpp>

namespace rino {

/// How the encoder learns where in the jet a token lies.
enum class Positions {
  none,   ///< by its features alone
  polar,  ///< by `PolarPositions`, too
};

template <>
inline constexpr std::array enum_names<Positions> = {
    std::pair{Positions::none, std::string_view("none")},
    std::pair{Positions::polar, std::string_view("polar")},
};

/// How radius and angle become bins.
enum class PolarBins {
  round,  ///< as published: to the nearest of radii u = 0, 1/(n - 1), ..., 1 and of n directions; the first is angle 0
  floor,  ///< into n equal parts of u = [0, 1] and of a turn: what rino did before it knew
};

template <>
inline constexpr std::array enum_names<PolarBins> = {
    std::pair{PolarBins::round, std::string_view("round")},
    std::pair{PolarBins::floor, std::string_view("floor")},
};

/// Options of `PolarPositions`.
struct PolarPositionsOptions {
  std::int64_t width;
  std::int64_t radial_bins = 100;
  std::int64_t angular_bins = 100;
  double knee = 0.96;   ///< standardised radius around which the bins change from equal to growing widths
  double range = 5.60;  ///< standardised radius of the last bin; what lies beyond is in it, too
  PolarBins bins = PolarBins::round;
};

/// A learned vector for every bin of radius and angle around the axis of a view: the table [radial_bins, angular_bins,
/// width], initial values from N(0, 0.02).
///
/// Radial bins have equal widths in u = log(1 + r/knee) / log(1 + range/knee). Angular bins close to a circle: the last
/// one's neighbour is the first, and rotating a jet by whole bins moves each constituent by so many bins.
class PolarPositionsImpl : public Leaf<PolarPositionsImpl> {
 public:
  /// @throws rino::Error for less than one bin, or a knee or range that is not above 0.
  explicit PolarPositionsImpl(const PolarPositionsOptions& options) : options(options) {
    require(options.radial_bins > 0 && options.angular_bins > 0, "radial_bins and angular_bins are ",
            options.radial_bins, " and ", options.angular_bins, ": choose 1 or more");
    require(options.knee > 0 && options.range > 0 && std::isfinite(options.knee) && std::isfinite(options.range),
            "radial_knee and radial_range are ", options.knee, " and ", options.range, ": choose positive numbers");
    reset();
  }

  void reset() override {
    own("table", &PolarPositionsImpl::table, torch::zeros({options.radial_bins, options.angular_bins, options.width}));
  }

  void initialize(const at::Generator& generator) override {
    torch::NoGradGuard no_grad;
    table.normal_(0.0, 0.02, generator);
  }

  void pretty_print(std::ostream& stream) const override {
    stream << "rino::PolarPositions(" << options.radial_bins << " x " << options.angular_bins << " -> " << options.width
           << ")";
  }

  /// Radial and angular bin of every token, both int64 [T].
  /// @param features  [T, F], the last two the standardised delta eta and delta phi, as all feature sets have them.
  std::pair<at::Tensor, at::Tensor> bins(const at::Tensor& features) const {
    const at::Tensor where = features.detach();
    const at::Tensor eta = where.select(1, where.size(1) - 2);
    const at::Tensor phi = where.select(1, where.size(1) - 1);
    const bool nearest = options.bins == PolarBins::round;
    const auto last = options.radial_bins - 1;
    const double scale =
        static_cast<double>(nearest ? last : options.radial_bins) / std::log1p(options.range / options.knee);
    const auto whole = [&](const at::Tensor& x) { return nearest ? x.round() : x.floor(); };
    // Cut before the conversion, where a radius may be huge, and after it, where NaN may have become anything: a jet
    // that is not finite has an embedding that is not, and breaks nothing else.
    const at::Tensor radial =
        whole(at::hypot(eta, phi).div(options.knee).log1p().mul(scale)).clamp_max(last).to(at::kLong).clamp(0, last);
    const double per_turn = static_cast<double>(options.angular_bins) / (2 * std::numbers::pi);
    const at::Tensor angular = whole(at::atan2(phi, eta).mul(per_turn)).to(at::kLong).remainder(options.angular_bins);
    return {radial, angular};
  }

  /// [T, F] -> [T, width], the table's entries.
  at::Tensor forward(const at::Tensor& features) {
    const auto [radial, angular] = bins(features);
    return at::embedding(table.flatten(0, 1), radial * options.angular_bins + angular);
  }

  PolarPositionsOptions options;
  at::Tensor table;  ///< [radial_bins, angular_bins, width]
};

TORCH_MODULE(PolarPositions);

}  // namespace rino
