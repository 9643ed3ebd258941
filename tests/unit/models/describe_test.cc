// What a model file says of itself, and what is said of files that cannot be run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "models/model.h"
#include "tiny_llama.h"

namespace shoal {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Opened {
  std::string bytes;
  gguf::File file;
};

std::unique_ptr<Opened> opened(const TinyLlama& model) {
  auto out = std::make_unique<Opened>();
  out->bytes = model.bytes();
  auto file = gguf::File::parse(as_bytes(out->bytes), "dir/tiny.gguf");
  EXPECT_TRUE(file) << file.error().message;
  if (file) out->file = std::move(*file);
  return out;
}

Error refused(const TinyLlama& model) {
  const auto source = opened(model);
  const auto description = describe(source->file);
  if (description) {
    ADD_FAILURE() << "described";
    return {};
  }
  EXPECT_THAT(description.error().message, HasSubstr("dir/tiny.gguf: "));
  return description.error();
}

TinyLlama with(std::function<void(gguf::GgufWriter&)> more, std::vector<std::string> without = {}) {
  TinyLlama model;
  model.more = std::move(more);
  model.without = std::move(without);
  return model;
}

template <typename T>
TinyLlama with_key(const std::string& key, T value) {
  return with([=](gguf::GgufWriter& writer) { writer.add(key, value); }, {key});
}

TEST(Describe, ALlamaModel) {
  const auto source = opened(TinyLlama{});
  const auto model = describe(source->file);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->architecture, "llama");
  EXPECT_EQ(model->name, "tiny");
  EXPECT_EQ(model->layer_count, 2);
  EXPECT_EQ(model->hidden, 64);
  EXPECT_EQ(model->feed_forward, 96);
  EXPECT_EQ(model->head_count, 4);
  EXPECT_EQ(model->kv_head_count, 2);
  EXPECT_EQ(model->head_dimension, 16);
  EXPECT_EQ(model->vocabulary_size, 100);
  EXPECT_EQ(model->context_length, 512);
  EXPECT_FLOAT_EQ(model->norm_epsilon, 1e-5f);
  EXPECT_EQ(model->rope.dimensions, 16);
  EXPECT_EQ(model->rope.base, 10000.0f);
  EXPECT_TRUE(model->rope.interleaved);
  EXPECT_EQ(model->rope.position_scale, 1.0f);
  EXPECT_EQ(model->rope_factors, "");
  EXPECT_FALSE(model->tied_embedding);
  EXPECT_TRUE(!model->has("*.attn_q.bias"));
  EXPECT_EQ(model->file_bytes, source->bytes.size());
}

TEST(Describe, VariantsOfTheLlamaShape) {
  TinyLlama variant{
      .kv_heads = 4, .key_length = 32, .tied = true, .rope_factors = true, .biases = true};
  variant.without = {"llama.attention.head_count_kv"};
  variant.more = [](gguf::GgufWriter& writer) {
    writer.add("llama.rope.freq_base", 500000.0f).add("llama.rope.scaling.type", "linear");
    writer.add("llama.rope.scaling.factor", 4.0f).add("llama.rope.dimension_count", uint64_t{32});
    writer.add("llama.attention.sliding_window", uint32_t{512})
        .add("llama.expert_count", uint32_t{0});
  };
  const auto source = opened(variant);
  const auto model = describe(source->file);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->kv_head_count, 4);
  EXPECT_EQ(model->head_dimension, 32);
  EXPECT_TRUE(model->tied_embedding);
  EXPECT_EQ(model->rope_factors, "rope_freqs.weight");
  EXPECT_TRUE(model->has("*.attn_q.bias") && model->has("*.attn_k.bias") &&
              model->has("*.attn_v.bias"));
  EXPECT_EQ(model->rope.base, 500000.0f);
  EXPECT_EQ(model->rope.position_scale, 0.25f);
}

