// What a rank takes.
#include <gtest/gtest.h>

#include "cards.h"
#include "kernels/interleaved.h"
#include "placement/cost.h"

namespace shoal {
namespace {

placement::RankNeed need(const ModelCard& card, const RankCut& cut) {
  return placement::rank_need(card, cut, 4096, 2, KvType::kF16);
}

TEST(RankMemory, CountsWeightsAsTheyArePacked) {
  int types = 0;
  for (uint32_t number = 0; number < 64; ++number) {
    const ElementTraits* traits = element_traits(number);
    if (traits == nullptr || !traits->supported) continue;
    ++types;
    const auto type = static_cast<ElementType>(number);
    const auto packed = static_cast<double>(kernels::piece_offsets(type, 256).total);
    const auto in_file = static_cast<double>(16 * row_bytes(type, 256));
    EXPECT_DOUBLE_EQ(placement::packed_factor(traits->name), packed / in_file) << traits->name;
  }
  EXPECT_GT(types, 10);
}

// Rank 0 alone turns texts into tokens, whoever else holds rows of the vocabulary.
TEST(RankMemory, OnlyTheLeadHasATokenizer) {
  const ModelCard card = smollm2_card();
  const auto tokenizer = placement::kLeadBytesPerToken * 49152;
  EXPECT_EQ(need(card, whole(card)).lead_bytes, tokenizer);

  const auto halves = partition(card, std::vector<double>{1, 1});
  ASSERT_TRUE(halves);
  EXPECT_EQ(need(card, halves->at(0)).lead_bytes, tokenizer);
  EXPECT_EQ(need(card, halves->at(1)).lead_bytes, 0u);

  RankCut stage = whole(card);
  stage.layers = {0, 10};
  EXPECT_EQ(need(card, stage).lead_bytes, tokenizer);
  for (const Range layers : {Range{10, 20}, Range{20, 30}}) {
    stage.layers = layers;
    EXPECT_EQ(need(card, stage).lead_bytes, 0u);
    EXPECT_EQ(need(card_of_layers(card, layers), whole(card)).lead_bytes, 0u);
  }
}

// The embedding is where the first layers are, the head where the last ones are, and both are one
// table where a rank has both.
TEST(RankMemory, ATiedTableIsHeldOnceByEachWhoNeedsIt) {
  const ModelCard card = smollm2_card();
  const uint64_t table = card.head_bytes;
  RankCut stage = whole(card);
  const uint64_t all = need(card, stage).weight_bytes;
  stage.layers = {0, 15};
  const uint64_t first = need(card, stage).weight_bytes;
  stage.layers = {15, 30};
  const uint64_t last = need(card, stage).weight_bytes;
  EXPECT_NEAR(static_cast<double>(first + last), static_cast<double>(all + table),
              0.001 * static_cast<double>(all));
  stage.layers = {5, 25};
  EXPECT_LT(need(card, stage).weight_bytes, all - table);
}

}  // namespace
}  // namespace shoal
