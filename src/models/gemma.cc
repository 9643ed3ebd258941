// Gemma 2 (Gemma Team, 2024) and 3 (2025): embeddings scaled by sqrt(hidden), norms before and
// after each block (the files' norm weights have the one added), GELU. Gemma 2 caps scores and
// logits and attends to a window in every second layer; Gemma 3 norms each head's query and key,
// attends to everything in every sixth layer alone, and rotates the others by another base.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kGemma2Tensors =
    joined(kEndRules, kAttentionNormRule, kAttentionRules, kPostAttentionNormRule,
           kFeedForwardNormRule, kFeedForwardRules, kPostFeedForwardNormRule);
constexpr auto kGemma3Tensors = joined(kGemma2Tensors, kHeadNormRules);

constexpr BlockNorms kAroundAttention = {"*.attn_norm.weight", "*.post_attention_norm.weight"};
constexpr BlockNorms kAroundFeedForward = {"*.ffn_norm.weight", "*.post_ffw_norm.weight"};

// The 27 B models alone divide scores by sqrt(hidden / heads); no key says so.
void scale_scores(ModelDescription& model, int64_t layers_of_27b) {
  if (model.layer_count != layers_of_27b) return;
  model.attention_scale =
      1 / std::sqrt(static_cast<float>(model.hidden) / static_cast<float>(model.head_count));
}

Status describe_gemma2(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  SHOAL_ASSIGN(model.attention_cap, keys.positive_or("attn_logit_softcapping", 50.0f));
  SHOAL_ASSIGN(model.logit_cap, keys.positive_or("final_logit_softcapping", 30.0f));
  SHOAL_ASSIGN(model.window, keys.count_or("attention.sliding_window", 4096));
  SHOAL_ASSIGN(model.windowed,
               keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 2));
  model.embedding_scale = std::sqrt(static_cast<float>(model.hidden));
  scale_scores(model, 46);
  return {};
}

Status describe_gemma3(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  SHOAL_ASSIGN(const float local_base, keys.positive_or("rope.freq_base_swa", 10000.0f));
  model.local_rope = RopeSpec{model.rope.dimensions, local_base, false};
  if (keys.has("final_logit_softcapping")) {
    SHOAL_ASSIGN(model.logit_cap, keys.positive("final_logit_softcapping"));
  }
  SHOAL_ASSIGN(model.window, keys.count_or_zero("attention.sliding_window"));
  if (model.window > 0) {
    SHOAL_ASSIGN(model.windowed,
                 keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 6));
  }
  model.embedding_scale = std::sqrt(static_cast<float>(model.hidden));
  scale_scores(model, 62);
  return {};
}

void build_gemma(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model, {kAroundAttention, kAroundFeedForward, Activation::kGelu});
}

}  // namespace

const Architecture kGemma2 = {"gemma2", kGemma2Tensors, describe_gemma2, build_gemma};
const Architecture kGemma3 = {"gemma3", kGemma3Tensors, describe_gemma3, build_gemma};

}  // namespace shoal
