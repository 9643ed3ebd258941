// DeepSeek V2 (DeepSeek-AI, 2024), V3 and R1, Kimi K2, Mistral Small 4: multi-head latent
// attention; after the first layers experts, one of them shared. Files hold the latent's key and
// value parts in one tensor (attn_kv_b) or, newer, in two (attn_k_b, attn_v_b).
#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr std::array kLatentRules = {
    TensorRule{"*.attn_q.weight", Extent::kLatentQuery, Extent::kHidden, Presence::kOptional},
    TensorRule{"*.attn_q_a.weight", Extent::kQueryRank, Extent::kHidden, Presence::kOptional},
    TensorRule{"*.attn_q_a_norm.weight", Extent::kOne, Extent::kQueryRank, Presence::kOptional},
    TensorRule{"*.attn_q_b.weight", Extent::kLatentQuery, Extent::kQueryRank, Presence::kOptional},
    TensorRule{"*.attn_kv_a_mqa.weight", Extent::kLatentAndRope, Extent::kHidden},
    TensorRule{"*.attn_kv_a_norm.weight", Extent::kOne, Extent::kLatentRank},
    TensorRule{"*.attn_kv_b.weight", Extent::kLatentKeyValue, Extent::kLatentRank,
               Presence::kOptional},
    TensorRule{"*.attn_k_b.weight", Extent::kLatentRank, Extent::kLatentNope, Presence::kOptional,
               InLayers::kEvery, Extent::kHeads},
    TensorRule{"*.attn_v_b.weight", Extent::kLatentValue, Extent::kLatentRank, Presence::kOptional,
               InLayers::kEvery, Extent::kHeads},
    TensorRule{"*.attn_output.weight", Extent::kHidden, Extent::kLatentOutput},
};
constexpr auto kTensors =
    joined(kEndRules, kAttentionNormRule, kLatentRules, kFeedForwardNormRule, kFeedForwardRules,
           kExpertRules, kSelectionBiasRule, kSharedExpertRules);

// Either form's keys; in the older one the lengths of a head are those of its key and value.
Status read_latent(const Hyperparameters& keys, ModelDescription& model) {
  Latent& latent = model.latent;
  SHOAL_ASSIGN(latent.rank, keys.count("attention.kv_lora_rank"));
  SHOAL_ASSIGN(latent.query_rank, keys.count_or_zero("attention.q_lora_rank"));
  SHOAL_ASSIGN(latent.rope, keys.count("rope.dimension_count"));
  const bool split = keys.has("attention.key_length_mla");
  SHOAL_ASSIGN(const int64_t head,
               keys.count(split ? "attention.key_length_mla" : "attention.key_length"));
  SHOAL_ASSIGN(latent.value,
               keys.count(split ? "attention.value_length_mla" : "attention.value_length"));
  latent.nope = head - latent.rope;
  if (latent.nope < 1) {
    return keys.wrong(ErrorCode::kCorrupt, "rope.dimension_count",
                      "{} is not below the length {} of a head", latent.rope, head);
  }
  const bool whole = keys.has_tensor("blk.0.attn_kv_b.weight");
  if (whole && keys.has_tensor("blk.0.attn_k_b.weight")) {
    return fail(ErrorCode::kCorrupt,
                "{}: \"blk.0.attn_kv_b.weight\" and \"blk.0.attn_k_b.weight\" are both there; a "
                "model has one form or the other",
                keys.file().path());
  }
  if (!whole &&
      !(keys.has_tensor("blk.0.attn_k_b.weight") && keys.has_tensor("blk.0.attn_v_b.weight"))) {
    return fail(ErrorCode::kCorrupt,
                "{}: neither \"blk.0.attn_kv_b.weight\" nor both of \"blk.0.attn_k_b.weight\" and "
                "\"blk.0.attn_v_b.weight\" are there; the file is not a whole deepseek2 model",
                keys.file().path());
  }
  for (const char* name : {"attn_q_a", "attn_q_a_norm", "attn_q_b", "attn_q"}) {
    const bool wanted = (std::string_view(name) == "attn_q") == (latent.query_rank == 0);
    const std::string tensor = fmt::format("blk.0.{}.weight", name);
    if (keys.has_tensor(tensor) == wanted) continue;
    return fail(ErrorCode::kCorrupt, "{}: the tensor \"{}\" {}, with a query rank of {}",
                keys.file().path(), tensor, wanted ? "is missing" : "should not be there",
                latent.query_rank);
  }
  model.head_dimension = head;
  model.kv_head_count = 1;  // what is cached is shared by all heads
  return {};
}

// GLM 4.7 Flash comes as this architecture, without the key that says how experts are scored.
bool is_glm_flash(const gguf::File& file, const ModelDescription& model) {
  constexpr int64_t kVocabulary = 154880;
  const gguf::TensorInfo* table = file.find_tensor("token_embd.weight");
  if (table == nullptr || table->dimensions.back() != kVocabulary) return false;
  return model.layer_count == 47 || model.layer_count == 48;
}

Status describe_deepseek2(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_TRY(read_latent(keys, model));
  SHOAL_ASSIGN(const float log_multiplier,
               keys.number_or("rope.scaling.yarn_log_multiplier", 0.0f));
  SHOAL_ASSIGN(model.rope, keys.rope(model.latent.rope, /*interleaved=*/true,
                                     {.amplifies = log_multiplier == 0}));
  SHOAL_ASSIGN(const float factor, keys.positive_or("rope.scaling.factor", 1.0f));
  const float growth = 1 + log_multiplier * std::log(factor);
  model.attention_scale =
      growth * growth / std::sqrt(static_cast<float>(model.latent.nope + model.latent.rope));

  SHOAL_ASSIGN(model.query_growth, keys.number_or("attention.temperature_scale", 0.0f));
  SHOAL_ASSIGN(const int64_t original,
               keys.count_or("rope.scaling.original_context_length", model.context_length));
  SHOAL_ASSIGN(model.original_context, keys.count_or("attention.temperature_length", original));

  SHOAL_ASSIGN(model.mixture.dense_layers, keys.count_or_zero("leading_dense_block_count"));
  Routing routing;
  if (is_glm_flash(keys.file(), model)) routing.score = Routing::Score::kSigmoid;
  SHOAL_TRY(read_mixture(keys, model, routing));
  model.mixture.routing.group_by_two = model.mixture.routing.score == Routing::Score::kSigmoid;
  return {};
}

void build_deepseek2(ProgramBuilder& build, const ModelDescription& model) {
  build.embed();
  for (int64_t layer = 0; layer < model.layer_count; ++layer) {
    build.latent_attention(layer);
    build.feed_forward_or_mixture(layer, Activation::kSilu);
  }
  build.head();
}

}  // namespace

const Architecture kDeepseek2 = {"deepseek2", kTensors, describe_deepseek2, build_deepseek2};
const Architecture kMistral4 = {"mistral4", kTensors, describe_deepseek2, build_deepseek2};

}  // namespace shoal
