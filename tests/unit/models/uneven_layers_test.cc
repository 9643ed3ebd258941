// Models whose layers differ: Gemma 4's heads, KV heads, feed-forward and shared caches, and Llama
// 4's experts in every second layer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>

#include "../gguf/gguf_writer.h"
#include "models/model.h"

namespace shoal {
namespace {

using testing::HasSubstr;

struct Opened {
  std::string bytes;
  gguf::File file;
};

using Dimensions = std::vector<uint64_t>;

// Tensors of zeros (norms: of ones), but for changes: another shape, or none for a tensor left out.
class TinyFile {
 public:
  explicit TinyFile(const std::string& architecture) : prefix_(architecture + ".") {
    writer_.add("general.architecture", architecture.c_str());
    key("block_count", 4u).key("context_length", 512u).key("embedding_length", 32u);
    key("attention.layer_norm_rms_epsilon", 1e-6f).key("attention.head_count", 4u);
  }
  template <typename T>
  TinyFile& key(const std::string& name, T value) {
    writer_.add(prefix_ + name, value);
    return *this;
  }
  template <typename T>
  TinyFile& keys(const std::string& name, const std::vector<T>& values) {
    writer_.add_array(prefix_ + name, values);
    return *this;
  }
  TinyFile& tensor(const std::string& name, Dimensions dimensions) {
    if (const auto changed = changes.find(name); changed != changes.end())
      dimensions = changed->second;
    if (dimensions.empty()) return *this;
    uint64_t elements = 1;
    for (const uint64_t dimension : dimensions) elements *= dimension;
    writer_.tensor(name, dimensions, std::vector<float>(elements, 1.0f));
    return *this;
  }
  std::unique_ptr<Opened> open() {
    auto opened = std::make_unique<Opened>(writer_.finish());
    auto file = gguf::File::parse(as_bytes(opened->bytes), "tiny.gguf");
    EXPECT_TRUE(file) << file.error().message;
    opened->file = *std::move(file);
    return opened;
  }
  std::map<std::string, Dimensions> changes;

 private:
  std::string prefix_;
  gguf::GgufWriter writer_;
};

// Two layers with keys of their own, windowed and not, and two that share theirs. Heads of 8 where
// there is a window, of 16 elsewhere.
struct TinyGemma4 {
  std::vector<uint32_t> kv_heads = {2, 1, 2, 1};
  std::vector<uint32_t> feed_forward = {32, 32, 64, 64};
  std::vector<bool> has_values = {true, false, false, false};
  uint32_t sharing = 2;
  uint32_t layer_input = 8;
  bool keys_in_all = false;  // also where they are not used
  std::map<std::string, Dimensions> changes;

