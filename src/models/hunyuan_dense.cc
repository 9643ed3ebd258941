// Hunyuan dense (Tencent, 2025): Qwen 3's shape with each head's norm behind the rotation.
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr auto kTensors = joined(kEndRules, kAttentionNormRule, kAttentionRules, kHeadNormRules,
                                 kFeedForwardNormRule, kFeedForwardRules);

Status describe_hunyuan(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/false));
  return {};
}

void build_hunyuan(ProgramBuilder& build, const ModelDescription& model) {
  build.embed();
  for (int64_t layer = 0; layer < model.layer_count; ++layer) {
    build.attention(layer, kAttentionNorms, {.norm_after_rotation = true});
    build.feed_forward(layer, Activation::kSilu);
  }
  build.head();
}

}  // namespace

const Architecture kHunyuanDense = {"hunyuan-dense", kTensors, describe_hunyuan, build_hunyuan};

}  // namespace shoal
