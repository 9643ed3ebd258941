// Blocks of 32 numbers as payloads hold them, read one number at a time by loops that the compiler
// turns into vectors. Private to this module; pure.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "collectives/packing.h"

namespace shoal {

inline uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40;  // rounding might make an infinity of a NaN
  return static_cast<uint16_t>(value == value ? rounded : quiet);
}

inline float from_bf16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

// One NaN for all: which one an operation makes differs between instruction sets.
inline float with_one_nan(float value) {
  return value == value ? value : std::numeric_limits<float>::quiet_NaN();
}

inline constexpr size_t kScaleBytes = 2;

template <Payload P>
class PackedBlock;

template <>
class PackedBlock<Payload::kF32> {
 public:
  static constexpr size_t kBytes = kPayloadBlock * sizeof(float);
  explicit PackedBlock(const std::byte* at) : at_(at) {}
  float operator[](size_t i) const {
    float value;
    std::memcpy(&value, at_ + i * sizeof value, sizeof value);
    return value;
  }

 private:
  const std::byte* at_;
};

template <>
class PackedBlock<Payload::kBf16> {
 public:
  static constexpr size_t kBytes = kPayloadBlock * sizeof(uint16_t);
  explicit PackedBlock(const std::byte* at) : at_(at) {}
  float operator[](size_t i) const {
    uint16_t half;
    std::memcpy(&half, at_ + i * sizeof half, sizeof half);
    return from_bf16(half);
  }

 private:
  const std::byte* at_;
};

template <>
class PackedBlock<Payload::kInt8> {
 public:
  static constexpr size_t kBytes = kScaleBytes + kPayloadBlock;
  explicit PackedBlock(const std::byte* at) : codes_(at + kScaleBytes) {
    uint16_t half;
    std::memcpy(&half, at, sizeof half);
    scale_ = from_bf16(half);
  }
  float operator[](size_t i) const {
    return static_cast<float>(static_cast<int8_t>(codes_[i])) * scale_;
  }

 private:
  const std::byte* codes_;
  float scale_;
};

// body(offset of the block's bytes, index of its first number, how many) for `count` numbers; the
// length of all but the last is a constant where body is inlined.
template <Payload P, typename Body>
void for_blocks(size_t count, const Body& body) {
  size_t first = 0;
  size_t offset = 0;
  for (; first + kPayloadBlock <= count; first += kPayloadBlock, offset += PackedBlock<P>::kBytes) {
    body(offset, first, std::integral_constant<size_t, kPayloadBlock>());
  }
  if (first < count) body(offset, first, count - first);
}

}  // namespace shoal