TEST(Describe, PerLayerArraysCountWhenUniform) {
  const std::string key = "llama.feed_forward_length";
  const auto source = opened(
      with([&](gguf::GgufWriter& writer) { writer.add_array<int32_t>(key, {96, 96}); }, {key}));
  EXPECT_EQ(describe(source->file)->feed_forward, 96);
  EXPECT_THAT(
      refused(
          with([&](gguf::GgufWriter& writer) { writer.add_array<int32_t>(key, {96, 64}); }, {key}))
          .message,
      HasSubstr("96 in one layer and 64 in another; layers of different shapes are not supported"));
  EXPECT_THAT(
      refused(with([&](gguf::GgufWriter& writer) { writer.add_array<int32_t>(key, {}); }, {key}))
          .message,
      HasSubstr("the array is empty"));
}

TEST(Describe, AnUnknownArchitectureIsNamedWithTheKnownOnes) {
  const Error error =
      refused(with([](gguf::GgufWriter& writer) { writer.add("general.architecture", "mamba"); },
                   {"general.architecture"}));
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  EXPECT_THAT(
      error.message,
      HasSubstr("dir/tiny.gguf: the architecture \"mamba\" is not supported; supported are: "
                "llama, "));
  EXPECT_THAT(error.message, HasSubstr(", gpt-oss, "));
  EXPECT_THAT(refused(with({}, {"general.architecture"})).message,
              HasSubstr("\"general.architecture\" is missing"));
}

TEST(Describe, FilesThatLieBesideModelsSayWhatTheyAre) {
  EXPECT_THAT(refused(with([](gguf::GgufWriter& writer) {
                writer.add("general.type", "adapter").add("general.base_model.0.name", "Big 7B");
              })).message,
              testing::StartsWith("dir/tiny.gguf: the file is an adapter (LoRA) (of \"Big 7B\")"));
  EXPECT_THAT(
      refused(with([](gguf::GgufWriter& writer) { writer.add("general.type", "mmproj"); })).message,
      HasSubstr("is a multimodal projector: "));
  EXPECT_THAT(
      refused(with([](gguf::GgufWriter& writer) { writer.add("general.architecture", "clip"); },
                   {"general.architecture"}))
          .message,
      HasSubstr("give the language model's GGUF"));
  EXPECT_THAT(refused(with([](gguf::GgufWriter& writer) {
                writer.add("general.type", "imatrix");
              })).message,
              HasSubstr("the file holds \"imatrix\", not a model"));
}

TEST(Describe, AVocabularyAloneIsSaidToBeOne) {
  const std::string bytes = gguf::GgufWriter().add("general.architecture", "llama").finish();
  const auto file = gguf::File::parse(as_bytes(bytes), "v.gguf");
  EXPECT_THAT(describe(*file).error().message, HasSubstr("holds no tensors, only a vocabulary"));
}

TEST(Describe, AnUnexpectedTensorIsNamedWithTheKnownOnes) {
  for (const char* name :
       {"blk.0.ffn_gate_inp.scale", "surprise", "blk.x.attn_q.weight", "blk.", "blk.0",
        "blk.00.attn_q.weight", "blk.-1.attn_q.weight", "blk.99999999999999999999.attn_q.weight",
        "attn_q.weight", "blk.0.token_embd.weight"}) {
    const Error error = refused(
        with([&](gguf::GgufWriter& writer) { writer.tensor(name, {1}, std::vector<float>{1}); }));
    EXPECT_EQ(error.code, ErrorCode::kUnsupported);
    EXPECT_THAT(
        error.message,
        AllOf(HasSubstr(fmt::format("the tensor \"{}\" is not one that Shoal knows", name)),
              HasSubstr("supported are token_embd.weight,"), HasSubstr("blk.N.ffn_down.weight")));
  }
  EXPECT_THAT(refused(with([&](gguf::GgufWriter& writer) {
                writer.tensor("blk.2.attn_norm.weight", {1}, std::vector<float>{1});
              })).message,
              HasSubstr("\"blk.2.attn_norm.weight\" belongs to a layer beyond the 2"));
}

