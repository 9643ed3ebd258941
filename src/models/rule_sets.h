// Tensors that most architectures have, to be joined into a table of rules.
#pragma once

#include <array>

#include "models/tensor_rules.h"

namespace shoal {

template <size_t... kSizes>
constexpr auto joined(const std::array<TensorRule, kSizes>&... sets) {
  std::array<TensorRule, (kSizes + ...)> all{};
  size_t at = 0;
  const auto add = [&](const auto& set) {
    for (const TensorRule& rule : set) all[at++] = rule;
  };
  (add(sets), ...);
  return all;
}

// Embedding, last norm and head, which is the embedding's table again where it is absent.
inline constexpr std::array kEndRules = {
    TensorRule{"token_embd.weight", Extent::kVocabulary, Extent::kHidden},
    TensorRule{"output_norm.weight", Extent::kOne, Extent::kHidden},
    TensorRule{"output.weight", Extent::kVocabulary, Extent::kHidden, Presence::kOptional},
};

inline constexpr std::array kAttentionNormRule = {
    TensorRule{"*.attn_norm.weight", Extent::kOne, Extent::kHidden},
};
inline constexpr std::array kAttentionRules = {
    TensorRule{"*.attn_q.weight", Extent::kQuery, Extent::kHidden},
    TensorRule{"*.attn_k.weight", Extent::kKeyValue, Extent::kHidden},
    TensorRule{"*.attn_v.weight", Extent::kKeyValue, Extent::kHidden},
    TensorRule{"*.attn_q.bias", Extent::kOne, Extent::kQuery, Presence::kOptional},
    TensorRule{"*.attn_k.bias", Extent::kOne, Extent::kKeyValue, Presence::kOptional},
    TensorRule{"*.attn_v.bias", Extent::kOne, Extent::kKeyValue, Presence::kOptional},
    TensorRule{"*.attn_output.weight", Extent::kHidden, Extent::kQuery},
};
inline constexpr std::array kHeadNormRules = {
    TensorRule{"*.attn_q_norm.weight", Extent::kOne, Extent::kHeadDimension},
    TensorRule{"*.attn_k_norm.weight", Extent::kOne, Extent::kHeadDimension},
};
inline constexpr std::array kFeedForwardNormRule = {
    TensorRule{"*.ffn_norm.weight", Extent::kOne, Extent::kHidden},
};
// Of layers that have no experts.
inline constexpr std::array kFeedForwardRules = {
    TensorRule{"*.ffn_gate.weight", Extent::kFeedForward, Extent::kHidden, Presence::kRequired,
               InLayers::kDense},
    TensorRule{"*.ffn_up.weight", Extent::kFeedForward, Extent::kHidden, Presence::kRequired,
               InLayers::kDense},
    TensorRule{"*.ffn_down.weight", Extent::kHidden, Extent::kFeedForward, Presence::kRequired,
               InLayers::kDense},
};
inline constexpr std::array kFusedFeedForwardRules = {
    TensorRule{"*.ffn_up.weight", Extent::kGateUp, Extent::kHidden},
    TensorRule{"*.ffn_down.weight", Extent::kHidden, Extent::kFeedForward},
};
// Norms of what a block adds, and the norm before a block under another name.
inline constexpr std::array kPostAttentionNormRule = {
    TensorRule{"*.post_attention_norm.weight", Extent::kOne, Extent::kHidden},
};
inline constexpr std::array kPostFeedForwardNormRule = {
    TensorRule{"*.post_ffw_norm.weight", Extent::kOne, Extent::kHidden},
};

// Gate and up by tensors of their own, or one above the other in one.
inline constexpr std::array kExpertRules = {
    TensorRule{"*.ffn_gate_inp.weight", Extent::kExpertCount, Extent::kHidden, Presence::kRequired,
               InLayers::kMixture},
    TensorRule{"*.ffn_gate_exps.weight", Extent::kExpertWidth, Extent::kHidden, Presence::kOptional,
               InLayers::kMixture, Extent::kExpertCount},
    TensorRule{"*.ffn_up_exps.weight", Extent::kExpertWidth, Extent::kHidden, Presence::kOptional,
               InLayers::kMixture, Extent::kExpertCount},
    TensorRule{"*.ffn_gate_up_exps.weight", Extent::kExpertGateUp, Extent::kHidden,
               Presence::kOptional, InLayers::kMixture, Extent::kExpertCount},
    TensorRule{"*.ffn_down_exps.weight", Extent::kHidden, Extent::kExpertWidth, Presence::kRequired,
               InLayers::kMixture, Extent::kExpertCount},
};
inline constexpr std::array kSelectionBiasRule = {
    TensorRule{"*.exp_probs_b.bias", Extent::kOne, Extent::kExpertCount, Presence::kOptional,
               InLayers::kMixture},
};
// An expert that every row goes to.
inline constexpr std::array kSharedExpertRules = {
    TensorRule{"*.ffn_gate_shexp.weight", Extent::kSharedWidth, Extent::kHidden,
               Presence::kOptional, InLayers::kMixture},
    TensorRule{"*.ffn_up_shexp.weight", Extent::kSharedWidth, Extent::kHidden, Presence::kOptional,
               InLayers::kMixture},
    TensorRule{"*.ffn_down_shexp.weight", Extent::kHidden, Extent::kSharedWidth,
               Presence::kOptional, InLayers::kMixture},
};
inline constexpr std::array kRopeFactorsRule = {
    TensorRule{"rope_freqs.weight", Extent::kOne, Extent::kRopePairs, Presence::kOptional},
};

}  // namespace shoal
