// llama (Touvron et al., 2023) and what shares its shape: Mistral, SmolLM, TinyLlama. RMS norm
// before each block, rotary embedding over interleaved pairs (files are written with permuted query
// and key rows for it), grouped queries, SwiGLU.
#include <array>
#include <cmath>
#include <cstring>

#include "models/architecture.h"
#include "models/blocks.h"
#include "models/hyperparameters.h"

namespace shoal {
namespace {

constexpr std::array kTensors = {
    TensorRule{"token_embd.weight", Extent::kVocabulary, Extent::kHidden, true},
    TensorRule{"output_norm.weight", Extent::kOne, Extent::kHidden, true},
    TensorRule{"output.weight", Extent::kVocabulary, Extent::kHidden, false},
    TensorRule{"rope_freqs.weight", Extent::kOne, Extent::kRopePairs, false},
    TensorRule{"*.attn_norm.weight", Extent::kOne, Extent::kHidden, true},
    TensorRule{"*.attn_q.weight", Extent::kQuery, Extent::kHidden, true},
    TensorRule{"*.attn_k.weight", Extent::kKeyValue, Extent::kHidden, true},
    TensorRule{"*.attn_v.weight", Extent::kKeyValue, Extent::kHidden, true},
    TensorRule{"*.attn_q.bias", Extent::kOne, Extent::kQuery, false},
    TensorRule{"*.attn_k.bias", Extent::kOne, Extent::kKeyValue, false},
    TensorRule{"*.attn_v.bias", Extent::kOne, Extent::kKeyValue, false},
    TensorRule{"*.attn_output.weight", Extent::kHidden, Extent::kQuery, true},
    TensorRule{"*.ffn_norm.weight", Extent::kOne, Extent::kHidden, true},
    TensorRule{"*.ffn_gate.weight", Extent::kFeedForward, Extent::kHidden, true},
    TensorRule{"*.ffn_up.weight", Extent::kFeedForward, Extent::kHidden, true},
    TensorRule{"*.ffn_down.weight", Extent::kHidden, Extent::kFeedForward, true},
};

Status read_heads(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.head_count, keys.count("attention.head_count"));
  SHOAL_ASSIGN(model.kv_head_count, keys.count_or("attention.head_count_kv", model.head_count));
  if (model.head_count % model.kv_head_count != 0) {
    return keys.wrong(ErrorCode::kCorrupt, "attention.head_count_kv",
                      "{} KV heads cannot be shared evenly by {} heads", model.kv_head_count,
                      model.head_count);
  }
  if (!keys.has("attention.key_length") && model.hidden % model.head_count != 0) {
    return keys.wrong(ErrorCode::kCorrupt, "attention.head_count",
                      "{} heads do not divide the embedding length {}", model.head_count,
                      model.hidden);
  }
  SHOAL_ASSIGN(model.head_dimension,
               keys.count_or("attention.key_length", model.hidden / model.head_count));
  SHOAL_ASSIGN(const int64_t value_length,
               keys.count_or("attention.value_length", model.head_dimension));
  if (value_length != model.head_dimension) {
    return keys.wrong(ErrorCode::kUnsupported, "attention.value_length",
                      "{} differs from the key length {}, which is not supported", value_length,
                      model.head_dimension);
  }
  return {};
}

// What a file with the right tensors may still ask for that this architecture's program would
// silently leave out.
Status refuse_variants(const Hyperparameters& keys, const ModelDescription& model) {
  SHOAL_ASSIGN(const int64_t experts, keys.count_or_zero("expert_count"));
  if (experts > 0) {
    return keys.wrong(ErrorCode::kUnsupported, "expert_count",
                      "{}; mixtures of experts are not supported", experts);
  }
  SHOAL_ASSIGN(const int64_t window, keys.count_or_zero("attention.sliding_window"));
  if (window > 0 && window < model.context_length) {
    return keys.wrong(
        ErrorCode::kUnsupported, "attention.sliding_window",
        "a window of {} positions in a context of {} is not supported in this architecture", window,
        model.context_length);
  }
  return {};
}

Status read_vocabulary(const gguf::File& file, ModelDescription& model) {
  const gguf::TensorInfo* table = file.find_tensor("token_embd.weight");
  if (table == nullptr) {
    return fail(
        ErrorCode::kCorrupt,
        "{}: the tensor \"token_embd.weight\" is missing; the file is not a whole llama model",
        file.path());
  }
  model.vocabulary_size = table->dimensions.size() > 1 ? table->dimensions[1] : 1;
  if (model.vocabulary_size > INT32_MAX) {
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor \"token_embd.weight\" has {} rows, more than token ids can count",
                file.path(), model.vocabulary_size);
  }
  const gguf::Value* tokens = file.find("tokenizer.ggml.tokens");
  const auto* list = tokens != nullptr ? std::get_if<gguf::Array>(tokens) : nullptr;
  if (list != nullptr && list->count != static_cast<uint64_t>(model.vocabulary_size)) {
    return fail(ErrorCode::kCorrupt,
                "{}: the metadata key \"tokenizer.ggml.tokens\" has {} tokens, the tensor "
                "\"token_embd.weight\" has {} rows",
                file.path(), list->count, model.vocabulary_size);
  }
  return {};
}

