#include "supervise/channel.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace shoal {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class ChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto ends = make_channel_pair();
    ASSERT_TRUE(ends);
    near_ = std::make_unique<Channel>(std::move(ends->first));
    far_ = std::make_unique<Channel>(std::move(ends->second));
  }
  void write_raw(std::string_view bytes) {
    ASSERT_EQ(::write(far_->descriptor(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }
  static Deadline soon() { return Clock::now() + 20s; }

  std::unique_ptr<Channel> near_;
  std::unique_ptr<Channel> far_;
};

TEST_F(ChannelTest, KeepsTheOrderOfKeys) {
  const OrderedJson frame = {{"z", 1}, {"a", 2}, {"m", {{"y", 1}, {"b", 2}}}};
  ASSERT_TRUE(near_->send(frame));
  const auto got = far_->receive(soon());
  ASSERT_TRUE(got);
  EXPECT_EQ(got->json.dump(), frame.dump());
  EXPECT_FALSE(got->descriptor);
}

TEST_F(ChannelTest, FramesOfManyThreadsDoNotMix) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 50; ++i) {
        ASSERT_TRUE(
            near_->send({{"thread", t}, {"number", i}, {"text", std::string(20'000, 'x')}}));
      }
    });
  }
  std::array<int, 4> next{};
  for (int i = 0; i < 200; ++i) {
    const auto frame = far_->receive(soon());
    ASSERT_TRUE(frame) << frame.error().message;
    EXPECT_EQ(frame->json["number"], next[frame->json["thread"].get<size_t>()]++);
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ChannelTest, PassesADescriptorWithTheRightFrame) {
  UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), "hello", 5), 5);
  ASSERT_TRUE(near_->send({{"a", 1}}));
  ASSERT_TRUE(near_->send({{"b", 1}}, file.get()));
  ASSERT_TRUE(near_->send({{"c", 1}}));
  EXPECT_FALSE(far_->receive(soon())->descriptor);
  const auto with = far_->receive(soon());
  ASSERT_TRUE(with->descriptor);
  char text[5];
  EXPECT_EQ(::pread(with->descriptor.get(), text, 5, 0), 5);
  EXPECT_EQ(std::string(text, 5), "hello");
  EXPECT_NE(::fcntl(with->descriptor.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_FALSE(far_->receive(soon())->descriptor);
}

TEST_F(ChannelTest, ADeadlineLeavesAHalfFrameInPlace) {
  write_raw(std::string_view("\x07\0", 2));
  EXPECT_EQ(near_->receive(Clock::now()).error().code, ErrorCode::kDeadline);
  write_raw(std::string_view("\0\0{\"a\"", 6));
  EXPECT_EQ(near_->receive(Clock::now()).error().code, ErrorCode::kDeadline);
  write_raw(":1}");
  const auto frame = near_->receive(soon());
  ASSERT_TRUE(frame) << frame.error().message;
  EXPECT_EQ(frame->json["a"], 1);
}

TEST_F(ChannelTest, TheEndIsSaidAsSuch) {
  write_raw(std::string_view("\x07\0\0\0{", 5));
  far_.reset();
  for (int i = 0; i < 2; ++i) {
    const auto frame = near_->receive(kNoDeadline);
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().code, ErrorCode::kUnreachable);
    EXPECT_EQ(frame.error().message, "the daemon has gone");
  }
  const auto sent = near_->send({{"a", 1}});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::kUnreachable);
}

TEST_F(ChannelTest, BytesThatAreNoFrameAreCorrupt) {
  write_raw(std::string_view("\x03\0\0\0{a}", 7));
  EXPECT_EQ(near_->receive(soon()).error().code, ErrorCode::kCorrupt);
  write_raw("\xff\xff\xff\xff");
  const auto huge = near_->receive(soon());
  EXPECT_EQ(huge.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(huge.error().message, HasSubstr("4294967295"));
}

TEST_F(ChannelTest, AFrameOverTheLimitIsRefused) {
  const auto sent = near_->send({{"text", std::string(65 << 20, 'x')}});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::kTooLarge);
  ASSERT_TRUE(near_->send({{"a", 1}}));
  EXPECT_TRUE(far_->receive(soon()));
}

}  // namespace
}  // namespace shoal
