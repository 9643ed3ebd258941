// What is told of a model to those who place it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dense_cut.h"
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
  EXPECT_EQ(card[CutKind::kHeads], (CutFacts{4, 2, 1, 2u * 4 * 64 * 64 * 2 / 4, 16384}));
  EXPECT_EQ(card.kv_weight_bytes_each, 2u * 4 * 64 * 32 * 2 / 2);
  EXPECT_EQ(card[CutKind::kFeedForward], (CutFacts{96, 32, 1, 2u * 4 * 3 * 64, 1536}));
  EXPECT_EQ(card[CutKind::kVocabulary], (CutFacts{100, 32, 1, 2u * 4 * 64, 4u * 64}));
  EXPECT_EQ(card[CutKind::kExperts].count, 0);
  EXPECT_EQ(card.replicated_bytes, 4u * 64 * 5);
  EXPECT_EQ(weight_bytes(card, whole(card)), card.parameter_count * 4);
  EXPECT_EQ(kv_bytes(card, whole(card), KvType::kF16, 10, 256), 10 * 2u * 2 * 2 * 16 * 2);
  EXPECT_EQ(kv_bytes(card, dense_cut({0, 1}, {0, 96}, {0, 100}), KvType::kF32, 10, 256),
            10 * 2u * 2 * 1 * 16 * 4);
  ModelCard windowed = card;
  windowed.caches = {{1, 16, 0}, {1, 16, 100}};
  EXPECT_EQ(kv_bytes(windowed, whole(card), KvType::kF16, 10000, 256),
            (10000u + 100 + 256) * 2 * 2 * 16 * 2);
}

TEST(ModelCard, ATiedTableCountsOnce) {
  const ModelCard card = card_of({.tied = true});
  EXPECT_TRUE(card.tied_embedding);
  EXPECT_EQ(card[CutKind::kVocabulary].bytes_each, 4u * 64);
  EXPECT_EQ(card[CutKind::kVocabulary].read_bytes_each, 4u * 64);
}

TEST(ModelCard, BiasesGoWithTheirHeadsAndTheTypeOfMostBytesNamesTheModel) {
  const ModelCard plain = card_of({});
  const ModelCard biased = card_of({.biases = true});
  EXPECT_EQ(biased[CutKind::kHeads].bytes_each - plain[CutKind::kHeads].bytes_each,
            2u * 4 * 64 / 4);
  EXPECT_EQ(biased.kv_weight_bytes_each - plain.kv_weight_bytes_each, 2u * 4 * (32 + 32) / 2);
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
    if (key == "cuts") continue;  // an object of parts
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

TEST(ModelCard, LayersThatCannotBeAreRefused) {
  const Json good = to_json(card_of({}));
  const auto refusal = [&](const char* pointer, const Json& value) {
    Json spoilt = good;
    spoilt[Json::json_pointer(pointer)] = value;
    const auto card = model_card_from_json(spoilt);
    EXPECT_FALSE(card) << pointer << " " << dump_json(value);
    return card ? "" : card.error().message;
  };
  EXPECT_THAT(refusal("/layers", Json::array({0})), HasSubstr("must list 2"));
  EXPECT_THAT(refusal("/layers/1", 1u), HasSubstr("must name one of the 1 kinds"));
  EXPECT_THAT(refusal("/layers/1", -1), HasSubstr("must name one of the 1 kinds"));
  EXPECT_THAT(refusal("/layer_kinds", Json::array()), HasSubstr("'layer_kinds' must list 1 to 2"));
  EXPECT_THAT(refusal("/layer_kinds/0/cache", 1), HasSubstr("names cache 1 of 1"));
  EXPECT_THAT(refusal("/layer_kinds/0/bytes/vocabulary", 5u), HasSubstr("cannot have"));
  EXPECT_THAT(refusal("/layer_kinds/0/bytes/experts", 5u), HasSubstr("cannot have"));
  EXPECT_THAT(refusal("/layer_kinds/0/bytes/heads", kBeyondAnyMachineBytes),
              HasSubstr("too large to be true"));
  EXPECT_THAT(refusal("/layer_kinds/0/key_value_bytes", UINT64_MAX),
              HasSubstr("too large to be true"));
}

// A stage holds its layers and the ends that it is at; stages hold the model once, but for a tied
// table that two of them need.
TEST(ModelCard, StagesHoldTheModelOnce) {
  for (const bool tied : {false, true}) {
    const ModelCard card = card_of({.layers = 4, .tied = tied, .rope_factors = true});
    const uint64_t table = 4u * 64 * 100, factors = 4u * 8, norm = 4u * 64;
    const uint64_t layer = 4u * (2 * 64 + 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96);
    RankCut cut = whole(card);
    cut.layers = {0, 1};
    EXPECT_EQ(weight_bytes(card, cut), table + factors + layer);
    EXPECT_EQ(kv_bytes(card, cut, KvType::kF32, 10, 256), 10u * 2 * 2 * 16 * 4);
    cut.layers = {1, 3};
    EXPECT_EQ(weight_bytes(card, cut), factors + 2 * layer);
    EXPECT_EQ(kv_bytes(card, cut, KvType::kF32, 10, 256), 2 * 10u * 2 * 2 * 16 * 4);
    EXPECT_EQ(card_of_layers(card, cut.layers)[CutKind::kVocabulary].read_bytes_each, 0u);
    cut.layers = {3, 4};
    EXPECT_EQ(weight_bytes(card, cut), table + norm + factors + layer);
    EXPECT_EQ(card_of_layers(card, cut.layers)[CutKind::kVocabulary].read_bytes_each, 4u * 64);
    cut.layers = {0, 4};
    EXPECT_EQ(weight_bytes(card, cut), weight_bytes(card, whole(card)));
    EXPECT_EQ(weight_bytes(card, cut), card.parameter_count * 4);
  }
}

TEST(RankCut, GoesThroughJsonUnchangedAndRefusesTheRest) {
  const RankCut cut = dense_cut({1, 3}, {64, 96}, {32, 100});
  EXPECT_EQ(rank_cut_from_json(to_json(cut)), cut);
  for (const char* bad :
       {R"({})", R"([])", R"({"heads":[0,1],"feed_forward":[0,32]})",
        R"({"heads":[1,1],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"heads":[-1,1],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"heads":[0,1,2],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"heads":[0,1.5],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"heads":[0,18446744073709551615],"feed_forward":[0,32],"vocabulary":[0,1]})",
        R"({"heads":"0-1","feed_forward":[0,32],"vocabulary":[0,1]})"}) {
    const auto cut_or = rank_cut_from_json(*parse_json(bad));
    ASSERT_FALSE(cut_or) << bad;
    EXPECT_EQ(cut_or.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace shoal
