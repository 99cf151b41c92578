#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <rino/nn/flat_parameters.hpp>

namespace rino {

/// Consecutive values of a flat buffer that the optimiser treats alike.
struct ParameterGroup {
  std::int64_t begin = 0;
  std::int64_t size = 0;
  double lr_scale = 1.0;  ///< of the learning rate
  bool decays = true;     ///< whether weight decay acts on them
};

namespace detail {

/// Number of the block that a tensor of an encoder belongs to, -1 for one in front of all blocks, `kLastNorm` and
/// `kTop` for what comes behind them, by the tensor's name.
inline constexpr std::int64_t kTop = -2;
inline constexpr std::int64_t kLastNorm = -3;

inline std::int64_t block_of(std::string_view name) {
  constexpr std::string_view encoder = "encoder.";
  constexpr std::string_view blocks = "blocks.";
  if (!name.starts_with(encoder)) {
    return kTop;
  }
  name.remove_prefix(encoder.size());
  if (name.starts_with("norm.")) {
    return kLastNorm;
  }
  if (name.starts_with("pool.")) {
    return kTop;
  }
  if (!name.starts_with(blocks)) {
    return -1;
  }
  name.remove_prefix(blocks.size());
  std::int64_t block = 0;
  std::from_chars(name.data(), name.data() + name.size(), block);
  return block;
}

/// Matrices decay; norms, biases and scales, which have one dimension, do not, nor tokens and positions.
inline bool is_matrix(std::string_view name, const at::Tensor& tensor) {
  return tensor.dim() >= 2 && (name == "weight" || name.ends_with(".weight"));
}

}  // namespace detail

/// Groups of the optimiser, in the buffer's order.
///
/// The learning rate falls by `layer_decay` from every layer of the module `encoder` to the one before it: the heads
/// and the pooling have the whole rate, block b of L the power L - b, the last norm that of the last block, 1, what
/// lies before the blocks L + 1 (BEiT, arXiv:2106.08254).
///
/// @param decay_all  weight decay of every value, not of matrices alone.
inline std::vector<ParameterGroup> parameter_groups(const NamedTensors& parameters, double layer_decay,
                                                    bool decay_all) {
  std::int64_t layers = 0;
  for (const auto& [name, tensor] : parameters) {
    layers = std::max(layers, detail::block_of(name) + 1);
  }
  std::vector<ParameterGroup> groups;
  std::int64_t begin = 0;
  for (const auto& [name, tensor] : parameters) {
    const std::int64_t block = detail::block_of(name);
    const std::int64_t below = block == detail::kTop ? 0 : block == detail::kLastNorm ? 1 : layers - block;
    const ParameterGroup group{begin, tensor.numel(), std::pow(layer_decay, static_cast<double>(below)),
                               decay_all || detail::is_matrix(name, tensor)};
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
