// What `shoal inspect` shows of files good and bad.
#include "cli/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "../models/tiny_llama.h"
#include "models/model.h"

namespace shoal::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string text_of(const std::string& bytes) {
  const auto file = gguf::File::parse(as_bytes(bytes), "some/model.gguf");
  EXPECT_TRUE(file) << file.error().message;
  return inspection_text(*file);
}

class OnDisk {
 public:
  explicit OnDisk(const std::string& bytes)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("shoal_inspect_{}.gguf", ::getpid())) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~OnDisk() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(Inspect, ShowsModelMemoryTypesMetadataAndTensorsAtEightyColumns) {
  TinyLlama model{.hidden = 256, .feed_forward = 512, .matrix_type = 12};
  model.more = [](gguf::GgufWriter& writer) {
    std::vector<std::string> tokens(100, "token");
    writer.add_strings("tokenizer.ggml.tokens", tokens)
        .add("tokenizer.chat_template", std::string(500, 't'));
  };
  const std::string text = text_of(model.bytes());
  EXPECT_THAT(text,
              AllOf(HasSubstr("some/model.gguf\n  GGUF version 3"),
                    HasSubstr("architecture    llama"), HasSubstr("4 of 64, 2 for keys and values"),
                    HasSubstr("Q4_K"), HasSubstr("blk.1.ffn_down.weight"), HasSubstr("512 x 256"),
                    HasSubstr("100 x string: token, token,"), HasSubstr("ttt...\n")));
  // 2 layers x 2 KV heads x 64 x (key and value) x 2 bytes x 1000.
  EXPECT_THAT(text, HasSubstr("1.02 MB per 1000 tokens in f16"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
}

TEST(Inspect, NothingInAFileDrivesTheTerminal) {
  TinyLlama model;
  model.more = [](gguf::GgufWriter& writer) {
    writer.add("evil", "\x1b[2J\x07\xc2\x9b")
        .add("text", "\xe2\x80\xae\xff \xc3\xa9 \xed\xa0\x80\n");
    writer.add("k\x1b]0;title\x07", 1.0f);
  };
  const std::string text = text_of(model.bytes());
  for (const char letter : text)
    EXPECT_TRUE(letter == '\n' || static_cast<unsigned char>(letter) >= 0x20);
  EXPECT_THAT(text, HasSubstr(" \\x1b[2J\\x07\\xc2\\x9b\n"));
  EXPECT_THAT(text, HasSubstr(" \\xe2\\x80\\xae\\xff \xc3\xa9 \\xed\\xa0\\x80\\n\n"));
}

TEST(Inspect, WhatIsRecommendedForSamplingIsShownWithItsSource) {
  TinyLlama model;
  EXPECT_THAT(text_of(model.bytes()), testing::Not(HasSubstr("Sampling")));
  model.more = [](gguf::GgufWriter& writer) {
    writer.add("general.sampling.temp", 0.6F)
        .add("general.sampling.top_k", 20)
        .add("general.sampling.mirostat", 2);
  };
  const std::string bytes = model.bytes();
  const auto file = gguf::File::parse(as_bytes(bytes), "m.gguf");
  ASSERT_TRUE(file) << file.error().message;
  const std::vector<SamplingDefault> catalogue = {{"temperature", 0.2, "catalogue"}};
  const std::string text = inspection_text(*file, catalogue);
  EXPECT_THAT(text, HasSubstr("0.2 (of the catalogue)\n"));
  EXPECT_THAT(text, HasSubstr("20 (of the file)\n"));
  EXPECT_THAT(text, HasSubstr("\"general.sampling.mirostat\" is not used"));
  EXPECT_THAT(inspection_text(*file), HasSubstr("0.6 (of the file)\n"));
  const Json json = inspection_json(*file, catalogue);
  EXPECT_EQ(json["sampling_defaults"].size(), 2u);
  EXPECT_EQ(json["sampling_ignored"].size(), 1u);
}

TEST(Inspect, AFileThatCannotBeRunIsShownWithTheReason) {
  const std::string bytes =
      gguf::GgufWriter().add("general.architecture", "mamba").add("x.y", 7u).finish();
  EXPECT_THAT(text_of(bytes), AllOf(HasSubstr("Not runnable"),
                                    HasSubstr("\"mamba\" is not supported"), HasSubstr("x.y")));
  const auto file = gguf::File::parse(as_bytes(bytes), "m.gguf");
  const Json json = inspection_json(*file);
  EXPECT_TRUE(json["model"].is_null());
  EXPECT_TRUE(json["memory"].is_null());
  EXPECT_THAT(json["not_runnable"].get<std::string>(), HasSubstr("supported are: llama"));
}

TEST(Inspect, JsonHasStableNames) {
  TinyLlama model{.tied = true};
  model.more = [](gguf::GgufWriter& writer) {
    writer.add_array<int32_t>("many", {1, 2, 3, 4, 5, 6, 7, 8, 9})
        .add_array<bool>("bools", {true, false});
    writer.add_strings("texts", {"a", "b\xff"})
        .add_array<double>("doubles", {0.5})
        .add_array<int8_t>("none", {});
  };
  const std::string bytes = model.bytes();
  const auto file = gguf::File::parse(as_bytes(bytes), "m.gguf");
  const Json json = *parse_json(dump_json(inspection_json(*file)));
  EXPECT_EQ(json["path"], "m.gguf");
  EXPECT_EQ(json["version"], 3);
  EXPECT_EQ(json["file_bytes"], bytes.size());
  EXPECT_EQ(json["alignment"], 32);
  EXPECT_TRUE(json["not_runnable"].is_null());
  const auto card = model_card_from_json(json["model"]);
  ASSERT_TRUE(card) << card.error().message;
  EXPECT_EQ(json["memory"]["weight_bytes"], weight_bytes(*card, whole(*card)));
  EXPECT_EQ(json["memory"]["kv_bytes_per_1000_tokens_f16"], 2 * 2 * 2 * 16 * 2 * 1000);
  EXPECT_EQ(
      json["types"][0],
      (Json{{"type", "F32"}, {"tensor_count", 20}, {"bytes", weight_bytes(*card, whole(*card))}}));
  EXPECT_EQ(json["tensors"][0]["name"], "token_embd.weight");
  EXPECT_EQ(json["tensors"][0]["shape"], (Json{64, 100}));
  std::map<std::string, Json> entries;
  for (const Json& entry : json["metadata"]) entries[entry["key"]] = entry;
  EXPECT_EQ(entries["general.name"],
            (Json{{"key", "general.name"}, {"type", "string"}, {"value", "tiny"}}));
  EXPECT_EQ(entries["many"]["count"], 9);
  EXPECT_EQ(entries["many"]["first"], (Json{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(entries["bools"]["first"], (Json{true, false}));
  EXPECT_EQ(entries["texts"]["first"], (Json{"a", "b\xef\xbf\xbd"}));
  EXPECT_EQ(entries["doubles"]["first"], (Json{0.5}));
  EXPECT_EQ(entries["none"]["first"], Json::array());
}

TEST(Inspect, TheCardAloneIsOneLineOfJson) {
  const OnDisk file(TinyLlama{}.bytes());
  testing::internal::CaptureStdout();
  EXPECT_EQ(inspect_command(file.path(), false, true), 0);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_EQ(out.find('\n'), out.size() - 1);
  EXPECT_TRUE(model_card_from_json(*parse_json(out)));
}

struct Outcome {
  int code;
  std::string out;
  std::string error;
};

Outcome inspect(const std::string& path, bool card_only) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = inspect_command(path, false, card_only);
  return {code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST(Inspect, FailuresGoToStandardErrorWithTheirExitCode) {
  const Outcome missing = inspect("/nonexistent.gguf", false);
  EXPECT_EQ(missing.code, 3);
  EXPECT_EQ(missing.out, "");
  EXPECT_EQ(missing.error, "shoal: cannot open /nonexistent.gguf: No such file or directory\n");
  EXPECT_EQ(inspect("/", false).code, 2);
  EXPECT_THAT(inspect("/", false).error, HasSubstr("/ is a directory"));

  TinyLlama wrong;
  wrong.reshaped = {{"blk.0.attn_q.weight", {64, 32}}};
  const OnDisk file(wrong.bytes());
  for (const bool card_only : {false, true}) {
    const Outcome outcome = inspect(file.path(), card_only);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.error, AllOf(HasSubstr(file.path()),
                                     HasSubstr("\"blk.0.attn_q.weight\" has the shape [64, 32]")));
  }
}

TEST(Inspect, WithoutACardAnUnsupportedModelIsAnErrorOnlyWhereACardIsAsked) {
  const OnDisk file(gguf::GgufWriter().add("general.architecture", "mamba").finish());
  EXPECT_EQ(inspect(file.path(), false).code, 0);
  const Outcome card = inspect(file.path(), true);
  EXPECT_EQ(card.code, 1);
  EXPECT_EQ(card.out, "");
  EXPECT_THAT(card.error, HasSubstr("supported are: llama"));
}

TEST(Inspect, AnEmptyFileIsSaidToBeEmpty) {
  const OnDisk file("");
  EXPECT_THAT(inspect(file.path(), false).error, HasSubstr("is empty; download it again"));
}

}  // namespace
}  // namespace shoal::cli
