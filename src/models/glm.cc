// GLM-4-0414: norms before and after each block, interleaved pairs in half of a head. GLM 4.5 and
// 4.6 (GLM-4.5 Team, 2025): halves, experts by sigmoid after the first layers, one of them shared;
// the last layers of a file are for drafting and are left alone.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kGlm4Tensors =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kPostAttentionNormRule,
           kFeedForwardNormRule, kFusedFeedForwardRules, kPostFeedForwardNormRule);
constexpr std::array kOptionalHeadNormRules = {
    TensorRule{"*.attn_q_norm.weight", Extent::kOne, Extent::kHeadDimension, Presence::kOptional},
    TensorRule{"*.attn_k_norm.weight", Extent::kOne, Extent::kHeadDimension, Presence::kOptional},
};
constexpr auto kGlm4MoeTensors = joined(
    kEndRules, kAttentionNormRule, kAttentionRules, kOptionalHeadNormRules, kPostAttentionNormRule,
    kFeedForwardRules, kExpertRules, kSelectionBiasRule, kSharedExpertRules);

Status describe_glm4(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  return {};
}

Status describe_glm4moe(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  SHOAL_ASSIGN(model.mixture.dense_layers, keys.count_or_zero("leading_dense_block_count"));
  return read_mixture(keys, model, {.score = Routing::Score::kSigmoid});
}

void build_glm4(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model,
               {.attention = {"*.attn_norm.weight", "*.post_attention_norm.weight"},
                .feed_forward = {"*.ffn_norm.weight", "*.post_ffw_norm.weight"}});
}

void build_glm4moe(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model, {.feed_forward = {"*.post_attention_norm.weight"}});
}

}  // namespace

const Architecture kGlm4 = {"glm4", kGlm4Tensors, describe_glm4, build_glm4};
const Architecture kGlm4Moe = {"glm4moe", kGlm4MoeTensors, describe_glm4moe, build_glm4moe};

}  // namespace shoal
