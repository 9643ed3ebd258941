// Qwen 3 (Yang et al., 2025): RMS norms of each head's query and key before they are rotated over
// halves, no biases; with experts, whose weights are normalised. Qwen 3 VL's language part is the
// same for text.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kDense = joined(kEndRules, kAttentionNormRule, kAttentionRules, kHeadNormRules,
                               kFeedForwardNormRule, kFeedForwardRules);
constexpr auto kWithExperts = joined(kEndRules, kAttentionNormRule, kAttentionRules, kHeadNormRules,
                                     kFeedForwardNormRule, kExpertRules);

Status describe_qwen3(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  return {};
}

Status describe_qwen3moe(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_TRY(describe_qwen3(keys, model));
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmax, .normalised = true});
}

}  // namespace

const Architecture kQwen3 = {"qwen3", kDense, describe_qwen3, build_decoder};
const Architecture kQwen3Moe = {"qwen3moe", kWithExperts, describe_qwen3moe, build_decoder};
const Architecture kQwen3Vl = {"qwen3vl", kDense, describe_qwen3, build_decoder};
const Architecture kQwen3VlMoe = {"qwen3vlmoe", kWithExperts, describe_qwen3moe, build_decoder};

}  // namespace shoal
