#include "transport/verbs_hello.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"

namespace shoal {
namespace {

constexpr uint32_t kLimit24 = 1 << 24;  // queue pair and packet numbers have 24 bits
constexpr uint8_t kLargestMtu = 5;

class Writer {
 public:
  explicit Writer(std::span<std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_[at_++] = static_cast<std::byte>(value >> (8 * i));
  }
  void put(std::span<const std::byte> bytes) {
    std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ += bytes.size();
  }

 private:
  std::span<std::byte> bytes_;
  size_t at_ = 0;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  T get() {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value =
          static_cast<T>(value | static_cast<T>(std::to_integer<T>(bytes_[at_ + i]) << (8 * i)));
    }
    at_ += sizeof(T);
    return value;
  }
  std::span<const std::byte> get_bytes(size_t count) {
    at_ += count;
    return bytes_.subspan(at_ - count, count);
  }
  std::span<const std::byte> rest() const { return bytes_.subspan(at_); }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

Status check_numbers(const VerbsHello& hello, uint8_t kind) {
  const auto wrong = [](std::string_view what, uint64_t value) {
    return fail(ErrorCode::kCorrupt, "an RDMA hello gives {} as {}", value, what);
  };
  if (kind != 1 && kind != 2) return wrong("the kind of queue pair", kind);
  if (hello.path_mtu < 1 || hello.path_mtu > kLargestMtu) return wrong("the MTU", hello.path_mtu);
  // 0 and 1 are the fabric's own queue pairs.
  if (hello.queue_pair < 2 || hello.queue_pair >= kLimit24)
    return wrong("the queue pair's number", hello.queue_pair);
  if (hello.packet_number >= kLimit24) return wrong("the packet number", hello.packet_number);
  if (hello.receives < VerbsOptions::kFewestSlabs || hello.receives > VerbsOptions::kMostSlabs)
    return wrong("the number of slabs", hello.receives);
  if (hello.slab_bytes < VerbsOptions::kSmallestSlab ||
      hello.slab_bytes > VerbsOptions::kLargestSlab)
    return wrong("the size of a slab", hello.slab_bytes);
  if (all_zero(hello.gid)) return fail(ErrorCode::kCorrupt, "an RDMA hello gives no address (GID)");
  return {};
}

}  // namespace

std::array<std::byte, kVerbsHelloBytes> encode(const VerbsHello& hello) {
  std::array<std::byte, kVerbsHelloBytes> bytes{};
  Writer writer(bytes);
  writer.put(as_bytes(kVerbsHelloMagic));
  if (!hello.able) return bytes;
  writer.put<uint8_t>(1);
  writer.put(std::to_underlying(hello.kind));
  writer.put(hello.path_mtu);
  writer.put<uint8_t>(0);
  writer.put(hello.lid);
  writer.put(hello.receives);
  writer.put(hello.queue_pair);
  writer.put(hello.packet_number);
  writer.put(hello.slab_bytes);
  writer.put(std::span<const std::byte>(hello.gid));
  return bytes;
}

Result<VerbsHello> decode_verbs_hello(std::span<const std::byte> bytes) {
  if (bytes.size() != kVerbsHelloBytes) {
    return fail(ErrorCode::kCorrupt, "an RDMA hello has {} bytes, not {}", kVerbsHelloBytes,
                bytes.size());
  }
  Reader reader(bytes);
  if (as_text(reader.get_bytes(kVerbsHelloMagic.size())) != kVerbsHelloMagic) {
    return fail(ErrorCode::kCorrupt,
                "no RDMA hello where one was due: the other end was not asked for an RDMA link, or "
                "is of another version");
  }
  VerbsHello hello;
  const auto able = reader.get<uint8_t>();
  if (able > 1) return fail(ErrorCode::kCorrupt, "an RDMA hello is of state {}", able);
  hello.able = able == 1;
  if (!hello.able) {
    if (all_zero(reader.rest())) return hello;
    return fail(ErrorCode::kCorrupt, "an RDMA hello says no and goes on: another version?");
  }
  const auto kind = reader.get<uint8_t>();
  hello.kind = static_cast<QueuePairKind>(kind);
  hello.path_mtu = reader.get<uint8_t>();
  const auto zero = reader.get<uint8_t>();
  hello.lid = reader.get<uint16_t>();
  hello.receives = reader.get<uint16_t>();
  hello.queue_pair = reader.get<uint32_t>();
  hello.packet_number = reader.get<uint32_t>();
  hello.slab_bytes = reader.get<uint32_t>();
  std::ranges::copy(reader.get_bytes(hello.gid.size()), hello.gid.begin());
  if (zero != 0 || !all_zero(reader.rest())) {
    return fail(ErrorCode::kCorrupt, "an RDMA hello does not end with zeros: another version?");
  }
  SHOAL_TRY(check_numbers(hello, kind));
  return hello;
}

void encode(const PieceHeader& header, std::span<std::byte, kPieceHeaderBytes> bytes) {
  Writer writer(bytes);
  writer.put(std::to_underlying(header.kind));
  writer.put<uint16_t>(0);
  writer.put(header.sequence);
  writer.put(header.granted);
  writer.put(header.frame_bytes);
}

Result<PieceHeader> decode_piece_header(std::span<const std::byte, kPieceHeaderBytes> bytes) {
  Reader reader(bytes);
  const auto kind = reader.get<uint16_t>();
  const auto zero = reader.get<uint16_t>();
  PieceHeader header{static_cast<PieceKind>(kind), reader.get<uint32_t>(), reader.get<uint32_t>(),
                     reader.get<uint32_t>()};
  if ((kind != 1 && kind != 2) || zero != 0) {
    return fail(ErrorCode::kCorrupt, "a piece of kind {} arrived over RDMA", kind);
  }
  if (header.kind == PieceKind::kGrant && header.frame_bytes != 0) {
    return fail(ErrorCode::kCorrupt, "a grant over RDMA announces a frame of {} bytes",
                header.frame_bytes);
  }
  return header;
}

}  // namespace shoal
