#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <set>

#include "supervise/backoff.h"
#include "supervise/last_words.h"
#include "supervise/pair_keys.h"
#include "supervise/worker_exit.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

TEST(RestartBackoff, DoublesUpToHalfAMinuteAndForgetsAfterAHealthyOne) {
  RestartBackoff backoff;
  const Clock::time_point start{};
  std::vector<Clock::duration> waits;
  for (int i = 0; i < 8; ++i) waits.push_back(backoff.next(start, start + 1s));
  EXPECT_EQ(waits, (std::vector<Clock::duration>{500ms, 1s, 2s, 4s, 8s, 16s, 30s, 30s}));
  EXPECT_EQ(backoff.failures(), 8);
  EXPECT_EQ(backoff.next(start, start + 59s), 30s);
  EXPECT_EQ(backoff.next(start, start + 60s), 500ms);
  EXPECT_EQ(backoff.failures(), 1);
  EXPECT_EQ(backoff.next(start, start), 1s);
  backoff.reset();
  EXPECT_EQ(backoff.failures(), 0);
}

TEST(PairKeys, EveryPairSharesAKeyOfItsOwn) {
  const auto keys = draw_pair_keys(5);
  ASSERT_EQ(keys.size(), 5u);
  std::set<std::string> seen;
  for (size_t a = 0; a < 5; ++a) {
    EXPECT_TRUE(keys[a][a].empty());
    for (size_t b = 0; b < 5; ++b) {
      EXPECT_EQ(keys[a][b], keys[b][a]);
      if (a >= b) continue;
      EXPECT_EQ(keys[a][b].size(), 32u);
      EXPECT_TRUE(seen.insert(to_hex(keys[a][b])).second) << "a key twice";
    }
  }
  EXPECT_NE(draw_pair_keys(2)[0][1], draw_pair_keys(2)[0][1]);
  EXPECT_TRUE(draw_pair_keys(1)[0][0].empty());
}

TEST(WorkerExit, TheKernelsKillingIsTold) {
  ExitFacts facts{.name = "worker of rank 0", .signal = SIGKILL};
  EXPECT_THAT(classify_exit(facts).reason, HasSubstr("by somebody or by the kernel"));
  facts.kernel_killed_for_memory = true;
  EXPECT_EQ(classify_exit(facts).code, ErrorCode::kDoesNotFit);
  EXPECT_THAT(classify_exit(facts).reason, HasSubstr("out of memory"));
}

TEST(WorkerExit, ACutModelFileIsNotOurBug) {
  const WorkerExit end = classify_exit({.name = "w", .signal = SIGBUS});
  EXPECT_EQ(end.code, ErrorCode::kIo);
  EXPECT_THAT(end.reason, HasSubstr("model file"));
}

TEST(WorkerExit, WordsOfMemoryDecideACrash) {
  ExitFacts facts{
      .name = "w", .signal = SIGABRT, .last_words = {"memory allocation of 9 bytes failed"}};
  EXPECT_EQ(classify_exit(facts).code, ErrorCode::kDoesNotFit);
  facts.last_words = {"something else"};
  EXPECT_EQ(classify_exit(facts).code, ErrorCode::kInternal);
  EXPECT_THAT(classify_exit(facts).reason, HasSubstr("its last words: something else"));
}

TEST(WorkerExit, ALostStatusIsSaidSo) {
  EXPECT_THAT(classify_exit({.name = "w", .known = false}).reason, HasSubstr("lost"));
}

TEST(LastWords, LinesAreBoundedWhateverComes) {
  LastWords words;
  words.add(std::string(5'000'000, 'x'), {});
  words.add("\n\n   \n", {});
  ASSERT_EQ(words.lines().size(), 1u);
  EXPECT_EQ(words.lines()[0].size(), LastWords::kLineBytes);
}

}  // namespace
}  // namespace shoal
