#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linked.h"
#include "transport/crc32c.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

class LinkTest : public ::testing::TestWithParam<LinkKind> {
 protected:
  void SetUp() override {
    Linked both = linked(GetParam());
    ASSERT_TRUE(both.a && both.b);
    fabric_ = both.fabric;
    a_ = std::move(both.a);
    b_ = std::move(both.b);
  }
  std::shared_ptr<FakeFabric> fabric_;
  std::unique_ptr<Link> a_;
  std::unique_ptr<Link> b_;
};

std::string kind_of(const ::testing::TestParamInfo<LinkKind>& info) {
  return name_of(info.param);
}
INSTANTIATE_TEST_SUITE_P(Kinds, LinkTest, ::testing::ValuesIn(kLinkKinds), kind_of);

TEST_P(LinkTest, FramesOfEverySizeArriveInOrder) {
  const std::vector<size_t> sizes = {0,     1,     2,      4095,   16379,   16380,     16381, 16384,
                                     16385, 65536, 100001, 262144, 1 << 20, 5'000'003, 0,     7};
  std::thread sender([&] {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const auto sent = a_->send(pattern(sizes[i], static_cast<unsigned>(i)), in_seconds(20));
      ASSERT_TRUE(sent) << sent.error().message;
    }
  });
  Bytes frame;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto got = b_->receive(frame, in_seconds(20));
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(frame, pattern(sizes[i], static_cast<unsigned>(i))) << sizes[i];
  }
  sender.join();
}

TEST_P(LinkTest, ExchangesOfAnySizesNeverDeadlock) {
  const std::vector<std::pair<size_t, size_t>> sizes = {
      {0, 0},         {1, 0},        {0, 1}, {2048, 2048}, {20'000'000, 20'000'000},
      {9'000'000, 3}, {5, 9'000'000}};
  std::thread other([&] {
    for (const auto& [from_a, from_b] : sizes) {
      Bytes in(from_a);
      const auto done = b_->exchange(pattern(from_b, 7), in, in_seconds(30));
      ASSERT_TRUE(done) << done.error().message;
      EXPECT_EQ(in, pattern(from_a, 3));
    }
  });
  for (const auto& [from_a, from_b] : sizes) {
    Bytes in(from_b);
    const auto done = a_->exchange(pattern(from_a, 3), in, in_seconds(30));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(in, pattern(from_b, 7));
  }
  other.join();
}

TEST_P(LinkTest, AFrameOfAnotherLengthThanDueIsAnErrorOnBothSides) {
  Bytes in(100);
  ASSERT_TRUE(a_->send(pattern(90), in_seconds(5)));
  const auto wrong = b_->exchange(pattern(90), in, in_seconds(5));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(wrong.error().message, HasSubstr("rank 0 at a:1 sent a frame of 90 bytes where 100"));
  // The link of the rank that noticed is closed, so the other does not wait for its deadline.
  Bytes frame;
  auto after = a_->receive(frame, in_seconds(60));
  if (after) after = a_->receive(frame, in_seconds(60));  // the 90 bytes may have left first
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().code, ErrorCode::kUnreachable);
}

TEST_P(LinkTest, ASilentPeerIsAnErrorAtTheDeadlineAndStaysOne) {
  Bytes in(10);
  const auto late = a_->exchange(pattern(10), in, in_seconds(0.05));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("rank 1 at b:2 did not answer in time"));
  const auto again = a_->send(pattern(1), in_seconds(5));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message, late.error().message);
}

TEST_P(LinkTest, APeerThatDoesNotReadIsAnErrorAtTheDeadline) {
  const auto late = a_->send(pattern(64 << 20), in_seconds(0.3));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("bytes sent"));
}

TEST_P(LinkTest, APeerThatEndsIsAnErrorAtOnceAndRaisesNoSignal) {
  b_.reset();
  Bytes frame;
  const auto gone = a_->receive(frame, in_seconds(60));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(gone.error().message, HasSubstr("rank 1 at b:2"));

  Linked ends = linked(GetParam());
  ends.b.reset();
  Status sent;
  for (int i = 0; i < 1000 && sent; ++i) sent = ends.a->send(pattern(100000), in_seconds(60));
  ASSERT_FALSE(sent);  // and SIGPIPE, whose default ends the process, never came
  EXPECT_EQ(sent.error().code, ErrorCode::kUnreachable);
}

TEST_P(LinkTest, WhatIsSentBeforeAnOrderlyEndArrives) {
  ASSERT_TRUE(a_->send(pattern(9000), in_seconds(20)));
  a_.reset();
  Bytes frame;
  ASSERT_TRUE(b_->receive(frame, in_seconds(20)));
  EXPECT_EQ(frame, pattern(9000));
  const auto gone = b_->receive(frame, in_seconds(60));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(gone.error().message, HasSubstr("rank 0 at a:1 closed its link"));
  EXPECT_EQ(b_->send({}, in_seconds(1)).error().message, gone.error().message);
}

