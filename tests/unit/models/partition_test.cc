// Cuts of a model over ranks: every unit once, shares respected, clear refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"
#include "dense_cut.h"
#include "models/model.h"

namespace shoal {
namespace {

ModelCard smollm() {
  ModelCard card;
  card.name = "SmolLM2";
  card.layer_count = 30;
  card.hidden = 576;
  card.head_count = 9;
  card.kv_head_count = 3;
  card.head_dimension = 64;
  card.tied_embedding = true;
  set_dense_cuts(card, 1536, 49152, {30 * 552960 / 3, 30 * 3 * 360, 612, 612}, 576 * 4);
  return card;
}

void expect_covered(const std::vector<RankCut>& cuts, const ModelCard& card, int64_t head_unit) {
  const auto check = [&](CutKind kind, int64_t unit) {
    const int64_t total = card[kind].count;
    int64_t at = 0;
    for (const RankCut& cut : cuts) {
      const Range& range = cut[kind];
      EXPECT_EQ(range.begin, at);
      EXPECT_GT(range.size(), 0);
      EXPECT_TRUE(range.end % unit == 0 || range.end == total);
      at = range.end;
    }
    EXPECT_EQ(at, total);
  };
  check(CutKind::kHeads, head_unit);
  check(CutKind::kFeedForward, 32);
  check(CutKind::kVocabulary, 32);
}

TEST(Partition, SmolLmOverTwoEqualRanks) {
  const auto cuts = partition(smollm(), std::vector<double>{1, 1});
  ASSERT_TRUE(cuts) << cuts.error().message;
  EXPECT_EQ((*cuts)[0], dense_cut({0, 6}, {0, 768}, {0, 24576}));
  EXPECT_EQ((*cuts)[1], dense_cut({6, 9}, {768, 1536}, {24576, 49152}));
}

TEST(Partition, ByTotalTheOtherWeightsMakeUpForCoarseHeads) {
  const ModelCard card = smollm();
  for (const double share : {0.4, 0.5, 0.6, 0.7}) {
    const auto cuts = partition(card, std::vector<double>{share, 1 - share}, Balance::kTotal);
    ASSERT_TRUE(cuts);
    expect_covered(*cuts, card, 1);
    const auto first = static_cast<double>(weight_bytes(card, (*cuts)[0]));
    const auto second = static_cast<double>(weight_bytes(card, (*cuts)[1]));
    EXPECT_NEAR(first / (first + second), share, 0.002);
  }
}

TEST(Partition, AGroupOfOneHoldsEverything) {
  const ModelCard card = smollm();
  EXPECT_EQ(partition(card, std::vector<double>{17.5})->front(), whole(card));
}

TEST(Partition, TooFewUnitsAreNamed) {
  ModelCard card = smollm();
  const auto refused = partition(card, std::vector<double>(10, 1.0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kDoesNotFit);
  EXPECT_EQ(refused.error().message, "9 attention heads cannot be cut over 10 ranks");
  EXPECT_EQ(most_ranks(card), 9);
  card[CutKind::kFeedForward].count = 64;
  EXPECT_EQ(most_ranks(card), 2);
  EXPECT_EQ(partition(card, std::vector<double>{1, 1, 1}).error().message,
            "64 feed-forward columns in units of 32 cannot be cut over 3 ranks");
  card = smollm();
  card[CutKind::kVocabulary].count = 33;
  EXPECT_EQ(partition(card, std::vector<double>{1, 1, 1}).error().message,
            "33 vocabulary rows in units of 32 cannot be cut over 3 ranks");
}

TEST(Partition, HeadsThatAreNarrowGoInUnits) {
  ModelCard card = smollm();
  card.head_count = card.kv_head_count = 8;
  card.head_dimension = 8;  // four heads make 32 columns
  card[CutKind::kHeads] = {.count = 8, .unit = 4, .finest_unit = 4};
  const auto cuts = partition(card, std::vector<double>{1, 1});
  ASSERT_TRUE(cuts);
  expect_covered(*cuts, card, 4);
  EXPECT_EQ(partition(card, std::vector<double>{1, 1, 1}).error().message,
            "8 attention heads in units of 4 cannot be cut over 3 ranks");
}

TEST(Partition, MoreRanksThanKvHeadsHoldSomeTwice) {
  const ModelCard card = smollm();  // 9 heads on 3 KV heads
  const auto cuts = partition(card, std::vector<double>{1, 1, 1, 1});
  ASSERT_TRUE(cuts) << cuts.error().message;
  expect_covered(*cuts, card, 1);
  int64_t held = 0;
  for (const RankCut& cut : *cuts)
    held += kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count).size();
  EXPECT_GT(held, card.kv_head_count);
  uint64_t bytes = 0;
  for (const RankCut& cut : *cuts) bytes += weight_bytes(card, cut);
  EXPECT_EQ(bytes, weight_bytes(card, whole(card)) + 3 * card.replicated_bytes +
                       static_cast<uint64_t>(held - 3) * card.kv_weight_bytes_each);
}

TEST(PartitionLayers, StagesAreContiguousAndTheHeadCountsAtTheLast) {
  const ModelCard card = smollm();  // 30 layers of 2.2 MB, a head of 30 MB: 44 layers to read
  const auto even = partition_layers(card, std::vector<double>{1, 1});
  ASSERT_TRUE(even) << even.error().message;
  EXPECT_EQ((*even)[0], (Range{0, 22}));
  EXPECT_EQ((*even)[1], (Range{22, 30}));
  const auto uneven = partition_layers(card, std::vector<double>{1, 3});
  ASSERT_TRUE(uneven);
  EXPECT_EQ((*uneven)[0], (Range{0, 11}));
  EXPECT_EQ(partition_layers(card, std::vector<double>{2})->front(), (Range{0, 30}));
}

TEST(PartitionLayers, EveryStageHasALayerWhateverTheShares) {
  ModelCard card = smollm();
  for (uint64_t round = 0; round < 2000; ++round) {
    const auto draw = philox(9, round);
    card.layer_count = 1 + draw[0] % 90;
    set_dense_cuts(card, 1536, 49152, {30 * 552960 / 3, 30 * 3 * 360, 612, 612});
    std::vector<double> shares;
    const size_t stages = 1 + draw[1] % 10;
    for (size_t stage = 0; stage < stages; ++stage)
      shares.push_back(std::pow(10, 4 * uniform(10, round, stage)));
    const auto ranges = partition_layers(card, shares);
    ASSERT_EQ(ranges.has_value(), static_cast<int64_t>(stages) <= card.layer_count);
    if (!ranges) continue;
    int64_t end = 0;
    for (const Range& range : *ranges) {
      EXPECT_EQ(range.begin, end);
      EXPECT_GT(range.size(), 0);
      end = range.end;
    }
    EXPECT_EQ(end, card.layer_count);
  }
}

TEST(PartitionLayers, WhatCannotBeIsRefused) {
  ModelCard card = smollm();
  EXPECT_EQ(partition_layers(card, std::vector<double>(31, 1.0)).error().message,
            "30 layers cannot be cut into 31 stages");
  EXPECT_FALSE(partition_layers(card, std::vector<double>{1, -1}));
  card.layers_stand_alone = false;
  EXPECT_EQ(partition_layers(card, std::vector<double>{1, 1}).error().code, ErrorCode::kDoesNotFit);
  EXPECT_TRUE(partition_layers(card, std::vector<double>{1}));
}

TEST(Partition, SharesThatAreNoneAreRefused) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, infinity, std::nan("")}) {
    EXPECT_EQ(partition(smollm(), std::vector<double>{1, bad}).error().code,
              ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(partition(smollm(), {}));
  EXPECT_FALSE(partition(ModelCard{}, std::vector<double>{1}));
}

TEST(Partition, ExtremeSharesStillGiveEveryRankAUnit) {
  const ModelCard card = smollm();
  for (const auto& shares :
       {std::vector<double>{1e300, 1e-300, 1}, std::vector<double>{1e308, 1e308, 1e308}}) {
    for (const Balance balance : {Balance::kEachKind, Balance::kTotal}) {
      const auto cuts = partition(card, shares, balance);
      ASSERT_TRUE(cuts);
      expect_covered(*cuts, card, 1);
    }
  }
}

// Property: whatever the model and the shares, every unit is held once, each rank has at least one
// of each kind, and no rank is more than one unit away from its share where shares allow a unit for
// everybody.
TEST(Partition, EveryUnitOnceAndSharesRespected) {
  for (uint64_t round = 0; round < 3000; ++round) {
    const auto draw = philox(7, round);
    const size_t ranks = 1 + draw[0] % 8;
    ModelCard card = smollm();
    card.kv_head_count = static_cast<int64_t>(ranks + draw[1] % 16);
    const int64_t queries = 1 + draw[1] / 16 % 8;
    card.head_count = card.kv_head_count * queries;
    card.head_dimension = 32 * (1 + draw[1] / 128 % 4);
    set_dense_cuts(card, static_cast<int64_t>(32 * ranks + draw[2] % 20000),
                   static_cast<int64_t>(32 * ranks + draw[3] % 200000), {100000, 1000, 600, 600});
    std::vector<double> shares;
    for (size_t rank = 0; rank < ranks; ++rank) shares.push_back(0.2 + uniform(8, round, rank));
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (const Balance balance : {Balance::kEachKind, Balance::kTotal}) {
      const auto cuts = partition(card, shares, balance);
      ASSERT_TRUE(cuts) << cuts.error().message;
      ASSERT_EQ(cuts->size(), ranks);
      expect_covered(*cuts, card, 1);
      if (balance != Balance::kEachKind) continue;
      for (size_t rank = 0; rank < ranks; ++rank) {
        const auto near = [&](const Range& range, int64_t total, int64_t unit) {
          const double quota = shares[rank] / sum *
                               std::ceil(static_cast<double>(total) / static_cast<double>(unit));
          const double held =
              std::ceil(static_cast<double>(range.size()) / static_cast<double>(unit));
          EXPECT_TRUE(std::abs(held - quota) < 1.0 + 1e-9 || held == 1)
              << "held " << held << " of " << quota;
        };
        if (shares[rank] / sum * static_cast<double>(card.kv_head_count) >= 1)
          near((*cuts)[rank][CutKind::kHeads], card.head_count, queries);
        near((*cuts)[rank][CutKind::kVocabulary], card[CutKind::kVocabulary].count, 32);
      }
    }
  }
}

}  // namespace
}  // namespace shoal
