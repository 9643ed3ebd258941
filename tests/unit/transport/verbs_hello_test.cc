#include "transport/verbs_hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/bytes.h"

namespace shoal {
namespace {

VerbsHello some_hello() {
  VerbsHello hello{.able = true,
                   .kind = QueuePairKind::kUnreliable,
                   .path_mtu = 3,
                   .lid = 0x1234,
                   .receives = 8,
                   .queue_pair = 0x00abcdef,
                   .packet_number = 0x00fedcba,
                   .slab_bytes = 65536,
                   .gid = {}};
  for (size_t i = 0; i < hello.gid.size(); ++i) hello.gid[i] = static_cast<std::byte>(i);
  return hello;
}

// The page of the format, byte by byte.
TEST(VerbsHello, TheBytesAreThoseOfTheFormat) {
  const auto bytes = encode(some_hello());
  EXPECT_EQ(as_text(bytes).substr(0, 8), "SHOALRD2");
  EXPECT_EQ(to_hex(std::span(bytes).subspan(8)),
            "01020300"
            "34120800"
            "efcdab00"
            "badcfe00"
            "00000100"
            "000102030405060708090a0b0c0d0e0f"
            "0000000000000000000000000000000000000000");
}

TEST(VerbsHello, ComesBackAsItWent) {
  const VerbsHello hello = some_hello();
  const auto back = decode_verbs_hello(encode(hello));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_TRUE(back->able);
  EXPECT_EQ(back->kind, hello.kind);
  EXPECT_EQ(back->path_mtu, hello.path_mtu);
  EXPECT_EQ(back->lid, hello.lid);
  EXPECT_EQ(back->receives, hello.receives);
  EXPECT_EQ(back->queue_pair, hello.queue_pair);
  EXPECT_EQ(back->packet_number, hello.packet_number);
  EXPECT_EQ(back->slab_bytes, hello.slab_bytes);
  EXPECT_EQ(back->gid, hello.gid);
  const auto unable = decode_verbs_hello(encode(VerbsHello{}));
  ASSERT_TRUE(unable);
  EXPECT_FALSE(unable->able);
  auto talkative = encode(VerbsHello{});
  talkative.back() = std::byte{1};
  EXPECT_FALSE(decode_verbs_hello(talkative));
}

TEST(VerbsHello, NumbersThatNoCardCanMeanAreCorrupt) {
  const std::vector<void (*)(VerbsHello&)> spoils = {
      [](VerbsHello& h) { h.kind = static_cast<QueuePairKind>(3); },
      [](VerbsHello& h) { h.path_mtu = 0; },
      [](VerbsHello& h) { h.path_mtu = 6; },
      [](VerbsHello& h) { h.receives = 3; },
      [](VerbsHello& h) { h.receives = 17; },
      [](VerbsHello& h) { h.queue_pair = 1; },
      [](VerbsHello& h) { h.queue_pair = 1 << 24; },
      [](VerbsHello& h) { h.packet_number = 1 << 24; },
      [](VerbsHello& h) { h.slab_bytes = 1023; },
      [](VerbsHello& h) { h.slab_bytes = 0xffffffff; },
      [](VerbsHello& h) { h.gid = {}; },
  };
  for (size_t i = 0; i < spoils.size(); ++i) {
    VerbsHello hello = some_hello();
    spoils[i](hello);
    const auto decoded = decode_verbs_hello(encode(hello));
    ASSERT_FALSE(decoded) << i;
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt) << i;
  }
}

TEST(VerbsHello, OtherBytesAreCorrupt) {
  const auto good = encode(some_hello());
  EXPECT_FALSE(decode_verbs_hello(std::span(good).first(63)));
  EXPECT_FALSE(decode_verbs_hello({}));
  for (const size_t at : {0, 7, 8, 11, 44, 63}) {
    auto bad = good;
    bad[at] ^= std::byte{0x40};
    EXPECT_FALSE(decode_verbs_hello(bad)) << at;
  }
}

TEST(PieceHeaders, TheBytesAreThoseOfTheFormat) {
  std::array<std::byte, kPieceHeaderBytes> bytes{};
  encode(PieceHeader{PieceKind::kFrame, 0x01020304, 0xfffffffe, 0x3fffffff}, bytes);
  EXPECT_EQ(to_hex(bytes),
            "01000000"
            "04030201"
            "feffffff"
            "ffffff3f");
  const auto back = decode_piece_header(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->sequence, 0x01020304u);
  EXPECT_EQ(back->granted, 0xfffffffeu);
  EXPECT_EQ(back->frame_bytes, 0x3fffffffu);
}

TEST(PieceHeaders, OtherKindsAreCorrupt) {
  std::array<std::byte, kPieceHeaderBytes> bytes{};
  EXPECT_FALSE(decode_piece_header(bytes));
  encode(PieceHeader{PieceKind::kGrant, 1, 2, 0}, bytes);
  EXPECT_TRUE(decode_piece_header(bytes));
  bytes[12] = std::byte{1};  // a grant announces no frame
  EXPECT_FALSE(decode_piece_header(bytes));
  bytes[12] = std::byte{0};
  bytes[2] = std::byte{1};
  EXPECT_FALSE(decode_piece_header(bytes));
}

}  // namespace
}  // namespace shoal
