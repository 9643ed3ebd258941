// The code of PayloadLoops, for the files that compile it, each for its instruction set. Everything
// is private to the including file, and nothing of the standard library is called that the linker
// might take from there for another. Plain loops that the compiler turns into vectors: the length
// of a block is a constant in all but the last.
#pragma once

#include <cstdint>
#include <cstring>

#include "collectives/packing.h"
#include "collectives/payload_loops.h"

namespace shoal {
namespace {

constexpr size_t kScaleBytes = 2;
constexpr float kLargestCode = 127;
// Below it the reciprocal of a scale is not finite; numbers so small are zero in int8.
constexpr float kSmallestScale = 0x1p-126f;
// Added and subtracted, it rounds what is within 2^22 to an integer, ties to even.
constexpr float kRounder = 0x1.8p23f;
constexpr uint32_t kInfinityBits = 0x7F800000;
constexpr uint32_t kMagnitudeBits = 0x7FFFFFFF;

inline uint32_t bits_of(float value) {
  return __builtin_bit_cast(uint32_t, value);
}

inline float float_of(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}

inline uint16_t to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40;  // rounding might make an infinity of a NaN
  return static_cast<uint16_t>(value == value ? rounded : quiet);
}

inline float from_bf16(uint16_t half) {
  return float_of(static_cast<uint32_t>(half) << 16);
}

// One NaN for all: which one an operation makes differs between instruction sets.
inline float with_one_nan(float value) {
  return value == value ? value : __builtin_nanf("");
}

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

struct WholeBlock {
  constexpr operator size_t() const { return kPayloadBlock; }
};

// body(offset of the block's bytes, index of its first number, how many) for `count` numbers.
template <Payload P, typename Body>
inline void for_blocks(size_t count, const Body& body) {
  size_t first = 0;
  size_t offset = 0;
  for (; first + kPayloadBlock <= count; first += kPayloadBlock, offset += PackedBlock<P>::kBytes) {
    body(offset, first, WholeBlock());
  }
  if (first < count) body(offset, first, count - first);
}

// --- packing ---

void pack_bf16(const float* values, size_t count, std::byte* packed) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t half = to_bf16(values[i]);
    std::memcpy(packed + i * sizeof half, &half, sizeof half);
  }
}

// Infinities times an infinite scale stay, everything else times it is NaN, as is all of a block
// that holds a NaN.
void pack_not_finite(const float* values, size_t count, uint32_t largest_bits, std::byte* block) {
  const uint16_t scale = to_bf16(float_of(largest_bits));
  std::memcpy(block, &scale, kScaleBytes);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = bits_of(values[i]);
    const int8_t sign = bits >> 31 != 0 ? -1 : 1;
    const int8_t code = (bits & kMagnitudeBits) == kInfinityBits ? sign : int8_t{0};
    block[kScaleBytes + i] = static_cast<std::byte>(code);
  }
}

template <typename Count>
inline void pack_int8_block(const float* values, Count count, std::byte* block) {
  int32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<int32_t>(bits_of(values[i]) & kMagnitudeBits);
    largest = largest > magnitude ? largest : magnitude;
  }
  const auto largest_bits = static_cast<uint32_t>(largest);
  if (largest_bits >= kInfinityBits) return pack_not_finite(values, count, largest_bits, block);
  const uint16_t half = to_bf16(float_of(largest_bits) / kLargestCode);
  const float scale = from_bf16(half);
  std::memcpy(block, &half, kScaleBytes);
  if (scale < kSmallestScale) {
    std::memset(block, 0, kScaleBytes + count);
    return;
  }
  // The scale is rounded by at most 2^-8 of it, so that codes stay within 127.5.
  const float reciprocal = 1 / scale;
  std::byte* const codes = block + kScaleBytes;
  for (size_t i = 0; i < count; ++i) {
    const float code = values[i] * reciprocal + kRounder - kRounder;
    codes[i] = static_cast<std::byte>(static_cast<int8_t>(static_cast<int32_t>(code)));
  }
}

void pack_any(Payload payload, const float* values, size_t count, std::byte* packed) {
  switch (payload) {
    case Payload::kF32:
      if (count > 0) std::memcpy(packed, values, count * sizeof(float));
      return;
    case Payload::kBf16:
      return pack_bf16(values, count, packed);
    case Payload::kInt8:
      for_blocks<Payload::kInt8>(count, [=](size_t offset, size_t begin, auto length) {
        pack_int8_block(values + begin, length, packed + offset);
      });
  }
}

template <Payload P>
void unpack_all(const std::byte* packed, size_t count, float* values) {
  for_blocks<P>(count, [=](size_t offset, size_t begin, auto length) {
    const PackedBlock<P> block(packed + offset);
    for (size_t i = 0; i < length; ++i) values[begin + i] = with_one_nan(block[i]);
  });
}

void unpack_any(Payload payload, const std::byte* packed, size_t count, float* values) {
  switch (payload) {
    case Payload::kF32:
      if (count > 0) std::memcpy(values, packed, count * sizeof(float));
      return;
    case Payload::kBf16:
      return unpack_all<Payload::kBf16>(packed, count, values);
    case Payload::kInt8:
      return unpack_all<Payload::kInt8>(packed, count, values);
  }
}

// --- sums ---

// The commonest. Not straight to `out`, which may be a part: the compiler would make no vectors.
template <Payload P>
void sum_two(const std::byte* first, const std::byte* second, float* out, size_t count) {
  for_blocks<P>(count, [=](size_t offset, size_t begin, auto length) {
    const PackedBlock<P> a(first + offset);
    const PackedBlock<P> b(second + offset);
    float sum[kPayloadBlock];
    for (size_t i = 0; i < length; ++i) sum[i] = with_one_nan(a[i] + b[i]);
    std::memcpy(out + begin, sum, length * sizeof(float));
  });
}

template <Payload P>
void sum_all(const std::byte* const* parts, size_t part_count, float* out, size_t count) {
  if (part_count == 2) return sum_two<P>(parts[0], parts[1], out, count);
  for_blocks<P>(count, [=](size_t offset, size_t begin, auto length) {
    float sum[kPayloadBlock];
    const PackedBlock<P> first(parts[0] + offset);
    for (size_t i = 0; i < length; ++i) sum[i] = first[i];
    for (size_t part = 1; part < part_count; ++part) {
      const PackedBlock<P> next(parts[part] + offset);
      for (size_t i = 0; i < length; ++i) sum[i] += next[i];
    }
    for (size_t i = 0; i < length; ++i) out[begin + i] = with_one_nan(sum[i]);
  });
}

void sum_any(Payload payload, const std::byte* const* parts, size_t part_count, float* out,
             size_t count) {
  switch (payload) {
    case Payload::kF32:
      return sum_all<Payload::kF32>(parts, part_count, out, count);
    case Payload::kBf16:
      return sum_all<Payload::kBf16>(parts, part_count, out, count);
    case Payload::kInt8:
      return sum_all<Payload::kInt8>(parts, part_count, out, count);
  }
}

}  // namespace
}  // namespace shoal
