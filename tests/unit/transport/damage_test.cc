// Bytes that change on their way, and the checksum that finds them.
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>

#include "linked.h"
#include "transport/crc32c.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

TEST(Crc32c, KnownAnswers) {
  // RFC 3720 appendix B.4, and the usual check value.
  const auto both = [](std::span<const std::byte> bytes) {
    EXPECT_EQ(crc32c(0, bytes), crc32c_by_table(0, bytes));
    return crc32c(0, bytes);
  };
  EXPECT_EQ(both(Bytes(32)), 0x8a9136aau);
  EXPECT_EQ(both(Bytes(32, std::byte{0xff})), 0x62a8ab43u);
  Bytes rising(32);
  for (size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<std::byte>(i);
  EXPECT_EQ(both(rising), 0x46dd794eu);
  EXPECT_EQ(both(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(both({}), 0u);
}

TEST(Crc32c, TheInstructionAgreesWithTheTableAtEveryLengthAndCut) {
  const Bytes bytes = pattern(20'000);
  const std::span all(bytes);
  for (size_t size = 0; size < 7000; size += size < 100 ? 1 : 83) {
    const auto part = all.subspan(size % 13, size);
    const uint32_t whole = crc32c_by_table(0, part);
    EXPECT_EQ(crc32c(0, part), whole) << size;
    const size_t cut = size * 5 / 7;
    EXPECT_EQ(crc32c(crc32c(0, part.first(cut)), part.subspan(cut)), whole) << size;
  }
  EXPECT_EQ(crc32c(0, all), crc32c_by_table(0, all));
}

// Hands bytes on between two sockets; once told, it turns over a bit of the next that pass.
class Relay {
 public:
  Relay(UniqueFd a, UniqueFd b)
      : sockets_{std::move(a), std::move(b)}, thread_([this] { run(); }) {}
  ~Relay() {
    ending_ = true;
    thread_.join();
  }
  void damage_next() { damaging_ = true; }

 private:
  void run() {
    while (!ending_) {
      std::array<pollfd, 2> ready = {
          {{sockets_[0].get(), POLLIN, 0}, {sockets_[1].get(), POLLIN, 0}}};
      if (::poll(ready.data(), ready.size(), 5) <= 0) continue;
      for (size_t side = 0; side < 2; ++side) {
        if ((ready[side].revents & POLLIN) == 0) continue;
        std::array<std::byte, 4096> bytes;
        const ssize_t got = ::recv(sockets_[side].get(), bytes.data(), bytes.size(), 0);
        if (got <= 0) return;
        const auto passed = std::span(bytes).first(static_cast<size_t>(got));
        if (damaging_.exchange(false)) passed.back() ^= std::byte{4};
        if (!send_all(sockets_[1 - side].get(), passed, in_seconds(5))) return;
      }
    }
  }
  std::array<UniqueFd, 2> sockets_;
  std::atomic<bool> damaging_ = false;
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

class Damage : public ::testing::TestWithParam<LinkMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, Damage, ::testing::Values(LinkMode::kPlain, LinkMode::kTls));

TEST_P(Damage, OnTheWayIsFoundAndThePeerNamed) {
  auto left = connected_tcp_pair();
  auto right = connected_tcp_pair();
  ASSERT_TRUE(left && right);
  Relay relay(std::move(left->second), std::move(right->second));
  Result<std::unique_ptr<Link>> a = nullptr;
  std::thread dialler([&] {
    a = make_tcp_link(std::move(left->first), GetParam(), true, pattern(32), "rank 1 at b:2",
                      in_seconds(20));
  });
  auto b = make_tcp_link(std::move(right->first), GetParam(), false, pattern(32), "rank 0 at a:1",
                         in_seconds(20));
  dialler.join();
  ASSERT_TRUE(a && b);
  Bytes frame;
  ASSERT_TRUE((*a)->send(pattern(1000), in_seconds(5)));
  ASSERT_TRUE((*b)->receive(frame, in_seconds(5)));
  EXPECT_EQ(frame, pattern(1000));
  relay.damage_next();
  ASSERT_TRUE((*a)->send(pattern(1000), in_seconds(5)));
  const auto got = (*b)->receive(frame, in_seconds(20));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kCorrupt) << got.error().message;
  EXPECT_THAT(got.error().message, HasSubstr("rank 0 at a:1"));
}

}  // namespace
}  // namespace shoal
