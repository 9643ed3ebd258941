// What ranks tell one another: send, receive, post, try_receive, barrier, and their order beside
// collectives.
#include <gmock/gmock.h>

#include <atomic>

#include "ranks.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

// More than the sockets of both ends hold.
constexpr size_t kMoreThanSocketsHold = 24 << 20;

Bytes pattern(size_t size, int salt) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 13 + i / 251 + salt);
  return bytes;
}

TEST(Messages, ArriveInTheOrderTheyWereSent) {
  std::vector<Group> groups = make_groups(2, LinkMode::kTls);
  on_every_rank(groups, [](Group& group) {
    if (group.rank() == 0) {
      ASSERT_TRUE(group.post(1, pattern(100'000, 1)));
      ASSERT_TRUE(group.send(1, pattern(7, 2), in_seconds(30)));
      ASSERT_TRUE(group.post(1, {}));
      ASSERT_TRUE(group.post_values(1, std::vector<float>{1, -2.5f}));
      return;
    }
    Bytes frame;
    ASSERT_TRUE(group.receive(0, frame, in_seconds(30)));
    EXPECT_EQ(frame, pattern(100'000, 1));
    Bytes exact(7);
    ASSERT_TRUE(group.receive_exactly(0, exact, in_seconds(30)));
    EXPECT_EQ(exact, pattern(7, 2));
    ASSERT_TRUE(group.receive(0, frame, in_seconds(30)));
    EXPECT_TRUE(frame.empty());
    std::vector<float> values(2);
    ASSERT_TRUE(group.receive_values(0, values, in_seconds(30)));
    EXPECT_EQ(values, (std::vector<float>{1, -2.5f}));
  });
}

// Each posts more than the sockets take and then waits for what the other posted.
TEST(Messages, PostsCrossWithoutADeadlock) {
  for (const LinkMode mode : {LinkMode::kPlain, LinkMode::kTls}) {
    std::vector<Group> groups = make_groups(2, mode);
    on_every_rank(groups, [](Group& group) {
      const int other = 1 - group.rank();
      ASSERT_TRUE(group.post(other, pattern(kMoreThanSocketsHold, group.rank())));
      ASSERT_TRUE(group.post(other, pattern(10, group.rank())));
      Bytes large;
      Bytes small;
      ASSERT_TRUE(group.receive(other, large, in_seconds(60)));
      ASSERT_TRUE(group.receive(other, small, in_seconds(60)));
      EXPECT_EQ(large, pattern(kMoreThanSocketsHold, other));
      EXPECT_EQ(small, pattern(10, other));
      ASSERT_TRUE(group.flush(in_seconds(60)));
    });
  }
}

TEST(Messages, APostGoesOnLeavingWhileAnotherRankIsWaitedFor) {
  std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
  on_every_rank(groups, [](Group& group) {
    Bytes frame;
    if (group.rank() == 0) {
      ASSERT_TRUE(group.post(1, pattern(kMoreThanSocketsHold, 5)));
      // Rank 2 speaks only once rank 1 has all of it.
      ASSERT_TRUE(group.receive(2, frame, in_seconds(60)));
    } else if (group.rank() == 1) {
      ASSERT_TRUE(group.receive(0, frame, in_seconds(60)));
      EXPECT_EQ(frame, pattern(kMoreThanSocketsHold, 5));
      ASSERT_TRUE(group.send(2, pattern(1, 0), in_seconds(60)));
    } else {
      ASSERT_TRUE(group.receive(1, frame, in_seconds(60)));
      ASSERT_TRUE(group.send(0, frame, in_seconds(60)));
    }
  });
}

TEST(Messages, TryReceiveTakesWhatHasComeAndNeverWaits) {
  std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
  Bytes frame;
  const auto nothing = groups[0].try_receive(1, frame);
  ASSERT_TRUE(nothing) << nothing.error().message;
  EXPECT_FALSE(*nothing);
  std::thread sender(
      [&] { ASSERT_TRUE(groups[1].send(0, pattern(3'000'000, 9), in_seconds(60))); });
  const Deadline late = in_seconds(60);
  bool whole = false;
  while (!whole && Clock::now() < late) {
    const auto got = groups[0].try_receive(1, frame);
    ASSERT_TRUE(got) << got.error().message;
    whole = *got;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  sender.join();
  EXPECT_EQ(frame, pattern(3'000'000, 9));
}

TEST(Messages, ReceiveCompletesWhatTryReceiveBegan) {
  std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
  Bytes frame;
  const auto nothing = groups[0].try_receive(1, frame);
  ASSERT_TRUE(nothing);
  ASSERT_FALSE(*nothing);
  ASSERT_TRUE(groups[1].post(0, pattern(500, 1)));
  ASSERT_TRUE(groups[1].post(0, pattern(600, 2)));
  ASSERT_TRUE(groups[0].receive(1, frame, in_seconds(30)));
  EXPECT_EQ(frame, pattern(500, 1));
  ASSERT_TRUE(groups[0].receive(1, frame, in_seconds(30)));
  EXPECT_EQ(frame, pattern(600, 2));
}

// A result that is still to come from a rank stands before the sums with that rank, on both routes.
TEST(Messages, KeepTheirPlaceBesideAllReduces) {
  for (const ReduceRoute route : {ReduceRoute::kDirect, ReduceRoute::kScatter}) {
    std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
    on_every_rank(groups, [route](Group& group) {
      group.set_reduce_route(route);
      std::vector<float> values(5000);
      Bytes result;
      bool whole = true;
      for (int step = 0; step < 50; ++step) {
        std::ranges::fill(values, static_cast<float>(step));
        if (group.rank() == 2) {
          ASSERT_TRUE(group.post(0, pattern(300, step)));
        }
        if (group.rank() == 0) {
          const auto got = group.try_receive(2, result);
          ASSERT_TRUE(got) << got.error().message;
          whole = *got;
        }
        ASSERT_TRUE(group.begin_all_reduce(values));
        // Between the halves: comes after the sums on every rank, though it is asked for before.
        if (group.rank() == 1) {
          ASSERT_TRUE(group.post(2, pattern(40'000, step)));
        }
        if (group.rank() == 2) {
          Bytes between;
          ASSERT_TRUE(group.receive(1, between, in_seconds(30)));
          EXPECT_EQ(between, pattern(40'000, step));
        }
        const Status finished = group.finish_all_reduce(in_seconds(30));
        ASSERT_TRUE(finished) << finished.error().message;
        EXPECT_THAT(values, ::testing::Each(3.0f * static_cast<float>(step)));
        if (group.rank() == 0) {
          if (!whole) {
            ASSERT_TRUE(group.receive(2, result, in_seconds(30)));
          }
          EXPECT_EQ(result, pattern(300, step));
        }
      }
    });
  }
}

TEST(Messages, ABarrierHoldsEverybodyUntilTheLast) {
  std::vector<Group> groups = make_groups(4, LinkMode::kPlain);
  std::atomic<int> arrived = 0;
  on_every_rank(groups, [&](Group& group) {
    for (int round = 1; round <= 20; ++round) {
      ++arrived;
      ASSERT_TRUE(group.barrier(in_seconds(30)));
      EXPECT_GE(arrived.load(), 4 * round);
      ASSERT_TRUE(group.barrier(in_seconds(30)));
    }
  });
}

// Two stages of two ranks: sums stay within a stage, values go from one to the next.
TEST(Messages, StagesOfGroupsReduceAmongThemselves) {
  for (const Payload payload : kPayloads) {
    std::vector<Group> groups = make_groups(4, LinkMode::kPlain);
    on_every_rank(groups, [payload](Group& group) {
      const int first = group.rank() / 2 * 2;
      group.reduce_among(first, 2);
      group.set_payload(payload);
      for (int step = 1; step <= 20; ++step) {
        std::vector<float> values(777, static_cast<float>(step));
        if (first == 2) {
          ASSERT_TRUE(group.receive_values(group.rank() - 2, values, in_seconds(30)));
        }
        ASSERT_TRUE(group.all_reduce(values, in_seconds(30)));
        if (first == 0) {
          ASSERT_TRUE(group.post_values(group.rank() + 2, values));
        } else {
          EXPECT_THAT(values, ::testing::Each(::testing::FloatNear(4.0f * static_cast<float>(step),
                                                                   0.04f * step)));
        }
      }
      ASSERT_TRUE(group.flush(in_seconds(30)));
    });
  }
}

TEST(Messages, PostedFramesAreReused) {
  std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
  Bytes frame = pattern(5000, 1);
  const std::byte* const memory = frame.data();
  ASSERT_TRUE(groups[0].post(1, std::move(frame)));
  Bytes got;
  ASSERT_TRUE(groups[1].receive(0, got, in_seconds(30)));
  const Bytes again = groups[0].spare_frame();
  EXPECT_TRUE(again.empty());
  EXPECT_GE(again.capacity(), 5000u);
  EXPECT_EQ(again.data(), memory);
}

// A rank that reads nothing is named when a wait for another one ends, beside that one.
TEST(Messages, APostThatDoesNotLeaveIsNamedAtTheDeadline) {
  std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
  ASSERT_TRUE(groups[0].post(2, pattern(kMoreThanSocketsHold, 1)));
  Bytes frame;
  const Status late = groups[0].receive(1, frame, in_seconds(0.2));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("rank 1 did not answer in time"));
  EXPECT_THAT(late.error().message, HasSubstr("rank 2 did not answer in time"));
  const Status after = groups[0].post(1, {});
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().message, late.error().message);
}

}  // namespace
}  // namespace shoal