TEST_P(LinkTest, AnEmptyReceiveBufferIsReusedWhateverItHeld) {
  ASSERT_TRUE(a_->send(pattern(5), in_seconds(5)));
  ASSERT_TRUE(a_->send({}, in_seconds(5)));
  Bytes frame = pattern(3000);
  ASSERT_TRUE(b_->receive(frame, in_seconds(5)));
  EXPECT_EQ(frame, pattern(5));
  ASSERT_TRUE(b_->receive(frame, in_seconds(5)));
  EXPECT_TRUE(frame.empty());
}

TEST_P(LinkTest, CountersCountPayloadAndHeaders) {
  std::thread other([&] {
    Bytes in(1000);
    ASSERT_TRUE(b_->exchange(pattern(500), in, in_seconds(5)));
  });
  Bytes in(500);
  ASSERT_TRUE(a_->exchange(pattern(1000), in, in_seconds(5)));
  other.join();
  EXPECT_EQ(a_->counters().bytes_sent, 1000 + header_bytes(GetParam()));
  EXPECT_EQ(a_->counters().bytes_received, 500 + header_bytes(GetParam()));
  EXPECT_EQ(a_->counters().calls, 1u);
  EXPECT_GT(a_->counters().wait_ns, 0u);
}

TEST_P(LinkTest, AFrameOverTheLimitIsRefusedBeforeItIsSent) {
  // Never touched, so a span over memory that is not there will do.
  const std::span<const std::byte> huge(reinterpret_cast<const std::byte*>(this),
                                        Link::kLargestFrame + 1);
  const auto refused = a_->send(huge, in_seconds(5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  ASSERT_TRUE(a_->send(pattern(3), in_seconds(5)));  // the link lives on
  Bytes frame;
  ASSERT_TRUE(b_->receive(frame, in_seconds(5)));
  EXPECT_EQ(frame, pattern(3));
}

TEST_P(LinkTest, SeveralLinksAreDrivenAtOnce) {
  const Linked more = linked(GetParam());
  std::array<Link*, 2> far = {b_.get(), more.b.get()};
  std::thread other([&] {
    Bytes first;
    Bytes second;
    ASSERT_TRUE(far[0]->begin_receive(first));
    ASSERT_TRUE(far[1]->begin_receive(second));
    ASSERT_TRUE(complete(far, in_seconds(20)));
    EXPECT_EQ(first, pattern(3'000'000, 1));
    EXPECT_EQ(second, pattern(9, 2));
  });
  const Bytes first = pattern(3'000'000, 1);
  const Bytes second = pattern(9, 2);
  std::array<Link*, 2> near = {a_.get(), more.a.get()};
  ASSERT_TRUE(near[0]->begin_send(first));
  ASSERT_TRUE(near[1]->begin_send(second));
  ASSERT_TRUE(complete(near, in_seconds(20)));
  other.join();
}

TEST_P(LinkTest, FailingAloneIsNoticedByAnEndThatOnlyWaitsForOthers) {
  // b_ has done its part and fails; a_ still waits for a third rank, and must not go on for long.
  const Linked third = linked(GetParam());
  ASSERT_TRUE(b_->send(pattern(5), in_seconds(5)));
  b_->abandon({ErrorCode::kUnreachable, "rank 2 is gone"});
  std::array<Link*, 2> both = {a_.get(), third.a.get()};
  Bytes from_b;
  Bytes never;
  ASSERT_TRUE(a_->begin_receive(from_b));
  ASSERT_TRUE(third.a->begin_receive(never));
  const auto done = complete(both, in_seconds(60));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(done.error().message, HasSubstr("rank 1 at b:2"));
  EXPECT_EQ(b_->receive(never, in_seconds(1)).error().message, "rank 2 is gone");
}

TEST_P(LinkTest, AnOrderlyEndAfterItsPartDisturbsNoOther) {
  Linked third = linked(GetParam());
  ASSERT_TRUE(b_->send(pattern(5), in_seconds(5)));
  b_.reset();
  std::array<Link*, 2> both = {a_.get(), third.a.get()};
  Bytes from_b;
  Bytes from_third;
  ASSERT_TRUE(a_->begin_receive(from_b));
  ASSERT_TRUE(third.a->begin_receive(from_third));
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ASSERT_TRUE(third.b->send(pattern(6), in_seconds(20)));
  });
  const auto done = complete(both, in_seconds(20));
  later.join();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(from_b, pattern(5));
  EXPECT_EQ(from_third, pattern(6));
}

