// Gemma 4 (Google DeepMind, 2026): Gemma's norms around each block and GELU, but scores as they
// are, values normed, and a scale of the stream after each layer. Layers without a window have
// wider heads, of which a quarter rotates (by factors that leave the rest still), and in the large
// models fewer KV heads, whose values are their keys. Small models (E2B, E4B) give each layer an
// input of its own by a second table, and their last layers attend to the keys and values of
// layers before. One (26B-A4B) has experts beside each feed-forward.
#include <algorithm>

#include "models/architecture.h"
#include "models/rule_sets.h"

namespace shoal {
namespace {

constexpr std::array kOwnRules = {
    TensorRule{"rope_freqs.weight", Extent::kOne, Extent::kRopePairs},
    TensorRule{"*.attn_q.weight", Extent::kQuery, Extent::kHidden},
    TensorRule{"*.attn_k.weight", Extent::kKeyValue, Extent::kHidden, Presence::kRequired,
               InLayers::kKeys},
    TensorRule{"*.attn_v.weight", Extent::kKeyValue, Extent::kHidden, Presence::kRequired,
               InLayers::kValues},
    TensorRule{"*.attn_output.weight", Extent::kHidden, Extent::kQuery},
    TensorRule{"*.attn_q_norm.weight", Extent::kOne, Extent::kHeadDimension},
    TensorRule{"*.attn_k_norm.weight", Extent::kOne, Extent::kHeadDimension, Presence::kRequired,
               InLayers::kKeys},
    TensorRule{"*.ffn_gate.weight", Extent::kFeedForward, Extent::kHidden},
    TensorRule{"*.ffn_up.weight", Extent::kFeedForward, Extent::kHidden},
    TensorRule{"*.ffn_down.weight", Extent::kHidden, Extent::kFeedForward},
    TensorRule{"*.layer_output_scale.weight", Extent::kOne, Extent::kSingle, Presence::kOptional},
};
// Inputs of layers.
constexpr std::array kInputRules = {
    TensorRule{"per_layer_token_embd.weight", Extent::kVocabulary, Extent::kLayerInputs,
               Presence::kRequired, InLayers::kInputs},
    TensorRule{"per_layer_model_proj.weight", Extent::kLayerInputs, Extent::kHidden,
               Presence::kRequired, InLayers::kInputs},
    TensorRule{"per_layer_proj_norm.weight", Extent::kOne, Extent::kLayerInput, Presence::kRequired,
               InLayers::kInputs},
    TensorRule{"*.inp_gate.weight", Extent::kLayerInput, Extent::kHidden, Presence::kRequired,
               InLayers::kInputs},
    TensorRule{"*.proj.weight", Extent::kHidden, Extent::kLayerInput, Presence::kRequired,
               InLayers::kInputs},
    TensorRule{"*.post_norm.weight", Extent::kOne, Extent::kHidden, Presence::kRequired,
               InLayers::kInputs},
};
// What experts have beside their matrices.
constexpr std::array kBesideRules = {
    TensorRule{"*.ffn_gate_inp.scale", Extent::kOne, Extent::kHidden, Presence::kRequired,
               InLayers::kMixture},
    TensorRule{"*.ffn_down_exps.scale", Extent::kOne, Extent::kExpertCount, Presence::kRequired,
               InLayers::kMixture},
    TensorRule{"*.post_ffw_norm_1.weight", Extent::kOne, Extent::kHidden, Presence::kRequired,
               InLayers::kMixture},
    TensorRule{"*.pre_ffw_norm_2.weight", Extent::kOne, Extent::kHidden, Presence::kRequired,
               InLayers::kMixture},
    TensorRule{"*.post_ffw_norm_2.weight", Extent::kOne, Extent::kHidden, Presence::kRequired,
               InLayers::kMixture},
};
constexpr auto kTensors =
    joined(kEndRules, kOwnRules, kAttentionNormRule, kPostAttentionNormRule, kFeedForwardNormRule,
           kPostFeedForwardNormRule, kInputRules, kExpertRules, kBesideRules);

// A width that layers with a window may have of their own; values are as wide as keys.
Result<int64_t> head_width(const Hyperparameters& keys, std::string_view suffix,
                           int64_t otherwise) {
  const std::string key = fmt::format("attention.key_length{}", suffix);
  const std::string value = fmt::format("attention.value_length{}", suffix);
  SHOAL_ASSIGN(const int64_t width,
               otherwise > 0 ? keys.count_or(key, otherwise) : keys.count(key));
  SHOAL_ASSIGN(const int64_t value_width, keys.count_or(value, width));
  if (value_width == width) return width;
  return keys.wrong(ErrorCode::kUnsupported, value,
                    "{} differs from the key length {}, which is not supported", value_width,
                    width);
}

Status describe_shapes(const Hyperparameters& keys, ModelDescription& model) {
  const int64_t layers = model.layer_count;
  SHOAL_ASSIGN(model.head_count, keys.count("attention.head_count"));
  SHOAL_ASSIGN(const int64_t wide, head_width(keys, "", 0));
  SHOAL_ASSIGN(const int64_t windowed_width, head_width(keys, "_swa", wide));
  SHOAL_ASSIGN(const auto kv_heads, keys.counts("attention.head_count_kv", layers));
  SHOAL_ASSIGN(const auto feed_forward, keys.counts("feed_forward_length", layers));
  model.feed_forward = std::ranges::min(feed_forward);
  std::array<int64_t, 2> kv_heads_of_kind = {};
  for (size_t layer = 0; layer < static_cast<size_t>(layers); ++layer) {
    const bool windowed = model.windowed[layer];
    if (model.head_count % kv_heads[layer] != 0) {
      return keys.wrong(ErrorCode::kCorrupt, "attention.head_count_kv",
                        "{} KV heads cannot be shared evenly by {} heads", kv_heads[layer],
                        model.head_count);
    }
    int64_t& of_kind = kv_heads_of_kind[windowed ? 1 : 0];
    if (of_kind != 0 && of_kind != kv_heads[layer]) {
      return keys.wrong(ErrorCode::kUnsupported, "attention.head_count_kv",
                        "{} and {} in layers of one kind of attention are not supported", of_kind,
                        kv_heads[layer]);
    }
    of_kind = kv_heads[layer];
    if (feed_forward[layer] % model.feed_forward != 0) {
      return keys.wrong(ErrorCode::kUnsupported, "feed_forward_length",
                        "{} is not a whole multiple of the least, {}, which is not supported",
                        feed_forward[layer], model.feed_forward);
    }
    model.shapes.push_back(
        {windowed ? windowed_width : wide, kv_heads[layer], feed_forward[layer]});
    model.head_dimension = std::max(model.head_dimension, model.shapes.back().head_dimension);
    model.kv_head_count = std::max(model.kv_head_count, kv_heads[layer]);
  }
  return {};
}

// The last layers may attend to what the last before them of their kind has kept.
Status describe_sharing(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(const int64_t sharing, keys.count_or_zero("attention.shared_kv_layers"));
  const int64_t own = model.layer_count - sharing;
  std::array<bool, 2> kept = {};
  bool values_from_keys = false;
  for (int64_t layer = 0; layer < model.layer_count; ++layer) {
    const bool windowed = model.is_windowed(layer);
    if (layer >= own && !kept[windowed]) {
      return keys.wrong(ErrorCode::kCorrupt, "attention.shared_kv_layers",
                        "{} of {} layers; no layer before layer {} has keys for it", sharing,
                        model.layer_count, layer);
    }
    // As the first without a window is, so are the others.
    if (!windowed && !kept[0])
      values_from_keys = !keys.has_tensor(fmt::format("blk.{}.attn_v.weight", layer));
    kept[windowed] = true;
    model.without_keys.push_back(layer >= own);
    model.without_values.push_back(values_from_keys && !windowed);
  }
  return {};
}

Status describe_attention(const Hyperparameters& keys, ModelDescription& model) {
  if (!keys.has("attention.sliding_window_pattern")) {
    return keys.wrong(ErrorCode::kCorrupt, "attention.sliding_window_pattern",
                      "it is missing; the file does not say which layers have a window");
  }
  SHOAL_ASSIGN(model.windowed,
               keys.pattern_or("attention.sliding_window_pattern", model.layer_count, 0));
  SHOAL_ASSIGN(model.window, keys.count("attention.sliding_window"));
  SHOAL_TRY(describe_shapes(keys, model));
  SHOAL_TRY(describe_sharing(keys, model));
  SHOAL_ASSIGN(const int64_t wide, head_width(keys, "", 0));
  SHOAL_ASSIGN(const int64_t windowed_width, head_width(keys, "_swa", wide));
  SHOAL_ASSIGN(model.rope, keys.rope(wide, /*interleaved=*/false));
  model.rope_factors = "rope_freqs.weight";
  SHOAL_ASSIGN(const float base, keys.positive_or("rope.freq_base_swa", 10000.0f));
  SHOAL_ASSIGN(const int64_t turned, keys.count_or("rope.dimension_count_swa", windowed_width));
  if (turned % 2 != 0 || turned > windowed_width) {
    return keys.wrong(ErrorCode::kCorrupt, "rope.dimension_count_swa",
                      "{} is not an even number up to the head dimension {}", turned,
                      windowed_width);
  }
  model.local_rope = RopeSpec{static_cast<int>(turned), base, false};
  model.attention_scale = 1;
  return {};
}

Status describe_gemma4(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_TRY(describe_attention(keys, model));
  SHOAL_ASSIGN(model.layer_input, keys.count_or_zero("embedding_length_per_layer_input"));
  if (keys.has("final_logit_softcapping")) {
    SHOAL_ASSIGN(model.logit_cap, keys.positive("final_logit_softcapping"));
  }
  model.embedding_scale = std::sqrt(static_cast<float>(model.hidden));
  return read_mixture(keys, model, {.score = Routing::Score::kSoftmax, .normalised = true});
}

constexpr BlockNorms kAroundAttention = {"*.attn_norm.weight", "*.post_attention_norm.weight"};
constexpr BlockNorms kAroundFeedForward = {"*.ffn_norm.weight", "*.post_ffw_norm.weight"};
constexpr ProgramBuilder::BesideNorms kBesideNorms = {
    .both = kAroundFeedForward,
    .feed_forward = {"", "*.post_ffw_norm_1.weight"},
    .experts = {"*.pre_ffw_norm_2.weight", "*.post_ffw_norm_2.weight"},
    .router = "*.ffn_gate_inp.scale"};

void build_gemma4(ProgramBuilder& build, const ModelDescription& model) {
  build.embed();
  build.embed_layer_inputs();
  for (int64_t layer = 0; layer < model.layer_count; ++layer) {
    build.attention(layer, kAroundAttention, {.norm_values = true});
    if (model.is_mixture(layer)) {
      build.feed_forward_beside_mixture(layer, Activation::kGelu, kBesideNorms);
    } else {
      build.feed_forward(layer, Activation::kGelu, kAroundFeedForward);
    }
    build.finish_layer(layer, Activation::kGelu);
  }
  build.head();
}

}  // namespace

const Architecture kGemma4 = {"gemma4", kTensors, describe_gemma4, build_gemma4,
                              /*shapes_layers=*/true};

}  // namespace shoal
