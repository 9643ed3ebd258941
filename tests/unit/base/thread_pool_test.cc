#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "base/cpu.h"

namespace shoal {
namespace {

class ThreadPoolOf : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolOf, RunsEachIndexOnceAndShowsTheResults) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.thread_count(), GetParam());
  std::vector<int> calls(static_cast<size_t>(GetParam()), 0);  // plain: the pool must synchronise
  for (int round = 1; round <= 200; ++round) {
    auto job = [&](int index) { ++calls[static_cast<size_t>(index)]; };
    pool.run(std::ref(job));
    for (const int count : calls) ASSERT_EQ(count, round);
  }
}

TEST_P(ThreadPoolOf, WakesAfterSleeping) {
  ThreadPool pool(GetParam());
  std::atomic<int> calls = 0;
  for (int round = 0; round < 3; ++round) {
    pool.run([&](int) { ++calls; });
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // well over the time that it spins
  }
  EXPECT_EQ(calls, 3 * GetParam());
}

TEST_P(ThreadPoolOf, WaitsForTheSlowestIndex) {
  ThreadPool pool(GetParam());
  std::vector<int> done(static_cast<size_t>(GetParam()), 0);
  pool.run([&](int index) {
    if (index == GetParam() - 1) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    done[static_cast<size_t>(index)] = 1;
  });
  EXPECT_EQ(std::accumulate(done.begin(), done.end(), 0), GetParam());
}

// 9 and 33 are more than many machines have cores.
INSTANTIATE_TEST_SUITE_P(Counts, ThreadPoolOf, testing::Values(1, 2, 3, 9, 33));

TEST(ThreadPool, EndsWithoutEverRunning) {
  ThreadPool pool(4);
}

TEST(ThreadPool, GivesTheCallerItsCoresBack) {
  const int before = usable_core_count();
  {
    ThreadPool pool(before);
  }
  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  EXPECT_EQ(CPU_COUNT(&mask), before);
}

TEST(ThreadPool, SeveralPoolsLiveSideBySide) {
  ThreadPool a(2, false), b(3, false);
  int sum = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<int> seen(5, 0);
    a.run([&](int index) { seen[static_cast<size_t>(index)] = 1; });
    b.run([&](int index) { seen[static_cast<size_t>(2 + index)] = 1; });
    sum += std::accumulate(seen.begin(), seen.end(), 0);
  }
  EXPECT_EQ(sum, 250);
}

}  // namespace
}  // namespace shoal
