#include "kv/pages.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace shoal {
namespace {

TEST(KvPages, ReservesWholePagesInEveryGroup) {
  KvPages pages(2, 10, 16);
  ASSERT_TRUE(pages.reserve(7, 33));
  ASSERT_EQ(pages.tables(7).size(), 2u);
  EXPECT_EQ(pages.tables(7)[0].size(), 3u);
  EXPECT_EQ(pages.tables(7)[1].size(), 3u);
  EXPECT_EQ(pages.free_pages(), 7);
  ASSERT_TRUE(pages.reserve(7, 20));  // never shrinks
  EXPECT_EQ(pages.free_pages(), 7);
  ASSERT_TRUE(pages.reserve(7, 49));
  EXPECT_EQ(pages.free_pages(), 6);
}

TEST(KvPages, RefusesWithTheNumbersAndTakesNothing) {
  KvPages pages(1, 4, 16);
  ASSERT_TRUE(pages.reserve(1, 32));
  const Status refused = pages.reserve(2, 64);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kDoesNotFit);
  EXPECT_EQ(refused.error().message,
            "64 positions need 4 more KV pages of 16 positions, 2 of 4 are free");
  EXPECT_EQ(pages.free_pages(), 2);
  EXPECT_TRUE(pages.tables(2)[0].empty());
}

TEST(KvPages, ReleaseOfAnUnknownSequenceIsNoError) {
  KvPages pages(1, 4, 16);
  pages.release(99);
  EXPECT_EQ(pages.free_pages(), 4);
}

TEST(KvPages, SharesOnlyWholePagesAndKeepsThemUntilTheLastReader) {
  KvPages pages(1, 8, 16);
  ASSERT_TRUE(pages.reserve(1, 40));
  EXPECT_EQ(pages.share(1, 2, 40), 32);
  EXPECT_EQ(pages.tables(2)[0].size(), 2u);
  EXPECT_EQ(pages.tables(2)[0][1], pages.tables(1)[0][1]);
  EXPECT_EQ(pages.free_pages(), 5);
  pages.release(1);
  EXPECT_EQ(pages.free_pages(), 6);
  pages.release(2);
  EXPECT_EQ(pages.free_pages(), 8);
}

TEST(KvPages, ASequenceThatHoldsPagesDoesNotTakeOthers) {
  KvPages pages(1, 8, 16);
  ASSERT_TRUE(pages.reserve(1, 32));
  ASSERT_TRUE(pages.reserve(2, 16));
  EXPECT_EQ(pages.share(1, 2, 32), 0);
  EXPECT_EQ(pages.share(1, 1, 32), 0);
  EXPECT_EQ(pages.share(5, 6, 32), 0);
}

TEST(KvPages, RollbackIntoASharedPageGoesBackToItsBeginning) {
  KvPages pages(1, 8, 16);
  ASSERT_TRUE(pages.reserve(1, 32));
  ASSERT_EQ(pages.share(1, 2, 32), 32);
  ASSERT_TRUE(pages.reserve(2, 48));
  EXPECT_EQ(pages.truncate(2, 40), 40);  // its own page
  EXPECT_EQ(pages.truncate(2, 20), 16);  // in the shared one
  EXPECT_EQ(pages.tables(2)[0].size(), 1u);
  pages.release(1);
  EXPECT_EQ(pages.truncate(2, 10), 10);  // nobody else reads it any more
}

// Pages are conserved: each is free once, or in exactly as many tables as share it.
TEST(KvPages, ASequenceGoesRoundInTheRingOfAWindow) {
  // Windows of 24 and steps of 16 positions touch at most 4 pages of 16.
  EXPECT_EQ(ring_pages(24, 16, 16), 4);
  EXPECT_EQ(ring_pages(1, 1, 16), 1);
  KvPages pages({{100}, {8, 4}}, 16);
  ASSERT_TRUE(pages.reserve(1, 160));
  const auto& tables = pages.tables(1);
  EXPECT_EQ(tables[0].size(), 10u);
  ASSERT_EQ(tables[1].size(), 10u);
  for (size_t i = 4; i < 10; ++i) EXPECT_EQ(tables[1][i], tables[1][i - 4]);
  EXPECT_TRUE(pages.fits_now(160));  // the ring leaves four pages
  ASSERT_TRUE(pages.reserve(2, 1000));
  EXPECT_FALSE(pages.fits_now(1));
  EXPECT_EQ(pages.share(1, 3, 160), 0);
  EXPECT_EQ(pages.truncate(1, 150), 150);  // within the last page: nothing is given back
  EXPECT_EQ(pages.truncate(1, 16), 0);     // what lay there was overwritten
  pages.release(1);
  pages.release(2);
  EXPECT_TRUE(pages.fits_now(1600));
  EXPECT_EQ(pages.free_pages(), 8);
}

TEST(KvPages, RandomOperationsConservePages) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const size_t groups = 1 + seed % 3;
    const int64_t count = 1 + random() % 40;
    KvPages pages(groups, count, 1 + random() % 20);
    std::set<SequenceId> alive;
    for (int step = 0; step < 1000; ++step) {
      const SequenceId a = random() % 12;
      const SequenceId b = random() % 12;
      const auto positions = static_cast<int64_t>(random() % 300);
      switch (random() % 4) {
        case 0: {
          const auto before = pages.tables(a);
          if (pages.reserve(a, positions)) {
            EXPECT_GE(static_cast<int64_t>(pages.tables(a)[0].size()), pages.pages_for(positions));
            for (size_t g = 0; g < groups; ++g) {  // what was held stays in place
              ASSERT_TRUE(
                  std::equal(before[g].begin(), before[g].end(), pages.tables(a)[g].begin()));
            }
          } else {
            EXPECT_EQ(pages.tables(a), before);
          }
          break;
        }
        case 1: {
          const auto before = pages.tables(a);
          const int64_t kept = pages.truncate(a, positions);
          EXPECT_LE(kept, positions);
          EXPECT_EQ(static_cast<int64_t>(pages.tables(a)[0].size()), pages.pages_for(kept));
          break;
        }
        case 2:
          pages.release(a);
          break;
        case 3:
          pages.share(a, b, positions);
          break;
      }
      for (size_t group = 0; group < groups; ++group) {
        std::map<PageId, int> held;
        for (SequenceId id = 0; id < 12; ++id) {
          std::set<PageId> own;
          for (const PageId page : pages.tables(id)[group]) {
            ASSERT_TRUE(page >= 0 && page < count);
            ASSERT_TRUE(own.insert(page).second) << "a page twice in one table";
            ++held[page];
          }
        }
        // Nothing leaks: all that no table holds can be had.
        ASSERT_LE(pages.free_pages(), count - static_cast<int64_t>(held.size()));
        if (groups == 1) {
          ASSERT_EQ(pages.free_pages(), count - static_cast<int64_t>(held.size()));
        }
      }
    }
    for (SequenceId id = 0; id < 12; ++id) pages.release(id);
    EXPECT_EQ(pages.free_pages(), count);
  }
}

}  // namespace
}  // namespace shoal
