#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_vocabulary.h"

namespace shoal {
namespace {

using testing::ElementsAre;

// "\u0120" is the space of byte-level vocabularies.
SmallVocabulary letters() {
  SmallVocabulary vocabulary;
  for (const char* text : {"a", "b", "c", "\u0120", "1", "2"}) vocabulary.add(text);  // 0 to 5
  vocabulary.add("ab");                                                               // 6
  vocabulary.add("\u0120ab");                                                         // 7
  vocabulary.add("abc");                                                              // 8
  vocabulary.add("12");                                                               // 9
  vocabulary.add("<|im_start|>", kControl);                                           // 10
  vocabulary.add("<|im_end|>", kControl);                                             // 11
  vocabulary.add("<tag>", kUserDefined);                                              // 12
  vocabulary.add("\u00C3");                                                           // 13: byte C3
  vocabulary.add("\u00A9");                                                           // 14: byte A9
  vocabulary.add("<|endoftext|>");  // 15: ordinary text here
  vocabulary.merges = {"a b", "ab c", "\u0120 ab", "1 2"};
  vocabulary.ids = {{"bos_token_id", 10}, {"eos_token_id", 11}};
  return vocabulary;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text,
                            bool parse_special = true) {
  const auto ids = tokenizer.encode(text, parse_special);
  EXPECT_TRUE(ids) << ids.error().message;
  return ids.value_or(std::vector<int32_t>{});
}

TEST(ByteLevel, MergesInOrder) {
  const auto tokenizer = tokenizer_of(letters().file());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_THAT(encode(*tokenizer, "abc"), ElementsAre(8));
  EXPECT_THAT(encode(*tokenizer, "ab abc"), ElementsAre(6, 3, 8));
  EXPECT_THAT(encode(*tokenizer, "ab ab"), ElementsAre(6, 7));
  EXPECT_THAT(encode(*tokenizer, ""), ElementsAre());
  // This family takes every digit by itself, whatever the merges say.
  EXPECT_THAT(encode(*tokenizer, "12"), ElementsAre(4, 5));
  // A character that the vocabulary cannot write is dropped, as Hugging Face's model does.
  EXPECT_THAT(encode(*tokenizer, "azb"), ElementsAre(6));
}

TEST(ByteLevel, AnotherFamilyCutsOtherwise) {
  SmallVocabulary vocabulary = letters();
  vocabulary.pre = "gpt-2";
  const auto tokenizer = tokenizer_of(vocabulary.file());
  ASSERT_TRUE(tokenizer);
  EXPECT_THAT(encode(*tokenizer, "12"), ElementsAre(9));
  vocabulary.pre = "";  // old files say nothing
  EXPECT_THAT(encode(*tokenizer_of(vocabulary.file()), "12"), ElementsAre(9));
}

TEST(ByteLevel, SpecialTokensOnlyWhenAskedFor) {
  const auto tokenizer = tokenizer_of(letters().file());
  ASSERT_TRUE(tokenizer);
  EXPECT_THAT(encode(*tokenizer, "a<|im_end|>b"), ElementsAre(0, 11, 1));
  EXPECT_THAT(encode(*tokenizer, "<|im_end|><|im_start|>"), ElementsAre(11, 10));
  // As text it has only letters that this vocabulary lacks.
  EXPECT_THAT(encode(*tokenizer, "a<|im_end|>b", false), ElementsAre(0, 1));
  // A token that users defined is text that is always found, and shown.
  EXPECT_THAT(encode(*tokenizer, "a<tag>b", false), ElementsAre(0, 12, 1));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{0, 11, 12, 1}), "a<tag>b");
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{0, 11, 12, 1}, true), "a<|im_end|><tag>b");
}

TEST(ByteLevel, TellsWhatItIs) {
  const auto tokenizer = tokenizer_of(letters().file());
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocabulary_size(), 16);
  EXPECT_EQ(tokenizer->longest_token_bytes(), 13);  // <|endoftext|>
  EXPECT_EQ(tokenizer->bos(), 10);
  EXPECT_EQ(tokenizer->eos(), 11);
  EXPECT_FALSE(tokenizer->adds_bos());
  // <|endoftext|> is ordinary text in this vocabulary, which the model may write.
  EXPECT_THAT(tokenizer->end_tokens(), ElementsAre(11));
  EXPECT_EQ(tokenizer->token_named("abc"), 8);
  EXPECT_EQ(tokenizer->token_named("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer->token_bytes(7), " ab");
  EXPECT_EQ(tokenizer->token_bytes(13), "\xC3");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_EQ(tokenizer->token_bytes(16), "");
}

TEST(ByteLevel, TextThatIsNotUtf8IsRefused) {
  const auto tokenizer = tokenizer_of(letters().file());
  ASSERT_TRUE(tokenizer);
  const auto ids = tokenizer->encode("ab\xC3", true);
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(ids.error().message, testing::HasSubstr("byte 2"));
}

TEST(Streaming, HoldsUnfinishedCharacters) {
  const auto tokenizer = tokenizer_of(letters().file());
  ASSERT_TRUE(tokenizer);
  Detokenizer stream(*tokenizer);
  EXPECT_EQ(stream.add(0), "a");
  EXPECT_EQ(stream.add(13), "");  // C3: a character begins
  EXPECT_EQ(stream.add(14), "\u00E9");
  EXPECT_EQ(stream.add(14), "\uFFFD");  // A9 begins none
  EXPECT_EQ(stream.add(13), "");
  EXPECT_EQ(stream.add(11), "");  // a special token is no text
  EXPECT_EQ(stream.add(0),
            "\uFFFD"
            "a");
  EXPECT_EQ(stream.add(13), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace shoal
