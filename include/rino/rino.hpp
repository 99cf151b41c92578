#pragma once

/// rino: pretraining on jets without labels, along the renormalisation-group flow. Everything in one include.

#include <rino/core/error.hpp>
#include <rino/core/random.hpp>
#include <rino/core/version.hpp>
#include <rino/io/safetensors.hpp>
#include <rino/jets/features.hpp>
#include <rino/jets/jets.hpp>
#include <rino/jets/kinematics.hpp>
#include <rino/jets/normalization.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/losses/centering.hpp>
#include <rino/losses/dino.hpp>
#include <rino/losses/koleo.hpp>
#include <rino/losses/sinkhorn.hpp>
#include <rino/methods/finetuning.hpp>
#include <rino/methods/self_distillation.hpp>
#include <rino/nn/embed.hpp>
#include <rino/nn/jet_encoder.hpp>
#include <rino/nn/precision.hpp>
#include <rino/nn/projection_head.hpp>
#include <rino/nn/tokenizer.hpp>
#include <rino/nn/tokens.hpp>
#include <rino/nn/view_tokenizer.hpp>
#include <rino/recipe.hpp>
#include <rino/train/adamw.hpp>
#include <rino/train/ema.hpp>
#include <rino/train/loader.hpp>
#include <rino/train/method.hpp>
#include <rino/train/schedule.hpp>
#include <rino/train/trainer.hpp>
#include <rino/views/algorithm.hpp>
#include <rino/views/resolution.hpp>
#include <rino/views/transforms/boost.hpp>
#include <rino/views/transforms/hardest.hpp>
#include <rino/views/view_generator.hpp>
