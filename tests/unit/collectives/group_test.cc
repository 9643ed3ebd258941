#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "base/random.h"
#include "ranks.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

// Numbers whose sum depends on the order: magnitudes from 2^-20 to 2^20, both signs, now and then a
// special one.
std::vector<float> contribution(uint64_t seed, int rank, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const auto x = philox(seed, i, static_cast<uint64_t>(rank));
    const float mantissa = static_cast<float>(x[0]) / 4294967296.0f - 0.5f;
    values[i] = std::ldexp(mantissa, static_cast<int>(x[1] % 41) - 20);
    if (x[2] % 997 == 0) values[i] = -0.0f;
    if (x[2] % 9973 == 1) values[i] = std::numeric_limits<float>::infinity();
  }
  return values;
}

std::vector<float> sum_in_rank_order(uint64_t seed, int ranks, size_t count) {
  std::vector<float> sum = contribution(seed, 0, count);
  for (int r = 1; r < ranks; ++r) {
    const std::vector<float> more = contribution(seed, r, count);
    for (size_t i = 0; i < count; ++i) sum[i] = sum[i] + more[i];
  }
  return sum;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  return std::ranges::equal(a, b, {}, bits, bits);
}

struct Case {
  int ranks;
  LinkMode mode;
};

class GroupTest : public ::testing::TestWithParam<Case> {};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (int ranks = 1; ranks <= 9; ++ranks) all.push_back({ranks, LinkMode::kPlain});
  for (const int ranks : {2, 3, 5}) all.push_back({ranks, LinkMode::kTls});
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return fmt::format("{}ranks_{}", info.param.ranks, link_mode_name(info.param.mode));
}
INSTANTIATE_TEST_SUITE_P(Sizes, GroupTest, ::testing::ValuesIn(cases()), name_of);

TEST_P(GroupTest, AllReduceGivesTheRankOrderSumBitForBitEverywhere) {
  const int ranks = GetParam().ranks;
  std::vector<Group> groups = make_groups(ranks, GetParam().mode);
  std::vector<size_t> counts = {0,
                                1,
                                2,
                                static_cast<size_t>(ranks) - 1,
                                static_cast<size_t>(ranks),
                                static_cast<size_t>(ranks) + 1,
                                512,
                                1023,
                                1025,
                                100'003};
  for (uint64_t i = 0; i < 12; ++i) counts.push_back(philox(99, i)[0] % 30'000);
  for (const ReduceRoute route :
       {ReduceRoute::kDirect, ReduceRoute::kScatter, ReduceRoute::kByCost}) {
    std::vector<std::vector<float>> expected;
    for (size_t i = 0; i < counts.size(); ++i) {
      expected.push_back(sum_in_rank_order(i, ranks, counts[i]));
    }
    on_every_rank(groups, [&](Group& group) {
      group.set_reduce_route(route);
      for (size_t i = 0; i < counts.size(); ++i) {
        std::vector<float> values = contribution(i, group.rank(), counts[i]);
        const Status done = group.all_reduce(values, in_seconds(60));
        ASSERT_TRUE(done) << done.error().message;
        EXPECT_TRUE(same_bits(values, expected[i])) << counts[i] << " floats";
      }
    });
  }
}

Bytes part_of(int rank, size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i * 7 + static_cast<size_t>(rank));
  return bytes;
}

size_t size_of(int rank, int round) {
  return round == 0
             ? static_cast<size_t>(rank)
             : philox(7, static_cast<uint64_t>(rank), static_cast<uint64_t>(round))[0] % 300'000;
}

TEST_P(GroupTest, GathersPartsOfAnyLength) {
  std::vector<Group> groups = make_groups(GetParam().ranks, GetParam().mode);
  on_every_rank(groups, [&](Group& group) {
    std::vector<Bytes> parts;
    for (int round = 0; round < 4; ++round) {
      const Bytes mine = part_of(group.rank(), size_of(group.rank(), round));
      ASSERT_TRUE(group.all_gather(mine, parts, in_seconds(60)));
      ASSERT_EQ(parts.size(), static_cast<size_t>(group.size()));
      for (int r = 0; r < group.size(); ++r) EXPECT_EQ(parts[r], part_of(r, size_of(r, round)));
    }
    const int root = group.size() - 1;
    std::vector<Bytes> gathered = {Bytes(3)};
    ASSERT_TRUE(group.gather(root, part_of(group.rank(), size_of(group.rank(), 1)), gathered,
                             in_seconds(60)));
    if (group.rank() != root) {
      EXPECT_EQ(gathered, std::vector<Bytes>{Bytes(3)});
    } else {
      for (int r = 0; r < group.size(); ++r) EXPECT_EQ(gathered[r], part_of(r, size_of(r, 1)));
    }
  });
}

TEST_P(GroupTest, BroadcastsFromAnyRoot) {
  std::vector<Group> groups = make_groups(GetParam().ranks, GetParam().mode);
  on_every_rank(groups, [&](Group& group) {
    for (int root = 0; root < group.size(); ++root) {
      for (const size_t size : {0, 1, 500'000}) {
        Bytes frame = group.rank() == root ? part_of(root, size) : part_of(99, 17);
        ASSERT_TRUE(group.broadcast(root, frame, in_seconds(60)));
        EXPECT_EQ(frame, part_of(root, size));
      }
    }
  });
}

TEST_P(GroupTest, MixedCollectivesKeepInStep) {
  std::vector<Group> groups = make_groups(GetParam().ranks, GetParam().mode);
  const auto count = [](uint64_t step) { return size_t{philox(3, step)[0] % 5000}; };
  on_every_rank(groups, [&](Group& group) {
    Bytes frame;
    std::vector<Bytes> parts;
    for (uint64_t step = 0; step < 60; ++step) {
      if (group.rank() == 0) frame = part_of(static_cast<int>(step), count(step));
      ASSERT_TRUE(group.broadcast(0, frame, in_seconds(60)));
      ASSERT_EQ(frame, part_of(static_cast<int>(step), count(step)));
      std::vector<float> ones(count(step + 1000) * 8, 1.0f);
      ASSERT_TRUE(group.all_reduce(ones, in_seconds(60)));
      for (const float value : ones) ASSERT_EQ(value, static_cast<float>(group.size()));
      ASSERT_TRUE(group.gather(0, frame, parts, in_seconds(60)));
    }
  });
}

TEST_P(GroupTest, ALostRankIsAnErrorOnEveryOther) {
  const int ranks = GetParam().ranks;
  if (ranks == 1) GTEST_SKIP() << "a group of one has no other rank";
  std::vector<Group> groups = make_groups(ranks, GetParam().mode);
  on_every_rank(groups, [&](Group& group) {
    std::vector<float> values(3000, 1.0f);
    ASSERT_TRUE(group.all_reduce(values, in_seconds(60)));
  });
  on_every_rank(groups, [&](Group& group) {
    std::vector<float> values(3000, 1.0f);
    if (group.rank() == ranks - 1) {
      const Group dies = std::move(group);
      return;
    }
    const Status lost = group.all_reduce(values, in_seconds(60));
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, ErrorCode::kUnreachable) << lost.error().message;
    EXPECT_THAT(lost.error().message, HasSubstr("rank "));
    Bytes frame;
    const Status again = group.broadcast(0, frame, in_seconds(60));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().message, lost.error().message);
  });
}

