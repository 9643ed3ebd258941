#include "base/median.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(Median, IsTheMiddleOrTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(median({7}), 7);
  EXPECT_EQ(median({9, 1, 2}), 2);
  EXPECT_EQ(median({10, 1, 4, 2}), 3);
}

}  // namespace
}  // namespace shoal
