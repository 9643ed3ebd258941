// ERNIE 4.5 (Baidu, 2025): llama's shape; with experts after the first layers, chosen by softmax
// and a bias, one more shared.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kDense =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kFeedForwardNormRule, kFeedForwardRules);
constexpr auto kWithExperts = joined(kDense, kExpertRules, kSelectionBiasRule, kSharedExpertRules);

Status describe_ernie(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  return {};
}

Status describe_ernie_moe(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_TRY(describe_ernie(keys, model));
  SHOAL_ASSIGN(model.mixture.dense_layers, keys.count_or_zero("leading_dense_block_count"));
  SHOAL_ASSIGN(const int64_t step, keys.count_or("interleave_moe_layer_step", 1));
  if (step != 1) {
    return keys.wrong(ErrorCode::kUnsupported, "interleave_moe_layer_step",
                      "{}; only experts in every layer behind the first are supported", step);
  }
  SHOAL_ASSIGN(model.mixture.shared_width, keys.count_or_zero("expert_shared_feed_forward_length"));
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmax, .normalised = true});
}

}  // namespace

const Architecture kErnie = {"ernie4_5", kDense, describe_ernie, build_decoder};
const Architecture kErnieMoe = {"ernie4_5-moe", kWithExperts, describe_ernie_moe, build_decoder};

}  // namespace shoal
