// OLMo 2 (Team OLMo, 2024) and 3: no norm before a block, one of what it adds; norms over the
// queries and the keys of all heads. OLMo 3 attends to a window in three layers of four, rotated
// without YaRN.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr std::array kWideNormRules = {
    TensorRule{"*.attn_q_norm.weight", Extent::kOne, Extent::kQuery},
    TensorRule{"*.attn_k_norm.weight", Extent::kOne, Extent::kKeyValue},
};
constexpr auto kTensors = joined(kEndRules, kAttentionRules, kWideNormRules, kPostAttentionNormRule,
                                 kFeedForwardRules, kPostFeedForwardNormRule);

Status describe_olmo2(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  SHOAL_ASSIGN(model.window, keys.count_or_zero("attention.sliding_window"));
  if (model.window == 0) return {};
  SHOAL_ASSIGN(model.windowed,
               keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 4));
  model.local_rope = RopeSpec{model.rope.dimensions, model.rope.base, false};
  return {};
}

void build_olmo2(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model,
               {.attention = {"", "*.post_attention_norm.weight"},
                .feed_forward = {"", "*.post_ffw_norm.weight"}});
}

}  // namespace

const Architecture kOlmo2 = {"olmo2", kTensors, describe_olmo2, build_olmo2};

}  // namespace shoal
