#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <rino/nn/encoder.hpp>
#include <rino/nn/flat_parameters.hpp>

namespace rino {

/// Factors on the learning rate by the name of a network; absent: 1.
using NetworkRates = std::map<std::string, double, std::less<>>;

/// Consecutive values of a flat buffer that the optimiser treats alike.
struct ParameterGroup {
  std::int64_t begin = 0;
  std::int64_t size = 0;
  double lr_scale = 1.0;  ///< of the learning rate
  bool decays = true;     ///< whether weight decay acts on them
};

namespace detail {

/// Matrices decay; norms, biases and scales, which have one dimension, do not, nor tokens and positions.
inline bool is_matrix(std::string_view name, const at::Tensor& tensor) {
  return tensor.dim() >= 2 && (name == "weight" || name.ends_with(".weight"));
}

}  // namespace detail

/// Groups of the optimiser, in the buffer's order.
///
/// The learning rate falls by `layer_decay` from every layer of an encoder to the one before it: what has no depth has
/// the whole rate, what has depth d the power d of it (BEiT, arXiv:2106.08254).
///
/// @param depths     of the encoders' tensors.
/// @param decay_all  weight decay of every value, not of matrices alone.
/// @param rates      of the networks, "network.layer.name".
inline std::vector<ParameterGroup> parameter_groups(const NamedTensors& parameters, const Depths& depths,
                                                    double layer_decay, bool decay_all,
                                                    const NetworkRates& rates = {}) {
  std::vector<ParameterGroup> groups;
  std::int64_t begin = 0;
  for (const auto& [name, tensor] : parameters) {
    const auto depth = depths.find(name);
    const auto rate = rates.find(name.substr(0, name.find('.')));
    const double scale = (rate == rates.end() ? 1.0 : rate->second) *
                         std::pow(layer_decay, depth == depths.end() ? 0.0 : static_cast<double>(depth->second));
    const ParameterGroup group{begin, tensor.numel(), scale, decay_all || detail::is_matrix(name, tensor)};
    begin += group.size;
    if (!groups.empty() && groups.back().lr_scale == group.lr_scale && groups.back().decays == group.decays) {
      groups.back().size += group.size;
    } else {
      groups.push_back(group);
    }
  }
  return groups;
}

}  // namespace rino
