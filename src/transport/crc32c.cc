#include "transport/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

namespace shoal {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // bits reversed
// The instruction takes three cycles and one can begin in each: three streams at once, each over so
// many bytes, joined by what so many zeros would have done to the earlier ones.
constexpr size_t kLaneBytes = 1024;

using Table = std::array<uint32_t, 256>;

constexpr std::array<Table, 8> make_tables() {
  std::array<Table, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    tables[0][i] = value;
  }
  for (size_t t = 1; t < tables.size(); ++t) {
    for (size_t i = 0; i < 256; ++i) {
      tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 255];
    }
  }
  return tables;
}
constexpr std::array<Table, 8> kTables = make_tables();

// Both work on the inverted value that the instruction works on.
uint32_t add_by_table(uint32_t crc, const std::byte* at, size_t count) {
  for (; count >= 8; at += 8, count -= 8) {
    uint32_t next = 0;
    for (size_t i = 0; i < 8; ++i) {
      const auto byte = std::to_integer<uint32_t>(at[i]);
      next ^= kTables[7 - i][(i < 4 ? (crc >> (8 * i)) ^ byte : byte) & 255];
    }
    crc = next;
  }
  for (; count > 0; ++at, --count) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ std::to_integer<uint32_t>(*at)) & 255];
  }
  return crc;
}

// What kLaneBytes zeros do to each byte of a value.
std::array<Table, 4> make_lane_shift() {
  // By doubling: bit by bit, what one zero byte does, then two, four, ... (a linear map).
  std::array<uint32_t, 32> map;
  for (size_t bit = 0; bit < 32; ++bit) {
    const uint32_t value = uint32_t{1} << bit;
    map[bit] = (value >> 8) ^ kTables[0][value & 255];
  }
  const auto apply = [](const std::array<uint32_t, 32>& by, uint32_t value) {
    uint32_t sum = 0;
    for (size_t bit = 0; bit < 32; ++bit) sum ^= (value >> bit & 1) != 0 ? by[bit] : 0;
    return sum;
  };
  for (size_t zeros = 1; zeros < kLaneBytes; zeros *= 2) {
    std::array<uint32_t, 32> twice;
    for (size_t bit = 0; bit < 32; ++bit) twice[bit] = apply(map, map[bit]);
    map = twice;
  }
  std::array<Table, 4> shift;
  for (size_t byte = 0; byte < 4; ++byte) {
    for (uint32_t i = 0; i < 256; ++i) shift[byte][i] = apply(map, i << (8 * byte));
  }
  return shift;
}
const std::array<Table, 4>& lane_shift() {
  static const std::array<Table, 4> shift = make_lane_shift();
  return shift;
}

[[maybe_unused]] uint32_t after_lane(const std::array<Table, 4>& shift, uint32_t crc) {
  return shift[0][crc & 255] ^ shift[1][crc >> 8 & 255] ^ shift[2][crc >> 16 & 255] ^
         shift[3][crc >> 24];
}

[[maybe_unused]] uint64_t word_at(const std::byte* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

#if defined(__x86_64__)
#define SHOAL_CRC_TARGET __attribute__((target("sse4.2")))
SHOAL_CRC_TARGET inline uint32_t add_word(uint32_t crc, uint64_t word) {
  return static_cast<uint32_t>(_mm_crc32_u64(crc, word));
}
bool machine_has_crc() {
  return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(__aarch64__) && defined(__linux__)
#define SHOAL_CRC_TARGET __attribute__((target("+crc")))
SHOAL_CRC_TARGET inline uint32_t add_word(uint32_t crc, uint64_t word) {
  return __crc32cd(crc, word);
}
bool machine_has_crc() {
  constexpr unsigned long kHasCrc32 = 1 << 7;  // HWCAP_CRC32
  return (::getauxval(AT_HWCAP) & kHasCrc32) != 0;
}
#endif

#if defined(SHOAL_CRC_TARGET)
SHOAL_CRC_TARGET uint32_t add_by_instruction(uint32_t crc, const std::byte* at, size_t count) {
  if (count >= 3 * kLaneBytes) {
    const auto& shift = lane_shift();
    for (; count >= 3 * kLaneBytes; at += 3 * kLaneBytes, count -= 3 * kLaneBytes) {
      uint32_t second = 0;
      uint32_t third = 0;
      for (size_t i = 0; i < kLaneBytes; i += 8) {
        crc = add_word(crc, word_at(at + i));
        second = add_word(second, word_at(at + kLaneBytes + i));
        third = add_word(third, word_at(at + 2 * kLaneBytes + i));
      }
      crc = after_lane(shift, after_lane(shift, crc) ^ second) ^ third;
    }
  }
  for (; count >= 8; at += 8, count -= 8) crc = add_word(crc, word_at(at));
  return add_by_table(crc, at, count);
}
constexpr auto* kFast = add_by_instruction;
#else
bool machine_has_crc() {
  return false;
}
constexpr auto* kFast = add_by_table;
#endif

}  // namespace

uint32_t crc32c(uint32_t so_far, std::span<const std::byte> bytes) {
  static const auto add = machine_has_crc() ? kFast : add_by_table;
  return ~add(~so_far, bytes.data(), bytes.size());
}

uint32_t crc32c_by_table(uint32_t so_far, std::span<const std::byte> bytes) {
  return ~add_by_table(~so_far, bytes.data(), bytes.size());
}

}  // namespace shoal