TEST(Describe, AMissingTensorIsNamed) {
  for (const char* name : {"token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight",
                           "blk.1.ffn_down.weight"}) {
    const Error error = refused(with({}, {name}));
    EXPECT_EQ(error.code, ErrorCode::kCorrupt);
    EXPECT_THAT(error.message, HasSubstr(fmt::format("the tensor \"{}\" is missing", name)));
  }
  TinyLlama uneven{.biases = true};
  uneven.without = {"blk.1.attn_k.bias"};
  EXPECT_THAT(refused(uneven).message, HasSubstr("the tensor \"blk.1.attn_k.bias\" is missing"));
  uneven.without = {"blk.0.attn_v.bias"};
  EXPECT_THAT(refused(uneven).message,
              HasSubstr("\"blk.1.attn_v.bias\" is there but its like in layer 0 is not"));
}

TEST(Describe, AWrongShapeIsSaidWithBoth) {
  const std::pair<const char*, std::vector<uint64_t>> wrong[] = {
      {"blk.1.attn_q.weight", {64, 32}},
      {"blk.0.attn_k.weight", {64, 64}},
      {"blk.0.attn_output.weight", {32, 64}},
      {"blk.0.ffn_gate.weight", {96, 64}},
      {"output.weight", {64, 99}},
      {"token_embd.weight", {32, 100}},
      {"blk.0.attn_norm.weight", {64, 64}},
      {"output_norm.weight", {63}},
      {"blk.0.ffn_up.weight", {64, 48, 2}}};
  for (const auto& [name, shape] : wrong) {
    TinyLlama model;
    model.reshaped = {{name, shape}};
    const Error error = refused(model);
    EXPECT_EQ(error.code, ErrorCode::kCorrupt);
    EXPECT_THAT(error.message,
                AllOf(HasSubstr(name),
                      HasSubstr("has the shape [" + fmt::format("{}", fmt::join(shape, ", ")))))
        << name;
  }
  TinyLlama trailing_one;
  trailing_one.reshaped = {{"output_norm.weight", {64, 1, 1}}};
  EXPECT_TRUE(describe(opened(trailing_one)->file));
}

TEST(Describe, ATypeWithoutKernelsIsNamedWithTheFileToTakeInstead) {
  TinyLlama model{.hidden = 256, .feed_forward = 256, .heads = 4};
  model.matrix_type = 17;
  EXPECT_THAT(refused(model).message,
              AllOf(HasSubstr("\"blk.0.attn_q.weight\" has the type IQ2_XS"),
                    HasSubstr("take the model's Q2_K file")));
  model.matrix_type = 12;
  EXPECT_TRUE(describe(opened(model)->file));
  TinyLlama vector = with(
      [](gguf::GgufWriter& writer) {
        writer.tensor("blk.0.attn_norm.weight", 2, {64}, std::string(36, 0));
      },
      {"blk.0.attn_norm.weight"});
  EXPECT_THAT(refused(vector).message,
              HasSubstr("is a vector of type Q4_0; vectors must be F32, F16 or BF16"));
}

TEST(Describe, NumbersThatCannotBeAreRefusedWithTheirKey) {
  for (const char* key :
       {"llama.block_count", "llama.embedding_length", "llama.feed_forward_length",
        "llama.context_length", "llama.attention.head_count", "llama.attention.head_count_kv"}) {
    for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1} << 31, INT64_MAX, INT64_MIN}) {
      const Error error = refused(with_key<int64_t>(key, value));
      EXPECT_THAT(error.message,
                  HasSubstr(fmt::format("\"{}\": {} is not between 1 and 2147483647", key, value)));
    }
    EXPECT_EQ(refused(with_key<uint64_t>(key, UINT64_MAX)).code, ErrorCode::kCorrupt);
    EXPECT_EQ(refused(with_key<float>(key, 2.0f)).code, ErrorCode::kCorrupt);
    EXPECT_EQ(refused(with_key<const char*>(key, "two")).code, ErrorCode::kCorrupt);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const char* key : {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base",
                          "llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    for (const float value : {nan, infinity, 0.0f, -1.0f}) {
      EXPECT_THAT(refused(with_key<float>(key, value)).message,
                  HasSubstr("is not a finite number above zero"))
          << key;
    }
    EXPECT_THAT(refused(with_key<double>(key, 1e-300)).message,
                HasSubstr("is not a finite number above zero"));
  }
}

