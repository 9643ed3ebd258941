// Small llama models as GGUF bytes, with random F32 weights or with zeros of any type.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "../gguf/gguf_writer.h"
#include "base/random.h"

namespace shoal {

struct TinyLlama {
  uint32_t layers = 2;
  uint32_t hidden = 64;
  uint32_t feed_forward = 96;
  uint32_t heads = 4;
  uint32_t kv_heads = 2;
  uint32_t key_length = 0;  // 0: hidden / heads, and not written
  uint32_t vocabulary = 100;
  bool tied = false;
  bool rope_factors = false;
  bool biases = false;
  uint32_t matrix_type = 0;  // of matrices in layers; other than F32: zero bytes
  // Called last, to add or to break.
  std::function<void(gguf::GgufWriter&)> more;
  // Keys and tensors left out, as "llama.block_count" or "blk.1.ffn_up.weight"; tensors written
  // with another shape.
  std::vector<std::string> without;
  std::vector<std::pair<std::string, std::vector<uint64_t>>> reshaped;

  uint32_t head_dimension() const { return key_length != 0 ? key_length : hidden / heads; }
  std::string bytes() const;

 private:
  bool left_out(const std::string& name) const;
  void tensor(gguf::GgufWriter& writer, const std::string& name, std::vector<uint64_t> dimensions,
              uint32_t type) const;
};

inline bool TinyLlama::left_out(const std::string& name) const {
  return std::find(without.begin(), without.end(), name) != without.end();
}

inline void TinyLlama::tensor(gguf::GgufWriter& writer, const std::string& name,
                              std::vector<uint64_t> dimensions, uint32_t type) const {
  if (left_out(name)) return;
  for (const auto& [other, shape] : reshaped) {
    if (other == name) dimensions = shape;
  }
  uint64_t elements = 1;
  for (const uint64_t dimension : dimensions) elements *= dimension;
  if (type != 0) {
    const ElementTraits& traits = *element_traits(type);
    writer.tensor(name, type, dimensions,
                  std::string(elements / traits.block_elements * traits.block_bytes, '\0'));
    return;
  }
  std::vector<float> values(elements);
  const uint64_t seed = std::hash<std::string>()(name);
  const bool positive =
      name.find("norm") != std::string::npos || name.find("rope") != std::string::npos;
  for (uint64_t i = 0; i < elements; ++i) {
    values[i] = positive ? static_cast<float>(0.5 + uniform(seed, i))
                         : static_cast<float>(uniform(seed, i) * 0.4 - 0.2);
  }
  writer.tensor(name, dimensions, values);
}

inline std::string TinyLlama::bytes() const {
  gguf::GgufWriter writer;
  const auto number = [&](const std::string& key, auto value) {
    if (!left_out(key)) writer.add(key, value);
  };
  if (!left_out("general.architecture")) writer.add("general.architecture", "llama");
  writer.add("general.name", "tiny");
  number("llama.block_count", layers);
  number("llama.context_length", uint32_t{512});
  number("llama.embedding_length", hidden);
  number("llama.feed_forward_length", feed_forward);
  number("llama.attention.head_count", heads);
  number("llama.attention.head_count_kv", kv_heads);
  number("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  if (key_length != 0) {
    number("llama.attention.key_length", key_length);
    number("llama.attention.value_length", key_length);
  }
  const uint64_t query = uint64_t{heads} * head_dimension();
  const uint64_t key = uint64_t{kv_heads} * head_dimension();
  tensor(writer, "token_embd.weight", {hidden, vocabulary}, 0);
  tensor(writer, "output_norm.weight", {hidden}, 0);
  if (!tied) tensor(writer, "output.weight", {hidden, vocabulary}, 0);
  if (rope_factors) tensor(writer, "rope_freqs.weight", {head_dimension() / 2}, 0);
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    tensor(writer, prefix + "attn_norm.weight", {hidden}, 0);
    tensor(writer, prefix + "attn_q.weight", {hidden, query}, matrix_type);
    tensor(writer, prefix + "attn_k.weight", {hidden, key}, matrix_type);
    tensor(writer, prefix + "attn_v.weight", {hidden, key}, matrix_type);
    if (biases) {
      tensor(writer, prefix + "attn_q.bias", {query}, 0);
      tensor(writer, prefix + "attn_k.bias", {key}, 0);
      tensor(writer, prefix + "attn_v.bias", {key}, 0);
    }
    tensor(writer, prefix + "attn_output.weight", {query, hidden}, matrix_type);
    tensor(writer, prefix + "ffn_norm.weight", {hidden}, 0);
    tensor(writer, prefix + "ffn_gate.weight", {hidden, feed_forward}, matrix_type);
    tensor(writer, prefix + "ffn_up.weight", {hidden, feed_forward}, matrix_type);
    tensor(writer, prefix + "ffn_down.weight", {feed_forward, hidden}, matrix_type);
  }
  if (more) more(writer);
  return writer.finish();
}

}  // namespace shoal
