// llama (Touvron et al., 2023) and what shares its shape: Mistral, SmolLM, TinyLlama, DeepSeek's
// distilled Llamas; with experts Mixtral (Jiang et al., 2024). RMS norm before each block, rotary
// embedding over interleaved pairs (files are written with permuted query and key rows for it),
// grouped queries, SwiGLU.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors = joined(kEndRules, kRopeFactorsRule, kAttentionNormRule, kAttentionRules,
                                 kFeedForwardNormRule, kFeedForwardRules, kExpertRules);

Status describe_llama(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  if (keys.has_tensor("rope_freqs.weight")) model.rope_factors = "rope_freqs.weight";
  SHOAL_ASSIGN(model.window, keys.count_or_zero("attention.sliding_window"));
  if (model.window > 0) model.windowed.assign(static_cast<size_t>(model.layer_count), true);
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmaxOfChosen});
}

}  // namespace

const Architecture kLlama = {"llama", kTensors, describe_llama, build_decoder};

}  // namespace shoal
