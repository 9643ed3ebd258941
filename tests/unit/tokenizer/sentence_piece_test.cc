#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_vocabulary.h"

namespace shoal {
namespace {

using testing::ElementsAre;

const std::string kSpace = "\u2581";

// 0 to 2 special, 3 to 258 the bytes, then letters and what they merge to.
SmallVocabulary pieces() {
  SmallVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.pre = "";
  vocabulary.add("<unk>", kUnknown);
  vocabulary.add("<s>", kControl);
  vocabulary.add("</s>", kControl);
  for (int byte = 0; byte < 256; ++byte) vocabulary.add(fmt::format("<0x{:02X}>", byte), kByte);
  vocabulary.ids = {{"bos_token_id", 1}, {"eos_token_id", 2}};
  return vocabulary;
}

SmallVocabulary words() {
  SmallVocabulary vocabulary = pieces();
  float score = -100;
  for (const std::string& letter : {kSpace, std::string("a"), std::string("b"), std::string("c")}) {
    vocabulary.add(letter, kNormal, score--);  // 259 to 262
  }
  vocabulary.add("ab", kNormal, -2);            // 263
  vocabulary.add("bc", kNormal, -1);            // 264, better than "ab"
  vocabulary.add("abc", kNormal, -3);           // 265
  vocabulary.add(kSpace + "abc", kNormal, -4);  // 266
  return vocabulary;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text, true);
  EXPECT_TRUE(ids) << ids.error().message;
  return ids.value_or(std::vector<int32_t>{});
}

TEST(SentencePiece, JoinsByScore) {
  const auto tokenizer = tokenizer_of(words().file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_THAT(encode(*tokenizer, "abc"), ElementsAre(266));
  EXPECT_THAT(encode(*tokenizer, "ab"), ElementsAre(259, 263));
  EXPECT_THAT(encode(*tokenizer, "aabbc"), ElementsAre(259, 260, 263, 264));
  EXPECT_THAT(encode(*tokenizer, "abc abc"), ElementsAre(266, 266));
  EXPECT_THAT(encode(*tokenizer, "<s>abc"), ElementsAre(1, 266));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{266, 266}), "abc abc");
  EXPECT_EQ(tokenizer->token_bytes(266), " abc");
}

TEST(SentencePiece, WithoutTheSpaceBefore) {
  SmallVocabulary vocabulary = words();
  vocabulary.flags = {{"add_space_prefix", false}, {"add_bos_token", false}};
  const auto tokenizer = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(tokenizer);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_THAT(encode(*tokenizer, "abc abc"), ElementsAre(265, 266));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{266, 266}), " abc abc");
}

// A special token begins a text anew, and the space is written before what follows it; in Mistral's
// later vocabularies, only at the very beginning, and never twice.
TEST(SentencePiece, TheSpaceBefore) {
  SmallVocabulary vocabulary = words();
  const auto llama = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(llama);
  EXPECT_THAT(encode(*llama, "abc</s>abc"), ElementsAre(266, 2, 266));
  EXPECT_THAT(encode(*llama, " abc"), ElementsAre(259, 266));
  vocabulary.add("[INST]", kControl);  // 267
  const auto mistral = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(mistral);
  EXPECT_THAT(encode(*mistral, "abc[INST]abc"), ElementsAre(266, 267, 265));
  EXPECT_THAT(encode(*mistral, "[INST] abc"), ElementsAre(267, 266));
  EXPECT_THAT(encode(*mistral, " abc"), ElementsAre(266));
}

// "\u2581\u2582" as text: the first is the sign that the vocabulary writes for a space.
TEST(SentencePiece, AVisibleSpaceInTheTextIsASpace) {
  const auto tokenizer = tokenizer_of(words().file());
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(encode(*tokenizer, "abc" + kSpace + "abc"), encode(*tokenizer, "abc abc"));
}

