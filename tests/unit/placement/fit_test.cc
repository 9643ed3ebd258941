// Cuts of groups whose memory is short.
#include "placement/fit.h"

#include <gtest/gtest.h>

#include "cards.h"

namespace shoal {
namespace {

constexpr int64_t kContext = 8192;
constexpr int64_t kSequences = 4;

placement::Fit fitted(const ModelCard& card, const std::vector<NodeFacts>& nodes) {
  std::vector<const NodeFacts*> pointers;
  for (const NodeFacts& node : nodes) pointers.push_back(&node);
  auto fit = placement::fit_group(card, pointers, kContext, kSequences, KvType::kF16);
  EXPECT_TRUE(fit) << fit.error().message;
  return fit ? *fit : placement::Fit();
}

int64_t kv_heads(const ModelCard& card, const RankCut& cut) {
  return kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count).size();
}

// Of 9 heads in groups of 3 the third of four ranks has two of two groups, hence two KV heads. A
// search that forgets one believes that everything fits, moves nothing, and the plan is refused.
TEST(Fit, AKvHeadThatIsHeldTwiceCountsWhileUnitsMove) {
  const ModelCard card = smollm2_card();
  std::vector<NodeFacts> nodes = {node("a", 8), node("b", 8), node("c", 8), node("d", 8)};
  const placement::Fit roomy = fitted(card, nodes);
  ASSERT_TRUE(roomy.fits);
  size_t straddling = 0;
  while (straddling < 3 && kv_heads(card, roomy.cuts[straddling]) < 2) ++straddling;
  ASSERT_EQ(kv_heads(card, roomy.cuts[straddling]), 2);
  ASSERT_NE(roomy.cuts[straddling][CutKind::kHeads].begin % 3, 0);

  nodes[straddling].memory_bytes = roomy.needs[straddling].memory_bytes - 2'000'000;
  const placement::Fit tight = fitted(card, nodes);
  EXPECT_TRUE(tight.fits) << "2 MB of feed-forward can go to another rank";
  EXPECT_LE(tight.needs[straddling].memory_bytes, nodes[straddling].memory_bytes);
}

// Whatever lacks where: what is said to fit does.
TEST(Fit, WhatFitsIsWithinEveryNodesMemory) {
  const ModelCard card = smollm2_card();
  for (size_t short_rank = 0; short_rank < 5; ++short_rank) {
    for (const double gb : {0.1, 0.2, 0.25, 0.3, 0.4, 0.6}) {
      std::vector<NodeFacts> nodes;
      for (const char* name : {"a", "b", "c", "d", "e"}) nodes.push_back(node(name, 0.75));
      nodes[short_rank].memory_bytes = static_cast<uint64_t>(gb * 1e9);
      const placement::Fit fit = fitted(card, nodes);
      int64_t heads = 0;
      for (size_t rank = 0; rank < nodes.size(); ++rank) {
        ASSERT_EQ(fit.cuts[rank][CutKind::kHeads].begin, heads);
        heads = fit.cuts[rank][CutKind::kHeads].end;
        if (fit.fits) {
          EXPECT_LE(fit.needs[rank].memory_bytes, nodes[rank].memory_bytes);
        }
      }
      EXPECT_EQ(heads, card.head_count);
    }
  }
}

}  // namespace
}  // namespace shoal
