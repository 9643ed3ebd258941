// Qwen 2 and 2.5 (Yang et al., 2024): llama's shape with biases on queries, keys and values, and
// rotary embedding over halves. With experts, Qwen 1.5 and 2 MoE: the shared expert is weighed by a
// sigmoid, and the weights of the chosen experts are not normalised.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kDense =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kFeedForwardNormRule, kFeedForwardRules);
constexpr std::array kSharedWeightRule = {
    TensorRule{"*.ffn_gate_inp_shexp.weight", Extent::kSingle, Extent::kHidden},
};
constexpr auto kWithExperts =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kFeedForwardNormRule, kExpertRules,
           kSharedExpertRules, kSharedWeightRule);

Status describe_qwen2(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  return {};
}

Status describe_qwen2moe(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_TRY(describe_qwen2(keys, model));
  SHOAL_ASSIGN(model.mixture.shared_width, keys.count("expert_shared_feed_forward_length"));
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmax});
}

}  // namespace

const Architecture kQwen2 = {"qwen2", kDense, describe_qwen2, build_decoder};
const Architecture kQwen2Moe = {"qwen2moe", kWithExperts, describe_qwen2moe, build_decoder};

}  // namespace shoal
