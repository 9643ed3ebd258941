#include "cli/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace shoal::cli {
namespace {

const std::string kModel = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/llama/plain.gguf";

std::string long_text() {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "line " + std::to_string(i * 7919) + " of a text\n";
  return text;
}

PerplexityOptions options(std::string text, int64_t context) {
  return {.model_path = kModel,
          .text = std::move(text),
          .context = context,
          .threads = 1,
          .isa = "reference",
          .kv_type = KvType::kF32};
}

TEST(Perplexity, ScoresTheSecondHalfOfEveryWholeWindow) {
  int64_t calls = 0;
  const auto result = perplexity(options(long_text(), 64), [&](int64_t done, int64_t all, double) {
    EXPECT_EQ(done, ++calls);
    EXPECT_GT(all, 10);
    return true;
  });
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->windows, result->tokens / 64);
  EXPECT_EQ(calls, result->windows);
  EXPECT_EQ(result->scored_tokens, result->windows * 31);  // 33 to 63 of each window
  // Random weights know nothing: near the vocabulary of 261, and far from sure.
  EXPECT_GT(result->perplexity, 20);
  EXPECT_LT(result->perplexity, 100000);
  EXPECT_GT(result->uncertainty, 0);
}

TEST(Perplexity, WindowsAreComputedByThemselves) {
  // The score of two windows is made of the scores of each: log perplexities average.
  const auto file = gguf::File::open(kModel);
  ASSERT_TRUE(file);
  const auto tokenizer = Tokenizer::from_gguf(*file);
  ASSERT_TRUE(tokenizer);
  ASSERT_FALSE(tokenizer->adds_bos()) << "the arithmetic below assumes none";
  const auto ids = tokenizer->encode(long_text(), false);
  ASSERT_TRUE(ids);
  const auto part = [&](size_t begin, size_t count) {
    return tokenizer->decode(std::span(*ids).subspan(begin, count));
  };
  const auto both = perplexity(options(part(0, 128), 64));
  const auto first = perplexity(options(part(0, 64), 64));
  const auto second = perplexity(options(part(64, 64), 64));
  ASSERT_TRUE(both && first && second);
  ASSERT_EQ(both->windows, 2);
  EXPECT_NEAR(std::log(both->perplexity),
              (std::log(first->perplexity) + std::log(second->perplexity)) / 2, 1e-9);
}

TEST(Perplexity, ATextThatIsTooShortIsRefusedWithTheNumbers) {
  const auto refused = perplexity(options("short", 64));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("one window is 64"), std::string::npos);
}

TEST(Perplexity, AContextBeyondTheTrainedIsRefusedWithTheNumbers) {
  const auto refused = perplexity(options(long_text(), 5000));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("5000"), std::string::npos);
  EXPECT_NE(refused.error().message.find("256"), std::string::npos);
}

TEST(Perplexity, CanBeStopped) {
  const auto stopped =
      perplexity(options(long_text(), 64), [](int64_t, int64_t, double) { return false; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

TEST(Perplexity, AMissingModelIsNamed) {
  auto wanted = options(long_text(), 64);
  wanted.model_path = "/nowhere/model.gguf";
  const auto refused = perplexity(wanted);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
  EXPECT_NE(refused.error().message.find("/nowhere/model.gguf"), std::string::npos);
}

TEST(Perplexity, ItsJsonHasStableNames) {
  const Json json = to_json(PerplexityResult{.perplexity = 12.5, .tokens = 10000});
  EXPECT_EQ(json.at("perplexity"), 12.5);
  EXPECT_EQ(json.at("tokens"), 10000);
}

}  // namespace
}  // namespace shoal::cli