TEST(SentencePiece, AnswersBeginWithoutTheSpace) {
  const auto tokenizer = tokenizer_of(words().file());
  ASSERT_TRUE(tokenizer);
  EXPECT_TRUE(tokenizer->adds_space());
  Detokenizer answer(*tokenizer, /*begins_text=*/true);
  EXPECT_EQ(answer.add(1), "");  // a special token is no text
  EXPECT_EQ(answer.add(266), "abc");
  EXPECT_EQ(answer.add(266), " abc");
  Detokenizer continuation(*tokenizer);
  EXPECT_EQ(continuation.add(266), " abc");
  SmallVocabulary vocabulary = words();
  vocabulary.flags = {{"add_space_prefix", false}};
  const auto plain = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(plain);
  Detokenizer kept(*plain, /*begins_text=*/true);
  EXPECT_EQ(kept.add(266), " abc");
}

// Phi 3: a template writes ends of lines behind its tokens that are part of them.
TEST(SentencePiece, TokensThatTakeTheSpaceBehindThem) {
  SmallVocabulary vocabulary = words();
  for (const char* text : {"<|endoftext|>", "<|user|>", "<|end|>", "<|placeholder1|>"}) {
    vocabulary.add(text, kControl);  // 267 to 270
  }
  const auto tokenizer = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(tokenizer);
  EXPECT_THAT(encode(*tokenizer, "<|user|>\n abc<|end|>\n"), ElementsAre(268, 266, 269));
  EXPECT_THAT(encode(*tokenizer, "<|endoftext|>\nabc"), ElementsAre(267, 259, 3 + '\n', 265));
  EXPECT_THAT(tokenizer->end_tokens(), ElementsAre(2, 267, 269));
}

// Gemma 4's files list merges, and do not tell what is found as text before them.
TEST(SentencePiece, MergesFromTheFile) {
  SmallVocabulary vocabulary = words();
  vocabulary.model = "gemma4";
  vocabulary.merges = {"a b", "b c", "ab c", kSpace + " abc"};
  vocabulary.add("</a>");               // 267, of ordinary type
  vocabulary.add("<turn|>", kControl);  // 268
  const auto tokenizer = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_THAT(encode(*tokenizer, "abc abc"), ElementsAre(265, 266));
  EXPECT_THAT(encode(*tokenizer, "abb</a>c"), ElementsAre(263, 261, 267, 262));
  EXPECT_THAT(tokenizer->end_tokens(), ElementsAre(2, 268));
  vocabulary.merges.push_back("a q");
  EXPECT_FALSE(tokenizer_of(vocabulary.file()));
}

// Words, and what no word ends: each is as long as it likes.
TEST(SentencePiece, TakesLongTexts) {
  const auto tokenizer = tokenizer_of(words().file());
  ASSERT_TRUE(tokenizer);
  std::string prose;
  while (prose.size() < 300'000) prose += "abc abcab  c\n";
  for (const std::string& text :
       {prose, std::string(1 << 20, 'a'), std::string(1 << 20, ' '), std::string(1 << 20, '\n')}) {
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
  }
}

TEST(SentencePiece, BytesForWhatHasNoToken) {
  const auto tokenizer = tokenizer_of(words().file());
  ASSERT_TRUE(tokenizer);
  EXPECT_THAT(encode(*tokenizer, "a\u00E9\n"), ElementsAre(259, 260, 3 + 0xC3, 3 + 0xA9, 3 + '\n'));
  for (const std::string text : {"\u4E16\U0001F600 xyz", "", "tab\tand\r\nmore", "a"}) {
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
  }
  Detokenizer stream(*tokenizer);
  EXPECT_EQ(stream.add(3 + 0xC3), "");
  EXPECT_EQ(stream.add(3 + 0xA9), "\u00E9");
}

// Files with random weights, made for measuring, have the bytes and then names that nothing merges
// to.
TEST(SentencePiece, AVocabularyOfBytes) {
  SmallVocabulary vocabulary = pieces();
  for (int id = 259; id < 1000; ++id)
    vocabulary.add(fmt::format("t{}", id), kNormal, static_cast<float>(-id));
  const auto tokenizer = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_THAT(encode(*tokenizer, "Hi"),
              ElementsAre(3 + 0xE2, 3 + 0x96, 3 + 0x81, 3 + 'H', 3 + 'i'));
  EXPECT_EQ(tokenizer->token_bytes(300), "t300");
  EXPECT_THAT(tokenizer->end_tokens(), ElementsAre(2));
}

}  // namespace
}  // namespace shoal
