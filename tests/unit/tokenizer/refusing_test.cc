// Metadata that contradicts itself, or that Shoal does not know, ends in a sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "small_vocabulary.h"

namespace shoal {
namespace {

using testing::AllOf;
using testing::HasSubstr;

SmallVocabulary correct() {
  SmallVocabulary vocabulary;
  for (const char* text : {"a", "b", "ab"}) vocabulary.add(text);
  vocabulary.merges = {"a b"};
  return vocabulary;
}

void expect_error(const std::string& bytes, ErrorCode code, std::string_view words) {
  const auto tokenizer = tokenizer_of(bytes);
  ASSERT_FALSE(tokenizer) << "was accepted, not: " << words;
  EXPECT_EQ(error_name(tokenizer.error().code), error_name(code)) << tokenizer.error().message;
  EXPECT_THAT(tokenizer.error().message, AllOf(HasSubstr("small.gguf"), HasSubstr(words)));
}

void expect_error(const SmallVocabulary& vocabulary, ErrorCode code, std::string_view words) {
  expect_error(vocabulary.file(), code, words);
}

TEST(RefusingVocabularies, UnknownKinds) {
  ASSERT_TRUE(tokenizer_of(correct().file()));
  SmallVocabulary vocabulary = correct();
  vocabulary.model = "rwkv";
  expect_error(vocabulary, ErrorCode::kUnsupported, "'rwkv'");
  expect_error(vocabulary, ErrorCode::kUnsupported, "gpt2");
  vocabulary = correct();
  vocabulary.pre = "of-tomorrow";
  expect_error(vocabulary, ErrorCode::kUnsupported, "'of-tomorrow'");
  expect_error(vocabulary, ErrorCode::kUnsupported, "smollm");
  expect_error(gguf::GgufWriter().add("general.name", "x").finish(), ErrorCode::kUnsupported,
               "tokenizer.ggml.model");
}

TEST(RefusingVocabularies, MissingParts) {
  expect_error(gguf::GgufWriter().add("tokenizer.ggml.model", "gpt2").finish(), ErrorCode::kCorrupt,
               "tokenizer.ggml.tokens");
  SmallVocabulary vocabulary = correct();
  vocabulary.merges.clear();
  expect_error(vocabulary, ErrorCode::kCorrupt, "tokenizer.ggml.merges");
  expect_error(gguf::GgufWriter()
                   .add("tokenizer.ggml.model", "llama")
                   .add_strings("tokenizer.ggml.tokens", {"a"})
                   .finish(),
               ErrorCode::kCorrupt, "tokenizer.ggml.scores");
  expect_error(gguf::GgufWriter()
                   .add("tokenizer.ggml.model", "gpt2")
                   .add_strings("tokenizer.ggml.tokens", {})
                   .finish(),
               ErrorCode::kCorrupt, "no tokens");
  expect_error(gguf::GgufWriter().add("tokenizer.ggml.model", uint32_t{7}).finish(),
               ErrorCode::kCorrupt, "tokenizer.ggml.model");
}

TEST(RefusingVocabularies, LengthsThatDiffer) {
  SmallVocabulary vocabulary = correct();
  vocabulary.types.push_back(kNormal);
  expect_error(vocabulary, ErrorCode::kCorrupt, "4 entries for 3 tokens");
  vocabulary = correct();
  vocabulary.model = "llama";
  vocabulary.scores.pop_back();
  expect_error(vocabulary, ErrorCode::kCorrupt, "2 entries for 3 tokens");
}

TEST(RefusingVocabularies, WrongEntries) {
  SmallVocabulary vocabulary = correct();
  vocabulary.types[1] = 9;
  expect_error(vocabulary, ErrorCode::kCorrupt, "token 1 has type 9");
  vocabulary = correct();
  vocabulary.tokens[2] = "a\xFF";
  expect_error(vocabulary, ErrorCode::kCorrupt, "token 2 is not UTF-8");
  vocabulary = correct();
  vocabulary.ids = {{"eos_token_id", 3}};
  expect_error(vocabulary, ErrorCode::kCorrupt, "eos_token_id is 3");
  vocabulary = correct();
  vocabulary.model = "llama";
  vocabulary.scores[0] = std::numeric_limits<float>::quiet_NaN();
  expect_error(vocabulary, ErrorCode::kCorrupt, "score of token 0");
  vocabulary = correct();
  vocabulary.model = "llama";
  vocabulary.tokens[0] = std::string(5000, 'x');
  expect_error(vocabulary, ErrorCode::kUnsupported, "5000 bytes");
}

TEST(RefusingVocabularies, MergesOfNothing) {
  for (const auto& [merge, words] :
       std::vector<std::pair<std::string, std::string>>{{"ab", "not two tokens"},
                                                        {"", "not two tokens"},
                                                        {"a z", "'z'"},
                                                        {"z a", "'z'"},
                                                        {"b a", "'ba'"},
                                                        {"a  b", "' b'"},
                                                        {"ab ", "''"}}) {
    SmallVocabulary vocabulary = correct();
    vocabulary.merges.push_back(merge);
    expect_error(vocabulary, ErrorCode::kCorrupt, "merge 1");
    expect_error(vocabulary, ErrorCode::kCorrupt, words);
  }
}

TEST(RefusingVocabularies, EqualTexts) {
  SmallVocabulary vocabulary = correct();
  vocabulary.add("ab");
  expect_error(vocabulary, ErrorCode::kCorrupt, "tokens 2 and 3 have the same text");
  // Padding is not a text.
  vocabulary = correct();
  vocabulary.add("");
  vocabulary.add("");
  const auto tokenizer = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocabulary_size(), 5);
  EXPECT_EQ(tokenizer->encode("ab", true).value(), std::vector<int32_t>{2});
}

TEST(RefusingVocabularies, BytesThatAreNone) {
  for (const std::string text : {"<0xGG>", "<0x1>", "a", "<0x100>"}) {
    SmallVocabulary vocabulary = correct();
    vocabulary.model = "llama";
    vocabulary.add(text == "a" ? "byte" : text, kByte);
    expect_error(vocabulary, ErrorCode::kCorrupt, "token 3 is a byte");
  }
}

}  // namespace
}  // namespace shoal