  std::unique_ptr<Opened> open() const;
};

std::unique_ptr<Opened> TinyGemma4::open() const {
  TinyFile file("gemma4");
  file.changes = changes;
  file.keys("attention.head_count_kv", kv_heads).keys("feed_forward_length", feed_forward);
  file.key("attention.key_length", 16u).key("attention.value_length", 16u);
  file.key("attention.key_length_swa", 8u).key("attention.value_length_swa", 8u);
  file.key("attention.sliding_window", 24u).key("attention.shared_kv_layers", sharing);
  file.keys<uint8_t>("attention.sliding_window_pattern", {1, 0, 1, 0});
  file.key("embedding_length_per_layer_input", layer_input);
  file.tensor("token_embd.weight", {32, 40}).tensor("output_norm.weight", {32});
  file.tensor("rope_freqs.weight", {8});
  if (layer_input > 0) {
    file.tensor("per_layer_token_embd.weight", {4u * layer_input, 40});
    file.tensor("per_layer_model_proj.weight", {32, 4u * layer_input});
    file.tensor("per_layer_proj_norm.weight", {layer_input});
  }
  for (size_t layer = 0; layer < 4; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const uint64_t width = layer % 2 == 0 ? 8 : 16, f = feed_forward[layer];
    for (const char* norm : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"})
      file.tensor(prefix + norm + ".weight", {32});
    file.tensor(prefix + "attn_q.weight", {32, 4 * width});
    file.tensor(prefix + "attn_q_norm.weight", {width});
    if (keys_in_all || layer < 4 - sharing) {
      file.tensor(prefix + "attn_k.weight", {32, kv_heads[layer] * width});
      file.tensor(prefix + "attn_k_norm.weight", {width});
    }
    if (has_values[layer]) file.tensor(prefix + "attn_v.weight", {32, kv_heads[layer] * width});
    file.tensor(prefix + "attn_output.weight", {4 * width, 32});
    file.tensor(prefix + "ffn_gate.weight", {32, f}).tensor(prefix + "ffn_up.weight", {32, f});
    file.tensor(prefix + "ffn_down.weight", {f, 32});
    if (layer_input == 0) continue;
    file.tensor(prefix + "inp_gate.weight", {32, layer_input});
    file.tensor(prefix + "proj.weight", {layer_input, 32});
    file.tensor(prefix + "post_norm.weight", {32});
  }
  return file.open();
}

std::string refusal(const TinyGemma4& tiny) {
  const auto opened = tiny.open();
  const auto model = describe(opened->file);
  EXPECT_FALSE(model);
  return model ? "" : model.error().message;
}

TEST(Gemma4, LayersHaveShapesOfTheirOwn) {
  const auto opened = TinyGemma4{}.open();
  const auto model = describe(opened->file);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->shape(0).head_dimension, 8);
  EXPECT_EQ(model->shape(0).kv_head_count, 2);
  EXPECT_EQ(model->shape(3).head_dimension, 16);
  EXPECT_EQ(model->shape(3).kv_head_count, 1);
  EXPECT_EQ(model->shape(3).feed_forward, 64);
  EXPECT_EQ(model->attention_scale, 1);
  EXPECT_TRUE(model->has_keys(1));
  EXPECT_FALSE(model->has_values(1));
  EXPECT_FALSE(model->has_keys(2));
}

TEST(Gemma4, ACacheIsCountedOnceForTheLayersThatShareIt) {
  const auto opened = TinyGemma4{}.open();
  const auto model = describe(opened->file);
  ASSERT_TRUE(model) << model.error().message;
  const ModelCard card = model_card(opened->file, *model);
  ASSERT_EQ(card.caches.size(), 2u);
  // Keys and values, in f16: one layer of one head of 16, and one of two heads of 8 of which a
  // window and a step's rows are kept.
  EXPECT_EQ(kv_bytes(card, whole(card), KvType::kF16, 1000, 16),
            2 * 2 * (1 * 16 * 1000 + 2 * 8 * (24 + 16)));
  // A feed-forward column stands for two in the layers that are twice as wide; a rank with half of
  // each kind holds half of what is cut.
  EXPECT_EQ(card[CutKind::kFeedForward].count, 32);
  EXPECT_EQ(card[CutKind::kFeedForward].bytes_each, 4u * 3 * 32 * (1 + 1 + 2 + 2));
  EXPECT_FALSE(card.layers_stand_alone);
  EXPECT_THAT(partition_layers(card, std::vector<double>{1, 1}).error().message,
              HasSubstr("cannot be cut by layers"));
  const auto back = model_card_from_json(to_json(card));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, card);
}

TEST(Gemma4, LayersThatShareReadTheCacheOfTheLastOfTheirKind) {
  const auto opened = TinyGemma4{}.open();
  const auto model = describe(opened->file);
  ASSERT_TRUE(model) << model.error().message;
  const ModelCard card = model_card(opened->file, *model);
  const auto program = build_program(*model, whole(card), 64);
  ASSERT_TRUE(program) << program.error().message;
  ASSERT_EQ(program->cache_groups.size(), 2u);
  for (const CacheGroupSpec& group : program->cache_groups) EXPECT_EQ(group.layer_count, 1);
  EXPECT_EQ(program->cache_groups[0].kv_heads, 2);
  EXPECT_EQ(program->cache_groups[1].head_dimension, 16);
  std::vector<std::pair<int, bool>> attends;
  for (const Segment& segment : program->segments) {
    for (const Operation& operation : segment.operations) {
      if (const auto* attend = std::get_if<Attend>(&operation))
        attends.emplace_back(attend->group, attend->appends);
    }
  }
  EXPECT_THAT(attends, testing::ElementsAre(std::pair(0, true), std::pair(1, true),
                                            std::pair(0, false), std::pair(1, false)));
}

// Converters write what a checkpoint has, whether it is used or not.
TEST(Gemma4, KeysOfLayersThatShareAreLeftAlone) {
  TinyGemma4 tiny{.keys_in_all = true};
  const auto opened = tiny.open();
  const auto model = describe(opened->file);
  ASSERT_TRUE(model) << model.error().message;
  const auto least = TinyGemma4{}.open();
  const ModelCard card = model_card(opened->file, *model);
  EXPECT_EQ(card.kv_weight_bytes_each,
            model_card(least->file, *describe(least->file)).kv_weight_bytes_each);
}

TEST(Gemma4, WhatCannotBeIsRefused) {
  EXPECT_THAT(refusal({.kv_heads = {2, 3, 2, 3}}),
              HasSubstr("3 KV heads cannot be shared evenly by 4 heads"));
  EXPECT_THAT(refusal({.kv_heads = {2, 1, 1, 1}}),
              HasSubstr("2 and 1 in layers of one kind of attention are not supported"));
  EXPECT_THAT(refusal({.kv_heads = {2, 1, 2}}), HasSubstr("3 elements for 4 layers"));
  EXPECT_THAT(refusal({.feed_forward = {32, 32, 48, 64}}),
              HasSubstr("48 is not a whole multiple of the least, 32"));
  EXPECT_THAT(refusal({.has_values = {true, true, false, false}, .sharing = 3}),
              HasSubstr("3 of 4 layers; no layer before layer 1 has keys for it"));
  EXPECT_THAT(refusal({.sharing = 5}), HasSubstr("no layer before layer 0 has keys for it"));
  EXPECT_THAT(refusal({.has_values = {false, false, false, false}}),
              HasSubstr("\"blk.0.attn_v.weight\" is missing"));
  EXPECT_THAT(refusal({.has_values = {true, false, false, false}, .sharing = 0}),
              HasSubstr("\"blk.2.attn_v.weight\" is missing"));
  EXPECT_THAT(refusal({.has_values = {true, false, true, true}, .sharing = 0}),
              HasSubstr("\"blk.3.attn_v.weight\" does not belong in layer 3, which has no values"));
  for (const char* name :
       {"per_layer_token_embd.weight", "per_layer_proj_norm.weight", "blk.2.inp_gate.weight"}) {
    EXPECT_THAT(refusal({.changes = {{name, {}}}}),
                HasSubstr(fmt::format("\"{}\" is missing", name)));
  }
  EXPECT_THAT(refusal({.changes = {{"rope_freqs.weight", {}}}}),
              HasSubstr("has no tensor \"rope_freqs.weight\""));
  EXPECT_THAT(refusal({.changes = {{"blk.1.attn_q.weight", {32, 32}}}}),
              HasSubstr("has the shape [32, 32] where the metadata asks for [32, 64]"));
}

// One expert of two in every second layer, beside a shared one.
std::unique_ptr<Opened> tiny_llama4(uint32_t step, uint32_t experts) {
  TinyFile file("llama4");
  file.key("feed_forward_length", 32u).key("attention.head_count_kv", 2u);
  file.key("expert_count", experts).key("expert_used_count", 1u);
  file.key("expert_feed_forward_length", 16u).key("interleave_moe_layer_step", step);
  file.tensor("token_embd.weight", {32, 40}).tensor("output_norm.weight", {32});
  for (uint32_t layer = 0; layer < 4; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    for (const char* norm : {"attn_norm", "ffn_norm"}) file.tensor(prefix + norm + ".weight", {32});
    for (const char* name : {"attn_q", "attn_output"})
      file.tensor(prefix + name + ".weight", {32, 32});
    for (const char* name : {"attn_k", "attn_v"}) file.tensor(prefix + name + ".weight", {32, 16});
    const bool is_mixture = layer % 2 == 1;
    if (is_mixture) file.tensor(prefix + "ffn_gate_inp.weight", {32, experts});
    for (const std::string kind : {"", "_shexp", "_exps"}) {
      if (is_mixture == kind.empty()) continue;
      const uint64_t width = is_mixture ? 16 : 32;
      const auto shape = [&](uint64_t a, uint64_t b) {
        return kind == "_exps" ? Dimensions{a, b, experts} : Dimensions{a, b};
      };
      for (const char* name : {"ffn_gate", "ffn_up"})
        file.tensor(prefix + name + kind + ".weight", shape(32, width));
      file.tensor(prefix + "ffn_down" + kind + ".weight", shape(width, 32));
    }
  }
  return file.open();
}

TEST(Llama4, EverySecondLayerHasExperts) {
  const auto opened = tiny_llama4(2, 2);
  const auto model = describe(opened->file);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_FALSE(model->is_mixture(0));
  EXPECT_TRUE(model->is_mixture(1));
  EXPECT_EQ(model->feed_forward, 32);
  EXPECT_EQ(model->mixture.shared_width, 16);
  EXPECT_TRUE(model->is_windowed(2));
  EXPECT_FALSE(model->is_windowed(3));
  EXPECT_EQ(model->window, 8192);
  const ModelCard card = model_card(opened->file, *model);
  EXPECT_EQ(card[CutKind::kFeedForward].bytes_each, 4u * 3 * 32 * 2);
  EXPECT_TRUE(card.layers_stand_alone);
  // Layers with experts and without weigh and keep what is theirs.
  const ModelCard dense = card_of_layers(card, {2, 3});
  EXPECT_EQ(dense[CutKind::kFeedForward].bytes_each, 4u * 3 * 32);
  EXPECT_EQ(dense[CutKind::kExperts].bytes_each, 0u);
  ASSERT_EQ(dense.caches.size(), 2u);
  EXPECT_EQ(dense.caches[0].layer_count, 0);
  EXPECT_EQ(dense.caches[1].layer_count, 1);
  const ModelCard mixed = card_of_layers(card, {3, 4});
  EXPECT_EQ(mixed[CutKind::kFeedForward].bytes_each, 0u);
  EXPECT_EQ(mixed[CutKind::kExperts].bytes_each, 2 * 4u * 3 * 32);
  EXPECT_EQ(mixed[CutKind::kExperts].read_bytes_each, 4u * 3 * 32);
  EXPECT_EQ(mixed.caches[0].layer_count, 1);
  EXPECT_EQ(model_card_from_json(to_json(card)), card);
  const auto program = build_program(*model, whole(card), 64);
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_TRUE(program->cache_groups[0].chunked);
}

TEST(Llama4, WhatCannotBeIsRefused) {
  const auto refusal = [](uint32_t step, uint32_t experts) {
    const auto opened = tiny_llama4(step, experts);
    const auto model = describe(opened->file);
    EXPECT_FALSE(model);
    return model ? "" : model.error().message;
  };
  EXPECT_THAT(refusal(1, 2), HasSubstr("the experts of layer 0 need"));
  EXPECT_THAT(refusal(4, 2), HasSubstr("does not belong in layer 1, which has no experts"));
  EXPECT_THAT(refusal(5, 2),
              HasSubstr("\"llama4.interleave_moe_layer_step\": 5 in 4 layers leaves none"));
  EXPECT_THAT(refusal(0, 2), HasSubstr("0 is not between 1 and"));
}

}  // namespace
}  // namespace shoal
