// Which tokens end a turn, by the families' texts and the file's ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_vocabulary.h"

namespace shoal {
namespace {

using testing::ElementsAre;

std::vector<int32_t> ends_of(const SmallVocabulary& vocabulary) {
  const auto tokenizer = tokenizer_of(vocabulary.file());
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return tokenizer ? tokenizer->end_tokens() : std::vector<int32_t>{};
}

// Ids 0 and on: "a", "b", "ab", then the control tokens.
SmallVocabulary with_control(std::initializer_list<const char*> texts) {
  SmallVocabulary vocabulary;
  for (const char* text : {"a", "b", "ab"}) vocabulary.add(text);
  vocabulary.merges = {"a b"};
  for (const char* text : texts) vocabulary.add(text, kControl);
  return vocabulary;
}

TEST(EndTokens, ByText) {
  EXPECT_THAT(ends_of(with_control({"<|im_start|>", "<|im_end|>", "<|endoftext|>"})),
              ElementsAre(4, 5));  // Qwen
  EXPECT_THAT(ends_of(with_control({"<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>",
                                    "<|end_of_text|>", "<|start_header_id|>"})),
              ElementsAre(4, 5, 6));  // Llama 3
  EXPECT_THAT(ends_of(with_control({"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"})),
              ElementsAre(4, 6));  // Gemma
  EXPECT_THAT(ends_of(with_control({"<\uFF5Cend\u2581of\u2581sentence\uFF5C>"})),
              ElementsAre(3));  // DeepSeek
  EXPECT_THAT(ends_of(with_control({"<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"})),
              ElementsAre(4));  // Command R
}

TEST(EndTokens, TheFilesOwnIdsCount) {
  SmallVocabulary vocabulary = with_control({"x", "y", "z"});
  vocabulary.ids = {{"eos_token_id", 3}, {"eot_token_id", 4}, {"eom_token_id", 5}};
  EXPECT_THAT(ends_of(vocabulary), ElementsAre(3, 4, 5));
  vocabulary.ids = {{"eot_token_id", 6}};
  EXPECT_FALSE(tokenizer_of(vocabulary.file()));
}

TEST(EndTokens, OfAMessageButNotOfATurn) {
  // Phi 3 ends its turns with it.
  EXPECT_THAT(ends_of(with_control({"<|end|>", "<|user|>"})), ElementsAre(3));
  // gpt-oss ends a message, of which a turn may have several.
  EXPECT_THAT(ends_of(with_control({"<|start|>", "<|end|>", "<|return|>", "<|call|>"})),
              ElementsAre(5, 6));
}

TEST(EndTokens, TheNextTurnIsAnEndToo) {
  EXPECT_THAT(ends_of(with_control({"[gMASK]", "<|user|>", "<|observation|>", "<|assistant|>"})),
              ElementsAre(4, 5));  // GLM
  EXPECT_THAT(ends_of(with_control({"<|user|>", "<|observation|>"})), ElementsAre());
}

TEST(EndTokens, OrdinaryTextIsNone) {
  SmallVocabulary vocabulary = with_control({"<eos>"});
  vocabulary.add("<|endoftext|>");          // ordinary
  vocabulary.add("</s>", kUserDefined);     // HTML to Gemma
  vocabulary.add("<|eot|>", kUserDefined);  // no word of any language
  EXPECT_THAT(ends_of(vocabulary), ElementsAre(3, 6));
}

}  // namespace
}  // namespace shoal
