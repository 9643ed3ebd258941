// gpt-oss (OpenAI, 2025): attention with a learned sink per head, every second layer over a window;
// YaRN whose ramp is not rounded to whole pairs; experts with biases, chosen by their scores and
// weighed by a softmax over those of the chosen. post_attention_norm is the norm before the
// experts.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr std::array kOwnRules = {
    TensorRule{"*.attn_output.bias", Extent::kOne, Extent::kHidden},
    TensorRule{"*.attn_sinks.weight", Extent::kOne, Extent::kHeads},
    TensorRule{"*.ffn_gate_inp.bias", Extent::kOne, Extent::kExpertCount},
    TensorRule{"*.ffn_gate_exps.bias", Extent::kExpertCount, Extent::kExpertWidth},
    TensorRule{"*.ffn_up_exps.bias", Extent::kExpertCount, Extent::kExpertWidth},
    TensorRule{"*.ffn_down_exps.bias", Extent::kExpertCount, Extent::kHidden},
};
constexpr auto kTensors = joined(kEndRules, kAttentionNormRule, kAttentionRules,
                                 kPostAttentionNormRule, kExpertRules, kOwnRules);

Status describe_gpt_oss(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope,
               keys.rope(model.head_dimension, /*interleaved=*/false, {.rounded = false}));
  SHOAL_ASSIGN(model.window, keys.count("attention.sliding_window"));
  SHOAL_ASSIGN(model.windowed,
               keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 2));
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmaxOfChosen});
}

void build_gpt_oss(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(
      build, model,
      {.feed_forward = {"*.post_attention_norm.weight"}, .activation = Activation::kCappedSilu});
}

}  // namespace

const Architecture kGptOss = {"gpt-oss", kTensors, describe_gpt_oss, build_gpt_oss};

}  // namespace shoal
