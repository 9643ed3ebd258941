// What is told of a model to those who place it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/model.h"
#include "tiny_llama.h"

namespace shoal {
namespace {

using testing::HasSubstr;

ModelCard card_of(const TinyLlama& model) {
  const std::string bytes = model.bytes();
  const auto file = gguf::File::parse(as_bytes(bytes), "tiny.gguf");
  const auto description = describe(*file);
  EXPECT_TRUE(description) << description.error().message;
  return model_card(*file, *description);
}

TEST(ModelCard, CountsBytesByWhatACutDivides) {
  const ModelCard card = card_of({});
  EXPECT_EQ(card.quantisation, "F32");
  EXPECT_EQ(card.parameter_count,
            2u * 64 * 100 + 64 + 2 * (2 * 64 + 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96));
  EXPECT_EQ(card.attention_bytes_per_kv_head, 2u * 4 * (64 * 64 * 2 + 64 * 32 * 2) / 2);
  EXPECT_EQ(card.feed_forward_bytes_per_column, 2u * 4 * 3 * 64);
  EXPECT_EQ(card.vocabulary_bytes_per_row, 2u * 4 * 64);
  EXPECT_EQ(card.head_bytes_per_row, 4u * 64);
  EXPECT_EQ(card.replicated_bytes, 4u * 64 * 5);
  EXPECT_EQ(weight_bytes(card, whole(card)), card.parameter_count * 4);
  EXPECT_EQ(kv_bytes_per_token(card, whole(card), KvType::kF16), 2u * 2 * 2 * 16 * 2);
  EXPECT_EQ(kv_bytes_per_token(card, {{0, 1}, {0, 96}, {0, 100}}, KvType::kF32),
            2u * 2 * 1 * 16 * 4);
}

TEST(ModelCard, ATiedTableCountsOnce) {
  const ModelCard card = card_of({.tied = true});
  EXPECT_TRUE(card.tied_embedding);
  EXPECT_EQ(card.vocabulary_bytes_per_row, 4u * 64);
  EXPECT_EQ(card.head_bytes_per_row, 4u * 64);
}

TEST(ModelCard, BiasesGoWithTheirHeadsAndTheTypeOfMostBytesNamesTheModel) {
  const ModelCard plain = card_of({});
  const ModelCard biased = card_of({.biases = true});
  EXPECT_EQ(biased.attention_bytes_per_kv_head - plain.attention_bytes_per_kv_head,
            2u * 4 * (64 + 32 + 32) / 2);
  EXPECT_EQ(
      card_of({.layers = 20, .hidden = 256, .feed_forward = 512, .matrix_type = 12}).quantisation,
      "Q4_K");
}

TEST(ModelCard, GoesThroughJsonUnchanged) {
  const ModelCard card = card_of({.tied = true, .rope_factors = true});
  const auto back = model_card_from_json(to_json(card));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, card);
}

TEST(ModelCard, JsonThatCannotBeIsRefusedWithTheField) {
  const Json good = to_json(card_of({}));
  for (const auto& [key, value] : good.items()) {
    Json missing = good;
    missing.erase(key);
    EXPECT_THAT(model_card_from_json(missing).error().message, HasSubstr(key));
    Json wrong = good;
    wrong[key] = Json::array();
    EXPECT_THAT(model_card_from_json(wrong).error().message, HasSubstr(key));
    if (!value.is_number()) continue;
    wrong[key] = -1;
    EXPECT_FALSE(model_card_from_json(wrong)) << key;
    wrong[key] = UINT64_MAX;
    if (key != "file_bytes" && key != "parameter_count") {
      EXPECT_FALSE(model_card_from_json(wrong)) << key;
    }
    wrong[key] = 1.5;
    EXPECT_FALSE(model_card_from_json(wrong)) << key;
  }
  Json uneven = good;
  uneven["kv_head_count"] = 3;
  EXPECT_FALSE(model_card_from_json(uneven));
  EXPECT_FALSE(model_card_from_json(Json("text")));
}

TEST(RankCut, GoesThroughJsonUnchangedAndRefusesTheRest) {
  const RankCut cut{{1, 3}, {64, 96}, {32, 100}};
  EXPECT_EQ(rank_cut_from_json(to_json(cut)), cut);
  for (const char* bad :
       {R"({})", R"([])", R"({"kv_heads":[0,1],"feed_forward":[0,32]})",
        R"({"kv_heads":[1,1],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"kv_heads":[-1,1],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"kv_heads":[0,1,2],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"kv_heads":[0,1.5],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"kv_heads":[0,18446744073709551615],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"kv_heads":"0-1","feed_forward":[0,32],"vocabulary":[0,1]})"}) {
    const auto cut_or = rank_cut_from_json(*parse_json(bad));
    ASSERT_FALSE(cut_or) << bad;
    EXPECT_EQ(cut_or.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace shoal
