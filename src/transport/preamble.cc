#include <algorithm>

#include "transport/link.h"

namespace shoal {
namespace {

constexpr size_t kVersionAt = kPreambleMagic.size();
constexpr size_t kInstanceAt = kVersionAt + 1;
constexpr size_t kGenerationAt = kInstanceAt + 16;
constexpr size_t kFromAt = kGenerationAt + 8;
constexpr size_t kToAt = kFromAt + 2;
constexpr size_t kEnd = kToAt + 2;
static_assert(kEnd <= kPreambleBytes);

constexpr std::byte kVersion{'0' + kWireVersion};

template <typename T>
void put(std::span<std::byte> to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::byte>(value >> (8 * i));
}

template <typename T>
T get(std::span<const std::byte> from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(from[i]) << (8 * i)));
  }
  return value;
}

}  // namespace

std::array<std::byte, kPreambleBytes> encode(const LinkPreamble& preamble) {
  std::array<std::byte, kPreambleBytes> bytes{};
  const std::span all(bytes);
  std::ranges::copy(as_bytes(kPreambleMagic), bytes.begin());
  bytes[kVersionAt] = kVersion;
  std::ranges::copy(preamble.instance, bytes.begin() + kInstanceAt);
  put(all.subspan(kGenerationAt), preamble.generation);
  put(all.subspan(kFromAt), preamble.from_rank);
  put(all.subspan(kToAt), preamble.to_rank);
  return bytes;
}

Result<LinkPreamble> decode_preamble(std::span<const std::byte> bytes) {
  if (bytes.size() != kPreambleBytes) {
    return fail(ErrorCode::kCorrupt, "a link preamble has {} bytes, not {}", kPreambleBytes,
                bytes.size());
  }
  if (as_text(bytes.first(kVersionAt)) != kPreambleMagic) {
    return fail(ErrorCode::kCorrupt, "a connection opens with neither TLS nor a link preamble");
  }
  if (bytes[kVersionAt] != kVersion) {
    return fail(ErrorCode::kUnsupported,
                "a worker dialled with version {} of Shoal's link protocol and this node speaks "
                "version {}; run the same Shoal on both machines",
                to_integer<int>(bytes[kVersionAt]) - '0', kWireVersion);
  }
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  if (!std::ranges::all_of(bytes.subspan(kEnd), is_zero)) {
    return fail(ErrorCode::kCorrupt, "a link preamble does not end with zeros: another version?");
  }
  LinkPreamble preamble;
  std::ranges::copy(bytes.subspan(kInstanceAt, 16), preamble.instance.begin());
  preamble.generation = get<uint64_t>(bytes.subspan(kGenerationAt));
  preamble.from_rank = get<uint16_t>(bytes.subspan(kFromAt));
  preamble.to_rank = get<uint16_t>(bytes.subspan(kToAt));
  if (preamble.from_rank == preamble.to_rank) {
    return fail(ErrorCode::kCorrupt, "a link preamble joins rank {} to itself", preamble.to_rank);
  }
  return preamble;
}

}  // namespace shoal