// Angles are divided by these: a zero would turn whole heads into NaN.
Status check_rope_factors(const gguf::File& file, const ModelDescription& model) {
  if (!model.has_rope_factors) return {};
  SHOAL_ASSIGN(const TensorSource factors, file.tensor("rope_freqs.weight"));
  if (factors.type != ElementType::kF32) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor \"rope_freqs.weight\" must be F32, not {}",
                file.path(), element_traits(factors.type).name);
  }
  for (size_t at = 0; at < factors.bytes.size(); at += sizeof(float)) {
    float factor;
    std::memcpy(&factor, factors.bytes.data() + at, sizeof factor);
    if (std::isfinite(factor) && factor > 0) continue;
    return fail(
        ErrorCode::kCorrupt,
        "{}: the tensor \"rope_freqs.weight\" holds {}, which is not a finite number above zero",
        file.path(), factor);
  }
  return {};
}

Result<ModelDescription> describe_llama(const gguf::File& file) {
  const Hyperparameters keys(file, kLlama.name);
  ModelDescription model{};
  model.architecture = kLlama.name;
  model.name = std::string(
      file.string("general.name").value_or(file.path().substr(file.path().find_last_of('/') + 1)));
  model.file_bytes = file.size_bytes();
  SHOAL_ASSIGN(model.layer_count, keys.count("block_count"));
  SHOAL_ASSIGN(model.hidden, keys.count("embedding_length"));
  SHOAL_ASSIGN(model.feed_forward, keys.count("feed_forward_length"));
  SHOAL_ASSIGN(model.context_length, keys.count("context_length"));
  SHOAL_ASSIGN(model.norm_epsilon, keys.positive("attention.layer_norm_rms_epsilon"));
  SHOAL_TRY(read_heads(keys, model));
  SHOAL_ASSIGN(model.rope, keys.rope(model.head_dimension, /*interleaved=*/true));
  SHOAL_TRY(refuse_variants(keys, model));
  SHOAL_TRY(read_vocabulary(file, model));
  model.has_rope_factors = file.find_tensor("rope_freqs.weight") != nullptr;
  SHOAL_TRY(check_rope_factors(file, model));
  model.tied_embedding = file.find_tensor("output.weight") == nullptr;
  model.has_query_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  model.has_key_bias = file.find_tensor("blk.0.attn_k.bias") != nullptr;
  model.has_value_bias = file.find_tensor("blk.0.attn_v.bias") != nullptr;
  return model;
}

Program build_llama(const ModelDescription& model, const RankCut& cut) {
  ProgramBuilder build(model, cut, kTensors);
  build.embed();
  for (int64_t layer = 0; layer < model.layer_count; ++layer) {
    build.attention(layer);
    build.feed_forward(layer, Activation::kSilu);
  }
  build.head();
  return std::move(build).finish();
}

}  // namespace

const Architecture kLlama = {"llama", kTensors, describe_llama, build_llama};

}  // namespace shoal
