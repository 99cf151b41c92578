#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include <rino/core/error.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/io/safetensors.hpp>
#include <rino/methods/finetuning.hpp>
#include <rino/nn/encoder.hpp>
#include <rino/nn/module.hpp>
#include <rino/nn/tagger.hpp>
#include <rino/nn/tagger_head.hpp>
#include <rino/recipe/recipe.hpp>
#include <rino/recipe/toml.hpp>

/// Encoders and taggers from the files that Python writes. Not part of `rino.hpp`: it needs toml++, as toml.hpp does.
namespace rino {

namespace detail {

/// What a file says of its networks. @throws rino::Error if it is another kind of file, or of before format 2.
inline Recipe recipe_of(const Safetensors& file, const std::string& kind, const std::string& path) {
  const auto known = file.metadata.find("kind");
  const std::string found = known == file.metadata.end() ? "of unknown kind" : known->second;
  require(found == kind, path, " is no ", kind, " but '", found, "': give what pyrino's save wrote");
  const auto text = file.metadata.find("toml");
  require(text != file.metadata.end(), path, " was written by an older version: load and save it once with pyrino");
  return parse_recipe(text->second, path);
}

/// Gives a network its tensors, "prefix.name" in the file, and evaluation mode.
inline void fill(torch::nn::Module& module, const Safetensors& file, const std::string& prefix,
                 const std::string& path) {
  const at::NoGradGuard no_grad;
  const std::vector<TensorSlot> slots = tensor_slots(module);
  require(!slots.empty() && file.contains(prefix + slots.front().name), path, " has no '",
          slots.empty() ? prefix : prefix + slots.front().name,
          "': it is of another architecture than its recipe says");
  module.to(file.at(prefix + slots.front().name).scalar_type());
  for (const TensorSlot& slot : slots) {
    require(file.contains(prefix + slot.name), path, " has no '", prefix + slot.name,
            "': it is of another architecture than its recipe says");
    slot.require_shape(file.at(prefix + slot.name));
    slot.tensor().copy_(file.at(prefix + slot.name));
  }
  module.eval();
}

}  // namespace detail

/// An encoder that `pyrino.pretrain` or `Encoder.save` wrote, in evaluation mode, on the CPU.
/// @throws rino::Error if there is none, or it is damaged or does not fit its own recipe.
inline std::shared_ptr<Encoder> read_encoder(const std::filesystem::path& path) {
  const Safetensors file = read_safetensors(path);
  std::shared_ptr<Encoder> encoder = detail::recipe_of(file, "encoder", path.string()).make_encoder();
  detail::fill(*encoder->module(), file, "", path.string());
  return encoder;
}

/// A tagger that `pyrino.finetune`, `train_supervised` or `Tagger.save` wrote, in evaluation mode, on the CPU.
/// @throws rino::Error as `read_encoder`.
inline Tagger read_tagger(const std::filesystem::path& path) {
  const Safetensors file = read_safetensors(path);
  const Recipe recipe = detail::recipe_of(file, "tagger", path.string());
  const auto kind = file.metadata.find("head");
  require(kind != file.metadata.end(), path.string(), " does not say its head: give what pyrino's save wrote");
  const auto& options = recipe.get<FinetuningOptions>("finetune");
  Tagger tagger;
  tagger.encoder = recipe.make_encoder();
  tagger.plan = options.plan();
  tagger.plan.check();
  tagger.head = make_tagger_head(options, parse_enum<HeadKind>(kind->second, "head"), tagger.encoder->outputs(),
                                 tagger.plan.outputs());
  if (tagger.plan.task == Task::regression) {
    for (const auto& [name, tensor] : {std::pair{"mean", &tagger.mean}, std::pair{"deviation", &tagger.deviation}}) {
      require(file.contains(name), path.string(), " has no '", name, "': it is damaged");
      *tensor = file.at(name);
    }
  }
  detail::fill(*tagger.encoder->module(), file, "encoder.", path.string());
  detail::fill(*tagger.head, file, "head.", path.string());
  return tagger;
}

}  // namespace rino
