// Seed-OSS (ByteDance Seed, 2025): Qwen 2's shape; the norm before the feed-forward has another
// name.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors = joined(kEndRules, kAttentionNormRule, kAttentionRules,
                                 kPostAttentionNormRule, kFeedForwardRules);

Status describe_seed_oss(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  return {};
}

void build_seed_oss(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model, {.feed_forward = {"*.post_attention_norm.weight"}});
}

}  // namespace

const Architecture kSeedOss = {"seed_oss", kTensors, describe_seed_oss, build_seed_oss};

}  // namespace shoal
