// Links over the real libibverbs and a real device, soft-RoCE in the machine that run.py boots.
// Fails where there is none: run it through `./dev test rdma`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <thread>

#include "collectives/group.h"
#include "real_ends.h"

namespace shoal {
namespace {

Bytes pattern(size_t size, unsigned seed) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((i * 131 + i / 251 + seed) & 255);
  return bytes;
}

class RealVerbs : public ::testing::TestWithParam<QueuePairKind> {
 protected:
  void SetUp() override {
    VerbsOptions options;
    options.kind = GetParam();
    RealEnds ends = join_over_rdma(options);
    ASSERT_TRUE(ends.a) << ends.a.error().message;
    ASSERT_TRUE(ends.b) << ends.b.error().message;
    a_ = std::move(*ends.a);
    b_ = std::move(*ends.b);
  }
  std::unique_ptr<Link> a_;
  std::unique_ptr<Link> b_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, RealVerbs,
                         ::testing::Values(QueuePairKind::kReliable, QueuePairKind::kUnreliable),
                         [](const auto& info) {
                           return info.param == QueuePairKind::kReliable ? "RC" : "UC";
                         });

TEST_P(RealVerbs, FramesOfEverySizeArriveInOrder) {
  const std::vector<size_t> sizes = {0, 1, 65519, 65520, 65521, 131041, 32768, 1'500'000, 7};
  std::thread sender([&] {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const auto sent = a_->send(pattern(sizes[i], static_cast<unsigned>(i)), soon());
      ASSERT_TRUE(sent) << sent.error().message;
    }
  });
  Bytes frame;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto got = b_->receive(frame, soon());
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(frame, pattern(sizes[i], static_cast<unsigned>(i))) << sizes[i];
  }
  sender.join();
}

TEST_P(RealVerbs, ManyExchangesOfADecodingStep) {
  constexpr int kTimes = 300;
  const auto play = [](Link& link, unsigned mine, unsigned theirs) {
    Bytes in(16384);
    const Bytes out = pattern(in.size(), mine);
    for (int i = 0; i < kTimes; ++i) {
      const auto done = link.exchange(out, in, soon());
      ASSERT_TRUE(done) << done.error().message;
      ASSERT_EQ(in, pattern(in.size(), theirs));
    }
  };
  std::thread other([&] { play(*b_, 2, 1); });
  play(*a_, 1, 2);
  other.join();
}

TEST_P(RealVerbs, AllReduceEndsWithTheSameBitsOnBothRanks) {
  std::vector<std::vector<float>> values(2, std::vector<float>(8192));
  std::vector<float> sums(8192);
  for (size_t i = 0; i < sums.size(); ++i) {
    values[0][i] = std::sin(static_cast<float>(i));
    values[1][i] = 1e-3f * static_cast<float>(i);
    sums[i] = values[0][i] + values[1][i];
  }
  const auto reduce = [&](int rank, std::unique_ptr<Link>& link) {
    std::vector<std::unique_ptr<Link>> links(2);
    links[static_cast<size_t>(1 - rank)] = std::move(link);
    Group group(rank, std::move(links));
    const auto done = group.all_reduce(values[static_cast<size_t>(rank)], soon());
    ASSERT_TRUE(done) << done.error().message;
  };
  std::thread other([&] { reduce(1, b_); });
  reduce(0, a_);
  other.join();
  EXPECT_EQ(values[0], sums);
  EXPECT_EQ(values[1], sums);
}

TEST_P(RealVerbs, ASilentPeerIsAnErrorAtTheDeadline) {
  Bytes frame;
  const auto late = a_->receive(frame, Clock::now() + std::chrono::milliseconds(300));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline) << late.error().message;
}

TEST_P(RealVerbs, WhatIsSentBeforeAnOrderlyEndArrives) {
  std::thread other([&] {
    ASSERT_TRUE(a_->send(pattern(200'000, 5), soon()));
    a_.reset();
  });
  Bytes frame;
  const auto got = b_->receive(frame, soon());
  EXPECT_TRUE(got) << got.error().message;
  EXPECT_EQ(frame, pattern(200'000, 5));
  other.join();
  const auto gone = b_->receive(frame, soon());
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnreachable) << gone.error().message;
}

// Two processes; one is killed in the middle.
TEST(RealVerbsProcesses, AKilledPeerIsAnErrorLongBeforeTheDeadline) {
  auto sockets = connected_tcp_pair();
  ASSERT_TRUE(sockets);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    sockets->first.reset();
    auto link = make_end(std::move(sockets->second), false, {});
    while (link && (*link)->send(pattern(1000, 3), soon())) {
    }
    ::_exit(1);
  }
  sockets->second.reset();
  auto link = make_end(std::move(sockets->first), true, {});
  ASSERT_TRUE(link) << link.error().message;
  Bytes frame;
  for (int i = 0; i < 50; ++i) {
    const auto got = (*link)->receive(frame, soon());
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(frame, pattern(1000, 3));
  }
  ::kill(child, SIGKILL);
  Status got;
  while (got) got = (*link)->receive(frame, soon());  // what was under way still comes
  EXPECT_EQ(got.error().code, ErrorCode::kUnreachable) << got.error().message;
  EXPECT_THAT(got.error().message, ::testing::HasSubstr("rank 1 at b"));
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace shoal
