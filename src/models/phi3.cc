// Phi-3 (Abdin et al., 2024), 3.5 and 4: queries, keys and values in one tensor, gate and up in
// another, rotary embedding over halves of the first part of a head. LongRoPE (Ding et al., 2024)
// is known by its two tensors of factors, chosen by the context that the model is to run with.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr std::array kFusedAttentionRules = {
    TensorRule{"*.attn_qkv.weight", Extent::kQueryKeyValue, Extent::kHidden},
    TensorRule{"*.attn_output.weight", Extent::kHidden, Extent::kQuery},
    TensorRule{"rope_factors_long.weight", Extent::kOne, Extent::kRopePairs, Presence::kOptional},
    TensorRule{"rope_factors_short.weight", Extent::kOne, Extent::kRopePairs, Presence::kOptional},
};
constexpr auto kTensors = joined(kEndRules, kAttentionNormRule, kFusedAttentionRules,
                                 kFeedForwardNormRule, kFusedFeedForwardRules);

Status describe_phi3(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope,
               keys.rope(model.head_dimension, /*interleaved=*/false, {.or_long = true}));
  if (keys.has_tensor("rope_factors_short.weight") && keys.has_tensor("rope_factors_long.weight")) {
    model.rope_factors = "rope_factors_short.weight";
    model.long_rope_factors = "rope_factors_long.weight";
    SHOAL_ASSIGN(model.original_context, keys.count("rope.scaling.original_context_length"));
    SHOAL_ASSIGN(model.rope.amplitude, keys.positive_or("rope.scaling.attn_factor", 1.0f));
  }
  SHOAL_ASSIGN(model.window, keys.count_or_zero("attention.sliding_window"));
  if (model.window > 0) model.windowed.assign(static_cast<size_t>(model.layer_count), true);
  return {};
}

}  // namespace

const Architecture kPhi3 = {"phi3", kTensors, describe_phi3, build_decoder};

}  // namespace shoal
