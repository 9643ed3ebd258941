// Llama 4 (Meta, 2025): Scout and Maverick. Three layers of four rotate (interleaved pairs, rows
// not permuted), in Scout norm each head's query and key behind that, and attend within chunks; the
// fourth does none of it, and its queries grow with their position. Every so many-th layer has
// experts, one of which a row goes to, its input weighed by the sigmoid of its score, beside one
// that is shared; the others have a feed-forward. Files name few of the constants.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors =
    joined(kEndRules, kRopeFactorsRule, kAttentionNormRule, kAttentionRules, kFeedForwardNormRule,
           kFeedForwardRules, kExpertRules, kSharedExpertRules);

constexpr int64_t kChunk = 8192;
constexpr int64_t kGrowthPeriod = 8192;
constexpr float kGrowth = 0.1f;
constexpr int64_t kExpertsOfMaverick = 128;  // it alone norms no queries and keys; no key says so

Status describe_experts(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.mixture.step, keys.count("interleave_moe_layer_step"));
  SHOAL_TRY(read_mixture(keys, model, {.score = Routing::Score::kSigmoid, .weighs_input = true}));
  Mixture& mixture = model.mixture;
  if (mixture.count == 0) {
    return keys.wrong(ErrorCode::kUnsupported, "expert_count",
                      "it is absent or 0; of this architecture only models with experts are "
                      "supported, as files do not say what the others do in attention");
  }
  mixture.shared_width = mixture.width;
  return {};
}

Status describe_llama4(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  SHOAL_ASSIGN(model.rope.base, keys.positive_or("rope.freq_base_swa", model.rope.base));
  if (keys.has_tensor("rope_freqs.weight")) model.rope_factors = "rope_freqs.weight";
  SHOAL_TRY(describe_experts(keys, model));
  SHOAL_ASSIGN(model.window, keys.count_or("attention.sliding_window", kChunk));
  model.chunked = true;
  SHOAL_ASSIGN(model.windowed,
               keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 4));
  for (const bool windowed : model.windowed) model.unrotated.push_back(!windowed);
  SHOAL_ASSIGN(model.query_growth, keys.number_or("attention.temperature_scale", kGrowth));
  SHOAL_ASSIGN(model.original_context,
               keys.count_or("attention.temperature_length", kGrowthPeriod));
  model.query_growth_offset = 1;
  model.unrotated_grow = true;
  return {};
}

void build_llama4(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model,
               {.order = {.norm_rotated = model.mixture.count != kExpertsOfMaverick}});
}

}  // namespace

const Architecture kLlama4 = {"llama4", kTensors, describe_llama4, build_llama4};

}  // namespace shoal
