// Ministral 3: llama's shape; YaRN leaves the size of queries and keys alone.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors = joined(kEndRules, kAttentionNormRule, kAttentionRules,
                                 kFeedForwardNormRule, kFeedForwardRules, kExpertRules);

Status describe_mistral3(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope,
               keys.rope(model.head_dimension, /*interleaved=*/true, {.amplifies = false}));
  SHOAL_ASSIGN(model.query_growth, keys.number_or("attention.temperature_scale", 0.0f));
  SHOAL_ASSIGN(model.original_context,
               keys.count_or("rope.scaling.original_context_length", model.context_length));
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmaxOfChosen});
}

}  // namespace

const Architecture kMistral3 = {"mistral3", kTensors, describe_mistral3, build_decoder};

}  // namespace shoal
