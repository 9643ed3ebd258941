// Granite 3 (IBM, 2024): llama's shape with four factors of its own: of embeddings, scores, what a
// block adds, and logits. With experts, granitemoe.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kDense =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kFeedForwardNormRule, kFeedForwardRules);
constexpr auto kWithExperts = joined(kEndRules, kAttentionNormRule, kAttentionRules,
                                     kFeedForwardNormRule, kExpertRules, kSharedExpertRules);

Status describe_granite(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  SHOAL_ASSIGN(model.embedding_scale, keys.positive_or("embedding_scale", 1.0f));
  SHOAL_ASSIGN(model.attention_scale, keys.positive_or("attention.scale", model.attention_scale));
  SHOAL_ASSIGN(model.residual_scale, keys.positive_or("residual_scale", 1.0f));
  SHOAL_ASSIGN(const float divisor, keys.positive_or("logit_scale", 1.0f));
  model.logit_scale = 1 / divisor;
  return {};
}

Status describe_granitemoe(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_TRY(describe_granite(keys, model));
  if (keys.has_tensor("blk.0.ffn_up_shexp.weight")) {
    SHOAL_ASSIGN(model.mixture.shared_width, keys.count("expert_shared_feed_forward_length"));
  }
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmaxOfChosen});
}

}  // namespace

const Architecture kGranite = {"granite", kDense, describe_granite, build_decoder};
const Architecture kGraniteMoe = {"granitemoe", kWithExperts, describe_granitemoe, build_decoder};

}  // namespace shoal
