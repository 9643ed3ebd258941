// MiniMax M2 (MiniMax, 2025): one RMS norm over the queries of all heads and one over the keys,
// half of each head rotated, experts in every layer by sigmoid.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr std::array kWideNormRules = {
    TensorRule{"*.attn_q_norm.weight", Extent::kOne, Extent::kQuery},
    TensorRule{"*.attn_k_norm.weight", Extent::kOne, Extent::kKeyValue},
};
constexpr auto kTensors = joined(kEndRules, kAttentionNormRule, kAttentionRules, kWideNormRules,
                                 kFeedForwardNormRule, kExpertRules, kSelectionBiasRule);

Status describe_minimax_m2(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  return read_mixture(keys, model, {.score = Routing::Score::kSigmoid, .normalised = true});
}

}  // namespace

const Architecture kMinimaxM2 = {"minimax-m2", kTensors, describe_minimax_m2, build_decoder};

}  // namespace shoal
