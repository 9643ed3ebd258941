#include "random_weights.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "base/bytes.h"

namespace shoal::kernels_test {
namespace {

uint16_t random_scale(Random& random, Scales scales) {
  const auto low = static_cast<uint16_t>(random.bits() & 0x3ff);
  const auto sign = static_cast<uint16_t>(random.bits() & 0x8000);
  switch (scales) {
    case Scales::kZero:
      return sign;
    case Scales::kSubnormal:
      return sign | low;
    case Scales::kHuge:
      return sign | 0x7800 | low;  // up to 65504
    case Scales::kUsual:
      break;
  }
  return static_cast<uint16_t>(sign | (5 + random.below(8)) << 10 | low);  // 2^-10 to 2^-3
}

// Of MXFP4: d = 2^(byte - 128).
std::byte random_exponent(Random& random, Scales scales) {
  const auto some = static_cast<int>(random.below(8));
  switch (scales) {
    case Scales::kZero:
      return std::byte{0};
    case Scales::kSubnormal:
      return static_cast<std::byte>(some % 2);
    case Scales::kHuge:
      return static_cast<std::byte>(128 + 8 + some);
    case Scales::kUsual:
      break;
  }
  return static_cast<std::byte>(128 - 10 + some);
}

uint16_t u16_at(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}
double half_at(const uint8_t* bytes) {
  return half_value(u16_at(bytes));
}

Element affine(double scaled, double offset) {
  return {scaled + offset, std::fabs(scaled) + std::fabs(offset)};
}

// Six-bit numbers 0..15 of a Q4_K block: scales 0..7, then mins 0..7. Numbers j < 4 of each kind
// are the low six bits of a byte; the others have their low nibbles in the last four bytes and
// their two high bits on top of the first eight.
int six_bits(const uint8_t* packed, bool minimum, int j) {
  const int base = minimum ? 4 : 0;
  if (j < 4) return packed[base + j] % 64;
  const int nibble = minimum ? packed[4 + j] / 16 : packed[4 + j] % 16;
  return nibble + packed[base + j - 4] / 64 * 16;
}

Element q4_k(const uint8_t* block, int i) {
  const int sub = i / 32, pair = i / 64;
  const int byte = block[16 + 32 * pair + i % 32];
  const int q = sub % 2 == 0 ? byte % 16 : byte / 16;
  return affine(half_at(block) * six_bits(block + 4, false, sub) * q,
                -half_at(block + 2) * six_bits(block + 4, true, sub));
}

Element q6_k(const uint8_t* block, int i) {
  const int half = i / 128, in_half = i % 128, run = in_half / 32;
  const int low_byte = block[64 * half + in_half % 64];
  const int low = in_half < 64 ? low_byte % 16 : low_byte / 16;
  const int high = block[128 + 32 * half + i % 32] >> (2 * run) & 3;
  const int scale = static_cast<int8_t>(block[192 + i / 16]);
  return affine(half_at(block + 208) * scale * (low + 16 * high - 32), 0);
}

int bit_of(const uint8_t* bytes, int index) {
  return bytes[index / 8] >> (index % 8) & 1;
}
int nibble_of(const uint8_t* bytes, int i) {  // of 32: the first 16 low, the last 16 high
  return i < 16 ? bytes[i] % 16 : bytes[i - 16] / 16;
}
// Two bits of an element of 256: four runs of 32 in each 32 bytes.
int pair_of(const uint8_t* bytes, int i) {
  return bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

constexpr int kIq4[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// The 4-bit floats: sign, two bits of exponent, one of mantissa.
double fp4(int code) {
  const int exponent = code / 2 % 4, mantissa = code % 2;
  const double magnitude = exponent == 0 ? mantissa * 0.5 : std::ldexp(2 + mantissa, exponent - 2);
  return code < 8 ? magnitude : -magnitude;
}

Element q2_k(const uint8_t* block, int i) {
  const int both = block[i / 16];
  return affine(half_at(block + 80) * (both % 16) * pair_of(block + 16, i),
                -half_at(block + 82) * (both / 16));
}

Element q3_k(const uint8_t* block, int i) {
  const uint8_t* packed = block + 96;
  const int j = i / 16;
  const int low = j < 8 ? packed[j] % 16 : packed[j - 8] / 16;
  const int high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
  const int third = block[i % 32] >> (i / 32) & 1;
  return affine(
      half_at(block + 108) * (low + 16 * high - 32) * (pair_of(block + 32, i) + 4 * third - 4), 0);
}

Element q5_k(const uint8_t* block, int i) {
  const int sub = i / 32;
  const int byte = block[48 + 32 * (i / 64) + i % 32];
  const int q = (sub % 2 == 0 ? byte % 16 : byte / 16) + 16 * (block[16 + i % 32] >> sub & 1);
  return affine(half_at(block) * six_bits(block + 4, false, sub) * q,
                -half_at(block + 2) * six_bits(block + 4, true, sub));
}

Element iq4_xs(const uint8_t* block, int i) {
  const int sub = i / 32;
  const int low = sub % 2 == 0 ? block[4 + sub / 2] % 16 : block[4 + sub / 2] / 16;
  const int scale = low + 16 * (bit_of(block + 2, 2 * sub) + 2 * bit_of(block + 2, 2 * sub + 1));
  return affine(half_at(block) * (scale - 32) * kIq4[nibble_of(block + 8 + 16 * sub, i % 32)], 0);
}

}  // namespace

std::vector<size_t> scale_offsets(ElementType type) {
  switch (type) {
    case ElementType::kMXFP4:
      return {};
    case ElementType::kQ4_1:
    case ElementType::kQ5_1:
    case ElementType::kQ4_K:
    case ElementType::kQ5_K:
      return {0, 2};
    case ElementType::kQ2_K:
      return {80, 82};
    case ElementType::kQ3_K:
      return {108};
    case ElementType::kQ6_K:
      return {208};
    default:
      return {0};
  }
}

bool is_scale_byte(ElementType type, size_t offset) {
  if (type == ElementType::kMXFP4) return offset == 0;
  for (const size_t at : scale_offsets(type)) {
    if (offset / 2 == at / 2) return true;
  }
  return false;
}

double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

std::vector<std::byte> random_tensor(ElementType type, int64_t rows, int64_t columns, uint64_t seed,
                                     Scales scales) {
  Random random(seed);
  std::vector<std::byte> bytes(static_cast<size_t>(rows) * row_bytes(type, columns));
  const auto put = [&](size_t offset, uint16_t value) { std::memcpy(&bytes[offset], &value, 2); };
  if (type == ElementType::kF32) {
    for (size_t i = 0; i < bytes.size(); i += 4) {
      const float value = random.symmetric() *
                          static_cast<float>(std::fabs(half_value(random_scale(random, scales))));
      std::memcpy(&bytes[i], &value, 4);
    }
    return bytes;
  }
  if (type == ElementType::kF16 || type == ElementType::kBF16) {
    for (size_t i = 0; i < bytes.size(); i += 2) {
      uint16_t value = random_scale(random, scales);
      if (type == ElementType::kBF16 && scales != Scales::kZero) {
        value =
            static_cast<uint16_t>((value & 0x83ff) | 0x3c00);  // near one, and a few far smaller
        if (scales == Scales::kSubnormal) value &= 0x807f;
      }
      put(i, value);
    }
    return bytes;
  }
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits());
  for (size_t block = 0; block < bytes.size(); block += element_traits(type).block_bytes) {
    for (const size_t offset : scale_offsets(type))
      put(block + offset, random_scale(random, scales));
    if (type == ElementType::kMXFP4) bytes[block] = random_exponent(random, scales);
  }
  return bytes;
}

Element element_at(ElementType type, const std::vector<std::byte>& bytes, int64_t columns,
                   int64_t row, int64_t column) {
  const ElementTraits& traits = element_traits(type);
  const auto* row_start = reinterpret_cast<const uint8_t*>(bytes.data()) +
                          static_cast<uint64_t>(row) * row_bytes(type, columns);
  const uint8_t* block = row_start + column / traits.block_elements * traits.block_bytes;
  const int i = static_cast<int>(column % traits.block_elements);
  switch (type) {
    case ElementType::kF32: {
      float value;
      std::memcpy(&value, block, 4);
      return affine(static_cast<double>(value), 0);
    }
    case ElementType::kF16:
      return affine(half_at(block), 0);
    case ElementType::kBF16: {
      const uint32_t bits = static_cast<uint32_t>(u16_at(block)) << 16;
      float value;
      std::memcpy(&value, &bits, 4);
      return affine(static_cast<double>(value), 0);
    }
    case ElementType::kQ8_0:
      return affine(half_at(block) * static_cast<int8_t>(block[2 + i]), 0);
    case ElementType::kQ4_0: {
      const int q = i < 16 ? block[2 + i] % 16 : block[2 + i - 16] / 16;
      return affine(half_at(block) * (q - 8), 0);
    }
    case ElementType::kQ4_1: {
      const int q = i < 16 ? block[4 + i] % 16 : block[4 + i - 16] / 16;
      return affine(half_at(block) * q, half_at(block + 2));
    }
    case ElementType::kQ5_0:
      return affine(half_at(block) * (nibble_of(block + 6, i) + 16 * bit_of(block + 2, i) - 16), 0);
    case ElementType::kQ5_1:
      return affine(half_at(block) * (nibble_of(block + 8, i) + 16 * bit_of(block + 4, i)),
                    half_at(block + 2));
    case ElementType::kIQ4_NL:
      return affine(half_at(block) * kIq4[nibble_of(block + 2, i)], 0);
    case ElementType::kMXFP4:
      return affine(std::ldexp(fp4(nibble_of(block + 1, i)), block[0] - 127), 0);
    case ElementType::kQ2_K:
      return q2_k(block, i);
    case ElementType::kQ3_K:
      return q3_k(block, i);
    case ElementType::kQ5_K:
      return q5_k(block, i);
    case ElementType::kIQ4_XS:
      return iq4_xs(block, i);
    case ElementType::kQ4_K:
      return q4_k(block, i);
    case ElementType::kQ6_K:
      return q6_k(block, i);
  }
  return {0, 0};
}

std::string digest_of(const void* bytes, size_t count) {
  return sha256({static_cast<const char*>(bytes), count}).substr(0, 16);
}

std::string kept_digest(const std::string& name) {
  std::ifstream file(SHOAL_SOURCE_DIR "/tests/unit/kernels/fixtures/bits.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key, digest;
    if (words >> key >> digest && key == name) return digest;
  }
  return "none is kept for " + name;
}

}  // namespace shoal::kernels_test
