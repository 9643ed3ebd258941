#include "collectives/packing.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"
#include "collectives/packed_numbers.h"

namespace shoal {
namespace {

constexpr float kLargestCode = 127;
// Below it the reciprocal of a scale is not finite; numbers so small are zero in int8.
constexpr float kSmallestScale = 0x1p-126f;
// Added and subtracted, it rounds what is within 2^22 to an integer, ties to even.
constexpr float kRounder = 0x1.8p23f;
constexpr uint32_t kInfinityBits = 0x7F800000;

void pack_bf16(const float* values, size_t count, std::byte* packed) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t half = to_bf16(values[i]);
    std::memcpy(packed + i * sizeof half, &half, sizeof half);
  }
}

uint32_t largest_magnitude_bits(const float* values, size_t count) {
  int32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<int32_t>(values[i]) & 0x7FFFFFFF);
  }
  return static_cast<uint32_t>(largest);
}

// Infinities times an infinite scale stay, everything else times it is NaN, as is all of a block
// that holds a NaN.
void pack_not_finite(const float* values, size_t count, uint32_t largest_bits, std::byte* block) {
  const uint16_t scale = to_bf16(std::bit_cast<float>(largest_bits));
  std::memcpy(block, &scale, kScaleBytes);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    const int8_t sign = bits >> 31 != 0 ? -1 : 1;
    const int8_t code = (bits & 0x7FFFFFFF) == kInfinityBits ? sign : int8_t{0};
    block[kScaleBytes + i] = static_cast<std::byte>(code);
  }
}

inline void pack_codes(const float* values, size_t count, float reciprocal, std::byte* codes) {
  for (size_t i = 0; i < count; ++i) {
    const float code = values[i] * reciprocal + kRounder - kRounder;
    codes[i] = static_cast<std::byte>(static_cast<int8_t>(static_cast<int32_t>(code)));
  }
}

inline void pack_int8_block(const float* values, size_t count, std::byte* block) {
  const uint32_t largest_bits = largest_magnitude_bits(values, count);
  if (largest_bits >= kInfinityBits) return pack_not_finite(values, count, largest_bits, block);
  const uint16_t half = to_bf16(std::bit_cast<float>(largest_bits) / kLargestCode);
  const float scale = from_bf16(half);
  if (scale < kSmallestScale) {
    std::memset(block, 0, kScaleBytes + count);
    return;
  }
  std::memcpy(block, &half, kScaleBytes);
  // The scale is rounded by at most 2^-8 of it, so that codes stay within 127.5.
  pack_codes(values, count, 1 / scale, block + kScaleBytes);
}

void pack_int8(const float* values, size_t count, std::byte* packed) {
  for (; count >= kPayloadBlock; count -= kPayloadBlock) {
    pack_int8_block(values, kPayloadBlock, packed);
    values += kPayloadBlock;
    packed += PackedBlock<Payload::kInt8>::kBytes;
  }
  if (count > 0) pack_int8_block(values, count, packed);
}

template <Payload P>
void unpack_all(const std::byte* packed, std::span<float> values) {
  for_blocks<P>(values.size(), [&](size_t offset, size_t begin, auto count) {
    const PackedBlock<P> block(packed + offset);
    float* const to = values.data() + begin;
    for (size_t i = 0; i < count; ++i) to[i] = with_one_nan(block[i]);
  });
}

}  // namespace

size_t packed_bytes(Payload payload, size_t count) {
  switch (payload) {
    case Payload::kF32:
      return count * sizeof(float);
    case Payload::kBf16:
      return count * sizeof(uint16_t);
    case Payload::kInt8:
      return count + (count + kPayloadBlock - 1) / kPayloadBlock * kScaleBytes;
  }
  return 0;
}

void pack(Payload payload, std::span<const float> values, std::span<std::byte> packed) {
  SHOAL_CHECK(packed.size() == packed_bytes(payload, values.size()));
  switch (payload) {
    case Payload::kF32:
      std::ranges::copy(std::as_bytes(values), packed.begin());
      return;
    case Payload::kBf16:
      return pack_bf16(values.data(), values.size(), packed.data());
    case Payload::kInt8:
      return pack_int8(values.data(), values.size(), packed.data());
  }
}

void unpack(Payload payload, std::span<const std::byte> packed, std::span<float> values) {
  SHOAL_CHECK(packed.size() == packed_bytes(payload, values.size()));
  switch (payload) {
    case Payload::kF32:
      std::ranges::copy(packed, std::as_writable_bytes(values).begin());
      return;
    case Payload::kBf16:
      return unpack_all<Payload::kBf16>(packed.data(), values);
    case Payload::kInt8:
      return unpack_all<Payload::kInt8>(packed.data(), values);
  }
}

}  // namespace shoal
