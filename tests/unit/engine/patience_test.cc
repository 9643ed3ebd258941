// How long other ranks are waited for: what an honest step needs, and no more than that.
#include "engine/patience.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

constexpr std::chrono::milliseconds kLeast{2000};

double seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

// Nothing was tried beforehand, so that only what follows counts.
Patience after(size_t rows, double compute_s, size_t steps_at_once = 1) {
  Patience patience(kLeast, steps_at_once, {});
  patience.begin(rows);
  patience.finished(compute_s);
  return patience;
}

TEST(Patience, WithQuickStepsIsHardlyMoreThanTheLeast) {
  Patience patience = after(1, 0.01);
  patience.begin(1);
  EXPECT_GE(seconds(patience.for_parts(1, 0)), 2.0);
  EXPECT_LE(seconds(patience.for_parts(1, 0)), 2.1);
  // However many ranks compute one after the other: they are quick too.
  EXPECT_LE(seconds(patience.for_parts(8, 0)), 2.5);
}

TEST(Patience, WithSlowStepsGrowsWithTheirNumber) {
  Patience patience = after(256, 20);
  patience.begin(256);
  EXPECT_GE(seconds(patience.for_parts(1, 0)), 40);
  EXPECT_GE(seconds(patience.for_parts(3, 0)), 120);
}

// A rank that has computed nothing yet goes by what it tried alone.
TEST(Patience, InTheFirstStepGoesByTheOneThatWasTried) {
  Patience patience(kLeast, 2, {.rows = 32, .compute_s = 0.05});
  patience.begin(256);
  EXPECT_GE(seconds(patience.for_parts(1, 0)), 2 + 8 * 0.05);
  EXPECT_LE(seconds(patience.for_parts(1, 0)), 6);
  EXPECT_GE(seconds(patience.for_parts(2, 30)), 120);  // and by what it has computed since
  Patience large(kLeast, 2, {.rows = 32, .compute_s = 3});
  large.begin(256);
  EXPECT_GE(seconds(large.for_parts(1, 0)), 90);
  Patience one_row(kLeast, 2, {.rows = 32, .compute_s = 0.05});
  one_row.begin(1);
  EXPECT_LE(seconds(one_row.for_parts(1, 0)), 2.3);
}

TEST(Patience, KnowsOneSizeOfStepFromAnother) {
  Patience larger = after(256, 3);
  larger.begin(1);  // reads the same weights: may take as long, if not longer
  EXPECT_GE(seconds(larger.for_parts(1, 0)), 6);
  EXPECT_LE(seconds(larger.for_parts(1, 0)), 20);
  Patience smaller = after(1, 0.1);
  smaller.begin(256);  // at worst row by row
  EXPECT_GE(seconds(smaller.for_parts(1, 0)), 25.6);
  // Measured itself, it no longer goes by the other.
  smaller.finished(0.5);
  smaller.begin(256);
  EXPECT_LE(seconds(smaller.for_parts(1, 0)), 4.1);
}

// The next stage takes rows of this step when it has computed the last one's.
TEST(Patience, CountsTheStepsThatOthersMayStillCompute) {
  Patience patience = after(256, 10, 3);
  patience.begin(1);
  patience.finished(0.1);
  patience.begin(1);
  EXPECT_GE(seconds(patience.for_parts(1, 0)), 20);
  patience.finished(0.1);
  patience.begin(1);
  EXPECT_LE(seconds(patience.for_parts(1, 0)), 2.5);
}

TEST(Patience, ForgetsAHiccup) {
  Patience patience = after(1, 10);
  for (int step = 0; step < 500; ++step) {
    patience.begin(1);
    patience.finished(0.01);
  }
  patience.begin(1);
  EXPECT_LE(seconds(patience.for_parts(1, 0)), 2.2);
}

}  // namespace
}  // namespace shoal
