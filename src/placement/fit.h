// Cutting a model over a group of nodes so that every rank fits its node. Pure; any thread.
#pragma once

#include <span>
#include <vector>

#include "models/model.h"
#include "placement/cost.h"
#include "placement/placement.h"

namespace shoal::placement {

uint64_t free_bytes(const NodeFacts& node);

// Shares that add up to 1: in proportion to `weights`, none above its cap; what a full one cannot
// take goes to the others in proportion to theirs. When the caps add up to less than 1 the shares
// follow the caps.
std::vector<double> fill_shares(std::span<const double> weights, std::span<const double> caps);

using StageNodes = std::vector<const NodeFacts*>;

struct Fit {
  std::vector<RankCut> cuts;  // stage by stage, with layers where there are several
  std::vector<RankNeed> needs;
  bool fits = false;
  size_t worst_rank = 0;  // the one that lacks most, when it does not fit
};

// Shares follow the nodes' read bandwidth (decode is bound by it); where rounding to whole units
// leaves a rank over its memory, units move to the rank with most room. Fails only when the model
// cannot be cut over so many ranks. The cuts have no layers: the model, or the part that `card` is,
// is one stage.
Result<Fit> fit_group(const ModelCard& card, std::span<const NodeFacts* const> nodes,
                      int64_t context, int64_t sequences, KvType kv_type);

// What stages of layers are to take equally long for.
enum class LayerBalance : uint8_t {
  kTokens,  // decoding: of all that a step reads, the head counts at the last stage
  kPrompt,  // prompts, which need the head once: layers alone
};
// Layers over stages in proportion to `shares`, where memory plays no part.
Result<std::vector<Range>> balanced_layers(const ModelCard& card, std::span<const double> shares,
                                           LayerBalance balance);

// fit_group() for stages one behind another: layers in proportion to the speed of a stage's nodes
// (reading for tokens, arithmetic for prompts), fewer where its memory is short. No layer stays
// over while stages have room for it in this order.
Result<Fit> fit_stages(const ModelCard& card, std::span<const StageNodes> stages, int64_t context,
                       int64_t sequences, KvType kv_type, LayerBalance balance);

}  // namespace shoal::placement
