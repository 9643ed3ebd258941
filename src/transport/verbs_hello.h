// What two ends of an RDMA link tell each other: the hello, once, inside the control link, and the
// header of every piece. Pure; any thread. Private to this module and its tests.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "transport/verbs_link.h"

namespace shoal {

struct VerbsHello {
  bool able = false;  // this end has a queue pair; else nothing below counts
  QueuePairKind kind = QueuePairKind::kReliable;
  uint8_t path_mtu = 0;  // 1 to 5: 256, 512, 1024, 2048, 4096 bytes (enum ibv_mtu)
  uint16_t lid = 0;
  uint16_t receives = 0;  // slabs that wait for the peer's pieces
  uint32_t queue_pair = 0;
  uint32_t packet_number = 0;  // of the first packet this end sends
  uint32_t slab_bytes = 0;
  std::array<std::byte, 16> gid{};
};
inline constexpr size_t kVerbsHelloBytes = 64;
inline constexpr std::string_view kVerbsHelloMagic = "SHOALRD2";
inline constexpr std::string_view kVerbsReady = "SHOALRDY";  // this end can receive now

std::array<std::byte, kVerbsHelloBytes> encode(const VerbsHello& hello);
// kCorrupt: no hello, or a number that no card can mean.
Result<VerbsHello> decode_verbs_hello(std::span<const std::byte> bytes);

enum class PieceKind : uint16_t {
  kFrame = 1,  // the next bytes of a frame
  kGrant = 2,  // nothing but the header
};
struct PieceHeader {
  PieceKind kind = PieceKind::kFrame;
  uint32_t sequence = 0;     // counts pieces of both kinds from 0, modulo 2^32
  uint32_t granted = 0;      // receives posted since the start by who sends this, modulo 2^32
  uint32_t frame_bytes = 0;  // of the whole frame, the same in all its pieces; 0 in a grant
};
inline constexpr size_t kPieceHeaderBytes = 16;
void encode(const PieceHeader& header, std::span<std::byte, kPieceHeaderBytes> bytes);
Result<PieceHeader> decode_piece_header(std::span<const std::byte, kPieceHeaderBytes> bytes);

}  // namespace shoal