// The last rank does nothing any more, but its links stay open, as those of a stopped process do.
TEST_P(GroupTest, AStoppedRankIsAnErrorOnEveryOtherWithinTheDeadline) {
  const int ranks = GetParam().ranks;
  if (ranks == 1) GTEST_SKIP() << "a group of one has no other rank";
  std::vector<Group> groups = make_groups(ranks, GetParam().mode);
  on_every_rank(groups, [&](Group& group) {
    if (group.rank() == ranks - 1) return;
    std::vector<float> values(50'000, 1.0f);
    // Rank 0 is the least patient: its giving up must end the wait of the others, long before their
    // own deadline.
    const Status lost = group.all_reduce(values, in_seconds(group.rank() == 0 ? 0.2 : 60));
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, group.rank() == 0 ? ErrorCode::kDeadline : ErrorCode::kUnreachable)
        << lost.error().message;
    Bytes frame;
    EXPECT_FALSE(group.broadcast(0, frame, in_seconds(60)));
  });
}

TEST(Group, AnotherLengthThanTheOthersIsAnErrorForAll) {
  std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
  on_every_rank(groups, [&](Group& group) {
    std::vector<float> values(group.rank() == 1 ? 100 : 101, 1.0f);
    const Status wrong = group.all_reduce(values, in_seconds(60));
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().message, HasSubstr("rank "));
  });
}

// Ranks end at their own pace after the last collective; nobody may take that for a failure.
TEST(Group, ARankThatEndsInOrderDisturbsNobody) {
  for (int round = 0; round < 20; ++round) {
    std::vector<Group> groups = make_groups(4, LinkMode::kPlain);
    on_every_rank(groups, [](Group& group) {
      Group mine = std::move(group);
      std::vector<float> values(2000, 1.0f);
      if (mine.rank() == 3) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      const Status done = mine.all_reduce(values, in_seconds(60));
      ASSERT_TRUE(done) << done.error().message;
    });
  }
}

TEST(Group, OneRankAloneNeedsNoLinks) {
  Group group = Group::alone();
  std::vector<float> values = {1, 2, 3};
  ASSERT_TRUE(group.all_reduce(values, Clock::now()));
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  std::vector<Bytes> parts;
  ASSERT_TRUE(group.gather(0, part_of(0, 5), parts, Clock::now()));
  EXPECT_EQ(parts, std::vector<Bytes>{part_of(0, 5)});
  Bytes frame = part_of(1, 9);
  ASSERT_TRUE(group.broadcast(0, frame, Clock::now()));
  EXPECT_EQ(frame, part_of(1, 9));
  EXPECT_EQ(group.counters().bytes_sent, 0u);
}

TEST(Group, CountsWhatItMoved) {
  std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
  on_every_rank(groups, [&](Group& group) {
    std::vector<float> values(10, 1.0f);
    ASSERT_TRUE(group.all_reduce(values, in_seconds(60)));
    EXPECT_EQ(group.counters().bytes_sent, 2u * 48);
    EXPECT_EQ(group.counters().bytes_received, 2u * 48);
    EXPECT_EQ(group.counters().calls, 1u);
  });
}

}  // namespace
}  // namespace shoal
