#include "small_model.h"

#include <cmath>
#include <random>

#include "../gguf/gguf_writer.h"

namespace shoal {

namespace {

uint16_t half_bits(float value) {
  // Round towards zero: any half will do for random weights.
  const auto bits = std::bit_cast<uint32_t>(value);
  const int exponent = static_cast<int>((bits >> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) {  // subnormal: in units of 2^-24
    return static_cast<uint16_t>(((bits >> 16) & 0x8000) |
                                 static_cast<uint32_t>(std::abs(value) * 16777216.0F));
  }
  return static_cast<uint16_t>(((bits >> 16) & 0x8000) | (static_cast<uint32_t>(exponent) << 10) |
                               ((bits >> 13) & 0x3ff));
}

class Weights {
 public:
  explicit Weights(uint32_t seed) : random_(seed) {}

  std::string vector(int64_t count) {
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += gguf::little_endian(1 + 0.1F * normal_(random_));
    return out;
  }

  // rows x columns with values of about 1/sqrt(columns). Quantised types get random blocks: any
  // bytes are valid codes, and the scales are chosen for the same size of values.
  std::string matrix(ElementType type, int64_t rows, int64_t columns) {
    const float scale = 1 / std::sqrt(static_cast<float>(columns));
    const ElementTraits& traits = element_traits(type);
    const int64_t blocks = rows * columns / traits.block_elements;
    std::string out;
    for (int64_t i = 0; i < blocks; ++i) out += block(type, scale);
    return out;
  }

 private:
  std::string half(float value) { return gguf::little_endian(half_bits(value)); }
  std::string codes(size_t count) {
    std::string out;
    for (size_t i = 0; i < count; ++i) out += static_cast<char>(random_());
    return out;
  }
  float some(float scale) {
    return scale * (0.5F + std::uniform_real_distribution<float>()(random_));
  }

  std::string block(ElementType type, float scale) {
    const float value = scale * normal_(random_);
    switch (type) {
      case ElementType::kF32:
        return gguf::little_endian(value);
      case ElementType::kF16:
        return half(value);
      case ElementType::kBF16:
        return gguf::little_endian(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
      case ElementType::kQ8_0:
        return half(some(scale) / 74) + codes(32);
      case ElementType::kQ4_0:
        return half(some(scale) / 4.6F) + codes(16);
      case ElementType::kQ4_1: {
        const float step = some(scale) / 4.6F;
        return half(step) + half(-7.5F * step) + codes(16);
      }
      case ElementType::kQ5_0:
        return half(some(scale) / 9.2F) + codes(4 + 16);
      case ElementType::kQ5_1: {
        const float step = some(scale) / 9.2F;
        return half(step) + half(-15.5F * step) + codes(4 + 16);
      }
      case ElementType::kIQ4_NL:
        return half(some(scale) / 74) + codes(16);
      case ElementType::kMXFP4: {  // a power of two, times up to 12
        const auto power = static_cast<int>(std::lround(std::log2(some(scale) / 6)));
        return std::string(1, static_cast<char>(128 + power)) + codes(16);
      }
      case ElementType::kQ2_K: {  // scales and minima of four bits
        const float step = some(scale) / 1.1F / 8;
        return codes(16 + 64) + half(step) + half(1.5F * step);
      }
      case ElementType::kQ3_K:
        return codes(32 + 64 + 12) + half(some(scale) / 18 / 2.3F);
      case ElementType::kIQ4_XS:
        return half(some(scale) / 18 / 74) + codes(2 + 4 + 128);
      case ElementType::kQ5_K: {
        const float step = some(scale) / 9.2F / 32;
        return half(step) + half(15.5F * step) + codes(12 + 32 + 128);
      }
      case ElementType::kQ4_K: {
        const float step = some(scale) / 4.6F / 32;
        return half(step) + half(7.5F * step) + codes(12) + codes(128);
      }
      case ElementType::kQ6_K:  // quants and their high bits, sixteen signed scales, the scale of
                                // all
        return codes(128) + codes(64) + codes(16) + half(some(scale) / 18 / 74);
    }
    return {};
  }

  std::mt19937 random_;
  std::normal_distribution<float> normal_;
};

}  // namespace

std::unique_ptr<SmallModel> make_small_model(const SmallShape& shape) {
  gguf::GgufWriter writer;
  writer.add("general.architecture", "llama").add("general.name", "small");
  const auto count = [&](const std::string& key, int64_t value) {
    writer.add("llama." + key, static_cast<uint32_t>(value));
  };
  count("block_count", shape.layers);
  count("context_length", shape.context);
  count("embedding_length", shape.hidden);
  count("feed_forward_length", shape.feed_forward);
  count("attention.head_count", shape.heads);
  count("attention.head_count_kv", shape.kv_heads);
  count("attention.key_length", shape.head_dimension);
  count("attention.value_length", shape.head_dimension);
  count("rope.dimension_count", shape.head_dimension);
  count("vocab_size", shape.vocabulary);
  writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  writer.add("llama.rope.freq_base", 10000.0F);

  Weights weights(shape.seed);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns) {
    writer.tensor(name, static_cast<uint32_t>(shape.type),
                  {static_cast<uint64_t>(columns), static_cast<uint64_t>(rows)},
                  weights.matrix(shape.type, rows, columns));
  };
  const auto vector = [&](const std::string& name, int64_t size) {
    writer.tensor(name, 0, {static_cast<uint64_t>(size)}, weights.vector(size));
  };
  const int64_t queries = shape.heads * shape.head_dimension;
  const int64_t keys = shape.kv_heads * shape.head_dimension;
  matrix("token_embd.weight", shape.vocabulary, shape.hidden);
  if (!shape.tied) matrix("output.weight", shape.vocabulary, shape.hidden);
  vector("output_norm.weight", shape.hidden);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    vector(prefix + "attn_norm.weight", shape.hidden);
    matrix(prefix + "attn_q.weight", queries, shape.hidden);
    matrix(prefix + "attn_k.weight", keys, shape.hidden);
    matrix(prefix + "attn_v.weight", keys, shape.hidden);
    matrix(prefix + "attn_output.weight", shape.hidden, queries);
    vector(prefix + "ffn_norm.weight", shape.hidden);
    matrix(prefix + "ffn_gate.weight", shape.feed_forward, shape.hidden);
    matrix(prefix + "ffn_up.weight", shape.feed_forward, shape.hidden);
    matrix(prefix + "ffn_down.weight", shape.hidden, shape.feed_forward);
  }

  auto model = std::make_unique<SmallModel>();
  model->bytes = writer.finish();
  model->file = gguf::File::parse(as_bytes(model->bytes), "small model").value();
  model->description = describe(model->file).value();
  model->card = model_card(model->file, model->description);
  return model;
}

Result<std::unique_ptr<SmallModel>> open_model(const std::string& path) {
  auto model = std::make_unique<SmallModel>();
  SHOAL_ASSIGN(model->file, gguf::File::open(path));
  SHOAL_ASSIGN(model->description, describe(model->file));
  model->card = model_card(model->file, model->description);
  return model;
}

}  // namespace shoal
