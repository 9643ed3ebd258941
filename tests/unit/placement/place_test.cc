#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cards.h"
#include "placement/cost.h"
#include "placement/fit.h"

namespace shoal {
namespace {

using testing::HasSubstr;

constexpr double kFastTrip = 30e-6;
constexpr double kFastLink = 2e9;

Topology two(NodeFacts a, NodeFacts b, double trip_s = kFastTrip, double bytes_per_s = kFastLink) {
  Topology topology;
  topology.links.push_back(link(a.id, b.id, trip_s, bytes_per_s));
  topology.nodes = {std::move(a), std::move(b)};
  return topology;
}

TEST(Place, OneNodeHoldsASmallModel) {
  const auto placement = place({{node("a", 8)}, {}}, smollm2_card(), {});
  ASSERT_TRUE(placement) << placement.error().message;
  const Plan* plan = placement->chosen();
  ASSERT_NE(plan, nullptr);
  ASSERT_EQ(plan->ranks.size(), 1u);
  EXPECT_EQ(plan->ranks[0].node, "a");
  EXPECT_EQ(plan->ranks[0].cut, whole(smollm2_card()));
  EXPECT_EQ(plan->context, 8192);
  EXPECT_EQ(plan->sequences, 4);
  EXPECT_GT(plan->decode_tokens_per_s, 10);
  EXPECT_LT(plan->decode_tokens_per_s, 110);  // 10 GB/s over 98 MB is the roof
  EXPECT_THAT(placement->considered[0].reason, HasSubstr("fits on a alone"));
}

TEST(Place, TwoNodesOnAFastLinkShareTheWork) {
  const auto placement = place(two(node("a", 8), node("b", 8)), big_card(), {.context = 4096});
  ASSERT_TRUE(placement) << placement.error().message;
  const Plan* plan = placement->chosen();
  ASSERT_EQ(plan->ranks.size(), 2u);
  EXPECT_EQ(plan->ranks[0].node, "a") << "the asked node leads";
  EXPECT_NEAR(plan->ranks[0].share, 0.5, 0.01);
  EXPECT_NEAR(plan->ranks[0].share + plan->ranks[1].share, 1, 1e-9);
  EXPECT_THAT(placement->considered[0].reason, HasSubstr("split over a + b"));
  // Both nodes alone and a pipeline are shown, with the figures that were against them.
  ASSERT_EQ(placement->considered.size(), 4u);
  for (size_t other = 1; other < 4; ++other) {
    EXPECT_TRUE(placement->considered[other].possible);
    EXPECT_THAT(placement->considered[other].reason, HasSubstr("slower"));
  }
  EXPECT_EQ(plan_mode(*plan), PlanMode::kTensor);
  EXPECT_EQ(plan_mode(placement->considered[3].plan), PlanMode::kPipeline);
}

TEST(Place, ASlowLinkLeavesTheModelOnOneNode) {
  const auto placement =
      place(two(node("a", 8), node("b", 8, 12), 8e-3, 4e7), smollm2_card(), {.context = 2048});
  ASSERT_TRUE(placement);
  ASSERT_EQ(placement->chosen()->ranks.size(), 1u);
  EXPECT_EQ(placement->chosen()->ranks[0].node, "b") << "the faster of the two";
  EXPECT_THAT(placement->considered[0].reason, HasSubstr("would decode"));
  EXPECT_THAT(placement->considered[0].reason, HasSubstr("its links take"));
}

TEST(Place, ANodeCountCanBeForced) {
  const Topology slow = two(node("a", 8), node("b", 8), 8e-3, 4e7);
  const auto forced = place(slow, smollm2_card(), {.context = 2048, .node_count = 2});
  ASSERT_TRUE(forced);
  EXPECT_EQ(forced->chosen()->ranks.size(), 2u);
  const auto one =
      place(two(node("a", 8), node("b", 8)), big_card(), {.context = 2048, .node_count = 1});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->chosen()->ranks.size(), 1u);
  const auto too_many = place(slow, smollm2_card(), {.node_count = 3});
  ASSERT_FALSE(too_many);
  EXPECT_EQ(too_many.error().message, "3 nodes were asked for; this cluster has 2");
}

TEST(Place, AModelTooBigForOneNodeIsSplitOverTwo) {
  const auto placement =
      place(two(node("a", 1.8), node("b", 1.8)), big_card(), {.context = 2048, .sequences = 1});
  ASSERT_TRUE(placement) << placement.error().message;
  const Plan* plan = placement->chosen();
  ASSERT_EQ(plan->ranks.size(), 2u);
  for (const PlannedRank& rank : plan->ranks) EXPECT_LE(rank.memory_bytes, 1'800'000'000u);
  for (const Considered& one : placement->considered) {
    if (one.plan.ranks.size() > 1) continue;
    EXPECT_FALSE(one.possible);
    EXPECT_THAT(one.reason, HasSubstr("does not fit: needs 2.")) << one.reason;
    EXPECT_THAT(one.reason, HasSubstr("which has 1.80 GB"));
  }
}

TEST(Place, TheRefusalNamesNeededPresentAndWhatWouldFit) {
  const auto alone = place({{node("a", 1.8)}, {}}, big_card(), {.context = 2048});
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().code, ErrorCode::kDoesNotFit);
  EXPECT_THAT(alone.error().message, HasSubstr("on a, which has 1.80 GB"));
  EXPECT_THAT(alone.error().message, HasSubstr("more memory"));

  const auto long_context = place({{node("a", 3.5)}, {}}, big_card(), {.context = 131072});
  ASSERT_FALSE(long_context);
  EXPECT_EQ(long_context.error().code, ErrorCode::kDoesNotFit);
  EXPECT_THAT(long_context.error().message, HasSubstr("A context of "));
}

TEST(Place, MemoryThatInstancesHoldIsNotFree) {
  NodeFacts busy = node("a", 8);
  busy.memory_reserved_bytes = 7'950'000'000;
  const auto placement = place({{busy}, {}}, smollm2_card(), {});
  ASSERT_FALSE(placement);
  EXPECT_EQ(placement.error().code, ErrorCode::kDoesNotFit);
  EXPECT_THAT(placement.error().message, HasSubstr("which has 50.0 MB"));
}

TEST(Place, TheContextGrowsIntoTheMemory) {
  const auto small = place({{node("a", 3.2)}, {}}, big_card(), {.sequences = 1});
  const auto large = place({{node("a", 4.2)}, {}}, big_card(), {.sequences = 1});
  ASSERT_TRUE(small) << small.error().message;
  ASSERT_TRUE(large);
  EXPECT_GE(small->chosen()->context, 512);
  EXPECT_GT(large->chosen()->context, small->chosen()->context);
  EXPECT_EQ(small->chosen()->context % 32, 0);
  // One step more would not fit.
  const auto more = place({{node("a", 3.2)}, {}}, big_card(),
                          {.context = small->chosen()->context + 32, .sequences = 1});
  EXPECT_FALSE(more);
}

TEST(Place, AShortTrainedContextIsTakenWhole) {
  ModelCard card = smollm2_card();
  card.context_length = 200;
  const auto placement = place({{node("a", 8)}, {}}, card, {});
  ASSERT_TRUE(placement);
  EXPECT_EQ(placement->chosen()->context, 200);
}

TEST(Place, AFullNodeHandsItsShareToTheOther) {
  // The faster node has little room: the slower must hold most.
  const auto placement = place(two(node("a", 0.9, 40), node("b", 8, 10)), big_card(),
                               {.context = 1024, .sequences = 1, .node_count = 2});
  ASSERT_TRUE(placement) << placement.error().message;
  const Plan* plan = placement->chosen();
  ASSERT_EQ(plan->ranks.size(), 2u);
  EXPECT_LT(plan->ranks[0].share, 0.4);
  EXPECT_LE(plan->ranks[0].memory_bytes, 900'000'000u);
}

TEST(Place, AnUnmeasuredLinkIsNamed) {
  Topology topology;
  topology.nodes = {node("a", 1.8), node("b", 1.8)};
  const auto placement = place(topology, smollm2_card(), {});
  ASSERT_TRUE(placement);
  ASSERT_EQ(placement->considered.size(), 4u);
  for (const Considered& one : placement->considered) {
    if (one.plan.ranks.size() == 1) continue;
    EXPECT_FALSE(one.possible);
    EXPECT_THAT(one.reason, HasSubstr("has been measured"));
  }
}

TEST(Place, UnmeasuredNodesAreNamed) {
  NodeFacts fresh = node("a", 8);
  fresh.read_bytes_per_s = 0;
  const auto placement = place({{fresh}, {}}, smollm2_card(), {});
  ASSERT_FALSE(placement);
  EXPECT_THAT(placement.error().message, HasSubstr("the speed of a has not been measured yet"));
}

TEST(Place, WishesThatCannotBeMeant) {
  const Topology topology{{node("a", 8)}, {}};
  for (const Wish& wish : {Wish{.context = -1}, Wish{.context = 9000}, Wish{.sequences = 0},
                           Wish{.sequences = 1 << 20}, Wish{.node_count = -1}}) {
    const auto placement = place(topology, smollm2_card(), wish);
    ASSERT_FALSE(placement);
    EXPECT_EQ(placement.error().code, ErrorCode::kInvalidArgument) << placement.error().message;
  }
  EXPECT_FALSE(place({}, smollm2_card(), {}));
}

TEST(Place, SharesFillUpToTheirCaps) {
  const auto even = placement::fill_shares(std::vector{1.0, 1.0}, std::vector{9.0, 9.0});
  EXPECT_DOUBLE_EQ(even[0], 0.5);
  const auto capped =
      placement::fill_shares(std::vector{3.0, 1.0, 1.0}, std::vector{0.2, 0.3, 9.0});
  EXPECT_DOUBLE_EQ(capped[0], 0.2);
  EXPECT_DOUBLE_EQ(capped[1], 0.3);
  EXPECT_NEAR(capped[2], 0.5, 1e-12);
  const auto short_of = placement::fill_shares(std::vector{1.0, 1.0}, std::vector{0.1, 0.3});
  EXPECT_DOUBLE_EQ(short_of[0], 0.25);
}

}  // namespace
}  // namespace shoal
