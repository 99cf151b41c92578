#pragma once

#include <string>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/io/safetensors.hpp>

namespace rino {

/// A tensor of a checkpoint by its name today.
/// @throws rino::Error unless it is there with that shape and type.
inline const at::Tensor& saved_tensor(const Safetensors& file, const std::string& name, at::IntArrayRef sizes,
                                      at::ScalarType type) {
  // What checkpoints of before format 2 call it.
  const std::string once = name.starts_with("trained.") ? "student." + name.substr(8) : name;
  const std::string& known = file.contains(name) ? name : once;
  require(file.contains(known), "the checkpoint has no '", name,
          "': it is of another architecture: use the recipe it was made with");
  const at::Tensor& saved = file.at(known);
  require(saved.sizes() == sizes, "'", name, "' has shape ", saved.sizes(), " in the checkpoint and ", sizes,
          " here: it is of another architecture: use the recipe it was made with");
  require(saved.scalar_type() == type, "'", name, "' is ", saved.scalar_type(), " in the checkpoint and ", type,
          " here: resume with the type it was made with");
  return saved;
}

/// Whole numbers of a checkpoint.
inline std::vector<std::int64_t> saved_numbers(const Safetensors& file, const std::string& name) {
  require(file.contains(name), "the checkpoint has no '", name, "': it is of another kind of run");
  const at::Tensor numbers = file.at(name).to(at::kLong).contiguous().reshape({-1});
  return {numbers.const_data_ptr<std::int64_t>(), numbers.const_data_ptr<std::int64_t>() + numbers.numel()};
}

}  // namespace rino
