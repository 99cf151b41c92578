#pragma once

#include <memory>
#include <utility>

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <rino/nn/encoder.hpp>
#include <rino/nn/flat_parameters.hpp>
#include <rino/nn/projection_head.hpp>

namespace rino {

/// Encoder and projection heads: what student and teacher are made of.
class EncoderWithHeadsImpl : public torch::nn::Cloneable<EncoderWithHeadsImpl> {
 public:
  /// @param jets       whether there is a head for jets.
  /// @param particles  and one for constituents, of the same sizes.
  EncoderWithHeadsImpl(std::shared_ptr<Encoder> encoder, const ProjectionHeadOptions& head_options, bool jets,
                       bool particles)
      : encoder(std::move(encoder)), head_options(head_options), jets(jets), particles(particles) {
    reset();
  }

  void reset() override {
    encoder = std::dynamic_pointer_cast<Encoder>(encoder->module()->clone());  // a clone's own, not the original's
    register_module("encoder", encoder->module());
    ProjectionHeadOptions sizes = head_options;
    if (jets) {
      sizes.inputs = encoder->outputs();
      head = register_module("head", ProjectionHead(sizes));
    }
    if (particles) {
      sizes.inputs = encoder->width();
      particle_head = register_module("particle_head", ProjectionHead(sizes));
    }
  }

  /// The networks that there are, by name.
  Modules networks() const {
    Modules all{{"encoder", encoder->module()}};
    if (jets) {
      all.emplace_back("head", head.ptr());
    }
    if (particles) {
      all.emplace_back("particle_head", particle_head.ptr());
    }
    return all;
  }

  std::shared_ptr<Encoder> encoder;
  ProjectionHeadOptions head_options;
  bool jets;
  bool particles;
  ProjectionHead head{nullptr};
  ProjectionHead particle_head{nullptr};
};

TORCH_MODULE(EncoderWithHeads);

}  // namespace rino
