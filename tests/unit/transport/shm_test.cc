#include "transport/shm.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "linked.h"
#include "transport/shm_segment.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

TEST(Shm, FramesWrapAroundTheSmallestRings) {
  auto links = connected_shm_pair("second", "first", kSmallestShmRing);
  ASSERT_TRUE(links) << links.error().message;
  std::thread other([&] {
    for (size_t size = 0; size < 9000; size += 271) {
      Bytes in(size);
      const auto done = links->second->exchange(pattern(9000 - size, 5), in, in_seconds(20));
      ASSERT_TRUE(done) << done.error().message;
      EXPECT_EQ(in, pattern(size, 4));
    }
  });
  for (size_t size = 0; size < 9000; size += 271) {
    Bytes in(9000 - size);
    const auto done = links->first->exchange(pattern(size, 4), in, in_seconds(20));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(in, pattern(9000 - size, 5));
  }
  other.join();
}

TEST(Shm, RingsOfOtherSizesAreRefused) {
  for (const size_t bytes : {size_t{0}, size_t{100}, size_t{5000}, size_t{1} << 31}) {
    const auto pair = make_shm_pair(bytes);
    ASSERT_FALSE(pair) << bytes;
    EXPECT_EQ(pair.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(pair.error().message, HasSubstr("power of two"));
  }
}

// --- two processes ---

// A rank in a process of its own, which answers every frame until the link ends.
class ShmProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    auto ends = make_shm_pair();
    ASSERT_TRUE(ends) << ends.error().message;
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      ends->first = {};
      echo(std::move(ends->second));
    }
    ends->second = {};
    auto link = make_shm_link(std::move(ends->first), "rank 1");
    ASSERT_TRUE(link) << link.error().message;
    link_ = std::move(*link);
  }
  void TearDown() override {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  [[noreturn]] static void echo(ShmEnd end) {
    auto link = make_shm_link(std::move(end), "rank 0");
    Bytes frame;
    while (link && (*link)->receive(frame, in_seconds(60)) && !frame.empty()) {
      if (!(*link)->send(frame, in_seconds(60))) break;
    }
    if (link) link->reset();
    ::_exit(0);
  }
  void expect_echo(size_t size) {
    Bytes back;
    ASSERT_TRUE(link_->send(pattern(size), in_seconds(20)));
    const auto got = link_->receive(back, in_seconds(20));
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(back, pattern(size));
  }
  pid_t child_ = -1;
  std::unique_ptr<Link> link_;
};

TEST_F(ShmProcess, FramesCrossFromProcessToProcess) {
  for (const size_t size : {1u, 4096u, 32768u, 5'000'000u}) expect_echo(size);
}

TEST_F(ShmProcess, AKilledPeerIsNoticedAtOnce) {
  expect_echo(10);
  ::kill(child_, SIGKILL);
  Bytes frame;
  const auto gone = link_->receive(frame, in_seconds(60));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(gone.error().message, HasSubstr("rank 1 closed its link"));
}

TEST_F(ShmProcess, AStoppedPeerIsNoticedAtTheDeadline) {
  expect_echo(10);
  ::kill(child_, SIGSTOP);
  ::waitpid(child_, nullptr, WUNTRACED);
  ASSERT_TRUE(link_->send(pattern(10), in_seconds(5)));  // there is room
  Bytes frame;
  const auto late = link_->receive(frame, in_seconds(0.1));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("rank 1 did not answer in time"));
}

TEST_F(ShmProcess, AnOrderlyEndIsOne) {
  ASSERT_TRUE(link_->send({}, in_seconds(20)));
  Bytes frame;
  const auto gone = link_->receive(frame, in_seconds(60));
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message, HasSubstr("rank 1 closed its link"));
}

// --- a peer that writes what it likes ---

class HostileShm : public ::testing::Test {
 protected:
  void SetUp() override {
    auto ends = make_shm_pair(kSmallestShmRing);
    ASSERT_TRUE(ends) << ends.error().message;
    theirs_ = std::move(ends->second);
    auto segment = ShmSegment::map(theirs_.memory.get());
    ASSERT_TRUE(segment) << segment.error().message;
    segment_.emplace(std::move(*segment));
    auto link = make_shm_link(std::move(ends->first), "rank 1");
    ASSERT_TRUE(link) << link.error().message;
    link_ = std::move(*link);
  }
  // Bytes at the start of the ring that our side reads.
  void say(const std::string& text) {
    std::ranges::copy(as_bytes(text), segment_->ring(1).begin());
    segment_->head().rings[1].written = text.size();
  }
  ShmEnd theirs_;
  std::optional<ShmSegment> segment_;
  std::unique_ptr<Link> link_;
  Bytes frame_;
};

TEST_F(HostileShm, MoreWrittenThanTheRingHolds) {
  for (const uint64_t written : {uint64_t{kSmallestShmRing} + 1, uint64_t{1} << 63, UINT64_MAX}) {
    segment_->head().rings[1].written = written;
    const auto got = link_->receive(frame_, in_seconds(5));
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(got.error().message, HasSubstr("rank 1 says that it has written"));
    SetUp();
  }
}

TEST_F(HostileShm, WrittenThatRunsBackwards) {
  say(std::string(8, '\0'));
  ASSERT_TRUE(link_->receive(frame_, in_seconds(5)));
  segment_->head().rings[1].written = 1;
  const auto got = link_->receive(frame_, in_seconds(5));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
}

TEST_F(HostileShm, ReadingWhatWasNeverWritten) {
  ASSERT_TRUE(link_->send(pattern(100), in_seconds(5)));
  segment_->head().rings[0].read = uint64_t{1} << 40;
  const auto sent = link_->send(pattern(10'000), in_seconds(5));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(sent.error().message, HasSubstr("rank 1 says that it has read"));
}

TEST_F(HostileShm, ALengthOverTheLimit) {
  say("\xff\xff\xff\xff" + std::string(4, '\0'));
  const auto got = link_->receive(frame_, in_seconds(5));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(got.error().message, HasSubstr("4294967295"));
}

TEST_F(HostileShm, OtherMemoryIsRefused) {
  const auto attach = [](UniqueFd memory) {
    int sockets[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    const UniqueFd other(sockets[1]);
    return make_shm_link({std::move(memory), UniqueFd(sockets[0]), true}, "rank 1");
  };
  UniqueFd unsealed(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), kShmRingsAt + 2 * kSmallestShmRing), 0);
  EXPECT_THAT(attach(std::move(unsealed)).error().message, HasSubstr("could shrink"));

  for (const off_t size : {off_t{0}, off_t{100}, off_t{kShmRingsAt + 10'000}}) {
    UniqueFd odd(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(odd.get(), size), 0);
    ASSERT_EQ(::fcntl(odd.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
    EXPECT_THAT(attach(std::move(odd)).error().message, HasSubstr("no two rings")) << size;
  }

  segment_->head().magic = 7;
  EXPECT_THAT(attach(std::move(theirs_.memory)).error().message, HasSubstr("another version"));
}

}  // namespace
}  // namespace shoal