// Slept on by both ends in turn, far longer than either spins.
TEST_P(LinkTest, SleepersAreWoken) {
  std::thread other([&] {
    Bytes frame;
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(b_->receive(frame, in_seconds(20)));
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      ASSERT_TRUE(b_->send(frame, in_seconds(20)));
    }
  });
  Bytes frame;
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    const Bytes sent = pattern(3'000'000, static_cast<unsigned>(i));
    ASSERT_TRUE(a_->send(sent, in_seconds(20)));
    const auto back = a_->receive(frame, in_seconds(20));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(frame, sent);
  }
  other.join();
}

TEST(LinkModes, HaveNames) {
  EXPECT_EQ(*link_mode_named("tls"), LinkMode::kTls);
  EXPECT_EQ(*link_mode_named("plain"), LinkMode::kPlain);
  EXPECT_THAT(link_mode_named("ssl").error().message, HasSubstr("'ssl'"));
}

// A plain link whose peer is a raw socket that can misbehave.
class HostilePeer : public ::testing::Test {
 protected:
  void SetUp() override {
    auto sockets = connected_tcp_pair();
    ASSERT_TRUE(sockets);
    raw_ = std::move(sockets->second);
    say("SHOALPL2");
    auto made = make_tcp_link(std::move(sockets->first), LinkMode::kPlain, true, {},
                              "rank 1 at b:2", in_seconds(5));
    ASSERT_TRUE(made) << made.error().message;
    link_ = std::move(*made);
  }
  void say(std::string_view text) {
    ASSERT_TRUE(send_all(raw_.get(), as_bytes(text), in_seconds(5)));
  }

  UniqueFd raw_;
  std::unique_ptr<Link> link_;
  Bytes frame_;
};

// What a peer says of a frame: its length, and the checksum of that and of `payload`.
std::string header_of(uint32_t length, std::string_view payload) {
  std::string header(8, '\0');
  const auto put = [&](size_t at, uint32_t number) {
    for (size_t i = 0; i < 4; ++i) header[at + i] = static_cast<char>(number >> (8 * i));
  };
  put(0, length);
  const uint32_t of_length = crc32c_by_table(0, as_bytes(header).first(4));
  put(4, crc32c_by_table(of_length, as_bytes(payload)));
  return header;
}

TEST_F(HostilePeer, HalfAFrame) {
  say(header_of(10, "abc") + "abc");
  raw_.reset();
  const auto got = link_->receive(frame_, in_seconds(60));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(got.error().message, HasSubstr("rank 1 at b:2"));
}

TEST_F(HostilePeer, ALengthOverTheLimit) {
  say(header_of(0xffffffff, ""));
  const auto got = link_->receive(frame_, in_seconds(60));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(got.error().message, HasSubstr("4294967295"));
}

TEST_F(HostilePeer, ALengthAloneEarnsNoMemory) {
  say(header_of(1u << 30, "x") + "x");  // 1 GiB announced, one byte sent
  const auto got = link_->receive(frame_, in_seconds(0.05));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kDeadline);
  EXPECT_LE(frame_.capacity(), 4u << 20);
}

TEST_F(HostilePeer, DamageAnywhereInAFrameIsFoundAndNamed) {
  const std::string good = header_of(5, "abcde") + "abcde";
  say(good);
  ASSERT_TRUE(link_->receive(frame_, in_seconds(20)));
  EXPECT_EQ(as_text(frame_), "abcde");
  for (size_t at = 4; at < good.size(); ++at) {
    SetUp();
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    say(bad);
    const auto got = link_->receive(frame_, in_seconds(20));
    ASSERT_FALSE(got) << at;
    EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(got.error().message,
                HasSubstr("a frame of 5 bytes from rank 1 at b:2 arrived damaged"));
  }
  std::string shorter = good;
  shorter[0] = 4;  // the length counts too
  SetUp();
  say(shorter);
  const auto got = link_->receive(frame_, in_seconds(20));
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message, HasSubstr("a frame of 4 bytes from rank 1 at b:2"));
}

TEST_F(HostilePeer, AReset) {
  const linger now{1, 0};
  ASSERT_EQ(::setsockopt(raw_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  raw_.reset();
  const auto got = link_->receive(frame_, in_seconds(60));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kUnreachable);
}

TEST_F(HostilePeer, AFrameInSingleBytesStillArrives) {
  std::thread slow([&] {
    for (const char c : header_of(3, "abc") + "abc") say({&c, 1});
  });
  const auto got = link_->receive(frame_, in_seconds(20));
  slow.join();
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(as_text(frame_), "abc");
}

}  // namespace
}  // namespace shoal
