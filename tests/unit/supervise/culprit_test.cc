#include "supervise/culprit.h"

#include <gtest/gtest.h>

#include <vector>

namespace shoal {
namespace {

using Fallen = std::vector<FallenRank>;

TEST(Culprit, IsWhoEndedWithoutAWord) {
  EXPECT_EQ(nearest_to_the_cause(Fallen{
                {0, "rank 2 closed its link"}, {1, "rank 0 reset its link"}, {2, std::nullopt}}),
            2u);
  EXPECT_EQ(nearest_to_the_cause(Fallen{{1, std::nullopt}}), 1u);
}

TEST(Culprit, IsNotWhoOnlyPassedAResetOn) {
  // Rank 2 gave up on rank 3, which is stopped and says nothing; 0 and 1 noticed that of one
  // another.
  EXPECT_EQ(
      nearest_to_the_cause(Fallen{{0, "rank 1 at b:2 reset its link: it has failed"},
                                  {1, "rank 2 at c:3 closed its link"},
                                  {2, "rank 3 at d:4 did not answer in time (nothing received)"}}),
      2u);
}

TEST(Culprit, IsWhoComplainsOfSomethingElseThanARank) {
  EXPECT_EQ(
      nearest_to_the_cause(Fallen{{1, "rank 0 closed its link"}, {0, "no memory for 12 bytes"}}),
      0u);
  EXPECT_EQ(nearest_to_the_cause(Fallen{{0, "the ranks of two frank cranks"}}), 0u);
}

TEST(Culprit, OfTwoThatBlameOneAnotherIsWhoKnowsMore) {
  EXPECT_EQ(nearest_to_the_cause(Fallen{{0, "rank 1 reset its link"},
                                        {1, "rank 0 is cut off: its machine has not answered"}}),
            1u);
  EXPECT_EQ(
      nearest_to_the_cause(Fallen{{1, "rank 0 reset its link"}, {0, "rank 1 reset its link"}}), 1u);
  EXPECT_EQ(nearest_to_the_cause(Fallen{{0, "rank 0 differs from rank 1 in its file"}}), 0u);
}

}  // namespace
}  // namespace shoal