TEST(Describe, RequiredKeysThatAreMissingAreNamed) {
  for (const char* key : {"llama.block_count", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.context_length",
                          "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
    const Error error = refused(with({}, {key}));
    EXPECT_EQ(error.code, ErrorCode::kCorrupt);
    EXPECT_THAT(error.message, HasSubstr(fmt::format("\"{}\" is missing", key)));
  }
}

TEST(Describe, HeadsThatDoNotDivideAreRefused) {
  EXPECT_THAT(refused(with_key<uint32_t>("llama.attention.head_count_kv", 3)).message,
              HasSubstr("3 KV heads cannot be shared evenly by 4 heads"));
  EXPECT_THAT(refused(with_key<uint32_t>("llama.attention.head_count_kv", 8)).message,
              HasSubstr("8 KV heads cannot be shared evenly by 4 heads"));
  EXPECT_THAT(refused(with_key<uint32_t>("llama.attention.head_count", 6)).message,
              HasSubstr("6 heads do not divide the embedding length 64"));
  EXPECT_EQ(refused(with_key<uint32_t>("llama.attention.value_length", 8)).code,
            ErrorCode::kUnsupported);
  for (const uint32_t dimensions : {15u, 18u}) {
    EXPECT_THAT(refused(with_key<uint32_t>("llama.rope.dimension_count", dimensions)).message,
                HasSubstr("is not an even number up to the head dimension 16"));
  }
}

TEST(Describe, WhatWouldBeComputedWrongIsRefused) {
  EXPECT_THAT(refused(with_key<const char*>("llama.rope.scaling.type", "dynamic")).message,
              HasSubstr("\"dynamic\" scaling is not supported; supported are none, linear"));
  EXPECT_THAT(refused(with([](gguf::GgufWriter& writer) {
                writer.tensor("blk.0.ffn_gate_inp.weight", {1}, std::vector<float>{1});
              })).message,
              HasSubstr("does not belong in layer 0, which has no experts"));
  EXPECT_THAT(refused(with([](gguf::GgufWriter& writer) {
                writer.add_strings("tokenizer.ggml.tokens", {"a", "b"});
              })).message,
              HasSubstr("has 2 tokens, the tensor \"token_embd.weight\" has 100 rows"));
  for (const float factor : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> factors(8, 1.0f);
    factors[5] = factor;
    EXPECT_THAT(refused(with([&](gguf::GgufWriter& writer) {
                  writer.tensor("rope_freqs.weight", {8}, factors);
                })).message,
                HasSubstr("\"rope_freqs.weight\" holds"));
  }
}

TEST(Describe, ExpertsThatCannotBeAreRefused) {
  const auto with_experts = [](uint32_t count, uint32_t used, uint32_t groups,
                               uint32_t groups_used) {
    return refused(with([=](gguf::GgufWriter& writer) {
             writer.add("llama.expert_count", count).add("llama.expert_used_count", used);
             writer.add("llama.expert_group_count", groups)
                 .add("llama.expert_group_used_count", groups_used);
           }))
        .message;
  };
  EXPECT_THAT(refused(with_key<uint32_t>("llama.expert_count", 8)).message,
              HasSubstr("\"llama.expert_used_count\" is missing"));
  EXPECT_THAT(with_experts(4, 5, 1, 1), HasSubstr("5 of 4 experts cannot be used"));
  EXPECT_THAT(with_experts(4, 0, 1, 1), HasSubstr("0 is not between 1 and"));
  EXPECT_THAT(with_experts(4, 2, 3, 1), HasSubstr("3 groups of which 1 are used"));
  EXPECT_THAT(with_experts(4, 2, 2, 3), HasSubstr("2 groups of which 3 are used"));
  EXPECT_THAT(with_experts(4, 3, 2, 1), HasSubstr("of 4 experts of which 3 are"));
  EXPECT_THAT(with_experts(4, 2, 1, 1), HasSubstr("the experts of layer 0 need"));
}

TEST(Describe, AWindowOfEveryLayer) {
  const auto source = opened(with_key<uint32_t>("llama.attention.sliding_window", 128));
  const auto model = describe(source->file);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(model->is_windowed(0) && model->is_windowed(1));
  EXPECT_EQ(model->window, 128);
}

}  // namespace
}  // namespace shoal
