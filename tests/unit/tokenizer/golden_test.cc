// Token ids equal those of Hugging Face's tokenizer (tests/golden/tokenizer). Needs the model's own
// vocabulary.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "../gguf/gguf_writer.h"
#include "base/bytes.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace shoal {
namespace {

class Golden : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("SHOAL_TEST_MODELS");
    if (!folder)
      GTEST_SKIP()
          << "SHOAL_TEST_MODELS does not name a folder with SmolLM2-135M-Instruct.Q4_1.gguf";
    const auto path = std::filesystem::path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " does not exist";
    auto file = gguf::File::open(path);
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::make_unique<gguf::File>(std::move(*file));
    auto tokenizer = Tokenizer::from_gguf(*file_);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = std::make_unique<Tokenizer>(std::move(*tokenizer));

    std::ifstream lines(SHOAL_SOURCE_DIR "/tests/golden/tokenizer/smollm2.jsonl");
    std::string line;
    std::getline(lines, line);  // provenance
    header_ = parse_json(line).value_or(Json());
    while (std::getline(lines, line)) {
      auto parsed = parse_json(line);
      ASSERT_TRUE(parsed) << parsed.error().message;
      cases_.push_back(std::move(*parsed));
    }
    ASSERT_GT(cases_.size(), 4000u);
  }

  std::unique_ptr<gguf::File> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Json header_;
  std::vector<Json> cases_;
};

TEST_F(Golden, IdsEqualHuggingFaces) {
  int different = 0;
  for (const Json& one : cases_) {
    const auto text = one[0].get<std::string>();
    for (const bool parse_special : {true, false}) {
      const Json& expected = !parse_special && !one[2].is_null() ? one[2] : one[1];
      const auto ids = tokenizer_->encode(text, parse_special);
      ASSERT_TRUE(ids) << ids.error().message;
      if (*ids == expected.get<std::vector<int32_t>>()) continue;
      if (++different <= 10) {
        ADD_FAILURE() << "text " << one[0].dump(-1, ' ', true) << "\nparse_special "
                      << parse_special << "\ngave " << Json(*ids).dump() << "\nnot  "
                      << expected.dump();
      }
    }
  }
  EXPECT_EQ(different, 0) << "of " << cases_.size() * 2;
}

// All of them as one text, which is too long to be encoded in one piece.
TEST_F(Golden, LongTextsTooEqualHuggingFaces) {
  std::string joined;
  for (const Json& one : cases_) {
    if (&one != &cases_.front()) joined += " and then ";
    joined += one[0].get<std::string>();
  }
  const auto ids = tokenizer_->encode(joined, true);
  ASSERT_TRUE(ids) << ids.error().message;
  EXPECT_EQ(ids->size(), header_["joined_ids"].get<size_t>());
  EXPECT_EQ(sha256(fmt::format("{}", fmt::join(*ids, ","))),
            header_["joined_sha256"].get<std::string>());
}

// SmolLM2's vocabulary lacks 21 bytes, so only what it can say comes back.
TEST_F(Golden, DecodingGivesTheTextBack) {
  int lossy = 0;
  for (const Json& one : cases_) {
    const auto text = one[0].get<std::string>();
    const auto ids = one[1].get<std::vector<int32_t>>();
    const std::string decoded = tokenizer_->decode(ids, true);
    if (decoded != text) {
      ++lossy;
      EXPECT_LT(decoded.size(), text.size() * 3 + 3);
    }
    Detokenizer stream(*tokenizer_);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.add(id);
    streamed += stream.finish();
    EXPECT_EQ(streamed, tokenizer_->decode(ids)) << one[0].dump(-1, ' ', true);
  }
  EXPECT_LT(lossy, static_cast<int>(cases_.size() / 4));
}

TEST_F(Golden, KnowsItsSpecialTokens) {
  EXPECT_EQ(tokenizer_->vocabulary_size(), 49152);
  EXPECT_EQ(tokenizer_->bos(), 1);
  EXPECT_EQ(tokenizer_->eos(), 2);
  EXPECT_FALSE(tokenizer_->adds_bos());
  EXPECT_EQ(tokenizer_->end_tokens(), (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(tokenizer_->token_named("<|im_end|>"), 2);
  EXPECT_EQ(tokenizer_->token_bytes(2), "");
  EXPECT_EQ(tokenizer_->token_bytes(2, true), "<|im_end|>");
}

// Neither one letter, nor spaces, digits or prose without end may take time that grows with its
// square.
TEST_F(Golden, TakesLongTexts) {
  std::string prose;
  while (prose.size() < (1 << 18))
    prose += "The harbour lay still, and nobody in the 3 boats spoke. ";
  for (const std::string& text :
       {std::string(1 << 18, 'a'), std::string(1 << 18, ' '), std::string(1 << 18, '7'), prose}) {
    const auto ids = tokenizer_->encode(text, true);
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(tokenizer_->decode(*ids), text);
  }
}

}  // namespace
}  // namespace shoal
