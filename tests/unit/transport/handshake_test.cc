#include <gmock/gmock.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linked.h"
#include "transport/byte_stream.h"
#include "transport/socket.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

TEST(Handshake, AnotherKeyIsRefusedOnBothSides) {
  const LinkEnds ends = join({LinkMode::kTls, pattern(32, 1)}, {LinkMode::kTls, pattern(32, 2)});
  ASSERT_FALSE(ends.dialled);
  ASSERT_FALSE(ends.accepted);
  EXPECT_EQ(ends.dialled.error().code, ErrorCode::kPermission) << ends.dialled.error().message;
  EXPECT_EQ(ends.accepted.error().code, ErrorCode::kPermission) << ends.accepted.error().message;
  EXPECT_THAT(ends.dialled.error().message, HasSubstr("rank 1 at b:2 did not prove the key"));
  EXPECT_THAT(ends.accepted.error().message, HasSubstr("rank 0 at a:1 did not prove the key"));
}

TEST(Handshake, DifferentModesFindOutAtOnce) {
  for (const bool dialler_is_plain : {false, true}) {
    const EndSettings tls{LinkMode::kTls, pattern(32)};
    const EndSettings plain{LinkMode::kPlain, {}};
    const LinkEnds ends = dialler_is_plain ? join(plain, tls, 60) : join(tls, plain, 60);
    ASSERT_FALSE(ends.dialled);
    ASSERT_FALSE(ends.accepted);
    const Error& seen_by_tls = dialler_is_plain ? ends.accepted.error() : ends.dialled.error();
    const Error& seen_by_plain = dialler_is_plain ? ends.dialled.error() : ends.accepted.error();
    EXPECT_THAT(seen_by_tls.message, HasSubstr("rank"));
    EXPECT_NE(seen_by_tls.code, ErrorCode::kDeadline) << seen_by_tls.message;
    EXPECT_NE(seen_by_plain.code, ErrorCode::kDeadline) << seen_by_plain.message;
  }
}

TEST(Handshake, AKeyOfAnotherSizeIsRefused) {
  auto sockets = connected_tcp_pair();
  const auto link = make_tcp_link(std::move(sockets->first), LinkMode::kTls, true, pattern(16),
                                  "rank 1", in_seconds(5));
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().code, ErrorCode::kInvalidArgument);
}

class RawPeer : public ::testing::TestWithParam<LinkMode> {
 protected:
  Result<std::unique_ptr<Link>> meet(bool dialled, double seconds) {
    return make_tcp_link(std::move(ours_), GetParam(), dialled, pattern(32), "rank 1 at b:2",
                         in_seconds(seconds));
  }
  void SetUp() override {
    auto sockets = connected_tcp_pair();
    ASSERT_TRUE(sockets);
    ours_ = std::move(sockets->first);
    raw_ = std::move(sockets->second);
  }
  UniqueFd ours_;
  UniqueFd raw_;
};
INSTANTIATE_TEST_SUITE_P(Modes, RawPeer, ::testing::Values(LinkMode::kPlain, LinkMode::kTls));

TEST_P(RawPeer, Silence) {
  const auto link = meet(true, 0.05);
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(link.error().message, HasSubstr("rank 1 at b:2"));
}

TEST_P(RawPeer, Garbage) {
  for (const bool dialled : {false, true}) {
    ASSERT_TRUE(send_all(raw_.get(), as_bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), in_seconds(5)));
    const auto link = meet(dialled, 60);
    ASSERT_FALSE(link);
    EXPECT_EQ(link.error().code, ErrorCode::kCorrupt) << link.error().message;
    SetUp();
  }
}

TEST_P(RawPeer, CloseInTheMiddle) {
  ASSERT_TRUE(send_all(raw_.get(), as_bytes("SHO"), in_seconds(5)));
  raw_.reset();
  const auto link = meet(true, 60);
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().code, ErrorCode::kUnreachable) << link.error().message;
}

TEST(Handshake, AnotherVersionIsNamedWithOurs) {
  auto sockets = connected_tcp_pair();
  ASSERT_TRUE(send_all(sockets->second.get(), as_bytes("SHOALPL1"), in_seconds(5)));
  const auto link = make_tcp_link(std::move(sockets->first), LinkMode::kPlain, true, {},
                                  "rank 1 at b:2", in_seconds(20));
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(link.error().message,
              HasSubstr("rank 1 at b:2 speaks version 1 of Shoal's link protocol and this end "
                        "version 2"));
}

// A TLS 1.3 client without the key, as any stranger could run.
TEST(Handshake, AStrangerWithoutAKeyIsRefused) {
  auto sockets = connected_tcp_pair();
  std::thread stranger([socket = sockets->first.get()] {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, socket);
    EXPECT_NE(SSL_connect(ssl), 1);
    SSL_free(ssl);
    SSL_CTX_free(context);
  });
  const auto link = make_tcp_link(std::move(sockets->second), LinkMode::kTls, false, pattern(32),
                                  "rank 0", in_seconds(10));
  stranger.join();
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().code, ErrorCode::kPermission) << link.error().message;
}

// Keys are replaced long before AES-GCM's limit; here after every third record.
TEST(TlsStream, KeysAreReplacedWhileFramesFlow) {
  auto sockets = connected_tcp_pair();
  ASSERT_TRUE(set_nonblocking(sockets->first.get()) && set_nonblocking(sockets->second.get()));
  Result<std::unique_ptr<ByteStream>> client = nullptr;
  std::thread other([&] {
    client = make_tls_stream(std::move(sockets->first), true, pattern(32), "b", in_seconds(10), 3);
  });
  auto server =
      make_tls_stream(std::move(sockets->second), false, pattern(32), "a", in_seconds(10), 3);
  other.join();
  ASSERT_TRUE(client && server);
  const Bytes sent = pattern(1'000'000);
  std::thread sender([&] {
    std::span<const std::byte> left(sent);
    while (!left.empty()) {
      const auto taken = (*client)->write(left.first(std::min<size_t>(left.size(), 999)), {});
      ASSERT_TRUE(taken) << taken.error().message;
      left = left.subspan(*taken);
      if (*taken == 0) std::this_thread::yield();
    }
    while (!*(*client)->flush()) std::this_thread::yield();
  });
  Bytes got(sent.size());
  size_t done = 0;
  while (done < got.size()) {
    const auto more = (*server)->read(std::span(got).subspan(done), {});
    ASSERT_TRUE(more) << more.error().message;
    done += *more;
    if (*more == 0) std::this_thread::yield();
  }
  sender.join();
  EXPECT_EQ(got, sent);
}

}  // namespace
}  // namespace shoal
