// EXAONE 4.0 (LG AI Research, 2025): norms of what a block adds alone, each head's query and key
// normed. The 32 B model attends to a window in three layers of four and rotates those alone.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors =
    joined(kEndRules, kRopeFactorsRule, kAttentionRules, kHeadNormRules, kPostAttentionNormRule,
           kFeedForwardRules, kPostFeedForwardNormRule);

Status describe_exaone4(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  if (keys.has_tensor("rope_freqs.weight")) model.rope_factors = "rope_freqs.weight";
  SHOAL_ASSIGN(model.window, keys.count_or_zero("attention.sliding_window"));
  if (model.window == 0) return {};
  SHOAL_ASSIGN(model.windowed,
               keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 4));
  for (const bool windowed : model.windowed) model.unrotated.push_back(!windowed);
  return {};
}

void build_exaone4(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model,
               {.attention = {"", "*.post_attention_norm.weight"},
                .feed_forward = {"", "*.post_ffw_norm.weight"}});
}

}  // namespace

const Architecture kExaone4 = {"exaone4", kTensors, describe_exaone4, build_exaone4};

}  // namespace shoal
