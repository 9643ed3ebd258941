#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linked.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

// A socket that listens on loopback; port 0 when the family is not there.
struct Listener {
  UniqueFd socket;
  uint16_t port = 0;
};

Listener listen_on(int family) {
  Listener listener{UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)), 0};
  sockaddr_in6 address{};
  socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  any->sa_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    reinterpret_cast<sockaddr_in*>(any)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else {
    address.sin6_addr = in6addr_loopback;
  }
  if (::bind(listener.socket.get(), any, size) != 0) return listener;
  EXPECT_EQ(::listen(listener.socket.get(), 4), 0);
  EXPECT_EQ(::getsockname(listener.socket.get(), any, &size), 0);
  listener.port = ntohs(address.sin6_port);
  return listener;
}

TEST(DialTcp, NumbersAndNames) {
  const Listener listener = listen_on(AF_INET);
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const auto socket = dial_tcp(fmt::format("{}:{}", host, listener.port), in_seconds(20));
    EXPECT_TRUE(socket) << socket.error().message;
  }
}

TEST(DialTcp, Ipv6InBrackets) {
  const Listener listener = listen_on(AF_INET6);
  if (listener.port == 0) GTEST_SKIP() << "no IPv6 on this machine";
  const auto socket = dial_tcp(fmt::format("[::1]:{}", listener.port), in_seconds(20));
  EXPECT_TRUE(socket) << socket.error().message;
}

TEST(DialTcp, ARefusalNamesTheAddress) {
  uint16_t port = 0;
  {
    port = listen_on(AF_INET).port;
  }
  const std::string address = fmt::format("127.0.0.1:{}", port);
  const auto socket = dial_tcp(address, in_seconds(20));
  ASSERT_FALSE(socket);
  EXPECT_EQ(socket.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(socket.error().message, HasSubstr(address));
}

TEST(DialTcp, WhatIsNoAddressIsSaidSo) {
  for (const char* text : {"", ":", "host", "host:", ":80", "host:0", "host:65536", "host:8x",
                           "::1:80", "[]:80", "host:-1"}) {
    const auto socket = dial_tcp(text, in_seconds(20));
    ASSERT_FALSE(socket) << text;
    EXPECT_EQ(socket.error().code, ErrorCode::kInvalidArgument) << text;
    EXPECT_THAT(socket.error().message, HasSubstr("host:port"));
  }
}

TEST(DialTcp, AnUnknownNameIsUnreachable) {
  const auto socket = dial_tcp("no-such-host.invalid:80", in_seconds(20));
  ASSERT_FALSE(socket);
  EXPECT_THAT(socket.error().message, HasSubstr("no-such-host.invalid"));
}

TEST(Preamble, ComesBackAsItWent) {
  LinkPreamble preamble;
  for (size_t i = 0; i < 16; ++i) preamble.instance[i] = static_cast<std::byte>(i * 17);
  preamble.generation = 0x0123456789abcdef;
  preamble.from_rank = 513;
  preamble.to_rank = 2;
  const auto bytes = encode(preamble);
  EXPECT_EQ(as_text(bytes).substr(0, 8), "SHOALDL2");
  const auto back = decode_preamble(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->instance, preamble.instance);
  EXPECT_EQ(back->generation, preamble.generation);
  EXPECT_EQ(back->from_rank, 513);
  EXPECT_EQ(back->to_rank, 2);
}

TEST(Preamble, OtherBytesAreCorrupt) {
  const auto good =
      encode(LinkPreamble{.instance = {}, .generation = 1, .from_rank = 0, .to_rank = 1});
  ASSERT_TRUE(decode_preamble(good));
  EXPECT_EQ(decode_preamble(std::span(good).first(63)).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(decode_preamble({}).error().code, ErrorCode::kCorrupt);
  for (const size_t at : {0, 7, 36, 63}) {
    auto bad = good;
    bad[at] ^= std::byte{1};
    EXPECT_FALSE(decode_preamble(bad)) << at;
  }
  auto older = good;
  older[7] = std::byte{'1'};
  const auto refused = decode_preamble(older);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("version 1 of Shoal's link protocol"));
  EXPECT_THAT(refused.error().message, HasSubstr("this node speaks version 2"));
  const auto self =
      encode(LinkPreamble{.instance = {}, .generation = 1, .from_rank = 1, .to_rank = 1});
  EXPECT_FALSE(decode_preamble(self));
}

}  // namespace
}  // namespace shoal
