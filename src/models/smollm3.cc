// SmolLM3 (Hugging Face, 2025): llama's shape; every fourth layer knows no positions.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kFeedForwardNormRule, kFeedForwardRules);

Status describe_smollm3(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  for (int64_t layer = 0; layer < model.layer_count; ++layer)
    model.unrotated.push_back((layer + 1) % 4 == 0);
  return {};
}

}  // namespace

const Architecture kSmollm3 = {"smollm3", kTensors, describe_smollm3, build_decoder};

}  // namespace shoal
