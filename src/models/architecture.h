// The registry of architectures: a row of the table in architectures.cc and a file of its own for
// each. Any thread.
#pragma once

#include <cmath>
#include <span>
#include <string_view>

#include "models/blocks.h"
#include "models/hyperparameters.h"
#include "models/model.h"
#include "models/tensor_rules.h"

namespace shoal {

struct Architecture {
  std::string_view name;  // general.architecture
  std::span<const TensorRule> tensors;
  // Adds to what every model has (layers, widths, heads, context, epsilon, plain rope over halves
  // of the head); tensors are checked by the caller.
  Status (*describe)(const Hyperparameters& keys, ModelDescription& model);
  void (*build)(ProgramBuilder& build, const ModelDescription& model);  // the cut has been checked
  // `describe` reads heads, their widths and that of the feed-forward too: they differ from layer
  // to layer.
  bool shapes_layers = false;
};

// What a decoder's layers have in common.
struct LayerForm {
  BlockNorms attention = kAttentionNorms;
  BlockNorms feed_forward = kFeedForwardNorms;
  Activation activation = Activation::kSilu;
  ProgramBuilder::AttentionOrder order = {};
};
// A decoder of layers that are all alike: attention, then a feed-forward or experts, by what the
// layer has.
void build_layers(ProgramBuilder& build, const ModelDescription& model, const LayerForm& form);
void build_decoder(ProgramBuilder& build, const ModelDescription& model);  // of the plain form

// The expert_* keys, over what an architecture takes for granted; no experts without their count.
// `shared_width` may be set before.
Status read_mixture(const Hyperparameters& keys, ModelDescription& model, Routing routing);

const Architecture* find_architecture(std::string_view name);  // nullptr for an unknown one

// All of them, one line each.
#define SHOAL_ARCHITECTURE(name) extern const Architecture name;
#include "models/architectures.inc"
#undef SHOAL_ARCHITECTURE

}  // namespace shoal
